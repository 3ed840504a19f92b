"""Signing in: tokens, their refreshing, and the delivery mode that follows."""

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from mailerd.clock import Clock
from mailerd.config import GmailSettings
from mailerd.core.reading import AuthorizationState
from mailerd.core.replies import Accepted, Call, NoCredentials, NotSent, Refused, TokenRefused
from mailerd.events.worker import GmailEvents
from mailerd.gmail import Gmail, Mailbox, account
from mailerd.sandbox.google import COMPOSE, FULL, METADATA, MODIFY, READONLY, SEND, FakeGoogle, Fault
from tests.support.own_time import own_time

Told = list[tuple[str, Mapping[str, object]]]
SignUp = Callable[..., Path]
ME = "me@example.com"
RAW = b"From: me@example.com\r\nTo: you@example.com\r\nSubject: Hello\r\nX-Mailerd-Key: k1\r\n\r\nHello\r\n"


class Later(Clock):
    """A clock that a test can put forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


def asked_for_tokens(google: FakeGoogle) -> int:
    return sum(entry.method == "token" for entry in google.log)


def names(told: Told) -> list[str]:
    return [name for name, _ in told]


@pytest.mark.parametrize(
    "scopes, mode, reads",
    [
        ((COMPOSE,), "draft", False),
        ((COMPOSE, METADATA), "draft", True),
        ((MODIFY,), "draft", True),
        ((FULL,), "draft", True),
        ((SEND,), "direct", False),
        ((SEND, READONLY), "direct", True),
        ((SEND, COMPOSE), "draft", False),
    ],
)
async def test_the_mode_follows_from_what_a_person_has_allowed(
    gmail: Gmail, sign_up: SignUp, scopes: tuple[str, ...], mode: str, reads: object
) -> None:
    sign_up(ME, scopes=scopes)
    mailbox = await gmail.authenticate(ME)
    assert isinstance(mailbox, Mailbox)
    assert (mailbox.sender, mailbox.mode, mailbox.can_read_metadata) == (ME, mode, reads)
    assert set(mailbox.scopes) == set(scopes)


@pytest.mark.parametrize(
    "scopes, mode, reads",
    [
        ((COMPOSE, METADATA, SEND), "draft", True),
        ((COMPOSE,), "draft", False),
        ((SEND, METADATA), "direct", True),
        ((SEND,), "direct", False),
    ],
)
async def test_a_service_account_gets_the_best_that_was_delegated(
    gmail: Gmail, sign_up: SignUp, scopes: tuple[str, ...], mode: str, reads: object
) -> None:
    sign_up("@example.com", scopes=scopes, kind="service_account")
    mailbox = await gmail.authenticate("Me@Example.com")
    assert isinstance(mailbox, Mailbox)
    assert (mailbox.sender, mailbox.mode, mailbox.can_read_metadata) == (ME, mode, reads)


async def test_a_service_account_speaks_for_the_mailbox_that_asks(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp
) -> None:
    sign_up("@example.com", scopes=(COMPOSE,), kind="service_account")
    for sender in ("a@example.com", "b@example.com"):
        reply = await gmail.get_profile(sender)
        assert isinstance(reply, Accepted)
        assert isinstance(reply.body, dict)
        assert reply.body["emailAddress"] == sender
    assert set(google.mailboxes) >= {"a@example.com", "b@example.com"}


async def test_an_undelegated_service_account_is_refused(gmail: Gmail, sign_up: SignUp) -> None:
    sign_up("@example.com", scopes=(READONLY,), kind="service_account")
    reply = await gmail.authenticate(ME)
    assert isinstance(reply, TokenRefused)
    assert (reply.status, reply.error) == (401, "unauthorized_client")


async def test_what_is_known_of_an_authorization_is_what_the_last_request_for_a_token_said(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp
) -> None:
    assert gmail.authorization(ME).state is AuthorizationState.MISSING
    path = sign_up(ME)
    assert gmail.authorization(ME).state is AuthorizationState.UNKNOWN
    assert asked_for_tokens(google) == 0
    await gmail.authenticate(ME)
    known = gmail.authorization("Me@Example.com")
    assert (known.state, known.scopes, known.is_broken) == (AuthorizationState.OK, (COMPOSE,), False)
    assert known.checked_at is not None
    google.accounts.expire_tokens()
    google.fault(Fault(kind="status", method="token", status=503, count=2))
    for _ in range(2):
        await gmail.get_profile(ME)
        assert gmail.authorization(ME) == known, "trouble of the endpoint says nothing of the mailbox"
    google.revoke(ME)
    await gmail.get_profile(ME)
    refused = gmail.authorization(ME)
    assert (refused.state, refused.scopes) == (AuthorizationState.REFUSED, ())
    assert "Google has revoked the authorization" in refused.reason
    path.unlink()
    assert gmail.authorization(ME).state is AuthorizationState.MISSING
    sign_up(ME)
    assert gmail.authorization(ME).state is AuthorizationState.UNKNOWN, "the new file was not tried yet"
    google.fault(Fault(kind="status", method="token", status=503))
    await gmail.authenticate(ME)
    assert gmail.authorization(ME).state is AuthorizationState.UNKNOWN, (
        "what was said of the old file is not of this one"
    )
    await gmail.authenticate(ME)
    assert gmail.authorization(ME).state is AuthorizationState.OK


async def test_an_authorization_that_cannot_send_or_opens_another_mailbox_is_unusable(
    gmail: Gmail, sign_up: SignUp
) -> None:
    path = sign_up(ME, scopes=(READONLY,))
    await gmail.authenticate(ME)
    known = gmail.authorization(ME)
    assert (known.state, known.scopes, known.is_broken) == (AuthorizationState.UNUSABLE, (READONLY,), True)
    path.write_text(sign_up("other@example.com").read_text())
    await gmail.authenticate(ME)
    known = gmail.authorization(ME)
    assert known.state is AuthorizationState.UNUSABLE
    assert "opens the mailbox other@example.com" in known.reason
    path.write_text("{")
    await gmail.authenticate(ME)
    assert gmail.authorization(ME).state is AuthorizationState.UNUSABLE


async def test_a_revoked_service_account_is_asked_once(gmail: Gmail, google: FakeGoogle, sign_up: SignUp) -> None:
    sign_up(ME, kind="service_account")
    google.revoke(ME)
    reply = await gmail.authenticate(ME)
    assert isinstance(reply, TokenRefused)
    assert reply.error == "invalid_grant"
    assert asked_for_tokens(google) == 1


async def test_signing_happens_off_the_loop(gmail: Gmail, sign_up: SignUp, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_up(ME, kind="service_account")
    where: list[bool] = []
    sign = account._sign

    def watched(*given: object) -> object:
        where.append(threading.current_thread() is threading.main_thread())
        return sign(*given)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(account, "_sign", watched)
    assert isinstance(await gmail.authenticate(ME), Mailbox)
    assert where == [False]


async def test_a_broken_private_key_names_the_remedy_and_not_the_key(gmail: Gmail, sign_up: SignUp) -> None:
    path = sign_up(ME, kind="service_account")
    blob = json.loads(path.read_text())
    blob["private_key"] = blob["private_key"][:300]
    path.write_text(json.dumps(blob))
    reply = await gmail.authenticate(ME)
    assert isinstance(reply, NoCredentials)
    assert "create a new key" in reply.cause
    assert blob["private_key"][60:100] not in reply.cause


async def test_a_sign_in_that_allows_no_sending_is_no_credential(gmail: Gmail, sign_up: SignUp) -> None:
    sign_up(ME, scopes=(READONLY,))
    reply = await gmail.authenticate(ME)
    assert isinstance(reply, NoCredentials)
    assert "gmail.compose" in reply.cause


async def test_a_token_without_scope_is_taken_for_draft_mode(gmail: Gmail, google: FakeGoogle, sign_up: SignUp) -> None:
    sign_up(ME)
    google.fault(Fault(kind="without_scope", method="token"))
    assert await gmail.authenticate(ME) == Mailbox(sender=ME, mode="draft", can_read_metadata=False, scopes=())


async def test_a_token_without_scope_has_those_of_the_file(gmail: Gmail, google: FakeGoogle, sign_up: SignUp) -> None:
    path = sign_up(ME)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scopes": [SEND]}))
    google.fault(Fault(kind="without_scope", method="token"))
    mailbox = await gmail.authenticate(ME)
    assert isinstance(mailbox, Mailbox)
    assert (mailbox.mode, mailbox.scopes) == ("direct", (SEND,))


async def test_signing_in_is_told_once_and_asked_for_once(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp, told: Told
) -> None:
    sign_up(ME)
    for _ in range(3):
        assert isinstance(await gmail.authenticate(ME), Mailbox)
    assert names(told) == ["token_refreshed", "google_call_succeeded", "sender_authenticated"]
    assert asked_for_tokens(google) == 1


async def test_fifty_calls_make_one_token_request(gmail: Gmail, google: FakeGoogle, sign_up: SignUp) -> None:
    sign_up(ME)
    google.change_rules(token_latency_s=0.05)
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(gmail.get_profile(ME)) for _ in range(50)]
    assert all(isinstance(call.result(), Accepted) for call in calls)
    assert asked_for_tokens(google) == 1


async def test_fifty_calls_share_one_refusal(gmail: Gmail, google: FakeGoogle, sign_up: SignUp) -> None:
    sign_up(ME)
    google.revoke(ME)
    google.change_rules(token_latency_s=0.05)
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(gmail.get_profile(ME)) for _ in range(50)]
    assert {call.result() for call in calls} == {
        TokenRefused(400, error="invalid_grant", description="Token has been expired or revoked.")
    }
    assert asked_for_tokens(google) == 1


async def test_a_refresh_whose_asker_is_cancelled_is_taken_over(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp
) -> None:
    sign_up(ME)
    google.change_rules(token_latency_s=0.1)
    first = asyncio.create_task(gmail.get_profile(ME))
    second = asyncio.create_task(gmail.get_profile(ME))
    await asyncio.sleep(0)
    assert gmail._account(ME)._refreshing.locked()
    first.cancel()
    assert isinstance(await second, Accepted)
    assert first.cancelled()


async def test_a_hung_endpoint_holds_nobody_longer_than_the_time_out(
    settings: GmailSettings, events: GmailEvents, google: FakeGoogle, sign_up: SignUp
) -> None:
    sign_up(ME)
    google.fault(Fault(kind="hang_before", method="token", count=-1, seconds=5))
    started = own_time()
    bound = settings.model_copy(update={"request_timeout": 0.3})
    async with Gmail(bound, events=events, concurrency=20) as gmail, asyncio.TaskGroup() as group:
        calls = [group.create_task(gmail.get_profile(ME)) for _ in range(20)]
    assert all(isinstance(call.result(), NotSent) for call in calls)
    assert own_time() - started < 2, "the endpoint hangs for five seconds"


async def test_nobody_waits_for_anothers_refresh_longer_than_his_own_time(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp
) -> None:
    sign_up(ME)
    google.fault(Fault(kind="hang_before", method="token", seconds=60))
    account, loop = gmail._account(ME), asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        leader = group.create_task(account.token(deadline=loop.time() + 60))
        await asyncio.sleep(0)
        assert isinstance(await account.token(deadline=loop.time() + 0.1), NotSent)
        assert not leader.done()
        leader.cancel()


async def test_a_token_is_replaced_a_minute_before_it_ends(
    settings: GmailSettings, events: GmailEvents, google: FakeGoogle, sign_up: SignUp
) -> None:
    sign_up(ME)
    clock = Later()
    async with Gmail(settings, events=events, concurrency=20, clock=clock) as gmail:
        for ahead, expected in ((0, 1), (3530, 1), (3545, 2)):
            clock.ahead = ahead
            assert isinstance(await gmail.get_profile(ME), Accepted)
            assert asked_for_tokens(google) == expected


async def test_a_token_of_a_few_seconds_is_used_all_the_same(gmail: Gmail, google: FakeGoogle, sign_up: SignUp) -> None:
    google.change_rules(token_lifetime_s=30)
    sign_up(ME)
    for _ in range(3):
        assert isinstance(await gmail.get_profile(ME), Accepted)
    assert asked_for_tokens(google) == 1


async def test_a_401_refreshes_once_and_repeats_the_call_once(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp
) -> None:
    sign_up(ME)
    assert isinstance(await gmail.authenticate(ME), Mailbox)
    google.accounts.expire_tokens()
    assert isinstance(await gmail.create_draft(ME, raw=RAW), Accepted)
    assert [e.method for e in google.log] == ["token", "getProfile", "drafts.create", "token", "drafts.create"]
    assert len(google.drafts(ME)) == 1


async def test_a_second_401_is_the_answer(gmail: Gmail, google: FakeGoogle, sign_up: SignUp) -> None:
    sign_up(ME)
    google.fault(Fault(kind="auth_error", method="drafts.create", count=-1))
    reply = await gmail.create_draft(ME, raw=RAW)
    assert isinstance(reply, Refused)
    assert reply.status == 401
    assert [e.method for e in google.log] == ["token", "getProfile", "drafts.create", "token", "drafts.create"]


async def test_many_401s_make_one_refresh(gmail: Gmail, google: FakeGoogle, sign_up: SignUp) -> None:
    sign_up(ME)
    assert isinstance(await gmail.authenticate(ME), Mailbox)
    google.accounts.expire_tokens()
    google.change_rules(token_latency_s=0.05)
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(gmail.get_profile(ME)) for _ in range(20)]
    assert all(isinstance(call.result(), Accepted) for call in calls)
    assert asked_for_tokens(google) == 2


async def test_a_401_of_a_revoked_sender_ends_as_the_token_refusal(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp
) -> None:
    sign_up(ME)
    assert isinstance(await gmail.authenticate(ME), Mailbox)
    google.accounts.expire_tokens()
    google.revoke(ME)
    assert isinstance(await gmail.create_draft(ME, raw=RAW), TokenRefused)


async def test_what_is_forgotten_is_asked_for_again(gmail: Gmail, google: FakeGoogle, sign_up: SignUp) -> None:
    sign_up(ME)
    assert isinstance(await gmail.authenticate(ME), Mailbox)
    google.set_scopes(ME, (SEND,))
    gmail._account(ME).invalidate()
    mailbox = await gmail.authenticate(ME)
    assert isinstance(mailbox, Mailbox)
    assert mailbox.mode == "direct"


async def test_a_refresh_under_way_does_not_bring_back_what_was_forgotten(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp
) -> None:
    sign_up(ME)
    google.change_rules(token_latency_s=0.1)
    call = asyncio.create_task(gmail.get_profile(ME))
    await asyncio.sleep(0)
    assert gmail._account(ME)._refreshing.locked()
    gmail._account(ME).invalidate()
    assert isinstance(await call, Accepted)
    assert isinstance(await gmail.get_profile(ME), Accepted)
    assert asked_for_tokens(google) == 2


@pytest.mark.parametrize(
    "kind", ["garbage", "truncated", "list_body", "bad_utf8", "reset_before", "reset_after", "html_502"]
)
async def test_an_odd_token_endpoint_ends_in_a_reply(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp, kind: str
) -> None:
    sign_up(ME)
    google.fault(Fault(kind=kind, method="token"))
    reply = await gmail.create_draft(ME, raw=RAW)
    assert isinstance(reply, TokenRefused if kind == "html_502" else NotSent)
    assert not google.drafts(ME)
    assert isinstance(await gmail.create_draft(ME, raw=RAW), Accepted)


async def test_every_call_is_reported_the_token_requests_too(
    gmail: Gmail, told: Told, google: FakeGoogle, sign_up: SignUp
) -> None:
    sign_up(ME)
    google.fault(Fault(kind="rate_limit", method="drafts.create"))
    await gmail.create_draft(ME, raw=RAW)
    await gmail.create_draft(ME, raw=RAW)
    await gmail.create_draft("nobody@example.com", raw=RAW)
    calls = [(name, fields) for name, fields in told if "seconds" in fields]
    assert all(0 <= float(str(fields["seconds"])) < 2 for _, fields in calls)
    assert [(name, fields.get("call"), fields.get("outcome")) for name, fields in calls] == [
        ("token_refreshed", None, None),
        ("google_call_succeeded", Call.GET_PROFILE, None),
        ("google_call_failed", Call.DRAFTS_CREATE, "refused_403"),
        ("google_call_succeeded", Call.DRAFTS_CREATE, None),
        ("google_call_failed", Call.DRAFTS_CREATE, "no_credentials"),
    ]


@pytest.mark.parametrize("spelling", [str, quote_plus])
async def test_a_token_endpoint_that_repeats_the_request_puts_no_secret_into_the_reply(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp, spelling: Callable[[str], str]
) -> None:
    blob = json.loads(sign_up(ME).read_text())
    echo = f"cannot serve refresh_token={spelling(blob['refresh_token'])}&client_secret={blob['client_secret']}"
    google.fault(
        Fault(kind="status", method="token", status=400, body=json.dumps({"error": "x", "error_description": echo}))
    )
    reply = await gmail.authenticate(ME)
    assert isinstance(reply, TokenRefused)
    assert reply.description == "cannot serve refresh_token=…&client_secret=…"


async def test_a_message_reads_no_folder_and_no_file_while_nothing_has_changed(
    gmail: Gmail, sign_up: SignUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_up(ME)
    assert isinstance(await gmail.authenticate(ME), Mailbox)
    looked: list[str] = []
    monkeypatch.setattr("mailerd.gmail.credentials.CredentialDirs.find", lambda _, sender: looked.append(sender))
    for _ in range(3):
        assert isinstance(await gmail.authenticate(ME), Mailbox)
    assert not looked
