"""Suppressions and lists: who gets no messages, why, and since when; adding, importing, exporting
and ending them.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Final
from urllib.parse import quote

from aiohttp import web

from mailerd.core.i18n import Text, t, tn
from mailerd.core.suppression import Reason
from mailerd.http.auth import LARGE_BODY
from mailerd.http.errors import not_allowed
from mailerd.http.responses import Rows, write_csv
from mailerd.mail.mime import Addresses
from mailerd.mail.suppression_table import EXPORTED, SuppressionTableError, read_file
from mailerd.model.suppressions import Suppression, SuppressionPage
from mailerd.operations import suppressions
from mailerd.operations.caller import Caller
from mailerd.operations.inputs import WrongFieldError, read_fields
from mailerd.operations.suppressions import (
    MailingListRequest,
    NotSuppressedError,
    SuppressionRequest,
    UnknownListError,
)
from mailerd.store.db.connection import rfc3339
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.list_names import ListNameError
from mailerd.store.write.suppressions import LimitedKeyError, OthersListError
from mailerd.web.frame.forms import Form, read_form
from mailerd.web.frame.services import MAX_LISTED, ConsoleRequest, split_page
from mailerd.web.look.jobs_page import NO_CHANGE

MAX_IMPORT: Final = 4 * 1024 * 1024
"""Bytes of a file that is imported."""
MAX_IMPORTED: Final = 10_000
"""Its most rows: as many as one request of the API may have."""
MAX_SHOWN: Final = 10
"""Rows without a valid address that are named."""


def _reason(it: ConsoleRequest) -> Reason | None:
    given = it.http.query.get("reason")
    return Reason(given) if given in set(Reason) else None


async def show(it: ConsoleRequest, *trouble: str) -> web.Response:
    """A page of them, the oldest first, or those of one address."""
    query, reason, is_unknown = it.http.query, _reason(it), False
    named, email = query.get("list", "").strip(), query.get("email", "").strip()
    try:
        page = await suppressions.index(
            it.caller,
            mailing_list=named or None,
            reason=reason,
            email=email,
            cursor=query.get("after", ""),
            limit=MAX_LISTED,
        )
    except UnknownListError:
        page, is_unknown = SuppressionPage(suppressions=[], next_cursor=None), True
    known = await suppressions.lists(it.caller, limit=MAX_LISTED)
    return it.page(
        "suppressions.html",
        status=422 if trouble else 200,
        active="people",
        trouble=trouble,
        suppressions=page.suppressions,
        lists=known.lists,
        named=named,
        is_unknown=is_unknown,
        reason=reason,
        reasons=list(Reason),
        email=email,
        live=False,
        more=page.next_cursor,
    )


async def results(it: ConsoleRequest) -> web.StreamResponse:
    """All of them as CSV, or those of a list or with a reason, as an import reads them."""
    async with it.services.shares.downloads.place(it.key):
        try:
            pages = await suppressions.pages(
                it.caller, mailing_list=it.http.query.get("list") or None, reason=_reason(it)
            )
        except UnknownListError:
            it.missing()
        columns = (*EXPORTED, "detail", "created_at", "origin")
        return await write_csv(it.http, _rows(pages), columns=columns, filename="suppressions.csv")


async def _rows(pages: AsyncGenerator[Sequence[Suppression]]) -> AsyncGenerator[Rows]:
    async for page in pages:
        yield [
            (
                it.shown_address,
                it.list or "",
                it.reason.value,
                it.source.value,
                it.detail,
                rfc3339(it.created_at),
                it.origin,
            )
            for it in page
        ]


async def lists(it: ConsoleRequest, trouble: str = "") -> web.Response:
    """A page of the lists, by name."""
    found = await suppressions.lists(
        it.caller, after=it.http.query.get("after", ""), limit=MAX_LISTED + 1
    )
    shown, last = split_page(found.lists)
    return it.page(
        "lists.html",
        status=422 if trouble else 200,
        active="people",
        trouble=trouble,
        lists=shown,
        live=False,
        more=last and last.name,
    )


async def make_list(it: ConsoleRequest) -> web.Response:
    """Make a list, or give one another title."""
    form = await read_form(it.http)
    fields = {"name": form.text("list"), "title": form.text("title") or None}
    try:
        saved = await suppressions.save_list(it.caller, read_fields(MailingListRequest, fields))
    except (WrongFieldError, ListNameError, OthersListError) as error:
        return await lists(it, str(error))
    return it.back("/lists", t("List {name} created.", name=saved.name))


async def act(it: ConsoleRequest) -> web.Response:
    """Add one, end one, or import a file."""
    it.require(Permission.SUPPRESS)  # before a file of some megabytes is read
    shares, length = it.services.shares, it.http.content_length
    is_large = length is None or length > LARGE_BODY
    async with shares.large_bodies.place(it.key) if is_large else nullcontext():
        form = await read_form(it.http, most=MAX_IMPORT, large=("table",))
        try:
            match action := form.text("action"):
                case "add" | "remove":
                    return await _change(it, form, action)
                case "import":
                    async with shares.checks.place(it.key):
                        return await _import(it, form)
                case _:
                    return it.back("/suppressions", NO_CHANGE)
        except LimitedKeyError as error:
            raise not_allowed(str(error)) from None


async def _import(it: ConsoleRequest, form: Form) -> web.Response:
    """Suppress every address of a file; rows without one are named. Again, it changes nothing."""
    name, bad = form.text("list"), list[Text]()
    try:
        read = await asyncio.to_thread(read_file, form.content("table"), bad, most=MAX_IMPORTED)
        rows = [(email, name or its_list or None, reason, None) for email, its_list, reason in read]
        made = await suppressions.import_rows(
            _patient(it), rows, {(its_list, why) for _, its_list, why, _ in rows}
        )
    except (SuppressionTableError, ListNameError) as error:
        return await show(it, str(error))
    done = t(
        "{read}, {new:,} newly suppressed.",
        new=made.added,
        read=tn("{n:,} address read", "{n:,} addresses read", len(rows)),
    )
    if not bad:
        return it.back("/suppressions", done)
    skipped = [t("Skipped: {what}", what=each) for each in bad[:MAX_SHOWN]]
    if (more := len(bad) - MAX_SHOWN) > 0:
        skipped.append(tn("{n:,} more row was skipped.", "{n:,} more rows were skipped.", more))
    return await show(it, done, *skipped)


def _patient(it: ConsoleRequest) -> Caller:
    """Who asks for what takes the database longer than a page."""
    timeout = it.services.settings.database.connect_timeout
    return replace(it.caller, backend=replace(it.caller.backend, timeout=timeout))


async def _change(it: ConsoleRequest, form: Form, action: str) -> web.Response:
    here, by, given = "/suppressions", it.caller, next(iter(form.all("list")), "")
    try:
        email = Addresses().check(form.text("email"))
    except ValueError as error:
        return it.back(here, t("The address {why}.", why=str(error)))
    if form.text("to") == "person":
        here = f"/people?email={quote(email)}"
    # Blanks are the name of no list, and must not stand for all messages.
    name = given.strip() if given else None
    try:
        if action == "remove":  # the one of a row, of which the form names the origin
            origin = next(iter(form.all("origin")), None)
            ended = await suppressions.remove(by, email, mailing_list=name, origin=origin)
            still = t("Suppression ended. Another one still keeps these messages from the address.")
            return it.back(here, still if ended.still_suppressed else t("Suppression ended."))
        new = read_fields(SuppressionRequest, {"email": email, "list": name})
        made = await suppressions.add(by, [new], new_lists=False)
    except (UnknownListError, WrongFieldError):
        return it.back(here, t("Nothing was changed: this list does not exist."))
    except NotSuppressedError:
        return it.back(here, NO_CHANGE)
    return it.back(here, t("Address suppressed.") if made.changed else NO_CHANGE)
