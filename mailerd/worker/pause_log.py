"""Logs pauses of senders: each once, a long one again every ten minutes, and its end once."""

from dataclasses import dataclass
from typing import Final

from mailerd.clock import Clock
from mailerd.core.decisions import Pause
from mailerd.core.verdicts import PauseCause
from mailerd.events.worker import RunnerEvents

REMINDER_INTERVAL: Final = 600.0
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
    """Logs the pauses of senders, as this daemon sees them."""

    def __init__(self, *, clock: Clock, events: RunnerEvents) -> None:
        self._clock = clock
        self._events = events
        self._told: dict[str, _Told] = {}

    def paused(self, sender: str, pause: Pause, *, began: float) -> None:
        """A letter of this sender, begun at `began` (monotonic seconds), was answered with a pause."""
        now, seconds = self._clock.monotonic(), pause.wait.total_seconds()
        told = self._told.get(sender)
        again = told is not None and told.cause is pause.cause
        if told and again and now < told.until and began < told.ordered:
            return  # letters that were in flight together are refused together; a later one shows that it was lifted
        if told and again and now - told.at < REMINDER_INTERVAL and seconds < REMINDER_INTERVAL:
            told.ordered, told.until = now, now + seconds
            return
        self._told[sender] = _Told(pause.cause, told.since if told and again else now, now, now, now + seconds)
        cause, reason = pause.cause.value, pause.reason
        if pause.cause is PauseCause.PROJECT_LIMIT:
            self._events.project_paused(sender=sender, seconds=seconds, cause=cause, reason=reason)
        else:
            self._events.sender_paused(sender=sender, seconds=seconds, cause=cause, reason=reason)

    def sender_recovered(self, sender: str, *, began: float) -> None:
        """A letter of this sender was sent; one that had begun (monotonic seconds) before the pause ends none."""
        if (told := self._told.get(sender)) is not None and began >= told.ordered:
            del self._told[sender]
            self._events.sender_resumed(
                sender=sender, seconds=self._clock.monotonic() - told.since, cause=told.cause.value
            )
