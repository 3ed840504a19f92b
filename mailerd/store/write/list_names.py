"""How a mailing list may be called."""

import re
from typing import Final

from mailerd.core.i18n import t
from mailerd.errors import MailerdError

MAX_LIST_NAME: Final = 100
LIST_NAME: Final = re.compile(r"[a-z0-9](?:(?:\.?[a-z0-9_-])*\.?[a-z0-9])?")
MAX_LIST_TITLE: Final = 255
"""The most characters of a title, as in the schema."""


class ListNameError(MailerdError, ValueError):
    """A list cannot have this name or title, or there is none of this name."""


def check_list(name: str) -> str:
    """The name, where a list can be called so: it stands in headers, URLs and commands.

    Raises:
        ListNameError: the name cannot be used.
    """
    if len(name) > MAX_LIST_NAME or not LIST_NAME.fullmatch(name):
        raise ListNameError(
            t(
                "the name of a list has 1 to {max_list_name} characters: a-z, digits, '-', '_' or '.', such as"
                " autumn-news",
                max_list_name=MAX_LIST_NAME,
            )
        )
    return name


def check_list_title(title: str) -> str:
    """The title, where a list can have it: it stands in headers.

    Raises:
        ListNameError: the title cannot be used.
    """
    if not title.strip() or len(title) > MAX_LIST_TITLE or not title.isprintable():
        raise ListNameError(
            t(
                "the title of a list has 1 to {max_list_title} printable characters",
                max_list_title=MAX_LIST_TITLE,
            )
        )
    return title
