"""`/api/recipients/{id}`: the history of one message, and what a person confirms of it."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final, Literal, Self

from aiohttp import web
from pydantic import Field, model_validator

from mailerd.core.claims import ClaimedRecipient
from mailerd.core.i18n import t
from mailerd.core.states import State
from mailerd.events.actions import Via
from mailerd.http.auth import KeyHandler, KeyShares
from mailerd.http.errors import ApiError
from mailerd.http.requests import BodyReader
from mailerd.http.responses import json_response, not_found
from mailerd.intake.read_jobs import MAX_BODY, PersonsMessageOut
from mailerd.intake.request_models import NothingIn
from mailerd.intake.response_models import AddressOut, ResultOut
from mailerd.intake.strict_json import parse
from mailerd.mail.mime import Envelope, shown_headers
from mailerd.mail.templates import Content, RenderError, TemplateErrors
from mailerd.model.fields import Moment, ResponseModel, Sentence, Whole
from mailerd.operations import messages
from mailerd.operations.caller import Backend, Caller
from mailerd.operations.inputs import RequestModel, read_model
from mailerd.operations.messages import UnknownMessageError
from mailerd.store.inbox.mailboxes import NoticeReader
from mailerd.store.queue.recovery import NotUnsureError
from mailerd.store.read import describe
from mailerd.store.read.forecast_inputs import ForecastReader, read_queue
from mailerd.store.read.history import HistoryReader, RecipientHistory
from mailerd.store.read.previews import ForgottenError, read_attached, read_message
from mailerd.store.write.api_keys import ApiKey
from mailerd.store.write.job_actions import NotWaitingError

Preview = Callable[[ClaimedRecipient, str], Awaitable[tuple[Content, Envelope]]]
"""Makes a message for a person who only looks; the text says who."""
_ROW_ID: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


class AttemptOut(ResponseModel):
    """A line of a message's log of attempts."""

    at: Moment
    attempt: Annotated[Whole, Field(description="the attempt that it is about")]
    event: Annotated[
        str, Field(description="what happened: sent, failed, deferred, lost, found, missing, …")
    ]
    daemon: Annotated[str, Field(description="the ID of the daemon")]
    draft_id: Annotated[str | None, Field(description="its draft at Google; null: none")]
    message_id: str | None
    error: Sentence | None


class ExplainedMessage(PersonsMessageOut):
    """A message as in `GET /api/recipients`, its log of attempts, and the sentences of `mailerd
    explain`.
    """

    log: Annotated[
        list[AttemptOut], Field(description="the first and the last lines, oldest first")
    ]
    log_left_out: Annotated[Whole, Field(description="lines between those")]
    story: Annotated[
        list[Sentence],
        Field(description="what happened, why it waits and what comes next; the words may change"),
    ]

    @classmethod
    def of(cls, it: RecipientHistory, story: Sequence[str]) -> Self:
        """A message; `story`: its sentences."""
        result = None
        if it.result and it.result_at:
            result = ResultOut(
                state=it.result,
                kind=it.result_kind,
                code=it.result_code,
                reason=it.result_reason,
                at=it.result_at,
            )
        return cls(
            id=it.id,
            index=it.index,
            email=it.to_email,
            name=it.name,
            status=it.status,
            attempts=it.attempts,
            error=it.error,
            message_id=it.message_id,
            proof=it.proof,
            due_at=it.due_at,
            sent_at=it.sent_at,
            updated_at=it.updated_at,
            result=result,
            metadata=dict(it.metadata),
            job_id=it.job_id,
            **{
                header: [
                    AddressOut.model_validate(each) for each in it.copies if each.header == header
                ]
                for header in ("cc", "bcc")
            },
            sender_email=it.from_address or it.sender,
            job_type=it.job_type,
            log=[AttemptOut.model_validate(each) for each in it.log],
            log_left_out=it.left_out,
            story=list(story),
        )


