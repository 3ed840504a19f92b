"""The table of a draft: who gets the message, what the columns mean, and what was decided about problems."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Final

from mailerd.core.i18n import Text, t
from mailerd.core.notices import Kind
from mailerd.core.suppression import Reason, canonical, why_suppressed
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
from mailerd.mail.templates import RecipientData
from mailerd.store.drafts import PEOPLE, Draft
from mailerd.store.earlier_jobs import EarlierJobs
from mailerd.store.suppressions import Suppressions
from mailerd.web.draft import OWN, DraftMessage, drafts
from mailerd.web.services import TIMEOUT, ConsoleRequest

WITHOUT_REPLY: Final = "without_reply"
"""The job, in the mapping of a table that was made of those who had not replied to it."""
LARGE: Final = 256 * 1024
"""Bytes, compressed, from which on few tables are checked at a time: one takes up to half a gigabyte meanwhile."""


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

    def reader(self, number: int, link: str = "", language: str = "") -> RecipientData | None:
        """The recipient of a number from 1, as the template sees it. `language`: another one than the table says."""
        if not 1 <= number <= len(self.checked.recipients):
            return None
        one = self.checked.recipients[number - 1] | ({"language": language} if language else {})
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


@asynccontextmanager
async def packed_table(it: ConsoleRequest, draft: Draft) -> AsyncIterator[bytes]:
    """The table of a draft, to be unpacked: one of a key at a time, and large ones of two keys.

    Raises:
        ApiError: 429, 503: there was no place in time.
    """
    shares = it.services.shares
    async with shares.tables.place(it.key):
        packed = await drafts(it).read(draft, PEOPLE)
        async with shares.large_tables.place(it.key) if len(packed) > LARGE else nullcontext():
            yield packed


async def read_people(it: ConsoleRequest, draft: Draft, written: DraftMessage | None) -> People:
    """The table of a draft. `written`: its message; None: not known yet."""
    used, given = (written.names, written.given) if written else (None, frozenset[str]())
    async with packed_table(it, draft) as packed:
        people = await asyncio.to_thread(_checked, packed, draft, used, given)
    addresses = [each["email"] for each in people.checked.recipients]
    suppressions = await Suppressions.open(it.services.database, timeout=TIMEOUT)
    named = draft.message.get("list", "")
    mailing_list = await suppressions.list_named(named) if named else None
    reasons = await suppressions.binding(addresses, list_id=mailing_list.id if mailing_list else None)
    found = await _heard_of(it, draft, addresses) | {
        address: (
            ProblemKind.UNSUBSCRIBED if why is Reason.UNSUBSCRIBED else ProblemKind.SUPPRESSED,
            why_suppressed(why),
        )
        for address, why in reasons.items()
    }
    return replace(people, checked=await asyncio.to_thread(people.checked.without, found)) if found else people


async def _heard_of(it: ConsoleRequest, draft: Draft, addresses: list[str]) -> dict[str, tuple[ProblemKind, Text]]:
    """Who has replied to an earlier job, or left its list, since those without a reply became this table."""
    if (job := draft.mapping.get(WITHOUT_REPLY)) is None:
        return {}
    people = await EarlierJobs(it.services.database, TIMEOUT).heard_of(job)
    replied = (ProblemKind.REPLIED, t("has replied since"))
    left = (ProblemKind.UNSUBSCRIBED, why_suppressed(Reason.UNSUBSCRIBED))
    return {
        address: replied if kind is Kind.REPLY else left
        for address in addresses
        if (kind := people.get(canonical(address)))
    }


def _checked(packed: bytes, draft: Draft, used: frozenset[str] | None, given: frozenset[str]) -> People:
    sheet, header = Sheet.unpack(packed), draft.mapping["header"]
    wanted = (used or frozenset()).difference(OWN, draft.message.get("variables", ()))
    columns = columns_of(sheet, header, wanted=wanted)
    chosen = {int(index): use for index, use in draft.mapping["uses"].items()}
    uses = guessed_uses(columns) | {each.index: chosen[each.index] for each in columns if each.index in chosen}
    errors = mapping_errors(columns, uses, wanted=wanted.difference(given))
    checked = (
        CheckedTable([], [], [], [], 0) if errors else check(sheet, header, uses, used=used, decisions=decisions(draft))
    )
    return People(sheet, header, columns, uses, errors, checked)
