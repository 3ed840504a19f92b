"""A person's sign-in with an OAuth client of the type "installed" (RFC 8252, PKCE of RFC 7636): URL, code, tokens.

Source: https://developers.google.com/identity/protocols/oauth2/native-app. URLs come from the settings alone, never
from the client's file, so that no file can send secrets elsewhere.
"""

import asyncio
import base64
import hashlib
import json
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

from mailerd.config import GmailSettings
from mailerd.core.replies import Accepted, Call, NoResponse, NotSent, Reply, TokenRefused
from mailerd.errors import MailerdError
from mailerd.events.gmail import GmailEvents
from mailerd.gmail import responses
from mailerd.gmail.credentials import AuthorizedUser
from mailerd.gmail.endpoints import Endpoints
from mailerd.gmail.responses import TokenResponse, parse_json
from mailerd.gmail.session import GmailRequest, GmailSession
from mailerd.gmail.tokens import token_request, without_secrets

_MAX_BYTES = 64 * 1024


class SignInError(MailerdError):
    """The sign-in failed; no file was written."""


@dataclass(frozen=True)
class Client:
    """The OAuth client, as the Cloud console names it."""

    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True)
class AuthorizationRequest:
    """What a person is asked to agree to, and the secrets that tie the callback to it."""

    sender: str
    scopes: tuple[str, ...]
    state: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(32))
    verifier: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(64))

    def url(self, auth_uri: str, *, client: Client, redirect_uri: str) -> str:
        """What to open in a browser; it holds no lasting secret."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        query = {
            "client_id": client.client_id,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "scope": " ".join(self.scopes),
            "state": self.state,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            "access_type": "offline",  # or there would be no refresh token
            "prompt": "consent",  # or Google would give none to those who have agreed before
            "login_hint": self.sender,
        }
        return f"{auth_uri}{'&' if '?' in auth_uri else '?'}{urlencode(query)}"


@dataclass(frozen=True)
class SignedIn:
    """What Google returned."""

    credentials: AuthorizedUser
    access_token: str = field(repr=False)
    ends_in: float | None
    """Seconds until the sign-in itself ends, when Google says so: it does for an OAuth app in "Testing"."""


def read_client(path: Path) -> Client:
    """The client in a file.

    Raises:
        SignInError: it cannot be used.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            mode = os.fstat(handle).st_mode
            text = file.read(_MAX_BYTES) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise SignInError(
            f"{path} cannot be read: {error.strerror}; name the OAuth client's file with --client"
        ) from error
    if mode & 0o077:
        raise SignInError(
            f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}) and is not used; chmod 600 {path}"
        )
    document = parse_json(text)
    inner: Any = document.get("installed") if isinstance(document, dict) else None
    known = [inner.get(key) for key in ("client_id", "client_secret")] if isinstance(inner, dict) else []
    if not known or not all(isinstance(value, str) and value for value in known):
        web = " (it is one for web applications)" if isinstance(document, dict) and "web" in document else ""
        raise SignInError(
            f'{path} is not an OAuth client of the type "Desktop app"{web}; make one in the Cloud console under APIs & '
            "Services, Credentials, and download its JSON"
        )
    return Client(*map(str, known))


class SignIn:
    """The requests of a sign-in to Google; `async with` opens and closes the connections."""

    def __init__(self, settings: GmailSettings, *, events: GmailEvents) -> None:
        self._token_uri = settings.token_uri
        self._time_s = settings.request_timeout
        self._profile = Endpoints(settings.api_root).profile()
        self._session = GmailSession(settings, events=events, limit=2)

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.__aexit__()

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._time_s

    async def exchange_code(
        self, code: str, *, authorization: AuthorizationRequest, client: Client, redirect_uri: str
    ) -> SignedIn:
        """Exchange the code of the callback for tokens.

        Raises:
            SignInError: Google refused it, or gave less than was asked for.
        """
        form = {
            "grant_type": "authorization_code",
            "client_id": client.client_id,
            "client_secret": client.client_secret,
            "code": code,
            "code_verifier": authorization.verifier,
            "redirect_uri": redirect_uri,
        }
        request = token_request(self._token_uri, sender=authorization.sender, form=form)
        answer = await self._session.request(request, deadline=self._deadline())
        if isinstance(answer, NotSent | NoResponse):
            raise SignInError(f"{self._token_uri} gave no answer: {answer.cause}; try again")
        granted = responses.read_token(answer)
        match granted:
            case TokenResponse():
                return _signed_in(granted, json.loads(answer.body), authorization=authorization, client=client)
            case TokenRefused():
                known = without_secrets(granted, form)
                raise SignInError(f"Google refused the sign-in: {known.error or known.status}: {known.description}")
            case NotSent(cause):
                raise SignInError(cause)

    async def address_of(self, signed_in: SignedIn) -> str | Reply:
        """The address of the account that agreed, or Google's other reply."""
        request = GmailRequest(Call.GET_PROFILE, sender="", method="GET", url=self._profile)
        request.headers["Authorization"] = f"Bearer {signed_in.access_token}"
        answer = await self._session.request(request, deadline=self._deadline())
        if isinstance(answer, NotSent | NoResponse):
            return answer
        reply = responses.read(answer, call=Call.GET_PROFILE)
        if isinstance(reply, Accepted) and isinstance(reply.body, dict):
            return str(reply.body["emailAddress"])
        return reply


def _signed_in(
    granted: TokenResponse, body: dict[str, Any], *, authorization: AuthorizationRequest, client: Client
) -> SignedIn:
    refresh, ends = body.get("refresh_token"), body.get("refresh_token_expires_in")
    if not isinstance(refresh, str) or not refresh:
        raise SignInError("Google gave no refresh token, so the sign-in would end within the hour; try again")
    return SignedIn(
        credentials=AuthorizedUser(
            client_id=client.client_id,
            client_secret=client.client_secret,
            refresh_token=refresh,
            scopes=authorization.scopes if granted.scopes is None else granted.scopes,
        ),
        access_token=granted.access_token,
        ends_in=float(ends) if isinstance(ends, int | float) and not isinstance(ends, bool) else None,
    )
