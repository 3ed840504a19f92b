"""Alarms by apprise itself, to servers on loopback: raised, resolved, refused, and one that hangs in nobody's way."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mailerd.config import AlertSettings
from mailerd.core.situation import Facts
from mailerd.core.stats import DaemonInfo, QueueStats
from mailerd.errors import ConfigurationError
from mailerd.events.process import ProcessEvents
from mailerd.heartbeat import Heartbeats
from mailerd.ops import alerts as post_module
from mailerd.ops.alerts import Alerter, AlertState, Message, build_notifiers
from mailerd.sandbox.google import FakeGoogle, FakeLimits, serve
from tests.house.source import ROOT
from tests.support.daemon import running, settings, sign_in
from tests.support.heard import PATIENCE, Heard
from tests.support.rows import post, query

apprise = pytest.importorskip("apprise", reason="apprise is not installed (pip install 'mailerd[alerts]')")
# What apprise 2.3 imports on its way; Python 3.13 no longer has it, and then apprise does without.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
MESSAGE = Message(subject="mailerd: trouble", lines=("the database is away", "for 61 s"), firing=("database",))


@dataclass
class Target:
    """A server that people would read; it hangs when it is told to."""

    port: int = 0
    taken: list[tuple[str, Any]] = field(default_factory=list)
    status: int = 200
    hanging: asyncio.Event | None = None

    async def take(self, request: web.Request) -> web.Response:
        self.taken.append((request.path, await request.json()))
        if self.hanging is not None:
            await self.hanging.wait()
        return web.Response(status=self.status)

    def url(self, scheme: str, path: str = "") -> str:
        return f"{scheme}://127.0.0.1:{self.port}/{path}"


@asynccontextmanager
async def _served(target: Target) -> AsyncIterator[Target]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", target.take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    target.port = runner.addresses[0][1]
    yield target
    if target.hanging is not None:
        target.hanging.set()
    await runner.cleanup()


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    async with _served(Target()) as it:
        yield it


async def _until(holds: Callable[[], Any] | Callable[[], Awaitable[Any]], *, within: float = PATIENCE) -> None:
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 - the other side is a thread of apprise's
            await asyncio.sleep(0.02)


async def test_two_schemes_of_apprise_take_an_alarm(target: Target) -> None:
    for way in build_notifiers(webhook="", urls=[target.url("json", "hook"), target.url("ntfy", "mailerd")]):
        await way.send(MESSAGE)
    (path, by_json), (_, by_ntfy) = target.taken
    assert path == "/hook"
    assert (by_json["title"], by_json["message"]) == (MESSAGE.subject, MESSAGE.text)
    assert (by_ntfy["topic"], by_ntfy["title"], by_ntfy["message"]) == ("mailerd", MESSAGE.subject, MESSAGE.text)


async def test_what_was_not_delivered_is_told_with_the_reason_and_without_the_address(target: Target) -> None:
    target.status = 503
    (way,) = build_notifiers(webhook="", urls=[target.url("json", "secret-token")])
    with pytest.raises(OSError, match=r"alerts.urls, number 1: .*503") as caught:
        await way.send(MESSAGE)
    assert "secret-token" not in str(caught.value)


async def test_of_two_targets_that_fail_at_once_each_has_its_own_reason(target: Target) -> None:
    target.status, target.hanging = 503, asyncio.Event()
    async with _served(Target(status=404)) as other:
        first, second = build_notifiers(webhook="", urls=[target.url("json"), other.url("json")])
        waits = asyncio.create_task(first.send(MESSAGE))
        await _until(lambda: target.taken)
        with pytest.raises(OSError, match=r"number 2: .*404"):
            await second.send(MESSAGE)
        target.hanging.set()
        with pytest.raises(OSError, match=r"number 1: .*503"):
            await waits


def test_an_address_that_apprise_does_not_know_is_refused_by_its_number() -> None:
    with pytest.raises(ConfigurationError, match="number 2 is not an address"):
        build_notifiers(webhook="", urls=["json://127.0.0.1/", "nonsense"])


WELL = Facts(QueueStats(at=datetime.now(UTC), daemons=(DaemonInfo("d", "h", 1, "0", silent=1),)))


async def test_an_alarm_is_raised_and_resolved(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.ops.alerts._CHECK_INTERVAL", 0.05)
    monkeypatch.setattr("mailerd.ops.alerts._SETTLED_AFTER", 0.2)
    away, heard = ["away"], Heard()
    known = AlertSettings(urls=[target.url("json")], database_away=0.1, min_interval=0.1)
    alerter = Alerter(
        AlertState(known),
        lambda: Facts(None, "away") if away[0] else WELL,
        events=ProcessEvents(heard),
        heartbeats=Heartbeats(),
    )
    running_alarms = asyncio.create_task(alerter.run())
    try:
        await _until(lambda: target.taken)
        away[0] = ""
        await _until(lambda: len(heard.names()) >= 2)  # it is told when the target has answered, not when it is asked
    finally:
        running_alarms.cancel()
    raised, resolved = (body["message"] for _, body in target.taken[:2])
    assert "database" in raised
    assert "resolved" in resolved.lower()
    assert heard.names()[:2] == ["alert_sent", "alert_sent"]


_ALARM_AND_END = """
import asyncio, sys
from mailerd.ops import alerts as notify
from mailerd.ops.alerts import Message

