"""A retry is offered, on every surface, only where it would take a message."""

import pytest

from mailerd.core.situation import situation
from mailerd.store.read import describe
from mailerd.store.read.history import HistoryReader
from tests.support.rows import post, query
from tests.web.conftest import ConsoleSite

REFUSED = "UPDATE job_recipients SET status = 'failed', error = 'characters before the @ that are not ASCII'"
TRIED = "UPDATE job_recipients SET status = 'failed', attempts = 8, error = 'gave up'"


async def offered(site: ConsoleSite, job: str) -> tuple[bool, bool, bool]:
    """Whether the console, `explain` and `check` offer one."""
    browser = await site.signed_in()
    async with browser.get(f"/jobs/{job}") as answer:
        page = await answer.text()
    (story,) = await HistoryReader(site.database).of_address("p0@example.org")
    told = "\n".join(describe.of_message(story, describe.Queue()))
    site.daemon.service.stats.take(await site.daemon.service.stats.read())
    found = situation(site.daemon.service.stats.facts())
    remedies = [remedy for it in found if it.code == "job_failed" for remedy in it.remedies]
    assert remedies, "the job is shown as failed"
    return "Retry 2 messages" in page, "jobs retry" in told, any("jobs retry" in each for each in remedies)


@pytest.mark.parametrize("how, offers", [(REFUSED, False), (TRIED, True)])
async def test_what_was_refused_before_any_attempt_is_offered_no_retry(
    site: ConsoleSite, how: str, *, offers: bool
) -> None:
    job = await post(site.database, recipients=["p0@example.org", "p1@example.org"])
    await query(site.database, how)
    await query(site.database, "UPDATE jobs SET status = 'completed', finished_at = UTC_TIMESTAMP(6)")
    assert await offered(site, job) == (offers, offers, offers)


@pytest.mark.parametrize("kind, offers", [("hard", False), ("soft", True)])
async def test_soft_bounces_are_offered_a_retry_and_hard_ones_are_not(
    site: ConsoleSite, kind: str, *, offers: bool
) -> None:
    job = await post(site.database, recipients=["p0@example.org"])
    await query(
        site.database,
        "UPDATE job_recipients SET status = 'sent', proof = 'answered', result = 'bounced', result_kind = %s, "
        "result_at = UTC_TIMESTAMP(6)", kind,
    )  # fmt: skip
    await query(site.database, "UPDATE jobs SET bounced = 1, status = 'completed', finished_at = UTC_TIMESTAMP(6)")
    await query(
        site.database,
        "INSERT INTO notices (mailbox, gmail_id, thread_id, believed, kind, at, job_id, recipient_id) "
        "SELECT 'me@example.com', 'g', 't', 1, %s, UTC_TIMESTAMP(6), job_id, id FROM job_recipients", kind,
    )  # fmt: skip
    browser = await site.signed_in()
    async with browser.get(f"/jobs/{job}") as answer:
        assert ("Retry soft bounces" in await answer.text()) is offers
