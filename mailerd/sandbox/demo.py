"""The sandbox as people see it: Google's stand-in, a private database, and on demand a daemon that
sends a sample job.

It alone decides the order: what is started, what is shown, and how everything is ended again. The
daemon is run by its commands and spoken to by mailerd's client, as any other program would do it.
"""

import asyncio
import json
import os
import secrets
import shlex
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, cast

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mailerd.client import ApiError, AsyncClient, NewJob, NoAnswerError
from mailerd.core.i18n import Text, joined, printed, t, tn
from mailerd.core.quantities import in_words
from mailerd.locale import label, language, say
from mailerd.sandbox.google import COMPOSE, FakeGoogle, FakeLimits, serve
from mailerd.sandbox.google.fake_limits import READONLY
from mailerd.sandbox.mariadb import Server, ServerError, child_process
from mailerd.sandbox.sandbox_dir import SandboxDir

# The daemon's commands, run as processes of their own that die with the sandbox.

_COMMAND_LIMIT_S = 120.0
DRAIN_S = 20
"""What the daemon's own drain_timeout is set to."""
# above the daemon's own, so that it is killed only when that has failed
_DRAIN_LIMIT_S = DRAIN_S + 10.0
_TAIL_LINES = 25

# The daemon must see the sandbox's database and Google and no other: a DATABASE_URL of the person's
# own would win over the file. What reaches neither, and sends nothing to others, may be chosen by
# the environment as everywhere.
_SECTIONS = ("MAILERD_LOG__", "MAILERD_WEBHOOKS__", "MAILERD_INBOX__", "MAILERD_RETENTION__")
_ENVIRONMENT = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "VIRTUAL_ENV",
    "SSL_CERT_FILE",
)


class ProcessError(Exception):
    """A process that the sandbox needs has failed; the text is for people and holds the end of what
    it said.
    """


