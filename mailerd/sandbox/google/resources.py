"""Letters as the JSON resources of the Gmail API, in the four formats that it knows."""

import base64
import re
from collections.abc import Collection
from email.message import EmailMessage
from typing import Any, cast

from mailerd.sandbox.google.answers import Refused, invalid_argument
from mailerd.sandbox.google.letters import Letter

_SNIPPET = 200


def reference(letter: Letter) -> bytes:
    """What Google answers to a creation or a sending, as JSON: ids and labels are ours and need no escaping."""
    labels = '","'.join(letter.labels)
    return f'{{"id":"{letter.id}","threadId":"{letter.thread_id}","labelIds":["{labels}"]}}'.encode()


def message(letter: Letter, *, form: str, only: Collection[str] = ()) -> dict[str, Any]:
    """A message resource; `only` names the headers of format metadata, or all. Raises Refused for a form unknown."""
    shown = {
        "id": letter.id,
        "threadId": letter.thread_id,
        "labelIds": letter.labels,
        "snippet": _snippet(letter),
        "sizeEstimate": len(letter.raw),
        "historyId": str(letter.history_id),
        "internalDate": str(int(letter.at * 1000)),
    }
    match form:
        case "minimal":
            return shown
        case "raw":
            return shown | {"raw": encode(letter.raw)}
        case "metadata":
            wanted = {name.lower() for name in only}
            headers = [h for h in _headers(letter.headers) if not wanted or h["name"].lower() in wanted]
            return shown | {"payload": {"mimeType": letter.message.get_content_type(), "headers": headers}}
        case "full":
            part = _part(letter.message, ident="")
            return shown | {"payload": part | {"headers": _headers(letter.headers)}}
        case _:
            raise Refused(invalid_argument(f"Invalid value at 'format' (TYPE_ENUM), \"{form}\""))


def encode(raw: bytes) -> str:
    """base64url, as every byte field of the API."""
    return base64.urlsafe_b64encode(raw).decode("ascii")


def bodies(mail: EmailMessage) -> tuple[str, str]:
    """The text and HTML parts of a message, empty where it has none."""
    texts = []
    for kind in ("plain", "html"):
        part = mail.get_body((kind,))
        texts.append("" if part is None else _text(cast("EmailMessage", part)))
    return texts[0], texts[1]


def _text(part: EmailMessage) -> str:
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    try:
        return data.decode(part.get_content_charset("utf-8"), "replace")
    except LookupError:
        return data.decode("utf-8", "replace")


def _snippet(letter: Letter) -> str:
    text, html = bodies(letter.message)
    return " ".join((text or re.sub(r"<[^>]*>", " ", html)).split())[:_SNIPPET]


def _headers(headers: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in headers]


def _part(part: EmailMessage, *, ident: str) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "partId": ident,
        "mimeType": part.get_content_type(),
        "filename": part.get_filename() or "",
        "headers": _headers([(name, str(value)) for name, value in part.items()]),
    }
    if part.is_multipart():
        dot = f"{ident}." if ident else ""
        children = cast("list[EmailMessage]", part.get_payload())
        shown["parts"] = [_part(child, ident=f"{dot}{n}") for n, child in enumerate(children)]
        return shown | {"body": {"size": 0}}
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    return shown | {"body": {"size": len(data), "data": encode(data)}}
