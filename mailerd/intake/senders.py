"""`/api/senders` and `/api/key`: what each mailbox does, its limits and pauses, and what the key of
the request may do.

Limits and pauses are the mailbox's: a key that names only an alias sees the mailbox behind it, and
cannot change it.
"""

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, Final, Self

from aiohttp import web
from pydantic import AfterValidator, ConfigDict, Field

from mailerd.core.claims import Mode
from mailerd.core.i18n import t
from mailerd.core.rate_limit import MAX_GAP
from mailerd.core.reading import Authorization, AuthorizationState, Condition, Severity
from mailerd.core.senders import SenderActivity, SenderReading
from mailerd.events.actions import Via
from mailerd.http.auth import KeyHandler
from mailerd.http.errors import ApiError, FieldError, invalid
from mailerd.http.requests import BodyReader, Query
from mailerd.http.responses import json_response, not_found
from mailerd.intake.request_models import NothingIn
from mailerd.intake.sender_resolver import SenderResolver
from mailerd.intake.strict_json import parse
from mailerd.mail.mime import mailbox
from mailerd.mail.templates import one_name
from mailerd.model.fields import Moment, ResponseModel, Sentence, Whole
from mailerd.operations import senders
from mailerd.operations.caller import Backend, Caller
from mailerd.operations.inputs import RequestModel, read_model
from mailerd.store.read.senders import Senders
from mailerd.store.write.api_keys import ApiKey, Permission
from mailerd.store.write.sender_actions import LIMITS, ReserveError

MAX_PAGE: Final = 100
MAX_PAUSE: Final = 3660 * 86_400
"""Seconds of the longest pause that has an end."""
MAX_BODY: Final = 10_000
_CURSOR: Final = re.compile(r"\S{1,320}")
_MOST: Final = int(LIMITS["per_day"])
_SCOPES: Final = "https://www.googleapis.com/auth/"

# What requests and responses hold.

Limit = Annotated[int, Field(ge=0, le=_MOST)]
Days = Annotated[int, Field(ge=0, le=int(LIMITS["warm_up"]))]
Growth = Annotated[int, Field(ge=0, le=int(LIMITS["warm_up_growth"]))]
Gap = Annotated[float, Field(ge=0, le=MAX_GAP, allow_inf_nan=False)]


class PauseIn(RequestModel):
    """The body of `pause`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"for": 3600, "reason": "maintenance"}]}
    )

    lasts: Annotated[
        Annotated[int, Field(ge=1, le=MAX_PAUSE)] | None,
        Field(alias="for", description="seconds; absent: until it is resumed"),
    ] = None
    reason: Annotated[
        str,
        Field(min_length=1, max_length=senders.MAX_REASON, description="why, for people"),
        AfterValidator(one_name),
    ]


class SenderLimitsIn(RequestModel):
    """The limits to change; null: the configured default again."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"per_day": 1500, "reserve": None}]})

    units_per_minute: Annotated[
        Limit | None, Field(description="Google's quota units; 0: no limit")
    ] = None
    per_minute: Annotated[Limit | None, Field(description="messages per minute; 0: no limit")] = (
        None
    )
    per_day: Annotated[Limit | None, Field(description="messages in any 24 hours; 0: no limit")] = (
        None
    )
    reserve: Annotated[
        Limit | None, Field(description="messages of the day kept for the mailbox owner")
    ] = None
    min_gap: Annotated[Gap | None, Field(description="minimum seconds between two messages")] = None
    warm_up: Annotated[
        Days | None, Field(description="messages on the first day; 0: no warm-up")
    ] = None
    warm_up_growth: Annotated[
        Growth | None, Field(description="additional messages on each day after the first")
    ] = None


class SignedInOut(ResponseModel):
    """A mailbox's authorization at Google, as of the last request for a token; nothing is requested to show it."""

    state: Annotated[
        AuthorizationState,
        Field(
            description="missing: no credential file; refused: by Google; unusable: wrong file, mailbox or scopes; "
            "unknown: this daemon has not requested a token yet"
        ),
    ]
    scopes: Annotated[
        list[str], Field(description="the granted scopes", examples=[["gmail.compose"]])
    ]
    checked_at: Annotated[
        Moment | None, Field(description="when Google last responded; null: not known")
    ]

    @classmethod
    def of(cls, it: Authorization) -> Self:
        """What is known, as the API shows it."""
        return cls(
            state=it.state,
            scopes=[scope.removeprefix(_SCOPES) for scope in it.scopes],
            checked_at=it.checked_at,
        )


