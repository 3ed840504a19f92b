"""Storms about neighbours: what one sender, one search or one message does to all the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from mailerd.sandbox.google import COMPOSE, METADATA, SEND
from tests.chaos.place import LEASE, SENDER, Place, Setting
from tests.chaos.scenario import Scenario, Size

BAD: Final = "bad@example.com"
"""The sender with the trouble."""
_MORE_THAN_SLOTS: Final = 100
"""Messages of that sender: more than the daemons have in flight at once."""
_SLOW: Final = 0.3
"""Seconds of a call where a rate is compared: Google is what bounds it then, and not a busy machine."""
_THEIR_RATE: Final = 0.6
"""Of what the others send without it."""
_PUT_RIGHT_WITHIN: Final = LEASE + LEASE / 4 + 3.0
"""Seconds until a dead daemon's messages are taken back: the lease, the time between two looks, and a busy machine."""


async def _hanging(place: Place, size: Size) -> int:
    """A mailbox whose every call hangs; it is healed at the end, and its messages go too."""
    return await _beside(place, size, lambda: place.google.fault(
        kind="hang_before", method="drafts.create", sender=BAD, count=-1, seconds=600))  # fmt: skip


async def _dead_tokens(place: Place, size: Size) -> int:
    """The token endpoint swallows every request: who has a token goes on, who has none waits, whoever it is."""
    return await _beside(place, size, lambda: place.google.fault(
        kind="hang_before", method="token", count=-1, seconds=600))  # fmt: skip


async def _beside(place: Place, size: Size, trouble: Callable[[], Awaitable[None]]) -> int:
    await place.post(size.messages)
    await _until(place, "SELECT COUNT(*) > 10 FROM job_recipients WHERE status = 'sent'")
    alone = await _rate(place, seconds=size.seconds / 2)
    await trouble()
    await place.post(max(_MORE_THAN_SLOTS, size.messages // 10), sender=BAD)
    beside = await _rate(place, seconds=size.seconds)
    if beside < _THEIR_RATE * alone:
        place.breaches.append(f"the others fell from {alone:.0f} to {beside:.0f} messages a second")
    struck = await place.google.struck()
    await place.google.clear_faults()
    return sum(struck.values())


async def _long_search(place: Place, size: Size) -> int:
    """A scan of very many sent messages goes on while another daemon dies: its messages must not wait for the scan."""
    await place.post(size.messages, sender=BAD)
    await _until(place, f"SELECT COUNT(*) = {size.messages} FROM job_recipients WHERE status = 'sent'")
    await place.google.fault(kind="hang_before", method="messages.send", sender=BAD, count=3, seconds=600)
    await place.post(3, sender=BAD)
    await _until(place, "SELECT COUNT(*) > 0 FROM job_recipients WHERE status = 'unsure' AND claim_token IS NOT NULL")
    ((scans,), *_) = await place.rows(
        "SELECT daemon_id FROM job_recipients WHERE status = 'unsure' AND claim_token IS NOT NULL LIMIT 1"
    )
    await place.google.fault(kind="latency", method="drafts.create", sender=SENDER, count=-1, seconds=0.5)
    await place.post(60)
    (victim,) = (child for child in place.daemons if child is not place.daemon(scans))
    await _until(place, f"SELECT COUNT(*) > 0 FROM job_recipients WHERE status = 'sending' AND daemon_id <> '{scans}'")
    victim.kill()
    await place.google.clear_faults()
    began = time.monotonic()
    await _until(place, f"SELECT COUNT(*) = 0 FROM job_recipients WHERE status = 'sending' AND daemon_id <> '{scans}'")
    if (took := time.monotonic() - began) > _PUT_RIGHT_WITHIN:
        place.breaches.append(f"a dead daemon's messages lay in `sending` for {took:.1f} s beside a scan")
    victim.start()
    return 4


async def _crashing(place: Place, size: Size) -> int:
    """Messages that kill the daemon that makes them, beside those of others; whoever dies is started again."""
    await place.post(size.messages // 2)
    await place.post(size.rounds, sender=BAD, to="crash")
    await place.post(size.messages - size.messages // 2)
    crashes = 0
    while (await place.rows("SELECT COUNT(*) FROM job_recipients WHERE status NOT IN ('sent', 'failed')"))[0][0]:
        for child in place.daemons:
            if not child.running:
                child.kill()
                child.start()
                crashes += 1
        await asyncio.sleep(0.2)
    await _judge_crashes(place, messages=size.rounds)
    for child in place.daemons:
        await child.until(lambda log: "runner_started" in log)
    return crashes


async def _judge_crashes(place: Place, *, messages: int) -> None:
    failures = await place.rows("SELECT error_code, error, attempts FROM job_recipients WHERE status = 'failed'")
    for code, error, attempts in failures:
        if code != "crashed_alone":
            place.breaches.append(f"a message that crashes daemons is failed for another reason: {error}")
        if attempts != 1:
            place.breaches.append(f"a message that crashes daemons has lost attempts: {attempts}")
    ((failed,),) = await place.rows("SELECT COUNT(*) FROM job_recipients WHERE status = 'failed'")
    if failed != messages:
        place.breaches.append(f"{failed} messages are failed, {messages} crash")


async def _until(place: Place, true: str) -> None:
    """The scenario's limit is the bound."""
    while not (await place.rows(true))[0][0]:  # noqa: ASYNC110 - a table
        await asyncio.sleep(0.1)


async def _rate(place: Place, *, seconds: float) -> float:
    """Messages that the others send a second."""
    count = (
        "SELECT COUNT(*) FROM job_recipients r JOIN jobs j ON j.id = r.job_id "
        f"WHERE r.status = 'sent' AND j.sender_email <> '{BAD}'"
    )
    ((before,),), began = await place.rows(count), time.monotonic()
    await asyncio.sleep(seconds)
    ((after,),) = await place.rows(count)
    return float(after - before) / (time.monotonic() - began)


_TWO: Final[dict[str, tuple[str, ...]]] = {SENDER: (COMPOSE,), BAD: (COMPOSE,)}

OF_NEIGHBOURS: Final = (
    Scenario(
        "hanging", "one mailbox whose every call hangs, beside another", _hanging, Size(240, 1, 6.0),
        Size(2400, 1, 20.0), setting=Setting(senders=_TWO, latency=_SLOW, concurrency=4), within=400,
        hits=("google_call_failed",),
    ),
    Scenario(
        "dead_tokens", "the token endpoint is dead: who has a token continues", _dead_tokens, Size(1500, 1, 6.0),
        Size(6000, 1, 20.0), setting=Setting(senders=_TWO), within=240,
        hits=("sender_unreachable", "sender_reachable"),
    ),
    Scenario(
        "long_search", "a scan of very many sent messages, and a daemon that dies beside it", _long_search,
        Size(200), Size(1900), setting=Setting(latency=0.02, senders={SENDER: (COMPOSE,), BAD: (SEND, METADATA)}),
        within=300, hits=("lease_lapsed", "message_missing"),
    ),
    Scenario(
        "crashing", "messages that kill the daemon that makes them", _crashing, Size(150, 1), Size(300, 2),
        setting=Setting(senders=_TWO, module="tests.chaos.crashing"), within=400, may_fail=frozenset({BAD}),
        hits=("lease_lapsed", "message_tried_alone"),
    ),
)  # fmt: skip
