"""The manual pages are written from the commands' help."""

import re
from pathlib import Path

import pytest

from mailerd import __version__
from mailerd.cli.lazy_group import COMMANDS
from mailerd.cli.manual import MAN, markdown, page, write
from mailerd.core.i18n import Language
from mailerd.locale import speak
from tests.house.sentences import english_left, is_chinese


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_manual_page_names_the_version_and_every_command(language: Language) -> None:
    text = page(language).replace("\\-", "-")
    assert f"mailerd {__version__}" in text
    assert [name for name in COMMANDS if f".SS mailerd {name}" not in text] == []


def test_the_pages_are_written_where_man_looks_for_them(tmp_path: Path) -> None:
    assert [path.relative_to(tmp_path).as_posix() for path in write(tmp_path)] == list(MAN)
    assert (tmp_path / "zh_CN/man1/mailerd.1").read_text("utf-8") == page("zh")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_of_the_site_has_every_command_with_its_options(language: Language) -> None:
    speak(language)
    try:
        text = markdown()
    finally:
        speak("en")
    assert [name for name in COMMANDS if f"\n## mailerd {name}" not in text] == []
    assert "| `--config <path>` |" in text or "| `--config PATH` |" in text


def test_the_chinese_page_has_no_english_sentence() -> None:
    lines = page("zh").replace("\\-", "-").splitlines()
    said = [line for line in lines if not re.match(r"\.(?:B|I|SS|TH|TP|SH)\b|\.\\|\[", line)]
    assert [found for line in said for found in english_left(line)] == []
    assert [line for line in said if re.search(r"[a-z]{2,} [a-z]{2,}", line) and not is_chinese(line)] == []
    assert len([line for line in said if is_chinese(line)]) > 150
