"""Attachments as MIME parts: checked, encoded once and joined to many letters. Also the largest size of a letter."""

import re
from base64 import b64decode, encodebytes
from dataclasses import dataclass, field
from typing import Final
from unicodedata import category, normalize
from urllib.parse import quote

MAX_LETTER_BYTES: Final = 36_700_160
"""The most bytes of a whole letter, 35 MiB: maxSize in Gmail's discovery document, drafts.create and messages.send."""
_LINE: Final = 57
"""Bytes that make a line of 76 characters (RFC 2045, 6.8), as `encodebytes` writes them."""
_MAX_PIECE: Final = 60
"""Characters of a piece of a parameter: with its name and number it fits into a line of 78."""
_PART_OVERHEAD: Final = 600
"""Bytes of a part's own headers and boundary at most, without the name: that may be 4,000 when it is encoded."""

BLOCKED: Final = frozenset({
    "ade", "adp", "apk", "appx", "appxbundle", "bat", "cab", "chm", "cmd", "com", "cpl", "diagcab", "diagcfg",
    "diagpkg", "dll", "dmg", "ex", "ex_", "exe", "hta", "img", "ins", "iso", "isp", "jar", "jnlp", "js", "jse", "lib",
    "lnk", "mde", "mjs", "msc", "msi", "msix", "msixbundle", "msp", "mst", "nsh", "pif", "ps1", "scr", "sct", "shb",
    "sys", "vb", "vbe", "vbs", "vhd", "vxd", "wsc", "wsf", "wsh", "xll",
})  # fmt: skip
"""Endings that Gmail refuses to carry: https://support.google.com/mail/answer/6590."""

_KIND: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,62}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,62}")
_CONTENT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?:@[A-Za-z0-9._-]{1,35})?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_JOINERS: Final = "\u200c\u200d"
"""Characters without a width that some scripts and emoji are written with; in an ending they only hide it."""
_BLANKS: Final = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""Characters that show as nothing and that Unicode does not call formats."""
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9]|lpt[0-9]) *(?:\.|$)")
"""Names that are devices to Windows, whatever ending follows them:
https://learn.microsoft.com/windows/win32/fileio/naming-a-file. NFKC makes digits of superscripts, as Windows does."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9 ._()+-]{1,60}")


@dataclass(frozen=True)
class MimePart:
    """An encoded part: its headers and its body."""

    data: bytes = field(repr=False)
    inline: bool
    """Whether it is shown inside the letter, by its content id."""


def check_filename(name: str) -> str:
    """A name that a reader can store, without spaces around it.

    Raises:
        ValueError: it is empty, a path, a device of Windows, hides its ending or has one that Windows drops, or is of a
            kind that Gmail refuses.
    """
    name = name.strip()
    if not name or len(name) > 255:  # noqa: PLR2004 - what file systems take
        raise ValueError("must have 1 to 255 characters")
    if found := _CONTROL.search(name):
        raise ValueError(f"contains the control character U+{ord(found[0]):04X}")
    if "/" in name or "\\" in name or name in {".", ".."}:
        raise ValueError("is a path; give the file's name alone")
    if why := _wrong_for_windows(name):
        raise ValueError(why)
    if unseen := _unseen(name):
        raise ValueError(f"contains U+{ord(unseen):04X}, which is invisible")
    # In the form that compares (full-width letters, the one dot leader), since a reader's program may store that.
    _, dot, ending = normalize("NFKC", name).lower().rpartition(".")
    if dot and ending in BLOCKED:
        raise ValueError(f"ends in .{ending}, which Gmail refuses to carry")
    return name


def _wrong_for_windows(name: str) -> str:
    """Why Windows would not store a file by this name, or ""."""
    if ":" in name:
        return "contains a colon, behind which Windows sees a stream of the file"
    if name.endswith("."):
        return "ends in a dot, which Windows drops"
    if device := _DEVICE.match(normalize("NFKC", name).lower()):
        return f"is {device[0].rstrip(' .').upper()}, which is a device and no file to Windows"
    return ""


