"""Letters as bytes: reads their headers as Google does and stamps them as Google does. Nothing here keeps anything."""

import re
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import NamedTuple

from mailerd.mail.hostile_mail import MAX_HEADER, decoded_words
from mailerd.sandbox.google.answers import Refused, invalid_argument

KEY_HEADER = "X-Mailerd-Key"

_EOL = rb"(?:\r\n|\n|\r(?!\n))"
# A bare CR ends a line too: a client that smuggles one into a header shall see it as a header. A name begins a line:
# tried from each of its characters, a long one would take quadratic time.
_HEADER = re.compile(
    rb"(?:\A|(?<=[\r\n]))([!-9;-~]+)[ \t]*:[ \t]*([^\r\n]*(?:" + _EOL + rb"[ \t][^\r\n]*)*)(?:" + _EOL + rb"|\Z)"
)
_BLANK = re.compile(rb"(" + _EOL + rb")" + _EOL)
_PLAIN_ADDRESS = re.compile(
    r"\s*(?:(?:\"(?:[^\"\\\r\n]|\\.)*\"|[^<>@,\"()\\:;\[\]]*)<([^<>\s]+)>|([^<>\s,\"()\\:;]+))\s*"
)
_ADDRESS = re.compile(
    r"(?=[^@]{1,64}@)[^\s@<>()\[\],:;\"\\.\x00-\x1f]+(?:\.[^\s@<>()\[\],:;\"\\.\x00-\x1f]+)*"
    r"@(?:(?!-)[^\W_](?:[^\W_]|-){0,62}(?<!-)\.)+(?:(?!\d+$)[^\W_](?:[^\W_]|-)*[^\W_])"
)
_AFTER_HEADERS = (b"\r", b"\n", b"")
"""What the headers end before: a blank line, or nothing at all."""
_RECIPIENT_HEADERS = {b"to": "To", b"cc": "Cc", b"bcc": "Bcc"}


class Letter(NamedTuple):
    """A message in a mailbox. `raw` is what the sender handed in, byte for byte, but for Google's stamps.

    A tuple because every sending makes two of them, and a frozen dataclass takes 1.6 us to make and 2.6 us to replace,
    where a tuple takes 0.7 and 1.0.
    """

    id: str
    thread_id: str
    draft_id: str
    """The draft that it is or was; empty for a letter sent directly."""
    sender: str
    """The mailbox, whatever From says."""
    to: str
    """The bare addresses of To, Cc and Bcc, joined by ", "."""
    key: str
    """The value of X-Mailerd-Key, or empty."""
    message_id: str
    """The Message-ID that Google gave it, in angle brackets."""
    labels: tuple[str, ...]
    history_id: int
    at: float
    """When it was drafted or sent, in epoch seconds of the sandbox's clock."""
    raw: bytes

    @property
    def head(self) -> bytes:
        """The bytes of its headers, without the blank line."""
        return split(self.raw)[0]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Every header in order, unfolded but not decoded."""
        return [
            (m[1].decode("ascii"), re.sub(_EOL, b"", m[2]).decode("utf-8", "replace"))
            for m in _HEADER.finditer(self.head)
        ]

    def header(self, name: str) -> str:
        """The first header of that name (any case), decoded for people; empty when there is none."""
        for key, value in self.headers:
            if key.lower() == name.lower():
                return decoded(value)
        return ""

    @property
    def subject(self) -> str:
        """The decoded Subject."""
        return self.header("Subject")

    @property
    def message(self) -> EmailMessage:
        """The letter, parsed."""
        return message_from_bytes(self.raw, policy=policy.default)


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedLetter:
    """What Google looks at before it takes a letter."""

    recipients: tuple[str, ...]
    sender: str
    """The bare address of From, or empty when there is none that can be read."""
    key: str
    head_end: int
    from_spans: tuple[tuple[int, int], ...]
    id_spans: tuple[tuple[int, int], ...]


def decoded(value: str) -> str:
    """A header's value with RFC 2047 words decoded; as it is where they are broken, or it is too long for a header."""
    return decoded_words(value) if len(value) <= MAX_HEADER else value


