"""One message: its history, its preview, and, where it is unconfirmed, the two buttons that confirm
it.
"""

import json
from typing import Final
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from mailerd.core.claims import ClaimedRecipient
from mailerd.core.i18n import t
from mailerd.core.labels import label
from mailerd.core.network_rules import is_loopback
from mailerd.core.states import Proof, State
from mailerd.errors import MailerdError
from mailerd.mail.templates import Content
from mailerd.operations import messages
from mailerd.operations.messages import UnknownMessageError
from mailerd.store.inbox.mailboxes import NoticeReader
from mailerd.store.queue.job_content import attachments, job_content
from mailerd.store.read import describe
from mailerd.store.read.forecast_inputs import read_queue
from mailerd.store.read.history import RecipientHistory
from mailerd.store.read.previews import ForgottenError, read_message
from mailerd.store.write.api_keys import Permission
from mailerd.web.frame.forms import read_form, row_number
from mailerd.web.frame.rendered_message import frame
from mailerd.web.frame.services import TIMEOUT, ConsoleRequest
from mailerd.web.look.jobs_page import NO_CHANGE

_PROOFS: Final = {
    Proof.ANSWERED: t("Google returned the message ID."),
    Proof.SEEN: t("Google did not respond, but the message is in Sent."),
    Proof.GONE: t(
        "Google did not respond, but the draft is gone. Deleting the draft manually looks the same."
    ),
    Proof.PERSON: t("Someone checked the mailbox and confirmed it."),
}
"""What proves that a message was sent."""


async def find_message(it: ConsoleRequest) -> RecipientHistory:
    """The message of the path.

    Raises:
        ApiError: 404, there is none that the key may see.
    """
    id_ = row_number(it.http.match_info["id"])
    try:
        return await messages.find(it.caller, 0 if id_ is None else id_)
    except UnknownMessageError:
        it.missing()


async def show(it: ConsoleRequest) -> web.Response:
    """The page."""
    story = await find_message(it)
    services = it.services
    queue = await read_queue(
        [story], history=services.history, forecasts=services.forecasts, outage=services.outage()
    )
    notices = await NoticeReader(services.database, timeout=TIMEOUT).of_message(story.id)
    content = await job_content(services.database, story.job_id)
    headers = json.loads(content.headers or "{}") | json.loads(
        await _own_headers(it, story.id) or "{}"
    )
    standing = [] if story.status is State.SENT else describe.standing_of(story, queue)
    if story.status is State.UNSURE and story.lease_until is None:
        standing = standing[:1]  # what comes next is the page's own buttons
    return it.page(
        "message.html",
        active="jobs",
        story=story,
        notices=notices,
        lines=describe.timeline(story),
        standing=standing,
        proof=_PROOFS[story.proof] if story.proof else "",
        mailbox=sent_mail(it, story),
        content=content,
        headers=headers,
        may_settle=it.may(Permission.CONTROL, _sender(story)),
        live=story.status is not State.UNSURE,
    )


def _sender(story: RecipientHistory) -> str:
    """Whose message it is: what its From says."""
    return story.from_address or story.sender


async def _own_headers(it: ConsoleRequest, id_: int) -> str | None:
    try:
        row = await read_message(it.services.database, id_, bound=TIMEOUT)
    except ForgottenError:
        return None
    return row.headers if row else None


def sent_mail(it: ConsoleRequest, story: RecipientHistory) -> str:
    """Where a person sees what the mailbox has sent to this address: Gmail's search, or the outbox
    of the sandbox.
    """
    settings = it.services.settings
    if is_loopback(urlsplit(settings.gmail.api_root).hostname or ""):
        return (
            f"{settings.web.outbox or settings.gmail.api_root}?{urlencode({'q': story.to_email})}"
        )
    query = urlencode({"authuser": story.sender})
    return f"https://mail.google.com/mail/?{query}#search/{urlencode({'q': f'in:sent to:{story.to_email}'})[2:]}"


async def act(it: ConsoleRequest) -> web.Response:
    """Record what a person has seen in the mailbox."""
    story = await find_message(it)
    form = await read_form(it.http)
    sent = {"sent": True, "not-sent": False}.get(form.text("action"))
    here, attempt = f"/messages/{story.id}", row_number(form.text("attempt"))
    if sent is None or attempt is None:  # without its attempt it could be said of a later one
        return it.back(here, NO_CHANGE)
    settled = await messages.settle(it.caller, story, sent=sent, attempt=attempt)
    return it.back(here, t("Confirmed. Message status: {status}.", status=label(settled.status)))


async def html(it: ConsoleRequest) -> web.StreamResponse:
    """The message's HTML, for a frame that runs nothing and loads nothing."""
    story = await find_message(it)
    database = it.services.database
    try:
        row = await read_message(database, story.id, bound=TIMEOUT)
    except ForgottenError as error:
        return await frame(it, str(error), {})
    if row is None:
        it.missing()
    attached = await attachments(database, row.job_id, recipient=None)
    attached += await attachments(database, row.job_id, recipient=row.seq)
    pictures = {
        each.content_id: (each.content_type, each.content) for each in attached if each.content_id
    }
    return await frame(it, await rendered(it, row), pictures)


async def rendered(it: ConsoleRequest, row: ClaimedRecipient) -> Content | str:
    """The message as it goes out, but that its unsubscribe link does nothing; or why it cannot be
    made.
    """
    try:
        return (await it.services.preview(row, f"key {it.key.name}"))[0]
    except (MailerdError, ValueError) as error:
        return str(error)
