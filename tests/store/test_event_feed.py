"""The feed of events: an event for each change and no other, in an order that has no gap, however commits fall."""

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aiomysql
import pytest
from yarl import URL

from mailerd.config import DatabaseSettings
from mailerd.core.claims import Outcome
from mailerd.core.decisions import Decision, Pause
from mailerd.core.extras import Extras
from mailerd.core.rate_limit import SenderLimits
from mailerd.core.states import JobChange, Transition
from mailerd.core.suppression import Channel, Reason
from mailerd.core.verdicts import PauseCause
from mailerd.core.webhooks import EventType
from mailerd.events.process import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.connection import Cursor, Statement
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.queue.record import RecordWriter
from mailerd.store.read.audit import audit
from mailerd.store.write import event_feed
from mailerd.store.write.event_feed import EventFeed, FeedEvent, NewEvent, UnknownPositionError, insert_events
from mailerd.store.write.job_actions import JobActions
from mailerd.store.write.sender_actions import SenderActions
from mailerd.store.write.suppressions import NewSuppression, Suppressions
from mailerd.store.write.suppressions import add as add_suppressions
from tests.store.queue.test_claim import claims
from tests.store.queue.test_record import SENT, one_message, write
from tests.store.queue.test_undo_sent import believed, take_back
from tests.support.dialect import plan
from tests.support.doubtful import RESULTS, Disposition, Doubtful
from tests.support.heard import PATIENCE, Heard
from tests.support.proxy import Proxy
from tests.support.rows import post, query

FAILED = Decision(Transition.FAILED, error="no such address")
DEFERRED = Decision(Transition.DEFERRED, error="busy", wait=timedelta(seconds=30))


@pytest.fixture
async def other(database_url: str, database: Database) -> AsyncIterator[aiomysql.Connection]:
    """A connection of another daemon, which may stop in the midst of a transaction."""
    assert database.where
    url = URL(database_url)
    connection = await aiomysql.connect(
        host=url.host, port=url.port, user=url.user, password=url.password or "", db=url.path[1:],
        init_command="SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    )  # fmt: skip
    yield connection
    connection.close()


async def seen(database: Database, after: int = 0, limit: int = 1000) -> list[FeedEvent]:
    return (await EventFeed(database, timeout=5).page(after=after, limit=limit)).events


async def types(database: Database) -> list[str]:
    return [it.type.value for it in await seen(database)]


def made(cause: str) -> NewEvent:
    return NewEvent(EventType.JOB_PAUSED, cause, {"n": cause})


async def add(database: Database, cause: str, *, delay: float = 0.0) -> None:
    async def work(cursor: Cursor) -> None:
        await cursor.execute(*insert_events([made(cause)]))
        await asyncio.sleep(delay)

    await database.transaction(work, what="test")


async def begin(connection: aiomysql.Connection, cause: str) -> None:
    await connection.begin()
    async with connection.cursor() as cursor:
        await cursor.execute(*insert_events([made(cause)]))


async def test_what_is_committed_late_comes_later_and_holds_up_nothing(
    database: Database, other: aiomysql.Connection
) -> None:
    await begin(other, "first")  # a daemon that is frozen here, for as long as you like
    await add(database, "second")
    (second,) = await seen(database)
    assert (second.position, second.data) == (1, {"n": "second"})
    await add(database, "third")
    assert [it.data["n"] for it in await seen(database)] == ["second", "third"]
    await other.commit()
    assert [(it.position, it.data["n"]) for it in await seen(database, after=2)] == [(3, "first")]
    assert await query(database, "SELECT id FROM events ORDER BY position") == [(2,), (3,), (1,)]


async def test_what_is_rolled_back_leaves_no_gap(database: Database, other: aiomysql.Connection) -> None:
    await begin(other, "never")
    await add(database, "one")
    await other.rollback()
    await add(database, "two")
    assert [it.position for it in await seen(database)] == [1, 2]


async def test_a_daemon_that_is_frozen_while_it_gives_places_holds_up_no_reader(
    database: Database, other: aiomysql.Connection
) -> None:
    await add(database, "one")
    assert len(await seen(database)) == 1
    await other.begin()
    async with other.cursor() as cursor:
        await cursor.execute(event_feed._LOCK)
    await add(database, "two")
    assert [it.data["n"] for it in await asyncio.wait_for(seen(database), PATIENCE)] == ["one"]
    await other.rollback()
    assert [it.data["n"] for it in await seen(database)] == ["one", "two"]


async def test_a_daemon_that_is_frozen_while_it_repeats_an_event_holds_up_no_reader(
    database: Database, other: aiomysql.Connection
) -> None:
    await add(database, "one")
    await begin(other, "one")  # it is there: the row stays as it is, and is locked
    await add(database, "two")
    assert [it.data["n"] for it in await asyncio.wait_for(seen(database), PATIENCE)] == ["two"]
    await other.commit()
    assert [it.data["n"] for it in await seen(database)] == ["two", "one"]


async def read_along(database: Database, stop: asyncio.Event) -> list[FeedEvent]:
    """What a client sees that reads all the time, until `stop` and once more."""
    found: list[FeedEvent] = []
    while True:
        last = stop.is_set()
        while page := await seen(database, after=found[-1].position if found else 0, limit=7):
            found += page
        if last:
            return found
        await asyncio.sleep(0.005)


async def test_many_writers_and_readers_at_once(database: Database) -> None:
    wrote = {writer: [f"{writer}-{number}" for number in range(15)] for writer in range(6)}
    dice = random.Random(7)

    async def write_all(causes: list[str]) -> None:
        for cause in causes:
            await add(database, cause, delay=dice.random() / 50)

    stop = asyncio.Event()
    readers = [asyncio.create_task(read_along(database, stop)) for _ in range(3)]
    await asyncio.gather(*map(write_all, wrote.values()))
    await seen(database)
    stop.set()
    for found in await asyncio.gather(*readers):
        assert [it.position for it in found] == list(range(1, 6 * 15 + 1))
        names = [it.data["n"] for it in found]
        for writer, causes in wrote.items():  # written one after the other, so also in the feed
            assert [name for name in names if name.startswith(f"{writer}-")] == causes


async def test_more_than_a_batch_gets_its_places_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_feed, "BATCH", 3)
    for number in range(8):
        await add(database, str(number))
    assert [it.data["n"] for it in await seen(database)] == [str(number) for number in range(8)]


