"""The daemon, wired together: read it from top to bottom and you know what runs, in which order it starts and stops."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

from aiohttp import web

from mailerd.clock import Clock, new_id
from mailerd.config import LogSettings, Settings
from mailerd.core.decisions import RetryPolicy
from mailerd.core.stats import QueueStats
from mailerd.errors import ConfigurationError, DatabaseAwayError, DatabaseError
from mailerd.events.base import EventSink, FanOut
from mailerd.events.intake import IntakeEvents, WebEvents
from mailerd.events.process import ProcessEvents, StoreEvents
from mailerd.events.worker import GmailEvents, RecoveryEvents, RendererEvents, RunnerEvents
from mailerd.gmail import Gmail
from mailerd.heartbeat import STALL_TIMEOUT, Heartbeat, Heartbeats, every
from mailerd.inbox.reader import InboxReader, build_reader
from mailerd.intake.auth import CALLER, KeyShare
from mailerd.intake.health import MayName, MetricsPage
from mailerd.intake.http_responses import RETRY_AFTER, ApiError, cannot_render, error_response
from mailerd.intake.parse_job import SenderResolver
from mailerd.intake.read_jobs import ForecastService, write_results
from mailerd.intake.server import Address, Intake
from mailerd.mail.renderer import SEND_LIMITS, Rendered, Renderer
from mailerd.mail.template_library import TemplateLibrary
from mailerd.mail.templates import RecipientData, RendererError, Template
from mailerd.ops.alerts import Alerter, AlertState
from mailerd.ops.metrics import Metrics
from mailerd.ops.stats_poller import QueueChanges, StatsPoller
from mailerd.ops.watchdog import EventLoopMonitor, Systemd, Watchdog
from mailerd.rate_limited_gmail import RateLimitedGmail
from mailerd.store.api_keys import ApiKey, ApiKeys, Sessions
from mailerd.store.console_queries import ConsoleQueries
from mailerd.store.daemons import Daemons
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from mailerd.store.forecast_inputs import ForecastReader
from mailerd.store.history import HistoryReader
from mailerd.store.job_actions import JobActions
from mailerd.store.jobs import Jobs
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.failover import ReplayLog
from mailerd.store.queue.rate_limits import DefaultLimits, RateLimits
from mailerd.store.queue.record import RecordWriter
from mailerd.store.queue.recovery import ExpiredClaims, RecoveryQueries
from mailerd.store.secrets import Secrets
from mailerd.store.senders import default_limits
from mailerd.store.stats import StatsReader, Tallies
from mailerd.web.console import Console, Route
from mailerd.web.html import PageRenderer
from mailerd.web.live import LiveUpdates
from mailerd.web.services import TIMEOUT, Lent, PostBody, RefusedError, Services
from mailerd.web.shared_reads import SharedReads
from mailerd.webhooks import service as webhooks
from mailerd.worker.delivery import Delivery, DeliveryLog, JobProgress, PauseLog
from mailerd.worker.in_flight import CircuitBreaker, InFlight
from mailerd.worker.message_builder import MessageBuilder, UnsubscribeLinks
from mailerd.worker.recorder import Recorder
from mailerd.worker.recovery import OrphanDrafts, Reconciler, Recovery
from mailerd.worker.runner import Runner

# Joins the console: gives it its queries, and what the intake lends it.


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


# The loops of a daemon for its database: heartbeat, pruning, and the search for the server that takes writes.

HEARTBEAT_INTERVAL: Final = 10.0
PRUNE_INTERVAL: Final = 600.0
"""Seconds between two rounds that merge the tallies of old minutes into hours."""


async def heartbeat_loop(daemons: Daemons, heartbeats: Heartbeats, events: RunnerEvents) -> NoReturn:
    """Write the heartbeat of this daemon, until cancelled."""
    heartbeat = heartbeats.register("heartbeat")
    await _every(HEARTBEAT_INTERVAL, daemons.heartbeat, name="beating", heartbeat=heartbeat, events=events)


async def prune_loop(tallies: Tallies, heartbeats: Heartbeats, events: RunnerEvents) -> NoReturn:
    """Merge the tallies of old minutes into hours, until cancelled."""
    heartbeat = heartbeats.register("prune tallies")
    await _every(PRUNE_INTERVAL, tallies.prune, name="pruning tallies", heartbeat=heartbeat, events=events)


async def _every(
    interval: float,
    work: Callable[[], Awaitable[bool | None]],
    *,
    name: str,
    heartbeat: Heartbeat,
    events: RunnerEvents,
) -> NoReturn:
    def failed(error: DatabaseError) -> None:
        events.step_failed(what=name, again_in=interval, error=error)

    await every(interval, work, name=name, first_after=interval, heartbeat=heartbeat, on_error=failed)


_MAX_BLOCKED: Final = 10.0
"""Seconds that the event loop may stand still before the log says so, where systemd sets no watchdog."""
_MAX_CHECK_WAIT: Final = timedelta(seconds=30)
"""How long a check at Google waits for units of its sender. It is repeated later, so it waits for no long pause."""
_MAX_DELETION_WAIT: Final = timedelta(seconds=5)
"""How long the deletion of a failed letter's draft waits for units, since the letter stays in flight meanwhile."""
_AFTER_DRAIN: Final = 15.0
"""Seconds for what comes after a drain: open requests and connections."""
_RELOADABLE: Final = frozenset({"pace", "log", "alerts"})
"""Sections of the configuration that a reload changes. The others need a restart."""
_DATABASE_RETRY_DELAY: Final = 2.0
"""Seconds between two tries to reach a database that was away at the start."""


