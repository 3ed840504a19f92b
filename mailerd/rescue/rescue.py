"""The rescue's loops: leases that ran out, doubts that are due, jobs that nobody finished, drafts that nobody needs."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

from mailerd.clock import Clock
from mailerd.core.claims import Doubt, Lapsed, Written
from mailerd.core.states import SETTLED, Change, State
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.runner import RescueEvents, RunnerEvents
from mailerd.pulse import Pulse, Pulses
from mailerd.rescue.looking import Looking, still_unsure
from mailerd.rescue.orphans import Orphans
from mailerd.store.rescues import Settled

_LOOKS_AT_ONCE: Final = 5
"""As many doubts are taken: each is looked for at once, so that none waits for its turn while its lease runs out."""
_FINISH_EVERY: Final = 30.0
"""Seconds between two searches for jobs that nobody finished."""
_FIRST_SWEEP_AFTER: Final = 5.0
"""Seconds: letters that wait go first."""


class Rows(Protocol):
    """What the rescue needs of the store."""

    @property
    def look_lease(self) -> timedelta:
        """For how long a doubt that was taken is nobody else's."""

    async def due(self, *, doubts: int, tried: Callable[[], None]) -> tuple[list[Lapsed], list[Doubt]]:
        """Lapsed rows, put right, and so many doubts taken for a look; `tried` is called while it is in doubt."""

    async def settle(self, settled: Settled, *, tried: Callable[[], None]) -> Written:
        """Write what a look found; what became of it."""

    async def unfinished(self, limit: int = 200) -> list[str]:
        """Jobs with nothing open that are not completed."""

    async def wake_forgotten(self, *, tried: Callable[[], None]) -> list[str]:
        """Wake the jobs that no claim would find; which those were."""

    async def drafting_senders(self) -> list[str]:
        """Senders whose mailbox may hold orphan drafts."""


