"""What the tables showed at one moment: all that `situation` judges by, and what metrics and
`mailerd top` count.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mailerd.core.failing_attempts import FailingAttempts
from mailerd.core.i18n import Text, joined, t, tn
from mailerd.core.labels import worded
from mailerd.core.quantities import in_words
from mailerd.core.states import JobStatus, State

HEARTBEAT_INTERVAL: Final = 3.0
"""Seconds between two heartbeats of a daemon."""
LATE: Final = 5
"""Seconds without a heartbeat after which a daemon is late."""
SILENT: Final = 30
"""Seconds without a heartbeat after which a daemon counts as silent."""


@dataclass(frozen=True)
class SenderStats:
    """A mailbox, its pace and its pause."""

    email: str
    per_minute: int
    """Messages that the minute allows, whichever limit is the tighter; 0 means no limit."""
    per_day: int
    """Messages that any 24 hours allow; 0 means no limit."""
    used_minute: int
    """Messages sent in the last 60 s."""
    used_day: int
    """Messages handed to Google in the hours that the rolling day still counts."""
    paused_until: datetime | None
    """The end of its pause; None when it is not paused now."""
    pause_cause: str
    pause_reason: str
    repair: str | None = None
    """What a person has to do before a message can go."""
    sent: int = 0
    failed: int = 0
    """Messages that were sent, and that failed for good, in the last ten minutes."""
    failing: FailingAttempts | None = None
    """Whether its attempts fail."""
    alias: str = ""
    """The aliases that a limited key names, if it does not name the mailbox itself."""
    is_warming_up: bool = False
    """Its day is that of its warm-up, and grows by itself."""
    next_cost: int = 1
    """As how many messages of the day the next one counts that is due; asked where the day has
    little room.
    """
    turn: datetime | None = None
    """When the next claim considers it; None: nothing of it waits."""
    paced_until: datetime | None = None
    """When the minute and the gap allow its next message; None: now."""
    room_at: datetime | None = None
    """When the day has room for its next message; None: now, or that is not known."""
    braked_until: datetime | None = None
    """Until when all that it has due waits, since what bounced is read first."""

    @property
    def name(self) -> str:
        """What the key that asks calls it."""
        return self.alias or self.email


@dataclass(frozen=True)
class DaemonInfo:
    """A daemon with a recent heartbeat that has not stopped in order."""

    id: str
    host: str
    pid: int
    version: str
    silent: int
    """The seconds since its last heartbeat."""
    age: int = 0
    """The seconds since it started."""
    is_gone: bool = False
    """It ran on this machine, its last heartbeat is overdue, and its process is not there."""
    is_replaced: bool = False
    """A daemon has started on its machine since its last heartbeat, whether or not that one still
    runs.
    """

    @property
    def runs(self) -> bool:
        """Whether it runs, as far as can be known."""
        return self.silent <= SILENT and not self.is_gone

    @property
    def is_late(self) -> bool:
        """Whether its heartbeat is overdue: it stands still, or the database is slow."""
        return self.silent > LATE


@dataclass(frozen=True)
class UnreadInbox:
    """An inbox that Google refuses to show."""

    email: str
    detail: str
    since: datetime | None
    """When it was last read; None: never."""


@dataclass(frozen=True)
class JobTrouble:
    """An open job of which too much comes back."""

    id: str
    sender: str
    reason: str
    paused: bool
    """It was paused for that; else it soon will be."""


@dataclass(frozen=True)
class FailedJob:
    """A job that has ended within the last day, some messages of which failed."""

    id: str
    sender: str
    failed: int
    """Counted up to a bound."""
    total: int
    retriable: bool = False
    """A retry would take some of them."""
    reason: str = ""
    """Why one of them failed."""


@dataclass(frozen=True)
class RecentAction:
    """An action that was requested of a job, a sender, a webhook or suppressions, and what it
    changed.
    """

    id: int
    """A number that grows with each action."""
    job: str | None
    """The job that it was about; None: it was about something else."""
    action: str
    actor: str
    messages: int
    """How many messages of the job, or suppressions, it changed.

    The count of an import grows while it runs.
    """
    detail: str | None
    """The list, if it was about suppressions; what a person confirmed, if it was about a
    message.
    """
    sender: str | None
    """The sender, if it was about one."""
    webhook: str | None = None
    """The name of the webhook, if it was about one."""
    status: str | None = None
    """How the job stands now."""


WEBHOOK_STANDINGS: Final = ("on", "failing", "paused", "paused_manually", "gone")


@dataclass(frozen=True)
class WebhookStats:
    """An endpoint that events are posted to."""

    name: str
    standing: str
    """`on`, `failing`, `paused` (it failed for too long), `paused_manually` or `gone`."""
    failing: float
    """Seconds since the first of the attempts in a row that failed; 0: the last one did not."""
    undelivered: int
    """How many events wait for it, counted up to a bound."""
    oldest: float
    """Seconds since the oldest of these events happened."""


@dataclass(frozen=True)
class QueueStats:
    """What the tables held at one moment, by the database's clock."""

    at: datetime
    jobs: Mapping[JobStatus, int] = field(default_factory=dict)
    recipients: Mapping[State, int] = field(default_factory=dict)
    """The recipients of unfinished jobs.

    A cancelled job is finished when its last message is no longer in flight.
    """
    counted: float | None = 0.0
    """Seconds since the recipients that are neither in flight nor unsure were counted, and the jobs
    that have ended; 0: now. None: there are too many to be counted, and `WAITING` is the size of
    all unfinished jobs.
    """
    oldest_claimable: float = 0.0
    """Seconds for which a message could have been claimed, and was not: it is due, neither its job
    nor its sender is paused, and its sender's turn has come.
    """
    oldest_unsure: float = 0.0
    """Seconds for which the oldest unsure message has been unsure."""
    awaiting_google: float = 0.0
    """Seconds for which the oldest message of a running daemon has been in flight, and no attempt
    of any has ended.
    """
    unsure_longest: tuple[str, int] | None = None
    """Its job and its id."""
    senders: tuple[SenderStats, ...] = ()
    webhooks: tuple[WebhookStats, ...] = ()
    asked: tuple[RecentAction, ...] = ()
    """The newest requests that changed a job or suppressions, the newest first."""
    daemons: tuple[DaemonInfo, ...] = ()
    """Those that were heard of within the last hour and have not stopped, the one that was heard of
    last first.
    """
    last_beat: int | None = None
    """Seconds since the last heartbeat of any daemon, stopped ones included; None: there never was
    one.
    """
    inboxes: tuple[UnreadInbox, ...] = ()
    jobs_in_trouble: tuple[JobTrouble, ...] = ()
    failed_jobs: tuple[FailedJob, ...] = ()

    @property
    def paused(self) -> tuple[SenderStats, ...]:
        """The senders that are paused now."""
        return tuple(sender for sender in self.senders if sender.paused_until)

    def sender(self, email: str) -> SenderStats | None:
        """A mailbox; None: it is none of those that were read."""
        return next((it for it in self.senders if it.email == email), None)

    def open_jobs(self) -> int:
        """Jobs in which something may still happen."""
        return sum(
            self.jobs.get(status, 0)
            for status in (JobStatus.QUEUED, JobStatus.SENDING, JobStatus.PAUSED)
        )


def counts(stats: QueueStats) -> Text:
    """What is under way, in figures: "3 jobs, 1,204 waiting"."""
    jobs = stats.open_jobs()
    shown = [
        State.WAITING,
        *(state for state in (State.SENDING, State.UNSURE) if stats.recipients.get(state)),
    ]
    states = [
        t("{n:,} {what}", n=stats.recipients.get(state, 0), what=worded(state)) for state in shown
    ]
    return as_counted(joined([tn("{n} job", "{n} jobs", jobs), *states], ", "), stats)


def as_counted(text: Text, stats: QueueStats) -> Text:
    """A text that says how many messages wait, with what makes that number inexact."""
    note = count_note(stats)
    return joined([text, t("({note})", note=note)], " ") if note else text


def count_note(stats: QueueStats) -> Text | None:
    """Why it may not be exact how many messages wait; None: it is."""
    if stats.counted is None:
        return t("at most: too many to count")
    return t("counted {span} ago", span=in_words(stats.counted)) if stats.counted >= 1 else None
