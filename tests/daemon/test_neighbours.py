"""Neighbours: what goes wrong with one sender holds up that sender and nobody else; the truth is counted at Google."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mailerd.config import Settings
from mailerd.core.claims import ClaimedRecipient
from mailerd.gmail.client import MessageSemaphore
from mailerd.sandbox.google import FakeGoogle, Fault, RunningServer
from mailerd.store.db.database import Database
from mailerd.worker.message_builder import MAX_LARGE
from tests.daemon.test_whole_messages import a_file, accept
from tests.support.daemon import running, settings, sign_in
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.own_time import own_time
from tests.support.rows import post, query

BAD = "bad@example.com"
OTHERS = ("b@example.com", "c@example.com")
CONCURRENCY = 6
TIMEOUT = 2.0
"""Seconds that a call may take."""


@pytest.fixture
def known(database_url: str, served: RunningServer, google: FakeGoogle, tmp_path: Path) -> Settings:
    """A daemon with few slots, and calls that may last."""
    google.change_rules(latency_s=0.05)
    for sender in (BAD, *OTHERS):
        sign_in(google, tmp_path / "credentials", sender)
    return settings(
        database_url, served, tmp_path / "credentials",
        runner={"concurrency": CONCURRENCY, "lease": 30}, gmail={"request_timeout": TIMEOUT},
    )  # fmt: skip


def sent(google: FakeGoogle) -> Counter[str]:
    """Messages that Google has sent, by sender."""
    return Counter(message.sender for message in google.sent)


async def rate(google: FakeGoogle, *, seconds: float) -> float:
    """Messages a second of the others; what other programs take of the machine meanwhile is no part of it."""
    before, began = sent(google), own_time()
    await asyncio.sleep(seconds)  # it is the measure
    return sum((sent(google) - before)[one] for one in OTHERS) / (own_time() - began)


async def busy(google: FakeGoogle, database: Database) -> None:
    """The others have more to send than a test takes, and Google is what bounds their rate, not a busy machine."""
    google.change_rules(latency_s=0.3)
    for one in OTHERS:
        await post(database, sender=one, recipients=600)


@pytest.mark.parametrize("method", ["drafts.create", "drafts.send", "token"])
async def test_the_others_go_on_beside_a_sender_whose_calls_hang(
    known: Settings, google: FakeGoogle, database: Database, heard: Heard, method: str
) -> None:
    await busy(google, database)
    async with running(known, heard):
        await until(lambda: sent(google).total() > 20)
        alone = await rate(google, seconds=4)
        google.fault(Fault(kind="hang_before", method=method, sender=BAD, count=-1, seconds=600))
        await post(database, sender=BAD, recipients=200)
        beside = await rate(google, seconds=2.5 * TIMEOUT)
        await query(database, "UPDATE jobs SET status = 'paused', next_claim_at = NULL")
    assert beside >= 0.6 * alone, f"{beside:.1f} messages/s beside it, {alone:.1f} without"
    assert sent(google)[BAD] == 0
    assert heard.of("google_unreachable") == [], "it is one sender's trouble"


async def test_a_sender_that_hangs_alone_does_not_keep_out_those_who_come_later(
    known: Settings, google: FakeGoogle, database: Database, heard: Heard
) -> None:
    google.fault(Fault(kind="hang_before", method="drafts.create", sender=BAD, count=-1, seconds=600))
    await post(database, sender=BAD, recipients=200)
    patient = known.gmail.model_copy(update={"request_timeout": 20.0})
    runner = known.runner.model_copy(update={"lease": 60.0, "drain_timeout": 1.0})
    async with running(known.model_copy(update={"gmail": patient, "runner": runner}), heard):
        await until(lambda: len(heard.of("message_started")) >= CONCURRENCY)
        await post(database, sender=OTHERS[0], recipients=1)
        await until(lambda: sent(google)[OTHERS[0]] == 1)
        await query(database, "UPDATE jobs SET status = 'paused', next_claim_at = NULL")
        assert heard.of("google_call_failed") == [], (
            "it had all slots and all the room, and no call of it has timed out"
        )


async def test_a_sender_recovers_when_its_calls_are_answered_again(
    known: Settings, google: FakeGoogle, database: Database, heard: Heard
) -> None:
    google.fault(Fault(kind="hang_before", method="drafts.create", sender=BAD, count=CONCURRENCY, seconds=600))
    await post(database, sender=BAD, recipients=60)
    async with running(known, heard):
        await until(lambda: sent(google)[BAD] == 60)
    assert len({message.key for message in google.sent}) == 60


async def test_messages_that_wait_for_room_hold_no_slots(
    known: Settings, google: FakeGoogle, database: Database, heard: Heard, slots_held: Counter[str]
) -> None:
    await busy(google, database)
    patient = known.gmail.model_copy(update={"request_timeout": 12.0})
    async with running(known.model_copy(update={"gmail": patient}), heard):
        await until(lambda: sent(google).total() > 20)
        google.fault(Fault(kind="latency", method="drafts.create", sender=BAD, count=-1, seconds=2.0))
        await post_large(database)
        await until(lambda: sent(google)[BAD] >= CONCURRENCY)
        await query(database, "UPDATE jobs SET status = 'paused', next_claim_at = NULL")
    assert slots_held[BAD] <= 2 * MAX_LARGE, "those that have room, and as many drafts that are sent; the others wait"


@pytest.fixture
def slots_held(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The most slots that each sender has held at once."""
    held, most, slot = Counter[str](), Counter[str](), MessageSemaphore.slot

    @asynccontextmanager
    async def counted(self: MessageSemaphore, message: ClaimedRecipient) -> AsyncIterator[None]:
        async with slot(self, message):
            held[message.sender] += 1
            most[message.sender] = max(most[message.sender], held[message.sender])
            try:
                yield
            finally:
                held[message.sender] -= 1

    monkeypatch.setattr(MessageSemaphore, "slot", counted)
    return most


async def test_a_dead_token_endpoint_stops_only_those_whose_token_has_run_out(
    known: Settings, google: FakeGoogle, database: Database, heard: Heard
) -> None:
    await busy(google, database)
    async with running(known, heard):
        await until(lambda: all(sent(google)[one] for one in OTHERS))
        alone = await rate(google, seconds=4)
        google.fault(Fault(kind="hang_before", method="token", count=-1, seconds=600))
        await post(database, sender=BAD, recipients=50)  # it has none yet
        beside = await rate(google, seconds=2.5 * TIMEOUT)
        assert sent(google)[BAD] == 0
        await heard.wait_for("sender_unreachable")
        google.clear_faults()
        await until(lambda: sent(google)[BAD] == 50)
        await heard.wait_for("sender_reachable")
        await query(database, "UPDATE jobs SET status = 'paused', next_claim_at = NULL WHERE sender_email <> %s", BAD)
    assert beside >= 0.6 * alone, f"{beside:.1f} messages/s beside it, {alone:.1f} without"
    assert heard.of("google_unreachable") == []
    rows = await query(database, "SELECT attempts FROM job_recipients WHERE status = 'sent'")
    assert {attempts for (attempts,) in rows} == {1}, "no message has lost an attempt"


async def post_large(database: Database) -> None:
    await accept(
        database, sender_email=BAD, attachments=[a_file("a.bin", os.urandom(1_500_000))],
        recipients=[{"email": f"r{n}@example.org"} for n in range(40)],
    )  # fmt: skip


async def until(true: Callable[[], bool]) -> None:
    """Until it is true, of what Google has or the log says."""

    async def holds() -> bool:
        return true()

    await eventually(holds)
