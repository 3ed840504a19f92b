"""Who is asking: the API key of a request, looked up, remembered for seconds, its use noted."""

import asyncio
import hmac
from typing import Final

from aiohttp import web

from mailerd.clock import Clock
from mailerd.errors import DatabaseError
from mailerd.events.intake import IntakeEvents
from mailerd.intake.problems import ProblemError
from mailerd.store.keys import Key, Keys, digest

HEADER: Final = "X-API-Key"
REMEMBER: Final = 3.0
"""Seconds for which a key is believed without asking: how long a revoked one may still work."""
REMEMBERED_AT_MOST: Final = 1000
NOTE_EVERY: Final = 60.0
"""Seconds between two writes of one key's last_used_at."""


class Gate:
    """Lets requests in."""

    def __init__(self, keys: Keys, *, events: IntakeEvents, clock: Clock) -> None:
        self._keys = keys
        self._events = events
        self._clock = clock
        self._known: dict[bytes, tuple[Key, float]] = {}
        self._noted: dict[int, float] = {}
        self._to_note: set[int] = set()
        self._used = asyncio.Event()

    async def admit(self, request: web.Request) -> Key:
        """The key of a request.

        Raises:
            ProblemError: 401, there is none, it is unknown or it is revoked.
            DatabaseError: nobody can say.
        """
        secret = request.headers.get(HEADER)
        if not secret:
            raise ProblemError(
                401, "unauthorized", f"the header {HEADER} is missing; `mailerd keys create` makes a key"
            )
        key = await self._find(digest(secret))
        if key is None:
            raise ProblemError(401, "unauthorized", "this API key is unknown or revoked")
        now = self._clock.monotonic()
        if now - self._noted.get(key.id, -NOTE_EVERY) >= NOTE_EVERY:
            self._noted[key.id] = now
            self._to_note.add(key.id)
            self._used.set()
        return key

    async def _find(self, wanted: bytes) -> Key | None:
        now = self._clock.monotonic()
        key, until = self._known.get(wanted, (None, 0.0))
        if key is None or until <= now:
            key = await self._keys.active(wanted)
            self._known.pop(wanted, None)
            if key is not None:
                if len(self._known) >= REMEMBERED_AT_MOST:
                    self._known.clear()
                self._known[wanted] = (key, now + REMEMBER)
        # The index was found by a digest, which tells an attacker nothing; this is against a wrong row all the same.
        return key if key is not None and hmac.compare_digest(key.digest, wanted) else None

    async def note_uses(self) -> None:
        """Write last_used_at for ever, beside the requests and never in their way."""
        while True:
            await self._used.wait()
            self._used.clear()
            ids, self._to_note = self._to_note, set()
            try:
                await self._keys.note_use(ids)
            except DatabaseError as error:  # the next use, a minute on, is noted again
                self._events.key_use_unwritten(keys=len(ids), cause=str(error))
