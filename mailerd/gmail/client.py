"""The one door to Google: every call takes a sender, ends within the time-out and returns a Reply, whatever happens."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Self, assert_never

from mailerd.clock import Clock, SystemClock
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
    WrongMailbox,
)
from mailerd.events.gmail import GmailEvents
from mailerd.gmail import request_bodies, responses
from mailerd.gmail.account import Account
from mailerd.gmail.concurrency import SLOW_AFTER, LetterSemaphore
from mailerd.gmail.credentials import Folders, Found
from mailerd.gmail.endpoints import UPLOAD_ABOVE, Addresses
from mailerd.gmail.instrument import Meter, Watch
from mailerd.gmail.mailbox import Mailbox, mailbox_with
from mailerd.gmail.session import GmailRequest, GmailSession
from mailerd.gmail.tokens import Token, Tokens

KEY_HEADERS = ("X-Mailerd-Key",)
_OTHER_CALLS = 20
"""Connections beside those of the letters: checks of unresolved sends, sweeps, tokens."""
_UNAUTHORIZED = 401
_PLAIN_REFUSALS = frozenset({400, 401, 403, 429})
"""What means the same whatever call is answered with it."""


@dataclass(frozen=True)
class _Plan:
    """A request to be made; it becomes a GmailRequest, and after a 401 a second one."""

    call: Call
    method: str
    url: str
    body: bytes | None = None
    content_type: str = "application/json"


class Gmail:
    """Gmail, for all senders. At most `concurrency` letters are there at once. `async with` opens and closes it.

    Each call is bounded by `settings.request_timeout` as a whole: waiting for a connection, connecting, the refresh
    of a token and the repetition after a 401 included. Nothing is raised but CancelledError, ValueError for an id
    that cannot be one, and RuntimeError outside `async with`.
    """

    def __init__(
        self,
        settings: GmailSettings,
        *,
        events: GmailEvents,
        concurrency: int,
        meter: Meter | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._time_s = settings.request_timeout
        self._addresses = Addresses(settings.api_root)
        self._events = events
        self._watch = Watch(events=events, meter=meter)
        self._clock = clock or SystemClock()
        self.semaphore: Final = LetterSemaphore(concurrency, slow_after=self._time_s * SLOW_AFTER)
        connections = self.semaphore.max_at_google + _OTHER_CALLS
        self._session = GmailSession(events=events, limit=connections, request_timeout=self._time_s)
        self._tokens = Tokens(self._session, token_uri=settings.token_uri, watch=self._watch, clock=self._clock)
        self._folders = Folders.configured(settings.credentials_dir)
        self._accounts: dict[str, Account] = {}
        self._mailboxes: dict[str, Mailbox] = {}

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.__aexit__()

    async def authenticate(self, sender: str, *, pay: Callable[[], Awaitable[None]] | None = None) -> Mailbox | Reply:
        """The sender's mailbox, once Google has let it in and said that it is the sender's.

        Costs nothing while the token is fresh, and one call for each credential file, before which `pay` is awaited.
        """
        account, deadline = self._account(sender), self._deadline()
        account.glance()
        token = await account.token(deadline=deadline)
        if not isinstance(token, Token):
            self._adapt_share(sender, token)
            return token
        if trouble := await self._trouble(account, sender, token, deadline=deadline, pay=pay):
            self._adapt_share(sender, trouble)
            return trouble
        known = mailbox_with(sender.lower(), scopes=token.scopes, project=account.project)
        if isinstance(known, Mailbox):
            known = replace(known, verified=account.ownership.verified)
        if isinstance(known, Mailbox) and self._mailboxes.get(known.sender) != known:
            self._mailboxes[known.sender] = known
            scopes = " ".join(known.scopes) or "unknown"
            self._events.sender_authenticated(sender=known.sender, mode=known.mode, scopes=scopes)
        return known

    async def create_draft(self, sender: str, *, raw: bytes) -> Reply:
        """Store a letter as a draft; Accepted holds the draft's id and its thread's."""
        if len(raw) <= UPLOAD_ABOVE:
            url, body, kind = self._addresses.drafts_create, request_bodies.draft(raw), "application/json"
        else:
            url, body, kind = self._addresses.upload_draft, raw, "message/rfc822"
        return await self._carry_out(sender, plan=_Plan(Call.DRAFTS_CREATE, "POST", url, body, kind))

    async def send_draft(self, sender: str, *, draft_id: str) -> Reply:
        """Send a draft; Accepted holds the message's id and its thread's."""
        body = request_bodies.draft_to_send(draft_id)
        return await self._carry_out(sender, plan=_Plan(Call.DRAFTS_SEND, "POST", self._addresses.drafts_send, body))

    async def send_message(self, sender: str, *, raw: bytes) -> Reply:
        """Send a letter directly; Accepted holds the message's id and its thread's."""
        if len(raw) <= UPLOAD_ABOVE:
            url, body, kind = self._addresses.messages_send, request_bodies.letter(raw), "application/json"
        else:
            url, body, kind = self._addresses.upload_message, raw, "message/rfc822"
        return await self._carry_out(sender, plan=_Plan(Call.MESSAGES_SEND, "POST", url, body, kind))

    async def get_draft(self, sender: str, *, draft_id: str) -> Reply:
        """Whether a draft is there: Accepted, or Refused with 404 when it was sent or deleted."""
        return await self._get(sender, call=Call.DRAFTS_GET, url=self._addresses.draft(draft_id, shape="minimal"))

    async def get_draft_headers(self, sender: str, *, draft_id: str) -> Reply:
        """A draft with all its headers in `body["message"]["payload"]["headers"]`."""
        return await self._get(sender, call=Call.DRAFTS_GET, url=self._addresses.draft(draft_id, shape="metadata"))

    async def delete_draft(self, sender: str, *, draft_id: str) -> Reply:
        """Delete a draft for good."""
        return await self._carry_out(sender, plan=_Plan(Call.DRAFTS_DELETE, "DELETE", self._addresses.draft(draft_id)))

    async def list_drafts(self, sender: str, *, page_token: str = "") -> Reply:
        """A page of up to 100 drafts (`body["drafts"]`, `body["nextPageToken"]`)."""
        return await self._get(sender, call=Call.DRAFTS_LIST, url=self._addresses.drafts(page_token=page_token))

    async def list_sent(self, sender: str, *, page_token: str = "") -> Reply:
        """A page of up to 100 sent messages, newest first (`body["messages"]`, `body["nextPageToken"]`)."""
        return await self._get(sender, call=Call.MESSAGES_LIST, url=self._addresses.sent(page_token=page_token))

    async def get_message(self, sender: str, *, message_id: str) -> Reply:
        """A message's labels and the headers with our key (`body["payload"]["headers"]`)."""
        url = self._addresses.message(message_id, headers=KEY_HEADERS)
        return await self._get(sender, call=Call.MESSAGES_GET, url=url)

    async def get_thread(self, sender: str, *, thread_id: str) -> Reply:
        """A thread's messages with their labels and the headers with our key (`body["messages"]`)."""
        url = self._addresses.thread(thread_id, headers=KEY_HEADERS)
        return await self._get(sender, call=Call.THREADS_GET, url=url)

    async def get_profile(self, sender: str) -> Reply:
        """The mailbox's own address and counts (`body["emailAddress"]`)."""
        return await self._get(sender, call=Call.GET_PROFILE, url=self._addresses.profile())

    def file_of(self, sender: str) -> Found | NoCredentials:
        """The credential file that a sender has, unread; asks the disk and nobody else."""
        return self._folders.find(sender.lower())

    def stamps(self) -> object:
        """What changes when a credential file comes, goes or is replaced; costs one stat a folder."""
        return self._folders.stamps()

    @property
    def knows_anybody(self) -> bool:
        """Whether there is any credential file at all."""
        return bool(self._folders.all())

    async def greet(self) -> responses.Answer | NotSent | NoResponse:
        """Google's answer to a call without a token: a refusal, which shows that it is there, and its Date."""
        request = GmailRequest(Call.GET_PROFILE, sender="", method="GET", url=self._addresses.profile())
        return await self._session.request(request, deadline=self._deadline())

    def _account(self, sender: str) -> Account:
        sender = sender.lower()  # Gmail knows no difference, and two tokens for one mailbox would be waste.
        if sender not in self._accounts:
            self._accounts[sender] = Account(
                sender,
                folders=self._folders,
                tokens=self._tokens,
                session=self._session,
                clock=self._clock,
                events=self._events,
            )
        return self._accounts[sender]

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._time_s

    async def _get(self, sender: str, *, call: Call, url: str) -> Reply:
        return await self._carry_out(sender, plan=_Plan(call, "GET", url))

    async def _carry_out(self, sender: str, *, plan: _Plan) -> Reply:
        started = self._clock.monotonic()
        reply = await self._with_token(self._account(sender), sender, plan=plan, deadline=self._deadline())
        self._watch.reply(reply, sender=sender, call=plan.call, seconds=self._clock.monotonic() - started)
        self._adapt_share(sender, reply)
        return reply

    def _adapt_share(self, sender: str, reply: Reply) -> None:
        """Let more letters of the sender be in flight after an answer, and half as many after a call without one."""
        match reply:
            case Accepted() | Refused() | TokenRefused() | MalformedResponse():
                self.semaphore.grow(sender)
            case NoResponse() | NotSent():
                self.semaphore.shrink(sender)
            case NoCredentials() | WrongMailbox():
                pass  # Google was not asked
            case _:
                assert_never(reply)

    async def _with_token(self, account: Account, sender: str, *, plan: _Plan, deadline: float) -> Reply:
        """Make the request; after a 401, which says that it was not carried out, once more with a new token."""
        token = await account.token(deadline=deadline)
        if not isinstance(token, Token):
            return token
        if trouble := await self._trouble(account, sender, token, deadline=deadline, plan=plan):
            return _before(trouble, plan.call)
        reply = await self._make(account, sender, plan=plan, token=token, deadline=deadline)
        if not (isinstance(reply, Refused) and reply.status == _UNAUTHORIZED):
            return reply
        token = await account.token(deadline=deadline, refused=token)
        if not isinstance(token, Token):
            return token
        if trouble := await self._trouble(account, sender, token, deadline=deadline, plan=plan):
            return _before(trouble, plan.call)
        return await self._make(account, sender, plan=plan, token=token, deadline=deadline)

    async def _trouble(
        self,
        account: Account,
        sender: str,
        token: Token,
        *,
        deadline: float,
        plan: _Plan | None = None,
        pay: Callable[[], Awaitable[None]] | None = None,
    ) -> Reply | None:
        """Why nothing may be asked with this token: the mailbox is not the sender's, or Google does not say."""
        if plan is not None and plan.call is Call.GET_PROFILE:
            return None
        if account.ownership.settled(token):
            return account.ownership.trouble

        async def ask() -> Reply:
            if pay is not None:
                await pay()
            return await self.get_profile(sender)

        return await account.ownership.check(token, file=account.file, deadline=deadline, ask=ask)

    async def _make(self, account: Account, sender: str, *, plan: _Plan, token: Token, deadline: float) -> Reply:
        request = GmailRequest(
            plan.call,
            sender=sender,
            method=plan.method,
            url=plan.url,
            body=plan.body,
            content_type=plan.content_type,
        )
        answer = await self._session.request(request, deadline=deadline, by=partial(account.send, token=token))
        return answer if isinstance(answer, NotSent | NoResponse) else responses.read(answer, call=plan.call)


def _before(trouble: Reply, call: Call) -> Reply:
    """What became of a call before which Google was asked whose mailbox it is: nothing, and nobody shall doubt it."""
    match trouble:
        case NoResponse() | MalformedResponse() | Accepted():
            why = "without an answer that tells"
        case Refused(status) if status not in _PLAIN_REFUSALS:
            why = f"with {status}"
        case _:
            return trouble
    return NotSent(f"{call} was not made: the question whose mailbox it is ended {why}")
