"""Values in statements: the short way for common ones says exactly what the driver says."""

import time
from collections.abc import Callable
from typing import Any

import aiomysql
from hypothesis import given
from hypothesis import strategies as st
from pymysql.constants import SERVER_STATUS

from mailerd.store.db.connection import LONG, _literal


class Speaking:
    """As much of a connection as the driver asks when it writes a value."""

    server_status = 0
    _charset = "utf8mb4"
    escape = aiomysql.Connection.escape
    escape_string = aiomysql.Connection.escape_string


words = st.text(st.sampled_from("aZ09é东١²'\"\\\n\0 _-%")) | st.text()
numbers = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.none() | numbers | words | st.binary() | st.datetimes()


class WithoutBackslashes(Speaking):
    """Where the server's sql_mode has NO_BACKSLASH_ESCAPES."""

    server_status = SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES


@given(st.text(st.sampled_from("aZ é东'\"\\\n\r\0\x1a%")) | st.text())
def test_a_long_text_is_escaped_as_the_driver_escapes_it(text: str) -> None:
    long = text + "x" * LONG + text
    for connection in (Speaking(), WithoutBackslashes()):
        assert _literal(connection, long) == connection.escape(long)


def test_a_text_of_many_megabytes_is_escaped_in_a_fraction_of_the_drivers_time() -> None:
    text = "东京 it's" * 500_000
    ours, the_drivers = [], []
    for _ in range(3):
        ours.append(_seconds(lambda: _literal(Speaking(), text)))
        the_drivers.append(_seconds(lambda: Speaking().escape(text)))
    assert min(ours) < min(the_drivers) / 2


def _seconds(work: Callable[[], str]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


@given(values)
def test_a_value_stands_in_a_statement_as_the_driver_writes_it(value: Any) -> None:
    assert _literal(Speaking(), value) == Speaking().escape(value)


@given(st.tuples(values, words))
def test_each_value_of_a_list_stands_there_as_it_would_alone(value: tuple[Any, ...]) -> None:
    """So bytes are called binary: the driver does not do so in a list, and MySQL then takes them for a text."""
    assert _literal(Speaking(), value) == f"({','.join([Speaking().escape(each) for each in value])})"
