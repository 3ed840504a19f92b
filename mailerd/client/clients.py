"""`AsyncClient` and `Client`: the same calls, over aiohttp and over the standard library."""

import asyncio
import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from functools import wraps
from http import HTTPStatus
from typing import Any, Concatenate, Final, Self, Unpack, cast, override
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

import aiohttp

from mailerd import __version__
from mailerd.client.answers import (
    AcceptedJob,
    BounceKind,
    DryRun,
    Event,
    EventsPage,
    Job,
    JobActionResult,
    KeyDetails,
    NewJob,
    NewSenderLimits,
    Recipient,
    RecipientsPage,
    RetryOnly,
    Sender,
    SenderChanged,
    SendersPage,
    Templates,
)
from mailerd.core.i18n import t
from mailerd.errors import MailerdError

TIMEOUT: Final = 100.0
"""Seconds for one response: a post may wait 30 s for its key's share, its check may take 30 s, and a dry run 60 s."""
PATIENCE: Final = 60.0
"""Seconds within which a call is made again after a failure that may pass."""
POLL_INTERVAL: Final = 2.0
"""Seconds between two looks at a job that is waited for."""
FIRST_WAIT: Final = 0.5
"""Seconds before the first repetition, where the answer does not say; each further one waits twice as long."""
LONGEST_WAIT: Final = 10.0
_PASSING: Final = frozenset({429, 502, 503, 504})
"""Too fast, or the database is away, or the daemon behind its proxy."""
_POST: Final = "/api/jobs/send_template_emails"
_OPEN: Final = ("waiting", "sending", "unsure")
_PAGE: Final = 1000
_SENDERS_PAGE: Final = 100


class ClientError(MailerdError):
    """A call that failed."""

    def __init__(self, message: str, *, retry: bool, retry_after: float | None, idempotency_key: str) -> None:
        super().__init__(message)
        self.message = message
        self.retry = retry
        """Whether the same call may succeed later."""
        self.retry_after = retry_after
        """Seconds to wait before that, where the answer said so."""
        self.idempotency_key = idempotency_key
        """The key of a post: a client that posts the same job with it again makes no second one."""


class NoAnswerError(ClientError):
    """No answer came, so it is not known whether the call was carried out. To make it again does no harm."""


class ApiError(ClientError):
    """The API has refused a call; docs/reference/errors.md lists the codes."""

    def __init__(
        self, status: int, failure: Mapping[str, Any], *, retry_after: float | None, idempotency_key: str
    ) -> None:
        message, retry = str(failure.get("message", "")), status in _PASSING
        super().__init__(message, retry=retry, retry_after=retry_after, idempotency_key=idempotency_key)
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
class _Call[T]:
    """One request; T is what its answer is. Each attempt has the same bytes and the same key."""

    method: str
    path: str
    body: bytes | None = None
    idempotency_key: str = ""

    def no_answer(self, error: object) -> NoAnswerError:
        """The error of a call that broke, or was not answered in time."""
        cause = str(error) or type(error).__name__
        text = t("{method} {path} got no response: {cause}", method=self.method, path=self.path, cause=cause)
        return NoAnswerError(text, retry=True, retry_after=None, idempotency_key=self.idempotency_key)

    def result(self, answer: "_Answer", *, repeated: bool) -> T:
        """What an answer says, as JSON; `repeated`: it is not the first attempt's.

        Raises:
            ApiError: it is no success.
        """
        found: Any
        try:
            found = json.loads(answer.body)
        except ValueError:  # something between us and mailerd has answered
            found = None
        if answer.status == HTTPStatus.OK and isinstance(found, dict):
            if self.idempotency_key:
                found |= {"replayed": bool(answer.headers.get("Idempotency-Replayed")), "repeated": repeated}
            return cast("T", found)
        failure = found.get("error") if isinstance(found, dict) else None
        if not isinstance(failure, dict):
            said = t(
                "{method} {path} returned {status}, and not from mailerd",
                method=self.method, path=self.path, status=answer.status,
            )  # fmt: skip
            failure = {"message": said}
        wait = answer.headers.get("Retry-After", "")
        seconds = float(wait) if wait.isdecimal() else None
        raise ApiError(answer.status, failure, retry_after=seconds, idempotency_key=self.idempotency_key)


@dataclass(frozen=True)
class _Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str] | Message
    body: bytes


