"""Canonical addresses and the tokens of unsubscribe links."""

import base64
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.core.suppression import (
    DEAD_TOKEN,
    SECRET_BYTES,
    TOKEN_BYTES,
    UnsubscribeToken,
    canonical,
    digest_of,
    encode_token,
    make_token,
    masked,
    read_token,
)
from mailerd.mail.mime import Addresses
from tests.support.own_time import at_this_speed

KEY, OTHER = b"k" * SECRET_BYTES, b"o" * SECRET_BYTES
TOKEN = UnsubscribeToken(7, 123_456_789_012, digest_of("ada@example.com", KEY))


@pytest.mark.parametrize(
    "given,same",
    [
        ("Ada@Example.COM", "ada@example.com"),
        (" ada@example.com ", "ada@example.com"),
        ("A.da@gmail.com", "ada@gmail.com"),
        ("a.d.a@googlemail.com", "ada@gmail.com"),
        ("ada+news@gmail.com", "ada+news@gmail.com"),
        ("a.da@example.com", "a.da@example.com"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@" + "bücher." * 9 + "de", "ada@" + "xn--bcher-kva." * 9 + "de"),
        ("ada@faß.bücher.de", "ada@xn--fa-hia.xn--bcher-kva.de"),
        ("ada@FAẞ。de", "ada@xn--fa-hia.de"),
        ("ada@βόλος.gr", "ada@xn--nxasmm1c.gr"),
    ],
)
def test_a_person_has_one_form(given: str, same: str) -> None:
    assert canonical(given) == canonical(Addresses().check(given)) == same
    assert canonical(canonical(given)) == same
    assert digest_of(given, KEY) == digest_of(same, KEY) != digest_of(same, OTHER)


@pytest.mark.parametrize("domain", ["\U0001f389" * 500, ".".join(["\U0001f389" * 60] * 8)])
def test_what_is_too_long_for_a_domain_costs_nothing(domain: str) -> None:
    began = time.process_time()
    for _ in range(500):
        assert canonical(domain) == f"@{domain}"
    assert time.process_time() - began < at_this_speed(1)  # IDNA takes 6 ms of CPU for each


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=16, max_size=16),
    st.integers(0, 255),
)
def test_a_token_says_what_was_put_into_it(list_id: int, recipient: int, digest: bytes, key_id: int) -> None:
    token = UnsubscribeToken(list_id, recipient, digest)
    text = make_token(token, key_id=key_id, key=KEY)
    assert len(text) == 62
    assert text.replace("-", "").replace("_", "").isalnum()
    assert read_token(text, {key_id: KEY}) == token


def test_a_rotated_key_reads_its_old_tokens_and_a_missing_one_reads_none() -> None:
    text = make_token(TOKEN, key_id=1, key=KEY)
    assert read_token(text, {1: KEY, 2: OTHER}) == TOKEN
    assert read_token(text, {2: OTHER}) is None
    assert read_token(text, {1: OTHER}) is None
    assert read_token(text, {}) is None


def test_without_the_key_a_token_is_like_any_random_bytes() -> None:
    """A template could tell a check from a sending by its link: the numbers of lists and recipients stood in it."""
    raw = [
        base64.urlsafe_b64decode(make_token(UnsubscribeToken(1, number, bytes(16)), key_id=1, key=KEY) + "==")
        for number in range(1, 2001)
    ]
    assert {len(each) for each in raw} == {TOKEN_BYTES}
    for place in range(TOKEN_BYTES):
        for bit in range(8):
            ones = sum(each[place] >> bit & 1 for each in raw)
            assert 850 < ones < 1150, "a bit that says something; that of a fair coin is out of here once in 50 billion"
    assert len(encode_token(raw[0])) == len(DEAD_TOKEN)


def test_nothing_that_was_changed_or_cut_is_read() -> None:
    text = make_token(TOKEN, key_id=1, key=KEY)
    keys = {1: KEY}
    raw = base64.urlsafe_b64decode(text + "==")
    for place in range(len(raw)):
        for bit in range(8):
            changed = bytearray(raw)
            changed[place] ^= 1 << bit
            assert read_token(base64.urlsafe_b64encode(changed).decode().rstrip("="), keys) is None
    for end in range(len(text)):
        assert read_token(text[:end], keys) is None
    for other in (text + "A", text + "=", " " + text, text + "\n", text.swapcase(), "ü" * 62, "", "=" * 62):
        assert read_token(other, keys) is None


def test_a_hundred_thousand_forged_tokens_are_refused() -> None:
    chance = random.Random(8058)
    head = base64.urlsafe_b64decode(make_token(TOKEN, key_id=1, key=KEY) + "==")[:30]
    encode = base64.urlsafe_b64encode
    read = sum(
        read_token(encode(head + chance.randbytes(16))[:62].decode(), {1: KEY}) is not None for _ in range(100_000)
    )
    assert read == 0


def test_a_page_shows_no_whole_address() -> None:
    assert masked("ada.lovelace@example.com") == "a•••@example.com"
