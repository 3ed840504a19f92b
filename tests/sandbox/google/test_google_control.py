"""The control calls: what another process can do and see."""

from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from mailerd.sandbox.google import COMPOSE, SEND, FakeGoogle, FakeLimits, RunningServer, serve

Compose = Callable[..., dict[str, Any]]
USER = "gmail/v1/users/me/"


async def _call(session: aiohttp.ClientSession, verb: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with session.request(verb, "/sandbox/" + path, json=body) as answer:
        return answer.status, await answer.json()


async def _sent(session: aiohttp.ClientSession, compose: Compose, *keys: str) -> None:
    for key in keys:
        async with session.post(USER + "messages/send", json=compose(key=key, to=f"{key}@example.org")) as answer:
            assert answer.status == 200


async def test_a_mailbox_is_opened_and_its_credential_is_in_googles_shape(
    session: aiohttp.ClientSession, google: FakeGoogle
) -> None:
    status, user = await _call(session, "POST", "mailboxes", {"email": "You@example.com", "scopes": [SEND]})
    assert (status, sorted(user)) == (200, ["client_id", "client_secret", "refresh_token", "type"])
    wanted = {"email": "@corp.example", "kind": "service_account"}
    _, service = await _call(session, "POST", "mailboxes", wanted)
    assert service["type"] == "service_account"
    assert service["private_key"].startswith("-----BEGIN PRIVATE KEY-----")
    assert service["token_uri"] == google.accounts.token_uri
    assert await _call(session, "GET", "mailboxes/you@example.com") == (200, user)
    _, listed = await _call(session, "GET", "mailboxes")
    assert [m["email"] for m in listed["mailboxes"]] == ["me@example.com", "you@example.com", "@corp.example"]


@pytest.mark.parametrize(
    "verb, path, body, status",
    [
        ("POST", "mailboxes", {"email": "no address"}, 422),
        ("POST", "mailboxes", {}, 422),
        ("POST", "mailboxes", [], 422),
        ("POST", "mailboxes", {"email": "a@b.cd", "kind": "x"}, 422),
        ("POST", "mailboxes", {"email": "a@b.cd", "scopes": "x"}, 422),
        ("POST", "mailboxes", {"email": "@b.cd"}, 422),
        ("POST", "mailboxes", {"email": "a@b.cd", "colour": "red"}, 422),
        ("PATCH", "mailboxes/nobody@example.com", {"revoked": True}, 404),
        ("PATCH", "mailboxes/me@example.com", {"colour": "red"}, 422),
        ("POST", "faults", {"kind": "nonsense"}, 422),
        ("POST", "faults", {"sort": "late"}, 422),
        ("DELETE", "faults/7", None, 404),
        ("PATCH", "rules", {"nonsense": 1}, 422),
        ("PATCH", "rules", {"per_day": -1}, 422),
        ("GET", "outbox?cursor=x", None, 422),
        ("GET", "outbox/nothing.eml", None, 404),
        ("GET", "nonsense", None, 404),
        ("PUT", "faults", None, 404),
    ],
)
async def test_a_wrong_call_says_what_is_wrong(
    session: aiohttp.ClientSession, verb: str, path: str, body: Any, status: int
) -> None:
    got, answer = await _call(session, verb, path, body)
    assert (got, list(answer)) == (status, ["error"])


async def test_a_mailbox_is_revoked_restored_and_given_other_scopes(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    await _call(session, "PATCH", "mailboxes/me@example.com", {"scopes": [SEND]})
    async with session.post(USER + "drafts", json={"message": compose()}) as answer:
        assert answer.status == 403
    await _call(session, "PATCH", "mailboxes/me@example.com", {"revoked": True})
    async with session.post(USER + "messages/send", json=compose()) as answer:
        assert answer.status == 401
    assert google.accounts.credentials[0].revoked
    await _call(session, "PATCH", "mailboxes/me@example.com", {"revoked": False})
    assert not google.accounts.credentials[0].revoked


async def test_access_tokens_can_be_made_to_expire(session: aiohttp.ClientSession) -> None:
    await _call(session, "POST", "tokens/expire")
    async with session.get(USER + "profile") as answer:
        assert answer.status == 401


async def test_faults_are_set_seen_and_lifted(session: aiohttp.ClientSession, compose: Compose) -> None:
    _, first = await _call(session, "POST", "faults", {"kind": "backend_error", "count": 1})
    await _call(session, "POST", "faults", {"kind": "not_found", "count": -1})
    async with session.post(USER + "messages/send", json=compose()) as answer:
        assert answer.status == 500
    _, listed = await _call(session, "GET", "faults")
    assert [(f["kind"], f["struck"]) for f in listed["spent"]] == [("backend_error", 1)]
    assert [(f["kind"], f["struck"]) for f in listed["faults"]] == [("not_found", 0)]
    assert listed["spent"][0]["id"] == first["id"]
    assert (await _call(session, "DELETE", f"faults/{listed['faults'][0]['id']}"))[0] == 200
    await _call(session, "POST", "faults", {"kind": "not_found"})
    assert await _call(session, "DELETE", "faults") == (200, {"faults": []})
    await _sent(session, compose, "fine")


async def test_the_outbox_can_be_followed_and_searched(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    await _sent(session, compose, "a", "b", "c")
    _, first = await _call(session, "GET", "outbox?limit=2")
    assert ([x["key"] for x in first["messages"]], first["next_cursor"], first["total"]) == (["a", "b"], "2", 3)
    _, rest = await _call(session, "GET", "outbox?limit=2&cursor=2")
    assert ([x["key"] for x in rest["messages"]], rest["next_cursor"], rest["end"]) == (["c"], None, "3")
    await _sent(session, compose, "d")
    _, new = await _call(session, "GET", "outbox?cursor=3")
    message = google.sent[-1]
    assert new["messages"] == [
        {
            "id": message.id,
            "thread_id": message.thread_id,
            "draft_id": "",
            "sender": "me@example.com",
            "to": "d@example.org",
            "subject": "Hello",
            "key": "d",
            "message_id": message.message_id,
            "at": message.at,
        }
    ]
    for query in ("to=b@example.org", "key=b", "key=b&sender=me@example.com", "to=B@"):
        assert [x["key"] for x in (await _call(session, "GET", "outbox?" + query))[1]["messages"]] == ["b"]
    assert (await _call(session, "GET", "outbox?sender=you@example.com"))[1]["messages"] == []
    async with session.get(f"/sandbox/outbox/{message.id}.eml") as answer:
        assert (answer.content_type, await answer.read()) == ("message/rfc822", message.raw)


async def test_drafts_log_and_usage_are_there_to_be_counted(session: aiohttp.ClientSession, compose: Compose) -> None:
    async with session.post(USER + "drafts", json={"message": compose(key="d")}) as answer:
        draft = (await answer.json())["id"]
    await _sent(session, compose, "s", "s")
    _, drafts = await _call(session, "GET", "drafts?sender=me@example.com")
    assert [(d["draft_id"], d["key"]) for d in drafts["drafts"]] == [(draft, "d")]
    _, log = await _call(session, "GET", "log")
    assert [(e["method"], e["user"], e["key"], e["draft_id"], e["status"], e["units"]) for e in log["log"]] == [
        ("drafts.create", "me@example.com", "d", draft, 200, 10),
        ("messages.send", "me@example.com", "s", "", 200, 100),
        ("messages.send", "me@example.com", "s", "", 200, 100),
    ]
    assert (await _call(session, "GET", f"log?cursor={log['next_cursor']}"))[1] == {"log": [], "next_cursor": None}
    _, usage = await _call(session, "GET", "usage")
    assert (usage["duplicates"], usage["sent"], usage["throttled"]) == ({"s": 2}, 2, 0)
    assert usage["project"]["units_last_minute"] == 210
    mine = usage["users"]["me@example.com"]
    assert (mine["units_last_minute"], mine["share_last_minute"], mine["drafts"], mine["sent_24h"]) == (
        210,
        0.035,
        1,
        2,
    )
    assert (await _call(session, "DELETE", "drafts?sender=me@example.com"))[1] == {"deleted": 1}
    assert (await _call(session, "GET", "drafts"))[1] == {"drafts": []}


async def test_a_reset_forgets_everything_but_the_mailboxes(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    await session.post(USER + "drafts", json={"message": compose()})
    await _sent(session, compose, "s", "s")
    await _call(session, "POST", "faults", {"kind": "late"})
    await _call(session, "POST", "reset")
    assert (google.sent, google.drafts(), list(google.log), google.faults.armed) == ([], [], [], [])
    usage = google.usage()
    assert (usage["duplicates"], usage["project"]["units_last_minute"]) == ({}, 0)
    assert usage["users"]["me@example.com"]["sent_24h"] == 0
    await _sent(session, compose, "again")


async def test_rules_can_be_changed_while_it_runs(session: aiohttp.ClientSession, compose: Compose) -> None:
    status, rules = await _call(session, "PATCH", "rules", {"units_per_minute": 150})
    assert (status, rules["units_per_minute"], rules["per_day"]) == (200, 150, 2_000)
    await _sent(session, compose, "fits")
    async with session.post(USER + "messages/send", json=compose()) as answer:
        assert answer.status == 403


async def test_the_oauth_client_is_handed_out_as_googles_console_does(
    session: aiohttp.ClientSession, running: RunningServer
) -> None:
    _, body = await _call(session, "GET", "client.json")
    assert body["installed"]["token_uri"] == running.token_uri
    assert body["installed"]["auth_uri"] == running.url + "o/oauth2/v2/auth"


async def test_a_foreign_site_cannot_use_a_browser_to_control_it(session: aiohttp.ClientSession) -> None:
    async with session.post("/sandbox/reset", headers={"Host": "evil.example"}) as answer:
        assert answer.status == 404
    async with session.get("/", headers={"Host": "evil.example"}) as answer:
        assert answer.status == 404


async def test_only_loopback_is_served() -> None:
    with pytest.raises(ValueError, match="loopback"):
        async with serve(FakeGoogle(), host="0.0.0.0"):  # noqa: S104 -- this is what must be refused
            pytest.fail("it was served")


def test_old_messages_can_lose_their_bodies_and_keep_their_headers() -> None:
    google = FakeGoogle(FakeLimits(keep_raw=1))
    google.add_mailbox("me@example.com", scopes=[COMPOSE])
    box = google.mailbox("me@example.com")
    for key in "ab":
        raw = f"To: a@example.org\r\nX-Mailerd-Key: {key}\r\n\r\nbody".encode()
        google.record_sent(box.send(raw, thread_id="", now=0, permit=lambda _: None))
    assert [message.raw.endswith(b"body") for message in google.sent] == [False, True]
    assert [message.header("X-Mailerd-Key") for message in google.sent] == ["a", "b"]
