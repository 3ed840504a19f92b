"""Notices as mail systems write them, read to their meaning; and bytes that are none."""

import time

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from mailerd.core.notices import (
    DeliveryReport,
    Kind,
    ReceivedMail,
    is_forged,
    is_googles,
    message_id,
    read,
    same_address,
)
from mailerd.inbox.examine import shown_headers
from mailerd.mail.mime import Addresses
from mailerd.mail.read_notice import read_notice
from mailerd.sandbox.google.mailbox import Message
from mailerd.sandbox.google.notices import SHAPES, write
from tests.support.own_time import at_this_speed

ADA = "ada@example.org"
KEY = "01M87579BANMVD7VSZZ1762YXX-3"
TOKEN = "A" * 62
RAW = (
    f"From: me@example.com\r\nTo: {ADA}\r\nSubject: user unknown, mailbox full, blocked\r\nX-Mailerd-Key: {KEY}\r\n"
    f"List-Unsubscribe: <mailto:me+unsub@example.com?subject=u.{TOKEN}>\r\n\r\n"
    "You have reached a limit for sending mail. 550 5.1.1 user unknown\r\n"
).encode()
MESSAGE = Message("17a", "17a", "", "me@example.com", ADA, KEY, "<CAx@mail.gmail.com>", ("SENT",), 7, 1e9, RAW)


def arrived(shape: str) -> ReceivedMail:
    raw = write(shape, MESSAGE).raw
    return ReceivedMail(tuple(MESSAGE._replace(raw=raw).headers), read_notice(raw))


@pytest.mark.parametrize(
    "shape,kind,code,googles",
    [
        ("hard", Kind.HARD, "5.1.1", True),
        ("soft", Kind.SOFT, "5.2.2", True),
        ("blocked", Kind.BLOCKED, "5.0.0", True),
        ("policy", Kind.BLOCKED, "5.7.1", True),
        ("delayed", Kind.DELAYED, "4.4.1", True),
        ("limit", Kind.OVER_LIMIT, "5.4.5", True),
        ("limit_fr", Kind.OVER_LIMIT, "5.4.5", True),
        ("limit_it", Kind.OVER_LIMIT, "5.4.5", True),
        ("limit_zh", Kind.OVER_LIMIT, "5.4.5", True),
        ("limit_report", Kind.OVER_LIMIT, "5.4.5", True),
        ("claims_limit", Kind.UNKNOWN, "5.4.5", True),
        ("dead_domain", Kind.HARD, "4.0.0", True),
        ("rate", Kind.SOFT, "5.2.1", True),
        ("exchange", Kind.HARD, "5.1.10", False),
        ("postfix", Kind.HARD, "5.1.1", False),
        ("forwarded", Kind.HARD, "5.1.1", False),
        ("exim", Kind.HARD, "", False),
        ("qmail", Kind.HARD, "5.1.1", False),
        ("forged_hard", Kind.HARD, "5.1.1", False),
        ("forged_limit", Kind.OVER_LIMIT, "5.4.5", False),
    ],
)
def test_a_notice_is_read(shape: str, kind: Kind, code: str, *, googles: bool) -> None:
    received = arrived(shape)
    meaning = read(received, about=ADA)
    assert (meaning.kind, meaning.code, is_googles(received)) == (kind, code, googles)


HOSTILE = st.sampled_from(
    ["5.4.5", "5.1.1", "550-5.4.5", "2.0.0", "p=DailyLimitExceeded", "answer/22839", "answer/69585", "spam", "blocked",
     "user-unknown", "unknown", "delayed", "mailbox", "full", "--header", "---", "received", "=3D", "=2E4",
     "=?utf-8?q?", "?=", "support.google.com/a", "421", "550", "{5.2.2}", "&lt", "o'neil", "x" * 30]
)  # fmt: skip
LABEL = st.sampled_from(
    ["dead", "5", "4", "x-5.4.5-y", "dailylimitexceeded", "5-4-5", "spam", "user-unknown", "not-found", "delayed",
     "xn--fhq4vr0j699ewyal1w", "google", "mail", "host"]
)  # fmt: skip


@st.composite
def addresses(draw: st.DrawFn) -> str:
    """What a stranger may call a mailbox, as it is taken into a job."""
    local = draw(st.lists(HOSTILE, min_size=1, max_size=4).map(draw(st.sampled_from(["", ".", "+", "-", "="])).join))
    domain = ".".join(draw(st.lists(LABEL, min_size=1, max_size=3)))
    try:
        return Addresses().check(f"{local}@{domain}.{draw(st.sampled_from(['example.org', 'com', 'co']))}")
    except ValueError:
        reject()


BOUNCES = sorted(
    set(SHAPES) - {"unsubscribe"} - {it for it in SHAPES if it.startswith(("reply", "auto_reply", "forged"))}
)


@pytest.mark.parametrize("shape", BOUNCES)
@given(address=addresses(), headers_only=st.booleans())
def test_a_bounce_means_the_same_whatever_its_address_reads_like(
    shape: str, address: str, *, headers_only: bool
) -> None:
    def meaning(to: str) -> tuple[object, ...]:
        raw = RAW.replace(f"To: {ADA}".encode(), f"To: {to}".encode())
        message = MESSAGE._replace(to=to, raw=raw)
        arrived = message._replace(raw=write(shape, message).raw)
        report = None if headers_only else read_notice(arrived.raw)
        listed = [{"name": name, "value": value} for name, value in arrived.headers]
        received = ReceivedMail(shown_headers(listed), report)
        it = read(received, about=to)
        named = any(same_address(each, to) for each in it.addresses)
        return it.kind, it.code, it.counts, named, report and report.key, is_googles(received), is_forged(received)

    assert meaning(address) == meaning(ADA)


