"""A big job: one request, one transaction, and the loop stays awake all the while."""

import asyncio
import io
import json

from tests.intake.site import Build, job

COUNT = 20_000


async def test_twenty_thousand_recipients_are_taken_whole_while_the_loop_stays_awake(build: Build) -> None:
    site = await build(patience=5.0)
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
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.005)
            worst = max(worst, loop.time() - before)

    watching = asyncio.create_task(watch())
    started = asyncio.get_running_loop().time()
    status, answer = await site.post_bytes(io.BytesIO(body))
    seconds = asyncio.get_running_loop().time() - started
    watching.cancel()

    assert (status, answer["accepted"]) == (200, COUNT)
    assert await site.stored() == (1, COUNT)
    assert worst < 0.25
    assert seconds < 10
