"""Bounces by domain and one by one, replies, and what Google returned; and how far each inbox is read."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final

from aiohttp import web

from mailerd.core.notices import BOUNCES, Kind
from mailerd.store.console_queries import UndoneMessage
from mailerd.store.inbox.mailboxes import BOUNCE_KINDS, BounceCounts, InboxState, Notice, NoticeReader
from mailerd.web.services import MAX_LISTED, TIMEOUT, ConsoleRequest

SPAN: Final = timedelta(days=14)
MAX_SUMS: Final = 20
MAX_NOTICES: Final = 4_000
"""Bounces that are summed, the newest ones."""
SUMS_SHARED: Final = 30.0
"""Seconds for which the sums by domain and by sender are shared."""
MAX_INBOXES: Final = 200
MAX_SENDERS: Final = 20
"""Senders of a limited key whose notices are read."""
_OTHERS: Final = tuple(sorted(kind.value for kind in Kind if kind not in BOUNCES))


async def show(it: ConsoleRequest) -> web.Response:
    """The page: bounces, what else came, or what was undone."""
    show_, before = it.http.query.get("show", ""), it.number("before")
    mine: list[str | None] = [None] if it.key.senders is None else sorted(it.key.senders)[:MAX_SENDERS]  # type: ignore[assignment]
    notices: list[Notice] = []
    undone: list[UndoneMessage] = []
    if show_ == "undone":
        undone = await it.services.queries.undone(limit=MAX_LISTED + 1, before=before, senders=it.key.senders)
    else:
        notices = await _notices(it, _OTHERS if show_ == "other" else BOUNCE_KINDS, mine, before)
    found: Sequence[Notice | UndoneMessage] = notices or undone
    inboxes = [each for each in await read_inboxes(it) if it.key.may_send(each.email)]
    return it.page(
        "inbox.html", active="inbox", notices=notices[:MAX_LISTED], undone=undone[:MAX_LISTED], show=show_,
        domains=await bounces_by_domain(it, mine), by_sender=await _bounces_by_sender(it, mine), inboxes=inboxes,
        kinds=BOUNCE_KINDS, live=True,
        more=found[MAX_LISTED - 1].id if len(found) > MAX_LISTED else None,
    )  # fmt: skip


async def read_inboxes(it: ConsoleRequest) -> list[InboxState]:
    """How far every inbox is read."""
    return await _reader(it).inboxes(limit=MAX_INBOXES)


def _reader(it: ConsoleRequest) -> NoticeReader:
    return NoticeReader(it.services.database, timeout=TIMEOUT)


async def _notices(
    it: ConsoleRequest, kinds: tuple[str, ...], senders: Sequence[str | None], before: int | None
) -> list[Notice]:
    """The newest ones of these senders."""
    found: list[Notice] = []
    for sender in senders:
        found += await _reader(it).latest(kinds=kinds, sender=sender, before=before, limit=MAX_LISTED + 1)
    return sorted(found, key=lambda notice: -notice.id)


async def bounces_by_domain(it: ConsoleRequest, senders: Sequence[str | None]) -> list[BounceCounts]:
    """Bounces of the last while by domain, the most first, read once a while for all who look."""
    return await _summed(it, "bounces by domain", senders, _reader(it).by_domain)


async def _bounces_by_sender(it: ConsoleRequest, senders: Sequence[str | None]) -> list[BounceCounts]:
    """The same by sender."""
    return await _summed(it, "bounces by sender", senders, _reader(it).by_sender)


async def _summed(
    it: ConsoleRequest, what: str, senders: Sequence[str | None], counts: Callable[..., Awaitable[list[BounceCounts]]]
) -> list[BounceCounts]:
    async def read() -> list[BounceCounts]:
        sums: dict[str, Counter[str]] = {}
        for sender in senders:
            for each in await counts(span=SPAN, sender=sender, most=MAX_NOTICES):
                sums.setdefault(each.name, Counter()).update(each.kinds)
        return sorted((BounceCounts(*each) for each in sums.items()), key=lambda one: -one.total)[:MAX_SUMS]

    return await it.services.shared.get((what, *senders), SUMS_SHARED, read)
