"""Gmail's calls beside the messages: each waits for the units of its sender's rate limit before it is made.

The units of a message itself are debited by its claim. Beyond replies, every call may raise the store's DatabaseError.
"""

from contextlib import suppress
from datetime import timedelta
from typing import override

from mailerd.clock import Clock
from mailerd.core.i18n import t
from mailerd.core.quantities import in_words
from mailerd.core.rate_limit import UNITS
from mailerd.core.replies import Call, Reply, UnitsUsedUp
from mailerd.errors import DatabaseError
from mailerd.gmail import Gmail, Mailbox
from mailerd.gmail.client import GmailCalls
from mailerd.gmail.session import GmailRequest
from mailerd.store.queue.rate_limits import RateLimits


class RateLimitedGmail(GmailCalls):
    """Gmail for all that reconciles, deletes and reads.

    `max_wait`: a call that would have to wait longer is not made: its reply is NotSent, which decides nothing.
    """

    def __init__(self, gmail: Gmail, rate_limits: RateLimits, max_wait: timedelta, clock: Clock) -> None:
        super().__init__(gmail.endpoints)
        self.gmail = gmail
        self.rate_limits = rate_limits
        self.max_wait = max_wait
        self.clock = clock

    async def authenticate(self, sender: str) -> Mailbox | Reply:
        """The sender's mailbox, or why there is none; debits the call that asks Google whose mailbox it is."""

        async def pay() -> None:
            # One unit is not worth a message's delay: it is debited where that is granted at once.
            with suppress(DatabaseError):
                await self.rate_limits.acquire(sender, units=UNITS[Call.GET_PROFILE])

        return await self.gmail.authenticate(sender, pay=pay)

    @override
    async def call(self, request: GmailRequest) -> Reply:
        """Make the call once its units are granted."""
        sender, until = request.sender, self.clock.monotonic() + self.max_wait.total_seconds()
        while wait := await self.rate_limits.acquire(sender, units=UNITS[request.call]):
            if self.clock.monotonic() + wait.total_seconds() > until:
                return UnitsUsedUp(
                    t(
                        "{call} postponed: {sender} has no quota units left for {span}",
                        call=request.call.value,
                        sender=sender,
                        span=in_words(wait.total_seconds()),
                    )
                )
            await self.clock.sleep(wait.total_seconds())
        mailbox = await self.authenticate(sender)  # debits the question whose mailbox it is, where it is due
        return await self.gmail.call(request) if isinstance(mailbox, Mailbox) else mailbox
