"""Logs what people did by command: their pauses, and their actions on jobs and suppressions (the API logs its own)."""

from mailerd.core.pauses import MANUAL, until
from mailerd.core.stats import QueueStats, RecentAction
from mailerd.core.suppression import EVERYTHING_NAME
from mailerd.events.process import ProcessEvents
from mailerd.events.suppression import SuppressionEvents

_COMMAND = "command, "
"""How the one who asked begins where it was a command (`cli/job_actions.py`)."""


class ManualChanges:
    """What was reported already, and the difference that a new look makes."""

    def __init__(self, events: ProcessEvents) -> None:
        self._events = events
        self._paused: dict[str, tuple[str, str]] = {}
        """By sender: until when, and why."""
        self._asked: dict[int, int] | None = None
        """By the id of an action that the last read showed: how many letters or suppressions it had changed by then."""
        self._suppression_events = SuppressionEvents(events.sink)

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
        told = self._asked
        self._asked = {one.id: one.letters for one in stats.asked}
        if told is None:
            return
        newest = max(told, default=0)
        for one in reversed(stats.asked):
            if one.actor.startswith(_COMMAND) and (one.id > newest or one.letters > told.get(one.id, one.letters)):
                self._log_action(one, one.letters - told.get(one.id, 0))

    def _log_action(self, one: RecentAction, changed: int) -> None:
        events, mailing_list = self._suppression_events, one.detail or EVERYTHING_NAME
        if one.job is not None:
            self._events.job_action_by_command(job=one.job, action=one.action, actor=one.actor, letters=changed)
        elif one.action == "suppress":
            events.suppressions_added_by_command(added=changed, mailing_list=mailing_list, actor=one.actor)
        else:
            events.suppression_removed_by_command(mailing_list=mailing_list, actor=one.actor)
