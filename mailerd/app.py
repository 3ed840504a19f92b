"""The daemon, wired together: read it from top to bottom and you know what runs, in which order it starts and stops."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mailerd.clock import SystemClock, new_id
from mailerd.config import Settings
from mailerd.core.decisions import Policy
from mailerd.core.pace import Allowance
from mailerd.dispatch.hand import Hand
from mailerd.dispatch.path import Path
from mailerd.dispatch.progress import Progress
from mailerd.dispatch.reach import Reach
from mailerd.dispatch.recorder import Recorder
from mailerd.dispatch.runner import Runner
from mailerd.dispatch.workshop import Workshop
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.gmail import GmailEvents
from mailerd.events.intake import IntakeEvents
from mailerd.events.runner import RescueEvents, RunnerEvents
from mailerd.events.speech import Tell
from mailerd.events.store import StoreEvents
from mailerd.gmail import Gmail
from mailerd.intake import Address, Intake
from mailerd.rescue.looking import Looking
from mailerd.rescue.orphans import Orphans
from mailerd.rescue.rescue import Rescue
from mailerd.store.claims import Claims
from mailerd.store.daemons import Daemons
from mailerd.store.database import Database
from mailerd.store.migrate import migrate
from mailerd.store.records import Records
from mailerd.store.rescues import Rescues

_BEAT_EVERY: Final = 10.0
"""Seconds between two entries in the register of daemons."""
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

    async def run(self, stop: asyncio.Event, *, started: Callable[[Sequence[Address]], None] | None = None) -> None:
        """Run until `stop`, then drain: claim nothing more, finish what is in hand, record it, leave.

        A bug in any part ends all of them and comes out as an ExceptionGroup: the process ends loudly.
        """
        async with self.gmail, asyncio.TaskGroup() as parts:
            intake = parts.create_task(self.intake.run(started=started), name="intake")
            prepared = parts.create_task(self._prepare(), name="prepare the database")
            if await _first(prepared, stop):
                others = [
                    parts.create_task(self.recorder.run(), name="recorder"),
                    parts.create_task(self.recorder.finish_forever(), name="finish jobs"),
                    parts.create_task(self.hand.renew_forever(), name="renew leases"),
                    parts.create_task(self.rescue.rescue_forever(), name="rescue"),
                    parts.create_task(self.rescue.finish_forever(), name="find unfinished jobs"),
                    parts.create_task(self.rescue.sweep_forever(), name="sweep orphan drafts"),
                    parts.create_task(self._beat_forever(), name="beat"),
                ]
                await self._send_until(stop)
            else:
                prepared.cancel()
                others = []
            for part in [intake, *others]:
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

    async def _beat_forever(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_EVERY)
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


def build(settings: Settings, tell: Tell) -> Daemon:
    """Join the parts of one daemon."""
    clock, daemon_id, policy = SystemClock(), new_id(), _policy(settings)
    lease = timedelta(seconds=settings.runner.lease)
    events, store_events = RunnerEvents(tell), StoreEvents(tell)
    database = Database(settings.database, events=store_events)
    gmail = Gmail(settings.gmail, events=GmailEvents(tell), limit=settings.runner.concurrency + 5)
    recorder = Recorder(records := Records(database, daemon_id), clock=clock, events=events)
    rescues = Rescues(database, daemon_id, policy.in_flight, look_lease=lease, max_attempts=policy.max_attempts)
    hand, progress = Hand(rescues, lease=lease, clock=clock, events=events), Progress()
    reach = Reach(clock=clock, events=events)
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
        claims=Claims(database, daemon_id, lease, _allowance(settings)),
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
    )
    return Daemon(
        settings=settings,
        database=database,
        daemons=Daemons(database, daemon_id),
        gmail=gmail,
        intake=_intake(settings, database, runner, tell),
        recorder=recorder,
        hand=hand,
        runner=runner,
        rescue=_rescue(settings, tell, rescues=rescues, gmail=gmail, recorder=recorder, runner=runner),
        progress=progress,
        events=events,
        store_events=store_events,
    )


def _policy(settings: Settings) -> Policy:
    return Policy(
        max_attempts=settings.retry.max_attempts,
        base=timedelta(seconds=settings.retry.base),
        cap=timedelta(seconds=settings.retry.cap),
        in_flight=timedelta(seconds=settings.gmail.in_flight),
    )


def _allowance(settings: Settings) -> Allowance:
    pace = settings.pace
    return Allowance(pace.units_per_minute, pace.per_minute, pace.per_day)


def _intake(settings: Settings, database: Database, runner: Runner, tell: Tell) -> Intake:
    return Intake(
        settings.intake,
        database=database,
        patience=settings.database.connect_timeout,
        bell=runner,
        events=IntakeEvents(tell),
    )


def _rescue(
    settings: Settings, tell: Tell, *, rescues: Rescues, gmail: Gmail, recorder: Recorder, runner: Runner
) -> Rescue:
    events = RescueEvents(tell)
    return Rescue(
        rows=rescues,
        looking=Looking(gmail),
        orphans=Orphans(gmail, rescues, events),
        clock=SystemClock(),
        events=events,
        runner_events=RunnerEvents(tell),
        touch=recorder.touch,
        ring=runner.ring,
        every=min(5.0, settings.runner.lease / 4),
        sweep_every=settings.runner.sweep_interval,
    )


async def run_until_signalled(settings: Settings, tell: Tell) -> None:
    """The daemon as a process: SIGTERM or SIGINT drains it."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await build(settings, tell).run(stop)


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
