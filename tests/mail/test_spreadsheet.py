"""A file of people is read as its program shows it, whoever wrote it, and a hostile one costs nobody else anything."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailerd.events.worker import RendererEvents
from mailerd.mail import spreadsheet, spreadsheet_child
from mailerd.mail.cage import ChildProcess, Limits
from mailerd.mail.recipient_table import Decisions, check, columns_of, guess_header, guessed_uses
from mailerd.mail.spreadsheet import MAX_FILE, Sheet, SpreadsheetError, SpreadsheetReader
from mailerd.mail.spreadsheet_child import FileReading, guess_encoding
from mailerd.mail.templates import RendererError
from tests.support.heard import Heard
from tests.support.own_time import at_this_speed, own_time
from tests.support.spreadsheets import XLS, ods, xlsx, xlsx_of, zipped

PEOPLE = [["Email", "姓名"], ["a@example.com", "王小明"], ["b@example.com", "Zoë"]]


async def read(
    content: bytes, *, sheet: str | None = None, encoding: str | None = None, heard: Heard | None = None,
    most: int = 1_000_000,
) -> Sheet:  # fmt: skip
    """As the console reads it, and as a command does, which is the same."""
    reader = SpreadsheetReader(RendererEvents(heard or Heard()))
    packed = await reader.read_packed(
        content, filename="people.xlsx", origin="key shop", sheet=sheet, encoding=encoding, most=most
    )
    found = await reader.read(content, filename="people.xlsx", origin="key shop", sheet=sheet, encoding=encoding)
    assert Sheet.unpack(packed.packed) == found
    assert (packed.header, packed.name, packed.sheets) == (guess_header(found), found.name, found.sheets)
    return found


async def why_not(content: bytes, heard: Heard | None = None) -> str:
    with pytest.raises(SpreadsheetError) as caught:
        await read(content, heard=heard)
    assert str(caught.value).startswith("could not read people.xlsx: ")
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        xlsx({"People": PEOPLE}),
        ods(PEOPLE),
        *("\n".join(map(",".join, PEOPLE)).encode(each) for each in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le")),
        *("\r\n".join(map(by.join, PEOPLE)).encode() for by in ";\t"),
        b"sep=;\r\n" + "\r\n".join(map(";".join, PEOPLE)).encode(),
    ],
)
async def test_the_same_people_are_read_of_each_kind_of_file(content: bytes) -> None:
    found = await read(content)
    assert (found.rows, found.numbers, found.is_guess) == (PEOPLE, [1, 2, 3], False)


async def test_a_workbook_of_excel_97_is_read() -> None:
    found = await read(XLS)
    assert (found.name, found.rows[1]) == ("People", ["a@example.com", "2026-12-01", "3"])


async def test_numbers_dates_and_formulas_are_what_the_cell_shows() -> None:
    styled = [
        f'<c s="{style}"><v>{value}</v></c>' for style, value in ((1, 46357), (2, 46357.40625), (3, 0.5), (4, 1.25))
    ]
    cells = [3.0, 0.1 + 0.2, 4111111111111111, True, " Ada\u00a0", *styled]
    formulas = ["<c><f>1+1</f><v>2</v></c>", '<c t="str"><f>A1</f><v>Tea</v></c>', '<c t="e"><v>#N/A</v></c>']
    (row,) = (await read(xlsx({"S": [[*cells, *formulas]]}))).rows
    assert row[:5] == ["3", "0.3", "4111111111111111", "TRUE", "Ada"]
    assert row[5:9] == ["2026-12-01", "2026-12-01 09:45", "12:00", "30:00:00"]
    assert row[9:] == ["2", "Tea", ""]


async def test_rows_are_numbered_as_in_the_sheet_and_empty_ones_and_columns_before_the_first_are_left_out() -> None:
    rows = (
        '<row r="4"><c r="C4" t="str"><v>email</v></c></row><row r="9"><c r="C9" t="str"><v>a@b.example</v></c></row>'
    )
    found = await read(xlsx_of({"People": rows}))
    assert (found.rows, found.numbers, found.first_column) == ([["email"], ["a@b.example"]], [4, 9], 2)
    assert [each.letter for each in columns_of(found, 4)] == ["C"]
    found = await read(b'email,note\n\na@b.example,"one\ntwo"\n,\nc@d.example,x\n')
    assert found.numbers == [1, 3, 5]


async def test_the_first_visible_sheet_with_people_is_taken_unless_another_is_named() -> None:
    book = xlsx({"Old": PEOPLE, "About": [["Guests"]], "A & B": PEOPLE, "More": [["x@y.example"]]}, hidden=["Old"])
    found = await read(book)
    assert (found.name, found.sheets) == ("A & B", ("About", "A & B", "More"))
    assert (await read(book, sheet="More")).rows == [["x@y.example"]]
    for other in ("Old", "No"):
        with pytest.raises(SpreadsheetError, match=f"no visible sheet {other}"):
            await read(book, sheet=other)


CHINESE = "邮箱,姓名,备注\na@b.example,张婷,您好\nb@c.example,李鑫,谢谢\nd@e.example,王琪,再见\n"


@pytest.mark.parametrize(
    "text, encoding, is_guess",
    [
        (CHINESE, "gb18030", False),
        ("email,name\na@b.example,Zoë\nb@c.example,Jürgen Müller\n", "cp1252", True),
        ("email,name\na@b.example,Иван Петров\nb@c.example,Анна Сидорова\n", "cp1251", True),
        ("email,이름\na@b.example,김철수\nb@c.example,이영희 박지성\n", "euc_kr", True),
    ],
)
async def test_an_encoding_that_is_not_certain_is_guessed_and_the_guess_is_told(
    text: str, encoding: str, *, is_guess: bool
) -> None:
    found = await read(text.encode(encoding))
    assert (found.encoding, found.is_guess) == (encoding, is_guess)
    assert ",".join(found.rows[1]) == text.splitlines()[1]


async def test_a_person_can_choose_the_encoding() -> None:
    japanese = "email,名前\na@b.example,山田太郎\n".encode("shift_jis")
    assert (await read(japanese, encoding="shift_jis")).rows[1] == ["a@b.example", "山田太郎"]
    with pytest.raises(SpreadsheetError, match=r"is not utf-8 \(byte 6\)"):
        await read(japanese, encoding="utf-8")


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xfe", b"email,x\n", *spreadsheet_child._WORKBOOKS]))
def test_whatever_the_bytes_are_they_are_read_or_refused(content: bytes, head: bytes) -> None:
    encoding, _ = guess_encoding(head + content)
    assert encoding in {*spreadsheet.ENCODINGS, "utf-16-le", "utf-16-be"}
    try:
        found = FileReading(head + content, sheet=None, encoding=None).next()
    except SpreadsheetError:
        return
    assert all(isinstance(cell, str) for row in found["rows"] for cell in row)


CELL = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="\u200b"), min_size=1, max_size=9
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(CELL.filter(lambda it: it[0] not in "'<"), min_size=2, max_size=2), min_size=1, max_size=4))
def test_texts_come_through_each_kind_of_file_as_they_are(rows: list[list[str]]) -> None:
    for content in (xlsx({"People": rows}), ods(rows)):
        reading = FileReading(content, sheet=None, encoding=None)
        assert reading.next()["rows"] == rows


def bomb() -> bytes:
    row = "<row>" + "<c><v>1</v></c>" * 400 + "</row>"
    return xlsx_of({"People": row * 40_000})


def far(corner: str, count: int = 1) -> bytes:
    ends = f'<row r="1"><c r="A1"><v>1</v></c></row><row><c r="{corner}"><v>1</v></c></row>'
    return xlsx_of({f"S{n}": ends for n in range(count)})


REPEATED = (
    '<table:table-row table:number-rows-repeated="2000000000"><table:table-cell table:number-columns-repeated="16384" '
    'office:value-type="float" office:value="1"/></table:table-row>'
)
HOSTILE: Sequence[tuple[str, bytes | Callable[[], bytes], str]] = [
    ("a zip bomb of cells", bomb, "takes too"),  # a second's work, which no other process of the run needs
    ("two corners of the largest sheet", far("XFD1048576"), "takes too much memory"),
    ("two corners that a larger machine could hold", far("XFD8000"), "takes too much memory"),
    ("a hundred such sheets", far("XFD1048576", 100), "takes too much memory"),
    ("a million columns", b"email" + b",a" * 1_000_000, "a row has more than 1,000,000 characters"),
    ("columns of nothing", b"email" + b"," * 900, "901 columns, more than 500"),
    ("a workbook of too many columns", xlsx({"S": [["a"] * 501]}), "501 columns"),
    ("a row of ODS, repeated", ods([["email"]], more=REPEATED), "the file is not a table"),
    ("a cell without an end", b'email\n"' + b"a\n" * 600_000, "not a valid CSV (field larger than"),
    ("rows of nothing", b"email\n" + b"\n" * 1_100_000, "more than 1,048,576 rows"),
    ("an open quotation mark", b'email\n"a', "not a valid CSV (unexpected end of data)"),
    ("nothing", b"", "the file is empty"),
    ("blanks", b" \n\n", "the file is empty"),
    ("commas", b",,,\n,,\n", "the file is empty"),
    ("no cells", xlsx({"S": []}), "no sheet with cells"),
    ("half a workbook", xlsx({"S": PEOPLE})[:900], "the file is not a table"),
    ("another zip", zipped({"readme.txt": "hello"}), "the file is not a table"),
    ("a program", b"\x7fELF" + bytes(range(256)) * 40, "the file is not a table"),
    ("a picture", b"\x89PNG\r\n\x1a\n" + bytes(200), "the file is not a table"),
    ("a page by the name of a workbook", b"<html><table><tr><td>email</td></tr></table>", "a web page or XML"),
]  # fmt: skip


@pytest.mark.parametrize("content, said", [each[1:] for each in HOSTILE], ids=[each[0] for each in HOSTILE])
async def test_a_hostile_file_ends_in_a_sentence(
    content: bytes | Callable[[], bytes], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreadsheet, "LIMITS", Limits(cpu=1.0, memory=spreadsheet.LIMITS.memory))
    began = os.times().children_user
    why = await why_not(content() if callable(content) else content)
    assert said in why
    assert len(why) < 400
    assert os.times().children_user - began < 10


async def test_a_file_that_takes_seconds_and_little_memory_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheet, "LIMITS", Limits(cpu=0.4, memory=spreadsheet.LIMITS.memory))
    assert "reading the file takes too long" in await why_not(xlsx_of({"S": "<row/>" * 20_000_000}))


async def test_a_file_that_is_too_large_is_refused_before_anything_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChildProcess, "start", None)
    assert "larger than 33,554,432 bytes" in await why_not(b"a" * (MAX_FILE + 1))


async def test_cells_and_characters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheet_child, "MAX_CELLS", 10)
    reading = FileReading(b"a,b\n" * 6, sheet=None, encoding=None)
    with pytest.raises(SpreadsheetError, match="more than 10 cells"):
        reading.next()


async def test_macros_and_links_are_never_followed() -> None:
    book = xlsx_of(
        {"People": '<row><c t="str"><f>WEBSERVICE("http://127.0.0.1:1/")</f><v>a@b.example</v></c></row>'},
        xl__vbaProject__bin=b"Sub Workbook_Open()",
        xl__externalLinks__externalLink1__xml=b'<externalLink><a href="file:///etc/passwd"/></externalLink>',
    )
    assert (await read(book)).rows == [["a@b.example"]]


async def test_what_reads_a_file_ends_with_it_and_another_keys_file_does_not_wait_for_a_hostile_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spreadsheet, "LIMITS", Limits(cpu=2.0, memory=spreadsheet.LIMITS.memory))
    heard, started, slow = Heard(), list[ChildProcess](), bomb()
    start = ChildProcess.start

    async def noted(*args: Limits, module: str) -> ChildProcess:
        started.append(await start(*args, module=module))
        return started[-1]

    monkeypatch.setattr(ChildProcess, "start", noted)
    reader = SpreadsheetReader(RendererEvents(heard))
    hostile = [
        asyncio.create_task(reader.read(slow, filename="x", origin="key evil")) for _ in range(spreadsheet._AT_ONCE + 2)
    ]
    await asyncio.sleep(0)
    found = await reader.read(xlsx({"People": PEOPLE}), filename="people.xlsx", origin="key shop")
    assert found.rows == PEOPLE
    assert sum(each.done() for each in hostile) < 3, "most of them still wait for their turn"
    for each in hostile:
        each.cancel()
    await asyncio.gather(*hostile, return_exceptions=True)
    assert all(each.has_ended for each in started)


async def test_the_end_of_a_process_is_reported_with_whose_file_it_was() -> None:
    heard = Heard()
    assert "takes too much memory. Save the sheet" in await why_not(far("XFD1048576"), heard)
    (ended,) = heard.of("renderer_ended")
    assert (ended["renderer"], ended["origin"]) == ("tables", "key shop")


async def test_where_no_process_starts_nothing_is_said_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(RendererError, match="/nowhere/python"):
        await read(b"email\n")


async def test_20_000_rows_are_read_and_checked_in_a_few_seconds_of_cpu() -> None:
    rows: list[list[Any]] = [
        ["Email", "Name", "product", "note", "since"],
        *([f"p{n}@example.com", f"Name {n}", "Tea", f"a note about {n}", 45000.0 + n] for n in range(20_000)),
    ]
    content, before, own = xlsx({"People": rows}), os.times(), time.process_time()
    found = await read(content)
    columns = columns_of(found, guess_header(found))
    checked = check(found, 1, guessed_uses(columns), decisions=Decisions())
    assert (len(checked.recipients), checked.problems) == (20_000, [])
    child = os.times().children_user - before.children_user
    assert child + time.process_time() - own < 10


def test_a_sheet_is_packed_and_a_cell_of_it_edited() -> None:
    sheet = Sheet([["email", "x"], ["a@b.example"]], [1, 4], sheets=("A", "B"), encoding="utf-8")
    assert Sheet.unpack(sheet.pack()) == sheet
    there = {(4, 1): " é ", (1, 0): "mail"}
    assert sheet.edited({**there, (3, 0): "x", (4, 2): "x"}).rows == [["mail", "x"], ["a@b.example", "é"]]
    assert sheet.rows[1] == ["a@b.example"]
    assert sheet.edited({(4, -1): "x"}) is sheet


def test_very_many_cells_of_a_long_table_are_edited_at_once() -> None:
    sheet = Sheet([["a@b.example", "x"]] * 100_000, [*range(1, 100_001)])
    began = own_time()
    edited = sheet.edited({(number, 1): "y" for number in range(1, 951)})
    assert own_time() - began < at_this_speed(1)
    assert (edited.rows[949], edited.rows[950]) == (["a@b.example", "y"], ["a@b.example", "x"])


async def test_a_sheet_with_more_rows_than_are_asked_for_is_refused() -> None:
    content = b"email\n" + b"a@b.example\n" * 20
    assert len((await read(content, most=21)).rows) == 21
    with pytest.raises(SpreadsheetError, match="more than 20 rows"):
        await read(content, most=20)
