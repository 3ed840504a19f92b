"""What the tables showed at one moment: what metrics, the status line, alerts and `mailerd top` speak of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mailerd.core.pauses import until
from mailerd.core.states import JobStatus, State


@dataclass(frozen=True)
class SenderStats:
    """A mailbox, its pace and its pause."""

    email: str
    per_minute: int
    """Letters that the minute allows, whichever limit is the tighter; 0 means no limit."""
    per_day: int
    """Letters that any 24 hours allow; 0 means no limit."""
    used_minute: int
    """Letters sent in the last 60 s."""
    used_day: int
    """Letters handed to Google in the hours that the rolling day still counts."""
    paused_until: datetime | None
    """The end of its pause; None when it is not paused now."""
    pause_cause: str
    pause_reason: str
    repair: str | None = None
    """What a person has to do before a letter can go."""


@dataclass(frozen=True)
class RecentAction:
    """An action that was requested of a job, of a sender or of suppressions, and what it changed."""

    id: int
    """A number that grows with each action."""
    job: str | None
    """The job that it was about; None: it was about a sender or suppressions."""
    action: str
    actor: str
    letters: int
    """How many letters of the job, or suppressions, it changed. The count of an import grows while it runs."""
    detail: str | None
    """The list, if it was about suppressions."""
    sender: str | None
    """The sender, if it was about one."""


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
    """The recipients of unfinished jobs. A cancelled job is finished when its last letter is no longer in flight."""
    oldest_claimable: float = 0.0
    """Seconds for which a letter could have been claimed, and was not: it is due, neither its job nor its sender is
    paused, and its sender's turn has come."""
    oldest_unsure: float = 0.0
    """Seconds for which the oldest unsure letter has been unsure."""
    senders: tuple[SenderStats, ...] = ()
    webhooks: tuple[WebhookStats, ...] = ()
    asked: tuple[RecentAction, ...] = ()
    """The newest requests that changed a job or suppressions, the newest first."""

    @property
    def paused(self) -> tuple[SenderStats, ...]:
        """The senders that are paused now."""
        return tuple(sender for sender in self.senders if sender.paused_until)

    def open_jobs(self) -> int:
        """Jobs in which something may still happen."""
        return sum(self.jobs.get(status, 0) for status in (JobStatus.QUEUED, JobStatus.SENDING, JobStatus.PAUSED))


def counts(stats: QueueStats) -> str:
    """What is under way, in figures: "3 jobs, 1,204 waiting"."""
    jobs = stats.open_jobs()
    said = [f"{jobs} job{'' if jobs == 1 else 's'}", f"{stats.recipients.get(State.WAITING, 0):,} waiting"]
    said.extend(
        f"{stats.recipients[state]:,} {state.value}"
        for state in (State.SENDING, State.UNSURE)
        if stats.recipients.get(state)
    )
    return ", ".join(said)


def _end(sender: SenderStats) -> str:
    if sender.repair:
        return "until a person mends it"
    return until(sender.paused_until, "{:%H:%M}".format) if sender.paused_until else ""


def words(stats: QueueStats) -> str:
    """One line for people: "3 jobs, 1,204 waiting, a@x paused until 14:05: daily limit"."""
    said = [counts(stats)]
    said.extend(
        f"{sender.email} paused {_end(sender)}: {sender.pause_cause.replace('_', ' ')}"
        for sender in stats.paused[:3]
        if sender.paused_until
    )
    if len(stats.paused) > 3:  # noqa: PLR2004 - as many as the line above shows
        said.append(f"{len(stats.paused) - 3} more senders paused")
    return ", ".join(said)
