"""Long pages and downloads are read in short turns, of all who read together, and say the same as ever."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from mailerd.clock import Clock
from mailerd.http import responses
from mailerd.http.responses import ROWS_AT_ONCE, TURN_INTERVAL, RowPace
from mailerd.store.db.database import Database
from tests.intake.site import Site
from tests.support.own_time import at_this_speed, own_time

PEOPLE = [{"email": f"r{n}@example.com", "name": f"Reader {n}"} for n in range(1_100)]


class Recording(Clock):
    """Stands still, and knows for how long it was asked to wait."""

    def __init__(self) -> None:
        self.waits = list[float]()

    def monotonic(self) -> float:
        return 1000.0

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


async def test_turns_of_all_who_read_are_apart() -> None:
    clock = Recording()
    pace = RowPace(clock)
    await asyncio.gather(*(pace.turn() for _ in range(5)))
    assert clock.waits == pytest.approx([number * TURN_INTERVAL for number in range(5)])


@pytest.mark.parametrize("path", [
    "/api/jobs/{job}/recipients?limit=1000", "/api/jobs/{job}/results.csv",
    "/api/suppressions?limit=1000", "/api/suppressions.csv", "/api/recipients?limit=1000&email=r0@example.com",
])  # fmt: skip
async def test_no_statement_reads_more_rows_than_a_turn_has(
    site: Site, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    job_id = await site.posted(*PEOPLE)
    await site.rows("UPDATE job_recipients SET to_email = 'r0@example.com'" if "email=" in path else "SELECT 1")
    async with site.client.post(f"{site.url}/api/suppressions", json={"suppressions": [
        {"email": each["email"]} for each in PEOPLE
    ]}) as added:  # fmt: skip
        assert added.status == 200
    read, request_rows = list[int](), Database.request_rows

    async def counted(*given: Any, **options: Any) -> Sequence[Any]:
        rows = await request_rows(*given, **options)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(Database, "request_rows", counted)
    async with site.client.get(site.url + path.format(job=job_id)) as answer:
        text = await answer.text()
        assert answer.status == 200
    assert text.count("@example.com") >= 1000
    assert max(read) <= ROWS_AT_ONCE + 1
    assert sum(read) >= 1000


async def test_a_page_of_a_thousand_is_whole_and_the_next_one_goes_on_behind_it(site: Site) -> None:
    job_id = await site.posted(*PEOPLE)
    _, first = await site.get(f"/api/jobs/{job_id}/recipients?limit=1000")
    _, second = await site.get(f"/api/jobs/{job_id}/recipients?limit=1000&cursor={first['next_cursor']}")
    assert [each["email"] for each in first["recipients"] + second["recipients"]] == [each["email"] for each in PEOPLE]
    assert (len(first["recipients"]), second["next_cursor"]) == (1000, None)


@pytest.mark.parametrize("size", [1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 199, 200])
async def test_a_page_of_any_size_knows_whether_there_is_another(site: Site, size: int) -> None:
    job_id = await site.posted(*PEOPLE[:200])
    _, page = await site.get(f"/api/jobs/{job_id}/recipients?limit={size}")
    assert (len(page["recipients"]), page["next_cursor"] is None) == (size, size == 200)


async def test_rows_whose_sentences_are_translated_take_many_short_turns(site: Site) -> None:
    job_id = await site.posted(*PEOPLE)
    await site.rows("UPDATE job_recipients SET error = CONCAT('Google answered 400: ', id, ' is bad')")
    stalls, done = list[float](), asyncio.Event()

    async def watch() -> None:
        while not done.is_set():
            before = own_time()
            await asyncio.sleep(0.002)
            stalls.append(own_time() - before)

    watching = asyncio.create_task(watch())
    status, page = await site.get(f"/api/jobs/{job_id}/recipients?limit=1000", headers={"Accept-Language": "zh"})
    done.set()
    await watching
    assert (status, len(page["recipients"])) == (200, 1000)
    assert max(stalls) < at_this_speed(0.06), "in one go they took 0.5 s"
    assert responses.LONGEST_TURN < TURN_INTERVAL
