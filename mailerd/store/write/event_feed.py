"""The outbox and the feed: every event has one place, and one that can be seen has none before it
that cannot.

The ids of the table come at the INSERT, and transactions commit in another order: a reader who goes
by ids passes by what is committed late. So an event gets its place after its COMMIT, under the lock
of the row that counts the places. However long a transaction stays open, its events come after
those that were committed before, and hold up none of them.

A server that takes over may lack the last commits of the one before. It gives no place again that a
client may have seen: its places begin a leap further on. A client that goes on from a place in
between has seen what is lost.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, batched
from typing import Annotated, Any, Final, NamedTuple

from mailerd.clock import new_id
from mailerd.core.extras import read_metadata
from mailerd.core.i18n import t
from mailerd.core.reasons import from_event, in_event
from mailerd.core.webhooks import EventType
from mailerd.errors import DatabaseError, MailerdError
from mailerd.model.fields import Sql
from mailerd.store.db.connection import NOW, SINCE, Cursor, Statement, insert_many, rfc3339, utc
from mailerd.store.db.database import Database
from mailerd.store.db.rows import Select
from mailerd.store.write.tags import SELECT_TAGS, read_tags

# The transactional outbox: an event is written in the transaction that makes the change.
#
# So neither is without the other. It has no place in the feed yet; `event_feed.py` gives it one
# after the COMMIT.
#
# A repeated transaction writes its events again: those that are there stay as they are.
_INSERT: Final = """
INSERT INTO events (uid, type, cause, job_id, sender_email, recipient_id, data, at)
VALUES %s ON DUPLICATE KEY UPDATE uid = events.uid"""


class NewEvent(NamedTuple):
    """A change that the application hears of."""

    type: EventType
    cause: str
    """What made the change; a second event of the same type and cause is not written."""
    data: Mapping[str, object]
    job: str | None = None
    sender: str | None = None
    """Whose event it is; None: only a key for all senders sees it."""


def insert_events(events: Sequence[NewEvent]) -> Statement:
    """The statement that writes these."""
    rows = []
    for it in events:
        data = json.dumps(in_event(it.data), ensure_ascii=False, separators=(",", ":"))
        recipient = it.data.get("recipient_id")
        rows.append(
            (f"evt_{new_id()}", it.type.value, it.cause, it.job, it.sender, recipient, data)
        )
    return insert_many(_INSERT, rows, last=NOW)


# `recipients.sent`: what one commit has sent, in one event for each job, and only while an endpoint
# asks for it.
MAX_SENT_BYTES: Final = 18_000
"""The most bytes of what one event tells, with metadata: Standard Webhooks 1.0.0 wants bodies below
20 kB.
"""
ASKS_FOR_SENT: Final = """
EXISTS (SELECT 1 FROM webhooks WHERE state IN ('on', 'paused') AND types LIKE '%%"recipients.sent"%%')"""
"""Whether an endpoint asks for it; no key of the feed does."""
_READ_SENT: Final = f"""
SELECT j.id, j.sender_email, j.from_address, COALESCE(OCTET_LENGTH(j.metadata), 0), r.id, r.seq, r.to_email,
       r.message_id, r.sent_at, r.metadata
  FROM job_recipients r FORCE INDEX (PRIMARY) JOIN jobs j ON j.id = r.job_id
 WHERE r.id IN %s AND {ASKS_FOR_SENT} ORDER BY j.id, r.id"""


async def sent_events(cursor: Cursor, recipients: Collection[int]) -> None:
    """Write the events of messages that the caller's transaction has just made `sent`.

    Only of these: of one that an earlier try has made `sent`, that try has written the event.
    """
    if not recipients:
        return
    await cursor.execute(_READ_SENT, (tuple(recipients),))
    made, data, size = list[NewEvent](), dict[str, Any](), 0
    for (
        job,
        mailbox,
        sender,
        of_job,
        recipient,
        seq,
        email,
        message,
        at,
        metadata,
    ) in await cursor.fetchall():
        it = {
            "recipient_id": recipient,
            "job_id": job,
            "index": seq,
            "email": email,
            "message_id": message,
            "sent_at": rfc3339(utc(at)),
            **({"metadata": read_metadata(metadata)} if metadata else {}),
        }
        more = len(json.dumps(it, ensure_ascii=False).encode())
        if not made or made[-1].job != job or size + more > MAX_SENT_BYTES:
            data, size = {"sender_email": mailbox, "recipients": []}, of_job
            made.append(NewEvent(EventType.RECIPIENTS_SENT, new_id(), data, job, sender))
        data["recipients"].append(it)
        size += more
    if made:
        await cursor.execute(*insert_events(made))


MAX_PAGE: Final = 1000
"""The most events of one page."""
MAX_BYTES: Final = 1_000_000
"""Where a page ends that has so much in it.

