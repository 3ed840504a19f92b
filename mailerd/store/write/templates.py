"""The named templates of the API: their versions, which one is published, and what a repetition of
each change does.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Final, Self

from mailerd.core import owners
from mailerd.core.i18n import t
from mailerd.core.owners import MAX_OWN, Owners
from mailerd.errors import MailerdError
from mailerd.model.fields import Sql
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database, request
from mailerd.store.db.rows import Select
from mailerd.store.write.action_log import note_action
from mailerd.store.write.new_jobs import PIECE

MAX_NAMES: Final = 1000
"""The most templates: a list shows them all.

Of those that were deleted a key's oldest makes place for its new one.
"""
MAX_VERSIONS: Final = 200
"""The most versions of one: the oldest one that is not published makes place for a new one."""
ABOUT: Final = "template.json"
_MAX_SUBJECT: Final = 255
"""Characters of a subject that a list shows."""

# The row of the name is locked first, by each change.
_MAKE: Final = """
INSERT INTO templates (name, senders, created_by, created_at) VALUES (%s, %s, %s, UTC_TIMESTAMP(6))
    ON DUPLICATE KEY UPDATE archived_at = NULL"""
_OWNERS: Final = "SELECT senders FROM templates WHERE name = %s"
_ALL_OWNERS: Final = "SELECT senders FROM templates"
_ARCHIVED: Final = """
SELECT name, senders FROM templates WHERE archived_at IS NOT NULL ORDER BY archived_at, name FOR UPDATE"""
# A template and its layout in one order, so that two who lock both never wait for one another.
_LOCK: Final = """
SELECT name, published, senders FROM templates
 WHERE name IN (%s, %s) AND archived_at IS NULL ORDER BY name FOR UPDATE"""
_ABOUT: Final = "SELECT about FROM template_versions WHERE name = %s AND version = %s"
_HAS: Final = "SELECT 1 FROM template_versions WHERE name = %s AND version = %s"
_ADD: Final = """
INSERT INTO template_versions (name, version, about, files, subject, comment, created_by, created_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, UTC_TIMESTAMP(6))"""
_ADD_CHUNK: Final = (
    "INSERT INTO template_chunks (name, version, seq, content) VALUES (%s, %s, %s, %s)"
)
_OLD_VERSIONS: Final = """
SELECT v.version FROM template_versions v JOIN templates t ON t.name = v.name
 WHERE v.name = %s AND v.version != %s AND NOT (t.published <=> v.version)
 ORDER BY v.created_at DESC, v.version LIMIT %s OFFSET %s"""
_DROP_VERSION: Final = (
    "DELETE FROM template_chunks WHERE name = %s AND version = %s",
    "DELETE FROM template_versions WHERE name = %s AND version = %s",
)
_DROP: Final = (
    "DELETE FROM template_chunks WHERE name = %s",
    "DELETE FROM template_versions WHERE name = %s",
    "DELETE FROM templates WHERE name = %s",
)
_PUBLISH: Final = """
UPDATE templates SET published = %s, published_by = %s, published_at = UTC_TIMESTAMP(6) WHERE name = %s"""
_ARCHIVE: Final = """
UPDATE templates SET published = NULL, published_by = NULL, published_at = NULL, archived_at = UTC_TIMESTAMP(6)
 WHERE name = %s AND archived_at IS NULL"""
# What is read begins with whose it is (`_rows`).
_LIST: Final = """
SELECT t.senders, t.name, v.version, v.about, v.files, v.subject
  FROM templates t JOIN template_versions v ON v.name = t.name AND v.version = t.published
 WHERE t.archived_at IS NULL ORDER BY t.name"""
_PUBLISHED: Final = """
SELECT t.name, v.about FROM templates t JOIN template_versions v ON v.name = t.name AND v.version = t.published
 WHERE t.archived_at IS NULL"""
_DRAFTS: Final = """
SELECT senders, name FROM templates WHERE published IS NULL AND archived_at IS NULL
ORDER BY name
"""
_UNPUBLISHED: Final = (
    "SELECT senders, archived_at IS NOT NULL FROM templates WHERE name = %s AND published IS NULL"
)
_FILES: Final = """
SELECT t.senders, v.about, v.files, c.seq, c.content
  FROM templates t JOIN template_versions v ON v.name = t.name AND v.version = {version}
  LEFT JOIN template_chunks c ON c.name = v.name AND c.version = v.version
 WHERE t.name = %s AND t.archived_at IS NULL"""
_PUBLISHED_FILES: Final = _FILES.format(version="t.published")
_FILES_OF_VERSION: Final = _FILES.format(version="%s")


class TooManyTemplatesError(MailerdError):
    """There are as many templates as there may be."""


class VersionMovedError(MailerdError):
    """Another version is published than the one that was expected."""

    def __init__(self, published: str | None) -> None:
        super().__init__(
            t("the published version is {published}", published=published or t("none"))
        )
        self.published = published


class NameTakenError(MailerdError):
    """Another key's template has the name, which is all that is said of it."""

    def __init__(self, name: str) -> None:
        super().__init__(
            t("the name {name!r} is taken; choose another. Nothing was stored", name=name)
        )


