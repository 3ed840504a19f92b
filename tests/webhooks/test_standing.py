"""How endpoints stand is the same in the tables, the metrics, an alert, `top` and `check`."""

from datetime import UTC, datetime

import pytest
from rich.console import Console

from mailerd.cli.checks import database as checks
from mailerd.cli.checks.result import Level
from mailerd.cli.top import page, read_snapshot
from mailerd.config import AlertSettings, Live
from mailerd.config.webhook_settings import WebhookSettings
from mailerd.core.rate_limit import SenderLimits
from mailerd.core.situation import Facts, situation
from mailerd.core.stats import QueueStats, WebhookStats
from mailerd.events.webhooks import WebhookEvents
from mailerd.ops.alerts import AlertState
from mailerd.ops.metrics import Metrics
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.read import stats
from mailerd.store.write.webhooks import NewEndpoint, WebhookQueue, Webhooks
from tests.support.rows import query
from tests.webhooks.conftest import Happen, endpoint
from tests.webhooks.receiver import Receiver
from tests.webhooks.test_retention import WAIT, numbered

NONE = DefaultLimits(SenderLimits(0, 0, 0))


@pytest.fixture
async def standing(database: Database, receiver: Receiver, happen: Happen) -> Database:
    """Endpoints of every standing; one has failed for two days, with three events that wait, the oldest an hour old."""
    await endpoint(database, receiver, "failing")
    webhooks = Webhooks(database, timeout=5)
    for name in ("well", "stopped", "left", "broken"):
        await webhooks.create(NewEndpoint(name, "https://example.com/"), actor="test")
    await query(database, "UPDATE webhooks SET state = 'gone' WHERE name = 'left'")
    await query(database, "UPDATE webhooks SET state = 'paused', pause_cause = 'manual' WHERE name = 'stopped'")
    await query(
        database,
        "UPDATE webhooks SET state = 'paused', pause_cause = 'failing', failures = 20, "
        "failing_since = UTC_TIMESTAMP(6) - INTERVAL 5 DAY WHERE name = 'broken'",
    )
    await happen(3)
    await numbered(database)
    queue = WebhookQueue(database, lease=WAIT)
    for id_ in (await queue.read_work()).behind:
        await queue.fan_out(id_)
    await query(database, "UPDATE events SET at = at - INTERVAL 1 HOUR WHERE position = 1")
    await query(
        database,
        "UPDATE webhooks SET failures = 12, failing_since = UTC_TIMESTAMP(6) - INTERVAL 2 DAY WHERE name = 'failing'",
    )
    await query(
        database,
        "UPDATE webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id SET d.status = 'delivered' "
        "WHERE w.name = 'well'",
    )
    return database


async def test_the_tables_say_how_each_stands(standing: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {it.name: it for it in await standing.read(stats.read_webhooks, what="test")}
    assert {name: it.standing for name, it in found.items()} == {
        "failing": "failing", "well": "on", "stopped": "paused_manually", "left": "gone", "broken": "paused"
    }  # fmt: skip
    assert (found["failing"].undelivered, found["well"].undelivered, found["well"].oldest) == (3, 0, 0)
    assert found["failing"].oldest == pytest.approx(3600, abs=60)
    assert found["failing"].failing == pytest.approx(2 * 86_400, abs=60)
    monkeypatch.setattr(stats, "MAX_COUNTED", 2)
    found = {it.name: it for it in await standing.read(stats.read_webhooks, what="test")}
    assert found["failing"].undelivered == 2


async def test_metrics_and_top_show_it(standing: Database) -> None:
    snapshot = await read_snapshot(stats.StatsReader(standing, Live(NONE)))
    metrics = Metrics()
    metrics.set_queue(snapshot.stats)
    events = WebhookEvents(metrics.on_event)
    events.webhook_delivered(webhook="well", uid="evt_1", event_type="job.paused", number=1, ms=3)
    for _ in range(2):
        events.webhook_attempt_failed(
            webhook="failing", uid="evt_1", event_type="job.paused", number=1, cause="x", again_in=5
        )
    shown = metrics.page().decode().splitlines()
    for line in (
        'mailerd_webhooks{standing="on"} 1.0', 'mailerd_webhooks{standing="paused"} 1.0',
        'mailerd_webhooks{standing="gone"} 1.0', "mailerd_webhook_undelivered_events 3.0",
        'mailerd_webhook_attempts_total{outcome="delivered"} 1.0',
        'mailerd_webhook_attempts_total{outcome="failed"} 2.0',
    ):  # fmt: skip
        assert line in shown
    oldest = next(line for line in shown if line.startswith("mailerd_webhook_oldest_undelivered_seconds "))
    assert float(oldest.split()[1]) == pytest.approx(3600, abs=60)
    console = Console(width=200, height=40, record=True)
    console.print(page(snapshot, width=200, height=40))
    (line,) = [line for line in console.export_text(clear=False).splitlines() if line.startswith("webhooks")]
    assert "5 endpoints" in line
    assert "The webhook failing has been failing for" in console.export_text(clear=False)
    assert "3 events waiting, the oldest for 60 min" in line


def test_an_endpoint_that_was_paused_since_it_failed_is_an_alert_until_it_is_resumed() -> None:
    state = AlertState(AlertSettings())
    broken = WebhookStats("broken", "paused", 5 * 86_400, 3, 100)
    by_hand = WebhookStats("stopped", "paused_manually", 0, 3, 100)
    state.update(Facts(QueueStats(at=datetime.now(UTC), webhooks=(broken, by_hand))), now=0)
    told = state.message(now=0)
    assert told is not None
    assert told.firing == ("webhook broken",)
    assert "is paused after failing for 5 d" in told.text
    for now in (50, 100, 200):
        state.update(Facts(QueueStats(at=datetime.now(UTC), webhooks=(by_hand,))), now=now)
    over = state.message(now=200)
    assert over is not None
    assert over.firing == ()


async def test_check_names_those_that_are_not_well_and_the_remedy(standing: Database) -> None:
    shown = await stats.StatsReader(standing, Live(DefaultLimits(SenderLimits(0, 0, 0)))).read()
    its = situation(Facts(shown))
    of_rows = [it for it in checks.rows(shown, its) if it.check == "webhooks"]
    assert [it.level for it in of_rows] == [Level.WARN] * 3
    told = {name: it for it in of_rows for name in ("failing", "left", "broken") if f"webhook {name} " in it.what}
    assert (set(told), len(told)) == ({"failing", "left", "broken"}, 3)
    assert "mailerd webhooks resume broken" in told["broken"].remedy
    settings, failing = WebhookSettings(allow_http=True, ports=[], allow_networks="127.0.0.0/8"), {
        it.subject for it in its
    }  # fmt: skip
    found = {it.check: it for it in await checks.examine_webhooks(standing, settings, failing, bound=5)}
    assert {name: it.level for name, it in found.items()} == {"webhooks": Level.PASS, "webhook stopped": Level.PASS}
    assert found["webhooks"].what == "1 of 5 endpoints is on (not tested)", "an event alone shows whether one accepts"
    assert found["webhook stopped"].what.startswith("paused manually")
    found = {it.check: it for it in await checks.examine_webhooks(standing, WebhookSettings(), failing, bound=5)}
    assert found["webhook failing"].level is Level.FAIL
    assert "must start with https://" in found["webhook failing"].what
