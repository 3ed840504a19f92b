"""The recovery: expired claims, doubts that are due for a check, what a person settles, restored databases."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import batched
from typing import Any, Final

from mailerd.clock import new_id
from mailerd.core.fates import Fate
from mailerd.core.models import ALONE_AFTER, FAILED_AFTER_ALONE, ExpiredClaim, UnresolvedSend, WriteResult
from mailerd.core.states import JobChange, JobStatus, Proof, State, Transition, after, job_after
from mailerd.core.webhooks import EventType
from mailerd.errors import MailerdError
from mailerd.store.action_log import note_action
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.db.times import micros, utc
from mailerd.store.event_feed import NewEvent, insert_events, leap_at_next
from mailerd.store.queue.attempt_log import AttemptRow, InDoubtRetry, insert_attempts, log_attempt, was_applied
from mailerd.store.queue.failover import ReplayLog
from mailerd.store.queue.record import failed_event, write_stuck
from mailerd.store.queue.reschedule import MAX_FOUND, NOT_FORGOTTEN, UNFINISHED, lock_job, reschedule, short, stuck_jobs
from mailerd.store.stats import count_changes

# Recovers letters whose lease has expired: their daemon died, was paused or lost the database.

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

    async def recover(self, *, limit: int = 100) -> list[ExpiredClaim]:
        """Recover rows whose lease has expired, at most `limit`; what became of each.

        What is in doubt is repeated: all that was recovered is returned.
        """
        probe = self.database.probe_timeout
        if not await self.database.read_rows(_ANY_EXPIRED, what="look for lapsed leases", bound=probe):
            return []
        retry = InDoubtRetry(self._was_recovered)

        async def work(cursor: Cursor, _: bool) -> list[ExpiredClaim]:  # noqa: FBT001 - as it is called
            return await retry.done(cursor, lambda cursor: self.recover_batch(cursor, limit))

        return await self.database.retry_until_committed(work, what="rescue", only_in_doubt=True)

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


# Manual resolution: a person has checked the mailbox and says what became of a letter.

SETTLED: Final = "settled by hand"
"""How the error of a letter begins that a person has resolved."""
# What was not sent goes out by a new draft: the old one may be gone, and if it is not, the sweep deletes it.
_RESOLVE: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET status = %s, claim_token = NULL, lease_until = NULL, error = %s, message_id = COALESCE(%s, message_id),
       proof = %s, mode = IF(%s, NULL, mode), draft_id = IF(%s, NULL, draft_id), thread_id = IF(%s, NULL, thread_id),
       unanswered = IF(%s, 0, unanswered), discarding = 0, nothing_found_at = NULL,
       sent_at = IF(%s = 'sent', UTC_TIMESTAMP(6), NULL), due_at = UTC_TIMESTAMP(6), updated_at = UTC_TIMESTAMP(6)
 WHERE id = %s AND status = 'unsure'"""
# What came back or was answered before is no fate of the next sending: a retry of bounces would send that once more.
_FORGET_FATE: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET fate = NULL, fate_kind = NULL, fate_code = NULL, fate_reason = NULL, fate_at = NULL WHERE id = %s"""
_UNCOUNT_FATE: Final = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET bounced = bounced - LEAST(bounced, %s), replied = replied - LEAST(replied, %s) WHERE id = %s"""


class NotUnsureError(MailerdError):
    """There is nothing to settle: the recipient is unknown, or its state is certain."""


@dataclass(frozen=True)
class ManualResolution:
    """What a person has resolved."""

    recipient: int
    job_id: str
    to_email: str
    status: State
    """Its new state: sent, waiting, or cancelled if its job was."""


