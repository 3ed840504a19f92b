"""The mail that comes into a mailbox: notices of mail systems in their own shapes, answers of
people, forgeries.

Gmail's shapes are those of real notices of 2025 and 2026; the others are what Exchange Online,
Postfix, Exim and qmail write. Google's own headers stand on top of each, as Google writes them.
"""

import quopri
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

from mailerd.sandbox.google.mailbox import Message, split

_DAEMON: Final = "Mail Delivery Subsystem <mailer-daemon@googlemail.com>"
_VOUCHED: Final = (
    "mx.google.com;\r\n       dkim=pass header.i=@{domain} header.s=20230601 header.b=Qo1tQm5r;\r\n"
    "       spf=pass (google.com: best guess record for domain of postmaster@{domain} designates 2a00:1450::145 "
    "as permitted sender) smtp.helo={domain};\r\n       "
    "dmarc=pass (p=QUARANTINE sp=QUARANTINE dis=NONE) header.from={domain}"
)
_DISOWNED: Final = (
    "mx.google.com;\r\n       spf=softfail (google.com: domain of transitioning eve@evil.example does not designate "
    "192.0.2.66 as permitted sender) smtp.mailfrom=eve@evil.example;\r\n"
    "       dmarc=fail (p=QUARANTINE sp=QUARANTINE dis=QUARANTINE) header.from=googlemail.com"
)
CLOSING: Final = "=?us-ascii?q?=29=22=3Bdmarc=3Dpass_header.from=3Dgooglemail.com_=28?="
"""A local part that, once decoded, closes its quotes, vouches for Google, and opens a comment over
the true result.
"""
_UNKNOWN: Final = (
    "mx.google.com;\r\n       spf=none (google.com: {domain} does not designate permitted sender hosts) "
    "smtp.helo={domain}"
)
_RATE: Final = (
    "550-5.2.1 The user you are trying to contact is receiving mail at a rate that\r\n 550-5.2.1 prevents additional "
    "messages from being delivered. For more\r\n 550-5.2.1 information, please visit\r\n 550 5.2.1 "
    "https://support.google.com/mail/?p=ReceivingRatePerm - gsmtp"
)
LIMIT_TEXTS: Final = {
    "en": "You have reached a limit for sending mail. Your message was not sent.",
    "fr": "Vous avez atteint une limite d'envoi d'e-mails. Votre message n'a pas été envoyé.",
    "it": "Hai raggiunto il limite di invio di email. Il tuo messaggio non è stato inviato.",
    "zh": "您已达到邮件发送上限。您的邮件未发送。",
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """Mail on its way into a mailbox."""

    raw: bytes
    in_thread: bool = True
    """Whether Google puts it into the thread of the message that it is about."""


def _gmail(
    message: Message,
    *,
    status: str,
    words: str,
    action: str = "failed",
    remote: str = "mx.example.org",
) -> Arrival:
    failed = action == "failed"
    fields = f"Final-Recipient: rfc822; {message.to}\r\nAction: {action}\r\nStatus: {status}\r\n"
    if remote:
        fields += f"Remote-MTA: dns; {remote}. (192.0.2.25, the server for the domain.)\r\n"
    fields += f"Diagnostic-Code: smtp; {words}\r\nLast-Attempt-Date: {_date(message.at)}\r\n"
    head = _head(
        message,
        f"Delivery Status Notification ({'Failure' if failed else 'Delay'})",
        failed=message.to,
    )
    title = "Address not found" if failed else "Delivery incomplete"
    text = f"** {title} **\r\n\r\nYour message to {message.to}: {words}\r\n"
    return Arrival(_report(head, text, fields, message, agent="googlemail.com"))


def _dead_domain(message: Message) -> Arrival:
    """No server was asked, so Google names none: the words are its own, and the address stands
    among them.
    """
    domain = message.to.rpartition("@")[2]
    fields = f"Final-Recipient: rfc822; {message.to}\r\nAction: failed\r\nStatus: 4.0.0\r\n"
    fields += f"Diagnostic-Code: smtp; DNS Error: 2320449 DNS type 'mx' lookup of {domain} responded with code NXDOMAIN"
    fields += f"\r\n Domain name not found: {domain}\r\nLast-Attempt-Date: {_date(message.at)}\r\n"
    head = _head(message, "Delivery Status Notification (Failure)", failed=message.to)
    text = (
        f"\r\n** Address not found **\r\n\r\nYour message wasn't delivered to {message.to} because the domain {domain} "
        "couldn't be found. Check for typos or unnecessary spaces and try again.\r\n\r\nThe response was:\r\n\r\n"
        f"DNS Error: 2320449 DNS type 'mx' lookup of {domain} responded with code NXDOMAIN\r\n"
    )
    return Arrival(
        _report(head, text, fields, message, agent="googlemail.com", encoding="quoted-printable")
    )


def _limit(message: Message, language: str, *, bare: bool = False) -> Arrival:
    """It has no recipient in it, and no status: its text alone says what happened.

    `bare`: it returns no header.
    """
    head = _head(message, "Delivery Status Notification (Failure)")
    text = (
        f"{head}Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    text += f"{LIMIT_TEXTS[language]}\r\n"
    returned = b"\r\n----- Original message -----\r\n\r\n" + split(message.raw)[0]
    return Arrival(text.encode() + (b"" if bare else returned))


def _limit_report(message: Message) -> Arrival:
    fields = f"Final-Recipient: rfc822; {message.to}\r\nAction: failed\r\nStatus: 5.4.5\r\n"
    fields += "Diagnostic-Code: smtp; 550 5.4.5 Daily user sending limit exceeded.\r\n"
    head = _head(message, "Delivery Status Notification (Failure)", failed=message.to)
    return Arrival(
        _report(head, "** Message not sent **\r\n", fields, message, agent="googlemail.com")
    )


def _exchange(message: Message) -> Arrival:
    words = "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup"
    fields = (
        f"Final-Recipient: rfc822;{message.to}\r\nAction: failed\r\n"
        f"Status: 5.1.10\r\nDiagnostic-Code: smtp;{words}\r\n"
    )
    head = _foreign(
        message,
        "MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@example.org",
        "Undeliverable: Your message",
    )
    return Arrival(
        _report(
            head,
            f"{message.to} wasn't found at example.org.\r\n",
            fields,
            message,
            agent="EX01.example.org",
        )
    )


def _postfix(message: Message, *, forwarded_to: str = "") -> Arrival:
    final = forwarded_to or message.to
    fields = f"Final-Recipient: rfc822; {final}\r\nOriginal-Recipient: rfc822;{message.to}\r\nAction: failed\r\n"
    fields += "Status: 5.1.1\r\nRemote-MTA: dns; mx.example.org\r\nDiagnostic-Code: smtp; 550 5.1.1 User unknown\r\n"
    head = _foreign(
        message,
        "MAILER-DAEMON@mail.example.org (Mail Delivery System)",
        "Undelivered Mail Returned to Sender",
    )
    text = f"This is the mail system at host mail.example.org.\r\n\r\n<{final}>: host mx said: 550 5.1.1\r\n"
    return Arrival(_report(head, text, fields, message, agent="mail.example.org"), in_thread=False)


def _exim(message: Message) -> Arrival:
    head = _foreign(
        message,
        "Mail Delivery System <Mailer-Daemon@mx.example.org>",
        "Mail delivery failed: returning message",
    )
    text = (
        f"X-Failed-Recipients: {message.to}\r\nContent-Type: text/plain\r\n\r\nThis message was created "
        f"automatically by mail delivery software.\r\n\r\n  {message.to}\r\n    550 No such user here\r\n\r\n"
        "------ This is a copy of your message, including all the headers. ------\r\n\r\n"
    )
    return Arrival((head + text).encode() + split(message.raw)[0] + b"\r\n\r\n", in_thread=False)


def _qmail(message: Message) -> Arrival:
    text = (
        "\r\nHi. This is the qmail-send program at example.org.\r\nI'm afraid I wasn't able to deliver it.\r\n"
        f"\r\n<{message.to}>:\r\nSorry, no mailbox here by that name. (#5.1.1)\r\n\r\n"
        "--- Below this line is a copy of the message.\r\n\r\n"
    )
    head = _foreign(message, "MAILER-DAEMON@example.org", "failure notice")
    return Arrival((head + text).encode() + split(message.raw)[0] + b"\r\n\r\n", in_thread=False)


def _answer(
    message: Message,
    *,
    by: str = "",
    subject: str = "Re: ",
    extra: str = "",
    text: str = "Thank you!",
) -> Arrival:
    writer = by or message.to
    head = _top(message, _VOUCHED.format(domain=writer.rpartition("@")[2]))
    head += f"From: {writer}\r\nTo: {message.sender}\r\nSubject: {subject}{message.subject}\r\n"
    head += f"{_threading(message)}{extra}"
    return Arrival(f"{head}Content-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n".encode())


def _unsubscribe(message: Message) -> Arrival:
    """What a mail program writes to the mailto: form of List-Unsubscribe; a new message, in no
    thread of ours.
    """
    address, _, subject = _mailto(message).partition("?subject=")
    head = _top(message, _VOUCHED.format(domain=message.to.rpartition("@")[2]))
    return Arrival(
        f"{head}From: {message.to}\r\nTo: {address}\r\nSubject: {subject}\r\n\r\n".encode(),
        in_thread=False,
    )


def _forged(genuine: Arrival) -> Arrival:
    """The same words from another sender, with Google's praise in a header of their own below
    Google's blame.
    """
    _, _, rest = genuine.raw.partition(b"Authentication-Results: ")
    head, separator, body = rest.partition(b"dmarc=pass")
    ours = b"Authentication-Results: " + head + separator + body
    return Arrival(
        f"Return-Path: <eve@evil.example>\r\nAuthentication-Results: {_DISOWNED}\r\n".encode()
        + ours
    )


def _forged_by_address(genuine: Arrival) -> Arrival:
    """The same words from an envelope address that closes its quotes once a reader decodes it."""
    results = _DISOWNED.replace("smtp.mailfrom=eve@", f'smtp.mailfrom="{CLOSING}"@')
    return Arrival(
        genuine.raw.replace(_VOUCHED.format(domain="googlemail.com").encode(), results.encode(), 1)
    )


SHAPES: Final[dict[str, Callable[[Message], Arrival]]] = {
    "hard": lambda it: _gmail(
        it,
        status="5.1.1",
        words="550 5.1.1 The email account that you tried to reach does not exist. NoSuchUser",
    ),
    "soft": lambda it: _gmail(
        it,
        status="5.2.2",
        words="552 5.2.2 The recipient's inbox is out of storage space. OverQuota",
    ),
    "blocked": lambda it: _gmail(
        it,
        status="5.0.0",
        remote="",
        words="Message rejected. See https://support.google.com/mail/answer/69585",
    ),
    "policy": lambda it: _gmail(
        it, status="5.7.1", words="550 5.7.1 Service unavailable; client host is on a blocklist"
    ),
    "delayed": lambda it: _gmail(
        it,
        status="4.4.1",
        action="delayed",
        words="The recipient server did not accept our requests",
    ),
    "dead_domain": _dead_domain,
    "rate": lambda it: _gmail(it, status="5.2.1", words=_RATE),
    "limit": lambda it: _limit(it, "en"),
    "limit_fr": lambda it: _limit(it, "fr"),
    "limit_it": lambda it: _limit(it, "it"),
    "limit_zh": lambda it: _limit(it, "zh"),
    "limit_bare": lambda it: _limit(it, "en", bare=True),
    "limit_report": _limit_report,
    "claims_limit": lambda it: _gmail(
        it, status="5.4.5", words="550 5.4.5 You have reached a limit for sending mail"
    ),
    "exchange": _exchange,
    "postfix": _postfix,
    "forwarded": lambda it: _postfix(it, forwarded_to="box17@inside.example.net"),
    "exim": _exim,
    "qmail": _qmail,
    "reply": _answer,
    "reply_of_other": lambda it: _answer(it, by="assistant@example.net"),
    "auto_reply": lambda it: _answer(
        it, subject="Out of office: ", extra="Auto-Submitted: auto-replied\r\n", text="Away."
    ),
    "auto_reply_zh": lambda it: _answer(
        it, subject="=?utf-8?B?6Ieq5Yqo5Zue5aSNOiA=?=", text="我正在休假。"
    ),
    "unsubscribe": _unsubscribe,
    "forged_hard": lambda it: _forged(SHAPES["hard"](it)),
    "forged_limit": lambda it: _forged(SHAPES["limit"](it)),
    "forged_hard_by_address": lambda it: _forged_by_address(SHAPES["hard"](it)),
    "forged_limit_by_address": lambda it: _forged_by_address(SHAPES["limit"](it)),
}
"""Every shape by its name; each takes the message that it is about.

`claims_limit`: a foreign server's lie.
"""


def write(shape: str, message: Message) -> Arrival:
    """The mail of that shape about a message; raises ValueError for an unknown or impossible
    one.
    """
    if shape not in SHAPES:
        raise ValueError(f"unknown shape {shape!r}; known: {', '.join(SHAPES)}")
    return SHAPES[shape](message)


def _mailto(message: Message) -> str:
    value = message.header("List-Unsubscribe")
    _, found, rest = value.partition("<mailto:")
    if not found:
        raise ValueError(f"message {message.id} has no mailto form in List-Unsubscribe")
    return rest.partition(">")[0]


def _date(at: float) -> str:
    return format_datetime(datetime.fromtimestamp(at, tz=UTC))


def _top(message: Message, results: str) -> str:
    return (
        f"Return-Path: <>\r\nAuthentication-Results: {results}\r\nDate: {_date(message.at)}\r\n"
        f"Message-ID: <{message.id}.reply@mx.sandbox>\r\nMIME-Version: 1.0\r\n"
    )


def _threading(message: Message) -> str:
    return f"In-Reply-To: {message.message_id}\r\nReferences: {message.message_id}\r\n"


def _head(message: Message, subject: str, *, failed: str = "") -> str:
    head = _top(message, _VOUCHED.format(domain="googlemail.com"))
    named = f"X-Failed-Recipients: {failed}\r\n" if failed else ""
    head += f"From: {_DAEMON}\r\nTo: {message.sender}\r\nAuto-Submitted: auto-replied\r\nSubject: {subject}\r\n"
    return f"{head}{_threading(message)}{named}"


def _foreign(message: Message, writer: str, subject: str) -> str:
    head = _top(message, _UNKNOWN.format(domain="mail.example.org"))
    return f"{head}From: {writer}\r\nTo: {message.sender}\r\nAuto-Submitted: auto-replied\r\nSubject: {subject}\r\n"


def _report(
    head: str, text: str, fields: str, message: Message, *, agent: str, encoding: str = "8bit"
) -> bytes:
    line = f"=_{message.id}"
    if encoding == "quoted-printable":
        text = (
            quopri.encodestring(text.replace("\r\n", "\n").encode())
            .decode("ascii")
            .replace("\n", "\r\n")
        )
    return (
        (
            f'{head}Content-Type: multipart/report; boundary="{line}"; report-type=delivery-status\r\n\r\n--{line}\r\n'
            f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
            f"{text}\r\n--{line}\r\n"
            "Content-Type: message/delivery-status\r\n\r\n"
            f"Reporting-MTA: dns; {agent}\r\nArrival-Date: {_date(message.at)}\r\n"
            f"X-Original-Message-ID: {message.message_id}\r\n\r\n{fields}\r\n--{line}\r\n"
            "Content-Type: message/rfc822\r\n\r\n"
        ).encode()
        + message.raw
        + f"\r\n--{line}--\r\n".encode()
    )
