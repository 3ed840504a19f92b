"""The size of the messages of a job with what they carry."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from mailerd.core import copies
from mailerd.core.extras import Extras
from mailerd.core.message_proof import PROOF_LENGTH
from mailerd.mail.mime import (
    MAX_MESSAGE_BYTES,
    Envelope,
    check_size,
    compose,
    encoded_size,
    merged_headers,
)
from mailerd.mail.templates import Content
from mailerd.store.write.new_jobs import StoredAttachment

_MAX_OWN_BYTES: Final = 12_000_000
"""Bytes of a message without its attachments: two parts of a million characters, four bytes each,
in base64.
"""


_SOME_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)


def encoded_sizes(attached: Iterable[StoredAttachment]) -> int:
    """Bytes that attachments take up in a message at most."""
    return sum(encoded_size(len(each.content), filename=each.filename) for each in attached)


def may_be_too_large(attached: int) -> bool:
    """Whether a message whose attachments take up so many bytes has to be rendered to know its
    size.
    """
    return attached + _MAX_OWN_BYTES > MAX_MESSAGE_BYTES


def message_size(
    content: Content,
    envelope: Envelope,
    *,
    email: str,
    name: str | None,
    index: int,
    attached: int,
    extras: Extras,
) -> int:
    """Bytes of the message to a recipient of a job, whose attachments take up `attached` bytes at
    most.

    `envelope`: what the job's messages have in common; its key is as long as the job's id.
    `extras`: its own.

    Raises:
        ValueError: it cannot be made, or is larger than Google takes.
    """
    domain = envelope.sender_email.rpartition("@")[2]
    key = f"{envelope.key}-{index}"
    envelope = replace(envelope, to_email=email, to_name=name, key=key, proof="0" * PROOF_LENGTH)
    if extras.headers is not None:
        envelope = replace(
            envelope, headers=merged_headers(envelope.headers, json.loads(extras.headers))
        )
    if extras.copy_list is not None:
        envelope = replace(envelope, copies=copies.from_json(extras.copy_list))
    message = compose(content, envelope, date=_SOME_DAY, message_id=f"<{'0' * 32}@{domain}>")
    return check_size(len(message) + attached)
