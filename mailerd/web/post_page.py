"""A table that is dropped on the page becomes a job: the same checks and the same once-only rule as `mailerd send`."""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from mailerd.mail.recipient_table import TableError
from mailerd.store.api_keys import Permission
from mailerd.web.forms import MAX_TABLE, TableJob, make_job, read_form
from mailerd.web.services import ConsoleRequest, PostBody

MAX_SHOWN: Final = 20
"""Faults of a table that are shown."""
MAX_ECHO: Final = 256 * 1024
"""Bytes of a table that the page gives back, so that it is tried and then posted; a larger one is chosen again."""
_OK: Final = 200
_RECIPIENT: Final = re.compile(r"recipients\[(\d{1,9})\]")
"""What the API calls a recipient."""


@dataclass(frozen=True)
class Posted:
    """What became of a job that was posted from a page."""

    job_id: str | None
    """The job's id; None: it was refused, or only tried."""
    answer: dict[str, Any]
    """What the API says."""
    response: web.Response
    """The answer itself, with its status and its headers."""


async def show(it: ConsoleRequest) -> web.Response:
    """The form."""
    it.require(Permission.SEND)
    return _page(it)


def _page(it: ConsoleRequest, *, status: int = 200, **values: object) -> web.Response:
    senders = [each.email for each in it.senders(it.services.stats())]
    given: dict[str, object] = {"trouble": "", "faults": [], "tried": None, "form": {}}
    shared = {"active": "send", "names": it.services.library.names(), "senders": senders, "live": False}
    return it.page("send.html", status=status, **(shared | given | values))


async def post(it: ConsoleRequest) -> web.Response:
    """Try the table, or post it."""
    it.require(Permission.SEND)
    async with it.services.intake.posting(it.http, it.key) as send:
        form = await read_form(it.http, most=MAX_TABLE, large=("table", "pasted"))
        kept = form.texts()
        table = form.content("table") or form.content("pasted")
        del form
        kept |= _echo(table)
        dry = kept.get("action") != "post"
        try:
            job = await _job(it, kept, table, dry_run=dry)
        except UnicodeDecodeError:
            return _page(it, status=422, form=kept, trouble=it.t("The table is not UTF-8: save it as CSV UTF-8."))
        except TableError as error:
            return _page(it, status=422, form=kept, trouble=str(error))
        del table
        posted = await post_job(send, job.body, once="" if dry else job.once)
    if posted.job_id is not None:
        repeated = "Idempotency-Replayed" in posted.response.headers
        said = it.t("This very table was posted before, as this job; nothing was posted now.") if repeated else (
            it.t("Accepted: {accepted} of {total} letters.", accepted=posted.answer["accepted"],
                 total=posted.answer["total"])
        )  # fmt: skip
        return it.back(f"/jobs/{posted.job_id}", said)
    if "error" in posted.answer:
        faults = _faults(it, posted.answer["error"], job.lines)
        trouble, response = posted.answer["error"]["message"], posted.response
        page = _page(it, status=response.status, form=kept, trouble=trouble, faults=faults)
        if "Retry-After" in response.headers:
            page.headers["Retry-After"] = response.headers["Retry-After"]
        return page
    return _page(it, form=kept, tried=posted.answer)


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
    named = await asyncio.to_thread(it.services.library.find, fields["template_name"])
    return await asyncio.to_thread(
        make_job, table, {name: value for name, value in fields.items() if value}, name=it.t("Table"), dry_run=dry_run,
        version=named.version if named else "", limits=it.services.settings.intake,
    )  # fmt: skip


async def post_job(send: PostBody, body: bytearray, *, once: str) -> Posted:
    """Post a job by the same way as the API; `once`: its idempotency key."""
    response = await send(body, once)
    answer = json.loads(response.text or "{}")
    posted = response.status == _OK and "dry_run" not in answer
    return Posted(answer["job_id"] if posted else None, answer, response)


def explain_answer(it: ConsoleRequest, answer: dict[str, Any]) -> str:
    """Why a job was refused, in one line."""
    error = answer.get("error", {})
    details = "; ".join(f"{each['field']}: {it.say(each['message'])}" for each in error.get("details", [])[:3])
    return f"{it.say(error['message']) if error else it.t('It was refused.')} {details}"


def _faults(it: ConsoleRequest, error: dict[str, Any], lines: list[int]) -> list[str]:
    """What is wrong, by the lines of the table."""

    def line(found: re.Match[str]) -> str:
        number = int(found[1])
        return it.t("line {n}", n=lines[number]) if number < len(lines) else found[0]  # or it was quoted from the table

    return [
        f"{_RECIPIENT.sub(line, each['field'])}: {_RECIPIENT.sub(line, it.say(each['message']))}"
        for each in error.get("details", [])[:MAX_SHOWN]
    ]
