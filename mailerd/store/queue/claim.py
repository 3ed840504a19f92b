"""Claims messages: one short transaction takes due messages, counts the attempt, sets the lease and debits the limits.

A claim goes in rounds, and a round costs the same few statements however many senders it serves:

    due senders, locked ▶ what each may have ▶ a job of each, and its messages ▶ who pays what

A round gives each sender one turn: messages of one job. Further rounds follow while messages are wanted and senders are
due, so that no sender has a second turn before all have had the first. Locks are taken in one order: senders,
projects, jobs, messages, hours. A claim never waits (SKIP LOCKED): a locked row is skipped and claimed a moment later.
"""

import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from mailerd.clock import new_id
from mailerd.config import Live
from mailerd.core import rate_limit
from mailerd.core.copies import Copy
from mailerd.core.copies import from_json as copies_of
from mailerd.core.models import ALONE_AFTER, Claim, ClaimedJob, ClaimedRecipient, Handover, SenderState, message_key
from mailerd.core.moves import Row, claimed
from mailerd.core.rate_limit import Budget, SenderLimits
from mailerd.core.reasons import from_row
from mailerd.core.states import State
from mailerd.core.suppression import EVERYTHING
from mailerd.store import job_changes, messages, sender_changes
from mailerd.store.db.connection import Cursor, utc
from mailerd.store.db.database import Database
from mailerd.store.queue import rate_limits
from mailerd.store.queue.failover import NotReplayedError, ReplayLog
from mailerd.store.queue.rate_limits import BUSY, COLUMNS, DefaultLimits, StaleTurns
from mailerd.store.secrets import AddressDigests, Secrets

# The senders' side of a claim: whose turn it is, how much each may have, and what it then pays.
#
# A function here is one statement for all senders, or one for each kind of limit that some of them have.

DUE: Final = f"""
SELECT {COLUMNS} FROM senders FORCE INDEX (next_claim)
 WHERE next_claim_at <= UTC_TIMESTAMP(6)
   AND email NOT IN %s ORDER BY next_claim_at, email LIMIT %s FOR UPDATE SKIP LOCKED"""

_WAIT_WHEN_FULL: Final = timedelta(milliseconds=500)
"""How long a sender rests that has as many messages in flight as Google allows it."""
_PROJECT_JITTER: Final = timedelta(milliseconds=1)
"""All senders of a project that is used up are due in the same microsecond, and those that are due together are served
by their names: without a jitter the first of them would get all that the project may send."""


@dataclass
class ProjectBudget:
    """A project inside one claim: its senders draw on it together."""

    name: str
    limit: int
    """The units of the project in a minute."""
    tat: datetime | None
    """The theoretical arrival time of the project, with what was paid in this claim."""
    promised: datetime | None
    """The arrival time if every sender took as much as it may."""
    latency: float

    def budget(self, turn: "Turn") -> Budget:
        """What is left when all that was promised is taken."""
        return rate_limit.project(
            self.limit, tat=self.promised, now=turn.now, units=turn.sender.units, latency=self.latency
        )

    def promise(self, turn: "Turn") -> None:
        """Put the turn's share aside."""
        self.promised = self._after(self.promised, turn, turn.share)

    def pay(self, turn: "Turn") -> None:
        """Debit what the turn took."""
        self.tat = self._after(self.tat, turn, turn.taken)

    def _after(self, tat: datetime | None, turn: "Turn", messages: int) -> datetime | None:
        return rate_limit.project_debit(
            self.limit, tat=tat, now=turn.now, units=messages * turn.sender.units, latency=self.latency
        )


