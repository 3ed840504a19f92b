"""Who asked for what: the log of actions, with filters and as CSV."""

from collections.abc import AsyncGenerator
from typing import Final

from aiohttp import web

from mailerd.core.suppression import EVERYTHING_NAME
from mailerd.http.responses import Rows, write_csv
from mailerd.store.read.console_queries import ActionFilter, LoggedAction
from mailerd.web.frame.forms import read_day
from mailerd.web.frame.services import MAX_LISTED, ConsoleRequest, split_page

MAX_ROWS: Final = 10_000
"""Actions in one table."""
_FILTERS: Final = ("actor", "action", "about", "from", "until")
ACTIONS: Final = (
    "pause",
    "resume",
    "cancel",
    "retry",
    "priority",
    "change",
    "settle",
    "limits",
    "suppress",
    "unsuppress",
    "save_list",
    "save_template",
    "publish_template",
    "archive_template",
    "create_key",
    "rotate_key",
    "revoke_key",
    "add",
    "rotate",
    "replay",
    "remove",
)
"""What is offered to choose from."""


async def show(it: ConsoleRequest) -> web.Response:
    """The page; a limited key sees the actions on its own jobs."""
    log, last = split_page(await _log(it, it.number("before"), MAX_LISTED + 1))
    return it.page(
        "activity.html",
        active="activity",
        log=log,
        everything=EVERYTHING_NAME,
        actions=ACTIONS,
        live=True,
        given={name: it.http.query[name] for name in _FILTERS if it.http.query.get(name)},
        more=last and last.id,
    )


async def table(it: ConsoleRequest) -> web.StreamResponse:
    """The same as CSV: the newest MAX_ROWS."""

    async def pages() -> AsyncGenerator[Rows]:
        yield [
            (
                f"{each.at:%Y-%m-%dT%H:%M:%SZ}",
                str(each.actor),
                each.action,
                each.detail,
                each.job_id,
                each.sender,
                each.webhook,
                int(each.changed),
                each.messages,
            )
            for each in await _log(it, None, MAX_ROWS)
        ]

    columns = (
        "at",
        "actor",
        "action",
        "detail",
        "job_id",
        "sender",
        "webhook",
        "changed",
        "messages",
    )
    async with it.services.shares.downloads.place(it.key):
        return await write_csv(it.http, pages(), columns=columns, filename="activity.csv")


async def _log(it: ConsoleRequest, before: int | None, limit: int) -> list[LoggedAction]:
    """The newest actions before an id that the filters find and the key may see."""
    query = it.http.query
    only = ActionFilter(
        actor=query.get("actor", "").strip(),
        action=query.get("action", ""),
        about=query.get("about", "").strip(),
        since=read_day(query.get("from", ""), it.zone),
        until=read_day(query.get("until", ""), it.zone),
    )
    return await it.services.queries.action_log(
        limit=limit, before=before, senders=it.key.senders, only=only
    )
