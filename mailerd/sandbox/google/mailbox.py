"""One mailbox: its drafts, messages and threads.

A sent draft is gone, and every step gives a new Message-ID.
"""

import base64
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.message import Message as Mail
from itertools import count
from typing import Any, Final, NamedTuple

from mailerd.mail.read_notice import MAX_HEADER, UNREADABLE, decoded, decoded_words, parse
from mailerd.sandbox.google.answers import NAMED, Refused, invalid_argument, not_found
from mailerd.sandbox.google.quota import Usage

# Messages as bytes: reads their headers as Google does and stamps them as Google does. Nothing here
# keeps anything.

KEY_HEADER = "X-Mailerd-Key"

_EOL = rb"(?:\r\n|\n|\r(?!\n))"
# A bare CR ends a line too: a client that smuggles one into a header shall see it as a header. A
# name begins a line: tried from each of its characters, a long one would take quadratic time.
_HEADER = re.compile(
    rb"(?:\A|(?<=[\r\n]))([!-9;-~]+)[ \t]*:[ \t]*([^\r\n]*(?:"
    + _EOL
    + rb"[ \t][^\r\n]*)*)(?:"
    + _EOL
    + rb"|\Z)"
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


class Message(NamedTuple):
    """What stands in a mailbox.

    `raw` is what the sender handed in, byte for byte, but for Google's stamps.

    A tuple because every sending makes two of them, and a frozen dataclass takes 1.6 us to make and
    2.6 us to replace, where a tuple takes 0.7 and 1.0.
    """

    id: str
    thread_id: str
    draft_id: str
    """The draft that it is or was; empty for a message sent directly."""
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
    def recipients(self) -> list[str]:
        """The bare addresses of To, Cc and Bcc."""
        return self.to.split(", ")

    @property
    def whom(self) -> str:
        """To whom it goes, for people: the copies with their headers."""
        copies = (f"{name}: {value}" for name in ("Cc", "Bcc") if (value := self.header(name)))
        return " · ".join((self.recipients[0], *copies))

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
        """The first header of that name (any case), decoded for people; empty when there is
        none.
        """
        for key, value in self.headers:
            if key.lower() == name.lower():
                return decoded_value(value)
        return ""

    @property
    def subject(self) -> str:
        """The decoded Subject."""
        return self.header("Subject")

    @property
    def parsed(self) -> EmailMessage:
        """The message as Python's parser reads it."""
        return message_from_bytes(self.raw, policy=policy.default)


Permit = Callable[[Message], None]
"""Takes a message from the caps of the day; raises Refused above one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedMessage:
    """What Google looks at before it takes a message."""

    recipients: tuple[str, ...]
    sender: str
    """The bare address of From, or empty when there is none that can be read."""
    key: str
    head_end: int
    from_spans: tuple[tuple[int, int], ...]
    id_spans: tuple[tuple[int, int], ...]


def decoded_value(value: str) -> str:
    """A header's value with RFC 2047 words decoded; as it is where they are broken, or it is too
    long for a header.
    """
    return decoded_words(value) if len(value) <= MAX_HEADER else value


def split(raw: bytes) -> tuple[bytes, bytes]:
    """Headers and body, without the blank line in between."""
    blank = _BLANK.search(raw)
    return (raw, b"") if blank is None else (raw[: blank.start()], raw[blank.end() :])


def read(raw: bytes) -> ParsedMessage:
    """Read a message's headers.

    Raises Refused with "Invalid To header" (or Cc, Bcc) as Google does already for a draft, and
    with a 400 for bytes that do not begin with headers.
    """
    recipients: list[str] = []
    froms: list[tuple[int, int]] = []
    ids: list[tuple[int, int]] = []
    sender = key = ""
    at = 0
    while match := _HEADER.match(raw, at):
        # A header's own line end belongs to it: code that cuts the header out must not leave a
        # blank line behind.
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
    return ParsedMessage(
        recipients=tuple(recipients),
        sender=sender,
        key=key,
        head_end=at,
        from_spans=tuple(froms),
        id_spans=tuple(ids),
    )


def stamp(raw: bytes, reading: ParsedMessage, *, message_id: str, rewrite_from: str = "") -> bytes:
    """The message with Google's Message-ID instead of its own, and From replaced when an address is
    given for it.
    """
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
    # The stamps go on top, as the traces of a transport do, so that no other header has to be
    # touched.
    return b"".join((*new, *kept, raw[at:]))


def is_address(text: str) -> bool:
    """Whether Google would take this as an address: a dot-atom at a domain with at least one
    dot.
    """
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
    """The bare addresses of a header, or None when it cannot be parsed; an empty header has
    none.
    """
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if not text.strip():
        return []
    plain = _PLAIN_ADDRESS.fullmatch(text)
    if plain is not None:
        return [plain[1] or plain[2]]
    # The standard library's parser is right and two hundred times slower: only lists and oddities
    # come here.
    try:
        header = policy.default.header_factory("To", re.sub(r"\r\n|\n|\r", "", text))
        addresses: list[str] = [address.addr_spec for address in header.addresses]
    except IndexError:  # the parser's own, at such as "To : , : "
        return None
    broken = [d for d in header.defects if type(d).__name__ != "ObsoleteHeaderDefect"]
    return None if broken or not addresses else addresses


# Messages as the JSON resources of the Gmail API, in the four formats that it knows.
#
# Strangers write what comes into a mailbox: it is parsed by the functions that are made for that.

_SNIPPET = 200
_SNIPPET_FROM: Final = 4_000
"""Characters of a text that its snippet is made of."""
_MAX_PARTS: Final = 100
_TAGS: Final = re.compile(r"<[^<>]*>")


def reference(message: Message) -> bytes:
    """What Google answers to a creation or a sending, as JSON: ids and labels are ours and need no
    escaping.
    """
    labels = '","'.join(message.labels)
    return (
        f'{{"id":"{message.id}","threadId":"{message.thread_id}","labelIds":["{labels}"]}}'.encode()
    )


def resource(message: Message, *, form: str, only: Collection[str] = ()) -> dict[str, Any]:
    """A message as a resource; `only` names the headers of format metadata, or all.

    Raises Refused for a form unknown.
    """
    shown = {
        "id": message.id,
        "threadId": message.thread_id,
        "labelIds": message.labels,
        "snippet": _snippet(message),
        "sizeEstimate": len(message.raw),
        "historyId": str(message.history_id),
        "internalDate": str(int(message.at * 1000)),
    }
    match form:
        case "minimal":
            return shown
        case "raw":
            return shown | {"raw": encode(message.raw)}
        case "metadata":
            wanted = {name.lower() for name in only}
            headers = [
                h for h in _headers(message.headers) if not wanted or h["name"].lower() in wanted
            ]
            return shown | {
                "payload": {"mimeType": _parsed(message).get_content_type(), "headers": headers}
            }
        case "full":
            part = _part(_parsed(message, whole=True), ident="")
            return shown | {"payload": part | {"headers": _headers(message.headers)}}
        case _:
            raise Refused(invalid_argument(f"Invalid value at 'format' (TYPE_ENUM), \"{form}\""))


def encode(raw: bytes) -> str:
    """base64url, as every byte field of the API."""
    return base64.urlsafe_b64encode(raw).decode("ascii")


def bodies(mail: EmailMessage) -> tuple[str, str]:
    """The text and HTML parts of a message, empty where it has none."""
    texts = []
    for kind in ("plain", "html"):
        part = mail.get_body((kind,))
        texts.append("" if part is None else _decoded(part))
    return texts[0], texts[1]


def _parsed(message: Message, *, whole: bool = False) -> Mail:
    try:
        return parse(message.raw, whole=whole)
    except UNREADABLE:
        return Mail()


def _snippet(message: Message) -> str:
    texts: dict[str, str] = {}
    left = [_parsed(message)]
    for _ in range(_MAX_PARTS):
        if not left:
            break
        part = left.pop(0)
        payload = part.get_payload()
        if isinstance(payload, list):
            left = [it for it in payload if isinstance(it, Mail)][:_MAX_PARTS] + left
        else:
            texts.setdefault(part.get_content_type(), _decoded(part)[:_SNIPPET_FROM])
    text = texts.get("text/plain") or _TAGS.sub(" ", texts.get("text/html", ""))
    return " ".join(text.split())[:_SNIPPET]


def _decoded(part: Mail) -> str:
    try:
        return decoded(content(part), part.get_content_charset())
    except UNREADABLE:
        return ""


def _filename(part: Mail) -> str:
    try:
        return part.get_filename() or ""
    except UNREADABLE:
        # Python 3.12 cannot sort the pieces of a parameter of which one has no number
        return ""


def content(part: Mail) -> bytes:
    """The bytes of a part, decoded from how they were sent."""
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _headers(headers: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in headers]


def _part(part: Mail, *, ident: str) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "partId": ident,
        "mimeType": part.get_content_type(),
        "filename": _filename(part),
        "headers": _headers([(name, str(value)) for name, value in part.items()]),
    }
    payload = part.get_payload()
    if isinstance(payload, list):
        dot = f"{ident}." if ident else ""
        children = [it for it in payload if isinstance(it, Mail)]
        shown["parts"] = [_part(child, ident=f"{dot}{n}") for n, child in enumerate(children)]
        return shown | {"body": {"size": 0}}
    data = content(part)
    return shown | {"body": {"size": len(data), "data": encode(data)}}


class IdSequence:
    """Ids as Google makes them: never twice, rising, and higher ones in every run.

    No .eml is overwritten by a later run, and an inbox that was read in a former run has no history
    that is forgotten.
    """

    def __init__(self, *, started_at: float) -> None:
        first = int(started_at * 1000) << 20
        self._messages = count(first)
        self._histories = count(int(started_at * 1000))

    def message(self) -> str:
        """A message id: 16 hexadecimal digits."""
        return f"{next(self._messages):016x}"

    def draft(self) -> str:
        """A draft id: an r and a number."""
        return f"r{next(self._messages)}"

    def message_id(self) -> str:
        """A Message-ID of Google's, which cannot be foretold from the client's."""
        return f"<CAsandbox{next(self._messages):016x}@mail.gmail.com>"

    def history(self) -> int:
        """A history id."""
        return next(self._histories)


class Added(NamedTuple):
    """One entry of the history: a message came into the mailbox."""

    history_id: int
    id: str
    thread_id: str
    labels: tuple[str, ...]


@dataclass(slots=True)
class Mailbox:
    """What one person has at Google."""

    email: str
    numbers: IdSequence = field(repr=False)
    aliases: frozenset[str] = frozenset()
    drafts: dict[str, Message] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    """Every message by id, oldest first; drafts are among them, as with Google."""
    threads: dict[str, list[str]] = field(default_factory=dict)
    history_id: int = 1
    usage: Usage = field(default_factory=Usage)
    history: list[Added] = field(default_factory=list, repr=False)
    """What came, oldest first."""
    forgotten: int = 0
    """History up to this id is forgotten: who asks from there on gets a 404."""

    def draft(self, raw: bytes, *, thread_id: str, now: float) -> Message:
        """Create a draft. A missing recipient is no fault yet; a malformed one is."""
        message = self._written(
            raw, thread_id=thread_id, now=now, draft_id=self.numbers.draft(), label="DRAFT"
        )
        self.drafts[message.draft_id] = message
        self._keep(message)
        return message

    def send_draft(self, draft_id: str, *, now: float, permit: Permit) -> Message:
        """Send a draft: it is gone, and a new message stands in its thread.

        `permit` may raise Refused.
        """
        draft = self.find_draft(draft_id)
        if not draft.to:
            raise Refused(NAMED["recipient_required"](0))
        permit(draft)
        message_id = self.numbers.message_id()
        sent = draft._replace(
            id=self.numbers.message(),
            message_id=message_id,
            labels=("SENT",),
            history_id=self.numbers.history(),
            at=now,
            raw=draft.raw.replace(draft.message_id.encode("ascii"), message_id.encode("ascii"), 1),
        )
        self.delete_draft(draft_id)
        self._keep(sent)
        return sent

    def send(self, raw: bytes, *, thread_id: str, now: float, permit: Permit) -> Message:
        """Send a message directly. `permit` may raise Refused."""
        message = self._written(raw, thread_id=thread_id, now=now, draft_id="", label="SENT")
        if not message.to:
            raise Refused(NAMED["recipient_required"](0))
        permit(message)
        self._keep(message)
        return message

    def find_draft(self, draft_id: str) -> Message:
        """The draft, or Refused with Google's 404."""
        if draft_id not in self.drafts:
            raise Refused(not_found())
        return self.drafts[draft_id]

    def delete_draft(self, draft_id: str) -> None:
        """Remove a draft for good, or Refused with Google's 404."""
        draft = self.find_draft(draft_id)
        del self.drafts[draft_id]
        del self.messages[draft.id]
        thread = self.threads[draft.thread_id]
        thread.remove(draft.id)
        if not thread:
            del self.threads[draft.thread_id]
        self.history_id = self.numbers.history()

    def find_message(self, message_id: str) -> Message:
        """The message, or Refused with Google's 404."""
        if message_id not in self.messages:
            raise Refused(not_found())
        return self.messages[message_id]

    def receive(self, raw: bytes, *, thread_id: str = "", now: float) -> Message:
        """Take in mail that came by SMTP; into a thread that is not there any more it brings a new
        one.
        """
        ident = self.numbers.message()
        message = Message(
            id=ident,
            thread_id=thread_id if thread_id in self.threads else ident,
            draft_id="",
            sender=self.email,
            to=self.email,
            key="",
            message_id=self.numbers.message_id(),
            labels=("UNREAD", "CATEGORY_PERSONAL", "INBOX"),  # as under the tab "Primary"
            history_id=self.numbers.history(),
            at=now,
            raw=raw,
        )
        self._keep(message)
        return message

    def forget_history(self) -> None:
        """Forget what came until now, as Google does after a week, and sometimes after hours."""
        self.forgotten = self.history_id
        self.history.clear()

    def _written(
        self, raw: bytes, *, thread_id: str, now: float, draft_id: str, label: str
    ) -> Message:
        if thread_id and thread_id not in self.threads:
            raise Refused(not_found())
        reading = read(raw)
        message_id, ident = self.numbers.message_id(), self.numbers.message()
        return Message(
            id=ident,
            thread_id=thread_id or ident,
            draft_id=draft_id,
            sender=self.email,
            to=", ".join(reading.recipients),
            key=reading.key,
            message_id=message_id,
            labels=(label,),
            history_id=self.numbers.history(),
            at=now,
            raw=stamp(
                raw, reading, message_id=message_id, rewrite_from=self._rewritten_from(reading)
            ),
        )

    def _rewritten_from(self, reading: ParsedMessage) -> str:
        """Google does not refuse a foreign From: it puts the mailbox's own address there."""
        # A second From, as an injection would bring it, is left where it is: tests shall see it.
        own = reading.sender == self.email or reading.sender in self.aliases
        return "" if own else self.email

    def _keep(self, message: Message) -> None:
        self.messages[message.id] = message
        self.threads.setdefault(message.thread_id, []).append(message.id)
        self.history_id = message.history_id
        self.history.append(
            Added(message.history_id, message.id, message.thread_id, message.labels)
        )
