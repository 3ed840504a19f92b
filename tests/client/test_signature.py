"""`mailerd.client.verify`: what mailerd signs is believed, and nothing else."""

import secrets
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.client import SignatureError, verify
from mailerd.core.webhooks import body_of
from mailerd.ops.outbound_http import signed
from mailerd.store.write.webhooks import new_secret, shown_secret

KEY = new_secret()
BODY = body_of("job.paused", "2026-11-24T12:00:00.123456Z", '{"reason":"größer"}')


def headers(key: bytes = KEY, *, body: bytes = BODY, ago: timedelta = timedelta()) -> dict[str, str]:
    return signed("evt_1", body, [key], now=datetime.now(UTC) - ago)


def test_what_mailerd_signs_is_believed() -> None:
    for given_headers in (headers(), {name.title(): value for name, value in headers().items()}):
        event = verify(BODY, given_headers, shown_secret(KEY))
        assert (event.id, event.type, event.data) == ("evt_1", "job.paused", {"reason": "größer"})
        assert event.timestamp == datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)


def test_either_secret_is_good_while_both_sign() -> None:
    old = secrets.token_bytes(32)
    both = signed("evt_1", BODY, [KEY, old], now=datetime.now(UTC))
    for key in (KEY, old):
        assert verify(BODY, both, shown_secret(key)).id == "evt_1"


@pytest.mark.parametrize(
    "body, changed",
    [
        (BODY + b" ", {}), (BODY, {"webhook-id": "evt_2"}), (BODY, {"webhook-timestamp": "1"}),
        (BODY, {"webhook-signature": ""}), (BODY, {"webhook-signature": "v1"}), (BODY, {"webhook-signature": "v1,x,y"}),
        (BODY, {"webhook-signature": "v2,AAAA"}), (BODY, {"webhook-timestamp": "nan"}), (b"\xff", {}),
    ],
)  # fmt: skip
def test_what_is_changed_is_not(body: bytes, changed: dict[str, str]) -> None:
    with pytest.raises(SignatureError):
        verify(body, headers() | changed, shown_secret(KEY))


def test_what_is_old_is_not_and_what_is_not_signed_is_not() -> None:
    for given_headers in (
        headers(ago=timedelta(minutes=6)),
        headers(ago=-timedelta(minutes=6)),
        headers(new_secret()),
        {},
    ):
        with pytest.raises(SignatureError):
            verify(BODY, given_headers, shown_secret(KEY))
    for body in (b"[]", b"{}", b"null", b'{"type":1,"timestamp":"x","data":[]}'):
        with pytest.raises(SignatureError):
            verify(body, headers(body=body), shown_secret(KEY))


@pytest.mark.parametrize("at", ["{}.5", " {}", "+{}", "{}e0", "{}_0", "1" * 5000])
def test_a_timestamp_is_whole_seconds(at: str) -> None:
    good = headers()
    with pytest.raises(SignatureError, match="whole seconds"):
        verify(BODY, good | {"webhook-timestamp": at.format(good["webhook-timestamp"])}, shown_secret(KEY))


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!", "x"])
def test_a_secret_that_is_none_verifies_nothing(secret: str) -> None:
    with pytest.raises(SignatureError):
        verify(BODY, headers(), secret)


def test_a_body_of_brackets_is_not_to_be_believed() -> None:
    body = b"[" * 200_000
    with pytest.raises(SignatureError):
        verify(body, headers(body=body), shown_secret(KEY))


@given(body=st.binary(max_size=50), signature=st.text(max_size=50), at=st.text(max_size=20))
def test_whatever_comes_ends_in_one_kind_of_error(body: bytes, signature: str, at: str) -> None:
    made = {"webhook-id": "x", "webhook-signature": signature, "webhook-timestamp": at}
    with pytest.raises(SignatureError):
        verify(body, made, shown_secret(KEY))
