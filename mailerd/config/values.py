"""What settings are made of: each function takes a value as it was written and gives it back, or
says why not.
"""

import json
import re
from ipaddress import ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field
from yarl import URL

from mailerd.core.i18n import t

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1)]
Limit = Annotated[int, Field(ge=0)]


_IN_A_HEADER = re.compile(r"[!#-;=?-~]{1,800}")
"""What may stand between angle brackets (mail/mime.py), where the link of each message follows
it.
"""


class Section(BaseModel):
    """The base of a section: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_BETWEEN_ADDRESSES = re.compile(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")
"""A comma may also stand inside an address: mailto://…?to=a@x,b@x."""


def web(url: str) -> str:
    """An address of the web."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(t("must start with http:// or https://"))
    return url


def slash(url: str) -> str:
    """An address of the web, to which paths are appended."""
    return web(url) if url.endswith("/") else web(url) + "/"


def web_or_none(url: str) -> str:
    """An address of the web, or empty."""
    return web(url) if url else url


def https_or_none(url: str) -> str:
    """A URL of https without a slash at its end, or none; http on this machine alone, for trying
    things out.
    """
    if not url:
        return ""
    parts = urlsplit(web(url))
    if parts.query or parts.fragment:
        raise ValueError(t("must have no query and no fragment"))
    if not parts.hostname or not _IN_A_HEADER.fullmatch(url):
        raise ValueError(
            t("must be plain ASCII, such as https://mail.example.com: a host as DNS has it (xn--…)")
        )
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise ValueError(
            t("must start with https://: mail programs unsubscribe over nothing else (RFC 8058)")
        )
    return url.rstrip("/")


def proxy_or_none(url: str) -> str:
    """An HTTP proxy, or empty; what is wrong is said without the URL, which may hold a password."""
    try:
        it = URL(url)
        # A colon in the user's name would end it (RFC 7617, section 2).
        named = it.explicit_port and ":" not in (it.user or "")
        good = it.scheme == "http" and named and it.with_user(None) == it.origin()
    except ValueError:
        good = False
    if url and not good:
        raise ValueError(
            t(
                "must be an HTTP proxy with its port, such as http://user:password@proxy.example.com:3128; in user "
                "and password @ / # ? [ \\ are written %40 %2F %23 %3F %5B %5C"
            )
        )
    return url


def host(name: str) -> str:
    """A name or an address to listen on."""
    # To the system an empty name is every address there is.
    if not name.strip():
        raise ValueError(
            t(
                "is empty, which means every address; name one, such as 127.0.0.1, or 0.0.0.0 for all"
            )
        )
    return name


def word(given: object) -> object:
    """One of several words, in lower case or capitals."""
    return given.strip().lower() if isinstance(given, str) else given


def level(given: object) -> object:
    """A level as people write it elsewhere: INFO, warn."""
    return "warning" if (low := word(given)) == "warn" else low


def networks(listed: str) -> str:
    """Addresses and networks, with commas between them."""
    for each in listed.split(","):
        if each.strip():
            try:
                ip_network(each.strip(), strict=False)
            except ValueError as error:
                raise ValueError(t("is not a list of addresses: {error}", error=error)) from None
    return listed


def host_names(listed: str) -> str:
    """Names of hosts, with commas between them."""
    names = [each.strip().lower() for each in listed.split(",") if each.strip()]
    for name in names:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name):
            raise ValueError(
                t(
                    "{name!r} is not a host name; write mail.example.com, without https:// and port",
                    name=name,
                )
            )
    return ",".join(names)


def table(value: object) -> object:
    """A table as the environment can write it: JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value or "{}")
    except ValueError as error:
        raise ValueError(
            t('is not JSON like {{"alias@example.com": "me@example.com"}}: {error}', error=error)
        ) from None


def addresses(value: object) -> object:
    """Addresses as the environment can write them: a JSON list, or with commas or spaces between
    them.
    """
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return [each for each in _BETWEEN_ADDRESSES.split(value.strip()) if each]
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(
            t('is not a JSON list like ["slack://…", "mailto://…"]: {error}', error=error)
        ) from None


def numbers(value: object) -> object:
    """Numbers as the environment can write them: with commas or spaces between them."""
    return (
        value.replace(",", " ").replace("[", " ").replace("]", " ").split()
        if isinstance(value, str)
        else value
    )


def aliases(given: dict[str, str]) -> dict[str, str]:
    """Addresses, each with the mailbox that it belongs to."""
    known = {alias.strip().lower(): mailbox.strip().lower() for alias, mailbox in given.items()}
    for alias, mailbox in known.items():
        if "@" not in alias.strip("@") or "@" not in mailbox.strip("@"):
            raise ValueError(
                t(
                    '"{alias}" = "{mailbox}": both must be email addresses',
                    alias=alias,
                    mailbox=mailbox,
                )
            )
        if mailbox in known:
            raise ValueError(
                t(
                    '"{alias}" = "{mailbox}": the value is an alias itself; name the mailbox that the alias belongs to',
                    alias=alias,
                    mailbox=mailbox,
                )
            )
    return known
