"""Suppressions: an address that gets no messages, of one list or at all; and the lists that people
can leave.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from mailerd.core import owners
from mailerd.core.owners import Owners
from mailerd.core.suppression import EVERYTHING, Channel, Reason
from mailerd.model.fields import HIDDEN, Moment, ResponseModel, Sql, Whole

Place = tuple[datetime, bytes, int, str]
"""Where a suppression stands in the order of all: when it was made, its digest, its list and its
origin.
"""


class Suppression(ResponseModel):
    """A suppressed address."""

    email: Annotated[
        str | None, Sql("s.address"), Field(description="null: the person was deleted")
    ]
    list: Annotated[str | None, Sql("l.name"), Field(description="null: all messages")]
    reason: Annotated[Reason, Sql("s.reason")]
    source: Annotated[Channel, Sql("s.source")]
    detail: Annotated[str | None, Sql("s.detail")]
    actor: Annotated[
        str | None,
        Sql("s.actor"),
        Field(description="who requested it: the name of a key or a person; null: unknown"),
    ]
    origin: Annotated[
        str,
        Sql("s.origin"),
        Field(
            description="whose it is: the sender by whose message it came, or key:ID of a key for some senders; empty: "
            "of keys for all senders"
        ),
    ]
    created_at: Annotated[Moment, Sql("s.created_at")]
    digest: Annotated[bytes, Sql("s.digest", read=bytes), *HIDDEN] = b""
    list_id: Annotated[int, Sql("s.list_id"), *HIDDEN] = EVERYTHING

    @property
    def place(self) -> Place:
        """Its place in the order of all suppressions."""
        return self.created_at, self.digest, self.list_id, self.origin

    @property
    def shown_address(self) -> str:
        """The address, or what stands for it where the person was deleted."""
        return self.email or self.digest.hex()

    @property
    def is_wish(self) -> bool:
        """Whether a person has asked for no messages at all."""
        return self.list_id == EVERYTHING and self.reason is Reason.UNSUBSCRIBED


class SuppressionPage(ResponseModel):
    """A page of suppressions, oldest first."""

    suppressions: list[Suppression]
    next_cursor: str | None


class SuppressedAddresses(ResponseModel):
    """The result of a request to suppress."""

    total: Whole
    added: Annotated[
        Whole, Field(description="how many of them are new; another key's are not counted")
    ]
    changed: Annotated[Whole, *HIDDEN] = 0
    """How many are new, or have a stronger reason now."""


class RemovedSuppression(ResponseModel):
    """The suppression was removed."""

    removed: Literal[True]
    still_suppressed: Annotated[
        bool,
        Field(description="another suppression keeps the same messages from the address still"),
    ]


class MailingList(ResponseModel):
    """A list that people can leave."""

    name: Annotated[str, Sql("name")]
    title: Annotated[str | None, Sql("title")]
    created_at: Annotated[Moment, Sql("created_at")]
    id: Annotated[int, Sql("id"), *HIDDEN] = EVERYTHING
    senders: Annotated[Owners, Sql("senders", read=owners.from_row), *HIDDEN] = None
    """Whose it is."""

    @property
    def shown(self) -> str:
        """The name that people read."""
        return self.title or self.name


class MailingLists(ResponseModel):
    """The lists that the key may use, by name."""

    lists: list[MailingList]
