"""Durations read like a person would say them, in both languages."""

import pytest

from mailerd.core.quantities import in_words


@pytest.mark.parametrize(
    "seconds, english, chinese",
    [
        (-1, "0 s", "0 秒"),
        (60, "60 s", "60 秒"),
        (119.4, "119 s", "119 秒"),
        (909, "15 min", "15 分钟"),
        (7200, "2 h", "2 小时"),
        (19_290, "5 h 21 min", "5 小时 21 分钟"),
        (86_400, "24 h", "24 小时"),
        (190_000, "2 d 4 h", "2 天 4 小时"),
    ],
)
def test_a_duration_in_words(seconds: float, english: str, chinese: str) -> None:
    assert (in_words(seconds), in_words(seconds, chinese=True)) == (english, chinese)