class _Calls(ABC):
    """Every call, and when one is made again; a subclass exchanges a request for its answer."""

    def __init__(self, url: str, key: str, patience: float, language: str) -> None:
        """Raise ValueError where no request could be made."""
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise ValueError(
                t("{url} is not a valid address of mailerd; it must be such as http://127.0.0.1:5000", url=repr(url))
            )
        if not key or not key.isascii() or not key.isprintable():
            raise ValueError(t("the API key is missing or not valid: `mailerd keys create` creates one"))
        self._url, self._key, self._patience, self._language = url.rstrip("/"), key, patience, language
        self._closed = threading.Event()

    @abstractmethod
    async def _exchange(self, call: _Call[Any]) -> _Answer:
        """Make a request once.

        Raises:
            NoAnswerError: no answer came.
        """

    @abstractmethod
    async def _rest(self, seconds: float) -> None:
        """Wait so long; the client may be closed meanwhile."""

    async def create_job(self, job: NewJob, *, idempotency_key: str | None = None) -> AcceptedJob:
        """Post a job: once, however often the post has to be repeated.

        `idempotency_key`: one of your own, such as an order's number, holds beyond this call; without it one is made.
        """
        return await self._send(_Call[AcceptedJob]("POST", _POST, _json(job), idempotency_key or str(uuid4())))

    async def dry_run(self, job: NewJob) -> DryRun:
        """What a post would be answered; every message is rendered, and nothing is stored."""
        return await self._send(_Call[DryRun]("POST", f"{_POST}/dry_run", _json(job)))

    async def get_job(self, job_id: str) -> Job:
        """A job and its counts."""
        return await self._send(_Call[Job]("GET", _path(job_id)))

    async def recipients(self, job_id: str, *, status: str | None = None) -> AsyncGenerator[Recipient, None]:
        """A job's recipients in the order of the post, fetched page by page."""
        cursor: str | None = ""
        while cursor is not None:
            path = _with_query(f"{_path(job_id)}/recipients", status=status, cursor=cursor, limit=_PAGE)
            page = await self._send(_Call[RecipientsPage]("GET", path))
            for each in page["recipients"]:
                yield each
            cursor = page["next_cursor"]

    async def cancel_job(self, job_id: str) -> JobActionResult:
        """Send nothing more of it, for good."""
        return await self._change(job_id, "cancel")

    async def pause_job(self, job_id: str) -> JobActionResult:
        """Send nothing more of it until it is resumed."""
        return await self._change(job_id, "pause")

    async def resume_job(self, job_id: str) -> JobActionResult:
        """Go on with a paused job."""
        return await self._change(job_id, "resume")

    async def retry_job(
        self, job_id: str, *, only: RetryOnly = "failed", kind: BounceKind | None = None
    ) -> JobActionResult:
        """Try its failed messages anew, look for its unsure ones now, or send bounced ones of a `kind` again."""
        return await self._change(job_id, "retry", **({"only": only} if kind is None else {"only": only, "kind": kind}))

    async def wait_until_finished(self, job_id: str, *, within: float | None = None) -> Job:
        """The job, once nothing of it is open; raises TimeoutError after `within` seconds, RuntimeError once closed."""
        until = None if within is None else time.monotonic() + within
        while not is_finished(job := await self.get_job(job_id)):
            if until is not None and time.monotonic() + POLL_INTERVAL > until:
                raise TimeoutError(f"job {job_id} did not finish within {within:g} s: its status is {job['status']}")
            await self._rest(POLL_INTERVAL)
            if self._closed.is_set():
                raise RuntimeError(f"the client was closed before job {job_id} finished: its status is {job['status']}")
        return job

    async def events(
        self, *, after: int = 0, types: Sequence[str] = (), follow: float | None = None
    ) -> AsyncGenerator[Event, None]:
        """What happened behind the event `after`, the oldest first; keep the `id` of the last one that you handled.

        `follow`: seconds between two looks for more, until the client is closed; None: end with what there is.
        """
        while not self._closed.is_set():
            path = _with_query("/api/events", after=after, types=",".join(types), limit=_PAGE)
            page = await self._send(_Call[EventsPage]("GET", path))
            for each in page["events"]:
                yield each
            if page["next_after"] == after:
                if follow is None:
                    return
                await self._rest(follow)
            after = page["next_after"]

    async def templates(self) -> Templates:
        """The named templates."""
        return await self._send(_Call[Templates]("GET", "/api/templates"))

    async def senders(self) -> AsyncGenerator[Sender, None]:
        """The mailboxes that the key covers, by address, fetched page by page."""
        cursor: str | None = ""
        while cursor is not None:
            path = _with_query("/api/senders", cursor=cursor, limit=_SENDERS_PAGE)
            page = await self._send(_Call[SendersPage]("GET", path))
            for each in page["senders"]:
                yield each
            cursor = page["next_cursor"]

    async def get_sender(self, email: str) -> Sender:
        """A mailbox: what it does, and what is left of its limits."""
        return await self._send(_Call[Sender]("GET", _sender_path(email)))

    async def pause_sender(self, email: str, *, reason: str, seconds: int | None = None) -> SenderChanged:
        """Send nothing from a mailbox for so long, or until it is resumed."""
        fields = {"reason": reason} if seconds is None else {"reason": reason, "for": seconds}
        return await self._send(_Call[SenderChanged]("POST", f"{_sender_path(email)}/pause", _json(fields)))

    async def resume_sender(self, email: str) -> SenderChanged:
        """End a pause, whatever its cause."""
        return await self._send(_Call[SenderChanged]("POST", f"{_sender_path(email)}/resume", _json({})))

    async def change_sender(self, email: str, **limits: Unpack[NewSenderLimits]) -> SenderChanged:
        """Change these limits of a mailbox; None: the configured one again. The key needs the permission `senders`."""
        return await self._send(_Call[SenderChanged]("PATCH", _sender_path(email), _json(limits)))

    async def get_key(self) -> KeyDetails:
        """What the key of this client may do."""
        return await self._send(_Call[KeyDetails]("GET", "/api/key"))

    async def _change(self, job_id: str, action: str, **fields: object) -> JobActionResult:
        return await self._send(_Call[JobActionResult]("POST", f"{_path(job_id)}/{action}", _json(fields)))

    async def _send[T](self, call: _Call[T]) -> T:
        until, wait, repeated = time.monotonic() + self._patience, FIRST_WAIT, False
        while True:
            try:
                return call.result(await self._exchange(call), repeated=repeated)
            except ClientError as error:
                # A proxy may say 0, with which a call would be made a thousand times a second.
                rest = wait if error.retry_after is None else max(error.retry_after, FIRST_WAIT)
                if not error.retry or time.monotonic() + rest > until:
                    raise
                await self._rest(rest)
                if self._closed.is_set():
                    raise
            wait, repeated = min(2 * wait, LONGEST_WAIT), True

    def _headers(self, call: _Call[Any]) -> dict[str, str]:
        made = {"X-API-Key": self._key, "User-Agent": f"mailerd-client/{__version__}", "Accept": "application/json"}
        made["Accept-Language"] = self._language
        if call.body is not None:
            made["Content-Type"] = "application/json"
        if call.idempotency_key:
            made["Idempotency-Key"] = call.idempotency_key
        return made


