"""Suppressions and lists: who has opted out of what, how that is known, and when it ended."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import batched
from typing import Any, Final, Self

from pymysql.err import OperationalError

from mailerd.clock import EPOCH
from mailerd.core import owners
from mailerd.core.i18n import t
from mailerd.core.owners import MAX_OWN, Owners
from mailerd.core.suppression import (
    EVERYTHING,
    EVERYTHING_NAME,
    Channel,
    Reason,
    canonical,
    digest_of,
)
from mailerd.core.webhooks import EventType
from mailerd.errors import MailerdError
from mailerd.model.suppressions import MailingList, Place, Suppression
from mailerd.store.db.connection import NOW, Cursor, Statement, insert_many, made_ahead, naive
from mailerd.store.db.database import Database, request
from mailerd.store.db.rows import Select
from mailerd.store.write.action_log import ListLog, note_action
from mailerd.store.write.api_keys import ApiKey
from mailerd.store.write.event_feed import NewEvent, insert_events
from mailerd.store.write.list_names import ListNameError, check_list, check_list_title
from mailerd.store.write.secrets import Secrets

# Mailing lists: what a person can leave, how a list may be called, and the statements that find and
# make one.

MAX_LISTS: Final = 1000
"""The most lists: an answer shows them all."""

_LIST: Final = Select(MailingList)
_SELECT_LISTS: Final = f"SELECT {_LIST.columns} FROM lists"
FIND_LIST: Final = f"{_SELECT_LISTS} WHERE name = %s"
FIND_LIST_BY_ID: Final = f"{_SELECT_LISTS} WHERE id = %s"
LISTS: Final = f"{_SELECT_LISTS} WHERE name > %s ORDER BY name LIMIT %s"
_READ_NAMES: Final = "SELECT id, name FROM lists WHERE id IN %s"
_OWNERS: Final = "SELECT senders FROM lists"
_MAKE_LIST: Final = (  # whose it is stays as it is, where another has made it at the same moment
    "INSERT INTO lists (name, title, senders, created_at) VALUES (%s, %s, %s, UTC_TIMESTAMP(6))"
    " ON DUPLICATE KEY UPDATE id = id"
)
_SET_TITLE: Final = "UPDATE lists SET title = %s WHERE id = %s"


class ListTakenError(ListNameError):
    """Another key's list has the name, which is all that is said of it."""

    def __init__(self, name: str) -> None:
        super().__init__(
            t("the name {name!r} is taken; choose another. Nothing was stored", name=name)
        )


class OthersListError(MailerdError):
    """It belongs to others, too, whose messages show its title."""

    def __init__(self, name: str) -> None:
        super().__init__(
            t(
                "list {name!r} belongs to other senders, too; its title stays. Nothing was changed",
                name=name,
            )
        )


class LimitedKeyError(MailerdError):
    """What a key for some senders may not do with suppressions."""


async def write_list(
    cursor: Cursor, name: str, title: str | None, senders: Owners = None
) -> tuple[MailingList, bool]:
    """Find the list of this name, or make it for these senders; a title that is given takes the
    place of the old one.

    `senders`: those of the key that asks. Whether it was made or has another title now.

    Raises:
        ListTakenError: none of these senders sees it.
        OthersListError: it is others', too, and would get another title.
        ListNameError: there are as many lists as there may be, of all or of these senders.
    """
    await cursor.execute(FIND_LIST, (name,))
    if is_new := (row := await cursor.fetchone()) is None:
        await _require_place(cursor, senders)
        await cursor.execute(_MAKE_LIST, (name, title, owners.to_row(senders)))
        await cursor.execute(FIND_LIST, (name,))
        row = await cursor.fetchone()
    its = _LIST.row(row)
    if not owners.sees(senders, its.senders):
        raise ListTakenError(name)
    if title is None or title == its.title:
        return its, is_new
    if not owners.may_change(senders, its.senders):
        raise OthersListError(name)
    await cursor.execute(_SET_TITLE, (title, its.id))
    return its.model_copy(update={"title": title}), True


