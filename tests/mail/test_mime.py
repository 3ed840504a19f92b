"""What is composed is what a mail reader reads, and no value can add a header or a recipient."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes
from email.header import decode_header, make_header
from email.headerregistry import Address, AddressHeader
from email.message import EmailMessage
from email.policy import default
from email.utils import getaddresses, parseaddr, parsedate_to_datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailerd.core.copies import Copy, Header
from mailerd.mail.mime import Envelope, ListHeaders, compose
from mailerd.mail.templates import Content

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ENVELOPE = Envelope(
    sender_email="me@example.com",
    sender_name="Me",
    reply_to=None,
    to_email="ada@example.com",
    to_name="Ada",
    key="job-1.recipient-2",
)
CONTENT = Content(subject="Hello", html="<p>Hello</p>", text="Hello")


def composed(content: Content = CONTENT, envelope: Envelope = ENVELOPE) -> bytes:
    return compose(content, envelope, date=NOON, message_id="<1@example.com>")


def read(octets: bytes) -> EmailMessage:
    parsed = message_from_bytes(octets, policy=default)
    assert isinstance(parsed, EmailMessage)
    assert not parsed.defects
    return parsed


def address(parsed: EmailMessage, header: str) -> Address:
    value = parsed[header]
    assert not value.defects
    assert isinstance(value, AddressHeader)
    (only,) = value.addresses
    return only


def named(octets: bytes, header: str) -> tuple[str, str]:
    """A header's name and address, by the older reader: the newer one puts spaces between encoded words of a name."""
    name, spec = parseaddr(message_from_bytes(octets)[header])
    return str(make_header(decode_header(name))), spec


def body(parsed: EmailMessage, kind: str) -> str:
    part = parsed.get_body((kind,))
    assert part is not None
    assert part.get_content_charset() == "utf-8"
    made: str = part.get_content()
    return made


def head_of(octets: bytes) -> list[bytes]:
    return octets.partition(b"\r\n\r\n")[0].split(b"\r\n")


def test_a_message_has_these_headers_and_no_others() -> None:
    parsed = read(composed(envelope=replace(ENVELOPE, reply_to="help@example.com")))
    assert {name: str(value) for name, value in parsed.items() if name != "Content-Type"} == {
        "From": "Me <me@example.com>",
        "To": "Ada <ada@example.com>",
        "Reply-To": "help@example.com",
        "Subject": "Hello",
        "Date": "Tue, 24 Nov 2026 12:00:00 +0000",
        "Message-ID": "<1@example.com>",
        "X-Mailerd-Key": "job-1.recipient-2",
        "MIME-Version": "1.0",
    }


def test_text_comes_first_and_html_second() -> None:
    parsed = read(composed())
    assert parsed.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in parsed.iter_parts()] == ["text/plain", "text/html"]


def test_a_message_without_html_is_one_part() -> None:
    parsed = read(composed(Content("s", None, "Only text")))
    assert (parsed.get_content_type(), parsed.get_content()) == ("text/plain", "Only text")


def test_reply_to_and_names_stand_only_where_they_are_given() -> None:
    parsed = read(composed(envelope=replace(ENVELOPE, sender_name=None, to_name="  ")))
    assert (parsed["From"], parsed["To"], parsed["Reply-To"]) == ("me@example.com", "ada@example.com", None)


def test_the_date_is_in_utc_and_never_naive() -> None:
    there = NOON.astimezone(timezone(timedelta(hours=8)))
    octets = compose(CONTENT, ENVELOPE, date=there, message_id="<1@x>")
    assert b"\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\n" in octets
    assert parsedate_to_datetime(read(octets)["Date"]) == NOON
    with pytest.raises(ValueError, match="Date"):
        compose(CONTENT, ENVELOPE, date=NOON.replace(tzinfo=None), message_id="<1@x>")


def test_messages_of_one_sender_and_one_second_have_their_own_headers() -> None:
    for name, reply_to in (("Me", None), ("You", "a@example.com"), (None, "b@example.com"), ("Me", None)):
        for seconds in (0.0, 0.5, 0.999999, 1.0, 0.25):
            date = NOON + timedelta(seconds=seconds)
            envelope = replace(ENVELOPE, sender_name=name, reply_to=reply_to)
            parsed = read(compose(CONTENT, envelope, date=date, message_id="<1@x>"))
            assert parsed["From"] == (f"{name} <me@example.com>" if name else "me@example.com")
            assert parsed["Reply-To"] == reply_to
            assert parsedate_to_datetime(parsed["Date"]) == date.replace(microsecond=0)


@pytest.mark.parametrize("bad", ["a\nBcc: x@example.com", "a\r\nb", "a\rb", "a\x00b", "a\u2028b", "a\x85b", "\ud800"])
@pytest.mark.parametrize(
    "header, field",
    [
        ("From", "sender_name"),
        ("From", "sender_email"),
        ("To", "to_name"),
        ("To", "to_email"),
        ("Reply-To", "reply_to"),
        ("X-Mailerd-Key", "key"),
    ],
)
def test_no_line_break_gets_into_a_header(header: str, field: str, bad: str) -> None:
    with pytest.raises(ValueError, match=rf"^{header}: "):
        composed(envelope=replace(ENVELOPE, **{field: bad}))  # type: ignore[arg-type]


