"""`mailerd jobs …` and `mailerd explain`: the history of jobs and messages; pause, resume, cancel,
retry.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from mailerd.cli import tables
from mailerd.cli.ask import authorizations, caller
from mailerd.cli.common import (
    PATIENCE,
    ConfigOption,
    UnknownError,
    no_log,
    open_database,
    run_async,
    settings,
    with_database,
)
from mailerd.cli.daemon import look
from mailerd.cli.output import JsonOption, echo, narrow, print_json
from mailerd.cli.tables import print_fitting, table
from mailerd.clock import ULID
from mailerd.config import Live, Settings
from mailerd.core import i18n
from mailerd.core.forecast import ForecastInputs
from mailerd.core.i18n import t, tn, visible
from mailerd.core.labels import worded
from mailerd.core.states import (
    MAX_PRIORITY,
    MIN_PRIORITY,
    OPEN,
    ImpossibleRequestError,
    JobChange,
    JobStatus,
    Proof,
    State,
)
from mailerd.core.stats import DaemonInfo
from mailerd.errors import DatabaseError, MailerdError
from mailerd.locale import label, say
from mailerd.operations import jobs as operations
from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import BOUNCE_KINDS
from mailerd.store.queue.rate_limits import default_limits
from mailerd.store.read import describe
from mailerd.store.read.describe import standing
from mailerd.store.read.forecast_inputs import ForecastReader, read_queue
from mailerd.store.read.history import HistoryReader, MessageFailure
from mailerd.store.read.jobs import Job, JobFilter, Jobs
from mailerd.store.write.job_actions import ActionResult, RecordedAction, activity_of
from mailerd.store.write.tags import check_tag

# `mailerd jobs cancel|pause|resume|retry|priority`: the same actions as those of the API.

JobArgument = Annotated[str, typer.Argument(help="The job's ID.")]


async def job_named(database: Database, id_: str) -> Job:
    """A job by its id.

    Raises:
        UnknownError: there is none.
    """
    found = await Jobs(database, timeout=PATIENCE).job(id_) if ULID.fullmatch(id_) else None
    if found is None:
        raise UnknownError(
            t("job {id} not found: `mailerd jobs list` shows the newest jobs", id=id_)
        )
    return found


def cancel(job: JobArgument, *, config: ConfigOption = None) -> None:
    """Cancel the waiting messages of a job, permanently. Messages already handed to Google are still sent."""
    _say_change(config, job, JobChange.CANCEL)


def pause(job: JobArgument, *, config: ConfigOption = None) -> None:
    """Pause a job. Messages already handed to Google are still sent."""
    _say_change(config, job, JobChange.PAUSE)


def resume(job: JobArgument, *, config: ConfigOption = None) -> None:
    """Resume a paused job."""
    _say_change(config, job, JobChange.RESUME)


def retry(
    job: JobArgument,
    *,
    unsure: Annotated[
        bool, typer.Option("--unsure", help="Check its unconfirmed messages at Google now.")
    ] = False,
    bounced: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Send its bounced messages of this kind again: soft, blocked, unknown or hard.",
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Retry the failed messages of a job; their attempts restart at zero.

    A message that was sent and did not bounce is never sent again.
    """
    if bounced is not None and (unsure or bounced not in BOUNCE_KINDS):
        raise typer.BadParameter(
            t("must be one of {choices}, without --unsure", choices=", ".join(BOUNCE_KINDS)),
            param_hint="--bounced",
        )
    _say_change(config, job, JobChange.RETRY, unsure=unsure, bounced=(bounced,) if bounced else ())


def priority(
    job: JobArgument,
    number: Annotated[
        int,
        typer.Argument(
            min=MIN_PRIORITY, max=MAX_PRIORITY, help="Jobs with a higher number are sent first."
        ),
    ],
    *,
    config: ConfigOption = None,
) -> None:
    """Change the priority of a job among the jobs of its sender."""
    _say_change(config, job, JobChange.PRIORITY, priority=number)