async def test_a_page_says_where_the_next_one_begins_also_where_it_is_empty(database: Database) -> None:
    for number in range(5):
        await add(database, str(number))
    feed = EventFeed(database, timeout=5)
    page = await feed.page(after=0, limit=2)
    assert ([it.position for it in page.events], page.next_after) == ([1, 2], 2)
    page = await feed.page(after=2, limit=100)
    assert ([it.position for it in page.events], page.next_after) == ([3, 4, 5], 5)
    page = await feed.page(after=0, limit=100, senders={"me@example.com"})
    assert (page.events, page.next_after) == ([], 5)
    page = await feed.page(after=0, limit=100, types={EventType.JOB_FINISHED})
    assert (page.events, page.next_after) == ([], 5)


async def test_a_key_for_many_senders_reads_them_in_one_order_and_sorts_no_more_than_a_page_of_each(
    database: Database,
) -> None:
    for number in range(60):
        it = NewEvent(EventType.JOB_PAUSED, str(number), {}, sender=f"s{number % 4}@example.com")
        await query(database, *_spread(insert_events([it])))
    feed, mine, after = EventFeed(database, timeout=5), {"s1@example.com", "s3@example.com"}, 0
    found: list[int] = []
    while (page := await feed.page(after=after, limit=7, senders=mine)).events:
        found += [it.position for it in page.events]
        after = page.next_after
    assert found == list(range(2, 61, 2))
    assert (await feed.page(after=0, limit=7, senders=set())).events == []
    statement, values = event_feed._page(0, 60, 7, (), mine)
    reads = [row for row in await plan(database, statement, values) if row["table"] == "events"]
    assert [row["key"] for row in reads] == ["sender", "sender"]
    assert not any("filesort" in (row["Extra"] or "") for row in reads)


def _spread(statement: Statement) -> tuple[Any, ...]:
    return statement[0], *statement[1]


