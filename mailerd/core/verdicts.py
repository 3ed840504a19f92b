"""What a reply means: for this message, and for the messages behind it.

The table is Google's own pages on Gmail API errors and usage limits
(https://developers.google.com/workspace/gmail/api/guides/handle-errors) plus what was observed
beyond them.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, assert_never

from mailerd.core.reasons import reason
from mailerd.core.replies import (
    Accepted,
    Call,
    MalformedResponse,
    NoCredentials,
    NoResponse,
    NotSent,
    OwnerUnknown,
    Refused,
    Reply,
    TokenRefused,
    TokenUnavailable,
    WrongMailbox,
)


class Disposition(StrEnum):
    """What a reply means for the message."""

    ACCEPTED = "accepted"
    """Google has done what was asked."""
    REJECTED = "rejected"
    """Google will never take this message."""
    TRANSIENT = "transient"
    """It did not work and nothing was sent; another attempt may work. The attempt counts."""
    NOT_COUNTED = "not_counted"
    """It did not work for a reason that is not the message's; nothing was sent and the attempt is
    refunded.
    """
    UNKNOWN = "unknown"
    """Google may have done what cannot be undone: sent it, or deleted its draft."""
    DRAFT_GONE = "draft_gone"
    """The draft does not exist: it was sent before, or a person deleted it."""


class PauseCause(StrEnum):
    """The cause of a pause; the same word in the table, the log and the metrics."""

    THROTTLED = "throttled"
    DAILY_LIMIT = "daily_limit"
    TOO_MANY_CONCURRENT = "too_many_concurrent"
    PROJECT_LIMIT = "project_limit"
    TOKEN_REFUSED = "token_refused"  # noqa: S105 - the name of a cause, not a secret
    CLIENT_REFUSED = "client_refused"
    NO_CREDENTIALS = "no_credentials"
    WRONG_MAILBOX = "wrong_mailbox"
    SCOPE_MISSING = "scope_missing"
    MAILBOX_REFUSED = "mailbox_refused"
    API_DISABLED = "api_disabled"
    DOMAIN_POLICY = "domain_policy"
    GOOGLE_UNREACHABLE = "google_unreachable"


@dataclass(frozen=True)
class Backoff:
    """Other messages of the sender must wait as well; by PROJECT_LIMIT those of all senders of its
    project.
    """

    cause: PauseCause
    until: datetime | None = None
    """The time that Google's text names; it may be implausible."""
    everybody: bool = False
    """Google cannot be reached at all, for whichever sender."""


@dataclass(frozen=True)
class Verdict:
    """What a reply means."""

    disposition: Disposition
    reason: str = ""
    """What happened (core/reasons.py), in Google's words where there are any."""
    backoff: Backoff | None = None


_IRREVERSIBLE: Final = frozenset({Call.DRAFTS_SEND, Call.MESSAGES_SEND, Call.DRAFTS_DELETE})
_OF_A_DRAFT: Final = frozenset({Call.DRAFTS_SEND, Call.DRAFTS_GET, Call.DRAFTS_DELETE})
_STAMP: Final = re.compile(r"[Rr]etry after (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)")
_RATE: Final = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED"})
_PROJECT: Final = frozenset({"dailyLimitExceeded", "quotaExceeded"})
SCOPE_REFUSED: Final = frozenset({"insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"})
"""Google's reasons for refusing a call that the sign-in's scopes do not allow."""
API_DISABLED: Final = frozenset({"accessNotConfigured", "SERVICE_DISABLED"})
"""Google's reasons for refusing every call from a Cloud project in which the Gmail API was not
enabled.
"""
_POLICY: Final = ("admin_policy_enforced", "access_denied", "org_internal")
"""OAuth's words for a sign-in that the domain's administrator does not allow; another sign-in
changes nothing.
"""
_NEEDED: Final = {
    call: "gmail.compose" if "drafts" in call else "gmail.metadata" for call in Call
} | {Call.MESSAGES_SEND: "gmail.send"}
_CLIENT_ERROR: Final = 400
_SERVER_ERROR: Final = 500
_TIMED_OUT: Final = 408
_TOO_MANY: Final = 429


def judge(call: Call, reply: Reply) -> Verdict:
    """What `reply` to `call` means; pure and total."""
    match reply:
        case Accepted():
            return Verdict(Disposition.ACCEPTED)
        case Refused():
            return _refused(call, reply)
        case NoResponse(cause):
            return _unknown(call, reason("google_silent", cause=cause))
        case MalformedResponse(status, excerpt):
            return _unknown(
                call, reason("malformed_response", status=status, call=call.value, excerpt=excerpt)
            )
        case TokenRefused():
            return _token(reply)
        case NoCredentials(cause) | WrongMailbox(cause):
            pause = (
                PauseCause.NO_CREDENTIALS
                if isinstance(reply, NoCredentials)
                else PauseCause.WRONG_MAILBOX
            )
            return _not_counted(pause, reason(pause.value, cause=cause))
        case NotSent():
            return _unreachable(reply)
        case _:
            assert_never(reply)


def refused_alone(reply: Refused) -> Verdict:
    """What a refusal means that seems to concern the mailbox, where Google takes other messages
    from it meanwhile.
    """
    return Verdict(Disposition.REJECTED, reason("message_rejected_alone", said=words_of(reply)))


