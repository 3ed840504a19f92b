"""Senders that sleep for a reason that has gone are woken; those that sleep for a good one sleep on."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from mailerd.config import Live
from mailerd.core.rate_limit import SenderLimits
from mailerd.store.db.database import Database
from mailerd.store.queue import rate_limits
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.read.audit import audit
from tests.support.replayed import replayed
from tests.support.rows import post, query

FEW, MANY = DefaultLimits(SenderLimits(0, 0, 4)), DefaultLimits(SenderLimits(0, 0, 2000))
PAUSE = "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 9 HOUR, pause_cause = 'manual'"


def claimer(database: Database, defaults: DefaultLimits) -> Claims:
    return Claims(database, "D1", timedelta(seconds=60), Live(defaults), replayed(database))


async def taken(claims: Claims) -> int:
    return len((await claims.claim(100)).messages)


@pytest.fixture
def minute_passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the next look follow at once."""
    return lambda: monkeypatch.setattr(rate_limits, "_INTERVAL", 0.0)


async def test_a_limit_that_a_reload_raises_holds_from_the_next_claim_on(database: Database) -> None:
    await post(database, recipients=7)
    claims = claimer(database, FEW)
    assert [await taken(claims), await taken(claims)] == [4, 0]
    claims.defaults.now = MANY
    assert await claims.due_in() == 0
    assert await taken(claims) == 3


async def test_a_limit_that_was_raised_while_nobody_ran_holds_from_the_start_on(database: Database) -> None:
    await post(database, recipients=7)
    before = claimer(database, FEW)
    assert [await taken(before), await taken(before)] == [4, 0]
    assert await taken(claimer(database, MANY)) == 3


@pytest.mark.parametrize(
    "asleep, by_hand",
    [
        (PAUSE, "UPDATE senders SET paused_until = NULL"),
        ("UPDATE senders SET per_day = 1", "UPDATE senders SET per_day = NULL"),
    ],
)
async def test_what_is_changed_in_the_table_by_hand_is_seen_within_a_minute(
    database: Database, minute_passes: Callable[[], None], asleep: str, by_hand: str
) -> None:
    await post(database, recipients=2)
    await query(database, asleep)
    minute_passes()
    claims = claimer(database, FEW)
    assert [await taken(claims), await taken(claims)] == [0 if asleep == PAUSE else 1, 0]
    assert await claims.due_in() > 3600
    await query(database, by_hand)
    assert await claims.due_in() == 0
    assert await taken(claims) >= 1


@pytest.mark.parametrize(
    "reason, defaults",
    [
        (
            "UPDATE senders SET gap_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR",
            DefaultLimits(SenderLimits(0, 0, 0, min_gap=3600)),
        ),
        ("UPDATE senders SET tat = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR", DefaultLimits(SenderLimits(6000, 0, 0))),
        (PAUSE, MANY),
        ("UPDATE jobs SET next_claim_at = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR", MANY),
        ("INSERT INTO sender_hours SELECT email, UTC_TIMESTAMP(), 2000, 0, 0 FROM senders", MANY),
        ("UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6) + INTERVAL 1900000 MICROSECOND", MANY),
    ],
)
async def test_who_sleeps_for_a_reason_is_left_alone(database: Database, reason: str, defaults: DefaultLimits) -> None:
    await post(database, recipients=2)
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR")
    await query(database, reason)
    assert await rate_limits.find_stale_turns(database, defaults) == []
    assert await claimer(database, defaults).due_in() > 0


async def test_a_project_that_has_used_its_minute_is_a_reason(database: Database) -> None:
    await post(database, recipients=2)
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, project = 'p'")
    await query(database, "INSERT INTO projects (name, tat) SELECT 'p', UTC_TIMESTAMP(6) + INTERVAL 1 HOUR")
    defaults = DefaultLimits(SenderLimits(6000, 0, 0), project_units_per_minute=6000)
    assert await rate_limits.find_stale_turns(database, defaults) == []
    await query(database, "UPDATE projects SET tat = NULL")
    assert [one.email for one in await rate_limits.find_stale_turns(database, defaults)] == ["me@example.com"]


async def test_the_tables_are_looked_through_page_by_page(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "_PAGE", 2)
    names = [f"{name}@example.com" for name in "abcde"]
    for name in names:
        await post(database, sender=name, recipients=1)
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR")
    assert [one.email for one in await rate_limits.find_stale_turns(database, MANY)] == names
    assert await taken(claimer(database, MANY)) == 5


async def test_a_daemon_looks_once_a_minute(database: Database) -> None:
    await post(database, recipients=2)
    claims = claimer(database, MANY)
    assert await claims.due_in() == 0
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR")
    assert await claims.due_in() > 3590


async def test_the_audit_names_a_sender_that_nobody_has_woken(database: Database) -> None:
    await post(database, recipients=2)
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR")
    _, findings = await audit(database, defaults=MANY)
    assert [(finding.kind, finding.where) for finding in findings] == [
        ("sleeps for no reason", "sender me@example.com")
    ]
    assert "check that a daemon is running" in findings[0].what


@pytest.mark.parametrize("new, wait", [(0, 0), (8, 12)])
async def test_a_gap_that_a_reload_shortens_lasts_no_longer_than_the_new_one(
    database: Database, new: float, wait: float
) -> None:
    await post(database, recipients=2)
    claims = claimer(database, DefaultLimits(SenderLimits(0, 0, 0, min_gap=3600)))
    assert [await taken(claims), await taken(claims)] == [1, 0]
    assert await claims.due_in() > 3000
    claims.defaults.now = DefaultLimits(SenderLimits(0, 0, 0, min_gap=new))
    assert await taken(claims) == (0 if new else 1)
    if new:
        assert 0 < await claims.due_in() <= wait
