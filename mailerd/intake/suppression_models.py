"""The answers about suppressions and mailing lists as models."""

from typing import Annotated, Literal

from pydantic import Field

from mailerd.core.suppression import Channel, Reason
from mailerd.intake.response_models import Moment, ResponseModel, Whole
from mailerd.store.suppressions import Suppression


class SuppressionOut(ResponseModel):
    """That an address gets no letters."""

    email: Annotated[str | None, Field(description="null once the person was forgotten")]
    list: Annotated[str | None, Field(description="null: no letters at all")]
    reason: Reason
    source: Channel
    detail: str | None
    actor: str | None
    created_at: Moment

    @classmethod
    def of(cls, it: Suppression) -> "SuppressionOut":
        """One as the API shows it."""
        return cls(
            email=it.address, list=it.list_name, reason=it.reason, source=it.source, detail=it.detail, actor=it.actor,
            created_at=it.created_at,
        )  # fmt: skip


class SuppressionsOut(ResponseModel):
    """A page of them, the oldest first."""

    suppressions: list[SuppressionOut]
    next_cursor: str | None


class SuppressedOut(ResponseModel):
    """What a request has suppressed."""

    total: Whole
    added: Annotated[Whole, Field(description="those that were not suppressed before")]


class RemovedOut(ResponseModel):
    """A suppression has ended."""

    removed: Literal[True]


class ListOut(ResponseModel):
    """What a person can leave."""

    name: str
    title: str | None
    created_at: Moment


class ListsOut(ResponseModel):
    """Every list, by name."""

    lists: list[ListOut]
