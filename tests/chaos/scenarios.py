"""The storms: what is done to the daemons, to the database, to the network and to Google while messages are sent."""

from __future__ import annotations

import asyncio
from typing import Final

from mailerd.sandbox.google import COMPOSE, METADATA, SEND
from tests.chaos.place import DRAIN, LEASE, REQUEST_TIMEOUT, Place, Setting, others
from tests.chaos.scenario import Scenario, Size
from tests.chaos.scenarios_cluster import OF_CLUSTER
from tests.chaos.scenarios_failover import OF_FAILOVER
from tests.chaos.scenarios_neighbours import OF_NEIGHBOURS
from tests.chaos.scenarios_opt_out import OF_OPT_OUT
from tests.chaos.scenarios_proof import OF_PROOF
from tests.chaos.scenarios_random import AT_RANDOM
from tests.chaos.scenarios_renderer import OF_RENDERER

LOST_ANSWERS: Final = (
    "reset_before", "reset_after", "hang_before", "hang_after", "late", "garbage", "truncated", "200_without_id",
    "list_body", "bad_utf8", "cut_off", "backend_error", "html_502", "unavailable",
)  # fmt: skip
"""Every way in which an answer can be lost."""
LOOKS: Final = "looks@example.com"
BLIND: Final = "blind@example.com"
"""The one may look into its sent mail, the other may only send."""
_PAST_THE_LEASE: Final = LEASE + 2 * REQUEST_TIMEOUT + 1.5
"""Seconds until a successor has settled what a stopped daemon held."""
_SLACK: Final = 1.0
_SENDING: Final = "SELECT DISTINCT daemon_id FROM job_recipients WHERE status = 'sending'"


async def _kill9(place: Place, size: Size) -> int:
    """A kill on average every 0.8 s: the first while it sends, most others as well, some before they have begun."""
    kills = 0
    for n in range(size.rounds):
        await place.post(_share(size, n))
        kills += await _kill_while_it_sends(place) if not n else 0
        await asyncio.sleep(place.chance.uniform(0.2, 1.4))
        child = place.chance.choice(place.daemons)
        child.kill()
        child.start()
    return size.rounds + kills


async def _kill_while_it_sends(place: Place) -> int:
    """Kill who sends until one has left messages behind, whose leases lapse; the number of kills."""
    kills = 0
    while True:
        for (ident,) in (await place.rows(_SENDING))[:1]:
            if (child := place.daemon(ident)) is None:
                return kills
            child.kill()
            child.start()
            kills += 1
        await asyncio.sleep(0.02)


async def _stop_cont(place: Place, size: Size) -> int:
    for n in range(size.rounds):
        await place.post(_share(size, n))
        victim = place.daemons[n % len(place.daemons)]
        await asyncio.sleep(place.chance.uniform(0.05, 1.0))
        victim.stop()
        await asyncio.sleep(_PAST_THE_LEASE + place.chance.uniform(0.0, 2.0))
        victim.resume()
        await asyncio.sleep(REQUEST_TIMEOUT)
    return size.rounds


async def _db_kill9(place: Place, size: Size) -> int:
    for n in range(size.rounds):
        await place.post(_share(size, n))
        await asyncio.sleep(place.chance.uniform(0.3, 2.0))
        place.server.kill()
        await asyncio.sleep(place.chance.uniform(0.0, 1.5))
        await asyncio.to_thread(place.server.start)
    return size.rounds


async def _db_freeze(place: Place, size: Size) -> int:
    for n in range(size.rounds):
        await place.post(_share(size, n))
        await asyncio.sleep(place.chance.uniform(0.3, 1.0))
        place.server.freeze()
        await asyncio.sleep(size.seconds)
        for child in place.daemons:
            await child.until(lambda log: "database_unavailable" in log)
        place.server.thaw()
        await asyncio.sleep(REQUEST_TIMEOUT)
    return size.rounds


