"""What became of a message after it was sent, and what follows from received mail about it: one
table.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from mailerd.core.notices import BOUNCES, Classification, Kind, same_address
from mailerd.core.states import State


class Result(StrEnum):
    """The result of a sent message: column `job_recipients.result`. The message's status stays `sent`."""

    BOUNCED = "bounced"
    """It came back; the class stands in `result_kind`."""
    UNSUBSCRIBED = "unsubscribed"
    """Its recipient left the list by mail to the unsubscribe address."""
    REPLIED = "replied"
    """Its recipient answered."""
    OTHER_REPLIED = "other_replied"
    """Another person answered, from another address."""
    AUTO_REPLIED = "auto_replied"
    """A program answered."""


RESULTS: Final = tuple(Result)
"""The strongest first: a result takes the place of a weaker one, whatever came first."""


class MessageOutcome(StrEnum):
    """What became of a message, its result included: of all messages of a job, each has exactly one."""

    REPLIED = "replied"
    OTHER_REPLIED = "other_replied"
    NO_REPLY = "no_reply"
    """It is sent, and nothing was heard of it."""
    AUTO_REPLIED = "auto_replied"
    BOUNCED_SOFT = "bounced_soft"
    BOUNCED_HARD = "bounced_hard"
    BOUNCED_BLOCKED = "bounced_blocked"
    BOUNCED_UNKNOWN = "bounced_unknown"
    UNSUBSCRIBED = "unsubscribed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNSURE = "unsure"
    SENDING = "sending"
    WAITING = "waiting"

    @property
    def meaning(self) -> tuple[State, Result | None, str | None]:
        """The state, and of a sent message the result and the class of a bounce."""
        if self.value in set(State):
            return State(self.value), None, None
        if self is MessageOutcome.NO_REPLY:
            return State.SENT, None, None
        if not self.value.startswith("bounced_"):
            return State.SENT, Result(self.value), None
        return State.SENT, Result.BOUNCED, self.value.removeprefix("bounced_")

    @classmethod
    def of(cls, result: str, kind: str | None) -> "MessageOutcome":
        """That of a sent message with a result; `kind`: the class of a bounce."""
        if result != Result.BOUNCED:
            return cls(result)
        return cls(f"bounced_{kind if kind in BOUNCES else Kind.UNKNOWN}")


_KINDS: Final = {Kind.HARD: 3, Kind.BLOCKED: 2, Kind.SOFT: 1, Kind.UNKNOWN: 0}
"""How much a class of bounce tells; one that tells more takes the place of another."""


class Step(StrEnum):
    """What received mail makes mailerd do beside noting it."""

    NOTHING = "nothing"
    SUPPRESS = "suppress"
    """The address gets no messages any more: it does not exist."""
    COUNT_SOFT = "count_soft"
    """It is one more soft bounce; the third in a row suppresses the address."""
    COUNT_BLOCKED = "count_blocked"
    """It is one more blocked message; many of them pause the sender."""
    COUNT_UNKNOWN = "count_unknown"
    """It failed for an unknown cause; many such failures at once look like a reached limit, and
    pause the sender.
    """
    UNDO = "undo"
    """The message was not sent: it waits again."""
    UNSUBSCRIBE = "unsubscribe"


@dataclass(frozen=True)
class Evidence:
    """What is known about received mail beside its meaning."""

    from_google: bool
    """Google itself wrote the mail, by Google's own authentication result."""
    forged: bool
    """The domain in From did not send the mail: by its policy, or because Google vouches for its
    own.
    """
    in_thread: bool
    """It stands in the thread of the message."""
    has_key: bool
    """The message that came back in it has the message's own key and the proof that belongs to
    it.
    """
    is_about: bool
    """It is about the message's present sending, by the headers that it returns or by the
    Message-ID that it names.

    In a message's thread stand notices about what its owner wrote there by hand, too.
    """
    body_read: bool


@dataclass(frozen=True)
class Consequence:
    """What follows from one received mail for one message."""

    result: Result | None
    step: Step = Step.NOTHING
    believed: bool = True


