"""The filters and tests that a template may use, each bounded; what is not in these two tables does not exist."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from jinja2 import Undefined, pass_context
from jinja2.filters import do_replace, do_title, do_truncate
from markupsafe import Markup, escape

from mailerd.letters.meter import MeteredContext
from mailerd.letters.values import Number, bounded, kind, number, present, sequence, text

_PRINTF = re.compile(r"%(?:%|[-+ 0#]{0,3}\d{0,3}(?:\.\d{1,2})?([sdifeEgGxX]))")
_DIGITS = 15


def _of(context: MeteredContext, attribute: str | int | None) -> Callable[[Any], Any]:
    """How to get at a dotted attribute of each item."""
    steps: list[str | int] = []
    if attribute is not None:
        steps = [int(step) if step.isdigit() else step for step in str(attribute).split(".")]

    def get(item: Any) -> Any:
        for step in steps:
            item = context.environment.getitem(item, step)
        return item

    return get


def _all(context: MeteredContext, value: object, attribute: str | int | None = None) -> list[Any]:
    """The items of a list, paid for, or an attribute of each."""
    context.meter.weigh(value)
    get = _of(context, attribute)
    return [get(item) for item in sequence(value)]


def default(value: Any, default_value: Any = "", boolean: Any = False) -> Any:  # noqa: FBT002 - as in Jinja
    """The value, or another where it is missing or null, and with `true` also where it is empty."""
    if isinstance(value, Undefined) or value is None or (boolean and not value):
        return default_value
    return value


def printf(context: MeteredContext, pattern: object, *values: object) -> str:
    """`"%.2f"|format(price)`: widths up to 999, nothing that reaches into a value."""
    source = text(pattern)
    left = _PRINTF.sub("", source)
    if "%" in left:
        raise TypeError(f"{source!r} is not a pattern such as '%s', '%05d' or '%.2f'")
    context.meter.room_for(len(source) + 1000 * len(values) + sum(len(text(value)) for value in values))
    return source % tuple(value if isinstance(value, int | float) else text(value) for value in values)


@pass_context
def _format(context: MeteredContext, value: object, *values: object) -> str:
    return printf(context, value, *values)


def _textual(function: Callable[[str], str]) -> Callable[..., str]:
    """A filter from one text to another of about the same length."""

    @pass_context
    def filter_(context: MeteredContext, value: object) -> str:
        source = text(value)
        context.meter.room_for(len(source))
        return function(source)

    return filter_


@pass_context
def _replace(context: MeteredContext, value: object, old: object, new: object, count: int | None = None) -> str:
    source, before, after = text(value), text(old), text(new)
    context.meter.room_for(len(source) + source.count(before) * len(after))
    return do_replace(context.eval_ctx, source, before, after, None if count is None else int(number(count)))


@pass_context
def _truncate(context: MeteredContext, value: object, length: int = 255, killwords: Any = False, end: str = "…") -> str:  # noqa: FBT002 - as in Jinja
    source, ending = text(value), text(end)
    context.meter.room_for(len(source) + len(ending))
    return do_truncate(context.environment, source, int(number(length)), bool(killwords), ending)


def _trim(value: str) -> str:
    return value.strip()


def _urlencode(value: str) -> str:
    return quote(value.encode(), safe="/")


def _int(value: object, default: int = 0) -> int:
    try:
        return int(bounded(int(value if isinstance(value, int | float) else text(value).strip())))
    except ValueError:
        return default


def _float(value: object, default: float = 0.0) -> float:
    try:
        return float(value if isinstance(value, int | float) else text(value))
    except ValueError:
        return default


def _round(value: object, precision: int = 0, method: str = "common") -> float:
    if not -_DIGITS <= precision <= _DIGITS:
        raise ValueError(f"round takes from -{_DIGITS} to {_DIGITS} digits")
    ways: dict[str, Callable[[float], float]] = {"common": round, "ceil": math.ceil, "floor": math.floor}
    if method not in ways:
        raise ValueError("round goes 'common', 'ceil' or 'floor'")
    if method == "common":
        return float(round(number(value), precision))
    scale = 10.0**precision
    return float(ways[method](number(value) * scale) / scale)


def _length(value: object) -> int:
    return len(value if isinstance(value, str) else sequence(value))


def _end(context: MeteredContext, value: object, index: int) -> Any:
    items = value if isinstance(value, str) else sequence(value)
    return items[index] if items else context.environment.undefined("there is no first or last item in an empty list")


@pass_context
def _first(context: MeteredContext, value: object) -> Any:
    return _end(context, value, 0)


@pass_context
def _last(context: MeteredContext, value: object) -> Any:
    return _end(context, value, -1)


@pass_context
def _join(context: MeteredContext, value: object, d: object = "", attribute: str | int | None = None) -> str:
    return context.meter.joined([text(item) for item in _all(context, value, attribute)], separator=text(d))


@pass_context
def _sort(
    context: MeteredContext,
    value: object,
    reverse: Any = False,  # noqa: FBT002 - as in Jinja
    attribute: str | int | None = None,
) -> list[Any]:
    return sorted(_all(context, value), key=_of(context, attribute), reverse=bool(reverse))


@pass_context
def _list(context: MeteredContext, value: object) -> list[Any]:
    return _all(context, value)


@pass_context
def _reverse(context: MeteredContext, value: object) -> list[Any]:
    return _all(context, value)[::-1]


@pass_context
def _map(context: MeteredContext, value: object, *, attribute: str | int) -> list[Any]:
    return _all(context, value, attribute)


@pass_context
def _unique(context: MeteredContext, value: object, *, attribute: str | int | None = None) -> list[Any]:
    get = _of(context, attribute)
    found: dict[Any, Any] = {}
    for item in _all(context, value):
        found.setdefault(get(item), item)
    return list(found.values())


@pass_context
def _sum(context: MeteredContext, value: object, attribute: str | int | None = None, start: Number = 0) -> Number:
    return bounded(sum((number(item) for item in _all(context, value, attribute)), number(start)))


@pass_context
def _min(context: MeteredContext, value: object, *, attribute: str | int | None = None) -> Any:
    return min(_all(context, value), key=_of(context, attribute))


@pass_context
def _max(context: MeteredContext, value: object, *, attribute: str | int | None = None) -> Any:
    return max(_all(context, value), key=_of(context, attribute))


def _mapping(context: MeteredContext, value: object) -> dict[Any, Any]:
    if not isinstance(value, dict):
        present(value)
        raise TypeError(f"an object is needed here, not {kind(value)}")
    context.meter.weigh(value)
    return value


@pass_context
def _items(context: MeteredContext, value: object) -> list[tuple[Any, Any]]:
    return list(_mapping(context, value).items())


@pass_context
def _dictsort(context: MeteredContext, value: object) -> list[tuple[Any, Any]]:
    return sorted(_mapping(context, value).items(), key=lambda pair: str(pair[0]).lower())


TOTAL: Mapping[str, Callable[..., Any]] = {
    "capitalize": _textual(str.capitalize),
    "e": _textual(escape),
    "escape": _textual(escape),
    "lower": _textual(str.lower),
    "safe": _textual(Markup),
    "string": _textual(str),
    "title": _textual(do_title),
    "trim": _textual(_trim),
    "upper": _textual(str.upper),
}
"""Filters that make a text of every text and every number, and so can never fail on one."""

DEFAULTS = frozenset({"default", "d"})

FILTERS: Mapping[str, Callable[..., Any]] = {
    **TOTAL,
    **dict.fromkeys(DEFAULTS, default),
    "abs": lambda value: abs(number(value)),
    "count": _length,
    "dictsort": _dictsort,
    "first": _first,
    "float": _float,
    "format": _format,
    "int": _int,
    "items": _items,
    "join": _join,
    "last": _last,
    "length": _length,
    "list": _list,
    "map": _map,
    "max": _max,
    "min": _min,
    "replace": _replace,
    "reverse": _reverse,
    "round": _round,
    "sort": _sort,
    "sum": _sum,
    "truncate": _truncate,
    "unique": _unique,
    "urlencode": _textual(_urlencode),
}

TESTS: Mapping[str, Callable[..., bool]] = {
    "defined": lambda value: not isinstance(value, Undefined),
    "undefined": lambda value: isinstance(value, Undefined),
    "none": lambda value: value is None,
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "true": lambda value: value is True,
    "false": lambda value: value is False,
    "mapping": lambda value: isinstance(value, dict),
    "sequence": lambda value: isinstance(value, list | tuple | str | range),
    # `number` first: with a text on the left, % is not a remainder but printf, and '%1000000000d' a bomb.
    "odd": lambda value: number(value) % 2 == 1,
    "even": lambda value: number(value) % 2 == 0,
    "divisibleby": lambda value, by: number(value) % number(by) == 0,
}
