"""`/api/suppressions` and `/api/lists`: who gets no messages, for applications that keep such lists themselves."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import AfterValidator, BeforeValidator, Field

from mailerd.core.i18n import t
from mailerd.core.suppression import EVERYTHING, EVERYTHING_NAME, Channel, Reason, masked
from mailerd.events.intake import SuppressionEvents
from mailerd.http.auth import KeyHandler, KeyShares
from mailerd.http.errors import ApiError, FieldError, invalid
from mailerd.http.requests import BodyReader, Query
from mailerd.http.responses import ROWS_AT_ONCE, Rows, json_response, not_found, page_response, write_csv
from mailerd.intake.request_models import LINE_SCHEMA, LIST_SCHEMA
from mailerd.intake.strict_json import parse
from mailerd.mail.mime import Addresses
from mailerd.mail.templates import one_line
from mailerd.model.fields import Moment, ResponseModel, Whole
from mailerd.operations.inputs import EMAIL_SCHEMA, RequestModel, few_fields, read_model
from mailerd.store.api_keys import ApiKey
from mailerd.store.db.connection import rfc3339
from mailerd.store.db.database import Database
from mailerd.store.list_names import MAX_LIST_TITLE, ListNameError, check_list, check_list_title
from mailerd.store.suppressions import (
    CURSOR,
    MAX_PAGE,
    LimitedKeyError,
    MailingList,
    NewSuppression,
    OthersListError,
    Suppression,
    Suppressions,
    place_of,
)

# The answers about suppressions and mailing lists as models.


class SuppressionOut(ResponseModel):
    """A suppressed address."""

    email: Annotated[str | None, Field(description="null: the person was deleted")]
    list: Annotated[str | None, Field(description="null: all messages")]
    reason: Reason
    source: Channel
    detail: str | None
    actor: Annotated[str | None, Field(description="who requested it: the name of a key or a person; null: unknown")]
    origin: Annotated[
        str,
        Field(
            description="whose it is: the sender by whose message it came, or key:ID of a key for some senders; empty: "
            "of keys for all senders"
        ),
    ]
    created_at: Moment

    @classmethod
    def of(cls, it: Suppression) -> "SuppressionOut":
        """One as the API shows it."""
        return cls(
            email=it.address, list=it.list_name, reason=it.reason, source=it.source, detail=it.detail, actor=it.actor,
            origin=it.origin, created_at=it.created_at,
        )  # fmt: skip


class SuppressionsOut(ResponseModel):
    """A page of suppressions, oldest first."""

    suppressions: list[SuppressionOut]
    next_cursor: str | None


class SuppressedOut(ResponseModel):
    """The result of a request to suppress."""

    total: Whole
    added: Annotated[Whole, Field(description="how many of them are new; another key's are not counted")]


class RemovedOut(ResponseModel):
    """The suppression was removed."""

    removed: Literal[True]
    still_suppressed: Annotated[
        bool, Field(description="another suppression keeps the same messages from the address still")
    ]


class ListOut(ResponseModel):
    """A mailing list."""

    name: str
    title: str | None
    created_at: Moment


class ListsOut(ResponseModel):
    """The lists that the key may use, by name."""

    lists: list[ListOut]


MAX_AT_ONCE: Final = 10_000
"""Suppressions that one request may have."""
MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes: so many suppressions with long addresses and details."""
CSV_COLUMNS: Final = ("email", "list", "reason", "source", "detail", "created_at", "origin")


class SuppressionIn(RequestModel):
    """One suppression in a request."""

    email: Annotated[str, Field(json_schema_extra=EMAIL_SCHEMA)]
    list: Annotated[
        Annotated[str, Field(json_schema_extra=LIST_SCHEMA)] | None, Field(description="the list; absent: all messages")
    ] = None
    reason: Annotated[Reason, Field(strict=False)] = Reason.MANUAL
    detail: Annotated[
        Annotated[str, Field(max_length=255, json_schema_extra=LINE_SCHEMA), AfterValidator(one_line)] | None,
        Field(description="a note, such as a ticket"),
    ] = None


def _few_fields_in_all(value: object) -> object:
    """Each object may have some unknown fields, and ten thousand of them too many."""
    if isinstance(value, list):
        number = sum(len(it) for it in value if isinstance(it, dict))
        few_fields(number, SuppressionIn.model_fields, objects=len(value))
    return value


class SuppressionsIn(RequestModel):
    """The body of `POST /api/suppressions`."""

    # The length stands first: behind the validator, each of two million values would be checked before it.
    suppressions: Annotated[
        list[SuppressionIn], Field(min_length=1, max_length=MAX_AT_ONCE), BeforeValidator(_few_fields_in_all)
    ]


