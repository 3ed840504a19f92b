"""What the rescue reads and writes: lapsed leases, doubts that are due for a look, jobs that nobody finished."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from typing import Any, Final

from mailerd.clock import new_id
from mailerd.core.claims import Doubt, Lapsed, Written
from mailerd.core.states import Change, Proof, State, after
from mailerd.store.cursor import Cursor
from mailerd.store.database import Database
from mailerd.store.proofs import Tries, applied
from mailerd.store.records import UNFINISHED, short
from mailerd.store.undoing import Undone, undo
from mailerd.store.waking import forgotten, micros, wake

_ANY_DUE: Final = """
SELECT 1 FROM job_recipients FORCE INDEX (lease) WHERE lease_until < UTC_TIMESTAMP(6) LIMIT 1"""
_DUE: Final = """
SELECT id FROM job_recipients FORCE INDEX (lease)
 WHERE lease_until < UTC_TIMESTAMP(6) AND status = %s ORDER BY lease_until, id LIMIT %s FOR UPDATE SKIP LOCKED"""

_READ: Final = """
SELECT r.id, r.job_id, r.seq, j.sender_email, r.to_email, r.attempts, r.daemon_id, r.looks, r.mode, r.draft_id,
       r.thread_id, r.claim_token, j.created_at, r.unanswered, r.discarding
  FROM job_recipients r FORCE INDEX (PRIMARY) JOIN jobs j ON j.id = r.job_id WHERE r.id IN %s ORDER BY r.id"""

# `lease_until < now` once more: between the look and the write the owner may have renewed. Whether it had sent is not
# known, unless it was deleting the draft by then, which it does only where Google has refused the letter.
_LAPSE: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET status = %s, claim_token = NULL, looks = 0, unanswered = IF(%s = 'unsure' AND discarding = 0, 1, unanswered),
       lease_until = IF(%s = 'unsure', UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND, NULL),
       error = %s, due_at = UTC_TIMESTAMP(6), updated_at = UTC_TIMESTAMP(6)
 WHERE id = %s AND claim_token = %s AND status = 'sending' AND lease_until < UTC_TIMESTAMP(6)"""

_TAKE: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET claim_token = %s, daemon_id = %s, lease_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND
 WHERE id IN %s AND status = 'unsure' AND lease_until < UTC_TIMESTAMP(6)"""

_SETTLE: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET status = %s, claim_token = NULL, looks = %s, error = %s, message_id = COALESCE(%s, message_id), proof = %s,
       lease_until = IF(%s IS NULL, NULL, UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND),
       sent_at = IF(%s = 'sent', UTC_TIMESTAMP(6), NULL),
       mode = IF(%s = 'waiting' AND (draft_id IS NULL OR %s), NULL, mode), draft_id = IF(%s, NULL, draft_id),
       thread_id = IF(%s, NULL, thread_id), unanswered = IF(%s, 0, unanswered),
       discarding = IF(%s = 'unsure', discarding, 0),
       due_at = UTC_TIMESTAMP(6), updated_at = IF(%s = 'unsure', updated_at, UTC_TIMESTAMP(6))
 WHERE id = %s AND claim_token = %s AND status = 'unsure'"""
# A look that settles nothing is not in the log of attempts. Where another daemon has looked since and found the same,
# the two cannot be told apart: then both tell it, which is better than neither.
_STILL_UNSURE: Final = """
SELECT 1 FROM job_recipients WHERE id = %s AND status = 'unsure' AND looks = %s AND error <=> %s"""
_DONE: Final = """
SELECT (SELECT COUNT(*) FROM job_recipients r WHERE r.job_id = j.id AND r.status IN ('sent', 'failed', 'cancelled')),
       j.total FROM jobs j WHERE j.id = %s"""

# LIMIT 1 keeps MariaDB from reading every recipient that there is, which it does for a NOT EXISTS.
UNFINISHED_JOBS: Final = f"""
SELECT j.id FROM jobs j WHERE {UNFINISHED}
   AND (SELECT 1 FROM job_recipients r WHERE r.job_id = j.id AND r.status IN ('waiting', 'sending', 'unsure')
         LIMIT 1) IS NULL LIMIT %s"""

_KNOWN: Final = """
SELECT recipient_id, message_id FROM attempts WHERE recipient_id IN %s AND event = 'sent' AND message_id IS NOT NULL"""

