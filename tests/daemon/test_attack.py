"""One key that asks the console for what costs most, over eight connections: what neighbours and SIGTERM feel of it.

The daemon, the attack and the neighbour are processes of their own. `ATTACK_SECONDS=60 … -s` measures longer.
"""

import asyncio
import base64
import io
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from mailerd.sandbox.google import COMPOSE, FakeGoogle, FakeLimits, serve
from mailerd.store.db.database import Database
from mailerd.store.write.api_keys import ApiKeys, Permission
from tests.chaos.child import EXIT_WITHIN, Child
from tests.support.daemon import sign_in
from tests.support.heard import PATIENCE
from tests.support.own_time import at_this_speed, slowness
from tests.support.ports import free_port

SECONDS: Final = float(os.environ.get("ATTACK_SECONDS", "4"))
"""How long the neighbour is measured alone; with the attack twice as long."""
MANY: Final = 24
"""Answers that the attack has at least."""
MOMENTS: Final = (0.3, 1, 3, 6, 10) if "ATTACK_SECONDS" in os.environ else (2,)
"""Seconds of the attack after which the daemon is told to end."""
GOOD, HOSTILE = "good@example.com", "hostile@example.com"
CALLS: Final = [Permission.SEND, Permission.READ, Permission.SUPPRESS, Permission.TEMPLATES]
WAITS: Final = {"p50": 0.5, "p99": 0.99, "longest": 1.0}
MOVED: Final = 0.020
"""Seconds by which the slowest hundredth of the neighbour's answers may be later."""
HELD: Final = 0.040
"""Seconds that the loop may compute at a stretch; to start a child process takes half of it."""
GROWN: Final = 150.0
"""Megabytes by which the daemon may grow."""


@dataclass
class Figures:
    """What was seen of a daemon; times are on the monotonic clock."""

    answers: list[tuple[float, float, float, float]] = field(default_factory=list)
    """Of the neighbour: when it was asked, the milliseconds, those without waiting for a processor, and the status."""
    holds: list[tuple[float, float, float]] = field(default_factory=list)
    """Of the event loop: when it was over, the milliseconds, and those of them that were computing."""
    memory: list[tuple[float, float, float]] = field(default_factory=list)
    """When, and the megabytes of the daemon and of its children."""

    def between(self, begin: float, end: float) -> "Figures":
        """Those of a while."""
        return Figures(*([it for it in rows if begin <= it[0] < end] for rows in vars(self).values()))

    def wait(self, share: float, *, own: bool = True) -> float:
        """The seconds in which so many of the answers were there. `own`: without the waits for a processor."""
        waits = sorted(it[2] if own else it[1] for it in self.answers)
        return waits[min(len(waits) - 1, int(len(waits) * share))] / 1000

    @property
    def longest(self) -> float:
        """Seconds that the loop computed at a stretch."""
        return max((it[2] for it in self.holds), default=0.0) / 1000

    def __str__(self) -> str:
        waits = ", ".join(
            f"{name} {self.wait(it, own=False) * 1000:.1f} ({self.wait(it) * 1000:.1f}) ms"
            for name, it in WAITS.items()
        )
        away, peak, children = (max((it[n] for it in rows), default=0.0) for rows, n in
                                ((self.holds, 1), (self.memory, 1), (self.memory, 2)))  # fmt: skip
        return (
            f"{len(self.answers)} answers: {waits}; loop away for {away:.1f} ms, computing for "
            f"{self.longest * 1000:.1f} ms; {self.memory[0][1]:.0f} MB, peak {peak:.0f} MB, children {children:.0f} MB"
        )


