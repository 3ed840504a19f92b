"""A daemon reads its sender's inbox: every shape of mail has the result that it should have, and nothing else."""

import json
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mailerd.core.inbox_findings import SentMessage
from mailerd.core.states import JobChange
from mailerd.core.suppression import masked
from mailerd.inbox.reader import MAX_FAILURES
from mailerd.sandbox.google import COMPOSE, FakeGoogle, Fault, RunningServer
from mailerd.sandbox.google.notices import write
from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import Mailboxes
from mailerd.store.read.audit import audit
from mailerd.store.write.job_actions import JobActions
from mailerd.store.write.suppressions import Suppressions
from tests.inbox.place import ME, METADATA, READONLY, TRUTH, arrive, read_up, reading, results
from tests.support.daemon import running, sign_in
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.rows import post, query, states

Shapes = dict[str, str]


async def sent_and_read(google: FakeGoogle, database: Database, heard: Heard, shapes: list[str]) -> Shapes:
    """A message for each shape, sent, and the mail about it arrived and read; the shape by address."""
    await post(database, recipients=len(shapes))
    await heard.wait_for("job_finished")
    by_address = dict(zip(sorted(it.to for it in google.sent), shapes, strict=True))
    for message in list(google.sent):
        arrive(google, message, by_address[message.to])
    await read_up(database, google)
    return by_address


