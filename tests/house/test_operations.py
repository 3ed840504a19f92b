"""What is asked of a noun is one operation for every surface: a surface neither writes nor notes an act itself."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.house.source import ROOT, modules, spot, tree

WRITES: Final = {
    "mailerd.store.write.action_log": {"note_action", "ListLog"},
    "mailerd.store.write.webhooks": {"Webhooks", "WebhookDeliveries"},
    "mailerd.store.write.templates": {"TemplateStore"},
    "mailerd.store.write.suppressions": {"Suppressions", "NewSuppression", "add", "write_list"},
}
"""What writes the nouns that have operations, and notes who asked for it."""
BESIDE: Final = {
    "mailerd/intake/create_job.py": "the list of a job, and whom it leaves out",
    "mailerd/intake/read_jobs.py": "what is shown with a person's messages",
    "mailerd/intake/unsubscribe_site.py": "it is the person's own act, by a link of a message",
    "mailerd/web/send/draft_people.py": "whom a draft leaves out",
    "mailerd/intake/api.py": "what the library shows of the API's templates",
    "mailerd/intake/templates_endpoint.py": "what is shown of them",
    "mailerd/web/frame/services.py": "what is shown of them",
    "mailerd/cli/checks/database.py": "what a check reads of the endpoints",
}
"""What uses them otherwise, and for what."""


def writers(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            for it in node.names:
                if it.name in WRITES.get(node.module or "", ()):
                    yield f"{spot(path, node)} imports {it.name}"


FOUND: Final = {
    str(path.relative_to(ROOT)): found
    for path in modules("mailerd/web", "mailerd/intake", "mailerd/cli")
    if (found := list(writers(path)))
}


def test_a_surface_asks_an_operation() -> None:
    assert {path: found for path, found in FOUND.items() if path not in BESIDE} == {}


def test_what_stands_beside_is_there() -> None:
    assert BESIDE.keys() - FOUND.keys() == set()


@pytest.mark.parametrize("name", ["note_action", "ListLog"])
def test_an_import_is_seen(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.house.source.ROOT", tmp_path)
    (tmp_path / "page.py").write_text(f"from mailerd.store.write.action_log import {name}\n", "utf-8")
    assert list(writers(tmp_path / "page.py")) == [f"page.py:1 imports {name}"]
