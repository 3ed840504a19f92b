"""The HTTP server: joins the endpoints, listens, and finishes the requests under way before it
stops.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from mailerd.clock import Clock
from mailerd.config import IntakeSettings, PublicSettings, UnsubscribeSettings
from mailerd.config.webhook_settings import WebhookSettings
from mailerd.core.i18n import t
from mailerd.core.network_rules import is_own_host
from mailerd.core.reading import Authorization
from mailerd.core.states import JobChange
from mailerd.events.actions import ActionEvents
from mailerd.events.intake import IntakeEvents, SuppressionEvents
from mailerd.events.worker import RendererEvents
from mailerd.http.auth import ApiKeyAuth, KeyHandler, KeyShares
from mailerd.http.errors import ApiError
from mailerd.http.requests import BodyReader
from mailerd.http.responses import no_such_path
from mailerd.http.server import ErrorMiddleware, SlowClientReaper, behind_key, listen, running
from mailerd.intake.create_job import CreateJobEndpoint, OptOutCheck
from mailerd.intake.docs.library import Commands
from mailerd.intake.docs.site import DocsSite
from mailerd.intake.events_endpoint import EventFeedEndpoint, EventStreams, JobEventsEndpoint
from mailerd.intake.health import HealthEndpoints, MetricsEndpoint, MetricsPage
from mailerd.intake.job_reader import JobReader
from mailerd.intake.read_jobs import JobActionEndpoints, PersonEndpoint, ReadEndpoints
from mailerd.intake.recipients import Preview, RecipientEndpoints
from mailerd.intake.response_models import KnownSenders
from mailerd.intake.routes import OPERATIONS, Operation, id_of
from mailerd.intake.search import SearchEndpoint
from mailerd.intake.sender_resolver import SenderResolver
from mailerd.intake.senders import SenderEndpoints
from mailerd.intake.stats import StatsEndpoint
from mailerd.intake.suppressions import SuppressionEndpoints
from mailerd.intake.templates_endpoint import TemplatesEndpoint
from mailerd.intake.unsubscribe_site import UnsubscribeSite
from mailerd.intake.webhooks import WebhookEndpoints
from mailerd.mail.renderer import CHECK_LIMITS, Renderer
from mailerd.mail.table_checker import TableChecker
from mailerd.mail.template_library import TemplateLibrary
from mailerd.mail.templates import RendererError
from mailerd.operations.caller import Backend
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import check_writable
from mailerd.store.read.forecast_inputs import ForecastReader
from mailerd.store.read.jobs import Jobs
from mailerd.store.write.api_keys import ApiKeys
from mailerd.store.write.event_feed import EventFeed
from mailerd.store.write.idempotency import IdempotencyStore
from mailerd.store.write.job_actions import JobActions
from mailerd.store.write.new_jobs import NewJobs
from mailerd.store.write.templates import TemplateStore

Address = tuple[str, int]
"""Host and port."""
Route = tuple[str, str, Handler]
"""Method, path and handler."""


class Intake:
    """The HTTP API.

    `patience`: seconds that the database gets for one answer (database.connect_timeout). `wake`
    makes the runner look for work now. `senders` None: every address has a mailbox. `page` makes
    `/metrics`. `late_arrival`: seconds for which a send without an answer may still reach Google.
    `hosts`: the names by which browsers reach it. `templates`: the folder of the named templates.
    `public`: the site of unsubscribe links. `unsubscribe`: when a job without a list is warned of.
    """

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
        hosts: Collection[str] = (),
        commands: Commands | None = None,
    ) -> None:
        self._settings, self._page, self._hosts = settings, page, hosts
        self.console: Sequence[Route] = ()
        self.error_page: Callable[[web.Request, ApiError], web.Response] | None = None
        """Method, path and handler of each page for people."""
        self.preview: Preview
        """Makes a message for a person who only looks; set by the part that joins all, and works
        with `renderer`.
        """
        self.known: KnownSenders = lambda _: None
        """Set by the part that joins all."""
        self.commands = commands
        """Makes the page of the commands, which the API does not know."""
        self._public = public or PublicSettings()
        self._database, self._patience = database, patience
        self._events = events
        self.renderer: Final = Renderer(
            "checking", limits=CHECK_LIMITS, events=RendererEvents(events.sink)
        )
        self._reader = JobReader(self.renderer, RendererEvents(events.sink))
        self.tables: Final = TableChecker(RendererEvents(events.sink))
        """Checks the tables of the console's drafts."""
        self._clock = clock = clock or Clock()
        self.shares: Final = KeyShares(settings, clock)
        self.jobs, self.new_jobs = (
            Jobs(database, timeout=patience),
            NewJobs(database, timeout=patience),
        )
        self._answers = IdempotencyStore(
            database, timeout=patience, keep=timedelta(seconds=settings.idempotency_keep)
        )
        self.backend: Final = Backend(
            database,
            patience,
            webhooks or WebhookSettings(),
            clock,
            ActionEvents(events.sink),
            JobActions(database, timeout=patience, late_arrival=timedelta(seconds=late_arrival)),
            forecasts.defaults,
            senders.aliases if senders else {},
            senders.gmail.authorization if senders else lambda _: Authorization(),
            wake,
            self.shares,
        )
        """What operations work with."""
        stored = TemplateStore(database, patience)
        self.library = TemplateLibrary(templates, stored=stored)
        self._forecasts, self._mailboxes = forecasts, senders
        self._bodies = BodyReader(
            max_body=settings.max_body, setting="intake.max_body", large=self.shares.large_bodies
        )
        self.create: Final = CreateJobEndpoint(
            settings,
            shares=self.shares,
            jobs=self.new_jobs,
            answers=self._answers,
            library=self.library,
            reader=self._reader,
            wake=wake,
            forecasts=forecasts,
            events=events,
            clock=clock,
            opt_out=OptOutCheck(
                database,
                timeout=patience,
                warn_above=(unsubscribe or UnsubscribeSettings()).warn_above,
                defaults=forecasts.defaults,
            ),
            bodies=self._bodies,
            base_url=self._public.base_url,
            senders=senders,
        )
        self.templates: Final = TemplatesEndpoint(
            self.library, stored, self._reader, self.shares, self._bodies, self.backend, clock
        )
        keys = ApiKeys(database, timeout=patience)
        self.auth: Final = ApiKeyAuth(
            keys, trusted_proxies=settings.trusted_proxies, events=events, clock=clock
        )
        self._slow_clients = SlowClientReaper(strangers=self.auth.strangers, clock=clock)
        self._middleware = ErrorMiddleware(self.auth, events=events, clock=clock)
        self.listens = asyncio.Event()
        """Set by `run` once it listens."""

    async def run(
        self,
        *,
        sockets: Sequence[socket.socket] = (),
        started: Callable[[Sequence[Address]], None] | None = None,
    ) -> None:
        """Serve until cancelled; `started` is called with the addresses once it listens."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.auth.write_last_used(), name="keys.note_use")
            tasks.create_task(self._serve_forever(sockets, started), name="serve")
            await self.listens.wait()  # of two ports that are taken, the daemon names the intake's
            site = UnsubscribeSite(
                self._public,
                database=self._database,
                timeout=self._patience,
                events=SuppressionEvents(self._events.sink),
                client_address=self.auth.client_address,
            )
            tasks.create_task(site.run(), name="unsubscribe site")

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
        async with self.renderer, self._reader, self.tables:
            listened = False
            try:
                async with running(
                    self._application(), name="mailerd.intake.server", reaper=self._slow_clients
                ) as runner:
                    addresses = await self._listen(runner, sockets)
                    listened = True
                    yield addresses
            finally:
                if listened:
                    self._events.intake_stopped()

    async def _listen(
        self, runner: web.AppRunner, sockets: Sequence[socket.socket]
    ) -> list[Address]:
        for sock in sockets:
            await web.SockSite(runner, sock).start()
        if not sockets:
            it = self._settings
            await listen(
                runner,
                part=t("the API"),
                section="intake",
                host=it.host,
                port=it.port,
                path=it.unix_socket,
            )
        addresses = [(it[0], it[1]) for it in runner.addresses if isinstance(it, tuple)]
        where = [
            f"unix:{it}" if isinstance(it, str) else f"http://{it[0]}:{it[1]}"
            for it in runner.addresses
        ]
        self._events.intake_listening(where=", ".join(where))
        return addresses

    def _application(self) -> web.Application:
        application = web.Application(
            middlewares=[self._slow_clients.note_request, self._middleware.answer]
        )
        self._middleware.error_page = self.error_page
        application.on_response_prepare.append(self._middleware.on_prepare)
        application.on_response_prepare.append(self._slow_clients.on_prepare)
        streams = EventStreams(self.shares.streams, self._clock)
        application.on_shutdown.append(streams.stop)
        endpoints = self._endpoints(streams)
        open_to_all = self._health()
        for it in OPERATIONS:
            # Without the exception, GET /api/jobs/send_template_emails would be a job that is
            # missing.
            path = it.path.replace("{id}", "{id:(?!send_template_emails$)[^/]+}")
            endpoint = self._for_key(it, endpoints[it.id]) if it.needs_key else open_to_all[it.id]
            self._add_route(application, it.method, path, endpoint)
        pages = DocsSite(self.commands).pages()
        if self._page:
            pages["/metrics"] = MetricsEndpoint(
                self._page, auth=self.auth, clock=self._clock
            ).metrics
        if self.console:
            del pages["/"]  # the way to the API's page, where there is no console
        for path, page in pages.items():
            self._add_route(application, "GET", path, self._by_own_name(page))
        for method, path, handler in self.console:
            self._add_route(application, method, path, handler)
        application.router.add_route(
            "*", "/{path:.*}", no_such_path, expect_handler=self._middleware.on_expect
        )
        return application

    def _add_route(
        self, application: web.Application, method: str, path: str, endpoint: Handler
    ) -> None:
        if method == "GET":
            application.router.add_get(path, endpoint, expect_handler=self._middleware.on_expect)
        else:
            application.router.add_route(
                method, path, endpoint, expect_handler=self._middleware.on_expect
            )

    def _by_own_name(self, page: Handler) -> Handler:
        """A page without a key, for who calls by a name of ours: a page of a stranger whose name
        was rebound does not.

        The health endpoints say nothing that a stranger may not know, and a proxy may ask them by
        any name.
        """

        async def answer(request: web.Request) -> web.StreamResponse:
            if not is_own_host(request.headers.get("Host", ""), self._hosts):
                raise ApiError(
                    421,
                    "unknown_host",
                    t("this host name is not allowed; an operator can add it to web.hosts"),
                )
            return await page(request)

        return answer

    def _for_key(self, it: Operation, endpoint: KeyHandler) -> Handler:
        """What only reads holds one of the key's places for reads; a stream, a download and a post
        have others.
        """
        only_reads = it.method == "GET" and it.kind == "application/json" and not it.negotiates
        return behind_key(
            endpoint,
            self.auth,
            it.call,
            takes_query=any(each.where == "query" for each in it.params),
            takes_body=it.body is not None,
            reads=self.shares.reads if only_reads else None,
        )

    async def _check_ready(self) -> None:
        """Check whether a job could be rendered and stored now.

        Raises:
            DatabaseError, SchemaError, RendererError: it could not.
        """
        await check_writable(self._database)
        if trouble := self._reader.start_error:
            raise RendererError(t("templates cannot be rendered: {trouble}", trouble=trouble))

    def _health(self) -> dict[str, Handler]:
        """The operations that need no key, by their ids."""
        writer = self._database.pool.writer
        health = HealthEndpoints(
            self._check_ready,
            outage=lambda: self._database.outage,
            writer=writer,
            timeout=self._patience,
            clock=self._clock,
        )
        return {"getLiveness": health.live, "getReadiness": health.ready}

    def _endpoints(self, streams: EventStreams) -> dict[str, KeyHandler]:
        """The endpoints that need a key, by the ids of their operations."""
        actions = JobActionEndpoints(
            self.backend, forecasts=self._forecasts, known=self.known, events=self._events
        )
        read = ReadEndpoints(
            jobs=self.jobs,
            forecasts=self._forecasts,
            events=self._events,
            shares=self.shares,
            known=self.known,
        )
        messages = RecipientEndpoints(
            self.backend, forecasts=self._forecasts, preview=self.preview, shares=self.shares
        )
        job_events = JobEventsEndpoint(
            auth=self.auth, jobs=self.jobs, streams=streams, clock=self._clock, known=self.known
        )
        feed = EventFeedEndpoint(
            auth=self.auth,
            feed=EventFeed(self._database, timeout=self._patience),
            streams=streams,
            reads=self.shares.reads,
        )
        senders = SenderEndpoints(self.backend, self._mailboxes)
        return {
            "createJob": self.create.create,
            "dryRunJob": self.create.dry_run,
            "testJob": self.create.create_test,
            "sendMessage": self.create.create_message,
            "getMessage": read.message,
            "listJobs": read.jobs,
            "getJob": read.job,
            "listRecipients": read.recipients,
            "findRecipients": PersonEndpoint(
                database=self._database, timeout=self._patience, pace=self.shares.rows
            ).messages,
            **messages.handlers(),
            **SearchEndpoint(database=self._database, timeout=self._patience).handlers(),
            **StatsEndpoint(
                database=self._database, timeout=self._patience, clock=self._clock
            ).handlers(),
            "downloadResults": read.results,
            "streamJobEvents": job_events.events,
            "listEvents": feed.events,
            "streamEvents": feed.stream,
            "listJobActions": actions.list_actions,
            "changeJob": actions.change,
            **{id_of(change): actions.endpoint(change) for change in JobChange},
            **self.templates.handlers(),
            **WebhookEndpoints(self.backend).handlers(),
            **SuppressionEndpoints(self.backend, self.shares).handlers(),
            **senders.handlers(),
        }
