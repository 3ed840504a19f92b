"""Numbers of a period: by hour and sender from the tallies, by template from the jobs that ended in
it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from mailerd.core.states import Tally
from mailerd.store.db.connection import naive, utc
from mailerd.store.db.database import Database
from mailerd.store.read.stats import find_mailboxes
from mailerd.store.write.tallies import TALLY_SUMS

MAX_JOBS: Final = 50_000
"""The most jobs that are summed up."""
_COLUMNS: Final = ", ".join(Tally)
_BY: Final = {"hour": "hour", "sender": "sender_email"}
# A minute becomes part of its hour's row when that hour has been over for a day: no message is in
# both tables.
_SUM_TALLIES: Final = f"""
SELECT {{by}}, {TALLY_SUMS} FROM (
  SELECT hour, sender_email, {_COLUMNS} FROM tally_hours FORCE INDEX (PRIMARY)
   WHERE hour >= %s AND hour < %s {{mine}}
  UNION ALL
  SELECT minute - INTERVAL MINUTE(minute) MINUTE, sender_email, {_COLUMNS} FROM tallies FORCE INDEX (PRIMARY)
   WHERE minute >= %s AND minute < %s {{mine}}) t
 GROUP BY {{by}} ORDER BY {{by}}"""
_COUNT_JOBS: Final = f"""
SELECT COUNT(*) FROM (SELECT 1 FROM jobs FORCE INDEX (finished)
                       WHERE finished_at >= %s AND finished_at < %s {{mine}} LIMIT {MAX_JOBS + 1}) j"""
_SUM_JOBS: Final = """
SELECT template_name, COUNT(*), SUM(sent), SUM(failed), SUM(bounced), SUM(replied) FROM jobs FORCE INDEX (finished)
 WHERE finished_at >= %s AND finished_at < %s AND type <> 'test' {mine} GROUP BY template_name ORDER BY template_name"""


# By the jobs, which are few: a tag may have many more outside the period.
_SUM_TAGGED: Final = """
SELECT t.tag, COUNT(*), SUM(j.sent), SUM(j.failed), SUM(j.bounced), SUM(j.replied)
  FROM jobs j FORCE INDEX (finished) STRAIGHT_JOIN job_tags t FORCE INDEX (job) ON t.job_id = j.id
 WHERE j.finished_at >= %s AND j.finished_at < %s AND j.type <> 'test' {mine} GROUP BY t.tag ORDER BY t.tag"""


@dataclass(frozen=True)
class JobSums:
    """The jobs of one template, or with one tag, that ended in a period."""

    name: str | None
    """None: the jobs that were posted with their own template."""
    jobs: int
    sent: int
    failed: int
    bounced: int
    replied: int


class TooManyJobsError(Exception):
    """More than MAX_JOBS jobs ended in the period."""


@dataclass(frozen=True)
class Reports:
    """Reads them.

    `timeout`: seconds that the database gets for an answer; `senders` None: all senders.
    """

    database: Database
    timeout: float
    senders: Collection[str] | None

    async def behind_aliases(self) -> list[str]:
        """The mailboxes of which `senders` names only an alias: what is kept by mailbox is not that
        alias's.
        """
        if self.senders is None:
            return []
        names = self.senders
        found = await self.database.request(
            lambda cursor: find_mailboxes(cursor, names),
            what="stats.find_mailboxes",
            bound=self.timeout,
            read_only=True,
        )
        return sorted(found.aliases)

    async def tallies(
        self, by: Literal["hour", "sender"], since: datetime, until: datetime
    ) -> dict[datetime | str, dict[Tally, int]]:
        """The messages of whole hours, by the hour or by the sender; what has none is not in it."""
        mine, values = self._mine("sender_email")
        given = [naive(since), naive(until), *values] * 2
        rows = await self._rows(_SUM_TALLIES.format(by=_BY[by], mine=mine), given)
        return {
            utc(key) if by == "hour" else key: {
                it: int(n) for it, n in zip(Tally, sums, strict=True)
            }
            for key, *sums in rows
        }

    async def jobs(
        self, by: Literal["template", "tag"], since: datetime, until: datetime
    ) -> list[JobSums]:
        """The jobs that ended in the period, by their template or by each of their tags.

        Raises:
            TooManyJobsError: they are too many.
        """
        mine, values = self._mine("from_address")
        given = [naive(since), naive(until), *values]
        ((number,),) = await self._rows(_COUNT_JOBS.format(mine=mine), given)
        if number > MAX_JOBS:
            raise TooManyJobsError
        statement = _SUM_JOBS if by == "template" else _SUM_TAGGED
        return [
            JobSums(name, *map(int, sums))
            for name, *sums in await self._rows(statement.format(mine=mine), given)
        ]

    def _mine(self, column: str) -> tuple[str, list[object]]:
        if self.senders is None:
            return "", []
        return f"AND {column} IN %s", [tuple(self.senders) or ("",)]

    async def _rows(self, statement: str, values: list[object]) -> list[tuple[Any, ...]]:
        return list(
            await self.database.request_rows(
                statement, values, what="stats.read", bound=self.timeout
            )
        )
