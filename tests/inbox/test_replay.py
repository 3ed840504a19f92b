"""Google's genuine notice about a stranger's own message, handed on by the stranger: it says nothing about ours."""

from pathlib import Path
from typing import Final

import pytest

from mailerd.sandbox.google import FakeGoogle, RunningServer
from mailerd.sandbox.google.mailbox import Message
from mailerd.sandbox.google.notices import write
from mailerd.store.db.database import Database
from mailerd.store.read.audit import audit
from tests.inbox.place import ME, arrive, read_up, reading, results
from tests.support.daemon import running
from tests.support.heard import Heard
from tests.support.rows import post, query, states

EVE: Final = "eve@gmail.com"
OURS: Final = f"To: {ME}\r\n".encode()


def of_eves(message: Message, shape: str) -> bytes:
    """What Google writes to Eve, who has sent a message of her own with the Message-ID of ours."""
    own = f"From: {EVE}\r\nTo: x@y.example\r\nMessage-ID: {message.message_id}\r\nSubject: hi\r\n\r\nhi\r\n".encode()
    return write(shape, message._replace(sender=EVE, key="", raw=own)).raw


@pytest.mark.parametrize("shape", ["limit", "limit_bare", "limit_report", "hard", "soft"])
@pytest.mark.parametrize("above", [b"", OURS])
async def test_googles_notice_to_a_stranger_is_not_believed(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    shape: str, above: bytes,
) -> None:  # fmt: skip
    """`above`: a second To, which Google's signature does not cover."""
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        job = await post(database, recipients=1)
        await heard.wait_for("job_finished")
        message = google.sent[0]
        raw = of_eves(message, shape)
        assert f"To: {EVE}".encode() in raw
        head, _, rest = raw.partition(b"From: ")
        google.mailbox(ME).receive(head + above + b"From: " + rest, thread_id=message.thread_id, now=google.now())
        await read_up(database, google)
    assert await states(database, job) == {"sent": 1}
    assert set((await results(database)).values()) == {(None, None, None)}
    assert await query(database, "SELECT pause_cause FROM senders") == [(None,)]
    assert await query(database, "SELECT believed FROM notices") == [(0,)]
    assert await query(database, "SELECT * FROM suppressions") == []


@pytest.mark.parametrize("shape", ["limit", "limit_report"])
async def test_a_limit_notice_that_returns_another_message_than_ours_is_not_believed(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    shape: str,
) -> None:  # fmt: skip
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        job = await post(database, recipients=1)
        await heard.wait_for("job_finished")
        message = google.sent[0]
        raw = of_eves(message, shape).replace(f"To: {EVE}\r\n".encode(), OURS, 1)
        google.mailbox(ME).receive(raw, thread_id=message.thread_id, now=google.now())
        await read_up(database, google)
    assert await states(database, job) == {"sent": 1}
    assert await query(database, "SELECT pause_cause FROM senders") == [(None,)]
    assert await query(database, "SELECT believed FROM notices") == [(0,)]


async def test_googles_notice_to_an_alias_of_the_mailbox_is_believed(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    alias = "Team@Example.com"
    known = reading(database_url, served, google, tmp_path / "c", gmail={"aliases": {alias.lower(): ME}})
    async with running(known, heard):
        await post(database, recipients=1)
        await heard.wait_for("job_finished")
        message = google.sent[0]
        raw = write("limit", message).raw.replace(OURS, f"To: <{alias}>\r\n".encode(), 1)
        google.mailbox(ME).receive(raw, thread_id=message.thread_id, now=google.now())
        await heard.wait_for("message_returned")


async def test_a_message_that_was_given_back_pauses_its_sender_once(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=1)
        await heard.wait_for("job_finished")
        arrive(google, google.sent[0], "limit")
        await heard.wait_for("job_finished", times=2)
        for _ in range(3):
            arrive(google, google.sent[1], "limit")
            await read_up(database, google)
        assert len(google.sent) == 2
    assert len(heard.of("sender_paused_by_notice")) == 1
    assert (await audit(database))[1] == []
