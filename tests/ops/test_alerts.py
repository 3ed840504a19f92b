"""Alerts: grouped, limited in rate, resolved when over, and never in the way."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Any

import pytest
from aiohttp import web

from mailerd.config import AlertSettings
from mailerd.core.pauses import remedy
from mailerd.core.reasons import reason
from mailerd.core.situation import Facts
from mailerd.core.states import State
from mailerd.core.stats import DaemonInfo, QueueStats, SenderStats, WebhookStats
from mailerd.events.base import registered_events
from mailerd.events.inbox import InboxEvents
from mailerd.events.process import ProcessEvents
from mailerd.events.worker import RendererEvents, RunnerEvents
from mailerd.heartbeat import Heartbeats
from mailerd.locale import say
from mailerd.ops.alerts import Alerter, AlertState, AlertWebhook, Message
from tests.support.heard import PATIENCE, Heard

AT = datetime(2026, 11, 24, 13, 0, tzinfo=UTC)


def paused(cause: str, *, minutes: float) -> SenderStats:
    return SenderStats(
        email="a@x", per_minute=0, per_day=0, used_minute=0, used_day=0,
        paused_until=AT + timedelta(minutes=minutes), pause_cause=cause, pause_reason="because",
        repair=remedy(cause, sender="a@x"),
    )  # fmt: skip


AWAY = Facts(None, "away")
GONE = "The database is unavailable: nothing is accepted, and nothing is sent. -> systemctl status mariadb mysql"


def known(**values: Any) -> Facts:
    return Facts(QueueStats(at=AT, **values))


def test_a_database_that_is_away_is_told_after_its_time_and_resolved_when_it_is_back() -> None:
    state = AlertState(AlertSettings())
    for now in (0, 59):
        state.update(AWAY, now=now)
        assert state.message(now=now) is None
    state.update(AWAY, now=60)
    told = state.message(now=60)
    assert told is not None
    assert (told.firing, told.subject, told.lines) == (("database",), "mailerd: database", (GONE,))
    state.update(known(), now=90)
    assert state.message(now=159) is None
    state.update(known(), now=160)
    over = state.message(now=160)
    assert over is not None
    assert over.lines == ("resolved: database, after 60 s",), "as long as it was away, and no longer"


def test_what_comes_together_is_told_together_and_not_too_often() -> None:
    state = AlertState(AlertSettings())
    facts = known(oldest_unsure=1000, recipients={State.UNSURE: 1}, senders=(paused("token_refused", minutes=1),))
    state.update(facts, now=0)
    first = state.message(now=0)
    assert first is not None
    assert len(first.lines) == 2
    assert "a@x cannot send. Action needed: because -> mailerd auth login --sender a@x" in first.lines
    state.update(AWAY, now=0)
    state.update(AWAY, now=50)
    assert state.message(now=50) is None, "within the least interval"
    state.update(AWAY, now=60)
    later = state.message(now=60)
    assert later is not None
    assert later.lines == (GONE,)


def test_a_database_that_can_only_be_read_is_not_called_away_and_one_that_is_full_is_told_at_once() -> None:
    for how, after in (("read-only", 60), ("full", 0)):
        state = AlertState(AlertSettings())
        state.update(Facts(None, how), now=0)
        state.update(Facts(None, how), now=after)
        told = state.message(now=after)
        assert told is not None
        assert f"The database is {how}: " in told.text


def test_what_stands_is_told_again_when_its_cause_changes() -> None:
    state = AlertState(AlertSettings())
    for now, cause, tells in ((0, "token_refused", True), (70, "token_refused", False), (140, "daily_limit", True)):
        state.update(known(senders=(paused(cause, minutes=60),)), now=now)
        assert (state.message(now=now) is not None) == tells, cause


def test_a_daemon_that_is_gone_is_told_while_another_one_runs() -> None:
    gone, runs = (DaemonInfo(str(n), f"host{n}", n, "v", silent, 9000) for n, silent in ((1, 40), (2, 3)))
    state = AlertState(AlertSettings())
    state.update(known(daemons=(gone, runs)), now=0)
    told = state.message(now=0)
    assert told is not None
    assert "The daemon 1 on host1 has not responded for 40 s; another one runs." in told.text


def test_ordinary_throttling_is_no_alarm_and_a_long_pause_is() -> None:
    state = AlertState(AlertSettings())
    state.update(known(senders=(paused("throttled", minutes=0.5),)), now=0)
    assert state.message(now=0) is None
    state.update(known(senders=(paused("daily_limit", minutes=60),)), now=1)
    assert state.message(now=1) is not None


def test_a_long_pause_is_over_when_it_ends_and_not_in_its_last_minutes() -> None:
    state = AlertState(AlertSettings())
    for minute in range(10):  # a pause of 10 min, looked at each minute
        state.update(known(senders=(paused("daily_limit", minutes=10 - minute),)), now=60 * minute)
        told = state.message(now=60 * minute)
        assert (told is not None) == (minute == 0), told
    state.update(known(), now=600)
    assert state.message(now=600) is None
    state.update(known(), now=616)
    over = state.message(now=616)
    assert over is not None
    assert over.lines == ("resolved: sender a@x, after 540 s",), "until it was seen last"


def test_what_the_tables_showed_is_not_called_over_while_nobody_can_read_them() -> None:
    state = AlertState(AlertSettings())
    webhook = WebhookStats(name="hook", standing="paused", undelivered=1, oldest=1.0, failing=432_000.0)
    unsure = {"oldest_unsure": 1000, "recipients": {State.UNSURE: 1}}
    state.update(known(senders=(paused("token_refused", minutes=1),), webhooks=(webhook,), **unsure), now=0)
    told = state.message(now=0)
    assert told is not None
    assert set(told.firing) == {"sender a@x", "webhook hook", "unsure"}
    for now in range(2, 600, 2):
        state.update(AWAY, now=now)
        told = state.message(now=now)
        assert told is None or told.lines == (GONE,)
    state.update(known(), now=700)
    over = state.message(now=700)
    assert over is not None
    assert {line.partition(",")[0] for line in over.lines} == {
        "resolved: sender a@x", "resolved: webhook hook", "resolved: unconfirmed messages", "resolved: database",
    }  # fmt: skip


async def test_a_loop_that_stays_stalled_is_not_called_resolved() -> None:
    now = 0.0
    heartbeats = Heartbeats(now=lambda: now, limit=90)
    heartbeats.register("runner").working("claiming")
    state = AlertState(AlertSettings())
    alerter = Alerter(state, lambda: Facts(None), events=ProcessEvents(Heard()), heartbeats=heartbeats)
    now = 91.0
    state.on_event(registered_events()["loop_stalled"], {"loop": "runner", "seconds": 91.0})
    started = time.monotonic()
    await alerter._check()
    state._firing["stalled runner"].seen = started - 80  # it stays so, and nothing more is said of it
    now = 171.0
    await alerter._check()
    assert state._firing["stalled runner"].line == "runner has made no progress for 171 s"


def test_why_the_last_message_failed_is_said_in_the_language_of_the_alerts() -> None:
    state = AlertState(AlertSettings())
    events = RunnerEvents(lambda event, fields: state.on_event(event, fields, now=0))
    for number in range(20):
        cause = reason("google_error", said="400")
        events.message_failed(job="J", recipient=number, to="x", sender="a@x", done=1, total=20, cause=cause)
    state.update(known(), now=1)
    told = state.message(now=1)
    assert told is not None
    assert [say(line, "zh") for line in told.lines] == ["最近 20 封邮件中有 20 封失败，最后一封：Google 响应 400"]


def test_a_rate_of_failures_and_a_job_with_failures_are_told() -> None:
    state = AlertState(AlertSettings())
    events = RunnerEvents(lambda event, fields: state.on_event(event, fields, now=0))
    for number in range(20):
        events.message_failed(job="J", recipient=number, to="x", sender="a@x", done=1, total=20, cause="no")
    events.job_finished(job="J", sent=0, failed=20, cancelled=0, seconds=1)
    state.update(known(), now=1)
    told = state.message(now=1)
    assert told is not None
    assert "20 of the last 20 messages failed, the last one: no" in told.text
    assert "job J finished with failures: 0 sent, 20 failed" in told.text


def test_a_job_that_was_paused_for_its_list_is_told() -> None:
    state = AlertState(AlertSettings())
    events = InboxEvents(lambda event, fields: state.on_event(event, fields, now=0))
    events.job_bounces(job="J", sender="a@x", reason="3 of 6 came back")
    assert state.message(now=1) is None
    events.job_paused_for_bounces(job="J", sender="a@x", reason="6 of 6 came back")
    told = state.message(now=1)
    assert told is not None
    assert "job J is paused: 6 of 6 came back" in told.text


async def test_a_web_hook_gets_json_and_one_that_fails_breaks_nothing() -> None:
    taken: list[dict[str, object]] = []
    answers = iter([500, 200])

    async def take(request: web.Request) -> web.Response:
        taken.append(await request.json())
        return web.Response(status=next(answers))

    application = web.Application()
    application.router.add_post("/", take)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    heard = Heard()
    alerter = Alerter(AlertState(AlertSettings()), lambda: AWAY, events=ProcessEvents(heard), heartbeats=Heartbeats())
    port = runner.addresses[0][1]
    try:
        message = Message(subject="s", lines=("a", "b"), firing=("database",))
        async with asyncio.timeout(PATIENCE):
            await alerter._send(AlertWebhook(f"http://127.0.0.1:{port}/"), message)
    finally:
        await runner.cleanup()
    assert heard.names() == ["alert_failed", "alert_sent"]
    assert taken[1] == {
        "source": "mailerd", "subject": "s", "text": "a\nb", "lines": ["a", "b"], "firing": ["database"],
    }  # fmt: skip


def test_a_renderer_that_the_machine_kills_is_not_called_its_templates_fault() -> None:
    state = AlertState(AlertSettings())
    events = RendererEvents(lambda event, fields: state.on_event(event, fields, now=0))
    cause = "was killed, as when memory is short"
    events.renderer_ends_often(renderer="sending", origin="a@x", count=6, cause=cause)
    state.update(known(), now=1)
    told = state.message(now=1)
    assert told is not None
    assert f"the renderer ends repeatedly, last with a template of a@x: {cause}" in told.text


def test_what_reached_nobody_is_told_again_at_the_least_interval() -> None:
    state = AlertState(AlertSettings())
    events = RunnerEvents(lambda event, fields: state.on_event(event, fields, now=0))
    events.job_finished(job="J", sent=0, failed=2, cancelled=0, seconds=1)
    state.update(Facts(None, "full"), now=0)
    first = state.message(now=0)
    assert first is not None
    state.undelivered()
    state.update(Facts(None, "full"), now=5)
    assert state.message(now=5) is None, "within the least interval"
    state.update(Facts(None, "full"), now=60)
    again = state.message(now=60)
    assert again is not None
    assert again.lines == first.lines
    state.update(Facts(None, "full"), now=120)
    assert state.message(now=120) is None, "it was taken this time"


def test_what_was_over_before_it_could_be_told_is_told_with_its_end() -> None:
    state = AlertState(AlertSettings())
    for now in (0, 60):
        state.update(AWAY, now=now)
    assert state.message(now=60) is not None
    state.undelivered()
    state.update(known(), now=160)
    told = state.message(now=160)
    assert told is not None
    assert told.lines == (f"resolved: {GONE}; it lasted 60 s",)
    state.undelivered()
    state.update(known(), now=260)
    again = state.message(now=260)
    assert again is not None
    assert again.lines == told.lines


def test_what_came_and_went_between_two_messages_is_told_with_its_end() -> None:
    state, unsure = AlertState(AlertSettings(min_interval=600)), known(oldest_unsure=1000, recipients={State.UNSURE: 1})
    state.update(unsure, now=0)
    assert state.message(now=0) is not None
    for now in (20, 320):
        state.update(AWAY, now=now)
        assert state.message(now=now) is None, "within the least interval"
    state.update(unsure, now=400)
    told = state.message(now=600)
    assert told is not None
    assert told.lines == (f"resolved: {GONE}; it lasted 300 s",)


def test_what_nobody_takes_does_not_grow_without_bound() -> None:
    state = AlertState(AlertSettings())
    events = RunnerEvents(lambda event, fields: state.on_event(event, fields, now=0))
    for number in range(5000):
        events.job_finished(job=f"J{number}", sent=0, failed=1, cancelled=0, seconds=1)
        if number % 1000 == 0:
            state.message(now=number)
            state.undelivered()
    last = state.message(now=10_000)
    assert last is not None
    assert last.lines[-1] == "and 980 more"


async def test_an_alarm_that_no_way_takes_is_told_again_until_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.ops.alerts._CHECK_INTERVAL", 0.01)
    monkeypatch.setattr("mailerd.ops.alerts._REST", 0.001, raising=False)

    class Way:
        def __init__(self, takes: Iterator[bool]) -> None:
            self.takes, self.got = takes, list[str]()

        async def send(self, message: Message) -> None:
            if not next(self.takes):
                raise OSError("it does not take it")
            self.got.append(message.subject)

    heard = Heard()
    settings = AlertSettings(min_interval=0.1, database_away=0.1)
    alerter = Alerter(AlertState(settings), lambda: AWAY, events=ProcessEvents(heard), heartbeats=Heartbeats())
    alerter._notifiers = broken, slow = Way(repeat(False)), Way(chain([False] * 6, repeat(True)))
    running = asyncio.create_task(alerter.run())
    try:
        await heard.wait_for("alert_sent")
    finally:
        running.cancel()
    assert (broken.got, slow.got) == ([], ["mailerd: database"])
