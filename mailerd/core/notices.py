"""What received mail means: a bounce and its class, a limit notice, an answer; and who wrote it.

Pure: facts of the received mail in, a `Classification` out. The action is read first, codes second,
Google's article numbers third, words last, and never in an address. What follows from it stands in
`results.py`.
"""

import contextlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mailerd.core.i18n import t
from mailerd.core.suppression import canonical

Headers = Sequence[tuple[str, str]]
"""Names and unfolded values, in the order of the mail."""

MAX_REASON: Final = 500
"""Characters of a server's words that are kept."""
MAX_HEADER: Final = 4_000
"""Characters of one header that are read: a stranger writes them, and a search in them must not
take long.
"""


class Kind(StrEnum):
    """What received mail is: column `notices.kind`."""

    HARD = "hard"
    """The address does not exist, and never will for this sender."""
    SOFT = "soft"
    """It was tried for days, or the mailbox is full: another time it may work."""
    BLOCKED = "blocked"
    """The receiving server does not want this message or this sender: it says nothing about the
    address.
    """
    UNKNOWN = "unknown"
    """It failed; the cause cannot be read."""
    DELAYED = "delayed"
    """It is still being tried: no bounce."""
    OVER_LIMIT = "over_limit"
    """Google itself did not send the message, since the mailbox had used up its day."""
    REPLY = "reply"
    AUTO_REPLY = "auto_reply"
    """A program answered, such as an out-of-office reply or a ticket system."""
    UNSUBSCRIBE = "unsubscribe"
    """Mail to the address of List-Unsubscribe, with a token."""
    OTHER = "other"
    """Nothing that concerns a message."""


BOUNCES: Final = frozenset({Kind.HARD, Kind.SOFT, Kind.BLOCKED, Kind.UNKNOWN})


@dataclass(frozen=True)
class Reported:
    """One recipient of a delivery status notification (RFC 3464, section 2.3)."""

    address: str
    action: str = ""
    """What was done, in lower case: failed, delayed, delivered, relayed, expanded."""
    status: str = ""
    """The enhanced code (RFC 3463), such as 5.1.1; "" when there is none."""
    diagnostic: str = ""
    remote: bool = False
    """Another server refused it (Remote-MTA), and the other fields are that server's words."""
    original: str = ""
    """The address that the message was sent to, where a server has sent it on from there."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that it is about."""
        return (self.address, self.original) if self.original else (self.address,)


@dataclass(frozen=True)
class DeliveryReport:
    """The body of a notice, as `mail/read_notice.py` reads it."""

    recipients: tuple[Reported, ...] = ()
    text: str = ""
    """What its writer says to people; never a word of the message that came back."""
    key: str = ""
    """The X-Mailerd-Key of the message that came back."""
    proof: str = ""
    """The X-Mailerd-Proof of the message that came back."""
    message_id: str = ""
    """The Message-ID of the message that came back."""
    original_id: str = ""
    """The Message-ID that Google's report names (X-Original-Message-ID)."""

    @property
    def has_returned(self) -> bool:
        """Whether it returns headers of a message."""
        return bool(self.key or self.proof or self.message_id)


@dataclass(frozen=True)
class ReceivedMail:
    """Mail that came in, as the mailbox has it."""

    headers: Headers
    report: DeliveryReport | None = None
    """What its body says.

    None: it was not read, since it is no notice or the sign-in does not allow it.
    """

    def all(self, name: str) -> list[str]:
        """Every value of a header, first to last, as far as it is read."""
        return [value[:MAX_HEADER] for key, value in self.headers if key.lower() == name]

    def first(self, name: str) -> str:
        """The first value of a header; "" without one."""
        return next(iter(self.all(name)), "")


@dataclass(frozen=True)
class Classification:
    """What received mail is, before it is known whether it is to be believed."""

    kind: Kind
    code: str = ""
    reason: str = ""
    """The server's words, or ours where there are none."""
    addresses: tuple[str, ...] = ()
    """The addresses that it is about, where it names them; several if the same happened to all of
    them.
    """
    counts: bool = True
    """Whether a soft bounce says something about the mailbox.

    One for size, content or too much mail does not.
    """
    token: str = ""
    """The token of an unsubscribe; "" for anything else."""


