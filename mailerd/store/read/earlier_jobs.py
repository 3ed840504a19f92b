"""What a new message takes from an earlier job: its people, page by page, and how it was
written.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, NamedTuple

from mailerd.core.notices import Kind
from mailerd.core.results import MessageOutcome
from mailerd.core.suppression import canonical
from mailerd.model.fields import Sql
from mailerd.store.db.database import Database
from mailerd.store.db.rows import Select
from mailerd.store.read.job_report import listed
from mailerd.store.read.jobs import Jobs

PAGE: Final = 200
"""Recipients that are read at once: some 4 ms of the event loop."""
# By the notices: a bounce takes the place of a reply in the message's row, in whichever order they
# come.
READ_HEARD: Final = """
SELECT n.recipient_id, MAX(n.kind = 'reply'), MIN(r.to_email) FROM notices n FORCE INDEX (job)
       STRAIGHT_JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = n.recipient_id
 WHERE n.job_id = %s AND n.recipient_id > %s AND n.kind IN ('reply', 'unsubscribe') AND n.believed = 1
 GROUP BY n.recipient_id ORDER BY n.recipient_id LIMIT %s"""
READ_VARIABLES: Final = (
    "SELECT id, variables FROM job_recipients FORCE INDEX (PRIMARY) WHERE id IN %s"
)
READ_SIZES: Final = """
SELECT id, COALESCE(OCTET_LENGTH(variables), 0) FROM job_recipients FORCE INDEX (PRIMARY)
WHERE id IN %s
"""
MAX_AT_ONCE: Final = 1024 * 1024
"""Bytes of variables that are read at once, unless one recipient has more."""


class Person(NamedTuple):
    """A recipient of a job, as a table has it."""

    email: str
    name: str | None
    variables: str | None
    """Its own variables, as JSON."""
    has_copies: bool


def batches(sizes: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
    """Ids whose variables are read together. `sizes`: each with the bytes of its variables."""
    ids, together = list[int](), 0
    for id_, size in sizes:
        if ids and together + size > MAX_AT_ONCE:
            yield ids
            ids, together = [], 0
        ids.append(id_)
        together += size
    if ids:
        yield ids


# The pictures of a named template come with it.
_HAS_FILES: Final = """EXISTS (SELECT 1 FROM job_attachments a WHERE a.job_id = j.id
                  AND (a.content_id IS NULL OR j.template_name IS NULL))"""


@dataclass(frozen=True)
class EarlierJob:
    """How a job was written."""

    sender_name: str | None
    reply_to: str | None
    list_name: Annotated[str | None, Sql("l.name")]
    subject: str
    html: str | None
    text: str | None
    markdown: str | None
    """What the HTML was made of, where a person wrote it in the console."""
    variables: str
    """Those of the job, as JSON."""
    has_headers: Annotated[bool, Sql("j.headers IS NOT NULL")]
    has_files: Annotated[bool, Sql(_HAS_FILES)]


_JOB: Final = Select(EarlierJob, of="j")
READ_JOB: Final = (
    f"SELECT {_JOB.columns} FROM jobs j LEFT JOIN lists l ON l.id = j.list_id WHERE j.id = %s"
)


@dataclass(frozen=True)
class EarlierJobs:
    """Reads them. `timeout`: seconds that the database gets for an answer."""

    database: Database
    timeout: float

    async def read(self, job: str) -> EarlierJob | None:
        """How a job was written; None: it is not there any more."""
        rows = await self.database.request_rows(
            READ_JOB, (job,), what="jobs.read_content", bound=self.timeout
        )
        return next(map(_JOB.row, rows), None)

    async def people(self, job: str, which: MessageOutcome | None) -> AsyncIterator[list[Person]]:
        """Those of one outcome, None: all; in their order, some at a time, and without those who
        were forgotten.
        """
        jobs, after, more = Jobs(self.database, timeout=self.timeout), -1, True
        while more:
            found = await jobs.recipients(job, after=after, limit=PAGE, **listed(which))
            more, after = len(found) == PAGE, found[-1].index if found else after
            some = {
                each.id: each
                for each in found
                if each.email != f"forgotten-{each.id}@example.invalid"
            }
            for ids in batches(await self._rows(READ_SIZES, some)):
                given = dict(await self._rows(READ_VARIABLES, ids))
                yield [
                    Person(some[id_].email, some[id_].name, given[id_], bool(some[id_].copies))
                    for id_ in ids
                    if id_ in given
                ]

    async def _rows(self, statement: str, ids: Iterable[int]) -> Sequence[Any]:
        return await self.database.request_rows(
            statement, (tuple(ids) or (0,),), what="recipients.list", bound=self.timeout
        )

    async def heard_of(self, job: str) -> dict[str, Kind]:
        """Who has replied to a message of the job, and who has left its list by mail; by addresses
        in one form.
        """
        found, after, more = dict[str, Kind](), 0, True
        while more:
            rows = await self.database.request_rows(
                READ_HEARD, (job, after, PAGE), what="notices.list", bound=self.timeout
            )
            more = len(rows) == PAGE
            for after, has_replied, email in rows:  # noqa: B007 - the last one's number
                found[canonical(email)] = Kind.REPLY if has_replied else Kind.UNSUBSCRIBE
        return found
