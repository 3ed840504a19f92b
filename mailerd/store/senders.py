"""Senders as an operator sees and changes them: their limits, state and pauses; every change is idempotent."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import batched
from typing import Final, NamedTuple

from mailerd.config import Settings
from mailerd.core.i18n import t
from mailerd.core.models import SenderState
from mailerd.core.pauses import MANUAL, repair
from mailerd.core.rate_limit import FOREVER, MAX_GAP, SenderLimits
from mailerd.core.reasons import from_row
from mailerd.core.senders import SenderReading
from mailerd.core.verdicts import PauseCause
from mailerd.errors import MailerdError
from mailerd.store import sender_changes
from mailerd.store.action_log import note_action
from mailerd.store.db.connection import Cursor, Statement, naive, utc
from mailerd.store.db.database import Database, request
from mailerd.store.db.rows import Select
from mailerd.store.forecast_inputs import KnownSender, WaitingMessages, of_senders
from mailerd.store.queue import rate_limits
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.sender_rows import SENDER, StoredSender
from mailerd.store.stats import find_mailboxes

LIMITS: Final[Mapping[str, int | float]] = {
    "units_per_minute": 100_000_000, "per_minute": 100_000_000, "per_day": 100_000_000, "reserve": 100_000_000,
    "min_gap": MAX_GAP, "warm_up": 9_999_999, "warm_up_growth": 999_999,
}  # fmt: skip
"""The limits that a sender may have of its own, and the most of each. Those without a fraction are whole numbers."""

_READ_ALL: Final = f"SELECT {SENDER.columns} FROM senders s ORDER BY email"
_PAUSES: Final = """
SELECT email, pause_cause, paused_until, pause_reason, pause_reason_code, pause_reason_args, UTC_TIMESTAMP(6)
  FROM senders WHERE pause_cause IS NOT NULL"""
_IS_KNOWN: Final = """
SELECT EXISTS(SELECT 1 FROM senders WHERE email = %s) OR EXISTS(SELECT 1 FROM jobs WHERE sender_email = %s)"""
MAX_COUNTED: Final = 10_000
"""The most waiting messages of a sender that a page counts; `page` counts as many of all its senders together."""
_NO_BOUND: Final = 1 << 62
_READ_AT_ONCE: Final = 100
"""The most senders of which one statement reads."""
_WAITING: Final = Select(WaitingMessages)
# A job that waits since what bounced is read first has a time of its own.
_COUNT_DUE: Final = f"""
(SELECT {_WAITING.columns} FROM (
  SELECT GREATEST(r.due_at, IF(j.braked_until > UTC_TIMESTAMP(6), j.braked_until, r.due_at)) due, r.due_at own_due
    FROM jobs j FORCE INDEX (next_claim) STRAIGHT_JOIN job_recipients r FORCE INDEX (claim)
      ON r.job_id = j.id AND r.status = 'waiting' WHERE j.sender_email = %s AND j.claimable = 1 LIMIT %s) counted)"""
_READ_MODE: Final = "SELECT mode FROM senders FORCE INDEX (PRIMARY) WHERE email = %s"
_READ_ELSEWHERE: Final = """
SELECT sender_email, SUM(elsewhere) FROM sender_hours FORCE INDEX (PRIMARY)
 WHERE sender_email IN %s AND hour > %s GROUP BY sender_email"""
# The part of the minute before that still lies within 60 seconds: no query counts messages.
_SUM_LAST_MINUTE: Final = """
SELECT sender_email, SUM(IF(minute = %s, sent, CEIL(sent * %s))) FROM tallies FORCE INDEX (PRIMARY)
 WHERE minute IN %s AND sender_email IN %s GROUP BY sender_email"""
_READ_INBOXES: Final = "SELECT email, read_at FROM mailboxes FORCE INDEX (PRIMARY) WHERE email IN %s"
REPAIRS_TIMEOUT: Final = 4.0
"""Seconds for what one command shows beside something else."""


def readings_statement(only: Collection[str] | None, after: str, limit: int) -> Statement:
    """What `page` asks; a test has it explained."""
    columns = f"SELECT {SENDER.columns} FROM senders s FORCE INDEX (PRIMARY) WHERE email > %s"
    if only is None:
        return f"{columns} ORDER BY email LIMIT %s", (after, limit)
    return f"{columns} AND email IN %s ORDER BY email LIMIT %s", (after, tuple(only) or ("",), limit)


class SenderError(MailerdError):
    """There is no such sender, or the limits contradict each other."""


class ReserveError(SenderError):
    """The reserve leaves nothing of the day."""


class PauseResult(NamedTuple):
    """What a request to pause a sender came to."""

    until: datetime
    reason: str
    changed: bool
    """Whether it is paused for another time or another reason than before."""


@dataclass(frozen=True)
class Senders:
    """Queries for senders. `defaults`: the limits of a sender that has none of its own."""

    database: Database
    defaults: DefaultLimits
    timeout: float | None = None
    """Seconds that a caller waits for a change, or for a page; None: as long as for any statement."""

    async def all(self) -> list[SenderReading]:
        """Every sender, by address."""
        return await self.database.read(self._all, what="senders.list")

    async def repairs(self) -> dict[str, str]:
        """What a person has to do before messages go, by sender; without those for whom waiting is enough."""
        rows = await self.database.read_rows(_PAUSES, (), what="senders.read_pauses", bound=REPAIRS_TIMEOUT)
        found = {
            email: repair(cause, utc(end), sender=email, now=utc(now), reason=from_row(*reason))
            for email, cause, end, *reason, now in rows
        }
        return {email: words for email, words in found.items() if words}

    async def mode(self, email: str, *, within: float) -> str | None:
        """How it sends; None: it has sent nothing yet. `within`: seconds that the database gets for it."""
        rows = await self.database.request_rows(_READ_MODE, (email,), what="senders.list", bound=within)
        return next((mode for (mode,) in rows), None)

    async def _all(self, cursor: Cursor) -> list[SenderReading]:
        await cursor.execute(_READ_ALL)
        rows = [SENDER.row(row) for row in await cursor.fetchall()]
        return [
            each
            for some in batched(rows, _READ_AT_ONCE)
            for each in await self._readings(cursor, self._known(some), None, count_all=True)
        ]

    def _known(self, rows: Iterable[StoredSender]) -> dict[str, KnownSender]:
        return {it.email: KnownSender(it.state(self.defaults), it.hours, it.turn) for it in rows}

    def _unused(self, email: str, now: datetime) -> KnownSender:
        return KnownSender(rate_limits.default_state(email, now=now, defaults=self.defaults), {}, None)

    @request("senders.page", read_only=True)
    async def page(
        self,
        cursor: Cursor,
        *,
        only: Collection[str] | None,
        after: str = "",
        limit: int,
        aliases: Mapping[str, str] | None,
        authorized: Collection[str] = (),
    ) -> list[SenderReading]:
        """The first senders behind an address, of `only` where it is given.

        `authorized`: mailboxes that can be used; those for which nothing was ever posted have no row, and are senders.

        `aliases`: by mailbox, what a limited key calls it that does not name it; None: the key has no limit, and may be
        shown any message. The more senders a page has, the fewer waiting messages of each are counted, so that it takes
        no longer.
        """
        await cursor.execute(*readings_statement(only, after, limit))
        found = self._known(SENDER.row(row) for row in await cursor.fetchall())
        last = max(found) if len(found) == limit else None
        unused = [
            email
            for email in authorized
            if email > after and email not in found and (only is None or email in only) and (not last or email < last)
        ]
        if unused:
            now = utc(await cursor.fetch_value("SELECT UTC_TIMESTAMP(6)"))
            found |= {it: self._unused(it, now) for it in unused}
        return await self._readings(cursor, {email: found[email] for email in sorted(found)[:limit]}, aliases)

    @request("senders.find_one", read_only=True)
    async def unused(self, cursor: Cursor, email: str, *, aliases: Mapping[str, str] | None) -> SenderReading:
        """The same of a mailbox that has no row yet, since nothing was ever posted for it."""
        found = {email: self._unused(email, utc(await cursor.fetch_value("SELECT UTC_TIMESTAMP(6)")))}
        return (await self._readings(cursor, found, aliases))[0]

    async def _readings(
        self, cursor: Cursor, known: Mapping[str, KnownSender], aliases: Mapping[str, str] | None,
        *, count_all: bool = False,
    ) -> list[SenderReading]:  # fmt: skip
        if not known:
            return []
        names, now = tuple(known), next(iter(known.values())).state.now
        most = _NO_BOUND if count_all else max(1, MAX_COUNTED // len(names))
        # One statement: a hundred of them take twice as long.
        values = [value for email in names for value in (email, email, email, most)]
        await cursor.execute(" UNION ALL ".join([_COUNT_DUE] * len(names)), values)
        waiting = {it.email: it for it in map(_WAITING.row, await cursor.fetchall())}
        elsewhere, inboxes, sent = map(dict, await cursor.fetch_batch([
            (_READ_ELSEWHERE, (names, naive(now - timedelta(hours=25)))), (_READ_INBOXES, (names,)),
            _last_minute(names, now),
        ]))  # fmt: skip
        inputs = await of_senders(cursor, known, waiting=waiting, most=most, outage=self.database.outage)
        if aliases is not None:  # the message that failed may be another key's
            inputs = {
                email: replace(it, alias=aliases.get(email, ""), failing=it.failing and replace(it.failing, example=0))
                for email, it in inputs.items()
            }
        return [
            SenderReading(
                inputs=replace(inputs[email], used_minute=int(sent.get(email, 0))),
                elsewhere=int(elsewhere.get(email, 0)),
                counted_to=most,
                read_at=utc(inboxes.get(email)),
            )
            for email in names
        ]

    @request("senders.find_mailboxes", read_only=True)
    async def mailboxes_of(self, cursor: Cursor, names: Collection[str]) -> Mapping[str, str]:
        """The mailboxes behind these names that are none of them, each with the aliases that stand for it."""
        return (await find_mailboxes(cursor, names)).aliases

    @request("senders.change")
    async def change(
        self, cursor: Cursor, email: str, limits: Mapping[str, float | None], *, actor: str
    ) -> tuple[SenderState, bool]:
        """Give a sender limits of its own (None: the default again); one that is not known yet is made.

        Returns how it is now, and whether anything was changed.

        Raises:
            ReserveError: nothing would be left of its day.
        """
        unknown = set(limits) - set(LIMITS)
        if unknown:
            raise SenderError(t("a sender has no setting {join}", join=", ".join(sorted(unknown))))
        await sender_changes.add_sender(cursor, email)
        before = await self._read(cursor, email)
        if limits:
            await sender_changes.set_limits(cursor, email, limits)
        after = await self._read(cursor, email)
        if after.limits.per_day and after.limits.reserve >= after.limits.per_day:
            raise ReserveError(
                t(
                    "{email}: a reserve of {reserve} leaves nothing of {per_day} messages per day",
                    email=email,
                    reserve=after.limits.reserve,
                    per_day=after.limits.per_day,
                )
            )
        warm = ("warm_up", "warm_up_growth")
        if any(getattr(before.limits, name) != getattr(after.limits, name) for name in warm) and after.limits.warm_up:
            await sender_changes.restart_warm_up(cursor, email)
        if after.limits.min_gap < before.limits.min_gap:
            await sender_changes.shorten_gap(cursor, email, timedelta(seconds=after.limits.min_gap))
        await sender_changes.claim_now(cursor, email)
        changed = _limits(before) != _limits(after)
        if limits:
            given = {name: "default" if value is None else f"{value:g}" for name, value in limits.items()}
            detail = ", ".join(f"{name} {value}" for name, value in given.items())
            await cursor.execute(*note_action("limits", actor, sender=email, detail=detail, changed=changed))
        return await self._read(cursor, email), changed

    async def _read(self, cursor: Cursor, email: str) -> SenderState:
        if (state := await rate_limits.lock_sender(cursor, email, self.defaults)) is None:
            raise SenderError(t("sender {email} not found; see `mailerd senders list`", email=email))
        return state

    async def knows(self, email: str) -> bool:
        """Whether a row or a job bears that name."""
        ((known,),) = await self.database.request_rows(
            _IS_KNOWN, (email, email), what="senders.find", bound=self.timeout
        )
        return bool(known)

    @request("senders.pause")
    async def pause(
        self, cursor: Cursor, email: str, *, lasts: timedelta | None, reason: str, actor: str
    ) -> PauseResult:
        """Claim nothing for a sender for so long, or until it is resumed.

        A pause that Google asked for and that ends later stays as it is, with its cause: were it called a person's, the
        next order would cut it short.
        """
        await sender_changes.add_sender(cursor, email)
        it = await self._read(cursor, email)
        until = FOREVER if lasts is None else it.now + lasts
        if it.paused_until and it.pause_cause != MANUAL and it.paused_until > until:
            done = PauseResult(it.paused_until, it.pause_reason or reason, changed=False)
        else:
            tell = (it.paused_until, it.pause_cause) != (until, MANUAL)
            done = PauseResult(until, reason, changed=tell or it.pause_reason != reason)
            await sender_changes.pause_by_hand(cursor, email, cause=MANUAL, reason=reason, until=until, tell=tell)
        await cursor.execute(*note_action("pause", actor, sender=email, detail=reason, changed=done.changed))
        return done

    @request("senders.resume")
    async def resume(
        self, cursor: Cursor, email: str, *, actor: str, others: Collection[str] | None = None
    ) -> SenderState:
        """End any pause of a sender, whatever its cause; the state before.

        A pause for the quota of its Cloud project is one of all its senders: it ends for all of them, or for those of
        `others` that a limited key covers.

        Raises:
            SenderError: it is not known.
        """
        before = await self._read(cursor, email)
        await cursor.execute(*note_action("resume", actor, sender=email, changed=before.paused))
        await sender_changes.resume(cursor, email, cause=before.pause_cause)
        if before.paused and before.pause_cause == PauseCause.PROJECT_LIMIT:
            for other in await sender_changes.end_project_pause(cursor, email, only=others):
                await cursor.execute(*note_action("resume", actor, sender=other))
        return before

    @request("senders.resume")
    async def resume_project(self, cursor: Cursor, project: str, *, actor: str) -> list[str]:
        """End the pause for the quota of a Cloud project; the senders that were paused for it.

        Raises:
            SenderError: no sender uses this project.
        """
        await cursor.execute("SELECT 1 FROM senders FORCE INDEX (project) WHERE project = %s LIMIT 1", (project,))
        if await cursor.fetchone() is None:
            raise SenderError(t("no sender uses the project {project}; see `mailerd senders list`", project=project))
        paused = await sender_changes.paused_by_project(cursor, project)
        for email in paused:
            await cursor.execute(*note_action("resume", actor, sender=email))
            await sender_changes.resume(cursor, email, cause=PauseCause.PROJECT_LIMIT.value)
        return paused


def _limits(it: SenderState) -> dict[str, tuple[float, bool]]:
    """Each limit, and whether it is the sender's own."""
    return {name: (getattr(it.limits, name), name in it.own) for name in LIMITS}


def _last_minute(senders: Sequence[str], now: datetime) -> Statement:
    """What sums up how many messages each has sent in the last 60 seconds, by the tallies of two minutes."""
    this = now.replace(second=0, microsecond=0)
    minutes = naive(this), naive(this - timedelta(minutes=1))
    return _SUM_LAST_MINUTE, (minutes[0], 1 - (now - this) / timedelta(minutes=1), minutes, tuple(senders))


def default_limits(settings: Settings) -> DefaultLimits:
    """What senders may use unless they have their own."""
    pace = settings.pace
    default = SenderLimits(
        units_per_minute=pace.units_per_minute,
        per_minute=pace.per_minute,
        per_day=pace.per_day,
        reserve=pace.reserve,
        min_gap=pace.min_gap,
        warm_up=pace.warm_up,
        warm_up_growth=pace.warm_up_growth,
        standard=pace.tier == "standard",
    )
    return DefaultLimits(default, pace.consumer_per_day, pace.project_units_per_minute)
