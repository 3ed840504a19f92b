"""API keys and sessions of the console: made, found by their digest, listed, revoked; no secret is
ever stored.
"""

import hashlib
import json
import secrets
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

from mailerd.core.i18n import t
from mailerd.errors import DatabaseError, MailerdError
from mailerd.model.fields import Sql
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database, request
from mailerd.store.db.rows import Select
from mailerd.store.write.action_log import note_action

PREFIX: Final = "sk_live_"
KEY_BYTES: Final = 32
"""256 random bits: guessing is hopeless, so a plain SHA-256 is digest enough."""
MAX_NAME_LENGTH: Final = 100
"""Characters of a key's name, as in the schema."""
MAX_SENT_TABLES: Final = 20
"""Tables that are remembered of each key."""


class Permission(StrEnum):
    """What a key may be limited to."""

    SEND = "send"
    """Post jobs, dry runs included."""
    READ = "read"
    """See jobs, recipients, results and templates."""
    CONTROL = "control"
    """Cancel, pause, resume, retry, change priorities."""
    OVERRIDE = "override"
    """Post jobs that go also to addresses that have opted out."""
    SUPPRESS = "suppress"
    """See, add and remove suppressions and lists; a key for some senders must be given it by name,
    and does so with those of these senders only.
    """
    WEBHOOKS = "webhooks"
    """See, add and change endpoints that events are posted to; a key for some senders must be given
    it by name, and sees the endpoints of these senders only.
    """
    SENDERS = "senders"
    """Change the limits of mailboxes, which bind every key: a key for some senders must be given it
    by name.
    """

    TEMPLATES = "templates"
    """Store, publish, render and delete templates of the API; a key for some senders must be given
    it by name, and changes those of these senders only.
    """


_ONLY_IF_NAMED: Final = frozenset(Permission) - {
    Permission.SEND,
    Permission.READ,
    Permission.CONTROL,
}
"""What a key for some senders may do only if it is named."""


class KeyNameError(MailerdError):
    """A key cannot be made under this name, or none is found by it."""


class KeyChoiceError(MailerdError):
    """A key would be allowed nothing, or all and some at once."""


def choice[T](some: Collection[T], *, is_all: bool) -> Collection[T] | None:
    """What was chosen, as `create` takes it: all is a choice of its own, never the lack of one.

    Raises:
        KeyChoiceError: all and some.
    """
    if is_all and some:
        raise KeyChoiceError(t("choose either all or some; no key was created"))
    return None if is_all else some


def _senders(senders: str | None) -> frozenset[str] | None:
    return None if senders is None else frozenset(json.loads(senders))


def _permissions(permissions: str | None) -> frozenset[Permission] | None:
    return None if permissions is None else frozenset(map(Permission, json.loads(permissions)))


@dataclass(frozen=True)
class ApiKey:
    """What is known of a key; the secret is not."""

    id: int
    name: str
    digest: bytes
    hint: str
    """The last characters, for people who hold several."""
    senders: Annotated[frozenset[str] | None, Sql("k.senders", read=_senders)]
    """The mailboxes that it may send from; None means any."""
    permissions: Annotated[frozenset[Permission] | None, Sql("k.permissions", read=_permissions)]
    """What it may ask for; None means everything."""
    per_minute: int | None
    """Requests in a minute, per daemon; None means no limit."""
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None
    """When it was last used, at most a minute late; None means never."""
    old_until: datetime | None
    """Until when the secret from before the last rotation is good; None: it was never rotated."""

    def may(self, call: Permission) -> bool:
        """Whether it may ask for this."""
        if self.permissions is None:
            # A suppression binds the messages of every sender: a key for some of them adds one only
            # if that is named. An endpoint makes the daemon post to an address of the client's
            # choice: who may do that is named.
            return call not in _ONLY_IF_NAMED or self.senders is None
        return call in self.permissions

    @property
    def granted(self) -> list[Permission]:
        """All that it may ask for, by name."""
        return sorted(each for each in Permission if self.may(each))

    @property
    def is_admin(self) -> bool:
        """Whether nothing limits it: it may see and change what concerns everybody."""
        return self.senders is None and self.permissions is None

    @property
    def origin(self) -> str:
        """What it adds itself belongs to it by this name; empty: it is for all senders, and so is
        what it adds.
        """
        return "" if self.senders is None else f"key:{self.id}"

    def may_send(self, sender: str) -> bool:
        """Whether it may send from this mailbox, given in lower case."""
        return self.senders is None or sender in self.senders


_KEY: Final = Select(ApiKey, of="k")
# Found by its old secret, it is shown with that one's digest: the caller compares. Without a name
# of its own the column would be named by the bytes in it, which the driver cannot read.
_BY_SECRET: Final = _KEY.columns.replace(
    "k.digest", "IF(k.digest = %s, k.digest, k.old_digest) AS digest"
)


