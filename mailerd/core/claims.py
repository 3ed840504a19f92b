"""A message on its way: how it is claimed, handed over, and what its attempt came to."""

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

from mailerd.core.copies import Copy
from mailerd.core.decisions import Decision, Pause
from mailerd.core.states import Proof, State, Transition
from mailerd.core.suppression import EVERYTHING, Reason

Mode = Literal["draft", "direct"]


ALONE_AFTER: Final = 3
"""Crashes of daemons in a row after which a message that was in flight in all of them is tried
alone.
"""


FAILED_AFTER_ALONE: Final = 3
"""Crashes with nothing else in flight after which it is failed: one may be a kill from outside."""


def message_key(job_id: str, seq: int) -> str:
    """X-Mailerd-Key of the message at a place of a job."""
    return f"{job_id}-{seq}"


@dataclass(frozen=True)
class ClaimedRecipient:
    """One claimed recipient."""

    id: int
    job_id: str
    seq: int
    sender: str
    to_email: str
    to_name: str | None
    variables: str | None
    """The recipient's own variables, as JSON."""
    attempt: int
    """The number of this attempt: 1 is the first, and this claim is counted."""
    token: str
    draft_id: str | None = None
    thread_id: str | None = None
    unanswered: bool = False
    """An earlier drafts.send of this draft had no answer, so that it may have been carried out."""
    checks: int = 0
    """How often it was checked at Google since a send of this draft had no answer."""
    error: str | None = None
    """What was wrong with its last attempt."""
    pauses: int = 0
    """How often the sender has met its daily limit since its last success."""
    probing: bool = False
    """The sender was paused before; a success of this message ends that."""
    sender_mode: Mode | None = None
    """How the sender's row says that it sends."""
    sender_project: str | None = None
    """The Cloud project that the sender's row names."""
    latency_threshold: float = math.inf
    """Seconds from its claim to Google's answer above which the sender's row has to know; see
    core/rate_limit.py.
    """
    hour: datetime | None = None
    """The hour that was debited for it: if it comes back unsent, it is refunded to that hour."""
    digest: bytes | None = None
    """The digest of its address, by which suppressions are found."""
    copies: tuple[Copy, ...] = ()
    """Who gets a copy of it."""
    copies_cost: int = 0
    """What its copies cost of the sender's day, beside the one of the message."""
    barred: tuple[Copy, ...] = ()
    """The copies that must not be sent: its draft, which may name them, is replaced by one without
    them.
    """
    proof: str = ""
    """Its header X-Mailerd-Proof: see core/message_proof.py."""
    list_id: int = EVERYTHING
    """The list of its job; 0: the job has none."""
    overrides: bool = False
    """Its job goes also to who has opted out; a hard bounce binds it all the same."""
    suppressed: Reason | None = None
    """Why it must not be sent, as the claim found it; None: it may be sent."""
    headers: str | None = None
    """Headers of its own, as JSON."""
    is_new: bool = False
    """The claim found nothing in the log of attempts: no worker has ever asked Google for anything
    about it.
    """

    @property
    def key(self) -> str:
        """X-Mailerd-Key: the same for every attempt, different for every recipient of every job."""
        return message_key(self.job_id, self.seq)

    @property
    def digests(self) -> tuple[bytes, ...]:
        """The digests of all its addresses."""
        return (self.digest or b"", *(it.digest for it in self.copies))

    def without_draft(self) -> "ClaimedRecipient":
        """The message as it is to be made: without a draft, and without the copies that must not be
        sent.
        """
        copies = tuple(it for it in self.copies if it not in self.barred)
        return replace(self, draft_id=None, thread_id=None, copies=copies, barred=())


@dataclass(frozen=True)
class ClaimedJob:
    """A job of which a claim took messages."""

    id: str
    type: str
    sender: str
    total: int
    age: float = 0.0
    """Seconds since the job was accepted, or since its send_at."""
    begun: bool = False
    """Whether messages of it were claimed before."""
    list_id: int = EVERYTHING
    """The list that its recipients can leave; 0: it has none."""
    overrides: bool = False
    """It goes also to who has opted out; a hard bounce binds it all the same."""
    copy_list: str | None = None
    """Who gets a copy of its messages, as its row has it."""


@dataclass(frozen=True)
class Claim:
    """What one transaction took."""

    token: str
    messages: tuple[ClaimedRecipient, ...]
    jobs: tuple[ClaimedJob, ...]
    next_in: float | None = None
    """Seconds until the next sender's turn, when fewer than wanted were due; None: nothing waits
    anywhere.
    """
    alone: int | None = None
    """A recipient that is due and may have crashed several daemons: it was left, and is to be
    claimed by itself.
    """
    exhausted: tuple[str, ...] = ()
    """Jobs of which no message waits any more and none was taken: they may have ended, as where
    everybody opted out.
    """


