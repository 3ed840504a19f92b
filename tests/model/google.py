"""A model of Google: drafts, messages, and what comes back. A key that it accepts twice fails the test."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mailerd.core.replies import Accepted, Refused, Reply
from mailerd.gmail import Mailbox
from mailerd.worker.recovery import KEY_HEADER

GONE = Refused(404, "notFound", "Requested entity was not found.")


class AcceptedTwiceError(AssertionError):
    """A message went out twice."""


@dataclass
class Message:
    """What stands in the sent mail."""

    id: str
    sender: str
    key: str
    thread: str
    at: int
    """Milliseconds since 1970."""


@dataclass
class Notice:
    """What came into the inbox about a message; `kind` is of core/notices.py."""

    id: str
    about: Message
    kind: str


@dataclass
class Google:
    """`modes`: of each mailbox, how it sends and whether its sent mail may be read."""

    modes: dict[str, tuple[str, bool]]
    drafts: dict[str, Message] = field(default_factory=dict)
    sent: dict[str, Message] = field(default_factory=dict)
    has: dict[str, str] = field(default_factory=dict)
    """The message of each key that Google has accepted, and that has not come back."""
    inbox: list[Notice] = field(default_factory=list)
    forgotten: set[str] = field(default_factory=set)
    """Keys of messages of which a failover has forgotten what a person undid: that it bounced and is sent again, or
    that it was sent before its job was cancelled."""
    _number: int = 0

    def mailbox(self, sender: str) -> Mailbox:
        mode, reads = self.modes[sender]
        return Mailbox(sender, "draft" if mode == "draft" else "direct", reads, ())

    def create_draft(self, sender: str, key: str) -> Accepted:
        draft, thread = self._new("d"), self._new("t")
        self.drafts[draft] = Message(draft, sender, key, thread, 0)
        return Accepted(draft, thread)

    def send_draft(self, draft: str) -> Reply:
        if (it := self.drafts.pop(draft, None)) is None:
            return GONE
        return self._accept(it.sender, it.key, it.thread)

    def send_message(self, sender: str, key: str) -> Reply:
        return self._accept(sender, key, self._new("t"))

    def delete_draft(self, draft: str) -> Reply:
        return Accepted() if self.drafts.pop(draft, None) else GONE

    def _accept(self, sender: str, key: str, thread: str) -> Accepted:
        message = Message(self._new("m"), sender, key, thread, time.time_ns() // 1_000_000)
        self.sent[message.id] = message
        if key in self.has:
            raise AcceptedTwiceError(f"{key} was accepted as {self.has[key]} and as {message.id}")
        self.has[key] = message.id
        return Accepted(message.id, thread)

    def come_back(self, key: str) -> None:
        """No recipient has the message of this key, and everybody knows."""
        self.has.pop(key, None)

    def notice(self, message: Message, kind: str) -> None:
        """Mail about a message comes; with a limit notice Google has not sent it."""
        self.inbox.append(Notice(self._new("n"), message, kind))
        if kind == "over_limit":
            self.come_back(message.key)

    def _new(self, kind: str) -> str:
        self._number += 1
        return f"{kind}{self._number}"


@dataclass
class Face:
    """The calls of a look or a search, answered truthfully, but where `fault` says otherwise."""

    google: Google
    fault: Callable[[str], Reply | None]

    async def authenticate(self, sender: str) -> Mailbox:
        return self.google.mailbox(sender)

    async def get_draft(self, _: str, *, draft_id: str) -> Reply:
        return self.fault("drafts.get") or (Accepted(draft_id) if draft_id in self.google.drafts else GONE)

    async def get_draft_headers(self, _: str, *, draft_id: str) -> Reply:
        if (it := self.google.drafts.get(draft_id)) is None:
            return GONE
        return Accepted(draft_id, body={"message": _shown(it, "DRAFT")})

    async def delete_draft(self, _: str, *, draft_id: str) -> Reply:
        return self.google.delete_draft(draft_id)

    async def list_drafts(self, sender: str, *, page_token: str) -> Reply:
        assert not page_token
        return Accepted(body={"drafts": [{"id": id_} for id_, it in self.google.drafts.items() if it.sender == sender]})

    async def get_thread(self, _: str, *, thread_id: str) -> Reply:
        if fault := self.fault("threads.get"):
            return fault
        sent = [_shown(it, "SENT") for it in self.google.sent.values() if it.thread == thread_id]
        drafts = [_shown(it, "DRAFT") for it in self.google.drafts.values() if it.thread == thread_id]
        return Accepted(body={"messages": [*sent, *drafts]}) if sent or drafts else GONE

    async def list_sent(self, sender: str, *, page_token: str) -> Reply:
        assert not page_token
        if fault := self.fault("messages.list"):
            return fault
        mine = [it for it in self.google.sent.values() if it.sender == sender]
        return Accepted(body={"messages": [{"id": it.id, "threadId": it.thread} for it in reversed(mine)]})

    async def get_message(self, _: str, *, message_id: str) -> Reply:
        return self.fault("messages.get") or Accepted(message_id, body=_shown(self.google.sent[message_id], "SENT"))


def _shown(it: Message, label: str) -> dict[str, object]:
    headers = [{"name": KEY_HEADER, "value": it.key}]
    return {"id": it.id, "labelIds": [label], "internalDate": str(it.at), "payload": {"headers": headers}}
