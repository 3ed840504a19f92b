"""What a person decides about a table: sheet, header, columns, problems and cells; and the table as
CSV.
"""

import re
from contextlib import aclosing
from dataclasses import replace
from itertools import chain
from typing import Any, Final

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.errors import MailerdError
from mailerd.http.responses import cannot_render, write
from mailerd.mail.recipient_table import FIELDS, MAX_HEADER
from mailerd.mail.spreadsheet import ENCODINGS, MAX_COLUMNS, PackedSheet, SpreadsheetError
from mailerd.mail.table_checker import CheckedDraft
from mailerd.mail.templates import RendererError
from mailerd.store.write.drafts import FILE, PEOPLE, Draft
from mailerd.web.frame.forms import Form, row_number
from mailerd.web.frame.services import ConsoleRequest
from mailerd.web.send.draft import DECISIONS, DraftMessage, drafts, read_message, save
from mailerd.web.send.draft_people import check_people, draft_table, read_people
from mailerd.web.send.sent_tables import last_uses

VARIABLE: Final = "variable"
PASTED: Final = "table.csv"
_ABOVE: Final = 100
"""Rows that a table may have above the most recipients of a job: headers, and people without an
address.
"""
MAX_DECIDED: Final = 100_000
"""Characters of the texts for empty cells, and of the names of their columns."""
MAX_USE: Final = 10
"""Characters of a field that says what a column is used as."""


async def people_of(it: ConsoleRequest, draft: Draft) -> CheckedDraft:
    """The table; a message that cannot be used names no variables."""
    return await read_people(it, draft, await _usable(it, draft))


async def _usable(it: ConsoleRequest, draft: Draft) -> DraftMessage | None:
    try:
        return await read_message(it, draft)
    except MailerdError:
        return None


async def read_table(
    it: ConsoleRequest,
    content: bytes,
    name: str,
    sheet: str | None = None,
    encoding: str | None = None,
) -> PackedSheet:
    """The sheet of a file. `name`: "", it was pasted.

    Raises:
        SpreadsheetError: it cannot be used.
        ApiError: 503, nothing can be read now.
    """
    if not content.strip():
        raise SpreadsheetError(
            t("{file} is empty. Nothing was changed.", file=name)
            if name
            else t("Choose a file, or paste a table. Nothing was changed.")
        )
    try:
        return await it.services.spreadsheets.read_packed(
            content,
            filename=name or PASTED,
            origin=f"key {it.key.name}",
            sheet=sheet,
            encoding=encoding,
            most=it.services.settings.intake.max_recipients + _ABOVE,
        )
    except RendererError as error:
        raise cannot_render(error) from error


async def new_mapping(it: ConsoleRequest, sheet: PackedSheet, name: str) -> dict[str, Any]:
    """What a draft notes of a sheet about which no decision is made yet, but perhaps about another
    of its header.
    """
    return {
        "file": name,
        "sheet": sheet.name,
        "sheets": [*sheet.sheets],
        "encoding": sheet.encoding,
        "is_guess": sheet.is_guess,
        "header": sheet.header,
        "uses": await last_uses(it, sheet.names),
    }


async def change_table(it: ConsoleRequest, draft: Draft, form: Form) -> Draft:
    """The draft as a form changes it; it is stored.

    Raises:
        SpreadsheetError, DraftTooLargeError: nothing was changed.
    """
    mapping, parts = dict(draft.mapping), dict[int, bytes]()
    chosen, encoding = (
        form.text("sheet") or mapping["sheet"],
        form.text("encoding") or mapping["encoding"],
    )
    header = form.text("header")
    if (chosen, encoding) != (mapping["sheet"], mapping["encoding"]):
        if chosen not in {*mapping["sheets"], ""} or encoding not in {*ENCODINGS, ""}:
            it.missing()
        content = await drafts(it).read(draft, FILE)
        other = encoding if encoding != mapping["encoding"] else None
        sheet = await read_table(it, content, mapping["file"], chosen or None, other)
        mapping = await new_mapping(it, sheet, mapping["file"]) | {"is_guess": mapping["is_guess"]}
        parts[PEOPLE] = sheet.packed
    elif header != form.text("was-header") and not header:
        mapping |= {"header": None, "uses": {}}
    elif (
        header != form.text("was-header")
        and (names := await _names(it, draft, row_number(header))) is not None
    ):
        mapping |= {"header": int(header), "uses": await last_uses(it, names)}
    else:
        mapping["uses"] = _uses(form) or mapping["uses"]
        if cells := _edited(form):
            async with draft_table(it, draft) as table:
                edited = await table.edited(cells)
            parts |= {PEOPLE: edited} if edited else {}
    draft = replace(draft, mapping=mapping, options=_options(draft, form))
    await save(it, draft, parts, only=["mapping", "options"])
    return draft


