"""Pauses in words: until when, for which cause, who can end them."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from shlex import quote
from typing import Final

from mailerd.core.bounce_rule import BOUNCES
from mailerd.core.i18n import N_, Text, t
from mailerd.core.rate_limit import FOREVER
from mailerd.core.reasons import code_of, first_cause
from mailerd.core.reasons import reason as reason_of
from mailerd.core.verdicts import PauseCause

MANUAL: Final = "manual"
"""The cause of a pause that a person ordered.

No reply of Google means it, so it is no `PauseCause`.
"""
BLOCKED: Final = "blocked"
"""The cause of a pause after many messages that receiving servers did not want; their notices say
so, later.
"""
CAUSES: Final = (*(cause.value for cause in PauseCause), MANUAL, BLOCKED, BOUNCES)
"""Every cause that a sender's row may name."""


def until(
    end: datetime, say: Callable[[datetime], str] = "{:%Y-%m-%d %H:%M:%S} UTC".format
) -> Text:
    """When a pause ends, in words; `say` shows a moment where this is not the place for all of
    it.
    """
    return t("until it is resumed") if end == FOREVER else t("until {at}", at=say(end))


_LOGIN: Final = "mailerd auth login --sender {sender}"
_REPAIRS: Final[Mapping[str, tuple[str, str]]] = {
    PauseCause.TOKEN_REFUSED: (N_("the authorization is renewed"), _LOGIN),
    PauseCause.NO_CREDENTIALS: (N_("a usable credential file exists"), _LOGIN),
    PauseCause.CLIENT_REFUSED: (
        N_("the authorization names an OAuth client that Google knows"),
        _LOGIN,
    ),
    PauseCause.WRONG_MAILBOX: (N_("the credential file opens {sender}"), _LOGIN),
    PauseCause.SCOPE_MISSING: (N_("the authorization has the scope, or it is delegated"), _LOGIN),
    PauseCause.MAILBOX_REFUSED: (
        N_("Gmail is enabled for {sender}"),
        "https://admin.google.com/ac/users",
    ),
    PauseCause.API_DISABLED: (
        N_("the Gmail API is enabled in the Cloud project"),
        "https://console.cloud.google.com/apis/library/gmail.googleapis.com",
    ),
    PauseCause.DOMAIN_POLICY: (
        N_("the domain's administrator allows this app"),
        "https://admin.google.com/ac/owl",
    ),
}
"""What a person has to do before a message can be sent, and where; the pause ends each minute, for
another try.
"""
_REASON_WITHOUT_REMEDY: Final = frozenset({PauseCause.TOKEN_REFUSED, PauseCause.SCOPE_MISSING})
"""Causes whose reason is Google's answer alone; the others say themselves which file or which
setting to correct.
"""
_STILL: Final = timedelta(minutes=2)
"""Time after a pause in which the try that follows it may have no answer yet."""


def repair(
    cause: str | None, end: datetime | None, *, sender: str, now: datetime, reason: str | None
) -> Text | None:
    """What has to happen, by a person, before any message of the sender can go; None where waiting
    is enough.

    `cause`, `end` and `reason` are those of its last pause. An old one proves nothing: it may be
    mended and nothing sent since.
    """
    return remedy(cause, sender=sender, reason=reason) if end and end > now - _STILL else None


def remedy(cause: str | None, *, sender: str, reason: str | None = None) -> Text | None:
    """What has to happen, by a person, to end a pause of this cause; None where waiting is
    enough.
    """
    if (known := _REPAIRS.get(cause or "")) is None:
        return None
    what, where = (
        t(known[0], sender=sender),
        repair_command(cause or "", sender=sender, reason=reason),
    )
    return (
        what if where.startswith("https:") else t("{what}: `{command}`", what=what, command=where)
    )


def repair_command(cause: str, *, sender: str, reason: str | None = None) -> str:
    """The command, or the page, by which a person ends a pause of this cause; of this reason, where
    it is known.
    """
    it = first_cause(reason)
    if isinstance(it, Text) and code_of(it) == "credentials_exposed":
        return f"chmod 600 {quote(it.fields['path'])}"
    return _REPAIRS.get(cause, ("", _LOGIN))[1].format(sender=quote(sender))


def with_remedy(reason: str, cause: str, *, sender: str) -> str:
    """Why a sender is paused, with what a person has to do, for who hears of it by that sentence
    alone.
    """
    mend = remedy(cause, sender=sender) if cause in _REASON_WITHOUT_REMEDY else None
    return reason_of("tried_until", reason=reason, remedy=mend) if mend else reason
