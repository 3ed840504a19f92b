"""`mailerd send FILE`: one message to each row of a table, by a named template, and a bar until all
are sent.
"""

import hashlib
import json
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from mailerd.cli.common import ConfigOption, json_object, no_log, open_database, run_async, settings
from mailerd.cli.jobs import watch_until_ended
from mailerd.cli.output import echo, in_utc
from mailerd.cli.read_table import read_table
from mailerd.cli.send_http import (
    faults,
    posted,
    print_message,
    print_refusal,
    send_over_http,
    unsent,
)
from mailerd.cli.templates import rendering
from mailerd.clock import Clock
from mailerd.config import API_KEY, Live, Settings
from mailerd.core.i18n import joined, t
from mailerd.errors import DatabaseError, MailerdError
from mailerd.events.worker import GmailEvents, RendererEvents
from mailerd.gmail import Gmail
from mailerd.http.errors import ApiError
from mailerd.intake.create_job import OptOutCheck, dry_run
from mailerd.intake.job_reader import JobReader
from mailerd.intake.parse_job import ParsedJob, parse_job
from mailerd.intake.sender_resolver import SenderResolver
from mailerd.mail.recipient_table import RecipientTable
from mailerd.mail.renderer import Renderer
from mailerd.mail.template_library import TemplateLibrary
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import default_limits
from mailerd.store.write.idempotency import DuplicateKeyError, IdempotencyKey
from mailerd.store.write.new_jobs import NewJobs

_ORIGIN: Final = t("the command")
_THE_COMMAND: Final = 0
"""Stands for an API key's id where the command's own idempotency keys are kept; no key has it."""

# How the table is read.
_SheetOption = Annotated[
    str | None, typer.Option(help="The sheet. Default: the first with addresses.")
]
_EncodingOption = Annotated[
    str | None, typer.Option(help="The encoding of a CSV, such as gb18030 or cp1252.")
]
_HeaderRowOption = Annotated[
    int | None, typer.Option(help="The row that names the columns. Default: found.")
]
_ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        help='What a column is used as: "Work mail=email"; "Notes=" ignores it. Can be repeated.'
    ),
]


