"""What the log says of one message's delivery, of a job's progress, and of a sender's pauses."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from mailerd.clock import Clock
from mailerd.core.claims import ClaimedRecipient, WriteResult
from mailerd.core.decisions import (
    Decision,
    Pause,
)
from mailerd.core.i18n import t
from mailerd.core.pauses import remedy, with_remedy
from mailerd.core.states import Transition
from mailerd.core.verdicts import PauseCause
from mailerd.events.worker import RunnerEvents

REMINDER_INTERVAL: Final = 600.0
"""Seconds between two reminders that a sender is still paused for the same cause."""


@dataclass
class _LoggedPause:
    cause: PauseCause
    reason: str
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
        self._told: dict[str, _LoggedPause] = {}

    def paused(self, sender: str, pause: Pause, *, began: float) -> None:
        """A message of this sender, begun at `began` (monotonic seconds), was answered with a
        pause.
        """
        now, seconds = self._clock.monotonic(), pause.wait.total_seconds()
        told = self._told.get(sender)
        again = told is not None and told.cause is pause.cause
        # another reason needs another remedy
        if told and again and remedy(pause.cause, sender=sender):
            again = told.reason == pause.reason
        if told and again and now < told.until and began < told.ordered:
            # messages that were in flight together are refused together; a later one shows that it
            # was lifted
            return
        if told and again and now - told.at < REMINDER_INTERVAL and seconds < REMINDER_INTERVAL:
            told.ordered, told.until = now, now + seconds
            return
        since = told.since if told and again else now
        self._told[sender] = _LoggedPause(pause.cause, pause.reason, since, now, now, now + seconds)
        cause, why = pause.cause.value, with_remedy(pause.reason, pause.cause, sender=sender)
        if pause.of_project:
            self._events.project_paused(sender=sender, seconds=seconds, cause=cause, reason=why)
        else:
            self._events.sender_paused(sender=sender, seconds=seconds, cause=cause, reason=why)

    def sender_recovered(self, sender: str, *, began: float) -> None:
        """A message of this sender was sent; one that had begun (monotonic seconds) before the
        pause ends none.
        """
        if (told := self._told.get(sender)) is not None and began >= told.ordered:
            del self._told[sender]
            self._events.sender_resumed(
                sender=sender, seconds=self._clock.monotonic() - told.since, cause=told.cause.value
            )


_MAX_JOBS: Final = 4096
"""Jobs that are remembered; one that is dropped is counted again when a claim finds it."""


@dataclass
class _Counts:
    done: int = 0
    total: int = 0
    under_way: set[int] = field(default_factory=set)
    """The recipients whose messages were begun, and are neither finished nor waiting again."""


class JobProgress:
    """The numbers of `[17/200]` in the log; of a message that starts: as if all that are under way
    were finished.
    """

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, _Counts] = OrderedDict()
        self.sent = 0
        self.failed = 0

    def contains(self, job: str) -> bool:
        """Whether the job is known."""
        return job in self._jobs

    def add(self, job: str, *, total: int) -> None:
        """Add a job; none of its recipients is known to be finished."""
        self._jobs[job] = _Counts(total=total)
        if len(self._jobs) > _MAX_JOBS:
            self._jobs.popitem(last=False)

    def set_done(self, job: str, *, ended: int) -> None:
        """Set how many recipients were finished before this daemon met the job."""
        if counts := self._jobs.get(job):
            counts.done = max(counts.done, ended)

    def claimed(self, job: str, *, messages: int) -> None:
        """Messages that are claimed are not finished, whatever they were before: given back by
        Google, or retried.
        """
        if counts := self._jobs.get(job):
            counts.done = min(counts.done, max(counts.total - messages, 0))

    def begin(self, job: str, recipient: int) -> tuple[int, int]:
        """Count a message as under way; its number, and of how many."""
        counts = self._jobs.setdefault(job, _Counts())
        counts.under_way.add(recipient)
        return min(counts.done + len(counts.under_way), max(counts.total, 1)), counts.total

    def end(self, job: str, recipient: int) -> None:
        """A message is under way no longer: it is finished, or it waits again."""
        if counts := self._jobs.get(job):
            counts.under_way.discard(recipient)

    def may_be_over(self, job: str) -> bool:
        """Whether all messages of a job are finished as far as this daemon knows."""
        counts = self._jobs.get(job)
        return counts is None or counts.done >= counts.total

    def advance(self, job: str, recipient: int) -> tuple[int, int]:
        """Count one more finished message; how many are finished, and of how many."""
        counts = self._jobs.setdefault(job, _Counts())
        counts.under_way.discard(recipient)
        counts.done = min(counts.done + 1, max(counts.total, 1))
        return counts.done, counts.total


@dataclass(frozen=True)
class DeliveryLog:
    """Writes the events of messages, and counts what this daemon has done."""

    events: RunnerEvents
    pause_log: PauseLog
    progress: JobProgress

    def bug(self, message: ClaimedRecipient, then: str, error: Exception) -> None:
        """A bug of mailerd that this message met."""
        self.events.message_crashed(
            job=message.job_id, recipient=message.id, to=message.to_email, then=then, error=error
        )

    def claim_lost(self, message: ClaimedRecipient, change: str) -> None:
        """The claim had ended, and another daemon decides about the message."""
        self.events.message_claim_lost(
            job=message.job_id, recipient=message.id, to=message.to_email, change=change
        )

    def handover_lost(self, message: ClaimedRecipient) -> None:
        """The claim had ended before the message's next request, which is not made."""
        self.events.message_handover_lost(
            job=message.job_id, recipient=message.id, to=message.to_email
        )

    def result(
        self, message: ClaimedRecipient, decision: Decision, written: WriteResult, *, began: float
    ) -> None:
        """What became of a decision; `began`: when the attempt did, in monotonic seconds."""
        match written:
            case WriteResult.APPLIED:
                self.decision(message, decision, began=began)
            case WriteResult.CANCELLED:
                self.events.message_cancelled(
                    job=message.job_id,
                    recipient=message.id,
                    to=message.to_email,
                    sender=message.sender,
                    cause=decision.error or "",
                )
            case WriteResult.RESOLVED:
                named = t(
                    "message {message_id}, named by Google to a worker whose claim had ended",
                    message_id=decision.message_id,
                )
                self.found(message, named)
            case _:
                self.claim_lost(message, decision.transition.value)

    def found(self, message: ClaimedRecipient, proof: str) -> None:
        """Google had the message already."""
        self.events.message_found(
            job=message.job_id,
            recipient=message.id,
            to=message.to_email,
            sender=message.sender,
            proof=proof,
        )

    def decision(self, message: ClaimedRecipient, decision: Decision, *, began: float) -> None:
        """A decision that was written."""
        cause, say = decision.error or "", self.events
        match decision.transition:
            case Transition.SENT:
                self.progress.sent += 1
                self.pause_log.sender_recovered(message.sender, began=began)
                done, total = self.progress.advance(message.job_id, message.id)
                say.message_sent(
                    job=message.job_id,
                    recipient=message.id,
                    to=message.to_email,
                    sender=message.sender,
                    done=done,
                    total=total,
                    message_id=decision.message_id or "",
                )
            case Transition.FAILED:
                self.progress.failed += 1
                done, total = self.progress.advance(message.job_id, message.id)
                say.message_failed(
                    job=message.job_id,
                    recipient=message.id,
                    to=message.to_email,
                    sender=message.sender,
                    done=done,
                    total=total,
                    cause=cause,
                )
            case Transition.DEFERRED:
                say.message_deferred(
                    job=message.job_id,
                    recipient=message.id,
                    to=message.to_email,
                    sender=message.sender,
                    attempt=message.attempt,
                    again_in=decision.wait.total_seconds(),
                    cause=cause,
                )
            case Transition.LOST:
                say.message_unsure(
                    job=message.job_id,
                    recipient=message.id,
                    to=message.to_email,
                    sender=message.sender,
                    cause=cause,
                    look_in=decision.wait.total_seconds(),
                )
            case Transition.SUPPRESSED:
                self.progress.advance(message.job_id, message.id)
                say.message_suppressed(
                    job=message.job_id,
                    recipient=message.id,
                    to=message.to_email,
                    sender=message.sender,
                    cause=cause,
                )
            case _:
                say.message_released(
                    job=message.job_id,
                    recipient=message.id,
                    to=message.to_email,
                    sender=message.sender,
                    cause=cause,
                )
