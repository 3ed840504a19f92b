"""New message, step 2: the sender, what is written and attached, how it looks for each person, and
a test.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from secrets import token_hex
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.http.errors import ApiError
from mailerd.http.requests import BODY_TIMEOUT
from mailerd.mail.templates import Content
from mailerd.operations import suppressions
from mailerd.operations.inputs import WrongFieldError, read_fields
from mailerd.operations.suppressions import MailingListRequest
from mailerd.rate_limited_gmail import MAX_NEWEST, PersonalDraft
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.drafts import Draft
from mailerd.store.write.list_names import ListNameError
from mailerd.store.write.suppressions import OthersListError
from mailerd.web.frame.forms import Form, read_form, row_number
from mailerd.web.frame.services import MAX_LISTED, ConsoleRequest
from mailerd.web.send.draft import drafts, load, place, save
from mailerd.web.send.draft_people import reader_of
from mailerd.web.send.gmail_draft import copy_draft, list_drafts
from mailerd.web.send.post_job import is_large, upload_place
from mailerd.web.send.send_files import MAX_UPLOAD, attach
from mailerd.web.send.send_preview import (
    View,
    faults_of,
    hints,
    make,
    missing,
    person_of,
    read,
    seek,
    senders_of,
    variables,
    version_of,
)
from mailerd.web.send.send_test import last_address, remember, send_test

FIELDS: Final = (
    "kind",
    "template",
    "sender",
    "sender_name",
    "reply_to",
    "subject",
    "body",
    "list",
    "reference",
    "test_to",
)
"""What the form has; each is a text of the draft's message."""
NOT_SENT: Final = frozenset({"tested", "tab"})
"""What a draft's message has besides: when it was tested, and the tab that has saved it last."""
_SHOWN: Final = ("kind", "template", "subject", "body")
"""What a test has shown: another one of these was not tested."""
MAX_WRITTEN: Final = 500_000
"""Characters of the text; …"""
MAX_FIELD: Final = 10_000
"""… and of each other field: a subject may have as many."""
MAX_TAB: Final = 100
MAX_SOURCE: Final = 100_000
"""Characters of a message's text and source that the page shows."""
_TOO_LARGE: Final = 413


async def show(it: ConsoleRequest, draft: Draft) -> web.Response:
    """The form, and the message of one person."""
    return await _page(it, draft, View.of(it.http.query))


async def _page(
    it: ConsoleRequest,
    draft: Draft,
    view: View,
    *,
    status: int = 200,
    faults: Sequence[tuple[str, str]] = (),
    note: str = "",
    conflict: bool = False,
    typed: Mapping[str, str] | None = None,
    listed: Sequence[PersonalDraft] | None = None,
) -> web.Response:
    """The page.

    `faults`: fields and what is wrong with them; `note`: what came of a test or a search.
    """
    written, people, why = await read(it, draft, person_of(view.person))
    person = people.person.number if people.person else 1
    language = view.language if written and view.language in written.languages else ""
    reader = reader_of(people, language=language)
    made = await make(it, written, reader) if written and reader else None
    if isinstance(made, list):
        why = await hints(made, people.uses.values())
    may_list = it.may(Permission.SUPPRESS)
    lists = (await suppressions.lists(it.caller, limit=MAX_LISTED)).lists if may_list else []
    return await it.long_page(
        "send_message.html",
        status=status,
        active="send",
        live=False,
        step="message",
        draft=draft,
        people=people,
        message=dict.fromkeys((*FIELDS, "tab"), "") | draft.message,
        names=await it.library.all_names(),
        senders=await senders_of(it),
        lists=lists,
        may_list=may_list,
        person=person,
        reader=reader,
        view=view,
        made=made if isinstance(made, Content) else None,
        why=why,
        faults=faults,
        note=note,
        conflict=conflict,
        variables=variables(people, written),
        missing=sorted(missing(people, written)),
        language=language,
        version=version_of(draft, reader),
        most=MAX_SOURCE,
        files=await drafts(it).files(draft),
        tab=token_hex(6),
        languages=written.languages if written else (),
        some_empty=people.some_empty,
        own=last_address(it),
        typed={"new_list": "", "new_title": ""} | dict(typed or {}),
        listed=listed,
        newest=MAX_NEWEST,
    )


async def change(it: ConsoleRequest, draft: Draft) -> web.Response:
    """Save what is written; attach a file, make a list, show another person, send a test, or go
    on.
    """
    async with upload_place(it) if is_large(it) else nullcontext():
        too_large = ""
        try:
            form = await read_form(it.http, most=MAX_UPLOAD + 4 * MAX_WRITTEN, within=BODY_TIMEOUT)
        except ApiError as error:
            if error.status != _TOO_LARGE:
                raise
            form, too_large = Form(()), str(error)
        async with place(it):
            draft = await load(it, draft)
            if too_large:
                return await _page(
                    it, draft, View(), status=_TOO_LARGE, faults=[("attachments", too_large)]
                )
            if answer := await _save(it, draft, form):
                return answer
    async with place(it):
        return await _answer(it, await load(it, draft), form, View.of(form.texts()))


