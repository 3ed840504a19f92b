"""What the columns of a table of people are is guessed, and what is wrong in which row is said, with a way out."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.core.i18n import t
from mailerd.locale import say
from mailerd.mail.mime import Addresses
from mailerd.mail.recipient_table import (
    INVALID,
    CheckedTable,
    Decisions,
    ProblemKind,
    check,
    columns_of,
    corrected_rows,
    guess_header,
    guessed_uses,
    mapping_errors,
    problem_rows,
    read_recipients,
    without_formulas,
)
from mailerd.mail.spreadsheet import Sheet, SpreadsheetError

Kind = ProblemKind
SKIP = Decisions(skip_invalid=True)


def sheet(*rows: str, numbers: list[int] | None = None, encoding: str = "") -> Sheet:
    """Cells between bars."""
    return Sheet([row.split("|") for row in rows], numbers or [*range(1, len(rows) + 1)], encoding=encoding)


def checked(it: Sheet, *, used: set[str] | None = None, decisions: Decisions = SKIP) -> CheckedTable:
    header = guess_header(it)
    columns = columns_of(it, header)
    assert mapping_errors(columns, guessed_uses(columns)) == []
    return check(it, header, guessed_uses(columns), used=used, decisions=decisions)


def kinds(table: CheckedTable) -> list[tuple[int, Kind]]:
    return [(each.row, each.kind) for each in table.problems]


@pytest.mark.parametrize("header", [
    "Email", "E-Mail", "e_mail", "MAIL", "E-mail Address", "邮箱", "电子邮件", "电子邮箱", "邮箱地址", "電郵",
    "Ｅｍａｉｌ",
])  # fmt: skip
def test_a_column_of_addresses_is_known_by_its_header(header: str) -> None:
    it = sheet(f"{header}|x", "|y")
    assert [each.guess for each in columns_of(it, 1)] == ["email", "x"]


def test_each_column_is_guessed_by_its_header_in_english_and_chinese() -> None:
    for header in (
        "Name|E-Mail|Language|CC|BCC|First name|Order-No.|2nd",
        "姓名|邮箱|语言|抄送|密送|First Name|order no|2ND",
    ):
        guesses = [each.guess for each in columns_of(sheet(header, "Ada|a@b.example|en|||A|7|x"), 1)]
        assert guesses == ["name", "email", "language", "cc", "bcc", "first_name", "order_no", "column_2nd"]
    assert [each.guess for each in columns_of(sheet("邮箱|产品|Größe", "a@b.example|茶|L"), 1)] == [
        "email",
        "产品",
        "Größe",
    ]


def test_the_variables_of_the_template_decide_how_a_column_is_written() -> None:
    it = sheet("email|FIRST NAME|Product|Colour", "a@b.example|A|tea|red")
    assert [each.guess for each in columns_of(it, 1, wanted=["firstName", "product"])] == [
        "email", "firstName", "product", "Colour",
    ]  # fmt: skip


def test_a_column_of_addresses_is_known_by_what_is_in_it_unless_there_are_two() -> None:
    it = sheet("Person|Contact", "Ada|a@b.example", "Bob|b@b.example", "Eve|soon")
    assert [each.guess for each in columns_of(it, 1)] == ["Person", "email"]
    two = columns_of(sheet("Boss|Contact", "a@b.example|b@b.example"), 1)
    assert [each.guess for each in two] == ["Boss", "Contact"]
    (error,) = mapping_errors(two, guessed_uses(two))
    assert error == "No column is used as the email address. Columns: Boss, Contact"
    both = columns_of(sheet("Mail|E-Mail", "letter|b@b.example"), 1)
    assert [each.guess for each in both] == ["Mail", "email"], (
        "of two by the header that of which the cells are addresses"
    )


@pytest.mark.parametrize(
    "it, header",
    [
        (sheet("email", "a@b.example"), 1),
        (sheet("Guests 2026||", "|Name|邮箱", "1|王|a@b.example", numbers=[2, 4, 5]), 4),
        (sheet("Guests 2026||", "No|Person|Contact", "1|Ada|a@b.example"), 2),
        (sheet("a@b.example|Ada", "b@b.example|Bob"), None),
        (sheet("Our guests|", "a@b.example|Ada"), None),
        (sheet("a@b.example"), None),
        (sheet("Contact", "a@b.example"), 1),
        (sheet("x|y", "1|2"), 1),
        (Sheet([], []), None),
    ],
)
def test_the_row_that_names_the_columns_is_found(it: Sheet, header: int | None) -> None:
    assert guess_header(it) == header


def test_columns_have_letters_samples_and_names_and_empty_ones_are_left_out() -> None:
    people = [["", "a@b.example", "", each] for each in "x012345678"]
    it = Sheet([["", "Email", "", ""], *people], [*range(1, 12)], first_column=25)
    columns = columns_of(it, 1)
    assert [(each.index, each.letter, each.name, each.filled) for each in columns] == [
        (1, "AA", "Email", 10), (3, "AC", "Column AC", 10),
    ]  # fmt: skip
    assert [each.samples for each in columns] == [("a@b.example",), ("x", "0", "1")]
    assert columns[1].guess == "", "a column without a name is ignored"
    assert say(columns[1].name, "zh") != columns[1].name


def test_what_is_wrong_with_a_mapping_is_said_once() -> None:
    columns = columns_of(sheet("email|A|B", "a@b.example|1|2"), 1)
    errors = mapping_errors(columns, {0: "email", 1: "x y", 2: "name"}, wanted=["title", "x"])
    assert errors == [
        "x y cannot be the name of a variable: it needs a form such as first_name",
        "The template needs title, x: no columns are used as those variables",
    ]
    doubled = mapping_errors(columns, {0: "email", 1: "note", 2: "note"})
    assert doubled == ["Several columns are used as note: A, B"]
    assert mapping_errors(columns_of(sheet("email|email", "a@b.example|"), 1), {0: "email", 1: "email"}) != []


def test_each_kind_of_problem_is_found_with_its_row_and_what_to_do() -> None:
    it = sheet(
        "Email|Name|Language|CC|product",
        "ada@gmial.com|Ada|en||tea",
        "bob@example.org|Bob||x@y.example; nobody|tea",
        "|Eve|||",
        "ada lovelace@gmail,com|Ada|||tea",
        "Bob2@example.org||deutsch, bitte||tea",
        "ADA@gmial.com||||tea",
        "eve@example.org|Eve|||",
        "mal@example.org|\u202eMal|||tea",
        numbers=[1, 2, 3, 4, 5, 7, 8, 9, 10],
    )
    table = checked(it)
    assert kinds(table) == [
        (2, Kind.TYPO), (3, Kind.ADDRESS), (4, Kind.NO_ADDRESS), (5, Kind.ADDRESS), (7, Kind.VALUE),
        (8, Kind.DUPLICATE), (9, Kind.EMPTY), (10, Kind.VALUE),
    ]  # fmt: skip
    by_row = {each.row: each for each in table.problems}
    assert (by_row[2].fix, by_row[2].reason) == ("ada@gmail.com", "did you mean ada@gmail.com?")
    assert (by_row[3].column, by_row[3].reason) == ("CC", "nobody: has no @")
    assert by_row[5].fix == "adalovelace@gmail.com"
    assert by_row[8].reason == "duplicate of row 2, written ada@gmial.com"
    assert (by_row[9].column, by_row[9].index) == ("product", 4)
    assert (table.rows, table.total, table.skipped) == ([2, 9], 8, 6)
    assert [row for row, _ in table.refused] == [3, 4, 5, 7, 8, 10]
    assert table.blocking == [by_row[9]]
    assert checked(it, used={"other"}).blocking == [], "an empty cell of what the message does not use is no problem"
    assert {each.kind for each in checked(it, decisions=Decisions()).blocking} == {*INVALID, Kind.EMPTY} - {Kind.CELLS}


def test_a_row_whose_cells_are_shifted_is_never_sent() -> None:
    it = sheet(
        "email|name|product",
        "a@b.example|Ada|tea|c@d.example",
        "a@b.example|Ada",
        "e@f.example|Eve|tea||",
        encoding="utf-8",
    )
    table = checked(it)
    assert [(each.row, each.kind, each.reason) for each in table.problems] == [
        (2, Kind.CELLS, "4 cells, but 3 columns"), (3, Kind.CELLS, "2 cells, but 3 columns"),
    ]  # fmt: skip
    assert (table.rows, table.refused) == ([4], [])


def test_empty_cells_wait_for_a_decision_and_follow_it() -> None:
    it = sheet("email|title|product", "a@b.example||tea", "b@b.example|Dr|", "c@b.example||")
    assert [each.row for each in checked(it).blocking] == [2, 3, 4, 4]
    filled = checked(it, decisions=Decisions(defaults={"title": "Dear"}, accepted={"product"}))
    assert [each["variables"] for each in filled.recipients] == [
        {"title": "Dear", "product": "tea"}, {"title": "Dr", "product": ""}, {"title": "Dear", "product": ""},
    ]  # fmt: skip
    assert (filled.blocking, [each.row for each in filled.problems]) == ([], [3, 4])
    fewer = checked(it, decisions=Decisions(skip_empty={"title", "product"}))
    assert (fewer.recipients, fewer.blocking, fewer.skipped) == ([], [], 3)


def test_a_row_that_is_skipped_for_an_empty_cell_makes_no_later_one_a_duplicate() -> None:
    it = sheet("email|title", "a@b.example|", "a@b.example|Dr", "A@b.example|Prof")
    table = checked(it, decisions=Decisions(skip_invalid=True, skip_empty={"title"}))
    assert (table.rows, kinds(table)) == ([3], [(2, Kind.EMPTY), (4, Kind.DUPLICATE)])
    assert len(checked(it, decisions=Decisions(allow_duplicates=True)).recipients) == 3


def test_problems_are_grouped_with_their_count_and_those_that_block_come_first() -> None:
    rows = [f"p{n}@example.org|{'' if n < 5 else 'tea'}" for n in range(8)]
    groups = checked(sheet("email|product", *rows, "x|tea", "q@gmial.com|tea")).groups()
    assert [each.summary for each in groups] == [
        "product is empty in 5 rows", "email is not a valid address in 1 row", "1 address may be misspelt",
    ]  # fmt: skip
    assert groups[0].rows == [2, 3, 4, 5, 6]
    assert all(say(each.summary, "zh") != each.summary for each in groups)


def test_suppressed_recipients_are_taken_out_and_told() -> None:
    table = checked(sheet("email|x", "a@b.example|", "b@b.example|1", "c@b.example|1"))
    fewer = table.without({
        "a@b.example": (Kind.UNSUBSCRIBED, t("has unsubscribed")), "c@b.example": (Kind.SUPPRESSED, t("bounced")),
    })  # fmt: skip
    assert (fewer.rows, fewer.skipped, fewer.blocking) == ([3], 2, [])
    assert kinds(fewer) == [(2, Kind.EMPTY), (2, Kind.UNSUBSCRIBED), (4, Kind.SUPPRESSED)]
    assert table.rows == [2, 3, 4]


@pytest.mark.parametrize("given, meant", [
    ("a@gmial.com", "a@gmail.com"), ("a@gmail.con", "a@gmail.com"), ("a@gmai.com", "a@gmail.com"),
    ("a@gmail.co", "a@gmail.com"), ("a@hotnail.com", "a@hotmail.com"), ("a@example.con", "a@example.com"),
    ("a@outlok.com", "a@outlook.com"), ("a@GMIAL.com", "a@gmail.com"),
])  # fmt: skip
def test_a_common_domain_that_is_misspelt_is_known(given: str, meant: str) -> None:
    (problem,) = checked(sheet("email", given)).problems
    assert (problem.kind, problem.fix) == (Kind.TYPO, meant)


@pytest.mark.parametrize("domain", [
    "gmail.com", "mail.com", "email.com", "ymail.com", "gmx.com", "live.com", "qq.com", "163.com", "olive.com",
])  # fmt: skip
def test_a_domain_of_its_own_is_no_typo(domain: str) -> None:
    assert checked(sheet("email", f"a@{domain}")).problems == []


@pytest.mark.parametrize("given, meant", [
    ("Ada <ada@example.org>", "ada@example.org"), ("mailto:ada@example.org", "ada@example.org"),
    ("ada@example,org", "ada@example.org"), ("ada＠example。org", "ada@example.org"), ("ada@@example.org", ""),
    ("ada@example..org", "ada@example.org"), ("ada @ example.org.", "ada@example.org"), ("ada", ""),
    ("jürgen@example.org", ""),
])  # fmt: skip
def test_an_address_that_is_not_valid_comes_with_the_one_that_was_meant(given: str, meant: str) -> None:
    (problem,) = checked(sheet("email", given)).problems
    assert (problem.kind, problem.fix) == (Kind.ADDRESS, meant)


CELLS = st.text(string.ascii_letters + "@.,; \t=+-'\"üß邮\u202e", max_size=12)


@given(st.lists(st.lists(CELLS, min_size=4, max_size=4), max_size=12), st.booleans(), st.booleans())
def test_every_row_is_either_sent_or_skipped_with_a_reason(rows: list[list[str]], skip: bool, repeat: bool) -> None:  # noqa: FBT001
    it = Sheet([["email", "name", "cc", "x"], *rows], [*range(1, len(rows) + 2)])
    decisions = Decisions(skip_invalid=skip, allow_duplicates=repeat, skip_empty={"x"})
    table = check(it, 1, {0: "email", 1: "name", 2: "cc", 3: "x"}, decisions=decisions)
    why = {each.row for each in table.problems if each.kind in INVALID or each.kind is Kind.EMPTY}
    assert {*table.rows} | why == {*range(2, len(rows) + 2)}
    assert {*table.rows} & why == set()
    assert table.total == len(rows) == len(table.recipients) + table.skipped
    assert all(
        Addresses().check(each["email"]) == each["email"] and each["variables"]["x"] for each in table.recipients
    )
    assert sum(len(each.rows) for each in table.groups()) == len(table.problems)
    assert next(corrected_rows(it, 1, table)) == ["email", "name", "cc", "x"]
    assert len([*problem_rows(table, str)]) == len(table.problems) + 1


def test_what_is_downloaded_is_no_formula_and_says_the_rows_of_the_sheet() -> None:
    it = sheet("email|x", '=HYPERLINK("http://x")|1', "a@b.example|+49 1", numbers=[3, 5, 9])
    table = checked(it)
    assert [*without_formulas(corrected_rows(it, 3, table))] == [["email", "x"], ["a@b.example", "'+49 1"]]
    rows = [*without_formulas(problem_rows(table, lambda text: say(text, "zh")))]
    assert rows[0] == ["行", "列", "值", "问题", "建议"]
    assert rows[1][:3] == ["5", "email", '\'=HYPERLINK("http://x")']


def test_a_table_that_nobody_looks_at_is_read_by_its_guesses_and_refused_where_they_are_not_enough() -> None:
    it = sheet("Work mail|Product", "a@b.example|tea", "nobody|", numbers=[1, 2, 5], encoding="utf-8")
    table = read_recipients(it, "p.csv", chosen={"Work mail": "email", "B": ""})
    assert table.recipients == [{"email": "a@b.example", "variables": {}}, {"email": "nobody", "variables": {}}]
    assert table.rows == [2, 5]
    for chosen, said in (
        ({"Work mail": "email", "Z": "name"}, "no column is called Z"),
        ({"Work mail": "name"}, "No column is used as the email address"),
    ):
        with pytest.raises(SpreadsheetError, match=f"could not read p.csv: {said}"):
            read_recipients(it, "p.csv", chosen=chosen)
    with pytest.raises(SpreadsheetError, match="not UTF-8, perhaps cp1252: Zoë"):
        read_recipients(
            Sheet([["email", "x"], ["a@b.example", "Zoë"]], [1, 2], encoding="cp1252", is_guess=True), "p.csv"
        )
    assert read_recipients(sheet("email|x", "a@b.example|", "a@gmial.com|1"), "p.csv").warnings == [
        "x is empty in 1 row", "1 address may be misspelt",
    ]  # fmt: skip


def test_a_name_that_the_message_says_and_a_row_lacks_is_asked_about_as_any_empty_cell() -> None:
    it = sheet("email|name", "ada@example.com|Ada", "bo@example.com|")
    uses = guessed_uses(columns_of(it, 1))

    def checked_with(**decided: Any) -> CheckedTable:
        return check(it, 1, uses, used={"name"}, decisions=Decisions(**decided))

    assert kinds(checked_with()) == [(3, Kind.EMPTY)]
    assert checked_with().blocking
    assert checked_with(skip_empty={"name"}).rows == [2]
    filled = checked_with(defaults={"name": "guest"})
    assert (kinds(filled), filled.recipients[1]["variables"]) == ([], {"name": "guest"})
    left = checked_with(accepted={"name"})
    assert (left.blocking, left.recipients[1]["variables"]) == ([], {"name": ""})
    assert not check(it, 1, uses, used={"product"}, decisions=Decisions()).problems, "who does not say it needs none"
