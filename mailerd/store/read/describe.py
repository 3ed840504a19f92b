"""What became of a message, why it or its job waits and what comes next, in plain sentences; reads
nothing itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never

from mailerd.core.forecast import ForecastInputs, compute_forecast, describe, waiting_reason
from mailerd.core.i18n import N_, Text, joined, t, tn
from mailerd.core.labels import coded, worded
from mailerd.core.notices import Kind
from mailerd.core.quantities import in_words
from mailerd.core.rate_limit import FOREVER
from mailerd.core.reading import Reading, UnresolvedSends, joined_causes, newest, waits
from mailerd.core.reasons import code_of
from mailerd.core.results import Result
from mailerd.core.situation import start_command
from mailerd.core.states import OPEN, JobStatus, JobType, Proof, State
from mailerd.core.stats import SILENT, DaemonInfo, SenderStats
from mailerd.store.read.history import FIRST, MAX_BEFORE, Attempt, RecipientHistory
from mailerd.store.read.jobs import Job
from mailerd.store.write.job_actions import RecordedAction

# Why a job that has not ended sends nothing now, in one word, for lists.


class Waits(StrEnum):
    """What a job waits for. No status: that is `queued` or `sending` meanwhile."""

    SENDER_PAUSED = "sender_paused"
    """Google's answer or a person paused its sender, or it has no usable credentials."""
    SCHEDULED = "scheduled"
    """It, or the next of its messages, is not due yet."""
    DEFERRED = "deferred"
    """Its messages were tried, and are tried again later; or the sender's attempts fail."""
    BRAKED = "braked"
    """Many of its messages bounced; what came back is read first."""
    UNSURE = "unsure"
    """It is not known whether Google has its last messages."""
    NO_DATABASE = "no_database"
    """The database cannot be read, or takes no writes."""
    NO_DAEMON = "no_daemon"
    """No daemon runs."""
    LIMIT = "limit"
    """Messages wait, and the limits of its sender allow none within the next minute."""


_LIVE: Final = frozenset({JobStatus.QUEUED, JobStatus.SENDING})
_WORDS: Final[Mapping[str, Waits | None]] = {
    **{it.value: it for it in Waits},
    "day_full": Waits.LIMIT,
    "google_silent": Waits.DEFERRED,
    "google_unreachable": Waits.DEFERRED,
    "others_first": None,
    "retry": None,
    "job_paused": None,
}
"""By the codes of causes; the others are outages, and pauses of the sender."""


def reading_of(job: Job, known: SenderStats | None = None) -> Reading:
    """Why a job waits is judged by this: its row, and what is `known` of its sender beside that."""
    due, unsure = (
        max(job.send_at, job.deferred_until or job.send_at),
        job.counts.get(State.UNSURE, 0),
    )
    return Reading(
        job.at,
        newest(known, job.sender),
        job.outage,
        waiting=bool(job.counts.get(State.WAITING)),
        due=due if due > job.at else None,
        tried=job.tried,
        job_paused=job.status is JobStatus.PAUSED,
        job_reason=job.own_reason,
        braked_until=job.braked_until,
        unresolved=UnresolvedSends(unsure, 0, None) if unsure else None,
    )


def waits_for(
    job: Job,
    *,
    daemon: bool,
    inputs: ForecastInputs | None = None,
    known: SenderStats | None = None,
) -> Waits | None:
    """What the job waits for; None: it has ended, is paused itself, or is being sent.

    `daemon`: one runs; `inputs`, or else `known` of its sender: what was read beside its row.
    """
    if job.status not in _LIVE:
        return None
    it = inputs.reading(compute_forecast(inputs)) if inputs else reading_of(job, known)
    causes = waits(
        replace(
            it,
            runs=daemon,
            in_flight=bool(job.counts.get(State.SENDING)),
            tried=it.tried or job.tried,
        )
    )
    if not causes or (causes[0].code == "unsure" and it.waiting):
        return None
    code = causes[0].code
    return (
        Waits.NO_DATABASE if code.startswith("database_") else _WORDS.get(code, Waits.SENDER_PAUSED)
    )