def digest(secret: str) -> bytes:
    """What is stored in place of a key."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


class ApiKeys:
    """Queries for API keys. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, database: Database, *, timeout: float) -> None:
        self.database = database
        self.timeout = timeout

    async def create(
        self,
        name: str,
        *,
        senders: Collection[str] | None = None,
        permissions: Collection[Permission] | None = None,
        per_minute: int | None = None,
        actor: str | None = None,
    ) -> str:
        """Make a key and return its secret, which is stored nowhere and cannot be shown again.

        None is any mailbox, and every permission. `actor`: who asks, for the log of actions; None:
        a test, or the demo.

        Raises:
            KeyChoiceError: none of them at all. KeyNameError: the name is empty, too long, nothing
            but digits (it would pass for an id), or in use.
        """
        if (
            not name.strip()
            or len(name) > MAX_NAME_LENGTH
            or name.isdigit()
            or not name.isprintable()
        ):
            raise KeyNameError(
                t(
                    "the name of a key has 1 to {max_name_length} printable characters and is not just a number",
                    max_name_length=MAX_NAME_LENGTH,
                )
            )
        if senders is not None and not senders:
            raise KeyChoiceError(t("choose the senders of the key, or all; no key was created"))
        if permissions is not None and not permissions:
            raise KeyChoiceError(t("choose the permissions of the key, or all; no key was created"))
        secret = PREFIX + secrets.token_urlsafe(KEY_BYTES)
        allowed = None if senders is None else json.dumps(sorted(senders))
        scopes = None if permissions is None else json.dumps(sorted(permissions))

        async def work(cursor: Cursor) -> None:
            find = "SELECT id FROM api_keys WHERE name = %s AND revoked_at IS NULL FOR UPDATE"
            if taken := await cursor.fetch_value(find, (name,)):
                raise KeyNameError(
                    t(
                        "key {it} already has the name {name!r}; revoke it first, or choose another name",
                        it=taken,
                        name=name,
                    )
                )
            await cursor.execute(
                "INSERT INTO api_keys (name, digest, hint, senders, permissions, per_minute, created_at) "
                "VALUES (%s, %s, %s, %s, %s, %s, UTC_TIMESTAMP(6))",
                (name, digest(secret), _hint(secret), allowed, scopes, per_minute),
            )
            await _note(cursor, "create_key", actor, name)

        await self.database.request(work, what="keys.create", bound=self.timeout)
        return secret

    async def active(self, digest: bytes) -> ApiKey | None:
        """The key with this digest, unless it is revoked, or was rotated away and its overlap is
        over.
        """
        rows = await self.database.request_rows(
            f"SELECT {_BY_SECRET} FROM api_keys k WHERE k.revoked_at IS NULL "
            "AND (k.digest = %s OR (k.old_digest = %s AND k.old_until > UTC_TIMESTAMP(6)))",
            (digest, digest, digest),
            what="keys.find",
            bound=self.timeout,
        )
        return next(map(_KEY.row, rows), None)

    async def active_digests(self) -> set[bytes]:
        """The digests of all keys for which `active` finds one."""
        rows = await self.database.request_rows(
            "SELECT digest FROM api_keys WHERE revoked_at IS NULL UNION ALL "
            "SELECT old_digest FROM api_keys WHERE revoked_at IS NULL AND old_until > UTC_TIMESTAMP(6)",
            what="keys.list_digests",
            bound=self.timeout,
        )
        return {bytes(digest) for (digest,) in rows}

    async def all(self) -> list[ApiKey]:
        """Every key, revoked ones too, oldest first."""
        statement = f"SELECT {_KEY.columns} FROM api_keys k ORDER BY k.id"
        rows = await self.database.request_rows(statement, what="keys.list", bound=self.timeout)
        return [_KEY.row(each) for each in rows]

    @request("keys.revoke")
    async def revoke(self, cursor: Cursor, which: str, *, actor: str | None = None) -> int:
        """Revoke a key by its id or its name; its id. Daemons notice within seconds.

        Raises:
            KeyNameError: no key that is still good goes by it.
        """
        number = await _only(cursor, which)
        await cursor.execute(
            "UPDATE api_keys SET revoked_at = UTC_TIMESTAMP(6) WHERE id = %s", (number,)
        )
        await _note(cursor, "revoke_key", actor, await _name_of(cursor, number))
        return number

    @request("keys.rotate")
    async def rotate(
        self,
        cursor: Cursor,
        which: str,
        *,
        overlap: timedelta,
        seen: str | None = None,
        actor: str | None = None,
    ) -> str:
        """Give a key, by its id or its name, a new secret, which is returned; the one before is
        good for `overlap`.

        Name, senders, calls and idempotency keys stay. A secret from two rotations ago is dead at
        once. `seen`: the hint of the secret that is to be replaced; None: whatever it is.

        Raises:
            KeyNameError: no key that is still good goes by it, or it has another secret by now.
        """
        secret = PREFIX + secrets.token_urlsafe(KEY_BYTES)
        number = await _only(cursor, which)
        hint = await cursor.fetch_value("SELECT hint FROM api_keys WHERE id = %s", (number,))
        if seen is not None and hint != seen:
            raise KeyNameError(
                t(
                    "key {number} received another secret in the meantime ({hint}); nothing was changed",
                    number=number,
                    hint=hint,
                )
            )
        await cursor.execute(
            "UPDATE api_keys SET old_digest = digest, old_until = UTC_TIMESTAMP(6) + INTERVAL %s SECOND, "
            "digest = %s, hint = %s WHERE id = %s",  # from left to right, as written
            (int(overlap.total_seconds()), digest(secret), _hint(secret), number),
        )
        await _note(cursor, "rotate_key", actor, await _name_of(cursor, number))
        return secret

    async def sent_tables(self, api_key_id: int) -> list[dict[str, Any]]:
        """What is known of the last tables that a key sent in the console, the newest first."""
        rows = await self.database.request_rows(
            "SELECT sent_tables FROM api_keys WHERE id = %s",
            (api_key_id,),
            what="keys.find",
            bound=self.timeout,
        )
        return [table for (known,) in rows for table in json.loads(known or "[]")]

    @request("keys.note_table")
    async def note_table(self, cursor: Cursor, api_key_id: int, table: Mapping[str, Any]) -> None:
        """Note a table that a key has sent; of its "job" there is one.

        The oldest of many are lost.
        """
        known = await cursor.fetch_value(
            "SELECT sent_tables FROM api_keys WHERE id = %s FOR UPDATE", (api_key_id,)
        )
        others = [each for each in json.loads(known or "[]") if each["job"] != table["job"]]
        kept = json.dumps([table, *others][:MAX_SENT_TABLES], ensure_ascii=False)
        await cursor.execute(
            "UPDATE api_keys SET sent_tables = %s WHERE id = %s", (kept, api_key_id)
        )

    async def note_use(self, ids: Collection[int]) -> None:
        """Write that these keys were used about now."""
        await self.database.execute(
            "UPDATE api_keys FORCE INDEX (PRIMARY) SET last_used_at = UTC_TIMESTAMP(6) WHERE id IN %s",
            (tuple(ids),),
            what="keys.note_use",
            bound=self.timeout,
        )


