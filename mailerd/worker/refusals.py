"""Tells a refusal that concerns one letter from one that concerns its whole mailbox: Google's words are the same."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

_MAX_LETTERS: Final = 1000
"""Refused letters of a sender that are remembered; the next refusal of an older one counts as its first."""


@dataclass
class _Letter:
    """The refusals of a letter, in monotonic seconds."""

    began: float
    """When the attempt in which it was first refused began."""
    first: float
    last: float


@dataclass
class _Sender:
    """What this daemon remembers of one sender; all times are monotonic seconds."""

    refused: "OrderedDict[int, _Letter]" = field(default_factory=OrderedDict)
    """By the letter's id, the first to be refused first."""
    accepted: float = float("-inf")
    """When Google last accepted a letter."""
    accepted_began: float = float("-inf")
    """When the latest attempt that Google accepted began."""


@dataclass
class Refusals:
    """Refusals, seen by this daemon, that seem to concern a whole mailbox.

    The first one of a letter pauses its sender. At the next one it concerns that letter alone if Google has meanwhile
    taken a letter that was begun after it; or if it has taken any since, and has refused no other.
    """

    _senders: dict[str, _Sender] = field(default_factory=dict)

    def accepted(self, sender: str, *, began: float, now: float) -> None:
        """Google took a letter of this sender, in an attempt that had begun then."""
        it = self._senders.setdefault(sender, _Sender())
        it.accepted, it.accepted_began = now, max(began, it.accepted_began)

    def concerns(self, letter: int, sender: str, *, began: float, now: float) -> bool:
        """Whether this refusal concerns the letter alone, which is then forgotten here; else it is remembered."""
        it = self._senders.setdefault(sender, _Sender())
        if (before := it.refused.get(letter)) is None:
            it.refused[letter] = _Letter(began, now, now)
            if len(it.refused) > _MAX_LETTERS:
                it.refused.popitem(last=False)
            return False
        others = any(one.last >= before.began for other, one in it.refused.items() if other != letter)
        if it.accepted_began > before.first or (it.accepted > before.began and not others):
            del it.refused[letter]
            return True
        before.last = now
        return False