def mode_of(draft_id: str | None) -> Mode:
    """How a message is handed over, by its draft or without one."""
    return "direct" if draft_id is None else "draft"


@dataclass(frozen=True)
class Handover:
    """Is recorded before Google is asked to send a message, or to delete its draft, which the
    message names.
    """

    message: ClaimedRecipient
    project: str | None = None
    """The Cloud project whose quota the sender uses, as its credentials tell."""
    discarding: bool = False
    """Google refused the message, and its draft is deleted next."""
    pause: Pause | None = None
    """The pause of the sender that this refusal causes: nothing more of it is claimed meanwhile."""

    @property
    def mode(self) -> Mode:
        """How it is handed over."""
        return mode_of(self.message.draft_id)


@dataclass(frozen=True)
class Outcome:
    """Is recorded after an attempt."""

    message: ClaimedRecipient
    decision: Decision
    took: float = 0.0
    """Seconds from its claim until it is recorded, which is when Google has answered."""

    @property
    def attempt(self) -> int:
        """The number of the attempt: a claim that asked Google for nothing is none, and belongs to
        the one before.
        """
        return self.message.attempt - self.decision.untried


Record = Handover | Outcome


class WriteResult(StrEnum):
    """What the row did with a record."""

    APPLIED = "applied"
    """The row took it."""
    CANCELLED = "cancelled"
    """The row took it, came back unsent into a cancelled job, and is cancelled with it."""
    RESOLVED = "resolved"
    """Google's answer to a worker whose claim had ended, this one or a former one, has made the row
    `sent`.
    """
    IN_DOUBT = "in_doubt"
    """A hand-over is refused: a former claim does not know whether the message was sent, and the
    row is unsure now.
    """
    STALE = "stale"
    """The claim had ended: another worker decides about the message."""
    LOCKED = "locked"
    """Another transaction holds rows that it changes: nothing is written, and it comes again."""
    SUPPRESSED = "suppressed"
    """The address has opted out: the hand-over was not written, and Google is not asked to send."""
    STOPPED = "stopped"
    """Its job is paused or cancelled, or its sender was paused by a person: it is not handed
    over.
    """
    COPY_SUPPRESSED = "copy_suppressed"
    """The address of a copy is suppressed: the hand-over was not written, and the message is made
    without that copy.
    """


@dataclass(frozen=True)
class ExpiredClaim:
    """A row whose lease ran out, as the recovery found it, and its new state."""

    id: int
    job_id: str
    sender: str
    to_email: str
    attempt: int
    token: str
    """The token of the claim that has ended."""
    daemon_id: str | None
    status: State
    """The new state: unsure if it was handed over; else waiting, failed or cancelled with its
    job.
    """
    error: str
    look_in: timedelta
    """How long until it is checked at Google, where it is unsure."""
    done: int = 0
    """If it is failed: how many messages of its job are finished, itself included."""
    total: int = 0
    """If it is failed: how many messages its job has."""


@dataclass(frozen=True)
class UnresolvedSend:
    """An unsure row that is taken for a check at Google."""

    id: int
    job_id: str
    seq: int
    sender: str
    to_email: str
    token: str
    attempt: int
    checks: int
    mode: Mode | None
    draft_id: str | None
    thread_id: str | None
    unanswered: bool
    """A drafts.send of this draft had no answer. Otherwise Google has refused every one."""
    discarding: bool
    """Its worker was deleting the draft; it is not known whether the draft was deleted."""
    known_message_id: str | None
    """The message id that Google answered to a worker whose claim had ended, from the log of
    attempts.
    """
    nothing_found_for: timedelta | None
    """The time since a check read the sent mail and did not find it; None: no check has.

    Failed ones do not count.
    """
    since: datetime
    """It cannot have been sent before this time: Google had not been asked, or its job did not
    exist.
    """
    came_back: frozenset[str] = frozenset()
    """The ids of its messages that came back, by a limit notice or as a bounce that is retried.

    They have its key.
    """

    @property
    def key(self) -> str:
        """X-Mailerd-Key of the message."""
        return message_key(self.job_id, self.seq)


@dataclass(frozen=True)
class Resolution:
    """The result of a check: a transition, or None if the message is still unsure."""

    message: UnresolvedSend
    transition: Transition | None
    error: str | None = None
    message_id: str | None = None
    thread_id: str | None = None
    proof: Proof | None = None
    """What proves that it was sent."""
    forgets: bool = False
    """Whether Google has neither the draft nor the message: another try makes a new draft."""
    nothing_found: bool = False
    """Whether the sent mail was read, and the message is not there."""
    retry_in: timedelta | None = None
    """The time until the next check.

    None, without a transition: no check follows, a person has to resolve it.
    """
