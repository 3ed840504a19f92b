"""The states of a recipient and of a job, the one table of transitions, and what follows from each
transition.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mailerd.core.i18n import t
from mailerd.core.webhooks import EventType

MIN_PRIORITY: Final = -100
MAX_PRIORITY: Final = 100
"""The bounds of the priority of a job among the jobs of its sender; a higher one goes first."""


class State(StrEnum):
    """The state of a recipient: column `job_recipients.status`."""

    WAITING = "waiting"
    SENDING = "sending"
    UNSURE = "unsure"
    SENT = "sent"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Transition(StrEnum):
    """What can happen to a recipient."""

    CLAIMED = "claimed"
    """A daemon took it: an attempt is counted."""
    HANDED_OVER = "handed_over"
    """Google is asked to send it next, or to delete its draft: the row says what."""
    SENT = "sent"
    """Google accepted the message."""
    FAILED = "failed"
    """It will never be accepted, or its attempts are used up."""
    DEFERRED = "deferred"
    """It did not work now: the attempt counts, and another one follows."""
    RELEASED = "released"
    """It did not work, and not by its own fault (throttled, paused, drained): the attempt is
    refunded.
    """
    LOST = "lost"
    """It is not known whether Google has the message."""
    FOUND = "found"
    """It was checked, and Google has it."""
    MISSING = "missing"
    """It was checked, and Google does not have it."""
    CANCELLED = "cancelled"
    """Its job was cancelled before it was claimed."""
    SUPPRESSED = "suppressed"
    """Its address has opted out: Google is not asked, and the attempt is refunded."""
    RETRIED = "retried"
    """A person asked for another try of a failed message, or of one that came back: it starts
    anew.
    """
    UNDONE = "undone"
    """It was recorded as sent, and was not: its draft is there, or Google gave it back by a limit
    notice.
    """


class Proof(StrEnum):
    """What confirms that a message was sent, strongest first: column `job_recipients.proof`."""

    ANSWERED = "answered"
    """Google's answer to the send, with the message's id."""
    SEEN = "seen in SENT"
    """No answer came, and the sent mail has one with the message's key."""
    GONE = "draft gone"
    """No answer came, and the draft is not there any more.

    A person who deletes a draft makes it look the same.
    """
    PERSON = "person"
    """A person looked into the mailbox and said so."""


class JobStatus(StrEnum):
    """The status of a job: column `jobs.status`."""

    QUEUED = "queued"
    SENDING = "sending"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


OPEN: Final = frozenset({State.WAITING, State.SENDING, State.UNSURE})
"""A job with a recipient in one of these is not completed."""

SETTLED: Final = frozenset(State) - OPEN
"""A recipient in one of these is finished."""

_TABLE: Final[dict[tuple[State, Transition], State]] = {
    (State.WAITING, Transition.CLAIMED): State.SENDING,
    (State.WAITING, Transition.CANCELLED): State.CANCELLED,
    (
        State.WAITING,
        Transition.FOUND,
    ): State.SENT,  # a database that forgot its claim learns what Google has answered
    (
        State.WAITING,
        Transition.LOST,
    ): State.UNSURE,  # or that no answer came; or it was restored from a backup
    (
        State.WAITING,
        Transition.UNDONE,
    ): State.WAITING,  # its daemon was taken for dead, and had sent it
    (
        State.SENDING,
        Transition.CLAIMED,
    ): State.SENDING,  # a database that forgot its hand-over gets it back
    (State.SENDING, Transition.HANDED_OVER): State.SENDING,
    (
        State.SENDING,
        Transition.FOUND,
    ): State.SENT,  # Google has said to a former claim that it has the message
    (State.SENDING, Transition.SENT): State.SENT,
    (State.SENDING, Transition.FAILED): State.FAILED,
    (State.SENDING, Transition.DEFERRED): State.WAITING,
    (State.SENDING, Transition.RELEASED): State.WAITING,
    (State.SENDING, Transition.SUPPRESSED): State.CANCELLED,
    (State.SENDING, Transition.LOST): State.UNSURE,
    (
        State.UNSURE,
        Transition.LOST,
    ): State.UNSURE,  # the database was restored: what the row knows proves less
    (State.UNSURE, Transition.FOUND): State.SENT,
    (State.UNSURE, Transition.MISSING): State.WAITING,
    (State.FAILED, Transition.RETRIED): State.WAITING,
    (
        State.SENT,
        Transition.RETRIED,
    ): State.WAITING,  # it has bounced (core/results.py), so that no recipient has it
    (State.SENT, Transition.UNDONE): State.WAITING,
}


class Tally(StrEnum):
    """What is counted by minute and sender: the columns of the tallies."""

    SENT = "sent"
    FAILED = "failed"
    PUT_OFF = "put_off"
    """It was tried, and waits again."""
    UNSURE = "unsure"
    BOUNCED = "bounced"
    REPLIED = "replied"
    """A person answered it; a program that answers is no reply."""


