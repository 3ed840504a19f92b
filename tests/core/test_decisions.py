"""Decisions: attempts are counted fairly, waits stay within their bounds, and Google's stamps are obeyed if sane."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.config import RetrySettings
from mailerd.core.decisions import (
    Decision,
    Pause,
    RetryPolicy,
    after_deletion,
    back_off,
    decide,
    pause_for,
    should_delete_draft,
)
from mailerd.core.replies import Accepted, Call, NoCredentials, NoResponse, NotSent, Refused, Reply, TokenUnavailable
from mailerd.core.states import State, Transition, after
from mailerd.core.verdicts import Backoff, Disposition, PauseCause, Verdict, judge

NOW = datetime(2026, 11, 24, 11, 0, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
POLICY = RetryPolicy(max_attempts=5, base=10 * SECOND, cap=HOUR, late_arrival=60 * SECOND)

# The bounds of the configuration: a duration is up to a day, max_attempts is any number from 1.
durations = st.floats(0.001, 86_400).map(lambda seconds: timedelta(seconds=seconds))
chances = st.floats(0, 1, exclude_max=True)
pauses = st.integers(0, 65_535)
policies = st.builds(
    RetryPolicy, max_attempts=st.integers(1, 1000), base=durations, cap=durations, late_arrival=durations.filter(bool)
)
replies = st.sampled_from(
    [
        Accepted("18c2", "18c1"),
        Refused(400, "invalidArgument", "Invalid To header"),
        Refused(401, "authError", "Invalid Credentials"),
        Refused(403, "dailyLimitExceeded", "Daily Limit Exceeded"),
        Refused(404, "notFound", "Requested entity was not found."),
        Refused(409, "aborted", "The operation was aborted."),
        Refused(429, "rateLimitExceeded", "User-rate limit exceeded.  Retry after 2026-11-24T11:16:42.247Z"),
        Refused(500, "backendError", "Backend Error"),
        NoResponse("reset"),
        NoCredentials("no file"),
        NotSent("refused"),
    ]
)


def decision(
    reply: Reply, *, attempt: int = 1, pauses: int = 0, chance: float = 0.5, policy: RetryPolicy = POLICY, call: Call
) -> Decision:
    return decide(judge(call, reply), reply, attempt=attempt, policy=policy, now=NOW, pauses=pauses, chance=chance)


def test_an_accepted_message_is_sent_and_keeps_googles_ids() -> None:
    made = decision(Accepted("18c2", "18c1"), call=Call.DRAFTS_SEND)
    assert made == Decision(Transition.SENT, message_id="18c2", thread_id="18c1")


def test_a_rejected_message_fails_at_once_with_googles_words() -> None:
    made = decision(Refused(400, "invalidArgument", "Invalid To header"), call=Call.DRAFTS_CREATE)
    assert made.transition is Transition.FAILED
    assert "Invalid To header" in (made.error or "")


def test_a_doubt_is_looked_into_when_the_request_can_no_longer_arrive() -> None:
    for reply in (NoResponse("reset"), Refused(404, "notFound", "Requested entity was not found.")):
        made = decision(reply, call=Call.DRAFTS_SEND)
        assert (made.transition, made.wait) == (Transition.LOST, POLICY.late_arrival)


def test_the_last_attempt_fails_the_message_and_says_so() -> None:
    made = decision(NoResponse("reset"), attempt=5, call=Call.DRAFTS_CREATE)
    assert made.transition is Transition.FAILED
    assert made.error == "gave up after attempt 5; last error: no response from Google: reset"


def test_an_unreachable_google_holds_everybody_and_no_sender() -> None:
    made = decision(NotSent("refused"), call=Call.DRAFTS_CREATE)
    assert (made.transition, made.pause) == (Transition.RELEASED, None)
    assert made.global_backoff == "Google unreachable: refused"


def test_a_token_that_does_not_come_holds_that_sender_in_this_daemon_alone() -> None:
    made = decision(TokenUnavailable("no answer"), call=Call.TOKEN)
    assert (made.transition, made.pause, made.global_backoff) == (Transition.RELEASED, None, None)
    assert made.sender_backoff == "no access token: no answer"


@given(
    st.lists(st.tuples(st.sampled_from([Call.DRAFTS_CREATE, Call.DRAFTS_SEND]), replies), max_size=60),
    st.integers(1, 6),
    chances,
)
def test_attempts_never_exceed_their_maximum_and_throttling_never_costs_one(
    story: list[tuple[Call, Reply]], max_attempts: int, chance: float
) -> None:
    policy = RetryPolicy(max_attempts=max_attempts, base=SECOND, cap=HOUR, late_arrival=HOUR)
    state, attempts = State.WAITING, 0
    for call, reply in story:
        state, attempts = after(state, Transition.CLAIMED), attempts + 1
        assert attempts <= max_attempts
        made = decision(reply, attempt=attempts, policy=policy, chance=chance, call=call)
        state = after(state, made.transition)
        if made.transition is Transition.RELEASED:
            attempts -= 1
        if state is not State.WAITING:
            return


@given(st.sampled_from(Call), replies, st.integers(1, 100), policies, pauses, chances)
def test_blameless_is_released_and_nothing_else_is(
    call: Call, reply: Reply, attempt: int, policy: RetryPolicy, pauses: int, chance: float
) -> None:
    made = decision(reply, attempt=attempt, policy=policy, pauses=pauses, chance=chance, call=call)
    blameless = judge(call, reply).disposition is Disposition.NOT_COUNTED
    assert (made.transition is Transition.RELEASED) == blameless
    assert blameless == ((made.pause is not None) != (made.global_backoff is not None))
    assert made.wait >= timedelta(0)
    assert made.transition is Transition.SENT or made.error


@given(st.integers(1, 100_000), durations, durations, chances)
def test_the_back_off_is_within_its_bounds(attempt: int, base: timedelta, cap: timedelta, chance: float) -> None:
    wait = back_off(attempt, base=base, cap=cap, chance=chance)
    assert timedelta(0) <= wait <= cap
    assert attempt > 30 or wait <= base * 2 ** (attempt - 1)


@given(durations, durations)
def test_the_back_off_grows_on_the_average_until_its_cap(base: timedelta, cap: timedelta) -> None:
    means = [back_off(attempt, base=base, cap=cap, chance=0.5) for attempt in range(1, 60)]
    assert all(earlier <= later for earlier, later in pairwise(means))
    assert means[0] == min(cap, base) / 2
    assert means[-1] == cap / 2


def backoff(cause: PauseCause, until: datetime | None = None) -> Backoff:
    return Backoff(cause, until)


@given(chances, st.sampled_from([timedelta(microseconds=1), timedelta(minutes=16), timedelta(hours=24)]))
def test_a_sane_stamp_is_obeyed_with_a_margin_since_google_names_it_too_early(chance: float, named: timedelta) -> None:
    for cause in (PauseCause.THROTTLED, PauseCause.DAILY_LIMIT):
        wait = pause_for(backoff(cause, NOW + named), now=NOW, pauses=0, chance=chance)
        assert named + 5 * SECOND <= wait <= named + 10 * SECOND


@given(st.timedeltas(-HOUR * 1000, HOUR * 1000), st.timedeltas(SECOND, 24 * HOUR), chances)
def test_a_stamp_counts_from_googles_own_clock_however_wrong_ours_is(
    differ: timedelta, named: timedelta, chance: float
) -> None:
    theirs = NOW + differ
    message = f"User-rate limit exceeded.  Retry after {(theirs + named).isoformat().removesuffix('+00:00')}Z"
    reply = Refused(429, "rateLimitExceeded", message, answered_at=theirs)
    made = decision(reply, chance=chance, call=Call.DRAFTS_SEND)
    assert made.pause is not None
    assert named <= made.pause.wait <= named + 10 * SECOND


@given(
    st.timedeltas(max_value=timedelta(minutes=-1, microseconds=-1), min_value=timedelta(days=-9999))
    | st.timedeltas(min_value=timedelta(hours=24, microseconds=1), max_value=timedelta(days=99_999)),
    chances,
)
def test_a_stamp_far_in_the_past_or_beyond_a_day_is_not_obeyed(named: timedelta, chance: float) -> None:
    throttled = pause_for(backoff(PauseCause.THROTTLED, NOW + named), now=NOW, pauses=0, chance=chance)
    assert timedelta(minutes=15) <= throttled <= timedelta(minutes=15) * 1.25
    daily = pause_for(backoff(PauseCause.DAILY_LIMIT, NOW + named), now=NOW, pauses=0, chance=chance)
    assert HOUR <= daily <= HOUR * 1.25


@given(st.timedeltas(max_value=timedelta(0), min_value=timedelta(minutes=-1)), chances)
def test_a_stamp_that_is_just_over_is_no_long_pause(named: timedelta, chance: float) -> None:
    for cause in (PauseCause.THROTTLED, PauseCause.DAILY_LIMIT):
        assert 20 * SECOND <= pause_for(backoff(cause, NOW + named), now=NOW, pauses=0, chance=chance) <= 25 * SECOND


def test_the_daily_limits_pause_doubles_from_one_hour_to_a_day() -> None:
    waits = [pause_for(backoff(PauseCause.DAILY_LIMIT), now=NOW, pauses=n, chance=0.0) for n in range(8)]
    assert [wait / HOUR for wait in waits] == [1, 2, 4, 8, 16, 24, 24, 24]


@given(st.sampled_from(PauseCause), pauses, chances, st.none() | st.datetimes(timezones=st.just(UTC)))
def test_no_pause_is_instant_or_longer_than_a_day(
    cause: PauseCause, pauses: int, chance: float, until: datetime | None
) -> None:
    wait = pause_for(backoff(cause, until), now=NOW, pauses=pauses, chance=chance)
    assert timedelta(0) < wait <= timedelta(hours=24) + 10 * SECOND


@pytest.mark.parametrize(
    "cause, least",
    [
        (PauseCause.THROTTLED, 20 * SECOND),
        (PauseCause.TOO_MANY_CONCURRENT, 5 * SECOND),
        (PauseCause.PROJECT_LIMIT, HOUR),
        (PauseCause.TOKEN_REFUSED, 60 * SECOND),
        (PauseCause.CLIENT_REFUSED, 60 * SECOND),
        (PauseCause.NO_CREDENTIALS, 60 * SECOND),
        (PauseCause.SCOPE_MISSING, 60 * SECOND),
        (PauseCause.MAILBOX_REFUSED, 60 * SECOND),
        (PauseCause.API_DISABLED, 60 * SECOND),
        (PauseCause.DOMAIN_POLICY, 60 * SECOND),
    ],
)
def test_without_a_stamp_the_cause_says_how_long(cause: PauseCause, least: timedelta) -> None:
    assert pause_for(backoff(cause), now=NOW, pauses=0, chance=0.0) == least
    assert least <= pause_for(backoff(cause), now=NOW, pauses=0, chance=0.99) <= least * 1.25


def test_a_pause_carries_cause_and_reason() -> None:
    verdict = Verdict(Disposition.NOT_COUNTED, "why", backoff(PauseCause.THROTTLED))
    made = decide(verdict, NoResponse("x"), attempt=1, policy=POLICY, now=NOW, pauses=0, chance=0.0)
    assert made.pause
    assert (made.pause.cause, made.pause.reason, made.pause.wait) == (PauseCause.THROTTLED, "why", 20 * SECOND)


@pytest.mark.parametrize("asked, least", [(None, 0), (90.0, 90), (7200.0, 3600)])
def test_a_message_and_a_sender_wait_as_long_as_google_asks_up_to_the_cap(asked: float | None, least: int) -> None:
    busy = Refused(409, "aborted", "The operation was aborted.", retry_after=asked)
    assert decision(busy, chance=0.0, call=Call.DRAFTS_CREATE).wait == least * SECOND
    throttled = Refused(429, "rateLimitExceeded", "Too many requests", retry_after=asked)
    pause = decision(throttled, chance=0.0, call=Call.DRAFTS_SEND).pause
    assert pause is not None
    assert pause.wait == max(20, least) * SECOND


def released(wait: timedelta) -> Decision:
    return Decision(Transition.RELEASED, error="429", pause=Pause(PauseCause.THROTTLED, "429", wait))


REFUSED = Refused(429, "rateLimitExceeded", "User-rate limit exceeded.")
FAILED = Decision(Transition.FAILED, error="400")


@pytest.mark.parametrize(
    "decision, reply, unanswered, expected",
    [
        (released(60 * SECOND), REFUSED, False, False),
        (released(61 * SECOND), REFUSED, False, True),
        (released(61 * SECOND), NotSent("no road"), False, False),
        (Decision(Transition.DEFERRED, wait=61 * SECOND), REFUSED, False, True),
        (Decision(Transition.DEFERRED, wait=60 * SECOND), REFUSED, False, False),
        (Decision(Transition.LOST, wait=HOUR), NoResponse("reset"), True, False),
        (Decision(Transition.SENT), Accepted("m"), True, False),
        (FAILED, Refused(400, "invalidArgument", "Invalid To header"), False, False),
        (FAILED, Refused(400, "invalidArgument", "Invalid To header"), True, True),
    ],
)
def test_a_draft_is_deleted_before_a_long_wait_and_before_a_failure_that_may_be_none(
    decision: Decision, reply: Reply, *, unanswered: bool, expected: bool
) -> None:
    assert should_delete_draft(decision, reply, unanswered=unanswered) is expected


@given(st.sampled_from([released(HOUR), FAILED]), st.sampled_from(Disposition))
def test_only_a_draft_that_we_deleted_is_forgotten_and_a_failure_needs_that(
    decision: Decision, disposition: Disposition
) -> None:
    written = after_deletion(decision, disposition, late_arrival=60 * SECOND, unanswered=True)
    assert written.forgets is (disposition is Disposition.ACCEPTED)
    assert written.pause is decision.pause
    if disposition in {Disposition.DRAFT_GONE, Disposition.UNKNOWN}:
        assert (written.transition, written.refused, written.discarding) == (
            Transition.LOST,
            True,
            disposition is Disposition.UNKNOWN,
        )
        assert written.wait == 60 * SECOND
    assert written.transition is not Transition.FAILED or written.forgets


def test_the_attempts_of_a_configuration_that_says_nothing_outlast_an_incident_of_ten_minutes_as_a_rule() -> None:
    known = RetrySettings()
    waits = [
        back_off(attempt, base=SECOND * known.base, cap=SECOND * known.cap, chance=0.5)
        for attempt in range(1, known.max_attempts)
    ]
    assert sum(waits, timedelta(0)) > timedelta(minutes=10)
