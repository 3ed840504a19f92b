"""The door to the messages: no other file writes `job_recipients` or `attempts`, and a message
changes by `move`.

    lock the rows ▶ what each becomes (core/moves.py) ▶ move: the rows, the log of attempts, their
    jobs, their senders,
                                                             what else the caller changes, the
                                                             tallies, the events

Locks are taken in this order everywhere: messages by their ids, jobs by theirs, senders by their
addresses, then the hours, the tallies and the outbox. A line of `attempts` is unique by recipient,
token and event, and is written in the transaction that makes the change: so it answers what became
of a COMMIT without an answer.

What changes a whole job at once (cancel, retry) locks the job first, and is one statement for each
table here. What only holds a message (a lease, a check's turn) is no change of it.
"""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import chain
from typing import Any, Final

from mailerd.core.claims import ClaimedRecipient, Handover
from mailerd.core.extras import Extras
from mailerd.core.moves import (
    NEVER_HANDED_OVER,
    NO_LOG,
    TRIED_ANEW,
    AttemptLog,
    Line,
    Move,
    Row,
    cancelled,
)
from mailerd.core.reasons import from_row, in_row
from mailerd.core.results import Result
from mailerd.core.states import FOLLOWS, ImpossibleTransitionError, State, Tally, Transition, after
from mailerd.core.suppression import EVERYTHING, Reason
from mailerd.core.webhooks import EventType
from mailerd.store.db.connection import NOW, Cursor, Statement, insert_many, micros, naive, utc
from mailerd.store.db.database import Database
from mailerd.store.write import job_changes as jobs
from mailerd.store.write.event_feed import ASKS_FOR_SENT, NewEvent, insert_events, sent_events
from mailerd.store.write.sender_changes import refund_hours, wake_senders
from mailerd.store.write.tallies import count_tallies


def _expanded(names: Iterable[str]) -> str:
    """Columns, that of the error with those of its code and its fields."""
    return ", ".join("error, error_code, error_args" if name == "error" else name for name in names)


_REASON: Final = ("error", "error_code", "error_args")
"""The columns of a reason, as `in_row` has them."""
_IS_TEST: Final = (
    "EXISTS (SELECT 1 FROM jobs WHERE jobs.id = job_recipients.job_id AND jobs.type = 'test')"
)
_COLUMNS: Final = _expanded(_IS_TEST if name == "is_test" else name for name in Row._fields)
_LOCK: Final = f"""
SELECT {_COLUMNS}, {ASKS_FOR_SENT}, UTC_TIMESTAMP(6) FROM job_recipients FORCE INDEX (PRIMARY)
 WHERE id IN %s ORDER BY id FOR UPDATE"""
NEXT_WAS_TRIED: Final = """
IF(j.next_claim_at > UTC_TIMESTAMP(6),
   (SELECT r.attempts > 0 OR r.error IS NOT NULL FROM job_recipients r FORCE INDEX (claim)
     WHERE r.job_id = j.id AND r.status = 'waiting' ORDER BY r.due_at, r.id LIMIT 1), 0)"""
"""Of a job `j` that is not due: whether the message that is due next has been tried."""
_TIMES: Final = tuple(
    Row._fields.index(name)
    for name in (
        "due_at",
        "lease_until",
        "handed_over_at",
        "nothing_found_at",
        "result_at",
        "sent_at",
        "updated_at",
    )
)
_STATUS: Final = Row._fields.index("status")
_ERROR: Final = Row._fields.index("error")
_ERROR_OF_LINE: Final = Line._fields.index("error")
_READ_LOG: Final = f"""
SELECT {_expanded(Line._fields)} FROM attempts FORCE INDEX (event_of_claim) WHERE recipient_id IN %s ORDER BY id"""
_READ_LOGGED: Final = """
SELECT DISTINCT recipient_id FROM attempts FORCE INDEX (event_of_claim) WHERE recipient_id IN %s
"""
_FIND_LINE: Final = """
SELECT 1 FROM attempts FORCE INDEX (event_of_claim)
 WHERE recipient_id = %s AND claim_token = %s AND event = %s AND daemon_id = %s FOR UPDATE"""
