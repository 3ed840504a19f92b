"""A round has few units: what it leaves is read by the next ones, nothing is lost, and nothing is paid for twice."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mailerd.core.inbox_findings import Found, InboxLease
from mailerd.core.rate_limit import UNITS, RoundBudget
from mailerd.core.replies import Call, NotSent, UnitsUsedUp
from mailerd.errors import DatabaseError
from mailerd.inbox.examine import MailboxTroubleError, trouble
from mailerd.inbox.reader import BATCH, InboxReader, ReadingRound
from mailerd.sandbox.google import FakeGoogle, Fault, RunningServer
from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import Mailboxes
from mailerd.store.inbox.record_findings import FindingsWriter
from mailerd.store.queue.rate_limits import RateLimits
from tests.inbox.place import ME, TRUTH, arrive, read_up, reading, results
from tests.support.daemon import running
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.rows import post, query

MESSAGES = {"drafts.create", "drafts.send", "token"}
"""Messages are debited when they are claimed."""
SHAPES = ["hard", "postfix", "qmail", "reply", "exim", "soft"]


def few_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round has what a minute has of 6,000 units: one notice, and some looks."""
    monkeypatch.setattr(RoundBudget, "of_round", lambda *_, **__: RoundBudget(60.0))


async def sent(database: Database, google: FakeGoogle, heard: Heard) -> dict[str, str]:
    """A message for each of SHAPES, sent and read; the shape by address."""
    await post(database, recipients=len(SHAPES))
    await heard.wait_for("job_finished")
    await read_up(database, google)
    return dict(zip(sorted(it.to for it in google.sent), SHAPES, strict=True))


def arrive_all(google: FakeGoogle, shapes: dict[str, str]) -> None:
    """Let the mail about each message come now."""
    for message in list(google.sent):
        arrive(google, message, shapes[message.to])


def truth(shapes: dict[str, str]) -> dict[str, object]:
    """The result that each address shall have."""
    return {to: TRUTH[shape] for to, shape in shapes.items()}


async def no_units(reading: ReadingRound) -> None:
    """In place of a walk for which no units are left."""
    reading.left = True


async def none_left(*_: object) -> bool:
    """In place of what is done with what waits, as if no units were left for it."""
    return False


