"""Tallies: counted once in the commit of the outcomes, rolled into hours, and read by the index."""

from datetime import UTC, datetime, timedelta

import pytest

from mailerd.core.decisions import Decision
from mailerd.core.models import Outcome
from mailerd.core.states import Transition
from mailerd.store import tallies
from mailerd.store.db.database import Database
from mailerd.store.queue.record import RecordWriter
from mailerd.store.tallies import Tallies, Tally
from tests.store.queue.test_claim import claims
from tests.support.dialect import plan
from tests.support.rows import post, query

SUMS = "SELECT SUM(sent), SUM(failed), SUM(put_off), SUM(unsure) FROM tallies"


async def record(database: Database, *outcomes: Outcome, repeated: bool = False) -> None:
    it = RecordWriter(database, "D1")
    await database.transaction(lambda cursor: it.record(cursor, outcomes, repeated=repeated), what="record")


async def test_each_outcome_is_counted_in_its_own_commit_and_once(database: Database) -> None:
    await post(database, recipients=5)
    letters = (await claims(database).claim(5)).letters
    changes = (Transition.SENT, Transition.FAILED, Transition.DEFERRED, Transition.LOST, Transition.SENT)
    outcomes = [
        Outcome(letter, Decision(change, error="why", message_id=f"m{letter.id}", wait=timedelta(minutes=1)))
        for letter, change in zip(letters, changes, strict=True)
    ]
    await record(database, *outcomes)
    assert await query(database, SUMS) == [(2, 1, 1, 1)]
    await record(database, *outcomes, repeated=True)  # as after a COMMIT without an answer
    await record(database, *outcomes)  # a worker that has lost its claims
    assert await query(database, SUMS) == [(2, 1, 1, 1)]


async def test_what_is_rolled_back_is_not_counted(database: Database) -> None:
    await post(database, recipients=1)
    (letter,) = (await claims(database).claim(1)).letters
    it = RecordWriter(database, "D1")

    async def work(cursor: object) -> None:
        await it.record(cursor, [Outcome(letter, Decision(Transition.SENT, message_id="m"))], repeated=False)  # type: ignore[arg-type]
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
    while await it.prune():
        rounds += 1
    assert rounds == 2
    assert await query(database, "SELECT COUNT(*), SUM(sent), SUM(bounced) FROM tally_hours") == [(2, 16, 8)]
    assert await query(database, "SELECT COUNT(*) FROM tallies") == [(4,)]
    after = await it.hours(timedelta(days=14))
    assert [point.counts[Tally.SENT] for point in after] == [8, 8, 8]
    assert len(before) == 1  # minutes beyond the day are seen once they are rolled
    await fill(database, hours_ago=60, minutes=1)  # a daemon that was frozen for two days
    assert await it.prune()
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
    (found,) = await plan(database, *tallies.points_statement(tallies._READ_MINUTES, since, senders))
    assert (found["key"], found["type"]) == ("PRIMARY", "range")
    assert int(found["rows"]) <= 70
    (oldest,) = await plan(database, tallies._OLDEST_MINUTE, (49,))
    assert oldest["key"] == "PRIMARY" or not oldest["rows"]
