"""Reading what a job's letters are made of."""

from dataclasses import dataclass

from mailerd.store.database import Database
from mailerd.store.pool import Cursor


@dataclass(frozen=True)
class Contents:
    """The parts of a job that all its letters share."""

    from_email: str
    """The mailbox, or the alias that the job was posted for."""
    sender_name: str | None
    reply_to: str | None
    subject: str
    html: str | None
    text: str | None
    variables: str
    """JSON."""
    total: int


async def contents(database: Database, job: str) -> Contents:
    """What the letters of `job` are made of.

    Raises:
        DatabaseError: it cannot be read.
    """

    async def work(cursor: Cursor) -> Contents:
        await cursor.execute(
            "SELECT COALESCE(from_email, sender_email), sender_name, reply_to, subject, html, text, variables, total "
            "FROM jobs WHERE id = %s",
            (job,),
        )
        return Contents(*await cursor.fetchone())

    return await database.transaction(work, what="read a job's contents", read_only=True)
