"""How a call is made: its request, its answer, its errors, and when it is made again."""

import http.client
import json
import os
import threading
import time
import urllib.error
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.message import Message
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, cast, override
from urllib.parse import urlencode, urlsplit

import aiohttp

from mailerd import __version__
from mailerd.core.i18n import t
from mailerd.errors import MailerdError

PATIENCE: Final = 60.0
"""Seconds within which a call is made again after a failure that may pass."""
FIRST_WAIT: Final = 0.5
"""Seconds before the first repetition, where the answer does not say; each further one waits twice
as long.
"""
LONGEST_WAIT: Final = 10.0
JSON: Final = "application/json"
CSV: Final = "text/csv"
STREAM: Final = "text/event-stream"
_PASSING: Final = frozenset({429, 502, 503, 504})
"""Too fast, or the database is away, or the daemon behind its proxy."""


class ClientError(MailerdError):
    """A call that failed."""

    def __init__(
        self, message: str, *, retry: bool, retry_after: float | None, idempotency_key: str
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry = retry
        """Whether the same call may succeed later."""
        self.retry_after = retry_after
        """Seconds to wait before that, where the answer said so."""
        self.idempotency_key = idempotency_key
        """The key of a post: a client that posts the same with it again makes no second one."""


class NoAnswerError(ClientError):
    """No answer came, so it is not known whether the call was carried out."""


class ApiError(ClientError):
    """The API has refused a call; docs/reference/errors.md lists the codes."""

    def __init__(
        self,
        status: int,
        failure: Mapping[str, Any],
        *,
        retry_after: float | None,
        idempotency_key: str,
    ) -> None:
        message, retry = str(failure.get("message", "")), status in _PASSING
        super().__init__(
            message, retry=retry, retry_after=retry_after, idempotency_key=idempotency_key
        )
        self.status = status
        self.code = str(failure.get("code", f"http_{status}"))
        self.details: list[dict[str, str]] = failure.get("details", [])
        """Each a `field` of the request and a `message`."""
        self.request_id = str(failure.get("request_id", ""))
        """What mailerd's log calls the request, where the status is 5xx."""

    @override
    def __str__(self) -> str:
        faults = "".join(f"\n  {each['field']}: {each['message']}" for each in self.details)
        return f"{self.status} {self.code}: {self.message}{faults}"


@dataclass(frozen=True)
class Call[T]:
    """One request; T is what its answer is. Each attempt has the same bytes and the same key."""

    method: str
    path: str
    body: bytes | None = None
    idempotency_key: str = ""
    kind: str = JSON
    """What the answer is to be."""
    last_event: str = ""
    """The id of the last event that was seen of a stream."""
    repeatable: bool = True
    """Whether it may be made again where it may have been carried out."""
    gone: T | None = None
    """What the answer is where a repetition finds nothing to delete any more: an earlier attempt
    has.
    """

    @contextmanager
    def answered(self) -> Iterator[None]:
        """What a connection raises becomes a NoAnswerError: the call broke, or was not answered in
        time.
        """
        try:
            yield
        except (OSError, http.client.HTTPException, aiohttp.ClientError) as error:
            why = error.reason if isinstance(error, urllib.error.URLError) else error
            cause = str(why) or type(why).__name__
            text = t(
                "{method} {path} got no response: {cause}",
                method=self.method,
                path=self.path,
                cause=cause,
            )
            raise NoAnswerError(
                text, retry=True, retry_after=None, idempotency_key=self.idempotency_key
            ) from error

    def result(self, answer: "Answer", body: bytes, *, repeated: bool) -> T:
        """What an answer says, as JSON; `repeated`: it is not the first attempt's.

        Raises:
            ApiError: it is no success.
        """
        found = _read(body)
        if (
            repeated
            and self.gone is not None
            and found is not None
            and answer.status == HTTPStatus.NOT_FOUND
        ):
            return self.gone
        if answer.status != HTTPStatus.OK or found is None:
            raise self.refusal(answer, body)
        if self.idempotency_key:
            found |= {
                "replayed": bool(answer.headers.get("Idempotency-Replayed")),
                "repeated": repeated,
            }
        return cast("T", found)

    def refusal(self, answer: "Answer", body: bytes) -> ApiError:
        """The error that an answer is."""
        failure = (_read(body) or {}).get("error")
        if not isinstance(failure, dict):
            said = t(
                "{method} {path} returned {status}, and not from mailerd",
                method=self.method,
                path=self.path,
                status=answer.status,
            )
            failure = {"message": said}
        wait = answer.headers.get("Retry-After", "")
        seconds = float(wait) if wait.isdecimal() else None
        return ApiError(
            answer.status, failure, retry_after=seconds, idempotency_key=self.idempotency_key
        )


@dataclass(frozen=True)
class Answer:
    """What comes back; `chunks` raises NoAnswerError where the rest does not come."""

    status: int
    headers: Mapping[str, str] | Message
    chunks: AsyncGenerator[bytes, None]

    async def body(self) -> bytes:
        """All of it."""
        return b"".join([each async for each in self.chunks])

    def is_a(self, kind: str) -> bool:
        """Whether it is the success that was asked for."""
        return self.status == HTTPStatus.OK and (self.headers.get("Content-Type") or "").startswith(
            kind
        )


@dataclass
class _Attempts:
    """Until when a call is made again, and how long it rests before."""

    until: float
    wait: float = field(default=FIRST_WAIT)


class Exchange(ABC):
    """How calls are made, and when one is made again; a subclass opens the answer to a request."""

    def __init__(self, url: str, key: str, patience: float, language: str) -> None:
        """Raise ValueError where no request could be made."""
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise ValueError(
                t(
                    "{url} is not a valid address of mailerd; it must be such as http://127.0.0.1:5000",
                    url=repr(url),
                )
            )
        if not key or not key.isascii() or not key.isprintable():
            raise ValueError(
                t("the API key is missing or not valid: `mailerd keys create` creates one")
            )
        self._url, self._key, self._patience, self._language = (
            url.rstrip("/"),
            key,
            patience,
            language,
        )
        self._closed = threading.Event()

    @abstractmethod
    def _open(self, call: Call[Any]) -> AbstractAsyncContextManager[Answer]:
        """Make a request once.

        Raises:
            NoAnswerError: no answer came.
        """

    @abstractmethod
    async def _rest(self, seconds: float) -> None:
        """Wait so long; the client may be closed meanwhile."""

    async def _send[T](self, call: Call[T]) -> T:
        """What the call is answered."""
        return await self._patiently(partial(self._ask, call), repeatable=call.repeatable)

    async def _ask[T](self, call: Call[T], *, repeated: bool) -> T:
        async with self._open(call) as answer:
            return call.result(answer, await answer.body(), repeated=repeated)

    async def _download(self, call: Call[Any], file: str | os.PathLike[str]) -> None:
        """Write an answer to a file, which is there once it is whole."""
        await self._patiently(partial(self._write, call, Path(file)))

    async def _write(self, call: Call[Any], file: Path, *, repeated: bool) -> None:  # noqa: ARG002 - as `_ask`
        part = file.with_name(f"{file.name}.part")
        async with self._open(call) as answer:
            if not answer.is_a(call.kind):
                raise call.refusal(answer, await answer.body())
            try:
                with part.open("wb") as out:
                    async for chunk in answer.chunks:
                        out.write(chunk)
                part.replace(file)
            finally:
                part.unlink(missing_ok=True)

    async def _pages(
        self, path: str, items: str, size: int, **query: str | None
    ) -> AsyncGenerator[Any, None]:
        """What the pages of a list hold."""
        cursor: str | None = ""
        while cursor is not None:
            page = await self._send(
                Call[Any]("GET", with_query(path, **query, cursor=cursor, limit=size))
            )
            for each in page[items]:
                yield each
            cursor = page["next_cursor"]

    async def _stream(self, path: str, *, end: str = "") -> AsyncGenerator[Any, None]:
        """The data of each event of a stream up to the event `end`; a stream that breaks is opened
        again behind it.
        """
        last, attempts = "", self._attempts()
        while not self._closed.is_set():
            call = Call[Any]("GET", path, kind=STREAM, last_event=last)
            try:
                async with self._open(call) as answer:
                    if answer.status == HTTPStatus.NO_CONTENT:
                        return
                    if not answer.is_a(STREAM):
                        raise call.refusal(answer, await answer.body())
                    async for event in self._events_of(answer):
                        last, attempts = event["id"], self._attempts()
                        yield json.loads(event["data"])
                        if event["event"] == end:
                            return
                await self._rest(FIRST_WAIT)
            except ClientError as error:
                await self._rest_after(error, attempts)

    async def _events_of(self, answer: Answer) -> AsyncGenerator[dict[str, str], None]:
        """The whole events of a stream, without its comments."""
        rest, fields = b"", dict[str, str]()
        async for chunk in answer.chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                name, _, value = line.decode().partition(": ")
                if name:
                    fields[name] = value
                elif not line:
                    if "data" in fields:
                        yield fields
                    fields = {}
            if self._closed.is_set():
                return

    async def _patiently[T](
        self, attempt: Callable[..., Awaitable[T]], *, repeatable: bool = True
    ) -> T:
        attempts, repeated = self._attempts(), False
        while True:
            try:
                return await attempt(repeated=repeated)
            except ClientError as error:
                if not repeatable:
                    raise
                await self._rest_after(error, attempts)
                if self._closed.is_set():
                    raise
            repeated = True

    def _attempts(self) -> _Attempts:
        return _Attempts(time.monotonic() + self._patience)

    async def _rest_after(self, error: ClientError, attempts: _Attempts) -> None:
        """Wait for the next attempt; raise the error where there is none."""
        # A proxy may say 0, with which a call would be made a thousand times a second.
        rest = attempts.wait if error.retry_after is None else max(error.retry_after, FIRST_WAIT)
        if not error.retry or time.monotonic() + rest > attempts.until:
            raise error
        await self._rest(rest)
        attempts.wait = min(2 * attempts.wait, LONGEST_WAIT)

    def _headers(self, call: Call[Any]) -> dict[str, str]:
        made = {
            "X-API-Key": self._key,
            "User-Agent": f"mailerd-client/{__version__}",
            "Accept": call.kind,
        }
        made["Accept-Language"] = self._language
        if call.body is not None:
            made["Content-Type"] = JSON
        if call.idempotency_key:
            made["Idempotency-Key"] = call.idempotency_key
        if call.last_event:
            made["Last-Event-ID"] = call.last_event
        return made


def _read(body: bytes) -> dict[str, Any] | None:
    """An answer's JSON; None: something between us and mailerd has answered."""
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def with_query(path: str, **query: str | int | None) -> str:
    """A path and its parameters, without those that are not given."""
    given = urlencode({name: value for name, value in query.items() if value not in {None, ""}})
    return f"{path}?{given}" if given else path


def to_json(value: object) -> bytes:
    """The bytes of a body; a moment becomes a text."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_moment)
    # half a surrogate pair as JSON writes it: the API names its field
    return text.encode("utf-8", "backslashreplace")


def _moment(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"JSON has no {type(value).__name__}")
