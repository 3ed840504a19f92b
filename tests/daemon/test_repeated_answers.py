"""Between the daemon and Google something answers a request twice, on the connection that it came on.

It says an answer once more, or it has carried the request to Google twice: then there are two drafts, and the second
answer names another than the first.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mailerd.config import Settings
from mailerd.sandbox.google import COMPOSE, METADATA, SEND, FakeGoogle, RunningServer
from mailerd.store.db.database import Database
from tests.support.daemon import running, settings, sign_in
from tests.support.heard import Heard
from tests.support.rows import post, query, states

ME = "me@example.com"
MESSAGES = 150
SHARE = 0.3
"""Of the answers that come once more."""


async def read_one(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
    return head + (await reader.readexactly(int(length[1])) if length else b"")


class Repeating:
    """Passes everything on, each answer in two pieces, and answers some requests once more a moment later.

    `doubles`: it asks Google once more what has made a draft; else it says the same answer again.
    """

    def __init__(self, google: str, *, doubles: bool) -> None:
        self.google = urlsplit(google)
        self.doubles = doubles
        self.chance = random.Random(7)
        self.delays = [0.0005, 0.002, 0.005, 0.01, 0.02]
        self.repeated = 0
        self.tasks = set[asyncio.Task[None]]()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.begin(self.serve(reader, writer))

    def begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        google, to_google = await asyncio.open_connection(self.google.hostname, self.google.port)
        try:
            while True:
                request = await read_one(reader)
                to_google.write(request)
                answer = await read_one(google)
                head, _, body = answer.partition(b"\r\n\r\n")
                writer.write(head + b"\r\n\r\n")
                await asyncio.sleep(0.001)
                writer.write(body)
                if self.chance.random() < SHARE:
                    if self.doubles and (b"/drafts HTTP" not in request or not request.startswith(b"POST")):
                        continue
                    if self.doubles:
                        to_google.write(request)
                        answer = await read_one(google)
                    self.begin(self.again(writer, answer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # one side has ended
        finally:
            for each in (writer, to_google):
                each.close()
            for each in (writer, to_google):
                with suppress(ConnectionError):
                    await each.wait_closed()

    async def again(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        await asyncio.sleep(self.chance.choice(self.delays))
        if not writer.is_closing():
            self.repeated += 1
            writer.write(answer)


@asynccontextmanager
async def repeating(google: RunningServer, *, doubles: bool) -> AsyncIterator[tuple[Repeating, str]]:
    it = Repeating(google.url, doubles=doubles)
    server = await asyncio.start_server(it.accept, "127.0.0.1", 0, limit=1 << 24)
    try:
        yield it, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for task in it.tasks:
            task.cancel()
        await asyncio.gather(*it.tasks, return_exceptions=True)
        await server.wait_closed()


@pytest.mark.parametrize(
    "scopes, doubles",
    [((COMPOSE, METADATA), False), ((SEND, METADATA), False), ((COMPOSE, METADATA), True)],
    ids=["draft", "direct", "draft, made twice"],
)
async def test_answers_that_come_twice_make_no_message_sent_that_is_not_and_none_twice(
    database_url: str, served: RunningServer, credentials: Path, database: Database, google: FakeGoogle, heard: Heard,
    scopes: tuple[str, ...], *, doubles: bool,
) -> None:  # fmt: skip
    sign_in(google, credentials, ME, scopes=scopes)
    google.change_rules(latency_s=0.005)
    async with repeating(served, doubles=doubles) as (between, url):
        known: Settings = settings(
            database_url, served, credentials, gmail={"request_timeout": 2, "api_root": url},
            runner={"lease": 20, "poll_interval": 0.1, "concurrency": 6, "sweep_interval": 1.0},
            retry={"base": 0.1, "cap": 0.5, "max_attempts": 100},
        )  # fmt: skip
        if SEND in scopes:  # its connection ends with the answer: what comes later is not read
            between.delays = [0.0]
        job = await post(database, recipients=MESSAGES)
        async with running(known, heard):
            await heard.wait_for("job_finished", within=300)
    assert between.repeated > MESSAGES * SHARE / 3, "otherwise this test has shown nothing"
    assert await states(database, job) == {"sent": MESSAGES}
    assert google.duplicates() == {}
    sent = {message.key: message.id for message in google.sent}
    rows = await query(
        database, "SELECT CONCAT(job_id, '-', seq), message_id FROM job_recipients WHERE message_id IS NOT NULL"
    )
    assert len(sent) == MESSAGES
    assert {key: sent[key] for key, _ in rows} == dict(rows), "each row names its own message"
