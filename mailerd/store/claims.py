"""Claiming: one short transaction takes due letters, counts the attempt, sets the lease and debits the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from mailerd.clock import new_id
from mailerd.core import pace
from mailerd.core.claims import Claim, JobFound, Letter
from mailerd.core.pace import Allowance
from mailerd.core.states import Change, JobStatus, State, after
from mailerd.store.database import Database
from mailerd.store.pool import Cursor

_SENDER: Final = """
SELECT email, tat, units_per_minute, per_minute, per_day, paused_until, pauses, UTC_TIMESTAMP(6)
  FROM senders FORCE INDEX (turn)
 WHERE turn_at <= UTC_TIMESTAMP(6) ORDER BY turn_at, email LIMIT 1 FOR UPDATE SKIP LOCKED"""

_JOB: Final = """
SELECT id, type, total FROM jobs FORCE INDEX (turn)
 WHERE sender_email = %s AND claimable = 1 AND turn_at <= UTC_TIMESTAMP(6)
 ORDER BY precedence, turn_at, id LIMIT 1 FOR UPDATE SKIP LOCKED"""

_ROWS: Final = """
SELECT id, seq, to_email, to_name, variables, attempts, draft_id, thread_id FROM job_recipients FORCE INDEX (claim)
 WHERE job_id = %s AND status = %s AND due_at <= UTC_TIMESTAMP(6)
 ORDER BY due_at, id LIMIT %s FOR UPDATE SKIP LOCKED"""

# Correctness comes from `AND status = …` and the token; SKIP LOCKED only brings speed.
_TAKE: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET status = %s, attempts = attempts + 1, claim_token = %s, daemon_id = %s,
       lease_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND, updated_at = UTC_TIMESTAMP(6)
 WHERE id IN %s AND status = %s"""

_JOB_TURN: Final = """
UPDATE jobs SET status = %s, started_at = COALESCE(started_at, UTC_TIMESTAMP(6)), turn_at = %s WHERE id = %s"""

_JOB_EMPTY: Final = "UPDATE jobs SET turn_at = %s WHERE id = %s"

_NEXT_ROW: Final = "SELECT MIN(due_at) FROM job_recipients FORCE INDEX (claim) WHERE job_id = %s AND status = %s"
_NEXT_JOB: Final = "SELECT MIN(turn_at) FROM jobs FORCE INDEX (turn) WHERE sender_email = %s AND claimable = 1"
_SENDER_TURN: Final = "UPDATE senders SET turn_at = %s, tat = %s WHERE email = %s"
_HOURS: Final = "SELECT hour, letters FROM sender_hours WHERE sender_email = %s AND hour > %s"
_DEBIT_HOUR: Final = """
INSERT INTO sender_hours (sender_email, hour, letters) VALUES (%s, %s, %s)
    ON DUPLICATE KEY UPDATE letters = letters + VALUES(letters)"""

_SHARE: Final = 10
"""Letters of one turn at least, where so many are wanted: a turn costs six statements, however few letters it gives."""
_SKIPPED: Final = timedelta(milliseconds=50)
"""How long a sender rests whose only due job is locked by somebody else."""


@dataclass
class _Turn:
    """A sender's turn inside one claim."""

    email: str
    tat: datetime | None
    allowance: Allowance
    paused_until: datetime | None
    pauses: int
    now: datetime


