"""A pause that a person ordered: the same words wherever it is told, a metric of its own, and no alarm."""

import re
from datetime import UTC, datetime, timedelta

from rich.console import Console

from mailerd.cli.top import page, read_snapshot
from mailerd.config import AlertSettings, Live, Settings
from mailerd.core.pauses import until
from mailerd.core.rate_limit import FOREVER
from mailerd.core.situation import Facts, line, situation
from mailerd.ops.alerts import AlertState
from mailerd.ops.metrics import Metrics
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import default_limits
from mailerd.store.read import describe
from mailerd.store.read.history import HistoryReader
from mailerd.store.read.jobs import Jobs
from mailerd.store.read.stats import StatsReader
from mailerd.store.write.sender_actions import SenderActions
from tests.ops.test_metrics import value
from tests.support.rows import post

TERMS = default_limits(Settings())


async def told(database: Database, job: str) -> dict[str, str]:
    """What each of those who tell of pauses says."""
    stats = await StatsReader(database, Live(TERMS)).read()
    console = Console(width=200, record=True, force_terminal=False)
    console.print(page(await read_snapshot(StatsReader(database, Live(TERMS))), width=200, height=50))
    (story,) = await HistoryReader(database).of_address("a@example.org")
    found = await Jobs(database, timeout=5).job(job)
    assert found is not None
    return {
        "status line": line(stats, situation(Facts(stats))),
        "top": console.export_text(),
        "explain a message": "\n".join(describe.of_message(story, describe.Queue())),
        "explain a job": "\n".join(describe.of_job(found)),
    }


async def test_until_it_is_resumed_is_told_as_that_everywhere(database: Database) -> None:
    job = await post(database, recipients=["a@example.org"])
    await SenderActions(database, TERMS).pause("me@example.com", lasts=None, reason="the owner is on leave", actor="T")
    for who, text in (await told(database, job)).items():
        assert re.search("paused (manually )?until it is resumed", text), who
        assert "9999" not in text, who
        assert "00:00:00:" not in text, who
    message = (await told(database, job))["explain a message"]
    assert "is paused until it is resumed: the owner is on leave" in message
    assert (
        "Next, if a daemon starts now: nothing, until it is resumed: `mailerd senders resume me@example.com`."
        in message
    )


async def test_an_ordered_pause_with_an_end_is_told_with_it(database: Database) -> None:
    job = await post(database, recipients=["a@example.org"])
    end, *_ = await SenderActions(database, TERMS).pause(
        "me@example.com", lasts=timedelta(hours=2), reason="not now", actor="T"
    )
    said = await told(database, job)
    for who in ("status line", "top"):
        assert re.search(f"paused manually until .*{end:%H:%M} UTC: not now", said[who]), who
    assert f"paused until {end:%Y-%m-%d %H:%M:%S} UTC" in said["explain a job"]
    assert re.search("Next, if a daemon starts now: it is tried in (2 h|119 min)", said["explain a message"])


async def test_the_metric_knows_an_ordered_pause_and_the_board_leaves_it_alone(database: Database) -> None:
    await post(database, recipients=["a@example.org"])
    await SenderActions(database, TERMS).pause("me@example.com", lasts=None, reason="the owner is on leave", actor="T")
    stats, metrics, state = await StatsReader(database, Live(TERMS)).read(), Metrics(), AlertState(AlertSettings())
    metrics.set_queue(stats)
    assert value(metrics.page(), 'mailerd_sender_paused{cause="manual",sender="me@example.com"}') == 1
    state.update(Facts(stats), now=0)
    assert state.message(now=0) is None, "whoever ordered it knows it"


def test_the_end_of_a_pause_in_words() -> None:
    assert until(FOREVER) == "until it is resumed"
    assert until(FOREVER, "{:%H:%M}".format) == "until it is resumed"
    assert until(datetime(2026, 11, 24, 14, 5, tzinfo=UTC)) == "until 2026-11-24 14:05:00 UTC"
    assert until(datetime(2026, 11, 24, 14, 5, tzinfo=UTC), "{:%H:%M}".format) == "until 14:05"
