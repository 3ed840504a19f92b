"""Authenticates requests by their API key, looked up for each one so that revoking works at once; shares of a key."""

import asyncio
import hmac
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from contextvars import ContextVar
from typing import Final

from aiohttp import web

from mailerd.clock import Clock
from mailerd.config import IntakeSettings
from mailerd.errors import DatabaseError
from mailerd.events.intake import IntakeEvents
from mailerd.intake.client_address import ClientAddress, StrangerLog, TokenBuckets
from mailerd.intake.http_responses import RETRY_AFTER, ApiError, RowPace
from mailerd.store.api_keys import ApiKey, ApiKeys, Permission, digest

# Limits for each API key: how much work of one kind it may have under way, so that it delays no other key.
#
# A share is a number of places for one kind of work. A key may hold some of them; its further requests wait behind its
# own work. There are more places than any one key may hold, so another key always finds one.

LARGE_BODY: Final = 1024 * 1024
"""A body of more bytes takes a place for large bodies before it is read."""
SHARE_TIMEOUT: Final = 30.0
"""Seconds that a request waits for a place: less than any proxy waits for an answer."""
SPARE_THREADS: Final = 2
"""Threads for what takes milliseconds: fingerprints of bodies, the files of the templates that are listed."""
_DRY_RUN: Final = re.compile(rb'"dry_run"\s*:\s*true')


