"""Suppressions and lists: who gets no messages, why, and since when; adding, importing, exporting and ending them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import nullcontext
from typing import Final
from urllib.parse import quote

from aiohttp import web

from mailerd.core.i18n import Text, t, tn
from mailerd.core.suppression import EVERYTHING, EVERYTHING_NAME, Channel, Reason, masked
from mailerd.events.intake import SuppressionEvents
from mailerd.http.auth import LARGE_BODY
from mailerd.http.errors import not_allowed
from mailerd.http.responses import ROWS_AT_ONCE, Rows, write_csv
from mailerd.mail.mime import Addresses
from mailerd.mail.suppression_table import EXPORTED, SuppressionTableError, read_file
from mailerd.store.api_keys import Permission
from mailerd.store.db.connection import rfc3339
from mailerd.store.list_names import ListNameError
from mailerd.store.suppressions import (
    LimitedKeyError,
    MailingList,
    NewSuppression,
    OthersListError,
    Suppression,
    Suppressions,
    place_of,
)
from mailerd.web.forms import Form, read_form
from mailerd.web.jobs_page import NO_CHANGE
from mailerd.web.services import MAX_LISTED, TIMEOUT, ConsoleRequest, split_page

MAX_IMPORT: Final = 4 * 1024 * 1024
"""Bytes of a file that is imported."""
MAX_IMPORTED: Final = 10_000
"""Its most rows: as many as one request of the API may have."""
MAX_SHOWN: Final = 10
"""Rows without a valid address that are named."""


async def _suppressions(it: ConsoleRequest, *, timeout: float = TIMEOUT) -> Suppressions:  # noqa: ASYNC109
    it.require(Permission.SUPPRESS)
    return await Suppressions.open(it.services.database, timeout=timeout, limited_to=it.key)


async def show(it: ConsoleRequest) -> web.Response:
    """A page of them, the oldest first, or those of one address."""
    return await _page(it, await _suppressions(it))


def _reason(it: ConsoleRequest) -> Reason | None:
    given = it.http.query.get("reason")
    return Reason(given) if given in set(Reason) else None


async def _page(it: ConsoleRequest, suppressions: Suppressions, *trouble: str) -> web.Response:
    query, reason = it.http.query, _reason(it)
    named, email = query.get("list", "").strip(), query.get("email", "").strip()
    chosen = await suppressions.list_named(named) if named else None
    found: list[Suppression] = []
    if email:
        found = [
            one for one in await suppressions.of(email)
            if reason in {None, one.reason} and (not named or (chosen and one.list_id == chosen.id))
        ]  # fmt: skip
    elif chosen or not named:
        found = await suppressions.page(
            list_id=chosen.id if chosen else None, reason=reason, after=place_of(query.get("after", "")),
            limit=MAX_LISTED + 1,
        )  # fmt: skip
    shown, last = split_page(found)
    return it.page(
        "suppressions.html", status=422 if trouble else 200, active="people", trouble=trouble, suppressions=shown,
        lists=await suppressions.lists(limit=MAX_LISTED), named=named, chosen=chosen, reason=reason,
        reasons=list(Reason), email=email, live=False, more=last and last.cursor,
    )  # fmt: skip


async def results(it: ConsoleRequest) -> web.StreamResponse:
    """All of them as CSV, or those of a list or with a reason, as an import reads them."""
    suppressions, named, reason = await _suppressions(it), it.http.query.get("list"), _reason(it)
    chosen = await suppressions.list_named(named) if named else None
    if named and chosen is None:
        it.missing()
    shares = it.services.shares

    async def pages() -> AsyncGenerator[Rows]:
        after, list_id = None, chosen.id if chosen else None
        while page := await suppressions.page(list_id=list_id, reason=reason, after=after, limit=ROWS_AT_ONCE):
            yield [(one.address or one.digest.hex(), one.list_name or "", one.reason.value, one.source.value,
                    one.detail, rfc3339(one.created_at), one.origin) for one in page]  # fmt: skip
            after = page[-1].place
            await shares.rows.turn()

    async with shares.downloads.place(it.key):
        columns = (*EXPORTED, "detail", "created_at", "origin")
        return await write_csv(it.http, pages(), columns=columns, filename="suppressions.csv")


async def lists(it: ConsoleRequest, trouble: str = "") -> web.Response:
    """A page of the lists, by name."""
    suppressions = await _suppressions(it)
    shown, last = split_page(await suppressions.lists(after=it.http.query.get("after", ""), limit=MAX_LISTED + 1))
    return it.page(
        "lists.html", status=422 if trouble else 200, active="people", trouble=trouble, lists=shown, live=False,
        more=last and last.name,
    )  # fmt: skip


async def make_list(it: ConsoleRequest) -> web.Response:
    """Make a list, or give one another title."""
    suppressions, form = await _suppressions(it), await read_form(it.http)
    try:
        made = await suppressions.make_list(form.text("list"), title=form.text("title") or None)
    except (ListNameError, OthersListError) as error:
        return await lists(it, str(error))
    it.log_change(t("list {name}", name=made.name), "made")
    return it.back("/lists", t("List {name} created.", name=made.name))


async def act(it: ConsoleRequest) -> web.Response:
    """Add one, end one, or import a file."""
    suppressions, shares, length = await _suppressions(it), it.services.shares, it.http.content_length
    is_large = length is None or length > LARGE_BODY
    async with shares.large_bodies.place(it.key) if is_large else nullcontext():
        form = await read_form(it.http, most=MAX_IMPORT, large=("table",))
        match action := form.text("action"):
            case "add" | "remove":
                return await _change(it, suppressions, form, action)
            case "import":
                async with shares.checks.place(it.key):
                    patience = it.services.settings.database.connect_timeout
                    return await _import(it, await _suppressions(it, timeout=patience), form)
            case _:
                return it.back("/suppressions", NO_CHANGE)


async def _import(it: ConsoleRequest, suppressions: Suppressions, form: Form) -> web.Response:
    """Suppress every address of a file; rows without one are named. Again, it changes nothing."""
    name, bad = form.text("list"), list[Text]()
    try:
        rows = await asyncio.to_thread(read_file, form.content("table"), bad, most=MAX_IMPORTED)
        ids = await suppressions.make_lists({(name or its_list or None, why) for _, its_list, why in rows})
    except (SuppressionTableError, ListNameError) as error:
        return await _page(it, suppressions, str(error))
    except LimitedKeyError as error:
        raise not_allowed(str(error)) from None

    def new() -> list[NewSuppression]:
        return [
            NewSuppression(
                suppressions.digest(email), ids[name or its_list or None], why, Channel.IMPORT, email, actor=it.actor
            )
            for email, its_list, why in rows
        ]

    added = await suppressions.add(await asyncio.to_thread(new))
    if added.changed:
        it.log_change(t("suppressions"), "import")
    done = t("{read}, {new:,} newly suppressed.", new=len(added.changed),
             read=tn("{n:,} address read", "{n:,} addresses read", len(rows)))  # fmt: skip
    if not bad:
        return it.back("/suppressions", done)
    skipped = [t("Skipped: {what}", what=each) for each in bad[:MAX_SHOWN]]
    if (more := len(bad) - MAX_SHOWN) > 0:
        skipped.append(tn("{n:,} more row was skipped.", "{n:,} more rows were skipped.", more))
    return await _page(it, suppressions, done, *skipped)


async def _change(it: ConsoleRequest, suppressions: Suppressions, form: Form, action: str) -> web.Response:
    here, given = "/suppressions", next(iter(form.all("list")), "")
    try:
        email = Addresses().check(form.text("email"))
    except ValueError as error:
        return it.back(here, t("The address {why}.", why=str(error)))
    if form.text("to") == "person":
        here = f"/people?email={quote(email)}"
    # Blanks are the name of no list, and must not stand for all messages.
    mailing_list = await suppressions.list_named(given.strip()) if given else None
    if given and mailing_list is None:
        return it.back(here, t("Nothing was changed: this list does not exist."))
    try:
        if action == "remove":
            changed, done = await _end(it, suppressions, form, email, mailing_list)
        else:
            changed, done = await _add(it, suppressions, email, mailing_list)
    except LimitedKeyError as error:
        raise not_allowed(str(error)) from None
    if not changed:
        return it.back(here, NO_CHANGE)
    it.log_change(t("suppressions"), action)
    return it.back(here, done)


async def _end(
    it: ConsoleRequest, suppressions: Suppressions, form: Form, email: str, mailing_list: MailingList | None
) -> tuple[bool, Text]:
    """End the one of a row, of which the form names the origin; whether it was there, and what is said then."""
    changed, still_out = await suppressions.remove(
        suppressions.digest(email), list_id=mailing_list.id if mailing_list else EVERYTHING, source=Channel.API,
        origin=next(iter(form.all("origin")), None), actor=it.actor,
    )  # fmt: skip
    if changed:
        SuppressionEvents(it.services.events.sink).suppression_removed(
            address=masked(email), mailing_list=_named(mailing_list), source=Channel.API
        )
    if still_out:
        return changed, t("Suppression ended. Another one still keeps these messages from the address.")
    return changed, t("Suppression ended.")


async def _add(
    it: ConsoleRequest, suppressions: Suppressions, email: str, mailing_list: MailingList | None
) -> tuple[bool, Text]:
    """Add one; whether it is new, and what is said then."""
    list_id = mailing_list.id if mailing_list else EVERYTHING
    new = NewSuppression(suppressions.digest(email), list_id, Reason.MANUAL, Channel.API, email, actor=it.actor)
    changed = bool((await suppressions.add([new])).changed)
    if changed:
        SuppressionEvents(it.services.events.sink).suppression_added(
            address=masked(email), mailing_list=_named(mailing_list), reason=Reason.MANUAL, source=Channel.API
        )
    return changed, t("Address suppressed.")


def _named(mailing_list: MailingList | None) -> str:
    return mailing_list.name if mailing_list else EVERYTHING_NAME
