"""The public site: a POST unsubscribes whatever its body, nothing else does, and no failure looks like a success."""

import asyncio
import base64
import json
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from unittest.mock import AsyncMock

import aiohttp
import pytest

from mailerd.config import DatabaseSettings, PublicSettings
from mailerd.core.suppression import (
    ANSWER_DELAY,
    EVERYTHING,
    MAX_LOOKUP_AGE,
    Channel,
    Reason,
    UnsubscribeToken,
    digest_of,
    make_token,
    read_token,
)
from mailerd.errors import DatabaseAwayError
from mailerd.events.intake import SuppressionEvents
from mailerd.events.process import StoreEvents
from mailerd.http.auth import MAX_FAILURES_PER_MINUTE
from mailerd.intake import unsubscribe_site
from mailerd.intake.unsubscribe_site import UNDOS_PER_MINUTE, UnsubscribeSite
from mailerd.model.suppressions import MailingList
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from mailerd.store.write.secrets import SecretKeys, Secrets
from mailerd.store.write.suppressions import NewSuppression, Suppressions
from tests.support.heard import PATIENCE, Heard
from tests.support.own_time import at_this_speed, longest_stall
from tests.support.rows import post, query

ADDRESS = "ada@example.com"
SCANS = int(os.environ.get("SCANS", "50"))
"""How often scanners of mail look; 10000 shows what a mail system does in a week."""


@dataclass
class Public:
    url: str
    client: aiohttp.ClientSession
    database: Database
    keys: SecretKeys
    suppressions: Suppressions
    news: MailingList
    heard: Heard

    def token(self, recipient: int = 0, key_id: int = 1, address: str = ADDRESS) -> str:
        digest = digest_of(address, self.keys.address)
        return make_token(
            UnsubscribeToken(self.news.id, recipient, digest), key_id=key_id, key=self.keys.tokens[key_id]
        )

    async def opted_out(self) -> bool:
        return bool(await self.suppressions.binding([ADDRESS], list_id=self.news.id))


@pytest.fixture
async def public(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Public]:
    monkeypatch.setattr(unsubscribe_site, "ANSWER_DELAY", 0.01)
    heard = Heard()
    database = Database(
        DatabaseSettings(url=database_url, connect_timeout=20, statement_timeout=20), events=StoreEvents(heard)
    )
    await migrate(database, events=StoreEvents(heard))
    keys = await Secrets(database, timeout=20).keys()
    suppressions = Suppressions(database, key=keys.address, timeout=20)
    news = await suppressions.make_list("news", title="Autumn <news>")
    site = UnsubscribeSite(PublicSettings(), database=database, timeout=20, events=SuppressionEvents(heard))
    timeout = aiohttp.ClientTimeout(total=60)
    async with site.serve() as (host, port), aiohttp.ClientSession(timeout=timeout) as client:
        yield Public(f"http://{host}:{port}", client, database, keys, suppressions, news, heard)
    await database.close()


def multipart() -> aiohttp.FormData:
    form = aiohttp.FormData({"List-Unsubscribe": "One-Click"})
    form.add_field("other", b"x", filename="x")  # makes it multipart/form-data
    return form


async def test_a_number_that_was_given_anew_names_no_other_person(public: Public) -> None:
    await post(public.database, recipients=["another@example.org"])
    ((row,),) = await query(public.database, "SELECT id FROM job_recipients")
    async with public.client.post(f"{public.url}/u/{public.token(row)}") as response:
        assert response.status == 200
    assert await public.opted_out()
    ((job, data),) = await query(public.database, "SELECT job_id, data FROM events")
    assert (job, json.loads(data)["recipient_id"], json.loads(data)["email"]) == (None, None, None)


async def test_a_wish_belongs_to_the_sender_of_its_message_and_an_undo_lifts_no_other_senders(
    public: Public,
) -> None:
    """What the From said, and not the mailbox; where the message is not kept any more, only keys for all see it."""
    for sender in ("alice@example.com", "boris@example.com"):
        await post(public.database, sender=sender, recipients=[ADDRESS], list_id=public.news.id)
    await query(public.database, "UPDATE jobs SET from_email = 'sales@example.com' WHERE sender_email LIKE 'b%%'")
    rows = [row for (row,) in await query(public.database, "SELECT id FROM job_recipients ORDER BY id")]
    for token in (*map(public.token, rows), public.token(rows[0]), public.token(max(rows) + 1)):
        async with public.client.post(f"{public.url}/u/{token}") as response:
            assert response.status == 200
    read = "SELECT origin, recipient_id FROM suppressions ORDER BY origin"
    assert await query(public.database, read) == [
        ("", None), ("alice@example.com", rows[0]), ("sales@example.com", rows[1])
    ]  # fmt: skip
    assert await query(public.database, "SELECT COUNT(*) FROM events") == [(3,)]
    for row, said in ((rows[1], "still receive no"), (max(rows) + 1, "still receive no"), (rows[0], "again")):
        async with public.client.post(f"{public.url}/u/{public.token(row)}", data={"undo": "1"}) as response:
            assert (response.status, said in await response.text()) == (200, True)
        assert await public.opted_out() == (said != "again")


