"""A big job: one request, one transaction, and the loop stays awake all the while."""

import asyncio
import gc
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.intake.site import Build, Site, job
from tests.support.own_time import at_this_speed, own_time, slowness

COUNT = 20_000


@pytest.fixture(autouse=True)
def _what_was_loaded_before_stays() -> Iterator[None]:
    """As in a daemon: what other tests have left is not looked through for cycles, which holds the loop for 0.4 s."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


async def test_twenty_thousand_recipients_are_taken_whole_while_the_loop_stays_awake(build: Build) -> None:
    site = await build(patience=60)
    body = json.dumps(
        job(
            *(
                {
                    "email": f"reader{n}@mail{n % 300}.example.com",
                    "name": f"Reader 中 {n}",
                    "variables": {"code": f"C-{n:08}", "link": f"https://example.com/{n}"},
                }
                for n in range(COUNT)
            )
        )
    ).encode()
    stalls, times = [], []
    for posted in range(1, 4):  # whatever else the machine does can only add to a stall: the best of three counts
        status, answer, stall, seconds = await _post(site, body)
        assert (status, answer["accepted"]) == (200, COUNT)
        assert await site.stored() == (posted, posted * COUNT)
        stalls.append(stall)
        times.append(seconds)
        if stall < at_this_speed(0.25) and seconds < at_this_speed(10):
            break
    assert min(stalls) < at_this_speed(0.25)
    assert min(times) < at_this_speed(10)


HOSTILE = {
    "empty objects": "[" + "{}," * 7_000_000 + "{}]",
    "lists in a row": "[" + "[]," * 250_000 + "[]]",
    "faults, deep down": "[" * 900 + '"\\u0000",' * 250_000 + '""' + "]" * 900,
    "fields of one object": "{" + ",".join(f'"{n}":1' for n in range(250_000)) + "}",
    "escapes": '"' + "\\u0001" * 1_500_000 + '"',
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_the_loop_stays_awake_while_a_body_of_no_good_is_read(build: Build, name: str) -> None:
    site = await build(patience=60)
    body = json.dumps(job(variables={"product": "X"})).replace('"X"', HOSTILE[name]).encode()
    stalls = []
    for _ in range(3):
        status, _, stall, seconds = await _post(site, body)
        assert status in {200, 413, 422}
        assert seconds < 10 * slowness(), "a child process reads it, and waits for a turn on a busy machine"
        stalls.append(stall)
        if stall < at_this_speed(0.15):
            break
    assert min(stalls) < at_this_speed(0.15)


@pytest.mark.slow
async def test_addresses_are_looked_up_in_the_suppressions_while_the_loop_stays_awake(build: Build) -> None:
    site = await build(patience=60)
    people = [{"email": f"reader{n}@mail{n % 300}.example.com"} for n in range(100_000)]
    body = json.dumps(job(*people, template={"subject": "x", "text": "y"})).encode()
    stalls = []
    for _ in range(2):
        status, answer, stall, _ = await _post(site, body)
        assert (status, answer["accepted"]) == (200, 100_000)
        stalls.append(stall)
        if stall < at_this_speed(0.2):
            break
    assert min(stalls) < at_this_speed(0.2)  # the digests of so many take 0.4 s


async def _post(site: Site, body: bytes) -> tuple[int, dict[str, Any], float, float]:
    """The answer, the longest time for which the loop stood still, and how long it took."""
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        while True:
            before = own_time()
            await asyncio.sleep(0.005)
            worst = max(worst, own_time() - before)

    watching = asyncio.create_task(watch())
    started = own_time()
    status, answer = await site.post_bytes(io.BytesIO(body))
    seconds = own_time() - started
    watching.cancel()
    return status, answer, worst, seconds
