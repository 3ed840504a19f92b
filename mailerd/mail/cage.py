"""A child process in a cage: what a stranger sent is worked on where the operating system bounds
memory and time.

The parent starts it by exec with an empty environment and three pipes, asks it by frames, and kills
it when it is late. The child bounds itself before it reads anything. `render_child` renders
templates so, `job_reader_child` reads jobs.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from mailerd.core.i18n import t
from mailerd.errors import MailerdError
from mailerd.events.worker import RendererEvents
from mailerd.mail.templates import RendererError

# The messages between the renderer and its child: four bytes of length, big-endian, and JSON.

LENGTH: Final = struct.Struct(">I")
MAX_FRAME: Final = 64 * 1024 * 1024
"""The most bytes of a frame; the largest message has some 12 MB, where JSON escapes each of its
characters.
"""
BLOB: Final = "blob"
"""What a message calls the number of bytes that follow its frame as they are, and those bytes once
they are read.
"""
Blob = bytes | bytearray


def encode_frame(content: Mapping[str, Any]) -> bytes:
    """A message as bytes."""
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )
    return LENGTH.pack(len(data)) + data


def decode_frame(data: bytes) -> Any:
    """The message in a frame."""
    return json.loads(data.decode("utf-8", "surrogatepass"))


def read_message(source: BinaryIO) -> dict[str, Any] | None:
    """The next message that the child is sent, with its blob if it has one; None: the parent has
    closed the pipe.
    """
    if not (head := source.read(LENGTH.size)):
        return None
    message: dict[str, Any] = decode_frame(source.read(*LENGTH.unpack(head)))
    if size := message.get(BLOB):
        message[BLOB] = source.read(size)
    return message


# The parent's side of a child process that renders: started by exec, asked by frames, killed when
# it is late.

START_TIMEOUT: Final = 20.0
"""Seconds for exec and imports; they take a tenth of one."""
ANSWER_TIMEOUT: Final = 10.0
"""Seconds for an answer.

A message's seconds of CPU end far earlier; this bound is for a process that gets none.
"""
KILL_TIMEOUT: Final = 5.0
"""Seconds for the end of a process that was killed: one that waits for a disk or for swap ends when
that answers.
"""
_PIECE: Final = 1 << 20
LARGE_FRAME: Final = 256 * 1024
"""Bytes from which a frame is read in a thread, so that it does not hold the event loop."""
_SIGNALS: Final[Mapping[int, str]] = {
    signal.SIGPROF: t("takes too long"),
    signal.SIGXCPU: t("takes too long"),
    signal.SIGABRT: t("takes too much memory"),
    signal.SIGKILL: t("was killed, as when memory runs out"),
    signal.SIGSEGV: t("is nested too deeply"),
    signal.SIGBUS: t("is nested too deeply"),
}


@dataclass(frozen=True)
class Limits:
    """What a message may use."""

    cpu: float
    """The seconds of CPU that a message may use, less at most 5 ms that messages before it have
    used.
    """
    memory: int
    """The bytes of address space of the process, the interpreter's own 40 MB included."""
    frame: int | None = None
    """The most bytes of an answer; None: MAX_FRAME."""


