"""Every query that a page of the console asks is read by an index, and looks at few rows more than it shows."""

from datetime import UTC, datetime, timedelta

import pytest

from mailerd.core.rate_limit import SenderLimits
from mailerd.core.results import MessageOutcome, Result
from mailerd.core.states import State
from mailerd.core.suppression import Reason
from mailerd.core.webhooks import DeliveryStatus
from mailerd.model.suppressions import Place
from mailerd.store.db.connection import Cursor, Statement
from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import BOUNCE_KINDS, READ_OF_MESSAGES, counts_statement, latest_statement
from mailerd.store.queue import rate_limits
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.read import console_queries, forecast_inputs, senders, stats
from mailerd.store.read.console_queries import undone_statement
from mailerd.store.read.earlier_jobs import READ_VARIABLES
from mailerd.store.read.job_report import (
    COUNT_RESULTS,
    COUNT_UNSUBSCRIBED,
    JobReports,
    listed,
    outcomes,
)
from mailerd.store.read.jobs import Jobs
from mailerd.store.read.recipients import messages_statement, recipients_statement
from mailerd.store.read.senders import Senders, readings_statement
from mailerd.store.write.suppressions import LISTS, Origins, page_statement
from mailerd.store.write.webhooks import deliveries_statement
from tests.support.dialect import plan
from tests.support.rows import post, query

JOB = "0" * 26
HOOK = "1" * 26
MESSAGES = 3_000
ME = "me@example.com"
MINE = "j.sender_email IN %s"
AS_ME = "j.from_address IN %s"
MINE_AND_OWN = frozenset({ME, "key:1"})
SPAN = timedelta(days=14)


def ask(result: Result | None = None, *, status: State | None = None, email: str | None = None) -> Statement:
    return recipients_statement(JOB, status=status, after=5, limit=51, email=email, result=result)


def suppressed(
    *,
    list_id: int | None = None,
    reason: Reason | None = None,
    after: Place | None = None,
    origins: Origins = None,
) -> Statement:
    return page_statement(list_id=list_id, reason=reason, after=after, limit=51, origins=origins)


def part(outcome: MessageOutcome | None, text: str = "") -> Statement:
    return recipients_statement(JOB, after=5, limit=51, email=None, **listed(outcome, text=text, after=5))


