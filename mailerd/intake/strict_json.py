"""Reads a JSON object strictly: refuses, with its place, what two programs might read in two
ways.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any, Final, NoReturn

from mailerd.core.i18n import t
from mailerd.http.errors import (
    MAX_COUNTED,
    MAX_FIELD_PATH,
    ApiError,
    FieldErrors,
    invalid,
    unstored,
)

MAX_DEPTH: Final = 32
"""Levels of lists and objects inside a variable."""
MAX_VARIABLES: Final = 100_000
"""Values of one message's variables, however they are nested: each is written as JSON in one go."""

# Raw NULs and raw surrogates cannot come this far (JSON and UTF-8 refuse them): only escapes can
# bring them.
_SUSPECT: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_Way = tuple[Any, str | int]
"""The place of a value: the place of the object or list that holds it (or None), and the last
step.
"""
_HOLDERS: Final = frozenset({dict, list})
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode(variables: dict[str, Any]) -> str:
    """Variables as they are stored.

    Raises:
        ValueError: a number has no JSON form (1e999 is read as infinity).
    """
    return _ENCODE(variables)


def parse(raw: bytes | bytearray) -> dict[str, Any]:
    """The object that a body holds.

    Raises:
        ApiError: 422, saying what is wrong and where.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise invalid_json(t("it is not UTF-8 (near byte {start:,})", start=error.start)) from None
    twice: list[tuple[dict[str, Any], str]] = []
    tree = _load(text, twice)
    if not isinstance(tree, dict):
        raise invalid_json(t("it must be an object"))
    if twice or _SUSPECT.search(text):
        errors = _invalid_strings(tree, twice)
        if errors.total:
            raise invalid(errors)
    return tree


def _load(text: str, twice: list[tuple[dict[str, Any], str]]) -> object:
    """The tree; objects with a name given twice are added to `twice`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs) and len(twice) <= MAX_COUNTED:
            twice.extend(
                (found, name)
                for name, times in Counter(name for name, _ in pairs).items()
                if times > 1
            )
        return found

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise invalid_json(
            t(
                "line {lineno}, column {colno}: {msg}",
                lineno=error.lineno,
                colno=error.colno,
                msg=error.msg,
            )
        ) from None
    except RecursionError:
        raise invalid_json(t("it is nested too deeply")) from None
    except ValueError as error:
        # Python reads no whole number of more digits than that
        # (https://docs.python.org/3/library/stdtypes.html#int-max-str-digits).
        digits = sys.get_int_max_str_digits()
        raise invalid_json(
            t("a number has more than {digits:,} digits", digits=digits)
            if "digits" in str(error)
            else str(error)
        ) from None


def why_too_large(variables: dict[str, Any]) -> str:
    """Why variables are too many or too deep for a message, or ""; plain values cost next to
    nothing.
    """
    if len(variables) <= MAX_VARIABLES and not any(
        type(each) in _HOLDERS for each in variables.values()
    ):
        return ""
    left, level = MAX_VARIABLES, list[dict[str, Any] | list[Any]]([variables])
    for _ in range(MAX_DEPTH):
        left -= sum(map(len, level))
        if left < 0:
            return t("has more than {max_variables:,} values", max_variables=MAX_VARIABLES)
        level = [
            each
            for one in level
            for each in (one.values() if isinstance(one, dict) else one)
            if isinstance(each, dict | list)
        ]
        if not level:
            return ""
    return t("is nested too deeply")


def invalid_json(why: str) -> ApiError:
    """The 422 of a body that is no JSON, or more of it than can be read."""
    return ApiError(422, "invalid_json", unstored(t("the body is not valid JSON: {why}", why=why)))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(t("{name} is not JSON", name=name))


def _invalid_strings(tree: dict[str, Any], twice: list[tuple[dict[str, Any], str]]) -> FieldErrors:
    """Keys given twice, NULs and lone surrogates, by their paths; a loop over a stack, since the
    tree may be deep.

    A path is made only for an error that is listed: all paths together may be many times the body.
    """
    doubled: dict[int, list[str]] = {}
    for found, name in twice:
        doubled.setdefault(id(found), []).append(name)
    errors, stack = FieldErrors(), list[tuple[_Way | None, object]]([(None, tree)])
    while stack and not errors.are_enough:
        way, value = stack.pop()
        if isinstance(value, str):
            _note(errors, way, _why_invalid(value))
            continue
        if isinstance(value, list):
            inner: Iterable[tuple[str | int, object]] = enumerate(value)
        else:
            assert isinstance(value, dict)  # noqa: S101 - nothing else is put there
            inner = value.items()
            for name in doubled.get(id(value), ()):
                _note(errors, (way, name), t("is given twice"))
            for name in value:
                why = _why_invalid(name)
                _note(errors, (way, name), why and t("the name {why}", why=why))
        stack.extend(
            ((way, step), each) for step, each in inner if isinstance(each, str | list | dict)
        )
    return errors


def _note(errors: FieldErrors, way: _Way | None, why: str) -> None:
    if why:
        errors.add(partial(_path, way), why)


def _path(way: "_Way | None") -> str:
    """A path in words: `recipients[3].variables.a`, cut to what an answer shows."""
    steps: list[str | int] = []
    while way is not None:
        way, step = way
        steps.append(step)
    path = ""
    for step in reversed(steps):
        path += f"[{step}]" if isinstance(step, int) else f".{step[: MAX_FIELD_PATH + 1]}"
        if len(path) > MAX_FIELD_PATH + 1:
            break
    return _printable(path.removeprefix("."))


def _why_invalid(text: str) -> str:
    if "\0" in text:
        return t("contains a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return t("contains half a surrogate pair, which is not a character")
    return ""


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
