"""How a template looks: with its own examples, or for a recipient of one of its newest jobs."""

import json
from dataclasses import replace
from typing import Final

from aiohttp import web

from mailerd.core.suppression import DEAD_TOKEN
from mailerd.mail.template_library import NamedTemplate, TemplateLibraryError
from mailerd.mail.templates import Content, RecipientData
from mailerd.store.queue.job_content import job_content
from mailerd.store.read.console_queries import LatestReader
from mailerd.store.read.previews import ForgottenError, read_message
from mailerd.web.frame.forms import row_number
from mailerd.web.frame.rendered_message import frame, render_one
from mailerd.web.frame.services import TIMEOUT, ConsoleRequest

_READER: Final = RecipientData("reader@example.com", "Reader", None)


async def make(
    it: ConsoleRequest, named: NamedTemplate, language: str, person: str = ""
) -> tuple[NamedTemplate, Content | str]:
    """The template in its layout, and its message, or why there is none.

    `person`: the id of a recipient.
    """
    try:
        whole = await it.library.in_layout(named)
        variables, reader = await _person(it, person) if person else (whole.variables, _READER)
    except (TemplateLibraryError, ForgottenError) as error:
        return named, str(error)
    given = {**variables, **({"language": language} if language and not person else {})}
    return whole, await render_one(it, replace(whole.template, variables=given), reader)


async def readers(it: ConsoleRequest, template: str) -> list[LatestReader]:
    """Whom the newest jobs of a template have written to, as far as the key may see them."""
    return await it.services.queries.latest_readers(template, it.key.senders) if template else []


async def _person(it: ConsoleRequest, person: str) -> tuple[dict[str, object], RecipientData]:
    """The variables of the job and the recipient, with an unsubscribe link that does nothing.

    Raises:
        ApiError: 404, there is none that the key may see.
        ForgottenError: what was written to this person is there no more.
    """
    id_, database = row_number(person), it.services.database
    row = None if id_ is None else await read_message(database, id_, bound=TIMEOUT)
    if row is None or await it.services.jobs.seen_by(it.key, row.job_id) is None:
        it.missing()
    job, public = await job_content(database, row.job_id), it.services.settings.public.base_url
    link = f"{public}/u/{DEAD_TOKEN}" if public and job.list_id else ""
    return json.loads(job.variables), RecipientData(row.to_email, row.to_name, row.variables, link)


async def in_frame(
    it: ConsoleRequest, named: NamedTemplate, made: Content | str
) -> web.StreamResponse:
    """The message for a frame, with its pictures."""
    return await frame(
        it, made, {each.filename: (each.content_type, each.content) for each in named.images}
    )
