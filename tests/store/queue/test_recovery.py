"""What the rescue does to rows: by the database's clock, re-checked, fenced."""

from dataclasses import replace
from datetime import UTC, timedelta

import pytest

from mailerd.core.claims import ExpiredClaim, Handover, Outcome, Resolution, UnresolvedSend, WriteResult
from mailerd.core.decisions import Decision
from mailerd.core.states import State, Transition
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.queue.recovery import ExpiredClaims, RecoveryQueries
from mailerd.store.read.audit import audit
from tests.store.queue.test_claim import claims
from tests.store.queue.test_record import LOST, SENT, claimed_twice, one_message, row, write
from tests.support.copies import BOTH, post_copied
from tests.support.handover import handover
from tests.support.replayed import replayed
from tests.support.rows import post, query, rows_read

LAPSE = "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND WHERE lease_until IS NOT NULL"


def rescues(database: Database) -> RecoveryQueries:
    minute = timedelta(minutes=1)
    return RecoveryQueries(database, "D2", minute, replayed(database, "D2"))


def lapses(database: Database, *, by: str = "D2") -> ExpiredClaims:
    return ExpiredClaims(database, by, timedelta(minutes=1), replayed(database, by))


async def due(it: RecoveryQueries) -> tuple[list[ExpiredClaim], list[UnresolvedSend]]:
    """A round of both loops: what lapsed, and the doubts that are taken for a look."""
    return await lapses(it.database, by=it.daemon_id).recover(), await it.take_unresolved()


async def test_a_running_lease_is_left_alone(database: Database) -> None:
    await one_message(database)
    assert await due(rescues(database)) == ([], [])


async def test_a_lapsed_claim_that_never_reached_google_is_sent_again(database: Database) -> None:
    message = await one_message(database)
    await query(database, LAPSE)
    ((lapsed,), doubts) = await due(rescues(database))
    assert (lapsed.id, lapsed.status, lapsed.daemon_id, doubts) == (message.id, State.WAITING, "D1", [])
    (again,) = (await claims(database).claim(1)).messages
    assert again.attempt == 1, "a daemon that dies costs no message its attempts"


@pytest.mark.parametrize("handed, counted", [(False, (0, 0)), (True, (1, 2))])
async def test_a_lapsed_claim_gives_back_its_part_of_the_day_unless_google_may_have_the_message(
    database: Database, *, handed: bool, counted: tuple[int, int]
) -> None:
    await post_copied(database, ("a@example.org", BOTH))
    (message,) = (await claims(database).claim(1)).messages
    if handed:
        await write(database, handover(message, "d1", "t0"))
    # It was claimed in the hour before.
    await query(database, "UPDATE sender_hours SET hour = hour - INTERVAL 1 HOUR")
    await query(database, "UPDATE job_recipients SET updated_at = updated_at - INTERVAL 1 HOUR")
    await query(database, LAPSE)
    await due(rescues(database))
    assert await query(database, "SELECT messages, copies FROM sender_hours") == [counted]


async def test_a_lapsed_claim_of_a_message_that_google_has_is_settled_by_its_answer(database: Database) -> None:
    """Its worker had another claim, which a failover has forgotten; the row was that of a former one by then."""
    message = await one_message(database)
    assert await write(database, Outcome(replace(message, token="2" * 26), SENT)) == [WriteResult.STALE]
    await query(database, LAPSE)
    ((lapsed,), _) = await due(rescues(database))
    assert lapsed.status is State.UNSURE, "waiting, it would be cancelled if its address opts out, or fail"
    assert (await audit(database))[1] == []
    await query(database, LAPSE)
    (_, (doubt,)) = await due(rescues(database))
    assert doubt.known_message_id == "m1"