@dataclass(frozen=True)
class Rescue:
    """Everything that is put right after something went wrong."""

    rows: Rows
    looking: Looking
    orphans: Orphans
    clock: Clock
    events: RescueEvents
    runner_events: RunnerEvents
    touch: Callable[[str], None]
    """Something of this job has come to its end."""
    ring: Callable[[], None]
    """Something is due again."""
    every: float
    """Seconds between two looks for lapsed leases and due doubts."""
    sweep_every: float
    """Seconds between two searches for orphan drafts."""
    call_within: float
    """Seconds that one call to Google takes at most, the wait for its units included."""
    pulses: Pulses = field(default_factory=Pulses)

    async def rescue_forever(self) -> None:
        """Put right what lapsed and settle what is due, until cancelled."""
        await self._forever(self.once, every=self.every, what="rescuing")

    async def finish_forever(self) -> None:
        """Find jobs whose daemon died between its last letter and their end, and forgotten ones, until cancelled."""
        await self._forever(self._finish, every=_FINISH_EVERY, what="looking for unfinished jobs")

    async def sweep_forever(self) -> None:
        """Delete orphan drafts, soon after the start and now and then, until cancelled."""
        await self.clock.sleep(min(self.sweep_every, _FIRST_SWEEP_AFTER))
        await self._forever(self.sweep, every=self.sweep_every, what="looking for orphan drafts")

    async def _forever(self, step: Callable[[Pulse], Awaitable[bool]], *, every: float, what: str) -> None:
        """Round after round: at once while a step says that more may be due, else after a rest."""
        pulse = self.pulses.of(what, limit=self.pulses.limit + self.call_within)
        while True:
            pulse.working(what)
            more = False
            try:
                more = await step(pulse)
            except DatabaseAwayError:
                pass  # the store has said so, and says when it is back
            except DatabaseError as error:
                self.runner_events.step_failed(what=what, again_in=every, error=error)
            if not more:
                pulse.waiting("the next round", at_most=every)
                await self.clock.sleep(every)

    async def once(self, pulse: Pulse) -> bool:
        """One round: leases that lapsed, and as many doubts as are looked for at once; whether there were any.

        Raises:
            DatabaseError: nothing was done.
        """
        lapsed, doubts = await self.rows.due(doubts=_LOOKS_AT_ONCE, tried=lambda: pulse.working("rescuing"))
        for row in lapsed:
            self._say_lapsed(row)
        async with asyncio.TaskGroup() as looks:
            for doubt in doubts:
                looks.create_task(self._settle(doubt, pulse))
        return bool(lapsed or doubts)

    async def sweep(self, pulse: Pulse) -> bool:
        """Search every mailbox in question for orphan drafts.

        Raises:
            DatabaseError: the rows cannot be read.
        """
        senders = await self.rows.drafting_senders()
        self.orphans.forget_all_but(set(senders))
        for sender in senders:
            await self._sweep(sender, pulse)
        return False

    async def _sweep(self, sender: str, pulse: Pulse) -> None:
        """Search one mailbox; a bug met in it stays with it."""
        try:
            await self.orphans.sweep(sender, progress=lambda: pulse.working("looking for orphan drafts"))
        except DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001 - the other mailboxes are searched all the same
            what = f"looking for orphan drafts of {sender}"
            self.runner_events.step_failed(what=what, again_in=self.sweep_every, error=error)

    async def _finish(self, pulse: Pulse) -> bool:
        for job in await self.rows.unfinished():
            self.touch(job)
        what = "looking for forgotten jobs"
        pulse.working(what)
        for job in await self.rows.wake_forgotten(tried=lambda: pulse.working(what)):
            self.events.job_forgotten(job=job)
            self.ring()
        return False

    def _say_lapsed(self, row: Lapsed) -> None:
        match row.status:
            case State.UNSURE:
                fate = "it may have been sent, and is looked for"
            case State.FAILED:
                fate = "it was not handed to Google, its attempts are used up, it is failed"
            case State.CANCELLED:
                fate = "it was not handed to Google, and is cancelled with its job"
            case _:
                fate = "it was not handed to Google, it is sent again"
                self.ring()
        if row.status in SETTLED:
            self.touch(row.job_id)
        self.events.lease_lapsed(
            job=row.job_id, recipient=row.id, to=row.to_email, sender=row.sender, attempt=row.attempt,
            owner=row.daemon_id or "?", fate=fate,
        )  # fmt: skip
        if row.status is State.UNSURE:
            self.runner_events.letter_unsure(
                job=row.job_id, recipient=row.id, to=row.to_email, sender=row.sender, cause=row.error,
                look_in=_seconds(row.look_in),
            )  # fmt: skip
        elif row.status is State.FAILED:
            self.runner_events.letter_failed(
                job=row.job_id, recipient=row.id, to=row.to_email, sender=row.sender, done=row.done, total=row.total,
                cause=row.error,
            )  # fmt: skip

    async def _settle(self, doubt: Doubt, pulse: Pulse) -> None:
        try:
            settled = await self._look(doubt, pulse)
            written = await self.rows.settle(settled, tried=lambda: pulse.working("settling letters in doubt"))
        except DatabaseAwayError:
            return  # the store has said so, and nothing was written; it is taken again when the look's lease lapses
        except DatabaseError as error:
            what = f"settling recipient {doubt.id} of job {doubt.job_id}"
            self.runner_events.step_failed(what=what, again_in=_seconds(self.rows.look_lease), error=error)
            return
        match written:
            case Written.TAKEN | Written.SETTLED:
                self._say(settled)
            case Written.CANCELLED:
                self.runner_events.letter_cancelled(
                    job=doubt.job_id, recipient=doubt.id, to=doubt.to_email, sender=doubt.sender,
                    cause="it was looked for, and Google does not have it",
                )  # fmt: skip
                self.touch(doubt.job_id)
                await self._discard(doubt)
            case Written.FENCED_OFF:
                pass  # somebody else looked meanwhile, and says what was found

    async def _discard(self, doubt: Doubt) -> None:
        try:
            await self.looking.discard(doubt)
        except DatabaseError as error:  # the ledger could not be asked; the search for orphans finds the draft
            self.runner_events.step_failed(what="deleting a cancelled letter's draft", again_in=0.0, error=error)

    async def _look(self, doubt: Doubt, pulse: Pulse) -> Settled:
        """What a look found; a bug met by one look stays with it, and decides nothing."""
        try:
            return await self.looking.look(doubt, progress=lambda: pulse.working("looking for letters in doubt"))
        except DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001 - the other looks go on
            self.runner_events.letter_broke(
                job=doubt.job_id, recipient=doubt.id, to=doubt.to_email, fate="it is looked for again later",
                error=error,
            )  # fmt: skip
            return still_unsure(doubt, f"unforeseen: {error!r}")

    def _say(self, it: Settled) -> None:
        doubt, say = it.doubt, self.events
        match it.change:
            case Change.FOUND:
                proof = f"message {it.message_id}" if it.message_id else "its draft is gone"
                self.runner_events.letter_found(
                    job=doubt.job_id, recipient=doubt.id, to=doubt.to_email, sender=doubt.sender, proof=proof
                )
                self.touch(doubt.job_id)
            case Change.MISSING:
                say.letter_missing(job=doubt.job_id, recipient=doubt.id, to=doubt.to_email, sender=doubt.sender)
                self.ring()
            case _ if it.look_again is None:
                say.letter_needs_a_person(job=doubt.job_id, recipient=doubt.id, to=doubt.to_email, sender=doubt.sender)
            case _:
                say.letter_still_unsure(
                    job=doubt.job_id, recipient=doubt.id, to=doubt.to_email, sender=doubt.sender,
                    looks=doubt.looks + 1, cause=it.error or "", again_in=_seconds(it.look_again),
                )  # fmt: skip


def _seconds(wait: timedelta) -> float:
    return wait.total_seconds()
