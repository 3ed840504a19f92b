"""The intake as a whole: listens, joins the handlers, and stops without dropping a request that it has in hand."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from mailerd.clock import Clock, SystemClock
from mailerd.config import IntakeSettings
from mailerd.errors import ListenError
from mailerd.events.intake import IntakeEvents
from mailerd.intake.accepting import Accepting, Bell
from mailerd.intake.answers import Answering
from mailerd.intake.bodies import BODY_WITHIN, Bodies, expect_nothing_yet
from mailerd.intake.figures import Figures
from mailerd.intake.forecast import Forecast, LettersAhead
from mailerd.intake.gate import Gate
from mailerd.intake.health import Health
from mailerd.intake.reading import Reading
from mailerd.intake.senders import Senders
from mailerd.store.database import Database
from mailerd.store.jobs import Jobs
from mailerd.store.keys import Keys
from mailerd.store.migrate import check

KEEPALIVE: Final = 75.0
"""Seconds that an idle connection is kept: longer than the usual proxy keeps its end (60 s)."""
THREADS: Final = 4
"""For reading and checking bodies; two of them at most are busy with big ones."""

_LINGER: Final = 0.3
"""Seconds between the end of listening and that of the open connections."""

Address = tuple[str, int]
"""Host and port."""


class Intake:
    """The HTTP part.

    `patience`: seconds that the database gets for one answer (database.connect_timeout). `grace`: seconds that requests
    in hand get at a stop. `forecast` None means to tell the letters ahead and no more, `senders` None that every
    address has a mailbox. `page` makes `/metrics`.
    """

    def __init__(
        self,
        settings: IntakeSettings,
        *,
        database: Database,
        patience: float,
        bell: Bell,
        events: IntakeEvents,
        forecast: Forecast | None = None,
        senders: Senders | None = None,
        clock: Clock | None = None,
        grace: float = 10.0,
        body_within: float = BODY_WITHIN,
        page: Callable[[], bytes] | None = None,
    ) -> None:
        self._settings = settings
        self._page = page
        self._database = database
        self._patience = patience
        self._bell = bell
        self._events = events
        self._clock = clock or SystemClock()
        self._grace = grace
        self._bodies = Bodies(max_body=settings.max_body, within=body_within)
        self._jobs = Jobs(database, patience=patience)
        self._forecast = forecast or LettersAhead(self._jobs)
        self._senders = senders
        self._gate = Gate(Keys(database, patience=patience), events=events, clock=self._clock)

    async def run(
        self, *, sockets: Sequence[socket.socket] = (), started: Callable[[Sequence[Address]], None] | None = None
    ) -> None:
        """Serve until cancelled; `started` is called with the addresses once it listens."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._gate.note_uses(), name="note the use of keys")
            tasks.create_task(self._serve_for_ever(sockets, started), name="serve")

    async def _serve_for_ever(
        self, sockets: Sequence[socket.socket], started: Callable[[Sequence[Address]], None] | None
    ) -> None:
        async with self.serve(sockets=sockets) as addresses:
            if started is not None:
                started(addresses)
            await asyncio.get_running_loop().create_future()  # nobody sets it: cancellation is the end

    @asynccontextmanager
    async def serve(self, *, sockets: Sequence[socket.socket] = ()) -> AsyncIterator[list[Address]]:
        """Listen, on the settings' host and port or on sockets that are bound already; yields the addresses.

        At the end nothing new is taken, and requests in hand get `grace` seconds. Only `run` notes the use of keys.
        """
        executor = ThreadPoolExecutor(THREADS, thread_name_prefix="intake")
        runner = web.AppRunner(
            self._application(executor),
            handle_signals=False,
            access_log=None,
            keepalive_timeout=KEEPALIVE,
            shutdown_timeout=max(self._grace, 0.01),  # aiohttp takes 0 for "no bound"
            auto_decompress=False,
        )
        await runner.setup()
        try:
            for sock in sockets:
                await web.SockSite(runner, sock).start()
            if not sockets:
                await self._listen(runner)
            addresses = [(address[0], address[1]) for address in runner.addresses]
            self._events.intake_listening(where=", ".join(f"http://{host}:{port}" for host, port in addresses))
            yield addresses
        finally:
            # Cleaning up at once resets connections that the kernel has accepted and nobody has read from yet.
            for site in list(runner.sites):
                await site.stop()
            await asyncio.sleep(_LINGER)
            await runner.cleanup()
            executor.shutdown(wait=False, cancel_futures=True)
            self._events.intake_stopped()

    async def _listen(self, runner: web.AppRunner) -> None:
        host, port = self._settings.host, self._settings.port
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ListenError(
                f"the intake cannot listen on {host}:{port}: {error.strerror or error}; see who does with "
                f"`ss -ltnp | grep :{port}`, or change intake.host and intake.port"
            ) from error

    def _application(self, executor: ThreadPoolExecutor) -> web.Application:
        answering = Answering(events=self._events, clock=self._clock)

        @web.middleware
        async def around(request: web.Request, handler: Callable[..., object]) -> web.StreamResponse:
            return await answering(request, handler)  # type: ignore[arg-type]  # aiohttp's own type says less

        accepting = Accepting(
            self._settings,
            gate=self._gate,
            bodies=self._bodies,
            jobs=self._jobs,
            bell=self._bell,
            forecast=self._forecast,
            executor=executor,
            events=self._events,
            clock=self._clock,
            senders=self._senders,
        )
        reading = Reading(gate=self._gate, jobs=self._jobs, forecast=self._forecast)
        health = Health(lambda: check(self._database), within=self._patience, clock=self._clock)
        application = web.Application(middlewares=[around])
        routes = application.router
        routes.add_post("/api/jobs/send_template_emails", accepting.accept, expect_handler=expect_nothing_yet)
        routes.add_get("/api/jobs", reading.jobs)
        one = "/api/jobs/{id:(?!send_template_emails$)[^/]+}"  # or a GET of that path were a job that is missing
        routes.add_get(one, reading.job)
        routes.add_get(f"{one}/recipients", reading.recipients)
        routes.add_get("/health/live", health.live)
        routes.add_get("/health/ready", health.ready)
        if self._page is not None:
            routes.add_get("/metrics", Figures(self._page).show)
        return application
