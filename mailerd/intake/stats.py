"""`GET /api/stats`: how many messages came to what, by day, sender, template or tag."""

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from enum import StrEnum
from typing import Annotated, Final, Self
from zoneinfo import ZoneInfo

from aiohttp import web
from pydantic import ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from mailerd.clock import Clock
from mailerd.core.i18n import t
from mailerd.core.states import Tally
from mailerd.http.auth import KeyHandler
from mailerd.http.errors import ApiError, FieldError, invalid
from mailerd.http.requests import Query
from mailerd.http.responses import json_response
from mailerd.model.fields import ResponseModel, Whole
from mailerd.store.db.database import Database
from mailerd.store.read.reports import MAX_JOBS, JobSums, Reports, TooManyJobsError
from mailerd.store.write.api_keys import ApiKey

MAX_DAYS: Final = 400
"""The most days of a period: as long as the tallies are kept."""
_DEFAULT_DAYS: Final = 30
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 3000
"""No message was sent before and after, and in no zone is a day of these years outside what Python
can count.
"""
_OFFSET: Final = re.compile(r"([+-])([01][0-9]):00", re.ASCII)
ZONE: Final = re.compile(
    r"^([+-][01][0-9]:00|[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2})$", re.ASCII
)
"""What an offset or the name of a zone looks like."""
_AN_HOUR: Final = timedelta(hours=1)


class By(StrEnum):
    """What a row is about."""

    DAY = "day"
    SENDER = "sender"
    TEMPLATE = "template"
    TAG = "tag"


def _is_absent(value: object) -> bool:
    return value is None


Day = Annotated[date, Field(examples=["2026-12-01"])]


class StatsRowOut(ResponseModel):
    """Messages of one day, sender, template or tag."""

    day: Annotated[
        Day | SkipJsonSchema[None],
        Field(description="the day, in `zone`; absent: not by day", exclude_if=_is_absent),
    ] = None
    sender_email: Annotated[
        str | SkipJsonSchema[None],
        Field(description="the mailbox; absent: not by sender", exclude_if=_is_absent),
    ] = None
    template_name: Annotated[
        str | SkipJsonSchema[None],
        Field(
            description="the named template; absent: not by template, or jobs without one",
            exclude_if=_is_absent,
        ),
    ] = None
    tag: Annotated[
        str | SkipJsonSchema[None],
        Field(description="the tag; absent: not by tag", exclude_if=_is_absent),
    ] = None
    jobs: Annotated[
        Whole | SkipJsonSchema[None],
        Field(description="the jobs; absent: not by template or tag", exclude_if=_is_absent),
    ] = None
    sent: Annotated[Whole, Field(description="sent messages")]
    failed: Annotated[Whole, Field(description="failed messages")]
    put_off: Annotated[
        Whole | SkipJsonSchema[None],
        Field(description="deferred attempts; absent: not by day or sender", exclude_if=_is_absent),
    ] = None
    unsure: Annotated[
        Whole | SkipJsonSchema[None],
        Field(
            description="sends that were not confirmed at first; absent: not by day or sender",
            exclude_if=_is_absent,
        ),
    ] = None
    bounced: Annotated[Whole, Field(description="bounced messages, as far as inboxes are read")]
    replied: Annotated[
        Whole, Field(description="messages with a reply from a person, as far as inboxes are read")
    ]

    @classmethod
    def of_tallies(
        cls, counts: Mapping[Tally, int], *, day: date | None = None, sender: str | None = None
    ) -> Self:
        """A day or a sender."""
        numbers = {each.value: counts[each] for each in Tally}
        return cls.model_validate({"day": day, "sender_email": sender, **numbers})

    @classmethod
    def of_jobs(cls, it: JobSums, *, name: str) -> Self:
        """A template or a tag; `name`: what its name is called."""
        sums = {
            "jobs": it.jobs,
            "sent": it.sent,
            "failed": it.failed,
            "bounced": it.bounced,
            "replied": it.replied,
        }
        return cls.model_validate({name: it.name, **sums})


class StatsOut(ResponseModel):
    """Messages of a period."""

    model_config = ConfigDict(serialize_by_alias=True)  # `from` is no name for a field in Python

    by: Annotated[By, Field(description="what a row is about")]
    from_: Annotated[Day, Field(alias="from", description="the first day")]
    to: Annotated[Day, Field(description="the last day")]
    zone: Annotated[str, Field(description="the time zone of days", examples=["UTC"])]
    rows: Annotated[list[StatsRowOut], Field(description="what has no messages has no row")]


