"""Gmail's calls beside the letters: each waits for the units of its sender's rate limit before it is made.

The units of a letter itself are debited by its claim. Beyond replies, every call may raise the store's DatabaseError.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from mailerd.clock import Clock
from mailerd.core.quantities import in_words
from mailerd.core.rate_limit import UNITS
from mailerd.core.replies import Call, Reply, UnitsUsedUp
from mailerd.errors import DatabaseError
from mailerd.gmail import Gmail, Mailbox
from mailerd.store.queue.rate_limits import RateLimits


@dataclass(frozen=True)
class RateLimitedGmail:
    """The calls that reconcile, delete and list; the same methods as Gmail's."""

    gmail: Gmail
    rate_limits: RateLimits
    max_wait: timedelta
    """A call that would have to wait longer is not made: its reply is NotSent, which decides nothing."""
    clock: Clock

    async def authenticate(self, sender: str) -> Mailbox | Reply:
        """The sender's mailbox, or why there is none; debits the call that asks Google whose mailbox it is."""

        async def pay() -> None:
            # One unit is not worth a letter's delay: it is debited where that is granted at once.
            with suppress(DatabaseError):
                await self.rate_limits.acquire(sender, units=UNITS[Call.GET_PROFILE])

        return await self.gmail.authenticate(sender, pay=pay)

    async def get_draft(self, sender: str, *, draft_id: str) -> Reply:
        """drafts.get."""
        return await self._call(sender, Call.DRAFTS_GET, lambda: self.gmail.get_draft(sender, draft_id=draft_id))

    async def get_draft_headers(self, sender: str, *, draft_id: str) -> Reply:
        """drafts.get with headers."""
        return await self._call(
            sender, Call.DRAFTS_GET, lambda: self.gmail.get_draft_headers(sender, draft_id=draft_id)
        )

    async def delete_draft(self, sender: str, *, draft_id: str) -> Reply:
        """drafts.delete."""
        return await self._call(sender, Call.DRAFTS_DELETE, lambda: self.gmail.delete_draft(sender, draft_id=draft_id))

    async def list_drafts(self, sender: str, *, page_token: str = "") -> Reply:
        """drafts.list."""
        return await self._call(sender, Call.DRAFTS_LIST, lambda: self.gmail.list_drafts(sender, page_token=page_token))

    async def get_thread(self, sender: str, *, thread_id: str) -> Reply:
        """threads.get."""
        return await self._call(sender, Call.THREADS_GET, lambda: self.gmail.get_thread(sender, thread_id=thread_id))

    async def list_sent(self, sender: str, *, page_token: str = "") -> Reply:
        """messages.list of the label SENT."""
        return await self._call(sender, Call.MESSAGES_LIST, lambda: self.gmail.list_sent(sender, page_token=page_token))

    async def get_message(self, sender: str, *, message_id: str) -> Reply:
        """messages.get with the key's header."""
        return await self._call(
            sender, Call.MESSAGES_GET, lambda: self.gmail.get_message(sender, message_id=message_id)
        )

    async def get_profile(self, sender: str) -> Reply:
        """GetProfile."""
        return await self._call(sender, Call.GET_PROFILE, lambda: self.gmail.get_profile(sender))

    async def list_history(self, sender: str, *, start: int, page_token: str = "") -> Reply:
        """history.list of what came."""
        return await self._call(
            sender, Call.HISTORY_LIST, lambda: self.gmail.list_history(sender, start=start, page_token=page_token)
        )

    async def list_labelled(self, sender: str, label: str, *, page_token: str = "") -> Reply:
        """messages.list of a label."""
        return await self._call(
            sender, Call.MESSAGES_LIST, lambda: self.gmail.list_labelled(sender, label, page_token=page_token)
        )

    async def get_headers(self, sender: str, *, message_id: str) -> Reply:
        """messages.get of the headers that tell what a message is."""
        return await self._call(
            sender, Call.MESSAGES_GET, lambda: self.gmail.get_headers(sender, message_id=message_id)
        )

    async def get_raw(self, sender: str, *, message_id: str) -> Reply:
        """messages.get of a whole message."""
        return await self._call(sender, Call.MESSAGES_GET, lambda: self.gmail.get_raw(sender, message_id=message_id))

    async def _call(self, sender: str, call: Call, request: Callable[[], Awaitable[Reply]]) -> Reply:
        until = self.clock.monotonic() + self.max_wait.total_seconds()
        while wait := await self.rate_limits.acquire(sender, units=UNITS[call]):
            if self.clock.monotonic() + wait.total_seconds() > until:
                return UnitsUsedUp(
                    f"{call} was not made: {sender} may use no more units for {in_words(wait.total_seconds())}"
                )
            await self.clock.sleep(wait.total_seconds())
        mailbox = await self.authenticate(sender)  # debits the question whose mailbox it is, where it is due
        return await request() if isinstance(mailbox, Mailbox) else mailbox
