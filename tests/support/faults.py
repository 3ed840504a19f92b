"""Every fault of docs/how-to/troubleshooting.md, provoked for real: daemons, a database server, a bad network.

All happen at once, since each mostly waits; what each daemon said is kept by the heading that the page has for it.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import pymysql

from mailerd.config import DatabaseSettings
from mailerd.core.webhooks import RESTS_FROM, EventType
from mailerd.events.process import StoreEvents
from mailerd.sandbox.google import Fault, RunningServer
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from mailerd.store.write.api_keys import ApiKeys
from mailerd.store.write.event_feed import NewEvent, insert_events
from mailerd.store.write.secrets import Secrets
from mailerd.store.write.webhooks import NewEndpoint, Webhooks
from tests.chaos.child import Child
from tests.support.daemon import sign_in
from tests.support.heard import Heard
from tests.support.proxy import Proxy
from tests.support.read_only import read_only
from tests.support.rows import post, query

WITHIN: Final = 60.0
"""Seconds within which the cause must stand in the log."""
_CONNECT: Final = 1.0
_STAMP: Final = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+Z [A-Z]+ +", re.MULTILINE)
NO_ROOM: Final = ("--innodb-file-per-table=0", "--innodb-data-file-path=ibdata1:12M:autoextend:max:16M")
"""All tables in one file that may not grow: the server answers 1114, as it does when its disk is full."""


@dataclass
class Told:
    """What the log said of one fault."""

    log: str
    missing: list[str]
    seconds: float


@dataclass
class Faults:
    """`expected` has, by heading, the lines that the page shows, as patterns."""

    folder: Path
    server: Server
    full: Server
    google: RunningServer
    expected: Mapping[str, Sequence[re.Pattern[str]]]
    told: dict[str, Told] = field(default_factory=dict)
    starting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """Two programs are loaded at a time: the page speaks of a machine that has one daemon."""

    async def provoke_all(self) -> None:
        """All of them, side by side."""
        async with asyncio.TaskGroup() as tasks:
            for provoke in (
                self.refused, self.black_hole, self.wrong_password, self.newer_schema, self.port_taken, self.senders,
                self.full_disk, self.clock_off, self.google_unreachable, self.unusable, self.blocked,
                self.dead_webhook,
            ):  # fmt: skip
                tasks.create_task(provoke())

    async def refused(self) -> None:
        async with Proxy(self.server.port) as proxy:
            await proxy.refuse()
            async with self._daemon("refused", database={"url": _through(self.server.url, proxy)}) as child:
                await self._hear("The database is not running", child)

    async def black_hole(self) -> None:
        async with (
            Proxy(self.server.port) as proxy,
            self._daemon("black-hole", database={"url": _through(self.server.url, proxy)}) as child,
        ):
            await child.until(lambda log: "runner started" in log)
            await proxy.black_hole()
            await self._hear("The database does not respond", child)

    async def wrong_password(self) -> None:
        url = self.server.url.replace(self.server.password, "not-the-password")
        async with self._daemon("wrong-password", database={"url": url}) as child:
            await self._hear("The password is wrong", child)

    async def newer_schema(self) -> None:
        async with self._database("mailerd_newer") as database:
            await query(database, "INSERT INTO schema_version VALUES (999, 'later', UTC_TIMESTAMP(6))")
        async with self._daemon("newer", database={"url": self.server.url_of("mailerd_newer")}) as child:
            await self._hear("The schema belongs to another version", child)

    async def port_taken(self) -> None:
        async with (
            Proxy(self.server.port) as somebody,
            self._daemon("port", intake={"port": somebody.port}) as child,
        ):
            await self._hear("The port is taken", child)

    async def senders(self) -> None:
        """Trouble of five mailboxes; one daemon tells of all."""
        for fault in (
            Fault(kind="invalid_grant", method="token", sender="revoked@example.com", count=-1),
            Fault(kind="mail_sending_retry_after", method="drafts.send", sender="busy@example.com", count=-1),
        ):
            self.google.google.fault(fault)
        folder = self.folder / "mailboxes"
        for sender in ("me", "revoked", "busy", "open"):
            sign_in(self.google.google, folder, f"{sender}@example.com")
        (folder / "open@example.com.json").chmod(0o644)
        async with self._database("mailerd_senders") as database:
            for sender in ("revoked", "busy", "open", "missing"):
                await post(database, sender=f"{sender}@example.com", recipients=1)
            await post(database, recipients=["ada@example.org"], text="{{ 100 / share }}", variables={"share": 0})
        url, gmail = self.server.url_of("mailerd_senders"), {"credentials_dir": str(folder)}
        async with self._daemon("senders", database={"url": url}, gmail=gmail) as child:
            for heading in (
                "An authorization was revoked", "Google's daily limit is reached",
                "A credential file is missing or readable by others", "A template fails",
            ):  # fmt: skip
                await self._hear(heading, child)

    async def full_disk(self) -> None:
        async with self._database("mailerd_full", server=self.full) as database:
            key = await ApiKeys(database, timeout=5.0).create("test")
            await Secrets(database, timeout=5.0).keys()  # as in a database that was used before its disk became full
        async with self._daemon("full", database={"url": self.full.url_of("mailerd_full")}) as child:
            await child.until(lambda log: "runner started" in log)
            async with read_only(self.full):
                await self._hear("The database is read-only", child)
            await child.until(lambda log: " back after " in log)  # else its full disk is no more than a further cause
            await asyncio.to_thread(_fill, self.full)
            where = re.search(r"API listening on (\S+)", child.runs[-1].log.read_text("utf-8"))
            assert where is not None
            body = {
                "sender_email": "me@example.com",
                "template": {"subject": "Hello", "text": "Hello"},
                "recipients": [{"email": f"r{n}@example.org"} for n in range(5000)],
            }
            path = f"{where[1]}/api/jobs/send_template_emails"
            async with aiohttp.ClientSession(headers={"X-API-Key": key}) as session, asyncio.TaskGroup() as tasks:
                posting = tasks.create_task(_post_refused(session, path, body))
                await self._hear("The database's disk is full", child)
                posting.cancel()

    async def clock_off(self) -> None:
        async with self._daemon("clock", shift=-300.0) as child:
            await self._hear("The clock is wrong", child)

    async def google_unreachable(self) -> None:
        async with Proxy(self.server.port) as nobody:
            await nobody.refuse()
            folder, root = self.folder / "far", f"http://127.0.0.1:{nobody.port}/"
            sign_in(self.google.google, folder, "far@example.com")
            async with self._database("mailerd_away") as database:
                await post(database, sender="far@example.com", recipients=1)
            url = self.server.url_of("mailerd_away")
            gmail = {"api_root": root, "token_uri": f"{root}token", "credentials_dir": str(folder)}
            async with self._daemon("away", database={"url": url}, gmail=gmail) as child:
                await self._hear("Google is unreachable", child)

    async def unusable(self) -> None:
        async with self._daemon("unusable", intake={"prot": 5000}, runner={"lease": 10}) as child:
            await self._hear("Only systemd's own lines", child)

    async def blocked(self) -> None:
        async with self._daemon("blocked", module="tests.support.blocked") as child:
            await self._hear("The event loop is blocked", child)

    async def dead_webhook(self) -> None:
        async with Proxy(self.server.port) as nobody:
            await nobody.refuse()
            url = f"http://127.0.0.1:{nobody.port}/mailerd"
            async with self._database("mailerd_webhook") as database:
                await Webhooks(database, timeout=5.0).create(NewEndpoint("shop", url), actor="test")
                events = [NewEvent(EventType.JOB_PAUSED, str(number), {}) for number in range(RESTS_FROM)]
                statement, values = insert_events(events)
                await query(database, statement, *values)
            webhooks = {"allow_http": True, "ports": [], "allow_networks": "127.0.0.0/8"}
            database_url = {"url": self.server.url_of("mailerd_webhook")}
            async with self._daemon("webhook", database=database_url, webhooks=webhooks) as child:
                await self._hear("A webhook's endpoint is failing", child)

    async def _hear(self, heading: str, child: Child) -> None:
        """Wait until the log has every line that the page shows, or the time is over."""
        began = time.monotonic()
        while True:
            ended = not child.running  # before the look: what it wrote last is seen
            log = _STAMP.sub("", child.runs[-1].log.read_text("utf-8", "replace"))
            missing = missing_in(log, self.expected.get(heading, ()))
            took = time.monotonic() - began
            if not missing or ended or took > WITHIN:
                self.told[heading] = Told(log, missing, took)
                return
            await asyncio.sleep(0.05)

    @asynccontextmanager
    async def _database(self, name: str, *, server: Server | None = None) -> AsyncIterator[Database]:
        """A database of a fault's own, with our tables in it."""
        where = server or self.server
        await asyncio.to_thread(_query, where, f"CREATE DATABASE {name} COLLATE utf8mb4_bin")
        events = StoreEvents(Heard())
        database = Database(DatabaseSettings(url=where.url_of(name), connect_timeout=5), events=events)
        await migrate(database, events=events)
        yield database
        await database.close()

    @asynccontextmanager
    async def _daemon(
        self, name: str, *, module: str = "mailerd", shift: float = 0.0, **sections: dict[str, Any]
    ) -> AsyncIterator[Child]:
        config = self.folder / name / "mailerd.toml"
        config.parent.mkdir()
        given: dict[str, dict[str, Any]] = {
            "database": {"url": self.server.url, "connect_timeout": _CONNECT, "statement_timeout": 4.0},
            "intake": {"port": 0},
            "runner": {"poll_interval": 0.2},
            "gmail": {
                "api_root": self.google.url,
                "token_uri": self.google.token_uri,
                "request_timeout": 5.0,
                "credentials_dir": str(self.folder / "credentials"),
            },
            "log": {"format": "text"},
        }
        for section, keys in sections.items():
            given[section] = {**given.get(section, {}), **keys}
        lines = []
        for section, keys in given.items():
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
        config.write_text("\n".join(lines) + "\n", "utf-8")
        child = Child(name, config=config, port=int(given["intake"]["port"]), shift=shift, module=module)
        try:
            async with self.starting:
                child.start()
                while child.running and not child.has_spoken():  # noqa: ASYNC110 - it waits for a process
                    await asyncio.sleep(0.05)
            yield child
        finally:
            child.kill()