def _say_change(config: Path | None, job: str, change: JobChange, **options: Any) -> None:
    done, now = run_async(_ask(settings(config), job, change, options))
    if not done.changed:
        echo(t("{action}: nothing to change", action=change.value))
    elif done.messages:
        echo(
            tn(
                "{action}: done, {n:,} message",
                "{action}: done, {n:,} messages",
                done.messages,
                action=change.value,
            )
        )
    else:
        echo(t("{action}: done", action=change.value))
    for line in describe.of_job(now):
        echo(line)


async def _ask(
    known: Settings, id_: str, change: JobChange, options: dict[str, Any]
) -> tuple[ActionResult, Job]:
    async with open_database(known) as database:
        job = await job_named(database, id_)
        try:
            done = await operations.act(caller(known, database), job, change, **options)
        except ImpossibleRequestError as error:
            raise MailerdError(
                t(
                    "job {id} is {status}: {action} is not possible",
                    id=id_,
                    status=label(error.status),
                    action=change.value,  # the name of the command
                )
            ) from None
        return done, await job_named(database, id_)


def forecasts_of(known: Settings, database: Database) -> ForecastReader:
    """The reader of forecasts."""
    return ForecastReader(database, Live(default_limits(known)), PATIENCE, authorizations(known))


app = typer.Typer(
    no_args_is_help=True, help="List, show, watch, pause, resume, cancel and retry jobs."
)
for command in (cancel, pause, resume, retry, priority):
    app.command()(command)


@app.command("list")
def list_jobs(
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help="Show at most this many, newest first.")
    ] = 20,
    *,
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs with this status.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only jobs with this tag.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List the newest jobs. For a job that is sending nothing now, the status says what it is waiting for."""
    try:
        only = JobFilter(status=status, tag=tag and check_tag(tag))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--tag") from None
    run_async(_list(settings(config), only, limit, as_json=as_json))


async def _list(known: Settings, only: JobFilter, limit: int, *, as_json: bool) -> None:
    async with open_database(known) as database:
        daemons = await HistoryReader(database).daemons()
        daemon = (await look(database, known.intake, daemons)).runs(daemons)
        found = await Jobs(database, timeout=PATIENCE).newest(
            before=None, limit=limit + 1, senders=None, only=only
        )
        page, more = found[:limit], len(found) > limit
        open_ = [job.id for job in page if job.finished_at is None]
        inputs = await forecasts_of(known, database).read_all(open_)
        if as_json:
            from mailerd.cli.json_models import ListedJob, ListedJobs  # noqa: PLC0415 - slow to import

            jobs = [ListedJob.listed(job, inputs.get(job.id), daemon=daemon) for job in page]
            print_json(ListedJobs(jobs=jobs, next_cursor=page[-1].id if more else None))
            return
    if page:
        print_fitting(jobs_table(page, inputs, daemon=daemon))
    else:
        echo(t("No jobs."))


def jobs_table(jobs: list[Job], inputs: Mapping[str, ForecastInputs], *, daemon: bool) -> Table:
    """Jobs, one a line; an id is never cut, since it is what other commands are given.

    `daemon`: one runs.
    """
    cancelled = any(job.counts.get(State.CANCELLED) for job in jobs)
    dated = not (cancelled and narrow(wide=False))  # 80 columns have room for one of the two
    rows = []
    for job in jobs:
        sent, failed, undone = (
            f"{job.counts.get(it, 0):,}" for it in (State.SENT, State.FAILED, State.CANCELLED)
        )
        rows.append(
            [
                job.id,
                standing(job, daemon=daemon, inputs=inputs.get(job.id)),
                f"{sent}/{job.total:,}",
                failed,
                *([undone] if cancelled else []),
                *([_accepted(job)] if dated else []),
                job.sender_email,
            ]
        )
    headings = [
        t("Job"),
        t("Status"),
        t("Sent"),
        t("Failed"),
        *([t("Cancelled")] if cancelled else []),
        *([t("Accepted")] if dated else []),
        t("Sender"),
    ]
    return table(headings, rows, soft={len(headings) - 1})


def _accepted(job: Job) -> str:
    """When it was accepted; without the date in a window, where it was today and the columns are
    few.
    """
    today = narrow(wide=False) and job.created_at.date() == datetime.now(UTC).date()
    return f"{job.created_at:%H:%M}Z" if today else f"{job.created_at:%m-%d %H:%M}Z"


@app.command("show")
def show(
    job: Annotated[str | None, typer.Argument(help="The job's ID.")] = None,
    *,
    last: Annotated[bool, typer.Option("--last", help="Show the newest job.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show one job and its errors."""
    if last == (job is not None):
        raise typer.BadParameter(t("give the job's ID or --last"), param_hint="JOB")
    known = settings(config)
    with_database(known, lambda database: _show(known, database, job, as_json=as_json))


