"""How the message of a draft looks for each of its people, and the senders that it may have."""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from typing import Final, Self

from aiohttp import web

from mailerd.core.i18n import Text, t
from mailerd.core.senders import SenderReading
from mailerd.core.suppression import DEAD_TOKEN
from mailerd.errors import MailerdError
from mailerd.mail.table_checker import CheckedDraft
from mailerd.mail.templates import Content, RecipientData, RenderError, TemplateErrors
from mailerd.store.read.senders import Senders
from mailerd.store.write.drafts import Draft
from mailerd.web.frame.forms import row_number
from mailerd.web.frame.rendered_message import frame
from mailerd.web.frame.services import ConsoleRequest
from mailerd.web.send.draft import OWN, DraftMessage, read_message
from mailerd.web.send.draft_people import FIRST, PersonChoice, read_people, reader_of

MAX_SENDERS: Final = 100
_MAX_FIND: Final = 320
"""Characters of who is looked for: an address has no more."""


@dataclass(frozen=True)
class View:
    """Whose message is shown, in which language, and who was looked for."""

    person: str = ""
    language: str = ""
    find: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Self:
        """As a form or an address says."""
        person, find = (
            given.get("person") or given.get("shown", ""),
            given.get("find", "")[:_MAX_FIND],
        )
        return cls(person, given.get("in", ""), find)


async def senders_of(it: ConsoleRequest) -> list[SenderReading]:
    """The senders that the key may use, each with what is left of its day; also those that have
    sent nothing yet.
    """
    services = it.services
    senders = Senders(
        services.database, services.limits.now, services.settings.database.connect_timeout
    )
    found = {
        each.state.email: each
        for each in await senders.page(only=it.key.senders, limit=MAX_SENDERS, aliases=None)
    }
    authorized = {
        each
        for each in await asyncio.to_thread(services.credential_owners)
        if not each.startswith("@")
    }
    known = authorized if it.key.senders is None else it.key.senders
    for email in sorted(known - found.keys())[: MAX_SENDERS - len(found)]:
        found[email] = await senders.unused(email, aliases=None)
    return list(found.values())


async def read_written(it: ConsoleRequest, draft: Draft) -> tuple[DraftMessage | None, list[str]]:
    """The message of a draft, and why it cannot be used."""
    try:
        return await read_message(it, draft), []
    except TemplateErrors as errors:
        return None, [_named(each.part, each.line, each.reason) for each in errors.errors]
    except MailerdError as error:
        return None, [str(error)]


async def read(
    it: ConsoleRequest, draft: Draft, shown: PersonChoice = FIRST
) -> tuple[DraftMessage | None, CheckedDraft, list[str]]:
    """The message and the table of a draft, and why the message cannot be used."""
    written, why = await read_written(it, draft)
    people = await read_people(it, draft, written, shown)
    if people.person and people.person.recipient is None:
        why = [*why, t("The values of row {n} are too long to be shown.", n=people.person.row)]
    return written, people, why


def _named(part: str, line: int | None, reason: str) -> Text:
    where = t("Subject") if part == "subject" else t("Message")
    if line is None:
        return t("{part}: {reason}", part=where, reason=reason)
    return t("{part}, line {line}: {reason}", part=where, line=line, reason=reason)


def person_of(text: str) -> PersonChoice:
    """Whose message is asked for, from 1."""
    return PersonChoice(max(1, row_number(text) or 1))


def variables(people: CheckedDraft, written: DraftMessage | None) -> list[str]:
    """What can be inserted."""
    given = [use for use in people.uses.values() if use and use not in {"cc", "bcc", *OWN}]
    return [
        *given,
        *(name for name in OWN if name != "language"),
        *sorted(missing(people, written)),
    ]


def missing(people: CheckedDraft, written: DraftMessage | None) -> set[str]:
    """Variables that the message reads and no column has."""
    known = {*people.uses.values(), *OWN, *(written.given if written else ())}
    return set(written.names - known) if written else set()


