"""Whether Google can be reached from here; while it cannot, this daemon claims next to nothing."""

from typing import Final

from mailerd.clock import Clock
from mailerd.events.runner import RunnerEvents

_FIRST: Final = 1.0
_LONGEST: Final = 60.0
_REMIND_EVERY: Final = 30.0


class Reach:
    """The road to Google: open, or closed since when and until when it is tried again."""

    def __init__(self, *, clock: Clock, events: RunnerEvents) -> None:
        self._clock = clock
        self._events = events
        self._since: float | None = None
        self._rest = 0.0
        self._until = 0.0
        self._told = 0.0

    @property
    def closed(self) -> bool:
        """Whether the last try failed."""
        return self._since is not None

    def seconds_left(self) -> float:
        """How long to wait before the next try."""
        return max(0.0, self._until - self._clock.monotonic()) if self.closed else 0.0

    def lost(self, cause: str) -> None:
        """A call could not reach Google: rest, twice as long as the last time."""
        now = self._clock.monotonic()
        if self._since is None:
            self._since = self._told = now
            self._rest = _FIRST
            self._events.google_away(seconds=self._rest, cause=cause)
        elif now < self._until:
            return  # letters that were in hand together fail together
        else:
            self._rest = min(_LONGEST, 2 * self._rest)
            if now - self._told >= _REMIND_EVERY:
                self._told = now
                self._events.google_still_away(seconds=now - self._since, cause=cause)
        self._until = now + self._rest

    def reached(self) -> None:
        """Google answered, whatever it said."""
        if self._since is not None:
            self._events.google_back(seconds=self._clock.monotonic() - self._since)
            self._since = None
