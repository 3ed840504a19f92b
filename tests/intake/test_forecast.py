"""Why a job waits and what is next, in the answers of a whole intake: one job, the list, and a dry run."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailerd.config import DatabaseSettings, Live
from mailerd.core.forecast import Forecast
from mailerd.core.rate_limit import FOREVER, SenderLimits
from mailerd.events.process import StoreEvents
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.read.forecast_inputs import ForecastReader
from tests.intake.site import Build, Site, job
from tests.support.heard import Heard

FOUR = DefaultLimits(SenderLimits(6000, 0, 4))
PEOPLE = [{"email": f"r{n}@example.com", "name": "R"} for n in range(3)]
PUT_OFF = "UPDATE job_recipients SET attempts = 2, error = 'Google answered 503: ', due_at = UTC_TIMESTAMP(6)"
UNSURE = (
    "UPDATE job_recipients SET status = 'unsure', attempts = 1, mode = 'direct', error = 'no answer', "
    "lease_until = UTC_TIMESTAMP(6) + INTERVAL 10 MINUTE WHERE seq = 0"
)
BEGUN = "UPDATE jobs SET status = 'sending', started_at = created_at"


@pytest.fixture
async def site(build: Build, database_url: str) -> AsyncIterator[Site]:
    """An intake whose senders may send four messages a day."""
    events = StoreEvents(Heard())
    database = Database(DatabaseSettings(url=database_url, connect_timeout=20, statement_timeout=20), events=events)
    await migrate(database, events=events)
    yield await build(forecasts=ForecastReader(database, Live(FOUR), 5.0))
    await database.close()


async def seen(site: Site, job_id: str) -> dict[str, Any]:
    """The job, which the list must show as well as its own page."""
    status, shown = await site.get(f"/api/jobs/{job_id}")
    assert status == 200
    _, page = await site.get("/api/jobs")
    (listed,) = [each for each in page["jobs"] if each["job_id"] == job_id]
    others = {"per_minute": None, "forecast": None, "outcomes": None}  # a list counts no outcomes
    assert listed | others == shown | others
    assert listed["forecast"].keys() == shown["forecast"].keys()  # the times are those of another moment
    found: dict[str, Any] = shown
    return found


async def posted(site: Site, **fields: Any) -> str:
    return await site.posted(*PEOPLE, **fields)


async def test_a_message_that_was_put_off_says_until_when_and_why(site: Site) -> None:
    job_id = await posted(site)
    await site.rows(BEGUN)
    await site.rows(f"{PUT_OFF} + INTERVAL 20 MINUTE")
    shown = await seen(site, job_id)
    [(due,)] = await site.rows("SELECT MAX(due_at) FROM job_recipients")
    assert shown["cause_of_wait"].startswith("deferred until ")
    assert shown["cause_of_wait"].endswith(" UTC after the last attempt: Google answered 503")
    assert shown["forecast"]["done_at"] >= due.isoformat() + "Z"


async def test_what_was_put_off_alone_is_the_end_of_the_job(site: Site) -> None:
    job_id = await posted(site)
    await site.rows(BEGUN)
    # Five minutes ago: what was said within three, and nothing sent since, speaks for the messages behind it as well.
    ago = "updated_at = UTC_TIMESTAMP(6) - INTERVAL 5 MINUTE"
    await site.rows(f"{PUT_OFF} + INTERVAL 20 MINUTE, {ago} WHERE seq = 2")
    shown = await seen(site, job_id)
    [(due,)] = await site.rows("SELECT MAX(due_at) FROM job_recipients")
    assert shown["cause_of_wait"] is None
    assert shown["forecast"]["done_at"] == due.isoformat() + "Z"


async def test_while_google_is_out_of_reach_the_last_attempt_is_the_cause(site: Site) -> None:
    job_id = await posted(site)
    await site.rows(BEGUN)
    await site.rows(PUT_OFF.replace("Google answered 503: ", "Google cannot be reached: connection refused"))
    cause = (await seen(site, job_id))["cause_of_wait"]
    assert cause == ("last error: Google cannot be reached: connection refused; retried at its turn")


async def test_while_all_attempts_of_a_sender_fail_no_time_is_named(site: Site) -> None:
    job_id = await posted(site)
    await site.rows(BEGUN)
    await site.rows(
        "INSERT INTO attempts (recipient_id, attempt, event, error, at, claim_token, daemon_id) SELECT id, 1, "
        "IF(seq, 'deferred', 'sent'), IF(seq, CONCAT('answer ', seq), NULL), UTC_TIMESTAMP(6) + INTERVAL seq SECOND, "
        "id, 'd' FROM job_recipients"
    )
    shown = await seen(site, job_id)
    assert shown["cause_of_wait"] == "all attempts fail: answer 2", "the newest one: an older one may be fixed"
    assert shown["forecast"]["done_at"] is shown["forecast"]["starts_at"] is None
    assert shown["forecast"]["text"] == "all attempts fail: no time can be estimated"
    other = await posted(site)
    assert (await seen(site, other))["cause_of_wait"] == "all attempts fail: answer 2", "of its sender, so its as well"
    await site.rows("UPDATE attempts SET at = at - INTERVAL 11 MINUTE")
    assert (await seen(site, job_id))["forecast"]["done_at"] is None, "its messages still wait because of these"
    await site.rows("UPDATE job_recipients SET due_at = due_at - INTERVAL 11 MINUTE")
    assert (await seen(site, job_id))["forecast"]["done_at"]


async def test_unsure_messages_are_what_a_job_waits_for(site: Site) -> None:
    job_id = await posted(site)
    await site.rows(UNSURE)
    assert "1 message is unconfirmed: checked at Google at " in (await seen(site, job_id))["cause_of_wait"]
    await site.rows("UPDATE job_recipients SET status = 'sent', sent_at = updated_at WHERE seq > 0")
    shown = await seen(site, job_id)
    assert shown["cause_of_wait"].startswith("1 message is unconfirmed: checked at Google at ")
    assert shown["forecast"]["text"] == shown["cause_of_wait"]
    assert shown["forecast"]["done_at"] is None
    await site.rows("UPDATE job_recipients SET lease_until = NULL")
    assert (await seen(site, job_id))["cause_of_wait"] == ("1 message is unconfirmed until you run `mailerd settle`")
    await site.rows("UPDATE jobs SET status = 'cancelled'")
    assert "`mailerd settle`" in (await seen(site, job_id))["cause_of_wait"]


async def test_a_day_that_is_used_up_is_told_in_the_list_too(site: Site) -> None:
    job_id = await posted(site)
    await site.rows("INSERT INTO sender_hours VALUES ('me@example.com', UTC_TIMESTAMP() - INTERVAL 2 HOUR, 4, 0, 0)")
    cause = (await seen(site, job_id))["cause_of_wait"]
    assert cause.startswith("the sender has reached its limit of 24 hours (4): the next message is sent at ")


async def test_a_sender_that_sleeps_for_no_reason_is_told(site: Site) -> None:
    job_id = await posted(site)
    await site.rows("UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6) + INTERVAL 5 HOUR")
    assert "though its limits allow a message now" in (await seen(site, job_id))["cause_of_wait"]


async def test_what_is_due_before_a_job_uses_up_its_day_whatever_its_priority(site: Site) -> None:
    for _ in range(2):
        await posted(site, priority=-1)
    when = datetime.now(UTC) + timedelta(hours=2)
    _, answer = await site.post(job(*PEOPLE, send_at=when.strftime("%Y-%m-%dT%H:%M:%SZ")))
    for it in (answer["forecast"], (await seen(site, answer["job_id"]))["forecast"]):
        assert datetime.fromisoformat(it["starts_at"]) > when + timedelta(hours=20), "four messages a day"
        assert it["messages_ahead"] == 4


async def test_a_paused_job_is_paused_whatever_else_holds_it(site: Site) -> None:
    job_id = await posted(site)
    await site.rows("UPDATE jobs SET status = 'paused', send_at = '2099-12-01'")
    await site.rows("UPDATE senders SET paused_until = %s", FOREVER.replace(tzinfo=None))
    shown = await seen(site, job_id)
    assert shown["cause_of_wait"] == "the job is paused"
    assert shown["forecast"]["text"] == "nothing is sent until the job is resumed"
    assert shown["forecast"]["starts_at"] is None


async def test_the_key_is_always_there_and_empty_when_there_is_nothing_to_say(site: Site) -> None:
    job_id = await posted(site)
    assert (await seen(site, job_id))["forecast"]["messages_ahead"] == 0
    await site.rows("UPDATE job_recipients SET status = 'sending', claim_token = 't', lease_until = '2099-01-01'")
    assert (await seen(site, job_id))["forecast"] == {}
    await site.rows("UPDATE job_recipients SET status = 'sent', sent_at = updated_at")
    await site.rows("UPDATE jobs SET status = 'completed', finished_at = created_at")
    assert (await seen(site, job_id))["forecast"] == {}
    async with site.client.get(f"{site.url}/api/jobs/{job_id}/events") as response:
        assert '"forecast":{}' in await response.text()


async def test_a_page_is_foreseen_for_the_price_of_a_few_statements(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        await posted(site, sender_email=f"s{number % 3}@example.com", priority=number % 2)
    await site.rows(BEGUN + " WHERE priority = 1")
    alone = {each["job_id"]: (await site.get(f"/api/jobs/{each['job_id']}"))[1] for each in await listed(site)}
    counted = counting(site, monkeypatch)
    page = await listed(site)
    assert [each["forecast"]["messages_ahead"] for each in page] == [
        alone[each["job_id"]]["forecast"]["messages_ahead"] for each in page
    ]
    assert {each["forecast"]["messages_ahead"] for each in page} == {3, 9}
    assert len(counted) <= 8, counted


async def test_a_post_is_foreseen_in_five_round_trips(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await posted(site)
    counted = counting(site, monkeypatch)
    status, answer = await site.post(job(*PEOPLE))
    assert (status, answer["forecast"]["messages_ahead"]) == (200, 3)
    assert len(counted) == 5, counted


def counting(site: Site, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What forecasts ask from now on, one text for each round trip."""
    seen: list[str] = []
    database = site.intake._forecasts.database
    ask = database.request

    async def watched(work: Any, **options: Any) -> Any:
        async def counted(cursor: Any) -> Any:
            execute = cursor.execute

            async def told(statement: str, *values: Any) -> Any:
                seen.append(statement)
                return await execute(statement, *values)

            monkeypatch.setattr(cursor, "execute", told, raising=False)
            return await work(cursor)

        return await ask(counted, **options)

    monkeypatch.setattr(database, "request", watched)
    return seen


