"""Suppressions and lists: who gets no messages.

A key for certain senders sees and ends its own suppressions, and sees and uses lists of its senders
and everybody's. Every function that is given the name of a list raises UnknownListError where the
caller sees none of this name, each change LimitedKeyError where a key for certain senders may not
make it, and ListNameError where a list cannot be made.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from itertools import batched
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from mailerd.core.suppression import EVERYTHING, EVERYTHING_NAME, Channel, Reason
from mailerd.errors import MailerdError
from mailerd.events.actions import Via
from mailerd.http.responses import ROWS_AT_ONCE
from mailerd.mail.mime import Addresses
from mailerd.mail.templates import one_line
from mailerd.model.suppressions import (
    MailingList,
    MailingLists,
    RemovedSuppression,
    SuppressedAddresses,
    Suppression,
    SuppressionPage,
)
from mailerd.operations.caller import Caller, operation
from mailerd.operations.inputs import (
    EMAIL_SCHEMA,
    LINE_SCHEMA,
    LIST_SCHEMA,
    RequestModel,
    few_fields,
)
from mailerd.store.write.action_log import ListLog
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.list_names import MAX_LIST_TITLE, check_list, check_list_title
from mailerd.store.write.suppressions import (
    MAX_LISTS,
    MAX_PAGE,
    NewSuppression,
    Suppressions,
    cursor_of,
    place_of,
)

MAX_AT_ONCE: Final = 10_000
"""Suppressions that one request may have."""
STORED_AT_ONCE: Final = 5_000
"""Rows of a command's import that are stored in one transaction."""
_SORTED_AT_ONCE: Final = 50_000
"""Rows that are brought into the order of the table first: a server stores them in half the time
then.
"""


