"""Every row of the table of Google's answers, from the exact bytes that Google sends to what a daemon decides."""

from datetime import UTC, datetime, timedelta

import pytest

from mailerd.core.decisions import Decision, RetryPolicy, decide
from mailerd.core.pauses import with_remedy
from mailerd.core.replies import Call, Reply
from mailerd.core.states import Transition
from mailerd.core.verdicts import PauseCause, judge
from mailerd.gmail.session import Answer, TokenResponse, read, read_token
from mailerd.sandbox.google.answers import NAMED

NOW = datetime(2026, 11, 24, 11, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
SOON, AGES, PAST = NOW + 16 * MINUTE, NOW + timedelta(days=400), NOW - HOUR
POLICY = RetryPolicy(max_attempts=5, base=10 * SECOND, cap=HOUR, late_arrival=MINUTE)

# The cause of the sender's pause, or of the project's; and how long without a stamp in the text.
PAUSES = {
    "precondition_failed": (PauseCause.MAILBOX_REFUSED, MINUTE),
    "mail_service_not_enabled": (PauseCause.MAILBOX_REFUSED, MINUTE),
    "auth_error": (PauseCause.TOKEN_REFUSED, MINUTE),
    "rate_limit": (PauseCause.THROTTLED, 20 * SECOND),
    "user_rate_limit": (PauseCause.THROTTLED, 20 * SECOND),
    "too_many_concurrent": (PauseCause.TOO_MANY_CONCURRENT, 5 * SECOND),
    "daily_limit": (PauseCause.PROJECT_LIMIT, HOUR),
    "quota_exceeded": (PauseCause.PROJECT_LIMIT, HOUR),
    "domain_policy": (PauseCause.DOMAIN_POLICY, MINUTE),
    "api_disabled": (PauseCause.API_DISABLED, MINUTE),
    "scope_insufficient": (PauseCause.SCOPE_MISSING, MINUTE),
}
STAMPED = {
    "user_rate_limit_retry_after": (PauseCause.THROTTLED, 15 * MINUTE),
    "user_rate_limit_retry_after_403": (PauseCause.THROTTLED, 15 * MINUTE),
    "mail_sending_retry_after": (PauseCause.DAILY_LIMIT, HOUR),
}
TOKENS = {
    "invalid_grant": PauseCause.TOKEN_REFUSED,
    "admin_policy": PauseCause.DOMAIN_POLICY,
    "invalid_client": PauseCause.CLIENT_REFUSED,
    "unauthorized_client": PauseCause.CLIENT_REFUSED,
}
FAILED = ("invalid_to", "recipient_required")
UNKNOWN = ("backend_error", "unavailable", "html_502")


def said(name: str, *, until: datetime = SOON) -> Answer:
    answer = NAMED[name](until.timestamp())
    return Answer(answer.status, {"Content-Type": answer.content_type, **dict(answer.headers)}, answer.body)


def decided(call: Call, reply: Reply, *, attempt: int = 1, pauses: int = 0, chance: float = 0.0) -> Decision:
    return decide(judge(call, reply), reply, attempt=attempt, policy=POLICY, now=NOW, pauses=pauses, chance=chance)


def gmail(name: str, *, call: Call = Call.DRAFTS_SEND, until: datetime = SOON, pauses: int = 0) -> Decision:
    return decided(call, read(said(name, until=until), call=call), pauses=pauses)


def test_no_answer_of_google_is_forgotten_here() -> None:
    assert {*PAUSES, *STAMPED, *TOKENS, *FAILED, *UNKNOWN, "not_found"} == set(NAMED)


@pytest.mark.parametrize("call", [Call.DRAFTS_CREATE, Call.DRAFTS_SEND, Call.MESSAGES_SEND])
@pytest.mark.parametrize("name", PAUSES)
def test_what_is_not_the_messages_fault_refunds_it_and_pauses_its_sender(name: str, call: Call) -> None:
    made = gmail(name, call=call)
    assert made.transition is Transition.RELEASED
    assert made.pause
    assert (made.pause.cause, made.pause.wait) == PAUSES[name]


@pytest.mark.parametrize("name", STAMPED)
def test_the_time_in_googles_text_is_obeyed_unless_it_is_absurd(name: str) -> None:
    cause, otherwise = STAMPED[name]
    for until, wait in ((SOON, 16 * MINUTE + 5 * SECOND), (AGES, otherwise), (PAST, otherwise)):
        made = gmail(name, until=until)
        assert made.transition is Transition.RELEASED
        assert made.pause
        assert (made.pause.cause, made.pause.wait) == (cause, wait)


def test_the_daily_limit_without_a_sane_stamp_pauses_for_hours_that_double() -> None:
    waits = [gmail("mail_sending_retry_after", until=PAST, pauses=pauses).pause for pauses in range(6)]
    assert [pause.wait / HOUR for pause in waits if pause] == [1, 2, 4, 8, 16, 24]


@pytest.mark.parametrize("name", FAILED)
def test_what_is_the_recipients_fault_fails_that_message_alone(name: str) -> None:
    made = gmail(name)
    assert (made.transition, made.pause, made.global_backoff) == (Transition.FAILED, None, None)


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_server_error_is_a_doubt_for_a_send_and_another_attempt_for_a_draft(name: str) -> None:
    for call in (Call.DRAFTS_SEND, Call.MESSAGES_SEND):
        made = gmail(name, call=call)
        assert (made.transition, made.pause, made.wait) == (Transition.LOST, None, POLICY.late_arrival)
    made = gmail(name, call=Call.DRAFTS_CREATE)
    assert (made.transition, made.pause) == (Transition.DEFERRED, None)


def test_plain_trouble_backs_off_with_full_jitter_and_fails_with_the_last_cause() -> None:
    reply = read(said("unavailable"), call=Call.DRAFTS_CREATE)
    for chance in (0.0, 0.5, 0.999):
        waits = [decided(Call.DRAFTS_CREATE, reply, attempt=n, chance=chance).wait for n in range(1, 5)]
        assert waits == [10 * SECOND * 2 ** (n - 1) * chance for n in range(1, 5)]
    made = decided(Call.DRAFTS_CREATE, reply, attempt=5)
    assert made.transition is Transition.FAILED
    assert "gave up after attempt 5" in (made.error or "")
    assert "The service is currently unavailable." in (made.error or "")


def test_a_draft_that_is_not_there_is_looked_into() -> None:
    assert gmail("not_found").transition is Transition.LOST


@pytest.mark.parametrize("name", TOKENS)
def test_a_sign_in_that_is_dead_pauses_the_sender_and_is_tried_again_within_a_minute(name: str) -> None:
    reply = read_token(said(name))
    assert not isinstance(reply, TokenResponse)
    made = decided(Call.TOKEN, reply)
    assert made.transition is Transition.RELEASED
    assert made.pause
    assert (made.pause.cause, made.pause.wait) == (TOKENS[name], MINUTE)


@pytest.mark.parametrize(
    "call, scope",
    [(Call.DRAFTS_SEND, "gmail.compose"), (Call.MESSAGES_SEND, "gmail.send"), (Call.THREADS_GET, "gmail.metadata")],
)
def test_a_missing_scope_is_named(call: Call, scope: str) -> None:
    made = gmail("scope_insufficient", call=call)
    assert made.pause
    assert scope in made.pause.reason
    assert "mailerd auth login --sender me@example.com" in with_remedy(
        made.pause.reason, made.pause.cause, sender="me@example.com"
    )
