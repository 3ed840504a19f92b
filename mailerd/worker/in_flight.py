"""The letters in flight in this daemon: how long each lease certainly lasts, and the loop that renews the leases."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mailerd.clock import Clock
from mailerd.core.models import Claim, ClaimedRecipient
from mailerd.errors import DatabaseError
from mailerd.events.worker import RunnerEvents
from mailerd.ops.heartbeat import Heartbeats
from mailerd.ops.periodic import every
from mailerd.store.queue.recovery import RecoveryQueries

MARGIN: Final = 1.0
"""Seconds of a lease that are never used: the time that a statement and a turn of the event loop may take."""


@dataclass(slots=True)
class _Held:
    """When its claim was requested, and how long its lease certainly lasts, both in monotonic seconds."""

    since: float
    safe_until: float


class InFlight:
    """Every claimed letter, from its claim until its outcome is recorded."""

    def __init__(
        self,
        rows: RecoveryQueries,
        *,
        lease: timedelta,
        clock: Clock,
        events: RunnerEvents,
        heartbeats: Heartbeats,
    ) -> None:
        self._rows = rows
        self._heartbeats = heartbeats
        self._lease = lease
        self._clock = clock
        self._events = events
        self._held: dict[tuple[int, str], _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def add(self, claim: Claim, *, asked_at: float) -> None:
        """Add a claim's letters; their leases count from `asked_at` (monotonic), before the statement was sent."""
        safe_until = self._safe_until(asked_at)
        for letter in claim.letters:
            self._held[letter.id, letter.token] = _Held(asked_at, safe_until)

    def remove(self, letter: ClaimedRecipient) -> None:
        """Remove a letter that is recorded or given up."""
        self._held.pop((letter.id, letter.token), None)

    def lease_allows(self, letter: ClaimedRecipient, *, seconds: float) -> bool:
        """Whether a call of at most so many seconds certainly ends before the letter's lease does."""
        held = self._held.get((letter.id, letter.token))
        return held is not None and self._clock.monotonic() + seconds < held.safe_until

    def age(self, letter: ClaimedRecipient) -> float:
        """Seconds since the letter's claim was requested; 0 for one that is not in flight."""
        held = self._held.get((letter.id, letter.token))
        return self._clock.monotonic() - held.since if held else 0.0

    def _safe_until(self, asked_at: float) -> float:
        return asked_at + self._lease.total_seconds() - MARGIN

    async def renew_loop(self) -> None:
        """Renew the leases of the letters in flight, four times in a lease; one that cannot be renewed ends earlier."""
        interval = self._lease.total_seconds() / 4
        heartbeat = self._heartbeats.register("renew leases")
        await every(
            interval, self._renew, name="renewing leases", first_after=interval, heartbeat=heartbeat,
            sleep=self._clock.sleep,
        )  # fmt: skip

    async def _renew(self) -> None:
        if not (held := list(self._held)):
            return
        asked_at = self._clock.monotonic()
        try:
            kept = await self._rows.renew(held, lease=self._lease)
        except DatabaseError as error:
            self._events.leases_not_renewed(letters=len(held), cause=str(error))
            return
        safe_until = self._safe_until(asked_at)
        for one in held:
            if one in self._held:
                self._held[one].safe_until = safe_until if one in kept else 0.0
