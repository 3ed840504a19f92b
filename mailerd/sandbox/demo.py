"""The sandbox as people see it: Google's stand-in, a private database, and on demand a daemon that sends a sample job.

It alone decides the order: what is started, what is shown, and how everything is ended again. The daemon is run by its
commands and spoken to by mailerd's client, as any other program would do it.
"""

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from mailerd.client import AsyncClient
from mailerd.sandbox import demo_api
from mailerd.sandbox.demo_processes import DRAIN_S, Commands, DaemonProcess, ProcessError
from mailerd.sandbox.demo_screen import Screen, Summary
from mailerd.sandbox.google import COMPOSE, FakeGoogle, FakeLimits, serve
from mailerd.sandbox.google.fake_limits import READONLY
from mailerd.sandbox.mariadb import Server, ServerError
from mailerd.sandbox.sandbox_dir import SandboxDir
from mailerd.texts import tr

_WATCH_S = 0.2
_BOUNCES, _REPLIES = 0.03, 0.05
"""Shares of letters that come back and that are answered, so that a first run shows fates."""
_INTAKE_PORT = 5000
"""The daemon's port in the README, and where nothing else is said."""
_TAKEN = f"; another process has port {_INTAKE_PORT}, which the README's lines use"


def _program() -> tuple[str, ...]:
    script = Path(sys.executable).with_name("mailerd")
    return (str(script),) if script.exists() else (sys.executable, "-m", "mailerd")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line may choose. A port of 0 means a free one."""

    demo: Path | None = None
    """The job to send; None starts no daemon and waits for yours."""
    then_exit: bool = False
    """End after the summary."""
    folder: Path = Path(".sandbox")
    mailboxes: tuple[str, ...] = ("me@example.com",)
    """Which mailboxes there are beside the one that the job needs."""
    latency_s: float = 0.15
    """Seconds that the stand-in takes for each call, in the order of what a call over the Internet takes."""
    intake_port: int | None = None
    """None: 5000, as the README has it, or a free one when another process has that."""
    google_port: int = 0
    database_port: int = 0
    program: tuple[str, ...] = field(default_factory=_program)
    """How the daemon's commands are called; the first word is an absolute path."""


def run(options: Options) -> int:
    """Run the sandbox until Ctrl-C, SIGTERM or SIGHUP. Never leaves a process behind.

    The exit code is 0, unless something that it needs has failed, or `then_exit` was asked for and not every letter was
    sent exactly once.
    """
    os.environ["no_proxy"] = "*"  # a proxy of the environment would be asked for 127.0.0.1, and not find it
    try:
        return asyncio.run(_Sandbox(options).run())
    except (ProcessError, ServerError, OSError) as error:
        Screen().trouble(str(error))
        return 1


