"""The codes and words by which notices about letters are told apart, by class and by language.

Codes: https://www.iana.org/assignments/smtp-enhanced-status-codes. Words are seen ones; a repetition in a pattern
has a bound, since strangers write what it is tried on.
"""

import re
from typing import Final

NOTICE_FROM: Final = re.compile(
    r"(?:mailer-daemon|mail-daemon|maildaemon|mdaemon|postmaster|microsoftexchange[0-9a-f]{0,40})@", re.IGNORECASE
)
NOTICE_SUBJECT: Final = re.compile(
    r"\s*(?:undeliver(?:able|ed)|(?:mail |message )?delivery (?:status|fail|notification|error|problem)|mail delivery"
    r"|returned mail|non-?delivery(?: report|:)|failure notice|mail system error"
    r"|(?:mail|message) could not be delivered|unzustellbar"
    r"|non remis|no se puede entregar|impossibile recapitare|退信|系统退信|配信不能)",
    re.IGNORECASE,
)
AUTO_SUBJECTS: Final = (
    "automatic reply", "auto reply", "autoreply", "out of office", "out-of-office", "自动回复", "自動回覆", "自動応答",
    "abwesenheitsnotiz", "automatische antwort", "réponse automatique", "respuesta automática", "risposta automatica",
    "resposta automática", "automatisch antwoord",
)  # fmt: skip
# ASCII: to Python the digits of every script are digits, and the column of a code takes none but these.
CODE: Final = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.])", re.ASCII)
REPLY_CODE: Final = re.compile(r"(?<![\w.=/-])[45]\d\d[ -]([245]\.\d{1,3}\.\d{1,3})(?=[\s,;:)]|\Z)", re.ASCII)
"""An enhanced code where a server puts it: behind its reply code and before the words. No host's name has that form."""
SMTP: Final = re.compile(r"(?<![\d.])([45])\d\d(?![\d.])", re.ASCII)

HARD: Final = frozenset({"5.1.0", "5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1", "5.4.4"})
SOFT: Final = frozenset(
    {
        "5.2.0", "5.2.2", "5.2.3", "5.2.4", "5.3.1", "5.3.2", "5.3.4", "5.4.0", "5.4.1", "5.4.2", "5.4.3", "5.4.6",
        "5.4.7", "5.6.0", "5.6.1", "5.6.2", "5.6.3", "5.6.5",
    }
)  # fmt: skip
SIZE_OR_CONTENT: Final = re.compile(r"5\.2\.3|5\.3\.4|5\.6\.\d+")
GENERIC: Final = frozenset({"", "5.0.0", "4.0.0", "5.5.0", "5.3.0"})
"""Codes that say nothing: the server's own words may have a better one."""
LIMIT_CODE: Final = "5.4.5"
"""Google's own, https://support.google.com/a/answer/3726730: "Daily user sending limit exceeded"."""
_ARTICLE: Final = r"https?://support\.google\.com/[a-z/]{0,20}(?:answer/|\?(?:[\w.=-]{0,40}&)?p=)"
"""Google's articles, by number or by name. No address can be read as one: a colon stands in no part of it."""
LIMIT_ARTICLES: Final = re.compile(rf"{_ARTICLE}(?:166852|22839|DailyLimitExceeded)\b", re.IGNORECASE)
"""Google's articles on sending limits, for Workspace and for gmail.com: they stand in the notice in every language."""
LIMIT_WORDS: Final = re.compile(
    r"reached a limit for sending mail|exceeded (?:the|your) (?:daily )?(?:user )?sending (?:limit|quota)"
    r"|daily (?:user )?sending (?:limit|quota) exceeded"
    r"|limite d.envoi|limite di invio|limit (?:für|beim) .{0,20}senden|l[ií]mite (?:de|para) (?:env[ií]o|enviar)"
    r"|邮件发送上限|发送邮件的上限|已达到.{0,6}发送.{0,8}(?:上限|限制)|送信.{0,8}(?:上限|制限)",
    re.IGNORECASE,
)
BLOCK_ARTICLE: Final = re.compile(rf"{_ARTICLE}(?:69585|UnsolicitedMessageError|UnauthenticatedMessage)", re.IGNORECASE)
RATE_WORDS: Final = re.compile(
    r"receiving (?:mail|messages|e-?mails?) (?:at a rate|too (?:quickly|fast|many))|prevents additional messages"
    rf"|exceeded (?:their|its|the) limit for the number of messages|{_ARTICLE}(?:ReceivingRate|6592\b)",
    re.IGNORECASE,
)
"""The mailbox lives, and gets more than it takes now. Google's code for that is 5.2.1, as for a disabled one."""
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
MICROSOFT_DEAD: Final = (("5.4.1", "access denied"), ("5.5.0", "mailbox unavailable"), ("5.4.310", ""))
"""How Microsoft's servers refuse an address or a domain that does not exist: the code, and words of the reason.

They refuse others so too, so it suppresses no address; but where it happens to many, the list is bad.
"""