class AsyncClient(_Calls):
    """The client for programs with asyncio, over one pool of connections; use it with `async with`.

    `timeout`: seconds for one answer. `patience`: seconds within which a call is made again. `language`: of the
    messages of errors, "en" or "zh". Each call raises ApiError where it was refused, and NoAnswerError where no answer
    came.
    """

    def __init__(
        self, url: str, *, key: str, timeout: float = TIMEOUT, patience: float = PATIENCE, language: str = "en"
    ) -> None:
        super().__init__(url, key, patience, language)
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        self._closed.set()
        if self._session is not None:
            await self._session.close()

    @override
    async def wait_until_finished(self, job_id: str, *, within: float | None = None) -> Job:
        async with asyncio.timeout(within):  # it bounds a request that is under way, too
            return await super().wait_until_finished(job_id, within=within)

    @override
    async def _rest(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @override
    async def _exchange(self, call: _Call[Any]) -> _Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, trust_env=True)
        try:
            async with self._session.request(
                call.method, self._url + call.path, data=call.body, headers=self._headers(call), allow_redirects=False
            ) as it:
                return _Answer(it.status, it.headers, await it.read())
        except (aiohttp.ClientError, OSError) as error:
            raise call.no_answer(error) from error


class _AsItIs(urllib.request.HTTPErrorProcessor):
    """Hands out every answer. None is followed elsewhere: the key is for the address that was given."""

    @override
    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        return response

    https_response = http_response


