"""Webhooks: the endpoints that hear of events, their secrets, and each delivery."""

import base64
import json
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, assert_never

from mailerd.clock import ULID, new_id
from mailerd.core.webhooks import ONLY_IF_ASKED, DeliveryStatus, EndpointState, EventType, PauseReason
from mailerd.errors import DatabaseError, MailerdError
from mailerd.store.db.connection import Cursor, Statement
from mailerd.store.db.database import Database, request
from mailerd.store.db.times import naive, utc
from mailerd.store.event_feed import EventFeed

MAX_WEBHOOKS: Final = 100
"""The most endpoints of one owner."""
MAX_ALL_WEBHOOKS: Final = 1000
"""The most endpoints: a list shows them all, and each is checked every second."""
OPERATOR: Final = 0
"""The owner of endpoints that no API key made."""
MAX_NAME: Final = 100
MAX_URL: Final = 2000
"""The most characters of a URL, as in the schema."""
MAX_SENDERS: Final = 100
"""The most senders that one endpoint may be limited to."""
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - of Standard Webhooks 1.0.0
SECRET_BYTES: Final = 32
_DUPLICATE: Final = 1062
_OBEYED: Final = re.compile(r"""^\s*-|[;&|<>()$`"'\\*?\[\]{}!#~^%]""")
"""What a shell obeys: console, alerts and log name the commands that mend an endpoint, and a person pastes them."""


_COLUMNS: Final = (
    "id, name, url, types, senders, state, pause_cause, failures, failing_since, retry_at, position, old_until,"
    " created_at"
)
_COUNT_ENDPOINTS: Final = """
SELECT COUNT(*), COALESCE(SUM(owner = %s), 0), COALESCE(SUM(name = %s), 0) FROM webhooks FOR UPDATE"""
_INSERT: Final = """
INSERT INTO webhooks (id, owner, name, url, secret, types, senders, state, position, created_at)
SELECT %s, %s, %s, %s, %s, %s, %s, 'on', last, UTC_TIMESTAMP(6) FROM event_positions WHERE id = 1"""
_SWAP_SECRETS: Final = """
UPDATE webhooks SET old_secret = secret, old_until = UTC_TIMESTAMP(6) + INTERVAL %s SECOND, secret = %s WHERE id = %s"""
_UNLESS_ROTATED: Final = " AND old_until <=> %s"
# One that is switched on anew begins without its past, and so does everything that waits: it is due, and has its
# whole schedule. Else an endpoint that is resumed too early would lose what has failed often.
_SWITCH_ON: Final = """
UPDATE webhooks SET state = 'on', pause_cause = NULL, failures = 0, failing_since = NULL, retry_at = NULL
 WHERE id = %s"""
_MAKE_DUE: Final = """
UPDATE webhook_deliveries SET due_at = LEAST(due_at, UTC_TIMESTAMP(6)), attempts = 0
 WHERE webhook_id = %s AND status = 'waiting' AND (due_at > UTC_TIMESTAMP(6) OR attempts > 0)"""


class WebhookError(MailerdError):
    """A webhook cannot be made or changed like this."""


class UnknownWebhookError(WebhookError):
    """There is no such webhook."""


@dataclass(frozen=True)
class WebhookEndpoint:
    """An endpoint; its secret is not shown."""

    id: str
    name: str
    url: str
    types: tuple[EventType, ...] | None
    """The types that it gets; None: every type but those that come only if asked for."""
    senders: frozenset[str] | None
    """The senders whose events it gets; None: all."""
    state: EndpointState
    pause_cause: PauseReason | None
    failures: int
    """How many attempts in a row have failed."""
    failing_since: datetime | None
    retry_at: datetime | None
    """When it is tried again, while it rests."""
    position: int
    """The place in the feed up to which it has its deliveries."""
    old_until: datetime | None
    """The time until which the secret before the last rotation signs too."""
    created_at: datetime

    @property
    def standing(self) -> str:
        """How it stands, as in WebhookStats."""
        return standing(self.state, self.pause_cause, is_failing=self.failing_since is not None)


@dataclass(frozen=True)
class NewEndpoint:
    """One that is to be made."""

    name: str
    url: str
    types: Collection[EventType] | None = None
    senders: Collection[str] | None = None
    owner: int = OPERATOR
    """The id of the API key that makes it."""


