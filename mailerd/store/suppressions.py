"""Suppressions and lists: who has opted out of what, how that is known, and when it ended."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import batched
from typing import Any, Final, Self

from pymysql.err import OperationalError

from mailerd.clock import EPOCH
from mailerd.core.i18n import t
from mailerd.core.suppression import EVERYTHING, EVERYTHING_NAME, Channel, Reason, canonical, digest_of
from mailerd.core.webhooks import EventType
from mailerd.store.action_log import CommandLog
from mailerd.store.db.connection import NOW, Cursor, Statement, insert_many, made_ahead, naive, utc
from mailerd.store.db.database import Database, request
from mailerd.store.event_feed import NewEvent, insert_events
from mailerd.store.list_names import ListNameError, check_list, check_list_title
from mailerd.store.secrets import Secrets

# Mailing lists: what a person can leave, how a list may be called, and the statements that find and make one.

MAX_LISTS: Final = 1000
"""The most lists: an answer shows them all."""

FIND_LIST: Final = "SELECT id, name, title, created_at FROM lists WHERE name = %s"
FIND_LIST_BY_ID: Final = "SELECT id, name, title, created_at FROM lists WHERE id = %s"
_READ_NAMES: Final = "SELECT id, name FROM lists WHERE id IN %s"
_COUNT_LISTS: Final = "SELECT COUNT(*) FROM lists"
LISTS: Final = "SELECT id, name, title, created_at FROM lists WHERE name > %s ORDER BY name LIMIT %s"
_MAKE_LIST: Final = (
    "INSERT INTO lists (name, title, created_at) VALUES (%s, %s, UTC_TIMESTAMP(6))"
    " ON DUPLICATE KEY UPDATE title = COALESCE(VALUES(title), title)"
)


@dataclass(frozen=True)
class MailingList:
    """A list that a person can leave."""

    id: int
    name: str
    title: str | None
    created_at: datetime

    @property
    def shown(self) -> str:
        """The name that people read."""
        return self.title or self.name


def list_of(row: Sequence[Any]) -> MailingList:
    """The list of a row of FIND_LIST."""
    ident, name, title, at = row
    return MailingList(ident, name, title, utc(at))


async def write_list(cursor: Cursor, name: str, title: str | None) -> MailingList:
    """Find the list of this name, or make it; a title that is given takes the place of the old one.

    Raises:
        ListNameError: there are as many lists as there may be.
    """
    await cursor.execute(FIND_LIST, (name,))
    if (row := await cursor.fetchone()) is not None and title is None:
        return list_of(row)
    if row is None:
        await cursor.execute(_COUNT_LISTS)
        if (await cursor.fetchone())[0] >= MAX_LISTS:
            raise ListNameError(t("the limit of {max_lists:,} lists is reached", max_lists=MAX_LISTS))
    await cursor.execute(_MAKE_LIST, (name, title))
    await cursor.execute(FIND_LIST, (name,))
    return list_of(await cursor.fetchone())


async def list_names(cursor: Cursor, ids: Collection[int]) -> dict[int, str]:
    """The names of these lists, by their ids; an older backup may have brought a link's list to nothing."""
    await cursor.execute(_READ_NAMES, (tuple(ids) or (EVERYTHING,),))
    lost = {list_id: f"list {list_id}" for list_id in ids}
    return {**lost, EVERYTHING: EVERYTHING_NAME, **dict(await cursor.fetchall())}


# Pages of suppressions: their order, a place in it as a text, and the statement that reads one page.

Place = tuple[datetime, bytes, int]
"""Where a suppression stands in the order of all: when it was made, its digest and its list."""
CURSOR: Final = re.compile(r"([0-9]{1,17})-([0-9a-f]{32})-([0-9]{1,10})")
"""What a place looks like as a text."""
COLUMNS: Final = (
    "s.digest, s.list_id, l.name, s.reason, s.source, s.address, s.recipient_id, s.detail, s.actor, s.created_at"
)


def cursor_of(place: Place) -> str:
    """A place as a text."""
    at, digest, list_id = place
    return f"{(at - EPOCH) // timedelta(microseconds=1)}-{digest.hex()}-{list_id}"


