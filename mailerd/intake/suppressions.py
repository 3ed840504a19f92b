"""`/api/suppressions` and `/api/lists`: who gets no messages, for applications that keep such lists
themselves.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.core.suppression import Reason
from mailerd.events.actions import Via
from mailerd.http.auth import KeyHandler, KeyShares
from mailerd.http.errors import ApiError, FieldError, invalid
from mailerd.http.requests import BodyReader, Query
from mailerd.http.responses import Rows, json_response, not_found, page_response, write_csv
from mailerd.intake.strict_json import parse
from mailerd.mail.mime import Addresses
from mailerd.model.suppressions import Suppression
from mailerd.operations import suppressions
from mailerd.operations.caller import Backend, Caller
from mailerd.operations.inputs import read_model
from mailerd.operations.suppressions import (
    MailingListRequest,
    NotSuppressedError,
    SuppressionsRequest,
    UnknownListError,
)
from mailerd.store.db.connection import rfc3339
from mailerd.store.write.api_keys import ApiKey
from mailerd.store.write.list_names import ListNameError
from mailerd.store.write.suppressions import CURSOR, MAX_PAGE, LimitedKeyError, OthersListError

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes: so many suppressions with long addresses and details."""
CSV_COLUMNS: Final = ("email", "list", "reason", "source", "detail", "created_at", "origin")


class SuppressionEndpoints:
    """The handlers. `shares`: the places of all keys, as the backend has them."""

    def __init__(self, backend: Backend, shares: KeyShares) -> None:
        self._backend = backend
        self._bodies = BodyReader(max_body=MAX_BODY, large=shares.large_bodies)
        self._checks, self._downloads, self._pace = shares.checks, shares.downloads, shares.rows

    def handlers(self) -> dict[str, KeyHandler]:
        """The handlers by the ids of their operations."""
        return {
            "listSuppressions": _with_refusals(self.index),
            "downloadSuppressions": _with_refusals(self.results),
            "addSuppressions": _with_refusals(self.add),
            "removeSuppression": _with_refusals(self.remove),
            "listMailingLists": _with_refusals(self.lists),
            "saveMailingList": _with_refusals(self.save_list, field="name"),
        }

    async def index(self, request: web.Request, key: ApiKey) -> web.Response:
        """A page of suppressions, the oldest first; with `email`, what keeps messages from that
        address.
        """
        with Query(request, allowed=("list", "reason", "email", "cursor", "limit")) as given:
            name, reason = given.read("list", str), given.choice("reason", Reason)
            email, most = (
                given.text("email", convert=Addresses().check),
                given.limit(default=100, most=MAX_PAGE),
            )
            cursor = given.cursor(shape=CURSOR) or ""
        page = await suppressions.index(
            self._by(key),
            mailing_list=name,
            reason=reason,
            email=email or "",
            cursor=cursor,
            limit=most,
        )
        return await page_response(page, "suppressions", self._pace)

    async def results(self, request: web.Request, key: ApiKey) -> web.StreamResponse:
        """All of them as CSV, page by page."""
        async with self._downloads.place(key):
            with Query(request, allowed=("list", "reason")) as given:
                name, reason = given.read("list", str), given.choice("reason", Reason)
            pages = await suppressions.pages(self._by(key), mailing_list=name, reason=reason)
            return await write_csv(
                request, _rows(pages), columns=CSV_COLUMNS, filename="suppressions.csv"
            )

    async def add(self, request: web.Request, key: ApiKey) -> web.Response:
        """Make suppressions; all of them or none. Again, it changes nothing."""
        # Thousands of addresses take seconds, here and of the database: a key has few such requests
        # under way at once, or the statements of all others would wait behind them. In a thread
        # they hold up no other request.
        async with self._bodies.read(request, key) as raw, self._checks.place(key):
            asked = await asyncio.to_thread(
                lambda: read_model(SuppressionsRequest, parse(raw), context=Addresses())
            )
            return json_response(await suppressions.add(self._by(key), asked.suppressions))

    async def remove(self, request: web.Request, key: ApiKey) -> web.Response:
        """End what keeps messages of a list, or all, from an address, as far as the key may."""
        with Query(request, allowed=("list",)) as given:
            name = given.read("list", str)
        try:
            email = Addresses().check(request.match_info["email"])
        except ValueError as error:
            raise invalid([FieldError("email", str(error))]) from None
        return json_response(await suppressions.remove(self._by(key), email, mailing_list=name))

    async def lists(self, request: web.Request, key: ApiKey) -> web.Response:  # noqa: ARG002 - no query is read
        """The lists that the key may use."""
        return json_response(await suppressions.lists(self._by(key)))

    async def save_list(self, request: web.Request, key: ApiKey) -> web.Response:
        """Make a list, or give one another title."""
        async with self._bodies.read(request, key) as raw:
            given = read_model(MailingListRequest, parse(raw))
        return json_response(await suppressions.save_list(self._by(key), given))

    def _by(self, key: ApiKey) -> Caller:
        return Caller(self._backend, Via.API, f"key:{key.name}", key)


async def _rows(pages: AsyncGenerator[Sequence[Suppression]]) -> AsyncGenerator[Rows]:
    async for page in pages:
        yield [
            (
                it.email,
                it.list,
                it.reason.value,
                it.source.value,
                it.detail,
                rfc3339(it.created_at),
                it.origin,
            )
            for it in page
        ]


def _with_refusals(handler: KeyHandler, *, field: str = "list") -> KeyHandler:
    """Answer as it is documented what an operation refuses; `field` names a list."""

    async def handle(request: web.Request, key: ApiKey) -> web.StreamResponse:
        try:
            return await handler(request, key)
        except NotSuppressedError:
            raise not_found(
                t("this address is not suppressed there; see GET /api/suppressions?email=")
            ) from None
        except (LimitedKeyError, OthersListError) as error:
            raise ApiError(403, "sender_not_allowed", str(error)) from None
        except UnknownListError:
            raise invalid(
                [FieldError("list", t("no list has this name; see GET /api/lists"))]
            ) from None
        except ListNameError as error:
            raise invalid([FieldError(field, str(error))]) from None

    return handle