class StatsEndpoint:
    """The endpoint. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, *, database: Database, timeout: float, clock: Clock) -> None:
        self._database = database
        self._timeout = timeout
        self._clock = clock

    def handlers(self) -> dict[str, KeyHandler]:
        """Each by the id of its operation."""
        return {"getStats": self.stats}

    async def stats(self, request: web.Request, key: ApiKey) -> web.Response:
        """The numbers of the key's senders."""
        with Query(request, allowed=("by", "from", "to", "zone")) as given:
            by = given.choice("by", By) or By.DAY
            zone = given.read("zone", _zone) or UTC
            last = given.read("to", _day) or self._clock.now().astimezone(zone).date()
            first = given.read("from", _day) or last - timedelta(days=_DEFAULT_DAYS - 1)
        if first > last:
            raise invalid([FieldError("from", t("must not be after `to`"))])
        if last - first >= timedelta(days=MAX_DAYS):
            raise invalid(
                [
                    FieldError(
                        "from", t("must be at most {most} days before `to`", most=MAX_DAYS - 1)
                    )
                ]
            )
        since, until = _start(first, zone), _start(last + timedelta(days=1), zone)
        reports = Reports(self._database, self._timeout, key.senders)
        if by in {By.DAY, By.SENDER} and (boxes := await reports.behind_aliases()):
            why = t(
                "numbers by day and by sender are those of whole mailboxes, and this key names only an alias of "
                "{mailboxes}; use by=template or by=tag",
                mailboxes=", ".join(boxes),
            )
            raise ApiError(403, "sender_not_allowed", why)
        rows = await self._rows(by, since, until, reports, zone)
        name = request.query.get("zone") or "UTC"
        return json_response(
            StatsOut.model_validate(
                {"by": by, "from": first, "to": last, "zone": name, "rows": rows}
            )
        )

    async def _rows(
        self, by: By, since: datetime, until: datetime, reports: Reports, zone: tzinfo
    ) -> list[StatsRowOut]:
        match by:
            case By.SENDER:
                found = await reports.tallies("sender", since, until)
                return [
                    StatsRowOut.of_tallies(counts, sender=str(sender))
                    for sender, counts in found.items()
                ]
            case By.TEMPLATE | By.TAG:
                name = "template_name" if by is By.TEMPLATE else "tag"
                try:
                    found_jobs = await reports.jobs(
                        "template" if by is By.TEMPLATE else "tag", since, until
                    )
                except TooManyJobsError:
                    why = t(
                        "more than {most:,} jobs ended then; choose a shorter period", most=MAX_JOBS
                    )
                    raise invalid([FieldError("from", why)]) from None
                return [StatsRowOut.of_jobs(it, name=name) for it in found_jobs]
            case By.DAY:
                days: dict[date, Counter[Tally]] = {}
                for hour, counts in (await reports.tallies("hour", since, until)).items():
                    assert isinstance(hour, datetime)  # noqa: S101 - what `tallies` says
                    days.setdefault(hour.astimezone(zone).date(), Counter()).update(counts)
                return [StatsRowOut.of_tallies(counts, day=day) for day, counts in days.items()]


def _day(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = date.min
    if not _FIRST_YEAR <= found.year < _LAST_YEAR:
        raise ValueError(t('must be a day such as "2026-12-01"'))
    return found


def _zone(text: str) -> tzinfo:
    """A zone whose days begin with an hour of UTC, since numbers are kept by the hour."""
    if given := _OFFSET.fullmatch(text):
        hours = timedelta(hours=int(given[2]))
        return timezone(hours if given[1] == "+" else -hours)
    try:
        zone = ZoneInfo(text)
    except (OSError, ValueError, KeyError):  # so says ZoneInfo of a name that is none
        raise ValueError(t('must be a time zone such as "Asia/Shanghai" or "+08:00"')) from None
    if any(
        (datetime(2026, month, 15, tzinfo=zone).utcoffset() or timedelta(0)) % _AN_HOUR
        for month in range(1, 13)
    ):
        raise ValueError(
            t("has days that do not begin with an hour of UTC, by which numbers are kept")
        )
    return zone


def _start(day: date, zone: tzinfo) -> datetime:
    """When a day begins."""
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)
