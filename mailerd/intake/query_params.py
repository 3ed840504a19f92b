"""Reads the query and the path: strictly, naming every parameter that is unknown or given twice."""

import re
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Final

from aiohttp import web

from mailerd.clock import ULID
from mailerd.intake.auth import ApiKeyAuth
from mailerd.intake.errors import FieldError, invalid, not_found
from mailerd.intake.request_models import read_moment
from mailerd.store.api_keys import ApiKey, Permission
from mailerd.store.jobs import Job, Jobs

MAX_TEXT: Final = 320
"""Characters of an address or a reference that is looked for."""
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


def query(request: web.Request, *, allowed: tuple[str, ...]) -> dict[str, str]:
    """The parameters; an unknown or doubled one is an error, as in a body, and an empty one counts as absent."""
    given = request.query
    errors = [FieldError(name, "unknown parameter") for name in given if name not in allowed]
    errors.extend(FieldError(name, "is given twice") for name in allowed if len(given.getall(name, ())) > 1)
    errors.extend(FieldError(name, "is not UTF-8") for name, value in given.items() if not _is_text(value))
    if errors:
        raise invalid(errors)
    return {name: value for name, value in given.items() if value}


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" or character == "\0" for character in value)


def limit(given: dict[str, str], *, default: int, most: int) -> int:
    """`limit`."""
    text = given.get("limit")
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= most:
        raise invalid([FieldError("limit", f"must be a number from 1 to {most}")])
    return int(text)


def choice[E: StrEnum](given: dict[str, str], name: str, kind: type[E]) -> E | None:
    """A parameter with a fixed set of values."""
    text = given.get(name)
    if text is None:
        return None
    if text not in set(kind):
        raise invalid([FieldError(name, f"must be one of {', '.join(kind)}")])
    return kind(text)


def moment(given: dict[str, str], name: str) -> datetime | None:
    """A parameter that is a time."""
    text = given.get(name)
    if text is None:
        return None
    try:
        return read_moment(text)
    except ValueError:
        raise invalid([FieldError(name, 'must be a time such as "2026-12-01T09:00:00Z"')]) from None


def text(given: dict[str, str], name: str, *, read: Callable[[str], str] = str) -> str | None:
    """A parameter that is a text; `read` converts it, and raises ValueError when it cannot."""
    found = given.get(name)
    if found is None:
        return None
    if len(found) > MAX_TEXT:
        raise invalid([FieldError(name, f"is longer than {MAX_TEXT} characters")])
    try:
        return read(found)
    except ValueError as error:
        raise invalid([FieldError(name, str(error))]) from None


def cursor(given: dict[str, str], *, shape: re.Pattern[str] = _NUMBER) -> str | None:
    """`cursor`, as an earlier answer gave it."""
    found = given.get("cursor")
    if found is not None and not shape.fullmatch(found):
        raise invalid([FieldError("cursor", "is not one that an answer has given as next_cursor")])
    return found


class JobLookup:
    """Finds the job of a path, for a key that may see it."""

    def __init__(self, *, auth: ApiKeyAuth, jobs: Jobs) -> None:
        self._auth = auth
        self._jobs = jobs

    async def authenticate(self, request: web.Request, call: Permission) -> ApiKey:
        """The key of a request."""
        return await self._auth.authenticate(request, call)

    async def job(self, request: web.Request, call: Permission) -> tuple[ApiKey, Job]:
        """The key and the job.

        Raises:
            ApiError: 401; 403, the key may not make this call; 404; 429.
        """
        key = await self._auth.authenticate(request, call)
        return key, await self.of(request, key)

    async def of(self, request: web.Request, key: ApiKey) -> Job:
        """The job, for a key that is authenticated already."""
        job_id = request.match_info["id"]
        job = await self._jobs.job(job_id) if ULID.fullmatch(job_id) else None
        # A job of another sender is as good as none: the answer must not show that the id exists.
        if job is None or not key.may_send(job.sender_email):
            raise not_found("there is no job with this id")
        return job
