"""Reads what a browser has sent: bounded in size and time."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import BodyPartReader, web

from mailerd.core.i18n import Text, t
from mailerd.http.errors import ApiError

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

    def files(self, name: str) -> list[tuple[str, bytes]]:
        """Name and content of each file of a field."""
        contents = (value for field, value in self.fields if field == name and isinstance(value, bytes))
        return [*zip(self.all(f"{name}.name"), contents, strict=False)]

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


async def read_form(
    request: web.Request, *, most: int = MAX_FORM, large: Collection[str] = (), within: float = FORM_TIMEOUT
) -> Form:
    """The fields of a form. `large`: those that are left as they came, since they may be large. `within`: seconds.

    Raises:
        ApiError: it is too large, too slow, or cannot be read.
    """
    try:
        async with asyncio.timeout(within):
            return Form([
                (name, value if name in large or is_file else value.decode())
                async for name, value, is_file in _fields(request, most)
            ])  # fmt: skip
    except TimeoutError:
        raise ApiError(408, "timeout", _too_slow(within)) from None
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
    """Name and content of each field, and whether it is a file, whose name is a field of its own.

    Any charset but UTF-8 is refused: some take minutes.
    """
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
        if part.filename:
            yield f"{part.name}.name", part.filename.encode("utf-8", "replace"), False
