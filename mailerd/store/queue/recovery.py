"""The recovery: expired claims, doubts that are due for a check, what a person settles, restored
databases.
"""

import socket
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import batched
from typing import Final

from mailerd.clock import new_id
from mailerd.core import moves
from mailerd.core.claims import ExpiredClaim, Resolution, UnresolvedSend, WriteResult
from mailerd.core.i18n import t
from mailerd.core.states import Proof, State, Transition
from mailerd.errors import MailerdError
from mailerd.heartbeat import is_there
from mailerd.store.db.connection import Cursor, utc
from mailerd.store.db.database import Database
from mailerd.store.queue.failover import ReplayLog
from mailerd.store.write import job_changes, messages, sender_changes
from mailerd.store.write.action_log import note_action
from mailerd.store.write.event_feed import leap_at_next
from mailerd.store.write.job_changes import MAX_FOUND, UNFINISHED, CompletedJob, complete

# Recovers messages whose lease has expired: their daemon died, was paused or lost the database.

_ANY_EXPIRED: Final = """
SELECT 1 FROM job_recipients FORCE INDEX (lease)
 WHERE lease_until < UTC_TIMESTAMP(6) AND status = 'sending' LIMIT 1"""
# It locks nothing: by this index it would lock messages in doubt too, for which others wait that
# hold their jobs.
_FIND_EXPIRED: Final = """
SELECT id FROM job_recipients FORCE INDEX (lease)
 WHERE lease_until < UTC_TIMESTAMP(6) AND status = 'sending' ORDER BY lease_until, id LIMIT %s"""
# A daemon that stopped in order, or had a heartbeat after the lease was over, has not crashed.
_READ_OWNERS: Final = """
SELECT r.id, j.sender_email, COALESCE(d.stopped_at IS NULL AND d.heartbeat_at <= r.lease_until, 1)
  FROM job_recipients r FORCE INDEX (PRIMARY) JOIN jobs j ON j.id = r.job_id LEFT JOIN daemons d ON d.id = r.daemon_id
 WHERE r.id IN %s"""
_COUNT_DONE: Final = """
SELECT (SELECT COUNT(*) FROM job_recipients r WHERE r.job_id = j.id AND r.status IN ('sent', 'failed', 'cancelled')),
       j.total FROM jobs j WHERE j.id = %s"""


