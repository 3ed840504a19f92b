"""How it goes, and if not well, why: the one place that judges it.

Pure; every surface shows these findings.

`mailerd check`, the console, `mailerd top`, alerts, the status line and `/health/ready` add nothing
of their own.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from shlex import quote
from typing import Final

from mailerd.core.failing_attempts import GOOGLE_SILENT, GOOGLE_UNREACHABLE
from mailerd.core.i18n import Text, joined, t, tn
from mailerd.core.quantities import in_words
from mailerd.core.reading import (
    FEWER_CONNECTIONS,
    INCIDENT,
    JOURNAL,
    SEE,
    WAY,
    Condition,
    Severity,
    database,
    of_sender,
)
from mailerd.core.reasons import cause_code, same_cause
from mailerd.core.states import State
from mailerd.core.stats import (
    DaemonInfo,
    QueueStats,
    SenderStats,
    UnreadInbox,
    WebhookStats,
    as_counted,
    counts,
)
from mailerd.core.verdicts import PauseCause

SECOND_FAILURE: Final = 5.0
"""Seconds for which an endpoint fails until that is a finding: one that was restarted accepts the
second try.
"""
LATE: Final = 60.0
"""Seconds for which a message may have been due without being claimed until it is late."""
AWAITED: Final = 10.0
"""Seconds for which messages may be in flight and none be finished."""
LONG_UNSURE: Final = 900.0
"""Seconds after which an unconfirmed message is late; alerts.unsure has the same default."""
BLIND: Final = timedelta(minutes=2)
"""For how long the inbox of a mailbox that has sent today may be unread: no bad list of it is
stopped meanwhile.
"""
UNREAD: Final = timedelta(minutes=15)
"""For so long an inbox may go unread."""
LOST_LATELY: Final = 600
"""Seconds for which a daemon that does not respond is trouble while another one runs."""
FAILED_SHARE: Final = 0.2
"""This share of the messages of the last ten minutes, or of a job, may fail before it is
trouble.
"""
MAX_OF_A_KIND: Final = 5
"""Findings of one kind that `shortened` keeps."""
START: Final = t("systemctl start mailerd, or mailerd run")


@dataclass(frozen=True)
class Facts:
    """What `situation` judges by."""

    stats: QueueStats | None
    """What the tables showed last; None: they cannot be read."""
    outage: str = ""
    """How the database cannot be used, as `Database.outage` says it; "": it can."""
    unknown_for: float = 0.0
    """For how many seconds nothing newer has been read, though it should have been."""
    just_back: bool = False
    """The database has only just come back: no daemon may have had the time to report itself."""
    usable_for: float = math.inf
    """For how many seconds the database can be used again; inf: for longer than is known."""
    connections: int = 0
    """With how many connections the daemon has to do, since the database allows no more; 0: with
    all that it wants.
    """
    clock_off: float = 0.0
    """Seconds by which this machine's clock is ahead of the database's."""


CLOCKS_DIFFER: Final = 5.0
"""Seconds by which the two may differ: NTP keeps a clock within some milliseconds."""


def situation(facts: Facts) -> list[Condition]:
    """Everything that is not as it should be, the worst first; an empty list: all is well, and that
    is known.
    """
    if facts.outage:
        return [database(facts.outage)]
    stats, found = facts.stats, list[Condition]()
    if facts.connections:
        text = tn(
            "The database allows no further connections (too many connections): {n} is in use. Sending may be slow.",
            "The database allows no further connections (too many connections): {n} are in use. Sending may be slow.",
            facts.connections,
        )
        found.append(
            Condition(
                Severity.AMBER,
                "database_crowded",
                text,
                "database",
                (FEWER_CONNECTIONS, "mailerd check"),
            )
        )
    if stats is None or facts.unknown_for:
        text = t(
            "Not known for {span}: the tables cannot be read.", span=in_words(facts.unknown_for)
        )
        found.append(
            Condition(
                Severity.AMBER, "not_known", text, "tables", (JOURNAL,), lasts=facts.unknown_for
            )
        )
    if abs(facts.clock_off) > CLOCKS_DIFFER:
        text = t(
            "The clocks of this machine and of the database differ by {span}.",
            span=in_words(abs(facts.clock_off)),
        )
        found.append(
            Condition(
                Severity.AMBER,
                "clock_off",
                text,
                "clock",
                ("timedatectl set-ntp true", "mailerd check"),
            )
        )
    if stats is not None:
        found += chain(
            (it for sender in stats.paused for it in of_sender(sender, stats.at)),
            _late(stats, usable_for=facts.usable_for),
            _daemons(stats, just_back=facts.just_back),
            (
                it
                for sender in stats.senders
                if not sender.paused_until
                for it in of_sender(sender, stats.at)
            ),
            _inboxes(stats),
            (it for each in stats.webhooks for it in _webhook(each)),
            _jobs(stats),
            _failed(stats),
        )
    if any(it.code == "google_silent" for it in found):  # the same, and what it is
        found = [it for it in found if it.code != "awaiting_google"]
    return sorted(found, key=lambda it: -it.severity.rank)


def newest_first(findings: Iterable[Condition], now: datetime) -> list[Condition]:
    """The worst first, and of those that are as bad the one that began last; where that is not
    known, it is last.
    """

    def order(it: Condition) -> tuple[int, float]:
        began = it.began(now)
        return -it.severity.rank, -began.timestamp() if began else 0.0

    return sorted(findings, key=order)


def worst(findings: Iterable[Condition]) -> Severity:
    """The colour of the light."""
    return max((it.severity for it in findings), key=lambda it: it.rank, default=Severity.GREEN)


def under_way(stats: QueueStats) -> Text:
    """What is done while all is well."""
    sending, waiting = stats.recipients.get(State.SENDING), stats.recipients.get(State.WAITING)
    if sending or (waiting and any(it.used_minute for it in stats.senders)):
        return t("Messages are being sent.")
    if waiting:
        return t("Messages wait for their time, or for sending limits.")
    return t("Nothing is waiting to be sent.")


def shortened(findings: Sequence[Condition]) -> list[Condition]:
    """A few of each kind, with how many more there are: what a hundred senders have in common is
    not said each time.
    """
    found, seen = list[Condition](), dict[str, int]()
    for it in findings:
        seen[it.code] = seen.get(it.code, 0) + 1
        if seen[it.code] <= MAX_OF_A_KIND:
            found.append(it)
    for place, it in reversed(list(enumerate(found))):
        if (more := seen.pop(it.code, 0) - MAX_OF_A_KIND) > 0:
            text = tn("The same holds for {n} more.", "The same holds for {n} more.", more)
            found.insert(
                place + 1,
                Condition(it.severity, it.code, text, it.about.partition(" ")[0], it.remedies),
            )
    return found


def line(stats: QueueStats | None, findings: Sequence[Condition]) -> Text:
    """The line of `systemctl status`: what is under way, and the worst of what is wrong."""
    is_known = stats is not None and not any(
        it.severity is Severity.RED and it.about == "database" for it in findings
    )
    return joined(
        [*([counts(stats)] if stats and is_known else []), *(it.text for it in findings[:3])]
    )


def _late(stats: QueueStats, *, usable_for: float) -> Iterator[Condition]:
    """What waits too long; after an outage there was no time yet to claim it, or to check it."""
    is_judged = usable_for > LATE
    if min(stats.awaiting_google, usable_for) > AWAITED:
        n, span = stats.recipients.get(State.SENDING, 0), in_words(stats.awaiting_google)
        text = tn(
            "Waiting for Google for {span}: {n:,} message in flight, and none finished meanwhile.",
            "Waiting for Google for {span}: {n:,} messages in flight, and none finished meanwhile.",
            n,
            span=span,
        )
        yield Condition(
            Severity.AMBER, "awaiting_google", text, "google", (WAY,), lasts=stats.awaiting_google
        )
    if is_judged and stats.oldest_claimable > LATE:
        text = t(
            "A message has been due for {span} and was not claimed.",
            span=in_words(stats.oldest_claimable),
        )
        yield Condition(
            Severity.AMBER, "late", text, "claims", (JOURNAL,), lasts=stats.oldest_claimable
        )
    if number := stats.recipients.get(State.UNSURE, 0):
        lasts = stats.oldest_unsure
        text = tn(
            "{n} message is unconfirmed, for {span}.",
            "{n} messages are unconfirmed, the longest for {span}.",
            number,
            span=in_words(lasts),
        )
        severity, code = (
            (Severity.AMBER, "long_unsure")
            if is_judged and lasts > LONG_UNSURE
            else (Severity.BLUE, "unsure")
        )
        remedies: tuple[str, ...] = ("mailerd jobs list",)
        if stats.unsure_longest:
            job, id_ = stats.unsure_longest
            remedies = (
                SEE.format(id_),
                f"mailerd jobs retry {job} --unsure",
                t(
                    "after a look into the mailbox: `mailerd settle {id} --sent`, or --not-sent",
                    id=id_,
                ),
            )
        yield Condition(
            severity,
            code,
            text,
            "unsure",
            remedies,
            lasts=lasts,
            since=stats.at - timedelta(seconds=lasts),
        )


def _daemons(stats: QueueStats, *, just_back: bool) -> Iterator[Condition]:
    """Daemons that do not respond, and have neither stopped in order nor been replaced on their
    machine.
    """
    if not any(one.runs for one in stats.daemons):
        if just_back:
            return
        waiting = stats.recipients.get(State.WAITING, 0)
        waits = t("nothing waits")
        if waiting:
            waits = as_counted(tn("{n:,} message waits", "{n:,} messages wait", waiting), stats)
        if stats.last_beat is None:
            text = t("No daemon runs; {waits}.", waits=waits)
        else:
            text = t(
                "No daemon responds, the last one was seen {span} ago; {waits}.",
                span=in_words(stats.last_beat),
                waits=waits,
            )
        severity = Severity.RED if waiting else Severity.AMBER
        remedy = start_command(stats.daemons)
        yield Condition(
            severity, "no_daemon", text, "daemons", (remedy,), lasts=stats.last_beat or 0
        )
        return
    for one in stats.daemons:
        if one.runs and one.is_late and not just_back:
            text = t(
                "The daemon {pid} on {host} has not responded for {span}.",
                pid=one.pid,
                host=one.host,
                span=in_words(one.silent),
            )
            remedies = t("if it lasts: {command}", command=_restart(one)), JOURNAL
            yield Condition(
                Severity.AMBER,
                "daemon_late",
                text,
                f"daemon {one.host}:{one.pid}",
                remedies,
                lasts=one.silent,
            )
        if not one.runs and not one.is_replaced:
            text = t(
                "The daemon {pid} on {host} has not responded for {span}; another one runs.",
                pid=one.pid,
                host=one.host,
                span=in_words(one.silent),
            )
            severity = Severity.AMBER if one.silent < LOST_LATELY else Severity.BLUE
            remedy = start_command([one])
            yield Condition(
                severity,
                "daemon_gone",
                text,
                f"daemon {one.host}:{one.pid}",
                (remedy,),
                lasts=one.silent,
            )


def start_command(daemons: Sequence[DaemonInfo]) -> Text:
    """What makes a daemon run where none of these responds: one that may be there still has to be
    ended before.
    """
    return next((_restart(it) for it in daemons if not it.is_gone), START)


def _restart(it: DaemonInfo) -> Text:
    return t(
        "systemctl restart mailerd; without systemd: `kill -9 {pid}` on {host}, then `mailerd run`",
        pid=it.pid,
        host=it.host,
    )


def _inboxes(stats: QueueStats) -> Iterator[Condition]:
    """Inboxes that Google refuses to show, unless what is said of their sender has the same
    cause.
    """
    senders = {it.email: it for it in stats.senders}
    for it in stats.inboxes:
        told = (sender := senders.get(it.email)) and _tells_of(it, sender)
        name = sender.name if sender else it.email
        most = BLIND if sender and sender.used_day else UNREAD
        if not told and (it.since is None or stats.at - it.since > most):
            text = t(
                "The inbox of {sender} cannot be read, so its bounces are not seen: {reason}",
                sender=name,
                reason=it.detail,
            )
            yield Condition(
                Severity.AMBER,
                "inbox_unreadable",
                text,
                f"inbox {it.email}",
                (inbox_remedy(it.email, it.detail),),
                since=it.since,
            )


def inbox_remedy(email: str, detail: str) -> str:
    """What a person can do so that an inbox is read that Google refuses to show: a command or a
    page.
    """
    code = cause_code(detail)
    if code in GOOGLE_SILENT | GOOGLE_UNREACHABLE:
        return WAY
    return (
        INCIDENT
        if code == "google_error"
        else f"mailerd auth login --sender {quote(email)} --readonly"
    )


def _tells_of(it: UnreadInbox, sender: SenderStats) -> bool:
    """Whether what is said of a sender is why its inbox cannot be read."""
    if sender.paused_until:
        # Google's; a person's pause, or one for bounces, hinders no reading
        return sender.pause_cause in PauseCause
    return sender.failing is not None and same_cause(it.detail, sender.failing.reason)


def _webhook(it: WebhookStats) -> Iterator[Condition]:
    """An endpoint that takes no events; one that a person has paused is no trouble."""
    test, remedies = f"mailerd webhooks test {quote(it.name)}", tuple[str, ...]()
    match it.standing:
        case "failing" if it.failing > SECOND_FAILURE:
            text = t(
                "The webhook {name} has been failing for {span}; its events wait.",
                name=it.name,
                span=in_words(it.failing),
            )
        case "paused":
            text = t(
                "The webhook {name} is paused after failing for {span}.",
                name=it.name,
                span=in_words(it.failing),
            )
            remedies = (f"mailerd webhooks resume {quote(it.name)}",)
        case "gone":
            text, test = (
                t("The webhook {name} responded 410 and receives nothing more.", name=it.name),
                "",
            )
            remedies = (f"mailerd webhooks remove {quote(it.name)}",)
        case _:
            return
    remedies = (test, *remedies) if test else remedies
    yield Condition(
        Severity.AMBER,
        f"webhook_{it.standing}",
        text,
        f"webhook {it.name}",
        remedies,
        lasts=it.failing,
    )


def _jobs(stats: QueueStats) -> Iterator[Condition]:
    for it in stats.jobs_in_trouble:
        text = (
            t("Job {job} is paused: {reason}.", job=it.id, reason=it.reason)
            if it.paused
            else (t("Job {job}: {reason}.", job=it.id, reason=it.reason))
        )
        code, remedy = (
            ("job_paused_for_bounces", "mailerd jobs resume")
            if it.paused
            else ("job_bounces", "mailerd jobs show")
        )
        yield Condition(
            Severity.AMBER,
            code,
            text,
            f"job {it.id}",
            (f"mailerd bounces --job {it.id}", f"{remedy} {it.id}"),
        )


def _failed(stats: QueueStats) -> Iterator[Condition]:
    for it in stats.failed_jobs:
        if it.failed >= FAILED_SHARE * it.total:
            fields = {
                "job": it.id,
                "failed": it.failed,
                "total": it.total,
                "reason": it.reason or "-",
            }
            text = t("Job {job}: {failed:,} of {total:,} messages failed: {reason}", **fields)
            if not it.retriable:  # no attempt was made of any
                text = t(
                    "Job {job}: {failed:,} of {total:,} recipients were not accepted: {reason}",
                    **fields,
                )
            remedies = (
                SEE.format(it.id),
                *([f"mailerd jobs retry {it.id}"] if it.retriable else []),
            )
            yield Condition(Severity.BLUE, "job_failed", text, f"job {it.id}", remedies)
    failed, sent = (
        sum(numbers)
        for numbers in ([it.failed for it in stats.senders], [it.sent for it in stats.senders])
    )
    if failed and failed >= FAILED_SHARE * (failed + sent):
        text = t(
            "{failed} of the last {ended} messages failed.", failed=failed, ended=failed + sent
        )
        yield Condition(
            Severity.AMBER,
            "failed",
            text,
            "failures",
            tuple(SEE.format(it.id) for it in stats.failed_jobs[:1]) or ("mailerd jobs list",),
        )