async def test_what_stands_outside_our_threads_waits_and_is_not_lost(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    few_units(monkeypatch)
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        shapes = await sent(database, google, heard)
        arrive_all(google, shapes)
        await read_up(database, google)
    assert await results(database) == truth(shapes)
    assert await query(database, "SELECT waiting_from FROM mailboxes") == [(None,)]


async def test_what_waits_is_known_to_the_next_daemon(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    known = reading(database_url, served, google, tmp_path / "c")
    with monkeypatch.context() as busy:
        async with running(known, heard):
            shapes = await sent(database, google, heard)
            busy.setattr(ReadingRound, "_waiting", none_left)
            arrive_all(google, shapes)
            await read_up(database, google)
        assert [it for it in (await results(database)).values() if it[0]] != list(TRUTH.values())
        assert (await query(database, "SELECT waiting_from < history_id FROM mailboxes"))[0][0] == 1
    async with running(known, heard):
        await heard.wait_for("message_bounced", times=5)
        await read_up(database, google)
    assert await results(database) == truth(shapes)


@pytest.mark.parametrize("why", ["history forgotten", "never read"])
async def test_what_waits_of_a_walk_is_known_to_the_next_daemon(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, why: str,
) -> None:  # fmt: skip
    """It stands in no history that Google has: it is walked for again, from the moment at which that walk ended."""
    known = reading(database_url, served, google, tmp_path / "c")
    with monkeypatch.context() as busy:
        async with running(known, heard):
            shapes = await sent(database, google, heard)
            busy.setattr(ReadingRound, "_waiting", none_left)
            arrive_all(google, shapes)
            if why == "history forgotten":
                google.mailbox(ME).forget_history()
                google.arrivals.deliver(google.mailbox(ME), now=google.now())
                google.mailbox(ME).forget_history()
                await heard.wait_for("history_expired")
            else:
                google.arrivals.deliver(google.mailbox(ME), now=google.now())
                await query(database, "DELETE FROM notices")
                await query(database, "DELETE FROM mailboxes")
            await read_up(database, google)
            bounced = len(heard.of("message_bounced"))
        assert bounced < 5
        google.mailbox(ME).forget_history()  # it has none of the oldest id, as a mailbox that is in use for long
    async with running(known, heard):
        await heard.wait_for("message_bounced", times=5)
        await read_up(database, google)
    assert await results(database) == truth(shapes)
    assert await query(database, "SELECT waiting_from FROM mailboxes") == [(None,)]
    assert why == "history forgotten" or heard.of("history_expired") == [], "Google has forgotten nothing"


@pytest.mark.parametrize("why", ["history forgotten", "never read"])
async def test_a_walk_that_its_daemon_left_undone_is_done_by_the_next_one(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, why: str,
) -> None:  # fmt: skip
    """What comes now is read all the same, and what the walk is for is not called read."""
    known = reading(database_url, served, google, tmp_path / "c")
    with monkeypatch.context() as busy:
        async with running(known, heard):
            shapes = await sent(database, google, heard)
            busy.setattr(ReadingRound, "_walk", no_units)
            arrive_all(google, shapes)
            google.arrivals.deliver(google.mailbox(ME), now=google.now())
            google.mailbox(ME).forget_history()
            if why == "never read":
                await query(database, "DELETE FROM mailboxes")
            await eventually(lambda: _has_begun_a_walk(database))
            arrive(google, google.sent[-1], "auto_reply")
            await heard.wait_for("message_replied")
            await eventually(lambda: _has_begun_a_walk(database))  # its round is over, too
        assert heard.of("message_bounced") == []
    async with running(known, heard):
        await read_up(database, google)
    assert await results(database) == truth(shapes)
    assert await query(database, "SELECT waiting_from FROM mailboxes") == [(None,)]


async def _has_begun_a_walk(database: Database) -> bool:
    return bool(await query(database, "SELECT 1 FROM mailboxes WHERE waiting_from IS NOT NULL AND lease_token IS NULL"))


async def test_what_another_daemon_has_left_is_known(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The first one has mail waiting; the second has read another one to wait since, and has died."""
    known = reading(database_url, served, google, tmp_path / "c")
    read, reads = InboxReader.read, list[InboxReader]()

    async def in_turn(self: InboxReader, email: str) -> None:
        if self in reads:
            await read(self, email)

    async def arrives(number: int, shape: str) -> None:
        arrive(google, google.sent[number], shape)
        await read_up(database, google)

    async with running(known, heard) as first:
        await sent(database, google, heard)
        with monkeypatch.context() as busy:
            busy.setattr(ReadingRound, "_waiting", none_left)
            busy.setattr(InboxReader, "read", in_turn)
            reads.append(first.inbox)
            await arrives(0, "exim")
            reads.clear()
            async with running(known, heard) as second:
                reads.append(second.inbox)
                await arrives(1, "qmail")
                reads.clear()
            assert heard.of("message_bounced") == []
        await heard.wait_for("message_bounced", times=2)


async def test_two_daemons_that_take_turns_come_to_an_end_of_what_waits(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A walk takes each of them several rounds, between which the other one writes how far its own has come."""
    known = reading(database_url, served, google, tmp_path / "c")
    read, turns = InboxReader.read, list[InboxReader]()

    async def in_turn(self: InboxReader, email: str) -> None:
        if self is turns[0]:
            await read(self, email)
            turns.reverse()

    async with running(known, heard) as first, running(known, heard) as second:
        shapes = await sent(database, google, heard)
        turns += [first.inbox, second.inbox]
        monkeypatch.setattr(InboxReader, "read", in_turn)
        few_units(monkeypatch)
        monkeypatch.setattr("mailerd.sandbox.google.gmail._LARGEST_PAGE", 2)
        arrive_all(google, shapes)
        for number in range(20):
            own_mail = f"From: s{number}@friend.example\r\nTo: {ME}\r\nSubject: hello\r\n\r\nx\r\n".encode()
            google.mailbox(ME).receive(own_mail, now=google.now())
        google.arrivals.deliver(google.mailbox(ME), now=google.now())
        google.mailbox(ME).forget_history()
        await read_up(database, google)
    assert len(heard.of("history_expired")) <= 2, "one walk of each"
    assert await results(database) == truth(shapes)
    assert await query(database, "SELECT waiting_from FROM mailboxes") == [(None,)]


async def test_what_could_not_be_written_is_not_forgotten_while_others_wait(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("mailerd.inbox.reader.BATCH", 1)
    write, failures = FindingsWriter.write, list[str]()

    async def fails_once(
        self: FindingsWriter, lease: InboxLease, found: Sequence[Found], *rest: Any, **more: Any
    ) -> Any:
        if found and not failures:
            failures.append(found[0].gmail_id)
            raise DatabaseError("write", phase="work", cause=OSError("lost"), errno=2013, retry=True, in_doubt=False)
        return await write(self, lease, found, *rest, **more)

    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await sent(database, google, heard)
        monkeypatch.setattr(FindingsWriter, "write", fails_once)
        with monkeypatch.context() as busy:
            busy.setattr(ReadingRound, "_waiting", none_left)
            arrive(google, google.sent[0], "exim")
            arrive(google, google.sent[1], "qmail")
            await read_up(database, google)
        await heard.wait_for("message_bounced", times=2)
    assert len(failures) == 1


async def test_what_comes_while_a_mailbox_is_first_looked_at_is_read(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    """Nothing was sent yet when the profile is asked for, and a message has bounced when the answer comes."""
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await sent(database, google, heard)
        google.fault(Fault(kind="latency", method="getProfile", seconds=3.0, count=1))
        await query(database, "DELETE FROM sender_hours")
        await query(database, "DELETE FROM mailboxes")
        await eventually(lambda: _is_leased(database))
        await post(database, recipients=1)
        await heard.wait_for("job_finished", times=2)
        assert await _is_leased(database)
        arrive(google, google.sent[-1], "hard")
        google.arrivals.deliver(google.mailbox(ME), now=google.now())
        await heard.wait_for("message_bounced")


async def _is_leased(database: Database) -> bool:
    return bool(await query(database, "SELECT 1 FROM mailboxes WHERE lease_until > UTC_TIMESTAMP(6)"))


async def test_a_flood_outside_our_threads_holds_up_nothing_in_them(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("mailerd.inbox.examine.MAX_WAITING", 5)
    few_units(monkeypatch)
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await sent(database, google, heard)
        for number in range(40):
            flood = f"From: s{number}@evil.example\r\nTo: {ME}\r\nSubject: flood\r\n\r\nx\r\n".encode()
            google.mailbox(ME).receive(flood, now=google.now())
        asked = len([it for it in google.log if it.method == "messages.get"])
        arrive(google, google.sent[0], "hard")
        await read_up(database, google)
    assert len(heard.of("message_bounced")) == 1
    assert len([it for it in google.log if it.method == "messages.get"]) - asked <= 5 + 2


async def test_what_was_read_is_not_kept_in_memory(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard) as daemon:
        for number in range(3):
            text = f"From: a@b.example\r\nSubject: {number}\r\n\r\nhi\r\n"
            google.mailbox(ME).receive(text.encode(), now=google.now())
        await post(database, recipients=1)
        await heard.wait_for("job_finished")

        async def forgotten() -> bool:
            seen = daemon.inbox._seen.get(ME)
            return seen is not None and not (seen.waiting or seen.unrelated or seen.dates)

        await read_up(database, google)
        await eventually(forgotten)


async def test_a_walk_goes_on_where_the_budget_ended_it(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        shapes = await sent(database, google, heard)
        few_units(monkeypatch)
        google.log.clear()
        arrive_all(google, shapes)
        google.arrivals.deliver(google.mailbox(ME), now=google.now())
        google.mailbox(ME).forget_history()
        await heard.wait_for("history_expired")
        await read_up(database, google)
    asked = Counter(entry.method for entry in google.log)
    assert await results(database) == truth(shapes)
    assert len(heard.of("history_expired")) == 1
    assert asked["getProfile"] == 1
    assert asked["messages.get"] <= 2 * len(SHAPES) + 2  # headers and body of each, and the ages of two


async def test_a_round_that_began_while_no_message_waited_ends_when_one_does(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        shapes = await sent(database, google, heard)
        monkeypatch.setattr(RoundBudget, "of_round", lambda *_, **__: RoundBudget(1000.0))
        asked = list[str]()

        async def is_idle(_: Mailboxes, email: str) -> bool:
            asked.append(email)
            return len(asked) <= 2

        monkeypatch.setattr(Mailboxes, "is_idle", is_idle)
        google.log.clear()
        arrive_all(google, shapes)

        async def behind() -> bool:
            return len(asked) > 2 and await query(database, "SELECT state FROM mailboxes") == [("behind",)]

        await eventually(behind)
    assert Counter(entry.method for entry in google.log)["messages.get"] <= 2 * 2


async def test_each_call_of_the_reader_is_debited_walks_and_repetitions_too(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    debited = Counter[int]()
    acquire = RateLimits.acquire

    async def counted(self: RateLimits, sender: str, *, units: int) -> timedelta:
        wait = await acquire(self, sender, units=units)
        debited[units] += not wait
        return wait

    monkeypatch.setattr(RateLimits, "acquire", counted)
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        shapes = await sent(database, google, heard)
        for method, kind in (
            ("messages.get", "garbage"),
            ("history.list", "backend_error"),
            ("messages.list", "garbage"),
        ):
            google.fault(Fault(kind=kind, method=method, count=2))
        arrive_all(google, shapes)
        google.send_manually(ME, "friend@example.net")
        google.arrivals.deliver(google.mailbox(ME), now=google.now())
        google.accounts.expire_tokens()
        google.mailbox(ME).forget_history()
        await heard.wait_for("history_expired")
        await read_up(database, google)
        assert {it.struck for it in google.faults.spent} == {2}
        assert [it for it in google.log if it.status == 401]
        await eventually(lambda: each_is_debited(google, debited))  # a call that is under way is debited already


async def each_is_debited(google: FakeGoogle, debited: Counter[int]) -> bool:
    """Whether the calls have cost what was paid; for a call with an old token Google knows no mailbox to charge."""
    asked = (it for it in google.log if it.method not in MESSAGES and it.status != 401)
    return dict(debited) == dict(Counter(UNITS[Call(it.method)] for it in asked))


def test_an_inbox_that_waits_for_its_units_says_so_and_blames_no_network() -> None:
    waits = "history.list postponed: me@example.com has no quota units left for 1 h"
    with pytest.raises(MailboxTroubleError, match=f"^{waits}$"):
        trouble(Call.HISTORY_LIST, UnitsUsedUp(waits))
    with pytest.raises(MailboxTroubleError, match=r"^Google unreachable: reset$"):
        trouble(Call.HISTORY_LIST, NotSent("reset"))


async def test_a_slow_google_does_not_let_two_daemons_take_a_mailbox_from_each_other_for_ever(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    """What one commit is about takes longer than the lease."""
    known = reading(database_url, served, google, tmp_path / "c", runner={"lease": 3.0}, gmail={"request_timeout": 1.0})
    async with running(known, heard), running(known, heard):
        await post(database, recipients=BATCH)
        await heard.wait_for("job_finished")
        await read_up(database, google)
        google.fault(Fault(kind="latency", method="messages.get", seconds=0.2, count=-1))
        for message in list(google.sent):
            arrive(google, message, "reply")
        await read_up(database, google)
    assert {result for result, *_ in (await results(database)).values()} == {"replied"}
