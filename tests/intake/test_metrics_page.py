"""`/metrics` needs no key, and without one it names nobody's mailbox."""

import asyncio
import time
from collections.abc import Callable

import pytest

from mailerd.events.worker import RunnerEvents
from mailerd.intake.health import REST
from mailerd.ops.metrics import Metrics
from mailerd.store.write.api_keys import Permission
from tests.intake.site import Build, Site

NAMED = b'mailerd_messages_total{outcome="sent",sender="me@example.com"} 1.0'
TOGETHER = b'mailerd_messages_total{outcome="sent",sender="other"} 1.0'


def metrics() -> Metrics:
    """One message of one sender was sent."""
    made = Metrics()
    events = RunnerEvents(made.on_event)
    events.message_started(job="J", recipient=1, to="a@x", sender="me@example.com", number=1, total=1, attempt=1)
    events.message_sent(job="J", recipient=1, to="a@x", sender="me@example.com", done=1, total=1, message_id="m")
    return made


async def shown(site: Site, key: str | None = None) -> tuple[int, bytes]:
    site.client.headers.pop("X-API-Key", None)
    headers = {} if key is None else {"X-API-Key": key}
    async with site.client.get(f"{site.url}/metrics", headers=headers) as answer:
        return answer.status, await answer.read()


async def test_without_a_key_no_mailbox_is_named_and_with_one_those_that_it_may_see(build: Build) -> None:
    site = await build(page=metrics().page)
    status, page = await shown(site)
    assert (status, TOGETHER in page, b"@" in page) == (200, True, False)

    status, page = await shown(site, site.key)
    assert (status, NAMED in page) == (200, True)

    status, page = await shown(site, await site.keys.create("theirs", senders=["you@example.com"]))
    assert (status, TOGETHER in page, b"@" in page) == (200, True, False)


@pytest.mark.parametrize("key, status", [("sk_live_wrong", 401), ("poster", 403)])
async def test_a_key_that_may_not_read_is_refused(build: Build, key: str, status: int) -> None:
    site = await build(page=metrics().page)
    given = await site.keys.create("poster", permissions=[Permission.SEND]) if key == "poster" else key
    got, page = await shown(site, given)

    assert (got, b"mailerd_" in page) == (status, False)


async def test_a_key_costs_no_figures_while_the_database_cannot_be_asked(build: Build) -> None:
    site = await build(page=metrics().page)
    await site.rows("RENAME TABLE api_keys TO api_keys_gone")
    status, page = await shown(site, site.key)

    assert (status, TOGETHER in page, b"@" in page) == (200, True, False)


@pytest.mark.parametrize("who", ["with a key", "without one"])
async def test_pages_take_a_fifth_of_the_time_however_many_ask_and_are_never_stale(build: Build, who: str) -> None:
    making, made, names, number = 0.0, 0, metrics(), 0

    def page(shows: Callable[[str], bool]) -> bytes:
        nonlocal making, made
        begun, made = time.monotonic(), made + 1
        time.sleep(0.02)
        making += time.monotonic() - begun
        return names.page(shows) + f"\n# {number}".encode()

    async def ask(_: int) -> None:
        nonlocal number
        number += 1
        wanted = number
        status, shown_page = await shown(site, key)
        assert (status, int(shown_page.rpartition(b"# ")[2]) >= wanted) == (200, True)

    site, begun = await build(page=page), time.monotonic()
    key = site.key if who == "with a key" else None
    for _ in range(10):
        await asyncio.gather(*map(ask, range(20)))
    assert making <= (time.monotonic() - begun) / REST
    before = made
    pages = await asyncio.gather(shown(site), shown(site, site.key), shown(site))
    assert [NAMED in page for _, page in pages] == [False, True, False]
    assert made == before + 2, "one for a key, and one for all who have none"
