"""Who may do what: the credentials that the sandbox hands out, and the access tokens made of
them.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mailerd.sandbox.google.answers import NAMED, Answer, Refused, html_page, oauth_error, success

Kind = Literal["authorized_user", "service_account"]

NO_TOKEN_URI = "http://127.0.0.1:9/token"  # noqa: S105 -- no secret: the discard port, until a server fills in its own
_PURGE_ABOVE = 10_000


@dataclass(slots=True)
class Credential:
    """One credential file and what it is worth at the moment."""

    owner: str
    """A mailbox, or "@example.com" for a service account with delegation over a domain."""
    kind: Kind
    scopes: frozenset[str]
    blob: dict[str, Any] = field(repr=False)
    """The JSON in Google's own shape.

    A service account's `token_uri` is filled in when the server starts.
    """
    public_key: rsa.RSAPublicKey | None = None
    revoked: bool = False

    def covers(self, email: str) -> bool:
        """Whether it may speak for a mailbox."""
        return email.endswith(self.owner) if self.owner.startswith("@") else email == self.owner


@dataclass(frozen=True, slots=True)
class Grant:
    """An access token: for which mailbox (empty for a service account that names none), until
    when.
    """

    email: str
    credential: Credential
    scopes: frozenset[str]
    expires_at: float

    def allowed(self) -> frozenset[str]:
        """Its scopes, as far as the credential still has them."""
        return self.scopes & self.credential.scopes


@dataclass(frozen=True, kw_only=True, slots=True)
class Consent:
    """A code that a person's consent has produced and that one token request may redeem."""

    email: str
    scopes: frozenset[str]
    redirect_uri: str
    challenge: str
    offline: bool
    expires_at: float


