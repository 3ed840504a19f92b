"""Errors of requests: the exception that becomes an answer, and the field errors in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from mailerd.errors import MailerdError
from mailerd.mail.templates import RendererError

MAX_DETAILS: Final = 100
"""Errors that are listed in one answer; the message says how many there are."""
MAX_FIELD_PATH: Final = 300
"""Characters of a field's path in an answer: a name may be as long as a body."""
NOTHING_STORED: Final = "; nothing was stored"
NOTHING_CHANGED: Final = "; nothing was changed"
"""The end of the message where a request would have changed a job."""
MAX_COUNTED: Final = 10_000
"""Errors after which counting stops where nothing needs the rest of them."""
MAX_REASON: Final = 300
"""Characters of any reason: what is wrong may be quoted in it, and that may be as long as a body."""
RETRY_AFTER: Final = 5
"""Seconds, for Retry-After: the time in which a database that restarts is usually back."""


CODES: Final = {
    "bad_request": "the request cannot be read as HTTP has it",
    "busy": "other keys have all places of this kind; again after `Retry-After`",
    "call_not_allowed": "the key may not make this call",
    "conflict": "it does not fit what is there: the job cannot do this any more, or the name is taken",
    "cut_off": "the body broke off",
    "database_away": "the database does not answer; again after `Retry-After`, with the same `Idempotency-Key`",
    "events_deleted": "events behind this id were deleted by age; the message says where to go on",
    "expectation_failed": "the header Expect says something else than 100-continue",
    "idempotency_conflict": "this `Idempotency-Key` was used with another body",
    "internal": "a bug of mailerd; its log tells of `request_id`",
    "invalid_json": "the body is no JSON",
    "invalid_request": "fields or parameters are wrong; `details` names each",
    "method_not_allowed": "the path takes another method; `Allow` names it",
    "not_found": "there is no such thing, or the key may not see it",
    "not_ready": "no job could be stored now; `reason` says why",
    "renderer_unavailable": "templates cannot be rendered now; again after `Retry-After`",
    "sender_not_allowed": "the key may not send from this mailbox",
    "share_used_up": "the key has its share of this daemon under way; again after `Retry-After`",
    "timeout": "the body did not come in time",
    "too_costly": "the template takes too long for so many recipients",
    "too_fast": "the key's rate, or too many bad keys from this address; again after `Retry-After`",
    "too_large": "the body is larger than it may be; one letter that is too large is an `invalid_request`",
    "unauthorized": "the API key is missing, unknown or revoked",
    "unknown_host": "mailerd does not go by the name in `Host`: `web.hosts` has its names",
    "unknown_position": "events that you have seen are lost: the database was restored, or another server took over",
    "unsupported_encoding": "the body is compressed",
}
"""Every `code` of an error, and what it means."""


@dataclass(frozen=True)
class FieldError:
    """One error, with the path of its field in the request: `recipients[3].email`."""

    field: str
    message: str

    def __post_init__(self) -> None:
        """Cut the message at once, so that a million of them take little memory."""
        object.__setattr__(self, "message", cut(self.message))


@dataclass
class FieldErrors:
    """The first hundred errors and the number of all: a body may have one for every few bytes."""

    kept: list[FieldError] = field(default_factory=list)
    total: int = 0

    def add(self, path: Callable[[], str], message: str) -> None:
        """Add one; its path is made only when it is kept."""
        if self.total < MAX_DETAILS:
            self.kept.append(FieldError(path(), message))
        self.total += 1

    def after(self, others: Sequence[FieldError]) -> "FieldErrors":
        """The others and these."""
        return FieldErrors([*others, *self.kept][:MAX_DETAILS], len(others) + self.total)

    @property
    def are_enough(self) -> bool:
        """Whether counting may stop."""
        return self.total > MAX_COUNTED


def cut(reason: str) -> str:
    """A reason's beginning."""
    return reason if len(reason) <= MAX_REASON else reason[: MAX_REASON - 1] + "…"


class ApiError(MailerdError):
    """A request that is answered with an error; its text is the answer's `message`."""

    def __init__(
        self, status: int, code: str, message: str, *, errors: Sequence[FieldError] = (), retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.errors = errors
        self.retry_after = retry_after


def invalid(errors: Sequence[FieldError] | FieldErrors) -> ApiError:
    """The 422 that names every error, or the first hundred of them and the number of all."""
    if not isinstance(errors, FieldErrors):
        errors = FieldErrors().after(errors)
    number = f"more than {MAX_COUNTED:,}" if errors.are_enough else f"{errors.total:,}"
    message = f"{number} problems in the request" if errors.total != 1 else "1 problem in the request"
    if errors.total > MAX_DETAILS:
        message += f", of which the first {MAX_DETAILS} are listed"
        if not errors.are_enough:
            message += f", and {errors.total - MAX_DETAILS:,} more"
    return ApiError(422, "invalid_request", f"{message}; nothing was stored", errors=errors.kept)


def not_found(what: str) -> ApiError:
    """The 404."""
    return ApiError(404, "not_found", what)


def too_large(message: str) -> ApiError:
    """The 413."""
    return ApiError(413, "too_large", f"{message}; nothing was stored")


def away(message: str) -> ApiError:
    """The 503 with Retry-After."""
    return ApiError(503, "database_away", message, retry_after=RETRY_AFTER)


def cannot_render(error: RendererError) -> ApiError:
    """The 503 of a post whose letters no process can render now."""
    return ApiError(503, "renderer_unavailable", f"{error}{NOTHING_STORED}", retry_after=RETRY_AFTER)


async def no_such_path(request: web.Request) -> web.StreamResponse:
    """The 404, or the 405 where another method is served at this path.

    A route of our own, since aiohttp's 404 has an own answer to `Expect`, which breaks where the header is no text.
    """
    methods = set[str]()
    for resource in request.app.router.resources():
        _, allowed = await resource.resolve(request)
        methods |= allowed
    methods.discard("*")
    if methods:
        raise web.HTTPMethodNotAllowed(request.method, sorted(methods))
    raise web.HTTPNotFound
