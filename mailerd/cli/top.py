"""`mailerd top`: senders with their pace, jobs with their progress, the last failures, daemons and
database, live.
"""

import asyncio
import os
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Annotated, Final

import typer
from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from mailerd.cli.ask import authorizations
from mailerd.cli.common import ConfigOption, no_log, open_database, run_async, settings
from mailerd.cli.daemon import Seen, look
from mailerd.cli.output import JsonOption, broken, print_json
from mailerd.cli.tables import console, table
from mailerd.clock import Clock
from mailerd.config import IntakeSettings, Settings
from mailerd.config import Live as LiveSetting
from mailerd.core.forecast import Forecast, ForecastInputs, compute_forecast
from mailerd.core.i18n import joined, t, tn
from mailerd.core.labels import worded
from mailerd.core.pauses import MANUAL
from mailerd.core.rate_limit import FOREVER
from mailerd.core.reading import Condition, Severity, until
from mailerd.core.situation import Facts, shortened, situation
from mailerd.core.states import JobStatus, State, Tally
from mailerd.core.stats import LATE, DaemonInfo, QueueStats, SenderStats, WebhookStats, counts
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.process import StoreEvents
from mailerd.locale import say
from mailerd.store.db import error_codes
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import check
from mailerd.store.db.writer import Writer
from mailerd.store.queue.rate_limits import default_limits
from mailerd.store.read.describe import span, standing
from mailerd.store.read.forecast_inputs import ForecastReader
from mailerd.store.read.history import HistoryReader, MessageFailure
from mailerd.store.read.jobs import Job, JobFilter, Jobs
from mailerd.store.read.stats import StatsReader, Tallies

# The page of `mailerd top`: one line for each thing, as many as fit into the window, what matters
# first.

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
_SHOWN_FOR: Final = 120
"""Seconds for which a daemon that does not respond has a line of its own."""
_STYLES: Final = {
    Severity.RED: "bold red",
    Severity.AMBER: "yellow",
    Severity.BLUE: "cyan",
    Severity.GREEN: "green",
}
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
    troubles: list[MessageFailure]
    """What went wrong lately, the newest first."""
    answered_in: float
    """Seconds that the database took for all of it."""
    writer: str = ""
    """It says which of several servers takes the writes, and since when; empty where there is only
    one.
    """
    inputs: Mapping[str, ForecastInputs] = field(default_factory=dict)
    """What the forecasts of the open jobs are made of, by job."""
    forecasts: Mapping[str, Forecast] = field(default_factory=dict)
    """When the open jobs are done, by job."""
    hour: tuple[int, ...] = ()
    """Messages sent in each of the last 60 minutes, the newest last."""
    seen: Seen = field(default_factory=Seen)
    """What else is known of the database and of the daemon of this machine."""
    clock_off: float = 0.0
    """Seconds by which this machine's clock is ahead of the database's."""

    @property
    def findings(self) -> list[Condition]:
        """What is not as it should be."""
        return situation(
            Facts(self.stats, self.seen.outage, just_back=self.seen.lives, clock_off=self.clock_off)
        )


async def read_snapshot(reader: StatsReader, intake: IntakeSettings | None = None) -> Snapshot:
    """Look once; `intake`: where the daemon of this machine listens, which is asked too."""
    began, database = time.monotonic(), reader.database
    jobs = Jobs(database, timeout=10.0)
    stats = await reader.read()  # first: only a transaction finds out that the database is back
    clock_off = (Clock().now() - stats.at).total_seconds()
    seen = await look(database, intake, stats.daemons)
    newest = await jobs.newest(before=None, limit=JOBS, senders=None)
    under_way = [
        job
        for status in _OPEN_JOBS
        if stats.jobs.get(status)
        for job in await jobs.newest(
            before=None, limit=JOBS, senders=None, only=JobFilter(status=status)
        )
    ]
    known = {job.id: job for job in (*newest, *under_way)}
    open_ = [job.id for job in known.values() if job.status in _OPEN_JOBS]
    inputs = await ForecastReader(database, reader.defaults, 10.0, reader.authorization).read_all(
        open_
    )
    failures = await HistoryReader(database).last_failures(limit=_TROUBLES)
    return Snapshot(
        stats=stats,
        jobs=sorted(
            known.values(), key=lambda job: (job.status in _OPEN_JOBS, job.id), reverse=True
        ),
        troubles=failures,
        inputs=inputs,
        forecasts={id_: compute_forecast(it) for id_, it in inputs.items() if it.messages},
        hour=await _hour(database, stats.at),
        answered_in=time.monotonic() - began,
        writer=_writer(database.pool.writer),
        seen=seen,
        clock_off=clock_off,
    )


