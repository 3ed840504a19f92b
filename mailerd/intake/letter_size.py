"""What a letter weighs as Google would get it: the check of a job and the dry run ask the same."""

from datetime import UTC, datetime
from typing import Final

from mailerd.mail.attachments import MAX_LETTER_BYTES, check_size
from mailerd.mail.mime import Envelope, compose
from mailerd.mail.templates import Content

_MAX_OWN_BYTES: Final = 12_000_000
"""Bytes of a letter without its attachments: two parts of a million characters, four bytes each, in base64."""
_SOME_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)


def may_be_too_large(attached: int) -> bool:
    """Whether a letter whose attachments take up so many bytes has to be weighed."""
    return attached + _MAX_OWN_BYTES > MAX_LETTER_BYTES


def letter_size(content: Content, envelope: Envelope, *, attached: int) -> int:
    """Bytes of a letter whose attachments take up `attached` bytes at most.

    Raises:
        ValueError: it cannot be made, or is larger than Google takes.
    """
    domain = envelope.sender_email.rpartition("@")[2]
    letter = compose(content, envelope, date=_SOME_DAY, message_id=f"<{'0' * 32}@{domain}>")
    return check_size(len(letter) + attached)
