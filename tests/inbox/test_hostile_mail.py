"""Mail that strangers write to hurt: it is read without an error, and in little time."""

import random
import time
from datetime import UTC, datetime
from typing import Final

import pytest

from mailerd.core.notices import (
    ReceivedMail,
    addresses,
    dmarc,
    is_addressed_to,
    is_forged,
    is_googles,
    is_notice,
    read,
    unsubscribe_token,
)
from mailerd.inbox.examine import arrived_at, shown_headers
from mailerd.mail.read_notice import decoded_words, read_notice
from mailerd.sandbox.google.mailbox import Message
from mailerd.sandbox.google.notices import write
from tests.support.own_time import at_this_speed

ADA: Final = "ada@example.org"
NOW: Final = datetime(2026, 11, 26, tzinfo=UTC)
MAX_CPU: Final = 0.3
"""Seconds of CPU that one message may cost."""
MB: Final = 1024 * 1024
HEAD: Final = b"From: mailer-daemon@example.net\r\nSubject: failure notice\r\n"
PLAIN: Final = HEAD + b"Content-Type: text/plain; charset="
HTML: Final = HEAD + b"Content-Type: text/html\r\n\r\n"
MIXED: Final = b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n"
DEEP: Final = HEAD + b"".join(MIXED % (it, it) for it in range(400))
PARTS: Final = HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
REPORT: Final = HEAD + b"Content-Type: message/delivery-status\r\n\r\n"


def understand(raw: bytes, items: object) -> None:
    """What the reader does with a message, from Google's two answers to its meaning."""
    headers = shown_headers(items)
    arrived_at({"internalDate": items}, NOW)
    for it in (ReceivedMail(headers, read_notice(raw)), ReceivedMail(headers)):
        is_notice(it)
        is_googles(it)
        is_forged(it)
        is_addressed_to(it, {ADA})
        dmarc(it)
        unsubscribe_token(it)
        meaning = read(it, about=ADA)
        said = (meaning.reason, meaning.code, *meaning.addresses, *addresses(it.first("from")))
        "".join(said).encode()  # no half of a character: the database takes it


@pytest.mark.parametrize(
    "raw",
    [
        PLAIN + b"punycode\r\n\r\na-" + b"9" * 200_000,
        PLAIN + b"punycode\r\n\r\n-" + b"ab" * 20_000,
        PLAIN + b"idna\r\n\r\n" + b"a." * 200_000,
        HEAD + b"Content-Type: text/plain" + b";" * MB + b"\r\n\r\nx",
        HEAD + b"Content-Type: multipart/report; " + b"a*0=x; " * 300_000 + b"\r\n\r\n",
        HEAD + b"Content-Type: text/plain; charset*0*=utf-8''%FF" + b'; b="' * 30_000 + b"\r\n\r\nx",
        DEEP + b"x\r\n" * 1_500_000,
        DEEP + b"\n" * MB,
        HEAD + b"Content-Type: message/rfc822\r\n\r\n" * 50_000,
        PARTS + b"--b\n" * MB,
        PARTS + (b"--b\nContent-Type: text/plain" + b";" * 1900 + b"\n\nx\n") * 500,
        REPORT + b"Final-Recipient: rfc822;a@b\r\n\r\n" * 200_000,
        REPORT + b"\n" * MB,
        HEAD + b"X: a\r\n" * 1_200_000 + b"\r\n",
        HEAD + b"X: a\r\n" + b" a\r\n" * 2_000_000,
        HTML + b"<" * MB,
        HTML + b"<style " * MB,
        HTML + b"<style>" * MB,
    ],
    ids=lambda raw: f"{raw[len(HEAD) : len(HEAD) + 40]!r} {raw[-20:]!r} {len(raw)}",
)
def test_no_message_costs_much(raw: bytes) -> None:
    assert min(cost(raw) for _ in range(3)) < at_this_speed(MAX_CPU)


def cost(raw: bytes) -> float:
    """Seconds of CPU; the least of several runs is the message's own, without what else the process had to do."""
    began = time.process_time()
    understand(raw, [])
    return time.process_time() - began


@pytest.mark.parametrize("name", ["From", "To", "Subject", "Authentication-Results", "X-Failed-Recipients"])
@pytest.mark.parametrize(
    "value", ["a" * 4000, "<" + "a@" * 2000, "a@" * 2000, "<" * 4000, " " * 3999 + "@", "=?" * 2000]
)
def test_no_headers_cost_much(name: str, value: str) -> None:
    began = time.process_time()
    understand(HEAD + b"\r\n", [{"name": name, "value": value}] * 190)
    assert time.process_time() - began < at_this_speed(MAX_CPU)


