"""How answers are written: as JSON or CSV, errors, long ones in turns, each within a bound of
time.
"""

import asyncio
import csv
import io
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import Field

from mailerd.clock import Clock
from mailerd.core.i18n import N_, t
from mailerd.core.suppression import without_formula
from mailerd.http.errors import MAX_DETAILS, MAX_FIELD_PATH, ApiError, cut, unstored
from mailerd.locale import language, say
from mailerd.mail.templates import RendererError
from mailerd.model.fields import ResponseModel, Sentence
from mailerd.store.db.connection import rfc3339
from mailerd.store.read.jobs import Jobs
from mailerd.store.read.recipients import Recipient

RETRY_AFTER: Final = 5
"""Seconds, for Retry-After: the time in which a database that restarts is usually back."""


CODES: Final = {
    "bad_request": N_("the request is malformed"),
    "busy": N_("other keys use all slots of this kind; retry after `Retry-After` seconds"),
    "call_not_allowed": N_("the key does not have this permission"),
    "conflict": N_(
        "the request conflicts with the current state: no longer possible for this job, or the name exists already"
    ),
    "contents_deleted": N_("what the message was made of is no longer stored"),
    "cut_off": N_("the body is incomplete"),
    "database_away": N_(
        "the database does not respond; retry after `Retry-After` seconds with the same `Idempotency-Key`"
    ),
    "events_deleted": N_(
        "events after this ID were deleted because of their age; `message` says where to continue"
    ),
    "expectation_failed": N_("the header Expect is not 100-continue"),
    "idempotency_conflict": N_("this `Idempotency-Key` was used with another body"),
    "in_folder": N_("a folder in `templates.folder` has this name; change its files"),
    "internal": N_("an internal error; search the log for `request_id`"),
    "invalid_json": N_("the body is not valid JSON"),
    "invalid_request": N_("fields or parameters are invalid; `details` names each"),
    "method_not_allowed": N_("this path needs another method; see `Allow`"),
    "not_found": N_("not found, or not visible to this key"),
    "not_ready": N_("no job can be stored now; `reason` says why"),
    "renderer_unavailable": N_(
        "templates cannot be rendered now; retry after `Retry-After` seconds"
    ),
    "sender_not_allowed": N_("the key may not send from this mailbox"),
    "share_used_up": N_(
        "the key already uses its share of this daemon; retry after `Retry-After` seconds"
    ),
    "timeout": N_("the body did not arrive in time"),
    "too_costly": N_("the template takes too long for this many recipients"),
    "too_fast": N_(
        "the key's rate limit, or too many invalid keys from this address; retry after `Retry-After` seconds"
    ),
    "too_large": N_(
        "the body is too large; a single message that is too large is an `invalid_request`"
    ),
    "unauthorized": N_("the API key is missing, unknown or revoked"),
    "unknown_host": N_("mailerd does not serve the name in `Host`; see `web.hosts`"),
    "unknown_position": N_(
        "events that you received are lost: the database was restored, or another server took over"
    ),
    "unsupported_encoding": N_("the body is compressed"),
    "unsupported_media_type": N_("`Content-Type` says that the body is not JSON"),
    "version_moved": N_(
        "another version of the template is published than `expect`; read it and decide again"
    ),
}
"""Every `code` of an error, and what it means."""


class DetailOut(ResponseModel):
    """One error."""

    field: Annotated[str, Field(description="its path in the request, such as recipients[3].email")]
    message: Sentence


class FailureOut(ResponseModel):
    """The error."""

    code: Annotated[str, Field(examples=["invalid_request"])]
    message: Sentence
    details: Annotated[
        list[DetailOut], Field(description="all errors, at most 100; `message` has their number")
    ]
    request_id: Annotated[str, Field(description="with 5xx: the request's ID in the log")] = ""


class ErrorOut(ResponseModel):
    """Every response that is not a success."""

    error: FailureOut


def not_found(what: str) -> ApiError:
    """The 404."""
    return ApiError(404, "not_found", what)


def too_large(message: str) -> ApiError:
    """The 413."""
    return ApiError(413, "too_large", unstored(message))


def away(message: str) -> ApiError:
    """The 503 with Retry-After."""
    return ApiError(503, "database_away", message, retry_after=RETRY_AFTER)


def cannot_render(error: RendererError) -> ApiError:
    """The 503 of a post whose messages no process can render now."""
    return ApiError(503, "renderer_unavailable", unstored(str(error)), retry_after=RETRY_AFTER)


async def no_such_path(request: web.Request) -> web.StreamResponse:
    """The 404, or the 405 where another method is served at this path.

    A route of our own, since aiohttp's 404 has an own answer to `Expect`, which breaks where the
    header is no text.
    """
    methods = set[str]()
    for resource in request.app.router.resources():
        _, allowed = await resource.resolve(request)
        methods |= allowed
    methods.discard("*")
    if methods:
        raise web.HTTPMethodNotAllowed(request.method, sorted(methods))
    raise web.HTTPNotFound