def standing(state: EndpointState, cause: PauseReason | None, *, is_failing: bool) -> str:
    """One of WEBHOOK_STANDINGS."""
    match state:
        case EndpointState.ON:
            return "failing" if is_failing else "on"
        case EndpointState.PAUSED:
            return "paused" if cause is PauseReason.FAILING else "paused_manually"
        case EndpointState.GONE:
            return "gone"
        case _:
            assert_never(state)


def check_name(name: str) -> str:
    """What is wrong with an endpoint's name; "" where nothing is. A name is no id, since either finds it."""
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable() or ULID.fullmatch(name):
        return f"a webhook's name has 1 to {MAX_NAME} printable characters and does not look like an id"
    if found := _OBEYED.search(name):
        return f"a webhook's name stands in commands, so it does not begin with - and has no {found[0]}"
    return ""


def check_url(url: str) -> str:
    """What is wrong with the characters of an endpoint's URL; "" where nothing is. It is shown in lists and the log."""
    if not url or len(url) > MAX_URL or not url.isprintable() or " " in url:
        return f"a URL has 1 to {MAX_URL} printable characters and no spaces"
    return ""


def new_secret() -> bytes:
    """A secret; 256 random bits."""
    return secrets.token_bytes(SECRET_BYTES)


def shown_secret(secret: bytes) -> str:
    """A secret as its owner gets it, once."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


class Webhooks:
    """Reads and changes endpoints. `timeout`: seconds that the database gets for an answer.

    `senders`, where a method has it: a key for these alone sees only the endpoints that are limited to some of them.
    """

    def __init__(self, database: Database, *, timeout: float) -> None:
        self.database = database
        self.timeout = timeout

    async def create(self, new: NewEndpoint) -> tuple[WebhookEndpoint, str]:
        """Make an endpoint, which gets the events from now on; with its secret, which cannot be shown again.

        Raises:
            WebhookError: the URL has characters that none may have, the name is taken, or there are too many.
            DatabaseError: it is not known to be made.
        """
        _refuse(check_url(new.url))
        id_, secret = new_id(), new_secret()
        # While no endpoint is on, events get no places: those that are committed get theirs before the endpoint's.
        await EventFeed(self.database, timeout=self.timeout).number_new()

        async def work(cursor: Cursor) -> WebhookEndpoint:
            await cursor.execute(_COUNT_ENDPOINTS, (new.owner, new.name))
            number, own, same = await cursor.fetchone()
            if same:
                raise WebhookError(f"there is a webhook {new.name!r} already: take another name, or change that one")
            if own >= MAX_WEBHOOKS:
                raise WebhookError(f"there are {MAX_WEBHOOKS} webhooks of this owner, which is the most: remove one")
            if number >= MAX_ALL_WEBHOOKS:
                raise WebhookError(f"there are {MAX_ALL_WEBHOOKS} webhooks, which is the most: remove one")
            await cursor.execute(
                _INSERT, (id_, new.owner, new.name, new.url, secret, types_json(new.types), senders_json(new.senders))
            )
            return await _one(cursor, id_)

        try:
            made = await self.database.request(work, what="make a webhook", bound=self.timeout)
        except DatabaseError as error:
            if error.errno == _DUPLICATE:  # two were made at once
                raise WebhookError(f"there is a webhook {new.name!r} already: take another name") from None
            raise
        return made, shown_secret(secret)

    async def all(self, *, senders: Collection[str] | None = None) -> list[WebhookEndpoint]:
        """Every endpoint, by name."""
        rows = await self.database.request_rows(
            f"SELECT {_COLUMNS} FROM webhooks ORDER BY name", what="list webhooks", bound=self.timeout
        )
        found = [_endpoint(row) for row in rows]
        return [it for it in found if _is_seen(it, senders)]

    async def made_by(self, owner: int) -> list[str]:
        """The names of the endpoints that a key has made, which go on when it is revoked."""
        statement = "SELECT name FROM webhooks WHERE owner = %s ORDER BY name"
        rows = await self.database.request_rows(statement, (owner,), what="list webhooks", bound=self.timeout)
        return [name for (name,) in rows]

    @request("look up a webhook", read_only=True)
    async def find(self, cursor: Cursor, which: str, *, senders: Collection[str] | None = None) -> WebhookEndpoint:
        """The endpoint of this id or name.

        Raises:
            UnknownWebhookError: there is none.
        """
        found = await _one(cursor, which)
        if not _is_seen(found, senders):
            raise _unknown(which)
        return found

    async def change(self, id_: str, given: Mapping[str, Any]) -> WebhookEndpoint:
        """Change what is `given`: name, url, types, senders, state.

        One that is switched on again gets at once what it has missed, as far as the events are kept.

        Raises:
            WebhookError: the name is taken, or the URL has characters that none may have.
            UnknownWebhookError: there is none.
        """
        _refuse(check_url(given.get("url", "https://")))
        values: dict[str, object] = {name: given[name] for name in ("name", "url") if name in given}
        if "types" in given:
            values["types"] = types_json(given["types"])
        if "senders" in given:
            values["senders"] = senders_json(given["senders"])

        async def work(cursor: Cursor) -> WebhookEndpoint:
            await cursor.execute("SELECT id FROM webhooks WHERE id = %s FOR UPDATE", (id_,))
            if await cursor.fetchone() is None:
                raise _unknown(id_)
            if "name" in given:
                await cursor.execute("SELECT 1 FROM webhooks WHERE name = %s AND id <> %s", (given["name"], id_))
                if await cursor.fetchone():
                    raise WebhookError(f"there is a webhook {given['name']!r} already: take another name")
            if values:
                assignments = ", ".join(f"{name} = %s" for name in values)
                await cursor.execute(f"UPDATE webhooks SET {assignments} WHERE id = %s", (*values.values(), id_))
            await _switch(cursor, id_, given.get("state"))
            return await _one(cursor, id_)

        return await self.database.request(work, what="change a webhook", bound=self.timeout)

    async def remove(self, id_: str) -> None:
        """Remove an endpoint; an attempt under way ends without a record. Its deliveries are deleted bit by bit later.

        Raises:
            UnknownWebhookError: there is none.
        """
        delete = "DELETE FROM webhooks WHERE id = %s"
        if not await self.database.execute(delete, (id_,), what="remove a webhook", bound=self.timeout):
            raise _unknown(id_)

    async def rotate(self, id_: str, *, overlap: timedelta, seen: WebhookEndpoint | None = None) -> str:
        """Give it a new secret, which is returned; the old one signs as well for `overlap`.

        `seen`: only if it has the secret still that it had when this was read; None: whatever it has.

        Raises:
            UnknownWebhookError: there is none.
            WebhookError: it has another secret by now.
        """
        secret, what = new_secret(), "rotate a webhook's secret"
        sql, values = _SWAP_SECRETS, [int(overlap.total_seconds()), secret, id_]
        if seen is not None:
            sql, values = sql + _UNLESS_ROTATED, [*values, seen.old_until and naive(seen.old_until)]
        if not await self.database.execute(sql, values, what=what, bound=self.timeout):
            if seen is None:
                raise _unknown(id_)
            raise WebhookError(f"the webhook {seen.name} was given another secret meanwhile: nothing was changed")
        return shown_secret(secret)

    async def secrets(self, id_: str) -> list[bytes]:
        """What signs now: the secret, and the one before it while both are good."""
        statement = "SELECT secret, IF(old_until > UTC_TIMESTAMP(6), old_secret, NULL) FROM webhooks WHERE id = %s"
        rows = await self.database.request_rows(statement, (id_,), what="read a webhook's secret", bound=self.timeout)
        if not rows:
            raise _unknown(id_)
        return [bytes(each) for each in rows[0] if each is not None]


async def _switch(cursor: Cursor, id_: str, state: EndpointState | None) -> None:
    match state:
        case EndpointState.ON:
            await cursor.execute(_SWITCH_ON, (id_,))
            await cursor.execute(_MAKE_DUE, (id_,))
        case EndpointState.PAUSED:
            await cursor.execute(
                "UPDATE webhooks SET state = 'paused', pause_cause = %s WHERE id = %s", (PauseReason.MANUAL.value, id_)
            )
        case EndpointState.GONE | None:
            pass


async def _one(cursor: Cursor, which: str) -> WebhookEndpoint:
    await cursor.execute(f"SELECT {_COLUMNS} FROM webhooks WHERE id = %s OR name = %s", (which, which))
    rows = await cursor.fetchall()
    if not rows:
        raise _unknown(which)
    return _endpoint(next((row for row in rows if row[0] == which), rows[0]))


def _refuse(why: str) -> None:
    if why:
        raise WebhookError(why)


def _unknown(which: str) -> UnknownWebhookError:
    return UnknownWebhookError(f"there is no webhook {which!r}; `mailerd webhooks list` shows which there are")


def _is_seen(it: WebhookEndpoint, senders: Collection[str] | None) -> bool:
    return senders is None or (it.senders is not None and it.senders <= frozenset(senders))


def types_json(types: Collection[EventType] | None) -> str | None:
    """Types as the table has them."""
    return None if types is None else json.dumps(sorted(it.value for it in types))


def senders_json(senders: Collection[str] | None) -> str | None:
    """Senders as the table has them."""
    return None if senders is None else json.dumps(sorted(senders))


def wanted(types: str | None, senders: str | None) -> tuple[str, list[object]]:
    """What an endpoint's columns ask for, as conditions on the events `e`."""
    condition, values = " AND e.type IN %s", list[object]()
    values.append(tuple(json.loads(types)) if types else tuple(it.value for it in EventType if it not in ONLY_IF_ASKED))
    if senders is not None:
        condition += " AND e.sender_email IN %s"
        values.append(tuple(json.loads(senders)) or ("",))
    return condition, values


