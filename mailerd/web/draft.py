"""A draft between the three pages of a new message: its table, its template, and the job that it becomes."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import wraps
from typing import Any

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.mail.copied_draft import CopiedDraft
from mailerd.mail.template_library import TemplateLibraryError
from mailerd.mail.templates import Source, Template
from mailerd.store.api_keys import Permission
from mailerd.store.drafts import COPY, FIELDS, Draft, Drafts
from mailerd.store.idempotency import IdempotencyStore
from mailerd.web.post_job import template_of
from mailerd.web.services import ConsoleRequest

OWN = ("email", "name", "language", "unsubscribe_url")
"""Variables that need no column of their own."""
DECISIONS = ("accept", "skip", "default")
"""What can be decided about the empty cells of a variable."""


def drafts(it: ConsoleRequest) -> Drafts:
    """The drafts of the database."""
    services = it.services
    keep = timedelta(seconds=services.settings.intake.idempotency_keep)
    return Drafts(services.database, services.settings.database.connect_timeout, keep)


async def job_of(it: ConsoleRequest, once: str) -> str | None:
    """The job of an idempotency key of the console; None: it has none."""
    store = drafts(it)
    known = await IdempotencyStore(store.database, timeout=store.timeout, keep=store.keep).find(it.key.id, once)
    return known.job_id if known else None


DraftPage = Callable[[ConsoleRequest, Draft], Awaitable[web.StreamResponse]]


def of_draft(page: DraftPage) -> Callable[[ConsoleRequest], Awaitable[web.StreamResponse]]:
    """The page of the draft of the path; of one that was sent, whichever tab it was, the job."""

    @wraps(page)
    async def answer(it: ConsoleRequest) -> web.StreamResponse:
        it.require(Permission.SEND)
        id_ = it.http.match_info["draft"]
        draft = await drafts(it).find(it.key.id, id_) if id_.isalnum() and id_.isascii() else None
        if draft and not (it.http.method == "POST" and await job_of(it, draft.once)):
            return await page(it, draft)
        job = await job_of(it, f"draft-{id_}"[:255]) if id_.isascii() else None
        if job is None:
            it.missing()
        return it.back(f"/jobs/{job}?draft={id_}", t("This draft has become this job. Nothing was sent again."))

    return answer


async def save(
    it: ConsoleRequest, draft: Draft, parts: Mapping[int, bytes] | None = None, *, only: Collection[str] = FIELDS
) -> None:
    """Store a draft. `only`: which of FIELDS this step changes; another tab may have changed the others.

    Raises:
        ApiError: 404, it is not there any more.
    """
    if not await drafts(it).save(draft, parts, only=only):
        it.missing()


@dataclass(frozen=True)
class DraftMessage:
    """What a draft says: as the API takes it, as it is rendered, and its pictures."""

    fields: dict[str, Any]
    template: Template
    pictures: dict[str, tuple[str, bytes]]
    names: frozenset[str]
    """The variables that it reads."""
    languages: list[str]
    """Those that its template has, its default first; empty: only one."""

    @property
    def given(self) -> frozenset[str]:
        """Variables that need no column: the job's own, and those with a default."""
        return frozenset(self.template.variables).union(self.template.defaults)


async def read_message(it: ConsoleRequest, draft: Draft) -> DraftMessage | None:
    """The message of a draft; None: nothing is written yet.

    Raises:
        TemplateErrors, TemplateLibraryError: it cannot be used.
        RendererError: nothing can be rendered now.
    """
    message, services, origin, kind = draft.message, it.services, f"key {it.key.name}", draft.message.get("kind", "")
    if not message.get({"write": "body", "gmail": "gmail", "job": "job"}.get(kind, "template")):
        return None
    languages = list[str]()
    if kind == "gmail":
        packed = await drafts(it).read(draft, COPY)
        fields, template, pictures = await asyncio.to_thread(CopiedDraft.message_of, packed)
    elif kind == "write":
        subject, html = message.get("subject", ""), await services.renderer.html_of(message["body"], origin=origin)
        fields, pictures = {"template": {"subject": subject, "html": html}}, {}
        template = Template(Source(subject, html, None))
    elif kind == "job":
        if (given := await template_of(it, message["job"])) is None:
            raise TemplateLibraryError(t("The job with this text was not found. Write the message here."))
        fields, pictures = {"template": given}, {}
        template = Template(Source(given["subject"], given.get("html"), given.get("text")))
    else:
        named = await services.library.find(message["template"])
        if named is None:
            raise TemplateLibraryError(t("template {name} not found", name=message["template"]))
        fields, template = {"template_name": named.name, "template_version": named.version}, named.template
        pictures = {each.filename: (each.content_type, each.content) for each in named.images}
        languages = [named.language or "und", *named.languages] if named.languages else []  # und: the default texts
    if own := message.get("variables"):
        fields, template = fields | {"variables": own}, replace(template, variables=own)
    names = await services.renderer.compile(template, origin=origin)
    return DraftMessage(fields, template, pictures, frozenset(template.required).union(*names.values()), languages)
