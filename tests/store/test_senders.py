"""Senders by hand: limits of their own without a restart, pauses and their end, all of it harmless to repeat."""

from datetime import timedelta

import pytest

from mailerd.config import Live
from mailerd.core.rate_limit import FOREVER, SenderLimits
from mailerd.store.db.database import Database
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.senders import SenderError, Senders
from tests.support.replayed import replayed
from tests.support.rows import post, query

ME = "me@example.com"
DEFAULT = SenderLimits(0, 0, 10)


@pytest.fixture
def senders(database: Database) -> Senders:
    return Senders(database, DefaultLimits(DEFAULT))


async def taken(database: Database, want: int = 100) -> int:
    claim = await Claims(database, "D1", timedelta(seconds=60), Live(DefaultLimits(DEFAULT)), replayed(database)).claim(
        want
    )
    return len(claim.messages)


async def test_a_raised_limit_holds_from_the_next_claim_on(database: Database, senders: Senders) -> None:
    await post(database, recipients=100)
    assert await taken(database) == 10
    assert await taken(database) == 0
    await senders.change(ME, {"per_day": 25})
    assert await taken(database) == 15
    now = await senders.change(ME, {"per_day": None})
    assert (now.state.limits, now.state.own, now.used, now.waiting) == (DEFAULT, frozenset(), 25, 75)


async def test_a_shorter_gap_holds_from_the_next_claim_on(database: Database, senders: Senders) -> None:
    await post(database, recipients=5)
    await senders.change(ME, {"min_gap": 3600})
    assert (await taken(database), await taken(database)) == (1, 0)
    await senders.change(ME, {"min_gap": 20})
    assert await taken(database) == 0
    rows = await query(database, "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), gap_until) FROM senders")
    assert rows == [(19,)]
    await senders.change(ME, {"min_gap": None})
    assert await taken(database) == 4


async def test_a_sender_can_be_given_limits_before_its_first_job(database: Database, senders: Senders) -> None:
    for _ in range(2):
        await senders.change(ME, {"per_day": 3})
    await post(database, recipients=5)
    assert await taken(database) == 3


async def test_a_warm_up_that_is_set_again_does_not_begin_again(database: Database, senders: Senders) -> None:
    await senders.change(ME, {"warm_up": 2, "warm_up_growth": 3})
    await query(database, "UPDATE senders SET warm_up_from = warm_up_from - INTERVAL 25 HOUR")
    now = await senders.change(ME, {"warm_up": 2, "warm_up_growth": 3})
    assert now.state.allowance.per_day == 5
    now = await senders.change(ME, {"warm_up": 3, "warm_up_growth": 3})
    assert now.state.allowance.per_day == 3


async def test_a_reserve_that_leaves_nothing_is_refused_and_changes_nothing(senders: Senders) -> None:
    with pytest.raises(SenderError, match="leaves nothing of 10"):
        await senders.change(ME, {"reserve": 10})
    assert await senders.all() == []
    with pytest.raises(SenderError, match="colour"):
        await senders.change(ME, {"colour": 1})


async def test_a_pause_by_hand_lasts_until_it_is_resumed(database: Database, senders: Senders) -> None:
    await post(database, recipients=3)
    for _ in range(2):
        assert await senders.pause(ME, lasts=None, reason="holidays", actor="T") == (FOREVER, "holidays")
    assert await taken(database) == 0
    (now,) = await senders.all()
    assert (now.state.paused, now.state.pause_reason) == (True, "holidays")
    assert (await senders.resume(ME, actor="T")).paused
    assert not (await senders.resume(ME, actor="T")).paused
    assert await taken(database) == 3


async def test_a_pause_by_hand_can_be_shortened_and_googles_cannot(database: Database, senders: Senders) -> None:
    await senders.pause(ME, lasts=timedelta(hours=5), reason="", actor="T")
    until, _ = await senders.pause(ME, lasts=timedelta(hours=1), reason="", actor="T")
    ((left,),) = await query(database, "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), paused_until) FROM senders")
    assert 3590 < left <= 3600
    await query(
        database,
        "UPDATE senders SET pause_cause = 'daily_limit', pause_reason = 'the day is full', "
        "paused_until = paused_until + INTERVAL 9 HOUR",
    )
    stands = (until + timedelta(hours=9), "the day is full")
    for _ in range(2):
        assert await senders.pause(ME, lasts=timedelta(hours=1), reason="lunch", actor="T") == stands
    (now,) = await senders.all()
    assert now.state.pause_cause == "daily_limit"


async def test_only_a_known_sender_can_be_resumed(senders: Senders) -> None:
    with pytest.raises(SenderError, match=r"sender .* not found"):
        await senders.resume("nobody@example.com", actor="T")
