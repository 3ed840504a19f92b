"""What the intake must know of senders: which mailbox stands behind an address, or why none does."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class UnknownSender:
    """No mailbox stands behind an address; `why` is for whoever posted it."""

    why: str


class Senders(Protocol):
    """Whoever knows the mailboxes."""

    def mailbox_of(self, sender: str) -> str | UnknownSender:
        """The mailbox that sends for an address (in lower case): itself, or the one whose alias it is.

        Called in a thread beside the loop; it may look at files and must not ask the network.
        """
