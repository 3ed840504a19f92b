"""What a sender's granted scopes allow: the delivery mode, and whether its mail can be looked at."""

from dataclasses import dataclass, field
from typing import Literal

from mailerd.core.replies import NoCredentials

_ROOT = "https://www.googleapis.com/auth/"
COMPOSE = _ROOT + "gmail.compose"
SEND = _ROOT + "gmail.send"
METADATA = _ROOT + "gmail.metadata"
_MODIFY = _ROOT + "gmail.modify"
_READONLY = _ROOT + "gmail.readonly"
_EVERYTHING = "https://mail.google.com/"

_DRAFTING = {COMPOSE, _MODIFY, _EVERYTHING}
_LOOKING = {METADATA, _READONLY, _MODIFY, _EVERYTHING}

_NAMING = _DRAFTING | _LOOKING
"""What users.getProfile asks for, any of them: https://developers.google.com/workspace/gmail/api/reference/rest/v1/users/getProfile"""

LADDER = ((COMPOSE, METADATA), (COMPOSE,), (SEND, METADATA), (SEND,))
"""What is asked for on behalf of a service account, best first: for an undelegated scope Google refuses all of them."""


@dataclass(frozen=True)
class Mailbox:
    """A sender that Google has let in."""

    sender: str
    mode: Literal["draft", "direct"]
    can_read_metadata: bool
    scopes: tuple[str, ...]
    """As granted; empty when neither Google nor the credential file says."""
    project: str = field(default="", compare=False)
    """The Cloud project whose quota its calls use."""
    verified: bool = field(default=True, compare=False)
    """Google has named the mailbox, or was asked for it by name; with gmail.send alone nobody can tell whose it is."""


def may_ask_whose(scopes: tuple[str, ...]) -> bool:
    """Whether the scopes let Google name the mailbox; where they are unknown, the question tells."""
    return not scopes or bool(set(scopes) & _NAMING)


def mailbox_with(sender: str, *, scopes: tuple[str, ...], project: str = "") -> Mailbox | NoCredentials:
    """The mailbox that these scopes make, or why they make none."""
    granted = set(scopes)
    if granted & _DRAFTING or not granted:
        # Unknown scopes are taken for drafting ones: if that is wrong, Google refuses before anything is sent.
        mode: Literal["draft", "direct"] = "draft"
    elif SEND in granted:
        mode = "direct"
    else:
        return NoCredentials(
            f"{sender}: the sign-in allows neither {COMPOSE} nor {SEND}, only {', '.join(scopes)}; "
            "sign in again with the scope gmail.compose"
        )
    looks = bool(granted & _LOOKING)
    return Mailbox(sender=sender, mode=mode, can_read_metadata=looks, scopes=scopes, project=project)
