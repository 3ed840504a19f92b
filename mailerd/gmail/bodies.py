"""The bodies of requests as bytes, made by hand: a letter is encoded once and never escaped into JSON."""

import base64
import json
import secrets


def letter(raw: bytes, *, thread_id: str = "") -> bytes:
    """A letter as a Message resource: https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.messages."""
    thread = b',"threadId":' + json.dumps(thread_id).encode() if thread_id else b""
    # base64url needs no escaping in JSON.
    return b"".join((b'{"raw":"', base64.urlsafe_b64encode(raw), b'"', thread, b"}"))


def draft(raw: bytes, *, thread_id: str = "") -> bytes:
    """A letter as a Draft resource."""
    return b"".join((b'{"message":', letter(raw, thread_id=thread_id), b"}"))


def draft_to_send(draft_id: str) -> bytes:
    """A Draft resource that only names a stored draft."""
    return json.dumps({"id": draft_id}).encode()


def draft_with_thread(raw: bytes, *, thread_id: str) -> tuple[bytes, str]:
    """A large letter and the thread that it belongs to, for a multipart upload: the body and its content type.

    Source: https://developers.google.com/workspace/gmail/api/guides/uploads#multipart.
    """
    boundary = secrets.token_hex(16)
    start, end = f"--{boundary}\r\n".encode(), f"\r\n--{boundary}--\r\n".encode()
    about = json.dumps({"message": {"threadId": thread_id}}).encode()
    body = b"".join(
        (
            start,
            b"Content-Type: application/json; charset=UTF-8\r\n\r\n",
            about,
            b"\r\n",
            start,
            b"Content-Type: message/rfc822\r\n\r\n",
            raw,
            end,
        )
    )
    return body, f"multipart/related; boundary={boundary}"
