"""The intake as a whole: listens, joins the handlers, and stops without dropping a request that it has in hand."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, cast

from aiohttp import web

from mailerd.clock import Clock, SystemClock
from mailerd.config import IntakeSettings
from mailerd.core.states import JobChange
from mailerd.errors import DatabaseError, ListenError
from mailerd.events.intake import IntakeEvents
from mailerd.events.renderer import RendererEvents
from mailerd.intake.auth import ApiKeyAuth
from mailerd.intake.bad_http import Listener
from mailerd.intake.client_address import ClientAddress, networks
from mailerd.intake.create_job import CreateJobEndpoint, Wakeup
from mailerd.intake.docs_pages import DocsEndpoints
from mailerd.intake.forecast import Forecast
from mailerd.intake.health import Health
from mailerd.intake.job_actions import JobActionEndpoints
from mailerd.intake.job_events import JobEventsEndpoint
from mailerd.intake.key_shares import SHARE_WITHIN, Shares
from mailerd.intake.metrics_page import MetricsEndpoint, Page
from mailerd.intake.middleware import ErrorMiddleware, Handler
from mailerd.intake.query_params import JobLookup
from mailerd.intake.read_jobs import ReadEndpoints
from mailerd.intake.request_body import BODY_WITHIN, BodyReader, expect_nothing_yet
from mailerd.intake.resolve_sender import Senders
from mailerd.intake.routes import OPERATIONS
from mailerd.intake.server_log import ServerLog
from mailerd.intake.slow_clients import FIRST_REQUEST_WITHIN, SlowClientReaper
from mailerd.mail.errors import RendererError
from mailerd.mail.renderer import CHECK_LIMITS, Renderer
from mailerd.mail.template_library import TemplateLibrary
from mailerd.store.api_keys import ApiKeys
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import check_writable
from mailerd.store.idempotency import PURGE_BATCH, IdempotencyStore
from mailerd.store.job_actions import JobActions
from mailerd.store.jobs import Jobs

KEEPALIVE: Final = 75.0
"""Seconds that an idle connection is kept: longer than the usual proxy keeps its end (60 s)."""
FORGET_EVERY: Final = 600.0
"""Seconds between two looks for answers that are kept no longer."""
SOCKET_MODE: Final = 0o117
"""What a socket file's group may do, and others may not, as a umask."""
_LINGER: Final = 0.3
"""Seconds between the end of listening and that of the open connections."""

Address = tuple[str, int]
"""Host and port."""


