"""Reports the outcome of each call to Google."""

from collections.abc import Mapping
from typing import Final, assert_never

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
    TooLate,
    WrongMailbox,
)
from mailerd.events.worker import GmailEvents

_WORDS: Final[Mapping[type[Reply], str]] = {
    Accepted: "accepted",
    NoCredentials: "no_credentials",
    WrongMailbox: "wrong_mailbox",
    TokenUnavailable: "unreachable",
    TooLate: "too_late",
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


def report(events: GmailEvents, reply: Reply, *, sender: str, call: Call, seconds: float) -> None:
    """Report the end of a call as an event, which the log and the metrics take."""
    if isinstance(reply, Accepted):
        events.google_call_succeeded(sender=sender, call=call, seconds=seconds)
    else:
        events.google_call_failed(
            sender=sender, call=call, outcome=outcome_of(reply), excerpt=_excerpt(reply), seconds=seconds
        )


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
