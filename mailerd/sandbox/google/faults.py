"""Faults on demand: what can go wrong, for whom and how often, and the answers that lie.

Only request_handler.py acts on them.
"""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any, Final, Literal

from mailerd.sandbox.google.answers import HTML, NAMED, Answer
from mailerd.sandbox.google.methods import METHODS

Ending = Literal["answer", "reset", "hang", "cut_off"]
"""How the client learns of it: an answer, a TCP reset, silence, or an answer that breaks off half-way."""

_UNSEEN: dict[str, Ending] = {"reset_before": "reset", "hang_before": "hang"}
_SEEN: dict[str, Ending] = {
    "reset_after": "reset",
    "hang_after": "hang",
    "late": "hang",
    "cut_off": "cut_off",
    "latency": "answer",
    "undelivered": "answer",
}
_LIES = ("garbage", "truncated", "200_without_id", "list_body", "bad_utf8", "without_scope")
_TOKEN_ONLY = ("without_scope", "invalid_grant", "invalid_client", "unauthorized_client")

KINDS = (*_UNSEEN, *_SEEN, *_LIES, "status", *NAMED)
"""Every kind of fault: behaviours, answers that lie, `status` with a body of one's own, Google's answers by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Something that goes wrong for the next matching requests.

    The first `skip` matching requests are spared; then it strikes with `probability` until it has struck `count` times.
    """

    kind: str
    method: str = ""
    """A method such as "drafts.send", or "token"; empty for every Gmail method (not for "token")."""
    sender: str = ""
    """A mailbox, or empty for all."""
    skip: int = 0
    count: int = 1
    """How often it strikes; -1 for ever."""
    probability: float = 1.0
    seconds: float = 60.0
    """For latency: how much longer. For a hang: when the silence ends in a reset. For late: when it is accepted."""
    status: int = 0
    """The HTTP status of kind "status" (default 500) or of a lie (default 200)."""
    body: str = ""
    """The body of kind "status"; "{id}" in it stands for the id that was asked for, the last part of the path."""
    content_type: str = "application/json; charset=UTF-8"
    accepts: bool | None = None
    """Whether the work is done all the same; None for what the kind suggests."""

    def __post_init__(self) -> None:
        """Raise ValueError for a fault that could never strike or never be shown."""
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r}; known: {', '.join(KINDS)}")
        if self.method not in ("", "token", *METHODS):
            raise ValueError(f"unknown method {self.method!r}; known: token, {', '.join(METHODS)}")
        if self.kind in _TOKEN_ONLY and self.method != "token":
            raise ValueError(f"{self.kind} happens at the token endpoint only: method must be 'token'")
        if self.skip < 0 or self.count < -1 or self.seconds < 0 or not 0 <= self.probability <= 1:
            raise ValueError("skip and seconds must not be negative, count >= -1, probability from 0 to 1")

    @property
    def ending(self) -> Ending:
        """How the client learns of it."""
        return _UNSEEN.get(self.kind) or _SEEN.get(self.kind, "answer")

    @property
    def does_the_work(self) -> bool:
        """Whether the request is carried out although it goes wrong."""
        if self.accepts is not None:
            return self.accepts
        return self.kind in _SEEN or self.kind in _LIES

    def matches(self, method: str, sender: str) -> bool:
        """Whether a request is one of those that it is meant for."""
        wanted = self.method == method if self.method else method != "token"
        return wanted and (not self.sender or self.sender.lower() == sender)

    def answer(self, done: Answer | None, *, retry_at: float, asked_id: str = "") -> Answer:
        """What is answered: `done` is the honest answer, if the work was done."""
        if self.kind in NAMED:
            return NAMED[self.kind](retry_at)
        if self.kind == "status":
            return Answer(self.status or 500, self.body.replace("{id}", asked_id).encode(), self.content_type)
        return self._lie(done or Answer(200, b'{"id":"0000000000000000","message":{"id":"0000000000000000"}}'))

    def _lie(self, done: Answer) -> Answer:
        status = self.status or 200
        match self.kind:
            case "garbage":
                return Answer(status, b"<html>ceci n'est pas du JSON", HTML)
            case "truncated":
                return Answer(status, done.body[: len(done.body) // 2])
            case "200_without_id":
                return Answer(status, b'{"labelIds":["SENT"]}')
            case "list_body":
                return Answer(status, b'[{"error":{"code":500,"message":"Backend Error"}}]')
            case "bad_utf8":
                return Answer(status, b'{"id":"\xff\xfe\xfa","threadId":"\xc3("}')
            case "without_scope":
                token = b'{"access_token":"ya29.never-issued","expires_in":3599,"token_type":"Bearer"}'
                return Answer(status, token)
            case _:  # cut_off and latency tell the truth, as far as they get
                return done


@dataclass(slots=True)
class ActiveFault:
    """A fault in force: how many matching requests it has seen and how many it has struck."""

    id: int
    fault: Fault
    seen: int = 0
    struck: int = 0

    @property
    def spent(self) -> bool:
        """Whether it will never strike again."""
        return 0 <= self.fault.count <= self.struck

    def as_json(self) -> dict[str, Any]:
        """For people and for tests in other processes."""
        return {"id": self.id, **asdict(self.fault), "seen": self.seen, "struck": self.struck}


@dataclass(slots=True)
class Faults:
    """All faults in force, asked once for every request."""

    seed: int = 0
    armed: list[ActiveFault] = field(default_factory=list)
    spent: list[ActiveFault] = field(default_factory=list)
    _ids: "count[int]" = field(default_factory=lambda: count(1))
    _chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        """Start the dice from the seed."""
        self._chance = random.Random(self.seed)  # noqa: S311 -- repeatable on purpose, nothing secret

    def add(self, fault: Fault) -> ActiveFault:
        """Put a fault in force after those that are."""
        armed = ActiveFault(next(self._ids), fault)
        (self.spent if armed.spent else self.armed).append(armed)
        return armed

    def remove(self, ident: int) -> bool:
        """Lift one fault; False when there is none of that id."""
        left = [armed for armed in self.armed if armed.id != ident]
        found = len(left) < len(self.armed)
        self.armed = left
        return found

    def clear(self) -> None:
        """Lift all and forget what they did."""
        self.armed.clear()
        self.spent.clear()
        self._chance = random.Random(self.seed)  # noqa: S311 -- as above

    def pick(self, method: str, sender: str) -> Fault | None:
        """The fault that strikes this request; the first in force that matches and is due wins."""
        for armed in self.armed:
            fault = armed.fault
            if not fault.matches(method, sender):
                continue
            armed.seen += 1
            if armed.seen <= fault.skip:
                continue
            if fault.probability < 1 and self._chance.random() >= fault.probability:
                continue
            armed.struck += 1
            if armed.spent:
                self.armed.remove(armed)
                self.spent.append(armed)
            return fault
        return None


WHAT_HAPPENS: Final[Mapping[str, str]] = {
    "reset_before": "the connection is cut, and nothing was done",
    "hang_before": "silence for --seconds, and nothing was done",
    "reset_after": "the connection is cut after the work was done",
    "hang_after": "silence for --seconds after the work was done",
    "late": "silence, and the work is done --seconds later",
    "cut_off": "the work was done, and the answer breaks off half-way",
    "latency": "an honest answer, --seconds later",
    "undelivered": "an honest answer, and the letter comes back: the limit notice",
    "garbage": "the work was done, and the answer is no JSON",
    "truncated": "the work was done, and half of the JSON is missing",
    "200_without_id": "the work was done, and the answer has no id",
    "list_body": "the work was done, and the answer is a list with an error in it",
    "bad_utf8": "the work was done, and the answer is no UTF-8",
    "without_scope": "a token that does not say what it may do (--method token)",
    "status": "an answer with the status 500 and without a body",
    "invalid_to": "400: the address is no address",
    "recipient_required": "400: there is no recipient",
    "precondition_failed": "400: Google says no more than that",
    "mail_service_not_enabled": "400: Gmail is off for this account",
    "auth_error": "401: the token is not good any more",
    "rate_limit": "403: too many units in this minute",
    "user_rate_limit": "403: too fast for one mailbox",
    "user_rate_limit_retry_after": "429: too fast, and until when",
    "user_rate_limit_retry_after_403": "403: too fast, and until when",
    "mail_sending_retry_after": "429: the day is full, and until when",
    "too_many_concurrent": "429: too many requests of one mailbox at once",
    "daily_limit": "403: the project's day is full",
    "quota_exceeded": "403: the quota is used up",
    "domain_policy": "403: the administrators of the domain allow no Gmail apps",
    "scope_insufficient": "403: the sign-in does not allow this call",
    "not_found": "404: there is no such draft or letter",
    "backend_error": "500: an error inside Google",
    "unavailable": "503: Gmail is not available for the moment",
    "html_502": "502: a page of HTML in front of the API",
    "invalid_grant": "the sign-in was revoked or has expired (--method token)",
    "invalid_client": "there is no such OAuth client (--method token)",
    "unauthorized_client": "the OAuth client may not do this (--method token)",
}
"""What each kind does, in a few words, for people who choose one."""
