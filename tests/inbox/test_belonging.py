"""A notice belongs to a message of ours, and to its present sending, by returned headers or Message-ID alone."""

from datetime import timedelta
from pathlib import Path

import pytest

from mailerd.core.rate_limit import RoundBudget
from mailerd.core.states import JobChange
from mailerd.inbox.reader import BATCH
from mailerd.sandbox.google import FakeGoogle, RunningServer
from mailerd.sandbox.google.mailbox import Message
from mailerd.sandbox.google.notices import write
from mailerd.store.db.database import Database
from mailerd.store.read.audit import audit
from mailerd.store.write.job_actions import JobActions
from tests.inbox.place import ME, METADATA, READONLY, TRUTH, arrive, read_up, reading, results
from tests.store.test_forgetting import forget
from tests.support.daemon import running
from tests.support.heard import Heard
from tests.support.rows import post, query, states

NOTICES = ("limit", "limit_fr", "limit_bare", "limit_report", "hard", "soft", "blocked", "policy", "delayed")
"""What Google writes about a message, each in its own form."""


async def answered_by_hand(google: FakeGoogle, database: Database, messages: list[Message]) -> list[Message]:
    """Each of these is answered, and the owner answers that by hand: the owner's own mail."""
    for message in messages:
        arrive(google, message, "reply")
    await read_up(database, google)
    found = [google.send_manually(ME, message.to, after=message) for message in messages]
    return [it for it in found if it is not None]


@pytest.mark.parametrize("scope", [READONLY, METADATA])
async def test_a_notice_about_the_owners_own_message_says_nothing_about_ours(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    scope: str,
) -> None:  # fmt: skip
    async with running(reading(database_url, served, google, tmp_path / "c", scope=scope), heard):
        job = await post(database, recipients=len(NOTICES))
        await heard.wait_for("job_finished")
        own = await answered_by_hand(google, database, list(google.sent))
        for one, shape in zip(own, NOTICES, strict=True):
            arrive(google, one, shape)
        await read_up(database, google)
    assert set((await results(database)).values()) == {("replied", None, None)}
    assert await states(database, job) == {"sent": len(NOTICES)}
    assert len(google.sent) == len(NOTICES)
    assert await query(database, "SELECT * FROM suppressions") == []
    noted = await query(
        database, "SELECT believed, COUNT(*) FROM notices WHERE kind NOT IN ('reply', 'manual') GROUP BY 1"
    )
    assert noted == [(0, len(NOTICES))]


@pytest.mark.parametrize("scope", [READONLY, METADATA])
async def test_a_notice_that_returns_no_header_is_believed_by_the_message_id_that_it_answers(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    scope: str,
) -> None:  # fmt: skip
    async with running(reading(database_url, served, google, tmp_path / "c", scope=scope), heard):
        await post(database, recipients=1)
        await heard.wait_for("job_finished")
        await answered_by_hand(google, database, list(google.sent))
        arrive(google, google.sent[0], "limit_bare")
        if scope == READONLY:
            await heard.wait_for("message_returned")
        else:
            await heard.wait_for("message_bounced")
            await read_up(database, google)
            assert list((await results(database)).values()) == [("bounced", "unknown", None)]