async def _require_place(cursor: Cursor, senders: Owners) -> None:
    await cursor.execute(_OWNERS)
    whose = [owners.from_row(row) for (row,) in await cursor.fetchall()]
    if len(whose) >= MAX_LISTS:
        raise ListNameError(t("the limit of {max_lists:,} lists is reached", max_lists=MAX_LISTS))
    if senders is not None and sum(owners.may_change(senders, each) for each in whose) >= MAX_OWN:
        raise ListNameError(
            t(
                "the limit of {max_own} lists of these senders is reached; use one of them",
                max_own=MAX_OWN,
            )
        )


async def list_names(cursor: Cursor, ids: Collection[int]) -> dict[int, str]:
    """The names of these lists, by their ids; an older backup may have brought a link's list to
    nothing.
    """
    await cursor.execute(_READ_NAMES, (tuple(ids) or (EVERYTHING,),))
    lost = {list_id: f"list {list_id}" for list_id in ids}
    return {**lost, EVERYTHING: EVERYTHING_NAME, **dict(await cursor.fetchall())}


# Pages of suppressions: their order, a place in it as a text, and the statement that reads one
# page.

type Origins = frozenset[str] | None
"""Whose suppressions a key sees; None: everybody's."""
CURSOR: Final = re.compile(r"([0-9]{1,17})-([0-9a-f]{32})-([0-9]{1,10})-((?:[0-9a-f]{2})*)")
"""What a place looks like as a text."""


def cursor_of(place: Place) -> str:
    """A place as a text."""
    at, digest, list_id, origin = place
    return f"{(at - EPOCH) // timedelta(microseconds=1)}-{digest.hex()}-{list_id}-{origin.encode().hex()}"


def place_of(cursor: str) -> Place | None:
    """The place that a text names; None: it names none."""
    found = CURSOR.fullmatch(cursor)
    if found is None:
        return None
    at = EPOCH + timedelta(microseconds=int(found[1]))
    return (
        at,
        bytes.fromhex(found[2]),
        int(found[3]),
        bytes.fromhex(found[4]).decode(errors="replace"),
    )


_ORDER: Final = "s.created_at, s.digest, s.list_id, s.origin"


_SUPPRESSIONS: Final = Select(Suppression)


def page_statement(
    *,
    list_id: int | None,
    reason: Reason | None,
    after: Place | None,
    limit: int,
    origins: Origins = None,
) -> Statement:
    """One page of suppressions, as `Suppressions.page` describes it; None: of every origin."""
    wanted: dict[str, object] = {
        "s.list_id = %s": list_id,
        "s.reason = %s": reason and reason.value,
    }
    where = [condition for condition, value in wanted.items() if value is not None]
    values: list[object] = [value for value in wanted.values() if value is not None]
    if after is not None:
        where.append(f"({_ORDER}) > (%s, %s, %s, %s) AND s.created_at >= %s")
        at, *rest = after
        values += [moment := naive(at), *rest, moment]
    if origins is not None:
        return _page_of_origins(sorted(origins), where, values, limit)
    condition = f"WHERE {' AND '.join(where)}" if where else ""
    # MySQL sorts the whole table where it is small enough to seem worth it.
    index = "by_list" if list_id is not None else "by_reason" if reason is not None else "age"
    return (
        f"SELECT {_SUPPRESSIONS.columns} FROM suppressions s FORCE INDEX ({index})"
        f" LEFT JOIN lists l ON l.id = s.list_id {condition}"
        f" ORDER BY {_ORDER} LIMIT %s"
    ), [*values, limit]


