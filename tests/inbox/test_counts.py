"""What many bounces together make of an address and of a sender; and what a lease and a budget allow."""

import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailerd.config import DatabaseSettings, Live
from mailerd.core.inbox_findings import Finding, Found, InboxCursor, SentElsewhere
from mailerd.core.notices import Classification, Kind
from mailerd.core.rate_limit import (
    LOOK_UNITS,
    MIN_ROUND,
    SHARE,
    UNITS,
    BudgetSpentError,
    RoundBudget,
    SenderLimits,
    counted_for,
    most_of_round,
)
from mailerd.core.replies import Call
from mailerd.core.results import Consequence, Result, Step
from mailerd.events.process import StoreEvents
from mailerd.sandbox.google import FakeGoogle, RunningServer
from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import READ_FOR, REST, Mailboxes, read_interval
from mailerd.store.inbox.record_findings import FindingsWriter, LeaseLostError
from mailerd.store.queue.rate_limits import DefaultLimits
from tests.inbox.place import ME, METADATA, arrive, read_up, reading
from tests.store.queue.test_claim import claims
from tests.store.queue.test_rate_limits import Shifted
from tests.support.beats import counting_beats
from tests.support.daemon import running
from tests.support.heard import Heard
from tests.support.in_doubt import in_doubt
from tests.support.rows import post, query

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


async def one_by_one(
    google: FakeGoogle, database: Database, heard: Heard, recipients: list[list[str]], shape: str
) -> None:
    """Jobs to these people, each sent, and mail of that shape about each message."""
    for number, people in enumerate(recipients, 1):
        await post(database, recipients=people)
        await heard.wait_for("job_finished", times=number)
        for message in google.sent[-len(people) :]:
            arrive(google, message, shape)
        await read_up(database, google)


async def test_a_message_that_bounces_twice_is_one_bounced_message_in_every_count(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=1)
        await heard.wait_for("job_finished")
        for shape in ("soft", "hard"):  # as of two mailboxes to which one server sends it on
            arrive(google, google.sent[0], shape)
            await read_up(database, google)
    assert await query(database, "SELECT result_kind FROM job_recipients") == [("hard",)]
    assert await query(database, "SELECT (SELECT bounced FROM jobs), SUM(bounced) FROM tallies") == [(1, 1)]


@pytest.mark.parametrize("times,suppressed", [(2, []), (3, ["ada@example.org"])])
async def test_the_third_soft_bounce_in_a_row_ends_an_address(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    times: int, suppressed: list[str],
) -> None:  # fmt: skip
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await one_by_one(google, database, heard, [["ada@example.org"]] * times, "soft")
    assert [row[0] for row in await query(database, "SELECT address FROM suppressions")] == suppressed