STATEMENTS: list[tuple[str, Statement, set[str]]] = [
    ("failures", (console_queries.FAILURES, (JOB,)), {"claim", "event_of_claim"}),
    ("recipients", ask(), {"message"}),
    ("recipients in a state", ask(status=State.SENT), {"message", "claim"}),
    ("a recipient by address", ask(email="r7@example.org"), {"person"}),
    ("recipients with a result", ask(Result.BOUNCED), {"job", "PRIMARY", "message", "recipient"}),
    ("one of them by address", ask(Result.BOUNCED, email="r7@example.org"), {"person"}),
    ("what became of all", (COUNT_RESULTS, (JOB, JOB)), {"job", "PRIMARY", "<auto_key0>", "key0", "<derived2>"}),
    ("who unsubscribed", (COUNT_UNSUBSCRIBED, (7, datetime(2026, 1, 1, tzinfo=UTC), JOB)), {"by_list", "PRIMARY"}),
    ("those without a reply", part(MessageOutcome.NO_REPLY), {"message", "claim"}),
    ("those that bounced softly", part(MessageOutcome.BOUNCED_SOFT), {"job", "PRIMARY", "message", "recipient"}),
    ("variables of its people", (READ_VARIABLES, ((1, 2, 3),)), {"PRIMARY"}),
    ("a part of a name", part(None, "ada"), {"message", "claim"}),
    ("jobs in progress", console_queries.open_jobs_statement("progress", None), {"finished"}),
    ("scheduled jobs of mine", console_queries.open_jobs_statement("scheduled", {ME}), {"finished"}),
    ("jobs with unsure messages", console_queries.open_jobs_statement("unsure", None), {"finished", "claim"}),
    ("jobs by the end of their id", (console_queries.JOBS_ENDING, ("123456",)), {"PRIMARY"}),
    ("what was undone", undone_statement(51, None, None), {"cause", "PRIMARY"}),
    ("what was undone of mine", undone_statement(51, 99, {ME}), {"cause", "PRIMARY"}),
    # MySQL gives the derived table a key of its own.
    ("jobs with failures", (console_queries.FAILED_JOBS, (20_000, 500)), {"PRIMARY", "<auto_key0>"}),
    ("how attempts go", (rate_limits.READ_ATTEMPTS.format(mine="TRUE"), ()), {"at", "PRIMARY", "by_status"}),
    ("which jobs failed", (stats.READ_FAILED_JOBS.format(mine="TRUE"), (ME, 20, 10)),
     {"finished_of_sender", "claim", "PRIMARY"}),
    ("which of mine failed", (stats.READ_FAILED_JOBS.format(mine=AS_ME), (ME, (ME,), 20, 10)),
     {"finished_of_sender", "claim", "PRIMARY"}),
    ("through which mailboxes I send", stats.mailboxes_statement((ME, "sales@example.com")), {"by_from"}),
    ("how many of mine failed", (stats.COUNT_ENDED.format(mine=AS_ME), ((ME,),)), {"at", "PRIMARY"}),
    ("how deferred ones go", (rate_limits.READ_DEFERRED, (ME, JOB)), {"claim", "event_of_claim"}),
    ("what was sent since", (rate_limits.READ_SENT_SINCE, (datetime(2026, 1, 1, tzinfo=UTC), (ME,))), {"PRIMARY"}),
    ("how mine go", (rate_limits.READ_ATTEMPTS.format(mine=MINE), ((ME,), (ME,))), {"at", "PRIMARY", "by_status"}),
    ("what waits of a job", (forecast_inputs._READ_JOBS, ((JOB,),) * 3), {"claim", "PRIMARY", "<auto_key0>"}),
    ("why a job waits", (forecast_inputs._READ_FIRST, (JOB, JOB)), {"claim", "PRIMARY"}),
    ("bounces", latest_statement(BOUNCE_KINDS, None, 51), {"PRIMARY"}),
    ("bounces of a sender", latest_statement(BOUNCE_KINDS, [ME], 51, before=900), {"by_sender", "PRIMARY"}),
    ("bounded replies of mine", latest_statement(["reply"], [ME], 51, after=700, before=900), {"PRIMARY"}),
    ("bounces of a job", latest_statement(BOUNCE_KINDS, None, 51, job=JOB, after=0, before=900), {"job"}),
    ("notices of messages", (READ_OF_MESSAGES, ((1, 2, 3), 51)), {"recipient"}),
    ("pauses of a sender", (console_queries.PAUSES, (ME, 20)), {"cause", "PRIMARY"}),
    ("bounces by domain", counts_statement(SPAN, None, 20_000, by_sender=False), {"PRIMARY"}),
    ("bounces by sender", counts_statement(SPAN, None, 20_000, by_sender=True), {"PRIMARY"}),
    ("bounces of one sender", counts_statement(SPAN, ME, 20_000, by_sender=True), {"by_sender"}),
    ("bounces of a sender by domain", counts_statement(SPAN, ME, 20_000, by_sender=False), {"by_sender"}),
    ("a page of senders", readings_statement(None, "m@example.com", 101), {"PRIMARY"}),
    ("a page of some senders", readings_statement([ME, "you@example.com"], "", 101), {"PRIMARY"}),
    ("what waits for a sender, and when", (senders._COUNT_DUE, (ME, ME, ME, 10_000)), {"next_claim", "claim"}),
    ("what the next message costs", (stats.READ_NEXT_COST.format(mine="TRUE"), (ME, ME)), {"next_claim", "claim"}),
    ("deliveries", deliveries_statement(HOOK, None, None, 51), {"PRIMARY", "position"}),
    ("deliveries in a state", deliveries_statement(HOOK, 900, DeliveryStatus.FAILED, 51), {"undelivered", "position"}),
    ("suppressions", suppressed(), {"age", "PRIMARY"}),
    ("suppressions further on", suppressed(after=(datetime(2026, 1, 1, tzinfo=UTC), b"x", 0, "")), {"age", "PRIMARY"}),
    ("suppressions of a list", suppressed(list_id=7), {"by_list", "PRIMARY"}),
    ("suppressions for a reason", suppressed(reason=Reason.COMPLAINED), {"by_reason", "PRIMARY"}),
    ("of a key: suppressions", suppressed(origins=MINE_AND_OWN), {"by_origin", "PRIMARY"}),
    (
        "of a key: suppressions further on",
        suppressed(origins=MINE_AND_OWN, list_id=7, after=(datetime(2026, 1, 1, tzinfo=UTC), b"x", 0, ME)),
        {"by_origin", "PRIMARY"},
    ),
    ("lists", (LISTS, ("list-5", 51)), {"name"}),
    ("how templates are used", (console_queries.USES.format(senders=""), ()), {"PRIMARY", "<derived2>"}),
    ("how mine are used", (console_queries.USES.format(senders=f"AND {AS_ME}"), ((ME,),)), {"PRIMARY", "<derived2>"}),
    ("whom a template wrote to", (console_queries.LATEST_READERS.format(senders=""), ("order",)),
     {"PRIMARY", "message"}),
    ("a person", messages_statement("r7@example.org", before=None, limit=51, senders=None), {"person", "PRIMARY"}),
]  # fmt: skip


