"""Times on their way to and from the database, which holds UTC without a zone and counts intervals in microseconds."""

from datetime import UTC, datetime, timedelta
from typing import overload


@overload
def utc(moment: datetime) -> datetime: ...
@overload
def utc(moment: None) -> None: ...
@overload
def utc(moment: datetime | None) -> datetime | None: ...
def utc(moment: datetime | None) -> datetime | None:
    """What the database gave, made aware."""
    return moment.replace(tzinfo=UTC) if moment else None


@overload
def naive(moment: datetime) -> datetime: ...
@overload
def naive(moment: None) -> None: ...
@overload
def naive(moment: datetime | None) -> datetime | None: ...
def naive(moment: datetime | None) -> datetime | None:
    """What the driver takes: it would drop another zone without converting."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment else None


def micros(wait: timedelta) -> int:
    """Whole microseconds: what INTERVAL takes."""
    return wait // timedelta(microseconds=1)


def rfc3339(moment: datetime) -> str:
    """A moment in a text: UTC, with Z, and with microseconds only where there are any."""
    return naive(moment).isoformat() + "Z"
