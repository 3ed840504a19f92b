"""The survey shows every doubt, and since when it has stood."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from mailerd.config import Live
from mailerd.core.claims import Outcome, Resolution
from mailerd.core.extras import Extras
from mailerd.core.rate_limit import SenderLimits
from mailerd.core.reasons import code_of, in_row, reason
from mailerd.core.situation import Facts, situation
from mailerd.core.states import JobChange, JobStatus, State
from mailerd.core.stats import QueueStats, counts
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.read import stats
from mailerd.store.read.stats import StatsReader
from mailerd.store.write.action_log import note_action
from tests.store.queue.test_claim import claims
from tests.store.queue.test_record import LOST, SENT, handler_reads, one_message, write
from tests.store.queue.test_recovery import LAPSE, due, rescues
from tests.store.queue.test_stuck_jobs import ask
from tests.support.handover import handover
from tests.support.heard import Heard
from tests.support.replayed import daemons
from tests.support.rows import numbers, post, query

NOW = datetime(2026, 11, 30, tzinfo=UTC)
AN_HOUR_LATER = "UPDATE job_recipients SET updated_at = updated_at - INTERVAL 1 HOUR"


async def a_doubt(database: Database) -> str:
    message = await one_message(database)
    await write(database, handover(message, "d1", "t1"))
    await write(database, Outcome(message, LOST))
    return message.job_id


def stats_reader(database: Database) -> StatsReader:
    return StatsReader(database, Live(DefaultLimits(SenderLimits(0, 0, 0))))


async def look(database: Database) -> QueueStats:
    return await stats_reader(database).read()


async def test_a_doubt_grows_old_however_often_somebody_looks(database: Database) -> None:
    await a_doubt(database)
    await query(database, AN_HOUR_LATER)
    it = rescues(database)
    for _ in range(2):
        await query(database, LAPSE)
        (_, (doubt,)) = await due(it)
        await it.resolve(Resolution(doubt, None, error="503", retry_in=timedelta(seconds=30)))
    assert 3600 <= (await look(database)).oldest_unsure < 3700


async def test_a_doubt_in_a_cancelled_job_is_shown(database: Database) -> None:
    job = await a_doubt(database)
    await query(database, AN_HOUR_LATER)
    await ask(database, job, JobChange.CANCEL)
    seen = await look(database)
    assert seen.recipients == {State.UNSURE: 1}
    assert seen.oldest_unsure >= 3600


async def test_an_action_for_each_list_of_an_import_is_read(database: Database) -> None:
    async def one_for_each(cursor: Cursor) -> None:
        for number in range(100):
            await cursor.execute(*note_action("suppress", "command, ada", detail=f"list-{number}", messages=1))

    await database.transaction(one_for_each, what="import")
    assert len((await look(database)).asked) == 100


async def test_a_message_is_late_from_the_resume_of_its_job_or_the_end_of_its_brake_on(database: Database) -> None:
    job = (await one_message(database)).job_id
    waited = (
        "UPDATE job_recipients SET status = 'waiting', claim_token = NULL, lease_until = NULL, "
        "due_at = UTC_TIMESTAMP(6) - INTERVAL 100 SECOND"
    )
    await query(database, waited)
    await ask(database, job, JobChange.PAUSE)
    await query(database, "UPDATE senders SET next_claim_at = NULL")
    await ask(database, job, JobChange.RESUME)
    assert (await look(database)).oldest_claimable < 30
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6) - INTERVAL 90 SECOND")
    assert (await look(database)).oldest_claimable > 60
    await query(database, "UPDATE jobs SET braked_until = UTC_TIMESTAMP(6) - INTERVAL 5 SECOND")
    assert (await look(database)).oldest_claimable < 30


MANY = f"""
INSERT INTO job_recipients (job_id, seq, to_email, status, due_at, updated_at)
SELECT id, seq, CONCAT('m', seq, '@example.org'), 'waiting', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6)
  FROM jobs, {numbers(3)}"""


async def rows_read(reader: StatsReader) -> int:
    """How many rows and entries of indexes one look reads."""

    async def work(cursor: Cursor) -> int:
        before = await handler_reads(cursor)
        await reader._read(cursor)
        return await handler_reads(cursor) - before

    return await reader.database.transaction(work, what="look")


async def test_a_look_reads_as_many_rows_however_many_messages_wait(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "COUNTED_EACH_TIME", 500)
    for number in range(10):
        await post(database, sender=f"s{number}@example.com", recipients=1)
    await rows_read(few := stats_reader(database))
    before = await rows_read(few)
    await query(database, MANY)
    await query(database, "UPDATE jobs SET total = total + 1000")
    await rows_read(many := stats_reader(database))
    assert await rows_read(many) <= before
    seen = await many.read()
    assert (seen.recipients, seen.jobs) == ({State.WAITING: 10_010}, {JobStatus.QUEUED: 10})


async def test_of_what_is_not_there_nothing_is_asked(database: Database) -> None:
    async def questions(cursor: Cursor) -> int:
        await cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
        return int((await cursor.fetchone())[1])

    async def work(cursor: Cursor) -> int:
        before = await questions(cursor)
        await stats_reader(database)._read(cursor)
        return await questions(cursor) - before - 1

    assert await database.transaction(work, what="look") == 5


async def test_every_state_of_what_has_not_ended_is_counted(database: Database) -> None:
    mixed, cancelled, _ = [await post(database, recipients=number) for number in (21, 2, 4)]
    for state, last in (("failed", 15), ("cancelled", 10), ("unsure", 6), ("sent", 3), ("sending", 1)):
        await query(
            database,
            "UPDATE job_recipients SET status = %s, lease_until = IF(status = 'sending', UTC_TIMESTAMP(6), NULL) "
            "WHERE job_id = %s AND seq < %s",
            state, mixed, last,
        )  # fmt: skip
    await query(database, "UPDATE jobs SET status = 'paused' WHERE id = %s", mixed)
    await ask(database, cancelled, JobChange.CANCEL)
    seen = await look(database)
    states = {State.SENDING: 1, State.SENT: 2, State.UNSURE: 3, State.CANCELLED: 4, State.FAILED: 5, State.WAITING: 10}
    assert seen.recipients == states
    assert seen.jobs == {JobStatus.PAUSED: 1, JobStatus.CANCELLED: 1, JobStatus.QUEUED: 1}
    assert seen.counted is not None
    assert seen.counted < 1


async def test_what_is_counted_now_and_then_says_when_it_was(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "COUNTED_EACH_TIME", 2)
    reader = stats_reader(database)
    await post(database, recipients=4)
    assert (await reader.read()).recipients == {State.WAITING: 4}
    await post(database, recipients=6)
    later = time.monotonic() + 3
    monkeypatch.setattr(stats, "time", SimpleNamespace(monotonic=lambda: later))
    monkeypatch.setattr(stats, "ROWS_PER_SECOND", 0.1)
    kept = await reader.read()
    assert kept.recipients == {State.WAITING: 4}
    assert kept.counted is not None
    assert kept.counted >= 3
    assert kept.open_jobs() == 2
    monkeypatch.setattr(stats, "ROWS_PER_SECOND", 1_000_000_000)
    assert (await reader.read()).recipients == {State.WAITING: 10}


async def test_what_is_too_many_to_be_counted_is_said_to_be_at_most_so_many(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "MAX_ROWS_COUNTED", 5)
    job = await post(database, recipients=6)
    await query(database, "UPDATE job_recipients SET status = 'sent' WHERE job_id = %s AND seq = 0", job)
    seen = await look(database)
    assert (seen.recipients, seen.counted) == ({State.WAITING: 6}, None)
    assert counts(seen) == "1 job, 6 waiting (at most: too many to count)"


def test_a_number_that_was_counted_a_while_ago_says_so() -> None:
    seen = QueueStats(NOW, {JobStatus.SENDING: 1}, {State.WAITING: 900_000}, counted=180.0)
    assert counts(seen) == "1 job, 900,000 waiting (counted 3 min ago)"
    assert counts(replace(seen, counted=0.2)) == "1 job, 900,000 waiting"


async def test_why_a_job_is_paused_for_its_bounces_is_a_reason_that_can_be_said_in_any_language(
    database: Database,
) -> None:
    warned, paused = await post(database), await post(database)
    for job, column, code in (
        (warned, "bounce_warning", "job_bounces_soon"), (paused, "pause_reason", "job_bounces")
    ):  # fmt: skip
        english, *coded = in_row(reason(code, dead=4, sent=35, limit=8, job=job))
        await query(
            database,
            f"UPDATE jobs SET status = 'paused', {column} = %s, {column}_code = %s, {column}_args = %s WHERE id = %s",
            english, *coded, job,
        )  # fmt: skip
    found = (await look(database)).jobs_in_trouble
    assert {(it.id, code_of(it.reason), it.paused) for it in found} == {
        (warned, "job_bounces_soon", 0), (paused, "job_bounces", 1)
    }  # fmt: skip


async def test_the_gap_between_messages_is_a_limit_of_the_minute(database: Database) -> None:
    await post(database)
    await query(database, "UPDATE senders SET units_per_minute = 0, per_minute = 0, min_gap = 4")
    ((sender),) = (await look(database)).senders
    assert 0 < sender.per_minute <= 15


async def test_no_sender_hides_what_has_become_of_another_ones_jobs(database: Database) -> None:
    async def ended(sender: str, jobs: int) -> list[str]:
        made = [await post(database, sender=sender) for _ in range(jobs)]
        await query(database, "UPDATE job_recipients SET status = 'failed' WHERE job_id IN %s", tuple(made))
        await query(
            database,
            "UPDATE jobs SET status = 'completed', next_claim_at = NULL, finished_at = UTC_TIMESTAMP(6) WHERE id IN %s",
            tuple(made),
        )
        return made

    (mine,) = await ended("b@example.com", 1)
    assert [it.id for it in (await look(database)).failed_jobs] == [mine]
    theirs = await ended("a@example.com", 12)
    found = [it.id for it in (await look(database)).failed_jobs]
    assert mine in found
    assert set(found) & set(theirs)
    assert len(found) <= stats.SHOWN_FAILED


async def test_no_sender_hides_what_is_wrong_with_another_ones_open_jobs(database: Database) -> None:
    paused = "UPDATE jobs SET status = 'paused', pause_cause = 'bounces', pause_reason = 'it is so' WHERE id IN %s"
    mine = await post(database, sender="b@example.com")
    theirs = [await post(database, sender="a@example.com", recipients=1) for _ in range(55)]
    await query(database, paused, (mine, *theirs))
    found = [it.id for it in (await look(database)).jobs_in_trouble]
    assert mine in found
    assert set(found) & set(theirs)


async def test_two_hundred_senders_of_one_tenant_hide_no_finding_of_another(database: Database) -> None:
    crowd = (
        "INSERT INTO senders (email, next_claim_at, paused_until, pause_cause, pause_reason, created_at) "
        f"SELECT CONCAT('a', seq, '@example.com'), NULL, '9999-12-31', 'daily_limit', 'x', UTC_TIMESTAMP(6) "
        f"FROM {numbers(3)} WHERE seq < 300"
    )
    await query(database, crowd)
    for sender in ("z1@example.com", "z2@example.com"):
        await post(database, sender=sender, recipients=2)
    await query(
        database,
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 50 SECOND, pause_cause = 'token_refused' "
        "WHERE email = 'z1@example.com'",
    )
    await query(database, "UPDATE senders SET next_claim_at = NULL WHERE email = 'z2@example.com'")
    await query(
        database,
        "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, error, at) SELECT r.id, 1, "
        "UUID_SHORT(), '', 'deferred', 'no', UTC_TIMESTAMP(6) FROM job_recipients r JOIN jobs j ON j.id = r.job_id "
        "WHERE j.sender_email = 'z2@example.com'",
    )
    await query(
        database,
        "INSERT INTO mailboxes (email, scope, state, detail, detail_code, next_at, read_at) SELECT email, '', "
        "'refused', 'x', IF(email LIKE 'z%%', 'scope_missing', 'daily_limit'), UTC_TIMESTAMP(6), "
        "UTC_TIMESTAMP(6) - INTERVAL 1 HOUR FROM senders",
    )
    seen = await look(database)
    assert len(seen.senders) == len(seen.inboxes) == 200
    by_email = {it.email: it for it in seen.senders}
    assert by_email["z1@example.com"].pause_cause == "token_refused"
    assert by_email["z2@example.com"].failing is not None
    assert {"z1@example.com", "z2@example.com"} <= {it.email for it in seen.inboxes}


async def test_of_certain_senders_only_their_own_is_read(database: Database) -> None:
    for sender, messages in (("a@example.com", 3), ("b@example.com", 40)):
        await post(database, sender=sender, recipients=messages)
    await query(database, "UPDATE job_recipients SET due_at = due_at - INTERVAL 5 MINUTE")
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6) WHERE email = 'a@example.com'")
    seen = await stats_reader(database).read_of({"a@example.com"})
    assert [it.email for it in seen.senders] == ["a@example.com"]
    assert seen.recipients == {State.WAITING: 3}
    assert seen.open_jobs() == 1
    nothing = await stats_reader(database).read_of(())
    assert (nothing.senders, nothing.recipients, nothing.oldest_claimable) == ((), {State.WAITING: 0}, 0.0)


@pytest.mark.parametrize("mine", [False, True])
async def test_what_the_next_message_costs_is_known_where_it_may_not_fit_into_the_day(
    database: Database, *, mine: bool
) -> None:
    await post(database, extras=Extras(copies=6), own=Extras(copies=2))
    await query(database, "UPDATE senders SET per_day = 10")
    hour = "INSERT INTO sender_hours (sender_email, hour, messages) VALUES ('me@example.com', UTC_TIMESTAMP(), 9)"
    await query(database, hour)
    it = stats_reader(database)

    async def costs() -> list[int]:
        return [each.next_cost for each in (await (it.read_of({"me@example.com"}) if mine else it.read())).senders]

    assert await costs() == [3]
    assert [each.code for each in situation(Facts(await it.read())) if each.about.startswith("sender")] == ["day_full"]
    await query(database, "UPDATE jobs SET next_claim_at = UTC_TIMESTAMP(6) + INTERVAL 1 DAY")  # it is not due yet
    assert await costs() == [1]


@pytest.mark.parametrize(
    "change, seconds",
    [
        ("SELECT 1", 20),
        ("UPDATE attempts SET at = UTC_TIMESTAMP(6) - INTERVAL 4 SECOND", 4),
        ("UPDATE daemons SET heartbeat_at = UTC_TIMESTAMP() - INTERVAL 1 MINUTE", 0),
        ("UPDATE daemons SET stopped_at = UTC_TIMESTAMP()", 0),
    ],
    ids=["nothing ends", "one ended", "its daemon is silent", "its daemon has stopped"],
)
async def test_how_long_messages_have_been_in_flight_and_none_has_ended(
    database: Database, change: str, seconds: int
) -> None:
    await post(database, recipients=3)
    await daemons(database, "D1", Heard()).heartbeat()
    ended, *_ = (await claims(database).claim(3)).messages
    await write(database, Outcome(ended, SENT))
    await query(database, "UPDATE attempts SET at = UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE")
    await query(database, "UPDATE job_recipients SET updated_at = UTC_TIMESTAMP(6) - INTERVAL 20 SECOND")
    await query(database, change)
    assert (await stats_reader(database).read()).awaiting_google == pytest.approx(seconds, abs=3)


async def test_what_a_command_did_is_read_however_much_applications_did_since(
    database: Database,
) -> None:
    insert = "INSERT INTO job_actions (action, actor, detail, changed, messages, at)"
    await query(database, f"{insert} VALUES ('suppress', 'command, ada', 'news', 1, 7, UTC_TIMESTAMP(6))")
    await query(
        database,
        f"{insert} SELECT 'suppress', 'key:shop', 'news', 1, 1, UTC_TIMESTAMP(6) FROM {numbers(4)} LIMIT 1500",
    )
    assert [(it.actor, it.messages) for it in (await look(database)).asked] == [("command, ada", 7)]
