"""Google's answers, word for word: the bodies that a client has to understand, spelt out nowhere
else.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mailerd.sandbox.google.fake_limits import PROJECT_NUMBER

JSON = "application/json; charset=UTF-8"
HTML = "text/html; charset=UTF-8"

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer before it meets the network."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Refused(Exception):  # noqa: N818 -- it carries an answer, and an answer is not an error of ours
    """Raised inside a method to answer something else than success."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def success(payload: Mapping[str, Any]) -> Answer:
    """A 200 with a JSON body."""
    return Answer(200, _encode(payload).encode())


def failure(
    code: int,
    *,
    reason: str,
    message: str,
    status: str = "",
    domain: str = "global",
    inner: str = "",
    details: Sequence[Mapping[str, Any]] = (),
    headers: tuple[tuple[str, str], ...] = (),
) -> Answer:
    """An answer in Google's error envelope; `inner` is the message inside `errors` where it
    differs.
    """
    item: dict[str, str] = {"message": inner or message, "domain": domain, "reason": reason}
    if code == 401:  # noqa: PLR2004 -- HTTP status codes read best as numbers
        item |= {"location": "Authorization", "locationType": "header"}
    error: dict[str, Any] = {"code": code, "message": message, "errors": [item]}
    if status:
        error["status"] = status
    if details:
        error["details"] = list(details)
    return Answer(code, _encode({"error": error}).encode(), headers=headers)


def invalid_argument(message: str) -> Answer:
    """400 invalidArgument: this request can never succeed as it is."""
    return failure(400, reason="invalidArgument", message=message, status="INVALID_ARGUMENT")


def not_found() -> Answer:
    """404 for an id that this mailbox does not have; also what a sent draft becomes."""
    message = "Requested entity was not found."
    return failure(404, reason="notFound", message=message, status="NOT_FOUND")


def unauthenticated() -> Answer:
    """401 for a token that is unknown, expired or revoked: Google does not say which."""
    return failure(
        401,
        reason="authError",
        message="Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or "
        "other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
        inner="Invalid Credentials",
        status="UNAUTHENTICATED",
        headers=(
            (
                "WWW-Authenticate",
                'Bearer realm="https://accounts.google.com/", error="invalid_token"',
            ),
        ),
    )


def login_required() -> Answer:
    """401 for a request without any token."""
    return failure(
        401,
        reason="required",
        message="Request is missing required authentication credential. Expected OAuth 2 access token, login cookie "
        "or other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
        inner="Login Required.",
        status="UNAUTHENTICATED",
        details=({"@type": _INFO, "reason": "CREDENTIALS_MISSING", "domain": "googleapis.com"},),
        headers=(("WWW-Authenticate", 'Bearer realm="https://accounts.google.com/"'),),
    )


def scope_insufficient(scopes: Sequence[str] = ()) -> Answer:
    """403 for a token that lacks every scope of the method; the header names those that would
    do.
    """
    hint = f'Bearer realm="https://accounts.google.com/", error="insufficient_scope", scope="{" ".join(scopes)}"'
    return failure(
        403,
        reason="insufficientPermissions",
        message="Request had insufficient authentication scopes.",
        inner="Insufficient Permission",
        status="PERMISSION_DENIED",
        details=(
            {
                "@type": _INFO,
                "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
                "domain": "googleapis.com",
                "metadata": {"service": "gmail.googleapis.com"},
            },
        ),
        headers=(("WWW-Authenticate", hint),),
    )


def api_disabled() -> Answer:
    """403 for every call from a Cloud project in which the Gmail API was never enabled, or was
    switched off.
    """
    message = (
        f"Gmail API has not been used in project {PROJECT_NUMBER} before or it is disabled. Enable it by visiting "
        f"https://console.developers.google.com/apis/api/gmail.googleapis.com/overview?project={PROJECT_NUMBER} then "
        "retry."
    )
    return failure(
        403,
        reason="accessNotConfigured",
        message=message,
        domain="usageLimits",
        status="PERMISSION_DENIED",
        details=(
            {
                "@type": _INFO,
                "reason": "SERVICE_DISABLED",
                "domain": "googleapis.com",
                "metadata": {
                    "service": "gmail.googleapis.com",
                    "consumer": f"projects/{PROJECT_NUMBER}",
                },
            },
        ),
    )


def forbidden(message: str) -> Answer:
    """403 forbidden: another person's mailbox, or what gmail.metadata does not allow."""
    return failure(403, reason="forbidden", message=message, status="PERMISSION_DENIED")


def units_exceeded(whose: str) -> Answer:
    """403 rateLimitExceeded for "user" or "project"; Google sends no Retry-After with it."""
    limit = "Units per minute per user" if whose == "user" else "Units per minute"
    message = (
        f"Quota exceeded for quota metric 'Total Query Cost' and limit '{limit}' of service "
        f"'gmail.googleapis.com' for consumer 'project_number:{PROJECT_NUMBER}'."
    )
    return failure(
        403,
        reason="rateLimitExceeded",
        message=message,
        domain="usageLimits",
        status="PERMISSION_DENIED",
    )


