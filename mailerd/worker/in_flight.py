"""The letters in hand and how long each is safely ours; prolongs their leases while they are."""

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
"""Seconds of a lease that are never used: what a statement and a turn of the loop may cost."""


@dataclass(slots=True)
class _Held:
    """Monotonic seconds, both."""

    since: float
    safe_until: float


class InFlight:
    """Every claimed letter from its claim to its record."""

    def __init__(
        self,
        rows: RecoveryQueries,
        *,
        lease: timedelta,
        clock: Clock,
        events: RunnerEvents,
        heartbeats: Heartbeats | None = None,
    ) -> None:
        self._rows = rows
        self._heartbeats = heartbeats or Heartbeats()
        self._lease = lease
        self._clock = clock
        self._events = events
        self._held: dict[tuple[int, str], _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def add(self, claim: Claim, *, asked_at: float) -> None:
        """Take up a claim; its leases count from `asked_at` (monotonic seconds), before the statement was sent."""
        safe_until = self._safe_until(asked_at)
        for letter in claim.letters:
            self._held[letter.id, letter.token] = _Held(asked_at, safe_until)

    def remove(self, letter: ClaimedRecipient) -> None:
        """It is recorded, or given up."""
        self._held.pop((letter.id, letter.token), None)

    def lease_allows(self, letter: ClaimedRecipient, *, seconds: float) -> bool:
        """Whether a call of at most so many seconds is over before the lease is."""
        held = self._held.get((letter.id, letter.token))
        return held is not None and self._clock.monotonic() + seconds < held.safe_until

    def age(self, letter: ClaimedRecipient) -> float:
        """Seconds since its claim was asked for; 0 for a letter that is not in hand."""
        held = self._held.get((letter.id, letter.token))
        return self._clock.monotonic() - held.since if held else 0.0

    def _safe_until(self, asked_at: float) -> float:
        return asked_at + self._lease.total_seconds() - MARGIN

    async def renew_loop(self) -> None:
        """Prolong what is in hand, four times in a lease; what cannot be prolonged is simply not safe for long."""
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
