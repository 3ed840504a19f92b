"""The language that a request asks for."""

import pytest

from mailerd.locale import accepted_language


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
