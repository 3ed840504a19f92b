"""Finds jobs and people by a part of what a person remembers of them.

Nothing here has an index of words: MariaDB's does not split Chinese, and every INSERT would pay for
it. So an address and a reference are found by their beginning, and subjects, template names and
names of people in the newest rows only. Each answer says whether all rows were looked at.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

from mailerd.clock import ULID
from mailerd.core.i18n import t
from mailerd.core.states import JobStatus
from mailerd.core.suppression import canonical
from mailerd.model.fields import Sql
from mailerd.store.db.connection import utc
from mailerd.store.db.database import Database
from mailerd.store.db.rows import Select
from mailerd.store.read.recipients import PersonsMessage, Recipients

MIN_TEXT: Final = 3
"""Characters of a text that is looked for; of an id or of Chinese, fewer."""
MAX_TEXT: Final = 100
MAX_JOBS: Final = 20_000
"""The newest jobs of which subject and template name are looked at."""
MAX_NAMES: Final = 50_000
"""The newest messages of which the name is looked at."""
MAX_PREFIX: Final = 20_000
"""The rows that are looked at of those that begin with the text, since they may be another
tenant's.
"""
# A text column that compares byte for byte, read as people do; both servers have this collation.
_LIKE: Final = "CONVERT({column} USING utf8mb4) COLLATE utf8mb4_general_ci LIKE %s ESCAPE '|'"
_BY_REFERENCE: Final = f"""
SELECT id FROM (SELECT id, from_address FROM jobs FORCE INDEX (by_reference)
                 WHERE reference LIKE %s ESCAPE '|' ORDER BY reference, id LIMIT {MAX_PREFIX}) j {{mine}} LIMIT %s"""
_BY_SUBJECT: Final = f"""
SELECT id FROM (SELECT id, from_address, subject, template_name FROM jobs FORCE INDEX (PRIMARY)
                 ORDER BY id DESC LIMIT {MAX_JOBS}) j
 WHERE ({_LIKE.format(column="subject")} OR {_LIKE.format(column="template_name")}) {{mine}}
 ORDER BY id DESC LIMIT %s"""
_BY_ADDRESS: Final = f"""
SELECT MAX(r.id) FROM (SELECT id, job_id, person FROM job_recipients FORCE INDEX (person)
                        WHERE person LIKE %s ESCAPE '|' ORDER BY person, id LIMIT {MAX_PREFIX}) r {{mine}}
 GROUP BY r.person ORDER BY r.person LIMIT %s"""
_BY_NAME: Final = f"""
SELECT MAX(r.id) FROM (SELECT id, job_id, person, to_name FROM job_recipients FORCE INDEX (PRIMARY)
                        ORDER BY id DESC LIMIT {MAX_NAMES}) r {{mine}}
 WHERE {_LIKE.format(column="r.to_name")} GROUP BY r.person ORDER BY 1 DESC LIMIT %s"""
_JOIN_MINE: Final = (
    "STRAIGHT_JOIN jobs j FORCE INDEX (PRIMARY) ON j.id = r.job_id AND j.from_address IN %s"
)
# Whether more begin with the text than were looked at, by the index alone.
_MORE_REFERENCES: Final = f"""
SELECT 1 FROM jobs FORCE INDEX (by_reference)
 WHERE reference LIKE %s ESCAPE '|' ORDER BY reference, id LIMIT 1 OFFSET {MAX_PREFIX}"""
_MORE_ADDRESSES: Final = f"""
SELECT 1 FROM job_recipients FORCE INDEX (person)
 WHERE person LIKE %s ESCAPE '|' ORDER BY person, id LIMIT 1 OFFSET {MAX_PREFIX}"""
_OLDEST_JOB: Final = (
    f"SELECT created_at FROM jobs FORCE INDEX (PRIMARY) ORDER BY id DESC LIMIT 1 OFFSET {MAX_JOBS}"
)
_OLDEST_NAME: Final = f"""
SELECT j.created_at FROM (SELECT job_id FROM job_recipients FORCE INDEX (PRIMARY)
                           ORDER BY id DESC LIMIT 1 OFFSET {MAX_NAMES}) r JOIN jobs j ON j.id = r.job_id"""


@dataclass(frozen=True)
class FoundJob:
    """A job that was found."""

    job_id: Annotated[str, Sql("id")]
    sender_email: Annotated[str, Sql("from_address")]
    subject: str
    reference: str | None
    template_name: str | None
    status: JobStatus
    created_at: datetime


_JOB: Final = Select(FoundJob, of="jobs")
_READ_JOBS: Final = (
    f"SELECT {_JOB.columns} FROM jobs FORCE INDEX (PRIMARY) WHERE id IN %s ORDER BY id DESC"
)


@dataclass(frozen=True)
class Hits[T]:
    """What was found of one kind."""

    items: Sequence[T]
    complete: bool
    """Whether there is nothing more."""
    back_to: datetime | None
    """Older rows were not looked at; None: all were."""


SEARCHABLE: Final = r"\S[\s\S]+\S|^\s*[0-9]+\s*$|[^\x00-\x7f\s]"
"""What `searchable` takes, besides its greatest length, for a description."""


def searchable(text: str) -> str:
    """What is looked for.

    Raises:
        ValueError: it is too short, or too long.
    """
    text = text.strip()
    if len(text) > MAX_TEXT:
        raise ValueError(t("exceeds {most} characters", most=MAX_TEXT))
    if len(text) < MIN_TEXT and text.isascii() and not text.isdecimal():
        raise ValueError(t("needs {least} characters", least=MIN_TEXT))
    if not text:
        raise ValueError(t("is missing"))
    return text


class Search:
    """Searches for a text.

    `timeout`: seconds that the database gets for one answer; `senders` None: of all senders.
    """

    def __init__(
        self, database: Database, *, timeout: float, senders: Collection[str] | None
    ) -> None:
        self._database = database
        self._timeout = timeout
        self._senders = None if senders is None else tuple(senders) or ("",)

    async def jobs(self, text: str, *, limit: int) -> Hits[FoundJob]:
        """Jobs, newest first: by id, by the beginning of the reference, by a part of the subject or
        template's name.
        """
        part = f"%{_escaped(text)}%"
        ids = {text.upper()} if ULID.fullmatch(text.upper()) else set[str]()
        ids |= set(await self._ids(_BY_REFERENCE, "WHERE", [f"{_escaped(text)}%"], limit))
        ids |= set(await self._ids(_BY_SUBJECT, "AND", [part, part], limit))
        rows = await self._rows(_READ_JOBS, (tuple(ids) or ("",),))
        found = [
            it
            for it in map(_JOB.row, rows)
            if self._senders is None or it.sender_email in self._senders
        ]
        more = await self._rows(_MORE_REFERENCES, [f"{_escaped(text)}%"])
        return await self._found(found, limit, _OLDEST_JOB, more=bool(more))

    async def people(self, text: str, *, limit: int) -> Hits[PersonsMessage]:
        """Each person's newest message: by a message's id, the beginning of the address, or a part
        of the name.
        """
        ids = {int(text)} if text.isascii() and text.isdecimal() else set[int]()
        ids |= set(await self._of_people(_BY_ADDRESS, _address_prefix(text), limit))
        ids |= set(await self._of_people(_BY_NAME, f"%{_escaped(text)}%", limit))
        found = await Recipients(self._database, timeout=self._timeout).of_ids(
            ids, senders=self._senders
        )
        newest = {canonical(it.email): it for it in found}  # the oldest come first
        newest_first = sorted(newest.values(), key=lambda it: -it.id)
        more = await self._rows(_MORE_ADDRESSES, [_address_prefix(text)])
        return await self._found(newest_first, limit, _OLDEST_NAME, more=bool(more))

    async def _ids(self, statement: str, joins: str, values: list[object], limit: int) -> list[str]:
        mine = "" if self._senders is None else f"{joins} from_address IN %s"
        given = [*values, *([] if self._senders is None else [self._senders]), limit + 1]
        return [id_ for (id_,) in await self._rows(statement.format(mine=mine), given)]

    async def _of_people(self, statement: str, value: str, limit: int) -> list[int]:
        mine = "" if self._senders is None else _JOIN_MINE
        # The condition of the address stands before the join, that of the name behind it.
        given: list[object] = [value] if self._senders is None else [value, self._senders]
        if statement is _BY_NAME:
            given.reverse()
        return [
            id_ for (id_,) in await self._rows(statement.format(mine=mine), [*given, limit + 1])
        ]

    async def _found[T](
        self, found: Sequence[T], limit: int, oldest: str, *, more: bool
    ) -> Hits[T]:
        rows = await self._rows(oldest, ())
        complete = len(found) <= limit and not rows and not more
        return Hits(
            found[:limit], complete=complete, back_to=next((utc(at) for (at,) in rows), None)
        )

    async def _rows(self, statement: str, values: Sequence[object]) -> Sequence[tuple[Any, ...]]:
        return await self._database.request_rows(
            statement, values, what="search.read", bound=self._timeout
        )


def _escaped(text: str) -> str:
    """A text that LIKE takes as it is."""
    return re.sub(r"[|%_]", r"|\g<0>", text)


def _address_prefix(text: str) -> str:
    """The beginning of an address as the column `person` has it; a whole address may be in any
    spelling.
    """
    return f"{_escaped(canonical(text) if '@' in text else text.lower())}%"
