"""Jobs that a person is preparing in the console: rows of `job_drafts`, which lose nothing at a
reload or a restart.

A draft is one row, and further rows with what is large, in pieces: its table as compressed JSON,
the file that it was read from, and the attachments of its message, which no save of the rest
touches: what two tabs attach is kept.

Its job has the draft's idempotency key; once it is stored, the draft is not found any more, and is
deleted minutes later, so that an undo may reopen it.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from mailerd.clock import new_id
from mailerd.core.i18n import t
from mailerd.errors import MailerdError
from mailerd.model.fields import Sql
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database, request
from mailerd.store.db.rows import Select
from mailerd.store.write.new_jobs import BYTES_PER_SECOND, PIECE

AGE: Final = timedelta(days=7)
"""How long a draft is kept."""
UNDO: Final = timedelta(minutes=10)
"""How long a draft is kept whose job is stored."""
MAX_PART: Final = 16 * 1024 * 1024
"""Bytes of a table, compressed, of a file, or of a copy."""
MAX_DRAFTS: Final = 100
"""The most drafts of a key: the oldest makes place for a new one."""
FIELDS: Final = ("mapping", "message", "options")
"""What each step saves of a draft."""
HEAD: Final = 0
PEOPLE: Final = 1
"""The table, as compressed JSON."""
FILE: Final = 2
"""What it was read from: another sheet or encoding is read from it."""
COPY: Final = 3
"""What was copied of a draft in Gmail, as JSON."""
FILES: Final = 10
"""The first part that is an attachment; the first row of such a part has its `DraftFile` as
`mapping`.
"""
_LAST_PART: Final = 255

_ADD: Final = """
INSERT INTO job_drafts (id, part, seq, api_key_id, mapping, message, options, kept_from)
VALUES (%s, 0, 0, %s, %s, %s, %s, UTC_TIMESTAMP(6))"""
_OLDEST: Final = """
SELECT id FROM job_drafts WHERE api_key_id = %s AND part = 0 ORDER BY kept_from DESC
LIMIT %s OFFSET %s
"""
_SAVE: Final = "UPDATE job_drafts SET {fields} WHERE id = %s AND part = 0"
_LOCK: Final = (
    "SELECT kept_from FROM job_drafts WHERE id = %s AND part = 0 AND NOT is_sent FOR UPDATE"
)
_DROP_PART: Final = "DELETE FROM job_drafts WHERE id = %s AND part = %s"
_ADD_PIECE: Final = """
INSERT INTO job_drafts (id, part, seq, api_key_id, content, kept_from) VALUES (%s, %s, %s, %s, %s, %s)"""
_READ_PART: Final = "SELECT content FROM job_drafts WHERE id = %s AND part = %s ORDER BY seq"
_NAME_FILE: Final = "UPDATE job_drafts SET mapping = %s WHERE id = %s AND part = %s AND seq = 0"
_FILES: Final = f"""
SELECT part, mapping FROM job_drafts WHERE id = %s AND part >= {FILES} AND seq = 0 ORDER BY part
"""
_CONTENTS: Final = f"""
SELECT mapping, content FROM job_drafts WHERE id = %s AND part >= {FILES} ORDER BY part, seq"""
_DETACH: Final = """
DELETE f FROM job_drafts f JOIN job_drafts n ON n.id = f.id AND n.part = f.part AND n.seq = 0
 WHERE f.id = %s AND f.part = %s AND NOT f.is_sent AND JSON_VALUE(n.mapping, '$.name') = %s"""
_PRESS: Final = """
UPDATE job_drafts SET pressed_at = COALESCE(pressed_at, UTC_TIMESTAMP(6))
WHERE id = %s AND part = 0
"""
_RELEASE: Final = "UPDATE job_drafts SET pressed_at = NULL WHERE id = %s AND part = 0"
_SENT: Final = """
UPDATE job_drafts SET is_sent = 1, kept_from = UTC_TIMESTAMP(6) - INTERVAL %s SECOND WHERE id = %s"""
_REOPEN: Final = """
UPDATE job_drafts SET id = %s, is_sent = 0, pressed_at = NULL, kept_from = UTC_TIMESTAMP(6)
 WHERE id = %s AND api_key_id = %s AND is_sent"""
_DELETE: Final = "DELETE FROM job_drafts WHERE id = %s"


class DraftTooLargeError(MailerdError):
    """A part of a draft has more bytes than it may."""


@dataclass(frozen=True)
class Draft:
    """A job that is being prepared; its table is read apart (`Drafts.read`)."""

    id: str
    api_key_id: int
    mapping: Annotated[dict[str, Any], Sql("mapping", read=json.loads)] = field(
        default_factory=dict
    )
    """What the table is called, which row names its columns, and what each column is used as."""
    message: Annotated[dict[str, Any], Sql("message", read=json.loads)] = field(
        default_factory=dict
    )
    """Sender, template or text, and the like, by the names of the form's fields."""
    options: Annotated[dict[str, Any], Sql("options", read=json.loads)] = field(
        default_factory=dict
    )
    """What was decided about problems, and when it is sent."""
    kept_from: datetime | None = None

    @property
    def title(self) -> str:
        """What it is about."""
        named = [self.message.get(name) for name in ("reference", "subject", "template")]
        named.append(self.message.get("gmail", {}).get("subject"))
        return next(filter(None, named), "") or self.mapping.get("file", "") or self.id

    @property
    def once(self) -> str:
        """The idempotency key of its job."""
        return f"draft-{self.id}"


