"""Reads Google's answers into facts; pure, and no body makes it fail."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from mailerd.core.replies import Accepted, Call, MalformedResponse, Refused, Reply, TokenRefused, TokenUnavailable

_EXCERPT = 500
_DEFAULT_LIFETIME_S = 3599.0
"""Seconds that a token is taken to live when the answer does not say (expires_in is only recommended by RFC 6749,
section 5.1); what Google has always said. A token that dies sooner shows as a 401, which is repeated once."""

MAX_BODY = 1024 * 1024
"""Bytes of an answer's body, decompressed. The largest that Gmail sends us, a page of a hundred entries or a thread, is
a tenth of that."""
MAX_RAW = 12 * 1024 * 1024
"""The most bytes of an answer with a whole message (format raw): 8 MiB of it, in base64url."""
_MAX_LIFETIME_S = 366 * 86_400.0
_REASONS = {"NOT_FOUND": "notFound", "FAILED_PRECONDITION": "failedPrecondition"}
"""Gmail's word for a status, where the envelope has that alone."""
_OF_DRAFTS = (Call.DRAFTS_CREATE, Call.DRAFTS_GET)
"""A draft holds its message, and no other answer has a field of that name: so neither is taken for the other."""

_DATED = (Call.HISTORY_LIST, Call.GET_PROFILE)
"""Calls whose answers keep their time: they say how far a mailbox has come, by Google's clock."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    max_body: int = MAX_BODY

    @property
    def too_large(self) -> bool:
        """Whether this is only the beginning of a body that was not read to its end."""
        return len(self.body) > self.max_body


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A token, as the token endpoint gave it."""

    access_token: str = field(repr=False)
    lifetime_s: float
    scopes: tuple[str, ...] | None
    """The granted scopes; None: the answer names none, which RFC 6749 allows if they are those that were asked for."""


def read(answer: Answer, *, call: Call) -> Reply:
    """What Gmail answered to a call."""
    if answer.status >= 300:  # noqa: PLR2004 - where HTTP's success ends
        return _refused(answer)
    if answer.too_large:
        return MalformedResponse(
            answer.status, f"more than {answer.max_body} bytes, of which the first are: {_excerpt(answer.body)}"
        )
    if call is Call.DRAFTS_DELETE:
        # Google answers 204 with nothing; a page of HTML with a 200 comes from a proxy.
        return Accepted() if answer.body.strip() in (b"", b"{}") else _garbled(answer)
    reply = _accepted(call, parse_json(answer.body))
    if reply is not None and call in _DATED:
        reply = replace(reply, answered_at=_http_date(answer.headers.get("Date", "")))
    return reply or _garbled(answer)


def of_request(reply: Accepted, answer: Answer, *, id_: str, thread: str) -> Accepted | MalformedResponse:
    """The reply, where it has the id and the thread that were asked for; "": any. Else it answers another request."""
    if (id_ and reply.id != id_) or (thread and reply.thread_id != thread):
        asked = thread or id_
        return MalformedResponse(answer.status, f"{asked}, which was asked for: {_excerpt(answer.body)}")
    return reply


def read_token(answer: Answer) -> TokenResponse | TokenRefused | TokenUnavailable:
    """What the token endpoint answered. No excerpt of a 2xx is ever kept: it may hold a token."""
    body = parse_json(answer.body)
    if not 200 <= answer.status < 300:  # noqa: PLR2004 - HTTP's success
        known = body if isinstance(body, dict) else {}
        error, words = known.get("error"), known.get("error_description")
        return TokenRefused(
            status=answer.status,
            error=one_line(error) if isinstance(error, str) else "",
            description=one_line(words) if isinstance(words, str) else _excerpt(answer.body),
        )
    token = body.get("access_token") if isinstance(body, dict) and not answer.too_large else None
    if not isinstance(body, dict) or not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
        return TokenUnavailable(f"the token endpoint answered {answer.status} without a usable access token")
    scope = body.get("scope")
    return TokenResponse(
        access_token=token,
        lifetime_s=_lifetime(body.get("expires_in")),
        scopes=tuple(scope.split()) if isinstance(scope, str) and scope.strip() else None,
    )


