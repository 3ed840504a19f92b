"""API keys, and the log of what people and programs asked for."""

from datetime import timedelta
from typing import Final

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.core.suppression import EVERYTHING_NAME
from mailerd.mail.mime import mailbox
from mailerd.store.api_keys import KeyNameError, Permission
from mailerd.store.webhooks import Webhooks
from mailerd.web.forms import Form, read_form
from mailerd.web.services import MAX_LISTED, TIMEOUT, ConsoleRequest

OVERLAP: Final = timedelta(days=1)
"""For how long a rotated key's old secret is good."""


async def show(it: ConsoleRequest) -> web.Response:
    """The page; a limited key sees itself and the actions on its own jobs."""
    return await _page(it)


async def _page(it: ConsoleRequest, *, secret: str = "", trouble: str = "") -> web.Response:
    log = await it.services.queries.action_log(limit=MAX_LISTED + 1, before=it.number("before"), senders=it.key.senders)
    keys = await it.services.keys.all() if it.key.is_admin else [it.key]
    return it.page(
        "keys.html", status=422 if trouble else 200, active="keys", trouble=trouble,
        keys=keys, log=log[:MAX_LISTED], secret=secret, permissions=list(Permission),
        everything=EVERYTHING_NAME,
        more=log[MAX_LISTED - 1].id if len(log) > MAX_LISTED else None, live=False,
    )  # fmt: skip


async def act(it: ConsoleRequest) -> web.Response:
    """Make, rotate or revoke a key."""
    it.require_admin()
    form = await read_form(it.http)
    try:
        return await _act(it, form)
    except KeyNameError as error:
        return await _page(it, trouble=str(error))


async def _act(it: ConsoleRequest, form: Form) -> web.Response:
    keys, events, name = it.services.keys, it.services.events, form.text("name")
    match form.text("action"):
        case "create":
            try:
                senders = {mailbox(each) for each in form.text("senders").split(",") if each.strip()}
            except ValueError as error:
                return await _page(it, trouble=str(error))
            known = set(Permission)
            chosen = [Permission(each) for each in form.all("permission") if each in known]
            secret = await keys.create(name, senders=senders, permissions=chosen)
            events.console_changed(actor=it.actor, what=t("key {key}", key=name), change="made")
            return await _page(it, secret=secret)
        case "rotate":
            secret = await keys.rotate(name, overlap=OVERLAP, seen=form.text("hint") or None)
            events.console_changed(actor=it.actor, what=t("key {key}", key=name), change="rotated")
            return await _page(it, secret=secret)
        case "revoke":
            number = await keys.revoke(name)
            events.console_changed(actor=it.actor, what=t("key {key}", key=name), change="revoked")
            if go_on := await Webhooks(it.services.database, timeout=TIMEOUT).made_by(number):
                said = t("Key revoked. Its webhook endpoints stay active: {names}", names=", ".join(go_on))
                return it.back("/keys", said)
            return it.back("/keys", t("Key revoked."))
        case _:
            return it.back("/keys")