@dataclass(frozen=True, kw_only=True)
class Commands:
    """The daemon's commands with one configuration file."""

    program: Sequence[str]
    configuration: Path

    async def ask(self, *words: str) -> str:
        """Run a command to its end; what it printed.

        Raises ProcessError when it fails or takes too long.
        """
        output, errors = asyncio.subprocess.PIPE, asyncio.subprocess.PIPE
        process = await self._start(words, output=output, errors=errors)
        try:
            async with asyncio.timeout(_COMMAND_LIMIT_S):
                said, complained = await process.communicate()
        except TimeoutError:
            raise ProcessError(
                t(
                    "`{command}` did not end within {seconds:g} s: this machine is too busy or its disk too slow; "
                    "try again",
                    command=self._shown(words),
                    seconds=_COMMAND_LIMIT_S,
                )
            ) from None
        finally:
            await _kill(process)
        if process.returncode != 0:
            tail = _tail((said + complained).decode(errors="replace"))
            raise ProcessError(
                t(
                    "`{command}` ended with exit code {code}:\n{output}",
                    command=self._shown(words),
                    code=process.returncode,
                    output=printed(tail),
                )
            )
        return said.decode()

    @asynccontextmanager
    async def daemon(self, *, log: Path) -> AsyncIterator["DaemonProcess"]:
        """A running daemon.

        However the block ends, it drains (SIGTERM), and is killed if that takes too long.
        """
        with log.open("wb") as file:
            process = await self._start(
                ("run",), output=file.fileno(), errors=asyncio.subprocess.STDOUT
            )
        try:
            yield DaemonProcess(process, shown=self._shown(("run",)), log=log)
        finally:
            await _drain(process, log)

    async def _start(
        self, words: Sequence[str], *, output: int, errors: int
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *child_process([*self.program, *words, "--config", str(self.configuration)]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            cwd=self.configuration.parent,  # no .env file of the person's own here
            env={
                k: value
                for k, value in os.environ.items()
                if k in _ENVIRONMENT or k.upper().startswith(_SECTIONS)
            },
            start_new_session=True,  # Ctrl-C is for the sandbox; it ends the daemon in its own time
        )

    def _shown(self, words: Sequence[str]) -> str:
        return shlex.join(["mailerd", *words])


class DaemonProcess:
    """A running daemon."""

    def __init__(self, process: asyncio.subprocess.Process, *, shown: str, log: Path) -> None:
        self._process = process
        self._shown = shown
        self._log = log
        self.pid = process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def watch(self) -> NoReturn:
        """Wait for its end, which is not wanted: raises ProcessError with the end of its log."""
        code = await self._process.wait()
        tail = _tail(self._log.read_text(encoding="utf-8", errors="replace"))
        raise ProcessError(
            t(
                "`{command}` ended with exit code {code}. The end of {log}:\n{output}",
                command=self._shown,
                code=code,
                log=self._log,
                output=printed(tail),
            )
        )


async def _drain(process: asyncio.subprocess.Process, log: Path) -> None:
    """End a daemon in good order. A cancellation meanwhile (a second Ctrl-C) ends it at once."""
    try:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(_DRAIN_LIMIT_S):
            await process.wait()
    except TimeoutError:
        raise ProcessError(
            t(
                "the daemon did not stop within {seconds:g} s and was killed; see {log}",
                seconds=_DRAIN_LIMIT_S,
                log=log,
            )
        ) from None
    finally:
        await _kill(process)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Make sure that it has gone. Nothing can take long here: a killed process ends at once."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _tail(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-_TAIL_LINES:])


# The demonstration's job, by mailerd's own client: wait until the daemon is ready, post it, follow
# it to its end.

JOBS = "/api/jobs/send_template_emails"
REQUEST_LIMIT_S = 15.0
_READY_LIMIT_S = 60.0
_STALL_LIMIT_S = 120.0
_POLL_S = 0.2
_MINUTE_S = 60.0
_ENDED = frozenset({"completed", "cancelled"})


@dataclass(frozen=True, kw_only=True)
class Job:
    """How far a job is."""

    id: str
    total: int
    status: str
    counts: Mapping[str, int]
    elapsed_s: float
    """Seconds since it was accepted."""
    opted_out: int = 0
    """Messages that were cancelled at once, because their recipients are suppressed."""
    cause_of_wait: str = ""
    """Why its messages are waiting, where more than the sending limits holds them."""

    @property
    def sent(self) -> int:
        """Messages that Google has."""
        return self.counts.get("sent", 0)

    @property
    def done(self) -> int:
        """Messages whose story has ended, one way or another."""
        return self.sent + self.counts.get("failed", 0) + self.counts.get("cancelled", 0)

    @property
    def per_minute(self) -> float | None:
        """Messages sent per minute; None in the first minute, of which a rate would be a guess."""
        return self.sent / self.elapsed_s * 60 if self.elapsed_s >= _MINUTE_S else None


async def wait_until_ready(client: AsyncClient) -> None:
    """Wait until the daemon answers calls. The client has no patience: each call is made once.

    Raises:
        ProcessError: it does not; the text is for people.
    """
    end, said = time.monotonic() + _READY_LIMIT_S, ""
    while time.monotonic() < end:
        try:
            await client.templates()
        except (NoAnswerError, ApiError) as error:
            said = str(error)
        else:
            return
        await asyncio.sleep(_POLL_S)
    raise ProcessError(
        t(
            "the daemon was not ready within {seconds:g} s. Its last response: {error}",
            seconds=_READY_LIMIT_S,
            error=said,
        )
    )


async def post(client: AsyncClient, job: Mapping[str, Any]) -> Job:
    """Post a job; how it stands.

    Raises:
        ProcessError: it was not accepted.
    """
    try:
        answer = await client.create_job(cast("NewJob", job))
    except (NoAnswerError, ApiError) as error:
        raise ProcessError(str(error)) from error
    return Job(
        id=answer["job_id"],
        total=answer["total"],
        status=answer["status"],
        counts={},
        elapsed_s=0.0,
        opted_out=answer["suppressed_total"],
    )


async def follow(client: AsyncClient, job: Job, show: Callable[[Job], None]) -> Job:
    """Show a job's progress until it has ended; how it ended.

    Raises:
        ProcessError: the daemon refuses to tell, or the job does not move.
    """
    began = moved = time.monotonic()
    while job.status not in _ENDED:
        await asyncio.sleep(_POLL_S)
        before = job.counts
        try:
            now = await client.job(job.id)
        except (
            NoAnswerError,
            ApiError,
        ) as error:  # asking again is harmless; where the daemon died, its watch says so
            if not error.retry:
                raise ProcessError(str(error)) from error
        else:
            job = replace(
                job,
                status=now["status"],
                counts=now["counts"],
                elapsed_s=time.monotonic() - began,
                cause_of_wait=now["cause_of_wait"] or "",
            )
            show(job)
        if job.counts != before:
            moved = time.monotonic()
        elif time.monotonic() - moved > _STALL_LIMIT_S:
            raise ProcessError(
                t(
                    "job {id} made no progress for {seconds:g} s: {sent} of {total} sent",
                    id=job.id,
                    seconds=_STALL_LIMIT_S,
                    sent=job.sent,
                    total=job.total,
                )
            )
    return job


# What the sandbox says to people, on a terminal or into a file. Nothing else in the demonstration
# prints.

_STEP_PERCENT = 5
# Google gives a Cloud project made since May 2026 6,000 quota units per user and minute, and
# drafts.create and drafts.send together cost 110 of them
# (developers.google.com/workspace/gmail/api/reference/quota).
_GOOGLES_PACE_PER_MINUTE = 54


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What there is to say when the job has ended."""

    job: Job
    received: int
    """Messages that the stand-in has."""
    twice: int
    """Messages that it was given more than once."""
    outbox: str
    sandbox_dir: SandboxDir
    program: Sequence[str]
    key: str
    post_to: str
    next_job: Path
    """A file to post for the next job."""

    @property
    def as_promised(self) -> bool:
        """Every message was sent but those to people who have opted out, and none twice."""
        return (
            self.job.sent == self.job.total - self.job.opted_out <= self.received and not self.twice
        )


class Screen:
    """Lines and a progress bar. Long lines are never broken: people copy them."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, soft_wrap=True)

    def say(self, line: str, *, style: str = "") -> None:
        """One line, in the language of this command."""
        self._console.print(say(line), style=style or None)

    def banner(self) -> None:
        """What must be known before anything else."""
        line = t("SANDBOX: nothing leaves this machine, and no message is delivered.")
        for said in (say(line, "zh"),) if language() == "zh" else (line, say(line, "zh")):
            self.say(said, style="bold yellow")

    def step(self, what: str, where: str) -> None:
        """Something is up."""
        what = say(what)
        self.say(f"  {what}{' ' * max(1, 21 - cell_len(what))}{say(where)}")

    def trouble(self, text: str) -> None:
        """Something failed."""
        self.say(t("sandbox: {error}", error=text), style="red")

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[Job], None]]:
        """A bar on a terminal; elsewhere a line for every few percent.

        What holds the messages up is said beside it.
        """
        said, shown, bars = "", -1, self._console.is_terminal
        columns = (
            TextColumn("  " + say(t("sending"))),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, disable=not bars) as bar:
            task = bar.add_task("", total=total)

            def show(job: Job) -> None:
                nonlocal said, shown
                if job.cause_of_wait != said:
                    said = job.cause_of_wait
                    if said:
                        self.say(t("  waiting: {cause}", cause=said), style="yellow")
                bar.update(task, completed=job.done)
                share = job.done * 100 // max(job.total, 1)
                if not bars and share // _STEP_PERCENT > shown:
                    shown = share // _STEP_PERCENT
                    self.say(
                        t(
                            "  {percent:3d} %  {done} of {total}",
                            percent=share,
                            done=job.done,
                            total=job.total,
                        )
                    )

            yield show

    def summary(self, summary: Summary) -> None:
        """How the job went, where to look, and what to do next."""
        job, sandbox_dir = summary.job, summary.sandbox_dir
        self.say("")
        for line in _outcome(summary):
            self.say(line, style="bold green" if summary.as_promised else "bold red")
        self.say(
            t(
                "With the real Google this takes about {span}: a new Cloud project can send {n} messages per minute "
                "from one mailbox. Sending limits and quotas are off here.",
                span=in_words(job.total * 60 / _GOOGLES_PACE_PER_MINUTE),
                n=_GOOGLES_PACE_PER_MINUTE,
            )
        )
        self.step(t("Messages"), summary.outbox)
        self.step(t("Message files"), f"{sandbox_dir.outbox}/*.eml")
        self.step(t("Daemon's log"), str(sandbox_dir.log))
        self.step(t("Bounces & replies"), _command(summary.program, sandbox_dir, "bounces"))
        self.step(t("Check of the counts"), _command(summary.program, sandbox_dir, "audit"))
        self.say(t("To post the next job, run this line:"))
        # --noproxy: a proxy in the environment would be asked for 127.0.0.1 and not find it.
        words = [
            "curl",
            "-sS",
            "--noproxy",
            "*",
            "-H",
            f"X-API-Key: {summary.key}",
            "-H",
            "Content-Type: application/json",
        ]
        self.say(
            "  " + shlex.join([*words, "--data-binary", f"@{summary.next_job}", summary.post_to])
        )

    def how_to(self, sandbox_dir: SandboxDir, program: Sequence[str], *, outbox: str) -> None:
        """How to run a daemon with the sandbox."""
        self.step(t("Configuration"), str(sandbox_dir.configuration))
        self.step(
            t("Credentials"), t("{folder}/ (one file per mailbox)", folder=sandbox_dir.credentials)
        )
        self.step(t("Sent messages"), outbox)
        self.say(t("To run a daemon with it, in another terminal:"))
        for words in (["migrate"], ["keys", "create", "me"], ["run"]):
            self.say("  " + _command(program, sandbox_dir, *words))
        self.say(t("Ctrl-C stops the sandbox."))