_MESSAGE_ID: Final = re.compile(r"<[^<>\s]{1,990}>")
_MAX_ADDRESS: Final = 320
# A stranger writes what these search: each begins where no other could, and looks no further than
# an address is long.
_BRACKETED: Final = re.compile(rf"<\s*([^<>\s]{{3,{2 * _MAX_ADDRESS}}})\s*>")
_ADDRESS: Final = re.compile(
    rf"(?<![^\s<>,;:\"()])[^\s<>,;:\"()]{{1,{_MAX_ADDRESS}}}@[^\s<>@,;:\"()]{{1,{_MAX_ADDRESS}}}"
)
_ATEXT: Final = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~.\-"
_ANY_ADDRESS: Final = re.compile(
    rf'(?:(?<![{_ATEXT}])[{_ATEXT}]+|"(?:[^"\\]|\\.){{0,320}}")\s{{0,2}}@\s{{0,2}}(?:[\w.-]+|\[[\w.:]{{1,60}}\])',
    re.DOTALL,
)
"""Each begins where no other could: to try from each of its characters takes quadratic time."""
_NO_FAILURES: Final = {
    "delayed": Kind.DELAYED,
    "delivered": Kind.OTHER,
    "relayed": Kind.OTHER,
    "expanded": Kind.OTHER,
}
_NEAR: Final = 400
"""Characters around an address in which its own reason is looked for first."""
_TOKEN: Final = re.compile(r"\s*u\.([A-Za-z0-9_-]{62})\s*")


def is_notice(received: ReceivedMail) -> bool:
    """Whether received mail claims, by its headers, to be a mail system's notice about a
    message.
    """
    content_type = received.first("content-type").lower()
    if "disposition-notification" in content_type or "feedback-report" in content_type:
        return False
    return (
        "delivery-status" in content_type
        or bool(received.all("x-failed-recipients"))
        or bool(
            NOTICE_FROM.search(received.first("from"))
            or NOTICE_SUBJECT.match(received.first("subject"))
        )
    )


def unsubscribe_token(received: ReceivedMail) -> str:
    """The token in mail to `…+unsub@`; "" for any other mail.

    What is no token of ours is refused later.
    """
    found = _TOKEN.fullmatch(received.first("subject"))
    return found[1] if found else ""


def read(received: ReceivedMail, *, about: str = "") -> Classification:
    """What received mail means for the message to the address `about`; total."""
    if is_notice(received):
        return _notice(received, about)
    if token := unsubscribe_token(received):
        return Classification(
            Kind.UNSUBSCRIBE, token=token, addresses=tuple(addresses(received.first("from")))
        )
    sender = tuple(addresses(received.first("from")))
    if is_automatic(received):
        return Classification(
            Kind.AUTO_REPLY, reason=_short(received.first("subject")), addresses=sender
        )
    other = () if any(same_address(it, about) for it in sender) else sender
    return Classification(Kind.REPLY, reason=_short(", ".join(other)), addresses=sender)


def message_id(received: ReceivedMail) -> str:
    """The Message-ID of the one message that a notice is about; "" where none or more than one is
    named.

    What the notice returns says it, else what its report names, else what it answers: in a thread
    with mail of the owner's own that may be several.
    """
    report = received.report or DeliveryReport()
    said = report.message_id or report.original_id or " ".join(received.all("in-reply-to"))
    named = set(_MESSAGE_ID.findall(said))
    return named.pop() if len(named) == 1 else ""


