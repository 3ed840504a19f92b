"""Header lines of a letter: ASCII, folded, and exactly what a reader will decode; nothing else may write one."""

import re
from base64 import b64encode

MAX_LINE = 78
"""Characters of a line as RFC 5322, 2.1.1 recommends; it allows 998."""

_MAX_WORD = 75
"""Characters of an encoded word, RFC 2047, 2."""
_FRAME = len("=?utf-8?b?" + "?=")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ATOMS = re.compile(rf"{_ATOM}(?: {_ATOM})*")
_ADDRESS = re.compile(
    rf"""(?:{_ATOM}(?:\.{_ATOM})*|"(?:[ !\x23-\x5b\x5d-\x7e]|\\[ -~])*")@[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"""
)
_MAX_ADDRESS = 320


def checked(value: str, *, header: str) -> str:
    """A value that may stand in a header, its tabs as spaces and without spaces around it.

    Raises:
        ValueError: a line break or another control character is in it, or half a character; the header is named.
    """
    line = value.replace("\t", " ").strip(" ")
    if line.isprintable():  # neither control characters nor separators nor surrogates are, and it is quick to ask
        return line
    if _CONTROL.search(line):
        raise ValueError(f"{header}: a line break or a control character in {value!r}")
    try:
        line.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{header}: half a character (a lone surrogate) in {value!r}") from error
    return line


def token(header: str, value: str) -> str:
    """A line whose value is for machines: short, ASCII, without spaces.

    Raises:
        ValueError: it is not; the header is named.
    """
    value = checked(value, header=header)
    if not value or not value.isascii() or " " in value or len(value) > 900:  # noqa: PLR2004 - RFC 5322's 998, less a name
        raise ValueError(f"{header}: {value!r} is not a word of ASCII characters")
    return f"{header}: {value}"


def text(header: str, value: str) -> str:
    """A line of free text (RFC 5322 calls it unstructured), folded and encoded as it needs.

    Raises:
        ValueError: see `checked`.
    """
    value = checked(value, header=header)
    if value.isascii() and "=?" not in value:
        whole = f"{header}: {value}"
        folded = whole if len(whole) <= MAX_LINE else _folded(header, value)
        if folded:
            return folded
    return f"{header}: " + "\r\n ".join(_encoded(value, first=MAX_LINE - len(header) - 2))


def address_line(header: str, address: str, *, name: str | None) -> str:
    """A line of one address with its name, if there is one.

    Raises:
        ValueError: see `checked`; or the address is not one that can stand in a header, which would let another
            recipient in, or is not ASCII: a domain of other letters is written as `xn--…`.
    """
    if len(address) > _MAX_ADDRESS or not _ADDRESS.fullmatch(address):
        raise ValueError(f"{header}: {address!r} is not an ASCII address like name@example.com")
    name = checked(name or "", header=header)
    if not name:
        return f"{header}: {address}"
    words, last = _phrase(name, first=MAX_LINE - len(header) - 2)
    room = MAX_LINE - last - len(address) - 3
    return f"{header}: {words}{' ' if room >= 0 else chr(13) + chr(10) + ' '}<{address}>"


def _phrase(name: str, *, first: int) -> tuple[str, int]:
    """A display name and how much of its last line is taken."""
    if name.isascii() and "=?" not in name:
        quoted = name if _ATOMS.fullmatch(name) else '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
        if len(quoted) <= first:
            return quoted, MAX_LINE - first + len(quoted)
    words = _encoded(name, first=first)
    return "\r\n ".join(words), len(words[-1]) + (1 if len(words) > 1 else MAX_LINE - first)


def _folded(header: str, value: str) -> str:
    """ASCII text broken before spaces; "" when a word of it is too long for a line."""
    lines = [f"{header}:"]
    for word in re.findall(r" *[^ ]+", f" {value}") or [" "]:
        if len(lines[-1]) + len(word) <= MAX_LINE:
            lines[-1] += word
        elif len(word) > MAX_LINE or lines[-1] == f"{header}:":
            return ""
        else:
            lines.append(word)
    return "\r\n".join(lines)


def _encoded(value: str, *, first: int) -> list[str]:
    """Encoded words; no character is cut in two, because each word is decoded for itself (RFC 2047, 5)."""
    words: list[str] = []
    chunk = bytearray()
    room = _bytes(min(first, _MAX_WORD))
    for character in value:
        data = character.encode()
        if len(chunk) + len(data) > room:
            words.append(_word(chunk))
            chunk, room = bytearray(), _bytes(_MAX_WORD)
        chunk += data
    words.append(_word(chunk))
    return words


def _bytes(characters: int) -> int:
    return (characters - _FRAME) // 4 * 3


def _word(data: bytes | bytearray) -> str:
    return f"=?utf-8?b?{b64encode(data).decode('ascii')}?="
