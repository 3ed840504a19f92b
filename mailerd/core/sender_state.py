"""A sender as its locked row says it: limits, pause, pace."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from mailerd.core import rate_limit
from mailerd.core.claims import Mode
from mailerd.core.rate_limit import SenderLimits


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
    """The cause of the last pause.

    It stays after the pause until a message is sent: until then they go one by one.
    """
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
