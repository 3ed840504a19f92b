"""Metrics: counted from the very events that the log tells, with labels that cannot grow without bound."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from mailerd.core.replies import Call
from mailerd.core.stats import QueueStats, SenderStats
from mailerd.events.actions import ActionEvents
from mailerd.events.intake import IntakeEvents, SuppressionEvents
from mailerd.events.journald_catalog import events
from mailerd.events.worker import GmailEvents, RunnerEvents
from mailerd.ops.metrics import CONTENT_TYPE, MAX_SENDERS, Metrics
from mailerd.sandbox.google import FakeGoogle, FakeLimits, serve
from tests.support.daemon import running, settings, sign_in
from tests.support.heard import Heard
from tests.support.rows import post


def value(page: bytes, name: str) -> float:
    (line,) = (line for line in page.decode().splitlines() if line.startswith(f"{name} "))
    return float(line.rpartition(" ")[2])


def sent(metrics: Metrics, *, sender: str = "me@example.com") -> None:
    events = RunnerEvents(metrics.on_event)
    events.message_started(job="J", recipient=1, to="a@x", sender=sender, number=1, total=1, attempt=1)
    events.message_sent(job="J", recipient=1, to="a@x", sender=sender, done=1, total=1, message_id="m")


def test_a_message_is_counted_with_its_latency() -> None:
    now = iter([10.0, 10.25])
    metrics = Metrics(now=lambda: next(now))
    sent(metrics)
    page = metrics.page()
    assert value(page, 'mailerd_messages_total{outcome="sent",sender="me@example.com"}') == 1
    assert value(page, "mailerd_send_seconds_sum") == 0.25
    assert value(page, 'mailerd_events_total{event="message_sent",level="success"}') == 1


def test_calls_to_google_are_counted_by_google_s_own_names() -> None:
    metrics = Metrics()
    google = GmailEvents(metrics.on_event)
    for seconds in (0.25, 0.5):
        google.google_call_succeeded(sender="me@example.com", call=Call.DRAFTS_SEND, seconds=seconds)
    google.google_call_failed(
        sender="me@example.com", call=Call.TOKEN, outcome="token_refused_400", excerpt="", seconds=1
    )
    page = metrics.page()
    assert value(page, 'mailerd_google_calls_total{call="drafts.send",outcome="accepted"}') == 2
    assert value(page, 'mailerd_google_call_seconds_sum{call="drafts.send"}') == 0.75
    assert value(page, 'mailerd_google_call_seconds_count{call="token"}') == 1
    assert value(page, 'mailerd_token_refreshes_total{result="refused"}') == 1


def test_every_event_is_there_from_the_start_so_that_its_first_is_an_increase() -> None:
    known = events()
    page = Metrics().page()
    for event in known:
        assert value(page, f'mailerd_events_total{{event="{event.name}",level="{event.level}"}}') == 0
    for outcome in ("ok", "refused", "unavailable", "in_doubt", "cut_off"):
        assert value(page, f'mailerd_database_calls_total{{outcome="{outcome}"}}') == 0
    for result in ("all_sent", "with_failures", "cancelled"):
        assert value(page, f'mailerd_jobs_finished_total{{result="{result}"}}') == 0


def test_a_senders_outcomes_are_there_before_its_first_message() -> None:
    metrics = Metrics()
    IntakeEvents(metrics.on_event).job_accepted(
        job="J", sender="me@example.com", total=1, accepted=1, due="now", ms=1.0, key="k", request="r"
    )
    page = metrics.page()
    for outcome in ("sent", "failed", "deferred", "released", "unsure", "found", "missing"):
        assert value(page, f'mailerd_messages_total{{outcome="{outcome}",sender="me@example.com"}}') == 0


def test_senders_do_not_grow_without_bound() -> None:
    metrics = Metrics()
    for number in range(MAX_SENDERS + 50):
        sent(metrics, sender=f"s{number}@example.com")
    page = metrics.page()
    assert page.count(b'mailerd_messages_total{outcome="sent"') == MAX_SENDERS + 1
    assert value(page, 'mailerd_messages_total{outcome="sent",sender="other"}') == 50


def seen(email: str, *, until: datetime | None) -> SenderStats:
    return SenderStats(
        email=email, per_minute=54, per_day=2000, used_minute=1, used_day=2, paused_until=until,
        pause_cause="daily_limit" if until else "", pause_reason="",
    )  # fmt: skip


def test_a_sender_that_the_survey_shows_no_more_has_no_gauges_any_more() -> None:
    metrics, at = Metrics(), datetime(2026, 11, 24, tzinfo=UTC)
    metrics.set_queue(QueueStats(at=at, senders=(seen("a@x", until=at), seen("b@x", until=None))))
    assert value(metrics.page(), 'mailerd_sender_paused{cause="daily_limit",sender="a@x"}') == 1
    metrics.set_queue(QueueStats(at=at, senders=(seen("b@x", until=None),)))
    page = metrics.page()
    gauges = [
        line for line in page.decode().splitlines() if line.startswith("mailerd_sender_") and 'sender="a@x"' in line
    ]
    assert gauges == []
    assert value(page, 'mailerd_sender_limit_messages{sender="b@x",window="day"}') == 2000


def test_a_pause_is_shown_while_it_lasts_and_no_longer() -> None:
    metrics, at = Metrics(), datetime(2026, 11, 24, tzinfo=UTC)
    for until in (None, at, at, None):
        metrics.set_queue(QueueStats(at=at, senders=(seen("a@x", until=until),)))
        shown = value(metrics.page(), 'mailerd_sender_paused{cause="daily_limit",sender="a@x"}')
        assert shown == (1 if until else 0)


def test_a_paused_sender_beyond_those_that_are_named_is_counted_with_the_others() -> None:
    metrics, at = Metrics(), datetime(2026, 11, 24, tzinfo=UTC)
    for number in range(MAX_SENDERS):
        sent(metrics, sender=f"s{number}@example.com")
    late = (seen("late@x", until=at), seen("later@x", until=at), seen("well@x", until=None))
    metrics.set_queue(QueueStats(at=at, senders=(*late, seen("s0@example.com", until=at))))
    assert value(metrics.page(), 'mailerd_sender_paused{cause="daily_limit",sender="other"}') == 2
    assert value(metrics.page(), 'mailerd_sender_paused{cause="token_refused",sender="other"}') == 0
    hidden = metrics.page(lambda _: False)
    assert value(hidden, 'mailerd_sender_paused{cause="daily_limit",sender="other"}') == 3
    metrics.set_queue(QueueStats(at=at))
    assert value(metrics.page(), 'mailerd_sender_paused{cause="daily_limit",sender="other"}') == 0


def test_a_job_that_was_cancelled_is_not_counted_as_whole() -> None:
    metrics = Metrics()
    events = RunnerEvents(metrics.on_event)
    events.job_finished(job="A", sent=3, failed=0, cancelled=0, seconds=1.0)
    events.job_finished(job="B", sent=1, failed=0, cancelled=2, seconds=1.0)
    events.job_finished(job="C", sent=1, failed=1, cancelled=1, seconds=1.0)
    page = metrics.page()
    for result in ("all_sent", "cancelled", "with_failures"):
        assert value(page, f'mailerd_jobs_finished_total{{result="{result}"}}') == 1


def busy(*senders: str) -> Metrics:
    """Each has sent a message and is paused."""
    metrics, at = Metrics(), datetime(2026, 11, 24, tzinfo=UTC)
    for sender in senders:
        sent(metrics, sender=sender)
    metrics.set_queue(QueueStats(at=at, senders=tuple(seen(each, until=at) for each in senders)))
    return metrics


def test_senders_that_are_not_shown_are_counted_together() -> None:
    page = busy("a@x", "b@x", "c@x").page(lambda sender: sender == "a@x")

    assert b"b@x" not in page
    assert b"c@x" not in page
    assert value(page, 'mailerd_messages_total{outcome="sent",sender="a@x"}') == 1
    assert value(page, 'mailerd_messages_total{outcome="sent",sender="other"}') == 2
    assert value(page, 'mailerd_sender_limit_messages{sender="a@x",window="day"}') == 2000
    assert b'mailerd_sender_limit_messages{sender="other"' not in page
    assert value(page, 'mailerd_sender_paused{cause="daily_limit",sender="a@x"}') == 1
    assert value(page, 'mailerd_sender_paused{cause="daily_limit",sender="other"}') == 2
    assert value(page, 'mailerd_sender_paused{cause="manual",sender="other"}') == 0


def test_where_nobody_is_shown_nobody_is_named_and_everything_else_is_the_same() -> None:
    metrics = busy("a@x", "b@x")
    whole, hidden = metrics.page(), metrics.page(lambda _: False)

    assert b"@" not in hidden

    def others(page: bytes) -> list[str]:
        return [line for line in page.decode().splitlines() if "sender=" not in line and "process_" not in line]

    assert others(hidden) == others(whole)


async def test_a_daemon_shows_what_it_did(database_url: str, tmp_path: Path) -> None:
    google, heard, where = FakeGoogle(FakeLimits(latency_s=0)), Heard(), tmp_path / "credentials"
    sign_in(google, where)
    async with (
        serve(google) as gmail,
        running(settings(database_url, gmail, where, metrics={"senders": True}), heard) as daemon,
    ):
        listening = heard.of("intake_listening")[0]["where"]
        await post(daemon.database, recipients=3)
        daemon.runner.wake()
        await heard.wait_for("job_finished")
        daemon.service.stats.take(await daemon.service.stats.read())
        async with aiohttp.ClientSession() as session, session.get(f"{listening}/metrics") as answer:
            page = await answer.read()
        assert answer.status == 200
        assert answer.headers["Content-Type"] == CONTENT_TYPE
        assert value(page, 'mailerd_messages_total{outcome="sent",sender="me@example.com"}') == 3
        assert value(page, 'mailerd_google_calls_total{call="drafts.send",outcome="accepted"}') == 3
        assert value(page, "mailerd_accepted_to_sent_seconds_count") == 3
        assert value(page, 'mailerd_jobs{status="completed"}') == 1
        assert value(page, 'mailerd_sender_used_messages{sender="me@example.com",window="day"}') == 3
        assert value(page, "mailerd_database_up") == 1
        for event in events():
            assert f'mailerd_events_total{{event="{event.name}",'.encode() in page, "a daemon loads every event"
        assert value(page, 'mailerd_database_calls_total{outcome="ok"}') > 3
        assert b"example.org" not in page, "no recipient's address"
        assert {heartbeat.loop for heartbeat in daemon.heartbeats.all()} >= {
            "runner",
            "recorder",
            "claims.recover",
            "heartbeat",
        }
        await asyncio.sleep(0)


def test_suppressions_are_counted_by_reason_and_source_with_the_number_of_a_request() -> None:
    metrics = Metrics()
    name = 'mailerd_suppressions_added_total{{reason="{}",source="{}"}}'
    assert value(metrics.page(), name.format("unsubscribed", "one_click")) == 0
    assert value(metrics.page(), name.format("complained", "api")) == 0
    events, acts = SuppressionEvents(metrics.on_event), ActionEvents(metrics.on_event)
    events.suppression_added(address="a•••@x", mailing_list="news", reason="unsubscribed", source="one_click")
    of_keys = {"mailing_list": "news", "actor": "key:shop", "source": "api", "via": "api"}
    acts.suppression_action(**of_keys, action="suppress", changed=7, reason="complained")
    acts.suppression_action(**of_keys, action="unsuppress", changed=3, reason="")
    of_commands = {"mailing_list": "news", "actor": "command, ada", "reason": "", "source": "", "via": "command"}
    acts.suppression_action(**of_commands, action="suppress", changed=5)
    acts.suppression_action(**of_commands, action="unsuppress", changed=1)
    events.suppression_removed(address="a•••@x", mailing_list="news", source="api")
    assert value(metrics.page(), name.format("unsubscribed", "one_click")) == 1
    assert value(metrics.page(), name.format("complained", "api")) == 7
    assert value(metrics.page(), "mailerd_suppressions_added_by_command_total") == 5
