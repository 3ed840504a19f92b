"""Logs and counts the outcome of each call to Google."""

from collections.abc import Mapping
from typing import Final, Protocol, assert_never

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
    TokenUnavailable,
    WrongMailbox,
)
from mailerd.events.gmail import GmailEvents


class Meter(Protocol):
    """Counts calls."""

    def google_call(self, *, call: Call, outcome: str, seconds: float) -> None:
        """One call has ended; `outcome` is a word of `outcome_of`, which has few."""


_WORDS: Final[Mapping[type[Reply], str]] = {
    Accepted: "accepted",
    NoCredentials: "no_credentials",
    WrongMailbox: "wrong_mailbox",
    TokenUnavailable: "unreachable",
    NotSent: "unreachable",
    NoResponse: "lost",
    MalformedResponse: "garbled",
}


def outcome_of(reply: Reply) -> str:
    """A reply in one word, for a label: accepted, refused_429, token_refused_400, lost."""
    match reply:
        case Refused():
            return f"refused_{reply.status}"
        case TokenRefused():
            return f"token_refused_{reply.status}"
        case _:
            return _WORDS[type(reply)]


class Instrument:
    """Logs and counts calls."""

    def __init__(self, *, events: GmailEvents, meter: Meter | None) -> None:
        self._events = events
        self._meter = meter

    def reply(self, reply: Reply, *, sender: str, call: Call, seconds: float) -> None:
        """A call has ended in a reply."""
        outcome = outcome_of(reply)
        if self._meter:
            self._meter.google_call(call=call, outcome=outcome, seconds=seconds)
        if not isinstance(reply, Accepted):
            self._events.google_call_failed(
                sender=sender, call=call, outcome=outcome, excerpt=_excerpt(reply), seconds=seconds
            )

    def token(self, sender: str, *, seconds: float, good_for: float) -> None:
        """The token endpoint has given a token."""
        if self._meter:
            self._meter.google_call(call=Call.TOKEN, outcome="accepted", seconds=seconds)
        self._events.token_refreshed(sender=sender, seconds=seconds, good_for=good_for)


def _excerpt(
    reply: Refused | TokenRefused | NoCredentials | WrongMailbox | NotSent | NoResponse | MalformedResponse,
) -> str:
    match reply:
        case Refused():
            return f"{reply.reason}: {reply.message}"
        case TokenRefused():
            return f"{reply.error}: {reply.description}"
        case NoCredentials() | WrongMailbox() | NotSent() | NoResponse():
            return reply.cause
        case MalformedResponse():
            return reply.excerpt
        case _:
            assert_never(reply)
