"""What people ask of senders: other limits, a pause, its end; each in one transaction, and each may
be repeated.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from mailerd.core.i18n import t
from mailerd.core.pauses import MANUAL
from mailerd.core.rate_limit import FOREVER, MAX_GAP
from mailerd.core.sender_state import SenderState
from mailerd.core.verdicts import PauseCause
from mailerd.errors import MailerdError
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database, request
from mailerd.store.queue import rate_limits
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.write import sender_changes
from mailerd.store.write.action_log import note_action

LIMITS: Final[Mapping[str, int | float]] = {
    "units_per_minute": 100_000_000,
    "per_minute": 100_000_000,
    "per_day": 100_000_000,
    "reserve": 100_000_000,
    "min_gap": MAX_GAP,
    "warm_up": 9_999_999,
    "warm_up_growth": 999_999,
}
"""The limits that a sender may have of its own, and the most of each.

Those without a fraction are whole numbers.
"""


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
class SenderActions:
    """The changes. `defaults`: the limits of a sender that has none of its own."""

    database: Database
    defaults: DefaultLimits
    timeout: float | None = None
    """Seconds that a caller waits; None: as long as for any statement."""

    @request("senders.change")
    async def change(
        self, cursor: Cursor, email: str, limits: Mapping[str, float | None], *, actor: str
    ) -> tuple[SenderState, bool]:
        """Give a sender limits of its own (None: the default again); one that is not known yet is
        made.

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
        if (
            any(getattr(before.limits, name) != getattr(after.limits, name) for name in warm)
            and after.limits.warm_up
        ):
            await sender_changes.restart_warm_up(cursor, email)
        if after.limits.min_gap < before.limits.min_gap:
            await sender_changes.shorten_gap(cursor, email, timedelta(seconds=after.limits.min_gap))
        await sender_changes.claim_now(cursor, email)
        changed = _limits(before) != _limits(after)
        if limits:
            given = {
                name: "default" if value is None else f"{value:g}" for name, value in limits.items()
            }
            detail = ", ".join(f"{name} {value}" for name, value in given.items())
            await cursor.execute(
                *note_action("limits", actor, sender=email, detail=detail, changed=changed)
            )
        return await self._read(cursor, email), changed

    @request("senders.pause")
    async def pause(
        self, cursor: Cursor, email: str, *, lasts: timedelta | None, reason: str, actor: str
    ) -> PauseResult:
        """Claim nothing for a sender for so long, or until it is resumed.

        A pause that Google asked for and that ends later stays as it is, with its cause: were it
        called a person's, the next order would cut it short.
        """
        await sender_changes.add_sender(cursor, email)
        it = await self._read(cursor, email)
        until = FOREVER if lasts is None else it.now + lasts
        if it.paused_until and it.pause_cause != MANUAL and it.paused_until > until:
            done = PauseResult(it.paused_until, it.pause_reason or reason, changed=False)
        else:
            tell = (it.paused_until, it.pause_cause) != (until, MANUAL)
            done = PauseResult(until, reason, changed=tell or it.pause_reason != reason)
            await sender_changes.pause_by_hand(
                cursor, email, cause=MANUAL, reason=reason, until=until, tell=tell
            )
        await cursor.execute(
            *note_action("pause", actor, sender=email, detail=reason, changed=done.changed)
        )
        return done

    @request("senders.resume")
    async def resume(
        self, cursor: Cursor, email: str, *, actor: str, others: Collection[str] | None = None
    ) -> SenderState:
        """End any pause of a sender, whatever its cause; the state before.

        A pause for the quota of its Cloud project is one of all its senders: it ends for all of
        them, or for those of `others` that a limited key covers.

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
        await cursor.execute(
            "SELECT 1 FROM senders FORCE INDEX (project) WHERE project = %s LIMIT 1", (project,)
        )
        if await cursor.fetchone() is None:
            raise SenderError(
                t(
                    "no sender uses the project {project}; see `mailerd senders list`",
                    project=project,
                )
            )
        paused = await sender_changes.paused_by_project(cursor, project)
        for email in paused:
            await cursor.execute(*note_action("resume", actor, sender=email))
            await sender_changes.resume(cursor, email, cause=PauseCause.PROJECT_LIMIT.value)
        return paused

    async def _read(self, cursor: Cursor, email: str) -> SenderState:
        if (state := await rate_limits.lock_sender(cursor, email, self.defaults)) is None:
            raise SenderError(
                t("sender {email} not found; see `mailerd senders list`", email=email)
            )
        return state


def _limits(it: SenderState) -> dict[str, tuple[float, bool]]:
    """Each limit, and whether it is the sender's own."""
    return {name: (getattr(it.limits, name), name in it.own) for name in LIMITS}
