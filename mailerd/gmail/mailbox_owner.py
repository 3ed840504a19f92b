"""Whose mailbox a sign-in opens: asked once for each credential file, before anything else is asked with it.

Without this a file that was exchanged for another mailbox's would send from there, and its drafts, which only their own
mailbox knows, would all look as if they had been sent.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from mailerd.core.replies import Accepted, NoResponse, Refused, Reply, TokenUnavailable, WrongMailbox
from mailerd.core.verdicts import SCOPE_REFUSED
from mailerd.events.gmail import GmailEvents
from mailerd.gmail.mailbox import may_ask_whose
from mailerd.gmail.tokens import Token

_CONSUMER: Final = frozenset({"gmail.com", "googlemail.com"})


def same_mailbox(one: str, other: str) -> bool:
    """Whether two addresses name one mailbox, as far as they can tell by themselves.

    Upper and lower case are alike. At gmail.com, and only there, dots do not count, nor does what follows a "+"
    (https://support.google.com/mail/answer/7436150), and googlemail.com is the same.
    """
    return _canonical(one) == _canonical(other)


def _canonical(address: str) -> str:
    local, _, domain = address.strip().lower().rpartition("@")
    if domain in _CONSUMER:
        local, domain = local.partition("+")[0].replace(".", ""), "gmail.com"
    return f"{local}@{domain}"


class Ownership:
    """What is known of one sender's sign-in; `verified` says whether Google has named its mailbox."""

    def __init__(self, sender: str, *, events: GmailEvents) -> None:
        self._sender = sender
        self._events = events
        self._asking = asyncio.Lock()
        self._known = 0
        """The generation of credentials of which it is known; 0 is none."""
        self._wrong: WrongMailbox | None = None
        self._rounds = 0
        """Grows with every question that has ended."""
        self._last: Reply | None = None
        self.verified = False

    def settled(self, token: Token) -> bool:
        """Whether nobody need be asked."""
        return token.generation == self._known

    @property
    def trouble(self) -> WrongMailbox | None:
        """Why nothing may be asked with the sign-in, where that is settled."""
        return self._wrong

    async def check(
        self, token: Token, *, file: str, deadline: float, ask: Callable[[], Awaitable[Reply]]
    ) -> Reply | None:
        """Why nothing may be asked with this token; None: the mailbox is the sender's, or the scopes let nobody see.

        `ask` makes the call (users.getProfile). Whoever comes meanwhile waits, and takes the outcome, good or bad.
        """
        rounds = self._rounds
        try:
            async with asyncio.timeout_at(deadline):
                await self._asking.acquire()
        except TimeoutError:
            return TokenUnavailable("whose mailbox it is was not told: another question for it took the whole time-out")
        try:
            if not self.settled(token):
                if self._rounds != rounds and self._last is not None:
                    return self._last
                self._last = await self._learn(token, file=file, ask=ask)
                self._rounds += 1
                return self._last
            return self._wrong
        finally:
            self._asking.release()

    async def _learn(self, token: Token, *, file: str, ask: Callable[[], Awaitable[Reply]]) -> Reply | None:
        if token.bound:
            return self._conclude(token, None, verified=True)
        if not may_ask_whose(token.scopes):
            self._unseen(token)
            return None
        reply = await ask()
        match reply:
            case Accepted(body=dict() as body):
                return self._compare(token, str(body.get("emailAddress")), file=file)
            case Refused() if reply.reason in SCOPE_REFUSED:
                self._unseen(token)
                return None
            case NoResponse(cause):  # nothing was sent, and whoever hangs here holds up nobody else
                return TokenUnavailable(f"whose mailbox it is was not told: {cause}")
            case _:
                return reply

    def _compare(self, token: Token, address: str, *, file: str) -> WrongMailbox | None:
        if same_mailbox(address, self._sender):
            return self._conclude(token, None, verified=True)
        self._events.mailbox_wrong(sender=self._sender, address=address, file=file)
        wrong = WrongMailbox(
            f"{file} opens the mailbox {address}, not {self._sender}, so nothing is sent with it: run "
            f"`mailerd auth login --sender {self._sender}`, or name {self._sender} in gmail.aliases if it is an alias "
            f"of {address}"
        )
        self._conclude(token, wrong, verified=False)
        return wrong

    def _unseen(self, token: Token) -> None:
        self._events.mailbox_unverified(sender=self._sender)
        self._conclude(token, None, verified=False)

    def _conclude(self, token: Token, wrong: WrongMailbox | None, *, verified: bool) -> WrongMailbox | None:
        self._known, self._wrong, self.verified = token.generation, wrong, verified
        return wrong