def missing_in(log: str, expected: Sequence[re.Pattern[str]]) -> list[str]:
    """The patterns that no line of the log fulfils, each looked for behind the one before it."""
    lines = iter([line.strip() for line in log.splitlines()])
    return [pattern.pattern for pattern in expected if not any(pattern.fullmatch(line) for line in lines)]


async def _post_refused(session: aiohttp.ClientSession, path: str, body: Mapping[str, Any]) -> None:
    """Post again and again, as a client may; a full file may also answer too late, and that is another cause."""
    while True:
        async with session.post(path, json=body) as answer:
            assert answer.status == 503, await answer.text()
        await asyncio.sleep(1)


def _through(url: str, proxy: Proxy) -> str:
    """The same database by way of the proxy."""
    return re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{proxy.port}", url)


def _query(server: Server, statement: str) -> None:
    connection = pymysql.connect(
        host="127.0.0.1", port=server.port, user="mailerd", password=server.password, database="mailerd",
        autocommit=True, connect_timeout=10, read_timeout=30,
    )  # fmt: skip
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)


def _fill(server: Server) -> None:
    """Take all the room that there is, in ever smaller pieces."""
    _query(server, "CREATE TABLE mailerd.filler (piece LONGBLOB) ENGINE=InnoDB")
    for size in (1 << 20, 1 << 16, 1 << 13):
        with suppress(pymysql.err.OperationalError, pymysql.err.InternalError):
            while True:
                _query(server, f"INSERT INTO mailerd.filler VALUES (REPEAT('x', {size}))")
