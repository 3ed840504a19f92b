"""Calls to Gmail: the only package that imports aiogoogle; it reports facts and judges nothing."""

from mailerd.gmail.client import Gmail, MessageSemaphore
from mailerd.gmail.credentials import Mailbox

__all__ = ["Gmail", "Mailbox", "MessageSemaphore"]