_NOT_BELIEVED: Final = Consequence(None, believed=False)


def consequence(meaning: Classification, evidence: Evidence, *, to: str) -> Consequence:
    """What follows from received mail for the message to `to` that it was found to belong to;
    total.
    """
    kind = meaning.kind
    match kind:
        case Kind.HARD | Kind.SOFT | Kind.BLOCKED | Kind.UNKNOWN | Kind.DELAYED:
            return _of_bounce(meaning, evidence, to)
        case Kind.OVER_LIMIT:
            googles = evidence.from_google and evidence.in_thread and evidence.is_about
            proven = googles and evidence.body_read and _concerns(meaning, to)
            return Consequence(None, Step.UNDO) if proven else _NOT_BELIEVED
        case Kind.REPLY | Kind.AUTO_REPLY:
            if evidence.forged or not evidence.in_thread:
                return _NOT_BELIEVED
            if kind is Kind.AUTO_REPLY:
                return Consequence(Result.AUTO_REPLIED)
            return Consequence(Result.REPLIED if _names(meaning, to) else Result.OTHER_REPLIED)
        case Kind.UNSUBSCRIBE:
            return Consequence(Result.UNSUBSCRIBED, Step.UNSUBSCRIBE)  # its token is the proof
        case Kind.OTHER:
            return Consequence(None)
        case _:
            assert_never(kind)


def _of_bounce(meaning: Classification, evidence: Evidence, to: str) -> Consequence:
    """Google's own notice in the message's thread is believed; another server's, if our key and its
    proof came back.

    Both must be about the message's present sending. Recipients can forge the second kind for their
    own message, so it must name the message's address.
    """
    googles = evidence.from_google and evidence.in_thread and _concerns(meaning, to)
    returned = evidence.has_key and not evidence.forged and _names(meaning, to)
    if not evidence.is_about or not (googles or returned):
        return _NOT_BELIEVED
    if meaning.kind is Kind.DELAYED:
        return Consequence(None)
    step = {
        Kind.HARD: Step.SUPPRESS,
        Kind.BLOCKED: Step.COUNT_BLOCKED,
        Kind.UNKNOWN: Step.COUNT_UNKNOWN,
    }.get(meaning.kind, Step.COUNT_SOFT if meaning.counts else Step.NOTHING)
    if not evidence.body_read and step is Step.SUPPRESS:
        step = Step.NOTHING  # headers alone never suppress an address
    if meaning.kind is Kind.UNKNOWN and evidence.body_read:
        step = Step.NOTHING
    return Consequence(Result.BOUNCED, step)


def _concerns(meaning: Classification, to: str) -> bool:
    """Whether it names the message's address, or no address."""
    return not meaning.addresses or _names(meaning, to)


def _names(meaning: Classification, to: str) -> bool:
    return any(same_address(it, to) for it in meaning.addresses)


def prevails(new: tuple[Result, str], old: tuple[Result, str] | None) -> bool:
    """Whether a result, with its kind, takes the place of the one that is known.

    The order of arrival does not matter.
    """
    return old is None or _rank(new) > _rank(old)


def _rank(it: tuple[Result, str]) -> tuple[int, int]:
    result, kind = it
    return -RESULTS.index(result), _KINDS.get(Kind(kind), -1) if kind else -1


def kind_of(meaning: Classification) -> str:
    """The class of a bounce, for `result_kind`; "" for anything else."""
    return meaning.kind.value if meaning.kind in BOUNCES else ""


SOFT_IN_A_ROW: Final = 3
"""An address is suppressed after so many soft bounces within 30 days with no other message between
them.
"""
BLOCKED_SHARE: Final = 0.05
MIN_BLOCKED: Final = 10
BLOCKED_OF_LAST: Final = 200
"""A sender is paused when MIN_BLOCKED and more than BLOCKED_SHARE of its last BLOCKED_OF_LAST
messages were blocked.
"""
UNKNOWN_DOMAINS: Final = 5
UNKNOWN_MINUTES: Final = 10
"""Failures of unknown cause at so many different domains within so many minutes look like a limit
of the sender.
"""
