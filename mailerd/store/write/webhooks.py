"""Webhooks: the endpoints that hear of events, their secrets, and each delivery."""

import base64
import json
import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from mailerd.clock import ULID, new_id
from mailerd.core.i18n import t
from mailerd.core.reasons import in_row
from mailerd.core.webhooks import (
    ONLY_IF_ASKED,
    RESTS_FROM,
    DeliveryStatus,
    EndpointHealth,
    EndpointState,
    EventType,
    PauseReason,
    WebhookAttempt,
    WebhookOutcome,
)
from mailerd.errors import DatabaseError, MailerdError
from mailerd.model.webhooks import Webhook, WebhookDelivery
from mailerd.store.db.connection import Cursor, Statement, micros, naive, rfc3339, utc
from mailerd.store.db.database import Database, read, request, transaction
from mailerd.store.db.rows import Select
from mailerd.store.write.action_log import note_action
from mailerd.store.write.event_feed import EventFeed

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
"""What a shell obeys: console, alerts and log name the commands that mend an endpoint, and a person
pastes them.
"""


_COUNT_ENDPOINTS: Final = """
SELECT COUNT(*), COALESCE(SUM(owner = %s), 0), COALESCE(SUM(name = %s), 0) FROM webhooks FOR UPDATE"""
_INSERT: Final = """
INSERT INTO webhooks (id, owner, name, url, secret, types, senders, state, position, created_at)
SELECT %s, %s, %s, %s, %s, %s, %s, 'on', last, UTC_TIMESTAMP(6) FROM event_positions WHERE id = 1"""
_SWAP_SECRETS: Final = """
UPDATE webhooks SET old_secret = secret, old_until = UTC_TIMESTAMP(6) + INTERVAL %s SECOND, secret = %s WHERE id = %s"""
# One that is switched on anew begins without its past, and so does everything that waits: it is
# due, and has its whole schedule. Else an endpoint that is resumed too early would lose what has
# failed often.
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


_ENDPOINT: Final = Select(Webhook)


@dataclass(frozen=True)
class NewEndpoint:
    """One that is to be made."""

    name: str
    url: str
    types: Collection[EventType] | None = None
    senders: Collection[str] | None = None
    owner: int = OPERATOR
    """The id of the API key that makes it."""


def check_name(name: str) -> str:
    """What is wrong with an endpoint's name; "" where nothing is.

    A name is no id, since either finds it.
    """
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable() or ULID.fullmatch(name):
        return t(
            "the name of a webhook has 1 to {max_name} printable characters and does not look like an ID",
            max_name=MAX_NAME,
        )
    if found := _OBEYED.search(name):
        return t(
            "the name of a webhook is used in commands; it must not start with - or contain {it}",
            it=found[0],
        )
    return ""


def check_url(url: str) -> str:
    """What is wrong with the characters of an endpoint's URL; "" where nothing is.

    It is shown in lists and the log.
    """
    if not url or len(url) > MAX_URL or not url.isprintable() or " " in url:
        return t("a URL has 1 to {max_url} printable characters and no spaces", max_url=MAX_URL)
    return ""


def new_secret() -> bytes:
    """A secret; 256 random bits."""
    return secrets.token_bytes(SECRET_BYTES)


