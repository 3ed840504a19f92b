"""results.csv in a spreadsheet: whatever it is opened with, and split by, no cell of it is a formula."""

import csv
import io
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.core.suppression import as_it_was, without_formula
from mailerd.http.responses import csv_lines
from tests.intake.site import Site, job
from tests.support.own_time import at_this_speed

FORMULAS = [
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\u00a0=1", "\u200b=1", "\ufeff=1",
    "＝1+1", "＋1", "－1", "＠SUM", "﹦1", "﹢1", "﹣1", "﹫a", "x;=1+1", "x;＝1+1", "x; =1", "x;\t+1", "x\t=1", "x|=1",
    "x\n=1", "x\r\n@a", 'x;"=1+1"', '"=1"', "x;;=1", "x;'';=1", "−1", "⁼1",
]  # fmt: skip
_STARTS = re.compile(r"[\s\"\u200b\ufeff]*[=+\-@＝＋－＠﹦﹢﹣﹫−⁼⁺⁻]")


def cells(text: str, separator: str) -> list[str]:
    if separator == ",":
        return [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    return re.split(rf"[{re.escape(separator)}\r\n]", text)  # so quotation marks of the comma's fields mean nothing


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_no_cell_is_a_formula_whatever_separates_the_cells(formula: str, separator: str) -> None:
    text = csv_lines([("a", formula, 1), (formula, "b", -2)]).decode()

    harmful = [cell for cell in cells(text, separator) if _STARTS.match(cell)]
    assert [cell for cell in harmful if not cell.startswith("-2")] == []


@given(st.text(alphabet="ab=+-@;\t\r\n|\"' ,＝＠", max_size=12), st.sampled_from([",", ";", "\t", "|"]))
def test_no_text_becomes_a_formula(text: str, separator: str) -> None:
    made = csv_lines([("a", text, "b")]).decode()

    assert [cell for cell in cells(made, separator) if _STARTS.match(cell)] == []


@pytest.mark.parametrize(
    "plain", ["ada@example.com", "Jean-Luc", "1+1=2", "a=b", "e-mail; web", "2026-01-01T00:00:00Z"]
)
def test_what_is_none_stays_as_it_is(plain: str) -> None:
    assert cells(csv_lines([(plain, 7, None)]).decode(), ",") == [plain, "7", ""]


def test_a_page_of_the_worst_texts_is_made_in_no_time() -> None:
    rows = [(sign * 300, 1) for sign in ("\t", ";", "|", " ", "'", ";\t ")] * 200
    started = time.process_time()
    csv_lines(rows)
    assert time.process_time() - started < at_this_speed(0.5)


async def test_a_name_with_a_formula_behind_a_separator_is_harmless_in_results(site: Site) -> None:
    _, posted = await site.post(
        job({"email": "a@example.com", "name": "x;=1+1"}, {"email": "b@example.com", "name": "＝1"})
    )
    async with site.client.get(f"{site.url}/api/jobs/{posted['job_id']}/results.csv") as response:
        text = await response.text()

    assert "x;'=1+1" in text
    assert ",'＝1," in text


@given(st.text(alphabet=st.sampled_from("'\"=+-a@|;\t\n \u200b＝"), max_size=12))
def test_what_was_written_is_read_back_as_it_was(text: str) -> None:
    assert as_it_was(without_formula(text)) == text
