"""The chart: its scale and times, what its legend switches, its figures as CSV, and its values by pointer and keys."""

import asyncio
import csv
import io
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.async_api import Browser, Page, expect

from mailerd.core.states import Tally
from mailerd.errors import DatabaseAwayError
from mailerd.store.read.stats import Tallies, TallyPoint
from mailerd.web.frame import live
from mailerd.web.frame.charts import Bar, Chart, bars_of
from mailerd.web.frame.html import _environment
from mailerd.web.look import chart_page
from tests.support.rows import post, query
from tests.web.browser import chromium, page_of, sign_in
from tests.web.conftest import ConsoleSite

NOW = datetime(2026, 11, 30, 23, 59, 30, tzinfo=UTC)
NAMES = {kind: kind.value for kind in Tally}
SPANS = [(step, many) for _, step, many, _ in chart_page.SPANS.values()]


def chart(counts: dict[Tally, int], *, step: timedelta = timedelta(minutes=5), many: int = 288, **fields: Any) -> Chart:
    bars = bars_of([TallyPoint(NOW, counts)], now=NOW, step=step, many=many)
    return Chart("Messages by time", bars, step, NAMES, **fields)


def drawn(name: str, *values: object) -> str:
    """What a macro of the pages draws."""
    return str(getattr(_environment().get_template("shared.html").module, name)(*values))


@given(st.integers(1, 10**9))
def test_the_scale_has_few_round_values_and_the_highest_bar_fits_it(highest: int) -> None:
    lines = chart({Tally.SENT: highest}).lines
    assert lines[0] == 0
    assert lines[-2] < highest <= lines[-1]
    assert 2 <= len(lines) <= 5
    assert str(lines[1]).rstrip("0") in {"1", "2", "5"}


@pytest.mark.parametrize("step, many", SPANS)
def test_every_span_has_few_times_below_its_bars_and_each_is_round(step: timedelta, many: int) -> None:
    svg = drawn("plot", chart({Tally.SENT: 7}, step=step, many=many))
    times = re.findall(r'data-at="([^"]+)">[0-9:-]{5}</text>', svg)
    every = timedelta(seconds=int(re.search(r'data-every="(\d+)"', svg)[1]))  # type: ignore[index]
    assert 4 <= len(times) <= 7
    moments = [datetime.fromisoformat(it) for it in times]
    assert {b - a for a, b in pairwise(moments)} == {every}
    assert all(it.timestamp() % every.total_seconds() == 0 for it in moments)


def test_what_is_hidden_is_neither_drawn_nor_counted_in_the_scale_and_can_be_shown_again() -> None:
    whole = chart({Tally.SENT: 900, Tally.FAILED: 3})
    assert whole.toggled(Tally.SENT) == "sent"
    less = chart({Tally.SENT: 900, Tally.FAILED: 3}, hidden=frozenset({Tally.SENT}))
    assert (whole.highest, less.highest) == (903, 3)
    assert 'class="c-sent"' not in drawn("plot", less)
    assert "failed 3</title>" in drawn("plot", less)
    assert (less.toggled(Tally.FAILED), less.toggled(Tally.SENT)) == ("sent,failed", "")
    assert ">1,000<" in drawn("plot", whole)


def test_a_chart_of_nothing_is_drawn_and_a_small_bar_is_seen() -> None:
    assert chart({}).lines == [0, 1]
    assert 'class="c-failed"' in drawn("plot", chart({Tally.SENT: 10**6, Tally.FAILED: 1}))
    assert drawn("spark", [0, 1, 4], "24 h <b>").count("<rect") == 2
    assert "24 h &lt;b&gt;" in drawn("spark", [0], "24 h <b>")


def test_a_bar_knows_its_sum() -> None:
    assert Bar(NOW, {Tally.SENT: 2, Tally.FAILED: 1}).total == 3


async def fill(site: ConsoleSite) -> None:
    await post(site.database)  # the first page of an empty installation says how to begin
    for minute, sender, sent, failed in ((40, "me", 8, 1), (20, "me", 5, 0), (20, "you", 70, 0)):
        await query(
            site.database,
            "INSERT INTO tallies (minute, sender_email, daemon, sent, failed) VALUES (DATE_FORMAT(UTC_TIMESTAMP() - "
            "INTERVAL %s MINUTE, '%%Y-%%m-%%d %%H:%%i:00'), %s, 'D', %s, %s)",
            minute, f"{sender}@example.com", sent, failed,
        )  # fmt: skip
    await query(
        site.database,
        "INSERT INTO tally_hours (hour, sender_email, sent) VALUES (DATE_FORMAT(UTC_TIMESTAMP() - INTERVAL 80 DAY, "
        "'%Y-%m-%d %H:00:00'), 'me@example.com', 33)",
    )


async def test_the_figures_of_a_chart_are_a_csv_of_the_senders_that_the_key_may_see(site: ConsoleSite) -> None:
    await fill(site)
    browser, other = await site.signed_in(), await site.signed_in("other", senders=["you@example.com"])
    for who, place, total in (
        (browser, "span=1h", 83), (browser, "span=90d", 116), (browser, "span=1h&sender=me@example.com", 13),
        (other, "span=24h", 70),
    ):  # fmt: skip
        async with who.get(f"/chart.csv?{place}") as answer:
            assert answer.headers["Content-Disposition"] == 'attachment; filename="messages.csv"'
            rows = list(csv.DictReader(io.StringIO(await answer.text())))
        assert sum(int(row["sent"]) for row in rows) == total, place
        assert len(rows) in {60, 90, 288}
        assert all(row["time"].endswith("Z") for row in rows)
    for who, place in ((browser, "span=2h"), (other, "span=1h&sender=me@example.com")):
        async with who.get(f"/chart.csv?{place}") as answer:
            assert answer.status == 404, place


