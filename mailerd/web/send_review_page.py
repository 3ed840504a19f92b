"""New message, step 3: exactly what will happen, when, and the button that says so."""

import json
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from zoneinfo import ZoneInfo

from aiohttp import web

from mailerd.core.i18n import Text, t, tn
from mailerd.http.errors import ApiError
from mailerd.mail.templates import Content
from mailerd.store.db.connection import rfc3339
from mailerd.store.drafts import Draft, DraftFile
from mailerd.store.server_info import database_now
from mailerd.web.draft import DraftMessage, drafts, job_of, save
from mailerd.web.draft_people import People
from mailerd.web.forms import read_form, read_local_time
from mailerd.web.post_job import explain, faults_of, job_fields, post_table
from mailerd.web.send_files import attached
from mailerd.web.send_message_page import FIELDS, NOT_SENT
from mailerd.web.send_preview import make, read, senders_of
from mailerd.web.sent_tables import remember, sent_before
from mailerd.web.services import TIMEOUT, ConsoleRequest

UNDO: Final = timedelta(seconds=30)
"""How long a job waits that is sent now, so that it can be undone."""
MANY: Final = 50
"""People above which a message should have a list that they can unsubscribe from."""
TIMES: Final = ("when", "at", "zone")
_IN_DOUBT: Final = 500
"""From this status on the job may be stored all the same."""


async def show(it: ConsoleRequest, draft: Draft) -> web.Response:
    """What will happen."""
    return await _page(it, draft)


async def _page(
    it: ConsoleRequest, draft: Draft, *, status: int = 200, trouble: str = "", refused: ApiError | None = None
) -> web.Response:
    """The page. `refused`: why the job is not stored; else it is tried."""
    written, people, why = await read(it, draft)
    if written is None or why or not people.is_ready:
        step = "message" if people.is_ready else "people"
        return it.back(f"/send/{draft.id}/{step}", why[0] if why else t("This step is not complete."))
    when, wrong = _when(it, draft)
    tried, files = dict[str, Any](), [*(await drafts(it).files(draft)).values()]
    if not wrong and refused is None:
        tried, refused = await _try(it, draft, _job(draft, written, people, when), files)
    reader = people.reader(1)
    first = await make(it, written, reader) if reader else None
    sender = next((each for each in await senders_of(it) if each.state.email == draft.message.get("sender")), None)
    response = it.page(
        "send_review.html", status=refused.status if refused else status, active="send", live=False, step="review",
        message=dict.fromkeys(FIELDS, "") | draft.message, options=dict.fromkeys(TIMES, "") | draft.options,
        draft=draft, people=people, tried=tried, trouble=trouble or wrong or (explain(it, refused) if refused else ""),
        faults=faults_of(it, refused, people.checked.rows) if refused else [], rows=people.checked.rows,
        subject=first.subject if isinstance(first, Content) else "", warnings=await _warnings(it, draft, people),
        sender=sender, button=_button(draft, tried, when), seen=_seen(draft, written, people, when, files), files=files,
    )  # fmt: skip
    response.headers.update(refused.headers if refused else {})
    return response


async def _try(
    it: ConsoleRequest, draft: Draft, job: dict[str, Any], files: list[DraftFile]
) -> tuple[dict[str, Any], ApiError | None]:
    """What the API would answer, or why it would refuse the job."""
    try:
        async with it.services.shares.posts.place(it.key), attached(it, draft, job, files) as whole:
            return await post_table(it, whole | {"dry_run": True}, has_place=bool(files)), None
    except ApiError as error:
        return {}, error


def _job(draft: Draft, written: DraftMessage, people: People, at: datetime | None) -> dict[str, Any]:
    options: dict[str, Any] = {"on_invalid": "skip" if draft.options.get("skip_invalid") else "reject"}
    if draft.options.get("allow_duplicates"):
        options["allow_duplicates"] = True
    if at:
        options["send_at"] = rfc3339(at)
    return job_fields(draft.message, written.fields, people.checked.recipients) | options


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


async def _warnings(it: ConsoleRequest, draft: Draft, people: People) -> list[Text]:
    """What one should know before the button is pressed; the dry run has more."""
    found = list[Text]()
    if "tested" not in draft.message:
        found.append(t("You have not sent yourself a test of this message."))
    if len(people.checked.recipients) > MANY and not draft.message.get("list"):
        found.append(t("More than {n} people get this message, and it has no list to unsubscribe from.", n=MANY))
    if before := await sent_before(it, people):
        found.append(t("The same people were sent a message before: {time}, job {job}", **before))
    if accepted := [name for name, what in draft.options.get("empty", {}).items() if what == "accept"]:
        found.append(t("Empty cells stay empty: {names}", names=", ".join(accepted)))
    if people.checked.skipped:
        n = people.checked.skipped
        found.append(tn("{n:,} row of the table is skipped.", "{n:,} rows of the table are skipped.", n))
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
    given: dict[str, Any] = {name: form.text(name) for name in TIMES if name in form.texts()}
    draft = await drafts(it).find(it.key.id, draft.id) or it.missing()  # another tab may have saved while this came
    draft = replace(draft, options={**draft.options, **given})
    await save(it, draft, only=["options"])
    if "HX-Request" in it.http.headers:  # another time was chosen; it may name a button that merely has the focus
        return await _page(it, draft)
    if form.text("action") != "send":
        return it.back(f"/send/{draft.id}/review")
    written, people, why = await read(it, draft)
    when, wrong = _when(it, draft)
    if written is None or why or not people.is_ready or wrong:
        return await _page(it, draft, status=422)
    files = [*(await drafts(it).files(draft)).values()]
    if form.text("seen") != _seen(draft, written, people, when, files):
        return await _page(
            it, draft, status=409, trouble=t("This has changed since the page was loaded. Check it again.")
        )
    at = when or await database_now(it.services.database, bound=TIMEOUT) + UNDO
    return await _send(it, draft, people, _job(draft, written, people, at), files, is_now=when is None)


def _seen(draft: Draft, written: DraftMessage, people: People, when: datetime | None, files: list[DraftFile]) -> str:
    """What the button was about: another message, file, table, time or template is not what was agreed to."""
    message = {name: value for name, value in draft.message.items() if name not in NOT_SENT}
    whole = [message, written.fields, people.checked.recipients, str(when), [asdict(each) for each in files]]
    return sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


async def _send(
    it: ConsoleRequest, draft: Draft, people: People, job: dict[str, Any], files: list[DraftFile], *, is_now: bool
) -> web.Response:
    """Store the job once, however often it is asked for: its idempotency key is the draft's."""
    store = drafts(it)
    await store.press(draft)
    try:
        async with it.services.shares.posts.place(it.key), attached(it, draft, job, files) as whole:
            answer = await post_table(it, whole, once=draft.once, has_place=bool(files))
        id_: str | None = answer["job_id"]
    except ApiError as error:
        id_ = await job_of(it, draft.once)
        if id_ is None:
            if error.status < _IN_DOUBT:
                await store.release(draft)
            return await _page(it, draft, refused=error)
    await store.sent(draft)
    await remember(it, draft, people, str(id_))
    return it.back(f"/jobs/{id_}?draft={draft.id}" if is_now else f"/jobs/{id_}")