def retry_after(until: float, *, code: int = 429, what: str = "") -> Answer:
    """A throttle whose end stands in the text; `until` is epoch seconds, `what` is "Mail sending"
    for the daily cap.
    """
    stamp = (
        datetime.fromtimestamp(until, tz=UTC)
        .isoformat(timespec="milliseconds")
        .removesuffix("+00:00")
    )
    message = f"User-rate limit exceeded.  Retry after {stamp}Z" + (f" ({what})" if what else "")
    return failure(code, reason="rateLimitExceeded", message=message, status="RESOURCE_EXHAUSTED")


def too_many_concurrent() -> Answer:
    """429 for too many requests of one mailbox in flight."""
    message = "Too many concurrent requests for user."
    return failure(429, reason="rateLimitExceeded", message=message, status="RESOURCE_EXHAUSTED")


def too_large(limit: int) -> Answer:
    """413 for a message above the limit in bytes."""
    message = f"Request payload size exceeds the limit: {limit} bytes."
    return failure(413, reason="uploadTooLarge", message=message, status="FAILED_PRECONDITION")


def html_page(code: int, title: str, text: str) -> Answer:
    """One of the HTML pages that Google's front end answers before any API has seen the request."""
    page = (
        f"<!DOCTYPE html>\n<html lang=en>\n<title>Error {code} ({title})!!1</title>\n"
        f"<p><b>{code}.</b> <ins>That\u2019s an error.</ins>\n<p>{text}  <ins>That\u2019s all we know.</ins>\n"
    )
    return Answer(code, page.encode(), HTML)


def unknown_path() -> Answer:
    """404 for a path that is no method of the API."""
    return html_page(404, "Not Found", "The requested URL was not found on this server.")


def oauth_error(code: int, *, error: str, description: str) -> Answer:
    """An error of the token endpoint, which has an envelope of its own (RFC 6749, 5.2)."""
    return Answer(code, _encode({"error": error, "error_description": description}).encode())


def _precondition(message: str) -> Answer:
    return failure(400, reason="failedPrecondition", message=message, status="FAILED_PRECONDITION")


_INFO = "type.googleapis.com/google.rpc.ErrorInfo"

NAMED: dict[str, Callable[[float], Answer]] = {
    "invalid_to": lambda _: invalid_argument("Invalid To header"),
    "recipient_required": lambda _: invalid_argument("Recipient address required"),
    "precondition_failed": lambda _: _precondition("Precondition check failed."),
    "mail_service_not_enabled": lambda _: _precondition("Mail service not enabled"),
    "auth_error": lambda _: unauthenticated(),
    "rate_limit": lambda _: units_exceeded("user"),
    "user_rate_limit": lambda _: failure(
        403,
        reason="userRateLimitExceeded",
        message="User Rate Limit Exceeded",
        domain="usageLimits",
    ),
    "user_rate_limit_retry_after": retry_after,
    "user_rate_limit_retry_after_403": lambda until: retry_after(until, code=403),
    "mail_sending_retry_after": lambda until: retry_after(until, what="Mail sending"),
    "too_many_concurrent": lambda _: too_many_concurrent(),
    "daily_limit": lambda _: failure(
        403, reason="dailyLimitExceeded", message="Daily Limit Exceeded", domain="usageLimits"
    ),
    "quota_exceeded": lambda _: failure(
        403, reason="quotaExceeded", message="Quota exceeded.", domain="usageLimits"
    ),
    "domain_policy": lambda _: failure(
        403, reason="domainPolicy", message="The domain administrators have disabled Gmail apps."
    ),
    "api_disabled": lambda _: api_disabled(),
    "scope_insufficient": lambda _: scope_insufficient(),
    "not_found": lambda _: not_found(),
    "backend_error": lambda _: failure(
        500, reason="backendError", message="Backend Error", status="INTERNAL"
    ),
    "unavailable": lambda _: failure(
        503,
        reason="backendError",
        message="The service is currently unavailable.",
        status="UNAVAILABLE",
    ),
    "html_502": lambda _: html_page(
        502, "Server Error", "The server encountered a temporary error."
    ),
    "invalid_grant": lambda _: oauth_error(
        400, error="invalid_grant", description="Token has been expired or revoked."
    ),
    "admin_policy": lambda _: oauth_error(
        400,
        error="admin_policy_enforced",
        description="Access to your account data is restricted by policies.",
    ),
    "invalid_client": lambda _: oauth_error(
        401, error="invalid_client", description="The OAuth client was not found."
    ),
    "unauthorized_client": lambda _: oauth_error(
        401, error="unauthorized_client", description="Unauthorized"
    ),
}
"""Answers that a fault can ask for by name; the argument is the epoch time of any "Retry after"
stamp.
"""
