"""The token and consent endpoints: what they check and what they answer, as Google does; no network here."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from mailerd.sandbox.google.accounts import Accounts, Consent, Credential
from mailerd.sandbox.google.answers import NAMED, Answer, Refused, html_page, oauth_error, success

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CODE_LIFETIME_S = 600
_JWT_LIFETIME_S = 3_600
# Google's own addresses are good audiences at Google; here they are good too, as every file that was not made by
# a running sandbox names one of them.
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
        """Answer the page on which a person would agree: redirects at once to the loopback address with a code."""
        target = urlsplit(query.get("redirect_uri", ""))
        if query.get("client_id") != self._accounts.client_id:
            return html_page(401, "invalid_client", "The OAuth client was not found.")
        if target.scheme != "http" or target.hostname not in _LOOPBACK:
            return html_page(400, "redirect_uri_mismatch", "Only loopback addresses may be redirected to.")
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
        return self._granted(credential, email=credential.owner, scopes=wanted, shows_scope=" ".join(sorted(wanted)))

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
            digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
            if not hmac.compare_digest(digest, consent.challenge):
                return _refuse("invalid_grant", "Invalid code verifier.")
        credential = self._accounts.issue(consent.email, scopes=consent.scopes, kind="authorized_user")
        refresh = {"refresh_token": credential.blob["refresh_token"]} if consent.offline else {}
        shows = " ".join(sorted(consent.scopes))
        return self._granted(credential, email=consent.email, scopes=consent.scopes, shows_scope=shows, more=refresh)

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
        token = self._accounts.grant(email, credential=credential, scopes=scopes, expires_at=self._now() + lifetime)
        scope = {"scope": shows_scope} if shows_scope else {}
        return success({"access_token": token, "expires_in": lifetime, **scope, "token_type": "Bearer", **(more or {})})


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