def shown_secret(secret: bytes) -> str:
    """A secret as its owner gets it, once."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def action_of(given: Mapping[str, Any]) -> str:
    """What the log of actions calls a change of these fields."""
    if given.keys() != {"state"}:
        return "change"
    return "pause" if given["state"] == EndpointState.PAUSED else "resume"


class Webhooks:
    """Reads and changes endpoints. `timeout`: seconds that the database gets for an answer.

    `senders`, where a method has it: a key for these alone sees only the endpoints that are limited
    to some of them.
    """

    def __init__(self, database: Database, *, timeout: float) -> None:
        self.database = database
        self.timeout = timeout

    async def create(self, new: NewEndpoint, *, actor: str) -> tuple[Webhook, str]:
        """Make an endpoint, which gets the events from now on; with its secret, which cannot be
        shown again.

        Raises:
            WebhookError: the URL has characters that none may have, the name is taken, or there are
            too many. DatabaseError: it is not known to be made.
        """
        _refuse(check_url(new.url))
        id_, secret = new_id(), new_secret()
        # While no endpoint is on, events get no places: those that are committed get theirs before
        # the endpoint's.
        await EventFeed(self.database, timeout=self.timeout).number_new()

        async def work(cursor: Cursor) -> Webhook:
            await cursor.execute(_COUNT_ENDPOINTS, (new.owner, new.name))
            number, own, same = await cursor.fetchone()
            if same:
                raise WebhookError(
                    t("webhook {name!r} already exists; choose another name", name=new.name)
                )
            if own >= MAX_WEBHOOKS:
                raise WebhookError(
                    t(
                        "this owner has reached the limit of {max_webhooks} webhooks; remove one",
                        max_webhooks=MAX_WEBHOOKS,
                    )
                )
            if number >= MAX_ALL_WEBHOOKS:
                raise WebhookError(
                    t(
                        "the limit of {max_all_webhooks} webhooks is reached; remove one",
                        max_all_webhooks=MAX_ALL_WEBHOOKS,
                    )
                )
            await cursor.execute(
                _INSERT,
                (
                    id_,
                    new.owner,
                    new.name,
                    new.url,
                    secret,
                    types_json(new.types),
                    senders_json(new.senders),
                ),
            )
            await cursor.execute(*note_action("add", actor, webhook=new.name))
            return await _one(cursor, id_)

        try:
            made = await self.database.request(work, what="webhooks.make", bound=self.timeout)
        except DatabaseError as error:
            if error.errno == _DUPLICATE:  # two were made at once
                raise WebhookError(
                    t("webhook {name!r} already exists; choose another name", name=new.name)
                ) from None
            raise
        return made, shown_secret(secret)

    async def all(self, *, senders: Collection[str] | None = None) -> list[Webhook]:
        """Every endpoint, by name."""
        rows = await self.database.request_rows(
            f"SELECT {_ENDPOINT.columns} FROM webhooks ORDER BY name",
            what="webhooks.list",
            bound=self.timeout,
        )
        found = [_ENDPOINT.row(each) for each in rows]
        return [it for it in found if _is_seen(it, senders)]

    async def made_by(self, owner: int) -> list[str]:
        """The names of the endpoints that a key has made, which go on when it is revoked."""
        statement = "SELECT name FROM webhooks WHERE owner = %s ORDER BY name"
        rows = await self.database.request_rows(
            statement, (owner,), what="webhooks.list", bound=self.timeout
        )
        return [name for (name,) in rows]

    @request("webhooks.find", read_only=True)
    async def find(
        self, cursor: Cursor, which: str, *, senders: Collection[str] | None = None
    ) -> Webhook:
        """The endpoint of this id or name.

        Raises:
            UnknownWebhookError: there is none.
        """
        found = await _one(cursor, which)
        if not _is_seen(found, senders):
            raise _unknown(which)
        return found

    async def change(self, id_: str, given: Mapping[str, Any], *, actor: str) -> Webhook:
        """Change what is `given`: name, url, types, senders, state; and record it.

        One that is switched on again gets at once what it has missed, as far as the events are
        kept.

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

        async def work(cursor: Cursor) -> Webhook:
            before = await _locked(cursor, id_)
            if "name" in given:
                await cursor.execute(
                    "SELECT 1 FROM webhooks WHERE name = %s AND id <> %s", (given["name"], id_)
                )
                if await cursor.fetchone():
                    raise WebhookError(
                        t("webhook {it!r} already exists; choose another name", it=given["name"])
                    )
            if values:
                assignments = ", ".join(f"{name} = %s" for name in values)
                await cursor.execute(
                    f"UPDATE webhooks SET {assignments} WHERE id = %s", (*values.values(), id_)
                )
            await _switch(cursor, id_, given.get("state"))
            after, action = await _one(cursor, id_), action_of(given)
            detail = ", ".join(given) if action == "change" else None
            await cursor.execute(
                *note_action(
                    action, actor, webhook=before.name, detail=detail, changed=before != after
                )
            )
            return after

        return await self.database.request(work, what="webhooks.change", bound=self.timeout)

    async def remove(self, id_: str, *, actor: str) -> None:
        """Remove an endpoint; an attempt under way ends without a record.

        Its deliveries are deleted bit by bit later.

        Raises:
            UnknownWebhookError: there is none.
        """

        async def work(cursor: Cursor) -> None:
            it = await _locked(cursor, id_)
            await cursor.execute("DELETE FROM webhooks WHERE id = %s", (id_,))
            await cursor.execute(*note_action("remove", actor, webhook=it.name))

        await self.database.request(work, what="webhooks.remove", bound=self.timeout)

    async def rotate(
        self, id_: str, *, overlap: timedelta, actor: str, seen: Webhook | None = None
    ) -> str:
        """Give it a new secret, which is returned; the old one signs as well for `overlap`.

        `seen`: only if it has the secret still that it had when this was read; None: whatever it
        has.

        Raises:
            UnknownWebhookError: there is none.
            WebhookError: it has another secret by now.
        """
        secret = new_secret()

        async def work(cursor: Cursor) -> None:
            it = await _locked(cursor, id_)
            if seen is not None and it.old_secret_until != seen.old_secret_until:
                raise WebhookError(
                    t(
                        "webhook {name} received another secret in the meantime; nothing was changed",
                        name=seen.name,
                    )
                )
            await cursor.execute(_SWAP_SECRETS, (int(overlap.total_seconds()), secret, id_))
            await cursor.execute(*note_action("rotate", actor, webhook=it.name))

        await self.database.request(work, what="webhooks.rotate", bound=self.timeout)
        return shown_secret(secret)

    async def secrets(self, id_: str) -> list[bytes]:
        """What signs now: the secret, and the one before it while both are good."""
        statement = "SELECT secret, IF(old_until > UTC_TIMESTAMP(6), old_secret, NULL) FROM webhooks WHERE id = %s"
        rows = await self.database.request_rows(
            statement, (id_,), what="webhooks.read_secret", bound=self.timeout
        )
        if not rows:
            raise _unknown(id_)
        return [bytes(each) for secrets_ in rows for each in secrets_ if each is not None]


