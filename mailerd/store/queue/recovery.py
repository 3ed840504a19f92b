"""Queries for the recovery: unresolved sends that are due for a check, leases, orphan drafts, unfinished jobs."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mailerd.clock import new_id
from mailerd.core.models import UnresolvedSend, WriteResult
from mailerd.core.states import Proof, State, Transition, after
from mailerd.store.db.cursor import Cursor
from mailerd.store.db.database import Database
from mailerd.store.db.times import micros, utc
from mailerd.store.queue.attempt_log import AttemptRow, log_attempt, was_applied
from mailerd.store.queue.change_events import write_stuck
from mailerd.store.queue.complete_jobs import UNFINISHED
from mailerd.store.queue.failover import ReplayLog
from mailerd.store.queue.reschedule import MAX_FOUND, reschedule, short, stuck_jobs
from mailerd.store.queue.undo_sent import UndoneSend, undo
from mailerd.store.tallies import count_changes

# Of one sender's unresolved sends only the first few are of use: it is left out while it has its share of checks.
_DUE_CHECKS: Final = """
SELECT r.id, j.sender_email FROM job_recipients r FORCE INDEX (lease) STRAIGHT_JOIN jobs j ON j.id = r.job_id
 WHERE r.lease_until < UTC_TIMESTAMP(6) AND r.status = 'unsure' AND j.sender_email NOT IN %s
 ORDER BY r.lease_until, r.id LIMIT %s"""
_LOCK_CHECKS: Final = """
SELECT id FROM job_recipients FORCE INDEX (PRIMARY)
 WHERE id IN %s AND lease_until < UTC_TIMESTAMP(6) AND status = 'unsure' ORDER BY id FOR UPDATE SKIP LOCKED"""
_MAX_CANDIDATES: Final = 50
"""Unresolved sends that are read to find some of different senders."""

_READ_UNRESOLVED: Final = """
SELECT r.id, r.job_id, r.seq, j.sender_email, r.to_email, r.attempts, r.checks, r.mode, r.draft_id, r.thread_id,
       COALESCE(r.handed_over_at, j.created_at), r.unanswered, r.discarding,
       TIMESTAMPDIFF(MICROSECOND, r.nothing_found_at, UTC_TIMESTAMP(6))
  FROM job_recipients r FORCE INDEX (PRIMARY) JOIN jobs j ON j.id = r.job_id
 WHERE r.id IN %s AND r.claim_token = %s ORDER BY r.id"""

_TAKE_FOR_CHECK: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET claim_token = %s, daemon_id = %s, lease_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND
 WHERE id IN %s AND status = 'unsure' AND lease_until < UTC_TIMESTAMP(6)"""

_WRITE_RESULT: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET status = %s, claim_token = NULL, checks = %s, message_id = COALESCE(%s, message_id), proof = %s,
       error = IF(%s = 'waiting', (SELECT a.error FROM attempts a WHERE a.recipient_id = job_recipients.id
                                      AND a.event = 'lost' ORDER BY a.id DESC LIMIT 1), %s),
       lease_until = IF(%s IS NULL, NULL, UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND),
       sent_at = IF(%s = 'sent', UTC_TIMESTAMP(6), NULL),
       mode = IF(%s = 'waiting' AND (draft_id IS NULL OR %s), NULL, mode), draft_id = IF(%s, NULL, draft_id),
       thread_id = IF(%s, NULL, COALESCE(%s, thread_id)), unanswered = IF(%s, 0, unanswered),
       discarding = IF(%s = 'unsure', discarding, 0),
       nothing_found_at = IF(%s != 'unsure', NULL,
                            IF(%s, COALESCE(nothing_found_at, UTC_TIMESTAMP(6)), nothing_found_at)),
       due_at = UTC_TIMESTAMP(6), updated_at = IF(%s = 'unsure', updated_at, UTC_TIMESTAMP(6))
 WHERE id = %s AND claim_token = %s AND status = 'unsure'"""
# A check without a result is not in the log of attempts. If another daemon has checked since and found the same, the
# two cannot be distinguished: then both report it, which is better than neither.
_IS_STILL_UNSURE: Final = """
SELECT 1 FROM job_recipients WHERE id = %s AND status = 'unsure' AND checks = %s AND error <=> %s"""
# LIMIT 1 keeps MariaDB from reading every recipient that there is, which it does for a NOT EXISTS.
UNFINISHED_JOBS: Final = f"""
SELECT j.id FROM jobs j FORCE INDEX (finished) WHERE {UNFINISHED}
   AND (SELECT 1 FROM job_recipients r WHERE r.job_id = j.id AND r.status IN ('waiting', 'sending', 'unsure')
         LIMIT 1) IS NULL LIMIT %s"""

SENDERS_WITH_DRAFTS: Final = """
SELECT sender_email FROM jobs FORCE INDEX (finished) WHERE finished_at IS NULL
 UNION