_DRAFT: Final = Select(Draft, of="job_drafts")
_FIND: Final = f"""
SELECT {_DRAFT.columns} FROM job_drafts
 WHERE id = %s AND api_key_id = %s AND part = 0 AND NOT is_sent AND kept_from > UTC_TIMESTAMP(6) - INTERVAL %s SECOND
   AND (pressed_at IS NULL OR pressed_at > UTC_TIMESTAMP(6) - INTERVAL %s SECOND)"""
_LIST: Final = f"""
SELECT {_DRAFT.columns} FROM job_drafts
 WHERE api_key_id = %s AND part = 0 AND NOT is_sent AND kept_from > UTC_TIMESTAMP(6) - INTERVAL %s SECOND
 ORDER BY kept_from DESC LIMIT %s"""


@dataclass(frozen=True)
class DraftFile:
    """An attachment of a draft."""

    name: str
    size: int
    """Bytes."""
    digest: str
    """SHA-256 of its content, in hexadecimal digits."""


@dataclass(frozen=True)
class Drafts:
    """Queries for drafts.

    `timeout`: seconds that the database gets; `keep`: for how long an idempotency key is known.

    A draft whose button was pressed longer ago is not found any more: its job would be stored once
    more.
    """

    database: Database
    timeout: float
    keep: timedelta

    @request("drafts.create")
    async def create(
        self,
        cursor: Cursor,
        api_key_id: int,
        mapping: Mapping[str, Any],
        message: Mapping[str, Any],
        parts: Mapping[int, bytes],
    ) -> str:
        """Store a new draft; its id.

        Raises:
            DraftTooLargeError: a part is too large.
        """
        await cursor.execute(_OLDEST, (api_key_id, MAX_DRAFTS, MAX_DRAFTS - 1))
        for (old,) in await cursor.fetchall():
            await cursor.execute(_DELETE, (old,))
        id_ = new_id()
        await cursor.execute(_ADD, (id_, api_key_id, *map(_json, (mapping, message, {}))))
        await self._write(cursor, id_, api_key_id, parts)
        return id_

    @request("drafts.save")
    async def save(
        self,
        cursor: Cursor,
        draft: Draft,
        parts: Mapping[int, bytes] | None = None,
        *,
        only: Collection[str] = FIELDS,
    ) -> bool:
        """Store what has changed of a draft; False: it was sent or deleted meanwhile.

        `only`: which of FIELDS has changed; the others may have been changed by another tab
        meanwhile.

        Raises:
            DraftTooLargeError: a part is too large.
        """
        await cursor.execute(_LOCK, (draft.id,))
        if await cursor.fetchone() is None:
            return False
        fields = ", ".join(f"{name} = %s" for name in only)
        await cursor.execute(
            _SAVE.format(fields=fields), (*(_json(getattr(draft, name)) for name in only), draft.id)
        )
        await self._write(cursor, draft.id, draft.api_key_id, parts or {})
        return True

    async def _write(
        self, cursor: Cursor, id_: str, api_key_id: int, parts: Mapping[int, bytes]
    ) -> None:
        kept_from = await cursor.fetch_value(_LOCK, (id_,))
        for part, content in parts.items():
            if part < FILES and len(content) > MAX_PART:
                raise DraftTooLargeError(
                    t(
                        "The table is larger than {most:,} bytes. Split it. Nothing was changed.",
                        most=MAX_PART,
                    )
                )
            await cursor.execute(_DROP_PART, (id_, part))
            for seq, start in enumerate(range(0, len(content), PIECE)):
                piece = content[start : start + PIECE]
                await cursor.execute(_ADD_PIECE, (id_, part, seq, api_key_id, piece, kept_from))

    async def find(self, api_key_id: int, id_: str) -> Draft | None:
        """A draft of a key; None: it has none of that id, or that one is too old."""
        ages = AGE.total_seconds(), self.keep.total_seconds()
        rows = await self._rows(_FIND, (id_, api_key_id, *map(int, ages)))
        return next(map(_DRAFT.row, rows), None)

    async def newest(self, api_key_id: int, *, limit: int) -> list[Draft]:
        """The drafts of a key, the newest first."""
        rows = await self._rows(_LIST, (api_key_id, int(AGE.total_seconds()), limit))
        return [_DRAFT.row(each) for each in rows]

    async def read(self, draft: Draft, part: int) -> bytes:
        """A part of it; empty: it has none."""
        return b"".join(
            bytes(content) for (content,) in await self._rows(_READ_PART, (draft.id, part))
        )

    async def attach(
        self,
        draft: Draft,
        files: Sequence[tuple[DraftFile, bytes]],
        check: Callable[[Collection[DraftFile]], None],
    ) -> bool:
        """Add attachments, all of them or none; False: the draft was sent or deleted meanwhile.

        `check` gets all that it then has, and raises what refuses them.
        """

        async def work(cursor: Cursor) -> bool:
            await cursor.execute(_LOCK, (draft.id,))
            if await cursor.fetchone() is None:
                return False
            await cursor.execute(_FILES, (draft.id,))
            known = _files(await cursor.fetchall())
            check([*known.values(), *(each for each, _ in files)])
            free = (part for part in range(FILES, _LAST_PART + 1) if part not in known)
            for part, (file, content) in zip(free, files, strict=False):
                await self._write(cursor, draft.id, draft.api_key_id, {part: content})
                await cursor.execute(_NAME_FILE, (_json(asdict(file)), draft.id, part))
            return True

        bound = self.timeout + sum(len(content) for _, content in files) / BYTES_PER_SECOND
        return await self.database.request(work, what="drafts.attach", bound=bound)

    async def detach(self, draft: Draft, part: int, name: str) -> None:
        """Remove the attachment of this part, unless another tab has put one of another name
        there.
        """
        await self.database.execute(
            _DETACH, (draft.id, part, name), what="drafts.change", bound=self.timeout
        )

    async def files(self, draft: Draft) -> dict[int, DraftFile]:
        """Its attachments by their parts, without their contents."""
        return _files(await self._rows(_FILES, (draft.id,)))

    async def contents(self, draft: Draft) -> list[tuple[DraftFile, bytes]]:
        """Its attachments with their contents, as they were at one moment."""
        size = sum(each.size for each in (await self.files(draft)).values())
        bound, found, pieces = (
            self.timeout + size / BYTES_PER_SECOND,
            list[tuple[DraftFile, list[bytes]]](),
            [],
        )
        rows = await self.database.request_rows(
            _CONTENTS, (draft.id,), what="drafts.read", bound=bound
        )
        for mapping, content in rows:
            if mapping:
                pieces = list[bytes]()
                found.append((DraftFile(**json.loads(mapping)), pieces))
            pieces.append(bytes(content))
        return [(file, b"".join(pieces)) for file, pieces in found]

    async def press(self, draft: Draft) -> None:
        """Note that its job is being stored."""
        await self._execute(_PRESS, draft.id)

    async def release(self, draft: Draft) -> None:
        """Note that its job was refused."""
        await self._execute(_RELEASE, draft.id)

    async def sent(self, draft: Draft) -> None:
        """Note that its job is stored."""
        values = int((AGE - UNDO).total_seconds()), draft.id
        await self.database.execute(_SENT, values, what="drafts.change", bound=self.timeout)

    async def reopen(self, api_key_id: int, id_: str) -> str | None:
        """Make a draft of one whose job was cancelled; its new id, since its next job is another;
        None: it is gone.
        """
        new = new_id()
        found = await self.database.execute(
            _REOPEN, (new, id_, api_key_id), what="drafts.change", bound=self.timeout
        )
        return new if found else None

    async def delete(self, draft: Draft) -> None:
        """Delete it."""
        await self._execute(_DELETE, draft.id)

    async def _execute(self, sql: str, id_: str) -> None:
        await self.database.execute(sql, (id_,), what="drafts.change", bound=self.timeout)

    async def _rows(self, sql: str, values: Sequence[object]) -> Sequence[Any]:
        return await self.database.request_rows(sql, values, what="drafts.read", bound=self.timeout)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _files(rows: Sequence[tuple[int, str]]) -> dict[int, DraftFile]:
    return {part: DraftFile(**json.loads(mapping)) for part, mapping in rows}
