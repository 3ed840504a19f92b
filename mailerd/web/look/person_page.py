"""People: found by the beginning of an address or by name; one person's messages, replies and
suppressions.
"""

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.mail.mime import Addresses
from mailerd.operations import suppressions
from mailerd.store.inbox.mailboxes import NoticeReader
from mailerd.store.read.lookup import Hits, Search, searchable
from mailerd.store.read.recipients import PersonsMessage, Recipients
from mailerd.store.write.api_keys import Permission
from mailerd.web.frame.services import MAX_LISTED, TIMEOUT, ConsoleRequest, split_page


async def show(it: ConsoleRequest) -> web.Response:
    """One person, where the text is a whole address; else all whom it finds.

    Without a text only the form.
    """
    text = it.http.query.get("q", it.http.query.get("email", "")).strip()
    try:
        email = Addresses().check(text) if "@" in text else ""
    except ValueError as error:
        if "email" in it.http.query:
            return _search(it, text, wrong=t("The address {why}.", why=str(error)))
        email = ""
    return await _person(it, email) if email else await _find(it, text)


async def _find(it: ConsoleRequest, text: str) -> web.Response:
    if not text:
        return _search(it, "")
    search = Search(it.services.database, timeout=TIMEOUT, senders=it.key.senders)
    try:
        return _search(it, text, await search.people(searchable(text), limit=MAX_LISTED))
    except ValueError as error:
        return _search(it, text, wrong=t("The text {why}.", why=str(error)))


def _search(
    it: ConsoleRequest, text: str, found: Hits[PersonsMessage] | None = None, *, wrong: str = ""
) -> web.Response:
    return it.page("people.html", active="people", text=text, found=found, wrong=wrong, live=False)


async def _person(it: ConsoleRequest, email: str) -> web.Response:
    database = it.services.database
    found = await Recipients(database, timeout=TIMEOUT).of_person(
        email, before=it.number("before"), limit=MAX_LISTED + 1, senders=it.key.senders
    )
    (messages, last), kept, lists = split_page(found), [], []
    notices = await NoticeReader(database, timeout=TIMEOUT).of_messages(
        [one.id for one in messages], limit=MAX_LISTED
    )
    if may_suppress := it.may(Permission.SUPPRESS):
        kept = (await suppressions.index(it.caller, email=email)).suppressions
        lists = (await suppressions.lists(it.caller, limit=MAX_LISTED)).lists
    return it.page(
        "person.html",
        active="people",
        email=email,
        messages=messages,
        kept=kept,
        lists=lists,
        notices=notices,
        person=next((one.name for one in messages if one.name), ""),
        may_suppress=may_suppress,
        live=False,
        more=last and last.id,
    )
