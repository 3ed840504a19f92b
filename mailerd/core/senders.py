"""A sender as applications see it: its authorization, what it does now, and how much of its limits is left. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Final

from mailerd.core import rate_limit
from mailerd.core.forecast import Forecast, ForecastInputs, compute_forecast
from mailerd.core.models import SenderState
from mailerd.core.pauses import repair_command
from mailerd.core.rate_limit import FOREVER, Budget
from mailerd.core.situation import Condition, braked, database, of_sender
from mailerd.core.stats import SenderStats
from mailerd.core.verdicts import PauseCause


class AuthorizationState(StrEnum):
    """What is known of a mailbox's authorization."""

    OK = "ok"
    MISSING = "missing"
    """There is no credential file."""
    REFUSED = "refused"
    """Google refuses a token."""
    UNUSABLE = "unusable"
    """The credential file cannot be read, opens another mailbox, or lacks a scope."""
    UNKNOWN = "unknown"
    """No token was requested since this daemon started, or the credential file was replaced."""


@dataclass(frozen=True)
class Authorization:
    """What the last request for a token said; nothing is requested to know it."""

    state: AuthorizationState = AuthorizationState.UNKNOWN
    scopes: tuple[str, ...] = ()
    checked_at: datetime | None = None
    """When that was, by this machine's clock."""
    reason: str = ""
    """Why nothing can be sent with it."""

    @property
    def is_broken(self) -> bool:
        """Whether it is known that nothing can be sent with it."""
        return self.state not in {AuthorizationState.OK, AuthorizationState.UNKNOWN}


_OF_CAUSE: Final[Mapping[str, AuthorizationState]] = {
    PauseCause.TOKEN_REFUSED: AuthorizationState.REFUSED,
    PauseCause.CLIENT_REFUSED: AuthorizationState.REFUSED,
    PauseCause.DOMAIN_POLICY: AuthorizationState.REFUSED,
    PauseCause.NO_CREDENTIALS: AuthorizationState.UNUSABLE,
    PauseCause.WRONG_MAILBOX: AuthorizationState.UNUSABLE,
    PauseCause.SCOPE_MISSING: AuthorizationState.UNUSABLE,
}
"""What a pause of this cause says of the authorization, whichever daemon found it."""


def authorization(known: Authorization, sender: SenderState) -> Authorization:
    """What all daemons know of a sender's authorization: this one's own knowledge, or a newer pause in its row.

    The cause of a pause is kept until a message was sent, and each try prolongs the pause: a token that came later than
    its end is newer.
    """
    state = _OF_CAUSE.get(sender.pause_cause or "")
    if state is None or known.state is AuthorizationState.MISSING or sender.paused_until is None:
        return known
    if known.checked_at is not None and known.checked_at > sender.paused_until:
        return known
    checked_at = known.checked_at if known.state is state else None
    return Authorization(state, checked_at=checked_at, reason=sender.pause_reason or "")


_SOON: Final = timedelta(minutes=1)
"""A sender whose next message is sent by then counts as sending."""


class SenderActivity(StrEnum):
    """What a sender does now."""

    SENDING = "sending"
    IDLE = "idle"
    PAUSED = "paused"


@dataclass(frozen=True)
class SenderPause:
    """Why nothing is sent."""

    cause: str
    reason: str
    until: datetime | None
    """None: until it is resumed, or until a person has done what the remedy says."""
    remedy: str | None


@dataclass(frozen=True)
class SenderReading:
    """What the tables showed of a sender at one moment."""

    inputs: ForecastInputs
    """All that waits of it, as if it were one job."""
    stats: SenderStats
    elsewhere: int
    """Of the messages of its day: those that mailerd did not send."""
    counted_to: int
    """The most waiting messages that were counted."""
    read_at: datetime | None
    """When its inbox was last read; None: never."""

    @property
    def state(self) -> SenderState:
        """Its row."""
        return self.inputs.sender

    @cached_property
    def forecast(self) -> Forecast:
        """When its messages are sent."""
        return compute_forecast(self.inputs)

    @cached_property
    def day(self) -> Budget:
        """What the day has left, and when it has room again."""
        return rate_limit.day(self.state.allowance, hours=self.inputs.hours, now=self.state.now)

    @property
    def left_of_minute(self) -> int | None:
        """What the minute has left; None: it has no limit."""
        return max(0, self.stats.per_minute - self.stats.used_minute) if self.stats.per_minute else None

    @cached_property
    def finding(self) -> Condition | None:
        """The worst of what every surface says of it; None: nothing is wrong."""
        if self.inputs.outage:
            return database(self.inputs.outage)
        found = of_sender(self.stats, self.state.now)
        if not found and self.inputs.braked_until:
            return braked(self.stats, self.inputs.braked_until, self.state.now)
        return next(iter(found), None)

    def pause(self, known: Authorization) -> SenderPause | None:
        """Why nothing is sent; None: it is not paused, and nothing is known to be wrong with its authorization."""
        it, cause = self.state, self.state.pause_cause or ""
        reason = it.pause_reason or cause.replace("_", " ")
        if self.inputs.repair:  # it is tried each minute, and no end of a pause says when that succeeds
            return SenderPause(cause, reason, None, repair_command(cause, sender=it.email, reason=reason))
        if it.paused:
            until = None if it.paused_until == FOREVER else it.paused_until
            (finding,) = of_sender(self.stats, it.now)
            return SenderPause(cause, reason, until, next(iter(finding.remedies), None))
        if known.is_broken:
            cause = PauseCause.TOKEN_REFUSED if known.state is AuthorizationState.REFUSED else PauseCause.NO_CREDENTIALS
            command = repair_command(cause, sender=it.email, reason=known.reason)
            return SenderPause(cause.value, known.reason, None, command)
        return None

    def activity(self, known: Authorization) -> SenderActivity:
        """What it does; it is not sending while nothing shows that it can."""
        if self.pause(known):
            return SenderActivity.PAUSED
        starts_at = self.forecast.starts_at
        is_sending = self.stats.used_minute or (starts_at and starts_at - self.state.now < _SOON)
        return SenderActivity.SENDING if is_sending else SenderActivity.IDLE