def _outcome(summary: Summary) -> Iterator[Text]:
    """What became of the job's messages, and what the simulated Google received."""
    job = summary.job
    sent = tn(
        "{n:,} message sent in {span}",
        "{n:,} messages sent in {span}",
        job.sent,
        span=_span(job.elapsed_s),
    )
    rate = [t("{n:.0f} per minute", n=job.per_minute)] if job.per_minute is not None else []
    others = [
        t("{n:,} {state}", n=count, state=label(state))
        for state, count in job.counts.items()
        if count and state != "sent"
    ]
    counts = joined([sent, *rate, *others], ", ")
    yield t("{counts} (of {n:,})", counts=counts, n=job.total) if others else counts
    received = tn(
        "The simulated Google received {n:,} message",
        "The simulated Google received {n:,} messages",
        summary.received,
    )
    if (earlier := summary.received - job.total) > 0:
        received = t("{received} ({n:,} from other jobs)", received=received, n=earlier)
    twice = (
        t("{n:,} more than once", n=summary.twice) if summary.twice else t("none more than once")
    )
    yield joined([received, twice], ", ")


def _span(seconds: float) -> str:
    return t("{n:.1f} s", n=seconds) if seconds < _MINUTE_S else in_words(seconds)


def _command(program: Sequence[str], sandbox_dir: SandboxDir, *words: str) -> str:
    return shlex.join([*program, *words, "--config", str(sandbox_dir.configuration)])


