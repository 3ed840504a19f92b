"""What an attempt means for its event and its endpoint: by property, and the rows of the specification."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.config import Settings
from mailerd.core.webhooks import (
    RESTS_FROM,
    DeliveryStatus,
    EndpointHealth,
    EndpointState,
    RetryRules,
    WebhookAttempt,
    WebhookOutcome,
    body_of,
    decide,
    retry_after,
    shown_url,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
RULES = Settings().webhooks.retry_rules
NO_TIME = timedelta()


def failed(http: int | None = 500, asked: str = "") -> WebhookAttempt:
    return WebhookAttempt(http, "it answered no", NO_TIME, asked)


def after(
    attempt: WebhookAttempt, *, number: int = 1, failures: int = 0, failing: timedelta | None = None,
    tried: timedelta | None = None, jitter: float = 1.0, rules: RetryRules = RULES,
) -> WebhookOutcome:  # fmt: skip
    health = EndpointHealth(failures, None if failing is None else NOW - failing)
    return decide(
        attempt, health, rules, number=number, tried_at=None if tried is None else NOW - tried, now=NOW, jitter=jitter
    )


def test_the_schedule_is_that_of_the_specification() -> None:
    hours = [after(failed(), number=n, tried=timedelta(days=3), failing=timedelta(days=4)).wait for n in range(1, 12)]
    assert hours == [
        timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30),
        *(timedelta(hours=n) for n in (2, 5, 10, 14, 20, 24)), timedelta(hours=24), timedelta(hours=24),
    ]  # fmt: skip


@given(
    number=st.integers(1, 100), failures=st.integers(0, 1000), jitter=st.floats(0.8, 1.2),
    failing=st.none() | st.timedeltas(NO_TIME, timedelta(days=30)),
    tried=st.none() | st.timedeltas(NO_TIME, timedelta(days=30)),
    http=st.none() | st.integers(100, 599), asked=st.text(max_size=20) | st.integers(-9, 10**12).map(str),
)  # fmt: skip
def test_whatever_comes_an_event_is_delivered_waits_with_a_bound_or_is_given_up_while_others_went_through(
    number: int,
    failures: int,
    jitter: float,
    failing: timedelta | None,
    tried: timedelta | None,
    http: int | None,
    asked: str,
) -> None:
    attempt = WebhookAttempt(http, None, NO_TIME, asked)
    it = after(attempt, number=number, failures=failures, failing=failing, tried=tried, jitter=jitter)
    assert (it.status is DeliveryStatus.DELIVERED) == (http is not None and 200 <= http < 300)
    assert NO_TIME <= it.wait <= timedelta(hours=24) * 1.2
    assert it.rest is None or NO_TIME <= it.rest <= timedelta(hours=24)
    assert (it.state is EndpointState.GONE) == (http == 410)
    if it.status is DeliveryStatus.FAILED:
        assert number > len(RULES.retries)
        assert tried is not None
        assert failing is None or failing < tried, "since its last attempt the endpoint has taken something"
        assert (it.failures, it.failing_since) == (failures, None if failing is None else NOW - failing)
    if it.state is EndpointState.PAUSED:
        assert failing is not None
        assert failing >= timedelta(days=5)


def test_an_endpoint_rests_after_failures_in_a_row_for_a_tenth_of_the_time_it_has_failed() -> None:
    assert after(failed(), failures=RESTS_FROM - 2, failing=timedelta(minutes=1)).rest is None
    for failing, rest in ((1, 5), (100, 10), (600, 60), (3600, 300), (86_400, 300)):
        it = after(failed(), failures=RESTS_FROM - 1, failing=timedelta(seconds=failing))
        assert it.rest == timedelta(seconds=rest)
    assert after(WebhookAttempt(204, None, NO_TIME), failures=99, failing=timedelta(hours=1)) == WebhookOutcome(
        DeliveryStatus.DELIVERED, NO_TIME, EndpointState.ON, 0, None, None
    )


@pytest.mark.parametrize(
    "http, asked, seconds",
    [
        (429, "120", 120), (503, " 7 ", 7), (502, "999999999999", 86_400), (504, "Tue, 24 Nov 2026 12:02:00 GMT", 120),
        (503, "Tue, 24 Nov 2026 11:00:00 GMT", 0), (503, "Fri, 01 Jan 2100 00:00:00 GMT", 86_400), (503, "soon", None),
        (503, "", None), (500, "120", None), (503, "-5", None), (503, "1e9", None), (503, "²", None),
        (503, "Mon, 01 Jan 99999999999999 00:00:00 GMT", None), (503, "Fri, 31 Dec 9999 23:59:59 -9999", None),
        (503, "Mon, 01 Jan 0001 00:00:00 +2359", 0), (503, "9" * 5000, 86_400),
    ],
)  # fmt: skip
def test_retry_after_is_honoured_where_the_endpoint_is_busy(http: int, asked: str, seconds: int | None) -> None:
    found = retry_after(failed(http, asked), now=NOW)
    assert found == (None if seconds is None else timedelta(seconds=seconds))
    if seconds:
        assert after(failed(http, asked)).rest == timedelta(seconds=seconds)


def test_the_body_is_the_same_whenever_it_is_made() -> None:
    body = body_of("job.paused", "2026-11-24T12:00:00Z", '{"reason":"größer"}')
    assert body == '{"type":"job.paused","timestamp":"2026-11-24T12:00:00Z","data":{"reason":"größer"}}'.encode()


def test_what_would_steer_a_terminal_is_not_shown() -> None:
    assert shown_url("https://x/\x1b[2J\u202e\x9b") == "https://x/\ufffd[2J\ufffd\ufffd"


def test_what_stands_behind_a_question_mark_is_not_shown() -> None:
    assert shown_url("https://example.com/hook?token=secret#x") == "https://example.com/hook"
