"""What to write after an attempt: only here a verdict becomes a change of the row and a pause of a
sender.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, assert_never

from mailerd.core.i18n import Text
from mailerd.core.reasons import reason
from mailerd.core.replies import Accepted, Refused, Reply
from mailerd.core.states import Transition
from mailerd.core.verdicts import Backoff, Disposition, PauseCause, Verdict


@dataclass(frozen=True)
class RetryPolicy:
    """How often a message is tried, and how long the waits between are."""

    max_attempts: int
    base: timedelta
    cap: timedelta
    late_arrival: timedelta
    """The longest time for which a request without an answer may still reach Google."""


@dataclass(frozen=True)
class Pause:
    """No message of the sender is claimed before `wait` is over."""

    cause: PauseCause
    reason: str
    wait: timedelta
    joins: bool = False
    """The sender's project is paused already: Google has refused nothing, and its other senders
    stay as they are.
    """

    @property
    def of_project(self) -> bool:
        """Whether it binds every sender of the project."""
        return self.cause is PauseCause.PROJECT_LIMIT and not self.joins


@dataclass(frozen=True)
class Decision:
    """What to write: one change of one row."""

    transition: Transition
    error: str | None = None
    wait: timedelta = timedelta(0)
    """The time until the row is due again (deferred, released), or until the message is checked at
    Google (lost).
    """
    message_id: str | None = None
    thread_id: str | None = None
    pause: Pause | None = None
    global_backoff: str | None = None
    """Why Google cannot be reached at all: this daemon claims nearly nothing for a while."""
    refused: bool = False
    """It is lost, though Google refused this send of its draft: an earlier send of that draft is
    unresolved.
    """
    same_doubt: bool = False
    """It is lost as before: this try showed nothing new, so it costs no attempt, and the count of
    checks goes on.
    """
    untried: bool = False
    """Google was not asked to send it: this attempt is not counted."""
    forgets: bool = False
    """We deleted the message's draft: another try creates a new one."""
    discarding: bool = False
    """Google was asked to delete the draft and did not answer."""
    sender_backoff: str | None = None
    """Why Google cannot be reached for this sender: this daemon claims none of its messages for a
    while.
    """


_DRAFT_KEPT: Final = timedelta(minutes=1)
"""The longest wait for which the draft of a message that Google has refused may stay in the
mailbox.
"""
_MAX_CHECK_DELAY: Final = timedelta(hours=1)
"""The longest wait between two checks of a message whose draft Google shows and will not send."""
_THROTTLE_WAIT: Final = timedelta(seconds=20)
_CONCURRENT_WAIT: Final = timedelta(seconds=5)
_RECHECK_WAIT: Final = timedelta(seconds=60)
"""A sender whose sign-in is broken is tried again after this time, so that a repaired one goes on
by itself.
"""
_STAMP_DEFAULT: Final = timedelta(minutes=15)
_JUST_OVER: Final = timedelta(minutes=1)
"""If a time in Google's answer is past by no more than this, the wait is over; an older time means
nothing.
"""
_DAILY_BASE: Final = timedelta(hours=1)
_MAX_PAUSE: Final = timedelta(hours=24)
_STAMP_MARGIN: Final = timedelta(seconds=5)


def decide(
    verdict: Verdict,
    reply: Reply,
    *,
    attempt: int,
    policy: RetryPolicy,
    now: datetime,
    pauses: int,
    chance: float,
) -> Decision:
    """What to write after `attempt` (1 is the first) got `reply`.

    `pauses` counts the sender's pauses since its last success, `chance` is a random number in [0,
    1). A time that Google names counts from its own clock, and from `now` where the answer does not
    tell it.
    """
    if isinstance(reply, Refused) and reply.answered_at is not None:
        now = reply.answered_at
    retry_after = _retry_after(reply, cap=policy.cap)
    match verdict.disposition:
        case Disposition.ACCEPTED:
            id_, thread = (reply.id, reply.thread_id) if isinstance(reply, Accepted) else ("", "")
            return Decision(Transition.SENT, message_id=id_, thread_id=thread or None)
        case Disposition.REJECTED:
            return Decision(Transition.FAILED, error=verdict.reason)
        case Disposition.TRANSIENT:
            return _retry(
                verdict.reason,
                attempt=attempt,
                policy=policy,
                chance=chance,
                retry_after=retry_after,
            )
        case Disposition.NOT_COUNTED:
            return _released(
                verdict, now=now, pauses=pauses, chance=chance, retry_after=retry_after
            )
        case Disposition.UNKNOWN | Disposition.DRAFT_GONE:
            refused = verdict.disposition is Disposition.DRAFT_GONE
            return Decision(
                Transition.LOST, error=verdict.reason, wait=policy.late_arrival, refused=refused
            )
        case _:
            assert_never(verdict.disposition)


