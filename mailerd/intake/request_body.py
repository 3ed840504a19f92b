"""Reads the body of a request within bounds of size and time, and its JSON strictly: nothing odd is guessed."""

import asyncio
import gc
import json
import re
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any, Final, NoReturn

from aiohttp import HttpVersion11, web

from mailerd.http.auth import LARGE_BODY, KeyShare
from mailerd.http.errors import MAX_COUNTED, MAX_FIELD_PATH, ApiError, FieldErrors, invalid
from mailerd.http.responses import too_large
from mailerd.store.api_keys import ApiKey

# Finds bodies of so many values that reading them would block all other requests, before they are read.
#
# Python's JSON reader holds the interpreter's lock until it comes to the end of an object, and a value takes up to
# thirty
# times as much memory as its text. So what counts is not the bytes of a body: it is its values, and how many of them
# come
# in a row without an object's end among them.

MAX_VALUES: Final = 3_000_000
"""Values of one body: 100,000 recipients with 25 variables each."""
MAX_RUN: Final = 300_000
"""Values in a row: some 20 ms."""
_PIECE: Final = 1 << 20


def too_many_values(raw: bytearray) -> str:
    """What a body has too many of, or "".

    A rough count, texts included, comes first: a millisecond a megabyte. The exact count follows only when the rough
    one is too high.
    """
    return _exactly(raw) if _may_be_too_many(raw) else ""


def _may_be_too_many(raw: bytearray) -> bool:
    """The rough count, in pieces, so that other threads can run."""
    total = run = 0
    for start in range(0, len(raw), _PIECE):
        end = min(start + _PIECE, len(raw))
        here = _values(raw, start, end)
        total += here
        last = raw.rfind(b"}", start, end)
        run = run + here if last < 0 else max(here, run + _values(raw, start, raw.find(b"}", start, end)))
        if run > MAX_RUN or total > MAX_VALUES:
            return True
        if last >= 0:
            run = _values(raw, last, end)
    return False


def _exactly(raw: bytearray) -> str:
    """The exact count, without texts; it ends as soon as there are too many."""
    tally, at = _Tally(), 0
    while not tally.over and (quote := raw.find(b'"', at)) >= 0:
        tally.take(raw, at, quote)
        at = _behind_text(raw, quote)
    if not tally.over:
        tally.take(raw, at, len(raw))
    return tally.over


class _Tally:
    """The number of values, and of those since the last end of an object."""

    def __init__(self) -> None:
        self._total = 0
        self._run = 0
        self.over = ""

    def take(self, raw: bytearray, start: int, end: int) -> None:
        """Count the values in a part that holds no text."""
        while (brace := raw.find(b"}", start, end)) >= 0:
            self._add(_values(raw, start, brace))
            if self.over:
                return
            self._run, start = 0, brace + 1
        self._add(_values(raw, start, end))

    def _add(self, values: int) -> None:
        self._total += values
        self._run += values
        if self._run > MAX_RUN:
            self.over = f"more than {MAX_RUN:,} values in a row, without an object that ends among them"
        elif self._total > MAX_VALUES:
            self.over = f"more than {MAX_VALUES:,} values"


def _behind_text(raw: bytearray, quote: int) -> int:
    """The index after the text that begins at `quote`."""
    end = quote
    while (end := raw.find(b'"', end + 1)) >= 0:
        slashes = end - 1
        while raw[slashes] == ord("\\"):
            slashes -= 1
        if (end - slashes) % 2:
            return end + 1
    return len(raw)


def _values(raw: bytearray, start: int, end: int) -> int:
    return raw.count(b",", start, end) + raw.count(b"[", start, end) + raw.count(b"{", start, end)


class _GcPause:
    """Switches the cyclic garbage collector off while any thread holds it.

    JSON makes no cycles, and each collection would walk the whole growing tree with the interpreter's lock held.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = 0
        self._was_on = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._held:
                self._was_on = gc.isenabled()
                gc.disable()
            self._held += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._held -= 1
            if not self._held and self._was_on:
                gc.enable()


GC_PAUSED: Final = _GcPause()


# Reads a JSON object strictly: refuses, with its place, what two programs might read in two ways.

MAX_DEPTH: Final = 32
"""Levels of lists and objects inside a variable."""
MAX_VARIABLES: Final = 100_000
"""Values of one letter's variables, however they are nested: each is written as JSON in one go."""

# Raw NULs and raw surrogates cannot come this far (JSON and UTF-8 refuse them): only escapes can bring them.
_SUSPECT: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_ASTRAL: Final = re.compile(
    rb"(?:\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})+"
)
_ASTRAL_LEADS: Final = range(0xF0, 0xF5)
_CONTINUES: Final = re.compile(rb"[\x80-\xbf]")
_Way = tuple[Any, str | int]
"""The place of a value: the place of the object or list that holds it (or None), and the last step."""
_HOLDERS: Final = frozenset({dict, list})
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode(variables: dict[str, Any]) -> str:
    """Variables as they are stored.

    Raises:
        ValueError: a number has no JSON form (1e999 is read as infinity).
    """
    return _ENCODE(variables)


def parse(raw: bytearray) -> dict[str, Any]:
    """The object that a body holds; `raw` is emptied, since body, text and tree together would take too much memory.

    Raises:
        ApiError: 422, saying what is wrong and where.
    """
    if over := too_many_values(raw):
        raise _invalid_json(f"it has {over}")
    text = _decode(raw)
    twice: list[tuple[dict[str, Any], str]] = []
    with GC_PAUSED:
        tree = _load(text, twice)
        if not isinstance(tree, dict):
            raise _invalid_json("it must be an object")
        if twice or _SUSPECT.search(text):
            errors = _invalid_strings(tree, twice)
            if errors.total:
                raise invalid(errors)
        return tree


