"""Accepting a job: whole or not at all, whatever happens to the database or to the answer to COMMIT."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import aiomysql
import pytest
from pymysql.err import OperationalError

from mailerd.clock import new_id
from mailerd.core.extras import NO_EXTRAS, Extras
from mailerd.core.states import JobType, State
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.read.jobs import JobFilter, Jobs
from mailerd.store.write.new_jobs import ROWS_PER_STATEMENT, NewJob, NewJobs, NewRecipient
from tests.support.own_time import own_time
from tests.support.rows import post, query, rows_read

Commit = Callable[[Any], Awaitable[None]]


@pytest.fixture
def jobs(database: Database) -> NewJobs:
    return NewJobs(database, timeout=20)


@pytest.fixture
def hasty(database: Database) -> NewJobs:
    """Says within two seconds that the database is away."""
    return NewJobs(database, timeout=2)


def new(count: int = 3, **fields: Any) -> NewJob:
    recipients = [NewRecipient(f"r{number}@example.com", None, None) for number in range(count)]
    return NewJob(
        **{"id": new_id(), "sender_email": "me@example.com", "subject": "x", "recipients": recipients, **fields}
    )


async def stored(database: Database) -> tuple[int, int, int]:
    [row] = await query(
        database,
        "SELECT (SELECT COUNT(*) FROM jobs), (SELECT COUNT(*) FROM job_recipients), (SELECT COUNT(*) FROM senders)",
    )
    return row[0], row[1], row[2]


async def test_a_job_of_many_statements_is_one_job(jobs: NewJobs, database: Database) -> None:
    count = 2 * ROWS_PER_STATEMENT + 1
    job = new(count)
    await jobs.accept(job)

    assert await stored(database) == (1, count, 1)
    found = await Jobs(database, timeout=20).job(job.id)
    assert found is not None
    assert (found.total, found.counts[State.WAITING]) == (count, count)
    seqs = await query(database, "SELECT MIN(seq), MAX(seq), COUNT(DISTINCT to_email) FROM job_recipients")
    assert seqs == [(0, count - 1, count)]


async def test_the_recipients_are_sent_in_few_statements(jobs: NewJobs, database: Database) -> None:
    [(_, before)] = await query(database, "SHOW GLOBAL STATUS LIKE 'Com_insert'")
    await jobs.accept(new(2 * ROWS_PER_STATEMENT))
    [(_, after)] = await query(database, "SHOW GLOBAL STATUS LIKE 'Com_insert'")

    assert int(after) - int(before) == 4  # two batches, the job, the sender


async def test_long_variables_are_sent_in_more_statements_and_no_statement_is_above_a_megabyte(
    jobs: NewJobs, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    ask: Callable[..., Awaitable[None]] = aiomysql.Connection.query

    async def weigh(connection: Any, sql: bytes, **options: Any) -> None:
        sent.append(len(sql))
        await ask(connection, sql, **options)

    monkeypatch.setattr(aiomysql.Connection, "query", weigh)
    long = [NewRecipient(f"r{number}@example.com", None, f'"{"👩" * 90_000}"') for number in range(5)]
    await jobs.accept(new(recipients=long))

    assert max(sent) < 1 << 20
    assert await query(database, "SELECT seq, CHAR_LENGTH(variables) FROM job_recipients ORDER BY seq") == [
        (seq, 90_002) for seq in range(5)
    ]


async def test_rows_are_stored_as_they_were_given_whatever_is_in_them(jobs: NewJobs, database: Database) -> None:
    odd = ["%s %% %(x)s", "'; DROP TABLE jobs; --", '\\" \\', "👩\u200d👧 王", "\x1a\t"]
    good = [NewRecipient(f"r{seq}@example.com", name, json.dumps({"x": name})) for seq, name in enumerate(odd)]
    bad = NewRecipient("bad", None, None, "is 100 % no address")
    later = datetime.now(UTC) + timedelta(days=1)
    send_at = (await jobs.accept(new(recipients=[*good, bad], send_at=later))).send_at

    rows = await query(
        database,
        "SELECT seq, to_email, to_name, variables, status, error, due_at, updated_at FROM job_recipients ORDER BY seq",
    )
    [(created_at,)] = await query(database, "SELECT created_at FROM jobs")
    moments = (send_at.replace(tzinfo=None), created_at)
    assert rows == [
        *((seq, *each[:3], "waiting", None, *moments) for seq, each in enumerate(good)),
        (len(good), "bad", None, None, "failed", bad.error, *moments),
    ]


async def test_the_senders_turn_is_brought_forward_and_never_back(jobs: NewJobs, database: Database) -> None:
    async def turn() -> datetime:
        [(moment,)] = await query(database, "SELECT next_claim_at FROM senders")
        aware: datetime = moment.replace(tzinfo=UTC)
        return aware

    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    await jobs.accept(new(send_at=later))
    assert await turn() == later
    await jobs.accept(new(send_at=later + timedelta(days=1)))
    assert await turn() == later
    await jobs.accept(new(send_at=later - timedelta(days=1)))
    assert await turn() == later - timedelta(days=1)
    now = (await jobs.accept(new())).send_at
    assert await turn() == now
    await query(database, "UPDATE senders SET next_claim_at = NULL")
    await jobs.accept(new(send_at=later))
    assert await turn() == later


async def test_no_claimer_and_no_other_client_sees_half_a_job(
    jobs: NewJobs, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int, int]] = []
    commit: Commit = aiomysql.Connection.commit
    looking = False

    async def look_first(connection: Any) -> None:
        nonlocal looking
        if not looking:
            looking = True
            seen.append(await stored(database))
        await commit(connection)

    monkeypatch.setattr(aiomysql.Connection, "commit", look_first)
    await jobs.accept(new())

    assert seen == [(0, 0, 0)]
    assert await stored(database) == (1, 3, 1)


async def test_a_failure_at_the_last_statement_leaves_nothing(jobs: NewJobs, database: Database) -> None:
    await query(database, "ALTER TABLE senders ADD CONSTRAINT never CHECK (email <> 'me@example.com')")
    with pytest.raises(DatabaseError) as caught:
        await jobs.accept(new(2000))

    assert not caught.value.in_doubt
    assert await stored(database) == (0, 0, 0)


def once(monkeypatch: pytest.MonkeyPatch, commit: Commit) -> Commit:
    """Replace the first COMMIT; the original is returned."""
    original: Commit = aiomysql.Connection.commit

    async def replaced(connection: Any) -> None:
        monkeypatch.setattr(aiomysql.Connection, "commit", original)
        await commit(connection)

    monkeypatch.setattr(aiomysql.Connection, "commit", replaced)
    return original


async def test_a_commit_whose_answer_is_lost_is_looked_up_and_found(
    jobs: NewJobs, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose_the_answer(connection: Any) -> None:
        await original(connection)
        raise OperationalError(2013, "Lost connection to MySQL server during query")

    original = once(monkeypatch, lose_the_answer)
    job = new(type=JobType.MESSAGE)
    answer = await jobs.accept(job)

    [(send_at,)] = await query(database, "SELECT send_at FROM jobs WHERE id = %s", job.id)
    [(recipient,)] = await query(database, "SELECT id FROM job_recipients WHERE job_id = %s AND seq = 0", job.id)
    assert answer == (send_at.replace(tzinfo=UTC), recipient)
    assert await stored(database) == (1, 3, 1)


async def test_a_commit_that_never_arrived_is_looked_up_and_is_no_doubt_any_more(
    jobs: NewJobs, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never_send(connection: Any) -> None:
        connection._writer.transport.abort()
        raise OperationalError(2013, "Lost connection to MySQL server during query")

    once(monkeypatch, never_send)
    with pytest.raises(DatabaseAwayError) as caught:
        await jobs.accept(new())

    assert not caught.value.in_doubt
    assert await stored(database) == (0, 0, 0)


async def test_absent_is_said_only_when_the_transaction_is_over(
    jobs: NewJobs, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A COMMIT may still be on its way: who does not wait for it calls absent what comes a moment later."""
    late: list[asyncio.Task[None]] = []

    async def commit_later(connection: Any) -> None:
        async def arrive() -> None:
            await asyncio.sleep(0.3)
            await original(connection)

        late.append(asyncio.create_task(arrive()))
        monkeypatch.setattr(database.pool, "_put", lambda *_, **__: None)  # the connection is the late COMMIT's
        raise OperationalError(2013, "Lost connection to MySQL server during query")

    original = once(monkeypatch, commit_later)
    answer = await jobs.accept(new())

    assert answer is not None
    await asyncio.gather(*late)
    assert await stored(database) == (1, 3, 1)