class NoticeOut(ResponseModel):
    """Received mail about the message: a bounce, a reply, an unsubscribe request."""

    kind: Annotated[
        str, Field(description="hard, soft, blocked, unknown, reply, auto_reply, unsubscribe, …")
    ]
    code: Annotated[
        str | None,
        Field(
            description="the enhanced status code (RFC 3463), such as 5.1.1; null: not a bounce, or it has none"
        ),
    ]
    detail: Annotated[
        str | None, Field(description="the text of the notice; null: not a bounce, or it has none")
    ]
    believed: Annotated[
        bool, Field(description="false: it does not prove that it is about this message")
    ]
    at: Moment


class RecipientHistoryOut(ExplainedMessage):
    """A message, its whole history, and what was received about it."""

    notices: Annotated[
        list[NoticeOut], Field(description="oldest first; empty: none, or the inbox is not read")
    ]
    suppressed: Annotated[
        Sentence | None,
        Field(description="why it will be cancelled at its turn; null: it is not suppressed"),
    ]


class AttachedOut(ResponseModel):
    """A file that a message carries."""

    filename: Annotated[str, Field(description="its name")]
    content_type: Annotated[str, Field(description="its type", examples=["application/pdf"])]
    content_id: Annotated[
        str | None, Field(description="what its HTML calls it; null: it is attached")
    ]
    size: Annotated[Whole, Field(description="its bytes")]
    sha256: Annotated[str, Field(description="the digest of its content, in hexadecimal digits")]


class MessageContentOut(ResponseModel):
    """A message as its recipient reads it."""

    recipient_id: Annotated[int, Field(description="the ID of the message")]
    job_id: str
    made: Annotated[
        Literal["again"],
        Field(
            description="again: it was rendered for this response from what the job keeps, with the addresses as posted"
        ),
    ]
    sent_at: Moment | None
    subject: str
    html: Annotated[str | None, Field(description="null: it is plain text")]
    text: str
    headers: Annotated[
        dict[str, str],
        Field(
            description="without Subject, Date, Message-ID and those of MIME; unsubscribe links do nothing",
            examples=[{"From": "me@example.com", "To": "Ada <ada@example.com>"}],
        ),
    ]
    attachments: Annotated[list[AttachedOut], Field(description="without their contents")]


class SettleIn(RequestModel):
    """What a person found out in the mailbox about a message whose send was not confirmed."""

    sent: Annotated[
        bool,
        Field(
            description="true: it is in Sent; false: it is not, and is sent again", examples=[True]
        ),
    ]
    attempt: Annotated[
        int,
        Field(
            ge=1,
            description="`attempts` of the message when you checked: after a later attempt you get a 409",
        ),
    ]
    message_id: Annotated[
        str | None,
        Field(
            pattern=r"^[\x21-\x7e]{1,128}$",
            description="with `sent`: true, Google's ID of the message",
        ),
    ] = None

    @model_validator(mode="after")
    def _only_of_a_sent_one(self) -> Self:
        if self.message_id and not self.sent:
            raise ValueError(t('"message_id" is allowed only with "sent": true'))
        return self


class SettledOut(ResponseModel):
    """The confirmed message."""

    recipient_id: Annotated[int, Field(description="the ID of the message")]
    job_id: str
    status: Annotated[State, Field(description="waiting: it is sent again; cancelled: its job was")]


class CancelledOut(ResponseModel):
    """A message that is cancelled."""

    recipient_id: Annotated[int, Field(description="the ID of the message")]
    job_id: str
    changed: Annotated[bool, Field(description="false: it was cancelled before")]


