"""Claiming: one short transaction takes due letters, counts the attempt, sets the lease and debits the ledger."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from mailerd.clock import new_id
from mailerd.core import pace
from mailerd.core.claims import Claim, JobFound, Letter
from mailerd.core.pace import Allowance, Budget
from mailerd.core.states import Change, JobStatus, State, after
from mailerd.store import ledger
from mailerd.store.database import Database
from mailerd.store.ledger import COLUMNS, Standing, Terms, naive, utc
from mailerd.store.pool import Cursor

_SENDER: Final = f"""
SELECT {COLUMNS} FROM senders FORCE INDEX (turn)
 WHERE turn_at <= UTC_TIMESTAMP(6) ORDER BY turn_at, email LIMIT 1 FOR UPDATE SKIP LOCKED"""

_JOB: Final = """
SELECT id, type, total, TIMESTAMPDIFF(MICROSECOND, send_at, UTC_TIMESTAMP(6)) FROM jobs FORCE INDEX (turn)
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
_SENDER_TURN: Final = "UPDATE senders FORCE INDEX (PRIMARY) SET turn_at = %s, tat = %s, gap_until = %s WHERE email = %s"
_DEBIT_HOUR: Final = """
INSERT INTO sender_hours (sender_email, hour, letters) VALUES (%s, %s, %s)
    ON DUPLICATE KEY UPDATE letters = letters + VALUES(letters)"""

_SHARE: Final = 10
"""Letters of one turn at least, where so many are wanted: a turn costs six statements, however few letters it gives."""
_SKIPPED: Final = timedelta(milliseconds=50)
"""How long a sender rests whose only due job is locked by somebody else."""


_PROBE_EVERY: Final = timedelta(seconds=2)
"""After a pause the letters go one by one, so far apart, until one went well."""
_FULL: Final = timedelta(milliseconds=500)
"""How long a sender rests that has as many letters in hand as Google lets it have."""


@dataclass
class _Turn:
    """A sender's turn inside one claim; what changes in it is written at its end."""

    it: Standing
    allowance: Allowance
    tat: datetime | None
    gap_until: datetime | None
    project_tat: datetime | None = None

    @property
    def now(self) -> datetime:
        return self.it.now

    @property
    def probing(self) -> bool:
        return self.it.pause_cause is not None


