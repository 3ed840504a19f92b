"""What the search in the header finds: jobs and people, as GET /api/search does."""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from mailerd.store.lookup import Search, searchable
from mailerd.web.services import TIMEOUT, ConsoleRequest

MAX_FOUND: Final = 20
"""Jobs, and people, that are shown."""


async def show(it: ConsoleRequest) -> web.Response:
    """The page; without a text only the form."""
    given, wrong = it.http.query.get("q", ""), ""
    found: Mapping[str, Any] = {}
    try:
        text = searchable(given) if given else ""
    except ValueError as error:
        text, wrong = "", str(error)
    if text:
        search = Search(it.services.database, timeout=TIMEOUT, senders=it.key.senders)
        found = {
            "jobs": await search.jobs(text, limit=MAX_FOUND), "people": await search.people(text, limit=MAX_FOUND),
        }  # fmt: skip
    return it.page(
        "search.html", status=422 if wrong else 200, active="search", text=given, wrong=wrong, found=found, live=False
    )
