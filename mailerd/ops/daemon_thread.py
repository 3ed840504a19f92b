"""Runs work that may block for ever in a thread that is not joined at the end; asyncio joins its own threads."""

import asyncio
import threading
from collections.abc import Callable


async def in_thread[T](work: Callable[[], T]) -> T:
    """The outcome of `work`, or its error; the caller may be cancelled meanwhile."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(outcome: T | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(outcome)  # type: ignore[arg-type]  # without an error there is an outcome

    def run() -> None:
        outcome: T | None = None
        failed: Exception | None = None
        try:
            outcome = work()
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            failed = error
        try:
            loop.call_soon_threadsafe(settle, outcome, failed)
        except RuntimeError:
            return  # the loop has ended: the caller has gone

    threading.Thread(target=run, daemon=True).start()
    return await done
