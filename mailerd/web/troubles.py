"""A finding as the console shows it: what it means and what to do by the runbook, and where to look."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from mailerd.core.pauses import MANUAL
from mailerd.core.situation import Condition
from mailerd.events.runbook import Runbook, finding_runbook

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
        return None if self.it.code == MANUAL or not self.it.remedies else finding_runbook(self.it.code)

    @property
    def link(self) -> str:
        """The page that shows more."""
        if self.it.example:
            return f"/messages/{self.it.example}"
        if not self.is_shown:
            return ""
        return _PAGES.get(self.it.about.partition(" ")[0], "").format(quote(self.it.subject, safe="@"))

    @property
    def steps(self) -> list[tuple[str, str]]:
        """What to do about it, as every surface says; then the likely causes, each with what shows or cures it."""
        kind, name = self.it.about.partition(" ")[0], self.it.subject
        names = {"sender": "ADDRESS", "webhook": "NAME", "job": "ID"}
        names |= {kind: name} if kind in names else {}
        recipient = str(self.it.example or (name if kind == "job" else "ID"))
        steps = self.runbook.steps(recipient=recipient, **names) if self.runbook else []
        known = {command for _, command in steps}
        return [*(("", it) for it in self.it.remedies if it not in known), *steps]