def _writer(writer: Writer) -> str:
    if writer.alone:
        return ""
    # By this machine's clock, as the moment was noted: the database's may differ.
    if not writer.moved_at:
        return t(", writes go to {where}", where=writer.where)
    moved = span(datetime.now(UTC) - writer.moved_at)
    return t(", writes go to {where}, which took over {span} ago", where=writer.where, span=moved)


async def _hour(database: Database, now: datetime) -> tuple[int, ...]:
    points = await Tallies(database).minutes(timedelta(minutes=_HOUR))
    sent = {int((now - it.at).total_seconds()) // 60: it.counts[Tally.SENT] for it in points}
    return tuple(sent.get(ago, 0) for ago in reversed(range(_HOUR)))


def page(
    snapshot: Snapshot, *, width: int, height: int, trouble: str = "", age: float = 0.0
) -> Group:
    """The page for a window of that size; `trouble`: why what is shown is not what is, but `age`
    seconds old.
    """
    senders, jobs, troubles = (
        list(snapshot.stats.senders),
        snapshot.jobs,
        _grouped(snapshot.troubles),
    )
    findings = [] if trouble else shortened(snapshot.findings)
    health = _health(snapshot, findings, width=width, height=height, age=age, stale=bool(trouble))
    if trouble:  # nothing of it may look as if it were known now
        health = [Text(line.plain, "dim") for line in health]
    for line in health:
        line.no_wrap, line.overflow = True, "ellipsis"
    idle = bool(trouble) or any(it.code == "no_daemon" or it.about == "database" for it in findings)
    red = next((it for it in findings if it.severity is Severity.RED), None)
    lines = 2 if height > _SMALL else 1
    head = _cut(trouble, width, lines) if trouble else _told(red, width, lines) if red else []
    fixed = 7 + len(head) + len(health)  # the title, four rules, two lines of headings
    for_senders, for_jobs, for_troubles = split_rows(
        height - fixed, [len(senders), len(jobs), max(1, len(troubles))]
    )
    bars = (
        max(0, min(_BAR, (width - _ENOUGH_FOR_BARS) // 3 + 8)) if width >= _ENOUGH_FOR_BARS else 0
    )
    failed = any(job.counts.get(State.FAILED) for job in jobs)
    return Group(
        _line(
            f"mailerd  {snapshot.stats.at:{_MOMENT if bars else _TIME}} UTC  {_title(snapshot, idle=idle)}"
        ),
        *(_line(line, style="bold red") for line in head),
        _rule(t("Health")),
        *health,
        _rule(t("Senders"), len(senders), for_senders),
        _senders(
            senders[:for_senders],
            snapshot.findings if not trouble else [],
            snapshot.stats.at,
            bars=bars,
        ),
        _rule(t("Jobs"), len(jobs), for_jobs),
        _jobs(jobs[:for_jobs], snapshot, idle=idle, bars=bars),
        _rule(t("Recent problems"), len(troubles), for_troubles),
        _troubles(troubles[:for_troubles], failed=failed),
    )


def _title(snapshot: Snapshot, *, idle: bool) -> str:
    """What is under way, how fast it goes, and when all of it will be done."""
    said = [counts(snapshot.stats)]
    pace = sum(it.used_minute for it in snapshot.stats.senders)
    if pace and not idle:
        said.append(t("{n:,} per minute", n=pace))
    ends = [it.done_at for it in snapshot.forecasts.values()]
    if ends and all(ends) and not idle:
        said.append(
            t("done about {at}", at=_clock(max(end for end in ends if end), snapshot.stats.at))
        )
    return say(joined(said, ", "))


def _clock(moment: datetime, now: datetime) -> str:
    return f"{moment:%H:%M}" if moment.date() == now.date() else f"{moment:%m-%d %H:%M}"


def empty_page(trouble: str) -> Group:
    """The page while nothing was ever seen."""
    return Group(
        _line(f"mailerd  {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"),
        Text(trouble, style="bold red"),
    )


def split_rows(room: int, wanted: Sequence[int]) -> list[int]:
    """Lines for each of several lists: all that it wants, or the same for each that wants more; at
    least one.
    """
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
    text = say(name)
    return Text(text + " " * max(1, _LABEL - cell_len(text)))


def _rule(title: str, number: int = 0, room: int = 0) -> Rule:
    if room < number:
        title = t("{title} ({shown} of {n})", title=title, shown=room, n=number)
    return Rule(say(title), align="left", style="dim", characters="─")


def _health(
    snapshot: Snapshot,
    findings: Sequence[Condition],
    *,
    width: int,
    height: int,
    age: float,
    stale: bool,
) -> list[Text]:
    """`age`: seconds since the look; `stale`: no newer one was answered."""
    took = snapshot.answered_in * 1000
    answered = (
        t("last page read in {ms:.0f} ms, {age:.0f} s ago", ms=took, age=age)
        if stale
        else t("responds, page read in {ms:.0f} ms{writer}", ms=took, writer=snapshot.writer)
    )
    lines, daemons = [_label(t("database")) + Text(say(answered), "green")], snapshot.stats.daemons
    if sum(snapshot.hour):
        said = say(t(" {n:,} in 1 h", n=sum(snapshot.hour)))
        lines.append(
            _label(t("sent"))
            + Text(sparkline(snapshot.hour[cell_len(said) + 10 - width :]), "cyan")
            + said
        )
    for daemon in [it for it in daemons if it.silent < _SHOWN_FOR][:_DAEMONS]:
        heard = Text(say(t("seen {n} s ago", n=f"{daemon.silent + age:.0f}")), _colour(daemon, age))
        lines.append(_label(t("daemon")) + Text(f"{daemon.host}:{daemon.pid}  ") + heard)
    if (more := sum(it.runs for it in daemons) - _DAEMONS) > 0:
        lines.append(
            Text(say(tn("          and {n} more daemon", "          and {n} more daemons", more)))
        )
    if snapshot.stats.webhooks:
        lines.append(_label(t("webhooks")) + Text(_webhooks(snapshot.stats.webhooks), "green"))
    if not findings and not stale:
        lines.append(_label(t("now")) + Text(say(t("Everything is working.")), "green"))
    room = max(1, height // 6)
    # it is the first line
    rest = findings[1:] if findings and findings[0].severity is Severity.RED else findings
    shown = 0
    for it in rest:
        told = _told(it, width, 2 if height > _SMALL else 1)
        if shown and room < len(told):
            break
        lines += [Text(line, _STYLES[it.severity]) for line in told]
        room, shown = room - len(told), shown + 1
    if len(rest) > shown:
        lines.append(Text(say(t("and {n} more: `mailerd check`", n=len(rest) - shown))))
    return lines


def _colour(daemon: DaemonInfo, age: float) -> str:
    """Of when a daemon was seen, `age` seconds before now."""
    if not daemon.runs:
        return "bold red"
    return "yellow" if daemon.silent + age > LATE else "green"


def _told(it: Condition, width: int, lines: int) -> list[str]:
    """A finding in so many lines, in which its remedy is whole: a command that is cut is none."""
    text, told = say(it.text), say(it.told)
    if cell_len(told) <= width or not it.remedies:
        return _cut(told, width, lines)
    remedy = f"-> {say(it.remedies[0])}"
    if lines > 1:
        return [
            *_cut(text, width, lines - 1),
            *(f"  {line}" for line in _cut(remedy, width - 2, 1)),
        ]
    return _cut(f"{_cut(text, max(1, width - cell_len(remedy) - 1), 1)[0]} {remedy}", width, 1)


def _cut(text: str, width: int, lines: int) -> list[str]:
    """A text in at most so many lines; where it is longer, the last one ends in an ellipsis."""
    found = broken(text, width)
    if len(found) <= lines and all(cell_len(line) <= width for line in found):
        return found
    return [
        *found[: lines - 1],
        set_cell_size(" ".join(found[lines - 1 :]), width - 1).rstrip() + "…",
    ]


def sparkline(values: Sequence[int]) -> str:
    """A character a value, the largest one full; a value above nothing is never shown as
    nothing.
    """
    most = max(values, default=0)
    return "".join(_STEPS[-(-value * (len(_STEPS) - 1) // most) if most else 0] for value in values)


def _webhooks(webhooks: Sequence[WebhookStats]) -> str:
    """How many endpoints there are, and how far behind the last one is."""
    behind = max(webhooks, key=lambda it: it.oldest)
    endpoints = tn("{n:,} endpoint", "{n:,} endpoints", len(webhooks))
    if not behind.undelivered:
        return say(endpoints)
    events = tn(
        "{n:,} event waiting", "{n:,} events waiting", sum(it.undelivered for it in webhooks)
    )
    return say(
        t(
            "{endpoints}; {events}, the oldest for {span} ({name})",
            endpoints=endpoints,
            events=events,
            span=span(timedelta(seconds=behind.oldest)),
            name=behind.name,
        )
    )


def _senders(
    senders: Sequence[SenderStats], findings: Sequence[Condition], now: datetime, *, bars: int
) -> Table:
    worst = {it.subject: it for it in reversed(findings) if it.about.startswith("sender ")}
    rows: list[list[str | Text]] = [
        [
            it.email,
            *_used(it.used_minute, it.per_minute, bars=bars),
            *_used(it.used_day, it.per_day, bars=bars),
            _standing(it, worst.get(it.email), now),
        ]
        for it in senders
    ]
    minute, day = t("Minute"), t("24 hours")
    headings = [t("Sender"), *([minute, "", day, ""] if bars else [minute, day]), t("Now")]
    return table(headings, rows, soft={0, len(headings) - 1})


def _used(used: int, limit: int, *, bars: int) -> list[Text]:
    share = used / limit if limit else 0.0
    style = "green" if share < 0.8 else "yellow" if share < 1 else "red"  # noqa: PLR2004 - nearly used up
    figure = Text(
        f"{used:,}/{limit:,}" if limit else say(t("{n:,}, no limit", n=used)), "" if bars else style
    )
    return [figure, bar(share, width=bars, style=style)] if bars else [figure]


def _standing(it: SenderStats, found: Condition | None, now: datetime) -> Text:
    """What holds it, or that it has sent in the last minute; of one that has not, nothing is
    said.
    """
    if found is None:
        return Text(say(t("active")), "green") if it.used_minute else Text("-", "dim")
    state = worded("paused_manually" if found.code == MANUAL else found.code)
    if found.until and found.until != FOREVER and found.severity is not Severity.RED:
        state = t("{state} {until}", state=state, until=until(found.until, now))
    return Text(say(state), _STYLES[found.severity])


def _jobs(jobs: Sequence[Job], snapshot: Snapshot, *, idle: bool, bars: int) -> Table:
    """`idle`: no daemon sends now, or it is not known."""
    forecasts, daemon = (
        {} if idle else snapshot.forecasts,
        snapshot.seen.runs(snapshot.stats.daemons),
    )
    rows: list[list[str | Text]] = []
    for job in jobs:
        sent, failed = job.counts.get(State.SENT, 0), job.counts.get(State.FAILED, 0)
        share = (
            [bar(sent / job.total if job.total else 1.0, width=bars, style="cyan")] if bars else []
        )
        figures: list[str | Text] = [
            f"{sent:,}/{job.total:,}",
            Text(f"{failed:,}", "red" if failed else "dim"),
        ]
        done = forecasts[job.id].done_at if job.id in forecasts else None
        end = [_clock(done, datetime.now(UTC)) if done else "-"] if bars else []
        word = standing(job, daemon=daemon, inputs=snapshot.inputs.get(job.id))
        rows.append([job.id, word, *share, *figures, *end, job.sender_email])
    wide = [t("Done about")] if bars else []
    headings = [
        t("Job"),
        t("Status"),
        *([""] if bars else []),
        t("Sent"),
        t("Failed"),
        *wide,
        t("Sender"),
    ]
    return table(headings, rows, soft={len(headings) - 1})


def _grouped(troubles: Sequence[MessageFailure]) -> list[MessageFailure]:
    """The newest of each run of equal ones, with how many more there are behind its address."""
    grouped = []
    for _, run in groupby(troubles, key=lambda it: (it.what, it.error)):
        newest, *older = run
        grouped.append(
            replace(newest, to_email=f"{newest.to_email} +{len(older)}") if older else newest
        )
    return grouped


def _troubles(troubles: Sequence[MessageFailure], *, failed: bool) -> Table:
    """`failed`: a job above has failed messages, of an earlier day or refused when they were
    accepted.
    """
    if not troubles:
        said = t("no failed attempt in 24 h; details of failed messages: `mailerd jobs show ID`")
        nothing = Text(say(said)) if failed else Text(say(t("no errors in 24 h")), "green")
        return table([""], [[nothing]], soft={0})
    rows: list[list[str | Text]] = [
        [f"{it.at:%H:%M:%S}", say(worded(it.what)), it.to_email, say(it.error).replace("\n", " ")]
        for it in troubles
    ]
    return table([""] * 4, rows, soft={2, 3})


_PIPE_HEIGHT: Final = 200
"""Lines of a page that goes to a file or a pipe."""
_LATE: Final = 1.0
"""Seconds without an answer of the database after which that is said."""


def top(
    every: Annotated[
        float, typer.Option(min=0.2, max=3600, help="Seconds between two refreshes.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show one page and end.")] = False,
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Watch senders, jobs, failures, daemons and the database; q ends it.

    With --json, it shows one page and ends.
    """
    known = settings(config)
    try:
        if once or as_json or not sys.stdout.isatty():
            run_async(_once(known, as_json=as_json))
        else:
            run_async(_top(known, every=every))
    except KeyboardInterrupt:
        return


async def _once(known: Settings, *, as_json: bool) -> None:
    async with open_database(known) as database:
        reader = StatsReader(database, LiveSetting(default_limits(known)), authorizations(known))
        snapshot = await read_snapshot(reader, known.intake)
    if as_json:
        print_json(_as_json(snapshot))
        return
    shown = console()
    shown.print(page(snapshot, width=shown.width, height=_PIPE_HEIGHT))


def _as_json(it: Snapshot) -> dict[str, object]:
    """What the page shows, and all of it."""
    from mailerd.cli.json_models import Failure, ListedJob, finding  # noqa: PLC0415 - slow to import

    daemon = it.seen.runs(it.stats.daemons)
    jobs = [ListedJob.listed(job, it.inputs.get(job.id), daemon=daemon) for job in it.jobs]
    return {
        "at": it.stats.at,
        "findings": [finding(each) for each in it.findings],
        "database": {
            "page_read_in_ms": round(it.answered_in * 1000),
            "writer": say(it.writer) or None,
        },
        "recipients": dict(it.stats.recipients),
        "daemons": [asdict(each) | {"runs": each.runs} for each in it.stats.daemons],
        "senders": [asdict(each) for each in it.stats.senders],
        "webhooks": [asdict(each) for each in it.stats.webhooks],
        "jobs": [job.model_dump(mode="json") for job in jobs],
        "failures": [Failure.of(each).model_dump(mode="json") for each in it.troubles],
        "sent_by_minute": list(it.hour),
    }


async def _top(known: Settings, *, every: float) -> None:
    # Silent, and not opened: a log line would tear the screen, and a database that is away is what
    # the page shows.
    database, window = Database(known.database, events=StoreEvents(no_log)), console()
    reader = StatsReader(database, LiveSetting(default_limits(known)), authorizations(known))
    shown = TopView(window, where=database.where)
    try:
        with _quit_key() as quits, Live(console=window, screen=True, auto_refresh=False) as live:

            async def watch() -> None:
                while True:
                    await _look_and_show(reader, known.intake, shown, live)
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
        return self._page(
            t(
                "the database has not responded for {n:.0f} s; {remedy}",
                n=time.monotonic() - self._since,
                remedy=remedy,
            )
        )

    def failed(self, error: DatabaseError) -> Group:
        """The page of a look that failed."""
        cause = error_codes.words(error.__cause__ or error) or t("no response within the time-out")
        remedy = error_codes.refused(error.errno, error.__cause__)
        if isinstance(error, DatabaseAwayError):
            remedy = error_codes.remedy(error.errno, error.__cause__, self._where)
        trouble = t(
            "the database has been unreachable for {n:.0f} s: {cause}",
            n=time.monotonic() - self._since,
            cause=cause,
        )
        return self._page(joined([trouble, remedy]) if remedy else trouble)

    def _page(self, trouble: str) -> Group:
        trouble = say(trouble)
        if self._snapshot is None:
            return empty_page(trouble)
        size = self._console.size
        return page(
            self._snapshot,
            width=size.width,
            height=size.height,
            trouble=trouble,
            age=time.monotonic() - self._since,
        )


async def _look_and_show(
    reader: StatsReader, intake: IntakeSettings, shown: TopView, live: Live
) -> None:
    looking = asyncio.ensure_future(read_snapshot(reader, intake))
    try:
        while not (await asyncio.wait({looking}, timeout=_LATE))[0]:
            live.update(shown.late(), refresh=True)
    except asyncio.CancelledError:
        looking.cancel()
        raise
    try:
        live.update(shown.seen(looking.result()), refresh=True)
    except DatabaseError as error:
        if (
            not isinstance(error, DatabaseAwayError)
            or error_codes.refusal(error.errno) == "incomplete"
        ):
            with suppress(DatabaseError):
                # a table or a column that is missing: that is what is said then
                await check(reader.database)
        live.update(shown.failed(error), refresh=True)
