"""Which server a connection leads to, and since when that runs: after a failover, or behind a router, it is another."""

from typing import Any, Final

from pymysql.err import MySQLError

from mailerd.store.db import error_codes

# Both are whole seconds of one statement's own time, so their difference is the same for every session.
_SINCE: Final = "CAST(UNIX_TIMESTAMP() - VARIABLE_VALUE AS SIGNED)"
_MYSQL: Final = f"""
SELECT @@server_uuid, {_SINCE} FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Uptime'"""
# MariaDB has no server_uuid.
_MARIADB: Final = f"""
SELECT CONCAT_WS(':', @@hostname, @@port, @@server_id), {_SINCE}
  FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'UPTIME'"""


async def server_behind(cursor: Any, version: str) -> str:
    """A name of the server and of when it was started; "" where it may not be asked."""
    try:
        await cursor.execute(_MARIADB if "mariadb" in version.lower() else _MYSQL)
        row = await cursor.fetchone()
    except MySQLError as error:
        if error_codes.from_server(error_codes.number(error)):
            return ""
        raise
    return f"{row[0]} since {row[1]}" if row else ""
