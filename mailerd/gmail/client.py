"""The Gmail client.

Every call takes a sender, ends within the time-out, and returns a Reply whatever happens.
"""

import asyncio
import base64
import json
import math
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Self, assert_never, override

from aiogoogle.resource import GoogleAPI

from mailerd.clock import Clock
from mailerd.config import GmailSettings
from mailerd.core.claims import ClaimedRecipient
from mailerd.core.reading import Authorization, AuthorizationState
from mailerd.core.replies import (
    Accepted,
    Call,
    MalformedResponse,
    NoCredentials,
    NoResponse,
    NotSent,
    Refused,
    Reply,
    TokenRefused,
    TooLate,
    WrongMailbox,
)
from mailerd.events.worker import GmailEvents
from mailerd.gmail import session
from mailerd.gmail.account import Account, Token, Tokens
from mailerd.gmail.credentials import CredentialDirs, CredentialFile, Mailbox, mailbox_with
from mailerd.gmail.session import MAX_BODY, MAX_RAW, GmailRequest, GmailSession, report

# The semaphore that limits the messages at Google, and each sender's share of it.
#
# A message holds a slot while Google has it to answer; its records need none. One sender cannot
# hold up the others:
#
# * A free slot goes to the sender that has the fewest. So all have the same share while they want
#   it, and one that is alone has all of them.
# * A message that is slow no longer counts for the others, whatever it waits for; it still counts
#   for its own sender. One that waits behind slow templates counts for its sender alone from the
#   first moment (`set_aside`).
# * A sender has no more messages in flight than its limit. Each call without an answer halves the
#   limit, and each answer raises it by one. A message that waits behind slow templates halves it
#   too.

SLOW_AFTER: Final = 1 / 6
"""Part of a call's time-out after which a message is slow: by default 5 s, several times what
Google takes for most.
"""
MAX_SLOW: Final = 2
"""So many times the number of slots may be slow at once; what is slow beyond that counts for the
others again.
"""

Key = tuple[int, str]
"""A message's id and its claim's token."""


_AHEAD_S: Final = 0.25
"""Seconds of work that are claimed ahead of the slots where Google is quick: a claim then takes as
many messages as there are slots, and no slot is empty while it takes its time, or the loop is busy.
"""


@dataclass(eq=False, slots=True)
class _MessageInFlight:
    """Claimed, and without Google's last answer."""

    sender: "_SenderSlots"
    slow_at: float
    """When it becomes slow, by the event loop's clock."""
    slow: bool = False
    aside: bool = False
    """It waits behind slow templates."""
    at_google: bool = False


@dataclass(eq=False, slots=True)
class _SenderSlots:
    """A sender's share of the slots."""

    email: str
    limit: int
    """The most messages in flight, beside those that wait for a slot."""
    in_flight: int = 0
    """Claimed, and without Google's last answer."""
    at_google: int = 0
    waiting: "deque[_Waiting]" = field(default_factory=deque)


_Waiting = tuple[_MessageInFlight, "asyncio.Future[None]"]