def _endpoint(row: tuple[Any, ...]) -> WebhookEndpoint:
    id_, name, url, types, senders, state, cause, failures, since, retry_at, position, old_until, created_at = row
    return WebhookEndpoint(
        id=id_, name=name, url=url,
        types=None if types is None else tuple(map(EventType, json.loads(types))),
        senders=None if senders is None else frozenset(json.loads(senders)),
        state=EndpointState(state), pause_cause=PauseReason(cause) if cause else None, failures=failures,
        failing_since=utc(since), retry_at=utc(retry_at), position=position, old_until=utc(old_until),
        created_at=utc(created_at),
    )  # fmt: skip


# What became of the deliveries of webhooks, and delivering events once more.

MAX_PAGE: Final = 1000
"""The most deliveries of one page."""
_REPLAYED_AT_ONCE: Final = 1000
"""Places of the feed that one transaction of a replay covers."""

# Of few rows MySQL would sort all that an endpoint has.
_READ_DELIVERIES: Final = """
SELECT d.position, e.uid, e.type, d.status, d.attempts, d.http, d.error, d.took_ms, d.created_at, d.tried_at,
       IF(d.status = 'waiting', d.due_at, NULL)
  FROM webhook_deliveries d FORCE INDEX ({index}) JOIN events e ON e.position = d.position
 WHERE d.webhook_id = %s AND d.position < %s{status} ORDER BY d.position DESC LIMIT %s"""
