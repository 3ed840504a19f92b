"""Reading and stamping messages, without a network."""

import time

import pytest

from mailerd.sandbox.google.answers import Refused
from mailerd.sandbox.google.mailbox import Message, is_address, read, resource, stamp
from tests.support.own_time import at_this_speed


@pytest.mark.parametrize(
    "value, found",
    [
        ("a@example.org", ("a@example.org",)),
        ("Ada Lovelace <a.b+c@example.co.uk>", ("a.b+c@example.co.uk",)),
        ('"Lovelace, Ada" <a@example.org>', ("a@example.org",)),
        ("=?utf-8?b?5byg5LiJ?= <a@example.org>", ("a@example.org",)),
        ("张三 <a@example.org>", ("a@example.org",)),
        ("a@例子.中国", ("a@例子.中国",)),
        ("a@example.org,\r\n b@example.org", ("a@example.org", "b@example.org")),
        ("", ()),
    ],
)
def test_recipients_are_read_as_people_write_them(value: str, found: tuple[str, ...]) -> None:
    assert read(f"To: {value}\r\n\r\n".encode()).recipients == found


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a@b",
        "@b.c",
        "a@b.c.",
        "a@.b.c",
        "a@b..c",
        "a@b_c.de",
        "a@1.2.3.4",
        ".a@b.cd",
        "a@b.c-",
        "x" * 65 + "@b.cd",
        f"a@{'x' * 64}.cd",
        "a@" + "a." * 100 + "-",
    ],
)
def test_what_is_no_address_is_none_and_soon(text: str) -> None:
    assert not is_address(text)


@pytest.mark.parametrize("text", [f"a@{'x' * 63}.example.com", "a@a.b.cd", f"{'x' * 64}@b.cd", "a@xn--r8jz45g.jp"])
def test_an_address_may_be_as_long_as_dns_has_it(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize("value", [b"J\xf6rg <a@example.org>", b": , : ", b"a: , : ;", b"<", b",", b"a@example.org, :"])
def test_what_cannot_be_read_as_recipients_is_refused(value: bytes) -> None:
    with pytest.raises(Refused):
        read(b"To: %b\r\n\r\n" % value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no header\r\n\r\n",
        b"To: a@example.org\r\nnonsense\r\n\r\nbody",
        b"To: a@example.org\r\nnonsense",
        b"\r\nTo: a@example.org\r\n\r\nbody",
    ],
)
def test_bytes_that_do_not_begin_with_headers_are_refused(raw: bytes) -> None:
    with pytest.raises(Refused):
        read(raw)


def test_a_blank_line_ends_the_headers_whatever_its_kind() -> None:
    for end in (b"\r\n", b"\n", b"\r"):
        raw = b"To: a@example.org" + end + end + b"Bcc: b@example.org"
        assert read(raw).recipients == ("a@example.org",)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_message_may_be_headers_alone(end: bytes) -> None:
    reading = read(b"To: a@example.org\nX-Mailerd-Key: k" + end)
    assert (reading.recipients, reading.key) == (("a@example.org",), "k")


def test_a_folded_header_is_one_header() -> None:
    reading = read(b"Subject: a\r\n b\r\n\tc\r\nX-Mailerd-Key: k\r\n\r\n")
    assert reading.key == "k"


def test_a_stamp_replaces_every_message_id_and_nothing_else() -> None:
    raw = b"message-id: <a@b>\nTo: a@example.org\nMessage-ID:\n <c@d>\n\nMessage-ID: <body@stays>\n"
    stamped = stamp(raw, read(raw), message_id="<new@mail.gmail.com>")
    assert stamped == b"Message-ID: <new@mail.gmail.com>\nTo: a@example.org\n\nMessage-ID: <body@stays>\n"


@pytest.mark.parametrize("form", ["metadata", "full"])
@pytest.mark.parametrize(
    "hostile",
    [
        b"Content-Type: text/html\r\n\r\n" + b"<" * 160_000,
        b"a" * 160_000 + b"\r\n\r\nx",
        b"Content-Type: text/plain; " + b"a*0=x;" * 27_000 + b"\r\n\r\nx",
        b"Content-Type: text/plain; " + b"(" * 160_000 + b"\r\n\r\nx",
        b"Subject: " + b"=?utf-8?q?a?= " * 12_000 + b"\r\n\r\nx",
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(3_000)),
        b"Content-Type: message/rfc822\r\n\r\n" * 5_000,
        b"Content-Type: text/plain; charset=punycode\r\n\r\n" + b"a" * 160_000,
        b"X: y\r\n" * 50_000,
    ],
)
def test_what_a_stranger_writes_is_shown_in_a_moment(hostile: bytes, form: str) -> None:
    """The time grows with the length alone: before that, each of these took seconds or ended in an error."""
    raw = b"From: eve@evil.example\r\n" + hostile
    came = Message("1", "1", "", "me@example.com", "me@example.com", "", "<x@y>", ("INBOX",), 7, 1e9, raw)
    began = time.process_time()
    shown = resource(came, form=form, only=("From", "Subject"))
    assert time.process_time() - began < at_this_speed(1.0)
    assert shown["payload"]["headers"][0] == {"name": "From", "value": "eve@evil.example"}
