"""Attachments of a request, each content kept once, and the size of the letters that carry them."""

import hashlib
import mimetypes
from base64 import b64decode
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from mailerd.core.models import PROOF_LENGTH
from mailerd.http.errors import FieldError
from mailerd.intake.request_models import AttachmentIn, read_attachments
from mailerd.mail.attachments import MAX_LETTER_BYTES, check_content_type, check_size, encoded_size
from mailerd.mail.mime import Envelope, compose
from mailerd.mail.templates import Content
from mailerd.store.jobs import StoredAttachment

_DEFAULT_KIND: Final = "application/octet-stream"
_PACKED: Final = {"gzip": "application/gzip"}
"""Content types of what `mimetypes` calls an encoding (RFC 6713); it has no registered one for the others."""
_MAX_OWN_BYTES: Final = 12_000_000
"""Bytes of a letter without its attachments: two parts of a million characters, four bytes each, in base64."""
_SOME_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)


class AttachmentSet:
    """What the letters of one request carry."""

    def __init__(self) -> None:
        self._contents: dict[bytes, bytes] = {}
        self.shared: list[StoredAttachment] = []

    def for_all(self, given: Sequence[AttachmentIn], *, pictures: Sequence[StoredAttachment] = ()) -> list[FieldError]:
        """Take what every recipient gets, the pictures of the template among it; what is wrong."""
        self.shared, errors = self._read(given, [*pictures], recipient=None)
        return errors

    def for_recipient(self, given: object, index: int) -> tuple[list[StoredAttachment], list[FieldError]]:
        """What one recipient gets besides, and what is wrong with it."""
        read, wrong = read_attachments(given)
        found, errors = self._read(read, self.shared, recipient=index)
        return found[len(self.shared) :], [*wrong, *errors]

    def _read(
        self, given: Sequence[AttachmentIn], others: Sequence[StoredAttachment], *, recipient: int | None
    ) -> tuple[list[StoredAttachment], list[FieldError]]:
        """What a letter carries together with the `others`, and what is wrong with it."""
        found = [*others, *(self._decode(each, recipient=recipient) for each in given)]
        return found, [FieldError("attachments", why) for why in self._errors_together(found)]

    def _decode(self, it: AttachmentIn, *, recipient: int | None) -> StoredAttachment:
        content = b64decode(it.content)
        digest = hashlib.sha256(content).digest()
        content = self._contents.setdefault(digest, content)
        kind = it.content_type or _kind_of(it.filename)
        return StoredAttachment(it.filename, kind, content, digest, content_id=it.content_id, recipient=recipient)

    def _errors_together(self, found: Sequence[StoredAttachment]) -> list[str]:
        """What is wrong with the attachments of one letter taken together."""
        wrong = []
        ids = [each.content_id for each in found if each.content_id]
        wrong += [f"content_id {each!r} is given twice" for each in sorted({one for one in ids if ids.count(one) > 1})]
        size = encoded_sizes(found)
        if size > MAX_LETTER_BYTES:
            wrong.append(
                f"make letters of about {size:,} bytes, above Google's limit of {MAX_LETTER_BYTES:,} (35 MiB, base64 "
                "included): the files themselves may have about 25 MB together"
            )
        return wrong


def _kind_of(filename: str) -> str:
    """The content type that follows from a name.

    What is compressed is what compresses it, and not what is in it: a `.csv.gz` is no text. A letter in a file (`.eml`)
    is a plain file: MIME allows no message/rfc822 in base64 (RFC 2046, 5.2.1), and readers lose what is in it.
    """
    kind, packed = mimetypes.guess_type(filename, strict=True)
    if packed:
        return _PACKED.get(packed, _DEFAULT_KIND)
    try:
        return check_content_type(kind or "")
    except ValueError:
        return _DEFAULT_KIND


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