# The deletion of old events locks this row first. Beside a replay it would leave deliveries without an event, or take
# along those that were just made. While the row is locked no events are deleted: the next round does it.
_LOCK_FEED: Final = "SELECT pruned FROM event_positions WHERE id = 1 FOR UPDATE"
# And who claims or records a delivery locks this one: what ended between the two counts would be subtracted.
_LOCK_ENDPOINT: Final = "SELECT 1 FROM webhooks WHERE id = %s FOR UPDATE"
_FIRST_SINCE: Final = "SELECT MIN(position) FROM events WHERE at >= %s"
_REPLAY: Final = """
INSERT INTO webhook_deliveries (webhook_id, position, status, attempts, created_at, due_at)
SELECT %s, e.position, 'waiting', 0, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) FROM events e FORCE INDEX (position)
 WHERE e.position >= %s AND e.position < %s AND e.at >= %s{wanted}
    ON DUPLICATE KEY UPDATE
       attempts = IF(status IN ('delivered', 'failed'), 0, attempts),
       created_at = IF(status IN ('delivered', 'failed'), VALUES(created_at), created_at),
       due_at = IF(status IN ('delivered', 'failed'), VALUES(due_at), due_at),
       status = IF(status IN ('delivered', 'failed'), 'waiting', status)"""