An event of `recipients.sent` may have 18 kB, and a thousand of them in one answer held up the
daemon for more than a second.
"""
FIRST_EVENTS: Final = 20
"""Events that are read however large they are, which is all that a client that follows the feed has
to read.
"""
BATCH: Final = 500
"""The most events that get their places in one transaction."""
LEAP: Final = 1_000_000
"""Places that are passed over when another server gives them: more than events that it can lack."""

_RESTORED: Final = "(restored)"
"""What stands for the server that gave places last, once the database was restored from a
backup.
"""

ANY_NEW: Final = "SELECT 1 FROM events FORCE INDEX (position) WHERE position IS NULL LIMIT 1"
# Another daemon that gives places, or that was stopped while it did, is not waited for.
_LOCK: Final = "SELECT last, server FROM event_positions WHERE id = 1 FOR UPDATE SKIP LOCKED"
# Without a lock it sees one moment: if it sees an event, it sees all that were committed before
# that one was written, and they have lower ids. A locking read sees each row at another moment.
_SELECT_NEW: Final = (
    "SELECT id FROM events FORCE INDEX (position) WHERE position IS NULL ORDER BY id LIMIT %s"
)
# A transaction that repeats an event locks its row. Such an event gets its place later.
_LOCK_FREE: Final = """
SELECT id FROM events FORCE INDEX (PRIMARY) WHERE id IN %s ORDER BY id FOR UPDATE SKIP LOCKED"""
_SET_PLACES: Final = (
    "UPDATE events FORCE INDEX (PRIMARY) SET position = %s + FIELD(id, {ids}) WHERE id IN ({ids})"
)
# What wrote an event knew neither the alias that its job was posted for, whose event it is, nor
# what the application has given to the job and to the message. So `number` adds it, to events of
# all types in one statement. The jobs are read without a lock, since a change of a large one locks
# its row for seconds.
_READ_GIVEN: Final = f"""
SELECT e.id, j.from_email, r.metadata, j.metadata, {SELECT_TAGS}
  FROM events e FORCE INDEX (PRIMARY) STRAIGHT_JOIN jobs j FORCE INDEX (PRIMARY) ON j.id = e.job_id
       LEFT JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = e.recipient_id
 WHERE e.id IN %s AND (j.from_email IS NOT NULL OR j.metadata IS NOT NULL OR r.metadata IS NOT NULL
   OR EXISTS (SELECT 1 FROM job_tags t FORCE INDEX (job) WHERE t.job_id = j.id))"""
_ADD_GIVEN: Final = """
UPDATE ({rows}) v STRAIGHT_JOIN events e FORCE INDEX (PRIMARY) ON e.id = v.id
   SET e.data = CONCAT(LEFT(e.data, CHAR_LENGTH(e.data) - 1), v.more COLLATE utf8mb4_bin)"""
_ADDED_AT_ONCE: Final = 50
"""Events of one such statement: each gets 11 kB at most, which is twice as much once it is
escaped.
"""
_SET_SENDER: Final = "UPDATE events FORCE INDEX (PRIMARY) SET sender_email = %s WHERE id IN %s"
_SET_LAST: Final = "UPDATE event_positions SET last = %s, server = %s WHERE id = 1"
_SET_SERVER: Final = "UPDATE event_positions SET server = %s WHERE id = 1"
_READ_LAST: Final = "SELECT last, pruned FROM event_positions WHERE id = 1"
_READ_LAST_UP_TO: Final = (
    "SELECT MAX(position) FROM events FORCE INDEX (position) WHERE position <= %s"
)
# One read in the order of `KEY sender` for each sender: of them all at once the server would sort
# every event there is.
_READ_PAGE_OF_SENDERS: Final = "SELECT * FROM ({each}) page ORDER BY position LIMIT %s"

type _Rows = tuple[list[Any], bool]


class UnknownPositionError(MailerdError):
    """A client has seen events that the database does not know: it has lost commits."""

    def __init__(self, before: int) -> None:
        super().__init__(
            t(
                "events after ID {before} that were read before are lost: the database was restored, or another "
                "server took over without them. Continue with after={before}, and compare your state with the API",
                before=before,
            )
        )


class PrunedPositionError(MailerdError):
    """A client goes on from a place behind which events were deleted by age: it has missed some."""

    def __init__(self, pruned: int) -> None:
        super().__init__(
            t(
                "events up to ID {pruned} were deleted by age (retention.events) before all were read; compare "
                "your state with the API, and continue with after={pruned}",
                pruned=pruned,
            )
        )


def _data(data: str) -> dict[str, Any]:
    return from_event(json.loads(data))


@dataclass(frozen=True)
class FeedEvent:
    """An event with its place."""

    position: int
    uid: str
    type: EventType
    at: datetime
    job_id: str | None
    sender: Annotated[str | None, Sql("sender_email")]
    data: Annotated[dict[str, Any], Sql("data", read=_data)]


_EVENT: Final = Select(FeedEvent, of="events")
_SIZE: Final = "position,OCTET_LENGTH(data)"
_READ_PAGE: Final = f"""
SELECT {_EVENT.columns} FROM events FORCE INDEX ({{index}})
 WHERE {{sender}}position > %s AND position <= %s{{types}} ORDER BY position LIMIT %s"""


@dataclass(frozen=True)
class EventPage:
    """Events in their order."""

    events: list[FeedEvent]
    next_after: int
    """The place after which the next page begins."""
    more: bool = False
    """Whether it ends because it is full."""


class EventFeed:
    """Reads the feed. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, database: Database, *, timeout: float) -> None:
        self._database = database
        self._timeout = timeout

    async def page(
        self,
        *,
        after: int,
        limit: int,
        types: Collection[EventType] = (),
        senders: Collection[str] | None = None,
    ) -> EventPage:
        """The events behind `after`; of these types and senders only, where they are given.

        Raises:
            UnknownPositionError: no event has this place, and none had it that was deleted by age.
            PrunedPositionError: there are no events directly behind it any more.
        """
        await self.number_new()

        async def work(cursor: Cursor) -> EventPage:
            await cursor.execute(_READ_LAST)
            last, _ = await cursor.fetchone()
            rows, full = await _read_page(
                cursor, limit, lambda at, most: _page(at, last, most, types, senders), after
            )
            # The mark is read after the page: what is deleted between the two is missing in the
            # page.
            ((before,),), ((_, pruned),) = await cursor.fetch_batch(
                [(_READ_LAST_UP_TO, (after,)), (_READ_LAST, ())]
            )
            if 0 < after < pruned:
                raise PrunedPositionError(pruned)
            if after > max(before or 0, pruned):
                raise UnknownPositionError(max(before or 0, pruned))
            events = [_EVENT.row(each) for each in rows]
            return EventPage(events, events[-1].position if full else last, full)

        return await self._database.request(
            work, what="events.read", bound=self._timeout, read_only=True
        )

    async def number_new(self) -> bool:
        """Give their places to the events that have none; whether there were any.

        A server that takes no writes leaves them for later.

        Raises:
            DatabaseError: they have none yet.
        """
        any_new = False
        try:
            while await self._database.read_rows(
                ANY_NEW, what="events.find_new", bound=self._timeout
            ):
                numbered = await self._database.transaction(
                    number, what="events.number", bound=self._timeout
                )
                any_new = any_new or numbered > 0
                if numbered < BATCH:
                    break
        except DatabaseError:
            if self._database.outage != "read-only":
                raise
        return any_new


