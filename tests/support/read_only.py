"""A server that was demoted: it can be read, and refuses every write of a daemon's user."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pymysql

from mailerd.sandbox.mariadb import Server

DEMOTED = "SET GLOBAL read_only = "


@asynccontextmanager
async def read_only(server: Server) -> AsyncIterator[None]:
    """Demote it, and promote it again; not in the loop, since it waits for whatever is being committed."""
    await asyncio.to_thread(as_admin, server, DEMOTED + "ON")
    try:
        yield
    finally:
        await asyncio.to_thread(as_admin, server, DEMOTED + "OFF")


def as_admin(server: Server, statement: str) -> None:
    """Run a statement as one who may set globals, and may write to a read-only server."""
    connection = pymysql.connect(
        host="127.0.0.1", port=server.port, user="admin", password=server.password,
        autocommit=True, connect_timeout=10, read_timeout=30,
    )  # fmt: skip
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
