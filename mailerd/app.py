"""The daemon, wired together: read it from top to bottom and you know what runs, in which order it
starts and stops.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final, NoReturn

from mailerd.clock import Clock, new_id
from mailerd.config import Live, LogSettings, Settings
from mailerd.core.decisions import RetryPolicy
from mailerd.core.i18n import t
from mailerd.core.stats import HEARTBEAT_INTERVAL
from mailerd.errors import ConfigurationError, DatabaseAwayError, DatabaseError
from mailerd.events.base import EventSink, FanOut
from mailerd.events.intake import IntakeEvents, WebEvents
from mailerd.events.process import ProcessEvents, StoreEvents
from mailerd.events.webhooks import WebhookEvents
from mailerd.events.worker import GmailEvents, RecoveryEvents, RendererEvents, RunnerEvents
from mailerd.gmail import Gmail
from mailerd.heartbeat import STALL_TIMEOUT, Heartbeats, every
from mailerd.inbox.reader import InboxReader, build_reader
from mailerd.intake.api import Address, Intake
from mailerd.intake.health import MayName, MetricsPage
from mailerd.intake.sender_resolver import SenderResolver
from mailerd.mail.copied_draft import DraftCopier
from mailerd.mail.renderer import SEND_LIMITS, Renderer
from mailerd.mail.spreadsheet import SpreadsheetReader
from mailerd.ops.alerts import Alerter, AlertState
from mailerd.ops.metrics import Metrics, QueueChanges, StatsPoller
from mailerd.ops.watchdog import EventLoopMonitor, Systemd, Watchdog
from mailerd.rate_limited_gmail import PersonalDrafts, RateLimitedGmail
from mailerd.store.db.database import RETRY_REFUSED, Database
from mailerd.store.db.migrate import migrate
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.failover import ReplayLog
from mailerd.store.queue.rate_limits import RateLimits, default_limits
from mailerd.store.queue.record import RecordWriter
from mailerd.store.queue.recovery import ExpiredClaims, RecoveryQueries
from mailerd.store.read.console_queries import ConsoleQueries
from mailerd.store.read.daemons import Daemons
from mailerd.store.read.forecast_inputs import ForecastReader
from mailerd.store.read.history import HistoryReader
from mailerd.store.read.jobs import Jobs
from mailerd.store.read.stats import StatsReader, Tallies
from mailerd.store.write.api_keys import ApiKeys, Sessions
from mailerd.store.write.retention import Retention, rules
from mailerd.store.write.secrets import Secrets
from mailerd.store.write.trouble_history import TroubleHistory
from mailerd.web.console import Console
from mailerd.web.frame.checks import ChecksOnDemand
from mailerd.web.frame.html import PageRenderer
from mailerd.web.frame.live import LiveUpdates
from mailerd.web.frame.services import TIMEOUT, Services
from mailerd.web.frame.shared_reads import SharedReads
from mailerd.webhooks import service as webhooks
from mailerd.worker.delivery import Delivery
from mailerd.worker.delivery_log import DeliveryLog, JobProgress, PauseLog
from mailerd.worker.in_flight import CircuitBreaker, InFlight
from mailerd.worker.message_builder import MessageBuilder, UnsubscribeLinks
from mailerd.worker.recorder import Recorder
from mailerd.worker.recovery import OrphanDrafts, Reconciler, Recovery
from mailerd.worker.runner import Runner

# The loops of a daemon for its database: heartbeat, and the search for the server that takes
# writes.


async def heartbeat_loop(
    daemons: Daemons, heartbeats: Heartbeats, events: RunnerEvents
) -> NoReturn:
    """Write the heartbeat of this daemon, until cancelled; soon after an outage, so that others
    know that it lives.
    """
    name, interval = "daemons.beat", HEARTBEAT_INTERVAL

    def failed(error: DatabaseError) -> None:
        events.step_failed(what=name, again_in=interval, error=error)

    async def rest(seconds: float) -> None:
        await asyncio.sleep(
            min(seconds, _DATABASE_RETRY_DELAY) if daemons.database.outage else seconds
        )

    heartbeat = heartbeats.register("heartbeat")
    await every(
        interval,
        daemons.heartbeat,
        name=name,
        first_after=interval,
        heartbeat=heartbeat,
        on_error=failed,
        sleep=rest,
    )


async def retry_refused_loop(database: Database, heartbeats: Heartbeats) -> NoReturn:
    """Try what the database has refused until it is taken, so that an outage ends when its cause
    does.
    """
    name = "database.retry_refused"
    heartbeat = heartbeats.register(name)
    await every(
        RETRY_REFUSED,
        database.retry_refused,
        name=name,
        first_after=RETRY_REFUSED,
        heartbeat=heartbeat,
    )


_MAX_BLOCKED: Final = 10.0
"""Seconds that the event loop may stand still before the log says so, where systemd sets no
watchdog.
"""
_MAX_CHECK_WAIT: Final = timedelta(seconds=30)
"""How long a check at Google waits for units of its sender.

