"""`mailerd jobs cancel|pause|resume|retry|priority`: the same actions as those of the API."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from mailerd.cli.common import PATIENCE, ConfigOption, UnknownError, asked_by, open_database, run_async, settings
from mailerd.clock import ULID
from mailerd.config import Settings
from mailerd.core.quantities import counted
from mailerd.core.states import MAX_PRIORITY, MIN_PRIORITY, ImpossibleRequestError, JobChange
from mailerd.errors import MailerdError
from mailerd.store import describe
from mailerd.store.db.database import Database
from mailerd.store.inbox.read_notices import BOUNCE_KINDS
from mailerd.store.job_actions import ActionResult, JobActions
from mailerd.store.jobs import Job, Jobs
from mailerd.texts import heading, label, tr

JobArgument = Annotated[str, typer.Argument(help="The job's id.")]


async def job_named(database: Database, id_: str) -> Job:
    """A job by its id.

    Raises:
        UnknownError: there is none.
    """
    found = await Jobs(database, timeout=PATIENCE).job(id_) if ULID.fullmatch(id_) else None
    if found is None:
        raise UnknownError(f"there is no job {id_}; `mailerd jobs list` shows the newest")
    return found


def cancel(job: JobArgument, *, config: ConfigOption = None) -> None:
    """Cancel the waiting letters of a job, for good; those in flight are finished."""
    _say(config, job, JobChange.CANCEL)


def pause(job: JobArgument, *, config: ConfigOption = None) -> None:
    """Send nothing more of a job; the letters in flight are finished."""
    _say(config, job, JobChange.PAUSE)


def resume(job: JobArgument, *, config: ConfigOption = None) -> None:
    """Let a paused job go on."""
    _say(config, job, JobChange.RESUME)


def retry(
    job: JobArgument,
    *,
    unsure: Annotated[bool, typer.Option("--unsure", help="Look for its unsure letters at Google now.")] = False,
    bounced: Annotated[
        str | None, typer.Option(metavar="KIND", help="Send those again that bounced: soft, blocked, unknown or hard.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Try a job's failed letters anew, with all their attempts; what is sent and did not bounce is never touched."""
    if bounced is not None and (unsure or bounced not in BOUNCE_KINDS):
        raise typer.BadParameter(f"one of {', '.join(BOUNCE_KINDS)}, without --unsure", param_hint="--bounced")
    _say(config, job, JobChange.RETRY, unsure=unsure, bounced=(bounced,) if bounced else ())


def priority(
    job: JobArgument,
    number: Annotated[int, typer.Argument(min=MIN_PRIORITY, max=MAX_PRIORITY, help="Higher goes first.")],
    *,
    config: ConfigOption = None,
) -> None:
    """Give a job another place among the jobs of its sender."""
    _say(config, job, JobChange.PRIORITY, priority=number)


def _say(config: Path | None, job: str, change: JobChange, **options: Any) -> None:
    done, now = run_async(_ask(settings(config), job, change, options))
    said = heading("done") if done.changed else tr("nothing to change")
    print(f"{label(change)}: {said}{f', {tr(counted(done.letters, "letter"))}' if done.letters else ''}")
    print("\n".join(describe.of_job(now)))


async def _ask(known: Settings, id_: str, change: JobChange, options: dict[str, Any]) -> tuple[ActionResult, Job]:
    timeout = known.database.connect_timeout
    async with open_database(known) as database:
        job = await job_named(database, id_)
        controls = JobActions(database, timeout=timeout, late_arrival=timedelta(seconds=known.gmail.late_arrival))
        try:
            done = await controls.apply(id_, change, actor=asked_by(), letters=job.total, **options)
        except ImpossibleRequestError as error:
            raise MailerdError(f"job {id_} is {error.status}, and then there is nothing to {change}") from None
        return done, await job_named(database, id_)
