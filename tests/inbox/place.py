"""What the tests of the inbox reader share: shapes and their truth, and a daemon before a mailbox that may be read."""

from pathlib import Path
from typing import Any, Final

from mailerd.config import Settings
from mailerd.sandbox.google import COMPOSE, FakeGoogle, RunningServer
from mailerd.sandbox.google.fake_limits import METADATA, READONLY
from mailerd.sandbox.google.mailbox import Message
from mailerd.store.db.database import Database
from tests.support.daemon import settings, sign_in
from tests.support.eventually import eventually
from tests.support.rows import query

ME: Final = "me@example.com"
TRUTH: Final[dict[str, tuple[str | None, str | None, str | None]]] = {
    "hard": ("bounced", "hard", "5.1.1"),
    "soft": ("bounced", "soft", "5.2.2"),
    "blocked": ("bounced", "blocked", "5.0.0"),
    "policy": ("bounced", "blocked", "5.7.1"),
    "delayed": (None, None, None),
    "dead_domain": ("bounced", "hard", "4.0.0"),
    "rate": ("bounced", "soft", "5.2.1"),
    "exchange": ("bounced", "hard", "5.1.10"),
    "postfix": ("bounced", "hard", "5.1.1"),
    "forwarded": ("bounced", "hard", "5.1.1"),
    "exim": ("bounced", "hard", None),
    "qmail": ("bounced", "hard", "5.1.1"),
    "reply": ("replied", None, None),
    "reply_of_other": ("other_replied", None, None),
    "auto_reply": ("auto_replied", None, None),
    "auto_reply_zh": ("auto_replied", None, None),
    "claims_limit": ("bounced", "unknown", "5.4.5"),
    "forged_hard": (None, None, None),
    "forged_limit": (None, None, None),
    "forged_hard_by_address": (None, None, None),
    "forged_limit_by_address": (None, None, None),
}
"""What becomes of a message that gets mail of this shape, where mail can be read whole."""


def reading(
    database_url: str, served: RunningServer, google: FakeGoogle, folder: Path, *, scope: str = READONLY, **more: Any
) -> Settings:
    """Settings of a daemon that reads the inbox of ME at once and again."""
    sign_in(google, folder, ME, scopes=(COMPOSE, scope))
    inbox = {"interval": 0.2, "limit_pause": 0.0, **more.pop("inbox", {})}
    return settings(database_url, served, folder, inbox=inbox, **more)


def arrive(google: FakeGoogle, message: Message, shape: str) -> None:
    """Let mail about a sent message come now."""
    google.arrivals.add(message, shape, due=google.now())


async def read_up(database: Database, google: FakeGoogle) -> None:
    """Until everything that came to ME is read and committed."""

    async def done() -> bool:
        google.arrivals.deliver(google.mailbox(ME), now=google.now())
        statement = "SELECT history_id, state FROM mailboxes WHERE email = %s AND lease_token IS NULL"
        rows = await query(database, statement, ME)
        return rows == [(google.mailbox(ME).history_id, "read")]

    await eventually(done)


async def results(database: Database) -> dict[str, tuple[str | None, str | None, str | None]]:
    """The result, its kind and its code of each message by its address."""
    rows = await query(database, "SELECT to_email, result, result_kind, result_code FROM job_recipients")
    return {to: (result, kind, code) for to, result, kind, code in rows}


__all__ = ["METADATA", "READONLY"]
