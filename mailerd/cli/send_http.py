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

from mailerd.cli.output import console
from mailerd.client import AcceptedJob, ApiError, AsyncClient, DryRun, Job, NewJob
from mailerd.client.clients import is_finished
from mailerd.core.quantities import counted
from mailerd.errors import MailerdError
from mailerd.texts import tr

MAX_SHOWN: Final = 20
_POLL_INTERVAL: Final = 1.0
_FIRST_CONTACT: Final = 5.0
"""Seconds within which the first contact is tried again; with `_REACH_TIMEOUT` the command ends within ten."""
_REACH_TIMEOUT: Final = 4.0

_NUMBER: Final = re.compile(r"\d[\d,]*")
"""What differs at each look in why a job waits: the letters that go first, or the minute of the next look."""
_OTHER: Final = re.compile(r"recipients\[(\d{1,9})\]")

Line = Callable[[int], str]
"""Where a recipient stands in the table."""


def faults(message: str, errors: Sequence[tuple[str, str]], line: Line) -> Iterator[str]:
    """What is wrong, field by field; a recipient is named by its line."""
    yield tr(message)
    for field, why in errors[:MAX_SHOWN]:
        it = _OTHER.match(field)
        named = line(int(it[1])) + field[it.end() :].replace(".", ", ", 1) if it else field
        yield f"  {named}: {_by_line(tr(why), line)}"
    if len(errors) > MAX_SHOWN:
        yield tr(f"  and {len(errors) - MAX_SHOWN:,} more")


def unsent(line: Line, index: int, email: str, reason: str, *, refused: bool) -> str:
    """Why a recipient gets no letter: it is left out, or, where all are `refused` for it, it is bad."""
    where, reason = line(index), _by_line(tr(reason), line)
    return tr(f"bad: {where}: {email}: {reason}") if refused else tr(f"left out: {where}: {email}: {reason}")


def _by_line(text: str, line: Line) -> str:
    """A text in which another recipient is named by its line; one that is none was quoted from the table."""

    def named(found: re.Match[str]) -> str:
        try:
            return line(int(found[1]))
        except IndexError:
            return found[0]

    return _OTHER.sub(named, text)


async def send_over_http(
    fields: dict[str, Any], *, url: str, key: str | None, line: Line, again: bool, wait: bool
) -> bool:
    """Post a table's job, once, and stay until it has ended; whether all of its letters went well, or could go.

    Raises:
        MailerdError: the key is missing, the job was posted before, or it is refused.
    """
    if not key:
        raise MailerdError("--url needs a key: export MAILERD_API_KEY=…; `mailerd keys create` prints one")
    job = cast("NewJob", {name: value for name, value in fields.items() if value is not None and name != "dry_run"})
    try:
        client = AsyncClient(url, key=key)
    except ValueError as error:
        raise MailerdError(str(error)) from None
    async with client:
        try:
            await _reach(url)
            if fields["dry_run"]:
                return await _dry_run(client, job, line)
            return await _post(client, job, line, again=again, wait=wait)
        except ApiError as error:
            said = f"{tr(error.message)} ({error.status} {error.code})"
            errors = [(each["field"], each["message"]) for each in error.details]
            raise MailerdError("\n".join(faults(said, errors, line))) from None


async def _reach(url: str) -> None:
    """Find a server at the address, before a client that has patience is given the job; whatever it answers will do.

    Raises:
        MailerdError: none answers.
    """
    until, wait = time.monotonic() + _FIRST_CONTACT, 1.0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_REACH_TIMEOUT), trust_env=True) as session:
        while True:
            try:
                # It waits for nothing, neither for a place of the key's nor for the database.
                async with session.get(f"{url.rstrip('/')}/health/live", allow_redirects=False):
                    return
            except (aiohttp.ClientError, OSError) as error:
                cause = str(error) or tr(f"no answer within {_REACH_TIMEOUT:g} s")
                if time.monotonic() + wait > until:
                    raise MailerdError(
                        f"no daemon answers at {url} ({cause}), and nothing was posted: start `mailerd run` there, or "
                        "correct --url"
                    ) from error
                print(tr(f"no answer from {url} ({cause}); the next try is in {wait:g} s"), file=sys.stderr)
                await asyncio.sleep(wait)
                wait *= 2


