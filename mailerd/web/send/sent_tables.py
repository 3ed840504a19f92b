"""What is remembered of the tables that a key has sent: what their columns were used as, and to
whom they went.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Final

from mailerd.core.states import JobStatus
from mailerd.errors import DatabaseError
from mailerd.mail.table_checker import CheckedDraft
from mailerd.store.read import describe
from mailerd.store.write.drafts import Draft
from mailerd.store.write.job_changes import keep_markdown
from mailerd.web.frame.services import TIMEOUT, ConsoleRequest

MAX_USES: Final = 2_000
"""Characters of what the columns of one table are used as."""


async def last_uses(it: ConsoleRequest, names: Sequence[str]) -> dict[str, str]:
    """What each column was used as when the key last sent a table with the same header, as a
    mapping has it.
    """
    if not names:
        return {}
    known, wanted = await it.services.keys.sent_tables(it.key.id), _digest(filter(None, names))
    uses: dict[str, str] = next((each["uses"] for each in known if each["headers"] == wanted), {})
    return {str(index): uses[name] for index, name in enumerate(names) if name in uses}


async def sent_before(it: ConsoleRequest, people: CheckedDraft) -> dict[str, str] | None:
    """The last "job" that the key has sent to exactly these people, unless it was cancelled, and
    its "time".
    """
    for each in await it.services.keys.sent_tables(it.key.id):
        if people.whom and each["people"] == people.whom:
            job = await it.services.jobs.seen_by(it.key, each["job"])
            if job and job.status is not JobStatus.CANCELLED:
                return {"job": job.id, "time": describe.moment(job.created_at)}
    return None


async def remember(it: ConsoleRequest, draft: Draft, people: CheckedDraft, job: str) -> None:
    """Note what was sent; where that fails the job is stored all the same."""
    uses = {each.header: people.uses.get(each.index, "") for each in people.columns if each.header}
    table = {
        "headers": _digest(uses),
        "uses": uses if len(json.dumps(uses)) <= MAX_USES else {},
        "people": people.whom,
        "job": job,
    }
    with suppress(DatabaseError):
        await it.services.keys.note_table(it.key.id, table)
        if draft.message.get("kind") == "write":
            await keep_markdown(it.services.database, job, draft.message["body"], bound=TIMEOUT)


def _digest(texts: Iterable[str]) -> str:
    return sha256(json.dumps(sorted({*texts})).encode()).hexdigest()[:32]