@dataclass(frozen=True)
class ExpiredClaims:
    """Recovers expired claims, for one daemon."""

    database: Database
    daemon_id: str
    late_arrival: timedelta
    """The longest time for which a request without an answer may still reach Google."""
    replay_log: ReplayLog
    """The sends of a daemon: a database that has lost commits gets them before its claims are
    recovered.
    """

    async def recover(self, *, limit: int = 100) -> list[ExpiredClaim]:
        """Recover rows whose lease has expired, at most `limit`; what became of each.

        What is in doubt is repeated: all that was recovered is returned.
        """
        probe = self.database.probe_timeout
        if not await self.database.read_rows(_ANY_EXPIRED, what="claims.find_expired", bound=probe):
            return []
        return await self.database.retry_until_committed(
            lambda cursor: self.recover_batch(cursor, limit),
            what="claims.recover",
            proof=self._was_recovered,
            only_in_doubt=True,
        )

    async def recover_batch(self, cursor: Cursor, limit: int) -> list[ExpiredClaim]:
        """Recover rows whose lease has expired, at most `limit`; what became of each.

        It recovers none on a server to which not all was replayed: after a failover that took
        longer than a lease, a row that looks abandoned may be in flight, with a draft that only its
        daemon knows.
        """
        if not self.replay_log.is_replayed(cursor):
            return []
        await cursor.execute(_FIND_EXPIRED, (limit,))
        if not (ids := tuple(id_ for (id_,) in await cursor.fetchall())):
            return []
        locked = await messages.lock(cursor, ids, wait=False)
        await cursor.execute(_READ_OWNERS, (ids,))
        owners = {id_: (sender, bool(crashed)) for id_, sender, crashed in await cursor.fetchall()}
        # One whose job or sender another transaction holds comes again: it holds up the claims of
        # no other sender.
        jobs = await job_changes.lock_jobs(
            cursor, {row.job_id for row in locked.rows.values()}, wait=False
        )
        senders = await sender_changes.lock_senders(
            cursor, {sender for sender, _ in owners.values()}
        )
        made = [
            move
            for id_, row in locked.rows.items()
            if id_ in owners
            and row.job_id in jobs
            and owners[id_][0] in senders
            and (
                move := moves.lapsed(
                    row,
                    sender=owners[id_][0],
                    by=self.daemon_id,
                    crashed=owners[id_][1],
                    late_arrival=self.late_arrival,
                    now=locked.now,
                )
            )
        ]
        done = await messages.move(cursor, made, by=self.daemon_id)
        ended = Counter(
            it.before.job_id
            for it, row in zip(made, done, strict=True)
            if row.status is State.FAILED
        )
        found = []
        for it, row in zip(made, done, strict=True):
            ended[it.before.job_id] -= row.status is State.FAILED
            found.append(await self._found(cursor, it, row.status, later=ended[it.before.job_id]))
        return found

    async def _was_recovered(self, cursor: Cursor, found: Sequence[ExpiredClaim]) -> bool:
        return bool(found) and await messages.is_logged(
            cursor, found[0].id, token=found[0].token, event="lapsed", by=self.daemon_id
        )

    async def _found(
        self, cursor: Cursor, it: moves.Move, status: State, *, later: int
    ) -> ExpiredClaim:
        """`later`: how many messages of its job have failed in this transaction, and are reported
        after it.
        """
        done = total = 0
        if status is State.FAILED:
            await cursor.execute(_COUNT_DONE, (it.before.job_id,))
            done, total = await cursor.fetchone()
            done -= later
        return ExpiredClaim(
            id=it.before.id,
            job_id=it.before.job_id,
            sender=it.sender,
            to_email=it.before.to_email,
            attempt=it.before.attempts,
            token=it.token,
            daemon_id=it.before.daemon_id,
            status=status,
            error=it.reason or "",
            look_in=self.late_arrival,
            done=done,
            total=total,
        )


# Manual resolution: a person has checked the mailbox and says what became of a message.

_READ_SENDER: Final = "SELECT sender_email FROM jobs WHERE id = %s"


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
    finished: tuple[CompletedJob, ...] = ()
    """Its job, if nothing is open in it any more."""


async def settle(
    database: Database,
    recipient: int,
    *,
    change: Transition,
    actor: str,
    message_id: str | None = None,
    attempt: int | None = None,
) -> ManualResolution:
    """Write what a person found out: FOUND or MISSING.

    `actor`: who says so; `attempt`: of which attempt, None: any.

    Its job may end by it, which is said at once: who waits for the answer looks at the job next.

    Raises:
        NotUnsureError: it is not unsure, or a later attempt is.
        DatabaseError: nothing was written.
    """
    token = new_id()

    async def work(cursor: Cursor) -> ManualResolution:
        locked = await messages.lock(cursor, [recipient])
        if (row := locked.rows.get(recipient)) is None:
            raise NotUnsureError(t("recipient {recipient} not found", recipient=recipient))
        if row.status is not State.UNSURE:
            to, job, status = row.to_email, row.job_id, row.status
            raise NotUnsureError(
                t(
                    "recipient {recipient} ({to}, job {job}) is {status}; only an unsure one can be confirmed",
                    recipient=recipient,
                    to=to,
                    job=job,
                    status=status,
                )
            )
        if attempt not in {None, row.attempts}:  # who looked before that knows nothing of it
            raise NotUnsureError(
                t(
                    "recipient {recipient} was retried in the meantime; check the mailbox again",
                    recipient=recipient,
                )
            )
        await cursor.execute(_READ_SENDER, (row.job_id,))
        ((sender,),) = await cursor.fetchall()
        made = moves.settled(
            row,
            change,
            actor=actor,
            message_id=message_id,
            token=token,
            sender=sender,
            now=locked.now,
        )
        (now,) = await messages.move(cursor, [made] if made else [], by=token)
        detail = t("{status}, recipient {recipient}", status=now.status, recipient=recipient)
        await cursor.execute(
            *note_action("settle", actor, job=row.job_id, detail=detail, messages=1)
        )
        finished = tuple(await complete(cursor, [row.job_id]))
        return ManualResolution(recipient, row.job_id, row.to_email, State(now.status), finished)

    return await database.request(work, what="unconfirmed.confirm")


