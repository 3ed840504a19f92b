"""Writes what was found in an inbox and how far it is read, in one transaction, under the reader's lease."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final, assert_never

from mailerd.core.bounce_rule import BOUNCES, NO_RULES, BounceRules, is_dead, sender_reason
from mailerd.core.event_types import EventType
from mailerd.core.fates import Fate, Step, kind_of, prevails
from mailerd.core.findings import (
    Finding,
    Found,
    InboxCursor,
    InboxLease,
    PassedOver,
    SentElsewhere,
    SentLetter,
    Written,
)
from mailerd.core.notices import Kind
from mailerd.core.suppression import EVERYTHING, AddedSuppression, Channel, Reason, digest_of
from mailerd.store.db.cursor import Cursor
from mailerd.store.db.database import Database
from mailerd.store.db.times import micros, naive, rfc3339
from mailerd.store.inbox.bounce_counts import count_blocked, count_dead, count_unknown, is_third_soft
from mailerd.store.inbox.mailboxes import SELECT_KNOWN
from mailerd.store.inbox.pause_jobs import judge_job
from mailerd.store.inbox.undo_limit import requeue, rest_sender, undo_letters
from mailerd.store.mailing_lists import list_names
from mailerd.store.outbox import NewEvent, insert_events
from mailerd.store.queue.rate_limits import DefaultLimits, add_elsewhere
from mailerd.store.queue.reschedule import NOT_FORGOTTEN, short
from mailerd.store.queue.side_effects import pause_sender
from mailerd.store.suppressions import NewSuppression, add
from mailerd.store.tallies import count_bounced

_SET_CURSOR: Final = """
UPDATE mailboxes FORCE INDEX (PRIMARY)
   SET history_id = %s, internal_date = %s, waiting_from = %s, failing_id = %s, failures = %s,
       lease_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND
 WHERE email = %s AND lease_token = %s"""
_INSERT_NOTICE: Final = """
INSERT INTO notices (mailbox, gmail_id, thread_id, recipient_id, job_id, email, kind, code, detail, believed, at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_LOCK_LETTERS: Final = f"""
SELECT id, fate, fate_kind, given_back, NOT ({NOT_FORGOTTEN}) FROM job_recipients FORCE INDEX (PRIMARY)
 WHERE id IN %s ORDER BY id FOR UPDATE"""
# A letter may bounce before its own outcome is recorded, or while that is in doubt.
_SET_FATE: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET fate = %s, fate_kind = %s, fate_code = %s, fate_reason = %s, fate_at = %s, updated_at = UTC_TIMESTAMP(6)
 WHERE id = %s AND job_id = %s AND status IN ('sent', 'sending', 'unsure') AND fate <=> %s AND fate_kind <=> %s"""
_COUNT_FATES: Final = """
UPDATE jobs FORCE INDEX (PRIMARY) SET bounced = bounced + %s - %s, replied = replied + %s - %s WHERE id = %s"""
_DAY: Final = timedelta(hours=24)
"""How long a sender rests whose messages came back, blocked or for want of their addresses."""


class LeaseLostError(Exception):
    """Another daemon has the mailbox by now: what was read is not written, and is read there."""


@dataclass(frozen=True)
class FindingsWriter:
    """Writes findings. `min_pause`: how long a sender rests at least after a limit notice."""

    database: Database
    defaults: Callable[[], DefaultLimits]
    daemon_id: str
    lease_time: timedelta
    min_pause: timedelta
    undo: bool
    """Whether a limit notice lets its letter wait again; otherwise it is noted, and its sender pauses."""
    rules: BounceRules = NO_RULES
    """By which a bad list pauses its job, and its sender."""

    async def write(
        self,
        lease: InboxLease,
        found: Sequence[Found],
        cursor: InboxCursor,
        *,
        address_key: bytes,
        on_retry: Callable[[], None],
        failing: tuple[str, int] | None = None,
    ) -> Written:
        """Write all of it, or nothing; what it changed. `failing`: the message that could not be read, and how often.

        What is in doubt is repeated, and `on_retry` called after each try.

        Raises:
            LeaseLostError: another daemon reads this mailbox.
            DatabaseError: nothing was written.
        """
        tries: list[Written] = []

        async def work(database_cursor: Cursor, doubted: bool) -> Written:  # noqa: FBT001 - as it is called
            batch = _FindingsBatch(self, database_cursor, lease, address_key)
            if not await batch.move(cursor, failing):
                raise LeaseLostError(lease.email)
            done = await batch.write(found)
            if doubted and len(done.fresh) < len(tries[0].fresh):
                return tries[0]  # the first try was committed: no other daemon can have written under our lease
            tries.append(done)
            return done

        return await self.database.retry_until_committed(
            work, what="write what was found in an inbox", on_retry=on_retry, only_in_doubt=True
        )


@dataclass
class _FindingsBatch:
    """One transaction. Rows are locked in the order of all others: recipients, jobs, senders."""

    writer: FindingsWriter
    cursor: Cursor
    lease: InboxLease
    address_key: bytes
    done: Written = field(default_factory=Written)
    _jobs: dict[str, Counter[str]] = field(default_factory=dict)
    """How much the counts of each job change."""
    _given_back: set[int] = field(default_factory=set)
    """The letters that a limit notice has let wait again before."""
    _forgotten: set[int] = field(default_factory=set)
    """The letters whose person was taken out of the rows (docs/privacy.md): nothing is noted of them any more."""
    _dead: dict[str, set[str]] = field(default_factory=dict)
    """The new notices about dead addresses, by job."""
    _bounced: int = 0
    """The letters that bounced, and had not before."""
    _undone: list[SentLetter] = field(default_factory=list)
    """The letters that a limit notice lets wait again."""
    _news: list[NewEvent] = field(default_factory=list)
    _suppress: list[NewSuppression] = field(default_factory=list)

    async def move(self, to: InboxCursor, failing: tuple[str, int] | None) -> bool:
        failing_id, failures = failing or (None, 0)
        moved = (to.history_id, to.internal_date, to.waiting_from, failing_id, failures)
        values = (*moved, micros(self.writer.lease_time), self.lease.email, self.lease.token)
        await self.cursor.execute(_SET_CURSOR, values)
        return bool(self.cursor.rowcount == 1)

    async def write(self, found: Sequence[Found]) -> Written:
        unknown = await self._unknown(found)
        known = await self._lock(unknown)
        for it in unknown:
            if (seen := self._as_row_allows(it)) is not None:
                await self._note(seen)
                self.done.fresh.append(seen)
        fresh = [it for it in self.done.fresh if isinstance(it, Finding)]
        for it in fresh:
            await self._decide(it, known)
        undoing = [it for it in fresh if it.consequence.step is Step.UNDO]
        if undoing and self.writer.undo:
            for letter, fate in await undo_letters(self.cursor, undoing, by=self.writer.daemon_id):
                self._undone.append(letter)
                if fate is not None:
                    self._count(letter.job_id, fate, -1)
        await self._write_jobs()
        await self._write_sender(undoing)
        if self._suppress:
            added = await add(self.cursor, self._suppress)
            names = await list_names(self.cursor, {it.list_id for it in added.changed})
            self.done.suppressed += [
                AddedSuppression(it.address or "", names[it.list_id], it.reason, it.source) for it in added.changed
            ]
        if self._news:
            await self.cursor.execute(*insert_events(self._news))
        return self.done

    async def _unknown(self, found: Sequence[Found]) -> list[Found]:
        """Those that were not noted before, each once. The mailbox's row is locked: no other daemon notes any now."""
        if not found:
            return []
        once = {it.gmail_id: it for it in found}
        await self.cursor.execute(SELECT_KNOWN, (self.lease.email, tuple(once)))
        known = {gmail_id for (gmail_id,) in await self.cursor.fetchall()}
        return [it for it in once.values() if it.gmail_id not in known]

    async def _note(self, it: Found) -> None:
        whose: tuple[Any, ...]
        what: tuple[Any, ...]
        match it:
            case Finding(letter=letter, meaning=meaning):
                whose = (letter.id, letter.job_id, letter.to_email) if letter else (None, None, None)
                what = (meaning.kind.value, meaning.code or None, short(meaning.reason, 500) or None)
                believed = it.consequence.believed
            case SentElsewhere():
                whose, what, believed = (None, None, None), ("manual", None, None), True
            case PassedOver(cause=cause):
                whose, what, believed = (None, None, None), ("passed_over", None, short(cause, 500)), False
            case _:
                assert_never(it)
        place = (self.lease.email, it.gmail_id, it.thread_id)
        await self.cursor.execute(_INSERT_NOTICE, (*place, *whose, *what, int(believed), naive(it.at)))

    async def _lock(self, found: Sequence[Found]) -> dict[int, tuple[Fate, str] | None]:
        """Lock the letters and read the fate of each."""
        ids = sorted({it.letter.id for it in found if isinstance(it, Finding) and it.letter})
        if not ids:
            return {}
        await self.cursor.execute(_LOCK_LETTERS, (tuple(ids),))
        rows = await self.cursor.fetchall()
        self._given_back = {row[0] for row in rows if row[3]}
        self._forgotten = {row[0] for row in rows if row[4]}
        return {id_: (Fate(fate), kind or "") if fate else None for id_, fate, kind, *_ in rows}

    def _as_row_allows(self, it: Found) -> Found | None:
        """What a finding is to its letter's row; None: to nothing, since its person was forgotten."""
        if not isinstance(it, Finding) or it.letter is None:
            return it
        if it.letter.id in self._forgotten:
            return replace(it, letter=None) if it.unsubscribes else None
        if it.consequence.step is Step.UNDO and it.letter.id in self._given_back and self.writer.undo:
            # It was sent again, and is not a third time: it has come back, and a person may retry it.
            meaning = replace(it.meaning, kind=Kind.UNKNOWN)
            return replace(it, meaning=meaning, consequence=replace(it.consequence, fate=Fate.BOUNCED))
        return it

    async def _decide(self, it: Finding, known: dict[int, tuple[Fate, str] | None]) -> None:
        letter, fate = it.letter, it.consequence.fate
        if it.consequence.step is Step.UNSUBSCRIBE and it.unsubscribes:
            self._unsubscribe(it)
        if letter is None or fate is None or letter.id not in known:
            return
        before, new = known[letter.id], (fate, kind_of(it.meaning))
        if prevails(new, before) and await self._set_fate(it, letter, new, before):
            known[letter.id] = new
            self.done.changed.append(it)
            if before is None or before[0] is not fate:
                self._count(letter.job_id, fate, 1)
                self._bounced += fate is Fate.BOUNCED
                if before is not None:
                    self._count(letter.job_id, before[0], -1)
            self._log_fate(it, letter, fate)
            if fate is Fate.BOUNCED and is_dead(new[1], it.meaning.code, it.meaning.reason):
                self._dead.setdefault(letter.job_id, set()).add(it.gmail_id)
        await self._step(it, letter)

    async def _set_fate(
        self, it: Finding, letter: SentLetter, new: tuple[Fate, str], before: tuple[Fate, str] | None
    ) -> bool:
        meaning = it.meaning
        old = (before[0].value, before[1] or None) if before else (None, None)
        values = (new[0].value, new[1] or None, meaning.code or None, short(meaning.reason, 500) or None, naive(it.at))
        await self.cursor.execute(_SET_FATE, (*values, letter.id, letter.job_id, *old))
        return bool(self.cursor.rowcount == 1)

    def _count(self, job: str, fate: Fate, change: int) -> None:
        name = {Fate.BOUNCED: "bounced", Fate.REPLIED: "replied", Fate.OTHER_REPLIED: "replied"}.get(fate)
        if name:
            self._jobs.setdefault(job, Counter())[name] += change

    def _log_fate(self, it: Finding, letter: SentLetter, fate: Fate) -> None:
        meaning = it.meaning
        type_ = {
            Fate.BOUNCED: EventType.RECIPIENT_BOUNCED, Fate.REPLIED: EventType.RECIPIENT_REPLIED,
            Fate.OTHER_REPLIED: EventType.RECIPIENT_REPLIED, Fate.AUTO_REPLIED: EventType.RECIPIENT_AUTO_REPLIED,
        }.get(fate)  # fmt: skip
        if type_ is None:
            return
        data: dict[str, object] = {
            "recipient_id": letter.id, "job_id": letter.job_id, "seq": letter.seq, "email": letter.to_email,
            "sender_email": letter.sender, "at": rfc3339(it.at),
        }  # fmt: skip
        if fate is Fate.BOUNCED:
            data |= {"kind": kind_of(meaning), "code": meaning.code or None, "reason": meaning.reason or None}
        else:
            data |= {"by": next(iter(meaning.addresses), None)}
        self._news.append(NewEvent(type_, f"{letter.id}:{it.gmail_id}", data, letter.job_id, letter.sender))

    async def _step(self, it: Finding, letter: SentLetter) -> None:
        match it.consequence.step:
            case Step.SUPPRESS:
                self._suppress_address(letter, short(f"{it.meaning.code} {it.meaning.reason}".strip(), 255))
            case Step.COUNT_SOFT if await is_third_soft(self.cursor, letter.id):
                self._suppress_address(letter, "three soft bounces in a row within 30 days")
            case _:
                pass

    def _suppress_address(self, letter: SentLetter, detail: str | None) -> None:
        digest = digest_of(letter.to_email, self.address_key)
        self._suppress.append(
            NewSuppression(digest, EVERYTHING, Reason.HARD_BOUNCE, Channel.NOTICE, letter.to_email, letter.id, detail)
        )

    def _unsubscribe(self, it: Finding) -> None:
        list_id, digest = it.unsubscribes or (EVERYTHING, b"")
        letter = it.letter
        address, recipient = (letter.to_email, letter.id) if letter else (None, None)
        self._suppress.append(NewSuppression(digest, list_id, Reason.UNSUBSCRIBED, Channel.MAILTO, address, recipient))

    async def _write_jobs(self) -> None:
        for job in sorted({*self._jobs, *self._dead}):
            more = self._jobs.get(job, Counter())
            bounced, replied = more["bounced"], more["replied"]
            values = (max(bounced, 0), max(-bounced, 0), max(replied, 0), max(-replied, 0))
            if any(values):
                await self.cursor.execute(_COUNT_FATES, (*values, job))
            if job in self._dead and (bad := await judge_job(self.cursor, job, self.writer.rules.job)):
                self.done.bad_lists.append(bad)
        if self._undone:
            self.done.undone = await requeue(self.cursor, self._undone, self.lease.email)

    async def _write_sender(self, undoing: Sequence[Finding]) -> None:
        for it in self.done.fresh:
            if isinstance(it, SentElsewhere):
                await add_elsewhere(self.cursor, self.lease.email, at=it.at, letters=1)
        believed = [it for it in undoing if it.consequence.believed]
        # A notice of yesterday's limit says nothing about today's.
        if recent := [it for it in believed if self.lease.now - it.at < timedelta(hours=24)]:
            said, _, _ = recent[-1].meaning.reason[:200].partition(". ")  # its first sentence says it all
            reason = f"Google's limit notice: {said.rstrip('.')}"
            await self._pause_for_limit(reason, full=True)
        changed = {it.consequence.step for it in self.done.changed}
        findings = [it for it in self.done.fresh if isinstance(it, Finding)]
        if Step.COUNT_UNKNOWN in changed and (domains := await count_unknown(self.cursor, self.lease.email)):
            reason = f"letters to {domains} domains failed within minutes for an unknown cause, as above a limit"
            await self._pause_for_limit(reason, full=False)
        refused = [it.gmail_id for it in findings if it.consequence.step is Step.COUNT_BLOCKED]
        if refused and (blocked := await count_blocked(self.cursor, self.lease.email, refused)):
            reason = f"{blocked} of the last letters were blocked by receiving servers as unwanted"
            await self._pause_for_a_day("blocked", reason)
        dead = {gmail_id for ids in self._dead.values() for gmail_id in ids}
        if dead and (found := await count_dead(self.cursor, self.lease.email, dead, self.writer.rules.sender)):
            await self._pause_for_a_day(BOUNCES, sender_reason(*found))
        if self._bounced:
            await self.cursor.execute(*count_bounced(self.writer.daemon_id, self.lease.email, self._bounced))

    async def _pause_for_a_day(self, cause: str, reason: str) -> None:
        if await pause_sender(self.cursor, self.lease.email, cause=cause, reason=reason, wait=_DAY, pauses=0):
            self.done.paused.append((cause, reason, _DAY.total_seconds()))

    async def _pause_for_limit(self, reason: str, *, full: bool) -> None:
        wait = await rest_sender(
            self.cursor, self.lease.email, self.writer.defaults(), at_least=self.writer.min_pause, reason=reason,
            full=full,
        )  # fmt: skip
        if wait is not None:
            self.done.paused.append(("daily_limit", reason, wait.total_seconds()))
