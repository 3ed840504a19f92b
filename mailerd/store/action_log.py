"""The log of what people and programs asked of jobs, letters and senders: the table `job_actions`."""

from typing import Final

from mailerd.store.db.cursor import Statement

_NOTE: Final = """
INSERT INTO job_actions (job_id, sender, action, actor, detail, changed, letters, at)
VALUES (%s, %s, %s, %s, %s, %s, %s, UTC_TIMESTAMP(6))"""
MAX_DETAIL: Final = 100
"""Characters of a detail, as the table has it."""


def note_action(
    action: str,
    actor: str,
    *,
    job: str | None = None,
    sender: str | None = None,
    detail: str | None = None,
    changed: bool = True,
    letters: int = 0,
) -> Statement:
    """One request, of a job or of a sender. `letters`: how many letters it changed."""
    return _NOTE, (job, sender, action, actor, detail[:MAX_DETAIL] if detail else None, int(changed), letters)