def standing(
    job: Job,
    *,
    daemon: bool,
    inputs: ForecastInputs | None = None,
    known: SenderStats | None = None,
) -> Text:
    """What it waits for, or its status, for people; and that it is a test."""
    word = worded(waits_for(job, daemon=daemon, inputs=inputs, known=known) or job.status)
    return t("{status} (test)", status=word) if job.type == JobType.TEST else word


_WHOLE_FROM: Final = 100
"""From so many messages a minute on, no fraction is shown."""
_A_MINUTE: Final = timedelta(minutes=1)

_EVENT_WORDS: Final = {
    "sent": N_("Google accepted it as message {message}"),
    "failed": N_("failed: {error}"),
    "deferred": N_("deferred: {error}"),
    "released": N_("requeued, attempt not counted: {error}"),
    "lost": N_("unconfirmed: {error}"),
    "found": N_("checked and found: it is sent"),
    "missing": N_("checked: Google does not have it"),
    "lapsed": N_("its daemon stopped responding"),
    "answered": N_("Google accepted it as message {message} after its claim had ended"),
    "unanswered": N_("unconfirmed, after its claim had ended: {error}"),
    "late": N_("its claim had ended: {error}"),
    "undone": N_("not sent after all, requeued: {error}"),
    "retried": N_("retry requested: attempts count from the start again"),
}

_PROOF_WORDS: Final = {
    Proof.ANSWERED: t("Google returned the message's ID"),
    Proof.SEEN: t("no response came, but the message was found in Sent"),
    Proof.GONE: t(
        "no response came, and its draft is gone; a draft that someone deleted looks the same"
    ),
    Proof.PERSON: t("someone checked the mailbox and confirmed it"),
    None: t("nothing, which is an error: `mailerd audit` lists it"),
}


def by_proof(counts: Mapping[Proof | None, int]) -> Text:
    """How many messages are sent by each proof."""
    return joined(
        [_number(n, coded(proof) if proof else t("without proof")) for proof, n in counts.items()],
        ", ",
    )


def _number(n: int, what: Text) -> Text:
    return t("{n:,} {what}", n=n, what=what)


