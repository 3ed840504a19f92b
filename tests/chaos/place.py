"""Where one scenario happens: a database server, a stand-in for Google, a proxy, daemons; and who posts and probes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import pymysql
from pymysql.constants import ER

from mailerd.sandbox.google import COMPOSE
from mailerd.sandbox.mariadb import Server
from tests.chaos.child import PYTHON, Child
from tests.chaos.google import Google, stand_in
from tests.support.cluster import Cluster, SemiSynchronous
from tests.support.group import Group
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.replicated import Pair

ROOT: Final = Path(__file__).parents[2]
SENDER: Final = "me@example.com"
REQUEST_TIMEOUT: Final = 1.0
LEASE: Final = 5.0
DRAIN: Final = 6.0
CONNECT: Final = 2.0
"""Seconds that the database gets for a connection, and for what somebody waits for."""
STATEMENT: Final = 4.0
READY_BOUND: Final = CONNECT
POST_BOUND: Final = 3 * CONNECT + 1.5
"""The key and the job get `connect_timeout` each, and so does, here, the forecast; a COMMIT in doubt 1.5 s more."""
_EVERY: Final = 0.3


@dataclass(frozen=True)
class Setting:
    """What a scenario wants to be there before it begins."""

    daemons: int = 2
    durable: bool = False
    """The database flushes at every commit."""
    proxied: frozenset[int] = frozenset()
    """The daemons, by number, that reach the database through the proxy."""
    shifts: dict[int, float] = field(default_factory=dict)
    """Seconds by which a daemon's clock is off, by its number."""
    latency: float = 0.1
    """Seconds that Google takes for a call."""
    concurrency: int = 20
    sections: dict[str, dict[str, object]] = field(default_factory=dict)
    """More of the configuration."""
    module: str = "mailerd"
    """What is run as the daemon."""
    replicated: str = ""
    """How a second server follows the first, if there is one: "asynchronous" or "semi-synchronous"."""
    cluster: str = ""
    """What database.url names several hosts of, if it does: "semi-synchronous" (MariaDB) or "group" (MySQL)."""
    post_bound: float = POST_BOUND
    """Seconds within which a post is to be answered."""
    lanes: bool = False
    """Each daemon reaches each server of the cluster through a proxy of its own."""
    senders: dict[str, tuple[str, ...]] = field(default_factory=lambda: {SENDER: (COMPOSE,)})
    """The mailboxes and the scopes of each."""
    options: tuple[str, ...] = ()
    """More options of the database server."""


@dataclass
class Failover:
    """What was done to the servers at some moment, and how long nothing was sent. Times are epoch seconds."""

    what: str
    at: float
    stood: float = 0.0
    """When another server took writes, or the same one again."""
    server: str = ""
    """Which server that was."""
    pause: float = 0.0
    """The longest time, in seconds, in which Google accepted no message."""
    after: float = 0.0
    """Seconds from `stood` to the next message that Google accepted."""
    refused: int = 0
    """Posts that were answered 503 from `at` until messages were sent again."""


