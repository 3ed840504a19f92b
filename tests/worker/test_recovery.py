"""The rescue's rounds: as long as they must be without being taken for dead, and nothing that they change is silent."""

import asyncio

import pytest

from mailerd.core.replies import NoResponse, Reply
from mailerd.core.states import JobChange
from mailerd.errors import DatabaseError
from mailerd.store.db.database import Database
from mailerd.worker import recovery as rescue_module
from tests.store.queue.test_claim import claims
from tests.store.queue.test_crashes import CRASHED_ALONE
from tests.store.queue.test_recovery import LAPSE
from tests.store.queue.test_stuck_jobs import ask
from tests.support.heard import Heard
from tests.support.rows import post, query, states
from tests.worker.place import GONE, THERE, Place

HOURS = 2 * 3600.0


async def test_a_search_of_many_mailboxes_is_not_taken_for_dead(database: Database, heard: Heard) -> None:
    for number in range(int(HOURS / 50)):
        await post(database, sender=f"s{number}@example.com", recipients=1)
    place = Place(database, heard, seconds=50.0)
    sweeping = asyncio.create_task(place.rescue.sweep_loop())
    await asyncio.sleep(0)
    await place.clock.move(10)
    await place.google.until_asked(int(HOURS / 50))
    sweeping.cancel()
    assert place.clock.monotonic() > HOURS
    assert place.google.stalled == set()


async def test_a_google_that_swallows_every_look_is_not_taken_for_a_dead_rescue(
    database: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        rescue_module, "_MAX_CHECKS_PER_SENDER", 1
    )  # the time of looks that go on together adds up here
    messages = int(HOURS / 60)
    place = Place(database, heard, seconds=60.0)
    place.google.answer = lambda _: NoResponse("no answer within 30 s")
    await place.doubts(messages)
    rescuing = asyncio.create_task(place.rescue.reconcile_loop())
    await place.google.until_asked(messages)
    rescuing.cancel()
    assert place.clock.monotonic() > HOURS
    assert place.google.stalled == set()


async def test_a_look_that_hangs_is_told(database: Database, heard: Heard) -> None:
    """The watch must still see a rescue that has really stopped."""
    place = Place(database, heard, seconds=600.0)
    await place.doubts(1)
    rescuing = asyncio.create_task(place.rescue.reconcile_loop())
    await place.google.until_asked(1)
    rescuing.cancel()
    ((recipient,),) = await query(database, "SELECT id FROM job_recipients")
    assert f"unconfirmed.check {recipient}" in place.google.stalled


async def test_a_lease_that_ran_out_and_another_senders_doubt_wait_for_no_look(
    database: Database, heard: Heard
) -> None:
    """A scan of a large mailbox lasts for minutes; a dead daemon's messages of others lay in `sending` meanwhile."""
    place = Place(database, heard)
    await place.doubts(9)
    asked, answer = asyncio.Semaphore(0), asyncio.Event()
    get_draft = place.google.get_draft

    async def hangs(sender: str, *, draft_id: str) -> Reply:
        asked.release()
        if sender == "me@example.com":
            await answer.wait()
        return await get_draft(sender, draft_id=draft_id)

    place.google.get_draft = hangs  # type: ignore[method-assign]
    loops = [asyncio.create_task(loop) for loop in (place.rescue.reconcile_loop(), place.rescue.expired_claims_loop())]
    async with asyncio.timeout(60):
        for _ in range(2):
            await asked.acquire()
        await post(database, sender="you@example.com", recipients=1)
        (theirs,) = (await claims(database).claim(1)).messages
        await query(database, f"{LAPSE} AND id = %s", theirs.id)
        while not heard.of("lease_lapsed"):
            await place.clock.move(5)
        (again,) = (await claims(database).claim(1)).messages
        assert again.id == theirs.id
        await query(database, "UPDATE job_recipients SET mode = 'draft', draft_id = 'd99' WHERE id = %s", theirs.id)
        await query(database, f"{LAPSE} AND id = %s", theirs.id)
        while await states(database, theirs.job_id) != {"unsure": 1}:
            await place.clock.move(5)
        await query(database, f"{LAPSE} AND id = %s", theirs.id)
        while not heard.of("message_missing"):
            await place.clock.move(5)
    assert place.google.asked == ["d99"], "the other mailbox has as many looks as it may, and they hang"
    for loop in loops:
        loop.cancel()