class SenderPauseOut(ResponseModel):
    """Why a sender sends nothing."""

    cause: Annotated[str, Field(description="manual, or what Google reported, such as daily_limit")]
    reason: Sentence
    until: Annotated[
        Moment | None, Field(description="when it ends; null: when it is resumed or fixed")
    ]
    remedy: Annotated[
        Sentence | None,
        Field(description="a command or a page that helps; null: waiting is enough"),
    ]


class SenderFindingOut(ResponseModel):
    """The worst that is known of a sender, as the console and `mailerd check` show it."""

    severity: Annotated[
        Severity, Field(description="red: nothing is sent; amber: late; blue: for information")
    ]
    code: Annotated[str, Field(description="the cause, for programs", examples=["day_full"])]
    text: Annotated[Sentence, Field(description="the finding as a sentence")]
    remedy: Annotated[
        Sentence | None, Field(description="a command or a page that helps; null: none")
    ]

    @classmethod
    def of(cls, it: Condition) -> Self:
        """A finding as the API shows it."""
        return cls(
            severity=it.severity, code=it.code, text=it.text, remedy=next(iter(it.remedies), None)
        )


class SenderLimitsOut(ResponseModel):
    """The limits of a sender; 0: no limit."""

    units_per_minute: Annotated[Whole, Field(description="Google's quota units per minute")]
    per_minute: Annotated[Whole, Field(description="messages per minute")]
    per_day: Annotated[Whole, Field(description="messages in any 24 hours")]
    reserve: Annotated[Whole, Field(description="messages of the day kept for the mailbox owner")]
    min_gap: Annotated[float, Field(ge=0, description="minimum seconds between two messages")]
    warm_up: Annotated[Whole, Field(description="messages on the first day of a warm-up")]
    warm_up_growth: Annotated[
        Whole, Field(description="additional messages on each day after the first")
    ]
    own: Annotated[
        list[str],
        Field(description="the limits that are its own; the others are the configured ones"),
    ]


class SenderDayOut(ResponseModel):
    """The last 24 hours. The oldest hour counts whole."""

    limit: Annotated[Whole | None, Field(description="after reserve and warm-up; null: no limit")]
    used: Annotated[Whole, Field(description="messages that count")]
    elsewhere: Annotated[
        Whole,
        Field(description="of these, those sent without mailerd, as far as the inbox is read"),
    ]
    left: Annotated[Whole | None, Field(description="a reading, not a promise; null: no limit")]
    next_free_at: Annotated[
        Moment | None, Field(description="when there is room again; null: there is room")
    ]


class SenderMinuteOut(ResponseModel):
    """The last 60 seconds."""

    limit: Annotated[Whole | None, Field(description="messages; null: no limit")]
    left: Annotated[
        Whole | None, Field(description="by the counts of two clock minutes; null: no limit")
    ]


class SenderInboxOut(ResponseModel):
    """How far a sender's inbox is read."""

    read_at: Annotated[
        Moment | None, Field(description="when it was last read to its end; null: never")
    ]
    behind_s: Annotated[Whole | None, Field(description="seconds since then; null: never")]