async def _switch(cursor: Cursor, id_: str, state: EndpointState | None) -> None:
    match state:
        case EndpointState.ON:
            await cursor.execute(_SWITCH_ON, (id_,))
            await cursor.execute(_MAKE_DUE, (id_,))
        case EndpointState.PAUSED:
            await cursor.execute(
                "UPDATE webhooks SET state = 'paused', pause_cause = %s WHERE id = %s",
                (PauseReason.MANUAL.value, id_),
            )
        case EndpointState.GONE | None:
            pass


async def _locked(cursor: Cursor, id_: str) -> Webhook:
    """The endpoint of this id, whose row is locked."""
    await cursor.execute("SELECT 1 FROM webhooks WHERE id = %s FOR UPDATE", (id_,))
    if await cursor.fetchone() is None:
        raise _unknown(id_)
    return await _one(cursor, id_)


async def _one(cursor: Cursor, which: str) -> Webhook:
    await cursor.execute(
        f"SELECT {_ENDPOINT.columns} FROM webhooks WHERE id = %s OR name = %s", (which, which)
    )
    found = [_ENDPOINT.row(each) for each in await cursor.fetchall()]
    if not found:
        raise _unknown(which)
    return next((it for it in found if it.id == which), found[0])


def _refuse(why: str) -> None:
    if why:
        raise WebhookError(why)


def _unknown(which: str) -> UnknownWebhookError:
    return UnknownWebhookError(
        t("webhook {which!r} not found; see `mailerd webhooks list`", which=which)
    )


def _is_seen(it: Webhook, senders: Collection[str] | None) -> bool:
    return senders is None or (it.senders is not None and set(it.senders) <= set(senders))


def types_json(types: Collection[EventType] | None) -> str | None:
    """Types as the table has them."""
    return None if types is None else json.dumps(sorted(it.value for it in types))


def senders_json(senders: Collection[str] | None) -> str | None:
    """Senders as the table has them."""
    return None if senders is None else json.dumps(sorted(senders))


def wanted(types: str | None, senders: str | None) -> tuple[str, list[object]]:
    """What an endpoint's columns ask for, as conditions on the events `e`."""
    condition, values = " AND e.type IN %s", list[object]()
    values.append(
        tuple(json.loads(types))
        if types
        else tuple(it.value for it in EventType if it not in ONLY_IF_ASKED)
    )
    if senders is not None:
        condition += " AND e.sender_email IN %s"
        values.append(tuple(json.loads(senders)) or ("",))
    return condition, values


# What became of the deliveries of webhooks, and delivering events once more.

MAX_PAGE: Final = 1000
"""The most deliveries of one page."""
_REPLAYED_AT_ONCE: Final = 1000
"""Places of the feed that one transaction of a replay covers."""

