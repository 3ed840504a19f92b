"""A sender as applications see it: it is not called sending while nothing shows that it can send."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from mailerd.core.failing_attempts import FailingAttempts
from mailerd.core.rate_limit import FOREVER
from mailerd.core.reading import Authorization, AuthorizationState
from mailerd.core.reasons import reason
from mailerd.core.senders import SenderActivity, SenderReading, authorization
from mailerd.core.verdicts import PauseCause
from tests.core.test_forecast import HOUR, MINUTE, NOW, SECOND, outlook

OK = Authorization(AuthorizationState.OK, ("gmail.compose",), NOW - HOUR)
MISSING = Authorization(AuthorizationState.MISSING, reason="no credential file for me@example.com")


def reading(
    messages: int = 5, *, used_minute: int = 0, hours: Mapping[datetime, int] | None = None,
    failing: FailingAttempts | None = None, outage: str = "", due: datetime = NOW, **sender: Any,
) -> SenderReading:  # fmt: skip
    inputs = replace(
        outlook(messages, **sender), hours=hours or {}, failing=failing, outage=outage, due=due,
        used_minute=used_minute, all_of_sender=True,
    )  # fmt: skip
    return SenderReading(inputs, elsewhere=0, counted_to=10_000, read_at=None)


def refused(until: datetime) -> dict[str, Any]:
    return {"pause_cause": PauseCause.TOKEN_REFUSED.value, "pause_reason": "revoked", "paused_until": until}


def test_a_sender_with_messages_that_may_be_sent_now_is_sending_and_one_without_is_idle() -> None:
    assert reading().authorized(OK).activity is SenderActivity.SENDING
    assert reading(0).authorized(OK).activity is SenderActivity.IDLE
    assert reading(0, used_minute=1).authorized(OK).activity is SenderActivity.SENDING
    assert reading(due=NOW + HOUR).authorized(OK).activity is SenderActivity.IDLE


@pytest.mark.parametrize("state", [AuthorizationState.MISSING, AuthorizationState.REFUSED, AuthorizationState.UNUSABLE])
@pytest.mark.parametrize("used_minute", [0, 5])
def test_a_sender_whose_authorization_is_broken_is_paused_and_says_what_to_do(
    state: AuthorizationState, used_minute: int
) -> None:
    it, known = reading(used_minute=used_minute), Authorization(state, reason="no usable credentials")
    assert it.authorized(known).activity is SenderActivity.PAUSED
    pause = it.authorized(known).pause
    assert pause is not None
    assert (pause.until, pause.reason) == (None, "no usable credentials")
    assert pause.remedy == "mailerd auth login --sender me@example.com"


def test_what_is_not_known_is_no_pause() -> None:
    it = reading()
    assert (it.pause, it.activity) == (None, SenderActivity.SENDING)


def test_a_newer_refusal_that_any_daemon_met_counts_and_a_token_that_came_later_ends_it() -> None:
    it = reading(**refused(NOW + 30 * SECOND)).state
    assert authorization(OK, it).state is AuthorizationState.REFUSED
    assert authorization(OK, it).reason == "revoked"
    assert authorization(Authorization(), it).state is AuthorizationState.REFUSED
    newer = Authorization(AuthorizationState.OK, checked_at=NOW + 31 * SECOND)
    assert authorization(newer, it) is newer
    assert authorization(MISSING, it) is MISSING
    own = Authorization(AuthorizationState.REFUSED, checked_at=NOW - SECOND)
    assert authorization(own, it).checked_at == NOW - SECOND


def test_a_pause_of_another_cause_says_nothing_of_the_authorization() -> None:
    it = reading(pause_cause="throttled", paused_until=NOW + HOUR).state
    assert authorization(OK, it) is OK


@pytest.mark.parametrize("end", [NOW + 30 * SECOND, NOW - 30 * SECOND])
def test_a_refused_sender_is_paused_without_an_end_between_two_tries_too(end: datetime) -> None:
    it = reading(**refused(end))
    found = authorization(OK, it.state)
    pause = it.authorized(found).pause
    assert pause is not None
    assert (pause.cause, pause.until, pause.reason) == ("token_refused", None, "revoked")
    assert it.authorized(found).activity is SenderActivity.PAUSED
    assert it.forecast.starts_at is None


def test_a_manual_pause_and_googles_have_their_end_and_their_remedy() -> None:
    manual = reading(pause_cause="manual", pause_reason="moving house", paused_until=FOREVER).authorized(OK).pause
    assert manual is not None
    assert (manual.cause, manual.until, manual.remedy) == ("manual", None, "mailerd senders resume me@example.com")
    throttled = reading(pause_cause="throttled", paused_until=NOW + MINUTE).authorized(OK).pause
    assert throttled is not None
    assert (throttled.until, throttled.reason) == (NOW + MINUTE, "throttled")


def test_a_sender_at_its_limit_is_idle_and_says_when_there_is_room() -> None:
    hour = NOW.replace(minute=0)
    it = reading(hours={hour: 1990, hour - 3 * HOUR: 10})
    assert it.authorized(OK).activity is SenderActivity.IDLE
    assert (it.day.messages, it.day.next_at) == (0, hour + 22 * HOUR)
    assert it.forecast.starts_at is not None
    assert it.finding is not None
    assert it.finding.code == "day_full"
    room = reading(hours={hour: 512})
    assert (room.day.messages, room.day.next_at, room.finding) == (1488, None, None)


def test_a_day_that_has_no_room_for_the_next_message_with_its_copies_is_a_finding() -> None:
    its = reading(hours={NOW.replace(minute=0): 1998})
    it = replace(its, inputs=replace(its.inputs, first_cost=3))
    assert it.finding is not None
    assert (it.finding.code, it.finding.severity) == ("day_full", "blue")
    assert "counts as 3 because of its copies" in it.finding.text
    assert it.finding.until == NOW.replace(minute=0) + 25 * HOUR
    assert its.finding is None


def test_a_sender_all_of_whose_attempts_fail_is_not_sending_and_the_finding_says_why() -> None:
    silent = FailingAttempts(3, 3, reason("google_silent", cause="time-out"), NOW - MINUTE, 17)
    it = reading(failing=silent)
    assert it.authorized(OK).activity is SenderActivity.IDLE
    assert it.finding is not None
    assert (it.finding.code, it.finding.severity) == ("google_silent", "red")


def test_while_the_database_takes_no_writes_no_sender_is_sending() -> None:
    it = reading(outage="read-only")
    assert it.authorized(OK).activity is SenderActivity.IDLE
    assert it.finding is not None
    assert it.finding.code == "database_read_only"


def test_what_is_left_of_the_minute_is_never_below_zero() -> None:
    assert reading(used_minute=14).left_of_minute == 40
    assert reading(used_minute=90).left_of_minute == 0