async def settle(
    database: Database,
    recipient: int,
    *,
    change: Transition,
    actor: str,
    message_id: str | None = None,
    attempt: int | None = None,
) -> ManualResolution:
    """Write what a person found out: FOUND or MISSING. `actor`: who says so; `attempt`: of which attempt, None: any.

    Raises:
        NotUnsureError: it is not unsure, or a later attempt is.
        DatabaseError: nothing was written.
    """

    async def work(cursor: Cursor) -> ManualResolution:
        await cursor.execute(
            "SELECT r.job_id, r.to_email, r.status, r.attempts, j.sender_email, r.fate FROM job_recipients r "
            "JOIN jobs j ON j.id = r.job_id WHERE r.id = %s FOR UPDATE",
            (recipient,),
        )
        if (row := await cursor.fetchone()) is None:
            raise NotUnsureError(f"there is no recipient {recipient}")
        job, to, status, attempts, sender, fate = row
        if status != State.UNSURE.value:
            raise NotUnsureError(f"recipient {recipient} ({to}, job {job}) is {status}: only an unsure one is settled")
        if attempt not in {None, attempts}:  # who looked before that knows nothing of it
            raise NotUnsureError(f"recipient {recipient} was tried once more meanwhile: look into the mailbox again")
        new = after(State.UNSURE, change)
        by = f", by {actor}"
        note = f"{SETTLED}: {'sent' if new is State.SENT else 'not sent'}{by}"
        proof = Proof.PERSON.value if new is State.SENT else None
        anew = int(new is State.WAITING)
        await cursor.execute(_RESOLVE, (new.value, note, message_id, proof, *[anew] * 4, new.value, recipient))
        if anew and fate:
            await cursor.execute(_FORGET_FATE, (recipient,))
            came_back, answered = fate == Fate.BOUNCED.value, fate in {Fate.REPLIED.value, Fate.OTHER_REPLIED.value}
            await cursor.execute(_UNCOUNT_FATE, (int(came_back), int(answered), job))
        token = new_id()
        line = AttemptRow(recipient, attempts, token, token, change.value, message_id=message_id, error=note)
        await log_attempt(cursor, line)
        if new is State.WAITING and await reschedule(cursor, jobs={job: 0}, senders={sender: 0}, back=[recipient]):
            new = State.CANCELLED
        detail = f"{new.value}, recipient {recipient}"
        await cursor.execute(*note_action("settle", actor, job=job, detail=detail, letters=1))
        if statement := count_changes(token, [(sender, change)]):
            await cursor.execute(*statement)
        return ManualResolution(recipient=recipient, job_id=job, to_email=to, status=new)

    return await database.transaction(work, what="settle by hand")


# After a restore from a backup: letters that were open then may have been sent since, so all are checked first.

NOTE: Final = "the database was restored from a backup: it may have been sent since, and is looked for first"
_ROWS_AT_ONCE: Final = 500
"""The most letters of one transaction."""
_JOBS_AT_ONCE: Final = 100
"""Jobs in which one statement looks for them."""
_FIND_RUNNING_DAEMON: Final = """
SELECT host, pid FROM daemons
 WHERE stopped_at IS NULL AND heartbeat_at > UTC_TIMESTAMP(6) - INTERVAL 30 SECOND LIMIT 1"""
# A letter that was not due yet cannot have been sent.
_OPEN_JOB: Final = f"{UNFINISHED} AND j.send_at <= UTC_TIMESTAMP(6)"
# One that waits for a person is looked for again, since a sign-in that may read the sent mail can have come meanwhile.
# One that was in doubt then may have got another draft since, as those below.
_IN_DOUBT: Final = "r.status = 'unsure' AND (r.lease_until IS NULL OR r.unanswered = 0 OR r.discarding = 0)"
_WAITS: Final = "r.status IN ('waiting', 'sending')"
_COUNT_OPEN: Final = f"""
SELECT j.sender_email, COUNT(*) FROM jobs j JOIN job_recipients r FORCE INDEX (claim) ON r.job_id = j.id
 WHERE {_OPEN_JOB} AND ({_WAITS} OR ({_IN_DOUBT})) GROUP BY j.sender_email ORDER BY j.sender_email"""
_SELECT_OPEN_JOBS: Final = f"SELECT j.id FROM jobs j WHERE {_OPEN_JOB} ORDER BY j.id"
# Job by job, and in no order: what is marked is not read again, however many letters there are, open or ended.
_SELECT_OPEN: Final = """
SELECT r.id, r.attempts, r.draft_id FROM job_recipients r FORCE INDEX (claim)
 WHERE r.job_id IN %s AND {which} LIMIT %s"""
