"""Reading what a job's letters are made of."""

from dataclasses import dataclass, field

from mailerd.store.database import Database
from mailerd.store.jobs import Language
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
    inline_css: int = 0
    attachments: int = 0
    """How many there are, those of single recipients included."""
    attached_bytes: int = 0
    """What everybody gets."""
    languages: tuple[Language, ...] = field(default=(), kw_only=True)


async def contents(database: Database, job: str) -> Contents:
    """What the letters of `job` are made of.

    Raises:
        DatabaseError: it cannot be read.
    """

    async def work(cursor: Cursor) -> Contents:
        await cursor.execute(
            "SELECT COALESCE(from_email, sender_email), sender_name, reply_to, subject, html, text, variables, total, "
            "inline_css, attachments, "
            "IF(attachments = 0, 0, (SELECT CAST(COALESCE(SUM(size), 0) AS SIGNED) FROM job_attachments a "
            "WHERE a.job_id = j.id AND a.recipient IS NULL)) FROM jobs j WHERE id = %s",
            (job,),
        )
        row = await cursor.fetchone()
        await cursor.execute("SELECT language, subject, html, text FROM job_templates WHERE job_id = %s", (job,))
        return Contents(*row, languages=tuple(Language(*each) for each in await cursor.fetchall()))

    return await database.transaction(work, what="read a job's contents", read_only=True)
