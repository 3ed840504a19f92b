"""Rows by the names of their columns: a model says what is selected for each field, and what its
value becomes.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

from mailerd.model.fields import Sql
from mailerd.store.db.connection import utc


class Select[Row]:
    """The columns of a model or dataclass, in the order of its fields.

    A field without a Sql is the column of its name in the table `of`; where there is no `of`, it is
    given to `row`.
    """

    def __init__(self, model: type[Row], *, of: str | None = None) -> None:
        self._model = model
        self._fields: list[tuple[str, slice, Callable[..., Any]]] = []
        sql: list[str] = []
        for name, hint in get_type_hints(model, include_extras=True).items():
            kind, *more = get_args(hint) if get_origin(hint) is Annotated else (hint,)
            given = [it for it in more if isinstance(it, Sql)]
            for column in given or ([Sql(f"{of}.{name}")] if of else []):
                place = slice(len(sql), len(sql) + len(column.sql))
                self._fields.append((name, place, column.read or _reader(kind)))
                sql += column.sql
        self.columns: Final = ", ".join(sql)
        """What is selected: between SELECT and FROM."""

    def row(self, values: Sequence[Any], **others: Any) -> Row:
        """What has these values for `columns`, and these for the other fields."""
        return self._model(
            **{name: read(*values[place]) for name, place, read in self._fields}, **others
        )


def _reader(hint: Any) -> Callable[[Any], Any]:
    """What makes a value of the database one of this type."""
    if hint is bool:
        return bool
    for given in get_args(hint) or (hint,):
        kind = get_args(given)[0] if get_origin(given) is Annotated else given
        if kind is datetime:
            return utc
        if isinstance(kind, type) and issubclass(kind, Enum):
            return partial(_made, kind)
    return _as_it_is


def _made(kind: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else kind(value)


def _as_it_is(value: Any) -> Any:
    return value
