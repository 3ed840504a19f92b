"""A finding as the console shows it: what it means and what to do by the runbook, and where to look."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote

from mailerd.core.i18n import Language
from mailerd.core.pauses import CAUSES, MANUAL
from mailerd.core.situation import Condition
from mailerd.events.runbook import FULL_DAY, GOOGLE_SILENT, RUNBOOKS, UNWRITABLE, Runbook, pause_runbook
from mailerd.locale import say

_BOOKS: Final[Mapping[str, Runbook]] = {
    **RUNBOOKS,
    "not_known": RUNBOOKS["stats_failed"], "late": RUNBOOKS["job_stuck"], "unsure": RUNBOOKS["message_unsure"],
    "long_unsure": RUNBOOKS["message_still_unsure"], "day_full": FULL_DAY, "no_daemon": RUNBOOKS["loop_stalled"],
    "daemon_gone": RUNBOOKS["lease_lapsed"], "google_silent": GOOGLE_SILENT, "deferred": RUNBOOKS["message_deferred"],
    "failed": RUNBOOKS["message_failed"],
    "database_full": RUNBOOKS["database_full"], "database_denied": UNWRITABLE, "database_read_only": UNWRITABLE,
    "database_incomplete": UNWRITABLE, "database_stuck": UNWRITABLE, "database_login": UNWRITABLE,
    "database_connections": UNWRITABLE, "database_crowded": RUNBOOKS["database_crowded"],
    "job_failed": RUNBOOKS["message_failed"],
}  # fmt: skip
"""What to do about a finding, by its code."""
_PAGES: Final[Mapping[str, str]] = {
    "sender": "/senders/{}", "webhook": "/webhooks", "job": "/jobs/{}", "inbox": "/inbox",
    "unsure": "/jobs?tab=attention", "claims": "/jobs?status=sending", "failures": "/jobs?tab=attention",
}  # fmt: skip


@dataclass(frozen=True)
class Trouble:
    """A finding with its runbook."""

    it: Condition
    is_shown: bool = True
    """Whether the key may see the page about it."""

    @property
    def level(self) -> str:
        """Its class in the style sheet."""
        return {"green": "good", "blue": "note", "amber": "warning", "red": "bad"}[self.it.severity.value]

    @property
    def runbook(self) -> Runbook | None:
        """What its code has; None: a person ordered it, or it only counts others."""
        if self.it.code == MANUAL or not self.it.remedies:
            return None
        if self.it.code in CAUSES and self.it.code != "google_unreachable":
            return pause_runbook(self.it.code)
        return _BOOKS.get(self.it.code, RUNBOOKS["database_unavailable"])

    @property
    def link(self) -> str:
        """The page that shows more."""
        if self.it.example:
            return f"/messages/{self.it.example}"
        if not self.is_shown:
            return ""
        return _PAGES.get(self.it.about.partition(" ")[0], "").format(quote(self.it.subject, safe="@"))

    def since(self, now: datetime) -> datetime | None:
        """When it began; None: that is not known."""
        return self.it.since or (now - timedelta(seconds=self.it.lasts) if self.it.lasts else None)

    def meaning(self, language: Language) -> str:
        """What it means."""
        book = self.runbook
        return "" if book is None else book.zh if language == "zh" else book.en

    def causes(self, language: Language) -> list[tuple[str, str]]:
        """What to do about it, as every surface says; then the likely causes, each with what shows or cures it."""
        kind, name = self.it.about.partition(" ")[0], self.it.subject
        names = {
            f"@MAILERD_{each}@": shlex.quote(name) if kind == each.lower() else otherwise
            for each, otherwise in (("SENDER", "ADDRESS"), ("WEBHOOK", "NAME"), ("JOB", "ID"))
        } | {"@MAILERD_RECIPIENT@": str(self.it.example or (name if kind == "job" else "ID"))}
        causes = [
            (it.zh if language == "zh" else it.en, _filled_in(it.command, names))
            for it in (self.runbook.causes if self.runbook else ())
        ]
        known = {command for _, command in causes}
        return [*(("", say(it, language)) for it in self.it.remedies if it not in known), *causes]


def newest_first(findings: Iterable[Condition], now: datetime) -> list[Condition]:
    """The worst first, and of those that are as bad the one that began last; where that is not known, it is last."""

    def order(it: Condition) -> tuple[int, float]:
        began = Trouble(it).since(now)
        return -it.severity.rank, -began.timestamp() if began else 0.0

    return sorted(findings, key=order)


def _filled_in(command: str, names: Mapping[str, str]) -> str:
    for name, value in names.items():
        command = command.replace(name, value)
    return command
