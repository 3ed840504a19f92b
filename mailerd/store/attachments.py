"""What is attached to letters: stored once per job, in pieces, and read back whole."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import batched
from typing import Final

from mailerd.store.db.cursor import Cursor, insert_many
from mailerd.store.db.database import Database

PIECE: Final = 1 << 20
"""Bytes of one row: escaped it is twice as much, which fits into any packet; escaping it takes some 5 ms."""

_ADD_PIECE: Final = "INSERT INTO attachment_chunks (job_id, digest, seq, content) VALUES (%s, %s, %s, %s)"
_ADD: Final = (
    "INSERT INTO job_attachments (job_id, recipient_seq, filename, content_type, content_id, digest, size) VALUES %s"
)
_ROWS_AT_ONCE: Final = 500


@dataclass(frozen=True)
class StoredAttachment:
    """One attachment, for the recipient whose `seq` it names or for all recipients."""

    filename: str
    content_type: str
    content: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    """SHA-256 of the content."""
    content_id: str | None = None
    recipient: int | None = None


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
    rows = await database.read_rows(
        "SELECT filename, content_type, content_id, digest FROM job_attachments "
        "WHERE job_id = %s AND recipient_seq <=> %s ORDER BY id",
        (job_id, recipient),
        what="read attachments",
    )
    found = list(rows)
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