# After a restore from a backup: messages that were open then may have been sent since, so all are
# checked first.

_ROWS_AT_ONCE: Final = 500
"""The most messages of one transaction."""
_JOBS_AT_ONCE: Final = 100
"""Jobs in which one statement looks for them."""
_FIND_RUNNING_DAEMONS: Final = """
SELECT host, pid, TIMESTAMPDIFF(SECOND, heartbeat_at, UTC_TIMESTAMP(6)), DATABASE(), CONNECTION_ID() FROM daemons
 WHERE stopped_at IS NULL AND heartbeat_at > UTC_TIMESTAMP(6) - INTERVAL 30 SECOND"""
# A message that was not due yet cannot have been sent.
_OPEN_JOB: Final = f"{UNFINISHED} AND j.send_at <= UTC_TIMESTAMP(6)"
# One that waits for a person is looked for again, since a sign-in that may read the sent mail can
# have come meanwhile. One that was in doubt then may have got another draft since, as those below.
_IN_DOUBT: Final = (
    "r.status = 'unsure' AND (r.lease_until IS NULL OR r.unanswered = 0 OR r.discarding = 0)"
)
# What waits for another attempt is due within an hour; what is due later has a time of its own and
# was not tried.
_WAITS: Final = (
    "(r.status = 'sending' OR (r.status = 'waiting' AND (r.attempts > 0 OR r.due_at <= UTC_TIMESTAMP(6) + INTERVAL 1 "
    "HOUR)))"
)
_COUNT_OPEN: Final = f"""
SELECT j.sender_email, COUNT(*) FROM jobs j JOIN job_recipients r FORCE INDEX (claim) ON r.job_id = j.id
 WHERE {_OPEN_JOB} AND ({_WAITS} OR ({_IN_DOUBT})) GROUP BY j.sender_email ORDER BY j.sender_email"""
_SELECT_OPEN_JOBS: Final = f"SELECT j.id FROM jobs j WHERE {_OPEN_JOB} ORDER BY j.id"
# Job by job, and in no order: what is marked is not read again, however many messages there are,
# open or ended.
_SELECT_OPEN: Final = """
SELECT r.id, j.sender_email FROM job_recipients r FORCE INDEX (claim) STRAIGHT_JOIN jobs j ON j.id = r.job_id
 WHERE r.job_id IN %s AND {which} LIMIT %s"""


class DaemonRunsError(MailerdError):
    """A daemon runs on this database: it may already send what must be checked first."""


@dataclass(frozen=True)
class RestoredQueue:
    """The open messages of a database that was restored."""

    database: Database

    async def open_messages(self) -> dict[str, int]:
        """How many messages of each sender may have been sent since the backup.

        Raises:
            DaemonRunsError: a daemon was heard of within 30 s.
        """

        async def work(cursor: Cursor) -> dict[str, int]:
            await _refuse_if_daemon_runs(cursor)
            await cursor.execute(_COUNT_OPEN)
            return dict(await cursor.fetchall())

        return await self.database.read(work, what="messages.count_open")

    async def doubt_all(self) -> int:
        """Make each of them unsure, so that it is checked before it is sent; how many.

        Repeated, it does the rest.

        The ids of further events lie behind all that a client can have seen.

        Raises:
            DaemonRunsError: a daemon was heard of within 30 s.
            DatabaseError: what was done until then stays done.
        """
        await self.database.transaction(_leap, what="events.number")
        rows = await self.database.read_rows(_SELECT_OPEN_JOBS, what="messages.count_open")
        done = 0
        for some in batched((job for (job,) in rows), _JOBS_AT_ONCE):
            for which in (_IN_DOUBT, _WAITS):  # what is marked would be read again as unsure
                work = partial(_doubt, jobs=some, which=which)
                while number := await self.database.transaction(
                    work, what="failover.mark_unconfirmed"
                ):
                    done += number
        return done


