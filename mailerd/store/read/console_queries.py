"""Queries of the console that nothing else asks.

None counts messages; each has a bound and reads by an index.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal, NamedTuple

from mailerd.core.i18n import Text
from mailerd.core.labels import said_of_row
from mailerd.core.notices import Kind
from mailerd.core.reasons import from_event, from_row
from mailerd.core.states import State
from mailerd.core.webhooks import EventType
from mailerd.model.fields import Sql
from mailerd.store.db.connection import Statement, naive, utc
from mailerd.store.db.database import Database
from mailerd.store.db.rows import Select
from mailerd.store.write.messages import RETRIABLE

MAX_FAILURES: Final = 2_000
"""Failed messages of a job that are read to group them: each may have a reason of its own."""
MAX_CAUSES: Final = 20
"""The most causes that are shown."""
MAX_EVENTS: Final = 20_000
"""The newest events, in which failures are looked for."""
MAX_FAILED_JOBS: Final = 500
MAX_PAUSES: Final = 1_000
"""The most pauses of all senders, and the most ends of pauses, in which those of one are looked
for.
"""
MAX_OPEN: Final = 1_000
MAX_UNDONE: Final = 1_000
"""The most undone messages that are read."""
READ_TIMEOUT: Final = 2.0
"""The most seconds for one query."""

FAILURES: Final = f"""
SELECT id, {RETRIABLE}, error, error_code, error_args FROM job_recipients FORCE INDEX (claim)
 WHERE job_id = %s AND status = 'failed' LIMIT {MAX_FAILURES}"""
# By its notices, of which there are few.
SOFT_BOUNCE: Final = f"""
SELECT 1 FROM notices n FORCE INDEX (job) STRAIGHT_JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = n.recipient_id
 WHERE n.job_id = %s AND n.kind = '{Kind.SOFT.value}' AND r.status = 'sent' AND r.result = 'bounced'
   AND r.result_kind = '{Kind.SOFT.value}' LIMIT 1"""
# Unfinished jobs are few, however many there are.
OPEN_JOBS: Final = """
SELECT j.id FROM jobs j FORCE INDEX (finished) WHERE j.finished_at IS NULL AND {which} {senders}
 ORDER BY j.id DESC LIMIT %s"""
_WHICH: Final = {
    "progress": "j.send_at <= UTC_TIMESTAMP(6)",
    "scheduled": "j.send_at > UTC_TIMESTAMP(6)",
    "unsure": "EXISTS (SELECT 1 FROM job_recipients r FORCE INDEX (claim) "
    "WHERE r.job_id = j.id AND r.status = 'unsure')",
}
JOBS_ENDING: Final = """
SELECT id FROM (SELECT id FROM jobs FORCE INDEX (PRIMARY) ORDER BY id DESC LIMIT 20000) j WHERE RIGHT(id, 6) = %s"""
MAX_ACTIONS: Final = 20_000
"""The newest actions in which those of one actor, object or time are looked for."""
MAX_NOTICES: Final = 20_000
"""The newest notices in which replies are looked for."""
REPLIES: Final = f"""
SELECT {{columns}} FROM (SELECT id, sender_email, recipient_id, email, kind, at FROM notices FORCE INDEX (PRIMARY)
                        ORDER BY id DESC LIMIT {MAX_NOTICES}) n {{join}}
 WHERE n.kind = '{Kind.REPLY.value}' {{mine}}"""
# `cause` holds type and id: the newest of a type are found without reading their rows, however many
# there are.
UNDONE: Final = f"""
SELECT e.id, e.data, e.at, e.sender_email FROM (
  SELECT id FROM events FORCE INDEX (cause) WHERE type = '{EventType.RECIPIENT_SENT_UNDONE}'
   ORDER BY id DESC LIMIT %s) u STRAIGHT_JOIN events e FORCE INDEX (PRIMARY) ON e.id = u.id
 WHERE e.id < %s {{senders}} ORDER BY e.id DESC LIMIT %s"""
# Their causes are ids, which begin with the time.
PAUSES: Final = f"""
SELECT e.type, e.data, e.at FROM (
  (SELECT id FROM events FORCE INDEX (cause) WHERE type = '{EventType.SENDER_PAUSED}'
    ORDER BY cause DESC LIMIT {MAX_PAUSES})
  UNION ALL
  (SELECT id FROM events FORCE INDEX (cause) WHERE type = '{EventType.SENDER_RESUMED}'
    ORDER BY cause DESC LIMIT {MAX_PAUSES})) p STRAIGHT_JOIN events e FORCE INDEX (PRIMARY) ON e.id = p.id
 WHERE e.sender_email = %s ORDER BY e.id DESC LIMIT %s"""
MAX_USES: Final = 10_000
"""The newest jobs in which those with a template are looked for."""
_NEWEST: Final = f"""
(SELECT id, template_name, type, created_at, sent, from_address FROM jobs FORCE INDEX (PRIMARY)
  ORDER BY id DESC LIMIT {MAX_USES}) j"""
USES: Final = f"""
SELECT j.template_name, MAX(j.created_at), SUM(j.sent) FROM {_NEWEST}
 WHERE j.template_name IS NOT NULL AND j.type <> 'test' {{senders}} GROUP BY j.template_name"""
_READ_STATUS: Final = "SELECT id, status FROM job_recipients FORCE INDEX (PRIMARY) WHERE id IN %s"
# The newest events, whatever their type: however many there are, no more are read.
FAILED_JOBS: Final = f"""
SELECT DISTINCT job_id FROM (
  SELECT type, job_id FROM events FORCE INDEX (PRIMARY) ORDER BY id DESC LIMIT %s) e
 WHERE type = '{EventType.RECIPIENT_FAILED}' LIMIT %s"""
_READ_SUBJECT: Final = "SELECT subject, template_name, sender_name FROM jobs WHERE id = %s"
_ADDRESS: Final = re.compile(r"(?<![^\s<>\"'@])[^\s<>\"'@]+@[^\s<>\"',;:]+")
"""It begins where a word does: to try from each character of a long word takes quadratic time."""
_IDENTIFIER: Final = re.compile(r"\b(?=\w*\d)\w{6,}\b|\b\d+\b")


@dataclass(frozen=True)
class FailureCause:
    """Failed messages of one job whose reasons differ in addresses and numbers at most."""

    id: str
    """Its name in a form."""
    text: str
    messages: int
    example: int
    """The id of one of these messages."""
    errors: frozenset[str]
    """The reasons as they stand on the rows."""
    retriable: int
    """How many of them a retry would take."""


@dataclass(frozen=True)
class UnsureMessage:
    """A message of which it is not known whether it was sent."""

    id: int
    job_id: str
    to_email: str
    sender: Annotated[str, Sql("j.from_address")]
    since: Annotated[datetime, Sql("r.updated_at")]
    look_at: Annotated[datetime | None, Sql("r.lease_until")]
    """When it is checked again; None: a person has to resolve it."""
    checks: int
    error: Annotated[str | None, Sql("r.error", "r.error_code", "r.error_args", read=from_row)]


_DOUBT: Final = Select(UnsureMessage, of="r")
DOUBTS: Final = f"""
SELECT {_DOUBT.columns}
  FROM jobs j FORCE INDEX (finished) STRAIGHT_JOIN job_recipients r FORCE INDEX (claim)
    ON r.job_id = j.id AND r.status = 'unsure'
 WHERE j.finished_at IS NULL {{senders}} LIMIT %s"""


@dataclass(frozen=True)
class LoggedAction:
    """What a person or a program asked of a job, a sender, a webhook or suppressions."""

    id: int
    job_id: str | None
    """The job that it was asked of; None: it was asked of something else."""
    action: str
    actor: Annotated[str, Sql("a.actor", read=lambda actor: said_of_row(actor) or "")]
    detail: Annotated[str | None, Sql("a.detail", read=said_of_row)]
    changed: bool
    messages: int
    at: datetime
    sender: Annotated[str | None, Sql("COALESCE(j.from_address, a.sender)")]
    """The sender of the job, or the sender that it was asked of; None: it was asked of something
    else.
    """
    webhook: str | None
    """The name of the webhook that it was asked of."""


_ACTION: Final = Select(LoggedAction, of="a")
_SELECT_ACTIONS: Final = f"""
SELECT {_ACTION.columns} FROM {{actions}} LEFT JOIN jobs j FORCE INDEX (PRIMARY) ON j.id = a.job_id
 {{where}} ORDER BY a.id DESC LIMIT %s"""
_ALL_ACTIONS: Final = "job_actions a FORCE INDEX (PRIMARY)"
_NEWEST_ACTIONS: Final = (
    f"(SELECT * FROM job_actions FORCE INDEX (PRIMARY) ORDER BY id DESC LIMIT {MAX_ACTIONS}) a"
)


@dataclass(frozen=True)
class ActionFilter:
    """Which actions are shown; what is empty holds for all."""

    actor: str = ""
    """A part of who asked."""
    action: str = ""
    about: str = ""
    """A job's ID, or a sender."""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Reply:
    """What a person has answered."""

    recipient: int | None
    email: str
    name: str | None
    at: datetime