class OthersTemplateError(MailerdError):
    """It belongs to others, too, who use it."""

    def __init__(self, name: str) -> None:
        super().__init__(
            t(
                "template {name!r} belongs to other senders, too; save a copy under another name. Nothing was changed",
                name=name,
            )
        )


class NoLayoutError(MailerdError):
    """The layout of a version is not published, is none, or belongs to others."""

    def __init__(self, layout: str) -> None:
        super().__init__(
            t(
                "{layout!r} is not a published layout of all senders of this template; nothing was changed",
                layout=layout,
            )
        )


class LayoutInUseError(MailerdError):
    """Published templates have it for their layout."""

    def __init__(self, users: Iterable[str]) -> None:
        names = ", ".join(sorted(users))
        super().__init__(t("it is the layout of {names}; nothing was changed", names=names))


@dataclass(frozen=True)
class TemplateState:
    """A template of the API."""

    name: str
    published: str | None
    """The version that a job gets which names none."""
    published_by: str | None
    published_at: datetime | None
    created_by: str
    created_at: datetime
    senders: Annotated[Owners, Sql("senders", read=owners.from_row)]
    """Whose it is."""

    def may_change(self, key: Owners) -> bool:
        """Whether a key for these senders may change it."""
        return owners.may_change(key, self.senders)


@dataclass(frozen=True)
class TemplateVersion:
    """A version of one."""

    version: str
    comment: str | None
    created_by: str
    created_at: datetime


_TEMPLATE: Final = Select(TemplateState, of="templates")
_STATE: Final = (
    f"SELECT senders, {_TEMPLATE.columns} FROM templates WHERE name = %s AND archived_at IS NULL"
)
_VERSION: Final = Select(TemplateVersion, of="v")
_VERSIONS: Final = f"""
SELECT t.senders, {_VERSION.columns} FROM templates t JOIN template_versions v ON v.name = t.name
 WHERE t.name = %s ORDER BY v.created_at DESC, v.version"""


