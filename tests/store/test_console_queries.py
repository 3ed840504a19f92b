"""The console's queries: each is read by an index, and none counts all messages; sessions; failures by their cause."""

import time
from datetime import timedelta

import pytest

from mailerd.core.states import JobChange, JobStatus
from mailerd.store.db.database import Database
from mailerd.store.read import console_queries, previews
from mailerd.store.read.console_queries import (
    MAX_CAUSES,
    ActionFilter,
    ConsoleQueries,
    actions_statement,
    doubts_statement,
    group_failures,
    replies_statement,
)
from mailerd.store.read.jobs import JobFilter, Jobs
from mailerd.store.write import api_keys
from mailerd.store.write.api_keys import ApiKeys, Sessions, digest
from mailerd.store.write.job_actions import JobActions
from tests.support.dialect import plan
from tests.support.own_time import at_this_speed
from tests.support.rows import post, query, states

JOBS = 40


async def fill(database: Database) -> str:
    jobs = [await post(database, recipients=60, sender=f"s{number % 4}@example.com") for number in range(JOBS)]
    job = jobs[-1]
    actions = JobActions(database, timeout=5, late_arrival=timedelta(0))
    for _ in range(30):
        await actions.apply(job, JobChange.PAUSE, actor="key:shop via console")
    await query(
        database, "UPDATE job_recipients SET status = 'failed', attempts = 1, error = 'no' WHERE job_id = %s", job
    )
    await query(
        database,
        "UPDATE jobs SET status = 'completed', finished_at = created_at WHERE id < %s ORDER BY id LIMIT 30",
        job,
    )
    await query(database, "ANALYZE TABLE jobs, job_recipients, job_actions, sessions, api_keys")
    return job


async def test_every_query_is_read_by_an_index_and_reads_what_it_shows(database: Database) -> None:
    job = await fill(database)
    for statement, keys in (
        ((console_queries.FAILURES, (job,)), {"claim", "event_of_claim"}),
        ((previews.READ, (7,)), {"PRIMARY"}),
        (doubts_statement(50, None), {"finished", "claim"}),
        (doubts_statement(50, {"s1@example.com"}), {"finished", "claim"}),
        (actions_statement(51, None, None), {"PRIMARY"}),
        (actions_statement(51, 20, {"s1@example.com"}), {"PRIMARY"}),
        (actions_statement(51, 20, None, ActionFilter(actor="shop", about=job)), {"PRIMARY"}),
        (replies_statement("n.at", "", {"s1@example.com"}), {"PRIMARY"}),
        ((api_keys._FIND, (digest("x"),)), {"PRIMARY", None}),
    ):
        rows = await plan(database, *statement)
        used = {row["key"] for row in rows if not str(row["table"]).startswith("<")}
        assert used <= keys, (statement, rows)
        messages = [row for row in rows if row["table"] == "job_recipients" or row["table"] == "r"]
        assert all(int(row["rows"] or 0) <= 130 for row in messages), (statement, rows)
        assert not any("filesort" in (row["Extra"] or "") for row in rows if row["table"] != "<derived2>"), rows


async def test_jobs_whose_messages_are_too_many_are_listed_without_counts(database: Database) -> None:
    large = await post(database, recipients=300)
    small = await post(database, recipients=3)
    jobs = await Jobs(database, timeout=5).newest(before=None, limit=9, senders=None, counted=100)
    assert {job.id: sum(job.counts.values()) for job in jobs} == {large: 0, small: 3}
    all_of_them = await Jobs(database, timeout=5).newest(before=None, limit=9, senders=None)
    assert {job.id: sum(job.counts.values()) for job in all_of_them} == {large: 300, small: 3}
    assert not await Jobs(database, timeout=5).newest(
        before=None, limit=9, senders=None, only=JobFilter(status=JobStatus.PAUSED), counted=0
    )


def test_reasons_that_differ_in_addresses_and_numbers_are_one_cause() -> None:
    rows = [
        ("no value for name of a@b.example", 5), ("no value for name of a@b.example", 6),
        ("no value for name of c@d.example", 3), (None, 7),
        *(("400 Invalid To header", id_) for id_ in (9, 10, 11, 12)),
    ]  # fmt: skip
    first, second, third = group_failures((id_, int(id_ < 10), said, None, None) for said, id_ in rows)
    assert (first.messages, first.text, first.example) == (4, "400 Invalid To header", 9)
    assert (second.messages, second.text, second.example) == (3, "no value for name of …", 3)
    assert second.errors == {"no value for name of a@b.example", "no value for name of c@d.example"}
    assert third.messages == 1
    assert [it.retriable for it in (first, second, third)] == [1, 3, 1]


async def test_only_the_messages_of_one_cause_are_retried(database: Database) -> None:
    job = await post(database, recipients=6)
    await query(
        database,
        "UPDATE job_recipients SET status = 'failed', attempts = 3, "
        "error = IF(seq < 4, CONCAT('no ', to_email), 'other')",
    )
    await query(database, "UPDATE jobs SET status = 'completed', finished_at = UTC_TIMESTAMP(6)")
    causes = await ConsoleQueries(database).failures(job)
    done = await JobActions(database, timeout=5, late_arrival=timedelta(0)).apply(
        job, JobChange.RETRY, actor="key:shop via console", errors=causes[0].errors
    )
    assert (done.changed, done.messages) == (True, 4)
    assert await states(database, job) == {"waiting": 4, "failed": 2}
    assert await query(database, "SELECT actor FROM job_actions") == [("key:shop via console",)]


@pytest.mark.parametrize("what", ["kept", "revoked", "rotated", "rotated with an overlap", "overlap over"])
async def test_a_session_is_as_good_as_its_key(database: Database, what: str) -> None:
    keys, it = ApiKeys(database, timeout=5), Sessions(database, 5)
    shown = await keys.create("shop", senders=["me@example.com"])
    key = await keys.active(digest(shown))
    assert key is not None
    secret = await it.create(key, ip="127.0.0.1")
    match what:
        case "revoked":
            await keys.revoke("shop")
        case "rotated":
            await keys.rotate("shop", overlap=timedelta(0))
        case "rotated with an overlap" | "overlap over":
            await keys.rotate("shop", overlap=timedelta(hours=1))
        case _:
            pass
    if what == "overlap over":
        await query(database, "UPDATE api_keys SET old_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
    found = await it.key_of(secret)
    ends = what in {"revoked", "rotated", "overlap over"}
    assert ((found is None), not await it.is_open(secret)) == (ends, ends)
    assert found is None or found.senders == frozenset({"me@example.com"})
    assert await query(database, "SELECT COUNT(*) FROM sessions WHERE digest = %s", secret) == [(0,)]  # only a digest


def test_long_words_are_grouped_in_the_time_of_reading_them() -> None:
    rows = [(f"{number:b}".translate({48: "a", 49: "b"}).rjust(250, "a") + ": unknown field", number)
            for number in range(2_000)]  # fmt: skip
    took = []
    for _ in range(3):  # the collector of garbage may run beside one of them
        began = time.thread_time()
        assert len(group_failures((id_, 1, said, None, None) for said, id_ in rows)) == MAX_CAUSES
        took.append(time.thread_time() - began)
    assert min(took) < at_this_speed(0.3)