# The deletion of old events locks this row first. Beside a replay it would leave deliveries without
# an event, or take along those that were just made. While the row is locked no events are deleted:
# the next round does it.
_LOCK_FEED: Final = "SELECT pruned FROM event_positions WHERE id = 1 FOR UPDATE"
# And who claims or records a delivery locks this one: what ended between the two counts would be
# subtracted.
_LOCK_ENDPOINT: Final = "SELECT 1 FROM webhooks WHERE id = %s FOR UPDATE"
_RANGE: Final = (
    "SELECT (SELECT MIN(position) FROM events WHERE at >= %s), position FROM webhooks WHERE id = %s"
)
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


_DELIVERY: Final = Select(WebhookDelivery)
# Of few rows MySQL would sort all that an endpoint has.
_READ_DELIVERIES: Final = f"""
SELECT {_DELIVERY.columns}
  FROM webhook_deliveries d FORCE INDEX ({{index}}) JOIN webhooks w ON w.id = d.webhook_id
  JOIN events e ON e.position = d.position
 WHERE d.webhook_id = %s AND d.position < %s{{status}} ORDER BY d.position DESC LIMIT %s"""


class WebhookDeliveries:
    """Reads deliveries and repeats them.

    `timeout`: seconds that the database gets for an answer.
    """

    def __init__(self, database: Database, *, timeout: float) -> None:
        self.database = database
        self.timeout = timeout

    async def page(
        self,
        id_: str,
        *,
        before: int | None = None,
        status: DeliveryStatus | None = None,
        limit: int = 100,
    ) -> list[WebhookDelivery]:
        """Deliveries, the newest event first; those before the place `before` of the feed."""
        rows = await self.database.request_rows(
            *deliveries_statement(id_, before, status, limit),
            what="webhooks.list_deliveries",
            bound=self.timeout,
        )
        return [_DELIVERY.row(each) for each in rows]

    async def replay(
        self, it: Webhook, *, since: datetime, actor: str, only_failed: bool = False
    ) -> int:
        """Deliver the events since then once more, with their old ids, and record it; how many.

        `only_failed`: those that were given up. Events from before the endpoint was made are among
        them; what waits already is not doubled. Each thousand is a transaction of its own: one that
        breaks off has replayed the first ones, and may be repeated.

        Raises:
            DatabaseError: it is not known how many.
        """
        moment, total = naive(since), 0
        condition, values = wanted(types_json(it.types), senders_json(it.senders))
        statement = (_REPLAY_FAILED if only_failed else _REPLAY).format(wanted=condition)

        async def work(cursor: Cursor) -> int:
            await cursor.execute(_LOCK_FEED)
            await cursor.execute(_LOCK_ENDPOINT, (it.id,))
            before = await cursor.fetch_value(_COUNT_OPEN, (it.id, start, end))
            await cursor.execute(statement, (it.id, start, end, moment, *values))
            return int(await cursor.fetch_value(_COUNT_OPEN, (it.id, start, end)) - before)

        rows = await self.database.request_rows(
            _RANGE, (moment, it.id), what="webhooks.find_events", bound=self.timeout
        )
        start, last = next(iter(rows), (None, 0))  # it was removed meanwhile
        note = note_action(
            "replay", actor, webhook=it.name, detail=rfc3339(since), changed=start is not None
        )
        await self.database.execute(*note, what="webhooks.note_replay", bound=self.timeout)
        while start is not None and start <= last:
            end = min(start + _REPLAYED_AT_ONCE, last + 1)
            total += await self.database.request(work, what="webhooks.replay", bound=self.timeout)
            start = end
        return total


def deliveries_statement(
    id_: str, before: int | None, status: DeliveryStatus | None, limit: int
) -> Statement:
    """What `page` asks; a test has it explained."""
    values = (
        id_,
        before if before is not None else 1 << 62,
        *([status.value] if status else []),
        limit,
    )
    one = " AND d.status = %s" if status else ""
    return _READ_DELIVERIES.format(index="undelivered" if status else "PRIMARY", status=one), values


# What is deleted by age (store/write/retention.py), and what a clock that was ahead has left.

