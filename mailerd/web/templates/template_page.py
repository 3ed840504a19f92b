"""The named templates: the library, how each looks, its versions, and a message of it to
oneself.
"""

import asyncio
import re
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from aiohttp import web

from mailerd.mail.template_library import (
    NamedTemplate,
    TemplateLibrary,
    TemplateLibraryError,
    TemplateSummary,
)
from mailerd.mail.templates import NAME, Content
from mailerd.store.read.console_queries import MAX_USES
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.templates import TemplateState, TemplateVersion
from mailerd.web.frame.services import ConsoleRequest
from mailerd.web.templates.template_form import variables_of
from mailerd.web.templates.template_preview import in_frame, make, readers

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
        return any(
            text in each.lower()
            for each in (self.name, *((it.subject, it.description) if it else ()))
        )


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
    library, search = it.library, it.http.query.get("q", "").strip()
    found = await asyncio.to_thread(_read_folder, library)
    drafts = set(await it.templates.store.drafts()) - {each.name for each in found}
    found += [Listed(each.name, each) for each in await library.stored()]
    found += [Listed(name, None, source="draft") for name in drafts]
    shown = sorted((each for each in found if each.holds(search.lower())), key=attrgetter("name"))
    may_edit = it.may(Permission.TEMPLATES)
    return it.page(
        "templates.html",
        active="templates",
        templates=shown,
        searched=search,
        may_edit=may_edit,
        live=False,
        uses=await it.services.queries.template_uses(it.key.senders),
        most=MAX_USES,
    )


def _read_folder(library: TemplateLibrary) -> list[Listed]:
    found: list[Listed] = []
    for name in library.names():
        try:
            found.append(Listed(name, library.in_folder(name), source="file"))
        except TemplateLibraryError as error:
            found.append(Listed(name, None, str(error), source="file"))
    return found


async def see(it: ConsoleRequest) -> ShownTemplate:
    """The template of the path at the version of the query, or the published one, or the newest
    draft.

    Raises:
        ApiError: 404, there is none.
    """
    library, store, name = it.library, it.templates.store, it.http.match_info["name"]
    if folder := await asyncio.to_thread(library.in_folder, name):
        return ShownTemplate(folder, None, [])
    state = await store.state(name) if NAME.fullmatch(name) else None
    versions = await store.versions(name) if state else []
    known = [each.version for each in versions]
    wish = it.http.query.get("version", "")
    version = wish if wish in known else (state and state.published) or next(iter(known), None)
    named = await library.read(name, version) if version else None
    if state is None or named is None:
        it.missing()
    return ShownTemplate(named, state, versions)


def _language(it: ConsoleRequest, named: NamedTemplate) -> str:
    wish = it.http.query.get("in", "")
    return wish if wish in named.template.languages else ""


async def show(it: ConsoleRequest) -> web.Response:
    """One, made with its own examples, and its versions."""
    seen = await see(it)
    named, chosen, person = seen.named, _language(it, seen.named), it.http.query.get("person", "")
    whole, made = await make(it, named, chosen, person)
    senders = [each.email for each in it.senders(it.services.stats())]
    return await it.long_page(
        "template.html",
        active="templates",
        named=named,
        made=made if isinstance(made, Content) else None,
        trouble=made if isinstance(made, str) else "",
        chosen=chosen,
        senders=senders,
        seen=seen,
        variables=variables_of(whole),
        may_send=it.may(Permission.SEND) and not named.is_layout,
        may_edit=it.may(Permission.TEMPLATES),
        may_change=seen.state is not None
        and it.may(Permission.TEMPLATES)
        and seen.state.may_change(it.key.senders),
        live=False,
        person=person,
        readers=await readers(it, named.name),
    )


async def html(it: ConsoleRequest) -> web.StreamResponse:
    """The same, for a frame."""
    named = (await see(it)).named
    return await in_frame(
        it, *await make(it, named, _language(it, named), it.http.query.get("person", ""))
    )