# Another draft may have been made and deleted since: that one is gone proves nothing, and where the sent mail cannot be
# read a person decides. `handed_over_at` NULL: the search goes back to the time when the job was accepted.
_MARK_UNSURE: Final = f"""
UPDATE job_recipients r FORCE INDEX (PRIMARY)
   SET status = %s, mode = IF(draft_id IS NULL, 'direct', 'draft'), unanswered = 1, discarding = 1, error = %s,
       checks = 0, handed_over_at = NULL, nothing_found_at = NULL, claim_token = NULL, lease_until = UTC_TIMESTAMP(6),
       updated_at = UTC_TIMESTAMP(6)
 WHERE r.id IN %s AND ({_WAITS} OR ({_IN_DOUBT}))"""


class DaemonRunsError(MailerdError):
    """A daemon runs on this database: it may already send what must be checked first."""


@dataclass(frozen=True)
class RestoredQueue:
    """The open letters of a database that was restored."""

    database: Database

    async def open_letters(self) -> dict[str, int]:
        """How many letters of each sender may have been sent since the backup.

        Raises:
            DaemonRunsError: a daemon was heard of within 30 s.
        """

        async def work(cursor: Cursor) -> dict[str, int]:
            await _refuse_if_daemon_runs(cursor)
            await cursor.execute(_COUNT_OPEN)
            return dict(await cursor.fetchall())

        return await self.database.read(work, what="count open letters")

    async def doubt_all(self) -> int:
        """Make each of them unsure, so that it is checked before it is sent; how many. Repeated, it does the rest.

        The ids of further events lie behind all that a client can have seen.

        Raises:
            DaemonRunsError: a daemon was heard of within 30 s.
            DatabaseError: what was done until then stays done.
        """
        await self.database.transaction(_leap, what="number events")
        rows = await self.database.read_rows(_SELECT_OPEN_JOBS, what="count open letters")
        done = 0
        for some in batched((job for (job,) in rows), _JOBS_AT_ONCE):
            for which in (_IN_DOUBT, _WAITS):  # what is marked would be read again as unsure
                work = partial(_mark_unsure, jobs=some, which=which)
                while number := await self.database.transaction(work, what="doubt letters"):
                    done += number
        return done


async def _refuse_if_daemon_runs(cursor: Cursor) -> None:
    await cursor.execute(_FIND_RUNNING_DAEMON)
    for host, pid in await cursor.fetchall():
        raise DaemonRunsError(f"daemon {host}:{pid} runs on this database: stop it first, then say this again")


async def _leap(cursor: Cursor) -> None:
    await _refuse_if_daemon_runs(cursor)
    await leap_at_next(cursor)


async def _mark_unsure(cursor: Cursor, *, jobs: tuple[str, ...], which: str) -> int:
    """The next letters of these jobs; how many."""
    await _refuse_if_daemon_runs(cursor)
    await cursor.execute(_SELECT_OPEN.format(which=which), (jobs, _ROWS_AT_ONCE))
    rows = await cursor.fetchall()
    if not rows:
        return 0
    unsure, token = after(State.SENDING, Transition.LOST).value, new_id()
    await cursor.execute(_MARK_UNSURE, (unsure, NOTE, tuple(row[0] for row in rows)))
    lost = Transition.LOST.value
    lines = [AttemptRow(id_, number, token, token, lost, draft_id=draft, error=NOTE) for id_, number, draft in rows]
    await cursor.execute(*insert_attempts(lines))
    return len(rows)


# Takes back a `sent` for which only a missing draft spoke, once that draft is found where it was.

_READ_LETTER: Final = """
SELECT r.id, r.to_email, r.attempts, j.sender_email FROM job_recipients r JOIN jobs j ON j.id = r.job_id
 WHERE r.job_id = %s AND r.seq = %s"""
# The draft stays the letter's own, so that it can go out once at most, whatever else is still under way. The attempt is
# refunded: nothing was sent by it.
_UNDO: Final = f"""
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET status = %s, proof = NULL, sent_at = NULL, checks = 0, attempts = GREATEST(attempts, 1) - 1, error = %s,
       due_at = UTC_TIMESTAMP(6), updated_at = UTC_TIMESTAMP(6)
 WHERE id = %s AND status = 'sent' AND proof = 'draft gone' AND draft_id = %s AND {NOT_FORGOTTEN}"""
_REOPEN: Final = "UPDATE jobs SET status = %s, finished_at = NULL, next_claim_at = UTC_TIMESTAMP(6) WHERE id = %s"
# Its letter is cancelled: the recovery finishes the job once more, with an event that has the counts as they are.
_NOT_FINISHED: Final = "UPDATE jobs SET finished_at = NULL WHERE id = %s"
_REASON: Final = "it was recorded as sent because its draft was gone, and the draft is there"


