"""Messages with times of their own, two daemons and a kill in between: each is sent once, and not before its time."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mailerd.clock import new_id
from mailerd.config import Settings
from mailerd.sandbox.google import FakeGoogle
from mailerd.store.db.database import Database
from mailerd.store.read.audit import audit
from mailerd.store.write.new_jobs import NewJob, NewJobs, NewRecipient
from tests.daemon.test_killed_alone import a_daemon
from tests.daemon.test_killed_at_each_step import LEASE_IS_OVER
from tests.support.eventually import eventually
from tests.support.rows import query, states

A_WEEK = timedelta(days=7)
A_WEEK_PASSES = (
    "UPDATE job_recipients SET due_at = due_at - INTERVAL 7 DAY WHERE status = 'waiting'",
    "UPDATE jobs SET next_claim_at = next_claim_at - INTERVAL 7 DAY WHERE status IN ('queued', 'sending')",
    "UPDATE senders SET next_claim_at = next_claim_at - INTERVAL 7 DAY",
)
"""For the rows that wait."""


async def test_each_is_sent_once_and_not_before_its_time(
    known: Settings, database: Database, google: FakeGoogle, tmp_path: Path
) -> None:
    start = datetime.now(UTC)
    asked = [None if n < 4 else start + (n % 4) * timedelta(seconds=2) for n in range(24)]
    asked += [start + A_WEEK + (n % 3) * timedelta(seconds=2) for n in range(12)]
    job = new_id()
    people = [NewRecipient(f"r{n}@example.org", None, None, send_at=at) for n, at in enumerate(asked)]
    await NewJobs(database, timeout=60).accept(NewJob(job, "me@example.com", "x", people, text="y"))
    daemons = [a_daemon(known, tmp_path) for _ in range(2)]

    async def some_are_sent() -> bool:
        return (await states(database, job)).get("sent", 0) >= 6

    async def all_of_now_are_sent() -> bool:
        return await states(database, job) == {"sent": 24, "waiting": 12}

    async def all_are_sent() -> bool:
        return await states(database, job) == {"sent": 36}

    async def early() -> list[int]:
        rows = await query(database, "SELECT seq, sent_at FROM job_recipients WHERE status = 'sent'")
        return [seq for seq, at in rows if at.replace(tzinfo=UTC) < (asked[seq] or start)]

    try:
        for number, daemon in enumerate(daemons):
            daemon.name = f"own-{number}"
            daemon.start()
        await eventually(some_are_sent)
        daemons[0].kill()
        await query(database, LEASE_IS_OVER)
        await eventually(all_of_now_are_sent)
        assert await early() == []
        for statement in A_WEEK_PASSES:
            await query(database, statement)
        asked = [at and at - A_WEEK if number >= 24 else at for number, at in enumerate(asked)]
        daemons[0].start()
        await eventually(some_are_sent)
        daemons[1].kill()
        await query(database, LEASE_IS_OVER)
        await eventually(all_are_sent)
        assert await early() == []
    finally:
        for daemon in daemons:
            daemon.kill()
    assert {*Counter(it.to for it in google.sent).values()} == {1}
    assert len(google.sent) == 36
    assert (await audit(database))[1] == []