def is_automatic(received: ReceivedMail) -> bool:
    """Whether a program wrote it (RFC 3834, and what was usual before)."""
    submitted = received.first("auto-submitted").partition(";")[0].strip().lower()
    precedence = received.first("precedence").strip().lower()
    return (
        submitted not in ("", "no")
        or bool(
            received.all("x-autoreply")
            or received.all("x-autorespond")
            or received.all("x-auto-response-suppress")
        )
        or precedence in ("auto_reply", "auto-reply", "bulk", "junk", "list")
        or "disposition-notification" in received.first("content-type").lower()
        or received.first("subject").strip().lower().startswith(AUTO_SUBJECTS)
    )


def addresses(header: str) -> list[str]:
    """The bare addresses of a header; display names that hold an address do not fool it where
    brackets stand.
    """
    bracketed = [it for it in _BRACKETED.findall(header) if "@" in it[1:-1]]
    return bracketed or _ADDRESS.findall(header)


def same_address(one: str, other: str) -> bool:
    """Whether two addresses are the same one; what follows a "+" counts."""
    return canonical(one) == canonical(other)


def _notice(received: ReceivedMail, about: str) -> Classification:
    report = received.report
    if report is None:
        return _by_headers(received, about)
    reported = _the_one(report.recipients, about)
    if reported is not None and (kind := _NO_FAILURES.get(reported.action)):
        return Classification(
            kind, reported.status, _short(reported.diagnostic or report.text), reported.addresses
        )
    if _is_over_limit(report, reported, about):
        return Classification(
            Kind.OVER_LIMIT, LIMIT_CODE, _short(report.text), _named(received, report)
        )
    if reported is None:
        return _by_text(received, report.text, about)
    # The text repeats the diagnosis, and is all there is where a server gives none.
    said = reported.diagnostic or report.text
    kind, code, counts = classify(
        reported.status, without_addresses(said, about, *reported.addresses)
    )
    return Classification(kind, code, _short(said), reported.addresses, counts)


def _by_text(received: ReceivedMail, text: str, about: str) -> Classification:
    """What a notice without a report tells: each system has its own form, so the known address is
    looked for.
    """
    failed = tuple(addresses(received.first("x-failed-recipients")))
    at = _spelled(about).search(text) if about else None
    if at and not failed:
        failed = (about,)
    said = without_addresses(text, about)
    if DELAY_WORDS.search(
        without_addresses(received.first("subject"), about)
    ) or DELAY_WORDS.search(said):
        return Classification(Kind.DELAYED, reason=_short(text), addresses=failed)
    near, shown = said, text
    if at:
        before, after = (
            without_addresses(text[: at.start()], about),
            without_addresses(text[at.end() :], about),
        )
        near = f"{before[-_NEAR:]}@{after[:_NEAR]}"
        shown = text[max(0, at.start() - _NEAR) : at.end() + _NEAR]
    kind, code, counts = classify("", near)
    if kind is Kind.UNKNOWN:
        kind, code, counts = classify("", said)
    return Classification(kind, code, _short(shown), failed, counts)


def _by_headers(received: ReceivedMail, about: str) -> Classification:
    """What the headers alone tell: that it failed, or is late.

    A bounce and a limit notice look the same there.
    """
    failed = tuple(addresses(received.first("x-failed-recipients")))
    if DELAY_WORDS.search(without_addresses(received.first("subject"), about)):
        return Classification(
            Kind.DELAYED, reason=_short(received.first("subject")), addresses=failed
        )
    return Classification(
        Kind.UNKNOWN, reason=t("only the headers of the notice could be read"), addresses=failed
    )


def _is_over_limit(report: DeliveryReport, reported: Reported | None, about: str) -> bool:
    """Whether Google refused the message itself.

    A server that is asked for a message may say anything it likes.

    A code that says something decides; Google has used its article on limits for mailboxes that
    receive too much, too.
    """
    if any(it.remote for it in report.recipients):
        return False
    if reported and reported.status not in GENERIC:
        return reported.status == LIMIT_CODE
    said = f"{reported.diagnostic}\n{report.text}" if reported else report.text
    said = without_addresses(said, about, *(reported.addresses if reported else ()))
    codes = [it for it in REPLY_CODE.findall(said) if it not in GENERIC]
    if codes:
        return LIMIT_CODE in codes
    return bool(LIMIT_ARTICLES.search(said) or LIMIT_WORDS.search(said))


