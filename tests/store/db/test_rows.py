"""What is selected for the fields of a dataclass, and what its values become."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from mailerd.model.fields import Moment, ResponseModel, Sql
from mailerd.store.db.rows import Select


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Thing:
    id: Annotated[int, Sql("t.id")]
    seen: int
    """Not a column."""
    sum: Annotated[int, Sql("t.a", "t.b", read=lambda a, b: a + b)]
    at: Annotated[datetime | None, Sql("t.at")]
    colour: Annotated[Colour | None, Sql("t.colour")]
    fine: Annotated[bool, Sql("t.fine")] = False


@dataclass(frozen=True)
class JoinedThing(Thing):
    owner: Annotated[str, Sql("o.name")] = ""
    at: Annotated[datetime | None, Sql("COALESCE(t.at, o.at)")]


class ShownThing(ResponseModel):
    at: Annotated[Moment | None, Sql("t.at")]


NOON = datetime(2026, 3, 4, 12)  # noqa: DTZ001 - as the driver gives it


def test_a_row_is_read_as_its_fields_say() -> None:
    select = Select(Thing)
    assert select.columns == "t.id, t.a, t.b, t.at, t.colour, t.fine"
    assert select.row((7, 1, 2, NOON, "red", 1), seen=3) == Thing(7, 3, 3, NOON.replace(tzinfo=UTC), Colour.RED, True)
    assert select.row((7, 1, 2, None, None, None), seen=0) == Thing(7, 0, 3, None, None, False)


@dataclass(frozen=True)
class Plain:
    id: int
    at: datetime | None
    owner: Annotated[str, Sql("o.name")]


def test_a_field_without_an_expression_is_the_column_of_its_name() -> None:
    select = Select(Plain, of="t")
    assert select.columns == "t.id, t.at, o.name"
    assert select.row((7, NOON, "Ada")) == Plain(7, NOON.replace(tzinfo=UTC), "Ada")


def test_a_time_that_is_shown_is_read_as_one_in_utc() -> None:
    assert Select(ShownThing).row((NOON,)).at == NOON.replace(tzinfo=UTC)


def test_a_field_that_is_declared_again_has_the_columns_of_the_last_declaration() -> None:
    select = Select(JoinedThing)
    assert select.columns == "t.id, t.a, t.b, COALESCE(t.at, o.at), t.colour, t.fine, o.name"
    assert select.row((7, 1, 2, NOON, "red", 1, "Ada"), seen=3).owner == "Ada"
