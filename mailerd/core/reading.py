"""What is known of a sender, and of what waits there, at one moment; and why it waits: the one
place that says so.

Every surface asks `waits`, of the same Reading: lists and pages, the API and its streams, commands,
alerts. They word and draw the causes, and decide nothing. Pure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from shlex import quote
from typing import Final

from mailerd.core import rate_limit
from mailerd.core.failing_attempts import GOOGLE_SILENT, GOOGLE_UNREACHABLE, FailingAttempts
from mailerd.core.i18n import N_, Text, joined, t, tn
from mailerd.core.labels import worded
from mailerd.core.pauses import MANUAL, remedy, repair, repair_command
from mailerd.core.pauses import until as until_of
from mailerd.core.quantities import moment_in_words
from mailerd.core.rate_limit import FOREVER
from mailerd.core.reasons import cause_code
from mailerd.core.sender_state import SenderState
from mailerd.core.stats import SenderStats
from mailerd.core.verdicts import PauseCause

JOURNAL: Final = "journalctl -u mailerd -p warning -n 50"
SEE: Final = "mailerd explain {}"
WAY: Final = t("check DNS, firewall and proxy on the way to Google (gmail.api_root): mailerd check")
INCIDENT: Final = t(
    "it is retried; if it lasts, see {page}", page="https://www.google.com/appsstatus/dashboard/"
)
"""What there is to do where Google answers with an error of its own."""
MOST_A_DAY: Final = 2000
"""Messages a day that Google lets a mailbox of Google Workspace send."""


class Severity(StrEnum):
    """How bad it is; the names of the colours in which it is shown."""

    GREEN = "green"
    BLUE = "blue"
    """A person decided it, or should know it."""
    AMBER = "amber"
    """Something is late, or will be."""
    RED = "red"
    """Nothing is sent: of a sender, or at all."""

    @property
    def rank(self) -> int:
        """The worse, the higher."""
        return tuple(Severity).index(self)


@dataclass(frozen=True)
class Condition:
    """One thing that is not as it should be, or that a person should know."""

    severity: Severity
    code: str
    """Its cause; of a pause the pause's own."""
    text: Text
    """What is shown; it has the fields."""
    about: str
    """What has this trouble, one word and a name: it stays the same while the cause changes."""
    remedies: tuple[str, ...] = ()
    """Commands, or what else to do, the likeliest first."""
    since: datetime | None = None
    until: datetime | None = None
    example: int | None = None
    """The newest recipient that it befell."""
    lasts: float = 0.0
    """For how many seconds it has lasted, as far as that is known."""

    @property
    def subject(self) -> str:
        """The name of what has this trouble; "" where it is the installation."""
        return self.about.partition(" ")[2]

    @property
    def told(self) -> Text:
        """What is wrong and what to do, in one line."""
        return (
            t("{what} -> {remedy}", what=self.text, remedy=self.remedies[0])
            if self.remedies
            else self.text
        )

    def began(self, now: datetime) -> datetime | None:
        """When it began; None: that is not known."""
        return self.since or (now - timedelta(seconds=self.lasts) if self.lasts else None)


CORRECT_LOGIN: Final = t(
    "correct user and password in database.url (DATABASE_URL), or run ALTER USER … IDENTIFIED BY …"
)
FEWER_CONNECTIONS: Final = t("raise max_connections, or lower database.pool_size of the daemons")
GRANT: Final = t(
    "GRANT ALL PRIVILEGES on the database in database.url to its user, as an administrator"
)
RESTORE_TABLES: Final = t("restore the missing tables from a backup (docs/how-to/backup.md)")
"""What to do about a database that cannot be used, wherever that is said."""
_OUTAGES: Final = {
    "login": t("the database rejects the login"),
    "connections": t("the database has no free connection"),
    "full": t("the database is full"),
    "read-only": t("the database is read-only"),
    "denied": t("the database denies its user a privilege"),
    "incomplete": t("the database lacks a table"),
    "stuck": t("the database does not finish writes in time"),
}


def outage_reason(outage: str) -> Text:
    """Why nothing is sent while the database cannot be used, as a part of a sentence."""
    return _OUTAGES.get(outage, t("the database is unavailable"))


