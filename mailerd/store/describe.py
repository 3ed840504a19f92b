"""What became of a message, why it or its job waits and what comes next, in plain sentences; reads nothing itself."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never

from mailerd.core.fates import Fate
from mailerd.core.forecast import ForecastInputs, compute_forecast, describe, waiting_reason
from mailerd.core.i18n import t
from mailerd.core.notices import Kind
from mailerd.core.pauses import hold_reason, repair
from mailerd.core.quantities import counted, in_words
from mailerd.core.rate_limit import FOREVER
from mailerd.core.reasons import code_of
from mailerd.core.states import JobStatus, Proof, State
from mailerd.core.stats import SILENT, DaemonInfo
from mailerd.store.history import FIRST, MAX_BEFORE, Attempt, RecipientHistory
from mailerd.store.job_actions import RecordedAction
from mailerd.store.jobs import Job
from mailerd.texts import label, tr

# Why a job that has not ended sends nothing now, in one word, for lists; reads nothing itself.


class Waits(StrEnum):
    """What a job waits for. No status: that is `queued` or `sending` meanwhile."""

    SENDER_PAUSED = "sender_paused"
    """Google's answer or a person paused its sender."""
    SCHEDULED = "scheduled"
    """It is not due yet."""
    DEFERRED = "deferred"
    """Its messages were tried, and are tried again later."""
    UNSURE = "unsure"
    """It is not known whether Google has its last messages."""
    NO_DAEMON = "no_daemon"
    """No daemon runs."""
    LIMIT = "limit"
    """The limits of its sender allow no message within the next minute."""


_LIVE: Final = frozenset({JobStatus.QUEUED, JobStatus.SENDING})


def waits_for(job: Job, *, daemon: bool) -> Waits | None:
    """What the job waits for; None: it has ended, is paused itself, or is being sent. `daemon`: one runs."""
    if job.status not in _LIVE:
        return None
    idle = not job.counts.get(State.SENDING)
    if idle and (held := _held(job)):
        return held
    if not daemon:
        return Waits.NO_DAEMON
    return Waits.LIMIT if idle and job.limited else None


def standing(job: Job, *, daemon: bool) -> str:
    """What it waits for, or its status, for people."""
    return label(waits_for(job, daemon=daemon) or job.status).replace("_", " ")


def _held(job: Job) -> Waits | None:
    """What holds its messages, daemon or not."""
    if not job.counts.get(State.WAITING):
        return Waits.UNSURE if job.counts.get(State.UNSURE) else None
    due, pause = job.send_at if job.early else None, job.paused_until
    if job.repair or (pause and (due is None or pause >= due)):  # of the two, the one that ends last
        return Waits.SENDER_PAUSED
    if due:
        return Waits.SCHEDULED
    return Waits.DEFERRED if job.deferred and not job.braked_until else None


_WHOLE_FROM: Final = 100
"""From so many messages a minute on, no fraction is shown."""
_A_MINUTE: Final = timedelta(minutes=1)

_EVENT_WORDS: Final = {
    "sent": "Google took it as message {message}",
    "failed": "it failed: {error}",
    "deferred": "it did not work and was put off: {error}",
    "released": "it was put back, the attempt is not counted: {error}",
    "lost": "it is not known whether it was sent: {error}",
    "found": "it was looked for and found: it is sent",
    "missing": "it was looked for: Google does not have it",
    "lapsed": "its daemon was not heard of again",
    "answered": "Google took it as message {message}, and its claim had ended by then",
    "unanswered": "it is not known whether it was sent, and its claim had ended by then: {error}",
    "late": "its claim had ended by then: {error}",
    "undone": "it turned out that it had not been sent, and it waits again: {error}",
    "retried": "another try was asked for: its attempts count from the start again",
}


_PROOF_WORDS: Final = {
    Proof.ANSWERED: "Google answered with the message's id",
    Proof.SEEN: "no answer came, and it was seen among the mailbox's sent messages",
    Proof.GONE: "no answer came, and its draft is gone; a person who deleted that draft would have left the same",
    Proof.PERSON: "a person looked into the mailbox and said so",
    None: "nothing, which must not be: `mailerd audit` lists it",
}


def by_proof(counts: Mapping[Proof | None, int]) -> str:
    """How many messages are sent by each proof."""
    return ", ".join(f"{number:,} {label(proof) if proof else tr('without proof')}" for proof, number in counts.items())


