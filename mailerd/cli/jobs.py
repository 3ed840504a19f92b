"""`mailerd jobs list|show|watch` and `mailerd explain`: what became of jobs and letters."""

import asyncio
import re
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mailerd.cli import sentences
from mailerd.cli.common import ConfigOption, in_loop, opened, quiet, settings
from mailerd.config import Settings
from mailerd.core.states import OPEN, JobStatus
from mailerd.errors import MailerdError
from mailerd.store.database import Database
from mailerd.store.jobs import Job, Jobs
from mailerd.store.story import Stories

app = typer.Typer(no_args_is_help=True, help="Jobs: the list, one, or one while it is being sent.")
_ULID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_PATIENCE: Final = 10.0
_ENDED: Final = frozenset({JobStatus.COMPLETED, JobStatus.CANCELLED})

JobArgument = Annotated[str, typer.Argument(help="The job's id.")]


class UnknownError(MailerdError):
    """There is nothing of this name."""


@app.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The newest so many.")] = 20, config: ConfigOption = None
) -> None:
    """The newest jobs."""
    in_loop(_list(settings(config), limit))


async def _list(known: Settings, limit: int) -> None:
    async with opened(known, quiet(known).tell) as database:
        found = await Jobs(database, patience=_PATIENCE).newest(before=None, limit=limit, senders=None)
    Console(soft_wrap=True).print(table(found) if found else "there are no jobs")


def table(jobs: list[Job]) -> Table:
    """Jobs, one a line."""
    shown = Table("job", "sender", "status", "done", "failed", "open", "accepted (UTC)", box=None, header_style="bold")
    for job in jobs:
        open_ = sum(number for state, number in job.counts.items() if state in OPEN)
        failed = sum(number for state, number in job.counts.items() if state.value == "failed")
        done = f"{job.total - open_:,}/{job.total:,}"
        accepted = f"{job.created_at:%m-%d %H:%M:%S}"
        shown.add_row(job.id, job.sender_email, job.status.value, done, f"{failed:,}", f"{open_:,}", accepted)
    return shown


@app.command("show")
def show(job: JobArgument, config: ConfigOption = None) -> None:
    """One job, and what went wrong in it."""
    in_loop(_show(settings(config), job))


async def _show(known: Settings, job: str) -> None:
    async with opened(known, quiet(known).tell) as database:
        await _tell_job(database, job)


async def _tell_job(database: Database, id_: str) -> None:
    print("\n".join(sentences.of_job(await job_named(database, id_))))
    for trouble in await Stories(database).troubles_of(id_):
        print(f"  {trouble.what}: {trouble.to_email} (recipient {trouble.recipient}): {trouble.error}")


async def job_named(database: Database, id_: str) -> Job:
    """A job by its id.

    Raises:
        UnknownError: there is none.
    """
    found = await Jobs(database, patience=_PATIENCE).job(id_) if _ULID.fullmatch(id_) else None
    if found is None:
        raise UnknownError(f"there is no job {id_}; `mailerd jobs list` shows the newest")
    return found


@app.command("watch")
def watch(job: JobArgument, config: ConfigOption = None) -> None:
    """A progress bar until the job has ended; exit code 1 when letters failed."""
    if in_loop(_watch(settings(config), job)):
        raise typer.Exit(1)


async def _watch(known: Settings, id_: str) -> int:
    async with opened(known, quiet(known).tell) as database:
        return await watch_until_ended(database, id_)


async def watch_until_ended(database: Database, id_: str) -> int:
    """Draw a bar until the job has ended, then tell it; how many letters failed.

    Raises:
        UnknownError: there is no such job.
        DatabaseError: the database cannot be seen now.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns)
    bar = progress.add_task(id_)
    with Live(progress, refresh_per_second=4):
        while True:
            job = await job_named(database, id_)
            open_ = sum(number for state, number in job.counts.items() if state in OPEN)
            progress.update(bar, total=job.total, completed=job.total - open_)
            if job.status in _ENDED:
                break
            await asyncio.sleep(0.5)
    await _tell_job(database, id_)
    return sum(number for state, number in job.counts.items() if state.value == "failed")


def explain(
    what: Annotated[str, typer.Argument(help="A job's id, a recipient's id, or an address.")],
    config: ConfigOption = None,
) -> None:
    """The whole story of a job or a letter: what happened, why it waits now, what comes next and when."""
    in_loop(_explain(settings(config), what))


async def _explain(known: Settings, what: str) -> None:
    async with opened(known, quiet(known).tell) as database:
        if _ULID.fullmatch(what):
            await _tell_job(database, what)
            return
        stories = Stories(database)
        found = await (stories.of_recipient(int(what)) if what.isdecimal() else stories.of_address(what))
    if not found:
        raise UnknownError(f"nothing is known of {what!r}: give a job's id, a recipient's id or an address")
    print("\n\n".join("\n".join(sentences.of_letter(story)) for story in found))