def split(raw: bytes) -> tuple[bytes, bytes]:
    """Headers and body, without the blank line in between."""
    blank = _BLANK.search(raw)
    return (raw, b"") if blank is None else (raw[: blank.start()], raw[blank.end() :])


def read(raw: bytes) -> ParsedLetter:
    """Read a letter's headers.

    Raises Refused with "Invalid To header" (or Cc, Bcc) as Google does already for a draft, and with a 400 for bytes
    that do not begin with headers.
    """
    recipients: list[str] = []
    froms: list[tuple[int, int]] = []
    ids: list[tuple[int, int]] = []
    sender = key = ""
    at = 0
    while match := _HEADER.match(raw, at):
        # A header's own line end belongs to it: code that cuts the header out must not leave a blank line behind.
        at = match.end()
        name = match[1].lower()
        if name in _RECIPIENT_HEADERS:
            recipients += _recipients(match[2], header=_RECIPIENT_HEADERS[name])
        elif name == b"from":
            froms.append(match.span())
            sender = sender or _sender(match[2])
        elif name == b"message-id":
            ids.append(match.span())
        elif name == b"x-mailerd-key":
            key = key or match[2].decode("utf-8", "replace")
    if not at or raw[at : at + 1] not in _AFTER_HEADERS:
        raise Refused(invalid_argument("Invalid message: the headers cannot be parsed."))
    return ParsedLetter(
        recipients=tuple(recipients),
        sender=sender,
        key=key,
        head_end=at,
        from_spans=tuple(froms),
        id_spans=tuple(ids),
    )


def stamp(raw: bytes, reading: ParsedLetter, *, message_id: str, rewrite_from: str = "") -> bytes:
    """The letter with Google's Message-ID instead of its own, and From replaced when an address is given for it."""
    eol = b"\r\n" if raw.find(b"\r\n", 0, reading.head_end + 2) >= 0 else b"\n"
    new = [b"Message-ID: " + message_id.encode("ascii") + eol]
    cuts = list(reading.id_spans)
    if rewrite_from:
        new.append(b"From: " + rewrite_from.encode("utf-8") + eol)
        cuts += reading.from_spans
    kept, at = [], 0
    for start, end in sorted(cuts):
        kept.append(raw[at:start])
        at = end
    # The stamps go on top, as the traces of a transport do, so that no other header has to be touched.
    return b"".join((*new, *kept, raw[at:]))


def is_address(text: str) -> bool:
    """Whether Google would take this as an address: a dot-atom at a domain with at least one dot."""
    return _ADDRESS.fullmatch(text) is not None


def _recipients(value: bytes, *, header: str) -> list[str]:
    found = _addresses(value)
    if found is None or not all(map(is_address, found)):
        raise Refused(invalid_argument(f"Invalid {header} header"))
    return found


def _sender(value: bytes) -> str:
    found = _addresses(value)
    return found[0].lower() if found else ""


def _addresses(value: bytes) -> list[str] | None:
    """The bare addresses of a header, or None when it cannot be parsed; an empty header has none."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if not text.strip():
        return []
    plain = _PLAIN_ADDRESS.fullmatch(text)
    if plain is not None:
        return [plain[1] or plain[2]]
    # The standard library's parser is right and two hundred times slower: only lists and oddities come here.
    try:
        header = policy.default.header_factory("To", re.sub(r"\r\n|\n|\r", "", text))
        addresses: list[str] = [address.addr_spec for address in header.addresses]
    except IndexError:  # the parser's own, at such as "To : , : "
        return None
    broken = [d for d in header.defects if type(d).__name__ != "ObsoleteHeaderDefect"]
    return None if broken or not addresses else addresses
