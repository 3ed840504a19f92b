"""A test of a new message: what the preview shows, sent to oneself, at the address of the last
test.
"""

import json
from dataclasses import replace
from typing import Final
from urllib.parse import quote, unquote

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.core.states import JobType
from mailerd.http.errors import ApiError
from mailerd.store.db.connection import rfc3339
from mailerd.store.read import describe
from mailerd.store.write.drafts import Draft
from mailerd.web.frame.services import ConsoleRequest
from mailerd.web.send.draft import drafts, save
from mailerd.web.send.post_job import PostedJob, explain, job_fields, post_table
from mailerd.web.send.send_files import attached
from mailerd.web.send.send_preview import View, person_of, read

_YEAR: Final = 365 * 86_400


def _cookie(it: ConsoleRequest) -> str:
    """Each key that signs in by this browser has its own."""
    return f"mailerd-test-{it.key.id}"


def last_address(it: ConsoleRequest) -> str:
    """Where the last test went; "": none was sent."""
    return unquote(it.http.cookies.get(_cookie(it), ""))


def remember(it: ConsoleRequest, draft: Draft, response: web.Response) -> None:
    """Offer this address for the next draft."""
    to = quote(draft.message["test_to"])
    response.set_cookie(
        _cookie(it), to, max_age=_YEAR, path="/send", httponly=True, samesite="Strict"
    )


async def send_test(it: ConsoleRequest, draft: Draft, view: View) -> tuple[str, bool]:
    """Send the message of the person that is shown, as it is shown: what came of it, and whether it
    was accepted.
    """
    written, people, why = await read(it, draft, person_of(view.person))
    person = people.person and people.person.recipient
    if written is None or why or not person:
        return (why[0] if why else t("Choose a template, write a message, or copy a draft.")), False
    one = {**person} | ({"language": view.language} if view.language in written.languages else {})
    files = (await drafts(it).files(draft)).values()
    try:
        fields, recipients = (
            job_fields(draft.message, written.fields),
            json.dumps([one], ensure_ascii=False).encode(),
        )
        async with it.services.shares.posts.place(it.key), attached(it, draft, files) as contents:
            test = PostedJob(
                fields, recipients, written.attachments, contents, draft.message.get("test_to", "")
            )
            answer = await post_table(it, test, type_=JobType.TEST, has_place=bool(files))
    except ApiError as error:
        return explain(it, error), False
    now, saved = it.services.clock.now(), await drafts(it).find(it.key.id, draft.id)
    # else another message than the one that was tested
    if saved and saved.message == draft.message:
        await save(
            it, replace(saved, message={**draft.message, "tested": rfc3339(now)}), only=["message"]
        )
    return t(
        "Test message accepted: {time}, job {job}", time=describe.moment(now), job=answer["job_id"]
    ), True
