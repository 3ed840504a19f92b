"""Letters as the JSON resources of the Gmail API, in the four formats that it knows.

Strangers write what comes into a mailbox: it is parsed by the functions that are made for that.
"""

import base64
import re
from collections.abc import Collection
from email.message import EmailMessage
from email.message import Message as Mail
from typing import Any, Final

from mailerd.mail.hostile_mail import UNREADABLE, decoded, parse
from mailerd.sandbox.google.answers import Refused, invalid_argument
from mailerd.sandbox.google.letters import Letter

_SNIPPET = 200
_SNIPPET_FROM: Final = 4_000
"""Characters of a text that its snippet is made of."""
_MAX_PARTS: Final = 100
_TAGS: Final = re.compile(r"<[^<>]*>")


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
            return shown | {"payload": {"mimeType": _parsed(letter).get_content_type(), "headers": headers}}
        case "full":
            part = _part(_parsed(letter, whole=True), ident="")
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
        texts.append("" if part is None else _decoded(part))
    return texts[0], texts[1]


def _parsed(letter: Letter, *, whole: bool = False) -> Mail:
    try:
        return parse(letter.raw, whole=whole)
    except UNREADABLE:
        return Mail()


def _snippet(letter: Letter) -> str:
    texts: dict[str, str] = {}
    left = [_parsed(letter)]
    for _ in range(_MAX_PARTS):
        if not left:
            break
        part = left.pop(0)
        payload = part.get_payload()
        if isinstance(payload, list):
            left = [it for it in payload if isinstance(it, Mail)][:_MAX_PARTS] + left
        else:
            texts.setdefault(part.get_content_type(), _decoded(part)[:_SNIPPET_FROM])
    text = texts.get("text/plain") or _TAGS.sub(" ", texts.get("text/html", ""))
    return " ".join(text.split())[:_SNIPPET]


def _decoded(part: Mail) -> str:
    try:
        return decoded(content(part), part.get_content_charset())
    except UNREADABLE:
        return ""


def _filename(part: Mail) -> str:
    try:
        return part.get_filename() or ""
    except UNREADABLE:  # Python 3.12 cannot sort the pieces of a parameter of which one has no number
        return ""


def content(part: Mail) -> bytes:
    """The bytes of a part, decoded from how they were sent."""
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _headers(headers: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in headers]


def _part(part: Mail, *, ident: str) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "partId": ident,
        "mimeType": part.get_content_type(),
        "filename": _filename(part),
        "headers": _headers([(name, str(value)) for name, value in part.items()]),
    }
    payload = part.get_payload()
    if isinstance(payload, list):
        dot = f"{ident}." if ident else ""
        children = [it for it in payload if isinstance(it, Mail)]
        shown["parts"] = [_part(child, ident=f"{dot}{n}") for n, child in enumerate(children)]
        return shown | {"body": {"size": 0}}
    data = content(part)
    return shown | {"body": {"size": len(data), "data": encode(data)}}
