"""A table that is sent by the pages: it holds the places of the API, is checked beside the loop, and is bounded."""

import asyncio
import io
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest

from mailerd.http.auth import LARGE_BODY
from mailerd.http.errors import FieldError, invalid
from mailerd.mail import recipient_table, table_checker
from mailerd.mail.cage import Limits
from mailerd.mail.recipient_table import read_recipients
from mailerd.mail.spreadsheet import Sheet, SpreadsheetError
from mailerd.mail.spreadsheet_child import MAX_EMPTY, MAX_ROW
from mailerd.mail.table_checker import DraftTable, TableQuestion
from mailerd.web.send import post_job
from tests.support.eventually import eventually
from tests.support.heard import PATIENCE
from tests.support.rows import post, query
from tests.support.spreadsheets import sheet_of
from tests.web.conftest import ConsoleSite
from tests.web.test_new_message import MESSAGE, ask, begun

ROW = "r{n}@example.com,Ada,Tea," + "x" * 10_000 + "\n"
WIDE = b",".join([b"email", *(b"c%d" % n for n in range(490))]) + b"\n" + (b"a@example.com" + b"," * 490 + b"\n") * 2000
SMALL = b"email,name,product,note\nada@example.com,Ada,Tea,x\n"


def table(rows: int) -> bytes:
    return b"email,name,product,note\n" + b"".join(ROW.replace("{n}", str(n)).encode() for n in range(rows))


async def upload(browser: aiohttp.ClientSession, content: bytes) -> tuple[int, str, aiohttp.ClientResponse]:
    form = aiohttp.FormData()
    form.add_field("table", io.BytesIO(content), filename="people.csv", content_type="text/csv")
    async with browser.post("/send", data=form) as answer:
        return answer.status, await answer.text(), answer


async def drafted(browser: aiohttp.ClientSession, content: bytes) -> str:
    """A draft that can be reviewed."""
    draft = await begun(browser, content)
    await ask(browser, f"{draft}/message", **MESSAGE)
    return draft


async def review(browser: aiohttp.ClientSession, draft: str, **query: str) -> tuple[int, str, aiohttp.ClientResponse]:
    async with browser.get(f"{draft}/review", params=query) as answer:
        return answer.status, await answer.text(), answer


def no_share_waits(site: ConsoleSite) -> None:
    """A place that is not free is refused at once."""
    for share in vars(site.daemon.intake.shares).values():
        share.within = 0


@asynccontextmanager
async def all_taken(site: ConsoleSite, name: str) -> AsyncIterator[None]:
    """While the first key holds its places of a share."""
    (key,) = await site.keys.all()
    share = getattr(site.daemon.intake.shares, name)
    async with AsyncExitStack() as stack:
        for _ in range(share.per_key):
            await stack.enter_async_context(share.place(key))
        yield


async def test_a_review_holds_the_place_of_a_dry_run_and_is_refused_in_the_page_where_there_is_none(
    site: ConsoleSite,
) -> None:
    browser = await site.signed_in()
    draft = await drafted(browser, SMALL)
    no_share_waits(site)
    for language, words in (("en", "has reached its share of concurrent dry runs: 1 ("), ("zh", "已达其并发份额")):
        async with all_taken(site, "dry_runs"):
            status, text, answer = await review(browser, draft, lang=language)
            assert (status, answer.headers["Retry-After"]) == (429, "5")
            assert words in text
            assert 'name="when"' in text, "the page is there"
    assert (await review(browser, draft))[0] == 200


