"""`mailerd send --url`: the table goes to the API of a daemon, which may run on another machine."""

import asyncio
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final, cast

import aiohttp
from rich.progress import Progress

from mailerd.cli.output import echo
from mailerd.cli.tables import console
from mailerd.client import AcceptedJob, ApiError, AsyncClient, DryRun, Job, NewJob, is_finished
from mailerd.core.i18n import Text, joined, t, tn
from mailerd.core.quantities import in_words
from mailerd.errors import MailerdError
from mailerd.locale import label, language, say

MAX_SHOWN: Final = 20
_POLL_INTERVAL: Final = 1.0
_FIRST_CONTACT: Final = 5.0
"""Seconds within which the first contact is tried again; with `_REACH_TIMEOUT` the command ends
within ten.
"""
_REACH_TIMEOUT: Final = 4.0

_NUMBER: Final = re.compile(r"\d[\d,]*")
"""What differs at each look in why a job waits: the messages that go first, or the minute of the
next look.
"""
_OTHER: Final = re.compile(r"recipients\[(\d{1,9})\]")

Line = Callable[[int], str]
"""Where a recipient is in the table."""


OPTIONS: Final = {
    "sender_email": "--sender",
    "sender_name": "--sender-name",
    "reply_to": "--reply-to",
    "template_name": "--template",
    "variables": "--variables",
    "send_at": "--send-at",
    "priority": "--priority",
    "reference": "--reference",
    "tags": "--tag",
    "list": "--list",
}
"""The fields of a job, as who typed the command calls them."""


def faults(message: str, errors: Sequence[tuple[str, str]], line: Line) -> Iterator[str]:
    """What is wrong, field by field: a recipient is named by its row, another field by its
    option.
    """
    yield message
    for field, why in errors[:MAX_SHOWN]:
        if it := _OTHER.match(field):
            named = line(int(it[1]))
            if of_it := field[it.end() :].removeprefix("."):
                named = joined([named, of_it.removeprefix("variables.")], ", ")
        else:
            first, dot, rest = field.partition(".")
            named = f"{OPTIONS.get(first.partition('[')[0], first)}{dot}{rest}"
        yield t("  {field}: {why}", field=named, why=_by_line(why, line))
    if len(errors) > MAX_SHOWN:
        yield t("  and {n:,} more", n=len(errors) - MAX_SHOWN)


def unsent(line: Line, index: int, email: str, reason: str, *, refused: bool) -> Text:
    """Why a recipient gets no message: its row is skipped, or, where all are `refused` for it, it
    is not valid.
    """
    where, why = line(index), _by_line(reason, line)
    if refused:
        return t("not valid: {where}: {to}: {why}", where=where, to=email, why=why)
    return t("skipped: {where}: {to}: {why}", where=where, to=email, why=why)


def posted(job: str, messages: int, *, sender: str, due: str) -> Text:
    """What was posted."""
    return tn(
        "job {job}: {n:,} message from {sender}, due {due}",
        "job {job}: {n:,} messages from {sender}, due {due}",
        messages,
        job=job,
        sender=sender,
        due=due,
    )


def print_message(to: str, subject: str, text: str) -> None:
    """Show one message as its recipient would get it."""
    echo(t("To: {to}", to=to))
    echo(t("Subject: {subject}", subject=subject))
    echo(f"\n{text}\n")


def _by_line(text: str, line: Line) -> str:
    """A text in which another recipient is named by its row; one that is none was quoted from the
    table.
    """

    def named(found: re.Match[str]) -> str:
        try:
            return say(line(int(found[1])))
        except IndexError:
            return found[0]

    return _OTHER.sub(named, text) if _OTHER.search(text) else text


async def send_over_http(
    fields: dict[str, Any], *, url: str, key: str | None, line: Line, again: bool, wait: bool
) -> bool:
    """Post a table's job, once, and stay until it has ended; whether all of its messages went well,
    or could go.

    Raises:
        MailerdError: the key is missing, the job was posted before, or it is refused.
    """
    if not key:
        raise MailerdError(
            t(
                "--url requires an API key: export MAILERD_API_KEY=…; `mailerd keys create` creates one"
            )
        )
    job = cast(
        "NewJob",
        {name: value for name, value in fields.items() if value is not None and name != "dry_run"},
    )
    try:
        client = AsyncClient(url, key=key, language=language())
    except ValueError as error:
        raise MailerdError(str(error)) from None
    async with client:
        try:
            await _reach(url)
            if fields["dry_run"]:
                return await _dry_run(client, job, line)
            return await _post(client, job, line, again=again, wait=wait)
        except ApiError as error:
            said = t(
                "{error} ({status} {code})",
                error=error.message,
                status=error.status,
                code=error.code,
            )
            errors = [(each["field"], each["message"]) for each in error.details]
            raise MailerdError(joined(list(faults(said, errors, line)), "\n")) from None


