"""Reads what a browser has sent: bounded in size and time."""

import asyncio
import re
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from aiohttp import web
from multipart import MultipartSegment, PushMultipartParser, parse_options_header

from mailerd.core.i18n import t
from mailerd.http.errors import ApiError
from mailerd.mail.mime import mailbox
from mailerd.operations.inputs import WrongFieldError

MAX_FORM: Final = 64 * 1024
"""Bytes of a form without a table; the longest has a webhook's address."""
MAX_TABLE: Final = 16 * 1024 * 1024
"""Bytes of a form with a table of addresses."""
MAX_FIELDS: Final = 1000
"""Fields of a form; a list of jobs has one for each of them."""
FORM_TIMEOUT: Final = 30.0
"""Seconds for the whole of it to come."""
MAX_LOGIN: Final = 4096
"""Bytes of the sign-in form, which a stranger sends: a key and its field have 60."""
MAX_LOGIN_FIELDS: Final = 4
LOGIN_TIMEOUT: Final = 5.0
"""Seconds for the whole of it to come."""
_CHUNK: Final = 64 * 1024
_AROUND: Final = 256 * 1024
"""Bytes around the contents of a form's parts."""
_MAX_ZONE: Final = 64
"""Characters of a zone's name."""
_ROW_NUMBER: Final = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True)
class Form:
    """The fields of a form, in their order; a file is its bytes."""

    fields: Sequence[tuple[str, str | bytes]]

    def text(self, name: str) -> str:
        """The first text of a name, without the blanks around it; "" where there is none: a file is
        no text.
        """
        return next(iter(self.all(name)), "").strip()

    def content(self, name: str) -> bytes:
        """The first content of a name that is a file, or was to be left as it came."""
        return next(
            (value for field, value in self.fields if field == name and isinstance(value, bytes)),
            b"",
        )

    def all(self, name: str) -> list[str]:
        """Every text of a name."""
        return [value for field, value in self.fields if field == name and isinstance(value, str)]

    def files(self, name: str) -> list[tuple[str, bytes]]:
        """Name and content of each file of a field."""
        contents = (
            value for field, value in self.fields if field == name and isinstance(value, bytes)
        )
        return [*zip(self.all(f"{name}.name"), contents, strict=False)]

    def texts(self) -> dict[str, str]:
        """The first text of each name."""
        return {
            field: value.strip() for field, value in reversed(self.fields) if isinstance(value, str)
        }


def read_number[N: (int, float)](text: str, *, least: N, most: N) -> N:
    """The number of a field, of the kind that its bounds are of.

    Raises:
        ValueError: it is none, or beyond them.
    """
    value = type(most)(text)
    if not least <= value <= most:
        raise ValueError(text)
    return value


def read_local_time(text: str, zone: str) -> datetime:
    """The moment, in UTC, of a date and a time in the zone that a form names.

    Raises:
        ValueError: it is none.
    """
    at = datetime.fromisoformat(text)
    if at.tzinfo:
        raise ValueError(text)
    try:
        return at.replace(tzinfo=ZoneInfo(zone[:_MAX_ZONE] or "UTC")).astimezone(UTC)
    except (OverflowError, OSError, ZoneInfoNotFoundError) as error:
        raise ValueError(text) from error


def read_day(text: str, zone: ZoneInfo) -> datetime | None:
    """When a day of a filter begins in the reader's zone; None: it is none."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def row_number(text: str) -> int | None:
    """The number of a row, or None where the text is none: a BIGINT has 19 digits at most."""
    return int(text) if _ROW_NUMBER.fullmatch(text) else None


def mailboxes(text: str) -> set[str]:
    """The mailboxes of a field that has them with commas between.

    Raises:
        WrongFieldError: one of them is no address.
    """
    try:
        return {mailbox(each.strip()) for each in text.split(",") if each.strip()}
    except ValueError as error:
        raise WrongFieldError(str(error)) from None


async def read_form(
    request: web.Request,
    *,
    most: int = MAX_FORM,
    large: Collection[str] = (),
    within: float = FORM_TIMEOUT,
) -> Form:
    """The fields of a form. `large`: those that are left as they came, since they may be large.

    `within`: seconds.

    Raises:
        ApiError: it is too large, too slow, or cannot be read.
    """
    async with _within(within, most):
        return Form(
            [
                (name, value if name in large or is_file else value.decode())
                async for name, value, is_file in _fields(request, most)
            ]
        )


async def read_login(request: web.Request) -> Form:
    """The fields of the sign-in form: few and small, since a stranger sends them.

    Raises:
        ApiError: it is too large, too slow, or cannot be read.
    """
    async with _within(LOGIN_TIMEOUT, MAX_LOGIN):
        return Form(await _in_one_piece(request, MAX_LOGIN, MAX_LOGIN_FIELDS))


@asynccontextmanager
async def _within(seconds: float, most: int) -> AsyncIterator[None]:
    """Say what is wrong with a form of which at most so many bytes are read, for so many
    seconds.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        text = t(
            "The form did not arrive within {seconds:g} s. Nothing was changed.", seconds=seconds
        )
        raise ApiError(408, "timeout", text) from None
    except web.HTTPRequestEntityTooLarge:
        text = t("The form is larger than {most:,} bytes. Nothing was changed.", most=most)
        raise ApiError(413, "too_large", text) from None
    except (web.RequestPayloadError, ConnectionError) as error:
        text = t("The connection was lost before the form was complete. Nothing was changed.")
        raise ApiError(400, "cut_off", text) from error
    except Exception as error:
        raise ApiError(
            400, "bad_request", t("The form could not be read. Nothing was changed.")
        ) from error


async def _in_one_piece(request: web.Request, most: int, fields: int) -> list[tuple[str, str]]:
    """Name and text of each field of a form without a file.

    Any charset but UTF-8 is refused: some take minutes.
    """
    if (request.charset or "utf-8").lower() != "utf-8":
        raise ValueError(request.charset)
    body = bytearray()
    while max(len(body), request.content_length or 0) <= most:
        if not (piece := await request.content.read(_CHUNK)):
            return parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=fields)
        body += piece
    raise web.HTTPRequestEntityTooLarge(most, len(body))


async def _fields(request: web.Request, most: int) -> AsyncIterator[tuple[str, bytes, bool]]:
    """Name and content of each field, and whether it is a file, whose name is a field of its
    own.
    """
    if request.content_type != "multipart/form-data":
        for name, text in await _in_one_piece(request, min(most, MAX_FORM), MAX_FIELDS):
            yield name, text.encode(), False
        return
    # Not aiohttp's reader: it reads what comes before the first boundary line by line, and blocks
    # the loop.
    parser = PushMultipartParser(_boundary(request), max_segment_count=MAX_FIELDS, strict=True)
    size, part, content = 0, None, bytearray()
    while piece := await request.content.read(_CHUNK):
        size += len(piece)
        for event in parser.parse(piece):
            if isinstance(event, MultipartSegment):
                part, content = event, bytearray()
            elif event:
                content += event
            elif part is not None:
                yield part.name, bytes(content), bool(part.filename)
                if part.filename:
                    yield f"{part.name}.name", part.filename.encode("utf-8", "replace"), False
        if size > most + _AROUND:
            raise web.HTTPRequestEntityTooLarge(most, size)
    parser.close()


def _boundary(request: web.Request) -> str:
    """What separates the parts of a form.

    Raises:
        ValueError: it says none.
    """
    _, options = parse_options_header(request.headers.get("Content-Type", ""))
    if not (boundary := options.get("boundary", "")):
        raise ValueError(options)
    return str(boundary)