_MOVE_ON: Final = "UPDATE webhooks SET position = GREATEST(position, %s) WHERE id = %s"
_DELETE_DELIVERIES: Final = (
    "DELETE FROM webhook_deliveries WHERE webhook_id = %s AND position <= %s"
)
_DELETE_OF_REMOVED: Final = "DELETE FROM webhook_deliveries WHERE webhook_id = %s LIMIT %s"
_CLOCK_WENT_BACK: Final = (
    "UPDATE webhooks SET retry_at = UTC_TIMESTAMP(6) WHERE retry_at > UTC_TIMESTAMP(6)",
    # The first attempt of a delivery is due at once.
    """
UPDATE webhooks w STRAIGHT_JOIN webhook_deliveries d FORCE INDEX (due) ON d.webhook_id = w.id
   SET d.due_at = UTC_TIMESTAMP(6)
 WHERE d.status = 'waiting' AND d.attempts = 0 AND d.due_at > UTC_TIMESTAMP(6)""",
)


async def move_on(cursor: Cursor, webhook: str, up_to: int) -> None:
    """Let an endpoint get no event up to a position any more."""
    await cursor.execute(_MOVE_ON, (up_to, webhook))


async def delete_deliveries(cursor: Cursor, webhook: str, up_to: int) -> None:
    """Delete the deliveries of events up to a position."""
    await cursor.execute(_DELETE_DELIVERIES, (webhook, up_to))


async def delete_deliveries_of_removed(cursor: Cursor, webhook: str, most: int) -> int:
    """Delete some deliveries of an endpoint that was removed; how many."""
    return await cursor.execute(_DELETE_OF_REMOVED, (webhook, most))


async def follow_clock(database: Database) -> None:
    """Bring back the moments that a clock that was ahead has left."""
    for statement in _CLOCK_WENT_BACK:
        await database.execute(statement, what="clock.follow")


# The deliveries that are due: made from the feed, taken by one daemon at a time, and recorded under
# its token.

FAN_OUT_BATCH: Final = 1000
"""Events of the feed from which one transaction makes deliveries."""

_READ_OWNERS: Final = "SELECT DISTINCT owner FROM webhooks WHERE state = 'on'"
_SELECT_BEHIND: Final = """
SELECT w.id, w.owner FROM webhooks w JOIN event_positions p ON p.id = 1 WHERE w.state = 'on' AND w.position < p.last"""
_SELECT_READY: Final = """
SELECT w.id, w.owner FROM webhooks w
 WHERE w.state = 'on' AND (w.retry_at IS NULL OR w.retry_at <= UTC_TIMESTAMP(6))
   AND (EXISTS (SELECT 1 FROM webhook_deliveries d FORCE INDEX (due)
                 WHERE d.webhook_id = w.id AND d.status = 'waiting' AND d.due_at <= UTC_TIMESTAMP(6))
     OR EXISTS (SELECT 1 FROM webhook_deliveries d FORCE INDEX (due)
                 WHERE d.webhook_id = w.id AND d.status = 'sending' AND d.lease_until <= UTC_TIMESTAMP(6)))"""
# The endpoint's row is locked first by everybody. A daemon that has it, or that was stopped with
# it, is not waited for.
_LOCK_TO_FAN_OUT: Final = """
SELECT position, types, senders FROM webhooks
WHERE id = %s AND state = 'on' FOR UPDATE SKIP LOCKED
"""
_READ_NEXT: Final = """
SELECT last, (SELECT e.position FROM events e FORCE INDEX (position)
               WHERE e.position > %s ORDER BY e.position LIMIT 1 OFFSET %s)
  FROM event_positions WHERE id = 1"""
_FAN_OUT: Final = """
INSERT IGNORE INTO webhook_deliveries (webhook_id, position, status, attempts, created_at, due_at)
SELECT %s, e.position, 'waiting', 0, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) FROM events e FORCE INDEX (position)
 WHERE e.position > %s AND e.position <= %s{wanted}"""
_SET_POSITION: Final = "UPDATE webhooks SET position = %s WHERE id = %s AND position = %s"

_LOCK_TO_CLAIM: Final = """
SELECT name, url, secret, IF(old_until > UTC_TIMESTAMP(6), old_secret, NULL), failures FROM webhooks
 WHERE id = %s AND state = 'on' AND (retry_at IS NULL OR retry_at <= UTC_TIMESTAMP(6)) FOR UPDATE SKIP LOCKED"""
# A daemon that died in the midst of an attempt: whether the endpoint got it is not known, so it
# gets it again.
_FREE_EXPIRED: Final = """
UPDATE webhook_deliveries FORCE INDEX (due) SET status = 'waiting', token = NULL, lease_until = NULL
 WHERE webhook_id = %s AND status = 'sending' AND lease_until <= UTC_TIMESTAMP(6)"""
