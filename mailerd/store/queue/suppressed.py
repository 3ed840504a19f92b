"""Suppressions in the queue: a claim marks the letters that have one, and no hand-over is written for these.

The look of the claim spares Google the letter. The condition of the hand-over is the promise: it stands in the very
statement after whose COMMIT Google is asked to send.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from mailerd.core.models import ClaimedRecipient, Handover
from mailerd.core.suppression import EVERYTHING, Reason
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database

NOT_SUPPRESSED: Final = f"""
NOT EXISTS (SELECT 1 FROM suppressions s FORCE INDEX (PRIMARY)
             WHERE s.digest = v.digest AND s.list_id IN ({EVERYTHING}, v.list_id)
               AND (v.overrides = 0 OR s.reason = '{Reason.HARD_BOUNCE.value}'))"""
"""No recipient has opted out of what the hand-over `v` is about; a digest of NULL belongs to no recipient."""
BINDING: Final = (
    "SELECT digest, list_id, reason FROM suppressions FORCE INDEX (PRIMARY) WHERE digest IN %s AND list_id IN %s"
)


async def mark(cursor: Cursor, letters: Sequence[ClaimedRecipient]) -> list[ClaimedRecipient]:
    """The claimed letters, each with why it may not go, where it may not."""
    digests = tuple({it.digest for it in letters if it.digest is not None})
    if not digests:
        return list(letters)
    await cursor.execute(BINDING, (digests, tuple({EVERYTHING, *(it.list_id for it in letters)})))
    found = {(bytes(digest), list_id): Reason(reason) for digest, list_id, reason in await cursor.fetchall()}
    return [replace(it, suppressed=reason) if (reason := _reason(it, found)) else it for it in letters]


def _reason(it: ClaimedRecipient, found: dict[tuple[bytes, int], Reason]) -> Reason | None:
    reasons = {found.get((it.digest or b"", list_id)) for list_id in (EVERYTHING, it.list_id)} - {None}
    if Reason.HARD_BOUNCE in reasons:
        return Reason.HARD_BOUNCE
    return None if it.overrides or not reasons else min(reasons, key=str)


async def suppressed_now(cursor: Cursor, record: Handover) -> bool:
    """Whether a hand-over was not taken for this reason."""
    if record.discarding:
        return False
    (letter,) = await mark(cursor, [record.letter])
    return letter.suppressed is not None


async def suppressed(database: Database, letter: ClaimedRecipient) -> Reason | None:
    """Why the letter may not go any more; None: it may."""

    async def work(cursor: Cursor) -> Reason | None:
        (now,) = await mark(cursor, [letter])
        return now.suppressed

    return await database.read(work, what="look for a suppression", bound=database.probe_timeout)
