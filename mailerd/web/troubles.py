"""A finding as the console shows it: what it means and what to do by the runbook, and where to look."""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote

from mailerd.core.i18n import N_, Language, t
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
    is_admin: bool = True
    """Whether the key may see what an operator does on a machine."""

    @property
    def level(self) -> str:
        """Its class in the style sheet."""
        return {"green": "good", "blue": "note", "amber": "warning", "red": "bad"}[self.it.severity.value]

    @property
    def runbook(self) -> Runbook | None:
        """What its code has; None: a person ordered it, or it only counts others."""
        if self.it.code == MANUAL or not self.it.remedies or (not self.is_admin and _is_of_the_machine(self.it)):
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

    @property
    def remedies(self) -> list[str]:
        """Commands, or what else to do, as far as the key may see them."""
        if not self.is_admin and _is_of_the_machine(self.it):
            return []
        return [it for it in self.it.remedies if self._may_see(it)]

    def _may_see(self, command: str) -> bool:
        return self.is_admin or not _ON_THE_MACHINE.search(command)

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
            if self._may_see(it.command)
        ]
        known = {command for _, command in causes}
        return [*(("", say(it, language)) for it in self.remedies if it not in known), *causes]


def seen_by(findings: Iterable[Condition], *, is_admin: bool) -> list[Condition]:
    """The findings as a key may see them: a limited one sees neither hosts nor daemons."""
    if is_admin:
        return list(findings)
    stopped = N_("mailerd is not running; {waits}. Ask the person who operates it.")
    return [
        replace(it, text=t(stopped, waits=it.text.fields["waits"])) if it.about == "daemons" else it
        for it in findings
        if it.about.partition(" ")[0] != "daemon"
    ]


_MACHINE: Final = frozenset({"database", "tables", "clock", "daemons", "claims"})
_ON_THE_MACHINE: Final = re.compile(r"\b(?:systemctl|journalctl|mariadb|df|mailerd run|timedatectl)\b")
"""What helps only a person who can sign in to the machine."""


def _is_of_the_machine(it: Condition) -> bool:
    return it.about.partition(" ")[0] in _MACHINE


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
