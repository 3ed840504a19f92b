"""Where one fault is made: a database, the stand-in for Google, real daemons, an address for alerts; work goes on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import pymysql
from aiohttp import web

from mailerd.sandbox.google import COMPOSE, READONLY
from mailerd.sandbox.mariadb import ServerError
from tests.chaos.place import SENDER, Place, Setting, mailerd, place
from tests.support.ports import free_port
from tests.support.proxy import Proxy

MESSAGES: Final = 3
POST_EVERY: Final = 1.0
"""Seconds between two posts."""
SMALL: Final = ("--innodb-file-per-table=OFF", "--innodb-data-file-path=ibdata1:12M:autoextend:max:32M")
"""A server whose tables share one file that may not grow: it is full as a disk is, and goes on running."""


@dataclass
class Scene:
    """Everything that is there."""

    here: Place
    google_way: Proxy
    """The way of the daemons to Google."""
    alerts: list[str] = field(default_factory=list)
    """What alerts have said since the fault began."""
    job: str = ""
    """The job that was accepted last before the fault."""
    connections: list[Any] = field(default_factory=list)
    """What holds the places of a server that takes no more."""
    hook_status: int = 200
    """What the endpoint of a webhook answers."""
    base: str = ""
    shift: float = 0.0
    """Seconds by which the clock of the machine is ahead."""
    messages: int = MESSAGES
    """Messages of each job that is posted."""

    @property
    def config(self) -> Path:
        """The configuration of the daemon that is looked at."""
        return self.here.folder / "d0.toml"

    @property
    def url(self) -> str:
        """Where that daemon is."""
        return f"http://127.0.0.1:{self.here.daemons[0].port}"

    async def admin(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as one who may do everything; the rows of the last."""
        return await asyncio.to_thread(self._admin, statements)

    def _admin(self, statements: Sequence[str]) -> list[tuple[Any, ...]]:
        with self.connect("admin") as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def connect(self, user: str) -> Any:
        """A connection of one's own."""
        return pymysql.connect(
            host="127.0.0.1", port=self.here.server.port, user=user, password=self.here.server.password,
            database="mailerd", autocommit=True, connect_timeout=5, read_timeout=30,
        )  # fmt: skip

    async def cut(self) -> None:
        """End every session of the daemons: a session keeps the rights that it began with."""
        rows = await self.admin("SELECT id FROM information_schema.processlist WHERE user = 'mailerd'")
        for (thread,) in rows:
            with suppress(pymysql.err.MySQLError):
                await self.admin(f"KILL {thread}")

    async def post_forever(self) -> None:
        """Post small jobs, whatever is answered."""
        number = 0
        while True:
            number += 1
            with suppress(aiohttp.ClientError, TimeoutError, ValueError):
                await self.post(f"n{number}")
            await asyncio.sleep(POST_EVERY)

    async def post(self, name: str) -> dict[str, Any]:
        """Post a job; the answer."""
        body = {
            "sender_email": SENDER,
            "template": {"subject": "Hello {{ name }}", "text": "Dear {{ name }}, this is for you."},
            "recipients": [{"email": f"{name}-{n}@example.org", "name": f"R{n}"} for n in range(self.messages)],
        }
        path = f"{self.url}/api/jobs/send_template_emails"
        async with self.here.http.post(path, json=body, headers={"X-API-Key": self.here.key}) as answer:
            return dict(json.loads(await answer.read()))


@asynccontextmanager
async def scene(*, daemons: int = 1, shift: float = 0.0, small: bool = False) -> AsyncIterator[Scene]:
    """Build it, with a daemon that has sent its first job."""
    port = free_port()
    sections: dict[str, dict[str, object]] = {
        "alerts": {
            "webhook": f"http://127.0.0.1:{port}/alert", "database_away": 20.0, "min_interval": 1.0, "unsure": 20.0,
            "failure_messages": 5,
        },
        "webhooks": {"allow_http": True, "ports": [], "allow_networks": "127.0.0.0/8", "retries": [1.0, 5.0]},
        "inbox": {"interval": 2.0},
    }  # fmt: skip
    setting = Setting(
        daemons=daemons, latency=0.05, sections=sections, senders={SENDER: (COMPOSE, READONLY)},
        shifts={0: shift} if shift else {}, options=SMALL if small else (),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="mailerd-faults-") as folder:
        async with place(Path(folder), setting, seed=1) as here:
            google_port = int(here.google.url.rstrip("/").rpartition(":")[2])
            async with Proxy(google_port) as way, _listening(port) as it:
                it.here, it.google_way, it.base, it.shift = here, way, f"http://127.0.0.1:{port}", shift
                for n in range(daemons):
                    config = here.folder / f"d{n}.toml"
                    config.write_text(config.read_text().replace(f":{google_port}/", f":{way.port}/"))
                for child in here.daemons:
                    child.start()
                for child in here.daemons:
                    await child.until(lambda log: "runner_started" in log, within=120.0)
                it.job = (await it.post("first"))["job_id"]
                await here.daemons[0].until(lambda log: "job_finished" in log or daemons > 1, within=120.0)
                yield it
                for connection in it.connections:
                    connection.close()
                with suppress(ServerError):  # it may have been killed
                    here.server.thaw()


@asynccontextmanager
async def _listening(port: int) -> AsyncIterator[Scene]:
    """A server that takes alerts and the events of webhooks."""
    it = Scene(here=None, google_way=None)  # type: ignore[arg-type]  # they come after the addresses are known

    async def alert(request: web.Request) -> web.Response:
        it.alerts.append((await request.json())["text"])
        return web.Response()

    async def hook(_: web.Request) -> web.Response:
        return web.Response(status=it.hook_status)

    app = web.Application()
    app.add_routes([web.post("/alert", alert), web.post("/hook", hook)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield it
    finally:
        await runner.cleanup()


async def command(it: Scene, *arguments: str) -> tuple[int, str]:
    """A command's exit code and its output; one that does not end is trouble too."""
    try:
        done = await mailerd(it.config, *arguments, shift=it.shift)
    except subprocess.TimeoutExpired as error:
        return 124, str(error)
    return done.returncode, done.stdout + done.stderr


def now() -> float:
    """Monotonic seconds."""
    return time.monotonic()
