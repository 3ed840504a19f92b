"""How much code one has to read to follow a message, a POST, a doubt or a bounce: the statements that run for it.

What counts: a statement of a function of `mailerd` that runs, once or often, in this process, while one thing goes from
its first line to its last, in a daemon that has done the same once before. So neither an import counts, nor what only
the first of its kind needs (a connection, a token, a child process). The daemon is a whole one, in front of a real
database and the stand-in for Google, but of its loops only those run that the thing needs, and each does no more than
that: what an idle daemon does now and then is not seen. A statement is one however many lines it has, so that no
formatting changes the number; and files are not counted, which would reward who glues them together.

What does not: the stand-in, the writing of the log, and what runs in the child process that renders.

The numbers may only fall; where one here has become too high, lower it. What depends on the moment (a lock that is
busy, a pool that grows) runs some statements more or less: so much is `SLACK`.
"""

import ast
import asyncio
import inspect
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextvars import Context, ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Final, Self

import aiohttp
import pytest

from mailerd import clock
from mailerd.app import Daemon, build
from mailerd.heartbeat import every
from mailerd.sandbox.google import COMPOSE, FakeGoogle, FakeLimits, Fault, serve
from mailerd.sandbox.google.fake_limits import READONLY
from mailerd.store.db.database import Database
from mailerd.store.write.api_keys import ApiKeys
from tests.house.source import ROOT, tree
from tests.support.daemon import settings, sign_in
from tests.support.heard import Heard
from tests.support.rows import post, query

MOST: Final = {"message": 1580, "POST": 1059, "doubt": 767, "bounce": 1309}
"""How many statements run for each."""
SLACK: Final = 25

ME: Final = "me@example.com"
_TOOL: Final = sys.monitoring.PROFILER_ID
_OURS: Final = ContextVar("runs for the test", default=False)


@cache
def statements(path: Path) -> Mapping[int, int]:
    """By line of a file: the line on which its statement begins, the innermost one."""
    found: dict[int, int] = {}
    nodes = [it for it in ast.walk(tree(path)) if isinstance(it, ast.stmt)]
    for node in sorted(nodes, key=lambda it: it.lineno):  # what is inside begins later
        found |= dict.fromkeys(range(node.lineno, (node.end_lineno or node.lineno) + 1), node.lineno)
    return found


class Trace:
    """The statements that run for the test, since it was last told to begin.

    Its tasks inherit a mark, which one that becomes a periodic loop loses. Threads do not, but nobody else has work for
    one meanwhile: all that runs there counts.
    """

    def __init__(self) -> None:
        self.statements = set[tuple[str, int]]()

    def __enter__(self) -> Self:
        _OURS.set(True)
        events = sys.monitoring.events
        sys.monitoring.use_tool_id(_TOOL, "trace")
        sys.monitoring.register_callback(_TOOL, events.LINE, self._seen)
        sys.monitoring.set_events(_TOOL, events.LINE)
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        sys.monitoring.set_events(_TOOL, 0)
        sys.monitoring.free_tool_id(_TOOL)

    def begin(self) -> None:
        """Forget what was seen."""
        self.statements.clear()
        sys.monitoring.restart_events()

    def _seen(self, code: CodeType, line: int) -> object:
        path = Path(code.co_filename)
        is_function = code.co_flags & inspect.CO_OPTIMIZED  # neither a module nor the body of a class
        if (
            not is_function
            or not path.is_relative_to(ROOT / "mailerd")
            or path.is_relative_to(ROOT / "mailerd/sandbox")
        ):
            return sys.monitoring.DISABLE
        if code is every.__code__:
            _OURS.set(False)
        if not _OURS.get() and threading.current_thread() is threading.main_thread():
            return None  # the same code may be called for the test as well
        start = statements(path).get(line, line)
        self.statements.add((path.relative_to(ROOT / "mailerd").as_posix(), start))
        return sys.monitoring.DISABLE

    def check(self, what: str) -> None:
        """Hold the number."""
        found, most = len(self.statements), MOST[what]
        by_file = sorted(Counter(file for file, _ in self.statements).items())
        names = "\n".join(["", *(f"{number:4} {file}" for file, number in by_file)])
        assert found <= most, f"for a {what} {found} statements run, and at most {most} are allowed:{names}"
        assert found > most - 2 * SLACK, f"it has become less: lower its number to {found + SLACK}{names}"


