"""What Google answered, as facts without an opinion: the Gmail client makes them, `verdicts.judge`
reads them.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Call(StrEnum):
    """The calls that mailerd makes, by Google's own names."""

    TOKEN = "token"  # noqa: S105 - the name of a call, not a secret
    DRAFTS_CREATE = "drafts.create"
    DRAFTS_SEND = "drafts.send"
    DRAFTS_GET = "drafts.get"
    DRAFTS_LIST = "drafts.list"
    DRAFTS_DELETE = "drafts.delete"
    MESSAGES_SEND = "messages.send"
    MESSAGES_GET = "messages.get"
    MESSAGES_LIST = "messages.list"
    THREADS_GET = "threads.get"
    HISTORY_LIST = "history.list"
    GET_PROFILE = "getProfile"


@dataclass(frozen=True)
class Accepted:
    """A 2xx whose body is what the method promises (an id where one is due)."""

    id: str = ""
    """The draft's id for drafts.create, the message's id for drafts.send and messages.send."""
    thread_id: str = ""
    body: object = None
    """The parsed JSON, for the calls that read (lists, threads, profile)."""
    answered_at: datetime | None = None
    """The time of the answer by Google's clock, for the calls that ask how far a mailbox has
    come.
    """


@dataclass(frozen=True)
class Refused:
    """A complete answer with a status of 300 or above."""

    status: int
    reason: str = ""
    """`error.errors[0].reason`, or the ErrorInfo reason, or the OAuth `error`; "" when there is
    none.
    """
    message: str = ""
    """Google's own words, at most 500 characters; for HTML and the like an excerpt."""
    retry_after: float | None = None
    """The seconds of a Retry-After header, never negative; Gmail rarely sends one."""
    answered_at: datetime | None = None
    """The time of the answer by Google's clock.

    A time that its text names counts from it: our clock may differ.
    """


@dataclass(frozen=True)
class TokenRefused:
    """The token endpoint refused: nothing was asked of Gmail."""

    status: int
    error: str = ""
    """OAuth's own word: invalid_grant, invalid_client, unauthorized_client … (RFC 6749, section
    5.2).
    """
    description: str = ""


@dataclass(frozen=True)
class NoCredentials:
    """There is no usable credential file for this sender: no request was made."""

    cause: str


@dataclass(frozen=True)
class WrongMailbox:
    """The credential file opens another mailbox than the sender's: nothing but its address was
    requested.
    """

    cause: str


@dataclass(frozen=True)
class NotSent:
    """The request certainly never reached Google's application: no connection was made."""

    cause: str


@dataclass(frozen=True)
class TooLate(NotSent):
    """Its first byte would have gone out after the time that its caller allowed; it says nothing of
    Google.
    """


@dataclass(frozen=True)
class TokenUnavailable(NotSent):
    """No access token came, for whatever reason; Gmail was not asked, and may well answer
    others.
    """


@dataclass(frozen=True)
class OwnerUnknown(TokenUnavailable):
    """A token came, but Google did not say whose mailbox it opens: nothing may be sent by it."""


@dataclass(frozen=True)
class UnitsUsedUp(NotSent):
    """The call was not made, since it would be more than the sender may use now; Google is well."""


@dataclass(frozen=True)
class NoResponse:
    """The request was, or may have been, written and no whole answer came: time-out, reset, cut
    off.
    """

    cause: str


@dataclass(frozen=True)
class MalformedResponse:
    """A 2xx whose body is not what the method promises (no JSON, no id)."""

    status: int
    excerpt: str


Reply = (
    Accepted
    | Refused
    | TokenRefused
    | NoCredentials
    | WrongMailbox
    | NotSent
    | NoResponse
    | MalformedResponse
)