def _page_of_origins(
    origins: Sequence[str], where: Sequence[str], values: Sequence[object], limit: int
) -> Statement:
    """The page of some origins: the first of each, in the order of its index, and of these the
    first.
    """
    one = (
        "(SELECT s.digest, s.list_id, s.origin FROM suppressions s FORCE INDEX (by_origin)"
        f" WHERE {' AND '.join(['s.origin = %s', *where])} ORDER BY s.created_at, s.digest, s.list_id LIMIT %s)"
    )
    return (
        f"SELECT {_SUPPRESSIONS.columns} FROM ({' UNION ALL '.join([one] * len(origins))}) page"
        " STRAIGHT_JOIN suppressions s FORCE INDEX (PRIMARY)"
        " ON s.digest = page.digest AND s.list_id = page.list_id AND s.origin = page.origin"
        f" LEFT JOIN lists l ON l.id = s.list_id ORDER BY {_ORDER} LIMIT %s"
    ), [*(value for origin in origins for value in (origin, *values, limit)), limit]


MAX_PAGE: Final = 1000
"""The most suppressions of one page."""
ROWS_AT_ONCE: Final = 2000
"""Rows of one INSERT: small enough for any packet, large enough that the round trip is nothing."""
_ORIGIN_IN_CAUSE: Final = 16
"""Hex digits that stand for the origin in the cause of an event, whose column is short."""
_LOOKED_UP_AT_ONCE: Final = 5000
"""Digests of one question: some 5 ms to write it, and each question waits for a busy loop."""

_FROM: Final = "FROM suppressions s LEFT JOIN lists l ON l.id = s.list_id"
_INSERT_NEW: Final = (
    "INSERT IGNORE INTO suppressions"  # it counts what it inserts, and not what was there
    " (digest, list_id, origin, reason, source, address, recipient_id, detail, actor, created_at) VALUES %s"
)
# A bounce is the strongest reason: nothing overrides it. A complaint is stronger than a wish: no
# undo lifts it. Any other one stays as it was first given. Only what is as it was read: meanwhile
# it may have ended, or be stronger.
_STRENGTHEN: Final = """
UPDATE suppressions SET reason = %s, source = %s, detail = %s
 WHERE digest = %s AND list_id = %s AND origin = %s AND reason = %s"""
_LOCK: Final = "SELECT origin, reason FROM suppressions WHERE digest = %s AND list_id = %s"
_LOCK_ALL: Final = f"{_LOCK} FOR UPDATE"
_LOCK_OF_LINKS: Final = f"""
{_LOCK} AND origin = %s AND reason = '{Reason.UNSUBSCRIBED.value}' AND source IN ('one_click', 'page', 'mailto')
   FOR UPDATE"""
_REMOVE: Final = "DELETE FROM suppressions WHERE digest = %s AND list_id = %s AND origin IN %s"
_INSERT_LOG: Final = """
INSERT INTO suppression_log (digest, list_id, origin, action, reason, source, actor, at)
VALUES %s
"""
_OF: Final = f"""
SELECT {_SUPPRESSIONS.columns} {_FROM} WHERE s.digest = %s
ORDER BY s.list_id, s.created_at, s.origin
"""
_READ_BINDING: Final = (
    "SELECT digest, list_id, origin, reason FROM suppressions WHERE digest IN %s AND list_id IN %s"
)
_LEFT: Final = f"""
SELECT s.digest, s.list_id, s.origin, l.name, s.created_at {_FROM}
WHERE s.digest IN %s AND s.list_id IN %s
"""
_MESSAGES: Final = """
SELECT r.id, r.job_id, r.seq, r.to_email, j.sender_email FROM job_recipients r JOIN jobs j ON j.id = r.job_id
 WHERE r.id IN %s"""
_READ_RECIPIENT: Final = (
    "SELECT r.to_email, COALESCE(j.from_address, '') FROM job_recipients r LEFT JOIN jobs j ON j.id = r.job_id"
    " WHERE r.id = %s"
)


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
    origin: str = ""
    """See `Suppression.origin`."""

    @property
    def key(self) -> "Key":
        """By what it is one."""
        return self.digest, self.list_id, self.origin