@pytest.mark.parametrize("edit", ["attempts = 0", "crashes = 255"])
async def test_what_a_person_wrote_into_one_row_holds_up_the_recovery_of_no_other(
    database: Database, edit: str
) -> None:
    await post(database, recipients=2)
    await claims(database).claim(2)
    await query(database, f"UPDATE job_recipients SET {edit} WHERE seq = 0")
    await query(database, LAPSE)
    (lapsed, _) = await due(rescues(database))
    assert len(lapsed) == 2


async def test_a_lapsed_claim_with_a_draft_is_unsure_and_rests_until_nothing_is_in_flight(database: Database) -> None:
    message = await one_message(database)
    await write(database, handover(message, "d1", "t1"))
    await query(database, LAPSE)
    ((lapsed,), doubts) = await due(rescues(database))
    assert lapsed.status is State.UNSURE
    assert doubts == []
    ((status, left),) = await query(
        database, "SELECT status, TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), lease_until) FROM job_recipients"
    )
    assert (status, left) == ("unsure", 59)
    assert await due(rescues(database)) == ([], [])


async def test_a_doubt_is_taken_by_one_rescue_only_and_settled_under_its_token(database: Database) -> None:
    message = await one_message(database)
    await write(
        database,
        handover(message, "d1", "t1"),
    )
    await write(database, Outcome(message, LOST))
    await query(database, LAPSE)
    it = rescues(database)
    (_, (doubt,)) = await due(it)
    assert (doubt.draft_id, doubt.thread_id, doubt.mode, doubt.checks) == ("d1", "t1", "draft", 0)
    assert await due(it) == ([], [])
    await query(database, LAPSE)
    (_, (second,)) = await due(it)  # the first looker was too slow, and another one took over
    assert await it.resolve(Resolution(doubt, Transition.MISSING)) is WriteResult.STALE
    assert await it.resolve(Resolution(second, Transition.FOUND, message_id="m7")) is WriteResult.APPLIED
    assert await row(database, message, "status", "message_id", "lease_until") == ("sent", "m7", None)


async def test_a_missing_message_is_claimed_again_with_the_same_draft(database: Database) -> None:
    message = await one_message(database)
    await write(database, handover(message, "d1", "t1"))
    await write(database, Outcome(message, LOST))
    await query(database, LAPSE)
    it = rescues(database)
    (_, (doubt,)) = await due(it)
    assert await it.resolve(Resolution(doubt, Transition.MISSING)) is WriteResult.APPLIED
    (again,) = (await claims(database).claim(1)).messages
    assert (again.draft_id, again.attempt) == ("d1", 2)


async def test_the_job_of_a_missing_message_and_its_sender_have_their_turn_now(database: Database) -> None:
    message = await one_message(database)
    await write(database, handover(message, "d1", "t1"))
    await write(database, Outcome(message, LOST))
    await query(database, LAPSE)
    it = rescues(database)
    (_, (doubt,)) = await due(it)
    for table in ("jobs", "senders"):
        await query(database, f"UPDATE {table} SET next_claim_at = NULL")
    await it.resolve(Resolution(doubt, Transition.MISSING))
    for table in ("jobs", "senders"):
        assert await query(database, f"SELECT next_claim_at <= UTC_TIMESTAMP(6) FROM {table}") == [(1,)]


async def test_a_claim_that_lapses_is_a_line_in_the_log_of_its_message(database: Database) -> None:
    message = await one_message(database)
    await query(database, LAPSE)
    await due(rescues(database))
    assert await query(database, "SELECT recipient_id, claim_token FROM attempts WHERE event = 'lapsed'") == [
        (message.id, message.token)
    ]


async def test_a_look_that_failed_is_repeated_later(database: Database) -> None:
    message = await one_message(database)
    await write(database, handover(message, "d1", "t1"))
    await write(database, Outcome(message, LOST))
    await query(database, LAPSE)
    it = rescues(database)
    (_, (doubt,)) = await due(it)
    assert await it.resolve(Resolution(doubt, None, error="503", retry_in=timedelta(seconds=30))) is WriteResult.APPLIED
    ((status, checks, left),) = await query(
        database, "SELECT status, checks, TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), lease_until) FROM job_recipients"
    )
    assert (status, checks, left) == ("unsure", 1, 29)


