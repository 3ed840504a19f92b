"""What this daemon has told of pauses: each is told once, a lasting one now and then, and its end once."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from mailerd.clock import Clock
from mailerd.core.decisions import Pause
from mailerd.core.verdicts import PauseCause
from mailerd.events.worker import RunnerEvents

REMIND_EVERY: Final = 600.0
"""Seconds between two reminders that a sender is still paused for the same cause."""


@dataclass
class _Told:
    cause: PauseCause
    since: float
    at: float
    ordered: float
    """When Google last ordered it."""
    until: float


class PauseLog:
    """Pauses of senders, as seen from this daemon; `counts` has them by sender and cause, for a metric."""

    def __init__(self, *, clock: Clock, events: RunnerEvents) -> None:
        self._clock = clock
        self._events = events
        self._told: dict[str, _Told] = {}
        self.counts: Counter[tuple[str, str]] = Counter()

    def paused(self, sender: str, pause: Pause, *, began: float) -> None:
        """A letter of this sender, begun at `began` (monotonic seconds), was answered with a pause."""
        now, seconds = self._clock.monotonic(), pause.wait.total_seconds()
        told = self._told.get(sender)
        again = told is not None and told.cause is pause.cause
        if told and again and now < told.until and began < told.ordered:
            return  # letters that were in flight together are refused together; a later one shows that it was lifted
        self.counts[sender, pause.cause.value] += 1
        if told and again and now - told.at < REMIND_EVERY and seconds < REMIND_EVERY:
            told.ordered, told.until = now, now + seconds
            return
        self._told[sender] = _Told(pause.cause, told.since if told and again else now, now, now, now + seconds)
        cause, reason = pause.cause.value, pause.reason
        if pause.cause is PauseCause.PROJECT_LIMIT:
            self._events.project_paused(sender=sender, seconds=seconds, cause=cause, reason=reason)
        else:
            self._events.sender_paused(sender=sender, seconds=seconds, cause=cause, reason=reason)

    def worked(self, sender: str, *, began: float) -> None:
        """A letter of this sender was sent; one that had begun (monotonic seconds) before the pause ends none."""
        if (told := self._told.get(sender)) is not None and began >= told.ordered:
            del self._told[sender]
            self._events.sender_resumed(
                sender=sender, seconds=self._clock.monotonic() - told.since, cause=told.cause.value
            )