async def _show(known: Settings, database: Database, id_: str | None, *, as_json: bool) -> None:
    """Tell a job; without an id the newest.

    Raises:
        UnknownError: there is none.
    """
    if id_ is None:
        newest = await Jobs(database, timeout=PATIENCE).newest(before=None, limit=1, senders=None)
        if not newest:
            raise UnknownError(t("no job has been posted yet"))
        id_ = newest[0].id
    _tell_job(await _read_details(known, database, id_), as_json=as_json)


@dataclass(frozen=True)
class _JobDetails:
    """All that is shown of a job."""

    job: Job
    inputs: ForecastInputs | None
    asked: Sequence[RecordedAction]
    daemons: Sequence[DaemonInfo]
    runs: bool
    proofs: Mapping[Proof | None, int]
    failures: Sequence[MessageFailure]

    @property
    def lines(self) -> list[i18n.Text]:
        """It in sentences."""
        return describe.of_job(
            self.job, self.inputs, asked=self.asked, daemons=self.daemons, runs=self.runs
        )


async def _read_details(known: Settings, database: Database, id_: str) -> _JobDetails:
    """Read all that is shown of a job.

    Raises:
        UnknownError: there is none.
    """
    history = HistoryReader(database)
    daemons = await history.daemons()
    runs = (await look(database, known.intake, daemons)).runs(daemons)
    return _JobDetails(
        job=await job_named(database, id_),
        inputs=await forecasts_of(known, database).read(id_),
        asked=await activity_of(database, id_, bound=PATIENCE),
        daemons=daemons,
        runs=runs,
        proofs=await history.proofs_of(id_),
        failures=await history.failures_of(id_),
    )


def _tell_job(it: _JobDetails, *, as_json: bool = False) -> None:
    if as_json:
        _print_job(it)
        return
    _say(it.lines)
    if it.proofs.keys() - {Proof.ANSWERED}:  # that Google has answered needs no word
        echo(
            t(
                "Sent messages, by how they were confirmed: {counts}.",
                counts=describe.by_proof(it.proofs),
            )
        )
    for trouble in it.failures:
        echo(
            t(
                "  {status}: {to} (recipient {id}): {error}",
                status=worded(trouble.what),
                to=trouble.to_email,
                id=trouble.recipient,
                error=trouble.error or t("no reason recorded"),
            )
        )


def _print_job(it: _JobDetails, *, explained: bool = False) -> None:
    from mailerd.cli.json_models import Explained, ListedJob, ShownJob  # noqa: PLC0415 - slow to import

    listed = ListedJob.listed(it.job, it.inputs, daemon=it.runs)
    job = ShownJob.told(listed, it.lines, actions=it.asked, proofs=it.proofs, failures=it.failures)
    print_json(Explained(job=job, recipients=[]) if explained else job)