class KeyShare:
    """The places for one kind of work (`what`, in the plural).

    `per_key`: places that one key may hold at once. `keys`: how many keys with all of their places there is room for.
    `within`: seconds that a request waits for a place; 0: not at all. `setting`: where an operator changes it.
    """

    def __init__(self, what: str, *, per_key: int, keys: int, within: float, setting: str) -> None:
        self.places = per_key * keys
        self._what = what
        self._per_key = per_key
        self._within = within
        self._setting = setting
        self._held: Counter[int] = Counter()
        self._line: list[tuple[int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def place(self, key: ApiKey) -> AsyncIterator[None]:
        """Hold one of the places.

        Raises:
            ApiError: 429, the key holds its share and none of it came free in time; 503, others hold all.
        """
        await self._take(key)
        try:
            yield
        finally:
            self._give_back(key.id)

    async def _take(self, key: ApiKey) -> None:
        if self._may_take(key.id):
            self._held[key.id] += 1
            return
        if not self._within:
            raise self._refusal(key)
        turn = asyncio.get_running_loop().create_future()
        self._line.append((key.id, turn))
        try:
            async with asyncio.timeout(self._within):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # the place came at the moment at which the wait ended
                self._give_back(key.id)
            self._line = [one for one in self._line if one[1] is not turn]
            if isinstance(error, TimeoutError):
                raise self._refusal(key) from None
            raise

    def _may_take(self, key_id: int) -> bool:
        return self._held[key_id] < self._per_key and self._held.total() < self.places

    def _give_back(self, key_id: int) -> None:
        self._held[key_id] -= 1
        self._held += Counter()  # drops the keys that hold nothing
        while waiting := [one for one in self._line if not one[1].done() and self._may_take(one[0])]:
            # The key that holds the fewest places comes first; of several, the one that has waited longest.
            key_id, turn = min(waiting, key=lambda one: self._held[one[0]])
            self._line = [one for one in self._line if one[1] is not turn]
            self._held[key_id] += 1
            turn.set_result(None)

    def _refusal(self, key: ApiKey) -> ApiError:
        if self._held[key.id] < self._per_key:
            return ApiError(
                503, "busy", f"other keys have {self.places} {self._what} under way; nothing was stored, try again",
                retry_after=RETRY_AFTER,
            )  # fmt: skip
        return ApiError(
            429,
            "share_used_up",
            f"the key {key.name!r} has {self._per_key} {self._what} under way, which is its share ({self._setting}); "
            "nothing was stored, try again",
            retry_after=RETRY_AFTER,
        )


class KeyShares:
    """All shares of one daemon."""

    def __init__(self, settings: IntakeSettings, clock: Clock | None = None) -> None:
        def share(what: str, setting: str, *, keys: int, within: float = SHARE_TIMEOUT) -> KeyShare:
            per_key: int = getattr(settings, setting)
            return KeyShare(what, per_key=per_key, keys=keys, within=within, setting=f"intake.{setting}")

        self.posts = share("posts", "posts_per_key", keys=5, within=0)
        self.checks = share("checks of recipients", "checks_per_key", keys=2)
        self.large_bodies = share("bodies above 1 MiB", "large_bodies_per_key", keys=2)
        self.dry_runs = share("dry runs", "dry_runs_per_key", keys=2)
        self.downloads = share("downloads of CSV", "downloads_per_key", keys=2)
        self.rows = RowPace(clock or Clock())
        self.reads = share("reads", "reads_per_key", keys=5)
        self.streams = share("event streams", "streams_per_key", keys=5, within=0)
        self.webhook_calls = KeyShare(  # these take seconds
            "tests or replays of webhooks", per_key=1, keys=4, within=0, setting="one at a time"
        )

    @property
    def threads(self) -> int:
        """Threads for all places, so that a request that holds one waits for no thread."""
        return self.checks.places + self.large_bodies.places + self.dry_runs.places + SPARE_THREADS

    def for_check(self, body: bytearray, key: ApiKey, *, dry_run: bool = False) -> AbstractAsyncContextManager[None]:
        """The place in which a body is checked; a large one has its place already. `dry_run`: the path says so.

        A dry run by its field is recognised by how it is usually written. One that is written otherwise takes a place
        for checks, of which its key has no more than any other.
        """
        if len(body) > LARGE_BODY:
            return nullcontext()
        return (self.dry_runs if dry_run or _DRY_RUN.search(body) else self.checks).place(key)


HEADER: Final = "X-API-Key"
_UNTOLD: Final = ("/suppressions/{email}", "/login/{secret}")
"""How the paths end that the log shows as their patterns."""
MAX_SESSIONS: Final = 1000
"""Digests of sessions that were valid, kept in memory."""
ACTIVE_INTERVAL: Final = 1.0
"""The least seconds between two reads of the digests of all keys."""
KEY_USE_INTERVAL: Final = 60.0
"""Seconds between two writes of one key's last_used_at."""
MAX_FAILURES_PER_MINUTE: Final = 60
"""Invalid keys, sessions and links from one address in a minute; beyond that it gets 429 without a query. A good
key and a session that was used before are looked up all the same: many clients may share one address."""
FAILURE_RETRY_AFTER: Final = 10.0
"""Seconds until such an address may try again."""
KeyHandler = Callable[[web.Request, ApiKey], Awaitable[web.StreamResponse]]
"""An endpoint that gets the key of its request, too."""
CALLER: Final = ContextVar[str]("caller", default="")
"""Name of the key that authenticated the current request."""


class ApiKeyAuth:
    """Finds the API key of a request, and checks what it may do and how often."""

    def __init__(
        self,
        keys: ApiKeys,
        *,
        client_address: ClientAddress,
        strangers: StrangerLog,
        events: IntakeEvents,
        clock: Clock,
    ) -> None:
        self._keys = keys
        self._client_address = client_address
        self._strangers = strangers
        self._events = events
        self._clock = clock
        self._rates = TokenBuckets()
        self._failures = TokenBuckets()
        self._active = set[bytes]()
        """Digests of the keys, as they were read last while an address was above its limit."""
        self._active_read = -math.inf
        self._sessions: dict[bytes, None] = {}
        """Digests of sessions and links that were good, the one that was used last at the end."""
        self._noted: dict[int, float] = {}
        self._to_note: set[int] = set()
        self._used = asyncio.Event()

    async def authenticate(self, request: web.Request, call: Permission) -> ApiKey:
        """The key of a request.

        Raises:
            ApiError: 401, there is none, it is unknown or it is revoked; 403, it may not make this call;
                429, too many requests, or too many invalid keys from its address.
        """
        key = await self.check_secret(request, request.headers.get(HEADER))
        CALLER.set(key.name)
        self.count_request(key)
        if not key.may(call):
            allowed = ", ".join(sorted(key.permissions)) if key.permissions else "certain senders"
            raise ApiError(
                403, "call_not_allowed", f"the key {key.name!r} is for {allowed}; this call needs {call.value}"
            )
        self.note_use(key)
        return key

    def note_use(self, key: ApiKey) -> None:
        """Let it be written that a key was used now; at most once a minute."""
        now = self._clock.monotonic()
        if now - self._noted.get(key.id, -KEY_USE_INTERVAL) >= KEY_USE_INTERVAL:
            self._noted[key.id] = now
            self._to_note.add(key.id)
            self._used.set()

    async def check_secret(self, request: web.Request, secret: str | None) -> ApiKey:
        """The key of a secret that was shown with a request; who guesses is slowed down.

        Raises:
            ApiError: 401, there is none, it is unknown or it is revoked; 429, too many bad ones from this address.
        """
        key = await self.look_up(request, secret, self._find, is_key=True)
        if key is None:
            address = self._client_address.address(request)
            if self._strangers.logs_request(address):
                self._events.key_refused(address=address, method=request.method, path=raw_path(request))
            missing = f"the header {HEADER} is missing; `mailerd keys create` makes a key"
            raise ApiError(401, "unauthorized", "this API key is unknown or revoked" if secret else missing)
        return key

    async def look_up[T](
        self,
        request: web.Request,
        secret: str | None,
        find: Callable[[str], Awaitable[T | None]],
        *,
        is_key: bool = False,
    ) -> T | None:
        """What `find` has for a secret that was shown: a key, a session or a link; who guesses is slowed down.

        Who guesses beside others at one address slows none of them down: a key that is good and a session that was
        used before are looked up all the same.

        Raises:
            ApiError: 429, too many bad ones from this address.
        """
        if not secret:  # no guess
            return None
        address, now = self._client_address.address(request), self._clock.monotonic()
        shown = digest(secret)
        if self._failures.is_over(address, per_minute=MAX_FAILURES_PER_MINUTE, now=now) and not (
            await self._is_active(shown) if is_key else shown in self._sessions
        ):
            raise _too_fast("this address has shown too many bad API keys, sessions or links", FAILURE_RETRY_AFTER)
        found = await find(secret)
        self._sessions.pop(shown, None)
        if found is None:
            self._active.discard(shown)
            self._failures.wait(address, per_minute=MAX_FAILURES_PER_MINUTE, now=now)
        elif not is_key:
            self._sessions[shown] = None  # the last that was used
            if len(self._sessions) > MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
        return found

    async def _is_active(self, shown: bytes) -> bool:
        """Whether this is the digest of a key. They are read together, so that a flood costs a query a second."""
        now = self._clock.monotonic()
        if shown not in self._active and now - self._active_read >= ACTIVE_INTERVAL:
            self._active_read = now
            self._active = await self._keys.active_digests()
        return shown in self._active

    def count_request(self, key: ApiKey, *, refresh: bool = False) -> None:
        """Count a request of a key. `refresh`: an open page asks anew by itself; those have the same rate apart.

        Raises:
            ApiError: 429, it has made as many within a minute as it may.
        """
        now = self._clock.monotonic()
        if key.per_minute and (wait := self._rates.wait((key.id, refresh), per_minute=key.per_minute, now=now)):
            raise _too_fast(f"the key {key.name!r} may make {key.per_minute} requests a minute", wait)

    async def key_now(self, request: web.Request, call: Permission) -> ApiKey | None:
        """The key of a long request as it is now; None: it is revoked, or may not make the call any more."""
        key = await self._find(request.headers.get(HEADER, ""))
        return key if key is not None and key.may(call) else None

    async def _find(self, secret: str) -> ApiKey | None:
        wanted = digest(secret)
        key = await self._keys.active(wanted)
        # The query compares digests, so its timing says nothing about a key; this guards against a wrong row.
        return key if key is not None and hmac.compare_digest(key.digest, wanted) else None

    async def write_last_used(self) -> None:
        """Write last_used_at until cancelled, in a task of its own, so that no request waits for it."""
        while True:
            await self._used.wait()
            self._used.clear()
            ids, self._to_note = self._to_note, set()
            try:
                await self._keys.note_use(ids)
            except DatabaseError as error:  # the next use is written within a minute
                self._events.key_use_unwritten(keys=len(ids), cause=str(error))


def raw_path(request: web.Request) -> str:
    """A request's path as it came, for the log: decoded it may hold what a terminal obeys.

    One that names a recipient's address is shown as its pattern: whose mail is suppressed is for the table alone. So is
    a link that signs a person in: until its button is pressed, a reader of the log could press it.
    """
    resource = request.match_info.route.resource
    canonical = resource.canonical if resource else ""
    return canonical if canonical.endswith(_UNTOLD) else request.rel_url.raw_path


def _too_fast(message: str, wait: float) -> ApiError:
    return ApiError(429, "too_fast", message, retry_after=max(1, math.ceil(wait)))
