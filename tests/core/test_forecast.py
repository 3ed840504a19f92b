"""Forecasts: near what the claims' own arithmetic does message by message, and said in plain words."""

import random
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailerd.core import rate_limit
from mailerd.core.failing_attempts import FailingAttempts
from mailerd.core.forecast import (
    Forecast,
    ForecastInputs,
    LaterMessages,
    Queued,
    compute_forecast,
    describe,
    summary,
    waiting_reason,
)
from mailerd.core.i18n import joined, t
from mailerd.core.pauses import repair, repair_command
from mailerd.core.rate_limit import FOREVER, SenderLimits
from mailerd.core.reading import UnresolvedSends
from mailerd.core.reasons import from_row, in_row, reason
from mailerd.core.sender_state import SenderState
from mailerd.core.verdicts import PauseCause

NOW = datetime(2026, 11, 26, 8, 2, tzinfo=UTC)  # a Thursday
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
WORKSPACE = SenderLimits(6000, 0, 2000)


def outlook(
    messages: int,
    limits: SenderLimits = WORKSPACE,
    *,
    queue: tuple[Queued, ...] = (),
    now: datetime = NOW,
    **sender: Any,
) -> ForecastInputs:
    """A job of so many messages that are due now; `sender`: fields of its sender's state."""
    known: dict[str, Any] = {
        "email": "me@example.com", "tat": None, "limits": limits, "own": frozenset(), "since": now, "gap_until": None,
        "latency_at": None, "mode": "draft", "project": None, "concurrency": None, "paused_until": None,
        "pause_cause": None, "pause_reason": None, "pauses": 0, "now": now,
    }  # fmt: skip
    return ForecastInputs(sender=SenderState(**known | sender), messages=messages, due=now, queue=queue)


@dataclass
class Job:
    arrives: datetime
    messages: int
    priority: int = 0
    left: int = 0
    foreseen: Forecast | None = None
    done: datetime | None = None


