"""Says which of three clocks is wrong: this machine's, the database's or Google's."""

from dataclasses import dataclass
from typing import Final

from mailerd.cli.checks.result import CheckResult, fail, ok, warn
from mailerd.core.i18n import t
from mailerd.core.quantities import in_words

CLOCK_WARN: Final = 2.0
"""Seconds that two clocks may differ without a WARN; NTP keeps a clock within some milliseconds."""
CLOCK_FAIL: Final = 60.0
"""Seconds that two clocks may differ without a FAIL.

At five minutes Google refuses a service account's signature, and log and rows no longer fit
together.
"""
_HERE: Final = t("set this machine's clock by NTP: timedatectl set-ntp true")
_THERE: Final = t("set the clock of the database's server by NTP")
_SEE: Final = t("see which of the two is wrong (`timedatectl`), and set both by NTP")
_BETWEEN: Final = t(
    "something between here and Google responds in its place: check gmail.api_root and any proxy"
)


@dataclass
class Clocks:
    """By how many seconds each is ahead of this machine's; None: it is not known."""

    database: float | None = None
    google: float | None = None

    def results(self) -> list[CheckResult]:
        """One finding; none where no other clock is known.

        Of three the one that is alone is wrong.
        """
        database, google = self.database, self.google
        if database is None and google is None:
            return []
        if database is None or google is None:
            ahead = database if google is None else google
            whose = t("the database's clock") if google is None else t("Google's clock")
            return [_result(whose, ahead or 0.0, t("this machine's"), _SEE)]
        if abs(google) < CLOCK_WARN:
            return [
                _result(
                    t("the database's clock"), database, t("this machine's and Google's"), _THERE
                )
            ]
        if abs(database - google) < CLOCK_WARN:
            return [
                _result(t("this machine's clock"), -google, t("the database's and Google's"), _HERE)
            ]
        if abs(database) < CLOCK_WARN and abs(google) >= _YEAR:
            return [
                _result(
                    t("Google's clock"), google, t("this machine's and the database's"), _BETWEEN
                )
            ]
        if abs(database) < CLOCK_WARN:
            both = t("{here}, and that of the database's server", here=_HERE)
            return [
                _result(
                    t("the clock of this machine and of the database"), -google, t("Google's"), both
                )
            ]
        here = _result(t("this machine's clock"), -google, t("Google's"), _HERE)
        return [here, _result(t("the database's clock"), database - google, t("Google's"), _THERE)]


_YEAR: Final = 365 * 86_400.0


def _result(whose: str, ahead: float, of: str, remedy: str) -> CheckResult:
    if abs(ahead) < CLOCK_WARN:
        return ok(
            t("clocks"),
            t("{whose} agrees with {of}, within {n:.1f} s", whose=whose, of=of, n=abs(ahead)),
        )
    template = (
        t("{whose} is {span} ahead of {of}", whose=whose, span=in_words(abs(ahead)), of=of)
        if ahead > 0
        else (t("{whose} is {span} behind {of}", whose=whose, span=in_words(abs(ahead)), of=of))
    )
    return (fail if abs(ahead) >= CLOCK_FAIL else warn)("clocks", template, remedy=remedy)
