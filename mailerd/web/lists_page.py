"""Suppressions and lists: who gets no messages, why, and since when; adding and ending them."""

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.core.suppression import EVERYTHING, EVERYTHING_NAME, Channel, Reason, masked
from mailerd.events.intake import SuppressionEvents
from mailerd.mail.mime import Addresses
from mailerd.store.api_keys import Permission
from mailerd.store.list_names import ListNameError
from mailerd.store.suppressions import NewSuppression, Suppression, Suppressions, place_of
from mailerd.web.forms import Form, read_form
from mailerd.web.jobs_page import NO_CHANGE
from mailerd.web.services import MAX_LISTED, TIMEOUT, ConsoleRequest


async def _suppressions(it: ConsoleRequest) -> Suppressions:
    return await Suppressions.open(it.services.database, timeout=TIMEOUT)


async def show(it: ConsoleRequest) -> web.Response:
    """A page of them, the oldest first, or those of one address; and a page of the lists."""
    it.require(Permission.SUPPRESS)
    return await _page(it, await _suppressions(it))


async def _page(it: ConsoleRequest, suppressions: Suppressions, *, trouble: str = "") -> web.Response:
    query = it.http.query
    lists = await suppressions.lists(after=query.get("lists", ""), limit=MAX_LISTED + 1)
    named, email = query.get("list", "").strip(), query.get("email", "").strip()
    chosen = await suppressions.list_named(named) if named else None
    reason = Reason(query["reason"]) if query.get("reason") in set(Reason) else None
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
    shown = found[:MAX_LISTED]
    return it.page(
        "lists.html", status=422 if trouble else 200, active="suppressions", trouble=trouble,
        suppressions=shown, lists=lists[:MAX_LISTED], named=named, chosen=chosen,
        reason=reason, reasons=list(Reason), email=email, live=False,
        more=shown[-1].cursor if len(found) > MAX_LISTED else "",
        more_lists=lists[MAX_LISTED - 1].name if len(lists) > MAX_LISTED else "",
    )  # fmt: skip


async def act(it: ConsoleRequest) -> web.Response:
    """Add one, end one, or make a list."""
    it.require(Permission.SUPPRESS)
    form = await read_form(it.http)
    suppressions = await _suppressions(it)
    match action := form.text("action"):
        case "list":
            return await _make_list(it, suppressions, form)
        case "add" | "remove":
            return await _change(it, suppressions, form, action)
        case _:
            return it.back("/suppressions", NO_CHANGE)


async def _make_list(it: ConsoleRequest, suppressions: Suppressions, form: Form) -> web.Response:
    try:
        made = await suppressions.make_list(form.text("list"), title=form.text("title") or None)
    except ListNameError as error:
        return await _page(it, suppressions, trouble=str(error))
    it.services.events.console_changed(actor=it.actor, what=t("list {name}", name=made.name), change="made")
    return it.back("/suppressions", t("List {name} created.", name=made.name))


async def _change(it: ConsoleRequest, suppressions: Suppressions, form: Form, action: str) -> web.Response:
    here, name = "/suppressions", form.text("list")
    if not name and any(form.all("list")):  # blanks are no name, and must not stand for all messages
        return it.back(here, t("Nothing was changed: this list does not exist."))
    try:
        email = Addresses().check(form.text("email"))
    except ValueError as error:
        return it.back(here, t("The address {why}.", why=str(error)))
    list_id = await _list_id(suppressions, name)
    if list_id is None:
        return it.back(here, t("Nothing was changed: this list does not exist."))
    digest = suppressions.digest(email)
    if action == "remove":
        changed = await suppressions.remove(digest, list_id=list_id, source=Channel.API, actor=it.actor)
    else:
        new = NewSuppression(digest, list_id, Reason.MANUAL, Channel.API, email, actor=it.actor)
        changed = bool((await suppressions.add([new])).changed)
    if not changed:
        return it.back(here, NO_CHANGE)
    events, mailing_list = SuppressionEvents(it.services.events.sink), name or EVERYTHING_NAME
    it.services.events.console_changed(actor=it.actor, what=t("suppressions"), change=action)
    if action == "remove":
        events.suppression_removed(address=masked(email), mailing_list=mailing_list, source=Channel.API)
    else:
        events.suppression_added(
            address=masked(email), mailing_list=mailing_list, reason=Reason.MANUAL, source=Channel.API
        )
    return it.back(here, t("Suppression ended.") if action == "remove" else t("Address suppressed."))


async def _list_id(suppressions: Suppressions, name: str) -> int | None:
    if not name:
        return EVERYTHING
    found = await suppressions.list_named(name)
    return found.id if found else None
