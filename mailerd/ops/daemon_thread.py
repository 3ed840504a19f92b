"""Runs work that may block for ever in a thread that is not joined at the end; asyncio joins its
own threads.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future


async def in_thread[T](work: Callable[[], T]) -> T:
    """The outcome of `work`, or its error; the caller may be cancelled meanwhile."""
    done = Future[T]()
    done.set_running_or_notify_cancel()  # from here on a caller that is cancelled leaves it alone

    def run() -> None:
        try:
            outcome = work()
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            done.set_exception(error)
        else:
            done.set_result(outcome)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(done)
