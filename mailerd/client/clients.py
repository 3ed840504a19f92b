"""`AsyncClient` and `Client`: the same calls, over aiohttp and over the standard library."""

import asyncio
import http.client
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from functools import wraps
from typing import Any, Concatenate, Final, Self, cast, override

import aiohttp

from mailerd.client.answers import Job
from mailerd.client.calls import Calls
from mailerd.client.exchange import JSON, PATIENCE, Answer, Call

TIMEOUT: Final = 100.0
"""Seconds for one response: a post may wait 30 s for its key's share, its check may take 30 s, and
a dry run 60 s.
"""
_CHUNK: Final = 65_536


class AsyncClient(Calls):
    """The client for programs with asyncio, over one pool of connections; use it with `async with`.

    `timeout`: seconds for one answer. `patience`: seconds within which a call is made again.
    `language`: of the messages of errors, "en" or "zh". Each call raises ApiError where it was
    refused, and NoAnswerError where no answer came.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str,
        timeout: float = TIMEOUT,
        patience: float = PATIENCE,
        language: str = "en",
    ) -> None:
        super().__init__(url, key, patience, language)
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._long = aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout)
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
    @asynccontextmanager
    async def _open(self, call: Call[Any]) -> AsyncIterator[Answer]:
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=True, middlewares=(_unrepeated,))
        with call.answered():
            response = await self._session.request(
                call.method,
                self._url + call.path,
                data=call.body,
                headers=self._headers(call),
                allow_redirects=False,
                timeout=self._timeout if call.kind == JSON else self._long,
            )
        async with response:
            yield Answer(response.status, response.headers, _chunks_of(response, call))


async def _unrepeated(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Make a request once. aiohttp makes it again, unseen, where a kept connection breaks with
    these two errors.

    Who repeats a call has to know that it is a repetition: a DELETE finds nothing the second time.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # nothing was sent, and aiohttp does not repeat it
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(str(error) or type(error).__name__) from error


async def _chunks_of(
    response: aiohttp.ClientResponse, call: Call[Any]
) -> AsyncGenerator[bytes, None]:
    with call.answered():
        async for chunk in response.content.iter_any():
            yield chunk


class _AsItIs(urllib.request.HTTPErrorProcessor):
    """Hands out every answer.

    None is followed elsewhere: the key is for the address that was given.
    """

    @override
    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        return response

    https_response = http_response


class _BlockingCalls(Calls):
    """The calls, each with a connection of its own.

    Nothing is awaited: its coroutines end at the first step.
    """

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
    @asynccontextmanager
    async def _open(self, call: Call[Any]) -> AsyncIterator[Answer]:
        request = urllib.request.Request(  # noqa: S310 - the constructor has seen that it is HTTP
            self._url + call.path, call.body, self._headers(call), method=call.method
        )
        with call.answered():
            response = self._opener.open(request, timeout=self._timeout)
        with response:
            yield Answer(response.status, response.headers, _chunks_read(response, call))


async def _chunks_read(
    response: http.client.HTTPResponse, call: Call[Any]
) -> AsyncGenerator[bytes, None]:
    size, missing = response.headers.get("Content-Length", ""), 0
    with call.answered():
        while chunk := response.read1(_CHUNK):
            missing -= len(chunk)
            yield chunk
        if size.isdecimal() and (missing := missing + int(size)):  # `read1` says nothing of it
            raise http.client.IncompleteRead(b"", missing)


def _result[T](coroutine: Coroutine[Any, Any, T]) -> T:
    """Run one of `_BlockingCalls`, without an event loop: a fork of the program leaves no thread of
    it behind.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    raise AssertionError("a call that blocks has awaited something")