Key = tuple[bytes, int, str]
"""Digest, list and origin."""


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
    """Reads and changes suppressions and lists.

    `key` makes the digests; `timeout`: seconds for an answer of the database. `limited_to`: the key
    that asks; None: it is the daemon, or a person at this machine. A key for some senders sees and
    ends what came by messages of these and what it added itself, and sees and uses lists of these
    and everybody's: what is another's is as good as none.
    """

    def __init__(
        self, database: Database, *, key: bytes, timeout: float, limited_to: ApiKey | None = None
    ) -> None:
        self.database = database
        self._key = key
        self.timeout = timeout
        self._senders = limited_to.senders if limited_to else None
        self._origin = limited_to.origin if limited_to else ""
        self._origins: Origins = None if self._senders is None else self._senders | {self._origin}

    @classmethod
    async def open(
        cls,
        database: Database,
        *,
        timeout: float,  # noqa: ASYNC109 - as in __init__
        limited_to: ApiKey | None = None,
    ) -> Self:
        """With the key that all daemons share.

        Raises:
            LostKeysError, DatabaseError: it cannot be had.
        """
        keys = await Secrets(database, timeout=timeout).keys()
        return cls(database, key=keys.address, timeout=timeout, limited_to=limited_to)

    def digest(self, address: str) -> bytes:
        """What stands for the address in the table."""
        return digest_of(address, self._key)

    async def add(
        self, new: Sequence[NewSuppression], *, log: ListLog | None = None
    ) -> AddedSuppressions:
        """Make them, in one transaction; what that has changed. To repeat it is harmless.

        `log`: the act's rows in the log of actions, which count them in the same transaction. What
        a key for some senders adds is its own.

        Raises:
            LimitedKeyError: one is of all messages, and the key is for some senders.
            DatabaseError: it is not known to be stored.
        """
        if any(it.list_id == EVERYTHING for it in new):
            self._require_all_senders()
        if self._origin:
            new = [replace(it, origin=self._origin) for it in new]

        async def work(cursor: Cursor) -> tuple[AddedSuppressions, dict[int, int]]:
            added = await add(cursor, new)
            changed = Counter(it.list_id for it in added.changed)
            return added, await log.count(cursor, changed) if log else {}

        added, rows = await self.database.request(work, what="suppressions.add", bound=self.timeout)
        if log:
            log.rows = rows
        return added

    def _require_all_senders(self) -> None:
        if self._senders is not None:
            raise LimitedKeyError(
                t(
                    "a key for some senders suppresses an address for a list only: name the list, or use a key for all "
                    "senders. Nothing was changed"
                )
            )

    @request("suppressions.end")
    async def remove(
        self,
        cursor: Cursor,
        digest: bytes,
        *,
        list_id: int,
        source: Channel,
        origin: str | None = None,
        actor: str | None = None,
        log: ListLog | None = None,
    ) -> tuple[int, bool]:
        """End what keeps messages of a list, or all, from an address; None: of every origin that
        the key sees.

        How many there were, and whether these messages stay away still. `log`: see `add`.

        Raises:
            LimitedKeyError: a person has asked for no messages at all, and the key is for some
            senders. DatabaseError: it is not known to have ended.
        """
        await cursor.execute(_LOCK_ALL, (digest, list_id))
        found = {
            its: reason
            for its, reason in await cursor.fetchall()
            if origin in {None, its} and (self._origins is None or its in self._origins)
        }
        if (
            list_id == EVERYTHING
            and self._senders is not None
            and Reason.UNSUBSCRIBED in found.values()
        ):
            raise LimitedKeyError(
                t(
                    "this person has asked for no messages at all: only a key for all senders or `mailerd suppress "
                    "remove` ends that. Nothing was changed"
                )
            )
        still_out = await _end(cursor, digest, list_id, found, source=source, actor=actor)
        if log and found:
            await log.count(cursor, {list_id: len(found)})
        return len(found), still_out

    @request("suppressions.end")
    async def undo(
        self, cursor: Cursor, digest: bytes, *, list_id: int, origin: str
    ) -> tuple[bool, bool]:
        """End what links in messages of one origin did; whether they had, and whether the list
        stays away still.

        Who has a link of one tenant ends no wish that came by another's.

        Raises:
            DatabaseError: it is not known to have ended.
        """
        await cursor.execute(_LOCK_OF_LINKS, (digest, list_id, origin))
        found = [origin for origin, _ in await cursor.fetchall()]
        return bool(found), await _end(
            cursor, digest, list_id, found, source=Channel.PAGE, actor=None
        )

    async def of(self, address: str) -> list[Suppression]:
        """Everything that keeps messages from this address, as far as the key sees it."""
        digest = self.digest(address)
        rows = await self.database.request_rows(
            _OF, (digest,), what="suppressions.find", bound=self.timeout
        )
        found = map(_SUPPRESSIONS.row, rows)
        return [it for it in found if self._origins is None or it.origin in self._origins]

    async def page(
        self,
        *,
        list_id: int | None = None,
        reason: Reason | None = None,
        after: Place | None = None,
        limit: int = MAX_PAGE,
    ) -> list[Suppression]:
        """Those that the key sees, by age, the oldest first; those behind `after`, which is the
        last one's `place`.
        """
        statement, values = page_statement(
            list_id=list_id, reason=reason, after=after, limit=limit, origins=self._origins
        )
        rows = await self.database.request_rows(
            statement, values, what="suppressions.list", bound=self.timeout
        )
        return [_SUPPRESSIONS.row(each) for each in rows]

    async def binding(
        self, addresses: Collection[str], *, list_id: int | None
    ) -> dict[str, Reason]:
        """Which of the addresses get no message of this list, or of no list (None), and why; of
        whatever origin.
        """
        lists = (EVERYTHING,) if list_id is None else (EVERYTHING, list_id)
        found: dict[str, Reason] = {}

        async def work(cursor: Cursor) -> None:
            parts = (self._by_digest(some) for some in batched(addresses, _LOOKED_UP_AT_ONCE))
            async for by_digest in made_ahead(parts):
                await cursor.execute(_READ_BINDING, (tuple(by_digest), lists))
                for digest, _, _, reason in await cursor.fetchall():
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
        """The lists that the key sees, by name; those behind the name `after`."""
        most = limit if self._senders is None else MAX_LISTS
        rows = await self.database.request_rows(
            LISTS, (after, most), what="lists.list", bound=self.timeout
        )
        return [it for it in map(_LIST.row, rows) if self._sees(it)][:limit]

    async def list_by_id(self, list_id: int) -> MailingList | None:
        """The list of this id."""
        return await self._list(FIND_LIST_BY_ID, list_id)

    async def list_named(self, name: str) -> MailingList | None:
        """The list of this name."""
        return await self._list(FIND_LIST, name)

    async def require_free(self, name: str) -> None:
        """No other key's list has this name.

        Raises:
            ListTakenError: one has it.
        """
        rows = await self.database.request_rows(
            FIND_LIST, (name,), what="lists.find", bound=self.timeout
        )
        if not all(map(self._sees, map(_LIST.row, rows))):
            raise ListTakenError(name)

    def _sees(self, it: MailingList) -> bool:
        return owners.sees(self._senders, it.senders)

    async def _list(self, statement: str, value: object) -> MailingList | None:
        rows = await self.database.request_rows(
            statement, (value,), what="lists.find", bound=self.timeout
        )
        return next(filter(self._sees, map(_LIST.row, rows)), None)

    async def make_list(self, name: str, *, title: str | None = None) -> MailingList:
        """The list of this name, made where there was none; a title that is given takes the place
        of the old one.

        Raises:
            ListNameError: the name or the title cannot be used, or another key's list has the name.
            OthersListError: it is others', too, and would get another title.
            DatabaseError: it was not made.
        """
        return (await self.save_list(name, title))[0]

    async def save_list(
        self, name: str, title: str | None = None, *, actor: str | None = None
    ) -> tuple[MailingList, bool]:
        """As `make_list`, and whether that has changed anything; `actor`: who asked, for the log of
        actions.
        """
        check_list(name)
        if title is not None:
            check_list_title(title)

        async def work(cursor: Cursor) -> tuple[MailingList, bool]:
            its, has_changed = await write_list(cursor, name, title, self._senders)
            if actor and has_changed:
                await cursor.execute(*note_action("save_list", actor, detail=name))
            return its, has_changed

        return await self.database.request(work, what="lists.make", bound=self.timeout)

    async def make_lists(
        self, wanted: Collection[tuple[str | None, Reason]]
    ) -> dict[str | None, int]:
        """The ids of the lists of these names, on which there will be suppressions for these
        reasons.

        Those that are not there are made, all of them or none. None: all messages.

        Raises:
            LimitedKeyError: the key is for some senders, and it would suppress for all messages,
            or, for a reason that
                others cannot see and hardly override, on a list that is theirs, too.
            ListNameError: a name cannot be used or is another key's list, or there would be too
            many lists. DatabaseError: they were not made.
        """
        names = {name for name, _ in wanted}
        if None in names:
            self._require_all_senders()
        named = sorted(check_list(name) for name in names if name is not None)
        strong = {name: reason for name, reason in wanted if reason.strength}

        async def work(cursor: Cursor) -> dict[str | None, int]:
            found = [(await write_list(cursor, name, None, self._senders))[0] for name in named]
            for its in found:
                if its.name in strong and not owners.may_change(self._senders, its.senders):
                    raise LimitedKeyError(
                        t(
                            "list {name!r} belongs to other senders, too: a key for some senders adds no {reason} to "
                            "it. Nothing was changed",
                            name=its.name,
                            reason=strong[its.name].value,
                        )
                    )
            return {its.name: its.id for its in found}

        made = (
            await self.database.request(work, what="lists.make_many", bound=self.timeout)
            if named
            else {}
        )
        return {None: EVERYTHING, **made}

    async def message_of(self, recipient_id: int) -> tuple[str, str] | None:
        """To whom a message went, and from which address, while its row is kept."""
        rows = await self.database.request_rows(
            _READ_RECIPIENT, (recipient_id,), what="recipients.find", bound=self.timeout
        )
        return next(iter(rows), None)