def without_addresses(text: str, *known: str) -> str:
    """A text with "@" for each address, for each `known` one also where it is broken, and for their
    domains.

    A stranger chooses what an address reads like: `5.4.5@` is no code, and `answer/22839@` no
    article.
    """
    spelled = [it for it in dict.fromkeys(known) if 0 < len(it) <= _MAX_ADDRESS]
    for address in spelled:
        text = _spelled(address).sub("@", text)
    text = _ANY_ADDRESS.sub("@", text)
    for domain in dict.fromkeys(it.rpartition("@")[2] for it in spelled):
        if "." in domain:
            name = rf"(?<![A-Za-z0-9_.-])(?<!//)(?:[A-Za-z0-9_-]+\.)*{_broken(domain)}(?![A-Za-z0-9_-])"
            text = re.sub(name, "@", text, flags=re.IGNORECASE)
    return text


def _spelled(address: str) -> re.Pattern[str]:
    """An address in a text, also where lines were broken within it."""
    local, _, domain = address.rpartition("@")
    return re.compile(
        rf"(?<![{_ATEXT}]){_broken(f'{local}@')}\s*{_broken(domain)}(?![A-Za-z0-9-])", re.IGNORECASE
    )


def _broken(text: str) -> str:
    """The pattern of a text with line breaks anywhere in it, and of a domain in both of its
    forms.
    """
    forms = {text, ".".join(map(_unicode, text.split(".")))}
    return f"(?:{'|'.join(r'\s*'.join(map(re.escape, form)) for form in sorted(forms))})"


def _unicode(label: str) -> str:
    """A label as people read it; one that cannot be decoded stays.

    Python's IDNA refuses labels that it maps.
    """
    if label[:4].lower() == "xn--":
        with contextlib.suppress(UnicodeError, ValueError, OverflowError):
            return label[4:].encode("ascii").decode("punycode")
    return label


def failed_addresses(received: ReceivedMail) -> tuple[str, ...]:
    """The addresses that a notice is about, where it names them."""
    return _named(received, received.report or DeliveryReport())


def _named(received: ReceivedMail, report: DeliveryReport) -> tuple[str, ...]:
    return tuple(address for it in report.recipients for address in it.addresses) or tuple(
        addresses(received.first("x-failed-recipients"))
    )


def _the_one(recipients: Sequence[Reported], about: str) -> Reported | None:
    """The report on the address `about`, or the first one that failed."""
    if about and (
        own := [
            it for it in recipients if any(same_address(address, about) for address in it.addresses)
        ]
    ):
        return own[-1]
    return next((it for it in recipients if it.action == "failed"), next(iter(recipients), None))


def classify(status: str, text: str) -> tuple[Kind, str, bool]:
    """The class of a failure, its code, and whether it says something about the mailbox; total.

    https://www.iana.org/assignments/smtp-enhanced-status-codes; a code that says nothing gives way
    to one in the text.
    """
    code = status
    if code in GENERIC:
        code = next(
            (found for found in CODE.findall(text) if found[0] != "2" and found not in GENERIC),
            code,
        )
    if RATE_WORDS.search(text) and (code in GENERIC or code.startswith(("5.2.", "4.2."))):
        return Kind.SOFT, code, False
    if code in GENERIC:
        return _by_words(text), code, True
    if code.startswith(("5.7.", "4.7.")):
        # Some servers answer 5.7.1 for whom they do not know; unless they say so, it is about the
        # message.
        return Kind.BLOCKED, code, True
    if code in HARD:
        return (Kind.SOFT if code == "5.2.1" and SOFT_WORDS.search(text) else Kind.HARD), code, True
    if code in SOFT:
        return Kind.SOFT, code, not SIZE_OR_CONTENT.fullmatch(code)
    if code.startswith("4."):
        return Kind.SOFT, code, True  # tried until it was given up
    return _by_words(text), code, True