async def test_a_chart_that_cannot_be_read_says_so(site: ConsoleSite, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(site)
    browser = await site.signed_in()
    monkeypatch.setattr(Tallies, "hours", _fails)
    async with browser.get("/?span=14d") as answer:
        assert "The figures of the chart could not be read." in await answer.text()
    async with browser.get("/chart.csv?span=14d") as answer:
        assert answer.status == 503


async def _fails(*_: Any, **__: Any) -> None:
    cause = TimeoutError("no response within 2 s")
    raise DatabaseAwayError("read", phase="read", cause=cause, errno=0, retry=True, in_doubt=False)


async def test_the_legend_switches_a_kind_and_keeps_it_so_in_another_span(site: ConsoleSite) -> None:
    await fill(site)
    browser = await site.signed_in()
    async with browser.get("/?span=1h&hide=sent,nonsense") as answer:
        text = await answer.text()
    assert 'href="?span=24h&amp;hide=sent"' in text
    assert 'href="?span=1h&amp;hide="' in text  # shows it again
    assert 'href="?span=1h&amp;hide=sent,failed"' in text
    assert 'class="c-sent"' not in text
    assert 'class="c-failed"' in text


async def values(page: Page) -> str:
    return (await page.locator("output.values").inner_text()).partition(": ")[2]


async def test_the_values_of_a_bar_are_shown_by_pointer_tap_and_arrow_keys_and_stay_when_the_page_refreshes(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "QUIET_INTERVAL", 0.5)
    monkeypatch.setattr(live, "TICK_INTERVAL", 0.1)
    await fill(site)
    key, ticking = await site.keys.create("shop"), asyncio.create_task(site.daemon.console.live.run())
    try:
        async with chromium() as browser:
            await _looks(site, browser, key)
            monkeypatch.setattr(live, "QUIET_INTERVAL", 600.0)  # a refresh between a tap and a look fills the box anew
            await _taps(site, browser, key)
    finally:
        ticking.cancel()


async def _looks(site: ConsoleSite, browser: Browser, key: str) -> None:
    context = await browser.new_context(
        viewport={"width": 1280, "height": 900}, timezone_id="Asia/Kolkata", locale="en-GB"
    )
    async with page_of(context) as page:
        await sign_in(page, site.url, key)
        shown, chart_ = page.locator("output.values"), page.locator("svg.chart")
        await expect(shown).to_be_hidden()
        ticks = await chart_.locator("text.tick:not([hidden])").all_text_contents()
        assert len(ticks) >= 5
        assert {it[-1] for it in ticks} == {"0"}, "each 10 minutes of a zone that is half an hour off"
        box = await chart_.bounding_box()
        assert box
        await page.mouse.move(box["x"] + box["width"] * 0.66, box["y"] + 40)
        await expect(shown).to_have_text(re.compile(": Sent 75$"))
        said = await shown.inner_text()
        await query(site.database, "UPDATE tallies SET sent = 6 WHERE sender_email = 'me@example.com' AND failed = 0")
        await expect(shown).to_have_text(said.replace("Sent 75", "Sent 76"))
        local = datetime.now(UTC) - timedelta(minutes=20) + timedelta(hours=5, minutes=30)
        assert f"{local:%Y-%m-%d}" in await shown.inner_text()
        await page.mouse.move(5, 5)
        await expect(shown).to_be_hidden()
        await chart_.focus()
        for pressed, said in (
            ("ArrowLeft", "Sent 76"), ("ArrowLeft", "Sent 8, Failed 1"), ("ArrowLeft", "Sent 8, Failed 1"),
            ("End", "Sent 76"), ("Home", "Sent 8, Failed 1"), ("ArrowRight", "Sent 76"),
        ):  # fmt: skip
            await page.keyboard.press(pressed)
            await expect(shown).to_have_text(re.compile(f": {re.escape(said)}$"))  # a refresh fills it anew
        async with page.expect_response(
            lambda it: it.request.is_navigation_request() is False and it.url == f"{site.url}/"
        ):
            pass
        await expect(shown).to_be_visible()  # what is read by keys stays as it is
        await page.keyboard.press("Escape")
        await expect(shown).to_be_hidden()
        await page.click("text=14 d")
        assert all(re.fullmatch(r"\d\d-\d\d", it) for it in await chart_.locator("text.tick").all_text_contents())
    await context.close()


async def _taps(site: ConsoleSite, browser: Browser, key: str) -> None:
    context = await browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    async with page_of(context) as page:
        await sign_in(page, site.url, key)
        box = await page.locator("svg.chart").bounding_box()
        assert box
        await page.touchscreen.tap(box["x"] + box["width"] * 0.3, box["y"] + 30)
        assert await values(page) == "Sent 8, Failed 1"
        inside = await page.locator("output.values").bounding_box()
        assert inside
        assert inside["x"] >= 0
        assert inside["x"] + inside["width"] <= 390
    await context.close()
