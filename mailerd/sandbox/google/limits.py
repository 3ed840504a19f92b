"""Turns requests away as Google does: units a minute, messages a day, requests at once; and says
what was used.
"""

from collections.abc import Callable, Sequence
from typing import Any

from mailerd.core.rate_limit import CONSUMER_DOMAINS, STANDARD_UNITS
from mailerd.sandbox.google.answers import Refused, retry_after, too_many_concurrent, units_exceeded
from mailerd.sandbox.google.fake_limits import FakeLimits
from mailerd.sandbox.google.mailbox import Mailbox
from mailerd.sandbox.google.quota import MINUTE_S, Window


class Limits:
    """The limits of all mailboxes and of the project. What is turned away costs nothing."""

    def __init__(self, rules: Callable[[], FakeLimits]) -> None:
        self._rules = rules
        self._project = Window(MINUTE_S)

    def enter(self, box: Mailbox) -> None:
        """Count a request of a mailbox as in flight; the caller counts it out.

        Raises Refused for too many.
        """
        usage, limit = box.usage, self._rules().concurrent_per_user
        if limit and usage.in_flight >= limit:
            usage.throttled["concurrent"] += 1
            raise Refused(too_many_concurrent())
        usage.in_flight += 1
        usage.most_in_flight = max(usage.most_in_flight, usage.in_flight)

    def charge(self, box: Mailbox, units: int, *, now: float) -> None:
        """Take units from the mailbox and the project.

        Raises Refused when either has too few left.
        """
        usage, rules = box.usage, self._rules()
        if usage.minute.used(now) + units > self._allowance(now) > 0:
            usage.throttled["units"] += 1
            raise Refused(units_exceeded("user"))
        if self._project.used(now) + units > rules.project_units_per_minute > 0:
            usage.throttled["project"] += 1
            raise Refused(units_exceeded("project"))
        usage.charge(units, now=now)
        self._project.add(units, now=now)

    def _allowance(self, now: float) -> int:
        """Units per mailbox in the 60 s that end now; 0: no limit."""
        rules = self._rules()
        return (
            min(rules.units_per_minute, STANDARD_UNITS)
            if 0 < rules.standard_from <= now
            else rules.units_per_minute
        )

    def permit_sending(self, box: Mailbox, addresses: Sequence[str], *, now: float) -> None:
        """Take a message to these addresses from the daily caps.

        Raises Refused, with the time of room, above one.

        Google counts 10,000 addresses, 3,000 external and 2,000 unique external ones beside 2,000
        messages; here none is known from before, so that 2,000 external ones are all. Of a consumer
        mailbox each address is counted.
        """
        usage, rules, domain = box.usage, self._rules(), box.email.rpartition("@")[2]
        limit = rules.per_day
        outside = sum(it.rpartition("@")[2].lower() != domain for it in addresses)
        caps = [
            (usage.day, 1, limit),
            (usage.addresses, len(addresses), 5 * limit),
            (usage.outside, outside, limit),
        ]
        if domain in CONSUMER_DOMAINS:
            limit = min(limit, rules.consumer_per_day)
            caps = [(usage.day, 1, limit), (usage.addresses, len(addresses), limit)]
        full = [
            day.free_at(more, limit=cap)
            for day, more, cap in caps
            if day.used(now) + more > cap > 0
        ]
        if full:
            usage.throttled["daily"] += 1
            raise Refused(retry_after(max(full), what="Mail sending"))
        for day, more, _ in caps:
            day.add(more, now=now)

    def reset(self) -> None:
        """Forget what the project has used."""
        self._project = Window(MINUTE_S)

    def project(self, *, now: float) -> dict[str, Any]:
        """What all mailboxes together have used."""
        return {
            "units_last_minute": self._project.used(now),
            "peak_units": self._project.peak,
            "allowance": self._rules().project_units_per_minute,
        }

    def of(self, box: Mailbox, *, now: float) -> dict[str, Any]:
        """What a mailbox has used and how often it was turned away, by limit.

        Shares are None without a limit.
        """
        usage, allowance = box.usage, self._allowance(now)
        used = usage.minute.used(now)
        return {
            "units_last_minute": used,
            "peak_units": usage.minute.peak,
            "allowance": allowance,
            "share_last_minute": used / allowance if allowance else None,
            "peak_share": usage.minute.peak / allowance if allowance else None,
            "units_by_minute": {
                str(minute * 60): units for minute, units in usage.by_minute.items()
            },
            "throttled": dict(usage.throttled),
            "sent_24h": usage.day.used(now),
            "addresses_24h": usage.addresses.used(now),
            "outside_24h": usage.outside.used(now),
            "sent": usage.sent,
            "drafts": len(box.drafts),
            "in_flight": usage.in_flight,
            "most_in_flight": usage.most_in_flight,
        }
