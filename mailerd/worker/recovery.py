"""Recovers what a crash or a lost answer left behind: expired claims, unresolved sends, stuck jobs, orphan drafts.

Each has its own loop: checking a large mailbox may take long, and an expired claim must not wait for that.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from mailerd.clock import Clock
from mailerd.core.models import ExpiredClaim, UnresolvedSend, WriteResult
from mailerd.core.states import SETTLED, State, Transition
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.worker import RecoveryEvents, RunnerEvents
from mailerd.ops.heartbeat import Heartbeat, Heartbeats
from mailerd.ops.periodic import every
from mailerd.store.queue.expired_claims import ExpiredClaims
from mailerd.store.queue.failover import NotReplayedError
from mailerd.store.queue.recovery import RecoveryQueries, Resolution
from mailerd.worker.orphan_drafts import OrphanDrafts
from mailerd.worker.reconcile import Reconciler, unresolved

_MAX_CHECKS: Final = 10
"""Unresolved sends that are checked at once. No more are taken, so that no lease runs out while one waits its turn."""
_MAX_CHECKS_PER_SENDER: Final = 2
"""How many of them may be of one sender: a mailbox that is slow or large leaves most checks to the others."""
_STUCK_JOBS_INTERVAL: Final = 30.0
"""Seconds between two searches for stuck and unfinished jobs."""
_FIRST_SWEEP_AFTER: Final = 5.0
"""Seconds until the first sweep, so that waiting letters are sent first."""


@dataclass(frozen=True)
class Recovery:
    """The recovery loops of one daemon."""

    expired: ExpiredClaims
    rows: RecoveryQueries
    reconciler: Reconciler
    orphan_drafts: OrphanDrafts
    clock: Clock
    events: RecoveryEvents
    runner_events: RunnerEvents
    job_changed: Callable[[str], None]
    """Called when a letter of this job is finished."""
    wake: Callable[[], None]
    """Called when a letter is due again."""
    interval: float
    """Seconds between two searches for expired claims and for unresolved sends."""
    sweep_interval: float
    """Seconds between two searches for orphan drafts."""
    call_timeout: float
    """Seconds that one call to Google takes at most, the wait for its units included."""
    heartbeats: Heartbeats
    _checking: Counter[str] = field(default_factory=Counter)
    """How many checks are under way, by sender."""
    _check_ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a check ends."""

    async def expired_claims_loop(self) -> None:
        """Recover expired claims, until cancelled. It never waits for Google."""
        await self._every(self.interval, self.recover_expired, name="recovering expired claims")

    async def reconcile_loop(self) -> None:
        """Check unresolved sends at Google, until cancelled."""
        async with asyncio.TaskGroup() as checks:
            await self._every(
                self.interval, lambda heartbeat: self.reconcile_some(checks, heartbeat), name="finding letters in doubt"
            )

    async def stuck_jobs_loop(self) -> None:
        """Find jobs that a crashed daemon did not complete, and stuck jobs, until cancelled."""
        await self._every(_STUCK_JOBS_INTERVAL, self._find_stuck_jobs, name="looking for unfinished jobs")

    async def sweep_loop(self) -> None:
        """Delete orphan drafts, soon after the start and now and then, until cancelled."""
        first_after = min(self.sweep_interval, _FIRST_SWEEP_AFTER)
        await self._every(self.sweep_interval, self.sweep, name="looking for orphan drafts", first_after=first_after)

    async def _every(
        self, interval: float, step: Callable[[Heartbeat], Awaitable[bool]], *, name: str, first_after: float = 0.0
    ) -> None:
        """Run a step every `interval` seconds; at once again while it says that more may be due."""
        heartbeat = self.heartbeats.register(name, limit=self.heartbeats.limit + self.call_timeout)

        def failed(error: DatabaseError) -> None:
            self.runner_events.step_failed(what=name, again_in=interval, error=error)

        await every(
            interval, lambda: step(heartbeat), name=name, first_after=first_after, heartbeat=heartbeat,
            on_error=failed, sleep=self.clock.sleep,
        )  # fmt: skip

    async def recover_expired(self, heartbeat: Heartbeat) -> bool:
        """Recover expired claims; whether there were any."""
        lapsed = await self.expired.recover(on_retry=lambda: heartbeat.working("recovering expired claims"))
        for row in lapsed:
            self._log_expired(row)
        return bool(lapsed)

    async def reconcile_some(self, checks: asyncio.TaskGroup, heartbeat: Heartbeat) -> bool:
        """Take as many unresolved sends as may be checked, and start a check for each; whether there may be more.

        Raises:
            DatabaseError: none was taken, or it is not known.
        """
        room, under_way = _MAX_CHECKS - self._checking.total(), bool(self._checking)
        letters = (
            await self.rows.take_unresolved(limit=room, per_sender=_MAX_CHECKS_PER_SENDER, under_way=self._checking)
            if room
            else []
        )
        for letter in letters:
            self._checking[letter.sender] += 1
            checks.create_task(self._reconcile_one(letter))
        if letters:
            return True
        if not under_way:  # as before the query: a check that ended since then makes room for another
            return False
        heartbeat.waiting("a check to end", at_most=self.interval)
        ended = asyncio.ensure_future(self._check_ended.wait())
        rested = asyncio.ensure_future(self.clock.sleep(self.interval))  # another sender may have one due by then
        try:
            await asyncio.wait({ended, rested}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            rested.cancel()
        self._check_ended.clear()
        return True

    async def _reconcile_one(self, letter: UnresolvedSend) -> None:
        """Check one letter. It has a heartbeat of its own, since it may take long and no other check waits for it."""
        what = f"looking for recipient {letter.id}"
        heartbeat = self.heartbeats.register(what, limit=self.heartbeats.limit + self.call_timeout)
        try:
            await self._resolve_one(letter, heartbeat)
        finally:
            self.heartbeats.end(what)
            self._checking[letter.sender] -= 1
            if not self._checking[letter.sender]:
                del self._checking[letter.sender]
            self._check_ended.set()

    async def sweep(self, heartbeat: Heartbeat) -> bool:
        """Search every mailbox that may hold orphan drafts.

        Raises:
            DatabaseError: the rows cannot be read.
        """
        senders = await self.rows.senders_with_drafts()
        self.orphan_drafts.retain(set(senders))
        for sender in senders:
            await self._sweep(sender, heartbeat)
        return False

    async def _sweep(self, sender: str, heartbeat: Heartbeat) -> None:
        """Search one mailbox; an error, such as a row that a person has locked, concerns this mailbox only."""
        try:
            await self.orphan_drafts.sweep(sender, progress=lambda: heartbeat.working("looking for orphan drafts"))
        except DatabaseAwayError:
            raise
        except NotReplayedError:
            pass  # the next search deletes what is an orphan then
        except Exception as error:  # noqa: BLE001 - the other mailboxes are searched all the same
            what = f"looking for orphan drafts of {sender}"
            self.runner_events.step_failed(what=what, again_in=self.sweep_interval, error=error)

    async def _find_stuck_jobs(self, heartbeat: Heartbeat) -> bool:
        for job in await self.rows.unfinished_jobs():
            self.job_changed(job)
        what = "looking for stuck jobs"
        heartbeat.working(what)
        for job in await self.rows.reschedule_stuck_jobs(on_retry=lambda: heartbeat.working(what)):
            self.events.job_stuck(job=job)
            self.wake()
        return False

    def _log_expired(self, row: ExpiredClaim) -> None:
        match row.status:
            case State.UNSURE:
                then = "it may have been sent, and is looked for"
            case State.FAILED:
                then = "it was tried alone after several crashes, and crashed its daemon each time, it is failed"
            case State.CANCELLED:
                then = "it was not handed to Google, and is cancelled with its job"
            case _:
                then = "it was not handed to Google, it is sent again and no attempt is lost"
                self.wake()
        if row.status in SETTLED:
            self.job_changed(row.job_id)
        self.events.lease_lapsed(
            job=row.job_id, recipient=row.id, to=row.to_email, sender=row.sender, attempt=row.attempt,
            owner=row.daemon_id or "?", then=then,
        )  # fmt: skip
        if row.status is State.UNSURE:
            self.runner_events.letter_unsure(
                job=row.job_id, recipient=row.id, to=row.to_email, sender=row.sender, cause=row.error,
                look_in=row.look_in.total_seconds(),
            )  # fmt: skip
        elif row.status is State.FAILED:
            self.runner_events.letter_failed(
                job=row.job_id, recipient=row.id, to=row.to_email, sender=row.sender, done=row.done, total=row.total,
                cause=row.error,
            )  # fmt: skip

    async def _resolve_one(self, letter: UnresolvedSend, heartbeat: Heartbeat) -> None:
        try:
            settled = await self._reconcile(letter, heartbeat)
            written = await self.rows.resolve(settled, on_retry=lambda: heartbeat.working("settling letters in doubt"))
        except DatabaseAwayError:
            return  # logged by the store; nothing was written, and the check is repeated when its lease expires
        except DatabaseError as error:
            what = f"settling recipient {letter.id} of job {letter.job_id}"
            self.runner_events.step_failed(what=what, again_in=self.rows.check_lease.total_seconds(), error=error)
            return
        match written:
            case WriteResult.APPLIED | WriteResult.RESOLVED:
                self._log_resolution(settled)
            case WriteResult.CANCELLED:
                self.runner_events.letter_cancelled(
                    job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender,
                    cause="it was looked for, and Google does not have it",
                )  # fmt: skip
                self.job_changed(letter.job_id)
                await self._discard(letter)
            case WriteResult.STALE | WriteResult.IN_DOUBT | WriteResult.SUPPRESSED:
                pass  # another daemon has checked meanwhile, and logs its result

    async def _discard(self, letter: UnresolvedSend) -> None:
        """Delete the draft of a letter that will not be sent, so that a late request finds none.

        A failure is logged like that of any call, and the sweep finds a draft that is left.
        """
        try:
            if letter.draft_id:
                await self.reconciler.gmail.delete_draft(letter.sender, draft_id=letter.draft_id)
        except DatabaseError as error:  # the rate limit could not be read
            self.runner_events.step_failed(what="deleting a cancelled letter's draft", again_in=0.0, error=error)

    async def _reconcile(self, letter: UnresolvedSend, heartbeat: Heartbeat) -> Resolution:
        """The result of a check; an error concerns this check only, and decides nothing."""
        try:
            return await self.reconciler.reconcile(
                letter, progress=lambda: heartbeat.working("looking for letters in doubt")
            )
        except DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001 - the other checks go on
            self.runner_events.letter_broke(
                job=letter.job_id, recipient=letter.id, to=letter.to_email, then="it is looked for again later",
                error=error,
            )  # fmt: skip
            return unresolved(letter, f"unforeseen: {error!r}")

    def _log_resolution(self, it: Resolution) -> None:
        letter, say = it.letter, self.events
        match it.transition:
            case Transition.FOUND:
                proof = f"message {it.message_id}" if it.message_id else "its draft is gone"
                self.runner_events.letter_found(
                    job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender, proof=proof
                )
                self.job_changed(letter.job_id)
            case Transition.MISSING:
                say.letter_missing(job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender)
                self.wake()
            case _ if it.retry_in is None:
                say.letter_needs_a_person(
                    job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender
                )
            case _:
                say.letter_still_unsure(
                    job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender,
                    checks=letter.checks + 1, cause=it.error or "", again_in=it.retry_in.total_seconds(),
                )  # fmt: skip