def _by_words(text: str) -> Kind:
    if BLOCK_ARTICLE.search(text):
        return Kind.BLOCKED
    for kind, pattern in (
        (Kind.HARD, HARD_WORDS),
        (Kind.SOFT, SOFT_WORDS),
        (Kind.BLOCKED, BLOCK_WORDS),
    ):
        if pattern.search(text):
            return kind
    first = SMTP.search(text)
    return Kind.SOFT if first and first[1] == "4" else Kind.UNKNOWN


def _short(text: str) -> str:
    shown = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(shown.split())[:MAX_REASON]


# Whether Google vouches for received mail: the Authentication-Results that Google wrote on top of
# it (RFC 8601).
#
# Any sender can write "mailer-daemon" into From, and headers of that name further down. Google puts
# its own first.

_GOOGLE: Final = "mx.google.com"
_GOOGLES_DOMAINS: Final = frozenset({"googlemail.com", "google.com"})
_DAEMON: Final = frozenset({"mailer-daemon@googlemail.com", "mailer-daemon@google.com"})
_ADDR_SPEC: Final = r"[^\s<>@,;:()\"]+@[^\s<>@,;:()\"]+"
_ONE_ADDRESS: Final = re.compile(rf"(?:[^<>@,;:]*<\s*({_ADDR_SPEC})\s*>|\s*({_ADDR_SPEC}))\s*")
_UNCLOSED: Final = "\0"
"""Stands where a comment or a quoted string has no beginning or no end."""
_DMARC: Final = re.compile(r"dmarc\s*=\s*([a-z]+)(?!\S)", re.IGNORECASE)
_HEADER_FROM: Final = re.compile(r"(?<![\w.-])header\.from\s*=\s*([^\s;]+)", re.IGNORECASE)
_ENCODED: Final = "=?"
"""How an encoded word begins (RFC 2047): nothing in a result is one, and who decodes it lets it
close a quote.
"""


class Dmarc(StrEnum):
    """Google's result of DMARC for received mail (RFC 7489)."""

    PASS = "pass"  # noqa: S105 - a result, not a secret
    FAIL = "fail"
    """The domain disowns it; or what Google wrote cannot be read, since a stranger's words in it
    break its form.
    """
    NONE = "none"
    """There is no policy, no result, or nothing that Google wrote."""


def dmarc(received: ReceivedMail) -> tuple[Dmarc, str]:
    """Google's result, and the domain of From that it is about."""
    value = received.first("authentication-results")
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


def is_googles(received: ReceivedMail) -> bool:
    """Whether Google itself wrote the mail, by Google's own word.

    Both headers are Google's alone: a stranger's local part in the results, however it is quoted,
    cannot take away the result that Google has for the stranger's From, so that "dmarc" stands
    there twice.
    """
    result, domain = dmarc(received)
    once = received.first("authentication-results").lower().count("dmarc") == 1
    return (
        once
        and _only_address(received, "from") in _DAEMON
        and result is Dmarc.PASS
        and domain in _GOOGLES_DOMAINS
    )


def is_addressed_to(received: ReceivedMail, own: Collection[str]) -> bool:
    """Whether the one To is one of these addresses: Google writes a notice to the sender of what
    was not sent.

    Google's signature stays good wherever its bytes are handed on, so a stranger can hand on a
    notice about mail of the stranger's own that bears the Message-ID of one of ours. A second To
    would not be Google's.
    """
    to = _only_address(received, "to")
    return bool(to) and any(same_address(to, it) for it in own)


def _only_address(received: ReceivedMail, name: str) -> str:
    """The one address of the one header of that name, in lower case; "" where another stands
    anywhere in it.
    """
    values = received.all(name)
    if len(values) != 1 or values[0].count("@") != 1:
        return ""
    found = _ONE_ADDRESS.fullmatch(_without_words_of_others(values[0]))
    return (found[1] or found[2]).lower() if found else ""


