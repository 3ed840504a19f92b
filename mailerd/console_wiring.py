"""Joins the console: gives it its queries, and what the intake lends it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from aiohttp import web

from mailerd.clock import Clock
from mailerd.config import Settings
from mailerd.core.stats import QueueStats
from mailerd.events.base import EventSink, FanOut
from mailerd.events.web import WebEvents
from mailerd.intake.auth import CALLER
from mailerd.intake.errors import RETRY_AFTER, ApiError, cannot_render
from mailerd.intake.http_responses import error_response
from mailerd.intake.key_shares import KeyShare
from mailerd.intake.read_jobs import write_results
from mailerd.intake.server import Intake
from mailerd.mail.renderer import Rendered
from mailerd.mail.template_library import TemplateLibrary
from mailerd.mail.templates import RecipientData, RendererError, Template
from mailerd.store.api_keys import ApiKey, ApiKeys
from mailerd.store.console_queries import ConsoleQueries
from mailerd.store.forecast_inputs import ForecastReader
from mailerd.store.history import HistoryReader
from mailerd.store.job_actions import JobActions
from mailerd.store.jobs import Jobs
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.sessions import Sessions
from mailerd.store.tallies import Tallies
from mailerd.web.console import Console, Route
from mailerd.web.html import PageRenderer
from mailerd.web.live import LiveUpdates
from mailerd.web.services import TIMEOUT, Lent, PostBody, RefusedError, Services
from mailerd.web.shared_reads import SharedReads


def _services(
    settings: Settings,
    *,
    claims: Claims,
    sink: EventSink,
    stats: Callable[[], QueueStats | None],
    wake: Callable[[], None],
) -> Services:
    """What the pages use; the intake lends the rest."""
    database, clock = claims.database, Clock()

    def limits() -> DefaultLimits:
        return claims.defaults  # a reload changes them

    timeout = min(TIMEOUT, settings.database.connect_timeout)
    folder = settings.templates.folder
    return Services(
        settings=settings, database=database, jobs=Jobs(database, timeout=timeout),
        actions=JobActions(
            database, timeout=settings.database.connect_timeout,
            late_arrival=timedelta(seconds=settings.gmail.late_arrival),
        ),
        forecasts=ForecastReader(database, limits, timeout), history=HistoryReader(database, timeout),
        keys=ApiKeys(database, timeout=timeout), sessions=Sessions(database, timeout), tallies=Tallies(database),
        queries=ConsoleQueries(database), library=TemplateLibrary(Path(folder) if folder else None), limits=limits,
        stats=stats, outage=lambda: database.outage, wake=wake, events=WebEvents(sink), clock=clock,
        shared=SharedReads(clock),
        pages=PageRenderer(),
    )  # fmt: skip


@dataclass(frozen=True)
class WiredConsole:
    """The console of one daemon; without routes where the settings have none."""

    services: Services
    live: LiveUpdates
    routes: tuple[Route, ...]

    def attach(self, intake: Intake, sink: FanOut) -> None:
        """Give it what only the intake has, and the events that change its pages."""
        if self.routes:
            _lend(self.services, intake)
            sink.listeners.append(self.live.on_event)


def wire_console(
    settings: Settings,
    sink: EventSink,
    *,
    claims: Claims,
    stats: Callable[[], QueueStats | None],
    wake: Callable[[], None],
) -> WiredConsole:
    """The console, and nothing of it listens yet."""
    services = _services(settings, claims=claims, sink=sink, stats=stats, wake=wake)
    live = LiveUpdates(services.pages.load if settings.web.enabled else lambda: None)
    return WiredConsole(services, live, tuple(Console(services, live).routes()) if settings.web.enabled else ())


def _lend(services: Services, intake: Intake) -> None:
    @asynccontextmanager
    async def posting(request: web.Request, key: ApiKey) -> AsyncIterator[PostBody]:
        with _plainly():
            async with _there(intake.create).posting(request, key) as send:
                yield _answered(send)

    async def render(template: Template, readers: Sequence[RecipientData], origin: str) -> Sequence[Rendered]:
        with _plainly():
            return await _there(intake.renderer).render(template, readers, origin=origin)

    async def results(request: web.Request, job_id: str) -> web.StreamResponse:
        return await write_results(request, job_id, intake.jobs, pace=intake.shares.rows)

    def count_request(key: ApiKey, *, refresh: bool = False) -> None:
        with _plainly():
            intake.auth.count_request(key, refresh=refresh)
        intake.auth.note_use(key)

    async def check_key(request: web.Request, secret: str) -> ApiKey:
        with _plainly():
            return await intake.auth.check_secret(request, secret)

    async def look_up[T](request: web.Request, secret: str, find: Callable[[str], Awaitable[T | None]]) -> T | None:
        with _plainly():
            return await intake.auth.look_up(request, secret, find)

    def is_logged(request: web.Request) -> bool:
        return intake.strangers.logs_request(intake.client_address.address(request))

    services.lent = Lent(
        check_key=check_key, look_up=look_up, count_request=count_request,
        count_refresh=partial(count_request, refresh=True), note_caller=CALLER.set,
        address=intake.client_address.address, is_logged=is_logged, posting=posting, render=render, results=results,
        stream_place=_place(intake.shares.streams), download_place=_place(intake.shares.downloads),
        read_place=_place(intake.shares.reads), webhook_place=_place(intake.shares.webhook_calls),
    )  # fmt: skip


def _answered(send: PostBody) -> PostBody:
    """What is refused becomes an answer, as the API has it."""

    async def post(body: bytearray, once: str) -> web.Response:
        try:
            return await send(body, once)
        except ApiError as error:
            return error_response(error)
        except RendererError as error:
            return error_response(cannot_render(error))

    return post


def _place(share: KeyShare) -> Callable[[ApiKey], AbstractAsyncContextManager[None]]:
    """A key's place in a share of the intake's."""

    @asynccontextmanager
    async def place(key: ApiKey) -> AsyncIterator[None]:
        with _plainly():
            async with share.place(key):
                yield

    return place


@contextmanager
def _plainly() -> Iterator[None]:
    """What the intake refuses, in the console's own words."""
    try:
        yield
    except ApiError as error:
        raise RefusedError(str(error), status=error.status, retry_after=error.retry_after) from error
    except RendererError as error:
        raise RefusedError(str(error), status=503, retry_after=RETRY_AFTER) from error


def _there[T](part: T | None) -> T:
    """A part that the intake has while it serves."""
    if part is None:
        raise RefusedError("the intake does not serve yet", status=503, retry_after=RETRY_AFTER)
    return part