async def _refuse_if_daemon_runs(cursor: Cursor) -> None:
    """A daemon that was stopped before the restore is in the backup as one that runs.

    It is known to have ended where its process is gone from this machine and there is no other
    connection: a container may bear the machine's name and have process ids of its own, but a
    daemon keeps connections.
    """
    await cursor.execute(_FIND_RUNNING_DAEMONS)
    if not (seen := await cursor.fetchall()):
        return
    (host, pid, age, database, connection), *_ = seen
    here = socket.gethostname()
    if all(at == here and not is_there(its) for at, its, *_ in seen):
        await cursor.execute("SHOW PROCESSLIST")
        if not any(
            of == database and id_ != connection for id_, _, _, of, *_ in await cursor.fetchall()
        ):
            return
    raise DaemonRunsError(
        t(
            "daemon {host}:{pid} was running on this database {age} s ago; stop it, then repeat this command. If it "
            "is stopped, wait until that is 30 s ago",
            host=host,
            pid=pid,
            age=age,
        )
    )


async def _leap(cursor: Cursor) -> None:
    await _refuse_if_daemon_runs(cursor)
    await leap_at_next(cursor)


async def _doubt(cursor: Cursor, *, jobs: tuple[str, ...], which: str) -> int:
    """The next messages of these jobs; how many."""
    await _refuse_if_daemon_runs(cursor)
    await cursor.execute(_SELECT_OPEN.format(which=which), (jobs, _ROWS_AT_ONCE))
    if not (senders := dict(await cursor.fetchall())):
        return 0
    locked, token = await messages.lock(cursor, senders), new_id()
    made = [
        moves.doubted(row, token=token, sender=senders[id_], now=locked.now)
        for id_, row in locked.rows.items()
    ]
    await messages.move(cursor, made, by=token)
    return len(made)


# Takes back a `sent` for which only a missing draft spoke, once that draft is found where it was.

_FIND_MESSAGE: Final = """
SELECT r.id, j.sender_email FROM job_recipients r JOIN jobs j ON j.id = r.job_id WHERE r.job_id = %s AND r.seq = %s"""


@dataclass(frozen=True)
class UndoneSend:
    """A message that was not sent after all."""

    recipient: int
    job_id: str
    to_email: str
    sender: str
    token: str
    """The token under which the log of attempts has it."""
    status: State = State.WAITING
    """Its new state: waiting, or cancelled if its job was."""


async def undo(database: Database, *, job: str, seq: int, draft: str, by: str) -> UndoneSend | None:
    """Let the message wait again if `draft`, which is there, disproves that it was sent; None: it
    does not.

    Of two who find the draft one does it. What is in doubt is repeated.
    """
    token = new_id()

    async def work(cursor: Cursor) -> UndoneSend | None:
        await cursor.execute(_FIND_MESSAGE, (job, seq))
        if (found := await cursor.fetchone()) is None:
            return None
        id_, sender = found
        locked = await messages.lock(cursor, [id_])
        row = locked.rows.get(id_)
        if (
            row is None
            or (made := moves.undone(row, draft, token=token, sender=sender, now=locked.now))
            is None
        ):
            return None
        (now,) = await messages.move(cursor, [made], by=by)
        return UndoneSend(id_, job, row.to_email, sender, token=token, status=now.status)

    async def was_undone(cursor: Cursor, it: UndoneSend | None) -> bool:
        return it is not None and await messages.is_logged(
            cursor, it.recipient, token=token, event="undone", by=by
        )

    return await database.retry_until_committed(
        work, what="messages.undo", proof=was_undone, only_in_doubt=True
    )


