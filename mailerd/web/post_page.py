"""A table that is dropped on the page becomes a job: the same checks and the same once-only rule as `mailerd send`."""

import asyncio
import json
import re
from contextlib import nullcontext
from typing import Any, Final

from aiohttp import web

from mailerd.core.i18n import t, tn
from mailerd.core.states import JobType
from mailerd.http.auth import LARGE_BODY
from mailerd.http.errors import MAX_FIELD_PATH, ApiError
from mailerd.http.responses import cannot_render
from mailerd.mail.spreadsheet import SpreadsheetError
from mailerd.mail.templates import RendererError
from mailerd.store.api_keys import Permission
from mailerd.web.forms import MAX_TABLE, TableJob, make_job, read_form
from mailerd.web.html import said
from mailerd.web.services import ConsoleRequest

MAX_SHOWN: Final = 20
"""Faults of a table that are shown."""
MAX_ECHO: Final = 256 * 1024
"""Bytes of a table that the page gives back, so that it is tried and then posted; a larger one is chosen again."""
_RECIPIENT: Final = re.compile(r"recipients\[(\d{1,9})\](\.?)")
"""What the API calls a recipient, and whether a field of it follows."""


async def show(it: ConsoleRequest) -> web.Response:
    """The form."""
    it.require(Permission.SEND)
    return await _page(it)


async def _page(it: ConsoleRequest, *, status: int = 200, **values: object) -> web.Response:
    senders = [each.email for each in it.senders(it.services.stats())]
    given: dict[str, object] = {"trouble": "", "faults": [], "tried": None, "form": {}}
    shared = {"active": "send", "names": await it.services.library.all_names(), "senders": senders, "live": False}
    return it.page("send.html", status=status, **(shared | given | values))


async def post(it: ConsoleRequest) -> web.Response:
    """Try the table, or post it."""
    it.require(Permission.SEND)
    shares, length = it.services.shares, it.http.content_length
    is_large = length is None or length > LARGE_BODY
    async with shares.posts.place(it.key), shares.large_bodies.place(it.key) if is_large else nullcontext():
        form = await read_form(it.http, most=MAX_TABLE, large=("table", "pasted"))
        kept = form.texts()
        table = form.content("table") or form.content("pasted")
        del form
        kept |= _echo(table)
        dry = kept.get("action") != "post"
        try:
            job = await _job(it, kept, table, dry_run=dry)
        except SpreadsheetError as error:
            return await _page(it, status=422, form=kept, trouble=str(error))
        except RendererError as error:
            raise cannot_render(error) from error
        del table
        becomes_large = len(job.body) > LARGE_BODY and not is_large
        try:
            async with shares.large_bodies.place(it.key) if becomes_large else nullcontext():
                answer, repeated = await post_job(it, job.body, once=None if dry else job.once)
        except ApiError as error:
            faults = _faults(it, error, job.lines)
            page = await _page(it, status=error.status, form=kept, trouble=str(error), faults=faults)
            page.headers.update(error.headers)
            return page
    if dry:
        return await _page(it, form=kept, tried=answer)
    flash = t("This table was already sent as this job. Nothing was sent again.") if repeated else tn(
        "{accepted:,} of {n:,} message accepted.", "{accepted:,} of {n:,} messages accepted.", answer["total"],
        accepted=answer["accepted"],
    )  # fmt: skip
    return it.back(f"/jobs/{answer['job_id']}", flash)


def _echo(table: bytes) -> dict[str, str]:
    """What the page gives back of a table."""
    if len(table) > MAX_ECHO:
        return {"too_large": "1"}
    try:
        return {"pasted": table.decode("utf-8-sig")}
    except UnicodeDecodeError:  # half of it would be another table
        return {}


async def _job(it: ConsoleRequest, form: dict[str, str], table: bytes, *, dry_run: bool) -> TableJob:
    fields = {
        "sender_email": form.get("sender", ""), "sender_name": form.get("sender_name", ""),
        "template_name": form.get("template", ""), "reference": form.get("reference", ""),
        "list": form.get("list", ""), "on_invalid": "skip" if form.get("skip") else "reject",
    }  # fmt: skip
    named, name = await it.services.library.find(fields["template_name"]), said(t("Table"), it.language)
    sheet = await it.services.spreadsheets.read(table, filename=name, origin=it.actor)
    return await asyncio.to_thread(
        make_job, sheet, {name: value for name, value in fields.items() if value}, dry_run=dry_run,
        name=name, version=named.version if named else "",
        limits=it.services.settings.intake,
    )  # fmt: skip


async def post_job(
    it: ConsoleRequest, body: bytearray, *, once: str | None = None, type_: JobType = JobType.TEMPLATE
) -> tuple[dict[str, Any], bool]:
    """Post a job as the API does, or a test. `once`: its idempotency key. What is answered, and whether it was before.

    Raises:
        ApiError: it was refused.
    """
    try:
        response = await it.services.post(body, it.key, once, type_)
    except RendererError as error:
        raise cannot_render(error) from error
    return json.loads(response.text or "{}"), "Idempotency-Replayed" in response.headers


def explain(it: ConsoleRequest, error: ApiError) -> str:
    """Why a job was refused, in one line."""
    details = "; ".join(f"{each.field}: {said(each.message, it.language)}" for each in error.errors[:3])
    return f"{said(str(error), it.language)} {details}"


def _faults(it: ConsoleRequest, error: ApiError, lines: list[int]) -> list[str]:
    """What is wrong, by the lines of the table."""

    def row(found: re.Match[str]) -> str:
        number = int(found[1])
        if number >= len(lines):  # it was quoted from the table
            return found[0]
        return said(t("row {n}", n=lines[number]), it.language) + (", " if found[2] else "")

    return [
        f"{_RECIPIENT.sub(row, each.field[:MAX_FIELD_PATH])}: {_RECIPIENT.sub(row, said(each.message, it.language))}"
        for each in error.errors[:MAX_SHOWN]
    ]