@dataclass
class Turn:
    """A sender's turn inside one claim; what changes in it is written at its end."""

    sender: SenderState
    allowance: SenderLimits
    tat: datetime | None
    gap_until: datetime | None
    share: int = 0
    """How many messages the sender may have."""
    taken: int = 0
    """How many messages the sender got."""
    copies: int = 0
    """What their copies cost of its day, beside one each."""
    hours: Mapping[datetime, int] = field(default_factory=dict)
    """What its day has counted before, by hour, where the day has a limit."""
    left: int | None = None
    """What is left of its day; None: the day has no limit."""
    too_dear: int = 0
    """What the next message costs, where no more is left for it: none of those behind it goes before it."""
    next_at: datetime | None = None
    """When its next turn is; None: no message of it waits."""
    project: ProjectBudget | None = None
    """Its project, if that has a limit."""
    passed_by: bool = False
    """Its project has a limit, and is locked or has no row yet."""

    @property
    def now(self) -> datetime:
        """When it began, by the database's clock."""
        return self.sender.now

    @property
    def hour(self) -> datetime:
        """The hour of the sender's day that its messages are debited to."""
        return self.now.replace(minute=0, second=0, microsecond=0)

    @property
    def probing(self) -> bool:
        """Whether no message went well since a pause."""
        return self.sender.pause_cause is not None

    @property
    def due_again(self) -> bool:
        """Whether another turn may follow at once."""
        return self.next_at is not None and self.next_at <= self.now

    def minute(self) -> Budget:
        """How many messages the minute allows."""
        return rate_limit.minute(self.allowance, tat=self.tat, now=self.now, units=self.sender.units)

    def cap(self, budget: Budget) -> None:
        """Limit the share to this budget; the first limit that allows nothing says when the next turn is."""
        if not self.share or budget.messages is None:
            return
        self.share = min(self.share, budget.messages)
        if not self.share:
            self.next_at = budget.next_at

    def project_budget(self) -> Budget:
        """What its project has left. When there is more, any of its senders is as likely to be the first as another."""
        if self.project is None:
            return Budget(messages=None, next_at=None)
        left = self.project.budget(self)
        jitter = _PROJECT_JITTER * random.random()  # noqa: S311 - jitter
        return Budget(left.messages, left.next_at and left.next_at + jitter)

    def take(self, copies: int) -> bool:
        """Take a message whose copies cost so much beside it off what is left of the day; whether that has room."""
        if self.too_dear or (self.left is not None and self.left <= copies):
            self.too_dear = self.too_dear or 1 + copies
            return False
        if self.left is not None:
            self.left -= 1 + copies
        self.copies += copies
        return True

    def wait_for_job(self, due: datetime | None) -> None:
        """End the turn without a job; `due`: when the first of its jobs is due, if there are any."""
        self.next_at = due and max(due, self.now + BUSY)

    def follow_job(self, due: datetime | None) -> None:
        """Put the next turn off to when the first of its jobs is due; without any it ends, and a new job begins one."""
        if self.next_at is not None:
            self.next_at = due and max(due, self.next_at)

    def finish(self, messages: int, *, chance: float) -> None:
        """End the turn with so many messages: debit them, and set the next turn. `chance` (0 to 1) is for jitter."""
        if not self.share:
            return
        self.taken = messages
        self.tat = rate_limit.debit(
            self.allowance, tat=self.tat, now=self.now, messages=messages, units=self.sender.units
        )
        if messages:
            self.gap_until = rate_limit.gap(self.allowance, now=self.now, chance=chance)
        self.next_at = max(self.gap_until or self.now, self.now)
        if messages and self.probing:
            self.next_at = max(self.next_at, self.now + rate_limit.PROBE_INTERVAL)
        # The project's too, or a sender that was served would be due before those that were not.
        for budget in (self.minute(), self.project_budget()):
            if budget.messages == 0 and budget.next_at:
                self.next_at = max(self.next_at, budget.next_at)
        if self.too_dear:
            hours = {**self.hours, self.hour: self.hours.get(self.hour, 0) + messages + self.copies}
            room = rate_limit.day(self.allowance, hours=hours, now=self.now, cost=self.too_dear)
            self.next_at = max(self.next_at, room.next_at or self.next_at)
        if self.project:
            self.project.pay(self)


async def lock_due(cursor: Cursor, defaults: DefaultLimits, limit: int, *, but: Sequence[str]) -> list[Turn]:
    """The turns of the senders that have waited longest, at most so many, each locked; none of those in `but`."""
    await cursor.execute(DUE, (tuple(but), limit))
    states = [rate_limits.sender_state(row, defaults) for row in await cursor.fetchall()]
    return [Turn(it, it.allowance, it.tat, it.gap_until) for it in states]


