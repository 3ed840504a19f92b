"""What the search in the header finds: jobs and people, as GET /api/search does."""

import re
from typing import Any, Final

from aiohttp import web

from mailerd.store.read.lookup import Hits, Search, searchable
from mailerd.web.frame.services import TIMEOUT, ConsoleRequest

MAX_FOUND: Final = 20
"""Jobs, and people, that are shown."""
_ID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}|[0-9]{1,19}|[^/@\s]+@[^/@\s]+", re.IGNORECASE)
"""What in the address of a page that does not exist is worth a search: an ID, or the address of a
person.
"""


async def show(it: ConsoleRequest) -> web.Response:
    """The page; without a text only the form."""
    given = it.http.query.get("q", "")
    try:
        text = searchable(given) if given else ""
    except ValueError as error:
        return await _page(it, given, "", wrong=str(error), status=422)
    return await _page(it, given, text)


async def lost(it: ConsoleRequest) -> web.Response:
    """What stands in place of a page that does not exist: what is found of the ID in its
    address.
    """
    last = it.http.path.rstrip("/").rpartition("/")[2]
    text = last if _ID.fullmatch(last) else ""
    return await _page(it, text, text, status=404, lost=True)


async def _page(
    it: ConsoleRequest,
    given: str,
    text: str,
    *,
    wrong: str = "",
    status: int = 200,
    lost: bool = False,
) -> web.Response:
    search, found = (
        Search(it.services.database, timeout=TIMEOUT, senders=it.key.senders),
        dict[str, Hits[Any]](),
    )
    if text:
        found["jobs"] = await search.jobs(text, limit=MAX_FOUND)
        found["people"] = await search.people(text, limit=MAX_FOUND)
    return it.page(
        "search.html",
        status=status,
        active="search",
        text=given,
        wrong=wrong,
        found=found,
        lost=lost,
        live=False,
    )
