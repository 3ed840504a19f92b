"""The editor of the templates: its form is the body that the API stores, checked, published and
refused as there.
"""

import asyncio
from dataclasses import replace
from typing import Final

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.http.errors import ApiError, FieldError, invalid
from mailerd.http.responses import cannot_render
from mailerd.mail.template_library import LANGUAGE, TemplateLibraryError
from mailerd.mail.templates import NAME, RendererError
from mailerd.store.write.api_keys import Permission
from mailerd.web.frame.forms import read_form
from mailerd.web.frame.rendered_message import frame
from mailerd.web.frame.services import ConsoleRequest
from mailerd.web.send.post_job import explain
from mailerd.web.templates.template_actions import publish
from mailerd.web.templates.template_form import (
    Fault,
    Part,
    TemplateForm,
    Variable,
    body_of,
    faults_of,
    missing_example,
)
from mailerd.web.templates.template_page import VERSION, see
from mailerd.web.templates.template_preview import in_frame, make, readers

MAX_EDITED: Final = 8 * 1024 * 1024
"""Bytes of a form with a template and its new pictures; what is larger is stored by the API."""
_EMPTY_LAYOUT: Final = TemplateForm(
    is_layout=True, parts=[Part("", body="**…**\n\n{{ content }}\n\n…")]
)


async def _page(
    it: ConsoleRequest,
    form: TemplateForm,
    *,
    is_new: bool,
    error: ApiError | RendererError | None = None,
) -> web.Response:
    refused = cannot_render(error) if isinstance(error, RendererError) else error
    errors = refused.errors if refused else ()
    faults = await asyncio.to_thread(faults_of, form, errors) or (
        [Fault("name", str(refused))] if refused else []
    )
    if form.files and refused:
        faults.append(Fault("images", t("Choose the pictures again: a page cannot keep them.")))
    known = {each.name for each in form.variables}
    asked = [
        Variable(each)
        for each in dict.fromkeys(map(missing_example, errors))
        if each and each not in known
    ]
    number = next((each.at.partition("-")[2] for each in faults if "-" in each.at), "")
    tab = form.parts[int(number)].tag if number else form.tab  # so that a fault is in sight
    form = replace(form, tab=tab, variables=[*form.variables, *asked, *[Variable()] * 2])
    library = it.library
    layouts = {each.name for each in await library.stored() if each.is_layout}
    layouts.update(
        await asyncio.to_thread(library.folders_saying, "is_layout", value=True),
        filter(None, [form.layout]),
    )
    page = await it.long_page(
        "template_edit.html",
        active="templates",
        form=form,
        is_new=is_new,
        faults=faults,
        live=False,
        status=refused.status if refused else 200,
        layouts=sorted(layouts),
        readers=await readers(it, form.origin),
    )
    page.headers.update(refused.headers if refused else {})
    return page


async def show(it: ConsoleRequest) -> web.Response:
    """The form: of a new template, which may have the contents of another one, or of a template at
    a version.
    """
    it.require(Permission.TEMPLATES)
    if "name" not in it.http.match_info:
        return await _page(
            it, _EMPTY_LAYOUT if "layout" in it.http.query else TemplateForm(), is_new=True
        )
    seen = await see(it)
    if it.http.path.endswith("/duplicate"):
        return await _page(
            it, TemplateForm.of(f"{seen.named.name[:59]}-copy", seen.named, ""), is_new=True
        )
    if seen.state is None:
        return it.back(
            f"/templates/{seen.named.name}",
            t("This template is a folder of files. Duplicate it to edit it."),
        )
    if not seen.state.may_change(it.key.senders):
        return it.back(
            f"/templates/{seen.named.name}",
            t("Other senders use this template, too. Duplicate it to change it."),
        )
    return await _page(
        it, TemplateForm.of(seen.named.name, seen.named, seen.published), is_new=False
    )


async def save(it: ConsoleRequest) -> web.Response:
    """Store a version, and publish it where that is asked for; or add a language to the form."""
    it.require(Permission.TEMPLATES)
    is_new, templates = "name" not in it.http.match_info, it.templates
    async with it.services.shares.posts.place(it.key):
        sent = await read_form(it.http, most=MAX_EDITED)
        name = sent.text("name").lower().replace(" ", "-") if is_new else it.http.match_info["name"]
        form = TemplateForm.read(name, sent)
        try:
            if sent.text("action") == "add-language":
                return await _page(
                    it, _with_language(form, sent.text("new_language").lower()), is_new=is_new
                )
            if is_new and NAME.fullmatch(form.name) and await templates.store.state(form.name):
                raise invalid([FieldError("name", t("is the name of another template"))])
            version, created = await templates.save(
                it.caller, form.name, await _body(it, form), it.key
            )
        except (ApiError, RendererError) as error:
            return await _page(it, form, is_new=is_new, error=error)
    said: str = (
        t("Saved as a draft. Jobs get it once it is published.")
        if created
        else t("No change: this version exists.")
    )
    if sent.text("action") == "publish":
        said = await publish(it, form.name, version, expect=form.expect)
    return it.back(f"/templates/{form.name}?version={version}", said)


def _with_language(form: TemplateForm, tag: str) -> TemplateForm:
    if not LANGUAGE.fullmatch(tag):
        raise invalid([FieldError("new_language", t("must be a language such as zh or zh-tw"))])
    is_there = any(each.tag == tag for each in form.parts)
    return replace(form, tab=tag, parts=form.parts if is_there else [*form.parts, Part(tag)])


async def _body(it: ConsoleRequest, form: TemplateForm) -> bytearray:
    """What the API takes, with the images of the version that was opened; an ApiError where that is
    gone.
    """
    library, images = it.library, dict[str, bytes]()
    if VERSION.fullmatch(form.base):
        try:
            named = await asyncio.to_thread(library.in_folder, form.origin)
            named = named or await library.read(form.origin, form.base)
        except TemplateLibraryError as error:
            raise invalid([FieldError("name", str(error))]) from None
        if named is None:
            raise invalid(
                [
                    FieldError(
                        "name",
                        t("the version that was opened was deleted; copy your text to another"),
                    )
                ]
            )
        images = {
            each.filename: each.content for each in named.images if each.filename not in form.drop
        }
    return await asyncio.to_thread(body_of, form, images | form.files)


async def preview(it: ConsoleRequest) -> web.StreamResponse:
    """What the form would be, in a frame; nothing is stored."""
    it.require(Permission.TEMPLATES)
    async with it.services.shares.posts.place(it.key):
        sent = await read_form(it.http, most=MAX_EDITED)
        form = TemplateForm.read("preview", sent)
        try:
            named, _, _ = await it.templates.checked("preview", await _body(it, form), it.key)
        except (ApiError, RendererError) as error:
            return await frame(
                it, explain(it, error) if isinstance(error, ApiError) else str(error), {}
            )
    tag = form.tab if form.tab in named.template.languages else ""
    return await in_frame(it, *await make(it, named, tag, sent.text("person")))