def moment(at: datetime) -> str:
    """A moment, for people."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def span(wait: timedelta) -> Text:
    """A duration, for people."""
    return in_words(wait.total_seconds())


@dataclass(frozen=True)
class Queue:
    """What messages that wait have before them: by recipient, by job, and who may send them."""

    before: Mapping[int, int] = field(default_factory=dict)
    """Messages of the same job that are claimed before each."""
    outlooks: Mapping[str, ForecastInputs] = field(default_factory=dict)
    daemons: Sequence[DaemonInfo] = ()
    suppressed: Mapping[int, str] = field(default_factory=dict)
    """Why messages will be cancelled when their turn comes, by recipient."""
    outage: str = ""
    """How the database cannot be used; "": it can."""
    runs: bool = False
    """A daemon runs, whatever its heartbeat says."""


def of_message(story: RecipientHistory, queue: Queue) -> list[Text]:
    """What happened to one message, why it waits, and what comes next."""
    head = t(
        "Recipient {id}: {email}, no. {n:,} of job {job}, from {sender}.",
        id=story.id,
        email=story.to_email,
        n=story.index + 1,
        job=story.job_id,
        sender=story.sender,
    )
    if story.job_type == JobType.TEST:
        head = joined([head, t("It is a test.")], " ")
    return [head, *timeline(story), *standing_of(story, queue)]


def timeline(story: RecipientHistory) -> list[Text]:
    """What happened to one message, and when."""
    log = [_at(one.at, _attempt(one)) for one in story.log]
    if more := story.left_out:
        log.insert(
            FIRST,
            tn(
                "… {n:,} more line is in the table attempts …",
                "… {n:,} more lines are in the table attempts …",
                more,
            ),
        )
    lines = [_at(story.accepted_at, t("accepted.")), *log]
    if story.draft_id and story.status in {State.WAITING, State.SENDING, State.UNSURE}:
        lines.append(
            t(
                "Its draft at Google is {draft}; it is sent by that draft only.",
                draft=story.draft_id,
            )
        )
    return lines


def _at(at: datetime, what: Text) -> Text:
    return joined([moment(at), what], "  ")


def _attempt(one: Attempt) -> Text:
    if one.error and code_of(one.error) in {"settled_sent", "settled_not_sent"}:
        return t("attempt {n}: {what}.", n=one.attempt, what=one.error)
    return t("attempt {n}: {what}.", n=one.attempt, what=_event_words(one))


def _event_words(one: Attempt) -> Text:
    # Of a message that Google gave back, the log's `sent` has no message id any more.
    if one.event in {"sent", "answered"} and not one.message_id:
        return t("Google accepted it")
    words = _EVENT_WORDS.get(one.event)
    if words is None:
        return worded(one.event)
    return t(words, message=one.message_id, error=one.error or t("no reason recorded"))


def standing_of(story: RecipientHistory, queue: Queue) -> list[Text]:
    """How one message stands, why, and what comes next."""
    why = story.error or t("no reason recorded")
    match story.status:
        case State.SENT:
            return _sent(story)
        case State.FAILED:
            if not story.retriable:  # refused before any attempt, say
                return [
                    t("Now: failed: {reason}. It is not retried automatically.", reason=why),
                    t(
                        "Next: nothing; a retry does not take it. Fix the cause, and post the message in another job."
                    ),
                ]
            return [
                t("Now: failed: {reason}. It is not retried automatically.", reason=why),
                t(
                    "Next: fix the cause, then run `mailerd jobs retry {job}` to retry what failed.",
                    job=story.job_id,
                ),
            ]
        case State.CANCELLED:
            return [
                t(
                    "Now: cancelled at {at}: {reason}. Nothing more happens.",
                    at=moment(story.updated_at),
                    reason=why,
                )
            ]
        case State.SENDING:
            return _sending(story)
        case State.UNSURE:
            return _unsure(story)
        case State.WAITING:
            return _waiting(story, queue)
        case _:
            assert_never(story.status)


def _sent(story: RecipientHistory) -> list[Text]:
    message = story.message_id or t("not recorded")
    now = (
        t(
            "Now: sent at {at}, Google's message ID is {message}. Nothing more happens.",
            at=moment(story.sent_at),
            message=message,
        )
        if story.sent_at
        else t(
            "Now: sent, Google's message ID is {message}. Nothing more happens.", message=message
        )
    )
    return [now, t("Confirmation: {how}.", how=_PROOF_WORDS[story.proof]), *_result(story)]


def _result(story: RecipientHistory) -> list[Text]:
    """What the sender's inbox says of it since."""
    if story.result is None or story.result_at is None:
        return []
    kind = joined(
        [
            *([coded(story.result_kind)] if story.result_kind else []),
            *filter(None, [story.result_code]),
        ],
        " ",
    )
    words = {
        Result.BOUNCED: t("bounced ({kind})", kind=kind),
        Result.REPLIED: t("the recipient replied"),
        Result.OTHER_REPLIED: t("a reply came from another address"),
        Result.AUTO_REPLIED: t("an automatic reply came"),
        Result.UNSUBSCRIBED: t("the recipient unsubscribed"),
    }[story.result]
    at, why = moment(story.result_at), story.result_reason
    result = (
        t("Result: {what} at {at}: {reason}.", what=words, at=at, reason=why)
        if why
        else t("Result: {what} at {at}.", what=words, at=at)
    )
    if story.result is not Result.BOUNCED:
        return [result]
    if story.result_kind == Kind.HARD:
        further = t(
            "The bounce suppressed the address; `mailerd suppress remove {address}` ends that.",
            address=story.to_email,
        )
    else:
        further = t(
            "`mailerd jobs retry {job} --bounced {kind}` sends such messages again.",
            job=story.job_id,
            kind=story.result_kind,
        )
    return [joined([result, further], " ")]


