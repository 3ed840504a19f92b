"""Commands and caged children as processes of their own, which do not each import anew what all of them import.

One process imports it once and forks for each of them. What a command alone needs of mailerd it imports itself, so a
module that forgets an import fails as it would for a user; the libraries behind it are there. Everything else is a
process's own: arguments, environment, working folder, streams, signals, exit code, the bounds that it sets itself.
"""

import asyncio
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final
from unittest.mock import patch

_MAX_REQUEST: Final = 128 * 1024
_COMMANDS: Final = (
    "aiogoogle.auth", "aiohttp.web", "css_inline", "email_validator", "jinja2", "rich.progress", "uvloop",
    "mailerd.cli.common",
)  # fmt: skip
_CHILDREN: Final = (
    "mailerd.mail.render_child", "mailerd.intake.job_reader_child", "mailerd.mail.table_checker_child",
)  # fmt: skip


class PreparedProcess:
    """The process that forks."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests

    async def mailerd(
        self, *words: str, cwd: Path, given: bytes = b"", within: float, environment: Mapping[str, str] = os.environ
    ) -> tuple[int, bytes]:
        """Run a command to its end, at most `within` seconds; its exit code, and what it printed on both streams."""
        stdin, feed = os.pipe()
        with TemporaryFile() as stdout:
            asked = {"module": "mailerd", "words": words, "cwd": str(cwd), "environment": {**environment}}
            answer = await self._start(asked, stdin, stdout.fileno(), stdout.fileno())
            os.close(stdin)
            feeding = asyncio.create_task(asyncio.to_thread(_feed, feed, given))
            try:
                code = await asyncio.wait_for(answer.code(), within)
            except BaseException:
                os.kill(answer.pid, signal.SIGKILL)
                raise
            finally:
                await feeding
            stdout.seek(0)
            return code, stdout.read()

    async def start(self, *words: str, cwd: Path) -> "ForkedProcess":
        """Start a command, and speak with it while it runs."""
        return await self._piped({"module": "mailerd", "words": words, "cwd": str(cwd), "environment": {**os.environ}})

    async def child(self, module: str, *words: str) -> "ForkedProcess":
        """Start what `mailerd.mail.cage` starts by exec. Its last word, the number of its parent, is given to it."""
        return await self._piped({"module": module, "words": words[:-1], "cwd": "/", "environment": {}})

    async def _piped(self, asked: dict[str, Any]) -> "ForkedProcess":
        (stdin, to), (out, stdout), (err, stderr) = (os.pipe() for _ in range(3))
        try:
            answer = await self._start(asked, stdin, stdout, stderr)
        except BaseException:
            for each in (to, out, err):  # it ends where its standard input does
                os.close(each)
            raise
        finally:
            for each in (stdin, stdout, stderr):
                os.close(each)
        return await ForkedProcess.connected(answer, to, out, err)

    async def _start(self, asked: dict[str, Any], *streams: int) -> "_Answer":
        mine, its = socket.socketpair()
        with its:
            socket.send_fds(self._requests, [json.dumps(asked).encode()], [*streams, its.fileno()])
        source, writer = await asyncio.open_unix_connection(sock=mine)
        try:
            return _Answer(int(await source.readline()), source, writer)
        except BaseException:
            writer.close()
            raise


@dataclass
class _Answer:
    """What is told about a process: its number, and its exit code once it has ended."""

    pid: int
    source: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def code(self) -> int:
        try:
            return int(await self.source.read())
        finally:
            self.writer.close()


class ForkedProcess:
    """As much of asyncio's `Process` as is used of one."""

    def __init__(self, answer: _Answer, stdin: asyncio.StreamWriter, *streams: asyncio.StreamReader) -> None:
        self.pid, self.stdin = answer.pid, stdin
        self.stdout, self.stderr = streams
        self.returncode: int | None = None
        self._ended = asyncio.create_task(self._end(answer))

    @classmethod
    async def connected(cls, answer: _Answer, stdin: int, *streams: int) -> "ForkedProcess":
        loop = asyncio.get_running_loop()
        readers = [asyncio.StreamReader() for _ in streams]
        for reader, each in zip(readers, streams, strict=True):
            await loop.connect_read_pipe(partial(asyncio.StreamReaderProtocol, reader), os.fdopen(each, "rb"))
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(stdin, "wb"))
        return cls(answer, asyncio.StreamWriter(transport, protocol, None, loop), *readers)

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    async def communicate(self) -> tuple[bytes, bytes]:
        self.stdin.close()
        out, err = await asyncio.gather(self.stdout.read(), self.stderr.read())
        await self.wait()
        return out, err

    def kill(self) -> None:
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, signal.SIGKILL)

    async def _end(self, answer: _Answer) -> int:
        self.returncode = await answer.code()
        self.stdin.close()
        return self.returncode