class SenderOut(ResponseModel):
    """A mailbox that messages are sent from."""

    email: Annotated[str, Field(description="the mailbox", examples=["me@example.com"])]
    aliases: Annotated[
        list[str],
        Field(
            description="its other addresses; for a limited key, those it names",
            examples=[["desk@example.com"]],
        ),
    ]
    mode: Annotated[Mode | None, Field(description="how it sends; null: nothing was sent yet")]
    signed_in: Annotated[SignedInOut, Field(description="its authorization")]
    state: Annotated[
        SenderActivity,
        Field(
            description="sending: a message was sent in the last minute, or the next one is sent within a minute; "
            "paused: `pause` says why, a broken authorization included; idle: neither"
        ),
    ]
    pause: Annotated[
        SenderPauseOut | None, Field(description="why nothing is sent; null: not paused")
    ]
    finding: Annotated[
        SenderFindingOut | None, Field(description="the worst finding; null: nothing is wrong")
    ]
    limits: Annotated[SenderLimitsOut, Field(description="its limits")]
    day: Annotated[SenderDayOut, Field(description="its last 24 hours")]
    minute: Annotated[SenderMinuteOut, Field(description="its last minute")]
    waiting: Annotated[Whole, Field(description="messages that wait in jobs that are not paused")]
    waiting_counted_to: Annotated[
        Whole,
        Field(
            description="`waiting` is exact below this number; above, there may be more",
            examples=[10_000],
        ),
    ]
    next_message_at: Annotated[
        Moment | None, Field(description="when the next message is sent; null: not known")
    ]
    done_at: Annotated[
        Moment | None, Field(description="when all of them are sent; null: not known")
    ]
    inbox: Annotated[SenderInboxOut, Field(description="its inbox")]

    @classmethod
    def of(cls, it: SenderReading, known: Authorization, aliases: Collection[str]) -> Self:
        """A sender as the API shows it. `known`: what this daemon knows of its authorization."""
        it = it.authorized(known)
        state, stats, pause = it.state, it.stats, it.pause
        behind = state.now - it.read_at if it.read_at else None
        return cls(
            email=state.email,
            aliases=sorted(aliases),
            mode=state.mode,
            signed_in=SignedInOut.of(it.authorization),
            state=it.activity,
            pause=SenderPauseOut.model_validate(pause) if pause else None,
            finding=SenderFindingOut.of(it.finding) if it.finding else None,
            limits=SenderLimitsOut(
                **{name: getattr(state.limits, name) for name in LIMITS}, own=sorted(state.own)
            ),
            day=SenderDayOut(
                limit=stats.per_day or None,
                used=stats.used_day,
                elsewhere=it.elsewhere,
                left=it.day.messages,
                next_free_at=it.day.next_at,
            ),
            minute=SenderMinuteOut(limit=stats.per_minute or None, left=it.left_of_minute),
            waiting=it.inputs.messages,
            waiting_counted_to=it.counted_to,
            next_message_at=it.forecast.starts_at,
            done_at=it.forecast.done_at,
            inbox=SenderInboxOut(
                read_at=it.read_at, behind_s=max(0, int(behind.total_seconds())) if behind else None
            ),
        )


class SendersOut(ResponseModel):
    """A page of senders, by address."""

    senders: Annotated[list[SenderOut], Field(description="the senders")]
    next_cursor: str | None


class SenderChangedOut(ResponseModel):
    """The result of a request to change a sender."""

    changed: Annotated[bool, Field(description="false: nothing to change")]
    sender: Annotated[SenderOut, Field(description="the sender after the request")]


class KeyOut(ResponseModel):
    """The API key of the request; its secret is not shown."""

    name: Annotated[str, Field(description="its name", examples=["shop"])]
    senders: Annotated[
        list[str] | None,
        Field(
            description="the addresses that it may send as; null: any",
            examples=[["me@example.com"]],
        ),
    ]
    permissions: Annotated[
        list[Permission],
        Field(description="all that it may do", examples=[["control", "read", "send"]]),
    ]
    per_minute: Annotated[
        Whole | None, Field(description="requests per minute to each daemon; null: no limit")
    ]


async def show_key(request: web.Request, key: ApiKey) -> web.Response:  # noqa: ARG001 - as every endpoint
    """The key that the request shows."""
    return json_response(
        KeyOut(
            name=key.name,
            senders=None if key.senders is None else sorted(key.senders),
            permissions=key.granted,
            per_minute=key.per_minute,
        )
    )


