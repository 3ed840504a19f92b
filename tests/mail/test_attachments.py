"""Attachments as a reader sees them; the standard library reads what we wrote."""

from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailerd.mail.mime import (
    BLOCKED,
    MAX_MESSAGE_BYTES,
    Envelope,
    MimePart,
    check_content_id,
    check_content_type,
    check_filename,
    compose,
    encode_attachment,
    encoded_size,
)
from mailerd.mail.templates import Content

ENVELOPE = Envelope("me@example.com", None, None, "ada@example.com", "Ada", "K-0")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LOGO = encode_attachment(b"\x89PNG" * 100, filename="logo.png", content_type="image/png", content_id="logo")
PAPER = encode_attachment(b"%PDF" * 100, filename="a paper.pdf", content_type="application/pdf", content_id=None)


def made(*attachments: MimePart, html: str | None = "<p>x</p>") -> EmailMessage:
    raw = compose(Content("S", html, "text"), ENVELOPE, date=NOW, message_id="<1@x>", attachments=attachments)
    return message_from_bytes(raw, policy=default)


def shape(part: EmailMessage) -> object:
    kind = part.get_content_type()
    return (kind, [shape(each) for each in part.iter_parts()]) if part.is_multipart() else kind  # type: ignore[arg-type]


TEXTS = ("multipart/alternative", ["text/plain", "text/html"])


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255))
@example("Rechnung März.pdf")
@example("\U0001f600" * 250 + ".png")
def test_no_piece_of_a_name_ends_within_a_character(name: str) -> None:
    """Some readers (fast-mail-parser 0.10 for one) decode each piece for itself."""
    part = encode_attachment(b"x", filename=name, content_type="application/pdf", content_id=None).data.decode()
    lines = part.partition("\r\n\r\n")[0].split("\r\n")
    coded = [line.partition("*=")[2].removeprefix("utf-8''").rstrip(";") for line in lines if "*=" in line]
    assert all(len(line) <= 78 for line in lines)
    assert "".join(unquote(each, errors="strict") for each in coded) == (name if coded else "")


@pytest.mark.parametrize(
    "attachments, html, expected",
    [
        ((), "<p>x</p>", TEXTS),
        ((), None, "text/plain"),
        ((PAPER,), "<p>x</p>", ("multipart/mixed", [TEXTS, "application/pdf"])),
        ((LOGO,), "<p>x</p>", ("multipart/related", [TEXTS, "image/png"])),
        (
            (LOGO, PAPER),
            "<p>x</p>",
            ("multipart/mixed", [("multipart/related", [TEXTS, "image/png"]), "application/pdf"]),
        ),
        ((LOGO, PAPER), None, ("multipart/mixed", ["text/plain", "image/png", "application/pdf"])),
    ],
)
def test_each_part_is_where_a_reader_looks_for_it(
    attachments: tuple[MimePart, ...], html: str | None, expected: object
) -> None:
    assert shape(made(*attachments, html=html)) == expected


def test_the_longest_headers_fit_into_what_a_part_is_reckoned_at() -> None:
    long = encode_attachment(b"x", filename="🎉" * 255, content_type="x" * 63 + "/" + "y" * 63, content_id="c" * 100)

    assert len(long.data) + len("\r\n--" + "=" * 70 + "\r\n") <= encoded_size(1, filename="🎉" * 255)


def test_contents_and_names_come_out_as_they_went_in() -> None:
    logo, paper = list(made(LOGO, PAPER).walk())[-2:]

    assert (logo["Content-ID"], logo.get_content_disposition(), logo.get_content()) == (
        "<logo>", "inline", b"\x89PNG" * 100,
    )  # fmt: skip
    assert (paper.get_filename(), paper.get_content_disposition()) == ("a paper.pdf", "attachment")


def test_what_an_image_is_related_to_is_named() -> None:
    """RFC 2387, 3.1: the type of the root must be said."""
    related = made(LOGO)
    root = next(iter(related.iter_parts()))
    assert related.get_param("type") == root.get_content_type()


@pytest.mark.parametrize(
    "kind, content, charset",
    [
        ("text/csv", "Tür,王".encode(), "utf-8"),
        ("text/csv", b"door", None),
        ("text/csv", "Tür".encode("latin-1"), None),
        ("application/pdf", "Tür".encode(), None),
    ],
)
def test_a_text_says_that_it_is_utf_8_where_it_is(kind: str, content: bytes, charset: str | None) -> None:
    """Programs that show a text within the message read it as ASCII or Latin-1 otherwise."""
    part = encode_attachment(content, filename="a.csv", content_type=kind, content_id=None)
    (attached,) = made(part).iter_attachments()
    assert (attached.get_content_type(), attached.get_param("charset")) == (kind, charset)
    assert attached.get_payload(decode=True) == content
    assert attached.get_filename() == "a.csv"


