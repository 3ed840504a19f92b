"""What the survey says of the messages that could go: nothing while they go at their pace, and for how long if not."""

from datetime import timedelta
from functools import partial

import pytest

from mailerd.clock import new_id
from mailerd.config import Live, Settings
from mailerd.ops.metrics import Metrics
from mailerd.store.db.database import Database
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.rate_limits import default_limits
from mailerd.store.read.stats import StatsReader
from mailerd.store.write.sender_actions import SenderActions
from tests.ops.test_metrics import value
from tests.support.replayed import replayed
from tests.support.rows import post, query

TERMS = default_limits(Settings())
about = partial(pytest.approx, abs=30)
AGO = "UTC_TIMESTAMP(6) - INTERVAL 960 SECOND"


async def old_job(database: Database, *, turn: str = AGO) -> str:
    """A job whose messages have been due for 16 minutes, and its sender's turn."""
    job = await post(database, recipients=100)
    await query(database, f"UPDATE job_recipients SET due_at = {AGO}")
    await query(database, f"UPDATE jobs SET next_claim_at = {AGO}")
    await query(database, f"UPDATE senders SET next_claim_at = {turn}")
    return job


async def held_up(database: Database) -> float:
    """Seconds, as the metric shows them."""
    metrics = Metrics()
    metrics.set_queue(await StatsReader(database, Live(TERMS)).read())
    return value(metrics.page(), "mailerd_oldest_claimable_message_seconds")


async def test_a_long_job_that_goes_at_its_pace_is_not_late(database: Database) -> None:
    await old_job(database)
    assert await held_up(database) == about(960), "nobody has claimed since"
    claims = Claims(database, new_id(), timedelta(seconds=120), Live(TERMS), replayed(database))
    assert (await claims.claim(20)).messages
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6) + INTERVAL 1 MINUTE")
    assert await held_up(database) == 0
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6) - INTERVAL 100 SECOND")
    assert await held_up(database) == about(100), "its turn has come, and nobody takes it"


async def test_a_message_that_may_not_go_is_not_late(database: Database) -> None:
    await old_job(database)
    await SenderActions(database, TERMS).pause("me@example.com", lasts=None, reason="", actor="T")
    assert await held_up(database) == 0
    await query(database, "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) - INTERVAL 300 SECOND")
    assert await held_up(database) == about(300), "from the end of the pause on it could go"
    await query(database, "UPDATE jobs SET status = 'paused', next_claim_at = NULL")
    assert await held_up(database) == 0


async def test_one_paused_sender_hides_no_other(database: Database) -> None:
    await old_job(database)
    await post(database, sender="you@example.com")
    await SenderActions(database, TERMS).pause("you@example.com", lasts=None, reason="", actor="T")
    assert await held_up(database) == about(960)


async def test_due_messages_whose_sender_has_no_turn_are_seen(database: Database) -> None:
    await old_job(database, turn="NULL")
    assert await held_up(database) == about(960)
