"""What the inbox reader has found: values that the reader makes and the store writes."""

from dataclasses import dataclass, field
from datetime import datetime

from mailerd.core import copies
from mailerd.core.notices import Classification
from mailerd.core.results import Consequence, Step
from mailerd.core.suppression import AddedSuppression


@dataclass(frozen=True)
class SentMessage:
    """A row that was handed to Google, as far as received mail can be matched with it."""

    id: int
    job_id: str
    seq: int
    to_email: str
    sender: str
    status: str
    thread_id: str | None
    message_id: str | None
    came_back: bool
    """An earlier sending of it came back: what is about that one says nothing about the present
    one.
    """
    copy_list: str | None = None
    """Who gets a copy of it, as its row or its job has it."""
    from_address: str | None = None
    """What its From said: whose message it is."""

    @property
    def copies(self) -> tuple[str, ...]:
        """The addresses of its copies."""
        return tuple(it.email for it in copies.from_json(self.copy_list)) if self.copy_list else ()


@dataclass(frozen=True)
class BouncedCopy:
    """A copy that bounced: the message's own result is another matter."""

    email: str
    meaning: Classification
    step: Step


@dataclass(frozen=True)
class Finding:
    """Received mail that concerns a message."""

    gmail_id: str
    thread_id: str
    at: datetime
    """When the mail came, by Google's clock."""
    message: SentMessage | None
    """The message that it concerns. None: its row is pruned; an unsubscribe counts all the same."""
    meaning: Classification
    consequence: Consequence
    unsubscribes: tuple[int, bytes] | None = None
    """The list that a token names, and the digest of the address."""
    copies: tuple[BouncedCopy, ...] = ()
    """The copies of the message that bounced, by what it says."""

    @property
    def about(self) -> str:
        """The address that it is about."""
        only_copy = self.copies and self.consequence.result is None
        return self.copies[0].email if only_copy else self.message.to_email if self.message else ""


@dataclass(frozen=True)
class SentElsewhere:
    """Sent mail of the mailbox that mailerd did not send."""

    gmail_id: str
    thread_id: str
    at: datetime


@dataclass(frozen=True)
class PassedOver:
    """Received mail that could not be read, again and again."""

    gmail_id: str
    thread_id: str
    cause: str
    at: datetime


Found = Finding | SentElsewhere | PassedOver


@dataclass(frozen=True)
class InboxCursor:
    """How far a mailbox is read."""

    history_id: int | None
    internal_date: int | None
    """The moment up to which all is read, in milliseconds since 1970."""
    waiting_from: int | None = None
    """The history id behind which mail waits to be examined that stands in no thread of ours; None:
    none does.
    """


@dataclass(frozen=True)
class InboxLease:
    """One daemon's turn at a mailbox."""

    email: str
    token: str
    cursor: InboxCursor
    now: datetime
    """The time of the lease, by the database's clock."""
    idle: bool
    """No message of the sender waits for units: it has none, or is paused."""
    units_per_minute: int
    """The units that the sender may use in a minute; 0: no limit."""
    spent: tuple[tuple[datetime, int], ...]
    """When each of the last rounds ended, and the units that it used."""
    today: int
    """The units that the rounds of the last 24 hours have used."""
    scope: str
    failing_id: str | None
    failures: int


@dataclass(frozen=True)
class UndoneByLimit:
    """A message that Google gave back."""

    message: SentMessage
    cancelled: bool
    """Its job was cancelled meanwhile, and so is the message."""


@dataclass(frozen=True)
class BadList:
    """A job of which too much came back."""

    job: str
    sender: str
    reason: str
    paused: bool
    """Whether the job is paused now; else people are warned."""


@dataclass
class Written:
    """What a batch of findings has changed."""

    fresh: list[Found] = field(default_factory=list)
    """The findings that were not known before."""
    changed: list[Finding] = field(default_factory=list)
    """The findings among `fresh` that gave a message its result."""
    undone: list[UndoneByLimit] = field(default_factory=list)
    suppressed: list[AddedSuppression] = field(default_factory=list)
    bad_lists: list[BadList] = field(default_factory=list)
    paused: list[tuple[str, str, float]] = field(default_factory=list)
    """Cause, reason and seconds of each pause of the sender."""
