"""The path of a message, end to end in one process: what a daemon does, says and writes."""

import asyncio
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from mailerd.config import Settings
from mailerd.core.claims import Claim
from mailerd.sandbox.google import SEND, FakeGoogle, Fault, RunningServer
from mailerd.store.db.database import Database
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.record import RecordWriter
from tests.support.daemon import running, settings, sign_in
from tests.support.eventually import eventually
from tests.support.heard import PATIENCE, Heard
from tests.support.rows import post, query, states


async def test_a_job_is_sent_message_by_message_and_the_story_is_told_in_order(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    job = await post(database, recipients=3, subject="Hello {{ name }}", text="Dear {{ name }}")
    async with running(known, heard):
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"sent": 3}
    assert sorted(message.to for message in google.sent) == ["r0@example.org", "r1@example.org", "r2@example.org"]
    rows = await query(database, "SELECT message_id, draft_id FROM job_recipients ORDER BY id")
    assert sorted(rows) == sorted((message.id, message.draft_id) for message in google.sent)
    assert google.drafts() == []
    assert google.duplicates() == {}
    steps = [
        "runner_started",
        "job_found",
        "claimed",
        "sender_authenticated",
        "message_started",
        "message_sent",
        "job_finished",
    ]
    told = [name for name in heard.names() if name in steps]
    assert sorted(set(told), key=told.index) == steps
    assert [(fields["done"], fields["total"]) for fields in heard.of("message_sent")] == [(1, 3), (2, 3), (3, 3)]
    assert [(fields["number"], fields["total"]) for fields in heard.of("message_started")] == [(1, 3), (2, 3), (3, 3)]


async def test_the_message_is_what_the_template_says(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    job = await post(database, recipients=["zhang@example.org"], subject="您好 {{ name }}", text="第一行\n{{ name }}")
    async with running(known, heard):
        await heard.wait_for("job_finished")
    (message,) = google.sent
    parsed = message_from_bytes(message.raw or b"", policy=default)
    assert parsed["Subject"] == "您好 zhang"
    assert parsed["X-Mailerd-Key"] == f"{job}-0"
    assert "第一行" in parsed.get_content()


async def test_a_sender_with_gmail_send_alone_is_sent_for_directly(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard
) -> None:
    sign_in(google, credentials, "direct@example.com", scopes=(SEND,))
    job = await post(database, sender="direct@example.com", recipients=3)
    async with running(known, heard):
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"sent": 3}
    assert await query(database, "SELECT DISTINCT mode, draft_id FROM job_recipients") == [("direct", None)]
    assert {entry.method for entry in google.log} >= {"messages.send"}
    assert "drafts.create" not in {entry.method for entry in google.log}


async def test_a_message_that_cannot_be_rendered_fails_alone_with_its_line(
    known: Settings, database: Database, heard: Heard
) -> None:
    job = await post(database, recipients=["5@example.org", "zero@example.org"], text="a\n{{ 10 // (name | int) }}")
    async with running(known, heard):
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"sent": 1, "failed": 1}
    ((error,),) = await query(database, "SELECT error FROM job_recipients WHERE status = 'failed'")
    assert "text" in error
    assert "line 2" in error


async def test_the_bell_starts_a_message_long_before_the_next_poll(
    database_url: str, served: RunningServer, credentials: Path, database: Database, heard: Heard
) -> None:
    known = settings(database_url, served, credentials, runner={"poll_interval": 600.0})
    async with running(known, heard) as daemon:
        await post(database, recipients=1)
        daemon.runner.wake()
        await heard.wait_for("job_finished")


async def test_a_second_runner_in_one_process_says_so_and_ends(known: Settings, heard: Heard) -> None:
    async with running(known, heard) as daemon, asyncio.TaskGroup() as messages:
        await daemon.runner.run(messages)
    assert len(heard.of("runner_already_running")) == 1


