"""Jinja as a letter sees it: plain data in, text out, every operation paid for; nothing of Python can be reached."""

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, pass_context
from jinja2.exceptions import SecurityError, TemplateRuntimeError, UndefinedError
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from mailerd.letters import filters
from mailerd.letters.meter import MAX_BITS, MAX_STEPS, MeteredContext, NullError, TooMuchError
from mailerd.letters.values import Number, bounded, kind, number, present, sequence, text

MAX_TOKENS = 10_000
"""Tokens of one part at most: about 2,500 expressions, which compile in a fraction of a second."""

LOOP = frozenset({"first", "index", "index0", "last", "length", "nextitem", "previtem", "revindex", "revindex0"})
"""What a template may ask of `loop`, besides loop.cycle(…) and loop.changed(…)."""

METHODS: Mapping[str, type] = {
    **dict.fromkeys(("capitalize", "endswith", "lower", "lstrip", "rstrip", "split", "startswith", "strip"), str),
    **dict.fromkeys(("title", "upper"), str),
    **dict.fromkeys(("get", "items", "keys", "values"), dict),
    **dict.fromkeys(("changed", "cycle"), LoopContext),
}
"""Methods that a template may call, and whose they must be. None makes more of its receiver than there was."""


class NothingError(TemplateRuntimeError):
    """There is nothing where the template looks, and no variable is to blame: the text says where."""


class Missing(StrictUndefined):
    """A variable that is not there: its message is its path alone, and what is looked up in it is missing too.

    So `{{ user.name | default("you") }}` works where `user` is missing as a whole; every other use of it raises.
    """

    __slots__ = ()

    def __init__(
        self,
        hint: str | None = None,
        obj: Any = missing,
        name: str | None = None,
        exc: type[TemplateRuntimeError] = UndefinedError,
    ) -> None:
        # With a hint ("there is no previous item") it is not a variable that is missing.
        super().__init__(hint, obj, name, NothingError if hint else exc)

    @property
    def _undefined_message(self) -> str:
        return self._undefined_hint or str(self._undefined_name)


