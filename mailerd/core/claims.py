"""What a daemon holds: letters that it claimed, and what it wants written about them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mailerd.core.decisions import Decision

Mode = Literal["draft", "direct"]


@dataclass(frozen=True)
class Letter:
    """One claimed recipient."""

    id: int
    job_id: str
    seq: int
    sender: str
    to_email: str
    to_name: str | None
    variables: str | None
    """JSON, the recipient's own."""
    attempt: int
    """1 is the first; this claim is counted."""
    token: str
    draft_id: str | None = None
    thread_id: str | None = None
    pauses: int = 0
    """The sender's daily limits since its last success."""
    probing: bool = False
    """The sender was paused before; a success of this letter ends that."""
    sender_mode: Mode | None = None
    """How the sender's row says that it sends."""
    sender_project: str | None = None
    """The Cloud project that the sender's row names."""

    @property
    def key(self) -> str:
        """X-Mailerd-Key: the same for every attempt, different for every recipient of every job."""
        return f"{self.job_id}-{self.seq}"


@dataclass(frozen=True)
class JobFound:
    """What a claim tells about a job."""

    id: str
    type: str
    sender: str
    total: int
    age: float = 0.0
    """Seconds since it was accepted, or since its send_at."""
    begun: bool = False
    """Whether letters of it were claimed before."""


@dataclass(frozen=True)
class Claim:
    """What one transaction took."""

    token: str
    letters: tuple[Letter, ...]
    jobs: tuple[JobFound, ...]
    next_in: float | None = None
    """Seconds until the next sender's turn, when fewer than wanted were due; None: nothing waits anywhere."""


@dataclass(frozen=True)
class HandedOver:
    """To be recorded before Google is asked to send: how, and by which draft."""

    letter: Letter
    mode: Mode
    draft_id: str | None = None
    thread_id: str | None = None
    project: str | None = None
    """The Cloud project whose quota the sender uses, as its credentials tell."""


@dataclass(frozen=True)
class Outcome:
    """To be recorded after an attempt."""

    letter: Letter
    decision: Decision


Record = HandedOver | Outcome


@dataclass(frozen=True)
class Lapsed:
    """A row whose lease ran out, as the rescue found it and what became of it."""

    id: int
    job_id: str
    sender: str
    to_email: str
    attempt: int
    daemon_id: str | None
    handed_over: bool
    given_up: bool
    """It was never handed over and its attempts are used up: it is failed."""


@dataclass(frozen=True)
class Doubt:
    """An unsure row that is taken for a look."""

    id: int
    job_id: str
    seq: int
    sender: str
    to_email: str
    token: str
    attempt: int
    looks: int
    mode: Mode | None
    draft_id: str | None
    thread_id: str | None
    known_message_id: str | None
    """What a fenced-off worker left in the log of attempts: Google's own answer."""
    since: datetime
    """It cannot have been sent before: its job did not exist."""

    @property
    def key(self) -> str:
        """X-Mailerd-Key of the letter."""
        return f"{self.job_id}-{self.seq}"
