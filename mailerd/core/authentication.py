"""Whether Google vouches for a message: the Authentication-Results that Google wrote on top of it (RFC 8601).

Any sender can write "mailer-daemon" into From, and headers of that name further down. Google puts its own first.
"""

import re
from enum import StrEnum
from typing import Final

from mailerd.core.notices import MAX_HEADER, InboxMessage

_GOOGLE: Final = "mx.google.com"
_GOOGLES_DOMAINS: Final = frozenset({"googlemail.com", "google.com"})
_DAEMON: Final = frozenset({"mailer-daemon@googlemail.com", "mailer-daemon@google.com"})
_ADDRESS: Final = r"[^\s<>@,;:()\"]+@[^\s<>@,;:()\"]+"
_ONE_WRITER: Final = re.compile(rf"(?:[^<>@,;:]*<\s*({_ADDRESS})\s*>|\s*({_ADDRESS}))\s*")
_UNCLOSED: Final = "\0"
"""Stands where a comment or a quoted string has no beginning or no end."""
_DMARC: Final = re.compile(r"dmarc\s*=\s*([a-z]+)(?!\S)", re.IGNORECASE)
_HEADER_FROM: Final = re.compile(r"(?<![\w.-])header\.from\s*=\s*([^\s;]+)", re.IGNORECASE)
_ENCODED: Final = "=?"
"""How an encoded word begins (RFC 2047): nothing in a result is one, and who decodes it lets it close a quote."""


class Dmarc(StrEnum):
    """Google's result of DMARC for a message (RFC 7489)."""

    PASS = "pass"  # noqa: S105 - a result, not a secret
    FAIL = "fail"
    """The domain disowns it; or what Google wrote cannot be read, since a stranger's words in it break its form."""
    NONE = "none"
    """There is no policy, no result, or nothing that Google wrote."""


def dmarc(message: InboxMessage) -> tuple[Dmarc, str]:
    """Google's result, and the domain of From that it is about."""
    value = message.first("authentication-results")
    bare = _without_words_of_others(value)
    authority, _, rest = bare.partition(";")
    if authority.strip().lower() != _GOOGLE:
        return Dmarc.NONE, ""
    results = [part.strip() for part in rest.split(";") if _DMARC.match(part.strip())]
    broken = _UNCLOSED in bare or _ENCODED in value or len(value) >= MAX_HEADER
    if broken or len(results) > 1:  # Google writes one; two are a forger's trick
        return Dmarc.FAIL, ""
    if not results:
        return Dmarc.NONE, ""
    said, domains = _DMARC.match(results[0]), _HEADER_FROM.findall(results[0])
    result = said[1].lower() if said else ""
    domain = domains[0].lower() if len(domains) == 1 else ""
    return (Dmarc(result) if result in ("pass", "fail") else Dmarc.NONE), domain


def is_googles(message: InboxMessage) -> bool:
    """Whether Google itself wrote the message, by Google's own word.

    Both headers are Google's alone: a stranger's local part in the results, however it is quoted, cannot take away the
    result that Google has for the stranger's From, so that "dmarc" stands there twice.
    """
    result, domain = dmarc(message)
    once = message.first("authentication-results").lower().count("dmarc") == 1
    return once and _writer(message) in _DAEMON and result is Dmarc.PASS and domain in _GOOGLES_DOMAINS


def _writer(message: InboxMessage) -> str:
    """The one address of the one From, in lower case; "" where another stands anywhere in it: a result is about one."""
    froms = message.all("from")
    if len(froms) != 1 or froms[0].count("@") != 1:
        return ""
    found = _ONE_WRITER.fullmatch(_without_words_of_others(froms[0]))
    return (found[1] or found[2]).lower() if found else ""


def is_forged(message: InboxMessage) -> bool:
    """Whether the domain in From did not write the message: by its policy, or because Google vouches for its own."""
    named = re.findall(_ADDRESS, ", ".join(message.all("from")).lower())
    return dmarc(message)[0] is Dmarc.FAIL or (not _DAEMON.isdisjoint(named) and not is_googles(message))


def _without_words_of_others(value: str) -> str:
    """The header with a space for each comment and "" for each quoted string: what is in them is the writer's choice.

    `_UNCLOSED` stands at the end where one of them does not end.
    """
    kept, depth, quoted, escaped = list[str](), 0, False, False
    for character in value:
        if escaped:
            escaped = False
        elif character == "\\" and (quoted or depth):
            escaped = True
        elif quoted:
            quoted = character != '"'
        elif character == '"' and not depth:
            quoted = True
            kept.append('""')
        elif character in "()":
            depth = depth + 1 if character == "(" else depth - 1
            kept.append(" " if depth >= 0 else _UNCLOSED)
            depth = max(0, depth)
        elif not depth:
            kept.append(character)
    return "".join(kept) + (_UNCLOSED if quoted or depth else "")
