"""Gets access tokens for credentials from Google's token endpoint.

aiogoogle's own refresh is not used. It has no time-out, so a hung endpoint would hang every letter. It has no lock, so
fifty letters would make fifty requests. It signs on the event loop (36 ms each), raises KeyError for an answer without
"scope", and takes the endpoint's address from the credential file.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, quote_plus, urlencode

from cryptography.exceptions import UnsupportedAlgorithm
from google.auth import crypt, jwt

from mailerd.clock import Clock
from mailerd.core.replies import Call, NoCredentials, NoResponse, NotSent, TokenRefused, TokenUnavailable
from mailerd.events.worker import GmailEvents
from mailerd.gmail.credentials import AuthorizedUser, Credentials, ServiceAccount
from mailerd.gmail.instrument import report
from mailerd.gmail.mailbox import SCOPE_PREFERENCE
from mailerd.gmail.responses import TokenResponse, read_token
from mailerd.gmail.session import GmailRequest, GmailSession

_EARLY_S = 60.0
"""Seconds before its end at which a token is replaced."""
_ASSERTION_LIFETIME_S = 3600
"""How long an assertion is valid, in seconds; Google's upper bound: https://developers.google.com/identity/protocols/oauth2/service-account."""
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_NOT_DELEGATED = {"unauthorized_client", "access_denied", "invalid_scope"}
"""What Google says when an administrator has not delegated all of the scopes that were asked for."""
_NOT_SECRET = {"grant_type", "client_id", "redirect_uri"}
"""The fields of a token request that are not secret."""

NoToken = TokenRefused | NoCredentials | TokenUnavailable


@dataclass(frozen=True)
class Token:
    """An access token."""

    access_token: str = field(repr=False)
    fresh_until: float
    """A monotonic time, in seconds; from then on it is replaced, though it is valid a little longer."""
    scopes: tuple[str, ...]
    bound: bool = False
    """A service account's token for this sender, whom the request named: it opens no other mailbox."""
    generation: int = 0
    """The generation of the credential file that it came from (see `Account`); 0 is none."""


class Tokens:
    """The token endpoint."""

    def __init__(self, session: GmailSession, *, token_uri: str, events: GmailEvents, clock: Clock) -> None:
        self._session = session
        # Always the settings' address, never the file's: a credential file cannot send secrets elsewhere.
        self._token_uri = token_uri
        self._events = events
        self._clock = clock

    async def get(self, sender: str, *, credentials: Credentials, deadline: float) -> Token | NoToken:
        """A new token for a sender, or the endpoint's refusal, before the deadline (the event loop's time)."""
        match credentials:
            case AuthorizedUser():
                form = {
                    "grant_type": "refresh_token",
                    "client_id": credentials.client_id,
                    "client_secret": credentials.client_secret,
                    "refresh_token": credentials.refresh_token,
                }
                return await self._request(sender, form=form, default_scopes=credentials.scopes, deadline=deadline)
            case ServiceAccount():
                return await self._try_scopes(sender, account=credentials, deadline=deadline)

    async def _try_scopes(self, sender: str, *, account: ServiceAccount, deadline: float) -> Token | NoToken:
        """A token for the best set of scopes that was delegated; Google refuses a set that holds an undelegated one."""
        issued = int(self._clock.now().timestamp())
        claims = {"iss": account.client_email, "sub": sender, "aud": self._token_uri, "iat": issued}
        claims["exp"] = issued + _ASSERTION_LIFETIME_S
        try:
            async with asyncio.timeout_at(deadline):
                # Loading the key takes tens of milliseconds of computing, so a thread does it, once for all sets.
                assertions = await asyncio.to_thread(_sign, account, claims)
        except TimeoutError:
            return TokenUnavailable("the assertion was not signed within the time-out")
        if isinstance(assertions, NoCredentials):
            return assertions
        outcome: Token | NoToken = TokenUnavailable("no scopes to ask for")
        for scopes, assertion in zip(SCOPE_PREFERENCE, assertions, strict=True):
            form = {"grant_type": _JWT_BEARER, "assertion": assertion}
            outcome = await self._request(sender, form=form, default_scopes=scopes, deadline=deadline)
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
            # A second request for a token does no harm, so it does not matter whether this one was sent.
            outcome = TokenUnavailable(answer.cause)
        else:
            outcome = read_token(answer)
            if isinstance(outcome, TokenRefused):
                outcome = without_secrets(outcome, form)
        ended = self._clock.monotonic()
        if not isinstance(outcome, TokenResponse):
            report(self._events, outcome, sender=sender, call=Call.TOKEN, seconds=ended - started)
            return outcome
        self._events.token_refreshed(sender=sender, seconds=ended - started, good_for=outcome.lifetime_s)
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
    """The refusal without the secrets of the request, which a proxy's error page may repeat; refusals are logged."""

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
        return tuple(jwt.encode(signer, {**claims, "scope": " ".join(scopes)}).decode() for scopes in SCOPE_PREFERENCE)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: a key that is not RSA
        # The exception's text is left out, since the library has read the key.
        return NoCredentials(
            f"the private key of {account.client_email} cannot be used; make a new key for the service account"
        )
