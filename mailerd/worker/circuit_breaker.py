"""Circuit breakers for Google, one for all senders and one for each: while one is open, few letters are claimed."""

from dataclasses import dataclass
from typing import Final

from mailerd.clock import Clock
from mailerd.events.worker import RunnerEvents

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
        """After another failure: rest twice as long. False during a rest, since calls side by side fail together."""
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
        """Senders whose letters must not be claimed now, and for how many seconds."""
        now = self._clock.monotonic()
        return {sender: outage.until - now for sender, outage in self._senders.items() if outage.until > now}

    def failure(self, cause: str) -> None:
        """A call could not reach Google: all senders rest, twice as long as the last time."""
        now = self._clock.monotonic()
        if self._all is None:
            self._all = _Outage.begun(now)
            self._events.google_unreachable(seconds=self._all.rest, cause=cause)
        elif self._all.goes_on(now) and self._all.remind(now):
            self._events.google_still_away(seconds=now - self._all.since, cause=cause)

    def sender_failure(self, sender: str, cause: str) -> None:
        """No access token could be obtained for this sender: it alone rests, twice as long as the last time."""
        now = self._clock.monotonic()
        if (outage := self._senders.get(sender)) is None:
            self._senders[sender] = _Outage.begun(now)
            self._events.sender_out_of_reach(sender=sender, seconds=_FIRST_RETRY_DELAY, cause=cause)
        elif outage.goes_on(now) and outage.remind(now):
            self._events.sender_out_of_reach(sender=sender, seconds=outage.rest, cause=cause)

    def success(self, sender: str) -> None:
        """Google answered a call of this sender, whatever the answer was."""
        now = self._clock.monotonic()
        if self._all is not None:
            self._events.google_back(seconds=now - self._all.since)
            self._all = None
        if (outage := self._senders.pop(sender, None)) is not None:
            self._events.sender_in_reach(sender=sender, seconds=now - outage.since)