_COUNT_UNDER_WAY: Final = (
    "SELECT COUNT(*) FROM webhook_deliveries WHERE webhook_id = %s AND status = 'sending'"
)
_SELECT_DUE: Final = """
SELECT d.position, d.attempts, d.tried_at FROM webhook_deliveries d FORCE INDEX (due)
 WHERE d.webhook_id = %s AND d.status = 'waiting' AND d.due_at <= UTC_TIMESTAMP(6)
 ORDER BY d.due_at, d.position LIMIT %s FOR UPDATE SKIP LOCKED"""
_TAKE_DUE: Final = """
UPDATE webhook_deliveries FORCE INDEX (PRIMARY)
   SET status = 'sending', token = %s, lease_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND, attempts = attempts + 1
 WHERE webhook_id = %s AND position IN %s"""
_DELETE_WITHOUT_EVENT: Final = (
    "DELETE FROM webhook_deliveries WHERE webhook_id = %s AND position IN %s"
)
_READ_EVENTS: Final = (
    "SELECT position, uid, type, at, data FROM events FORCE INDEX (position) WHERE position IN %s"
)

_LOCK_HEALTH: Final = (
    "SELECT failures, failing_since, UTC_TIMESTAMP(6), url FROM webhooks WHERE id = %s FOR UPDATE"
)
_RECORD_ATTEMPT: Final = """
UPDATE webhook_deliveries FORCE INDEX (PRIMARY)
   SET status = %s, due_at = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND, token = NULL, lease_until = NULL, http = %s,
       error = %s, error_code = %s, error_args = %s, took_ms = %s, tried_at = UTC_TIMESTAMP(6)
 WHERE webhook_id = %s AND position = %s AND token = %s AND status = 'sending'"""
_UPDATE_ENDPOINT: Final = """
UPDATE webhooks SET failures = %s, failing_since = %s, retry_at = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND,
       pause_cause = IF(%s <> 'on' AND state = 'on', %s, pause_cause), state = IF(state = 'on', %s, state)
 WHERE id = %s"""


@dataclass(frozen=True)
class Work:
    """What the sender of webhooks has to do."""

    owners: int
    """How many owners have an endpoint that is on."""
    behind: dict[str, int]
    """Endpoints that lack deliveries of events in the feed, with their owners."""
    ready: dict[str, int]
    """Endpoints with deliveries that are due, with their owners."""


@dataclass(frozen=True)
class ClaimedEvent:
    """An event that this daemon is to post to an endpoint."""

    webhook: str
    name: str
    url: str
    secrets: tuple[bytes, ...]
    position: int
    token: str
    number: int
    """The number of this attempt, from 1."""
    tried_at: datetime | None
    """When the last attempt was recorded, if there was one."""
    uid: str
    type: str
    at: datetime
    data: str
    """The data of the event, as JSON."""


@dataclass(frozen=True)
class RecordedAttempt:
    """What became of an attempt."""

    step: WebhookOutcome
    failures: int
    """How many attempts in a row had failed before."""
    failing: timedelta
    """How long the endpoint had failed before."""