@dataclass
class Place:
    """A daemon, the keys and the mailbox of both neighbours."""

    child: Child
    loop: Path
    good: str
    hostile: str
    gmail_draft: str
    memory: list[tuple[float, float, float]] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    """What the attack was answered."""
    slowness: float = 1.0
    """How many times longer than usual something computes, at most, while others compute, too."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.child.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While the daemon runs."""
        self.child.start()
        try:
            await self.child.until(lambda text: "runner started" in text)
            yield
        finally:
            self.child.kill()

    @asynccontextmanager
    async def asking(self, key: str, what: str, *about: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """While another process asks."""
        pipe = asyncio.subprocess.PIPE
        words = (sys.executable, "-m", "tests.support.attack", self.url, key, what, *about)
        process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    @asynccontextmanager
    async def attacked(self) -> AsyncIterator[None]:
        """While the attack goes on."""
        async with self.asking(self.hostile, "attack", HOSTILE, self.gmail_draft) as process:
            assert process.stdout
            assert await process.stdout.readline() == b"login: 200\n"
            counting = asyncio.create_task(self._count(process.stdout))
            yield
            counting.cancel()

    async def _count(self, answers: asyncio.StreamReader) -> None:
        async for line in answers:
            self.answered[line.decode().strip()] += 1

    def look(self) -> None:
        """Note the memory."""
        pid = self.child.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self.memory.append((time.monotonic(), megabytes(pid), sum(map(megabytes, children))))


def megabytes(pid: int | str) -> float:
    """What a process has in memory."""
    try:
        _, _, size = Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")
    except OSError:  # it has ended
        return 0.0
    return int(size.split()[0]) / 1024 if size else 0.0


@pytest.fixture
async def place(database_url: str, database: Database, tmp_path: Path) -> AsyncIterator[Place]:
    google = FakeGoogle(FakeLimits(units_per_minute=0, project_units_per_minute=0, per_day=0))
    for each in (GOOD, HOSTILE):
        sign_in(google, tmp_path / "credentials", each)
    config, port, keys = tmp_path / "config.toml", free_port(), ApiKeys(database, timeout=5)
    async with serve(google) as served:
        config.touch(mode=0o600)
        config.write_text(
            f'[database]\nurl = "{database_url}"\n[intake]\nport = {port}\n[runner]\ndrain_timeout = 10\n'
            f'[gmail]\napi_root = "{served.url}"\ntoken_uri = "{served.token_uri}"\n'
            'credentials_dir = "credentials"\n[pace]\nunits_per_minute = 0\nper_day = 0\n'
        )
        yield Place(
            Child("attacked", config=config, port=port, module="tests.support.watched"), config.with_name("loop"),
            await keys.create("good", senders=[GOOD]),
            await keys.create("hostile", senders=[HOSTILE], permissions=CALLS),
            await write_draft(google, served.url),
        )  # fmt: skip


async def write_draft(google: FakeGoogle, url: str) -> str:
    """A draft with a large picture and a text of which each character is escaped, in the mailbox of the hostile key."""
    made = EmailMessage()
    made["Subject"] = "Hello"
    made.set_content("as text")
    made.add_alternative('"<&\n' * 200_000 + '<img src="cid:p">', subtype="html")
    (*_, page) = made.iter_parts()
    assert isinstance(page, EmailMessage)
    page.add_related(bytes(14_000_000), "image", "png", cid="<p>", filename="chart.png")
    credential, until = google.accounts.of(HOSTILE)[0], google.now() + 3600
    token = google.accounts.grant(HOSTILE, credential=credential, scopes=frozenset({COMPOSE}), expires_at=until)
    body = b'{"message": {"raw": "%b"}}' % base64.urlsafe_b64encode(bytes(made))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession(url, headers=headers) as client,
        client.post("/gmail/v1/users/me/drafts", data=io.BytesIO(body)) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["id"])


async def post_earlier_job(place: Place) -> None:
    """A job of the hostile key with many people, for tomorrow."""
    recipients = [
        {"email": f"r{n}@example.com", "variables": {f"v{k}": "x" * 10 for k in range(20)}} for n in range(5000)
    ]
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86_400))
    job = {"sender_email": HOSTILE, "template": {"subject": "s", "text": "t"}, "recipients": recipients, "send_at": at}
    headers = {"X-API-Key": place.hostile, "Content-Type": "application/json"}
    body = io.BytesIO(json.dumps(job).encode())
    async with (
        aiohttp.ClientSession(place.url, headers=headers) as client,
        client.post("/api/jobs/send_template_emails", data=body) as answer,
    ):
        assert answer.status == 200, await answer.text()


async def wait(place: Place, *, at_least: float, many: int = 0) -> tuple[float, float]:
    """Look at the machine for so many seconds, and until the attack has had so many answers; from when to when."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        while time.monotonic() - began < at_least or place.answered.total() < many:
            place.slowness = max(place.slowness, slowness())
            for _ in range(50):
                place.look()
                await asyncio.sleep(0.02)
    return began, time.monotonic()


def table(text: bytes) -> list[Any]:
    """The numbers of each line."""
    return [tuple(map(float, line.split())) for line in text.splitlines()]


async def measured(place: Place) -> tuple[Figures, Figures]:
    """The neighbour alone, and beside the attack."""
    async with place.running(), place.asking(place.good, "neighbour", GOOD, str(place.child.pid)) as neighbour:
        await post_earlier_job(place)
        assert neighbour.stdout
        await neighbour.stdout.readline()
        alone = await wait(place, at_least=SECONDS)
        async with place.attacked():
            beside = await wait(place, at_least=2 * SECONDS, many=MANY)
        neighbour.kill()
        answers = table(await neighbour.stdout.read())
    seen = Figures(answers, table(place.loop.read_bytes()), place.memory)
    return seen.between(*alone), seen.between(*beside)


async def test_its_neighbour_hardly_feels_it_and_the_daemon_stays_small(place: Place) -> None:
    alone, beside = await measured(place)
    sys.stdout.write(
        f"\n{dict(place.answered)}\nalone: {alone}\nbeside the attack: {beside}\n"
        f"{place.slowness:.1f} times slower than usual\n"
    )
    assert {status for *_, status in beside.answers} == {200}
    assert beside.longest < at_this_speed(HELD)
    assert max(it[1] for it in beside.memory) - alone.memory[-1][1] < GROWN
    assert beside.wait(0.99) - alone.wait(0.99) < MOVED * place.slowness


@pytest.mark.parametrize("after", MOMENTS)
async def test_a_daemon_that_is_told_to_end_ends_in_the_midst_of_it(place: Place, after: float) -> None:
    async with place.running():
        await post_earlier_job(place)
        async with place.attacked():
            await asyncio.sleep(after)
            code, took = await place.child.terminate()
    sys.stdout.write(f"SIGTERM after {after} s: exit code {code} in {took:.1f} s\n")
    assert (code, took < EXIT_WITHIN) == (0, True)
