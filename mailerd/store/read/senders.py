"""Senders as they are shown: their limits, state and pauses, and what waits."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import batched
from typing import Final

from mailerd.core.pauses import repair
from mailerd.core.reasons import from_row
from mailerd.core.senders import SenderReading
from mailerd.store.db.connection import Cursor, Statement, naive, utc
from mailerd.store.db.database import Database, request
from mailerd.store.db.rows import Select
from mailerd.store.queue import rate_limits
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.read.forecast_inputs import KnownSender, WaitingMessages, of_senders
from mailerd.store.read.sender_rows import SENDER, StoredSender
from mailerd.store.read.stats import find_mailboxes

_READ_ALL: Final = f"SELECT {SENDER.columns} FROM senders s ORDER BY email"
_PAUSES: Final = """
SELECT email, pause_cause, paused_until, pause_reason, pause_reason_code, pause_reason_args, UTC_TIMESTAMP(6)
  FROM senders WHERE pause_cause IS NOT NULL"""
_IS_KNOWN: Final = """
SELECT EXISTS(SELECT 1 FROM senders WHERE email = %s) OR EXISTS(SELECT 1 FROM jobs WHERE sender_email = %s)"""
MAX_COUNTED: Final = 10_000
"""The most waiting messages of a sender that a page counts; `page` counts as many of all its
senders together.
"""
_NO_BOUND: Final = 1 << 62
_READ_AT_ONCE: Final = 100
"""The most senders of which one statement reads."""
_WAITING: Final = Select(WaitingMessages)
# A job that waits since what bounced is read first has a time of its own.
_COUNT_DUE: Final = f"""
(SELECT {_WAITING.columns} FROM (
  SELECT GREATEST(r.due_at, IF(j.braked_until > UTC_TIMESTAMP(6), j.braked_until, r.due_at)) due, r.due_at own_due
    FROM jobs j FORCE INDEX (next_claim) STRAIGHT_JOIN job_recipients r FORCE INDEX (claim)
      ON r.job_id = j.id AND r.status = 'waiting' WHERE j.sender_email = %s AND j.claimable = 1 LIMIT %s) counted)"""
_READ_MODE: Final = "SELECT mode FROM senders FORCE INDEX (PRIMARY) WHERE email = %s"
_READ_ELSEWHERE: Final = """
SELECT sender_email, SUM(elsewhere) FROM sender_hours FORCE INDEX (PRIMARY)
 WHERE sender_email IN %s AND hour > %s GROUP BY sender_email"""
# The part of the minute before that still lies within 60 seconds: no query counts messages.
_SUM_LAST_MINUTE: Final = """
SELECT sender_email, SUM(IF(minute = %s, sent, CEIL(sent * %s))) FROM tallies FORCE INDEX (PRIMARY)
 WHERE minute IN %s AND sender_email IN %s GROUP BY sender_email"""
_READ_INBOXES: Final = (
    "SELECT email, read_at FROM mailboxes FORCE INDEX (PRIMARY) WHERE email IN %s"
)
REPAIRS_TIMEOUT: Final = 4.0
"""Seconds for what one command shows beside something else."""


def readings_statement(only: Collection[str] | None, after: str, limit: int) -> Statement:
    """What `page` asks; a test has it explained."""
    columns = f"SELECT {SENDER.columns} FROM senders s FORCE INDEX (PRIMARY) WHERE email > %s"
    if only is None:
        return f"{columns} ORDER BY email LIMIT %s", (after, limit)
    return f"{columns} AND email IN %s ORDER BY email LIMIT %s", (
        after,
        tuple(only) or ("",),
        limit,
    )


@dataclass(frozen=True)
class Senders:
    """Queries for senders. `defaults`: the limits of a sender that has none of its own."""

    database: Database
    defaults: DefaultLimits
    timeout: float | None = None
    """Seconds that a caller waits for a page; None: as long as for any statement."""

    async def all(self) -> list[SenderReading]:
        """Every sender, by address."""
        return await self.database.read(self._all, what="senders.list")

    async def repairs(self) -> dict[str, str]:
        """What a person has to do before messages go, by sender; without those for whom waiting is
        enough.
        """
        rows = await self.database.read_rows(
            _PAUSES, (), what="senders.read_pauses", bound=REPAIRS_TIMEOUT
        )
        found = {
            email: repair(cause, utc(end), sender=email, now=utc(now), reason=from_row(*reason))
            for email, cause, end, *reason, now in rows
        }
        return {email: words for email, words in found.items() if words}

    async def mode(self, email: str, *, within: float) -> str | None:
        """How it sends; None: it has sent nothing yet.

        `within`: seconds that the database gets for it.
        """
        rows = await self.database.request_rows(
            _READ_MODE, (email,), what="senders.list", bound=within
        )
        return next((mode for (mode,) in rows), None)

    async def _all(self, cursor: Cursor) -> list[SenderReading]:
        await cursor.execute(_READ_ALL)
        rows = [SENDER.row(row) for row in await cursor.fetchall()]
        return [
            each
            for some in batched(rows, _READ_AT_ONCE)
            for each in await self._readings(cursor, self._known(some), None, count_all=True)
        ]

    def _known(self, rows: Iterable[StoredSender]) -> dict[str, KnownSender]:
        return {it.email: KnownSender(it.state(self.defaults), it.hours, it.turn) for it in rows}

    def _unused(self, email: str, now: datetime) -> KnownSender:
        return KnownSender(
            rate_limits.default_state(email, now=now, defaults=self.defaults), {}, None
        )

    @request("senders.page", read_only=True)
    async def page(
        self,
        cursor: Cursor,
        *,
        only: Collection[str] | None,
        after: str = "",
        limit: int,
        aliases: Mapping[str, str] | None,
        authorized: Collection[str] = (),
    ) -> list[SenderReading]:
        """The first senders behind an address, of `only` where it is given.

        `authorized`: mailboxes that can be used; those for which nothing was ever posted have no
        row, and are senders.

        `aliases`: by mailbox, what a limited key calls it that does not name it; None: the key has
        no limit, and may be shown any message. The more senders a page has, the fewer waiting
        messages of each are counted, so that it takes no longer.
        """
        await cursor.execute(*readings_statement(only, after, limit))
        found = self._known(SENDER.row(row) for row in await cursor.fetchall())
        last = max(found) if len(found) == limit else None
        unused = [
            email
            for email in authorized
            if email > after
            and email not in found
            and (only is None or email in only)
            and (not last or email < last)
        ]
        if unused:
            now = utc(await cursor.fetch_value("SELECT UTC_TIMESTAMP(6)"))
            found |= {it: self._unused(it, now) for it in unused}
        return await self._readings(
            cursor, {email: found[email] for email in sorted(found)[:limit]}, aliases
        )

    @request("senders.find_one", read_only=True)
    async def unused(
        self, cursor: Cursor, email: str, *, aliases: Mapping[str, str] | None
    ) -> SenderReading:
        """The same of a mailbox that has no row yet, since nothing was ever posted for it."""
        found = {
            email: self._unused(email, utc(await cursor.fetch_value("SELECT UTC_TIMESTAMP(6)")))
        }
        return (await self._readings(cursor, found, aliases))[0]

    async def _readings(
        self,
        cursor: Cursor,
        known: Mapping[str, KnownSender],
        aliases: Mapping[str, str] | None,
        *,
        count_all: bool = False,
    ) -> list[SenderReading]:
        if not known:
            return []
        names, now = tuple(known), next(iter(known.values())).state.now
        most = _NO_BOUND if count_all else max(1, MAX_COUNTED // len(names))
        # One statement: a hundred of them take twice as long.
        values = [value for email in names for value in (email, email, email, most)]
        await cursor.execute(" UNION ALL ".join([_COUNT_DUE] * len(names)), values)
        waiting = {it.email: it for it in map(_WAITING.row, await cursor.fetchall())}
        elsewhere, inboxes, sent = map(
            dict,
            await cursor.fetch_batch(
                [
                    (_READ_ELSEWHERE, (names, naive(now - timedelta(hours=25)))),
                    (_READ_INBOXES, (names,)),
                    _last_minute(names, now),
                ]
            ),
        )
        inputs = await of_senders(
            cursor, known, waiting=waiting, most=most, outage=self.database.outage
        )
        if aliases is not None:  # the message that failed may be another key's
            inputs = {
                email: replace(
                    it,
                    alias=aliases.get(email, ""),
                    failing=it.failing and replace(it.failing, example=0),
                )
                for email, it in inputs.items()
            }
        return [
            SenderReading(
                inputs=replace(inputs[email], used_minute=int(sent.get(email, 0))),
                elsewhere=int(elsewhere.get(email, 0)),
                counted_to=most,
                read_at=utc(inboxes.get(email)),
            )
            for email in names
        ]

    @request("senders.find_mailboxes", read_only=True)
    async def mailboxes_of(self, cursor: Cursor, names: Collection[str]) -> Mapping[str, str]:
        """The mailboxes behind these names that are none of them, each with the aliases that stand
        for it.
        """
        return (await find_mailboxes(cursor, names)).aliases

    async def knows(self, email: str) -> bool:
        """Whether a row or a job bears that name."""
        ((known,),) = await self.database.request_rows(
            _IS_KNOWN, (email, email), what="senders.find", bound=self.timeout
        )
        return bool(known)


def _last_minute(senders: Sequence[str], now: datetime) -> Statement:
    """What sums up how many messages each has sent in the last 60 seconds, by the tallies of two
    minutes.
    """
    this = now.replace(second=0, microsecond=0)
    minutes = naive(this), naive(this - timedelta(minutes=1))
    return _SUM_LAST_MINUTE, (
        minutes[0],
        1 - (now - this) / timedelta(minutes=1),
        minutes,
        tuple(senders),
    )
