"""New message, step 3: exactly what will happen, when, and the button that says so."""

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from zoneinfo import ZoneInfo

from aiohttp import web

from mailerd.core.i18n import Text, t, tn
from mailerd.http.errors import ApiError
from mailerd.mail.table_checker import CheckedDraft, JobRecipients
from mailerd.mail.templates import Content
from mailerd.store.db.connection import rfc3339
from mailerd.store.read.server_info import database_now
from mailerd.store.write.drafts import Draft, DraftFile
from mailerd.web.frame.forms import Form, read_form, read_local_time
from mailerd.web.frame.services import TIMEOUT, ConsoleRequest
from mailerd.web.send.draft import DraftMessage, drafts, job_of, load, place, save
from mailerd.web.send.draft_people import read_recipients, reader_of
from mailerd.web.send.post_job import (
    Attached,
    PostedJob,
    explain,
    faults_of,
    job_fields,
    job_too_large,
    post_table,
)
from mailerd.web.send.send_files import attached
from mailerd.web.send.send_message_page import FIELDS, NOT_SENT
from mailerd.web.send.send_preview import make, read_written, senders_of
from mailerd.web.send.sent_tables import remember, sent_before

UNDO: Final = timedelta(seconds=30)
"""How long a job waits that is sent now, so that it can be undone."""
MANY: Final = 50
"""People above which a message should have a list that they can unsubscribe from."""
TIMES: Final = ("when", "at", "zone")
MAX_TIME: Final = 64
"""Characters of a time, or of the name of a zone."""
_IN_DOUBT: Final = 500
"""From this status on the job may be stored all the same."""


async def show(it: ConsoleRequest, draft: Draft) -> web.Response:
    """What will happen."""
    return await _page(it, await _review(it, draft))


@dataclass(frozen=True)
class Reviewed:
    """What is reviewed: a draft whose message and table can be used."""

    draft: Draft
    written: DraftMessage
    people: CheckedDraft
    recipients: JobRecipients
    files: list[DraftFile]

    def fields(self, at: datetime | None) -> dict[str, Any]:
        """The job without its recipients and attachments."""
        given = self.draft.options
        options: dict[str, Any] = {"on_invalid": "skip" if given.get("skip_invalid") else "reject"}
        if given.get("allow_duplicates"):
            options["allow_duplicates"] = True
        if at:
            options["send_at"] = rfc3339(at)
        return job_fields(self.draft.message, self.written.fields) | options

    def posting(self, contents: list[Attached], at: datetime | None, **more: Any) -> PostedJob:
        """The job. `contents`: its files."""
        return PostedJob(
            self.fields(at) | more, self.recipients.content, self.written.attachments, contents
        )

    def seen(self, when: datetime | None) -> str:
        """What the button is about: another message, file, table, time or template is not what was
        agreed to.
        """
        message = {
            name: value for name, value in self.draft.message.items() if name not in NOT_SENT
        }
        whole = [
            message,
            self.written.fields,
            self.recipients.digest,
            str(when),
            [asdict(each) for each in self.files],
        ]
        return sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


async def _review(it: ConsoleRequest, draft: Draft) -> Reviewed | web.Response:
    """What is reviewed, or the way to the step that is not complete."""
    written, why = await read_written(it, draft)
    people, recipients = await read_recipients(it, draft, written)
    if written is None or not people.is_ready:
        step = "message" if people.is_ready else "people"
        return it.back(
            f"/send/{draft.id}/{step}", why[0] if why else t("This step is not complete.")
        )
    if recipients is None:
        raise job_too_large(it)
    return Reviewed(draft, written, people, recipients, [*(await drafts(it).files(draft)).values()])


async def _page(
    it: ConsoleRequest,
    reviewed: Reviewed | web.Response,
    *,
    status: int = 200,
    trouble: str = "",
    refused: ApiError | None = None,
) -> web.Response:
    """The page. `refused`: why the job is not stored; else it is tried."""
    if not isinstance(reviewed, Reviewed):
        return reviewed
    draft, people, files = reviewed.draft, reviewed.people, reviewed.files
    when, wrong = _when(it, draft)
    tried = dict[str, Any]()
    if not wrong and refused is None:
        tried, refused = await _try(it, reviewed, when)
    reader = reader_of(people)
    first = await make(it, reviewed.written, reader) if reader else None
    sender = next(
        (each for each in await senders_of(it) if each.state.email == draft.message.get("sender")),
        None,
    )
    rows = reviewed.recipients.rows
    response = it.page(
        "send_review.html",
        status=refused.status if refused else status,
        active="send",
        live=False,
        step="review",
        message=dict.fromkeys(FIELDS, "") | draft.message,
        options=dict.fromkeys(TIMES, "") | draft.options,
        draft=draft,
        people=people,
        tried=tried,
        trouble=trouble or wrong or (explain(it, refused) if refused else ""),
        faults=faults_of(it, refused, rows) if refused else [],
        rows=rows,
        subject=first.subject if isinstance(first, Content) else "",
        warnings=await _warnings(it, draft, people),
        sender=sender,
        button=_button(draft, tried, when),
        seen=reviewed.seen(when),
        files=files,
    )
    response.headers.update(refused.headers if refused else {})
    return response