async def test_every_shape_has_its_result(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        shapes = await sent_and_read(google, database, heard, list(TRUTH))
    assert await results(database) == {to: TRUTH[shape] for to, shape in shapes.items()}
    assert await query(database, "SELECT DISTINCT status FROM job_recipients") == [("sent",)]
    hard = {to for to, shape in shapes.items() if TRUTH[shape][1] == "hard"}
    assert {row[0] for row in await query(database, "SELECT address FROM suppressions")} == hard
    assert sorted(it["address"] for it in heard.of("suppression_added")) == sorted(masked(to) for to in hard)
    assert {(it["reason"], it["source"]) for it in heard.of("suppression_added")} == {("hard_bounce", "notice")}
    bounced = sum(result == "bounced" for result, _, _ in TRUTH.values())
    assert await query(database, "SELECT bounced, replied FROM jobs") == [(bounced, 2)]
    events = dict(await query(database, "SELECT type, COUNT(*) FROM events GROUP BY type"))
    assert events["recipient.bounced"] == bounced
    assert (events["recipient.replied"], events["recipient.auto_replied"]) == (2, 2)
    assert {it["kind"] for it in heard.of("notice_not_verified")} == {"hard", "over_limit"}
    assert [it for name, it in heard.events if "crashed" in name] == []


async def test_the_headers_alone_tell_less_and_suppress_nobody(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    known = reading(database_url, served, google, tmp_path / "c", scope=METADATA)
    async with running(known, heard):
        shapes = await sent_and_read(
            google, database, heard, ["hard", "blocked", "delayed", "reply", "auto_reply", "limit"]
        )
    unknown = ("bounced", "unknown", None)
    expected = {"hard": unknown, "blocked": unknown, "limit": unknown, "delayed": (None, None, None)}
    assert await results(database) == {to: expected.get(shape, TRUTH.get(shape)) for to, shape in shapes.items()}
    assert await query(database, "SELECT * FROM suppressions") == []
    assert not [entry for entry in google.log if entry.method == "messages.get" and entry.status == 403]


async def test_a_message_that_google_gives_back_is_sent_again_once(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    google.fault(Fault(kind="undelivered", method="drafts.send", skip=2, count=3))
    google.change_rules(notice_delay_s=0.2)
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        job = await post(database, recipients=6)
        await heard.wait_for("message_returned", times=3)
        await heard.wait_for("message_sent", times=9)
        await read_up(database, google)
    assert await states(database, job) == {"sent": 6}
    assert sorted(it.to for it in google.sent) == [f"r{number}@example.org" for number in range(6)]
    assert await query(database, "SELECT DISTINCT attempts FROM job_recipients") == [(1,)]
    assert len(await query(database, "SELECT 1 FROM events WHERE type = 'recipient.sent_undone'")) == 3
    assert (await audit(database))[1] == []
    assert await query(database, "SELECT * FROM suppressions") == []


async def test_without_the_setting_a_limit_notice_only_pauses(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    inbox = {"undo_over_limit": False, "limit_pause": 100.0}
    async with running(reading(database_url, served, google, tmp_path / "c", inbox=inbox), heard):
        await sent_and_read(google, database, heard, ["limit", "limit_fr", "limit_zh"])
    assert await query(database, "SELECT DISTINCT status FROM job_recipients") == [("sent",)]
    assert await query(database, "SELECT pause_cause FROM senders") == [("daily_limit",)]
    assert heard.of("message_returned") == []


async def test_a_mailbox_without_the_scope_is_left_alone_and_sends_as_before(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    known = reading(database_url, served, google, tmp_path / "c")
    sign_in(google, tmp_path / "c", ME, scopes=(COMPOSE,))
    async with running(known, heard):
        await post(database, recipients=2)
        await heard.wait_for("job_finished")
        await heard.wait_for("inbox_not_allowed")
    assert not [entry for entry in google.log if entry.method in ("history.list", "messages.get", "messages.list")]
    assert await query(database, "SELECT state, scope FROM mailboxes") == [("no scope", "")]


async def test_history_that_google_has_forgotten_is_walked_again(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await sent_and_read(google, database, heard, ["reply", "delayed"])
        google.mailbox(ME).forget_history()
        first, second = google.sent
        arrive(google, first, "hard")
        arrive(google, second, "soft")
        google.arrivals.deliver(google.mailbox(ME), now=google.now())
        google.mailbox(ME).forget_history()
        await heard.wait_for("history_expired")
        await read_up(database, google)
    assert {result[1] for result in (await results(database)).values()} == {"hard", "soft"}
    assert len(await query(database, "SELECT 1 FROM notices")) == 4


async def test_a_message_that_fails_three_times_is_passed_over_by_name(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=2)
        await heard.wait_for("job_finished")
        await read_up(database, google)
        google.fault(Fault(kind="garbage", method="messages.get", count=3))
        for message in list(google.sent):
            arrive(google, message, "hard")
        await heard.wait_for("notice_skipped")
        await read_up(database, google)
    assert sorted(str(result[0]) for result in (await results(database)).values()) == ["None", "bounced"]
    assert [row[0] for row in await query(database, "SELECT kind FROM notices ORDER BY id")] == ["passed_over", "hard"]


async def test_a_notice_that_is_too_large_to_fetch_is_known_by_its_headers_and_holds_nothing_up(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=1)
        await heard.wait_for("job_finished")
        await read_up(database, google)
        (message,) = google.sent
        raw = write("hard", message).raw + b"x" * 70 + b"\r\n" * 6_000_000  # it has the whole of an attachment
        google.mailbox(ME).receive(raw, thread_id=message.thread_id, now=google.now())
        await read_up(database, google)
    assert (await results(database))[message.to][:2] == ("bounced", "unknown")
    assert heard.of("notice_skipped") == []


@pytest.mark.parametrize("by_hand", [3])
async def test_messages_that_the_person_sends_count_in_the_ledger(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    by_hand: int,
) -> None:  # fmt: skip
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=2)
        await heard.wait_for("job_finished")
        await read_up(database, google)
        for _ in range(by_hand):
            google.send_manually(ME, "friend@example.net")
        await read_up(database, google)
    assert await query(database, "SELECT SUM(messages), SUM(elsewhere) FROM sender_hours") == [(2, by_hand)]


async def test_a_limit_notice_waits_for_a_message_in_doubt_however_often_it_is_read(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    """Passed over, the message would be found in SENT afterwards, and recorded as sent, though Google gave it back."""
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=1)
        await heard.wait_for("job_finished")
        await read_up(database, google)
        doubt = "UPDATE job_recipients SET status = 'unsure', lease_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR"
        await query(database, doubt)
        arrive(google, google.sent[0], "limit")

        async def read_often() -> bool:
            return bool((await query(database, "SELECT failures FROM mailboxes"))[0][0] > MAX_FAILURES)

        await eventually(read_often)
        assert heard.of("notice_skipped") == []
        await query(database, "UPDATE job_recipients SET status = 'sent', lease_until = NULL")
        await heard.wait_for("message_returned")


async def test_a_limit_notice_is_believed_though_its_message_changes_while_it_is_read(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The messages of its thread are looked for first, and then the message whose key came back in it."""
    messages_in = Mailboxes.messages_in

    async def a_moment_ago(self: Mailboxes, email: str, threads: Collection[str]) -> dict[str, list[SentMessage]]:
        found = await messages_in(self, email, threads)
        return {
            thread: [replace(it, status="unsure", message_id=None) for it in messages]
            for thread, messages in found.items()
        }

    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=1)
        await heard.wait_for("job_finished")
        await read_up(database, google)
        monkeypatch.setattr(Mailboxes, "messages_in", a_moment_ago)
        arrive(google, google.sent[0], "limit")
        await heard.wait_for("message_returned")
    assert heard.of("notice_not_verified") == []


async def test_a_message_to_the_unsubscribe_address_takes_its_writer_off_the_list(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    news = await (await Suppressions.open(database, timeout=5)).make_list("news")
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=2, list_id=news.id)
        await heard.wait_for("job_finished")
        left, _ = sorted(google.sent, key=lambda message: message.to)
        arrive(google, left, "unsubscribe")
        await read_up(database, google)
        second = await post(database, recipients=2, list_id=news.id)
        await heard.wait_for("job_finished", times=2)
    suppressed = await query(database, "SELECT address, list_id, reason, source FROM suppressions")
    assert suppressed == [(left.to, news.id, "unsubscribed", "mailto")]
    assert await states(database, second) == {"cancelled": 1, "sent": 1}
    assert heard.of("suppression_added") == [
        {"address": masked(left.to), "mailing_list": "news", "reason": "unsubscribed", "source": "mailto"}
    ]
    assert await query(database, "SELECT COUNT(*) FROM events WHERE type = 'recipient.unsubscribed'") == [(1,)]


async def test_an_unsubscribe_whose_number_was_given_anew_names_no_other_person(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    news = await (await Suppressions.open(database, timeout=5)).make_list("news")
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=1, list_id=news.id)
        await heard.wait_for("job_finished")
        (left,) = google.sent
        await query(database, "UPDATE job_recipients SET to_email = 'another@example.org'")  # as after a restore
        arrive(google, left, "unsubscribe")
        await heard.wait_for("suppression_added")
    assert await query(database, "SELECT address, recipient_id, origin FROM suppressions") == [(None, None, "")]
    assert await query(database, "SELECT result FROM job_recipients") == [(None,)]
    ((data,),) = await query(database, "SELECT data FROM events WHERE type = 'recipient.unsubscribed'")
    assert json.loads(data)["email"] is None


async def test_an_unsubscribe_from_a_list_that_a_restore_has_lost_does_not_hold_up_the_mailbox(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    news = await (await Suppressions.open(database, timeout=5)).make_list("news")
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=1, list_id=news.id)
        await heard.wait_for("job_finished")
        await query(database, "DELETE FROM lists")
        arrive(google, google.sent[0], "unsubscribe")
        await read_up(database, google)
    assert await query(database, "SELECT list_id, reason FROM suppressions") == [(news.id, "unsubscribed")]
    assert [it["mailing_list"] for it in heard.of("suppression_added")] == [f"list {news.id}"]
    assert heard.of("inbox_crashed") == []


async def test_what_google_shows_under_primary_is_examined(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    """Each message there has the label CATEGORY_PERSONAL, in the history at least."""
    news = await (await Suppressions.open(database, timeout=5)).make_list("news")
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=2, list_id=news.id)
        await heard.wait_for("job_finished")
        await read_up(database, google)
        left, bounced = google.sent
        await query(database, "UPDATE jobs SET from_email = 'sales@example.com'")
        arrive(google, left, "unsubscribe")
        arrive(google, bounced, "postfix")
        await read_up(database, google)
    assert (await results(database))[left.to] == ("unsubscribed", None, None)
    assert (await results(database))[bounced.to] == TRUTH["postfix"]
    suppressed = await query(database, "SELECT address, list_id, origin FROM suppressions")
    whose = "sales@example.com"  # what its From said, and not the mailbox that is read
    assert sorted(suppressed) == sorted([(left.to, news.id, whose), (bounced.to, 0, whose)])


async def test_an_unsubscribe_that_another_sender_gets_first_names_who_has_left(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    news = await (await Suppressions.open(database, timeout=5)).make_list("news")
    known, other = reading(database_url, served, google, tmp_path / "c"), "boss@example.com"
    sign_in(google, tmp_path / "c", other, scopes=(COMPOSE, READONLY))
    async with running(known, heard):
        await post(database, recipients=1, list_id=news.id)
        await post(database, recipients=1, sender=other)
        await heard.wait_for("job_finished", times=2)
        (message,) = (it for it in google.sent if it.sender == ME)
        google.mailbox(other).receive(write("unsubscribe", message).raw, now=google.now())  # it was forwarded there
        await heard.wait_for("suppression_added")
        arrive(google, message, "unsubscribe")
        await read_up(database, google)
    ((sender, data),) = await query(
        database, "SELECT sender_email, data FROM events WHERE type = 'recipient.unsubscribed'"
    )
    assert (sender, json.loads(data)["email"], json.loads(data)["list"]) == (ME, message.to, "news")
    assert await query(database, "SELECT address FROM suppressions") == [(message.to,)]
    mine = await query(database, "SELECT result, COUNT(*) FROM job_recipients GROUP BY result ORDER BY result")
    assert mine == [(None, 1), ("unsubscribed", 1)]


async def test_the_senders_own_words_are_no_answer(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=2)
        await heard.wait_for("job_finished")
        box = google.mailbox(ME)
        first, second = google.sent
        reply = write("reply", first).raw.replace(f"From: {first.to}".encode(), f"From: Me <{ME}>".encode())
        box.receive(reply, thread_id=first.thread_id, now=google.now())  # a help desk sent it by a server of its own
        box.receive(second.raw, thread_id=second.thread_id, now=google.now())  # a list sent it to its members
        await read_up(database, google)
    assert set((await results(database)).values()) == {(None, None, None)}
    assert await query(database, "SELECT replied FROM jobs") == [(0,)]


async def test_the_audit_balances_after_a_message_that_came_back_is_cancelled(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    known = reading(database_url, served, google, tmp_path / "c", inbox={"limit_pause": 3600.0})
    async with running(known, heard):
        job = await post(database, recipients=1)
        await heard.wait_for("job_finished")
        arrive(google, google.sent[0], "limit")
        await read_up(database, google)
        assert await states(database, job) == {"waiting": 1}
        controls = JobActions(database, timeout=5, late_arrival=timedelta(0))
        await controls.apply(job, JobChange.CANCEL, actor="ada")
        await eventually(lambda: _is_cancelled(database, job))
    assert (await audit(database))[1] == []


async def _is_cancelled(database: Database, job: str) -> bool:
    return await states(database, job) == {"cancelled": 1}