async def test_what_goes_wrong_with_one_look_is_told_and_the_others_come_to_their_end(
    database: Database, heard: Heard
) -> None:
    place = Place(database, heard)
    job = await place.doubts(4)

    def answer(draft: str) -> Reply:
        match draft:
            case "d1":
                raise DatabaseError("ask", phase="work", cause=OSError(), errno=1213, retry=True, in_doubt=False)
            case "d2":
                raise KeyError("nobody foresaw this")
            case "d3":
                return GONE
            case _:
                return THERE

    place.google.answer = answer
    assert await place.once()
    assert await states(database, job) == {"unsure": 2, "sent": 1, "waiting": 1}
    (failed,) = heard.of("step_failed")
    assert failed["again_in"] == 60
    (broke,) = heard.of("message_crashed")
    assert isinstance(broke["error"], KeyError)
    assert broke["error"].__traceback__ is not None
    (later,) = heard.of("message_still_unsure")
    assert "nobody foresaw this" in later["cause"]
    assert len(heard.of("message_found")) == len(heard.of("message_missing")) == 1


async def test_a_message_that_is_given_up_when_its_lease_lapses_is_told_as_failed(
    database: Database, heard: Heard
) -> None:
    job = await post(database, recipients=3)
    await claims(database).claim(2)
    await query(database, CRASHED_ALONE)
    await query(database, LAPSE)
    place = Place(database, heard)
    await place.once()
    assert await states(database, job) == {"failed": 2, "waiting": 1}
    assert [(told["done"], told["total"]) for told in heard.of("message_failed")] == [(1, 3), (2, 3)]
    errors = [error for (error,) in await query(database, "SELECT error FROM job_recipients WHERE status = 'failed'")]
    assert [told["cause"] for told in heard.of("message_failed")] == errors
    assert job in place.touched


async def test_a_message_that_is_in_doubt_when_its_lease_lapses_is_told_as_unsure(
    database: Database, heard: Heard
) -> None:
    await post(database, recipients=1)
    await claims(database).claim(1)
    await query(database, "UPDATE job_recipients SET mode = 'draft', draft_id = 'd1'")
    await query(database, LAPSE)
    await Place(database, heard).once()
    assert heard.names() == ["lease_lapsed", "message_unsure"]
    assert heard.of("message_unsure")[0]["look_in"] == 60


async def test_a_message_that_lapses_in_a_cancelled_job_is_not_said_to_be_sent_again(
    database: Database, heard: Heard
) -> None:
    job = await post(database, recipients=1)
    await claims(database).claim(1)
    await ask(database, job, JobChange.CANCEL)
    await query(database, LAPSE)
    place = Place(database, heard)
    await place.once()
    assert await states(database, job) == {"cancelled": 1}
    assert heard.of("lease_lapsed")[0]["then"] == "not handed to Google; cancelled with its job"
    assert place.touched == [job]


async def test_a_message_that_is_missing_in_a_cancelled_job_is_told_as_cancelled(
    database: Database, heard: Heard
) -> None:
    place = Place(database, heard)
    job = await place.doubts(1)
    await ask(database, job, JobChange.CANCEL)
    await place.once()
    assert await states(database, job) == {"cancelled": 1}
    assert heard.names() == ["message_cancelled"]
    assert place.touched == [job]


async def test_a_forgotten_job_is_woken_and_told(database: Database, heard: Heard) -> None:
    job = await post(database, recipients=1)
    await query(database, "UPDATE jobs SET next_claim_at = NULL")
    place = Place(database, heard)
    looking = asyncio.create_task(place.rescue.stuck_jobs_loop())
    assert await heard.wait_for("job_stuck") == {"job": job}
    looking.cancel()
    assert len((await claims(database).claim(1)).messages) == 1