@dataclass(frozen=True)
class UndoneMessage:
    """A message that was recorded as sent, and was not."""

    id: int
    """The id of the event that says so."""
    recipient: int
    job_id: str
    to_email: str
    sender: str
    reason: str
    at: datetime
    status: State | None
    """Its state now; None: its row is pruned."""


@dataclass(frozen=True)
class PauseChange:
    """That a sender was paused, or resumed."""

    at: datetime
    is_paused: bool
    cause: str
    reason: str
    until: datetime | None
    """None: until it is resumed."""


@dataclass(frozen=True)
class TemplateUse:
    """How a template was used by the newest MAX_USES jobs."""

    last: datetime
    sent: int
    """Messages of jobs that have ended."""


class LatestReader(NamedTuple):
    """A recipient of a template's job."""

    id: int
    email: Annotated[str, Sql("r.to_email")]
    name: Annotated[str | None, Sql("r.to_name")]
    job_id: str


_READER: Final = Select(LatestReader, of="r")
# Three people each of the newest jobs.
LATEST_READERS: Final = f"""
SELECT {_READER.columns}
  FROM (SELECT j.id FROM {_NEWEST} WHERE j.template_name = %s AND j.type <> 'test' {{senders}}
         ORDER BY j.id DESC LIMIT 10) t
  STRAIGHT_JOIN job_recipients r FORCE INDEX (message) ON r.job_id = t.id AND r.seq < 3
 WHERE r.to_email <> CONCAT('forgotten-', r.id, '@example.invalid') ORDER BY r.job_id DESC, r.seq LIMIT 10"""


