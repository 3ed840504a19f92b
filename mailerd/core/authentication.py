"""Whether Google vouches for a message: the Authentication-Results that Google wrote on top of it (RFC 8601).

Any sender can write "mailer-daemon" into From, and headers of that name further down. Google puts its own first.
"""

import re
from enum import StrEnum
from typing import Final

from mailerd.core.notices import InboxMessage

_GOOGLE: Final = "mx.google.com"
_GOOGLES_DOMAINS: Final = frozenset({"googlemail.com", "google.com"})
_DAEMON: Final = frozenset({"mailer-daemon@googlemail.com", "mailer-daemon@google.com"})
_ADDRESS: Final = r"[^\s<>@,;:()\"]+@[^\s<>@,;:()\"]+"
_ONE_WRITER: Final = re.compile(rf"(?:[^<>@,;:]*<\s*({_ADDRESS})\s*>|\s*({_ADDRESS}))\s*")
_DMARC: Final = re.compile(r"dmarc\s*=\s*([a-z]+)", re.IGNORECASE)
_HEADER_FROM: Final = re.compile(r"(?<![\w.-])header\.from\s*=\s*([^\s;]+)", re.IGNORECASE)


class Dmarc(StrEnum):
    """Google's result of DMARC for a message (RFC 7489)."""

    PASS = "pass"  # noqa: S105 - a result, not a secret
    FAIL = "fail"
    NONE = "none"
    """There is no policy, no result, or nothing that Google wrote."""


def dmarc(message: InboxMessage) -> tuple[Dmarc, str]:
    """Google's result, and the domain of From that it is about."""
    value = _without_words_of_others(message.first("authentication-results"))
    authority, _, rest = value.partition(";")
    if authority.strip().lower() != _GOOGLE:
        return Dmarc.NONE, ""
    results = [part for part in rest.split(";") if _DMARC.match(part.strip())]
    if len(results) != 1:  # Google writes one; two are a forger's trick
        return Dmarc.NONE, ""
    said, domain = _DMARC.match(results[0].strip()), _HEADER_FROM.search(results[0])
    result = said[1].lower() if said else ""
    return (Dmarc(result) if result in ("pass", "fail") else Dmarc.NONE), domain[1].lower() if domain else ""


def is_googles(message: InboxMessage) -> bool:
    """Whether Google itself wrote the message, by Google's own word."""
    result, domain = dmarc(message)
    return _writer(message) in _DAEMON and result is Dmarc.PASS and domain in _GOOGLES_DOMAINS


def _writer(message: InboxMessage) -> str:
    """The one address of the one From, in lower case; "" where there are several: a result is about one of them."""
    froms = message.all("from")
    found = _ONE_WRITER.fullmatch(_without_words_of_others(froms[0])) if len(froms) == 1 else None
    return (found[1] or found[2]).lower() if found else ""


def is_forged(message: InboxMessage) -> bool:
    """Whether the domain in From did not write the message: by its policy, or because Google vouches for its own."""
    named = re.findall(_ADDRESS, _without_words_of_others(", ".join(message.all("from"))).lower())
    return dmarc(message)[0] is Dmarc.FAIL or (not _DAEMON.isdisjoint(named) and not is_googles(message))


def _without_words_of_others(value: str) -> str:
    """The header without its comments and quoted strings: the addresses in them are the writer's own choice."""
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
        elif character in "()":
            depth = depth + 1 if character == "(" else max(0, depth - 1)
        elif not depth:
            kept.append(character)
    return "".join(kept)
