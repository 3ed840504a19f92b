"""The calls themselves, against the sandbox Google."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from yarl import URL

from mailerd.config import GmailSettings
from mailerd.core.replies import Accepted, MalformedResponse, NoCredentials, NoResponse, Refused
from mailerd.events.worker import GmailEvents
from mailerd.gmail import Gmail
from mailerd.gmail.client import UPLOAD_ABOVE, Endpoints, draft_json, message_json
from mailerd.sandbox.google import COMPOSE, METADATA, SEND, FakeGoogle, Fault

SignUp = Callable[..., Path]
ME = "me@example.com"


def a_message(key: str = "k1", *, body: bytes = b"Hello\r\n") -> bytes:
    head = f"From: {ME}\r\nTo: you@example.com\r\nSubject: Hello\r\nX-Mailerd-Key: {key}\r\n\r\n"
    return head.encode() + body


async def drafted(gmail: Gmail, *, key: str = "k1") -> Accepted:
    reply = await gmail.create_draft(ME, raw=a_message(key))
    assert isinstance(reply, Accepted)
    return reply


async def test_a_message_goes_as_a_draft_and_then_out(gmail: Gmail, google: FakeGoogle, sign_up: SignUp) -> None:
    sign_up(ME)
    stored = await drafted(gmail)
    assert stored.thread_id
    sent = await gmail.send_draft(ME, draft_id=stored.id)
    assert isinstance(sent, Accepted)
    assert sent.thread_id == stored.thread_id
    (arrived,) = google.sent
    assert (arrived.id, arrived.draft_id, arrived.key) == (sent.id, stored.id, "k1")


async def test_a_sent_draft_is_gone(gmail: Gmail, sign_up: SignUp) -> None:
    sign_up(ME)
    stored = await drafted(gmail)
    here = await gmail.get_draft(ME, draft_id=stored.id)
    assert isinstance(here, Accepted)
    assert here.id == stored.id
    await gmail.send_draft(ME, draft_id=stored.id)
    for reply in (await gmail.get_draft(ME, draft_id=stored.id), await gmail.send_draft(ME, draft_id=stored.id)):
        assert isinstance(reply, Refused)
        assert (reply.status, reply.reason) == (404, "notFound")


async def test_a_deleted_draft_is_gone(gmail: Gmail, google: FakeGoogle, sign_up: SignUp) -> None:
    sign_up(ME)
    stored = await drafted(gmail)
    assert await gmail.delete_draft(ME, draft_id=stored.id) == Accepted()
    assert not google.drafts(ME)
    assert isinstance(await gmail.delete_draft(ME, draft_id=stored.id), Refused)


async def test_an_orphan_draft_is_found_by_its_key(gmail: Gmail, sign_up: SignUp) -> None:
    sign_up(ME)
    stored = await drafted(gmail, key="orphan")
    listed = await gmail.list_drafts(ME)
    assert isinstance(listed, Accepted)
    assert isinstance(listed.body, dict)
    assert [entry["id"] for entry in listed.body["drafts"]] == [stored.id]
    shown = await gmail.get_draft_headers(ME, draft_id=stored.id)
    assert isinstance(shown, Accepted)
    assert isinstance(shown.body, dict)
    headers = {h["name"]: h["value"] for h in shown.body["message"]["payload"]["headers"]}
    assert headers["X-Mailerd-Key"] == "orphan"


async def test_the_list_of_sent_messages_goes_on_by_page_token(gmail: Gmail, sign_up: SignUp) -> None:
    sign_up(ME, scopes=(COMPOSE, METADATA))
    sent = set()
    for n in range(101):
        stored = await drafted(gmail, key=f"k{n}")
        reply = await gmail.send_draft(ME, draft_id=stored.id)
        assert isinstance(reply, Accepted)
        sent.add(reply.id)
    await drafted(gmail, key="not sent")
    first = await gmail.list_sent(ME)
    assert isinstance(first, Accepted)
    assert isinstance(first.body, dict)
    second = await gmail.list_sent(ME, page_token=first.body["nextPageToken"])
    assert isinstance(second, Accepted)
    assert isinstance(second.body, dict)
    assert len(second.body["messages"]) == 1
    assert {m["id"] for m in first.body["messages"] + second.body["messages"]} == sent


async def test_the_list_of_drafts_goes_on_by_page_token(gmail: Gmail, sign_up: SignUp) -> None:
    sign_up(ME)
    stored = {(await drafted(gmail)).id for _ in range(101)}
    first = await gmail.list_drafts(ME)
    assert isinstance(first, Accepted)
    assert isinstance(first.body, dict)
    second = await gmail.list_drafts(ME, page_token=first.body["nextPageToken"])
    assert isinstance(second, Accepted)
    assert isinstance(second.body, dict)
    assert {entry["id"] for entry in first.body["drafts"] + second.body["drafts"]} == stored


async def test_a_direct_message_is_found_again_among_the_sent(gmail: Gmail, sign_up: SignUp) -> None:
    sign_up(ME, scopes=(SEND, METADATA))
    sent = await gmail.send_message(ME, raw=a_message("k7"))
    assert isinstance(sent, Accepted)
    listed = await gmail.list_sent(ME)
    assert isinstance(listed, Accepted)
    assert isinstance(listed.body, dict)
    assert [m["id"] for m in listed.body["messages"]] == [sent.id]
    shown = await gmail.get_message(ME, message_id=sent.id)
    assert isinstance(shown, Accepted)
    assert isinstance(shown.body, dict)
    assert shown.body["payload"]["headers"] == [{"name": "X-Mailerd-Key", "value": "k7"}]
    assert "SENT" in shown.body["labelIds"]


async def test_a_thread_shows_its_messages(gmail: Gmail, sign_up: SignUp) -> None:
    sign_up(ME, scopes=(COMPOSE, METADATA))
    stored = await drafted(gmail)
    sent = await gmail.send_draft(ME, draft_id=stored.id)
    assert isinstance(sent, Accepted)
    thread = await gmail.get_thread(ME, thread_id=sent.thread_id)
    assert isinstance(thread, Accepted)
    assert isinstance(thread.body, dict)
    assert [m["id"] for m in thread.body["messages"]] == [sent.id]


async def test_the_profile_names_the_mailbox(gmail: Gmail, sign_up: SignUp) -> None:
    sign_up(ME)
    reply = await gmail.get_profile(ME)
    assert isinstance(reply, Accepted)
    assert isinstance(reply.body, dict)
    assert reply.body["emailAddress"] == ME


@pytest.mark.parametrize("mode", ["draft", "direct"])
async def test_a_large_message_arrives_byte_for_byte_by_the_upload_address(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp, mode: str
) -> None:
    google.change_rules(keep_raw=1)
    sign_up(ME)
    raw = a_message(body=b"0123456789abcde\r\n" * (UPLOAD_ABOVE // 16))
    if mode == "draft":
        reply = await gmail.create_draft(ME, raw=raw)
        assert isinstance(reply, Accepted)
        reply = await gmail.send_draft(ME, draft_id=reply.id)
    else:
        reply = await gmail.send_message(ME, raw=raw)
    assert isinstance(reply, Accepted)
    (arrived,) = google.sent
    assert arrived.key == "k1"
    assert arrived.raw.endswith(raw[-1_000_000:])


async def test_scopes_that_do_not_suffice_are_googles_refusal(gmail: Gmail, sign_up: SignUp) -> None:
    sign_up(ME, scopes=(SEND,))
    reply = await gmail.create_draft(ME, raw=a_message())
    assert isinstance(reply, Refused)
    assert reply.status == 403
    assert reply.reason == "insufficientPermissions"


@pytest.mark.parametrize(
    "kind, expected",
    [
        ("invalid_to", (400, "invalidArgument")),
        ("precondition_failed", (400, "failedPrecondition")),
        ("rate_limit", (403, "rateLimitExceeded")),
        ("domain_policy", (403, "domainPolicy")),
        ("api_disabled", (403, "accessNotConfigured")),
        ("not_found", (404, "notFound")),
        ("backend_error", (500, "backendError")),
        ("html_502", (502, "")),
    ],
)
async def test_googles_refusals_are_reported_as_they_are(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp, kind: str, expected: tuple[int, str]
) -> None:
    sign_up(ME)
    stored = await drafted(gmail)
    google.fault(Fault(kind=kind, method="drafts.send"))
    reply = await gmail.send_draft(ME, draft_id=stored.id)
    assert isinstance(reply, Refused)
    assert (reply.status, reply.reason) == expected
    assert reply.message


async def test_the_time_of_a_throttle_stands_in_the_message(gmail: Gmail, google: FakeGoogle, sign_up: SignUp) -> None:
    sign_up(ME)
    google.fault(Fault(kind="mail_sending_retry_after", method="messages.send"))
    reply = await gmail.send_message(ME, raw=a_message())
    assert isinstance(reply, Refused)
    assert reply.status == 429
    assert "Retry after 20" in reply.message
    assert "(Mail sending)" in reply.message


@pytest.mark.parametrize("kind", ["garbage", "truncated", "200_without_id", "list_body", "bad_utf8"])
async def test_a_lying_success_is_garbled(gmail: Gmail, google: FakeGoogle, sign_up: SignUp, kind: str) -> None:
    sign_up(ME)
    google.fault(Fault(kind=kind, method="messages.send"))
    assert isinstance(await gmail.send_message(ME, raw=a_message()), MalformedResponse)


@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "hang_before", "hang_after", "cut_off", "late"])
async def test_a_lost_answer_is_lost_whether_or_not_the_message_went(
    settings: GmailSettings, events: GmailEvents, google: FakeGoogle, sign_up: SignUp, kind: str
) -> None:
    sign_up(ME)
    google.fault(Fault(kind=kind, method="drafts.send", seconds=0.5))
    bound = settings.model_copy(update={"request_timeout": 0.3})
    async with Gmail(bound, events=events, concurrency=20) as gmail:
        stored = await drafted(gmail)
        assert isinstance(await gmail.send_draft(ME, draft_id=stored.id), NoResponse)
    assert sum(entry.method == "drafts.send" for entry in google.log) <= 1


@pytest.mark.parametrize("ident", ["", ".", ".."])
async def test_an_id_that_cannot_be_one_is_a_bug_of_the_caller(gmail: Gmail, sign_up: SignUp, ident: str) -> None:
    sign_up(ME)
    with pytest.raises(ValueError, match="not an id"):
        await gmail.get_draft(ME, draft_id=ident)


def test_an_id_never_leaves_its_place_in_the_address() -> None:
    addresses = Endpoints("http://x/")
    shown = addresses.draft("../a/b?c#d%2e", shape="minimal")
    assert shown == "http://x/gmail/v1/users/me/drafts/..%2Fa%2Fb%3Fc%23d%252e?format=minimal"
    assert URL(shown).raw_path == "/gmail/v1/users/me/drafts/..%2Fa%2Fb%3Fc%23d%252e"


def test_a_body_is_the_json_that_google_documents() -> None:
    raw = bytes(range(256))
    encoded = base64.urlsafe_b64encode(raw)
    assert message_json(raw) == b'{"raw":"' + encoded + b'"}'
    assert draft_json(raw) == b'{"message":{"raw":"' + encoded + b'"}}'


async def test_a_sender_whose_calls_are_not_answered_has_a_smaller_share_until_they_are_again(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp
) -> None:
    sign_up(ME)
    google.fault(Fault(kind="reset_before", method="messages.send", count=2))
    for _ in range(2):
        assert isinstance(await gmail.send_message(ME, raw=a_message()), NoResponse)
    assert gmail.semaphore.capacity_by_sender() == {ME: 7}, "of 20 slots 5, and half as many again wait"
    google.fault(Fault(kind="mail_sending_retry_after", method="messages.send"))
    assert isinstance(await gmail.send_message(ME, raw=a_message()), Refused), "a refusal is an answer"
    assert gmail.semaphore.capacity_by_sender() == {ME: 9}
    assert isinstance(await gmail.send_message("stranger@example.com", raw=a_message()), NoCredentials)
    assert set(gmail.semaphore.capacity_by_sender()) == {ME}