@dataclass(frozen=True)
class ConsoleQueries:
    """Reads what the console shows; writes nothing."""

    database: Database

    async def failures(self, job: str) -> list[FailureCause]:
        """What has failed in a job by its cause, the most frequent first; of the first MAX_FAILURES
        messages.
        """
        return group_failures(await self._rows((FAILURES, (job,)), what="failures.group"))

    async def has_soft_bounce(self, job: str) -> bool:
        """Whether a retry of soft bounces would take a message of the job."""
        return bool(await self._rows((SOFT_BOUNCE, (job,)), what="bounces.find_soft"))

    async def failed_jobs(self) -> list[str]:
        """Jobs of which messages failed lately: of the last MAX_EVENTS events."""
        rows = await self._rows((FAILED_JOBS, (MAX_EVENTS, MAX_FAILED_JOBS)), what="failures.list")
        return [job for (job,) in rows if job]

    async def open_jobs(
        self, which: Literal["progress", "scheduled", "unsure"], senders: Collection[str] | None
    ) -> list[str]:
        """Unfinished jobs whose time has come, or is to come, or with unsure messages; the newest
        MAX_OPEN of them.
        """
        rows = await self._rows(open_jobs_statement(which, senders), what="jobs.list_open")
        return [job for (job,) in rows]

    async def jobs_ending(self, text: str) -> list[str]:
        """New jobs whose id ends so: what pages show of it."""
        return [job for (job,) in await self._rows((JOBS_ENDING, (text,)), what="jobs.find")]

    async def doubts(self, *, limit: int, senders: Collection[str] | None) -> list[UnsureMessage]:
        """Unsure messages of unfinished jobs."""
        rows = await self._rows(doubts_statement(limit, senders), what="unconfirmed.list")
        return [_DOUBT.row(each) for each in rows]

    async def action_log(
        self,
        *,
        limit: int,
        before: int | None,
        senders: Collection[str] | None,
        only: ActionFilter | None = None,
    ) -> list[LoggedAction]:
        """What was asked, the newest first; with a filter, of the last MAX_ACTIONS."""
        rows = await self._rows(
            actions_statement(limit, before, senders, only), what="actions.list"
        )
        return [_ACTION.row(each) for each in rows]

    async def latest_replies(self, *, limit: int, senders: Collection[str] | None) -> list[Reply]:
        """The newest replies, by whom."""
        join = "LEFT JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = n.recipient_id"
        statement, mine = replies_statement(
            "n.recipient_id, n.email, r.to_name, n.at", join, senders
        )
        rows = await self._rows(
            (f"{statement} ORDER BY n.id DESC LIMIT %s", (*mine, limit)), what="replies.list"
        )
        return [Reply(recipient, email or "", name, utc(at)) for recipient, email, name, at in rows]

    async def undone(
        self, *, limit: int, before: int | None, senders: Collection[str] | None
    ) -> list[UndoneMessage]:
        """Messages that were recorded as sent and wait again, newest first: of the last MAX_UNDONE
        that are kept.
        """
        rows = await self._rows(undone_statement(limit, before, senders), what="undone.list")
        found = [(id_, from_event(json.loads(data)), at, sender) for id_, data, at, sender in rows]
        messages = tuple(it["recipient_id"] for _, it, _, _ in found)
        now = (
            dict(await self._rows((_READ_STATUS, (messages,)), what="undone.list"))
            if messages
            else {}
        )
        return [
            _undone(id_, it, at, sender, now.get(it["recipient_id"]))
            for id_, it, at, sender in found
        ]

    async def pauses(self, sender: str, *, limit: int) -> list[PauseChange]:
        """When a sender was paused and resumed, the newest first: of the last MAX_PAUSES of all
        that are kept.
        """
        rows = await self._rows((PAUSES, (sender, limit)), what="pauses.list")
        return [_pause(type_, from_event(json.loads(data)), at) for type_, data, at in rows]

    async def template_uses(self, senders: Collection[str] | None) -> dict[str, TemplateUse]:
        """By the names of templates, how the newest MAX_USES jobs have used them; tests are no
        use.
        """
        mine, values = _of(senders)
        rows = await self._rows((USES.format(senders=mine), values), what="templates.uses")
        return {name: TemplateUse(utc(last), int(sent)) for name, last, sent in rows}

    async def latest_readers(
        self, template: str, senders: Collection[str] | None
    ) -> list[LatestReader]:
        """Some recipients of the newest jobs of a template."""
        mine, values = _of(senders)
        statement = LATEST_READERS.format(senders=mine), (template, *values)
        return [_READER.row(each) for each in await self._rows(statement, what="templates.readers")]

    async def subject(self, job: str) -> tuple[str, str | None, str | None]:
        """A job's subject as it was written, its template's name and its sender's name."""
        rows = await self._rows((_READ_SUBJECT, (job,)), what="jobs.read_subject")
        return next(iter(rows), ("", None, None))

    async def _rows(self, statement: Statement, *, what: str) -> Sequence[Any]:
        return await self.database.request_rows(*statement, what=what, bound=READ_TIMEOUT)