async def test_what_a_fenced_off_worker_left_in_the_log_is_known_at_the_look(database: Database) -> None:
    message = await one_message(database)
    await write(database, handover(message, "d1", "t1"))
    await query(database, "UPDATE job_recipients SET claim_token = REPEAT('Z', 26), attempts = 2")  # a successor has it
    assert await write(database, Outcome(message, SENT)) == [WriteResult.STALE]
    await query(database, "UPDATE job_recipients SET status = 'unsure', claim_token = NULL")
    await query(database, LAPSE)
    (_, (doubt,)) = await due(rescues(database))
    assert doubt.known_message_id == "m1"


async def test_renewing_tells_which_leases_are_still_held(database: Database) -> None:
    await post(database, recipients=2)
    first, second = (await claims(database).claim(2)).messages
    await write(database, Outcome(second, SENT))
    held = [(first.id, first.token), (second.id, second.token)]
    assert await rescues(database).renew(held, lease=timedelta(seconds=500)) == {(first.id, first.token)}
    ((left,),) = await query(
        database,
        "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), lease_until) FROM job_recipients WHERE status = 'sending'",
    )
    assert left > 490


async def test_a_job_whose_daemon_died_before_finishing_it_is_found(database: Database) -> None:
    job = await post(database, recipients=1)
    await post(database, recipients=1)
    for message in (await claims(database).claim(1)).messages:
        await write(database, Outcome(message, Decision(Transition.FAILED, error="no")))
    assert await rescues(database).unfinished_jobs() == [job]


async def test_mailboxes_with_a_job_of_the_last_days_are_searched_and_the_jobs_of_months_are_not_read(
    database: Database,
) -> None:
    for sender in ("open", "paused", "old", "ended", "in-flight", *["old"] * 100):
        await post(database, sender=f"{sender}@example.com", recipients=1)
    await query(database, "UPDATE jobs SET status = 'paused' WHERE sender_email = 'paused@example.com'")
    await query(
        database,
        "UPDATE jobs SET status = 'cancelled', finished_at = CASE sender_email WHEN 'in-flight@example.com' THEN NULL "
        "WHEN 'ended@example.com' THEN UTC_TIMESTAMP(6) - INTERVAL 47 HOUR ELSE UTC_TIMESTAMP(6) - INTERVAL 9 DAY END "
        "WHERE sender_email NOT IN ('open@example.com', 'paused@example.com')",
    )
    asking = -await rows_read(database) + await rows_read(database)  # what the question itself costs, as on MySQL
    before = await rows_read(database)
    found = await rescues(database).senders_with_drafts()
    assert sorted(found) == [f"{it}@example.com" for it in ("ended", "in-flight", "open", "paused")]
    assert await rows_read(database) - before - asking < 60


async def test_a_draft_is_an_orphan_only_when_nobody_can_record_it_any_more(database: Database) -> None:
    message = await one_message(database)
    it = rescues(database)

    async def orphan(draft: str) -> bool | None:
        return await it.is_orphan(job=message.job_id, seq=message.seq, draft=draft)

    assert await orphan("d1") is False  # its worker may be about to record it
    await write(database, handover(message, "d1", "t1"))
    await write(database, Outcome(message, Decision(Transition.DEFERRED, wait=timedelta(hours=1))))
    assert await orphan("d1") is False
    assert await orphan("d2") is True
    assert await it.own_drafts(["d1", "d2"], sender="me@example.com") == {"d1"}
    assert await it.is_orphan(job="0" * 26, seq=0, draft="d1") is None