# Of one sender's unresolved sends only the first few are of use: it is left out while it has its
# share of checks.
_DUE_CHECKS: Final = """
SELECT r.id, j.sender_email FROM job_recipients r FORCE INDEX (lease) STRAIGHT_JOIN jobs j ON j.id = r.job_id
 WHERE r.lease_until < UTC_TIMESTAMP(6) AND r.status = 'unsure' AND j.sender_email NOT IN %s
 ORDER BY r.lease_until, r.id LIMIT %s"""
_MAX_CANDIDATES: Final = 50
"""Unresolved sends that are read to find some of different senders."""

_READ_UNRESOLVED: Final = """
SELECT r.id, r.job_id, r.seq, j.sender_email, r.to_email, r.attempts, r.checks, r.mode, r.draft_id, r.thread_id,
       COALESCE(r.handed_over_at, j.created_at), r.unanswered, r.discarding,
       TIMESTAMPDIFF(MICROSECOND, r.nothing_found_at, UTC_TIMESTAMP(6)), r.message_id
  FROM job_recipients r FORCE INDEX (PRIMARY) JOIN jobs j ON j.id = r.job_id
 WHERE r.id IN %s AND r.claim_token = %s ORDER BY r.id"""

# LIMIT 1 keeps MariaDB from reading every recipient that there is, which it does for a NOT EXISTS.
UNFINISHED_JOBS: Final = f"""
SELECT j.id FROM jobs j FORCE INDEX (finished) WHERE {UNFINISHED}
   AND (SELECT 1 FROM job_recipients r WHERE r.job_id = j.id AND r.status IN ('waiting', 'sending', 'unsure')
         LIMIT 1) IS NULL LIMIT %s"""

SENDERS_WITH_DRAFTS: Final = """
SELECT sender_email FROM jobs FORCE INDEX (finished) WHERE finished_at IS NULL
 UNION
SELECT sender_email FROM jobs FORCE INDEX (finished) WHERE finished_at > UTC_TIMESTAMP(6) - INTERVAL 2 DAY"""

# A cancelled job has not ended either while a message of it is unsure.
_OWN_DRAFTS: Final = f"""
SELECT r.draft_id FROM jobs j FORCE INDEX (finished)
  JOIN job_recipients r FORCE INDEX (claim) ON r.job_id = j.id AND r.status IN ('waiting', 'sending', 'unsure')
 WHERE j.sender_email = %s AND {UNFINISHED} AND r.draft_id IN %s"""
