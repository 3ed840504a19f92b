"""The claim in bulk: it takes what turn after turn would take, never beyond a limit, by index, and asks little."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailerd.config import DatabaseSettings, Live
from mailerd.core.claims import Claim
from mailerd.core.rate_limit import SenderLimits, rate
from mailerd.events.process import StoreEvents
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.queue import claim as claims_module
from mailerd.store.queue import take_messages, turns
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.rate_limits import DefaultLimits
from tests.store.queue.test_rate_limits import Shifted
from tests.support.dialect import plan
from tests.support.heard import Heard
from tests.support.replayed import replayed
from tests.support.rows import post, query

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
SENDERS = 12


@pytest.fixture
async def shifted(database: Database, database_url: str) -> AsyncIterator[Shifted]:
    """The same database with its clock at NOW."""
    assert not database.unavailable
    it = Shifted(DatabaseSettings(url=database_url), events=StoreEvents(Heard()))
    it.at = NOW
    yield it
    await it.close()


def naive(seconds: float) -> datetime:
    return (NOW + timedelta(seconds=seconds)).replace(tzinfo=None)


async def fill(database: Database, chance: random.Random) -> None:
    """Senders with all kinds of limits and standings, each with a few jobs of a few messages."""
    for table in ("job_recipients", "jobs", "senders", "sender_hours"):
        await query(database, f"DELETE FROM {table}")
    for number in range(SENDERS):
        email = f"s{number}@example.com"
        sender: dict[str, Any] = {
            "email": email, "next_claim_at": naive(-chance.uniform(1, 1000)), "created_at": naive(-1e6),
            "units_per_minute": chance.choice([None, 0, 6000, 200_000]), "per_day": chance.choice([None, 0, 9]),
            "paused_until": chance.choice([None, None, naive(-1), naive(60)]),
            "pause_cause": chance.choice([None, None, "throttled"]), "tat": chance.choice([None, naive(-5), naive(9)]),
            "concurrency": chance.choice([None, None, 4]), "concurrency_at": naive(-1),
        }  # fmt: skip
        await insert(database, "senders", sender)
        for hour in range(chance.randrange(3)):
            at = naive(-3600 * hour).replace(minute=0)
            await insert(
                database, "sender_hours", {"sender_email": email, "hour": at, "messages": chance.randrange(1, 5)}
            )
        for job in range(chance.randrange(4)):
            await a_job(database, chance, id_=f"{number:013}{job:013}", sender=email)


async def a_job(database: Database, chance: random.Random, *, id_: str, sender: str) -> None:
    messages = chance.randrange(1, 30)
    row = {
        "id": id_, "type": "template", "sender_email": sender, "subject": "s", "text": "t", "variables": "{}",
        "priority": chance.choice([0, 0, 5]), "status": "queued", "total": messages,
        "next_claim_at": naive(chance.choice([-50, -10, 100]) - chance.random()), "send_at": naive(-60),
        "created_at": naive(-60),
    }  # fmt: skip
    await insert(database, "jobs", row)
    for seq in range(messages):
        status = chance.choice(["waiting"] * 5 + ["sending", "sent"])
        await insert(
            database, "job_recipients",
            {"job_id": id_, "seq": seq, "to_email": "r@example.org", "status": status, "updated_at": naive(0),
             "due_at": naive(chance.choice([-30, -30, -30, 40])), "attempts": 0},
        )  # fmt: skip


async def insert(database: Database, table: str, row: dict[str, Any]) -> None:
    names, holes = ", ".join(row), ", ".join(["%s"] * len(row))
    await query(database, f"INSERT INTO {table} ({names}) VALUES ({holes})", *row.values())


async def outcome(database: Database, shifted: Shifted, *, seed: int) -> list[Any]:
    """What a few claims took from a database filled by this seed, and what they left."""
    chance = random.Random(seed)
    await fill(database, chance)
    claimer = Claims(
        shifted, "D1", timedelta(seconds=60), Live(DefaultLimits(SenderLimits(0, 0, 0))), replayed(shifted)
    )
    seen: list[Any] = []
    for _ in range(3):  # enough is wanted: a turn that is cut short may be another one's in bulk
        claim = await claimer.claim(200)
        seen.append(
            sorted((message.job_id, message.seq, message.attempt, message.probing) for message in claim.messages)
        )
        seen.append((sorted(job.id for job in claim.jobs), claim.next_in))
    seen.append(await query(database, "SELECT email, next_claim_at, tat FROM senders ORDER BY email"))
    seen.append(await query(database, "SELECT id, status, started_at, next_claim_at FROM jobs ORDER BY id"))
    seen.append(await query(database, "SELECT * FROM sender_hours ORDER BY sender_email, hour"))
    return seen


@pytest.mark.parametrize("seed", range(8))
async def test_a_claim_in_bulk_takes_what_it_would_take_sender_after_sender(
    database: Database, shifted: Shifted, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    in_bulk = await outcome(database, shifted, seed=seed)
    monkeypatch.setattr(claims_module, "_MAX_SENDERS", 1)
    assert in_bulk == await outcome(database, shifted, seed=seed)
    assert any(in_bulk[:6:2])


async def test_a_claim_passes_each_sender_by_once_whose_project_is_locked(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        await post(database, sender=f"s{number:02}@example.com", recipients=1)
    await query(database, "UPDATE senders SET project = '1' WHERE email > 's00@example.com'")
    await query(database, "INSERT INTO projects (name) VALUES ('1')")
    monkeypatch.setattr(claims_module, "_MAX_SENDERS", 4)
    monkeypatch.setattr(turns, "BUSY", timedelta(0))  # as if a round took longer
    lock_due, rounds = turns.lock_due, list[int]()

    async def counted(cursor: Cursor, *given: Any, **more: Any) -> list[turns.Turn]:
        found = await lock_due(cursor, *given, **more)
        rounds.append(len(found))
        return found

    monkeypatch.setattr("mailerd.store.queue.claim.lock_due", counted)
    defaults = DefaultLimits(SenderLimits(6000, 0, 0), project_units_per_minute=1_000_000)
    claimer = Claims(database, "D1", timedelta(seconds=60), Live(defaults), replayed(database))

    async def beside(cursor: Cursor) -> Claim:
        await cursor.execute("SELECT name FROM projects FOR UPDATE")
        return await claimer.claim(40)

    claim = await database.transaction(beside, what="hold")
    assert [message.sender for message in claim.messages] == ["s00@example.com"]
    assert claim.next_in == 0
    assert sum(rounds) == 30, "each once"


async def test_daemons_that_claim_at_once_stay_within_every_limit_and_take_nothing_twice(database: Database) -> None:
    for number in range(12):
        await post(database, sender=f"s{number:02}@example.com", recipients=60)
    await query(database, "UPDATE senders SET per_day = 13 WHERE email < 's04'")
    await query(database, "UPDATE senders SET units_per_minute = 6000, mode = 'direct' WHERE email LIKE 's04%%'")
    await query(database, "UPDATE senders SET project = '1', units_per_minute = 1000000 WHERE email >= 's06'")
    await query(database, "INSERT INTO projects (name) VALUES ('1')")
    # 1 % of it at once: 10 messages
    defaults = DefaultLimits(SenderLimits(0, 0, 0), project_units_per_minute=110_000)
    daily = [f"s{n:02}@example.com" for n in range(4)]
    taken: list[int] = []
    count: Counter[str] = Counter()

    def of_project() -> int:
        return sum(messages for sender, messages in count.items() if sender >= "s06")

    def enough() -> bool:
        return count["s05@example.com"] == 60 and of_project() >= 10 and sum(count[it] for it in daily) >= 4 * 13

    async def drain(daemon: str) -> None:
        claimer = Claims(database, daemon, timedelta(seconds=60), Live(defaults), replayed(database, daemon))
        while not enough():  # who is passed by has its turn a moment later
            messages = (await claimer.claim(23)).messages
            assert len(messages) <= 23
            taken.extend(message.id for message in messages)
            count.update(message.sender for message in messages)

    started = asyncio.get_running_loop().time()
    async with asyncio.timeout(60):
        await asyncio.gather(*(drain(f"D{n}") for n in range(4)))
    seconds = asyncio.get_running_loop().time() - started
    assert len(set(taken)) == len(taken)
    assert [count[sender] for sender in daily] == [13] * 4
    limit = rate(SenderLimits(6000, 0, 0), units=100)
    assert limit is not None
    assert 1 <= count["s04@example.com"] < (seconds + limit.tolerance.total_seconds()) / limit.interval.total_seconds()
    assert count["s05@example.com"] == 60
    assert 10 <= of_project() <= 10 + seconds * 110_000 / 60 / 110


async def test_two_daemons_that_meet_a_new_project_share_it_from_the_first_message_on(database: Database) -> None:
    for number in range(8):
        await post(database, sender=f"s{number}@example.com", recipients=60)
    await query(database, "UPDATE senders SET project = 'new', units_per_minute = 10000000")
    defaults = DefaultLimits(SenderLimits(0, 0, 0), project_units_per_minute=110_000)
    claimers = [Claims(database, f"D{n}", timedelta(seconds=60), Live(defaults), replayed(database)) for n in range(4)]
    taken: list[int] = []
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(60):
        while not sum(taken):  # the first claims meet it, and the second ones give it its row
            await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6)")
            taken = [len(claim.messages) for claim in await asyncio.gather(*(it.claim(30) for it in claimers))]
    seconds = asyncio.get_running_loop().time() - began
    assert 10 <= sum(taken) <= 12 + seconds * 110_000 / 60 / 110


@pytest.mark.parametrize("want", [1, 20])
async def test_the_senders_of_a_project_that_is_used_up_take_turns(
    database: Database, shifted: Shifted, want: int
) -> None:
    for number in range(6):
        await post(database, sender=f"s{number}@example.com", recipients=60)
    await query(database, "UPDATE jobs SET next_claim_at = %s", naive(0))
    await query(database, "UPDATE job_recipients SET due_at = %s", naive(0))
    await query(database, "UPDATE senders SET project = '1', next_claim_at = %s", naive(0))
    await query(database, "INSERT INTO projects (name) VALUES ('1')")
    defaults = DefaultLimits(SenderLimits(6000, 0, 0), project_units_per_minute=6000)  # one may use it all
    claimer, count = Claims(shifted, "D1", timedelta(seconds=60), Live(defaults), replayed(shifted)), Counter[str]()
    while sum(count.values()) < 60:
        claim = await claimer.claim(want)
        count.update(message.sender for message in claim.messages)
        shifted.at += timedelta(seconds=max(0.05, claim.next_in or 0.0))
    assert len(count) == 6, count
    assert max(count.values()) < 30, count
    assert shifted.at < NOW + timedelta(seconds=75), "and what the project may send is sent"


async def statements(database: Database) -> int:
    """Questions that the server has been asked."""
    ((_, number),) = await query(database, "SHOW GLOBAL STATUS LIKE 'Questions'")
    return int(number)


async def test_a_claim_costs_no_more_statements_for_many_senders_than_for_few(database: Database) -> None:
    for number in range(60):
        await post(database, sender=f"s{number}@example.com", recipients=3)
    limits = SenderLimits(units_per_minute=6000, per_minute=0, per_day=100)
    claimer = Claims(database, "D1", timedelta(seconds=60), Live(DefaultLimits(limits)), replayed(database))
    asked = []
    for want in (2, 50):
        before = await statements(database)
        assert len((await claimer.claim(want)).messages) == want
        asked.append(await statements(database) - before)
    assert asked[1] <= asked[0] + 1


async def test_senders_that_alone_are_due_share_all_that_is_wanted_in_one_round(database: Database) -> None:
    """Each got a quarter at most in every round: a claim of eighty messages cost one sender four rounds."""
    limits = SenderLimits(units_per_minute=0, per_minute=0, per_day=0)
    claimer = Claims(database, "D1", timedelta(seconds=60), Live(DefaultLimits(limits)), replayed(database))
    await post(database, recipients=500)
    asked = []
    for want in (10, 80):
        before = await statements(database)
        assert len((await claimer.claim(want)).messages) == want
        asked.append(await statements(database) - before)
    assert asked[1] <= asked[0]
    small = await post(database)  # behind the large job, whose turn is before it
    for found in (False, True):
        assert (small in {message.job_id for message in (await claimer.claim(40)).messages}) is found
    await post(database, sender="other@example.com", recipients=500)
    senders = Counter(message.sender for message in (await claimer.claim(81)).messages)
    assert sorted(senders.values()) == [40, 41]


async def test_every_statement_of_the_claim_reads_by_its_index_and_sorts_nothing(database: Database) -> None:
    jobs = [await post(database, sender=f"s{n}@example.com", recipients=30) for n in range(20)]
    await query(database, "UPDATE job_recipients SET status = 'sent' WHERE seq < 20")
    senders = [f"s{n}@example.com" for n in range(3)]
    for statement, values in (
        (turns.DUE, (("", "a@example.com"), 3)),
        (claims_module.NEXT, (("", "a@example.com"),)),
        (" UNION ALL ".join([take_messages.JOB] * 3), senders),
        (" UNION ALL ".join([take_messages.ROWS] * 3), [v for job in jobs[:3] for v in (job, "waiting", 5)]),
        (" UNION ALL ".join([take_messages.NEXT_ROW] * 3), [v for job in jobs[:3] for v in (job, "waiting")]),
        (take_messages.NEXT_JOBS, (tuple(senders),)),
    ):
        for row in await plan(database, statement, values):
            if (row["table"] or "<union").startswith("<union"):
                continue
            assert row["type"] in {"range", "ref"}, row
            assert row["key"] in {"next_claim", "claim", "PRIMARY"}, row
            assert "filesort" not in str(row["Extra"]), row