@dataclass(frozen=True)
class SenderEndpoints:
    """The handlers. `mailboxes` None: every address has a mailbox."""

    backend: Backend
    mailboxes: SenderResolver | None = None
    bodies: BodyReader = field(default_factory=lambda: BodyReader(max_body=MAX_BODY))

    def handlers(self) -> dict[str, KeyHandler]:
        """The handlers by the ids of their operations."""
        return {
            "listSenders": self.index,
            "getSender": self.show,
            "pauseSender": self.pause,
            "resumeSender": self.resume,
            "changeSender": self.change,
            "getKey": show_key,
        }

    @property
    def _senders(self) -> Senders:
        return Senders(self.backend.database, self.backend.limits.now, self.backend.timeout)

    async def _authorized(self) -> list[str]:
        """The mailboxes that have a credential file of their own, used or not."""
        if self.mailboxes is None:
            return []
        gmail = self.mailboxes.gmail
        try:
            async with asyncio.timeout(self.backend.timeout):
                owners = await asyncio.to_thread(lambda: gmail.credential_owners)
        except TimeoutError:
            return []
        return [it for it in owners if not it.startswith("@")]

    async def _authorizations(self, emails: Sequence[str]) -> list[Authorization]:
        """What is known of the authorization of each mailbox; the disk is asked in a thread, and
        not for ever.
        """
        ask = self.backend.authorization
        try:
            async with asyncio.timeout(self.backend.timeout):
                return await asyncio.to_thread(lambda: [ask(email) for email in emails])
        except TimeoutError:
            return [Authorization()] * len(emails)

    async def index(self, request: web.Request, key: ApiKey) -> web.Response:
        """A page of the senders that the key covers, by address."""
        with Query(request, allowed=("cursor", "limit")) as given:
            size, after = given.limit(default=20, most=MAX_PAGE), given.cursor(shape=_CURSOR) or ""
        names = await senders.covered(self._by(key))
        found = await self._senders.page(
            only=None if names is None else names.keys(),
            after=after,
            limit=size + 1,
            aliases=_unnamed(names),
            authorized=await self._authorized(),
        )
        shown = await self._shown(found[:size], key)
        return json_response(
            SendersOut(senders=shown, next_cursor=shown[-1].email if len(found) > size else None)
        )

    async def show(self, request: web.Request, key: ApiKey) -> web.Response:
        """One sender."""
        given, names = _address(request), await senders.covered(self._by(key))
        if names is not None and given not in names:
            raise _missing()
        return json_response(await self._one(self.backend.aliases.get(given, given), key, names))

    async def pause(self, request: web.Request, key: ApiKey) -> web.Response:
        """Send nothing for a while, or until it is resumed."""
        found = await self._find(request, key)
        asked = read_model(PauseIn, await self._body(request, key))
        lasts = None if asked.lasts is None else timedelta(seconds=asked.lasts)
        done = await senders.pause(self._by(key), found, lasts=lasts, reason=asked.reason)
        return await self._changed(found, key, changed=done.changed)

    async def resume(self, request: web.Request, key: ApiKey) -> web.Response:
        """End a pause, whatever its cause."""
        found = await self._find(request, key)
        read_model(NothingIn, await self._body(request, key))
        before = await senders.resume(self._by(key), found)
        return await self._changed(found, key, changed=before is not None and before.paused)

    async def change(self, request: web.Request, key: ApiKey) -> web.Response:
        """Change the limits that are given."""
        found = await self._find(request, key)
        async with self.bodies.read(request, key) as raw:
            asked: dict[str, Any] = read_model(SenderLimitsIn, parse(raw)).model_dump(
                exclude_unset=True
            )
        if not asked:
            return await self._changed(found, key, changed=False)
        try:
            _, changed = await senders.change_limits(self._by(key), found, asked)
        except ReserveError as error:
            fields = {"per_day", "reserve"} & asked.keys() or asked.keys()
            raise invalid([FieldError(name, str(error)) for name in sorted(fields)]) from None
        return await self._changed(found, key, changed=changed)

    async def _find(self, request: web.Request, key: ApiKey) -> senders.Mailbox:
        try:
            return await senders.find(self._by(key), _address(request))
        except senders.UnknownSenderError:
            raise _missing() from None

    async def _changed(self, email: str, key: ApiKey, *, changed: bool) -> web.Response:
        names = await senders.covered(self._by(key))
        return json_response(
            SenderChangedOut(changed=changed, sender=await self._one(email, key, names))
        )

    async def _one(self, email: str, key: ApiKey, names: Mapping[str, str] | None) -> SenderOut:
        """One sender that the key covers; one that is authorized and was never used, as its
        defaults are.

        Raises:
            ApiError: 404, there is none.
        """
        found = await self._senders.page(only=[email], limit=1, aliases=_unnamed(names))
        if not found:
            if not await senders.is_authorized(self._by(key), email):
                raise _missing()
            found = [await self._senders.unused(email, aliases=_unnamed(names))]
        return (await self._shown(found, key))[0]

    async def _shown(self, found: Sequence[SenderReading], key: ApiKey) -> list[SenderOut]:
        emails = [it.state.email for it in found]
        known = await self._authorizations(emails)
        aliases = {
            email: [
                name
                for name, box in self.backend.aliases.items()
                if box == email and key.may_send(name)
            ]
            for email in emails
        }
        return [
            SenderOut.of(it, each, aliases[it.state.email])
            for it, each in zip(found, known, strict=True)
        ]

    def _by(self, key: ApiKey) -> Caller:
        return Caller(self.backend, Via.API, f"key:{key.name}", key)

    async def _body(self, request: web.Request, key: ApiKey) -> Mapping[str, Any]:
        async with self.bodies.read(request, key) as raw:
            return parse(raw) if raw else {}


def _address(request: web.Request) -> str:
    """The address in the path.

    Raises:
        ApiError: 422, it is none.
    """
    try:
        return mailbox(request.match_info["email"])
    except ValueError as error:
        raise invalid([FieldError("email", str(error))]) from None


def _unnamed(names: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if names is None else {box: aliases for box, aliases in names.items() if aliases}


def _missing() -> ApiError:
    return not_found(
        t("no sender has this address, or the key does not cover it; see GET /api/senders")
    )
