"""One connection to one server, as the driver opens it; what is known of it is kept on it."""

import time
from typing import Any

import aiomysql
from pymysql.err import OperationalError
from yarl import URL

from mailerd.store.db.cursor import Cursor
from mailerd.store.db.url import address, no_tls, require_encryption


async def connect(url: URL) -> Any:
    """Connect to one server and log in.

    Raises:
        MySQLError, OSError: there is no connection, or it is not encrypted though that was asked for.
    """
    try:
        connection = await aiomysql.connect(cursorclass=Cursor, **address(url))
    except OperationalError as error:
        if clearer := no_tls(error, url):
            raise clearer from error
        raise
    connection.mailerd_url = url
    connection.mailerd_born = connection.mailerd_used = time.monotonic()
    connection.mailerd_packet, connection.mailerd_server = 1 << 20, ""
    connection.mailerd_transport = connection._writer.transport  # the driver forgets its writer when it fails
    try:
        require_encryption(connection, url)
    except OperationalError:
        abort(connection)
        raise
    return connection


def abort(connection: Any) -> None:
    """End it at once: close() alone would wait until its write buffer has drained."""
    connection.mailerd_transport.abort()
    connection.close()