async def _post(client: AsyncClient, job: NewJob, line: Line, *, again: bool, wait: bool) -> bool:
    posted = await client.create_job(job, idempotency_key=None if again else await _once(client, job))
    id_ = posted["job_id"]
    if posted["replayed"] and posted["repeated"]:
        print(tr(f"job {id_} is there: posted by this command, of which an answer was lost, or by the same one before"))
    elif posted["replayed"]:
        raise MailerdError(
            f"this very job was posted before as {id_}, and nothing was posted now; --again posts it once more"
        )
    _print_unsent(posted, line, refused=False)
    print(tr(f"job {id_}: {counted(posted['accepted'], 'letter')} from {job['sender_email']}, due {posted['send_at']}"))
    if not wait:
        return posted["accepted"] > 0
    try:
        ended = await _watch(client, id_)
    except ApiError as error:
        if error.status != HTTPStatus.FORBIDDEN:
            raise
        print(tr("This key may not see what becomes of the job: that needs the permission read."))
        return posted["accepted"] > 0
    print(
        tr(f"job {id_}: {ended['status']}, {', '.join(f'{n:,} {state}' for state, n in ended['counts'].items() if n)}")
    )
    return posted["accepted"] > 0 and not ended["counts"].get("failed")


def _print_unsent(answer: AcceptedJob | DryRun, line: Line, *, refused: bool) -> None:
    """Print who gets no letter and why, and the warnings."""
    for each in answer["rejected"]:
        print(unsent(line, each["index"], each["email"], each["reason"], refused=refused))
    for each in answer["suppressed"]:
        print(tr(f"gets no letter: {each['email']}: {each['reason']}"))
    for warning in answer["warnings"]:
        print(tr(f"warning: {warning}"))


async def _once(client: AsyncClient, job: NewJob) -> str:
    """What makes this very job one that is posted once, with this version of its template."""
    try:
        found = (await client.templates())["templates"]
    except ApiError as error:
        if error.status == HTTPStatus.TOO_MANY_REQUESTS or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise  # it passes: without the version the same command would be another job at its next call
        found = []  # a key that may only post cannot see the version
    version = next((each["version"] for each in found if each["name"] == job["template_name"]), "")
    raw = json.dumps(job, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return f"send-{hashlib.sha256(raw + version.encode()).hexdigest()}"


async def _watch(client: AsyncClient, id_: str) -> Job:
    said = ""
    with Progress(console=console(), disable=not sys.stdout.isatty()) as progress:
        bar = progress.add_task(id_)
        while True:
            job = await client.get_job(id_)
            progress.update(bar, total=job["total"], completed=round(job["progress"] * job["total"]))
            if is_finished(job):
                return job
            why = job["cause_of_wait"] or ""
            if (kind := _NUMBER.sub("", why)) != said:
                said = kind
                if why or job["status"] != "cancelled":  # of such a one only what is in flight ends
                    progress.console.print(tr(f"It waits: {why}.") if why else tr("It goes on."), soft_wrap=True)
            await asyncio.sleep(_POLL_INTERVAL)


async def _dry_run(client: AsyncClient, job: NewJob, line: Line) -> bool:
    found = await client.dry_run(job)
    _print_unsent(found, line, refused=found["post_refused"])
    for sample in found["samples"][:1]:
        print(f"To: {sample['email']}\nSubject: {sample['subject']}\n\n{sample['text']}\n")
    good = 0 if found["post_refused"] else found["accepted"]
    print(tr(f"{counted(good, 'letter')} of {found['total']:,} can be sent; nothing was stored"))
    return good > 0
