"""The chart of a job: what was sent, bounced, failed and replied by the time, from its start to its end or now."""

import csv
import io
import re
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.async_api import expect

from mailerd.core.states import Tally
from mailerd.store.db.database import Database
from mailerd.store.read import job_report
from mailerd.store.read.job_report import JobReports
from mailerd.store.read.stats import TallyPoint
from mailerd.web.look.chart_page import job_bars
from tests.support.dialect import plan
from tests.support.rows import post, query
from tests.web.browser import VIEWS, chromium, page_of, sign_in
from tests.web.conftest import ConsoleSite
from tests.web.test_charts import _fails

HOUR = timedelta(hours=1)
BEGIN = datetime(2026, 11, 2, 9, 30, 20, tzinfo=UTC)
MESSAGES = (
    ("sent", 0, None, None),
    ("sent", 0, "bounced", 65),
    ("sent", 61, "replied", 63),
    ("sent", 61, "other_replied", 900),
    ("sent", 62, "auto_replied", 70),
    ("sent", 62, "unsubscribed", 70),
    ("failed", 62, None, None),
    ("waiting", 62, None, None),
)
"""State, minute of its end, result and its minute."""


async def fill(database: Database, *, finished: bool = True) -> str:
    job = await post(database, recipients=len(MESSAGES) + 1)
    for seq, (status, minute, result, heard) in enumerate(MESSAGES):
        at = BEGIN + timedelta(minutes=minute)
        then = None if heard is None else BEGIN + timedelta(minutes=heard)
        await query(
            database,
            "UPDATE job_recipients SET status = %s, attempts = 1, updated_at = %s, sent_at = IF(status = 'sent', %s, "
            "NULL), result = %s, result_at = %s WHERE seq = %s",
            status, at, at, result, then, seq,
        )  # fmt: skip
    refused = "UPDATE job_recipients SET status = 'failed', updated_at = %s WHERE seq = %s"
    await query(database, refused, BEGIN, len(MESSAGES))  # at the intake: nobody tried it
    await query(
        database,
        "INSERT INTO notices (mailbox, gmail_id, thread_id, recipient_id, job_id, email, kind, believed, at) "
        "SELECT 'me@example.com', CONCAT(id, n), id, id, job_id, to_email, 'reply', 1, result_at "
        "FROM job_recipients, (SELECT 1 n UNION SELECT 2) twice WHERE result IS NOT NULL",
    )
    end = BEGIN + timedelta(minutes=62) if finished else None
    await query(database, "UPDATE jobs SET started_at = %s, finished_at = %s WHERE id = %s", BEGIN, end, job)
    return job


async def rows_of(browser: aiohttp.ClientSession, path: str) -> list[tuple[str, dict[str, int]]]:
    async with browser.get(path) as answer:
        assert answer.status == 200, await answer.text()
        rows = list(csv.DictReader(io.StringIO(await answer.text())))
    return [(row.pop("time"), {kind: int(n) for kind, n in row.items() if int(n)}) for row in rows]


async def test_each_message_is_in_the_bars_of_its_sending_and_of_what_came_back(site: ConsoleSite) -> None:
    job, browser = await fill(site.database), await site.signed_in()
    found = await rows_of(browser, f"/jobs/{job}/chart.csv?span=sending")
    assert [it for it in found if it[1]] == [
        ("2026-11-02T09:30:00Z", {"sent": 2}), ("2026-11-02T10:31:00Z", {"sent": 2}),
        ("2026-11-02T10:32:00Z", {"sent": 2, "failed": 1}),
    ]  # fmt: skip
    assert (found[0][0], found[-1][0]) == ("2026-11-02T09:30:00Z", "2026-11-02T10:32:00Z")
    whole = await rows_of(browser, f"/jobs/{job}/chart.csv")
    assert [it for it in whole if it[1]] == [
        ("2026-11-02T09:30:00Z", {"sent": 2}),
        ("2026-11-02T10:30:00Z", {"sent": 4, "failed": 1, "bounced": 1, "replied": 1}),
        ("2026-11-03T00:30:00Z", {"replied": 1}),
    ]  # fmt: skip
    async with browser.get(f"/jobs/{job}?hide=failed&tab=sent") as answer:
        page = await answer.text()
    legend = re.findall(r'<i class="k-(\w+)"></i>\w+ <b>(\d+)</b>', page)
    assert legend == [("sent", "6"), ("bounced", "1"), ("failed", "1"), ("replied", "2")]
    assert page.count('class="c-replied"') == 2
    assert 'class="c-failed"' not in page
    assert f'href="/jobs/{job}/chart.csv?&amp;span=all"' in page