@dataclass
class Place:
    """Everything that is there, and what was promised in it."""

    folder: Path
    server: Server
    google: Google
    proxy: Proxy
    daemons: list[Child]
    chance: random.Random
    http: aiohttp.ClientSession
    key: str
    promised: dict[str, int] = field(default_factory=dict)
    """Jobs that were answered with 200, and how many messages of each were accepted."""
    over: list[tuple[float, str]] = field(default_factory=list)
    """Seconds by which a wait was longer than its bound, and which; negative for those within."""
    slowness: list[float] = field(default_factory=list)
    """How many times slower than usual the machine was during the storm."""
    pair: Pair | None = None
    """The server and its replica, where there is one."""
    unknown: set[str] = field(default_factory=set)
    """Keys of messages of which, after a failover, neither the database nor a living daemon knew that they were
    sent."""
    opted_out: dict[str, float] = field(default_factory=dict)
    """Keys of messages whose recipients have left the list, and when that was answered, in epoch seconds."""
    breaches: list[str] = field(default_factory=list)
    """What a scenario itself saw go wrong."""
    cluster: Cluster | None = None
    """The servers, where there are several."""
    roads: dict[int, Proxy] = field(default_factory=dict)
    """By a server's port: the way on which other servers reach it."""
    lanes: dict[tuple[int, int], Proxy] = field(default_factory=dict)
    """By a daemon's number and a server's port: the way of the one to the other, where they have such."""
    failovers: list[Failover] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    """When posts were answered 503, in epoch seconds."""
    posted: int = 0
    """Posts that got any answer."""
    post_bound: float = POST_BOUND
    """Seconds within which each is to be answered."""

    async def post(
        self,
        messages: int,
        *,
        sender: str = SENDER,
        to: str = "r",
        send_at: datetime | None = None,
        fields: dict[str, Any] | None = None,
        idempotent: bool = False,
    ) -> str:
        """Post a job to some daemon, and again until one says 200; its id.

        `to`: how its addresses begin. `idempotent`: each try has the same Idempotency-Key.
        """
        number = secrets.token_hex(4)
        body: dict[str, Any] = {
            "sender_email": sender,
            "template": {"subject": "Hello {{ name }}", "text": "Dear {{ name }}, this is message {{ n }}."},
            "recipients": [
                {"email": f"{to}{n}-{number}@example.org", "name": f"R{n}", "variables": {"n": n}}
                for n in range(messages)
            ],
            **(fields or {}),
        }
        if send_at is not None:
            body["send_at"] = send_at.isoformat()
        again = {"Idempotency-Key": number} if idempotent else {}
        while True:
            child = self.chance.choice(self.daemons)
            if child.answering and (answer := await self._post_once(child, body, again)) is not None:
                self.promised[answer["job_id"]] = answer["accepted"]
                return str(answer["job_id"])
            await asyncio.sleep(0.05)

    async def _post_once(self, child: Child, body: dict[str, Any], again: dict[str, str]) -> dict[str, Any] | None:
        path = f"http://127.0.0.1:{child.port}/api/jobs/send_template_emails"
        with self._bounded(f"POST to {child.name}", self.post_bound, child):
            async with self.http.post(path, json=body, headers={"X-API-Key": self.key} | again) as answer:
                read = json.loads(await answer.read())
                self.posted += 1
                self.refused += [time.time()] if answer.status == 503 else []
                if answer.status == 200:
                    return dict(read)
                if answer.status != 503:
                    self.breaches.append(f"POST was answered {answer.status}: {str(read)[:300]}")
        return None

    async def probe_forever(self) -> None:
        """Ask every daemon again and again whether it is ready: the answer may be no, but it must come."""
        while True:
            await asyncio.gather(*(self._probe(child) for child in self.daemons if child.answering))
            await asyncio.sleep(_EVERY)

    async def _probe(self, child: Child) -> None:
        with self._bounded(f"GET /health/ready of {child.name}", READY_BOUND, child):
            async with self.http.get(f"http://127.0.0.1:{child.port}/health/ready") as answer:
                await answer.read()

    @contextmanager
    def _bounded(self, what: str, bound: float, child: Child) -> Iterator[None]:
        """Take the time. What a daemon was asked that was ended or stopped meanwhile says nothing."""
        asked, life, stops = time.monotonic(), len(child.runs), len(child.runs[-1].stops)
        with suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
            yield
        if child.answering and len(child.runs) == life and len(child.runs[-1].stops) == stops:
            self.over.append((time.monotonic() - asked - bound, what))

    def daemon(self, ident: str) -> Child | None:
        """The one whose present life has this id, as rows name it; None: that life is over."""
        lives = ((child, child.runs[-1].log.read_text("utf-8", "replace")) for child in self.daemons)
        return next((child for child, log in lives if ident in log), None)

    async def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows, by a connection that mailerd has no part in; what a deadlock with a daemon has undone is done again."""
        while True:
            try:
                return await asyncio.to_thread(self._rows, statement, values)
            except pymysql.err.OperationalError as error:
                if error.args[0] != ER.LOCK_DEADLOCK:
                    raise

    def _rows(self, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with (
            pymysql.connect(
                host="127.0.0.1", port=self.server.port, user="mailerd", password=self.server.password,
                database="mailerd", autocommit=True, connect_timeout=10, read_timeout=60,
            ) as connection,
            connection.cursor() as cursor,
        ):  # fmt: skip
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())


@asynccontextmanager
async def place(folder: Path, setting: Setting, *, seed: int) -> AsyncIterator[Place]:
    """Build it; whatever is still there at the end is killed."""
    several = _several(setting)
    server = (
        several.primary
        if several
        else Server(cache=ROOT / ".cache", durable=setting.durable, port=free_port(), extra=setting.options)
    )
    try:
        await asyncio.to_thread(several.start if several else server.start)
        async with (
            _roads(several) as roads,
            _lanes(several, setting) as lanes,
            stand_in(folder, latency=setting.latency, seed=seed) as google,
            Proxy(server.port) as proxy,
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=30), connector=aiohttp.TCPConnector(force_close=True)
            ) as http,
        ):
            credentials = folder / "credentials"
            credentials.mkdir(mode=0o700)
            for sender, scopes in setting.senders.items():
                await google.sign_in(sender, credentials, scopes=scopes)
            url = several.url if isinstance(several, Cluster) else server.url
            behind = url.replace(f":{server.port}/", f":{proxy.port}/")
            urls = [_way(behind if n in setting.proxied else url, n, lanes) for n in range(setting.daemons)]
            configs = [_config(folder, n, setting, way, google) for n, way in enumerate(urls)]
            key = await _prepared(configs[0][0])
            children = [
                Child(
                    f"d{n}",
                    config=config,
                    port=port,
                    public_port=public_port,
                    shift=setting.shifts.get(n, 0.0),
                    module=setting.module,
                )
                for n, (config, port, public_port) in enumerate(configs)
            ]
            it = Place(folder, server, google, proxy, children, random.Random(seed), http, key, roads=roads)
            it.lanes, it.post_bound = lanes, setting.post_bound
            it.pair = several if isinstance(several, Pair) else None
            it.cluster = several if isinstance(several, Cluster) else None
            try:
                yield it
            finally:
                for child in children:
                    child.kill()
    finally:
        await asyncio.to_thread(several.stop if several else server.stop)


def _several(setting: Setting) -> Pair | Cluster | None:
    if setting.cluster:
        return (Group if setting.cluster == "group" else SemiSynchronous)(ROOT / ".cache")
    if setting.replicated:
        return Pair(ROOT / ".cache", semi_synchronous=setting.replicated == "semi-synchronous")
    return None


@asynccontextmanager
async def _roads(several: Pair | Cluster | None) -> AsyncIterator[dict[int, Proxy]]:
    """The ways between the servers of a cluster, which is formed over them."""
    async with AsyncExitStack() as stack:
        roads: dict[int, Proxy] = {}
        if isinstance(several, Cluster):
            for node in several.nodes:
                roads[node.port] = await stack.enter_async_context(Proxy(node.port))
            await asyncio.to_thread(several.form, {port: road.port for port, road in roads.items()})
        yield roads


@asynccontextmanager
async def _lanes(several: Pair | Cluster | None, setting: Setting) -> AsyncIterator[dict[tuple[int, int], Proxy]]:
    """The ways of each daemon to each server."""
    async with AsyncExitStack() as stack:
        lanes: dict[tuple[int, int], Proxy] = {}
        for node in several.nodes if isinstance(several, Cluster) and setting.lanes else ():
            for number in range(setting.daemons):
                lanes[number, node.port] = await stack.enter_async_context(Proxy(node.port))
        yield lanes


def _way(url: str, daemon: int, lanes: dict[tuple[int, int], Proxy]) -> str:
    """The address of the database as one daemon has it."""
    for (number, port), lane in lanes.items():
        url = url.replace(f":{port}", f":{lane.port}") if number == daemon else url
    return url


def _config(folder: Path, number: int, setting: Setting, url: str, google: Google) -> tuple[Path, int, int]:
    port, public_port = free_port(), free_port()
    sections: dict[str, dict[str, object]] = {
        "database": {"url": url, "connect_timeout": CONNECT, "statement_timeout": STATEMENT},
        "intake": {"port": port},
        "public": {"port": public_port},
        "runner": {
            "poll_interval": 0.2,
            "concurrency": setting.concurrency,
            "lease": LEASE,
            "drain_timeout": DRAIN,
            "sweep_interval": 2.0,
        },
        "gmail": {
            "api_root": google.url,
            "token_uri": google.url + "token",
            "request_timeout": REQUEST_TIMEOUT,
            "credentials_dir": str(folder / "credentials"),
        },
        "pace": {"units_per_minute": 0, "per_day": 0},
        # No message is given up: whatever does not end as sent is then our fault.
        "retry": {"max_attempts": 10_000, "base": 0.1, "cap": 1.0},
        "log": {"format": "json", "level": "debug"},
    }
    lines: list[str] = []
    for section, values in (sections | setting.sections).items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    config = folder / f"d{number}.toml"
    config.touch(mode=0o600)
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return config, port, public_port


async def mailerd(config: Path, *arguments: str, shift: float = 0.0) -> subprocess.CompletedProcess[str]:
    """Run a command of mailerd to its end; `shift`: seconds by which its clock is ahead."""
    module = ["tests.chaos.shifted", f"{shift:g}"] if shift else ["mailerd"]
    command = [PYTHON, "-m", *module, *arguments, "--config", str(config)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAILERD_", "DATABASE"))}
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False, cwd=config.parent,
        env=environment | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


async def _prepared(config: Path) -> str:
    """The schema, and an API key."""
    said = ""
    for arguments in (("migrate",), ("keys", "create", "chaos")):
        done = await mailerd(config, *arguments)
        if done.returncode:
            raise RuntimeError(f"mailerd {' '.join(arguments)}: {done.stderr}")
        said = done.stdout
    return said.split()[-1]


def others(children: Sequence[Child], child: Child) -> list[Child]:
    """All but one."""
    return [one for one in children if one is not child]
