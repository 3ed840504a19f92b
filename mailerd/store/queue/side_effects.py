"""What a record changes beside the letter's own row: its job, its sender, or all senders of a project.

`find_locked` names the records that would have to wait for such a row: a daemon that has stopped in the midst of a
transaction holds its rows until the server ends its session.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

from mailerd.core.decisions import Pause
from mailerd.core.models import Handover, Mode, Outcome, Record
from mailerd.core.states import UNSENT, Transition
from mailerd.core.verdicts import PauseCause
from mailerd.store.db.cursor import Cursor, Statement
from mailerd.store.db.database import Database
from mailerd.store.db.times import micros
from mailerd.store.queue.change_events import last_pause, write_paused
from mailerd.store.queue.reschedule import short

# A project is what the sign-in's client id says; a sender joins it before its first letter.
_JOIN_PROJECT: Final = "UPDATE senders FORCE INDEX (PRIMARY) SET project = %s, mode = %s WHERE email = %s"
_SELECT_PROJECT_LIMIT: Final = """
SELECT pause_reason, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), paused_until) FROM senders FORCE INDEX (project)
 WHERE project = %s AND pause_cause = %s AND paused_until > UTC_TIMESTAMP(6) ORDER BY paused_until DESC LIMIT 1"""
_SELECT_PROJECT_SENDERS: Final = """
SELECT o.email FROM senders s JOIN senders o ON o.project = s.project WHERE s.email IN %s"""


def is_requeued(record: Record) -> bool:
    """Whether the letter goes back to those that wait."""
    return isinstance(record, Outcome) and record.decision.transition in {Transition.DEFERRED, Transition.RELEASED}


def was_slow(it: Outcome) -> bool:
    """Whether the letter may have reached Google later than its sender's row allows for: with an answer or without."""
    reached = it.decision.transition is not Transition.RELEASED or it.letter.draft_id is not None
    return reached and it.took > it.letter.latency_threshold


def updates_sender(record: Record) -> bool:
    """Whether the sender's row or its day changes: with most letters neither does."""
    if isinstance(record, Handover):
        return record.pause is not None or (record.mode, record.project) != (
            record.letter.sender_mode,
            record.letter.sender_project,
        )
    recovered = record.decision.transition is Transition.SENT and record.letter.probing
    return recovered or was_slow(record) or record.decision.transition in UNSENT or record.decision.pause is not None


def pause_of(record: Record) -> Pause | None:
    """How long the letter's sender has to rest, and why."""
    return record.decision.pause if isinstance(record, Outcome) else record.pause


def pauses_project(record: Record) -> bool:
    """Whether it pauses every sender of its sender's project."""
    pause = pause_of(record)
    return pause is not None and pause.cause is PauseCause.PROJECT_LIMIT


async def project_senders(cursor: Cursor, senders: Iterable[str]) -> set[str]:
    """The senders of the same projects, these included."""
    await cursor.execute(_SELECT_PROJECT_SENDERS, (tuple(senders),))
    return {email for (email,) in await cursor.fetchall()}


async def join_project(database: Database, sender: str, project: str, mode: Mode) -> Pause | None:
    """Note the sender's project and mode before its first letter goes to Google; the project's pause, if any."""

    async def work(cursor: Cursor) -> Pause | None:
        await cursor.execute(_JOIN_PROJECT, (project, mode, sender))
        await cursor.execute(_SELECT_PROJECT_LIMIT, (project, PauseCause.PROJECT_LIMIT.value))
        return next(
            (Pause(PauseCause.PROJECT_LIMIT, reason or "", timedelta(microseconds=wait))
             for reason, wait in await cursor.fetchall()), None
        )  # fmt: skip

    return await database.transaction(work, what="note a sender's project")


_PAUSE_SENDER: Final = """
UPDATE senders FORCE INDEX (PRIMARY)
   SET paused_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND, pause_cause = %s, pause_reason = %s, pauses = %s
 WHERE email = %s AND COALESCE(paused_until, '1970-01-01') < UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND"""


async def pause_sender(cursor: Cursor, email: str, *, cause: str, reason: str, wait: timedelta, pauses: int) -> bool:
    """Let nothing of the sender be claimed for `wait`; whether that is longer than before.

    Its event is written too, unless a pause of this cause is only prolonged. The cause stays until a letter has gone
    well: a sign-in that is refused at each try is one pause.
    """
    was, now = await last_pause(cursor, email)
    lasts = micros(wait)
    await cursor.execute(_PAUSE_SENDER, (lasts, cause, short(reason, 500), pauses, email, lasts))
    if cursor.rowcount != 1:
        return False
    if was != cause and now is not None:
        await write_paused(cursor, email, cause=cause, reason=reason, until=now + wait)
    return True


_KEY_COLUMNS: Final = {"jobs": "id", "senders": "email", "projects": "name"}
_ROWS: Final = "SELECT {key} FROM {table} FORCE INDEX (PRIMARY) WHERE {key} IN %s"
# Outside any transaction: the locks end with the statement, and block no other session.
_FREE_ROWS: Final = f"{_ROWS} FOR UPDATE SKIP LOCKED"

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
        statements += [(sql.format(key=_KEY_COLUMNS[table], table=table), (names,)) for sql in (_ROWS, _FREE_ROWS)]
    found = [{name for (name,) in answer} for answer in await cursor.fetch_batch(statements)]
    return {
        (table, name)
        for table, there, free in zip(tables, found[::2], found[1::2], strict=True)
        for name in there - free
    }
