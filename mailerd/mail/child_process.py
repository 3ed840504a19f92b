"""The parent's side of a child process that renders: started by exec, asked by frames, killed when it is late."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from mailerd.errors import MailerdError
from mailerd.mail.frames import LENGTH, MAX_FRAME, decode_frame, encode_frame
from mailerd.mail.templates import RendererError

START_TIMEOUT: Final = 20.0
"""Seconds for exec and imports; they take a tenth of one."""
ANSWER_TIMEOUT: Final = 10.0
"""Seconds for an answer. A letter's seconds of CPU end far earlier; this bound is for a process that gets none."""
KILL_TIMEOUT: Final = 5.0
"""Seconds for the end of a process that was killed: one that waits for a disk or for swap ends when that answers."""
LARGE_FRAME: Final = 256 * 1024
"""Bytes from which a frame is read in a thread, so that it does not hold the event loop."""
_SIGNALS: Final[Mapping[int, str]] = {
    signal.SIGPROF: "takes too long",
    signal.SIGXCPU: "takes too long",
    signal.SIGABRT: "takes too much memory",
    signal.SIGKILL: "was killed, as when memory is short",
    signal.SIGSEGV: "is nested too deeply",
    signal.SIGBUS: "is nested too deeply",
}


@dataclass(frozen=True)
class Limits:
    """What a letter may use."""

    cpu: float
    """The seconds of CPU that a letter may use, less at most 5 ms that letters before it have used."""
    memory: int
    """The bytes of address space of the process, the interpreter's own 40 MB included."""


class ChildEndedError(MailerdError):
    """The process ended instead of answering; `part` is what it worked on, where that is known.

    `by_work` is False where the work is not the cause: another process has killed it, or it got no CPU.
    """

    def __init__(self, cause: str, *, part: str | None, line: int | None = None, by_work: bool = True) -> None:
        super().__init__(cause)
        self.cause = cause
        self.part = part
        self.line = line
        self.by_work = by_work


class ChildProcess:
    """The parent's side of one child process. Its owner asks one thing at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None  # noqa: S101 - `start` gives all three pipes
        assert process.stdout is not None  # noqa: S101
        self._process = process
        self._to, self._from = process.stdin, process.stdout

    @classmethod
    async def start(cls, limits: Limits) -> Self:
        """Start one that is ready.

        Raises:
            RendererError: it does not start; the text says why.
        """
        # By exec, and with nothing of ours: no environment (it may hold the database's password), no descriptor
        # but the three pipes, no terminal, and -I against anything that a working folder would bring.
        command = (
            sys.executable,
            "-I",
            "-W",
            "ignore",
            "-m",
            "mailerd.mail.render_child",
            str(limits.cpu),
            str(limits.memory),
            str(os.getpid()),
        )
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=pipe, env={}, cwd="/", start_new_session=True
            )
        except OSError as error:
            raise RendererError(f"{command[0]}: {error}") from error
        child = cls(process)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await child._read()
        except (TimeoutError, OSError, ValueError, asyncio.IncompleteReadError) as error:
            said = await child._last_words()
            await child.kill()
            raise RendererError(said or f"no answer within {START_TIMEOUT:g} s") from error
        except BaseException:
            await child.kill()
            raise
        return child

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    async def ask(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the process; its answer.

        Raises:
            ChildEndedError: it has ended, or was killed because it was late.
        """
        part: str | None = None
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                self._to.write(encode_frame(asked))
                await self._to.drain()
                while "at" in (answer := await self._read()):
                    part = answer["at"]
        except TimeoutError:
            await self.kill()
            cause = f"gave no answer within {ANSWER_TIMEOUT:g} s: it gets no CPU, or its memory is swapped out"
            raise ChildEndedError(cause, part=part, by_work=False) from None
        except ValueError as error:  # no frame
            await self.kill()
            raise ChildEndedError(f"broke the renderer ({error})", part=part) from None
        except (OSError, RuntimeError, asyncio.IncompleteReadError):  # uvloop's word for a closed pipe
            await self.kill(after=1.0)  # it may be about to end by itself, and its exit code says why
            killed = self._process.returncode in {None, -signal.SIGKILL}
            raise ChildEndedError(self.cause, part=part, by_work=not killed) from None
        except BaseException:
            await self.kill()
            raise
        if "broke" in answer:
            await self.kill()
            raise ChildEndedError(f"broke the renderer ({answer['broke']})", part=part)
        if "out_of_memory" in answer:
            await self.kill()
            part, line = answer["out_of_memory"]
            raise ChildEndedError("takes too much memory", part=part, line=line)
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
        if length > MAX_FRAME:
            raise ValueError(f"a frame of {length} bytes")
        data = await self._from.readexactly(length)
        content = await asyncio.to_thread(decode_frame, data) if length > LARGE_FRAME else decode_frame(data)
        if not isinstance(content, dict):
            raise ValueError("no object")  # noqa: TRY004 - the child's answers are data
        return content

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.returncode is not None

    @property
    def cause(self) -> str:
        """Why it ended; without an exit code it was killed, and has not ended yet."""
        code = -signal.SIGKILL if self._process.returncode is None else self._process.returncode
        if code < 0:
            return _SIGNALS.get(-code, f"was ended by signal {-code}")
        return f"broke the renderer (exit code {code})"

    async def _last_words(self) -> str:
        """The last line that it wrote on standard error."""
        if self._process.stderr is None:
            return ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                said = await self._process.stderr.read(10_000)
                return said.decode("utf-8", "replace").strip().rpartition("\n")[2][:300]
        return ""