class ChildEndedError(MailerdError):
    """The process ended instead of answering; `part` is what it worked on, where that is known.

    `by_work` is False where the work is not the cause: another process has killed it, or it got no
    CPU.
    """

    def __init__(
        self, cause: str, *, part: str | None, line: int | None = None, by_work: bool = True
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.part = part
        self.line = line
        self.by_work = by_work

    @property
    def is_a_bug(self) -> bool:
        """Whether it met an error that the code does not know."""
        return self.cause.startswith("broke")


class ChildProcess:
    """The parent's side of one child process. Its owner asks one thing at a time."""

    def __init__(self, process: asyncio.subprocess.Process, *, frame: int | None) -> None:
        assert process.stdin is not None  # noqa: S101 - `start` gives all three pipes
        assert process.stdout is not None  # noqa: S101
        self._process = process
        self._frame = frame
        self._to, self._from = process.stdin, process.stdout

    @classmethod
    async def start(cls, limits: Limits, *, module: str = "mailerd.mail.render_child") -> Self:
        """Start one that is ready; `module` is what it runs.

        Raises:
            RendererError: it does not start; the text says why.
        """
        # By exec, and with nothing of ours: no environment (it may hold the database's password),
        # no descriptor but the three pipes, no terminal, and -I against anything that a working
        # folder would bring.
        command = (
            sys.executable,
            "-I",
            "-W",
            "ignore",
            "-m",
            module,
            str(limits.cpu),
            str(limits.memory),
            str(os.getpid()),
        )
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env={},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise RendererError(f"{command[0]}: {error}") from error
        child = cls(process, frame=limits.frame)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await child._read()
        except (TimeoutError, OSError, ValueError, asyncio.IncompleteReadError) as error:
            said = await child._last_words()
            await child.kill()
            raise RendererError(
                said or t("no response within {start_timeout:g} s", start_timeout=START_TIMEOUT)
            ) from error
        except BaseException:
            await child.kill()
            raise
        return child

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    async def ask(
        self,
        asked: Mapping[str, Any],
        *,
        blob: Blob = b"",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> dict[str, Any]:
        """Ask the process; its answer.

        `blob`: bytes that go with it; `timeout`: for ANSWER_TIMEOUT.

        Raises:
            ChildEndedError: it has ended, or was killed because it was late.
        """
        part: str | None = None
        try:
            async with asyncio.timeout(timeout := timeout or ANSWER_TIMEOUT):
                self._to.write(encode_frame({**asked, BLOB: len(blob)} if blob else asked))
                # in pieces, or the loop would copy all of it at once
                for start in range(0, len(blob), _PIECE):
                    self._to.write(bytes(blob[start : start + _PIECE]))
                    await self._to.drain()
                await self._to.drain()
                while "at" in (answer := await self._read()):
                    part = answer["at"]
        except TimeoutError:
            await self.kill()
            cause = t(
                "did not respond within {timeout:g} s: it gets no CPU, or its memory is swapped out",
                timeout=timeout,
            )
            raise ChildEndedError(cause, part=part, by_work=False) from None
        except ValueError as error:  # no frame
            await self.kill()
            raise ChildEndedError(
                t("broke the renderer ({error})", error=error), part=part
            ) from None
        except (
            OSError,
            RuntimeError,
            asyncio.IncompleteReadError,
        ):
            # uvloop's word for a closed pipe
            # it may be about to end by itself, and its exit code says why
            await self.kill(after=1.0)
            killed = self._process.returncode in {None, -signal.SIGKILL}
            raise ChildEndedError(self.cause, part=part, by_work=not killed) from None
        except BaseException:
            await self.kill()
            raise
        if "broke" in answer:
            await self.kill()
            raise ChildEndedError(t("broke the renderer ({it})", it=answer["broke"]), part=part)
        if "out_of_memory" in answer:
            await self.kill()
            part, line = answer["out_of_memory"]
            raise ChildEndedError(t("takes too much memory"), part=part, line=line)
        return answer

    async def kill(self, *, after: float = 0.0) -> None:
        """End it, and reap it, if the kernel lets it go in time."""
        try:
            if after:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), after)
        finally:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), KILL_TIMEOUT)

    async def _read(self) -> dict[str, Any]:
        (length,) = LENGTH.unpack(await self._from.readexactly(LENGTH.size))
        most = self._frame or MAX_FRAME
        if length > most:
            raise ValueError(f"a frame of {length} bytes")
        data = await self._from.readexactly(length)
        content = (
            await asyncio.to_thread(decode_frame, data)
            if length > LARGE_FRAME
            else decode_frame(data)
        )
        if not isinstance(content, dict):
            raise ValueError("no object")  # noqa: TRY004 - the child's answers are data
        if (size := content.get(BLOB)) is not None:
            if not isinstance(size, int) or size > most:
                raise ValueError(f"a blob of {size} bytes")
            content[BLOB] = await self._read_blob(size)
        return content

    async def _read_blob(self, size: int) -> Blob:
        """So many bytes, piece by piece: in one piece the loop would copy all of it at once."""
        if size <= _PIECE:
            return await self._from.readexactly(size)
        blob = bytearray()
        while len(blob) < size:
            blob += await self._from.readexactly(min(_PIECE, size - len(blob)))
        return blob

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.returncode is not None

    @property
    def cause(self) -> str:
        """Why it ended; without an exit code it was killed, and has not ended yet."""
        code = -signal.SIGKILL if self._process.returncode is None else self._process.returncode
        if code < 0:
            return _SIGNALS.get(-code, t("was ended by signal {it}", it=-code))
        return t("broke the renderer (exit code {code})", code=code)

    async def _last_words(self) -> str:
        """The last line that it wrote on standard error."""
        if self._process.stderr is None:
            return ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                said = await self._process.stderr.read(10_000)
                return said.decode("utf-8", "replace").strip().rpartition("\n")[2][:300]
        return ""