@dataclass(frozen=True)
class Service:
    """What makes the daemon a service: systemd, the watchdog over its loops, counts, metrics and alerts."""

    systemd: Systemd
    watchdog: Watchdog
    stats: StatsPoller
    alerter: Alerter
    metrics: Metrics
    events: ProcessEvents


@dataclass(frozen=True)
class Daemon:
    """Every part of one daemon, joined."""

    settings: Settings
    database: Database
    daemons: Daemons
    gmail: Gmail
    intake: Intake
    recorder: Recorder
    in_flight: InFlight
    runner: Runner
    recovery: Recovery
    inbox: InboxReader
    progress: JobProgress
    events: RunnerEvents
    store_events: StoreEvents
    service: Service
    heartbeats: Heartbeats
    claims: Claims
    renderer: Renderer
    webhooks: webhooks.WebhookService
    console: WiredConsole

    async def run(self, stop: asyncio.Event, *, started: Callable[[Sequence[Address]], None] | None = None) -> None:
        """Run until `stop`, then drain: claim nothing more, finish the letters in flight, record it, leave.

        A bug in any part ends all of them and comes out as an ExceptionGroup: the process ends loudly.
        """

        def listening(addresses: Sequence[Address]) -> None:
            self.service.watchdog.listening()
            if started is not None:
                started(addresses)

        async with self.gmail, self.renderer, asyncio.TaskGroup() as parts:
            sockets = self.service.systemd.sockets()
            others = [
                parts.create_task(self.intake.run(sockets=sockets, started=listening), name="intake"),
                parts.create_task(self.service.watchdog.loop(), name="watchdog"),
                parts.create_task(self.service.alerter.run(), name="alerter"),
                parts.create_task(self.console.live.run(), name="live updates of the console"),
            ]
            prepared = parts.create_task(self._prepare(), name="prepare the database")
            if await _first(prepared, stop):
                self.service.watchdog.prepared()
                others += self._loops(parts)
                await self._send_until(stop)
                await self.recorder.complete_last_jobs()
            else:
                prepared.cancel()
            for part in others:
                part.cancel()
        await self.daemons.mark_stopped()
        await self.database.close()
        self.events.stopped(sent=self.progress.sent, failed=self.progress.failed)
        await self.service.watchdog.flush_on_exit()

    def _loops(self, parts: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """What runs beside the runner."""
        return [
            parts.create_task(self.recorder.run(), name="recorder"),
            parts.create_task(self.recorder.complete_jobs_loop(), name="finish jobs"),
            parts.create_task(self.in_flight.renew_loop(), name="renew leases"),
            parts.create_task(self.recovery.expired_claims_loop(), name="recover expired claims"),
            parts.create_task(self.recovery.reconcile_loop(), name="reconcile"),
            parts.create_task(self.recovery.stuck_jobs_loop(), name="find stuck jobs"),
            parts.create_task(self.recovery.sweep_loop(), name="sweep orphan drafts"),
            *([parts.create_task(self.inbox.loop(), name="inbox")] if self.settings.inbox.enabled else []),
            parts.create_task(heartbeat_loop(self.daemons, self.heartbeats, self.events), name="heartbeat"),
            parts.create_task(self.service.stats.run(), name="stats"),
            parts.create_task(prune_loop(Tallies(self.database), self.heartbeats, self.events), name="prune tallies"),
            parts.create_task(self.webhooks.run(), name="webhooks"),
        ]

    async def _send_until(self, stop: asyncio.Event) -> None:
        drain, left = self.settings.runner.drain_timeout, 0

        def count() -> None:
            nonlocal left
            left = len(self.in_flight)

        try:
            async with asyncio.timeout(None) as bound, asyncio.TaskGroup() as letters:
                claiming = letters.create_task(self.runner.run(letters), name="runner")
                await stop.wait()
                self.events.draining(in_flight=len(self.in_flight), timeout=drain)
                self.service.watchdog.stopping(in_flight=len(self.in_flight), within=drain + _AFTER_DRAIN)
                loop = asyncio.get_running_loop()
                end = loop.time() + drain
                loop.call_at(end - 0.001, count)  # before the cut, which leaves none
                bound.reschedule(end)
                claiming.cancel()
        except TimeoutError:
            self.events.drain_cut_off(in_flight=left, timeout=drain)

    async def _prepare(self) -> None:
        """Reach the database and bring its schema up to date, however long it stays away; the intake must listen."""
        while True:
            try:
                await self.intake.listens.wait()  # a daemon that cannot have its port leaves no trace in the database
                await self.database.open()
                await migrate(self.database, events=self.store_events)
                await Secrets(self.database, timeout=self.database.probe_timeout).keys()
                await self.daemons.heartbeat()
                return
            except DatabaseAwayError:
                await asyncio.sleep(_DATABASE_RETRY_DELAY)
            except DatabaseError as error:
                if not error.retry:
                    raise
                self.events.step_failed(what="preparing the database", again_in=_DATABASE_RETRY_DELAY, error=error)
                await asyncio.sleep(_DATABASE_RETRY_DELAY)

    def reload(
        self, read: Callable[[], Settings], configure_log: Callable[[LogSettings], None], *, file: str = ""
    ) -> None:
        """Take up what may change while running: pace, log and alerts. A file that cannot be used changes nothing."""
        events, trouble = self.service.events, "the settings could not be read again"
        self.service.watchdog.reloading()
        try:
            new = read()
            self.service.alerter.configure(new.alerts, language=new.log.language)
            self.service.systemd.language = new.log.language
            self.claims.set_limits(default_limits(new))
            configure_log(new.log)
            changed = [name for name in Settings.model_fields if getattr(new, name) != getattr(self.settings, name)]
            later = ", ".join(name for name in changed if name not in _RELOADABLE)
            what = f"pace, log and alerts; a restart is needed for {later}" if later else "pace, log and alerts"
            events.settings_reloaded(file=file or "the environment", what=what)
            trouble = ""
        except ConfigurationError as error:
            events.settings_refused(cause=str(error))
        except Exception as error:  # noqa: BLE001 - a bug here must not end the sending, nor leave systemd waiting
            events.reload_failed(error=error)
        finally:
            self.service.watchdog.reloaded(trouble)


async def _first(work: "asyncio.Task[None]", stop: asyncio.Event) -> bool:
    """Wait for the work or for the stop, whichever comes first; whether the work is done."""
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    return work.done() and not stop.is_set()


def build(settings: Settings, log: EventSink, *, flush: Callable[[], bool] = lambda: False) -> Daemon:
    """Join the parts of one daemon. `flush` hands journald what it has not taken yet, and says whether more is left."""
    clock, daemon_id = Clock(), new_id()
    lease = timedelta(seconds=settings.runner.lease)
    policy, metrics = _policy(settings), Metrics()
    alert_state = AlertState(settings.alerts, language=settings.log.language)
    changes = QueueChanges()
    sink = FanOut(log, metrics.on_event, alert_state.on_event, changes.on_event)
    events = RunnerEvents(sink)
    store_events = StoreEvents(sink)
    heartbeats = Heartbeats(limit=max(STALL_TIMEOUT, 2 * settings.database.statement_timeout))
    database = Database(settings.database, events=store_events, meter=metrics)
    gmail = Gmail(settings.gmail, events=GmailEvents(sink), concurrency=settings.runner.concurrency)
    renderer = Renderer("sending", limits=SEND_LIMITS, events=RendererEvents(sink), keep=True)
    records = RecordWriter(database, daemon_id)
    replay_log = ReplayLog(database, daemon_id, lease, store_events)
    rescues = RecoveryQueries(database, daemon_id, lease, replay_log)
    claims = Claims(database, daemon_id, lease, default_limits(settings), replay_log, gmail.credentials_version)
    recorder = Recorder(records, gmail.semaphore, clock=clock, events=events, heartbeats=heartbeats, memory=replay_log)
    in_flight = InFlight(rescues, lease=lease, clock=clock, events=events, heartbeats=heartbeats)
    links = UnsubscribeLinks(database, base_url=settings.public.base_url, clock=clock)
    progress, breaker = JobProgress(), CircuitBreaker(clock=clock, events=events)
    delivery = Delivery(
        gmail=gmail, limited_gmail=_limited(claims, gmail, max_wait=_MAX_DELETION_WAIT), recorder=recorder,
        semaphore=gmail.semaphore, in_flight=in_flight, breaker=breaker, request_timeout=settings.gmail.request_timeout,
        log=DeliveryLog(events, PauseLog(clock=clock, events=events), progress), policy=policy,
        builder=MessageBuilder(database, renderer=renderer, clock=clock, links=links), clock=clock, events=events,
    )  # fmt: skip
    runner = Runner(
        claims=claims, counts=records, delivery=delivery, in_flight=in_flight, breaker=breaker, progress=progress,
        clock=clock, events=events, daemon_id=daemon_id, poll_interval=settings.runner.poll_interval,
        semaphore=gmail.semaphore, job_changed=recorder.job_changed, heartbeats=heartbeats,
    )  # fmt: skip
    limited_gmail = _limited(claims, gmail, max_wait=_MAX_CHECK_WAIT)
    recovery = _recovery(
        settings, sink, rescues, limited_gmail=limited_gmail, recorder=recorder, runner=runner, heartbeats=heartbeats
    )
    inbox = build_reader(settings, sink, claims, gmail=limited_gmail, wake=runner.wake, heartbeats=heartbeats)
    service = _service(sink, metrics, alert_state, changes, claims=claims, heartbeats=heartbeats, flush=flush)
    page = _page(settings, metrics, database, in_flight)
    console = wire_console(settings, sink, claims=claims, stats=service.stats.current, wake=runner.wake)
    intake = _intake(settings, sink, claims=claims, wake=runner.wake, gmail=gmail, page=page, console=console)
    console.attach(intake, sink)
    return Daemon(
        settings=settings, database=database, gmail=gmail, intake=intake, recorder=recorder, in_flight=in_flight,
        daemons=Daemons(database, daemon_id, replay_log, store_events), runner=runner,
        recovery=recovery, inbox=inbox, progress=progress, events=events, store_events=store_events, service=service,
        heartbeats=heartbeats, claims=claims, renderer=renderer, console=console,
        webhooks=webhooks.build(settings, sink, heartbeats=heartbeats, meter=metrics),
    )  # fmt: skip


def _policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        max_attempts=settings.retry.max_attempts,
        base=timedelta(seconds=settings.retry.base),
        cap=timedelta(seconds=settings.retry.cap),
        late_arrival=timedelta(seconds=settings.gmail.late_arrival),
    )