async def number(cursor: Cursor) -> int:
    """Give places to a batch of committed events, in the caller's transaction; how many there
    were.
    """
    await cursor.execute(_LOCK)
    if (given := await cursor.fetchone()) is None:
        return 0
    last, server = given
    here = cursor.server.partition(SINCE)[0]
    await cursor.execute(_SELECT_NEW, (BATCH,))
    if not (new := tuple(id_ for (id_,) in await cursor.fetchall())):
        return 0
    await cursor.execute(_LOCK_FREE, (new,))
    if not (ids := [int(id_) for (id_,) in await cursor.fetchall()]):
        return 0
    if server == _RESTORED or (server and here and server != here):
        last, server = last + LEAP, ""
    await _add_given(cursor, ids)
    await cursor.execute(_SET_PLACES.format(ids=", ".join(map(str, ids))), (last,))
    await cursor.execute(_SET_LAST, (last + len(ids), here or server))
    return len(ids)


async def _add_given(cursor: Cursor, ids: Sequence[int]) -> None:
    """Add to events what their jobs and messages were posted with: alias, metadata and tags."""
    await cursor.execute(_READ_GIVEN, (tuple(ids),))
    aliases, more = dict[str, list[int]](), list[tuple[int, str]]()
    for id_, alias, metadata, job_metadata, tags in await cursor.fetchall():
        if alias:
            aliases.setdefault(alias, []).append(id_)
        given = {
            "metadata": metadata,
            "job_metadata": job_metadata,
            "tags": json.dumps(read_tags(tags)) if tags else None,
        }
        if text := "".join(f',"{name}":{value}' for name, value in given.items() if value):
            more.append((id_, f"{text}}}"))
    for alias, its in sorted(aliases.items()):
        await cursor.execute(_SET_SENDER, (alias, tuple(its)))
    for some in batched(more, _ADDED_AT_ONCE):
        rows = " UNION ALL ".join(["SELECT %s id, %s more", *["SELECT %s, %s"] * (len(some) - 1)])
        await cursor.execute(_ADD_GIVEN.format(rows=rows), [value for row in some for value in row])


