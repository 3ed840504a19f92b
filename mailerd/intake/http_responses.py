"""How answers are written: as JSON, with the headers that every answer has, within a bound of time."""

import asyncio
import json
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from aiohttp import web

from mailerd.core.suppression import Reason
from mailerd.intake.errors import MAX_DETAILS, MAX_FIELD_PATH, ApiError
from mailerd.intake.response_models import DetailOut, ErrorOut, FailureOut, ResponseModel
from mailerd.texts import in_chinese, language

REQUEST_ID: Final = "X-Request-Id"
REQUEST: Final = ContextVar[str]("request")
"""The id of the request that is being answered."""
WRITE_TIMEOUT: Final = 60.0
"""Seconds for a client to read its answer."""
MAX_MESSAGE: Final = 1_000
"""Characters of an error's message; each of its details has its own bound."""
SENTENCES: Final = frozenset({"message", "error", "reason", "cause_of_wait", "warnings"})
"""The fields whose values are for people: they are Chinese where Accept-Language asks for it."""
_CODES: Final = frozenset(Reason)
"""What programs read in such a field: the reason of a suppression."""
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class UnreadError(ConnectionError):
    """A client does not read its answer."""


def json_response(body: ResponseModel, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A model as an answer."""
    return web.Response(
        text=in_language(to_json(body)), status=status, headers=headers, content_type="application/json"
    )


def in_language(answer: str) -> str:
    """An answer in JSON whose sentences are in the language of its request; what programs read stays as it is."""
    return answer if language() == "en" else _ENCODE(_in_chinese(json.loads(answer), name=""))


def _in_chinese(value: Any, *, name: str) -> Any:
    match value:
        case dict():
            return {
                key: _in_chinese(each, name="message" if (name, key) == ("forecast", "text") else key)
                for key, each in value.items()
            }
        case list():
            return [_in_chinese(each, name=name) for each in value]
        case str() if name in SENTENCES and value not in _CODES:
            return in_chinese(value)
        case _:
            return value


def to_json(body: ResponseModel) -> str:
    """A model as JSON; a field that was not given and has a default is left out."""
    return body.model_dump_json(exclude_unset=True)


def error_response(error: ApiError) -> web.Response:
    """An error as an answer."""
    details = [DetailOut(field=it.field[:MAX_FIELD_PATH], message=it.message) for it in error.errors[:MAX_DETAILS]]
    failure = FailureOut(code=error.code, message=str(error)[:MAX_MESSAGE], details=details)
    if error.status >= 500:  # noqa: PLR2004 - the server's own errors begin there (RFC 9110, section 15.6)
        failure.request_id = REQUEST.get()
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    response = json_response(ErrorOut(error=failure), status=error.status, headers=headers)
    if error.status == 408:  # noqa: PLR2004 - the rest of the body may still come: no request can follow it
        response.force_close()
    return response


def with_headers[R: web.StreamResponse](response: R) -> R:
    """The answer with the headers that every answer has."""
    response.headers[REQUEST_ID] = REQUEST.get()
    if language() == "zh":
        response.headers.setdefault("Content-Language", "zh")
    response.headers["Server"] = "mailerd"  # aiohttp's own names the versions of Python and of itself
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


async def write(response: web.StreamResponse, data: bytes, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
    """Write a piece of a long answer within `timeout` seconds (WRITE_TIMEOUT); aiohttp itself has no bound.

    Raises:
        UnreadError: the client reads nothing any more.
        ConnectionError: it has gone.
    """
    timeout = timeout or WRITE_TIMEOUT
    try:
        async with asyncio.timeout(timeout):
            await response.write(data)
    except TimeoutError:
        raise UnreadError(f"the answer was not read within {timeout:g} s") from None


async def write_whole(response: web.StreamResponse, request: web.Request) -> None:
    """Write a whole answer within the same bound, and raise the same errors."""
    try:
        async with asyncio.timeout(WRITE_TIMEOUT):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        raise UnreadError(f"the answer was not read within {WRITE_TIMEOUT:g} s") from None


def json_size(value: object) -> int:
    """Bytes that a value takes in an answer."""
    return len(_ENCODE(value).encode("utf-8", "surrogatepass"))


def shortened(text: str, *, most: int) -> str:
    """The beginning of a text that takes at most so many bytes in an answer."""
    text = text[:most]
    while (size := json_size(text)) > most:
        text = text[: len(text) * most // size - 1] if len(text) * most // size > 1 else ""
    return text