def _limited(claims: Claims, gmail: Gmail, *, max_wait: timedelta) -> RateLimitedGmail:
    limits = RateLimits(claims.database, lambda: claims.defaults)  # a reload changes them
    return RateLimitedGmail(gmail, limits, max_wait, Clock())


def _service(
    sink: EventSink, metrics: Metrics, alert_state: AlertState, changes: QueueChanges, *, claims: Claims,
    heartbeats: Heartbeats, flush: Callable[[], bool],
) -> Service:  # fmt: skip
    database = claims.database
    systemd = Systemd(language=alert_state.language)
    events = ProcessEvents(sink)

    async def read_stats() -> QueueStats:
        return await StatsReader(database, claims.defaults).read()  # a reload changes the defaults

    def database_status() -> str:
        return database.outage

    stats = StatsPoller(read_stats, changes=changes, metrics=metrics, events=events, heartbeats=heartbeats)
    alerter = Alerter(alert_state, stats.current, database_status, events=events, heartbeats=heartbeats)
    monitor = EventLoopMonitor(events=events, bound=systemd.watchdog / 3 or _MAX_BLOCKED)
    watchdog = Watchdog(
        systemd=systemd, heartbeats=heartbeats, monitor=monitor, events=events, metrics=metrics, stats=stats.current,
        database_status=database_status, flush=flush,
    )  # fmt: skip
    return Service(systemd=systemd, watchdog=watchdog, stats=stats, alerter=alerter, metrics=metrics, events=events)