def _hint(secret: str) -> str:
    return f"{PREFIX}...{secret[-4:]}"


async def _name_of(cursor: Cursor, number: int) -> str:
    return str(await cursor.fetch_value("SELECT name FROM api_keys WHERE id = %s", (number,)))


async def _note(cursor: Cursor, action: str, actor: str | None, name: str) -> None:
    """Note in the log of actions what was asked of a key."""
    if actor is not None:
        await cursor.execute(*note_action(action, actor, detail=name))


async def _only(cursor: Cursor, which: str) -> int:
    """The id of the one good key that goes by this id or name; its row is locked."""
    column = "id" if which.isdigit() else "name"
    await cursor.execute(
        f"SELECT id FROM api_keys WHERE {column} = %s AND revoked_at IS NULL FOR UPDATE",
        (which,),
    )
    ids = [id_ for (id_,) in await cursor.fetchall()]
    if len(ids) != 1:
        raise KeyNameError(
            t(
                "several keys have the name {which!r}; give an ID: {join}",
                which=which,
                join=", ".join(map(str, ids)),
            )
            if ids
            else t(
                "no active key has the {column} {which!r}; see `mailerd keys list`",
                column=column,
                which=which,
            )
        )
    return int(ids[0])


# Who is signed in to the console: rows that end with their key, and one-time links that sign a
# person in.

IDLE: Final = timedelta(hours=12)
"""How long a session lasts without a request."""
LONGEST: Final = timedelta(days=7)
"""How long it lasts at most."""
LINK_VALID: Final = timedelta(minutes=10)
"""How long a one-time link may be used."""
_SECRET_BYTES: Final = 32
"""256 random bits: guessing is hopeless, so a plain SHA-256 is digest enough."""

_INSERT_SESSION: Final = """
INSERT INTO sessions (digest, api_key_id, key_digest, is_link, ip, created_at, seen_at)
SELECT %s, id, COALESCE(%s, digest), %s, %s, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) FROM api_keys WHERE id = %s"""
# A session lasts as long as the secret that it was begun with: a rotation ends it as well, after
# its overlap.
_KEY_IS_VALID: Final = """k.revoked_at IS NULL
   AND (s.key_digest = k.digest OR (s.key_digest = k.old_digest AND k.old_until > UTC_TIMESTAMP(6)))"""