# A repeated transaction writes its lines again: those that are there stay as they are.
_INSERT_LINES: Final = """
INSERT INTO attempts (recipient_id, attempt, claim_token, event, draft_id, message_id, error, error_code, error_args,
                      daemon_id, at)
VALUES %s ON DUPLICATE KEY UPDATE recipient_id = attempts.recipient_id"""
_FORGET_MESSAGES: Final = """
UPDATE attempts FORCE INDEX (event_of_claim) SET message_id = NULL
 WHERE recipient_id IN %s AND event IN ('sent', 'answered')"""
_SET_SAME: Final = "UPDATE job_recipients FORCE INDEX (PRIMARY) SET {sets} WHERE id IN %s"
_SET_EACH: Final = """
UPDATE ({rows}) v STRAIGHT_JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = v.id SET {sets}"""
_HAND_OVER: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET status = %s, mode = ELT(FIELD(id, {each}), {each}), draft_id = ELT(FIELD(id, {each}), {each}),
       thread_id = ELT(FIELD(id, {each}), {each}),
       handed_over_at = COALESCE(handed_over_at, UTC_TIMESTAMP(6)), crashes = 0, updated_at = UTC_TIMESTAMP(6)
 WHERE id IN %s AND (id, claim_token) IN %s AND status = 'sending' AND message_id IS NULL
   AND NOT EXISTS (SELECT 1 FROM suppressions FORCE INDEX (PRIMARY) WHERE digest IN %s AND list_id IN %s)
   AND NOT EXISTS (SELECT 1 FROM jobs FORCE INDEX (PRIMARY) WHERE id IN %s AND status IN ('paused', 'cancelled'))
   AND NOT EXISTS (SELECT 1 FROM senders FORCE INDEX (PRIMARY)
                    WHERE email IN %s AND pause_cause = 'manual' AND paused_until > UTC_TIMESTAMP(6))"""
_SELECT_STOPPED: Final = """
SELECT r.id FROM job_recipients r FORCE INDEX (PRIMARY) JOIN jobs j ON j.id = r.job_id
  LEFT JOIN senders s ON s.email = j.sender_email
 WHERE r.id IN %s AND (j.status IN ('paused', 'cancelled')
                       OR (s.pause_cause = 'manual' AND s.paused_until > UTC_TIMESTAMP(6)))"""

NOT_FORGOTTEN: Final = "to_email <> CONCAT('forgotten-', id, '@example.invalid')"
"""`Row.is_forgotten` is false of a row."""


NOT_LOCKED: Final = datetime.min.replace(tzinfo=UTC)
"""The time of no row."""


@dataclass(frozen=True)
class Locked:
    """Rows under their locks, as of `now` by the database's clock."""

    rows: dict[int, Row]
    now: datetime
    asks_for_sent: bool = True
    """Whether an endpoint asks for `recipients.sent`."""


async def lock(cursor: Cursor, ids: Iterable[int], *, wait: bool = True) -> Locked:
    """Lock these rows, in the order of their ids; unless it may `wait`, those that another
    transaction holds are left.

    First of all in a transaction. What is read here stays so until the COMMIT.
    """
    wanted = tuple(sorted(set(ids)))
    await cursor.execute(_LOCK if wait else f"{_LOCK} SKIP LOCKED", (wanted,))
    rows, now, asks = {}, NOT_LOCKED, False
    for *columns, asked, at in await cursor.fetchall():
        columns[_ERROR : _ERROR + 3] = [from_row(*columns[_ERROR : _ERROR + 3])]
        for number in _TIMES:
            columns[number] = utc(columns[number])
        columns[_STATUS] = State(columns[_STATUS])
        row = Row(*columns)
        rows[row.id], now, asks = row, utc(at), bool(asked)
    return Locked(rows, now, asks)


async def read_log(cursor: Cursor, ids: Iterable[int]) -> Mapping[int, AttemptLog]:
    """The log of attempts of each of these messages, whose rows are locked."""
    lines = defaultdict[int, list[Line]](list)
    await cursor.execute(_READ_LOG, (tuple(ids),))
    for (
        recipient,
        attempt,
        token,
        event,
        draft,
        message,
        error,
        code,
        args,
        id_,
    ) in await cursor.fetchall():
        line = Line(
            recipient, attempt, token, event, draft, message, from_row(error, code, args), id_
        )
        lines[line.recipient_id].append(line)
    return defaultdict(lambda: NO_LOG, {id_: AttemptLog(some) for id_, some in lines.items()})


