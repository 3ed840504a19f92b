"""Makes journald's message catalogues and the page of events from the events: they are never written by hand.

The format of a catalogue is https://systemd.io/CATALOG/; `@FIELD@` is filled in from the record.
"""

import importlib
import pkgutil
import re
from collections.abc import Sequence
from string import Formatter
from typing import Final, Self, override

import mailerd.events
from mailerd.core.i18n import N_, Language, t
from mailerd.core.labels import coded
from mailerd.core.quantities import in_words
from mailerd.events.base import Event, Level, registered_events
from mailerd.events.runbook import PAUSE_RUNBOOKS, RUNBOOKS, Runbook
from mailerd.locale import language, say

RUNBOOKS_BY_CAUSE: Final = {"sender_paused": PAUSE_RUNBOOKS}
"""The runbooks of an event that has one for each value of its field `by`."""
SERIOUS: Final[frozenset[Level]] = frozenset({"warning", "error", "critical"})
_HEAD: Final = N_("Likely causes, most likely first:")


class _Place(int):
    """Stands for the value of a field, and is written as its name: `{seconds}`, `@MAILERD_SECONDS@`."""

    _shown: str

    def __new__(cls, shown: str) -> Self:
        it = super().__new__(cls, 2)  # which is said in the plural
        it._shown = shown
        return it

    @override
    def __format__(self, _: str) -> str:
        return self._shown

    @override
    def __repr__(self) -> str:
        return self._shown


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
            entries.append(
                _entry(event, RUNBOOKS[event.name], language, message_id=event.message_id)
            )
            for value, advice in RUNBOOKS_BY_CAUSE.get(event.name, {}).items():
                entries.append(_entry(event, advice, language, message_id=event.id_by(value)))
    return "\n".join(entries)


def _entry(event: Event, advice: Runbook, language: Language, *, message_id: str) -> str:
    subject = _words(event, language, "@MAILERD_{}@").partition("\n")[0]
    lines = [
        f"-- {message_id}",
        f"Subject: {subject}",
        "Defined-By: mailerd",
        "",
        say(advice.meaning, language),
        "",
    ]
    lines.append(say(t(_HEAD), language))
    for number, cause in enumerate(advice.causes, start=1):
        lines += [f"  {number}. {say(cause.text, language)}", f"     > {cause.command}"]
    return "\n".join(lines) + "\n"


def _words(event: Event, language: Language, place: str) -> str:
    """What an event says, with the name of each field in the place of its value."""
    fields = dict[str, object]()
    for _, name, _, _ in Formatter().parse(event.template):
        if name:
            value = _Place(place.format(name.upper() if place.startswith("@") else name))
            how = event.said.get(name)
            if how is in_words:
                fields[name] = t("{n} s", n=value)
            else:
                fields[name] = value if how is None or how in {coded, repr} else how(value)
    return say(t(event.template, **fields), language)


def page(known: Sequence[Event]) -> str:
    """The page of the site about events at warning or above, as Markdown in the language of this context."""
    lines = [f"# {say(t('Events and what to do'))}", "", say(t(_ABOUT)), ""]
    for event in known:
        if event.level in SERIOUS:
            lines += _section(event.name, RUNBOOKS[event.name])
            for value, advice in RUNBOOKS_BY_CAUSE.get(event.name, {}).items():
                own = t(
                    "With `{field}` {value} the MESSAGE_ID is `{id}`.",
                    field=event.by,
                    value=value,
                    id=event.id_by(value),
                )
                lines += [*_section(f"{event.name}: {value}", advice), say(own), ""]
    return "\n".join(lines).rstrip() + "\n"


def table(known: Sequence[Event]) -> str:
    """The page with every event."""
    heads = " | ".join(say(t(each)) for each in _HEADS)
    lines = [
        f"# {say(t('All events'))}",
        "",
        say(t(_ABOUT)),
        "",
        f"| {heads} |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{it.name}` | {it.level} | {_cell(it)} | `{it.message_id}` |" for it in known]
    return "\n".join(lines) + "\n"


_HEADS: Final = (N_("Event"), N_("Level"), N_("Text"), N_("MESSAGE_ID"))
_ABOUT: Final = N_(
    "Everything that mailerd logs. In the journal each record carries `MAILERD_EVENT`, its `MESSAGE_ID` and every field "
    "as `MAILERD_FIELD`: `journalctl MAILERD_EVENT=message_failed` finds it. For events of level warning and above, "
    "`journalctl -x` also shows what to do."
)


def _section(title: str, advice: Runbook) -> list[str]:
    causes = [
        f"{n}. {say(it.text)}\n   `{_plain(it.command)}`" for n, it in enumerate(advice.causes, 1)
    ]
    return [f"## {title}", "", say(advice.meaning), "", *causes, ""]


def _plain(command: str) -> str:
    return re.sub(r"@MAILERD_(\w+)@", r"\1", command)


def _cell(event: Event) -> str:
    words = _words(event, language(), "{{{}}}")
    return words.replace("|", "\\|").replace("\n", " ").replace("<", "\\<")