@pytest.fixture
async def filled(database: Database) -> Database:
    """A job of many messages with their results, and events, notices and deliveries of each."""
    job = await post(database, sender=ME, recipients=MESSAGES)
    for table in ("jobs", "job_recipients"):
        column = "id" if table == "jobs" else "job_id"
        await query(database, f"UPDATE {table} SET {column} = %s WHERE {column} = %s", JOB, job)
    await query(database, "UPDATE job_recipients SET status = 'sent', result = 'bounced' WHERE seq >= 1000")
    await query(database, "UPDATE job_recipients SET status = 'failed', error = 'no' WHERE seq < 500")
    await query(
        database,
        "INSERT INTO notices (mailbox, sender_email, gmail_id, thread_id, recipient_id, job_id, email, kind, believed, "
        "at) SELECT %s, %s, id, id, id, job_id, to_email, 'hard', 1, UTC_TIMESTAMP(6) FROM job_recipients "
        "WHERE result = 'bounced'",
        ME,
        ME,
    )
    await query(
        database,
        "INSERT INTO events (uid, type, cause, job_id, sender_email, data, at, position) SELECT LPAD(id, 30, '0'), "
        "IF(MOD(seq, 3), 'recipient.failed', 'recipient.sent_undone'), id, job_id, %s, '{}', UTC_TIMESTAMP(6), id "
        "FROM job_recipients",
        ME,
    )
    await query(
        database,
        "INSERT INTO webhook_deliveries (webhook_id, position, status, attempts, created_at, due_at) SELECT %s, "
        "position, IF(MOD(position, 50), 'delivered', 'failed'), 1, at, at FROM events",
        HOOK,
    )
    await query(
        database,
        "INSERT INTO lists (name, created_at) SELECT CONCAT('list-', seq), UTC_TIMESTAMP(6) FROM job_recipients "
        "WHERE seq < 1000",
    )
    await query(
        database,
        "INSERT INTO suppressions (digest, list_id, origin, reason, source, address, created_at) "
        "SELECT UNHEX(LEFT(SHA2(seq, 256), 32)), MOD(seq, 1001), IF(MOD(seq, 2), %s, ''), 'manual', 'api', to_email, "
        "UTC_TIMESTAMP(6) - INTERVAL seq SECOND FROM job_recipients",  # MySQL 9.7 knows no MD5
        ME,
    )
    await query(
        database, "ANALYZE TABLE jobs, job_recipients, notices, events, webhook_deliveries, lists, suppressions"
    )
    return database


