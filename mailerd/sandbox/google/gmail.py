"""The methods of the Gmail API: each reads a call, changes a mailbox and returns an answer; none
waits.
"""

import binascii
import json
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp.web import BaseRequest

from mailerd.sandbox.google.answers import (
    Answer,
    Refused,
    failure,
    forbidden,
    invalid_argument,
    not_found,
    success,
    too_large,
)
from mailerd.sandbox.google.fake_limits import METADATA
from mailerd.sandbox.google.mailbox import Added, Mailbox, Message, Permit, reference, resource
from mailerd.sandbox.google.methods import Route

_FROM_URLSAFE = ((b"+", b"!"), (b"/", b"!"), (b"-", b"+"), (b"_", b"/"))
"""What is replaced, in this order.

The base64 of a text has next to none of the four, and looking for them is quicker than a table.
"""
_PAGE, _LARGEST_PAGE = 100, 500


@dataclass(slots=True)
class Call:
    """One request that has been let in, and what was found out about it for the log."""

    route: Route
    mailbox: Mailbox
    scopes: frozenset[str]
    asked: BaseRequest
    """The request, for its query and media type.

    These are parsed when a method looks at them, and most never do.
    """
    body: bytes
    max_bytes: int
    now: float
    permit: Permit
    on_sent: Callable[[Message], None]
    """Told of every message that has been sent."""
    units: int = 0
    key: str = ""
    draft_id: str = ""


def perform(call: Call) -> Answer:
    """Carry out a call. Raises Refused for what Google refuses."""
    return _PERFORMERS[call.route.method.name](call)


def describe(call: Call) -> None:
    """Find out, for the log only, which message a call that will not be carried out is about."""
    name = call.route.method.name
    try:
        if name == "drafts.send":
            call.draft_id = str(_json(call).get("id", ""))
        elif name in ("drafts.get", "drafts.delete"):
            call.draft_id = call.route.ident
    except Refused:
        return
    draft = call.mailbox.drafts.get(call.draft_id)
    call.key = draft.key if draft else ""


def _create_draft(call: Call) -> Answer:
    raw, thread_id = (
        (call.body, "") if call.route.uploaded else _raw_message(_json(call).get("message"), call)
    )
    message = call.mailbox.draft(_bounded(raw, call), thread_id=thread_id, now=call.now)
    call.key, call.draft_id = message.key, message.draft_id
    return Answer(
        200, b'{"id":"%b","message":%b}' % (message.draft_id.encode(), reference(message))
    )


def _send_draft(call: Call) -> Answer:
    payload = _json(call)
    draft_id = payload.get("id")
    if not isinstance(draft_id, str) or not draft_id or "message" in payload:
        # Google would also update the draft, or send a message without one; no client that sends
        # once does that.
        raise Refused(invalid_argument("The sandbox sends drafts by id alone."))
    call.draft_id = draft_id
    message = call.mailbox.send_draft(draft_id, now=call.now, permit=call.permit)
    call.key = message.key
    call.on_sent(message)
    return Answer(200, reference(message))


def _send_message(call: Call) -> Answer:
    raw, thread_id = (call.body, "") if call.route.uploaded else _raw_message(_json(call), call)
    message = call.mailbox.send(
        _bounded(raw, call), thread_id=thread_id, now=call.now, permit=call.permit
    )
    call.key = message.key
    call.on_sent(message)
    return Answer(200, reference(message))


def _get_draft(call: Call) -> Answer:
    call.draft_id, form = call.route.ident, _format(call)
    if METADATA in call.scopes and form in ("full", "raw"):
        raise Refused(forbidden(f"Metadata scope doesn't allow format {form.upper()}"))
    message = call.mailbox.find_draft(call.draft_id)
    call.key = message.key
    return success({"id": message.draft_id, "message": resource(message, form=form)})


def _delete_draft(call: Call) -> Answer:
    call.draft_id = call.route.ident
    call.key = call.mailbox.find_draft(call.draft_id).key
    call.mailbox.delete_draft(call.draft_id)
    return Answer(204, b"")