def should_delete_draft(decision: Decision, reply: Reply, *, unanswered: bool) -> bool:
    """Whether the draft whose drafts.send got `reply` is deleted before `decision` is written.

    Google has refused it, and the message waits so long that the mailbox's owner may find the
    draft; or it fails, though an earlier send had no answer (`unanswered`): whether the draft can
    be deleted shows whether it was sent.
    """
    if not isinstance(reply, Refused):
        return False
    if decision.transition is Transition.FAILED:
        return unanswered
    wait = max(decision.wait, decision.pause.wait if decision.pause else timedelta(0))
    return decision.transition in {Transition.DEFERRED, Transition.RELEASED} and wait > _DRAFT_KEPT


def after_deletion(
    decision: Decision, disposition: Disposition, *, late_arrival: timedelta, unanswered: bool
) -> Decision:
    """What to write instead of `decision`, given the result of the draft's deletion.

    `unanswered`: an earlier drafts.send of it got no answer, so that it may have been sent.
    """
    match disposition:
        case Disposition.ACCEPTED:
            return replace(decision, forgets=True)
        case Disposition.DRAFT_GONE:
            code = "draft_gone_at_deletion"
        case Disposition.UNKNOWN:
            code = "deletion_unanswered"
        case Disposition.REJECTED | Disposition.TRANSIENT | Disposition.NOT_COUNTED if (
            unanswered and decision.transition in {Transition.FAILED, Transition.SUPPRESSED}
        ):
            code = "deletion_failed"
        case Disposition.REJECTED | Disposition.TRANSIENT | Disposition.NOT_COUNTED:
            return decision  # the draft stays, and is sent when the wait is over
        case _:
            assert_never(disposition)
    return Decision(
        Transition.LOST,
        error=reason(code, before=decision.error),
        wait=late_arrival,
        pause=decision.pause,
        refused=True,
        discarding=disposition is Disposition.UNKNOWN,
    )


def no_drafts(*, late_arrival: timedelta) -> Decision:
    """What to write about a message whose draft may have been sent, where the sign-in may no longer
    use drafts.
    """
    return Decision(
        Transition.LOST, error=reason("drafts_not_allowed"), wait=late_arrival, refused=True
    )


def given_up(attempt: int, *, reason: str | None, policy: RetryPolicy) -> Decision | None:
    """What to write when all attempts are used up, the last for this reason; None: the message may
    be tried.
    """
    if attempt <= policy.max_attempts:
        return None
    attempt -= 1  # this one asks Google for nothing, and is not counted
    return Decision(Transition.FAILED, error=_gave_up(attempt, reason), untried=True)


def _gave_up(attempt: int, last: str | None) -> Text:
    return (
        reason("gave_up_after", attempt=attempt, reason=last)
        if last
        else reason("gave_up", attempt=attempt)
    )


def delay_repeated_check(
    decision: Decision, *, unanswered: bool, checks: int, policy: RetryPolicy
) -> Decision:
    """What to write instead, where an earlier send of the draft had no answer (`unanswered`) and
    this one is lost too.

    A check has found the draft, and now Google says that it is gone: one of Google's replicas lags.
    The message is not to blame. The next check comes the later, the more often (`checks`) this has
    happened.
    """
    if decision.transition is not Transition.LOST or not decision.refused or not unanswered:
        return decision
    rest = min(
        max(policy.late_arrival, _MAX_CHECK_DELAY), policy.late_arrival * (1 << min(checks, 10))
    )
    return replace(decision, wait=max(decision.wait, rest), same_doubt=True)