async def seek(it: ConsoleRequest, draft: Draft, view: View, shown: str) -> str | None:
    """The number of the person who is asked for, by number, search or kind, behind the one shown;
    None: not found.
    """
    if not view.find and view.person not in {"longest", "empty"}:
        return view.person
    behind, sought = person_of(shown).person, "find" if view.find else view.person
    _, people, _ = await read(it, draft, PersonChoice(behind, sought, view.find))
    return str(people.found) if people.found else None


async def faults_of(it: ConsoleRequest, draft: Draft) -> list[tuple[str, str]]:
    """Why there is nothing to review yet, by the fields of the form; empty: there is."""
    written, people, why = await read(it, draft)
    kind, found = draft.message.get("kind", ""), list[tuple[str, str]]()
    text = {"write": "body", "gmail": "copies", "job": "as_job"}.get(kind, "template")
    if not draft.message.get("sender"):
        found.append(("sender", t("Choose a sender.")))
    if kind == "write" and not draft.message.get("subject"):
        found.append(("subject", t("Enter a subject.")))
    found += [(text, each) for each in why]
    if written is None and not why:
        found.append((text, t("Choose a template, write a message, or copy a draft.")))
    if names := sorted(missing(people, written)):
        found.append((text, t("No column for: {names}", names=", ".join(names))))
    return found


async def make(
    it: ConsoleRequest, written: DraftMessage, reader: RecipientData
) -> Content | list[RenderError]:
    """The message of one recipient, or why it cannot be made."""
    return (
        await it.services.renderer.render(written.template, [reader], origin=f"key {it.key.name}")
    )[0]


def version_of(draft: Draft, reader: RecipientData | None) -> str:
    """What stands in the address of the preview, so that another message is another address."""
    shown = json.dumps([draft.message, reader], ensure_ascii=False).encode("utf-8", "surrogatepass")
    return sha256(shown).hexdigest()[:12]


MAX_HINTS: Final = 3
"""Errors of a message that are shown with the column that may be meant."""
_MAX_COMPARED: Final = 40
"""Characters of a name by which the nearest is found: comparing takes their square."""


async def hints(errors: Sequence[RenderError], columns: Collection[str]) -> list[str]:
    """Why a message cannot be made; of variables that are missing, with the columns that are
    nearest to them.
    """
    first = await asyncio.to_thread(lambda: [_hint(each, columns) for each in errors[:MAX_HINTS]])
    return [*first, *(_named(each.part, each.line, each.reason) for each in errors[MAX_HINTS:])]


def _hint(error: RenderError, columns: Collection[str]) -> Text:
    text = _named(error.part, error.line, error.reason)
    others = {each[:_MAX_COMPARED]: each for each in columns if each and each != error.variable}
    near = get_close_matches(error.variable[:_MAX_COMPARED], others, n=1) if error.variable else []
    return t("{text}. Did you mean {name}?", text=text, name=others[near[0]]) if near else text


async def html(it: ConsoleRequest, draft: Draft) -> web.StreamResponse:
    """The message of one person, for a frame that runs nothing and loads nothing."""
    written, people, why = await read(it, draft, person_of(it.http.query.get("person", "")))
    language = it.http.query.get("in", "")
    known = written.languages if written else ()
    reader = reader_of(people, _dead_link(it, draft), language if language in known else "")
    if written is None or reader is None:
        return await frame(it, why[0] if why else "", {})
    made = await make(it, written, reader)
    return await frame(it, made if isinstance(made, Content) else str(made[0]), written.pictures)


def _dead_link(it: ConsoleRequest, draft: Draft) -> str:
    """An unsubscribe link that does nothing, where there is a list."""
    public = it.services.settings.public.base_url if draft.message.get("list") else ""
    return f"{public}/u/{DEAD_TOKEN}" if public else ""