def words_of(reply: Refused) -> str:
    """Its status and Google's own words."""
    return f"{reply.status} {reply.reason}".rstrip() + (
        f": {reply.message}" if reply.message else ""
    )


def _unknown(call: Call, why: str) -> Verdict:
    # Nothing is sent by drafts.create: at worst an orphan draft lies about, which the recovery
    # finds by its key.
    return Verdict(Disposition.UNKNOWN if call in _IRREVERSIBLE else Disposition.TRANSIENT, why)


def _not_counted(
    cause: PauseCause, why: str, *, until: datetime | None = None, everybody: bool = False
) -> Verdict:
    return Verdict(Disposition.NOT_COUNTED, why, Backoff(cause, until, everybody))


def _unreachable(reply: NotSent) -> Verdict:
    # another service than Gmail: senders whose token is fresh go on
    if isinstance(reply, TokenUnavailable):
        code = "owner_unknown" if isinstance(reply, OwnerUnknown) else "no_access_token"
        return _not_counted(PauseCause.GOOGLE_UNREACHABLE, reason(code, cause=reply.cause))
    return _not_counted(
        PauseCause.GOOGLE_UNREACHABLE,
        reason("google_unreachable", cause=reply.cause),
        everybody=True,
    )


def _token(reply: TokenRefused) -> Verdict:
    said = (
        f"{reply.error or reply.status}: {reply.description}"
        if reply.description
        else reply.error or str(reply.status)
    )
    if reply.status >= _SERVER_ERROR or reply.status == _TOO_MANY:
        return _not_counted(PauseCause.THROTTLED, reason("token_endpoint_unavailable", said=said))
    if any(word in said for word in _POLICY):
        return _not_counted(PauseCause.DOMAIN_POLICY, reason("mailbox_policy", said=said))
    if reply.error == "invalid_grant":
        return _not_counted(PauseCause.TOKEN_REFUSED, reason("authorization_revoked", said=said))
    return _not_counted(PauseCause.CLIENT_REFUSED, reason("client_rejected", said=said))


def _refused(call: Call, reply: Refused) -> Verdict:
    said = words_of(reply)
    # a redirect: who answered?
    if not _CLIENT_ERROR <= reply.status < _SERVER_ERROR or reply.status == _TIMED_OUT:
        return _unknown(call, reason("google_error", said=said))
    match reply.status:
        case 400:
            return _bad_request(reply, said)
        case 401:
            return _not_counted(
                PauseCause.TOKEN_REFUSED, reason("access_token_rejected", said=said)
            )
        case 403:
            return _forbidden(call, reply, said)
        # a proxy's own 404 proves nothing
        case 404 if reply.reason == "notFound" and call in _OF_A_DRAFT:
            return Verdict(Disposition.DRAFT_GONE, reason("draft_gone"))
        case 413:
            return Verdict(Disposition.REJECTED, reason("message_too_large", said=said))
        case 429:
            return _throttled(reply, said)
        case _:
            return Verdict(Disposition.TRANSIENT, reason("google_error", said=said))


def _bad_request(reply: Refused, said: str) -> Verdict:
    if (
        reply.reason in {"failedPrecondition", "FAILED_PRECONDITION"}
        or "Mail service not enabled" in reply.message
    ):
        return _not_counted(PauseCause.MAILBOX_REFUSED, reason("gmail_disabled", said=said))
    return Verdict(Disposition.REJECTED, reason("message_rejected", said=said))


def _forbidden(call: Call, reply: Refused, said: str) -> Verdict:
    if reply.reason in _RATE:
        return _throttled(reply, said)
    # before the words, which are the same for a minute's limit and a project's
    if reply.reason in _PROJECT:
        return _not_counted(PauseCause.PROJECT_LIMIT, reason("project_limit", said=said))
    if reply.reason in SCOPE_REFUSED:
        return _not_counted(
            PauseCause.SCOPE_MISSING, reason("scope_missing", scope=_NEEDED[call], said=said)
        )
    if "Quota exceeded" in reply.message or "rate limit" in reply.message.lower():
        return _throttled(reply, said)
    if reply.reason in API_DISABLED:
        return _not_counted(PauseCause.API_DISABLED, reason("gmail_api_disabled", said=said))
    if reply.reason == "domainPolicy":
        return _not_counted(PauseCause.DOMAIN_POLICY, reason("domain_policy", said=said))
    return _not_counted(PauseCause.MAILBOX_REFUSED, reason("mailbox_rejected", said=said))


def _throttled(reply: Refused, said: str) -> Verdict:
    if "concurrent" in reply.message.lower():
        return _not_counted(
            PauseCause.TOO_MANY_CONCURRENT, reason("too_many_concurrent", said=said)
        )
    cause = PauseCause.DAILY_LIMIT if "(Mail sending)" in reply.message else PauseCause.THROTTLED
    return _not_counted(cause, reason(cause.value, said=said), until=_stamp(reply.message))


def _stamp(message: str) -> datetime | None:
    if not (match := _STAMP.search(message)):
        return None
    try:
        return datetime.fromisoformat(match[1]).astimezone(UTC)
    except ValueError:
        return None
