"""Who gets no messages: the reasons, the mailbox behind an address, the tokens of unsubscribe
links, cells of CSV.

A token names a list, a recipient and a digest of the address, and carries a MAC. It holds no
address, so none ends in a proxy's log, and it needs no row, so it works after the message's row has
been pruned. It does not expire. What it says is masked, so that without the key it is like any
random bytes: a template cannot tell a message's from that of a check.
"""

import base64
import contextlib
import hashlib
import hmac
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from unicodedata import normalize

from mailerd.core.i18n import N_, Text, t
from mailerd.core.rate_limit import CONSUMER_DOMAINS
from mailerd.core.reasons import reason

# Texts in a CSV that a person may open: no cell is a formula to a spreadsheet, and each can be read
# back as it was.

_CELL_START: Final = re.compile(r"(?:^|[;\t\r\n|])[\s\"'\u200b-\u200f\u2060\ufeff]*")
"""Where a cell may begin: at the start of the text and after the separators that spreadsheets of
some countries use, with blanks and quotation marks in between.
"""
_FORMULA_SIGNS: Final = frozenset("=+-@＝＋－＠﹦﹢﹣﹫−⁼⁺⁻")
"""Excel reads the full-width and small forms of a sign as the sign."""


def without_formula(text: str) -> str:
    """The text with an apostrophe before each sign that a spreadsheet would begin a formula with
    (OWASP).
    """
    return _CELL_START.sub(
        lambda found: found[0] + "'" if _is_sign(text, found.end()) else found[0], text
    )


def as_it_was(text: str) -> str:
    """The text from which `without_formula` made this one."""
    return _CELL_START.sub(
        lambda found: found[0].removesuffix("'") if _is_sign(text, found.end()) else found[0], text
    )


def _is_sign(text: str, at: int) -> bool:
    return text[at : at + 1] in _FORMULA_SIGNS


EVERYTHING: Final = 0
"""The list id of a suppression that binds every job, whatever its list."""
EVERYTHING_NAME: Final = "everything"
"""What logs and tables show in place of that list's name."""
DIGEST_BYTES: Final = 16
SECRET_BYTES: Final = 32
"""The length of each key here, as HMAC-SHA256 has it (RFC 2104, section 3)."""

MAX_LOOKUP_AGE: Final = 2.0
"""The most seconds between the query for a suppression and the first byte of the send that it
allowed.
"""
ANSWER_DELAY: Final = 2.5
"""Seconds from the COMMIT of an unsubscribe to its answer: by then each send that did not see it
has begun.
"""

_MAX_DOMAIN: Final = 253
_MAX_LABEL: Final = 63
"""Octets of a domain's text and of each of its labels (RFC 1035, section 2.3.4); its ASCII form is
no shorter.
"""
_KEPT: Final = re.compile("[ßς\u200c\u200d]")
"""What Python's IDNA of 2003 maps to something else, so that faß.de were fass.de; all else keeps it
(RFC 5894, 7.2).
"""
_DOT: Final = re.compile("[.\u3002\uff0e\uff61]")
"""What IDNA takes for a dot (RFC 3490, section 3.1)."""
_VERSION: Final = 1
_FIELDS: Final = struct.Struct(">BBIQ16s")
_MAC_BYTES: Final = 16


class Reason(StrEnum):
    """Why an address is suppressed: column `suppressions.reason`."""

    UNSUBSCRIBED = "unsubscribed"
    """The person left the list."""
    HARD_BOUNCE = "hard_bounce"
    """The mailbox does not exist. No job may override this one."""
    COMPLAINED = "complained"
    """The person called a message spam."""
    MANUAL = "manual"
    """An operator or an application asked for it."""
    IMPORTED = "imported"
    """It came from another system's list."""

    @property
    def strength(self) -> int:
        """A stronger reason takes the place of a weaker one."""
        return {Reason.HARD_BOUNCE: 2, Reason.COMPLAINED: 1}.get(self, 0)

    @property
    def binds_always(self) -> bool:
        """Whether no job may override it."""
        return self is Reason.HARD_BOUNCE


class Channel(StrEnum):
    """The source of a suppression: column `suppressions.source`."""

    ONE_CLICK = "one_click"
    """A mail program's button (RFC 8058)."""
    PAGE = "page"
    """The button of our own page."""
    MAILTO = "mailto"
    """A message to the unsubscribe address."""
    NOTICE = "notice"
    """A delivery status notification."""
    API = "api"
    CLI = "cli"
    IMPORT = "import"


@dataclass(frozen=True)
class AddedSuppression:
    """A suppression that a commit has added, as logs tell of it."""

    address: str
    """The address; empty where it is not known."""
    mailing_list: str
    reason: Reason
    source: Channel


