"""One sender's access to Google: its credential file, its token (one refresh at a time) and its
aiogoogle client.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import assert_never
from urllib.parse import quote, quote_plus, urlencode

from aiogoogle.auth.creds import UserCreds
from aiogoogle.client import Aiogoogle
from aiogoogle.models import Response
from cryptography.exceptions import UnsupportedAlgorithm
from google.auth import crypt, jwt

from mailerd.clock import Clock
from mailerd.core.i18n import joined, t
from mailerd.core.rate_limit import CONSUMER_DOMAINS
from mailerd.core.reading import Authorization, AuthorizationState
from mailerd.core.reasons import reason
from mailerd.core.replies import (
    Accepted,
    Call,
    MalformedResponse,
    NoCredentials,
    NoResponse,
    NotSent,
    OwnerUnknown,
    Refused,
    Reply,
    TokenRefused,
    TokenUnavailable,
    WrongMailbox,
)
from mailerd.core.verdicts import SCOPE_REFUSED, PauseCause, judge, words_of
from mailerd.events.worker import GmailEvents
from mailerd.gmail import credentials
from mailerd.gmail.credentials import (
    SCOPE_PREFERENCE,
    AuthorizedUser,
    CredentialDirs,
    CredentialFile,
    Credentials,
    ServiceAccount,
    allow_profile,
)
from mailerd.gmail.session import GmailRequest, GmailSession, TokenResponse, read_token, report

# Gets access tokens for credentials from Google's token endpoint.
#
# aiogoogle's own refresh is not used. It has no time-out, so a hung endpoint would hang every
# message. It has no lock, so fifty messages would make fifty requests. It signs on the event loop
# (36 ms each), raises KeyError for an answer without "scope", and takes the endpoint's address from
# the credential file.

_EARLY_S = 60.0
"""Seconds before its end at which a token is replaced."""
_ASSERTION_LIFETIME_S = 3600
"""How long an assertion is valid, in seconds; Google's upper bound:
https://developers.google.com/identity/protocols/oauth2/service-account.
"""
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_NOT_DELEGATED = {"unauthorized_client", "access_denied", "invalid_scope"}
"""What Google says when an administrator has not delegated all of the scopes that were asked
for.
"""
_NOT_SECRET = {"grant_type", "client_id", "redirect_uri"}
"""The fields of a token request that are not secret."""

NoToken = TokenRefused | NoCredentials | TokenUnavailable


@dataclass(frozen=True)
class Token:
    """An access token."""

    access_token: str = field(repr=False)
    fresh_until: float
    """A monotonic time, in seconds; from then on it is replaced, though it is valid a little
    longer.
    """
    scopes: tuple[str, ...]
    bound: bool = False
    """A service account's token for this sender, whom the request named: it opens no other
    mailbox.
    """
    generation: int = 0
    """The generation of the credential file that it came from (see `Account`); 0 is none."""


class Tokens:
    """The token endpoint."""

    def __init__(
        self, session: GmailSession, *, token_uri: str, events: GmailEvents, clock: Clock
    ) -> None:
        self._session = session
        # Always the settings' address, never the file's: a credential file cannot send secrets
        # elsewhere.
        self._token_uri = token_uri
        self._events = events
        self._clock = clock

    async def get(
        self, sender: str, *, credentials: Credentials, deadline: float
    ) -> Token | NoToken:
        """A new token for a sender, or the endpoint's refusal, before the deadline (the event
        loop's time).
        """
        match credentials:
            case AuthorizedUser():
                form = {
                    "grant_type": "refresh_token",
                    "client_id": credentials.client_id,
                    "client_secret": credentials.client_secret,
                    "refresh_token": credentials.refresh_token,
                }
                return await self._request(
                    sender, form=form, default_scopes=credentials.scopes, deadline=deadline
                )
            case ServiceAccount():
                return await self._try_scopes(sender, account=credentials, deadline=deadline)

    async def _try_scopes(
        self, sender: str, *, account: ServiceAccount, deadline: float
    ) -> Token | NoToken:
        """A token for the best set of scopes that was delegated; Google refuses a set that holds an
        undelegated one.
        """
        issued = int(self._clock.now().timestamp())
        claims = {"iss": account.client_email, "sub": sender, "aud": self._token_uri, "iat": issued}
        claims["exp"] = issued + _ASSERTION_LIFETIME_S
        try:
            async with asyncio.timeout_at(deadline):
                # Loading the key takes tens of milliseconds of computing, so a thread does it, once
                # for all sets.
                assertions = await asyncio.to_thread(_sign, account, claims)
        except TimeoutError:
            return TokenUnavailable(t("the assertion was not signed within the time-out"))
        if isinstance(assertions, NoCredentials):
            return assertions
        outcome: Token | NoToken = TokenUnavailable(t("no scopes to ask for"))
        for scopes, assertion in zip(SCOPE_PREFERENCE, assertions, strict=True):
            form = {"grant_type": _JWT_BEARER, "assertion": assertion}
            outcome = await self._request(
                sender, form=form, default_scopes=scopes, deadline=deadline
            )
            if not (isinstance(outcome, TokenRefused) and outcome.error in _NOT_DELEGATED):
                break
        return outcome

    async def _request(
        self, sender: str, *, form: dict[str, str], default_scopes: tuple[str, ...], deadline: float
    ) -> Token | NoToken:
        """Make one request; the token has `default_scopes` when the answer names none."""
        request = token_request(self._token_uri, sender=sender, form=form)
        started = self._clock.monotonic()
        answer = await self._session.request(request, deadline=deadline)
        outcome: TokenResponse | NoToken
        if isinstance(answer, NotSent | NoResponse):
            # A second request for a token does no harm, so it does not matter whether this one was
            # sent.
            outcome = TokenUnavailable(answer.cause)
        else:
            outcome = read_token(answer)
            if isinstance(outcome, TokenRefused):
                outcome = without_secrets(outcome, form)
        ended = self._clock.monotonic()
        if not isinstance(outcome, TokenResponse):
            report(self._events, outcome, sender=sender, call=Call.TOKEN, seconds=ended - started)
            return outcome
        self._events.token_refreshed(
            sender=sender, seconds=ended - started, good_for=outcome.lifetime_s
        )
        early = min(_EARLY_S, outcome.lifetime_s / 2)
        return Token(
            access_token=outcome.access_token,
            fresh_until=started + outcome.lifetime_s - early,
            scopes=default_scopes if outcome.scopes is None else outcome.scopes,
        )


def token_request(token_uri: str, *, sender: str, form: Mapping[str, str]) -> GmailRequest:
    """A request to the token endpoint."""
    return GmailRequest(
        Call.TOKEN,
        sender=sender,
        method="POST",
        url=token_uri,
        body=urlencode(form).encode(),
        content_type="application/x-www-form-urlencoded",
    )


def without_secrets(refusal: TokenRefused, form: Mapping[str, str]) -> TokenRefused:
    """The refusal without the secrets of the request, which a proxy's error page may repeat;
    refusals are logged.
    """

    def scrub(text: str) -> str:
        for name, value in form.items():
            if name not in _NOT_SECRET:
                for spelling in {value, quote(value, safe=""), quote_plus(value)} - {""}:
                    text = text.replace(spelling, "…")
        return text

    return replace(refusal, error=scrub(refusal.error), description=scrub(refusal.description))


def _sign(account: ServiceAccount, claims: dict[str, object]) -> tuple[str, ...] | NoCredentials:
    """An RS256 assertion (RFC 7523) for each set of scopes, best first."""
    try:
        signer = crypt.RSASigner.from_string(account.private_key, key_id=account.private_key_id)
        return tuple(
            jwt.encode(signer, {**claims, "scope": " ".join(scopes)}).decode()
            for scopes in SCOPE_PREFERENCE
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: a key that is not RSA
        # The exception's text is left out, since the library has read the key.
        return NoCredentials(
            joined(
                [
                    t(
                        "the private key of {client_email} is not valid",
                        client_email=account.client_email,
                    ),
                    t("create a new key for the service account"),
                ]
            )
        )


# Checks whose mailbox a credential file opens: once for each file, before it is used for anything
# else.
#
# Without the check, a file that was replaced by another mailbox's would send from that mailbox, and
# the drafts of its own mailbox, which the other one does not know, would all look as if they had
# been sent.


def same_mailbox(one: str, other: str) -> bool:
    """Whether two addresses name one mailbox, as far as the addresses show it.

    Upper and lower case are the same. At gmail.com, and only there, dots and what follows a "+" do
    not count (https://support.google.com/mail/answer/7436150), and googlemail.com is the same
    domain.
    """
    return _canonical(one) == _canonical(other)


def _canonical(address: str) -> str:
    local, _, domain = address.strip().lower().rpartition("@")
    if domain in CONSUMER_DOMAINS:
        local, domain = local.partition("+")[0].replace(".", ""), "gmail.com"
    return f"{local}@{domain}"


class Ownership:
    """Whether one sender's credentials open the sender's own mailbox; `verified`: Google has named
    that mailbox.
    """

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
        """Why this token must not be used; None: the mailbox is the sender's, or the scopes do not
        let Google say.

        `ask` makes the call (users.getProfile). Callers that come meanwhile wait, and get its
        outcome, good or bad.
        """
        rounds = self._rounds
        try:
            async with asyncio.timeout_at(deadline):
                await self._checking.acquire()
        except TimeoutError:
            return OwnerUnknown(t("another check took the whole time-out"))
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

    async def _check_now(
        self, token: Token, *, file: str, ask: Callable[[], Awaitable[Reply]]
    ) -> Reply | None:
        if token.bound:
            return self._remember(token, None, verified=True)
        if not allow_profile(token.scopes):
            return self._unverifiable(token)
        reply, cause = await ask(), ""
        match reply:
            case Accepted(body=dict() as body):
                return self._compare(token, str(body.get("emailAddress")), file=file)
            case Refused() if reply.reason in SCOPE_REFUSED:
                return self._unverifiable(token)
            case Refused() if judge(Call.GET_PROFILE, reply).backoff is None:
                cause = reason("google_error", said=words_of(reply))
            case NoResponse():
                cause = judge(Call.GET_PROFILE, reply).reason
            case MalformedResponse() | Accepted():
                cause = t("the response does not name it")
            case _:
                return reply
        # No message was sent, and none is to blame: only this sender waits.
        return OwnerUnknown(cause)

    def _compare(self, token: Token, address: str, *, file: str) -> WrongMailbox | None:
        if same_mailbox(address, self._sender):
            return self._remember(token, None, verified=True)
        self._events.mailbox_wrong(sender=self._sender, address=address, file=file)
        wrong = WrongMailbox(
            joined(
                [
                    t(
                        "{file} opens the mailbox {address}, not {sender}",
                        file=file,
                        address=address,
                        sender=self._sender,
                    ),
                    t(
                        "run `mailerd auth login --sender {sender}`, or name {sender} in gmail.aliases if it is an "
                        "alias of {address}",
                        address=address,
                        sender=self._sender,
                    ),
                ]
            )
        )
        return self._remember(token, wrong, verified=False)

    def _unverifiable(self, token: Token) -> WrongMailbox | None:
        self._events.mailbox_unverified(sender=self._sender)
        return self._remember(token, None, verified=False)

    def _remember(
        self, token: Token, wrong: WrongMailbox | None, *, verified: bool
    ) -> WrongMailbox | None:
        self._checked, self.problem, self.verified = token.generation, wrong, verified
        return wrong


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
        self._credentials: Credentials | NoCredentials = NoCredentials(t("not read yet"))
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
        self._last: Token | NoToken = TokenUnavailable(t("none was requested yet"))
        self._known = Authorization()
        """What is known of the credentials in the present file."""

    @property
    def project(self) -> str:
        """The Cloud project of the credentials; "" without any."""
        return "" if isinstance(self._credentials, NoCredentials) else self._credentials.project

    @property
    def file(self) -> str:
        """Where the credentials were found; "" without any."""
        return str(self._found.path) if isinstance(self._found, CredentialFile) else ""

    def authorization(self, found: CredentialFile) -> Authorization:
        """What the last request for a token said of a credential file, if that is still the one in
        use.
        """
        if found != self._found:
            return Authorization()
        if self._known.state is AuthorizationState.OK and (wrong := self.ownership.problem):
            return replace(self._known, state=AuthorizationState.UNUSABLE, reason=wrong.cause)
        return self._known

    def invalidate(self) -> None:
        """Drop the token: the next call requests a new one, and a refresh under way does not bring
        the old one back.
        """
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
            file = str(found.path) if isinstance(found, CredentialFile) else t("missing file")
            self._events.credentials_changed(sender=self._sender, file=file)
        self._found, self._known = found, Authorization()
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

        Callers that come while a refresh is under way wait for it, and get its outcome, good or
        bad.
        """
        if (
            self._found is None
            or self._clock.monotonic() - self._refreshed_at >= _REFRESH_INTERVAL_S
        ):
            self.refresh_if_changed()
        if token := self._usable(refused):
            return token
        rounds_seen = self._rounds
        try:
            async with asyncio.timeout_at(deadline):
                await self._refreshing.acquire()
        except TimeoutError:
            return TokenUnavailable(t("another token request took the whole time-out"))
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
            self._note(known)
            return known
        outcome = await self._tokens.get(self._sender, credentials=known, deadline=deadline)
        if isinstance(outcome, Token):
            outcome = replace(
                outcome, generation=generation, bound=isinstance(known, ServiceAccount)
            )
        if self._generation == generation:
            self._token = outcome if isinstance(outcome, Token) else None
            self._last = outcome
            self._rounds += 1
            self._note(outcome)
        return outcome

    def _note(self, outcome: Token | NoToken) -> None:
        """Keep what Google said of the credentials; where it said nothing, what it said before."""
        now, known = self._clock.now(), AuthorizationState
        match outcome:
            case Token():
                self._known = Authorization(known.OK, outcome.scopes, now)
            case TokenRefused():
                verdict = judge(Call.TOKEN, outcome)
                # it has trouble of its own
                if verdict.backoff and verdict.backoff.cause is not PauseCause.THROTTLED:
                    self._known = Authorization(
                        known.REFUSED, checked_at=now, reason=verdict.reason
                    )
            case NoCredentials():
                self._known = Authorization(known.UNUSABLE, checked_at=now, reason=outcome.cause)
            case TokenUnavailable():
                pass
            case _:
                assert_never(outcome)

    async def send(self, request: GmailRequest, *, token: Token) -> Response:
        """Send a request in the sender's name, by aiogoogle.

        aiogoogle is given every token as a user's token that never expires, a service account's
        too. So it never refreshes one itself, which would wait without bound.
        """
        if self._client is None:
            # One client a sender, as its credentials belong to the client. The session is shared:
            # aiogoogle keeps it in a context variable and would otherwise make, and leak, one for
            # every task.
            self._client = Aiogoogle(session_factory=lambda: self._session)  # type: ignore[arg-type]  # any callable will do
        if self._creds is None or self._creds[0] is not token:
            self._creds = token, UserCreds(access_token=token.access_token, expires_at=_NEVER)
        response: Response = await self._client.as_user(
            request, user_creds=self._creds[1], full_res=True, raise_for_status=False
        )
        return response
