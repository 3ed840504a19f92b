"""Whose mailbox a sign-in opens: asked once for each credential file, before anything else is asked with it."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mailerd.config import GmailSettings
from mailerd.core.reasons import cause_code, code_of, from_row, in_row
from mailerd.core.replies import Accepted, Call, NoResponse, NotSent, Reply, WrongMailbox
from mailerd.core.verdicts import Disposition, judge
from mailerd.events.worker import GmailEvents
from mailerd.gmail import Gmail, Mailbox
from mailerd.gmail.account import same_mailbox
from mailerd.sandbox.google import COMPOSE, FULL, METADATA, SEND, FakeGoogle, Fault
from tests.gmail.test_tokens import Later, names

Told = list[tuple[str, Mapping[str, object]]]
SignUp = Callable[..., Path]
ME, OTHER = "me@example.com", "other@example.com"
RAW = b"From: me@example.com\r\nTo: you@example.com\r\nSubject: Hello\r\nX-Mailerd-Key: k1\r\n\r\nHello\r\n"

CALLS: Mapping[str, Callable[[Gmail], "asyncio.Future[Reply]"]] = {
    name: lambda gmail, call=call: asyncio.ensure_future(call(gmail))  # type: ignore[misc]  # each its own
    for name, call in {
        "authenticate": lambda gmail: gmail.authenticate(ME),
        "drafts.create": lambda gmail: gmail.create_draft(ME, raw=RAW),
        "drafts.send": lambda gmail: gmail.send_draft(ME, draft_id="r1"),
        "messages.send": lambda gmail: gmail.send_message(ME, raw=RAW),
        "drafts.get": lambda gmail: gmail.get_draft(ME, draft_id="r1"),
        "drafts.delete": lambda gmail: gmail.delete_draft(ME, draft_id="r1"),
        "messages.list": lambda gmail: gmail.list_sent(ME),
    }.items()
}


def swapped(sign_up: SignUp, scopes: tuple[str, ...] = (COMPOSE, METADATA)) -> Path:
    """My file is the other's."""
    path, other = sign_up(ME, scopes=scopes), sign_up(OTHER, scopes=scopes)
    path.write_text(other.read_text())
    return path


def asked(google: FakeGoogle) -> list[str]:
    return [entry.method for entry in google.log if entry.method != "token"]


@pytest.mark.parametrize("call", CALLS)
async def test_nothing_is_asked_with_another_mailboxs_sign_in(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp, told: Told, call: str
) -> None:
    path = swapped(sign_up)
    for _ in range(2):
        reply = await CALLS[call](gmail)
        assert isinstance(reply, WrongMailbox)
        assert all(word in reply.cause for word in (str(path), OTHER, ME, "mailerd auth login", "gmail.aliases"))
    assert asked(google) == ["getProfile"]
    assert [fields for name, fields in told if name == "mailbox_wrong"] == [
        {"sender": ME, "address": OTHER, "file": str(path)}
    ]


async def test_a_mailbox_is_asked_for_its_name_once_for_each_file(
    settings: GmailSettings, events: GmailEvents, google: FakeGoogle, sign_up: SignUp
) -> None:
    path, clock = swapped(sign_up), Later()
    async with Gmail(settings, events=events, concurrency=20, clock=clock) as gmail:
        assert isinstance(await gmail.authenticate(ME), WrongMailbox)
        mine = google.add_mailbox(ME, scopes=(COMPOSE,))
        path.write_text(json.dumps(mine))
        clock.ahead = 1.1
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(gmail.create_draft(ME, raw=RAW)) for _ in range(10)]
        assert all(isinstance(call.result(), Accepted) for call in calls)
        assert isinstance(await gmail.authenticate(ME), Mailbox)
    assert asked(google).count("getProfile") == 2


@pytest.mark.parametrize("scopes", [(COMPOSE,), (SEND, METADATA), (FULL,)])
async def test_every_scope_that_lets_it_be_seen_is_used(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp, scopes: tuple[str, ...]
) -> None:
    sign_up(ME, scopes=scopes)
    mailbox = await gmail.authenticate(ME)
    assert isinstance(mailbox, Mailbox)
    assert mailbox.verified
    assert asked(google) == ["getProfile"]


