"""The database's clock goes back: what was to wait for a moment of the clock that was ahead goes on."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailerd.config import Live
from mailerd.core.rate_limit import MIN_ROUND, RoundBudget, SenderLimits
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import Mailboxes
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.write import clock_steps, sender_changes
from mailerd.store.write.job_actions import JobActions
from mailerd.store.write.webhooks import NewEndpoint, Webhooks
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.replayed import daemons, replayed
from tests.support.rows import post, query

PACE = DefaultLimits(SenderLimits(6000, 0, 2000))
AHEAD = "+ INTERVAL 8 HOUR"
TOLD = "database_clock_back"


def claimer(database: Database) -> Claims:
    return Claims(database, "D1", timedelta(seconds=60), Live(PACE), replayed(database))


async def seconds_ahead(database: Database, *columns: str, table: str = "senders") -> list[float]:
    asked = ", ".join(f"TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), {column}) / 1e6" for column in columns)
    (row,) = await query(database, f"SELECT {asked} FROM {table}")
    return [float(value) for value in row]


async def clock_goes_back(database: Database) -> None:
    """As if all that is there had been written by a clock that was eight hours ahead."""
    await query(database, f"UPDATE daemons SET heartbeat_at = heartbeat_at {AHEAD}")
    await query(
        database,
        f"UPDATE jobs SET next_claim_at = next_claim_at {AHEAD}, bounces_seen = UTC_TIMESTAMP(6) {AHEAD}, "
        f"braked_until = UTC_TIMESTAMP(6) {AHEAD}",
    )
    await query(
        database,
        f"UPDATE senders SET next_claim_at = next_claim_at {AHEAD}, tat = tat {AHEAD}, "
        f"bounces_seen = UTC_TIMESTAMP(6) {AHEAD}",
    )
    await query(database, f"UPDATE sender_hours SET hour = hour {AHEAD}")
    await query(
        database,
        "INSERT INTO webhook_deliveries (webhook_id, position, status, attempts, created_at, due_at) "
        f"SELECT id, 1, 'waiting', 0, UTC_TIMESTAMP(6) {AHEAD}, UTC_TIMESTAMP(6) {AHEAD} FROM webhooks",
    )
    await query(database, f"INSERT INTO mailboxes (email, next_at) VALUES ('me@example.com', UTC_TIMESTAMP(6) {AHEAD})")


@pytest.mark.parametrize("daemon_that_sees_it", ["the same", "a new one"])
async def test_a_sender_does_not_wait_for_a_moment_of_the_clock_that_was_ahead(
    database: Database, heard: Heard, daemon_that_sees_it: str
) -> None:
    daemon = daemons(database, "D1", heard)
    await daemon.heartbeat()
    await Webhooks(database, timeout=5).create(NewEndpoint("shop", "https://example.com/"), actor="test")
    await post(database, recipients=3)
    assert len((await claimer(database).claim(1)).messages) == 1
    await clock_goes_back(database)
    assert await claimer(database).due_in() > 7 * 3600
    if daemon_that_sees_it == "a new one":
        daemon = daemons(database, "D1", heard)
    else:
        assert daemon._clock is not None
        daemon._clock = (daemon._clock[0] + timedelta(hours=8), daemon._clock[1])
    await daemon.heartbeat()
    assert [it["seconds"] for it in heard.of(TOLD)] == [pytest.approx(8 * 3600, abs=60)]
    assert await claimer(database).due_in() == 0
    await claimer(database).claim(1)  # the minute's allowance is used up
    assert await claimer(database).due_in() < 70
    assert (await seconds_ahead(database, "tat"))[0] <= 60
    assert (await seconds_ahead(database, "bounces_seen"))[0] <= 0
    assert (await seconds_ahead(database, "next_at", table="mailboxes"))[0] <= 0
    assert await query(database, "SELECT bounces_seen <= UTC_TIMESTAMP(6), braked_until FROM jobs") == [(1, None)]
    assert (await seconds_ahead(database, "due_at", table="webhook_deliveries"))[0] <= 0
    assert await query(database, "SELECT messages, hour <= UTC_TIMESTAMP() FROM sender_hours") == [(1, 1)]
    await daemon.heartbeat()
    assert len(heard.of(TOLD)) == 1


async def test_messages_that_were_posted_by_the_clock_that_was_ahead_do_not_wait_for_it(
    database: Database, heard: Heard
) -> None:
    """A job of many messages has most of them still before it, at Google's pace."""
    at_once, later = await post(database, recipients=3), await post(database, recipients=2)
    it = daemons(database, "D1", heard)
    await it.heartbeat()
    await query(database, f"UPDATE jobs SET created_at = created_at {AHEAD}, send_at = send_at {AHEAD}")
    await query(database, f"UPDATE jobs SET send_at = send_at + INTERVAL 1 DAY WHERE id = '{later}'")
    await query(
        database, "UPDATE job_recipients r JOIN jobs j ON j.id = r.job_id SET r.due_at = j.send_at WHERE r.seq <> 1"
    )
    own = "UPDATE job_recipients SET send_at = UTC_TIMESTAMP(6) + INTERVAL 30 SECOND WHERE job_id = %s AND seq = 2"
    await query(database, own, at_once)
    await query(
        database, "UPDATE job_recipients r JOIN jobs j ON j.id = r.job_id SET r.due_at = j.send_at + INTERVAL 1 MINUTE "
        "WHERE r.seq = 1"
    )  # fmt: skip
    await clock_steps.repair(database)
    assert await query(database, "SELECT id FROM jobs WHERE send_at <= UTC_TIMESTAMP(6)") == [(at_once,)]
    due = await query(database, "SELECT job_id, seq FROM job_recipients WHERE due_at <= UTC_TIMESTAMP(6)")
    assert due == [(at_once, 0)], "neither what a client has put off nor what waits for a later try"
    assert await query(database, "SELECT due_at = send_at FROM job_recipients WHERE send_at IS NOT NULL") == [(1,)]


