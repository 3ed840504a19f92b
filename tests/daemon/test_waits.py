"""What ends a wait is seen at once: a limit that a reload raises, a credential file that comes. A wait has a cause."""

from pathlib import Path

from mailerd.config import Settings
from mailerd.intake.response_models import ForecastOut
from mailerd.sandbox.google import FakeGoogle, RunningServer
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import default_limits
from mailerd.store.read.forecast_inputs import ForecastReader
from mailerd.store.read.jobs import Jobs
from mailerd.store.read.senders import Senders
from mailerd.store.write.sender_actions import SenderActions
from tests.support.daemon import running, settings, sign_in
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.rows import post, query, states

DEAD = "http://127.0.0.1:9/"


async def test_a_reload_that_raises_the_days_limit_frees_what_waits(
    database_url: str, served: RunningServer, credentials: Path, database: Database, heard: Heard
) -> None:
    job = await post(database, recipients=7)
    known = settings(database_url, served, credentials, pace={"per_day": 4})
    async with running(known, heard) as daemon:
        await heard.wait_for("message_sent", times=4)
        await eventually(lambda: asleep(database))
        daemon.reload(lambda: settings(database_url, served, credentials, pace={"per_day": 2000}), lambda _: None)
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"sent": 7}


async def asleep(database: Database) -> bool:
    rows = await query(database, "SELECT next_claim_at > UTC_TIMESTAMP(6) + INTERVAL 1 HOUR FROM senders")
    return rows == [(1,)]


async def test_a_credential_file_that_comes_ends_the_pause_that_its_absence_began(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard
) -> None:
    job = await post(database, sender="new@example.com", recipients=3)
    async with running(known, heard):
        assert (await heard.wait_for("sender_paused"))["cause"] == "no_credentials"
        sign_in(google, credentials, "new@example.com")
        await heard.wait_for("job_finished", within=30)  # without the file's help it is tried after a minute
        assert len(heard.of("sender_paused")) == 1
    assert await states(database, job) == {"sent": 3}
    assert await query(database, "SELECT paused_until, pause_cause FROM senders") == [(None, None)]


async def test_of_a_credential_file_that_others_can_read_every_surface_says_chmod(
    known: Settings, database: Database, credentials: Path, heard: Heard
) -> None:
    """A sign-in would ask the mailbox's owner again, for nothing: the file is good."""
    file = credentials / "me@example.com.json"
    file.chmod(0o644)
    job = await post(database, recipients=1)
    async with running(known, heard) as daemon:
        await heard.wait_for("sender_paused")
        (reading,) = await Senders(database, default_limits(known), 5).page(only=None, limit=1, aliases=None)
        found = ForecastOut.of(await ForecastReader(database, daemon.claims.defaults, 5.0).read(job))
        repairs = await Senders(database, default_limits(known)).repairs()
        shown = await Jobs(database, timeout=5).job(job)
        file.chmod(0o600)
        await SenderActions(database, default_limits(known)).resume("me@example.com", actor="T")  # else in a minute
        await heard.wait_for("job_finished", within=30)
    pause = reading.pause
    assert shown is not None
    assert reading.finding is not None
    assert pause is not None
    assert (*reading.finding.remedies, pause.remedy) == (f"chmod 600 {file}",) * 2
    said = [str(found.cause_of_wait), repairs["me@example.com"], str(shown.sender.repair), pause.reason]
    assert [f"chmod 600 {file}" in it for it in said] == [True] * len(said)
    assert "auth login" not in "".join(said)


async def test_a_file_of_somebody_else_ends_no_other_pause(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard
) -> None:
    await post(database, recipients=1)
    await query(
        database,
        "UPDATE senders SET pause_cause = 'manual', paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, "
        "next_claim_at = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR",
    )
    job = await post(database, sender="new@example.com", recipients=1)
    async with running(known, heard):
        await heard.wait_for("sender_paused")
        sign_in(google, credentials, "new@example.com")
        await heard.wait_for("job_finished", within=30)
    assert await states(database, job) == {"sent": 1}
    assert await query(database, "SELECT pause_cause FROM senders WHERE email = 'me@example.com'") == [("manual",)]
    assert len(google.sent) == 1


async def test_while_google_cannot_be_reached_a_job_says_so(
    database_url: str, served: RunningServer, credentials: Path, database: Database, heard: Heard
) -> None:
    job = await post(database, recipients=200)  # most of them are not tried
    dead = settings(database_url, served, credentials, gmail={"api_root": DEAD, "token_uri": f"{DEAD}token"})
    async with running(dead, heard) as daemon:
        await heard.wait_for("message_released")
        found = ForecastOut.of(await ForecastReader(database, daemon.claims.defaults, 5.0).read(job))
    assert str(found.cause_of_wait).startswith("all attempts fail: ")
    assert "no access token: " in str(found.cause_of_wait)