@pytest.mark.parametrize("status", ["sending", "paused", "cancelled"])
async def test_a_draft_that_is_shown_after_all_settles_its_message_whatever_its_job_does(
    database: Database, status: str
) -> None:
    message = await one_message(database)
    await write(database, handover(message, "d1", "t1"), Outcome(message, LOST))
    await query(database, "UPDATE job_recipients SET lease_until = NULL")
    await query(database, "UPDATE jobs SET status = %s", status)
    it = rescues(database)
    assert await it.own_drafts(["d1", "d2"], sender="me@example.com") == {"d1"}
    assert await it.check_again(["d1"], sender="me@example.com") == 1
    assert [one.id for one in await it.take_unresolved()] == [message.id]


async def test_a_former_claim_is_not_held_because_a_later_one_of_the_same_row_is(database: Database) -> None:
    former, present = await claimed_twice(database)
    held = [(former.id, former.token), (present.id, present.token)]
    assert await rescues(database).renew(held, lease=timedelta(seconds=500)) == {(present.id, present.token)}
    assert await rescues(database).renew(held[:1], lease=timedelta(seconds=500)) == set()


async def test_only_as_many_doubts_are_taken_as_are_looked_for_and_lapsed_leases_do_not_wait_for_them(
    database: Database,
) -> None:
    await post(database, recipients=8)
    messages = (await claims(database).claim(8)).messages
    for message in messages[:7]:
        await write(database, handover(message, f"d{message.id}", "t1"))
        await write(database, Outcome(message, LOST))
    await query(database, LAPSE)
    it = rescues(database)
    assert len(await it.take_unresolved(limit=5)) == 5
    assert [one.id for one in await lapses(database).recover(limit=1)] == [messages[7].id]
    assert len(await it.take_unresolved(limit=5)) == 2


async def test_a_sender_has_only_its_share_of_the_looks(database: Database) -> None:
    for sender, number in (("many@example.com", 80), ("few@example.com", 1)):
        await post(database, sender=sender, recipients=number)
        for message in (await claims(database).claim(number)).messages:
            await write(database, handover(message, f"d{message.id}", "t1"), Outcome(message, LOST))
    await query(database, LAPSE)
    it = rescues(database)
    first = await it.take_unresolved(limit=10, per_sender=2)
    assert [doubt.sender for doubt in first] == ["many@example.com"] * 2
    second = await it.take_unresolved(limit=8, per_sender=2, under_way={"many@example.com": 2})
    assert [doubt.sender for doubt in second] == ["few@example.com"], "eighty that are due before it do not hide it"
    assert (
        await it.take_unresolved(limit=7, per_sender=2, under_way={"many@example.com": 2, "few@example.com": 1}) == []
    )
    third = await it.take_unresolved(limit=7, per_sender=2, under_way={"many@example.com": 1})
    assert [doubt.sender for doubt in third] == ["many@example.com"]
    assert third[0].id not in {doubt.id for doubt in first}


async def test_a_lapsed_message_of_a_cancelled_job_is_cancelled_and_told_so(database: Database) -> None:
    message = await one_message(database)
    await query(database, "UPDATE jobs SET status = 'cancelled', next_claim_at = NULL")
    await query(database, LAPSE)
    ((lapsed,), _) = await due(rescues(database))
    assert lapsed.status is State.CANCELLED
    assert await row(database, message, "status") == ("cancelled",)


async def test_a_missing_message_of_a_cancelled_job_is_cancelled_and_told_so(database: Database) -> None:
    message = await one_message(database)
    await write(database, handover(message, "d1", "t1"))
    await write(database, Outcome(message, LOST))
    await query(database, "UPDATE jobs SET status = 'cancelled', next_claim_at = NULL")
    await query(database, LAPSE)
    it = rescues(database)
    (_, (doubt,)) = await due(it)
    assert await it.resolve(Resolution(doubt, Transition.MISSING)) is WriteResult.CANCELLED
    assert await row(database, message, "status") == ("cancelled",)