async def test_with_gmail_send_alone_nobody_can_tell_and_that_is_said(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp, told: Told
) -> None:
    sign_up(ME, scopes=(SEND,))
    mailbox = await gmail.authenticate(ME)
    assert isinstance(mailbox, Mailbox)
    assert not mailbox.verified
    assert asked(google) == []
    assert names(told).count("mailbox_unverified") == 1


async def test_a_service_account_is_bound_by_its_subject(gmail: Gmail, google: FakeGoogle, sign_up: SignUp) -> None:
    sign_up("@example.com", kind="service_account")
    mailbox = await gmail.authenticate(ME)
    assert isinstance(mailbox, Mailbox)
    assert mailbox.verified
    assert asked(google) == []


@pytest.mark.parametrize("kind", ["reset_after", "hang_before", "backend_error", "garbage"])
async def test_a_question_that_got_no_answer_leaves_no_doubt_of_the_message(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp, kind: str
) -> None:
    """A GET is repeated once by itself; what was to be sent after it was not."""
    sign_up(ME)
    google.fault(Fault(kind=kind, method="getProfile", count=2))
    assert isinstance(await gmail.send_message(ME, raw=RAW), NotSent)
    google.faults.clear()
    assert isinstance(await gmail.send_message(ME, raw=RAW), Accepted)
    assert len(google.sent) == 1


@pytest.mark.parametrize("kind", ["backend_error", "garbage", "not_found", "status"])
async def test_a_question_that_is_not_answered_is_the_trouble_of_the_sender_and_of_no_message(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp, kind: str
) -> None:
    sign_up(ME)
    fault = Fault(kind=kind, method="getProfile", count=-1)
    google.fault(replace(fault, status=400, body="<h1>Bad Request</h1>") if kind == "status" else fault)
    for call, reply in (
        (Call.TOKEN, await gmail.authenticate(ME)),
        (Call.DRAFTS_CREATE, await gmail.create_draft(ME, raw=RAW)),
    ):
        assert isinstance(reply, NotSent)
        verdict = judge(call, reply)
        assert (verdict.disposition, verdict.backoff and verdict.backoff.everybody) == (Disposition.NOT_COUNTED, False)


async def test_whoever_waits_for_the_answer_takes_it_good_or_bad(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp
) -> None:
    sign_up(ME)
    google.fault(Fault(kind="hang_before", method="getProfile", count=-1))
    async with asyncio.timeout(15), asyncio.TaskGroup() as group:
        calls = [group.create_task(gmail.authenticate(ME)) for _ in range(20)]
    assert all(isinstance(call.result(), NoResponse | NotSent) for call in calls)


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("me@example.com", "Me@Example.COM", True),
        ("me@example.com", "m.e@example.com", False),
        ("me+x@example.com", "me@example.com", False),
        ("first.last@gmail.com", "firstlast@gmail.com", True),
        ("firstlast+news@gmail.com", "FirstLast@gmail.com", True),
        ("me@googlemail.com", "me@gmail.com", True),
        ("me@gmail.com", "you@gmail.com", False),
        ("me@gmail.com", "me@example.com", False),
        ("me@mail.gmail.com", "m.e@mail.gmail.com", False),
    ],
)
def test_addresses_are_compared_as_gmail_does(one: str, other: str, *, same: bool) -> None:
    assert same_mailbox(one, other) is same


@pytest.mark.parametrize("kind, code", [("backend_error", "google_error"), ("hang_before", "google_silent")])
async def test_an_owner_that_google_does_not_name_is_no_missing_token_and_has_googles_cause(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp, kind: str, code: str
) -> None:
    sign_up(ME)
    google.fault(Fault(kind=kind, method="getProfile", count=-1))
    reason = judge(Call.TOKEN, await gmail.authenticate(ME)).reason  # type: ignore[arg-type]  # it is no mailbox
    assert reason.startswith("the mailbox owner could not be verified: ")
    assert (code_of(reason), cause_code(reason)) == ("owner_unknown", code)
    assert cause_code(from_row(*in_row(reason))) == code