async def lock_one(cursor: Cursor, sender: str, defaults: DefaultLimits) -> Turn | None:
    """The turn of this sender, due or not, locked; None if another transaction holds it."""
    it = await rate_limits.lock_sender(cursor, sender, defaults, wait=False)
    return Turn(it, it.allowance, it.tat, it.gap_until) if it else None


async def apply_limits(cursor: Cursor, turns: Sequence[Turn], *, share: int, rooms: Mapping[str, int]) -> None:
    """Set how many of `share` messages each sender may have, by its own limits and by its room."""
    for turn in turns:
        turn.share = 1 if turn.probing or turn.allowance.min_gap else min(share, rooms.get(turn.sender.email, share))
        if turn.sender.paused:
            turn.cap(Budget(messages=0, next_at=turn.sender.paused_until))
        turn.cap(turn.minute())
        if turn.gap_until and turn.gap_until > turn.now:
            turn.cap(Budget(messages=0, next_at=turn.gap_until))
    await _allow_day(cursor, [turn for turn in turns if turn.share and turn.allowance.per_day])
    await _allow_concurrency(cursor, [turn for turn in turns if turn.share and turn.sender.concurrency is not None])


async def _allow_day(cursor: Cursor, turns: Sequence[Turn]) -> None:
    if not turns:
        return
    hours = await rate_limits.sent_by_hour(cursor, [turn.sender.email for turn in turns], now=turns[0].now)
    for turn in turns:
        turn.hours = hours[turn.sender.email]
        budget = rate_limit.day(turn.allowance, hours=turn.hours, now=turn.now)
        turn.left = budget.messages
        turn.cap(budget)


async def _allow_concurrency(cursor: Cursor, turns: Sequence[Turn]) -> None:
    if not turns:
        return
    in_flight_by_sender = await sender_changes.in_flight_by_sender(cursor, [turn.sender.email for turn in turns])
    for turn in turns:
        free = max(0, (turn.sender.concurrency or 0) - in_flight_by_sender[turn.sender.email])
        turn.cap(Budget(messages=free, next_at=turn.now + _WAIT_WHEN_FULL))


def first_for(turns: Sequence[Turn], want: int) -> Sequence[Turn]:
    """The first turns, as many as are needed for so many messages; the others stay as they are."""
    promised = 0
    for number, turn in enumerate(turns):
        promised += turn.share
        if promised >= want:
            return turns[: number + 1]
    return turns


async def apply_project_limits(cursor: Cursor, turns: Sequence[Turn], limit: int) -> set[str]:
    """Lock the projects that have a limit; a sender whose project has nothing left has to wait.

    So has one whose project is locked by another transaction, or has no row yet; returns these new projects. A sender
    without a limit of units is not counted at all, neither for itself nor for its project.
    """
    counted = [
        turn for turn in turns if limit and turn.share and turn.allowance.units_per_minute and turn.sender.project
    ]
    if not counted:
        return set()
    found, new = await rate_limits.lock_projects(cursor, [turn.sender.project or "" for turn in counted])
    budgets = {
        name: ProjectBudget(name, limit, it.tat, promised=it.tat, latency=it.latency) for name, it in found.items()
    }
    for turn in counted:
        turn.project = budgets.get(turn.sender.project or "")
        turn.passed_by = turn.project is None
        turn.cap(turn.project_budget() if turn.project else Budget(messages=0, next_at=turn.now + BUSY))
    return new


def allocate(turns: Sequence[Turn], want: int) -> None:
    """Divide the wanted messages, and what the projects have left, between turns that have a job, in their order."""
    for turn in turns:
        turn.share = min(turn.share, want)
        if turn.project:
            turn.cap(turn.project_budget())
            turn.project.promise(turn)
        want -= turn.share


async def write_turns(cursor: Cursor, turns: Sequence[Turn]) -> None:
    """Debit the taken messages, and write the next turn of each sender."""
    paid = [turn for turn in turns if turn.taken]
    debits = [(turn.sender.email, turn.hour, turn.taken, turn.copies) for turn in paid]
    await sender_changes.debit_hours(cursor, debits)
    if tats := {turn.project.name: turn.project.tat for turn in paid if turn.project}:
        await sender_changes.set_project_tats(cursor, tats)
    await sender_changes.end_turns(
        cursor, [(turn.sender.email, turn.next_at, turn.tat, turn.gap_until, turn.now) for turn in turns]
    )