class _BlockingCalls(_Calls):
    """The calls, each with a connection of its own. Nothing is awaited: its coroutines end at the first step."""

    def __init__(self, url: str, key: str, timeout: float, patience: float, language: str) -> None:
        super().__init__(url, key, patience, language)
        self._timeout = timeout
        self._opener = urllib.request.build_opener(_AsItIs)

    def close(self) -> None:
        self._closed.set()

    @override
    async def _rest(self, seconds: float) -> None:
        self._closed.wait(seconds)

    @override
    async def _exchange(self, call: _Call[Any]) -> _Answer:
        request = urllib.request.Request(  # noqa: S310 - `_Calls` has seen that it is HTTP
            self._url + call.path, call.body, self._headers(call), method=call.method
        )
        try:
            with self._opener.open(request, timeout=self._timeout) as it:
                return _Answer(it.status, it.headers, it.read())
        except urllib.error.URLError as error:
            raise call.no_answer(error.reason) from error
        except (OSError, http.client.HTTPException) as error:
            raise call.no_answer(error) from error


def _result[T](coroutine: Coroutine[Any, Any, T]) -> T:
    """Run one of `_BlockingCalls`, without an event loop: a fork of the program leaves no thread of it behind."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    raise AssertionError("a call that blocks has awaited something")


def _blocking[**P, T](
    method: Callable[Concatenate[_Calls, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["Client", P], T]:
    @wraps(method)
    def call(self: "Client", /, *args: P.args, **options: P.kwargs) -> T:
        return _result(method(self._calls, *args, **options))

    return call


def _iterating[**P, T](
    method: Callable[Concatenate[_Calls, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate["Client", P], Iterator[T]]:
    @wraps(method)
    def call(self: "Client", /, *args: P.args, **options: P.kwargs) -> Iterator[T]:
        found = method(self._calls, *args, **options)
        with suppress(StopAsyncIteration):
            while True:
                yield _result(anext(found))

    return call


class Client:
    """The client for programs without asyncio. Threads may share one; each call has a connection of its own.

    `timeout`: seconds for which the daemon may say nothing. `patience`: seconds within which a call is made again.
    `language`: of the messages of errors, "en" or "zh".
    Each call raises ApiError where it was refused, and NoAnswerError where no answer came.
    """

    def __init__(
        self, url: str, *, key: str, timeout: float = TIMEOUT, patience: float = PATIENCE, language: str = "en"
    ) -> None:
        self._calls = _BlockingCalls(url, key, timeout, patience, language)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what waits, in other threads too."""
        self._calls.close()

    create_job = _blocking(_Calls.create_job)
    dry_run = _blocking(_Calls.dry_run)
    get_job = _blocking(_Calls.get_job)
    recipients = _iterating(_Calls.recipients)
    cancel_job = _blocking(_Calls.cancel_job)
    pause_job = _blocking(_Calls.pause_job)
    resume_job = _blocking(_Calls.resume_job)
    retry_job = _blocking(_Calls.retry_job)
    wait_until_finished = _blocking(_Calls.wait_until_finished)
    events = _iterating(_Calls.events)
    templates = _blocking(_Calls.templates)
    senders = _iterating(_Calls.senders)
    get_sender = _blocking(_Calls.get_sender)
    pause_sender = _blocking(_Calls.pause_sender)
    resume_sender = _blocking(_Calls.resume_sender)
    change_sender = _blocking(_Calls.change_sender)
    get_key = _blocking(_Calls.get_key)


def is_finished(job: Job) -> bool:
    """Whether nothing of a job is open any more."""
    return job["finished_at"] is not None and not any(job["counts"].get(state) for state in _OPEN)


def _path(job_id: str) -> str:
    return f"/api/jobs/{quote(job_id, safe='')}"


def _sender_path(email: str) -> str:
    return f"/api/senders/{quote(email, safe='@')}"


def _with_query(path: str, **query: str | int | None) -> str:
    return f"{path}?{urlencode({name: value for name, value in query.items() if value not in {None, ''}})}"


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_moment)
    return text.encode("utf-8", "backslashreplace")  # half a surrogate pair as JSON writes it: the API names its field


def _moment(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"JSON has no {type(value).__name__}")
