"""`POST /api/jobs/send_template_emails`: from the request to the 200 that is as good as the disk."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any, Final, Protocol

from aiohttp import web

from mailerd.clock import Clock
from mailerd.config import IntakeSettings
from mailerd.core.states import JobStatus
from mailerd.errors import DatabaseError
from mailerd.events.intake import IntakeEvents
from mailerd.intake.answers import REQUEST, answer, rfc3339
from mailerd.intake.bodies import Bodies
from mailerd.intake.forecast import Forecast
from mailerd.intake.gate import Gate
from mailerd.intake.order import Order, read_order
from mailerd.intake.problems import Fault, away, invalid
from mailerd.intake.senders import Senders
from mailerd.store.jobs import Jobs, Stored

REJECTED_AT_MOST: Final = 1000
"""Rejected recipients that one answer lists; the rows have them all."""


class Bell(Protocol):
    """Wakes whoever sends."""

    def ring(self) -> None:
        """There is something new; costs nothing and never fails."""


class Accepting:
    """The handler; `executor` runs what would hold the loop."""

    def __init__(
        self,
        settings: IntakeSettings,
        *,
        gate: Gate,
        bodies: Bodies,
        jobs: Jobs,
        bell: Bell,
        forecast: Forecast,
        executor: Executor,
        events: IntakeEvents,
        clock: Clock,
        senders: Senders | None = None,
    ) -> None:
        self._max_recipients = settings.max_recipients
        self._gate = gate
        self._bodies = bodies
        self._jobs = jobs
        self._bell = bell
        self._forecast = forecast
        self._executor = executor
        self._events = events
        self._clock = clock
        self._senders = senders

    async def accept(self, request: web.Request) -> web.Response:
        """Accept a job."""
        started = self._clock.monotonic()
        key = await self._gate.admit(request)
        if "Idempotency-Key" in request.headers:
            raise invalid([Fault("Idempotency-Key", "this header is not supported yet")])
        async with self._bodies.read(request) as raw:
            order = await asyncio.get_running_loop().run_in_executor(
                self._executor,
                lambda: read_order(
                    raw,
                    key=key,
                    now=self._clock.now(),
                    max_recipients=self._max_recipients,
                    senders=self._senders,
                ),
            )
            stored = await self._store(order)
        self._bell.ring()
        self._events.job_accepted(
            job=order.job.id,
            sender=order.job.sender_email,
            total=order.total,
            accepted=order.accepted,
            due=str(rfc3339(stored.send_at)),
            ms=(self._clock.monotonic() - started) * 1000,
            key=key.name,
            request=REQUEST.get(),
        )
        return answer(_body(order, stored, await self._foresee(order)))

    async def _store(self, order: Order) -> Stored:
        try:
            return await self._jobs.accept(order.job)
        except DatabaseError as error:
            if not error.in_doubt:
                raise
            self._events.job_in_doubt(job=order.job.id, cause=str(error))
            raise away(
                f"the database went away during COMMIT: the job may have been stored under job_id {order.job.id}. "
                f"Ask GET /api/jobs/{order.job.id} before you post it again"
            ) from error

    async def _foresee(self, order: Order) -> Mapping[str, object]:
        job = order.job
        try:
            return await self._forecast.forecast(job.id, sender_email=job.sender_email, priority=job.priority)
        except DatabaseError as error:  # the job is durable: nothing may turn the 200 into anything else
            self._events.forecast_failed(job=job.id, cause=str(error))
            return {}


def _body(order: Order, stored: Stored, forecast: Mapping[str, object]) -> dict[str, Any]:
    rejected = order.rejected[:REJECTED_AT_MOST]
    return {
        "job_id": order.job.id,
        "status": JobStatus.QUEUED.value,
        "total": order.total,
        "accepted": order.accepted,
        "rejected": [{"index": each.index, "email": each.email, "reason": each.reason} for each in rejected],
        "rejected_total": len(order.rejected),
        "send_at": rfc3339(stored.send_at),
        "forecast": dict(forecast),
    }
