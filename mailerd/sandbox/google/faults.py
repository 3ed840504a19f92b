"""Faults on demand: what can go wrong, for whom and how often, and the answers that lie.

Only request_handler.py acts on them.
"""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any, Final, Literal

from mailerd.core.i18n import N_
from mailerd.sandbox.google.answers import HTML, NAMED, Answer
from mailerd.sandbox.google.methods import METHODS

Ending = Literal["answer", "reset", "hang", "cut_off"]
"""How the client learns of it: an answer, a TCP reset, silence, or an answer that breaks off
half-way.
"""

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
_TOKEN_ONLY = (
    "without_scope",
    "invalid_grant",
    "admin_policy",
    "invalid_client",
    "unauthorized_client",
)

KINDS = (*_UNSEEN, *_SEEN, *_LIES, "status", *NAMED)
"""Every kind of fault: behaviours, answers that lie, `status` with a body of one's own, Google's
answers by name.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Something that goes wrong for the next matching requests.

    The first `skip` matching requests are spared; then it strikes with `probability` until it has
    struck `count` times.
    """

    kind: str
    method: str = ""
    """A method such as "drafts.send", or "token"; empty for every Gmail method (not for
    "token").
    """
    sender: str = ""
    """A mailbox, or empty for all."""
    skip: int = 0
    count: int = 1
    """How often it strikes; -1 for ever."""
    probability: float = 1.0
    seconds: float = 60.0
    """For latency: how much longer. For a hang: when the silence ends in a reset.

    For late: when it is accepted.
    """
    status: int = 0
    """The HTTP status of kind "status" (default 500) or of a lie (default 200)."""
    body: str = ""
    """The body of kind "status"; "{id}" in it stands for the id that was asked for, the last part
    of the path.
    """
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
            raise ValueError(
                f"{self.kind} happens at the token endpoint only: method must be 'token'"
            )
        if self.skip < 0 or self.count < -1 or self.seconds < 0 or not 0 <= self.probability <= 1:
            raise ValueError(
                "skip and seconds must not be negative, count >= -1, probability from 0 to 1"
            )

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
            return Answer(
                self.status or 500, self.body.replace("{id}", asked_id).encode(), self.content_type
            )
        return self._lie(
            done or Answer(200, b'{"id":"0000000000000000","message":{"id":"0000000000000000"}}')
        )

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
                token = (
                    b'{"access_token":"ya29.never-issued","expires_in":3599,"token_type":"Bearer"}'
                )
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
    "reset_before": N_("the connection is cut; nothing was done"),
    "hang_before": N_("no response for --seconds; nothing was done"),
    "reset_after": N_("the connection is cut after the call was carried out"),
    "hang_after": N_("no response for --seconds after the call was carried out"),
    "late": N_("no response; the call is carried out --seconds later"),
    "cut_off": N_("carried out; the response breaks off half-way"),
    "latency": N_("a correct response, --seconds later"),
    "undelivered": N_("a correct response; then a limit notice returns the message"),
    "garbage": N_("carried out; the response is not JSON"),
    "truncated": N_("carried out; half of the JSON is missing"),
    "200_without_id": N_("carried out; the response has no ID"),
    "list_body": N_("carried out; the response is a list with an error in it"),
    "bad_utf8": N_("carried out; the response is not UTF-8"),
    "without_scope": N_("a token without its scopes (--method token)"),
    "status": N_("a response with status 500 and no body"),
    "invalid_to": N_("400: the address is not valid"),
    "recipient_required": N_("400: no recipient"),
    "precondition_failed": N_("400: without any details from Google"),
    "mail_service_not_enabled": N_("400: Gmail is disabled for this account"),
    "auth_error": N_("401: the token is no longer valid"),
    "rate_limit": N_("403: too many units per minute"),
    "user_rate_limit": N_("403: too many calls for one mailbox"),
    "user_rate_limit_retry_after": N_("429: too many calls, with the time to retry"),
    "user_rate_limit_retry_after_403": N_("403: too many calls, with the time to retry"),
    "mail_sending_retry_after": N_("429: daily limit reached, with the time to retry"),
    "too_many_concurrent": N_("429: too many concurrent calls of one mailbox"),
    "daily_limit": N_("403: daily limit of the project reached"),
    "quota_exceeded": N_("403: quota exceeded"),
    "domain_policy": N_("403: the domain's administrators do not allow Gmail apps"),
    "api_disabled": N_("403: the Gmail API is not enabled in the Cloud project"),
    "scope_insufficient": N_("403: the authorization does not include this call"),
    "not_found": N_("404: draft or message not found"),
    "backend_error": N_("500: an internal error of Google"),
    "unavailable": N_("503: Gmail is temporarily unavailable"),
    "html_502": N_("502: an HTML page of a proxy"),
    "invalid_grant": N_("the authorization was revoked or has expired (--method token)"),
    "admin_policy": N_("the domain's administrators do not allow the app (--method token)"),
    "invalid_client": N_("unknown OAuth client (--method token)"),
    "unauthorized_client": N_("the OAuth client is not allowed to do this (--method token)"),
}
"""What each kind does, in a few words, for people who choose one."""
