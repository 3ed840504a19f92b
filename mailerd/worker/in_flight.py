"""The messages in flight in this daemon: how long each lease lasts, the loop that renews it, the
circuit breaker.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mailerd.clock import Clock
from mailerd.core.claims import Claim, ClaimedRecipient
from mailerd.errors import DatabaseError
from mailerd.events.worker import RunnerEvents
from mailerd.heartbeat import Heartbeats, every
from mailerd.store.queue.recovery import RecoveryQueries

# Circuit breakers for Google, one for all senders and one for each: while one is open, few messages
# are claimed.

_FIRST_RETRY_DELAY: Final = 1.0
_MAX_RETRY_DELAY: Final = 60.0
_REMINDER_INTERVAL: Final = 30.0


@dataclass
class _Outage:
    """An outage of Google. All are monotonic seconds, except `rest`, which is a duration."""

    since: float
    rest: float
    until: float
    told: float

    @classmethod
    def begun(cls, now: float) -> "_Outage":
        """After the first failure: the shortest rest."""
        return cls(since=now, rest=_FIRST_RETRY_DELAY, until=now + _FIRST_RETRY_DELAY, told=now)

    def goes_on(self, now: float) -> bool:
        """After another failure: rest twice as long.

        False during a rest, since calls side by side fail together.
        """
        if now < self.until:
            return False
        self.rest = min(_MAX_RETRY_DELAY, 2 * self.rest)
        self.until = now + self.rest
        return True

    def remind(self, now: float) -> bool:
        """Whether it is time to log again that the outage lasts."""
        if now - self.told < _REMINDER_INTERVAL:
            return False
        self.told = now
        return True


class CircuitBreaker:
    """Counts failures to reach Google; after one, the next try waits, twice as long each time."""

    def __init__(self, *, clock: Clock, events: RunnerEvents) -> None:
        self._clock = clock
        self._events = events
        self._all: _Outage | None = None
        self._senders: dict[str, _Outage] = {}

    @property
    def is_open(self) -> bool:
        """Whether the last call of any sender failed to reach Google."""
        return self._all is not None

    def retry_in(self) -> float:
        """Seconds until the next call of any sender is due."""
        return max(0.0, self._all.until - self._clock.monotonic()) if self._all else 0.0

    def blocked_senders(self) -> dict[str, float]:
        """Senders whose messages must not be claimed now, and for how many seconds."""
        now = self._clock.monotonic()
        return {
            sender: outage.until - now
            for sender, outage in self._senders.items()
            if outage.until > now
        }

    def failure(self, cause: str) -> None:
        """A call could not reach Google: all senders rest, twice as long as the last time."""
        now = self._clock.monotonic()
        if self._all is None:
            self._all = _Outage.begun(now)
            self._events.google_unreachable(seconds=self._all.rest, cause=cause)
        elif self._all.goes_on(now) and self._all.remind(now):
            self._events.google_still_unreachable(seconds=now - self._all.since, cause=cause)

    def sender_failure(self, sender: str, cause: str) -> None:
        """No access token could be obtained for this sender: it alone rests, twice as long as the
        last time.
        """
        now = self._clock.monotonic()
        if (outage := self._senders.get(sender)) is None:
            self._senders[sender] = _Outage.begun(now)
            self._events.sender_unreachable(sender=sender, seconds=_FIRST_RETRY_DELAY, cause=cause)
        elif outage.goes_on(now) and outage.remind(now):
            self._events.sender_unreachable(sender=sender, seconds=outage.rest, cause=cause)

    def success(self, sender: str) -> None:
        """Google answered a call of this sender, whatever the answer was."""
        now = self._clock.monotonic()
        if self._all is not None:
            self._events.google_back(seconds=now - self._all.since)
            self._all = None
        if (outage := self._senders.pop(sender, None)) is not None:
            self._events.sender_reachable(sender=sender, seconds=now - outage.since)


MARGIN: Final = 1.0
"""Seconds of a lease that are never used: the time that a statement and a turn of the event loop
may take.
"""


@dataclass(slots=True)
class _Held:
    """When its claim was requested, and how long its lease certainly lasts, both in monotonic
    seconds.
    """

    since: float
    safe_until: float


class InFlight:
    """Every claimed message, from its claim until its outcome is recorded."""

    def __init__(
        self,
        rows: RecoveryQueries,
        *,
        lease: timedelta,
        clock: Clock,
        events: RunnerEvents,
        heartbeats: Heartbeats,
    ) -> None:
        self._rows = rows
        self._heartbeats = heartbeats
        self._lease = lease
        self._clock = clock
        self._events = events
        self._held: dict[tuple[int, str], _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def add(self, claim: Claim, *, asked_at: float) -> None:
        """Add a claim's messages; their leases count from `asked_at` (monotonic), before the
        statement was sent.
        """
        safe_until = self._safe_until(asked_at)
        for message in claim.messages:
            self._held[message.id, message.token] = _Held(asked_at, safe_until)

    def remove(self, message: ClaimedRecipient) -> None:
        """Remove a message that is recorded or given up."""
        self._held.pop((message.id, message.token), None)

    def lease_allows(self, message: ClaimedRecipient, *, seconds: float) -> bool:
        """Whether a call of at most so many seconds certainly ends before the message's lease
        does.
        """
        held = self._held.get((message.id, message.token))
        return held is not None and self._clock.monotonic() + seconds < held.safe_until

    def age(self, message: ClaimedRecipient) -> float:
        """Seconds since the message's claim was requested; 0 for one that is not in flight."""
        held = self._held.get((message.id, message.token))
        return self._clock.monotonic() - held.since if held else 0.0

    def _safe_until(self, asked_at: float) -> float:
        return asked_at + self._lease.total_seconds() - MARGIN

    async def renew_loop(self) -> None:
        """Renew the leases of the messages in flight, four times in a lease.

        One that cannot be renewed ends earlier.
        """
        interval = self._lease.total_seconds() / 4
        heartbeat = self._heartbeats.register("leases.renew")
        await every(
            interval,
            self._renew,
            name="leases.renew",
            first_after=interval,
            heartbeat=heartbeat,
            sleep=self._clock.sleep,
        )

    async def _renew(self) -> None:
        if not (held := list(self._held)):
            return
        asked_at = self._clock.monotonic()
        try:
            kept = await self._rows.renew(held, lease=self._lease)
        except DatabaseError as error:
            self._events.leases_not_renewed(messages=len(held), cause=str(error))
            return
        safe_until = self._safe_until(asked_at)
        for one in held:
            if one in self._held:
                self._held[one].safe_until = safe_until if one in kept else 0.0
