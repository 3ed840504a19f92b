"""What a job's letters are made of: its template and what is attached, stored once per job, in pieces."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import batched
from typing import Final

from mailerd.store.db.cursor import Cursor, insert_many
from mailerd.store.db.database import Database
from mailerd.store.new_job import StoredAttachment, TemplateLanguage


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
    """The job's variables, as JSON."""
    list_id: int | None = None
    list_name: str | None = None
    list_title: str | None = None
    inline_css: int = 0
    api_key_id: int | None = None
    """The key that posted it; None: the command line did."""
    attachments: int = 0
    """How many attachments there are, those of single recipients included."""
    attached_bytes: int = field(default=0, kw_only=True)
    """The most bytes of attachments that one letter carries."""
    languages: tuple[TemplateLanguage, ...] = field(default=(), kw_only=True)


async def job_content(database: Database, job: str) -> JobContent:
    """What the letters of `job` are made of."""

    async def work(cursor: Cursor) -> JobContent:
        await cursor.execute(
            "SELECT j.from_address, j.sender_name, j.reply_to, j.subject, j.html, j.text, j.variables, j.list_id, "
            "l.name, l.title, j.inline_css, j.api_key_id, j.attachments, "
            "EXISTS (SELECT 1 FROM job_templates WHERE job_id = j.id) "
            "FROM jobs j LEFT JOIN lists l ON l.id = j.list_id WHERE j.id = %s",
            (job,),
        )
        *row, has_languages = await cursor.fetchone()
        size = await _attached_bytes(cursor, job) if row[-1] else 0
        languages = await _languages(cursor, job) if has_languages else ()
        return JobContent(*row, attached_bytes=size, languages=languages)

    return await database.read(work, what="read a job's contents")


async def _languages(cursor: Cursor, job: str) -> tuple[TemplateLanguage, ...]:
    await cursor.execute("SELECT language, subject, html, text FROM job_templates WHERE job_id = %s", (job,))
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


PIECE: Final = 1 << 20
"""Bytes of one row: escaped it is twice as much, which fits into any packet; escaping it takes some 5 ms."""

_ADD_PIECE: Final = "INSERT INTO attachment_chunks (job_id, digest, seq, content) VALUES (%s, %s, %s, %s)"
_ADD: Final = (
    "INSERT INTO job_attachments (job_id, recipient_seq, filename, content_type, content_id, digest, size) VALUES %s"
)
_ROWS_AT_ONCE: Final = 500


async def store_attachments(cursor: Cursor, attached: Sequence[StoredAttachment], *, job_id: str, bound: float) -> None:
    """Store them inside the transaction that stores the job; equal contents once."""
    contents = {each.digest: each.content for each in attached}
    for digest, content in contents.items():
        for number, start in enumerate(range(0, max(len(content), 1), PIECE)):
            async with asyncio.timeout(bound):
                await cursor.execute(_ADD_PIECE, (job_id, digest, number, content[start : start + PIECE]))
    rows = [
        (job_id, each.recipient, each.filename, each.content_type, each.content_id, each.digest, len(each.content))
        for each in attached
    ]
    for some in batched(rows, _ROWS_AT_ONCE):
        async with asyncio.timeout(bound):
            await cursor.execute(*insert_many(_ADD, some))


async def attachments(database: Database, job_id: str, *, recipient: int | None) -> list[StoredAttachment]:
    """What all recipients get (`recipient` is None), or what one recipient gets in addition."""
    found = await database.read_rows(
        "SELECT filename, content_type, content_id, digest FROM job_attachments "
        "WHERE job_id = %s AND recipient_seq <=> %s ORDER BY id",
        (job_id, recipient),
        what="read attachments",
    )
    contents = {digest: await _content(database, job_id, digest) for digest in {row[3] for row in found}}
    return [
        StoredAttachment(name, kind, contents[digest], digest, content_id=content_id, recipient=recipient)
        for name, kind, content_id, digest in found
    ]


async def _content(database: Database, job_id: str, digest: bytes) -> bytes:
    """A content; each piece in a transaction of its own, so that none is long."""
    statement = "SELECT content FROM attachment_chunks WHERE job_id = %s AND digest = %s AND seq = %s"
    pieces: list[bytes] = []
    while rows := await database.read_rows(statement, (job_id, digest, len(pieces)), what="read an attachment"):
        pieces.append(bytes(rows[0][0]))
    return b"".join(pieces)
