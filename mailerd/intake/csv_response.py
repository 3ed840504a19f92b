"""A table as CSV, page by page, so that neither side holds all of it in memory."""

import csv
import io
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from aiohttp import web

from mailerd.intake.http_responses import write

_CELL_START: Final = re.compile(r"(?:^|[;\t\r\n|])[\s\"'\u200b-\u200f\u2060\ufeff]*")
"""Where a cell may begin: at the start of the text and after the separators that spreadsheets of some countries use,
with blanks and quotation marks in between."""
_FORMULA_SIGNS: Final = frozenset("=+-@＝＋－＠﹦﹢﹣﹫−⁼⁺⁻")
"""Excel reads the full-width and small forms of a sign as the sign."""

Rows = Sequence[Sequence[object]]


async def write_csv(
    request: web.Request, pages: AsyncGenerator[Rows], *, columns: Sequence[str], filename: str
) -> web.StreamResponse:
    """Answer with the rows of all pages. An error of the first page is raised before anything is written.

    Raises:
        UnreadError: the client reads nothing any more.
        ConnectionError: it has gone.
    """
    async with aclosing(pages):
        return await _write_pages(request, pages, columns, filename)


async def _write_pages(
    request: web.Request, pages: AsyncGenerator[Rows], columns: Sequence[str], filename: str
) -> web.StreamResponse:
    page = await anext(pages, ())
    response = web.StreamResponse(headers={"Content-Disposition": f'attachment; filename="{filename}"'})
    response.content_type, response.charset = "text/csv", "utf-8"
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    await write(response, csv_lines([columns]))
    while page:
        await write(response, csv_lines(page))
        page = await anext(pages, ())
    await response.write_eof()
    return response


def csv_lines(rows: Rows) -> bytes:
    """Rows as RFC 4180 has them; a text that a spreadsheet would run as a formula gets an apostrophe (OWASP)."""
    out = io.StringIO()
    writer = csv.writer(out)
    for row in rows:
        writer.writerow([_without_formula(it) if isinstance(it, str) else it for it in row])
    return out.getvalue().encode()


def _without_formula(text: str) -> str:
    def with_apostrophe(found: re.Match[str]) -> str:
        return found[0] + "'" if text[found.end() : found.end() + 1] in _FORMULA_SIGNS else found[0]

    return _CELL_START.sub(with_apostrophe, text)
