"""What an application hears of by the feed of events."""

from enum import StrEnum


class EventType(StrEnum):
    """The type of an event: column `events.type`."""

    JOB_FINISHED = "job.finished"
    """Nothing of the job is open any more. A job that is retried later finishes once more."""
    JOB_PAUSED = "job.paused"
    JOB_CANCELLED = "job.cancelled"
    RECIPIENT_FAILED = "recipient.failed"
    RECIPIENT_UNSUBSCRIBED = "recipient.unsubscribed"
    """A person left a list, or everything."""
    RECIPIENT_SENT_UNDONE = "recipient.sent_undone"
    """The letter was called sent, and it is known now that it was not."""
    SENDER_PAUSED = "sender.paused"
    """It was paused, or its pause has another cause than before."""
    SENDER_RESUMED = "sender.resumed"
    """A person ended its pause, or a letter went well after it."""
