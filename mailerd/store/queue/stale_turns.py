"""Finds senders that wait for a reason that is gone: a limit was raised, a pause has ended, a credential file came.

A claim writes into `next_claim_at` when a sender's next turn is, under the limits and the pauses of that moment. What
changes them later may leave a sender waiting until tomorrow, so the senders are checked at the start, after a reload
and once a minute. The daemon only reads, unless it finds one; what may be sent is decided by the claim as usual.
Senders whose sign-in is broken are tried as soon as a credential file has come or gone.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from mailerd.core import rate_limit
from mailerd.core.rate_limit import PROBE_INTERVAL
from mailerd.core.verdicts import PauseCause
from mailerd.store import sender_changes
from mailerd.store.db.connection import Cursor, micros, utc
from mailerd.store.db.database import Database
from mailerd.store.queue import rate_limits
from mailerd.store.queue.rate_limits import COLUMNS, USED_TODAY, DefaultLimits

_INTERVAL: Final = 60.0
"""Seconds between two checks of one daemon, plus or minus a quarter, so that many daemons do not check together."""
_PAGE: Final = 500
"""The most senders of one statement."""
# Only those that have a due job and no pause: in a database at rest there is none.
_SELECT_STALE: Final = f"""
SELECT {COLUMNS}, next_claim_at, (SELECT p.tat FROM projects p WHERE p.name = s.project), {USED_TODAY}
  FROM senders s FORCE INDEX (PRIMARY)
 WHERE s.email > %s AND s.next_claim_at > UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND
   AND COALESCE(s.paused_until, '1970-01-01') <= UTC_TIMESTAMP(6)
   AND EXISTS (SELECT 1 FROM jobs j FORCE INDEX (next_claim)
                WHERE j.sender_email = s.email AND j.claimable = 1 AND j.next_claim_at <= UTC_TIMESTAMP(6))
 ORDER BY s.email LIMIT %s"""

_SIGN_IN_CAUSES: Final = (
    PauseCause.NO_CREDENTIALS.value,
    PauseCause.TOKEN_REFUSED.value,
    PauseCause.CLIENT_REFUSED.value,
    PauseCause.WRONG_MAILBOX.value,
    PauseCause.SCOPE_MISSING.value,
)
"""Causes of pauses that another credential file may end."""
_SELECT_SIGN_IN_PAUSES: Final = """
SELECT email FROM senders WHERE paused_until > UTC_TIMESTAMP(6) AND pause_cause IN %s ORDER BY email"""


@dataclass(frozen=True)
class StaleTurn:
    """A sender that could send, and whose turn is still to come."""

    email: str
    next_claim_at: datetime
    longest_gap: timedelta
    """What lies between two of its letters at most; a gap that lasts longer was begun under another limit."""


async def find_stale_turns(
    database: Database, defaults: DefaultLimits, *, beyond: timedelta = PROBE_INTERVAL
) -> list[StaleTurn]:
    """Senders with due letters that nothing holds, and whose turn is later than `beyond` from now all the same.

    Shorter waits are left alone: after a pause, and between two letters, they are what they shall be.
    """
    found: list[StaleTurn] = []
    last = ""
    while True:
        rows = await database.read_rows(
            _SELECT_STALE, (last, micros(beyond), _PAGE), what="look for sleeping senders", bound=database.probe_timeout
        )
        found += [it for row in rows if (it := _stale_turn(row, defaults))]
        if len(rows) < _PAGE:
            return found
        last = rows[-1][0]


def _stale_turn(row: Sequence[Any], defaults: DefaultLimits) -> StaleTurn | None:
    """The turn, if minute, gap, day and project allow a letter at this moment."""
    *columns, next_claim_at, project_tat, used = row
    it = rate_limits.sender_state(columns, defaults)
    allowance, longest = it.allowance, rate_limit.longest_gap(it.allowance)
    project = defaults.project_units_per_minute if allowance.units_per_minute and it.project else 0
    held = (
        rate_limit.minute(allowance, tat=it.tat, now=it.now, units=it.units).letters == 0
        or (it.gap_until and it.now < it.gap_until <= it.now + longest)
        or (allowance.per_day and used >= allowance.per_day)
        or rate_limit.project(project, tat=utc(project_tat), now=it.now, units=it.units).letters == 0
    )
    return None if held else StaleTurn(it.email, utc(next_claim_at), longest)


@dataclass
class StaleTurns:
    """Reschedules stale turns, for one daemon. `credentials_version()` changes when a credential file comes or goes."""

    database: Database
    credentials_version: Callable[[], object]
    _seen: object = field(init=False)
    _check_at: float = field(default=0.0, init=False)
    """When the next check is due, in monotonic seconds."""
    _checked_by: DefaultLimits | None = field(default=None, init=False)
    """The limits by which was checked last: under others the check is due at once."""

    def __post_init__(self) -> None:
        self._seen = self.credentials_version()

    async def reschedule(self, defaults: DefaultLimits) -> None:
        """Let the next claim take every sender that waits without a reason, if a check is due.

        Raises:
            DatabaseError: not all were rescheduled; the next check does it.
        """
        if (files := self.credentials_version()) != self._seen:
            await self.database.transaction(self._try_sign_ins, what="try sign-ins anew")
            self._seen = files
        if time.monotonic() < self._check_at and defaults == self._checked_by:
            return
        self._check_at = time.monotonic() + _INTERVAL * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        self._checked_by = defaults
        if found := await find_stale_turns(self.database, defaults):
            await self.database.transaction(lambda cursor: self._reschedule(cursor, found), what="reschedule senders")

    async def _reschedule(self, cursor: Cursor, found: Sequence[StaleTurn]) -> None:
        for one in found:  # in the order of their names, the order of all locks; a turn that has moved is left alone
            await sender_changes.reschedule_stale(
                cursor, one.email, next_claim_at=one.next_claim_at, longest_gap=one.longest_gap
            )

    async def _try_sign_ins(self, cursor: Cursor) -> None:
        await cursor.execute(_SELECT_SIGN_IN_PAUSES, (_SIGN_IN_CAUSES,))
        for (email,) in await cursor.fetchall():
            await sender_changes.try_again(cursor, email, causes=_SIGN_IN_CAUSES)