async def move(
    cursor: Cursor,
    moves: Sequence[Move],
    *,
    by: str,
    also: Callable[[], Awaitable[None]] | None = None,
    asks_for_sent: bool = True,
) -> list[Row]:
    """Write these moves of locked rows and all that follows from them; what became of the row of
    each.

    Of several moves of one message each begins where the one before ended. `by`: the daemon that
    does it, or a token of its own. `also`: what else the caller changes of these jobs and senders,
    under the same locks. `asks_for_sent`: False where it is known that no endpoint asks for
    `recipients.sent`.

    Raises:
        ImpossibleTransitionError: a move is not in the table of transitions: a bug in mailerd.
    """
    first, last = dict[int, Row](), dict[int, Row]()
    for it in moves:
        if it.transition and after(it.before.status, it.transition) != it.after.status:
            raise ImpossibleTransitionError(it.before.status, it.transition)
        first.setdefault(it.before.id, it.before)
        last[it.before.id] = it.after
    waits, senders = _turns(moves)
    results = _results(zip(first.values(), last.values(), strict=True))
    found = await jobs.lock_jobs(cursor, {*waits, *results}) if waits or results else {}
    # a message that comes back into a cancelled job has nothing to wait for
    for row in list(last.values()):
        if (
            row.status == State.WAITING
            and (job := found.get(row.job_id))
            and job.is_cancelled
            and row.job_id in waits
        ):
            last[row.id] = cancelled(
                row, await jobs.who_cancelled(cursor, row.job_id), now=job.now
            ).after
    await _write_rows(cursor, [(first[id_], row) for id_, row in last.items() if row != first[id_]])
    if lines := [line for it in moves for line in it.lines]:
        await write_lines(cursor, lines, by=by)
    if back := [it.before.id for it in moves if it.forgets_messages]:
        await cursor.execute(_FORGET_MESSAGES, (tuple(back),))
    for id_, job in sorted(found.items()):
        await jobs.wake_job(cursor, job, waits.get(id_))
        await jobs.count_results(cursor, id_, results.get(id_))
    await wake_senders(cursor, senders)
    await refund_hours(cursor, [(it.sender, it.hour, it.copies_cost) for it in moves if it.hour])
    if also:
        await also()
    # Last of all, so that the rows of the tallies are locked for that moment only.
    counts = Counter((it.sender, at, tally) for it in moves for tally, at in _tallies(it))
    if statement := count_tallies(by, counts):
        await cursor.execute(*statement)
    if events := [event for it in moves if (event := _event(it))]:
        await cursor.execute(*insert_events(events))
    if asks_for_sent:
        await sent_events(
            cursor,
            [id_ for id_, row in last.items() if row.status == State.SENT != first[id_].status],
        )
    return [last[it.before.id] for it in moves]


async def hand_over(cursor: Cursor, records: Sequence[Handover]) -> bool:
    """Hand new messages over, in a statement that is a transaction of its own; False: not all of
    them were.

    It is the move `handed_over` of rows that need not be read: of a message that is new, all that a
    former worker makes known stands in its row. Where one of the addresses, a copy's among them,
    has a suppression, or one of the jobs or senders was stopped, none is handed over. Those that
    were may be handed over again.
    """
    ids = [it.message.id for it in records]
    values: list[object] = [after(State.SENDING, Transition.HANDED_OVER).value]
    for of in (lambda it: it.mode, lambda it: it.message.draft_id, lambda it: it.message.thread_id):
        values += [*ids, *map(of, records)]
    pairs = tuple((it.message.id, it.message.token) for it in records)
    digests = tuple({digest for it in records for digest in it.message.digests})
    lists = tuple({EVERYTHING, *(it.message.list_id for it in records)})
    jobs_and_senders = [
        tuple({it.message.job_id for it in records}),
        tuple({it.message.sender for it in records}),
    ]
    each = ", ".join(["%s"] * len(ids))
    values += [tuple(ids), pairs, digests, lists, *jobs_and_senders]
    await cursor.execute(_HAND_OVER.format(each=each), values)
    return cursor.rowcount == len(ids)


