"""Numbers, durations and moments for people."""

from datetime import datetime, timedelta
from typing import Final

from mailerd.core.i18n import N_, Text, joined, t

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400
_WEEK: Final = timedelta(days=6)
WEEKDAYS: Final = (
    N_("Monday"),
    N_("Tuesday"),
    N_("Wednesday"),
    N_("Thursday"),
    N_("Friday"),
    N_("Saturday"),
    N_("Sunday"),
)
_UNITS: Final = {
    "d": N_("{n} d"),
    "h": N_("{n} h"),
    "min": N_("{n} min"),
    "s": N_("{n} s"),
    "ms": N_("{n} ms"),
}


def in_words(seconds: float) -> Text:
    """Seconds up to two minutes, then minutes, from two hours on hours, from two days on days: "90
    s", "5 h 20 min".
    """
    whole = max(0, round(seconds))
    if whole < 2 * _MINUTE:
        return _span(whole, "s")
    if whole < 2 * _HOUR:
        return _span(whole // _MINUTE, "min")
    large, small, size, rest = (
        ("h", "min", _HOUR, _MINUTE) if whole < 2 * _DAY else ("d", "h", _DAY, _HOUR)
    )
    left = whole % size // rest
    return (
        joined([_span(whole // size, large), _span(left, small)], " ")
        if left
        else _span(whole // size, large)
    )


def _span(number: int, unit: str) -> Text:
    return t(_UNITS[unit], n=number)


def moment_in_words(at: datetime, now: datetime) -> Text:
    """A moment in UTC: by its time if it is today, by its weekday within a week from now, else by
    its date.
    """
    if at.date() == now.date():
        return t("{time} UTC", time=f"{at:%H:%M}")
    if now < at <= now + _WEEK:
        return t("{weekday} {time} UTC", weekday=t(WEEKDAYS[at.weekday()]), time=f"{at:%H:%M}")
    return t("{time} UTC", time=f"{at:%Y-%m-%d %H:%M}")


def counted(number: int, noun: str) -> str:
    """A number and its noun, given in the singular; what is new says `tn("{n:,} message", "{n:,}
    messages", n)`.
    """
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"