async def test_made_up_links_are_slowed_down_and_a_good_one_of_the_same_address_never(public: Public) -> None:
    seen, told = list[int](), list[str | None]()
    while 429 not in seen:
        async with public.client.get(f"{public.url}/u/{len(seen):060}") as response:
            seen.append(response.status)
            told.append(response.headers.get("Retry-After"))
    assert told[-1] == "10"
    assert (len(seen) > MAX_FAILURES_PER_MINUTE, set(seen[:-1])) == (True, {404})
    async with public.client.post(f"{public.url}/u/{public.token()}") as response:
        assert response.status == 200
    assert await public.opted_out()


async def test_a_body_that_is_no_http_is_no_bug(public: Public, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsubscribe_site, "BODY_TIMEOUT", 0.5)
    host, _, port = public.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST /u/{public.token()} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    writer.write(b"5\r\nhello\r\n")
    writer.write(b"ZZZ\r\n")
    assert (await asyncio.wait_for(reader.readline(), PATIENCE)).split()[1] in {b"400", b"408"}
    writer.close()
    assert not public.heard.of("unsubscribe_failed")


@pytest.mark.parametrize(
    "body",
    [
        {"List-Unsubscribe": "One-Click"},
        multipart,
        b"",
        b"\0\xff" * 1000,
        b'{"a": 1}',
        b"x" * 100_000,
        {"undo": "0"},
    ],
    ids=["one-click", "multipart", "empty", "binary", "json", "long", "undo=0"],
)
async def test_a_post_of_any_body_unsubscribes(public: Public, body: Any) -> None:
    body = body() if callable(body) else body
    async with public.client.post(f"{public.url}/u/{public.token()}", data=body, allow_redirects=False) as response:
        assert response.status == 200
        assert "unsubscribed" in await response.text()
    assert await public.opted_out()


async def test_an_answer_waits_until_no_send_that_was_allowed_before_can_begin(
    public: Public, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ANSWER_DELAY > MAX_LOOKUP_AGE
    monkeypatch.setattr(unsubscribe_site, "ANSWER_DELAY", 0.4)
    began = time.monotonic()
    async with public.client.post(f"{public.url}/u/{public.token()}") as response:
        assert response.status == 200
    assert time.monotonic() - began >= 0.4


async def test_get_and_head_change_nothing_and_show_the_button(public: Public) -> None:
    text = ""
    for _ in range(SCANS):
        async with public.client.get(f"{public.url}/u/{public.token()}") as response:
            assert response.status == 200
            text = await response.text()
        async with public.client.head(f"{public.url}/u/{public.token()}") as response:
            assert response.status == 200
    assert '<form method="post"><button>Unsubscribe</button></form>' in text
    assert "Autumn &lt;news&gt;" in text
    assert "<script" not in text
    assert not await public.opted_out()


async def test_the_headers_let_nothing_be_kept_run_or_told(public: Public) -> None:
    async with public.client.get(f"{public.url}/u/{public.token()}") as response:
        head = response.headers
    assert head["Cache-Control"] == "no-store"
    assert head["Referrer-Policy"] == "no-referrer"
    assert head["X-Robots-Tag"] == "noindex"
    assert "default-src 'none'" in head["Content-Security-Policy"]
    assert head["Server"] == "mailerd"
    assert "Set-Cookie" not in head


async def test_the_way_back_and_again(public: Public) -> None:
    url = f"{public.url}/u/{public.token()}"
    for body, out in ((b"", True), (b"", True), (b"undo=1", False), (b"undo=1", False), (b"", True)):
        async with public.client.post(url, data=body) as response:
            assert response.status == 200
        assert await public.opted_out() is out


async def test_one_link_is_undone_a_few_times_a_minute_and_works_always(
    public: Public,
) -> None:
    url, other = f"{public.url}/u/{public.token()}", f"{public.url}/u/{public.token(key_id=1, recipient=7)}"
    for number in range(3 * UNDOS_PER_MINUTE):
        async with public.client.post(url, data=b"") as response:
            assert response.status == 200
        async with public.client.post(other if number % 2 else url, data=b"undo=1") as response:
            late = response.status == 429
            assert late or response.status == 200
            assert ("Retry-After" in response.headers) is late
        assert await public.opted_out() is late
    ((told,),) = await query(public.database, "SELECT COUNT(*) FROM events")
    assert UNDOS_PER_MINUTE <= told <= UNDOS_PER_MINUTE + 3


async def test_the_way_back_lifts_no_bounce(public: Public) -> None:
    digest, url = public.suppressions.digest(ADDRESS), f"{public.url}/u/{public.token()}"
    async with public.client.post(url, data=b"undo=1") as response:
        assert "You are subscribed again" in await response.text()
    for list_id in (public.news.id, EVERYTHING):
        await public.suppressions.add([NewSuppression(digest, list_id, Reason.HARD_BOUNCE, Channel.NOTICE)])
        async with public.client.post(url, data=b"undo=1") as response:
            assert (response.status, "You still receive no messages" in await response.text()) == (200, True)
        async with public.client.post(url, data=b"undo=1", headers={"Accept-Language": "zh"}) as response:
            assert "仍未恢复订阅" in await response.text()
        assert await public.opted_out()
        await public.suppressions.remove(digest, list_id=list_id, source=Channel.API)


async def test_the_page_shows_the_masked_address_of_the_messages_row_alone(public: Public) -> None:
    await query(
        public.database,
        "INSERT INTO job_recipients (id, job_id, seq, to_email, status, due_at, updated_at)"
        " VALUES (7, 'J', 1, 'Ada@example.com', 'sent', NOW(6), NOW(6)),"
        " (8, 'J', 2, 'b@x.org', 'sent', NOW(6), NOW(6))",
    )
    async with public.client.get(f"{public.url}/u/{public.token(7)}") as response:
        assert "A•••@example.com" in await response.text()
    async with public.client.get(f"{public.url}/u/{public.token(8)}") as response:
        assert "x.org" not in await response.text()


async def test_the_page_speaks_chinese(public: Public) -> None:
    head = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}
    async with public.client.get(f"{public.url}/u/{public.token()}", headers=head) as response:
        text = await response.text()
    assert 'lang="zh"' in text
    assert "<h1>退订“" in text
    assert "<button>退订</button>" in text


