"""A sender as applications see it: its authorization, what it does now, and how much of its limits
is left. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Final, Self

from mailerd.core import rate_limit
from mailerd.core.forecast import Forecast, ForecastInputs, compute_forecast
from mailerd.core.rate_limit import FOREVER, Budget
from mailerd.core.reading import Authorization, AuthorizationState, Condition, of_sender
from mailerd.core.sender_state import SenderState
from mailerd.core.stats import SenderStats
from mailerd.core.verdicts import PauseCause

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
    """What all daemons know of a sender's authorization: this one's own knowledge, or a newer pause
    in its row.

    The cause of a pause is kept until a message was sent, and each try prolongs the pause: a token
    that came later than its end is newer.
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
    """What the tables showed of a sender at one moment, and what is known of its authorization."""

    inputs: ForecastInputs
    """All that waits of it, as if it were one job."""
    elsewhere: int
    """Of the messages of its day: those that mailerd did not send."""
    counted_to: int
    """The most waiting messages that were counted."""
    read_at: datetime | None
    """When its inbox was last read; None: never."""

    def authorized(self, known: Authorization) -> Self:
        """The same with what is `known` of its authorization by this daemon, or by a newer pause in
        its row.
        """
        return replace(
            self, inputs=replace(self.inputs, authorization=authorization(known, self.state))
        )

    @property
    def authorization(self) -> Authorization:
        """What is known of its authorization."""
        return self.inputs.authorization

    @property
    def state(self) -> SenderState:
        """Its row."""
        return self.inputs.sender

    @property
    def stats(self) -> SenderStats:
        """What is judged of it."""
        return self.inputs.stats

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
        return (
            max(0, self.stats.per_minute - self.stats.used_minute)
            if self.stats.per_minute
            else None
        )

    @cached_property
    def finding(self) -> Condition | None:
        """The worst of what every surface says of it; None: nothing is wrong."""
        return next(iter(of_sender(self.stats, self.state.now, self.inputs.outage)), None)

    @property
    def pause(self) -> SenderPause | None:
        """Why nothing is sent; None: it is not paused, and nothing is known to be wrong with its
        authorization.
        """
        it = self.stats
        if not (it.repair or it.paused_until):
            return None
        (finding,) = of_sender(it, self.state.now)
        # One that is tried each minute has no end: no end of a pause says when that succeeds.
        until = None if it.repair or it.paused_until == FOREVER else it.paused_until
        reason = it.pause_reason or it.pause_cause.replace("_", " ")
        return SenderPause(it.pause_cause, reason, until, next(iter(finding.remedies), None))

    @property
    def activity(self) -> SenderActivity:
        """What it does; it is not sending while nothing shows that it can."""
        if self.pause:
            return SenderActivity.PAUSED
        starts_at = self.forecast.starts_at
        is_sending = self.stats.used_minute or (starts_at and starts_at - self.state.now < _SOON)
        return SenderActivity.SENDING if is_sending else SenderActivity.IDLE