def _page(settings: Settings, metrics: Metrics, database: Database, in_flight: InFlight) -> MetricsPage:
    def page(may_name: MayName) -> bytes:
        metrics.set_process(
            in_flight=len(in_flight),
            database_up=not database.unavailable,
            connections=database.pool.connections,
            pool_size=settings.database.pool_size,
        )
        metrics.set_servers(database.pool.writer.servers)
        return metrics.page((lambda _: True) if settings.metrics.senders else may_name)

    return page


def _intake(
    settings: Settings,
    sink: EventSink,
    *,
    claims: Claims,
    wake: Callable[[], None],
    gmail: Gmail,
    page: MetricsPage,
    console: WiredConsole,
) -> Intake:
    timeout = settings.database.connect_timeout
    inputs = ForecastReader(claims.database, lambda: claims.defaults, timeout)  # a reload changes the defaults
    return Intake(
        settings.intake,
        database=claims.database,
        patience=timeout,
        wake=wake,
        events=IntakeEvents(sink),
        forecast=ForecastService(inputs),
        senders=SenderResolver(gmail, settings.gmail.aliases),
        page=page,
        webhooks=settings.webhooks,
        console=console.routes,
        hosts=settings.web.names,
        late_arrival=settings.gmail.late_arrival,
        public=settings.public,
        unsubscribe=settings.unsubscribe,
        templates=Path(settings.templates.folder) if settings.templates.folder else None,
    )


def _recovery(
    settings: Settings, sink: EventSink, rescues: RecoveryQueries, *, limited_gmail: RateLimitedGmail,
    recorder: Recorder, runner: Runner, heartbeats: Heartbeats,
) -> Recovery:  # fmt: skip
    events, late_arrival = RecoveryEvents(sink), timedelta(seconds=settings.gmail.late_arrival)
    return Recovery(
        expired=ExpiredClaims(rescues.database, rescues.daemon_id, late_arrival, rescues.replay_log),
        rows=rescues,
        reconciler=Reconciler(limited_gmail, timedelta(seconds=settings.gmail.late_by_proxy)),
        orphan_drafts=OrphanDrafts(limited_gmail, rescues, events),
        clock=Clock(),
        events=events,
        runner_events=RunnerEvents(sink),
        job_changed=recorder.job_changed,
        wake=runner.wake,
        interval=min(5.0, settings.runner.lease / 4),
        sweep_interval=settings.runner.sweep_interval,
        call_timeout=_MAX_CHECK_WAIT.total_seconds() + settings.gmail.request_timeout,
        heartbeats=heartbeats,
    )
