"""Values that pass between the layers: claimed messages, what is to be written about them, and what an inbox had."""

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Final, Literal, NamedTuple

from mailerd.core import copies, rate_limit
from mailerd.core.copies import Copy
from mailerd.core.decisions import Decision, Pause
from mailerd.core.notices import Classification
from mailerd.core.rate_limit import SenderLimits
from mailerd.core.reasons import cause_code
from mailerd.core.results import Consequence, Step
from mailerd.core.states import Proof, State, Transition
from mailerd.core.suppression import EVERYTHING, AddedSuppression, Reason

# What the inbox reader has found: values that the reader makes and the store writes.


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
    """An earlier sending of it came back: what is about that one says nothing about the present one."""
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
    """The history id behind which mail waits to be examined that stands in no thread of ours; None: none does."""


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


# The proof that a message of ours came back: a header that only its own recipient has seen.
#
# X-Mailerd-Key counts a job's messages through, so each recipient knows the keys of all others. The proof is a MAC of
# the
# key: a person who has one message can make no other message's.

PROOF_HEADER: Final = "X-Mailerd-Proof"
_LABEL: Final = b"X-Mailerd-Proof\x00"
"""No address begins so: the same secret makes the digests of addresses."""
_PROOF_BYTES: Final = 16
PROOF_LENGTH: Final = (8 * _PROOF_BYTES + 5) // 6
"""Characters of a proof: base64 has six bits in each."""


def proof_of(key: str, secret: bytes) -> str:
    """What stands in X-Mailerd-Proof of the message with this X-Mailerd-Key: PROOF_LENGTH characters of base64url."""
    mac = hmac.digest(secret, _LABEL + key.encode("utf-8"), hashlib.sha256)[:_PROOF_BYTES]
    return base64.urlsafe_b64encode(mac).decode("ascii").rstrip("=")


def is_proof(said: str, key: str, secret: bytes) -> bool:
    """Whether `said` is the proof that belongs to the key."""
    return hmac.compare_digest(said.encode("utf-8", "replace"), proof_of(key, secret).encode("ascii"))


class Extras(NamedTuple):
    """What a job or a recipient brings beside its variables, each as JSON; the names are columns of both tables.

    A field that stands here goes from the reading of a post to its row.
    """

    headers: str | None = None
    """Headers of its own: by name what it says."""
    metadata: str | None = None
    """What the application wants to have back with it."""
    copy_list: str | None = None
    """Who gets a copy, as core/copies.py writes it; None: those that the job names, if any."""
    copies: int = 0
    """What the copies cost of the sender's day, beside one for each message."""


NO_EXTRAS: Final = Extras()


def read_metadata(text: str | None) -> dict[str, str]:
    """The metadata of a row; empty where it has none."""
    found: dict[str, str] = json.loads(text) if text else {}
    return found


Mode = Literal["draft", "direct"]

ALONE_AFTER: Final = 3
"""Crashes of daemons in a row after which a message that was in flight in all of them is tried alone."""
FAILED_AFTER_ALONE: Final = 3
"""Crashes with nothing else in flight after which it is failed: one may be a kill from outside."""


def message_key(job_id: str, seq: int) -> str:
    """X-Mailerd-Key of the message at a place of a job."""
    return f"{job_id}-{seq}"


@dataclass(frozen=True)
class SenderState:
    """A sender's row, as of `now` by the database's clock."""

    email: str
    tat: datetime | None
    limits: SenderLimits
    """Its own limits, or else the defaults; with the measured latency."""
    own: frozenset[str]
    """The names of the limits that are its own."""
    since: datetime
    """When its warm-up began."""
    gap_until: datetime | None
    latency_at: datetime | None
    """When a slow message was last noted."""
    mode: Mode | None
    project: str | None
    concurrency: int | None
    """The most messages in flight; None: no limit."""
    paused_until: datetime | None
    pause_cause: str | None
    """The cause of the last pause. It stays after the pause until a message is sent: until then they go one by one."""
    pause_reason: str | None
    pauses: int
    now: datetime

    @cached_property
    def allowance(self) -> SenderLimits:
        """The limits of now, after reserve and warm-up."""
        return self.limits.on(self.now, since=self.since)

    @property
    def units(self) -> int:
        """The units that a message costs; while the mode is not known, the more expensive one."""
        return rate_limit.DIRECT_UNITS if self.mode == "direct" else rate_limit.DRAFT_PAIR_UNITS

    @property
    def latency_threshold(self) -> float:
        """Seconds above which the row has to learn how long a message took."""
        return rate_limit.latency_threshold(self.limits, seen=self.latency_at, now=self.now)

    @property
    def paused(self) -> bool:
        """Whether the pause is not over yet."""
        return self.paused_until is not None and self.paused_until > self.now


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
    """Seconds from its claim to Google's answer above which the sender's row has to know; see core/rate_limit.py."""
    hour: datetime | None = None
    """The hour that was debited for it: if it comes back unsent, it is refunded to that hour."""
    digest: bytes | None = None
    """The digest of its address, by which suppressions are found."""
    copies: tuple[Copy, ...] = ()
    """Who gets a copy of it."""
    copies_cost: int = 0
    """What its copies cost of the sender's day, beside the one of the message."""
    barred: tuple[Copy, ...] = ()
    """The copies that must not be sent: its draft, which may name them, is replaced by one without them."""
    proof: str = ""
    """Its header X-Mailerd-Proof: see core/models.py."""
    list_id: int = EVERYTHING
    """The list of its job; 0: the job has none."""
    overrides: bool = False
    """Its job goes also to who has opted out; a hard bounce binds it all the same."""
    suppressed: Reason | None = None
    """Why it must not be sent, as the claim found it; None: it may be sent."""
    headers: str | None = None
    """Headers of its own, as JSON."""
    is_new: bool = False
    """The claim found nothing in the log of attempts: no worker has ever asked Google for anything about it."""

    @property
    def key(self) -> str:
        """X-Mailerd-Key: the same for every attempt, different for every recipient of every job."""
        return message_key(self.job_id, self.seq)

    @property
    def digests(self) -> tuple[bytes, ...]:
        """The digests of all its addresses."""
        return (self.digest or b"", *(it.digest for it in self.copies))

    def without_draft(self) -> "ClaimedRecipient":
        """The message as it is to be made: without a draft, and without the copies that must not be sent."""
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
    """Seconds until the next sender's turn, when fewer than wanted were due; None: nothing waits anywhere."""
    alone: int | None = None
    """A recipient that is due and may have crashed several daemons: it was left, and is to be claimed by itself."""
    exhausted: tuple[str, ...] = ()
    """Jobs of which no message waits any more and none was taken: they may have ended, as where everybody opted out."""