class RecipientEndpoints:
    """The endpoints."""

    def __init__(
        self, backend: Backend, *, forecasts: ForecastReader, preview: Preview, shares: KeyShares
    ) -> None:
        self._backend = backend
        self._database, self._timeout = backend.database, backend.timeout
        self._history = HistoryReader(self._database, self._timeout)
        self._notices = NoticeReader(self._database, timeout=self._timeout)
        self._forecasts = forecasts
        self._preview, self._shares = preview, shares
        self._bodies = BodyReader(max_body=MAX_BODY)

    def handlers(self) -> dict[str, KeyHandler]:
        """Each by the id of its operation."""
        return {
            "getRecipient": self.story,
            "getRecipientMessage": self.message,
            "settleRecipient": self.settle,
            "cancelRecipient": self.cancel,
        }

    async def story(self, request: web.Request, key: ApiKey) -> web.Response:
        """One message."""
        it = await self._found(request, key)
        queue = await read_queue(
            [it],
            history=self._history,
            forecasts=self._forecasts,
            outage=self._database.outage,
            runs=True,
        )
        explained = ExplainedMessage.of(it, describe.of_message(it, queue))
        notices = [NoticeOut.model_validate(each) for each in await self._notices.of_message(it.id)]
        return json_response(
            RecipientHistoryOut(
                **dict(explained), notices=notices, suppressed=queue.suppressed.get(it.id)
            )
        )

    async def message(self, request: web.Request, key: ApiKey) -> web.Response:
        """One message, rendered again; nothing is sent."""
        story = await self._found(request, key)
        try:
            it = await read_message(self._database, story.id, bound=self._timeout)
        except ForgottenError as error:
            raise ApiError(410, "contents_deleted", str(error)) from None
        if it is None:  # pruned meanwhile
            raise not_found(t("no recipient has this ID"))
        async with self._shares.checks.place(key):
            try:
                content, envelope = await self._preview(it, f"key {key.name}")
                headers = shown_headers(content.subject, envelope)
            except (RenderError, TemplateErrors, ValueError) as error:
                raise ApiError(
                    409,
                    "conflict",
                    t("the message cannot be rendered now: {cause}", cause=str(error)),
                ) from None
        made = MessageContentOut(
            recipient_id=it.id,
            job_id=it.job_id,
            made="again",
            sent_at=story.sent_at,
            subject=content.subject,
            html=content.html,
            text=content.text,
            headers=headers,
            attachments=[
                AttachedOut(
                    filename=each.filename,
                    content_type=each.content_type,
                    content_id=each.content_id,
                    size=each.size,
                    sha256=each.digest.hex(),
                )
                for each in await read_attached(self._database, it, bound=self._timeout)
            ],
        )
        return await asyncio.to_thread(json_response, made)

    async def settle(self, request: web.Request, key: ApiKey) -> web.Response:
        """Record what a person has seen in the mailbox."""
        it = await self._found(request, key)
        async with self._bodies.read(request, key) as raw:
            asked = read_model(SettleIn, parse(raw) if raw else {})
        try:
            done = await messages.settle(self._by(key), it, **asked.model_dump())
        except NotUnsureError as error:
            raise ApiError(409, "conflict", str(error)) from None
        return json_response(SettledOut(recipient_id=it.id, job_id=it.job_id, status=done.status))

    async def cancel(self, request: web.Request, key: ApiKey) -> web.Response:
        """Cancel one message that waits."""
        it = await self._found(request, key)
        async with self._bodies.read(request, key) as raw:
            read_model(NothingIn, parse(raw) if raw else {})
        try:
            done = await messages.cancel(self._by(key), it)
        except NotWaitingError as error:
            raise ApiError(409, "conflict", str(error)) from None
        return json_response(
            CancelledOut(recipient_id=it.id, job_id=it.job_id, changed=done.changed)
        )

    def _by(self, key: ApiKey) -> Caller:
        return Caller(self._backend, Via.API, f"key {key.name}", key)

    async def _found(self, request: web.Request, key: ApiKey) -> RecipientHistory:
        """The message of the path.

        Raises:
            ApiError: 404, there is none that the key may see.
        """
        id_ = request.match_info["id"]
        try:
            return await messages.find(self._by(key), int(id_) if _ROW_ID.fullmatch(id_) else 0)
        except UnknownMessageError:
            raise not_found(t("no recipient has this ID")) from None
