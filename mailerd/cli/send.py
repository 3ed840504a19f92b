"""`mailerd send FILE.csv`: one letter to each line of a table, by a named template, and a bar until all are sent."""

import hashlib
import json
import sys
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from mailerd.cli.common import ConfigOption, json_object, no_log, open_database, run_async, settings
from mailerd.cli.jobs import watch_until_ended
from mailerd.cli.send_http import faults, send_over_http, unsent
from mailerd.cli.templates import rendering
from mailerd.clock import Clock
from mailerd.config import API_KEY, Settings
from mailerd.core.quantities import counted
from mailerd.errors import DatabaseError, MailerdError
from mailerd.events.worker import GmailEvents, RendererEvents
from mailerd.gmail import Gmail
from mailerd.http.errors import ApiError
from mailerd.intake.create_job import dry_run
from mailerd.intake.job_reader import JobReader
from mailerd.intake.parse_job import OptOutCheck, ParsedJob, SenderResolver, parse_job
from mailerd.mail.recipient_table import RecipientTable, read_table
from mailerd.mail.renderer import Renderer
from mailerd.mail.template_library import TemplateLibrary
from mailerd.store.db.database import Database
from mailerd.store.idempotency import DuplicateKeyError, IdempotencyKey
from mailerd.store.jobs import Jobs
from mailerd.texts import tr

_ORIGIN: Final = "the command"
_THE_COMMAND: Final = 0
"""Stands for an API key's id where the command's own idempotency keys are kept; no key has it."""


def send(
    file: Annotated[
        Path, typer.Argument(help="A CSV with a column email; name and language if you like; the rest are variables.")
    ],
    *,
    template: Annotated[str, typer.Option(help="A template of templates.folder, or a path to a template's folder.")],
    sender: Annotated[str, typer.Option(help="The mailbox, or an alias of one.")],
    sender_name: Annotated[str | None, typer.Option(help="Stands in From:.")] = None,
    reply_to: Annotated[str | None, typer.Option(help="Where answers go, if not to the sender.")] = None,
    variables: Annotated[str, typer.Option(help='For all recipients, as JSON: {"product": "tea"}.')] = "{}",
    send_at: Annotated[str | None, typer.Option(help="Not before: 2026-12-01T09:00:00Z.")] = None,
    priority: Annotated[int, typer.Option(help="Higher goes first among the jobs of the sender.")] = 0,
    reference: Annotated[str | None, typer.Option(help="Your own name for the job.")] = None,
    mailing_list: Annotated[str | None, typer.Option("--list", help="What a recipient can leave.")] = None,
    skip_invalid: Annotated[bool, typer.Option("--skip-invalid", help="Leave bad lines out, and name them.")] = False,
    allow_duplicates: Annotated[bool, typer.Option("--allow-duplicates", help="An address may come twice.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Make every letter, show one, store nothing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Even if this very job was posted before.")] = False,
    wait: Annotated[bool, typer.Option(help="Stay until the job has ended.")] = True,
    url: Annotated[str | None, typer.Option(help="The API to post to, such as http://127.0.0.1:5000.")] = None,
    key: Annotated[str | None, typer.Option(envvar=API_KEY, help="For --url. ps shows it: set the variable.")] = None,
    config: ConfigOption = None,
) -> None:
    """Post a job from a table and watch it; the same job is not posted twice.

    The exit code is 1 when letters failed, or when none of them can be sent. With --url the template is one of the
    daemon's, by its name.
    """
    table, by_path = _read(file), "/" in template or template == "."
    job = {
        "sender_email": sender, "sender_name": sender_name, "reply_to": reply_to, "template_name": Path(template).name,
        "variables": json_object("--variables", variables), "send_at": send_at, "priority": priority,
        "reference": reference, "list": mailing_list,
        "on_invalid": "skip" if skip_invalid else "reject", "allow_duplicates": allow_duplicates, "dry_run": dry_run,
        "recipients": table.recipients,
    }  # fmt: skip
    work: Coroutine[Any, Any, bool]
    if url:
        if by_path:
            raise MailerdError("with --url the template is one of the daemon's: give its name, not a path")
        work = send_over_http(job, url=url, key=key, line=table.named(file), again=again, wait=wait)
    else:
        known = settings(config)
        library = _library_at(Path(template).resolve().parent) if by_path else _library(known)
        posting = _JobPoster(known, library, table, file=file, again=again)
        raw = json.dumps({key: value for key, value in job.items() if value is not None}).encode()
        work = _show(posting, raw) if dry_run else _post(posting, raw, wait=wait)
    if not run_async(work):
        raise typer.Exit(1)