def place_of(cursor: str) -> Place | None:
    """The place that a text names; None: it names none."""
    found = CURSOR.fullmatch(cursor)
    if found is None:
        return None
    return EPOCH + timedelta(microseconds=int(found[1])), bytes.fromhex(found[2]), int(found[3])


def page_statement(*, list_id: int | None, reason: Reason | None, after: Place | None, limit: int) -> Statement:
    """One page of suppressions, as `Suppressions.page` describes it."""
    wanted: dict[str, object] = {"s.list_id = %s": list_id, "s.reason = %s": reason and reason.value}
    where = [condition for condition, value in wanted.items() if value is not None]
    values: list[object] = [value for value in wanted.values() if value is not None]
    if after is not None:
        where.append("(s.created_at, s.digest, s.list_id) > (%s, %s, %s) AND s.created_at >= %s")
        at, digest, its_list = after
        values += [moment := naive(at), digest, its_list, moment]
    condition = f"WHERE {' AND '.join(where)}" if where else ""
    # MySQL sorts the whole table where it is small enough to seem worth it.
    index = "by_list" if list_id is not None else "by_reason" if reason is not None else "age"
    return (
        f"SELECT {COLUMNS} FROM suppressions s FORCE INDEX ({index}) LEFT JOIN lists l ON l.id = s.list_id {condition}"
        " ORDER BY s.created_at, s.digest, s.list_id LIMIT %s"
    ), [*values, limit]


MAX_PAGE: Final = 1000
"""The most suppressions of one page."""
ROWS_AT_ONCE: Final = 2000
"""Rows of one INSERT: small enough for any packet, large enough that the round trip is nothing."""
_LOOKED_UP_AT_ONCE: Final = 5000
"""Digests of one question: some 5 ms to write it, and each question waits for a busy loop."""

_FROM: Final = "FROM suppressions s LEFT JOIN lists l ON l.id = s.list_id"
_INSERT_NEW: Final = (
    "INSERT IGNORE INTO suppressions"  # it counts what it inserts, and not what was there
    " (digest, list_id, reason, source, address, recipient_id, detail, actor, created_at) VALUES %s"
)
# A bounce is the strongest reason: nothing overrides it. A complaint is stronger than a wish: no undo lifts it. Any
# other one stays as it was first given. Only what is as it was read: meanwhile it may have ended, or be stronger.
_STRENGTHEN: Final = """
UPDATE suppressions SET reason = %s, source = %s, detail = %s WHERE digest = %s AND list_id = %s AND reason = %s"""
_REMOVE: Final = "DELETE FROM suppressions WHERE digest = %s AND list_id = %s"
_REMOVE_BY_LINK: Final = f"{_REMOVE} AND reason = 'unsubscribed' AND source IN ('one_click', 'page', 'mailto')"
_INSERT_LOG: Final = "INSERT INTO suppression_log (digest, list_id, action, reason, source, actor, at) VALUES %s"
_OF: Final = f"SELECT {COLUMNS} {_FROM} WHERE s.digest = %s ORDER BY s.list_id"
_READ_BINDING: Final = "SELECT digest, list_id, reason FROM suppressions WHERE digest IN %s AND list_id IN %s"
_LEFT: Final = f"SELECT s.digest, s.list_id, l.name, s.created_at {_FROM} WHERE s.digest IN %s AND s.list_id IN %s"
_MESSAGES: Final = """
SELECT r.id, r.job_id, r.seq, r.to_email, j.sender_email FROM job_recipients r JOIN jobs j ON j.id = r.job_id
 WHERE r.id IN %s"""
_READ_RECIPIENT: Final = "SELECT to_email FROM job_recipients WHERE id = %s"


@dataclass(frozen=True)
class Suppression:
    """That an address gets no messages, of one list or at all."""

    digest: bytes
    list_id: int
    """The list; 0: it gets no messages at all."""
    list_name: str | None
    reason: Reason
    source: Channel
    address: str | None
    recipient_id: int | None
    detail: str | None
    actor: str | None
    created_at: datetime

    @property
    def place(self) -> Place:
        """Its place in the order of all suppressions."""
        return self.created_at, self.digest, self.list_id

    @property
    def cursor(self) -> str:
        """Its place as a text."""
        return cursor_of(self.place)


