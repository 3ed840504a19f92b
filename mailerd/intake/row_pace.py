"""Long pages and downloads: read and encoded in short turns of the event loop, so that no other request waits long."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp import web

from mailerd.clock import Clock
from mailerd.intake.http_responses import in_language, to_json
from mailerd.intake.response_models import ResponseModel

ROWS_AT_ONCE: Final = 100
"""Rows that are read and encoded in one turn of the loop, 2 ms of it: a post of another key waits for dozens."""
TURN_INTERVAL: Final = 0.01
"""Seconds from the beginning of one such turn to that of the next, of all keys together: 10,000 rows a second."""
LONGEST_TURN: Final = 0.002
"""Seconds after which the encoding of some rows waits for another turn: each sentence takes half of one in Chinese."""


class RowPace:
    """Spreads what is read of long tables over time, for all keys together: ROWS_AT_ONCE every TURN_INTERVAL.

    Rows become text in the event loop. Without rests a single fast reader takes all of its time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next = 0.0
        """When the next turn may begin, in monotonic seconds."""

    async def turn(self) -> None:
        """Wait until another ROWS_AT_ONCE may be read."""
        now = self._clock.monotonic()
        begins = max(now, self._next)
        self._next = begins + TURN_INTERVAL
        await self._clock.sleep(begins - now)

    async def read[T](self, page: Callable[[T | None, int], Awaitable[Sequence[T]]], *, most: int) -> list[T]:
        """Rows in as many turns as it takes; `page` reads so many of them behind a row, or from the first on."""
        found = list[T]()
        while (left := most - len(found)) > 0:
            await self.turn()
            wanted = left if left <= ROWS_AT_ONCE + 1 else ROWS_AT_ONCE  # the last row says only that there are more
            rows = await page(found[-1] if found else None, wanted)
            found += rows
            if len(rows) < wanted:
                break
        return found

    async def encode[T](self, rows: Sequence[T], encode: Callable[[T], str]) -> list[str]:
        """Each row as text, in further turns where it takes long."""
        done, began = list[str](), self._clock.monotonic()
        for row in rows:
            if self._clock.monotonic() - began > LONGEST_TURN:
                await self.turn()
                began = self._clock.monotonic()
            done.append(encode(row))
        return done


async def page_response(body: ResponseModel, name: str, pace: RowPace) -> web.Response:
    """A model as an answer, as `json_response` makes it; the list `name` of it is long, and encoded in turns."""
    rows: Sequence[ResponseModel] = getattr(body, name)
    encoded = await pace.encode(rows, lambda row: in_language(to_json(row)))
    begin, there, end = in_language(to_json(body.model_copy(update={name: []}))).partition(f'"{name}":[')
    return web.Response(text="".join([begin, there, ",".join(encoded), end]), content_type="application/json")
