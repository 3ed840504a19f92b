"""Who asks, and how much they may: the address of a client, its API key, the rate and the shares of
a key.
"""

import asyncio
import hmac
import ipaddress
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from contextvars import ContextVar
from typing import Final

from aiohttp import web

from mailerd.clock import Clock
from mailerd.config import IntakeSettings
from mailerd.core.i18n import Text, t
from mailerd.errors import DatabaseError
from mailerd.events.intake import IntakeEvents
from mailerd.http.errors import ApiError, unstored
from mailerd.http.responses import CHALLENGE, RATE_LIMIT, RETRY_AFTER, RateLimit, RowPace
from mailerd.store.write.api_keys import ApiKey, ApiKeys, Permission, digest

# The address of a client, behind proxies as well, token buckets by it, and what the log hears of
# strangers.

MINUTE: Final = 60.0
_MAX_BUCKETS: Final = 10_000
_MAPPED_PREFIX: Final = 96
"""Bits of ::ffff:0:0/96, behind which an IPv4 address stands."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ClientAddress:
    """Finds the address of a client; `trusted` are the proxies whose X-Forwarded-For counts."""

    def __init__(self, trusted: tuple[Network, ...]) -> None:
        self._trusted = trusted

    def address(self, request: web.Request) -> str:
        """The nearest address that is not a trusted proxy's; "unix" for a socket file without a
        proxy's header.
        """
        peer = _read(request.remote or "")
        own = str(peer) if peer else "unix"
        if not (self._is_trusted(peer) if peer else self._trusted):
            return own
        # Each proxy adds its peer at the end: what is left of the first address that is not trusted
        # may be forged.
        hops = [
            hop.strip()
            for line in request.headers.getall("X-Forwarded-For", ())
            for hop in line.split(",")
        ]
        for hop in map(_read, reversed(hops)):
            if hop is None:
                return own
            if not self._is_trusted(hop):
                return str(hop)
        return own

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _read(text: str) -> Address | None:
    """An address; one of IPv4 that is mapped into IPv6 (RFC 4291, 2.5.5.2), as a socket for both
    shows it, plainly.
    """
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None) or found


def networks(listed: str) -> tuple[Network, ...]:
    """Addresses and networks, separated by commas.

    Raises:
        ValueError: one of them is neither.
    """
    return tuple(
        _unmapped(ipaddress.ip_network(each.strip(), strict=False))
        for each in listed.split(",")
        if each.strip()
    )


def _unmapped(network: Network) -> Network:
    """A network of mapped addresses as the network of what they map."""
    mapped = (
        network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    )
    if mapped is None or network.prefixlen < _MAPPED_PREFIX:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX))


class TokenBuckets:
    """One bucket for each key or address: it holds the requests of one minute and fills
    steadily.
    """

    def __init__(self) -> None:
        self._buckets: dict[Hashable, tuple[float, float]] = {}
        self._forgotten = -MINUTE

    def wait(self, who: Hashable, *, per_minute: int, now: float) -> float:
        """Take a token; returns 0.0, or, when there is none, the seconds until there will be
        one.
        """
        left = self.left(who, per_minute=per_minute, now=now)
        if left < 1.0:
            self._buckets[who] = (left, now)
            return (1.0 - left) * MINUTE / per_minute
        self._forget(now)
        self._buckets[who] = (left - 1.0, now)
        return 0.0

    def left(self, who: Hashable, *, per_minute: int, now: float) -> float:
        """The tokens that are there, and the part of the next one; takes none."""
        left, at = self._buckets.get(who, (float(per_minute), now))
        return min(float(per_minute), left + (now - at) * per_minute / MINUTE)

    def _forget(self, now: float) -> None:
        """Delete buckets that were not used for a minute: they are full again.

        Once a minute, not at each new one: a stranger has as many addresses of IPv6 as he likes.
        """
        if len(self._buckets) >= _MAX_BUCKETS and now - self._forgotten >= MINUTE:
            self._forgotten = now
            self._buckets = {who: it for who, it in self._buckets.items() if now - it[1] < MINUTE}


# What is logged of clients without a key: some requests a minute of each address, and the number of
# the others.
#
# Such a client costs the log more bytes than it sends. What has a key, and whatever concerns a
# message, is always logged.

PER_MINUTE: Final = 60
"""Requests of one address that are logged one by one: so many at once, and then one a second."""
TOGETHER: Final = 600
"""Requests of all addresses together that are logged one by one: so many at once, and then ten a
second.
"""
SUMMARY_INTERVAL: Final = 10.0
"""Seconds until those that were not logged are counted in one line."""
_DECIDED: Final = ContextVar[bool | None]("decided", default=None)
"""Whether the request that is being answered is logged; None: not asked yet."""


class StrangerLog:
    """Decides what is logged, and counts the rest."""

    def __init__(self, *, events: IntakeEvents, clock: Clock) -> None:
        self.events: Final = events
        self._clock = clock
        self._buckets = TokenBuckets()
        self._together = TokenBuckets()
        self._left_out: Counter[str] = Counter()
        self._telling: asyncio.TimerHandle | None = None

    @staticmethod
    def begin() -> None:
        """A request has come."""
        _DECIDED.set(None)

    def logs_request(self, address: str) -> bool:
        """Whether the request that is being answered is logged, all lines of it alike."""
        if (decided := _DECIDED.get()) is None:
            decided = self.logs(address)
            _DECIDED.set(decided)
        return decided

    def logs(self, address: str) -> bool:
        """Whether one more line about this address is written; else it is counted."""
        now = self._clock.monotonic()
        if not self._buckets.wait(
            address, per_minute=PER_MINUTE, now=now
        ) and not self._together.wait("", per_minute=TOGETHER, now=now):
            return True
        self._left_out[address] += 1
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(
                SUMMARY_INTERVAL, self.log_summary
            )
        return False

    def log_summary(self) -> None:
        """Say how many were left out since it was said last."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._left_out:
            ((address, most),) = self._left_out.most_common(1)
            self.events.requests_not_logged(
                count=self._left_out.total(),
                addresses=len(self._left_out),
                address=address,
                most=most,
            )
            self._left_out.clear()


