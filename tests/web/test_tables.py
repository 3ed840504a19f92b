"""A table that is sent by the page: it holds the places of the API, keeps its once-only name, and bounds its memory."""

import io
import json
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.config import IntakeSettings
from mailerd.http.auth import LARGE_BODY
from mailerd.http.errors import FieldError, invalid
from mailerd.mail.recipient_table import read_recipients
from mailerd.mail.spreadsheet import SpreadsheetError
from mailerd.mail.spreadsheet_child import MAX_EMPTY, MAX_ROW
from mailerd.web import post_page
from mailerd.web.forms import TableJob, make_job
from mailerd.web.post_page import MAX_ECHO
from tests.support.rows import post, query
from tests.support.spreadsheets import sheet_of, xlsx
from tests.web.conftest import ConsoleSite
from tests.web.test_actions import FORM

LIMITS = IntakeSettings()
FEW = IntakeSettings(max_body=5_000, max_recipients=10)
ROW = "r{n}@example.com,Ada,Tea," + "x" * 10_000 + "\n"


def table(rows: int) -> bytes:
    return b"email,name,product,note\n" + b"".join(ROW.replace("{n}", str(n)).encode() for n in range(rows))


async def send(browser: aiohttp.ClientSession, content: bytes, action: str) -> tuple[int, str, aiohttp.ClientResponse]:
    form = aiohttp.FormData({"template": "welcome", "sender": "me@example.com", "action": action})
    form.add_field("table", io.BytesIO(content), filename="people.csv", content_type="text/csv")
    async with browser.post("/send", data=form) as answer:
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


