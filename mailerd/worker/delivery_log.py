"""What the log says of one letter's delivery, of a job's progress, and of a sender's pauses."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from mailerd.clock import Clock
from mailerd.core.decisions import Decision, Pause
from mailerd.core.models import ClaimedRecipient, WriteResult
from mailerd.core.pauses import with_remedy
from mailerd.core.states import Transition
from mailerd.core.verdicts import PauseCause
from mailerd.events.worker import RunnerEvents

REMINDER_INTERVAL: Final = 600.0
"""Seconds between two reminders that a sender is still paused for the same cause."""


@dataclass
class _LoggedPause:
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
        self._told: dict[str, _LoggedPause] = {}

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
        self._told[sender] = _LoggedPause(pause.cause, told.since if told and again else now, now, now, now + seconds)
        cause, reason = pause.cause.value, with_remedy(pause.reason, pause.cause, sender=sender)
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


_MAX_JOBS: Final = 4096
"""Jobs that are remembered; one that is dropped is counted again when a claim finds it."""


@dataclass
class _Counts:
    done: int = 0
    total: int = 0
    under_way: set[int] = field(default_factory=set)
    """The recipients whose letters were begun, and are neither finished nor waiting again."""


class JobProgress:
    """The numbers of `[17/200]` in the log; of a letter that starts: as if all that are under way were finished."""

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

    def claimed(self, job: str, *, letters: int) -> None:
        """Letters that are claimed are not finished, whatever they were before: given back by Google, or retried."""
        if counts := self._jobs.get(job):
            counts.done = min(counts.done, max(counts.total - letters, 0))

    def begin(self, job: str, recipient: int) -> tuple[int, int]:
        """Count a letter as under way; its number, and of how many."""
        counts = self._jobs.setdefault(job, _Counts())
        counts.under_way.add(recipient)
        return min(counts.done + len(counts.under_way), max(counts.total, 1)), counts.total

    def end(self, job: str, recipient: int) -> None:
        """A letter is under way no longer: it is finished, or it waits again."""
        if counts := self._jobs.get(job):
            counts.under_way.discard(recipient)

    def advance(self, job: str, recipient: int) -> tuple[int, int]:
        """Count one more finished letter; how many are finished, and of how many."""
        counts = self._jobs.setdefault(job, _Counts())
        counts.under_way.discard(recipient)
        counts.done = min(counts.done + 1, max(counts.total, 1))
        return counts.done, counts.total


@dataclass(frozen=True)
class DeliveryLog:
    """Writes the events of letters, and counts what this daemon has done."""

    events: RunnerEvents
    pause_log: PauseLog
    progress: JobProgress

    def bug(self, letter: ClaimedRecipient, then: str, error: Exception) -> None:
        """A bug of mailerd that this letter met."""
        self.events.letter_broke(job=letter.job_id, recipient=letter.id, to=letter.to_email, then=then, error=error)

    def claim_lost(self, letter: ClaimedRecipient, change: str) -> None:
        """The claim had ended, and another daemon decides about the letter."""
        self.events.letter_claim_lost(job=letter.job_id, recipient=letter.id, to=letter.to_email, change=change)

    def handover_lost(self, letter: ClaimedRecipient) -> None:
        """The claim had ended before the letter's next request, which is not made."""
        self.events.letter_handover_lost(job=letter.job_id, recipient=letter.id, to=letter.to_email)

    def result(self, letter: ClaimedRecipient, decision: Decision, written: WriteResult, *, began: float) -> None:
        """What became of a decision; `began`: when the attempt did, in monotonic seconds."""
        match written:
            case WriteResult.APPLIED:
                self.decision(letter, decision, began=began)
            case WriteResult.CANCELLED:
                self.events.letter_cancelled(
                    job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender,
                    cause=decision.error or "",
                )  # fmt: skip
            case WriteResult.RESOLVED:
                named = f"message {decision.message_id}, which Google named to a worker whose claim had ended"
                self.found(letter, named)
            case WriteResult.STALE | WriteResult.IN_DOUBT | WriteResult.SUPPRESSED:
                self.claim_lost(letter, decision.transition.value)

    def found(self, letter: ClaimedRecipient, proof: str) -> None:
        """Google had the letter already."""
        self.events.letter_found(
            job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender, proof=proof
        )

    def decision(self, letter: ClaimedRecipient, decision: Decision, *, began: float) -> None:
        """A decision that was written."""
        cause, say = decision.error or "", self.events
        match decision.transition:
            case Transition.SENT:
                self.progress.sent += 1
                self.pause_log.sender_recovered(letter.sender, began=began)
                done, total = self.progress.advance(letter.job_id, letter.id)
                say.letter_sent(
                    job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender,
                    done=done, total=total, message_id=decision.message_id or "",
                )  # fmt: skip
            case Transition.FAILED:
                self.progress.failed += 1
                done, total = self.progress.advance(letter.job_id, letter.id)
                say.letter_failed(
                    job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender,
                    done=done, total=total, cause=cause,
                )  # fmt: skip
            case Transition.DEFERRED:
                say.letter_deferred(
                    job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender,
                    attempt=letter.attempt, again_in=decision.wait.total_seconds(), cause=cause,
                )  # fmt: skip
            case Transition.LOST:
                say.letter_unsure(
                    job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender,
                    cause=cause, look_in=decision.wait.total_seconds(),
                )  # fmt: skip
            case Transition.SUPPRESSED:
                self.progress.advance(letter.job_id, letter.id)
                say.letter_suppressed(
                    job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender, cause=cause
                )
            case _:
                say.letter_released(
                    job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender, cause=cause
                )