async def listed(site: Site) -> list[dict[str, Any]]:
    status, page = await site.get("/api/jobs", params={"limit": "100"})
    assert status == 200
    found: list[dict[str, Any]] = page["jobs"]
    return found


async def test_a_dry_run_names_no_wait_that_a_post_would_end(site: Site) -> None:
    when = (datetime.now(UTC) + timedelta(days=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    await site.post(job(send_at=when))  # the sender's next turn is then

    _, imagined = await site.post(job(dry_run=True))
    _, posted = await site.post(job())

    assert imagined["forecast"]["cause_of_wait"] is None
    assert (await site.get(f"/api/jobs/{posted['job_id']}"))[1]["cause_of_wait"] is None


async def test_a_dry_run_says_what_the_job_would_take(site: Site) -> None:
    status, answer = await site.post(job(*PEOPLE, {"email": "r4@example.com", "name": "R"}, dry_run=True))
    assert status == 200
    assert (answer["accepted"], answer["status"]) == (4, "dry_run")
    first = answer["forecast"]
    assert first["messages_ahead"] == 0
    await posted(site)
    _, answer = await site.post(job(*PEOPLE, dry_run=True))
    behind = answer["forecast"]
    assert behind["messages_ahead"] == 3
    assert behind["done_at"] > first["done_at"]
    assert "the rest from " in behind["text"]
    when = (datetime.now(UTC) + timedelta(days=30)).strftime("%Y-%m-%dT09:00:00Z")
    _, answer = await site.post(job(*PEOPLE, dry_run=True, send_at=when))
    assert answer["forecast"]["starts_at"] == when
    assert answer["forecast"]["cause_of_wait"] == f"not due before {when[:10]} 09:00 UTC"
    assert await site.stored() == (1, 3)


async def test_a_job_that_is_stored_is_a_200_whatever_its_forecast_does(site: Site) -> None:
    assert (await site.post(job()))[0] == 200
    await site.rows("UPDATE senders SET paused_until = '9999-12-31 23:59:59', pause_cause = 'manual'")
    many = [{"email": f"r{number}@example.com", "name": "R"} for number in range(2)]
    await site.rows("UPDATE senders SET per_day = 1")
    status, answer = await site.post(job(*many))
    assert (status, answer["accepted"], answer["forecast"]) == (200, 2, {})
    assert isinstance(site.heard.of("forecast_crashed")[0]["error"], OverflowError)
    assert await site.stored() == (2, 3)
    status, shown = await site.get(f"/api/jobs/{answer['job_id']}")
    assert (status, shown["forecast"]) == (200, {})
    assert len(await listed(site)) == 2


async def test_a_forecast_that_no_answer_can_have_is_left_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Forecast(messages_ahead=-1)
    monkeypatch.setattr("mailerd.intake.response_models.compute_forecast", lambda _: broken)
    status, answer = await site.post(job())
    assert (status, answer["forecast"]) == (200, {})
    assert len(await listed(site)) == 1
    assert len(site.heard.of("forecast_crashed")) == 2
