"""Reads the history of a job or a recipient, rows and attempts as they are; for `mailerd explain`
and `jobs`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Final

from mailerd.core.copies import Copy, from_json
from mailerd.core.extras import read_metadata
from mailerd.core.reasons import from_row
from mailerd.core.results import Result
from mailerd.core.states import JobStatus, JobType, Proof, State
from mailerd.core.stats import DaemonInfo, SenderStats
from mailerd.core.suppression import EVERYTHING, Reason, canonical, digest_of, why_suppressed
from mailerd.model.fields import Sql
from mailerd.store.db.connection import Cursor, naive, utc
from mailerd.store.db.database import Database
from mailerd.store.db.rows import Select
from mailerd.store.read import sender_rows
from mailerd.store.read.stats import read_daemons
from mailerd.store.write.messages import RETRIABLE
from mailerd.store.write.secrets import Secrets

MAX_RECIPIENTS: Final = 20
"""Recipients that one address may bring up, the newest first."""
_MAX_SHOWN: Final = 10
"""The most failures of a job, or daemons, that are returned."""
_READ_RETRIABLE: Final = (
    f"SELECT id FROM job_recipients FORCE INDEX (PRIMARY) WHERE id IN %s AND {RETRIABLE}"
)
# By the index of the claim, in its order.
_COUNT_BEFORE: Final = """
SELECT COUNT(*) FROM (
  SELECT 1 FROM job_recipients FORCE INDEX (claim)
   WHERE job_id = %s AND status = 'waiting' AND (due_at < %s OR (due_at = %s AND id < %s)) LIMIT %s) ahead"""
_WHY_SUPPRESSED: Final = f"""
SELECT s.reason FROM jobs j JOIN suppressions s FORCE INDEX (PRIMARY)
    ON s.digest = %s AND s.list_id IN ({EVERYTHING}, COALESCE(j.list_id, {EVERYTHING}))
 WHERE j.id = %s AND (j.override_suppression = 0 OR s.reason = '{Reason.HARD_BOUNCE.value}')
 ORDER BY s.reason <> '{Reason.HARD_BOUNCE.value}', s.reason LIMIT 1"""
MAX_BEFORE: Final = 100_000
"""The most messages that are counted before one that waits."""
FIRST: Final = 10
"""Lines of the log of attempts that are read from its beginning ..."""
LAST: Final = 30
"""... and from its end."""
_COUNT_LOG: Final = (
    "SELECT COUNT(*) FROM attempts FORCE INDEX (event_of_claim) WHERE recipient_id = %s"
)
# Those who have opted out come last, so that however many they are, they hide no failure.
_READ_FAILURES: Final = """
SELECT r.to_email, r.id, r.updated_at, r.status, r.job_id, r.error, r.error_code, r.error_args FROM job_recipients r
 WHERE r.job_id = %s AND (r.status IN ('failed', 'unsure') OR (r.status = 'cancelled' AND r.error_code = 'suppressed'))
 ORDER BY r.status = 'cancelled', r.id LIMIT %s"""
_COUNT_PROOFS: Final = """
SELECT proof, COUNT(*) FROM job_recipients WHERE job_id = %s AND status = 'sent' GROUP BY proof
"""
_READ_LAST_FAILURES: Final = """
SELECT a.at, r.to_email, r.id, a.event, r.job_id, a.error, a.error_code, a.error_args
  FROM attempts a JOIN job_recipients r ON r.id = a.recipient_id
 WHERE a.at > UTC_TIMESTAMP(6) - INTERVAL 1 DAY AND a.error IS NOT NULL ORDER BY a.at DESC LIMIT %s"""


@dataclass(frozen=True)
class Attempt:
    """One line of the log of attempts."""

    at: datetime
    attempt: int
    event: str
    daemon: Annotated[str, Sql("daemon_id")]
    draft_id: str | None
    message_id: str | None
    error: Annotated[str | None, Sql("error", "error_code", "error_args", read=from_row)]


_ATTEMPT: Final = Select(Attempt, of="attempts")
# `event_of_claim` finds the rows of one message; without it the server might read the whole log
# from its end.
_READ_LOG: Final = f"""
SELECT id, {_ATTEMPT.columns} FROM attempts FORCE INDEX (event_of_claim)
 WHERE recipient_id = %s ORDER BY id {{order}} LIMIT %s"""


@dataclass(frozen=True)
class RecipientHistory:
    """A recipient, its job, its sender and all attempts, at one moment."""

    id: Annotated[int, Sql("r.id")]
    job_id: Annotated[str, Sql("r.job_id")]
    to_email: Annotated[str, Sql("r.to_email")]
    status: Annotated[State, Sql("r.status")]
    attempts: Annotated[int, Sql("r.attempts")]
    checks: Annotated[int, Sql("r.checks")]
    due_at: Annotated[datetime, Sql("r.due_at")]
    lease_until: Annotated[datetime | None, Sql("r.lease_until")]
    daemon: Annotated[str | None, Sql("r.daemon_id")]
    mode: Annotated[str | None, Sql("r.mode")]
    draft_id: Annotated[str | None, Sql("r.draft_id")]
    message_id: Annotated[str | None, Sql("r.message_id")]
    error: Annotated[str | None, Sql("r.error", "r.error_code", "r.error_args", read=from_row)]
    sent_at: Annotated[datetime | None, Sql("r.sent_at")]
    accepted_at: Annotated[datetime, Sql("j.created_at")]
    job_status: Annotated[JobStatus, Sql("j.status")]
    sender: Annotated[str, Sql("j.sender_email")]
    row: Annotated[SenderStats, sender_rows.OF_JOB]
    """Its mailbox, as far as its row tells: its pause and its next turn."""
    now: Annotated[datetime, Sql("UTC_TIMESTAMP(6)")]
    updated_at: Annotated[datetime, Sql("r.updated_at")]
    """When the row was last written; for a finished message: when it was finished."""
    proof: Annotated[Proof | None, Sql("r.proof")]
    """What proves that it is sent, if it is."""
    result: Annotated[Result | None, Sql("r.result")] = None
    """What became of it after it was sent."""
    result_kind: Annotated[str | None, Sql("r.result_kind")] = None
    result_code: Annotated[str | None, Sql("r.result_code")] = None
    result_reason: Annotated[str | None, Sql("r.result_reason")] = None
    result_at: Annotated[datetime | None, Sql("r.result_at")] = None
    job_reason: Annotated[
        str | None,
        Sql("j.pause_reason", "j.pause_reason_code", "j.pause_reason_args", read=from_row),
    ] = None
    """Why its job is paused, if not by a person."""
    braked_until: Annotated[
        datetime | None,
        Sql("IF(LEAST(j.braked_until, j.next_claim_at) > UTC_TIMESTAMP(6), j.braked_until, NULL)"),
    ] = None
    """Until when its job waits, since what came back of it is read first."""
    log: tuple[Attempt, ...] = ()
    """The first and the last lines of its log of attempts."""
    left_out: int = 0
    """How many lines between those are not read."""
    retriable: bool = False
    """It has failed, and a retry of its job would take it."""
    index: Annotated[int, Sql("r.seq")] = 0
    """Its place in the request, from 0; for people "no. 1"."""
    name: Annotated[str | None, Sql("r.to_name")] = None
    from_address: Annotated[str | None, Sql("j.from_address")] = None
    """The sender as the job was posted: the mailbox, or an alias of it."""
    metadata: Annotated[Mapping[str, str], Sql("r.metadata", read=read_metadata)] = field(
        default_factory=dict
    )
    copies: Annotated[
        tuple[Copy, ...], Sql("COALESCE(r.copy_list, j.copy_list)", read=from_json)
    ] = ()
    """Who gets a copy."""
    job_type: Annotated[JobType, Sql("j.type")] = JobType.TEMPLATE


_RECIPIENT: Final = Select(RecipientHistory)
_SELECT_RECIPIENTS: Final = f"""
SELECT {_RECIPIENT.columns}, r.id
  FROM job_recipients r JOIN jobs j ON j.id = r.job_id LEFT JOIN senders s ON s.email = j.sender_email"""


@dataclass(frozen=True)
class MessageFailure:
    """A message that has failed, is in doubt or is suppressed, or an attempt that went wrong."""

    at: datetime
    to_email: str
    recipient: int
    error: str
    what: str
    job_id: str


@dataclass(frozen=True)
class HistoryReader:
    """Reads; writes nothing. `timeout`: seconds for an answer; None: the limit of any statement."""

    database: Database
    timeout: float | None = None

    async def of_recipient(self, recipient: int) -> list[RecipientHistory]:
        """The history of this recipient; an empty list: there is none."""
        return await self._read("WHERE r.id = %s", (recipient,))

    async def of_address(self, email: str) -> list[RecipientHistory]:
        """The newest messages to an address, in whatever spelling it was posted."""
        return await self._read(
            "WHERE r.person = %s ORDER BY r.id DESC LIMIT %s", (canonical(email), MAX_RECIPIENTS)
        )

    async def _read(self, where: str, values: tuple[object, ...]) -> list[RecipientHistory]:
        async def work(cursor: Cursor) -> list[RecipientHistory]:
            await cursor.execute(f"{_SELECT_RECIPIENTS} {where}", values)
            found = []
            for *row, id_ in await cursor.fetchall():
                log, left_out = await _log(cursor, id_)
                found.append(_RECIPIENT.row(row, log=log, left_out=left_out))
            failed = tuple(
                it.id
                for it in found
                if it.status is State.FAILED and it.job_status != JobStatus.CANCELLED
            )
            await cursor.execute(_READ_RETRIABLE, (failed or (0,),))
            taken = {id_ for (id_,) in await cursor.fetchall()}
            return [replace(it, retriable=True) if it.id in taken else it for it in found]

        return await self.database.read(work, what="history.read", bound=self.timeout)

    async def queued_before(self, story: RecipientHistory) -> int:
        """How many messages of its own job are claimed before a message that waits: MAX_BEFORE
        where they are more.
        """
        due, what = naive(story.due_at), "history.read_place"
        values = (story.job_id, due, due, story.id, MAX_BEFORE)
        ((number,),) = await self.database.read_rows(
            _COUNT_BEFORE, values, what=what, bound=self.timeout
        )
        return int(number)

    async def suppressed(self, waiting: Sequence[RecipientHistory]) -> dict[int, str]:
        """Why messages that wait will be cancelled and not sent; the others are not in it."""
        if not waiting:
            return {}
        key = (await Secrets(self.database, timeout=self.timeout).keys()).address
        found = dict[int, str]()
        for story in waiting:
            values = (digest_of(story.to_email, key), story.job_id)
            for (reason,) in await self.database.read_rows(
                _WHY_SUPPRESSED, values, what="suppressions.check", bound=self.timeout
            ):
                found[story.id] = why_suppressed(reason)
        return found

    async def failures_of(self, job: str) -> list[MessageFailure]:
        """What has failed or is in doubt in a job, and the messages to suppressed addresses."""
        values = (job, _MAX_SHOWN)
        rows = await self.database.read_rows(
            _READ_FAILURES, values, what="failures.read", bound=self.timeout
        )
        return [
            MessageFailure(utc(at), to, id_, from_row(*error) or "", status, job_id)
            for to, id_, at, status, job_id, *error in rows
        ]

    async def proofs_of(self, job: str) -> dict[Proof | None, int]:
        """How many messages of a job are sent by each proof, the strongest first."""
        rows = await self.database.read_rows(
            _COUNT_PROOFS, (job,), what="history.count_proofs", bound=self.timeout
        )
        found = dict(rows)
        return {proof: found[proof] for proof in (*Proof, None) if found.get(proof)}

    async def last_failures(self, *, limit: int) -> list[MessageFailure]:
        """What went wrong lately, the newest first."""
        rows = await self.database.read_rows(
            _READ_LAST_FAILURES, (limit,), what="failures.read_last", bound=self.timeout
        )
        return [
            MessageFailure(utc(at), to, id_, from_row(*error) or "", event, job)
            for at, to, id_, event, job, *error in rows
        ]

    async def daemons(self) -> tuple[DaemonInfo, ...]:
        """The daemons that were heard of lately and have not stopped in order."""
        return await self.database.read(read_daemons, what="daemons.list", bound=self.timeout)


async def _log(cursor: Cursor, recipient: int) -> tuple[tuple[Attempt, ...], int]:
    """The first and the last lines of a message's log of attempts, and how many stand between
    them.
    """
    first, last, ((lines,),) = await cursor.fetch_batch(
        [
            (_READ_LOG.format(order="ASC"), (recipient, FIRST)),
            (_READ_LOG.format(order="DESC"), (recipient, LAST)),
            (_COUNT_LOG, (recipient,)),
        ]
    )
    # those of a short log stand in both
    rows = {id_: row for id_, *row in (*first, *reversed(last))}
    log = tuple(_ATTEMPT.row(row) for row in rows.values())
    return log, lines - len(log)
