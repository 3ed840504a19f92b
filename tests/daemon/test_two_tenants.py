"""Two tenants with a key each: what one of them makes of its templates is no matter to the other."""

import asyncio
import time
from pathlib import Path

import pytest

from mailerd.config import Settings
from mailerd.sandbox.google import FakeGoogle, RunningServer
from mailerd.store.db.database import Database
from tests.daemon.test_neighbours import sent
from tests.daemon.test_slow_templates import BOMB, SLOW
from tests.support.daemon import running, settings, sign_in
from tests.support.eventually import eventually
from tests.support.heard import PATIENCE, Heard
from tests.support.rows import post, query, states

A_KEY, B_KEY = 7, 8
B = "b@example.com"
MESSAGES = 40
A_MESSAGES = 100


def of_a(number: int) -> str:
    return f"a{number}@example.com"


@pytest.fixture
def known(database_url: str, served: RunningServer, google: FakeGoogle, tmp_path: Path) -> Settings:
    google.change_rules(latency_s=0.1)
    for sender in (B, *(of_a(number) for number in range(8))):
        sign_in(google, tmp_path / "credentials", sender)
    return settings(database_url, served, tmp_path / "credentials", runner={"concurrency": 20, "lease": 30})


async def seconds_of_b(database: Database, google: FakeGoogle) -> float:
    """How long B's messages take."""
    before, began = sent(google)[B], time.monotonic()
    await post(database, sender=B, recipients=MESSAGES, api_key_id=B_KEY)
    await eventually(lambda: asyncio.sleep(0, sent(google)[B] - before == MESSAGES), within=2 * PATIENCE)
    return time.monotonic() - began


@pytest.mark.parametrize("mailboxes, template", [(8, BOMB), (8, SLOW)], ids=["eight-bombs", "eight-slow"])
async def test_a_tenant_whose_templates_pass_the_check_and_are_bombs_then_holds_up_no_other(
    known: Settings, google: FakeGoogle, database: Database, heard: Heard, mailboxes: int, template: str
) -> None:
    """The jobs are put past the check: whatever fools it, this is what the sending has to bear."""
    took = list[float]()
    async with running(known, heard) as daemon:
        await eventually(lambda: asyncio.sleep(0, daemon.renderer._worker.pid is not None))
        for text in ("Dear {{ name }}", template):
            jobs = [
                await post(database, sender=of_a(number), recipients=A_MESSAGES, text=text, api_key_id=A_KEY)
                for number in range(mailboxes)
            ]
            took.append(await seconds_of_b(database, google))
            for job in jobs:
                await query(database, "UPDATE jobs SET status = 'paused', next_claim_at = NULL WHERE id = %s", job)
    plain, beside = took
    assert beside <= 2 * plain, f"{beside:.1f} s beside {mailboxes} mailboxes with bombs, {plain:.1f} s without"


async def test_after_three_messages_that_had_to_be_stopped_the_rest_of_a_job_fails_and_says_why(
    known: Settings, database: Database, heard: Heard
) -> None:
    job = await post(database, sender=of_a(0), recipients=A_MESSAGES, text=BOMB, api_key_id=A_KEY)
    other = await post(database, sender=of_a(1), recipients=3, api_key_id=A_KEY)
    async with running(known, heard):
        await eventually(lambda: _ended(database, job), within=2 * PATIENCE)
        await eventually(lambda: _ended(database, other), within=2 * PATIENCE)
    assert await states(database, other) == {"sent": 3}
    assert dict(await query(
        database, "SELECT error, COUNT(*) FROM job_recipients WHERE job_id = %s GROUP BY error", job
    )) == {
        "the message could not be built: text: the template takes too long": 3,
        "the message could not be built: text: not tried: 3 messages with this template had to be stopped, the last "
        "because the template takes too long": A_MESSAGES - 3,
    }  # fmt: skip


async def _ended(database: Database, job: str) -> bool:
    return await query(database, "SELECT status FROM jobs WHERE id = %s", job) == [("completed",)]
