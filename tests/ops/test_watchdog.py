"""The watch: ready when it may be, the watchdog fed by progress alone, and stacks in the log before the end."""

import asyncio
import itertools
import tempfile
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from mailerd.core.reading import Severity
from mailerd.core.situation import Facts, line, situation
from mailerd.core.states import JobStatus, State
from mailerd.core.stats import DaemonInfo, QueueStats, SenderStats
from mailerd.errors import DatabaseError
from mailerd.events.process import ProcessEvents, StoreEvents
from mailerd.heartbeat import Heartbeats
from mailerd.ops import metrics
from mailerd.ops.metrics import Metrics, QueueChanges, StatsPoller
from mailerd.ops.watchdog import EventLoopMonitor, Systemd, Watchdog
from tests.support.eventually import eventually
from tests.support.heard import Heard

AT = datetime(2026, 11, 24, 13, 0, tzinfo=UTC)


class Said(Systemd):
    """RecordWriter instead of saying."""

    def __init__(self) -> None:
        super().__init__({"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "30000000"})
        self.said: list[str] = []

    def _say(self, text: str) -> None:
        self.said.append(text)


class Scene:
    """A watch and everything round it."""

    def __init__(self) -> None:
        self.systemd, self.heard, self.at, self.trouble = Said(), Heard(), 0.0, ""
        self.heartbeats = Heartbeats(lambda: self.at, limit=10)
        events = ProcessEvents(self.heard)
        self.monitor = EventLoopMonitor(events=events, bound=10, now=lambda: self.at)
        self.watchdog = Watchdog(
            systemd=self.systemd, heartbeats=self.heartbeats, monitor=self.monitor, events=events, metrics=Metrics(),
            facts=lambda: Facts(None, self.trouble), flush=lambda: False,
        )  # fmt: skip


async def test_it_is_ready_when_the_intake_listens_and_the_schema_is_right() -> None:
    scene = Scene()
    scene.watchdog.listening()
    scene.watchdog.tick()
    assert not any("READY" in text for text in scene.systemd.said)
    scene.watchdog.prepared()
    assert scene.systemd.said[-1] == "READY=1\nSTATUS=running"


async def test_with_the_database_away_it_is_ready_all_the_same_and_says_so() -> None:
    scene = Scene()
    scene.watchdog.listening()
    scene.trouble = "away"
    scene.watchdog.tick()
    said = "READY=1\nSTATUS=The database is unavailable: nothing is accepted, and nothing is sent."
    assert said in scene.systemd.said
    scene.trouble = "read-only"
    scene.watchdog.tick()
    assert scene.systemd.said[-1] == "STATUS=The database is read-only: nothing is accepted, and nothing is sent."


async def test_a_stalled_loop_is_told_with_all_stacks_and_the_watchdog_goes_hungry() -> None:
    scene = Scene()
    scene.heartbeats.register("runner").working("claiming")
    scene.watchdog.tick()
    assert "WATCHDOG=1" in scene.systemd.said
    scene.systemd.said.clear()
    scene.watchdog._notified_at = -1e9  # feeding is due
    scene.at = 11.0
    scene.watchdog.tick()
    scene.watchdog.tick()
    (told,) = scene.heard.of("loop_stalled")
    assert (told["loop"], told["doing"]) == ("runner", "claiming")
    assert "test_a_stalled_loop_is_told" in told["stacks"]
    assert scene.systemd.said == ["WATCHDOG=trigger"]


async def test_a_blocked_loop_is_told_once_by_the_guard() -> None:
    scene = Scene()
    scene.monitor.beat()
    scene.at = 9.0
    scene.monitor.sample(asyncio.get_running_loop())
    assert scene.heard.names() == []
    scene.at = 11.0
    scene.monitor.sample(asyncio.get_running_loop())
    scene.monitor.sample(asyncio.get_running_loop())
    (told,) = scene.heard.of("loop_blocked")
    assert "hread MainThread (most recent call first)" in told["stacks"]


async def test_a_blocked_loop_is_told_where_no_file_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    scene = Scene()
    scene.monitor.beat()
    scene.at = 11.0
    scene.monitor.sample(asyncio.get_running_loop())
    (told,) = scene.heard.of("loop_blocked")
    assert "no space left on device" in told["stacks"]
    assert "task " in told["stacks"]


async def test_a_reload_that_is_refused_shows_in_the_status() -> None:
    scene = Scene()
    scene.watchdog.reloading()
    scene.watchdog.reloaded("the settings could not be reloaded")
    assert scene.systemd.said[-1] == "READY=1\nSTATUS=the settings could not be reloaded; running"


async def nothing() -> QueueStats:
    return QueueStats(at=AT)


async def test_clocks_that_differ_are_told_once() -> None:
    heard, heartbeats = Heard(), Heartbeats()
    poller = StatsPoller(nothing, QueueChanges(), Metrics(), ProcessEvents(heard), heartbeats)
    for _ in range(2):
        poller.take(QueueStats(at=datetime.now(UTC) - timedelta(seconds=60)))
    (told,) = heard.of("clock_off")
    assert (round(told["seconds"]), told["direction"]) == (60, "ahead of")
    (it,) = (it for it in situation(poller.facts()) if it.code == "clock_off")
    assert (it.severity, it.text) == (Severity.AMBER, "The clocks of this machine and of the database differ by 60 s.")


async def test_a_daemon_that_is_gone_is_logged_once_by_those_that_run() -> None:
    heard = Heard()
    poller = StatsPoller(nothing, QueueChanges(), Metrics(), ProcessEvents(heard), Heartbeats())
    ours, gone = DaemonInfo("1", "a", 7, "0", 2, age=90), DaemonInfo("2", "b", 8, "0", 41, age=90)
    for _ in range(2):
        poller.take(QueueStats(at=AT, daemons=(ours, gone)))
    assert heard.of("daemon_gone") == [{"daemon": "b:8", "seconds": 41}]
    poller.take(QueueStats(at=AT, daemons=(ours,)))
    poller.take(QueueStats(at=AT, daemons=(ours, gone)))
    assert len(heard.of("daemon_gone")) == 2


async def test_the_tables_are_read_as_soon_as_the_database_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, changes, reads = Heard(), QueueChanges(), list[str]()

    async def read() -> QueueStats:
        reads.append("read")
        if len(reads) == 1:
            raise DatabaseError("look", phase="work", cause=TimeoutError(), errno=0, retry=True, in_doubt=False)
        return QueueStats(at=datetime.now(UTC))

    seconds = itertools.count(0, 100)  # each read takes 100 s
    monkeypatch.setattr(metrics, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    monkeypatch.setattr(metrics, "MIN_STATS_INTERVAL", 0.0)
    poller = StatsPoller(read, changes, Metrics(), ProcessEvents(heard), Heartbeats())

    async def known() -> bool:
        return poller.latest is not None

    running = asyncio.create_task(poller.run())
    await heard.wait_for("stats_failed")
    StoreEvents(changes.on_event).database_back(where="here", seconds=40.0)
    await eventually(known)
    running.cancel()
    assert len(reads) == 2


async def test_a_read_that_stood_still_once_delays_no_other_and_large_tables_are_read_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    takes, now, rests = iter([0.1, 5.0, 0.1, 5.0, 5.0, 0.1]), [0.0], list[float]()

    async def read() -> QueueStats:
        if (took := next(takes, None)) is None:  # there is no seventh read
            raise asyncio.CancelledError
        now[0] += took
        return QueueStats(at=datetime.now(UTC))

    async def sleep(seconds: float) -> None:
        rests.append(round(seconds, 3))
        await asyncio.sleep(0)

    fake = SimpleNamespace(sleep=sleep, timeout=asyncio.timeout)
    changes, clock = QueueChanges(), SimpleNamespace(monotonic=lambda: now[0])
    for name, value in (("asyncio", fake), ("time", clock), ("STATS_INTERVAL", 0.0)):
        monkeypatch.setattr(metrics, name, value)
    with pytest.raises(asyncio.CancelledError):
        await StatsPoller(read, changes, Metrics(), ProcessEvents(Heard()), Heartbeats()).run()
    assert rests == [1.0, 2.0, 2.0, 2.0, 100.0, 2.0]


def test_the_status_line_reads_like_a_sentence() -> None:
    paused = SenderStats(
        email="a@x", per_minute=0, per_day=0, used_minute=0, used_day=0,
        paused_until=AT + timedelta(minutes=65), pause_cause="daily_limit", pause_reason="r",
    )  # fmt: skip
    jobs = {JobStatus.SENDING: 2, JobStatus.QUEUED: 1, JobStatus.COMPLETED: 9}
    alive = DaemonInfo("d", "h", 1, "v", silent=3)
    stats = QueueStats(at=AT, jobs=jobs, recipients={State.WAITING: 1204}, senders=(paused,), daemons=(alive,))
    said = line(stats, situation(Facts(stats)))
    assert said == "3 jobs, 1,204 waiting; a@x is paused until 14:05 UTC: r"