async def stopped(cursor: Cursor, ids: Collection[int]) -> set[int]:
    """Those of these messages whose job is paused or cancelled, or whose sender a person has
    paused.
    """
    if not ids:
        return set()
    await cursor.execute(_SELECT_STOPPED, (tuple(ids),))
    return {id_ for (id_,) in await cursor.fetchall()}


async def is_logged(cursor: Cursor, recipient: int, *, token: str, event: str, by: str) -> bool:
    """Whether the log has this line of this daemon: its transaction that made the change was
    committed.

    It waits for one that is still being committed, so that "not there" is a proof too.
    """
    await cursor.execute(_FIND_LINE, (recipient, token, event, by))
    return await cursor.fetchone() is not None


async def write_lines(cursor: Cursor, lines: Sequence[Line], *, by: str) -> None:
    """Log what happened; what is logged stays as it is."""
    rows = [(*it[:_ERROR_OF_LINE], *in_row(it.error), by) for it in lines]
    await cursor.execute(*insert_many(_INSERT_LINES, rows, last=NOW))


def _turns(moves: Iterable[Move]) -> tuple[dict[str, timedelta], dict[str, timedelta]]:
    """The jobs and the senders that get a turn, and in how long at the latest."""
    waits, senders = dict[str, timedelta](), dict[str, timedelta]()
    for it in moves:
        if it.transition and FOLLOWS[it.transition].waits:
            job = it.before.job_id
            waits[job] = min(it.wait, waits.get(job, it.wait))
            senders[it.sender] = min(it.wait, senders.get(it.sender, it.wait))
        elif it.frees_place:
            senders[it.sender] = timedelta(0)
    return waits, senders


_REPLIES: Final = frozenset({Result.REPLIED, Result.OTHER_REPLIED})
"""A person has answered."""
_COUNTED: Final = {Result.BOUNCED: "bounced", **dict.fromkeys(_REPLIES, "replied")}


def _results(changed: Iterable[tuple[Row, Row]]) -> dict[str, Counter[str]]:
    """How many more messages of each job have come back or were answered; fewer: below zero."""
    found = defaultdict[str, Counter[str]](Counter)
    for before, now in changed:
        if before.result != now.result:
            for result, number in ((before.result, -1), (now.result, 1)):
                if result and (name := _COUNTED.get(Result(result))):
                    found[now.job_id][name] += number
    return {job: counts for job, counts in found.items() if any(counts.values())}


def _tallies(it: Move) -> Iterable[tuple[Tally, datetime | None]]:
    """What is counted, and of a reply when it came: an inbox may be read long after that."""
    if it.before.is_test:
        return
    if it.transition and (tally := FOLLOWS[it.transition].tally):
        yield tally, None
    if it.after.result == Result.BOUNCED != it.before.result:
        yield Tally.BOUNCED, None
    if it.after.result in _REPLIES and it.before.result not in _REPLIES:
        yield Tally.REPLIED, it.after.result_at


def _event(it: Move) -> NewEvent | None:
    row = it.before
    if it.transition is None or (type_ := FOLLOWS[it.transition].event) is None:
        return None
    data: dict[str, object] = {
        "recipient_id": row.id,
        "job_id": row.job_id,
        "index": row.seq,
        "email": row.to_email,
        "sender_email": it.sender,
    }
    if type_ is EventType.RECIPIENT_FAILED:
        data["attempts"] = it.lines[0].attempt
    return NewEvent(
        type_, f"{row.id}:{it.token}", data | {"reason": it.reason}, row.job_id, it.sender
    )


async def _write_rows(cursor: Cursor, changed: Iterable[tuple[Row, Row]]) -> None:
    """One statement for all rows in which the same columns change."""
    groups = defaultdict[tuple[str, ...], list[Row]](list)
    for before, now in changed:
        groups[_changed(before, now)].append(now)
    for columns, rows in groups.items():
        await cursor.execute(*_update(columns, rows))


def _changed(before: Row, now: Row) -> tuple[str, ...]:
    return tuple(
        name for name, was, is_ in zip(Row._fields, before, now, strict=True) if was != is_
    )