async def test_a_message_that_went_well_in_between_starts_the_count_anew(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await one_by_one(google, database, heard, [["ada@example.org"]] * 2, "soft")
        await post(database, recipients=["ada@example.org"])
        await heard.wait_for("job_finished", times=3)
        await post(database, recipients=["ada@example.org"])
        await heard.wait_for("job_finished", times=4)
        arrive(google, google.sent[-1], "soft")
        await read_up(database, google)
    assert await query(database, "SELECT address FROM suppressions") == []


@pytest.mark.parametrize("messages,cause", [(9, None), (10, "blocked")])
async def test_many_blocked_messages_pause_their_sender(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    messages: int, cause: str | None,
) -> None:  # fmt: skip
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await one_by_one(google, database, heard, [[f"r{n}@example.org" for n in range(messages)]], "blocked")
    assert await query(database, "SELECT pause_cause FROM senders") == [(cause,)]
    assert len(heard.of("sender_paused_by_notice")) == (cause is not None)
    assert await query(database, "SELECT address FROM suppressions") == []


@pytest.mark.parametrize("domains,cause", [(4, None), (5, "daily_limit")])
async def test_unknown_failures_at_many_domains_look_like_a_limit(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    domains: int, cause: str | None,
) -> None:  # fmt: skip
    known = reading(database_url, served, google, tmp_path / "c", scope=METADATA, inbox={"limit_pause": 60.0})
    async with running(known, heard):
        await one_by_one(google, database, heard, [[f"a@d{n}.example" for n in range(domains)]], "hard")
    assert await query(database, "SELECT pause_cause FROM senders") == [(cause,)]
    assert await query(database, "SELECT DISTINCT status FROM job_recipients") == [("sent",)]


async def test_one_reads_a_mailbox_at_a_time_and_who_lost_it_writes_nothing(database: Database) -> None:
    await query(database, "INSERT INTO mailboxes (email, next_at) VALUES (%s, UTC_TIMESTAMP(6))", ME)
    defaults = DefaultLimits(SenderLimits(6000, 0, 2000))
    boxes = Mailboxes(database, Live(defaults), lease_time=MINUTE, interval=MINUTE)
    writer = FindingsWriter(database, Live(defaults), "D", MINUTE, min_pause=MINUTE, undo=True)
    first = await boxes.lease(ME)
    assert first is not None
    assert await boxes.lease(ME) is None
    assert await boxes.due(4) == []
    await query(database, "UPDATE mailboxes SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
    second = await boxes.lease(ME)
    assert second is not None
    with pytest.raises(LeaseLostError):
        await writer.write(first, [], InboxCursor(5, 5), address_key=b"k" * 32)
    assert await query(database, "SELECT history_id FROM mailboxes") == [(None,)]
    await writer.write(second, [], InboxCursor(7, 7), address_key=b"k" * 32)
    assert await query(database, "SELECT history_id FROM mailboxes") == [(7,)]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("own", [None, 20_000])
async def test_reading_has_its_share_of_the_standard_tier_from_its_day_on(database_url: str, own: int | None) -> None:
    shifted = Shifted(DatabaseSettings(url=database_url), events=StoreEvents(Heard()))
    await query(shifted, "INSERT INTO senders (email, created_at, units_per_minute) VALUES (%s, NOW(), %s)", ME, own)
    await query(shifted, "INSERT INTO mailboxes (email, next_at) VALUES (%s, '2026-01-01')", ME)
    defaults = DefaultLimits(SenderLimits(15_000, 0, 0, standard=True))
    boxes, found = Mailboxes(shifted, Live(defaults), lease_time=MINUTE, interval=MINUTE), []
    for day in (30, 31, 32):
        shifted.at = datetime(2027, 3, 1, 12, tzinfo=UTC) + timedelta(days=day - 1)
        lease = await boxes.lease(ME)
        assert lease is not None
        found.append(lease.units_per_minute)
    await shifted.close()
    assert found == [own or 15_000, own or 15_000, 6000]


async def test_a_write_in_doubt_makes_known_that_it_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failover lasts longer than the watchdog waits for a word of a loop."""
    await query(database, "INSERT INTO mailboxes (email, next_at) VALUES (%s, UTC_TIMESTAMP(6))", ME)
    defaults = DefaultLimits(SenderLimits(6000, 0, 2000))
    lease = await Mailboxes(database, Live(defaults), lease_time=MINUTE, interval=MINUTE).lease(ME)
    assert lease is not None
    writer = FindingsWriter(database, Live(defaults), "D", MINUTE, min_pause=MINUTE, undo=True)
    heartbeat = counting_beats()
    with in_doubt(database, monkeypatch, tries=2):
        cursor = InboxCursor(7, 7)
        await writer.write(lease, [], cursor, address_key=b"k" * 32)
    assert heartbeat.since == 2
    assert await query(database, "SELECT history_id FROM mailboxes") == [(7,)]


@pytest.mark.parametrize(
    "since,wait",
    [(timedelta(0), MINUTE), (timedelta(hours=3), 5 * MINUTE), (timedelta(days=3), 30 * MINUTE),
     (READ_FOR + timedelta(hours=2), REST), (None, REST)],
)  # fmt: skip
def test_a_mailbox_is_read_less_often_the_longer_nothing_was_sent(since: timedelta | None, wait: timedelta) -> None:
    assert read_interval(since, busy=MINUTE) == wait


NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "units,idle,spent,left",
    [(6000, False, [], 60), (6000, False, [(59, 40)], 20), (6000, False, [(61, 40)], 60),
     (6000, True, [(59, 60)], 1140),
     (1500, False, [(230, 40)], 20), (1500, False, [(250, 40)], 60), (0, False, [(1, 999)], None)],
)  # fmt: skip
def test_a_round_has_what_is_left_of_a_hundredth_while_messages_wait(
    units: int, *, idle: bool, spent: list[tuple[int, int]], left: float | None
) -> None:
    books = [(NOW - timedelta(seconds=seconds), used) for seconds, used in spent]
    assert RoundBudget.of_round(units, idle=idle, spent=books, today=0, now=NOW).left == left


@pytest.mark.parametrize(
    "today,idle,left", [(0, True, 1200), (85_400, True, 1000), (86_390, False, 10), (90_000, True, 0)]
)
def test_no_day_holds_more_than_a_hundredth(today: int, *, idle: bool, left: float) -> None:
    assert RoundBudget.of_round(6000, idle=idle, spent=[], today=today, now=NOW).left == left


@pytest.mark.parametrize(
    "idle,used,today,unread,left",
    [(False, 0, 0, 0, 58), (False, 0, 0, 1, 58), (False, 0, 0, 5, 200), (False, 0, 0, 53, 598),
     (False, 500, 0, 53, 98), (False, 700, 0, 53, LOOK_UNITS - 2), (False, 0, 86_200, 53, 198), (True, 0, 0, 53, 1198)],
)  # fmt: skip
def test_a_minute_has_more_the_more_came_back_unread_up_to_a_tenth(
    idle: int, used: int, today: int, unread: int, left: float
) -> None:
    books = [(NOW - timedelta(seconds=30), used)]
    budget = RoundBudget.of_round(6000, idle=bool(idle), spent=books, today=today, now=NOW)
    budget.spend(Call.HISTORY_LIST)
    budget.widen(unread)
    assert budget.left == left


def test_a_spent_budget_ends_the_round() -> None:
    budget = RoundBudget.of_round(6000, idle=False, spent=[], today=0, now=NOW)
    for _ in range(3):
        budget.spend(Call.MESSAGES_GET)
    with pytest.raises(BudgetSpentError):
        budget.spend(Call.HISTORY_LIST)
    assert budget.used == 60


@pytest.mark.parametrize("units", [6000, 15_000, 1500])
@pytest.mark.parametrize("seed", range(5))
def test_no_minute_holds_more_than_the_share_wherever_it_begins(units: int, seed: int) -> None:
    chance, books, calls = random.Random(seed), list[tuple[datetime, int]](), list[tuple[datetime, int]]()
    now, span = NOW, counted_for(units)
    while now < NOW + 40 * span:
        budget = RoundBudget.of_round(units, idle=False, spent=books, today=0, now=now)
        with suppress(BudgetSpentError):
            budget.require(MIN_ROUND)
            for _ in range(chance.randrange(1, 200)):
                call = chance.choice((Call.HISTORY_LIST, Call.MESSAGES_LIST, Call.MESSAGES_GET))
                budget.spend(call)
                calls.append((now, UNITS[call]))
                now += timedelta(seconds=chance.uniform(0, 3))
        books.append((now, budget.used))
        now += timedelta(seconds=chance.uniform(0, 90))
    worst = max(sum(used for at, used in calls if start <= at < start + span) for start, _ in calls)
    share = units * SHARE * (span / MINUTE)
    assert 0.7 * share < worst <= share


async def test_what_a_dead_round_may_have_used_counts_as_used(database: Database) -> None:
    await query(database, "INSERT INTO mailboxes (email, next_at) VALUES (%s, UTC_TIMESTAMP(6))", ME)
    defaults = DefaultLimits(SenderLimits(6000, 0, 2000))
    boxes = Mailboxes(database, Live(defaults), lease_time=MINUTE, interval=MINUTE)
    first = await boxes.lease(ME)
    assert first is not None
    await boxes.release(first, state="read", scope="readonly", units=42)
    second = await boxes.lease(ME)
    assert second is not None
    assert [used for _, used in second.spent] == [42]
    await query(database, "UPDATE mailboxes SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
    third = await boxes.lease(ME)
    assert third is not None
    assert third.today == 42 + most_of_round(6000)
    left = RoundBudget.of_round(6000, idle=True, spent=third.spent, today=third.today, now=third.now).left
    assert left == LOOK_UNITS
    await query(database, "UPDATE mailbox_units SET at = at - INTERVAL 25 HOUR")
    await boxes.release(third, state="read", scope="readonly", units=2)
    fourth = await boxes.lease(ME)
    assert fourth is not None
    assert fourth.today == 2


async def test_what_is_written_again_changes_nothing(database: Database) -> None:
    """As after a COMMIT whose answer was lost."""
    await post(database, recipients=["ada@example.org"])
    await query(database, "UPDATE job_recipients SET status = 'sent', thread_id = 't', message_id = 'm'")
    await query(database, "INSERT INTO mailboxes (email, next_at) VALUES (%s, UTC_TIMESTAMP(6))", ME)
    defaults = DefaultLimits(SenderLimits(6000, 0, 2000))
    boxes = Mailboxes(database, Live(defaults), lease_time=MINUTE, interval=MINUTE)
    writer = FindingsWriter(database, Live(defaults), "D", MINUTE, min_pause=MINUTE, undo=True)
    lease = await boxes.lease(ME)
    assert lease is not None
    (message,) = (await boxes.messages_in(ME, {"t"}))["t"]
    hard = Classification(Kind.HARD, "5.1.1", "no such user", ("ada@example.org",))
    found: list[Found] = [
        Finding("g1", "t", lease.now, message, hard, Consequence(Result.BOUNCED, Step.SUPPRESS)),
        SentElsewhere("g2", "u", lease.now),
    ]
    first = await writer.write(lease, found, InboxCursor(5, 5), address_key=b"k" * 32)
    again = await writer.write(lease, found, InboxCursor(5, 5), address_key=b"k" * 32)
    assert (len(first.fresh), len(first.changed), again.fresh, again.changed) == (2, 1, [], [])
    counted = (
        "SELECT (SELECT bounced FROM jobs), (SELECT SUM(elsewhere) FROM sender_hours), (SELECT COUNT(*) FROM notices)"
    )
    assert await query(database, counted) == [(1, 1, 2)]
    assert await query(database, "SELECT COUNT(*) FROM events WHERE type = 'recipient.bounced'") == [(1,)]


async def test_a_limit_notice_about_a_message_that_was_deleted_meanwhile_is_noted(
    database: Database,
) -> None:
    await post(database, recipients=["ada@example.org"])
    await query(database, "UPDATE job_recipients SET status = 'sent', thread_id = 't', message_id = 'm'")
    await query(database, "INSERT INTO mailboxes (email, next_at) VALUES (%s, UTC_TIMESTAMP(6))", ME)
    defaults = DefaultLimits(SenderLimits(6000, 0, 2000))
    boxes = Mailboxes(database, Live(defaults), lease_time=MINUTE, interval=MINUTE)
    writer = FindingsWriter(database, Live(defaults), "D", MINUTE, min_pause=MINUTE, undo=True)
    lease = await boxes.lease(ME)
    assert lease is not None
    (message,) = (await boxes.messages_in(ME, {"t"}))["t"]
    await query(database, "DELETE FROM job_recipients")
    limit = Classification(Kind.OVER_LIMIT, "5.4.5", "You have reached a limit for sending mail.")
    found = [Finding("g1", "t", lease.now, message, limit, Consequence(None, Step.UNDO))]
    done = await writer.write(lease, found, InboxCursor(5, 5), address_key=b"k" * 32)
    assert (done.undone, await query(database, "SELECT gmail_id FROM notices")) == ([], [("g1",)])


async def test_messages_of_the_person_use_up_the_day_of_mailerd(database: Database) -> None:
    await post(database, recipients=10)
    await query(
        database,
        "INSERT INTO sender_hours (sender_email, hour, messages, elsewhere) "
        "VALUES (%s, DATE_FORMAT(UTC_TIMESTAMP(), '%%Y-%%m-%%d %%H:00:00'), 2, 5)",
        ME,
    )
    claim = await claims(database, allowance=SenderLimits(0, 0, 10)).claim(20)
    assert len(claim.messages) == 3
