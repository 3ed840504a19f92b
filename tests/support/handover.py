"""Hand-overs as a worker records them: the message names the draft."""

from dataclasses import replace
from typing import Any

from mailerd.core.claims import ClaimedRecipient, Handover


def handover(
    message: ClaimedRecipient,
    draft_id: str | None = None,
    thread_id: str | None = None,
    *,
    unanswered: bool = False,
    **others: Any,
) -> Handover:
    """Of this message by this draft; without one: directly."""
    return Handover(replace(message, draft_id=draft_id, thread_id=thread_id, unanswered=unanswered), **others)
