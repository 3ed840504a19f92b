"""Rows as CSV that a spreadsheet may open: no text in it becomes a formula, whatever it takes for the separator."""

import csv
import io
import re
from collections.abc import Sequence
from typing import Final

_BEGINNING: Final = re.compile(r"(?:^|[;\t\r\n|])[\s\"'\u200b-\u200f\u2060\ufeff]*")
"""Where a cell may begin: at the text's start, behind what the spreadsheets of some countries separate cells by, and
there behind blanks and quotation marks."""
_SIGNS: Final = frozenset("=+-@＝＋－＠﹦﹢﹣﹫−⁼⁺⁻")
"""Excel takes the full-width and small forms of the signs for the signs."""


def lines(rows: Sequence[Sequence[object]]) -> bytes:
    """Rows as RFC 4180 has them; a text that would be a formula gets an apostrophe before its sign (OWASP)."""
    out = io.StringIO()
    writer = csv.writer(out)
    for row in rows:
        writer.writerow([_harmless(it) if isinstance(it, str) else it for it in row])
    return out.getvalue().encode()


def _harmless(text: str) -> str:
    def with_apostrophe(found: re.Match[str]) -> str:
        return found[0] + "'" if text[found.end() : found.end() + 1] in _SIGNS else found[0]

    return _BEGINNING.sub(with_apostrophe, text)
