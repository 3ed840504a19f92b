"""Whose a template or a list is: the senders of who made it.

None is everybody's, as a key for all senders is.
"""

import json
from typing import Final

type Owners = frozenset[str] | None
MAX_OWN: Final = 100
"""The most templates, and lists, of senders that one limited key sees whole: others find a place of
all, too.
"""


def sees(key: Owners, owners: Owners) -> bool:
    """Whether a key for these senders sees and uses what is theirs, or everybody's."""
    return key is None or owners is None or not key.isdisjoint(owners)


def may_change(key: Owners, owners: Owners) -> bool:
    """Whether a key for these senders may change it: for all to whom it belongs."""
    return key is None or (owners is not None and owners <= key)


def has_all(owners: Owners, of: Owners) -> bool:
    """Whether something belongs to all to whom something else does, which is made with it."""
    return owners is None or (of is not None and of <= owners)


def to_row(owners: Owners) -> str | None:
    """As a column has it."""
    return None if owners is None else json.dumps(sorted(owners))


def from_row(text: str | None) -> Owners:
    """As a column has it."""
    return None if text is None else frozenset(json.loads(text))
