"""Reads what a browser has sent: bounded in size and time; a table of people becomes a job."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import BodyPartReader, web

from mailerd.config import IntakeSettings
from mailerd.core.i18n import Text, t
from mailerd.http.errors import ApiError
from mailerd.mail.recipient_table import read_recipients
from mailerd.mail.spreadsheet import Sheet, SpreadsheetError

# Makes the job of a table, as JSON, row by row, so that no table takes more memory than a job may.

_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode
"""Sorted, so that a table whose columns stand in another order is the same job, byte for byte."""


@dataclass(frozen=True)
class TableJob:
    """A job that can be posted."""

    body: bytearray
    """The JSON that the API takes."""
    once: str
    """Its idempotency key: the same table with the same version of its template has the same key."""
    lines: list[int]
    """The line of the table on which each recipient ends."""


def make_job(
    sheet: Sheet, fields: dict[str, str], *, name: str, dry_run: bool, version: str, limits: IntakeSettings
) -> TableJob:
    """The job of a table that is called `name`; it takes seconds, so a thread does it.

    `fields`: those of the job beside its recipients. `version`: the template's. `limits`: what the API takes.

    Raises:
        SpreadsheetError: the table cannot be used, or its job would be too large.
    """
    lines = list[int]()
    body = bytearray(_ENCODE(fields)[:-1].encode() + b', "recipients": [')
    table = read_recipients(sheet, name)
    for line, recipient in zip(table.rows, table.recipients, strict=True):
        body += (b", " if lines else b"") + _ENCODE(recipient).encode()
        lines.append(line)
        if len(lines) > limits.max_recipients:
            raise SpreadsheetError(
                t("{table}: more than {most:,} recipients, the limit of intake.max_recipients. Split the table.",
                  table=name, most=limits.max_recipients)
            )  # fmt: skip
        if len(body) > limits.max_body:
            raise SpreadsheetError(
                t("{table}: the job is larger than {most:,} bytes, the limit of intake.max_body. Split the table.",
                  table=name, most=limits.max_body)
            )  # fmt: skip
    digest = sha256(body)
    digest.update(version.encode())
    body += b'], "dry_run": true}' if dry_run else b'], "dry_run": false}'
    return TableJob(body, f"console-{digest.hexdigest()}", lines)


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


@dataclass(frozen=True)
class Form:
    """The fields of a form, in their order; a file is its bytes."""

    fields: Sequence[tuple[str, str | bytes]]

    def text(self, name: str) -> str:
        """The first text of a name, without the blanks around it; "" where there is none: a file is no text."""
        return next(iter(self.all(name)), "").strip()

    def content(self, name: str) -> bytes:
        """The first content of a name that is a file, or was to be left as it came."""
        return next((value for field, value in self.fields if field == name and isinstance(value, bytes)), b"")

    def all(self, name: str) -> list[str]:
        """Every text of a name."""
        return [value for field, value in self.fields if field == name and isinstance(value, str)]

    def texts(self) -> dict[str, str]:
        """The first text of each name."""
        return {field: value.strip() for field, value in reversed(self.fields) if isinstance(value, str)}


def read_number[N: (int, float)](text: str, *, least: N, most: N) -> N:
    """The number of a field, of the kind that its bounds are of.

    Raises:
        ValueError: it is none, or beyond them.
    """
    value = type(most)(text)
    if not least <= value <= most:
        raise ValueError(text)
    return value


async def read_form(request: web.Request, *, most: int = MAX_FORM, large: Collection[str] = ()) -> Form:
    """The fields of a form. `large`: those that are left as they came, since they may be large.

    Raises:
        ApiError: it is too large, too slow, or cannot be read.
    """
    try:
        async with asyncio.timeout(FORM_TIMEOUT):
            return Form([
                (name, value if name in large or is_file else value.decode())
                async for name, value, is_file in _fields(request, most)
            ])  # fmt: skip
    except TimeoutError:
        raise ApiError(408, "timeout", _too_slow(FORM_TIMEOUT)) from None
    except web.HTTPRequestEntityTooLarge:
        raise ApiError(413, "too_large", _too_large(most)) from None
    except ConnectionError as error:
        raise _cut_off() from error
    except Exception as error:
        raise ApiError(400, "bad_request", _UNREADABLE) from error


async def read_login(request: web.Request) -> Form:
    """The fields of the sign-in form: few and small, since a stranger sends them.

    Raises:
        ApiError: it is too large, too slow, or cannot be read.
    """
    body = bytearray()
    if (request.charset or "utf-8").lower() != "utf-8":
        raise ApiError(400, "bad_request", _UNREADABLE)
    try:
        async with asyncio.timeout(LOGIN_TIMEOUT):
            while len(body) <= MAX_LOGIN >= (request.content_length or 0):
                if not (piece := await request.content.read(MAX_LOGIN)):
                    fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_LOGIN_FIELDS)
                    return Form(fields)
                body += piece
    except TimeoutError:
        raise ApiError(408, "timeout", _too_slow(LOGIN_TIMEOUT)) from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise _cut_off() from error
    except ValueError as error:
        raise ApiError(400, "bad_request", _UNREADABLE) from error
    raise ApiError(413, "too_large", _too_large(MAX_LOGIN))


def _cut_off() -> ApiError:
    return ApiError(400, "cut_off", t("The connection was lost before the form was complete. Nothing was changed."))


def _too_slow(seconds: float) -> Text:
    return t("The form did not arrive within {seconds:g} s. Nothing was changed.", seconds=seconds)


def _too_large(most: int) -> Text:
    return t("The form is larger than {most:,} bytes. Nothing was changed.", most=most)


_UNREADABLE: Final = t("The form could not be read. Nothing was changed.")


async def _fields(request: web.Request, most: int) -> AsyncIterator[tuple[str, bytes, bool]]:
    """Name and content of each field, and whether it is a file. Any charset but UTF-8 is refused: some take minutes."""
    if request.content_type != "multipart/form-data":  # in one piece, so it has to be small
        if (request.charset or "utf-8").lower() != "utf-8":
            raise ValueError(request.charset)
        for name, value in (await request.clone(client_max_size=min(most, MAX_FORM)).post()).items():
            yield name, str(value).encode(), False
        return
    size = count = 0
    async for part in await request.multipart():
        count += 1
        if not isinstance(part, BodyPartReader) or part.name is None or count > MAX_FIELDS:
            raise ValueError(count)
        content = bytearray()
        while chunk := await part.read_chunk(_CHUNK):
            content += chunk
            size += len(chunk)
            if size > most:
                raise web.HTTPRequestEntityTooLarge(most, size)
        yield part.name, bytes(content), bool(part.filename)
