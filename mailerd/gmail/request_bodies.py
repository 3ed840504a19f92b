"""The bodies of requests as bytes, made by hand: a letter is encoded once and never escaped into JSON."""

import base64
import json


def letter(raw: bytes) -> bytes:
    """A letter as a Message resource: https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.messages."""
    # base64url needs no escaping in JSON.
    return b"".join((b'{"raw":"', base64.urlsafe_b64encode(raw), b'"}'))


def draft(raw: bytes) -> bytes:
    """A letter as a Draft resource."""
    return b"".join((b'{"message":', letter(raw), b"}"))


def draft_to_send(draft_id: str) -> bytes:
    """A Draft resource that only names a stored draft."""
    return json.dumps({"id": draft_id}).encode()