# A worker: a child process, started when it is needed and replaced when it has ended.

IDLE_TIMEOUT: Final = 60.0
"""Seconds without work after which a child that is not kept may be ended: it has some 16 MB of its
own.
"""
_MAX_WAIT: Final = 5.0
"""The most seconds before the next try to start a child that does not start."""
_START_ERROR_FOR: Final = 10.0
"""Seconds for which a child that did not start makes the daemon not ready."""
_OFTEN: Final = 10
"""Ends of a child within a minute that are more than one bad template explains."""
_MINUTE: Final = 60.0


class ChildExits:
    """Reports each end of a renderer's children, and when there are many of them."""

    def __init__(self, renderer: str, events: RendererEvents) -> None:
        self.renderer = renderer
        self.events = events
        self._times: deque[float] = deque(maxlen=_OFTEN)

    def record(self, origin: str, cause: str) -> None:
        """A child ended while it worked on a template of this origin."""
        now = asyncio.get_running_loop().time()
        self.events.renderer_ended(renderer=self.renderer, origin=origin, cause=cause)
        self._times.append(now)
        if len(self._times) == _OFTEN and now - self._times[0] < _MINUTE:
            self.events.renderer_ends_often(
                renderer=self.renderer, origin=origin, count=_OFTEN, cause=cause
            )
            self._times.clear()


