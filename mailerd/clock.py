"""Time and waiting: the only module that reads a clock or makes an identifier that grows with
it.
"""

import asyncio
import base64
import os
import re
import time
from datetime import UTC, datetime
from typing import Final

from mailerd.core.i18n import t

_CROCKFORD = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
)
"""It translates the alphabet of RFC 4648, section 6, to that of
https://www.crockford.com/base32.html.
"""
ULID_PATTERN: Final = "^[0-9A-HJKMNP-TV-Z]{26}$"
"""The form of what `new_id` makes, for JSON Schema."""
ULID: Final = re.compile(ULID_PATTERN, re.ASCII)

_RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?P<zone>[Zz]|[+-]\d\d:\d\d)?", re.ASCII
)

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """The machine's own clock; tests give another one."""

    def monotonic(self) -> float:
        """Seconds that only grow; for durations and deadlines inside one process."""
        return time.monotonic()

    def now(self) -> datetime:
        """The machine's idea of the time, aware UTC; never used for leases, due times or rate
        limits.

        It writes the Date of a message, and how long a pause lasts whose end Google has named.
        """
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def new_id() -> str:
    """A ULID: 26 characters that sort by time of making and hold 80 random bits.

    The source of the shape is https://github.com/ulid/spec; ids made in one millisecond are in no
    order.
    """
    number = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10))
    # 26 characters hold 130 bits, two more than there are, and a whole number of octets gives 32.
    return base64.b32encode((number << 30).to_bytes(20))[:26].translate(_CROCKFORD).decode()


def read_moment(value: object) -> datetime:
    """A time as RFC 3339 has it, in UTC. Raises ValueError when it is none, or names no zone."""
    if isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(UTC)
    match = _RFC_3339.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(t('must be a time such as "2026-12-01T09:00:00Z" (RFC 3339)'))
    if match["zone"] is None:
        raise ValueError(t('must say its zone, as in "2026-12-01T09:00:00Z" or "…+01:00"'))
    try:
        return datetime.fromisoformat(match[0].upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(t("is not a time: {error}", error=str(error))) from None