def _list_drafts(call: Call) -> Answer:
    found = [
        message
        for message in call.mailbox.drafts.values()
        if _matches(message, call.asked.query.get("q", ""))
    ]
    page, more = _page(found, call)
    drafts = [{"id": d.draft_id, "message": {"id": d.id, "threadId": d.thread_id}} for d in page]
    return success(({"drafts": drafts} if drafts else {}) | more)


def _get_message(call: Call) -> Answer:
    form = _format(call)
    if METADATA in call.scopes and form in ("full", "raw"):
        raise Refused(forbidden(f"Metadata scope doesn't allow format {form.upper()}"))
    message = call.mailbox.find_message(call.route.ident)
    call.key = message.key
    return success(resource(message, form=form, only=_named(call, "metadataHeaders")))


def _list_messages(call: Call) -> Answer:
    query = call.asked.query.get("q", "")
    if query and METADATA in call.scopes:
        raise Refused(forbidden("Metadata scope does not support 'q' parameter"))
    labels = set(_named(call, "labelIds"))
    found = [
        m for m in call.mailbox.messages.values() if labels <= set(m.labels) and _matches(m, query)
    ]
    page, more = _page(found, call)
    messages = [{"id": m.id, "threadId": m.thread_id} for m in page]
    return success(({"messages": messages} if messages else {}) | more)


def _get_thread(call: Call) -> Answer:
    form = _format(call)
    if METADATA in call.scopes and form == "full":
        raise Refused(forbidden("Metadata scope doesn't allow format FULL"))
    if form == "raw":
        raise Refused(invalid_argument("Threads have no format RAW"))
    if call.route.ident not in call.mailbox.threads:
        raise Refused(not_found())
    messages = [call.mailbox.messages[ident] for ident in call.mailbox.threads[call.route.ident]]
    shown = [
        resource(message, form=form, only=_named(call, "metadataHeaders")) for message in messages
    ]
    return success(
        {"id": call.route.ident, "historyId": str(messages[-1].history_id), "messages": shown}
    )


def _get_profile(call: Call) -> Answer:
    mailbox = call.mailbox
    return success(
        {
            "emailAddress": mailbox.email,
            "messagesTotal": len(mailbox.messages),
            "threadsTotal": len(mailbox.threads),
            "historyId": str(mailbox.history_id),
        }
    )


def _list_history(call: Call) -> Answer:
    """What came after startHistoryId, the oldest first; each message in a record of its own."""
    box, query = call.mailbox, call.asked.query
    try:
        start, size = (
            int(query["startHistoryId"]),
            min(int(query.get("maxResults", _PAGE)), _LARGEST_PAGE),
        )
        start = max(start, int(query.get("pageToken", "0")))
    except (KeyError, ValueError) as error:
        raise Refused(
            invalid_argument("Invalid startHistoryId, pageToken or maxResults")
        ) from error
    if start < box.forgotten or start > box.history_id:
        raise Refused(not_found())
    label = query.get("labelId", "")
    newer = box.history[bisect_right(box.history, start, key=lambda it: it.history_id) :]
    newer = [it for it in newer if not label or label in it.labels]
    page = newer[: max(size, 1)]
    answer: dict[str, Any] = {"history": [_record(it) for it in page]} if page else {}
    more = {"nextPageToken": str(page[-1].history_id)} if len(page) < len(newer) else {}
    return success(answer | more | {"historyId": str(box.history_id)})


def _record(it: Added) -> dict[str, Any]:
    known = {"id": it.id, "threadId": it.thread_id}
    return {
        "id": str(it.history_id),
        "messages": [known],
        "messagesAdded": [{"message": known | {"labelIds": it.labels}}],
    }


def _list_send_as(call: Call) -> Answer:
    own = {
        "sendAsEmail": call.mailbox.email,
        "displayName": "",
        "isPrimary": True,
        "isDefault": True,
    }
    aliases = [
        {
            "sendAsEmail": alias,
            "displayName": "",
            "treatAsAlias": True,
            "verificationStatus": "accepted",
        }
        for alias in sorted(call.mailbox.aliases)
    ]
    return success({"sendAs": [own, *aliases]})


def _json(call: Call) -> dict[str, Any]:
    try:
        payload = json.loads(call.body or b"{}")
    except ValueError as error:
        text = "Invalid JSON payload received. Unexpected token."
        raise Refused(
            failure(400, reason="parseError", message=text, status="INVALID_ARGUMENT")
        ) from error
    if not isinstance(payload, dict):
        raise Refused(
            invalid_argument("Invalid JSON payload received. Root element must be a message.")
        )
    return payload


