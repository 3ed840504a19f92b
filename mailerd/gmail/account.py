"""One sender's access to Google: its credential file, its token (one refresh at a time) and its aiogoogle client."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

from aiogoogle.auth.creds import UserCreds
from aiogoogle.client import Aiogoogle
from aiogoogle.models import Response

from mailerd.clock import Clock
from mailerd.core.replies import NoCredentials, TokenUnavailable
from mailerd.events.worker import GmailEvents
from mailerd.gmail import credentials
from mailerd.gmail.credentials import CredentialDirs, CredentialFile, Credentials, ServiceAccount
from mailerd.gmail.mailbox_owner import Ownership
from mailerd.gmail.session import GmailRequest, GmailSession
from mailerd.gmail.tokens import NoToken, Token, Tokens

_REFRESH_INTERVAL_S = 1.0
_NEVER = datetime.max.replace(tzinfo=UTC)


class Account:
    """A sender's access to Google."""

    def __init__(
        self,
        sender: str,
        *,
        dirs: CredentialDirs,
        tokens: Tokens,
        session: GmailSession,
        clock: Clock,
        events: GmailEvents,
    ) -> None:
        self._sender = sender
        self._dirs = dirs
        self._tokens = tokens
        self._clock = clock
        self._events = events
        self._session = session
        self._client: Aiogoogle | None = None
        self._found: CredentialFile | NoCredentials | None = None
        self._credentials: Credentials | NoCredentials = NoCredentials("not read yet")
        self._dirs_version: tuple[tuple[int, ...], ...] = ()
        self._refreshed_at = 0.0
        self._token: Token | None = None
        self.ownership = Ownership(sender, events=events)
        self._creds: tuple[Token, UserCreds] | None = None
        """The token in aiogoogle's own form, which takes longer to make than to use."""
        self._refreshing = asyncio.Lock()
        self._generation = 0
        """Grows when the token is dropped: what was learnt before no longer counts."""
        self._rounds = 0
        """Grows with every refresh that has ended."""
        self._last: Token | NoToken = TokenUnavailable("none was requested yet")

    @property
    def project(self) -> str:
        """The Cloud project of the credentials; "" without any."""
        return "" if isinstance(self._credentials, NoCredentials) else self._credentials.project

    @property
    def file(self) -> str:
        """Where the credentials were found; "" without any."""
        return str(self._found.path) if isinstance(self._found, CredentialFile) else ""

    def invalidate(self) -> None:
        """Drop the token: the next call requests a new one, and a refresh under way does not bring the old one back."""
        self._token = None
        self._generation += 1

    def reload(self) -> None:
        """Find and read the credential file, and drop the token when the file has changed."""
        self._refreshed_at = self._clock.monotonic()
        self._dirs_version = self._dirs.version()
        found = self._dirs.find(self._sender)
        if found == self._found:
            return
        if self._found is not None:
            file = str(found.path) if isinstance(found, CredentialFile) else "it is gone"
            self._events.credentials_changed(sender=self._sender, file=file)
        self._found = found
        self._credentials = credentials.read(found) if isinstance(found, CredentialFile) else found
        self.invalidate()

    def refresh_if_changed(self) -> None:
        """Reload where a folder or the file has changed; costs one stat for each of them."""
        same = self._dirs.version() == self._dirs_version
        if same and isinstance(self._found, CredentialFile) and credentials.changed(self._found):
            same = False
        if self._found is None or not same:
            self.reload()
        self._refreshed_at = self._clock.monotonic()

    async def token(self, *, deadline: float, refused: Token | None = None) -> Token | NoToken:
        """A fresh token that is not the `refused` one, or why there is none.

        Callers that come while a refresh is under way wait for it, and get its outcome, good or bad.
        """
        if self._found is None or self._clock.monotonic() - self._refreshed_at >= _REFRESH_INTERVAL_S:
            self.refresh_if_changed()
        if token := self._usable(refused):
            return token
        rounds_seen = self._rounds
        try:
            async with asyncio.timeout_at(deadline):
                await self._refreshing.acquire()
        except TimeoutError:
            return TokenUnavailable("another request for it took the whole time-out")
        try:
            if token := self._usable(refused):
                return token
            if self._rounds != rounds_seen and not isinstance(self._last, Token):
                return self._last
            return await self._refresh(deadline=deadline)
        finally:
            self._refreshing.release()

    def _usable(self, refused: Token | None) -> Token | None:
        token = self._token
        if token is None or token is refused or self._clock.monotonic() >= token.fresh_until:
            return None
        return token

    async def _refresh(self, *, deadline: float) -> Token | NoToken:
        self.reload()
        known, generation = self._credentials, self._generation
        if isinstance(known, NoCredentials):
            return known
        outcome = await self._tokens.get(self._sender, credentials=known, deadline=deadline)
        if isinstance(outcome, Token):
            outcome = replace(outcome, generation=generation, bound=isinstance(known, ServiceAccount))
        if self._generation == generation:
            self._token = outcome if isinstance(outcome, Token) else None
            self._last = outcome
            self._rounds += 1
        return outcome

    async def send(self, request: GmailRequest, *, token: Token) -> Response:
        """Send a request in the sender's name, by aiogoogle.

        aiogoogle is given every token as a user's token that never expires, a service account's too. So it never
        refreshes one itself, which would wait without bound.
        """
        if self._client is None:
            # One client a sender, as its credentials belong to the client. The session is shared: aiogoogle keeps it
            # in a context variable and would otherwise make, and leak, one for every task.
            self._client = Aiogoogle(session_factory=lambda: self._session)  # type: ignore[arg-type]  # any callable will do
        if self._creds is None or self._creds[0] is not token:
            self._creds = token, UserCreds(access_token=token.access_token, expires_at=_NEVER)
        response: Response = await self._client.as_user(
            request, user_creds=self._creds[1], full_res=True, raise_for_status=False
        )
        return response
