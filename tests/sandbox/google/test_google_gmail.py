"""Drafts, messages and threads over HTTP, as a client sees them."""

import base64
import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from mailerd.sandbox.google import COMPOSE, METADATA, READONLY, SEND, FakeGoogle

Compose = Callable[..., dict[str, Any]]
Client = Callable[..., aiohttp.ClientSession]
USER = "gmail/v1/users/me/"


async def _draft(session: aiohttp.ClientSession, resource: dict[str, Any]) -> dict[str, Any]:
    async with session.post(USER + "drafts", json={"message": resource}) as answer:
        assert answer.status == 200
        draft: dict[str, Any] = await answer.json()
        return draft


async def _error(answer: aiohttp.ClientResponse) -> tuple[int, str, str]:
    error = (await answer.json())["error"]
    assert error["code"] == answer.status
    return answer.status, error["errors"][0]["reason"], error["message"]


async def test_a_sent_draft_is_gone(session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose) -> None:
    draft = await _draft(session, compose())
    async with session.get(USER + f"drafts/{draft['id']}", params={"format": "minimal"}) as answer:
        assert answer.status == 200
        assert (await answer.json())["message"]["labelIds"] == ["DRAFT"]
    async with session.post(USER + "drafts/send", json={"id": draft["id"]}) as answer:
        sent = await answer.json()
    assert sent == {"id": sent["id"], "threadId": draft["message"]["threadId"], "labelIds": ["SENT"]}
    assert sent["id"] != draft["message"]["id"]
    async with session.get(USER + f"drafts/{draft['id']}") as answer:
        assert (await _error(answer))[:2] == (404, "notFound")
    async with session.post(USER + "drafts/send", json={"id": draft["id"]}) as answer:
        assert (await _error(answer))[:2] == (404, "notFound")
    async with session.get(USER + f"threads/{sent['threadId']}", params={"format": "minimal"}) as answer:
        assert [m["id"] for m in (await answer.json())["messages"]] == [sent["id"]]
    [message] = google.sent
    assert (message.id, message.draft_id, message.sender) == (sent["id"], draft["id"], "me@example.com")
    assert (message.to, message.key, message.subject) == ("ada@example.org", "k1", "Hello")


