"""A recorder of messages for tests, as a daemon joins it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from mailerd.clock import Clock
from mailerd.events.worker import RunnerEvents
from mailerd.gmail import MessageSemaphore
from mailerd.heartbeat import Heartbeats
from mailerd.store.queue.failover import ReplayLog
from mailerd.worker.recorder import Recorder
from tests.support.heard import Heard
from tests.support.replayed import replayed


def new_recorder(
    rows: Any,
    heard: Heard,
    *,
    semaphore: MessageSemaphore | None = None,
    clock: Clock | None = None,
    memory: ReplayLog | None = None,
    may_be_over: Callable[[str], bool] = lambda _: True,
) -> Recorder:
    """One that writes by `rows`; with 20 slots, the true clock and a database that has lost nothing, if not told."""
    return Recorder(
        rows, semaphore or MessageSemaphore(20), clock=clock or Clock(), events=RunnerEvents(heard),
        memory=memory or replayed(rows.database), heartbeats=Heartbeats(), may_be_over=may_be_over,
    )  # fmt: skip


@asynccontextmanager
async def recording(recorder: Recorder) -> AsyncIterator[Recorder]:
    """It writes meanwhile, and ends by nothing but its cancellation."""
    running = asyncio.create_task(recorder.run())
    yield recorder
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
