"""The named templates: how each looks in each language, and a message of it to oneself."""

import asyncio
import json
from dataclasses import replace
from operator import itemgetter

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.core.states import JobType
from mailerd.http.errors import ApiError
from mailerd.mail.template_library import NamedTemplate, TemplateLibrary, TemplateLibraryError, TemplateSummary
from mailerd.mail.templates import Content, RecipientData
from mailerd.store.api_keys import Permission
from mailerd.web.forms import Form, read_form
from mailerd.web.message_page import frame, render_one
from mailerd.web.post_job import explain, post_job
from mailerd.web.services import ConsoleRequest


async def index(it: ConsoleRequest) -> web.Response:
    """All of them."""
    library = it.services.library
    found = [
        *await asyncio.to_thread(_read_folder, library),
        *((each.name, each, "") for each in await library.stored()),
    ]
    return it.page("templates.html", active="templates", templates=sorted(found, key=itemgetter(0)), live=False)


def _read_folder(library: TemplateLibrary) -> list[tuple[str, TemplateSummary | None, str]]:
    found: list[tuple[str, TemplateSummary | None, str]] = []
    for name in library.names():
        try:
            found.append((name, library.in_folder(name), ""))
        except TemplateLibraryError as error:
            found.append((name, None, str(error)))
    return found


async def _find(it: ConsoleRequest) -> NamedTemplate:
    """The template of the path."""
    found = await it.services.library.find(it.http.match_info["name"])
    if found is None:
        it.missing()
    return found


def _language(it: ConsoleRequest, named: NamedTemplate) -> str:
    wish = it.http.query.get("in", "")
    return wish if wish in named.template.languages else ""


async def _made(it: ConsoleRequest, named: NamedTemplate) -> Content | str:
    language = _language(it, named)
    given = {**named.variables, **({"language": language} if language else {})}
    reader = RecipientData("reader@example.com", "Reader", None)
    return await render_one(it, replace(named.template, variables=given), reader)


async def show(it: ConsoleRequest) -> web.Response:
    """One, made with its own examples."""
    named = await _find(it)
    made = await _made(it, named)
    senders = [each.email for each in it.senders(it.services.stats())]
    return it.page(
        "template.html", active="templates", named=named, made=made if isinstance(made, Content) else None,
        trouble=made if isinstance(made, str) else "", chosen=_language(it, named), senders=senders,
        examples=json.dumps(named.variables, ensure_ascii=False, indent=2), may_send=it.may(Permission.SEND),
        live=False,
    )  # fmt: skip


async def html(it: ConsoleRequest) -> web.Response:
    """The same, for a frame."""
    named = await _find(it)
    pictures = {each.filename: (each.content_type, each.content) for each in named.images}
    return frame(it, await _made(it, named), pictures)


async def send_test(it: ConsoleRequest) -> web.Response:
    """Send a test to the address that is given; each press of the button sends one."""
    named = await _find(it)
    it.require(Permission.SEND)
    async with it.services.shares.posts.place(it.key):
        job = _test_job(named, await read_form(it.http))
        try:
            answer, _ = await post_job(it, job, type_=JobType.TEST)
        except ApiError as error:
            return it.back(f"/templates/{named.name}", explain(it, error))
    return it.back(f"/jobs/{answer['job_id']}", t("Test message accepted."))


def _test_job(named: NamedTemplate, form: Form) -> bytearray:
    """A test of a job with one message, which has the template's own examples."""
    recipient = {"email": form.text("email")}
    if language := form.text("in"):
        recipient["language"] = language
    job = {
        "sender_email": form.text("sender"), "template_name": named.name,
        "variables": dict(named.variables), "recipients": [recipient], "reference": f"test of {named.name}"[:255],
    }  # fmt: skip
    return bytearray(json.dumps({"job": job, "to": [form.text("email")]}, ensure_ascii=False).encode())
