"""Google at the sender's pace: a look asks the ledger first and waits for its units; the claim has paid for letters."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from mailerd.clock import Clock
from mailerd.core.rate_limit import UNITS
from mailerd.core.replies import Call, NotSent, Reply
from mailerd.errors import DatabaseError
from mailerd.gmail import Mailbox


class Google(Protocol):
    """What this part needs of the gmail door."""

    async def authenticate(self, sender: str, *, pay: Callable[[], Awaitable[None]] | None = None) -> Mailbox | Reply:
        """The sender's mailbox, or why there is none; `pay` is awaited before Google is asked whose it is."""

    async def create_draft(self, sender: str, *, raw: bytes) -> Reply:
        """drafts.create."""

    async def send_draft(self, sender: str, *, draft_id: str) -> Reply:
        """drafts.send."""

    async def send_message(self, sender: str, *, raw: bytes) -> Reply:
        """messages.send."""

    async def get_draft(self, sender: str, *, draft_id: str) -> Reply:
        """drafts.get."""

    async def get_draft_headers(self, sender: str, *, draft_id: str) -> Reply:
        """drafts.get with headers."""

    async def delete_draft(self, sender: str, *, draft_id: str) -> Reply:
        """drafts.delete."""

    async def list_drafts(self, sender: str, *, page_token: str = "") -> Reply:
        """drafts.list."""

    async def get_thread(self, sender: str, *, thread_id: str) -> Reply:
        """threads.get."""

    async def list_sent(self, sender: str, *, page_token: str = "") -> Reply:
        """messages.list of the label SENT."""

    async def get_message(self, sender: str, *, message_id: str) -> Reply:
        """messages.get with the key's header."""


class Asking(Protocol):
    """What this part needs of the store."""

    async def acquire(self, sender: str, *, units: int) -> timedelta:
        """How long to wait before asking again; nothing: it is granted."""


@dataclass(frozen=True)
class Paced:
    """The gmail door behind the ledger. Beyond replies, every look may raise the store's DatabaseError."""

    google: Google
    permits: Asking
    patience: timedelta
    """A look that would have to wait longer is not made: it is answered with NotSent, which decides nothing."""
    clock: Clock

    async def authenticate(self, sender: str) -> Mailbox | Reply:
        """Paid here, where Google is asked whose mailbox it is: once for each credential file."""

        async def pay() -> None:
            # One unit is not worth a letter's delay: it is debited where that is granted at once.
            with suppress(DatabaseError):
                await self.permits.acquire(sender, units=UNITS[Call.GET_PROFILE])

        return await self.google.authenticate(sender, pay=pay)

    async def create_draft(self, sender: str, *, raw: bytes) -> Reply:
        """Paid by the claim."""
        return await self.google.create_draft(sender, raw=raw)

    async def send_draft(self, sender: str, *, draft_id: str) -> Reply:
        """Paid by the claim."""
        return await self.google.send_draft(sender, draft_id=draft_id)

    async def send_message(self, sender: str, *, raw: bytes) -> Reply:
        """Paid by the claim."""
        return await self.google.send_message(sender, raw=raw)

    async def get_draft(self, sender: str, *, draft_id: str) -> Reply:
        """Paid here."""
        return await self._paid(sender, Call.DRAFTS_GET, lambda: self.google.get_draft(sender, draft_id=draft_id))

    async def get_draft_headers(self, sender: str, *, draft_id: str) -> Reply:
        """Paid here."""
        return await self._paid(
            sender, Call.DRAFTS_GET, lambda: self.google.get_draft_headers(sender, draft_id=draft_id)
        )

    async def delete_draft(self, sender: str, *, draft_id: str) -> Reply:
        """Paid here."""
        return await self._paid(sender, Call.DRAFTS_DELETE, lambda: self.google.delete_draft(sender, draft_id=draft_id))

    async def discard_draft(self, sender: str, *, draft_id: str) -> Reply:
        """drafts.delete after drafts.send was refused: paid by the claim, since a send that is refused uses nothing."""
        return await self.google.delete_draft(sender, draft_id=draft_id)

    async def list_drafts(self, sender: str, *, page_token: str = "") -> Reply:
        """Paid here."""
        return await self._paid(
            sender, Call.DRAFTS_LIST, lambda: self.google.list_drafts(sender, page_token=page_token)
        )

    async def get_thread(self, sender: str, *, thread_id: str) -> Reply:
        """Paid here."""
        return await self._paid(sender, Call.THREADS_GET, lambda: self.google.get_thread(sender, thread_id=thread_id))

    async def list_sent(self, sender: str, *, page_token: str = "") -> Reply:
        """Paid here."""
        return await self._paid(
            sender, Call.MESSAGES_LIST, lambda: self.google.list_sent(sender, page_token=page_token)
        )

    async def get_message(self, sender: str, *, message_id: str) -> Reply:
        """Paid here."""
        return await self._paid(
            sender, Call.MESSAGES_GET, lambda: self.google.get_message(sender, message_id=message_id)
        )

    async def _paid(self, sender: str, call: Call, make: Callable[[], Awaitable[Reply]]) -> Reply:
        until = self.clock.monotonic() + self.patience.total_seconds()
        while wait := await self.permits.acquire(sender, units=UNITS[call]):
            if self.clock.monotonic() + wait.total_seconds() > until:
                return NotSent(f"{call} was not made: the units of {sender} are used up for {wait}")
            await self.clock.sleep(wait.total_seconds())
        box = await self.authenticate(sender)  # pays for the question whose mailbox it is, where it is due
        return await make() if isinstance(box, Mailbox) else box
