"""Reads the query and the path: strictly, naming every parameter that is wrong."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from datetime import datetime
from enum import StrEnum
from typing import Final, Self

from aiohttp import HttpVersion11, web

from mailerd.clock import read_moment
from mailerd.core.i18n import Language, t
from mailerd.http.auth import LARGE_BODY, KeyShare
from mailerd.http.errors import ApiError, FieldError, cut, invalid, unstored
from mailerd.http.responses import not_found, too_large
from mailerd.locale import accepted_language
from mailerd.store.read.jobs import Job, Jobs
from mailerd.store.write.api_keys import ApiKey

# Reads the bytes of a body: bounded in size and time, a large one in a place of its own.

BODY_TIMEOUT: Final = 60.0
"""Seconds for a whole body."""


_JSON: Final = re.compile(r"application/([^/]+\+)?json", re.ASCII | re.IGNORECASE)
_UNSAID: Final = frozenset({"", "application/octet-stream", "text/plain"})
"""What HTTP clients call a body of which their caller has said nothing; it is read as JSON."""


def check_media_type(request: web.Request) -> None:
    """Refuse a body that is called something else than JSON, such as a form.

    Raises:
        ApiError: 415.
    """
    given = request.headers.get("Content-Type", "").partition(";")[0].strip()
    if request.body_exists and not (given.lower() in _UNSAID or _JSON.fullmatch(given)):
        why = t(
            "the body is {given}; send JSON, with Content-Type: application/json",
            given=cut(given, MAX_TEXT),
        )
        raise ApiError(415, "unsupported_media_type", unstored(why))


class BodyReader:
    """Reads bodies.

    `setting` is the name of the setting that raises the limit, if there is one. `large`: places for
    bodies above LARGE_BODY, which take several times their size while they become rows. Such a body
    is read once it has a place.
    """

    def __init__(self, *, max_body: int, setting: str = "", large: KeyShare | None = None) -> None:
        self._max_body = max_body
        self._setting = setting
        self._large = large

    @asynccontextmanager
    async def read(self, request: web.Request, key: ApiKey) -> AsyncIterator[bytearray]:
        """The body; a large one holds its place until the context ends.

        Raises:
            ApiError: 413 too large, 408 too slow, 415 compressed, 400 cut off, 429 or 503 too many
            large ones.
        """
        length = request.content_length
        if length is not None and length > self._max_body:
            raise self._too_large()
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ApiError(415, "unsupported_encoding", unstored(t("send the body uncompressed")))
        body = bytearray()
        # A body without Content-Length may be small, and small bodies need no place.
        if (length or 0) <= LARGE_BODY and await self._read(request, body, most=LARGE_BODY):
            yield body
            return
        async with self._large.place(key) if self._large else nullcontext():
            await self._read(request, body, most=self._max_body)
            yield body

    async def _read(self, request: web.Request, body: bytearray, *, most: int) -> bool:
        """Read until the end, or until there are more than `most` bytes; returns whether the end
        has come.
        """
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                if not body:
                    _continue(request)
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > self._max_body:
                        raise self._too_large()
                    if len(body) > most:
                        return False
        except TimeoutError:
            raise ApiError(
                408,
                "timeout",
                unstored(
                    t(
                        "the body did not arrive within {body_timeout:g} s",
                        body_timeout=BODY_TIMEOUT,
                    )
                ),
            ) from None
        except (web.RequestPayloadError, ConnectionError) as error:
            raise ApiError(
                400, "cut_off", unstored(t("the body is incomplete: {error}", error=error))
            ) from error
        return True

    def _too_large(self) -> ApiError:
        setting = f" ({self._setting})" if self._setting else ""
        return too_large(
            t(
                "the body exceeds the limit of {max_body:,} bytes{setting}",
                max_body=self._max_body,
                setting=setting,
            )
        )


def _continue(request: web.Request) -> None:
    """Ask for the body if the client waits for that (RFC 9110, section 10.1.1)."""
    waits = (
        request.headers.get("Expect", "").lower() == "100-continue"
        and request.version >= HttpVersion11
    )
    if waits and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


MAX_TEXT: Final = 320
"""Characters of an address or a reference that is looked for."""
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


class Query:
    """The parameters of a request.

    Each method reads one; the end of the `with` block names all that are wrong.

    An unknown or doubled parameter is wrong, as a field in a body is, and an empty one counts as
    absent.

    Raises:
        ApiError: 422, at the end of the block.
    """

    def __init__(
        self, request: web.Request, *, allowed: tuple[str, ...], lists: tuple[str, ...] = ()
    ) -> None:
        """`lists`: those of them that hold several values, between commas or each given by
        itself.
        """
        given = request.query
        self._errors = [
            FieldError(name, t("unknown parameter")) for name in given if name not in allowed
        ]
        self._errors += [
            FieldError(name, t("is given twice"))
            for name in allowed
            if name not in lists and len(given.getall(name, ())) > 1
        ]
        self._errors += [
            FieldError(name, t("is not UTF-8 or contains a NUL character"))
            for name, value in given.items()
            if not _is_text(value)
        ]
        wrong = {error.field for error in self._errors}
        self._given = {name: value for name, value in given.items() if value and name not in wrong}
        self._given |= {name: ",".join(given.getall(name)) for name in lists if name in self._given}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._errors and kind is None:
            raise invalid(self._errors)

    def read[V](self, name: str, convert: Callable[[str], V]) -> V | None:
        """What `convert` makes of a parameter; None where it is absent or wrong: `convert` raises
        ValueError then.
        """
        text = self._given.get(name)
        if text is None:
            return None
        try:
            return convert(text)
        except ValueError as error:
            self._errors.append(FieldError(name, str(error)))
            return None

    def limit(self, *, default: int, most: int) -> int:
        """`limit`."""

        def number(text: str) -> int:
            if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= most:
                raise ValueError(t("must be a number from 1 to {most}", most=most))
            return int(text)

        return self.read("limit", number) or default

    def choice[E: StrEnum](self, name: str, kind: type[E]) -> E | None:
        """A parameter with a fixed set of values."""

        def member(text: str) -> E:
            if text not in set(kind):
                raise ValueError(t("must be one of {kind}", kind=", ".join(kind)))
            return kind(text)

        return self.read(name, member)

    def moment(self, name: str) -> datetime | None:
        """A parameter that is a time."""

        def moment(text: str) -> datetime:
            try:
                return read_moment(text)
            except ValueError:
                raise ValueError(t('must be a time such as "2026-12-01T09:00:00Z"')) from None

        return self.read(name, moment)

    def text(self, name: str, *, convert: Callable[[str], str] = str) -> str | None:
        """A parameter that is a text."""

        def short(text: str) -> str:
            if len(text) > MAX_TEXT:
                raise ValueError(t("exceeds {max_text} characters", max_text=MAX_TEXT))
            return convert(text)

        return self.read(name, short)

    def required_text(self, name: str, *, convert: Callable[[str], str]) -> str:
        """A parameter that is a text; "" where it is wrong: without it the request is wrong too."""
        if not any(error.field == name for error in self._errors) and name not in self._given:
            self._errors.append(FieldError(name, t("is missing")))
        return self.text(name, convert=convert) or ""

    def cursor(self, *, shape: re.Pattern[str] = _NUMBER) -> str | None:
        """`cursor`, as an earlier answer gave it."""

        def known(text: str) -> str:
            if not shape.fullmatch(text):
                raise ValueError(t("is not a value returned as next_cursor"))
            return text

        return self.read("cursor", known)


def asked_language(request: web.Request) -> Language:
    """The language that a request asks for, in one header Accept-Language or in several, which
    count as one.
    """
    return accepted_language(",".join(request.headers.getall("Accept-Language", ())))


def wants_page(request: web.Request) -> bool:
    """Whether a person with a browser asks, who reads pages; programs and the API's callers get
    JSON.
    """
    is_for_programs = (
        request.path.startswith(("/api/", "/health/", "/static/"))
        or "HX-Request" in request.headers
    )
    return "text/html" in request.headers.get("Accept", "") and not is_for_programs


LANGUAGE_COOKIE: Final = "mailerd-lang"
_YEAR: Final = 365 * 86_400


def chosen_language(request: web.Request) -> Language:
    """The language of a page: what its reader has chosen by `?lang=`, now or before, else that of
    the browser.
    """
    wish = request.query.get("lang") or request.cookies.get(LANGUAGE_COOKIE, "")
    return accepted_language(wish) if wish else asked_language(request)


def keep_language(response: web.StreamResponse, chosen: Language) -> None:
    """Let the next pages have the language as well."""
    response.set_cookie(LANGUAGE_COOKIE, chosen, max_age=_YEAR, httponly=True, samesite="Lax")


def refuse_parameters(request: web.Request) -> None:
    """Name every parameter of a request that takes none.

    Raises:
        ApiError: 422.
    """
    with Query(request, allowed=()):
        pass


def _is_text(value: str) -> bool:
    """Whether it was UTF-8; yarl puts U+FFFD where it was not."""
    return not any(
        "\ud800" <= character <= "\udfff" or character in "\0\ufffd" for character in value
    )


async def job_of(request: web.Request, key: ApiKey, jobs: Jobs) -> Job:
    """The job of a path, for a key that may see it.

    Raises:
        ApiError: 404, there is none.
    """
    job = await jobs.seen_by(key, request.match_info["id"])
    if job is None:
        raise not_found(t("no job has this ID"))
    return job
