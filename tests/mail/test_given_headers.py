"""Headers that an application gives: nothing beyond the allow-list reaches a message, and what may stand there does."""

import random
import re
from dataclasses import replace
from email import message_from_bytes
from email.header import decode_header, make_header
from email.policy import default
from typing import Final

import pytest

from mailerd.mail.mime import MAX_HEADER_VALUE, check_header, compose, merged_headers
from tests.mail.test_mime import CONTENT, ENVELOPE, NOON, composed, head_of

OURS: Final = ["From", "To", "Subject", "Date", "Message-ID", "X-Mailerd-Key", "MIME-Version", "Content-Type"]
ALLOWED: Final = (
    "X-Order", "X-Entity-Ref-ID", "x-priority", "In-Reply-To", "References", "Importance", "Priority", "Sensitivity",
    "Auto-Submitted", "Feedback-ID", "Keywords", "Comments", "Organization", "Content-Language", "Precedence",
)  # fmt: skip
REFUSED: Final = {
    "is a field of its own": ("From", "To", "Cc", "Bcc", "Reply-To", "Subject"),
    "is set by mailerd": ("X-Mailerd-Key", "X-Mailerd-Proof", "Date", "Message-ID"),
    "is set by Google": ("X-Google-Original-From", "X-Gm-Message-State", "Sender"),
    "is set by mail servers": (
        "X-Failed-Recipients",
        "X-Original-To",
        "Return-Path",
        "Received",
        "Resent-From",
        "Resent-Bcc",
        "Delivered-To",
        "DKIM-Signature",
        "ARC-Seal",
        "Authentication-Results",
    ),
    "use the field list": ("List-Id", "List-Unsubscribe", "List-Unsubscribe-Post"),
    "describes the parts": ("MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Content-Disposition"),
    "does not track": ("Disposition-Notification-To", "Return-Receipt-To", "X-Confirm-Reading-To"),
    "is not allowed": ("Errors-To", "Approved", "Apparently-To", "Tone", "Datetime", "Newsgroups"),
    "is not a header name": ("", "X Y", "X-A:", "X-Ä", "1X", "X-A\r\nBcc", "X-\x00", f"X-{'a' * 63}", "-X", "X_A"),
}
PIECES: Final = (
    "\r\n", "\n", "\r", "\r\n ", "\r\nBcc: eve@example.com\r\n", "\n\n<script>", "\x00", "\x0b", "\x85", "\u2028",
    "\t", " ", "  ", "a", "Bcc:", "eve@example.com", "=?utf-8?q?=0d=0aBcc:_x?=", "=?", "?=", "<a@b>", "<a@b>\r\n <c@d>",
    ",", ";", ":", '"', "\\", "(", "ä", "李白", "\U0001f600", "\ud800", "\u202e", "\ufeff", "é" * 80, "x" * 80,
    "x" * 901, "<" + "i" * 200 + "@example.com>",
)  # fmt: skip


def read_back(octets: bytes, name: str) -> str:
    """What a reader makes of a header's value."""
    return str(make_header(decode_header(message_from_bytes(octets)[name])))


def refusal(name: str, value: str) -> str:
    """Why a header may not be given; empty: it may."""
    try:
        check_header(name, value)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("why, names", REFUSED.items())
def test_a_header_that_is_not_on_the_list_is_refused_in_any_spelling_and_says_why(
    why: str, names: tuple[str, ...]
) -> None:
    for name in names:
        for spelled in {name, name.lower(), name.upper()}:
            assert why in refusal(spelled, "1"), spelled
            with pytest.raises(ValueError, match=re.escape(why)):
                composed(envelope=replace(ENVELOPE, headers={spelled: "1"}))


@pytest.mark.parametrize("name", ALLOWED)
def test_a_header_on_the_list_reaches_the_message_as_it_is(name: str) -> None:
    value = "<order-17@example.com> <order-18@example.com>" if name in {"In-Reply-To", "References"} else "high; a=1"
    octets = composed(envelope=replace(ENVELOPE, headers={name: value}))
    assert f"{name}: {value}".encode() in head_of(octets)


@pytest.mark.parametrize("name", ["X-Order", "Keywords", "Comments", "Organization"])
@pytest.mark.parametrize("value", ["Bücher für 李白", "=?utf-8?q?plain?=", "é" * 900, "a  b   c", "😀 " * 200])
def test_a_text_is_read_as_it_was_given(name: str, value: str) -> None:
    octets = composed(envelope=replace(ENVELOPE, headers={name: value}))
    assert read_back(octets, name) == value.strip()
    assert all(len(line) <= 998 and line.isascii() for line in head_of(octets))


@pytest.mark.parametrize(
    "name, value, why",
    [
        ("X-Order", "", "must not be empty"),
        ("X-Order", "  ", "must not be empty"),
        ("X-Order", "a" * (MAX_HEADER_VALUE + 1), "is longer than 900 characters"),
        ("X-Order", "a\r\nBcc: eve@example.com", "control character U+000D"),
        ("In-Reply-To", "order-17@example.com", "message IDs"),
        ("References", "<a@b>, <c@d>", "message IDs"),
        ("References", "<a@b>  <c@d>", "message IDs"),
        ("References", "<a b@c>", "message IDs"),
        ("References", "<a@b@c>", "message IDs"),
        ("In-Reply-To", "<=?utf-8?q?a?=@b>", "message IDs"),
        ("Auto-Submitted", "automatisch erzeugt für dich", "must be ASCII"),
    ],
)
def test_a_value_that_may_not_stand_there_is_refused_with_its_reason(name: str, value: str, why: str) -> None:
    assert why in refusal(name, value)


def test_of_ten_thousand_hostile_headers_none_adds_a_line_and_none_is_read_as_another() -> None:
    """Each is refused, or a reader finds it beside ours: its name, its value, and nothing else."""
    chance = random.Random(41)
    names = [*ALLOWED, *(name for some in REFUSED.values() for name in some)]
    passed = 0
    for _ in range(10_000):
        name = "".join(chance.choices(PIECES, k=2)) if chance.random() < 0.1 else chance.choice(names)
        name = chance.choice([name, name.lower(), name.upper(), f"X-{name}"])
        value = "".join(chance.choices(PIECES, k=chance.randint(0, 5)))
        if chance.random() < 0.2 and name.lower() in {"in-reply-to", "references"}:
            value = chance.choice(["<a@b>", "<a@b> <c@d>"])
        envelope = replace(ENVELOPE, headers={name: value})
        why = refusal(name, value)
        try:
            octets = compose(CONTENT, envelope, date=NOON, message_id="<1@example.com>")
        except ValueError:
            # What the check lets pass is refused by no more than what no header can say.
            assert why or "\ud800" in value, (name, value)
            continue
        assert not why, (name, value)
        passed += 1
        parsed = message_from_bytes(octets, policy=default)
        assert sorted(parsed.keys()) == sorted([*OURS, name]), (name, value)
        assert not parsed.defects
        assert parsed["To"] == "Ada <ada@example.com>"
        assert read_back(octets, name) == value.replace("\t", " ").strip(" "), (name, value)
        assert parsed.get_body(("plain",)).get_content() == CONTENT.text  # type: ignore[union-attr]
    assert passed > 500


def test_the_header_of_a_recipient_goes_before_the_job_s_in_any_spelling() -> None:
    merged = merged_headers({"X-Order": "1", "Importance": "low"}, {"x-order": "2", "X-Own": "3"})
    assert merged == {"Importance": "low", "x-order": "2", "X-Own": "3"}