async def _black_hole(place: Place, size: Size) -> int:
    """The first daemon loses sight of the database in the midst of sending; the second one goes on."""
    for n in range(size.rounds):
        await place.post(_share(size, n))
        await asyncio.sleep(place.chance.uniform(0.3, 1.0))
        await place.proxy.black_hole()
        await asyncio.sleep(size.seconds)
        await place.proxy.heal()
        await asyncio.sleep(REQUEST_TIMEOUT)
    return size.rounds


async def _google_faults(place: Place, size: Size) -> int:
    """`rounds` of each kind on each of the two calls, mixed by chance; "late" also so late that it was looked for."""
    for method in ("drafts.create", "drafts.send"):
        for kind in LOST_ANSWERS:
            late = place.chance.choice((0.8, 3.0)) * REQUEST_TIMEOUT
            await place.google.fault(
                kind=kind, method=method, count=size.rounds, probability=0.06, seconds=late + 0.5 * REQUEST_TIMEOUT
            )
        # A server's error may come although the work was done.
        await place.google.fault(kind="backend_error", method=method, count=size.rounds, probability=0.06, accepts=True)
    await place.google.fault(kind="backend_error", method="drafts.get", count=size.rounds // 2, probability=0.2)
    for n in range(4):
        await place.post(_share(size, n, of=4))
        await asyncio.sleep(1.0)
    return await _until_struck(
        place, size, {(kind, m) for kind in LOST_ANSWERS for m in ("drafts.create", "drafts.send")}
    )


async def _until_struck(place: Place, size: Size, wanted: set[tuple[str, str]]) -> int:
    """Post more until every fault has struck as often as it was meant to; the number of all strikes."""
    while True:
        struck = await place.google.struck()
        missing = sum(max(0, size.rounds - struck.get(one, 0)) for one in wanted)
        if not missing:
            await place.google.clear_faults()
            return sum(struck.values())
        if not (await place.rows("SELECT COUNT(*) FROM job_recipients WHERE status = 'waiting'"))[0][0]:
            await place.post(10 + 2 * missing)
        await asyncio.sleep(0.5)


async def _clock(place: Place, size: Size) -> int:
    """A daemon ten minutes ahead and one ten minutes behind; each is killed, so that the other settles its doubts."""
    for n in range(size.rounds):
        await place.post(_share(size, n))
        await asyncio.sleep(place.chance.uniform(0.5, 1.5))
        child = place.daemons[n % len(place.daemons)]
        child.kill()
        await asyncio.sleep(place.chance.uniform(0.0, 1.0))
        child.start()
    return size.rounds


async def _term_storm(place: Place, size: Size) -> int:
    for n in range(size.rounds):
        await place.post(_share(size, n))
        await asyncio.sleep(place.chance.uniform(0.1, 1.5))
        child = place.chance.choice(place.daemons)
        spoken = child.has_spoken()
        code, took = await child.terminate()
        place.over.append((took - DRAIN - _SLACK, f"SIGTERM to {child.name}"))
        # One that was still importing has no handler yet: SIGTERM ends it like any program (systemd: success as well).
        if code != 0 and (spoken or code != -15):
            place.breaches.append(f"SIGTERM ended {child.runs[-1].log.name} with code {code} after {took:.1f} s")
        child.start()
    return size.rounds


async def _three_daemons(place: Place, size: Size) -> int:
    for n in range(10):
        await place.post(_share(size, n, of=10), sender=f"s{n % 3}@example.com")
    return 0


async def _direct_mode(place: Place, size: Size) -> int:
    """Lost answers and kills for a sender that may look into its sent mail and for one that may only send."""
    for sender in (LOOKS, BLIND):
        for kind in LOST_ANSWERS:
            # Later than the wait before a look, a message sent directly can be doubled: that is what draft mode is for.
            await place.google.fault(
                kind=kind, method="messages.send", sender=sender, count=size.rounds, probability=0.1,
                seconds=1.5 * REQUEST_TIMEOUT,
            )  # fmt: skip
    kills = 2 * size.rounds
    for n in range(kills):
        await place.post(_share(size, n // 2, of=size.rounds) // 2, sender=(LOOKS, BLIND)[n % 2])
        await asyncio.sleep(place.chance.uniform(0.5, 1.5))
        child = place.chance.choice(place.daemons)
        (survivor,) = others(place.daemons, child)
        await survivor.until(lambda log: "runner_started" in log)
        child.kill()
        child.start()
    struck = await place.google.struck()
    return kills + sum(struck.values())


def _share(size: Size, number: int, *, of: int = 0) -> int:
    """The messages of one round: a third of all in the first one, so that there is always a backlog."""
    parts = of or size.rounds
    first = size.messages // 3
    rest = size.messages - first
    return (first if number == 0 else 0) + rest * (number + 1) // parts - rest * number // parts


_SLOW: Final = 0.3
"""Seconds that Google takes for a call where daemons shall be caught in the midst of one."""

ALL: Final = (
    Scenario(
        "kill9", "SIGKILL of two daemons at random moments", _kill9, Size(200, 3), Size(5000, 100),
        setting=Setting(concurrency=10), within=300, hits=("lease_lapsed", "message_found", "orphan_deleted"),
    ),
    Scenario(
        "stop_cont", "SIGSTOP past the lease, a successor at work, SIGCONT", _stop_cont, Size(250, 1), Size(1500, 4),
        setting=Setting(latency=_SLOW), hits=("lease_lapsed", "message_claim_lost"),
    ),
    Scenario(
        "db_kill9", "SIGKILL of the database (flush at commit), restarted", _db_kill9, Size(250, 3), Size(1500, 12),
        setting=Setting(durable=True, latency=_SLOW), hits=("database_unavailable", "database_back"),
    ),
    Scenario(
        "db_freeze", "the database freezes (SIGSTOP)", _db_freeze, Size(150, 1, 5.0), Size(500, 1, 30.0),
        hits=("database_unavailable", "database_back"),
    ),
    Scenario(
        "black_hole", "one daemon's packets to and from the database vanish", _black_hole, Size(150, 1, 8.0),
        Size(600, 1, 60.0), setting=Setting(proxied=frozenset({0}), latency=_SLOW), within=150,
        hits=("database_unavailable", "database_back", "lease_lapsed"),
    ),
    Scenario(
        "google_faults", "every kind of lost response to drafts.create and drafts.send", _google_faults, Size(100, 1),
        Size(1200, 20), within=180, hits=("message_found", "message_missing", "orphan_deleted"),
    ),
    Scenario(
        "clock", "one daemon's clock 10 min ahead, the other's 10 min behind, and kills", _clock, Size(200, 2),
        Size(1000, 10), setting=Setting(shifts={0: 600.0, 1: -600.0}, latency=_SLOW), hits=("lease_lapsed",),
    ),
    Scenario(
        "term_storm", "SIGTERM and restart in mid-storm", _term_storm, Size(250, 4), Size(2000, 30),
        setting=Setting(latency=_SLOW), hits=("draining",),
    ),
    Scenario(
        "three_daemons", "three daemons, no faults", _three_daemons, Size(300), Size(2000),
        setting=Setting(daemons=3, latency=0.02, senders={f"s{n}@example.com": (COMPOSE,) for n in range(3)}),
    ),
    Scenario(
        "direct_mode", "messages.send with lost responses and kills", _direct_mode, Size(80, 1), Size(400, 4),
        setting=Setting(senders={LOOKS: (SEND, METADATA), BLIND: (SEND,)}), may_be_unsure=frozenset({BLIND}),
        within=150, hits=("message_found", "message_missing", "message_unresolved"),
    ),
    *OF_CLUSTER,
    *AT_RANDOM,
    *OF_FAILOVER,
    *OF_NEIGHBOURS,
    *OF_OPT_OUT,
    *OF_PROOF,
    *OF_RENDERER,
)  # fmt: skip