async def test_a_stop_finishes_and_records_what_is_in_hand_and_claims_nothing_more(
    database_url: str, served: RunningServer, credentials: Path, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.change_rules(latency_s=0.3)
    known = settings(database_url, served, credentials, runner={"concurrency": 4})
    job = await post(database, recipients=40)
    async with running(known, heard):
        await heard.wait_for("message_started", times=4)
    counts = await states(database, job)
    assert set(counts) == {"sent", "waiting"}
    assert counts["sent"] == len(google.sent)
    assert 4 <= counts["sent"] < 40
    assert heard.names()[-1] == "stopped"


async def test_a_stop_in_the_middle_of_a_claim_leaves_no_message_behind_for_its_whole_lease(
    known: Settings, database: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await post(database, recipients=3)
    claim, committed, stopped = Claims.claim, asyncio.Event(), asyncio.Event()

    async def slow(self: Claims, want: int, **rooms: Any) -> Claim:
        taken = await claim(self, want, **rooms)
        if taken.messages:
            committed.set()
            await stopped.wait()  # committed, and the answer is on its way
        return taken

    monkeypatch.setattr(Claims, "claim", slow)
    async with running(known, heard):
        async with asyncio.timeout(PATIENCE):
            await committed.wait()
        asyncio.get_running_loop().call_later(0.2, stopped.set)  # the daemon is told to stop right after this
    assert await states(database, job) == {"sent": 3}


async def test_a_drain_that_is_cut_off_says_how_many_messages_it_cut(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.fault(Fault(kind="hang_before", method="drafts.send", count=-1))
    job = await post(database, recipients=3)
    runner = known.runner.model_copy(update={"drain_timeout": 0.5})

    async def handed_over() -> bool:
        return len(await query(database, "SELECT 1 FROM job_recipients WHERE draft_id IS NOT NULL")) == 3

    async with running(known.model_copy(update={"runner": runner}), heard):
        await eventually(handed_over)
    assert [told["in_flight"] for told in heard.of("drain_cut_off")] == [3]
    assert await states(database, job) == {"sending": 3}


async def test_a_job_whose_last_message_is_sent_while_the_daemon_drains_is_completed(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.fault(Fault(kind="latency", method="drafts.send", seconds=1.0, count=-1))
    job = await post(database, recipients=3)

    async def handed_over() -> bool:
        return len(await query(database, "SELECT 1 FROM job_recipients WHERE draft_id IS NOT NULL")) == 3

    async with running(known, heard):
        await eventually(handed_over)
    assert await states(database, job) == {"sent": 3}
    assert await query(database, "SELECT status FROM jobs WHERE finished_at IS NOT NULL") == [("completed",)]
    assert heard.names().index("job_finished") < heard.names().index("stopped")


async def test_a_job_that_cannot_be_completed_at_the_stop_is_named_and_left_to_the_next_daemon(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    google.fault(Fault(kind="latency", method="drafts.send", seconds=1.0, count=-1))
    job = await post(database, recipients=1)

    async def hangs(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    async def handed_over() -> bool:
        return bool(await query(database, "SELECT 1 FROM job_recipients WHERE draft_id IS NOT NULL"))

    with monkeypatch.context() as patched:
        async with running(known, heard):
            await eventually(handed_over)
            patched.setattr(RecordWriter, "complete_jobs", hangs)
            patched.setattr("mailerd.worker.recorder._STOP_TIMEOUT", 0.5)
    assert await states(database, job) == {"sent": 1}
    assert heard.of("jobs_left_open") == [{"cause": "no response within 0.5 s"}]
    assert heard.of("job_finished") == []
    async with running(known, heard):
        await heard.wait_for("job_finished")


async def test_the_place_in_the_day_of_a_message_that_failed_goes_to_the_next_one_at_once(
    database_url: str, served: RunningServer, credentials: Path, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.fault(Fault(kind="invalid_to", method="drafts.create"))
    known = settings(database_url, served, credentials, pace={"units_per_minute": 0, "per_day": 2})
    job = await post(database, recipients=4)

    async def used_up() -> bool:
        return await states(database, job) == {"failed": 1, "sent": 2, "waiting": 1}

    async with running(known, heard):
        await eventually(used_up, within=20.0)  # those who look for senders that wait in vain do it once a minute


async def test_a_busy_daemon_claims_without_asking_first_whether_something_is_due(
    known: Settings, database: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was idle before: the first claim of a job does not leave it looking before each of those that follow."""
    asked: list[str] = []
    for name in ("claim", "due_in"):
        call = getattr(Claims, name)

        async def counted(self: Claims, *given: Any, call: Any = call, name: str = name, **more: Any) -> Any:
            asked.append(name)
            return await call(self, *given, **more)

        monkeypatch.setattr(Claims, name, counted)

    async def idle() -> bool:
        return asked.count("due_in") > 2

    async def nearly_done() -> bool:
        return len(heard.of("message_sent")) >= 260

    async with running(known, heard):
        await eventually(idle)
        asked.clear()
        job = await post(database, recipients=300)
        await eventually(nearly_done)
        looks, claims = asked.count("due_in"), asked.count("claim")
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"sent": 300}
    assert claims > 5
    assert looks <= 3, f"{looks} looks before {claims} claims"
