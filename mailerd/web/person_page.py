"""One person: every message over all jobs, and what keeps messages from that person."""

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.mail.mime import Addresses
from mailerd.store.api_keys import Permission
from mailerd.store.jobs import Recipients
from mailerd.store.suppressions import Suppressions
from mailerd.web.services import MAX_LISTED, TIMEOUT, ConsoleRequest


async def show(it: ConsoleRequest) -> web.Response:
    """The page; without an address only the form."""
    given = it.http.query.get("email", "").strip()
    if not given:
        return it.page("person.html", active="people", email="", wrong="", messages=[], more=None, kept=[], live=False)
    try:
        email = Addresses().check(given)
    except ValueError as error:
        wrong = t("The address {why}.", why=str(error))
        return it.page(
            "person.html", active="people", email=given, wrong=wrong, messages=[], more=None, kept=[], live=False
        )
    database = it.services.database
    found = await Recipients(database, timeout=TIMEOUT).of_person(
        email, before=it.number("before"), limit=MAX_LISTED + 1, senders=it.key.senders
    )
    kept = []
    if it.may(Permission.SUPPRESS):
        kept = await (await Suppressions.open(database, timeout=TIMEOUT)).of(email)
    return it.page(
        "person.html", active="people", email=email, wrong="", messages=found[:MAX_LISTED],
        more=found[MAX_LISTED - 1].id if len(found) > MAX_LISTED else None, kept=kept, live=False,
    )  # fmt: skip
