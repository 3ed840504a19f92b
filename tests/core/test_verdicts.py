"""Verdicts: every row of the table of Gmail's answers, and what holds for any answer whatever."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.core import pauses
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
)
from mailerd.core.verdicts import Backoff, Disposition, PauseCause, Verdict, judge

SENDS = (Call.DRAFTS_SEND, Call.MESSAGES_SEND)
AT = datetime(2026, 11, 24, 11, 16, 42, 247000, tzinfo=UTC)
RETRY_AFTER = "User-rate limit exceeded.  Retry after 2026-11-24T11:16:42.247Z"
PER_USER = (
    "Quota exceeded for quota metric 'Total Query Cost' and limit 'Units per minute per user' of service "
    "'gmail.googleapis.com' for consumer 'project_number:123456789012'."
)
PER_DAY = PER_USER.replace("minute per user", "day")
UNAUTHENTICATED = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)


def sender(cause: PauseCause, until: datetime | None = None) -> Backoff:
    return Backoff(cause, until)


PROJECT = Backoff(PauseCause.PROJECT_LIMIT)
EVERYBODY = Backoff(PauseCause.GOOGLE_UNREACHABLE, everybody=True)

# What every call to Gmail has in common: status, reason, message -> result and hold.
ROWS: dict[str, tuple[Reply, Disposition, Backoff | None]] = {
    "400 invalid to": (Refused(400, "invalidArgument", "Invalid To header"), Disposition.REJECTED, None),
    "400 no recipient": (Refused(400, "invalidArgument", "Recipient address required"), Disposition.REJECTED, None),
    "400 precondition": (
        Refused(400, "failedPrecondition", "Precondition check failed."),
        Disposition.NOT_COUNTED,
        sender(PauseCause.MAILBOX_REFUSED),
    ),
    "400 no mail service": (
        Refused(400, "failedPrecondition", "Mail service not enabled"),
        Disposition.NOT_COUNTED,
        sender(PauseCause.MAILBOX_REFUSED),
    ),
    "400 no mail service, no reason": (
        Refused(400, "", "Mail service not enabled"),
        Disposition.NOT_COUNTED,
        sender(PauseCause.MAILBOX_REFUSED),
    ),
    "401 authError": (
        Refused(401, "authError", "Invalid Credentials"),
        Disposition.NOT_COUNTED,
        sender(PauseCause.TOKEN_REFUSED),
    ),
    "401 UNAUTHENTICATED": (
        Refused(401, "UNAUTHENTICATED", UNAUTHENTICATED),
        Disposition.NOT_COUNTED,
        sender(PauseCause.TOKEN_REFUSED),
    ),
    "403 rateLimitExceeded": (
        Refused(403, "rateLimitExceeded", PER_USER),
        Disposition.NOT_COUNTED,
        sender(PauseCause.THROTTLED),
    ),
    "403 userRateLimitExceeded": (
        Refused(403, "userRateLimitExceeded", "User Rate Limit Exceeded"),
        Disposition.NOT_COUNTED,
        sender(PauseCause.THROTTLED),
    ),
    "403 RATE_LIMIT_EXCEEDED": (
        Refused(403, "RATE_LIMIT_EXCEEDED", PER_USER),
        Disposition.NOT_COUNTED,
        sender(PauseCause.THROTTLED),
    ),
    "403 with a stamp": (
        Refused(403, "userRateLimitExceeded", RETRY_AFTER),
        Disposition.NOT_COUNTED,
        sender(PauseCause.THROTTLED, AT),
    ),
    "429 with a stamp": (
        Refused(429, "rateLimitExceeded", RETRY_AFTER),
        Disposition.NOT_COUNTED,
        sender(PauseCause.THROTTLED, AT),
    ),
    "429 daily cap": (
        Refused(429, "rateLimitExceeded", RETRY_AFTER + " (Mail sending)"),
        Disposition.NOT_COUNTED,
        sender(PauseCause.DAILY_LIMIT, AT),
    ),
    "429 daily cap without a stamp": (
        Refused(429, "rateLimitExceeded", "User-rate limit exceeded. (Mail sending)"),
        Disposition.NOT_COUNTED,
        sender(PauseCause.DAILY_LIMIT),
    ),
    "429 concurrent": (
        Refused(429, "rateLimitExceeded", "Too many concurrent requests for user"),
        Disposition.NOT_COUNTED,
        sender(PauseCause.TOO_MANY_CONCURRENT),
    ),
    "403 dailyLimitExceeded": (
        Refused(403, "dailyLimitExceeded", "Daily Limit Exceeded"),
        Disposition.NOT_COUNTED,
        PROJECT,
    ),
    "403 quotaExceeded": (Refused(403, "quotaExceeded", PER_DAY), Disposition.NOT_COUNTED, PROJECT),
    "403 domainPolicy": (
        Refused(403, "domainPolicy", "The domain administrators have disabled Gmail apps."),
        Disposition.NOT_COUNTED,
        sender(PauseCause.DOMAIN_POLICY),
    ),
    "403 insufficientPermissions": (
        Refused(403, "insufficientPermissions", "Insufficient Permission"),
        Disposition.NOT_COUNTED,
        sender(PauseCause.SCOPE_MISSING),
    ),
    "403 ACCESS_TOKEN_SCOPE_INSUFFICIENT": (
        Refused(403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "Request had insufficient authentication scopes."),
        Disposition.NOT_COUNTED,
        sender(PauseCause.SCOPE_MISSING),
    ),
    "413": (Refused(413, "uploadTooLarge", "Request too large"), Disposition.REJECTED, None),
    "token 400 invalid_grant": (
        TokenRefused(400, "invalid_grant", "Token has been expired or revoked."),
        Disposition.NOT_COUNTED,
        sender(PauseCause.TOKEN_REFUSED),
    ),
    "token 401 invalid_client": (
        TokenRefused(401, "invalid_client", "The OAuth client was not found."),
        Disposition.NOT_COUNTED,
        sender(PauseCause.CLIENT_REFUSED),
    ),
    "token 401 unauthorized_client": (
        TokenRefused(401, "unauthorized_client", "Client is unauthorized to retrieve access tokens using this method."),
        Disposition.NOT_COUNTED,
        sender(PauseCause.CLIENT_REFUSED),
    ),
    "token 429": (
        TokenRefused(429, "rate_limit_exceeded", "Rate Limit Exceeded"),
        Disposition.NOT_COUNTED,
        sender(PauseCause.THROTTLED),
    ),
    "token 503": (TokenRefused(503, "", ""), Disposition.NOT_COUNTED, sender(PauseCause.THROTTLED)),
    "no credentials": (NoCredentials("no file"), Disposition.NOT_COUNTED, sender(PauseCause.NO_CREDENTIALS)),
    "unreachable": (NotSent("Connection refused"), Disposition.NOT_COUNTED, EVERYBODY),
    "no token": (
        TokenUnavailable("no answer"),
        Disposition.NOT_COUNTED,
        Backoff(PauseCause.GOOGLE_UNREACHABLE),
    ),
    "accepted": (Accepted("18c2"), Disposition.ACCEPTED, None),
}

UNKNOWN: dict[str, Reply] = {
    "500 backendError": Refused(500, "backendError", "Backend Error"),
    "502 HTML": Refused(502, "", "<!DOCTYPE html><title>Error 502 (Server Error)!!1</title>"),
    "503 unavailable": Refused(503, "backendError", "The service is currently unavailable."),
    "503 that speaks of limits": Refused(503, "rateLimitExceeded", "Rate Limit Exceeded"),
    "504": Refused(504, "", "Gateway Timeout"),
    "408": Refused(408, "", "Request Timeout"),
    "reset after writing": NoResponse("Connection reset by peer"),
    "time-out after writing": NoResponse("no answer within 30 s"),
    "200 without an id": MalformedResponse(200, "{}"),
    "302 from who knows whom": Refused(302, "", "<html>Please sign in to the Wi-Fi"),
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("call", [Call.DRAFTS_CREATE, *SENDS])
def test_a_row_of_the_table_means_what_google_means(row: str, call: Call) -> None:
    reply, disposition, backoff = ROWS[row]
    verdict = judge(call, reply)
    assert (verdict.disposition, verdict.backoff) == (disposition, backoff)


@pytest.mark.parametrize("row", UNKNOWN)
@pytest.mark.parametrize("call", [*SENDS, Call.DRAFTS_DELETE])
def test_a_send_or_a_deletion_that_may_have_happened_is_a_doubt(row: str, call: Call) -> None:
    verdict = judge(call, UNKNOWN[row])
    assert (verdict.disposition, verdict.backoff) == (Disposition.UNKNOWN, None)


@pytest.mark.parametrize("row", UNKNOWN)
@pytest.mark.parametrize("call", sorted(set(Call) - {*SENDS, Call.DRAFTS_DELETE}))
def test_what_neither_sends_nor_deletes_is_never_in_doubt(row: str, call: Call) -> None:
    assert judge(call, UNKNOWN[row]).disposition is Disposition.TRANSIENT


@pytest.mark.parametrize("call", [Call.DRAFTS_SEND, Call.DRAFTS_GET])
def test_a_draft_that_google_does_not_have_is_gone(call: Call) -> None:
    assert (
        judge(call, Refused(404, "notFound", "Requested entity was not found.")).disposition is Disposition.DRAFT_GONE
    )


def test_only_a_draft_can_be_gone() -> None:
    for call in (Call.DRAFTS_CREATE, Call.MESSAGES_SEND):
        assert judge(call, Refused(404, "notFound", "Not Found")).disposition is Disposition.TRANSIENT


@pytest.mark.parametrize("call", [Call.DRAFTS_SEND, Call.DRAFTS_GET])
def test_a_404_that_is_not_googles_own_proves_nothing_about_a_draft(call: Call) -> None:
    assert judge(call, Refused(404, "", "<html>Not Found")).disposition is not Disposition.DRAFT_GONE


@pytest.mark.parametrize(
    "cause, remedy",
    [
        ("401 UNAUTHENTICATED", "mailerd auth login"),
        ("403 ACCESS_TOKEN_SCOPE_INSUFFICIENT", "mailerd auth login"),
        ("token 400 invalid_grant", "mailerd auth login"),
        ("token 401 invalid_client", "check its credential file"),
        ("400 precondition", "subject"),
        ("403 dailyLimitExceeded", "project"),
    ],
)
def test_what_pauses_a_sender_for_good_names_the_remedy_once(cause: str, remedy: str) -> None:
    verdict = judge(Call.DRAFTS_SEND, ROWS[cause][0])
    assert verdict.backoff
    assert f"{verdict.reason}; {pauses.remedy(verdict.backoff.cause, sender='me@example.com')}".count(remedy) == 1


@pytest.mark.parametrize("reason", ["accessNotConfigured", "SERVICE_DISABLED"])
def test_a_project_without_the_gmail_api_is_named_and_no_mailbox_is_blamed(reason: str) -> None:
    verdict = judge(Call.DRAFTS_CREATE, Refused(403, reason, "Gmail API has not been used in project 4242 before"))
    assert verdict.backoff == sender(PauseCause.API_DISABLED)
    assert verdict.reason.startswith("the Gmail API is not enabled in the Cloud project (403 ")
    assert "administrator" not in verdict.reason


@pytest.mark.parametrize(
    "text, until",
    [
        ("Retry after 2026-11-24T11:16:42Z", datetime(2026, 11, 24, 11, 16, 42, tzinfo=UTC)),
        ("please retry after 2026-11-24T11:16:42.2Z.", datetime(2026, 11, 24, 11, 16, 42, 200000, tzinfo=UTC)),
        ("Retry after 1999-01-01T00:00:00.000Z", datetime(1999, 1, 1, tzinfo=UTC)),  # decide() does not obey it
        ("Retry after 9999-12-31T23:59:59.999Z", datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)),
        ("Retry after 2026-13-45T99:99:99.000Z", None),
        ("Retry after 0000-00-00T00:00:00Z", None),
        ("Retry after 2026-11-24T11:16:42.247", None),
        ("Retry after tomorrow", None),
        ("2026-11-24T11:16:42.247Z", None),
        ("", None),
    ],
)
def test_the_stamp_in_googles_text_is_read_or_left_alone(text: str, until: datetime | None) -> None:
    assert judge(Call.DRAFTS_SEND, Refused(429, "rateLimitExceeded", text)).backoff == sender(
        PauseCause.THROTTLED, until
    )


calls = st.sampled_from(Call)
known = [reply for reply, _, _ in ROWS.values() if isinstance(reply, Refused)]
reasons = st.sampled_from([reply.reason for reply in known]) | st.text(max_size=20)
messages = st.sampled_from([reply.message for reply in known]) | st.text(max_size=60)
statuses = st.integers(-1, 700) | st.sampled_from([200, 204, 302, 400, 401, 403, 404, 408, 413, 429, 500, 503])
refusals = st.builds(Refused, status=statuses, reason=reasons, message=messages, retry_after=st.none() | st.floats())
replies: st.SearchStrategy[Reply] = st.one_of(
    refusals,
    st.builds(Accepted, id=st.text(max_size=9)),
    st.builds(TokenRefused, status=statuses, error=st.text(max_size=20), description=st.text(max_size=20)),
    st.builds(NoCredentials, st.text(min_size=1, max_size=20)),
    st.builds(NotSent, st.text(max_size=20)),
    st.builds(NoResponse, st.text(max_size=20)),
    st.builds(MalformedResponse, status=statuses, excerpt=st.text(max_size=20)),
)


@given(calls, replies)
def test_every_answer_to_every_call_gets_a_verdict(call: Call, reply: Reply) -> None:
    verdict = judge(call, reply)
    assert isinstance(verdict, Verdict)
    assert (verdict.disposition is Disposition.NOT_COUNTED) == (verdict.backoff is not None)
    assert verdict.disposition is Disposition.ACCEPTED or verdict.reason
    assert verdict.backoff is None or verdict.backoff.until is None or verdict.backoff.until.tzinfo is UTC


@given(st.sampled_from(SENDS), st.integers(500, 599), reasons, messages)
def test_any_server_error_of_a_send_is_a_doubt(call: Call, status: int, reason: str, message: str) -> None:
    assert judge(call, Refused(status, reason, message)).disposition is Disposition.UNKNOWN


@given(
    st.sampled_from(SENDS),
    st.builds(NoResponse, st.text()) | st.builds(MalformedResponse, status=statuses, excerpt=st.text()),
)
def test_any_missing_or_broken_answer_of_a_send_is_a_doubt(call: Call, reply: Reply) -> None:
    assert judge(call, reply).disposition is Disposition.UNKNOWN


@given(replies)
def test_no_answer_to_drafts_create_is_a_doubt(reply: Reply) -> None:
    assert judge(Call.DRAFTS_CREATE, reply).disposition not in {Disposition.UNKNOWN, Disposition.DRAFT_GONE}


@given(calls, reasons, messages)
def test_a_429_never_costs_the_message_anything(call: Call, reason: str, message: str) -> None:
    assert judge(call, Refused(429, reason, message)).disposition is Disposition.NOT_COUNTED


@given(calls, st.sampled_from(["rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED"]), messages)
def test_a_throttle_by_403_never_costs_the_message_anything(call: Call, reason: str, message: str) -> None:
    verdict = judge(call, Refused(403, reason, message))
    assert verdict.disposition is Disposition.NOT_COUNTED
    assert verdict.backoff
    assert not verdict.backoff.everybody
    assert verdict.backoff.cause in {PauseCause.THROTTLED, PauseCause.DAILY_LIMIT, PauseCause.TOO_MANY_CONCURRENT}


@given(replies)
def test_only_a_whole_answer_of_2xx_is_acceptance(reply: Reply) -> None:
    assert (judge(Call.DRAFTS_SEND, reply).disposition is Disposition.ACCEPTED) == isinstance(reply, Accepted)


@pytest.mark.parametrize("reason, said", [("", "503"), ("backendError", "503 backendError")])
def test_an_answer_without_a_message_is_told_without_a_colon(reason: str, said: str) -> None:
    assert judge(Call.DRAFTS_SEND, Refused(503, reason, "")).reason == f"Google responded {said}"
