"""What comes into a mailbox of the sandbox Google, and the history by which it is found."""

import base64

import aiohttp
import pytest

from mailerd.sandbox.google import COMPOSE, FakeGoogle, Fault
from mailerd.sandbox.google.fake_limits import METADATA, READONLY
from tests.sandbox.google.conftest import ME, Client, Compose

API = "/gmail/v1/users/me/"


async def sent(session: aiohttp.ClientSession, compose: Compose, **fields: str) -> dict[str, str]:
    async with session.post(API + "messages/send", json=compose(**fields)) as response:
        assert response.status == 200
        found: dict[str, str] = await response.json()
        return found


async def history(session: aiohttp.ClientSession, start: object, **more: str) -> dict[str, object]:
    async with session.get(API + "history", params={"startHistoryId": str(start), **more}) as response:
        found: dict[str, object] = await response.json()
        return found | {"status": response.status}


async def test_a_notice_stands_in_the_messages_thread_and_in_the_history(
    google: FakeGoogle, session: aiohttp.ClientSession, compose: Compose
) -> None:
    message = await sent(session, compose)
    start = google.mailbox(ME).history_id
    google.arrivals.add(google.sent[0], "hard", due=google.now())
    found = await history(session, start)
    added = found["history"][0]["messagesAdded"][0]["message"]  # type: ignore[index]
    assert added["threadId"] == message["threadId"]
    assert added["labelIds"] == ["UNREAD", "CATEGORY_PERSONAL", "INBOX"]
    async with session.get(API + "messages/" + added["id"], params={"format": "raw"}) as response:
        raw = base64.urlsafe_b64decode((await response.json())["raw"])
    assert raw.startswith(b"Return-Path: <>\r\nAuthentication-Results: mx.google.com;")
    assert await history(session, found["historyId"]) == {"historyId": found["historyId"], "status": 200}


async def test_history_has_pages_and_is_forgotten(
    google: FakeGoogle, session: aiohttp.ClientSession, compose: Compose
) -> None:
    start = google.mailbox(ME).history_id
    for _ in range(3):
        await sent(session, compose)
    first = await history(session, start, maxResults="2")
    assert len(first["history"]) == 2  # type: ignore[arg-type]
    rest = await history(session, start, maxResults="2", pageToken=str(first["nextPageToken"]))
    assert len(rest["history"]) == 1  # type: ignore[arg-type]
    google.mailbox(ME).forget_history()
    assert (await history(session, start))["status"] == 404
    assert (await history(session, google.mailbox(ME).history_id))["status"] == 200
    assert (await history(session, "x"))["status"] == 400


async def test_an_inbox_that_was_read_in_a_former_run_has_no_history_that_is_forgotten(
    google: FakeGoogle, client: Client, compose: Compose
) -> None:
    await sent(client(), compose)
    read_up_to = google.mailbox(ME).history_id
    later = FakeGoogle()
    later.add_mailbox(ME)
    assert later.mailbox(ME).history_id >= read_up_to > google.mailbox(ME).forgotten


@pytest.mark.parametrize("scopes,status", [((COMPOSE,), 403), ((COMPOSE, METADATA), 200), ((COMPOSE, READONLY), 200)])
async def test_scopes(google: FakeGoogle, client: Client, scopes: tuple[str, ...], status: int) -> None:
    google.set_scopes(ME, scopes)
    session = client(scopes=scopes)
    assert (await history(session, google.mailbox(ME).history_id))["status"] == status


async def test_metadata_beside_readonly_reads_no_body(
    google: FakeGoogle, client: Client, compose: Compose, session: aiohttp.ClientSession
) -> None:
    message = await sent(session, compose)
    both = (COMPOSE, METADATA, READONLY)
    google.set_scopes(ME, both)
    drafts = API + "drafts"
    async with session.post(drafts, json={"message": {"raw": compose()["raw"]}}) as response:
        draft = (await response.json())["id"]
    for shape, expected in (("raw", 403), ("full", 403), ("metadata", 200), ("minimal", 200)):
        for address in (API + "messages/" + message["id"], f"{drafts}/{draft}"):
            async with client(scopes=both).get(address, params={"format": shape}) as response:
                assert response.status == expected