def test_no_line_break_gets_into_subject_or_message_id() -> None:
    with pytest.raises(ValueError, match=r"^Subject: "):
        composed(replace(CONTENT, subject="a\nBcc: x@example.com"))
    with pytest.raises(ValueError, match=r"^Message-ID: "):
        compose(CONTENT, ENVELOPE, date=NOON, message_id="<1@x>\r\nBcc: x@example.com")


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "a",
        "a@",
        "@b",
        "a@b, c@d",
        "a@b>, <c@d",
        "x <a@b>",
        "a b@c",
        "a@b c",
        "ü@b.c",
        "a@bü.c",
        "a..b@c",
        ".a@b",
        "a@b.",
        'a"b@c',
        "a" * 330 + "@b.c",
    ],
)
def test_an_address_is_one_ascii_address(bad: str) -> None:
    with pytest.raises(ValueError, match=r"^To: "):
        composed(envelope=replace(ENVELOPE, to_email=bad))


@pytest.mark.parametrize(
    "good", ["a@b.c", "a.b+c_d@x-y.example", '"a, b <c>"@example.com', "a@xn--fiqs8s.cn", "o'neil@example.com"]
)
def test_every_usual_address_passes(good: str) -> None:
    parsed = read(composed(envelope=replace(ENVELOPE, to_email=good)))
    assert address(parsed, "To").addr_spec.replace('"', "") == good.replace('"', "")


_CHARACTERS = st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\u2028\u2029")
_LINES = st.one_of(
    st.text(_CHARACTERS, max_size=200),
    st.text(st.sampled_from("Ada ,\"\\<>@()[];:.'=?_é王👩\u200d👧שלום\u202e"), max_size=200),
    st.lists(st.sampled_from(["word", "=?utf-8?q?x?=", "王小明", "a" * 90, '"', "Dr.", ","])).map(" ".join),
).map(lambda line: line.strip(" "))


@settings(deadline=None, max_examples=400)
@given(_LINES, _LINES)
@example("王小明" * 70, "你好" * 200)
@example("Last, First", "a" * 1000)
@example("Ada  Two", "Two  spaces   here " * 9 + "end:")
@example("=?utf-8?b?QWRh?=", "=?utf-8?b?QWRh?=")
@example("Ada \\", "end:" * 18 + " next word:")
@example("0 \xa0", "0 \xa0")
def test_names_and_subjects_read_back_as_they_were(name: str, subject: str) -> None:
    octets = composed(replace(CONTENT, subject=subject), replace(ENVELOPE, to_name=name, sender_name=name))
    parsed = read(octets)
    for header, spec in (("To", ENVELOPE.to_email), ("From", ENVELOPE.sender_email)):
        assert named(octets, header) == (name, spec)
        only = address(parsed, header)
        # The newer reader loses white space between encoded words, and a no-break space after a space.
        assert ("".join(only.display_name.split()), only.addr_spec) == ("".join(name.split()), spec)
    assert parsed["Subject"] == subject
    assert all(len(line) <= 78 and line.isascii() and line.strip() for line in head_of(octets))
    assert len(parsed.keys()) == 8


_WORD = re.compile(rb"=\?[^?\s]+\?[^?\s]+\?[^?\s]*\?=")
_LONG = st.lists(
    st.sampled_from(["王", "小明", "灯笼节快乐", "👩\u200d👩\u200d👧", "🎉", "é", "ß", "a" * 90, "Wort", " ", "  ",
                     "=?utf-8?q?x?=", "שלום"]),
    min_size=1, max_size=60,
).map("".join).map(lambda it: it.strip(" ") or "x")  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(_LONG, _LONG, st.sampled_from(["a@b.example", "a" * 60 + "@" + "b" * 40 + ".example"]))
@example("a" * 60 + "é", "é" + "a" * 300, "ada@example.com")
def test_encoded_words_and_their_lines_are_as_short_as_rfc_2047_wants_them(name: str, subject: str, to: str) -> None:
    lists = ListHeaders("https://m.example.com/u/t", "mailto:a@b.example?subject=u", name, "news.example.com")
    envelope = replace(ENVELOPE, to_name=name, to_email=to, sender_name=subject, list_headers=lists)
    octets = composed(replace(CONTENT, subject=subject), envelope)
    for line in head_of(octets):
        words = _WORD.findall(line)
        assert all(len(word) <= 75 for word in words)
        assert not words or len(line) <= 76
        for word in words:
            decode_header(word.decode())[0][0].decode()  # each decodes by itself: no character spans two
    parsed = message_from_bytes(octets)
    assert str(make_header(decode_header(parsed["Subject"]))) == subject
    assert (named(octets, "To"), named(octets, "From")) == ((name, to), (subject, ENVELOPE.sender_email))
    title, _, ident = str(make_header(decode_header(parsed["List-Id"]))).rpartition(" ")
    assert (title.strip('"'), ident) == (name, "<news.example.com>")


