"""Recording: fenced row by row, harmless to repeat, and nothing that a fenced-off worker learnt is dropped."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mailerd.core.claims import ClaimedRecipient, Outcome, Record, WriteResult
from mailerd.core.decisions import Decision, Pause
from mailerd.core.states import Transition
from mailerd.core.verdicts import PauseCause
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.queue.record import RecordWriter
from mailerd.store.write.job_changes import CompletedJob, complete
from tests.store.queue.test_claim import claims
from tests.support.handover import handover
from tests.support.rows import post, query, states

SENT = Decision(Transition.SENT, message_id="m1", thread_id="t1")
TAKEN, FENCED_OFF = WriteResult.APPLIED, WriteResult.STALE
FORGOTTEN_CLAIM = """
UPDATE job_recipients JOIN jobs ON jobs.id = job_recipients.job_id JOIN senders ON senders.email = jobs.sender_email
   SET job_recipients.status = 'waiting', attempts = 0, claim_token = NULL, lease_until = NULL,
       jobs.next_claim_at = UTC_TIMESTAMP(6), senders.next_claim_at = UTC_TIMESTAMP(6)"""
LOST = Decision(Transition.LOST, error="no answer", wait=timedelta(seconds=60))


async def write(database: Database, *records: Record) -> list[WriteResult]:
    it = RecordWriter(database, "D1")
    return await database.transaction(lambda cursor: it.record(cursor, records), what="record")


async def one_message(database: Database) -> ClaimedRecipient:
    await post(database, recipients=1)
    (message,) = (await claims(database).claim(1)).messages
    return message


async def row(database: Database, message: ClaimedRecipient, *columns: str) -> tuple[object, ...]:
    (found,) = await query(database, f"SELECT {', '.join(columns)} FROM job_recipients WHERE id = %s", message.id)
    return found


async def test_an_outcome_ends_the_claim_and_keeps_what_google_said(database: Database) -> None:
    message = await one_message(database)
    assert await write(database, handover(message, "d1", "t0")) == [TAKEN]
    assert await write(database, Outcome(message, SENT)) == [TAKEN]
    assert await row(
        database, message, "status", "message_id", "thread_id", "draft_id", "claim_token", "lease_until", "attempts"
    ) == ("sent", "m1", "t1", "d1", None, None, 1)
    assert await query(database, "SELECT event, message_id FROM attempts") == [("sent", "m1")]


async def test_many_outcomes_are_written_together_each_its_own(database: Database) -> None:
    job = await post(database, recipients=4)
    messages = (await claims(database).claim(4)).messages
    decisions = [
        SENT,
        Decision(Transition.FAILED, error="no such address"),
        Decision(Transition.DEFERRED, error="busy", wait=timedelta(seconds=30)),
        LOST,
    ]
    records = [Outcome(message, decision) for message, decision in zip(messages, decisions, strict=True)]
    assert await write(database, *records) == [TAKEN] * 4
    assert await states(database, job) == {"sent": 1, "failed": 1, "waiting": 1, "unsure": 1}
    waits = await query(
        database,
        "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), due_at), TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), lease_until) "
        "FROM job_recipients WHERE status IN ('waiting', 'unsure') ORDER BY id",
    )
    assert waits[0] == (29, None)
    assert waits[1][1] == 59


async def test_a_worker_with_another_token_writes_nothing(database: Database) -> None:
    message = await one_message(database)
    stale = replace(message, token="0" * 26)
    assert await write(database, handover(stale, "d9", None)) == [FENCED_OFF]
    assert await write(database, Outcome(stale, Decision(Transition.FAILED, error="stale"))) == [FENCED_OFF]
    assert await row(database, message, "status", "draft_id", "error") == ("sending", None, None)


async def test_a_row_that_is_not_sending_any_more_is_not_written(database: Database) -> None:
    message = await one_message(database)
    await query(
        database, "UPDATE job_recipients SET status = 'unsure'"
    )  # the token still there: the state alone fences
    assert await write(database, handover(message, "d9", None)) == [FENCED_OFF]
    assert await write(database, Outcome(message, Decision(Transition.FAILED, error="late"))) == [FENCED_OFF]
    assert await row(database, message, "status", "draft_id", "error") == ("unsure", None, None)


async def test_one_fenced_off_message_does_not_take_the_others_with_it(database: Database) -> None:
    await post(database, recipients=3)
    messages = (await claims(database).claim(3)).messages
    records = [Outcome(message, SENT) for message in messages]
    records[1] = replace(records[1], message=replace(messages[1], token="0" * 26))
    assert await write(database, *records) == [TAKEN, FENCED_OFF, TAKEN]


async def test_what_a_late_worker_knows_settles_a_doubt(database: Database) -> None:
    message = await one_message(database)
    await query(database, "UPDATE job_recipients SET status = 'unsure', claim_token = NULL, draft_id = 'd1'")
    assert await write(database, Outcome(message, SENT)) == [WriteResult.RESOLVED]
    assert await write(database, Outcome(message, SENT)) == [WriteResult.RESOLVED]
    assert await row(database, message, "status", "message_id", "thread_id") == ("sent", "m1", "t1")
    assert await query(database, "SELECT event FROM attempts") == [("answered",)]


async def test_what_a_late_worker_knows_settles_a_message_that_waits_again(database: Database) -> None:
    """A failover to a replica that was behind has forgotten the claim, and how many there were."""
    message = await one_message(database)
    await query(database, f"{FORGOTTEN_CLAIM} WHERE job_recipients.id = %s", message.id)
    assert await write(database, Outcome(message, SENT)) == [WriteResult.RESOLVED]
    assert await write(database, Outcome(message, SENT)) == [WriteResult.RESOLVED]
    assert await row(database, message, "status", "message_id", "claim_token") == ("sent", "m1", None)
    assert (await claims(database).claim(1)).messages == ()


@pytest.mark.parametrize("end", ["failed", "cancelled"])
async def test_what_a_late_worker_knows_does_not_reopen_what_has_ended(database: Database, end: str) -> None:
    message = await one_message(database)
    await query(database, "UPDATE job_recipients SET status = %s, claim_token = NULL", end)
    assert await write(database, Outcome(message, SENT)) == [FENCED_OFF]
    assert await row(database, message, "status") == (end,)


async def test_what_a_late_worker_knows_of_a_lost_message_says_nothing_of_another_that_has_its_number(
    database: Database,
) -> None:
    """A failover lost the job, and the next job's rows got its numbers."""
    message = await one_message(database)
    await query(
        database, f"{FORGOTTEN_CLAIM}, job_recipients.job_id = %s WHERE job_recipients.id = %s", "0" * 26, message.id
    )
    assert await write(database, Outcome(message, SENT)) == [FENCED_OFF]
    assert await row(database, message, "status", "message_id") == ("waiting", None)
    assert await query(database, "SELECT event FROM attempts") == []


