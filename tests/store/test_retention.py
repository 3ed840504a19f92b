"""What is old is deleted: each row of the table, in batches, by an index, and nothing that is young by then."""

import asyncio
from datetime import timedelta

import pytest

from mailerd.errors import DatabaseError
from mailerd.events.webhooks import WebhookEvents
from mailerd.events.worker import RunnerEvents
from mailerd.heartbeat import Heartbeats
from mailerd.store.db.database import Database
from mailerd.store.write import retention
from mailerd.store.write.retention import ByAge, Deleted, Retention, rules
from tests.support.dialect import plan
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.holding import holding
from tests.support.rows import query

ALL = rules(event_days=90, answers=timedelta(hours=1), events=WebhookEvents(Heard()))
BY_AGE = [it for it in ALL if isinstance(it, ByAge)]
OTHERS = {
    "idempotency_responses": "api_key_id = 1, idempotency_key = '{n}', request_digest = REPEAT('b', 32), job_id = 'j', "
    "response = '{{}}'",
    "sessions": "digest = RPAD('{n}', 32, 'd'), api_key_id = 1, key_digest = REPEAT('k', 32), "
    "created_at = UTC_TIMESTAMP(6)",
    "job_drafts": "id = '{n}', part = 1, seq = 0, api_key_id = 1",
    "daemons": "id = '{n}', host = 'h', pid = 1, version = '1', started_at = UTC_TIMESTAMP(6)",
    "mailbox_units": "mailbox = 'me{n}@example.com', units = 1",
    "troubles": "about = 'sender me{n}@example.com', code = 'c', since = '2026-01-01', text = ''",
    "tally_hours": "sender_email = 'me{n}@example.com'",
}
"""The columns of a row beside the one by which it ages."""

of_each_rule = pytest.mark.parametrize("rule", BY_AGE, ids=[it.table for it in BY_AGE])


async def fill(database: Database, rule: ByAge, *, old: int, young: int) -> None:
    """Rows that are just too old, and rows that are nearly so."""
    for n in range(old + young):
        others = OTHERS[rule.table].format(n=n)
        age = rule.age + timedelta(hours=2 if n < old else -1) * min(1, rule.age / timedelta(days=1))
        seconds = age.total_seconds()
        at = f"{rule.by} = UTC_TIMESTAMP(6) - INTERVAL {seconds:.0f} SECOND"
        await query(database, f"INSERT INTO {rule.table} SET {others}, {at}")


async def count(database: Database, rule: ByAge) -> int:
    ((rows,),) = await query(database, f"SELECT COUNT(*) FROM {rule.table}")
    return int(rows)


@of_each_rule
async def test_what_is_old_goes_in_batches_and_nothing_else(
    database: Database, rule: ByAge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    await fill(database, rule, old=5, young=2)
    assert [await rule.delete(database) for _ in range(3)] == [
        Deleted(3, more=True),
        Deleted(2, more=False),
        Deleted(0, more=False),
    ]
    assert await count(database, rule) == 2


@of_each_rule
async def test_what_is_young_again_by_then_stays(database: Database, database_url: str, rule: ByAge) -> None:
    """Such as an idempotency key that is used anew, or a daemon that was frozen for a week, before its COMMIT."""
    await fill(database, rule, old=1, young=0)
    async with holding(database_url, f"UPDATE {rule.table} SET {rule.by} = UTC_TIMESTAMP(6)"):
        deleting = asyncio.create_task(rule.delete(database))

        async def it_waits() -> bool:
            return bool(await query(
                database,
                "SELECT 1 FROM information_schema.processlist WHERE db = DATABASE() AND "
                f"info LIKE '%%DELETE FROM {rule.table}%%' AND id <> CONNECTION_ID()",
            ))  # fmt: skip

        await eventually(it_waits)
    assert await deleting == Deleted(0, more=False)
    assert await count(database, rule) == 1


@of_each_rule
async def test_old_rows_are_found_and_deleted_by_an_index(database: Database, rule: ByAge) -> None:
    await fill(database, rule, old=2, young=30)
    await query(database, f"ANALYZE TABLE {rule.table}")
    age = int(rule.age.total_seconds())
    (found,) = await plan(database, rule.find, (age, 5))
    assert (found["key"], found["type"], "filesort" in (found["Extra"] or "")) == (rule.index, "range", False)
    key, *_ = await database.read_rows(rule.find, (age, 5), what="test")
    (deleted,) = await plan(database, rule.delete_one, (*key, age))
    assert (deleted["key"], int(deleted["rows"])) == ("PRIMARY", 1)


async def test_two_daemons_that_delete_the_same_rows_delete_each_once(database: Database) -> None:
    for rule in BY_AGE:
        await fill(database, rule, old=20, young=0)
        done = await asyncio.gather(*(rule.delete(database) for _ in range(4)))
        assert sum(it.rows for it in done) == 20, rule.table


async def test_the_loop_goes_on_where_one_rule_fails_and_says_so(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "INTERVAL", 0.01)
    monkeypatch.setattr(retention, "REST", 0.01)
    monkeypatch.setattr(retention, "BATCH", 3)

    class Fails:
        async def delete(self, _: Database) -> Deleted:
            raise DatabaseError(
                "retention.delete", phase="work", cause=ValueError("denied"), errno=1142, retry=False, in_doubt=False
            )

    heard, heartbeats = Heard(), Heartbeats()
    for rule in BY_AGE:
        await fill(database, rule, old=4, young=1)
    loop = asyncio.create_task(Retention(database, [Fails(), *ALL], heartbeats, RunnerEvents(heard)).run())

    async def all_gone() -> bool:
        return all([await count(database, rule) == 1 for rule in BY_AGE])

    await eventually(all_gone)
    loop.cancel()
    assert heard.of("step_failed")[0]["what"] == "retention.delete"
    assert [it.loop for it in heartbeats.all()] == ["retention.delete"]
