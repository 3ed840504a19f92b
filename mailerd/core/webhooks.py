"""Webhooks, decided: the types of events, what an attempt means, and when it is tried again.

An event has a schedule of its own. An endpoint that fails again and again rests as a whole: only
one attempt at a time looks whether it is back, however many events wait, so that a dead endpoint
costs next to nothing. The first success ends the rest, and everything that waits is due.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final, assert_never

# What an application hears of: by webhooks, and by the feed of events.


class EventType(StrEnum):
    """The type of an event: column `events.type`."""

    JOB_FINISHED = "job.finished"
    """No message of the job is open any more.

    A job that is retried later, or into which a message comes back, finishes once more.
    """
    JOB_PAUSED = "job.paused"
    JOB_CANCELLED = "job.cancelled"
    JOB_STUCK = "job.stuck"
    """Messages of the job waited, and by a fault no claim would have taken them; now they can be
    claimed again.
    """
    RECIPIENT_FAILED = "recipient.failed"
    RECIPIENT_BOUNCED = "recipient.bounced"
    """The message came back: a hard, soft or blocked bounce, or one of unknown cause."""
    RECIPIENT_COPY_BOUNCED = "recipient.copy_bounced"
    """A copy of the message bounced; the message's own result is another matter."""
    RECIPIENT_REPLIED = "recipient.replied"
    """A person answered the message."""
    RECIPIENT_AUTO_REPLIED = "recipient.auto_replied"
    """A program answered the message: out of office, a ticket system."""
    RECIPIENT_UNSUBSCRIBED = "recipient.unsubscribed"
    """A person left a list, or everything."""
    RECIPIENT_SENT_UNDONE = "recipient.sent_undone"
    """The message was recorded as sent, and was not: its draft is there, or Google gave it back."""
    RECIPIENTS_SENT = "recipients.sent"
    """Messages of a job that were sent and recorded together; made only while an endpoint of a
    webhook asks for it.
    """
    SENDER_PAUSED = "sender.paused"
    """It was paused, or its pause has another cause than before."""
    SENDER_RESUMED = "sender.resumed"
    """A person ended its pause, or a message went well after it."""


ONLY_IF_ASKED: Final = frozenset({EventType.RECIPIENTS_SENT})
"""Types that an endpoint gets only if it names them."""


RESTS_FROM: Final = 10
"""Failures of an endpoint in a row, from which on it is tried by one attempt at a time."""
MAX_RETRY_AFTER: Final = timedelta(hours=24)
"""A longer Retry-After is not believed."""
_RESTING_SHARE: Final = 10
"""An endpoint that rests is tried after a tenth of the time for which it has failed, within
bounds.
"""
_BUSY: Final = frozenset({429, 502, 503, 504})
"""Answers whose Retry-After is honoured (Standard Webhooks 1.0.0, "Operational considerations")."""


class EndpointState(StrEnum):
    """The state of an endpoint: column `webhooks.state`."""

    ON = "on"
    PAUSED = "paused"
    """A person paused it, or it failed for too long. Its events are kept as long as all others."""
    GONE = "gone"
    """It answered 410: it wants nothing more."""


class PauseReason(StrEnum):
    """Why an endpoint is paused: column `webhooks.pause_cause`."""

    MANUAL = "manual"
    FAILING = "failing"


class DeliveryStatus(StrEnum):
    """The state of a delivery: column `webhook_deliveries.status`."""

    WAITING = "waiting"
    SENDING = "sending"
    """A daemon is posting it, or died while it did so: then its lease ends, and another daemon
    posts it.
    """
    DELIVERED = "delivered"
    FAILED = "failed"
    """It is given up: the endpoint took other events meanwhile, and not this one."""


def standing(state: EndpointState, cause: PauseReason | None, *, is_failing: bool) -> str:
    """One of WEBHOOK_STANDINGS."""
    match state:
        case EndpointState.ON:
            return "failing" if is_failing else "on"
        case EndpointState.PAUSED:
            return "paused" if cause is PauseReason.FAILING else "paused_manually"
        case EndpointState.GONE:
            return "gone"
        case _:
            assert_never(state)


@dataclass(frozen=True)
class WebhookAttempt:
    """The result of one post of an event."""

    http: int | None
    """The HTTP status of the answer; None: there was no answer."""
    error: str | None
    """Why the attempt failed, in words; None: it succeeded."""
    took: timedelta
    retry_after: str = ""
    """The Retry-After header of the answer."""

    @property
    def succeeded(self) -> bool:
        """Whether the endpoint has taken the event."""
        return self.http is not None and 200 <= self.http < 300  # noqa: PLR2004 - HTTP's successes


