"""A person's sign-in with an OAuth client of the type "installed" (RFC 8252, PKCE of RFC 7636):
URL, code, tokens.

Source: https://developers.google.com/identity/protocols/oauth2/native-app. URLs come from the
settings alone, never from the client's file, so that no file can send secrets elsewhere.
"""

import asyncio
import base64
import hashlib
import hmac
import html
import json
import os
import secrets
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from mailerd.config import GmailSettings
from mailerd.core.i18n import t
from mailerd.core.replies import Accepted, Call, NoResponse, NotSent, Reply, TokenRefused
from mailerd.errors import MailerdError
from mailerd.events.worker import GmailEvents
from mailerd.gmail import session
from mailerd.gmail.account import token_request, without_secrets
from mailerd.gmail.client import Endpoints
from mailerd.gmail.credentials import AuthorizedUser
from mailerd.gmail.session import GmailRequest, GmailSession, TokenResponse, parse_json

# The page on 127.0.0.1 to which the browser returns after a sign-in; it takes one callback.
#
# Google's "desktop" clients follow RFC 8252, section 7.3. The request comes from a browser, so any
# web page may make one: only a callback with the state of this sign-in counts, and after any other
# the server goes on waiting.

_MAX_HEAD: Final = 16 * 1024
"""The most bytes of a request's head."""
_HEAD_TIMEOUT: Final = 10.0
"""The seconds that a browser has to send it."""
_FINISH_TIMEOUT: Final = 1.0
_PAGE: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>mailerd</title>'
    '<body style="font:16px/1.5 sans-serif;max-width:40em;margin:4em auto;padding:0 1em"><h1>mailerd</h1><p>{}</p>'
)


@dataclass(frozen=True)
class Callback:
    """The browser's request with Google's answer; the browser waits for the page that `show` gives
    it.
    """

    parameters: Mapping[str, str] = field(repr=False)
    _page: "asyncio.Future[tuple[int, str]]" = field(repr=False)

    def show(self, text: str, *, status: int = 200) -> None:
        """Show the person how the sign-in ended."""
        if not self._page.done():
            self._page.set_result((status, text))


