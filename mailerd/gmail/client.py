"""The Gmail client. Every call takes a sender, ends within the time-out, and returns a Reply whatever happens."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Self, assert_never, override

from mailerd.clock import Clock
from mailerd.config import GmailSettings
from mailerd.core.replies import (
    Accepted,
    Call,
    MalformedResponse,
    NoCredentials,
    NoResponse,
    NotSent,
    Refused,
    Reply,
    TokenRefused,
    TooLate,
    WrongMailbox,
)
from mailerd.events.worker import GmailEvents
from mailerd.gmail import responses
from mailerd.gmail.account import Account
from mailerd.gmail.calls import Endpoints, GmailCalls
from mailerd.gmail.concurrency import SLOW_AFTER, LetterSemaphore
from mailerd.gmail.credentials import CredentialDirs, CredentialFile
from mailerd.gmail.instrument import report
from mailerd.gmail.mailbox import Mailbox, mailbox_with
from mailerd.gmail.session import GmailRequest, GmailSession
from mailerd.gmail.tokens import Token, Tokens

_OTHER_CALLS = 20
"""Connections beside those of the letters: checks of unresolved sends, sweeps, tokens."""
_UNAUTHORIZED = 401


class Gmail(GmailCalls):
    """Gmail, for all senders. `async with` opens and closes the connections.

    `semaphore` lets at most `concurrency` letters be at Google at once; sending one takes a slot of it. Each call
    ends within `settings.request_timeout`, and that includes the wait for a connection, the refresh of a token and the
    repetition after a 401. It raises nothing but CancelledError, ValueError for an id that cannot be one, and
    RuntimeError outside `async with`.
    """

    def __init__(
        self,
        settings: GmailSettings,
        *,
        events: GmailEvents,
        concurrency: int,
        clock: Clock | None = None,
    ) -> None:
        self._time_s = settings.request_timeout
        super().__init__(Endpoints(settings.api_root))
        self._events = events
        self._clock = clock or Clock()
        self.semaphore: Final = LetterSemaphore(concurrency, slow_after=self._time_s * SLOW_AFTER)
        connections = self.semaphore.max_at_google + _OTHER_CALLS
        self._session = GmailSession(settings, events=events, limit=connections)
        self._tokens = Tokens(self._session, token_uri=settings.token_uri, events=events, clock=self._clock)
        self._credential_dirs = CredentialDirs.configured(settings.credentials_dir)
        self._accounts: dict[str, Account] = {}
        self._mailboxes: dict[str, Mailbox] = {}

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.__aexit__()

    async def authenticate(self, sender: str, *, pay: Callable[[], Awaitable[None]] | None = None) -> Mailbox | Reply:
        """The sender's mailbox, once Google has given a token and confirmed that it is the sender's mailbox.

        This is free while the token is fresh. It costs one call for each credential file; `pay` is awaited before that.
        """
        account, deadline = self._account(sender), self._deadline()
        account.refresh_if_changed()
        token = await account.token(deadline=deadline)
        if not isinstance(token, Token):
            self._adapt_share(sender, token)
            return token
        if problem := await self._check_owner(account, sender, token, deadline=deadline, pay=pay):
            self._adapt_share(sender, problem)
            return problem
        known = mailbox_with(
            sender.lower(), scopes=token.scopes, project=account.project, verified=account.ownership.verified
        )
        if isinstance(known, Mailbox) and self._mailboxes.get(known.sender) != known:
            self._mailboxes[known.sender] = known
            scopes = " ".join(known.scopes) or "unknown"
            self._events.sender_authenticated(sender=known.sender, mode=known.mode, scopes=scopes)
        return known

    def credential_file(self, sender: str) -> CredentialFile | NoCredentials:
        """The credential file that a sender has, unread; only the disk is asked."""
        return self._credential_dirs.find(sender.lower())

    def credentials_version(self) -> object:
        """A value that changes when a credential file comes, goes or is replaced; costs one stat per folder."""
        return self._credential_dirs.version()

    @property
    def has_credentials(self) -> bool:
        """Whether there is any credential file at all."""
        return bool(self._credential_dirs.all())

    async def ping(self) -> responses.Answer | NotSent | NoResponse:
        """Google's answer to a call without a token: a refusal, which shows that Google is there, and its Date."""
        request = GmailRequest(Call.GET_PROFILE, sender="", method="GET", url=self.endpoints.profile())
        return await self._session.request(request, deadline=self._deadline())

    def _account(self, sender: str) -> Account:
        sender = sender.lower()  # Gmail knows no difference, and two tokens for one mailbox would be waste.
        if sender not in self._accounts:
            self._accounts[sender] = Account(
                sender,
                dirs=self._credential_dirs,
                tokens=self._tokens,
                session=self._session,
                clock=self._clock,
                events=self._events,
            )
        return self._accounts[sender]

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._time_s

    @override
    async def call(self, request: GmailRequest) -> Reply:
        """Make the call now."""
        started = self._clock.monotonic()
        reply = await self._send(request, account=self._account(request.sender), deadline=self._deadline())
        seconds = self._clock.monotonic() - started
        report(self._events, reply, sender=request.sender, call=request.call, seconds=seconds)
        self._adapt_share(request.sender, reply)
        return reply

    def _adapt_share(self, sender: str, reply: Reply) -> None:
        """Let more letters of the sender be in flight after an answer, and half as many after a call without one."""
        match reply:
            case Accepted() | Refused() | TokenRefused() | MalformedResponse():
                self.semaphore.grow(sender)
            case TooLate() | NoCredentials() | WrongMailbox():
                pass  # Google was not asked
            case NoResponse() | NotSent():
                self.semaphore.shrink(sender)
            case _:
                assert_never(reply)

    async def _send(self, request: GmailRequest, *, account: Account, deadline: float) -> Reply:
        """Send a request with a token. A 401 says that it was not carried out: then send it again with a new token."""
        reply, token = await self._send_once(request, account=account, deadline=deadline, refused=None)
        if isinstance(reply, Refused) and reply.status == _UNAUTHORIZED and token is not None:
            reply, _ = await self._send_once(request.again(), account=account, deadline=deadline, refused=token)
        return reply

    async def _send_once(
        self, request: GmailRequest, *, account: Account, deadline: float, refused: Token | None
    ) -> tuple[Reply, Token | None]:
        """The reply, and the token that the request was sent with; None when it was not sent."""
        token = await account.token(deadline=deadline, refused=refused)
        if not isinstance(token, Token):
            return token, None
        if request.call is not Call.GET_PROFILE and (
            problem := await self._check_owner(account, request.sender, token, deadline=deadline)
        ):
            return problem, None
        answer = await self._session.request(request, deadline=deadline, by=partial(account.send, token=token))
        if isinstance(answer, NotSent | NoResponse):
            return answer, token
        reply = responses.read(answer, call=request.call)
        if isinstance(reply, Accepted):
            reply = responses.of_request(reply, answer, id_=request.answer_id, thread=request.answer_thread)
        if isinstance(reply, MalformedResponse):
            request.drop_connection()
        return reply, token

    async def _check_owner(
        self,
        account: Account,
        sender: str,
        token: Token,
        *,
        deadline: float,
        pay: Callable[[], Awaitable[None]] | None = None,
    ) -> Reply | None:
        """Why this token must not be used: the mailbox is not the sender's, or Google did not say whose it is."""
        if account.ownership.is_known(token):
            return account.ownership.problem

        async def ask() -> Reply:
            if pay is not None:
                await pay()
            return await self.get_profile(sender)

        return await account.ownership.check(token, file=account.file, deadline=deadline, ask=ask)
