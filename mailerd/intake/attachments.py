"""Attachments of a request: decoded, weighed, and each content held once."""

import binascii
import hashlib
import mimetypes
from base64 import b64decode
from collections.abc import Iterable, Sequence
from typing import Final

from mailerd.intake.errors import FieldError
from mailerd.intake.request_models import AttachmentIn, read_attachments
from mailerd.mail.attachments import MAX_LETTER_BYTES, encoded_size
from mailerd.store.attachments import StoredAttachment

_DEFAULT_KIND: Final = "application/octet-stream"


class AttachmentSet:
    """What the letters of one request carry."""

    def __init__(self) -> None:
        self._contents: dict[bytes, bytes] = {}
        self.shared: list[StoredAttachment] = []

    def for_all(self, given: Sequence[AttachmentIn], *, pictures: Sequence[StoredAttachment] = ()) -> list[FieldError]:
        """Take what every recipient gets, the pictures of the template among it; what is wrong."""
        errors: list[FieldError] = []
        found = [*pictures]
        for index, each in enumerate(given):
            one = self._decode(each, recipient=None)
            if isinstance(one, str):
                errors.append(FieldError(f"attachments[{index}].content", one))
            else:
                found.append(one)
        errors += [FieldError("attachments", why) for why in self._errors_together(found)]
        self.shared = found
        return errors

    def for_recipient(self, given: object, index: int, errors: list[tuple[str, str]]) -> list[StoredAttachment]:
        """What one recipient gets besides."""
        read, wrong = read_attachments(given, field="attachments")
        errors.extend((fault.field, fault.message) for fault in wrong)
        found = []
        for number, each in enumerate(read):
            one = self._decode(each, recipient=index)
            if isinstance(one, str):
                errors.append((f"attachments[{number}].content", one))
            else:
                found.append(one)
        errors.extend(("attachments", why) for why in self._errors_together([*self.shared, *found]))
        return found

    def _decode(self, it: AttachmentIn, *, recipient: int | None) -> StoredAttachment | str:
        """An attachment, or why it is none."""
        try:
            content = b64decode(it.content, validate=True)
        except (binascii.Error, ValueError) as error:
            return f"is not base64: {error}"
        if not content:
            return "is empty"
        digest = hashlib.sha256(content).digest()
        content = self._contents.setdefault(digest, content)
        kind = it.content_type or mimetypes.guess_type(it.filename, strict=True)[0] or _DEFAULT_KIND
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


def encoded_sizes(attached: Iterable[StoredAttachment]) -> int:
    """Bytes that attachments take up in a letter at most."""
    return sum(encoded_size(len(each.content), filename=each.filename) for each in attached)
