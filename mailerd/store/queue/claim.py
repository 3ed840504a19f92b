"""Claims messages: one short transaction takes due messages, counts the attempt, sets the lease and
debits the limits.

A claim goes in rounds, and a round costs the same few statements however many senders it serves:

    due senders, locked ▶ what each may have ▶ a job of each, and its messages ▶ who pays what

A round gives each sender one turn: messages of one job. Further rounds follow while messages are
wanted and senders are due, so that no sender has a second turn before all have had the first. Locks
are taken in one order: senders, projects, jobs, messages, hours. A claim never waits (SKIP LOCKED):
a locked row is skipped and claimed a moment later.
"""

import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from mailerd.clock import new_id
from mailerd.config import Live
from mailerd.core import rate_limit
from mailerd.core.claims import Claim, ClaimedJob, ClaimedRecipient, Handover
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.queue.failover import NotReplayedError, ReplayLog
from mailerd.store.queue.rate_limits import DefaultLimits, StaleTurns
from mailerd.store.queue.take_messages import (
    ClaimOwner,
    JobSelection,
    as_allowed,
    due_jobs,
    lock_job,
    next_jobs,
    take_message,
    take_messages,
)
from mailerd.store.queue.turns import (
    Turn,
    allocate,
    apply_limits,
    apply_project_limits,
    first_for,
    lock_due,
    lock_one,
    write_turns,
)
from mailerd.store.write import messages, sender_changes
from mailerd.store.write.secrets import AddressDigests, Secrets

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
"""The least messages of one turn, if so many are wanted: each sender and each job costs a lock and
a written row.
"""


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
    """Senders whose project is locked or new: they are due again in a moment, and not in this
    claim.
    """

    @property
    def left(self) -> int:
        return self.want - len(self.messages)

    @property
    def full(self) -> tuple[str, ...]:
        """Senders of which no more may be taken; never empty, as SQL knows no empty list, and no
        address is "".
        """
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
    """The sends of this daemon, replayed to a database that may have lost commits before anything
    is claimed.
    """
    credentials_version: Callable[[], object] = field(default=lambda: None, repr=False)
    """Returns a value that changes when a credential file comes or goes; see `StaleTurns`."""
    _digests: AddressDigests = field(init=False, repr=False)
    _stale_turns: StaleTurns = field(init=False, repr=False)
    _new_projects: set[str] = field(default_factory=set, init=False, repr=False)
    """Projects that the last claims found, and that have no row yet."""

    def __post_init__(self) -> None:
        self._digests = AddressDigests(
            Secrets(self.database, timeout=self.database.probe_timeout, for_messages=True)
        )
        self._stale_turns = StaleTurns(self.database, self.credentials_version)

    async def claim(self, want: int, *, rooms: Mapping[str, int] | None = None) -> Claim:
        """Take at most `want` due messages, turn about between the senders and the jobs of each.

        Of a sender that `rooms` names at most so many are taken. One without room is passed by and
        keeps its turn.

        Raises:
            DatabaseError: nothing was taken, or in doubt; what was taken in doubt comes back when
            its lease lapses.
        """
        await self._stale_turns.reschedule(self.defaults.now)
        await self._digests.load()
        if self._new_projects:
            new, self._new_projects = self._new_projects, set()
            await sender_changes.add_projects(self.database, new)
        return await self._transaction(
            lambda cursor, token: self._claim(
                cursor, token, _ClaimBuilder(want, dict(rooms or {}))
            ),
            what="claims.take",
        )

    async def _transaction(
        self, take: Callable[[Cursor, str], Awaitable[Claim]], *, what: str
    ) -> Claim:
        """Claim under a new token, where the server remembers all that this daemon knows; else
        replay that to it.
        """
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
            # one that owns a draft is remembered from its claim on
            if message.draft_id is not None:
                self.replay_log.remember(Handover(message))
        return claim

    async def due_in(self, *, rooms: Mapping[str, int] | None = None) -> float:
        """Seconds until the next sender's turn, 0 when one is due; infinite when nothing waits
        anywhere.

        Senders of which `rooms` says that none may be taken do not count.

        A single SELECT, for those who expect nothing to be due.
        """
        await self._stale_turns.reschedule(self.defaults.now)
        full = _ClaimBuilder(0, dict(rooms or {})).full
        next_in = await self.database.read(
            lambda cursor: self._due_in(cursor, full),
            what="claims.due_in",
            bound=self.database.probe_timeout,
        )
        return math.inf if next_in is None else next_in

    async def _claim(self, cursor: Cursor, token: str, taken: _ClaimBuilder) -> Claim:
        want, share = taken.want, max(_MIN_SHARE, taken.want // 4)
        for number in range(2 * want):
            senders = min(self._senders(taken.left, share) * (number + 1), _MAX_SENDERS)
            if not await self._round(cursor, token, taken, share=share, senders=senders):
                break
        marked = await as_allowed(cursor, await messages.mark_new(cursor, taken.messages))
        next_in = await self._next_turn(cursor, taken.full) if taken.left else 0.0
        return Claim(
            token,
            tuple(marked),
            tuple(taken.jobs.values()),
            next_in,
            taken.alone,
            exhausted=tuple(taken.exhausted),
        )

    async def claim_alone(self, recipient: int) -> Claim:
        """Take this message, which may have crashed several daemons, and no other; none if it may
        not go now.

        Raises:
            DatabaseError: nothing was taken, or in doubt; what was taken in doubt comes back when
            its lease lapses.
        """
        await self._digests.load()
        return await self._transaction(
            lambda cursor, token: self._claim_alone(cursor, token, recipient),
            what="claims.take_alone",
        )

    async def _claim_alone(self, cursor: Cursor, token: str, recipient: int) -> Claim:
        nothing = Claim(token, (), (), next_in=0.0)
        await cursor.execute(_SENDER_AND_JOB, (recipient,))
        sender, job_id = await cursor.fetchone() or (None, "")
        if sender is None or (turn := await lock_one(cursor, sender, self.defaults.now)) is None:
            return nothing
        await apply_limits(cursor, [turn], share=1, rooms={})
        self._new_projects |= await apply_project_limits(
            cursor, [turn], self.defaults.now.project_units_per_minute
        )
        job = await lock_job(cursor, job_id) if turn.share else None
        if job is None:
            return nothing  # the turn is not written, and so stays as it is
        selection = JobSelection(turn, job)
        await take_message(cursor, selection, self._owner(token), recipient=recipient)
        turn.finish(len(selection.messages), chance=random.random())  # noqa: S311 - jitter
        await write_turns(cursor, [turn])
        marked = await as_allowed(cursor, selection.messages)
        return Claim(token, tuple(marked), (job,) if marked else (), next_in=0.0)

    def _owner(self, token: str) -> ClaimOwner:
        return ClaimOwner(token, self.daemon_id, self.lease, self._digests, self._digests.proof)

    def _senders(self, messages: int, share: int) -> int:
        """How many senders are needed for so many messages, under the default limits and if enough
        is due.
        """
        limits = self.defaults.now.default
        stream = rate_limit.rate(limits)
        at_once = share if stream is None else min(share, stream.tolerance // stream.interval)
        return -(-messages // max(1, 1 if limits.min_gap else at_once))

    async def _round(
        self, cursor: Cursor, token: str, taken: _ClaimBuilder, *, share: int, senders: int
    ) -> bool:
        """Give each of so many due senders a turn; whether another round may find more.

        Those that alone are due share all that is wanted, as no other could have it.
        """
        found = await lock_due(
            cursor, self.defaults.now, senders, but=(*taken.full, *taken.passed_by)
        )
        if 0 < len(found) < senders:
            share = max(share, -(-taken.left // len(found)))
        await apply_limits(cursor, found, share=share, rooms=taken.rooms)
        served = first_for(found, taken.left)
        self._new_projects |= await apply_project_limits(
            cursor, served, self.defaults.now.project_units_per_minute
        )
        taken.passed_by += [turn.sender.email for turn in served if turn.passed_by]
        jobs = await due_jobs(cursor, [turn.sender.email for turn in served if turn.share])
        chosen = [
            JobSelection(turn, job) for turn in served if (job := jobs.get(turn.sender.email))
        ]
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
            # while a project is locked others pass its senders by: no longer than it takes
            return False
        more = (
            len(found) == senders
            or len(served) < len(found)
            or any(turn.due_again for turn in served)
        )
        return bool(taken.left) and more

    async def _wait_for_jobs(
        self, cursor: Cursor, *, idle: Sequence[Turn], short: Sequence[Turn]
    ) -> None:
        """Let senders wait for their next job: the idle have no job that is due, that of the short
        has no more.
        """
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
