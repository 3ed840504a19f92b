"""A sent message is taken back once, and only where a draft speaks against the one thing that spoke for it."""

import asyncio
import json

import pytest

from mailerd.core.claims import Outcome, Resolution, UnresolvedSend
from mailerd.core.states import Proof, State, Transition
from mailerd.store.db.database import Database
from mailerd.store.queue.record import RecordWriter
from mailerd.store.queue.recovery import UndoneSend, undo
from mailerd.store.read.audit import audit
from tests.store.queue.test_claim import claims
from tests.store.queue.test_given_back import give_back, in_thread
from tests.store.queue.test_record import LOST, one_message, write
from tests.store.queue.test_recovery import LAPSE, due, rescues
from tests.support.beats import counting_beats
from tests.support.handover import handover
from tests.support.in_doubt import in_doubt
from tests.support.rows import query

CANCEL = (
    "UPDATE jobs SET status = 'cancelled', next_claim_at = NULL, "
    "finished_at = IF(finished_at IS NULL, NULL, finished_at)"
)


async def believed(database: Database, proof: Proof = Proof.GONE) -> UnresolvedSend:
    """The only message of its job, recorded as sent because its draft was gone."""
    message = await one_message(database)
    await write(database, handover(message, "d1", "t1"))
    await write(database, Outcome(message, LOST))
    await query(database, LAPSE)
    (_, (doubt,)) = await due(rescues(database))
    await rescues(database).resolve(Resolution(doubt, Transition.FOUND, proof=proof))
    return doubt


async def take_back(database: Database, doubt: UnresolvedSend, *, draft: str = "d1") -> UndoneSend | None:
    return await undo(database, job=doubt.job_id, seq=doubt.seq, draft=draft, by="D1")


async def test_it_is_claimed_again_with_that_draft_and_its_job_is_open_again(database: Database) -> None:
    doubt = await believed(database)
    assert len(await RecordWriter(database, "D1").complete_jobs([doubt.job_id])) == 1
    undone = await take_back(database, doubt)
    assert undone is not None
    assert (undone.recipient, undone.status) == (doubt.id, State.WAITING)
    assert await query(database, "SELECT status, finished_at FROM jobs") == [("sending", None)]
    assert await query(database, "SELECT proof, sent_at, attempts FROM job_recipients") == [(None, None, 0)]
    assert (await audit(database))[1] == []
    (again,) = (await claims(database).claim(1)).messages
    assert (again.id, again.draft_id, again.attempt) == (doubt.id, "d1", 1)


async def test_it_is_taken_back_once_however_many_find_the_draft(database: Database) -> None:
    doubt = await believed(database)
    found = await asyncio.gather(*(take_back(database, doubt) for _ in range(5)))
    assert len([one for one in found if one]) == 1
    assert await query(database, "SELECT COUNT(*) FROM attempts WHERE event = 'undone'") == [(1,)]


@pytest.mark.parametrize("proof", [Proof.ANSWERED, Proof.SEEN, Proof.PERSON])
async def test_a_better_proof_stands(database: Database, proof: Proof) -> None:
    assert await take_back(database, await believed(database, proof)) is None
    assert await query(database, "SELECT status, proof FROM job_recipients") == [("sent", proof.value)]


async def test_another_draft_disproves_nothing(database: Database) -> None:
    assert await take_back(database, await believed(database), draft="d2") is None
    assert await query(database, "SELECT status FROM job_recipients") == [("sent",)]


async def test_in_doubt_it_is_taken_back_once_and_makes_known_that_it_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubt, heartbeat = await believed(database), counting_beats()
    with in_doubt(database, monkeypatch):
        undone = await rescues(database).undo(job=doubt.job_id, seq=doubt.seq, draft="d1")
    assert undone is not None
    assert heartbeat.since == 1
    assert await query(database, "SELECT COUNT(*) FROM attempts WHERE event = 'undone'") == [(1,)]


async def test_a_person_who_was_forgotten_gets_no_message_by_it(database: Database) -> None:
    doubt = await believed(database)
    await query(database, "UPDATE job_recipients SET to_email = CONCAT('forgotten-', id, '@example.invalid')")
    assert await take_back(database, doubt) is None
    assert await query(database, "SELECT status FROM job_recipients") == [("sent",)]


async def test_in_a_cancelled_job_it_is_cancelled(database: Database) -> None:
    doubt = await believed(database)
    await query(database, CANCEL)
    undone = await take_back(database, doubt)
    assert undone is not None
    assert undone.status is State.CANCELLED
    assert await query(database, "SELECT status, proof FROM job_recipients") == [("cancelled", None)]


@pytest.mark.parametrize("by_a_notice", [False, True])
async def test_a_cancelled_job_that_had_finished_finishes_once_more_with_the_counts_as_they_are(
    database: Database, *, by_a_notice: bool
) -> None:
    doubt = await believed(database)
    jobs = RecordWriter(database, "D1")
    await query(database, CANCEL)
    assert len(await jobs.complete_jobs([doubt.job_id])) == 1
    if by_a_notice:
        assert await give_back(database, await in_thread(database)) == 1
    else:
        assert await take_back(database, doubt) is not None
    assert await query(database, "SELECT status, finished_at FROM jobs") == [("cancelled", None)]
    assert await rescues(database).unfinished_jobs() == [doubt.job_id]
    assert len(await jobs.complete_jobs([doubt.job_id])) == 1
    events = await query(database, "SELECT data FROM events WHERE type = 'job.finished' ORDER BY id")
    counts = [(data["status"], data["sent"], data["cancelled"]) for data in (json.loads(data) for (data,) in events)]
    assert counts == [("cancelled", 1, 0), ("cancelled", 0, 1)]
    assert (await audit(database))[1] == []


async def test_in_a_paused_job_it_waits_until_that_is_resumed(database: Database) -> None:
    doubt = await believed(database)
    await query(database, "UPDATE jobs SET status = 'paused', next_claim_at = NULL")
    await take_back(database, doubt)
    assert await query(database, "SELECT status, next_claim_at FROM jobs") == [("paused", None)]
    assert await query(database, "SELECT status FROM job_recipients") == [("waiting",)]