_WATCH_S = 0.2
_BOUNCES, _REPLIES = 0.03, 0.05
"""Shares of messages that come back and that are answered, so that a first run shows results."""
_INTAKE_PORT = 5000
"""The daemon's port in the README, and where nothing else is said."""


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
    """Seconds that the stand-in takes for each call, in the order of what a call over the Internet
    takes.
    """
    intake_port: int | None = None
    """None: 5000, as the README has it, or a free one when another process has that."""
    google_port: int = 0
    database_port: int = 0
    program: tuple[str, ...] = field(default_factory=_program)
    """How the daemon's commands are called; the first word is an absolute path."""


def run(options: Options) -> int:
    """Run the sandbox until Ctrl-C, SIGTERM or SIGHUP. Never leaves a process behind.

    The exit code is 0, unless something that it needs has failed, or `then_exit` was asked for and
    not every message was sent exactly once.
    """
    if Path("mailerd.toml").exists():
        own = options.folder / "mailerd.toml"
        Screen().trouble(
            t(
                "commands in this folder use ./mailerd.toml. To use this sandbox, add --config {file}",
                file=own,
            )
        )
    os.environ["no_proxy"] = (
        "*"  # a proxy of the environment would be asked for 127.0.0.1, and not find it
    )
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
            # A second signal cancels again: it cuts short the wait for whatever is being ended just
            # then.
            loop.add_signal_handler(number, task.cancel)
        try:
            all_sent = await self._up()
        except asyncio.CancelledError:
            self._screen.say(t("Stopped."))
            return 1 if self._options.then_exit else 0
        return 0 if all_sent else 1

    async def _up(self) -> bool:
        self._screen.banner()
        if self._job:
            self._screen.say(
                t("Starting a private database, a simulated Google and a daemon; about 10 s:")
            )
        async with self._sandbox_dir.claimed():
            self._sandbox_dir.make()
            with Server(
                data=self._sandbox_dir.database, durable=True, port=self._options.database_port
            ) as server:
                where = t(
                    "127.0.0.1:{port}, data in {folder}",
                    port=server.port,
                    folder=self._sandbox_dir.database,
                )
                self._screen.step(t("Private database"), where)
                return await self._beside(server)

    async def _beside(self, server: Server) -> bool:
        options, google = self._options, self._google()
        async with serve(google, port=options.google_port) as running:
            self._screen.step(t("Simulated Google"), running.url)
            intake_port, public_port = _ports(options.intake_port)
            # as auth login looks for it
            self._sandbox_dir.write_credential("client", google.accounts.client_file())
            self._screen.step(
                t("Unsubscribe links"),
                t("http://127.0.0.1:{port}/u/, on this machine only", port=public_port),
            )
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
                    return await self._demonstrate(
                        google, outbox=running.url, base=f"http://127.0.0.1:{intake_port}"
                    )
                self._screen.how_to(self._sandbox_dir, options.program, outbox=running.url)
                return await _until_cancelled()

    def _google(self) -> FakeGoogle:
        unlimited = (
            {"units_per_minute": 0, "project_units_per_minute": 0, "per_day": 0}
            if self._job
            else {}
        )
        google = FakeGoogle(
            FakeLimits(
                latency_s=self._options.latency_s, bounces=_BOUNCES, replies=_REPLIES, **unlimited
            ),
            outbox_dir=self._sandbox_dir.outbox,
        )
        senders = []
        if self._options.demo is not None:
            senders = [
                job["sender_email"] for job in (self._job, _read(_next_job(self._options.demo)))
            ]
        for email in dict.fromkeys([*self._options.mailboxes, *senders]):
            try:
                self._sandbox_dir.write_credential(
                    email, google.add_mailbox(email, scopes=(COMPOSE, READONLY))
                )
            except ValueError as error:
                raise ProcessError(str(error)) from None
        return google

    async def _demonstrate(self, google: FakeGoogle, *, outbox: str, base: str) -> bool:
        commands = Commands(
            program=self._options.program, configuration=self._sandbox_dir.configuration
        )
        await commands.ask("migrate")
        if left := _open_messages(
            json.loads(await commands.ask("jobs", "list", "--limit", "1000", "--json"))["jobs"]
        ):
            self._screen.say(
                tn(
                    "  {n:,} message of an earlier run continues",
                    "  {n:,} messages of an earlier run continue",
                    left,
                )
            )
        # A name of its own: keys of earlier starts are in the database still, and keep working.
        key = (await commands.ask("keys", "create", f"demo-{secrets.token_hex(4)}")).split()[-1]
        async with commands.daemon(log=self._sandbox_dir.log) as daemon, _watched(daemon.watch()):
            try:
                summary = await self._send(
                    google, commands, daemon=daemon, key=key, outbox=outbox, base=base
                )
                self._screen.summary(summary)
                if not self._options.then_exit:
                    self._screen.say(t("Ctrl-C stops the sandbox."))
                    await _until_cancelled()
                return summary.as_promised
            finally:
                if daemon.alive:
                    self._screen.say(t("Stopping; the daemon finishes the messages in flight."))

    async def _send(
        self,
        google: FakeGoogle,
        commands: Commands,
        *,
        daemon: DaemonProcess,
        key: str,
        outbox: str,
        base: str,
    ) -> Summary:
        demo = self._options.demo
        assert demo is not None  # noqa: S101 # only a demonstration sends
        async with AsyncClient(base, key=key, timeout=REQUEST_LIMIT_S, patience=0) as client:
            await wait_until_ready(client)
            self._screen.step(t("Daemon"), t("{url} (process {pid})", url=base, pid=daemon.pid))
            if not base.endswith(f":{_INTAKE_PORT}") and self._options.intake_port is None:
                self._screen.say(
                    t(
                        "  Port {port}, which the README uses, is in use by another process.",
                        port=_INTAKE_PORT,
                    )
                )
            link = (await commands.ask("console", "login")).split()[-1]
            self._screen.step(t("Console"), t("{link} (works once)", link=link))
            self._screen.step(
                t("Another link"),
                _command(self._options.program, self._sandbox_dir, "console", "login"),
            )
            posted = await post(client, self._job)
            self._screen.step(
                t("Sample job"),
                tn(
                    "{id}: {n:,} message accepted",
                    "{id}: {n:,} messages accepted",
                    posted.total,
                    id=posted.id,
                ),
            )
            if posted.opted_out:
                self._screen.say(
                    tn(
                        "  {n:,} message cancelled: its recipient unsubscribed or bounced in an earlier run. To start "
                        "with new data, delete {folder}",
                        "  {n:,} messages cancelled: their recipients unsubscribed or bounced in an earlier run. To "
                        "start with new data, delete {folder}",
                        posted.opted_out,
                        folder=self._sandbox_dir.folder,
                    )
                )
            with self._screen.progress(posted.total) as show:
                done = await follow(client, posted, show)
        keys = Counter(message.key for message in google.sent if message.key)
        return Summary(
            job=done,
            received=len(google.sent),
            twice=sum(count > 1 for count in keys.values()),
            outbox=outbox,
            sandbox_dir=self._sandbox_dir,
            program=self._options.program,
            key=key,
            post_to=base + JOBS,
            next_job=_next_job(demo),
        )


