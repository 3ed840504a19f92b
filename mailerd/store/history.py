"""Reads the history of a job or a recipient, rows and attempts as they are; for `mailerd explain` and `jobs`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from mailerd.core.copies import Copy, from_json
from mailerd.core.models import read_metadata
from mailerd.core.reasons import from_row
from mailerd.core.results import Result
from mailerd.core.states import JobStatus, JobType, Proof, State
from mailerd.core.stats import DaemonInfo
from mailerd.core.suppression import EVERYTHING, Reason, canonical, digest_of, why_suppressed
from mailerd.store.db.connection import Cursor, naive, utc
from mailerd.store.db.database import Database
from mailerd.store.messages import RETRIABLE
from mailerd.store.secrets import Secrets
from mailerd.store.stats import read_daemons

MAX_RECIPIENTS: Final = 20
"""Recipients that one address may bring up, the newest first."""
_MAX_SHOWN: Final = 10
"""The most failures of a job, or daemons, that are returned."""
_SELECT_RECIPIENTS: Final = """
SELECT r.id, r.job_id, r.to_email, r.status, r.attempts, r.checks, r.due_at, r.lease_until, r.daemon_id, r.mode,
       r.draft_id, r.message_id, r.error, r.sent_at, j.created_at, j.status, j.sender_email,
       IF(s.paused_until > UTC_TIMESTAMP(6), s.paused_until, NULL), s.pause_cause, s.pause_reason, s.next_claim_at,
       UTC_TIMESTAMP(6), r.updated_at, r.proof, r.result, r.result_kind, r.result_code, r.result_reason, r.result_at,
       j.pause_reason, IF(LEAST(j.braked_until, j.next_claim_at) > UTC_TIMESTAMP(6), j.braked_until, NULL),
       r.error_code, r.error_args, s.pause_reason_code, s.pause_reason_args, j.pause_reason_code, j.pause_reason_args,
       r.seq, r.to_name, j.from_address, r.metadata, COALESCE(r.copy_list, j.copy_list), j.type
  FROM job_recipients r JOIN jobs j ON j.id = r.job_id LEFT JOIN senders s ON s.email = j.sender_email"""
_READ_RETRIABLE: Final = f"SELECT id FROM job_recipients FORCE INDEX (PRIMARY) WHERE id IN %s AND {RETRIABLE}"
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
# `event_of_claim` finds the rows of one message; without it the server might read the whole log from its end.
_READ_LOG: Final = """
SELECT id, at, attempt, event, daemon_id, draft_id, message_id, error, error_code, error_args
  FROM attempts FORCE INDEX (event_of_claim)
 WHERE recipient_id = %s ORDER BY id {order} LIMIT %s"""
_COUNT_LOG: Final = "SELECT COUNT(*) FROM attempts FORCE INDEX (event_of_claim) WHERE recipient_id = %s"
# Those who have opted out come last, so that however many they are, they hide no failure.
_READ_FAILURES: Final = """
SELECT r.to_email, r.id, r.updated_at, r.status, r.job_id, r.error, r.error_code, r.error_args FROM job_recipients r
 WHERE r.job_id = %s AND (r.status IN ('failed', 'unsure') OR (r.status = 'cancelled' AND r.error_code = 'suppressed'))
 ORDER BY r.status = 'cancelled', r.id LIMIT %s"""
_COUNT_PROOFS: Final = "SELECT proof, COUNT(*) FROM job_recipients WHERE job_id = %s AND status = 'sent' GROUP BY proof"
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
    daemon: str
    draft_id: str | None
    message_id: str | None
    error: str | None


@dataclass(frozen=True)
class RecipientHistory:
    """A recipient, its job, its sender and all attempts, at one moment."""

    id: int
    job_id: str
    to_email: str
    status: State
    attempts: int
    checks: int
    due_at: datetime
    lease_until: datetime | None
    daemon: str | None
    mode: str | None
    draft_id: str | None
    message_id: str | None
    error: str | None
    sent_at: datetime | None
    accepted_at: datetime
    job_status: JobStatus
    sender: str
    paused_until: datetime | None
    pause_cause: str | None
    pause_reason: str | None
    sender_turn: datetime | None
    now: datetime
    updated_at: datetime
    """When the row was last written; for a finished message: when it was finished."""
    proof: Proof | None
    """What proves that it is sent, if it is."""
    result: Result | None = None
    """What became of it after it was sent."""
    result_kind: str | None = None
    result_code: str | None = None
    result_reason: str | None = None
    result_at: datetime | None = None
    job_reason: str | None = None
    """Why its job is paused, if not by a person."""
    braked_until: datetime | None = None
    """Until when its job waits, since what came back of it is read first."""
    log: tuple[Attempt, ...] = ()
    """The first and the last lines of its log of attempts."""
    left_out: int = 0
    """How many lines between those are not read."""
    retriable: bool = False
    """It has failed, and a retry of its job would take it."""
    index: int = 0
    """Its place in the request, from 0; for people "no. 1"."""
    name: str | None = None
    from_address: str | None = None
    """The sender as the job was posted: the mailbox, or an alias of it."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    copies: tuple[Copy, ...] = ()
    """Who gets a copy."""
    job_type: JobType = JobType.TEMPLATE


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
        return await self._read("WHERE r.person = %s ORDER BY r.id DESC LIMIT %s", (canonical(email), MAX_RECIPIENTS))

    async def _read(self, where: str, values: tuple[object, ...]) -> list[RecipientHistory]:
        async def work(cursor: Cursor) -> list[RecipientHistory]:
            await cursor.execute(f"{_SELECT_RECIPIENTS} {where}", values)
            found = [_history(row, *await _log(cursor, row[0])) for row in await cursor.fetchall()]
            failed = tuple(it.id for it in found if it.status is State.FAILED and it.job_status != JobStatus.CANCELLED)
            await cursor.execute(_READ_RETRIABLE, (failed or (0,),))
            taken = {id_ for (id_,) in await cursor.fetchall()}
            return [replace(it, retriable=True) if it.id in taken else it for it in found]

        return await self.database.read(work, what="history.read", bound=self.timeout)

    async def queued_before(self, story: RecipientHistory) -> int:
        """How many messages of its own job are claimed before a message that waits: MAX_BEFORE where they are more."""
        due, what = naive(story.due_at), "history.read_place"
        values = (story.job_id, due, due, story.id, MAX_BEFORE)
        ((number,),) = await self.database.read_rows(_COUNT_BEFORE, values, what=what, bound=self.timeout)
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
        rows = await self.database.read_rows(_READ_FAILURES, values, what="failures.read", bound=self.timeout)
        return [
            MessageFailure(utc(at), to, id_, from_row(*error) or "", status, job_id)
            for to, id_, at, status, job_id, *error in rows
        ]

    async def proofs_of(self, job: str) -> dict[Proof | None, int]:
        """How many messages of a job are sent by each proof, the strongest first."""
        rows = await self.database.read_rows(_COUNT_PROOFS, (job,), what="history.count_proofs", bound=self.timeout)
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
    """The first and the last lines of a message's log of attempts, and how many stand between them."""
    first, last, ((lines,),) = await cursor.fetch_batch(
        [
            (_READ_LOG.format(order="ASC"), (recipient, FIRST)),
            (_READ_LOG.format(order="DESC"), (recipient, LAST)),
            (_COUNT_LOG, (recipient,)),
        ]
    )
    rows = {row[0]: row[1:] for row in (*first, *reversed(last))}  # those of a short log stand in both
    log = tuple(
        Attempt(utc(at), attempt, event, daemon, draft, message, from_row(*error))
        for at, attempt, event, daemon, draft, message, *error in rows.values()
    )
    return log, lines - len(log)


def _history(row: tuple[Any, ...], log: tuple[Attempt, ...], left_out: int) -> RecipientHistory:
    moments = {6, 7, 13, 14, 17, 20, 21, 22, 28, 30}
    *columns, code, args, pause_code, pause_args, job_code, job_args, index, name, address, metadata, copied, type_ = (
        row
    )
    columns[12] = from_row(columns[12], code, args)
    columns[19] = from_row(columns[19], pause_code, pause_args)
    columns[29] = from_row(columns[29], job_code, job_args)
    values: list[Any] = [
        utc(value) if number in moments else value for number, value in enumerate((*columns, log, left_out))
    ]
    values[3], values[15] = State(values[3]), JobStatus(values[15])
    values[23] = Proof(values[23]) if values[23] else None
    values[24] = Result(values[24]) if values[24] else None
    return replace(
        RecipientHistory(*values), index=index, name=name, from_address=address, metadata=read_metadata(metadata),
        copies=from_json(copied), job_type=JobType(type_),
    )  # fmt: skip
