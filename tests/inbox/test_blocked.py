"""A sender pauses by how many of its messages were blocked, however many notices tell of one, or come at once."""

from pathlib import Path

import pytest

from mailerd.sandbox.google import FakeGoogle, RunningServer
from mailerd.sandbox.google.notices import write
from mailerd.store.db.database import Database
from tests.inbox.place import ME, arrive, read_up, reading, results
from tests.support.daemon import running
from tests.support.heard import Heard
from tests.support.rows import post, query


async def test_one_message_whose_notices_are_many_pauses_nobody(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=3)
        await heard.wait_for("job_finished")
        (eve, *_) = google.sent
        forged = write("postfix", eve).raw.replace(b"5.1.1", b"5.7.1").replace(b"User unknown", b"Not wanted")
        for _ in range(10):
            google.mailbox(ME).receive(forged, now=google.now())
        await read_up(database, google)
    assert (await results(database))[eve.to] == ("bounced", "blocked", "5.7.1")
    assert await query(database, "SELECT COUNT(*) FROM notices WHERE kind = 'blocked'") == [(10,)]
    assert await query(database, "SELECT pause_cause FROM senders") == [(None,)]


@pytest.mark.parametrize("messages", [12, 20])
async def test_blocked_messages_that_come_at_once_pause_their_sender(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    messages: int,
) -> None:  # fmt: skip
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=messages)
        await heard.wait_for("job_finished")
        for message in list(google.sent):
            arrive(google, message, "blocked")
        await read_up(database, google)
    assert await query(database, "SELECT pause_cause FROM senders") == [("blocked",)]


async def test_the_first_above_the_share_pauses_and_the_next_one_does_not(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=12)
        await heard.wait_for("job_finished")
        await query(database, "UPDATE sender_hours SET messages = 215")  # of which 5 % are 10.75
        messages, causes = list(google.sent), list[object]()
        for some in (messages[:10], messages[10:11], messages[11:]):
            for message in some:
                arrive(google, message, "blocked")
            await read_up(database, google)
            causes += await query(database, "SELECT pause_cause FROM senders")
            await query(database, "UPDATE senders SET paused_until = NULL, pause_cause = NULL, pause_reason = NULL")
    assert causes == [(None,), ("blocked",), (None,)]
