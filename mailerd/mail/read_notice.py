"""Reads a stranger's mail within bounds: a delivery report (RFC 3464), or what qmail and its like
write instead.

What is read is a stranger's: `hostile_mail.py` bounds it, and the message that came back is looked
at for its key and its proof alone.
"""

import re
from email import message_from_bytes, policy
from email.errors import MessageError
from email.header import decode_header
from email.message import Message as Mail
from html import unescape
from typing import Final

from mailerd.core.message_proof import PROOF_HEADER
from mailerd.core.notices import DeliveryReport, Reported

# Parses mail that strangers write: whatever its bytes are, it ends soon, and with what could be
# read.
#
# The standard library's parser takes quadratic time for some headers and nestings, and so do some
# of Python's codecs. The input is cut before it comes there: a real notice is far below each bound.

MAX_NOTICE: Final = 256 * 1024
"""How many bytes of a notice are read. The report comes before the message that is returned."""
MAX_LINES: Final = 5_000
"""How many lines are read: each can be a part of its own, or is compared with the boundary of each
part around it.
"""
MAX_HEADER: Final = 2_000
"""How many characters of one header are kept."""
MAX_DEPTH: Final = 12
"""Parts that hold others: a notice with a report, its text in two forms, and a message of the same
kind in it.
"""
UNREADABLE: Final = (
    MessageError,
    ValueError,
    LookupError,
    RecursionError,
    ArithmeticError,
    TypeError,
    AttributeError,
    AssertionError,
)
"""What the email package raises for what is no mail: its documentation promises errors of its own
only.
"""
_EOL: Final = re.compile(rb"\r\n?|\n")
_HOLDS_OTHERS: Final = re.compile(r"[ \t\r\n]*(?:multipart|message)[ \t]*/", re.IGNORECASE)
_WORD: Final = r"=\?[^?\s]{1,40}\?[bq]\?[^?\s]{0,2000}\?="
_WORDS: Final = re.compile(rf"{_WORD}(?:[ \t\r\n]+{_WORD})*", re.IGNORECASE)
"""Encoded words one behind another: the spaces between them are none of the text, and a character
may span two.
"""
_CHARSETS: Final = re.compile(
    r"utf-?8|us-ascii|ascii|iso-8859-\d{1,2}|latin-?1|windows-125\d|cp125\d|gb2312|gbk|gb18030|big5"
    r"|shift[_-]jis|iso-2022-jp|euc-kr|koi8-r",
    re.IGNORECASE,
)
"""What mail is written in, each of which decodes in time that grows with the length alone; punycode
does not.
"""


class _Bounds(policy.Compat32):
    """Cuts each header as it is parsed, and ends the nesting where there are too many
    containers.
    """

    containers: list[None] = []  # noqa: RUF012 - each parse gives its own; a policy refuses to be assigned to

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        if name.lower() == "content-type" and _HOLDS_OTHERS.match(value):
            self.containers.append(None)
            if len(self.containers) > MAX_DEPTH:
                return name, "text/plain"
        return name, value[:MAX_HEADER]


def parse(raw: bytes, *, whole: bool = False) -> Mail:
    """The first of a message's bytes, parsed within the bounds; `whole`: all of them, which takes
    as long as it is.

    Raises:
        One of UNREADABLE: the email package gave up.
    """
    if not whole:
        raw = b"\n".join(_EOL.split(raw[:MAX_NOTICE], MAX_LINES)[:MAX_LINES])
    return message_from_bytes(raw, policy=_Bounds(containers=[]))  # type: ignore[call-arg] # a policy takes its attributes


def decoded(data: bytes, charset: str | None) -> str:
    """Text in the charset that it claims; a charset that mail is not written in is read as
    Latin-1.
    """
    name = charset or "utf-8"
    try:
        return data.decode(name if _CHARSETS.fullmatch(name) else "latin-1", "replace")
    except UNREADABLE:  # one that the pattern takes and Python does not have
        return data.decode("latin-1")