async def _try(
    it: ConsoleRequest, reviewed: Reviewed, at: datetime | None
) -> tuple[dict[str, Any], ApiError | None]:
    """What the API would answer, or why it would refuse the job."""
    files = reviewed.files
    try:
        async with (
            it.services.shares.posts.place(it.key),
            attached(it, reviewed.draft, files) as contents,
        ):
            return await post_table(
                it, reviewed.posting(contents, at, dry_run=True), has_place=bool(files)
            ), None
    except ApiError as error:
        return {}, error


def _when(it: ConsoleRequest, draft: Draft) -> tuple[datetime | None, str]:
    """When it is sent, None: now; and why that is no time, or ""."""
    options = draft.options
    if options.get("when") != "later":
        return None, ""
    try:
        at = read_local_time(options.get("at", ""), options.get("zone", ""))
    except ValueError:
        return None, t("Enter a date, a time and a time zone.")
    if at <= it.services.clock.now():
        return None, t("This time is past. Enter a later one.")
    return at, ""


async def _warnings(it: ConsoleRequest, draft: Draft, people: CheckedDraft) -> list[Text]:
    """What one should know before the button is pressed; the dry run has more."""
    found = list[Text]()
    if "tested" not in draft.message:
        found.append(t("You have not sent yourself a test of this message."))
    if people.recipients > MANY and not draft.message.get("list"):
        found.append(
            t(
                "More than {n} people get this message, and it has no list to unsubscribe from.",
                n=MANY,
            )
        )
    if before := await sent_before(it, people):
        found.append(t("The same people were sent a message before: {time}, job {job}", **before))
    if accepted := [
        name for name, what in draft.options.get("empty", {}).items() if what == "accept"
    ]:
        found.append(t("Empty cells stay empty: {names}", names=", ".join(accepted)))
    if people.skipped:
        n = people.skipped
        found.append(
            tn("{n:,} row of the table is skipped.", "{n:,} rows of the table are skipped.", n)
        )
    return found


def _button(draft: Draft, tried: dict[str, Any], when: datetime | None) -> Text | str:
    """What the button says: the number, and the time in the zone that was chosen."""
    n = tried.get("accepted", 0)
    if not n or tried.get("post_refused"):
        return ""
    if when is None:
        return tn("Send to {n:,} person now", "Send to {n:,} people now", n)
    local = when.astimezone(ZoneInfo(draft.options.get("zone") or "UTC"))
    at = f"{local:%Y-%m-%d %H:%M} ({local.tzinfo})"
    return tn("Schedule for {n:,} person: {time}", "Schedule for {n:,} people: {time}", n, time=at)


async def change(it: ConsoleRequest, draft: Draft) -> web.Response:
    """Another time; or the job."""
    form = await read_form(it.http)
    async with place(it):
        return await _answer(it, await load(it, draft), form)


async def _answer(it: ConsoleRequest, draft: Draft, form: Form) -> web.Response:
    given: dict[str, Any] = {
        name: form.text(name)[:MAX_TIME] for name in TIMES if name in form.texts()
    }
    draft = replace(draft, options={**draft.options, **given})
    await save(it, draft, only=["options"])
    # another time was chosen; it may name a button that merely has the focus
    if "HX-Request" in it.http.headers:
        return await _page(it, await _review(it, draft))
    if form.text("action") != "send":
        return it.back(f"/send/{draft.id}/review")
    reviewed, (when, wrong) = await _review(it, draft), _when(it, draft)
    if not isinstance(reviewed, Reviewed) or wrong:
        return await _page(it, reviewed, status=422)
    if form.text("seen") != reviewed.seen(when):
        return await _page(
            it,
            reviewed,
            status=409,
            trouble=t("This has changed since the page was loaded. Check it again."),
        )
    at = when or await database_now(it.services.database, bound=TIMEOUT) + UNDO
    return await _send(it, reviewed, at, is_now=when is None)


async def _send(
    it: ConsoleRequest, reviewed: Reviewed, at: datetime, *, is_now: bool
) -> web.Response:
    """Store the job once, however often it is asked for: its idempotency key is the draft's."""
    store, draft, files = drafts(it), reviewed.draft, reviewed.files
    await store.press(draft)
    try:
        async with it.services.shares.posts.place(it.key), attached(it, draft, files) as contents:
            answer = await post_table(
                it, reviewed.posting(contents, at), once=draft.once, has_place=bool(files)
            )
        id_: str | None = answer["job_id"]
    except ApiError as error:
        id_ = await job_of(it, draft.once)
        if id_ is None:
            if error.status < _IN_DOUBT:
                await store.release(draft)
            return await _page(it, reviewed, refused=error)
    await store.sent(draft)
    await remember(it, draft, reviewed.people, str(id_))
    return it.back(f"/jobs/{id_}?draft={draft.id}" if is_now else f"/jobs/{id_}")
