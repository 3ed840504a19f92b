"""After a restore from a backup: letters that were open then may have been sent since, so all are checked first."""

from dataclasses import dataclass
from functools import partial
from itertools import batched
from typing import Final

from mailerd.clock import new_id
from mailerd.core.states import State, Transition, after
from mailerd.errors import MailerdError
from mailerd.store.db.cursor import Cursor
from mailerd.store.db.database import Database
from mailerd.store.event_feed import leap_at_next
from mailerd.store.queue.attempt_log import AttemptRow, insert_attempts
from mailerd.store.queue.complete_jobs import UNFINISHED

NOTE: Final = "the database was restored from a backup: it may have been sent since, and is looked for first"
_ROWS_AT_ONCE: Final = 500
"""The most letters of one transaction."""
_JOBS_AT_ONCE: Final = 100
"""Jobs in which one statement looks for them."""
_FIND_RUNNING_DAEMON: Final = """
SELECT host, pid FROM daemons
 WHERE stopped_at IS NULL AND heartbeat_at > UTC_TIMESTAMP(6) - INTERVAL 30 SECOND LIMIT 1"""
# A letter that was not due yet cannot have been sent.
_OPEN_JOB: Final = f"{UNFINISHED} AND j.send_at <= UTC_TIMESTAMP(6)"
# One that waits for a person is looked for again, since a sign-in that may read the sent mail can have come meanwhile.
# One that was in doubt then may have got another draft since, as those below.
_IN_DOUBT: Final = "r.status = 'unsure' AND (r.lease_until IS NULL OR r.unanswered = 0 OR r.discarding = 0)"
_WAITS: Final = "r.status IN ('waiting', 'sending')"
_COUNT_OPEN: Final = f"""
SELECT j.sender_email, COUNT(*) FROM jobs j JOIN job_recipients r FORCE INDEX (claim) ON r.job_id = j.id
 WHERE {_OPEN_JOB} AND ({_WAITS} OR ({_IN_DOUBT})) GROUP BY j.sender_email ORDER BY j.sender_email"""
_SELECT_OPEN_JOBS: Final = f"SELECT j.id FROM jobs j WHERE {_OPEN_JOB} ORDER BY j.id"
# Job by job, and in no order: what is marked is not read again, however many letters there are, open or ended.
_SELECT_OPEN: Final = """
SELECT r.id, r.attempts, r.draft_id FROM job_recipients r FORCE INDEX (claim)
 WHERE r.job_id IN %s AND {which} LIMIT %s"""
# Another draft may have been made and deleted since: that one is gone proves nothing, and where the sent mail cannot be
# read a person decides. `handed_over_at` NULL: the search goes back to the time when the job was accepted.
_MARK_UNSURE: Final = f"""
UPDATE job_recipients r FORCE INDEX (PRIMARY)
   SET status = %s, mode = IF(draft_id IS NULL, 'direct', 'draft'), unanswered = 1, discarding = 1, error = %s,
       checks = 0, handed_over_at = NULL, nothing_found_at = NULL, claim_token = NULL, lease_until = UTC_TIMESTAMP(6),
       updated_at = UTC_TIMESTAMP(6)
 WHERE r.id IN %s AND ({_WAITS} OR ({_IN_DOUBT}))"""


class DaemonRunsError(MailerdError):
    """A daemon runs on this database: it may already send what must be checked first."""


@dataclass(frozen=True)
class RestoredQueue:
    """The open letters of a database that was restored."""

    database: Database

    async def open_letters(self) -> dict[str, int]:
        """How many letters of each sender may have been sent since the backup.

        Raises:
            DaemonRunsError: a daemon was heard of within 30 s.
        """

        async def work(cursor: Cursor) -> dict[str, int]:
            await _refuse_if_daemon_runs(cursor)
            await cursor.execute(_COUNT_OPEN)
            return dict(await cursor.fetchall())

        return await self.database.read(work, what="count open letters")

    async def doubt_all(self) -> int:
        """Make each of them unsure, so that it is checked before it is sent; how many. Repeated, it does the rest.

        The ids of further events lie behind all that a client can have seen.

        Raises:
            DaemonRunsError: a daemon was heard of within 30 s.
            DatabaseError: what was done until then stays done.
        """
        await self.database.transaction(_leap, what="number events")
        rows = await self.database.read_rows(_SELECT_OPEN_JOBS, what="count open letters")
        done = 0
        for some in batched((job for (job,) in rows), _JOBS_AT_ONCE):
            for which in (_IN_DOUBT, _WAITS):  # what is marked would be read again as unsure
                work = partial(_mark_unsure, jobs=some, which=which)
                while number := await self.database.transaction(work, what="doubt letters"):
                    done += number
        return done


async def _refuse_if_daemon_runs(cursor: Cursor) -> None:
    await cursor.execute(_FIND_RUNNING_DAEMON)
    for host, pid in await cursor.fetchall():
        raise DaemonRunsError(f"daemon {host}:{pid} runs on this database: stop it first, then say this again")


async def _leap(cursor: Cursor) -> None:
    await _refuse_if_daemon_runs(cursor)
    await leap_at_next(cursor)


async def _mark_unsure(cursor: Cursor, *, jobs: tuple[str, ...], which: str) -> int:
    """The next letters of these jobs; how many."""
    await _refuse_if_daemon_runs(cursor)
    await cursor.execute(_SELECT_OPEN.format(which=which), (jobs, _ROWS_AT_ONCE))
    rows = await cursor.fetchall()
    if not rows:
        return 0
    unsure, token = after(State.SENDING, Transition.LOST).value, new_id()
    await cursor.execute(_MARK_UNSURE, (unsure, NOTE, tuple(row[0] for row in rows)))
    lost = Transition.LOST.value
    lines = [AttemptRow(id_, number, token, token, lost, draft_id=draft, error=NOTE) for id_, number, draft in rows]
    await cursor.execute(*insert_attempts(lines))
    return len(rows)
