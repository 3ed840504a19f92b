"""Pauses of senders, as people and metrics hear of them: until when, for which cause, and who can end them."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from mailerd.core.rate_limit import FOREVER
from mailerd.core.verdicts import PauseCause

MANUAL: Final = "manual"
"""The cause of a pause that a person ordered. No reply of Google's means it, so it is no `Cause`."""
CAUSES: Final = (*(cause.value for cause in PauseCause), MANUAL)
"""Every cause that a sender's row may name."""


def until(end: datetime, say: Callable[[datetime], str] = "{:%Y-%m-%d %H:%M:%S} UTC".format) -> str:
    """When a pause ends, in words; `say` shows a moment where this is not the place for all of it."""
    return "until it is resumed" if end == FOREVER else f"until {say(end)}"


_LOGIN: Final = "`mailerd auth login --sender {sender}`"
_REPAIRS: Final[Mapping[str, str]] = {
    PauseCause.TOKEN_REFUSED: f"the sign-in is renewed: {_LOGIN}",
    PauseCause.NO_CREDENTIALS: f"there is a credential file that can be used: {_LOGIN}",
    PauseCause.CLIENT_REFUSED: f"the sign-in names an OAuth client that Google knows: {_LOGIN}",
    PauseCause.WRONG_MAILBOX: f"the credential file opens {{sender}}: {_LOGIN}",
    PauseCause.SCOPE_MISSING: f"the sign-in has the scopes: {_LOGIN}",
    PauseCause.MAILBOX_REFUSED: "Gmail is switched on for {sender}",
}
"""What somebody has to do before a letter can go; the pause itself ends each minute, for another try."""
_STILL: Final = timedelta(minutes=2)
"""Time after a pause in which the try that follows it may have no answer yet."""


def repair(cause: str | None, end: datetime | None, *, sender: str, now: datetime) -> str | None:
    """What has to happen, by a person, before any letter of the sender can go; None where waiting is enough.

    `cause` and `end` are those of its last pause. An old one says nothing: whoever mended it need not have sent since.
    """
    words = _REPAIRS.get(cause or "")
    return words.format(sender=sender) if words and end and end > now - _STILL else None
