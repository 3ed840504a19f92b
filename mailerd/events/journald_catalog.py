"""Makes journald's message catalogues and docs/events.md from the events: they are never written by hand.

The format of a catalogue is https://systemd.io/CATALOG/; `@FIELD@` is filled in from the record.
"""

import importlib
import pkgutil
import re
from collections.abc import Sequence
from typing import Final

import mailerd.events
from mailerd.core.i18n import Language
from mailerd.events.base import Event, Level, registered_events
from mailerd.events.runbook import INBOX_RUNBOOKS, INTAKE_RUNBOOKS, PAUSE_RUNBOOKS, RUNBOOKS, WEBHOOK_RUNBOOKS, Runbook
from mailerd.events.runbook_worker import WORKER_RUNBOOKS

ALL_RUNBOOKS: Final = {
    **RUNBOOKS,
    **WORKER_RUNBOOKS,
    **INTAKE_RUNBOOKS,
    **INBOX_RUNBOOKS,
    **WEBHOOK_RUNBOOKS,
}
RUNBOOKS_BY_CAUSE: Final = {"sender_paused": PAUSE_RUNBOOKS}
"""The runbooks of an event that has one for each value of its field `by`."""
SERIOUS: Final[frozenset[Level]] = frozenset({"warning", "error", "critical"})
_FIELD: Final = re.compile(r"\{(\w+)([^}]*)\}")
_SECONDS: Final = {"en": " s", "zh": " 秒"}
"""What follows the figure of a `{field:span}`: the log makes "5 min" of it, the record has seconds."""
_HEADS: Final = {"en": "Likely causes, the likeliest first:", "zh": "可能的原因（按可能性排序）："}


def events() -> list[Event]:
    """Every event of mailerd, by name."""
    for module in pkgutil.iter_modules(mailerd.events.__path__, "mailerd.events."):
        importlib.import_module(module.name)
    return sorted(registered_events().values(), key=lambda event: event.name)


def catalogue(language: Language, known: Sequence[Event]) -> str:
    """The catalogue of one language: an entry for each event at warning or above."""
    entries = []
    for event in known:
        if event.level in SERIOUS:
            entries.append(_entry(event, ALL_RUNBOOKS[event.name], language, message_id=event.message_id))
            for value, advice in RUNBOOKS_BY_CAUSE.get(event.name, {}).items():
                entries.append(_entry(event, advice, language, message_id=event.id_by(value)))
    return "\n".join(entries)


def _entry(event: Event, advice: Runbook, language: Language, *, message_id: str) -> str:
    words, what = (event.shown, advice.en) if language == "en" else (event.zh, advice.zh)
    subject = _FIELD.sub(
        lambda field: f"@MAILERD_{field[1].upper()}@{_SECONDS[language] if field[2] == ':span' else ''}",
        words.partition("\n")[0],
    )
    head = _HEADS[language]
    lines = [f"-- {message_id}", f"Subject: {subject}", "Defined-By: mailerd", "", what, "", head]
    for number, cause in enumerate(advice.causes, start=1):
        lines += [f"  {number}. {cause.en if language == 'en' else cause.zh}", f"     > {cause.command}"]
    return "\n".join(lines) + "\n"


def page(known: Sequence[Event]) -> str:
    """docs/events.md."""
    lines = [
        "# Events",
        "",
        "Everything that mailerd can say. This page is made by `make events` from `mailerd/events/`; in the journal each",
        "record carries `MAILERD_EVENT`, its `MESSAGE_ID` and every field as `MAILERD_<FIELD>`, so that",
        "`journalctl MAILERD_EVENT=letter_failed` or `journalctl MAILERD_JOB=…` finds it. For the events at warning or",
        "above, `journalctl -x` shows what is written below, in English or in Chinese.",
        "",
        "| event | level | words | MESSAGE_ID |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{event.name}` | {event.level} | {_cell(event.shown)} <br> {_cell(event.zh)} | `{event.message_id}` |"
        for event in known
    ]
    lines += ["", "## What to do", ""]
    for event in known:
        if event.level in SERIOUS:
            lines += _section(event.name, ALL_RUNBOOKS[event.name])
            for value, advice in RUNBOOKS_BY_CAUSE.get(event.name, {}).items():
                words = f"With `{event.by}` {value} its MESSAGE_ID is `{event.id_by(value)}`."
                lines += [*_section(f"{event.name}: {value}", advice), words, ""]
    return "\n".join(lines).rstrip() + "\n"


def _section(title: str, advice: Runbook) -> list[str]:
    lines = [f"### {title}", "", advice.en, "", advice.zh, ""]
    lines += [
        f"{number}. {cause.en} / {cause.zh}:\n   `{_plain(cause.command)}`"
        for number, cause in enumerate(advice.causes, 1)
    ]
    return [*lines, ""]


def _plain(command: str) -> str:
    return re.sub(r"@MAILERD_(\w+)@", r"\1", command)


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("\n", " ")