def send(
    file: Annotated[
        Path,
        typer.Argument(
            help='A CSV, XLSX, XLS or ODS file with a column of addresses, such as "email". "name", "language", "cc" '
            'and "bcc" are optional; other columns are variables.'
        ),
    ],
    *,
    template: Annotated[
        str, typer.Option(help="A template in templates.folder, or the path of a template folder.")
    ],
    sender: Annotated[str, typer.Option(help="The mailbox to send from, or an alias of it.")],
    sender_name: Annotated[str | None, typer.Option(help="The name of the sender in From.")] = None,
    reply_to: Annotated[
        str | None, typer.Option(help="The address for replies. Default: the sender.")
    ] = None,
    variables: Annotated[
        str, typer.Option(help='Variables for all recipients, as JSON: {"product": "tea"}.')
    ] = "{}",
    send_at: Annotated[
        str | None, typer.Option(help="Do not send before this time: 2026-12-01T09:00:00Z.")
    ] = None,
    priority: Annotated[
        int, typer.Option(help="Jobs of the sender with a higher number are sent first.")
    ] = 0,
    reference: Annotated[str | None, typer.Option(help="Your own reference for the job.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="A tag to find the job by. Can be repeated.")
    ] = None,
    mailing_list: Annotated[
        str | None, typer.Option("--list", help="The list that recipients can unsubscribe from.")
    ] = None,
    sheet: _SheetOption = None,
    encoding: _EncodingOption = None,
    header_row: _HeaderRowOption = None,
    column: _ColumnOption = None,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Skip invalid rows and list them.")
    ] = False,
    allow_duplicates: Annotated[
        bool, typer.Option("--allow-duplicates", help="Allow the same address more than once.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check every message, show one, send nothing.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Post the job again, even if it was posted before.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until the job has ended.")] = True,
    url: Annotated[
        str | None, typer.Option(help="Post to this API instead, such as http://127.0.0.1:5000.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            envvar=API_KEY, help="The API key for --url. Prefer the variable: ps shows options."
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Send one message to each row of a table, and show the progress. The same job is not posted twice.

    The exit code is 1 when messages failed, or when none can be sent. With --url, the template is one of the daemon's
    templates, by its name.
    """
    table = read_table(
        file, sheet=sheet, encoding=encoding, header_row=header_row, columns=column or ()
    )
    job = {
        "sender_email": sender,
        "sender_name": sender_name,
        "reply_to": reply_to,
        "template_name": Path(template).name,
        "variables": json_object("--variables", variables),
        "send_at": send_at,
        "priority": priority,
        "reference": reference,
        "tags": tag or None,
        "list": mailing_list,
        "on_invalid": "skip" if skip_invalid else "reject",
        "allow_duplicates": allow_duplicates,
        "dry_run": dry_run,
        "recipients": table.recipients,
    }
    folder = Path(template).resolve().parent if "/" in template or template == "." else None
    work: Coroutine[Any, Any, bool]
    if url and folder:
        raise MailerdError(
            t(
                "with --url, --template must be a name, not a path: the daemon uses its own templates"
            )
        )
    if url:
        work = send_over_http(job, url=url, key=key, line=table.named(file), again=again, wait=wait)
    else:
        known = settings(config)
        library = _library_at(folder) if folder else _library(known)
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
            raise MailerdError(joined(list(faults(str(error), errors, self._line)), "\n")) from None
        for each in order.rejected:
            echo(
                unsent(self._line, each.index, each.email, each.reason, refused=bool(order.refusal))
            )
        return order

    async def marked(self, order: ParsedJob, database: Database) -> ParsedJob:
        """The job with what its suppressions say of each recipient, told to the person."""
        check = OptOutCheck(
            database,
            timeout=self.known.database.connect_timeout,
            warn_above=self.known.unsubscribe.warn_above,
            defaults=Live(default_limits(self.known)),
        )
        try:
            order = await check.mark(order, key=None)
        except ApiError as error:
            errors = [(fault.field, fault.message) for fault in error.errors]
            raise MailerdError(joined(list(faults(str(error), errors, self._line)), "\n")) from None
        for each in order.suppressed:
            echo(t("not sent: {to}: {reason}", to=each.email, reason=each.reason))
        for warning in order.warnings:
            echo(t("warning: {warning}", warning=warning))
        return order

    def _line(self, index: int) -> str:
        return self.table.named(self.file)(index)

    def once(self, order: ParsedJob, raw: bytes) -> IdempotencyKey:
        """What makes this very job one that is posted once, with this version of the template."""
        body = hashlib.sha256(raw + (order.job.template_version or "").encode()).digest()
        keep = timedelta(seconds=self.known.intake.idempotency_keep)
        return IdempotencyKey(
            _THE_COMMAND, f"send-{body.hex()}", body, keep, make_response=lambda *_: "{}"
        )


async def _post(posting: _JobPoster, raw: bytes, *, wait: bool) -> bool:
    """Post the job, and wait for its messages where `wait` says so; False: none can be sent, or one
    failed.
    """
    async with rendering() as renderer:
        order = await posting.order(raw, renderer)
    known = posting.known
    async with open_database(known) as database:
        order = await posting.marked(order, database)
        job = order.job if posting.again else replace(order.job, once=posting.once(order, raw))
        jobs = NewJobs(database, timeout=known.database.connect_timeout)
        try:
            send_at = (await jobs.accept(job)).send_at
        except DuplicateKeyError as error:
            it = error.stored
            raise MailerdError(
                t(
                    "this job was already posted at {at:%Y-%m-%d %H:%M:%S}Z as {id}; nothing was sent. Progress: "
                    "`mailerd jobs show {id}`. To send it again: --again",
                    at=it.created_at,
                    id=it.job_id,
                )
            ) from None
        except DatabaseError as error:
            if not error.in_doubt:
                raise
            raise MailerdError(
                t(
                    "the database became unavailable during COMMIT: `mailerd jobs show {id}` shows whether the job was "
                    "stored. If it was not, run the same command again",
                    id=job.id,
                )
            ) from error
        echo(posted(job.id, order.accepted, sender=job.sender_email, due=in_utc(send_at)))
    if not wait:
        return order.accepted > 0
    try:
        return await watch_until_ended(known, job.id) == 0 and order.accepted > 0
    except BaseException:
        echo(
            t(
                "The daemon continues without this command. To watch again: `mailerd jobs watch {id}`",
                id=job.id,
            )
        )
        raise


def _library(known: Settings) -> TemplateLibrary:
    if not known.templates.folder:
        raise MailerdError(
            t(
                "templates.folder is not set: set it, or give the path of a template, as in --template ./welcome"
            )
        )
    return _library_at(Path(known.templates.folder))


def _library_at(folder: Path) -> TemplateLibrary:
    return TemplateLibrary(folder, where=str(folder))


async def _show(posting: _JobPoster, raw: bytes) -> bool:
    """Say what would become of the table; whether any of its messages can be sent: none, where a
    post is refused.
    """
    async with rendering() as renderer:
        order = await posting.order(raw, renderer)
        async with open_database(posting.known) as database:
            order = await posting.marked(order, database)
        found = await dry_run(order, renderer=renderer, origin=_ORIGIN)
    for each in found.rejected:
        echo(t("would fail: {to}: {reason}", to=each.email, reason=each.reason))
    for sample in found.samples[:1]:
        print_message(sample.email, sample.subject, sample.text)
    if order.refusal:
        print_refusal(len(order.rejected), order.total)
        return False
    left = order.accepted - len(found.rejected)
    echo(
        t(
            "{n:,} of {total:,} messages can be sent ({size:,} bytes in total). Nothing was stored.",
            n=left,
            total=order.total,
            size=found.sizes.total,
        )
    )
    return left > 0