def _sending(story: RecipientHistory) -> list[Text]:
    if story.lease_until and story.lease_until > story.now:
        return [
            t(
                "Now: being sent by daemon {daemon}, whose lease ends in {span}.",
                daemon=story.daemon,
                span=span(story.lease_until - story.now),
            ),
            t(
                "Next: the outcome is recorded; if that daemon dies, the message is recovered when the lease ends."
            ),
        ]
    return [
        t("Now: daemon {daemon} had claimed it and is not responding.", daemon=story.daemon),
        t(
            "Next: any running daemon recovers it within seconds; is one running? `systemctl status mailerd`"
        ),
    ]


def _unsure(story: RecipientHistory) -> list[Text]:
    why = story.error or t("the response to the send was lost")
    now = t("Now: unconfirmed: {reason}. It is not resent until that is known.", reason=why)
    if story.lease_until is None:
        further = t(
            "Next: check Sent in {sender}, then run `mailerd settle {id} --sent` or `--not-sent`.",
            sender=story.sender,
            id=story.id,
        )
    else:
        further = t(
            "Next: checked at Google in {span}, at {at} (check {n}).",
            n=story.checks + 1,
            span=span(story.lease_until - story.now),
            at=moment(story.lease_until),
        )
    return [now, further]


def _waiting(story: RecipientHistory, queue: Queue) -> list[Text]:
    why, when, said = _why(story, queue)
    if reason := queue.suppressed.get(story.id):
        when = t("it is cancelled at its turn, and not sent: {reason}", reason=reason)
    now = (
        t("Now: waiting: {why}.", why=why)
        if said or not story.error
        else t("Now: waiting: {why}. Last error: {error}.", why=why, error=story.error)
    )
    return [now, *_next(when, queue.daemons, runs=queue.runs or bool(queue.outage))]


def _place(story: RecipientHistory, queue: Queue) -> tuple[int, datetime | None]:
    """How many messages go before it, those of other jobs included, and when it goes as far as can
    be foreseen.
    """
    before, inputs = queue.before.get(story.id, 0), queue.outlooks.get(story.job_id)
    if inputs is None:
        return before, None
    # Its job as if it were the last message of it; those that become due later are not counted.
    forecast = compute_forecast(
        replace(inputs, messages=before + 1, last_due=None, later=None, unresolved=None)
    )
    return before + forecast.messages_ahead, forecast.done_at


def _limited(story: RecipientHistory, queue: Queue, *, held: datetime) -> datetime | None:
    """When the first in line goes; None: when nothing holds it any more, at `held`, or within a
    minute of that.
    """
    _, at = _place(story, queue)
    return at if at and at > held + _A_MINUTE else None


def _in_line(story: RecipientHistory, queue: Queue) -> tuple[Text, Text] | None:
    """Its place among the messages of its sender, and its own time; None for the first in line."""
    before, at = _place(story, queue)
    if not before:
        return None
    first = tn(
        "{n:,} message of its sender is sent first",
        "{n:,} messages of its sender are sent first",
        before,
    )
    if queue.before.get(story.id, 0) >= MAX_BEFORE:
        first, at = t("more than {n:,} messages of its sender are sent first", n=MAX_BEFORE), None
    if at is None:
        return first, t("its turn is later than can be estimated")
    return first, _turn(max(at, story.due_at))


def _turn(at: datetime) -> Text:
    return t("its turn is about {at}, if nothing else holds it", at=moment(at))


def _reading(story: RecipientHistory, queue: Queue) -> Reading:
    """Why a message waits is judged by this."""
    inputs = queue.outlooks.get(story.job_id)
    return Reading(
        story.now,
        newest(inputs.stats if inputs else None, story.row),
        queue.outage,
        due=story.due_at if story.due_at > story.now else None,
        tried=story.error is not None,
        error=story.error,
        job_paused=story.job_status is JobStatus.PAUSED,
        job_reason=story.job_reason,
        braked_until=story.braked_until,
    )


