"""Turns credentials into access tokens; nothing else speaks with the token endpoint.

aiogoogle's own refresh is not used: it has no time-out, so that a hung endpoint hangs every letter; no lock, so that
fifty letters make fifty requests; it signs on the event loop (36 ms each); it raises KeyError for an answer without
"scope"; and it takes the address from the credential file. Its session interface carries these requests all the same.
"""

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, quote_plus, urlencode

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mailerd.clock import Clock
from mailerd.core.replies import Call, NoCredentials, NoResponse, NotSent, TokenRefused, TokenUnavailable
from mailerd.gmail.credentials import AuthorizedUser, Credentials, ServiceAccount
from mailerd.gmail.instrument import Watch
from mailerd.gmail.mailbox import LADDER
from mailerd.gmail.responses import Granted, read_token
from mailerd.gmail.session import GmailRequest, GmailSession

_EARLY_S = 60.0
"""Seconds before its end at which a token is replaced."""
_ASSERTION_LIFETIME_S = 3600
"""Seconds; Google's upper bound: https://developers.google.com/identity/protocols/oauth2/service-account."""
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_NOT_DELEGATED = {"unauthorized_client", "access_denied", "invalid_scope"}
"""What Google says when an administrator has not delegated all of the scopes that were asked for."""

_OPEN = {"grant_type", "client_id", "redirect_uri"}
"""What of a token request is no secret."""

NoToken = TokenRefused | NoCredentials | TokenUnavailable


@dataclass(frozen=True)
class Token:
    """An access token."""

    access_token: str = field(repr=False)
    fresh_until: float
    """A monotonic time, in seconds; it is replaced from then on, though it lives a little longer."""
    scopes: tuple[str, ...]
    bound: bool = False
    """Google gave it for the sender by name, as a service account's subject, so it opens no other mailbox."""
    generation: int = 0
    """Of which of the account's credential files it came; 0 is none."""


class Tokens:
    """The token endpoint."""

    def __init__(self, session: GmailSession, *, token_uri: str, watch: Watch, clock: Clock) -> None:
        self._session = session
        # The settings' address always wins over the file's: a credential file cannot send secrets elsewhere.
        self._token_uri = token_uri
        self._watch = watch
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
                return await self._ask(sender, form=form, otherwise=credentials.scopes, deadline=deadline)
            case ServiceAccount():
                return await self._climb(sender, account=credentials, deadline=deadline)

    async def _climb(self, sender: str, *, account: ServiceAccount, deadline: float) -> Token | NoToken:
        """The best set of scopes that was delegated."""
        issued = int(self._clock.now().timestamp())
        claims = {"iss": account.client_email, "sub": sender, "aud": self._token_uri, "iat": issued}
        claims["exp"] = issued + _ASSERTION_LIFETIME_S
        try:
            async with asyncio.timeout_at(deadline):
                # Loading the key takes tens of milliseconds of computing, so it is done off the loop and once.
                assertions = await asyncio.to_thread(_sign, account, claims)
        except TimeoutError:
            return TokenUnavailable("the assertion was not signed within the time-out")
        if isinstance(assertions, NoCredentials):
            return assertions
        outcome: Token | NoToken = TokenUnavailable("no scopes to ask for")
        for scopes, assertion in zip(LADDER, assertions, strict=True):
            form = {"grant_type": _JWT_BEARER, "assertion": assertion}
            outcome = await self._ask(sender, form=form, otherwise=scopes, deadline=deadline)
            if not (isinstance(outcome, TokenRefused) and outcome.error in _NOT_DELEGATED):
                break
        return outcome

    async def _ask(
        self, sender: str, *, form: dict[str, str], otherwise: tuple[str, ...], deadline: float
    ) -> Token | NoToken:
        """One request; `otherwise` are the scopes when the answer names none."""
        request = GmailRequest(
            Call.TOKEN,
            sender=sender,
            method="POST",
            url=self._token_uri,
            body=urlencode(form).encode(),
            content_type="application/x-www-form-urlencoded",
        )
        started = self._clock.monotonic()
        answer = await self._session.request(request, deadline=deadline)
        outcome: Granted | NoToken
        if isinstance(answer, NotSent | NoResponse):
            # Asking again for a token harms nobody, so it does not matter whether this request was written.
            outcome = TokenUnavailable(answer.cause)
        else:
            outcome = read_token(answer)
            if isinstance(outcome, TokenRefused):
                outcome = without_secrets(outcome, form)
        ended = self._clock.monotonic()
        if not isinstance(outcome, Granted):
            self._watch.reply(outcome, sender=sender, call=Call.TOKEN, seconds=ended - started)
            return outcome
        self._watch.token(sender, seconds=ended - started, good_for=outcome.lifetime_s)
        early = min(_EARLY_S, outcome.lifetime_s / 2)
        return Token(
            access_token=outcome.access_token,
            fresh_until=started + outcome.lifetime_s - early,
            scopes=otherwise if outcome.scopes is None else outcome.scopes,
        )


def without_secrets(refusal: TokenRefused, form: Mapping[str, str]) -> TokenRefused:
    """The refusal without what was sent: a proxy's error page may repeat the request, and this goes into a log."""

    def scrubbed(text: str) -> str:
        for name, value in form.items():
            if name not in _OPEN:
                for spelling in {value, quote(value, safe=""), quote_plus(value)} - {""}:
                    text = text.replace(spelling, "…")
        return text

    return replace(refusal, error=scrubbed(refusal.error), description=scrubbed(refusal.description))


def _sign(account: ServiceAccount, claims: dict[str, object]) -> tuple[str, ...] | NoCredentials:
    """An RS256 assertion (RFC 7523) for each rung of the ladder of scopes."""
    try:
        key = serialization.load_pem_private_key(account.private_key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        # The library's own words are left out: nothing that has read a key is quoted.
        return NoCredentials(
            f"the private key of {account.client_email} cannot be used; make a new key for the service account"
        )
    header = _part({"alg": "RS256", "typ": "JWT", "kid": account.private_key_id})
    signed = []
    for scopes in LADDER:
        text = header + b"." + _part({**claims, "scope": " ".join(scopes)})
        signature = key.sign(text, padding.PKCS1v15(), hashes.SHA256())
        signed.append((text + b"." + _base64url(signature)).decode())
    return tuple(signed)


def _part(values: dict[str, object]) -> bytes:
    return _base64url(json.dumps(values, separators=(",", ":")).encode())


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