def _update(changed: Sequence[str], rows: Sequence[Row]) -> Statement:
    """What is the same for all rows is spelled once."""
    values = {name: [_value(getattr(row, name)) for row in rows] for name in changed}
    if "error" in values:
        reasons = [in_row(row.error) for row in rows]
        values |= {name: [it[number] for it in reasons] for number, name in enumerate(_REASON)}
    same = [name for name, some in values.items() if some.count(some[0]) == len(rows)]
    each = [name for name in values if name not in same]
    if not each:
        sets = ", ".join(f"{name} = %s" for name in same)
        return _SET_SAME.format(sets=sets), [
            *(values[name][0] for name in same),
            tuple(row.id for row in rows),
        ]
    sets = ", ".join(
        [*(f"r.{name} = v.{name}" for name in each), *(f"r.{name} = %s" for name in same)]
    )
    head = "SELECT %s id, " + ", ".join(f"%s {name}" for name in each)
    more = "SELECT " + ", ".join(["%s"] * (len(each) + 1))
    union = " UNION ALL ".join([head, *[more] * (len(rows) - 1)])
    given = [
        value
        for place, row in enumerate(rows)
        for value in (row.id, *(values[name][place] for name in each))
    ]
    return _SET_EACH.format(rows=union, sets=sets), [*given, *(values[name][0] for name in same)]


def _value(value: Any) -> Any:
    """What the driver takes."""
    if isinstance(value, StrEnum):
        return value.value
    return naive(value) if isinstance(value, datetime) else value


def short(text: str | None, limit: int = 1000) -> str | None:
    """What fits into a column of so many characters."""
    return text if text is None or len(text) <= limit else text[: limit - 1] + "…"


# Suppressions: a claim marks the messages that have one, and no hand-over is written for these.
#
# The look of the claim spares Google the message. That of the hand-over is the promise: it is made
# under the row's lock, in the transaction after whose COMMIT Google is asked to send.

BINDING: Final = """
SELECT digest, list_id, reason FROM suppressions FORCE INDEX (PRIMARY)
WHERE digest IN %s AND list_id IN %s
"""


async def mark_new(cursor: Cursor, messages: Sequence[ClaimedRecipient]) -> list[ClaimedRecipient]:
    """The claimed messages, whose rows are locked; those of which the log of attempts has nothing
    are new.
    """
    if not messages:
        return []
    await cursor.execute(_READ_LOGGED, (tuple(it.id for it in messages),))
    logged = {id_ for (id_,) in await cursor.fetchall()}
    return [replace(it, is_new=it.id not in logged and it.draft_id is None) for it in messages]


async def mark_suppressed(
    cursor: Cursor, messages: Sequence[ClaimedRecipient]
) -> list[ClaimedRecipient]:
    """The claimed messages, each with why it may not go, where it may not, and with the copies that
    may not.
    """
    digests = tuple({digest for it in messages for digest in it.digests if digest})
    if not digests:
        return list(messages)
    await cursor.execute(BINDING, (digests, tuple({EVERYTHING, *(it.list_id for it in messages)})))
    found = dict[tuple[bytes, int], Reason]()
    for (
        digest,
        list_id,
        reason,
    ) in await cursor.fetchall():  # of several origins; a bounce is the strongest reason
        place = bytes(digest), list_id
        if found.get(place) is not Reason.HARD_BOUNCE:
            found[place] = Reason(reason)
    return [_marked(it, found) for it in messages] if found else list(messages)


def _marked(it: ClaimedRecipient, found: dict[tuple[bytes, int], Reason]) -> ClaimedRecipient:
    suppressed = _reason(it, it.digest or b"", found)
    barred = tuple(copy for copy in it.copies if _reason(it, copy.digest, found))
    return replace(it, suppressed=suppressed, barred=barred) if suppressed or barred else it


def _reason(
    it: ClaimedRecipient, digest: bytes, found: dict[tuple[bytes, int], Reason]
) -> Reason | None:
    reasons = {found.get((digest, list_id)) for list_id in (EVERYTHING, it.list_id)} - {None}
    if Reason.HARD_BOUNCE in reasons:
        return Reason.HARD_BOUNCE
    return None if it.overrides or not reasons else min(reasons, key=str)