def _open_messages(jobs: Sequence[Mapping[str, Any]]) -> int:
    """Messages of these jobs that are still sent."""
    running = [job["counts"] for job in jobs if job["status"] != "paused"]
    return sum(
        counts.get(state, 0) for counts in running for state in ("waiting", "sending", "unsure")
    )


def _read(path: Path) -> dict[str, Any]:
    """The job in a file. Raises ProcessError, whose text is for people, when it is none."""
    try:
        job = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ProcessError(
            t("{file} is not valid JSON: {cause}", file=path, cause=str(error))
        ) from None
    if not isinstance(job, dict) or not isinstance(job.get("sender_email"), str):
        raise ProcessError(t("{file} is not a valid job: sender_email is missing", file=path))
    return job


def _next_job(demo: Path) -> Path:
    """The file for the curl line: the small example where it lies beside the job, otherwise the job
    itself.
    """
    small = demo.with_name("first-job.json")
    return (small if small.exists() else demo).absolute()


async def _watch(server: Server) -> NoReturn:
    while server.running:  # noqa: ASYNC110 # a process gives no event
        await asyncio.sleep(_WATCH_S)
    died = t(
        "the private database server stopped unexpectedly (its log is above): start the sandbox again"
    )
    raise ServerError(joined([printed(server.log_tail()), died], "\n"))


