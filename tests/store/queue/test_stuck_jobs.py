"""No job is forgotten: what comes back into a job that does not run is claimed when it runs again."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from mailerd.core.claims import ClaimedRecipient, Outcome
from mailerd.core.decisions import Decision
from mailerd.core.states import JobChange, Transition
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.queue.record import RecordWriter
from mailerd.store.queue.recovery import UNFINISHED_JOBS
from mailerd.store.read.audit import audit
from mailerd.store.write.job_actions import JobActions
from mailerd.store.write.job_changes import STUCK_JOBS
from tests.store.queue.test_claim import claims
from tests.store.queue.test_record import one_message
from tests.store.queue.test_recovery import LAPSE, lapses, rescues
from tests.support.dialect import plan
from tests.support.eventually import eventually
from tests.support.rows import post, query, states

DEFERRED = Decision(Transition.DEFERRED, error="busy", wait=timedelta(0))

WAITING = """
SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%FROM jobs WHERE id%FOR UPDATE'"""
SIGHTINGS = 10
"""In a row: then it waits, and is not only passing."""
Work = Callable[[Cursor], Awaitable[Any]]


async def ask(database: Database, job: str, change: JobChange) -> None:
    await JobActions(database, timeout=5.0, late_arrival=timedelta(seconds=60)).apply(job, change, actor="somebody")


def record(message: ClaimedRecipient) -> Work:
    it = RecordWriter(database=None, daemon_id="D1")  # type: ignore[arg-type]  # the cursor is given

    async def work(cursor: Cursor) -> None:
        await it.record(cursor, [Outcome(message, DEFERRED)])

    return work


async def while_it_is_not_committed(database: Database, work: Work, meanwhile: Coroutine[Any, Any, None]) -> None:
    """Do `meanwhile` after `work` and before its COMMIT, or as far as the locks of `work` let it come."""
    done, commit = asyncio.Event(), asyncio.Event()

    async def held(cursor: Cursor) -> None:
        await work(cursor)
        done.set()
        await commit.wait()

    async with asyncio.TaskGroup() as both:
        both.create_task(database.transaction(held, what="hold"))
        await done.wait()
        other = both.create_task(meanwhile)

        seen = 0

        async def is_over_or_waits() -> bool:
            nonlocal seen
            seen = seen + 1 if (await query(database, WAITING))[0][0] else 0
            return other.done() or seen == SIGHTINGS

        await eventually(is_over_or_waits)
        commit.set()


async def assert_it_is_claimed(database: Database, message: ClaimedRecipient) -> None:
    _, findings = await audit(database)
    assert findings == []
    (again,) = (await claims(database).claim(1)).messages
    assert again.id == message.id


async def test_a_message_that_comes_back_while_its_job_is_resumed_is_claimed(database: Database) -> None:
    message = await one_message(database)
    await ask(database, message.job_id, JobChange.PAUSE)
    await while_it_is_not_committed(database, record(message), ask(database, message.job_id, JobChange.RESUME))
    await assert_it_is_claimed(database, message)


async def test_a_lease_that_lapses_while_its_job_is_resumed_is_claimed(database: Database) -> None:
    message = await one_message(database)
    await ask(database, message.job_id, JobChange.PAUSE)
    await query(database, LAPSE)
    it = lapses(database)
    await while_it_is_not_committed(
        database, lambda cursor: it.recover_batch(cursor, 100), ask(database, message.job_id, JobChange.RESUME)
    )
    await assert_it_is_claimed(database, message)


async def test_a_message_that_comes_back_while_its_job_is_cancelled_is_cancelled(database: Database) -> None:
    message = await one_message(database)
    await ask(database, message.job_id, JobChange.PAUSE)
    await while_it_is_not_committed(database, record(message), ask(database, message.job_id, JobChange.CANCEL))
    assert await states(database, message.job_id) == {"cancelled": 1}


async def test_a_message_that_comes_back_into_a_paused_job_waits_for_it(database: Database) -> None:
    message = await one_message(database)
    await ask(database, message.job_id, JobChange.PAUSE)
    await database.transaction(record(message), what="record")
    assert (await claims(database).claim(1)).messages == ()
    await ask(database, message.job_id, JobChange.RESUME)
    await assert_it_is_claimed(database, message)


@pytest.mark.parametrize("fault", ["UPDATE jobs SET next_claim_at = NULL", "UPDATE senders SET next_claim_at = NULL"])
async def test_whatever_was_forgotten_is_woken(database: Database, fault: str) -> None:
    job = await post(database, recipients=1)
    paused = await post(database, sender="other@example.com", recipients=1)
    await ask(database, paused, JobChange.PAUSE)
    it = rescues(database)
    assert await it.reschedule_stuck_jobs() == []
    await query(database, fault)
    assert (await claims(database).claim(2)).messages == ()
    assert await it.reschedule_stuck_jobs() == [job]
    assert await it.reschedule_stuck_jobs() == []
    events = "SELECT type, job_id, sender_email, data FROM events WHERE type LIKE 'job.stuck'"
    sender = "me@example.com"
    data = f'{{"job_id":"{job}","sender_email":"{sender}","reference":null}}'
    assert await query(database, events) == [("job.stuck", job, sender, data)]
    assert len((await claims(database).claim(2)).messages) == 1


DIGIT = "(SELECT 0 d" + "".join(f" UNION ALL SELECT {digit}" for digit in range(1, 10)) + ")"


@pytest.mark.parametrize("search", [STUCK_JOBS, UNFINISHED_JOBS], ids=["forgotten", "unfinished"])
async def test_what_the_rescue_searches_every_half_minute_reads_no_more_than_the_open_jobs(
    database: Database, search: str
) -> None:
    await post(database, recipients=1)
    columns = "type, sender_email, subject, text, variables, status, total, next_claim_at, send_at, created_at"
    await query(
        database,
        f"INSERT INTO jobs (id, {columns}) SELECT CONCAT('J', a.d, b.d, c.d, d.d), {columns} "
        f"FROM jobs, {DIGIT} a, {DIGIT} b, {DIGIT} c, {DIGIT} d",
    )
    await query(
        database,
        "INSERT INTO job_recipients (job_id, seq, to_email, status, due_at, updated_at) "
        "SELECT id, 0, 'a@example.org', 'waiting', created_at, created_at FROM jobs WHERE id LIKE 'J%'",
    )
    await query(database, "ANALYZE TABLE jobs, job_recipients")
    rows = await plan(database, search, (200,))
    assert {row["select_type"] for row in rows} == {"PRIMARY", "DEPENDENT SUBQUERY"}