async def test_a_database_that_was_restored_from_before_is_told_and_not_passed_over(database: Database) -> None:
    await add(database, "one")
    with pytest.raises(UnknownPositionError, match="events after ID 1"):
        await EventFeed(database, timeout=5).page(after=9, limit=1)


async def test_a_message_that_failed_has_its_event_in_the_same_commit_and_a_sent_one_has_none(
    database: Database,
) -> None:
    job = await post(database, recipients=3)
    messages = (await claims(database).claim(3)).messages
    await write(database, Outcome(messages[0], SENT), Outcome(messages[1], FAILED))
    (event,) = await seen(database)
    assert (event.type, event.job_id, event.sender) == (EventType.RECIPIENT_FAILED, job, "me@example.com")
    assert event.data == {
        "recipient_id": messages[1].id, "job_id": job, "index": 1, "email": "r1@example.org",
        "sender_email": "me@example.com", "attempts": 1, "reason": "no such address",
    }  # fmt: skip
    # One by one, since the first row does not take its record any more.
    await write(database, Outcome(messages[0], SENT), Outcome(messages[2], FAILED))
    assert [it.data["index"] for it in await seen(database)] == [1, 2]


@pytest.mark.parametrize("others", [0, 1])
async def test_a_record_that_was_in_doubt_is_repeated_without_a_second_event(database: Database, others: int) -> None:
    await post(database, recipients=2)
    first, second = (await claims(database).claim(2)).messages
    records = [Outcome(first, FAILED), *[Outcome(second, SENT)][:others]]
    await write(database, *records)
    await write(database, *records)
    await write(database, *records)
    assert await types(database) == ["recipient.failed"]


async def test_a_message_that_fails_anew_after_a_retry_has_an_event_anew(database: Database) -> None:
    message = await one_message(database)
    await write(database, Outcome(message, FAILED))
    await actions(database).apply(message.job_id, JobChange.RETRY, actor="x")
    (again,) = (await claims(database).claim(1)).messages
    await write(database, Outcome(again, FAILED))
    assert await types(database) == ["recipient.failed"] * 2


async def test_a_worker_that_was_fenced_off_writes_no_event(database: Database) -> None:
    message = await one_message(database)
    await query(database, "UPDATE job_recipients SET claim_token = %s", "0" * 26)
    await write(database, Outcome(message, FAILED))
    assert await types(database) == []


def actions(database: Database) -> JobActions:
    return JobActions(database, timeout=5, late_arrival=timedelta(seconds=60))


async def test_what_is_asked_of_a_job_has_an_event_where_it_changes_something(database: Database) -> None:
    job = await post(database, recipients=2)
    for change in (JobChange.PAUSE, JobChange.PAUSE, JobChange.RESUME, JobChange.CANCEL, JobChange.CANCEL):
        await actions(database).apply(job, change, actor="key shop")
    paused, cancelled, finished = await seen(database)
    assert [it.type.value for it in (paused, cancelled, finished)] == ["job.paused", "job.cancelled", "job.finished"]
    assert paused.data == {
        "job_id": job,
        "sender_email": "me@example.com",
        "reference": None,
        "actor": "key shop",
        "cause": "manual",
    }
    assert finished.data == {
        "job_id": job, "sender_email": "me@example.com", "reference": None, "status": "cancelled", "total": 2,
        "sent": 0, "failed": 0, "cancelled": 2,
    }  # fmt: skip


async def test_a_cancelled_job_finishes_with_its_last_message(database: Database) -> None:
    message = await one_message(database)
    await actions(database).apply(message.job_id, JobChange.CANCEL, actor="x")
    assert await types(database) == ["job.cancelled"]
    await write(database, Outcome(message, SENT))
    await RecordWriter(database, "D1").complete_jobs([message.job_id])
    await RecordWriter(database, "D1").complete_jobs([message.job_id])
    assert await types(database) == ["job.cancelled", "job.finished"]