# Limits for each API key: how much work of one kind it may have under way, so that it delays no
# other key.
#
# A share is a number of places for one kind of work. A key may hold some of them; its further
# requests wait behind its own work. There are more places than any one key may hold, so another key
# always finds one.

LARGE_BODY: Final = 1024 * 1024
"""A body of more bytes takes a place for large bodies before it is read."""
SHARE_TIMEOUT: Final = 30.0
"""Seconds that a request waits for a place: less than any proxy waits for an answer."""
_DRY_RUN: Final = re.compile(rb'"dry_run"\s*:\s*true')


class KeyShare:
    """The places for one kind of work (`what`, in the plural).

    `per_key`: places that one key may hold at once. `keys`: how many keys with all of their places
    there is room for. `within`: seconds that a request waits for a place; 0: not at all. `setting`:
    where an operator changes it.
    """

    def __init__(self, what: str, *, per_key: int, keys: int, within: float, setting: str) -> None:
        self.places = per_key * keys
        self._what = what
        self.per_key = per_key
        self.within = within
        self.setting = setting
        self._held: Counter[int] = Counter()
        self._line: list[tuple[int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def place(self, key: ApiKey) -> AsyncIterator[None]:
        """Hold one of the places.

        Raises:
            ApiError: 429, the key holds its share and none of it came free in time; 503, others
            hold all.
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
        if not self.within:
            raise self._refusal(key)
        turn = asyncio.get_running_loop().create_future()
        self._line.append((key.id, turn))
        try:
            async with asyncio.timeout(self.within):
                await turn
        except BaseException as error:
            # the place came at the moment at which the wait ended
            if turn.done() and not turn.cancelled():
                self._give_back(key.id)
            self._line = [one for one in self._line if one[1] is not turn]
            if isinstance(error, TimeoutError):
                raise self._refusal(key) from None
            raise

    def _may_take(self, key_id: int) -> bool:
        return self._held[key_id] < self.per_key and self._held.total() < self.places

    def _give_back(self, key_id: int) -> None:
        self._held[key_id] -= 1
        self._held += Counter()  # drops the keys that hold nothing
        while waiting := [
            one for one in self._line if not one[1].done() and self._may_take(one[0])
        ]:
            # The key that holds the fewest places comes first; of several, the one that has waited
            # longest.
            key_id, turn = min(waiting, key=lambda one: self._held[one[0]])
            self._line = [one for one in self._line if one[1] is not turn]
            self._held[key_id] += 1
            turn.set_result(None)

    def _refusal(self, key: ApiKey) -> ApiError:
        if self._held[key.id] < self.per_key:
            return ApiError(
                503,
                "busy",
                unstored(
                    t(
                        "all {places} places for {what} are taken; try again",
                        places=self.places,
                        what=self._what,
                    )
                ),
                retry_after=RETRY_AFTER,
            )
        return ApiError(
            429,
            "share_used_up",
            unstored(
                t(
                    "key {name!r} has reached its share of concurrent {what}: {per_key} ({setting}); try again",
                    name=key.name,
                    per_key=self.per_key,
                    what=self._what,
                    setting=self.setting,
                )
            ),
            retry_after=RETRY_AFTER,
        )


class KeyShares:
    """All shares of one daemon."""

    def __init__(self, settings: IntakeSettings, clock: Clock | None = None) -> None:
        def share(
            what: Text, setting: str, *, keys: int, within: float = SHARE_TIMEOUT
        ) -> KeyShare:
            per_key: int = getattr(settings, setting)
            return KeyShare(
                what, per_key=per_key, keys=keys, within=within, setting=f"intake.{setting}"
            )

        self.posts = share(t("posts"), "posts_per_key", keys=5, within=0)
        self.checks = share(t("checks of recipients"), "checks_per_key", keys=2)
        self.large_bodies = share(t("bodies above 1 MiB"), "large_bodies_per_key", keys=2)
        self.dry_runs = share(t("dry runs"), "dry_runs_per_key", keys=2)
        self.downloads = share(t("CSV downloads"), "downloads_per_key", keys=2)
        self.rows = RowPace(clock or Clock())
        self.reads = share(t("reads"), "reads_per_key", keys=5)
        self.streams = share(t("event streams"), "streams_per_key", keys=5, within=0)
        one = t("one at a time")
        # seconds
        self.webhook_calls = KeyShare(
            t("webhook tests or replays"), per_key=1, keys=4, within=0, setting=one
        )
        self.drafts = KeyShare(
            t("pages of drafts"), per_key=1, keys=8, within=SHARE_TIMEOUT, setting=one
        )

    def for_check(
        self, body: bytearray, key: ApiKey, *, dry_run: bool = False
    ) -> AbstractAsyncContextManager[None]:
        """The place in which a body is checked; a large one has its place already.

        `dry_run`: the path says so.

        A dry run by its field is recognised by how it is usually written. One that is written
        otherwise takes a place for checks, of which its key has no more than any other.
        """
        if len(body) > LARGE_BODY:
            return nullcontext()
        return (self.dry_runs if dry_run or _DRY_RUN.search(body) else self.checks).place(key)


# Authenticates requests by their API key, looked up for each one so that revoking works at once.

HEADER: Final = "X-API-Key"
BEARER: Final = "bearer"
"""The scheme of `Authorization` that has an API key, too (RFC 6750)."""
_UNTOLD: Final = ("/suppressions/{email}", "/login/{secret}")
"""How the paths end that the log shows as their patterns."""
MAX_SESSIONS: Final = 1000
"""Digests of sessions that were valid, kept in memory."""
ACTIVE_INTERVAL: Final = 1.0
"""The least seconds between two reads of the digests of all keys."""
KEY_USE_INTERVAL: Final = 60.0
"""Seconds between two writes of one key's last_used_at."""
MAX_FAILURES_PER_MINUTE: Final = 60
"""Invalid keys, sessions and links from one address in a minute; beyond that it gets 429 without a
query. A good key and a session that was used before are looked up all the same: many clients may
share one address.
"""
FAILURE_RETRY_AFTER: Final = 10.0
"""Seconds until such an address may try again."""
KeyHandler = Callable[[web.Request, ApiKey], Awaitable[web.StreamResponse]]
"""An endpoint that gets the key of its request, too."""
CALLER: Final = ContextVar[str]("caller", default="")
"""Name of the key of the current request: it was verified, or it was before and the database is
unavailable now.
"""


class ApiKeyAuth:
    """Finds the API key of a request, and checks what it may do and how often."""

    def __init__(
        self, keys: ApiKeys, *, trusted_proxies: str, events: IntakeEvents, clock: Clock
    ) -> None:
        self._keys = keys
        self.client_address: Final = ClientAddress(networks(trusted_proxies))
        self.strangers: Final = StrangerLog(events=events, clock=clock)
        self._events = events
        self._clock = clock
        self._rates = TokenBuckets()
        self._failures = TokenBuckets()
        self._active = set[bytes]()
        """Digests of the keys, as they were read last while an address was above its limit."""
        self._active_read = -math.inf
        self._sessions: dict[bytes, None] = {}
        """Digests of sessions and links that were good, the one that was used last at the end."""
        self._verified: dict[bytes, str] = {}
        """The names of keys by their digests, as they were when each was used last: all that the
        log can say of a request while the database is unavailable.
        """
        self._noted: dict[int, float] = {}
        self._to_note: set[int] = set()
        self._used = asyncio.Event()

    async def authenticate(self, request: web.Request, call: Permission | None) -> ApiKey:
        """The key of a request; `call` None: whatever it may do.

        Raises:
            ApiError: 401, there is none, it is unknown or it is revoked; 403, it may not make this
            call;
                429, too many requests, or too many invalid keys from its address.
        """
        key = await self.check_secret(request, shown_key(request))
        CALLER.set(key.name)
        self.count_request(key)
        if call is not None and not key.may(call):
            raise ApiError(
                403,
                "call_not_allowed",
                t(
                    "key {name!r} has the permissions {allowed}; this call needs {value}",
                    name=key.name,
                    allowed=", ".join(key.granted),
                    value=call.value,
                ),
            )
        self.note_use(key)
        return key

    def is_logged(self, request: web.Request) -> bool:
        """Whether the log tells of a request: of each one whose key was verified, now or before,
        and of some others.
        """
        return bool(CALLER.get()) or self.strangers.logs_request(
            self.client_address.address(request)
        )

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
            ApiError: 401, there is none, it is unknown or it is revoked; 429, too many bad ones
            from this address.
        """
        try:
            key = await self.look_up(request, secret, self._find, is_key=True)
        except DatabaseError:
            CALLER.set(self._verified.get(digest(secret or ""), ""))
            raise
        if key is None:
            if self.is_logged(request):
                address = self.client_address.address(request)
                self._events.key_refused(
                    address=address, method=request.method, path=raw_path(request)
                )
            if not secret:
                raise ApiError(401, "unauthorized", _NO_KEY)
            raise ApiError(
                401, "unauthorized", t("this API key is unknown or revoked"), challenge=_INVALID
            )
        self._verified[key.digest] = key.name
        return key

    async def look_up[T](
        self,
        request: web.Request,
        secret: str | None,
        find: Callable[[str], Awaitable[T | None]],
        *,
        is_key: bool = False,
    ) -> T | None:
        """What `find` has for a secret that was shown: a key, a session or a link; who guesses is
        slowed down.

        Who guesses beside others at one address slows none of them down: a key that is good and a
        session that was used before are looked up all the same.

        Raises:
            ApiError: 429, too many bad ones from this address.
        """
        if not secret:  # no guess
            return None
        address, now = self.client_address.address(request), self._clock.monotonic()
        shown = digest(secret)
        guesses = self._failures.left(address, per_minute=MAX_FAILURES_PER_MINUTE, now=now)
        if guesses < 1 and not (
            await self._is_active(shown) if is_key else shown in self._sessions
        ):
            raise _too_fast(
                t("too many invalid API keys, sessions or links from this address"),
                FAILURE_RETRY_AFTER,
            )
        found = await find(secret)
        self._sessions.pop(shown, None)
        self._verified.pop(shown, None)
        if found is None:
            self._active.discard(shown)
            self._failures.wait(address, per_minute=MAX_FAILURES_PER_MINUTE, now=now)
        elif not is_key:
            self._sessions[shown] = None  # the last that was used
            if len(self._sessions) > MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
        return found

    async def _is_active(self, shown: bytes) -> bool:
        """Whether this is the digest of a key.

        They are read together, so that a flood costs a query a second.
        """
        now = self._clock.monotonic()
        if shown not in self._active and now - self._active_read >= ACTIVE_INTERVAL:
            self._active_read = now
            self._active = await self._keys.active_digests()
        return shown in self._active

    def count_request(self, key: ApiKey, *, refresh: bool = False) -> None:
        """Count a request of a key.

        `refresh`: an open page asks anew by itself; those have the same rate apart.

        Raises:
            ApiError: 429, it has made as many within a minute as it may.
        """
        if not key.per_minute:
            return
        who, per_minute, now = (key.id, refresh), key.per_minute, self._clock.monotonic()
        wait = self._rates.wait(who, per_minute=per_minute, now=now)
        left = self._rates.left(who, per_minute=per_minute, now=now)
        until_full = (per_minute - left) * MINUTE / per_minute
        until_next = (1 - left) * MINUTE / per_minute
        seconds = math.ceil(until_next if left < 1 else until_full)
        RATE_LIMIT.set(
            RateLimit("refresh" if refresh else "default", per_minute, int(left), seconds)
        )
        if wait:
            raise _too_fast(
                t(
                    "key {name!r} is limited to {per_minute} requests per minute",
                    name=key.name,
                    per_minute=key.per_minute,
                ),
                wait,
            )

    async def key_now(self, request: web.Request, call: Permission) -> ApiKey | None:
        """The key of a long request as it is now; None: it is revoked, or may not make the call any
        more.
        """
        key = await self._find(shown_key(request))
        return key if key is not None and key.may(call) else None

    async def _find(self, secret: str) -> ApiKey | None:
        wanted = digest(secret)
        key = await self._keys.active(wanted)
        # The query compares digests, so its timing says nothing about a key; this guards against a
        # wrong row.
        return key if key is not None and hmac.compare_digest(key.digest, wanted) else None

    async def write_last_used(self) -> None:
        """Write last_used_at until cancelled, in a task of its own, so that no request waits for
        it.
        """
        while True:
            await self._used.wait()
            self._used.clear()
            ids, self._to_note = self._to_note, set()
            try:
                await self._keys.note_use(ids)
            except DatabaseError as error:  # the next use is written within a minute
                self._events.key_use_unwritten(keys=len(ids), cause=str(error))


_INVALID: Final = f'{CHALLENGE}, error="invalid_token"'
_NO_KEY: Final = t(
    "there is no API key: send it in {header} or as `Authorization: Bearer`; `mailerd keys create` creates one",
    header=HEADER,
)


def shown_key(request: web.Request) -> str:
    """The API key that a request shows, in its own header or as a bearer token; "": none.

    Raises:
        ApiError: 401, it shows different ones: a proxy before mailerd might have checked the other
        one.
    """
    shown = set(request.headers.getall(HEADER, ()))
    for each in request.headers.getall("Authorization", ()):
        scheme, _, secret = each.partition(" ")
        if scheme.lower() == BEARER:
            shown.add(secret.strip())
    shown.discard("")
    if len(shown) > 1:
        raise ApiError(
            401,
            "unauthorized",
            t("the request shows several API keys; send one"),
            challenge=_INVALID,
        )
    return shown.pop() if shown else ""


def events_of(key: ApiKey, given: Collection[str] | None) -> list[str] | None:
    """The senders whose events a key's endpoint hears: those that are given, or all that the key
    may use.

    Raises:
        ApiError: 403, the key may not use one of them.
    """
    if key.senders is None:
        return None if given is None else sorted(given)
    if given is not None and not key.senders >= set(given):
        text = t(
            "key {name!r} may not receive events of {join}",
            name=key.name,
            join=", ".join(sorted(given)),
        )
        raise ApiError(403, "sender_not_allowed", text)
    return sorted(key.senders if given is None else given)


def raw_path(request: web.Request) -> str:
    """A request's path as it came, for the log: decoded it may hold what a terminal obeys.

    One that names a recipient's address is shown as its pattern: whose mail is suppressed is for
    the table alone. So is a link that signs a person in: until its button is pressed, a reader of
    the log could press it.
    """
    resource = request.match_info.route.resource
    canonical = resource.canonical if resource else ""
    return canonical if canonical.endswith(_UNTOLD) else request.rel_url.raw_path


def _too_fast(message: str, wait: float) -> ApiError:
    return ApiError(429, "too_fast", message, retry_after=max(1, math.ceil(wait)))