async def test_a_message_that_google_has_is_not_handed_over_again(database: Database) -> None:
    """Its claim and its `sent` were forgotten by the row, and the log of attempts knows better."""
    former = await one_message(database)
    await query(database, f"{FORGOTTEN_CLAIM} WHERE job_recipients.id = %s", former.id)
    (message,) = (await claims(database).claim(1)).messages
    assert await write(database, Outcome(replace(former, draft_id="d1"), SENT)) == [FENCED_OFF]
    assert await write(database, handover(message, "d2", "t2")) == [WriteResult.RESOLVED]
    assert await write(database, handover(message, "d2", "t2")) == [WriteResult.RESOLVED]
    assert await row(database, message, "status", "message_id", "draft_id", "claim_token") == ("sent", "m1", "d1", None)


async def test_a_message_that_was_found_and_has_come_back_since_is_handed_over(database: Database) -> None:
    """Only Google's own answer refuses it: a look that found the draft gone may have been wrong."""
    message = await one_message(database)
    await query(
        database,
        "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, at) "
        "VALUES (%s, 1, %s, 'D0', 'found', UTC_TIMESTAMP(6))", message.id, "0" * 26,
    )  # fmt: skip
    assert await write(database, handover(message, "d2", "t2")) == [TAKEN]


async def test_a_worker_whose_claim_has_gone_does_not_say_how_its_sender_sends(database: Database) -> None:
    message = await one_message(database)
    assert await write(database, handover(message, "d1", project="new")) == [TAKEN]
    stale = handover(replace(message, token="0" * 26), project="old")
    assert await write(database, stale) == [FENCED_OFF]
    assert await query(database, "SELECT mode, project FROM senders") == [("draft", "new")]


async def test_a_worker_whose_claim_has_gone_teaches_its_sender_nothing_beside_one_whose_has_not(
    database: Database,
) -> None:
    await post(database, recipients=2)
    message, other = (await claims(database).claim(2)).messages
    assert await write(database, handover(message, "d1", project="new")) == [TAKEN]
    stale = handover(replace(message, token="0" * 26), project="old")
    assert await write(database, stale, Outcome(other, SENT)) == [FENCED_OFF, TAKEN]
    assert await query(database, "SELECT mode, project FROM senders") == [("draft", "new")]