async def leap_at_next(cursor: Cursor) -> None:
    """Let the next event's place begin a leap further on: places that were given since the backup
    are not given again.

    It holds also where a server does not say which it is.
    """
    await cursor.execute(_SET_SERVER, (_RESTORED,))


async def _read_page(
    cursor: Cursor, limit: int, behind: Callable[[int, int], Statement], after: int
) -> _Rows:
    """The rows, and whether there may be more: as many as were asked for, or as come to MAX_BYTES.

    `behind`: what reads so many events behind a place.
    """
    first = min(limit, FIRST_EVENTS)
    ((*rows,),) = await cursor.fetch_batch([behind(after, first)])
    left = limit - len(rows)
    if len(rows) < first or left == 0:
        return rows, len(rows) == limit
    *_, (last, *_) = rows
    sql, values = behind(last, left)
    ((*sizes,),) = await cursor.fetch_batch([(sql.replace(_EVENT.columns, _SIZE), values)])
    so_far = accumulate(
        (size for _, size in sizes), initial=sum(len(data.encode()) for *_, data in rows)
    )
    # the first is what was read: it may be too much by itself
    fits = sum(size <= MAX_BYTES for size in so_far) - 1
    if fits > 0:
        (more,) = await cursor.fetch_batch([behind(last, fits)])
        rows += more
    return rows, len(sizes) == left or fits < len(sizes)


def _page(
    after: int, last: int, limit: int, types: Collection[EventType], senders: Collection[str] | None
) -> Statement:
    only = " AND type IN %s" if types else ""
    values = (after, last, *([tuple(it.value for it in types)] if types else []), limit)
    if senders is None:
        return _READ_PAGE.format(index="position", sender="", types=only), values
    each = f"({_READ_PAGE.format(index='sender', sender='sender_email = %s AND ', types=only)})"
    of = sorted(senders) or [""]
    return _READ_PAGE_OF_SENDERS.format(each=" UNION ALL ".join([each] * len(of))), [
        *(value for sender in of for value in (sender, *values)),
        limit,
    ]


_DELETE: Final = "DELETE FROM events WHERE position > %s AND position <= %s"
_SET_PRUNED: Final = "UPDATE event_positions SET pruned = %s WHERE id = 1"


async def delete_events(cursor: Cursor, *, behind: int, up_to: int) -> None:
    """Delete the events of these places, the first that are left, under the lock of the row that
    counts the places.
    """
    await cursor.execute(_DELETE, (behind, up_to))
    await cursor.execute(_SET_PRUNED, (up_to,))
