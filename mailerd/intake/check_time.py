"""The time that the check of one job may take, and whose fault it is when it does not do."""

import time
from concurrent.futures import Future

from mailerd.intake.errors import ApiError
from mailerd.mail.renderer import Rendered, ThreadRenderer
from mailerd.mail.templates import RendererError


class CheckTime:
    """Begins now, in the thread that checks. `total`: how many recipients there are."""

    def __init__(self, seconds: float, renderer: ThreadRenderer, *, total: int) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._renderer = renderer
        self._total = total
        self._used_before = self._used()

    def require(self, done: int) -> None:
        """Go on only while there is time.

        Raises:
            ApiError: 422, the template takes too long for so many recipients.
            RendererError: others had this machine meanwhile.
        """
        if time.monotonic() > self._until:
            raise self._over(done)

    def wait_for(self, rendering: "Future[list[Rendered]]", *, done: int) -> list[Rendered]:
        """The letters, once they are rendered.

        Raises:
            ApiError, RendererError: as `require`, or what the rendering raises.
        """
        try:
            return rendering.result(timeout=max(self._until - time.monotonic(), 0.0))
        except TimeoutError:
            rendering.cancel()
            raise self._over(done) from None

    def _used(self) -> float:
        return time.thread_time() + self._renderer.cpu.seconds

    def _over(self, done: int) -> ApiError | RendererError:
        so_far = f"after {self._seconds:g} s only {done:,} of {self._total:,} recipients were checked"
        if (self._used() - self._used_before) * 2 < self._seconds:
            return RendererError(f"{so_far}: other work, or other clients' templates, had the CPU")
        return ApiError(422, "too_costly", f"{so_far}: make the template simpler, or split the job; nothing was stored")