@dataclass(frozen=True)
class UnsubscribeToken:
    """What an unsubscribe link says."""

    list_id: int
    recipient_id: int
    """The row of the message that carried the link; 0 in a preview."""
    digest: bytes


def canonical(address: str) -> str:
    """The address in the one form under which a person is suppressed.

    Lower case throughout: no mailbox of a large provider tells cases apart, and who has opted out
    as Me@ must not get messages as me@. The dots of a Gmail address go, since Gmail ignores them
    (https://support.google.com/mail/answer/7436150); what follows a `+` stays: it may be another
    person's filter.
    """
    local, _, domain = address.strip().lower().rpartition("@")
    # IDNA leaves ASCII as it is, at the price of a microsecond; of what is too long it looks at
    # each character first.
    if (
        not domain.isascii()
        and len(domain) <= _MAX_DOMAIN
        and max(map(len, domain.split("."))) <= _MAX_LABEL
    ):
        with contextlib.suppress(UnicodeError):  # what is no domain stays as it is
            domain = (
                ".".join(map(_ascii, _DOT.split(domain)))
                if _KEPT.search(domain)
                else _ascii(domain)
            )
    if domain in CONSUMER_DOMAINS:
        return f"{local.replace('.', '')}@gmail.com"
    return f"{local}@{domain}"


def _ascii(domain: str) -> str:
    """A domain as DNS has it; one with a character of `_KEPT` label by label."""
    if _KEPT.search(domain):
        return f"xn--{normalize('NFKC', domain).encode('punycode').decode('ascii')}"
    return domain.encode("idna").decode("ascii")


def digest_of(address: str, key: bytes) -> bytes:
    """What stands for an address: HMAC-SHA256 of its canonical form, so that a table of digests
    names no person.
    """
    return hmac.digest(key, canonical(address).encode("utf-8"), hashlib.sha256)[:DIGEST_BYTES]


def make_token(token: UnsubscribeToken, *, key_id: int, key: bytes) -> str:
    """The token as 62 characters that any URL or subject line takes."""
    said = _FIELDS.pack(_VERSION, key_id, token.list_id, token.recipient_id, token.digest)
    mac = _mac(said, key)
    return encode_token(_masked(said, mac, key) + mac)


TOKEN_BYTES: Final = _FIELDS.size + _MAC_BYTES


def encode_token(raw: bytes) -> str:
    """`TOKEN_BYTES` as a token is written.

    Random ones make a link that does nothing, and does not look so.
    """
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


DEAD_TOKEN: Final = "A" * 62
"""As long as a token, and seen to be none: for previews, whose links must do nothing."""


def read_token(text: str, keys: Mapping[int, bytes]) -> UnsubscribeToken | None:
    """What the token says, where one of `keys` (by id) made it; None where none did.

    Each of the few is tried.

    Each form but the one that `make_token` writes is refused, so that one link has one spelling.
    """
    try:
        raw = base64.b64decode(text.encode("ascii") + b"==", altchars=b"-_", validate=True)
    except ValueError:
        return None
    if len(raw) != TOKEN_BYTES or encode_token(raw) != text:
        return None
    hidden, mac = raw[: _FIELDS.size], raw[_FIELDS.size :]
    for key_id, key in keys.items():
        said = _masked(hidden, mac, key)
        version, named, list_id, recipient_id, digest = _FIELDS.unpack(said)
        if hmac.compare_digest(mac, _mac(said, key)) and (version, named) == (_VERSION, key_id):
            return UnsubscribeToken(list_id, recipient_id, digest)
    return None


_WORDS: Final = {
    Reason.UNSUBSCRIBED: N_("unsubscribed"),
    Reason.HARD_BOUNCE: N_("hard_bounce"),
    Reason.COMPLAINED: N_("complained"),
    Reason.MANUAL: N_("manual"),
    Reason.IMPORTED: N_("imported"),
}


def why_suppressed(why: str) -> Text:
    """What stands in a recipient's `error`."""
    return reason("suppressed", reason=t(_WORDS[Reason(why)]))


def masked(address: str) -> str:
    """The address as a page may show it to a person who holds a link: `a•••@example.com`; `•••`
    where it is empty.
    """
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}•••{at}{domain}"


def _mac(said: bytes, key: bytes) -> bytes:
    return hmac.digest(key, said, hashlib.sha256)[:_MAC_BYTES]


def _masked(said: bytes, mac: bytes, key: bytes) -> bytes:
    """Mask what a token says, or take the mask off: the MAC, which no two tokens share, stands for
    a nonce (RFC 5297).

    The MAC is made of 30 bytes, and the mask of 16, so that neither is ever the other.
    """
    mask = hmac.digest(key, mac, hashlib.sha256)
    return bytes(one ^ other for one, other in zip(said, mask, strict=False))