# The messages' side of a claim: a job of each sender, the messages of each job, and the statement that takes them.
#
# What has to be found for each sender or each job apart is one UNION ALL of SELECTs that each read their index from one
# end and stop: as exact as one by one, in one round trip. Each locks the rows that it returns and no others.

_JOB_COLUMNS: Final = """sender_email, id, type, total, TIMESTAMPDIFF(MICROSECOND, send_at, UTC_TIMESTAMP(6)),
       started_at IS NOT NULL, list_id, override_suppression, copy_list"""
_SELECT_MESSAGES: Final = """
SELECT job_id, id, seq, to_email, to_name, variables, headers, copies, copy_list, attempts, draft_id, thread_id,
       unanswered, checks, error, error_code, error_args
  FROM job_recipients"""
JOB: Final = f"""
(SELECT {_JOB_COLUMNS} FROM jobs FORCE INDEX (next_claim)
 WHERE sender_email = %s AND claimable = 1 AND next_claim_at <= UTC_TIMESTAMP(6)
 ORDER BY precedence, next_claim_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)"""

ROWS: Final = f"""
({_SELECT_MESSAGES} FORCE INDEX (claim)
  WHERE job_id = %s AND status = %s AND due_at <= UTC_TIMESTAMP(6) AND crashes < {ALONE_AFTER}
  ORDER BY due_at, id LIMIT %s FOR UPDATE SKIP LOCKED)"""
# What may have crashed several daemons, and is claimed by itself.
_SELECT_ALONE: Final = f"""{_SELECT_MESSAGES} FORCE INDEX (PRIMARY)
 WHERE id = %s AND status = %s AND due_at <= UTC_TIMESTAMP(6) AND crashes >= {ALONE_AFTER} FOR UPDATE SKIP LOCKED"""
_LOCK_JOB: Final = f"""
SELECT {_JOB_COLUMNS} FROM jobs FORCE INDEX (PRIMARY) WHERE id = %s AND claimable = 1 FOR UPDATE SKIP LOCKED"""

NEXT_ROW: Final = """
(SELECT job_id, due_at, id, crashes FROM job_recipients FORCE INDEX (claim)
  WHERE job_id = %s AND status = %s ORDER BY due_at, id LIMIT 1)"""
NEXT_JOBS: Final = """
SELECT sender_email, MIN(next_claim_at) FROM jobs FORCE INDEX (next_claim)
 WHERE sender_email IN %s AND claimable = 1 GROUP BY sender_email"""


_ALONE_DELAY: Final = timedelta(seconds=1)
"""How long a job waits whose due messages must all be sent alone, so that claims do not try it all the time."""


@dataclass(frozen=True)
class ClaimOwner:
    """Who takes messages."""

    token: str
    daemon_id: str
    lease: timedelta
    digest: Callable[[str], bytes]
    """Makes the digest of an address, which stands for it in the table of suppressions."""
    proof: Callable[[str], str]
    """Makes the proof of a message from its key, by which a returned message is recognized."""


@dataclass
class JobSelection:
    """The job from which a sender's turn is served, and the messages that it gave."""

    turn: Turn
    job: ClaimedJob
    messages: list[ClaimedRecipient] = field(default_factory=list)
    alone: int | None = None
    """A recipient of this job that is due and was not taken, since it is to be claimed alone."""
    short: bool = False
    """Whether the job gave fewer messages than it might."""
    exhausted: bool = False
    """Whether no message of this job waits any more, and none was taken."""


async def due_jobs(cursor: Cursor, senders: Sequence[str]) -> dict[str, ClaimedJob]:
    """For each sender the due job whose turn it is, locked."""
    if not senders:
        return {}
    await cursor.execute(union_all(JOB, len(senders)), senders)
    return {job.sender: job for job in map(_job, await cursor.fetchall())}


async def lock_job(cursor: Cursor, id_: str) -> ClaimedJob | None:
    """One job, locked; None if it may not be claimed from, or another transaction holds it."""
    await cursor.execute(_LOCK_JOB, (id_,))
    row = await cursor.fetchone()
    return _job(row) if row else None