def _fault(message: Mapping[str, str]) -> str:
    """The field that has more text than it may; "": none."""
    most = {name: MAX_WRITTEN if name == "body" else MAX_FIELD for name in FIELDS}
    return next((name for name in FIELDS if len(message.get(name, "")) > most[name]), "")


async def _save(it: ConsoleRequest, saved: Draft, form: Form) -> web.Response | None:
    """Save what is written and attached; None: something else is asked for, too."""
    view = View.of(form.texts())
    draft = replace(saved, message=_message(saved, form))
    if fault := _fault(draft.message):
        faults = [(fault, t("The text is too long. Nothing was changed."))]
        return await _page(it, saved, View(), status=_TOO_LARGE, faults=faults)
    # What is saved while it is typed may name a button that merely has the focus, and its answer
    # may be no error.
    is_typing = "HX-Request" in it.http.headers
    if saved.message.get("tab", "") not in {"", form.text("tab"), form.text("was")}:
        return await _page(it, draft, view, status=200 if is_typing else 409, conflict=True)
    draft.message["tab"] = form.text("tab")[:MAX_TAB]
    await save(it, draft, only=["message"])
    if is_typing:
        return await _page(it, draft, view)
    if (files := form.files("attachments")) and (why := await attach(it, draft, files)):
        return await _page(it, draft, view, status=422, faults=[("attachments", why)])
    part, _, name = form.text("remove").partition("-")
    if name:
        await drafts(it).detach(draft, row_number(part) or 0, name)
    return _back(it, draft, view, "attachments") if files or name else None


def _back(it: ConsoleRequest, draft: Draft, view: View, part: str) -> web.Response:
    shown = {"person": str(row_number(view.person) or 1), "in": view.language, "find": view.find}
    query = urlencode({name: value for name, value in shown.items() if value}, errors="replace")
    return it.back(f"/send/{draft.id}/message?{query}#{part}")


async def _answer(it: ConsoleRequest, draft: Draft, form: Form, view: View) -> web.Response:
    """What is asked for beside the saving."""
    match form.text("action"):
        case "test":
            said, is_good = await send_test(it, draft, view)
            if not is_good:
                return await _page(it, draft, view, status=422, faults=[("test_to", said)])
            response = await _page(it, draft, view, note=said)
            remember(it, draft, response)
            return response
        case "new-list":
            return await _new_list(it, draft, form, view)
        case "drop-variables":
            left = {name: value for name, value in draft.message.items() if name != "variables"}
            await save(it, replace(draft, message=left), only=["message"])
        case "next" if wrong := await faults_of(it, draft):
            return await _page(it, draft, view, status=422, faults=wrong)
        case "next":
            return it.back(f"/send/{draft.id}/review")
        case "drafts":
            listed, why = await list_drafts(it, draft)
            faults = [("copies", why)] if why else []
            return await _page(
                it, draft, view, status=422 if why else 200, faults=faults, listed=listed
            )
        case _ if (chosen := form.text("copy")) and (why := await copy_draft(it, draft, chosen)):
            return await _page(it, draft, view, status=422, faults=[("copies", why)])
        case "find" if view.find:
            pass
        case _:
            view = replace(view, find="")
    found = await seek(it, draft, view, form.text("shown"))
    if found is None:
        return await _page(
            it, draft, replace(view, person=form.text("shown")), note=t("No person was found.")
        )
    view = replace(view, person=found)
    return _back(it, draft, view, "preview")


def _message(draft: Draft, form: Form) -> dict[str, Any]:
    texts = form.texts()
    given: dict[str, Any] = {name: texts[name] for name in FIELDS if name in texts}
    if other := texts.get("sender_other"):
        given["sender"] = other
    made = {**draft.message, **given}
    if any(made.get(name) != draft.message.get(name) for name in _SHOWN):
        made.pop("tested", None)
    return made


async def _new_list(it: ConsoleRequest, draft: Draft, form: Form, view: View) -> web.Response:
    """Make a list, and choose it."""
    name, title = form.text("new_list"), form.text("new_title")
    try:
        given = read_fields(MailingListRequest, {"name": name, "title": title or None})
        made = await suppressions.save_list(it.caller, given)
    except (WrongFieldError, ListNameError, OthersListError) as error:
        typed = {"new_list": name, "new_title": title}
        return await _page(
            it, draft, view, status=422, faults=[("new_list", str(error))], typed=typed
        )
    await save(it, replace(draft, message={**draft.message, "list": made.name}), only=["message"])
    return _back(it, draft, view, "list")