_LOG: Final = """
INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, applied, draft_id, message_id, error, at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, UTC_TIMESTAMP(6))
    ON DUPLICATE KEY UPDATE recipient_id = VALUES(recipient_id)"""

_LAPSED: Final = "lapsed"

_RENEW: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY) SET lease_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND
 WHERE id IN %s AND (id, claim_token) IN %s AND status = 'sending'"""
_HELD: Final = """
SELECT id, claim_token FROM job_recipients FORCE INDEX (PRIMARY)
 WHERE id IN %s AND (id, claim_token) IN %s AND status = 'sending'"""


@dataclass(frozen=True)
class Settled:
    """What a look found: a change, or None for still unsure."""

    doubt: Doubt
    change: Change | None
    error: str | None = None
    message_id: str | None = None
    proof: Proof | None = None
    """Of what was found."""
    forgets: bool = False
    """Google has neither the draft nor the letter: another try makes a new draft."""
    look_again: timedelta | None = None
    """None with no change: nobody looks again by itself."""


@dataclass(frozen=True)
class Rescues:
    """Rescues for one daemon."""

    database: Database
    daemon_id: str
    in_flight: timedelta
    look_lease: timedelta
    max_attempts: int

    async def due(
        self, *, lapsed: int = 100, doubts: int = 5, tried: Callable[[], None] | None = None
    ) -> tuple[list[Lapsed], list[Doubt]]:
        """Rows whose lease lapsed, already put right, and doubts taken for a look; at most so many of each.

        What is in doubt is repeated, and `tried` called after each try: all that was put right is told. A doubt that
        such a try took is taken again when the lease of its look lapses.

        Raises:
            DatabaseError: nothing was done.
        """

        async def any_due(cursor: Cursor) -> bool:
            await cursor.execute(_ANY_DUE)
            return bool(await cursor.fetchall())

        if not await self.database.look(any_due, what="look for lapsed leases", bound=self.database.patience):
            return [], []
        token, tries = new_id(), Tries(self._lapsed_so)

        async def work(cursor: Cursor, _: bool) -> tuple[list[Lapsed], list[Doubt]]:  # noqa: FBT001 - as it is called
            right = await tries.done(cursor, lambda cursor: self.put_right(cursor, lapsed))
            return right, await self._doubts(cursor, token, doubts)

        return await self.database.ascertain(work, what="rescue", tried=tried)

    async def _lapsed_so(self, cursor: Cursor, it: Lapsed) -> bool:
        return await applied(cursor, it.id, token=it.token, event=_LAPSED, by=self.daemon_id)

    async def put_right(self, cursor: Cursor, limit: int) -> list[Lapsed]:
        """Make of rows whose lease lapsed what they are now, at most so many; what became of each."""
        found = [one for row in await _due(cursor, State.SENDING, limit) if (one := await self._lapse(cursor, row))]
        again = [one for one in found if one.status is State.WAITING]
        jobs, senders = {one.job_id: 0 for one in again}, {one.sender: 0 for one in again}
        cancelled = await wake(cursor, jobs=jobs, senders=senders, back=[one.id for one in again])
        return [
            replace(one, status=State.CANCELLED) if one.status is State.WAITING and one.job_id in cancelled else one
            for one in found
        ]

    async def _lapse(self, cursor: Cursor, row: Sequence[Any]) -> Lapsed | None:
        id_, job, _, sender, to, attempts, daemon, _, mode, draft, _, token, *_ = row
        handed = draft is not None or mode == "direct"
        given_up = not handed and attempts >= self.max_attempts
        change = Change.LOST if handed else Change.FAILED if given_up else Change.DEFERRED
        status = after(State.SENDING, change)
        error = f"the lease of daemon {daemon} ran out at attempt {attempts}: it died, was paused or lost the database"
        await cursor.execute(_LAPSE, (*[status.value] * 3, micros(self.in_flight), error, id_, token))
        if cursor.rowcount != 1:
            return None
        await cursor.execute(
            _LOG, (id_, attempts, token, self.daemon_id, _LAPSED, 1, draft, None, f"{change.value}: {error}")
        )
        done = total = 0
        if status is State.FAILED:
            await cursor.execute(_DONE, (job,))
            done, total = await cursor.fetchone()
        return Lapsed(
            id=id_, job_id=job, sender=sender, to_email=to, attempt=attempts, token=token, daemon_id=daemon,
            status=status, error=error, look_in=self.in_flight, done=done, total=total,
        )  # fmt: skip

    async def _doubts(self, cursor: Cursor, token: str, limit: int) -> list[Doubt]:
        rows = await _due(cursor, State.UNSURE, limit)
        if not rows:
            return []
        ids = tuple(row[0] for row in rows)
        await cursor.execute(_TAKE, (token, self.daemon_id, micros(self.look_lease), ids))
        await cursor.execute(_KNOWN, (ids,))
        known = dict(await cursor.fetchall())
        await cursor.execute(_READ, (ids,))
        held_rows = [row for row in await cursor.fetchall() if row[11] == token]
        return [
            Doubt(
                id=id_, job_id=job, seq=seq, sender=sender, to_email=to, token=token, attempt=attempts, looks=looks,
                mode=mode, draft_id=draft, thread_id=thread, unanswered=bool(unanswered), discarding=bool(discarding),
                known_message_id=known.get(id_), since=since.replace(tzinfo=UTC),
            )
            for id_, job, seq, sender, to, attempts, _, looks, mode, draft, thread, _, since, unanswered, discarding
            in held_rows
        ]  # fmt: skip

    async def settle(self, settled: Settled, *, tried: Callable[[], None] | None = None) -> Written:
        """Write what a look found, fenced; what became of it: never `settled`.

        What is in doubt is repeated, and `tried` called after each try.

        Raises:
            DatabaseError: not written; the row is looked at again when the look's lease lapses.
        """
        return await self.database.ascertain(
            lambda cursor, doubted: self._settle(cursor, settled, repeated=doubted), what="settle", tried=tried
        )

    async def _settle(self, cursor: Cursor, it: Settled, *, repeated: bool) -> Written:
        doubt = it.doubt
        status = after(State.UNSURE, it.change).value if it.change else State.UNSURE.value
        wait = micros(it.look_again) if it.look_again is not None else None
        looks, error = doubt.looks + 1, short(it.error)
        await cursor.execute(
            _SETTLE,
            (
                status, looks, error, it.message_id, it.proof and it.proof.value, wait, wait or 0, status, status,
                *[int(it.forgets)] * 4, status, status, doubt.id, doubt.token,
            ),
        )  # fmt: skip
        took = bool(cursor.rowcount == 1)
        if it.change:
            await cursor.execute(
                _LOG,
                (
                    doubt.id, doubt.attempt, doubt.token, self.daemon_id, it.change.value, int(took),
                    doubt.draft_id, it.message_id, error,
                ),
            )  # fmt: skip
        if not took and not (repeated and await self._settled_so(cursor, it)):
            return Written.FENCED_OFF
        if it.change is not Change.MISSING:
            return Written.TAKEN
        cancelled = await wake(cursor, jobs={doubt.job_id: 0}, senders={doubt.sender: 0}, back=[doubt.id])
        return Written.CANCELLED if cancelled else Written.TAKEN

    async def _settled_so(self, cursor: Cursor, it: Settled) -> bool:
        doubt = it.doubt
        if it.change:
            return await applied(cursor, doubt.id, token=doubt.token, event=it.change.value, by=self.daemon_id)
        await cursor.execute(_STILL_UNSURE, (doubt.id, doubt.looks + 1, short(it.error)))
        return bool(await cursor.fetchall())

    async def renew(self, held: Iterable[tuple[int, str]], *, lease: timedelta) -> set[tuple[int, str]]:
        """Prolong the leases of (id, token) pairs by the database's clock; the pairs that are still held.

        Raises:
            DatabaseError: nothing was prolonged, or in doubt: count on the old end.
        """
        pairs = tuple(held)
        ids = tuple({id_ for id_, _ in pairs})  # for the range; the pairs are the fence

        async def work(cursor: Cursor) -> set[tuple[int, str]]:
            await cursor.execute(_RENEW, (micros(lease), ids, pairs))
            if cursor.rowcount == len(pairs):
                return set(pairs)
            await cursor.execute(_HELD, (ids, pairs))
            return {(id_, token) for id_, token in await cursor.fetchall()}

        return await self.database.transaction(work, what="renew leases")

    async def drafting_senders(self) -> list[str]:
        """Senders whose mailbox may hold drafts of ours that nobody needs: those with a job of the last two days.

        Raises:
            DatabaseError: it cannot be told.
        """

        async def work(cursor: Cursor) -> list[str]:
            await cursor.execute(
                "SELECT DISTINCT sender_email FROM jobs "
                "WHERE finished_at IS NULL OR finished_at > UTC_TIMESTAMP(6) - INTERVAL 2 DAY"
            )
            return [row[0] for row in await cursor.fetchall()]

        return await self.database.transaction(work, what="find senders with drafts", read_only=True)

    async def own_drafts(self, drafts: Sequence[str], *, sender: str) -> set[str]:
        """Those of `drafts` that open rows of this sender know as theirs.

        Raises:
            DatabaseError: it cannot be told.
        """

        async def work(cursor: Cursor) -> set[str]:
            await cursor.execute(
                "SELECT r.draft_id FROM jobs j JOIN job_recipients r FORCE INDEX (claim) ON r.job_id = j.id "
                "AND r.status IN ('waiting', 'sending', 'unsure') "
                "WHERE j.sender_email = %s AND j.status IN ('queued', 'sending', 'paused') AND r.draft_id IN %s",
                (sender, tuple(drafts)),
            )
            return {row[0] for row in await cursor.fetchall()}

        return await self.database.transaction(work, what="find own drafts", read_only=True)

    async def is_orphan(self, *, job: str, seq: int, draft: str) -> bool | None:
        """Whether nobody will ever need `draft` of this letter; None: the letter is not of this database.

        While the row is `sending`, its worker may be about to record the draft. Once it is anything else, whoever made
        a draft that is not on the row has lost the token that it would need to record it.

        Raises:
            DatabaseError: it cannot be told.
        """

        async def work(cursor: Cursor) -> bool | None:
            await cursor.execute(
                "SELECT status, draft_id FROM job_recipients WHERE job_id = %s AND seq = %s", (job, seq)
            )
            if (row := await cursor.fetchone()) is None:
                return None
            status, known = row
            if status in {State.FAILED.value, State.CANCELLED.value}:
                return True
            return bool(status != State.SENDING.value and known != draft)

        return await self.database.transaction(work, what="look up a draft", read_only=True)

    async def undo(self, *, job: str, seq: int, draft: str) -> Undone | None:
        """Take back that a letter is sent if `draft`, which is there, disproves it; None: it does not.

        Raises:
            DatabaseError: nothing was changed.
        """
        return await undo(self.database, job=job, seq=seq, draft=draft, by=self.daemon_id)

    async def unfinished(self, limit: int = 200) -> list[str]:
        """Jobs in which nothing is open and which nobody completed: their daemon died between the two commits.

        Raises:
            DatabaseError: it cannot be told.
        """

        async def work(cursor: Cursor) -> list[str]:
            await cursor.execute(UNFINISHED_JOBS, (limit,))
            return [row[0] for row in await cursor.fetchall()]

        return await self.database.transaction(work, what="find unfinished jobs", read_only=True)

    async def wake_forgotten(self, *, tried: Callable[[], None] | None = None) -> list[str]:
        """Wake the jobs of which something waits and that no claim would ever find; which those were.

        What is in doubt is repeated, and `tried` called after each try. All that were found are told, by whichever try:
        another daemon may have woken one meanwhile, and tells it too.

        Raises:
            DatabaseError: nothing was done.
        """
        woken: set[str] = set()

        async def work(cursor: Cursor, _: bool) -> list[str]:  # noqa: FBT001 - as it is called
            found = await forgotten(cursor)
            await wake(cursor, jobs=dict.fromkeys(found, 0), senders=dict.fromkeys(found.values(), 0))
            woken.update(found)
            return sorted(woken)

        if not await self.database.look(forgotten, what="look for forgotten jobs"):
            return []
        return await self.database.ascertain(work, what="wake forgotten jobs", tried=tried)


async def _due(cursor: Cursor, state: State, limit: int) -> Sequence[Sequence[Any]]:
    """Rows of that state whose lease is over, the first to lapse first, locked."""
    await cursor.execute(_DUE, (state.value, limit))
    if not (ids := tuple(row[0] for row in await cursor.fetchall())):
        return ()
    await cursor.execute(_READ, (ids,))
    return tuple(await cursor.fetchall())
