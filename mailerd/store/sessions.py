"""Who is signed in to the console: rows that end with their key, and one-time links that sign a person in."""

import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mailerd.errors import DatabaseError
from mailerd.store.api_keys import KEY_COLUMNS, ApiKey, digest, key_of
from mailerd.store.db.cursor import Cursor
from mailerd.store.db.database import Database

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
# A session lasts as long as the secret that it was begun with: a rotation ends it as well, after its overlap.
_KEY_IS_VALID: Final = """k.revoked_at IS NULL
   AND (s.key_digest = k.digest OR (s.key_digest = k.old_digest AND k.old_until > UTC_TIMESTAMP(6)))"""
_FIND: Final = f"""
SELECT s.seen_at < UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE, {", ".join(f"k.{name}" for name in KEY_COLUMNS)}
  FROM sessions s JOIN api_keys k ON k.id = s.api_key_id
 WHERE s.digest = %s AND s.is_link = 0 AND {_KEY_IS_VALID}
   AND s.seen_at > UTC_TIMESTAMP(6) - INTERVAL {IDLE.total_seconds():.0f} SECOND
   AND s.created_at > UTC_TIMESTAMP(6) - INTERVAL {LONGEST.total_seconds():.0f} SECOND"""
_SET_SEEN: Final = "UPDATE sessions SET seen_at = UTC_TIMESTAMP(6) WHERE digest = %s AND is_link = 0"
_USE_LINK: Final = f"""
SELECT s.api_key_id, s.key_digest FROM sessions s JOIN api_keys k ON k.id = s.api_key_id
 WHERE s.digest = %s AND s.is_link = 1 AND {_KEY_IS_VALID}
   AND s.created_at > UTC_TIMESTAMP(6) - INTERVAL {LINK_VALID.total_seconds():.0f} SECOND FOR UPDATE"""
_END_SESSION: Final = "DELETE FROM sessions WHERE digest = %s"
_END_OLD: Final = f"""
DELETE FROM sessions WHERE seen_at < UTC_TIMESTAMP(6) - INTERVAL {LONGEST.total_seconds():.0f} SECOND LIMIT 100"""


@dataclass(frozen=True)
class Sessions:
    """Queries for sessions. `timeout`: seconds that the database gets for an answer."""

    database: Database
    timeout: float

    async def create(self, key: ApiKey, *, ip: str) -> str:
        """Begin a session of a key, found by the secret that was shown; its own secret, which is stored nowhere."""

        async def work(cursor: Cursor) -> str:
            await cursor.execute(_END_OLD)
            return await _insert(cursor, key.id, key_digest=key.digest, ip=ip)

        return await self.database.request(work, what="begin a session", bound=self.timeout)

    async def create_link(self, api_key_id: int) -> str:
        """Make the secret of a one-time link that signs a person in with a key."""
        return await self.database.request(
            lambda cursor: _insert(cursor, api_key_id, key_digest=None, ip=None, is_link=True),
            what="make a link", bound=self.timeout,
        )  # fmt: skip

    async def key_of(self, secret: str) -> ApiKey | None:
        """The key of a session that has not ended; None: there is none, or its key was revoked or rotated."""
        wanted = digest(secret)
        rows = await self.database.request_rows(_FIND, (wanted,), what="look up a session", bound=self.timeout)
        if not rows:
            return None
        unseen, *key = rows[0]
        if unseen:
            with suppress(DatabaseError):  # a server that takes no writes may still be read
                await self.database.execute(_SET_SEEN, (wanted,), what="note a session", bound=self.timeout)
        return key_of(tuple(key))

    async def is_open(self, secret: str) -> bool:
        """Whether a session has not ended; asking does not make it last longer."""
        wanted = digest(secret)
        return bool(await self.database.request_rows(_FIND, (wanted,), what="look up a session", bound=self.timeout))

    async def use_link(self, secret: str, *, ip: str) -> str | None:
        """Use a one-time link up and begin a session of its key; None: it was used, is too old, or was never made.

        Raises:
            DatabaseError: it was not used.
        """
        wanted = digest(secret)

        async def work(cursor: Cursor) -> str | None:
            await cursor.execute(_END_OLD)
            await cursor.execute(_USE_LINK, (wanted,))
            row = await cursor.fetchone()
            if row is None:
                return None
            await cursor.execute(_END_SESSION, (wanted,))
            return await _insert(cursor, row[0], key_digest=row[1], ip=ip)

        return await self.database.request(work, what="use a link", bound=self.timeout)

    async def end(self, secret: str) -> bool | None:
        """End a session; None: there is none.

        Raises:
            DatabaseError: it goes on.
        """
        ended = await self.database.execute(_END_SESSION, (digest(secret),), what="end a session", bound=self.timeout)
        return bool(ended) or None


async def _insert(
    cursor: Cursor, api_key_id: int, *, key_digest: bytes | None, ip: str | None, is_link: bool = False
) -> str:
    """`key_digest`: of the key's secret that it lasts with; None: the present one."""
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    await cursor.execute(_INSERT_SESSION, (digest(secret), key_digest, int(is_link), ip, api_key_id))
    return secret
