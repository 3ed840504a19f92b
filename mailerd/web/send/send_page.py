"""New message, step 1: a table of people, what its columns mean, and what is wrong in which row."""

from dataclasses import replace
from typing import Final

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.mail.recipient_table import FIELDS, ProblemKind, variable_name
from mailerd.mail.spreadsheet import ENCODINGS, SpreadsheetError
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.drafts import FILE, PEOPLE, Draft, DraftTooLargeError
from mailerd.web.frame.forms import MAX_TABLE, Form, read_form
from mailerd.web.frame.services import ConsoleRequest
from mailerd.web.send.draft import drafts, load, place, save
from mailerd.web.send.post_job import upload_place
from mailerd.web.send.send_from_job import WHO, jobs_to_choose, take
from mailerd.web.send.send_table import (
    PASTED,
    VARIABLE,
    change_table,
    new_mapping,
    people_of,
    read_table,
    why_not,
)

MAX_NEWEST: Final = 10
MAX_NAME: Final = 200
OPTIONS: Final = {"empty": {}, "defaults": {}, "skip_invalid": False, "allow_duplicates": False}
"""What is decided of a table before a person has decided."""


async def start(it: ConsoleRequest) -> web.Response:
    """The form for the table, and the drafts that are not sent yet."""
    it.require(Permission.SEND)
    return await _start(it)


async def _start(it: ConsoleRequest, *, status: int = 200, trouble: str = "") -> web.Response:
    newest = await drafts(it).newest(it.key.id, limit=MAX_NEWEST)
    template = it.http.query.get("template", "")
    return it.page(
        "send.html",
        status=status,
        active="send",
        live=False,
        drafts=newest,
        template=template,
        trouble=trouble,
        jobs=await jobs_to_choose(it),
        who=WHO,
    )


async def create(it: ConsoleRequest) -> web.Response:
    """Make a draft of a table."""
    it.require(Permission.SEND)
    async with upload_place(it):
        return await _posted(it, None)


async def _posted(it: ConsoleRequest, draft: Draft | None) -> web.Response:
    form = await read_form(it.http, most=MAX_TABLE, large=("table", "pasted"))
    async with place(it):
        return await _answer(it, await load(it, draft) if draft else None, form)


async def _answer(it: ConsoleRequest, draft: Draft | None, form: Form) -> web.Response:
    """What the form asks for."""
    content, name = form.content("table"), form.text("table.name")[:MAX_NAME]
    if not content and (pasted := form.content("pasted")).strip():
        content, name = pasted, ""
    if draft is None and (old := await drafts(it).find(it.key.id, form.text("delete")[:MAX_NAME])):
        await drafts(it).delete(old)
        return it.back("/send", t("Draft deleted."))
    try:
        if form.text("job") and not content.strip():
            return await take(it, draft, form)
        if draft is None or content.strip() or name:
            sheet = await read_table(it, content, name)
            mapping, parts = (
                await new_mapping(it, sheet, name or PASTED),
                {PEOPLE: sheet.packed, FILE: content},
            )
            if draft is None:
                message = (
                    {"template": form.text("template")[:MAX_NAME]} if form.text("template") else {}
                )
                id_ = await drafts(it).create(it.key.id, mapping, message, parts)
                return it.back(f"/send/{id_}/people")
            await save(
                it, replace(draft, mapping=mapping, options={}), parts, only=["mapping", "options"]
            )
            return it.back(f"/send/{draft.id}/people")
        draft = await change_table(it, draft, form)
        if form.text("action") != "next":
            return it.back(f"/send/{draft.id}/people")
        people = await people_of(it, draft)
        if people.is_ready:
            return it.back(f"/send/{draft.id}/message")
        return await _page(it, draft, status=422, trouble=why_not(people))
    except (SpreadsheetError, DraftTooLargeError) as error:
        if draft is None:
            return await _start(it, status=422, trouble=str(error))
        return await _page(it, draft, status=422, trouble=str(error))


async def show(it: ConsoleRequest, draft: Draft) -> web.Response:
    """The table and its problems."""
    return await _page(it, draft)


async def _page(
    it: ConsoleRequest, draft: Draft, *, status: int = 200, trouble: str = ""
) -> web.Response:
    people = await people_of(it, draft)
    return await it.long_page(
        "send_people.html",
        status=status,
        active="send",
        live=False,
        step="people",
        draft=draft,
        people=people,
        trouble=trouble,
        options=OPTIONS | draft.options,
        kinds=ProblemKind,
        fields=FIELDS,
        variable=VARIABLE,
        encodings=ENCODINGS,
        as_variable=variable_name,
        jobs=await jobs_to_choose(it),
        who=WHO,
    )


async def change(it: ConsoleRequest, draft: Draft) -> web.Response:
    """Another table, another meaning of a column, another decision, another cell; or the next
    page.
    """
    async with upload_place(it):
        return await _posted(it, draft)