async def test_only_who_may_see_the_job_sees_its_chart_and_one_that_has_not_begun_has_none(site: ConsoleSite) -> None:
    job, new = await fill(site.database), await post(site.database)
    browser, other = await site.signed_in(), await site.signed_in("other", senders=["other@example.com"])
    for who, path in (
        (other, f"/jobs/{job}"),
        (browser, f"/jobs/{new}"),
        (browser, "/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV"),
    ):
        async with who.get(f"{path}/chart.csv") as answer:
            assert answer.status == 404
    async with browser.get(f"/jobs/{new}") as answer:
        assert 'class="chart"' not in await answer.text()


async def test_a_chart_that_takes_too_long_says_so_on_a_page_that_is_whole_otherwise(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, browser = await fill(site.database), await site.signed_in()
    monkeypatch.setattr(JobReports, "by_minute", _fails)
    async with browser.get(f"/jobs/{job}") as answer:
        page = await answer.text()
    assert "The figures of the chart could not be read." in page
    assert 'id="part-sent"' in page or 'id="part-no_reply"' in page
    async with browser.get(f"/jobs/{job}/chart.csv") as answer:
        assert answer.status == 503


async def test_the_figures_of_a_job_are_read_by_indices_and_once_for_all_who_look(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = site.database
    job = await fill(database, finished=False)
    for _ in range(3):
        await post(database, recipients=400)
    await query(database, "ANALYZE TABLE job_recipients, notices")
    for statement, values, keys in (
        (job_report.COUNT_ENDED, (job,), {"claim"}), (job_report.COUNT_HEARD, (job, job), {"PRIMARY", "job"}),
    ):  # fmt: skip
        found = [row for row in await plan(database, statement, values) if not str(row["table"]).startswith("<")]
        assert {row["key"] for row in found} == keys, found
        assert all(int(row["rows"]) <= 40 for row in found), found
    read, asked = JobReports.by_minute, list[str]()

    async def counted(it: JobReports, which: str) -> list[TallyPoint]:
        asked.append(which)
        return await read(it, which)

    monkeypatch.setattr(JobReports, "by_minute", counted)
    browsers = [await site.signed_in(name) for name in "abc"]
    for browser in browsers:
        rows = await rows_of(browser, f"/jobs/{job}/chart.csv")
        assert datetime.fromisoformat(rows[-1][0]) + timedelta(days=1) > datetime.now(UTC), "until now"
    assert asked == [job]


@given(st.integers(0, 3 * 365 * 24 * 3600), st.lists(st.floats(0, 1), max_size=5))
def test_bars_hold_everything_from_the_beginning_to_the_end_and_are_few(seconds: int, places: list[float]) -> None:
    end = BEGIN + timedelta(seconds=seconds)
    points = [TallyPoint(BEGIN + place * (end - BEGIN), {Tally.SENT: 1}) for place in places]
    bars, step = job_bars(points, BEGIN, end)
    assert 30 <= len(bars) <= 121
    assert bars[0].at <= BEGIN < bars[0].at + step
    assert end < bars[-1].at + step
    assert sum(bar.total for bar in bars) == len(points)


@pytest.mark.parametrize("view", ["desktop", "phone, dark, Chinese"])
async def test_its_values_are_shown_by_the_arrow_keys(site: ConsoleSite, view: str) -> None:
    job, key = await fill(site.database), await site.keys.create("shop")
    async with chromium() as browser:
        context = await browser.new_context(**VIEWS[view])
        async with page_of(context) as page:
            await sign_in(page, site.url, key)
            await page.goto(f"{site.url}/jobs/{job}")
            await page.locator("svg.chart").press("ArrowLeft")
            await expect(page.locator("output.values")).to_have_text(re.compile("(Replied|回复) 1$"))
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