async def add(cursor: Cursor, new: Sequence[NewSuppression]) -> AddedSuppressions:
    """What `Suppressions.add` does, in a transaction of the caller's."""
    added = AddedSuppressions([], [])
    for first in range(0, len(new), ROWS_AT_ONCE):
        part = dict[Key, NewSuppression]()
        for it in new[first : first + ROWS_AT_ONCE]:
            if (there := part.get(it.key)) is None or it.reason.strength > there.reason.strength:
                part[it.key] = it
        known = await _insert_missing(cursor, part)
        fresh = [it for key, it in part.items() if key not in known]
        stronger = [
            it
            for key, it in part.items()
            if key in known and it.reason.strength > Reason(known[key]).strength
        ]
        for it in stronger:
            await cursor.execute(
                _STRENGTHEN, (it.reason.value, it.source.value, it.detail, *it.key, known[it.key])
            )
            if cursor.rowcount != 1:  # the whole transaction is done again
                raise OperationalError(1020, "a suppression has changed since it was read")
        if changed := [*fresh, *stronger]:
            await cursor.execute(
                *_log(
                    [
                        (*it.key, "added", it.reason.value, it.source.value, it.actor)
                        for it in changed
                    ]
                )
            )
        await _write_events(cursor, fresh)
        added.fresh.extend(fresh)
        added.stronger.extend(stronger)
    return added