def _job(row: Sequence[Any]) -> ClaimedJob:
    sender, id_, type_, total, age, begun, list_id, overrides, copy_list = row
    return ClaimedJob(
        id=id_, type=type_, sender=sender, total=total, age=age / 1e6, begun=bool(begun),
        list_id=list_id or EVERYTHING, overrides=bool(overrides), copy_list=copy_list,
    )  # fmt: skip


async def next_jobs(cursor: Cursor, senders: Sequence[str]) -> dict[str, datetime | None]:
    """When the first job of each sender is due; nothing for those that have none."""
    if not senders:
        return {}
    await cursor.execute(NEXT_JOBS, (tuple(senders),))
    return {sender: utc(due) for sender, due in await cursor.fetchall()}


async def take_messages(cursor: Cursor, selections: Sequence[JobSelection], owner: ClaimOwner) -> None:
    """Take of each job as many messages as its sender's turn may have."""
    if not selections:
        return
    asked = [
        value for selection in selections for value in (selection.job.id, State.WAITING.value, selection.turn.share)
    ]
    await cursor.execute(union_all(ROWS, len(selections)), asked)
    await _take(cursor, selections, owner)


async def take_message(cursor: Cursor, selection: JobSelection, owner: ClaimOwner, *, recipient: int) -> None:
    """Take this message of the job, and no other."""
    await cursor.execute(_SELECT_ALONE, (recipient, State.WAITING.value))
    await _take(cursor, [selection], owner)


async def _take(cursor: Cursor, selections: Sequence[JobSelection], owner: ClaimOwner) -> None:
    """Take the rows that were found, as far as the senders' days have room, and end the turns of their jobs."""
    rows = await cursor.fetchall()
    found: dict[str, int] = {selection.job.id: 0 for selection in selections}
    by_job = {selection.job.id: selection for selection in selections}
    made = []
    for lock_job, id_, seq, to, name, variables, headers, cost, own, *of_attempts in rows:
        attempts, draft, thread, unanswered, checks, *error = of_attempts
        found[lock_job] += 1
        selection = by_job[lock_job]
        if not selection.turn.take(cost):
            continue
        row = Row(
            id_, lock_job, seq, to, State.WAITING, attempts=attempts, draft_id=draft, thread_id=thread,
            unanswered=unanswered, checks=checks, error=from_row(*error), copies=cost,
        )  # fmt: skip
        sender, now = selection.turn.sender.email, selection.turn.now
        move = claimed(row, token=owner.token, daemon=owner.daemon_id, until=now + owner.lease, now=now, sender=sender)
        made.append(move)
        message = _message(move.after, name, variables, selection, owner)
        if headers:
            message = replace(message, headers=headers)
        if cost or own or selection.job.copy_list:
            message = replace(message, copies=_copies(own, selection.job, owner), copies_cost=cost)
        selection.messages.append(message)
    await messages.move(cursor, made, by=owner.daemon_id)
    for selection in selections:
        selection.short = found[selection.job.id] < selection.turn.share
    await _end_jobs(cursor, selections, short=[selection.job.id for selection in selections if selection.short])


async def _end_jobs(cursor: Cursor, selections: Sequence[JobSelection], *, short: Sequence[str]) -> None:
    """Set the next turn of each job: now, or, for a job that gave fewer than it might, when its next message is due."""
    next_at: dict[str, datetime | None] = {selection.job.id: selection.turn.now for selection in selections}
    if short:
        asked = [value for lock_job in short for value in (lock_job, State.WAITING.value)]
        await cursor.execute(union_all(NEXT_ROW, len(short)), asked)
        next_at |= dict.fromkeys(short)
        by_job = {selection.job.id: selection for selection in selections}
        for lock_job, due_at, id_, crashes in await cursor.fetchall():
            next_at[lock_job] = utc(due_at)
            now = by_job[lock_job].turn.now
            if crashes >= ALONE_AFTER and utc(due_at) <= now:
                by_job[lock_job].alone = id_
                next_at[lock_job] = now + _ALONE_DELAY
    for selection in selections:
        selection.exhausted = next_at[selection.job.id] is None and not selection.messages
    began = [selection.job.id for selection in selections if selection.messages]
    await job_changes.end_turns(cursor, next_at, began=began)


