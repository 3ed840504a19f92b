"""A table that is dropped on the page becomes a job: the same checks and the same once-only rule as `mailerd send`."""

import hashlib
import io
import json
import re
from typing import Any, Final

from aiohttp import web

from mailerd.mail.recipient_table import RecipientTable, TableError, read_table
from mailerd.store.api_keys import Permission
from mailerd.texts import in_chinese
from mailerd.web.forms import MAX_TABLE, read_form
from mailerd.web.services import ConsoleRequest, Posted

MAX_SHOWN: Final = 20
"""Faults of a table that are shown."""
_OK: Final = 200
_RECIPIENT: Final = re.compile(r"recipients\[(\d+)\]")
"""What the API calls a recipient."""


async def show(it: ConsoleRequest) -> web.Response:
    """The form."""
    it.require(Permission.SEND)
    return _page(it)


def _page(it: ConsoleRequest, *, status: int = 200, **values: object) -> web.Response:
    stats = it.services.stats()
    senders = [each.email for each in stats.senders if it.key.may_send(each.email)] if stats else []
    given: dict[str, object] = {"trouble": "", "faults": [], "tried": None, "form": {}}
    shared = {"active": "send", "names": it.services.library.names(), "senders": senders, "live": False}
    return it.page("send.html", status=status, **(shared | given | values))


async def post(it: ConsoleRequest) -> web.Response:
    """Try the table, or post it."""
    it.require(Permission.SEND)
    form = await read_form(it.http, most=MAX_TABLE)
    kept = form.texts()
    upload = form.get("table")
    try:
        text = upload.decode("utf-8-sig") if isinstance(upload, bytes) and upload else kept.get("pasted", "")
        table = read_table(io.StringIO(text, newline=""), it.t("Table"))
    except UnicodeDecodeError:
        return _page(it, status=422, form=kept, trouble=it.t("The table is not UTF-8: save it as CSV UTF-8."))
    except TableError as error:
        return _page(it, status=422, form=kept, trouble=str(error))
    job = _job(kept, table)
    dry = kept.get("action") == "try"
    posted = await post_job(it, job | {"dry_run": dry}, once="" if dry else _once(it, job))
    if posted.job_id is not None:
        said = it.t("This very table was posted before, as this job; nothing was posted now.") if posted.repeated else (
            it.t("Accepted: {accepted} of {total} letters.", accepted=posted.answer["accepted"],
                 total=posted.answer["total"])
        )  # fmt: skip
        return it.back(f"/jobs/{posted.job_id}", said)
    if "error" in posted.answer:
        faults = _faults(it, posted.answer["error"], table)
        return _page(it, status=422, form=kept | {"pasted": text}, trouble=posted.answer["error"]["message"],
                     faults=faults)  # fmt: skip
    return _page(it, form=kept | {"pasted": text}, tried=posted.answer)


def _job(form: dict[str, str], table: RecipientTable) -> dict[str, Any]:
    fields = {
        "sender_email": form.get("sender", "").strip(), "sender_name": form.get("sender_name", "").strip(),
        "template_name": form.get("template", ""), "reference": form.get("reference", "").strip(),
        "list": form.get("list", "").strip(), "on_invalid": "skip" if form.get("skip") else "reject",
    }  # fmt: skip
    return {name: value for name, value in fields.items() if value} | {"recipients": table.recipients}


def _once(it: ConsoleRequest, job: dict[str, Any]) -> str:
    """What makes this very job one that is posted once, with this version of the template."""
    named = it.services.library.find(str(job.get("template_name", "")))
    raw = json.dumps(job, ensure_ascii=False, sort_keys=True).encode() + (named.version if named else "").encode()
    return f"console-{hashlib.sha256(raw).hexdigest()}"


async def post_job(it: ConsoleRequest, job: dict[str, Any], *, once: str) -> Posted:
    """Post a job by the same way as the API; `once`: its idempotency key."""
    response = await it.services.intake.post(json.dumps(job, ensure_ascii=False).encode(), it.key, once)
    answer = json.loads(response.text or "{}")
    posted = response.status == _OK and not job.get("dry_run")
    return Posted(answer["job_id"] if posted else None, "Idempotency-Replayed" in response.headers, answer)


def explain_answer(it: ConsoleRequest, answer: dict[str, Any]) -> str:
    """Why a job was refused, in one line."""
    error = answer.get("error", {})
    details = "; ".join(f"{each['field']}: {each['message']}" for each in error.get("details", [])[:3])
    return f"{error.get('message', it.t('It was refused.'))} {details}"


def _faults(it: ConsoleRequest, error: dict[str, Any], table: RecipientTable) -> list[str]:
    """What is wrong, by the lines of the table."""

    def line(found: re.Match[str]) -> str:
        return it.t("line {n}", n=table.lines[int(found[1])])

    say = in_chinese if it.language == "zh" else str
    return [
        f"{_RECIPIENT.sub(line, each['field'])}: {_RECIPIENT.sub(line, say(each['message']))}"
        for each in error.get("details", [])[:MAX_SHOWN]
    ]
