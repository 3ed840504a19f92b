"""Finds the records that would have to wait, since another transaction holds a row that they lock.

A daemon that has stopped in the midst of a transaction holds its rows until the server ends its session.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from mailerd.core.models import Outcome, Record
from mailerd.store.db.cursor import Cursor, Statement
from mailerd.store.db.database import Database
from mailerd.store.queue.side_effects import is_requeued, pauses_project, project_senders, updates_sender, was_slow

_KEYS: Final = {"jobs": "id", "senders": "email", "projects": "name"}
_THERE: Final = "SELECT {key} FROM {table} FORCE INDEX (PRIMARY) WHERE {key} IN %s"
# Outside any transaction: the locks end with the statement, and block no other session.
_FREE: Final = f"{_THERE} FOR UPDATE SKIP LOCKED"

_Row = tuple[str, str]
"""A table's name and a key."""


async def find_locked(database: Database, records: Sequence[Record]) -> set[int]:
    """The records, by position, that would wait at this moment. Most lock nothing but their own rows."""
    if not any(updates_sender(record) for record in records):
        return set()

    async def work(cursor: Cursor) -> set[int]:
        held = {record.letter.sender for record in records if pauses_project(record)}
        paused = await project_senders(cursor, held) if held else set()
        needs = [_needs(record, paused) for record in records]
        locked = await _locked(cursor, set().union(*needs))
        return {number for number, rows in enumerate(needs) if rows & locked}

    return await database.read(work, what="look for locked rows", bound=database.probe_timeout)


def _needs(record: Record, paused: Iterable[str]) -> set[_Row]:
    """The rows beside its own that a record locks; `paused`: all senders of the projects that are to be paused."""
    if not updates_sender(record):
        return set()
    letter = record.letter
    rows = {("senders", letter.sender)}
    if is_requeued(record):
        rows.add(("jobs", letter.job_id))
    if pauses_project(record):
        rows |= {("senders", email) for email in paused}
    if isinstance(record, Outcome) and was_slow(record) and letter.sender_project:  # that is noted there too
        rows.add(("projects", letter.sender_project))
    return rows


async def _locked(cursor: Cursor, rows: set[_Row]) -> set[_Row]:
    """Those that exist and are locked."""
    tables = sorted({table for table, _ in rows})
    statements: list[Statement] = []
    for table in tables:
        names = tuple(sorted(name for of, name in rows if of == table))
        statements += [(sql.format(key=_KEYS[table], table=table), (names,)) for sql in (_THERE, _FREE)]
    found = [{name for (name,) in answer} for answer in await cursor.fetch_batch(statements)]
    return {
        (table, name)
        for table, there, free in zip(tables, found[::2], found[1::2], strict=True)
        for name in there - free
    }