@pytest.mark.parametrize("piece", ["a", "a@", "@", "<", "<a@", "< ", "<a", "a@b ", '"a', ">", "<@a"])
@pytest.mark.parametrize("before", ["", "<"])
def test_addresses_are_found_in_time_that_grows_with_the_length_alone(piece: str, before: str) -> None:
    def took(length: int) -> float:
        header, best = before + piece * (length // len(piece)), 9.9
        for _ in range(3):
            began = time.process_time()
            addresses(header)
            is_forged(ReceivedMail((("From", header),)))
            best = min(best, time.process_time() - began)
        return best

    assert took(32_000) < 3 * took(16_000) + at_this_speed(0.02)


WORDS: Final = [
    "=?utf-8?b?AAAAAAAAA?=", "=?unicode_escape?q?=5Cud800?=", "=?utf-16?b?/w==?=", "=?undefined?q?a?=", "=?\x00?q?a?=",
    "=?punycode?q?" + "9" * 2000 + "?=", "=?utf-8*en?q?x?=", "=?utf-7?q?+2AA-?=", "=?hex?q?zz?=", "=?iso-8859-99?q?a?=",
    "=?" * 50_000, "=?a?q?" * 20_000, "=?utf-8?q?" + "=41" * 100_000 + "?=", "\ud800", "=?utf-8?b?" + "=" * 5 + "?=",
]  # fmt: skip


@pytest.mark.parametrize("word", WORDS, ids=lambda it: repr(it[:30]))
def test_no_subject_makes_it_fail(word: str) -> None:
    began = time.process_time()
    decoded_words(word).encode()
    understand(
        b"Subject: x\r\n\r\n", [{"name": "Subject", "value": word}, {"name": "From", "value": f"{word} <a@b.c>"}]
    )
    assert time.process_time() - began < at_this_speed(MAX_CPU)


@pytest.mark.parametrize(
    "value,said",
    [
        ("=?utf-8?B?6Ieq5Yqo5Zue5aSN?= Hello", "自动回复 Hello"),
        ("=?iso-8859-1?q?=E9t=E9?= x =?gb2312?b?xOO6ww==?= y", "été x 你好 y"),
        ("=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        ("=?utf-8?b?AAAAAAAAA?=", "=?utf-8?b?AAAAAAAAA?="),
        ("plain", "plain"),
        ("=?utf-8?B?6Ieq5Yqo5Zue5aSN?=: Bonjour Élodie, 灯笼", "自动回复: Bonjour Élodie, 灯笼"),
        ("一 =?utf-8?q?=E5=BC?= =?utf-8?q?=A0?= 二", "一 张 二"),
    ],
)
def test_encoded_words_are_decoded(value: str, said: str) -> None:
    assert decoded_words(value) == said


PIECES: Final = [
    *(it.encode("utf-8", "surrogatepass")[:120] for it in WORDS), b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00",
    b"\xff\xfe", b"Content-Type: ", b"multipart/report; boundary=b", b'multipart/mixed; boundary="',
    b"message/rfc822", b"text/html", b"message/delivery-status", b"text/plain; charset=", b"punycode", b"idna",
    b"utf-8", b"--b\r\n", b"--b--", b";", b'"', b"Content-Transfer-Encoding: ", b"base64\r\n\r\n",
    b"x-uuencode\r\n\r\nbegin 666 x\n", b"quoted-printable", b"=", b"(", b"Final-Recipient: rfc822; ",
    b"ada@example.org", b"Status: 5.1.1", b"Status: 9.999.9999", b"Action: failed", b"<", b">",
    b"Diagnostic-Code: smtp; ", b"charset*0*=utf-8''%ff;", b"boundary*=x'y'%", b"X-Mailerd-Key: ",
    b"X-Mailerd-Proof: \xff", b"From: ", b"Subject: ", b"a*0=x;", b"=?utf-8?q?", b"?=", b"\xed\xa0\x80",
    b"mx.google.com; dmarc=pass header.from=",
]  # fmt: skip
NAMES: Final = [
    "From",
    "Subject",
    "Content-Type",
    "Authentication-Results",
    "X-Failed-Recipients",
    "Auto-Submitted",
    "",
]
ODD: Final = [None, 7, "x", [], {}, {"name": None}, {"value": 3}, [None, 5, {"name": 1, "value": {}}], {"a": 1}]
MESSAGE: Final = Message(
    "1", "1", "", "me@example.com", ADA, "K-1", "<x@y>", ("SENT",), 7, 1e9, b"To: a@b\r\n\r\nx\r\n"
)
GENUINE: Final = [write(it, MESSAGE).raw for it in ("hard", "limit", "exchange", "exim", "qmail", "reply")]


@pytest.mark.slow
def test_twenty_thousand_hostile_messages_raise_nothing() -> None:
    chance = random.Random(20261126)
    for _ in range(20_000):
        noise = b"".join(chance.choices(PIECES, k=chance.randrange(1, 20)))
        raw = chance.choice(GENUINE)
        at = chance.randrange(len(raw))
        raw = chance.choice((noise, raw[:at] + noise + raw[at:], noise + raw, raw[:at] + noise))
        text = (
            noise.decode("utf-8", chance.choice(("surrogateescape", "replace", "ignore")))
            if chance.random() < 0.5
            else noise.decode("latin-1")
        )
        items = [{"name": chance.choice(NAMES), "value": text[chance.randrange(len(text) + 1) :]} for _ in range(4)]
        understand(raw, chance.choice(ODD) if chance.random() < 0.1 else items)