@dataclass(frozen=True)
class Consequences:
    """What follows from a transition, by a daemon or by a person."""

    tally: Tally | None = None
    """Where it is counted."""
    event: EventType | None = None
    """What the application hears of it."""
    waits: bool = False
    """It waits again: its job and its sender get a turn, a completed job goes on, a cancelled one
    cancels it.
    """


FOLLOWS: Final[Mapping[Transition, Consequences]] = {
    # the claim sets the turns of its jobs and senders itself, many in a statement
    Transition.CLAIMED: Consequences(),
    Transition.HANDED_OVER: Consequences(),
    Transition.SENT: Consequences(Tally.SENT),
    Transition.FAILED: Consequences(Tally.FAILED, EventType.RECIPIENT_FAILED),
    Transition.DEFERRED: Consequences(Tally.PUT_OFF, waits=True),
    Transition.RELEASED: Consequences(Tally.PUT_OFF, waits=True),
    Transition.LOST: Consequences(Tally.UNSURE),
    Transition.FOUND: Consequences(Tally.SENT),
    Transition.MISSING: Consequences(waits=True),
    # this and RETRIED are one statement a job, which writes nothing else
    Transition.CANCELLED: Consequences(),
    Transition.SUPPRESSED: Consequences(),
    Transition.RETRIED: Consequences(waits=True),
    Transition.UNDONE: Consequences(event=EventType.RECIPIENT_SENT_UNDONE, waits=True),
}

REFUNDED: Final = frozenset({Transition.RELEASED, Transition.SUPPRESSED})
"""These cost the message no attempt."""
UNSENT: Final = REFUNDED | {Transition.DEFERRED, Transition.FAILED}
"""Nothing was sent by these, which is certain: they cost the sender nothing of its day."""


class ImpossibleTransitionError(Exception):
    """A change that the table does not know was asked for: a bug in mailerd, never the fault of a
    message.
    """

    def __init__(self, state: State, change: Transition) -> None:
        super().__init__(
            t("a recipient that is {state} cannot be {change}", state=state, change=change)
        )


def after(state: State, change: Transition) -> State:
    """The state that follows; the only way to a new one.

    Raises:
        ImpossibleTransitionError: the pair is not in the table.
    """
    try:
        return _TABLE[state, change]
    except KeyError:
        raise ImpossibleTransitionError(state, change) from None


class JobType(StrEnum):
    """What a job was posted as."""

    TEMPLATE = "template"
    """A template for many recipients."""
    MESSAGE = "message"
    """One message as it is."""
    TEST = "test"
    """Messages of a job to other addresses, whose people look at them."""


class JobChange(StrEnum):
    """What a person or a client can request of a job; a repeated request has no further effect."""

    CANCEL = "cancel"
    """No more messages are handed to Google. Those already there are finished and recorded."""
    PAUSE = "pause"
    """Nothing more is claimed."""
    RESUME = "resume"
    """The job continues from where it was paused."""
    RETRY = "retry"
    """Failed messages are tried anew, unsure ones are checked now, or bounced ones are sent
    again.
    """
    PRIORITY = "priority"
    """It gets another place among the jobs of its sender."""


_LIVE: Final = (JobStatus.QUEUED, JobStatus.SENDING)
_JOBS: Final[dict[tuple[JobStatus, JobChange], JobStatus]] = {
    **{
        (status, JobChange.CANCEL): JobStatus.CANCELLED
        for status in (*_LIVE, JobStatus.PAUSED, JobStatus.CANCELLED)
    },
    **{(status, JobChange.PAUSE): JobStatus.PAUSED for status in (*_LIVE, JobStatus.PAUSED)},
    **{(status, JobChange.RESUME): status for status in _LIVE},
    (JobStatus.PAUSED, JobChange.RESUME): JobStatus.SENDING,
    **{(status, JobChange.RETRY): status for status in (*_LIVE, JobStatus.PAUSED)},
    (JobStatus.COMPLETED, JobChange.RETRY): JobStatus.SENDING,
    **{(status, JobChange.PRIORITY): status for status in JobStatus},
}


class ImpossibleRequestError(Exception):
    """A job in this status cannot do what is asked of it."""

    def __init__(self, status: JobStatus, change: JobChange) -> None:
        super().__init__(
            t("a job that is {status} does not allow: {change}", status=status, change=change)
        )
        self.status = status
        self.change = change


def job_after(status: JobStatus, change: JobChange) -> JobStatus:
    """The status that a job gets by a request.

    Raises:
        ImpossibleRequestError: the pair is not in the table.
    """
    try:
        return _JOBS[status, change]
    except KeyError:
        raise ImpossibleRequestError(status, change) from None
