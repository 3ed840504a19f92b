"""A bad list stops by itself, from the first notice to what people read: a real daemon, a database, a mailbox."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from mailerd.config import Live
from mailerd.core.rate_limit import SenderLimits
from mailerd.core.reasons import from_event
from mailerd.core.states import JobChange
from mailerd.locale import say
from mailerd.sandbox.google import FakeGoogle, Fault, RunningServer
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.read.audit import audit
from mailerd.store.read.describe import of_job
from mailerd.store.read.forecast_inputs import ForecastReader
from mailerd.store.read.jobs import Jobs
from mailerd.store.write.job_actions import JobActions
from tests.inbox.place import ME, METADATA, TRUTH, read_up, reading, results
from tests.inbox.test_rounds import few_units
from tests.support.daemon import running
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.rows import post, query, states

DEAD = [f"r{number}@dead.example" for number in range(600)]
FAST: Final[dict[str, Any]] = {"pace": {"units_per_minute": 0, "per_minute": 1200, "per_day": 0}}


async def test_a_list_of_dead_addresses_pauses_its_job_and_says_so_everywhere(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    google.change_rules(dead_share=1.0, dead_delay_s=1.0)
    known = reading(database_url, served, google, tmp_path / "c", safety={"sender_bounces": 0}, **FAST)
    async with running(known, heard):
        job = await post(database, recipients=DEAD)
        await heard.wait_for("job_paused_for_bounces")

        await eventually(lambda: _rests(database, job))
        sent = len(google.sent)
        await read_up(database, google)
        assert len(google.sent) == sent <= 120
        (said,) = heard.of("job_paused_for_bounces")
        assert said["job"] == job
        reason = str(said["reason"])
        assert await query(database, "SELECT status, pause_cause, pause_reason FROM jobs") == [
            ("paused", "bounces", reason)
        ]
        ((data,),) = await query(database, "SELECT data FROM events WHERE type = 'job.paused'")
        assert (json.loads(data)["cause"], json.loads(data)["reason"]) == ("bounces", reason)
        found = await Jobs(database, timeout=10).job(job)
        assert found is not None
        limits = DefaultLimits(SenderLimits(0, 1200, 0))
        inputs = await ForecastReader(database, Live(limits), timeout=10).read(job)
        lines = "\n".join(of_job(found, inputs))
        assert f"Waiting: the job is paused: {reason}." in lines
        assert "nothing is sent until the job is resumed." in lines
        assert lines.count(reason) == 1
        assert "干净的名单" in say(from_event(json.loads(data))["reason"], "zh")
        await JobActions(database, timeout=10, late_arrival=timedelta(0)).apply(job, JobChange.RESUME, actor="ada")
        await heard.wait_for("job_paused_for_bounces", times=2)
        await eventually(lambda: _rests(database, job))
        assert sent + 5 < len(google.sent) <= sent + 120, "a resume is good for six more, at least"
    assert (await audit(database))[1] == []


async def test_a_list_of_dead_addresses_is_held_in_a_busy_mailbox_that_was_never_read(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its owner has had a busy day, and it cannot be read for the first two seconds: some came back before."""
    google.change_rules(dead_share=1.0, dead_delay_s=0.5)
    for number in range(500):
        text = f"From: a{number}@friend.example\r\nSubject: {number}\r\n\r\nhi\r\n"
        google.mailbox(ME).receive(text.encode(), now=google.now())
    google.fault(Fault(kind="status", status=503, method="getProfile", skip=1, count=2))
    known = reading(database_url, served, google, tmp_path / "c", safety={"sender_bounces": 0}, **FAST)
    async with running(known, heard):
        with monkeypatch.context() as busy:
            few_units(busy)
            job = await post(database, recipients=DEAD)
            await heard.wait_for("job_held")
        await heard.wait_for("job_paused_for_bounces")
        await eventually(lambda: _rests(database, job))
        assert len(google.sent) <= 150

        async def all_are_known() -> bool:
            google.arrivals.deliver(google.mailbox(ME), now=google.now())
            found = await results(database)
            return {found[it.to] for it in google.sent} == {TRUTH["hard"]}

        await eventually(all_are_known)
    assert (await audit(database))[1] == []


async def _rests(database: Database, job: str) -> bool:
    return "sending" not in await states(database, job)


async def test_a_job_that_shall_go_on_sends_to_its_end(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    google.change_rules(dead_share=1.0, dead_delay_s=0.2)
    safety = {"sender_bounces": 0}
    async with running(reading(database_url, served, google, tmp_path / "c", safety=safety, **FAST), heard):
        await post(database, recipients=DEAD[:1])
        await heard.wait_for("job_finished")
        job = await post(database, recipients=DEAD[:100])
        await query(database, "UPDATE jobs SET on_bounces = 'go_on' WHERE id = %s", job)
        await heard.wait_for("job_finished", times=2)
    assert len(google.sent) >= 100


async def test_what_the_mailbox_sends_itself_is_no_notice_and_brakes_no_job(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    """Google's history names each message that it sent, in the thread of that message."""
    async with running(reading(database_url, served, google, tmp_path / "c", **FAST), heard):
        await post(database, recipients=[f"r@d{number}.example" for number in range(120)])
        await heard.wait_for("job_finished")
    calls = [it for it in google.log if it.method == "history.list"]
    assert len(calls) > 2, "it was read in the meantime"
    assert heard.of("job_held") == []


async def test_where_only_headers_may_be_read_there_is_no_rule(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    google.change_rules(dead_share=1.0, dead_delay_s=0.2)
    known = reading(database_url, served, google, tmp_path / "c", scope=METADATA, **FAST)
    async with running(known, heard):
        await post(database, recipients=[f"r@d{number}.example" for number in range(3)] + DEAD[:60])
        await heard.wait_for("job_finished")
        await read_up(database, google)
    assert await query(database, "SELECT pause_cause FROM jobs") == [(None,)]
