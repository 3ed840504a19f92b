"""Claiming: who gets what, in which order, and that nobody gets it twice."""

import asyncio
import math
from collections import Counter
from datetime import timedelta

from mailerd.config import Live
from mailerd.core.claims import Claim
from mailerd.core.rate_limit import SenderLimits
from mailerd.store.db.database import Database
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.rate_limits import DefaultLimits
from tests.support.dialect import plan
from tests.support.replayed import replayed
from tests.support.rows import post, query, states

FREE = SenderLimits(units_per_minute=0, per_minute=0, per_day=0)


def claims(database: Database, *, daemon: str = "D1", allowance: SenderLimits = FREE) -> Claims:
    return Claims(database, daemon, timedelta(seconds=60), Live(DefaultLimits(allowance)), replayed(database, daemon))


async def test_a_claim_counts_the_attempt_and_sets_token_lease_and_owner(database: Database) -> None:
    job = await post(database, recipients=3)
    claim = await claims(database).claim(2)
    assert [message.to_email for message in claim.messages] == ["r0@example.org", "r1@example.org"]
    rows = await query(
        database,
        "SELECT status, attempts, claim_token, daemon_id, lease_until > UTC_TIMESTAMP(6) + INTERVAL 50 SECOND "
        "FROM job_recipients WHERE job_id = %s ORDER BY id",
        job,
    )
    assert rows == [("sending", 1, claim.token, "D1", 1)] * 2 + [("waiting", 0, None, None, None)]
    assert await query(database, "SELECT status FROM jobs WHERE id = %s", job) == [("sending",)]


async def test_when_nothing_is_due_the_claim_says_when_something_will_be(database: Database) -> None:
    assert (await claims(database).claim(5)).next_in is None
    await post(database, recipients=1)
    await query(database, "UPDATE job_recipients SET due_at = UTC_TIMESTAMP(6) + INTERVAL 40 SECOND")
    claim = await claims(database).claim(5)
    assert claim.messages == ()
    assert claim.next_in is not None
    assert 38 < claim.next_in <= 40


async def test_many_claimers_never_take_a_row_twice(database: Database) -> None:
    for number in range(4):
        await post(database, sender=f"s{number}@example.com", recipients=50)

    async def drain(daemon: str) -> list[int]:
        mine: list[int] = []
        claimer = claims(database, daemon=daemon)
        while True:
            claim: Claim = await claimer.claim(7)
            if not claim.messages and claim.next_in is None:
                return mine
            mine += [message.id for message in claim.messages]

    taken = [id_ for part in await asyncio.gather(*(drain(f"D{n}") for n in range(4))) for id_ in part]
    assert len(taken) == 200
    assert len(set(taken)) == 200


async def test_a_huge_job_starves_neither_a_small_one_nor_another_sender(database: Database) -> None:
    huge = await post(database, recipients=400)
    small = await post(database, recipients=5)
    other = await post(database, sender="other@example.com", recipients=5)
    claimer = claims(database)
    messages = [message for _ in range(4) for message in (await claimer.claim(10)).messages]
    taken = {job: sum(message.job_id == job for message in messages) for job in (huge, small, other)}
    assert taken[small] == 5
    assert taken[other] == 5
    assert taken[huge] == 30


async def test_a_gap_that_a_person_wrote_without_bound_ends_no_claim(database: Database) -> None:
    await post(database, recipients=1)
    await post(database, sender="b@example.com", recipients=1)
    await query(database, "UPDATE senders SET min_gap = 1e300 WHERE email <> 'b@example.com'")
    assert len((await claims(database).claim(5)).messages) == 2


async def test_priority_goes_first_within_a_sender(database: Database) -> None:
    await post(database, recipients=5)
    urgent = await post(database, recipients=5, priority=10)
    claim = await claims(database).claim(5)
    assert {message.job_id for message in claim.messages} == {urgent}


async def test_the_minutes_allowance_bounds_a_claim_and_names_the_next_turn(database: Database) -> None:
    await post(database, recipients=100)
    claimer = claims(database, allowance=SenderLimits(units_per_minute=6000, per_minute=0, per_day=0))
    first = await claimer.claim(50)
    assert len(first.messages) == 1
    assert first.next_in is not None
    assert 0 < first.next_in < 1.3


async def test_the_days_allowance_is_shared_by_all_daemons_to_the_message(database: Database) -> None:
    job = await post(database, recipients=30)
    allowance = SenderLimits(units_per_minute=0, per_minute=0, per_day=20)
    both = [claims(database, daemon=f"D{n}", allowance=allowance) for n in range(2)]
    taken = [len((await both[turn % 2].claim(7)).messages) for turn in range(8)]
    assert sum(taken) == 20
    assert await states(database, job) == {"sending": 20, "waiting": 10}
    claim = await both[0].claim(7)
    assert claim.next_in is not None
    assert 23 * 3600 < claim.next_in <= 25 * 3600


async def test_a_paused_sender_is_left_alone_until_its_time(database: Database) -> None:
    await post(database, recipients=3)
    await query(database, "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 90 SECOND")
    claim = await claims(database).claim(5)
    assert claim.messages == ()
    assert claim.next_in is not None
    assert 85 < claim.next_in <= 90


async def test_the_claim_reads_by_its_index_and_sorts_nothing(database: Database) -> None:
    job = await post(database, recipients=300)
    await query(database, "UPDATE job_recipients SET status = 'sent' WHERE seq < 250")
    for statement, values in (
        (
            "SELECT id FROM job_recipients FORCE INDEX (claim) WHERE job_id = %s AND status = 'waiting' AND "
            "due_at <= UTC_TIMESTAMP(6) ORDER BY due_at, id LIMIT 50 FOR UPDATE SKIP LOCKED",
            (job,),
        ),
        (
            "SELECT id FROM jobs FORCE INDEX (next_claim) WHERE sender_email = %s AND claimable = 1 AND "
            "next_claim_at <= UTC_TIMESTAMP(6) ORDER BY precedence, next_claim_at, id LIMIT 1 FOR UPDATE SKIP LOCKED",
            ("me@example.com",),
        ),
        (
            "SELECT email FROM senders FORCE INDEX (next_claim) WHERE next_claim_at <= UTC_TIMESTAMP(6) "
            "ORDER BY next_claim_at, email LIMIT 1 FOR UPDATE SKIP LOCKED",
            (),
        ),
    ):
        (row,) = await plan(database, statement, values)
        assert row["key"] in {"claim", "next_claim"}
        assert "filesort" not in str(row["Extra"])


async def test_a_sender_without_room_is_passed_by_and_keeps_its_turn(database: Database) -> None:
    for sender in ("full@example.com", "some@example.com", "free@example.com"):
        await post(database, sender=sender, recipients=30)
    claimer = claims(database)
    ((turn, _),) = before = await query(
        database, "SELECT next_claim_at, tat FROM senders WHERE email = %s", "full@example.com"
    )
    claim = await claimer.claim(40, rooms={"full@example.com": 0, "some@example.com": 7, "other@example.com": -3})
    assert Counter(message.sender for message in claim.messages) == {"some@example.com": 7, "free@example.com": 30}
    assert (
        await query(database, "SELECT next_claim_at, tat FROM senders WHERE email = %s", "full@example.com") == before
    )
    assert turn is not None
    full = {"full@example.com": 0, "some@example.com": 0}
    assert claim.next_in is None, "nothing is due of those that have room"
    assert await claimer.due_in(rooms=full) == math.inf
    assert await claimer.due_in() == 0
    assert len((await claimer.claim(40)).messages) == 40
