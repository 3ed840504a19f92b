"""Reads notices for commands and pages: bounces, one by one and by domain; and how far each inbox is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from mailerd.core.notices import BOUNCES
from mailerd.store.db.cursor import Statement
from mailerd.store.db.database import Database
from mailerd.store.db.times import utc

BOUNCE_KINDS: Final = tuple(sorted(kind.value for kind in BOUNCES))
_COLUMNS: Final = (
    "n.id, n.mailbox, n.gmail_id, n.recipient_id, n.job_id, n.email, n.kind, n.code, n.detail, n.believed, n.at"
)
_NOTICES: Final = f"SELECT {_COLUMNS} FROM notices n {{index}} WHERE n.kind IN %s {{where}} ORDER BY n.id DESC LIMIT %s"
_BOUNCES: Final = """
SELECT n.mailbox, n.email, n.kind, n.recipient_id FROM notices n {index}
 WHERE n.kind IN %s AND n.believed = 1 AND n.at > UTC_TIMESTAMP(6) - INTERVAL %s HOUR {where}"""
_COUNT_BY_DOMAIN: Final = """
SELECT LOWER(SUBSTRING_INDEX(b.email, '@', -1)) name, b.kind, COUNT(DISTINCT b.recipient_id)
  FROM ({bounces}) b GROUP BY name, b.kind"""
_COUNT_BY_SENDER: Final = """
SELECT b.mailbox name, b.kind, COUNT(DISTINCT b.recipient_id) FROM ({bounces}) b GROUP BY name, b.kind"""
_READ_OF_LETTER: Final = f"SELECT {_COLUMNS} FROM notices n WHERE n.recipient_id = %s ORDER BY n.id"
_READ_INBOXES: Final = """
SELECT m.email, m.scope, m.state, m.detail, m.read_at, m.next_at, m.failing_id, UTC_TIMESTAMP(6)
  FROM mailboxes m ORDER BY m.email LIMIT %s"""


@dataclass(frozen=True)
class Notice:
    """One message that concerned a letter."""

    id: int
    mailbox: str
    gmail_id: str
    recipient_id: int | None
    job_id: str | None
    email: str | None
    """The address that the letter went to."""
    kind: str
    code: str | None
    detail: str | None
    believed: bool
    at: datetime


@dataclass(frozen=True)
class BounceCounts:
    """How many letters to a domain, or of a sender, bounced, by kind."""

    name: str
    kinds: dict[str, int]

    @property
    def total(self) -> int:
        """The letters of all kinds."""
        return sum(self.kinds.values())


@dataclass(frozen=True)
class InboxState:
    """How far an inbox is read."""

    email: str
    scope: str
    state: str
    detail: str | None
    read_at: datetime | None
    next_at: datetime
    failing_id: str | None
    now: datetime


class NoticeReader:
    """Reads what was found. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, database: Database, *, timeout: float) -> None:
        self._database = database
        self._timeout = timeout

    async def latest(
        self,
        *,
        kinds: tuple[str, ...] = BOUNCE_KINDS,
        sender: str | None = None,
        job: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Notice]:
        """The newest notices of these kinds, those before an id; `sender` None: of all."""
        return [_notice(row) for row in await self._read(*latest_statement(kinds, sender, before, limit, job=job))]

    async def of_letter(self, recipient: int) -> list[Notice]:
        """Everything that came about one letter, oldest first."""
        return [_notice(row) for row in await self._read(_READ_OF_LETTER, (recipient,))]

    async def by_domain(
        self, *, span: timedelta, sender: str | None = None, most: int | None = None
    ) -> list[BounceCounts]:
        """Bounced letters of the last while by the domain of their recipients, the most first.

        `most`: bounces that are summed up; without a sender they are the newest.
        """
        return _counts(await self._read(*counts_statement(span, sender, most, by_sender=False)))

    async def by_sender(
        self, *, span: timedelta, sender: str | None = None, most: int | None = None
    ) -> list[BounceCounts]:
        """The same by the sender of the letters."""
        return _counts(await self._read(*counts_statement(span, sender, most, by_sender=True)))

    async def inboxes(self, *, limit: int = 1000) -> list[InboxState]:
        """How far each inbox is read."""
        rows = await self._read(_READ_INBOXES, (limit,))
        return [
            InboxState(email, scope, state, detail, utc(read_at), utc(next_at), failing, utc(now))
            for email, scope, state, detail, read_at, next_at, failing, now in rows
        ]

    async def _read(self, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        rows = await self._database.request_rows(statement, values, what="read notices", bound=self._timeout)
        return list(rows)


def _counts(rows: Sequence[tuple[Any, ...]]) -> list[BounceCounts]:
    found: dict[str, dict[str, int]] = {}
    for name, kind, letters in rows:
        found.setdefault(name or "", {})[kind] = letters
    return sorted((BounceCounts(*it) for it in found.items()), key=lambda it: (-it.total, it.name))


def counts_statement(span: timedelta, sender: str | None, most: int | None, *, by_sender: bool) -> Statement:
    """What `by_domain` and `by_sender` ask; a test has it explained."""
    where, values = "", list[object]([BOUNCE_KINDS, span // timedelta(hours=1)])
    if sender:
        where += "AND n.mailbox = %s"
        values.append(sender)
    if most is not None:
        where += " LIMIT %s" if sender else " ORDER BY n.id DESC LIMIT %s"
        values.append(most)
    index = "FORCE INDEX (by_kind)" if sender else "FORCE INDEX (PRIMARY)" if most is not None else ""
    bounces = _BOUNCES.format(index=index, where=where)
    return (_COUNT_BY_SENDER if by_sender else _COUNT_BY_DOMAIN).format(bounces=bounces), values


def latest_statement(
    kinds: Sequence[str], sender: str | None, before: int | None, limit: int, *, job: str | None = None
) -> Statement:
    """What `latest` asks; a test has it explained."""
    where, values = "", list[object]([tuple(kinds)])
    for condition, value in ((" AND n.mailbox = %s", sender), (" AND n.job_id = %s", job), (" AND n.id < %s", before)):
        if value is not None:
            where += condition
            values.append(value)
    index = "FORCE INDEX (job)" if job else "" if sender else "FORCE INDEX (PRIMARY)"
    return _NOTICES.format(index=index, where=where), [*values, limit]


def _notice(row: tuple[Any, ...]) -> Notice:
    id_, mailbox, gmail_id, recipient, job, email, kind, code, detail, believed, at = row
    return Notice(id_, mailbox, gmail_id, recipient, job, email, kind, code, detail, bool(believed), utc(at))
