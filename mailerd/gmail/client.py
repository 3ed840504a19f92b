"""The Gmail client. Every call takes a sender, ends within the time-out, and returns a Reply whatever happens."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Self, assert_never

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
from mailerd.events.gmail import GmailEvents
from mailerd.gmail import responses
from mailerd.gmail.account import Account
from mailerd.gmail.concurrency import SLOW_AFTER, LetterSemaphore
from mailerd.gmail.credentials import CredentialDirs, CredentialFile
from mailerd.gmail.endpoints import UPLOAD_ABOVE, Endpoints
from mailerd.gmail.instrument import report
from mailerd.gmail.mailbox import Mailbox, mailbox_with
from mailerd.gmail.session import GmailRequest, GmailSession
from mailerd.gmail.tokens import Token, Tokens

KEY_HEADERS = ("X-Mailerd-Key",)
NOTICE_HEADERS = (
    "From", "To", "Subject", "Content-Type", "Authentication-Results", "X-Failed-Recipients", "Auto-Submitted",
    "Precedence", "X-Autoreply", "X-Autorespond", "X-Auto-Response-Suppress", "X-Mailerd-Key",
)  # fmt: skip
"""What tells a notice, an answer and an unsubscribe from all other mail, and a letter of ours from a person's."""
_OTHER_CALLS = 20
"""Connections beside those of the letters: checks of unresolved sends, sweeps, tokens."""
_UNAUTHORIZED = 401
_PLAIN_REFUSALS = frozenset({400, 401, 403, 429})
"""Statuses that mean the same for every call."""


