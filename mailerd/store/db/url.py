"""Where database.url leads, as the driver wants it; a way that shall be encrypted is encrypted, or it is not taken."""

import ssl
from typing import Any

from pymysql.constants import CLIENT
from yarl import URL


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


def proves_itself(url: URL) -> bool:
    """Whether a server to which a log-in is sent has shown who it is: by its certificate, or by its socket file."""
    return "unix_socket" in url.query or (encrypted(url) and url.query.get("ssl") != "unverified")


def _context(url: URL) -> ssl.SSLContext | None:
    if not encrypted(url):
        return None
    authority = url.query.get("ssl_ca")
    try:
        context = ssl.create_default_context(cafile=authority)
    except OSError as error:  # its own words name no file
        raise OSError(f"ssl_ca {authority} cannot be used: {error.strerror or error}") from error
    if url.query.get("ssl") in {"verify_ca", "unverified"}:  # MySQL's own certificates name no host
        context.check_hostname = False
    if url.query.get("ssl") == "unverified":  # against listeners, not against a third party in between
        context.verify_mode = ssl.CERT_NONE
    return context
