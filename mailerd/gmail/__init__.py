"""Calls to Gmail: the only package that imports aiogoogle; it reports facts and judges nothing."""

from mailerd.gmail.client import Gmail, LetterSemaphore
from mailerd.gmail.credentials import Mailbox

__all__ = ["Gmail", "LetterSemaphore", "Mailbox"]
