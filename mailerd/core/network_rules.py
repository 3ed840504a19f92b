"""Which addresses a request to a URL that a client gave may go to; pure, so that every form can be
tested.

A caller names a URL, and mailerd stands inside the operator's network: without these rules the URL
would be a way to the operator's own services (server-side request forgery) and to a cloud's
metadata, which hands out credentials.
"""

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from mailerd.core.i18n import t

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

NEVER: Final = tuple(
    ip_network(each)
    for each in (
        "169.254.0.0/16",  # link-local (RFC 3927); 169.254.169.254 is the metadata of most clouds
        "fe80::/10",  # link-local (RFC 4291)
        "fd00:ec2::254/128",  # AWS metadata over IPv6 (EC2 user guide, "Use IMDS")
        "fd20:ce::254/128",  # Google Cloud metadata over IPv6 (Compute Engine, "About VM metadata")
        "100.100.100.200/32",  # Alibaba Cloud metadata (ECS, "Instance metadata")
        "192.0.0.192/32",  # Oracle Cloud metadata of classic instances
        # Azure's platform address (Azure, "What is IP address 168.63.129.16?"); it is public
        "168.63.129.16/32",
        "0.0.0.0/8",  # this host (RFC 1122)
        "::/128",
        "255.255.255.255/32",
    )
)
"""Addresses that no setting opens."""
_NAT64: Final = ip_network("64:ff9b::/96")  # RFC 6052
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")  # RFC 8215: translators of one's own
_LOCAL_PLACES: Final = ((6, 7, 9, 10), (7, 9, 10, 11), (9, 10, 11, 12), (12, 13, 14, 15))
"""Where an IPv4 address stands behind a prefix of 48, 56, 64 and 96 bits (RFC 6052, section 2.2),
in bytes.
"""
# IPv4-translated addresses (RFC 2765); Python calls them global
_TRANSLATED: Final = ip_network("::ffff:0:0:0/96")
_COMPATIBLE: Final = ip_network("::/96")  # IPv4-compatible addresses, deprecated by RFC 4291
_SITE_LOCAL: Final = ip_network("fec0::/10")  # deprecated by RFC 3879; Python calls it global
_ISATAP: Final = frozenset({0x0000_5EFE, 0x0200_5EFE})  # RFC 5214, in front of the IPv4 address
_ZERO: Final = IPv4Network("0.0.0.0/8")
_NUMERIC: Final = re.compile(
    r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}\.?", re.ASCII | re.IGNORECASE
)
"""What the C library takes for an IPv4 address: decimal, octal and hexadecimal parts, one to four
of them.
"""


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine and no other."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """The name in a header `Host`, without its port.

    Raises:
        ValueError: it is none.
    """
    return (urlsplit(f"//{header}").hostname or "").lower()


def is_own_host(header: str, names: Container[str]) -> bool:
    """Whether a browser that sends this header `Host` came by a name of ours: localhost, or one of
    `names`.

    A stranger's page can let its own name lead to this address (DNS rebinding), and then reads what
    it asks for. It cannot be an address, which has no owner.
    """
    try:
        host = host_of(header)
        return host == "localhost" or host in names or bool(ip_address(host))
    except ValueError:
        return False


@dataclass(frozen=True)
class NetworkRules:
    """What is allowed beside https to the public Internet."""

    allow_http: bool = False
    ports: frozenset[int] = frozenset({443, 8443})
    """The ports that may be used; empty: every port."""
    allow_networks: tuple[Network, ...] = ()
    """Networks that are not public, and may be reached all the same."""

    def refusal(self, address: str) -> str:
        """Why no connection to this IP address is allowed; "" where it is.

        An address that stands for another one (IPv4-mapped, 6to4, NAT64, Teredo, ISATAP) is judged
        by that one too.
        """
        try:
            given = ip_address(address)
        except ValueError:
            return t("{address} is not an IP address", address=address)
        hidden = list(_embedded(given))
        for each in (given, *hidden):
            if any(each in network for network in NEVER if each.version == network.version):
                return t(
                    "{given} is link-local, a cloud metadata address or not a host address",
                    given=_named(given, each),
                )
        judged: list[Address] = (
            [*hidden, given] if given in _LOCAL_NAT64 or not hidden else [*hidden]
        )
        for each in judged:
            if not (_is_public(each) or self._is_allowed(each)):
                return t("{given} is not a public address", given=_named(given, each))
        return ""

    def _is_allowed(self, address: Address) -> bool:
        return any(
            address in network
            for network in self.allow_networks
            if network.version == address.version
        )

    def refusal_of_url(self, scheme: str, host: str, port: int, *, user: bool) -> str:
        """Why no request to this URL is made; "" where nothing speaks against it.

        A name is not resolved here.

        `host`: without brackets; `port`: the scheme's own where the URL names none; `user`: it has
        a user or password.
        """
        if scheme != "https" and not (self.allow_http and scheme == "http"):
            return t("it must start with https:// (webhooks.allow_http = true allows http://)")
        if user:
            return t("it must not contain a user or a password")
        if not host:
            return t("it has no host")
        if self.ports and port not in self.ports:
            return t(
                "port {port} is not allowed; allowed: {join} (webhooks.ports)",
                port=port,
                join=", ".join(map(str, sorted(self.ports))),
            )
        if ":" in host or _is_dotted(host):
            return self.refusal(host)
        if _NUMERIC.fullmatch(host):
            return t("{host} is a number, not a host name", host=host)
        return ""


def _is_dotted(host: str) -> bool:
    try:
        return bool(IPv4Address(host))
    except ValueError:
        return False


def _is_public(address: Address) -> bool:
    return address.is_global and not address.is_multicast and address not in _SITE_LOCAL


def _embedded(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that packets to this one end at."""
    if isinstance(address, IPv4Address):
        return
    if address.ipv4_mapped:
        yield address.ipv4_mapped
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo
    if address in _LOCAL_NAT64:
        yield from _behind_local_prefix(address)
    last = IPv4Address(int(address) & 0xFFFF_FFFF)
    if int(last) <= 1:  # :: and ::1 are addresses of their own
        return
    in_last = any(address in each for each in (_NAT64, _COMPATIBLE, _TRANSLATED))
    if in_last or (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        yield last


def _behind_local_prefix(address: IPv6Address) -> Iterator[IPv4Address]:
    """What it may stand for, since only the network itself knows how long its prefix is."""
    for places in _LOCAL_PLACES:
        found = IPv4Address(bytes(address.packed[each] for each in places))
        if found not in _ZERO:
            yield found


def _named(given: Address, meant: Address) -> str:
    return str(given) if given == meant else f"{given} ({meant})"
