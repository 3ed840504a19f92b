"""One job has one word: in the list of jobs, on its page, on the first page, in the commands."""

import re

import pytest

from mailerd.store.read.describe import of_job, standing
from mailerd.store.read.jobs import Jobs
from tests.support.rows import post, query
from tests.web.conftest import ConsoleSite

PAUSED = (
    "UPDATE senders SET pause_cause = 'throttled', pause_reason = '429', next_claim_at = paused_until, "
    "paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR"
)


async def test_a_job_whose_sender_is_paused_is_called_so_everywhere(site: ConsoleSite) -> None:
    id_ = await post(site.database)
    await query(site.database, PAUSED)
    await query(site.database, "UPDATE jobs SET status = 'sending', started_at = created_at")
    browser = await site.signed_in()
    for path in ("/", "/jobs", f"/jobs/{id_}"):
        async with browser.get(path) as answer:
            badges = re.findall(r'class="badge b-\w+">([^<]+)<', await answer.text())
        assert "Sender paused" in badges, path
        assert "Sending" not in badges, path
    job = await Jobs(site.database, timeout=5).job(id_)
    assert job is not None
    assert standing(job, daemon=True) == "sender paused"
    assert of_job(job)[0].startswith(f"Job {id_} from me@example.com: sender paused, 3 recipients")


async def test_a_job_of_a_database_that_takes_no_writes_says_so_on_every_page_and_in_the_api(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = await post(site.database)
    browser, key = await site.signed_in(), await site.keys.create("api")
    monkeypatch.setattr(type(site.database), "outage", property(lambda _: "denied"))
    for path in ("/jobs", f"/jobs/{id_}"):
        async with browser.get(path) as answer:
            badges = re.findall(r'class="badge b-\w+">([^<]+)<', await answer.text())
        assert badges[0] == "Database unavailable", path
    for path in (f"/api/jobs/{id_}", "/api/jobs"):
        async with browser.get(path, headers={"X-API-Key": key}) as answer:
            said = await answer.json()
        job = said["jobs"][0] if "jobs" in said else said
        assert job["cause_of_wait"] == "the database denies its user a privilege"
        assert job["forecast"]["text"] == "nothing is sent until the database can be written to again"
        assert job["forecast"]["done_at"] is None