def database(outage: str) -> Condition:
    """The database cannot be used."""
    match outage:
        case "full":
            text = t(
                "The database is full: nothing can be stored, and nothing is sent. Free disk space on its server."
            )
            remedy = "df -h /var/lib/mysql"
        case "read-only":
            text = t("The database is read-only: nothing is accepted, and nothing is sent.")
            remedy = "mariadb -e \"SHOW VARIABLES LIKE '%read_only'\""
        case "denied":
            text = t(
                "The database denies its user a privilege: nothing is accepted, and nothing is sent."
            )
            remedy = GRANT
        case "incomplete":
            text = t("The database lacks a table: nothing is sent, and new jobs may be refused.")
            return Condition(
                Severity.RED,
                "database_incomplete",
                text,
                "database",
                (RESTORE_TABLES, "mailerd check"),
            )
        case "login":
            text = t(
                "The database rejects the login (access denied): nothing is accepted, and nothing is sent."
            )
            remedy = CORRECT_LOGIN
        case "connections":
            text = t(
                "The database has no free connection (too many connections): nothing is accepted, and nothing is sent."
            )
            remedy = FEWER_CONNECTIONS
        case "stuck":
            text = t(
                "The database does not finish writes in time: nothing is accepted, and nothing is sent."
            )
            remedy = "df -h /var/lib/mysql; mariadb -e 'SHOW FULL PROCESSLIST'"
        case _:
            text = t("The database is unavailable: nothing is accepted, and nothing is sent.")
            remedy = "systemctl status mariadb mysql"
    return Condition(
        Severity.RED,
        f"database_{outage.replace('-', '_')}",
        text,
        "database",
        (remedy, "mailerd check"),
    )


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


@dataclass(frozen=True)
class UnresolvedSends:
    """The job's unsure messages."""

    messages: int
    manual: int
    """How many of them no check can resolve: a person has to settle them."""
    look_at: datetime | None
    """When the first of the other messages is checked."""


@dataclass(frozen=True)
class Reading:
    """What is known at one moment of a sender; and of what waits of it, where that is a job or a
    message.
    """

    at: datetime
    sender: SenderStats
    outage: str = ""
    """How the database cannot be used, as `Database.outage` says it; "": it can."""
    runs: bool = True
    """A daemon runs."""
    waiting: bool = True
    """A message waits."""
    in_flight: bool = False
    """Others are being sent."""
    due: datetime | None = None
    """When the first of them is due; None: one is due."""
    tried: bool = False
    """That one was tried before."""
    error: str | None = None
    """The error of its last attempt."""
    job_paused: bool = False
    job_reason: str | None = None
    """Why the job is paused, and what to do, if not by a person."""
    braked_until: datetime | None = None
    """Until when it waits, since what came back is read first."""
    allowed_at: datetime | None = None
    """When the first one goes, by a forecast; None: it was not asked for one."""
    ahead: int = 0
    """How many messages of the sender's other jobs go before it, by a forecast."""
    unresolved: UnresolvedSends | None = None


@dataclass(frozen=True)
class Cause:
    """Why something waits."""

    code: str
    why: Text
    """As a part of a sentence."""
    finding: Condition | None = None
    """What is said of the sender for it; None: it is as it should be, and waiting is all there is
    to do.
    """


_AT_ONCE: Final = timedelta(minutes=1)
"""A wait of less is not worth a word."""
_CYCLE: Final = timedelta(hours=25)
"""When a message no longer counts in the rolling day: its clock hour counts whole until all of it
is 24 hours ago.
"""