async def test_what_is_undelivered_comes_back_as_a_limit_notice(
    google: FakeGoogle, session: aiohttp.ClientSession, compose: Compose
) -> None:
    google.fault(Fault(kind="undelivered", method="messages.send"))
    await sent(session, compose, key="lost")
    await sent(session, compose, key="taken")
    assert [it.key for it in google.sent] == ["taken"]
    assert [it.key for it in google.undelivered] == ["lost"]
    google.arrivals.deliver(google.mailbox(ME), now=google.now() + google.rules.notice_delay_s)
    came = [it for it in google.mailbox(ME).messages.values() if "INBOX" in it.labels]
    assert [it.thread_id for it in came] == [google.undelivered[0].thread_id]


async def test_a_limit_that_is_noticed_late(
    google: FakeGoogle, session: aiohttp.ClientSession, compose: Compose
) -> None:
    google.change_rules(late_per_day=2)
    assert google.send_manually(ME, "friend@example.net")
    await sent(session, compose, key="1")
    await sent(session, compose, key="2")
    assert ([it.key for it in google.sent], [it.key for it in google.undelivered]) == (["1"], ["2"])


async def test_the_person_is_refused_above_the_day(google: FakeGoogle) -> None:
    google.change_rules(per_day=1)
    assert google.send_manually(ME, "friend@example.net")
    assert google.send_manually(ME, "friend@example.net") is None


async def test_what_the_person_writes_in_a_messages_thread_comes_back_as_what_it_is(
    google: FakeGoogle, session: aiohttp.ClientSession, compose: Compose
) -> None:
    await sent(session, compose, key="k")
    (message,) = google.sent
    asked = {"email": ME, "key": "k", "shape": "limit"}
    async with session.post("/sandbox/manual-send", json=asked) as response:
        assert (await response.json())["sent"] is True
    google.arrivals.deliver(google.mailbox(ME), now=google.now())
    first, own, notice = (google.mailbox(ME).messages[it] for it in google.mailbox(ME).threads[message.thread_id])
    assert (first.id, own.labels, own.key) == (message.id, ("SENT",), "")
    assert own.header("In-Reply-To") == message.message_id
    assert notice.header("In-Reply-To") == own.message_id
    assert b"X-Mailerd-Key" not in notice.raw


async def test_rules_draw_the_messages_to_the_same_people_each_time(
    google: FakeGoogle, session: aiohttp.ClientSession, compose: Compose
) -> None:
    google.change_rules(bounces=0.3, replies=0.3)
    drawn = []
    for job in ("A", "B"):  # whose ids are other ones each time
        google.reset()
        for number in range(20):
            await sent(session, compose, to=f"r{number}@example.org", key=f"{job}-{number}")
        drawn.append([it.message.to for it in google.arrivals._due[ME]])
    assert drawn[0] == drawn[1]
    assert 0 < len(drawn[0]) < 20


async def test_a_notice_is_about_the_newest_message_that_nothing_has_come_about(
    google: FakeGoogle, session: aiohttp.ClientSession, compose: Compose
) -> None:
    for key in ("1", "2", "3"):
        await sent(session, compose, to="ada@example.com", key=key)
    await sent(session, compose, to="bob@example.com", key="4")
    for _ in range(4):
        async with session.post("/sandbox/notices", json={"to": "ada", "shape": "hard", "count": 1}) as response:
            assert await response.json() == {"notices": 1}
    assert [it.message.key for it in google.arrivals._due[ME]] == ["3", "2", "1", "3"]


async def test_notices_on_demand_by_the_control_interface(session: aiohttp.ClientSession, compose: Compose) -> None:
    await sent(session, compose, key="k")
    async with session.post("/sandbox/notices", json={"key": "k", "shape": "reply"}) as response:
        assert await response.json() == {"notices": 1}
    async with session.post("/sandbox/notices", json={"key": "k", "shape": "no such"}) as response:
        assert response.status == 422
    async with session.post("/sandbox/notices", json={"key": "other", "shape": "reply"}) as response:
        assert response.status == 404
    async with session.post("/sandbox/manual-send", json={"email": ME}) as response:
        assert (await response.json())["sent"] is True
    async with session.post("/sandbox/manual-send", json={"email": ME, "key": "none"}) as response:
        assert response.status == 404
    async with session.post("/sandbox/history/forget", json={"email": ME}) as response:
        assert await response.json() == {"forgotten": 1}
