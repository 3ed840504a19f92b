"""A job that the console posts as the API does, and what the API says of it, by the rows of its
table.
"""

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

from mailerd.core.i18n import t
from mailerd.core.states import JobType
from mailerd.http.auth import LARGE_BODY
from mailerd.http.errors import MAX_FIELD_PATH, ApiError
from mailerd.http.responses import cannot_render
from mailerd.mail.cage import Blob
from mailerd.mail.templates import RendererError
from mailerd.store.read.earlier_jobs import EarlierJobs
from mailerd.web.frame.html import said
from mailerd.web.frame.services import TIMEOUT, ConsoleRequest

_STEP: Final = 3 * 64 * 1024
"""Bytes, or characters, that are encoded in one step; base64 goes by threes."""
LARGE_FORM: Final = 128 * 1024
"""Bytes above which a form with a table or files takes one of the key's places for large bodies
before it is read.
"""
MAX_SHOWN: Final = 20
"""Faults of a job that are shown."""
_RECIPIENT: Final = re.compile(r"recipients\[(\d{1,9})\](\.?)")
"""What the API calls a recipient, and whether a field of it follows."""


Attached = tuple[Mapping[str, str], bytes]
"""An attachment: its fields as the API has them, but for its content; and that."""


@dataclass(frozen=True)
class PostedJob:
    """A job that is posted: what is large of it is bytes already, and becomes no values here."""

    fields: Mapping[str, Any]
    """All but recipients and attachments."""
    recipients: Blob | memoryview
    """As JSON."""
    pictures: Sequence[Attached] = ()
    files: list[Attached] = field(default_factory=list)
    """Other attachments; each is let go as it is encoded."""
    test_to: str | None = None
    """Where a test of the job goes; None: it is no test."""

    def body(self) -> bytearray:
        """It as the API takes it.

        It is made in a thread, step by step: none of them holds up others.
        """
        body = bytearray(b"" if self.test_to is None else b'{"job":')
        body += _json(self.fields)[:-1] + (b"," if self.fields else b"") + b'"recipients":'
        for start in range(0, len(self.recipients), _STEP):
            body += self.recipients[start : start + _STEP]
        if self.pictures or self.files:
            body += b',"attachments":['
            for each in self.pictures:
                _attach(body, each)
            while self.files:
                _attach(body, self.files.pop(0))
            body[-1:] = b"]"
        body += b"}"
        if self.test_to is not None:
            body += b',"to":' + _json([self.test_to]) + b"}"
        return body


def _attach(body: bytearray, it: Attached) -> None:
    """Write an attachment, and a comma."""
    fields, content = it
    body += _json(fields)[:-1] + b',"content":"'
    for start in range(0, len(content), _STEP):
        body += b64encode(content[start : start + _STEP])
    body += b'"},'


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def job_fields(message: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """The job of a draft without its recipients and attachments.

    `written`: its template, or the name of one.
    """
    fields = {
        "sender_email": message.get("sender", ""),
        "sender_name": message.get("sender_name", ""),
        "reply_to": message.get("reply_to", ""),
        "list": message.get("list", ""),
        "reference": message.get("reference", ""),
    }
    return {name: value for name, value in fields.items() if value} | {**written}


async def template_of(it: ConsoleRequest, job: str) -> dict[str, str] | None:
    """The template of an earlier job, as the API takes it; None: there is none that the key may
    see.
    """
    seen = await it.services.jobs.seen_by(it.key, job)
    written = await EarlierJobs(it.services.database, TIMEOUT).read(job) if seen else None
    if written is None:
        return None
    return {"subject": written.subject} | {
        name: part for name, part in (("html", written.html), ("text", written.text)) if part
    }


async def post_job(
    it: ConsoleRequest,
    body: bytearray,
    *,
    once: str | None = None,
    type_: JobType = JobType.TEMPLATE,
) -> tuple[dict[str, Any], bool]:
    """Post a job as the API does, or a test. `once`: its idempotency key.

    What is answered, and whether it was before.

    Raises:
        ApiError: it was refused.
    """
    try:
        response = await it.services.post(body, it.key, once, type_)
    except RendererError as error:
        raise cannot_render(error) from error
    return json.loads(response.text or "{}"), "Idempotency-Replayed" in response.headers


async def post_table(
    it: ConsoleRequest,
    job: PostedJob,
    *,
    once: str | None = None,
    type_: JobType = JobType.TEMPLATE,
    has_place: bool = False,
) -> dict[str, Any]:
    """Post a job that may be large, or a test of it, in the key's places for such, unless the
    caller has one.

    What the API answers.

    Raises:
        ApiError: it was refused.
    """
    body, shares = await asyncio.to_thread(job.body), it.services.shares
    if len(body) > it.services.settings.intake.max_body:
        raise job_too_large(it)
    needs_place = len(body) > LARGE_BODY and not has_place
    async with shares.large_bodies.place(it.key) if needs_place else nullcontext():
        return (await post_job(it, body, once=once, type_=type_))[0]


def job_too_large(it: ConsoleRequest) -> ApiError:
    """Why a job is not posted that is larger than one may be."""
    why = t(
        "The job is larger than {most:,} bytes, the limit of intake.max_body. Split the table, or attach less.",
        most=it.services.settings.intake.max_body,
    )
    return ApiError(413, "too_large", why)


def is_large(it: ConsoleRequest) -> bool:
    """Whether what is sent may be large: it is read in a place for such."""
    return it.http.content_length is None or it.http.content_length > LARGE_FORM


@asynccontextmanager
async def upload_place(it: ConsoleRequest) -> AsyncIterator[None]:
    """The key's places for a form with a file, before it is read."""
    shares = it.services.shares
    async with (
        shares.posts.place(it.key),
        shares.large_bodies.place(it.key) if is_large(it) else nullcontext(),
    ):
        yield


def explain(it: ConsoleRequest, error: ApiError) -> str:
    """Why a job was refused, in one line."""
    details = "; ".join(
        f"{each.field}: {said(each.message, it.language)}" for each in error.errors[:3]
    )
    return f"{said(str(error), it.language)} {details}"


def faults_of(it: ConsoleRequest, error: ApiError, rows: Sequence[int]) -> list[str]:
    """What is wrong, by the rows of the table."""

    def row(found: re.Match[str]) -> str:
        number = int(found[1])
        if number >= len(rows):  # it was quoted from the table
            return found[0]
        return said(t("row {n}", n=rows[number]), it.language) + (", " if found[2] else "")

    return [
        f"{_RECIPIENT.sub(row, each.field[:MAX_FIELD_PATH])}: {_RECIPIENT.sub(row, said(each.message, it.language))}"
        for each in error.errors[:MAX_SHOWN]
    ]