def _load(text: str, twice: list[tuple[dict[str, Any], str]]) -> object:
    """The tree; objects with a name given twice are added to `twice`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # Called for every object; being Python, it also lets other threads run in between.
        found = dict(pairs)
        if len(found) != len(pairs) and len(twice) <= MAX_COUNTED:
            twice.extend((found, name) for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        return found

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _invalid_json(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise _invalid_json("it is nested too deeply") from None
    except ValueError as error:
        # Python reads no whole number of more digits than that (https://docs.python.org/3/library/stdtypes.html#int-max-str-digits).
        digits = sys.get_int_max_str_digits()
        raise _invalid_json(
            f"a number has more than {digits:,} digits" if "digits" in str(error) else str(error)
        ) from None


def why_too_large(variables: dict[str, Any]) -> str:
    """Why variables are too many or too deep for a letter, or ""; plain values cost next to nothing."""
    if len(variables) <= MAX_VARIABLES and not any(type(each) in _HOLDERS for each in variables.values()):
        return ""
    left, level = MAX_VARIABLES, list[dict[str, Any] | list[Any]]([variables])
    for _ in range(MAX_DEPTH):
        left -= sum(map(len, level))
        if left < 0:
            return f"has more than {MAX_VARIABLES:,} values"
        level = [
            each
            for one in level
            for each in (one.values() if isinstance(one, dict) else one)
            if isinstance(each, dict | list)
        ]
        if not level:
            return ""
    return "is nested too deeply"


def _decode(raw: bytearray) -> str:
    """The text; `raw` is emptied. What lies beyond U+FFFF becomes its JSON escape.

    For a single emoji Python would keep the whole text in four bytes a character.
    """
    if any(raw.find(lead) >= 0 for lead in _ASTRAL_LEADS):
        raw[:] = _escape(raw)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise _invalid_json(f"it is not UTF-8, near byte {error.start:,}") from None
    finally:
        raw.clear()


def _escape(raw: bytearray) -> bytearray:
    """In pieces that let other threads run; no piece ends within a character, unless that is broken anyway."""
    plain, start = bytearray(), 0
    while start < len(raw):
        end = start + _PIECE
        while _CONTINUES.match(raw, end):
            end += 1
        plain += _ASTRAL.sub(lambda match: json.dumps(match[0].decode())[1:-1].encode(), raw[start:end])
        start = end
    return plain


def _invalid_json(why: str) -> ApiError:
    return ApiError(422, "invalid_json", f"the body is not usable JSON: {why}; nothing was stored")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _invalid_strings(tree: dict[str, Any], twice: list[tuple[dict[str, Any], str]]) -> FieldErrors:
    """Keys given twice, NULs and lone surrogates, by their paths; a loop over a stack, since the tree may be deep.

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
                _note(errors, (way, name), "is given twice")
            for name in value:
                why = _why_invalid(name)
                _note(errors, (way, name), why and f"the name {why}")
        stack.extend(((way, step), each) for step, each in inner if isinstance(each, str | list | dict))
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
        return "contains a NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "contains half a surrogate pair, which is no character"
    return ""


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


BODY_TIMEOUT: Final = 60.0
"""Seconds for a whole body."""


class BodyReader:
    """Reads bodies.

    `setting` is the name of the setting that raises the limit, if there is one. `large`: places for bodies above
    LARGE_BODY, which take up to eight times their size while they become rows. Such a body is read once it has a place.
    """

    def __init__(self, *, max_body: int, setting: str = "", large: KeyShare | None = None) -> None:
        self._max_body = max_body
        self._setting = setting
        self._large = large

    @asynccontextmanager
    async def read(self, request: web.Request, key: ApiKey) -> AsyncIterator[bytearray]:
        """The body; a large one holds its place until the context ends.

        Raises:
            ApiError: 413 too large, 408 too slow, 415 compressed, 400 cut off, 429 or 503 too many large ones.
        """
        length = request.content_length
        if length is not None and length > self._max_body:
            raise self._too_large()
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ApiError(415, "unsupported_encoding", "send the body uncompressed; nothing was stored")
        body = bytearray()
        # A body without Content-Length may be small, and small bodies need no place.
        if (length or 0) <= LARGE_BODY and await self._read(request, body, most=LARGE_BODY):
            yield body
            return
        async with self._large.place(key) if self._large else nullcontext():
            await self._read(request, body, most=self._max_body)
            yield body

    async def _read(self, request: web.Request, body: bytearray, *, most: int) -> bool:
        """Read until the end, or until there are more than `most` bytes; returns whether the end has come."""
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                if not body:
                    _continue(request)
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > self._max_body:
                        raise self._too_large()
                    if len(body) > most:
                        return False
        except TimeoutError:
            raise ApiError(
                408, "timeout", f"the body did not come within {BODY_TIMEOUT:g} s; nothing was stored"
            ) from None
        except (web.RequestPayloadError, ConnectionError) as error:
            raise ApiError(400, "cut_off", f"the body was cut off: {error}; nothing was stored") from error
        return True

    def _too_large(self) -> ApiError:
        setting = f" ({self._setting})" if self._setting else ""
        return too_large(f"the body is above the limit of {self._max_body:,} bytes{setting}")


def _continue(request: web.Request) -> None:
    """Ask for the body if the client waits for that (RFC 9110, section 10.1.1)."""
    waits = request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11
    if waits and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