def decoded_words(value: str) -> str:
    """A header of at most MAX_HEADER characters, its encoded words (RFC 2047) decoded; a broken one
    stays as it is.
    """
    text = _WORDS.sub(lambda found: _decoded_run(found[0]), value[:MAX_HEADER])
    return text.encode("utf-8", "replace").decode("utf-8")


def _decoded_run(words: str) -> str:
    """Nothing else is given to the library: between words it would take text beyond ASCII to
    pieces.
    """
    try:
        chunks = decode_header(words)
    except UNREADABLE:
        return words
    return "".join(decoded(it, charset) if isinstance(it, bytes) else it for it, charset in chunks)


KEY_HEADER: Final = "X-Mailerd-Key"
_MAX_TEXT: Final = 4_000
_MAX_PARTS: Final = 40
_MAX_RECIPIENTS: Final = 200
_STATUS: Final = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})", re.ASCII)
_TAGS: Final = re.compile(
    r"<(?:style|script)\b.*?(?:</(?:style|script)>|\Z)|<[^<>]*>", re.IGNORECASE | re.DOTALL
)
"""Each is taken in one go, also where it has no end: to try again from each of its characters takes
quadratic time.
"""
_RETURNED: Final = re.compile(
    r"^[ \t]*(?:[-=]{2,}[^\n@]{0,80}(?:copy of (?:the|your) (?:message|mail)|original message|below this line"
    r"|returned message|unsent message|message text follows|header|undelivered message|beginning of)[^\n@]{0,80}"
    r"|original message follows[^\n]*"
    r"|(?:received|return-path|delivered-to): [^\n]*)$",
    re.IGNORECASE | re.MULTILINE,
)
"""Where a text notice ends and the message that came back begins.

An address such as --header@ is no such line.
"""
_QMAIL: Final = re.compile(r"^<([^<>\s@]+@[^<>\s]+)>:?[ \t]*\n((?:[^\n]+(?:\n|\Z))+)", re.MULTILINE)
_EXIM: Final = re.compile(
    r"^[ \t]{2,}([^\s<>@]+@[^\s<>]+)[ \t]*\n((?:[ \t]{4,}[^\n]+(?:\n|\Z))+)", re.MULTILINE
)
_MARKS: Final = (KEY_HEADER, PROOF_HEADER, "Message-ID")
_MARK_LINES: Final = [
    re.compile(rf"^{it}:[ \t]*(?:\n[ \t]+)?(\S+)[ \t]*$", re.IGNORECASE | re.MULTILINE)
    for it in _MARKS
]
_HEAD: Final = re.compile(
    r"(?:^[!-9;-~]{1,100}:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)){2,}", re.MULTILINE
)
"""The headers of the message that came back, as text; never a word of its body, which may quote
another message's.
"""


def read_notice(raw: bytes) -> DeliveryReport:
    """The report of a notice, as far as it can be read; no bytes make it fail."""
    try:
        return _read(parse(raw))
    except UNREADABLE:
        return DeliveryReport()


def _read(mail: Mail) -> DeliveryReport:
    found, texts, marks, original_id = list[Reported](), list[str](), ("", "", ""), ""
    for part in _outer_parts(mail):
        kind = part.get_content_type()
        if kind in ("message/delivery-status", "message/global-delivery-status"):
            found += _reported(part)
            original_id = original_id or _original_id(part)
        elif kind in (
            "message/rfc822",
            "message/global",
            "text/rfc822-headers",
            "message/global-headers",
        ):
            marks = marks if any(marks) else _marks_of(part)
        elif kind in ("text/plain", "text/html") and len(texts) < _MAX_PARTS:
            texts.append(_text(part))
    text, returned = _split(next((it for it in texts if it.strip()), ""))
    key, proof, message_id = marks if any(marks) else _marks_in(returned)
    recipients = tuple(found[:_MAX_RECIPIENTS]) or tuple(_told(text))
    return DeliveryReport(recipients, text[:_MAX_TEXT], key, proof, message_id, original_id)


