"""Every sentence that people read has its Chinese, and each is read back as what it is."""

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from string import Formatter
from typing import Final

import pytest

from mailerd import texts
from mailerd.core.texts import Catalogue, Text, is_chinese
from tests.house.sentences import Sentence, key, sentences
from tests.house.source import ROOT, modules

SURFACES: Final[Mapping[str, tuple[str, ...]]] = {"verdicts": ("core/verdicts.py",)}
"""The modules that speak to people, by where their words are read."""
NO_WORDS: Final = frozenset({"Mail service not enabled", "Quota exceeded", "rate limit", "(Mail sending)"})
"""What looks like a sentence and is none: names, SQL, and words that are looked for in what others say."""
TABLES: Final = {name: import_module(f"mailerd.texts.{name}").TEXTS for name in texts.TABLES}
PAIRS: Final = [Text(en, zh) for table in TABLES.values() for en, zh in table.items()]
KEYS: Final = {key(text.en) for text in PAIRS}


def spoken(places: tuple[str, ...]) -> list[Sentence]:
    """The sentences of some modules or folders of mailerd."""
    paths: list[Path] = []
    for place in places:
        whole = ROOT / "mailerd" / place
        paths += modules(f"mailerd/{place}") if whole.is_dir() else [whole]
    return [each for path in paths for each in sentences(path) if each.template not in NO_WORDS]


@pytest.mark.parametrize("surface", SURFACES)
def test_every_sentence_has_its_chinese(surface: str) -> None:
    missing = [f"{each.spot} {each.template!r}" for each in spoken(SURFACES[surface]) if each.key not in KEYS]
    assert missing == [], "give them their Chinese in mailerd/texts"


def test_every_text_is_chinese_over_the_same_fields() -> None:
    def fields(template: str) -> set[str]:
        return {name for _, name, _, _ in Formatter().parse(template) if name}

    assert [text for text in PAIRS if not is_chinese(text.zh) or fields(text.zh) - fields(text.en)] == []
    assert [text.zh for text in PAIRS if re.search(r"(?<!回)信(?!息|任|箱|号)", text.zh)] == [], "邮件, not 信"


def test_no_sentence_is_told_twice() -> None:
    told = [key(text.en) for text in PAIRS]
    assert sorted({each for each in told if told.count(each) > 1}) == []


def test_no_text_is_taken_for_another() -> None:
    catalogue: Catalogue = texts.catalogue()
    wrong = []
    for text in PAIRS:
        fields = {name: f"<{name}>" for _, name, _, _ in Formatter().parse(text.en) if name}
        fields |= {name: "7 s" for _, name, kind, _ in Formatter().parse(text.zh) if kind == "span" and name}
        english = text.en.format_map(fields)
        chinese = re.sub(r"\{(\w+)(?::\w+)?\}", r"{\1}", text.zh).format_map(fields).replace("7 s", "7 秒")
        if (found := catalogue.chinese(english)) != chinese:
            wrong.append((english, found, chinese))
    assert wrong == []


def test_no_exception_outlives_its_reason() -> None:
    everything = {each.template for path in modules("mailerd") for each in sentences(path)}
    assert sorted(NO_WORDS - everything) == []
