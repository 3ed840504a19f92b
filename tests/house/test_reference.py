"""The tables of the documents are what the code says: codes, shares, events, and what templates may use."""

import re
from typing import Final

import pytest

from mailerd.config import IntakeSettings
from mailerd.core.i18n import Language, verbatim
from mailerd.core.webhooks import EventType
from mailerd.http.auth import SHARE_TIMEOUT, KeyShare, KeyShares
from mailerd.http.responses import CODES
from mailerd.locale import say
from mailerd.mail.environment import FILTERS, METHODS, TESTS
from tests.house.markdown import Paper
from tests.house.source import ROOT

DOCS: Final = ROOT / "docs"
PAGES: Final[dict[Language, str]] = {"en": "", "zh": ".zh-CN"}
each_language = pytest.mark.parametrize("language", PAGES)


def cells(name: str, language: Language, section: int) -> list[list[str]]:
    """The rows below the head of a section's table."""
    _, text = Paper(DOCS / f"{name}{PAGES[language]}.md").sections[section]
    rows = re.findall(r"(?m)(?:^\|.*\|$\n?)+", text)[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


@each_language
def test_the_reference_has_every_code_and_its_meaning(language: Language) -> None:
    assert cells("reference/errors", language, 1) == [
        [f"`{code}`", say(verbatim(meaning), language)] for code, meaning in CODES.items()
    ]


@each_language
def test_the_reference_has_the_shares_of_the_code(language: Language) -> None:
    settings = IntakeSettings()
    shares = [share for share in vars(KeyShares(settings)).values() if isinstance(share, KeyShare)]
    waits = {
        "en": {0: "429 at once", SHARE_TIMEOUT: f"waits, {SHARE_TIMEOUT:.0f} s at most"},
        "zh": {0: "立即 429", SHARE_TIMEOUT: f"等待，最多 {SHARE_TIMEOUT:.0f} 秒"},
    }[language]
    expected = [
        [f"`{share.setting}`" if share.setting.startswith("intake.") else {"en": "none", "zh": "无"}[language],
         str(share.per_key), waits[share.within]]
        for share in shares
    ]  # fmt: skip
    assert [row[1:] for row in cells("reference/errors", language, 3)] == expected


@each_language
def test_the_reference_has_every_type_of_event(language: Language) -> None:
    titles = [title for title, _ in Paper(DOCS / f"reference/api{PAGES[language]}.md").sections]
    rows = cells("reference/api", language, titles.index({"en": "Events", "zh": "事件"}[language]))
    assert [row[0].strip("`") for row in rows] == list(EventType)


@each_language
def test_the_page_on_templates_lists_what_they_may_use(language: Language) -> None:
    page = Paper(DOCS / f"how-to/templates{PAGES[language]}.md")
    titles = [title for title, _ in page.sections]
    rows = cells("how-to/templates", language, titles.index({"en": "Write the text", "zh": "编写文本"}[language]))
    of_a_loop = {"changed", "cycle"}
    assert [row[1].strip("`").split() for row in rows] == [
        sorted(FILTERS),
        sorted(TESTS),
        sorted(METHODS.keys() - of_a_loop),
    ]
