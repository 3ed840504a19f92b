"""What single settings may be: each function takes a value as it was written and gives it back, or says why not."""

import json
import re
from collections.abc import Mapping
from ipaddress import ip_network
from urllib.parse import urlsplit

from yarl import URL

_BETWEEN_ADDRESSES = re.compile(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")
"""A comma may also stand inside an address: mailto://…?to=a@x,b@x."""


def web(url: str) -> str:
    """An address of the web."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return url


def slash(url: str) -> str:
    """An address of the web, to which paths are appended."""
    return web(url) if url.endswith("/") else web(url) + "/"


def web_or_none(url: str) -> str:
    """An address of the web, or empty."""
    return web(url) if url else url


def https_or_none(url: str) -> str:
    """A URL of https without a slash at its end, or none; http on this machine alone, for trying things out."""
    if not url:
        return ""
    parts = urlsplit(web(url))
    if parts.query or parts.fragment:
        raise ValueError("must have no query and no fragment")
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise ValueError("must begin with https://: mail programs unsubscribe over nothing else (RFC 8058)")
    return url.rstrip("/")


def host(name: str) -> str:
    """A name or an address to listen on."""
    # To the system an empty name is every address there is.
    if not name.strip():
        raise ValueError("is empty, which would be every address: name one, such as 127.0.0.1, or 0.0.0.0 for all")
    return name


def word(given: object) -> object:
    """One of several words, in small letters or capitals."""
    return given.strip().lower() if isinstance(given, str) else given


def level(given: object) -> object:
    """A level as people write it elsewhere: INFO, warn."""
    return "warning" if (low := word(given)) == "warn" else low


_SHAPE = "mysql://user:password@host:3306/mailerd; a password's @ / # ? [ are written %40 %2F %23 %3F %5B"
"""Ends whatever is said of database.url. What is in it is not shown: of a password with such a character, a part stands
where host, port, database or options are looked for."""


def mysql(url: str) -> str:
    """Where a database is, see `mailerd/store/db/url.py`."""
    try:
        parts = URL(url)
        _ = parts.port
    except (ValueError, IndexError):  # yarl ends so where a bracket stands before an @ without a host
        raise ValueError(f"is not an address: host, port or a bracket is wrong; it must look like {_SHAPE}") from None
    if parts.scheme not in {"mysql", "mysql+aiomysql", "mysql+pymysql", "mariadb"}:
        raise ValueError(f"must look like {_SHAPE}")
    if not parts.path.strip("/") or not parts.user:
        raise ValueError(f"must name a user and a database: {_SHAPE}")
    if set(parts.path.strip("/")) & {"/", "@"} or parts.fragment:
        raise ValueError(f"names a database with / or @ in it, or has a #: it must look like {_SHAPE}")
    return _options(url, parts.query)


def _options(url: str, given: Mapping[str, str]) -> str:
    # An unknown one is refused: a misspelt wish for TLS must not end in a connection in clear.
    if unknown := sorted(set(given) - {"unix_socket", "ssl", "ssl_ca", "charset"}):
        named = ", ".join(name if re.fullmatch("[a-z_]+", name) else "what stands there" for name in unknown)
        raise ValueError(f"knows unix_socket, ssl and ssl_ca after the question mark, not {named}: {_SHAPE}")
    if given.get("ssl", "true") not in {"true", "unverified"}:
        raise ValueError("ssl must be true or unverified; leave it out for a connection that is not encrypted")
    if given.get("charset", "utf8mb4") != "utf8mb4":
        raise ValueError("charset can only be utf8mb4, and need not be given")
    return url


def networks(listed: str) -> str:
    """Addresses and networks, with commas between them."""
    for each in listed.split(","):
        if each.strip():
            try:
                ip_network(each.strip(), strict=False)
            except ValueError as error:
                raise ValueError(f"is not a list of addresses: {error}") from None
    return listed


def table(value: object) -> object:
    """A table as the environment can write it: JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value or "{}")
    except ValueError as error:
        raise ValueError(f'is not JSON like {{"alias@example.com": "me@example.com"}}: {error}') from None


def addresses(value: object) -> object:
    """Addresses as the environment can write them: a JSON list, or with commas or spaces between them."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return [each for each in _BETWEEN_ADDRESSES.split(value.strip()) if each]
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f'is not a JSON list like ["slack://…", "mailto://…"]: {error}') from None


def aliases(given: dict[str, str]) -> dict[str, str]:
    """Addresses, each with the mailbox that it belongs to."""
    known = {alias.strip().lower(): mailbox.strip().lower() for alias, mailbox in given.items()}
    for alias, mailbox in known.items():
        if "@" not in alias.strip("@") or "@" not in mailbox.strip("@"):
            raise ValueError(f'"{alias}" = "{mailbox}": both must be e-mail addresses')
        if mailbox in known:
            raise ValueError(f'"{alias}" = "{mailbox}": that is an alias itself; name the mailbox that it belongs to')
    return known