@pytest.mark.parametrize("retried", [False, True], ids=["at once", "after a retry of an earlier end"])
async def test_a_cancelled_job_counts_what_its_messages_became(database: Database, *, retried: bool) -> None:
    job = await post(database, recipients=2)
    sent, other = (await claims(database).claim(2)).messages
    await write(database, Outcome(sent, SENT))
    await write(database, Outcome(other, FAILED if retried else DEFERRED))
    if retried:
        await RecordWriter(database, "D1").complete_jobs([job])
        await actions(database).apply(job, JobChange.RETRY, actor="x")
    await actions(database).apply(job, JobChange.CANCEL, actor="x")
    assert await query(database, "SELECT status, sent, failed FROM jobs") == [("cancelled", 1, 0)]
    assert (await audit(database))[1] == []


@pytest.mark.parametrize("result", RESULTS)
async def test_a_job_finishes_once_though_the_answer_to_its_commit_was_lost(
    mariadb: Server, database: Database, database_url: str, result: Disposition
) -> None:
    message = await one_message(database)
    await write(database, Outcome(message, SENT))
    async with Proxy(mariadb.port) as proxy:
        doubtful = Doubtful(database_url, proxy)
        doubtful.results["jobs.complete"] = result
        assert len(await RecordWriter(doubtful, "D1").complete_jobs([message.job_id])) == 1
        await doubtful.close()
    assert await types(database) == ["job.finished"]


async def test_a_sent_message_that_is_taken_back_has_an_event(database: Database) -> None:
    doubt = await believed(database)
    await take_back(database, doubt)
    await take_back(database, doubt)
    (event,) = await seen(database)
    assert (event.type.value, event.data["recipient_id"]) == ("recipient.sent_undone", doubt.id)


async def test_pauses_and_their_ends_have_events_and_a_prolonged_pause_has_none(database: Database) -> None:
    await post(database, recipients=3)
    messages = (await claims(database).claim(3)).messages
    for number, message in enumerate(messages[:2]):
        pause = Pause(PauseCause.TOKEN_REFUSED, "the sign-in was refused", timedelta(seconds=60 + number))
        await write(database, Outcome(message, Decision(Transition.RELEASED, error="x", pause=pause)))
    (event,) = await seen(database)
    assert (event.type.value, event.sender) == ("sender.paused", "me@example.com")
    assert event.data["cause"] == "token_refused"
    assert "mailerd auth login --sender me@example.com" in event.data["reason"]
    assert event.data["until"].endswith("Z")
    await query(database, "UPDATE senders SET paused_until = UTC_TIMESTAMP(6), next_claim_at = UTC_TIMESTAMP(6)")
    await query(database, "UPDATE jobs SET next_claim_at = UTC_TIMESTAMP(6)")
    await query(database, "UPDATE job_recipients SET due_at = UTC_TIMESTAMP(6)")
    (probe,) = (await claims(database).claim(3)).messages
    assert probe.probing
    await write(database, Outcome(probe, SENT))
    assert await types(database) == ["sender.paused", "sender.resumed"]


async def test_a_pause_by_a_person_has_an_event_and_so_has_its_end(database: Database) -> None:
    it = SenderActions(database, DefaultLimits(SenderLimits(0, 0, 0)))
    for _ in range(2):
        await it.pause("me@example.com", lasts=None, reason="holiday", actor="T")
    for _ in range(2):
        await it.resume("me@example.com", actor="T")
    paused, resumed = await seen(database)
    assert paused.data == {"sender_email": "me@example.com", "cause": "manual", "reason": "holiday", "until": None}
    assert (resumed.type.value, resumed.data["cause"]) == ("sender.resumed", "manual")


async def test_who_leaves_has_an_event_with_the_message_whose_link_was_used(database: Database) -> None:
    message = await one_message(database)
    it = Suppressions(database, key=b"k" * 32, timeout=5)
    news = await it.make_list("news")
    digest = it.digest("r0@example.org")
    left = NewSuppression(
        digest, news.id, Reason.UNSUBSCRIBED, Channel.ONE_CLICK, "r0@example.org", recipient_id=message.id
    )
    first = asyncio.Event()

    async def slow(cursor: Cursor) -> None:
        await add_suppressions(cursor, [left])
        first.set()
        await asyncio.sleep(0.3)

    async with asyncio.TaskGroup() as both:  # the second did not see the row of the first, and waits for it
        both.create_task(database.transaction(slow, what="test"))
        await first.wait()
        both.create_task(it.add([left]))
    await it.add([left])
    (event,) = await seen(database)
    assert (event.type.value, event.sender, event.job_id) == (
        "recipient.unsubscribed", "me@example.com", message.job_id
    )  # fmt: skip
    assert event.data["email"] == "r0@example.org"
    assert (event.data["list"], event.data["source"], event.data["index"]) == ("news", "one_click", 0)
    await it.remove(digest, list_id=news.id, source=Channel.PAGE)
    await it.add([left])
    assert len(await seen(database)) == 2
    await it.add([NewSuppression(digest, 0, Reason.IMPORTED, Channel.IMPORT)])
    assert len(await seen(database)) == 2