@asynccontextmanager
async def _watched(watch: Coroutine[Any, Any, NoReturn]) -> AsyncIterator[None]:
    """A block that is given up as soon as `watch` raises, with what it raises."""
    try:
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(watch)
            yield
            watcher.cancel()
    except BaseExceptionGroup as troubles:
        # One trouble is reported; when the block failed as well, that is most often because of what
        # was watched.
        raise troubles.exceptions[-1] from None


async def _until_cancelled() -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError  # nothing sets that event


def _ports(wanted: int | None) -> tuple[int, int]:
    """Ports for the daemon's API, the usual one only while no process has it, and for its site of
    unsubscribe links.

    Raises:
        ProcessError: another process has the port that is wanted. Were it another daemon, it would
        be taken for ours.
    """
    with socket.socket() as intake, socket.socket() as public:
        # connections that have ended bar no new one
        intake.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            intake.bind(("127.0.0.1", _INTAKE_PORT if wanted is None else wanted))
        except OSError as error:
            if wanted:
                raise ProcessError(
                    t(
                        "cannot listen on port {port} ({cause}): stop the process that uses it, or choose another "
                        "--intake-port",
                        port=wanted,
                        cause=error.strerror,
                    )
                ) from None
            intake.bind(("127.0.0.1", 0))
        public.bind(("127.0.0.1", 0))  # while the other one is held: they are never the same
        return intake.getsockname()[1], public.getsockname()[1]
