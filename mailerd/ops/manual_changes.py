"""Logs what people did by command: their pauses, and their actions on jobs (the API logs its own)."""

from mailerd.core.pauses import MANUAL, until
from mailerd.core.stats import QueueStats
from mailerd.events.process import ProcessEvents

_COMMAND = "command, "
"""How the one who asked begins where it was a command (`cli/job_actions.py`)."""


class ManualChanges:
    """What was told already, and the difference that a new look makes."""

    def __init__(self, events: ProcessEvents) -> None:
        self._events = events
        self._paused: dict[str, tuple[str, str]] = {}
        """By sender: until when, and why."""
        self._asked: int | None = None

    def compare(self, stats: QueueStats) -> None:
        """Log what is new since the last read; a pause that stands at the first one is logged as well."""
        now = {
            sender.email: (until(sender.paused_until), sender.pause_reason)
            for sender in stats.paused
            if sender.paused_until and sender.pause_cause == MANUAL
        }
        for sender, (end, reason) in now.items():
            if self._paused.get(sender) != (end, reason):
                self._events.sender_paused_by_hand(sender=sender, until=end, reason=reason)
        for sender in self._paused.keys() - now.keys():
            self._events.sender_resumed_by_hand(sender=sender)
        self._paused = now
        for one in reversed(stats.asked):
            if self._asked is not None and one.id > self._asked and one.actor.startswith(_COMMAND):
                self._events.job_action_by_command(job=one.job, action=one.action, actor=one.actor, letters=one.letters)
        self._asked = max((one.id for one in stats.asked), default=0)