async def test_a_try_holds_the_place_of_a_dry_run_and_is_refused_in_the_page_where_there_is_none(
    site: ConsoleSite,
) -> None:
    browser = await site.signed_in()
    no_share_waits(site)
    for language, words in (("en", "has reached its share of concurrent dry runs: 1 ("), ("zh", "已达其并发份额")):
        async with (
            all_taken(site, "dry_runs"),
            browser.post(f"/send?lang={language}", data={**FORM, "action": "try"}) as answer,
        ):
            text = await answer.text()
            assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
            assert words in text
            assert "ada@example.com,Ada,Tea" in text, "what was typed is still there"
    async with browser.post("/send", data={**FORM, "action": "try"}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("action", ["try", "post"])
async def test_a_large_table_holds_the_place_of_a_large_body_and_is_refused_where_there_is_none(
    site: ConsoleSite, action: str
) -> None:
    browser = await site.signed_in()
    no_share_waits(site)
    large = table(LARGE_BODY // len(ROW) + 100)
    small_of_which_the_job_is_large = table(20).replace(b"note", b"x" * 60_000)
    for content in (large, small_of_which_the_job_is_large):
        async with all_taken(site, "large_bodies"):
            status, text, answer = await send(browser, content, action)
        assert (status, answer.headers["Retry-After"]) == (429, "5")
        assert "has reached its share of concurrent bodies above 1 MiB: 1 (" in text
    assert await query(site.database, "SELECT COUNT(*) FROM jobs") == [(0,)]
    status, text, _ = await send(browser, small_of_which_the_job_is_large, action)
    assert status == 200, text


async def test_a_download_holds_the_place_of_a_download(site: ConsoleSite) -> None:
    browser, job = await site.signed_in(), await post(site.database)
    no_share_waits(site)
    async with all_taken(site, "downloads"), browser.get(f"/jobs/{job}/results.csv") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
        assert "has reached its share of concurrent CSV downloads: 2 (" in await answer.text()
    async with browser.get(f"/jobs/{job}/results.csv") as answer:
        assert answer.status == 200


async def test_a_large_table_is_not_given_back_and_the_page_says_so(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    for size, given_back in ((MAX_ECHO // 2, True), (MAX_ECHO * 2, False)):
        status, text, _ = await send(browser, table(size // len(ROW)), "try")
        said = "Choose the file again: it is too large to keep in this form." in text
        assert (status, said, "r7@example.com,Ada,Tea,xxx" in text) == (200, not given_back, given_back)
        assert len(text) < MAX_ECHO * 2


async def test_a_table_that_is_not_utf_8_is_not_given_back_as_another_one(site: ConsoleSite) -> None:
    status, text, _ = await send(await site.signed_in(), "email,name\na@b.example,Zoë\n".encode("latin-1"), "post")
    assert (status, "not UTF-8, perhaps cp1252: Zoë" in text, "a@b.example" in text) == (422, True, False)


CELLS = st.text(st.characters(codec="utf-8", exclude_characters='\r\n",\0'), max_size=8)
NAMES = st.text("abcXYé", min_size=1, max_size=6)


@given(
    names=st.lists(NAMES, max_size=4, unique_by=str.lower),
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), max_size=5),
    fields=st.dictionaries(
        st.sampled_from(["sender_email", "template_name", "reference", "list"]),
        st.sampled_from(["a@b.example", '"recipients": []', "welcome", "é"]),
    ),
    dry=st.booleans(),
)
def test_a_job_and_its_name_are_what_they_would_be_if_they_were_made_whole(
    names: list[str], rows: list[tuple[str, ...]], fields: dict[str, str], *, dry: bool
) -> None:
    fields = {**fields, "on_invalid": "skip"}
    header = ["email", *(name for name in names if name.lower() not in {"email", "name", "language"})]
    lines = [",".join(header), *(",".join(f'"{cell}"' for cell in ("x", *row)[: len(header)]) for row in rows)]
    raw = "\n".join(lines).encode()
    job = fields | {"recipients": read_recipients(sheet_of(raw), "Table").recipients}
    made = make_job(sheet_of(raw), fields, name="Table", dry_run=dry, version="v1", limits=LIMITS)
    assert json.loads(made.body) == job | {"dry_run": dry}
    before, recipients = (json.dumps(it, ensure_ascii=False, sort_keys=True)[:-1] for it in (fields, job["recipients"]))
    whole = f'{before}, "recipients": {recipients}'
    assert made.body == f'{whole}], "dry_run": {json.dumps(dry)}}}'.encode()
    assert made.once == f"console-{sha256(f'{whole}v1'.encode()).hexdigest()}"


async def test_a_table_whose_columns_stand_in_another_order_is_the_same_table(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    status, text, _ = await send(browser, b"email,name,product,note\na@b.example,Ada,Tea,x\n", "post")
    assert (status, "1 of 1 message accepted." in text) == (200, True), text
    status, text, _ = await send(browser, b"note;product;email;name\nx;Tea;a@b.example;Ada\n", "post")
    assert (status, "This table was already sent as this job. Nothing was sent again." in text) == (200, True), text
    assert await query(site.database, "SELECT COUNT(*) FROM jobs") == [(1,)]


@pytest.mark.parametrize("raw, said", [
    (b"email\n" + b"a@b.example\n" * 11, "more than 10 recipients"),
    (b"email," + b"a" * 900 + b"\n" + b"a@b.example,\n" * 9, "is larger than 5,000 bytes"),
    (b"email\n" + b"," * (MAX_ROW + 1), "a row has more than 1,000,000 characters"),
    (b"email\n" + b'"' + b"a\n" * 50_000 + b'",' + b'"a\n",' * 400_000, "a row has more than 1,000,000 characters"),
    (b"email" + b",a" * MAX_ROW, "a row has more than 1,000,000 characters"),
    (b"email" + b",a" * 400, "Several columns are used as a"),
    (b"email" + b",a" * 1000, "1,001 columns, more than 500"),
    (b"email\n" + b"a,b\n" * 30, "and 10 more"),
    (b"email\n" + b"\n" * (MAX_EMPTY + 1), "more than 1,048,576 rows"),
    (b"email\n" + b"a,b\n" * (MAX_EMPTY + 1), "more than 1,048,576 rows"),
])  # fmt: skip
def test_a_table_that_would_take_much_memory_is_refused_in_few_words(raw: bytes, said: str) -> None:
    with pytest.raises(SpreadsheetError) as caught:
        make_job(sheet_of(raw), {"on_invalid": "skip"}, name="Table", dry_run=False, version="", limits=FEW)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_a_whole_sheet_whose_rows_are_nearly_all_empty_is_read() -> None:
    raw = b"email\n" + b"\n" * (MAX_EMPTY - 2) + b"a@b.example\n"
    table = read_recipients(sheet_of(raw), "Table")
    assert ([each["email"] for each in table.recipients], table.rows) == (["a@b.example"], [MAX_EMPTY])


def test_rows_of_a_table_may_have_lines_within_their_cells() -> None:
    table = read_recipients(sheet_of(b'email,note\na@b.example,"one\ntwo"\n\nc@d.example,x\n'), "Table")
    assert (table.rows, [each["variables"]["note"] for each in table.recipients]) == ([2, 4], ["one\ntwo", "x"])


async def test_a_workbook_is_sent_as_a_csv_is_and_its_problems_have_the_rows_of_the_sheet(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    rows: list[list[Any]] = [
        ["Guests", None, None],
        [None],
        ["电子邮件", "姓名", "product"],
        ["a@b.example", "王", "Tea"],
        ["nobody", "", "Tea"],
    ]
    status, text, _ = await send(browser, xlsx({"People": rows}), "post")
    assert (status, "row 5, email: has no @" in text) == (422, True), text
    status, text, _ = await send(browser, xlsx({"People": rows[:4]}), "post")
    assert (status, "1 of 1 message accepted." in text) == (200, True), text


async def test_a_table_is_read_beside_the_event_loop(site: ConsoleSite, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set[int]()

    def make(*args: Any, **options: Any) -> TableJob:
        threads.add(threading.get_ident())
        return make_job(*args, **options)

    monkeypatch.setattr(post_page, "make_job", make)
    assert (await send(await site.signed_in(), table(2), "try"))[0] == 200
    assert threads - {threading.get_ident()}


async def test_where_nothing_can_be_rendered_the_page_says_so_as_the_api_does_and_nothing_is_stored(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await site.signed_in()
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/nowhere/python")
        status, page, answer = await send(browser, b"email,name,product\nada@example.com,Ada,Tea\n", "post")
    assert status == 503, page
    assert int(answer.headers["Retry-After"]) > 0
    assert "/nowhere/python" in page
    assert await query(site.database, "SELECT COUNT(*) FROM jobs") == [(0,)]


def test_what_a_table_says_is_not_taken_for_a_line_of_it() -> None:
    it = Mock(language="en")
    error = invalid([FieldError("recipients[0].variables", "has no attribute 'recipients[9]'")])
    assert post_page._faults(it, error, [2]) == ["row 2, variables: has no attribute 'recipients[9]'"]


def test_copies_are_columns_of_addresses_between_semicolons() -> None:
    raw = b"Email,CC,bcc,cC2\na@x.example, b@x.example ; c@x.example;,,d\ne@x.example,,f@x.example,\n"
    read = read_recipients(sheet_of(raw), "t")
    assert read.recipients == [
        {"email": "a@x.example", "cc": [{"email": "b@x.example"}, {"email": "c@x.example"}], "variables": {"cC2": "d"}},
        {"email": "e@x.example", "bcc": [{"email": "f@x.example"}], "variables": {"cC2": ""}},
    ]