async def test_if_nobody_can_be_asked_the_doubt_stands_and_is_said_in_time(
    hasty: NewJobs, mariadb: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(_: Any) -> None:
        mariadb.kill()
        raise OperationalError(2013, "Lost connection to MySQL server during query")

    once(monkeypatch, die)
    started = own_time()
    with pytest.raises(DatabaseError) as caught:
        await hasty.accept(new())

    assert caught.value.in_doubt
    assert own_time() - started < 2 + 2


async def test_a_server_that_freezes_in_the_middle_of_a_big_job_shows_soon(
    hasty: NewJobs, database: Database, mariadb: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Cursor.send
    batches = 0

    async def freeze_at_the_third(cursor: Any, statement: str, sent: bytes) -> Any:
        nonlocal batches
        if statement.startswith("INSERT INTO job_recipients"):
            batches += 1
            if batches == 3:
                mariadb.freeze()
        return await send(cursor, statement, sent)

    monkeypatch.setattr(Cursor, "send", freeze_at_the_third)
    large = new(20_000)
    started = own_time()
    with pytest.raises(DatabaseAwayError) as caught:
        await hasty.accept(large)

    assert not caught.value.in_doubt
    assert own_time() - started < 2 + 2
    mariadb.thaw()
    assert await stored(database) == (0, 0, 0)


async def test_jobs_of_given_senders_are_listed_alone(jobs: NewJobs, database: Database) -> None:
    mine, other = new(), new(sender_email="other@example.com")
    await jobs.accept(mine)
    await jobs.accept(other)

    async def ids(**filters: Any) -> list[str]:
        return [
            job.id
            for job in await Jobs(database, timeout=20).newest(
                **{"before": None, "limit": 9, "senders": None, **filters}
            )
        ]

    newest_first = sorted([mine.id, other.id], reverse=True)
    assert await ids() == newest_first
    assert await ids(senders=frozenset({"me@example.com"})) == [mine.id]
    assert await ids(senders=frozenset()) == []
    assert await ids(limit=1) == newest_first[:1]
    assert await ids(before=newest_first[0]) == newest_first[1:]


async def test_what_a_recipient_brings_is_stored_as_it_was_given_beside_those_that_bring_nothing(
    jobs: NewJobs, database: Database
) -> None:
    odd = Extras(metadata='{"a":"%s %% \'; -- \\\\ 王"}')
    given = [Extras(headers='{"X-A":"1"}'), NO_EXTRAS, odd]
    recipients = [NewRecipient(f"r{n}@example.com", None, None, extras=it) for n, it in enumerate(given)]
    await jobs.accept(new(recipients=recipients))
    assert await query(database, "SELECT headers, metadata, copy_list, copies FROM job_recipients ORDER BY seq") == [
        *map(tuple, given)
    ]


async def test_what_recipients_bring_costs_no_further_statement(jobs: NewJobs, database: Database) -> None:
    [(_, before)] = await query(database, "SHOW GLOBAL STATUS LIKE 'Com_insert'")
    brings = Extras(metadata='{"customer":"c_81"}')
    await jobs.accept(new(recipients=[NewRecipient(f"r{n}@example.com", None, None, extras=brings) for n in range(9)]))
    [(_, after)] = await query(database, "SHOW GLOBAL STATUS LIKE 'Com_insert'")
    assert int(after) - int(before) == 3  # one batch, the job, the sender


async def test_of_many_jobs_those_with_a_tag_are_found_by_reading_few(database: Database) -> None:
    for n in range(200):
        await post(database, recipients=1, tags=["rare"] if n % 100 == 0 else ["other"])
    before = await rows_read(database)
    found = await Jobs(database, timeout=20).newest(before=None, limit=10, senders=None, only=JobFilter(tag="rare"))
    assert [it.tags for it in found] == [("rare",), ("rare",)]
    assert await rows_read(database) - before < 100