class ChildWorker:
    """One child process at a time; `async with` allows work, and ends the child.

    With `keep` the child is started at once, so that no message waits for it. Without, it is
    started when there is something to do, and ended after one to two minutes without work.
    """

    def __init__(
        self, module: str, *, limits: Limits, exits: ChildExits, keep: bool = False
    ) -> None:
        self.lock = asyncio.Lock()
        """Held by the request whose turn it is; it is fair, the first that waits gets it."""
        self._module = module
        self._limits = limits
        self._exits = exits
        self._keep = keep
        self._child: ChildProcess | None = None
        self._used_at = 0.0
        self._failures = 0
        self._start_error = ""
        self._failed_at = 0.0
        self._background: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        background = self._start_early() if self._keep else self._end_when_idle()
        self._background = asyncio.create_task(background, name=f"renderer {self._exits.renderer}")
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._background is not None:
                self._background.cancel()
                await asyncio.wait((self._background,))
        finally:
            await self._end_child()

    @property
    def pid(self) -> int | None:
        """The number of the child process; None while there is none."""
        return self._child.pid if self._child else None

    @property
    def start_error(self) -> str:
        """Why the child did not start a moment ago; "" while nothing is known to be wrong.

        It is shown for a short time only: a caller that asks no more because of it would never
        learn that it is over.
        """
        recent = asyncio.get_running_loop().time() - self._failed_at < _START_ERROR_FOR
        return self._start_error if recent else ""

    async def asked(
        self,
        asked: Mapping[str, Any],
        *,
        blob: Blob = b"",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> dict[str, Any]:
        """The answer of the child, which is ready; the caller holds the lock.

        Raises:
            ChildEndedError: the child has ended over it.
        """
        assert self._child is not None  # noqa: S101 - `ready` was awaited
        try:
            answer = await self._child.ask(asked, blob=blob, timeout=timeout)
        except BaseException:
            self._child = None  # `ask` has killed it
            raise
        self._used_at = asyncio.get_running_loop().time()
        return answer

    def forget(self) -> None:
        """A new child knows nothing of what the last one has learnt."""

    async def ready(self) -> ChildProcess:
        """A child that can be asked; it is another one where the last has ended.

        Raises:
            RendererError: none can be started.
        """
        if self._child is not None and not self._child.has_ended:
            return self._child
        if self._child is not None:
            self._exits.record("no one", self._child.cause)
        if self._failures:
            await asyncio.sleep(self._wait())
        self.forget()
        try:
            self._child = await ChildProcess.start(self._limits, module=self._module)
        except RendererError as error:
            self._child, self._start_error, self._failed_at = (
                None,
                str(error),
                asyncio.get_running_loop().time(),
            )
            self._failures += 1
            self._exits.events.renderer_not_started(
                renderer=self._exits.renderer, cause=str(error), again_in=self._wait()
            )
            raise
        self._failures, self._start_error = 0, ""
        return self._child

    def _wait(self) -> float:
        return min(0.1 * 2.0**self._failures, _MAX_WAIT)

    async def _start_early(self) -> None:
        async with self.lock:
            # it is an event, and the first message tries again
            with contextlib.suppress(RendererError):
                await self.ready()

    async def _end_when_idle(self) -> None:
        while True:
            await asyncio.sleep(IDLE_TIMEOUT)
            async with self.lock:
                if asyncio.get_running_loop().time() - self._used_at >= IDLE_TIMEOUT:
                    await self._end_child()

    async def _end_child(self) -> None:
        if self._child is not None:
            await self._child.kill()
            self._child = (
                None  # only now: where this is cancelled before, the child must be ended once more
            )


# The child's side: it ends with its parent, and gives up what its work does not need.

_PR_SET_PDEATHSIG: Final = 1


def end_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends: one that is stopped does not see the
    end of its pipe.

    The parent starts it from the thread of its event loop, which lives as long as the parent does:
    the kernel goes by the thread. Elsewhere than on Linux the end of the pipe has to do.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it had ended before
        sys.exit(1)


_NICE: Final = 5


def give_way() -> None:
    """Let what is sent, and other requests, go first: who has uploaded something can wait a moment
    longer.

    Where Linux shares the CPU by sessions (`man 7 sched`, "The autogroup feature"), the niceness of
    a process counts within its session alone, and each child has one of its own: it is the session
    that is made nice there.
    """
    os.nice(_NICE)
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # this system shares it in another way
            Path("/proc/self/autogroup").write_text(str(_NICE))


_STATM: Final = 3
"""The descriptor of this process's own /proc/self/statm, where `bound` has kept it."""


def bound(*, memory: int, keep_statm: bool = False) -> None:
    """Give up what the work does not need, for ever: memory, files, processes, core dumps, standard
    error.

    Python writes warnings about templates to standard error, and would wait for ever once that pipe
    is full. `keep_statm`: `bound_memory` is going to be used.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    if keep_statm := keep_statm and sys.platform == "linux":
        os.dup2(os.open("/proc/self/statm", os.O_RDONLY), _STATM)
    # `nowhere`, and what a library keeps: libffi 3.5 its own file
    os.closerange(_STATM + keep_statm, os.sysconf("SC_OPEN_MAX"))
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (
            resource.RLIMIT_NOFILE,
            0,
        ),  # the three pipes stay open, and none can be closed to make room for a file
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def bound_cpu(cpu: float) -> None:
    """Let the kernel end the process after so many seconds of CPU from now on; `RLIMIT_CPU` is a
    second limit.
    """
    signal.setitimer(signal.ITIMER_PROF, cpu)
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + cpu) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def bound_memory(more: int | None) -> None:
    """Let this process take so many bytes more than it has now, until the next call; None: all that
    it was given.
    """
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if more is not None and sys.platform == "linux":
        most = min(most, int(os.pread(_STATM, 100, 0).split()[0]) * resource.getpagesize() + more)
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
