"""A daemon is killed at each step between its claim and its record, with real processes: each message is sent once."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailerd.config import Settings
from mailerd.sandbox.google import FakeGoogle, Fault
from mailerd.store.db.database import Database
from tests.daemon.test_killed_alone import a_daemon
from tests.support.eventually import eventually
from tests.support.holding import holding
from tests.support.rows import post, query


@dataclass(frozen=True)
class Step:
    """Where the daemon is killed, and what its row and Google say then."""

    method: str
    kind: str
    row: tuple[str, int]
    """Its state, and whether it names a draft."""
    drafts: int
    sent: int
    attempts: int
    """How many are counted in the end: one in which Google was not asked to send is refunded."""


STEPS = {
    "claimed": Step("drafts.create", "hang_before", ("sending", 0), drafts=0, sent=0, attempts=1),
    "draft_made": Step("drafts.create", "hang_after", ("sending", 0), drafts=1, sent=0, attempts=1),
    "id_recorded": Step("drafts.send", "hang_before", ("sending", 1), drafts=1, sent=0, attempts=2),
    "sent": Step("drafts.send", "hang_after", ("sending", 1), drafts=0, sent=1, attempts=1),
    "answered": Step("drafts.send", "latency", ("sending", 1), drafts=0, sent=1, attempts=1),
}
"""Of the last, Google's answer has come, and its record waits for the row, which another session has locked."""
LEASE_IS_OVER = """
UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE WHERE status IN ('sending', 'unsure')"""
ROW = "SELECT status, draft_id IS NOT NULL FROM job_recipients"


@pytest.mark.parametrize("name", STEPS)
async def test_a_daemon_that_is_killed_there_loses_no_message_and_doubles_none(
    known: Settings, database: Database, database_url: str, google: FakeGoogle, tmp_path: Path, name: str
) -> None:
    step = STEPS[name]
    fault = google.fault(Fault(kind=step.kind, method=step.method, count=-1, seconds=2.0 if name == "answered" else 99))
    await post(database, recipients=1)
    daemon = a_daemon(known, tmp_path)

    async def is_struck() -> bool:
        return fault.struck > 0

    async def is_at_google() -> bool:
        return fault.struck > 0 and (len(google.drafts()), len(google.sent)) == (step.drafts, step.sent)

    async def is_(status: str) -> bool:
        return [state for state, _ in await query(database, ROW)] == [status]

    async def no_draft_is_left() -> bool:
        return google.drafts() == []

    try:
        daemon.start()
        async with AsyncExitStack() as lock:
            if name == "answered":
                await eventually(is_struck)
                await lock.enter_async_context(holding(database_url, "SELECT id FROM job_recipients FOR UPDATE"))
                await daemon.until(lambda log: "another transaction has locked rows" in log)
            await eventually(is_at_google)
            daemon.kill()
        assert await query(database, ROW) == [step.row]
        await query(database, "DELETE FROM daemons")  # it was not seen since
        await query(database, LEASE_IS_OVER)
        google.clear_faults()
        daemon.start()
        if step.row[1]:
            await eventually(lambda: is_("unsure"))
            await query(database, LEASE_IS_OVER)
        await eventually(lambda: is_("sent"))
        await eventually(no_draft_is_left)
    finally:
        daemon.kill()
    assert len(google.sent) == 1
    assert await query(database, "SELECT attempts FROM job_recipients") == [(step.attempts,)]
