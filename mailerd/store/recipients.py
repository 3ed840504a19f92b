"""One person's letters over all jobs, by an address in any spelling of it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from mailerd.core.suppression import canonical
from mailerd.store.db.cursor import Cursor, Statement
from mailerd.store.db.database import Database
from mailerd.store.job_recipients import RECIPIENT_COLUMNS
from mailerd.store.jobs import Recipient, recipient_of

# Index and order are given: the server may else read all letters from the newest back, since LIMIT makes that look
# cheap, or begin with all jobs of the senders.
_LETTERS: Final = (
    f"SELECT {RECIPIENT_COLUMNS}, r.job_id, j.from_address "
    "FROM job_recipients r FORCE INDEX (person) STRAIGHT_JOIN jobs j FORCE INDEX (PRIMARY) ON j.id = r.job_id "
    "WHERE r.person = %s"
)


@dataclass(frozen=True)
class PersonsLetter(Recipient):
    """One letter to a person, and whose it is."""

    job_id: str
    sender_email: str
    """As the job was posted: the mailbox, or an alias of it."""


class Recipients:
    """Queries over the recipients of all jobs. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, database: Database, *, timeout: float) -> None:
        self._database = database
        self._timeout = timeout

    async def of_person(
        self, email: str, *, before: int | None, limit: int, senders: Collection[str] | None
    ) -> list[PersonsLetter]:
        """Letters to a person, the newest first, those before an id; `senders` None: those of all senders."""
        statement = letters_statement(email, before=before, limit=limit, senders=senders)

        async def work(cursor: Cursor) -> list[PersonsLetter]:
            await cursor.execute(*statement)
            return [_letter(row) for row in await cursor.fetchall()]

        return await self._database.request(work, what="read a person's letters", bound=self._timeout, read_only=True)


def letters_statement(email: str, *, before: int | None, limit: int, senders: Collection[str] | None) -> Statement:
    """What `of_person` asks; a test has it explained."""
    where, values = "", list[object]([canonical(email)])
    if before is not None:
        where += " AND r.id < %s"
        values.append(before)
    if senders is not None:
        where += " AND j.from_address IN %s"
        values.append(tuple(senders) or ("",))  # the driver spells it as a list in brackets, never an empty one
    return f"{_LETTERS}{where} ORDER BY r.id DESC LIMIT %s", [*values, limit]


def _letter(row: tuple[Any, ...]) -> PersonsLetter:
    *of_recipient, job_id, sender = row
    return PersonsLetter(**vars(recipient_of(tuple(of_recipient))), job_id=job_id, sender_email=sender)
