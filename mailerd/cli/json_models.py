"""What commands print with --json: the API's models, and what commands show beyond them.

Only --json imports it: all that the API's models need is slow to import.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Self

from mailerd.core.forecast import ForecastInputs
from mailerd.core.reading import Condition
from mailerd.core.states import Proof
from mailerd.intake.recipients import ExplainedMessage
from mailerd.intake.response_models import ActionOut, ForecastOut, JobOut
from mailerd.locale import say
from mailerd.model.fields import Moment, ResponseModel, Sentence, Whole
from mailerd.store.read.describe import Waits, waits_for
from mailerd.store.read.history import MessageFailure
from mailerd.store.read.jobs import Job
from mailerd.store.write.job_actions import RecordedAction


class ListedJob(JobOut):
    """A job as in `GET /api/jobs/{id}`, and what it waits for."""

    waits_for: Waits | None = None

    @classmethod
    def listed(cls, job: Job, inputs: ForecastInputs | None, *, daemon: bool) -> Self:
        """A job; `daemon`: one runs."""
        return cls.of(job, ForecastOut.of(inputs)).model_copy(
            update={"waits_for": waits_for(job, daemon=daemon, inputs=inputs)}
        )


class ListedJobs(ResponseModel):
    """The newest jobs, as in `GET /api/jobs`."""

    jobs: list[ListedJob]
    next_cursor: str | None


class Failure(ResponseModel):
    """A message that failed, or an attempt that did."""

    recipient_id: int
    job_id: str
    email: str
    what: str
    error: Sentence
    at: Moment

    @classmethod
    def of(cls, it: MessageFailure) -> Self:
        """One as the store has it."""
        return cls(
            recipient_id=it.recipient,
            job_id=it.job_id,
            email=it.to_email,
            what=it.what,
            error=it.error,
            at=it.at,
        )


class ShownJob(ListedJob):
    """A job, and all that `mailerd jobs show` shows of it."""

    story: list[Sentence]
    actions: list[ActionOut]
    confirmed_by: dict[str, Whole]
    failures: list[Failure]

    @classmethod
    def told(
        cls,
        job: ListedJob,
        story: Sequence[str],
        *,
        actions: Sequence[RecordedAction],
        proofs: Mapping[Proof | None, int],
        failures: Sequence[MessageFailure],
    ) -> Self:
        """A job; `story`: its sentences."""
        return cls(
            **dict(job),
            story=list(story),
            actions=[ActionOut.of(it) for it in actions],
            confirmed_by=by_proof(proofs),
            failures=[Failure.of(it) for it in failures],
        )


def by_proof(counts: Mapping[Proof | None, int]) -> dict[str, int]:
    """Sent messages by how they were confirmed."""
    return {str(proof or "none"): number for proof, number in counts.items()}


class Explained(ResponseModel):
    """What `mailerd explain` found: a job, or messages."""

    job: ShownJob | None
    recipients: list[ExplainedMessage]


def finding(it: Condition) -> dict[str, Any]:
    """What is not as it should be."""
    moments: dict[str, datetime | None] = {"since": it.since, "until": it.until}
    return {
        "severity": it.severity.value,
        "code": it.code,
        "about": it.about,
        "text": say(it.text),
        "remedies": [say(each) for each in it.remedies],
        "recipient_id": it.example,
        **moments,
    }
