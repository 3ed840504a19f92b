"""Reads what a job's letters are made of."""

from dataclasses import dataclass, field

from mailerd.store.db.cursor import Cursor
from mailerd.store.db.database import Database
from mailerd.store.new_job import TemplateLanguage


@dataclass(frozen=True)
class JobContent:
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
    list_id: int | None = None
    list_name: str | None = None
    list_title: str | None = None
    inline_css: int = 0
    attachments: int = 0
    """How many there are, those of single recipients included."""
    attached_bytes: int = field(default=0, kw_only=True)
    """What one letter carries at most."""
    languages: tuple[TemplateLanguage, ...] = field(default=(), kw_only=True)


async def job_content(database: Database, job: str) -> JobContent:
    """What the letters of `job` are made of."""

    async def work(cursor: Cursor) -> JobContent:
        await cursor.execute(
            "SELECT j.from_address, j.sender_name, j.reply_to, j.subject, j.html, j.text, j.variables, j.list_id, "
            "l.name, l.title, j.inline_css, j.attachments FROM jobs j LEFT JOIN lists l ON l.id = j.list_id "
            "WHERE j.id = %s",
            (job,),
        )
        row = await cursor.fetchone()
        size = await _attached_bytes(cursor, job) if row[-1] else 0
        await cursor.execute("SELECT language, subject, html, text FROM job_templates WHERE job_id = %s", (job,))
        languages = tuple(TemplateLanguage(*each) for each in await cursor.fetchall())
        return JobContent(*row, attached_bytes=size, languages=languages)

    return await database.read(work, what="read a job's contents")


async def _attached_bytes(cursor: Cursor, job: str) -> int:
    """Bytes that all recipients get, and the most that a single recipient gets in addition."""
    await cursor.execute(
        "SELECT recipient_seq IS NULL, SUM(size) FROM job_attachments WHERE job_id = %s GROUP BY recipient_seq "
        "ORDER BY 1, 2 DESC",
        (job,),
    )
    sizes: dict[int, int] = {}
    for is_shared, size in await cursor.fetchall():
        sizes.setdefault(is_shared, int(size))
    return sum(sizes.values())
