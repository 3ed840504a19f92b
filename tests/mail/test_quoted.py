"""Quoted-printable: what binascii would have written, byte for byte."""

import binascii

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailerd.mail.quoted import quoted

_RUNS = st.builds(
    lambda piece, times: piece * times, st.sampled_from(["x", "=", ".", " ", "é", "\x0b"]), st.integers(0, 80)
)
_PLAIN = st.builds(lambda piece, times: piece * times, st.sampled_from(["x", "y z", ".", "="]), st.integers(0, 160))
_TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\r")),
    st.lists(_RUNS | st.sampled_from(["\n", "\t", "x", "=", " \n", "\n.\n"])).map("".join),
    st.lists(_PLAIN | st.sampled_from(["\n", "x", "=", "=3D", '<a href="https://example.com/?a=b">'])).map("".join),
)


@settings(max_examples=1000)
@given(_TEXTS)
@example("x" * 76)
@example("x" * 77)
@example("x" * 72 + "=")
@example("x" * 73 + "=")
@example("x" * 73 + "=\nx")
@example("x" * 74 + "=x")
@example("x" * 75 + "=x" * 80)
@example("x" * 75 + " ")
@example("x" * 75 + " \nx")
@example("x" * 75 + ".")
@example(".")
@example("x" * 75 + "\t\n.")
def test_it_is_what_binascii_writes(text: str) -> None:
    octets = text.encode()
    assert quoted(octets) == binascii.b2a_qp(octets).replace(b"\n", b"\r\n")
