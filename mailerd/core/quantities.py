"""Numbers and durations for people, in English and Chinese."""

import re
from typing import Final

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400
_IN_CHINESE: Final = {"d": "天", "h": "小时", "min": "分钟", "ms": "毫秒", "s": "秒"}
_UNIT: Final = re.compile(r"(?<=\d )(d|h|min|ms|s)\b")


def in_words(seconds: float, *, chinese: bool = False) -> str:
    """Seconds up to two minutes, then minutes, from two hours on hours, from two days on days: "90 s", "5 h 20 min"."""
    whole = max(0, round(seconds))
    day, hour, minute, second = (" 天", " 小时", " 分钟", " 秒") if chinese else (" d", " h", " min", " s")
    if whole < 2 * _MINUTE:
        return f"{whole}{second}"
    if whole < 2 * _HOUR:
        return f"{whole // _MINUTE}{minute}"
    large, small, size, rest = (hour, minute, _HOUR, _MINUTE) if whole < 2 * _DAY else (day, hour, _DAY, _HOUR)
    left = whole % size // rest
    return f"{whole // size}{large}" + (f" {left}{small}" if left else "")


def to_chinese(words: str) -> str:
    """What `in_words` has said in English, in Chinese."""
    return _UNIT.sub(lambda unit: _IN_CHINESE[unit[1]], words)


def counted(number: int, noun: str) -> str:
    """A number and its noun, given in the singular; the plural of a noun in -s ends in -es."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"
