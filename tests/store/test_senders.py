"""Senders by hand: limits of their own without a restart, pauses and their end, all of it harmless to repeat."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from mailerd.config import Live
from mailerd.core.rate_limit import FOREVER, SenderLimits
from mailerd.core.senders import SenderReading
from mailerd.store.db.connection import naive
from mailerd.store.db.database import Database
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.read import senders as under_test
from mailerd.store.read.senders import Senders
from mailerd.store.write.sender_actions import SenderActions, SenderError
from tests.support.replayed import replayed
from tests.support.rows import numbers, post, query, rows_read

ME = "me@example.com"
DEFAULT = SenderLimits(0, 0, 10)


@pytest.fixture
def senders(database: Database) -> Senders:
    return Senders(database, DefaultLimits(DEFAULT))


@pytest.fixture
def actions(database: Database) -> SenderActions:
    return SenderActions(database, DefaultLimits(DEFAULT))


async def taken(database: Database, want: int = 100) -> int:
    claim = await Claims(database, "D1", timedelta(seconds=60), Live(DefaultLimits(DEFAULT)), replayed(database)).claim(
        want
    )
    return len(claim.messages)


async def test_a_raised_limit_holds_from_the_next_claim_on(database: Database, actions: SenderActions) -> None:
    await post(database, recipients=100)
    assert await taken(database) == 10
    assert await taken(database) == 0
    await actions.change(ME, {"per_day": 25}, actor="T")
    assert await taken(database) == 15
    now, changed = await actions.change(ME, {"per_day": None}, actor="T")
    assert changed
    assert (now.limits, now.own) == (DEFAULT, frozenset())


async def test_a_next_message_whose_copies_do_not_fit_into_the_day_is_not_said_to_go_now(
    database: Database, senders: Senders, actions: SenderActions
) -> None:
    await post(database, recipients=2)
    await query(database, "UPDATE job_recipients SET copies = 2")
    await actions.change(ME, {"per_day": 4}, actor="T")
    assert await taken(database) == 1
    ((it,), now) = await senders.page(only=[ME], limit=1, aliases=None), datetime.now(UTC)
    assert it.forecast.starts_at is not None
    assert timedelta(hours=23) < it.forecast.starts_at - now <= timedelta(hours=25)
    await actions.change(ME, {"per_day": 2}, actor="T")
    (it,) = await senders.page(only=[ME], limit=1, aliases=None)
    assert (it.forecast.starts_at, it.forecast.until) == (None, "the sender's day has room for its copies")


async def test_a_shorter_gap_holds_from_the_next_claim_on(database: Database, actions: SenderActions) -> None:
    await post(database, recipients=5)
    await actions.change(ME, {"min_gap": 3600}, actor="T")
    assert (await taken(database), await taken(database)) == (1, 0)
    await actions.change(ME, {"min_gap": 20}, actor="T")
    assert await taken(database) == 0
    rows = await query(database, "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), gap_until) FROM senders")
    assert rows == [(19,)]
    await actions.change(ME, {"min_gap": None}, actor="T")
    assert await taken(database) == 4


async def test_a_sender_can_be_given_limits_before_its_first_job(database: Database, actions: SenderActions) -> None:
    for _ in range(2):
        await actions.change(ME, {"per_day": 3}, actor="T")
    await post(database, recipients=5)
    assert await taken(database) == 3


async def test_a_warm_up_that_is_set_again_does_not_begin_again(database: Database, actions: SenderActions) -> None:
    await actions.change(ME, {"warm_up": 2, "warm_up_growth": 3}, actor="T")
    await query(database, "UPDATE senders SET warm_up_from = warm_up_from - INTERVAL 25 HOUR")
    now, changed = await actions.change(ME, {"warm_up": 2, "warm_up_growth": 3}, actor="T")
    assert (now.allowance.per_day, changed) == (5, False)
    now, changed = await actions.change(ME, {"warm_up": 3, "warm_up_growth": 3}, actor="T")
    assert (now.allowance.per_day, changed) == (3, True)


async def test_a_reserve_that_leaves_nothing_is_refused_and_changes_nothing(
    senders: Senders, actions: SenderActions
) -> None:
    with pytest.raises(SenderError, match="leaves nothing of 10"):
        await actions.change(ME, {"reserve": 10}, actor="T")
    assert await senders.all() == []
    with pytest.raises(SenderError, match="colour"):
        await actions.change(ME, {"colour": 1}, actor="T")


async def test_a_pause_by_hand_lasts_until_it_is_resumed(
    database: Database, senders: Senders, actions: SenderActions
) -> None:
    await post(database, recipients=3)
    for changed in (True, False):
        assert await actions.pause(ME, lasts=None, reason="holidays", actor="T") == (FOREVER, "holidays", changed)
    assert await taken(database) == 0
    (now,) = await senders.all()
    assert (now.state.paused, now.state.pause_reason) == (True, "holidays")
    assert (await actions.resume(ME, actor="T")).paused
    assert not (await actions.resume(ME, actor="T")).paused
    assert await taken(database) == 3


async def test_a_pause_by_hand_can_be_shortened_and_googles_cannot(
    database: Database, senders: Senders, actions: SenderActions
) -> None:
    await actions.pause(ME, lasts=timedelta(hours=5), reason="", actor="T")
    until, *_ = await actions.pause(ME, lasts=timedelta(hours=1), reason="", actor="T")
    ((left,),) = await query(database, "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), paused_until) FROM senders")
    assert 3590 < left <= 3600
    await query(
        database,
        "UPDATE senders SET pause_cause = 'daily_limit', pause_reason = 'the day is full', "
        "paused_until = paused_until + INTERVAL 9 HOUR",
    )
    stands = (until + timedelta(hours=9), "the day is full", False)
    for _ in range(2):
        assert await actions.pause(ME, lasts=timedelta(hours=1), reason="lunch", actor="T") == stands
    (now,) = await senders.all()
    assert now.state.pause_cause == "daily_limit"


async def test_only_a_known_sender_can_be_resumed(actions: SenderActions) -> None:
    with pytest.raises(SenderError, match=r"sender .* not found"):
        await actions.resume("nobody@example.com", actor="T")


async def test_every_change_is_recorded_with_its_actor_and_whether_it_made_a_difference(
    database: Database, actions: SenderActions
) -> None:
    for _ in range(2):
        await actions.change(ME, {"per_day": 3, "min_gap": 0.5, "reserve": None}, actor="key:shop")
        await actions.pause(ME, lasts=None, reason="holidays", actor="key:shop")
    for _ in range(2):
        await actions.resume(ME, actor="key:shop")
    limits = "per_day 3, min_gap 0.5, reserve default"
    assert await query(database, "SELECT action, detail, changed, actor FROM job_actions ORDER BY id") == [
        ("limits", limits, 1, "key:shop"), ("pause", "holidays", 1, "key:shop"),
        ("limits", limits, 0, "key:shop"), ("pause", "holidays", 0, "key:shop"),
        ("resume", None, 1, "key:shop"), ("resume", None, 0, "key:shop"),
    ]  # fmt: skip


async def test_of_changes_at_once_each_limit_has_the_last_ones_value_and_each_change_is_recorded(
    database: Database, actions: SenderActions
) -> None:
    await asyncio.gather(
        *(actions.change(ME, {"per_day": 100 + number}, actor=f"day {number}") for number in range(5)),
        *(actions.change(ME, {"per_minute": 10 + number}, actor=f"minute {number}") for number in range(5)),
    )
    rows = await query(database, "SELECT actor, detail FROM job_actions ORDER BY id")
    assert len(rows) == 10
    last = {detail.split()[0]: int(detail.split()[1]) for _, detail in rows}
    assert await query(database, "SELECT per_day, per_minute FROM senders") == [(last["per_day"], last["per_minute"])]


_MANY = f"""
INSERT INTO job_recipients (job_id, seq, to_email, status, due_at, updated_at)
SELECT id, seq + 2000, CONCAT('m', seq, '@example.org'), 'waiting', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6)
  FROM jobs, {numbers(3)}"""


async def page(senders: Senders, limit: int = 100, *, only: Sequence[str] | None = None) -> list[SenderReading]:
    return await senders.page(only=only, limit=limit, aliases=None)


async def cost(database: Database, senders: Senders, only: Sequence[str] | None) -> int:
    """Rows and entries of indexes that a page reads, and those of the look at these numbers."""
    before = await rows_read(database)
    await page(senders, only=only)
    return await rows_read(database) - before


async def test_a_page_reads_as_many_rows_however_many_messages_wait(
    database: Database, senders: Senders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "MAX_COUNTED", 400)
    for number in range(8):
        await post(database, sender=f"s{number}@example.com", recipients=1000)
    both = (None, ["s3@example.com"])
    await page(senders)
    before = [await cost(database, senders, only) for only in both]
    await query(database, _MANY)
    after = [await cost(database, senders, only) for only in both]
    assert all(now <= then for now, then in zip(after, before, strict=True)), (before, after)
    found = await page(senders)
    assert [(it.inputs.messages, it.counted_to, it.forecast.done_at) for it in found] == [(50, 50, None)] * 8
    (one,) = await page(senders, only=["s3@example.com"])
    assert (one.inputs.messages, one.counted_to) == (400, 400)


async def test_a_page_shows_what_each_has_sent_and_what_waits_by_address(database: Database, senders: Senders) -> None:
    for name in ("b", "a", "c"):
        await post(database, sender=f"{name}@example.com", recipients=4)
    await query(
        database,
        "INSERT INTO sender_hours (sender_email, hour, messages, elsewhere) "
        "VALUES ('a@example.com', UTC_TIMESTAMP() - INTERVAL 2 HOUR, 5, 3), "
        "('a@example.com', UTC_TIMESTAMP() - INTERVAL 30 HOUR, 90, 90)",
    )
    await query(
        database,
        "INSERT INTO tallies (minute, sender_email, daemon, sent) "
        "VALUES (UTC_TIMESTAMP() - INTERVAL SECOND(UTC_TIMESTAMP()) SECOND, 'a@example.com', 'd1', 2), "
        "(UTC_TIMESTAMP() - INTERVAL SECOND(UTC_TIMESTAMP()) SECOND, 'a@example.com', 'd2', 1), "
        "(UTC_TIMESTAMP() - INTERVAL SECOND(UTC_TIMESTAMP()) + 300 SECOND, 'a@example.com', 'd1', 70)",
    )
    await query(
        database,
        "INSERT INTO mailboxes (email, next_at, read_at) VALUES ('a@example.com', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))",
    )
    found = await page(senders)
    assert [it.state.email for it in found] == ["a@example.com", "b@example.com", "c@example.com"]
    assert [it.inputs.messages for it in found] == [4, 4, 4]
    first, second, _ = found
    assert (first.stats.used_day, first.elsewhere, first.day.messages, first.stats.used_minute) == (8, 3, 2, 3)
    assert (second.stats.used_day, second.elsewhere, second.day.messages, second.stats.used_minute) == (0, 0, 10, 0)
    assert (first.read_at is None, second.read_at is None) == (False, True)
    assert first.forecast.starts_at is not None
    behind = await senders.page(only=None, after="a@example.com", limit=1, aliases=None)
    assert [it.state.email for it in behind] == ["b@example.com"]
    some = await page(senders, only=["c@example.com", "z@example.com"])
    assert [it.state.email for it in some] == ["c@example.com"]


def test_of_the_minute_before_as_much_counts_as_lies_within_sixty_seconds() -> None:
    this = datetime(2026, 12, 1, 9, 30, tzinfo=UTC)
    before = this - timedelta(minutes=1)
    for second, part in ((0, 1.0), (15, 0.75), (59, 1 / 60)):
        _, values = under_test._last_minute([ME], this + timedelta(seconds=second))
        assert values == (naive(this), pytest.approx(part), (naive(this), naive(before)), (ME,))


async def test_a_limited_key_is_shown_no_message_of_another(database: Database, senders: Senders) -> None:
    job = await post(database, recipients=3)
    await query(
        database,
        "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, error, at) SELECT id, 1, "
        "UUID_SHORT(), '', 'deferred', '503', UTC_TIMESTAMP(6) FROM job_recipients WHERE job_id = %s",
        job,
    )
    shown = []
    for aliases in (None, {ME: "sales@example.com"}):
        (it,) = await senders.page(only=[ME], limit=1, aliases=aliases)
        assert it.finding is not None
        shown.append((it.stats.failing and it.stats.failing.example != 0, it.finding.text.split(":")[0]))
    assert shown == [(True, ME), (False, "sales@example.com")]


async def test_a_mailbox_that_was_never_used_is_shown_with_its_defaults(database: Database, senders: Senders) -> None:
    it = await senders.unused(ME, aliases=None)
    assert (it.state.email, it.state.limits, it.inputs.messages, it.day.messages) == (ME, DEFAULT, 0, 10)
    assert await query(database, "SELECT COUNT(*) FROM senders") == [(0,)]
