"""The size of the letters of a job with what they carry."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from mailerd.core.models import PROOF_LENGTH
from mailerd.mail.mime import MAX_LETTER_BYTES, Envelope, check_size, compose, encoded_size
from mailerd.mail.templates import Content
from mailerd.store.jobs import StoredAttachment

_MAX_OWN_BYTES: Final = 12_000_000
"""Bytes of a letter without its attachments: two parts of a million characters, four bytes each, in base64."""
_SOME_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)


def encoded_sizes(attached: Iterable[StoredAttachment]) -> int:
    """Bytes that attachments take up in a letter at most."""
    return sum(encoded_size(len(each.content), filename=each.filename) for each in attached)


def may_be_too_large(attached: int) -> bool:
    """Whether a letter whose attachments take up so many bytes has to be rendered to know its size."""
    return attached + _MAX_OWN_BYTES > MAX_LETTER_BYTES


def letter_size(
    content: Content, envelope: Envelope, *, email: str, name: str | None, index: int, attached: int
) -> int:
    """Bytes of the letter to a recipient of a job, whose attachments take up `attached` bytes at most.

    `envelope`: what the job's letters have in common; its key is as long as the job's id.

    Raises:
        ValueError: it cannot be made, or is larger than Google takes.
    """
    domain = envelope.sender_email.rpartition("@")[2]
    key = f"{envelope.key}-{index}"
    envelope = replace(envelope, to_email=email, to_name=name, key=key, proof="0" * PROOF_LENGTH)
    letter = compose(content, envelope, date=_SOME_DAY, message_id=f"<{'0' * 32}@{domain}>")
    return check_size(len(letter) + attached)