async def _end(
    cursor: Cursor,
    digest: bytes,
    list_id: int,
    origins: Collection[str],
    *,
    source: Channel,
    actor: str | None,
) -> bool:
    """End those of these origins; whether messages of the list, or all, stay away still."""
    if origins:
        await cursor.execute(_REMOVE, (digest, list_id, tuple(origins)))
        lines = [
            (digest, list_id, origin, "removed", None, source.value, actor) for origin in origins
        ]
        await cursor.execute(*_log(lines))
    await cursor.execute(_READ_BINDING, ((digest,), (EVERYTHING, list_id)))
    return bool(await cursor.fetchall())


async def _insert_missing(cursor: Cursor, part: Mapping[Key, NewSuppression]) -> dict[Key, str]:
    """Insert those that are not there; the reasons of those that were.

    Of two transactions that insert one at once, the second finds that it has inserted fewer, and
    looks once more: so each is counted, logged and told by one of them alone.
    """
    digests, lists = (
        tuple({it.digest for it in part.values()}),
        tuple({it.list_id for it in part.values()}),
    )
    while True:
        await cursor.execute(_READ_BINDING, (digests, lists))
        known = {
            (bytes(digest), *rest): reason for digest, *rest, reason in await cursor.fetchall()
        }
        missing = [_row(it) for key, it in part.items() if key not in known]
        if not missing:
            return known
        await cursor.execute("SAVEPOINT s")
        await cursor.execute(*insert_many(_INSERT_NEW, missing, last=NOW))
        if cursor.rowcount == len(missing):
            return known
        await cursor.execute("ROLLBACK TO SAVEPOINT s")


