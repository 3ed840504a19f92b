"""The rules of the sandbox Google: every number that may differ from one run to another, and
nothing that acts.
"""

from dataclasses import dataclass, fields

from mailerd.core.rate_limit import STANDARD_FROM

PROJECT_NUMBER = "424242424242"
"""The Cloud project that Google's quota messages name as the consumer."""

COMPOSE = "https://www.googleapis.com/auth/gmail.compose"
SEND = "https://www.googleapis.com/auth/gmail.send"
METADATA = "https://www.googleapis.com/auth/gmail.metadata"
MODIFY = "https://www.googleapis.com/auth/gmail.modify"
READONLY = "https://www.googleapis.com/auth/gmail.readonly"
SETTINGS = "https://www.googleapis.com/auth/gmail.settings.basic"
FULL = "https://mail.google.com/"


@dataclass(frozen=True, kw_only=True, slots=True)
class FakeLimits:
    """How generous this Google is. 0 always means "no limit"."""

    units_per_minute: int = 6_000
    """Quota units per mailbox in any 60 s; Google gives this to projects created since
    2026-05-01.
    """
    standard_from: float = STANDARD_FROM.timestamp()
    """The epoch time from which a mailbox has at most the Standard tier's units; 0: the project
    pays for more.
    """
    project_units_per_minute: int = 1_200_000
    """Quota units of all mailboxes together in any 60 s."""
    per_day: int = 2_000
    """Messages, external addresses and fifths of all addresses per mailbox in any 24 h; Workspace's
    sending limits.
    """
    consumer_per_day: int = 500
    """Addresses of a mailbox at gmail.com, where that is less; `per_day` 0 is no cap for either."""
    concurrent_per_user: int = 0
    """Requests of one mailbox that may be in flight at once."""
    latency_s: float = 0.0
    """Seconds that every Gmail call takes; the work is done half-way through."""
    token_latency_s: float = 0.0
    """Seconds that every call of the token endpoint takes."""
    token_lifetime_s: int = 3_599
    """Seconds until an access token expires, as Google answers in `expires_in`."""
    retry_after_s: float = 900.0
    """How far out the "Retry after" stamp of an injected throttle lies; about 15 minutes have been
    observed.
    """
    max_message_bytes: int = 35 * 1024 * 1024
    """The largest message; 35 MiB in Google's discovery document."""
    log_size: int = 20_000
    """How many requests `/sandbox/log` remembers."""
    keep_raw: int = 0
    """How many of the newest sent messages keep their bytes; older ones keep their headers only."""
    bounces: float = 0.0
    """Share of the messages that come back, in turn in every shape; which ones, `seed` and their
    addresses decide.
    """
    replies: float = 0.0
    """Share of the messages that are answered, by people and by programs."""
    dead_share: float = 0.0
    """Share of the addresses at `dead.example` that do not exist (5.1.1); 1 is all of them."""
    dead_delay_s: float = 40.0
    """Seconds after a message to such an address until its notice is there, at most; at least a
    twentieth of that.
    """
    notice_delay_s: float = 2.0
    """Seconds after a message until its notice or answer is there."""
    late_per_day: int = 0
    """Messages in any 24 h above which one is taken with a 200, not delivered, and given back by a
    limit notice.
    """
    seed: int = 0
    """What the probabilities of faults are drawn from, so that a run can be repeated."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant; a negative limit raises ValueError."""
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f"{field.name} must not be negative")
