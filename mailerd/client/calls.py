"""What both clients share: the requests, when one is made again, and what an answer means; nothing here sends."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, cast, override
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

from mailerd import __version__
from mailerd.client.answers import (
    AcceptedJob,
    BounceKind,
    DryRun,
    EventsPage,
    Job,
    JobActionResult,
    NewJob,
    RecipientsPage,
    RetryOnly,
    Templates,
)
from mailerd.errors import MailerdError

FIRST_WAIT: Final = 0.5
"""Seconds before the first repetition, where the answer does not say; each further one waits twice as long."""
LONGEST_WAIT: Final = 10.0
_PASSING: Final = frozenset({429, 502, 503, 504})
"""Too fast, or the database is away, or the daemon behind its proxy."""
_POST: Final = "/api/jobs/send_template_emails"
_OPEN: Final = ("waiting", "sending", "unsure")
_PAGE: Final = 1000


class ClientError(MailerdError):
    """A call that failed."""

    def __init__(self, message: str, *, retry: bool, retry_after: float | None, idempotency_key: str) -> None:
        super().__init__(message)
        self.message = message
        self.retry = retry
        """Whether the same call may succeed later."""
        self.retry_after = retry_after
        """Seconds to wait before that, where the answer said so."""
        self.idempotency_key = idempotency_key
        """The key of a post: a client that posts the same job with it again makes no second one."""


class NoAnswerError(ClientError):
    """No answer came, so it is not known whether the call was carried out. To make it again does no harm."""


class ApiError(ClientError):
    """The API has refused a call; docs/api.md lists the codes."""

    def __init__(
        self, status: int, failure: Mapping[str, Any], *, retry_after: float | None, idempotency_key: str
    ) -> None:
        message, retry = str(failure.get("message", "")), status in _PASSING
        super().__init__(message, retry=retry, retry_after=retry_after, idempotency_key=idempotency_key)
        self.status = status
        self.code = str(failure.get("code", f"http_{status}"))
        self.details: list[dict[str, str]] = failure.get("details", [])
        """Each a `field` of the request and a `message`."""
        self.request_id = str(failure.get("request_id", ""))
        """What mailerd's log calls the request, where the status is 5xx."""

    @override
    def __str__(self) -> str:
        faults = "".join(f"\n  {each['field']}: {each['message']}" for each in self.details)
        return f"{self.status} {self.code}: {self.message}{faults}"


@dataclass(frozen=True)
class Call[T]:
    """One request; T is what its answer is."""

    method: str
    path: str
    body: bytes | None = None
    idempotency_key: str = ""


@dataclass(frozen=True)
class Answer:
    """What came back; `retry_after` and `replayed` are the headers, empty where there are none."""

    status: int
    body: bytes
    retry_after: str
    replayed: str


@dataclass(frozen=True)
class Connection:
    """Where the API is, and what each request says of itself."""

    url: str
    key: str

    def __post_init__(self) -> None:
        """Raise ValueError where no request could be made."""
        if urlsplit(self.url).scheme not in {"http", "https"} or not urlsplit(self.url).hostname:
            raise ValueError(f"{self.url!r} is no address of mailerd; it must be such as http://127.0.0.1:5000")
        if not self.key or not self.key.isascii() or not self.key.isprintable():
            raise ValueError("the API key is missing, or is none: `mailerd keys create` prints one")

    def address(self, call: Call[Any]) -> str:
        """The whole address of a call."""
        return self.url.rstrip("/") + call.path

    def headers(self, call: Call[Any]) -> dict[str, str]:
        """The headers of a call."""
        made = {"X-API-Key": self.key, "User-Agent": f"mailerd-client/{__version__}", "Accept": "application/json"}
        if call.body is not None:
            made["Content-Type"] = "application/json"
        if call.idempotency_key:
            made["Idempotency-Key"] = call.idempotency_key
        return made