def group_failures(
    rows: Iterable[tuple[int, int, str | None, str | None, str | None]],
) -> list[FailureCause]:
    """Rows of a message, whether a retry would take it, and its reason, by the cause that they
    share.
    """
    messages, taken = dict[str, list[int]](), Counter[str]()
    for id_, retriable, *error in rows:
        said = from_row(*error) or ""
        messages.setdefault(said, []).append(id_)
        taken[said] += bool(retriable)
    groups: dict[str, list[str]] = {}
    for said in messages:
        groups.setdefault(_without_names(said), []).append(said)
    causes = [
        FailureCause(
            hashlib.sha256(text.encode()).hexdigest()[:12],
            text if len(reasons) > 1 else reasons[0],
            sum(len(messages[reason]) for reason in reasons),
            min(min(messages[reason]) for reason in reasons),
            frozenset(reasons),
            sum(taken[reason] for reason in reasons),
        )
        for text, reasons in groups.items()
    ]
    return sorted(causes, key=lambda it: -it.messages)[:MAX_CAUSES]


def _without_names(said: str) -> str:
    """A reason without what differs from message to message."""
    english = _IDENTIFIER.sub("…", _ADDRESS.sub("…", said))
    if not isinstance(said, Text) or not said.msgid:
        return english
    fields = {
        name: _without_names(it) if isinstance(it, str) else it for name, it in said.fields.items()
    }
    return Text(english, said.msgid, fields)