async def test_every_step_gives_a_new_message_id_and_keeps_the_rest(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    draft = await _draft(session, compose())
    [kept] = google.drafts("me@example.com")
    await session.post(USER + "drafts/send", json={"id": draft["id"]})
    [sent] = google.sent
    ids = [dict(message.headers)["Message-ID"] for message in (kept, sent)]
    assert ids == [kept.message_id, sent.message_id]
    assert len({"<mine@example.com>", *ids}) == 3
    assert b"mine@example.com" not in sent.raw
    assert sent.raw.endswith(
        b"From: me@example.com\r\nTo: ada@example.org\r\nSubject: Hello\r\nX-Mailerd-Key: k1\r\n\r\nDear Ada\r\n"
    )


async def test_a_direct_sending_twice_delivers_twice(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    for _ in range(2):
        async with session.post(USER + "messages/send", json=compose(key="twice")) as answer:
            assert (await answer.json())["labelIds"] == ["SENT"]
    assert len({message.message_id for message in google.sent}) == 2
    assert google.usage()["duplicates"] == {"twice": 2}


@pytest.mark.parametrize(
    "to", ["ada", "ada@f", "a b@example.org", "a@example.org, b", "<a@example.org", "a@-x.org", "a..b@example.org"]
)
async def test_a_malformed_recipient_is_refused_already_as_a_draft(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose, to: str
) -> None:
    async with session.post(USER + "drafts", json={"message": compose(to=to)}) as answer:
        assert await _error(answer) == (400, "invalidArgument", "Invalid To header")
    assert google.drafts() == []


async def test_a_missing_recipient_is_refused_when_the_draft_is_sent(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    draft = await _draft(session, compose(raw=b"Subject: nobody\r\n\r\nx"))
    async with session.post(USER + "drafts/send", json={"id": draft["id"]}) as answer:
        assert await _error(answer) == (400, "invalidArgument", "Recipient address required")
    assert len(google.drafts()) == 1
    assert google.sent == []


@pytest.mark.parametrize(
    "body, reason",
    [
        ({"message": {"raw": "not base64!"}}, "invalidArgument"),
        ({"message": {"raw": "YWJj" * 5}}, "invalidArgument"),
        ({"message": {}}, "invalidArgument"),
        ([], "invalidArgument"),
        ("{", "parseError"),
    ],
)
async def test_what_cannot_be_parsed_is_refused(session: aiohttp.ClientSession, body: Any, reason: str) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    async with session.post(USER + "drafts", data=text.encode()) as answer:
        assert (await _error(answer))[:2] == (400, reason)


async def test_plain_base64_is_refused_and_padding_is_free(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    resource = compose(raw=b"To: ada@example.org\r\n\r\nx\xfb\xff\xbey")
    assert "-_" in resource["raw"]
    assert resource["raw"].endswith("=")
    plain = {"raw": resource["raw"].replace("-", "+").replace("_", "/")}
    async with session.post(USER + "messages/send", json=plain) as answer:
        assert (await _error(answer))[2].startswith("Invalid value for ByteString: ")
    for raw in (resource["raw"], resource["raw"].rstrip("=")):
        async with session.post(USER + "messages/send", json={"raw": raw}) as answer:
            assert answer.status == 200
    assert [message.raw[-5:] for message in google.sent] == [b"x\xfb\xff\xbey"] * 2


@pytest.mark.parametrize("plain", ["+", "/"])
async def test_one_character_of_plain_base64_is_enough_to_be_refused(
    session: aiohttp.ClientSession, plain: str
) -> None:
    raw = base64.urlsafe_b64encode(b"To: ada@example.org\r\n\r\nabcdef").decode("ascii")
    async with session.post(USER + "messages/send", json={"raw": raw[:-1] + plain}) as answer:
        assert (await _error(answer))[2].startswith("Invalid value for ByteString: ")
    async with session.post(USER + "messages/send", json={"raw": raw}) as answer:
        assert answer.status == 200


async def test_a_foreign_from_is_rewritten_and_an_alias_is_not(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    for sender in ("Boss <boss@example.net>", "Me <alias@example.com>", "Me <ME@example.com>"):
        await session.post(USER + "messages/send", json=compose(sender=sender))
    assert [message.header("From") for message in google.sent] == [
        "me@example.com",
        "Me <alias@example.com>",
        "Me <ME@example.com>",
    ]


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
async def test_an_injected_header_is_seen_as_a_header(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose, end: str
) -> None:
    await session.post(USER + "messages/send", json=compose(to=f"ada@example.org{end}Bcc: eve@example.net"))
    assert google.sent[0].header("Bcc") == "eve@example.net"
    assert google.sent[0].to == "ada@example.org, eve@example.net"


async def test_an_upload_takes_the_bytes_as_they_are(session: aiohttp.ClientSession, google: FakeGoogle) -> None:
    raw = b"To: =?utf-8?q?Ad=C3=A4?= <ada@example.org>\r\nX-Mailerd-Key: up\r\n\r\n\xff\x00binary"
    path, rfc822 = "upload/gmail/v1/users/me@example.com/", {"Content-Type": "message/rfc822"}
    async with session.post(path + "messages/send?uploadType=media", data=raw, headers=rfc822) as answer:
        assert answer.status == 200
    async with session.post(path + "drafts?uploadType=media", data=raw, headers=rfc822) as answer:
        assert (await answer.json())["message"]["labelIds"] == ["DRAFT"]
    async with session.post(path + "drafts?uploadType=media", json={"raw": ""}) as answer:
        assert answer.status == 400
    assert google.sent[0].raw.endswith(raw)
    assert google.sent[0].key == "up"


async def test_a_message_that_comes_in_pieces_is_taken_whole(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    raw = b"To: ada@example.org\r\n\r\n" + b"x" * 2_000_000

    async def pieces() -> AsyncIterator[bytes]:
        body = json.dumps(compose(raw=raw)).encode()
        for at in range(0, len(body), 300_000):
            yield body[at : at + 300_000]

    async with session.post(USER + "messages/send", data=pieces()) as answer:
        assert answer.status == 200
    assert google.sent[0].raw.endswith(raw)


async def test_a_message_above_the_limit_is_413(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    google.change_rules(max_message_bytes=2_000)
    raw = b"To: ada@example.org\r\n\r\n" + b"x" * 2_000
    async with session.post(USER + "messages/send", json=compose(raw=raw)) as answer:
        assert answer.status == 413
    async with session.post(
        "upload/gmail/v1/users/me/messages/send", data=raw, headers={"Content-Type": "message/rfc822"}
    ) as answer:
        assert answer.status == 413
    async with session.post(USER + "messages/send", data=io.BytesIO(b"x" * 3_000_000)) as answer:
        assert answer.status == 413
    assert google.sent == []


async def test_the_formats_show_what_they_should(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    async with session.post(USER + "messages/send", json=compose()) as answer:
        ident = (await answer.json())["id"]

    async def get(**params: str) -> dict[str, Any]:
        async with session.get(USER + f"messages/{ident}", params=params) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    assert "payload" not in await get(format="minimal")
    assert base64.urlsafe_b64decode((await get(format="raw"))["raw"]) == google.sent[0].raw
    metadata = await get(format="metadata", metadataHeaders="x-mailerd-key")
    assert metadata["payload"]["headers"] == [{"name": "X-Mailerd-Key", "value": "k1"}]
    async with session.get(
        USER + f"messages/{ident}?format=metadata&metadataHeaders=To&metadataHeaders=from"
    ) as answer:
        assert [h["name"] for h in (await answer.json())["payload"]["headers"]] == ["From", "To"]
    full = await get()
    assert base64.urlsafe_b64decode(full["payload"]["body"]["data"]) == b"Dear Ada\r\n"
    assert full["snippet"] == "Dear Ada"
    assert (await get(format="odd"))["error"]["code"] == 400


async def test_lists_come_newest_first_in_pages(session: aiohttp.ClientSession, compose: Compose) -> None:
    ids = [(await _draft(session, compose(key=str(n))))["id"] for n in range(5)]
    seen: list[str] = []
    token: dict[str, str] = {}
    for size in (2, 2, 1):
        async with session.get(USER + "drafts", params={"maxResults": "2", **token}) as answer:
            page = await answer.json()
        seen += [draft["id"] for draft in page["drafts"]]
        assert len(page["drafts"]) == size
        token = {"pageToken": page.get("nextPageToken", "")}
    assert seen == ids[::-1]
    assert token == {"pageToken": ""}
    async with session.delete(USER + f"drafts/{ids[0]}") as answer:
        assert answer.status == 204
    async with session.delete(USER + f"drafts/{ids[0]}") as answer:
        assert answer.status == 404


async def test_messages_are_found_by_label_and_by_googles_own_message_id(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    await _draft(session, compose(key="draft"))
    await session.post(USER + "messages/send", json=compose(key="sent"))

    async def count(params: dict[str, str]) -> int:
        async with session.get(USER + "messages", params=params) as answer:
            return len((await answer.json()).get("messages", []))

    assert await count({}) == 2
    assert await count({"labelIds": "SENT"}) == 1
    async with session.get(USER + "messages?labelIds=SENT&labelIds=DRAFT") as answer:
        assert "messages" not in await answer.json()
    assert await count({"q": f"rfc822msgid:{google.sent[0].message_id.strip('<>')}"}) == 1
    assert await count({"q": "rfc822msgid:mine@example.com"}) == 0


async def test_each_method_wants_its_scope(client: Client, compose: Compose, google: FakeGoogle) -> None:
    google.set_scopes("me@example.com", [SEND, METADATA, COMPOSE, READONLY])
    sender, reader, drafter = client(scopes=(SEND,)), client(scopes=(METADATA,)), client(scopes=(COMPOSE,))
    async with sender.post(USER + "messages/send", json=compose()) as answer:
        ident = (await answer.json())["id"]
    async with sender.post(USER + "drafts", json={"message": compose()}) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["errors"][0]["reason"]) == (403, "insufficientPermissions")
        assert error["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"
        assert COMPOSE in answer.headers["WWW-Authenticate"]
    async with drafter.get(USER + f"messages/{ident}") as answer:
        assert answer.status == 403
    async with reader.get(USER + f"messages/{ident}", params={"format": "metadata"}) as answer:
        assert answer.status == 200
    async with reader.get(USER + f"messages/{ident}") as answer:
        assert await _error(answer) == (403, "forbidden", "Metadata scope doesn't allow format FULL")
    async with reader.get(USER + "messages", params={"q": "in:sent"}) as answer:
        assert await _error(answer) == (403, "forbidden", "Metadata scope does not support 'q' parameter")


async def test_a_bad_token_is_401_and_another_mailbox_403(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    google.add_mailbox("you@example.com")
    async with session.get("gmail/v1/users/you@example.com/profile") as answer:
        assert (await _error(answer))[:2] == (403, "forbidden")
    async with session.get(USER + "profile", headers={"Authorization": "Bearer wrong"}) as answer:
        assert (await _error(answer))[:2] == (401, "authError")
        assert (await answer.json())["error"]["status"] == "UNAUTHENTICATED"
    async with session.get(USER + "profile") as answer:
        assert (await answer.json())["emailAddress"] == "me@example.com"
    later = google.now() + 3_600
    google.now = lambda: later
    async with session.post(USER + "messages/send", json=compose()) as answer:
        assert (await _error(answer))[:2] == (401, "authError")


async def test_paths_that_google_does_not_have_are_its_html_404(session: aiohttp.ClientSession) -> None:
    for path in ("gmail/v1/users/me/nonsense", "gmail/v2/users/me/profile", "gmail/v1/users//profile", "x"):
        async with session.get(path) as answer:
            assert (answer.status, answer.content_type) == (404, "text/html")


async def test_a_thread_that_does_not_exist_cannot_be_written_into(
    session: aiohttp.ClientSession, compose: Compose
) -> None:
    async with session.post(USER + "messages/send", json=compose() | {"threadId": "beef"}) as answer:
        assert answer.status == 404
    draft = await _draft(session, compose())
    thread = draft["message"]["threadId"]
    async with session.post(USER + "messages/send", json=compose() | {"threadId": thread}) as answer:
        assert (await answer.json())["threadId"] == thread


async def test_the_send_as_list_names_the_aliases(session: aiohttp.ClientSession) -> None:
    async with session.get(USER + "settings/sendAs") as answer:
        addresses = [entry["sendAsEmail"] for entry in (await answer.json())["sendAs"]]
    assert addresses == ["me@example.com", "alias@example.com"]
