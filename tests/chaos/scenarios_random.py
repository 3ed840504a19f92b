"""A storm over three servers in which what happens, to whom and when is left to chance, and several things at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import pymysql

from mailerd.sandbox.mariadb import Server
from tests.chaos.place import Place, Setting
from tests.chaos.scenario import Scenario, Size
from tests.chaos.scenarios_cluster import compare, failover, measure, until_settled
from tests.support.cluster import Cluster
from tests.support.replicated import as_admin

_JOB: Final = 10
"""Messages of one post."""

Fault = Callable[[Place, Cluster], Awaitable[None]]


async def _killed(place: Place, cluster: Cluster) -> None:
    """The primary is killed and another takes over; the old one comes back as a replica."""
    old = cluster.primary
    async with failover(place, "the primary is killed"):
        old.kill()
        await asyncio.to_thread(cluster.fail_over)
    await asyncio.to_thread(cluster.readmit, old)


async def _frozen(place: Place, cluster: Cluster) -> None:
    """SIGSTOP of the primary; another takes over; the old one wakes up and believes that it is the primary."""
    old = cluster.primary
    async with failover(place, "the primary is frozen"):
        old.freeze()
        await asyncio.to_thread(cluster.fail_over)
    async with failover(place, "the old primary wakes up"):
        old.thaw()
        await asyncio.sleep(place.chance.uniform(0.5, 3.0))
    await asyncio.to_thread(cluster.readmit, old)


async def _cut_off(place: Place, cluster: Cluster) -> None:
    """The primary is cut off from its replicas; another takes over; for a while both say that they take writes."""
    old = cluster.primary
    async with failover(place, "the primary is cut off from its replicas"):
        await place.roads[old.port].black_hole()
        await asyncio.sleep(place.chance.uniform(0.0, 3.0))
        await asyncio.to_thread(cluster.fail_over)
        await asyncio.sleep(place.chance.uniform(0.0, 3.0))
        old.kill()
    await place.roads[old.port].heal()
    await asyncio.to_thread(cluster.readmit, old)


async def _primary_is_read_only(place: Place, cluster: Cluster) -> None:
    """SET read_only on the primary, and off again."""
    async with failover(place, "read_only is set on the primary, and off again"):
        await _set(cluster.primary, read_only="ON")
        await asyncio.sleep(place.chance.uniform(0.2, 3.0))
        await _set(cluster.primary, read_only="OFF")


async def _switched(place: Place, cluster: Cluster) -> None:
    """In good order."""
    async with failover(place, "the primary is switched"):
        await asyncio.to_thread(cluster.switch_over)


_FAULTS: Final[tuple[Fault, ...]] = (_killed, _frozen, _cut_off, _primary_is_read_only, _switched)


async def _set(server: Server, *, read_only: str) -> None:
    with suppress(pymysql.err.MySQLError):
        await asyncio.to_thread(as_admin, server, f"SET GLOBAL read_only = {read_only}")


async def _trouble_daemons(place: Place) -> None:
    """Kill daemons and stop them, some for longer than a lease, and cut one of the ways of each to the servers."""
    while True:
        await asyncio.sleep(place.chance.uniform(0.5, 4.0))
        number = place.chance.randrange(len(place.daemons))
        child = place.daemons[number]
        match place.chance.choice(("kill", "stop", "cut", "reset")):
            case "kill":
                child.kill()
                await asyncio.sleep(place.chance.uniform(0.0, 2.0))
                child.start()
            case "stop":
                child.stop()
                await asyncio.sleep(place.chance.uniform(0.5, 12.0))
                child.resume()
            case kind:
                lane = place.chance.choice([lane for (of, _), lane in place.lanes.items() if of == number])
                if kind == "reset":
                    await lane.reset_all()
                    continue
                await lane.black_hole()
                await asyncio.sleep(place.chance.uniform(0.5, 6.0))
                await lane.heal()


@asynccontextmanager
async def _troubled(place: Place) -> AsyncIterator[None]:
    """Meanwhile daemons have their own troubles; at the end all run and see every server."""
    trouble = asyncio.create_task(_trouble_daemons(place))
    try:
        yield
    finally:
        trouble.cancel()
        await asyncio.gather(trouble, return_exceptions=True)
        await _put_right(place)


async def _put_right(place: Place) -> None:
    for lane in place.lanes.values():
        await lane.heal()
    for child in place.daemons:
        if child.stopped_at is not None:
            child.resume()
        if not child.running:
            child.start()


async def _post(place: Place, over: asyncio.Event) -> None:
    while not over.is_set():
        await place.post(_JOB, idempotent=True)
        await asyncio.sleep(place.chance.uniform(0.0, 0.4))


async def _at_random(place: Place, size: Size) -> int:
    assert place.cluster is not None
    over = asyncio.Event()
    clients = [asyncio.create_task(_post(place, over)) for _ in range(2)]
    try:
        for _ in range(size.rounds):
            for fault in place.chance.sample(_FAULTS, len(_FAULTS)):
                async with _troubled(place):
                    await fault(place, place.cluster)
        over.set()
        await asyncio.gather(*clients)
    finally:
        for client in clients:
            client.cancel()
    await until_settled(place)
    await measure(place, calm=False)
    await compare(place)
    jobs = (await place.rows("SELECT COUNT(*) FROM jobs"))[0][0]
    if jobs != len(place.promised):
        place.breaches.append(f"{len(place.promised)} keys were answered 200, and there are {jobs} jobs")
    return len(place.failovers)


AT_RANDOM: Final = (
    Scenario(
        "cluster_at_random", "the same at random, also read-only and switched; daemons are killed, stopped and "
        "cut off, clients post all the time", _at_random, Size(200, 1), Size(1000, 2),
        setting=Setting(cluster="semi-synchronous", lanes=True), within=600,
        hits=("writer_changed", "outcomes_rewritten"),
    ),
)  # fmt: skip
