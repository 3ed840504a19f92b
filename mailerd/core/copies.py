"""Copies of a message: who gets one by Cc or Bcc, what they cost of the sender's day, how a row
keeps them.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Final, Literal, NamedTuple

from mailerd.core.rate_limit import CONSUMER_DOMAINS
from mailerd.core.suppression import canonical

# https://support.google.com/a/answer/166852: 100 addresses of a message; 2,000 messages, 10,000
# addresses, 3,000 external ones and 2,000 unique external ones of a day. Of a consumer mailbox 500
# addresses a day.
MAX_COPIES: Final = 10
"""The most addresses of Cc, and of Bcc."""
MAX_COST: Final = 1 + 2 * MAX_COPIES
"""The most messages of a day as which one counts."""
_ADDRESSES_PER_MESSAGE: Final = 5
"""How many addresses Google's day allows for each of its messages."""
FORGOTTEN: Final = "forgotten@example.invalid"
"""What the statement of docs/how-to/security.md leaves of a copy's address: it gets no copy."""

Header = Literal["cc", "bcc"]


class Copy(NamedTuple):
    """Who gets a copy of a message."""

    header: Header
    email: str
    name: str | None = None
    digest: bytes = b""
    """The digest of the address, by which suppressions are found; a claim makes it."""


def cost(copies: Iterable[Copy], *, sender: str) -> int:
    """How many messages of the sender's day a message to one recipient and these copies counts as;
    1 without copies.

    A consumer mailbox is charged by the address. In Workspace each copy outside the sender's domain
    counts as a message, and so do five addresses of any kind: whatever the messages are, all of
    Google's limits are kept.
    """
    domain = _domain(sender)
    domains = [_domain(each.email) for each in copies]
    if domain in CONSUMER_DOMAINS:
        return 1 + len(domains)
    outside = sum(it != domain for it in domains)
    return max(1 + outside, -(-(1 + len(domains)) // _ADDRESSES_PER_MESSAGE))


def _domain(address: str) -> str:
    return canonical(address).rpartition("@")[2]


def once_each(to: str, copies: Sequence[Copy]) -> tuple[Copy, ...]:
    """The copies without an address that the message has already: To wins over Cc, and Cc over
    Bcc.
    """
    seen, kept = {canonical(to)} if to else set[str](), list[Copy]()
    for each in sorted(copies, key=lambda it: it.header == "bcc"):
        if (mailbox := canonical(each.email)) not in seen:
            seen.add(mailbox)
            kept.append(each)
    return tuple(kept)


def to_json(copies: Iterable[Copy]) -> str:
    """The copies as a row keeps them: column `copy_list`."""
    listed = [
        {"header": it.header, "email": it.email, **({"name": it.name} if it.name else {})}
        for it in copies
    ]
    return json.dumps(listed, ensure_ascii=False, separators=(",", ":"))


def from_json(text: str | None) -> tuple[Copy, ...]:
    """What `to_json` has written, without people who were forgotten."""
    if not text:
        return ()
    return tuple(
        Copy(it["header"], it["email"], it.get("name"))
        for it in json.loads(text)
        if it["email"] != FORGOTTEN
    )


def without(copies: Iterable[Copy], addresses: Collection[str]) -> tuple[Copy, ...]:
    """The copies to other addresses than these."""
    return tuple(it for it in copies if it.email not in addresses)
