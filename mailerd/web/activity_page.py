"""Who asked for what: the log of actions, with filters and as CSV."""

from collections.abc import AsyncGenerator
from typing import Final

from aiohttp import web

from mailerd.core.suppression import EVERYTHING_NAME
from mailerd.http.responses import Rows, write_csv
from mailerd.store.console_queries import ActionFilter
from mailerd.web.forms import read_day
from mailerd.web.services import MAX_LISTED, ConsoleRequest

MAX_ROWS: Final = 10_000
"""Actions in one table."""
_FILTERS: Final = ("actor", "action", "about", "from", "until")
ACTIONS: Final = (
    "pause", "resume", "cancel", "retry", "priority", "change", "settle", "limits", "suppress", "unsuppress",
)  # fmt: skip
"""What is offered to choose from."""


async def show(it: ConsoleRequest) -> web.Response:
    """The page; a limited key sees the actions on its own jobs."""
    log = await it.services.queries.action_log(
        limit=MAX_LISTED + 1, before=it.number("before"), senders=it.key.senders, only=_filter(it)
    )
    return it.page(
        "activity.html", active="activity", log=log[:MAX_LISTED], everything=EVERYTHING_NAME, actions=ACTIONS,
        given={name: it.http.query[name] for name in _FILTERS if it.http.query.get(name)}, live=True,
        more=log[MAX_LISTED - 1].id if len(log) > MAX_LISTED else None,
    )  # fmt: skip


async def table(it: ConsoleRequest) -> web.StreamResponse:
    """The same as CSV: the newest MAX_ROWS."""

    async def pages() -> AsyncGenerator[Rows]:
        log = await it.services.queries.action_log(
            limit=MAX_ROWS, before=None, senders=it.key.senders, only=_filter(it)
        )
        yield [
            (f"{each.at:%Y-%m-%dT%H:%M:%SZ}", str(each.actor), each.action, each.detail or "", each.job_id or "",
             each.sender or "", int(each.changed), each.messages)
            for each in log
        ]  # fmt: skip

    columns = ("at", "actor", "action", "detail", "job_id", "sender", "changed", "messages")
    async with it.services.shares.downloads.place(it.key):
        return await write_csv(it.http, pages(), columns=columns, filename="activity.csv")


def _filter(it: ConsoleRequest) -> ActionFilter:
    query = it.http.query
    return ActionFilter(
        actor=query.get("actor", "").strip(), action=query.get("action", ""), about=query.get("about", "").strip(),
        since=read_day(query.get("from", ""), it.zone), until=read_day(query.get("until", ""), it.zone),
    )  # fmt: skip