def back_off(attempt: int, *, base: timedelta, cap: timedelta, chance: float) -> timedelta:
    """Exponential with full jitter: random up to base x 2^(attempt - 1), never above the cap.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    grown = base.total_seconds() * 2.0 ** min(attempt - 1, 60)  # a timedelta would overflow
    return timedelta(seconds=min(cap.total_seconds(), grown)) * chance


def _retry_after(reply: Reply, *, cap: timedelta) -> timedelta:
    """The wait of a Retry-After header, at most the cap."""
    seconds = reply.retry_after if isinstance(reply, Refused) else None
    return timedelta(seconds=min(cap.total_seconds(), seconds or 0.0))


def _retry(
    why: str, *, attempt: int, policy: RetryPolicy, chance: float, retry_after: timedelta
) -> Decision:
    if attempt >= policy.max_attempts:
        return Decision(Transition.FAILED, error=_gave_up(attempt, why))
    wait = back_off(attempt, base=policy.base, cap=policy.cap, chance=chance)
    return Decision(Transition.DEFERRED, error=why, wait=max(wait, retry_after))


def _released(
    verdict: Verdict, *, now: datetime, pauses: int, chance: float, retry_after: timedelta
) -> Decision:
    backoff = verdict.backoff
    if backoff is None or backoff.everybody:
        return Decision(Transition.RELEASED, error=verdict.reason, global_backoff=verdict.reason)
    # no pause: another daemon may well have a way to Google
    if backoff.cause is PauseCause.GOOGLE_UNREACHABLE:
        return Decision(Transition.RELEASED, error=verdict.reason, sender_backoff=verdict.reason)
    wait = pause_for(backoff, now=now, pauses=pauses, chance=chance)
    return Decision(
        Transition.RELEASED,
        error=verdict.reason,
        pause=Pause(backoff.cause, verdict.reason, max(wait, retry_after)),
    )


def _stamped(named: timedelta, *, chance: float) -> timedelta | None:
    """How long to rest, given the time that Google names; None: it is not plausible."""
    if timedelta(0) < named <= _MAX_PAUSE:
        return named + _STAMP_MARGIN * (1 + chance)
    # over by now: a second on the way, or clocks that differ a little
    if -_JUST_OVER <= named <= timedelta(0):
        return _THROTTLE_WAIT * (1 + chance / 4)
    return None


def pause_for(backoff: Backoff, *, now: datetime, pauses: int, chance: float) -> timedelta:
    """How long the sender rests: until the time that Google names where it is plausible, else by
    cause, with jitter.
    """
    if backoff.until is not None and (stamped := _stamped(backoff.until - now, chance=chance)):
        return stamped
    jitter = 1 + chance / 4
    match backoff.cause:
        case PauseCause.DAILY_LIMIT:
            return min(_MAX_PAUSE, _DAILY_BASE * (1 << min(pauses, 5)) * jitter)
        case PauseCause.PROJECT_LIMIT:
            return _DAILY_BASE * jitter
        case PauseCause.TOO_MANY_CONCURRENT:
            return _CONCURRENT_WAIT * jitter
        case PauseCause.THROTTLED:
            return (_STAMP_DEFAULT if backoff.until is not None else _THROTTLE_WAIT) * jitter
        case (
            PauseCause.TOKEN_REFUSED
            | PauseCause.CLIENT_REFUSED
            | PauseCause.NO_CREDENTIALS
            | PauseCause.WRONG_MAILBOX
            | PauseCause.SCOPE_MISSING
            | PauseCause.MAILBOX_REFUSED
            | PauseCause.API_DISABLED
            | PauseCause.DOMAIN_POLICY
            | PauseCause.GOOGLE_UNREACHABLE
        ):
            return _RECHECK_WAIT
        case _:
            assert_never(backoff.cause)


def draft_gone(*, unanswered: bool, discarding: bool) -> Transition | None:
    """What became of a message whose draft is gone; None: a person has to find out.

    `unanswered`: a send of that draft had no answer. `discarding`: its worker was deleting it and
    crashed, or had no answer. A draft goes by being sent, or by being deleted: by us, or by the
    mailbox's owner. One of the two explanations that we know of must be the only one, or nothing is
    decided.
    """
    match unanswered, discarding:
        case True, False:
            # it was on its way; an owner who deleted it would have left the same
            return Transition.FOUND
        case False, True:
            # Google has refused every send, and we have asked for the deletion ourselves
            return Transition.MISSING
        case _:
            return None


def needs_person_reason(*, unanswered: bool) -> Text:
    """Why only a person can tell what became of a message whose draft is gone: `draft_gone` decides
    nothing.
    """
    return reason("draft_gone_ambiguous" if unanswered else "draft_gone_unexplained")