def moment(at: datetime) -> str:
    """A moment, for people."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def span(wait: timedelta) -> str:
    """A duration, for people."""
    seconds = max(0, round(wait.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


@dataclass(frozen=True)
class Queue:
    """What messages that wait have before them: by recipient, by job, and who may send them."""

    before: Mapping[int, int] = field(default_factory=dict)
    """Messages of the same job that are claimed before each."""
    outlooks: Mapping[str, ForecastInputs] = field(default_factory=dict)
    daemons: Sequence[DaemonInfo] = ()
    suppressed: Mapping[int, str] = field(default_factory=dict)
    """Why messages will be cancelled when their turn comes, by recipient."""


def of_message(story: RecipientHistory, queue: Queue) -> list[str]:
    """What happened to one message, why it waits, and what comes next."""
    lines = [
        tr(f"Recipient {story.id}: {story.to_email}, job {story.job_id}, from {story.sender}."),
        f"{moment(story.accepted_at)}  {tr('accepted.')}",
    ]
    log = [f"{moment(one.at)}  {_attempt(one)}" for one in story.log]
    if story.left_out:
        log.insert(FIRST, tr(f"… {story.left_out:,} more lines are in the table attempts …"))
    lines += log
    if story.draft_id and story.status in {State.WAITING, State.SENDING, State.UNSURE}:
        lines.append(tr(f"It has the draft {story.draft_id} at Google, and goes out by that one alone."))
    return [*lines, *_now(story, queue)]


def _attempt(one: Attempt) -> str:
    resolution = one.error if code_of(one.error) in {"settled_sent", "settled_not_sent"} else None
    words = (
        tr(t("it was {resolution}", resolution=resolution))
        if resolution
        else _event_words(one).format(message=one.message_id, error=one.error or tr("no reason was written"))
    )
    return tr(f"attempt {one.attempt}: {words}.")


def _event_words(one: Attempt) -> str:
    # Of a message that Google gave back, the log's `sent` has no message id any more.
    return (
        "Google took it"
        if one.event in {"sent", "answered"} and not one.message_id
        else _EVENT_WORDS.get(one.event, one.event)
    )


def _now(story: RecipientHistory, queue: Queue) -> list[str]:
    match story.status:
        case State.SENT:
            at = tr(f" at {moment(story.sent_at)}") if story.sent_at else ""
            return [
                tr(
                    f"Now: sent{at}, Google's message id is {story.message_id or tr('not known')}. Nothing "
                    "more happens."
                ),
                tr(f"Proof ({label(story.proof) if story.proof else tr('none')}): {_PROOF_WORDS[story.proof]}."),
                *_fate(story),
            ]
        case State.FAILED:
            return [
                tr(f"Now: failed: {story.error or tr('no reason was written')}. Nothing more happens by itself."),
                tr(f"Next: once the reason is gone, `mailerd jobs retry {story.job_id}` tries what failed anew."),
            ]
        case State.CANCELLED:
            why = story.error or tr("no reason was written")
            return [tr(f"Now: cancelled at {moment(story.updated_at)}: {why}. Nothing more happens.")]
        case State.SENDING:
            return _sending(story)
        case State.UNSURE:
            return _unsure(story)
        case State.WAITING:
            return _waiting(story, queue)
        case _:
            assert_never(story.status)


def _fate(story: RecipientHistory) -> list[str]:
    """What the sender's inbox says of it since."""
    if story.fate is None or story.fate_at is None:
        return []
    words = {
        Fate.BOUNCED: tr(f"it bounced ({' '.join(filter(None, (label(story.fate_kind or ''), story.fate_code)))})"),
        Fate.REPLIED: tr("its recipient answered"),
        Fate.OTHER_REPLIED: tr("it was answered from another address"),
        Fate.AUTO_REPLIED: tr("a program answered"),
        Fate.UNSUBSCRIBED: tr("its recipient left the list"),
    }[story.fate]
    reason = f": {story.fate_reason}" if story.fate_reason else ""
    if story.fate is not Fate.BOUNCED:
        next_step = ""
    elif story.fate_kind == Kind.HARD:
        address = shlex.quote(story.to_email)  # `reboot`@example.com is an address
        next_step = tr(f" The address gets no more messages: `mailerd suppress remove {address}` allows them again.")
    else:
        next_step = tr(f" `mailerd jobs retry {story.job_id} --bounced {story.fate_kind}` sends such messages again.")
    return [tr(f"Fate: {words} at {moment(story.fate_at)}{reason}.") + next_step]


def _sending(story: RecipientHistory) -> list[str]:
    if story.lease_until and story.lease_until > story.now:
        left = span(story.lease_until - story.now)
        return [
            tr(f"Now: being sent by daemon {story.daemon}, which holds it for another {left}."),
            tr("Next: the outcome is recorded; if that daemon dies, the message is taken back when the time is over."),
        ]
    return [
        tr(f"Now: daemon {story.daemon} held it and was not heard of again."),
        tr("Next: any daemon that runs takes it back within seconds; is one running? `systemctl status mailerd`"),
    ]


