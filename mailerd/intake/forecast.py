"""The forecast in an answer: when the letters of a job will go, and why they wait."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

from mailerd.core.forecast import ForecastInputs, compute_forecast, describe, waiting_reason
from mailerd.intake.response_models import ForecastOut
from mailerd.store.db.times import rfc3339
from mailerd.store.forecast_inputs import ForecastReader
from mailerd.store.jobs import Job

_MAX_WINDOWS = 10
"""Send windows that an answer lists; the end is given all the same."""


class ForecastService:
    """The sender's pace, quota and queue played forward."""

    def __init__(self, reader: ForecastReader) -> None:
        self._reader = reader

    async def forecast(self, job_id: str) -> Mapping[str, object]:
        """When it begins, when it is done, how much of it goes before the first stop, and why it waits now."""
        inputs = await self._reader.read(job_id)
        return {} if inputs is None else _shown(inputs)

    async def forecasts(self, jobs: Sequence[Job]) -> Mapping[str, Mapping[str, object]]:
        """The same for many jobs, for the price of few statements."""
        found = {}
        for id_, inputs in (await self._reader.read_all([job.id for job in jobs])).items():
            found[id_] = _shown(inputs)
            await asyncio.sleep(0)  # half a year takes milliseconds to play through: the loop turns between two
        return found

    async def for_new_job(
        self, sender_email: str, *, priority: int, letters: int, send_at: datetime | None
    ) -> Mapping[str, object]:
        """What a job would take, if it were accepted now."""
        return _shown(await self._reader.for_new_job(sender_email, priority=priority, letters=letters, send_at=send_at))


def _shown(inputs: ForecastInputs) -> dict[str, object]:
    if not inputs.letters and inputs.unresolved is None:
        return {}
    it = compute_forecast(inputs)
    parts = [
        {"from": rfc3339(each.begins), "until": rfc3339(each.ends), "letters": each.letters}
        for each in it.windows[:_MAX_WINDOWS]
    ]
    shown: dict[str, object] = {
        "letters_ahead": it.queued_before,
        "per_minute": None if it.per_minute is None else round(it.per_minute, 1),
        "starts_at": it.starts_at and rfc3339(it.starts_at),
        "done_at": it.done_at and rfc3339(it.done_at),
        "windows": parts,
        "cause_of_wait": waiting_reason(inputs, it),
        "text": describe(inputs, it),
    }
    ForecastOut.model_validate(shown)  # what no answer can have costs the forecast here, and the answer there
    return shown