async def _names(it: ConsoleRequest, draft: Draft, header: int | None) -> list[str] | None:
    """What a row says that is to name the columns; None: there is no such row."""
    if header is None:
        return None
    async with draft_table(it, draft) as table:
        return await table.names(header)


def _options(draft: Draft, form: Form) -> dict[str, Any]:
    """What is decided, with the decisions of the form.

    Raises:
        SpreadsheetError: they are too many, or too long: they stand in each row of the table.
    """
    options = dict(draft.options)
    if form.text("decided"):
        options["skip_invalid"] = bool(form.text("skip_invalid"))
        options["allow_duplicates"] = bool(form.text("allow_duplicates"))
        given = {
            name[6:]: value for name, value in form.texts().items() if name.startswith("empty-")
        }
        options["empty"] = options.get("empty", {}) | {
            name: it for name, it in given.items() if it in {*DECISIONS, ""}
        }
        defaults = {
            name[8:]: value
            for name, value in form.texts().items()
            if name.startswith("default-") and value
        }
        options["defaults"] = options.get("defaults", {}) | defaults
        texts = [*options["empty"], *chain.from_iterable(options["defaults"].items())]
        if len(options["empty"]) > MAX_COLUMNS or sum(map(len, texts)) > MAX_DECIDED:
            raise SpreadsheetError(
                t(
                    "The texts for empty cells have more than {most:,} characters. Nothing was changed.",
                    most=MAX_DECIDED,
                )
            )
    return options


def why_not(people: CheckedDraft) -> str:
    """Why a table cannot be used yet."""
    if people.errors:
        return t("The columns need a correction.")
    if people.blocking:
        return t("Decide about the problems below. Nothing was sent.")
    return t("No row can be used.")


def _uses(form: Form) -> dict[str, str]:
    """What each column is used as, by its place; a variable has a name of its own."""
    texts = form.texts()
    return {
        name[4:]: texts.get(f"name-{name[4:]}", "")[:MAX_HEADER] if use == VARIABLE else use
        for name, use in texts.items()
        if name.startswith("use-")
        and name[4:].isdecimal()
        and len(name) < MAX_USE
        and (use == VARIABLE or use in {*FIELDS, ""})
    }


def _edited(form: Form) -> dict[tuple[int, int], str]:
    """The cells that were typed, by their row's number and their place."""
    texts = form.texts()
    found = {name: re.fullmatch(r"cell-(\d{1,9})-(\d{1,9})", name) for name in texts}
    return {
        (int(at[1]), int(at[2])): texts[name]
        for name, at in found.items()
        if at and texts[name] != texts.get(f"was{name[4:]}")
    }


async def problems(it: ConsoleRequest, draft: Draft) -> web.StreamResponse:
    """All problems as CSV."""
    return await _csv(it, draft, "problems")


async def corrected(it: ConsoleRequest, draft: Draft) -> web.StreamResponse:
    """The table without the rows that get no message, as CSV."""
    return await _csv(it, draft, "corrected")


async def _csv(it: ConsoleRequest, draft: Draft, which: str) -> web.StreamResponse:
    async with (
        draft_table(it, draft, is_download=True) as table,
        aclosing(table.csv(which, it.language)) as pieces,
    ):
        await check_people(it, draft, await _usable(it, draft), table)
        response = web.StreamResponse(
            headers={"Content-Disposition": f'attachment; filename="{which}.csv"'}
        )
        response.content_type, response.charset = "text/csv", "utf-8"
        first = await anext(pieces)  # what fails, fails before the headers are written
        await response.prepare(it.http)
        if it.http.method != "HEAD":
            await write(response, first)
            async for piece in pieces:
                await write(response, piece)
        await response.write_eof()
    return response