@app.command("watch")
def watch(
    job: JobArgument,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Do not wait: show the job as it is now.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show a progress bar until the job has ended. The exit code is 1 when messages failed."""
    if run_async(watch_until_ended(settings(config), job, once=once, as_json=as_json)):
        raise typer.Exit(1)


async def watch_until_ended(
    known: Settings, id_: str, *, once: bool = False, as_json: bool = False
) -> int:
    """Draw a bar until the job has ended, and show it; how many messages failed.

    The database may be away meanwhile.

    `once`: show it as it is. `as_json`: show it as one object, and nothing before.

    Raises:
        UnknownError: there is no such job.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    async with open_database(known, no_log) as database:  # a line of the log would tear the bar
        job = await job_named(database, id_)  # an unknown one is an error before a bar is drawn
        if not once:
            # A file or a pipe gets no bar: it would stand there without the end of its line.
            with Progress(
                *columns, refresh_per_second=4, disable=as_json or not sys.stdout.isatty()
            ) as progress:
                forecasts = forecasts_of(known, database)
                bar = progress.add_task(id_, total=job.total)
                job = await _ended(
                    database, id_, progress, bar, forecasts=forecasts, silent=as_json
                )
        _tell_job(await _read_details(known, database, id_), as_json=as_json)
    return job.counts.get(State.FAILED, 0)


def _say(lines: Sequence[str], *, console: Console | None = None) -> None:
    """Sentences, a line each; a terminal breaks them between words, a pipe gets them whole."""
    shown = console or tables.console()
    for line in lines:
        shown.print(Text(visible(say(line))), soft_wrap=not sys.stdout.isatty())


async def _ended(
    database: Database,
    id_: str,
    progress: Progress,
    bar: TaskID,
    *,
    forecasts: ForecastReader,
    silent: bool,
) -> Job:
    """The job, once it has ended; what it waits for is said, a database that is away too, unless it
    is `silent`.
    """
    said, job, why = "", None, ""
    while True:
        try:
            job = await job_named(database, id_)
            daemons = await HistoryReader(database).daemons()
            inputs = None if silent or job.counts.get(State.SENDING) else await forecasts.read(id_)
        except DatabaseError:
            job, why = None, t("Waiting: the database is unavailable.")
            with suppress(DatabaseError):
                await database.open()  # or what is known to be away stays so
        else:
            open_ = sum(number for state, number in job.counts.items() if state in OPEN)
            progress.update(bar, total=job.total, completed=job.total - open_)
            alone = [] if job.finished_at else describe.stored_and_waits(daemons)
            why = " ".join(map(say, [*describe.held(job, inputs), *alone]))
        if job is not None and job.finished_at is not None:
            return job
        if why != said and not silent:
            said = why
            # of such a one only what is in flight ends
            if why or job is None or job.status is not JobStatus.CANCELLED:
                _say([why or t("Sending continues.")], console=progress.console)  # above the bar
        await asyncio.sleep(0.5)


def explain(
    what: Annotated[str, typer.Argument(help="A job ID, a recipient ID or an email address.")],
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Explain a job or a message: what happened, why it is waiting, and what happens next."""
    known = settings(config)
    with_database(known, lambda database: _explain(known, database, what, as_json=as_json))


async def _explain(known: Settings, database: Database, what: str, *, as_json: bool) -> None:
    if ULID.fullmatch(what):
        job = await _read_details(known, database, what)
        if as_json:
            _print_job(job, explained=True)
        else:
            _tell_job(job)
        return
    stories = HistoryReader(database)
    found = await (
        stories.of_recipient(int(what)) if what.isdecimal() else stories.of_address(what)
    )
    if not found:
        raise UnknownError(
            t(
                "{what} not found. Give a job ID, a recipient ID or an email address",
                what=repr(what),
            )
        )
    seen = await look(database, known.intake, await stories.daemons())
    forecasts = forecasts_of(known, database)
    queue = await read_queue(
        found, history=stories, forecasts=forecasts, outage=seen.outage, runs=seen.lives
    )
    if as_json:
        from mailerd.cli.json_models import Explained  # noqa: PLC0415 - slow to import
        from mailerd.intake.recipients import ExplainedMessage  # noqa: PLC0415 - as above

        messages = [
            ExplainedMessage.of(story, describe.of_message(story, queue)) for story in found
        ]
        print_json(Explained(job=None, recipients=messages))
        return
    for number, story in enumerate(found):
        _say([*([""] if number else []), *describe.of_message(story, queue)])
