"""The attacks on the inbox reader: they change nothing, and what goes to Google is letters and questions."""

from pathlib import Path

import pytest

from tests.inbox.attacks import run

ASKED = {"token", "getProfile", "history.list", "messages.list", "messages.get"}
SENT = {"drafts.create", "drafts.send", "drafts.list", "drafts.get"}
"""Letters go out by drafts; the list, and each draft in it, is asked for those that a crash left."""


@pytest.mark.slow
async def test_no_attack_changes_a_letter_or_ends_the_daemon(tmp_path: Path) -> None:
    seen = await run(tmp_path)
    assert seen.messages > 70
    assert seen.wrong == []
    assert (seen.suppressed, seen.undone, seen.pauses, seen.crashed) == (1, 0, 0, 0)  # the one true notice
    assert seen.afterwards == "bounced"
    assert seen.answers > 0
    assert set(seen.methods) <= ASKED | SENT
