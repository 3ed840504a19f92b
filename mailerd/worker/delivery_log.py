"""What the log says of one letter's delivery."""

from dataclasses import dataclass

from mailerd.core.decisions import Decision
from mailerd.core.models import ClaimedRecipient, WriteResult
from mailerd.core.states import Transition
from mailerd.events.worker import RunnerEvents
from mailerd.worker.pause_log import PauseLog
from mailerd.worker.progress import JobProgress


@dataclass(frozen=True)
class DeliveryLog:
    """Writes the events of letters, and counts what this daemon has done."""

    events: RunnerEvents
    pause_log: PauseLog
    progress: JobProgress

    def bug(self, letter: ClaimedRecipient, fate: str, error: Exception) -> None:
        """A bug of mailerd that this letter met."""
        self.events.letter_broke(job=letter.job_id, recipient=letter.id, to=letter.to_email, fate=fate, error=error)

    def claim_lost(self, letter: ClaimedRecipient, change: str) -> None:
        """The claim had ended, and another daemon decides about the letter."""
        self.events.letter_claim_lost(job=letter.job_id, recipient=letter.id, to=letter.to_email, change=change)

    def result(self, letter: ClaimedRecipient, decision: Decision, written: WriteResult, *, began: float) -> None:
        """What became of a decision; `began`: when the attempt did, in monotonic seconds."""
        match written:
            case WriteResult.APPLIED:
                self.decision(letter, decision, began=began)
            case WriteResult.CANCELLED:
                self._cancelled(letter, decision)
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

    def _cancelled(self, letter: ClaimedRecipient, decision: Decision) -> None:
        self.events.letter_cancelled(
            job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender,
            cause=decision.error or "",
        )  # fmt: skip

    def decision(self, letter: ClaimedRecipient, decision: Decision, *, began: float) -> None:
        """A decision that was written."""
        cause, say = decision.error or "", self.events
        match decision.transition:
            case Transition.SENT:
                self.progress.sent += 1
                self.pause_log.sender_recovered(letter.sender, began=began)
                done, total = self.progress.advance(letter.job_id)
                say.letter_sent(
                    job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender,
                    done=done, total=total, message_id=decision.message_id or "",
                )  # fmt: skip
            case Transition.FAILED:
                self.progress.failed += 1
                done, total = self.progress.advance(letter.job_id)
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
                self.progress.advance(letter.job_id)
                say.letter_suppressed(
                    job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender, cause=cause
                )
            case _:
                say.letter_released(
                    job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender, cause=cause
                )
