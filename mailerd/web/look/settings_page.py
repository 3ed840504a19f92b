"""The settings: the way to every page about the installation, and what runs here."""

import platform
from typing import Final

from aiohttp import web

from mailerd import __version__
from mailerd.core.i18n import t
from mailerd.store.write.api_keys import Permission
from mailerd.web.frame.services import ConsoleRequest

_SECTIONS: Final[tuple[tuple[str, str, str], ...]] = (
    ("/status", t("Health"), t("What is wrong now, when it began, and how to fix it.")),
    ("/activity", t("Activity"), t("Who changed what, and when.")),
    ("/keys", t("API keys"), t("Who may send, read and change what.")),
    (
        "/webhooks",
        t("Webhooks"),
        t("Addresses that mailerd notifies of bounces, replies and results."),
    ),
    ("/docs/api", t("API reference"), t("Every call of the API, with examples.")),
)


async def show(it: ConsoleRequest) -> web.Response:
    """The page; it leads nowhere where the key may not go."""
    shown = [one for one in _SECTIONS if one[0] != "/webhooks" or it.may(Permission.WEBHOOKS)]
    return it.page(
        "settings.html",
        active="settings",
        sections=shown,
        live=False,
        version=__version__,
        python=platform.python_version(),
        server=it.services.database.where if it.key.is_admin else "",
    )