class WebhookQueue:
    """The queue of one daemon.

    `lease`: for how long a claim holds, more than an attempt and its record take.
    """

    def __init__(self, database: Database, *, lease: timedelta) -> None:
        self.database = database
        self._lease = lease

    @read("webhooks.due")
    async def read_work(self, cursor: Cursor) -> Work:
        """What there is to do; where no endpoint is on, the server is not asked for their
        deliveries.
        """
        await cursor.execute(_READ_OWNERS)
        if not (live := await cursor.fetchall()):
            return Work(0, {}, {})
        behind, ready = await cursor.fetch_batch([(_SELECT_BEHIND, ()), (_SELECT_READY, ())])
        return Work(len(live), dict(behind), dict(ready))

    @transaction("webhooks.queue")
    async def fan_out(self, cursor: Cursor, id_: str) -> bool:
        """Make an endpoint's deliveries of the next events; whether there are more."""
        await cursor.execute(_LOCK_TO_FAN_OUT, (id_,))
        if (row := await cursor.fetchone()) is None:
            return False
        position, types, senders = row
        await cursor.execute(_READ_NEXT, (position, FAN_OUT_BATCH - 1))
        last, full = await cursor.fetchone()
        up_to = full or last
        condition, values = wanted(types, senders)
        await cursor.execute(_FAN_OUT.format(wanted=condition), (id_, position, up_to, *values))
        await cursor.execute(_SET_POSITION, (up_to, id_, position))
        return bool(up_to < last)

    @transaction("webhooks.take")
    async def claim(
        self, cursor: Cursor, id_: str, *, most: int, at_once: int
    ) -> list[ClaimedEvent]:
        """Take up to `most` events of an endpoint that are due; no more than `at_once` are under
        way in all daemons.

        An endpoint that rests gets one.

        Raises:
            DatabaseError: nothing is known to be taken; what was is free again when its lease is
            over.
        """
        await cursor.execute(_LOCK_TO_CLAIM, (id_,))
        if (endpoint := await cursor.fetchone()) is None:
            return []
        await cursor.execute(_FREE_EXPIRED, (id_,))
        under_way = await cursor.fetch_value(_COUNT_UNDER_WAY, (id_,))
        *_, failures = endpoint
        free = (1 if failures >= RESTS_FROM else at_once) - under_way
        if (number := min(free, most)) <= 0:
            return []
        await cursor.execute(_SELECT_DUE, (id_, number))
        if not (rows := await cursor.fetchall()):
            return []
        return await self._take(cursor, id_, endpoint, rows)

    async def _take(
        self, cursor: Cursor, id_: str, endpoint: tuple[Any, ...], rows: Sequence[tuple[Any, ...]]
    ) -> list[ClaimedEvent]:
        name, url, secret, old_secret, _ = endpoint
        token, places = new_id(), tuple(position for position, *_ in rows)
        await cursor.execute(_TAKE_DUE, (token, micros(self._lease), id_, places))
        await cursor.execute(_READ_EVENTS, (places,))
        events = {
            position: {"uid": uid, "type": type_, "at": utc(at), "data": data}
            for position, uid, type_, at, data in await cursor.fetchall()
        }
        if without := tuple(place for place in places if place not in events):  # deleted by hand
            await cursor.execute(_DELETE_WITHOUT_EVENT, (id_, without))
        keys = tuple(bytes(each) for each in (secret, old_secret) if each is not None)
        return [
            ClaimedEvent(
                webhook=id_,
                name=name,
                url=url,
                secrets=keys,
                position=position,
                token=token,
                number=attempts + 1,
                tried_at=utc(tried_at),
                **events[position],
            )
            for position, attempts, tried_at in rows
            if position in events
        ]

    @transaction("webhooks.record")
    async def record(
        self,
        cursor: Cursor,
        it: ClaimedEvent,
        attempt: WebhookAttempt,
        decided: Callable[[EndpointHealth, datetime], WebhookOutcome],
    ) -> RecordedAttempt | None:
        """Record an attempt; None: the claim is not this one's any more, and nothing was written.

        `decided`: what it means for an endpoint that stands so, at this time of the database.
        Repeated, it writes nothing the second time.

        Raises:
            DatabaseError: it is not known to be recorded.
        """
        await cursor.execute(_LOCK_HEALTH, (it.webhook,))
        if (row := await cursor.fetchone()) is None:
            return None
        failures, since, now, url = row
        since, now = utc(since), utc(now)
        step = decided(EndpointHealth(failures, since), now)
        moved = url != it.url and step.status is not DeliveryStatus.DELIVERED
        # its old address has failed: that says nothing of the new one, which gets the event at once
        if moved:
            step = WebhookOutcome(
                DeliveryStatus.WAITING, timedelta(), EndpointState.ON, failures, since, None
            )
        await cursor.execute(
            _RECORD_ATTEMPT,
            (
                step.status.value,
                micros(step.wait),
                attempt.http,
                *in_row(attempt.error, 300),
                attempt.took // timedelta(milliseconds=1),
                it.webhook,
                it.position,
                it.token,
            ),
        )
        if cursor.rowcount != 1:
            return None
        if not moved and (step.status is not DeliveryStatus.DELIVERED or failures or since):
            rest = None if step.rest is None else micros(step.rest)
            cause = PauseReason.FAILING.value if step.state is EndpointState.PAUSED else None
            await cursor.execute(
                _UPDATE_ENDPOINT,
                (
                    step.failures,
                    naive(step.failing_since),
                    rest,
                    step.state.value,
                    cause,
                    step.state.value,
                    it.webhook,
                ),
            )
        return RecordedAttempt(step, failures, now - since if since else timedelta())
