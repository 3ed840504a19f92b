"""A copy that comes back says nothing of the message: its address is suppressed, and the application hears of it."""

import json
from pathlib import Path

import pytest

from mailerd.sandbox.google import FakeGoogle, RunningServer
from mailerd.sandbox.google.mailbox import Message
from mailerd.store.db.database import Database
from tests.inbox.place import ME, read_up, reading, results
from tests.support.copies import BCC, BOTH, CC, post_copied
from tests.support.daemon import running
from tests.support.heard import Heard
from tests.support.rows import query

ADA = "ada@example.org"
EVENTS = "SELECT data FROM events WHERE type = 'recipient.copy_bounced' ORDER BY id"
SUPPRESSED = "SELECT address, reason FROM suppressions ORDER BY address"


async def arrived(
    google: FakeGoogle, database: Database, heard: Heard, *shapes: tuple[str, str], copies: int = 2
) -> Message:
    """A message with copies, sent, about whose addresses mail of these shapes came; it is read."""
    await post_copied(database, (ADA, BOTH[:copies]))
    await heard.wait_for("job_finished")
    (message,) = google.sent
    for shape, about in shapes:
        google.arrivals.add(message, shape, due=google.now(), about=about)
    await read_up(database, google)
    return message


async def test_a_hard_bounce_suppresses_the_copy_and_is_told(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await arrived(google, database, heard, ("hard", CC), ("soft", BCC))
    assert await results(database) == {ADA: (None, None, None)}
    assert await query(database, "SELECT bounced FROM jobs") == [(0,)]
    assert await query(database, SUPPRESSED) == [(CC, "hard_bounce")]
    told = [json.loads(data) for (data,) in await query(database, EVENTS)]
    assert sorted((it["email"], it["copy_email"], it["kind"], it["code"]) for it in told) == [
        (ADA, BCC, "soft", "5.2.2"), (ADA, CC, "hard", "5.1.1"),
    ]  # fmt: skip
    assert sorted((it["to"], it["kind"]) for it in heard.of("copy_bounced")) == [(BCC, "soft"), (CC, "hard")]
    assert sorted(await query(database, "SELECT email, kind, believed FROM notices")) == [
        (BCC, "soft", 1), (CC, "hard", 1),
    ]  # fmt: skip
    assert heard.of("notice_not_verified") == []


async def test_the_message_and_its_copy_may_both_come_back(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await arrived(google, database, heard, ("hard", CC), ("hard", ADA))
    assert await results(database) == {ADA: ("bounced", "hard", "5.1.1")}
    assert await query(database, SUPPRESSED) == [(ADA, "hard_bounce"), (CC, "hard_bounce")]
    assert len(await query(database, EVENTS)) == 1


@pytest.mark.parametrize("about", [ADA, CC])
@pytest.mark.parametrize("shape", ["postfix", "exchange", "forged_hard", "claims_limit"])
async def test_who_has_the_message_cannot_forge_a_bounce_of_another_address(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    shape: str, about: str,
) -> None:  # fmt: skip
    """Key and proof of a message with copies are known to several people: Google's own word alone counts."""
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await arrived(google, database, heard, (shape, about))
    assert await query(database, SUPPRESSED) == []
    if shape != "claims_limit":  # which Google wrote
        assert await query(database, EVENTS) == []
        assert await results(database) == {ADA: (None, None, None)}
        assert len(heard.of("notice_not_verified")) == 1


async def test_a_limit_notice_about_a_copy_undoes_nothing(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await arrived(google, database, heard, ("limit_report", CC))
    assert len(google.sent) == 1
    assert await query(database, "SELECT status FROM job_recipients") == [("sent",)]
    assert await query(database, EVENTS) == []


async def test_a_limit_notice_about_the_message_lets_it_wait_again_with_its_copies(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await arrived(google, database, heard, ("limit_report", ADA))
        await query(database, "UPDATE senders SET paused_until = NULL, next_claim_at = UTC_TIMESTAMP(6)")
        await heard.wait_for("job_finished", times=2)
    assert [it.to for it in google.sent] == [f"{ADA}, {CC}, {BCC}"] * 2


async def test_an_answer_of_a_copy_is_an_answer_of_another_person(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await arrived(google, database, heard, ("reply", CC))
    assert await results(database) == {ADA: ("other_replied", None, None)}


async def test_copies_that_came_back_count_in_no_bad_list(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    strict = {"job_bounces": 1, "sender_bounces": 1}
    known = reading(database_url, served, google, tmp_path / "c", safety=strict)
    async with running(known, heard):
        await arrived(google, database, heard, ("hard", CC), ("hard", BCC))
    assert await query(database, "SELECT pause_cause, bounce_warning FROM jobs") == [(None, None)]
    assert await query(database, "SELECT pause_cause FROM senders WHERE email = %s", ME) == [(None,)]
