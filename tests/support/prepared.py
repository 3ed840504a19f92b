"""Commands as processes of their own, which do not each import anew what every command imports.

One process imports it once and forks for each command. What a command alone needs it imports itself, so a module that
forgets an import fails as it would for a user. Everything else is a command's own: arguments, environment, working
folder, streams, signals, exit code.
"""

import asyncio
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final

_MAX_REQUEST: Final = 128 * 1024


class PreparedProcess:
    """The process that forks."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests

    async def mailerd(self, *words: str, cwd: Path, given: bytes, within: float) -> tuple[int, bytes]:
        """Run a command to its end, at most `within` seconds; its exit code, and what it printed on both streams."""
        asked = json.dumps({"words": words, "cwd": str(cwd), "environment": dict(os.environ)}).encode()
        mine, its = socket.socketpair()
        stdin, feed = os.pipe()
        with TemporaryFile() as stdout:
            with its:
                socket.send_fds(self._requests, [asked], [stdin, stdout.fileno(), its.fileno()])
            os.close(stdin)
            feeding = asyncio.create_task(asyncio.to_thread(_feed, feed, given))
            answer, writer = await asyncio.open_unix_connection(sock=mine)
            pid = int(await answer.readline())
            try:
                code = int(await asyncio.wait_for(answer.read(), within))
            except BaseException:
                os.kill(pid, signal.SIGKILL)
                raise
            finally:
                writer.close()
                await feeding
            stdout.seek(0)
            return code, stdout.read()


@contextmanager
def prepared_process() -> Iterator[PreparedProcess]:
    """The process, which ends with this one, however that ends."""
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with mine:
        with its:
            process = subprocess.Popen([sys.executable, __file__, str(its.fileno())], pass_fds=[its.fileno()])
        yield PreparedProcess(mine)
    process.wait()


def _feed(pipe: int, given: bytes) -> None:
    with suppress(BrokenPipeError), open(pipe, "wb") as stdin:
        stdin.write(given)


def _fork_commands(requests: socket.socket) -> None:
    """Fork for each request; returns in the command's process alone."""
    while True:
        asked, fds, _, _ = socket.recv_fds(requests, _MAX_REQUEST, 3)
        if not asked:
            sys.exit()
        if os.fork():  # a process that waits for the command, so that this one need not
            for each in fds:
                os.close(each)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            continue
        requests.close()
        stdin, stdout, result = fds
        if command := os.fork():
            os.write(result, b"%d\n" % command)
            os.write(result, b"%d" % os.waitstatus_to_exitcode(os.waitpid(command, 0)[1]))
            os._exit(0)
        _become(json.loads(asked), stdin, stdout)
        os.close(result)
        return


def _become(asked: dict[str, Any], stdin: int, stdout: int) -> None:
    for new, number in ((stdin, 0), (stdout, 1), (stdout, 2)):
        os.dup2(new, number)
    os.close(stdin)
    os.close(stdout)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv[1:] = asked["words"]
    sys.path[0] = asked["cwd"]  # where `python -m` looks first


if __name__ == "__main__":
    import uvloop  # noqa: F401

    import mailerd.cli.common  # noqa: F401

    gc.freeze()  # else the collector of each command writes to every page that they share
    _fork_commands(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("mailerd", run_name="__main__", alter_sys=True)