async def test_every_query_of_a_page_is_read_by_an_index(filled: Database) -> None:
    for name, statement, keys in STATEMENTS:
        rows = await plan(filled, *statement)
        # Of each recipient that is read, its job is looked up for the copies, by its id.
        rows = [
            row
            for row in rows
            if row["table"] and (row["table"], row["type"], row["key"]) != ("o", "eq_ref", "PRIMARY")
        ]
        used = {row["key"] for row in rows if row["key"] or str(row["table"]).isidentifier()}
        assert used <= keys, (name, rows)
        sorts = any("filesort" in str(row["Extra"]) for row in rows)
        assert not (sorts and name.startswith("suppressions")), (name, "a page would cost as much as the whole table")
        sorts = any(row["key"] == "by_origin" and "filesort" in str(row["Extra"]) for row in rows)
        assert not sorts, (name, "a page would cost as much as all that the key sees")


async def test_a_page_of_messages_with_a_result_begins_where_it_is_asked_to(filled: Database) -> None:
    jobs = Jobs(filled, timeout=5)
    for after in (-1, 999, 2500):
        found = await jobs.recipients(JOB, status=None, after=after, limit=50, result=Result.BOUNCED)
        first = max(after + 1, 1000)
        assert [it.index for it in found] == list(range(first, first + 50))
    rows = await plan(filled, *ask(Result.BOUNCED))
    assert not any(word in (row["Extra"] or "") for row in rows for word in ("filesort", "temporary")), rows


async def test_a_message_with_two_notices_is_one_message(filled: Database) -> None:
    await query(
        filled,
        "INSERT INTO notices (mailbox, gmail_id, thread_id, recipient_id, job_id, email, kind, believed, at) "
        "SELECT mailbox, CONCAT('x', gmail_id), thread_id, recipient_id, job_id, email, 'soft', 1, at FROM notices",
    )
    found = await Jobs(filled, timeout=5).recipients(JOB, status=None, after=-1, limit=50, result=Result.BOUNCED)
    assert [it.index for it in found] == list(range(1000, 1050))
    found = await Jobs(filled, timeout=5).recipients(JOB, status=None, after=-1, limit=50, result=Result.REPLIED)
    assert found == []


async def test_what_waits_for_a_sender_is_counted_up_to_a_bound(
    filled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "MAX_COUNTED", 100)
    it = Senders(filled, DefaultLimits(SenderLimits(0, 0, 0)))
    assert [each.inputs.messages for each in await it.page(only=None, limit=9, aliases=None)] == [100]
    assert [each.inputs.messages for each in await it.all()] == [500]


async def test_few_notices_of_a_kind_are_looked_for_in_no_more_rows_than_a_page_may(filled: Database) -> None:
    rows = await plan(filled, *latest_statement(["reply"], None, 51, after=1_900, before=2_000))
    assert all(row["type"] == "range" and int(row["rows"]) <= 150 for row in rows), rows
    assert not any("filesort" in str(row["Extra"]) for row in rows), rows


async def test_a_report_reads_what_came_back_and_not_what_was_sent(filled: Database) -> None:
    await query(filled, "UPDATE job_recipients SET result = NULL WHERE seq >= 1020")
    await query(
        filled, "DELETE FROM notices WHERE recipient_id NOT IN (SELECT id FROM job_recipients WHERE result > '')"
    )

    async def read_rows(cursor: Cursor) -> int:
        await cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(int(value) for _, value in await cursor.fetchall())

    async def work(cursor: Cursor) -> int:
        before = await read_rows(cursor)
        await cursor.execute(COUNT_RESULTS, (JOB, JOB))
        assert list(await cursor.fetchall()) == [("bounced", None, 20)]
        return await read_rows(cursor) - before

    read = await filled.request(work, what="test")
    assert read < 20 * 10, read
    job = await Jobs(filled, timeout=5).job(JOB)
    assert job is not None
    found = outcomes(job, await JobReports(filled, 5).results(JOB))
    assert sum(found.values()) == job.total == MESSAGES
    assert {outcome: n for outcome, n in found.items() if n} == {
        MessageOutcome.BOUNCED_UNKNOWN: 20, MessageOutcome.NO_REPLY: 1980,
        MessageOutcome.WAITING: 500, MessageOutcome.FAILED: 500,
    }  # fmt: skip
