"""Messages in hand: nothing is handed to Google whose lease could end before the answer, and leases are renewed."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import cast

import pytest

from mailerd.core.claims import Claim, ClaimedRecipient
from mailerd.errors import DatabaseAwayError
from mailerd.events.worker import RunnerEvents
from mailerd.heartbeat import Heartbeats
from mailerd.store.queue.recovery import RecoveryQueries
from mailerd.worker.in_flight import MARGIN, InFlight
from tests.support.heard import Heard
from tests.support.ticking import Ticking

LEASE = 100.0


def message(id_: int, token: str = "T") -> ClaimedRecipient:
    return ClaimedRecipient(
        id=id_, job_id="J", seq=id_, sender="s", to_email="r", to_name=None, variables=None, attempt=1, token=token
    )


class Store:
    """Renews what it is told to, or is away."""

    def __init__(self) -> None:
        self.kept: set[tuple[int, str]] | None = None
        self.away = False
        self.asked = 0

    async def renew(self, held: Iterable[tuple[int, str]], *, lease: timedelta) -> set[tuple[int, str]]:
        self.asked += 1
        assert lease.total_seconds() == LEASE
        if self.away:
            raise DatabaseAwayError("renew", phase="connect", cause=OSError(), errno=0, retry=True, in_doubt=False)
        return {one for one in held if self.kept is None or one in self.kept}


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def in_flight(store: Store, clock: Ticking) -> AsyncIterator[InFlight]:
    it = InFlight(
        cast("RecoveryQueries", store), lease=timedelta(seconds=LEASE), clock=clock, events=RunnerEvents(Heard()),
        heartbeats=Heartbeats(),
    )  # fmt: skip
    renewing = asyncio.create_task(it.renew_loop())
    await clock.move(0)
    yield it
    renewing.cancel()


async def test_a_call_must_fit_into_what_is_left_of_the_lease(
    in_flight: InFlight, clock: Ticking, store: Store
) -> None:
    store.away = True
    in_flight.add(Claim("T", (message(1),), ()), asked_at=clock.monotonic())
    assert in_flight.lease_allows(message(1), seconds=LEASE - MARGIN - 0.1)
    assert not in_flight.lease_allows(message(1), seconds=LEASE - MARGIN)
    await clock.move(60)
    assert in_flight.lease_allows(message(1), seconds=30)
    assert not in_flight.lease_allows(message(1), seconds=40)


async def test_the_lease_counts_from_before_the_claim_was_asked_for(in_flight: InFlight, clock: Ticking) -> None:
    asked_at = clock.monotonic()
    await clock.move(20)  # the claim's answer was slow; the database's lease may have begun right away
    in_flight.add(Claim("T", (message(1),), ()), asked_at=asked_at)
    assert not in_flight.lease_allows(message(1), seconds=LEASE - 20)


async def test_leases_are_renewed_while_messages_are_in_hand(in_flight: InFlight, clock: Ticking, store: Store) -> None:
    await clock.move(LEASE / 4)
    assert store.asked == 0
    in_flight.add(Claim("T", (message(1),), ()), asked_at=clock.monotonic())
    for _ in range(20):
        await clock.move(LEASE / 4)
    assert store.asked == 20
    assert in_flight.lease_allows(message(1), seconds=LEASE / 2)


async def test_a_daemon_that_cannot_renew_stops_before_its_lease_ends(
    in_flight: InFlight, clock: Ticking, store: Store
) -> None:
    in_flight.add(Claim("T", (message(1),), ()), asked_at=clock.monotonic())
    store.away = True
    for _ in range(3):
        await clock.move(LEASE / 4)
    assert not in_flight.lease_allows(message(1), seconds=30)
    store.away = False
    await clock.move(LEASE / 4)
    assert in_flight.lease_allows(message(1), seconds=30)


async def test_a_message_that_somebody_else_has_now_is_not_sent(
    in_flight: InFlight, clock: Ticking, store: Store
) -> None:
    in_flight.add(Claim("T", (message(1), message(2)), ()), asked_at=clock.monotonic())
    store.kept = {(1, "T")}
    await clock.move(LEASE / 4)
    assert in_flight.lease_allows(message(1), seconds=10)
    assert not in_flight.lease_allows(message(2), seconds=10)


async def test_another_claims_token_does_not_count(in_flight: InFlight, clock: Ticking) -> None:
    in_flight.add(Claim("T", (message(1),), ()), asked_at=clock.monotonic())
    assert not in_flight.lease_allows(message(1, token="U"), seconds=1)
    in_flight.remove(message(1))
    assert not in_flight.lease_allows(message(1), seconds=1)
    assert len(in_flight) == 0


async def test_a_former_claim_of_a_row_is_not_safe_again_because_a_later_one_is(
    in_flight: InFlight, clock: Ticking, store: Store
) -> None:
    """A daemon may claim again what it still has in hand: the database was away for longer than the lease."""
    for token in ("T", "U"):
        in_flight.add(Claim(token, (message(1, token),), ()), asked_at=clock.monotonic())
    store.kept = {(1, "U")}
    await clock.move(LEASE / 4)
    assert in_flight.lease_allows(message(1, "U"), seconds=10)
    assert not in_flight.lease_allows(message(1, "T"), seconds=10)


async def test_a_message_is_held_since_before_its_claim_was_asked_for_whatever_becomes_of_its_lease(
    in_flight: InFlight, clock: Ticking
) -> None:
    asked_at = clock.monotonic()
    await clock.move(2)
    in_flight.add(Claim("T", (message(1),), ()), asked_at=asked_at)
    await clock.move(LEASE / 4)
    assert in_flight.age(message(1)) == LEASE / 4 + 2
    in_flight.remove(message(1))
    assert in_flight.age(message(1)) == 0.0
