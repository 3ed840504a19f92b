"""Pauses of senders, as people and metrics hear of them: until when, and for which cause."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from mailerd.core.pace import FOR_EVER
from mailerd.core.verdicts import Cause

BY_HAND: Final = "by_hand"
"""The cause of a pause that a person ordered. No reply of Google's means it, so it is no `Cause`."""
CAUSES: Final = (*(cause.value for cause in Cause), BY_HAND)
"""Every cause that a sender's row may name."""


def until(end: datetime, say: Callable[[datetime], str] = "{:%Y-%m-%d %H:%M:%S} UTC".format) -> str:
    """When a pause ends, in words; `say` shows a moment where this is not the place for all of it."""
    return "until it is resumed" if end == FOR_EVER else f"until {say(end)}"
