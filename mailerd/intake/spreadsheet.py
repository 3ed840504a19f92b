"""Rows as CSV that a spreadsheet may open: no text in it becomes a formula, whatever it takes for the separator."""

import csv
import io
import re
from collections.abc import Sequence
from typing import Final

# Where a cell may begin: at the text's start, behind what some countries' spreadsheets separate cells by, and behind a
# quotation mark there. Excel takes the full-width and small forms of the signs for the signs.
_FORMULA: Final = re.compile(r"((?:^|[;\t\r\n|])[\s\"'\u200b-\u200f\u2060\ufeff]*)(?=[=+\-@＝＋－＠﹦﹢﹣﹫−⁼⁺⁻])")


def lines(rows: Sequence[Sequence[object]]) -> bytes:
    """Rows as RFC 4180 has them; a text that would be a formula gets an apostrophe before its sign (OWASP)."""
    out = io.StringIO()
    writer = csv.writer(out)
    for row in rows:
        writer.writerow([_FORMULA.sub(r"\1'", it) if isinstance(it, str) else it for it in row])
    return out.getvalue().encode()