@dataclass(frozen=True)
class NewSuppression:
    """One that is to be made, and how it came."""

    digest: bytes
    list_id: int
    reason: Reason
    source: Channel
    address: str | None = None
    recipient_id: int | None = None
    detail: str | None = None
    actor: str | None = None


@dataclass(frozen=True)
class AddedSuppressions:
    """What a transaction has changed."""

    fresh: list[NewSuppression]
    """The suppressions that did not exist before."""
    stronger: list[NewSuppression]
    """The suppressions that existed for a weaker reason."""

    @property
    def changed(self) -> list[NewSuppression]:
        """All that the log and the metrics report."""
        return [*self.fresh, *self.stronger]


class Suppressions:
    """Reads and changes suppressions. `key` makes the digests; `timeout`: seconds for an answer of the database."""

    def __init__(self, database: Database, *, key: bytes, timeout: float) -> None:
        self.database = database
        self._key = key
        self.timeout = timeout

    @classmethod
    async def open(cls, database: Database, *, timeout: float) -> Self:  # noqa: ASYNC109 - as in __init__
        """With the key that all daemons share.

        Raises:
            LostKeysError, DatabaseError: it cannot be had.
        """
        keys = await Secrets(database, timeout=timeout).keys()
        return cls(database, key=keys.address, timeout=timeout)

    def digest(self, address: str) -> bytes:
        """What stands for the address in the table."""
        return digest_of(address, self._key)

    async def add(self, new: Sequence[NewSuppression], *, log: CommandLog | None = None) -> AddedSuppressions:
        """Make them, in one transaction; what that has changed. To repeat it is harmless.

        `log`: a command's row in the log of actions, which counts them in the same transaction.

        Raises:
            DatabaseError: it is not known to be stored.
        """

        async def work(cursor: Cursor) -> tuple[AddedSuppressions, int | None]:
            added = await add(cursor, new)
            return added, await log.count(cursor, len(added.changed)) if log else None

        added, row = await self.database.request(work, what="suppressions.add", bound=self.timeout)
        if log:
            log.row = row
        return added

    @request("suppressions.end")
    async def remove(
        self,
        cursor: Cursor,
        digest: bytes,
        *,
        list_id: int,
        source: Channel,
        actor: str | None = None,
        log: CommandLog | None = None,
    ) -> bool:
        """End one; whether there was one. `log`: see `add`.

        Raises:
            DatabaseError: it is not known to have ended.
        """
        await cursor.execute(_REMOVE, (digest, list_id))
        if cursor.rowcount != 1:
            return False
        await cursor.execute(*_log([(digest, list_id, "removed", None, source.value, actor)]))
        if log:
            await log.count(cursor, 1)
        return True

    @request("suppressions.end")
    async def undo(self, cursor: Cursor, digest: bytes, *, list_id: int) -> tuple[bool, bool]:
        """End what a person's own link did; whether it had done so, and whether messages of the list stay away still.

        Raises:
            DatabaseError: it is not known to have ended.
        """
        await cursor.execute(_REMOVE_BY_LINK, (digest, list_id))
        if removed := cursor.rowcount == 1:
            await cursor.execute(*_log([(digest, list_id, "removed", None, Channel.PAGE.value, None)]))
        await cursor.execute(_READ_BINDING, ((digest,), (EVERYTHING, list_id)))
        return removed, bool(await cursor.fetchall())

    async def of(self, address: str) -> list[Suppression]:
        """Everything that keeps messages from this address."""
        digest = self.digest(address)
        rows = await self.database.request_rows(_OF, (digest,), what="suppressions.find", bound=self.timeout)
        return [_suppression(row) for row in rows]

    async def page(
        self,
        *,
        list_id: int | None = None,
        reason: Reason | None = None,
        after: Place | None = None,
        limit: int = MAX_PAGE,
    ) -> list[Suppression]:
        """Suppressions by age, the oldest first; those behind `after`, which is the last one's `place`."""
        statement, values = page_statement(list_id=list_id, reason=reason, after=after, limit=limit)
        rows = await self.database.request_rows(statement, values, what="suppressions.list", bound=self.timeout)
        return [_suppression(row) for row in rows]

    async def binding(self, addresses: Collection[str], *, list_id: int | None) -> dict[str, Reason]:
        """Which of the addresses get no message of this list, or of no list (None), and why."""
        lists = (EVERYTHING,) if list_id is None else (EVERYTHING, list_id)
        found: dict[str, Reason] = {}

        async def work(cursor: Cursor) -> None:
            parts = (self._by_digest(some) for some in batched(addresses, _LOOKED_UP_AT_ONCE))
            async for by_digest in made_ahead(parts):
                await cursor.execute(_READ_BINDING, (tuple(by_digest), lists))
                for digest, _, reason in await cursor.fetchall():
                    for address in by_digest[bytes(digest)]:
                        if found.get(address) is not Reason.HARD_BOUNCE:
                            found[address] = Reason(reason)

        await self.database.request(work, what="suppressions.find_many", read_only=True)
        return found

    def _by_digest(self, addresses: Collection[str]) -> dict[bytes, list[str]]:
        found: dict[bytes, list[str]] = {}
        for address in addresses:
            found.setdefault(self.digest(address), []).append(address)
        return found

    async def lists(self, *, after: str = "", limit: int = MAX_LISTS) -> list[MailingList]:
        """The lists, by name; those behind the name `after`."""
        rows = await self.database.request_rows(LISTS, (after, limit), what="lists.list", bound=self.timeout)
        return [list_of(row) for row in rows]

    async def list_by_id(self, list_id: int) -> MailingList | None:
        """The list of this id."""
        return await self._list(FIND_LIST_BY_ID, list_id)

    async def list_named(self, name: str) -> MailingList | None:
        """The list of this name."""
        return await self._list(FIND_LIST, name)

    async def _list(self, statement: str, value: object) -> MailingList | None:
        rows = await self.database.request_rows(statement, (value,), what="lists.find", bound=self.timeout)
        return list_of(rows[0]) if rows else None

    async def make_list(self, name: str, *, title: str | None = None) -> MailingList:
        """The list of this name, made where there was none; a title that is given takes the place of the old one.

        Raises:
            ListNameError: the name or the title cannot be used.
            DatabaseError: it was not made.
        """
        check_list(name)
        if title is not None:
            check_list_title(title)
        return await self.database.request(
            lambda cursor: write_list(cursor, name, title), what="lists.make", bound=self.timeout
        )

    async def make_lists(self, names: Collection[str]) -> dict[str, int]:
        """The ids of the lists of these names; those that are not there are made, all of them or none.

        Raises:
            ListNameError: a name cannot be used, or there would be too many lists.
            DatabaseError: they were not made.
        """
        for name in names:
            check_list(name)

        async def work(cursor: Cursor) -> dict[str, int]:
            return {name: (await write_list(cursor, name, None)).id for name in sorted(names)}

        return await self.database.request(work, what="lists.make_many", bound=self.timeout) if names else {}

    async def address_of(self, recipient_id: int) -> str | None:
        """To whom a message went, while its row is kept."""
        rows = await self.database.request_rows(
            _READ_RECIPIENT, (recipient_id,), what="recipients.find", bound=self.timeout
        )
        return rows[0][0] if rows else None