SELECT sender_email FROM jobs FORCE INDEX (finished) WHERE finished_at > UTC_TIMESTAMP(6) - INTERVAL 2 DAY"""

_READ_KNOWN_ANSWERS: Final = """
SELECT id, message_id FROM job_recipients WHERE id IN %s AND message_id IS NOT NULL UNION
SELECT recipient_id, message_id FROM attempts WHERE recipient_id IN %s AND event = 'sent' AND message_id IS NOT NULL"""

_READ_CAME_BACK: Final = """
SELECT recipient_id, message_id FROM attempts
 WHERE recipient_id IN %s AND event IN ('undone', 'retried') AND message_id IS NOT NULL"""

_RENEW_LEASES: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY) SET lease_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND
 WHERE id IN %s AND (id, claim_token) IN %s AND status = 'sending'"""
_READ_HELD: Final = """
SELECT id, claim_token FROM job_recipients FORCE INDEX (PRIMARY)
 WHERE id IN %s AND (id, claim_token) IN %s AND status = 'sending'"""


# A cancelled job has not ended either while a letter of it is unsure.
_OWN_DRAFTS: Final = f"""
SELECT r.draft_id FROM jobs j FORCE INDEX (finished)
  JOIN job_recipients r FORCE INDEX (claim) ON r.job_id = j.id AND r.status IN ('waiting', 'sending', 'unsure')
 WHERE j.sender_email = %s AND {UNFINISHED} AND r.draft_id IN %s"""
_SELECT_WAITING_FOR_PERSON: Final = f"""
SELECT r.id FROM jobs j FORCE INDEX (finished)
  JOIN job_recipients r FORCE INDEX (claim) ON r.job_id = j.id AND r.status = 'unsure'
 WHERE j.sender_email = %s AND {UNFINISHED} AND r.lease_until IS NULL AND r.draft_id IN %s"""