_PIECES = [*"ab  ;=%*?'_.,-()[]<>@&é王🎉\u00a0", '"', "=?utf-8?q?x?=", "utf-8''", "%41", "a" * 80]
_NAMES = st.one_of(
    st.text(min_size=1, max_size=255), st.lists(st.sampled_from(_PIECES), min_size=1).map(lambda it: f"a{''.join(it)}")
)
"""With a message first, since this reader strips quotes and brackets around a whole name."""


@given(_NAMES, st.binary(min_size=1, max_size=500))
@example("=?utf-8?q?x?=", b"x")
@example("filename*0=utf-8''%41;.pdf", b"x")
def test_any_good_name_survives_and_no_line_is_long(name: str, content: bytes) -> None:
    try:
        name = check_filename(name)
        name.encode()
    except ValueError:
        return
    made_of = encode_attachment(content, filename=name, content_type="text/x-y", content_id=None)
    part = list(made(made_of).iter_parts())[-1]

    assert part.get_filename() == check_filename(name)
    assert part.get_payload(decode=True) == content
    assert all(len(line) <= 78 for line in made_of.data.split(b"\r\n"))
    assert len(made_of.data) <= encoded_size(len(content), filename=name)


@pytest.mark.parametrize(
    "name",
    ["", " ", "../etc/passwd", "a/b.pdf", "a\\b.pdf", "..", "a\r\nBcc: x.pdf", "a\0.pdf", "x" * 256, "virus.exe",
     "virus.EXE", "virus.exe.", "virus.exe ", "annex\u202efdp.exe", "a.pdf.js",
     "a.js\u200b", "a.js::$DATA", "a.js:", "a.pdf:b.js", "a.pdf.", "a.pdf. .", "a.js\u3000.", "a\u200bb.pdf", ".js",
     "a.j\u200ds", "a.js\u200d", "a.js\ufe0f", "a.js\u3164", "a.js\u2800", "a.js\ufeff", "a.j\u00ads", "\u200b",
     "a\uff0ejs", "a.\uff4a\uff53", "a\u2024js", "a.js\U000e0041", "a.js\u034f", "a.js \u200b", "a.js\u2060",
     "CON", "nul", "Aux.pdf", "COM1", "com9.tar.gz", "LPT1.txt", "COM\u00b9.pdf", "lpt\u00b2", "\uff23\uff2f\uff2e.pdf",
     "con .pdf", "CONIN$", "conout$.txt"],
)  # fmt: skip
def test_a_name_that_could_do_harm_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_filename(name)


@pytest.mark.parametrize(
    "name",
    ["a.pdf", " a.pdf ", "README", "报告：最终版（2）.pdf", "❤️ love.pdf", "👨\u200d👩\u200d👧.png", "می\u200cخواهم.pdf",
     "v1.2 final.tar.gz", ".gitignore", "a.b.c", "résumé.docx", "x.中", "contract.pdf",
     "console", "com10.pdf", "com.pdf", "null.csv", "my con.pdf", "a.con", "auxiliary.txt", "lpt.doc"],
)  # fmt: skip
def test_a_name_that_people_use_is_taken(name: str) -> None:
    assert check_filename(name) == name.strip()


@pytest.mark.parametrize(
    "kind", ["", "pdf", "a/b; c=d", "a/b\r\nX: y", "multipart/mixed", "message/rfc822", "a/b/c", "é/x", "a/ b"]
)
def test_a_type_that_is_none_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_content_type(kind)


@pytest.mark.parametrize("content_id", ["", "<x>", "a b", "a\r\nb", "x" * 200, "@x", 'a"b'])
def test_a_content_id_that_would_not_survive_is_refused(content_id: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_content_id(content_id)


def test_a_message_larger_than_google_takes_is_not_made() -> None:
    part = encode_attachment(b"x" * 27_000_000, filename="x.bin", content_type="a/b", content_id=None)
    with pytest.raises(ValueError, match="35 MiB"):
        made(part)
    assert encoded_size(27_000_000, filename="a") > MAX_MESSAGE_BYTES > encoded_size(26_000_000, filename="a")


def test_what_gmail_refuses_is_known() -> None:
    assert {"exe", "js", "jar", "vbs", "iso", "xll"} <= BLOCKED
