"""Two keys and a mailbox with an alias: each sees its own jobs, and how the mailbox goes that both send through."""

from collections.abc import Collection

from mailerd.core.reading import Condition
from mailerd.core.reasons import in_row, reason
from mailerd.core.situation import Facts, situation
from mailerd.core.states import State
from mailerd.core.stats import QueueStats
from mailerd.store.db.database import Database
from tests.store.test_stats import stats_reader
from tests.support.rows import post, query

MAILBOX, ALIAS = "me@example.com", "sales@example.com"
_TRIED = (
    "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, error, error_code, error_args, at) "
    "SELECT id, 1, UUID_SHORT(), '', %s, %s, %s, %s, UTC_TIMESTAMP(6) FROM job_recipients WHERE job_id = %s"
)


async def posted_as(database: Database, alias: str, *, recipients: int = 3) -> str:
    job = await post(database, sender=MAILBOX, recipients=recipients)
    await query(database, "UPDATE jobs SET from_email = %s WHERE id = %s", alias, job)
    return job


async def fail(database: Database, job: str) -> None:
    await query(database, _TRIED, "failed", "no", None, None, job)
    await query(
        database, "UPDATE job_recipients SET status = 'failed', error = 'no', attempts = 1 WHERE job_id = %s", job
    )
    await query(
        database,
        "UPDATE jobs SET status = 'completed', next_claim_at = NULL, finished_at = UTC_TIMESTAMP(6) WHERE id = %s",
        job,
    )
    await query(
        database,
        "INSERT INTO tallies (minute, sender_email, daemon, failed) SELECT UTC_TIMESTAMP() - INTERVAL 1 MINUTE, "
        "sender_email, id, total FROM jobs WHERE id = %s",
        job,
    )


async def defer(database: Database, job: str) -> None:
    await query(database, _TRIED, "deferred", *in_row(reason("google_error", said="500")), job)


async def seen_by(database: Database, senders: Collection[str]) -> tuple[QueueStats, list[Condition]]:
    await query(
        database,
        "REPLACE INTO daemons (id, host, pid, version, started_at, heartbeat_at) "
        "VALUES ('d', 'h', 1, '1', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))",
    )
    seen = await stats_reader(database).read_of(senders)
    return seen, situation(Facts(seen))


async def test_failures_of_an_alias_are_told_to_its_key_and_not_to_that_of_the_mailbox(database: Database) -> None:
    await post(database, sender=MAILBOX)
    job = await posted_as(database, ALIAS)
    await fail(database, job)
    seen, found = await seen_by(database, {MAILBOX})
    assert (seen.failed_jobs, [it.failed for it in seen.senders], found) == ((), [0], [])
    for names in ({ALIAS}, {ALIAS, MAILBOX}):
        seen, found = await seen_by(database, names)
        assert [it.id for it in seen.failed_jobs] == [job]
        assert {it.code for it in found} == {"job_failed", "failed"}
        assert any(f"Job {job}: 3 of 3 messages failed" in it.text for it in found)


async def test_the_jobs_of_the_mailbox_are_not_told_to_the_key_of_its_alias(database: Database) -> None:
    await posted_as(database, ALIAS, recipients=5)
    await fail(database, await post(database, sender=MAILBOX))
    seen, found = await seen_by(database, {ALIAS})
    assert (seen.failed_jobs, [it.failed for it in seen.senders], found) == ((), [0], [])
    assert seen.recipients == {State.WAITING: 5}


async def test_a_pause_of_the_mailbox_is_told_to_the_key_of_its_alias_by_the_alias(database: Database) -> None:
    await posted_as(database, ALIAS, recipients=5)
    await query(
        database,
        "UPDATE senders SET paused_until = '9999-12-31', pause_cause = 'manual', pause_reason = 'moving house'",
    )
    for names, name in (({ALIAS}, ALIAS), ({MAILBOX}, MAILBOX), ({ALIAS, MAILBOX}, MAILBOX)):
        _, (found,) = await seen_by(database, names)
        assert (found.code, found.about) == ("manual", f"sender {MAILBOX}")
        assert found.text == f"{name} is paused manually until it is resumed: moving house"
    assert (await seen_by(database, {"other@example.com"}))[1] == []


async def test_of_a_mailbox_whose_attempts_fail_no_key_is_told_another_ones_message(database: Database) -> None:
    own, others = await posted_as(database, ALIAS), await post(database, sender=MAILBOX)
    await defer(database, others)
    _, (found,) = await seen_by(database, {ALIAS})
    assert found.text.startswith(f"{ALIAS}: the last 3 attempts failed")
    assert found.example is None
    assert not any(it.startswith("mailerd explain") for it in found.remedies)
    await defer(database, own)
    _, (found,) = await seen_by(database, {ALIAS})
    ids = {id_ for (id_,) in await query(database, "SELECT id FROM job_recipients WHERE job_id = %s", own)}
    assert found.example in ids


async def test_a_job_keeps_its_mailbox_in_sight_after_its_alias_was_moved_to_another(database: Database) -> None:
    await posted_as(database, ALIAS)
    newer = await post(database, sender="new@example.com")
    await query(database, "UPDATE jobs SET from_email = %s WHERE id = %s", ALIAS, newer)
    seen, _ = await seen_by(database, {ALIAS})
    assert {(it.email, it.name) for it in seen.senders} == {(MAILBOX, ALIAS), ("new@example.com", ALIAS)}


async def test_a_full_day_and_an_inbox_that_cannot_be_read_are_told_by_the_alias(database: Database) -> None:
    await posted_as(database, ALIAS)
    await query(database, "UPDATE senders SET per_day = 7")
    await query(
        database, "INSERT INTO sender_hours (sender_email, hour, messages) VALUES (%s, UTC_TIMESTAMP(), 7)", MAILBOX
    )
    await query(
        database,
        "INSERT INTO mailboxes (email, scope, state, detail, next_at, read_at) VALUES (%s, '', 'refused', 'x', "
        "UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) - INTERVAL 1 HOUR)",
        MAILBOX,
    )
    _, found = await seen_by(database, {ALIAS})
    assert {it.code for it in found} == {"day_full", "inbox_unreadable"}
    assert all(ALIAS in it.text and MAILBOX not in it.text for it in found)


async def test_a_key_of_many_names_finds_the_mailbox_behind_the_last_of_them(database: Database) -> None:
    await fail(database, await posted_as(database, "z@example.org"))
    seen, _ = await seen_by(database, [f"a{number}@example.org" for number in range(450)] + ["z@example.org"])
    assert [(it.email, it.name) for it in seen.senders] == [(MAILBOX, "z@example.org")]
