"""Why waiting messages are held: of the pause and their time, the one that ends last."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailerd.core.pauses import hold_reason
from mailerd.core.rate_limit import FOREVER

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
FREE = {"job_paused": False, "due": None, "paused_until": None, "pause_reason": None}


@pytest.mark.parametrize(
    "given, said",
    [
        ({}, None),
        ({"job_paused": True, "paused_until": NOON}, "the job is paused"),
        ({"due": NOON}, "not due before 12:00"),
        ({"due": NOON, "last_error": "503"}, "deferred until 12:00 after the last attempt: 503"),
        ({"paused_until": NOON, "pause_reason": "429"}, "me@example.com is paused until 12:00: 429"),
        ({"paused_until": NOON}, "me@example.com is paused until 12:00"),
        ({"paused_until": FOREVER, "due": NOON}, "me@example.com is paused until it is resumed"),
        ({"paused_until": LATER, "due": NOON}, "me@example.com is paused until 13:00"),
        ({"paused_until": NOON, "due": LATER}, "not due before 13:00"),
        (
            {"paused_until": NOON, "due": LATER, "repair": "you sign in", "pause_reason": "refused"},
            "me@example.com is paused until you sign in (tried each minute: refused)",
        ),
    ],
)
def test_the_reason_is_what_ends_last(given: dict[str, Any], said: str | None) -> None:
    assert hold_reason(sender="me@example.com", say="{:%H:%M}".format, **{**FREE, **given}) == said
