"""A message that is alone in a daemon that somebody kills from outside, with real processes."""

from pathlib import Path

import pytest

from mailerd.config import Settings
from mailerd.sandbox.google import FakeGoogle, Fault
from mailerd.store.db.database import Database
from tests.chaos.child import Child
from tests.store.queue.test_crashes import SUSPECT
from tests.support.eventually import eventually
from tests.support.rows import post, query

_LONG_AGO = "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE WHERE status = 'sending'"


def a_daemon(known: Settings, folder: Path) -> Child:
    config = folder / "mailerd.toml"
    config.touch(mode=0o600)
    config.write_text(f"""
database.url = "{known.database.url}"
intake.port = 0
runner = {{ poll_interval = 0.1, lease = 120 }}
pace = {{ units_per_minute = 0, per_day = 0 }}
[gmail]
api_root = "{known.gmail.api_root}"
token_uri = "{known.gmail.token_uri}"
credentials_dir = "{known.gmail.credentials_dir}"
""")
    return Child("alone", config=config, port=0)


@pytest.mark.parametrize("kills, ends", [(2, "sent"), (3, "failed")])
async def test_it_is_not_blamed_for_one_kill_or_two(
    known: Settings, database: Database, google: FakeGoogle, tmp_path: Path, kills: int, ends: str
) -> None:
    hanging = google.fault(Fault(kind="hang_before", method="drafts.create", count=-1, seconds=600))
    await post(database, recipients=1)
    await query(database, SUSPECT)
    daemon, asked = a_daemon(known, tmp_path), 0

    async def is_at_google() -> bool:
        return hanging.struck > asked

    async def has_ended() -> bool:
        return await query(database, "SELECT status FROM job_recipients") == [(ends,)]

    try:
        for _ in range(kills):
            asked = hanging.struck
            daemon.start()
            await eventually(is_at_google)
            daemon.kill()
            await query(database, "DELETE FROM daemons")  # it was not heard of since
            await query(database, _LONG_AGO)
        google.clear_faults()
        daemon.start()
        await eventually(has_ended)
    finally:
        daemon.kill()
    assert len(google.sent) == (ends == "sent")
    assert await query(database, "SELECT attempts FROM job_recipients") == [(1,)]