@dataclass(frozen=True)
class EndpointHealth:
    """The state of an endpoint before an attempt was recorded."""

    failures: int = 0
    """How many attempts in a row have failed."""
    failing_since: datetime | None = None


@dataclass(frozen=True)
class RetryRules:
    """The settings for retries."""

    retries: Sequence[timedelta]
    """The waits after the first, the second, … failed attempt of an event."""
    pause_after: timedelta
    """An endpoint that has failed for so long is paused."""


@dataclass(frozen=True)
class WebhookOutcome:
    """What is written about an attempt."""

    status: DeliveryStatus
    wait: timedelta
    """The time until the event is due again, if it waits."""
    state: EndpointState
    failures: int
    failing_since: datetime | None
    rest: timedelta | None
    """How long the whole endpoint is left alone; None: not at all."""


def decide(
    attempt: WebhookAttempt,
    health: EndpointHealth,
    rules: RetryRules,
    *,
    number: int,
    tried_at: datetime | None,
    now: datetime,
    jitter: float,
) -> WebhookOutcome:
    """What an attempt means. `number`: of the event's attempts, from 1.

    `jitter`: a factor by chance, about 1.

    `tried_at`: when the event's last attempt was recorded, which failed.
    """
    if attempt.succeeded:
        return WebhookOutcome(
            DeliveryStatus.DELIVERED, timedelta(), EndpointState.ON, 0, None, None
        )
    since = health.failing_since or now
    failures = health.failures + 1
    if attempt.http == 410:  # noqa: PLR2004 - HTTP's "gone": the sender should stop (Standard Webhooks 1.0.0)
        return WebhookOutcome(
            DeliveryStatus.WAITING, timedelta(), EndpointState.GONE, failures, since, None
        )
    if number > len(rules.retries) and tried_at is not None and since > tried_at:
        # The endpoint has failed since this event failed last, or for a shorter time: another one
        # got through since, and it is this event that the endpoint does not take. That says nothing
        # about the endpoint.
        return WebhookOutcome(
            DeliveryStatus.FAILED,
            timedelta(),
            EndpointState.ON,
            health.failures,
            health.failing_since,
            _rest(rules, failures=health.failures, failing=now - since),
        )
    wait = rules.retries[min(number, len(rules.retries)) - 1] * jitter
    asked = retry_after(attempt, now=now)
    if now - since >= rules.pause_after:
        return WebhookOutcome(
            DeliveryStatus.WAITING, wait, EndpointState.PAUSED, failures, since, None
        )
    rest = _rest(rules, failures=failures, failing=now - since)
    if asked is not None:
        wait, rest = max(wait, asked), max(rest or asked, asked)
    return WebhookOutcome(DeliveryStatus.WAITING, wait, EndpointState.ON, failures, since, rest)


def _rest(rules: RetryRules, *, failures: int, failing: timedelta) -> timedelta | None:
    if failures < RESTS_FROM:
        return None
    shortest, longest = min(rules.retries), max(rules.retries[:2])
    return min(longest, max(shortest, failing / _RESTING_SHARE))


def retry_after(attempt: WebhookAttempt, *, now: datetime) -> timedelta | None:
    """For how long a busy endpoint asks to be left alone; None where it does not, or not in a form
    that HTTP knows.
    """
    if attempt.http not in _BUSY or not (given := attempt.retry_after.strip()):
        return None
    if given.isascii() and given.isdigit():
        return min(timedelta(seconds=int(given[:9])), MAX_RETRY_AFTER)
    try:
        until = parsedate_to_datetime(given)
        wait = (until if until.tzinfo else until.replace(tzinfo=UTC)) - now
    except (
        ValueError,
        OverflowError,
        TypeError,
    ):
        # the last two: a year or a zone beyond what a datetime holds
        return None
    return min(max(wait, timedelta()), MAX_RETRY_AFTER)


def body_of(type_: str, at: str, data: str) -> bytes:
    """The body of an event, the same bytes at every attempt; `data`: JSON as the table has it."""
    return f'{{"type":"{type_}","timestamp":"{at}","data":{data}}}'.encode()


def shown_url(url: str) -> str:
    """A URL for the log and for lists: what stands behind a question mark may be a secret."""
    shown = url.partition("#")[0].partition("?")[0]
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in shown)