class UnknownListError(MailerdError):
    """The caller sees no list of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class NotSuppressedError(MailerdError):
    """There is no suppression to end, as far as the caller sees."""


def _address(value: str, info: ValidationInfo[Addresses | None]) -> str:
    """The context: what checks the addresses of the whole request, which knows a domain by then."""
    return (info.context or Addresses()).check(value)


class SuppressionRequest(RequestModel):
    """One suppression in a request."""

    email: Annotated[str, Field(json_schema_extra=EMAIL_SCHEMA), AfterValidator(_address)]
    list: Annotated[
        Annotated[str, Field(json_schema_extra=LIST_SCHEMA), AfterValidator(check_list)] | None,
        Field(description="the list; absent: all messages"),
    ] = None
    reason: Annotated[Reason, Field(strict=False)] = Reason.MANUAL
    detail: Annotated[
        Annotated[
            str, Field(max_length=255, json_schema_extra=LINE_SCHEMA), AfterValidator(one_line)
        ]
        | None,
        Field(description="a note, such as a ticket"),
    ] = None


def _few_fields_in_all(value: object) -> object:
    """Each object may have some unknown fields, and ten thousand of them too many."""
    if isinstance(value, list):
        number = sum(len(it) for it in value if isinstance(it, dict))
        few_fields(number, SuppressionRequest.model_fields, objects=len(value))
    return value


class SuppressionsRequest(RequestModel):
    """The body of `POST /api/suppressions`."""

    # The length stands first: behind the validator, each of two million values would be checked
    # before it.
    suppressions: Annotated[
        list[SuppressionRequest],
        Field(min_length=1, max_length=MAX_AT_ONCE),
        BeforeValidator(_few_fields_in_all),
    ]


class MailingListRequest(RequestModel):
    """A list that is made, or gets another title."""

    name: Annotated[str, Field(json_schema_extra=LIST_SCHEMA), AfterValidator(check_list)]
    title: Annotated[
        Annotated[
            str, AfterValidator(check_list_title), Field(json_schema_extra={"pattern": r"\S"})
        ]
        | None,
        Field(max_length=MAX_LIST_TITLE, description="the title that people read"),
    ] = None


type Row = tuple[str, str | None, Reason, str | None]
"""An address that is good, the name of a list or None (all messages), the reason and a note."""


@operation(Permission.SUPPRESS)
async def index(
    by: Caller,
    *,
    mailing_list: str | None = None,
    reason: Reason | None = None,
    email: str = "",
    cursor: str = "",
    limit: int = 100,
) -> SuppressionPage:
    """A page of them, oldest first; with `email`, all that keep messages from that address."""
    suppressions = await _suppressions(by)
    list_id = await _list_id(suppressions, mailing_list)
    if email:
        found = await suppressions.of(email)
        wanted = [
            it for it in found if reason in {None, it.reason} and list_id in {None, it.list_id}
        ]
        return SuppressionPage(suppressions=wanted, next_cursor=None)
    first = place_of(cursor)

    async def read(last: Suppression | None, number: int) -> list[Suppression]:
        after = last.place if last else first
        return await suppressions.page(list_id=list_id, reason=reason, after=after, limit=number)

    shares = by.backend.shares
    found = await shares.rows.read(read, most=limit + 1) if shares else await read(None, limit + 1)
    page = found[:limit]
    return SuppressionPage(
        suppressions=page,
        next_cursor=cursor_of(page[-1].place) if len(found) > limit else None,
    )


@operation(Permission.SUPPRESS)
async def pages(
    by: Caller, *, mailing_list: str | None = None, reason: Reason | None = None
) -> AsyncGenerator[Sequence[Suppression]]:
    """All of them, page by page, oldest first."""
    suppressions, shares = await _suppressions(by), by.backend.shares
    list_id = await _list_id(suppressions, mailing_list)

    async def read() -> AsyncGenerator[Sequence[Suppression]]:
        after, limit = None, ROWS_AT_ONCE if shares else MAX_PAGE
        while page := await suppressions.page(
            list_id=list_id, reason=reason, after=after, limit=limit
        ):
            yield page
            after = page[-1].place
            if shares:
                await shares.rows.turn()

    return read()


@operation(Permission.SUPPRESS)
async def add(
    by: Caller, given: Sequence[SuppressionRequest], *, new_lists: bool = True
) -> SuppressedAddresses:
    """Make suppressions; all of them or none. Again, it changes nothing.

    `new_lists`: make lists that are not there.
    """
    rows = [(it.email, it.list, it.reason, it.detail) for it in given]
    wanted = {(it.list, it.reason) for it in given}
    return await _add(by, [rows], wanted, source=_channel(by), new_lists=new_lists)


@operation(Permission.SUPPRESS)
async def import_rows(
    by: Caller,
    rows: Iterable[Row],
    wanted: Collection[tuple[str | None, Reason]],
    *,
    new_lists: bool = True,
) -> SuppressedAddresses:
    """Make the suppressions of a table; all of them or none, and of a command's some thousands at
    once.

    `wanted`: its lists and reasons, which are known before a row is stored.
    """
    many = batched(rows, _SORTED_AT_ONCE)
    return await _add(by, many, wanted, source=Channel.IMPORT, new_lists=new_lists)


async def _add(
    by: Caller,
    batches: Iterable[Sequence[Row]],
    wanted: Collection[tuple[str | None, Reason]],
    *,
    source: Channel,
    new_lists: bool,
) -> SuppressedAddresses:
    suppressions = await _suppressions(by)
    for name in () if new_lists else {name for name, _ in wanted}:
        await _list_id(suppressions, name)
    lists = await suppressions.make_lists(wanted)
    names = {list_id: name or EVERYTHING_NAME for name, list_id in lists.items()}
    log, actor = ListLog("suppress", by.actor, names), _signature(by)
    total = fresh = 0
    changed = Counter[tuple[Reason, int]]()

    def made(rows: Sequence[Row]) -> list[NewSuppression]:
        return [
            NewSuppression(
                suppressions.digest(email),
                lists[name],
                reason,
                source,
                email,
                detail=detail,
                actor=actor,
            )
            for email, name, reason, detail in rows
        ]

    for rows in batches:
        new = await asyncio.to_thread(made, rows)  # thousands of digests
        for part in (
            [new]
            if by.key
            else batched(sorted(new, key=lambda it: (it.list_id, it.digest)), STORED_AT_ONCE)
        ):
            added = await suppressions.add(part, log=log)
            total, fresh = total + len(part), fresh + len(added.fresh)
            changed.update((it.reason, it.list_id) for it in added.changed)
    _tell_added(by, changed, names, source)
    return SuppressedAddresses(total=total, added=fresh, changed=changed.total())


def _tell_added(
    by: Caller, changed: Counter[tuple[Reason, int]], names: Mapping[int, str], source: Channel
) -> None:
    """One event for each reason."""
    for reason in Reason:
        those = {
            names[list_id]: number for (its, list_id), number in changed.items() if its is reason
        }
        if those:
            _tell(by, "suppress", those, reason=reason.value, source=source)


def _tell(
    by: Caller, action: str, changed: Mapping[str, int], *, reason: str, source: Channel
) -> None:
    """`changed`: how many, by the names of their lists."""
    by.backend.events.suppression_action(
        mailing_list=next(iter(changed)) if len(changed) == 1 else f"{len(changed)} lists",
        action=action,
        actor=by.actor,
        changed=sum(changed.values()),
        reason=reason,
        source=source.value,
        via=by.via.value,
    )


@operation(Permission.SUPPRESS)
async def remove(
    by: Caller, email: str, *, mailing_list: str | None = None, origin: str | None = None
) -> RemovedSuppression:
    """End what keeps messages of a list, or all, from an address, as far as the caller may;
    `origin`: only this one's.

    Raises:
        NotSuppressedError: nothing does.
    """
    suppressions = await _suppressions(by)
    list_id = await _list_id(suppressions, mailing_list) or EVERYTHING
    name = mailing_list or EVERYTHING_NAME
    removed, still_suppressed = await suppressions.remove(
        suppressions.digest(email),
        list_id=list_id,
        source=_channel(by),
        origin=origin,
        actor=_signature(by),
        log=ListLog("unsuppress", by.actor, {list_id: name}),
    )
    if not removed:
        raise NotSuppressedError(email)
    _tell(by, "unsuppress", {name: removed}, reason="", source=_channel(by))
    return RemovedSuppression(removed=True, still_suppressed=still_suppressed)


@operation(Permission.SUPPRESS)
async def lists(by: Caller, *, after: str = "", limit: int = MAX_LISTS) -> MailingLists:
    """The lists that the caller sees, by name; those behind the name `after`."""
    return MailingLists(lists=await (await _suppressions(by)).lists(after=after, limit=limit))


@operation(Permission.SUPPRESS)
async def save_list(by: Caller, given: MailingListRequest) -> MailingList:
    """Make a list, or give one another title.

    Raises:
        OthersListError: it belongs to others, too, and would get another title.
    """
    suppressions = await _suppressions(by)
    saved, has_changed = await suppressions.save_list(given.name, given.title, actor=by.actor)
    if has_changed:
        by.backend.events.list_action(
            mailing_list=saved.name, action="save_list", actor=by.actor, via=by.via.value
        )
    return saved


async def _suppressions(by: Caller) -> Suppressions:
    return await Suppressions.open(
        by.backend.database, timeout=by.backend.timeout, limited_to=by.key
    )


async def _list_id(suppressions: Suppressions, name: str | None) -> int | None:
    if name is None:
        return None
    if (found := await suppressions.list_named(name)) is None:
        raise UnknownListError(name)
    return found.id


def _channel(by: Caller) -> Channel:
    return Channel.CLI if by.via is Via.COMMAND else Channel.API


def _signature(by: Caller) -> str:
    """Who asks, as a suppression names it."""
    if by.via is Via.API and by.key:
        return f"key {by.key.name}"
    return by.actor.removeprefix("command, ")
