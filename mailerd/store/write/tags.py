"""The tags of jobs: what an application groups its jobs by, and finds them by.

Nothing heavy is imported here: the process that reads jobs needs it, too.
"""

import re
from typing import Final

from mailerd.core.i18n import t

MAX_TAGS: Final = 10
"""Tags of one job."""
TAG: Final = re.compile(r"[A-Za-z0-9_-]{1,50}")
SELECT_TAGS: Final = """
(SELECT GROUP_CONCAT(t.tag ORDER BY t.tag) FROM job_tags t FORCE INDEX (job) WHERE t.job_id = j.id)"""
"""The tags of a job `j`: in none of them is a comma, and together they are shorter than
`group_concat_max_len`.
"""


def check_tag(given: str) -> str:
    """A tag.

    Raises:
        ValueError: it is none.
    """
    if not TAG.fullmatch(given):
        raise ValueError(t("must have 1 to 50 of the characters A-Z, a-z, 0-9, _ and -"))
    return given


def read_tags(column: str | None) -> tuple[str, ...]:
    """What `SELECT_TAGS` has found."""
    return tuple(column.split(",")) if column else ()