def _unsure(story: RecipientHistory) -> list[str]:
    lines = [
        tr(
            f"Now: unsure: {story.error or tr('the answer to the send was lost')}. It is not sent again "
            "before that is known."
        )
    ]
    if story.lease_until is None:
        return [
            *lines,
            tr(
                f"Next: a person looks into {story.sender} and runs `mailerd settle {story.id} --sent` or `--not-sent`."
            ),
        ]
    when = tr(f"in {span(story.lease_until - story.now)}, at {moment(story.lease_until)}")
    return [*lines, tr(f"Next: it is looked for at Google {when} (check {story.checks + 1}).")]


def _waiting(story: RecipientHistory, queue: Queue) -> list[str]:
    why, when = _why(story, queue)
    if reason := queue.suppressed.get(story.id):
        when = tr(f"it is cancelled when its turn comes, and not sent: {reason}.")
    told = story.paused_until and story.error == story.pause_reason  # as the reason of the pause
    now = (
        tr(f"Now: waiting: {why}. The last attempt said: {story.error}.")
        if story.error and not told
        else tr(f"Now: waiting: {why}.")
    )
    return [now, *_next(when, queue.daemons)]


def _place(story: RecipientHistory, queue: Queue) -> tuple[int, datetime | None]:
    """How many messages go before it, those of other jobs included, and when it goes as far as can be foreseen."""
    before, inputs = queue.before.get(story.id, 0), queue.outlooks.get(story.job_id)
    if inputs is None:
        return before, None
    # Its job as if it were the last message of it; those that become due later are not counted.
    forecast = compute_forecast(replace(inputs, messages=before + 1, last_due=None, unresolved=None))
    return before + forecast.messages_ahead, forecast.done_at


def _limited(story: RecipientHistory, queue: Queue, *, held: datetime) -> datetime | None:
    """When the first in line goes; None: when nothing holds it any more, at `held`, or within a minute of that."""
    _, at = _place(story, queue)
    return at if at and at > held + _A_MINUTE else None


def _in_line(story: RecipientHistory, queue: Queue) -> tuple[str, str] | None:
    """Its place among the messages of its sender, and its own time; None for the first in line."""
    before, at = _place(story, queue)
    if not before:
        return None
    messages = counted(before, "message")
    first = tr(f"{messages} of its sender goes first") if before == 1 else tr(f"{messages} of its sender go first")
    if queue.before.get(story.id, 0) >= MAX_BEFORE:
        first, at = tr(f"more than {MAX_BEFORE:,} messages of its sender go first"), None
    at = at and max(at, story.due_at)
    when = tr(f"about {moment(at)}") if at else tr("when its turn comes, which lies too far away to be computed")
    return first, tr(f"its own turn is {when}, if nothing else holds it.")


def _why(story: RecipientHistory, queue: Queue) -> tuple[str, str]:
    """Why it waits now, and what happens next and when."""
    mended = repair(story.pause_cause, story.paused_until, sender=story.sender, now=story.now)
    reason = hold_reason(
        sender=story.sender,
        job_paused=story.job_status is JobStatus.PAUSED,
        due=story.due_at if story.due_at > story.now else None,
        paused_until=story.paused_until,
        pause_reason=f"{label(story.pause_cause or '').replace('_', ' ')}: {tr(story.pause_reason or '')}",
        say=moment,
        repair=mended,
        job_reason=story.job_reason and tr(story.job_reason),
        braked_until=story.braked_until,
    )
    if reason:
        return reason, _after_hold(story, queue, mended)
    if line := _in_line(story, queue):
        return line
    if limited := _limited(story, queue, held=story.now):
        story = replace(story, sender_turn=max(limited, story.sender_turn or limited))
    if story.sender_turn and story.sender_turn > story.now:
        return (
            tr(f"the pace of {story.sender} allows no message before {moment(story.sender_turn)}"),
            tr(f"the next messages of this sender go in {span(story.sender_turn - story.now)}."),
        )
    return (
        tr("it was not claimed yet, and it is the first in line"),
        tr("it is claimed by the next daemon that looks."),
    )


def _after_hold(story: RecipientHistory, queue: Queue, mended: str | None) -> str:
    """What happens to a message that a pause or its time holds."""
    if story.job_status is JobStatus.PAUSED:
        return tr("nothing, until the job is resumed.")
    if mended:
        if story.due_at > story.now:
            return tr(f"it goes when that is done, and not before {moment(story.due_at)}.")
        return tr("it goes when that is done. Until then one message is tried each minute.")
    if story.paused_until == FOREVER:
        return tr(f"nothing, until it is resumed: `mailerd senders resume {story.sender}`.")
    if line := _in_line(story, queue):
        return line[1]
    if limited := _limited(story, queue, held=max(story.paused_until or story.now, story.due_at)):
        when = tr(f"about {moment(limited)}")
        return tr(f"its own turn is {when}, if nothing else holds it.")
    if story.paused_until and story.paused_until >= story.due_at:
        return tr(f"it is tried in {span(story.paused_until - story.now)}.")
    return tr(f"it is sent in {span(story.due_at - story.now)}, if nothing else holds it.")


