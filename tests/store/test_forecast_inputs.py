"""What a forecast is told of a sender's other jobs."""

from datetime import UTC, datetime, timedelta

import pytest

from mailerd.clock import new_id
from mailerd.config import Live
from mailerd.core.extras import Extras
from mailerd.core.forecast import Forecast, compute_forecast, describe
from mailerd.core.rate_limit import SenderLimits
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.read import forecast_inputs
from mailerd.store.read.forecast_inputs import ForecastReader
from mailerd.store.write.new_jobs import NewJob, NewJobs, NewRecipient
from tests.store.queue.test_claim import claims
from tests.support.rows import post

PACE = DefaultLimits(SenderLimits(6000, 0, 2000))


async def of_new(database: Database, *, priority: int = 0) -> tuple[Forecast, str]:
    reader = ForecastReader(database, Live(PACE), timeout=10)
    due = {datetime.now(UTC): 1}
    it = await reader.for_new_job("me@example.com", priority=priority, messages=1, due=due, copies=0)
    forecast = compute_forecast(it)
    return forecast, describe(it, forecast)


async def of_job(database: Database, job: str) -> Forecast:
    it = await ForecastReader(database, Live(PACE), timeout=10).read(job)
    assert it is not None
    return compute_forecast(it)


async def test_behind_more_jobs_than_are_read_no_end_is_promised(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast_inputs, "_MAX_JOBS", 5)
    jobs = [await post(database, recipients=1) for _ in range(9)]
    forecast, words = await of_new(database)
    assert forecast.done_at is None
    assert words.startswith("not done by ")
    assert (await of_job(database, jobs[-1])).done_at is None
    assert (await of_job(database, jobs[0])).done_at is not None, "a single message has its turn before theirs"
    assert (await of_new(database, priority=1))[0].done_at is not None, "it goes before all of them"
    monkeypatch.setattr(forecast_inputs, "_MAX_JOBS", 200)
    forecast, words = await of_new(database)
    assert (forecast.messages_ahead, words[:11]) == (9, "done about ")


async def test_messages_that_were_claimed_before_a_forecast_of_their_job_are_not_counted_twice(
    database: Database,
) -> None:
    """The claim may be quicker than the answer to the POST, and the pace that it reads has those messages already."""
    job = await post(database, recipients=3)
    reader = ForecastReader(database, Live(PACE), timeout=10)
    assert len((await claims(database).claim(2)).messages) == 2
    of_accepted = await reader.read(job)
    assert of_accepted is not None
    assert of_accepted.messages == 1
    assert sum(of_accepted.hours.values()) == 2


async def test_of_a_job_with_later_times_only_what_is_due_goes_before_another_job(database: Database) -> None:
    later = datetime.now(UTC) + timedelta(days=7)
    people = [NewRecipient(f"r{n}@example.org", None, None, send_at=later if n else None) for n in range(3000)]
    job = NewJob(new_id(), "me@example.com", "x", people, text="y")
    await NewJobs(database, timeout=60).accept(job)
    forecast, _ = await of_new(database)
    assert forecast.messages_ahead == 1
    own = await of_job(database, job.id)
    assert (own.first_day, own.goes_on_at and abs(own.goes_on_at - later) < timedelta(seconds=2)) == (1, True)
    assert own.done_at is not None
    assert own.done_at > later + timedelta(hours=24), "2,000 a day: the rest of 2,999 goes on the day after"
    reader = ForecastReader(database, Live(PACE), timeout=10)
    now = datetime.now(UTC)
    asked = await reader.for_new_job("other@example.com", priority=0, messages=3000, due=job.due(now), copies=0)
    tried = compute_forecast(asked)
    assert tried.done_at is not None
    assert (tried.first_day, abs(tried.done_at - own.done_at) < timedelta(minutes=5)) == (1, True)


async def test_a_job_that_has_not_begun_waits_for_as_much_of_the_day_as_its_first_message_costs(
    database: Database,
) -> None:
    dear, plain = await post(database, extras=Extras(copies=12), own=Extras(copies=4)), await post(database)
    found = await ForecastReader(database, Live(PACE), timeout=10).read_all([dear, plain])
    assert [(found[it].first_cost, found[it].copies) for it in (dear, plain)] == [(5, 4), (1, 0)]
