"""The proof that a message of ours came back: a header that only its own recipient has seen.

X-Mailerd-Key counts a job's messages through, so each recipient knows the keys of all others. The
proof is a MAC of the key: a person who has one message can make no other message's.
"""

import base64
import hashlib
import hmac
from typing import Final

PROOF_HEADER: Final = "X-Mailerd-Proof"


_LABEL: Final = b"X-Mailerd-Proof\x00"
"""No address begins so: the same secret makes the digests of addresses."""


_PROOF_BYTES: Final = 16


PROOF_LENGTH: Final = (8 * _PROOF_BYTES + 5) // 6
"""Characters of a proof: base64 has six bits in each."""


def proof_of(key: str, secret: bytes) -> str:
    """What stands in X-Mailerd-Proof of the message with this X-Mailerd-Key: PROOF_LENGTH
    characters of base64url.
    """
    mac = hmac.digest(secret, _LABEL + key.encode("utf-8"), hashlib.sha256)[:_PROOF_BYTES]
    return base64.urlsafe_b64encode(mac).decode("ascii").rstrip("=")


def is_proof(said: str, key: str, secret: bytes) -> bool:
    """Whether `said` is the proof that belongs to the key."""
    return hmac.compare_digest(
        said.encode("utf-8", "replace"), proof_of(key, secret).encode("ascii")
    )
