"""A finding as the console shows it: what it means and what to do by the runbook, and where to
look.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote

from mailerd.core.i18n import N_, t
from mailerd.core.pauses import MANUAL
from mailerd.core.reading import Condition
from mailerd.events.runbook import Runbook, finding_runbook

_PAGES: Final[Mapping[str, str]] = {
    "sender": "/senders/{}",
    "webhook": "/webhooks",
    "job": "/jobs/{}",
    "inbox": "/inbox",
    "unsure": "/jobs?tab=attention",
    "claims": "/jobs?status=sending",
    "failures": "/jobs?tab=attention",
}


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
        return {"green": "good", "blue": "note", "amber": "warning", "red": "bad"}[
            self.it.severity.value
        ]

    @property
    def runbook(self) -> Runbook | None:
        """What its code has; None: a person ordered it, or it only counts others."""
        if (
            self.it.code == MANUAL
            or not self.it.remedies
            or (not self.is_admin and _is_of_the_machine(self.it))
        ):
            return None
        return finding_runbook(self.it.code)

    @property
    def link(self) -> str:
        """The page that shows more."""
        if self.it.example:
            return f"/messages/{self.it.example}"
        if not self.is_shown:
            return ""
        return _PAGES.get(self.it.about.partition(" ")[0], "").format(
            quote(self.it.subject, safe="@")
        )

    @property
    def remedies(self) -> list[str]:
        """Commands, or what else to do, as far as the key may see them."""
        if not self.is_admin and _is_of_the_machine(self.it):
            return []
        return [it for it in self.it.remedies if self._may_see(it)]

    def _may_see(self, command: str) -> bool:
        return self.is_admin or not _ON_THE_MACHINE.search(command)

    @property
    def steps(self) -> list[tuple[str, str]]:
        """What to do about it, as every surface says; then the likely causes, each with what shows
        or cures it.
        """
        kind, name = self.it.about.partition(" ")[0], self.it.subject
        names = {"sender": "ADDRESS", "webhook": "NAME", "job": "ID"}
        names |= {kind: name} if kind in names else {}
        recipient = str(self.it.example or (name if kind == "job" else "ID"))
        steps = self.runbook.steps(recipient=recipient, **names) if self.runbook else []
        known = {command for _, command in steps}
        own = [("", it) for it in self.remedies if it not in known]
        return own + [(text, command) for text, command in steps if self._may_see(command)]


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
_ON_THE_MACHINE: Final = re.compile(
    r"\b(?:systemctl|journalctl|mariadb|df|mailerd run|timedatectl)\b"
)
"""What helps only a person who can sign in to the machine."""


def _is_of_the_machine(it: Condition) -> bool:
    return it.about.partition(" ")[0] in _MACHINE