async def test_a_late_failure_overwrites_nothing(database: Database) -> None:
    message = await one_message(database)
    await query(database, "UPDATE job_recipients SET status = 'sent', claim_token = NULL, message_id = 'm0'")
    assert await write(database, Outcome(message, Decision(Transition.FAILED, error="late"))) == [FENCED_OFF]
    assert await row(database, message, "status", "message_id", "error") == ("sent", "m0", None)


@pytest.mark.parametrize("change", [Transition.SENT, Transition.DEFERRED, Transition.RELEASED, Transition.LOST])
async def test_repeating_a_record_after_a_commit_in_doubt_changes_nothing(
    database: Database, change: Transition
) -> None:
    message = await one_message(database)
    record = Outcome(message, Decision(change, message_id="m1", wait=timedelta(seconds=5)))
    assert await write(database, record) == [TAKEN]
    before = await row(database, message, "status", "attempts", "message_id", "due_at", "lease_until")
    assert await write(database, record) == [TAKEN]
    assert await row(database, message, "status", "attempts", "message_id", "due_at", "lease_until") == before
    assert await query(database, "SELECT COUNT(*) FROM attempts") == [(1,)]


async def test_a_released_message_gets_its_attempt_and_its_place_in_the_day_back(database: Database) -> None:
    message = await one_message(database)
    pause = Pause(PauseCause.THROTTLED, "Quota exceeded", timedelta(seconds=20))
    assert await write(database, Outcome(message, Decision(Transition.RELEASED, error="throttled", pause=pause))) == [
        TAKEN
    ]
    assert await row(database, message, "status", "attempts") == ("waiting", 0)
    assert await query(database, "SELECT messages FROM sender_hours") == [(0,)]
    assert await query(
        database, "SELECT pause_cause, pause_reason, pauses, paused_until > UTC_TIMESTAMP(6) FROM senders"
    ) == [("throttled", "Quota exceeded", 0, 1)]
    assert (await claims(database).claim(1)).messages == ()


@pytest.mark.parametrize(
    "change, debited",
    [(Transition.DEFERRED, 0), (Transition.FAILED, 0), (Transition.SENT, 1), (Transition.LOST, 1)],
)
async def test_the_day_counts_what_was_sent_or_may_have_been(
    database: Database, change: Transition, debited: int
) -> None:
    message = await one_message(database)
    record = Outcome(message, Decision(change, message_id="m1" if change is Transition.SENT else None))
    assert await write(database, record) == [TAKEN]
    assert await write(database, record) == [TAKEN]
    assert await query(database, "SELECT messages FROM sender_hours") == [(debited,)]


@pytest.mark.parametrize("change", [Transition.FAILED, Transition.SUPPRESSED, Transition.SENT])
async def test_the_next_message_of_the_sender_has_the_place_of_one_that_was_not_sent_at_once(
    database: Database, change: Transition
) -> None:
    message = await one_message(database)
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR")
    assert await write(database, Outcome(message, Decision(change, message_id="m1", error="x"))) == [TAKEN]
    due = await query(database, "SELECT next_claim_at <= UTC_TIMESTAMP(6) FROM senders")
    assert due == [(int(change is not Transition.SENT),)]


async def test_a_shorter_pause_does_not_cut_a_longer_one(database: Database) -> None:
    await post(database, recipients=2)
    messages = (await claims(database).claim(2)).messages
    for message, seconds in zip(messages, (3600, 20), strict=True):
        pause = Pause(PauseCause.DAILY_LIMIT, "limit", timedelta(seconds=seconds))
        await write(database, Outcome(message, Decision(Transition.RELEASED, pause=pause)))
    ((left,),) = await query(database, "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), paused_until) FROM senders")
    assert left > 3500


async def test_a_deferred_message_is_claimed_when_it_is_due(database: Database) -> None:
    message = await one_message(database)
    assert (await claims(database).claim(1)).next_in is None
    await write(database, Outcome(message, Decision(Transition.DEFERRED, error="busy", wait=timedelta(0))))
    (again,) = (await claims(database).claim(1)).messages
    assert (again.id, again.attempt) == (message.id, 2)


async def test_a_job_is_finished_by_the_last_outcome_and_only_by_that(database: Database) -> None:
    job = await post(database, recipients=2)
    first, second = (await claims(database).claim(2)).messages
    it = RecordWriter(database, "D1")
    await write(database, Outcome(first, SENT))
    assert await it.complete_jobs([job]) == []
    await write(database, Outcome(second, Decision(Transition.FAILED, error="no")))
    (finished,) = await it.complete_jobs([job])
    assert (finished.sent, finished.failed) == (1, 1)
    assert await it.complete_jobs([job]) == []
    assert await query(database, "SELECT status, finished_at IS NOT NULL, next_claim_at FROM jobs") == [
        ("completed", 1, None)
    ]


