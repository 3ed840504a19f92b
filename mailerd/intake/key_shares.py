"""Limits for each API key: how much work of one kind it may have under way, so that it delays no other key.

A share is a number of places for one kind of work. A key may hold some of them; its further requests wait behind its
own work. There are more places than any one key may hold, so another key always finds one.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Final

from mailerd.clock import Clock
from mailerd.config import IntakeSettings
from mailerd.intake.errors import RETRY_AFTER, ApiError
from mailerd.intake.row_pace import RowPace
from mailerd.store.api_keys import ApiKey

LARGE_BODY: Final = 1024 * 1024
"""A body of more bytes takes a place for large bodies before it is read."""
SHARE_TIMEOUT: Final = 30.0
"""Seconds that a request waits for a place: less than any proxy waits for an answer."""
SPARE_THREADS: Final = 2
"""Threads for what takes milliseconds: fingerprints of bodies, the files of the templates that are listed."""
_DRY_RUN: Final = re.compile(rb'"dry_run"\s*:\s*true')


class KeyShare:
    """The places for one kind of work (`what`, in the plural).

    `per_key`: places that one key may hold at once. `keys`: how many keys with all of their places there is room for.
    `within`: seconds that a request waits for a place; 0: not at all. `setting`: where an operator changes it.
    """

    def __init__(self, what: str, *, per_key: int, keys: int, within: float, setting: str) -> None:
        self.places = per_key * keys
        self._what = what
        self._per_key = per_key
        self._within = within
        self._setting = setting
        self._held: Counter[int] = Counter()
        self._line: list[tuple[int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def place(self, key: ApiKey) -> AsyncIterator[None]:
        """Hold one of the places.

        Raises:
            ApiError: 429, the key holds its share and none of it came free in time; 503, others hold all.
        """
        await self._take(key)
        try:
            yield
        finally:
            self._give_back(key.id)

    async def _take(self, key: ApiKey) -> None:
        if self._may_take(key.id):
            self._held[key.id] += 1
            return
        if not self._within:
            raise self._refusal(key)
        turn = asyncio.get_running_loop().create_future()
        self._line.append((key.id, turn))
        try:
            async with asyncio.timeout(self._within):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # the place came at the moment at which the wait ended
                self._give_back(key.id)
            self._line = [one for one in self._line if one[1] is not turn]
            if isinstance(error, TimeoutError):
                raise self._refusal(key) from None
            raise

    def _may_take(self, key_id: int) -> bool:
        return self._held[key_id] < self._per_key and self._held.total() < self.places

    def _give_back(self, key_id: int) -> None:
        self._held[key_id] -= 1
        self._held += Counter()  # drops the keys that hold nothing
        while waiting := [one for one in self._line if not one[1].done() and self._may_take(one[0])]:
            # The key that holds the fewest places comes first; of several, the one that has waited longest.
            key_id, turn = min(waiting, key=lambda one: self._held[one[0]])
            self._line = [one for one in self._line if one[1] is not turn]
            self._held[key_id] += 1
            turn.set_result(None)

    def _refusal(self, key: ApiKey) -> ApiError:
        if self._held[key.id] < self._per_key:
            return ApiError(
                503, "busy", f"other keys have {self.places} {self._what} under way; nothing was stored, try again",
                retry_after=RETRY_AFTER,
            )  # fmt: skip
        return ApiError(
            429,
            "share_used_up",
            f"the key {key.name!r} has {self._per_key} {self._what} under way, which is its share ({self._setting}); "
            "nothing was stored, try again",
            retry_after=RETRY_AFTER,
        )


class KeyShares:
    """All shares of one daemon."""

    def __init__(self, settings: IntakeSettings, clock: Clock | None = None) -> None:
        def share(what: str, setting: str, *, keys: int, within: float = SHARE_TIMEOUT) -> KeyShare:
            per_key: int = getattr(settings, setting)
            return KeyShare(what, per_key=per_key, keys=keys, within=within, setting=f"intake.{setting}")

        self.posts = share("posts", "posts_per_key", keys=5, within=0)
        self.checks = share("checks of recipients", "checks_per_key", keys=2)
        self.large_bodies = share("bodies above 1 MiB", "large_bodies_per_key", keys=2)
        self.dry_runs = share("dry runs", "dry_runs_per_key", keys=2)
        self.downloads = share("downloads of CSV", "downloads_per_key", keys=2)
        self.rows = RowPace(clock or Clock())
        self.reads = share("reads", "reads_per_key", keys=5)
        self.streams = share("event streams", "streams_per_key", keys=5, within=0)
        self.webhook_calls = KeyShare(  # these take seconds
            "tests or replays of webhooks", per_key=1, keys=4, within=0, setting="one at a time"
        )

    @property
    def threads(self) -> int:
        """Threads for all places, so that a request that holds one waits for no thread."""
        return self.checks.places + self.large_bodies.places + self.dry_runs.places + SPARE_THREADS

    def for_check(self, body: bytearray, key: ApiKey, *, dry_run: bool = False) -> AbstractAsyncContextManager[None]:
        """The place in which a body is checked; a large one has its place already. `dry_run`: the path says so.

        A dry run by its field is recognised by how it is usually written. One that is written otherwise takes a place
        for checks, of which its key has no more than any other.
        """
        if len(body) > LARGE_BODY:
            return nullcontext()
        return (self.dry_runs if dry_run or _DRY_RUN.search(body) else self.checks).place(key)
