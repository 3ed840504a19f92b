"""What the API says of recipients: where a letter stands, and what became of it."""

from typing import Annotated

from pydantic import Field

from mailerd.core.fates import Fate
from mailerd.core.states import Proof, State
from mailerd.intake.response_models import Moment, ResponseModel, Whole


class FateOut(ResponseModel):
    """What became of a letter after it was sent, as the sender's inbox tells."""

    state: Annotated[Fate, Field(description="what the sender's inbox says of the letter")]
    kind: Annotated[str | None, Field(description="of a bounce: hard, soft, blocked or unknown")]
    code: Annotated[str | None, Field(description="of a bounce: the enhanced status code (RFC 3463), such as 5.1.1")]
    reason: Annotated[str | None, Field(description="of a bounce: in the words of the notice")]
    at: Moment


class RecipientOut(ResponseModel):
    """A recipient and where its letter stands."""

    id: int
    email: str
    name: str | None
    status: State
    attempts: Whole
    error: str | None
    message_id: str | None
    proof: Annotated[Proof | None, Field(description="what speaks for `sent`; null while it is not sent")]
    due_at: Moment
    sent_at: Moment | None
    updated_at: Moment
    fate: Annotated[
        FateOut | None, Field(description="null: nothing was heard of it, or the sender's inbox is not read")
    ]


class RecipientsOut(ResponseModel):
    """A page of recipients, in the order of the request."""

    recipients: list[RecipientOut]
    next_cursor: str | None
