"""What came back: bounces by domain and one by one, answers, and what was undone; and how far each inbox is read."""

from collections import Counter
from datetime import timedelta
from typing import Final

from aiohttp import web

from mailerd.core.notices import BOUNCES, Kind
from mailerd.store.inbox.read_notices import BOUNCE_KINDS, DomainBounces, Notice, NoticeReader
from mailerd.web.services import MAX_LISTED, ConsoleRequest

TIMEOUT: Final = 2.0
"""Seconds for one query."""
SPAN: Final = timedelta(days=14)
MAX_DOMAINS: Final = 20
MAX_SENDERS: Final = 20
"""Senders of a limited key whose notices are read."""
_OTHERS: Final = tuple(sorted(kind.value for kind in Kind if kind not in BOUNCES))


async def show(it: ConsoleRequest) -> web.Response:
    """The page: bounces, or what else came."""
    reader, query = NoticeReader(it.services.database, timeout=TIMEOUT), it.http.query
    others = query.get("show") == "other"
    given = query.get("before", "")
    before = int(given) if given.isdecimal() and len(given) < 20 else None  # noqa: PLR2004 - digits of a BIGINT
    mine: list[str | None] = [None] if it.key.senders is None else sorted(it.key.senders)[:MAX_SENDERS]  # type: ignore[assignment]
    found: list[Notice] = []
    domains: dict[str, Counter[str]] = {}
    for sender in mine:
        found += await reader.latest(
            kinds=_OTHERS if others else BOUNCE_KINDS, sender=sender, before=before, limit=MAX_LISTED + 1
        )
        for each in await reader.by_domain(span=SPAN, sender=sender):
            domains.setdefault(each.domain, Counter()).update(each.kinds)
    found.sort(key=lambda notice: -notice.id)
    summed = sorted((DomainBounces(*each) for each in domains.items()), key=lambda one: -one.total)[:MAX_DOMAINS]
    inboxes = [each for each in await reader.inboxes(limit=200) if it.key.may_send(each.email)]
    return it.page(
        "inbox.html", active="inbox", notices=found[:MAX_LISTED], domains=summed, inboxes=inboxes, others=others,
        kinds=BOUNCE_KINDS, more=found[MAX_LISTED - 1].id if len(found) > MAX_LISTED else None, live=True,
    )  # fmt: skip
