"""A draft between the three pages of a new message: its table, its template, and the job that it
becomes.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import wraps
from typing import Any

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.http.errors import ApiError
from mailerd.mail.copied_draft import CopiedDraft
from mailerd.mail.template_library import TemplateLibraryError
from mailerd.mail.templates import Source, Template
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.drafts import COPY, FIELDS, Draft, Drafts
from mailerd.store.write.idempotency import IdempotencyStore
from mailerd.web.frame.services import ConsoleRequest
from mailerd.web.send.post_job import Attached, template_of

OWN = ("email", "name", "language", "unsubscribe_url")
"""Variables that need no column of their own."""
_NOT_FOUND = 404
MAX_NAMES = 1_000
"""Variables that a message may read: a table has half as many columns."""
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
    known = await IdempotencyStore(store.database, timeout=store.timeout, keep=store.keep).find(
        it.key.id, once
    )
    return known.job_id if known else None


def place(it: ConsoleRequest) -> AbstractAsyncContextManager[None]:
    """The key's place for a page of a draft: what it is made of may take the memory of many
    others.
    """
    return it.services.shares.drafts.place(it.key)


async def load(it: ConsoleRequest, draft: Draft) -> Draft:
    """What the draft of a form has now: another tab may have saved it while the form came.

    Raises:
        ApiError: 404, it was sent or deleted.
    """
    return await drafts(it).find(it.key.id, draft.id) or it.missing()


DraftPage = Callable[[ConsoleRequest, Draft], Awaitable[web.StreamResponse]]


def of_draft(page: DraftPage) -> Callable[[ConsoleRequest], Awaitable[web.StreamResponse]]:
    """The page of the draft of the path; of one that was sent, whichever tab it was, the job."""

    @wraps(page)
    async def answer(it: ConsoleRequest) -> web.StreamResponse:
        it.require(Permission.SEND)
        id_ = it.http.match_info["draft"]
        is_known = id_.isalnum() and id_.isascii()
        if it.http.method != "POST":
            async with place(it):
                if draft := await drafts(it).find(it.key.id, id_) if is_known else None:
                    return await page(it, draft)
        elif (
            is_known
            and await drafts(it).find(it.key.id, id_)
            and not await job_of(it, f"draft-{id_}")
        ):
            try:
                # its form may be long in coming: what it has is read then, and it may have been
                # sent meanwhile
                return await page(it, Draft(id_, it.key.id))
            except ApiError as error:
                if error.status != _NOT_FOUND:
                    raise
        job = await job_of(it, f"draft-{id_}"[:255]) if id_.isascii() else None
        if job is None:
            it.missing()
        return it.back(
            f"/jobs/{job}?draft={id_}", t("This draft has become this job. Nothing was sent again.")
        )

    return answer


async def save(
    it: ConsoleRequest,
    draft: Draft,
    parts: Mapping[int, bytes] | None = None,
    *,
    only: Collection[str] = FIELDS,
) -> None:
    """Store a draft.

    `only`: which of FIELDS this step changes; another tab may have changed the others.

    Raises:
        ApiError: 404, it is not there any more.
    """
    if not await drafts(it).save(draft, parts, only=only):
        it.missing()


@dataclass(frozen=True)
class DraftMessage:
    """What a draft says: as the API takes it, as it is rendered, and its pictures."""

    fields: dict[str, Any]
    """Without `attachments`."""
    attachments: Sequence[Attached]
    """Its pictures as the API takes them, where they do not come with a named template."""
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
    message, services, origin, kind = (
        draft.message,
        it.services,
        f"key {it.key.name}",
        draft.message.get("kind", ""),
    )
    if not message.get({"write": "body", "gmail": "gmail", "job": "job"}.get(kind, "template")):
        return None
    languages, attachments, fields = list[str](), list[Attached](), dict[str, Any]()
    if kind == "gmail":
        packed = await drafts(it).read(draft, COPY)
        copied = CopiedDraft.unpack(packed)
        fields["template"], template = copied.parts, copied.template
        pictures = {each.filename: (each.content_type, each.content) for each in copied.pictures}
        attachments = [(each.fields, each.content) for each in copied.pictures]
    elif kind == "write":
        subject, html = (
            message.get("subject", ""),
            await services.renderer.html_of(message["body"], origin=origin),
        )
        fields, pictures = {"template": {"subject": subject, "html": html}}, {}
        template = Template(Source(subject, html, None))
    elif kind == "job":
        if (given := await template_of(it, message["job"])) is None:
            raise TemplateLibraryError(
                t("The job with this text was not found. Write the message here.")
            )
        fields, pictures = {"template": given}, {}
        template = Template(Source(given["subject"], given.get("html"), given.get("text")))
    else:
        named = await it.library.find(message["template"])
        if named is None:
            raise TemplateLibraryError(t("template {name} not found", name=message["template"]))
        fields, template = (
            {"template_name": named.name, "template_version": named.version},
            named.template,
        )
        pictures = {each.filename: (each.content_type, each.content) for each in named.images}
        # und: the default texts
        languages = [named.language or "und", *named.languages] if named.languages else []
    if own := message.get("variables"):
        fields, template = fields | {"variables": own}, replace(template, variables=own)
    names = await services.renderer.compile(template, origin=origin)
    read = frozenset(template.required).union(*names.values())
    if len(read) > MAX_NAMES:
        raise TemplateLibraryError(t("The message reads more than {n:,} variables.", n=MAX_NAMES))
    return DraftMessage(fields, attachments, template, pictures, read, languages)