It is repeated later, so it waits for no long pause.
"""
_MAX_DELETION_WAIT: Final = timedelta(seconds=5)
"""How long the deletion of a failed message's draft waits for units, since the message stays in
flight meanwhile.
"""
_MAX_DRAFT_WAIT: Final = timedelta(seconds=5)
"""How long a person who wants to see a draft waits for units."""
_AFTER_DRAIN: Final = 15.0
"""Seconds for what comes after a drain: open requests and connections."""
_RELOADABLE: Final = frozenset({"pace", "log", "alerts"})
"""Sections of the configuration that a reload changes. The others need a restart."""
_DATABASE_RETRY_DELAY: Final = 2.0
"""Seconds between two tries to reach a database that was away at the start."""


@dataclass(frozen=True)
class Service:
    """What makes the daemon a service: systemd, the watchdog over its loops, counts, metrics and
    alerts.
    """

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
    retention: Retention
    troubles: TroubleHistory
    console: Console

    async def run(
        self, stop: asyncio.Event, *, started: Callable[[Sequence[Address]], None] | None = None
    ) -> None:
        """Run until `stop`, then drain: claim nothing more, finish the messages in flight, record
        it, leave.

        A bug in any part ends all of them and comes out as an ExceptionGroup: the process ends
        loudly.
        """

        def listening(addresses: Sequence[Address]) -> None:
            self.service.watchdog.listening()
            if started is not None:
                started(addresses)

        async with self.gmail, self.renderer, asyncio.TaskGroup() as parts:
            sockets = self.service.systemd.sockets()
            others = [
                parts.create_task(
                    self.intake.run(sockets=sockets, started=listening), name="intake"
                ),
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
            parts.create_task(self.recorder.complete_jobs_loop(), name="jobs.complete"),
            parts.create_task(self.in_flight.renew_loop(), name="leases.renew"),
            parts.create_task(self.recovery.expired_claims_loop(), name="recover expired claims"),
            parts.create_task(self.recovery.reconcile_loop(), name="reconcile"),
            parts.create_task(self.recovery.stuck_jobs_loop(), name="find stuck jobs"),
            parts.create_task(self.recovery.sweep_loop(), name="sweep orphan drafts"),
            *(
                [parts.create_task(self.inbox.loop(), name="inbox")]
                if self.settings.inbox.enabled
                else []
            ),
            parts.create_task(
                heartbeat_loop(self.daemons, self.heartbeats, self.events), name="heartbeat"
            ),
            parts.create_task(
                retry_refused_loop(self.database, self.heartbeats), name="database.retry_refused"
            ),
            parts.create_task(self.service.stats.run(), name="stats"),
            parts.create_task(self.retention.run(), name="retention"),
            parts.create_task(self.troubles.run(), name="troubles"),
            parts.create_task(self.webhooks.run(), name="webhooks"),
        ]

    async def _send_until(self, stop: asyncio.Event) -> None:
        drain, left = self.settings.runner.drain_timeout, 0

        def count() -> None:
            nonlocal left
            left = len(self.in_flight)

        try:
            async with asyncio.timeout(None) as bound, asyncio.TaskGroup() as messages:
                claiming = messages.create_task(self.runner.run(messages), name="runner")
                await stop.wait()
                self.events.draining(in_flight=len(self.in_flight), timeout=drain)
                self.service.watchdog.stopping(
                    in_flight=len(self.in_flight), within=drain + _AFTER_DRAIN
                )
                loop = asyncio.get_running_loop()
                end = loop.time() + drain
                loop.call_at(end - 0.001, count)  # before the cut, which leaves none
                bound.reschedule(end)
                claiming.cancel()
        except TimeoutError:
            self.events.drain_cut_off(in_flight=left, timeout=drain)

    async def _prepare(self) -> None:
        """Reach the database and bring its schema up to date, however long it stays away; the
        intake must listen.
        """
        while True:
            try:
                # a daemon that cannot have its port leaves no trace in the database
                await self.intake.listens.wait()
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
                self.events.step_failed(
                    what="database.prepare", again_in=_DATABASE_RETRY_DELAY, error=error
                )
                await asyncio.sleep(_DATABASE_RETRY_DELAY)

    def reload(
        self,
        read: Callable[[], Settings],
        configure_log: Callable[[LogSettings], None],
        *,
        file: str = "",
    ) -> None:
        """Take up what may change while running: pace, log and alerts.

        A file that cannot be used changes nothing.
        """
        events = self.service.events
        trouble: str = t("the settings could not be reloaded")
        self.service.watchdog.reloading()
        try:
            new = read()
            self.service.alerter.configure(new.alerts, language=new.log.language)
            self.service.systemd.language = new.log.language
            self.claims.defaults.now = default_limits(new)
            configure_log(new.log)
            changed = [
                name
                for name in Settings.model_fields
                if getattr(new, name) != getattr(self.settings, name)
            ]
            later = ", ".join(name for name in changed if name not in _RELOADABLE)
            what = t("sending limits, log and alerts")
            if later:
                what = t("{what}; restart needed for {later}", what=what, later=later)
            events.settings_reloaded(file=file or t("the environment"), what=what)
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


def build(
    settings: Settings, log: EventSink, *, flush: Callable[[], bool] = lambda: False
) -> Daemon:
    """Join the parts of one daemon.

    `flush` hands journald what it has not taken yet, and says whether more is left.
    """
    clock, daemon_id = Clock(), new_id()
    lease = timedelta(seconds=settings.runner.lease)
    metrics = Metrics()
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
    claims = Claims(
        database,
        daemon_id,
        lease,
        Live(default_limits(settings)),
        replay_log,
        gmail.credentials_version,
    )
    in_flight = InFlight(rescues, lease=lease, clock=clock, events=events, heartbeats=heartbeats)
    progress, breaker = JobProgress(), CircuitBreaker(clock=clock, events=events)
    recorder = _recorder(
        sink, records, gmail, heartbeats=heartbeats, memory=replay_log, progress=progress
    )
    delivery = _delivery(
        settings,
        sink,
        claims=claims,
        gmail=gmail,
        recorder=recorder,
        in_flight=in_flight,
        breaker=breaker,
        progress=progress,
        builder=_builder(settings, database, renderer),
    )
    runner = Runner(
        claims=claims,
        counts=records,
        delivery=delivery,
        in_flight=in_flight,
        breaker=breaker,
        progress=progress,
        clock=clock,
        events=events,
        daemon_id=daemon_id,
        poll_interval=settings.runner.poll_interval,
        semaphore=gmail.semaphore,
        job_changed=recorder.job_changed,
        heartbeats=heartbeats,
    )
    limited_gmail = _limited(claims, gmail, max_wait=_MAX_CHECK_WAIT)
    recovery = _recovery(
        settings,
        sink,
        rescues,
        limited_gmail=limited_gmail,
        recorder=recorder,
        runner=runner,
        heartbeats=heartbeats,
    )
    inbox = build_reader(
        settings, sink, claims, gmail=limited_gmail, wake=runner.wake, heartbeats=heartbeats
    )
    service = _service(
        sink,
        metrics,
        alert_state,
        changes,
        claims=claims,
        heartbeats=heartbeats,
        flush=flush,
        gmail=gmail,
    )
    page = _page(settings, metrics, database, in_flight)
    intake = _intake(settings, sink, claims=claims, wake=runner.wake, gmail=gmail, page=page)
    intake.known = service.stats.sender
    troubles = TroubleHistory(database, daemon_id, service.stats.facts, heartbeats, events)
    console = _console(
        settings, sink, intake, claims=claims, troubles=troubles, gmail=gmail, rescues=rescues
    )
    return Daemon(
        settings=settings,
        database=database,
        gmail=gmail,
        intake=intake,
        recorder=recorder,
        in_flight=in_flight,
        daemons=Daemons(database, daemon_id, replay_log, store_events),
        runner=runner,
        recovery=recovery,
        inbox=inbox,
        progress=progress,
        events=events,
        store_events=store_events,
        service=service,
        heartbeats=heartbeats,
        claims=claims,
        renderer=renderer,
        console=console,
        webhooks=webhooks.build(settings, sink, heartbeats=heartbeats, meter=metrics),
        retention=_retention(settings, sink, database, heartbeats),
        troubles=troubles,
    )


def _recorder(
    sink: EventSink,
    records: RecordWriter,
    gmail: Gmail,
    *,
    heartbeats: Heartbeats,
    memory: ReplayLog,
    progress: JobProgress,
) -> Recorder:
    return Recorder(
        records,
        gmail.semaphore,
        clock=Clock(),
        events=RunnerEvents(sink),
        heartbeats=heartbeats,
        memory=memory,
        may_be_over=progress.may_be_over,
    )


def _console(
    settings: Settings,
    sink: FanOut,
    intake: Intake,
    *,
    claims: Claims,
    troubles: TroubleHistory,
    gmail: Gmail,
    rescues: RecoveryQueries,
) -> Console:
    """The pages for people, which the intake serves where they are enabled."""
    own_drafts = PersonalDrafts(
        _limited(claims, gmail, max_wait=_MAX_DRAFT_WAIT), rescues.own_drafts
    )
    services = _services(
        settings,
        sink,
        intake,
        claims=claims,
        troubles=troubles,
        gmail=gmail,
        personal_drafts=own_drafts,
    )
    live = LiveUpdates(sink, services.pages.load if settings.web.enabled else lambda: None)
    console = Console(services, live)
    if settings.web.enabled:
        intake.console, intake.error_page = tuple(console.routes()), console.error_page
    return console


def _delivery(
    settings: Settings,
    sink: EventSink,
    *,
    claims: Claims,
    gmail: Gmail,
    recorder: Recorder,
    in_flight: InFlight,
    breaker: CircuitBreaker,
    progress: JobProgress,
    builder: MessageBuilder,
) -> Delivery:
    clock, events = Clock(), RunnerEvents(sink)
    return Delivery(
        gmail=gmail,
        limited_gmail=_limited(claims, gmail, max_wait=_MAX_DELETION_WAIT),
        recorder=recorder,
        semaphore=gmail.semaphore,
        in_flight=in_flight,
        breaker=breaker,
        request_timeout=settings.gmail.request_timeout,
        log=DeliveryLog(events, PauseLog(clock=clock, events=events), progress),
        policy=_policy(settings),
        builder=builder,
        clock=clock,
        events=events,
    )


def _retention(
    settings: Settings, sink: EventSink, database: Database, heartbeats: Heartbeats
) -> Retention:
    answers = timedelta(seconds=settings.intake.idempotency_keep)
    table = rules(event_days=settings.retention.events, answers=answers, events=WebhookEvents(sink))
    return Retention(database, table, heartbeats, RunnerEvents(sink))


def _policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        max_attempts=settings.retry.max_attempts,
        base=timedelta(seconds=settings.retry.base),
        cap=timedelta(seconds=settings.retry.cap),
        late_arrival=timedelta(seconds=settings.gmail.late_arrival),
    )


def _limited(claims: Claims, gmail: Gmail, *, max_wait: timedelta) -> RateLimitedGmail:
    return RateLimitedGmail(gmail, RateLimits(claims.database, claims.defaults), max_wait, Clock())


def _service(
    sink: EventSink,
    metrics: Metrics,
    alert_state: AlertState,
    changes: QueueChanges,
    *,
    claims: Claims,
    heartbeats: Heartbeats,
    flush: Callable[[], bool],
    gmail: Gmail,
) -> Service:
    database = claims.database
    systemd = Systemd(language=alert_state.language)
    events = ProcessEvents(sink)

    def database_status() -> str:
        return database.outage

    stats = StatsPoller(
        StatsReader(database, claims.defaults, gmail.authorization).read,
        changes=changes,
        metrics=metrics,
        events=events,
        heartbeats=heartbeats,
        outage=database_status,
        connections=lambda: database.connections,
    )
    alerter = Alerter(alert_state, stats.facts, events=events, heartbeats=heartbeats)
    monitor = EventLoopMonitor(events=events, bound=systemd.watchdog / 3 or _MAX_BLOCKED)
    watchdog = Watchdog(
        systemd=systemd,
        heartbeats=heartbeats,
        monitor=monitor,
        events=events,
        metrics=metrics,
        facts=stats.facts,
        flush=flush,
    )
    return Service(
        systemd=systemd,
        watchdog=watchdog,
        stats=stats,
        alerter=alerter,
        metrics=metrics,
        events=events,
    )


def _page(
    settings: Settings, metrics: Metrics, database: Database, in_flight: InFlight
) -> MetricsPage:
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
) -> Intake:
    timeout = settings.database.connect_timeout
    intake = Intake(
        settings.intake,
        database=claims.database,
        patience=timeout,
        wake=wake,
        events=IntakeEvents(sink),
        forecasts=ForecastReader(claims.database, claims.defaults, timeout, gmail.authorization),
        senders=SenderResolver(gmail, settings.gmail.aliases),
        page=page,
        webhooks=settings.webhooks,
        hosts=settings.web.names,
        late_arrival=settings.gmail.late_arrival,
        public=settings.public,
        unsubscribe=settings.unsubscribe,
        templates=Path(settings.templates.folder) if settings.templates.folder else None,
    )
    intake.preview = _builder(settings, claims.database, intake.renderer).preview
    return intake


def _builder(settings: Settings, database: Database, renderer: Renderer) -> MessageBuilder:
    clock = Clock()
    links = UnsubscribeLinks(database, base_url=settings.public.base_url, clock=clock)
    return MessageBuilder(database, renderer=renderer, clock=clock, links=links)


def _services(
    settings: Settings,
    sink: EventSink,
    intake: Intake,
    *,
    claims: Claims,
    troubles: TroubleHistory,
    gmail: Gmail,
    personal_drafts: PersonalDrafts,
) -> Services:
    """What the pages of the console use."""
    database, clock = claims.database, Clock()

    timeout = min(TIMEOUT, settings.database.connect_timeout)
    return Services(
        settings=settings,
        database=database,
        backend=replace(intake.backend, timeout=timeout),
        jobs=Jobs(database, timeout=timeout),
        forecasts=ForecastReader(database, claims.defaults, timeout, gmail.authorization),
        history=HistoryReader(database, timeout),
        keys=ApiKeys(database, timeout=timeout),
        sessions=Sessions(database, timeout),
        tallies=Tallies(database),
        queries=ConsoleQueries(database),
        library=intake.library,
        templates=intake.templates,
        limits=claims.defaults,
        stats_reader=StatsReader(database, claims.defaults, gmail.authorization),
        facts=troubles.facts,
        troubles=troubles,
        outage=lambda: database.outage,
        events=WebEvents(sink),
        clock=clock,
        shared=SharedReads(clock),
        pages=PageRenderer(),
        auth=intake.auth,
        shares=intake.shares,
        renderer=intake.renderer,
        post=intake.create.post,
        preview=intake.preview,
        spreadsheets=SpreadsheetReader(RendererEvents(sink)),
        tables=intake.tables,
        personal_drafts=personal_drafts,
        copier=DraftCopier(RendererEvents(sink)),
        credential_owners=lambda: gmail.credential_owners,
        authorization=gmail.authorization,
        checks=ChecksOnDemand(clock),
    )


def _recovery(
    settings: Settings,
    sink: EventSink,
    rescues: RecoveryQueries,
    *,
    limited_gmail: RateLimitedGmail,
    recorder: Recorder,
    runner: Runner,
    heartbeats: Heartbeats,
) -> Recovery:
    events, late_arrival = RecoveryEvents(sink), timedelta(seconds=settings.gmail.late_arrival)
    return Recovery(
        expired=ExpiredClaims(
            rescues.database, rescues.daemon_id, late_arrival, rescues.replay_log
        ),
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