class _Brief(Extension):
    """Refuses a part of too many tokens before it is parsed, because parsing and compiling cost time too."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        for count, token in enumerate(stream):
            if count >= MAX_TOKENS:
                raise TemplateSyntaxError(f"more than {MAX_TOKENS} words and signs; make it shorter", token.lineno)
            yield token


def _guarded(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"{name!r} begins with an underscore; such names are out of reach")


class LetterEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox, narrowed: lookups reach into objects, lists and `loop` only, and nothing can be called.

    Calls are gone before the code is made (`rewrite`); `is_safe_callable` is the second wall behind that.
    """

    context_class = MeteredContext
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def is_safe_callable(self, obj: Any) -> bool:  # noqa: ARG002 - the sandbox's own signature
        """Nothing is."""
        return False

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ARG002 - the sandbox's own signature
        """Nothing is; `getattr` never asks."""
        return False

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`a.b`: an object's key, never a Python attribute, so that a key called "items" can be used."""
        if isinstance(obj, LoopContext):
            return getattr(obj, attribute) if attribute in LOOP else Missing(name=f"loop.{attribute}")
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`a["b"]` or `a[0]`."""
        _guarded(argument)
        if isinstance(obj, dict):
            return obj[argument] if argument in obj else Missing(name=argument)
        if isinstance(obj, Missing):
            return Missing(name=f"{obj._undefined_message}.{argument}")  # noqa: SLF001 - our own class
        if isinstance(obj, list | tuple | str | range) and type(argument) is int:
            return obj[argument] if -len(obj) <= argument < len(obj) else Missing(name=str(argument))
        return Missing(name=str(argument))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """An operation, once it is known to be small."""
        assert isinstance(context, MeteredContext)  # noqa: S101 - context_class says so
        if isinstance(left, str):
            return _with_text(context, left, operator, right)
        if operator == "+" and isinstance(left, list) and isinstance(right, list):
            context.meter.pay(len(left) + len(right))
            return left + right
        return calculate(operator, number(left), number(right))


_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}


def calculate(sign: str, left: Number, right: Number) -> Number:
    """A sum of two numbers; whole ones stay below `MAX_BITS` bits."""
    bounded(left)
    bounded(right)
    if sign != "**":
        return bounded(_ARITHMETIC[sign](left, right))
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > 2 * MAX_BITS:
        raise TooMuchError("makes a number that is too large")
    result: object = left**right
    if not isinstance(result, int | float):
        raise TypeError("a root of a negative number is not a number")
    return bounded(result)


def _with_text(context: MeteredContext, left: str, sign: str, right: Any) -> str:
    match sign:
        case "+":
            if not isinstance(right, str):
                text(right)
                raise TypeError(f"+ joins a text with a text, not with {kind(right)}; ~ joins anything")
            return context.meter.joined([left, right])
        case "*":
            times = number(right)
            context.meter.room_for(len(left) * max(int(times), 0))
            return left * int(times)
        case "%":
            return filters.printf(context, left, *(right if isinstance(right, tuple) else (right,)))
        case _:
            raise TypeError(f"{sign} needs numbers, not a text; the filters int and float make one of it")


def _out(value: Any, path: str) -> Any:
    """The value of `{{ … }}`, refused where it would read like an accident ("Dear None", a Python list)."""
    if type(value) is str or type(value) is int:
        return value
    if value is None:
        raise NullError(path)
    if isinstance(value, Undefined) and path:
        return str(Missing(name=path))  # raises, with the whole path instead of its last step
    return value if isinstance(value, str) else text(value)


@pass_context
def _weighed(context: MeteredContext, value: Any) -> Any:
    """The value, after paying for reading it."""
    context.meter.weigh(value)
    return value


@pass_context
def _each(context: MeteredContext, value: Any, weight: int) -> Any:
    """What a loop goes through; the whole loop is paid for before it starts, because nothing can leave it early."""
    items = sequence(value)
    context.meter.pay(len(items) * weight)
    return items


@pass_context
def _joined(context: MeteredContext, values: list[Any]) -> str:
    return context.meter.joined([text(value) for value in values])


@pass_context
def _range(context: MeteredContext, bounds: list[Any]) -> range:  # noqa: ARG001 - looping pays, not counting
    made = range(*bounds)
    if max(abs(made.start), abs(made.stop)) > MAX_STEPS:
        raise TooMuchError(f"range goes up to {MAX_STEPS}")
    return made


@pass_context
def _called(context: MeteredContext, value: Any, method: str, *arguments: Any) -> Any:
    """`value.method(…)`, for the methods of `METHODS`."""
    if not isinstance(value, METHODS[method]):
        present(value)
        raise TypeError(f"{kind(value)} has no {method}()")
    context.meter.weigh(value)
    for argument in arguments:
        context.meter.weigh(argument)
    if method == "get":
        _guarded(*arguments[:1])
    result = getattr(value, method)(*arguments)
    return list(result) if method in {"items", "keys", "values"} else result


HIDDEN: Mapping[str, Callable[..., Any]] = {
    "_called": _called,
    "_each": _each,
    "_joined": _joined,
    "_out": _out,
    "_range": _range,
    "_weighed": _weighed,
}
"""What `rewrite` puts into the code; a template cannot name these."""


def _made(*, autoescape: bool) -> LetterEnvironment:
    # Not optimized: the optimizer evaluates constant filters while compiling, where no meter runs.
    made = LetterEnvironment(autoescape=autoescape, undefined=Missing, optimized=False, extensions=[_Brief])
    made.filters = {**filters.FILTERS, **HIDDEN}
    made.tests = dict(filters.TESTS)
    made.globals = {}
    return made


PLAIN = _made(autoescape=False)
"""For subjects and text bodies."""
ESCAPED = _made(autoescape=True)
"""For HTML."""
