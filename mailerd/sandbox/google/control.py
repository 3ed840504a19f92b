"""The control calls under /sandbox/: everything that the Python API can do, for tests and people in
other processes.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

from mailerd.sandbox.google.answers import Answer
from mailerd.sandbox.google.fake_google import FakeGoogle
from mailerd.sandbox.google.fake_limits import COMPOSE
from mailerd.sandbox.google.faults import Fault
from mailerd.sandbox.google.mailbox import Message

PREFIX = "/sandbox/"
_PAGE = 1_000

Query = Mapping[str, str]


class Control:
    """Answers control calls. Whatever cannot be done is a 4xx with {"error": "why"}."""

    def __init__(self, google: FakeGoogle) -> None:
        self._google = google
        self._calls: dict[tuple[str, str], Callable[[str, Query, dict[str, Any]], Any]] = {
            ("GET", "mailboxes"): self._list_mailboxes,
            ("POST", "mailboxes"): self._add_mailbox,
            ("GET", "mailboxes/*"): self._show_mailbox,
            ("PATCH", "mailboxes/*"): self._change_mailbox,
            ("GET", "faults"): self._list_faults,
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): self._clear_faults,
            ("DELETE", "faults/*"): self._remove_fault,
            ("GET", "outbox"): self._outbox,
            ("GET", "outbox/*"): self._eml,
            ("POST", "notices"): self._notify,
            ("POST", "history/forget"): self._forget_history,
            ("POST", "manual-send"): self._send_manually,
            ("GET", "undelivered"): lambda *_: {
                "messages": [summary(message) for message in google.undelivered]
            },
            ("GET", "drafts"): self._drafts,
            ("DELETE", "drafts"): self._delete_drafts,
            ("GET", "log"): self._log,
            ("GET", "usage"): lambda *_: google.usage(),
            ("GET", "rules"): lambda *_: asdict(google.rules),
            ("PATCH", "rules"): lambda _, __, body: asdict(google.change_rules(**body)),
            ("GET", "client.json"): lambda *_: google.accounts.client_file(),
            ("POST", "tokens/expire"): self._expire_tokens,
            ("POST", "reset"): self._reset,
        }

    def answer(self, verb: str, path: str, query: Query, body: bytes) -> Answer:
        """Answer one call; `path` is what follows the prefix."""
        call, ident = self._calls.get((verb, path)), ""
        if call is None:
            stem, _, ident = path.partition("/")
            call = self._calls.get((verb, stem + "/*")) if ident else None
        if call is None:
            return _refusal(404, f"no such control call: {verb} {PREFIX}{path}")
        try:
            result = call(ident, query, _object(body))
        except KeyError as error:
            return _refusal(404, str(error.args[0]))
        except (ValueError, TypeError) as error:
            return _refusal(422, str(error))
        return result if isinstance(result, Answer) else _json(200, result)

    def _list_mailboxes(self, _ident: str, _query: Query, _body: dict[str, Any]) -> Any:
        return {
            "mailboxes": [
                {"email": c.owner, "kind": c.kind, "scopes": sorted(c.scopes), "revoked": c.revoked}
                for c in self._google.accounts.credentials
            ]
        }

    def _add_mailbox(self, _ident: str, _query: Query, body: dict[str, Any]) -> Any:
        if not isinstance(body.get("email"), str):
            raise ValueError("email is missing")  # noqa: TRY004 -- to the caller it is a wrong value
        options = {"scopes": [COMPOSE], **body}
        del options["email"]
        options["scopes"] = _strings(options["scopes"])
        if "aliases" in options:
            options["aliases"] = _strings(options["aliases"])
        return self._google.add_mailbox(body["email"], **options)

    def _show_mailbox(self, ident: str, _query: Query, _body: dict[str, Any]) -> Any:
        return self._google.accounts.known(ident)[-1].blob

    def _change_mailbox(self, ident: str, _query: Query, body: dict[str, Any]) -> Any:
        unknown = body.keys() - {"revoked", "scopes"}
        if unknown or not body:
            raise ValueError("only revoked (true or false) and scopes (a list) can be changed")
        if "scopes" in body:
            self._google.set_scopes(ident, _strings(body["scopes"]))
        if "revoked" in body:
            (self._google.revoke if body["revoked"] else self._google.restore)(ident)
        return {"email": ident, **body}

    def _list_faults(self, _ident: str, _query: Query, _body: dict[str, Any]) -> Any:
        faults = self._google.faults
        return {
            "faults": [armed.as_json() for armed in faults.armed],
            "spent": [armed.as_json() for armed in faults.spent],
        }

    def _add_fault(self, _ident: str, _query: Query, body: dict[str, Any]) -> Any:
        return self._google.fault(Fault(**body)).as_json()

    def _clear_faults(self, _ident: str, _query: Query, _body: dict[str, Any]) -> Any:
        self._google.clear_faults()
        return {"faults": []}

    def _remove_fault(self, ident: str, _query: Query, _body: dict[str, Any]) -> Any:
        if not self._google.faults.remove(int(ident)):
            raise KeyError(f"no fault {ident} in force")
        return {"removed": int(ident)}

    def _outbox(self, _ident: str, query: Query, _body: dict[str, Any]) -> Any:
        """Oldest first; `cursor` is the position to go on from, so a reader can follow a growing
        outbox.
        """
        start, size = int(query.get("cursor", "0")), int(query.get("limit", str(_PAGE)))
        if start < 0 or size < 1:
            raise ValueError("cursor must not be negative, limit must be positive")
        sent = self._google.sent
        matching = (
            (at, x) for at, x in enumerate(islice(sent, start, None), start) if wanted(x, query)
        )
        found = list(islice(matching, size))
        end = found[-1][0] + 1 if len(found) == size else max(start, len(sent))
        return {
            "messages": [summary(message) for _, message in found],
            "total": len(sent),
            "next_cursor": str(end) if end < len(sent) else None,
            "end": str(end),
        }

    def _eml(self, ident: str, _query: Query, _body: dict[str, Any]) -> Any:
        message = find(self._google, ident.removesuffix(".eml"))
        name = f'attachment; filename="{message.id}.eml"'
        return Answer(200, message.raw, "message/rfc822", (("Content-Disposition", name),))

    def _notify(self, _ident: str, _query: Query, body: dict[str, Any]) -> Any:
        """Let mail of some shape come for each sent message that matches (`sender`, `to`, `key`, or
        an `id`).

        A whole address as `to` is what it is about, a copy's too. `count`: for so many of them, the
        newest first, and before the others those that nothing has come about.
        """
        wished = {
            name: str(value)
            for name, value in body.items()
            if name in ("sender", "to", "key", "id")
        }
        sent = reversed(self._google.sent)
        found = [it for it in sent if wanted(it, wished) and wished.get("id", it.id) == it.id]
        found.sort(key=self._google.arrivals.has_any)
        found = found[: int(body.get("count", len(found)))]
        if not found:
            raise KeyError("no such message was sent")
        for message in found:
            about = next((it for it in message.recipients if it == wished.get("to")), "")
            self._google.arrivals.add(
                message, str(body.get("shape", "")), due=self._google.now(), about=about
            )
        return {"notices": len(found)}

    def _forget_history(self, _ident: str, _query: Query, body: dict[str, Any]) -> Any:
        wished = str(body.get("email", "")).lower()
        boxes = [box for email, box in self._google.mailboxes.items() if wished in ("", email)]
        for box in boxes:
            box.forget_history()
        return {"forgotten": len(boxes)}

    def _send_manually(self, _ident: str, _query: Query, body: dict[str, Any]) -> Any:
        """As the person writes a message in Gmail: it counts against the same day, and may be
        refused.

        `key`: it answers in the conversation of the sent message with that key. `shape`: what comes
        about it.
        """
        key, shape = str(body.get("key", "")), str(body.get("shape", ""))
        after = (
            next((it for it in reversed(self._google.sent) if it.key == key), None) if key else None
        )
        if key and after is None:
            raise KeyError("no such message was sent")
        message = self._google.send_manually(
            str(body.get("email", "")).lower(),
            str(body.get("to", "friend@example.net")),
            after=after,
        )
        if message is not None and shape:
            self._google.arrivals.add(message, shape, due=self._google.now())
        return {"sent": message is not None, "id": message.id if message else None}

    def _drafts(self, _ident: str, query: Query, _body: dict[str, Any]) -> Any:
        drafts = self._google.drafts(query.get("sender", ""))
        return {"drafts": [summary(draft) for draft in drafts if wanted(draft, query)]}

    def _delete_drafts(self, _ident: str, query: Query, _body: dict[str, Any]) -> Any:
        """As the owner of a mailbox deletes what he finds there: of one sender, or of all."""
        found = self._google.drafts(query.get("sender", ""))
        for draft in found:
            self._google.mailbox(draft.sender).delete_draft(draft.draft_id)
        return {"deleted": len(found)}

    def _log(self, _ident: str, query: Query, _body: dict[str, Any]) -> Any:
        """Oldest first; `cursor` is the `seq` of the last entry already seen."""
        after, size = int(query.get("cursor", "0")), int(query.get("limit", str(_PAGE)))
        newer = (
            entry
            for entry in self._google.log
            if entry.seq > after and query.get("method", entry.method) == entry.method
        )
        found = [entry._asdict() for entry in islice(newer, size)]
        return {"log": found, "next_cursor": str(found[-1]["seq"]) if found else None}

    def _expire_tokens(self, _ident: str, _query: Query, _body: dict[str, Any]) -> Any:
        self._google.accounts.expire_tokens()
        return {"expired": True}

    def _reset(self, _ident: str, _query: Query, _body: dict[str, Any]) -> Any:
        self._google.reset()
        return {"reset": True}


def summary(message: Message) -> dict[str, Any]:
    """What lists say of a message."""
    return {
        "id": message.id,
        "thread_id": message.thread_id,
        "draft_id": message.draft_id,
        "sender": message.sender,
        "to": message.to,
        "subject": message.subject,
        "key": message.key,
        "message_id": message.message_id,
        "at": message.at,
    }


def wanted(message: Message, query: Query) -> bool:
    """Whether a message is by this sender, to this address and of this key, as far as the query
    says.
    """
    return (
        query.get("sender", "").lower() in ("", message.sender)
        and query.get("to", "").lower() in message.to.lower()
        and query.get("key", "") in ("", message.key)
    )


def find(google: FakeGoogle, ident: str) -> Message:
    """The sent message of that id; raises KeyError when there is none."""
    for message in reversed(google.sent):
        if message.id == ident:
            return message
    raise KeyError(f"no message {ident} was sent")


def _object(body: bytes) -> dict[str, Any]:
    payload = json.loads(body) if body.strip() else {}
    if not isinstance(payload, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004 -- to the caller it is a wrong value
    return payload


def _strings(value: Any) -> list[str]:
    if (
        not isinstance(value, Iterable)
        or isinstance(value, str)
        or not all(isinstance(v, str) for v in value)
    ):
        raise ValueError("scopes and aliases are lists of strings")
    return list(value)


def _json(status: int, payload: Any) -> Answer:
    return Answer(status, json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace"))


def _refusal(status: int, why: str) -> Answer:
    return _json(status, {"error": why})
