"""explain, jobs and top: the story of real rows, in sentences that say why and what comes next."""

from pathlib import Path

from mailerd.sandbox.google import FakeGoogle, FakeLimits, Fault, serve
from mailerd.store.db.database import Database
from mailerd.store.read import describe
from mailerd.store.read.history import HistoryReader
from mailerd.store.read.jobs import Jobs
from tests.support.daemon import running, settings, sign_in
from tests.support.heard import Heard
from tests.support.rows import post, query


async def told(database: Database, address: str) -> str:
    (story,) = await HistoryReader(database).of_address(address)
    return "\n".join(describe.of_message(story, describe.Queue()))


async def test_a_sent_and_a_failed_message_are_told_from_acceptance_to_end(database_url: str, tmp_path: Path) -> None:
    google, heard, where = FakeGoogle(FakeLimits(latency_s=0)), Heard(), tmp_path / "credentials"
    sign_in(google, where)
    async with serve(google) as gmail, running(settings(database_url, gmail, where), heard) as daemon:
        google.fault(Fault(kind="status", status=400, body="{}", method="drafts.create"))
        job = await post(daemon.database, recipients=["a@example.org"])
        daemon.runner.wake()
        await heard.wait_for("job_finished")
        await post(daemon.database, recipients=["b@example.org"])
        daemon.runner.wake()
        await heard.wait_for("job_finished", times=2)
        failed, sent = await told(daemon.database, "a@example.org"), await told(daemon.database, "b@example.org")
        assert "Now: failed: Google rejected the message" in failed
        assert "attempt 1: failed" in failed
        assert "accepted." in sent
        assert "attempt 1: Google accepted it as message" in sent
        assert "Nothing more happens." in sent
        found = await Jobs(daemon.database, timeout=5).job(job)
        assert found is not None
        assert "completed, 1 recipient: 1 failed" in describe.of_job(found)[0]
        (trouble,) = await HistoryReader(daemon.database).failures_of(job)
        assert trouble.to_email == "a@example.org"


async def test_a_waiting_message_says_why_and_what_is_next(database_url: str, tmp_path: Path) -> None:
    google, heard, where = FakeGoogle(FakeLimits(latency_s=0)), Heard(), tmp_path / "credentials"
    where.mkdir()
    async with serve(google) as gmail, running(settings(database_url, gmail, where), heard) as daemon:
        await post(daemon.database, recipients=["a@example.org"])
        daemon.runner.wake()
        await heard.wait_for("sender_paused")
        paused = await told(daemon.database, "a@example.org")
        mended = "a usable credential file exists: `mailerd auth login --sender me@example.com`"
        assert f"Now: waiting: me@example.com is paused until {mended} (tried each minute: " in paused
        assert "Last error" not in paused, "it said what the pause says"
        assert "Next, if a daemon starts now: it is sent once that is done;" in paused
        await query(daemon.database, "UPDATE senders SET pause_cause = 'throttled'")
        throttled = await told(daemon.database, "a@example.org")
        assert "Now: waiting: me@example.com is paused until" in throttled
        assert "Next, if a daemon starts now: it is tried in " in throttled
        await query(daemon.database, "UPDATE senders SET paused_until = NULL, next_claim_at = NULL")
        await query(daemon.database, "UPDATE job_recipients SET due_at = UTC_TIMESTAMP(6) + INTERVAL 3 HOUR")
        await query(daemon.database, "UPDATE job_recipients SET draft_id = 'r-7'")
        early = await told(daemon.database, "a@example.org")
        assert "Its draft at Google is r-7;" in early
        assert "Now: waiting: deferred until" in early
        assert "it is sent in 2 h 59 min" in early or "it is sent in 3 h" in early
