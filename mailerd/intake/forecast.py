"""What a client is told about when its letters will go."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from mailerd.core.forecast import ForecastInputs, foresee, tell, why
from mailerd.intake.middleware import rfc3339
from mailerd.store.forecast_inputs import ForecastReader
from mailerd.store.jobs import Job

_STRETCHES_AT_MOST = 10
"""Stretches without a stop that an answer lists; the end is told all the same."""


class Forecast(Protocol):
    """Says what lies before a job; each may raise DatabaseError, the job stands all the same."""

    async def forecast(self, job_id: str) -> Mapping[str, object]:
        """What goes into the answer as `forecast`."""

    async def forecasts(self, jobs: Sequence[Job]) -> Mapping[str, Mapping[str, object]]:
        """The same for many jobs, by their ids; nothing for those of which there is nothing to say."""

    async def imagine(
        self, sender_email: str, *, priority: int, letters: int, send_at: datetime | None
    ) -> Mapping[str, object]:
        """The same for a job that is not stored."""


class ForecastService:
    """The sender's pace, quota and queue played forward."""

    def __init__(self, outlooks: ForecastReader) -> None:
        self._outlooks = outlooks

    async def forecast(self, job_id: str) -> Mapping[str, object]:
        """When it begins, when it is done, how much of it goes before the first stop, and why it waits now."""
        outlook = await self._outlooks.read(job_id)
        return {} if outlook is None else _shown(outlook)

    async def forecasts(self, jobs: Sequence[Job]) -> Mapping[str, Mapping[str, object]]:
        """The same for many jobs, for the price of few statements."""
        found = {}
        for id_, outlook in (await self._outlooks.read_all([job.id for job in jobs])).items():
            found[id_] = _shown(outlook)
            await asyncio.sleep(0)  # half a year takes milliseconds to play through: the loop turns between two
        return found

    async def imagine(
        self, sender_email: str, *, priority: int, letters: int, send_at: datetime | None
    ) -> Mapping[str, object]:
        """What a job would take, if it were accepted now."""
        return _shown(await self._outlooks.imagine(sender_email, priority=priority, letters=letters, send_at=send_at))


def _shown(outlook: ForecastInputs) -> dict[str, object]:
    if not outlook.letters and outlook.doubts is None:
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
        "text": tell(outlook, it),
    }
