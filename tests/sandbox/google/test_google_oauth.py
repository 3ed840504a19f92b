"""The token and consent endpoints, with clients of Google's own making where there are any."""

import base64
import hashlib
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiogoogle.client import Aiogoogle
from google.auth import crypt, jwt

from mailerd.sandbox.google import COMPOSE, FULL, METADATA, SEND, FakeGoogle, RunningServer, serve

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def _refresh(google: FakeGoogle, **changes: str) -> dict[str, str]:
    blob = google.accounts.credentials[0].blob
    form = {key: blob[key] for key in ("client_id", "client_secret", "refresh_token")}
    return {"grant_type": "refresh_token", **form, **changes}


async def _ask(running: RunningServer, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.post(running.token_uri, data=form) as answer:
        return answer.status, await answer.json()


async def test_a_refresh_token_buys_an_access_token(google: FakeGoogle, running: RunningServer) -> None:
    status, body = await _ask(running, _refresh(google))
    assert status == 200
    assert body == {
        "access_token": body["access_token"],
        "expires_in": 3599,
        "scope": f"{FULL} {COMPOSE}",
        "token_type": "Bearer",
    }
    assert google.accounts.check(body["access_token"], now=google.now())
    assert not google.accounts.check(body["access_token"], now=google.now() + 3599)


@pytest.mark.parametrize(
    "changes, status, body",
    [
        (
            {"client_id": "other"},
            401,
            {"error": "invalid_client", "error_description": "The OAuth client was not found."},
        ),
        (
            {"client_secret": "other"},
            401,
            {"error": "invalid_client", "error_description": "The provided client secret is invalid."},
        ),
        ({"refresh_token": "other"}, 400, {"error": "invalid_grant", "error_description": "Bad Request"}),
        ({"scope": METADATA}, 400, {"error": "invalid_scope", "error_description": "Bad Request"}),
        (
            {"grant_type": "password"},
            400,
            {"error": "unsupported_grant_type", "error_description": "Invalid grant_type: password"},
        ),
    ],
)
async def test_a_wrong_refresh_is_refused_in_googles_words(
    google: FakeGoogle, running: RunningServer, changes: dict[str, str], status: int, body: dict[str, str]
) -> None:
    assert await _ask(running, _refresh(google, **changes)) == (status, body)


async def test_a_revoked_mailbox_is_invalid_grant_until_restored(google: FakeGoogle, running: RunningServer) -> None:
    _, body = await _ask(running, _refresh(google))
    google.revoke("me@example.com")
    assert await _ask(running, _refresh(google)) == (
        400,
        {"error": "invalid_grant", "error_description": "Token has been expired or revoked."},
    )
    assert google.accounts.check(body["access_token"], now=google.now()) is None
    google.restore("me@example.com")
    assert (await _ask(running, _refresh(google)))[0] == 200
    assert google.accounts.check(body["access_token"], now=google.now()) is None


async def test_a_new_credential_ends_the_former_and_its_tokens(google: FakeGoogle, running: RunningServer) -> None:
    former = _refresh(google)
    _, body = await _ask(running, former)
    google.add_mailbox("me@example.com")
    assert google.accounts.check(body["access_token"], now=google.now()) is None
    assert (await _ask(running, former))[1]["error"] == "invalid_grant"


async def test_a_file_made_before_the_start_learns_where_tokens_are_given() -> None:
    google = FakeGoogle()
    blob = google.add_mailbox("me@example.com", kind="service_account")
    assert blob["token_uri"].startswith("http://127.0.0.1:")
    async with serve(google) as running:
        assert blob["token_uri"] == running.token_uri


def _assertion(blob: dict[str, Any], *, age: int = 0, **changes: Any) -> dict[str, str]:
    now = int(time.time()) - age
    claims = {
        "iss": blob["client_email"],
        "aud": blob["token_uri"],
        "scope": COMPOSE,
        "sub": "me@example.com",
        "iat": now,
        "exp": now + 3600,
        **changes,
    }
    signer = crypt.RSASigner.from_service_account_info(blob)
    token: bytes = jwt.encode(signer, claims)
    return {"grant_type": JWT_BEARER, "assertion": token.decode()}


async def test_a_service_account_speaks_for_its_mailbox(google: FakeGoogle, running: RunningServer) -> None:
    blob = google.add_mailbox("me@example.com", kind="service_account")
    assert blob["token_uri"] == running.token_uri
    status, body = await _ask(running, _assertion(blob))
    assert (status, body["expires_in"], body["token_type"]) == (200, 3599, "Bearer")
    grant = google.accounts.check(body["access_token"], now=google.now())
    assert grant is not None
    assert grant.email == "me@example.com"


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"iss": "nobody@x.iam.gserviceaccount.com"}, "400 invalid_grant: Invalid grant: account not found"),
        ({"aud": "https://example.com/"}, "400 invalid_grant: Invalid JWT: Failed audience check."),
        ({"exp": 1}, "400 invalid_grant: Invalid JWT: Token must be a short-lived token (60 minutes)"),
        ({"age": 3700}, "400 invalid_grant: Invalid JWT: Token must be a short-lived token (60 minutes)"),
        ({"age": -700}, "400 invalid_grant: Invalid JWT: Token must be a short-lived token (60 minutes)"),
        ({"iat": 1}, "400 invalid_grant: Invalid JWT: Token must be a short-lived token (60 minutes)"),
        ({"sub": "you@example.com"}, "401 unauthorized_client: Client is unauthorized"),
        ({"scope": SEND}, "401 unauthorized_client: Client is unauthorized"),
        ({"scope": ""}, "400 invalid_scope: Empty or missing scope"),
    ],
)
async def test_a_wrong_assertion_is_refused(
    google: FakeGoogle, running: RunningServer, changes: dict[str, Any], words: str
) -> None:
    blob = google.add_mailbox("me@example.com", kind="service_account")
    status, body = await _ask(running, _assertion(blob, **changes))
    assert f"{status} {body['error']}: {body['error_description']}".startswith(words)