class ListIn(RequestModel):
    """The body of `POST /api/lists`."""

    name: Annotated[str, Field(json_schema_extra=LIST_SCHEMA), AfterValidator(check_list)]
    title: Annotated[
        Annotated[str, AfterValidator(check_list_title), Field(json_schema_extra={"pattern": r"\S"})] | None,
        Field(max_length=MAX_LIST_TITLE, description="the title that people read"),
    ] = None


class SuppressionEndpoints:
    """The handlers. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, *, database: Database, timeout: float, events: SuppressionEvents, shares: KeyShares) -> None:
        self._database = database
        self._timeout = timeout
        self._events = events
        self._bodies = BodyReader(max_body=MAX_BODY, large=shares.large_bodies)
        self._checks, self._downloads, self._pace = shares.checks, shares.downloads, shares.rows

    def handlers(self) -> dict[str, KeyHandler]:
        """The handlers by the ids of their operations."""
        return {
            "listSuppressions": self.index,
            "downloadSuppressions": self.results,
            "addSuppressions": self.add,
            "removeSuppression": self.remove,
            "listMailingLists": self.lists,
            "saveMailingList": self.make_list,
        }

    async def index(self, request: web.Request, key: ApiKey) -> web.Response:
        """A page of suppressions, the oldest first; with `email`, what keeps messages from that address."""
        with Query(request, allowed=("list", "reason", "email", "cursor", "limit")) as given:
            name, reason = given.read("list", str), given.choice("reason", Reason)
            email, most = given.text("email", convert=Addresses().check), given.limit(default=100, most=MAX_PAGE)
            after = place_of(given.cursor(shape=CURSOR) or "")
        suppressions = await self._suppressions(key)
        mailing_list = await _list_of(suppressions, name)
        list_id = mailing_list.id if mailing_list else None
        if email:
            found = await suppressions.of(email)
            wanted = [it for it in found if reason in {None, it.reason} and list_id in {None, it.list_id}]
            return json_response(
                SuppressionsOut(suppressions=[SuppressionOut.of(it) for it in wanted], next_cursor=None)
            )
        found = await self._pace.read(
            lambda last, limit: suppressions.page(
                list_id=list_id, reason=reason, after=last.place if last else after, limit=limit
            ),
            most=most + 1,
        )
        page = found[:most]
        following = page[-1].cursor if len(found) > most else None
        body = SuppressionsOut(suppressions=[SuppressionOut.of(it) for it in page], next_cursor=following)
        return await page_response(body, "suppressions", self._pace)

    async def results(self, request: web.Request, key: ApiKey) -> web.StreamResponse:
        """All of them as CSV, page by page."""
        async with self._downloads.place(key):
            return await self._write_csv(request, key)

    async def _write_csv(self, request: web.Request, key: ApiKey) -> web.StreamResponse:
        with Query(request, allowed=("list", "reason")) as given:
            name, reason = given.read("list", str), given.choice("reason", Reason)
        suppressions = await self._suppressions(key)
        mailing_list = await _list_of(suppressions, name)
        list_id = mailing_list.id if mailing_list else None

        async def pages() -> AsyncGenerator[Rows]:
            after = None
            while page := await suppressions.page(list_id=list_id, reason=reason, after=after, limit=ROWS_AT_ONCE):
                yield [_row(it) for it in page]
                after = page[-1].place
                await self._pace.turn()

        return await write_csv(request, pages(), columns=CSV_COLUMNS, filename="suppressions.csv")

    async def add(self, request: web.Request, key: ApiKey) -> web.Response:
        """Make suppressions; all of them or none. Again, it changes nothing."""
        # Thousands of addresses take seconds, here and of the database: a key has few such requests under way at once,
        # or the statements of all others would wait behind them. In a thread they hold up no other request.
        async with self._bodies.read(request, key) as raw, self._checks.place(key):
            asked = await asyncio.to_thread(lambda: read_model(SuppressionsIn, parse(raw)))
            return await self._add(asked.suppressions, key)

    async def _add(self, given: Sequence[SuppressionIn], key: ApiKey) -> web.Response:
        suppressions, faults = await self._suppressions(key), list[FieldError]()
        clean, digests = await asyncio.to_thread(_check_all, given, suppressions, faults)
        if faults:
            raise invalid(faults)
        try:
            lists = await suppressions.make_lists({(it.list, it.reason) for it in given})
        except LimitedKeyError as error:
            raise _limited(error) from None
        except ListNameError as error:
            raise invalid([FieldError("list", str(error))]) from None
        actor = f"key {key.name}"
        new = [
            NewSuppression(
                digest,
                lists[it.list],
                it.reason,
                Channel.API,
                email,
                detail=it.detail,
                actor=actor,
            )
            for it, email, digest in zip(given, clean, digests, strict=True)
        ]
        added = await suppressions.add(new)
        self._log_added(added.changed, {list_id: name or EVERYTHING_NAME for name, list_id in lists.items()})
        return json_response(SuppressedOut(total=len(new), added=len(added.fresh)))

    def _log_added(self, added: Sequence[NewSuppression], lists: Mapping[int, str]) -> None:
        """One event for each reason, with the number where it is more than one."""
        for reason in Reason:
            those = [it for it in added if it.reason is reason]
            names = {lists[it.list_id] for it in those}
            named = names.pop() if len(names) == 1 else f"{len(names)} lists"
            if len(those) > 1:
                self._events.suppressions_added(
                    added=len(those), mailing_list=named, reason=reason.value, source=Channel.API.value
                )
            elif those:
                self._events.suppression_added(
                    address=masked(those[0].address or ""), mailing_list=named, reason=reason.value,
                    source=Channel.API.value,
                )  # fmt: skip

    async def remove(self, request: web.Request, key: ApiKey) -> web.Response:
        """End what keeps messages of a list, or all, from an address, as far as the key may."""
        with Query(request, allowed=("list",)) as given:
            name = given.read("list", str)
        try:
            email = Addresses().check(request.match_info["email"])
        except ValueError as error:
            raise invalid([FieldError("email", str(error))]) from None
        suppressions = await self._suppressions(key)
        mailing_list = await _list_of(suppressions, name)
        try:
            removed, still_suppressed = await suppressions.remove(
                suppressions.digest(email), list_id=mailing_list.id if mailing_list else EVERYTHING,
                source=Channel.API, actor=f"key {key.name}",
            )  # fmt: skip
        except LimitedKeyError as error:
            raise _limited(error) from None
        if not removed:
            raise not_found(t("this address is not suppressed there; see GET /api/suppressions?email="))
        self._events.suppression_removed(
            address=masked(email), mailing_list=mailing_list.shown if mailing_list else EVERYTHING_NAME,
            source=Channel.API.value,
        )  # fmt: skip
        return json_response(RemovedOut(removed=True, still_suppressed=still_suppressed))

    async def lists(self, request: web.Request, key: ApiKey) -> web.Response:  # noqa: ARG002 - no query is read
        """The lists that the key may use."""
        found = await (await self._suppressions(key)).lists()
        return json_response(ListsOut(lists=[ListOut.model_validate(it) for it in found]))

    async def make_list(self, request: web.Request, key: ApiKey) -> web.Response:
        """Make a list, or give one another title."""
        async with self._bodies.read(request, key) as raw:
            given = read_model(ListIn, parse(raw))
        try:
            made = await (await self._suppressions(key)).make_list(given.name, title=given.title)
            return json_response(ListOut.model_validate(made))
        except OthersListError as error:
            raise ApiError(403, "sender_not_allowed", str(error)) from None
        except ListNameError as error:
            raise invalid([FieldError("name", str(error))]) from None

    async def _suppressions(self, key: ApiKey) -> Suppressions:
        return await Suppressions.open(self._database, timeout=self._timeout, limited_to=key)


def _limited(error: LimitedKeyError) -> ApiError:
    return ApiError(403, "sender_not_allowed", str(error))


def _row(it: Suppression) -> tuple[object, ...]:
    return it.address, it.list_name, it.reason.value, it.source.value, it.detail, rfc3339(it.created_at), it.origin


def _check_all(
    given: Sequence[SuppressionIn], suppressions: Suppressions, faults: list[FieldError]
) -> tuple[list[str], list[bytes]]:
    addresses, clean = Addresses(), list[str]()
    for place, it in enumerate(given):
        clean.append(_checked(it.email, addresses.check, f"suppressions[{place}].email", faults))
        if it.list is not None:
            _checked(it.list, check_list, f"suppressions[{place}].list", faults)
    return clean, [suppressions.digest(email) for email in clean]


def _checked(given: str, check: Callable[[str], str], field: str, faults: list[FieldError]) -> str:
    try:
        return check(given)
    except ValueError as error:
        faults.append(FieldError(field, str(error)))
        return given


async def _list_of(suppressions: Suppressions, name: str | None) -> MailingList | None:
    if name is None:
        return None
    found = await suppressions.list_named(name)
    if found is None:
        raise invalid([FieldError("list", t("no list has this name; see GET /api/lists"))])
    return found