@dataclass(frozen=True)
class Place:
    """A daemon of which nothing runs but what a test starts."""

    daemon: Daemon
    database: Database
    google: FakeGoogle
    heard: Heard

    async def send(self) -> None:
        """From the claim of a message to its record: the runner drains as soon as it has claimed."""
        claims = len(self.heard.of("claimed"))
        async with asyncio.TaskGroup() as loops:
            recording = loops.create_task(self.daemon.recorder.run())
            async with asyncio.TaskGroup() as messages:
                claiming = messages.create_task(self.daemon.runner.run(messages))
                await self.heard.wait_for("claimed", times=claims + 1)
                claiming.cancel()
            recording.cancel()

    async def look(self) -> None:
        """Look for the messages in doubt."""
        async with asyncio.TaskGroup() as checks:
            assert await self.daemon.recovery.reconcile_some(checks), self.heard.names()

    async def read(self) -> None:
        """Read the inboxes that are due."""
        await self.daemon.inbox.read_due()


@pytest.fixture
async def place(database_url: str, database: Database, tmp_path: Path) -> AsyncIterator[Place]:
    google = FakeGoogle(FakeLimits(units_per_minute=0, project_units_per_minute=0, per_day=0))
    sign_in(google, tmp_path / "credentials", ME, scopes=(COMPOSE, READONLY))
    heard, outside = Heard(), Context()
    async with serve(google) as served:
        known = settings(
            database_url, served, tmp_path / "credentials",
            database={"connect_timeout": 60, "statement_timeout": 60},  # nothing is late because the machine is slow
            gmail={"request_timeout": 30.0}, runner={"lease": 120},
            pace={"units_per_minute": 1_000_000, "per_day": 2000},  # it has one, and two messages need not wait for it
        )  # fmt: skip
        daemon = build(known, lambda event, fields: outside.run(heard, event, fields))
        async with daemon.gmail, daemon.renderer:
            yield Place(daemon, database, google, heard)
        await daemon.database.close()


async def test_a_message_from_its_claim_to_its_record(place: Place) -> None:
    with Trace() as trace:
        for _ in range(2):
            await post(place.database, recipients=1)
            trace.begin()
            await place.send()
        trace.check("message")
    assert len(place.heard.of("message_sent")) == 2


async def test_a_post_of_a_job(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.intake.create_job.FORECAST_TIMEOUT", 60.0)
    key = await ApiKeys(place.database, timeout=10).create("shop")
    with Trace() as trace:
        async with (
            place.daemon.intake.serve() as [(host, port)],
            aiohttp.ClientSession(f"http://{host}:{port}", headers={"X-API-Key": key}, raise_for_status=True) as client,
        ):
            for number in (1, 2):
                template = {"subject": "Hello {{ name }}", "text": "Thank you, {{ name }}."}
                recipients = [{"email": f"r{number}@example.org", "name": "Ada"}]
                job = {"sender_email": ME, "template": template, "recipients": recipients}
                trace.begin()
                await client.post("/api/jobs/send_template_emails", json=job)
                await place.heard.wait_for("request_answered", times=number)
            trace.check("POST")


async def test_a_send_whose_answer_never_came_until_it_is_resolved(place: Place) -> None:
    unsure = "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) WHERE status = 'unsure'"
    with Trace() as trace:
        for _ in range(2):
            place.google.fault(Fault(kind="reset_after", method="drafts.send"))
            await post(place.database, recipients=1)
            await place.send()
            await query(place.database, unsure)
            trace.begin()
            await place.look()
        trace.check("doubt")
    assert len(place.heard.of("message_found")) == 2


async def test_a_bounce_from_the_inbox_to_its_record(place: Place) -> None:
    with Trace() as trace:
        for number in (1, 2):
            await post(place.database, recipients=[f"r{number}@example.org"])
            await place.send()
            await place.read()  # a mailbox is read from here on, and what it had before is nobody's
            place.google.arrivals.add(place.google.sent[-1], "hard", due=place.google.now())
            await query(place.database, "UPDATE mailboxes SET next_at = UTC_TIMESTAMP(6)")
            trace.begin()
            await place.read()
        trace.check("bounce")
    assert await query(place.database, "SELECT result FROM job_recipients") == [("bounced",)] * 2


async def test_what_is_called_counts_and_neither_what_others_call_nor_a_periodic_loop() -> None:
    async def work() -> None:
        clock.new_id()
        done.set()

    with Trace() as trace:
        Context().run(clock.new_id)
        done = asyncio.Event()
        loop = asyncio.create_task(every(60, work))
        await done.wait()
        loop.cancel()
        assert trace.statements == set()
        clock.new_id()
        assert {file for file, _ in trace.statements} == {"clock.py"}