_CHECK_NOW: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY) SET lease_until = UTC_TIMESTAMP(6)
 WHERE id IN %s AND status = 'unsure' AND lease_until IS NULL"""


@dataclass(frozen=True)
class Resolution:
    """The result of a check: a transition, or None if the letter is still unsure."""

    letter: UnresolvedSend
    transition: Transition | None
    error: str | None = None
    message_id: str | None = None
    thread_id: str | None = None
    proof: Proof | None = None
    """What proves that it was sent."""
    forgets: bool = False
    """Whether Google has neither the draft nor the letter: another try makes a new draft."""
    nothing_found: bool = False
    """Whether the sent mail was read, and the letter is not there."""
    retry_in: timedelta | None = None
    """The time until the next check. None, without a transition: no check follows, a person has to resolve it."""


@dataclass(frozen=True)
class RecoveryQueries:
    """What the recovery of one daemon asks of the database."""

    database: Database
    daemon_id: str
    check_lease: timedelta
    replay_log: ReplayLog
    """The sends of a daemon, which a database that has taken over may have lost."""

    async def take_unresolved(
        self, *, limit: int = 5, per_sender: int = 5, under_way: Mapping[str, int] | None = None
    ) -> list[UnresolvedSend]:
        """Take unresolved sends for a check: at most `limit`, of each sender `per_sender` less its checks `under_way`.

        Raises:
            DatabaseError: nothing was taken, or in doubt: what was is taken again when the lease of its check expires.
        """
        under_way = under_way or {}
        busy = "", *(sender for sender, checks in under_way.items() if checks >= per_sender)
        found = await self.database.read_rows(
            _DUE_CHECKS, (busy, _MAX_CANDIDATES), what="look for doubts", bound=self.database.probe_timeout
        )
        room = defaultdict(lambda: per_sender, {sender: per_sender - checks for sender, checks in under_way.items()})
        ids: list[int] = []
        for id_, sender in found:
            if room[sender] > 0 and len(ids) < limit:
                room[sender] -= 1
                ids.append(id_)
        if not ids:
            return []
        token = new_id()
        return await self.database.transaction(
            lambda cursor: self._take_unresolved(cursor, token, tuple(ids)), what="take doubts for a look"
        )

    async def _take_unresolved(self, cursor: Cursor, token: str, ids: tuple[int, ...]) -> list[UnresolvedSend]:
        await cursor.execute(_LOCK_CHECKS, (ids,))
        if not (ids := tuple(row[0] for row in await cursor.fetchall())):
            return []
        await cursor.execute(_TAKE_FOR_CHECK, (token, self.daemon_id, micros(self.check_lease), ids))
        await cursor.execute(_READ_KNOWN_ANSWERS, (ids, ids))
        known = dict(await cursor.fetchall())
        await cursor.execute(_READ_CAME_BACK, (ids,))
        came_back = defaultdict[int, set[str]](set)
        for id_, message in await cursor.fetchall():
            came_back[id_].add(message)
        await cursor.execute(_READ_UNRESOLVED, (ids, token))
        return [
            UnresolvedSend(
                id=id_, job_id=job, seq=seq, sender=sender, to_email=to, token=token, attempt=attempts, checks=checks,
                mode=mode, draft_id=draft, thread_id=thread, unanswered=bool(unanswered), discarding=bool(discarding),
                nothing_found_for=None if nothing is None else timedelta(microseconds=nothing),
                known_message_id=known.get(id_), since=utc(since), came_back=frozenset(came_back[id_]),
            )
            for (
                id_, job, seq, sender, to, attempts, checks, mode, draft, thread, since, unanswered, discarding,
                nothing,
            ) in await cursor.fetchall()
        ]  # fmt: skip

    async def resolve(self, settled: Resolution, *, on_retry: Callable[[], None] | None = None) -> WriteResult:
        """Write the result of a check, fenced; what became of it: never `resolved`.

        What is in doubt is repeated, and `on_retry` called after each try.

        Raises:
            DatabaseError: not written; the row is checked again when the lease of the check expires.
        """
        return await self.database.retry_until_committed(
            lambda cursor, doubted: self._resolve(cursor, settled, repeated=doubted), what="settle",
            on_retry=on_retry, only_in_doubt=True,
        )  # fmt: skip

    async def _resolve(self, cursor: Cursor, it: Resolution, *, repeated: bool) -> WriteResult:
        letter = it.letter
        status = after(State.UNSURE, it.transition).value if it.transition else State.UNSURE.value
        wait = micros(it.retry_in) if it.retry_in is not None else None
        checks, error = letter.checks + 1, short(it.error)
        await cursor.execute(
            _WRITE_RESULT,
            (
                status, checks, it.message_id, it.proof and it.proof.value, status, error, wait, wait or 0,
                status, status, *[int(it.forgets)] * 3, it.thread_id, int(it.forgets), status, status,
                int(it.nothing_found), status, letter.id, letter.token,
            ),
        )  # fmt: skip
        took = bool(cursor.rowcount == 1)
        if it.transition:
            await log_attempt(cursor, AttemptRow(
                letter.id, letter.attempt, letter.token, self.daemon_id, it.transition.value, took, letter.draft_id,
                it.message_id, error,
            ))  # fmt: skip
        if took and it.transition and (statement := count_changes(self.daemon_id, [(letter.sender, it.transition)])):
            await cursor.execute(*statement)
        if not took and not (repeated and await self._was_resolved(cursor, it)):
            return WriteResult.STALE
        if it.transition is not Transition.MISSING:
            return WriteResult.APPLIED
        cancelled = await reschedule(cursor, jobs={letter.job_id: 0}, senders={letter.sender: 0}, back=[letter.id])
        return WriteResult.CANCELLED if cancelled else WriteResult.APPLIED

    async def _was_resolved(self, cursor: Cursor, it: Resolution) -> bool:
        letter = it.letter
        if it.transition:
            return await was_applied(
                cursor, letter.id, token=letter.token, event=it.transition.value, by=self.daemon_id
            )
        await cursor.execute(_IS_STILL_UNSURE, (letter.id, letter.checks + 1, short(it.error)))
        return bool(await cursor.fetchall())

    async def renew(self, held: Iterable[tuple[int, str]], *, lease: timedelta) -> set[tuple[int, str]]:
        """Prolong the leases of (id, token) pairs by the database's clock; the pairs that are still held.

        Raises:
            DatabaseError: nothing was prolonged, or in doubt: count on the old end.
        """
        pairs = tuple(held)
        ids = tuple({id_ for id_, _ in pairs})  # for the range; the pairs are the fence

        async def work(cursor: Cursor) -> set[tuple[int, str]]:
            await cursor.execute(_RENEW_LEASES, (micros(lease), ids, pairs))
            if cursor.rowcount == len(pairs):
                return set(pairs)
            await cursor.execute(_READ_HELD, (ids, pairs))
            return {(id_, token) for id_, token in await cursor.fetchall()}

        return await self.database.transaction(work, what="renew leases")

    async def senders_with_drafts(self) -> list[str]:
        """Senders whose mailbox may hold orphan drafts of ours: those with a job of the last two days."""
        rows = await self.database.read_rows(SENDERS_WITH_DRAFTS, what="find senders with drafts")
        return [row[0] for row in rows]

    async def own_drafts(self, drafts: Sequence[str], *, sender: str) -> set[str]:
        """Those of `drafts` that open rows of this sender know as theirs."""
        rows = await self.database.read_rows(_OWN_DRAFTS, (sender, tuple(drafts)), what="find own drafts")
        return {row[0] for row in rows}

    async def check_again(self, drafts: Collection[str], *, sender: str) -> int:
        """Let the unsure letters of this sender that wait for a person, and own one of `drafts`, be checked; how many.

        Their draft was not there when they were checked last, and now it is: one of Google's replicas lagged.
        """

        async def work(cursor: Cursor) -> int:
            await cursor.execute(_SELECT_WAITING_FOR_PERSON, (sender, tuple(drafts)))
            if not (ids := tuple(row[0] for row in await cursor.fetchall())):
                return 0
            await cursor.execute(_CHECK_NOW, (ids,))
            return int(cursor.rowcount)

        return await self.database.transaction(work, what="check again what waits for a person")

    async def is_orphan(self, *, job: str, seq: int, draft: str) -> bool | None:
        """Whether `draft` of this letter is an orphan; None: the letter is not in this database.

        While the row is `sending`, its worker may be about to record the draft. In any other state, the worker that
        made a draft that is not on the row has lost the token that it would need to record it. Where a person has said
        that the letter is sent, no daemon sends this draft any more, but the mailbox's owner might.

        Raises:
            NotReplayedError: the server may have forgotten what its daemon is about to tell it again.
        """

        async def work(cursor: Cursor) -> bool | None:
            self.replay_log.require_replayed(cursor)
            await cursor.execute(
                "SELECT status, draft_id, proof FROM job_recipients WHERE job_id = %s AND seq = %s", (job, seq)
            )
            if (row := await cursor.fetchone()) is None:
                return None
            status, known, proof = row
            if status in {State.FAILED.value, State.CANCELLED.value} or proof == Proof.PERSON.value:
                return True
            return bool(status != State.SENDING.value and known != draft)

        return await self.database.read(work, what="look up a draft")

    async def undo(self, *, job: str, seq: int, draft: str, on_retry: Callable[[], None]) -> UndoneSend | None:
        """Take back that a letter is sent if `draft`, which is there, disproves it; None: it does not."""
        return await undo(self.database, job=job, seq=seq, draft=draft, by=self.daemon_id, on_retry=on_retry)

    async def unfinished_jobs(self) -> list[str]:
        """Jobs in which nothing is open and that are not completed: their daemon died between the two commits."""
        rows = await self.database.read_rows(UNFINISHED_JOBS, (MAX_FOUND,), what="find unfinished jobs")
        return [row[0] for row in rows]

    async def reschedule_stuck_jobs(self, *, on_retry: Callable[[], None] | None = None) -> list[str]:
        """Reschedule stuck jobs, whose letters wait though no claim would ever find them; the ids of these jobs.

        What is in doubt is repeated, and `on_retry` called after each try. All that were found by any try are
        returned: another daemon may have rescheduled one meanwhile, and returns it too.
        """
        woken: set[str] = set()

        async def work(cursor: Cursor, _: bool) -> list[str]:  # noqa: FBT001 - as it is called
            found = await stuck_jobs(cursor)
            await reschedule(cursor, jobs=dict.fromkeys(found, 0), senders=dict.fromkeys(found.values(), 0))
            if found:
                await write_stuck(cursor, found)
            woken.update(found)
            return sorted(woken)

        if not await self.database.read(stuck_jobs, what="look for forgotten jobs"):
            return []
        return await self.database.retry_until_committed(
            work, what="wake forgotten jobs", on_retry=on_retry, only_in_doubt=True
        )
