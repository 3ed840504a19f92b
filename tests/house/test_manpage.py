"""The manual pages are written from the commands' help, and are current."""

import re
from pathlib import Path

import pytest

from mailerd import __version__
from tests.house.sentences import english_left, is_chinese
from tools.manpage import PAGES, page


@pytest.mark.parametrize("path", PAGES, ids=PAGES.get)
def test_the_manual_page_is_current(path: Path) -> None:
    assert path.read_text("utf-8") == page(PAGES[path]), "type: make man"


@pytest.mark.parametrize("path", PAGES, ids=PAGES.get)
def test_the_manual_page_names_the_version(path: Path) -> None:
    assert f"mailerd {__version__}" in path.read_text("utf-8")


def test_the_chinese_page_has_no_english_sentence() -> None:
    _, *lines = page("zh").replace("\\-", "-").splitlines()
    said = [line for line in lines if not re.match(r"\.(?:B|I|SS|TH|TP|SH)\b|\.\\|\[", line)]
    assert [found for line in said for found in english_left(line)] == []
    assert [line for line in said if re.search(r"[a-z]{2,} [a-z]{2,}", line) and not is_chinese(line)] == []
    assert len([line for line in said if is_chinese(line)]) > 150
