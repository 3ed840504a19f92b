"""What Google's Standard tier will take, for senders that may use more than it has."""

from shlex import quote
from typing import Final

from mailerd.cli.checks.result import CheckResult, warn
from mailerd.core.i18n import t
from mailerd.core.rate_limit import (
    DRAFT_PAIR_UNITS,
    STANDARD_FROM,
    STANDARD_UNITS,
    TIERS_PAGE,
    SenderLimits,
)
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.read import server_info

_MAX_SENDERS: Final = 20
"""Senders with a finding of their own."""


def configured(limits: SenderLimits) -> list[CheckResult]:
    """A finding where the configuration gives senders more than the Standard tier, which then takes
    messages away.
    """
    return _slower(
        t("sending limits"),
        limits,
        keep=t("set pace.units_per_minute to {standard}", standard=STANDARD_UNITS),
    )


async def of_senders(
    database: Database, defaults: DefaultLimits, *, bound: float
) -> list[CheckResult]:
    """A finding for each sender whose own limit is above the Standard tier's."""
    above = await server_info.senders_above(
        database, defaults, units=STANDARD_UNITS, bound=bound, most=_MAX_SENDERS
    )
    return [
        result
        for it in above
        for result in _slower(
            t("sending limits of {email}", email=it.email),
            it.limits,
            keep=f"mailerd senders set {quote(it.email)} --units-per-minute {STANDARD_UNITS}",
        )
    ]


def _slower(check: str, limits: SenderLimits, *, keep: str) -> list[CheckResult]:
    now, then = _messages(limits, limits.units_per_minute), _messages(limits, STANDARD_UNITS)
    if not limits.standard or now <= then:
        return []
    return [
        warn(
            check,
            t(
                "units_per_minute is {units}; from {day:%Y-%m-%d} on, Google's Standard tier allows {standard} for "
                "older Cloud projects too, and so does mailerd: {now} -> {then} messages per minute",
                units=limits.units_per_minute,
                day=STANDARD_FROM,
                standard=STANDARD_UNITS,
                now=now,
                then=then,
            ),
            remedy=t(
                '{keep}; or choose the Scaled tier (pace.tier = "scaled") or attest internal use (pace.tier = '
                '"internal") at Google: {page}',
                keep=keep,
                page=TIERS_PAGE,
            ),
        )
    ]


def _messages(limits: SenderLimits, units: int) -> int:
    """Whole messages a minute, by draft."""
    return min(units // DRAFT_PAIR_UNITS, limits.per_minute or units)
