"""The forecast in an answer: when the letters of a job will go, and why they wait."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime

from mailerd.core.forecast import ForecastInputs, compute_forecast, describe, waiting_reason
from mailerd.errors import DatabaseError
from mailerd.events.intake import IntakeEvents
from mailerd.intake.response_models import ForecastOut, SendWindowOut
from mailerd.store.forecast_inputs import ForecastReader
from mailerd.store.jobs import Job

_MAX_WINDOWS = 10
"""Send windows that an answer lists; the end is given all the same."""


class ForecastService:
    """The sender's pace, quota and queue played forward; None where there is nothing to say."""

    def __init__(self, reader: ForecastReader) -> None:
        self._reader = reader

    async def forecast(self, job_id: str) -> ForecastOut | None:
        """When it begins, when it is done, how much of it goes before the first stop, and why it waits now."""
        inputs = await self._reader.read(job_id)
        return None if inputs is None else _shown(inputs)

    async def forecasts(self, jobs: Sequence[Job]) -> Mapping[str, ForecastOut | None]:
        """The same for many jobs, for the price of few statements."""
        found = {}
        for id_, inputs in (await self._reader.read_all([job.id for job in jobs])).items():
            found[id_] = _shown(inputs)
            await asyncio.sleep(0)  # half a year takes milliseconds to play through: the loop turns between two
        return found

    async def for_new_job(
        self, sender_email: str, *, priority: int, letters: int, send_at: datetime | None, job: str = ""
    ) -> ForecastOut | None:
        """What a job would take, if it were accepted now; `job`: its id, if it was, a moment ago."""
        return _shown(
            await self._reader.for_new_job(sender_email, priority=priority, letters=letters, send_at=send_at, job=job)
        )


async def try_forecast[T](asked: Awaitable[T], *, job: str, events: IntakeEvents) -> T | None:
    """What a forecast says; None where it cannot be had: the answer that it is a part of is given all the same."""
    try:
        return await asked
    except DatabaseError as error:
        events.forecast_failed(job=job, cause=str(error))
    except Exception as error:  # noqa: BLE001 - for a bug in it no job is hidden, and none is a 500 that is posted again
        events.forecast_broke(job=job, error=error)
    return None


def _shown(inputs: ForecastInputs) -> ForecastOut | None:
    if not inputs.letters and inputs.unresolved is None:
        return None
    it = compute_forecast(inputs)
    return ForecastOut(
        letters_ahead=it.queued_before,
        per_minute=None if it.per_minute is None else round(it.per_minute, 1),
        starts_at=it.starts_at,
        done_at=it.done_at,
        windows=[
            SendWindowOut(begins=each.begins, until=each.ends, letters=each.letters)
            for each in it.windows[:_MAX_WINDOWS]
        ],
        cause_of_wait=waiting_reason(inputs, it),
        text=describe(inputs, it),
    )
