"""The HTTP server: joins the endpoints, listens, and finishes the requests under way before it stops."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from mailerd.clock import Clock
from mailerd.config import IntakeSettings, PublicSettings, UnsubscribeSettings
from mailerd.config.webhook_settings import WebhookSettings
from mailerd.core.network_rules import is_own_host
from mailerd.core.states import JobChange
from mailerd.errors import DatabaseError, ListenError
from mailerd.events.intake import IntakeEvents, SuppressionEvents
from mailerd.events.worker import RendererEvents
from mailerd.heartbeat import every
from mailerd.intake.auth import ApiKeyAuth, KeyHandler, KeyShares
from mailerd.intake.client_address import ClientAddress, StrangerLog, networks
from mailerd.intake.create_job import CreateJobEndpoint
from mailerd.intake.events_endpoint import EventFeedEndpoint, EventStreams, JobEventsEndpoint
from mailerd.intake.health import HealthEndpoints, MetricsEndpoint, MetricsPage
from mailerd.intake.http_responses import ApiError, no_such_path
from mailerd.intake.listener import SlowClientReaper, cannot_listen, refuse_taken_socket, running
from mailerd.intake.middleware import ErrorMiddleware
from mailerd.intake.openapi import DocsEndpoints
from mailerd.intake.parse_job import OptOutCheck, SenderResolver
from mailerd.intake.query_params import refuse_parameters
from mailerd.intake.read_jobs import JobActionEndpoints, PersonEndpoint, ReadEndpoints
from mailerd.intake.request_body import BodyReader
from mailerd.intake.routes import OPERATIONS, Operation, id_of
from mailerd.intake.suppressions import SuppressionEndpoints
from mailerd.intake.unsubscribe_site import UnsubscribeSite
from mailerd.intake.webhooks import WebhookEndpoints
from mailerd.mail.renderer import CHECK_LIMITS, Renderer
from mailerd.mail.template_library import TemplateLibrary
from mailerd.mail.templates import RendererError
from mailerd.store.api_keys import ApiKeys, Permission
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import check_writable
from mailerd.store.event_feed import EventFeed
from mailerd.store.forecast_inputs import ForecastReader
from mailerd.store.idempotency import PURGE_BATCH, IdempotencyStore
from mailerd.store.job_actions import JobActions
from mailerd.store.jobs import Jobs

PURGE_INTERVAL: Final = 600.0
"""Seconds between two deletions of old answers to idempotency keys."""
SOCKET_UMASK: Final = 0o117
"""Owner and group may use the socket file, others may not."""

Address = tuple[str, int]
"""Host and port."""


class Intake:
    """The HTTP API.

    `patience`: seconds that the database gets for one answer (database.connect_timeout). `wake` makes the runner look
    for work now. `senders` None: every address has a mailbox.
    `page` makes `/metrics`. `late_arrival`: seconds for which a send without an answer may still reach Google.
    `console`: method, path and handler of each page for people. `hosts`: the names by which browsers reach it.
    `templates`: the folder of the named templates. `public`: the site of unsubscribe links. `unsubscribe`: when a
    job without a list is warned of.
    """

    renderer: Renderer | None = None
    create: CreateJobEndpoint | None = None
    """These two while it serves; the console uses them."""

    def __init__(
        self,
        settings: IntakeSettings,
        *,
        database: Database,
        patience: float,
        wake: Callable[[], None],
        events: IntakeEvents,
        forecasts: ForecastReader,
        senders: SenderResolver | None = None,
        clock: Clock | None = None,
        late_arrival: float = 60.0,
        templates: Path | None = None,
        public: PublicSettings | None = None,
        unsubscribe: UnsubscribeSettings | None = None,
        page: MetricsPage | None = None,
        webhooks: WebhookSettings | None = None,
        console: Sequence[tuple[str, str, Handler]] = (),
        hosts: Collection[str] = (),
    ) -> None:
        self._settings, self._page, self._console, self._hosts = settings, page, console, hosts
        self._public = public or PublicSettings()
        self._opt_out = OptOutCheck(
            database, timeout=patience, warn_above=(unsubscribe or UnsubscribeSettings()).warn_above
        )
        self._suppression_events = SuppressionEvents(events.sink)
        self._database, self._patience = database, patience
        self._wake, self._events, self._webhooks = wake, events, webhooks or WebhookSettings()
        self._clock = clock = clock or Clock()
        self.shares: Final = KeyShares(settings, clock)
        self._bodies = BodyReader(max_body=settings.max_body, setting="intake.max_body", large=self.shares.large_bodies)
        self.jobs = Jobs(database, timeout=patience)
        self._answers = IdempotencyStore(database, timeout=patience, keep=timedelta(seconds=settings.idempotency_keep))
        self._controls = JobActions(database, timeout=patience, late_arrival=timedelta(seconds=late_arrival))
        self._library = TemplateLibrary(templates)
        self._forecasts = forecasts
        self._senders = senders
        self.client_address = address = ClientAddress(networks(settings.trusted_proxies))
        self.strangers = strangers = StrangerLog(events=events, clock=clock)
        keys = ApiKeys(database, timeout=patience)
        self.auth = ApiKeyAuth(keys, client_address=address, strangers=strangers, events=events, clock=clock)
        self._slow_clients = SlowClientReaper(strangers=strangers, clock=clock)
        self._middleware = ErrorMiddleware(client_address=address, strangers=strangers, events=events, clock=clock)
        self.listens = asyncio.Event()
        """Set by `run` once it listens."""

    async def run(
        self, *, sockets: Sequence[socket.socket] = (), started: Callable[[Sequence[Address]], None] | None = None
    ) -> None:
        """Serve until cancelled; `started` is called with the addresses once it listens."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.auth.write_last_used(), name="note the use of keys")
            purging = every(PURGE_INTERVAL, self._purge, first_after=PURGE_INTERVAL, sleep=self._clock.sleep)
            tasks.create_task(purging, name="purge old answers")
            tasks.create_task(self._serve_forever(sockets, started), name="serve")
            await self.listens.wait()  # of two ports that are taken, the daemon names the intake's
            site = UnsubscribeSite(
                self._public,
                database=self._database,
                timeout=self._patience,
                events=self._suppression_events,
                client_address=self.client_address,
            )
            tasks.create_task(site.run(), name="unsubscribe site")

    async def _purge(self) -> bool:
        """Delete a batch of old answers; whether there may be more."""
        try:
            return await self._answers.purge() == PURGE_BATCH
        except DatabaseError as error:  # the next round is soon enough
            self._events.answers_not_forgotten(cause=str(error))
            return False

    async def _serve_forever(
        self, sockets: Sequence[socket.socket], started: Callable[[Sequence[Address]], None] | None
    ) -> None:
        async with self.serve(sockets=sockets) as addresses:
            self.listens.set()
            if started is not None:
                started(addresses)
            await asyncio.get_running_loop().create_future()  # ends by cancellation only

    @asynccontextmanager
    async def serve(self, *, sockets: Sequence[socket.socket] = ()) -> AsyncIterator[list[Address]]:
        """Listen on the given sockets, or on the settings' host and port; yields the addresses.

        Only `run` notes the use of keys.
        """
        executor = ThreadPoolExecutor(self.shares.threads, thread_name_prefix="intake")
        async with Renderer("checking", limits=CHECK_LIMITS, events=RendererEvents(self._events.sink)) as renderer:
            self.renderer = renderer
            listened = False
            try:
                async with running(
                    self._application(executor, renderer), name="mailerd.intake.server", strangers=self.strangers,
                    reaper=self._slow_clients,
                ) as runner:  # fmt: skip
                    addresses = await self._listen(runner, sockets)
                    listened = True
                    yield addresses
            finally:
                executor.shutdown(wait=False, cancel_futures=True)
                if listened:
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
        if path:
            await refuse_taken_socket(path)
        before = os.umask(SOCKET_UMASK) if path else None
        try:
            await (web.UnixSite(runner, path) if path else web.TCPSite(runner, host, port)).start()
        except OSError as error:
            if path:
                why = error.strerror or error
                raise ListenError(f"the intake cannot listen on {path}: {why}; change intake.unix_socket") from error
            raise await cannot_listen(error, part="the intake", section="intake", host=host, port=port) from error
        finally:
            if before is not None:
                os.umask(before)

    def _application(self, executor: ThreadPoolExecutor, renderer: Renderer) -> web.Application:
        application = web.Application(middlewares=[self._slow_clients.note_request, self._middleware.answer])
        application.on_response_prepare.append(self._middleware.on_prepare)
        application.on_response_prepare.append(self._slow_clients.on_prepare)
        streams = EventStreams(self.shares.streams, self._clock)
        application.on_shutdown.append(streams.stop)
        docs = DocsEndpoints(library=self._library, renderer=renderer, executor=executor)
        endpoints = self._endpoints(executor, renderer, streams) | {"listTemplates": docs.templates}
        open_to_all = self._health(renderer)
        for it in OPERATIONS:
            # Without the exception, GET /api/jobs/send_template_emails would be a job that is missing.
            path = it.path.replace("{id}", "{id:(?!send_template_emails$)[^/]+}")
            endpoint = self._for_key(it, it.call, endpoints[it.id]) if it.call else open_to_all[it.id]
            self._add_route(application, it.method, path, endpoint)
        pages = docs.pages()
        if self._page:
            pages["/metrics"] = MetricsEndpoint(self._page, auth=self.auth, clock=self._clock).metrics
        if self._console:
            del pages["/"]  # the way to the API's page, where there is no console
        for path, page in pages.items():
            self._add_route(application, "GET", path, self._by_own_name(page))
        for method, path, handler in self._console:
            self._add_route(application, method, path, handler)
        application.router.add_route("*", "/{path:.*}", no_such_path, expect_handler=self._middleware.on_expect)
        return application

    def _add_route(self, application: web.Application, method: str, path: str, endpoint: Handler) -> None:
        if method == "GET":
            application.router.add_get(path, endpoint, expect_handler=self._middleware.on_expect)
        else:
            application.router.add_route(method, path, endpoint, expect_handler=self._middleware.on_expect)

    def _by_own_name(self, page: Handler) -> Handler:
        """A page without a key, for who calls by a name of ours: a page of a stranger whose name was rebound does not.

        The health endpoints say nothing that a stranger may not know, and a proxy may ask them by any name.
        """

        async def answer(request: web.Request) -> web.StreamResponse:
            if not is_own_host(request.headers.get("Host", ""), self._hosts):
                raise ApiError(
                    421, "unknown_host", "mailerd does not go by this name: an operator adds it to web.hosts"
                )
            return await page(request)

        return answer

    def _for_key(self, it: Operation, call: Permission, endpoint: KeyHandler) -> Handler:
        """An operation's endpoint behind the check of the key, and of a query where the operation takes none.

        What only reads holds one of the key's places for reads; a stream, a download and a post have others.
        """
        takes_query = any(each.where == "query" for each in it.params)
        only_reads = it.method == "GET" and it.kind == "application/json" and it.stream is None

        async def answer(request: web.Request) -> web.StreamResponse:
            key = await self.auth.authenticate(request, call)
            if not takes_query:
                refuse_parameters(request)
            async with self.shares.reads.place(key) if only_reads else nullcontext():
                return await endpoint(request, key)

        return answer

    async def _check_ready(self, renderer: Renderer) -> None:
        """Check whether a job could be rendered and stored now.

        Raises:
            DatabaseError, SchemaError, RendererError: it could not.
        """
        await check_writable(self._database)
        if trouble := renderer.start_error:
            raise RendererError(f"templates cannot be rendered: {trouble}")

    def _health(self, renderer: Renderer) -> dict[str, Handler]:
        """The operations that need no key, by their ids."""
        check, writer = partial(self._check_ready, renderer), self._database.pool.writer
        health = HealthEndpoints(check, writer=writer, timeout=self._patience, clock=self._clock)
        return {"getLiveness": health.live, "getReadiness": health.ready}

    def _endpoints(
        self, executor: ThreadPoolExecutor, renderer: Renderer, streams: EventStreams
    ) -> dict[str, KeyHandler]:
        """The endpoints that need a key, by the ids of their operations."""
        self.create = create = CreateJobEndpoint(
            self._settings, bodies=self._bodies, shares=self.shares, jobs=self.jobs,
            answers=self._answers, library=self._library, renderer=renderer, wake=self._wake, forecasts=self._forecasts,
            executor=executor, events=self._events, clock=self._clock, opt_out=self._opt_out,
            base_url=self._public.base_url, senders=self._senders,
        )  # fmt: skip
        actions = JobActionEndpoints(jobs=self.jobs, controls=self._controls, wake=self._wake, events=self._events)
        read = ReadEndpoints(jobs=self.jobs, forecasts=self._forecasts, events=self._events, shares=self.shares)
        job_events = JobEventsEndpoint(auth=self.auth, jobs=self.jobs, streams=streams, clock=self._clock)
        feed = EventFeed(self._database, timeout=self._patience)
        webhooks = WebhookEndpoints(
            self._webhooks, database=self._database, timeout=self._patience, clock=self._clock, shares=self.shares
        )
        suppressions = SuppressionEndpoints(
            database=self._database, timeout=self._patience, events=self._suppression_events, shares=self.shares
        )
        return {
            "createJob": create.create,
            "dryRunJob": create.dry_run,
            "listJobs": read.jobs,
            "getJob": read.job,
            "listRecipients": read.recipients,
            "findRecipients": PersonEndpoint(
                database=self._database, timeout=self._patience, pace=self.shares.rows
            ).letters,
            "downloadResults": read.results,
            "streamJobEvents": job_events.events,
            "listEvents": EventFeedEndpoint(auth=self.auth, feed=feed, streams=streams, reads=self.shares.reads).events,
            "listJobActions": actions.list_actions,
            **{id_of(change): actions.endpoint(change) for change in JobChange},
            **webhooks.handlers(),
            **suppressions.handlers(),
        }
