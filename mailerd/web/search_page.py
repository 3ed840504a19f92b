"""What the search in the header finds: jobs and people, as GET /api/search does."""

import re
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from mailerd.store.lookup import Hits, Search, searchable
from mailerd.web.services import TIMEOUT, ConsoleRequest

MAX_FOUND: Final = 20
"""Jobs, and people, that are shown."""


_ID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}|[0-9]{1,19}|[^/@\s]+@[^/@\s]+", re.IGNORECASE)
"""What in the address of a page that does not exist is worth a search: an ID, or the address of a person."""


async def show(it: ConsoleRequest) -> web.Response:
    """The page; without a text only the form."""
    given = it.http.query.get("q", "")
    try:
        text = searchable(given) if given else ""
    except ValueError as error:
        return _page(it, given, {}, wrong=str(error), status=422)
    return _page(it, given, await _found(it, text) if text else {})


async def lost(it: ConsoleRequest) -> web.Response:
    """What stands in place of a page that does not exist: what is found of the ID in its address."""
    last = it.http.path.rstrip("/").rpartition("/")[2]
    is_id = _ID.fullmatch(last) is not None
    return _page(it, last if is_id else "", await _found(it, last) if is_id else {}, status=404, lost=True)


async def _found(it: ConsoleRequest, text: str) -> Mapping[str, Hits[Any]]:
    search = Search(it.services.database, timeout=TIMEOUT, senders=it.key.senders)
    jobs = await search.jobs(text, limit=MAX_FOUND)
    return {"jobs": jobs, "people": await search.people(text, limit=MAX_FOUND)}


def _page(
    it: ConsoleRequest, text: str, found: Mapping[str, Hits[Any]], *, wrong: str = "", status: int = 200,
    lost: bool = False,
) -> web.Response:  # fmt: skip
    return it.page(
        "search.html", status=status, active="search", text=text, wrong=wrong, found=found, lost=lost, live=False
    )
