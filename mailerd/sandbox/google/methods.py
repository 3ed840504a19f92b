"""The methods of the Gmail API that the sandbox knows: their paths, prices in units and scopes, and
nothing else.
"""

from dataclasses import dataclass
from functools import lru_cache

from mailerd.sandbox.google.fake_limits import (
    COMPOSE,
    FULL,
    METADATA,
    MODIFY,
    READONLY,
    SEND,
    SETTINGS,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """One method: what it costs in quota units and which scopes allow it (any one of them)."""

    name: str
    units: int
    scopes: frozenset[str]


_WRITE = frozenset({FULL, MODIFY, COMPOSE})
_READ = frozenset({FULL, MODIFY, READONLY, METADATA})
_READ_DRAFTS = frozenset({FULL, MODIFY, READONLY, COMPOSE})

METHODS = {
    method.name: method
    for method in (
        Method(name="drafts.create", units=10, scopes=_WRITE),
        Method(name="drafts.get", units=20, scopes=_READ_DRAFTS),
        Method(name="drafts.list", units=5, scopes=_READ_DRAFTS),
        Method(name="drafts.delete", units=10, scopes=_WRITE),
        Method(name="drafts.send", units=100, scopes=_WRITE),
        Method(name="messages.send", units=100, scopes=_WRITE | {SEND}),
        Method(name="messages.get", units=20, scopes=_READ),
        Method(name="messages.list", units=5, scopes=_READ),
        Method(name="threads.get", units=40, scopes=_READ),
        Method(name="history.list", units=2, scopes=_READ),
        Method(name="getProfile", units=1, scopes=_READ | {COMPOSE}),
        Method(
            name="settings.sendAs.list",
            units=1,
            scopes=frozenset({FULL, MODIFY, READONLY, SETTINGS}),
        ),
    )
}
"""Prices as reported by several sources in May 2026; scopes as in Google's discovery document."""

_ROUTES = {
    ("POST", "drafts"): "drafts.create",
    ("GET", "drafts"): "drafts.list",
    ("POST", "drafts/send"): "drafts.send",
    ("GET", "drafts/*"): "drafts.get",
    ("DELETE", "drafts/*"): "drafts.delete",
    ("POST", "messages/send"): "messages.send",
    ("GET", "messages"): "messages.list",
    ("GET", "messages/*"): "messages.get",
    ("GET", "threads/*"): "threads.get",
    ("GET", "history"): "history.list",
    ("GET", "profile"): "getProfile",
    ("GET", "settings/sendAs"): "settings.sendAs.list",
}
_UPLOADS = {("POST", "drafts"): "drafts.create", ("POST", "messages/send"): "messages.send"}

API = "/gmail/v1/users/"
UPLOAD = "/upload" + API


@dataclass(frozen=True, slots=True)
class Route:
    """Where a path leads: the method, whose mailbox (`me` or an address), which id, and by which
    way in.
    """

    method: Method
    user: str
    ident: str
    uploaded: bool


@lru_cache(maxsize=1024)
def route(verb: str, path: str) -> Route | None:
    """The method behind a path, or None where Google has none."""
    uploaded = path.startswith(UPLOAD)
    user, _, tail = path[len(UPLOAD if uploaded else API) :].partition("/")
    table = _UPLOADS if uploaded else _ROUTES
    name, ident = table.get((verb, tail)), ""
    if name is None:
        # `drafts/send` must have been looked for first: as an id, "send" would name a draft.
        stem, _, ident = tail.rpartition("/")
        name = table.get((verb, stem + "/*")) if ident else None
    if name is None or not user:
        return None
    return Route(METHODS[name], user, ident, uploaded)
