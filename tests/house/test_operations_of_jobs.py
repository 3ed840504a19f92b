"""Who changes a job, a message or a sender does it by an operation: no surface writes, notes or tells it by itself."""

import ast
from pathlib import Path
from typing import Final

import pytest

import mailerd

PACKAGE: Final = Path(mailerd.__file__).parent
SURFACES: Final = (
    "intake/senders.py",
    "intake/read_jobs.py",
    "intake/recipients.py",
    "web/look/senders_page.py",
    "web/look/change_job.py",
    "web/look/jobs_page.py",
    "web/look/undo_job.py",
    "web/look/message_page.py",
    "cli/senders.py",
    "cli/jobs.py",
    "cli/maintenance.py",
)
WRITERS: Final = {"note_action", "sender_changes", "job_changes", "JobActions", "settle"}
ACTS: Final = {
    "pause", "resume", "resume_project", "change", "change_limits", "apply", "cancel_message", "settle", "job_action",
    "sender_action", "wake",
}  # fmt: skip
OPERATIONS: Final = {"senders", "jobs", "messages", "operations"}


@pytest.mark.parametrize("path", SURFACES)
def test_a_surface_changes_nothing_but_by_an_operation(path: str) -> None:
    tree = ast.parse((PACKAGE / path).read_text())
    from_store = [
        it for it in ast.walk(tree) if isinstance(it, ast.ImportFrom) and "mailerd.store" in (it.module or "")
    ]
    assert {name.name for it in from_store for name in it.names} & WRITERS == set()
    called = [it.func for it in ast.walk(tree) if isinstance(it, ast.Call) and isinstance(it.func, ast.Attribute)]
    by_operation = [it for it in called if isinstance(it.value, ast.Name) and it.value.id in OPERATIONS]
    assert by_operation
    assert {it.attr for it in called if it not in by_operation} & ACTS == set()