def test_a_long_ascii_subject_is_folded_and_not_encoded() -> None:
    octets = composed(replace(CONTENT, subject="Some words about nothing at all, " * 9 + "end"))
    assert b"=?" not in octets.partition(b"\r\n\r\n")[0]


def _as_sent(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


_BODIES = st.one_of(
    st.text(st.characters(blacklist_categories=["Cs"])),
    st.lists(
        st.sampled_from(["word ", "\n", "\r\n", "\r", ".", "=", "--", "From ", "é", "王小明", "x" * 100, " ", "\t"])
    ).map("".join),
)


@settings(deadline=None, max_examples=400)
@given(_BODIES, _BODIES | st.none())
@example("王小明\n" * 100, "é" + "x" * 2000)
@example("From me\n>From you", "From me")
@example("trailing \n.\n\t\n", "x" * 5000)
def test_bodies_read_back_as_they_were(text: str, html: str | None) -> None:
    octets = composed(Content("s", html, text))
    parsed = read(octets)
    assert _as_sent(body(parsed, "plain")) == _as_sent(text)
    if html is not None:
        assert _as_sent(body(parsed, "html")) == _as_sent(html)
    assert octets.isascii()
    lines = octets.split(b"\r\n")
    assert all(len(line) <= 78 for line in lines[8:])
    assert not any(b"\n" in line or b"\r" in line for line in lines)


@pytest.mark.parametrize("text", ["a\nb\n", "x" * 100 + "\nb\r\nc", "王小明\n你好\r\n再见\r"])
def test_the_lines_of_a_text_end_as_in_mail_however_it_is_encoded(text: str) -> None:
    octets = read(composed(Content("s", None, text))).get_payload(decode=True)
    assert isinstance(octets, bytes)
    assert octets.decode() == _as_sent(text).replace("\n", "\r\n")


def test_the_encoding_fits_the_text() -> None:
    def encoding(text: str) -> str:
        return str(read(composed(Content("s", None, text)))["Content-Transfer-Encoding"])

    assert [encoding(each) for each in ("Hello", "x" * 100, "Grüße aus Munich am See", "王小明")] == [
        "7bit",
        "quoted-printable",
        "quoted-printable",
        "base64",
    ]


@pytest.mark.parametrize(
    "title", ["Autumn news", "a, b: c; <evil.example.org>", '"unbalanced', "(comment", "秋季, <x@y>", "x" * 200]
)
def test_a_lists_title_forges_no_list_id(title: str) -> None:
    headers = ListHeaders("https://m.example.com/u/t", "mailto:a@b.example?subject=u", title, "news.example.com")
    message = read(composed(envelope=replace(ENVELOPE, list_headers=headers)))
    phrase, _, ident = str(message["List-Id"]).rpartition(" ")
    assert ident == "<news.example.com>"
    assert phrase.strip('"').replace('\\"', '"') == title


@pytest.mark.parametrize("url", ["https://x/>\r\nBcc: b@x", "https://x/ y", "https://x/>", ""])
def test_no_url_gets_out_of_its_brackets(url: str) -> None:
    headers = ListHeaders("https://x/u", url, "t", "l.example.com")
    with pytest.raises(ValueError, match="List-Unsubscribe"):
        composed(envelope=replace(ENVELOPE, list_headers=headers))


NAMED = st.none() | st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cf"]), max_size=60)
SPECS = st.from_regex(r"[a-z0-9]{1,12}@[a-z]{1,10}\.example", fullmatch=True)


@given(st.lists(st.tuples(st.sampled_from(["cc", "bcc"]), SPECS, NAMED), max_size=20))
def test_each_copy_stands_in_its_own_header_and_nobody_else_does(some: list[tuple[Header, str, str | None]]) -> None:
    octets = composed(envelope=replace(ENVELOPE, copies=[Copy(*it) for it in some]))
    parsed = message_from_bytes(octets, policy=default)
    assert max(map(len, octets.split(b"\r\n\r\n")[0].split(b"\r\n"))) <= 78
    for header in ("cc", "bcc"):
        found = getaddresses([str(value) for value in message_from_bytes(octets).get_all(header, [])])
        assert [spec for _, spec in found] == [spec for its, spec, _ in some if its == header]
        names = [str(make_header(decode_header(name))) if name else "" for name, _ in found]
        assert names == [" ".join((name or "").split(" ")).strip(" ") for its, _, name in some if its == header]
    assert len(parsed.get_all("to", [])) == 1


def test_a_copy_that_is_no_address_is_refused() -> None:
    for wrong in ("a@b.example\r\nBcc: x@y.example", "a@b.example, x@y.example", "a"):
        with pytest.raises(ValueError, match="Bcc"):
            composed(envelope=replace(ENVELOPE, copies=[Copy("bcc", wrong)]))
