"""The table of a draft: who gets the message, what the columns mean, and what was decided about
problems.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from mailerd.core.i18n import Text, t
from mailerd.core.notices import Kind
from mailerd.core.suppression import Reason, canonical, why_suppressed
from mailerd.http.errors import ApiError
from mailerd.http.responses import cannot_render
from mailerd.mail.recipient_table import Decisions, ProblemKind
from mailerd.mail.spreadsheet import SpreadsheetError
from mailerd.mail.table_checker import CheckedDraft, DraftTable, JobRecipients, TableQuestion
from mailerd.mail.templates import RecipientData, RendererError
from mailerd.store.read.earlier_jobs import EarlierJobs
from mailerd.store.write.drafts import PEOPLE, Draft
from mailerd.store.write.suppressions import Suppressions
from mailerd.web.frame.services import TIMEOUT, ConsoleRequest
from mailerd.web.send.draft import OWN, DraftMessage, drafts

WITHOUT_REPLY: Final = "without_reply"
"""The job, in the mapping of a table that was made of those who had not replied to it."""


@dataclass(frozen=True)
class PersonChoice:
    """Whose message is shown, and who is looked for instead, as `TableQuestion` has it."""

    person: int = 1
    sought: str = ""
    text: str = ""


FIRST: Final = PersonChoice()


def reader_of(people: CheckedDraft, link: str = "", language: str = "") -> RecipientData | None:
    """The recipient that is shown, as the template sees it.

    `language`: another one than the table says.
    """
    if people.person is None or people.person.recipient is None:
        return None
    one: Mapping[str, Any] = {**people.person.recipient} | (
        {"language": language} if language else {}
    )
    given = one.get("variables", {}) | ({"language": one["language"]} if "language" in one else {})
    return RecipientData(one["email"], one.get("name"), json.dumps(given, ensure_ascii=False), link)


def decisions(draft: Draft) -> Decisions:
    """What was decided about problems."""
    options = draft.options
    empty: dict[str, str] = options.get("empty", {})
    return Decisions(
        skip_invalid=bool(options.get("skip_invalid")),
        allow_duplicates=bool(options.get("allow_duplicates")),
        defaults={
            name: options.get("defaults", {}).get(name, "")
            for name, it in empty.items()
            if it == "default"
        },
        accepted={name for name, it in empty.items() if it == "accept"},
        skip_empty={name for name, it in empty.items() if it == "skip"},
    )


@asynccontextmanager
async def draft_table(
    it: ConsoleRequest, draft: Draft, *, is_download: bool = False
) -> AsyncIterator[DraftTable]:
    """The table of a draft, to be asked about; as `TableChecker.table`.

    Raises:
        ApiError: 422, it is too large to be used; 503: nothing can be checked now.
    """
    packed = await drafts(it).read(draft, PEOPLE)
    try:
        async with it.services.tables.table(
            packed, origin=f"key {it.key.name}", is_download=is_download
        ) as table:
            yield table
    except SpreadsheetError as error:
        raise ApiError(422, "table_too_large", str(error)) from error
    except RendererError as error:
        raise cannot_render(error) from error


async def read_people(
    it: ConsoleRequest, draft: Draft, written: DraftMessage | None, shown: PersonChoice = FIRST
) -> CheckedDraft:
    """The table of a draft, checked. `written`: its message; None: not known yet."""
    async with draft_table(it, draft) as table:
        return await check_people(it, draft, written, table, shown)


async def read_recipients(
    it: ConsoleRequest, draft: Draft, written: DraftMessage | None
) -> tuple[CheckedDraft, JobRecipients | None]:
    """The same, with the recipients of its job; None: they are larger than a job may be."""
    async with draft_table(it, draft) as table:
        people = await check_people(it, draft, written, table)
        return people, await table.job(most=it.services.settings.intake.max_body)


async def check_people(
    it: ConsoleRequest,
    draft: Draft,
    written: DraftMessage | None,
    table: DraftTable,
    shown: PersonChoice = FIRST,
) -> CheckedDraft:
    """What the table comes to, without those of whom is known here that they get no message."""
    used = written.names if written else None
    question = TableQuestion(
        draft.mapping["header"],
        draft.mapping["uses"],
        wanted=[*(used or frozenset()).difference(OWN, draft.message.get("variables", ()))],
        optional=[*written.given] if written else [],
        used=None if used is None else [*used],
        decisions=decisions(draft),
        person=shown.person,
        sought=shown.sought,
        text=shown.text,
    )
    people, addresses = await table.check(question)
    suppressions = await Suppressions.open(it.services.database, timeout=TIMEOUT, limited_to=it.key)
    named = draft.message.get("list", "")
    mailing_list = await suppressions.list_named(named) if named else None
    reasons = await suppressions.binding(
        addresses, list_id=mailing_list.id if mailing_list else None
    )
    heard = await _heard_of(it, draft)
    found = (
        await asyncio.to_thread(_left_out, addresses, heard, reasons) if heard or reasons else {}
    )
    return (await table.check(question, found))[0] if found else people


def _left_out(
    addresses: Sequence[str], heard: Mapping[str, Kind], reasons: Mapping[str, Reason]
) -> dict[tuple[ProblemKind, Text], list[str]]:
    """Who gets no message, by why; `heard`: by addresses in one form."""
    found = defaultdict[tuple[ProblemKind, Text], list[str]](list)
    for address in addresses:
        if why := reasons.get(address):
            kind = (
                ProblemKind.UNSUBSCRIBED if why is Reason.UNSUBSCRIBED else ProblemKind.SUPPRESSED
            )
            found[kind, why_suppressed(why)].append(address)
        elif (said := heard.get(canonical(address)) if heard else None) is Kind.REPLY:
            found[ProblemKind.REPLIED, t("has replied since")].append(address)
        elif said:
            found[ProblemKind.UNSUBSCRIBED, why_suppressed(Reason.UNSUBSCRIBED)].append(address)
    return found


async def _heard_of(it: ConsoleRequest, draft: Draft) -> dict[str, Kind]:
    """Who has replied to an earlier job, or left its list, since those without a reply became this
    table.
    """
    job = draft.mapping.get(WITHOUT_REPLY)
    return {} if job is None else await EarlierJobs(it.services.database, TIMEOUT).heard_of(job)