class _Sandbox:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._screen = Screen()
        self._sandbox_dir = SandboxDir(options.folder)
        self._job = _read(options.demo) if options.demo is not None else {}

    async def run(self) -> int:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 # a coroutine that runs has a task
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # A second signal cancels again: it cuts short the wait for whatever is being ended just then.
            loop.add_signal_handler(number, task.cancel)
        try:
            all_sent = await self._up()
        except asyncio.CancelledError:
            self._screen.say(tr("Ended."))
            return 1 if self._options.then_exit else 0
        return 0 if all_sent else 1

    async def _up(self) -> bool:
        self._screen.banner()
        async with self._sandbox_dir.claimed():
            self._sandbox_dir.make()
            with Server(data=self._sandbox_dir.database, durable=True, port=self._options.database_port) as server:
                self._screen.step(
                    "private database", tr(f"127.0.0.1:{server.port}, data in {self._sandbox_dir.database}")
                )
                return await self._beside(server)

    async def _beside(self, server: Server) -> bool:
        options, google = self._options, self._google()
        async with serve(google, port=options.google_port) as running:
            self._screen.step("stand-in for Google", running.url)
            intake_port, public_port = _ports(options.intake_port)
            self._sandbox_dir.write_credential("client", google.accounts.client_file())  # as auth login looks for it
            self._screen.step("unsubscribe links", tr(f"http://127.0.0.1:{public_port}/u/, on this machine alone"))
            self._sandbox_dir.write_configuration(
                database=server.url,
                google=running.url,
                token_uri=running.token_uri,
                auth_uri=google.accounts.auth_uri,
                intake_port=intake_port,
                public_port=public_port,
                drain_s=DRAIN_S,
                limits=not self._job,
            )
            async with _watched(_watch(server)):
                if self._job:
                    return await self._demonstrate(google, outbox=running.url, base=f"http://127.0.0.1:{intake_port}")
                self._screen.how_to(self._sandbox_dir, options.program, outbox=running.url)
                return await _until_cancelled()

    def _google(self) -> FakeGoogle:
        unlimited = {"units_per_minute": 0, "project_units_per_minute": 0, "per_day": 0} if self._job else {}
        google = FakeGoogle(
            FakeLimits(latency_s=self._options.latency_s, bounces=_BOUNCES, replies=_REPLIES, **unlimited),
            outbox_dir=self._sandbox_dir.outbox,
        )
        senders = []
        if self._options.demo is not None:
            senders = [job["sender_email"] for job in (self._job, _read(_next_job(self._options.demo)))]
        for email in dict.fromkeys([*self._options.mailboxes, *senders]):
            try:
                self._sandbox_dir.write_credential(email, google.add_mailbox(email, scopes=(COMPOSE, READONLY)))
            except ValueError as error:
                raise ProcessError(str(error)) from None
        return google

    async def _demonstrate(self, google: FakeGoogle, *, outbox: str, base: str) -> bool:
        commands = Commands(program=self._options.program, configuration=self._sandbox_dir.configuration)
        await commands.ask("migrate")
        # A name of its own: keys of earlier starts are in the database still, and keep working.
        key = (await commands.ask("keys", "create", f"demo-{secrets.token_hex(4)}")).split()[-1]
        async with commands.daemon(log=self._sandbox_dir.log) as daemon, _watched(daemon.watch()):
            try:
                summary = await self._send(google, commands, daemon=daemon, key=key, outbox=outbox, base=base)
                self._screen.summary(summary)
                if not self._options.then_exit:
                    self._screen.say(tr("Ctrl-C ends it all."))
                    await _until_cancelled()
                return summary.as_promised
            finally:
                if daemon.alive:
                    self._screen.say(tr("Ending; the daemon finishes the letters in flight."))

    async def _send(
        self, google: FakeGoogle, commands: Commands, *, daemon: DaemonProcess, key: str, outbox: str, base: str
    ) -> Summary:
        demo = self._options.demo
        assert demo is not None  # noqa: S101 # only a demonstration sends
        async with AsyncClient(base, key=key, timeout=demo_api.REQUEST_LIMIT_S, patience=0) as client:
            await demo_api.wait_until_ready(client)
            taken = "" if base.endswith(f":{_INTAKE_PORT}") or self._options.intake_port is not None else tr(_TAKEN)
            self._screen.step("daemon", tr(f"{base} (process {daemon.pid}{taken})"))
            link = (await commands.ask("console", "login")).split()[-1]
            self._screen.step("console", tr(f"{link} (signs you in once; `mailerd console login` makes another)"))
            posted = await demo_api.post(client, self._job)
            self._screen.step("sample job", tr(f"accepted as {posted.id}: {posted.total} letters"))
            if posted.opted_out:
                self._screen.say(
                    tr(
                        "  Cancelled because they opted out, or their address bounced, in earlier runs: "
                        f"{posted.opted_out} (the data of earlier runs are in {self._sandbox_dir.folder}; "
                        "delete it to begin anew)"
                    )
                )
            with self._screen.progress(posted.total) as show:
                done = await demo_api.follow(client, posted, show)
        keys = Counter(letter.key for letter in google.sent if letter.key)
        return Summary(
            job=done,
            received=len(google.sent),
            twice=sum(count > 1 for count in keys.values()),
            outbox=outbox,
            sandbox_dir=self._sandbox_dir,
            program=self._options.program,
            key=key,
            post_to=base + demo_api.JOBS,
            next_job=_next_job(demo),
        )


def _read(path: Path) -> dict[str, Any]:
    """The job in a file. Raises ProcessError, whose text is for people, when it is none."""
    try:
        job = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ProcessError(f"{path} is not JSON: {error}") from None
    if not isinstance(job, dict) or not isinstance(job.get("sender_email"), str):
        raise ProcessError(f"{path} is not a job: it names no sender_email")
    return job


def _next_job(demo: Path) -> Path:
    """The file for the curl line: the small example where it lies beside the job, otherwise the job itself."""
    small = demo.with_name("first-job.json")
    return (small if small.exists() else demo).absolute()


async def _watch(server: Server) -> NoReturn:
    while server.running:  # noqa: ASYNC110 # a process gives no event
        await asyncio.sleep(_WATCH_S)
    raise ServerError(
        f"{server.log_tail()}\nthe private database server has died (above: its log): start the sandbox again"
    )


@asynccontextmanager
async def _watched(watch: Coroutine[Any, Any, NoReturn]) -> AsyncIterator[None]:
    """A block that is given up as soon as `watch` raises, with what it raises."""
    try:
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(watch)
            yield
            watcher.cancel()
    except BaseExceptionGroup as troubles:
        # One trouble is reported; when the block failed as well, that is most often because of what was watched.
        raise troubles.exceptions[-1] from None


async def _until_cancelled() -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError  # nothing sets that event


def _ports(wanted: int | None) -> tuple[int, int]:
    """Ports for the daemon's API, the usual one only while no process has it, and for its site of unsubscribe links.

    Raises:
        ProcessError: another process has the port that is wanted. Were it another daemon, it would be taken for ours.
    """
    with socket.socket() as intake, socket.socket() as public:
        intake.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended bar no new one
        try:
            intake.bind(("127.0.0.1", _INTAKE_PORT if wanted is None else wanted))
        except OSError as error:
            if wanted:
                raise ProcessError(
                    f"port {wanted} cannot be used ({error.strerror}): end the process that has it, "
                    "or name another port with --intake-port"
                ) from None
            intake.bind(("127.0.0.1", 0))
        public.bind(("127.0.0.1", 0))  # while the other one is held: they are never the same
        return intake.getsockname()[1], public.getsockname()[1]
