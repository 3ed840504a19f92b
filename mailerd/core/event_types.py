"""What an application hears of: by webhooks, and by the feed of events."""

from enum import StrEnum
from typing import Final


class EventType(StrEnum):
    """The type of an event: column `events.type`."""

    JOB_FINISHED = "job.finished"
    """No letter of the job is open any more. A job that is retried later, or into which a letter comes back, finishes
    once more."""
    JOB_PAUSED = "job.paused"
    JOB_CANCELLED = "job.cancelled"
    JOB_STUCK = "job.stuck"
    """Letters of the job waited, and by a fault no claim would have taken them; now they can be claimed again."""
    RECIPIENT_FAILED = "recipient.failed"
    RECIPIENT_BOUNCED = "recipient.bounced"
    """The letter came back: a hard, soft or blocked bounce, or one of unknown cause."""
    RECIPIENT_REPLIED = "recipient.replied"
    """A person answered the letter."""
    RECIPIENT_AUTO_REPLIED = "recipient.auto_replied"
    """A program answered the letter: out of office, a ticket system."""
    RECIPIENT_UNSUBSCRIBED = "recipient.unsubscribed"
    """A person left a list, or everything."""
    RECIPIENT_SENT_UNDONE = "recipient.sent_undone"
    """The letter was recorded as sent, and was not: its draft is there, or Google gave it back."""
    RECIPIENTS_SENT = "recipients.sent"
    """Letters that were sent, many in one event; made only while an endpoint of a webhook asks for it."""
    SENDER_PAUSED = "sender.paused"
    """It was paused, or its pause has another cause than before."""
    SENDER_RESUMED = "sender.resumed"
    """A person ended its pause, or a letter went well after it."""


ONLY_IF_ASKED: Final = frozenset({EventType.RECIPIENTS_SENT})
"""Types that an endpoint gets only if it names them."""
