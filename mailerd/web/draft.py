"""A draft between the three pages of a new message: its table, its template, and the job that it becomes."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import wraps
from typing import Any

from aiohttp import web

from mailerd.core.i18n import Text, t
from mailerd.core.suppression import Reason, why_suppressed
from mailerd.mail.recipient_table import (
    CheckedTable,
    Column,
    Decisions,
    ProblemKind,
    check,
    columns_of,
    guessed_uses,
    mapping_errors,
)
from mailerd.mail.spreadsheet import Sheet
from mailerd.mail.template_library import TemplateLibraryError
from mailerd.mail.templates import Content, RecipientData, RenderError, Source, Template
from mailerd.store.api_keys import Permission
from mailerd.store.drafts import PEOPLE, Draft, Drafts
from mailerd.store.idempotency import IdempotencyStore
from mailerd.store.suppressions import Suppressions
from mailerd.web.services import TIMEOUT, ConsoleRequest

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


DraftPage = Callable[[ConsoleRequest, Draft], Awaitable[web.Response]]


def of_draft(page: DraftPage) -> Callable[[ConsoleRequest], Awaitable[web.Response]]:
    """The page of the draft of the path; of one that was sent, whichever tab it was, the job."""

    @wraps(page)
    async def answer(it: ConsoleRequest) -> web.Response:
        it.require(Permission.SEND)
        id_ = it.http.match_info["draft"]
        draft = await drafts(it).find(it.key.id, id_) if id_.isalnum() and id_.isascii() else None
        if draft and not (it.http.method == "POST" and await job_of(it, draft.once)):
            return await page(it, draft)
        job = await job_of(it, f"draft-{id_}"[:255]) if id_.isascii() else None
        if job is None:
            it.missing()
        return it.back(f"/jobs/{job}", t("This message was already sent as this job. Nothing was sent again."))

    return answer


async def save(it: ConsoleRequest, draft: Draft, parts: Mapping[int, bytes] | None = None) -> None:
    """Store a draft.

    Raises:
        ApiError: 404, it is not there any more.
    """
    if not await drafts(it).save(draft, parts):
        it.missing()


@dataclass(frozen=True)
class People:
    """The table of a draft, and what it comes to."""

    sheet: Sheet
    header: int | None
    columns: list[Column]
    uses: dict[int, str]
    errors: list[Text]
    """What is wrong with the mapping."""
    checked: CheckedTable
    """Of no recipients while there are such errors."""

    @property
    def is_ready(self) -> bool:
        """Whether nothing about it is left to decide."""
        return bool(self.checked.recipients) and not self.checked.blocking

    def reader(self, number: int, link: str = "") -> RecipientData | None:
        """The recipient of a number from 1, as the template sees it."""
        if not 1 <= number <= len(self.checked.recipients):
            return None
        one = self.checked.recipients[number - 1]
        given = one.get("variables", {}) | ({"language": one["language"]} if "language" in one else {})
        return RecipientData(one["email"], one.get("name"), json.dumps(given, ensure_ascii=False), link)


def decisions(draft: Draft) -> Decisions:
    """What was decided about problems."""
    options = draft.options
    empty: dict[str, str] = options.get("empty", {})
    return Decisions(
        skip_invalid=bool(options.get("skip_invalid")), allow_duplicates=bool(options.get("allow_duplicates")),
        defaults={name: options.get("defaults", {}).get(name, "") for name, it in empty.items() if it == "default"},
        accepted={name for name, it in empty.items() if it == "accept"},
        skip_empty={name for name, it in empty.items() if it == "skip"},
    )  # fmt: skip


async def read_people(it: ConsoleRequest, draft: Draft, written: "DraftMessage | None") -> People:
    """The table of a draft. `written`: its message; None: not known yet."""
    packed = await drafts(it).read(draft, PEOPLE)
    used, defaults = (written.names, written.template.defaults) if written else (None, {})
    people = await asyncio.to_thread(_checked, packed, draft, used, defaults)
    addresses = [each["email"] for each in people.checked.recipients]
    suppressions = await Suppressions.open(it.services.database, timeout=TIMEOUT)
    named = draft.message.get("list", "")
    mailing_list = await suppressions.list_named(named) if named else None
    reasons = await suppressions.binding(addresses, list_id=mailing_list.id if mailing_list else None)
    if not reasons:
        return people
    found = {
        address: (
            ProblemKind.UNSUBSCRIBED if why is Reason.UNSUBSCRIBED else ProblemKind.SUPPRESSED,
            why_suppressed(why),
        )
        for address, why in reasons.items()
    }
    return replace(people, checked=await asyncio.to_thread(people.checked.without, found))


def _checked(packed: bytes, draft: Draft, used: frozenset[str] | None, defaults: Collection[str]) -> People:
    sheet, header = Sheet.unpack(packed), draft.mapping["header"]
    wanted = (used or frozenset()).difference(OWN)
    columns = columns_of(sheet, header, wanted=wanted)
    chosen = {int(index): use for index, use in draft.mapping["uses"].items()}
    uses = guessed_uses(columns) | {each.index: chosen[each.index] for each in columns if each.index in chosen}
    errors = mapping_errors(columns, uses, wanted=wanted.difference(defaults))
    checked = (
        CheckedTable([], [], [], [], 0) if errors else check(sheet, header, uses, used=used, decisions=decisions(draft))
    )
    return People(sheet, header, columns, uses, errors, checked)


@dataclass(frozen=True)
class DraftMessage:
    """What a draft says: as the API takes it, as it is rendered, and its pictures."""

    fields: dict[str, Any]
    template: Template
    pictures: dict[str, tuple[str, bytes]]
    names: frozenset[str]
    """The variables that it reads."""


async def read_message(it: ConsoleRequest, draft: Draft) -> DraftMessage | None:
    """The message of a draft; None: nothing is written yet.

    Raises:
        TemplateErrors, TemplateLibraryError: it cannot be used.
        RendererError: nothing can be rendered now.
    """
    message, services, origin = draft.message, it.services, f"key {it.key.name}"
    if message.get("kind") == "write":
        if not message.get("body", "").strip():
            return None
        html = await services.renderer.html_of(message["body"], origin=origin)
        fields: dict[str, Any] = {"template": {"subject": message.get("subject", ""), "html": html}}
        template, pictures = Template(Source(message.get("subject", ""), html, None)), {}
    else:
        if not message.get("template"):
            return None
        named = await services.library.find(message["template"])
        if named is None:
            raise TemplateLibraryError(t("template {name} not found", name=message["template"]))
        fields, template = {"template_name": named.name, "template_version": named.version}, named.template
        pictures = {each.filename: (each.content_type, each.content) for each in named.images}
    names = await services.renderer.compile(template, origin=origin)
    return DraftMessage(fields, template, pictures, frozenset(template.required).union(*names.values()))


async def make(it: ConsoleRequest, written: DraftMessage, reader: RecipientData) -> Content | list[RenderError]:
    """The message of one recipient, or why it cannot be made."""
    (made,) = await it.services.renderer.render(written.template, [reader], origin=f"key {it.key.name}")
    return made
