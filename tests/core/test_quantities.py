"""Durations and moments read like a person would say them, in both languages."""

from datetime import UTC, datetime

import pytest

from mailerd.core.quantities import in_words, moment_in_words
from mailerd.locale import say


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
    assert (in_words(seconds), say(in_words(seconds), "zh")) == (english, chinese)


@pytest.mark.parametrize(
    "at, english, chinese",
    [
        (datetime(2026, 11, 27, 14, 20, tzinfo=UTC), "14:20 UTC", "14:20 UTC"),
        (datetime(2026, 11, 30, 9, 2, tzinfo=UTC), "Monday 09:02 UTC", "周一 09:02 UTC"),
        (datetime(2026, 12, 30, 9, 2, tzinfo=UTC), "2026-12-30 09:02 UTC", "2026-12-30 09:02 UTC"),
        (datetime(2026, 11, 25, 9, 2, tzinfo=UTC), "2026-11-25 09:02 UTC", "2026-11-25 09:02 UTC"),
    ],
)
def test_a_moment_in_words(at: datetime, english: str, chinese: str) -> None:
    words = moment_in_words(at, datetime(2026, 11, 27, 9, 0, tzinfo=UTC))
    assert (words, say(words, "zh")) == (english, chinese)