def _blocking[**P, T](
    method: Callable[Concatenate[Calls, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["Client", P], T]:
    @wraps(method)
    def call(self: "Client", /, *args: P.args, **options: P.kwargs) -> T:
        return _result(method(self._calls, *args, **options))

    return call


def _iterating[**P, T](
    method: Callable[Concatenate[Calls, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate["Client", P], Iterator[T]]:
    @wraps(method)
    def call(self: "Client", /, *args: P.args, **options: P.kwargs) -> Iterator[T]:
        found = method(self._calls, *args, **options)
        try:
            with suppress(StopAsyncIteration):
                while True:
                    yield _result(anext(found))
        finally:
            _result(found.aclose())  # who has seen enough of a stream leaves its connection, too

    return call


class Client:
    """The client for programs without asyncio.

    Threads may share one; each call has a connection of its own.

    `timeout`: seconds for which the daemon may say nothing. `patience`: seconds within which a call
    is made again. `language`: of the messages of errors, "en" or "zh". Each call raises ApiError
    where it was refused, and NoAnswerError where no answer came.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str,
        timeout: float = TIMEOUT,
        patience: float = PATIENCE,
        language: str = "en",
    ) -> None:
        self._calls = _BlockingCalls(url, key, timeout, patience, language)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what waits, in other threads too."""
        self._calls.close()

    create_job = _blocking(Calls.create_job)
    dry_run = _blocking(Calls.dry_run)
    test_job = _blocking(Calls.test_job)
    send_message = _blocking(Calls.send_message)
    message = _blocking(Calls.message)
    jobs = _iterating(Calls.jobs)
    job = _blocking(Calls.job)
    recipients = _iterating(Calls.recipients)
    results_csv = _blocking(Calls.results_csv)
    actions = _blocking(Calls.actions)
    watch = _iterating(Calls.watch)
    wait_until_finished = _blocking(Calls.wait_until_finished)
    change_job = _blocking(Calls.change_job)
    cancel_job = _blocking(Calls.cancel_job)
    pause_job = _blocking(Calls.pause_job)
    resume_job = _blocking(Calls.resume_job)
    retry_job = _blocking(Calls.retry_job)
    set_priority = _blocking(Calls.set_priority)
    find_recipients = _iterating(Calls.find_recipients)
    recipient = _blocking(Calls.recipient)
    recipient_message = _blocking(Calls.recipient_message)
    settle = _blocking(Calls.settle)
    cancel_recipient = _blocking(Calls.cancel_recipient)
    search = _blocking(Calls.search)
    stats = _blocking(Calls.stats)
    events = _iterating(Calls.events)
    stream_events = _iterating(Calls.stream_events)
    templates = _blocking(Calls.templates)
    template = _blocking(Calls.template)
    save_template = _blocking(Calls.save_template)
    delete_template = _blocking(Calls.delete_template)
    template_versions = _blocking(Calls.template_versions)
    template_version = _blocking(Calls.template_version)
    publish_template = _blocking(Calls.publish_template)
    render_template = _blocking(Calls.render_template)
    senders = _iterating(Calls.senders)
    sender = _blocking(Calls.sender)
    pause_sender = _blocking(Calls.pause_sender)
    resume_sender = _blocking(Calls.resume_sender)
    change_sender = _blocking(Calls.change_sender)
    key = _blocking(Calls.key)
    suppressions = _iterating(Calls.suppressions)
    suppressions_csv = _blocking(Calls.suppressions_csv)
    suppress = _blocking(Calls.suppress)
    unsuppress = _blocking(Calls.unsuppress)
    lists = _blocking(Calls.lists)
    save_list = _blocking(Calls.save_list)
    webhooks = _blocking(Calls.webhooks)
    create_webhook = _blocking(Calls.create_webhook)
    webhook = _blocking(Calls.webhook)
    change_webhook = _blocking(Calls.change_webhook)
    delete_webhook = _blocking(Calls.delete_webhook)
    webhook_deliveries = _iterating(Calls.webhook_deliveries)
    rotate_webhook_secret = _blocking(Calls.rotate_webhook_secret)
    test_webhook = _blocking(Calls.test_webhook)
    replay_webhook = _blocking(Calls.replay_webhook)