def is_forged(received: ReceivedMail) -> bool:
    """Whether the domain in From did not write the mail: by its policy, or because Google vouches
    for its own.

    Mail of more than one From is: a result is about one.
    """
    if len(received.all("from")) > 1 or dmarc(received)[0] is Dmarc.FAIL:
        return True
    named = _ADDRESS.findall(received.first("from").lower())
    return not _DAEMON.isdisjoint(named) and not is_googles(received)


def _without_words_of_others(value: str) -> str:
    """The header with a space for each comment and "" for each quoted string: what is in them is
    the writer's choice.

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


# The codes and words by which notices about messages are told apart, by class and by language.
#
# Codes: https://www.iana.org/assignments/smtp-enhanced-status-codes. Words are seen ones; a
# repetition in a pattern has a bound, since strangers write what it is tried on.

NOTICE_FROM: Final = re.compile(
    r"(?:mailer-daemon|mail-daemon|maildaemon|mdaemon|postmaster|microsoftexchange[0-9a-f]{0,40})@",
    re.IGNORECASE,
)
NOTICE_SUBJECT: Final = re.compile(
    r"\s*(?:undeliver(?:able|ed)|(?:mail |message )?delivery (?:status|fail|notification|error|problem)|mail delivery"
    r"|returned mail|non-?delivery(?: report|:)|failure notice|mail system error"
    r"|(?:mail|message) could not be delivered|unzustellbar"
    r"|non remis|no se puede entregar|impossibile recapitare|退信|系统退信|配信不能)",
    re.IGNORECASE,
)
AUTO_SUBJECTS: Final = (
    "automatic reply",
    "auto reply",
    "autoreply",
    "out of office",
    "out-of-office",
    "自动回复",
    "自動回覆",
    "自動応答",
    "abwesenheitsnotiz",
    "automatische antwort",
    "réponse automatique",
    "respuesta automática",
    "risposta automatica",
    "resposta automática",
    "automatisch antwoord",
)
# ASCII: to Python the digits of every script are digits, and the column of a code takes none but
# these.
CODE: Final = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.])", re.ASCII)
REPLY_CODE: Final = re.compile(
    r"(?<![\w.=/-])[45]\d\d[ -]([245]\.\d{1,3}\.\d{1,3})(?=[\s,;:)]|\Z)", re.ASCII
)
"""An enhanced code where a server puts it: behind its reply code and before the words.

