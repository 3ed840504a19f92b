"""Tells a refusal that concerns one message from one that concerns its whole mailbox: Google's
words are the same.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

_MAX_MESSAGES: Final = 1000
"""Refused messages of a sender that are remembered; the next refusal of an older one counts as its
first.
"""


@dataclass
class _Message:
    """The refusals of a message, in monotonic seconds."""

    began: float
    """When the attempt in which it was first refused began."""
    first: float
    last: float


@dataclass
class _Sender:
    """What this daemon remembers of one sender; all times are monotonic seconds."""

    refused: "OrderedDict[int, _Message]" = field(default_factory=OrderedDict)
    """By the message's id, the first to be refused first."""
    accepted: float = float("-inf")
    """When Google last accepted a message."""
    accepted_began: float = float("-inf")
    """When the latest attempt that Google accepted began."""


@dataclass
class Refusals:
    """Refusals, seen by this daemon, that seem to concern a whole mailbox.

    The first one of a message pauses its sender. At the next one it concerns that message alone if
    Google has meanwhile taken a message that was begun after it; or if it has taken any since, and
    has refused no other.
    """

    _senders: dict[str, _Sender] = field(default_factory=dict)

    def accepted(self, sender: str, *, began: float, now: float) -> None:
        """Google took a message of this sender, in an attempt that had begun then."""
        it = self._senders.setdefault(sender, _Sender())
        it.accepted, it.accepted_began = now, max(began, it.accepted_began)

    def concerns(self, message: int, sender: str, *, began: float, now: float) -> bool:
        """Whether this refusal concerns the message alone, which is then forgotten here; else it is
        remembered.
        """
        it = self._senders.setdefault(sender, _Sender())
        if (before := it.refused.get(message)) is None:
            it.refused[message] = _Message(began, now, now)
            if len(it.refused) > _MAX_MESSAGES:
                it.refused.popitem(last=False)
            return False
        others = any(
            one.last >= before.began for other, one in it.refused.items() if other != message
        )
        if it.accepted_began > before.first or (it.accepted > before.began and not others):
            del it.refused[message]
            return True
        before.last = now
        return False
