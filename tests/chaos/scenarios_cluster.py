"""Storms over a database of three servers, all named in database.url: killed, frozen, cut off, restarted one by one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Final

from tests.chaos.place import Failover, Place, Setting
from tests.chaos.scenario import Scenario, Size
from tests.chaos.truth import OPEN, UNFINISHED
from tests.support.cluster import Cluster
from tests.support.group import mysql_server

_JOB: Final = 10
"""Messages of one post."""
_UNCERTAIN: Final = 3.0
"""Seconds for which a server stays cut off, or comes back unchanged, before anybody does anything about it."""
_SETTLES: Final = 1.0
"""Seconds after the first message in which a post may still meet what the failover left."""

Fault = Callable[[Place], Awaitable[None]]


async def _storm(place: Place, size: Size, faults: tuple[Fault, ...]) -> int:
    async with _posting(place, size):
        for fault in faults * size.rounds:
            await fault(place)
        await _rolling_restart(place)
    await until_settled(place)
    await measure(place)
    await compare(place)
    return len(place.failovers)


@asynccontextmanager
async def _posting(place: Place, size: Size) -> AsyncIterator[None]:
    """Post small jobs all the time meanwhile, and at least so many messages."""

    over = asyncio.Event()

    async def post() -> None:
        while not over.is_set() or sum(place.promised.values()) < size.messages:
            await place.post(_JOB)
            await asyncio.sleep(0.2)

    posting = asyncio.create_task(post())
    try:
        await _until_accepted(place, since=time.time())
        yield
        over.set()
        await posting
    finally:
        posting.cancel()


async def _killed(place: Place) -> None:
    """SIGKILL of the primary; another takes over; the old one is started again and joins."""
    old = _cluster(place).primary
    async with failover(place, "the primary is killed"):
        old.kill()
        await asyncio.to_thread(_cluster(place).fail_over)
    await asyncio.to_thread(old.start)
    await asyncio.to_thread(_cluster(place).rejoin, old)


async def _frozen(place: Place) -> None:
    """SIGSTOP of the primary; another takes over; the old one wakes up, still believing that it is the primary."""
    old = _cluster(place).primary
    async with failover(place, "the primary is frozen"):
        old.freeze()
        await asyncio.to_thread(_cluster(place).fail_over)
    async with failover(place, "the old primary wakes up"):
        old.thaw()
        await asyncio.sleep(_UNCERTAIN)
    await asyncio.to_thread(_cluster(place).readmit, old)


async def _cut_off(place: Place) -> None:
    """The daemons see the primary, its replicas do not: it may accept nothing, and another takes over."""
    old = _cluster(place).primary
    async with failover(place, "the primary is cut off from its replicas"):
        await place.roads[old.port].black_hole()
        await asyncio.sleep(_UNCERTAIN)
        await asyncio.to_thread(_cluster(place).fail_over)
        await asyncio.sleep(_UNCERTAIN)  # both take writes now, by their own words
        old.kill()
    await place.roads[old.port].heal()
    await asyncio.to_thread(_cluster(place).readmit, old)


async def _rolling_restart(place: Place) -> None:
    """One server after the other is killed and started anew, the primary after another took its place in good order."""
    cluster = _cluster(place)
    first = cluster.primary
    for node in cluster.replicas:
        async with failover(place, "rolling restart: a replica"):
            await asyncio.to_thread(node.restart)
            await asyncio.to_thread(cluster.rejoin, node)
    async with failover(place, "rolling restart: the primary is switched"):
        await asyncio.to_thread(cluster.switch_over)
    await asyncio.to_thread(first.restart)
    await asyncio.to_thread(cluster.rejoin, first)


@asynccontextmanager
async def failover(place: Place, what: str) -> AsyncIterator[None]:
    """Note when it began and which server took writes after it, and wait until messages are sent again."""
    noted = Failover(what, at=time.time())
    place.failovers.append(noted)
    yield
    noted.stood = time.time()
    place.server = _cluster(place).primary
    noted.server = f"server {_cluster(place).nodes.index(place.server) + 1}"
    await _until_accepted(place, since=noted.stood)


async def _until_accepted(place: Place, *, since: float) -> None:
    """Until Google has accepted two jobs' worth of messages since then: rows may tell late of what was sent before."""
    while sum(message["at"] > since for message in await place.google.accepted()) < 2 * _JOB:  # noqa: ASYNC110 - a process
        await asyncio.sleep(0.1)


async def until_settled(place: Place) -> None:
    """Until every message has come to its end."""
    while (await place.rows(OPEN))[0][0] or (await place.rows(UNFINISHED))[0][0]:  # noqa: ASYNC110 - a table
        await asyncio.sleep(0.3)


async def measure(place: Place, *, calm: bool = True) -> None:
    """How long each failover kept messages back, and which posts were refused in it, or outside of any.

    `calm`: outside of them nothing is done, so no post may be refused there.
    """
    accepted = sorted(message["at"] for message in await place.google.accepted())
    refused = set(place.refused)
    for n, noted in enumerate(place.failovers):
        until = place.failovers[n + 1].at if n + 1 < len(place.failovers) else accepted[-1]
        times = [noted.at, *(at for at in accepted if noted.at <= at <= until), max(noted.at, until)]
        noted.pause = max((later - earlier for earlier, later in pairwise(times)), default=0.0)
        back = next(at for at in accepted if at > noted.stood)  # `failover` has waited for it
        noted.after = back - noted.stood
        during = {at for at in refused if noted.at <= at <= back + _SETTLES}
        noted.refused = len(during)
        refused -= during
    if refused and calm:
        place.breaches.append(f"{len(refused)} posts were refused though every server was well")


async def compare(place: Place) -> None:
    """At the end all servers hold the same: none has accepted what the others will not have."""
    try:
        await asyncio.to_thread(_cluster(place).until_equal)
    except TimeoutError as error:
        place.breaches.append(str(error))
    if len(sums := set(await asyncio.to_thread(_cluster(place).checksums))) > 1:
        place.breaches.append(f"the servers hold different tables: {sums}")


def _cluster(place: Place) -> Cluster:
    assert place.cluster is not None
    return place.cluster


async def _semi_synchronous(place: Place, size: Size) -> int:
    return await _storm(place, size, (_killed, _frozen, _cut_off) if size.seconds else (_killed,))


async def _group(place: Place, size: Size) -> int:
    return await _storm(place, size, (_killed, _frozen) if size.seconds else (_killed,))


_MOVED: Final = ("writer_changed", "outcomes_rewritten")

OF_CLUSTER: Final = (
    Scenario(
        "cluster_semi_synchronous", "three MariaDB servers, semi-synchronous: the primary is killed, frozen, cut off, "
        "and all are restarted one by one", _semi_synchronous, Size(200, 1),
        Size(2000, 2, 1.0), setting=Setting(cluster="semi-synchronous"), within=400, hits=_MOVED,
    ),
    *(
        (
            Scenario(
                "cluster_group", "three MySQL servers in Group Replication, all in database.url: the primary is "
                "killed, frozen, and all are restarted one by one", _group, Size(200, 1),
                Size(1000, 2, 1.0), setting=Setting(cluster="group"), within=600, hits=_MOVED,
            ),
        ) if mysql_server() else ()
    ),
)  # fmt: skip
