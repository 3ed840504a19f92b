"""Health: what was red in the last days, the checks on demand, and what of both a limited key is told."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mailerd.app import Daemon
from mailerd.cli import run
from mailerd.cli.checks import RepeatedChecks, check_runner, machine
from mailerd.clock import Clock
from mailerd.core.reasons import reason
from mailerd.core.situation import Facts
from mailerd.core.stats import QueueStats, SenderStats
from mailerd.events.worker import RunnerEvents
from mailerd.heartbeat import Heartbeats
from mailerd.ops.log import Log
from mailerd.store.db.database import Database
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.trouble_history import KEPT, SETTLED, TroubleHistory, past_statement
from mailerd.web.frame.checks import ChecksOnDemand
from tests.support.dialect import plan
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.rows import post, query
from tests.web.conftest import ConsoleSite
from tests.web.test_light import look, tried

ROWS = "SELECT about, code, since, until FROM troubles ORDER BY about, since"
OPEN = datetime(9999, 12, 31)  # noqa: DTZ001 - as the database has it
BEGIN = datetime(2026, 11, 30, 10, 42, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RED = SenderStats("me@example.com", 0, 0, 0, 0, BEGIN + timedelta(days=1), "token_refused", "invalid_grant", "sign in")


@dataclass
class Time(Clock):
    """Stands still until it is moved."""

    at: datetime = BEGIN

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


@dataclass
class Watcher:
    """A daemon that notes what it is shown."""

    database: Database
    name: str
    time: Time
    senders: tuple[SenderStats, ...] = ()
    outage: str = ""
    history: TroubleHistory = field(init=False)

    def __post_init__(self) -> None:
        self.history = TroubleHistory(
            self.database, self.name, self.facts, Heartbeats(limit=60), RunnerEvents(Heard()), self.time
        )
        self.history._compare_at = self.time.monotonic() + SETTLED.total_seconds()

    def facts(self) -> Facts:
        stats = QueueStats(at=self.time.at, senders=self.senders, last_beat=1)
        return Facts(None if self.outage else stats, self.outage)

    async def sees(self, *senders: SenderStats, outage: str = "") -> None:
        """What it is shown now, and notes."""
        self.senders, self.outage = senders, outage
        while await self.history.note():
            pass


def naive(at: datetime) -> datetime:
    return at.replace(tzinfo=None)


async def test_what_was_red_is_noted_when_it_changes_and_only_then(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    time, begun = Time(), list[str]()
    it, transaction = Watcher(database, "D1", time), database.transaction

    async def counted(work: Any, *, what: str, **given: Any) -> Any:
        begun.append(what)
        return await transaction(work, what=what, **given)

    monkeypatch.setattr(Database, "transaction", lambda _, *given, **named: counted(*given, **named))
    for _ in range(20):
        await it.sees(RED)
        time.at += timedelta(seconds=5)
    assert begun == ["troubles.note"]
    assert (await query(database, ROWS))[0] == ("sender me@example.com", "token_refused", naive(BEGIN), OPEN)
    last = time.at - timedelta(seconds=5)
    for _ in range(20):
        await it.sees()
        time.at += timedelta(seconds=5)
    assert [what for what in begun if what != "look"] == ["troubles.note"] * 2
    assert await query(database, ROWS) == [("sender me@example.com", "token_refused", naive(BEGIN), naive(last))]
    time.at += MINUTE
    await it.sees(RED)
    assert len(await query(database, ROWS)) == 2, "another time is another row"


async def test_daemons_that_see_it_at_different_times_make_one_row_of_it(database: Database) -> None:
    time = Time()
    daemons = [Watcher(database, f"D{n}", time) for n in range(4)]
    late = Watcher(database, "late", time)
    await asyncio.gather(*(it.sees(RED) for it in daemons))
    assert [row[3] for row in await query(database, ROWS)] == [OPEN]
    time.at += 9 * MINUTE
    await asyncio.gather(*(it.sees(RED) for it in daemons))
    time.at += SETTLED
    await asyncio.gather(*(it.sees() for it in daemons))
    one = [("sender me@example.com", "token_refused", naive(BEGIN), naive(BEGIN + 9 * MINUTE))]
    assert await query(database, ROWS) == one
    await late.sees(RED)  # its numbers are half a minute old
    assert [row[2:] for row in await query(database, ROWS)] == [(naive(BEGIN), OPEN)]
    time.at += SETTLED
    await late.sees()
    assert [row[2:] for row in await query(database, ROWS)] == [(naive(BEGIN), naive(time.at - SETTLED))]


async def test_what_a_dead_daemon_left_open_ends_with_its_last_heartbeat(database: Database) -> None:
    time = Time()
    await Watcher(database, "dead", time).sees(RED, replace(RED, email="you@example.com"))
    await query(
        database,
        "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at) VALUES ('dead', 'h', 1, '1', %s, %s)",
        naive(BEGIN), naive(BEGIN + 5 * MINUTE),
    )  # fmt: skip
    time.at += timedelta(hours=1)
    await query(
        database,
        "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at) VALUES ('other', 'h', 2, '1', %s, %s)",
        naive(time.at), naive(time.at),
    )  # fmt: skip
    heir = Watcher(database, "heir", time)
    for _ in range(3):
        await heir.sees(RED)
        time.at += SETTLED
    assert [(row[0], *row[2:]) for row in await query(database, ROWS)] == [
        ("sender me@example.com", naive(BEGIN), OPEN),
        ("sender you@example.com", naive(BEGIN), naive(BEGIN + 5 * MINUTE)),
    ]


async def test_an_outage_of_the_database_is_noted_once_it_is_over(database: Database) -> None:
    time = Time()
    it = Watcher(database, "D1", time)
    await it.sees(RED)
    for _ in range(60):
        time.at += timedelta(seconds=5)
        await it.sees(outage="full")
    time.at += timedelta(seconds=5)
    await it.sees(RED)
    assert [(row[0], row[3]) for row in await query(database, ROWS)] == [
        ("database", OPEN), ("sender me@example.com", OPEN),
    ]  # fmt: skip
    time.at += SETTLED
    await it.sees(RED)
    row, _ = await query(database, ROWS)
    assert row == ("database", "database_full", naive(BEGIN + timedelta(seconds=5)), naive(BEGIN + 5 * MINUTE))
    rows = await plan(database, *past_statement(is_admin=True, senders=None))
    assert [row["key"] for row in rows] == ["until"]


async def test_the_page_tells_of_each_for_a_week_and_a_limited_key_of_its_senders_only(
    site: ConsoleSite, tmp_path: Path
) -> None:
    (tmp_path / "@example.com.json").touch(0o600)  # each sender is authorized; no token is asked for
    time = Time(datetime.now(UTC).replace(microsecond=0) - timedelta(days=3))
    it = Watcher(site.database, "D9", time)
    you = replace(RED, email="you@example.com", pause_reason="no <you>")
    await it.sees(RED, you)
    await it.sees(outage="full")
    begin, time.at = time.at, time.at + 2 * SETTLED
    await it.sees(you)
    time.at += 2 * SETTLED
    await it.sees()
    job = await post(site.database, recipients=8)
    await tried(site, "released", reason("google_error", said="503 Service Unavailable"), ago=20, job=job, times=2)
    await look(site, await site.signed_in("looks"))
    own = site.daemon.troubles
    await own.note()
    own.clock = Time(datetime.now(UTC) + 2 * SETTLED)
    await query(site.database, "DELETE FROM attempts")
    admin, mine = await site.signed_in("shop"), await site.signed_in("mine", senders=["me@example.com"])
    site.daemon.service.stats.take(await site.daemon.service.stats.read())
    await own.note()
    for browser, sees, unseen in (
        (admin, ("me@example.com cannot send", "no &lt;you&gt;", "The database is full", "503 Service"), ()),
        (mine, ("me@example.com cannot send", "503 Service Unavailable"), ("you@example.com", "database is full")),
        (await site.signed_in("reads", permissions=[Permission.READ]), ("no &lt;you&gt;",), ("database is full",)),
        (await site.signed_in("none", senders=["x@example.com"]), ("No problems are known.",), ("me@example.com",)),
    ):
        page = (await look(site, browser)).partition("Last 7 days")[2]
        assert all(text in page for text in sees), page
        assert not [text for text in unseen if text in page]
    page = await look(site, admin, "zh")
    assert f'datetime="{begin:%Y-%m-%dT%H:%M:%SZ}"' in page
    assert "无法发送" in page.partition("最近 7 天")[2]
    await query(site.database, "UPDATE troubles SET text = '{', since = since - INTERVAL 9 DAY WHERE code = 'deferred'")
    await query(
        site.database, "UPDATE troubles SET until = UTC_TIMESTAMP(6) - INTERVAL %s SECOND WHERE about = 'database'",
        KEPT.total_seconds() + 60,
    )  # fmt: skip
    page = (await look(site, admin)).partition("Last 7 days")[2]
    assert "sender me@example.com" in page, "a text that cannot be read costs nobody the page"
    assert "The database is full" not in page


async def test_a_limited_key_is_told_neither_of_daemons_nor_of_what_helps_on_their_machines(site: ConsoleSite) -> None:
    job = await post(site.database, recipients=3)
    admin, key = await site.signed_in("shop"), await site.keys.create("mine", senders=["me@example.com"])
    mine, reads = await site.sign_in(key), await site.signed_in("reads", permissions=[Permission.READ])
    await site.daemon.daemons.heartbeat()
    await query(
        site.database,
        "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at) VALUES ('D7', 'secret-host', 1, '1', "
        "UTC_TIMESTAMP(6) - INTERVAL 1 HOUR, UTC_TIMESTAMP(6) - INTERVAL 2 MINUTE)",
    )
    for browser, is_told in ((admin, True), (mine, False), (reads, False)):
        page = await look(site, browser)
        assert ("secret-host" in page, "systemctl" in page, ">Daemons<" in page) == (is_told,) * 3
    await query(site.database, "UPDATE daemons SET heartbeat_at = heartbeat_at - INTERVAL 5 MINUTE")
    await query(site.database, "UPDATE job_recipients SET due_at = UTC_TIMESTAMP(6) - INTERVAL 1 HOUR")
    await tried(site, "released", reason("google_silent", cause="no response within 5 s"), ago=5, job=job, times=3)
    for path in ("/status", "/"):
        page = await look(site, mine, alive=False, path=path)
        assert "mailerd is not running; 3 messages wait. Ask the person who operates it." in page
        for told in ("systemctl", "journalctl", "secret-host", "mailerd run", "No daemon r"):
            assert told not in page, (path, told)
        page = await look(site, admin, alive=False, path=path)
        assert "No daemon responds" in page
        assert "systemctl restart mailerd" in page


@pytest.fixture
def held() -> Iterator[threading.Event]:
    held = threading.Event()
    yield held
    held.set()


async def test_the_checks_run_once_at_a_time_and_only_for_a_key_without_limits(
    site: ConsoleSite, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, checks, waiting = list[object](), site.daemon.console.services.checks, list[object]()
    checks.clock, real, run = Time(), RepeatedChecks(site.daemon.settings, None), ChecksOnDemand.run

    async def counted(it: ChecksOnDemand) -> None:
        waiting.append(it)
        await run(it)

    async def all_wait() -> bool:
        return len(waiting) == 4

    monkeypatch.setattr(ChecksOnDemand, "run", counted)

    def examine() -> Any:
        runs.append(held.wait())
        return real()

    admin, other = await site.signed_in("shop"), await site.signed_in("other")
    async with admin.get("/status") as answer:
        assert "Run the checks" not in await answer.text(), "this daemon was given none"
    some = await site.signed_in("some", senders=["me@example.com"])
    few = await site.signed_in("few", permissions=[Permission.READ, Permission.SEND])
    for limited in (some, few):
        async with limited.post("/status") as answer:
            assert answer.status == 403
    checks.examine = examine
    for limited in (some, few):
        assert "Run the checks" not in await look(site, limited)
    asked = [asyncio.create_task(browser.post("/status").__aenter__()) for browser in (admin, other, admin, other)]
    await eventually(all_wait)
    assert "<button disabled>Run the checks" in await look(site, admin)
    held.set()
    pages = [await (await it).text() for it in asked]
    assert runs == [True]
    for page in pages:
        assert page.count(">PASS<") >= 5
        assert all(name in page for name in (">database<", ">disk<", ">clocks<"))
        assert ">systemd<" not in page
        assert ">API<" not in page
    assert "数据库" in await look(site, admin, "zh")
    async with admin.post("/status") as answer:
        assert ">PASS<" in await answer.text()
    assert runs == [True], "what was found just now is shown again"
    assert "PASS" not in await look(site, some)


async def test_the_daemon_of_the_command_has_its_checks(site: ConsoleSite, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ends(*_: object) -> None:
        pass

    monkeypatch.setattr(run, "build", lambda *_, **__: site.daemon)
    monkeypatch.setattr(Daemon, "run", ends)
    with closing(Log(site.daemon.settings.log)) as log:
        await run.run_until_signalled(site.daemon.settings, log, read_again=lambda: site.daemon.settings)
    examine = site.daemon.console.services.checks.examine
    assert isinstance(examine, RepeatedChecks)
    assert examine.settings is site.daemon.settings


async def test_checks_that_hang_end_in_time_and_no_more_threads_are_begun_until_they_do(
    site: ConsoleSite, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = list[object]()
    short = partial(check_runner.CheckRunner, within=1.0, each_within=0.5)
    monkeypatch.setattr(check_runner, "CheckRunner", short)

    async def hangs(*_: object) -> list[Any]:
        begun.append(held.wait())  # blocks the loop of the checks, as a dead resolver does
        return []

    monkeypatch.setattr(machine, "examine", hangs)
    checks = RepeatedChecks(site.daemon.settings, Path("/nowhere.toml"))
    first = await asyncio.to_thread(checks)
    assert any("not finished after" in str(it.what) for it in first)
    assert await asyncio.to_thread(checks) is first
    held.set()
    assert checks._last is not None
    assert checks._last._worker is not None
    await asyncio.to_thread(checks._last._worker.join, 60)
    assert await asyncio.to_thread(checks) is not first
    assert len(begun) == 2