_FIND: Final = f"""
SELECT s.seen_at < UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE, {_KEY.columns}
  FROM sessions s JOIN api_keys k ON k.id = s.api_key_id
 WHERE s.digest = %s AND s.is_link = 0 AND {_KEY_IS_VALID}
   AND s.seen_at > UTC_TIMESTAMP(6) - INTERVAL {IDLE.total_seconds():.0f} SECOND
   AND s.created_at > UTC_TIMESTAMP(6) - INTERVAL {LONGEST.total_seconds():.0f} SECOND"""
_FIND_ENDED: Final = f"""
SELECT s.api_key_id FROM sessions s JOIN api_keys k ON k.id = s.api_key_id
 WHERE s.digest = %s AND s.is_link = 0 AND {_KEY_IS_VALID}"""
_SET_SEEN: Final = (
    "UPDATE sessions SET seen_at = UTC_TIMESTAMP(6) WHERE digest = %s AND is_link = 0"
)
_USE_LINK: Final = f"""
SELECT s.api_key_id, s.key_digest FROM sessions s JOIN api_keys k ON k.id = s.api_key_id
 WHERE s.digest = %s AND s.is_link = 1 AND {_KEY_IS_VALID}
   AND s.created_at > UTC_TIMESTAMP(6) - INTERVAL {LINK_VALID.total_seconds():.0f} SECOND FOR UPDATE"""
_END_SESSION: Final = "DELETE FROM sessions WHERE digest = %s"


@dataclass(frozen=True)
class Sessions:
    """Queries for sessions. `timeout`: seconds that the database gets for an answer."""

    database: Database
    timeout: float

    @request("sessions.begin")
    async def create(self, cursor: Cursor, key: ApiKey, *, ip: str) -> str:
        """Begin a session of a key, found by the secret that was shown; its own secret, which is
        stored nowhere.
        """
        return await _insert(cursor, key.id, key_digest=key.digest, ip=ip)

    @request("sessions.make_link")
    async def create_link(self, cursor: Cursor, api_key_id: int) -> str:
        """Make the secret of a one-time link that signs a person in with a key."""
        return await _insert(cursor, api_key_id, key_digest=None, ip=None, is_link=True)

    async def key_of(self, secret: str) -> ApiKey | None:
        """The key of a session that has not ended; None: there is none, or its key was revoked or
        rotated.
        """
        wanted = digest(secret)
        rows = await self.database.request_rows(
            _FIND, (wanted,), what="sessions.find", bound=self.timeout
        )
        for unseen, *key in rows:
            if unseen:
                with suppress(DatabaseError):  # a server that takes no writes may still be read
                    await self.database.execute(
                        _SET_SEEN, (wanted,), what="sessions.note", bound=self.timeout
                    )
            return _KEY.row(key)
        return None

    async def ended(self, secret: str) -> int | None:
        """The id of the key of a session that may have ended; None: it was signed out of, or its
        key has ended, too.
        """
        wanted = digest(secret)
        rows = await self.database.request_rows(
            _FIND_ENDED, (wanted,), what="sessions.find", bound=self.timeout
        )
        return next((key for (key,) in rows), None)

    async def is_open(self, secret: str) -> bool:
        """Whether a session has not ended; asking does not make it last longer."""
        wanted = digest(secret)
        return bool(
            await self.database.request_rows(
                _FIND, (wanted,), what="sessions.find", bound=self.timeout
            )
        )

    @request("sessions.use_link")
    async def use_link(self, cursor: Cursor, secret: str, *, ip: str) -> str | None:
        """Use a one-time link up and begin a session of its key; None: it was used, is too old, or
        was never made.

        Raises:
            DatabaseError: it was not used.
        """
        wanted = digest(secret)
        await cursor.execute(_USE_LINK, (wanted,))
        if (link := await cursor.fetchone()) is None:
            return None
        api_key_id, key_digest = link
        await cursor.execute(_END_SESSION, (wanted,))
        return await _insert(cursor, api_key_id, key_digest=key_digest, ip=ip)

    async def end(self, secret: str) -> bool | None:
        """End a session; None: there is none.

        Raises:
            DatabaseError: it goes on.
        """
        ended = await self.database.execute(
            _END_SESSION, (digest(secret),), what="sessions.end", bound=self.timeout
        )
        return bool(ended) or None


async def _insert(
    cursor: Cursor,
    api_key_id: int,
    *,
    key_digest: bytes | None,
    ip: str | None,
    is_link: bool = False,
) -> str:
    """`key_digest`: of the key's secret that it lasts with; None: the present one."""
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    await cursor.execute(
        _INSERT_SESSION, (digest(secret), key_digest, int(is_link), ip, api_key_id)
    )
    return secret