@pytest.mark.parametrize("shape", ["hard", "exchange", "postfix", "exim", "qmail"])
def test_the_key_of_the_returned_message_is_found(shape: str) -> None:
    report = arrived(shape).report
    assert report is not None
    assert report.key == KEY
    assert [it.address for it in report.recipients] == [ADA]
    assert "reached a limit" not in report.text  # that stands in the message, which is its sender's


@pytest.mark.parametrize("shape", ["hard", "limit", "limit_bare", "limit_report"])
def test_a_notice_names_the_message_that_it_is_about(shape: str) -> None:
    sent = MESSAGE._replace(raw=b"Message-ID: <CAx@mail.gmail.com>\r\n" + RAW)
    raw = write(shape, sent).raw
    received = ReceivedMail(tuple(MESSAGE._replace(raw=raw).headers), read_notice(raw))
    assert message_id(received) == "<CAx@mail.gmail.com>"


@pytest.mark.parametrize(
    "returned, original, answered, about",
    [
        ("", "", ["<ours@x>"], "<ours@x>"),
        ("", "", ["<ours@x> <own@x>"], ""),
        ("", "", ["<ours@x>", "<own@x>"], ""),
        ("", "", ["<ours@x>\t<ours@x>"], "<ours@x>"),
        ("", "<own@x>", ["<ours@x> <own@x>"], "<own@x>"),
        ("", "<own@x>", ["<ours@x>"], "<own@x>"),
        ("<own@x>", "<ours@x>", ["<ours@x>"], "<own@x>"),
        ("", "<ours@x> <own@x>", ["<ours@x>"], ""),
        ("", "no id", ["<ours@x>"], ""),
        ("", "", [], ""),
    ],
)
def test_a_notice_that_may_be_about_several_messages_is_about_none(
    returned: str, original: str, answered: list[str], about: str
) -> None:
    headers = tuple(("In-Reply-To", it) for it in answered)
    report = DeliveryReport(message_id=returned, original_id=original)
    assert message_id(ReceivedMail(headers, report)) == about


@pytest.mark.parametrize("form", ["text", "text/rfc822-headers", "message/rfc822"])
def test_headers_that_the_returned_message_quotes_are_not_its_own(form: str) -> None:
    """The owner has forwarded a message of ours as it came, and what he wrote comes back."""
    inner = f"X-Mailerd-Key: {KEY}\nX-Mailerd-Proof: abc\nMessage-ID: <CAx@mail.gmail.com>\n\nDear Ada\n"
    outer = f"From: me@example.com\nTo: {ADA}\nMessage-ID: <own@x>\nContent-Type: message/rfc822\n\n{inner}"
    raw = f"Content-Type: text/plain\n\nYour message was not sent.\n\n----- Original message -----\n\n{outer}"
    if form != "text":
        raw = (
            f"Content-Type: multipart/report; boundary=b\n\n--b\n\nfailed\n--b\nContent-Type: {form}\n\n{outer}\n--b--"
        )
    found = read_notice(raw.encode())
    assert (found.key, found.proof, found.message_id) == ("", "", "<own@x>")


def test_a_notice_about_a_forwarded_message_names_both_addresses() -> None:
    received = arrived("forwarded")
    assert read(received, about=ADA).addresses == ("box17@inside.example.net", ADA)
    assert read(received, about="eve@example.org").addresses == ("box17@inside.example.net", ADA)


@pytest.mark.parametrize(
    "shape,kind",
    [
        ("reply", Kind.REPLY),
        ("reply_of_other", Kind.REPLY),
        ("auto_reply", Kind.AUTO_REPLY),
        ("unsubscribe", Kind.UNSUBSCRIBE),
    ],
)
def test_an_answer_is_read(shape: str, kind: Kind) -> None:
    assert read(arrived(shape), about=ADA).kind is kind
    assert read(arrived("unsubscribe")).token == TOKEN


NESTED = b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\nContent-Type: message/rfc822\r\n\r\n" * 3000
TYPED = b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        NESTED,
        b"".join(TYPED % (it, it) for it in range(3000)),
        b"Subject: x\r\n\r\n" + b"<" * 500_000,
        b"\r\n" + b"<a@b>:\n" * 100_000,
        b"\r\n<" + b"a@" * 100_000,
        b"\r\n" + b"  a@b.example\n" * 100_000,
        b"Content-Type: text/html\r\n\r\n" + b"<style" * 100_000,
        b"Content-Type: text/plain; charset=nothing\r\n\r\n\xff\xfe",
        b"\r\n" + b"user mailbox recipient " * 50_000,
    ],
)
def test_hostile_bytes_are_read_quickly(raw: bytes) -> None:
    started = time.process_time()
    report = read_notice(raw)
    read(ReceivedMail((("From", "mailer-daemon@example.org"),), report), about=ADA)
    assert time.process_time() - started < at_this_speed(1.0)


@given(st.binary(max_size=400), st.sampled_from(["hard", "exim", "qmail"]), st.integers(0, 1200))
def test_no_bytes_make_it_fail(noise: bytes, shape: str, at: int) -> None:
    raw = write(shape, MESSAGE).raw
    read_notice(raw[:at] + noise + raw[at + len(noise) :])
    read_notice(noise)
