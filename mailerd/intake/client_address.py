"""The address of a client, behind proxies as well, token buckets by it, and what the log hears of strangers."""

import asyncio
import ipaddress
import logging
import re
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, override

from aiohttp import web
from aiohttp.http import HttpProcessingError

from mailerd.clock import Clock
from mailerd.events.intake import IntakeEvents

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
        """The nearest address that is not a trusted proxy's; "unix" for a socket file without a proxy's header."""
        peer = _read(request.remote or "")
        own = str(peer) if peer else "unix"
        if not (self._is_trusted(peer) if peer else self._trusted):
            return own
        # Each proxy adds its peer at the end: what is left of the first address that is not trusted may be forged.
        hops = [hop.strip() for line in request.headers.getall("X-Forwarded-For", ()) for hop in line.split(",")]
        for hop in map(_read, reversed(hops)):
            if hop is None:
                return own
            if not self._is_trusted(hop):
                return str(hop)
        return own

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _read(text: str) -> Address | None:
    """An address; one of IPv4 that is mapped into IPv6 (RFC 4291, 2.5.5.2), as a socket for both shows it, plainly."""
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
        _unmapped(ipaddress.ip_network(each.strip(), strict=False)) for each in listed.split(",") if each.strip()
    )


def _unmapped(network: Network) -> Network:
    """A network of mapped addresses as the network of what they map."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is None or network.prefixlen < _MAPPED_PREFIX:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX))


class TokenBuckets:
    """One bucket for each key or address: it holds the requests of one minute and fills steadily."""

    def __init__(self) -> None:
        self._buckets: dict[Hashable, tuple[float, float]] = {}
        self._forgotten = -MINUTE

    def wait(self, who: Hashable, *, per_minute: int, now: float) -> float:
        """Take a token; returns 0.0, or, when there is none, the seconds until there will be one."""
        left, at = self._buckets.get(who, (float(per_minute), now))
        left = min(float(per_minute), left + (now - at) * per_minute / MINUTE)
        if left < 1.0:
            self._buckets[who] = (left, now)
            return (1.0 - left) * MINUTE / per_minute
        self._forget(now)
        self._buckets[who] = (left - 1.0, now)
        return 0.0

    def is_over(self, who: Hashable, *, per_minute: int, now: float) -> bool:
        """Whether there is no token; takes none."""
        left, at = self._buckets.get(who, (float(per_minute), now))
        return left + (now - at) * per_minute / MINUTE < 1.0

    def _forget(self, now: float) -> None:
        """Delete buckets that were not used for a minute: they are full again.

        Once a minute, not at each new one: a stranger has as many addresses of IPv6 as he likes.
        """
        if len(self._buckets) >= _MAX_BUCKETS and now - self._forgotten >= MINUTE:
            self._forgotten = now
            self._buckets = {who: it for who, it in self._buckets.items() if now - it[1] < MINUTE}


# What is logged of clients without a key: some requests a minute of each address, and the number of the others.
#
# Such a client costs the log more bytes than it sends. What has a key, and whatever concerns a letter, is always
# logged.

PER_MINUTE: Final = 60
"""Requests of one address that are logged one by one: so many at once, and then one a second."""
TOGETHER: Final = 600
"""Requests of all addresses together that are logged one by one: so many at once, and then ten a second."""
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
        if not self._buckets.wait(address, per_minute=PER_MINUTE, now=now) and not self._together.wait(
            "", per_minute=TOGETHER, now=now
        ):
            return True
        self._left_out[address] += 1
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(SUMMARY_INTERVAL, self.log_summary)
        return False

    def log_summary(self) -> None:
        """Say how many were left out since it was said last."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._left_out:
            ((address, most),) = self._left_out.most_common(1)
            self.events.requests_not_logged(
                count=self._left_out.total(), addresses=len(self._left_out), address=address, most=most
            )
            self._left_out.clear()


_MAX_REASON: Final = 200
_WHAT_WAS_SENT: Final = re.compile(r":?\s*\n|: b'|: bytearray\(")
"""Where aiohttp begins to quote the request, which may hold an API key."""


@contextmanager
def server_log(strangers: StrangerLog, *, name: str) -> Iterator[logging.Logger]:
    """The logger for aiohttp's server; while the context lasts, its records become events. `name`: one a listener.

    At the end it is said how many were left out.
    """
    log, logger = _ServerLog(strangers), logging.getLogger(name)
    logger.setLevel(logging.DEBUG)  # aiohttp reports bytes that are no HTTP at this level
    logger.propagate = False
    logger.addHandler(log)
    try:
        yield logger
    finally:
        logger.removeHandler(log)
        strangers.log_summary()


class _ServerLog(logging.Handler):
    def __init__(self, strangers: StrangerLog) -> None:
        super().__init__()
        self._strangers = strangers

    @override
    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            address = str((record.args[0] if isinstance(record.args, tuple) and record.args else None) or "unix")
            if self._strangers.logs(address):
                self._strangers.events.request_malformed(address=address, reason=_reason(error))
        elif record.levelno >= logging.WARNING:
            what = record.getMessage()
            self._strangers.events.connection_failed(what=what, error=error or RuntimeError(what))


def _reason(error: HttpProcessingError) -> str:
    return _WHAT_WAS_SENT.split(error.message.strip(), maxsplit=1)[0][:_MAX_REASON] or type(error).__name__
