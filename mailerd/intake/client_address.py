"""The address of a client, behind proxies as well, and token buckets that limit requests per minute."""

import ipaddress
from collections.abc import Hashable
from typing import Final

from aiohttp import web

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