def _raw_message(payload: Any, call: Call) -> tuple[bytes, str]:
    """The bytes and the thread id of a message in JSON.

    Plain base64, with + and /, is refused as by Google.
    """
    fields: dict[str, Any] = payload if isinstance(payload, dict) else {}
    raw, thread_id = fields.get("raw"), fields.get("threadId", "")
    if not isinstance(raw, str) or not raw:
        text = "'raw' RFC822 payload message string or uploading message via /upload/* URL required"
        raise Refused(invalid_argument(text))
    if len(raw) // 4 * 3 > call.max_bytes + 3:
        raise Refused(too_large(call.max_bytes))
    try:
        coded = raw.encode("ascii").rstrip(b"=")
        for plain, safe in _FROM_URLSAFE:
            coded = coded.replace(plain, safe)
        return binascii.a2b_base64(coded + b"=" * (-len(coded) % 4), strict_mode=True), str(
            thread_id
        )
    except (UnicodeEncodeError, binascii.Error) as error:
        raise Refused(invalid_argument(f"Invalid value for ByteString: {raw[:60]}")) from error


def _bounded(raw: bytes, call: Call) -> bytes:
    if len(raw) > call.max_bytes:
        raise Refused(too_large(call.max_bytes))
    if call.route.uploaded:
        if call.asked.query.get("uploadType", "media") != "media":
            raise Refused(invalid_argument("The sandbox knows uploadType=media only."))
        if not call.asked.content_type.startswith("message/"):
            text = f"Media type '{call.asked.content_type}' is not supported. Valid media types: [message/*]"
            raise Refused(
                failure(400, reason="badContent", message=text, status="INVALID_ARGUMENT")
            )
    return raw


def _named(call: Call, parameter: str) -> list[str]:
    """All values of a parameter that may be given several times."""
    return call.asked.query.getall(parameter, [])


def _format(call: Call) -> str:
    return call.asked.query.get("format", "full").lower()


def _page(messages: list[Message], call: Call) -> tuple[list[Message], dict[str, Any]]:
    """The newest messages below the page token, and what goes with them in the answer."""
    try:
        size = min(int(call.asked.query.get("maxResults", _PAGE)), _LARGEST_PAGE)
        before = int(call.asked.query.get("pageToken", "0"))
    except ValueError as error:
        raise Refused(invalid_argument("Invalid pageToken or maxResults")) from error
    # The token is the history id of the last message shown, so that new messages do not shift the
    # pages.
    older = [message for message in reversed(messages) if not before or message.history_id < before]
    page = older[: max(size, 1)]
    token = {"nextPageToken": str(page[-1].history_id)} if len(page) < len(older) else {}
    return page, token | {"resultSizeEstimate": len(messages)}


def _matches(message: Message, query: str) -> bool:
    """Whether a message matches a search.

    Only the operators that a sender needs are known; others raise Refused.
    """
    for word in query.split():
        operator, colon, value = word.lower().partition(":")
        seen = {
            "in": " ".join(message.labels).replace("DRAFT", "DRAFT DRAFTS"),
            "to": message.to,
            "from": message.sender,
            "subject": message.subject,
            # Google indexes the Message-ID that it gave, never the client's.
            "rfc822msgid": message.message_id.strip("<>"),
        }.get(operator)
        if not colon or seen is None:
            raise Refused(
                invalid_argument(f"The sandbox does not know how to search for {word!r}.")
            )
        if value.strip("<>") not in seen.lower():
            return False
    return True


_PERFORMERS: dict[str, Callable[[Call], Answer]] = {
    "drafts.create": _create_draft,
    "drafts.get": _get_draft,
    "drafts.list": _list_drafts,
    "drafts.delete": _delete_draft,
    "drafts.send": _send_draft,
    "messages.send": _send_message,
    "messages.get": _get_message,
    "messages.list": _list_messages,
    "threads.get": _get_thread,
    "history.list": _list_history,
    "getProfile": _get_profile,
    "settings.sendAs.list": _list_send_as,
}
