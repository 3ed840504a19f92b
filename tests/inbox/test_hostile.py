"""A stranger's mail, or a bug in the reader, ends neither the reader nor the sending."""

import asyncio
from pathlib import Path
from typing import NoReturn

import pytest
from yarl import URL

from mailerd.core.inbox_findings import InboxLease
from mailerd.core.rate_limit import RoundBudget
from mailerd.errors import DatabaseError
from mailerd.inbox.examine import Examiner
from mailerd.inbox.reader import AT_ONCE
from mailerd.sandbox.google import FakeGoogle, RunningServer
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import Mailboxes
from tests.inbox.place import ME, arrive, read_up, reading, results
from tests.support.daemon import running
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.read_only import as_admin, read_only
from tests.support.rows import post, query

BROKEN = b"From: eve@evil.example\r\nTo: me@example.com\r\nSubject: =?utf-8?b?AAAAAAAAA?=\r\n\r\nhi\r\n"


def bug(*_: object, **__: object) -> NoReturn:
    """What nobody has thought of."""
    raise ZeroDivisionError("a bug")


async def awaited_bug(*_: object) -> NoReturn:
    """The same where it is awaited."""
    bug()


async def test_a_broken_subject_is_read_also_in_a_walk(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    box = google.mailbox(ME)
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=2)
        await heard.wait_for("job_finished")
        await read_up(database, google)
        first, second = google.sent
        box.receive(BROKEN, thread_id=first.thread_id, now=google.now())
        await read_up(database, google)
        arrive(google, second, "hard")
        box.receive(BROKEN, now=google.now())
        box.forget_history()
        await heard.wait_for("history_expired")
        await read_up(database, google)
    assert {it[:2] for it in (await results(database)).values()} == {("other_replied", None), ("bounced", "hard")}
    assert [it for name, it in heard.events if "crashed" in name] == []


async def test_a_bug_in_a_walk_is_one_messages_failure(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Examiner, "date_of", awaited_bug)
    google.mailbox(ME).receive(BROKEN, now=google.now())
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=1)
        await heard.wait_for("job_finished")
        await read_up(database, google)
        google.mailbox(ME).receive(BROKEN, now=google.now())
        google.mailbox(ME).forget_history()
        await heard.wait_for("notice_crashed")
        await read_up(database, google)
    assert heard.of("inbox_crashed") == []


@pytest.mark.parametrize("part,name", [(RoundBudget, "of_round"), (Mailboxes, "due")])
async def test_a_bug_of_the_reader_stops_no_message(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, part: type, name: str,
) -> None:  # fmt: skip
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        with monkeypatch.context() as broken:
            broken.setattr(part, name, bug)
            await post(database, recipients=1)
            await heard.wait_for("inbox_crashed", times=2)
            await post(database, recipients=1)
            await heard.wait_for("message_sent", times=2)
        await read_up(database, google)
    assert isinstance(heard.of("inbox_crashed")[0]["error"], ZeroDivisionError)
    assert await query(database, "SELECT DISTINCT status FROM job_recipients") == [("sent",)]


async def test_a_code_in_the_digits_of_another_script_does_not_hold_up_the_mailbox(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=2)
        await heard.wait_for("job_finished")
        await read_up(database, google)
        first, second = google.sent
        notice = (
            "From: MAILER-DAEMON@evil.example\r\nTo: me@example.com\r\nSubject: failure notice\r\n"
            'Content-Type: text/plain; charset="utf-8"\r\n\r\n'
            f"<{first.to}>:\r\n5.\u0661.\u0661 no such user\r\n"
        )
        google.mailbox(ME).receive(notice.encode(), thread_id=first.thread_id, now=google.now())
        arrive(google, second, "hard")
        await read_up(database, google)
    assert (await results(database))[second.to][:2] == ("bounced", "hard")
    assert heard.of("inbox_step_failed") == []


async def test_a_mailbox_whose_round_the_database_has_ended_is_given_back(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    async def deadlock(*_: object) -> NoReturn:
        raise DatabaseError("messages.find_sent", phase="work", cause=OSError(), errno=1213, retry=True, in_doubt=False)

    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=1)
        await heard.wait_for("job_finished")
        await read_up(database, google)
        with monkeypatch.context() as broken:
            broken.setattr(Mailboxes, "known", deadlock)
            google.mailbox(ME).receive(BROKEN, now=google.now())
            await heard.wait_for("inbox_step_failed")
            found = await query(database, "SELECT state FROM mailboxes WHERE lease_token IS NULL")
        await read_up(database, google)
    assert found == [("behind",)], (
        "the line says that it is read again after inbox.interval, and not after runner.lease"
    )


async def test_a_read_only_database_is_not_asked_for_leases_without_a_rest(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    mariadb: Server, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    add = "INSERT INTO mailboxes (email, next_at) VALUES (%s, UTC_TIMESTAMP() + INTERVAL 1 DAY)"
    for number in range(2 * AT_ONCE):
        await query(database, add, f"{number}@example.com")
    tried, lease = list[str](), Mailboxes.lease

    async def noted(it: Mailboxes, email: str) -> InboxLease | None:
        tried.append(email)
        return await lease(it, email)

    async def some() -> bool:
        return len(tried) >= AT_ONCE

    monkeypatch.setattr(Mailboxes, "lease", noted)
    known = reading(database_url, served, google, tmp_path / "c", inbox={"interval": 60.0})
    async with running(known, heard), read_only(mariadb):
        as_admin(mariadb, f"UPDATE {URL(database_url).path.strip('/')}.mailboxes SET next_at = '2000-01-01'")
        await eventually(some)
        await asyncio.sleep(2)
    assert len(tried) <= 2 * AT_ONCE
    assert heard.of("inbox_step_failed") == [], "that it takes no writes is said once, and by the store"