async def suppressed(database: Database, message: ClaimedRecipient) -> ClaimedRecipient:
    """The message as `mark_suppressed` marks it by now."""

    async def work(cursor: Cursor) -> ClaimedRecipient:
        (now,) = await mark_suppressed(cursor, [message])
        return now

    return await database.read(work, what="suppressions.check", bound=database.probe_timeout)


# A whole job at once: one statement for each table, however many messages there are.

_MOVE_DUE: Final = """
UPDATE job_recipients FORCE INDEX (claim) SET due_at = %s, updated_at = UTC_TIMESTAMP(6)
 WHERE job_id = %s AND status = 'waiting' AND send_at IS NULL"""
_CANCEL_WAITING: Final = """
UPDATE job_recipients FORCE INDEX (claim)
   SET status = %s, error = %s, error_code = %s, error_args = %s, updated_at = UTC_TIMESTAMP(6)
 WHERE job_id = %s AND status = 'waiting'"""
# What was refused at the intake has no attempt behind it: it has no address, or is a duplicate, and
# stays failed. So does what a worker reported as sent after it had been given up: Google has it.
RETRIABLE: Final = f"""
status = 'failed' AND attempts > 0 AND message_id IS NULL AND {NOT_FORGOTTEN} AND NOT EXISTS (
    SELECT 1 FROM attempts a WHERE a.recipient_id = job_recipients.id AND a.event IN ('sent', 'answered')
       AND a.message_id IS NOT NULL)"""
"""Which failed messages a retry takes."""
_FAILED: Final = f"job_id = %s AND {RETRIABLE}"
_OF_ERRORS: Final = " AND COALESCE(error, '') IN %s"
# One that fails between the two statements has no line yet, and stays failed.
_IS_LOGGED: Final = """ AND EXISTS (
    SELECT 1 FROM attempts a WHERE a.recipient_id = job_recipients.id AND a.claim_token = %s AND a.event = 'retried')"""
_BOUNCED: Final = f"job_id = %s AND status = 'sent' AND result = 'bounced' AND result_kind IN %s AND {NOT_FORGOTTEN}"
_LOG_RETRIED: Final = """
INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, draft_id, message_id, error, error_code,
                      error_args, at)
SELECT id, attempts, %s, %s, 'retried', {columns}, UTC_TIMESTAMP(6) FROM job_recipients FORCE INDEX (claim)
 WHERE """
# The reason `bounced`.
_WHY_BOUNCED: Final = """
draft_id, message_id, CONCAT('bounced: ', COALESCE(result_reason, result_kind)), 'bounced',
       JSON_OBJECT('reason', COALESCE(result_reason, result_kind))"""
_NO_ERROR: Final[Mapping[str, Any]] = dict.fromkeys(_REASON)
# Every hand-over asks the log whether Google has the message. It had, and it came back. A join:
# before MariaDB 11.1 and MySQL 8.0.21 an UPDATE with IN (SELECT …) reads the whole log.
_FORGET_MESSAGES_OF_BOUNCED: Final = f"""
UPDATE (SELECT id AS recipient FROM job_recipients FORCE INDEX (claim) WHERE {_BOUNCED}) r
  STRAIGHT_JOIN attempts a FORCE INDEX (event_of_claim) ON a.recipient_id = r.recipient
   SET a.message_id = NULL WHERE a.event IN ('sent', 'answered')"""


def _let_wait(values: Mapping[str, Any]) -> Statement:
    """How an UPDATE begins that lets messages of a job wait again, with these values."""
    sets = ", ".join(f"{name} = %s" for name in values)
    start = "UPDATE job_recipients FORCE INDEX (claim) SET status = 'waiting', due_at = UTC_TIMESTAMP(6), "
    return f"{start}updated_at = UTC_TIMESTAMP(6), {sets} WHERE ", list(values.values())


async def cancel_waiting(cursor: Cursor, job: str, *, reason: str) -> int:
    """Cancel the messages of a locked job that wait; how many."""
    await cursor.execute(
        _CANCEL_WAITING, (after(State.WAITING, Transition.CANCELLED).value, *in_row(reason), job)
    )
    return cursor.rowcount