def _why(story: RecipientHistory, queue: Queue) -> tuple[Text, Text, bool]:
    """Why it waits now; what happens next and when; and whether the first says its last error."""
    it = _reading(story, queue)
    cause = next(iter(waits(it, name=story.sender, say=moment)), None)
    if it.outage and cause:
        return cause.why, t("it is sent when the database can be written to again"), False
    if cause and cause.code not in {"limit", "retry"}:
        said = cause.code in {"deferred", "google_silent", "google_unreachable"} or (
            bool(it.sender.paused_until) and story.error == it.sender.pause_reason
        )
        return cause.why, _after_hold(story, queue, it), said
    if line := _in_line(story, queue):
        return *line, False
    turn = story.row.turn
    if limited := _limited(story, queue, held=story.now):
        turn = max(limited, turn or limited)
    if turn and turn > story.now:
        return (
            t(
                "the limits of {sender} allow no message before {at}",
                sender=story.sender,
                at=moment(turn),
            ),
            t("the sender's next messages are sent in {span}", span=span(turn - story.now)),
            False,
        )
    return t("not claimed yet, and first in line"), t("the next available daemon claims it"), False


def _after_hold(story: RecipientHistory, queue: Queue, it: Reading) -> Text:
    """What happens to a message that something holds."""
    sender, paused_until = it.sender, it.sender.paused_until
    if it.job_paused:
        return t("nothing, until the job is resumed")
    if sender.repair:
        if it.due:
            return t("it is sent once that is done, and not before {at}", at=moment(it.due))
        return t("it is sent once that is done; until then one message is tried each minute")
    if paused_until == FOREVER:
        return t(
            "nothing, until it is resumed: `mailerd senders resume {sender}`", sender=story.sender
        )
    if line := _in_line(story, queue):
        return line[1]
    if limited := _limited(story, queue, held=max(paused_until or story.now, story.due_at)):
        return _turn(limited)
    if paused_until and paused_until >= story.due_at:
        return t("it is tried in {span}", span=span(paused_until - story.now))
    if it.due:
        return t("it is sent in {span}, if nothing else holds it", span=span(it.due - story.now))
    return t("it is tried at its turn")


def of_job(
    job: Job,
    inputs: ForecastInputs | None = None,
    *,
    asked: Sequence[RecordedAction] = (),
    daemons: Sequence[DaemonInfo] = (),
    runs: bool = False,
    known: SenderStats | None = None,
) -> list[Text]:
    """A job in a few sentences: what it is, what was asked of it (the newest first), why it waits
    and what is next.

    `inputs` and `daemons` say what is next; `runs`: a daemon runs, whatever its heartbeat says.
    `known`: of its sender, where there are no `inputs`.
    """
    runs = runs or inputs is None or heard_of(daemons)
    first = t(
        "Job {job} from {sender}: {status}, {recipients}: {counts}.",
        job=job.id,
        sender=job.sender_email,
        status=standing(job, daemon=runs, inputs=inputs, known=known),
        recipients=tn("{n:,} recipient", "{n:,} recipients", job.total),
        counts=joined([_number(n, worded(state)) for state, n in job.counts.items() if n], ", "),
    )
    heard = [
        _number(n, worded(result))
        for n, result in ((job.bounced, "bounced"), (job.replied, "replied"))
        if n
    ]
    if heard:
        first = joined(
            [first, t("Of the sent messages: {results}.", results=joined(heard, ", "))], " "
        )
    dates = [t("accepted {at}", at=moment(job.created_at))]
    if job.send_at > job.created_at:
        dates.append(t("to be sent from {at}", at=moment(job.send_at)))
    dates.append(
        t("started {at}", at=moment(job.started_at)) if job.started_at else t("not started")
    )
    if job.finished_at:
        dates.append(t("finished {at}", at=moment(job.finished_at)))
    lines = [first, t("History: {dates}.", dates=joined(dates, ", "))]
    lines += [_at(one.at, _asked(one)) for one in reversed(asked) if one.changed]
    if job.finished_at and job.started_at:
        took = (job.finished_at - job.started_at).total_seconds()
        spent = in_words(took) if took >= 1 else t("less than a second")
        return [*lines, t("It took {span}. Nothing more happens.", span=spent)]
    if job.finished_at:
        return [*lines, t("Nothing more happens.")]
    if job.warning:
        lines.append(t("Warning: {reason}.", reason=job.warning))
    if inputs is None:
        return [*lines, *held(job, known=known)]
    # its own end is recorded a moment after its last message's
    is_open = any(job.counts.get(state) for state in OPEN)
    return [*lines, *_ahead(inputs, daemons, runs=runs, is_open=is_open)]


