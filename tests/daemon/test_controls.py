"""Cancel, pause, resume and retry in the middle of a job that is being sent, with the counts before and after."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from mailerd.config import Settings
from mailerd.core.rate_limit import SenderLimits
from mailerd.core.states import JobChange
from mailerd.sandbox.google import FakeGoogle, Fault, RunningServer
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.read.audit import audit
from mailerd.store.write.job_actions import ActionResult, JobActions
from mailerd.store.write.sender_actions import SenderActions
from tests.support.daemon import running, settings
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.rows import post, query, states

MESSAGES = 40


@pytest.fixture
def known(database_url: str, served: RunningServer, credentials: Path, google: FakeGoogle) -> Settings:
    """Four messages at a time, each some tenths of a second on the wire."""
    google.change_rules(latency_s=0.1)
    return settings(
        database_url,
        served,
        credentials,
        runner={"concurrency": 4, "poll_interval": 0.1},
        retry={"max_attempts": 2, "base": 0.05, "cap": 0.1},
    )


@dataclass
class Asking:
    """Asks as the intake does."""

    database: Database
    job: str

    async def __call__(self, change: JobChange, *, unsure: bool = False) -> ActionResult:
        controls = JobActions(self.database, timeout=10, late_arrival=timedelta(seconds=1))
        return await controls.apply(self.job, change, actor="a test", messages=MESSAGES, unsure=unsure)

    async def counts(self) -> dict[str, int]:
        return await states(self.database, self.job)

    async def at_rest(self) -> bool:
        return not {"sending", "unsure"} & (await self.counts()).keys()


@pytest.fixture
async def ask(database: Database) -> Asking:
    return Asking(database, await post(database, recipients=MESSAGES))


async def _books_balance(database: Database) -> None:
    assert (await audit(database))[1] == []


async def test_a_cancelled_job_ends_when_its_last_message_is_off_the_wire(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, ask: Asking
) -> None:
    async with running(known, heard):
        await heard.wait_for("message_sent", times=5)
        google.change_rules(
            latency_s=1.0
        )  # or nothing may be on the wire when it is cancelled, and the cancelling ends it
        await heard.wait_for("message_started", times=len(heard.of("message_sent")) + 1)
        before = await ask.counts()
        done = await ask(JobChange.CANCEL)
        finished = await heard.wait_for("job_finished")
    after = await ask.counts()

    assert before["waiting"] >= done.messages > 0
    assert after["cancelled"] >= done.messages, "one that was begun and not handed over is cancelled, too"
    assert sum(after.values()) == MESSAGES
    assert (finished["sent"], finished["cancelled"]) == (after["sent"], after["cancelled"])
    assert len(google.sent) == after["sent"]
    assert await query(database, "SELECT status, finished_at IS NULL FROM jobs") == [("cancelled", 0)]
    await _books_balance(database)


STOPS = ("cancel the job", "pause the job", "pause the sender")
HANDED_OVER_LATER = "SELECT COUNT(*) FROM job_recipients WHERE handed_over_at > %s"


async def stop(ask: Asking, how: str) -> None:
    """As a person does."""
    if how == "pause the sender":
        senders = SenderActions(ask.database, DefaultLimits(SenderLimits(0, 0, 0)))
        await senders.pause("me@example.com", lasts=None, reason="x", actor="a test")
    else:
        await ask(JobChange.CANCEL if how == "cancel the job" else JobChange.PAUSE)


@pytest.mark.parametrize("how", STOPS)
async def test_nothing_is_handed_to_google_once_a_stop_was_answered(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, how: str
) -> None:
    """Many are claimed ahead, since Google was quick; then it is slow, and four of them are there."""
    google.change_rules(latency_s=0.01)
    ask = Asking(database, await post(database, recipients=400))
    async with running(known, heard):
        await heard.wait_for("message_sent", times=100)
        google.change_rules(latency_s=0.5)
        await eventually(lambda: _are_ahead(ask))
        await stop(ask, how)
        ((stopped_at,),) = await query(database, "SELECT UTC_TIMESTAMP(6)")
        ahead = await ask.counts()
        await eventually(ask.at_rest)
    after = await ask.counts()

    assert await query(database, HANDED_OVER_LATER, stopped_at) == [(0,)]
    assert after["sent"] - ahead["sent"] <= 8, "but for those that were handed over, and their records"
    assert google.drafts() == []
    assert await query(database, "SELECT SUM(messages) FROM sender_hours") == [(after["sent"],)]
    assert await query(database, "SELECT MAX(attempts) FROM job_recipients WHERE status <> 'sent'") == [(0,)]
    assert len(google.sent) == after["sent"]
    await _books_balance(database)


async def _are_ahead(ask: Asking) -> bool:
    return (await ask.counts()).get("sending", 0) >= 9


async def test_a_message_that_comes_back_into_a_cancelled_job_is_cancelled_too(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, ask: Asking
) -> None:
    google.fault(Fault(kind="backend_error", method="drafts.create", count=-1))
    async with running(known, heard):
        await heard.wait_for("message_started")
        await ask(JobChange.CANCEL)
        await heard.wait_for("job_finished")

    assert set(await ask.counts()) <= {"cancelled", "failed"}
    reasons = await query(database, "SELECT DISTINCT error FROM job_recipients WHERE status = 'cancelled'")
    assert reasons == [("the job was cancelled by a test",)]
    assert google.sent == []
    await _books_balance(database)


async def test_a_paused_job_stands_still_and_goes_on_when_it_is_resumed(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, ask: Asking
) -> None:
    async with running(known, heard) as daemon:
        await heard.wait_for("message_sent", times=5)
        await ask(JobChange.PAUSE)
        await eventually(ask.at_rest)
        paused = await ask.counts()
        other = await post(database, recipients=3)  # the same sender's other job goes on meanwhile
        daemon.runner.wake()
        await heard.wait_for("job_finished")
        assert heard.of("job_finished")[0]["job"] == other
        assert await ask.counts() == paused
        await ask(JobChange.RESUME)
        daemon.runner.wake()
        await heard.wait_for("job_finished", times=2)

    assert paused["waiting"] + paused["sent"] == MESSAGES
    assert await ask.counts() == {"sent": MESSAGES}
    assert len(google.sent) == MESSAGES + 3
    assert google.duplicates() == {}
    await _books_balance(database)


async def test_a_message_that_is_put_off_does_not_wake_a_paused_job(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, ask: Asking
) -> None:
    google.fault(Fault(kind="backend_error", method="drafts.create", count=4))
    async with running(known, heard):
        await heard.wait_for("message_started")
        await ask(JobChange.PAUSE)
        await heard.wait_for("message_deferred")
        await eventually(ask.at_rest)
        assert await query(database, "SELECT status, next_claim_at FROM jobs") == [("paused", None)]
        await ask(JobChange.RESUME)
        await heard.wait_for("job_finished")

    assert await ask.counts() == {"sent": MESSAGES}
    assert google.duplicates() == {}


async def test_failed_messages_are_sent_once_when_they_are_retried_and_sent_ones_are_not_touched(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, ask: Asking
) -> None:
    google.fault(Fault(kind="invalid_to", method="drafts.create", skip=10, count=7))
    async with running(known, heard) as daemon:
        await heard.wait_for("job_finished")
        before = await ask.counts()
        done = await ask(JobChange.RETRY)
        assert (await ask(JobChange.RETRY)).messages == 0
        daemon.runner.wake()
        await heard.wait_for("job_finished", times=2)

    assert before == {"sent": MESSAGES - 7, "failed": 7}
    assert done.messages == 7
    assert await ask.counts() == {"sent": MESSAGES}
    assert len(google.sent) == MESSAGES
    assert google.duplicates() == {}
    assert await query(database, "SELECT COUNT(*) FROM attempts WHERE event = 'retried'") == [(7,)]
    await _books_balance(database)


async def test_retrying_the_unsure_looks_now_and_sends_nothing_twice(
    database_url: str,
    served: RunningServer,
    credentials: Path,
    database: Database,
    google: FakeGoogle,
    heard: Heard,
    ask: Asking,
) -> None:
    known = settings(
        database_url, served, credentials, gmail={"request_timeout": 0.5}, runner={"lease": 4, "poll_interval": 0.1}
    )
    google.fault(Fault(kind="reset_after", method="drafts.send", count=3))
    async with running(known, heard):
        await heard.wait_for("message_unsure", times=3)
        await query(database, "UPDATE job_recipients SET lease_until = NULL WHERE status = 'unsure'")
        done = await ask(JobChange.RETRY, unsure=True)
        await heard.wait_for("job_finished")

    assert done.messages == 3
    assert await ask.counts() == {"sent": MESSAGES}
    assert google.duplicates() == {}
    await _books_balance(database)