@pytest.mark.parametrize("when, there", [("before", []), ("after", ["job.cancelled", "job.finished"])])
async def test_kill_9_at_the_commit_leaves_the_change_and_its_event_or_neither(
    database: Database, database_url: str, when: str, there: list[str]
) -> None:
    job = await post(database, recipients=2)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.store.dying_writer", database_url, job, when
    )
    assert await asyncio.wait_for(process.wait(), PATIENCE) == -signal.SIGKILL
    assert await query(database, "SELECT status FROM jobs FOR UPDATE") == [("cancelled",) if there else ("queued",)]
    assert await types(database) == there
    await actions(database).apply(job, JobChange.CANCEL, actor="its successor")
    assert await types(database) == ["job.cancelled", "job.finished"]


async def test_a_database_that_takes_no_writes_serves_what_has_a_place(database: Database, database_url: str) -> None:
    await add(database, "one")
    assert len(await seen(database)) == 1
    await add(database, "two")
    reader = Database(DatabaseSettings(url=database_url), events=StoreEvents(Heard()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_feed, "_LOCK", "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290, MESSAGE_TEXT = 'read only'")
        assert [it.data["n"] for it in await seen(reader)] == ["one"]
    await reader.close()
    assert [it.data["n"] for it in await seen(database)] == ["one", "two"]


async def given(database: Database) -> list[dict[str, Any]]:
    """What the application gave, as the events have it."""
    names = ("metadata", "job_metadata", "tags")
    return [{name: it.data[name] for name in names if name in it.data} for it in await seen(database)]


async def failed_message(database: Database, **options: Any) -> None:
    await post(database, recipients=1, **options)
    (message,) = (await claims(database).claim(1)).messages
    await write(database, Outcome(message, FAILED))


async def test_an_event_has_the_metadata_of_its_message_and_of_its_job_and_the_tags(database: Database) -> None:
    of_job = Extras(metadata='{"campaign":"größer, \\"x\\"}"}')
    await failed_message(database, extras=of_job, own=Extras(metadata='{"customer":"c_81"}'), tags=["b", "a"])
    assert await given(database) == [
        {"metadata": {"customer": "c_81"}, "job_metadata": {"campaign": 'größer, "x"}'}, "tags": ["a", "b"]}
    ]
    assert (await seen(database))[0].data["email"] == "r0@example.org"


async def test_what_was_not_given_is_not_in_an_event(database: Database) -> None:
    await failed_message(database)
    await failed_message(database, own=Extras(metadata='{"a":"1"}'))
    await failed_message(database, tags=["t"])
    assert await given(database) == [{}, {"metadata": {"a": "1"}}, {"tags": ["t"]}]


async def test_an_event_of_a_job_has_what_its_job_was_posted_with(database: Database) -> None:
    job = await post(database, extras=Extras(metadata='{"a":"1"}'), own=Extras(metadata='{"b":"2"}'), tags=["t"])
    await JobActions(database, timeout=5, late_arrival=timedelta(0)).apply(job, JobChange.CANCEL, actor="T")
    expected = {"job_metadata": {"a": "1"}, "tags": ["t"]}
    assert await given(database) == [expected, expected]


async def test_many_events_get_theirs_each_its_own_in_few_statements(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_feed, "_ADDED_AT_ONCE", 2)
    for n in range(5):
        await failed_message(database, own=Extras(metadata=f'{{"n":"{n}"}}'))
    assert [it["metadata"]["n"] for it in await given(database)] == ["0", "1", "2", "3", "4"]
