"""Texts in two languages: a sentence is read back from its English, and nothing else is taken for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.core.texts import Catalogue, accepted_language

BOOK = Catalogue(
    {
        "no answer from Google: {cause}": "Google 没有应答：{cause:text}",
        "no answer within {wait}": "{wait:span}内没有应答",
        "the sender is paused until {end}": "发件邮箱暂停至 {end:time}",
        "nothing was stored": "未保存任何内容",
        "1 message is": "1 封邮件",
        "{messages} messages are": "{messages} 封邮件",
        "{who} unsure": "{who:text}结果未定",
    }
)


@pytest.mark.parametrize(
    "english, chinese",
    [
        ("no answer from Google: reset by peer", "Google 没有应答：reset by peer"),
        ("no answer from Google: no answer within 90 s", "Google 没有应答：90 秒内没有应答"),
        ("no answer within 2 h 5 min", "2 小时 5 分钟内没有应答"),
        ("the sender is paused until Friday 09:02 UTC", "发件邮箱暂停至周五 09:02 UTC"),
        ("no answer within 3 s; nothing was stored", "3 秒内没有应答；未保存任何内容"),
        ("1 message is unsure", "1 封邮件结果未定"),
        ("1,200 messages are unsure", "1,200 封邮件结果未定"),
        ("Daily limit exceeded; nothing was stored", "Daily limit exceeded; nothing was stored"),
        ("", ""),
    ],
)
def test_a_sentence_is_read_in_chinese(english: str, chinese: str) -> None:
    assert BOOK.chinese(english) == chinese


@given(st.text(alphabet=st.characters(exclude_characters="，。；：、（）？！ ")))
def test_what_is_quoted_is_not_changed(quoted: str) -> None:
    assert BOOK.chinese(f"no answer from Google: <{quoted}>") == f"Google 没有应答：<{quoted}>"


@pytest.mark.parametrize(
    "header, language",
    [
        ("", "en"),
        ("zh-CN", "zh"),
        ("zh", "zh"),
        ("ZH-Hant-TW", "zh"),
        ("en-US,en;q=0.9,zh;q=0.8", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("de, zh;q=0.5", "zh"),
        ("fr;q=1, en;q=0.3, zh;q=0.4", "zh"),
        ("zh;q=0", "en"),
        ("zh;q=nonsense", "en"),
        ("*", "en"),
        (";;;,,,", "en"),
    ],
)
def test_the_language_of_a_request(header: str, language: str) -> None:
    assert accepted_language(header) == language
