"""Recovers letters whose lease has expired: their daemon died, was paused or lost the database."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from mailerd.core.models import ALONE_AFTER, FAILED_AFTER_ALONE, ExpiredClaim
from mailerd.core.states import State, Transition, after
from mailerd.store.db.cursor import Cursor
from mailerd.store.db.database import Database
from mailerd.store.db.times import micros
from mailerd.store.outbox import insert_events
from mailerd.store.queue.attempt_log import AttemptRow, InDoubtRetry, log_attempt, was_applied
from mailerd.store.queue.change_events import failed_event
from mailerd.store.queue.failover import ReplayLog
from mailerd.store.queue.reschedule import reschedule
from mailerd.store.tallies import count_changes

_ANY_EXPIRED: Final = """
SELECT 1 FROM job_recipients FORCE INDEX (lease)
 WHERE lease_until < UTC_TIMESTAMP(6) AND status = 'sending' LIMIT 1"""
_LOCK_EXPIRED: Final = """
SELECT id FROM job_recipients FORCE INDEX (lease)
 WHERE lease_until < UTC_TIMESTAMP(6) AND status = 'sending' ORDER BY lease_until, id LIMIT %s FOR UPDATE SKIP LOCKED"""
# A daemon that stopped in order, or had a heartbeat after the lease was over, has not crashed.
_READ_EXPIRED: Final = """
SELECT r.id, r.job_id, j.sender_email, r.to_email, r.attempts, r.daemon_id, r.mode, r.draft_id, r.claim_token,
       r.crashes, COALESCE(d.stopped_at IS NULL AND d.heartbeat_at <= r.lease_until, 1), r.seq, r.message_id
  FROM job_recipients r FORCE INDEX (PRIMARY) JOIN jobs j ON j.id = r.job_id LEFT JOIN daemons d ON d.id = r.daemon_id
 WHERE r.id IN %s ORDER BY r.id"""

# `lease_until < now` once more: between read and write the owner may have renewed it. Whether it had sent is not
# known, unless it was deleting the draft by then, which it does only where Google has refused the letter.
_EXPIRE: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET status = %s, claim_token = NULL, checks = 0, nothing_found_at = NULL, attempts = %s, crashes = %s,
       mode = IF(%s = 'unsure' AND draft_id IS NULL, 'direct', mode),
       unanswered = IF(%s = 'unsure' AND discarding = 0, 1, unanswered),
       lease_until = IF(%s = 'unsure', UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND, NULL),
       error = %s, due_at = UTC_TIMESTAMP(6), updated_at = UTC_TIMESTAMP(6)
 WHERE id = %s AND claim_token = %s AND status = 'sending' AND lease_until < UTC_TIMESTAMP(6)"""

_COUNT_DONE: Final = """
SELECT (SELECT COUNT(*) FROM job_recipients r WHERE r.job_id = j.id AND r.status IN ('sent', 'failed', 'cancelled')),
       j.total FROM jobs j WHERE j.id = %s"""

_CHANGES: Final = {
    State.UNSURE: Transition.LOST, State.WAITING: Transition.RELEASED, State.FAILED: Transition.FAILED
}  # fmt: skip
_WHY: Final = "it died, was paused or lost the database"


