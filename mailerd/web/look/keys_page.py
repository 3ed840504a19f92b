"""API keys: who may do what."""

from typing import Final

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.operations import keys
from mailerd.operations.inputs import WrongFieldError
from mailerd.store.write.api_keys import KeyChoiceError, KeyNameError, Permission, choice
from mailerd.web.frame.forms import Form, mailboxes, read_form
from mailerd.web.frame.services import ConsoleRequest

_PERMISSIONS: Final = {
    Permission.SEND: t("Send jobs and dry runs"),
    Permission.READ: t("See jobs, recipients, results and templates"),
    Permission.CONTROL: t("Pause, resume, cancel and retry jobs"),
    Permission.OVERRIDE: t("Send to unsubscribed addresses"),
    Permission.SUPPRESS: t("Change suppressions and lists"),
    Permission.WEBHOOKS: t("Change webhooks"),
    Permission.SENDERS: t("Change the limits of senders"),
    Permission.TEMPLATES: t("Change templates"),
}
ALL: Final = "all"
"""What the form calls every sender, or every permission."""


async def show(it: ConsoleRequest) -> web.Response:
    """The page; a limited key sees itself."""
    return await _page(it)


async def _page(
    it: ConsoleRequest, *, secret: str = "", trouble: str = "", given: Form | None = None
) -> web.Response:
    return it.page(
        "keys.html",
        status=422 if trouble else 200,
        active="keys",
        trouble=trouble,
        keys=await keys.index(it.caller),
        secret=secret,
        permissions=_PERMISSIONS.items(),
        live=False,
        given=given,
    )


async def act(it: ConsoleRequest) -> web.Response:
    """Make, rotate or revoke a key."""
    it.require_admin()
    form = await read_form(it.http)
    name = form.text("name")
    try:
        match form.text("action"):
            case "create":
                ticked = form.all("permission")
                senders = choice(
                    mailboxes(form.text("senders")), is_all=form.text("all_senders") == ALL
                )
                permissions = choice(
                    [each for each in Permission if each in ticked], is_all=ALL in ticked
                )
                secret = await keys.create(
                    it.caller, name, senders=senders, permissions=permissions
                )
                return await _page(it, secret=secret)
            case "rotate":
                secret = await keys.rotate(it.caller, name, seen=form.text("hint") or None)
                return await _page(it, secret=secret)
            case "revoke":
                revoked = await keys.revoke(it.caller, name)
                if revoked.webhooks:
                    names = ", ".join(revoked.webhooks)
                    said = t("Key revoked. Its webhook endpoints stay active: {names}", names=names)
                    return it.back("/keys", said)
                return it.back("/keys", t("Key revoked."))
            case _:
                return it.back("/keys")
    except (KeyChoiceError, KeyNameError, WrongFieldError) as error:
        return await _page(
            it, trouble=str(error), given=form if form.text("action") == "create" else None
        )
