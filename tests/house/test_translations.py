"""The Chinese pages are in step: each section carries the digest of the English section that it was written from."""

from pathlib import Path

import pytest

from tools import translations
from tools.translations import ROOT, behind, english_of, is_marked, pages, parts, renewed, shown


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_section_is_behind_the_english(page: Path) -> None:
    assert is_marked(page), "it says nowhere which English it was written from: make translations"
    assert [chinese.heading for chinese, _ in behind(page)] == [], "make translations shows what has changed"


def digest(text: str) -> str:
    (part,) = parts(text)
    return part.digest


def test_a_digest_is_of_the_words_and_not_of_lines_and_code() -> None:
    text = "## Restore\n\nStop mailerd, then\nrestore.\n\n```bash\nmailerd check\n```\n"
    assert digest(text) == digest(text.replace("then\nrestore", "then restore"))
    assert digest(text) == digest(text.replace("mailerd check", "# no heading\nmailerd run"))
    assert digest(text) != digest(text.replace("then", "and"))


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Chinese page that was just marked."""
    monkeypatch.setattr(translations, "ROOT", tmp_path)
    (tmp_path / "a.md").write_text("Before.\n\n# A\n\nOne.\n\n## B\n\nTwo.\n")
    chinese = tmp_path / "a.zh-CN.md"
    chinese.write_text("前言。\n\n# 甲\n\n一。\n\n## 乙\n\n二。\n")
    chinese.write_text(renewed(chinese))
    return chinese


def test_a_page_that_was_marked_is_in_step_and_reads_as_before(page: Path) -> None:
    text = page.read_text("utf-8")
    assert behind(page) == []
    assert text.count("<!-- en ") == 3
    assert (
        "\n".join(line for line in text.splitlines() if "<!--" not in line) == "前言。\n\n# 甲\n\n一。\n\n## 乙\n\n二。"
    )
    assert renewed(page) == text


def test_a_section_whose_english_has_changed_is_named(page: Path) -> None:
    english_of(page).write_text("Before.\n\n# A\n\nOne.\n\n## B\n\nThree.\n")
    assert [chinese.heading for chinese, _ in behind(page)] == ["## 乙"]
    page.write_text(renewed(page))
    assert behind(page) == []


def test_a_page_with_other_sections_than_the_english_is_refused(page: Path) -> None:
    english_of(page).write_text("Before.\n\n# A\n")
    with pytest.raises(SystemExit, match="3 sections, and 2 in English"):
        behind(page)


def test_what_has_changed_is_shown_from_the_history(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    was = english_of(page).read_text("utf-8")
    english_of(page).write_text(was.replace("Two.", "Three."))
    monkeypatch.setattr(translations, "_versions", lambda _: iter([was]))
    assert [line for line in shown(page) if line.startswith(("+", "-"))] == ["-Two.", "+Three."]


def test_the_history_has_a_page_under_its_earlier_name() -> None:
    english = ROOT / "docs" / "how-to" / "backup.md"
    assert next(translations._versions(english))
