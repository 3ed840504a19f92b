"""The senders' side of a claim: whose turn it is, how much each may have, and what it then pays.

A function here is one statement for all senders, or one for each kind of limit that some of them
have.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from mailerd.core import rate_limit
from mailerd.core.rate_limit import Budget, SenderLimits
from mailerd.core.sender_state import SenderState
from mailerd.store.db.connection import Cursor
from mailerd.store.queue import rate_limits
from mailerd.store.queue.rate_limits import BUSY, COLUMNS, DefaultLimits
from mailerd.store.write import sender_changes

DUE: Final = f"""
SELECT {COLUMNS} FROM senders FORCE INDEX (next_claim)
 WHERE next_claim_at <= UTC_TIMESTAMP(6)
   AND email NOT IN %s ORDER BY next_claim_at, email LIMIT %s FOR UPDATE SKIP LOCKED"""


_WAIT_WHEN_FULL: Final = timedelta(milliseconds=500)
"""How long a sender rests that has as many messages in flight as Google allows it."""


_PROJECT_JITTER: Final = timedelta(milliseconds=1)
"""All senders of a project that is used up are due in the same microsecond, and those that are due
together are served by their names: without a jitter the first of them would get all that the
project may send.
"""


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
            self.limit,
            tat=self.promised,
            now=turn.now,
            units=turn.sender.units,
            latency=self.latency,
        )

    def promise(self, turn: "Turn") -> None:
        """Put the turn's share aside."""
        self.promised = self._after(self.promised, turn, turn.share)

    def pay(self, turn: "Turn") -> None:
        """Debit what the turn took."""
        self.tat = self._after(self.tat, turn, turn.taken)

    def _after(self, tat: datetime | None, turn: "Turn", messages: int) -> datetime | None:
        return rate_limit.project_debit(
            self.limit,
            tat=tat,
            now=turn.now,
            units=messages * turn.sender.units,
            latency=self.latency,
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
    """What the next message costs, where no more is left for it: none of those behind it goes
    before it.
    """
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
        return rate_limit.minute(
            self.allowance, tat=self.tat, now=self.now, units=self.sender.units
        )

    def cap(self, budget: Budget) -> None:
        """Limit the share to this budget; the first limit that allows nothing says when the next
        turn is.
        """
        if not self.share or budget.messages is None:
            return
        self.share = min(self.share, budget.messages)
        if not self.share:
            self.next_at = budget.next_at

    def project_budget(self) -> Budget:
        """What its project has left.

        When there is more, any of its senders is as likely to be the first as another.
        """
        if self.project is None:
            return Budget(messages=None, next_at=None)
        left = self.project.budget(self)
        jitter = _PROJECT_JITTER * random.random()  # noqa: S311 - jitter
        return Budget(left.messages, left.next_at and left.next_at + jitter)

    def take(self, copies: int) -> bool:
        """Take a message whose copies cost so much beside it off what is left of the day; whether
        that has room.
        """
        if self.too_dear or (self.left is not None and self.left <= copies):
            self.too_dear = self.too_dear or 1 + copies
            return False
        if self.left is not None:
            self.left -= 1 + copies
        self.copies += copies
        return True

    def wait_for_job(self, due: datetime | None) -> None:
        """End the turn without a job; `due`: when the first of its jobs is due, if there are
        any.
        """
        self.next_at = due and max(due, self.now + BUSY)

    def follow_job(self, due: datetime | None) -> None:
        """Put the next turn off to when the first of its jobs is due; without any it ends, and a
        new job begins one.
        """
        if self.next_at is not None:
            self.next_at = due and max(due, self.next_at)

    def finish(self, messages: int, *, chance: float) -> None:
        """End the turn with so many messages: debit them, and set the next turn.

        `chance` (0 to 1) is for jitter.
        """
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


async def lock_due(
    cursor: Cursor, defaults: DefaultLimits, limit: int, *, but: Sequence[str]
) -> list[Turn]:
    """The turns of the senders that have waited longest, at most so many, each locked; none of
    those in `but`.
    """
    await cursor.execute(DUE, (tuple(but), limit))
    states = [rate_limits.sender_state(row, defaults) for row in await cursor.fetchall()]
    return [Turn(it, it.allowance, it.tat, it.gap_until) for it in states]


async def lock_one(cursor: Cursor, sender: str, defaults: DefaultLimits) -> Turn | None:
    """The turn of this sender, due or not, locked; None if another transaction holds it."""
    it = await rate_limits.lock_sender(cursor, sender, defaults, wait=False)
    return Turn(it, it.allowance, it.tat, it.gap_until) if it else None


async def apply_limits(
    cursor: Cursor, turns: Sequence[Turn], *, share: int, rooms: Mapping[str, int]
) -> None:
    """Set how many of `share` messages each sender may have, by its own limits and by its room."""
    for turn in turns:
        turn.share = (
            1
            if turn.probing or turn.allowance.min_gap
            else min(share, rooms.get(turn.sender.email, share))
        )
        if turn.sender.paused:
            turn.cap(Budget(messages=0, next_at=turn.sender.paused_until))
        turn.cap(turn.minute())
        if turn.gap_until and turn.gap_until > turn.now:
            turn.cap(Budget(messages=0, next_at=turn.gap_until))
    await _allow_day(cursor, [turn for turn in turns if turn.share and turn.allowance.per_day])
    await _allow_concurrency(
        cursor, [turn for turn in turns if turn.share and turn.sender.concurrency is not None]
    )


async def _allow_day(cursor: Cursor, turns: Sequence[Turn]) -> None:
    if not turns:
        return
    hours = await rate_limits.sent_by_hour(
        cursor, [turn.sender.email for turn in turns], now=turns[0].now
    )
    for turn in turns:
        turn.hours = hours[turn.sender.email]
        budget = rate_limit.day(turn.allowance, hours=turn.hours, now=turn.now)
        turn.left = budget.messages
        turn.cap(budget)


async def _allow_concurrency(cursor: Cursor, turns: Sequence[Turn]) -> None:
    if not turns:
        return
    in_flight_by_sender = await sender_changes.in_flight_by_sender(
        cursor, [turn.sender.email for turn in turns]
    )
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

    So has one whose project is locked by another transaction, or has no row yet; returns these new
    projects. A sender without a limit of units is not counted at all, neither for itself nor for
    its project.
    """
    counted = [
        turn
        for turn in turns
        if limit and turn.share and turn.allowance.units_per_minute and turn.sender.project
    ]
    if not counted:
        return set()
    found, new = await rate_limits.lock_projects(
        cursor, [turn.sender.project or "" for turn in counted]
    )
    budgets = {
        name: ProjectBudget(name, limit, it.tat, promised=it.tat, latency=it.latency)
        for name, it in found.items()
    }
    for turn in counted:
        turn.project = budgets.get(turn.sender.project or "")
        turn.passed_by = turn.project is None
        turn.cap(
            turn.project_budget() if turn.project else Budget(messages=0, next_at=turn.now + BUSY)
        )
    return new


def allocate(turns: Sequence[Turn], want: int) -> None:
    """Divide the wanted messages, and what the projects have left, between turns that have a job,
    in their order.
    """
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
        cursor,
        [(turn.sender.email, turn.next_at, turn.tat, turn.gap_until, turn.now) for turn in turns],
    )
