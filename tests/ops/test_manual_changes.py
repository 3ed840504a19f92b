"""The daemon's log and status line follow what people do, whoever's command it was, within seconds."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailerd.config import Settings
from mailerd.core.states import JobChange
from mailerd.core.stats import QueueStats, RecentAction
from mailerd.core.suppression import EVERYTHING, Channel, Reason
from mailerd.events.process import ProcessEvents
from mailerd.ops import metrics
from mailerd.sandbox.google import FakeGoogle, FakeLimits, serve
from mailerd.store.queue.rate_limits import default_limits
from mailerd.store.write.action_log import ListLog
from mailerd.store.write.api_keys import ApiKeys
from mailerd.store.write.job_actions import JobActions
from mailerd.store.write.secrets import Secrets
from mailerd.store.write.sender_actions import SenderActions
from mailerd.store.write.suppressions import NewSuppression, Suppressions
from mailerd.store.write.webhooks import NewEndpoint, Webhooks
from tests.support.daemon import running, settings, sign_in
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.rows import post

ME = "me@example.com"


async def test_what_somebody_does_by_command_is_told_in_the_log_of_the_daemon(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert metrics.STATS_INTERVAL <= 10  # "within seconds": each step below waits for one look
    monkeypatch.setattr(metrics, "STATS_INTERVAL", 1.0)
    google, heard = FakeGoogle(FakeLimits(latency_s=0)), Heard()
    sign_in(google, tmp_path / "credentials")
    async with (
        serve(google) as gmail,
        running(settings(database_url, gmail, tmp_path / "credentials"), heard) as daemon,
    ):
        senders = SenderActions(daemon.database, default_limits(Settings()))
        await senders.pause(ME, lasts=None, reason="moving house", actor="T")
        paused = await heard.wait_for("sender_paused_manually")
        job = await post(daemon.database)
        controls = JobActions(daemon.database, timeout=5, late_arrival=timedelta(0))
        await controls.apply(job, JobChange.PAUSE, actor="command, ada")
        await controls.apply(job, JobChange.PAUSE, actor="shop")
        steered = await heard.wait_for("job_action")
        await senders.resume(ME, actor="T")
        await heard.wait_for("sender_resumed_manually")
        await daemon.database.execute(
            "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, pause_cause = 'daily_limit'",
            what="pause as Google does",
        )
        await senders.resume(ME, actor="command, ada")
        await heard.wait_for("sender_action")
        await senders.pause(ME, lasts=None, reason="too short for two reads", actor="command, bob")
        await senders.resume(ME, actor="command, bob")
        await heard.wait_for("sender_action", times=3)
        await Webhooks(daemon.database, timeout=5).create(
            NewEndpoint("shop", "https://example.com/"), actor="command, ada"
        )
        await heard.wait_for("webhook_action")
        await ApiKeys(daemon.database, timeout=5).create("till", actor="command, ada")
        await heard.wait_for("key_action")
    assert heard.of("key_action") == [
        {"name": "till", "action": "create_key", "actor": "command, ada", "via": "command"}
    ]
    assert heard.of("webhook_action") == [
        {"webhook": "shop", "action": "add", "actor": "command, ada", "via": "command"}
    ]
    assert heard.of("sender_action") == [
        {"sender": ME, "action": action, "actor": actor, "via": "command"}
        for action, actor in (("resume", "command, ada"), ("pause", "command, bob"), ("resume", "command, bob"))
    ]
    assert heard.of("sender_paused_manually")[0] == {
        "sender": ME, "until": "until it is resumed", "reason": "moving house"
    }  # fmt: skip
    assert heard.of("job_action") == [
        {
            "job": job, "action": "pause", "actor": "command, ada", "messages": 0, "status": "paused", "via": "command",
        }
    ]  # fmt: skip
    del paused, steered


async def test_suppressions_by_command_are_told_while_an_import_goes_on(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "STATS_INTERVAL", 1.0)
    google, heard = FakeGoogle(FakeLimits(latency_s=0)), Heard()
    sign_in(google, tmp_path / "credentials")
    async with (
        serve(google) as gmail,
        running(settings(database_url, gmail, tmp_path / "credentials"), heard) as daemon,
    ):
        keys = await Secrets(daemon.database, timeout=5).keys()
        suppressions = Suppressions(daemon.database, key=keys.address, timeout=5)
        everything = {EVERYTHING: "everything"}
        log = ListLog("suppress", "command, ada", everything)

        async def suppress(*addresses: str) -> None:
            new = [
                NewSuppression(suppressions.digest(it), EVERYTHING, Reason.IMPORTED, Channel.IMPORT, it)
                for it in addresses
            ]
            before = len(heard.of("suppression_action"))
            await suppressions.add(new, log=log)
            await heard.wait_for("suppression_action", times=before + 1)

        await eventually(lambda: _read(daemon.service.stats))
        await suppress("a@example.com", "b@example.com")
        await suppress("c@example.com")
        await suppressions.remove(
            suppressions.digest("a@example.com"), list_id=EVERYTHING, source=Channel.CLI,
            log=ListLog("unsuppress", "command, ada", everything),
        )  # fmt: skip
        await heard.wait_for("suppression_action", times=3)
    said = {"actor": "command, ada", "mailing_list": "everything", "reason": "", "source": "", "via": "command"}
    assert heard.of("suppression_action") == [
        {**said, "action": action, "changed": changed}
        for action, changed in (("suppress", 2), ("suppress", 1), ("unsuppress", 1))
    ]


async def test_the_status_line_knows_of_a_job_within_seconds(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "STATS_INTERVAL", 600.0)  # it knows by the change, and not by the next round
    google, heard = FakeGoogle(FakeLimits(latency_s=0)), Heard()
    (tmp_path / "credentials").mkdir()
    async with (
        serve(google) as gmail,
        running(settings(database_url, gmail, tmp_path / "credentials"), heard) as daemon,
    ):
        watchdog = daemon.service.watchdog
        await eventually(lambda: _says(watchdog._status, "0 jobs"))
        await post(daemon.database, recipients=3)
        daemon.runner.wake()
        await heard.wait_for("sender_paused")
        await eventually(lambda: _says(watchdog._status, "1 job, 3 waiting"))


async def _read(stats: metrics.StatsPoller) -> bool:
    return stats.current() is not None


async def _says(line: object, words: str) -> bool:
    assert callable(line)
    return words in line()


def test_an_action_that_is_committed_after_a_later_one_is_told_too() -> None:
    heard, at = Heard(), datetime(2026, 11, 24, tzinfo=UTC)
    changes = metrics.ManualChanges(ProcessEvents(heard))

    def look(*numbers: int) -> None:
        asked = [RecentAction(it, f"J{it}", "pause", "command, ada", 0, None, None) for it in numbers]
        changes.compare(QueueStats(at=at, asked=tuple(asked)))

    look(3, 1)
    look(5, 3, 1)
    look(5, 4, 3, 1)
    look(5, 4, 3, 1)
    assert [it["job"] for it in heard.of("job_action")] == ["J5", "J4"]
