"""What has been used: sliding windows, exact to 10 ms, that never err in the client's favour."""

from collections import Counter, deque
from dataclasses import dataclass, field

MINUTE_S = 60.0
DAY_S = 86_400.0
_GRAIN_S = 0.01
_MINUTES_KEPT = 24 * 60


class Window:
    """Amounts of the last so many seconds; no window of that length, wherever it lies, holds more
    than was allowed.
    """

    __slots__ = ("_events", "_span_s", "peak", "total")

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        # [first, last, amount]: what comes within one grain is one event that ages by its last
        # part.
        self._events: deque[list[float]] = deque()
        self.total = 0
        self.peak = 0

    def used(self, now: float) -> int:
        """How much the window that ends now holds."""
        events, horizon = self._events, now - self._span_s
        while events and events[0][1] <= horizon:
            self.total -= int(events.popleft()[2])
        return self.total

    def add(self, amount: int, *, now: float) -> None:
        """Count an amount now; call `used` first so that the old ones have gone."""
        if self._events and now - self._events[-1][0] < _GRAIN_S:
            last = self._events[-1]
            last[1] = now
            last[2] += amount
        else:
            self._events.append([now, now, amount])
        self.total += amount
        self.peak = max(self.peak, self.total)

    def free_at(self, amount: int, *, limit: int) -> float:
        """The epoch time at which an amount fits under a limit that it exceeds now."""
        excess = self.total + amount - limit
        at = 0.0
        for _, last, size in self._events:
            if excess <= 0:
                break
            excess -= int(size)
            at = last + self._span_s
        return at


@dataclass(slots=True)
class Usage:
    """What one mailbox has used, and how often it was turned away and why."""

    minute: Window = field(default_factory=lambda: Window(MINUTE_S))
    day: Window = field(default_factory=lambda: Window(DAY_S))
    addresses: Window = field(default_factory=lambda: Window(DAY_S))
    """Addresses of To, Cc and Bcc of the day's messages."""
    outside: Window = field(default_factory=lambda: Window(DAY_S))
    """Those of them that are not in the mailbox's own domain."""
    delivered: Window = field(default_factory=lambda: Window(DAY_S))
    """Messages of the day that reached a recipient."""
    by_minute: dict[int, int] = field(default_factory=dict)
    """Units per calendar minute (epoch seconds // 60), for the last day."""
    throttled: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0
    sent: int = 0

    def charge(self, units: int, *, now: float) -> None:
        """Count units that were allowed."""
        self.minute.add(units, now=now)
        minute = int(now // MINUTE_S)
        if minute in self.by_minute:
            self.by_minute[minute] += units
            return
        self.by_minute[minute] = units
        if len(self.by_minute) > _MINUTES_KEPT:
            del self.by_minute[next(iter(self.by_minute))]
