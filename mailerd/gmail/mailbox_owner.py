"""Checks whose mailbox a credential file opens: once for each file, before it is used for anything else.

Without the check, a file that was replaced by another mailbox's would send from that mailbox, and the drafts of its own
mailbox, which the other one does not know, would all look as if they had been sent.
"""

import asyncio
from collections.abc import Awaitable, Callable

from mailerd.core.rate_limit import CONSUMER_DOMAINS
from mailerd.core.replies import (
    Accepted,
    Call,
    MalformedResponse,
    NoResponse,
    Refused,
    Reply,
    TokenUnavailable,
    WrongMailbox,
)
from mailerd.core.verdicts import SCOPE_REFUSED, judge
from mailerd.events.worker import GmailEvents
from mailerd.gmail.mailbox import allow_profile
from mailerd.gmail.tokens import Token


def same_mailbox(one: str, other: str) -> bool:
    """Whether two addresses name one mailbox, as far as the addresses show it.

    Upper and lower case are the same. At gmail.com, and only there, dots and what follows a "+" do not count
    (https://support.google.com/mail/answer/7436150), and googlemail.com is the same domain.
    """
    return _canonical(one) == _canonical(other)


def _canonical(address: str) -> str:
    local, _, domain = address.strip().lower().rpartition("@")
    if domain in CONSUMER_DOMAINS:
        local, domain = local.partition("+")[0].replace(".", ""), "gmail.com"
    return f"{local}@{domain}"


class Ownership:
    """Whether one sender's credentials open the sender's own mailbox; `verified`: Google has named that mailbox."""

    def __init__(self, sender: str, *, events: GmailEvents) -> None:
        self._sender = sender
        self._events = events
        self._checking = asyncio.Lock()
        self._checked = 0
        """The generation of credentials that was checked; 0 is none."""
        self.problem: WrongMailbox | None = None
        """Why the credentials must not be used, where that is known."""
        self._rounds = 0
        """Grows with every check that has ended."""
        self._last: Reply | None = None
        self.verified = False

    def is_known(self, token: Token) -> bool:
        """Whether the token's credentials were checked."""
        return token.generation == self._checked

    async def check(
        self, token: Token, *, file: str, deadline: float, ask: Callable[[], Awaitable[Reply]]
    ) -> Reply | None:
        """Why this token must not be used; None: the mailbox is the sender's, or the scopes do not let Google say.

        `ask` makes the call (users.getProfile). Callers that come meanwhile wait, and get its outcome, good or bad.
        """
        rounds = self._rounds
        try:
            async with asyncio.timeout_at(deadline):
                await self._checking.acquire()
        except TimeoutError:
            return TokenUnavailable("whose mailbox it is was not told: another check of it took the whole time-out")
        try:
            if not self.is_known(token):
                if self._rounds != rounds and self._last is not None:
                    return self._last
                self._last = await self._check_now(token, file=file, ask=ask)
                self._rounds += 1
                return self._last
            return self.problem
        finally:
            self._checking.release()

    async def _check_now(self, token: Token, *, file: str, ask: Callable[[], Awaitable[Reply]]) -> Reply | None:
        if token.bound:
            return self._remember(token, None, verified=True)
        if not allow_profile(token.scopes):
            return self._unverifiable(token)
        reply = await ask()
        match reply:
            case Accepted(body=dict() as body):
                return self._compare(token, str(body.get("emailAddress")), file=file)
            case Refused() if reply.reason in SCOPE_REFUSED:
                return self._unverifiable(token)
            case Refused(status=status) if judge(Call.GET_PROFILE, reply).backoff is None:
                cause = f"Google answered {status}"
            case NoResponse(cause):
                pass
            case MalformedResponse() | Accepted():
                cause = "the answer does not tell it"
            case _:
                return reply
        # No letter was sent, and none is to blame: only this sender waits.
        return TokenUnavailable(f"whose mailbox it is was not told: {cause}")

    def _compare(self, token: Token, address: str, *, file: str) -> WrongMailbox | None:
        if same_mailbox(address, self._sender):
            return self._remember(token, None, verified=True)
        self._events.mailbox_wrong(sender=self._sender, address=address, file=file)
        wrong = WrongMailbox(
            f"{file} opens the mailbox {address}, not {self._sender}, so nothing is sent with it: run "
            f"`mailerd auth login --sender {self._sender}`, or name {self._sender} in gmail.aliases if it is an alias "
            f"of {address}"
        )
        return self._remember(token, wrong, verified=False)

    def _unverifiable(self, token: Token) -> WrongMailbox | None:
        self._events.mailbox_unverified(sender=self._sender)
        return self._remember(token, None, verified=False)

    def _remember(self, token: Token, wrong: WrongMailbox | None, *, verified: bool) -> WrongMailbox | None:
        self._checked, self.problem, self.verified = token.generation, wrong, verified
        return wrong