@contextmanager
def forked_children(prepared: PreparedProcess) -> Iterator[None]:
    """Let caged children be forked meanwhile instead of started by exec."""
    start, python = asyncio.create_subprocess_exec, sys.executable

    async def fork(*command: str, **options: Any) -> Any:
        if command[0] == python and len(command) > 5 and command[5] in _CHILDREN:
            return await prepared.child(*command[5:])
        return await start(*command, **options)

    with patch("asyncio.create_subprocess_exec", fork):
        yield


@contextmanager
def prepared_for_children() -> Iterator[PreparedProcess]:
    """The process that forks caged children; it ends with this one, however that ends."""
    with _prepared(_CHILDREN) as it:
        yield it


@contextmanager
def prepared_for_commands(children: PreparedProcess, *modules: str) -> Iterator[PreparedProcess]:
    """The process that forks commands, whose own caged children are forked by `children`; it imports `modules`, too."""
    with _prepared((*_COMMANDS, *modules), children._requests) as it:
        yield it


@contextmanager
def _prepared(modules: Sequence[str], *children: socket.socket) -> Iterator[PreparedProcess]:
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with mine:
        with its:
            handed = [each.fileno() for each in (its, *children)]
            words = (",".join(map(str, handed)), *modules)
            process = subprocess.Popen([sys.executable, __file__, *words], pass_fds=handed)
        yield PreparedProcess(mine)
    process.wait()


def _feed(pipe: int, given: bytes) -> None:
    with suppress(BrokenPipeError), open(pipe, "wb") as stdin:
        stdin.write(given)


def _fork_processes(requests: socket.socket) -> str:
    """Fork for each request; returns in the new process alone, with the module that it is to run."""
    while True:
        asked, fds, _, _ = socket.recv_fds(requests, _MAX_REQUEST, 4)
        if not asked:
            sys.exit()
        if os.fork():  # a process that waits for the new one, so that this one need not
            for each in fds:
                os.close(each)
            with suppress(ChildProcessError):  # all have ended
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            continue
        requests.close()
        *streams, result = fds
        if process := os.fork():
            for each in streams:
                os.close(each)
            os.write(result, b"%d\n" % process)
            os.write(result, b"%d" % os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
            os._exit(0)
        os.close(result)
        return _become(json.loads(asked), streams)


def _become(asked: dict[str, Any], streams: list[int]) -> str:
    for number, each in enumerate(streams):
        os.dup2(each, number)
    for each in {*streams}:
        os.close(each)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv[1:] = asked["words"]
    sys.path[0] = asked["cwd"]  # where `python -m` looks first
    module = str(asked["module"])
    if module in _CHILDREN:
        os.setsid()
        sys.argv.append(str(os.getppid()))
        warnings.simplefilter("ignore")
        del sys.modules[module]  # it is run once more, as the main program
    return module


if __name__ == "__main__":
    for name in sys.argv[2:]:
        importlib.import_module(name)

    requests, *children = (socket.socket(fileno=int(each)) for each in sys.argv[1].split(","))
    gc.freeze()  # else the collector of each process writes to every page that they share
    module = _fork_processes(requests)
    with ExitStack() as forks:
        for each in children:
            forks.enter_context(forked_children(PreparedProcess(each)))
        runpy.run_module(module, run_name="__main__", alter_sys=True)
