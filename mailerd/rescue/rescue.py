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
from mailerd.pulse import Pulses
from mailerd.rescue.looking import Looking
from mailerd.rescue.orphans import Orphans
from mailerd.store.rescues import Settled

_LOOKS_AT_ONCE: Final = 5
_FINISH_EVERY: Final = 30.0
"""Seconds between two searches for jobs that nobody finished."""

_LONGEST_ROUND: Final = 3600.0
"""Seconds: a round may look for hundreds of letters and drafts at Google, each call with its own bound."""
_FIRST_SWEEP_AFTER: Final = 5.0
"""Seconds: letters that wait go first."""


class Rows(Protocol):
    """What the rescue needs of the store."""

    async def due(self, *, doubts: int) -> tuple[list[Lapsed], list[Doubt]]:
        """Lapsed rows, put right, and so many doubts taken for a look."""

    async def settle(self, settled: Settled) -> Written:
        """Write what a look found; what became of it."""

    async def unfinished(self, limit: int = 200) -> list[str]:
        """Jobs with nothing open that are not completed."""

    async def wake_forgotten(self) -> list[str]:
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

    async def _forever(self, step: Callable[[], Awaitable[None]], *, every: float, what: str) -> None:
        pulse = self.pulses.of(what, limit=_LONGEST_ROUND)
        while True:
            pulse.working(what)
            try:
                await step()
            except DatabaseAwayError:
                pass  # the store has said so, and says when it is back
            except DatabaseError as error:
                self.runner_events.step_failed(what=what, again_in=every, error=error)
            pulse.waiting("the next round", at_most=every)
            await self.clock.sleep(every)

    async def once(self) -> None:
        """One round: everything that is due now.

        Raises:
            DatabaseError: the round ended early; what was taken comes back when its lease lapses.
        """
        while True:
            lapsed, doubts = await self.rows.due(doubts=100)
            for row in lapsed:
                self._say_lapsed(row)
            at_once = asyncio.Semaphore(_LOOKS_AT_ONCE)
            await asyncio.gather(*(self._settle(doubt, at_once) for doubt in doubts))
            if not lapsed and not doubts:
                return

    async def sweep(self) -> None:
        """Search every mailbox in question for orphan drafts.

        Raises:
            DatabaseError: the rows cannot be read.
        """
        for sender in await self.rows.drafting_senders():
            await self.orphans.sweep(sender)

    async def _finish(self) -> None:
        for job in await self.rows.unfinished():
            self.touch(job)
        for job in await self.rows.wake_forgotten():
            self.events.job_forgotten(job=job)
            self.ring()

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

    async def _settle(self, doubt: Doubt, at_once: asyncio.Semaphore) -> None:
        async with at_once:
            settled = await self.looking.look(doubt)
            written = await self.rows.settle(settled)
        match written:
            case Written.TAKEN | Written.SETTLED:
                self._say(settled)
            case Written.CANCELLED:
                self.runner_events.letter_cancelled(
                    job=doubt.job_id, recipient=doubt.id, to=doubt.to_email, sender=doubt.sender,
                    cause="it was looked for, and Google does not have it",
                )  # fmt: skip
                self.touch(doubt.job_id)
            case Written.FENCED_OFF:
                pass  # somebody else looked meanwhile, and says what was found

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
