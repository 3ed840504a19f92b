"""The named templates: the library, how each looks, its versions, and a message of it to oneself."""

import asyncio
import json
import re
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.core.states import JobType
from mailerd.http.errors import ApiError
from mailerd.mail.template_library import NamedTemplate, TemplateLibrary, TemplateLibraryError, TemplateSummary
from mailerd.mail.templates import NAME, Content, RecipientData
from mailerd.store.api_keys import Permission
from mailerd.store.templates import TemplateState, TemplateVersion
from mailerd.web.forms import Form, read_form
from mailerd.web.message_page import frame, render_one
from mailerd.web.post_job import explain, post_job
from mailerd.web.services import ConsoleRequest

VERSION: Final = re.compile(r"[0-9a-f]{16}")
"""How the API calls a version."""


@dataclass(frozen=True)
class Listed:
    """A template of the library; `summary` None: it cannot be used, or is a draft."""

    name: str
    summary: TemplateSummary | None
    trouble: str = ""
    source: str = "api"

    def holds(self, text: str) -> bool:
        """Whether a search for this text finds it."""
        it = self.summary
        return any(text in each.lower() for each in (self.name, *((it.subject, it.description) if it else ())))


@dataclass(frozen=True)
class ShownTemplate:
    """A template at one of its versions; `state` None: it is a folder, which has but one."""

    named: NamedTemplate
    state: TemplateState | None
    versions: list[TemplateVersion]

    @property
    def published(self) -> str:
        """The version that jobs get; "": none."""
        return self.named.version if self.state is None else self.state.published or ""


async def index(it: ConsoleRequest) -> web.Response:
    """All of them, or those that a search finds."""
    library, search = it.services.library, it.http.query.get("q", "").strip()
    found = await asyncio.to_thread(_read_folder, library)
    drafts = set(await it.services.templates.store.drafts()) - {each.name for each in found}
    found += [Listed(each.name, each) for each in await library.stored()]
    found += [Listed(name, None, source="draft") for name in drafts]
    shown = sorted((each for each in found if each.holds(search.lower())), key=attrgetter("name"))
    may_edit = it.may(Permission.TEMPLATES)
    return it.page("templates.html", active="templates", templates=shown, search=search, may_edit=may_edit, live=False)


def _read_folder(library: TemplateLibrary) -> list[Listed]:
    found: list[Listed] = []
    for name in library.names():
        try:
            found.append(Listed(name, library.in_folder(name), source="file"))
        except TemplateLibraryError as error:
            found.append(Listed(name, None, str(error), source="file"))
    return found


async def see(it: ConsoleRequest) -> ShownTemplate:
    """The template of the path at the version of the query, or the published one, or the newest draft.

    Raises:
        ApiError: 404, there is none.
    """
    library, store, name = it.services.library, it.services.templates.store, it.http.match_info["name"]
    if folder := await asyncio.to_thread(library.in_folder, name):
        return ShownTemplate(folder, None, [])
    state = await store.state(name) if NAME.fullmatch(name) else None
    versions = await store.versions(name) if state else []
    known = [each.version for each in versions]
    wish = it.http.query.get("version", "")
    version = wish if wish in known else (state and state.published) or next(iter(known), None)
    named = await library.find(name, version) if version else None
    if state is None or named is None:
        it.missing()
    return ShownTemplate(named, state, versions)


def _language(it: ConsoleRequest, named: NamedTemplate) -> str:
    wish = it.http.query.get("in", "")
    return wish if wish in named.template.languages else ""


async def make(it: ConsoleRequest, named: NamedTemplate, language: str) -> Content | str:
    """Its message with its own examples, or why there is none."""
    given = {**named.variables, **({"language": language} if language else {})}
    reader = RecipientData("reader@example.com", "Reader", None)
    return await render_one(it, replace(named.template, variables=given), reader)


def in_frame(it: ConsoleRequest, named: NamedTemplate, made: Content | str) -> web.Response:
    """The message for a frame, with its pictures."""
    return frame(it, made, {each.filename: (each.content_type, each.content) for each in named.images})


async def show(it: ConsoleRequest) -> web.Response:
    """One, made with its own examples, and its versions."""
    seen = await see(it)
    named, chosen = seen.named, _language(it, seen.named)
    made = await make(it, named, chosen)
    senders = [each.email for each in it.senders(it.services.stats())]
    return it.page(
        "template.html", active="templates", named=named, made=made if isinstance(made, Content) else None,
        trouble=made if isinstance(made, str) else "", chosen=chosen, senders=senders, seen=seen,
        examples=json.dumps(named.variables, ensure_ascii=False, indent=2), may_send=it.may(Permission.SEND),
        may_edit=it.may(Permission.TEMPLATES), live=False,
    )  # fmt: skip


async def html(it: ConsoleRequest) -> web.Response:
    """The same, for a frame."""
    named = (await see(it)).named
    return in_frame(it, named, await make(it, named, _language(it, named)))


async def act(it: ConsoleRequest) -> web.Response:
    """Publish a version, archive the template, or send it to oneself."""
    async with it.services.shares.posts.place(it.key):
        form = await read_form(it.http)
        match form.text("action"):
            case "publish":
                return await _publish(it, form)
            case "archive":
                it.require(Permission.TEMPLATES)
                await it.services.templates.archive_template(it.http.match_info["name"], actor=it.actor)
                return it.back("/templates", t("Template archived. Jobs that were posted keep it."))
            case _:
                return await _send_test(it, form)


async def _publish(it: ConsoleRequest, form: Form) -> web.Response:
    it.require(Permission.TEMPLATES)
    version = form.text("version")
    if not VERSION.fullmatch(version):
        it.missing()
    text = await publish(it, it.http.match_info["name"], version, expect=form.text("expect"))
    return it.back(f"/templates/{it.http.match_info['name']}?version={version}", text)


async def publish(it: ConsoleRequest, name: str, version: str, *, expect: str) -> str:
    """Publish a version, if `expect` is still the one that is published; what to say of it.

    Raises:
        ApiError: there is no such version.
    """
    try:
        await it.services.templates.publish_version(name, version, expect=expect or None, actor=it.actor)
    except ApiError as error:
        if error.code != "version_moved":
            raise
        return t("Not published: another version was published meanwhile. This version is kept. Compare them.")
    return t("Published. Jobs that are posted from now on get this version.")


async def _send_test(it: ConsoleRequest, form: Form) -> web.Response:
    """Send a test to the address that is given; each press of the button sends one."""
    seen = await see(it)
    it.require(Permission.SEND)
    try:
        answer, _ = await post_job(it, _test_job(seen, form), type_=JobType.TEST)
    except ApiError as error:
        return it.back(f"/templates/{seen.named.name}", explain(it, error))
    return it.back(f"/jobs/{answer['job_id']}", t("Test message accepted."))


def _test_job(seen: ShownTemplate, form: Form) -> bytearray:
    """A test of a job with one message, which has the template's own examples."""
    named, recipient = seen.named, {"email": form.text("email")}
    if language := form.text("in"):
        recipient["language"] = language
    job = {
        "sender_email": form.text("sender"), "template_name": named.name,
        "variables": dict(named.variables), "recipients": [recipient], "reference": f"test of {named.name}"[:255],
    }  # fmt: skip
    if seen.state is not None:
        job["template_version"] = named.version
    return bytearray(json.dumps({"job": job, "to": [form.text("email")]}, ensure_ascii=False).encode())