_SELECT_WAITING_FOR_PERSON: Final = f"""
SELECT r.id FROM jobs j FORCE INDEX (finished)
  JOIN job_recipients r FORCE INDEX (claim) ON r.job_id = j.id AND r.status = 'unsure'
 WHERE j.sender_email = %s AND {UNFINISHED} AND r.lease_until IS NULL AND r.draft_id IN %s"""


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
        """Take unresolved sends for a check: at most `limit`, of each sender `per_sender` less its
        checks `under_way`.

        Raises:
            DatabaseError: nothing was taken, or in doubt: what was is taken again when the lease of
            its check expires.
        """
        under_way = under_way or {}
        busy = "", *(sender for sender, checks in under_way.items() if checks >= per_sender)
        found = await self.database.read_rows(
            _DUE_CHECKS,
            (busy, _MAX_CANDIDATES),
            what="unconfirmed.due",
            bound=self.database.probe_timeout,
        )
        room = defaultdict(
            lambda: per_sender,
            {sender: per_sender - checks for sender, checks in under_way.items()},
        )
        ids: list[int] = []
        for id_, sender in found:
            if room[sender] > 0 and len(ids) < limit:
                room[sender] -= 1
                ids.append(id_)
        if not ids:
            return []
        token = new_id()
        return await self.database.transaction(
            lambda cursor: self._take_unresolved(cursor, token, ids), what="unconfirmed.take"
        )

    async def _take_unresolved(
        self, cursor: Cursor, token: str, ids: Sequence[int]
    ) -> list[UnresolvedSend]:
        taken = await messages.take_for_check(
            cursor, ids, token=token, daemon=self.daemon_id, lease=self.check_lease
        )
        if not taken:
            return []
        logs = await messages.read_log(cursor, taken)
        await cursor.execute(_READ_UNRESOLVED, (taken, token))
        return [
            UnresolvedSend(
                id=id_,
                job_id=job,
                seq=seq,
                sender=sender,
                to_email=to,
                token=token,
                attempt=attempts,
                checks=checks,
                mode=mode,
                draft_id=draft,
                thread_id=thread,
                unanswered=bool(unanswered),
                discarding=bool(discarding),
                nothing_found_for=None if nothing is None else timedelta(microseconds=nothing),
                known_message_id=logs[id_].known_message or message_id,
                since=utc(since),
                came_back=frozenset(logs[id_].messages_that_came_back),
            )
            for (
                id_,
                job,
                seq,
                sender,
                to,
                attempts,
                checks,
                mode,
                draft,
                thread,
                since,
                unanswered,
                discarding,
                nothing,
                message_id,
            ) in await cursor.fetchall()
        ]

    async def resolve(self, settled: Resolution) -> WriteResult:
        """Write the result of a check, fenced; what became of it: never `resolved`.

        What is in doubt is repeated.

        Raises:
            DatabaseError: not written; the row is checked again when the lease of the check
            expires.
        """
        written = await self.database.retry_until_committed(
            lambda cursor: self._resolve(cursor, settled),
            what="unconfirmed.settle",
            proof=lambda cursor, _: self._was_resolved(cursor, settled),
            only_in_doubt=True,
        )
        if written is WriteResult.CANCELLED:
            self.replay_log.remember_cancelled(settled.message)
        return written

    async def _resolve(self, cursor: Cursor, it: Resolution) -> WriteResult:
        id_ = it.message.id
        locked = await messages.lock(cursor, [id_])
        logs = await messages.read_log(cursor, [id_]) if it.transition is Transition.MISSING else {}
        row, log = locked.rows.get(id_), logs.get(id_, moves.NO_LOG)
        if row is None or (made := moves.checked(row, log, it, now=locked.now)) is None:
            return WriteResult.STALE
        (now,) = await messages.move(cursor, [made], by=self.daemon_id)
        return WriteResult.CANCELLED if now.status is State.CANCELLED else WriteResult.APPLIED

    async def _was_resolved(self, cursor: Cursor, it: Resolution) -> bool:
        message = it.message
        if it.transition:
            event = it.transition.value
            return await messages.is_logged(
                cursor, message.id, token=message.token, event=event, by=self.daemon_id
            )
        # A check without a result is not in the log. If another daemon has checked since and found
        # the same, the two cannot be distinguished: then both report it, which is better than
        # neither.
        row = (await messages.lock(cursor, [message.id])).rows.get(message.id)
        return row is not None and (row.status, row.checks, row.error) == (
            State.UNSURE,
            message.checks + 1,
            messages.short(it.error),
        )

    async def renew(
        self, held: Iterable[tuple[int, str]], *, lease: timedelta
    ) -> set[tuple[int, str]]:
        """Prolong the leases of (id, token) pairs by the database's clock; the pairs that are still
        held.

        Raises:
            DatabaseError: nothing was prolonged, or in doubt: count on the old end.
        """
        pairs = tuple(held)
        return await self.database.transaction(
            lambda cursor: messages.renew(cursor, pairs, lease=lease), what="leases.renew"
        )

    async def senders_with_drafts(self) -> list[str]:
        """Senders whose mailbox may hold orphan drafts of ours: those with a job of the last two
        days.
        """
        rows = await self.database.read_rows(SENDERS_WITH_DRAFTS, what="drafts.list_senders")
        return [sender for (sender,) in rows]

    async def own_drafts(self, drafts: Sequence[str], *, sender: str) -> set[str]:
        """Those of `drafts` that open rows of this sender know as theirs."""
        rows = await self.database.read_rows(
            _OWN_DRAFTS, (sender, tuple(drafts)), what="drafts.find_own"
        )
        return {draft for (draft,) in rows}

    async def check_again(self, drafts: Collection[str], *, sender: str) -> int:
        """Let the unsure messages of this sender that wait for a person, and own one of `drafts`,
        be checked; how many.

        Their draft was not there when they were checked last, and now it is: one of Google's
        replicas lagged.
        """

        async def work(cursor: Cursor) -> int:
            await cursor.execute(_SELECT_WAITING_FOR_PERSON, (sender, tuple(drafts)))
            if not (ids := tuple(id_ for (id_,) in await cursor.fetchall())):
                return 0
            return await messages.check_again(cursor, ids)

        return await self.database.transaction(work, what="unconfirmed.check_again")

    async def is_orphan(self, *, job: str, seq: int, draft: str) -> bool | None:
        """Whether `draft` of this message is an orphan; None: the message is not in this database.

        While the row is `sending`, its worker may be about to record the draft. In any other state,
        the worker that made a draft that is not on the row has lost the token that it would need to
        record it. Where a person has said that the message is sent, no daemon sends this draft any
        more, but the mailbox's owner might.

        Raises:
            NotReplayedError: the server may have forgotten what its daemon is about to tell it
            again.
        """

        async def work(cursor: Cursor) -> bool | None:
            self.replay_log.require_replayed(cursor)
            await cursor.execute(
                "SELECT status, draft_id, proof FROM job_recipients WHERE job_id = %s AND seq = %s",
                (job, seq),
            )
            if (row := await cursor.fetchone()) is None:
                return None
            status, known, proof = row
            if status in {State.FAILED.value, State.CANCELLED.value} or proof == Proof.PERSON.value:
                return True
            return bool(status != State.SENDING.value and known != draft)

        return await self.database.read(work, what="drafts.find")

    async def undo(self, *, job: str, seq: int, draft: str) -> UndoneSend | None:
        """Take back that a message is sent if `draft`, which is there, disproves it; None: it does
        not.
        """
        return await undo(self.database, job=job, seq=seq, draft=draft, by=self.daemon_id)

    async def unfinished_jobs(self) -> list[str]:
        """Jobs in which nothing is open and that are not completed: their daemon died between the
        two commits.
        """
        rows = await self.database.read_rows(
            UNFINISHED_JOBS, (MAX_FOUND,), what="jobs.find_unfinished"
        )
        return [job for (job,) in rows]

    async def reschedule_stuck_jobs(self) -> list[str]:
        """Reschedule stuck jobs, whose messages wait though no claim would ever find them; the ids
        of these jobs.

        What is in doubt is repeated. All that were found by any try are
        returned: another daemon may have rescheduled one meanwhile, and returns it too.
        """
        woken: set[str] = set()

        async def work(cursor: Cursor) -> list[str]:
            found = await job_changes.stuck_jobs(cursor)
            for job in (await job_changes.lock_jobs(cursor, found)).values():
                await job_changes.wake_job(cursor, job, timedelta(0))
            await sender_changes.wake_senders(cursor, dict.fromkeys(found.values(), timedelta(0)))
            if found:
                await job_changes.write_stuck(cursor, found)
            woken.update(found)
            return sorted(woken)

        if not await self.database.read(job_changes.stuck_jobs, what="jobs.find_stuck"):
            return []
        return await self.database.retry_until_committed(
            work, what="jobs.reschedule_stuck", only_in_doubt=True
        )
