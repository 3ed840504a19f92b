"""What a client is told about when its letters will go."""

from collections.abc import Mapping
from typing import Protocol

from mailerd.store.jobs import Jobs


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