@dataclass(frozen=True)
class _JobPoster:
    known: Settings
    library: TemplateLibrary
    table: RecipientTable
    file: Path
    again: bool

    async def order(self, raw: bytes, renderer: Renderer) -> ParsedJob:
        """The job as the intake would read it."""
        gmail = Gmail(self.known.gmail, events=GmailEvents(no_log), concurrency=1)
        try:
            async with JobReader(renderer, RendererEvents(no_log)) as reader:
                order = await parse_job(
                    raw,
                    key=None,
                    now=Clock().now(),
                    max_recipients=self.known.intake.max_recipients,
                    reader=reader,
                    origin=_ORIGIN,
                    senders=SenderResolver(gmail, self.known.gmail.aliases),
                    library=self.library,
                    base_url=self.known.public.base_url,
                )
        except ApiError as error:
            errors = [(fault.field, fault.message) for fault in error.errors]
            raise MailerdError("\n".join(faults(str(error), errors, self._line))) from None
        for each in order.rejected:
            print(unsent(self._line, each.index, each.email, each.reason, refused=bool(order.refusal)))
        return order

    async def marked(self, order: ParsedJob, database: Database) -> ParsedJob:
        """The job with what its suppressions say of each recipient, told to the person."""
        check = OptOutCheck(
            database, timeout=self.known.database.connect_timeout, warn_above=self.known.unsubscribe.warn_above
        )
        order = await check.mark(order, key=None)
        for each in order.suppressed:
            print(tr(f"gets no letter: {each.email}: {each.reason}"))
        for warning in order.warnings:
            print(tr(f"warning: {warning}"))
        return order

    def _line(self, index: int) -> str:
        return self.table.named(self.file)(index)

    def once(self, order: ParsedJob, raw: bytes) -> IdempotencyKey:
        """What makes this very job one that is posted once, with this version of the template."""
        body = hashlib.sha256(raw + (order.job.template_version or "").encode()).digest()
        keep = timedelta(seconds=self.known.intake.idempotency_keep)
        return IdempotencyKey(_THE_COMMAND, f"send-{body.hex()}", body, keep, make_response=lambda _: "{}")


async def _post(posting: _JobPoster, raw: bytes, *, wait: bool) -> bool:
    """Post the job, and wait for its letters where `wait` says so; False: none can be sent, or one failed."""
    async with rendering() as renderer:
        order = await posting.order(raw, renderer)
    known = posting.known
    async with open_database(known) as database:
        order = await posting.marked(order, database)
        job = order.job if posting.again else replace(order.job, once=posting.once(order, raw))
        jobs = Jobs(database, timeout=known.database.connect_timeout)
        try:
            send_at = await jobs.accept(job)
        except DuplicateKeyError as error:
            it = error.stored
            raise MailerdError(
                f"this very job was posted at {it.created_at:%Y-%m-%d %H:%M:%S} UTC as {it.job_id}, and nothing was "
                f"posted now; `mailerd jobs show {it.job_id}` tells what became of it, --again posts it once more"
            ) from None
        except DatabaseError as error:
            if not error.in_doubt:
                raise
            raise MailerdError(
                f"the database went away during COMMIT: `mailerd jobs show {job.id}` tells whether the job is there; "
                f"the same command again posts it if it is not"
            ) from error
        print(tr(f"job {job.id}: {counted(order.accepted, 'letter')} from {job.sender_email}, due {send_at:%F %T} UTC"))
    if not wait:
        return order.accepted > 0
    try:
        return await watch_until_ended(known, job.id) == 0 and order.accepted > 0
    finally:
        print(tr(f"`mailerd jobs watch {job.id}` shows this again; the daemon sends on without it"))


def _read(file: Path) -> RecipientTable:
    piped = str(file) == "-"
    name = tr("standard input") if piped else str(file)
    # A pipe is read as a file is, whatever the locale: Excel's byte order mark comes through it too.
    opened = partial(open, sys.stdin.fileno(), closefd=False) if piped else file.open
    try:
        with opened(encoding="utf-8-sig", newline="") as opened_file:
            return read_table(opened_file, name)
    except OSError as error:
        raise MailerdError(f"{name} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise MailerdError(f"{name} is not UTF-8 (byte {error.start}): save it as CSV UTF-8") from error


def _library(known: Settings) -> TemplateLibrary:
    if not known.templates.folder:
        raise MailerdError(
            "there is no folder of templates: set templates.folder, or give a path as --template ./welcome"
        )
    return _library_at(Path(known.templates.folder))


def _library_at(folder: Path) -> TemplateLibrary:
    return TemplateLibrary(folder, where=str(folder))


async def _show(posting: _JobPoster, raw: bytes) -> bool:
    """Tell what would become of the table; whether any of its letters can be sent: none, where a post is refused."""
    async with rendering() as renderer:
        order = await posting.order(raw, renderer)
        async with open_database(posting.known) as database:
            order = await posting.marked(order, database)
        found = await dry_run(order, renderer=renderer, origin=_ORIGIN)
    for each in found.rejected:
        print(tr(f"would fail: {each.email}: {each.reason}"))
    for sample in found.samples[:1]:
        print(f"To: {sample.email}\nSubject: {sample.subject}\n\n{sample.text}\n")
    if order.refusal:
        bad = tr("1 line is") if len(order.rejected) == 1 else tr(f"{len(order.rejected):,} lines are")
        print(tr(f"0 letters of {order.total:,} can be sent: {bad} bad, and so nothing is posted"))
        if len(order.rejected) < order.total:
            print(tr("mend what is bad, or leave it out with --skip-invalid; nothing was stored"))
        else:
            print(tr("mend what is bad; nothing was stored"))
        return False
    left = order.accepted - len(found.rejected)
    print(
        tr(
            f"{counted(left, 'letter')} of {order.total:,} can be sent, {found.sizes.total:,} bytes in all; "
            "nothing was stored"
        )
    )
    return left > 0
