"""What a command knows of the daemon beside it: whether it lives, and what keeps it from storing
anything.
"""

import asyncio
import io
import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, parse_headers
from typing import Final

from mailerd.config import IntakeSettings
from mailerd.core.i18n import t
from mailerd.core.stats import DaemonInfo
from mailerd.errors import DatabaseError, SchemaError
from mailerd.locale import language
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import check_writable
from mailerd.store.read.describe import heard_of

_MOST: Final = 65_536
"""Bytes of a response that are read: a daemon says less, and another program may say more."""
READY_TIMEOUT: Final = 5.0
"""Seconds for the answer of a daemon that may wait for its database first."""


@dataclass(frozen=True)
class Readiness:
    """What a daemon says of itself."""

    reason: str = ""
    """Why it can store no job; "" where it can."""
    outage: str = ""
    """How the database cannot be used, as `Database.outage` says it; "": it can."""


async def ask_ready(settings: IntakeSettings) -> Readiness:
    """What the mailerd says that listens there.

    One small request: aiohttp takes as long to import as all else here.

    Raises:
        OSError: nothing listens there, or what listens is no mailerd.
    """
    try:
        async with asyncio.timeout(READY_TIMEOUT):
            status, server, body = await _get(settings, "/health/ready")
        said = json.loads(body) if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    except (HTTPException, TimeoutError, ValueError, RecursionError) as error:
        raise OSError(t("no response ({cause})", cause=type(error).__name__)) from error
    if server != "mailerd" or not isinstance(said, dict):
        raise OSError(t("no response ({cause})", cause=f"HTTP {status}"))
    return Readiness(str(said.get("reason") or ""), str(said.get("outage") or ""))


async def _get(settings: IntakeSettings, path: str) -> tuple[int, str, bytes]:
    """The status, the header Server and the body of a response that ends with its connection."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - it is compared
    reader, writer = await (
        asyncio.open_unix_connection(settings.unix_socket)
        if settings.unix_socket
        else asyncio.open_connection(host, settings.port)
    )
    try:
        authority = f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"
        lines = (
            f"GET {path} HTTP/1.0",
            f"Host: {authority}",
            f"Accept-Language: {language()}",
            "",
            "",
        )
        writer.write("\r\n".join(lines).encode())
        received = bytearray()
        while len(received) < _MOST and (more := await reader.read(_MOST)):
            received += more
        response = io.BytesIO(received)
    finally:
        writer.close()
    _, status, *_ = response.readline().split(maxsplit=2)
    return int(status), parse_headers(response).get("Server", ""), response.read()


@dataclass(frozen=True)
class Seen:
    """What keeps messages from being sent, as far as it is seen from this machine."""

    outage: str = ""
    """How the database cannot be used, as `database.outage` says from now on too; "": it can."""
    lives: bool = False
    """The daemon of this machine is ready, whatever its heartbeat says: it may not have had the
    time to write one.
    """

    def runs(self, daemons: Sequence[DaemonInfo]) -> bool:
        """Whether a daemon runs."""
        return self.lives or heard_of(daemons)


async def look(
    database: Database, settings: IntakeSettings | None, daemons: Sequence[DaemonInfo]
) -> Seen:
    """Ask the daemon of this machine that listens there, if there is one, and try whether the
    database takes writes.

    What a ready daemon can do is what is: a connection keeps the privileges that it began with, and
    a command's own is newer. A daemon has also met what no try shows that changes nothing: a full
    disk.
    """
    database.hear_of("")
    said = await _of_this_machine(settings, daemons)
    if said is not None and not said.reason:
        return Seen(lives=True)
    with suppress(DatabaseError, SchemaError):
        await check_writable(database)
    if database.outage:
        return Seen(database.outage)
    if said is None:
        return Seen()
    database.hear_of(said.outage)
    return Seen(said.outage)


async def _of_this_machine(
    settings: IntakeSettings | None, daemons: Sequence[DaemonInfo]
) -> Readiness | None:
    """What the daemon of this machine says; None: there is none that responds."""
    if settings is None or not any(
        it.host == socket.gethostname() and not it.is_gone for it in daemons
    ):
        return None
    try:
        async with asyncio.timeout(READY_TIMEOUT):
            return await ask_ready(settings)
    except (OSError, TimeoutError):
        return None