def of_job(
    job: Job,
    inputs: ForecastInputs | None = None,
    *,
    asked: Sequence[RecordedAction] = (),
    daemons: Sequence[DaemonInfo] = (),
) -> list[str]:
    """A job in a few sentences: what it is, what was asked of it (the newest first), why it waits and what is next.

    `inputs` and `daemons` say what is next.
    """
    counts = ", ".join(f"{number:,} {state.value}" for state, number in job.counts.items() if number)
    word = standing(job, daemon=inputs is None or heard_of(daemons))
    heard = [(job.bounced, "bounced"), (job.replied, "answered")]
    fates = ", ".join(f"{number:,} {word}" for number, word in heard if number)
    since = tr(f" Of the sent ones, {fates}.") if fates else ""
    lines = [
        tr(f"Job {job.id} from {job.sender_email}: {word}, {counted(job.total, 'recipient')}: {counts}.") + since,
        tr(f"Accepted {moment(job.created_at)}")
        + (tr(f", to be sent from {moment(job.send_at)} on") if job.send_at > job.created_at else "")
        + (tr(f", begun {moment(job.started_at)}") if job.started_at else tr(", not begun"))
        + (tr(f", finished {moment(job.finished_at)}.") if job.finished_at else tr(".")),
    ]
    lines += [f"{moment(one.at)}  {_asked(one)}" for one in reversed(asked) if one.changed]
    if job.finished_at:
        took = tr(f"It took {span(job.finished_at - job.started_at)}. ") if job.started_at else ""
        return [*lines, tr(f"{took}Nothing more happens.")]
    if job.warning:
        lines.append(tr(f"Beware: {job.warning}."))
    return [*lines, *(held(job) if inputs is None else _ahead(inputs, daemons))]


def _asked(one: RecordedAction) -> str:
    detail = f" ({one.detail})" if one.detail else ""
    messages = f": {tr(counted(one.messages, 'message'))}" if one.messages else ""
    return tr(f"{label(one.action)}{detail}, asked by {one.actor}{messages}.")


def held(job: Job) -> list[str]:
    """Why it waits, as far as its own row and its sender's say."""
    reason = hold_reason(
        sender=job.sender_email,
        job_paused=job.status is JobStatus.PAUSED,
        due=job.send_at if job.early else None,
        paused_until=None if job.finished_at else job.paused_until,
        pause_reason=job.pause_reason,
        say=moment,
        repair=None if job.finished_at else job.repair,
        job_reason=job.own_reason,
        braked_until=job.braked_until,
    )
    return [tr(f"It waits: {reason}.")] if reason else []


def _ahead(it: ForecastInputs, daemons: Sequence[DaemonInfo]) -> list[str]:
    forecast = compute_forecast(it)
    cause = waiting_reason(it, forecast)
    lines = [tr(f"It waits: {cause}.")] if cause else []
    if not (it.messages or it.unresolved):
        return [*lines, *_next(tr("the messages in flight are finished."), daemons)]
    minute = forecast.per_minute if forecast.starts_at else None
    pace = f"{minute:,.0f}" if (minute or 0) >= _WHOLE_FROM else f"{minute:.3g}" if minute else ""
    at_pace = tr(f", at {pace} messages a minute") if pace else ""
    return [*lines, *_next(f"{tr(describe(it, forecast))}{at_pace}{tr('.')}", daemons)]


def stored_and_waits(daemons: Sequence[DaemonInfo]) -> list[str]:
    """The same, for a person who has posted a job and waits for its end."""
    if heard_of(daemons):
        return []
    return [
        tr(
            f"No daemon has been heard of for {SILENT} s: start `mailerd run`. The job is stored and goes when one "
            "runs; this command waits."
        )
    ]


def no_daemon(daemons: Sequence[DaemonInfo]) -> list[str]:
    """That nothing happens without a daemon, where none was heard of lately."""
    if heard_of(daemons):
        return []
    age = min((one.silent for one in daemons), default=SILENT)
    return [
        tr(
            f"But no daemon was heard of for {in_words(age)}: nothing goes before one runs; "
            "`systemctl status mailerd`, or start one: `mailerd run`."
        )
    ]


def heard_of(daemons: Sequence[DaemonInfo]) -> bool:
    """Whether one of them runs."""
    return any(one.runs for one in daemons)


def _next(what: str, daemons: Sequence[DaemonInfo]) -> list[str]:
    """What comes next, which is no promise while no daemon runs."""
    if heard_of(daemons):
        return [tr(f"Next: {what}")]
    return [tr(f"Next, if a daemon starts now: {what}"), *no_daemon(daemons)]
