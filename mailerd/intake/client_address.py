"""Where a request comes from, and how often it may: addresses behind proxies, and counting by the minute."""

import ipaddress
from collections.abc import Hashable
from typing import Final

from aiohttp import web

MINUTE: Final = 60.0
_MAX_BUCKETS: Final = 10_000
_MAPPED_PREFIX: Final = 96
"""Bits of ::ffff:0:0/96, behind which an IPv4 address stands."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ClientAddress:
    """Tells the address of a request's sender; `trusted` are proxies whose X-Forwarded-For is believed."""

    def __init__(self, trusted: tuple[Network, ...]) -> None:
        self._trusted = trusted

    def address(self, request: web.Request) -> str:
        """The nearest address that is not a trusted proxy's; "unix" for a socket file without a proxy's word."""
        peer = _plain(request.remote or "")
        if peer and not self._is_trusted(peer):
            return peer
        if not peer and not self._trusted:
            return "unix"
        # Each proxy adds its peer at the end: what stands left of the first stranger is only his word.
        hops = [
            _plain(hop.strip()) for line in request.headers.getall("X-Forwarded-For", ()) for hop in line.split(",")
        ]
        for hop in reversed(hops):
            if not self._is_trusted(hop):
                return hop if _is_address(hop) else peer or "unix"
        return peer or "unix"

    def _is_trusted(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._trusted)


def _plain(address: str) -> str:
    """An IPv4 address that is mapped into IPv6 (RFC 4291, 2.5.5.2), as a socket for both shows it, in its own form."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped) if mapped else address


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


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
    """A bucket per whoever is counted: it holds one minute's worth, and fills steadily."""

    def __init__(self) -> None:
        self._buckets: dict[Hashable, tuple[float, float]] = {}

    def wait(self, who: Hashable, *, per_minute: int, now: float) -> float:
        """Seconds until `who` may come again; 0.0, and it is counted, when that is now."""
        left, at = self._buckets.get(who, (float(per_minute), now))
        left = min(float(per_minute), left + (now - at) * per_minute / MINUTE)
        if left < 1.0:
            self._buckets[who] = (left, now)
            return (1.0 - left) * MINUTE / per_minute
        self._forget(now)
        self._buckets[who] = (left - 1.0, now)
        return 0.0

    def is_over(self, who: Hashable, *, per_minute: int, now: float) -> bool:
        """Whether nothing is left; it counts nothing."""
        left, at = self._buckets.get(who, (float(per_minute), now))
        return left + (now - at) * per_minute / MINUTE < 1.0

    def _forget(self, now: float) -> None:
        """A bucket that nobody took from for a minute is full again, and need not be known."""
        if len(self._buckets) >= _MAX_BUCKETS:
            self._buckets = {who: it for who, it in self._buckets.items() if now - it[1] < MINUTE}
