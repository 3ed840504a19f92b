"""Why a port cannot be had: the setting that names it, who has it, and what to do."""

import asyncio
import errno
import os
from typing import Final, Literal

from mailerd.errors import ListenError

ANSWER_TIMEOUT: Final = 2.0
"""Seconds for the program that has the port to answer."""


type Owner = Literal["mailerd", "other", "silent"]
"""Who listens; `silent`: it answers nothing."""


async def port_owner(host: str, port: int) -> Owner:
    """Who listens on a port that is in use."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is compared, nothing binds to it
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            return await _ask(*await asyncio.open_connection(reachable, port))
    except (OSError, TimeoutError):
        return "silent"


async def socket_owner(path: str) -> Owner | None:
    """Who listens on a socket file; None: no program, and what may lie there was left behind."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            streams = await asyncio.open_unix_connection(path)
            try:
                return await _ask(*streams)
            except OSError:
                return "silent"
    except TimeoutError:
        return "silent"
    except OSError:
        return None


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Owner:
    try:
        writer.write(b"GET /health/live HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = await reader.read(4096)
    finally:
        writer.transport.abort()
    if not answer:
        return "silent"
    return "mailerd" if b"\r\nServer: mailerd\r\n" in answer else "other"  # others say that they are alive, too


async def refuse_taken_socket(path: str) -> None:
    """See to it that no program listens on a socket file: to listen there takes the file away, and no program notices.

    Raises:
        ListenError: one does.
    """
    if await socket_owner(path):
        raise ListenError(
            f"the intake cannot listen on {path} (intake.unix_socket): another program listens there, such as another "
            "mailerd; use that one, end it, or choose another intake.unix_socket"
        )


async def cannot_listen(error: OSError, *, part: str, section: str, host: str, port: int) -> ListenError:
    """What to raise where `part` of the daemon cannot listen on host and port of that section of the settings."""
    beginning = f"{part} cannot listen on {host}:{port} ({section}.port)"
    if error.errno != errno.EADDRINUSE:
        why = os.strerror(error.errno) if error.errno else error
        return ListenError(f"{beginning}: {why}; correct {section}.host and {section}.port")
    if await port_owner(host, port) == "mailerd":
        return ListenError(
            f"{beginning}: another mailerd listens there; use that one, end it, or choose another {section}.port"
        )
    return ListenError(
        f"{beginning}: another program listens there; see which (`ss -ltnp sport = :{port}`), and end it or choose "
        f"another {section}.port"
    )
