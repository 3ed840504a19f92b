"""The daemon, wired together: read it from top to bottom and you know what runs, in which order it starts and stops."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from mailerd.alerts.alarms import Alarms
from mailerd.clock import SystemClock, new_id
from mailerd.config import LogSettings, Settings
from mailerd.core.decisions import Policy
from mailerd.core.pace import Allowance
from mailerd.dispatch.hand import Hand
from mailerd.dispatch.path import Path
from mailerd.dispatch.progress import Progress
from mailerd.dispatch.reach import Reach
from mailerd.dispatch.recorder import Recorder
from mailerd.dispatch.runner import Runner
from mailerd.dispatch.workshop import Workshop
from mailerd.errors import ConfigurationError, DatabaseAwayError, DatabaseError
from mailerd.events.gmail import GmailEvents
from mailerd.events.intake import IntakeEvents
from mailerd.events.process import ProcessEvents
from mailerd.events.runner import RescueEvents, RunnerEvents
from mailerd.events.speech import Event, Tell
from mailerd.events.store import StoreEvents
from mailerd.gmail import Gmail
from mailerd.intake import Address, Intake
from mailerd.metrics import Metrics
from mailerd.pulse import LIMIT, Pulses
from mailerd.rescue.looking import Looking
from mailerd.rescue.orphans import Orphans
from mailerd.rescue.rescue import Rescue
from mailerd.service.guard import Guard
from mailerd.service.watch import Watch
from mailerd.store.claims import Claims
from mailerd.store.daemons import Daemons
from mailerd.store.database import Database
from mailerd.store.migrate import migrate
from mailerd.store.records import Records
from mailerd.store.rescues import Rescues
from mailerd.store.survey import Surveys
from mailerd.systemd import Systemd

_BLOCKED: Final = 10.0
"""Seconds that the event loop may stand still without a word, where no watchdog says."""
_BEAT_EVERY: Final = 10.0
"""Seconds between two entries in the register of daemons."""
_LEAVING: Final = 15.0
"""Seconds for what comes after a drain: requests in hand, connections."""
_ASK_AGAIN: Final = 2.0
"""Seconds between two looks for a database that was away at start."""


@dataclass(frozen=True)
class Daemon:
    """Every part of one daemon, joined."""

    settings: Settings
    database: Database
    daemons: Daemons
    gmail: Gmail
    intake: Intake
    recorder: Recorder
    hand: Hand
    runner: Runner
    rescue: Rescue
    progress: Progress
    events: RunnerEvents
    store_events: StoreEvents
    watch: Watch
    alarms: Alarms
    pulses: Pulses
    systemd: Systemd
    claims: Claims
    process_events: ProcessEvents

    async def run(self, stop: asyncio.Event, *, started: Callable[[Sequence[Address]], None] | None = None) -> None:
        """Run until `stop`, then drain: claim nothing more, finish what is in hand, record it, leave.

        A bug in any part ends all of them and comes out as an ExceptionGroup: the process ends loudly.
        """
        async with self.gmail, asyncio.TaskGroup() as parts:

            def listening(addresses: Sequence[Address]) -> None:
                self.watch.listening()
                if started is not None:
                    started(addresses)

            sockets = self.systemd.sockets()
            first = [
                parts.create_task(self.intake.run(sockets=sockets, started=listening), name="intake"),
                parts.create_task(self.watch.watch_forever(), name="watch"),
                parts.create_task(self.alarms.run(), name="alarms"),
            ]
            prepared = parts.create_task(self._prepare(), name="prepare the database")
            if await _first(prepared, stop):
                self.watch.prepared()
                others = [
                    parts.create_task(self.recorder.run(), name="recorder"),
                    parts.create_task(self.recorder.finish_forever(), name="finish jobs"),
                    parts.create_task(self.hand.renew_forever(), name="renew leases"),
                    parts.create_task(self.rescue.rescue_forever(), name="rescue"),
                    parts.create_task(self.rescue.finish_forever(), name="find unfinished jobs"),
                    parts.create_task(self.rescue.sweep_forever(), name="sweep orphan drafts"),
                    parts.create_task(self._beat_forever(), name="beat"),
                    parts.create_task(self.watch.survey_forever(), name="survey"),
                ]
                await self._send_until(stop)
            else:
                prepared.cancel()
                others = []
            for part in [*first, *others]:
                part.cancel()
        await self.database.close()
        self.events.stopped(sent=self.progress.sent, failed=self.progress.failed)

    async def _send_until(self, stop: asyncio.Event) -> None:
        drain = self.settings.runner.drain_timeout
        try:
            async with asyncio.timeout(None) as bound, asyncio.TaskGroup() as letters:
                claiming = letters.create_task(self.runner.run(letters), name="runner")
                await stop.wait()
                self.events.draining(in_hand=len(self.hand), timeout=drain)
                self.watch.stopping(in_hand=len(self.hand), within=drain + _LEAVING)
                bound.reschedule(asyncio.get_running_loop().time() + drain)
                claiming.cancel()
        except TimeoutError:
            self.events.drain_cut_off(in_hand=len(self.hand), timeout=drain)

    async def _prepare(self) -> None:
        """Reach the database and bring its schema up to date, however long it stays away."""
        while True:
            try:
                await self.database.open()
                await migrate(self.database, events=self.store_events)
                await self.daemons.beat()
                return
            except DatabaseAwayError:
                await asyncio.sleep(_ASK_AGAIN)
            except DatabaseError as error:
                if not error.retry:
                    raise
                self.events.step_failed(what="preparing the database", again_in=_ASK_AGAIN, error=error)
                await asyncio.sleep(_ASK_AGAIN)

    def reload(self, read: Callable[[], Settings], configure_log: Callable[[LogSettings], None]) -> None:
        """Take up what may change while running: pace, log and alarms. A file that cannot be used changes nothing."""
        self.watch.reloading()
        try:
            new = read()
            self.alarms.configure(new.alerts)
        except ConfigurationError as error:
            self.process_events.settings_refused(cause=str(error))
            self.watch.reloaded("the settings could not be read again")
            return
        self.claims.default = _allowance(new)
        configure_log(new.log)
        later = [
            name
            for name in ("database", "intake", "runner", "gmail", "retry")
            if getattr(new, name) != getattr(self.settings, name)
        ]
        what = "pace, log and alerts" + (f"; a restart is needed for {', '.join(later)}" if later else "")
        self.process_events.settings_reloaded(file="the configuration", what=what)
        self.watch.reloaded()

    async def _beat_forever(self) -> None:
        pulse = self.pulses.of("beat")
        while True:
            pulse.waiting("the next beat", at_most=_BEAT_EVERY)
            await asyncio.sleep(_BEAT_EVERY)
            pulse.working("beating")
            try:
                await self.daemons.beat()
            except DatabaseAwayError:
                continue  # the store has said so
            except DatabaseError as error:
                self.events.step_failed(what="beating", again_in=_BEAT_EVERY, error=error)


async def _first(work: "asyncio.Task[None]", stop: asyncio.Event) -> bool:
    """Wait for the work or for the stop, whichever comes first; whether the work is done."""
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    return work.done() and not stop.is_set()


def _allowance(settings: Settings) -> Allowance:
    pace = settings.pace
    return Allowance(pace.units_per_minute, pace.per_minute, pace.per_day)


class _Everybody:
    """Hands every event to the log, the metrics and the alarms, so that they always agree."""

    def __init__(self, *listeners: Tell) -> None:
        self.listeners = list(listeners)

    def __call__(self, event: Event, fields: Mapping[str, object], /) -> None:
        for listener in self.listeners:
            listener(event, fields)


def build(settings: Settings, log: Tell, *, flush: Callable[[], None] = lambda: None) -> Daemon:
    """Join the parts of one daemon; `flush` pushes on what the log could not get rid of."""
    metrics = Metrics()
    tell = _Everybody(log, metrics.tell)
    pulses = Pulses(limit=max(LIMIT, 2 * settings.database.statement_timeout))
    systemd = Systemd()
    clock = SystemClock()
    daemon_id = new_id()
    lease = timedelta(seconds=settings.runner.lease)
    policy = Policy(
        max_attempts=settings.retry.max_attempts,
        base=timedelta(seconds=settings.retry.base),
        cap=timedelta(seconds=settings.retry.cap),
        in_flight=timedelta(seconds=settings.gmail.in_flight),
    )
    events, store_events = RunnerEvents(tell), StoreEvents(tell)
    database = Database(settings.database, events=store_events, meter=metrics)
    gmail = Gmail(settings.gmail, events=GmailEvents(tell), limit=settings.runner.concurrency + 5, meter=metrics)
    records = Records(database, daemon_id)
    rescues = Rescues(
        database,
        daemon_id,
        in_flight=policy.in_flight,
        look_lease=lease,
        max_attempts=policy.max_attempts,
    )
    recorder = Recorder(records, clock=clock, events=events, pulses=pulses)
    hand = Hand(rescues, lease=lease, clock=clock, events=events, pulses=pulses)
    reach = Reach(clock=clock, events=events)
    progress = Progress()
    claims = Claims(database, daemon_id, lease, _allowance(settings))
    path = Path(
        google=gmail,
        recorder=recorder,
        workshop=Workshop(database, clock=clock),
        hand=hand,
        reach=reach,
        progress=progress,
        policy=policy,
        request_timeout=settings.gmail.request_timeout,
        clock=clock,
        events=events,
    )
    runner = Runner(
        claims=claims,
        counts=records,
        path=path,
        hand=hand,
        reach=reach,
        progress=progress,
        clock=clock,
        events=events,
        daemon_id=daemon_id,
        poll_interval=settings.runner.poll_interval,
        concurrency=settings.runner.concurrency,
        pulses=pulses,
    )
    rescue = Rescue(
        rows=rescues,
        looking=Looking(gmail),
        orphans=Orphans(gmail, rescues, RescueEvents(tell)),
        clock=clock,
        events=RescueEvents(tell),
        runner_events=events,
        touch=recorder.touch,
        ring=runner.ring,
        every=min(5.0, settings.runner.lease / 4),
        sweep_every=settings.runner.sweep_interval,
        pulses=pulses,
    )
    process_events = ProcessEvents(tell)
    watch = Watch(
        systemd=systemd,
        pulses=pulses,
        guard=Guard(events=process_events, bound=systemd.watchdog / 3 or _BLOCKED),
        events=process_events,
        meter=metrics,
        look=lambda: Surveys(database, claims.default).look(),
        away=lambda: database.away,
        flush=flush,
    )
    alarms = Alarms(
        settings.alerts,
        survey=lambda: watch.survey,
        away=lambda: database.away,
        events=process_events,
        pulses=pulses,
    )
    tell.listeners.append(alarms.tell)

    def page() -> bytes:
        metrics.standing(
            in_hand=len(hand),
            database_up=not database.away,
            connections=database.pool.connections,
            pool_size=settings.database.pool_size,
        )
        return metrics.page()

    intake = Intake(
        settings.intake,
        database=database,
        patience=settings.database.connect_timeout,
        bell=runner,
        events=IntakeEvents(tell),
        page=page,
    )
    return Daemon(
        settings=settings,
        database=database,
        daemons=Daemons(database, daemon_id),
        gmail=gmail,
        intake=intake,
        recorder=recorder,
        hand=hand,
        runner=runner,
        rescue=rescue,
        progress=progress,
        events=events,
        store_events=store_events,
        watch=watch,
        alarms=alarms,
        pulses=pulses,
        systemd=systemd,
        claims=claims,
        process_events=process_events,
    )


class Log(Protocol):
    """What the daemon needs of its log."""

    def tell(self, event: Event, fields: Mapping[str, object], /) -> None:
        """Write one event."""

    def configure(self, settings: LogSettings) -> None:
        """Take other settings."""

    def flush(self) -> None:
        """Push on what it could not get rid of."""


async def run_until_signalled(settings: Settings, log: Log, *, read_again: Callable[[], Settings]) -> None:
    """The daemon as a process: SIGTERM or SIGINT drains it, SIGHUP makes it read its settings again."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    daemon = build(settings, log.tell, flush=log.flush)
    loop.add_signal_handler(signal.SIGHUP, lambda: daemon.reload(read_again, log.configure))
    await daemon.run(stop)


@asynccontextmanager
async def opened(settings: Settings, tell: Tell) -> AsyncIterator[Database]:
    """The database alone, for commands.

    Raises:
        DatabaseAwayError: it cannot be reached.
    """
    database = Database(settings.database, events=StoreEvents(tell))
    try:
        await database.open()
        yield database
    finally:
        await database.close()