def _asked(one: RecordedAction) -> Text:
    action = worded(one.action)
    what = t("{action} ({detail})", action=action, detail=one.detail) if one.detail else action
    if not one.messages:
        return t("{action} by {actor}.", action=what, actor=one.actor)
    messages = tn("{n:,} message", "{n:,} messages", one.messages)
    return t("{action} by {actor}: {messages}.", action=what, actor=one.actor, messages=messages)


def held(
    job: Job, inputs: ForecastInputs | None = None, *, known: SenderStats | None = None
) -> list[Text]:
    """Why it waits, by a forecast's inputs, or as far as its own row and what is `known` of its
    sender say.
    """
    if job.finished_at:
        return []
    it = inputs.reading(compute_forecast(inputs)) if inputs else reading_of(job, known)
    cause = joined_causes(waits(it, name=job.sender_email, say=moment))
    return [t("Waiting: {reason}.", reason=cause)] if cause else []


def _ahead(
    it: ForecastInputs, daemons: Sequence[DaemonInfo], *, runs: bool, is_open: bool
) -> list[Text]:
    runs = runs or bool(it.outage)  # of which the daemons cannot tell by their heartbeats
    forecast = compute_forecast(it)
    cause = waiting_reason(it, forecast)
    lines = [t("Waiting: {reason}.", reason=cause)] if cause else []
    if not (it.messages or it.unresolved):
        what = (
            t("the messages in flight finish") if is_open else t("the end of the job is recorded")
        )
        return [*lines, *_next(what, daemons, runs=runs)]
    what, minute = describe(it, forecast), forecast.per_minute if forecast.starts_at else None
    if minute:
        rate = f"{minute:,.0f}" if minute >= _WHOLE_FROM else f"{minute:.3g}"
        what = joined([what, t("at {rate} messages per minute", rate=rate)], ", ")
    return [*lines, *_next(what, daemons, runs=runs)]


def stored_and_waits(daemons: Sequence[DaemonInfo]) -> list[Text]:
    """The same, for a person who has posted a job and waits for its end."""
    if heard_of(daemons):
        return []
    return [
        t(
            "No daemon has been seen for {n} s: start `mailerd run`. The job is stored and is sent when one runs; "
            "this command waits.",
            n=SILENT,
        )
    ]


def no_daemon(daemons: Sequence[DaemonInfo]) -> list[Text]:
    """That nothing happens without a daemon, where none was heard of lately."""
    if heard_of(daemons):
        return []
    age = min((one.silent for one in daemons), default=SILENT)
    return [
        t(
            "No daemon has been seen for {span}; nothing is sent until one runs: {command}",
            span=in_words(age),
            command=start_command(daemons),
        )
    ]


def heard_of(daemons: Sequence[DaemonInfo]) -> bool:
    """Whether one of them runs."""
    return any(one.runs for one in daemons)


def _next(what: Text, daemons: Sequence[DaemonInfo], *, runs: bool) -> list[Text]:
    """What comes next, which is no promise while no daemon runs."""
    if runs or heard_of(daemons):
        return [t("Next: {what}.", what=what)]
    return [t("Next, if a daemon starts now: {what}.", what=what), *no_daemon(daemons)]
