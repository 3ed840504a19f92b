"""A log that was kept while journald was away: it is gone soon after, and what was too much is told and counted."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import aiohttp
import pytest

from mailerd.cli.run import run_until_signalled
from mailerd.config import LogSettings
from mailerd.core.situation import Facts
from mailerd.events.process import ProcessEvents
from mailerd.heartbeat import Heartbeats
from mailerd.ops.log import JournaldTransport, Log
from mailerd.ops.metrics import Metrics
from mailerd.ops.watchdog import EventLoopMonitor, Systemd, Watchdog
from mailerd.sandbox.google import FakeGoogle, FakeLimits, serve
from tests.support.daemon import settings, sign_in
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.own_time import own_time
from tests.support.ports import free_port

RECORDS = 4000


class Reader:
    """Somebody who takes every record as it comes, as journald does."""

    def __init__(self, path: Path) -> None:
        self.taken: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while record := self._socket.recv(65_536):
            self.taken.append(record)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[JournaldTransport]:
    """A way to a journald that is not there, with some megabytes for it."""
    way = JournaldTransport(lost=_lost, told=lambda _: None, address=str(tmp_path / "socket"))
    for number in range(RECORDS):
        way.write({"MESSAGE": f"{number} {'x' * 1300}"})
    yield way
    way._socket.close()


def _lost(number: int) -> Mapping[str, str]:
    return {"MESSAGE": f"lost {number}"}


async def test_what_was_kept_is_gone_within_seconds_of_journald_s_return(
    kept: JournaldTransport, tmp_path: Path
) -> None:
    """The kernel takes a hundred records at a time: one push a turn would need half a minute."""
    assert len(kept._backlog) == RECORDS
    events = ProcessEvents(Heard())
    watchdog = Watchdog(
        systemd=Systemd({}), heartbeats=Heartbeats(), monitor=EventLoopMonitor(events=events, bound=60),
        events=events, metrics=Metrics(), facts=lambda: Facts(None), flush=kept.flush,
    )  # fmt: skip
    reader = Reader(tmp_path / "socket")
    watching = asyncio.create_task(watchdog.loop())
    began = own_time()
    try:
        await eventually(lambda: _holds(len(reader.taken) >= RECORDS))
    finally:
        watching.cancel()
        reader.close()
    assert own_time() - began < 15
    assert [int(record.split(b"=")[1].split()[0]) for record in reader.taken] == list(range(RECORDS)), "in their order"


async def _holds(it: bool) -> bool:  # noqa: FBT001 - what eventually wants
    return it


async def test_records_that_were_lost_are_counted(database_url: str, tmp_path: Path) -> None:
    google, where, journal = FakeGoogle(FakeLimits()), tmp_path / "credentials", Log(LogSettings(format="text"))
    sign_in(google, where)
    async with serve(google) as gmail, aiohttp.ClientSession() as session:
        port = free_port()
        known = settings(database_url, gmail, where, intake={"port": port})

        async def figures() -> str:
            try:
                async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                    return await answer.text()
            except aiohttp.ClientConnectionError:
                return ""

        async def up() -> bool:
            return "mailerd_log_records_lost_total 0.0" in await figures()

        daemon = asyncio.create_task(run_until_signalled(known, journal, read_again=lambda: known))
        try:
            await eventually(up)
            journal._lost_told(7)
            assert "mailerd_log_records_lost_total 7.0" in await figures()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await daemon
