"""A table as CSV, page by page, so that neither side holds all of it in memory."""

import csv
import io
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from aiohttp import web

from mailerd.core.csv_cells import without_formula
from mailerd.intake.http_responses import write

Rows = Sequence[Sequence[object]]


async def write_csv(
    request: web.Request, pages: AsyncGenerator[Rows], *, columns: Sequence[str], filename: str
) -> web.StreamResponse:
    """Answer with the rows of all pages, which take turns of a RowPace.

    An error of the first page is raised before anything is written.

    Raises:
        UnreadError: the client reads nothing any more.
        ConnectionError: it has gone.
    """
    async with aclosing(pages):
        return await _write_pages(request, pages, columns, filename)


async def _write_pages(
    request: web.Request, pages: AsyncGenerator[Rows], columns: Sequence[str], filename: str
) -> web.StreamResponse:
    page = await _next(pages)
    response = web.StreamResponse(headers={"Content-Disposition": f'attachment; filename="{filename}"'})
    response.content_type, response.charset = "text/csv", "utf-8"
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    await write(response, csv_lines([columns]))
    while page:
        await write(response, csv_lines(page))
        page = await _next(pages)
    await response.write_eof()
    return response


async def _next(pages: AsyncGenerator[Rows]) -> Rows:
    """The next page, empty after the last; `anext` with a default raises SystemError on Python 3.12.1."""
    async for page in pages:
        return page
    return ()


def csv_lines(rows: Rows) -> bytes:
    """Rows as RFC 4180 has them; a text that a spreadsheet would run as a formula gets an apostrophe (OWASP)."""
    out = io.StringIO()
    writer = csv.writer(out)
    for row in rows:
        writer.writerow([without_formula(it) if isinstance(it, str) else it for it in row])
    return out.getvalue().encode()