class Accounts:
    """All credentials, tokens and pending consents. One OAuth client stands for the application."""

    def __init__(self) -> None:
        self.client_id = f"{secrets.randbelow(10**12):012d}-sandbox.apps.googleusercontent.com"
        self.client_secret = "GOCSPX-" + secrets.token_urlsafe(21)
        self.credentials: list[Credential] = []
        self.consents: dict[str, Consent] = {}
        self.token_uri = NO_TOKEN_URI
        self._grants: dict[str, Grant] = {}

    @property
    def auth_uri(self) -> str:
        """Where a person agrees, once the server runs."""
        return self.token_uri.removesuffix("token") + "o/oauth2/v2/auth"

    def client_file(self) -> dict[str, Any]:
        """The OAuth client in the shape in which Google's console hands out a desktop client."""
        return {
            "installed": {
                "client_id": self.client_id,
                "project_id": "sandbox",
                "auth_uri": self.auth_uri,
                "token_uri": self.token_uri,
                "client_secret": self.client_secret,
                "redirect_uris": ["http://localhost"],
            }
        }

    def served_at(self, url: str) -> None:
        """Tell every service account's file where to ask for tokens."""
        self.token_uri = url + "token"
        for credential in self.credentials:
            if credential.kind == "service_account":
                credential.blob["token_uri"] = self.token_uri

    def issue(self, owner: str, *, scopes: frozenset[str], kind: Kind) -> Credential:
        """A new credential; the owner's former one of the same kind is worthless from now on."""
        for former in [c for c in self.credentials if (c.owner, c.kind) == (owner, kind)]:
            former.revoked = True
            self.credentials.remove(former)
        if kind == "authorized_user":
            blob: dict[str, Any] = {
                "type": "authorized_user",
                "client_id": self.client_id,
                "client_secret": self.client_secret,
                "refresh_token": "1//" + secrets.token_urlsafe(48),
            }
            credential = Credential(owner, kind, scopes, blob)
        else:
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            credential = Credential(
                owner, kind, scopes, self._service_account(key), key.public_key()
            )
        self.credentials.append(credential)
        return credential

    def of(self, owner: str) -> list[Credential]:
        """The credentials of exactly this mailbox or domain."""
        return [c for c in self.credentials if c.owner == owner]

    def by_refresh_token(self, token: str) -> Credential | None:
        """The credential that a refresh token belongs to."""
        return next((c for c in self.credentials if c.blob.get("refresh_token") == token), None)

    def by_client_email(self, email: str) -> Credential | None:
        """The service account of that name."""
        return next((c for c in self.credentials if c.blob.get("client_email") == email), None)

    def grant(
        self, email: str, *, credential: Credential, scopes: frozenset[str], expires_at: float
    ) -> str:
        """A new access token."""
        if len(self._grants) > _PURGE_ABOVE:
            self._grants = {
                t: g for t, g in self._grants.items() if g.expires_at > expires_at - 86_400
            }
        token = "ya29." + secrets.token_urlsafe(48)
        self._grants[token] = Grant(email, credential, scopes, expires_at)
        return token

    def check(self, token: str, *, now: float) -> Grant | None:
        """The grant behind a token that is known, not expired and not revoked."""
        grant = self._grants.get(token)
        if grant is None or grant.expires_at <= now or grant.credential.revoked:
            return None
        return grant

    def known(self, owner: str) -> list[Credential]:
        """The credentials of a mailbox or domain, in any spelling; raises KeyError where there is
        none.
        """
        if not (found := self.of(owner.lower())):
            raise KeyError(f"no credential for {owner}")
        return found

    def revoke(self, owner: str) -> None:
        """Make the owner's refresh tokens worthless and end its access tokens.

        Raises KeyError for an unknown one.
        """
        hit = self.known(owner)
        for credential in hit:
            credential.revoked = True
        self._grants = {t: g for t, g in self._grants.items() if g.credential not in hit}

    def restore(self, owner: str) -> None:
        """Undo a revocation, as if the person had signed in again and got the same file.

        KeyError: it has none.
        """
        for credential in self.known(owner):
            credential.revoked = False

    def set_scopes(self, owner: str, scopes: frozenset[str]) -> None:
        """Change what the owner's credentials allow, tokens that are out included.

        KeyError: it has none.
        """
        for credential in self.known(owner):
            credential.scopes = scopes

    def expire_tokens(self) -> None:
        """End every access token that is out; refresh tokens stay good."""
        self._grants.clear()

    def _service_account(self, key: rsa.RSAPrivateKey) -> dict[str, Any]:
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        name = f"mailerd-{secrets.token_hex(4)}@sandbox.iam.gserviceaccount.com"
        return {
            "type": "service_account",
            "project_id": "sandbox",
            "private_key_id": uuid.uuid4().hex,
            "private_key": pem.decode("ascii"),
            "client_email": name,
            "client_id": f"{secrets.randbelow(10**21):021d}",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": self.token_uri,
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
            "client_x509_cert_url": f"https://www.googleapis.com/robot/v1/metadata/x509/{quote(name, safe='')}",
            "universe_domain": "googleapis.com",
        }


# The token and consent endpoints: what they check and what they answer, as Google does; no network
# here.

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CODE_LIFETIME_S = 600
_JWT_LIFETIME_S = 3_600
# Google's own addresses are good audiences at Google; here they are good too, as every file that
# was not made by a running sandbox names one of them.
_AUDIENCES = ("https://oauth2.googleapis.com/token", "https://www.googleapis.com/oauth2/v4/token")

Form = Mapping[str, str]


