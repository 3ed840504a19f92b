"""How the newest attempts of a sender go: whatever its neighbours do, and for as long as its messages are deferred."""

from collections.abc import Mapping, Sequence

from mailerd.core.failing_attempts import FailingAttempts, failing
from mailerd.core.reasons import in_row, reason
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import MAX_DEFERRING, read_attempts
from tests.support.rows import numbers, post, query, rows_read

BUSY, ILL = "a@example.com", "b@example.com"
_ATTEMPT = (
    "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, error, error_code, error_args, at) "
    "SELECT r.id, n.seq, LEFT(REPLACE(UUID(), '-', ''), 26), 'd', %s, %s, %s, %s, "
    "UTC_TIMESTAMP(6) - INTERVAL %s SECOND FROM job_recipients r JOIN jobs j ON j.id = r.job_id CROSS JOIN {} "
    "WHERE j.sender_email = %s AND n.seq <= %s"
)


async def tried(database: Database, sender: str, event: str, *, ago: int, times: int = 1, tally: str = "sent") -> None:
    """Attempts with each message of a sender so many seconds ago, in the log and in the tallies."""
    why = in_row(reason("google_error", said="500")) if event == "deferred" else (None, None, None)
    statement = _ATTEMPT.format(numbers(3).replace("AS numbers", "AS n"))
    await query(database, statement, event, *why, ago, sender, times)
    await query(
        database,
        f"INSERT INTO tallies (minute, sender_email, daemon, {tally}) SELECT DATE_FORMAT(UTC_TIMESTAMP() - INTERVAL %s "
        "SECOND, '%%Y-%%m-%%d %%H:%%i:00'), %s, '', COUNT(*) * %s FROM job_recipients r JOIN jobs j ON j.id = r.job_id "
        f"WHERE j.sender_email = %s ON DUPLICATE KEY UPDATE {tally} = {tally} + VALUES({tally})",
        ago, sender, times, sender,
    )  # fmt: skip


async def deferred(database: Database, sender: str, *, ago: int, due_in: int, times: int = 5) -> None:
    await tried(database, sender, "deferred", ago=ago, times=times, tally="put_off")
    await query(
        database,
        "UPDATE job_recipients r JOIN jobs j ON j.id = r.job_id SET r.due_at = UTC_TIMESTAMP(6) + INTERVAL %s SECOND, "
        "r.attempts = %s, j.status = 'sending', j.next_claim_at = UTC_TIMESTAMP(6) + INTERVAL %s SECOND "
        "WHERE j.sender_email = %s",
        due_in, times, due_in, sender,
    )  # fmt: skip


async def seen(database: Database) -> Mapping[str, FailingAttempts | None]:
    found = await database.read(read_attempts, what="look")
    (own,) = [await database.read(lambda cursor: read_attempts(cursor, [ILL]), what="look")]
    assert own.get(ILL) == found.get(ILL), "a forecast sees the same"
    return {sender: failing(its) for sender, its in found.items()}


async def test_a_busy_neighbour_hides_no_attempt_that_fails(database: Database) -> None:
    await post(database, sender=ILL)
    await deferred(database, ILL, ago=120, due_in=40)
    before = (await seen(database))[ILL]
    assert before is not None
    assert (before.failed, before.nothing_sent) == (15, True)
    await post(database, sender=BUSY, recipients=1)
    await tried(database, BUSY, "sent", ago=5, times=900)
    assert await seen(database) == {BUSY: None, ILL: before}


async def test_attempts_fail_for_as_long_as_the_messages_are_deferred(database: Database) -> None:
    await post(database, sender=ILL, recipients=6)
    await deferred(database, ILL, ago=11 * 60, due_in=40 * 60, times=3)
    found = (await seen(database))[ILL]
    assert found is not None
    assert (found.failed, found.tried) == (18, 18)
    assert found.reason == "Google responded 500"


async def test_what_was_sent_meanwhile_counts_though_its_line_is_far_back(database: Database) -> None:
    await post(database, sender=ILL)
    await deferred(database, ILL, ago=50 * 60, due_in=40 * 60)
    await post(database, sender=BUSY, recipients=1)
    await tried(database, BUSY, "sent", ago=5, times=900)
    assert (await seen(database))[ILL]
    await query(
        database,
        "INSERT INTO tallies (minute, sender_email, daemon, sent) "
        "VALUES (UTC_TIMESTAMP() - INTERVAL 20 MINUTE, %s, 'x', 2)",
        ILL,
    )
    assert (await seen(database))[ILL] is None


async def test_no_more_rows_are_read_of_a_sender_however_many_there_are(database: Database) -> None:
    await post(database, sender=ILL, recipients=40)
    await deferred(database, ILL, ago=120, due_in=40, times=2)
    costs = []
    for more in (0, 3000):
        if more:
            await post(database, sender=ILL, recipients=more)
            await deferred(database, ILL, ago=120, due_in=40, times=2)
        await query(database, "ANALYZE TABLE jobs, job_recipients, attempts, tallies")
        before = await rows_read(database)
        await database.read(read_attempts, what="look")
        costs.append(await rows_read(database) - before)
    assert costs[1] < costs[0] + 1500, costs


async def test_however_many_senders_send_a_look_asks_of_some_and_of_those_that_wait_for_long(
    database: Database,
) -> None:
    """Each was a part of one statement: of three thousand senders it took a second, at each look."""
    await post(database, sender=ILL)
    await deferred(database, ILL, ago=11 * 60, due_in=40 * 60)
    await query(
        database,
        "INSERT IGNORE INTO jobs (id, sender_email, status, next_claim_at, type, total, created_at) "
        "SELECT CONCAT('0000000000000000000000', LPAD(n.seq, 4, '0')), CONCAT(n.seq, '@example.org'), 'sending', "
        f"UTC_TIMESTAMP(6), 'template', 1, UTC_TIMESTAMP(6) FROM {numbers(3).replace('AS numbers', 'AS n')}",
    )
    parts = []

    async def look(cursor: Cursor) -> Mapping[str, object]:
        execute = cursor.execute

        async def counted(sql: str, values: Sequence[object] | None = None) -> int:
            parts.append(sql.count("UNION ALL"))
            return await execute(sql, values)

        cursor.execute = counted  # type: ignore[method-assign]
        return await read_attempts(cursor)

    assert (await database.read(look, what="look"))[ILL]
    assert max(parts) < MAX_DEFERRING