def _outer_parts(mail: Mail) -> list[Mail]:
    """The parts of the notice itself, in order, not those of the message that came back."""
    parts, left = list[Mail](), [mail]
    while left and len(parts) < _MAX_PARTS:
        part = left.pop(0)
        payload = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(payload, list):
            left = [it for it in payload if isinstance(it, Mail)] + left
        else:
            parts.append(part)
    return parts


def _reported(part: Mail) -> list[Reported]:
    """The groups of fields, each a Message of its own to the parser; the first is about the notice
    itself.
    """
    payload = part.get_payload()
    groups = [it for it in payload if isinstance(it, Mail)] if isinstance(payload, list) else []
    found = []
    for group in groups:
        address = _typed(group, "Final-Recipient") or _typed(group, "Original-Recipient")
        original = _typed(group, "Original-Recipient")
        if "@" in original and "@" not in address:
            address = original
        if not address:
            continue
        status = _STATUS.match(_field(group, "Status"))
        found.append(
            Reported(
                address=address,
                action=_field(group, "Action").partition(" ")[0].lower(),
                status=status[0] if status else "",
                diagnostic=_typed(group, "Diagnostic-Code"),
                remote=bool(_field(group, "Remote-MTA")),
                original=original if "@" in original and original != address else "",
            )
        )
    return found


def _original_id(part: Mail) -> str:
    """The Message-ID that Google writes among the fields about the notice itself."""
    payload = part.get_payload()
    groups = payload if isinstance(payload, list) else []
    return next(
        (
            found
            for it in groups
            if isinstance(it, Mail) and (found := _field(it, "X-Original-Message-ID"))
        ),
        "",
    )


def _field(group: Mail, name: str) -> str:
    return " ".join(str(group.get(name, "")).split())


def _typed(group: Mail, name: str) -> str:
    """The value of a field that begins with its type: `rfc822; ada@example.com`."""
    value = _field(group, name)
    _, separator, rest = value.partition(";")
    return (rest if separator else value).strip().strip("<>")


def _marks_of(part: Mail) -> tuple[str, str, str]:
    """The key, the proof and the Message-ID of the message that came back."""
    payload = part.get_payload()
    if isinstance(payload, list) and payload and isinstance(payload[0], Mail):
        key, proof, message_id = (_field(payload[0], it) for it in _MARKS)
        return key, proof, message_id
    return _marks_in(_decoded(part))


def _marks_in(text: str) -> tuple[str, str, str]:
    head = _HEAD.search(text.replace("\r\n", "\n"))
    found = [line.search(head[0]) if head else None for line in _MARK_LINES]
    key, proof, message_id = (it[1] if it else "" for it in found)
    return key, proof, message_id


def _decoded(part: Mail) -> str:
    payload = part.get_payload(decode=True)
    return decoded(payload, part.get_content_charset()) if isinstance(payload, bytes) else ""


def _text(part: Mail) -> str:
    text = _decoded(part)[: 4 * _MAX_TEXT]
    return unescape(_TAGS.sub(" ", text)) if part.get_content_type() == "text/html" else text


def _split(text: str) -> tuple[str, str]:
    """What the mail system says, and the message that it returns below, if it does."""
    text = text.replace("\r\n", "\n")
    end = _RETURNED.search(text)
    return (text[: end.start()], text[end.start() :]) if end else (text, "")


def _told(text: str) -> list[Reported]:
    """Recipients and reasons as qmail and Exim write them, in a text without a report."""
    found = []
    for address, words in [*_QMAIL.findall(text), *_EXIM.findall(text)][:_MAX_RECIPIENTS]:
        found.append(Reported(address.strip("<>:"), "failed", diagnostic=" ".join(words.split())))
    return found
