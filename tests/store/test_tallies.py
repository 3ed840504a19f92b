"""Tallies: counted once in the commit of the outcomes, rolled into hours, and read by the index."""

from datetime import UTC, datetime, timedelta

import pytest

from mailerd.core.claims import ALONE_AFTER, FAILED_AFTER_ALONE, Outcome, Record
from mailerd.core.decisions import Decision
from mailerd.core.states import State, Tally, Transition
from mailerd.store.db.database import Database
from mailerd.store.queue.record import RecordWriter
from mailerd.store.queue.recovery import settle
from mailerd.store.read import stats
from mailerd.store.read.stats import Tallies
from mailerd.store.write import tallies
from mailerd.store.write.retention import OldMinutes
from tests.store.queue.test_claim import claims
from tests.store.queue.test_failover import Daemon
from tests.store.queue.test_record import FORGOTTEN_CLAIM
from tests.store.queue.test_recovery import LAPSE, lapses
from tests.support.dialect import plan
from tests.support.handover import handover
from tests.support.heard import Heard
from tests.support.rows import post, query

_CRASHES = ALONE_AFTER + FAILED_AFTER_ALONE - 1
SUMS = "SELECT SUM(sent), SUM(failed), SUM(put_off), SUM(unsure) FROM tallies"


async def record(database: Database, *records: Record) -> None:
    it = RecordWriter(database, "D1")
    await database.transaction(lambda cursor: it.record(cursor, records), what="record")


async def test_each_outcome_is_counted_in_its_own_commit_and_once(database: Database) -> None:
    await post(database, recipients=5)
    messages = (await claims(database).claim(5)).messages
    changes = (Transition.SENT, Transition.FAILED, Transition.DEFERRED, Transition.LOST, Transition.SENT)
    outcomes = [
        Outcome(message, Decision(change, error="why", message_id=f"m{message.id}", wait=timedelta(minutes=1)))
        for message, change in zip(messages, changes, strict=True)
    ]
    await record(database, *outcomes)
    assert await query(database, SUMS) == [(2, 1, 1, 1)]
    await record(database, *outcomes)  # as after a COMMIT without an answer
    await record(database, *outcomes)  # a worker that has lost its claims
    assert await query(database, SUMS) == [(2, 1, 1, 1)]


async def test_a_claim_that_lapses_is_counted_by_what_became_of_its_message(database: Database) -> None:
    await post(database, recipients=3)
    handed, waits, worn = (await claims(database).claim(3)).messages
    await record(database, handover(handed, "d1", "t1"))
    await query(database, "UPDATE job_recipients SET crashes = %s WHERE id = %s", _CRASHES, worn.id)
    await query(database, LAPSE)
    assert {it.id: it.status for it in await lapses(database).recover()} == {
        handed.id: State.UNSURE, waits.id: State.WAITING, worn.id: State.FAILED,
    }  # fmt: skip
    assert await query(database, SUMS) == [(0, 1, 1, 1)]


async def test_an_answer_that_comes_late_is_counted_once(database: Database) -> None:
    """The row was unsure, as its claim had lapsed, and the chart said so."""
    await post(database, recipients=1)
    (message,) = (await claims(database).claim(1)).messages
    await record(database, handover(message, "d1", "t1"))
    await query(database, LAPSE)
    await lapses(database).recover()
    late = Outcome(message, Decision(Transition.SENT, message_id="m1"))
    await record(database, late)
    assert await query(database, SUMS) == [(1, 0, 0, 1)]
    await record(database, late)
    await record(database, late)
    assert await query(database, SUMS) == [(1, 0, 0, 1)]


@pytest.mark.parametrize("known, sums", [(Transition.SENT, (1, 0, 0, 0)), (Transition.LOST, (0, 0, 0, 1))])
async def test_what_the_log_knows_of_a_message_that_is_not_handed_over_is_counted_once(
    database: Database, known: Transition, sums: tuple[int, ...]
) -> None:
    await post(database, recipients=1)
    (message,) = (await claims(database).claim(1)).messages
    await query(
        database, "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, "
        "message_id, at) VALUES (%s, 1, 'T0', 'D0', %s, %s, UTC_TIMESTAMP(6))",
        message.id, known.value, "m0" if known is Transition.SENT else None,
    )  # fmt: skip
    await record(database, handover(message, "d1", "t1"))
    assert await query(database, SUMS) == [sums]
    await record(database, handover(message, "d1", "t1"))
    assert await query(database, SUMS) == [sums]


