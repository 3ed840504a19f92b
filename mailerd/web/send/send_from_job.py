"""New message, step 1: the people of an earlier job as its table, or the whole job once more."""

import json
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from mailerd.core.i18n import Text, joined, t
from mailerd.core.labels import label
from mailerd.core.results import MessageOutcome
from mailerd.core.states import JobType
from mailerd.http.responses import cannot_render
from mailerd.mail.spreadsheet import SpreadsheetError
from mailerd.mail.table_checker import JobPeopleTable
from mailerd.mail.templates import RendererError
from mailerd.store.read.earlier_jobs import EarlierJob, EarlierJobs
from mailerd.store.read.jobs import Job
from mailerd.store.write.drafts import FILE, PEOPLE, Draft
from mailerd.web.frame.forms import Form
from mailerd.web.frame.html import said
from mailerd.web.frame.services import MAX_LISTED, ConsoleRequest
from mailerd.web.send.draft import drafts, save
from mailerd.web.send.draft_people import WITHOUT_REPLY

DUPLICATE: Final = "duplicate"
WHO: Final = {
    "all": t("Everyone"),
    "no_reply": label("no_reply"),
    "bounced_soft": label("bounced_soft"),
    "failed": label("failed"),
}
"""Whose messages are asked for, by the name of their outcome."""
MAX_TEMPLATE: Final = 200
"""Characters of the name of a template, which has at most 64."""
MAX_VARIABLES: Final = 100_000
"""Characters of a job's own variables that a draft takes over."""


async def jobs_to_choose(it: ConsoleRequest) -> list[Job]:
    """The newest jobs with a table that the key may see."""
    found = await it.services.jobs.newest(
        before=None, limit=2 * MAX_LISTED, senders=it.key.senders, counted=0
    )
    return [job for job in found if job.type == JobType.TEMPLATE][:MAX_LISTED]


async def take(it: ConsoleRequest, draft: Draft | None, form: Form) -> web.Response:
    """Make a draft of a job, or give a draft its people.

    Raises:
        SpreadsheetError, DraftTooLargeError: nothing was changed.
    """
    who, job = form.text("who"), await it.services.jobs.seen_by(it.key, form.text("job"))
    whole = who == DUPLICATE
    if job is None or not (who in WHO or (whole and job.type == JobType.TEMPLATE)):
        it.missing()
    settings = it.services.settings
    earlier = EarlierJobs(it.services.database, settings.database.connect_timeout)
    which = MessageOutcome(who) if who in set(MessageOutcome) else None
    try:
        table = await it.services.tables.of_people(
            earlier.people(job.id, which),
            most=settings.intake.max_recipients,
            origin=f"key {it.key.name}",
        )
    except RendererError as error:
        raise cannot_render(error) from error
    written = await earlier.read(job.id)
    if written is None:  # it was deleted meanwhile, and perhaps not all were read
        it.missing()
    if not table.packed:
        raise SpreadsheetError(t("This job has no such people. Nothing was changed."))
    title = job.reference or job.template_name or written.subject
    mapping = {
        "file": title if whole else f"{title} ({said(WHO[who], it.language)})",
        "sheet": "",
        "sheets": [],
        "encoding": "",
        "is_guess": False,
        "header": 1,
        "uses": table.uses,
    }
    if who == MessageOutcome.NO_REPLY:
        mapping[WITHOUT_REPLY] = job.id
    message = _message(job, written, whole=whole)
    if template := form.text("template")[:MAX_TEMPLATE]:
        message["template"] = template
    parts = {PEOPLE: table.packed, FILE: b""}
    if draft is None:
        id_ = await drafts(it).create(it.key.id, mapping, message, parts)
    else:
        id_ = draft.id
        kept = {
            name: value
            for name, value in draft.message.items()
            if name != "list" or not written.list_name
        }
        await save(it, replace(draft, mapping=mapping, message=message | kept, options={}), parts)
    lost = _lost(job, written, table, whole=whole)
    return it.back(
        f"/send/{id_}/people", t("Not taken over: {what}", what=joined(lost, ", ")) if lost else ""
    )


def _message(job: Job, written: EarlierJob, *, whole: bool) -> dict[str, Any]:
    """The message of the draft. The list always comes along: who has left it gets no message."""
    found: dict[str, Any] = {
        "sender": job.sender_email,
        "sender_name": written.sender_name,
        "reply_to": written.reply_to,
        "list": written.list_name,
    }
    if whole:
        found["reference"] = job.reference
        if job.template_name:
            found |= {"kind": "template", "template": job.template_name}
        elif written.markdown:
            found |= {"kind": "write", "subject": written.subject, "body": written.markdown}
        else:
            found |= {"kind": "job", "job": job.id}
        if len(written.variables) <= MAX_VARIABLES:
            found["variables"] = json.loads(written.variables)
    return {name: value for name, value in found.items() if value}


def _lost(job: Job, written: EarlierJob, table: JobPeopleTable, *, whole: bool) -> list[Text | str]:
    """What the draft lacks."""
    found: list[Text | str] = [*table.left_out]
    if whole:
        parts = {
            t("attachments"): written.has_files,
            t("copies (Cc, Bcc)"): table.has_copies,
            t("headers"): written.has_headers,
            t("tags"): job.tags,
            t("metadata"): job.metadata,
            t("priority"): job.priority,
            t("variables of the job"): len(written.variables) > MAX_VARIABLES,
        }
        found += [name for name, value in parts.items() if value]
    return found
