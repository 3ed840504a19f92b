"""The attacks on the inbox reader: they change nothing, and nothing but questions goes to Google."""

from pathlib import Path

import pytest

from tests.inbox.attacks import run

ASKED = {"token", "getProfile", "history.list", "messages.list", "messages.get", "drafts.list"}
"""The last is asked for drafts that a crash left; there are none any more."""


@pytest.mark.slow
async def test_no_attack_changes_a_message_or_ends_the_daemon(tmp_path: Path) -> None:
    seen = await run(tmp_path)
    assert seen.arrived > 70
    assert seen.wrong == []
    assert (seen.suppressed, seen.undone, seen.pauses, seen.crashed) == (1, 0, 0, 0)  # the one true notice
    assert seen.afterwards == "bounced"
    assert seen.answers > 0
    assert set(seen.methods) <= ASKED
