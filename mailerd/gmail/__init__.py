"""The Gmail door: the only package that imports aiogoogle; it reports facts and judges nothing."""

from mailerd.gmail.door import Gmail
from mailerd.gmail.mailbox import Mailbox
from mailerd.gmail.watch import Meter

__all__ = ["Gmail", "Mailbox", "Meter"]
