"""What a person decides about a table: sheet, header, columns, problems and cells; and the table as CSV."""

import asyncio
import re
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.errors import MailerdError
from mailerd.http.responses import cannot_render
from mailerd.mail.recipient_table import FIELDS, corrected_csv, guess_header, problems_csv
from mailerd.mail.spreadsheet import ENCODINGS, Sheet, SpreadsheetError
from mailerd.mail.templates import RendererError
from mailerd.store.drafts import FILE, PEOPLE, Draft
from mailerd.web.draft import DECISIONS, drafts, read_message, save
from mailerd.web.draft_people import People, packed_table, read_people
from mailerd.web.forms import Form
from mailerd.web.html import said
from mailerd.web.sent_tables import last_uses
from mailerd.web.services import ConsoleRequest

VARIABLE: Final = "variable"
PASTED: Final = "table.csv"
_ABOVE: Final = 100
"""Rows that a table may have above the most recipients of a job: headers, and people without an address."""
MAX_USE: Final = 10
"""Characters of a field that says what a column is used as."""


async def people_of(it: ConsoleRequest, draft: Draft) -> People:
    """The table; a message that cannot be used names no variables."""
    try:
        written = await read_message(it, draft)
    except MailerdError:
        written = None
    return await read_people(it, draft, written)


async def read_table(
    it: ConsoleRequest, content: bytes, name: str, sheet: str | None = None, encoding: str | None = None
) -> Sheet:
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
        return await it.services.spreadsheets.read(
            content, filename=name or PASTED, origin=f"key {it.key.name}", sheet=sheet, encoding=encoding,
            most=it.services.settings.intake.max_recipients + _ABOVE,
        )  # fmt: skip
    except RendererError as error:
        raise cannot_render(error) from error


async def new_mapping(it: ConsoleRequest, sheet: Sheet, name: str) -> dict[str, Any]:
    """What a draft notes of a sheet about which no decision is made yet, but perhaps about another of its header."""
    header = guess_header(sheet)
    return {
        "file": name, "sheet": sheet.name, "encoding": sheet.encoding, "is_guess": sheet.is_guess, "header": header,
        "uses": await last_uses(it, sheet, header),
    }  # fmt: skip


async def change_table(it: ConsoleRequest, draft: Draft, form: Form) -> Draft:
    """The draft as a form changes it; it is stored.

    Raises:
        SpreadsheetError, DraftTooLargeError: nothing was changed.
    """
    mapping, options, parts = dict(draft.mapping), dict(draft.options), dict[int, bytes]()
    async with packed_table(it, draft) as packed:
        sheet = await asyncio.to_thread(Sheet.unpack, packed)
        chosen, encoding = form.text("sheet") or mapping["sheet"], form.text("encoding") or mapping["encoding"]
        if (chosen, encoding) != (mapping["sheet"], mapping["encoding"]):
            if chosen not in {*sheet.sheets, ""} or encoding not in {*ENCODINGS, ""}:
                it.missing()
            content = await drafts(it).read(draft, FILE)
            other = encoding if encoding != mapping["encoding"] else None
            sheet = await read_table(it, content, mapping["file"], chosen or None, other)
            mapping = await new_mapping(it, sheet, mapping["file"]) | {"is_guess": mapping["is_guess"]}
            parts[PEOPLE] = await asyncio.to_thread(sheet.pack)
        elif form.text("header") != form.text("was-header") and form.text("header") in {"", *map(str, sheet.numbers)}:
            header = int(form.text("header")) if form.text("header") else None
            mapping |= {"header": header, "uses": await last_uses(it, sheet, header)}
        else:
            mapping["uses"] = _uses(form) or mapping["uses"]
            if (edited := await asyncio.to_thread(sheet.edited, _edited(form))) is not sheet:
                parts[PEOPLE] = await asyncio.to_thread(edited.pack)
    if form.text("decided"):
        options["skip_invalid"] = bool(form.text("skip_invalid"))
        options["allow_duplicates"] = bool(form.text("allow_duplicates"))
        given = {name[6:]: value for name, value in form.texts().items() if name.startswith("empty-")}
        options["empty"] = options.get("empty", {}) | {name: it for name, it in given.items() if it in {*DECISIONS, ""}}
        defaults = {name[8:]: value for name, value in form.texts().items() if name.startswith("default-") and value}
        options["defaults"] = options.get("defaults", {}) | defaults
    draft = replace(draft, mapping=mapping, options=options)
    await save(it, draft, parts, only=["mapping", "options"])
    return draft


def why_not(people: People) -> str:
    """Why a table cannot be used yet."""
    if people.errors:
        return t("The columns need a correction.")
    if people.checked.blocking:
        return t("Decide about the problems below. Nothing was sent.")
    return t("No row can be used.")


def _uses(form: Form) -> dict[str, str]:
    """What each column is used as, by its place; a variable has a name of its own."""
    texts = form.texts()
    return {
        name[4:]: texts.get(f"name-{name[4:]}", "") if use == VARIABLE else use
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


async def problems(it: ConsoleRequest, draft: Draft) -> web.Response:
    """All problems as CSV."""
    checked = (await people_of(it, draft)).checked
    text = await asyncio.to_thread(problems_csv, checked, lambda one: said(one, it.language))
    return _csv(text, "problems.csv")


async def corrected(it: ConsoleRequest, draft: Draft) -> web.Response:
    """The table without the rows that get no message, as CSV."""
    people = await people_of(it, draft)
    return _csv(await asyncio.to_thread(corrected_csv, people.sheet, people.header, people.checked), "corrected.csv")


def _csv(text: str, name: str) -> web.Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return web.Response(
        body=text.encode("utf-8-sig", "replace"), content_type="text/csv", charset="utf-8", headers=headers
    )
