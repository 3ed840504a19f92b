"""What is wrong now, with its cause and its remedy in the runbook's words; pure: it reads nothing itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from mailerd.core.i18n import Language, t
from mailerd.core.pauses import MANUAL
from mailerd.core.rate_limit import FOREVER
from mailerd.core.reasons import code_of
from mailerd.core.states import State, Tally
from mailerd.core.stats import QueueStats, SenderStats, WebhookStats
from mailerd.events.runbook import FULL_DAY, GOOGLE_SILENT, RUNBOOKS, Runbook, pause_runbook
from mailerd.locale import say
from mailerd.store.describe import SILENT
from mailerd.store.history import DaemonInfo
from mailerd.store.inbox.mailboxes import InboxState
from mailerd.store.jobs import Job
from mailerd.store.stats import TallyPoint
from mailerd.texts import in_chinese

Level = Literal["good", "note", "warning", "bad"]
_RANK: Final[Mapping[Level, int]] = {"good": 0, "note": 1, "warning": 2, "bad": 3}
LATE: Final = timedelta(seconds=60)
"""A letter that could have gone for so long is late."""
DOUBTFUL: Final = timedelta(minutes=15)
"""A doubt that has stood for so long is shown as trouble; alerts.unsure has the same default."""
SILENCE_IS_TROUBLE: Final = timedelta(minutes=10)
"""A daemon that fell silent is a warning for this long; after that it is a note."""
UNREACHABLE: Final = ("google_unreachable", "no_access_token", "token_endpoint_unavailable")
"""Reasons (core/reasons.py) that mean: Google cannot be reached."""
SILENT_GOOGLE: Final = "google_silent"
"""The reason that means: a request went out, and no answer came; the attempt counts."""
NO_ANSWER: Final = GOOGLE_SILENT
"""Of letters of which nothing was sent; one whose sending was begun is unsure, and waits."""
UNREAD: Final = timedelta(minutes=15)
"""An inbox that could not be read for so long is trouble."""
MAX_OF_A_KIND: Final = 5
"""Senders with one kind of trouble that are named."""
MIN_FAILED: Final = 5
FAILED_SHARE: Final = 0.2
"""So many letters of the last ten minutes, and this share of them, may fail before it is trouble."""


@dataclass(frozen=True)
class Trouble:
    """One thing that is wrong, or that a person should know."""

    level: Level
    text: str
    runbook: Runbook | None
    link: str = ""
    sender: str = ""
    webhook: str = ""
    letter: int | None = None

    def meaning(self, language: Language) -> str:
        """What it means, as the runbook has it."""
        if self.runbook is None:
            return ""
        return self.runbook.zh if language == "zh" else self.runbook.en

    def causes(self, language: Language) -> list[tuple[str, str]]:
        """The likely causes, each with the command that shows or cures it."""
        found = self.runbook.causes if self.runbook else ()
        names = {
            "@MAILERD_SENDER@": self.sender or "ADDRESS", "@MAILERD_WEBHOOK@": self.webhook or "NAME",
            "@MAILERD_RECIPIENT@": str(self.letter or "ID"), "@MAILERD_JOB@": "ID",
        }  # fmt: skip
        return [(it.zh if language == "zh" else it.en, _filled_in(it.command, names)) for it in found]


@dataclass(frozen=True)
class PutOff:
    """Letters of the last ten minutes that were tried and wait again, for the most frequent reason."""

    letters: int
    tried: int
    reason: str
    example: int | None
    """The id of one of the letters."""


def translate(language: Language, text: str, **values: object) -> str:
    """A text in a language, with its fields filled in."""
    return say(t(text, **values), language)


def _filled_in(command: str, names: Mapping[str, str]) -> str:
    for name, value in names.items():
        command = command.replace(name, value)
    return command


def find_troubles(
    language: Language,
    *,
    outage: str,
    stats: QueueStats | None,
    daemons: Sequence[DaemonInfo],
    recent: Sequence[TallyPoint],
    put_off: PutOff | None = None,
    inboxes: Sequence[InboxState] = (),
    jobs: Sequence[Job] = (),
) -> list[Trouble]:
    """Everything that is wrong, the worst first. `recent`: the letters of the last ten minutes."""
    if outage:
        return [database_trouble(language, outage)]
    found: list[Trouble] = []
    if stats is None:
        text = translate(language, "The tables cannot be read yet.")
        found.append(Trouble("warning", text, RUNBOOKS["stats_failed"]))
    else:
        found += _first(language, [_paused(language, sender) for sender in stats.paused])
        found += _late(language, stats)
        found += _first(language, [_full_day(language, sender) for sender in stats.senders if _is_full(sender)])
        found += _unread(language, inboxes, stats)
        found += [each for each in (_webhook(language, it) for it in stats.webhooks) if each]
    found += [_bad_list(language, job) for job in jobs if job.own_reason or job.warning][:MAX_OF_A_KIND]
    found += _silent(language, daemons)
    found += _held_up(language, put_off)
    found += _failing(language, recent)
    return sorted(found, key=lambda it: -_RANK[it.level])


def database_trouble(language: Language, outage: str) -> Trouble:
    """The database cannot be used; `outage`: how, as `Database.outage` says it, or empty: a question had no answer."""
    text = translate(language, "The database is {how}: nothing is accepted and nothing is sent.",
                     how=_said(language, outage))  # fmt: skip
    silent = translate(language, "The database does not answer in time.")
    return Trouble("bad", text if outage else silent, RUNBOOKS["database_unavailable"])


def worst(troubles: Sequence[Trouble]) -> Level:
    """The colour of the light."""
    return max((it.level for it in troubles), key=lambda level: _RANK[level], default="good")


def _paused(language: Language, sender: SenderStats) -> Trouble:
    link = f"/senders/{sender.email}"
    if sender.pause_cause == MANUAL:
        text = translate(language, "{sender} is paused by a person: {reason}", sender=sender.email,
                         reason=_said(language, sender.pause_reason))  # fmt: skip
        return Trouble("note", text, None, link, sender.email)
    runbook = pause_runbook(sender.pause_cause)
    if sender.repair:
        text = translate(language, "{sender} cannot send until a person mends it: {reason}", sender=sender.email,
                         reason=_said(language, sender.pause_reason))  # fmt: skip
        return Trouble("bad", text, runbook, link, sender.email)
    end = translate(language, "until it is resumed")
    if sender.paused_until not in {None, FOREVER}:
        end = translate(language, "until {at:%H:%M} UTC", at=sender.paused_until)
    text = translate(language, "{sender} is paused {until}: {reason}", sender=sender.email, until=end,
                     reason=_said(language, sender.pause_reason))  # fmt: skip
    return Trouble("warning", text, runbook, link, sender.email)


def _bad_list(language: Language, job: Job) -> Trouble:
    """A job that was paused for what came back of it, or soon will be."""
    said = _said(language, job.own_reason or job.warning or "")
    book = RUNBOOKS["job_paused_for_bounces" if job.own_reason else "job_bounces"]
    if job.own_reason:
        text = translate(language, "The job {job} is paused: {reason}.", job=job.id, reason=said)
    else:
        text = translate(language, "The job {job}: {reason}.", job=job.id, reason=said)
    return Trouble("warning", text, book, f"/jobs/{job.id}", job.sender_email)


def _said(language: Language, english: str) -> str:
    return in_chinese(english) if language == "zh" else english


def _late(language: Language, stats: QueueStats) -> list[Trouble]:
    found = []
    if stats.oldest_claimable > LATE.total_seconds():
        text = translate(language, "A letter could have gone for {seconds:.0f} s and was not claimed.",
                         seconds=stats.oldest_claimable)  # fmt: skip
        found.append(Trouble("warning", text, RUNBOOKS["job_stuck"], "/jobs?status=sending"))
    if stats.oldest_unsure > DOUBTFUL.total_seconds():
        text = translate(language, "A letter has been unsure for {minutes:.0f} min.", minutes=stats.oldest_unsure / 60)
        found.append(Trouble("warning", text, RUNBOOKS["message_still_unsure"], "/doubts"))
    elif unsure := stats.recipients.get(State.UNSURE, 0):
        one = translate(language, "1 letter is unsure.")
        text = translate(language, "{n} letters are unsure.", n=unsure) if unsure > 1 else one
        found.append(Trouble("note", text, RUNBOOKS["message_unsure"], "/doubts"))
    return found


def _is_full(sender: SenderStats) -> bool:
    return 0 < sender.per_day <= sender.used_day and sender.paused_until is None


def _full_day(language: Language, it: SenderStats) -> Trouble:
    """A mailbox whose own limit is used up: nothing is broken, and its letters wait."""
    text = translate(language, "{sender} has used up its 24 hours, {used:,} of {limit:,} letters: further ones wait.",
                     sender=it.email, used=it.used_day, limit=it.per_day)  # fmt: skip
    return Trouble("note", text, FULL_DAY, f"/senders/{it.email}", it.email)


def _first(language: Language, found: Sequence[Trouble]) -> list[Trouble]:
    """The worst of one kind; what a hundred senders have in common is said a few times and then counted."""
    ordered = sorted(found, key=lambda it: -_RANK[it.level])
    shown, rest = ordered[:MAX_OF_A_KIND], ordered[MAX_OF_A_KIND:]
    if not rest:
        return shown
    text = translate(language, "The same holds for {n} more senders.", n=len(rest))
    return [*shown, Trouble(rest[0].level, text, None, "/senders")]


def _unread(language: Language, inboxes: Sequence[InboxState], stats: QueueStats) -> list[Trouble]:
    """Inboxes that Google refuses to show; a sender that cannot sign in says so itself."""
    known = {sender.email for sender in stats.paused}
    refused = [
        it for it in inboxes
        if it.state == "refused" and it.email not in known and (it.read_at is None or it.now - it.read_at > UNREAD)
    ]  # fmt: skip
    if not refused:
        return []
    it = refused[0]
    text = translate(language, "The inbox of {sender} cannot be read, so its bounces are not seen: {reason}",
                     sender=it.email, reason=_said(language, it.detail or ""))  # fmt: skip
    if len(refused) > 1:
        text += " " + translate(language, "The same holds for {n} more senders.", n=len(refused) - 1)
    return [Trouble("warning", text, RUNBOOKS["inbox_unreadable"], "/inbox", it.email)]


def _silent(language: Language, daemons: Sequence[DaemonInfo]) -> list[Trouble]:
    """Daemons that have fallen silent and have not stopped in order."""
    lost = [one for one in daemons if one.silent > SILENT]
    if len(lost) == len(daemons):
        text = translate(language, "No daemon was heard of for {seconds} s: nothing goes.", seconds=SILENT)
        return [Trouble("bad", text, RUNBOOKS["loop_stalled"])]
    return [
        Trouble(
            "warning" if one.silent < SILENCE_IS_TROUBLE.total_seconds() else "note",
            translate(language, "The daemon {pid} on {host} fell silent {minutes:.0f} min ago; another one goes on.",
                      pid=one.pid, host=one.host, minutes=one.silent / 60), RUNBOOKS["lease_lapsed"],
        )
        for one in lost
    ]  # fmt: skip


def _held_up(language: Language, it: PutOff | None) -> list[Trouble]:
    """Letters that come back from Google undone, of senders that are not paused for it."""
    if it is None:
        return []
    text = translate(language, "{letters:,} of the last {tried:,} tries were put off: {reason}", letters=it.letters,
                     tried=it.tried, reason=_said(language, it.reason))  # fmt: skip
    link = f"/letters/{it.example}" if it.example else "/jobs?status=sending"
    if code_of(it.reason) in UNREACHABLE:
        return [Trouble("bad", text, RUNBOOKS["google_unreachable"], link, letter=it.example)]
    if code_of(it.reason) == SILENT_GOOGLE:
        return [Trouble("bad", text, NO_ANSWER, link, letter=it.example)]
    return [Trouble("warning", text, RUNBOOKS["message_deferred"], link, letter=it.example)]


def _webhook(language: Language, it: WebhookStats) -> Trouble | None:
    """An endpoint that takes no events; one that a person has paused is no trouble."""
    match it.standing:
        case "failing" if it.failing > LATE.total_seconds():
            text, book = translate(language, "The webhook {name} fails: its events wait.", name=it.name), "failing"
        case "paused":
            text = translate(language, "The webhook {name} is paused, since it failed for too long.", name=it.name)
            book = "paused"
        case "gone":
            text = translate(language, "The webhook {name} answered 410 and gets nothing more.", name=it.name)
            book = "gone"
        case _:
            return None
    return Trouble("warning", text, RUNBOOKS[f"webhook_{book}"], "/webhooks", webhook=it.name)


def _failing(language: Language, recent: Sequence[TallyPoint]) -> list[Trouble]:
    failed = sum(point.counts.get(Tally.FAILED, 0) for point in recent)
    ended = failed + sum(point.counts.get(Tally.SENT, 0) for point in recent)
    if failed < MIN_FAILED or failed < FAILED_SHARE * ended:
        return []
    text = translate(language, "{failed} of the last {ended} letters failed.", failed=failed, ended=ended)
    return [Trouble("warning", text, RUNBOOKS["message_failed"], "/jobs?status=failures")]
