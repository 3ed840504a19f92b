"""Storms of what people, credentials and failovers do: exchanged files, late requests, a replica that takes over."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Final

from mailerd.sandbox.google import COMPOSE, METADATA, SEND
from mailerd.sandbox.mariadb import Server
from tests.chaos.child import Child
from tests.chaos.place import REQUEST_TIMEOUT, Place, Setting
from tests.chaos.scenario import Scenario, Size
from tests.support.replicated import Pair, as_admin

ME: Final = "me@example.com"
OTHER: Final = "other@example.com"
LOOKS: Final = "looks@example.com"
_LATE: Final = 12.0
"""Seconds after which a late request is carried out, long after somebody has looked for its message."""
_ROWS: Final = "SELECT r.id, CONCAT(r.job_id, '-', r.seq), r.status FROM job_recipients r"


async def _exchanged(place: Place, size: Size) -> int:
    """The file of one mailbox is put in the place of another's, and back again; some answers get lost beside it."""
    folder = place.folder / "credentials"
    right = {name: (folder / f"{name}.json").read_text() for name in (ME, LOOKS)}
    wrong = (folder / f"{OTHER}.json").read_text()
    for n in range(size.rounds):
        for kind in ("reset_before", "reset_after"):
            await place.google.fault(kind=kind, method="drafts.send", count=5, probability=0.2)
            await place.google.fault(kind=kind, method="messages.send", count=5, probability=0.2)
        for name in right:
            await place.post(size.messages // (2 * size.rounds), sender=name)
        await asyncio.sleep(place.chance.uniform(0.2, 1.0))
        name = list(right)[n % 2]
        _put(folder, name, wrong)
        await asyncio.sleep(place.chance.uniform(2.0, 5.0))
        _put(folder, name, right[name])
    return size.rounds + sum((await place.google.struck()).values())


def _put(folder: Path, name: str, text: str) -> None:
    """As `mv` does it: at once."""
    new = folder / "new"
    new.touch(mode=0o600)
    new.write_text(text)
    new.rename(folder / f"{name}.json")


async def _late(place: Place, size: Size) -> int:
    """Google carries requests out 12 s after their client has gone, and breaks other connections."""
    for method in ("drafts.create", "drafts.send"):
        await place.google.fault(kind="late", method=method, count=10 * size.rounds, probability=0.2, seconds=_LATE)
        for kind in ("reset_before", "reset_after"):
            await place.google.fault(kind=kind, method=method, count=5 * size.rounds, probability=0.1)
    for _ in range(size.rounds):
        await place.post(size.messages // size.rounds, sender=place.chance.choice((ME, LOOKS)))
        await asyncio.sleep(place.chance.uniform(0.5, 2.0))
    await asyncio.sleep(_LATE + REQUEST_TIMEOUT)
    return sum((await place.google.struck()).values())


async def _failover(place: Place, size: Size, *, lags: bool, dies: bool) -> int:
    """The primary is killed in mid-storm; its replica, which may be behind, takes its place, at the same address."""
    pair = place.pair
    assert pair is not None
    senders = sorted({ME, LOOKS})
    for sender in senders:
        await place.post(size.messages // len(senders), sender=sender)
    await asyncio.to_thread(pair.until_followed)  # what was promised is there; what becomes of it is the question
    await asyncio.sleep(place.chance.uniform(0.3, 0.8))
    victim = place.daemons[0]
    if lags:
        await _lag(place, pair, dies=victim if dies else None)
        await asyncio.sleep(place.chance.uniform(1.0, 2.0))
    if dies:
        victim.kill()
    pair.primary.kill()
    await asyncio.to_thread(pair.fail_over)
    place.server = pair.replica
    if dies:
        place.unknown |= await _known_to_the_dead_alone(place)
    place.proxy.lead_to(pair.replica.port)
    await place.proxy.reset_all()
    if dies:
        victim.start()
    return 1 + dies


async def _lag(place: Place, pair: Pair, *, dies: Child | None) -> None:
    """The replica falls behind while the daemon that dies sends; the primary is told more by those that live."""
    while True:
        await asyncio.to_thread(pair.lag)
        if dies is None or dies in await _daemons(place, pair.replica, "sending"):
            break
        await asyncio.to_thread(pair.connect_again)
        await asyncio.sleep(0.1)
    living = [child for child in place.daemons if child is not dies]
    known = [(await _daemons(place, pair.replica, "sent"))[child] for child in living]
    while [(await _daemons(place, pair.primary, "sent"))[child] for child in living] == known:  # noqa: ASYNC110 - a table
        await asyncio.sleep(0.05)


async def _daemons(place: Place, server: Server, status: str) -> Counter[Child | None]:
    """How many messages of each daemon have this status on that server."""
    statement = f"SELECT daemon_id FROM mailerd.job_recipients WHERE status = '{status}'"
    return Counter(place.daemon(ident) for (ident,) in await asyncio.to_thread(as_admin, server, statement))


async def _known_to_the_dead_alone(place: Place) -> set[str]:
    """Messages that Google has, or was just asked to send, of which neither the database nor a living daemon knows."""
    rows = await place.rows(_ROWS)
    living = set()
    for child in place.daemons[1:]:
        for text in child.runs[-1].log.read_text(encoding="utf-8", errors="replace").splitlines():
            line = json.loads(text)
            if line["event"] in {"message_started", "message_sent"}:
                living.add(line["recipient"])
    return {key for number, key, status in rows if status != "sent" and number not in living}


async def _asynchronous(place: Place, size: Size) -> int:
    return await _failover(place, size, lags=True, dies=False)


async def _asynchronous_and_a_death(place: Place, size: Size) -> int:
    return await _failover(place, size, lags=True, dies=True)


async def _semi_synchronous(place: Place, size: Size) -> int:
    return await _failover(place, size, lags=False, dies=False)


_BOTH: Final = {ME: (COMPOSE,), LOOKS: (SEND, METADATA)}
_SLOW: Final = 0.3


def _replicated(how: str) -> Setting:
    return Setting(replicated=how, proxied=frozenset({0, 1}), latency=_SLOW, senders=_BOTH)


OF_FAILOVER: Final = (
    Scenario(
        "exchanged_files", "a mailbox's credential file is exchanged for another's, and put right again", _exchanged,
        Size(80, 2), Size(800, 8), setting=Setting(senders={**_BOTH, OTHER: (COMPOSE, METADATA)}, concurrency=10),
        within=300, hits=("mailbox_wrong", "sender_paused", "sender_resumed"),
    ),
    Scenario(
        "late_requests", "Google carries requests out 12 s late, and connections are reset", _late, Size(60, 1),
        Size(600, 5), setting=Setting(senders={ME: (COMPOSE,), LOOKS: (COMPOSE, METADATA)}), within=240,
        hits=("message_missing", "message_unsure"),
    ),
    Scenario(
        "failover_behind", "the primary dies, a replica that was behind takes over", _asynchronous, Size(200),
        Size(1000), setting=_replicated("asynchronous"), within=200, hits=("outcomes_rewritten",),
    ),
    Scenario(
        "failover_and_a_death", "the same, and a daemon dies at the same moment", _asynchronous_and_a_death, Size(120),
        Size(1000), setting=_replicated("asynchronous"), within=400, hits=("outcomes_rewritten",),
    ),
    Scenario(
        "failover_semi_synchronous", "the primary dies, a replica that has every commit takes over", _semi_synchronous,
        Size(200), Size(1000), setting=_replicated("semi-synchronous"), within=200, hits=("outcomes_rewritten",),
    ),
)  # fmt: skip