async def move_due(cursor: Cursor, job: str, at: datetime) -> int:
    """Let those messages of a locked, unbegun job wait until `at` that have no time of their own;
    how many.
    """
    await cursor.execute(_MOVE_DUE, (naive(at), job))
    return cursor.rowcount


async def retry_failed(
    cursor: Cursor, job: str, *, token: str, errors: Collection[str] | None = None
) -> int:
    """Let the failed messages of a locked job be tried anew, or only those with one of these
    errors; how many.
    """
    after(State.FAILED, Transition.RETRIED)
    which, given = (
        (_FAILED, [job])
        if errors is None
        else (_FAILED + _OF_ERRORS, [job, tuple(errors) or ("",)])
    )
    columns = "NULL, NULL, error, error_code, error_args"
    await cursor.execute(_LOG_RETRIED.format(columns=columns) + which, (token, token, *given))
    start, values = _let_wait({**TRIED_ANEW, **_NO_ERROR})
    await cursor.execute(start + which + _IS_LOGGED, (*values, *given, token))
    return cursor.rowcount


async def send_bounced_again(cursor: Cursor, job: str, *, token: str, kinds: Sequence[str]) -> int:
    """Let those messages of a locked job wait again that bounced, of these kinds; how many."""
    after(State.SENT, Transition.RETRIED)
    given = (job, tuple(kinds))
    await cursor.execute(
        _LOG_RETRIED.format(columns=_WHY_BOUNCED) + _BOUNCED + " FOR UPDATE", (token, token, *given)
    )
    await cursor.execute(_FORGET_MESSAGES_OF_BOUNCED, given)
    start, values = _let_wait({"attempts": 0, **_NO_ERROR, **NEVER_HANDED_OVER})
    await cursor.execute(start + _BOUNCED, (*values, *given))
    return cursor.rowcount


# What holds a message for a while, and changes nothing of it.

_RENEW_LEASES: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY) SET lease_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND
 WHERE id IN %s AND (id, claim_token) IN %s AND status = 'sending'"""
_READ_HELD: Final = """
SELECT id, claim_token FROM job_recipients FORCE INDEX (PRIMARY)
 WHERE id IN %s AND (id, claim_token) IN %s AND status = 'sending'"""
_LOCK_CHECKS: Final = """
SELECT id FROM job_recipients FORCE INDEX (PRIMARY)
 WHERE id IN %s AND lease_until < UTC_TIMESTAMP(6) AND status = 'unsure' ORDER BY id FOR UPDATE SKIP LOCKED"""
_TAKE_FOR_CHECK: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET claim_token = %s, daemon_id = %s, lease_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND
 WHERE id IN %s AND status = 'unsure' AND lease_until < UTC_TIMESTAMP(6)"""