def open_jobs_statement(which: str, senders: Collection[str] | None) -> Statement:
    """What `open_jobs` asks; a test has it explained."""
    mine, values = _of(senders)
    return OPEN_JOBS.format(which=_WHICH[which], senders=mine), (*values, MAX_OPEN)


def _of(senders: Collection[str] | None) -> tuple[str, tuple[object, ...]]:
    return ("", ()) if senders is None else ("AND j.from_address IN %s", (tuple(senders) or ("",),))


def doubts_statement(limit: int, senders: Collection[str] | None) -> Statement:
    """What `doubts` asks; a test has it explained."""
    if senders is None:
        return DOUBTS.format(senders=""), (limit,)
    return DOUBTS.format(senders="AND j.from_address IN %s"), (tuple(senders) or ("",), limit)


def _undone(
    id_: int, it: Mapping[str, Any], at: datetime, sender: str, status: str | None
) -> UndoneMessage:
    return UndoneMessage(
        id_,
        it["recipient_id"],
        it["job_id"],
        it["email"],
        sender,
        it.get("reason") or "",
        utc(at),
        State(status) if status else None,
    )


def _pause(type_: str, it: Mapping[str, Any], at: datetime) -> PauseChange:
    until = it.get("until")
    return PauseChange(
        utc(at),
        type_ == EventType.SENDER_PAUSED,
        it.get("cause") or "",
        it.get("reason") or "",
        datetime.fromisoformat(until) if until else None,
    )


def undone_statement(limit: int, before: int | None, senders: Collection[str] | None) -> Statement:
    """What `undone` asks; a test has it explained."""
    most = before if before is not None else 1 << 62
    if senders is None:
        return UNDONE.format(senders=""), (MAX_UNDONE, most, limit)
    # Whose an event is it says once it has its place (store/write/event_feed.py).
    mine = "AND e.position IS NOT NULL AND e.sender_email IN %s"
    return UNDONE.format(senders=mine), (MAX_UNDONE, most, tuple(senders) or ("",), limit)


def actions_statement(
    limit: int,
    before: int | None,
    senders: Collection[str] | None,
    only: ActionFilter | None = None,
) -> Statement:
    """What `action_log` asks; a test has it explained."""
    where = ["a.id < %s"] if before is not None else []
    values: list[object] = [before] if before is not None else []
    if senders is not None:
        where.append("COALESCE(j.from_address, a.sender) IN %s")
        values.append(tuple(senders) or ("",))
    it = only or ActionFilter()
    if it.actor:
        where.append("LOCATE(%s, a.actor)")
        values.append(it.actor)
    if it.action:
        where.append("a.action = %s")
        values.append(it.action)
    if it.about:
        where.append("%s IN (a.job_id, a.sender, a.webhook)")
        values.append(it.about)
    if it.since:
        where.append("a.at >= %s")
        values.append(naive(it.since))
    if it.until:
        where.append("a.at < %s")
        values.append(naive(it.until))
    actions = _ALL_ACTIONS if it == ActionFilter() else _NEWEST_ACTIONS
    clause = f"WHERE {' AND '.join(where)}" if where else ""
    return _SELECT_ACTIONS.format(actions=actions, where=clause), (*values, limit)


def replies_statement(
    columns: str, join: str, senders: Collection[str] | None
) -> tuple[str, tuple[object, ...]]:
    """What is asked for replies, without what follows; a test has it explained."""
    mine = "" if senders is None else "AND n.sender_email IN %s"
    return REPLIES.format(columns=columns, join=join, mine=mine), () if senders is None else (
        tuple(senders) or ("",),
    )
