"""How the message of a draft looks for each of its people, and the senders that it may have."""

import json
from collections.abc import Collection
from difflib import get_close_matches
from hashlib import sha256
from typing import Final

from aiohttp import web

from mailerd.core.i18n import Text, t
from mailerd.core.senders import SenderReading
from mailerd.core.suppression import DEAD_TOKEN
from mailerd.errors import MailerdError
from mailerd.mail.templates import Content, RecipientData, RenderError, TemplateErrors
from mailerd.store.drafts import Draft
from mailerd.store.senders import Senders
from mailerd.web.draft import DraftMessage, People, make, read_message, read_people
from mailerd.web.message_page import frame
from mailerd.web.services import ConsoleRequest, row_number

MAX_SENDERS: Final = 100


async def senders_of(it: ConsoleRequest) -> list[SenderReading]:
    """The senders that the key may use, each with what is left of its day."""
    services = it.services
    senders = Senders(services.database, services.limits.now, services.settings.database.connect_timeout)
    found = {
        each.state.email: each for each in await senders.page(only=it.key.senders, limit=MAX_SENDERS, aliases=None)
    }
    for email in sorted((it.key.senders or set()) - found.keys()):
        found[email] = await senders.unused(email, aliases=None)
    return list(found.values())


async def read(it: ConsoleRequest, draft: Draft) -> tuple[DraftMessage | None, People, list[str]]:
    """The message and the table of a draft, and why the message cannot be used."""
    why = list[str]()
    written = None
    try:
        written = await read_message(it, draft)
    except TemplateErrors as errors:
        why = [_named(each.part, each.line, each.reason) for each in errors.errors]
    except MailerdError as error:
        why = [str(error)]
    return written, await read_people(it, draft, written), why


def _named(part: str, line: int | None, reason: str) -> Text:
    where = t("Subject") if part == "subject" else t("Message")
    if line is None:
        return t("{part}: {reason}", part=where, reason=reason)
    return t("{part}, line {line}: {reason}", part=where, line=line, reason=reason)


def person_of(text: str, people: People) -> int:
    """Whose message is shown, from 1."""
    return min(max(1, row_number(text) or 1), max(1, len(people.checked.recipients)))


def version_of(draft: Draft, reader: RecipientData | None) -> str:
    """What stands in the address of the preview, so that another message is another address."""
    shown = json.dumps([draft.message, reader], ensure_ascii=False).encode("utf-8", "surrogatepass")
    return sha256(shown).hexdigest()[:12]


def hint(error: RenderError, columns: Collection[str]) -> Text:
    """Why a message cannot be made; of a variable that is missing, with the column that is nearest to it."""
    text = _named(error.part, error.line, error.reason)
    near = get_close_matches(error.variable, [each for each in columns if each], n=1) if error.variable else []
    return t("{text}. Did you mean {name}?", text=text, name=near[0]) if near else text


async def html(it: ConsoleRequest, draft: Draft) -> web.Response:
    """The message of one person, for a frame that runs nothing and loads nothing."""
    written, people, why = await read(it, draft)
    reader = people.reader(person_of(it.http.query.get("person", ""), people), _dead_link(it, draft))
    if written is None or reader is None:
        return frame(it, why[0] if why else "", {})
    made = await make(it, written, reader)
    return frame(it, made if isinstance(made, Content) else str(made[0]), written.pictures)


def _dead_link(it: ConsoleRequest, draft: Draft) -> str:
    """An unsubscribe link that does nothing, where there is a list."""
    public = it.services.settings.public.base_url if draft.message.get("list") else ""
    return f"{public}/u/{DEAD_TOKEN}" if public else ""