class Intake:
    """The HTTP part.

    `patience`: seconds that the database gets for one answer (database.connect_timeout). `grace`: seconds that requests
    in hand get at a stop. `senders` None that every address has a mailbox. `page` makes `/metrics`. `in_flight`:
    seconds for which a send without an answer may still reach Google. `templates`: the folder of the named ones.
    """

    def __init__(
        self,
        settings: IntakeSettings,
        *,
        database: Database,
        patience: float,
        wakeup: Wakeup,
        events: IntakeEvents,
        forecast: Forecast,
        senders: Senders | None = None,
        clock: Clock | None = None,
        grace: float = 10.0,
        body_within: float = BODY_WITHIN,
        share_within: float = SHARE_WITHIN,
        first_request_within: float = FIRST_REQUEST_WITHIN,
        in_flight: float = 60.0,
        templates: Path | None = None,
        page: Page | None = None,
    ) -> None:
        self._settings = settings
        self._page = page
        self._database = database
        self._patience = patience
        self._wakeup = wakeup
        self._events = events
        self._clock = clock or SystemClock()
        self._grace = grace
        self._body_within = body_within
        self._shares = Shares(settings, within=share_within)
        self._bodies = BodyReader(
            max_body=settings.max_body, setting="intake.max_body", within=body_within, large=self._shares.large_bodies
        )
        self._jobs = Jobs(database, timeout=patience)
        self._answers = IdempotencyStore(database, timeout=patience, keep=timedelta(seconds=settings.idempotency_keep))
        self._controls = JobActions(database, timeout=patience, in_flight=timedelta(seconds=in_flight))
        self._library = TemplateLibrary(templates)
        self._heard = events.sink
        self._forecast = forecast
        self._senders = senders
        self._callers = ClientAddress(networks(settings.trusted_proxies))
        self._gate = ApiKeyAuth(
            ApiKeys(database, timeout=patience), callers=self._callers, events=events, clock=self._clock
        )
        self._finding = JobLookup(gate=self._gate, jobs=self._jobs)
        self._patrol = SlowClientReaper(within=first_request_within, events=events, clock=self._clock)
        self.listens = asyncio.Event()
        """Set by `run` once it listens."""

    async def run(
        self, *, sockets: Sequence[socket.socket] = (), started: Callable[[Sequence[Address]], None] | None = None
    ) -> None:
        """Serve until cancelled; `started` is called with the addresses once it listens."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._gate.note_uses(), name="note the use of keys")
            tasks.create_task(self._forget_for_ever(), name="forget old answers")
            tasks.create_task(self._serve_for_ever(sockets, started), name="serve")

    async def _forget_for_ever(self) -> None:
        while True:
            await self._clock.sleep(FORGET_EVERY)
            try:
                while await self._answers.purge() == PURGE_BATCH:
                    pass
            except DatabaseError as error:  # ten minutes on is soon enough
                self._events.answers_not_forgotten(cause=str(error))

    async def _serve_for_ever(
        self, sockets: Sequence[socket.socket], started: Callable[[Sequence[Address]], None] | None
    ) -> None:
        async with self.serve(sockets=sockets) as addresses:
            self.listens.set()
            if started is not None:
                started(addresses)
            await asyncio.get_running_loop().create_future()  # nobody sets it: cancellation is the end

    @asynccontextmanager
    async def serve(self, *, sockets: Sequence[socket.socket] = ()) -> AsyncIterator[list[Address]]:
        """Listen, on the settings' host and port or on sockets that are bound already; yields the addresses.

        At the end nothing new is taken, and requests in hand get `grace` seconds. Only `run` notes the use of keys.
        """
        executor = ThreadPoolExecutor(self._shares.threads, thread_name_prefix="intake")
        renderer = Renderer("checking", limits=CHECK_LIMITS, events=RendererEvents(self._heard))
        answering = ErrorMiddleware(callers=self._callers, events=self._events, clock=self._clock)
        runner = Listener(
            self._application(executor, renderer, answering),
            on_expect=answering.on_expect,
            handle_signals=False,
            access_log=None,
            logger=cast("Any", ServerLog(self._events)),
            keepalive_timeout=KEEPALIVE,
            shutdown_timeout=max(self._grace, 0.01),  # aiohttp takes 0 for "no bound"
            auto_decompress=False,
        )
        await runner.setup()
        patrol = asyncio.create_task(
            self._patrol.walk(lambda: runner.server.connections if runner.server else []), name="patrol"
        )
        async with renderer:  # until the last request in hand has its answer
            try:
                yield await self._listen(runner, sockets)
            finally:
                patrol.cancel()
                # Cleaning up at once resets connections that the kernel has accepted and nobody has read from yet.
                for site in list(runner.sites):
                    await site.stop()
                await asyncio.sleep(_LINGER)
                await runner.cleanup()
                executor.shutdown(wait=False, cancel_futures=True)
                self._events.intake_stopped()

    async def _listen(self, runner: web.AppRunner, sockets: Sequence[socket.socket]) -> list[Address]:
        for sock in sockets:
            await web.SockSite(runner, sock).start()
        if not sockets:
            await self._bind(runner)
        addresses = [(it[0], it[1]) for it in runner.addresses if isinstance(it, tuple)]
        where = [f"unix:{it}" if isinstance(it, str) else f"http://{it[0]}:{it[1]}" for it in runner.addresses]
        self._events.intake_listening(where=", ".join(where))
        return addresses

    async def _bind(self, runner: web.AppRunner) -> None:
        host, port, path = self._settings.host, self._settings.port, self._settings.unix_socket
        before = os.umask(SOCKET_MODE) if path else None
        try:
            await (web.UnixSite(runner, path) if path else web.TCPSite(runner, host, port)).start()
        except OSError as error:
            why = error.strerror or error
            if path:
                raise ListenError(f"the intake cannot listen on {path}: {why}; change intake.unix_socket") from error
            raise ListenError(
                f"the intake cannot listen on {host}:{port}: {why}; see who does with "
                f"`ss -ltnp | grep :{port}`, or change intake.host and intake.port"
            ) from error
        finally:
            if before is not None:
                os.umask(before)

    def _application(
        self, executor: ThreadPoolExecutor, renderer: Renderer, answering: ErrorMiddleware
    ) -> web.Application:
        @web.middleware
        async def around(request: web.Request, handler: Callable[..., object]) -> web.StreamResponse:
            self._patrol.asked(request)
            return await answering(request, handler)  # type: ignore[arg-type]  # aiohttp's own type says less

        watching = JobEventsEndpoint(
            gate=self._gate,
            finding=self._finding,
            jobs=self._jobs,
            streams=self._shares.streams,
            clock=self._clock,
        )
        application = web.Application(middlewares=[around])
        application.on_response_prepare.append(answering.on_prepare)
        application.on_shutdown.append(watching.stop)
        handlers = self._endpoints(executor, renderer, watching)
        for it in OPERATIONS:
            # or a GET of the path to post to were a job that is missing
            path = it.path.replace("{id}", "{id:(?!send_template_emails$)[^/]+}")
            if it.method == "POST":
                application.router.add_post(path, handlers.pop(it.id), expect_handler=expect_nothing_yet)
            else:
                application.router.add_get(path, handlers.pop(it.id))
        for path, handler in handlers.items():
            application.router.add_get(path, handler)
        return application

    async def _check_ready(self, renderer: Renderer) -> None:
        """See whether a job could be checked and stored now.

        Raises:
            DatabaseError, SchemaError, RendererError: it could not.
        """
        await check_writable(self._database)
        if trouble := renderer.start_error:
            raise RendererError(f"templates cannot be rendered: {trouble}")

    def _endpoints(
        self, executor: ThreadPoolExecutor, renderer: Renderer, watching: JobEventsEndpoint
    ) -> dict[str, Handler]:
        """The handlers by the ids of their operations; those of pages for people by their paths."""
        accepting = CreateJobEndpoint(
            self._settings,
            gate=self._gate,
            bodies=self._bodies,
            shares=self._shares,
            jobs=self._jobs,
            answers=self._answers,
            library=self._library,
            renderer=renderer,
            wakeup=self._wakeup,
            forecast=self._forecast,
            executor=executor,
            events=self._events,
            clock=self._clock,
            senders=self._senders,
        )
        controlling = JobActionEndpoints(
            finding=self._finding,
            jobs=self._jobs,
            controls=self._controls,
            wakeup=self._wakeup,
            events=self._events,
            within=self._body_within,
        )
        reading = ReadEndpoints(finding=self._finding, jobs=self._jobs, forecast=self._forecast, events=self._events)
        health = Health(lambda: self._check_ready(renderer), within=self._patience, clock=self._clock)
        papers = DocsEndpoints(finding=self._finding, library=self._library, renderer=renderer, executor=executor)
        return {
            "post": accepting.accept,
            "jobs": reading.jobs,
            "job": reading.job,
            "recipients": reading.recipients,
            "results": reading.results,
            "events": watching.events,
            "actions": controlling.actions,
            **{change.value: controlling.asks(change) for change in JobChange},
            "templates": papers.templates,
            "live": health.live,
            "ready": health.ready,
            "/openapi.json": papers.openapi,
            "/docs": papers.docs,
            "/docs/style.css": papers.style,
            **self._figures(),
        }

    def _figures(self) -> dict[str, Handler]:
        if self._page is None:
            return {}
        return {"/metrics": MetricsEndpoint(self._page, gate=self._gate).show}