@dataclass
class Claims:
    """Takes letters for one daemon."""

    database: Database
    daemon_id: str
    lease: timedelta
    default: Allowance
    """For senders that have no limits of their own; a reload may change it."""
    consumer_per_day: int | None = None
    """`per_day` of consumer mailboxes; None: the default's."""
    project_units_per_minute: int = 0
    """Units of all senders of one Cloud project together; 0: no limit."""

    def govern(self, terms: Terms) -> None:
        """Take up other terms: a reload brought them."""
        self.default = terms.default
        self.consumer_per_day = terms.consumer_per_day
        self.project_units_per_minute = terms.project_units_per_minute

    @classmethod
    def on(cls, terms: Terms, database: Database, daemon_id: str, *, lease: timedelta) -> "Claims":
        """Claims under these terms."""
        return cls(database, daemon_id, lease, terms.default, terms.consumer_per_day, terms.project_units_per_minute)

    @property
    def terms(self) -> Terms:
        """The defaults as the ledger takes them."""
        return Terms(self.default, self.consumer_per_day, self.project_units_per_minute)

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
        it = ledger.standing(row, self.terms)
        return _Turn(it=it, allowance=it.allowance, tat=it.tat, gap_until=it.gap_until)

    async def _serve(
        self, cursor: Cursor, turn: _Turn, token: str, share: int
    ) -> tuple[JobFound | None, Sequence[Letter]]:
        """Give one sender its turn: one job's letters, as many as its share and its budget allow."""
        if turn.it.paused:
            await self._end_turn(cursor, turn, at=turn.it.paused_until)
            return None, ()
        if turn.probing or turn.allowance.min_gap:
            share = 1
        for budget in await self._budgets(cursor, turn):
            if budget.letters is not None and budget.letters < 1:
                await self._end_turn(cursor, turn, at=budget.next_at)
                return None, ()
            share = share if budget.letters is None else min(share, budget.letters)
        job = await self._next_job(cursor, turn.it.email)
        if job is None:
            await cursor.execute(_NEXT_JOB, (turn.it.email,))
            due = utc((await cursor.fetchone())[0])
            await self._end_turn(cursor, turn, at=due and max(due, turn.now + _SKIPPED))
            return None, ()
        letters = await self._take(cursor, turn, job, token, share)
        await self._pay(cursor, turn, len(letters))
        return job, letters

    async def _budgets(self, cursor: Cursor, turn: _Turn) -> list[Budget]:
        """What each of the limits allows; those that cost a statement are asked only where there is such a limit."""
        it, now = turn.it, turn.now
        budgets = [self._minute(turn)]
        if turn.gap_until and turn.gap_until > now:
            budgets.append(Budget(letters=0, next_at=turn.gap_until))
        if turn.allowance.per_day:
            budgets.append(pace.day(turn.allowance, hours=await ledger.hours(cursor, it.email, now=now), now=now))
        if it.concurrency is not None:
            free = it.concurrency - await ledger.in_hand(cursor, it.email)
            budgets.append(Budget(letters=max(0, free), next_at=now + _FULL))
        if self._project_counts(turn) and it.project:
            turn.project_tat = await ledger.project_tat(cursor, it.project)
            limit = self.project_units_per_minute
            budgets.append(pace.project(limit, tat=turn.project_tat, now=now, units=it.units))
        return budgets

    def _minute(self, turn: _Turn) -> Budget:
        return pace.minute(turn.allowance, tat=turn.tat, now=turn.now, units=turn.it.units)

    def _project_counts(self, turn: _Turn) -> bool:
        """A sender without a limit of units is not counted at all, neither for itself nor for its project."""
        return bool(self.project_units_per_minute and turn.it.project and turn.allowance.units_per_minute)

    async def _next_job(self, cursor: Cursor, sender: str) -> JobFound | None:
        await cursor.execute(_JOB, (sender,))
        row = await cursor.fetchone()
        return JobFound(id=row[0], type=row[1], sender=sender, total=row[2], age=row[3] / 1e6) if row else None

    async def _take(self, cursor: Cursor, turn: _Turn, job: JobFound, token: str, share: int) -> list[Letter]:
        await cursor.execute(_ROWS, (job.id, State.WAITING.value, share))
        rows = await cursor.fetchall()
        letters = [
            Letter(
                id=id_, job_id=job.id, seq=seq, sender=turn.it.email, to_email=to, to_name=name, variables=variables,
                attempt=attempts + 1, token=token, draft_id=draft, thread_id=thread, pauses=turn.it.pauses,
                probing=turn.probing, sender_mode=turn.it.mode, sender_project=turn.it.project,
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

    async def _pay(self, cursor: Cursor, turn: _Turn, letters: int) -> None:
        it, now = turn.it, turn.now
        turn.tat = pace.debit(turn.allowance, tat=turn.tat, now=now, letters=letters, units=it.units)
        if letters:
            await self._pay_project(cursor, turn, letters)
            hour = now.replace(minute=0, second=0, microsecond=0)
            await cursor.execute(_DEBIT_HOUR, (it.email, naive(hour), letters))
            turn.gap_until = pace.gap(turn.allowance, now=now, chance=random.random())  # noqa: S311 - jitter
        at = turn.gap_until if turn.gap_until and turn.gap_until > now else now
        if letters and turn.probing:
            at = max(at, now + _PROBE_EVERY)
        budget = self._minute(turn)
        if budget.letters == 0 and budget.next_at:
            at = max(at, budget.next_at)
        await self._end_turn(cursor, turn, at=at)

    async def _pay_project(self, cursor: Cursor, turn: _Turn, letters: int) -> None:
        it = turn.it
        if self._project_counts(turn) and it.project:
            tat = pace.project_debit(
                self.project_units_per_minute, tat=turn.project_tat, now=turn.now, units=letters * it.units
            )
            await ledger.set_project_tat(cursor, it.project, tat)

    async def _end_turn(self, cursor: Cursor, turn: _Turn, *, at: datetime | None) -> None:
        await cursor.execute(_SENDER_TURN, (naive(at), naive(turn.tat), naive(turn.gap_until), turn.it.email))