No host's name has that form.
"""
SMTP: Final = re.compile(r"(?<![\d.])([45])\d\d(?![\d.])", re.ASCII)

HARD: Final = frozenset({"5.1.0", "5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1", "5.4.4"})
SOFT: Final = frozenset(
    {
        "5.2.0",
        "5.2.2",
        "5.2.3",
        "5.2.4",
        "5.3.1",
        "5.3.2",
        "5.3.4",
        "5.4.0",
        "5.4.1",
        "5.4.2",
        "5.4.3",
        "5.4.6",
        "5.4.7",
        "5.6.0",
        "5.6.1",
        "5.6.2",
        "5.6.3",
        "5.6.5",
    }
)
SIZE_OR_CONTENT: Final = re.compile(r"5\.2\.3|5\.3\.4|5\.6\.\d+")
GENERIC: Final = frozenset({"", "5.0.0", "4.0.0", "5.5.0", "5.3.0"})
"""Codes that say nothing: the server's own words may have a better one."""
LIMIT_CODE: Final = "5.4.5"
"""Google's own, https://support.google.com/a/answer/3726730: "Daily user sending limit
exceeded".
"""
_ARTICLE: Final = r"https?://support\.google\.com/[a-z/]{0,20}(?:answer/|\?(?:[\w.=-]{0,40}&)?p=)"
"""Google's articles, by number or by name.

No address can be read as one: a colon stands in no part of it.
"""
LIMIT_ARTICLES: Final = re.compile(
    rf"{_ARTICLE}(?:166852|22839|DailyLimitExceeded)\b", re.IGNORECASE
)
"""Google's articles on sending limits, for Workspace and for gmail.com: they stand in the notice in
every language.
"""
LIMIT_WORDS: Final = re.compile(
    r"reached a limit for sending mail|exceeded (?:the|your) (?:daily )?(?:user )?sending (?:limit|quota)"
    r"|daily (?:user )?sending (?:limit|quota) exceeded"
    r"|limite d.envoi|limite di invio|limit (?:für|beim) .{0,20}senden|l[ií]mite (?:de|para) (?:env[ií]o|enviar)"
    r"|邮件发送上限|发送邮件的上限|已达到.{0,6}发送.{0,8}(?:上限|限制)|送信.{0,8}(?:上限|制限)",
    re.IGNORECASE,
)
BLOCK_ARTICLE: Final = re.compile(
    rf"{_ARTICLE}(?:69585|UnsolicitedMessageError|UnauthenticatedMessage)", re.IGNORECASE
)
RATE_WORDS: Final = re.compile(
    r"receiving (?:mail|messages|e-?mails?) (?:at a rate|too (?:quickly|fast|many))|prevents additional messages"
    rf"|exceeded (?:their|its|the) limit for the number of messages|{_ARTICLE}(?:ReceivingRate|6592\b)",
    re.IGNORECASE,
)
"""The mailbox lives, and gets more than it takes now.

Google's code for that is 5.2.1, as for a disabled one.
"""
BLOCK_WORDS: Final = re.compile(
    r"\bblocked\b|block ?list|black ?list|\bspam|unsolicited|reputation|\bpolicy\b|\bbanned\b"
    r"|content (?:filter|reject)|message rejected|\bdmarc\b|\bspf\b|访问被拒|垃圾邮件",
    re.IGNORECASE,
)
HARD_WORDS: Final = re.compile(
    r"(?:user|mailbox|recipient|address|account|addressee)[^.\n]{0,60}"
    r"(?:unknown|not found|not exist|n't exist|no longer (?:exist|available|valid|active)|is not known|disabled)"
    r"|(?:no such|unknown|invalid|non-?existent|undeliverable|bad)"
    r" (?:local )?(?:user|mailbox|recipient|address|account|person)"
    r"|no mailbox here|not a (?:valid|known) (?:user|mailbox|recipient|address)"
    r"|does(?:n't| not) have an? \S{1,80} account|not our customer|(?:host|domain|name)[^.\n]{0,40}not found"
    r"|(?:unrouteable|unroutable) (?:mail )?(?:domain|address)|用户不存在|收件人不存在|地址不存在|邮箱不存在",
    re.IGNORECASE,
)
SOFT_WORDS: Final = re.compile(
    r"(?:mailbox|inbox|account|folder|user)[^.\n]{0,40}(?:full|over ?quota|exceed)|quota (?:exceeded|full)|over ?quota"
    r"|insufficient (?:system )?(?:storage|disk)|disk full|disk quota|not enough (?:storage )?space|too many hops"
    r"|mail loop|timed? ?out|retry time|too long in (?:the )?queue|connection (?:refused|reset)|temporar"
    r"|邮箱已满|超出.{0,4}容量",
    re.IGNORECASE,
)
DELAY_WORDS: Final = re.compile(
    r"\((?:delay|延迟|verzögerung|retard|retraso|ritardo)\)|delayed|delivery (?:is )?delay"
    r"|warning: (?:message|could not send)|still (?:being )?(?:tried|retried|trying)"
    r"|will (?:continue to|keep|be) (?:try|retr)|attempts will continue|not yet been delivered",
    re.IGNORECASE,
)
MICROSOFT_DEAD: Final = (
    ("5.4.1", "access denied"),
    ("5.5.0", "mailbox unavailable"),
    ("5.4.310", ""),
)
"""How Microsoft's servers refuse an address or a domain that does not exist: the code, and words of
the reason.

They refuse others so too, so it suppresses no address; but where it happens to many, the list is
bad.
"""
