"""The time that the check of one job may take, and whose fault it is when it does not do."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from mailerd.core.i18n import t
from mailerd.http.errors import ApiError
from mailerd.mail.templates import RendererError

CHECK_TIMEOUT: Final = 30.0
"""Seconds for all recipients of one job: 100,000 with a plain template take some three."""


class CheckTime:
    """Begins now. `cpu`: what the work on this job has taken, in seconds of CPU."""

    def __init__(self, seconds: float, *, cpu: Callable[[], float], total: int) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._cpu = cpu
        self._total = total
        self._used_before = cpu()

    def require(self, done: int) -> None:
        """Go on only while there is time.

        Raises:
            ApiError: 422, the template takes too long for so many recipients.
            RendererError: others had this machine meanwhile.
        """
        if time.monotonic() > self._until:
            raise self._over(done)

    async def wait_for[T](self, work: Awaitable[T], *, done: int) -> T:
        """The result of some work.

        Raises:
            ApiError, RendererError: as `require`, or what the work raises.
        """
        try:
            async with asyncio.timeout(max(self._until - time.monotonic(), 0.0)):
                return await work
        except TimeoutError:
            raise self._over(done) from None

    def _over(self, done: int) -> ApiError | RendererError:
        so_far = t(
            "only {done:,} of {total:,} recipients were checked in {seconds:g} s",
            seconds=self._seconds,
            done=done,
            total=self._total,
        )
        if (self._cpu() - self._used_before) * 2 < self._seconds:
            return RendererError(
                t("{so_far}: other work, or other clients' templates, used the CPU", so_far=so_far)
            )
        return ApiError(
            422,
            "too_costly",
            t(
                "{so_far}; nothing was stored. Simplify the template or split the job",
                so_far=so_far,
            ),
        )