class Attempts:
    """When a call is made again. `patience`: seconds from the first attempt to the beginning of the last one."""

    def __init__(self, patience: float) -> None:
        self._until = time.monotonic() + patience
        self._next = FIRST_WAIT
        self.failed = 0
        """How many attempts have failed."""

    def wait_after(self, error: ClientError) -> float:
        """Seconds until the next attempt; raises the error itself when there is none."""
        self.failed += 1
        # A proxy may say 0, with which a call would be made a thousand times a second.
        wait = self._next if error.retry_after is None else max(error.retry_after, FIRST_WAIT)
        self._next = min(2 * self._next, LONGEST_WAIT)
        if not error.retry or time.monotonic() + wait > self._until:
            raise error
        return wait


def create_job(job: NewJob, idempotency_key: str | None) -> Call[AcceptedJob]:
    """A post. Each attempt has the same bytes and the same key, so that the job is stored once."""
    return Call("POST", _POST, _json(job), idempotency_key or str(uuid4()))


def dry_run(job: NewJob) -> Call[DryRun]:
    """What a post would be answered."""
    return Call("POST", f"{_POST}/dry_run", _json(job))


def get_job(job_id: str) -> Call[Job]:
    """One job."""
    return _get(_job(job_id))


def recipients(job_id: str, status: str | None, cursor: str) -> Call[RecipientsPage]:
    """A page of a job's recipients."""
    return _get(f"{_job(job_id)}/recipients", status=status, cursor=cursor, limit=_PAGE)


def templates() -> Call[Templates]:
    """The named templates."""
    return _get("/api/templates")


def events(after: int, types: Sequence[str]) -> Call[EventsPage]:
    """A page of the feed."""
    return _get("/api/events", after=after, types=",".join(types), limit=_PAGE)


def change(job_id: str, action: str, **fields: object) -> Call[JobActionResult]:
    """A change of a job."""
    return Call("POST", f"{_job(job_id)}/{action}", _json(fields))


def retry(job_id: str, only: RetryOnly, kind: BounceKind | None) -> Call[JobActionResult]:
    """Letters of a job are tried anew, looked for, or sent again."""
    return change(job_id, "retry", **({"only": only} if kind is None else {"only": only, "kind": kind}))


def is_finished(job: Job) -> bool:
    """Whether nothing of a job is open any more."""
    return job["finished_at"] is not None and not any(job["counts"].get(state) for state in _OPEN)


def no_answer(call: Call[Any], error: object) -> NoAnswerError:
    """The error of a call that broke, or was not answered in time."""
    text = f"{call.method} {call.path} got no answer: {str(error) or type(error).__name__}"
    return NoAnswerError(text, retry=True, retry_after=None, idempotency_key=call.idempotency_key)


def result[T](call: Call[T], answer: Answer, *, repeated: bool = False) -> T:
    """What an answer says, as JSON; `repeated`: it is not the first attempt's.

    Raises:
        ApiError: it is no success.
    """
    found: Any
    try:
        found = json.loads(answer.body)
    except ValueError:  # something between us and mailerd has answered
        found = None
    if answer.status == HTTPStatus.OK and isinstance(found, dict):
        if call.idempotency_key:
            found |= {"replayed": bool(answer.replayed), "repeated": repeated}
        return cast("T", found)
    failure = found.get("error") if isinstance(found, dict) else None
    if not isinstance(failure, dict):
        failure = {"message": f"{call.method} {call.path} was answered with {answer.status}, and not by mailerd"}
    seconds = float(answer.retry_after) if answer.retry_after.isdecimal() else None
    raise ApiError(answer.status, failure, retry_after=seconds, idempotency_key=call.idempotency_key)


def _job(job_id: str) -> str:
    return f"/api/jobs/{quote(job_id, safe='')}"


def _get(path: str, **query: str | int | None) -> Call[Any]:
    given = urlencode({name: value for name, value in query.items() if value not in {None, ""}})
    return Call("GET", f"{path}?{given}" if given else path)


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_moment)
    return text.encode("utf-8", "backslashreplace")  # half a surrogate pair as JSON writes it: the API names its field


def _moment(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"JSON has no {type(value).__name__}")
