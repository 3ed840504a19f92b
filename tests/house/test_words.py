"""How the documents speak: one word for each thing, in English and Chinese, and sentences that are read once."""

import re
from functools import cache
from typing import Final

import pytest

from mailerd.http.responses import CODES
from tests.house.markdown import Paper
from tests.house.source import ROOT, docstrings, modules
from tools.messages import catalogues, in_code, read

ENGLISH: Final = {
    r"letters?": "message",
    r"(?:an|every|each|one) e-?mails?(?! address)|e-mails": "message",
    r"(?<!COMMIT in )doubt(?:s|ful)?": "unconfirmed",
    r"(?:is|was) not known (?:whether|if)": "cannot tell whether, unconfirmed",
    r"(?<!`)settle[sd]?|settling": "confirm as sent or not sent; resolve",
    r"(?:put|puts|putting) off": "deferred",
    r"waits? again": "requeued",
    r"(?:go|goes|going|went|gone) out(?! of)": "sent",
    r"fates?": "result",
    r"(?:come|comes|coming|came) back": "bounced; replied; returned; is available again",
    r"(?:give|gives|gave|given) back": "returned",
    r"undone|undoes": "returned by Google",
    r"told|tells": "reports, logs, shows",
    r"mend(?:s|ed|ing)?": "fix",
    r"(?<!right )away": "unavailable",
    r"out of reach": "unreachable",
    r"rests|rested|resting|(?:sender|mailbox|endpoint|Google) rest": "paused; backing off",
    r"by hand|in hand": "manually; in flight",
    r"by (?:itself|themselves)": "automatically",
    r"(?:go|goes|going|went|gone) on(?! \d)": "continues",
    r"once more|anew|afresh": "again, new",
    r"heard of|(?:fell|falls|is) silent": "last seen; not responding",
    r"could go(?: and| first|$)": "overdue",
    r"(?:use|uses|used|using) up|full day": "limit reached",
    r"paces?|paced": "sending limits, rate",
    r"(?<!too many )sign-ins?(?! form| link)": "authorization (of a mailbox); signing in (to the console)",
    r"no longer honou?rs": "revoked",
    r"(?:opt|opts|opted|opting) out": "unsubscribed",
    r"stands?(?!-)(?! for)|stood": "is",
    r"(?:a|an|one|the|next|last|first|second|two|their|no|its|after) looks?(?! up)": "check",
    r"unforeseen": "unexpected",
    r"(?:the|its|their|all|with|and) stacks?": "traceback",
    r"(?:take|takes|took|taking|taken) (?:the |no )?writes?": "accepts writes, is writable",
    r"(?<!there )(?:is|was|are|were) none": "is not",
    r"(?:hear|hears) of": "receives",
    r"intakes?": "the API",
    r"(?:story|stories)": "history",
    r"answer(?:s|ed|ing)?": "response (of a server), reply (of a person)",
    r"(?-i:ids?)": "ID",
    r"all the same": "anyway",
    r"of (?:which|whom)|whereof": "(a second sentence)",
    r"e\.g\.|i\.e\.|etc\.|viz\.": "for example, that is",
    r"(?<=, )since(?! then| \d)": "because",
    r"shall|lest|whichever|thereby": "(plain words)",
}
"""Words that a native speaker would not ship here, as patterns of whole words, each with what to write instead."""
CHINESE: Final = {
    "存疑|结果未定|结果不明": "待确认",
    "裁定": "人工确认",
    "推迟": "延后",
    "放回": "重新排队",
    "结局|后续结果": "结果",
    "凭证|证据": "依据",
    "领取|取走": "认领",
    "缺陷|程序错误缺陷": "程序错误",
    "密文": "签名密钥",
    "应答|答复": "响应，回复",
    "(?<!业务)(?<!文章的)编号": "ID",
    "接受时间": "接收时间",
    "最久待发": "最长逾期",
    "的外观": "预览",
    "应发时间": "计划发送时间",
    "替身": "模拟的 Google 服务",
    "限速": "限流",
    "收尾": "发完处理中的邮件再退出",
    "接收端": "API 服务",
    "回音": "退信与回复",
    "草稿[^。]{0,9}消耗": "一经发送即消失",
    "退订名单|退订记录": "禁发名单，禁发记录",
    "屏蔽": "禁发",
    "无法到达|够不到": "无法连接",
    "登录(?:每个|一个)?邮箱|邮箱的登录|登录被撤销|登录权限|登录失效|失效的登录|终止登录": "授权",
    "休息": "暂停，退避",
    "堆栈": "调用栈",
    "退还|退给": "退回",
    "(?<!联系)发件人(?!姓名)": "发件邮箱",
    r"(?<![迎])你": "您",
    r"[\u4e00-\u9fff] ?[,;:!?](?=[\s\u4e00-\u9fff])": "全角标点",
    r"[\u4e00-\u9fff][A-Za-z0-9]|[A-Za-z0-9][\u4e00-\u9fff]": "中文与西文之间空一格",
    r" [，。；：？！、）]|[，。；：？！、）] (?=[\u4e00-\u9fff])|（ ": "标点前后不空格",
}
"""The same for the Chinese pages."""
PAGES: Final = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAPERS: Final = {str(path.relative_to(ROOT)): Paper(path) for path in PAGES if path.name != "events.md"}
"""All but the page that is made from the events, whose sentences are those of the catalogue."""
OURS: Final = [name for name in PAPERS if not name.endswith(".zh-CN.md")]
THEIRS: Final = ["README.zh-CN.md", *(name for name in PAPERS if name.endswith(".zh-CN.md"))]
MAX_WORDS: Final = 25
LONG: Final[dict[str, int]] = {
    "CHANGELOG.md": 2,
}  # fmt: skip
"""Sentences that are longer than that, by page: fewer may be written here, never more."""
IN_DOCSTRINGS: Final = 2135
"""How often the docstrings of the package still say what is refused: fewer may be written here, never more."""
IN_TEXTS: Final = 3
IN_CHINESE_TEXTS: Final = 0
"""How many texts of the catalogue do."""


