"""What a sender's granted scopes allow: the delivery mode, and whether metadata of its mail can be read."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from mailerd.core.replies import NoCredentials

_ROOT = "https://www.googleapis.com/auth/"
COMPOSE = _ROOT + "gmail.compose"
SEND = _ROOT + "gmail.send"
METADATA = _ROOT + "gmail.metadata"
_MODIFY = _ROOT + "gmail.modify"
READONLY = _ROOT + "gmail.readonly"
_FULL = "https://mail.google.com/"

_DRAFT_SCOPES = {COMPOSE, _MODIFY, _FULL}
_READ_SCOPES = {METADATA, READONLY, _MODIFY, _FULL}
_BODY_SCOPES = {READONLY, _MODIFY, _FULL}

_PROFILE_SCOPES = _DRAFT_SCOPES | _READ_SCOPES
"""Any of these allows users.getProfile: https://developers.google.com/workspace/gmail/api/reference/rest/v1/users/getProfile"""

SCOPE_PREFERENCE = ((COMPOSE, READONLY), (COMPOSE, METADATA), (COMPOSE,), (SEND, METADATA), (SEND,))
"""Sets of scopes to request for a service account, best first; Google refuses a set with an undelegated scope."""


@dataclass(frozen=True)
class Mailbox:
    """A sender that Google has given a token for."""

    sender: str
    mode: Literal["draft", "direct"]
    can_read_metadata: bool
    scopes: tuple[str, ...]
    """The granted scopes; empty when neither Google nor the credential file names them."""
    project: str = field(default="", compare=False)
    """The Cloud project whose quota its calls use."""
    can_read_bodies: bool = field(default=False, compare=False)
    """Whole messages can be read: gmail.readonly or more, without gmail.metadata, beside which Google refuses."""
    verified: bool = field(default=True, compare=False)
    """Google has named the mailbox, or the request did. With gmail.send alone Google does not say whose it is."""


def allow_profile(scopes: tuple[str, ...]) -> bool:
    """Whether the scopes allow users.getProfile; unknown scopes are tried."""
    return not scopes or bool(set(scopes) & _PROFILE_SCOPES)


@lru_cache(maxsize=1024)
def mailbox_with(
    sender: str, *, scopes: tuple[str, ...], project: str = "", verified: bool = True
) -> Mailbox | NoCredentials:
    """The mailbox with these scopes, or why nothing can be sent with them. It is the same for every letter."""
    granted = set(scopes)
    if granted & _DRAFT_SCOPES or not granted:
        # Unknown scopes are taken as allowing drafts: if that is wrong, Google refuses before anything is sent.
        mode: Literal["draft", "direct"] = "draft"
    elif SEND in granted:
        mode = "direct"
    else:
        return NoCredentials(
            f"{sender}: the sign-in allows neither {COMPOSE} nor {SEND}, only {', '.join(scopes)}; "
            "sign in again with the scope gmail.compose"
        )
    can_read = bool(granted & _READ_SCOPES)
    bodies = bool(granted & _BODY_SCOPES) and METADATA not in granted
    return Mailbox(
        sender=sender, mode=mode, can_read_metadata=can_read, scopes=scopes, project=project, can_read_bodies=bodies,
        verified=verified,
    )  # fmt: skip