def mode_of(draft_id: str | None) -> Mode:
    """How a message is handed over, by its draft or without one."""
    return "direct" if draft_id is None else "draft"


@dataclass(frozen=True)
class Handover:
    """Is recorded before Google is asked to send a message, or to delete its draft, which the message names."""

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
        """The number of the attempt: a claim that asked Google for nothing is none, and belongs to the one before."""
        return self.message.attempt - self.decision.untried


Record = Handover | Outcome


class WriteResult(StrEnum):
    """What the row did with a record."""

    APPLIED = "applied"
    """The row took it."""
    CANCELLED = "cancelled"
    """The row took it, came back unsent into a cancelled job, and is cancelled with it."""
    RESOLVED = "resolved"
    """Google's answer to a worker whose claim had ended, this one or a former one, has made the row `sent`."""
    IN_DOUBT = "in_doubt"
    """A hand-over is refused: a former claim does not know whether the message was sent, and the row is unsure now."""
    STALE = "stale"
    """The claim had ended: another worker decides about the message."""
    LOCKED = "locked"
    """Another transaction holds rows that it changes: nothing is written, and it comes again."""
    SUPPRESSED = "suppressed"
    """The address has opted out: the hand-over was not written, and Google is not asked to send."""
    STOPPED = "stopped"
    """Its job is paused or cancelled, or its sender was paused by a person: it is not handed over."""
    COPY_SUPPRESSED = "copy_suppressed"
    """The address of a copy is suppressed: the hand-over was not written, and the message is made without that copy."""


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
    """The new state: unsure if it was handed over; else waiting, failed or cancelled with its job."""
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
    """The message id that Google answered to a worker whose claim had ended, from the log of attempts."""
    nothing_found_for: timedelta | None
    """The time since a check read the sent mail and did not find it; None: no check has. Failed ones do not count."""
    since: datetime
    """It cannot have been sent before this time: Google had not been asked, or its job did not exist."""
    came_back: frozenset[str] = frozenset()
    """The ids of its messages that came back, by a limit notice or as a bounce that is retried. They have its key."""

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
    """The time until the next check. None, without a transition: no check follows, a person has to resolve it."""


# How the newest attempts of a sender went.

NEWEST: Final = 20
"""The newest attempts of a sender that tell how it goes."""
MOSTLY: Final = 3
"""So many of them, and more than half, have to fail where the one before the last did not."""
RECENT: Final = timedelta(minutes=10)
"""How far back attempts tell how it goes now."""
GOOGLE_SILENT: Final = frozenset({"google_silent"})
"""Codes of reasons that mean: a request went out, and no response came; the attempt counts."""
GOOGLE_UNREACHABLE: Final = frozenset({"google_unreachable", "no_access_token", "token_endpoint_unavailable"})
"""Codes of reasons that mean: nothing was sent, and the attempt does not count."""


@dataclass(frozen=True)
class Attempted:
    """What came of an attempt."""

    at: datetime
    reason: str | None
    """Why nothing was sent; None: it was."""
    recipient: int
    open: bool = True
    """The message is not finished."""


@dataclass(frozen=True)
class FailingAttempts:
    """The newest attempts of a sender, most of which failed."""

    failed: int
    tried: int
    reason: str
    """The newest one: an older one may be fixed."""
    since: datetime
    example: int
    """The recipient of the newest one; 0: the key that asks may not see it."""

    @property
    def nothing_sent(self) -> bool:
        """Whether all of them failed."""
        return self.failed == self.tried


_REQUEST_LASTS: Final = timedelta(seconds=30)
"""How long a request waits for its response; gmail.request_timeout has the same default."""


def failing(newest: Sequence[Attempted]) -> FailingAttempts | None:
    """Whether a sender's attempts fail, the newest first; None: they do not, or it does not matter any more.

    The last two failed, or the last one since Google cannot be reached, which took long to be known; or most did.
    Responses that were lost while others came are unconfirmed messages, and no more.
    """
    newest = newest[:NEWEST]
    run = next((number for number, it in enumerate(newest) if it.reason is None), len(newest))
    if not run or not newest[0].open:
        return None
    reason = newest[0].reason or ""
    # A request without a response ends only when its time is over: what was sent meanwhile stands behind it.
    meanwhile = newest[0].at - _REQUEST_LASTS
    if cause_code(reason) in GOOGLE_SILENT and any(it.reason is None and it.at > meanwhile for it in newest):
        return None
    failed = list(newest[:run])
    tried = run
    if run == 1 and cause_code(reason) not in GOOGLE_UNREACHABLE:
        failed, tried = [it for it in newest if it.reason is not None], len(newest)
        if len(failed) < MOSTLY or 2 * len(failed) <= tried:
            return None
    return FailingAttempts(len(failed), tried, reason, failed[-1].at, newest[0].recipient)