class Sender:
    """One sender's claims, message by message, by the same arithmetic as the store; jobs of a priority take turns."""

    def __init__(self, limits: SenderLimits, jobs: list[Job]) -> None:
        self.limits, self.coming = limits, deque(sorted(jobs, key=lambda job: job.arrives))
        self.queue: deque[Job] = deque()
        self.now, self.since = NOW, NOW
        self.tat: datetime | None = None
        self.hours: dict[datetime, int] = {}
        self.dice = random.Random(7)
        self.gap_until: datetime | None = None

    def run(self) -> None:
        while self.coming or self.queue:
            self._arrive()
            if not self.queue:
                self.now = self.coming[0].arrives
            elif (wait := self._claim()) is not None:
                self.now = min(wait, self.coming[0].arrives) if self.coming else wait

    def _arrive(self) -> None:
        while self.coming and self.coming[0].arrives <= self.now:
            job = self.coming.popleft()
            job.left = job.messages
            queue = tuple(Queued(other.left, order=job.priority - other.priority, due=self.now) for other in self.queue)
            it = outlook(
                job.messages, self.limits, queue=queue, now=self.now, tat=self.tat, since=self.since,
                gap_until=self.gap_until,
            )  # fmt: skip
            job.foreseen = compute_forecast(replace(it, hours=dict(self.hours)))
            self.queue.append(job)

    def _claim(self) -> datetime | None:
        allowance = self.limits.on(self.now, since=self.since)
        for budget in (
            rate_limit.minute(allowance, tat=self.tat, now=self.now),
            rate_limit.day(allowance, hours=self.hours, now=self.now),
        ):
            if budget.messages == 0:
                assert budget.next_at
                warmer = self.since + DAY * ((self.now - self.since) // DAY + 1)
                return min(budget.next_at, warmer) if self.limits.warm_up else budget.next_at
        if self.gap_until and self.gap_until > self.now:
            return self.gap_until
        best = max(job.priority for job in self.queue)
        job = next(job for job in self.queue if job.priority == best)
        self.queue.remove(job)
        job.left -= 1
        hour = self.now.replace(minute=0, second=0, microsecond=0)
        self.hours[hour] = self.hours.get(hour, 0) + 1
        self.tat = rate_limit.debit(allowance, tat=self.tat, now=self.now, messages=1)
        self.gap_until = rate_limit.gap(allowance, now=self.now, chance=self.dice.random())
        if job.left:
            self.queue.append(job)
        else:
            job.done = self.now
        return None


def assert_honest(job: Job, *, within: timedelta = 5 * SECOND, share: float = 0.1) -> None:
    assert job.foreseen
    assert job.foreseen.done_at
    assert job.done
    takes, said_ = job.done - job.arrives, job.foreseen.done_at - job.arrives
    assert abs(takes - said_) <= max(takes * share, within), (job, takes, said_)


DAYS = {
    "jobs all day, each done before the next": (WORKSPACE, [Job(NOW + n * HOUR, 150) for n in range(10)]),
    "a small one behind a huge one": (WORKSPACE, [Job(NOW, 1500), Job(NOW + MINUTE, 40)]),
    "an urgent one overtakes": (WORKSPACE, [Job(NOW, 1000, left=0), Job(NOW + MINUTE, 100, priority=5)][1:]),
    "behind an urgent one": (WORKSPACE, [Job(NOW, 400, priority=5), Job(NOW + MINUTE, 300)]),
    "a warm-up": (SenderLimits(6000, 0, 2000, warm_up=50, warm_up_growth=50), [Job(NOW, 420)]),
    "messages capped by the minute": (SenderLimits(6000, 10, 0), [Job(NOW, 500), Job(NOW + 10 * MINUTE, 20)]),
}


@pytest.mark.parametrize("name", DAYS)
def test_a_forecast_is_honest_within_ten_percent(name: str) -> None:
    limits, jobs = DAYS[name]
    jobs = [replace(job) for job in jobs]
    Sender(limits, jobs).run()
    for job in jobs[-1:] if name.startswith(("a small", "behind", "messages capped")) else jobs:
        assert_honest(job)


@settings(deadline=None, max_examples=40)
@given(
    limits=st.builds(
        SenderLimits,
        units_per_minute=st.sampled_from([0, 6000]),
        per_minute=st.sampled_from([0, 5, 40]),
        per_day=st.integers(30, 500),
        min_gap=st.sampled_from([0.0, 0.0, 20.0]),
    ),
    messages=st.integers(1, 1500),
    before=st.dictionaries(st.integers(0, 24), st.integers(1, 60), max_size=6),
    begins=st.integers(0, 59),
)
def test_whatever_the_limits_the_end_of_a_job_is_right_within_two_percent_or_an_hour(
    limits: SenderLimits, messages: int, before: dict[int, int], begins: int
) -> None:
    """`before`: messages of the hours before it; `begins`: the minute of its hour."""
    job = Job(NOW.replace(minute=begins), messages)
    sender = Sender(limits, [job])
    sender.now, sender.since = job.arrives, job.arrives
    sender.hours = {job.arrives.replace(minute=0) - HOUR * ago: number for ago, number in before.items()}
    sender.run()
    assert_honest(job, within=HOUR, share=0.02)


@settings(deadline=None, max_examples=60)
@given(
    limits=st.builds(
        SenderLimits,
        units_per_minute=st.sampled_from([0, 6000]),
        per_minute=st.sampled_from([0, 5, 40]),
        per_day=st.sampled_from([0, 30, 2000]),
        warm_up=st.integers(1, 60),
        warm_up_growth=st.integers(0, 40),
    ),
    messages=st.integers(1, 400),
    before=st.dictionaries(st.integers(0, 24), st.integers(1, 60), max_size=6),
    begins=st.integers(0, 59),
    since=st.timedeltas(timedelta(0), timedelta(days=4)),
)
def test_while_a_sender_warms_up_no_forecast_ends_before_it_begins_and_it_is_as_right(
    limits: SenderLimits, messages: int, before: dict[int, int], begins: int, since: timedelta
) -> None:
    job = Job(NOW.replace(minute=begins), messages)
    sender = Sender(limits, [job])
    sender.now, sender.since = job.arrives, job.arrives - since
    sender.hours = {job.arrives.replace(minute=0) - HOUR * ago: number for ago, number in before.items()}
    sender.run()
    assert job.foreseen
    assert job.foreseen.starts_at
    assert job.foreseen.ends_at
    assert job.foreseen.starts_at <= job.foreseen.ends_at
    assert job.foreseen.first_day <= max(limits.on(job.arrives, since=sender.since).per_day, 0)
    if job.foreseen.done_at:
        assert_honest(job, within=HOUR, share=0.02)


@settings(deadline=None, max_examples=500)
@given(
    warm_up=st.integers(1, 10),
    growth=st.integers(0, 10),
    messages=st.integers(1, 30),
    before=st.dictionaries(st.integers(0, 24), st.integers(1, 10), max_size=4),
    since=st.integers(0, 6000),
    queue=st.lists(st.tuples(st.integers(1, 20), st.sampled_from([-1, 0, 1])), max_size=2),
)
def test_beside_other_jobs_too_no_forecast_of_a_warm_up_ends_before_it_begins(
    warm_up: int, growth: int, messages: int, before: dict[int, int], since: int, queue: list[tuple[int, int]]
) -> None:
    limits = replace(WORKSPACE, warm_up=warm_up, warm_up_growth=growth)
    others = tuple(Queued(number, order=order, due=NOW) for number, order in queue)
    it = outlook(messages, limits, queue=others, since=NOW - since * MINUTE)
    found = compute_forecast(replace(it, hours={NOW.replace(minute=0) - HOUR * ago: n for ago, n in before.items()}))
    assert found.starts_at
    assert found.ends_at
    assert found.starts_at <= found.ends_at


def test_a_warm_up_is_called_so_and_not_the_limit_of_a_day() -> None:
    warm = replace(WORKSPACE, warm_up=3, warm_up_growth=2)
    it = replace(outlook(3, warm), hours={NOW.replace(minute=0): 3})
    forecast = compute_forecast(it)
    assert waiting_reason(it, forecast) == (
        "the sender's warm-up allows 3 messages a day, 3 are sent: the next one is sent at Friday 08:02 UTC"
    )
    assert summary(forecast, now=NOW) == "from Friday 08:02 UTC, done about Friday 09:00 UTC"


def test_the_words_are_those_that_a_person_wants() -> None:
    it = outlook(2000, SenderLimits(6000, 0, 1800))
    assert (
        summary(compute_forecast(it), now=NOW)
        == "1,800 today, the rest from Friday 09:00 UTC, done about Friday 09:03 UTC"
    )
    assert summary(compute_forecast(outlook(10)), now=NOW) == "done about 08:02 UTC"
    assert summary(compute_forecast(outlook(0)), now=NOW) == "nothing is waiting"
    late = summary(compute_forecast(outlook(30_000)), now=NOW)
    assert late.startswith("2,000 today, the rest from Friday 09:00 UTC, done about 2026-12-")


def test_where_all_go_on_one_day_none_are_called_those_of_today() -> None:
    it = replace(outlook(3), later=LaterMessages(1, NOW + 3 * HOUR), last_due=NOW + 3 * HOUR)
    said = summary(compute_forecast(it), now=NOW)
    assert said == "2 at first, the rest from 11:02 UTC, done about 11:02 UTC"


def test_every_wait_has_its_cause() -> None:
    it, paused = outlook(100), outlook(100, paused_until=NOW + HOUR, pause_reason="429")
    hour = NOW.replace(minute=0)
    causes = {
        "none": it,
        "due": replace(it, due=NOW + 2 * HOUR),
        "paused": outlook(100, paused_until=NOW + HOUR, pause_cause="throttled", pause_reason="Retry after 09:02"),
        "held": outlook(100, paused_until=FOREVER, pause_cause="manual", pause_reason="holidays"),
        "day": replace(it, hours={hour - 2 * HOUR: 2000}),
        "queue": replace(it, queue=(Queued(500, order=-1, due=NOW),)),
        "job": replace(paused, job_paused=True, due=NOW + 2 * HOUR),
        "put off": replace(paused, due=NOW + 2 * HOUR, error="Google answered 503: "),
        "put off less long than the sender": replace(
            outlook(100, paused_until=NOW + 2 * HOUR, pause_reason="429"), due=NOW + HOUR, error="503"
        ),
        "gap": outlook(100, gap_until=NOW + HOUR),
        "sleeps": replace(it, next_claim_at=NOW + 5 * HOUR),
        "out of reach": replace(it, error="Google cannot be reached"),
        "all fail": replace(it, failing=FailingAttempts(7, 7, "Google answered 503:", NOW, 5)),
        "put off, and all fail": replace(
            it, due=NOW + MINUTE, error="429", failing=FailingAttempts(2, 2, "503", NOW, 5)
        ),
        "most fail": replace(it, failing=FailingAttempts(7, 9, "Google answered 503:", NOW, 5)),
        "paused, and all fail": replace(
            outlook(100, paused_until=NOW + HOUR, pause_reason="429"), failing=FailingAttempts(7, 7, "503", NOW, 5)
        ),
        "doubts": replace(it, unresolved=UnresolvedSends(3, manual=1, look_at=NOW + MINUTE)),
        "nothing but a doubt": replace(it, messages=0, unresolved=UnresolvedSends(1, manual=1, look_at=None)),
        "nothing": replace(it, messages=0),
    }
    said_ = {name: waiting_reason(each, compute_forecast(each)) for name, each in causes.items()}
    assert said_ == {
        "none": None,
        "due": "not due before 10:02 UTC",
        "paused": "the sender is paused until 09:02 UTC: Retry after 09:02",
        "held": "the sender is paused until it is resumed: holidays",
        "day": "the sender has reached its limit of 24 hours (2,000): the next message is sent at Friday 07:00 UTC",
        "queue": "500 messages of the sender's other jobs are sent first",
        "job": "the job is paused",
        "put off": "deferred until 10:02 UTC after the last attempt: Google answered 503",
        "put off less long than the sender": "the sender is paused until 10:02 UTC: 429",
        "gap": "the sender's limits allow no message before 09:02 UTC",
        "sleeps": "the sender's next turn is at 13:02 UTC, although its limits allow a message now: a running daemon "
        "notices within a minute",
        "out of reach": "last error: Google cannot be reached; retried at its turn",
        "all fail": "all attempts fail: Google answered 503",
        "put off, and all fail": "deferred until 08:03 UTC after the last attempt: 503",
        "most fail": "7 of the last 9 attempts failed: Google answered 503",
        "paused, and all fail": "the sender is paused until 09:02 UTC: 429",
        "doubts": "2 messages are unconfirmed: checked at Google at 08:03 UTC; 1 message is unconfirmed until "
        "you run `mailerd settle`",
        "nothing but a doubt": "1 message is unconfirmed until you run `mailerd settle`",
        "nothing": None,
    }
    assert summary(compute_forecast(causes["held"]), now=NOW) == "nothing is sent until the sender is resumed"
    assert summary(compute_forecast(causes["job"]), now=NOW) == "nothing is sent until the job is resumed"
    assert summary(compute_forecast(causes["all fail"]), now=NOW) == "all attempts fail: no time can be estimated"
    assert compute_forecast(causes["all fail"]).done_at is compute_forecast(causes["all fail"]).starts_at is None
    assert compute_forecast(causes["most fail"]).done_at is not None
    assert describe(causes["nothing"], compute_forecast(causes["nothing"])) == "nothing is waiting"
    assert (
        describe(causes["nothing but a doubt"], compute_forecast(causes["nothing but a doubt"]))
        == said_["nothing but a doubt"]
    )


def test_what_only_a_person_can_mend_has_no_finish_time() -> None:
    mended = "the authorization is renewed: `mailerd auth login --sender me@example.com`"
    it = outlook(100, paused_until=NOW + MINUTE, pause_reason="invalid_grant", pause_cause="token_refused")
    assert compute_forecast(it).done_at is compute_forecast(it).starts_at is None
    assert describe(it, compute_forecast(it)) == f"nothing is sent until {mended}"
    assert (
        waiting_reason(it, compute_forecast(it))
        == f"the sender is paused until {mended} (tried each minute: invalid_grant)"
    )
    assert compute_forecast(outlook(100, paused_until=NOW + MINUTE, pause_cause="throttled")).done_at is not None


@pytest.mark.parametrize("cause", [cause for cause in PauseCause if cause.value.endswith(("refused", "credentials"))])
def test_a_pause_for_the_sign_in_needs_a_person_until_a_while_after_its_end(cause: PauseCause) -> None:
    assert repair(cause, NOW + MINUTE, sender="me@example.com", now=NOW, reason=None)
    assert repair(cause, NOW - 5 * SECOND, sender="me@example.com", now=NOW, reason=None), (
        "the next try has no answer yet"
    )
    assert repair(cause, NOW - HOUR, sender="me@example.com", now=NOW, reason=None) is None, "nobody knows"


def test_what_a_person_does_about_a_file_that_others_can_read_is_what_its_reason_says() -> None:
    """After a round through a row as well; a sign-in would write another file, and the old one is good."""
    exposed = reason("credentials_exposed", path="/etc/mailerd/credentials/a b.json", mode="0644")
    why = reason("no_credentials", cause=joined([exposed, t("run: chmod 600 {path}", path="…")]))
    for each in (why, from_row(*in_row(why))):
        mended = repair("no_credentials", NOW + MINUTE, sender="me@example.com", now=NOW, reason=each)
        assert mended == "a usable credential file exists: `chmod 600 '/etc/mailerd/credentials/a b.json'`"
    gone = reason("no_credentials", cause="no credential file for me@example.com")
    assert repair_command("no_credentials", sender="me@example.com", reason=gone) == (
        "mailerd auth login --sender me@example.com"
    )


@pytest.mark.parametrize("cause", ["throttled", "daily_limit", "project_limit", "google_unreachable", "manual", None])
def test_a_pause_that_ends_by_waiting_needs_nobody(cause: str | None) -> None:
    assert repair(cause, NOW + MINUTE, sender="me@example.com", now=NOW, reason=None) is None


def test_without_limits_the_measured_rate_is_that_of_the_job() -> None:
    free = outlook(600, SenderLimits(0, 0, 0))
    assert compute_forecast(replace(free, measured=60.0)).done_at == NOW + 599 * SECOND
    assert compute_forecast(replace(free, measured=60.0)).per_minute == 60
    assert compute_forecast(replace(outlook(600), measured=6000.0)) == compute_forecast(outlook(600)), (
        "limits go before"
    )


def test_nothing_goes_before_the_end_of_a_pause() -> None:
    it = compute_forecast(outlook(10, paused_until=NOW + HOUR, pause_cause="throttled"))
    done, alone = it.done_at, compute_forecast(outlook(10)).done_at
    assert done
    assert alone
    assert (it.starts_at, done - HOUR) == (NOW + HOUR, alone)


def test_a_job_is_not_done_before_its_last_message_is_due() -> None:
    it = compute_forecast(replace(outlook(10), last_due=NOW + 2 * HOUR))
    assert (it.starts_at, it.done_at) == (NOW, NOW + 2 * HOUR)
    late = compute_forecast(replace(outlook(4500), last_due=NOW + HOUR))
    assert late.done_at == compute_forecast(outlook(4500)).done_at


def test_a_job_that_becomes_due_meanwhile_takes_its_turns() -> None:
    alone = compute_forecast(outlook(400)).done_at
    later = Queued(100, order=-1, due=NOW + 2 * MINUTE)
    never = Queued(100, order=-1, due=NOW + 10 * HOUR)
    assert alone
    assert (compute_forecast(outlook(400, queue=(later,))).done_at or NOW) > alone + MINUTE
    assert compute_forecast(outlook(400, queue=(never,))).done_at == alone


def test_what_becomes_due_later_holds_up_nothing_before() -> None:
    it = outlook(400, queue=(Queued(500, order=-1, due=NOW + 3 * MINUTE),))
    forecast = compute_forecast(it)
    assert (forecast.starts_at, waiting_reason(it, forecast), forecast.messages_ahead) == (NOW, None, 500)
    assert (forecast.done_at or NOW) > NOW + 900 / 54 * MINUTE


@pytest.mark.parametrize("order", [-1, 0, 1])
def test_what_is_due_before_uses_up_the_day_of_a_job_that_is_due_later(order: int) -> None:
    it = replace(outlook(100, queue=(Queued(2500, order, NOW),)), due=NOW + 2 * HOUR)
    forecast = compute_forecast(it)
    tomorrow = NOW.replace(hour=9, minute=0) + DAY
    assert forecast.starts_at
    assert tomorrow <= forecast.starts_at <= tomorrow + (500 / 53 * MINUTE if order < 0 else MINUTE)
    assert forecast.messages_ahead == {-1: 2500, 0: 2100, 1: 2000}[order]
    few = compute_forecast(replace(it, queue=(Queued(50, order, NOW),)))
    assert (few.starts_at, few.messages_ahead) == (NOW + 2 * HOUR, 50)


def test_what_cannot_be_told_is_not_told() -> None:
    it = compute_forecast(outlook(10_000, SenderLimits(0, 0, 1)))
    assert it.done_at is None
    assert "not done by" in summary(it, now=NOW)


def test_a_sender_that_is_slow_to_google_is_foreseen_at_the_pace_of_its_claims() -> None:
    slow = compute_forecast(outlook(400, replace(WORKSPACE, latency=8.0)))
    quick = compute_forecast(outlook(400))
    assert slow.per_minute == pytest.approx(53.73 * 60 / 70, abs=0.01)
    assert quick.per_minute == pytest.approx(53.73 * 60 / 60.4, abs=0.01)
    assert slow.done_at
    assert quick.done_at
    assert (slow.done_at - NOW) / (quick.done_at - NOW) == pytest.approx(70 / 60.4, abs=0.01)


def test_without_limits_there_is_no_rate() -> None:
    it = compute_forecast(outlook(10_000, SenderLimits(0, 0, 0)))
    assert it.per_minute is None
    assert it.done_at == NOW


TIER_CHANGE = datetime(2027, 4, 1, tzinfo=UTC)
OLDER_PROJECT = SenderLimits(15_000, 0, 0, standard=True)


@pytest.mark.parametrize("messages", [300, 4000, 9000])
@pytest.mark.parametrize("before", [0.5 * MINUTE, 20 * MINUTE, 50.5 * MINUTE, 100 * MINUTE])
def test_a_forecast_across_the_change_of_googles_tiers_is_right_to_the_minute(messages: int, before: timedelta) -> None:
    job = Job(TIER_CHANGE - before, messages)
    Sender(OLDER_PROJECT, [job]).run()
    assert job.foreseen
    assert job.foreseen.done_at
    assert job.done
    assert abs(job.done - job.foreseen.done_at) < MINUTE


def test_the_arithmetic_of_that_night_by_hand() -> None:
    """136 a minute until 75 s before it, when Google's first minute by the new limit begins to fill; then 54."""
    begin, minute = TIER_CHANGE - 31.25 * MINUTE, 60.4 * SECOND  # a minute and the margin of a quick network
    rest = 6000 - 30 * MINUTE / minute * 136
    done = compute_forecast(outlook(6000, OLDER_PROJECT, now=begin)).done_at
    assert done
    assert abs(done - (TIER_CHANGE - 75 * SECOND + rest / 54 * minute)) < MINUTE
    paid = compute_forecast(outlook(6000, replace(OLDER_PROJECT, standard=False), now=begin)).done_at
    assert paid
    assert abs(paid - (begin + 6000 / 136 * minute)) < MINUTE