async def test_looking_for_finished_jobs_reads_no_message_of_others(database: Database) -> None:
    jobs = [await post(database, recipients=100) for _ in range(20)]

    async def work(cursor: Cursor) -> tuple[int, list[CompletedJob]]:
        before = await handler_reads(cursor)
        finished = await complete(cursor, jobs)
        return await handler_reads(cursor) - before, finished

    reads, finished = await database.transaction(work, what="jobs.complete")
    assert not finished
    assert reads < 500


async def handler_reads(cursor: Cursor) -> int:
    """Rows and entries of indexes that this connection has read."""
    await cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
    return sum(int(number) for _, number in await cursor.fetchall())


async def test_a_job_whose_counts_do_not_add_up_is_not_completed(database: Database) -> None:
    job = await post(database, recipients=2)
    for message in (await claims(database).claim(2)).messages:
        await write(database, Outcome(message, SENT))
    await query(database, "DELETE FROM job_recipients LIMIT 1")
    assert await RecordWriter(database, "D1").complete_jobs([job]) == []


async def test_hand_overs_and_outcomes_are_kept_beside_one_that_was_fenced_off(database: Database) -> None:
    await post(database, recipients=3)
    draft, sent, stale = (await claims(database).claim(3)).messages
    fenced_off = Outcome(replace(stale, token="another"), Decision(Transition.FAILED, error="no"))
    kept = await write(database, handover(draft, "d1", "t1"), Outcome(sent, SENT), fenced_off)
    assert kept == [TAKEN, TAKEN, FENCED_OFF]
    rows = await query(database, "SELECT status, draft_id FROM job_recipients ORDER BY id")
    assert rows == [("sending", "d1"), ("sent", None), ("sending", None)]
    events = await query(database, "SELECT event FROM attempts ORDER BY recipient_id")
    assert events == [("sent",), ("late",)]


async def claimed_twice(database: Database) -> tuple[ClaimedRecipient, ClaimedRecipient]:
    """One message under its former claim and its present one, both of one daemon."""
    former = await one_message(database)
    await query(database, "UPDATE job_recipients SET status = 'waiting', claim_token = NULL, due_at = UTC_TIMESTAMP(6)")
    await query(database, "UPDATE jobs SET next_claim_at = UTC_TIMESTAMP(6)")
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6)")
    (present,) = (await claims(database).claim(1)).messages
    assert present.id == former.id
    return former, present


async def test_two_claims_of_one_row_in_one_batch_are_told_apart(database: Database) -> None:
    former, present = await claimed_twice(database)
    records = Outcome(former, Decision(Transition.FAILED, error="no")), Outcome(present, SENT)
    assert await write(database, *records) == [FENCED_OFF, TAKEN]
    assert await row(database, present, "status", "message_id", "error") == ("sent", "m1", None)
    assert await query(database, "SELECT event FROM attempts ORDER BY event") == [("late",), ("sent",)]


async def test_a_hand_over_of_a_former_claim_is_fenced_off_beside_the_present_one(database: Database) -> None:
    former, present = await claimed_twice(database)
    records = handover(present, "d2", "t2"), handover(former, "d1", "t1")
    assert await write(database, *records) == [TAKEN, FENCED_OFF]
    assert await row(database, present, "draft_id") == ("d2",)


async def test_two_records_of_one_claim_in_one_batch_are_taken_once(database: Database) -> None:
    message = await one_message(database)
    records = Outcome(message, SENT), Outcome(message, Decision(Transition.FAILED, error="no"))
    assert await write(database, *records) == [TAKEN, FENCED_OFF]
    assert await row(database, message, "status", "message_id", "error") == ("sent", "m1", None)


@pytest.mark.parametrize("change", [Transition.DEFERRED, Transition.RELEASED])
async def test_what_comes_back_into_a_cancelled_job_is_told_as_cancelled(
    database: Database, change: Transition
) -> None:
    await post(database, recipients=2)
    sent, back = (await claims(database).claim(2)).messages
    await query(database, "UPDATE jobs SET status = 'cancelled', next_claim_at = NULL")
    records = Outcome(sent, SENT), Outcome(back, Decision(change, error="busy"))
    assert await write(database, *records) == [TAKEN, WriteResult.CANCELLED]
    assert await write(database, *records) == [TAKEN, WriteResult.CANCELLED]
    assert await row(database, back, "status") == ("cancelled",)