class MessageSemaphore:
    """At most `number` messages are at Google at once; `async with semaphore.slot(message)` waits
    for a slot.

    It counts a message from its claim on (`add`), so that no more are claimed than can be sent
    soon: half as many again as there are slots, or what is sent in `_AHEAD_S`. Then a slot that
    comes free has its next message at once, and need not wait for a claim. Messages that have their
    answer and wait for their record hold no slot, or Google would idle for the length of a commit;
    but the more there are of them, the fewer are claimed, since each would be a doubt if the
    process died now. Nor does a draft hold one whose id is being written (`released`); it costs one
    question to Google if the process dies.
    """

    def __init__(self, number: int, *, slow_after: float = 5.0) -> None:
        self.number: Final = number
        self.max_at_google: Final = (1 + MAX_SLOW) * number
        """Messages at Google at the very most, the slow ones included."""
        self.on_capacity: Callable[[], None] = lambda: None
        """Called when a sender that `capacity_by_sender` showed as full has room again."""
        self._slow_after: Final = slow_after
        self._messages: dict[Key, _MessageInFlight] = {}
        self._on_time: OrderedDict[Key, _MessageInFlight] = OrderedDict()
        """The messages that are not slow, in the order of their claims."""
        self._aside = 0
        self._at_google = 0
        self._on_time_at_google = 0
        self._unrecorded = 0
        """Messages that have Google's last answer."""
        self._ahead = number // 2
        """Messages that are claimed ahead of the slots."""
        self._answers, self._counted_since = 0, -math.inf
        """The messages that got their answer since then, by the event loop's clock."""
        self._senders: dict[str, _SenderSlots] = {}
        self._queue: OrderedDict[str, _SenderSlots] = OrderedDict()
        """Senders whose messages wait for a slot; the one that was served last stands last."""
        self._full: set[str] = set()
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def capacity(self) -> int:
        """Messages that may be claimed now."""
        slow = len(self._messages) - len(self._on_time) - self._aside
        counted = len(self._on_time) + max(0, slow - MAX_SLOW * self.number)
        return self.number + self._ahead - max(0, self._unrecorded - self._ahead) - counted

    @property
    def are_wanted(self) -> bool:
        """Whether messages wait for a slot."""
        return bool(self._queue)

    def capacity_by_sender(self) -> Mapping[str, int]:
        """Messages that may be claimed of each sender; a sender that is not named has nothing in
        flight.
        """
        capacity = {email: self._capacity_of(sender) for email, sender in self._senders.items()}
        self._full = {email for email, number in capacity.items() if number <= 0}
        return capacity

    async def wait_for_capacity(self, number: int) -> None:
        """Wait until so many messages may be claimed."""
        while self.capacity < number:
            self._changed.clear()
            await self._changed.wait()

    async def wait_until_empty(self) -> None:
        """Wait until no message is in flight, and none waits for its record."""
        while self._messages or self._unrecorded:
            self._changed.clear()
            await self._changed.wait()

    def add(self, messages: Iterable[ClaimedRecipient]) -> None:
        """Add messages that were claimed; each will ask for a slot, or be recorded without one."""
        slow_at = _now() + self._slow_after
        for message in messages:
            sender = self._sender(message.sender)
            sender.in_flight += 1
            key = message.id, message.token
            self._messages[key] = self._on_time[key] = _MessageInFlight(sender, slow_at)
        self._watch()

    def set_aside(self, message: ClaimedRecipient) -> None:
        """It waits behind slow templates, maybe for long: until it asks for a slot it counts for
        its sender alone.

        There are few of them: half as many of its sender may be in flight for each.
        """
        mine = self._messages.get((message.id, message.token))
        if mine is None or mine.aside:
            return
        mine.aside = True
        self._aside += 1
        self._on_time.pop((message.id, message.token), None)
        self.shrink(message.sender)
        self._changed.set()

    @asynccontextmanager
    async def slot(self, message: ClaimedRecipient) -> AsyncIterator[None]:
        """A slot for this message until Google's last answer."""
        mine = self._messages[message.id, message.token]
        if mine.aside:
            mine.aside, mine.slow, mine.slow_at = False, False, _now() + self._slow_after
            self._aside -= 1
            self._on_time[message.id, message.token] = mine
            self._watch()
        try:
            await self._wait_for_slot(mine, mine.sender.waiting.append)
            yield
        finally:
            self._answered((message.id, message.token))

    @asynccontextmanager
    async def released(self, message: ClaimedRecipient) -> AsyncIterator[None]:
        """Its slot is free for others meanwhile; then it waits for one again, ahead of its sender's
        other messages.
        """
        mine = self._messages[message.id, message.token]
        self._release(mine)
        self._grant()
        yield
        await self._wait_for_slot(mine, mine.sender.waiting.appendleft)

    def remove(self, message: ClaimedRecipient) -> None:
        """Remove a message that is recorded or given up."""
        self._answered((message.id, message.token))
        self._unrecorded -= 1
        self._changed.set()

    def grow(self, email: str) -> None:
        """Google has answered a call of this sender, whatever it said: one more of its messages may
        be in flight.
        """
        sender = self._sender(email)
        sender.limit = min(self.number, sender.limit + 1)
        self._forget(sender)

    def shrink(self, email: str) -> None:
        """A call of this sender ended without an answer, or its message is set aside: half as many
        may be in flight.
        """
        sender = self._sender(email)
        sender.limit = max(1, sender.limit // 2)

    def _capacity_of(self, sender: _SenderSlots) -> int:
        """Messages of it that may be claimed: some wait for their slot, fewer where calls had no
        answer.
        """
        ahead = self._ahead if sender.limit == self.number else sender.limit // 2
        return sender.limit + ahead - sender.in_flight

    def _sender(self, email: str) -> _SenderSlots:
        if (sender := self._senders.get(email)) is None:
            sender = self._senders[email] = _SenderSlots(email, limit=self.number)
        return sender

    def _forget(self, sender: _SenderSlots) -> None:
        """Drop a sender that has nothing in flight and no lowered limit: it is like one that was
        never met.
        """
        if not (sender.in_flight or sender.waiting) and sender.limit == self.number:
            self._senders.pop(sender.email, None)

    async def _wait_for_slot(
        self, message: _MessageInFlight, enter: "Callable[[_Waiting], None]"
    ) -> None:
        free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        enter((message, free))
        self._queue.setdefault(message.sender.email, message.sender)
        self._grant()
        await free

    def _release(self, message: _MessageInFlight) -> None:
        if message.at_google:
            message.at_google = False
            self._at_google -= 1
            self._on_time_at_google -= not message.slow
            message.sender.at_google -= 1

    def _answered(self, key: Key) -> None:
        """Free what the message holds: it has Google's last answer, or needs none."""
        if (message := self._messages.pop(key, None)) is None:
            return
        self._on_time.pop(key, None)
        self._aside -= message.aside
        self._unrecorded += 1
        self._count_answer(_now())
        sender = message.sender
        sender.in_flight -= 1
        self._release(message)
        self._grant()
        self._forget(sender)
        self._changed.set()
        if sender.email in self._full and self._capacity_of(sender) > 0:
            self._full.discard(sender.email)
            self.on_capacity()

    def _count_answer(self, now: float) -> None:
        """Learn how many messages get their answer in `_AHEAD_S`."""
        if (seconds := now - self._counted_since) >= _AHEAD_S:
            lately = round(self._answers * _AHEAD_S / seconds)
            self._ahead = min(max(self.number // 2, lately), self.number + self.number // 2)
            self._counted_since, self._answers = now, 0
        self._answers += 1

    def _grant(self) -> None:
        """Give the free slots to the senders that have the fewest."""
        while self._on_time_at_google < self.number and self._at_google < self.max_at_google:
            if (sender := self._next_sender()) is None:
                return
            message, free = sender.waiting.popleft()
            self._queue.move_to_end(sender.email)
            if not sender.waiting:
                del self._queue[sender.email]
            if not free.done():  # a message that was cancelled while it waited needs none
                message.at_google = True
                sender.at_google += 1
                self._at_google += 1
                self._on_time_at_google += not message.slow
                free.set_result(None)

    def _next_sender(self) -> _SenderSlots | None:
        """The sender with the fewest slots, of those whose messages wait and that are below their
        limit.
        """
        fewest = math.inf
        found = None
        for sender in self._queue.values():
            if sender.at_google < min(sender.limit, fewest):
                found, fewest = sender, sender.at_google
        return found

    def _watch(self) -> None:
        """Call `_on_slow` when the next message is slow."""
        if self._timer is None and self._on_time:
            next_slow = next(iter(self._on_time.values())).slow_at
            self._timer = asyncio.get_running_loop().call_at(next_slow, self._on_slow)

    def _on_slow(self) -> None:
        """Let the messages that are slow no longer count for the others."""
        self._timer, now = None, _now()
        while self._on_time and next(iter(self._on_time.values())).slow_at <= now:
            _, message = self._on_time.popitem(last=False)
            message.slow = True
            self._on_time_at_google -= message.at_google
        self._grant()
        self._changed.set()
        self._watch()


def _now() -> float:
    return asyncio.get_running_loop().time()


# The calls to Gmail, each written once: what it asks for, and at which address.
#
# A discovery document of our own with the few Gmail methods that mailerd calls, so that starting
# needs no network.
#
# Source: https://gmail.googleapis.com/$discovery/rest?version=v1, revision 20261005, cut down to
# what is used.

_ME = "gmail/v1/users/{userId}/"
_PATH = {"location": "path", "required": True, "type": "string"}
_TEXT = {"location": "query", "type": "string"}
_TEXTS = {"location": "query", "type": "string", "repeated": True}
_NUMBER = {"location": "query", "type": "integer"}

UPLOAD_ABOVE = 5_000_000
"""Bytes; larger messages take the upload address, which Google documents up to 35 MiB."""


def _method(
    verb: str, path: str, *, upload: bool = False, **parameters: dict[str, Any]
) -> dict[str, Any]:
    order = ["userId", "id"] if "{id}" in path else ["userId"]
    method: dict[str, Any] = {
        "httpMethod": verb,
        "path": _ME + path,
        "parameters": {name: dict(_PATH) for name in order}
        | {name: dict(p) for name, p in parameters.items()},
        # aiogoogle fails without this list.
        "parameterOrder": order,
    }
    if upload:
        method["supportsMediaUpload"] = True
        method["mediaUpload"] = {"protocols": {"simple": {"path": "/upload/" + _ME + path}}}
    return method


def document(root: str) -> dict[str, Any]:
    """The discovery document for a Gmail at `root`, which ends in "/"; a new one each time:
    aiogoogle alters it.
    """
    drafts = {
        "create": _method("POST", "drafts", upload=True),
        "send": _method("POST", "drafts/send"),
        "get": _method("GET", "drafts/{id}", format=_TEXT),
        "list": _method("GET", "drafts", pageToken=_TEXT, maxResults=_NUMBER),
        "delete": _method("DELETE", "drafts/{id}"),
    }
    messages = {
        "send": _method("POST", "messages/send", upload=True),
        "get": _method("GET", "messages/{id}", format=_TEXT, metadataHeaders=_TEXTS),
        "list": _method("GET", "messages", pageToken=_TEXT, maxResults=_NUMBER, labelIds=_TEXTS),
    }
    history = {
        "list": _method(
            "GET",
            "history",
            startHistoryId=_TEXT,
            historyTypes=_TEXTS,
            pageToken=_TEXT,
            maxResults=_NUMBER,
        )
    }
    threads = {"get": _method("GET", "threads/{id}", format=_TEXT, metadataHeaders=_TEXTS)}
    return {
        "kind": "discovery#restDescription",
        "id": "gmail:v1",
        "name": "gmail",
        "version": "v1",
        "rootUrl": root,
        "servicePath": "",
        "batchPath": "batch",
        "parameters": {},
        "schemas": {},
        "resources": {
            "users": {
                "methods": {"getProfile": _method("GET", "profile")},
                "resources": {
                    "drafts": {"methods": drafts},
                    "messages": {"methods": messages},
                    "threads": {"methods": threads},
                    "history": {"methods": history},
                },
            },
        },
    }


class Endpoints:
    """The URLs of Gmail's methods; those that every message needs are made once."""

    def __init__(self, root: str) -> None:
        self._users = GoogleAPI(document(root)).users
        drafts, messages = self._users.drafts, self._users.messages
        self.drafts_create = str(drafts.create(userId="me").url)
        self.drafts_send = str(drafts.send(userId="me").url)
        self.messages_send = str(messages.send(userId="me").url)
        self._root = root
        self.upload_draft = self._upload(drafts.create)
        self.upload_message = self._upload(messages.send)

    def _upload(self, method: Any) -> str:
        path = str(method["mediaUpload"]["protocols"]["simple"]["path"])
        return self._root + path.lstrip("/").format(userId="me") + "?uploadType=media"

    def draft(self, draft_id: str, *, shape: str = "") -> str:
        """One draft; `shape` is Google's "format", empty for methods that have none."""
        method, given = (
            (self._users.drafts.get, {"format": shape})
            if shape
            else (self._users.drafts.delete, {})
        )
        return self._one(method, ident=draft_id, **given)

    def message(self, message_id: str, *, headers: tuple[str, ...]) -> str:
        """One message's labels and named headers."""
        return self._one(
            self._users.messages.get,
            ident=message_id,
            format="metadata",
            metadataHeaders=list(headers),
        )

    def thread(self, thread_id: str, *, headers: tuple[str, ...]) -> str:
        """One thread's messages, with their labels and named headers."""
        return self._one(
            self._users.threads.get,
            ident=thread_id,
            format="metadata",
            metadataHeaders=list(headers),
        )

    def drafts(self, *, page_token: str) -> str:
        """A page of the drafts."""
        return str(
            self._users.drafts.list(userId="me", maxResults=100, pageToken=page_token or None).url
        )

    def sent(self, *, page_token: str) -> str:
        """A page of the sent messages, newest first; without `q`, which the scope gmail.metadata
        forbids.
        """
        listed = self._users.messages.list(
            userId="me", maxResults=100, labelIds=["SENT"], pageToken=page_token or None
        )
        return str(listed.url)

    def history(self, start: int, *, page_token: str) -> str:
        """A page of what came since a history id."""
        listed = self._users.history.list(
            userId="me",
            startHistoryId=str(start),
            historyTypes=["messageAdded"],
            maxResults=500,
            pageToken=page_token or None,
        )
        return str(listed.url)

    def labelled(self, label: str, *, page_token: str) -> str:
        """A page of the messages with a label, newest first; without `q`, as for `sent`."""
        listed = self._users.messages.list(
            userId="me", maxResults=500, labelIds=[label], pageToken=page_token or None
        )
        return str(listed.url)

    def raw_message(self, message_id: str) -> str:
        """One whole message."""
        return self._one(self._users.messages.get, ident=message_id, format="raw")

    def profile(self) -> str:
        """The mailbox itself."""
        return str(self._users.getProfile(userId="me").url)

    def _one(self, method: Any, *, ident: str, **given: Any) -> str:
        # An empty id would name the collection, and dots another path.
        if ident.strip(".") == "":
            raise ValueError(f"{ident!r} is not an id of Google's")
        # By default aiogoogle does not escape "/".
        return str(method(userId="me", id=ident, path_params_safe_chars={"id": ""}, **given).url)


_JSON = "application/json"
_MESSAGE = "message/rfc822"
KEY_HEADERS = ("X-Mailerd-Key",)
NOTICE_HEADERS = (
    "From",
    "To",
    "Subject",
    "Content-Type",
    "Authentication-Results",
    "X-Failed-Recipients",
    "Auto-Submitted",
    "Precedence",
    "X-Autoreply",
    "X-Autorespond",
    "X-Auto-Response-Suppress",
    "X-Mailerd-Key",
    "Message-ID",
    "In-Reply-To",
)
"""What tells a notice, an answer and an unsubscribe from all other mail, and a message of ours from
a person's.
"""


class GmailCalls(ABC):
    """Every call that mailerd makes to Gmail.

    `call` says when one is made: now, or once its units are granted.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints

    @abstractmethod
    async def call(self, request: GmailRequest) -> Reply:
        """Make one call."""

    async def create_draft(self, sender: str, *, raw: bytes) -> Reply:
        """Store a message as a draft; Accepted holds the draft's id and its thread's."""
        if len(raw) <= UPLOAD_ABOVE:
            return await self._post(
                sender, Call.DRAFTS_CREATE, self.endpoints.drafts_create, body=draft_json(raw)
            )
        return await self._post(
            sender, Call.DRAFTS_CREATE, self.endpoints.upload_draft, body=raw, content_type=_MESSAGE
        )

    async def send_draft(
        self, sender: str, *, draft_id: str, thread_id: str | None = None
    ) -> Reply:
        """Send a draft; Accepted holds the message's id and its thread's, which is the draft's own
        `thread_id`.

        https://developers.google.com/workspace/gmail/api/guides/drafts: the message has another id
        than the draft's.
        """
        body, url = json.dumps({"id": draft_id}).encode(), self.endpoints.drafts_send
        return await self._post(
            sender,
            Call.DRAFTS_SEND,
            url,
            body=body,
            answer_thread=thread_id or "",
            draft_id=draft_id,
        )

    async def send_message(self, sender: str, *, raw: bytes) -> Reply:
        """Send a message directly; Accepted holds its id and its thread's."""
        if len(raw) <= UPLOAD_ABOVE:
            return await self._post(
                sender, Call.MESSAGES_SEND, self.endpoints.messages_send, body=message_json(raw)
            )
        url = self.endpoints.upload_message
        return await self._post(sender, Call.MESSAGES_SEND, url, body=raw, content_type=_MESSAGE)

    async def get_draft(self, sender: str, *, draft_id: str) -> Reply:
        """Whether a draft exists: Accepted, or Refused with 404 when it was sent or deleted."""
        url = self.endpoints.draft(draft_id, shape="minimal")
        return await self._get(sender, Call.DRAFTS_GET, url, answer_id=draft_id)

    async def get_draft_headers(self, sender: str, *, draft_id: str) -> Reply:
        """A draft with all its headers in `body["message"]["payload"]["headers"]`."""
        url = self.endpoints.draft(draft_id, shape="metadata")
        return await self._get(sender, Call.DRAFTS_GET, url, answer_id=draft_id)

    async def get_raw_draft(self, sender: str, *, draft_id: str) -> Reply:
        """A whole draft (`body["message"]["raw"]`, base64url); refused where the sign-in has
        gmail.metadata.
        """
        url = self.endpoints.draft(draft_id, shape="raw")
        return await self._get(sender, Call.DRAFTS_GET, url, answer_id=draft_id, max_body=MAX_RAW)

    async def delete_draft(self, sender: str, *, draft_id: str) -> Reply:
        """Delete a draft for good."""
        url = self.endpoints.draft(draft_id)
        return await self.call(
            GmailRequest(Call.DRAFTS_DELETE, sender=sender, method="DELETE", url=url)
        )

    async def list_drafts(self, sender: str, *, page_token: str = "") -> Reply:
        """A page of up to 100 drafts (`body["drafts"]`, `body["nextPageToken"]`)."""
        return await self._get(
            sender, Call.DRAFTS_LIST, self.endpoints.drafts(page_token=page_token)
        )

    async def list_sent(self, sender: str, *, page_token: str = "") -> Reply:
        """A page of up to 100 sent messages, newest first (`body["messages"]`,
        `body["nextPageToken"]`).
        """
        return await self._get(
            sender, Call.MESSAGES_LIST, self.endpoints.sent(page_token=page_token)
        )

    async def get_message(self, sender: str, *, message_id: str) -> Reply:
        """A message's labels and the headers with our key (`body["payload"]["headers"]`)."""
        url = self.endpoints.message(message_id, headers=KEY_HEADERS)
        return await self._get(sender, Call.MESSAGES_GET, url, answer_id=message_id)

    async def get_thread(self, sender: str, *, thread_id: str) -> Reply:
        """A thread's messages with their labels and the headers with our key
        (`body["messages"]`).
        """
        url = self.endpoints.thread(thread_id, headers=KEY_HEADERS)
        return await self._get(sender, Call.THREADS_GET, url, answer_id=thread_id)

    async def list_history(self, sender: str, *, start: int, page_token: str = "") -> Reply:
        """A page of up to 500 records of what came since `start`; Refused with 404 where Google has
        forgotten that.
        """
        return await self._get(
            sender, Call.HISTORY_LIST, self.endpoints.history(start, page_token=page_token)
        )

    async def list_labelled(self, sender: str, label: str, *, page_token: str = "") -> Reply:
        """A page of up to 500 messages with a label, newest first (`body["messages"]`,
        `body["nextPageToken"]`).
        """
        return await self._get(
            sender, Call.MESSAGES_LIST, self.endpoints.labelled(label, page_token=page_token)
        )

    async def get_headers(self, sender: str, *, message_id: str) -> Reply:
        """A message's labels, size and those headers that tell what it is; never a word of its
        text.
        """
        url = self.endpoints.message(message_id, headers=NOTICE_HEADERS)
        return await self._get(sender, Call.MESSAGES_GET, url, answer_id=message_id)

    async def get_raw(self, sender: str, *, message_id: str) -> Reply:
        """A whole message (`body["raw"]`, base64url); refused where the sign-in has
        gmail.metadata.
        """
        url = self.endpoints.raw_message(message_id)
        return await self._get(
            sender, Call.MESSAGES_GET, url, answer_id=message_id, max_body=MAX_RAW
        )

    async def get_profile(self, sender: str) -> Reply:
        """The mailbox's own address and counts (`body["emailAddress"]`)."""
        return await self._get(sender, Call.GET_PROFILE, self.endpoints.profile())

    async def _get(
        self, sender: str, call: Call, url: str, *, answer_id: str = "", max_body: int = MAX_BODY
    ) -> Reply:
        return await self.call(
            GmailRequest(
                call, sender=sender, method="GET", url=url, answer_id=answer_id, max_body=max_body
            )
        )

    async def _post(
        self,
        sender: str,
        call: Call,
        url: str,
        *,
        body: bytes,
        content_type: str = _JSON,
        answer_thread: str = "",
        draft_id: str = "",
    ) -> Reply:
        return await self.call(
            GmailRequest(
                call,
                sender=sender,
                method="POST",
                url=url,
                body=body,
                content_type=content_type,
                answer_thread=answer_thread,
                draft_id=draft_id,
            )
        )


def message_json(raw: bytes) -> bytes:
    """A message as a resource:
    https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.messages.

    It is written by hand, since base64url needs no escaping in JSON.
    """
    return b"".join((b'{"raw":"', base64.urlsafe_b64encode(raw), b'"}'))


def draft_json(raw: bytes) -> bytes:
    """A message as a Draft resource."""
    return b"".join((b'{"message":', message_json(raw), b"}"))


_OTHER_CALLS = 20
"""Connections beside those of the messages: checks of unresolved sends, sweeps, tokens."""
_UNAUTHORIZED = 401


class Gmail(GmailCalls):
    """Gmail, for all senders. `async with` opens and closes the connections.

    `semaphore` lets at most `concurrency` messages be at Google at once; sending one takes a slot
    of it. Each call ends within `settings.request_timeout`, and that includes the wait for a
    connection, the refresh of a token and the repetition after a 401. It raises nothing but
    CancelledError, ValueError for an id that cannot be one, and RuntimeError outside `async with`.
    """

    def __init__(
        self,
        settings: GmailSettings,
        *,
        events: GmailEvents,
        concurrency: int,
        clock: Clock | None = None,
    ) -> None:
        self._time_s = settings.request_timeout
        super().__init__(Endpoints(settings.api_root))
        self._events = events
        self._clock = clock or Clock()
        self.semaphore: Final = MessageSemaphore(concurrency, slow_after=self._time_s * SLOW_AFTER)
        connections = self.semaphore.max_at_google + _OTHER_CALLS
        self._session = GmailSession(settings, events=events, limit=connections)
        self._tokens = Tokens(
            self._session, token_uri=settings.token_uri, events=events, clock=self._clock
        )
        self._credential_dirs = CredentialDirs.configured(settings.credentials_dir)
        self._accounts: dict[str, Account] = {}
        self._mailboxes: dict[str, Mailbox] = {}

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.__aexit__()

    async def authenticate(
        self, sender: str, *, pay: Callable[[], Awaitable[None]] | None = None
    ) -> Mailbox | Reply:
        """The sender's mailbox, once Google has given a token and confirmed that it is the sender's
        mailbox.

        This is free while the token is fresh. It costs one call for each credential file; `pay` is
        awaited before that.
        """
        account, deadline = self._account(sender), self._deadline()
        account.refresh_if_changed()
        token = await account.token(deadline=deadline)
        if not isinstance(token, Token):
            self._adapt_share(sender, token)
            return token
        if problem := await self._check_owner(account, sender, token, deadline=deadline, pay=pay):
            self._adapt_share(sender, problem)
            return problem
        known = mailbox_with(
            sender.lower(),
            scopes=token.scopes,
            project=account.project,
            verified=account.ownership.verified,
        )
        if isinstance(known, Mailbox) and self._mailboxes.get(known.sender) != known:
            self._mailboxes[known.sender] = known
            scopes = " ".join(known.scopes) or "unknown"
            self._events.sender_authenticated(sender=known.sender, mode=known.mode, scopes=scopes)
        return known

    def credential_file(self, sender: str) -> CredentialFile | NoCredentials:
        """The credential file that a sender has, unread; only the disk is asked."""
        return self._credential_dirs.find(sender.lower())

    def authorization(self, sender: str) -> Authorization:
        """What is known of a sender's authorization; only the disk is asked, so it may run in a
        thread.
        """
        sender = sender.lower()
        found = self._credential_dirs.find(sender)
        if isinstance(found, NoCredentials):
            return Authorization(AuthorizationState.MISSING, reason=found.cause)
        known = (
            account.authorization(found)
            if (account := self._accounts.get(sender))
            else Authorization()
        )
        if known.state is AuthorizationState.OK:
            box = mailbox_with(sender, scopes=known.scopes)
            if isinstance(box, NoCredentials):
                return replace(known, state=AuthorizationState.UNUSABLE, reason=box.cause)
        return known

    def credentials_version(self) -> object:
        """A value that changes when a credential file comes, goes or is replaced; costs one stat
        per folder.
        """
        return self._credential_dirs.version()

    @property
    def credential_owners(self) -> list[str]:
        """The mailboxes, and the @domains, that have a credential file."""
        return list(dict.fromkeys(each.owner for each in self._credential_dirs.all()))

    async def ping(self) -> session.Answer | NotSent | NoResponse:
        """Google's answer to a call without a token: a refusal, which shows that Google is there,
        and its Date.
        """
        request = GmailRequest(
            Call.GET_PROFILE, sender="", method="GET", url=self.endpoints.profile()
        )
        return await self._session.request(request, deadline=self._deadline())

    def _account(self, sender: str) -> Account:
        # Gmail knows no difference, and two tokens for one mailbox would be waste.
        sender = sender.lower()
        if sender not in self._accounts:
            self._accounts[sender] = Account(
                sender,
                dirs=self._credential_dirs,
                tokens=self._tokens,
                session=self._session,
                clock=self._clock,
                events=self._events,
            )
        return self._accounts[sender]

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._time_s

    @override
    async def call(self, request: GmailRequest) -> Reply:
        """Make the call now."""
        started = self._clock.monotonic()
        reply = await self._send(
            request, account=self._account(request.sender), deadline=self._deadline()
        )
        seconds = self._clock.monotonic() - started
        report(self._events, reply, sender=request.sender, call=request.call, seconds=seconds)
        self._adapt_share(request.sender, reply)
        return reply

    def _adapt_share(self, sender: str, reply: Reply) -> None:
        """Let more messages of the sender be in flight after an answer, and half as many after a
        call without one.
        """
        match reply:
            case Accepted() | Refused() | TokenRefused() | MalformedResponse():
                self.semaphore.grow(sender)
            case TooLate() | NoCredentials() | WrongMailbox():
                pass  # Google was not asked
            case NoResponse() | NotSent():
                self.semaphore.shrink(sender)
            case _:
                assert_never(reply)

    async def _send(self, request: GmailRequest, *, account: Account, deadline: float) -> Reply:
        """Send a request with a token.

        A 401 says that it was not carried out: then send it again with a new token.
        """
        reply, token = await self._send_once(
            request, account=account, deadline=deadline, refused=None
        )
        if isinstance(reply, Refused) and reply.status == _UNAUTHORIZED and token is not None:
            reply, _ = await self._send_once(
                request.again(), account=account, deadline=deadline, refused=token
            )
        return reply

    async def _send_once(
        self, request: GmailRequest, *, account: Account, deadline: float, refused: Token | None
    ) -> tuple[Reply, Token | None]:
        """The reply, and the token that the request was sent with; None when it was not sent."""
        token = await account.token(deadline=deadline, refused=refused)
        if not isinstance(token, Token):
            return token, None
        if request.call is not Call.GET_PROFILE and (
            problem := await self._check_owner(account, request.sender, token, deadline=deadline)
        ):
            return problem, None
        try:
            answer = await self._session.request(
                request, deadline=deadline, by=partial(account.send, token=token)
            )
            if isinstance(answer, NotSent | NoResponse):
                return answer, token
            reply = session.read(answer, call=request.call)
            if isinstance(reply, Accepted):
                reply = session.of_request(
                    reply, answer, id_=request.answer_id, thread=request.answer_thread
                )
            if isinstance(reply, Accepted) and request.call is Call.DRAFTS_CREATE:
                self._session.keep(request, reply.id)
            return reply, token
        finally:
            request.drop_connection()

    async def _check_owner(
        self,
        account: Account,
        sender: str,
        token: Token,
        *,
        deadline: float,
        pay: Callable[[], Awaitable[None]] | None = None,
    ) -> Reply | None:
        """Why this token must not be used: the mailbox is not the sender's, or Google did not say
        whose it is.
        """
        if account.ownership.is_known(token):
            return account.ownership.problem

        async def ask() -> Reply:
            if pay is not None:
                await pay()
            return await self.get_profile(sender)

        return await account.ownership.check(token, file=account.file, deadline=deadline, ask=ask)