async def test_what_was_forged_or_cut_is_a_404_for_every_method(public: Public) -> None:
    everything = make_token(
        UnsubscribeToken(EVERYTHING, 0, digest_of(ADDRESS, public.keys.address)), key_id=1, key=public.keys.tokens[1]
    )
    forged = make_token(
        UnsubscribeToken(public.news.id, 0, digest_of(ADDRESS, public.keys.address)), key_id=1, key=b"x" * 32
    )
    for token in (forged, public.token()[:-1], public.token() + "A", "..%2f..%2fetc", everything):
        for method in ("GET", "POST"):
            async with public.client.request(method, f"{public.url}/u/{token}") as response:
                assert response.status == 404
                assert "This link is invalid" in await response.text()
    assert not await public.opted_out()


def test_no_token_is_accepted_that_differs_from_one_of_ours() -> None:
    """Every bit that is turned, every cut, every byte of another, and keys of others: SCANS times a hundred of them."""
    keys, chance = {1: b"k" * 32, 2: b"l" * 32}, random.Random(1)
    good = [make_token(UnsubscribeToken(n + 1, n, bytes([n]) * 16), key_id=1, key=keys[1]) for n in range(100)]
    assert all(read_token(each, keys) for each in good)
    for number in range(SCANS * 100):
        token = chance.choice(good)
        raw = bytearray(base64.urlsafe_b64decode(token + "=="))
        match number % 4:
            case 0:
                raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
            case 1:
                raw = raw[: chance.randrange(len(raw))]
            case 2:
                raw[-16:] = chance.randbytes(16)
            case _:
                other = base64.urlsafe_b64decode(chance.choice(good) + "==")
                raw[2:30] = other[2:30] if other != raw else chance.randbytes(28)
        forged = base64.urlsafe_b64encode(raw).decode().rstrip("=")
        assert forged in good or read_token(forged, keys) is None, forged


@pytest.mark.parametrize("path", ["/", "/api/jobs", "/health/live", "/metrics", "/openapi.json", "/docs", "/u/", "/u"])
async def test_nothing_else_is_served(public: Public, path: str) -> None:
    async with public.client.get(public.url + path) as response:
        assert response.status == 404


async def test_robots_and_style_and_other_methods(public: Public) -> None:
    async with public.client.get(f"{public.url}/robots.txt") as response:
        assert await response.text() == "User-agent: *\nDisallow: /\n"
    async with public.client.get(f"{public.url}/u/style.css") as response:
        assert response.content_type == "text/css"
        assert "prefers-color-scheme: dark" in await response.text()
    async with public.client.put(f"{public.url}/u/{public.token()}") as response:
        assert response.status == 405
    assert not await public.opted_out()


