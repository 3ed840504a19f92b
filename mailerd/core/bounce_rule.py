"""When a list is so bad that sending stops: how many dead addresses are too many, and when reading
goes first.

The usual line is a share: Amazon SES reviews from 5 % of hard bounces on and pauses from 10 % on. A
share alone meets good lists by chance: of one with 3 % dead addresses, 5 of some 100 messages in a
row are, sooner or later, in three lists of four. 5 more than 8 % are in one of 20,000 such lists of
2,000 messages, and in one with 10 % after 166 messages (the median, were all known at once).
tests/core/test_bounce_rule.py computes them.
"""

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mailerd.core.i18n import Text
from mailerd.core.notices import MICROSOFT_DEAD, Kind
from mailerd.core.reasons import reason

LAST: Final = 200
"""The messages that are looked at: the last, up to the newest dead one; of those that were sent
later nothing is known.

Notices are read more slowly than messages are sent: measured by all that were sent, a bad list
looks good.
"""
_CHANCE: Final = 5
"""So many dead addresses above its share are no chance."""
BOUNCES: Final = "bounces"
"""The cause of a pause by this rule, of a job or of a sender."""

YOUNG_MESSAGES: Final = 200
YOUNG_FOR: Final = timedelta(minutes=15)
"""A job is young until YOUNG_MESSAGES are sent, and YOUNG_FOR more."""
YOUNG_POLL: Final = timedelta(seconds=15)
"""The time between two reads of a mailbox with a young job."""
BRAKE: Final = timedelta(minutes=2)
"""How long a job waits while what came back of it is read."""
MAX_BRAKES: Final = 5
BRAKES_COUNT_FOR: Final = timedelta(hours=1)
"""A job waits at most MAX_BRAKES times in a row: replies in bulk cost it ten minutes.

A row ends after such a time.
"""
BRAKE_SPAN: Final = timedelta(minutes=30)
"""Only what came back of messages of so short a time ago counts for the brake."""


@dataclass(frozen=True)
class BounceRule:
    """How many of the last messages may come back. Either of the two is 0: there is no rule."""

    at_least: int
    share: float

    @property
    def is_on(self) -> bool:
        """Whether there is a rule."""
        return self.at_least > 0 and self.share > 0

    def limit(self, sent: int) -> int:
        """From how many dead addresses on, of so many messages sent, they are too many."""
        # 0.08 * 75 may be above 6 by a rounding: no message more for that.
        return max(self.at_least, math.ceil(round(_CHANCE + self.share * sent, 9)))

    def is_broken(self, dead: int, sent: int) -> bool:
        """Whether sending stops."""
        return self.is_on and dead >= self.limit(sent)

    def is_near(self, dead: int, sent: int) -> bool:
        """Whether half of the limit is reached, of which people are warned."""
        return self.is_on and 2 * dead >= self.limit(sent)

    def is_unread(self, unread: int, sent: int) -> bool:
        """Whether so much that came back, and was not read yet, may break the rule: it is read
        before more is sent.
        """
        return self.is_on and 2 * unread > self.limit(sent)


@dataclass(frozen=True)
class BounceRules:
    """`[safety]`."""

    job: BounceRule
    sender: BounceRule


NO_RULES: Final = BounceRules(BounceRule(0, 0.0), BounceRule(0, 0.0))


def is_dead(kind: str | None, code: str | None, reason: str | None) -> bool:
    """Whether a bounce of this class, with this code and reason, counts: the address does not
    exist.
    """
    if kind == Kind.HARD:
        return True
    said = (reason or "").lower()
    return kind in (Kind.SOFT, Kind.UNKNOWN) and any(
        code == each and words in said for each, words in MICROSOFT_DEAD
    )


def job_reason(job: str, *, dead: int, sent: int) -> Text:
    """Why a job is paused, and what to do; every surface says it so.

    The newest of these messages is a dead one: of what was sent after it nothing is known yet.
    """
    return reason("job_bounces", dead=dead, sent=sent, job=job)


def job_warning(job: str, *, dead: int, sent: int, limit: int) -> Text:
    """What people are warned of before a job is paused."""
    return reason("job_bounces_soon", dead=dead, sent=sent, limit=limit, job=job)


def sender_reason(dead: int, sent: int) -> Text:
    """Why a sender is paused."""
    return reason("sender_bounces", dead=dead, sent=sent)
