"""Time and waiting: the only module that reads a clock or makes an identifier that grows with it."""

import asyncio
import os
import time
from datetime import UTC, datetime
from typing import Protocol

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Clock(Protocol):
    """What a part may ask of time."""

    def monotonic(self) -> float:
        """Seconds that only grow; for durations and deadlines inside one process."""

    def now(self) -> datetime:
        """The machine's idea of the time, aware UTC; never used for leases, due times or the ledger.

        It writes the Date of a letter, and how long a pause lasts whose end Google has named.
        """

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def now(self) -> datetime:
        """The time, aware UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def new_id() -> str:
    """A ULID: 26 characters that sort by time of making and hold 80 random bits.

    The source of the shape is https://github.com/ulid/spec; ids made in one millisecond are in no order.
    """
    number = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10))
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