@dataclass(frozen=True)
class TemplateStore:
    """Reads and changes them. `timeout`: seconds that the database gets for an answer.

    `senders`: those of the key that asks. What does not belong to one of them is as good as none.
    """

    database: Database
    timeout: float
    senders: Owners = None

    def seen_by(self, senders: Owners) -> Self:
        """The same, as a key for these senders sees it."""
        return replace(self, senders=senders)

    @request("templates.put")
    async def put(
        self,
        cursor: Cursor,
        name: str,
        version: str,
        files: Mapping[str, bytes],
        *,
        comment: str | None,
        actor: str,
    ) -> bool:
        """Store a version; whether it is new. One that is there stays as it is.

        Raises:
            TooManyTemplatesError: there is no place for another name.
            NameTakenError, OthersTemplateError: the name is another key's, or others', too.
        """
        await cursor.execute(_MAKE, (name, owners.to_row(self.senders), actor))
        if cursor.rowcount == 1:
            await self._make_place(cursor)
        its = owners.from_row(await cursor.fetch_value(_OWNERS, (name,)))
        if not owners.sees(self.senders, its):
            raise NameTakenError(name)
        self._require_own(name, its)
        await cursor.execute(_HAS, (name, version))
        if await cursor.fetchone():
            return False
        others = {path: content for path, content in files.items() if path != ABOUT}
        sizes = json.dumps([(path, len(content)) for path, content in others.items()])
        subject = files.get("subject.txt", b"").decode()[:_MAX_SUBJECT]  # a layout needs none
        await cursor.execute(
            _ADD, (name, version, files[ABOUT].decode(), sizes, subject, comment, actor)
        )
        whole = b"".join(others.values())
        for number, start in enumerate(range(0, len(whole), PIECE)):
            await cursor.execute(_ADD_CHUNK, (name, version, number, whole[start : start + PIECE]))
        await cursor.execute(_OLD_VERSIONS, (name, version, MAX_VERSIONS, MAX_VERSIONS - 2))
        for (old,) in await cursor.fetchall():
            for statement in _DROP_VERSION:
                await cursor.execute(statement, (name, old))
        await cursor.execute(*note_action("save_template", actor, detail=f"{name} {version}"))
        return True

    @request("templates.publish")
    async def publish(
        self,
        cursor: Cursor,
        name: str,
        version: str,
        *,
        expect: str | None,
        actor: str,
        layouts: Collection[str] = (),
        users: Collection[str] = (),
    ) -> bool | None:
        """Publish a version if `expect` is the one that is published; whether that has changed
        anything.

        None: there is no such template, or it has no such version. What is published already
        changes nothing, whatever is expected: the answer to the first request may have been lost.
        `layouts`: those of the folder. `users`: the templates of the folder that have it for their
        layout, where it belongs to all as they do.

        Raises:
            VersionMovedError: another one is published.
            NoLayoutError, LayoutInUseError: a template would be published without its layout.
            OthersTemplateError: it is others', too.
        """
        about = await _about(cursor, name, version)  # a version never changes
        layout = about.get("layout") if about else None
        await cursor.execute(_LOCK, (name, layout or name))
        published, whose = self._locked(await cursor.fetchall())
        await cursor.execute(_HAS, (name, version))
        if about is None or name not in published or not await cursor.fetchone():
            return None
        self._require_own(name, whose[name])
        if published[name] == version:
            return False
        if published[name] != expect:
            raise VersionMovedError(published[name])
        if layout and layout not in layouts:
            of_layout = await _about(cursor, layout, published.get(layout)) or {}
            if not of_layout.get("is_layout") or not owners.has_all(whose[layout], whose[name]):
                raise NoLayoutError(layout)
        if not about.get("is_layout"):
            await _require_unused(
                cursor, name, published[name], users if whose[name] is None else ()
            )
        await cursor.execute(_PUBLISH, (version, actor, name))
        await cursor.execute(*note_action("publish_template", actor, detail=f"{name} {version}"))
        return True

    @request("templates.archive")
    async def archive(
        self, cursor: Cursor, name: str, *, actor: str, users: Collection[str] = ()
    ) -> bool:
        """Let a name find nothing any more, until a version of it is stored again; whether it found
        anything.

        `users`: as in `publish`.

        Raises:
            LayoutInUseError: others have it for their layout.
            OthersTemplateError: it is others', too.
        """
        await cursor.execute(_LOCK, (name, name))
        published, whose = self._locked(await cursor.fetchall())
        if name not in published:
            return False
        self._require_own(name, whose[name])
        await _require_unused(cursor, name, published[name], users if whose[name] is None else ())
        await cursor.execute(_ARCHIVE, (name,))
        if not cursor.rowcount:
            return False
        await cursor.execute(*note_action("archive_template", actor, detail=name))
        return True

    def _locked(
        self, rows: Iterable[Sequence[Any]]
    ) -> tuple[dict[str, str | None], dict[str, Owners]]:
        """Of rows of _LOCK that the key sees, the published versions, and whose each is."""
        whose = {name: owners.from_row(senders) for name, _, senders in rows}
        seen = {name: its for name, its in whose.items() if owners.sees(self.senders, its)}
        return {name: published for name, published, _ in rows if name in seen}, seen

    def _require_own(self, name: str, its: Owners) -> None:
        if not owners.may_change(self.senders, its):
            raise OthersTemplateError(name)

    async def _make_place(self, cursor: Cursor) -> None:
        """Delete the oldest of the own archived ones where a new one is one too many, of all or of
        a limited key's.
        """
        await cursor.execute(_ALL_OWNERS)
        whose = [owners.from_row(senders) for (senders,) in await cursor.fetchall()]
        own = sum(owners.may_change(self.senders, each) for each in whose)
        too_many_own = self.senders is not None and own > MAX_OWN
        if len(whose) <= MAX_NAMES and not too_many_own:
            return
        await cursor.execute(_ARCHIVED)
        for name, senders in await cursor.fetchall():
            if owners.may_change(self.senders, owners.from_row(senders)):
                for statement in _DROP:
                    await cursor.execute(statement, (name,))
                return
        if too_many_own:
            raise TooManyTemplatesError(
                t(
                    "the limit of {max_own} templates of these senders is reached; delete one",
                    max_own=MAX_OWN,
                )
            )
        raise TooManyTemplatesError(
            t("the limit of {max_names:,} templates is reached", max_names=MAX_NAMES)
        )

    async def state(self, name: str) -> TemplateState | None:
        """A template; None: there is none."""
        return next(map(_TEMPLATE.row, await self._rows(_STATE, (name,))), None)

    async def versions(self, name: str) -> list[TemplateVersion]:
        """Its versions, newest first."""
        return [_VERSION.row(each) for each in await self._rows(_VERSIONS, (name,))]

    async def published(self) -> list[tuple[str, str, str, str, str]]:
        """All that are published, by name: name, version, template.json, paths and sizes of other
        files, subject.
        """
        return [(*row,) for row in await self._rows(_LIST)]

    async def drafts(self) -> list[str]:
        """The names of those that are not published."""
        return [name for (name,) in await self._rows(_DRAFTS)]

    async def is_archived(self, name: str) -> bool | None:
        """Of one that is not published: whether it was archived; None: it is published, or there is
        none.
        """
        rows = await self._rows(_UNPUBLISHED, (name,))
        return next((bool(is_archived) for (is_archived,) in rows), None)

    async def files(self, name: str, version: str | None) -> dict[str, bytes] | None:
        """The files of a version, or of the published one; None: there is none."""
        found = await self._rows(
            *(
                (_PUBLISHED_FILES, (name,))
                if version is None
                else (_FILES_OF_VERSION, (version, name))
            )
        )
        if not found:
            return None
        (about, sizes, *_), *_ = found
        chunks = sorted((seq, content) for *_, seq, content in found if seq is not None)
        whole, at = b"".join(bytes(content) for _, content in chunks), 0
        files = {ABOUT: about.encode()}
        for path, size in json.loads(sizes):
            files[path], at = whole[at : at + size], at + size
        return dict(sorted(files.items()))

    async def _rows(self, sql: str, values: Sequence[object] | None = None) -> list[Any]:
        """The rows that the key sees, without the first column, which is whose the template is."""
        rows = await self.database.request_rows(
            sql, values, what="templates.read", bound=self.timeout
        )
        return [row for whose, *row in rows if owners.sees(self.senders, owners.from_row(whose))]


async def _about(cursor: Cursor, name: str, version: str | None) -> dict[str, Any] | None:
    """The template.json of a version; None: there is none."""
    about = await cursor.fetch_value(_ABOUT, (name, version))
    return json.loads(about) if about else None


async def _require_unused(
    cursor: Cursor, name: str, published: str | None, users: Collection[str]
) -> None:
    """A template whose row is locked is no layout of others, as it is published.

    Raises:
        LayoutInUseError: it is.
    """
    about = await _about(cursor, name, published)
    if not about or not about.get("is_layout"):
        return
    await cursor.execute(_PUBLISHED)
    found = {user for user, its in await cursor.fetchall() if json.loads(its).get("layout") == name}
    if found := found.union(users):
        raise LayoutInUseError(found)
