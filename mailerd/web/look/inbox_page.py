"""Bounces and replies, newest first, and bounces by domain; what Google returned; and how far each
inbox is read.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Collection, Sequence
from datetime import timedelta
from typing import Final, Literal

from aiohttp import web

from mailerd.clock import ULID
from mailerd.core.i18n import t
from mailerd.core.notices import Kind
from mailerd.http.responses import ROWS_AT_ONCE, Rows, write_csv
from mailerd.store.db.connection import rfc3339
from mailerd.store.inbox.mailboxes import BOUNCE_KINDS, BounceCounts, Notice, NoticeReader
from mailerd.store.read.console_queries import UndoneMessage
from mailerd.web.frame.services import MAX_LISTED, TIMEOUT, ConsoleRequest, split_page

SPAN: Final = timedelta(days=14)
MAX_SUMS: Final = 20
MAX_NOTICES: Final = 4_000
"""Bounces that are summed, the newest ones."""
MAX_SEARCHED: Final = 200_000
"""Notices that are looked at for one page, where few are what is looked for."""
SUMS_SHARED: Final = 30.0
"""Seconds for which the sums by domain and by sender are shared."""
MAX_INBOXES: Final = 200
MAX_SENDERS: Final = 20
"""Senders of a limited key whose bounces are summed."""
_REPLIES: Final = (Kind.REPLY.value, Kind.AUTO_REPLY.value)
_KINDS: Final = {"bounces": BOUNCE_KINDS, "replies": _REPLIES} | {
    kind.value: (kind.value,) for kind in Kind if kind is not Kind.OTHER
}
"""The kinds of notices that a choice of the filter means; an empty one means all."""
_COLUMNS: Final = (
    "time",
    "kind",
    "email",
    "code",
    "reason",
    "sender_email",
    "job_id",
    "recipient_id",
    "believed",
)


async def show(it: ConsoleRequest) -> web.Response:
    """The page: bounces and replies, or what Google returned."""
    query, before = it.http.query, it.number("before")
    notices, undone, more = list[Notice](), list[UndoneMessage](), None
    if is_undone := query.get("show") == "undone":
        found = await it.services.queries.undone(
            limit=MAX_LISTED + 1, before=before, senders=it.key.senders
        )
        undone, last = split_page(found)
        more = last and last.id
    else:
        notices, more = await _notices(it, before, MAX_LISTED)
    mine = [None] if it.key.senders is None else sorted(it.key.senders)[:MAX_SENDERS]
    inboxes, aliases = (
        await _reader(it).inboxes(limit=MAX_INBOXES),
        it.services.settings.gmail.aliases,
    )
    by_sender = await bounces_by("sender", it, mine)
    return it.page(
        "inbox.html",
        active="inbox",
        notices=notices,
        undone=undone,
        is_undone=is_undone,
        more=more,
        live=True,
        given={name: query[name] for name in ("kind", "sender", "job") if query.get(name)},
        domains=await bounces_by("domain", it, mine),
        by_sender=by_sender,
        linked=[
            each.name for each in by_sender if it.key.may_send(aliases.get(each.name, each.name))
        ],
        inboxes=[each for each in inboxes if it.key.may_send(each.email)],
        kinds=BOUNCE_KINDS,
        choices=list(_KINDS)[2:],
        groups={"bounces": t("All bounces"), "replies": t("All replies")},
    )


async def results(it: ConsoleRequest) -> web.StreamResponse:
    """All that the page's filter finds, as CSV."""
    shares = it.services.shares

    async def pages() -> AsyncGenerator[Rows]:
        place: int | None = None
        while place != 0:
            found, before = await _notices(it, place, ROWS_AT_ONCE)
            if found:
                yield [
                    (
                        rfc3339(one.at),
                        one.kind,
                        one.email,
                        one.code,
                        one.detail,
                        one.sender,
                        one.job_id,
                        one.recipient_id,
                        one.believed,
                    )
                    for one in found
                ]
            place = before or 0
            await shares.rows.turn()

    async with shares.downloads.place(it.key):
        return await write_csv(
            it.http, pages(), columns=_COLUMNS, filename="bounces-and-replies.csv"
        )


async def _notices(
    it: ConsoleRequest, before: int | None, limit: int
) -> tuple[list[Notice], int | None]:
    """The newest ones before an id that the filter finds and the key may see, and before which id
    more may be.
    """
    query, reader = it.http.query, _reader(it)
    kinds = _KINDS.get(
        query.get("kind", ""), tuple(kind.value for kind in Kind if kind is not Kind.OTHER)
    )
    senders: Collection[str] | None = it.key.senders
    if sender := query.get("sender", "").strip().lower():
        senders = [sender] if it.key.may_send(sender) else []
    job = query.get("job", "").strip().upper() or None
    if job and not ULID.fullmatch(job):
        return [], None
    top = before or await reader.newest() + 1
    after = max(0, top - 1 - MAX_SEARCHED)
    found = await reader.latest(
        kinds=kinds, senders=senders, job=job, after=after, before=top, limit=limit + 1
    )
    if len(found) > limit:
        return found[:limit], found[limit - 1].id
    return found, after + 1 if after else None


def _reader(it: ConsoleRequest) -> NoticeReader:
    return NoticeReader(it.services.database, timeout=TIMEOUT)


async def bounces_by(
    what: Literal["domain", "sender"], it: ConsoleRequest, senders: Sequence[str | None]
) -> list[BounceCounts]:
    """Bounces of the last while by domain or by sender, the most first, read once a while for all
    who look.
    """
    counts = _reader(it).by_domain if what == "domain" else _reader(it).by_sender

    async def read() -> list[BounceCounts]:
        sums: dict[str, Counter[str]] = {}
        for sender in senders:
            for each in await counts(span=SPAN, sender=sender, most=MAX_NOTICES):
                sums.setdefault(each.name, Counter()).update(each.kinds)
        return sorted((BounceCounts(*each) for each in sums.items()), key=lambda one: -one.total)[
            :MAX_SUMS
        ]

    return await it.services.shared.get(("bounces by", what, *senders), SUMS_SHARED, read)
