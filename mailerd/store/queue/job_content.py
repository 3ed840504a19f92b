"""What the messages of a job are made of: its template and what is attached, stored once per job,
in pieces.
"""

from dataclasses import dataclass, field
from typing import Annotated, Final

from mailerd.core.states import JobType
from mailerd.model.fields import Sql
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.db.rows import Select
from mailerd.store.write.new_jobs import StoredAttachment, TemplateLanguage


@dataclass(frozen=True)
class JobContent:
    """The parts of a job that all its messages share."""

    from_email: Annotated[str, Sql("j.from_address")]
    """The mailbox, or the alias that the job was posted for."""
    sender_name: Annotated[str | None, Sql("j.sender_name")]
    reply_to: Annotated[str | None, Sql("j.reply_to")]
    subject: Annotated[str, Sql("j.subject")]
    html: Annotated[str | None, Sql("j.html")]
    text: Annotated[str | None, Sql("j.text")]
    variables: Annotated[str, Sql("j.variables")]  # as JSON
    list_id: Annotated[int | None, Sql("j.list_id")] = None
    list_name: Annotated[str | None, Sql("l.name")] = None
    list_title: Annotated[str | None, Sql("l.title")] = None
    inline_css: Annotated[int, Sql("j.inline_css")] = 0
    api_key_id: Annotated[int | None, Sql("j.api_key_id")] = None
    """The key that posted it; None: the command line did."""
    type: Annotated[str, Sql("j.type")] = JobType.TEMPLATE
    attachments: Annotated[int, Sql("j.attachments")] = 0
    """How many attachments there are, those of single recipients included."""
    headers: Annotated[str | None, Sql("j.headers")] = None
    """Those of all its messages, as JSON."""
    defaults: Annotated[str | None, Sql("j.defaults")] = None
    attached_bytes: int = field(default=0, kw_only=True)
    """The most bytes of attachments that one message carries."""
    languages: tuple[TemplateLanguage, ...] = field(default=(), kw_only=True)


_CONTENT: Final = Select(JobContent)


_READ_CONTENT: Final = f"""
SELECT {_CONTENT.columns}, j.attachments, EXISTS (SELECT 1 FROM job_templates WHERE job_id = j.id)
  FROM jobs j LEFT JOIN lists l ON l.id = j.list_id WHERE j.id = %s"""


async def job_content(database: Database, job: str) -> JobContent:
    """What the messages of `job` are made of."""

    async def work(cursor: Cursor) -> JobContent:
        await cursor.execute(_READ_CONTENT, (job,))
        *row, attachments, has_languages = await cursor.fetchone()
        size = await _attached_bytes(cursor, job) if attachments else 0
        languages = await _languages(cursor, job) if has_languages else ()
        return _CONTENT.row(row, attached_bytes=size, languages=languages)

    return await database.read(work, what="jobs.read_content")


async def _languages(cursor: Cursor, job: str) -> tuple[TemplateLanguage, ...]:
    await cursor.execute(
        "SELECT language, subject, html, text FROM job_templates WHERE job_id = %s", (job,)
    )
    return tuple(TemplateLanguage(*each) for each in await cursor.fetchall())


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


async def attachments(
    database: Database, job_id: str, *, recipient: int | None
) -> list[StoredAttachment]:
    """What all recipients get (`recipient` is None), or what one recipient gets in addition."""
    found = await database.read_rows(
        "SELECT filename, content_type, content_id, digest FROM job_attachments "
        "WHERE job_id = %s AND recipient_seq <=> %s ORDER BY id",
        (job_id, recipient),
        what="attachments.read",
    )
    contents = {
        digest: await _content(database, job_id, digest)
        for digest in {digest for *_, digest in found}
    }
    return [
        StoredAttachment(
            name, kind, contents[digest], digest, content_id=content_id, recipient=recipient
        )
        for name, kind, content_id, digest in found
    ]


async def _content(database: Database, job_id: str, digest: bytes) -> bytes:
    """A content; each piece in a transaction of its own, so that none is long."""
    statement = (
        "SELECT content FROM attachment_chunks WHERE job_id = %s AND digest = %s AND seq = %s"
    )
    pieces: list[bytes] = []
    while rows := await database.read_rows(
        statement, (job_id, digest, len(pieces)), what="attachments.read_one"
    ):
        pieces += [bytes(content) for (content,) in rows]
    return b"".join(pieces)