def prose(text: str) -> str:
    """What a page says itself: without code, links' targets, lines of the log and the API's own sentences."""
    for said in sorted(CODES.values(), key=len, reverse=True):
        text = text.replace(f"| {said} |", "| |")
    text = re.sub(r"(?ms)^ +```.*?^ +```$", "", text)
    text = re.sub(r"``.+?``|`[^`\n]+`", "`", text)
    return re.sub(r"(?<=\])\([^)\s]+\)|<https?:[^>]+>|https?:\S+", "", text)


def refused(text: str, words: dict[str, str], *, bounds: str = "") -> list[str]:
    """What is said that is refused, each with what to write instead."""
    return [
        f"{found[0]!r}: {instead}"
        for pattern, instead in words.items()
        for found in re.finditer(rf"{bounds}(?:{pattern}){bounds}", text, re.IGNORECASE)
    ]


def sentences(text: str) -> list[str]:
    """The sentences of a page; a line of a list and a cell of a table are some of their own."""
    parts = re.split(r"\n\s*\n|\n(?=\s*(?:[*#-]|\d+\.) )|(?<!\|)\n(?=\|)|\|", text)
    return [each for part in parts for each in re.split(r"(?<=[.!?:])[*\"’)]*\s+", " ".join(part.split())) if each]


@pytest.mark.parametrize("page", OURS)
def test_a_page_says_one_word_for_each_thing(page: str) -> None:
    found = refused(prose(PAPERS[page].prose), ENGLISH, bounds=r"\b")
    assert found == []


@pytest.mark.parametrize("page", THEIRS)
def test_a_chinese_page_says_one_word_for_each_thing(page: str) -> None:
    paper = PAPERS.get(page) or Paper(ROOT / page)
    assert refused(prose(paper.prose), CHINESE) == []


@pytest.mark.parametrize("page", OURS)
def test_a_page_has_no_more_long_sentences_than_before(page: str) -> None:
    found = [each for each in sentences(prose(PAPERS[page].prose)) if len(each.split()) > MAX_WORDS]
    assert len(found) <= LONG.get(page, 0), found


def test_docstrings_say_no_more_refused_words_than_before() -> None:
    said = "\n".join(prose(each) for path in modules("mailerd") for each in docstrings(path))
    assert len(refused(said, ENGLISH, bounds=r"\b")) <= IN_DOCSTRINGS


@cache
def texts() -> dict[str, str]:
    """What the code says, each template and its Chinese."""
    (po,) = catalogues()
    known = read(po)
    pairs = {}
    for each in in_code():
        one, *many = [each.id] if isinstance(each.id, str) else [*(each.id or [""])]
        found = known.get(one, each.context)
        chinese = (found.string if found else "") or ""
        pairs["\n".join([one, *many])] = chinese if isinstance(chinese, str) else "".join(chinese)
    return pairs


def said(text: str) -> str:
    """What a template says itself: without fields, options and settings."""
    return re.sub(r"\{\{.*?\}\}|\{[^}]*\}|--[\w-]+|\b[a-z_]+[._-][\w.-]+|\S*/\S+", "·", prose(text))


def test_no_text_of_the_catalogue_has_a_refused_word() -> None:
    found = {text: words for text in texts() if (words := refused(said(text), ENGLISH, bounds=r"\b"))}
    assert len(found) <= IN_TEXTS, found


def test_no_chinese_text_of_the_catalogue_has_a_refused_word() -> None:
    found = {text: words for text in texts().values() if (words := refused(said(text), CHINESE))}
    assert len(found) <= IN_CHINESE_TEXTS, found
