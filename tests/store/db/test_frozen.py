"""A daemon that stops in the midst of a transaction holds rows: whoever needs them waits, and nobody else does."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from mailerd.config import Live
from mailerd.core.claims import ClaimedRecipient, Outcome, Record, WriteResult
from mailerd.core.decisions import Decision, Pause
from mailerd.core.rate_limit import SenderLimits
from mailerd.core.states import Transition
from mailerd.core.verdicts import PauseCause
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.rate_limits import BUSY, DefaultLimits, RateLimits
from mailerd.store.queue.record import RecordWriter
from tests.support.eventually import eventually
from tests.support.handover import handover
from tests.support.holding import holding
from tests.support.replayed import replayed
from tests.support.rows import post, query

FROZEN, SAME, OTHER = "frozen@example.com", "same@example.com", "other@example.com"
FROZEN_CLAIM = (
    f"SELECT email FROM senders WHERE email = '{FROZEN}' FOR UPDATE",
    "SELECT name FROM projects WHERE name = '1' FOR UPDATE",
)
"""What a claim of one sender has locked when it has come as far as the projects."""


def claimer(database: Database) -> Claims:
    # 1 % of the project's units at once: 100 messages
    defaults = DefaultLimits(SenderLimits(100_000, 0, 0), project_units_per_minute=1_100_000)
    return Claims(database, "D2", timedelta(seconds=60), Live(defaults), replayed(database, "D2"))


@pytest.fixture
async def two_projects(database: Database) -> Database:
    """Two senders of one project and a sender of another."""
    for sender in (FROZEN, SAME, OTHER):
        await post(database, sender=sender, recipients=5)
    await query(database, "UPDATE senders SET project = IF(email = %s, '2', '1')", OTHER)
    await query(database, "INSERT INTO projects (name) VALUES ('1'), ('2')")
    return database


async def test_a_claim_passes_a_locked_project_by_and_serves_the_others(
    two_projects: Database, database_url: str
) -> None:
    claims = claimer(two_projects)
    async with holding(database_url, *FROZEN_CLAIM):
        claim = await claims.claim(20)
        assert {message.sender for message in claim.messages} == {OTHER}
        await query(two_projects, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6) WHERE email = %s", SAME)
        assert (await claims.claim(20)).messages == ()
        ((rests,),) = await query(
            two_projects,
            "SELECT TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), next_claim_at) FROM senders WHERE email = %s", SAME,
        )  # fmt: skip
        assert rests <= BUSY / timedelta(microseconds=1)
        assert await query(two_projects, "SELECT COUNT(*) FROM projects WHERE name = '1' AND tat IS NULL") == [(1,)]
    taken: Counter[str] = Counter()

    async def all_have_gone() -> bool:
        taken.update(message.sender for message in (await claims.claim(20)).messages)
        return taken.keys() >= {FROZEN, SAME}

    await eventually(all_have_gone)


async def test_a_look_waits_a_moment_for_a_locked_project_and_is_not_granted(
    two_projects: Database, database_url: str
) -> None:
    permits = RateLimits(two_projects, claimer(two_projects).defaults)
    async with holding(database_url, *FROZEN_CLAIM):
        assert await permits.acquire(SAME, units=20) == BUSY
        assert await permits.acquire(OTHER, units=20) == timedelta(0)
    assert await permits.acquire(SAME, units=20) == timedelta(0)
    assert await query(two_projects, "SELECT name FROM projects WHERE tat IS NULL") == []


async def test_a_project_without_a_row_gets_one_before_its_senders_have_messages(two_projects: Database) -> None:
    await query(two_projects, "DELETE FROM projects")
    claims = claimer(two_projects)
    assert (await claims.claim(20)).messages == ()
    taken: set[str] = set()

    async def all_have_gone() -> bool:
        taken.update(message.sender for message in (await claims.claim(20)).messages)
        return taken == {FROZEN, SAME, OTHER}

    await eventually(all_have_gone)
    assert await query(two_projects, "SELECT name FROM projects WHERE tat IS NOT NULL ORDER BY name") == [
        ("1",), ("2",),
    ]  # fmt: skip


async def test_a_look_gives_a_project_without_a_row_one(two_projects: Database) -> None:
    await query(two_projects, "DELETE FROM projects")
    permits = RateLimits(two_projects, claimer(two_projects).defaults)
    assert await permits.acquire(SAME, units=20) == BUSY
    assert await permits.acquire(SAME, units=20) == timedelta(0)


MINUTE = timedelta(minutes=1)
USED_UP = Decision(Transition.RELEASED, error="no", wait=MINUTE, pause=Pause(PauseCause.PROJECT_LIMIT, "no", MINUTE))


def records(message: ClaimedRecipient) -> list[Record]:
    """One of each kind: what locks its own row alone, what teaches of the sender, comes back, was slow, pauses all."""
    slow = replace(message, latency_threshold=0.4)
    return [
        Outcome(message, Decision(Transition.SENT, message_id="m")),
        handover(message, "d", "t", project="1"),
        Outcome(message, Decision(Transition.DEFERRED, error="no", wait=MINUTE)),
        Outcome(slow, Decision(Transition.SENT, message_id="m"), took=2.0),
        Outcome(message, USED_UP),
    ]


async def left_out(database: Database, ours: Sequence[Record]) -> set[int]:
    """Which of the records, each written by itself and rolled back, would have to wait."""

    async def waits(one: Record) -> bool:
        async def work(cursor: Cursor) -> bool:
            (what,) = await RecordWriter(database, "D1").record(cursor, [one])
            await cursor.execute("ROLLBACK")
            return what is WriteResult.LOCKED

        return await database.transaction(work, what="record")

    return {number for number, one in enumerate(ours) if await waits(one)}


@pytest.mark.parametrize(
    "held, waiting",
    [
        ("SELECT email FROM senders WHERE email = 'same@example.com'", {1, 2, 3, 4}),
        ("SELECT email FROM senders WHERE email = 'frozen@example.com'", {4}),
        ("SELECT email FROM senders WHERE email = 'other@example.com'", set()),
        ("SELECT name FROM projects WHERE name = '1'", {3}),
        ("SELECT name FROM projects WHERE name = '2'", set()),
        ("SELECT id FROM jobs WHERE sender_email = 'same@example.com'", {2, 4}),
    ],
)
async def test_records_whose_rows_are_locked_are_left_out_and_the_others_written(
    two_projects: Database, database_url: str, held: str, waiting: set[int]
) -> None:
    claim = await claimer(two_projects).claim(20)
    ours = records(next(message for message in claim.messages if message.sender == SAME))
    async with holding(database_url, f"{held} FOR UPDATE"):
        assert await left_out(two_projects, ours) == waiting
    assert await left_out(two_projects, ours) == set()


async def test_a_project_that_is_not_counted_holds_up_no_record(two_projects: Database) -> None:
    claim = await claimer(two_projects).claim(20)
    await query(two_projects, "DELETE FROM projects")
    assert await left_out(two_projects, records(claim.messages[0])) == set()