async def rotate(public: Public) -> None:
    """Another process makes a new key for links, which the site may look for at once."""
    async with public.client.get(f"{public.url}/u/{public.token()}") as answer:
        assert answer.status == 200
    secrets = Secrets(public.database, timeout=20)
    await secrets.rotate()
    public.keys = await secrets.keys()
    await asyncio.sleep(unsubscribe_site.KEYS_INTERVAL)


async def act_by_new_key(public: Public) -> int:
    async with public.client.post(f"{public.url}/u/{public.token(key_id=2)}") as answer:
        return answer.status


async def test_no_link_is_called_unknown_while_the_keys_cannot_be_read(
    public: Public, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rotate(public)
    with monkeypatch.context() as away:
        gone = DatabaseAwayError("x", phase="connect", cause=OSError(), errno=0, retry=True, in_doubt=False)
        away.setattr(Secrets, "keys", AsyncMock(side_effect=gone))
        assert [await act_by_new_key(public) for _ in range(3)] == [503] * 3
    assert await act_by_new_key(public) == 200
    assert await public.opted_out()


async def test_no_link_is_called_unknown_while_the_keys_are_being_read(
    public: Public, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rotate(public)
    read, looks = Secrets.keys, list[Secrets]()

    async def slow(self: Secrets) -> SecretKeys:
        looks.append(self)
        await asyncio.sleep(0.3)
        return await read(self)

    monkeypatch.setattr(Secrets, "keys", slow)
    assert await asyncio.gather(*(act_by_new_key(public) for _ in range(3))) == [200] * 3
    assert len(looks) == 1


async def test_a_key_that_was_rotated_by_another_process_works_at_once(public: Public) -> None:
    async with public.client.get(f"{public.url}/u/{public.token()}") as response:
        assert response.status == 200
    secrets = Secrets(public.database, timeout=20)
    await secrets.rotate()
    public.keys = await secrets.keys()
    old, new = public.token(), public.token(key_id=2)
    await asyncio.sleep(unsubscribe_site.KEYS_INTERVAL)
    for token in (new, old):
        async with public.client.get(f"{public.url}/u/{token}") as response:
            assert response.status == 200


async def test_while_the_database_is_away_it_is_503_and_then_stored_once(public: Public, mariadb: Server) -> None:
    url = f"{public.url}/u/{public.token()}"
    mariadb.kill()
    for _ in range(3):
        async with public.client.post(url, data={"List-Unsubscribe": "One-Click"}) as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "30"
    async with public.client.get(url) as response:
        assert response.status == 503
    mariadb.start()
    await query(public.database, "SELECT 1")  # as a daemon's loops do
    async with public.client.post(url, data={"List-Unsubscribe": "One-Click"}) as response:
        assert response.status == 200
    assert await public.opted_out()
    assert await query(public.database, "SELECT COUNT(*) FROM suppression_log") == [(1,)]
    unserved = public.heard.of("unsubscribe_unserved")
    assert [fields["method"] for fields in unserved] == ["POST", "POST", "POST", "GET"]


@pytest.mark.parametrize(
    "head",
    [{"Content-Encoding": "gzip"}, {"Content-Encoding": "deflate"}, {"Content-Encoding": "br"}, {"Expect": "x"}],
    ids=["gzip", "deflate", "br", "expect"],
)
async def test_a_post_acts_whatever_its_headers_say(public: Public, head: dict[str, str]) -> None:
    url = f"{public.url}/u/{public.token()}"
    async with public.client.post(url, data=b"List-Unsubscribe=One-Click", headers=head) as response:
        assert response.status == 200
    assert await public.opted_out()


async def test_pipelined_requests_leave_others_their_turn(public: Public) -> None:
    host, port = public.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /z HTTP/1.1\r\nHost: x\r\n\r\n" * 8_000)
    assert await longest_stall(1.0) < at_this_speed(0.2)
    async with public.client.get(f"{public.url}/robots.txt") as response:
        assert response.status == 200
    writer.close()


async def test_a_connection_that_asks_nothing_is_closed(public: Public, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.http.server.FIRST_REQUEST_TIMEOUT", 0.4)
    site = UnsubscribeSite(
        PublicSettings(), database=public.database, timeout=20, events=SuppressionEvents(public.heard)
    )
    async with site.serve() as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"POST /u/x HTTP/1.1\r\nHost: x\r\n")
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()


async def test_what_is_no_http_is_an_event_and_no_stack_on_standard_error(
    public: Public, capfd: pytest.CaptureFixture[str]
) -> None:
    host, port = public.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /u/x HTTP/1.1\r\nHost: x\r\nX-Big: A\x1b[2J" + b"y" * 15_000 + b"\r\n\r\n")
    assert b" 400 " in await asyncio.wait_for(reader.readline(), PATIENCE)
    writer.close()
    await public.heard.wait_for("request_malformed")
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