class Gmail:
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
        self._endpoints = Endpoints(settings.api_root)
        self._events = events
        self._clock = clock or Clock()
        self.semaphore: Final = LetterSemaphore(concurrency, slow_after=self._time_s * SLOW_AFTER)
        connections = self.semaphore.max_at_google + _OTHER_CALLS
        self._session = GmailSession(events=events, limit=connections, request_timeout=self._time_s)
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

    async def create_draft(self, sender: str, *, raw: bytes) -> Reply:
        """Store a letter as a draft; Accepted holds the draft's id and its thread's."""
        if len(raw) <= UPLOAD_ABOVE:
            return await self._post(sender, Call.DRAFTS_CREATE, self._endpoints.drafts_create, body=draft_json(raw))
        return await self._upload(sender, Call.DRAFTS_CREATE, self._endpoints.upload_draft, raw=raw)

    async def send_draft(self, sender: str, *, draft_id: str) -> Reply:
        """Send a draft; Accepted holds the message's id and its thread's."""
        body = json.dumps({"id": draft_id}).encode()
        return await self._post(sender, Call.DRAFTS_SEND, self._endpoints.drafts_send, body=body)

    async def send_message(self, sender: str, *, raw: bytes) -> Reply:
        """Send a letter directly; Accepted holds the message's id and its thread's."""
        if len(raw) <= UPLOAD_ABOVE:
            return await self._post(sender, Call.MESSAGES_SEND, self._endpoints.messages_send, body=message_json(raw))
        return await self._upload(sender, Call.MESSAGES_SEND, self._endpoints.upload_message, raw=raw)

    async def get_draft(self, sender: str, *, draft_id: str) -> Reply:
        """Whether a draft exists: Accepted, or Refused with 404 when it was sent or deleted."""
        return await self._get(sender, Call.DRAFTS_GET, self._endpoints.draft(draft_id, shape="minimal"))

    async def get_draft_headers(self, sender: str, *, draft_id: str) -> Reply:
        """A draft with all its headers in `body["message"]["payload"]["headers"]`."""
        return await self._get(sender, Call.DRAFTS_GET, self._endpoints.draft(draft_id, shape="metadata"))

    async def delete_draft(self, sender: str, *, draft_id: str) -> Reply:
        """Delete a draft for good."""
        url = self._endpoints.draft(draft_id)
        return await self._call(GmailRequest(Call.DRAFTS_DELETE, sender=sender, method="DELETE", url=url))

    async def list_drafts(self, sender: str, *, page_token: str = "") -> Reply:
        """A page of up to 100 drafts (`body["drafts"]`, `body["nextPageToken"]`)."""
        return await self._get(sender, Call.DRAFTS_LIST, self._endpoints.drafts(page_token=page_token))

    async def list_sent(self, sender: str, *, page_token: str = "") -> Reply:
        """A page of up to 100 sent messages, newest first (`body["messages"]`, `body["nextPageToken"]`)."""
        return await self._get(sender, Call.MESSAGES_LIST, self._endpoints.sent(page_token=page_token))

    async def get_message(self, sender: str, *, message_id: str) -> Reply:
        """A message's labels and the headers with our key (`body["payload"]["headers"]`)."""
        url = self._endpoints.message(message_id, headers=KEY_HEADERS)
        return await self._get(sender, Call.MESSAGES_GET, url)

    async def get_thread(self, sender: str, *, thread_id: str) -> Reply:
        """A thread's messages with their labels and the headers with our key (`body["messages"]`)."""
        url = self._endpoints.thread(thread_id, headers=KEY_HEADERS)
        return await self._get(sender, Call.THREADS_GET, url)

    async def list_history(self, sender: str, *, start: int, page_token: str = "") -> Reply:
        """A page of up to 500 records of what came since `start`; Refused with 404 where Google has forgotten that."""
        return await self._get(sender, Call.HISTORY_LIST, self._endpoints.history(start, page_token=page_token))

    async def list_labelled(self, sender: str, label: str, *, page_token: str = "") -> Reply:
        """A page of up to 500 messages with a label, newest first (`body["messages"]`, `body["nextPageToken"]`)."""
        return await self._get(sender, Call.MESSAGES_LIST, self._endpoints.labelled(label, page_token=page_token))

    async def get_headers(self, sender: str, *, message_id: str) -> Reply:
        """A message's labels, size and those headers that tell what it is; never a word of its text."""
        url = self._endpoints.message(message_id, headers=NOTICE_HEADERS)
        return await self._get(sender, Call.MESSAGES_GET, url)

    async def get_raw(self, sender: str, *, message_id: str) -> Reply:
        """A whole message (`body["raw"]`, base64url); refused where the sign-in has gmail.metadata."""
        url = self._endpoints.raw_message(message_id)
        return await self._call(
            GmailRequest(Call.MESSAGES_GET, sender=sender, method="GET", url=url, max_body=responses.MAX_RAW)
        )

    async def get_profile(self, sender: str) -> Reply:
        """The mailbox's own address and counts (`body["emailAddress"]`)."""
        return await self._get(sender, Call.GET_PROFILE, self._endpoints.profile())

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
        request = GmailRequest(Call.GET_PROFILE, sender="", method="GET", url=self._endpoints.profile())
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

    async def _get(self, sender: str, call: Call, url: str) -> Reply:
        return await self._call(GmailRequest(call, sender=sender, method="GET", url=url))

    async def _post(self, sender: str, call: Call, url: str, *, body: bytes) -> Reply:
        return await self._call(GmailRequest(call, sender=sender, method="POST", url=url, body=body))

    async def _upload(self, sender: str, call: Call, url: str, *, raw: bytes) -> Reply:
        return await self._call(
            GmailRequest(call, sender=sender, method="POST", url=url, body=raw, content_type="message/rfc822")
        )

    async def _call(self, request: GmailRequest) -> Reply:
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
            case TooLate():
                pass  # we did not ask
            case NoResponse() | NotSent():
                self.semaphore.shrink(sender)
            case NoCredentials() | WrongMailbox():
                pass  # Google was not asked
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
            return _not_made(request.call, problem), None
        answer = await self._session.request(request, deadline=deadline, by=partial(account.send, token=token))
        if isinstance(answer, NotSent | NoResponse):
            return answer, token
        return responses.read(answer, call=request.call), token

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


def _not_made(call: Call, problem: Reply) -> Reply:
    """The reply to a call that was not made, because users.getProfile ended in this problem: no letter is in doubt."""
    match problem:
        case NoResponse() | MalformedResponse() | Accepted():
            why = "without an answer that tells"
        case Refused(status) if status not in _PLAIN_REFUSALS:
            why = f"with {status}"
        case _:
            return problem
    return NotSent(f"{call} was not made: the question whose mailbox it is ended {why}")


def message_json(raw: bytes) -> bytes:
    """A letter as a Message resource: https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.messages.

    It is written by hand, since base64url needs no escaping in JSON.
    """
    return b"".join((b'{"raw":"', base64.urlsafe_b64encode(raw), b'"}'))


def draft_json(raw: bytes) -> bytes:
    """A letter as a Draft resource."""
    return b"".join((b'{"message":', message_json(raw), b"}"))
