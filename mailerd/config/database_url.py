"""Where the database is: one address, or several hosts that share user, password, database and
options.
"""

import re
from collections.abc import Mapping

from yarl import URL

from mailerd.core.i18n import t

_SHAPE = t(
    "mysql://user:password@host:3306/mailerd (several hosts: @db1,db2:3307,db3/); a password's @ / # ? [ are written "
    "%40 %2F %23 %3F %5B"
)
"""Ends whatever is said of database.url.

What is in it is not shown: of a password with such a character, a part stands where host, port,
database or options are looked for.
"""


def each_host(url: str) -> list[str]:
    """The same address for each of its hosts; mysql://user@a,b:3307/mailerd has two."""
    scheme, slashes, rest = url.partition("://")
    end = re.search("[/?#]", rest)
    authority, tail = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    who, at, hosts = authority.rpartition("@")
    return [f"{scheme}{slashes}{who}{at}{host}{tail}" for host in hosts.split(",")]


def mysql(url: str) -> str:
    """Where a database is, see `mailerd/store/db/connection.py`."""
    hosts = each_host(url)
    places = []
    for host in hosts:
        parts = _one(host)
        places.append((parts.host, parts.port or 3306))
        if len(hosts) > 1 and (not parts.host or "unix_socket" in parts.query):
            raise ValueError(
                t("names an empty host or a unix_socket among several hosts: {shape}", shape=_SHAPE)
            )
    if len(set(places)) < len(places):
        raise ValueError(t("names a host twice: each server once"))
    return url


def _one(url: str) -> URL:
    try:
        parts = URL(url)
        _ = parts.port
        # as the resolver does: it knows no empty part, and none above 63 characters
        (parts.host or "").encode("idna")
    except (
        ValueError,
        IndexError,
    ):
        # yarl ends so where a bracket stands before an @ without a host
        raise ValueError(
            t(
                "is not an address: host, port or a bracket is wrong; it must look like {shape}",
                shape=_SHAPE,
            )
        ) from None
    if parts.scheme not in {"mysql", "mysql+aiomysql", "mysql+pymysql", "mariadb"}:
        raise ValueError(t("must look like {shape}", shape=_SHAPE))
    if not parts.path.strip("/") or not parts.user:
        raise ValueError(t("must name a user and a database: {shape}", shape=_SHAPE))
    if set(parts.path.strip("/")) & {"/", "@"} or parts.fragment:
        raise ValueError(
            t(
                "names a database with / or @ in it, or has a #: it must look like {shape}",
                shape=_SHAPE,
            )
        )
    _check_options(parts.query)
    return parts


def _check_options(given: Mapping[str, str]) -> None:
    # An unknown one is refused: a misspelt wish for TLS must not end in a connection in clear.
    if unknown := sorted(set(given) - {"unix_socket", "ssl", "ssl_ca", "charset"}):
        named = ", ".join(
            name if re.fullmatch("[a-z_]+", name) else t("what stands there") for name in unknown
        )
        raise ValueError(
            t(
                "accepts unix_socket, ssl and ssl_ca after the question mark, not {named}: {shape}",
                named=named,
                shape=_SHAPE,
            )
        )
    if empty := [name for name, value in given.items() if name != "ssl" and not value]:
        raise ValueError(t("{name} needs a value, or leave it out", name=empty[0]))
    if given.get("ssl", "true") not in {"true", "verify_ca", "unverified"}:
        raise ValueError(
            t(
                "ssl must be true, verify_ca or unverified; leave it out for a connection that is not encrypted"
            )
        )
    if given.get("ssl") == "verify_ca" and "ssl_ca" not in given:
        raise ValueError(t("ssl=verify_ca needs the file of that authority, as ssl_ca"))
    if given.get("charset", "utf8mb4") != "utf8mb4":
        raise ValueError(t("charset can only be utf8mb4, and need not be given"))