async def test_a_large_table_holds_the_place_of_a_large_body_and_is_refused_where_there_is_none(
    site: ConsoleSite,
) -> None:
    browser = await site.signed_in()
    no_share_waits(site)
    large = table(LARGE_BODY // len(ROW) + 100)
    rows = b"".join(b"r%d@example.com,Ada,\n" % n for n in range(20))
    draft = await drafted(browser, b"email,name,product\n" + rows)
    long = {"empty-product": "default", "default-product": "x" * 60_000}  # a small table, of which the job is large
    await ask(browser, f"{draft}/people", decided="1", **long)
    words = "has reached its share of concurrent bodies above 1 MiB: 1 ("
    async with all_taken(site, "large_bodies"):
        for status, text, answer in (await upload(browser, large), await review(browser, draft)):
            assert (status, answer.headers["Retry-After"], words in text) == (429, "5", True)
    assert await query(site.database, "SELECT COUNT(*) FROM jobs") == [(0,)]
    status, text, _ = await review(browser, draft)
    assert status == 200, text


async def test_a_job_that_would_be_too_large_is_refused_in_the_page(site: ConsoleSite) -> None:
    browser, services = await site.signed_in(), site.daemon.console.services
    draft = await drafted(browser, SMALL)
    intake = services.settings.intake.model_copy(update={"max_body": 100})
    services.settings = services.settings.model_copy(update={"intake": intake})
    status, text, _ = await review(browser, draft)
    assert (status, "larger than 100 bytes, the limit of intake.max_body" in text) == (413, True)


async def test_a_download_holds_the_place_of_a_download(site: ConsoleSite) -> None:
    browser, job = await site.signed_in(), await post(site.database)
    no_share_waits(site)
    async with all_taken(site, "downloads"), browser.get(f"/jobs/{job}/results.csv") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
        assert "has reached its share of concurrent CSV downloads: 2 (" in await answer.text()
    async with browser.get(f"/jobs/{job}/results.csv") as answer:
        assert answer.status == 200


async def test_no_table_is_looked_at_in_the_process_of_the_daemon(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(Sheet, "__init__", never)
    monkeypatch.setattr(recipient_table, "check", never)
    browser = await site.signed_in()
    draft = await drafted(browser, table(2) + b"nobody,Ada,,\n")
    await ask(browser, f"{draft}/people", decided="1", skip_invalid="1", **{"cell-2-2": "Cake", "was-2-2": "Tea"})
    assert (await review(browser, draft))[0] == 200
    for name, rows in (("problems", 2), ("corrected", 3)):
        async with browser.get(f"{draft}/{name}.csv") as answer:
            assert len((await answer.text("utf-8-sig")).splitlines()) == rows


@pytest.fixture
def little_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared process has less than the large table takes, on any machine."""
    monkeypatch.setattr(table_checker, "QUICK_LIMITS", Limits(cpu=0.05, memory=table_checker.QUICK_LIMITS.memory))


@pytest.mark.usefixtures("little_cpu")  # before the site
async def test_a_table_that_ends_the_shared_process_has_one_of_its_own(site: ConsoleSite) -> None:
    """A few bytes, packed: a million cells, of which each is wrong."""
    browser = await site.signed_in()
    draft = await begun(browser, WIDE)
    await site.heard.wait_for("renderer_ended")
    async with browser.get(f"{draft}/people") as answer:
        assert (answer.status, "rows repeat an address" in await answer.text()) == (200, True)
    assert {each["renderer"] for each in site.heard.of("renderer_ended")} == {"checking"}


@pytest.mark.usefixtures("little_cpu")  # before the site
async def test_a_table_that_is_too_much_for_a_process_is_refused_in_words(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await site.signed_in()
    draft = await begun(browser, "email\na@example.com\n")
    form = aiohttp.FormData()
    form.add_field("table", io.BytesIO(WIDE), filename="wide.csv")
    monkeypatch.setattr(table_checker, "LIMITS", Limits(cpu=0.05, memory=table_checker.LIMITS.memory))
    async with browser.post(f"{draft}/people", data=form) as answer:
        assert answer.status == 422
    async with browser.get(f"{draft}/people") as answer:
        words = "The table takes too long. Split it, or delete columns."
        assert (answer.status, words in await answer.text()) == (422, True)


async def test_downloads_that_nobody_reads_keep_no_table_waiting(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, tables = await site.signed_in(), site.daemon.console.services.tables
    monkeypatch.setattr(table_checker, "SMALL", 0)
    draft = await drafted(browser, SMALL)
    packed = sheet_of(SMALL).pack()
    async with AsyncExitStack() as slow:
        for n in range(2):
            held = await slow.enter_async_context(tables.table(packed, origin=f"slow {n}", is_download=True))
            await held.check(TableQuestion(1, {}))
            pieces = await slow.enter_async_context(aclosing(held.csv("corrected", "en")))
            await anext(pieces)
        async with asyncio.timeout(PATIENCE), browser.get(f"{draft}/people") as answer:
            assert answer.status == 200
        monkeypatch.setattr(table_checker, "CHECK_TIMEOUT", 0.2)
        async with asyncio.timeout(PATIENCE), browser.get(f"{draft}/corrected.csv") as answer:
            assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (503, True)
            assert "no process that checks tables was free in 0.2 s" in await answer.text()
        monkeypatch.undo()
    async with browser.get(f"{draft}/corrected.csv") as answer:
        assert (answer.status, "ada@example.com" in await answer.text()) == (200, True)


async def test_where_nothing_can_be_read_the_page_says_so_as_the_api_does_and_nothing_is_stored(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await site.signed_in()
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/nowhere/python")
        status, page, answer = await upload(browser, SMALL)
    assert status == 503, page
    assert int(answer.headers["Retry-After"]) > 0
    assert "/nowhere/python" in page
    assert await query(site.database, "SELECT COUNT(*) FROM job_drafts") == [(0,)]


def test_what_a_table_says_is_not_taken_for_a_line_of_it() -> None:
    it = Mock(language="en")
    error = invalid([FieldError("recipients[0].variables", "has no attribute 'recipients[9]'")])
    assert post_job.faults_of(it, error, [2]) == ["row 2, variables: has no attribute 'recipients[9]'"]


@pytest.mark.parametrize("raw, said", [
    (b"email\n" + b"," * (MAX_ROW + 1), "a row has more than 1,000,000 characters"),
    (b"email\n" + b'"' + b"a\n" * 50_000 + b'",' + b'"a\n",' * 400_000, "a row has more than 1,000,000 characters"),
    (b"email" + b",a" * MAX_ROW, "a row has more than 1,000,000 characters"),
    (b"email" + b",a" * 400, "Several columns are used as a"),
    (b"email" + b",a" * 1000, "1,001 columns, more than 500"),
    (b"email\n" + b"a,b\n" * 30, "and 10 more"),
    (b"email\n" + b"\n" * (MAX_EMPTY + 1), "more than 1,048,576 rows"),
    (b"email\n" + b"a,b\n" * (MAX_EMPTY + 1), "more than 1,000,000 cells"),
])  # fmt: skip
def test_a_table_that_would_take_much_memory_is_refused_in_few_words(raw: bytes, said: str) -> None:
    with pytest.raises(SpreadsheetError) as caught:
        read_recipients(sheet_of(raw), "Table")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_a_whole_sheet_whose_rows_are_nearly_all_empty_is_read() -> None:
    raw = b"email\n" + b"\n" * (MAX_EMPTY - 2) + b"a@b.example\n"
    table = read_recipients(sheet_of(raw), "Table")
    assert ([each["email"] for each in table.recipients], table.rows) == (["a@b.example"], [MAX_EMPTY])


def test_rows_of_a_table_may_have_lines_within_their_cells() -> None:
    table = read_recipients(sheet_of(b'email,note\na@b.example,"one\ntwo"\n\nc@d.example,x\n'), "Table")
    assert (table.rows, [each["variables"]["note"] for each in table.recipients]) == ([2, 4], ["one\ntwo", "x"])


def test_copies_are_columns_of_addresses_between_semicolons() -> None:
    raw = b"Email,CC,bcc,cC2\na@x.example, b@x.example ; c@x.example;,,d\ne@x.example,,f@x.example,\n"
    read = read_recipients(sheet_of(raw), "t")
    assert read.recipients == [
        {"email": "a@x.example", "cc": [{"email": "b@x.example"}, {"email": "c@x.example"}], "variables": {"cC2": "d"}},
        {"email": "e@x.example", "bcc": [{"email": "f@x.example"}], "variables": {"cC2": ""}},
    ]


@pytest.mark.parametrize("action", ["", "next"])
async def test_the_pages_of_the_drafts_of_one_key_are_made_one_at_a_time_and_hold_up_no_other(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    evil, good = await site.signed_in("evil"), await site.signed_in("good")
    its, own = await begun(evil, "email\nevil@example.com\n"), await begun(good)
    at_work, most, go_on, ask_child = 0, 0, asyncio.Event(), DraftTable._ask

    async def slow(table: DraftTable, do: str, **more: Any) -> dict[str, Any]:
        nonlocal at_work, most
        if table._origin == "key evil":
            at_work, most = at_work + 1, max(most, at_work + 1)
            await asyncio.wait_for(go_on.wait(), PATIENCE)
            at_work -= 1
        return await ask_child(table, do, **more)

    monkeypatch.setattr(DraftTable, "_ask", slow)
    asked = [asyncio.ensure_future(evil.post(f"{its}/people", data={"action": action})) for _ in range(3)]
    asked += [asyncio.ensure_future(evil.get(f"{its}/message")) for _ in range(2)]
    await eventually(lambda: asyncio.sleep(0, at_work == 1))
    async with good.get(f"{own}/people") as answer:
        assert answer.status == 200
    go_on.set()
    assert {each.status for each in await asyncio.gather(*asked)} == {200}
    assert most == 1