def _message(
    row: Row, name: str | None, variables: str | None, selection: JobSelection, owner: ClaimOwner
) -> ClaimedRecipient:
    turn = selection.turn
    return ClaimedRecipient(
        id=row.id, job_id=row.job_id, seq=row.seq, sender=turn.sender.email, to_email=row.to_email, to_name=name,
        variables=variables, attempt=row.attempts, token=owner.token, draft_id=row.draft_id, thread_id=row.thread_id,
        unanswered=bool(row.unanswered), checks=row.checks, error=row.error, pauses=turn.sender.pauses,
        probing=turn.probing, sender_mode=turn.sender.mode, sender_project=turn.sender.project,
        latency_threshold=turn.sender.latency_threshold, hour=turn.hour, digest=owner.digest(row.to_email),
        proof=owner.proof(message_key(row.job_id, row.seq)), list_id=selection.job.list_id,
        overrides=selection.job.overrides,
    )  # fmt: skip


def _copies(own: str | None, job: ClaimedJob, owner: ClaimOwner) -> tuple[Copy, ...]:
    copies = copies_of(job.copy_list if own is None else own)
    return tuple(it._replace(digest=owner.digest(it.email)) for it in copies)


def union_all(select: str, number: int) -> str:
    """So many of one SELECT, which stands in brackets, as one statement."""
    return " UNION ALL ".join([select] * number)


async def _as_allowed(cursor: Cursor, claimed_: Sequence[ClaimedRecipient]) -> list[ClaimedRecipient]:
    """The messages with what their suppressions say; one without a draft is made without the copies that may not go."""
    marked = await messages.mark_suppressed(cursor, claimed_)
    return [it.without_draft() if it.barred and it.draft_id is None else it for it in marked]


# Not IS NOT NULL: MySQL 8 then reads every idle sender first.
NEXT: Final = """
SELECT TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), next_claim_at) FROM senders FORCE INDEX (next_claim)
 WHERE next_claim_at > '1970-01-01' AND email NOT IN %s ORDER BY next_claim_at LIMIT 1"""
_SENDER_AND_JOB: Final = """
SELECT j.sender_email, j.id FROM job_recipients r FORCE INDEX (PRIMARY) JOIN jobs j ON j.id = r.job_id
 WHERE r.id = %s AND r.status = 'waiting' AND j.claimable = 1"""
_REPLAY_INTERVAL: Final = 0.25
"""Seconds between two checks whether every daemon has replayed its sends to a new server."""
_MIN_SHARE: Final = 10
"""The least messages of one turn, if so many are wanted: each sender and each job costs a lock and a written row."""
_MAX_SENDERS: Final = 100
"""The most senders of one round: it keeps every statement below some tens of KB."""


@dataclass
class _ClaimBuilder:
    """What a claim has taken so far."""

    want: int
    rooms: dict[str, int]
    """How many more messages may be taken of each sender that has a bound; the others have none."""
    messages: list[ClaimedRecipient] = field(default_factory=list)
    jobs: dict[str, ClaimedJob] = field(default_factory=dict)
    alone: int | None = None
    exhausted: list[str] = field(default_factory=list)
    passed_by: list[str] = field(default_factory=list)
    """Senders whose project is locked or new: they are due again in a moment, and not in this claim."""

    @property
    def left(self) -> int:
        return self.want - len(self.messages)

    @property
    def full(self) -> tuple[str, ...]:
        """Senders of which no more may be taken; never empty, as SQL knows no empty list, and no address is ""."""
        return "", *(sender for sender, room in self.rooms.items() if room <= 0)

    def add(self, selection: JobSelection) -> None:
        self.messages += selection.messages
        if (sender := selection.turn.sender.email) in self.rooms:
            self.rooms[sender] -= len(selection.messages)
        self.alone = self.alone or selection.alone
        if selection.messages:
            self.jobs[selection.job.id] = selection.job
        if selection.exhausted:
            self.exhausted.append(selection.job.id)


