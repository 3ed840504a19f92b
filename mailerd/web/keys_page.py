"""API keys: who may do what."""

from datetime import timedelta
from typing import Final

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.operations.inputs import WrongFieldError
from mailerd.store.api_keys import KeyChoiceError, KeyNameError, Permission, choice
from mailerd.store.webhooks import Webhooks
from mailerd.web.forms import Form, mailboxes, read_form
from mailerd.web.services import TIMEOUT, ConsoleRequest

_PERMISSIONS: Final = {
    Permission.SEND: t("Send jobs and dry runs"), Permission.READ: t("See jobs, recipients, results and templates"),
    Permission.CONTROL: t("Pause, resume, cancel and retry jobs"),
    Permission.OVERRIDE: t("Send to unsubscribed addresses"), Permission.SUPPRESS: t("Change suppressions and lists"),
    Permission.WEBHOOKS: t("Change webhooks"), Permission.SENDERS: t("Change the limits of senders"),
    Permission.TEMPLATES: t("Change templates"),
}  # fmt: skip
ALL: Final = "all"
"""What the form calls every sender, or every permission."""
OVERLAP: Final = timedelta(days=1)
"""For how long a rotated key's old secret is good."""


async def show(it: ConsoleRequest) -> web.Response:
    """The page; a limited key sees itself."""
    return await _page(it)


async def _page(it: ConsoleRequest, *, secret: str = "", trouble: str = "", given: Form | None = None) -> web.Response:
    keys = await it.services.keys.all() if it.key.is_admin else [it.key]
    return it.page(
        "keys.html", status=422 if trouble else 200, active="keys", trouble=trouble,
        keys=keys, secret=secret, permissions=_PERMISSIONS.items(), live=False, given=given,
    )  # fmt: skip


async def act(it: ConsoleRequest) -> web.Response:
    """Make, rotate or revoke a key."""
    it.require_admin()
    form = await read_form(it.http)
    keys, name = it.services.keys, form.text("name")
    what = t("key {key}", key=name)
    try:
        match form.text("action"):
            case "create":
                ticked = form.all("permission")
                senders = choice(mailboxes(form.text("senders")), is_all=form.text("all_senders") == ALL)
                permissions = choice([each for each in Permission if each in ticked], is_all=ALL in ticked)
                secret = await keys.create(name, senders=senders, permissions=permissions)
                it.log_change(what, "made")
                return await _page(it, secret=secret)
            case "rotate":
                secret = await keys.rotate(name, overlap=OVERLAP, seen=form.text("hint") or None)
                it.log_change(what, "rotated")
                return await _page(it, secret=secret)
            case "revoke":
                number = await keys.revoke(name)
                it.log_change(what, "revoked")
                if go_on := await Webhooks(it.services.database, timeout=TIMEOUT).made_by(number):
                    said = t("Key revoked. Its webhook endpoints stay active: {names}", names=", ".join(go_on))
                    return it.back("/keys", said)
                return it.back("/keys", t("Key revoked."))
            case _:
                return it.back("/keys")
    except (KeyChoiceError, KeyNameError, WrongFieldError) as error:
        return await _page(it, trouble=str(error), given=form if form.text("action") == "create" else None)
