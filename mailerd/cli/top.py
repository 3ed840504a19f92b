"""`mailerd top`: senders with their pace, jobs with their progress, the last failures, daemons and database, live."""

import asyncio
import os
import sys
import termios
import textwrap
import time
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Annotated, Final

import typer
from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from mailerd.cli.common import ConfigOption, no_log, open_database, run_async, settings
from mailerd.cli.output import console, table
from mailerd.config import Live as LiveSetting
from mailerd.config import Settings
from mailerd.core.forecast import Forecast, compute_forecast
from mailerd.core.pauses import MANUAL, until
from mailerd.core.quantities import counted
from mailerd.core.states import JobStatus, State, Tally
from mailerd.core.stats import QueueStats, SenderStats, WebhookStats, counts
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.process import StoreEvents
from mailerd.store.db import error_codes
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import check
from mailerd.store.db.writer import Writer
from mailerd.store.describe import SILENT, heard_of, span, standing
from mailerd.store.forecast_inputs import ForecastReader
from mailerd.store.history import DaemonInfo, HistoryReader, LetterFailure
from mailerd.store.jobs import Job, JobFilter, Jobs
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.senders import default_limits
from mailerd.store.stats import StatsReader, Tallies
from mailerd.texts import heading, tr

# The page of `mailerd top`: one line for each thing, as many as fit into the window, what matters first.

JOBS: Final = 40
"""Jobs of one look: the newest of those that are not ended, and as many of those that are."""
_TROUBLES: Final = 40
_DAEMONS: Final = 4
"""Daemons that have a line of their own."""
_ENOUGH_FOR_BARS: Final = 100
"""Columns from which on there is room for bars beside the figures."""
_BAR: Final = 24
_MOMENT: Final = "%Y-%m-%d %H:%M:%S"
_TIME: Final = "%H:%M:%S"
_SMALL: Final = 20
"""Lines of a window in which nothing takes a second line."""
_LABEL: Final = 10
"""Columns of what stands before a line."""
_RECENT: Final = 60
"""Seconds for which a complaint of Google's counts as now."""
_QUIET: Final = 900
"""Seconds after which it counts as over."""
_HOUR: Final = 60
"""Minutes that the sparkline shows."""
_STEPS: Final = " ▁▂▃▄▅▆▇█"
_OPEN_JOBS: Final = (JobStatus.QUEUED, JobStatus.SENDING, JobStatus.PAUSED)


@dataclass(frozen=True)
class Snapshot:
    """What one look showed."""

    stats: QueueStats
    jobs: list[Job]
    """The jobs of the page, the open ones first."""
    troubles: list[LetterFailure]
    daemons: list[DaemonInfo]
    answered_in: float
    """Seconds that the database took for all of it."""
    writer: str = ""
    """It says which of several servers takes the writes, and since when; empty where there is only one."""
    last_beat: int | None = None
    """Seconds since the last beat of any daemon; None: there never was one."""
    forecasts: Mapping[str, Forecast] = field(default_factory=dict)
    """When the open jobs are done, by job."""
    hour: tuple[int, ...] = ()
    """Letters sent in each of the last 60 minutes, the newest last."""
    complaint: LetterFailure | None = None
    """What Google said last that was no success, of the last failures."""


async def read_snapshot(database: Database, defaults: DefaultLimits) -> Snapshot:
    """Look once."""
    began = time.monotonic()
    stories, jobs = HistoryReader(database), Jobs(database, timeout=10.0)
    stats = await StatsReader(
        database, defaults
    ).read()  # first: only a transaction finds out that the database is back
    newest = await jobs.newest(before=None, limit=JOBS, senders=None)
    under_way = [
        job
        for status in _OPEN_JOBS
        if stats.jobs.get(status)
        for job in await jobs.newest(before=None, limit=JOBS, senders=None, only=JobFilter(status=status))
    ]
    known = {job.id: job for job in (*newest, *under_way)}
    open_ = [job.id for job in known.values() if job.status in _OPEN_JOBS]
    inputs = await ForecastReader(database, LiveSetting(defaults), timeout=10.0).read_all(open_)
    failures = await stories.last_failures(limit=_TROUBLES)
    return Snapshot(
        stats=stats,
        jobs=sorted(known.values(), key=lambda job: (job.status in _OPEN_JOBS, job.id), reverse=True),
        troubles=_grouped(failures),
        complaint=next((it for it in failures if _is_googles(it)), None),
        daemons=await stories.daemons(),
        last_beat=await stories.last_heartbeat(),
        forecasts={id_: compute_forecast(it) for id_, it in inputs.items() if it.letters},
        hour=await _hour(database, stats.at),
        answered_in=time.monotonic() - began,
        writer=_writer(database.pool.writer),
    )