@dataclass
class Claims:
    """Takes messages for one daemon."""

    database: Database
    daemon_id: str
    lease: timedelta
    defaults: Live[DefaultLimits]
    """The limits of senders that have none of their own."""
    replay_log: ReplayLog = field(repr=False)
    """The sends of this daemon, replayed to a database that may have lost commits before anything is claimed."""
    credentials_version: Callable[[], object] = field(default=lambda: None, repr=False)
    """Returns a value that changes when a credential file comes or goes; see `StaleTurns`."""
    _digests: AddressDigests = field(init=False, repr=False)
    _stale_turns: StaleTurns = field(init=False, repr=False)
    _new_projects: set[str] = field(default_factory=set, init=False, repr=False)
    """Projects that the last claims found, and that have no row yet."""

    def __post_init__(self) -> None:
        self._digests = AddressDigests(Secrets(self.database, timeout=self.database.probe_timeout, for_messages=True))
        self._stale_turns = StaleTurns(self.database, self.credentials_version)

    async def claim(self, want: int, *, rooms: Mapping[str, int] | None = None) -> Claim:
        """Take at most `want` due messages, turn about between the senders and the jobs of each.

        Of a sender that `rooms` names at most so many are taken. One without room is passed by and keeps its turn.

        Raises:
            DatabaseError: nothing was taken, or in doubt; what was taken in doubt comes back when its lease lapses.
        """
        await self._stale_turns.reschedule(self.defaults.now)
        await self._digests.load()
        if self._new_projects:
            new, self._new_projects = self._new_projects, set()
            await sender_changes.add_projects(self.database, new)
        return await self._transaction(
            lambda cursor, token: self._claim(cursor, token, _ClaimBuilder(want, dict(rooms or {}))), what="claims.take"
        )

    async def _transaction(self, take: Callable[[Cursor, str], Awaitable[Claim]], *, what: str) -> Claim:
        """Claim under a new token, where the server remembers all that this daemon knows; else replay that to it."""
        token = new_id()

        async def work(cursor: Cursor) -> Claim:
            self.replay_log.require_replayed(cursor)
            claim = await take(cursor, token)
            await self.replay_log.check_claimed(cursor, claim.messages)
            return claim

        try:
            claim = await self.database.transaction(work, what=what)
        except NotReplayedError as error:
            await self.replay_log.meet(error.server)
            return Claim(token, (), (), _REPLAY_INTERVAL)
        for message in claim.messages:
            if message.draft_id is not None:  # one that owns a draft is remembered from its claim on
                self.replay_log.remember(Handover(message))
        return claim

    async def due_in(self, *, rooms: Mapping[str, int] | None = None) -> float:
        """Seconds until the next sender's turn, 0 when one is due; infinite when nothing waits anywhere.

        Senders of which `rooms` says that none may be taken do not count.

        A single SELECT, for those who expect nothing to be due.
        """
        await self._stale_turns.reschedule(self.defaults.now)
        full = _ClaimBuilder(0, dict(rooms or {})).full
        next_in = await self.database.read(
            lambda cursor: self._due_in(cursor, full), what="claims.due_in", bound=self.database.probe_timeout
        )
        return math.inf if next_in is None else next_in

    async def _claim(self, cursor: Cursor, token: str, taken: _ClaimBuilder) -> Claim:
        want, share = taken.want, max(_MIN_SHARE, taken.want // 4)
        for number in range(2 * want):
            senders = min(self._senders(taken.left, share) * (number + 1), _MAX_SENDERS)
            if not await self._round(cursor, token, taken, share=share, senders=senders):
                break
        marked = await _as_allowed(cursor, await messages.mark_new(cursor, taken.messages))
        next_in = await self._next_turn(cursor, taken.full) if taken.left else 0.0
        return Claim(
            token, tuple(marked), tuple(taken.jobs.values()), next_in, taken.alone, exhausted=tuple(taken.exhausted)
        )

    async def claim_alone(self, recipient: int) -> Claim:
        """Take this message, which may have crashed several daemons, and no other; none if it may not go now.

        Raises:
            DatabaseError: nothing was taken, or in doubt; what was taken in doubt comes back when its lease lapses.
        """
        await self._digests.load()
        return await self._transaction(
            lambda cursor, token: self._claim_alone(cursor, token, recipient), what="claims.take_alone"
        )

    async def _claim_alone(self, cursor: Cursor, token: str, recipient: int) -> Claim:
        nothing = Claim(token, (), (), next_in=0.0)
        await cursor.execute(_SENDER_AND_JOB, (recipient,))
        sender, job_id = await cursor.fetchone() or (None, "")
        if sender is None or (turn := await lock_one(cursor, sender, self.defaults.now)) is None:
            return nothing
        await apply_limits(cursor, [turn], share=1, rooms={})
        self._new_projects |= await apply_project_limits(cursor, [turn], self.defaults.now.project_units_per_minute)
        job = await lock_job(cursor, job_id) if turn.share else None
        if job is None:
            return nothing  # the turn is not written, and so stays as it is
        selection = JobSelection(turn, job)
        await take_message(cursor, selection, self._owner(token), recipient=recipient)
        turn.finish(len(selection.messages), chance=random.random())  # noqa: S311 - jitter
        await write_turns(cursor, [turn])
        marked = await _as_allowed(cursor, selection.messages)
        return Claim(token, tuple(marked), (job,) if marked else (), next_in=0.0)

    def _owner(self, token: str) -> ClaimOwner:
        return ClaimOwner(token, self.daemon_id, self.lease, self._digests, self._digests.proof)

    def _senders(self, messages: int, share: int) -> int:
        """How many senders are needed for so many messages, under the default limits and if enough is due."""
        limits = self.defaults.now.default
        stream = rate_limit.rate(limits)
        at_once = share if stream is None else min(share, stream.tolerance // stream.interval)
        return -(-messages // max(1, 1 if limits.min_gap else at_once))

    async def _round(self, cursor: Cursor, token: str, taken: _ClaimBuilder, *, share: int, senders: int) -> bool:
        """Give each of so many due senders a turn; whether another round may find more.

        Those that alone are due share all that is wanted, as no other could have it.
        """
        found = await lock_due(cursor, self.defaults.now, senders, but=(*taken.full, *taken.passed_by))
        if 0 < len(found) < senders:
            share = max(share, -(-taken.left // len(found)))
        await apply_limits(cursor, found, share=share, rooms=taken.rooms)
        served = first_for(found, taken.left)
        self._new_projects |= await apply_project_limits(cursor, served, self.defaults.now.project_units_per_minute)
        taken.passed_by += [turn.sender.email for turn in served if turn.passed_by]
        jobs = await due_jobs(cursor, [turn.sender.email for turn in served if turn.share])
        chosen = [JobSelection(turn, job) for turn in served if (job := jobs.get(turn.sender.email))]
        allocate([selection.turn for selection in chosen], taken.left)
        await take_messages(cursor, [one for one in chosen if one.turn.share], self._owner(token))
        for selection in chosen:
            selection.turn.finish(len(selection.messages), chance=random.random())  # noqa: S311 - jitter
            taken.add(selection)
        await self._wait_for_jobs(
            cursor,
            idle=[turn for turn in served if turn.share and turn.sender.email not in jobs],
            short=[selection.turn for selection in chosen if selection.short],
        )
        await write_turns(cursor, served)
        if any(turn.project for turn in served):
            return False  # while a project is locked others pass its senders by: no longer than it takes
        more = len(found) == senders or len(served) < len(found) or any(turn.due_again for turn in served)
        return bool(taken.left) and more

    async def _wait_for_jobs(self, cursor: Cursor, *, idle: Sequence[Turn], short: Sequence[Turn]) -> None:
        """Let senders wait for their next job: the idle have no job that is due, that of the short has no more."""
        due = await next_jobs(cursor, [turn.sender.email for turn in (*idle, *short)])
        for turn in idle:
            turn.wait_for_job(due.get(turn.sender.email))
        for turn in short:
            turn.follow_job(due.get(turn.sender.email))

    async def _due_in(self, cursor: Cursor, full: Sequence[str]) -> float | None:
        if not self.replay_log.is_replayed(cursor):
            return 0.0  # the claim that follows replays the sends, whether or not a message is due
        return await self._next_turn(cursor, full)

    async def _next_turn(self, cursor: Cursor, full: Sequence[str]) -> float | None:
        micros = await cursor.fetch_value(NEXT, (full,))
        return None if micros is None else max(0.0, micros / 1e6)
