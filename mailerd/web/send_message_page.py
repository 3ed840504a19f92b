"""New message, step 2: the sender, what is written, how it looks for each person, and a test to oneself."""

from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.core.states import JobType
from mailerd.http.errors import ApiError
from mailerd.mail.templates import Content
from mailerd.store import describe
from mailerd.store.api_keys import Permission
from mailerd.store.db.connection import rfc3339
from mailerd.store.drafts import Draft
from mailerd.store.suppressions import Suppressions
from mailerd.web.draft import OWN, DraftMessage, People, make, save
from mailerd.web.forms import Form, read_form
from mailerd.web.post_job import body_of, explain, job_fields, post_job
from mailerd.web.send_preview import hint, person_of, read, senders_of, version_of
from mailerd.web.services import MAX_LISTED, TIMEOUT, ConsoleRequest, row_number

FIELDS: Final = (
    "kind", "template", "sender", "sender_name", "reply_to", "subject", "body", "list", "reference", "test_to",
)  # fmt: skip
"""What the form has; each is a text of the draft's message."""
_SHOWN: Final = ("kind", "template", "subject", "body")
"""What a test has shown: another one of these was not tested."""
MAX_WRITTEN: Final = 1024 * 1024
"""Bytes of the form."""
MAX_SOURCE: Final = 100_000
"""Characters of a message's text and source that the page shows."""


async def show(it: ConsoleRequest, draft: Draft) -> web.Response:
    """The form, and the message of one person."""
    return await _page(it, draft, it.http.query.get("person", ""))


async def _page(
    it: ConsoleRequest, draft: Draft, shown: str, *, status: int = 200, trouble: str = "", done: str = ""
) -> web.Response:
    written, people, why = await read(it, draft)
    person = person_of(shown, people)
    reader = people.reader(person)
    made = await make(it, written, reader) if written and reader else None
    if isinstance(made, list):
        why = [hint(each, people.uses.values()) for each in made]
    may_list = it.may(Permission.SUPPRESS)
    lists = (
        await (await Suppressions.open(it.services.database, timeout=TIMEOUT)).lists(limit=MAX_LISTED)
        if may_list
        else []
    )
    return it.page(
        "send_message.html", status=status, active="send", live=False, step="message", draft=draft, people=people,
        message=dict.fromkeys(FIELDS, "") | draft.message, names=await it.services.library.all_names(),
        senders=await senders_of(it), lists=lists, may_list=may_list, person=person, reader=reader,
        made=made if isinstance(made, Content) else None, why=why, trouble=trouble, done=done,
        variables=_variables(people, written), missing=sorted(_missing(people, written)),
        version=version_of(draft, reader), most=MAX_SOURCE,
    )  # fmt: skip


def _variables(people: People, written: DraftMessage | None) -> list[str]:
    """What can be inserted."""
    given = [use for use in people.uses.values() if use and use not in {"cc", "bcc", *OWN}]
    return [*given, *(name for name in OWN if name != "language"), *sorted(_missing(people, written))]


def _missing(people: People, written: DraftMessage | None) -> set[str]:
    """Variables that the message reads and no column has."""
    known = {*people.uses.values(), *OWN, *(written.template.defaults if written else ())}
    return set(written.names - known) if written else set()


async def change(it: ConsoleRequest, draft: Draft) -> web.Response:
    """Save what is written; show another person, send a test, or go on."""
    form = await read_form(it.http, most=MAX_WRITTEN)
    draft = replace(draft, message=_message(draft, form))
    await save(it, draft)
    person = form.text("person") or form.text("shown")
    match form.text("action"):
        case "test":
            said, failed = await _test(it, draft, person)
            return await _page(
                it, draft, person, status=422 if failed else 200, **{"trouble" if failed else "done": said}
            )
        case "next" if why := await _why_not(it, draft):
            return await _page(it, draft, person, status=422, trouble=why)
        case "next":
            return it.back(f"/send/{draft.id}/review")
        case _:
            pass
    if "HX-Request" in it.http.headers:
        return await _page(it, draft, person)
    return it.back(f"/send/{draft.id}/message?person={row_number(person) or 1}#preview")


def _message(draft: Draft, form: Form) -> dict[str, Any]:
    texts = form.texts()
    given: dict[str, Any] = {name: texts[name] for name in FIELDS if name in texts}
    if other := texts.get("sender_other"):
        given["sender"] = other
    made = {**draft.message, **given}
    if any(made.get(name) != draft.message.get(name) for name in _SHOWN):
        made.pop("tested", None)
    return made


async def _why_not(it: ConsoleRequest, draft: Draft) -> str:
    """Why there is nothing to review yet; "": there is."""
    written, people, why = await read(it, draft)
    if why:
        return why[0]
    if written is None:
        return t("Choose a template, or write a message.")
    if not draft.message.get("sender"):
        return t("Choose a sender.")
    if names := sorted(_missing(people, written)):
        return t("No column for: {names}", names=", ".join(names))
    return ""


async def _test(it: ConsoleRequest, draft: Draft, person: str) -> tuple[str, bool]:
    """Send the message of the person that is shown to oneself; what came of it, and whether it failed."""
    written, people, why = await read(it, draft)
    if written is None or why or not people.checked.recipients:
        return (why[0] if why else t("Choose a template, or write a message.")), True
    one = people.checked.recipients[person_of(person, people) - 1]
    job = job_fields(draft.message, written.fields, [one])
    try:
        async with it.services.shares.posts.place(it.key):
            test = {"job": job, "to": [draft.message.get("test_to", "")]}
            answer, _ = await post_job(it, body_of(test), type_=JobType.TEST)
    except ApiError as error:
        return explain(it, error), True
    now = it.services.clock.now()
    await save(it, replace(draft, message={**draft.message, "tested": rfc3339(now)}))
    return t("Test message accepted: {time}, job {job}", time=describe.moment(now), job=answer["job_id"]), False