async def test_a_time_that_a_client_gave_while_the_clock_was_ahead_stays(database: Database) -> None:
    job = await post(database, recipients=3)
    await query(database, f"UPDATE jobs SET created_at = created_at {AHEAD}, send_at = send_at {AHEAD}")
    asked = "SELECT created_at - INTERVAL 10 MINUTE FROM jobs"
    ((at,),) = await query(database, asked)
    await JobActions(database, timeout=10, late_arrival=timedelta(seconds=1)).change(
        job, {"send_at": at.replace(tzinfo=UTC)}, actor="x"
    )
    await clock_steps.repair(database)
    assert await query(database, "SELECT DISTINCT send_at FROM jobs") == [(at,)]
    assert await query(database, "SELECT DISTINCT due_at FROM job_recipients") == [(at,)]


async def test_an_inbox_that_was_read_by_the_clock_that_was_ahead_is_read_on(database: Database) -> None:
    mailboxes = Mailboxes(database, Live(PACE), lease_time=timedelta(seconds=60), interval=timedelta(seconds=60))
    me = "me@example.com"
    add = f"INSERT INTO mailboxes (email, next_at, lease_until) VALUES (%s, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) {AHEAD})"
    await query(database, add, me)  # its reader has died
    for minutes in (0, 1):
        await query(
            database,
            f"INSERT INTO mailbox_units VALUES (%s, UTC_TIMESTAMP(6) {AHEAD} + INTERVAL %s MINUTE, 30)", me, minutes,
        )  # fmt: skip
    await query(database, "INSERT INTO mailbox_units VALUES (%s, UTC_TIMESTAMP(6) - INTERVAL 3 HOUR, 5)", me)
    await clock_steps.repair(database)
    assert (await seconds_ahead(database, "lease_until", table="mailboxes"))[0] <= 3600
    await query(database, "UPDATE mailboxes SET lease_until = NULL")
    lease = await mailboxes.lease(me)
    assert lease is not None
    budget = RoundBudget.of_round(PACE.default.units_per_minute, idle=False, spent=lease.spent, today=0, now=lease.now)
    budget.require(MIN_ROUND)
    assert lease.today == 5


async def test_a_clock_that_goes_on_changes_nothing(database: Database, heard: Heard) -> None:
    daemon = daemons(database, "D1", heard)
    await post(database, recipients=3)
    await claimer(database).claim(1)
    before = await query(database, "SELECT next_claim_at, tat FROM senders")
    await daemons(database, "D2").heartbeat()
    await daemon.heartbeat()
    await daemon.heartbeat()
    assert heard.of(TOLD) == []
    assert await query(database, "SELECT next_claim_at, tat FROM senders") == before


async def test_a_daemon_that_was_stopped_behind_the_answer_takes_it_for_no_step(
    database: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = daemons(database, "D1", heard)
    await daemon.heartbeat()
    stopped, monotonic, transaction = 0.0, time.monotonic, database.transaction

    async def stops(*arguments: Any, **options: Any) -> Any:
        nonlocal stopped
        done = await transaction(*arguments, **options)
        stopped += 300.0
        return done

    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + stopped)
    monkeypatch.setattr(database, "transaction", stops)
    await daemon.heartbeat()
    await daemon.heartbeat()
    assert heard.of(TOLD) == []


async def test_two_daemons_that_see_it_at_once_count_no_message_twice(database: Database) -> None:
    await post(database, recipients=3)
    await claimer(database).claim(1)
    await query(database, f"UPDATE sender_hours SET hour = hour {AHEAD}")
    moved, commit = asyncio.Event(), asyncio.Event()

    async def first(cursor: Cursor) -> None:
        await sender_changes.move_hours_back(cursor)
        moved.set()
        await commit.wait()

    async def second_waits() -> bool:
        asked = "SELECT COUNT(*) FROM information_schema.processlist WHERE command = 'Query' AND info LIKE %s"
        ((number,),) = await query(database, asked, "%sender_hours%")
        return int(number) > 1  # this look is one of them

    one = asyncio.create_task(database.transaction(first, what="test"))
    await moved.wait()
    two = asyncio.create_task(clock_steps.repair(database))
    await eventually(second_waits)
    commit.set()
    await asyncio.gather(one, two)
    assert await query(database, "SELECT messages, hour <= UTC_TIMESTAMP() FROM sender_hours") == [(1, 1)]


async def test_what_could_not_be_put_right_is_put_right_at_the_next_heartbeat(
    database: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = daemons(database, "D1", heard)
    await daemon.heartbeat()
    assert daemon._clock is not None
    daemon._clock = (daemon._clock[0] + timedelta(hours=1), daemon._clock[1])
    ahead: datetime = daemon._clock[0]

    async def refused(*_: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as during:
        during.setattr("mailerd.store.write.clock_steps.repair", refused)
        with pytest.raises(RuntimeError):
            await daemon.heartbeat()
    assert heard.of(TOLD) == []
    await daemon.heartbeat()
    assert len(heard.of(TOLD)) == 1
    assert daemon._clock[0] < ahead
