"""`mailerd top`: senders with their pace, jobs with their progress, the last failures, daemons and database, live."""

import asyncio
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mailerd.cli.common import ConfigOption, in_loop, opened, quiet, settings
from mailerd.config import Settings
from mailerd.core.pace import Allowance
from mailerd.core.states import OPEN
from mailerd.core.survey import SenderSeen, Survey, words
from mailerd.core.verdicts import Cause
from mailerd.errors import DatabaseError
from mailerd.store.database import Database
from mailerd.store.jobs import Job, Jobs
from mailerd.store.story import DaemonSeen, Stories, Trouble
from mailerd.store.survey import Surveys

_WIDTH: Final = 24
_ROWS: Final = 10
_SILENT: Final = 30
"""Seconds without a beat after which a daemon is shown in red; it beats every 10 s."""


@dataclass(frozen=True)
class Scene:
    """What one look showed."""

    survey: Survey
    jobs: list[Job]
    troubles: list[Trouble]
    daemons: list[DaemonSeen]
    answered_in: float
    """Seconds that the database took for all of it."""


def top(
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show one page and end.")] = False,
    config: ConfigOption = None,
) -> None:
    """Watch senders, jobs, failures, daemons and the database; Ctrl-C ends it."""
    try:
        in_loop(_top(settings(config), every=every, once=once or not sys.stdout.isatty()))
    except KeyboardInterrupt:
        return


async def _top(known: Settings, *, every: float, once: bool) -> None:
    async with opened(known, quiet(known).tell) as database:
        pace = Allowance(known.pace.units_per_minute, known.pace.per_minute, known.pace.per_day)
        if once:
            Console().print(page(await look(database, pace)))
            return
        with Live(screen=True, auto_refresh=False) as live:
            while True:
                live.update(await _shown(database, pace), refresh=True)
                await asyncio.sleep(every)


async def _shown(database: Database, pace: Allowance) -> Group | Panel:
    try:
        return page(await look(database, pace))
    except DatabaseError as error:
        return Panel(Text(f"the database cannot be seen: {error}", style="bold red"), title="mailerd")


async def look(database: Database, pace: Allowance) -> Scene:
    """Look once.

    Raises:
        DatabaseError: it cannot be seen now.
    """
    began = time.monotonic()
    stories = Stories(database)
    return Scene(
        survey=await Surveys(database, pace).look(),
        jobs=await Jobs(database, patience=10.0).newest(before=None, limit=_ROWS, senders=None),
        troubles=await stories.last_troubles(),
        daemons=await stories.daemons(),
        answered_in=time.monotonic() - began,
    )


def page(scene: Scene) -> Group:
    """The page."""
    return Group(
        Text(f"mailerd  {scene.survey.at:%Y-%m-%d %H:%M:%S} UTC  {words(scene.survey)}", style="bold"),
        Panel(_health(scene), title="health", title_align="left"),
        Panel(_senders(scene.survey), title="senders", title_align="left"),
        Panel(_jobs(scene.jobs), title="jobs", title_align="left"),
        Panel(_troubles(scene.troubles), title="went wrong lately", title_align="left"),
    )


def bar(share: float, *, style: str = "green") -> Text:
    """A bar, full at 1."""
    filled = round(min(1.0, max(0.0, share)) * _WIDTH)
    return Text("█" * filled, style=style) + Text("░" * (_WIDTH - filled), style="dim")


def _health(scene: Scene) -> Table:
    shown = Table.grid(padding=(0, 2))
    shown.add_row("database", Text(f"answers, {scene.answered_in * 1000:.0f} ms", style="green"))
    unreached = [t for t in scene.troubles if "cannot be reached" in t.error and _age(t.at) < _SILENT * 2]
    google = Text("out of reach", style="bold red") if unreached else Text("no complaint in the last minute", "green")
    shown.add_row("Google", google)
    for daemon in scene.daemons:
        fine = daemon.silent <= _SILENT
        heard = Text(f"heard of {daemon.silent} s ago", style="green" if fine else "bold red")
        shown.add_row(f"daemon {daemon.host}:{daemon.pid}", heard)
    if not scene.daemons:
        shown.add_row("daemon", Text("none was heard of within the hour", style="bold red"))
    return shown


def _age(at: datetime) -> float:
    return (datetime.now(UTC) - at).total_seconds()


def _senders(survey: Survey) -> Table:
    shown = Table("sender", "last minute", "", "24 hours", "", "", box=None, header_style="bold")
    for sender in survey.senders[:_ROWS]:
        shown.add_row(
            sender.email,
            _of(sender.used_minute, sender.per_minute), _share(sender.used_minute, sender.per_minute),
            _of(sender.used_day, sender.per_day), _share(sender.used_day, sender.per_day),
            _standing(sender),
        )  # fmt: skip
    return shown


def _of(used: int, limit: int) -> str:
    return f"{used:,}/{limit:,}" if limit else f"{used:,}, no limit"


def _share(used: int, limit: int) -> Text:
    share = used / limit if limit else 0.0
    return bar(share, style="green" if share < 0.8 else "yellow" if share < 1 else "red")  # noqa: PLR2004


def _standing(sender: SenderSeen) -> Text:
    if sender.paused_until is None:
        return Text("goes", style="green")
    known = sender.pause_cause in set(Cause)
    cause = sender.pause_cause.replace("_", " ") if known else sender.pause_reason
    return Text(f"paused until {sender.paused_until:%H:%M:%S}: {cause}", style="bold red")


def _jobs(jobs: list[Job]) -> Table:
    shown = Table("job", "sender", "status", "progress", "", "failed", box=None, header_style="bold")
    for job in jobs:
        done = job.total - sum(number for state, number in job.counts.items() if state in OPEN)
        failed = sum(number for state, number in job.counts.items() if state.value == "failed")
        shown.add_row(
            job.id, job.sender_email, job.status.value, bar(done / job.total if job.total else 1.0, style="cyan"),
            f"{done:,}/{job.total:,}", Text(f"{failed:,}", style="red" if failed else "dim"),
        )  # fmt: skip
    return shown


def _troubles(troubles: list[Trouble]) -> Table:
    shown = Table.grid(padding=(0, 2))
    for trouble in troubles:
        shown.add_row(
            f"{trouble.at:%H:%M:%S}", trouble.what, trouble.to_email, Text(trouble.error, overflow="ellipsis")
        )
    if not troubles:
        shown.add_row(Text("nothing within a day", style="green"))
    return shown
