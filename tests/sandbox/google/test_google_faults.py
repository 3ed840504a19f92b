"""Faults on demand: what the client sees, and what has been done all the same."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from mailerd.core.i18n import t
from mailerd.locale import say
from mailerd.sandbox.google import KINDS, FakeGoogle, Fault, RunningServer
from mailerd.sandbox.google.answers import NAMED
from mailerd.sandbox.google.faults import WHAT_HAPPENS
from tests.house.sentences import is_chinese
from tests.support.heard import PATIENCE

Compose = Callable[..., dict[str, Any]]
USER = "gmail/v1/users/me/"


async def _send(session: aiohttp.ClientSession, resource: dict[str, Any], *, seconds: float = 60) -> tuple[int, bytes]:
    patience = aiohttp.ClientTimeout(sock_read=seconds)
    async with session.post(USER + "messages/send", json=resource, timeout=patience) as answer:
        return answer.status, await answer.read()


async def _until(happened: Callable[[], bool]) -> None:
    """Wait for something that the server does on its own."""
    async with asyncio.timeout(PATIENCE):
        while not happened():  # noqa: ASYNC110 -- the server has no event for tests, and shall not have one
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("kind, sent", [("reset_before", 0), ("reset_after", 1)])
async def test_a_reset_comes_before_or_after_the_work(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose, kind: str, sent: int
) -> None:
    google.fault(Fault(kind=kind, method="messages.send"))
    with pytest.raises(aiohttp.ClientOSError, match="Connection reset by peer"):
        await _send(session, compose())
    assert len(google.sent) == sent
    entry = google.log[-1]
    assert (entry.status, entry.accepted, entry.fault) == (0, bool(sent), kind)


@pytest.mark.parametrize("kind, sent", [("hang_before", 0), ("hang_after", 1)])
async def test_a_hang_never_answers(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose, kind: str, sent: int
) -> None:
    google.fault(Fault(kind=kind))
    with pytest.raises(aiohttp.SocketTimeoutError):
        await _send(session, compose(), seconds=0.1)
    assert len(google.sent) == sent


async def test_a_hang_ends_in_a_reset(session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose) -> None:
    google.fault(Fault(kind="hang_after", seconds=0.05))
    with pytest.raises(aiohttp.ClientOSError, match="Connection reset by peer"):
        await _send(session, compose())


async def test_a_late_request_is_accepted_when_the_client_has_long_gone(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    google.fault(Fault(kind="late", seconds=0.3))
    with pytest.raises(aiohttp.SocketTimeoutError):
        await _send(session, compose(key="late"), seconds=0.05)
    await session.close()
    assert google.sent == []
    await _until(lambda: len(google.sent) == 1)
    assert (google.log[-1].key, google.log[-1].accepted, google.log[-1].status) == ("late", True, 0)


async def test_a_client_that_leaves_in_mid_message_leaves_nothing(
    session: aiohttp.ClientSession, google: FakeGoogle, running: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1].strip("/")))
    bearer = session.headers["Authorization"]
    head = f"POST /{USER}drafts HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\nContent-Length: 99\r\n\r\n{{"
    writer.write(head.encode())
    await writer.drain()
    # The server has read the head when it has answered somebody who came later.
    await _send(session, {})
    writer.transport.abort()
    await _send(session, {})
    assert google.drafts() == []
    assert caplog.records == []


async def test_latency_does_the_work_although_the_client_has_gone(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    google.change_rules(latency_s=0.4)
    with pytest.raises(aiohttp.SocketTimeoutError):
        await _send(session, compose(), seconds=0.05)
    await session.close()
    assert google.sent == []
    await _until(lambda: len(google.sent) == 1)


async def test_a_late_first_sending_makes_the_second_a_404(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    async with session.post(USER + "drafts", json={"message": compose()}) as answer:
        draft = {"id": (await answer.json())["id"]}
    google.fault(Fault(kind="late", method="drafts.send", seconds=0.3))
    with pytest.raises(aiohttp.SocketTimeoutError):
        await session.post(USER + "drafts/send", json=draft, timeout=aiohttp.ClientTimeout(sock_read=0.05))
    async with session.post(USER + "drafts/send", json=draft) as answer:
        assert answer.status == 200
    await _until(lambda: google.log[-1].fault == "late")
    assert len(google.sent) == 1
    assert google.log[-1].accepted is False


@pytest.mark.parametrize(
    "kind, seen",
    [
        ("garbage", b"<html>ceci n'est pas du JSON"),
        ("200_without_id", b'{"labelIds":["SENT"]}'),
        ("list_body", b'[{"error":{"code":500,"message":"Backend Error"}}]'),
        ("bad_utf8", b'{"id":"\xff\xfe\xfa","threadId":"\xc3("}'),
    ],
)
async def test_a_lie_is_a_200_for_work_that_was_done(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose, kind: str, seen: bytes
) -> None:
    google.fault(Fault(kind=kind))
    assert await _send(session, compose()) == (200, seen)
    assert len(google.sent) == 1


async def test_a_truncated_answer_is_half_of_the_truth(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    google.fault(Fault(kind="truncated"))
    _, body = await _send(session, compose())
    whole = json.dumps({"id": google.sent[0].id}).replace(" ", "").encode()
    assert body.startswith(whole.removesuffix(b"}"))
    with pytest.raises(ValueError, match=r"delimiter|Unterminated|Expecting"):
        json.loads(body)


async def test_an_answer_that_is_cut_off_breaks_the_connection(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    google.fault(Fault(kind="cut_off"))
    with pytest.raises(aiohttp.ClientPayloadError):
        await _send(session, compose())
    assert len(google.sent) == 1


@pytest.mark.parametrize(
    "kind", [k for k in NAMED if k not in ("invalid_grant", "admin_policy", "invalid_client", "unauthorized_client")]
)
async def test_every_named_answer_can_be_asked_for_and_does_nothing(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose, kind: str
) -> None:
    google.fault(Fault(kind=kind))
    status, body = await _send(session, compose())
    assert (status, body) == (NAMED[kind](0).status, NAMED[kind](google.now() + 900).body)
    assert status >= 400
    assert google.sent == []
    assert (await _send(session, compose()))[0] == 200


async def test_a_backend_error_may_hide_a_success(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    google.fault(Fault(kind="unavailable", accepts=True))
    assert (await _send(session, compose()))[0] == 503
    assert len(google.sent) == 1


async def test_a_status_of_ones_own_has_a_body_of_ones_own(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    google.fault(Fault(kind="status", status=418, body="teapot", content_type="text/plain"))
    assert await _send(session, compose()) == (418, b"teapot")


async def test_skip_count_sender_and_method_choose_who_is_struck(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    google.fault(Fault(kind="not_found", sender="you@example.com", count=-1))
    google.fault(Fault(kind="not_found", method="drafts.send", count=-1))
    armed = google.fault(Fault(kind="backend_error", sender="ME@example.com", skip=2, count=3))
    statuses = [(await _send(session, compose()))[0] for _ in range(7)]
    assert statuses == [200, 200, 500, 500, 500, 200, 200]
    assert (armed.seen, armed.struck) == (5, 3)


async def test_the_dice_fall_the_same_for_the_same_seed(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    google.change_rules(units_per_minute=0)
    runs = []
    for _ in range(2):
        google.fault(Fault(kind="backend_error", count=-1, probability=0.5))
        runs.append([(await _send(session, compose()))[0] for _ in range(30)])
        google.clear_faults()
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 500}


@pytest.mark.parametrize(
    "kind, status, body",
    [
        ("invalid_grant", 400, b'"error":"invalid_grant"'),
        ("invalid_client", 401, b'"error":"invalid_client"'),
        ("unauthorized_client", 401, b'"error":"unauthorized_client"'),
        ("without_scope", 200, b'"token_type":"Bearer"'),
        ("backend_error", 500, b"Backend Error"),
    ],
)
async def test_the_token_endpoint_fails_as_asked(
    running: RunningServer, google: FakeGoogle, kind: str, status: int, body: bytes
) -> None:
    blob = google.accounts.credentials[0].blob
    form = {key: blob[key] for key in ("client_id", "client_secret", "refresh_token")}
    google.fault(Fault(kind=kind, method="token", sender="me@example.com"))
    async with aiohttp.ClientSession() as session:
        for expected in (status, 200):
            async with session.post(running.token_uri, data={"grant_type": "refresh_token"} | form) as answer:
                assert answer.status == expected
                if expected == status and kind != "without_scope":
                    assert body in await answer.read()
                elif expected == status:
                    assert "scope" not in await answer.json()
                    break


async def test_a_hanging_token_endpoint_leaves_gmail_alone(
    session: aiohttp.ClientSession, google: FakeGoogle, running: RunningServer, compose: Compose
) -> None:
    google.fault(Fault(kind="hang_before", method="token"))
    assert (await _send(session, compose()))[0] == 200
    with pytest.raises(aiohttp.SocketTimeoutError):
        await session.post(running.token_uri, data={}, timeout=aiohttp.ClientTimeout(sock_read=0.1))


async def test_a_fault_of_all_methods_leaves_the_token_endpoint_alone(
    running: RunningServer, google: FakeGoogle
) -> None:
    google.fault(Fault(kind="backend_error", count=-1))
    async with aiohttp.ClientSession() as session, session.post(running.token_uri, data={"grant_type": "x"}) as answer:
        assert (await answer.json())["error"] == "unsupported_grant_type"


async def test_a_struck_sending_is_logged_with_its_message(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    async with session.post(USER + "drafts", json={"message": compose(key="k9")}) as answer:
        draft = (await answer.json())["id"]
    google.fault(Fault(kind="rate_limit", method="drafts.send"))
    await session.post(USER + "drafts/send", json={"id": draft})
    entry = google.log[-1]
    assert (entry.key, entry.draft_id, entry.status, entry.units, entry.accepted) == ("k9", draft, 403, 0, False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "nonsense"},
        {"kind": "late", "method": "drafts.sent"},
        {"kind": "late", "probability": 2.0},
        {"kind": "late", "count": -2},
        {"kind": "invalid_grant", "method": "drafts.send"},
    ],
)
def test_a_fault_that_can_never_strike_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unknown|must|happens"):
        Fault(**wrong)


def test_every_kind_has_its_words_in_both_languages() -> None:
    assert set(WHAT_HAPPENS) == set(KINDS)
    assert [words for words in WHAT_HAPPENS.values() if not is_chinese(say(t(words), "zh"))] == []


def test_every_kind_has_an_answer_or_an_ending() -> None:
    for kind in KINDS:
        fault = Fault(kind=kind, method="token")
        assert fault.ending != "answer" or fault.answer(None, retry_at=0.0).body or kind == "status"