def _writer(writer: Writer) -> str:
    if writer.alone:
        return ""
    # By this machine's clock, as the moment was noted: the database's may differ.
    moved = tr(f", which took over {span(datetime.now(UTC) - writer.moved_at)} ago") if writer.moved_at else ""
    return tr(f", writes go to {writer.where}{moved}")


async def _hour(database: Database, now: datetime) -> tuple[int, ...]:
    points = await Tallies(database).minutes(timedelta(minutes=_HOUR))
    sent = {int((now - it.at).total_seconds()) // 60: it.counts[Tally.SENT] for it in points}
    return tuple(sent.get(ago, 0) for ago in reversed(range(_HOUR)))


def page(snapshot: Snapshot, *, width: int, height: int, trouble: str = "", age: float = 0.0) -> Group:
    """The page for a window of that size; `trouble`: why what is shown is not what is, but `age` seconds old."""
    senders, jobs, troubles = list(snapshot.stats.senders), snapshot.jobs, snapshot.troubles
    health = _health(snapshot, width=width, age=age, stale=bool(trouble))
    if trouble:  # nothing of it may look as if it were known now
        health = [Text(line.plain, "dim") for line in health]
    for line in health:
        line.no_wrap, line.overflow = True, "ellipsis"
    trouble = trouble or _no_daemon(snapshot)
    idle = bool(trouble)
    head = textwrap.wrap(trouble or _remedy(snapshot), width, max_lines=2 if height > _SMALL else 1, placeholder=" …")
    fixed = 7 + len(head) + len(health)  # the title, four rules, two lines of headings
    for_senders, for_jobs, for_troubles = split_rows(height - fixed, [len(senders), len(jobs), max(1, len(troubles))])
    bars = max(0, min(_BAR, (width - _ENOUGH_FOR_BARS) // 3 + 8)) if width >= _ENOUGH_FOR_BARS else 0
    failed = any(job.counts.get(State.FAILED) for job in jobs)
    return Group(
        _line(f"mailerd  {snapshot.stats.at:{_MOMENT if bars else _TIME}} UTC  {_title(snapshot, idle=idle)}"),
        *(_line(line, style="bold red") for line in head),
        _rule("health"), *health,
        _rule("senders", len(senders), for_senders),
        _senders(senders[:for_senders], bars=bars, idle=idle),
        _rule("jobs", len(jobs), for_jobs), _jobs(jobs[:for_jobs], snapshot, idle=idle, bars=bars),
        _rule(tr("went wrong lately"), len(troubles), for_troubles), _troubles(troubles[:for_troubles], failed=failed),
    )  # fmt: skip


def _title(snapshot: Snapshot, *, idle: bool) -> str:
    """What is under way, how fast it goes, and when all of it will be done."""
    said = [counts(snapshot.stats)]
    pace = sum(it.used_minute for it in snapshot.stats.senders)
    if pace and not idle:
        said.append(f"{pace:,} a minute")
    ends = [it.done_at for it in snapshot.forecasts.values()]
    if ends and all(ends) and not idle:
        said.append(f"done about {_clock(max(end for end in ends if end), snapshot.stats.at)}")
    return tr(", ".join(said))


def _clock(moment: datetime, now: datetime) -> str:
    return f"{moment:%H:%M}" if moment.date() == now.date() else f"{moment:%m-%d %H:%M}"


def _remedy(snapshot: Snapshot) -> str:
    """What a person has to do, of the senders that wait for that the first one; "" while none does."""
    broken = [it for it in snapshot.stats.senders if it.repair]
    if not broken:
        return ""
    more = tr(f" (and {counted(len(broken) - 1, 'more sender')})") if len(broken) > 1 else ""
    return tr(f"{broken[0].email} sends nothing until {broken[0].repair}{more}")


def _no_daemon(snapshot: Snapshot) -> str:
    """That no daemon sends, in a line; "" while one does."""
    if heard_of(snapshot.daemons):
        return ""
    since = tr("no daemon was ever heard of")
    if snapshot.last_beat is not None:
        since = tr(f"no daemon has been heard of for {snapshot.last_beat} s")
    number = snapshot.stats.recipients.get(State.WAITING, 0)
    waiting = f"{counted(number, 'letter')} {'waits' if number == 1 else 'wait'}"
    return tr(f"{since}: {waiting}; start one: mailerd run")


def empty_page(trouble: str) -> Group:
    """The page while nothing was ever seen."""
    return Group(_line(f"mailerd  {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"), Text(trouble, style="bold red"))


def split_rows(room: int, wanted: Sequence[int]) -> list[int]:
    """Lines for each of several lists: all that it wants, or the same for each that wants more; at least one."""
    given = [min(1, want) for want in wanted]
    while sum(given) < room and (short := [n for n, want in enumerate(wanted) if given[n] < want]):
        given[min(short, key=lambda n: given[n])] += 1
    return given


def bar(share: float, *, width: int, style: str = "green") -> Text:
    """A bar, full at 1."""
    filled = round(min(1.0, max(0.0, share)) * width)
    return Text("█" * filled, style=style) + Text("░" * (width - filled), style="dim")


def _line(text: str, *, style: str = "bold") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _label(name: str) -> Text:
    text = heading(name)
    return Text(text + " " * max(1, _LABEL - cell_len(text)))


def _rule(title: str, number: int = 0, room: int = 0) -> Rule:
    cut = tr(f" ({room} of {number})") if room < number else ""
    return Rule(f"{heading(title)}{cut}", align="left", style="dim", characters="─")


def _health(snapshot: Snapshot, *, width: int, age: float, stale: bool) -> list[Text]:
    """`age`: seconds since the look; `stale`: no newer one was answered."""
    took = f"{snapshot.answered_in * 1000:.0f} ms"
    database = Text(
        tr(f"answered in {took}, {age:.0f} s ago") if stale else tr(f"answers, {took}{snapshot.writer}"), "green"
    )
    lines = [_label("database") + database, _label("Google") + _google(snapshot, age=age)]
    if sum(snapshot.hour):
        said = tr(f" {sum(snapshot.hour):,} in 1 h")
        lines.append(_label("sent") + Text(sparkline(snapshot.hour[cell_len(said) + 10 - width :]), "cyan") + said)
    for daemon in snapshot.daemons[:_DAEMONS]:
        heard = Text(
            tr(f"heard of {daemon.silent + age:.0f} s ago"), "green" if daemon.silent <= SILENT else "bold red"
        )
        lines.append(_label("daemon") + Text(f"{daemon.host}:{daemon.pid}  ") + heard)
    if (more := len(snapshot.daemons) - _DAEMONS) > 0:
        lines.append(Text(tr(f"          and {more} more daemons")))
    if snapshot.stats.webhooks:
        lines.append(_label("webhooks") + _webhooks(snapshot.stats.webhooks))
    if not snapshot.daemons:
        lines.append(_label("daemon") + Text(tr("none runs"), "bold red"))
    return lines


def sparkline(values: Sequence[int]) -> str:
    """A character a value, the largest one full; a value above nothing is never shown as nothing."""
    most = max(values, default=0)
    return "".join(_STEPS[-(-value * (len(_STEPS) - 1) // most) if most else 0] for value in values)


def _webhooks(webhooks: Sequence[WebhookStats]) -> Text:
    """How the endpoints stand: those that are not well by name, and how far behind the others are."""
    bad = [f"{it.name} {it.standing.replace('_', ' ')}" for it in webhooks if it.standing != "on"]
    behind = max(webhooks, key=lambda it: it.oldest)
    said = tr(counted(len(webhooks), "endpoint")) + (f", {', '.join(bad)}" if bad else "")
    if behind.undelivered:
        oldest = span(timedelta(seconds=behind.oldest))
        waiting = counted(sum(it.undelivered for it in webhooks), "event")
        said += tr(f"; {waiting} waiting, the oldest for {oldest} ({behind.name})")
    return Text(said, "yellow" if bad else "green")


def _is_googles(it: LetterFailure) -> bool:
    """Not what a person has settled, nor an address that is suppressed, nor a letter that cannot be made."""
    ours = "cannot be made: " in it.error or "be rendered now: " in it.error
    return it.what in {"deferred", "released", "failed", "lost", "undone"} and not ours


def _google(snapshot: Snapshot, *, age: float) -> Text:
    """What Google said last that was no success, and when: every such answer leaves a line in the log of attempts."""
    if (last := snapshot.complaint) is None:
        return Text(tr("no complaint within a day"), "green")
    age += max(0.0, (snapshot.stats.at - last.at).total_seconds())
    style = "bold red" if age < _RECENT else "yellow" if age < _QUIET else "green"
    return Text(tr(f"last complaint {span(timedelta(seconds=age))} ago: {last.error.splitlines()[0]}"), style)


def _senders(senders: Sequence[SenderStats], *, bars: int, idle: bool) -> Table:
    """`idle`: no daemon sends now, or it is not known."""
    rows: list[list[str | Text]] = [
        [
            it.email, *_used(it.used_minute, it.per_minute, bars=bars), *_used(it.used_day, it.per_day, bars=bars),
            _standing(it, idle=idle),
        ]
        for it in senders
    ]  # fmt: skip
    headings = ["sender", "minute", "", "24 hours", "", "now"] if bars else ["sender", "minute", "24 hours", "now"]
    return table(headings, rows, soft={0, len(headings) - 1})


def _used(used: int, limit: int, *, bars: int) -> list[Text]:
    share = used / limit if limit else 0.0
    style = "green" if share < 0.8 else "yellow" if share < 1 else "red"  # noqa: PLR2004 - nearly used up
    figure = Text(f"{used:,}/{limit:,}" if limit else tr(f"{used:,}, no limit"), "" if bars else style)
    return [figure, bar(share, width=bars, style=style)] if bars else [figure]


def _standing(sender: SenderStats, *, idle: bool) -> Text:
    if sender.paused_until is None:
        used_up = sender.per_day and sender.used_day >= sender.per_day
        return (
            Text(tr("the day is used up"), "yellow")
            if used_up
            else Text("-", "dim")
            if idle
            else Text(heading("goes"), "green")
        )
    if sender.repair:
        return Text(tr(f"paused until {sender.repair}"), "bold red")
    cause = sender.pause_reason if sender.pause_cause == MANUAL else sender.pause_cause.replace("_", " ")
    return Text(tr(f"paused {until(sender.paused_until, '{:%H:%M:%S}'.format)}: {cause}"), "bold red")


def _jobs(jobs: Sequence[Job], snapshot: Snapshot, *, idle: bool, bars: int) -> Table:
    """`idle`: no daemon sends now, or it is not known."""
    forecasts, daemon = {} if idle else snapshot.forecasts, heard_of(snapshot.daemons)
    rows: list[list[str | Text]] = []
    for job in jobs:
        sent, failed = job.counts.get(State.SENT, 0), job.counts.get(State.FAILED, 0)
        share = [bar(sent / job.total if job.total else 1.0, width=bars, style="cyan")] if bars else []
        figures: list[str | Text] = [f"{sent:,}/{job.total:,}", Text(f"{failed:,}", "red" if failed else "dim")]
        done = forecasts[job.id].done_at if job.id in forecasts else None
        end = [_clock(done, datetime.now(UTC)) if done else "-"] if bars else []
        rows.append([job.id, standing(job, daemon=daemon), *share, *figures, *end, job.sender_email])
    wide = ["done about"] if bars else []
    headings = ["job", "status", *([""] if bars else []), "sent", "failed", *wide, "sender"]
    return table(headings, rows, soft={len(headings) - 1})


def _grouped(troubles: Sequence[LetterFailure]) -> list[LetterFailure]:
    """The newest of each run of equal ones, with how many more there are behind its address."""
    grouped = []
    for _, run in groupby(troubles, key=lambda it: (it.what, it.error)):
        newest, *older = run
        grouped.append(replace(newest, to_email=f"{newest.to_email} +{len(older)}") if older else newest)
    return grouped


def _troubles(troubles: Sequence[LetterFailure], *, failed: bool) -> Table:
    """`failed`: a job above has failed letters, of an earlier day or refused when they were accepted."""
    if not troubles:
        said = tr("no attempt within a day; of failed letters `mailerd jobs show ID` tells more")
        nothing = Text(said) if failed else Text(tr("nothing within a day"), "green")
        return table([""], [[nothing]], soft={0})
    rows: list[list[str | Text]] = [
        [f"{it.at:%H:%M:%S}", heading(it.what), it.to_email, tr(it.error).replace("\n", " ")] for it in troubles
    ]
    return table([""] * 4, rows, soft={2, 3})


_PIPE_HEIGHT: Final = 200
"""Lines of a page that goes to a file or a pipe."""
_LATE: Final = 1.0
"""Seconds without an answer of the database after which that is said."""


def top(
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two refreshes.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show one page and end.")] = False,
    config: ConfigOption = None,
) -> None:
    """Watch senders, jobs, failures, daemons and the database; q ends it."""
    known = settings(config)
    try:
        run_async(_once(known) if once or not sys.stdout.isatty() else _top(known, every=every))
    except KeyboardInterrupt:
        return


async def _once(known: Settings) -> None:
    async with open_database(known) as database:
        shown = console()
        shown.print(page(await read_snapshot(database, default_limits(known)), width=shown.width, height=_PIPE_HEIGHT))


async def _top(known: Settings, *, every: float) -> None:
    # Silent, and not opened: a log line would tear the screen, and a database that is away is what the page shows.
    database, window = Database(known.database, events=StoreEvents(no_log)), console()
    shown = TopView(window, where=database.where)
    try:
        with _quit_key() as quits, Live(console=window, screen=True, auto_refresh=False) as live:

            async def watch() -> None:
                while True:
                    await _look_and_show(database, default_limits(known), shown, live)
                    await asyncio.sleep(every)

            watching, leaving = asyncio.create_task(watch()), asyncio.create_task(quits.wait())
            try:
                await asyncio.wait({watching, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if watching.done():
                    watching.result()
            finally:  # Ctrl-C cancels this
                watching.cancel()
                leaving.cancel()
    finally:
        await database.close()


@contextmanager
def _quit_key() -> Iterator[asyncio.Event]:
    """Listen to the keyboard meanwhile; the event is set by q. The terminal is left as it was."""
    quits, loop, keyboard = asyncio.Event(), asyncio.get_running_loop(), sys.stdin.fileno()
    if not sys.stdin.isatty():
        yield quits
        return

    def pressed() -> None:
        if b"q" in os.read(keyboard, 100).lower():
            quits.set()

    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)  # keys come one by one, and Ctrl-C is a signal still
    loop.add_reader(keyboard, pressed)
    try:
        yield quits
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


class TopView:
    """The last thing that was seen; it stays on the screen while nothing new comes, and says so.

    `where`: the address of the database.
    """

    def __init__(self, console: Console, *, where: str) -> None:
        self._console, self._where = console, where
        self._snapshot: Snapshot | None = None
        self._since = time.monotonic()

    def seen(self, snapshot: Snapshot) -> Group:
        """The page of a look that was answered."""
        self._snapshot, self._since = snapshot, time.monotonic()
        return self._page("")

    def late(self) -> Group:
        """The page while the answer is waited for."""
        remedy = error_codes.away_remedy(self._where)
        return self._page(tr(f"the database has not answered for {time.monotonic() - self._since:.0f} s; {remedy}"))

    def failed(self, error: DatabaseError) -> Group:
        """The page of a look that failed."""
        cause = error_codes.words(error.__cause__ or error) or tr("no answer within its time-out")
        remedy = error_codes.refused(error.errno, error.__cause__)
        if isinstance(error, DatabaseAwayError):
            remedy = error_codes.remedy(error.errno, error.__cause__, self._where)
        trouble = f"the database cannot be seen for {time.monotonic() - self._since:.0f} s: {cause}"
        return self._page(tr(f"{trouble}; {remedy}" if remedy else trouble))

    def _page(self, trouble: str) -> Group:
        if self._snapshot is None:
            return empty_page(trouble)
        size = self._console.size
        return page(
            self._snapshot, width=size.width, height=size.height, trouble=trouble, age=time.monotonic() - self._since
        )


async def _look_and_show(database: Database, defaults: DefaultLimits, shown: TopView, live: Live) -> None:
    looking = asyncio.ensure_future(read_snapshot(database, defaults))
    try:
        while not (await asyncio.wait({looking}, timeout=_LATE))[0]:
            live.update(shown.late(), refresh=True)
    except asyncio.CancelledError:
        looking.cancel()
        raise
    try:
        live.update(shown.seen(looking.result()), refresh=True)
    except DatabaseError as error:
        if not isinstance(error, DatabaseAwayError):
            with suppress(DatabaseError):
                await check(database)  # a table or a column that is missing: that is what is said then
        live.update(shown.failed(error), refresh=True)
