"""Who may do what: the credentials that the sandbox hands out and the access tokens that came of them."""

import secrets
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

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
    """The JSON in Google's own shape. A service account's `token_uri` is filled in when the server starts."""
    public_key: rsa.RSAPublicKey | None = None
    revoked: bool = False

    def covers(self, email: str) -> bool:
        """Whether it may speak for a mailbox."""
        return email.endswith(self.owner) if self.owner.startswith("@") else email == self.owner


@dataclass(frozen=True, slots=True)
class Grant:
    """An access token: for which mailbox (empty for a service account that names none), until when."""

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
            credential = Credential(owner, kind, scopes, self._service_account(key), key.public_key())
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

    def grant(self, email: str, *, credential: Credential, scopes: frozenset[str], expires_at: float) -> str:
        """A new access token."""
        if len(self._grants) > _PURGE_ABOVE:
            self._grants = {t: g for t, g in self._grants.items() if g.expires_at > expires_at - 86_400}
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
        """The credentials of a mailbox or domain, in any spelling; raises KeyError where there is none."""
        if not (found := self.of(owner.lower())):
            raise KeyError(f"no credential for {owner}")
        return found

    def revoke(self, owner: str) -> None:
        """Make the owner's refresh tokens worthless and end its access tokens. Raises KeyError for an unknown one."""
        hit = self.known(owner)
        for credential in hit:
            credential.revoked = True
        self._grants = {t: g for t, g in self._grants.items() if g.credential not in hit}

    def restore(self, owner: str) -> None:
        """Undo a revocation, as if the person had signed in again and got the same file. KeyError: it has none."""
        for credential in self.known(owner):
            credential.revoked = False

    def set_scopes(self, owner: str, scopes: frozenset[str]) -> None:
        """Change what the owner's credentials allow, tokens that are out included. KeyError: it has none."""
        for credential in self.known(owner):
            credential.scopes = scopes

    def expire_tokens(self) -> None:
        """End every access token that is out; refresh tokens stay good."""
        self._grants.clear()

    def _service_account(self, key: rsa.RSAPrivateKey) -> dict[str, Any]:
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
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