async def add(cursor: Cursor, new: Sequence[NewSuppression]) -> AddedSuppressions:
    """What `Suppressions.add` does, in a transaction of the caller's."""
    added = AddedSuppressions([], [])
    for first in range(0, len(new), ROWS_AT_ONCE):
        part = dict[tuple[bytes, int], NewSuppression]()
        for it in new[first : first + ROWS_AT_ONCE]:
            if (there := part.get((it.digest, it.list_id))) is None or it.reason.strength > there.reason.strength:
                part[it.digest, it.list_id] = it
        known = await _insert_missing(cursor, part)
        fresh = [it for key, it in part.items() if key not in known]
        stronger = [it for key, it in part.items() if key in known and it.reason.strength > Reason(known[key]).strength]
        for it in stronger:
            place = (it.digest, it.list_id, known[it.digest, it.list_id])
            await cursor.execute(_STRENGTHEN, (it.reason.value, it.source.value, it.detail, *place))
            if cursor.rowcount != 1:  # the whole transaction is done again
                raise OperationalError(1020, "a suppression has changed since it was read")
        if changed := [*fresh, *stronger]:
            lines = [(it.digest, it.list_id, "added", it.reason.value, it.source.value, it.actor) for it in changed]
            await cursor.execute(*_log(lines))
        await _write_events(cursor, fresh)
        added.fresh.extend(fresh)
        added.stronger.extend(stronger)
    return added