def _lifetime(said: object) -> float:
    if isinstance(said, bool) or not isinstance(said, int | float):
        return _DEFAULT_LIFETIME_S
    return float(said) if 0 <= said < _MAX_LIFETIME_S else _DEFAULT_LIFETIME_S


def _accepted(call: Call, body: object) -> Accepted | None:
    """The facts of a success, or None when the body is not what the method promises."""
    if not isinstance(body, dict) or isinstance(body.get("message"), dict) is not (call in _OF_DRAFTS):
        return None
    match call:
        case Call.DRAFTS_LIST | Call.MESSAGES_LIST:
            entries = body.get("drafts" if call is Call.DRAFTS_LIST else "messages", [])
            good = isinstance(entries, list) and all(isinstance(e, dict) and _id(e.get("id")) for e in entries)
            return Accepted(body=body) if good else None
        case Call.HISTORY_LIST:
            records = body.get("history", [])
            good = isinstance(records, list) and all(isinstance(it, dict) and _id(it.get("id")) for it in records)
            return Accepted(body=body) if good and _id(body.get("historyId")) else None
        case Call.GET_PROFILE:
            return Accepted(body=body) if isinstance(body.get("emailAddress"), str) else None
        case Call.DRAFTS_CREATE | Call.DRAFTS_GET:
            thread = body["message"].get("threadId")
        case Call.THREADS_GET:
            thread = body.get("id")
        case _:
            thread = body.get("threadId")
    if not (ident := _id(body.get("id"))):
        return None
    reads = call in (Call.DRAFTS_GET, Call.MESSAGES_GET, Call.THREADS_GET)
    return Accepted(id=ident, thread_id=_id(thread), body=body if reads else None)


def _id(value: object) -> str:
    """An id that can be stored (the columns hold 128 characters) and asked for, or ""."""
    return value if isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]{1,128}", value) else ""


def _refused(answer: Answer) -> Refused:
    body = parse_json(answer.body)
    # Some of Google's front ends wrap the envelope into a list.
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return Refused(
        status=answer.status,
        reason=one_line(error) if isinstance(error, str) else _reason(error),
        message=one_line(message) if isinstance(message, str) and message else _excerpt(answer.body),
        retry_after=_retry_after(answer.headers),
        answered_at=_http_date(answer.headers.get("Date", "")),
    )


def _reason(error: object) -> str:
    """`errors[0].reason`, or that of the ErrorInfo among the details (https://google.aip.dev/193), or by the status."""
    if not isinstance(error, dict):
        return ""
    for entries in (error.get("errors"), error.get("details")):
        for entry in entries if isinstance(entries, list) else []:
            reason = entry.get("reason") if isinstance(entry, dict) else None
            if isinstance(reason, str) and reason:
                return one_line(reason)
    status = error.get("status")
    return _REASONS.get(status, one_line(status)) if isinstance(status, str) else ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from either form of RFC 9110, section 10.2.3; a date counts from the answer's own Date."""
    said = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", said):
        return float(said)
    until, since = _http_date(said), _http_date(headers.get("Date", ""))
    return None if until is None or since is None else max(0.0, (until - since).total_seconds())


def _http_date(said: str) -> datetime | None:
    """A date as HTTP has it (RFC 9110, section 5.6.7); None for anything else."""
    try:
        return parsedate_to_datetime(said).replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _garbled(answer: Answer) -> MalformedResponse:
    return MalformedResponse(status=answer.status, excerpt=_excerpt(answer.body))


def parse_json(body: bytes) -> Any:
    """The parsed body, or None for what is no JSON: bad UTF-8 and nesting without end included."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _excerpt(body: bytes) -> str:
    return one_line(body[: 4 * _EXCERPT].decode("utf-8", "replace"))


def one_line(text: str) -> str:
    """One printable line of at most 500 characters: no line feeds for a log, no lone surrogates for a database."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(shown.split())[:_EXCERPT]
