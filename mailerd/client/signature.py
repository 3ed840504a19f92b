"""Verifies what a webhook of mailerd brings: Standard Webhooks 1.0.0, by the specification's own
library.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError
from standardwebhooks.webhooks import EmptyWebhookSecretError

from mailerd.errors import MailerdError

_SECONDS: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_UNBELIEVED: Final = (
    WebhookVerificationError,
    EmptyWebhookSecretError,
    ValueError,
    KeyError,
    TypeError,
    RecursionError,  # a body of too many brackets
)


class SignatureError(MailerdError):
    """A post was not signed with the secret, not for this body, or not within the last five
    minutes.
    """


@dataclass(frozen=True)
class WebhookEvent:
    """An event that was posted, and is mailerd's own."""

    id: str
    """The event's `uid`. Each comes at least once: keep the ids that you have handled."""
    type: str
    timestamp: datetime
    """When it happened; events may come in another order."""
    data: dict[str, Any]


def verify(body: bytes, headers: Mapping[str, str], secret: str) -> WebhookEvent:
    """The event of a post, if it is signed with the secret.

    `body`: the bytes as they came, not parsed and written again. `headers`: those of the request,
    in any case. `secret`: `whsec_…`, as `mailerd webhooks add` or `rotate` printed it.

    Raises:
        SignatureError: it cannot be verified; respond with a 400.
    """
    given = {name.lower(): value for name, value in headers.items()}
    # the library takes whatever float() does
    if not _SECONDS.fullmatch(given.get("webhook-timestamp", "")):
        raise SignatureError(
            "cannot verify the request: it has no webhook-timestamp in whole seconds"
        )
    try:
        it = Verifier(secret).verify(body, given)
        return WebhookEvent(
            given["webhook-id"],
            str(it["type"]),
            datetime.fromisoformat(str(it["timestamp"])),
            dict(it["data"]),
        )
    except _UNBELIEVED as error:
        raise SignatureError(f"cannot verify the request: {error}") from error
