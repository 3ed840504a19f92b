"""Values in statements: the short way for common ones says exactly what the driver says."""

from typing import Any

import aiomysql
from hypothesis import given
from hypothesis import strategies as st

from mailerd.store.cursor import Cursor


class Speaking:
    """As much of a connection as the driver asks when it writes a value."""

    server_status = 0
    _charset = "utf8mb4"
    escape = aiomysql.Connection.escape
    escape_string = aiomysql.Connection.escape_string


words = st.text(st.sampled_from("aZ09é东١²'\"\\\n\0 _-%")) | st.text()
numbers = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.none() | numbers | words | st.binary() | st.datetimes()


@given(st.lists(values | st.tuples(values, words), max_size=8))
def test_a_value_stands_in_a_statement_as_the_driver_writes_it(given_: list[Any]) -> None:
    ours, drivers = Cursor.__new__(Cursor), aiomysql.Cursor.__new__(aiomysql.Cursor)
    for many in (given_, tuple(given_)):
        assert ours._escape_args(many, Speaking()) == drivers._escape_args(many, Speaking())
    assert ours._escape_args("a'b", Speaking()) == drivers._escape_args("a'b", Speaking())
