"""Storms about the proof of `sent`: drafts that their owner deletes, and copies of a mailbox that lag."""

from __future__ import annotations

import asyncio
from typing import Final

from mailerd.sandbox.google import COMPOSE, METADATA
from tests.chaos.place import REQUEST_TIMEOUT, Place, Setting
from tests.chaos.scenario import Scenario, Size
from tests.chaos.truth import OPEN

DRAFTS: Final = "drafts@example.com"
LOOKS: Final = "looks@example.com"
"""Both send by drafts; only the other may read its sent mail."""
_LONG: Final = ("mail_sending_retry_after", "user_rate_limit_retry_after", "quota_exceeded")
"""Refusals that mean a wait of over a minute, for which no draft may stay."""
_RESUME: Final = (
    "UPDATE senders SET paused_until = NULL, pause_cause = NULL, concurrency = NULL, next_claim_at = UTC_TIMESTAMP(6)"
)
_REFUSED: Final = "SELECT status FROM job_recipients WHERE job_id = %s AND error IS NOT NULL"
_TURNS: Final = "UPDATE jobs SET next_claim_at = UTC_TIMESTAMP(6) WHERE status IN ('queued', 'sending')"


async def _resume(place: Place) -> None:
    await place.rows(_TURNS)  # first, as everywhere: a claim in between would find the sender due and no job of it
    await place.rows(_RESUME)


async def _refused_once(place: Place, *, sender: str) -> None:
    """A long refusal that nothing disturbs: mailerd itself deletes the draft, whatever the owner finds afterwards."""
    await place.google.fault(kind=_LONG[0], method="drafts.send")
    job = await place.post(1, sender=sender)
    while (await place.rows(_REFUSED, job)) != [("waiting",)]:  # noqa: ASYNC110 - no bell
        await asyncio.sleep(0.05)
    await _resume(place)


async def _deleted_once(place: Place) -> None:
    """A draft that its owner deletes while it is being sent: Google does not find it, and the message is looked for."""
    deleted = 0
    while not deleted:  # on a slow machine the message may have gone before the owner comes
        await place.google.fault(kind="latency", method="drafts.send", sender=LOOKS, seconds=REQUEST_TIMEOUT)
        await place.post(1, sender=LOOKS)
        while not await place.google.drafts() and (await place.rows(OPEN))[0][0]:  # noqa: ASYNC110 - no bell
            await asyncio.sleep(0.05)
        deleted = await place.google.delete_drafts()


async def _hand_deleted(place: Place, size: Size, *, senders: tuple[str, ...], kills: bool) -> int:
    """Refusals, short and long; each time the owner deletes what he finds, and the pause is ended."""
    await _refused_once(place, sender=senders[0])
    await _deleted_once(place)
    deleted = 0
    for n in range(size.rounds):
        for kind in (*_LONG, "user_rate_limit"):
            await place.google.fault(kind=kind, method="drafts.send", count=5, probability=0.3)
        for sender in senders:
            await place.post(size.messages // size.rounds // len(senders), sender=sender)
        for step in range(6):
            await asyncio.sleep(place.chance.uniform(0.2, 0.6))
            if kills and step < 2:  # while messages are in flight
                child = place.daemons[(n + step) % len(place.daemons)]
                child.kill()
                child.start()
            deleted += await place.google.delete_drafts()
            await _resume(place)
    await place.google.clear_faults()
    if not deleted:
        place.breaches.append("the storm missed its aim: the owner found no draft to delete")
    for _ in range(10):  # what was refused at the very last is released into a pause that nobody ends otherwise
        await asyncio.sleep(REQUEST_TIMEOUT)
        await _resume(place)
    return deleted + sum((await place.google.struck()).values())


async def _by_hand(place: Place, size: Size) -> int:
    return await _hand_deleted(place, size, senders=(DRAFTS, LOOKS), kills=False)


async def _by_hand_and_kills(place: Place, size: Size) -> int:
    return await _hand_deleted(place, size, senders=(LOOKS,), kills=True)


async def _refused_and_killed(place: Place, size: Size) -> int:
    """Long refusals, lost answers to the deletions that follow, and kills: no person is needed, whatever dies when."""
    for n in range(size.rounds):
        for kind in _LONG:
            await place.google.fault(kind=kind, method="drafts.send", count=10, probability=0.5)
        for kind in ("reset_before", "reset_after", "hang_before", "hang_after"):
            await place.google.fault(
                kind=kind, method="drafts.delete", count=2, probability=0.2, seconds=1.5 * REQUEST_TIMEOUT
            )
        for sender in (DRAFTS, LOOKS):
            await place.post(size.messages // size.rounds // 2, sender=sender)
        for _ in range(3):
            await asyncio.sleep(place.chance.uniform(0.3, 1.0))
            child = place.daemons[n % len(place.daemons)]
            child.kill()
            child.start()
            await _resume(place)
    struck = sum((await place.google.struck()).values())
    await place.google.clear_faults()
    for _ in range(12):
        await asyncio.sleep(REQUEST_TIMEOUT)
        await _resume(place)
    return 3 * size.rounds + struck


async def _lagging(place: Place, size: Size) -> int:
    """Answers to the sends are lost, and a copy of the mailbox that lags denies drafts for longer than the rest."""
    for kind in ("reset_before", "hang_before", "reset_after", "hang_after"):
        await place.google.fault(
            kind=kind, method="drafts.send", count=size.rounds, probability=0.2, seconds=2.5 * REQUEST_TIMEOUT
        )
    await place.google.fault(kind="not_found", method="drafts.get", count=-1, probability=0.6)
    for sender in (DRAFTS, LOOKS):
        await place.post(size.messages // 2, sender=sender)
    await asyncio.sleep(8 * REQUEST_TIMEOUT)
    struck = sum((await place.google.struck()).values())
    await place.google.clear_faults()
    return struck


_SENDERS: Final = {DRAFTS: (COMPOSE,), LOOKS: (COMPOSE, METADATA)}
OF_PROOF: Final = (
    Scenario(
        "drafts_by_hand", "Google refuses, and the owner deletes every draft that he finds", _by_hand, Size(80, 1),
        Size(400, 8), setting=Setting(senders=_SENDERS, latency=0.05), may_be_unsure=frozenset({DRAFTS}), within=240,
        hits=("draft_discarded", "message_unresolved", "message_missing"),
    ),
    Scenario(
        "drafts_by_hand_and_kills", "the same with kills, for a mailbox whose sent mail can be read",
        _by_hand_and_kills, Size(60, 2), Size(300, 8),
        setting=Setting(senders={LOOKS: (COMPOSE, METADATA)}, latency=0.05),
        within=300, hits=("draft_discarded", "message_missing", "lease_lapsed"),
    ),
    Scenario(
        "refused_and_killed", "long refusals, lost responses to the deletion of drafts, and kills", _refused_and_killed,
        Size(60, 2), Size(400, 10), setting=Setting(senders=_SENDERS, latency=0.1), within=300,
        hits=("draft_discarded", "message_missing", "lease_lapsed"),
    ),
    Scenario(
        "lagging_replica", "drafts.get denies young drafts for longer than the wait, and responses are lost", _lagging,
        Size(60, 2), Size(300, 10), setting=Setting(senders=_SENDERS, latency=0.05), within=240,
        hits=("message_undone", "message_still_unsure"),
    ),
)  # fmt: skip
