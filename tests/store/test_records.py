"""Recording: fenced row by row, harmless to repeat, and nothing that a fenced-off worker learnt is dropped."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mailerd.core.claims import HandedOver, Letter, Outcome, Record
from mailerd.core.decisions import Decision, Pause
from mailerd.core.states import Change
from mailerd.core.verdicts import Cause
from mailerd.store.database import Database
from mailerd.store.records import Records
from tests.store.test_claims import claims
from tests.support.rows import post, query, states

SENT = Decision(Change.SENT, message_id="m1", thread_id="t1")
LOST = Decision(Change.LOST, error="no answer", wait=timedelta(seconds=60))


async def write(database: Database, *records: Record, repeated: bool = False) -> list[bool]:
    it = Records(database, "D1")
    return await database.transaction(lambda cursor: it.record(cursor, records, repeated=repeated), what="record")


async def one_letter(database: Database) -> Letter:
    await post(database, recipients=1)
    (letter,) = (await claims(database).claim(1)).letters
    return letter


async def row(database: Database, letter: Letter, *columns: str) -> tuple[object, ...]:
    (found,) = await query(database, f"SELECT {', '.join(columns)} FROM job_recipients WHERE id = %s", letter.id)
    return found


async def test_an_outcome_ends_the_claim_and_keeps_what_google_said(database: Database) -> None:
    letter = await one_letter(database)
    assert await write(database, HandedOver(letter, "draft", "d1", "t0")) == [True]
    assert await write(database, Outcome(letter, SENT)) == [True]
    assert await row(
        database, letter, "status", "message_id", "thread_id", "draft_id", "claim_token", "lease_until", "attempts"
    ) == ("sent", "m1", "t1", "d1", None, None, 1)
    assert await query(database, "SELECT event, applied, message_id FROM attempts") == [("sent", 1, "m1")]


async def test_many_outcomes_are_written_together_each_its_own(database: Database) -> None:
    job = await post(database, recipients=4)
    letters = (await claims(database).claim(4)).letters
    decisions = [
        SENT,
        Decision(Change.FAILED, error="no such address"),
        Decision(Change.DEFERRED, error="busy", wait=timedelta(seconds=30)),
        LOST,
    ]
    records = [Outcome(letter, decision) for letter, decision in zip(letters, decisions, strict=True)]
    assert await write(database, *records) == [True] * 4
    assert await states(database, job) == {"sent": 1, "failed": 1, "waiting": 1, "unsure": 1}
    waits = await query(
        database,
        "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), due_at), TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), lease_until) "
        "FROM job_recipients WHERE status IN ('waiting', 'unsure') ORDER BY id",
    )
    assert waits[0] == (29, None)
    assert waits[1][1] == 59


async def test_a_worker_with_another_token_writes_nothing(database: Database) -> None:
    letter = await one_letter(database)
    stale = replace(letter, token="0" * 26)
    assert await write(database, HandedOver(stale, "draft", "d9", None)) == [False]
    assert await write(database, Outcome(stale, Decision(Change.FAILED, error="stale"))) == [False]
    assert await row(database, letter, "status", "draft_id", "error") == ("sending", None, None)


async def test_a_row_that_is_not_sending_any_more_is_not_written(database: Database) -> None:
    letter = await one_letter(database)
    await query(
        database, "UPDATE job_recipients SET status = 'unsure'"
    )  # the token still there: the state alone fences
    assert await write(database, HandedOver(letter, "draft", "d9", None)) == [False]
    assert await write(database, Outcome(letter, Decision(Change.FAILED, error="late"))) == [False]
    assert await row(database, letter, "status", "draft_id", "error") == ("unsure", None, None)


async def test_one_fenced_off_letter_does_not_take_the_others_with_it(database: Database) -> None:
    await post(database, recipients=3)
    letters = (await claims(database).claim(3)).letters
    records = [Outcome(letter, SENT) for letter in letters]
    records[1] = replace(records[1], letter=replace(letters[1], token="0" * 26))
    assert await write(database, *records) == [True, False, True]


async def test_what_a_late_worker_knows_settles_a_doubt(database: Database) -> None:
    letter = await one_letter(database)
    await query(database, "UPDATE job_recipients SET status = 'unsure', claim_token = NULL, draft_id = 'd1'")
    assert await write(database, Outcome(letter, SENT)) == [False]
    assert await row(database, letter, "status", "message_id") == ("sent", "m1")
    assert await query(database, "SELECT event, applied FROM attempts") == [("sent", 0)]


async def test_a_late_failure_overwrites_nothing(database: Database) -> None:
    letter = await one_letter(database)
    await query(database, "UPDATE job_recipients SET status = 'sent', claim_token = NULL, message_id = 'm0'")
    assert await write(database, Outcome(letter, Decision(Change.FAILED, error="late"))) == [False]
    assert await row(database, letter, "status", "message_id", "error") == ("sent", "m0", None)


@pytest.mark.parametrize("change", [Change.SENT, Change.DEFERRED, Change.RELEASED, Change.LOST])
async def test_repeating_a_record_after_a_commit_in_doubt_changes_nothing(database: Database, change: Change) -> None:
    letter = await one_letter(database)
    record = Outcome(letter, Decision(change, message_id="m1", wait=timedelta(seconds=5)))
    assert await write(database, record) == [True]
    before = await row(database, letter, "status", "attempts", "message_id", "due_at", "lease_until")
    assert await write(database, record, repeated=True) == [True]
    assert await row(database, letter, "status", "attempts", "message_id", "due_at", "lease_until") == before
    assert await query(database, "SELECT COUNT(*) FROM attempts") == [(1,)]


async def test_a_released_letter_gets_its_attempt_and_its_place_in_the_day_back(database: Database) -> None:
    letter = await one_letter(database)
    pause = Pause(Cause.THROTTLED, "Quota exceeded", timedelta(seconds=20))
    assert await write(database, Outcome(letter, Decision(Change.RELEASED, error="throttled", pause=pause))) == [True]
    assert await row(database, letter, "status", "attempts") == ("waiting", 0)
    assert await query(database, "SELECT letters FROM sender_hours") == [(0,)]
    assert await query(
        database, "SELECT pause_cause, pause_reason, pauses, paused_until > UTC_TIMESTAMP(6) FROM senders"
    ) == [("throttled", "Quota exceeded", 0, 1)]
    assert (await claims(database).claim(1)).letters == ()


async def test_a_shorter_pause_does_not_cut_a_longer_one(database: Database) -> None:
    await post(database, recipients=2)
    letters = (await claims(database).claim(2)).letters
    for letter, seconds in zip(letters, (3600, 20), strict=True):
        pause = Pause(Cause.DAILY_LIMIT, "limit", timedelta(seconds=seconds))
        await write(database, Outcome(letter, Decision(Change.RELEASED, pause=pause)))
    ((left,),) = await query(database, "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), paused_until) FROM senders")
    assert left > 3500


async def test_a_deferred_letter_is_claimed_when_it_is_due(database: Database) -> None:
    letter = await one_letter(database)
    assert (await claims(database).claim(1)).next_in is None
    await write(database, Outcome(letter, Decision(Change.DEFERRED, error="busy", wait=timedelta(0))))
    (again,) = (await claims(database).claim(1)).letters
    assert (again.id, again.attempt) == (letter.id, 2)


async def test_a_job_is_finished_by_the_last_outcome_and_only_by_that(database: Database) -> None:
    job = await post(database, recipients=2)
    first, second = (await claims(database).claim(2)).letters
    it = Records(database, "D1")
    await write(database, Outcome(first, SENT))
    assert await it.finish([job]) == []
    await write(database, Outcome(second, Decision(Change.FAILED, error="no")))
    (finished,) = await it.finish([job])
    assert (finished.sent, finished.failed) == (1, 1)
    assert await it.finish([job]) == []
    assert await query(database, "SELECT status, finished_at IS NOT NULL, turn_at FROM jobs") == [
        ("completed", 1, None)
    ]


async def test_a_job_whose_counts_do_not_add_up_is_not_completed(database: Database) -> None:
    job = await post(database, recipients=2)
    for letter in (await claims(database).claim(2)).letters:
        await write(database, Outcome(letter, SENT))
    await query(database, "DELETE FROM job_recipients LIMIT 1")
    assert await Records(database, "D1").finish([job]) == []


async def test_hand_overs_and_outcomes_are_kept_beside_one_that_was_fenced_off(database: Database) -> None:
    await post(database, recipients=3)
    draft, sent, stale = (await claims(database).claim(3)).letters
    fenced_off = Outcome(replace(stale, token="another"), Decision(Change.FAILED, error="no"))
    kept = await write(database, HandedOver(draft, "draft", "d1", "t1"), Outcome(sent, SENT), fenced_off)
    assert kept == [True, True, False]
    rows = await query(database, "SELECT status, draft_id FROM job_recipients ORDER BY id")
    assert rows == [("sending", "d1"), ("sent", None), ("sending", None)]
    events = await query(database, "SELECT event, applied FROM attempts ORDER BY recipient_id")
    assert events == [("sent", 1), ("failed", 0)]