def _unseen(name: str) -> str:
    """The first invisible character that hides what the name is, or ""."""
    stem, dot, ending = name.rpartition(".")
    stem, ending = (stem, ending) if dot else (name, "")
    for each in stem:
        if each in _BLANKS or (category(each) == "Cf" and each not in _JOINERS):
            return each
    return next((each for each in ending if each in _BLANKS or category(each) in {"Cf", "Mn"}), "")


def check_base64(content: str) -> str:
    """A file in base64, as it was given.

    Raises:
        ValueError: it is none, or holds no byte.
    """
    try:
        empty = not b64decode(content, validate=True)
    except ValueError as error:
        raise ValueError(f"is not base64: {error}") from None
    if empty:
        raise ValueError("is empty")
    return content


def check_content_type(kind: str) -> str:
    """A content type without parameters, in lower case.

    Raises:
        ValueError: it is not a content type, or not that of a single file.
    """
    if not _KIND.fullmatch(kind):
        raise ValueError("must be a type such as application/pdf, without parameters")
    if kind.lower().startswith(("multipart/", "message/")):
        raise ValueError("must be of a single file; multipart and message are not")
    return kind.lower()


def check_content_id(content_id: str) -> str:
    """A content id, for `cid:` links.

    Raises:
        ValueError: it would not survive in a header or a link.
    """
    if not _CONTENT_ID.fullmatch(content_id):
        raise ValueError("must be letters, digits, dots, dashes and underscores, as in logo or logo@example.com")
    return content_id


def check_size(size: int) -> int:
    """The size of a letter, in bytes.

    Raises:
        ValueError: Google does not take a letter of this size.
    """
    if size > MAX_LETTER_BYTES:
        raise ValueError(f"the letter has {size:,} bytes, above Google's limit of {MAX_LETTER_BYTES:,} (35 MiB)")
    return size


def encoded_size(size: int, *, filename: str) -> int:
    """Bytes that a file of `size` bytes takes up in a letter at most."""
    lines = -(-size // _LINE)
    return _PART_OVERHEAD + len(_named("filename", filename)) + -(-size // 3) * 4 + 2 * lines


def encode_attachment(content: bytes, *, filename: str, content_type: str, content_id: str | None) -> MimePart:
    """Encode a file as a part; the values were checked before."""
    kind = "inline" if content_id else "attachment"
    charset = '; charset="utf-8"' if content_type.startswith("text/") and _is_utf8(content) else ""
    lines = [f"Content-Type: {content_type}{charset}", f"Content-Disposition: {kind};{_named('filename', filename)}"]
    if content_id:
        lines.append(f"Content-ID: <{content_id}>")
    lines += ["Content-Transfer-Encoding: base64", "", ""]
    return MimePart(
        "\r\n".join(lines).encode("ascii") + encodebytes(content).replace(b"\n", b"\r\n"), inline=content_id is not None
    )


def _is_utf8(content: bytes) -> bool:
    """Whether a text must say that it is UTF-8: without a charset it is ASCII (RFC 2046, 4.1.2)."""
    try:
        return not content.isascii() and bool(content.decode())
    except UnicodeDecodeError:
        return False


def _named(parameter: str, value: str) -> str:
    """A parameter of a header (RFC 2231), in pieces where it is long: no line is over 78 characters.

    The standard library would write a name such as `=?utf-8?q?x?=` as it is, which readers decode (`EmailMessage`), or
    a line of 3,000 characters (`Message.add_header`).
    """
    if _PLAIN.fullmatch(value):
        return f'\r\n {parameter}="{value}"'
    pieces = ["utf-8''"]
    for character in value:  # none ends within a character: some readers decode each piece for itself
        encoded = quote(character, safe="")
        if len(pieces[-1]) + len(encoded) > _MAX_PIECE:
            pieces.append("")
        pieces[-1] += encoded
    if len(pieces) == 1:
        return f"\r\n {parameter}*={pieces[0]}"
    return ";".join(f"\r\n {parameter}*{number}*={piece}" for number, piece in enumerate(pieces))