_CHECK_AGAIN: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY) SET lease_until = UTC_TIMESTAMP(6)
 WHERE id IN %s AND status = 'unsure' AND lease_until IS NULL"""
# Checked now, but never before a request without an answer can no longer arrive. It stays unsure
# until it is found or missing; a message that is being checked (it has a token) is left alone.
_CHECK_JOB_NOW: Final = """
UPDATE job_recipients FORCE INDEX (claim)
   SET checks = 0, lease_until = LEAST(COALESCE(lease_until, '9999-12-31'),
                                      GREATEST(UTC_TIMESTAMP(6), updated_at + INTERVAL %s MICROSECOND))
 WHERE job_id = %s AND status = 'unsure' AND claim_token IS NULL"""


async def renew(
    cursor: Cursor, held: Collection[tuple[int, str]], *, lease: timedelta
) -> set[tuple[int, str]]:
    """Prolong the leases of (id, token) pairs by the database's clock; the pairs that are still
    held.
    """
    pairs = tuple(held)
    ids = tuple({id_ for id_, _ in pairs})  # for the range; the pairs are the fence
    await cursor.execute(_RENEW_LEASES, (micros(lease), ids, pairs))
    if cursor.rowcount == len(pairs):
        return set(pairs)
    await cursor.execute(_READ_HELD, (ids, pairs))
    return {(id_, token) for id_, token in await cursor.fetchall()}


async def take_for_check(
    cursor: Cursor, ids: Sequence[int], *, token: str, daemon: str, lease: timedelta
) -> tuple[int, ...]:
    """Take unresolved sends for a check that is due, those that no other transaction holds; their
    ids.
    """
    await cursor.execute(_LOCK_CHECKS, (tuple(ids),))
    if free := tuple(id_ for (id_,) in await cursor.fetchall()):
        await cursor.execute(_TAKE_FOR_CHECK, (token, daemon, micros(lease), free))
    return free


async def check_again(cursor: Cursor, ids: Sequence[int]) -> int:
    """Let unsure messages that wait for a person be checked; how many."""
    await cursor.execute(_CHECK_AGAIN, (tuple(ids),))
    return cursor.rowcount


async def check_job_now(cursor: Cursor, job: str, *, late_arrival: timedelta) -> int:
    """Let the unsure messages of a job be checked as soon as that is safe; how many."""
    await cursor.execute(_CHECK_JOB_NOW, (micros(late_arrival), job))
    return cursor.rowcount


# New rows, and what a clock that was ahead has left in old ones.

_INSERT_RECIPIENTS: Final = (
    "INSERT INTO job_recipients (job_id, seq, to_email, to_name, variables, status, error, error_code, error_args, "
    "due_at, updated_at{more}) VALUES "
)
_MORE: Final = ", send_at" + "".join(f", {name}" for name in Extras._fields)
_RECIPIENT_ROW: Final = "(%s, %%s, %%s, %%s, %%s, %%s, %%s, %%s, %%s, %s, %s)"
"""A row of them, once what all rows share is put in: there is no % in a job's id."""
_ROW_WITH_EXTRAS: Final = (
    f"(%s, %%s, %%s, %%s, %%s, %%s, %%s, %%s, %%s, %%s, %s, %%s{', %%s' * len(Extras._fields)})"
)
"""The same for jobs of which a recipient has `Extras` or its own time: the others do not pay for
them.
"""
# A message that waits for a later try keeps its time, and so does one for whose time a client has
# asked.
_DUE_NOW: Final = """
UPDATE job_recipients FORCE INDEX (claim) SET due_at = GREATEST(UTC_TIMESTAMP(6), COALESCE(send_at, UTC_TIMESTAMP(6)))
 WHERE job_id = %s AND status = 'waiting' AND due_at = %s AND due_at > UTC_TIMESTAMP(6)"""
# No check of a message in doubt is put off for more than an hour.
_CHECK_WITHIN_AN_HOUR: Final = """
UPDATE job_recipients FORCE INDEX (lease) SET lease_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR
 WHERE lease_until > UTC_TIMESTAMP(6) + INTERVAL 1 HOUR AND status = 'unsure'"""


async def add_recipients(
    cursor: Cursor,
    job: str,
    batches: Iterable[Sequence[Sequence[object]]],
    *,
    now: datetime,
    due: datetime | None,
    bound: float,
) -> None:
    """Add the messages of a new job, a statement a batch.

    `due`: when all are due; None: each row says when, and more.

    `now` and `due` are the database's, naive; `bound`: seconds for each statement.
    """
    # The driver's executemany would spell the shared values anew for each row: 9 µs a row instead
    # of 3.
    if due is None:
        insert, row = (
            _INSERT_RECIPIENTS.format(more=_MORE),
            cursor.mogrify(_ROW_WITH_EXTRAS, (job, now)),
        )
    else:
        insert, row = (
            _INSERT_RECIPIENTS.format(more=""),
            cursor.mogrify(_RECIPIENT_ROW, (job, due, now)),
        )
    statements = (
        (insert + ", ".join([row] * len(batch)), list(chain.from_iterable(batch)))
        for batch in batches
    )
    await cursor.execute_each(statements, bound=bound)


async def bring_forward(database: Database, job: str, due_at: datetime) -> None:
    """Let the messages of a job be due now that were due at that time, which a clock that was ahead
    has written.
    """
    await database.execute(_DUE_NOW, (job, due_at), what="clock.follow")


async def follow_clock(database: Database) -> None:
    """Bring back the moments that a clock that was ahead has left."""
    await database.execute(_CHECK_WITHIN_AN_HOUR, what="clock.follow")
