"""Secret keys that all daemons share: made once, kept in the database, and restored with it."""

import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from mailerd.core.i18n import t
from mailerd.core.message_proof import proof_of
from mailerd.core.suppression import SECRET_BYTES, digest_of
from mailerd.errors import LostKeysError, MailerdError
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database, request

_ADDRESS: Final = "address"
_TOKEN: Final = "token:"  # noqa: S105 - a name
MAX_TOKEN_KEYS: Final = 255
"""Token keys that a token can name: it has one byte for it."""

KEY_INTERVAL: Final = 1.0
"""Seconds for which a key of addresses is not read again: fewer than the 2.5 s that an
unsubscribe's answer takes.
"""

_WHAT: Final = "secrets.read"
_READ: Final = "SELECT name, value FROM secrets"
_ANY_SUPPRESSION: Final = "SELECT 1 FROM suppressions LIMIT 1"
# A process that comes second gets what the first has made.
_MAKE: Final = (
    "INSERT INTO secrets (name, value, created_at) VALUES (%s, %s, UTC_TIMESTAMP(6))"
    " ON DUPLICATE KEY UPDATE name = secrets.name"
)


@dataclass(frozen=True)
class SecretKeys:
    """What suppressions and unsubscribe links are made with."""

    address: bytes
    """The key of the digests of addresses and the proofs of messages.

    It never changes: neither could be made anew.
    """
    tokens: dict[int, bytes]
    """Every key that ever signed a link, by its id: old links go on working."""

    @property
    def newest(self) -> int:
        """The id of the key that signs now."""
        return max(self.tokens)


class Secrets:
    """Reads and makes the keys; `timeout`: seconds that the database gets for an answer.

    `for_messages`: they do not stand in one line with the callers who wait (`Database.request`).
    """

    def __init__(
        self, database: Database, *, timeout: float | None, for_messages: bool = False
    ) -> None:
        self.database = database
        self.timeout = timeout
        self._read = database.read if for_messages else partial(database.request, read_only=True)

    async def keys(self) -> SecretKeys:
        """The keys; the first daemon makes them.

        Raises:
            LostKeysError: there were such keys, and they are gone.
            DatabaseError: they cannot be read, or made.
        """
        found = await self._read(_read, what=_WHAT, bound=self.timeout)
        if _missing(found):

            async def make(cursor: Cursor) -> dict[str, bytes]:
                for name in await _never_made(cursor):
                    await cursor.execute(_MAKE, (name, secrets.token_bytes(SECRET_BYTES)))
                return await _read(cursor)

            found = await self.database.request(make, what=_WHAT, bound=self.timeout)
        return SecretKeys(
            address=found[_ADDRESS],
            tokens={
                int(name.removeprefix(_TOKEN)): key
                for name, key in found.items()
                if name.startswith(_TOKEN)
            },
        )

    async def examine(self) -> None:
        """Make sure that no key is gone, and make none.

        Raises:
            LostKeysError: one is.
            DatabaseError: they cannot be read.
        """
        await self.database.request(_never_made, what=_WHAT, bound=self.timeout, read_only=True)

    @request("secrets.make")
    async def rotate(self, cursor: Cursor) -> int:
        """Make a new key for links to come; its id. Links that were signed before go on working.

        Raises:
            MailerdError: there are as many keys as a token can name.
            DatabaseError: it was not made.
        """
        await cursor.execute("SELECT name FROM secrets WHERE name LIKE 'token:%%' FOR UPDATE")
        number = (
            max((int(name.removeprefix(_TOKEN)) for (name,) in await cursor.fetchall()), default=0)
            + 1
        )
        if number > MAX_TOKEN_KEYS:
            raise MailerdError(
                t(
                    "the limit of {max_token_keys} token keys is reached",
                    max_token_keys=MAX_TOKEN_KEYS,
                )
            )
        await cursor.execute(_MAKE, (f"{_TOKEN}{number}", secrets.token_bytes(SECRET_BYTES)))
        return number


class AddressDigests:
    """Makes the digests of addresses and the proofs of messages, once its key is loaded."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._key: bytes | None = None
        self._read_at = -math.inf

    async def load(self) -> None:
        """Read the key, unless that was done a moment ago: the database may be another one by now.

        Raises:
            LostKeysError: it is gone.
            DatabaseError: it cannot be read; nothing may be claimed without it.
        """
        now = time.monotonic()
        if now - self._read_at >= KEY_INTERVAL:
            self._key, self._read_at = (await self._secrets.keys()).address, now

    def __call__(self, address: str) -> bytes:
        """What stands for an address."""
        return digest_of(address, self.key)

    def proof(self, key: str) -> str:
        """X-Mailerd-Proof of the message with this X-Mailerd-Key."""
        return proof_of(key, self.key)

    @property
    def key(self) -> bytes:
        """The key that was loaded."""
        if self._key is None:
            raise RuntimeError("the key of the addresses has not been loaded")
        return self._key


async def _read(cursor: Cursor) -> dict[str, bytes]:
    await cursor.execute(_READ)
    return dict(await cursor.fetchall())


async def _never_made(cursor: Cursor) -> list[str]:
    """The names of the keys that are yet to be made.

    Raises LostKeysError when they were made and are gone.

    The suppressions are read first: a process that has stored one had the keys, which are read
    after it.
    """
    await cursor.execute(_ANY_SUPPRESSION)
    used = bool(await cursor.fetchall())
    found = await _read(cursor)
    if (missing := _missing(found)) and (used or found):
        raise LostKeysError(_WHAT)
    return missing


def _missing(found: Mapping[str, bytes]) -> list[str]:
    """The names of the keys that are yet to be made."""
    first = [] if any(name.startswith(_TOKEN) for name in found) else [f"{_TOKEN}1"]
    return first if _ADDRESS in found else [_ADDRESS, *first]