async def test_what_a_look_says_is_cut_to_its_column(database: Database) -> None:
    """A sender's address may have 254 characters, and Google's own words 500: it did not fit, and ended the round."""
    message = await one_message(database)
    await write(database, handover(message, "d1", "t1"))
    await write(database, Outcome(message, LOST))
    it = rescues(database)
    for change in (None, Transition.FOUND):
        await query(database, LAPSE)
        (_, (doubt,)) = await due(it)
        again = timedelta(seconds=30) if change is None else None
        assert await it.resolve(Resolution(doubt, change, error="x" * 2000, retry_in=again)) is WriteResult.APPLIED
    assert await query(database, "SELECT CHAR_LENGTH(error) FROM job_recipients") == [(1000,)]


async def doubt_after_a_lapse(database: Database, record: Handover) -> UnresolvedSend:
    await write(database, record)
    await query(database, LAPSE)
    await due(rescues(database))
    await query(database, LAPSE)
    (_, (doubt,)) = await due(rescues(database))
    return doubt


@pytest.mark.parametrize("unanswered", [False, True])
async def test_a_worker_that_dies_while_it_deletes_a_refused_draft_leaves_what_google_had_answered(
    database: Database, *, unanswered: bool
) -> None:
    message = await one_message(database)
    doubt = await doubt_after_a_lapse(database, handover(message, "d1", "t1", unanswered=unanswered, discarding=True))
    assert (doubt.draft_id, doubt.unanswered, doubt.discarding) == ("d1", unanswered, True)


async def test_a_worker_that_dies_after_its_hand_over_may_have_sent(database: Database) -> None:
    doubt = await doubt_after_a_lapse(database, handover(await one_message(database), "d1", "t1"))
    assert (doubt.unanswered, doubt.discarding) == (True, False)


async def test_a_message_that_google_does_not_have_forgets_its_draft(database: Database) -> None:
    message = await one_message(database)
    doubt = await doubt_after_a_lapse(database, handover(message, "d1", "t1", discarding=True))
    assert await rescues(database).resolve(Resolution(doubt, Transition.MISSING, forgets=True)) is WriteResult.APPLIED
    (again,) = (await claims(database).claim(1)).messages
    assert (again.id, again.draft_id, again.thread_id, again.unanswered) == (message.id, None, None, False)
    assert await row(database, message, "mode", "unanswered", "discarding") == (None, 0, 0)


async def test_a_search_of_the_sent_mail_begins_when_the_message_was_first_handed_over(database: Database) -> None:
    """Its job may be days old, and each sent message that is read costs units."""
    message = await one_message(database)
    await query(database, "UPDATE jobs SET created_at = created_at - INTERVAL 5 DAY")
    doubt = await doubt_after_a_lapse(database, handover(message))
    ((made_at,),) = await query(database, "SELECT created_at FROM jobs")
    assert doubt.since > made_at.replace(tzinfo=UTC) + timedelta(days=4)
    await query(database, "UPDATE job_recipients SET handed_over_at = handed_over_at - INTERVAL 1 DAY")
    assert await rescues(database).resolve(Resolution(doubt, Transition.MISSING)) is WriteResult.APPLIED
    (again,) = (await claims(database).claim(1)).messages
    later = await doubt_after_a_lapse(database, handover(again))
    assert later.since == doubt.since - timedelta(days=1), "what an earlier try may have sent late is found as well"


@pytest.mark.parametrize("held", ["jobs WHERE id = %s", "senders WHERE %s IS NOT NULL"], ids=["its job", "its sender"])
async def test_what_another_transaction_holds_is_recovered_later_and_holds_up_nothing(
    database: Database, held: str
) -> None:
    """Every claim of every sender stands behind this round."""
    message = await one_message(database)
    await query(database, LAPSE)

    async def with_it_held(cursor: Cursor) -> list[ExpiredClaim]:
        await cursor.execute(f"SELECT 1 FROM {held} FOR UPDATE", (message.job_id,))
        return await lapses(database).recover()

    assert await database.transaction(with_it_held, what="hold it") == []
    assert [it.id for it in await lapses(database).recover()] == [message.id]