async def _insert_missing(
    cursor: Cursor, part: Mapping[tuple[bytes, int], NewSuppression]
) -> dict[tuple[bytes, int], str]:
    """Insert those that are not there; the reasons of those that were.

    Of two transactions that insert one at once, the second finds that it has inserted fewer, and looks once more: so
    each is counted, logged and told by one of them alone.
    """
    digests, lists = tuple({it.digest for it in part.values()}), tuple({it for _, it in part})
    while True:
        await cursor.execute(_READ_BINDING, (digests, lists))
        known = {(bytes(digest), list_id): reason for digest, list_id, reason in await cursor.fetchall()}
        missing = [_row(it) for key, it in part.items() if key not in known]
        if not missing:
            return known
        await cursor.execute("SAVEPOINT s")
        await cursor.execute(*insert_many(_INSERT_NEW, missing, last=NOW))
        if cursor.rowcount == len(missing):
            return known
        await cursor.execute("ROLLBACK TO SAVEPOINT s")


async def _write_events(cursor: Cursor, fresh: Sequence[NewSuppression]) -> None:
    """Write the events of people who left a list or everything; two who do it at once for one address cause one."""
    if not (left := [it for it in fresh if it.reason is Reason.UNSUBSCRIBED and it.source is not Channel.IMPORT]):
        return
    messages = tuple({it.recipient_id for it in left if it.recipient_id}) or (0,)
    found, sent = await cursor.fetch_batch(
        [(_LEFT, (tuple({it.digest for it in left}), tuple({it.list_id for it in left}))), (_MESSAGES, (messages,))]
    )
    rows = {(bytes(digest), list_id): (name, at) for digest, list_id, name, at in found}
    message_of = {row[0]: row[1:] for row in sent}
    await cursor.execute(
        *insert_events([_event(it, rows, message_of) for it in left if (it.digest, it.list_id) in rows])
    )


def _event(
    it: NewSuppression, rows: Mapping[tuple[bytes, int], Sequence[Any]], message_of: Mapping[int, Sequence[Any]]
) -> NewEvent:
    name, at = rows[it.digest, it.list_id]
    job, seq, to, sender = message_of.get(it.recipient_id or 0, (None, None, it.address, None))
    data = {
        "recipient_id": it.recipient_id if job else None, "job_id": job, "index": seq, "email": to,
        "sender_email": sender, "list": name, "source": it.source.value,
    }  # fmt: skip
    cause = f"{it.digest.hex()}:{it.list_id}:{at.isoformat()}"
    return NewEvent(EventType.RECIPIENT_UNSUBSCRIBED, cause, data, job, sender)


def _row(it: NewSuppression) -> tuple[object, ...]:
    address = it.address and canonical(it.address)
    return (
        it.digest, it.list_id, it.reason.value, it.source.value, address, it.recipient_id, it.detail, it.actor
    )  # fmt: skip


def _log(lines: Sequence[tuple[object, ...]]) -> Statement:
    return insert_many(_INSERT_LOG, lines, last=NOW)


def _suppression(row: Sequence[Any]) -> Suppression:
    digest, list_id, name, reason, source, address, recipient, detail, actor, at = row
    return Suppression(
        bytes(digest), list_id, name, Reason(reason), Channel(source), address, recipient, detail, actor,
        utc(at),
    )  # fmt: skip