REQUEST_ID: Final = "X-Request-Id"
REQUEST: Final = ContextVar[str]("request")
"""The id of the request that is being answered."""
CHALLENGE: Final = 'Bearer realm="mailerd"'
"""The WWW-Authenticate of a 401 (RFC 6750, section 3)."""
WRITE_TIMEOUT: Final = 60.0
"""Seconds for a client to read its answer."""
MAX_MESSAGE: Final = 1_000
"""Characters of an error's message; each of its details has its own bound."""
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True)
class RateLimit:
    """What is left of a key's requests: `left` are to be had now.

    `seconds`: until all are, or, at 0, until one is.
    """

    policy: str
    per_minute: int
    left: int
    seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """The headers of draft-ietf-httpapi-ratelimit-headers-10."""
        return {
            "RateLimit-Policy": f'"{self.policy}";q={self.per_minute};w=60',
            "RateLimit": f'"{self.policy}";r={self.left};t={self.seconds}',
        }


RATE_LIMIT: Final = ContextVar[RateLimit | None]("rate limit", default=None)
"""What is left to the key of the request that is being answered; None: it has no limit, or there is
no key.
"""


class UnreadError(ConnectionError):
    """A client does not read its answer."""


def json_response(
    body: ResponseModel, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A model as an answer, whose last line ends as those of a terminal do."""
    return web.Response(
        text=to_json(body) + "\n", status=status, headers=headers, content_type="application/json"
    )


def to_json(body: ResponseModel) -> str:
    """A model as JSON; a field that was not given and has a default is left out."""
    return body.model_dump_json(exclude_unset=True)


def error_response(error: ApiError) -> web.Response:
    """An error as an answer."""
    details = [
        DetailOut(field=it.field[:MAX_FIELD_PATH], message=it.message)
        for it in error.errors[:MAX_DETAILS]
    ]
    failure = FailureOut(code=error.code, message=cut(str(error), MAX_MESSAGE), details=details)
    if error.status >= 500:  # noqa: PLR2004 - the server's own errors begin there (RFC 9110, section 15.6)
        failure.request_id = REQUEST.get()
    response = json_response(ErrorOut(error=failure), status=error.status, headers=error.headers)
    if error.status == 408:  # noqa: PLR2004 - the rest of the body may still come: no request can follow it
        response.force_close()
    return response


def with_headers[R: web.StreamResponse](response: R) -> R:
    """The answer with the headers that every answer has."""
    response.headers[REQUEST_ID] = REQUEST.get()
    if language() == "zh":
        response.headers.setdefault("Content-Language", "zh")
    if limit := RATE_LIMIT.get():
        response.headers.update(limit.headers)
    if response.status == HTTPStatus.UNAUTHORIZED:
        response.headers.setdefault("WWW-Authenticate", CHALLENGE)
    response.headers["Server"] = (
        "mailerd"  # aiohttp's own names the versions of Python and of itself
    )
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


async def write(response: web.StreamResponse, data: bytes, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
    """Write a piece of a long answer within `timeout` seconds (WRITE_TIMEOUT); aiohttp itself has
    no bound.

    Raises:
        UnreadError: the client reads nothing any more.
        ConnectionError: it has gone.
    """
    timeout = timeout or WRITE_TIMEOUT
    try:
        async with asyncio.timeout(timeout):
            await response.write(data)
    except TimeoutError:
        raise UnreadError(
            t("the response was not read within {timeout:g} s", timeout=timeout)
        ) from None


async def write_whole(response: web.StreamResponse, request: web.Request) -> None:
    """Write a whole answer within the same bound, and raise the same errors."""
    try:
        async with asyncio.timeout(WRITE_TIMEOUT):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        raise UnreadError(
            t("the response was not read within {write_timeout:g} s", write_timeout=WRITE_TIMEOUT)
        ) from None


def json_size(value: object) -> int:
    """Bytes that a value takes in an answer."""
    return len(_ENCODE(value).encode("utf-8", "surrogatepass"))


def shortened(text: str, *, most: int) -> str:
    """The beginning of a text that takes at most so many bytes in an answer."""
    text = text[:most]
    while (size := json_size(text)) > most:
        text = text[: len(text) * most // size - 1] if len(text) * most // size > 1 else ""
    return text


# A table as CSV, page by page, so that neither side holds all of it in memory.

Rows = Sequence[Sequence[object]]


async def write_csv(
    request: web.Request, pages: AsyncGenerator[Rows], *, columns: Sequence[str], filename: str
) -> web.StreamResponse:
    """Answer with the rows of all pages, which take turns of a RowPace.

    An error of the first page is raised before anything is written.

    Raises:
        UnreadError: the client reads nothing any more.
        ConnectionError: it has gone.
    """
    async with aclosing(pages):
        return await _write_pages(request, pages, columns, filename)


async def _write_pages(
    request: web.Request, pages: AsyncGenerator[Rows], columns: Sequence[str], filename: str
) -> web.StreamResponse:
    page = await _next(pages)
    response = web.StreamResponse(
        headers={"Content-Disposition": f'attachment; filename="{filename}"'}
    )
    response.content_type, response.charset = "text/csv", "utf-8"
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    await write(response, csv_lines([columns]))
    while page:
        await write(response, csv_lines(page))
        page = await _next(pages)
    await response.write_eof()
    return response


async def _next(pages: AsyncGenerator[Rows]) -> Rows:
    """The next page, empty after the last; `anext` with a default raises SystemError on Python
    3.12.1.
    """
    async for page in pages:
        return page
    return ()


def csv_lines(rows: Rows) -> bytes:
    """Rows as RFC 4180 has them; a text that a spreadsheet would run as a formula gets an
    apostrophe (OWASP).
    """
    out = io.StringIO()
    writer = csv.writer(out)
    for row in rows:
        writer.writerow([without_formula(it) if isinstance(it, str) else it for it in row])
    return out.getvalue().encode()


# Long pages and downloads: read and encoded in short turns of the event loop, so that no other
# request waits long.

ROWS_AT_ONCE: Final = 100
"""Rows that are read and encoded in one turn of the loop, 2 ms of it: a post of another key waits
for dozens.
"""
TURN_INTERVAL: Final = 0.01
"""Seconds from the beginning of one such turn to that of the next, of all keys together: 10,000
rows a second.
"""
LONGEST_TURN: Final = 0.002
"""Seconds after which the encoding of some rows waits for another turn: each sentence takes half of
one in Chinese.
"""


class RowPace:
    """Spreads what is read of long tables over time, for all keys together: ROWS_AT_ONCE every
    TURN_INTERVAL.

    Rows become text in the event loop. Without rests a single fast reader takes all of its time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next = 0.0
        """When the next turn may begin, in monotonic seconds."""

    async def turn(self) -> None:
        """Wait until another ROWS_AT_ONCE may be read."""
        now = self._clock.monotonic()
        begins = max(now, self._next)
        self._next = begins + TURN_INTERVAL
        await self._clock.sleep(begins - now)

    async def read[T](
        self, page: Callable[[T | None, int], Awaitable[Sequence[T]]], *, most: int
    ) -> list[T]:
        """Rows in as many turns as it takes; `page` reads so many of them behind a row, or from the
        first on.
        """
        found = list[T]()
        while (left := most - len(found)) > 0:
            await self.turn()
            # the last row says only that there are more
            wanted = left if left <= ROWS_AT_ONCE + 1 else ROWS_AT_ONCE
            rows = await page(found[-1] if found else None, wanted)
            found += rows
            if len(rows) < wanted:
                break
        return found

    async def encode[T](self, rows: Sequence[T], encode: Callable[[T], str]) -> list[str]:
        """Each row as text, in further turns where it takes long."""
        done, began = list[str](), self._clock.monotonic()
        for row in rows:
            if self._clock.monotonic() - began > LONGEST_TURN:
                await self.turn()
                began = self._clock.monotonic()
            done.append(encode(row))
        return done


async def page_response(body: ResponseModel, name: str, pace: RowPace) -> web.Response:
    """A model as an answer, as `json_response` makes it; the list `name` of it is long, and encoded
    in turns.
    """
    rows: Sequence[ResponseModel] = getattr(body, name)
    encoded = await pace.encode(rows, to_json)
    begin, there, end = to_json(body.model_copy(update={name: []})).partition(f'"{name}":[')
    return web.Response(
        text="".join([begin, there, ",".join(encoded), end, "\n"]), content_type="application/json"
    )


RESULT_COLUMNS: Final = (
    "index",
    "id",
    "email",
    "name",
    "status",
    "attempts",
    "error",
    "message_id",
    "proof",
    "due_at",
    "sent_at",
    "updated_at",
    "result",
    "result_kind",
    "result_code",
    "result_reason",
    "result_at",
    "metadata",
)


async def write_results(
    request: web.Request,
    job_id: str,
    jobs: Jobs,
    *,
    pace: RowPace,
    which: Mapping[str, Any],
    part: str = "",
) -> web.StreamResponse:
    """Answer with the results of a job that the caller may see; `which`: what of it
    `Jobs.recipients` is asked for.
    """

    async def pages() -> AsyncGenerator[Rows]:
        after = -1
        while page := await jobs.recipients(job_id, after=after, limit=ROWS_AT_ONCE, **which):
            yield [_row(each) for each in page]
            after = page[-1].index
            await pace.turn()

    return await write_csv(
        request, pages(), columns=RESULT_COLUMNS, filename=f"{job_id}{part and '-'}{part}.csv"
    )


def _row(row: Recipient) -> tuple[object, ...]:
    moments = (rfc3339(row.due_at), row.sent_at and rfc3339(row.sent_at), rfc3339(row.updated_at))
    known = row.result
    result = (
        (known.state.value, known.kind, known.code, known.reason, rfc3339(known.at))
        if known
        else (None,) * 5
    )
    said = (row.error and say(row.error), row.message_id, row.proof)
    metadata = _ENCODE(row.metadata) if row.metadata else None
    return (
        row.index,
        row.id,
        row.email,
        row.name,
        row.status.value,
        row.attempts,
        *said,
        *moments,
        *result,
        metadata,
    )
