"""Senders as an operator sees and changes them: their limits, state and pauses; every change is idempotent."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from mailerd.config import Settings
from mailerd.core.i18n import t
from mailerd.core.models import SenderState
from mailerd.core.pauses import MANUAL, repair
from mailerd.core.rate_limit import FOREVER, MAX_GAP, SenderLimits
from mailerd.errors import MailerdError
from mailerd.store import sender_changes
from mailerd.store.action_log import note_action
from mailerd.store.db.connection import Cursor, Statement, utc
from mailerd.store.db.database import Database, transaction
from mailerd.store.queue import rate_limits
from mailerd.store.queue.rate_limits import COLUMNS, DefaultLimits

LIMITS: Final[Mapping[str, int | float]] = {
    "units_per_minute": 100_000_000, "per_minute": 100_000_000, "per_day": 100_000_000, "reserve": 100_000_000,
    "min_gap": MAX_GAP, "warm_up": 9_999_999, "warm_up_growth": 999_999,
}  # fmt: skip
"""The limits that a sender may have of its own, and the most of each. Those without a fraction are whole numbers."""

_READ_ALL: Final = f"SELECT {COLUMNS} FROM senders ORDER BY email"
_PAUSES: Final = "SELECT email, pause_cause, paused_until, UTC_TIMESTAMP(6) FROM senders WHERE pause_cause IS NOT NULL"
_IS_KNOWN: Final = """
SELECT EXISTS(SELECT 1 FROM senders WHERE email = %s) OR EXISTS(SELECT 1 FROM jobs WHERE sender_email = %s)"""
_COUNT_WAITING: Final = """
SELECT COUNT(*) FROM (
  SELECT 1 FROM jobs j FORCE INDEX (next_claim) STRAIGHT_JOIN job_recipients r FORCE INDEX (claim)
      ON r.job_id = j.id AND r.status = 'waiting' WHERE j.sender_email = %s AND j.claimable = 1 LIMIT %s) counted"""
MAX_COUNTED: Final = 10_000
"""The most waiting messages of a sender that a page counts."""
_NO_BOUND: Final = 1 << 62
REPAIRS_TIMEOUT: Final = 4.0
"""Seconds for what one command shows beside something else."""


def some_statement(only: Collection[str] | None, limit: int) -> Statement:
    """What `some` asks; a test has it explained."""
    if only is None:
        return f"SELECT {COLUMNS} FROM senders FORCE INDEX (PRIMARY) ORDER BY email LIMIT %s", (limit,)
    return (
        f"SELECT {COLUMNS} FROM senders FORCE INDEX (PRIMARY) WHERE email IN %s ORDER BY email LIMIT %s",
        (tuple(only) or ("",), limit),
    )


class SenderError(MailerdError):
    """There is no such sender, or the limits contradict each other."""


@dataclass(frozen=True)
class SenderSummary:
    """A sender, what it has sent and what waits."""

    state: SenderState
    used: int
    """How many messages it sent in the last 24 hours; the oldest hour counts whole."""
    waiting: int


@dataclass(frozen=True)
class Senders:
    """Queries for senders. `defaults`: the limits of a sender that has none of its own."""

    database: Database
    defaults: DefaultLimits

    async def all(self) -> list[SenderSummary]:
        """Every sender, by address."""
        return await self.database.read(self._all, what="senders.list")

    async def repairs(self) -> dict[str, str]:
        """What a person has to do before messages go, by sender; without those for whom waiting is enough."""
        rows = await self.database.read_rows(_PAUSES, (), what="senders.read_pauses", bound=REPAIRS_TIMEOUT)
        found = {email: repair(cause, utc(end), sender=email, now=utc(now)) for email, cause, end, now in rows}
        return {email: words for email, words in found.items() if words}

    async def some(self, *, only: Collection[str] | None, limit: int, within: float) -> list[SenderSummary]:
        """The first ones by address, of `only` where it is given, with messages counted up to MAX_COUNTED.

        `within`: seconds that the database gets for it.
        """

        async def work(cursor: Cursor) -> list[SenderSummary]:
            await cursor.execute(*some_statement(only, limit))
            return await self._summaries(cursor, self._states(await cursor.fetchall()), most=MAX_COUNTED)

        return await self.database.request(work, what="senders.list", bound=within, read_only=True)

    async def _all(self, cursor: Cursor) -> list[SenderSummary]:
        await cursor.execute(_READ_ALL)
        return await self._summaries(cursor, self._states(await cursor.fetchall()), most=_NO_BOUND)

    def _states(self, rows: Sequence[Any]) -> list[SenderState]:
        return [rate_limits.sender_state(row, self.defaults) for row in rows]

    async def _summaries(self, cursor: Cursor, states: Sequence[SenderState], *, most: int) -> list[SenderSummary]:
        if not states:
            return []
        now = states[0].now
        hours = await rate_limits.sent_by_hour(cursor, [it.email for it in states], now=now)
        counts = await cursor.fetch_batch([(_COUNT_WAITING, (it.email, most)) for it in states])
        return [
            SenderSummary(
                it, used=sum(number for hour, number in hours[it.email].items() if hour > now - timedelta(hours=25)),
                waiting=int(count[0][0]),
            )
            for it, count in zip(states, counts, strict=True)
        ]  # fmt: skip

    @transaction("senders.change")
    async def change(self, cursor: Cursor, email: str, limits: Mapping[str, float | None]) -> SenderSummary:
        """Give a sender limits of its own (None: the default again); one that is not known yet is made.

        Raises:
            SenderError: nothing would be left of its day.
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
            raise SenderError(
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
        return (await self._summaries(cursor, [await self._read(cursor, email)], most=_NO_BOUND))[0]

    async def _read(self, cursor: Cursor, email: str) -> SenderState:
        if (state := await rate_limits.lock_sender(cursor, email, self.defaults)) is None:
            raise SenderError(t("sender {email} not found; see `mailerd senders list`", email=email))
        return state

    async def knows(self, email: str) -> bool:
        """Whether a row or a job bears that name."""
        ((known,),) = await self.database.read_rows(_IS_KNOWN, (email, email), what="senders.find")
        return bool(known)

    @transaction("senders.pause")
    async def pause(
        self, cursor: Cursor, email: str, *, lasts: timedelta | None, reason: str, actor: str
    ) -> tuple[datetime, str]:
        """Claim nothing for a sender for so long, or until it is resumed; when that ends, and why it stands.

        A pause that Google asked for and that ends later stays as it is, with its cause: were it called a person's, the
        next order would cut it short.
        """
        await sender_changes.add_sender(cursor, email)
        it = await self._read(cursor, email)
        until = FOREVER if lasts is None else it.now + lasts
        await cursor.execute(*note_action("pause", actor, sender=email, detail=reason))
        if it.paused_until and it.pause_cause != MANUAL and it.paused_until > until:
            return it.paused_until, it.pause_reason or reason
        tell = (it.paused_until, it.pause_cause) != (until, MANUAL)
        await sender_changes.pause_by_hand(cursor, email, cause=MANUAL, reason=reason, until=until, tell=tell)
        return until, reason

    @transaction("senders.resume")
    async def resume(self, cursor: Cursor, email: str, *, actor: str) -> SenderState:
        """End any pause of a sender, whatever its cause; the state before.

        Raises:
            SenderError: it is not known.
        """
        before = await self._read(cursor, email)
        await cursor.execute(*note_action("resume", actor, sender=email, changed=before.paused))
        await sender_changes.resume(cursor, email, cause=before.pause_cause)
        return before


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