@pytest.mark.parametrize("known, sums", [(Transition.SENT, (1, 0, 0, 0)), (Transition.LOST, (0, 0, 0, 1))])
async def test_what_a_failover_had_forgotten_is_counted_again(
    database: Database, known: Transition, sums: tuple[int, ...]
) -> None:
    """The database has forgotten the tally with the message."""
    await post(database, recipients=1)
    one = Daemon(database, "D1", Heard())
    (message,) = await one.ready(1)
    one.replay_log.remember(Outcome(message, Decision(known, error="why", message_id="m1")))
    await query(database, FORGOTTEN_CLAIM)
    one.meets_another()
    assert await one.ready(1) == ()
    assert await query(database, SUMS) == [sums]


async def test_a_doubt_that_comes_to_a_row_that_has_forgotten_its_claim_is_counted(database: Database) -> None:
    await post(database, recipients=1)
    (message,) = (await claims(database).claim(1)).messages
    await query(database, FORGOTTEN_CLAIM)
    lost = Outcome(message, Decision(Transition.LOST, error="no answer"))
    await record(database, lost)
    await record(database, lost)
    assert await query(database, SUMS) == [(0, 0, 0, 1)]


async def test_what_a_person_settles_as_sent_is_counted(database: Database) -> None:
    await post(database, recipients=2)
    messages = (await claims(database).claim(2)).messages
    await record(database, *(Outcome(it, Decision(Transition.LOST, error="no answer")) for it in messages))
    for message, change in zip(messages, (Transition.FOUND, Transition.MISSING), strict=True):
        await settle(database, message.id, change=change, actor="ada")
    assert await query(database, SUMS) == [(1, 0, 0, 2)]


async def test_what_is_rolled_back_is_not_counted(database: Database) -> None:
    await post(database, recipients=1)
    (message,) = (await claims(database).claim(1)).messages
    it = RecordWriter(database, "D1")

    async def work(cursor: object) -> None:
        await it.record(cursor, [Outcome(message, Decision(Transition.SENT, message_id="m"))])  # type: ignore[arg-type]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.transaction(work, what="record")
    assert await query(database, "SELECT COUNT(*) FROM tallies") == [(0,)]


async def fill(database: Database, *, hours_ago: int, minutes: int) -> None:
    for minute in range(minutes):
        await query(
            database,
            "INSERT INTO tallies (minute, sender_email, daemon, sent, bounced) VALUES ("
            "DATE_FORMAT(UTC_TIMESTAMP() - INTERVAL %s HOUR, '%%Y-%%m-%%d %%H:00:00') + INTERVAL %s MINUTE, "
            "'me@example.com', %s, 2, 1)",
            hours_ago, minute, f"D{minute % 2}",
        )  # fmt: skip


async def test_after_a_day_the_minutes_of_an_hour_are_one_row_and_nothing_is_lost(database: Database) -> None:
    it = Tallies(database)
    for hours_ago in (1, 60, 61):
        await fill(database, hours_ago=hours_ago, minutes=4)
    before = await it.hours(timedelta(days=14))
    rounds = 0
    while (await OldMinutes().delete(database)).more:
        rounds += 1
    assert rounds == 2
    assert await query(database, "SELECT COUNT(*), SUM(sent), SUM(bounced) FROM tally_hours") == [(2, 16, 8)]
    assert await query(database, "SELECT COUNT(*) FROM tallies") == [(4,)]
    after = await it.hours(timedelta(days=14))
    assert [point.counts[Tally.SENT] for point in after] == [8, 8, 8]
    assert len(before) == 1  # minutes beyond the day are seen once they are rolled
    await fill(database, hours_ago=60, minutes=1)  # a daemon that was frozen for two days
    assert (await OldMinutes().delete(database)).more
    assert await query(database, "SELECT SUM(sent) FROM tally_hours") == [(18,)]


async def test_only_the_senders_that_are_asked_for(database: Database) -> None:
    await fill(database, hours_ago=1, minutes=1)
    it, day = Tallies(database), timedelta(days=1)
    for senders, points in ((None, 1), ({"me@example.com"}, 1), ({"you@x.org"}, 0), (set[str](), 0)):
        assert len(await it.minutes(day, senders=senders)) == points


@pytest.mark.parametrize("senders", [None, {"me@example.com"}])
async def test_a_chart_reads_its_own_minutes_by_the_primary_key(database: Database, senders: set[str] | None) -> None:
    for hours_ago in (0, 12, 24):
        await fill(database, hours_ago=hours_ago, minutes=60)
    await query(database, "ANALYZE TABLE tallies")
    since = datetime.now(UTC).replace(tzinfo=None, minute=0, second=0, microsecond=0)
    (found,) = await plan(database, *stats.points_statement(stats._READ_MINUTES, since, senders))
    assert (found["key"], found["type"]) == ("PRIMARY", "range")
    assert int(found["rows"]) <= 70
    (oldest,) = await plan(database, tallies._OLDEST_MINUTE, (49,))
    assert oldest["key"] == "PRIMARY" or not oldest["rows"]
