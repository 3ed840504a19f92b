"""Where database.url leads, as the driver wants it; a way that shall be encrypted is encrypted, or it is not taken."""

import asyncio
import ssl
from typing import Any, Final

from pymysql.constants import CLIENT
from pymysql.err import OperationalError
from yarl import URL

_NO_TLS: Final = "the server offers no TLS, which database.url asks for"
_BAD_HANDSHAKE: Final = 1043


def address(url: URL) -> dict[str, Any]:
    """What the driver is given.

    Raises:
        OSError: the file that ssl_ca names cannot be read, or holds no certificate.
    """
    return {
        "host": url.host or "localhost",
        "port": url.port or 3306,
        "unix_socket": url.query.get("unix_socket"),
        "user": url.user,
        # The driver writes a password as Latin-1; every other client, and so the server's digest of it, takes UTF-8.
        "password": (url.password or "").encode().decode("latin-1"),
        "db": url.path.strip("/"),
        "charset": "utf8mb4",
        "autocommit": True,  # an explicit BEGIN is then the only way into a transaction
        "client_flag": CLIENT.FOUND_ROWS,  # fencing counts rows that matched, not rows that changed
        "ssl": _context(url),
        # connect_timeout stays None: the driver's own ends before the greeting and nests a wait_for
    }


def encrypted(url: URL) -> bool:
    """Whether nothing may go over the wire in clear."""
    return "ssl" in url.query or "ssl_ca" in url.query


def require_encryption(transport: asyncio.BaseTransport, url: URL) -> None:
    """Make sure that what was asked for is there.

    The driver goes on in clear when MariaDB does not offer TLS, or a third party has removed the offer; MySQL
    then answers with 1043, see `no_tls`.

    Raises:
        OperationalError: it is not encrypted.
    """
    local = url.query.get("unix_socket")
    if encrypted(url) and not local and transport.get_extra_info("ssl_object") is None:
        raise OperationalError(2026, _NO_TLS)


def no_tls(error: OperationalError, url: URL) -> OperationalError | None:
    """What is wrong, in words, where a handshake failed for want of TLS; None where it failed for another reason."""
    return OperationalError(2026, _NO_TLS) if error.args[:1] == (_BAD_HANDSHAKE,) and encrypted(url) else None


def _context(url: URL) -> ssl.SSLContext | None:
    if not encrypted(url):
        return None
    authority = url.query.get("ssl_ca")
    try:
        context = ssl.create_default_context(cafile=authority)
    except OSError as error:  # its own words name no file
        raise OSError(f"ssl_ca {authority} cannot be used: {error.strerror or error}") from error
    if url.query.get("ssl") == "unverified":  # against listeners, not against a third party in between
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