async def test_a_limit_notice_that_names_ours_beside_the_owners_message_gives_nothing_back(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    """What it is about says its report alone; without a report it may be about either of the two."""
    shapes = ("limit_bare", "limit_report") * 2
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        job = await post(database, recipients=len(shapes) + 1)
        await heard.wait_for("job_finished")
        *ours, last = google.sent
        *owners, _ = await answered_by_hand(google, database, [*ours, last])
        for number, (message, own, shape) in enumerate(zip(ours, owners, shapes, strict=True)):
            both = [message.message_id, own.message_id]
            answered = f"In-Reply-To: {' '.join(both[:: 1 if number < 2 else -1])}\r\n"
            raw = write(shape, own).raw.replace(f"In-Reply-To: {own.message_id}\r\n".encode(), answered.encode())
            raw, _, _ = raw.partition(b"Content-Type: message/rfc822")  # it returns nothing
            google.mailbox(ME).receive(raw, thread_id=message.thread_id, now=google.now())
        await read_up(database, google)
        assert await states(database, job) == {"sent": len(shapes) + 1}
        skipped = heard.of("notice_not_verified")
        assert [it["kind"] for it in skipped] == ["over_limit"] * len(shapes)
        raw, _, _ = write("limit_report", last).raw.partition(b"Content-Type: message/rfc822")
        google.mailbox(ME).receive(raw, thread_id=last.thread_id, now=google.now())
        await heard.wait_for("message_returned")
    assert len(google.sent) == len(shapes) + 2


async def test_a_notice_is_believed_though_one_round_has_too_few_units_for_all_its_questions(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=1)
        await heard.wait_for("job_finished")
        await read_up(database, google)
        monkeypatch.setattr(RoundBudget, "of_round", lambda *_, **__: RoundBudget(60.0))
        asked = len([it for it in google.log if it.method == "messages.get"])
        arrive(google, google.sent[0], "limit_bare")
        await heard.wait_for("message_returned")
        assert len([it for it in google.log if it.method == "messages.get"]) - asked == 3


async def test_a_message_that_google_gives_back_twice_is_sent_again_once(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        job = await post(database, recipients=1)
        await heard.wait_for("job_finished")
        arrive(google, google.sent[0], "limit")
        await heard.wait_for("job_finished", times=2)
        arrive(google, google.sent[1], "limit")
        await heard.wait_for("message_bounced")
        await read_up(database, google)
    assert await states(database, job) == {"sent": 1}
    assert len(google.sent) == 2
    assert list((await results(database)).values()) == [("bounced", "unknown", "5.4.5")]
    assert await query(database, "SELECT bounced FROM jobs") == [(1,)]
    assert await query(database, "SELECT * FROM suppressions") == []
    assert len(heard.of("sender_paused_by_notice")) == 1, (
        "whoever holds the message can have such notices come without end"
    )
    assert (await audit(database))[1] == []


@pytest.mark.parametrize("first", ["soft", "limit"])
@pytest.mark.parametrize("late", ["soft", "postfix", "limit_report"])
async def test_a_notice_about_the_first_sending_says_nothing_about_the_second(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    first: str, late: str,
) -> None:  # fmt: skip
    number = 8
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        job = await post(database, recipients=number)
        await heard.wait_for("job_finished")
        sent_first = list(google.sent)
        for message in sent_first:
            arrive(google, message, first)
        if first == "soft":
            await read_up(database, google)
            actions = JobActions(database, timeout=5, late_arrival=timedelta(0))
            await actions.apply(job, JobChange.RETRY, actor="T", bounced=["soft"])
        await heard.wait_for("message_sent", times=2 * number)
        for message in sent_first:
            arrive(google, message, late)
        await read_up(database, google)
        assert set((await results(database)).values()) == {(None, None, None)}
        assert await states(database, job) == {"sent": number}
        assert len(google.sent) == 2 * number
        for message in google.sent[number:]:  # and what comes back of the second counts
            arrive(google, message, "postfix")
        await read_up(database, google)
    assert set((await results(database)).values()) == {TRUTH["postfix"]}


@pytest.mark.parametrize("shape", ["hard", "postfix", "reply", "reply_of_other", "auto_reply", "limit"])
async def test_a_person_who_was_forgotten_does_not_come_back_by_a_late_message(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    shape: str,
) -> None:  # fmt: skip
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=["ada@example.com"])
        await heard.wait_for("job_finished")
        await read_up(database, google)
        await forget(database)
        arrive(google, google.sent[0], shape)
        await read_up(database, google)
        arrive(google, google.sent[0], "hard")
        await read_up(database, google)
    assert await query(database, "SELECT result, result_reason, status FROM job_recipients") == [(None, None, "sent")]
    assert await query(database, "SELECT email, detail FROM notices") == []
    assert await query(database, "SELECT data FROM events WHERE type LIKE 'recipient.%%'") == []
    assert await query(database, "SELECT address FROM suppressions") == []
    assert (await audit(database))[1] == []


@pytest.mark.parametrize("ahead", [timedelta(minutes=20), timedelta(hours=-20), timedelta(hours=20)])
@pytest.mark.parametrize("why", ["history forgotten", "never read"])
async def test_a_walk_back_finds_what_came_whatever_the_databases_clock_says(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    ahead: timedelta, why: str,
) -> None:  # fmt: skip
    """Newer mail than a batch holds lies above the notices, so that it is the dates that end the walk."""
    by_the_database = google.now
    google.now = lambda: by_the_database() - ahead.total_seconds()
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=18)
        await heard.wait_for("job_finished")
        await read_up(database, google)
        for message in google.sent:
            arrive(google, message, "soft")
        google.arrivals.deliver(google.mailbox(ME), now=google.now())
        for number in range(2 * BATCH):
            text = f"From: a@b.example\r\nSubject: {number}\r\n\r\nhi\r\n"
            google.mailbox(ME).receive(text.encode(), now=google.now())
        google.mailbox(ME).forget_history()
        if why == "never read":
            await query(database, "DELETE FROM mailboxes")
        await read_up(database, google)
    assert set((await results(database)).values()) == {("bounced", "soft", "5.2.2")}