class CallbackServer:
    """Waits for one callback."""

    def __init__(self, *, state: str, on_rejected: Callable[[str], None]) -> None:
        self.port = 0
        self._state = state
        self._strangers = on_rejected
        self._callback: asyncio.Future[Callback] = asyncio.get_running_loop().create_future()
        self._connection: asyncio.Task[None] | None = None

    async def callback(self, *, timeout: float) -> Callback:  # noqa: ASYNC109 - a person's patience
        """The callback with our state.

        Raises:
            TimeoutError: none came within so many seconds.
        """
        async with asyncio.timeout(timeout):
            return await self._callback

    async def finish(self) -> None:
        """Let the browser get its page, if it was given one."""
        if self._connection is not None:
            await asyncio.wait({self._connection}, timeout=_FINISH_TIMEOUT)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection; whatever it sends, only this connection fails."""
        try:
            async with asyncio.timeout(_HEAD_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
            status, text = await self._answer(head.split(b"\r\n", 1)[0].decode("ascii", "replace"))
        except (
            TimeoutError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            ConnectionError,
        ):
            writer.transport.abort()
            return
        body = _PAGE.format(html.escape(text)).encode()
        lines = (
            f"HTTP/1.1 {status} mailerd",
            "Content-Type: text/html; charset=utf-8",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Referrer-Policy: no-referrer",  # the address holds the code
            "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'",
            "Connection: close",
        )
        writer.write("\r\n".join((*lines, "", "")).encode() + body)
        writer.close()
        await writer.wait_closed()

    async def _answer(self, line: str) -> tuple[int, str]:
        """Status and page for a request by its first line."""
        method, _, rest = line.partition(" ")
        target = urlsplit(rest.partition(" ")[0])
        if method != "GET" or target.path != "/":
            return 404, "There is nothing here."
        pairs = parse_qsl(target.query, keep_blank_values=True)
        parameters = dict(pairs)
        if len(parameters) != len(pairs) or not hmac.compare_digest(
            parameters.get("state", "").encode(), self._state.encode()
        ):
            self._strangers(
                "a callback that does not belong to this sign-in (wrong or missing state) was refused"
            )
            return (
                400,
                "This answer does not belong to the sign-in that mailerd waits for. Open the newest address.",
            )
        if self._callback.done():
            return 409, "This sign-in has been answered already."
        page: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._callback.set_result(Callback(parameters, page))
        self._connection = asyncio.current_task()
        return await page


@asynccontextmanager
async def listening(
    *, port: int, state: str, on_rejected: Callable[[str], None]
) -> AsyncIterator[CallbackServer]:
    """Listen on 127.0.0.1 (port 0 takes a free one); `on_rejected` gets a text for each refused
    callback.

    Raises:
        OSError: the port is taken.
    """
    callbacks = CallbackServer(state=state, on_rejected=on_rejected)
    server = await asyncio.start_server(callbacks.serve, "127.0.0.1", port, limit=_MAX_HEAD)
    callbacks.port = server.sockets[0].getsockname()[1]
    try:
        yield callbacks
    finally:
        server.close()
        await callbacks.finish()


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
    """Seconds until the sign-in itself ends, when Google says so: it does for an OAuth app in
    "Testing".
    """


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
            t(
                "cannot read {path}: {strerror}; download it in the Cloud console, or name the OAuth client's file "
                "with --client",
                path=path,
                strerror=error.strerror,
            )
        ) from error
    if mode & 0o077:
        raise SignInError(
            t(
                "{path} can be read by others (mode {mode:04o}) and is not used; run: chmod 600 {path}",
                path=path,
                mode=stat.S_IMODE(mode),
            )
        )
    document = parse_json(text)
    inner: Any = document.get("installed") if isinstance(document, dict) else None
    known = (
        [inner.get(key) for key in ("client_id", "client_secret")]
        if isinstance(inner, dict)
        else []
    )
    if not known or not all(isinstance(value, str) and value for value in known):
        web = (
            t(" (it is a client for web applications)")
            if isinstance(document, dict) and "web" in document
            else ""
        )
        raise SignInError(
            t(
                '{path} is not an OAuth client of the type "Desktop app"{web}; create one in the Cloud console (APIs '
                "& Services, Credentials), and download its JSON",
                path=path,
                web=web,
            )
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
            raise SignInError(
                t(
                    "no response from {token_uri}: {cause}; try again",
                    token_uri=self._token_uri,
                    cause=answer.cause,
                )
            )
        granted = session.read_token(answer)
        match granted:
            case TokenResponse():
                return _signed_in(
                    granted, json.loads(answer.body), authorization=authorization, client=client
                )
            case TokenRefused():
                known = without_secrets(granted, form)
                raise SignInError(
                    t(
                        "Google rejected the authorization: {error}: {description}",
                        error=known.error or known.status,
                        description=known.description,
                    )
                )
            case NotSent(cause):
                raise SignInError(cause)

    async def address_of(self, signed_in: SignedIn) -> str | Reply:
        """The address of the account that agreed, or Google's other reply."""
        request = GmailRequest(Call.GET_PROFILE, sender="", method="GET", url=self._profile)
        request.headers["Authorization"] = f"Bearer {signed_in.access_token}"
        answer = await self._session.request(request, deadline=self._deadline())
        if isinstance(answer, NotSent | NoResponse):
            return answer
        reply = session.read(answer, call=Call.GET_PROFILE)
        if isinstance(reply, Accepted) and isinstance(reply.body, dict):
            return str(reply.body["emailAddress"])
        return reply


def _signed_in(
    granted: TokenResponse,
    body: dict[str, Any],
    *,
    authorization: AuthorizationRequest,
    client: Client,
) -> SignedIn:
    refresh, ends = body.get("refresh_token"), body.get("refresh_token_expires_in")
    if not isinstance(refresh, str) or not refresh:
        raise SignInError(
            t(
                "Google returned no refresh token; the authorization would expire within an hour. Try again"
            )
        )
    return SignedIn(
        credentials=AuthorizedUser(
            client_id=client.client_id,
            client_secret=client.client_secret,
            refresh_token=refresh,
            scopes=authorization.scopes if granted.scopes is None else granted.scopes,
        ),
        access_token=granted.access_token,
        ends_in=float(ends)
        if isinstance(ends, int | float) and not isinstance(ends, bool)
        else None,
    )
