"""The storm about opting out: people leave a list while its messages go out, daemons are killed and answers are
lost."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import aiohttp

from mailerd.core.suppression import UnsubscribeToken, digest_of, make_token
from tests.chaos.place import Place, Setting
from tests.chaos.scenario import Scenario, Size

_LIST: Final = "news"
_SHARE: Final = 4
"""One in so many recipients leaves."""
_LATENCY: Final = 0.05


async def _opt_out(place: Place, size: Size) -> int:
    for kind in ("reset_before", "reset_after"):
        await place.google.fault(kind=kind, method="drafts.send", count=5 * size.rounds, probability=0.1)
    job = await place.post(size.messages, fields={"list": _LIST})
    links = await _links(place, job)
    leaving = place.chance.sample(sorted(links), len(links) // _SHARE)
    people = [
        asyncio.create_task(_leave(place, key, links[key], after=place.chance.uniform(0, size.seconds)))
        for key in leaving
    ]
    for n in range(size.rounds):
        await asyncio.sleep(place.chance.uniform(0.5, 1.5) * size.seconds / size.rounds)
        child = place.daemons[n % len(place.daemons)]
        child.kill()
        child.start()
    await asyncio.gather(*people)
    if not place.opted_out:
        place.breaches.append("the storm missed its aim: nobody left the list")
    struck = sum((await place.google.struck()).values())
    await place.google.clear_faults()
    return size.rounds + struck


async def _links(place: Place, job: str) -> dict[str, str]:
    """The token of each message, by its key, as its headers have it."""
    secrets = {name: bytes(value) for name, value in await place.rows("SELECT name, value FROM secrets")}
    ((list_id,),) = await place.rows(f"SELECT id FROM lists WHERE name = '{_LIST}'")
    rows = await place.rows(f"SELECT id, seq, to_email FROM job_recipients WHERE job_id = '{job}'")
    return {
        f"{job}-{seq}": make_token(
            UnsubscribeToken(list_id, ident, digest_of(email, secrets["address"])), key_id=1, key=secrets["token:1"]
        )
        for ident, seq, email in rows
    }


async def _leave(place: Place, key: str, token: str, *, after: float) -> None:
    """Do what a mail program does, again until it is answered with 200; note when that was."""
    await asyncio.sleep(after)
    while True:
        child = place.chance.choice(place.daemons)
        try:
            async with place.http.post(
                f"http://127.0.0.1:{child.public_port}/u/{token}", data={"List-Unsubscribe": "One-Click"}
            ) as answer:
                await answer.read()
                if answer.status == 200:
                    place.opted_out[key] = time.time()
                    return
                if answer.status != 503:
                    place.breaches.append(f"an unsubscribe was answered {answer.status}")
                    return
        except (aiohttp.ClientError, TimeoutError):
            pass  # the daemon has been killed
        await asyncio.sleep(0.1)


OF_OPT_OUT: Final = (
    Scenario(
        "opt_out", "people leave a list while it is sent: no send begins after the response", _opt_out,
        Size(600, 2, 3.0), Size(5000, 10, 40.0),
        setting=Setting(latency=_LATENCY, concurrency=4), within=300,
        hits=("message_suppressed", "lease_lapsed", "message_found"),
    ),
)  # fmt: skip
