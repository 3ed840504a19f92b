"""Parses mail that strangers write: whatever its bytes are, it ends soon, and with what could be read.

The standard library's parser takes quadratic time for some headers and nestings, and so do some of Python's codecs.
The input is cut before it comes there: a real notice is far below each bound.
"""

import re
from email import message_from_bytes, policy
from email.errors import MessageError
from email.header import decode_header
from email.message import Message as Mail
from typing import Final

MAX_NOTICE: Final = 256 * 1024
"""How many bytes of a notice are read. The report comes before the letter that is returned."""
MAX_LINES: Final = 5_000
"""How many lines are read: each can be a part of its own, or is compared with the boundary of each part around it."""
MAX_HEADER: Final = 2_000
"""How many characters of one header are kept."""
MAX_DEPTH: Final = 12
"""Parts that hold others: a notice with a report, its text in two forms, and a letter of the same kind in it."""
UNREADABLE: Final = (
    MessageError, ValueError, LookupError, RecursionError, ArithmeticError, TypeError, AttributeError, AssertionError,
)  # fmt: skip
"""What the email package raises for what is no mail: its documentation promises errors of its own only."""
_EOL: Final = re.compile(rb"\r\n?|\n")
_HOLDS_OTHERS: Final = re.compile(r"[ \t\r\n]*(?:multipart|message)[ \t]*/", re.IGNORECASE)
_WORD: Final = r"=\?[^?\s]{1,40}\?[bq]\?[^?\s]{0,2000}\?="
_WORDS: Final = re.compile(rf"{_WORD}(?:[ \t\r\n]+{_WORD})*", re.IGNORECASE)
"""Encoded words one behind another: the spaces between them are none of the text, and a character may span two."""
_CHARSETS: Final = re.compile(
    r"utf-?8|us-ascii|ascii|iso-8859-\d{1,2}|latin-?1|windows-125\d|cp125\d|gb2312|gbk|gb18030|big5"
    r"|shift[_-]jis|iso-2022-jp|euc-kr|koi8-r",
    re.IGNORECASE,
)
"""What mail is written in, each of which decodes in time that grows with the length alone; punycode does not."""


class _Bounds(policy.Compat32):
    """Cuts each header as it is parsed, and ends the nesting where there are too many containers."""

    containers: list[None] = []  # noqa: RUF012 - each parse gives its own; a policy refuses to be assigned to

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        if name.lower() == "content-type" and _HOLDS_OTHERS.match(value):
            self.containers.append(None)
            if len(self.containers) > MAX_DEPTH:
                return name, "text/plain"
        return name, value[:MAX_HEADER]


def parse(raw: bytes, *, whole: bool = False) -> Mail:
    """The first of a message's bytes, parsed within the bounds; `whole`: all of them, which takes as long as it is.

    Raises:
        One of UNREADABLE: the email package gave up.
    """
    if not whole:
        raw = b"\n".join(_EOL.split(raw[:MAX_NOTICE], MAX_LINES)[:MAX_LINES])
    return message_from_bytes(raw, policy=_Bounds(containers=[]))  # type: ignore[call-arg] # a policy takes its attributes


def decoded(data: bytes, charset: str | None) -> str:
    """Text in the charset that it claims; a charset that mail is not written in is read as Latin-1."""
    name = charset or "utf-8"
    try:
        return data.decode(name if _CHARSETS.fullmatch(name) else "latin-1", "replace")
    except UNREADABLE:  # one that the pattern takes and Python does not have
        return data.decode("latin-1")


def decoded_words(value: str) -> str:
    """A header of at most MAX_HEADER characters, its encoded words (RFC 2047) decoded; a broken one stays as it is."""
    text = _WORDS.sub(lambda found: _decoded_run(found[0]), value[:MAX_HEADER])
    return text.encode("utf-8", "replace").decode("utf-8")


def _decoded_run(words: str) -> str:
    """Nothing else is given to the library: between words it would take text beyond ASCII to pieces."""
    try:
        chunks = decode_header(words)
    except UNREADABLE:
        return words
    return "".join(decoded(it, charset) if isinstance(it, bytes) else it for it, charset in chunks)