@dataclass(frozen=True)
class UndoneSend:
    """A letter that was not sent after all."""

    recipient: int
    job_id: str
    to_email: str
    sender: str
    token: str
    """The token under which the log of attempts has it."""
    status: State = State.WAITING
    """Its new state: waiting, or cancelled if its job was."""


async def undo(database: Database, *, job: str, seq: int, draft: str, by: str) -> UndoneSend | None:
    """Let the letter wait again if `draft`, which is there, disproves that it was sent; None: it does not.

    Fenced by the state, the proof and the draft: of two who find the draft one does it. What is in doubt is repeated.
    """
    retry: InDoubtRetry[UndoneSend] = InDoubtRetry(
        lambda cursor, it: was_applied(cursor, it.recipient, token=it.token, event=Transition.UNDONE.value, by=by)
    )

    async def work(cursor: Cursor, _: bool) -> list[UndoneSend]:  # noqa: FBT001 - as it is called
        return await retry.done(cursor, lambda cursor: _undo(cursor, job, seq, draft, by))

    done = await database.retry_until_committed(work, what="take back a sent letter", only_in_doubt=True)
    return done[0] if done else None


async def _undo(cursor: Cursor, job: str, seq: int, draft: str, by: str) -> list[UndoneSend]:
    await cursor.execute(_READ_LETTER, (job, seq))
    if (row := await cursor.fetchone()) is None:
        return []
    id_, to, attempts, sender = row
    await cursor.execute(_UNDO, (after(State.SENT, Transition.UNDONE).value, _REASON, id_, draft))
    if cursor.rowcount != 1:
        return []
    it = UndoneSend(id_, job, to, sender, token=new_id())
    event = Transition.UNDONE.value
    await log_attempt(cursor, AttemptRow(id_, attempts, it.token, by, event, draft_id=draft, error=_REASON))
    undone = {"recipient_id": id_, "job_id": job, "seq": seq, "email": to, "sender_email": sender, "reason": _REASON}
    await cursor.execute(
        *insert_events([NewEvent(EventType.RECIPIENT_SENT_UNDONE, f"{id_}:{it.token}", undone, job, sender)])
    )
    await reopen(cursor, job)
    cancelled = await reschedule(cursor, jobs={job: 0}, senders={sender: 0}, back=[id_])
    return [replace(it, status=State.CANCELLED) if cancelled else it]


async def reopen(cursor: Cursor, job: str) -> None:
    """Let a job go on, or finish once more, into which a letter comes back: it finished with other counts."""
    status = await lock_job(cursor, job)
    if status is JobStatus.COMPLETED:
        await cursor.execute(_REOPEN, (job_after(status, JobChange.RETRY).value, job))
    elif status is JobStatus.CANCELLED:
        await cursor.execute(_NOT_FINISHED, (job,))


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

    async def resolve(self, settled: Resolution) -> WriteResult:
        """Write the result of a check, fenced; what became of it: never `resolved`.

        What is in doubt is repeated.

        Raises:
            DatabaseError: not written; the row is checked again when the lease of the check expires.
        """
        return await self.database.retry_until_committed(
            lambda cursor, doubted: self._resolve(cursor, settled, repeated=doubted), what="settle",
            only_in_doubt=True,
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

    async def undo(self, *, job: str, seq: int, draft: str) -> UndoneSend | None:
        """Take back that a letter is sent if `draft`, which is there, disproves it; None: it does not."""
        return await undo(self.database, job=job, seq=seq, draft=draft, by=self.daemon_id)

    async def unfinished_jobs(self) -> list[str]:
        """Jobs in which nothing is open and that are not completed: their daemon died between the two commits."""
        rows = await self.database.read_rows(UNFINISHED_JOBS, (MAX_FOUND,), what="find unfinished jobs")
        return [row[0] for row in rows]

    async def reschedule_stuck_jobs(self) -> list[str]:
        """Reschedule stuck jobs, whose letters wait though no claim would ever find them; the ids of these jobs.

        What is in doubt is repeated. All that were found by any try are
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
        return await self.database.retry_until_committed(work, what="wake forgotten jobs", only_in_doubt=True)