class OAuth:
    """Turns credentials into access tokens."""

    def __init__(
        self,
        accounts: Accounts,
        *,
        now: Callable[[], float],
        lifetime_s: Callable[[], int],
        mailboxes: Collection[str],
    ) -> None:
        self._accounts = accounts
        self._now = now
        self._lifetime_s = lifetime_s
        self._mailboxes = mailboxes

    def sender_of(self, form: Form) -> str:
        """The mailbox that a token request is about, as far as it says; for faults and the log."""
        credential = self._accounts.by_refresh_token(form.get("refresh_token", ""))
        if credential is not None:
            return credential.owner
        try:
            claims = _jwt_parts(form.get("assertion", ""))[0]
        except Refused:
            return ""
        return str(claims.get("sub") or claims.get("iss") or "").lower()

    def token(self, form: Form) -> Answer:
        """Answer a token request."""
        try:
            match form.get("grant_type", ""):
                case "refresh_token":
                    return self._refresh(form)
                case "authorization_code":
                    return self._redeem(form)
                case grant if grant == JWT_BEARER:
                    return self._sign_in_as_service(form)
                case "":
                    return _refuse("invalid_request", "Missing required parameter: grant_type")
                case other:
                    return _refuse("unsupported_grant_type", f"Invalid grant_type: {other}")
        except Refused as refused:
            return refused.answer

    def consent(self, query: Form) -> Answer:
        """Answer the page on which a person would agree: redirects at once to the loopback address
        with a code.
        """
        target = urlsplit(query.get("redirect_uri", ""))
        if query.get("client_id") != self._accounts.client_id:
            return html_page(401, "invalid_client", "The OAuth client was not found.")
        if target.scheme != "http" or target.hostname not in _LOOPBACK:
            return html_page(
                400, "redirect_uri_mismatch", "Only loopback addresses may be redirected to."
            )
        problem = _consent_problem(query)
        if problem:
            return html_page(400, "invalid_request", problem)
        email = query.get("login_hint", "").lower() or next(iter(self._mailboxes), "")
        if email not in self._mailboxes:
            return html_page(400, "invalid_request", "login_hint names no mailbox of this sandbox.")
        code = "4/0A" + secrets.token_urlsafe(32)
        self._accounts.consents[code] = Consent(
            email=email,
            scopes=frozenset(query["scope"].split()),
            redirect_uri=query["redirect_uri"],
            challenge=query.get("code_challenge", ""),
            offline=query.get("access_type") == "offline",
            expires_at=self._now() + _CODE_LIFETIME_S,
        )
        back = {"state": query.get("state", ""), "code": code, "scope": query["scope"]}
        joint = "&" if target.query else "?"
        location = query["redirect_uri"] + joint + urlencode({k: v for k, v in back.items() if v})
        return Answer(302, b"", "text/html; charset=UTF-8", (("Location", location),))

    def _refresh(self, form: Form) -> Answer:
        self._check_client(form)
        if not form.get("refresh_token"):
            return _refuse("invalid_request", "Missing required parameter: refresh_token")
        credential = self._accounts.by_refresh_token(form["refresh_token"])
        if credential is None:
            return _refuse("invalid_grant", "Bad Request")
        if credential.revoked:
            return NAMED["invalid_grant"](0)
        wanted = frozenset(form.get("scope", "").split()) or credential.scopes
        if not wanted <= credential.scopes:
            return _refuse("invalid_scope", "Bad Request")
        return self._granted(
            credential, email=credential.owner, scopes=wanted, shows_scope=" ".join(sorted(wanted))
        )

    def _redeem(self, form: Form) -> Answer:
        self._check_client(form)
        # A code is good once, whether it is redeemed well or badly.
        consent = self._accounts.consents.pop(form.get("code", ""), None)
        if consent is None or consent.expires_at <= self._now():
            return _refuse("invalid_grant", "Malformed auth code.")
        if form.get("redirect_uri") != consent.redirect_uri:
            return _refuse("redirect_uri_mismatch", "Bad Request")
        if consent.challenge:
            verifier = form.get("code_verifier", "")
            if not verifier:
                return _refuse("invalid_grant", "Missing code verifier.")
            digest = (
                base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
                .rstrip(b"=")
                .decode()
            )
            if not hmac.compare_digest(digest, consent.challenge):
                return _refuse("invalid_grant", "Invalid code verifier.")
        credential = self._accounts.issue(
            consent.email, scopes=consent.scopes, kind="authorized_user"
        )
        refresh = {"refresh_token": credential.blob["refresh_token"]} if consent.offline else {}
        shows = " ".join(sorted(consent.scopes))
        return self._granted(
            credential, email=consent.email, scopes=consent.scopes, shows_scope=shows, more=refresh
        )

    def _sign_in_as_service(self, form: Form) -> Answer:
        claims, signed, signature = _jwt_parts(form.get("assertion", ""))
        credential = self._accounts.by_client_email(str(claims.get("iss", "")))
        if credential is None or credential.public_key is None:
            return _refuse("invalid_grant", "Invalid grant: account not found")
        try:
            credential.public_key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return _refuse("invalid_grant", "Invalid JWT Signature.")
        self._check_claims(claims)
        if credential.revoked:
            return NAMED["invalid_grant"](0)
        scopes = frozenset(str(claims.get("scope", "")).split())
        email = str(claims.get("sub") or "").lower()
        if not scopes:
            return _refuse("invalid_scope", "Empty or missing scope not allowed.")
        if not scopes <= credential.scopes or (email and not credential.covers(email)):
            return oauth_error(
                401,
                error="unauthorized_client",
                description="Client is unauthorized to retrieve access tokens using this method, "
                "or client not authorized for any of the scopes requested.",
            )
        return self._granted(credential, email=email, scopes=scopes)

    def _check_client(self, form: Form) -> None:
        if form.get("client_id") != self._accounts.client_id:
            raise Refused(NAMED["invalid_client"](0))
        if not hmac.compare_digest(form.get("client_secret", ""), self._accounts.client_secret):
            description = "The provided client secret is invalid."
            raise Refused(oauth_error(401, error="invalid_client", description=description))

    def _check_claims(self, claims: Mapping[str, Any]) -> None:
        if claims.get("aud") not in (self._accounts.token_uri, *_AUDIENCES):
            raise Refused(_refuse("invalid_grant", "Invalid JWT: Failed audience check."))
        # A client signs with the real time, whatever time the sandbox plays.
        now, issued, expires = time.time(), claims.get("iat"), claims.get("exp")
        in_time = (
            isinstance(issued, int | float)
            and isinstance(expires, int | float)
            and issued - 300 <= now < expires
            and 0 < expires - issued <= _JWT_LIFETIME_S
        )
        if not in_time:
            text = (
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
                "Check your iat and exp values in the JWT claim."
            )
            raise Refused(_refuse("invalid_grant", text))

    def _granted(
        self,
        credential: Credential,
        *,
        email: str,
        scopes: frozenset[str],
        shows_scope: str = "",
        more: Mapping[str, Any] | None = None,
    ) -> Answer:
        lifetime = self._lifetime_s()
        token = self._accounts.grant(
            email, credential=credential, scopes=scopes, expires_at=self._now() + lifetime
        )
        scope = {"scope": shows_scope} if shows_scope else {}
        return success(
            {
                "access_token": token,
                "expires_in": lifetime,
                **scope,
                "token_type": "Bearer",
                **(more or {}),
            }
        )


def _refuse(error: str, description: str) -> Answer:
    return oauth_error(400, error=error, description=description)


def _consent_problem(query: Form) -> str:
    if query.get("response_type") != "code":
        return "Only response_type=code is known."
    if not query.get("scope"):
        return "Missing required parameter: scope"
    if query.get("code_challenge") and query.get("code_challenge_method") != "S256":
        return "Only code_challenge_method=S256 is known."
    return ""


def _jwt_parts(assertion: str) -> tuple[dict[str, Any], bytes, bytes]:
    """Claims, signed bytes and signature; raises Refused for what is no RS256 JWT."""
    try:
        head, payload, signature = assertion.split(".")
        header, claims = json.loads(_unpadded(head)), json.loads(_unpadded(payload))
        if header.get("alg") != "RS256" or not isinstance(claims, dict):
            raise Refused(_refuse("invalid_grant", "Invalid JWT: only RS256 is known."))
        return claims, f"{head}.{payload}".encode("ascii"), _unpadded(signature)
    except (ValueError, AttributeError, binascii.Error) as error:
        refusal = _refuse("invalid_grant", "Invalid JWT: The assertion could not be parsed.")
        raise Refused(refusal) from error


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
