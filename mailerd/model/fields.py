"""What all models share: the base, the column of a field, and how times, numbers and sentences are
shown.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.json_schema import SkipJsonSchema

from mailerd.core.i18n import Text
from mailerd.locale import say


class Sql:
    """What is selected for a field: `x: Annotated[int, Sql("t.x")]`.

    `read` makes the field's value of what the database gives for each of `sql`. Without it the
    field's type says how: a datetime is made aware, an enumeration is made of its value, NULL is
    None (False for a bool), and all else stays.
    """

    def __init__(self, *sql: str, read: Callable[..., Any] | None = None) -> None:
        self.sql: Final = sql
        self.read: Final = read


class ResponseModel(BaseModel):
    """The base: nothing else is in an answer."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


Moment = Annotated[datetime, Field(examples=["2026-12-01T09:00:00Z"])]
"""Aware UTC; in JSON it ends in Z, with microseconds only where there are any."""
Whole = Annotated[int, Field(ge=0)]
HIDDEN: Final = (Field(exclude=True), SkipJsonSchema())  # type: ignore[type-arg]  # for type checkers it is no class
"""A field that is read, and not answered: `x: Annotated[int, Sql("t.x"), *HIDDEN] = 0`; an answer
can be read back.
"""


def _as_it_is(value: Any, check: ValidatorFunctionWrapHandler) -> str:
    return value if isinstance(value, Text) else str(check(value))


Sentence = Annotated[str, WrapValidator(_as_it_is), PlainSerializer(say)]
"""What people read: a `Text` is said in the language of its request."""