notify.SEND_TIMEOUT = 0.5
(way,) = notify.build_notifiers(webhook="", urls=[sys.argv[1]])
try:
    asyncio.run(way.send(Message(subject="s", lines=("l",), firing=())))
except TimeoutError:
    print("it hangs")
"""


async def test_a_process_ends_while_a_target_hangs(target: Target) -> None:
    target.hanging = asyncio.Event()
    ending = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _ALARM_AND_END, f"{target.url('json')}?rto={2 * PATIENCE:.0f}", cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(ending.communicate(), PATIENCE)
    assert said == b"it hangs\n"


def _nothing() -> QueueStats | None:
    return None


async def test_a_target_that_hangs_delays_neither_messages_nor_the_other_targets_nor_a_stop(
    database_url: str, tmp_path: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post_module, "SEND_TIMEOUT", 0.5)
    monkeypatch.setattr("mailerd.ops.alerts._CHECK_INTERVAL", 0.05)
    rules = FakeLimits(latency_s=0, units_per_minute=0, project_units_per_minute=0, per_day=0)
    google, heard, where = FakeGoogle(rules), Heard(), tmp_path / "credentials"
    sign_in(google, where)
    target.hanging = asyncio.Event()
    async with serve(google) as gmail, _served(Target()) as other:
        # Apprise would wait for an answer for 4 s each time, were it not told to be more patient still.
        urls = [f"{target.url('json')}?rto=30", other.url("json")]
        known = settings(database_url, gmail, where, alerts={"urls": urls, "min_interval": 0.1})
        async with running(known, heard) as daemon:
            google.revoke("me@example.com")
            await post(daemon.database, recipients=1)
            await heard.wait_for("sender_paused")
            await query(
                daemon.database, "UPDATE senders SET pause_cause = 'token_refused', "
                "paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR",
            )  # fmt: skip
            daemon.service.stats.take(await daemon.service.stats.read())
            unsent = await heard.wait_for("alert_failed", times=2)
            assert "number 1 still hangs" in unsent["cause"]
            await _until(lambda: other.taken)
            sign_in(google, where, "you@example.com")
            await post(daemon.database, sender="you@example.com", recipients=40)
            began = time.monotonic()
            await heard.wait_for("job_finished")
        assert time.monotonic() - began < 25, "the target hangs for 30 s"
    assert len(target.taken) == 1, "while it hangs nothing more is given to it"
