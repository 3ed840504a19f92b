"""Where one fault is made: a database, the stand-in for Google, real daemons, an address for alerts; work goes on."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
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
from pymysql.constants import ER

from mailerd.sandbox.google import COMPOSE, READONLY
from mailerd.sandbox.mariadb import ServerError
from tests.chaos.child import PYTHON
from tests.chaos.place import ROOT, SENDER, Place, Setting, mailerd, place
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
    copies: list[str] = field(default_factory=list)
    """Who gets a copy of each message that is posted."""
    is_posting: bool = True
    """Whether jobs are posted all the time."""
    posted: tuple[int, str] = (0, "")
    """The status and the text of what was answered to the last post; 0: nothing was."""
    remembered: dict[str, Any] = field(default_factory=dict)
    """What a fault leaves for its remedy."""

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
        async with asyncio.timeout(60.0):
            while True:
                try:
                    return await asyncio.to_thread(self._admin, statements)
                except pymysql.err.OperationalError as error:
                    if error.args[0] != ER.CON_COUNT_ERROR:
                        raise
                await asyncio.sleep(0.05)  # its one place may not be free yet

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
            if self.is_posting:
                with suppress(aiohttp.ClientError, TimeoutError, ValueError):
                    await self.post(f"n{number}")
            await asyncio.sleep(POST_EVERY)

    async def post(self, name: str, *, sender: str = SENDER) -> dict[str, Any]:
        """Post a job; the answer."""
        body: dict[str, Any] = {
            "sender_email": sender,
            "template": {"subject": "Hello {{ name }}", "text": "Dear {{ name }}, this is for you."},
            "recipients": [{"email": f"{name}-{n}@example.org", "name": f"R{n}"} for n in range(self.messages)],
        }
        if self.copies:
            body["cc"] = [{"email": each} for each in self.copies]
        path = f"{self.url}/api/jobs/send_template_emails"
        try:
            async with self.here.http.post(path, json=body, headers=self._key) as answer:
                said = await answer.read()
                self.posted = answer.status, said.decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError) as error:
            self.posted = 0, f"no answer: {error!r}"
            raise
        return dict(json.loads(said))

    async def ask(self, path: str) -> tuple[int, str]:
        """What the API answers; the status 0: nothing."""
        try:
            async with self.here.http.get(f"{self.url}{path}", headers=self._key) as answer:
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            return 0, f"no answer: {error!r}"

    @property
    def _key(self) -> dict[str, str]:
        return {"X-API-Key": self.here.key}

    async def send(self, name: str, *, sender: str = SENDER, within: float = 30.0) -> None:
        """Post a job until it is stored, and wait until all of it is sent.

        Raises:
            TimeoutError: it is not.
        """
        async with asyncio.timeout(within):
            stored: dict[str, Any] = {}
            while "job_id" not in stored:
                with suppress(aiohttp.ClientError, TimeoutError, ValueError):
                    stored = await self.post(name, sender=sender)
                await asyncio.sleep(0.3)
            await self.until_sent(stored["job_id"], within=within)

    async def until_sent(self, job: str, *, within: float = 30.0) -> None:
        """Wait until all messages of a job are sent.

        Raises:
            TimeoutError: they are not.
        """
        async with asyncio.timeout(within):
            while True:
                status, said = await self.ask(f"/api/jobs/{job}")
                if status == 200 and (it := json.loads(said))["counts"].get("sent") == it["total"]:
                    return
                await asyncio.sleep(0.3)


@asynccontextmanager
async def scene(
    *,
    daemons: int = 1,
    shift: float = 0.0,
    small: bool = False,
    scopes: tuple[str, ...] = (COMPOSE, READONLY),
    request_timeout: float = 0.0,
) -> AsyncIterator[Scene]:
    """Build it, with a daemon that has sent its first job. `request_timeout`: another one than the suite's second."""
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
        daemons=daemons, latency=0.05, sections=sections, senders={SENDER: scopes},
        shifts={0: shift} if shift else {}, options=SMALL if small else (),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="mailerd-faults-") as folder:
        async with place(Path(folder), setting, seed=1) as here:
            google_port = int(here.google.url.rstrip("/").rpartition(":")[2])
            async with Proxy(google_port) as way, _listening(port) as it:
                it.here, it.google_way, it.base, it.shift = here, way, f"http://127.0.0.1:{port}", shift
                for n in range(daemons):
                    config = here.folder / f"d{n}.toml"
                    told = config.read_text().replace(f":{google_port}/", f":{way.port}/")
                    own = f'[gmail]\nauth_uri = "http://127.0.0.1:{way.port}/o/oauth2/v2/auth"\n'
                    told = told.replace("[gmail]\n", own)
                    if request_timeout:
                        told = re.sub(r"(?m)^request_timeout = .*$", f"request_timeout = {request_timeout:g}", told)
                        told = re.sub(r"(?m)^lease = .*$", f"lease = {2 * request_timeout + 10:g}", told)
                    config.write_text(told)
                async with here.http.get(f"{here.google.url}sandbox/client.json") as answer:
                    client = here.folder / "credentials" / "client.json"
                    client.touch(mode=0o600)
                    client.write_text(await answer.text())
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


async def run(it: Scene, told: str) -> tuple[int, str]:
    """Run a command as it was advised, to which the place of the settings is added; its exit code and its output.

    `auth login` has a browser, in which a person agrees. `run` is not waited for: its log says when it is there. Of
    several in backticks each is run.
    """
    if several := re.findall(r"`([^`]+)`", told):
        results = [await run(it, each) for each in several]
        return next((it for it in results if it[0]), results[-1])
    program, *arguments = shlex.split(told)
    if program != "mailerd":
        done = await asyncio.to_thread(
            subprocess.run, [program, *arguments], capture_output=True, text=True, timeout=30, check=False
        )
        return done.returncode, done.stdout + done.stderr
    if arguments == ["run"]:
        return await _start(it)
    if arguments[:2] == ["auth", "login"]:
        return await _agree(it, arguments)
    return await command(it, *arguments)


async def _start(it: Scene) -> tuple[int, str]:
    async with asyncio.timeout(10.0):  # a process that was killed ends a little later
        while not (stopped := [each for each in it.here.daemons if not each.running]):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    (child, *_) = stopped
    child.start()
    try:
        await child.until(lambda log: "runner_started" in log, within=60.0)
    except (RuntimeError, TimeoutError) as error:
        return 1, f"it does not start: {error}"
    return 0, ""


async def _agree(it: Scene, arguments: Sequence[str]) -> tuple[int, str]:
    """Authorize a mailbox: open the address that the command shows, as its user does."""
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-m", "mailerd", *arguments, "--config", str(it.config), cwd=it.here.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    said = ""
    try:
        async with asyncio.timeout(60.0):
            while line := (await process.stdout.readline()).decode():
                said += line
                if line.strip().startswith("http"):
                    async with it.here.http.get(line.strip()) as answer:
                        said += await answer.text()
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        return 124, said
    return process.returncode or 0, said


def now() -> float:
    """Monotonic seconds."""
    return time.monotonic()
