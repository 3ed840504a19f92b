"""Mailing lists: what a person can leave, how a list may be called, and the statements that find and make one."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from mailerd.core.suppression import EVERYTHING, EVERYTHING_NAME
from mailerd.errors import MailerdError
from mailerd.store.db.cursor import Cursor
from mailerd.store.db.times import utc

MAX_LIST_NAME: Final = 100
MAX_LIST_TITLE: Final = 255
"""The most characters of a title, as in the schema."""
MAX_LISTS: Final = 1000
"""The most lists: an answer shows them all."""

FIND_LIST: Final = "SELECT id, name, title, created_at FROM lists WHERE name = %s"
FIND_LIST_BY_ID: Final = "SELECT id, name, title, created_at FROM lists WHERE id = %s"
_READ_NAMES: Final = "SELECT id, name FROM lists WHERE id IN %s"
_COUNT_LISTS: Final = "SELECT COUNT(*) FROM lists"
LISTS: Final = "SELECT id, name, title, created_at FROM lists WHERE name > %s ORDER BY name LIMIT %s"
_MAKE_LIST: Final = (
    "INSERT INTO lists (name, title, created_at) VALUES (%s, %s, UTC_TIMESTAMP(6))"
    " ON DUPLICATE KEY UPDATE title = COALESCE(VALUES(title), title)"
)


class ListNameError(MailerdError, ValueError):
    """A list cannot have this name or title, or there is none of this name."""


@dataclass(frozen=True)
class MailingList:
    """A list that a person can leave."""

    id: int
    name: str
    title: str | None
    created_at: datetime

    @property
    def shown(self) -> str:
        """The name that people read."""
        return self.title or self.name


def check_list(name: str) -> str:
    """The name, where a list can be called so: it stands in headers, URLs and commands.

    Raises:
        ListNameError: the name cannot be used.
    """
    plain = name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    bounds = name[:1].isalnum() and name[-1:].isalnum() and ".." not in name and name == name.lower()
    if not plain or len(name) > MAX_LIST_NAME or not bounds:
        raise ListNameError(
            f"a list's name has 1 to {MAX_LIST_NAME} small letters, digits, '-', '_' or '.', such as autumn-news"
        )
    return name


def check_list_title(title: str) -> str:
    """The title, where a list can have it: it stands in headers.

    Raises:
        ListNameError: the title cannot be used.
    """
    if not title.strip() or len(title) > MAX_LIST_TITLE or not title.isprintable():
        raise ListNameError(f"a list's title has 1 to {MAX_LIST_TITLE} printable characters")
    return title


def list_of(row: Sequence[Any]) -> MailingList:
    """The list of a row of FIND_LIST."""
    ident, name, title, at = row
    return MailingList(ident, name, title, utc(at))


async def write_list(cursor: Cursor, name: str, title: str | None) -> MailingList:
    """Find the list of this name, or make it; a title that is given takes the place of the old one.

    Raises:
        ListNameError: there are as many lists as there may be.
    """
    await cursor.execute(FIND_LIST, (name,))
    if (row := await cursor.fetchone()) is not None and title is None:
        return list_of(row)
    if row is None:
        await cursor.execute(_COUNT_LISTS)
        if (await cursor.fetchone())[0] >= MAX_LISTS:
            raise ListNameError(f"there are {MAX_LISTS:,} lists already, which is the limit")
    await cursor.execute(_MAKE_LIST, (name, title))
    await cursor.execute(FIND_LIST, (name,))
    return list_of(await cursor.fetchone())


async def list_names(cursor: Cursor, ids: Collection[int]) -> dict[int, str]:
    """The names of these lists, by their ids; an older backup may have brought a link's list to nothing."""
    await cursor.execute(_READ_NAMES, (tuple(ids) or (EVERYTHING,),))
    lost = {list_id: f"list {list_id}" for list_id in ids}
    return {**lost, EVERYTHING: EVERYTHING_NAME, **dict(await cursor.fetchall())}