_REPLAY_FAILED: Final = """
UPDATE webhook_deliveries d JOIN events e ON e.position = d.position
   SET d.attempts = 0, d.created_at = UTC_TIMESTAMP(6), d.due_at = UTC_TIMESTAMP(6), d.status = 'waiting'
 WHERE d.webhook_id = %s AND d.position >= %s AND d.position < %s AND d.status = 'failed' AND e.at >= %s{wanted}"""
_COUNT_OPEN: Final = """
SELECT COUNT(*) FROM webhook_deliveries
 WHERE webhook_id = %s AND position >= %s AND position < %s AND status IN ('waiting', 'sending')"""


@dataclass(frozen=True)
class WebhookDelivery:
    """What became of one event at one endpoint."""

    position: int
    event: str
    """The `uid` of the event."""
    type: EventType
    status: DeliveryStatus
    attempts: int
    http: int | None
    error: str | None
    took_ms: int | None
    created_at: datetime
    tried_at: datetime | None
    due_at: datetime | None
    """When it is tried again; None while it is not: it has ended, or its endpoint is paused or gone."""


class WebhookDeliveries:
    """Reads deliveries and repeats them. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, database: Database, *, timeout: float) -> None:
        self.database = database
        self.timeout = timeout

    async def page(
        self, it: WebhookEndpoint, *, before: int | None = None, status: DeliveryStatus | None = None, limit: int = 100
    ) -> list[WebhookDelivery]:
        """Deliveries, the newest event first; those before the place `before` of the feed."""
        rows = await self.database.request_rows(
            *deliveries_statement(it.id, before, status, limit), what="list deliveries", bound=self.timeout
        )
        found = [_delivery(row) for row in rows]
        return found if it.state is EndpointState.ON else [replace(each, due_at=None) for each in found]

    async def replay(self, it: WebhookEndpoint, *, since: datetime, only_failed: bool = False) -> int:
        """Deliver the events since then once more, with their old ids; how many.

        `only_failed`: those that were given up. Events from before the endpoint was made are among them; what waits
        already is not doubled. Each thousand is a transaction of its own: one that breaks off has replayed the first
        ones, and may be repeated.

        Raises:
            DatabaseError: it is not known how many.
        """
        moment, total = naive(since), 0
        condition, values = wanted(types_json(it.types), senders_json(it.senders))
        statement = (_REPLAY_FAILED if only_failed else _REPLAY).format(wanted=condition)

        async def work(cursor: Cursor) -> int:
            await cursor.execute(_LOCK_FEED)
            await cursor.execute(_LOCK_ENDPOINT, (it.id,))
            await cursor.execute(_COUNT_OPEN, (it.id, start, end))
            (before,) = await cursor.fetchone()
            await cursor.execute(statement, (it.id, start, end, moment, *values))
            await cursor.execute(_COUNT_OPEN, (it.id, start, end))
            return int((await cursor.fetchone())[0]) - int(before)

        ((start,),) = await self.database.request_rows(
            _FIRST_SINCE, (moment,), what="look for events", bound=self.timeout
        )
        while start is not None and start <= it.position:
            end = min(start + _REPLAYED_AT_ONCE, it.position + 1)
            total += await self.database.request(work, what="replay events", bound=self.timeout)
            start = end
        return total


def deliveries_statement(id_: str, before: int | None, status: DeliveryStatus | None, limit: int) -> Statement:
    """What `page` asks; a test has it explained."""
    values = (id_, before if before is not None else 1 << 62, *([status.value] if status else []), limit)
    one = " AND d.status = %s" if status else ""
    return _READ_DELIVERIES.format(index="undelivered" if status else "PRIMARY", status=one), values


def _delivery(row: tuple[Any, ...]) -> WebhookDelivery:
    position, uid, type_, status, attempts, http, error, took, created, tried, due = row
    return WebhookDelivery(
        position, uid, EventType(type_), DeliveryStatus(status), attempts, http, error, took, utc(created), utc(tried),
        utc(due),
    )  # fmt: skip
