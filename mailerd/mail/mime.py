"""From a recipient's content to the bytes that Google gets (RFC 5322 and MIME); which addresses are
allowed.

The standard library encodes: `email.header.Header` the header lines, `quopri` and `base64` the
text. `EmailMessage` does not write the header lines, since it folds 121 of 1,500 subjects in mixed
scripts so that they lose a space. The parts are joined here, because the library's generator would
copy an attachment of 30 MB line by line for each message.
"""

import base64
import os
import quopri
import re
from base64 import b64decode, encodebytes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from email.header import Header, decode_header, make_header
from email.utils import format_datetime, quote
from typing import Final
from unicodedata import category, normalize
from urllib import parse

from email_validator import EmailNotValidError, validate_email

from mailerd.core.copies import Copy
from mailerd.core.i18n import N_, Text, t, tn
from mailerd.core.message_proof import PROOF_HEADER
from mailerd.mail.templates import CONTROL, Content

# Attachments as MIME parts: checked, encoded once and joined to many messages. Also the largest
# size of a message.

MAX_MESSAGE_BYTES: Final = 36_700_160
"""The most bytes of a whole message, 35 MiB: maxSize in Gmail's discovery document, drafts.create
and messages.send.
"""
MAX_ATTACHMENTS: Final = 50
"""Files of one list."""
MAX_FILENAME: Final = 255
"""Characters of a name: what file systems take."""
_LINE: Final = 57
"""Bytes that make a line of 76 characters (RFC 2045, 6.8), as `encodebytes` writes them."""
_MAX_PIECE: Final = 60
"""Characters of a piece of a parameter: with its name and number it fits into a line of 78."""
_PART_OVERHEAD: Final = 600
"""Bytes of a part's own headers and boundary at most, without the name: that may be 4,000 when it
is encoded.
"""

BLOCKED: Final = frozenset(
    {
        "ade",
        "adp",
        "apk",
        "appx",
        "appxbundle",
        "bat",
        "cab",
        "chm",
        "cmd",
        "com",
        "cpl",
        "diagcab",
        "diagcfg",
        "diagpkg",
        "dll",
        "dmg",
        "ex",
        "ex_",
        "exe",
        "hta",
        "img",
        "ins",
        "iso",
        "isp",
        "jar",
        "jnlp",
        "js",
        "jse",
        "lib",
        "lnk",
        "mde",
        "mjs",
        "msc",
        "msi",
        "msix",
        "msixbundle",
        "msp",
        "mst",
        "nsh",
        "pif",
        "ps1",
        "scr",
        "sct",
        "shb",
        "sys",
        "vb",
        "vbe",
        "vbs",
        "vhd",
        "vxd",
        "wsc",
        "wsf",
        "wsh",
        "xll",
    }
)
"""Endings that Gmail refuses to carry: https://support.google.com/mail/answer/6590."""