async def _write_events(cursor: Cursor, fresh: Sequence[NewSuppression]) -> None:
    """Write the events of people who left a list or everything; two who do it at once for one row
    cause one.
    """
    if not (
        left := [
            it
            for it in fresh
            if it.reason is Reason.UNSUBSCRIBED and it.source is not Channel.IMPORT
        ]
    ):
        return
    messages = tuple({it.recipient_id for it in left if it.recipient_id}) or (0,)
    found, sent = await cursor.fetch_batch(
        [
            (_LEFT, (tuple({it.digest for it in left}), tuple({it.list_id for it in left}))),
            (_MESSAGES, (messages,)),
        ]
    )
    rows = {
        (bytes(digest), list_id, origin): (name, at) for digest, list_id, origin, name, at in found
    }
    message_of = {recipient: message for recipient, *message in sent}
    await cursor.execute(
        *insert_events([_event(it, rows, message_of) for it in left if it.key in rows])
    )


def _event(
    it: NewSuppression, rows: Mapping[Key, Sequence[Any]], message_of: Mapping[int, Sequence[Any]]
) -> NewEvent:
    name, at = rows[it.key]
    job, seq, to, sender = message_of.get(it.recipient_id or 0, (None, None, it.address, None))
    data = {
        "recipient_id": it.recipient_id if job else None,
        "job_id": job,
        "index": seq,
        "email": to,
        "sender_email": sender,
        "list": name,
        "source": it.source.value,
    }
    whose = hashlib.sha256(it.origin.encode()).hexdigest()[:_ORIGIN_IN_CAUSE]
    cause = f"{it.digest.hex()}:{it.list_id}:{at.isoformat()}:{whose}"
    return NewEvent(EventType.RECIPIENT_UNSUBSCRIBED, cause, data, job, sender)


def _row(it: NewSuppression) -> tuple[object, ...]:
    address = it.address and canonical(it.address)
    return (
        *it.key,
        it.reason.value,
        it.source.value,
        address,
        it.recipient_id,
        it.detail,
        it.actor,
    )


def _log(lines: Sequence[tuple[object, ...]]) -> Statement:
    return insert_many(_INSERT_LOG, lines, last=NOW)