async def _reach(url: str) -> None:
    """Find a server at the address, before a client that has patience is given the job; whatever it
    answers will do.

    Raises:
        MailerdError: none answers.
    """
    until, wait = time.monotonic() + _FIRST_CONTACT, 1.0
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=_REACH_TIMEOUT), trust_env=True
    ) as session:
        while True:
            try:
                # It waits for nothing, neither for a place of the key's nor for the database.
                async with session.get(f"{url.rstrip('/')}/health/live", allow_redirects=False):
                    return
            except (aiohttp.ClientError, OSError) as error:
                cause = str(error) or t("no response within {span}", span=in_words(_REACH_TIMEOUT))
                if time.monotonic() + wait > until:
                    raise MailerdError(
                        t(
                            "no daemon is responding at {url} ({cause}); nothing was posted. Start `mailerd run` "
                            "there, or correct --url",
                            url=url,
                            cause=cause,
                        )
                    ) from error
                echo(
                    t(
                        "no response from {url} ({cause}); retrying in {span}",
                        url=url,
                        cause=cause,
                        span=in_words(wait),
                    ),
                    err=True,
                )
                await asyncio.sleep(wait)
                wait *= 2


async def _post(client: AsyncClient, job: NewJob, line: Line, *, again: bool, wait: bool) -> bool:
    answer = await client.create_job(
        job, idempotency_key=None if again else await _once(client, job)
    )
    id_ = answer["job_id"]
    if answer["replayed"] and answer["repeated"]:
        echo(
            t(
                "job {id} already exists: posted by this command (its response was lost) or by an earlier one",
                id=id_,
            )
        )
    elif answer["replayed"]:
        raise MailerdError(
            t(
                "this job was already posted as {id}; nothing was sent. To send it again: --again",
                id=id_,
            )
        )
    _print_unsent(answer, line, refused=False)
    echo(posted(id_, answer["accepted"], sender=job["sender_email"], due=str(answer["send_at"])))
    if not wait:
        return answer["accepted"] > 0
    try:
        ended = await _watch(client, id_)
    except ApiError as error:
        if error.status != HTTPStatus.FORBIDDEN:
            raise
        echo(
            t(
                "This API key cannot show the progress of the job: that requires the permission `read`."
            )
        )
        return answer["accepted"] > 0
    counts = [
        t("{n:,} {state}", n=n, state=label(state)) for state, n in ended["counts"].items() if n
    ]
    echo(
        t(
            "job {id}: {status}, {counts}",
            id=id_,
            status=label(ended["status"]),
            counts=joined(counts, ", "),
        )
    )
    return answer["accepted"] > 0 and not ended["counts"].get("failed")


def _print_unsent(answer: AcceptedJob | DryRun, line: Line, *, refused: bool) -> None:
    """Print who gets no message and why, and the warnings."""
    for each in answer["rejected"]:
        echo(unsent(line, each["index"], each["email"], each["reason"], refused=refused))
    for each in answer["suppressed"]:
        echo(t("not sent: {to}: {reason}", to=each["email"], reason=each["reason"]))
    for warning in answer["warnings"]:
        echo(t("warning: {warning}", warning=warning))


async def _once(client: AsyncClient, job: NewJob) -> str:
    """What makes this very job one that is posted once, with this version of its template."""
    try:
        found = (await client.templates())["templates"]
    except ApiError as error:
        if (
            error.status == HTTPStatus.TOO_MANY_REQUESTS
            or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        ):
            # it passes: without the version the same command would be another job at its next call
            raise
        found = []  # a key that may only post cannot see the version
    version = next((each["version"] for each in found if each["name"] == job["template_name"]), "")
    raw = json.dumps(job, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return f"send-{hashlib.sha256(raw + version.encode()).hexdigest()}"


async def _watch(client: AsyncClient, id_: str) -> Job:
    said = ""
    with Progress(console=console(), disable=not sys.stdout.isatty()) as progress:
        bar = progress.add_task(id_, total=None)
        while True:
            job = await client.job(id_)
            progress.update(
                bar, total=job["total"], completed=round(job["progress"] * job["total"])
            )
            if is_finished(job):
                return job
            why = job["cause_of_wait"] or ""
            if (kind := _NUMBER.sub("", why)) != said:
                said = kind
                if why or job["status"] != "cancelled":  # of such a one only what is in flight ends
                    text = t("Waiting: {why}.", why=why) if why else t("Sending continues.")
                    progress.console.print(say(text), soft_wrap=True)
            await asyncio.sleep(_POLL_INTERVAL)


async def _dry_run(client: AsyncClient, job: NewJob, line: Line) -> bool:
    found = await client.dry_run(job)
    _print_unsent(found, line, refused=found["post_refused"])
    for sample in found["samples"][:1]:
        print_message(sample["email"], sample["subject"], sample["text"])
    if found["post_refused"]:
        print_refusal(found["rejected_total"], found["total"])
        return False
    echo(
        t(
            "{n:,} of {total:,} messages can be sent. Nothing was stored.",
            n=found["accepted"],
            total=found["total"],
        )
    )
    return found["accepted"] > 0


def print_refusal(rejected: int, total: int) -> None:
    """Print that a post of the table would be refused, and what to do."""
    echo(
        tn(
            "The job would be rejected: {n:,} of {total:,} rows is not valid. Nothing was stored.",
            "The job would be rejected: {n:,} of {total:,} rows are not valid. Nothing was stored.",
            rejected,
            total=total,
        )
    )
    echo(
        t("Fix these rows, or skip them with --skip-invalid.")
        if rejected < total
        else t("Fix these rows.")
    )