def sender_stats(
    it: SenderState,
    *,
    hours: Mapping[datetime, int],
    used_minute: int = 0,
    ended: tuple[int, int] = (0, 0),
    fails: FailingAttempts | None = None,
    alias: str = "",
    next_cost: int = 1,
    turn: datetime | None = None,
    braked_until: datetime | None = None,
) -> SenderStats:
    """What is judged of a sender. `hours`: what its day counts by clock hour.

    `ended`: how many of its messages were sent and failed of late.
    """
    allowed = it.allowance  # after reserve and warm-up: what the claims go by
    caps = [cap for cap in (allowed.units_per_minute // it.units, allowed.per_minute) if cap]
    if gap := rate_limit.mean_gap(it.limits):
        caps.append(max(1, timedelta(minutes=1) // gap))
    return SenderStats(
        email=it.email,
        per_minute=min(caps, default=0),
        per_day=allowed.per_day,
        used_minute=used_minute,
        used_day=used_day(hours, it.now),
        paused_until=it.paused_until if it.paused else None,
        pause_cause=it.pause_cause or "",
        pause_reason=it.pause_reason or "",
        repair=repair(
            it.pause_cause, it.paused_until, sender=it.email, now=it.now, reason=it.pause_reason
        ),
        sent=ended[0],
        failed=ended[1],
        failing=fails,
        alias=alias,
        is_warming_up=it.limits.is_warming_up(it.now, since=it.since),
        next_cost=next_cost,
        turn=turn,
        paced_until=paced_until(it),
        room_at=room_at(it, hours, next_cost),
        braked_until=braked_until,
    )


def used_day(hours: Mapping[datetime, int], now: datetime) -> int:
    """What the rolling day counts, by clock hour."""
    return sum(number for hour, number in hours.items() if hour + _CYCLE > now)


def paced_until(it: SenderState) -> datetime | None:
    """When the minute's limits and the gap allow the next message; None: now."""
    moments = [it.gap_until] if it.gap_until else []
    if it.tat and (stream := rate_limit.rate(it.allowance, units=it.units)):
        moments.append(it.tat + stream.interval - stream.tolerance)
    return max((moment for moment in moments if moment > it.now), default=None)


def room_at(it: SenderState, hours: Mapping[datetime, int], cost: int) -> datetime | None:
    """When the day has room for a message of that cost; None: now, or only another limit or the
    warm-up gives it.
    """
    if cost > it.allowance.per_day or it.limits.is_warming_up(it.now, since=it.since):
        return None
    return rate_limit.day(it.allowance, hours=hours, now=it.now, cost=cost).next_at


def authorized(it: SenderStats, known: Authorization) -> SenderStats:
    """A sender of which this is known: where nothing can be sent with it, it stands as one that is
    paused for that.
    """
    if not known.is_broken or it.paused_until or it.repair:
        return it
    cause = (
        PauseCause.TOKEN_REFUSED
        if known.state is AuthorizationState.REFUSED
        else PauseCause.NO_CREDENTIALS
    )
    mend = remedy(cause, sender=it.email, reason=known.reason)
    return replace(it, pause_cause=cause, pause_reason=known.reason, repair=mend)


def of_sender(it: SenderStats, at: datetime, outage: str = "") -> list[Condition]:
    """What is said of one sender, the worst first; an empty list: nothing is wrong with it."""
    causes = waits(Reading(at, it, outage, braked_until=it.braked_until))
    return [cause.finding for cause in causes if cause.finding]


def waits(
    it: Reading, *, name: str | None = None, say: Callable[[datetime], str | Text] | None = None
) -> list[Cause]:
    """Why nothing of it is sent now, what weighs most first; an empty list: it is sent, or its turn
    is near.

    `name`: what the sender is called there; `say` writes a moment.
    """
    found = list(
        _causes(it, name or t("the sender"), say or (lambda moment: moment_in_words(moment, it.at)))
    )
    if it.in_flight:  # for what only has its time others are sent meanwhile
        return [cause for cause in found if cause.finding or cause.code == "no_daemon"]
    unsure = unresolved_summary(it)
    return [*found, Cause("unsure", unsure)] if unsure else found


def newest(known: SenderStats | None, row: SenderStats) -> SenderStats:
    """What is `known` of a sender from the last look at all of them, with the pause that its row
    shows now.
    """
    if known is None:
        return row
    if known.repair and not known.paused_until and not (row.paused_until or row.repair):
        # its authorization is of no use, and no try has shown that yet
        return replace(known, turn=row.turn)
    return replace(
        known,
        paused_until=row.paused_until,
        pause_cause=row.pause_cause,
        pause_reason=row.pause_reason,
        repair=row.repair,
        turn=row.turn,
    )


def joined_causes(causes: Sequence[Cause]) -> Text | None:
    """What weighs most, and what happens to unconfirmed messages beside it; None: it does not
    wait.
    """
    said = [cause.why for place, cause in enumerate(causes) if place == 0 or cause.code == "unsure"]
    return joined(said) if said else None


def _causes(it: Reading, name: str, say: Callable[[datetime], str | Text]) -> Iterator[Cause]:
    sender, due = it.sender, it.due
    if due and it.braked_until and due <= it.braked_until:  # that of its brake is none of its own
        due = None
    if it.outage:
        found = database(it.outage)
        yield Cause(found.code, outage_reason(it.outage), found)
        return
    if not it.waiting:
        if not it.runs and (it.in_flight or it.unresolved is None):
            yield Cause("no_daemon", t("no daemon runs"))
        return
    if it.job_paused:
        why = (
            t("the job is paused: {reason}", reason=it.job_reason)
            if it.job_reason
            else t("the job is paused")
        )
        yield Cause("job_paused", why)
        return
    if sender.repair or (sender.paused_until and (it.due is None or sender.paused_until >= it.due)):
        finding = _paused(sender, it.at)
        yield Cause(finding.code, _why_paused(sender, name, say), finding)
        return
    if due:
        yield _not_due(it, due, say)
        return
    if not it.runs:
        yield Cause("no_daemon", t("no daemon runs"))
    if not sender.paused_until:
        yield from _of_sender(it, say)
    if it.braked_until:
        why = t(
            "many messages bounced; their notices are read first, until {at}",
            at=say(it.braked_until),
        )
        yield Cause("braked", why, _braked(sender, it.braked_until, it.at))
    yield from _calm(it, say)


def _of_sender(it: Reading, say: Callable[[datetime], str | Text]) -> Iterator[Cause]:
    """What is wrong with a sender that is not paused: its attempts fail, or its day is used up."""
    sender = it.sender
    if failing := sender.failing:
        reason = plain(failing.reason)
        if failing.nothing_sent:
            why = t("all attempts fail: {reason}", reason=reason)
        else:
            why = t(
                "{failed} of the last {tried} attempts failed: {reason}",
                failed=failing.failed,
                tried=failing.tried,
                reason=reason,
            )
        finding = _failing(sender, failing, it.at)
        yield Cause(finding.code, why, finding)
    if 0 < sender.per_day < sender.used_day + sender.next_cost:
        yield Cause("day_full", _why_full(it, say), _day_full(sender, it.at))


def _not_due(it: Reading, due: datetime, say: Callable[[datetime], str | Text]) -> Cause:
    """It waits for its own time: that of the request, or of its next attempt."""
    at, failing = say(due), it.sender.failing
    if not it.tried:
        return Cause("scheduled", t("not due before {at}", at=at))
    fails = failing and not it.sender.paused_until
    reason = failing.reason if failing and fails and failing.nothing_sent else it.error
    why = (
        t("deferred until {at} after the last attempt: {reason}", at=at, reason=plain(reason))
        if reason
        else (t("deferred until {at} after the last attempt", at=at))
    )
    finding = _failing(it.sender, failing, it.at) if failing and fails else None
    return Cause(finding.code if finding else "deferred", why, finding)


def _calm(it: Reading, say: Callable[[datetime], str | Text]) -> Iterator[Cause]:
    """What only the pace, the other jobs and the last attempt have to do with it."""
    sender, at = it.sender, it.allowed_at
    soon = it.at + _AT_ONCE
    turn = sender.turn if sender.turn and sender.turn > soon else None
    paced = sender.paced_until if sender.paced_until and sender.paced_until > soon else None
    if at and at > soon and it.ahead and not (turn or paced):
        why = tn(
            "{n:,} message of the sender's other jobs is sent first",
            "{n:,} messages of the sender's other jobs are sent first",
            it.ahead,
        )
        yield Cause("others_first", why)
    elif limited := (at if at and at > soon and not it.ahead else paced):
        yield Cause("limit", t("the sender's limits allow no message before {at}", at=say(limited)))
    elif turn:
        why = t(
            "the sender's next turn is at {at}, although its limits allow a message now: a running daemon notices "
            "within a minute",
            at=say(turn),
        )
        yield Cause("limit", why)
    elif it.error:
        yield Cause("retry", t("last error: {reason}; retried at its turn", reason=plain(it.error)))


def _why_paused(it: SenderStats, name: str, say: Callable[[datetime], str | Text]) -> Text:
    reason = it.pause_reason or worded(it.pause_cause)
    if it.repair:
        if not reason:
            return t(
                "{sender} is paused until {repair} (tried each minute)",
                sender=name,
                repair=it.repair,
            )
        return t(
            "{sender} is paused until {repair} (tried each minute: {reason})",
            sender=name,
            repair=it.repair,
            reason=reason,
        )
    end = until_of(it.paused_until or FOREVER, say)
    if not reason:
        return t("{sender} is paused {until}", sender=name, until=end)
    return t("{sender} is paused {until}: {reason}", sender=name, until=end, reason=reason)


def _why_full(it: Reading, say: Callable[[datetime], str | Text]) -> Text:
    sender, at = it.sender, it.allowed_at or it.sender.room_at
    used, limit = sender.used_day, sender.per_day
    if used < limit:
        said = t(
            "the next message counts as {cost:,} because of its copies; {used:,} of {limit:,} in 24 hours are "
            "used",
            cost=sender.next_cost,
            used=used,
            limit=limit,
        )
        return t("{said}: it is sent at {at}", said=said, at=say(at)) if at else said
    if sender.is_warming_up:
        said = t(
            "the sender's warm-up allows {limit:,} messages a day, {used:,} are sent",
            limit=limit,
            used=used,
        )
        return t("{said}: the next one is sent at {at}", said=said, at=say(at)) if at else said
    if not at:
        return t("the sender has reached its limit of 24 hours ({used:,})", used=used)
    return t(
        "the sender has reached its limit of 24 hours ({used:,}): the next message is sent at {at}",
        used=used,
        at=say(at),
    )


def unresolved_summary(it: Reading) -> Text | None:
    """What happens to its unsure messages, and when; None where there are none."""
    if it.unresolved is None:
        return None
    parts, looked_for = list[Text](), it.unresolved.messages - it.unresolved.manual
    if looked_for and it.unresolved.look_at:
        at = moment_in_words(max(it.unresolved.look_at, it.at), it.at)
        parts.append(
            tn(
                "{n:,} message is unconfirmed: checked at Google at {at}",
                "{n:,} messages are unconfirmed: checked at Google at {at}",
                looked_for,
                at=at,
            )
        )
    elif looked_for:
        parts.append(
            tn("{n:,} message is unconfirmed", "{n:,} messages are unconfirmed", looked_for)
        )
    if it.unresolved.manual:
        parts.append(
            tn(
                "{n:,} message is unconfirmed until you run `mailerd settle`",
                "{n:,} messages are unconfirmed until you run `mailerd settle`",
                it.unresolved.manual,
            )
        )
    return joined(parts) if parts else None


def plain(error: str | None) -> str:
    """An error that ends in no punctuation, so that the sentence can go on."""
    stripped = (error or "").strip().rstrip(":.")
    return error if error == stripped else stripped


# What is said of a sender for it, as a sentence of its own.


def until(end: datetime, now: datetime) -> Text:
    """When a pause ends."""
    return (
        t("until it is resumed")
        if end == FOREVER
        else t("until {at}", at=moment_in_words(end, now))
    )


def _paused(it: SenderStats, now: datetime) -> Condition:
    about, end, resume = (
        f"sender {it.email}",
        it.paused_until or FOREVER,
        f"mailerd senders resume {quote(it.email)}",
    )
    reason = it.pause_reason or it.pause_cause.replace("_", " ")
    fields = {"sender": it.name, "until": until(end, now), "reason": reason}
    if it.pause_cause == MANUAL:
        text = t("{sender} is paused manually {until}: {reason}", **fields)
        return Condition(Severity.BLUE, MANUAL, text, about, (resume,), until=end)
    if it.repair:
        text = t("{sender} cannot send. Action needed: {reason}", **fields)
        # Nothing waits of one that no try has paused: so it is no trouble yet.
        severity = Severity.RED if it.paused_until or it.turn else Severity.BLUE
        return Condition(
            severity,
            it.pause_cause,
            text,
            about,
            (repair_command(it.pause_cause, sender=it.email, reason=reason),),
            until=end,
        )
    text = t("{sender} is paused {until}: {reason}", **fields)
    first = [t(remedy, sender=it.email) for remedy in _FIRST.get(it.pause_cause, ())]
    remedies = first if it.pause_cause in _ENDS_BY_WAITING else [*first, resume]
    return Condition(
        Severity.AMBER, it.pause_cause or "paused", text, about, tuple(remedies), until=end
    )


_LOWER: Final = N_(
    "it resumes automatically; if it happens often: `mailerd senders set {sender} --per-minute 40`"
)
_LOWER_DAY: Final = N_(
    "it resumes automatically; if it happens often: `mailerd senders set {sender} --per-day 1500`"
)
_FIRST: Final = {
    "throttled": (_LOWER,),
    "too_many_concurrent": (_LOWER,),
    "daily_limit": (_LOWER_DAY,),
    "project_limit": (N_("https://console.cloud.google.com/iam-admin/quotas"),),
}
"""What helps against a pause whose cause Google would name again at once; to resume the sender does
not.
"""
_ENDS_BY_WAITING: Final = frozenset({"throttled", "too_many_concurrent", "daily_limit"})
"""Pauses that end automatically: Google refuses a sender that is resumed before."""


def _day_full(it: SenderStats, now: datetime) -> Condition:
    """The day of a sender is used up, or what is left of it has no room for the next message."""
    fields = {"sender": it.name, "used": it.used_day, "limit": it.per_day}
    if it.used_day < it.per_day:
        text = t(
            "{sender}: not enough of the day is left for the next message, which counts as {cost:,} because of its "
            "copies; {used:,} of {limit:,} in 24 hours are used.",
            cost=it.next_cost,
            **fields,
        )
    elif it.is_warming_up:
        text = t(
            "{sender}: the warm-up allows {limit:,} messages a day, {used:,} are sent: further ones wait.",
            **fields,
        )
    else:
        text = t(
            "{sender} has reached its limit of 24 hours, {used:,} of {limit:,} messages: further ones wait.",
            **fields,
        )
    remedy = "mailerd senders list"
    if it.is_warming_up:
        remedy = f"mailerd senders set {quote(it.email)} --warm-up off"
    elif it.per_day < MOST_A_DAY:
        remedy = f"mailerd senders set {quote(it.email)} --per-day {MOST_A_DAY}"
    if it.room_at:
        text = joined(
            [text, t("There is room from {at} on.", at=moment_in_words(it.room_at, now))], " "
        )
    return Condition(
        Severity.BLUE, "day_full", text, f"sender {it.email}", (remedy,), until=it.room_at
    )


def _failing(it: SenderStats, found: FailingAttempts, now: datetime) -> Condition:
    cause = cause_code(found.reason)
    code = next((code for code, reasons in _SCOPES if cause in reasons), "deferred")
    if found.nothing_sent:
        text = tn(
            "{sender}: the last attempt failed: {reason}",
            "{sender}: the last {n} attempts failed: {reason}",
            found.failed,
            sender=it.name,
            reason=found.reason,
        )
    else:
        text = t(
            "{sender}: {failed} of the last {tried} attempts failed: {reason}",
            sender=it.name,
            failed=found.failed,
            tried=found.tried,
            reason=found.reason,
        )
    severity = Severity.AMBER if code == "deferred" else Severity.RED
    see = (SEE.format(found.example),) if found.example else ()
    remedies: tuple[str, ...] = (*(see if code == "deferred" else (WAY,)), JOURNAL)
    if cause == "google_error":
        remedies = (INCIDENT, *see)
    return Condition(
        severity,
        code,
        text,
        f"sender {it.email}",
        remedies,
        since=found.since,
        example=found.example or None,
        lasts=(now - found.since).total_seconds(),
    )


_SCOPES: Final = (("google_silent", GOOGLE_SILENT), ("google_unreachable", GOOGLE_UNREACHABLE))


def _braked(it: SenderStats, end: datetime, now: datetime) -> Condition:
    """All that a sender has due waits until what bounced is read."""
    text = t(
        "{sender}: many messages bounced; their notices are read first, {until}",
        sender=it.name,
        until=until(end, now),
    )
    return Condition(
        Severity.BLUE,
        "braked",
        text,
        f"sender {it.email}",
        (f"mailerd bounces --sender {quote(it.email)}",),
        until=end,
    )