CONTENT_TYPE: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,62}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,62}"
)
CONTENT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?:@[A-Za-z0-9._-]{1,35})?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_JOINERS: Final = "\u200c\u200d"
"""Characters without a width that some scripts and emoji are written with; in an ending they only
hide it.
"""
_BLANKS: Final = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""Characters that show as nothing and that Unicode does not call formats."""
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9]|lpt[0-9]) *(?:\.|$)")
"""Names that are devices to Windows, whatever ending follows them:
https://learn.microsoft.com/windows/win32/fileio/naming-a-file. NFKC makes digits of superscripts,
as Windows does.
"""
_FOLD: Final = re.compile(r"\r?\n(?=[ \t])")
_PLAIN: Final = re.compile(r"[A-Za-z0-9 ._()+-]{1,60}")


@dataclass(frozen=True)
class MimePart:
    """An encoded part: its headers and its body."""

    data: bytes = field(repr=False)
    inline: bool
    """Whether it is shown inside the message, by its content id."""


def check_filename(name: str) -> str:
    """A name that a reader can store, without spaces around it.

    Raises:
        ValueError: it is empty, a path, a device of Windows, hides its ending or has one that
        Windows drops, or is of a
            kind that Gmail refuses.
    """
    name = name.strip()
    if not name or len(name) > MAX_FILENAME:
        raise ValueError(t("must have 1 to 255 characters"))
    if found := _CONTROL.search(name):
        raise ValueError(t("contains the control character U+{it:04X}", it=ord(found[0])))
    if "/" in name or "\\" in name or name in {".", ".."}:
        raise ValueError(t("is a path; give only the file name"))
    if why := _wrong_for_windows(name):
        raise ValueError(why)
    if unseen := _unseen(name):
        raise ValueError(t("contains U+{unseen:04X}, which is invisible", unseen=ord(unseen)))
    # In the form that compares (full-width messages, the one dot leader), since a reader's program
    # may store that.
    _, dot, ending = normalize("NFKC", name).lower().rpartition(".")
    if dot and ending in BLOCKED:
        raise ValueError(t("ends in .{ending}, which Gmail rejects", ending=ending))
    return name


def _wrong_for_windows(name: str) -> str:
    """Why Windows would not store a file by this name, or ""."""
    if ":" in name:
        return t("contains a colon; Windows takes what follows for a stream of the file")
    if name.endswith("."):
        return t("ends in a dot, which Windows removes")
    if device := _DEVICE.match(normalize("NFKC", name).lower()):
        return t(
            "is {upper}, which is a device name on Windows", upper=device[0].rstrip(" .").upper()
        )
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
        raise ValueError(t("is not base64: {error}", error=error)) from None
    if empty:
        raise ValueError(t("is empty"))
    return content


def check_content_type(kind: str) -> str:
    """A content type without parameters, in lower case.

    Raises:
        ValueError: it is not a content type, or not that of a single file.
    """
    if not CONTENT_TYPE.fullmatch(kind):
        raise ValueError(t("must be a type such as application/pdf, without parameters"))
    if kind.lower().startswith(("multipart/", "message/")):
        raise ValueError(t("must be the type of a single file, not multipart or message"))
    return kind.lower()


def check_content_id(content_id: str) -> str:
    """A content id, for `cid:` links.

    Raises:
        ValueError: it would not survive in a header or a link.
    """
    if not CONTENT_ID.fullmatch(content_id):
        raise ValueError(
            t(
                "must consist of A-Z, a-z, digits, dots, dashes and underscores, such as logo or logo@example.com"
            )
        )
    return content_id


def check_size(size: int) -> int:
    """The size of a message, in bytes.

    Raises:
        ValueError: Google does not take a message of this size.
    """
    if size > MAX_MESSAGE_BYTES:
        raise ValueError(
            t(
                "the message has {size:,} bytes, above Google's limit of {max_message_bytes:,} (35 MiB)",
                size=size,
                max_message_bytes=MAX_MESSAGE_BYTES,
            )
        )
    return size


def encoded_size(size: int, *, filename: str) -> int:
    """Bytes that a file of `size` bytes takes up in a message at most."""
    lines = -(-size // _LINE)
    return _PART_OVERHEAD + len(_named("filename", filename)) + -(-size // 3) * 4 + 2 * lines


def check_together(files: Iterable[tuple[str, int]]) -> None:
    """Names and bytes of all files of one message.

    Raises:
        ValueError: Google does not take a message with them.
    """
    size = sum(encoded_size(size, filename=name) for name, size in files)
    if size > MAX_MESSAGE_BYTES:
        raise ValueError(
            t(
                "make messages of about {size:,} bytes, above Google's limit of {max_message_bytes:,} (35 MiB "
                "including base64); the files may total about 25 MB",
                size=size,
                max_message_bytes=MAX_MESSAGE_BYTES,
            )
        )


def encode_attachment(
    content: bytes, *, filename: str, content_type: str, content_id: str | None
) -> MimePart:
    """Encode a file as a part; the values were checked before."""
    kind = "inline" if content_id else "attachment"
    charset = '; charset="utf-8"' if content_type.startswith("text/") and _is_utf8(content) else ""
    lines = [
        f"Content-Type: {content_type}{charset}",
        f"Content-Disposition: {kind};{_named('filename', filename)}",
    ]
    if content_id:
        lines.append(f"Content-ID: <{content_id}>")
    lines += ["Content-Transfer-Encoding: base64", "", ""]
    return MimePart(
        "\r\n".join(lines).encode("ascii") + encodebytes(content).replace(b"\n", b"\r\n"),
        inline=content_id is not None,
    )


def _is_utf8(content: bytes) -> bool:
    """Whether a text must say that it is UTF-8: without a charset it is ASCII (RFC 2046, 4.1.2)."""
    try:
        return not content.isascii() and bool(content.decode())
    except UnicodeDecodeError:
        return False


def _named(parameter: str, value: str) -> str:
    """A parameter of a header (RFC 2231), in pieces where it is long: no line is over 78
    characters.

    The standard library would write a name such as `=?utf-8?q?x?=` as it is, which readers decode
    (`EmailMessage`), or a line of 3,000 characters (`Message.add_header`).
    """
    if _PLAIN.fullmatch(value):
        return f'\r\n {parameter}="{value}"'
    pieces = ["utf-8''"]
    for (
        character
    ) in value:  # none ends within a character: some readers decode each piece for itself
        encoded = parse.quote(character, safe="")
        if len(pieces[-1]) + len(encoded) > _MAX_PIECE:
            pieces.append("")
        pieces[-1] += encoded
    if len(pieces) == 1:
        return f"\r\n {parameter}*={pieces[0]}"
    return ";".join(f"\r\n {parameter}*{number}*={piece}" for number, piece in enumerate(pieces))


# Checks email addresses: email-validator decides, and plain addresses of a domain that it knows are
# accepted here.

MAX_ADDRESS: Final = 254
"""The most characters of an address (RFC 3696, erratum 1690)."""
MAX_LOCAL_PART: Final = 64
"""The most octets before the @ (RFC 5321, section 4.5.3.1.1)."""
_MAX_DOMAINS: Final = 50_000

# The dot-atom of RFC 5322, section 3.2.3, which email-validator accepts as it stands.
_PLAIN_LOCAL: Final = re.compile(
    r"[\w!#$%&'*+\-/=?^`{|}~]+(?:\.[\w!#$%&'*+\-/=?^`{|}~]+)*", re.ASCII
)


class Addresses:
    """Checks many addresses fast: each plain domain is validated once."""

    def __init__(self) -> None:
        self._good: set[str] = set()

    def check(self, given: str) -> str:
        """The address without surrounding spaces and with its domain in lower case, in ASCII: as a
        header takes it.

        Raises:
            ValueError: it is not an address; the text says why.
        """
        address = given.strip()
        if (
            over := len(address) - MAX_ADDRESS
        ) > 0:  # email-validator looks at each character before it counts them
            raise ValueError(tn("is {n} character too long", "is {n} characters too long", over))
        local, at, domain = address.rpartition("@")
        domain = domain.lower()
        address = f"{local}{at}{domain}"
        if len(local) <= MAX_LOCAL_PART and _PLAIN_LOCAL.fullmatch(local):
            if domain in self._good:
                return address
            _validate(f"x@{domain}")
            # A domain that is not plain ASCII may be longer in its ASCII form, so it is validated
            # each time.
            if domain.isascii() and "xn--" not in domain and len(self._good) < _MAX_DOMAINS:
                self._good.add(domain)
                return address
        ascii_domain = _validate(address)
        return f"{local}{at}{ascii_domain}"


_NO_ADDRESS: Final = (
    ("An email address must have an @", N_("has no @")),
    ("There must be something before", N_("has nothing before the @")),
    ("There must be something after", N_("has nothing after the @")),
    ("There can't be anything after", N_("has something after the address")),
    ("An email address cannot have two periods", N_("has two periods in a row")),
    ("An email address cannot have a hyphen", N_("has a misplaced hyphen")),
    ("An email address cannot end with a hyphen", N_("has a misplaced hyphen")),
    ("An email address cannot", N_("has a misplaced period")),
    ("The email address is too long before", N_("is too long before the @")),
    ("The email address is too long after", N_("is too long after the @")),
    ("After the @-sign, periods", N_("is too long after the @")),
    ("The email address is too long", N_("is too long")),
    ("Internationalized characters before", N_("has characters before the @ that are not ASCII")),
    (
        "The email address contains invalid characters before",
        N_("has invalid characters before the @"),
    ),
    (
        "The email address contains invalid characters in quotes",
        N_("has invalid characters before the @"),
    ),
    ("The email address contains", N_("has invalid characters")),
    ("The part after the @-sign contains", N_("has invalid characters after the @")),
    (
        "The part after the @-sign is not valid. It should have a period",
        N_("has no period after the @"),
    ),
    (
        "The part after the @-sign is not valid. It is not within",
        N_("has no valid top-level domain"),
    ),
    (
        "The part after the @-sign is a special-use",
        N_("has a reserved domain, which receives no mail"),
    ),
    ("The part after the @-sign", N_("has an invalid domain")),
    ("The ", N_("has an invalid domain")),
)
"""What is wrong with an address, by how the sentence of email-validator begins."""


def _why_no_address(said: str) -> Text:
    why = t(
        next(
            (ours for begins, ours in _NO_ADDRESS if said.startswith(begins)),
            N_("is not an email address"),
        )
    )
    which = said.partition(": ")[2].rstrip(".")
    return t("{why}: {which}", why=why, which=which) if which else why


def _validate(address: str) -> str:
    """The domain as DNS and headers have it (RFC 5891)."""
    try:
        # Without SMTPUTF8: a mailbox name outside ASCII could not be written into a header.
        return validate_email(
            address, check_deliverability=False, allow_smtputf8=False, strict=True
        ).ascii_domain
    except EmailNotValidError as error:
        raise ValueError(_why_no_address(str(error))) from None


def mailbox(given: str) -> str:
    """A sender's address in lower case: to Google, Me@ and me@ are one mailbox, and limits are per
    mailbox.

    Raises:
        ValueError: it is not an address.
    """
    return Addresses().check(given).lower()


def unsubscribe_mailbox(mailbox: str) -> str:
    """Where a message that unsubscribes goes: the mailbox that is read, with a tag by which a
    filter can find it.

    It is never an alias of it, and it has no tag where its name would become too long.
    """
    local, _, domain = mailbox.rpartition("@")
    tagged = f"{local}+unsub"
    return f"{tagged if len(tagged) <= MAX_LOCAL_PART else local}@{domain}"


MAX_LINE: Final = 78
"""The most characters of a line that RFC 5322, 2.1.1 recommends; it allows 998."""
_MAX_FOLDED: Final = 76
"""The most of a line with encoded words, which leaves each of them at most 75 (RFC 2047, section
2).
"""
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ATOMS: Final = re.compile(rf"{_ATOM}(?: {_ATOM})*")
"""A display name that needs no quotes."""
_ADDRESS: Final = re.compile(
    rf"""(?:{_ATOM}(?:\.{_ATOM})*|"(?:[ !\x23-\x5b\x5d-\x7e]|\\[ -~])*")@[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"""
)
_URL: Final = re.compile(r"[!#-;=?-~]{1,900}")
"""Printable ASCII without spaces, quotes and angle brackets."""
_MAX_ADDRESS: Final = 320
_MAX_TOKEN: Final = 900
"""Characters of a value that is not folded: 998 less the header's name."""


@dataclass(frozen=True)
class ListHeaders:
    """What a message says of the list that it belongs to (RFC 2369, RFC 2919, RFC 8058)."""

    url: str
    """The https URL, which acts on a POST; empty where there is no public address."""
    mailto: str
    title: str
    list_id: str
    """The list's id, such as `news.example.com`."""

    def lines(self) -> list[str]:
        """The header lines; each URL whole in a line of its own, and the https one first, which
        Google uses.
        """
        if not self.url:
            return [f"List-Unsubscribe: <{_url(self.mailto)}>", self._list_id()]
        return [
            f"List-Unsubscribe: <{_url(self.url)}>,\r\n <{_url(self.mailto)}>",
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
            self._list_id(),
        ]

    def _list_id(self) -> str:
        title = _check(self.title, header="List-Id")
        charset = _charset(title)
        phrase = title if charset != "us-ascii" or _ATOMS.fullmatch(title) else f'"{quote(title)}"'
        line = Header(phrase, charset, maxlinelen=_MAX_FOLDED, header_name="List-Id")
        line.append(f"<{_url(self.list_id)}>", "us-ascii")
        return _folded("List-Id", line)


# Headers that the application gives: an allow-list, since on most others Google, mail servers and
# readers act.

MAX_HEADER_VALUE: Final = 900
"""Characters of a value: with the longest name it fits into the 998 of a line (RFC 5322, 2.1.1)."""
HEADER_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_MESSAGE_IDS: Final = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>(?: <[!-;=?A-~]+@[!-;=?A-~]+>)*")
"""Printable ASCII between angle brackets, with one @ inside."""
_IDS: Final = ("In-Reply-To", "References")
_WORDS: Final = (
    "Auto-Submitted",
    "Content-Language",
    "Feedback-ID",
    "Importance",
    "Precedence",
    "Priority",
    "Sensitivity",
)
"""Programs read them, so their values are ASCII."""
_TEXTS: Final = ("Comments", "Keywords", "Organization")
_REFUSED: Final = (
    (("x-mailerd-", "date:", "message-id:"), N_("is set by mailerd")),
    (("x-google-", "x-gm-", "sender:"), N_("is set by Google")),
    (
        (
            "return-path:",
            "received:",
            "resent-",
            "delivered-to:",
            "x-original-",
            "x-failed-recipients:",
            "dkim-",
            "arc-",
            "authentication-results:",
        ),
        N_("is set by mail servers"),
    ),
    (("list-",), N_("is for mailing lists: use the field list")),
    (("mime-version:", "content-"), N_("describes the parts of the message, which mailerd writes")),
    (
        ("disposition-notification-to:", "return-receipt-to:", "x-confirm-reading-to:"),
        N_("asks for a read receipt; mailerd does not track recipients"),
    ),
)
"""How refused names begin, in lower case and with a colon at their end, and why they are
refused.
"""
_FIELDS: Final = {
    "from": "sender_email",
    "to": "email",
    "cc": "cc",
    "bcc": "bcc",
    "reply-to": "reply_to",
    "subject": "template",
}
"""Names of headers that have a field of their own."""


def check_header(name: str, value: str) -> None:
    """Refuse a header that an application may not give.

    Raises:
        ValueError: the name is not on the list, or the value is not one that it may have.
    """
    low = name.lower()
    if not HEADER_NAME.fullmatch(name):
        raise ValueError(
            t("is not a header name such as X-Order: at most 64 of A-Z, a-z, 0-9 and -")
        )
    if field_ := _FIELDS.get(low):
        raise ValueError(t("is a field of its own: {field}", field=field_))
    known = {each.lower() for each in (*_IDS, *_WORDS, *_TEXTS)}
    why = next((why for begins, why in _REFUSED if f"{low}:".startswith(begins)), None)
    if low not in known and why:
        raise ValueError(t(why))
    if low not in known and not low.startswith("x-"):
        names = ", ".join(sorted((*_IDS, *_WORDS, *_TEXTS)))
        raise ValueError(t("is not allowed; allowed are X-… and {names}", names=names))
    if len(value) > MAX_HEADER_VALUE:
        raise ValueError(t("is longer than {n} characters", n=MAX_HEADER_VALUE))
    if found := CONTROL.search(value):
        raise ValueError(t("contains the control character U+{it:04X}", it=ord(found[0])))
    if not value.strip():
        raise ValueError(t("must not be empty"))
    if low in {each.lower() for each in _IDS} and (
        "=?" in value or not _MESSAGE_IDS.fullmatch(value)
    ):
        raise ValueError(
            t("must consist of message IDs such as <order-17@example.com>, separated by one space")
        )
    if low in {each.lower() for each in _WORDS} and not value.isascii():
        raise ValueError(t("must be ASCII"))


def merged_headers(of_all: Mapping[str, str], own: Mapping[str, str]) -> Mapping[str, str]:
    """The headers of a job with those of one recipient, which win by their names."""
    names = {name.lower() for name in own}
    return {**{name: value for name, value in of_all.items() if name.lower() not in names}, **own}


def _given_line(name: str, value: str) -> str:
    """The line of a header that the application gives: ASCII as it is, since a program compares it.

    Raises:
        ValueError: it may not give this one; or see `_check`.
    """
    try:
        check_header(name, value)
    except ValueError as error:
        raise ValueError(t("{part}: {why}", part=name, why=str(error))) from None
    if value.isascii() and "=?" not in value:
        return f"{name}: {_check(value, header=name)}"
    return _text_line(name, value)


@dataclass(frozen=True)
class Envelope:
    """Who writes to whom.

    Addresses are ASCII (a domain of other characters as `xn--…`), names are any text.

    `key` becomes X-Mailerd-Key, by which a message is found again: Google replaces the Message-ID,
    and keeps X- headers. `proof` becomes X-Mailerd-Proof, by which it is believed when it comes
    back.
    """

    sender_email: str
    sender_name: str | None
    reply_to: str | None
    to_email: str
    to_name: str | None
    key: str
    list_headers: ListHeaders | None = None
    proof: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those that the application gives."""
    copies: Sequence[Copy] = ()
    """Google sends the copies that the headers name, and takes Bcc out of what is sent."""

    @property
    def unsubscribe_url(self) -> str:
        """What a template sees as `unsubscribe_url`; empty where there is none."""
        return self.list_headers.url if self.list_headers else ""


def compose(
    content: Content,
    envelope: Envelope,
    *,
    date: datetime,
    message_id: str,
    attachments: Sequence[MimePart] = (),
) -> bytes:
    """A message: text alone, or text and HTML as alternatives, with its attachments.

    Raises:
        ValueError: a value cannot stand in its header (it has a line break, for example), and the
        header is named;
            or `date` is naive; or the message is larger than Google takes.
    """
    if date.tzinfo is None:
        raise ValueError("Date: a time without a time zone")
    lines = [
        _address_line("From", envelope.sender_email, envelope.sender_name),
        _address_line("To", envelope.to_email, envelope.to_name),
        _text_line("Subject", content.subject),
        f"Date: {format_datetime(date.astimezone(UTC))}",
        _token_line("Message-ID", message_id),
        _token_line("X-Mailerd-Key", envelope.key),
        "MIME-Version: 1.0",
    ]
    if envelope.proof:
        lines.append(_token_line(PROOF_HEADER, envelope.proof))
    if envelope.list_headers:
        lines += envelope.list_headers.lines()
    for header in ("Cc", "Bcc"):
        if named := [it for it in envelope.copies if it.header == header.lower()]:
            lines.append(_copies_line(header, named))
    lines += [_given_line(name, value) for name, value in envelope.headers.items()]
    if envelope.reply_to:
        lines.insert(1, _address_line("Reply-To", envelope.reply_to, None))
    message = b"\r\n".join(("\r\n".join(lines).encode("ascii"), _body(content, attachments)))
    check_size(len(message))
    return message


_MADE_ANEW: Final = frozenset(
    {"Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"}
)


def shown_headers(subject: str, envelope: Envelope) -> dict[str, str]:
    """The headers of a message as people read them, but its subject and those that are made anew
    with each message.

    Raises:
        ValueError: as `compose`.
    """
    raw = compose(
        Content(subject, None, ""), envelope, date=datetime.now(UTC), message_id="<0@example.com>"
    )
    return {
        name: str(make_header(decode_header(_FOLD.sub("", value))))
        for name, value in message_from_bytes(raw).items()
        if name not in _MADE_ANEW
    }


def _url(value: str) -> str:
    """A URL or an identifier as it may stand between angle brackets.

    Raises:
        ValueError: it could end there, or begin another header.
    """
    if not _URL.fullmatch(value):
        raise ValueError(f"List-Unsubscribe: {value!r} is not a plain URL")
    return value


def _text_line(header: str, value: str) -> str:
    """A line of free text, folded and encoded as it needs."""
    value = _check(value, header=header)
    if _charset(value) == "us-ascii" and len(header) + 2 + len(value) <= MAX_LINE:
        return f"{header}: {value}"
    return _folded(
        header, Header(value, _charset(value), maxlinelen=_MAX_FOLDED, header_name=header)
    )


def _address_line(header: str, address: str, name: str | None) -> str:
    """A line of one address, with its name if there is one.

    Raises:
        ValueError: the address is not one that can stand in a header, which would let another
        recipient in, or it is
            not ASCII; or see `_check`.
    """
    if len(address) > _MAX_ADDRESS or not _ADDRESS.fullmatch(address):
        raise ValueError(
            t(
                "{header}: {address!r} is not an ASCII address such as name@example.com",
                header=header,
                address=address,
            )
        )
    name = _check(name or "", header=header)
    if not name:
        return f"{header}: {address}"
    quoted = name if _ATOMS.fullmatch(name) else f'"{quote(name)}"'
    if _charset(name) == "us-ascii" and len(quoted) + len(header) + len(address) + 5 <= MAX_LINE:
        return f"{header}: {quoted} <{address}>"
    line = Header(name, "utf-8", maxlinelen=_MAX_FOLDED, header_name=header)
    line.append(f"<{address}>", "us-ascii")
    return _folded(header, line)


def _copies_line(header: str, copies: Sequence[Copy]) -> str:
    """A line of several addresses, each on a line of its own; raises as `_address_line` does."""
    each = (_address_line(header, it.email, it.name).removeprefix(f"{header}: ") for it in copies)
    return f"{header}: {',\r\n '.join(each)}"


def _token_line(header: str, value: str) -> str:
    """A line whose value is for machines: short, ASCII, without spaces.

    Raises:
        ValueError: it is not; the header is named.
    """
    value = _check(value, header=header)
    if not value or not value.isascii() or " " in value or len(value) > _MAX_TOKEN:
        raise ValueError(f"{header}: {value!r} is not a word of ASCII characters")
    return f"{header}: {value}"


def _check(value: str, *, header: str) -> str:
    """A value that may stand in a header, its tabs as spaces and without spaces around it.

    Raises:
        ValueError: it has a line break, another control character, or half a character; the header
        is named.
    """
    line = value.replace("\t", " ").strip(" ")
    if CONTROL.search(line):
        raise ValueError(
            t("{header}: line break or control character in {value!r}", header=header, value=value)
        )
    try:
        line.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            t(
                "{header}: half a character (a lone surrogate) in {value!r}",
                header=header,
                value=value,
            )
        ) from error
    return line


def _charset(value: str) -> str:
    """Text that looks like an encoded word, or has a word too long for a line, is encoded although
    it is ASCII.
    """
    plain = (
        value.isascii() and "=?" not in value and max(map(len, value.split(" "))) < MAX_LINE // 2
    )
    return "us-ascii" if plain else "utf-8"


def _folded(header: str, value: Header) -> str:
    return f"{header}: {value.encode(linesep=chr(13) + chr(10))}"


def _body(content: Content, attachments: Sequence[MimePart]) -> bytes:
    """Mixed of related of alternative, each only where it is needed (RFC 2046, RFC 2387)."""
    body = _text_part(content.text, subtype="plain")
    if content.html is not None:
        body = _multipart("alternative", [body, _text_part(content.html, subtype="html")])
        if inline := [each.data for each in attachments if each.inline]:
            # It names the type of its first part (RFC 2387, 3.1).
            body = _multipart('related; type="multipart/alternative"', [body, *inline])
    # An image has no place inside a message of plain text: there it is attached.
    rest = [each.data for each in attachments if not each.inline or content.html is None]
    return _multipart("mixed", [body, *rest]) if rest else body


def _multipart(subtype: str, parts: Sequence[bytes]) -> bytes:
    # "=_" cannot come up in quoted-printable or base64, and the rest cannot be guessed.
    boundary = f"=_{os.urandom(12).hex()}"
    delimiter = f"\r\n--{boundary}"
    pieces = [f'Content-Type: multipart/{subtype};\r\n boundary="{boundary}"\r\n'.encode()]
    for part in parts:
        pieces += (f"{delimiter}\r\n".encode(), part)
    return b"".join([*pieces, f"{delimiter}--\r\n".encode()])


def _text_part(text: str, *, subtype: str) -> bytes:
    """The headers and the body of a text part, in the encoding that is shortest for it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    raw = text.encode()
    if len(raw) == len(text) and max(map(len, text.split("\n"))) <= MAX_LINE:
        encoding, body = "7bit", raw
    elif (len(raw) - len(text)) * 8 > len(raw):
        # Quoted-printable triples what is not ASCII, base64 adds a third to everything. Within it
        # the lines end as in all text of mail (RFC 2045, 6.8); the lines of the others do so below.
        encoding, body = "base64", base64.encodebytes(raw.replace(b"\n", b"\r\n"))
    else:
        encoding, body = "quoted-printable", quopri.encodestring(raw)
    head = (
        f'Content-Type: text/{subtype}; charset="utf-8"\nContent-Transfer-Encoding: {encoding}\n\n'
    )
    return (head.encode() + body).replace(b"\n", b"\r\n")