@dataclass(frozen=True)
class ExpiredClaims:
    """Recovers expired claims, for one daemon."""

    database: Database
    daemon_id: str
    late_arrival: timedelta
    """The longest time for which a request without an answer may still reach Google."""
    replay_log: ReplayLog
    """The sends of a daemon: a database that has lost commits gets them before its claims are recovered."""

    async def recover(self, *, limit: int = 100, on_retry: Callable[[], None] | None = None) -> list[ExpiredClaim]:
        """Recover rows whose lease has expired, at most `limit`; what became of each.

        What is in doubt is repeated, and `on_retry` called after each try: all that was recovered is returned.
        """
        probe = self.database.probe_timeout
        if not await self.database.read_rows(_ANY_EXPIRED, what="look for lapsed leases", bound=probe):
            return []
        retry = InDoubtRetry(self._was_recovered)

        async def work(cursor: Cursor, _: bool) -> list[ExpiredClaim]:  # noqa: FBT001 - as it is called
            return await retry.done(cursor, lambda cursor: self.recover_batch(cursor, limit))

        return await self.database.retry_until_committed(work, what="rescue", on_retry=on_retry, only_in_doubt=True)

    async def _was_recovered(self, cursor: Cursor, it: ExpiredClaim) -> bool:
        return await was_applied(cursor, it.id, token=it.token, event="lapsed", by=self.daemon_id)

    async def recover_batch(self, cursor: Cursor, limit: int) -> list[ExpiredClaim]:
        """Recover rows whose lease has expired, at most `limit`; what became of each.

        It recovers none on a server to which not all was replayed: after a failover that took longer than a lease, a
        row that looks abandoned may be in flight, with a draft that only its daemon knows.
        """
        if not self.replay_log.is_replayed(cursor):
            return []
        found = [one for row in await _due(cursor, limit) if (one := await self._expire(cursor, row))]
        again = [one for one in found if one.status is State.WAITING]
        jobs, senders = {one.job_id: 0 for one in again}, {one.sender: 0 for one in again}
        cancelled = await reschedule(cursor, jobs=jobs, senders=senders, back=[one.id for one in again])
        if statement := count_changes(self.daemon_id, [(one.sender, _CHANGES[one.status]) for one in found]):
            await cursor.execute(*statement)
        return [
            replace(one, status=State.CANCELLED) if one.status is State.WAITING and one.job_id in cancelled else one
            for one in found
        ]

    async def _expire(self, cursor: Cursor, row: Sequence[Any]) -> ExpiredClaim | None:
        id_, job, sender, to, attempts, daemon, mode, draft, token, crashes, crashed, seq, message = row
        # One of which Google's answer to another worker is known is not let go: what ends it next would hide that.
        handed = draft is not None or mode == "direct" or message is not None
        crash = bool(crashed) and daemon != self.daemon_id and not handed
        change, error = Transition.RELEASED, f"the lease of daemon {daemon} ran out at attempt {attempts}: {_WHY}"
        if handed:
            change = Transition.LOST
        elif crash and crashes + 1 >= ALONE_AFTER + FAILED_AFTER_ALONE:
            change = Transition.FAILED
            error = (
                f"it was in flight when {ALONE_AFTER} daemons crashed; then {FAILED_AFTER_ALONE} more, the last of "
                f"them {daemon}, had nothing else in flight and crashed as well: it is not tried again"
            )
        status = after(State.SENDING, change)
        # Within the columns, whatever a person has written there: a row that fails would hold up every other one.
        values = (max(attempts - 1, 0) if change is Transition.RELEASED else attempts, min(crashes + crash, 255))
        await cursor.execute(
            _EXPIRE, (status.value, *values, *[status.value] * 3, micros(self.late_arrival), error, id_, token)
        )
        if cursor.rowcount != 1:
            return None
        note = f"{change.value}: {error}"
        await log_attempt(
            cursor, AttemptRow(id_, attempts, token, self.daemon_id, "lapsed", draft_id=draft, error=note)
        )
        done = total = 0
        if status is State.FAILED:
            failed = failed_event(
                id_, job=job, seq=seq, sender=sender, to=to, attempts=attempts, token=token, error=error
            )
            await cursor.execute(*insert_events([failed]))
            await cursor.execute(_COUNT_DONE, (job,))
            done, total = await cursor.fetchone()
        return ExpiredClaim(
            id=id_, job_id=job, sender=sender, to_email=to, attempt=attempts, token=token, daemon_id=daemon,
            status=status, error=error, look_in=self.late_arrival, done=done, total=total,
        )  # fmt: skip


async def _due(cursor: Cursor, limit: int) -> Sequence[Sequence[Any]]:
    """Rows whose lease is over, the first to lapse first, locked."""
    await cursor.execute(_LOCK_EXPIRED, (limit,))
    if not (ids := tuple(row[0] for row in await cursor.fetchall())):
        return ()
    await cursor.execute(_READ_EXPIRED, (ids,))
    return tuple(await cursor.fetchall())
