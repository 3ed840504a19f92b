"""What a value may be where a letter needs a text, a number or a list; null and missing are never any of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Undefined

from mailerd.letters.meter import MAX_BITS, NullError, TooMuchError

Number = int | float


def present(value: object) -> None:
    """Nothing, if there is a value.

    Raises:
        NullError: it is null.
        UndefinedError: it is missing.
    """
    if value is None:
        raise NullError
    if isinstance(value, Undefined):
        str(value)  # StrictUndefined raises for whatever is done with it


def text(value: object) -> str:
    """A value as it would stand in a letter.

    Raises:
        NullError: it is null.
        UndefinedError: it is missing.
        TypeError: it is a list or anything else that has no good form in a letter.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    present(value)
    raise TypeError(f"{kind(value)} has no form in a letter; loop over it, or join it")


def kind(value: object) -> str:
    """What a value is, in the words of JSON."""
    match value:
        case bool():
            return "true or false"
        case str():
            return "a text"
        case int() | float():
            return "a number"
        case list() | tuple() | range():
            return "a list"
        case Mapping():
            return "an object"
        case None:
            return "null"
        case _:
            return "no value"


def number(value: object) -> Number:
    """A value as a number.

    Raises:
        NullError: it is null.
        UndefinedError: it is missing.
        TypeError: it is something else.
    """
    if isinstance(value, int | float):
        return value
    present(value)
    raise TypeError(f"a number is needed here, not {kind(value)}; the filters int and float make one of a text")


def bounded(value: Number) -> Number:
    """The same number.

    Raises:
        TooMuchError: it is a whole number of more than `MAX_BITS` bits, which only an attack has use for.
    """
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise TooMuchError("makes a number that is too large")
    return value


def sequence(value: object) -> Sequence[Any]:
    """A value as something to go through in order; an object gives its keys.

    Raises:
        NullError: it is null.
        UndefinedError: it is missing.
        TypeError: it is something else; a text too, which nobody means to loop over letter by letter.
    """
    if isinstance(value, list | tuple | range):
        return value
    if isinstance(value, dict):
        return list(value)
    present(value)
    raise TypeError(f"a list is needed here, not {kind(value)}")
