"""Texts in a CSV that a person may open: no cell is a formula to a spreadsheet, and each can be read back as it was."""

import re
from typing import Final

_CELL_START: Final = re.compile(r"(?:^|[;\t\r\n|])[\s\"'\u200b-\u200f\u2060\ufeff]*")
"""Where a cell may begin: at the start of the text and after the separators that spreadsheets of some countries use,
with blanks and quotation marks in between."""
_FORMULA_SIGNS: Final = frozenset("=+-@＝＋－＠﹦﹢﹣﹫−⁼⁺⁻")
"""Excel reads the full-width and small forms of a sign as the sign."""


def without_formula(text: str) -> str:
    """The text with an apostrophe before each sign that a spreadsheet would begin a formula with (OWASP)."""
    return _CELL_START.sub(lambda found: found[0] + "'" if _is_sign(text, found.end()) else found[0], text)


def as_it_was(text: str) -> str:
    """The text from which `without_formula` made this one."""
    return _CELL_START.sub(lambda found: found[0].removesuffix("'") if _is_sign(text, found.end()) else found[0], text)


def _is_sign(text: str, at: int) -> bool:
    return text[at : at + 1] in _FORMULA_SIGNS
