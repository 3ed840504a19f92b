"""What a client is told about when its letters will go."""

from collections.abc import Mapping
from typing import Protocol

from mailerd.core.forecast import foresee, say, why
from mailerd.intake.answers import rfc3339
from mailerd.store.jobs import Jobs
from mailerd.store.outlook import Outlooks

_STRETCHES_AT_MOST = 10
"""Stretches without a stop that an answer lists; the end is told all the same."""


class Forecast(Protocol):
    """Says what lies before a job that has just been stored."""

    async def forecast(self, job_id: str, *, sender_email: str, priority: int) -> Mapping[str, object]:
        """What goes into the answer as `forecast`; may raise DatabaseError, the job stands all the same."""


class LettersAhead:
    """The honest minimum: how many letters of the same sender wait before these. No time is made up."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def forecast(self, job_id: str, *, sender_email: str, priority: int) -> Mapping[str, object]:
        """`letters_ahead`, counted up to 100,000."""
        ahead = await self._jobs.letters_ahead(job_id, sender_email=sender_email, priority=priority)
        return {"letters_ahead": ahead}


class Foresight:
    """The sender's pace, quota and queue played forward."""

    def __init__(self, outlooks: Outlooks) -> None:
        self._outlooks = outlooks

    async def forecast(self, job_id: str, *, sender_email: str, priority: int) -> Mapping[str, object]:  # noqa: ARG002
        """When it begins, when it is done, how much of it goes before the first stop, and why it waits now."""
        outlook = await self._outlooks.read(job_id)
        if outlook is None:
            return {}
        it = foresee(outlook)
        parts = [
            {"from": rfc3339(each.begins), "until": rfc3339(each.ends), "letters": each.letters}
            for each in it.stretches[:_STRETCHES_AT_MOST]
        ]
        return {
            "letters_ahead": it.ahead,
            "per_minute": None if it.per_minute is None else round(it.per_minute, 1),
            "starts_at": rfc3339(it.starts_at),
            "done_at": rfc3339(it.done_at),
            "stretches": parts,
            "cause_of_wait": why(outlook, it),
            "text": say(it, now=outlook.now),
        }
