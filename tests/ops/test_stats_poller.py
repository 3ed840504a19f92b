"""The counts of the status line and of the metrics: they are read soon after a change, and else every ten seconds."""

import asyncio
from collections.abc import Callable

import pytest

from mailerd.core.stats import QueueStats
from mailerd.events.base import EventSink
from mailerd.events.process import ProcessEvents
from mailerd.events.worker import RunnerEvents
from mailerd.heartbeat import Heartbeats
from mailerd.ops.metrics import Metrics, QueueChanges, StatsPoller
from tests.support.heard import PATIENCE, Heard


def _job_found(sink: EventSink) -> None:
    RunnerEvents(sink).job_found(job="J", type="send_template_emails", sender="me@example.com", total=3, age=0.2)


def _job_finished(sink: EventSink) -> None:
    RunnerEvents(sink).job_finished(job="J", sent=3, failed=0, cancelled=0, seconds=1.0)


def _alive(sink: EventSink) -> None:
    RunnerEvents(sink).alive(polls=1, sent=0, failed=0, in_flight=0)


@pytest.mark.parametrize("change", [_job_found, _job_finished])
async def test_a_job_that_a_command_has_stored_is_counted_once_it_is_found(change: Callable[[EventSink], None]) -> None:
    changes = QueueChanges()
    change(changes.on_event)
    async with asyncio.timeout(PATIENCE):
        await changes.wait(timeout=60)


async def test_what_follows_at_once_from_a_change_is_read_along_with_it() -> None:
    changes = QueueChanges()
    _job_found(changes.on_event)
    first = asyncio.create_task(changes.wait(timeout=60))
    await asyncio.sleep(0)
    _job_finished(changes.on_event)
    await first
    second = asyncio.create_task(changes.wait(timeout=60))
    done, _ = await asyncio.wait({second}, timeout=0.05)
    assert not done
    second.cancel()


async def test_an_event_that_changes_no_count_waits_for_the_next_round() -> None:
    changes = QueueChanges()
    _alive(changes.on_event)
    waiting = asyncio.create_task(changes.wait(timeout=60))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_a_row_that_mailerd_does_not_understand_ends_no_daemon() -> None:
    """It stays as it is: a daemon that ended by it would end so ten seconds after each start."""
    heard = Heard()

    async def read() -> QueueStats:
        raise ValueError("'bogus' is not a valid State")

    poller = StatsPoller(read, QueueChanges(), Metrics(), ProcessEvents(heard), Heartbeats())
    running = asyncio.create_task(poller.run())
    await heard.wait_for("stats_crashed")
    assert not running.done()
    assert poller.current() is None
    running.cancel()