async def test_a_forged_signature_is_refused(google: FakeGoogle, running: RunningServer) -> None:
    blob = google.add_mailbox("me@example.com", kind="service_account")
    other = google.add_mailbox("you@example.com", kind="service_account")
    forged = _assertion(blob | {"private_key": other["private_key"]})
    assert (await _ask(running, forged))[1]["error_description"] == "Invalid JWT Signature."
    broken = await _ask(running, {"grant_type": JWT_BEARER, "assertion": "a.b"})
    assert broken[1]["error"] == "invalid_grant"


async def test_a_domain_delegation_opens_its_mailboxes_and_no_others(
    google: FakeGoogle, running: RunningServer
) -> None:
    blob = google.add_mailbox("@corp.example", kind="service_account", scopes=[SEND])
    status, body = await _ask(running, _assertion(blob, sub="Ann@corp.example", scope=SEND))
    assert status == 200
    headers = {"Authorization": "Bearer " + body["access_token"]}
    resource = {"raw": base64.urlsafe_b64encode(b"To: a@example.org\r\n\r\nx").decode()}
    async with aiohttp.ClientSession(running.url, headers=headers) as session:
        await session.post("gmail/v1/users/ann@corp.example/messages/send", json=resource)
    assert [message.sender for message in google.sent] == ["ann@corp.example"]
    assert (await _ask(running, _assertion(blob, sub="ann@evilcorp.example", scope=SEND)))[0] == 401


async def test_a_service_account_without_a_subject_has_no_gmail(google: FakeGoogle, running: RunningServer) -> None:
    blob = google.add_mailbox("me@example.com", kind="service_account")
    _, body = await _ask(running, _assertion(blob, sub=None))
    headers = {"Authorization": "Bearer " + body["access_token"]}
    async with (
        aiohttp.ClientSession(running.url, headers=headers) as session,
        session.get("gmail/v1/users/me/profile") as answer,
    ):
        error = (await answer.json())["error"]
    assert (answer.status, error["errors"][0]["reason"]) == (400, "failedPrecondition")


def _consent(google: FakeGoogle, **changes: str) -> dict[str, str]:
    return {
        "client_id": google.accounts.client_id,
        "redirect_uri": "http://127.0.0.1:1/back",
        "response_type": "code",
        "scope": COMPOSE,
        "state": "s&t",
        "access_type": "offline",
        "login_hint": "me@example.com",
        "code_challenge": base64.urlsafe_b64encode(hashlib.sha256(b"verify").digest()).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
        **changes,
    }


async def _consented(google: FakeGoogle, running: RunningServer, **changes: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession(running.url) as session,
        session.get("o/oauth2/v2/auth", params=_consent(google, **changes), allow_redirects=False) as answer,
    ):
        return answer.status, answer.headers.get("Location", "")


async def test_a_consent_yields_a_code_that_is_good_once_and_with_its_verifier(
    google: FakeGoogle, running: RunningServer
) -> None:
    async def redeem(code: str, verifier: str) -> tuple[int, dict[str, Any]]:
        form = _refresh(google, grant_type="authorization_code", code=code, code_verifier=verifier)
        return await _ask(running, form | {"redirect_uri": "http://127.0.0.1:1/back"})

    _, location = await _consented(google, running)
    query = parse_qs(urlsplit(location).query)
    assert query["state"] == ["s&t"]
    assert (await redeem(query["code"][0], "wrong"))[1]["error_description"] == "Invalid code verifier."
    assert (await redeem(query["code"][0], "verify"))[1]["error_description"] == "Malformed auth code."
    _, location = await _consented(google, running)
    status, body = await redeem(parse_qs(urlsplit(location).query)["code"][0], "verify")
    assert (status, body["scope"]) == (200, COMPOSE)
    assert (await _ask(running, _refresh(google, refresh_token=body["refresh_token"])))[0] == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": "http://evil.example/"},
        {"client_id": "other"},
        {"login_hint": "nobody@example.com"},
        {"response_type": "token"},
        {"code_challenge_method": "plain"},
    ],
)
async def test_a_wrong_consent_redirects_nowhere(
    google: FakeGoogle, running: RunningServer, changes: dict[str, str]
) -> None:
    status, location = await _consented(google, running, **changes)
    assert (status >= 400, location) == (True, "")


async def test_aiogoogle_signs_in_with_the_files_that_the_sandbox_hands_out(
    google: FakeGoogle, running: RunningServer
) -> None:
    user = google.accounts.credentials[0].blob
    client: Any = {"client_id": user["client_id"], "client_secret": user["client_secret"]}
    async with Aiogoogle(client_creds=client) as aiogoogle:
        oauth2: Any = aiogoogle.oauth2
        oauth2.openid_configs = {**oauth2.openid_configs, "token_endpoint": running.token_uri}
        refreshed = await oauth2.refresh({"refresh_token": user["refresh_token"]}, client)
    assert google.accounts.check(refreshed[1]["access_token"], now=google.now())
    blob = google.add_mailbox("@example.com", kind="service_account")
    service: Any = {"scopes": [COMPOSE], "subject": "me@example.com", **blob}
    async with Aiogoogle(service_account_creds=service) as aiogoogle:
        manager: Any = aiogoogle.service_account_manager
        await manager.refresh()
    token = google.log[-1]
    assert (token.method, token.user, token.status) == ("token", "me@example.com", 200)