@dataclass(frozen=True)
class Claims:
    """Takes letters for one daemon."""

    database: Database
    daemon_id: str
    lease: timedelta
    default: Allowance
    units: int = pace.DRAFT_PAIR_UNITS

    async def claim(self, want: int) -> Claim:
        """Take at most `want` due letters, turn about between the senders and the jobs of each.

        Raises:
            DatabaseError: nothing was taken, or in doubt; what was taken in doubt comes back when its lease lapses.
        """
        token = new_id()
        return await self.database.transaction(lambda cursor: self._claim(cursor, token, want), what="claim")

    async def _claim(self, cursor: Cursor, token: str, want: int) -> Claim:
        letters: list[Letter] = []
        jobs: dict[str, JobFound] = {}
        share = max(_SHARE, want // 4)
        for _ in range(2 * want):
            if len(letters) >= want or (turn := await self._next_sender(cursor)) is None:
                break
            job, taken = await self._serve(cursor, turn, token, min(share, want - len(letters)))
            letters += taken
            if job and taken:
                jobs[job.id] = job
        next_in = await self._next_turn(cursor) if len(letters) < want else 0.0
        return Claim(token, tuple(letters), tuple(jobs.values()), next_in)

    async def _next_turn(self, cursor: Cursor) -> float | None:
        await cursor.execute("SELECT TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), MIN(turn_at)) FROM senders")
        micros = (await cursor.fetchone())[0]
        return None if micros is None else max(0.0, micros / 1e6)

    async def _next_sender(self, cursor: Cursor) -> _Turn | None:
        await cursor.execute(_SENDER)
        if (row := await cursor.fetchone()) is None:
            return None
        email, tat, units, minute, day, paused_until, pauses, now = row
        return _Turn(
            email=email,
            tat=utc(tat),
            allowance=Allowance(
                self.default.units_per_minute if units is None else units,
                self.default.per_minute if minute is None else minute,
                self.default.per_day if day is None else day,
            ),
            paused_until=utc(paused_until),
            pauses=pauses,
            now=now.replace(tzinfo=UTC),
        )

    async def _serve(
        self, cursor: Cursor, turn: _Turn, token: str, share: int
    ) -> tuple[JobFound | None, Sequence[Letter]]:
        """Give one sender its turn: one job's letters, as many as its share and its budget allow."""
        if turn.paused_until and turn.paused_until > turn.now:
            await self._end_turn(cursor, turn, at=turn.paused_until)
            return None, ()
        budgets = [pace.minute(turn.allowance, tat=turn.tat, now=turn.now, units=self.units)]
        if turn.allowance.per_day:
            budgets.append(pace.day(turn.allowance, hours=await self._hours(cursor, turn), now=turn.now))
        for budget in budgets:
            if budget.letters is not None and budget.letters < 1:
                await self._end_turn(cursor, turn, at=budget.next_at)
                return None, ()
            share = share if budget.letters is None else min(share, budget.letters)
        job = await self._next_job(cursor, turn.email)
        if job is None:
            await cursor.execute(_NEXT_JOB, (turn.email,))
            due = utc((await cursor.fetchone())[0])
            await self._end_turn(cursor, turn, at=due and max(due, turn.now + _SKIPPED))
            return None, ()
        letters = await self._take(cursor, turn, job, token, share)
        await self._pay(cursor, turn, len(letters))
        return job, letters

    async def _next_job(self, cursor: Cursor, sender: str) -> JobFound | None:
        await cursor.execute(_JOB, (sender,))
        row = await cursor.fetchone()
        return JobFound(id=row[0], type=row[1], sender=sender, total=row[2]) if row else None

    async def _take(self, cursor: Cursor, turn: _Turn, job: JobFound, token: str, share: int) -> list[Letter]:
        await cursor.execute(_ROWS, (job.id, State.WAITING.value, share))
        rows = await cursor.fetchall()
        letters = [
            Letter(
                id=id_, job_id=job.id, seq=seq, sender=turn.email, to_email=to, to_name=name, variables=variables,
                attempt=attempts + 1, token=token, draft_id=draft, thread_id=thread, pauses=turn.pauses,
            )
            for id_, seq, to, name, variables, attempts, draft, thread in rows
        ]  # fmt: skip
        if letters:
            letters = await self._mark(cursor, letters, token)
        if len(rows) < share:
            await cursor.execute(_NEXT_ROW, (job.id, State.WAITING.value))
            next_at = (await cursor.fetchone())[0]
        else:
            next_at = naive(turn.now)
        if letters:
            await cursor.execute(_JOB_TURN, (JobStatus.SENDING.value, next_at, job.id))
        else:
            await cursor.execute(_JOB_EMPTY, (next_at, job.id))
        return letters

    async def _mark(self, cursor: Cursor, letters: list[Letter], token: str) -> list[Letter]:
        ids = tuple(letter.id for letter in letters)
        taken = after(State.WAITING, Change.CLAIMED).value
        lease = self.lease // timedelta(microseconds=1)
        await cursor.execute(_TAKE, (taken, token, self.daemon_id, lease, ids, State.WAITING.value))
        if cursor.rowcount == len(letters):
            return letters
        # Only where SKIP LOCKED is not what it says (TiDB, Galera): keep what the condition let through.
        await cursor.execute(
            "SELECT id, attempts FROM job_recipients FORCE INDEX (PRIMARY) WHERE id IN %s AND claim_token = %s",
            (ids, token),
        )
        mine = dict(await cursor.fetchall())
        return [replace(letter, attempt=mine[letter.id]) for letter in letters if letter.id in mine]

    async def _hours(self, cursor: Cursor, turn: _Turn) -> dict[datetime, int]:
        await cursor.execute(_HOURS, (turn.email, naive(turn.now - timedelta(hours=26))))
        return {hour.replace(tzinfo=UTC): letters for hour, letters in await cursor.fetchall()}

    async def _pay(self, cursor: Cursor, turn: _Turn, letters: int) -> None:
        turn.tat = pace.debit(turn.allowance, tat=turn.tat, now=turn.now, letters=letters, units=self.units)
        if letters:
            hour = turn.now.replace(minute=0, second=0, microsecond=0)
            await cursor.execute(_DEBIT_HOUR, (turn.email, naive(hour), letters))
        budget = pace.minute(turn.allowance, tat=turn.tat, now=turn.now, units=self.units)
        dry = budget.letters is not None and budget.letters < 1
        await self._end_turn(cursor, turn, at=budget.next_at if dry else turn.now)

    async def _end_turn(self, cursor: Cursor, turn: _Turn, *, at: datetime | None) -> None:
        await cursor.execute(_SENDER_TURN, (naive(at), naive(turn.tat), turn.email))


def utc(moment: datetime | None) -> datetime | None:
    """What the database gave, made aware: everything in it is UTC."""
    return moment.replace(tzinfo=UTC) if moment else None


def naive(moment: datetime | None) -> datetime | None:
    """What the driver takes: it drops a zone without a word."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment else None
