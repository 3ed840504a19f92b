"""COMMIT was sent and no answer came: what it did is told all the same, once, and by the daemon that did it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from mailerd.core.claims import Outcome, Resolution
from mailerd.core.replies import NoResponse, Reply
from mailerd.core.states import JobChange, Transition
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.database import Database
from mailerd.store.queue.record import RecordWriter
from mailerd.store.queue.recovery import RecoveryQueries
from tests.store.queue.test_claim import claims
from tests.store.queue.test_crashes import CRASHED_ALONE
from tests.store.queue.test_record import SENT, one_message, write
from tests.store.queue.test_recovery import LAPSE, due, lapses
from tests.store.queue.test_stuck_jobs import ask
from tests.support.doubtful import RESULTS, Disposition, Doubtful
from tests.support.handover import handover
from tests.support.heard import Heard
from tests.support.proxy import Proxy
from tests.support.recording import new_recorder
from tests.support.replayed import replayed
from tests.support.rows import post, query, states
from tests.support.ticking import Ticking
from tests.worker.place import GONE, THERE, Place

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def far(mariadb: Server, database: Database, database_url: str) -> AsyncIterator[Doubtful]:
    assert not database.unavailable  # and it is migrated
    async with Proxy(mariadb.port) as proxy:
        far = Doubtful(database_url, proxy)
        yield far
        await far.close()


def somebody_else(database: Database) -> RecoveryQueries:
    return RecoveryQueries(database, "D3", MINUTE, replayed(database, "D3"))


async def rounds(place: Place) -> None:
    """So many that whatever could be told twice would be."""
    for _ in range(3):
        await place.once()


@pytest.mark.parametrize("result", RESULTS)
async def test_a_message_that_was_found_is_told(
    database: Database, far: Doubtful, heard: Heard, result: Disposition
) -> None:
    place = Place(far, heard)
    place.google.answer = lambda _: GONE
    job = await place.doubts(1)
    far.results["unconfirmed.settle"] = result
    await rounds(place)
    assert await states(database, job) == {"sent": 1}
    assert heard.names() == ["message_found"]
    assert place.touched == [job]


@pytest.mark.parametrize(
    "answer, told", [(THERE, "message_missing"), (NoResponse("no answer within 30 s"), "message_still_unsure")]
)
@pytest.mark.parametrize("result", RESULTS)
async def test_a_message_that_was_not_found_is_told(
    far: Doubtful, heard: Heard, result: Disposition, answer: Reply, told: str
) -> None:
    place = Place(far, heard)
    place.google.answer = lambda _: answer
    await place.doubts(1)
    far.results["unconfirmed.settle"] = result
    await rounds(place)
    assert heard.names() == [told]


async def test_a_message_that_only_a_person_can_settle_is_told(far: Doubtful, heard: Heard) -> None:
    place = Place(far, heard)
    await place.doubts(1)
    await query(far, "UPDATE job_recipients SET mode = 'direct', draft_id = NULL")
    far.results["unconfirmed.settle"] = "done"
    await rounds(place)
    assert heard.names() == ["message_unresolved"]


async def test_a_missing_message_of_a_cancelled_job_is_told_as_cancelled(far: Doubtful, heard: Heard) -> None:
    place = Place(far, heard)
    job = await place.doubts(1)
    await ask(far, job, JobChange.CANCEL)
    far.results["unconfirmed.settle"] = "done"
    await rounds(place)
    assert heard.names() == ["message_cancelled"]


async def test_what_somebody_else_has_found_meanwhile_is_not_told_as_ours(
    database: Database, far: Doubtful, heard: Heard
) -> None:
    place = Place(far, heard)
    place.google.answer = lambda _: GONE
    job = await place.doubts(1)

    async def found() -> None:
        await query(database, LAPSE)
        (_, (doubt,)) = await due(somebody_else(database))
        await somebody_else(database).resolve(Resolution(doubt, Transition.FOUND))

    far.results["unconfirmed.settle"], far.meanwhile = "undone", found
    await rounds(place)
    assert await states(database, job) == {"sent": 1}
    assert heard.names() == []


async def test_a_doubt_that_somebody_else_looks_at_meanwhile_is_not_told_by_us(
    database: Database, far: Doubtful, heard: Heard
) -> None:
    """Its row is still unsure, and says what our look before this one has found, which is what this one finds."""
    place = Place(far, heard)
    place.google.answer = lambda _: NoResponse("no answer within 30 s")
    await place.doubts(1)
    await place.once()
    await query(database, LAPSE)

    async def looks() -> None:
        await query(database, LAPSE)
        assert len((await due(somebody_else(database)))[1]) == 1

    far.results["unconfirmed.settle"], far.meanwhile = "undone", looks
    await rounds(place)
    assert heard.names() == ["message_still_unsure"]


@pytest.mark.parametrize("result", RESULTS)
async def test_a_message_whose_lease_lapsed_for_the_last_time_is_told(
    database: Database, far: Doubtful, heard: Heard, result: Disposition
) -> None:
    job = await post(database, recipients=2)
    await claims(database).claim(2)
    await query(database, CRASHED_ALONE)
    await query(database, LAPSE)
    place = Place(far, heard)
    far.results["claims.recover"] = result
    await rounds(place)
    assert await states(database, job) == {"failed": 2}
    assert heard.names() == ["lease_lapsed", "message_failed"] * 2
    assert [told["done"] for told in heard.of("message_failed")] == [1, 2]
    assert place.touched == [job, job]


async def test_a_message_that_lapses_while_the_others_are_in_doubt_is_told_with_them(
    database: Database, far: Doubtful, heard: Heard
) -> None:
    await post(database, recipients=3)
    await claims(database).claim(1)
    await query(database, f"{CRASHED_ALONE} WHERE status = 'sending'")
    await query(database, LAPSE)

    async def another() -> None:
        far.meanwhile = one_more
        await claims(database).claim(1)
        await query(database, f"{CRASHED_ALONE} WHERE status = 'sending'")
        await query(database, LAPSE)
        far.results["claims.recover"] = "done"  # and this one's answer is lost too

    async def one_more() -> None:
        await claims(database).claim(1)
        await query(database, f"{CRASHED_ALONE} WHERE status = 'sending'")
        await query(database, LAPSE)

    far.results["claims.recover"], far.meanwhile = "done", another
    await rounds(Place(far, heard))
    assert heard.names() == ["lease_lapsed", "message_failed"] * 3
    assert len({told["recipient"] for told in heard.of("message_failed")}) == 3


async def test_a_lease_that_somebody_else_has_put_right_meanwhile_is_not_told_as_ours(
    database: Database, far: Doubtful, heard: Heard
) -> None:
    job = await post(database, recipients=1)
    await claims(database).claim(1)
    await query(database, f"{CRASHED_ALONE} WHERE status = 'sending'")
    await query(database, LAPSE)
    far.results["claims.recover"], far.meanwhile = "undone", lapses(database, by="D3").recover
    await rounds(Place(far, heard))
    assert await states(database, job) == {"failed": 1}
    assert heard.names() == []


async def ended(database: Database) -> str:
    """A job whose only message was sent, and that nobody has completed."""
    message = await one_message(database)
    await write(database, handover(message, "d1", None), Outcome(message, SENT))
    return message.job_id


async def finish(far: Doubtful, heard: Heard, *jobs: str) -> None:
    """One after the other, as a daemon does: what is told of one is told before the next."""
    clock = Ticking()
    recorder = new_recorder(RecordWriter(far, "D1"), heard, clock=clock)
    finishing = asyncio.create_task(recorder.complete_jobs_loop())
    for told, job in enumerate(jobs, 1):
        recorder.job_changed(job)
        await clock.move(1)
        await heard.wait_for("job_finished", times=told)
    finishing.cancel()


@pytest.mark.parametrize("result", RESULTS)
async def test_a_job_that_was_completed_is_told(
    database: Database, far: Doubtful, heard: Heard, result: Disposition
) -> None:
    job, last = await ended(database), await ended(database)
    far.results["jobs.complete"] = result
    await finish(far, heard, job, last)
    assert [told["job"] for told in heard.of("job_finished")] == [job, last]
    assert heard.names() == ["job_finished"] * 2
    assert await query(database, "SELECT COUNT(*) FROM jobs WHERE status = 'completed'") == [(2,)]
    assert await RecordWriter(far, "D1").complete_jobs([job]) == []


async def test_a_job_that_somebody_else_has_completed_meanwhile_is_not_told_as_ours(
    database: Database, far: Doubtful
) -> None:
    job = await ended(database)
    far.results["jobs.complete"] = "undone"
    far.meanwhile = lambda: RecordWriter(database, "D3").complete_jobs([job])
    assert await RecordWriter(far, "D1").complete_jobs([job]) == []


async def test_a_job_that_is_gone_meanwhile_is_no_trouble(database: Database, far: Doubtful) -> None:
    job = await ended(database)
    far.results["jobs.complete"] = "done"
    far.meanwhile = lambda: query(database, "DELETE FROM jobs")
    assert await RecordWriter(far, "D1").complete_jobs([job]) == []


@pytest.mark.parametrize("result", RESULTS)
async def test_a_forgotten_job_that_was_woken_is_told(
    database: Database, far: Doubtful, heard: Heard, result: Disposition
) -> None:
    job = await post(database, recipients=1)
    await query(database, "UPDATE jobs SET next_claim_at = NULL")
    place = Place(far, heard)
    far.results["jobs.reschedule_stuck"] = result
    for _ in range(3):
        await place.rescue._find_stuck_jobs()
    assert heard.events == [("job_stuck", {"job": job})]


async def test_a_loop_in_doubt_is_not_taken_for_dead(far: Doubtful, heard: Heard) -> None:
    """The repetition says that it goes on: the database may be away for longer than any limit."""
    place = Place(far, heard)
    place.google.answer = lambda _: GONE
    await place.doubts(1)
    stalled = []

    async def hours() -> None:
        await place.clock.move(2 * 3600)
        stalled.extend(place.heartbeats.stalled())

    far.results["unconfirmed.settle"], far.meanwhile = "done", hours
    async with asyncio.TaskGroup() as looks:
        await place.rescue.reconcile_some(looks)
    look = next(heartbeat for heartbeat in stalled if heartbeat.loop.startswith("unconfirmed.check"))
    assert look.doing == "unconfirmed.settle"
    assert look.age == 0, "after the try in doubt it has spoken again"
