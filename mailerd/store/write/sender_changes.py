"""Every change of a row of `senders`, of its hours and of its project: no other file writes these
tables.

Rows are locked in the order of their names, senders before projects, and both before the hours.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from mailerd.clock import new_id
from mailerd.core import rate_limit
from mailerd.core.claims import Mode
from mailerd.core.decisions import Pause
from mailerd.core.pauses import with_remedy
from mailerd.core.reasons import from_row, in_row
from mailerd.core.verdicts import PauseCause
from mailerd.core.webhooks import EventType
from mailerd.store.db.connection import Cursor, insert_many, micros, naive, rfc3339, utc
from mailerd.store.db.database import Database
from mailerd.store.write.event_feed import NewEvent, insert_events

# Turns: when the next claim finds a sender.

_WAKE: Final = """
UPDATE senders FORCE INDEX (PRIMARY)
   SET next_claim_at = LEAST(COALESCE(next_claim_at, '9999-12-31'), UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND)
 WHERE email = %s"""
# Never before now: from its turn on a message counts as late.
_WAKE_AT: Final = """
UPDATE senders FORCE INDEX (PRIMARY)
   SET next_claim_at = LEAST(COALESCE(next_claim_at, '9999-12-31'),
                             GREATEST(CAST(%s AS DATETIME(6)), UTC_TIMESTAMP(6))) WHERE email = %s"""
_LOCK: Final = (
    "SELECT email FROM senders FORCE INDEX (PRIMARY) WHERE email IN %s ORDER BY email FOR UPDATE"
)
# An UPDATE of many rows, each with values of its own: every row is there and locked, so nothing is
# ever inserted.
_END_TURNS: Final = """
INSERT INTO senders (email, next_claim_at, tat, gap_until, created_at) VALUES %s
    ON DUPLICATE KEY UPDATE next_claim_at = VALUES(next_claim_at), tat = VALUES(tat), gap_until = VALUES(gap_until)"""
_SCHEDULE: Final = """
INSERT INTO senders (email, next_claim_at, created_at) VALUES (%s, %s, %s)
    ON DUPLICATE KEY UPDATE next_claim_at = LEAST(COALESCE(next_claim_at, %s), %s)"""
_RESCHEDULE: Final = """
UPDATE senders FORCE INDEX (PRIMARY)
   SET next_claim_at = UTC_TIMESTAMP(6), gap_until = LEAST(gap_until, UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND)
 WHERE email = %s AND next_claim_at = %s"""
# A sender that waits for its turn is claimed again, under the new limits.
_CLAIM_NOW: Final = """
UPDATE senders FORCE INDEX (PRIMARY) SET next_claim_at = UTC_TIMESTAMP(6)
 WHERE email = %s AND next_claim_at IS NOT NULL"""


async def schedule(cursor: Cursor, email: str, *, due: datetime, now: datetime) -> None:
    """Let a sender, known or not, be claimed when a new job is due; both times are the database's,
    naive.
    """
    await cursor.execute(_SCHEDULE, (email, due, now, due, due))


async def lock_senders(cursor: Cursor, emails: Iterable[str], *, wait: bool = False) -> set[str]:
    """Lock these rows; unless it may `wait`, those that another transaction holds are left.

    Which are ours.
    """
    names = tuple(sorted(set(emails))) or ("",)
    await cursor.execute(_LOCK if wait else f"{_LOCK} SKIP LOCKED", (names,))
    return {email for (email,) in await cursor.fetchall()}


async def wake_senders(cursor: Cursor, waits: Mapping[str, timedelta]) -> None:
    """Let these be claimed in so long at the latest."""
    for email, wait in sorted(waits.items()):
        await cursor.execute(_WAKE, (micros(wait), email))


async def wake_at(cursor: Cursor, email: str, at: datetime) -> None:
    """Let a sender be claimed at this time, as the database has it, and not before now."""
    await cursor.execute(_WAKE_AT, (at, email))


async def claim_now(cursor: Cursor, email: str) -> None:
    """Let a sender that waits for its turn have it now."""
    await cursor.execute(_CLAIM_NOW, (email,))


async def reschedule_stale(
    cursor: Cursor, email: str, *, next_claim_at: datetime, longest_gap: timedelta
) -> None:
    """Let a sender be claimed now that waits for a reason that is gone; a turn that has moved is
    left alone.
    """
    await cursor.execute(_RESCHEDULE, (micros(longest_gap), email, naive(next_claim_at)))


async def end_turns(
    cursor: Cursor,
    turns: Iterable[tuple[str, datetime | None, datetime | None, datetime | None, datetime]],
) -> None:
    """Write address, next turn, arrival time, gap and the time of now of each sender; their rows
    are locked.
    """
    rows = [(email, *map(naive, times)) for email, *times in sorted(turns)]
    if rows:
        await cursor.execute(*insert_many(_END_TURNS, rows))


# Hours: what the rolling day counts.

_DEBIT_HOURS: Final = """
INSERT INTO sender_hours (sender_email, hour, messages, copies) VALUES %s
    ON DUPLICATE KEY UPDATE messages = messages + VALUES(messages), copies = copies + VALUES(copies)"""
# Off the hour that was debited: off a later one, as many messages that did go then would be
# forgotten.
_REFUND_HOUR: Final = """
UPDATE sender_hours SET messages = messages - LEAST(messages, %s), copies = copies - LEAST(copies, %s)
 WHERE sender_email = %s AND hour = %s"""
_ADD_ELSEWHERE: Final = """
INSERT INTO sender_hours (sender_email, hour, messages, elsewhere)
VALUES (%s, DATE_FORMAT(%s, '%%Y-%%m-%%d %%H:00:00'), 0, %s)
    ON DUPLICATE KEY UPDATE elsewhere = elsewhere + VALUES(elsewhere)"""


async def debit_hours(cursor: Cursor, messages: Sequence[tuple[str, datetime, int, int]]) -> None:
    """Count messages of senders, by address and hour: how many, and what their copies cost."""
    if messages:
        rows = [
            (email, naive(hour), number, copies) for email, hour, number, copies in sorted(messages)
        ]
        await cursor.execute(*insert_many(_DEBIT_HOURS, rows))


async def refund_hours(cursor: Cursor, messages: Iterable[tuple[str, datetime, int]]) -> None:
    """Count messages that were not sent no longer: of each its sender, its hour and what its copies
    cost.
    """
    back = defaultdict[tuple[str, datetime], list[int]](list)
    for email, hour, copies in messages:
        back[email, hour].append(copies)
    for (email, hour), costs in sorted(back.items()):
        await cursor.execute(_REFUND_HOUR, (len(costs), sum(costs), email, naive(hour)))


async def add_elsewhere(cursor: Cursor, sender: str, *, at: datetime, messages: int) -> None:
    """Count messages that the mailbox has sent at that time without mailerd."""
    await cursor.execute(_ADD_ELSEWHERE, (sender, naive(at), messages))


# Pauses, each with its event.

_PAUSE_BEFORE: Final = """
SELECT pause_cause, UTC_TIMESTAMP(6) FROM senders FORCE INDEX (PRIMARY) WHERE email = %s FOR UPDATE"""
_PAUSE: Final = """
UPDATE senders FORCE INDEX (PRIMARY)
   SET paused_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND, pause_cause = %s, pause_reason = %s,
       pause_reason_code = %s, pause_reason_args = %s, pauses = %s
 WHERE email = %s AND COALESCE(paused_until, '1970-01-01') < UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND"""
_PAUSE_BY_HAND: Final = """
UPDATE senders FORCE INDEX (PRIMARY)
   SET paused_until = %s, pause_cause = %s, pause_reason = %s, pause_reason_code = %s, pause_reason_args = %s
 WHERE email = %s"""
_END_PAUSE: Final = """
UPDATE senders FORCE INDEX (PRIMARY) SET pauses = 0, pause_cause = NULL, pause_reason = NULL, paused_until = NULL
 WHERE email = %s AND COALESCE(paused_until, '1970-01-01') <= UTC_TIMESTAMP(6)"""
_RESUME: Final = """
UPDATE senders FORCE INDEX (PRIMARY)
   SET paused_until = NULL, pause_cause = NULL, pause_reason = NULL, pauses = 0, concurrency = NULL,
       gap_until = NULL, bounces_seen = UTC_TIMESTAMP(6) WHERE email = %s"""
_LIFT: Final = """
UPDATE senders FORCE INDEX (PRIMARY) SET paused_until = NULL, pause_cause = NULL, pause_reason = NULL
 WHERE email = %s"""
_SELECT_PAUSED: Final = """
SELECT email FROM senders FORCE INDEX (project)
 WHERE project = %s AND pause_cause = %s AND paused_until > UTC_TIMESTAMP(6) ORDER BY email FOR UPDATE"""
_SELECT_PAUSED_OF_PROJECT: Final = """
SELECT o.email FROM senders s FORCE INDEX (PRIMARY)
  STRAIGHT_JOIN senders o FORCE INDEX (project) ON o.project = s.project
 WHERE s.email = %s AND o.email <> %s AND o.pause_cause = %s AND o.paused_until > UTC_TIMESTAMP(6)
 ORDER BY o.email FOR UPDATE"""
# The cause stays until a message has gone well: the first one goes alone, and if nothing has
# changed it pauses anew.
_TRY_AGAIN: Final = """
UPDATE senders FORCE INDEX (PRIMARY)
   SET paused_until = UTC_TIMESTAMP(6), next_claim_at = LEAST(next_claim_at, UTC_TIMESTAMP(6))
 WHERE email = %s AND paused_until > UTC_TIMESTAMP(6) AND pause_cause IN %s"""


async def _last_pause(cursor: Cursor, email: str) -> tuple[str | None, datetime | None]:
    """The cause of a sender's pause, None where it has none, and the time of this answer; the row
    is locked.
    """
    await cursor.execute(_PAUSE_BEFORE, (email,))
    cause, now = await cursor.fetchone() or (None, None)
    return cause, utc(now)


async def pause_sender(
    cursor: Cursor, email: str, *, cause: str, reason: str, wait: timedelta, pauses: int
) -> bool:
    """Let nothing of the sender be claimed for `wait`; whether that is longer than before.

    Its event is written too, unless a pause of this cause is only prolonged. The cause stays until
    a message has gone well: a sign-in that is refused at each try is one pause.
    """
    was, now = await _last_pause(cursor, email)
    lasts = micros(wait)
    await cursor.execute(_PAUSE, (lasts, cause, *in_row(reason, 500), pauses, email, lasts))
    if cursor.rowcount != 1:
        return False
    if was != cause and now is not None:
        await _write_paused(cursor, email, cause=cause, reason=reason, until=now + wait)
    return True


async def pause_by_hand(
    cursor: Cursor, email: str, *, cause: str, reason: str, until: datetime, tell: bool
) -> None:
    """Let nothing of a sender, whose row is locked, be claimed until then.

    `tell`: it was not so before.
    """
    await cursor.execute(_PAUSE_BY_HAND, (naive(until), cause, *in_row(reason, 500), email))
    if tell:
        end = None if until == rate_limit.FOREVER else until
        await _write_paused(cursor, email, cause=cause, reason=reason, until=end)


async def end_pause(cursor: Cursor, email: str) -> bool:
    """A message of it has gone well: what is over of its pause is forgotten; whether there was any
    such.
    """
    cause, _ = await _last_pause(cursor, email)
    await cursor.execute(_END_PAUSE, (email,))
    if is_over := cursor.rowcount > 0:
        await _write_resumed(cursor, email, cause=cause)
    return is_over


async def end_project_pause(
    cursor: Cursor, email: str, *, only: Collection[str] | None = None
) -> list[str]:
    """End the pause that the other senders of its project have for the project's quota; which they
    are.

    Nothing else of them changes: their gaps, their concurrency and what bounced are their own.
    `only`: some of them.

    A sender that sends again, or that a person has resumed, shows that the quota is there. A later
    refusal by Google would have paused this sender too, in one transaction with the others, so no
    newer pause is ended.
    """
    await cursor.execute(_SELECT_PAUSED_OF_PROJECT, (email, email, PauseCause.PROJECT_LIMIT.value))
    names = [name for (name,) in await cursor.fetchall() if only is None or name in only]
    for name in names:
        await cursor.execute(_LIFT, (name,))
        await claim_now(cursor, name)
        await _write_resumed(cursor, name, cause=PauseCause.PROJECT_LIMIT.value)
    return names


async def paused_by_project(cursor: Cursor, project: str) -> list[str]:
    """The senders of a project that are paused for its quota."""
    await cursor.execute(_SELECT_PAUSED, (project, PauseCause.PROJECT_LIMIT.value))
    return [name for (name,) in await cursor.fetchall()]


async def resume(cursor: Cursor, email: str, *, cause: str | None) -> None:
    """End any pause of a sender whose row is locked; `cause`: of the pause, None: there was
    none.
    """
    await cursor.execute(_RESUME, (email,))
    await claim_now(cursor, email)
    await _write_resumed(cursor, email, cause=cause)


async def try_again(cursor: Cursor, email: str, *, causes: Collection[str]) -> None:
    """Let a message of a sender go that is paused for one of these causes: it may be mended."""
    await cursor.execute(_TRY_AGAIN, (email, tuple(causes)))


async def _write_paused(
    cursor: Cursor, email: str, *, cause: str, reason: str, until: datetime | None
) -> None:
    """Write the event of a pause; `until` None: until it is resumed."""
    reason = with_remedy(reason, cause, sender=email)
    data = {
        "sender_email": email,
        "cause": cause,
        "reason": reason,
        "until": until and rfc3339(until),
    }
    await _write(cursor, EventType.SENDER_PAUSED, email, data)


async def _write_resumed(cursor: Cursor, email: str, *, cause: str | None) -> None:
    if cause is not None:
        await _write(
            cursor, EventType.SENDER_RESUMED, email, {"sender_email": email, "cause": cause}
        )


async def _write(cursor: Cursor, type_: EventType, email: str, data: Mapping[str, object]) -> None:
    """Write the event of a sender whose row is locked, so that each change has one."""
    await cursor.execute(*insert_events([NewEvent(type_, new_id(), data, sender=email)]))


# Mode and project: how it sends, and whose quota it uses. A project is what the sign-in's client id
# says.

_SET_FORGOTTEN_MODE: Final = (
    "UPDATE senders FORCE INDEX (PRIMARY) SET mode = %s WHERE email = %s AND mode IS NULL"
)
_SET_MODE_AND_PROJECT: Final = (
    "UPDATE senders FORCE INDEX (PRIMARY) SET mode = %s, project = %s WHERE email = %s"
)
_READ_PROJECT_LIMIT: Final = """
SELECT TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), paused_until), pause_reason, pause_reason_code, pause_reason_args
  FROM senders FORCE INDEX (project)
 WHERE project = %s AND pause_cause = %s AND paused_until > UTC_TIMESTAMP(6) ORDER BY paused_until DESC LIMIT 1"""
_READ_PROJECT_SENDERS: Final = """
SELECT o.email FROM senders s JOIN senders o ON o.project = s.project WHERE s.email IN %s"""
_READ_PROJECT: Final = "SELECT project FROM senders FORCE INDEX (PRIMARY) WHERE email = %s"
_INSERT_PROJECTS: Final = (
    "INSERT INTO projects (name) VALUES %s ON DUPLICATE KEY UPDATE name = projects.name"
)
# they are locked
_SET_PROJECT_TATS: Final = (
    "INSERT INTO projects (name, tat) VALUES %s ON DUPLICATE KEY UPDATE tat = VALUES(tat)"
)


async def set_mode_and_project(
    cursor: Cursor, email: str, *, mode: Mode, project: str | None
) -> None:
    """Note how a sender sends and whose quota it uses, for the rate limits."""
    await cursor.execute(_SET_MODE_AND_PROJECT, (mode, project, email))


async def learn_mode(cursor: Cursor, email: str, mode: Mode) -> None:
    """Note how a sender sends, where its row has forgotten it: else its inbox is not read."""
    await cursor.execute(_SET_FORGOTTEN_MODE, (mode, email))


async def join_project(database: Database, sender: str, project: str, mode: Mode) -> Pause | None:
    """Note the sender's project and mode before its first message goes to Google; the project's
    pause, if any.
    """

    async def work(cursor: Cursor) -> Pause | None:
        await set_mode_and_project(cursor, sender, mode=mode, project=project)
        await cursor.execute(_READ_PROJECT_LIMIT, (project, PauseCause.PROJECT_LIMIT.value))
        return next(
            (
                Pause(
                    PauseCause.PROJECT_LIMIT,
                    from_row(*reason) or "",
                    timedelta(microseconds=wait),
                    joins=True,
                )
                for wait, *reason in await cursor.fetchall()
            ),
            None,
        )

    return await database.transaction(work, what="senders.note_project")


async def project_senders(cursor: Cursor, senders: Iterable[str]) -> set[str]:
    """The senders of the same projects, these included."""
    await cursor.execute(_READ_PROJECT_SENDERS, (tuple(senders),))
    return {email for (email,) in await cursor.fetchall()}


async def add_projects(database: Database, names: Iterable[str]) -> None:
    """Give each of these a row, in a commit of its own.

    An INSERT cannot skip a locked row: in a claim, a daemon that froze there would hold up all
    others. Here it commits by itself, outside any transaction, whether or not the daemon goes on.

    Raises:
        DatabaseError: they may have none yet; the next claim that finds them adds them again.
    """
    statement = insert_many(_INSERT_PROJECTS, [(name,) for name in sorted(names)])
    await database.read(lambda cursor: cursor.execute(*statement), what="projects.add")


async def set_project_tats(cursor: Cursor, tats: Mapping[str, datetime | None]) -> None:
    """Write the arrival times of these projects, whose rows are locked."""
    await cursor.execute(
        *insert_many(_SET_PROJECT_TATS, [(name, naive(tat)) for name, tat in sorted(tats.items())])
    )


# What was measured: how slow the way to Google is, and how many messages it takes at a time.

# Under a lock, since another daemon may note a message of the same sender.
_LATENCY: Final = """
SELECT latency, latency_at, UTC_TIMESTAMP(6) FROM {} FORCE INDEX (PRIMARY)
WHERE {} = %s FOR UPDATE
"""
_SET_LATENCY: Final = (
    "UPDATE {} FORCE INDEX (PRIMARY) SET latency = %s, latency_at = UTC_TIMESTAMP(6) WHERE {} = %s"
)
# Half of its messages in flight, once for all that were refused together; rate_limit.concurrency
# lets it grow again.
_SET_CONCURRENCY: Final = """
UPDATE senders FORCE INDEX (PRIMARY) SET concurrency = %s, concurrency_at = UTC_TIMESTAMP(6)
 WHERE email = %s AND COALESCE(concurrency_at, '1970-01-01') < UTC_TIMESTAMP(6) - INTERVAL 5 SECOND"""
_READ_CONCURRENCY: Final = """
SELECT concurrency, concurrency_at, UTC_TIMESTAMP(6) FROM senders FORCE INDEX (PRIMARY)
WHERE email = %s
"""
_COUNT_IN_FLIGHT: Final = """
SELECT j.sender_email, COUNT(*) FROM jobs j FORCE INDEX (finished)
  JOIN job_recipients r FORCE INDEX (claim) ON r.job_id = j.id AND r.status = 'sending'
 WHERE j.finished_at IS NULL AND j.sender_email IN %s GROUP BY j.sender_email"""
_DEBIT_CALL: Final = (
    "UPDATE senders FORCE INDEX (PRIMARY) SET tat = %s, other_calls_at = %s WHERE email = %s"
)


async def record_latency(cursor: Cursor, slowest: Mapping[str, float]) -> None:
    """Keep how many seconds a sender's slowest message took to Google, on its row and then on its
    project's.
    """
    of_projects: dict[str, float] = {}
    for sender, took in sorted(slowest.items()):
        await _record_latency(cursor, ("senders", "email"), sender, took)
        if project := await cursor.fetch_value(_READ_PROJECT, (sender,)):
            of_projects[project] = max(took, of_projects.get(project, 0.0))
    for project, took in sorted(of_projects.items()):
        await _record_latency(cursor, ("projects", "name"), project, took)


async def _record_latency(cursor: Cursor, where: tuple[str, str], name: str, took: float) -> None:
    await cursor.execute(_LATENCY.format(*where), (name,))
    if row := await cursor.fetchone():  # a project without a limit has none
        before, seen, now = row
        latency = rate_limit.update_latency(took, before=before, seen=seen, now=now)
        await cursor.execute(_SET_LATENCY.format(*where), (latency, name))


async def halve_concurrency(cursor: Cursor, sender: str) -> None:
    """Let fewer messages of a sender be in flight: Google takes no more at a time."""
    await cursor.execute(_READ_CONCURRENCY, (sender,))
    limit, since, now = await cursor.fetchone()
    allowed = rate_limit.concurrency(limit, since=since, now=now)
    in_flight = await in_flight_by_sender(cursor, (sender,))
    before = in_flight[sender] + 1  # the one that was refused is no longer `sending`
    await cursor.execute(_SET_CONCURRENCY, (max(1, min(before, allowed or before) // 2), sender))


async def in_flight_by_sender(cursor: Cursor, senders: Sequence[str]) -> dict[str, int]:
    """Messages of each sender that are in flight in any daemon; asked only where Google wants fewer
    of them.
    """
    await cursor.execute(_COUNT_IN_FLIGHT, (tuple(senders),))
    return dict.fromkeys(senders, 0) | dict(await cursor.fetchall())


async def debit_call(cursor: Cursor, email: str, *, tat: datetime | None, now: datetime) -> None:
    """Debit a call that sends no message from a sender whose row is locked."""
    await cursor.execute(_DEBIT_CALL, (naive(tat), naive(now), email))


# What an operator sets.

_ADD: Final = """
INSERT INTO senders (email, created_at) VALUES (%s, UTC_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE email = email
"""
_RESTART_WARM_UP: Final = (
    "UPDATE senders FORCE INDEX (PRIMARY) SET warm_up_from = UTC_TIMESTAMP(6) WHERE email = %s"
)
# The gap after its last message is no longer than the new one, from now on.
_SHORTEN_GAP: Final = """
UPDATE senders FORCE INDEX (PRIMARY) SET gap_until = LEAST(gap_until, UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND)
 WHERE email = %s"""


async def add_sender(cursor: Cursor, email: str) -> None:
    """Make a row for a sender that is not known yet."""
    await cursor.execute(_ADD, (email,))


async def set_limits(cursor: Cursor, email: str, limits: Mapping[str, Any]) -> None:
    """Give a sender these limits of its own; the names are columns."""
    columns = ", ".join(f"{name} = %s" for name in limits)
    await cursor.execute(
        f"UPDATE senders FORCE INDEX (PRIMARY) SET {columns} WHERE email = %s",
        (*limits.values(), email),
    )


async def restart_warm_up(cursor: Cursor, email: str) -> None:
    """Let its warm-up begin today."""
    await cursor.execute(_RESTART_WARM_UP, (email,))


async def shorten_gap(cursor: Cursor, email: str, gap: timedelta) -> None:
    """Let the next message wait no longer than so."""
    await cursor.execute(_SHORTEN_GAP, (micros(gap), email))


# What a clock that was ahead has left.

_CLOCK_WENT_BACK: Final = (
    # No arrival time lies much more than a minute ahead.
    """
UPDATE senders
   SET next_claim_at = LEAST(next_claim_at, UTC_TIMESTAMP(6)), tat = LEAST(tat, UTC_TIMESTAMP(6) + INTERVAL 1 MINUTE),
       gap_until = LEAST(gap_until, UTC_TIMESTAMP(6) + INTERVAL 1 MINUTE),
       other_calls_at = LEAST(other_calls_at, UTC_TIMESTAMP(6)), latency_at = LEAST(latency_at, UTC_TIMESTAMP(6)),
       concurrency_at = LEAST(concurrency_at, UTC_TIMESTAMP(6)),
       bounces_seen = LEAST(bounces_seen, UTC_TIMESTAMP(6))""",
    """
UPDATE projects
   SET tat = LEAST(tat, UTC_TIMESTAMP(6) + INTERVAL 1 MINUTE), latency_at = LEAST(latency_at, UTC_TIMESTAMP(6))""",
)
"""What brings the moments of senders and projects back."""
# Another daemon that sees the step waits here and finds nothing more to move: MySQL reads for an
# INSERT without a lock.
_LOCK_HOURS: Final = "SELECT COUNT(*) FROM sender_hours WHERE hour > UTC_TIMESTAMP() FOR UPDATE"
_ADD_HOURS: Final = """
INSERT INTO sender_hours (sender_email, hour, messages, copies, elsewhere)
SELECT h.sender_email, DATE_FORMAT(UTC_TIMESTAMP(), '%Y-%m-%d %H:00:00'), h.messages, h.copies, h.elsewhere
  FROM (SELECT * FROM sender_hours WHERE hour > UTC_TIMESTAMP()) h
    ON DUPLICATE KEY UPDATE messages = sender_hours.messages + VALUES(messages),
                            copies = sender_hours.copies + VALUES(copies),
                            elsewhere = sender_hours.elsewhere + VALUES(elsewhere)"""
_DELETE_HOURS: Final = "DELETE FROM sender_hours WHERE hour > UTC_TIMESTAMP()"


async def follow_clock(database: Database) -> None:
    """Bring back the moments that a clock that was ahead has left."""
    for statement in _CLOCK_WENT_BACK:
        await database.execute(statement, what="clock.follow")


async def move_hours_back(cursor: Cursor) -> None:
    """Count what was sent in hours that are still to come in the present hour: Google did so
    too.
    """
    await cursor.execute(_LOCK_HOURS)
    await cursor.fetchone()
    await cursor.execute(_ADD_HOURS)
    await cursor.execute(_DELETE_HOURS)
