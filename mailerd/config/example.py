"""The example of a configuration, in the language of its reader: every key with its default and
what it is.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, get_args, get_origin

from pydantic import BaseModel

from mailerd.config import Settings
from mailerd.core.i18n import N_, t, verbatim
from mailerd.locale import say

_HEAD: Final = (
    N_(
        "Every key of mailerd with its default. Copy this file, keep what you change, and delete the rest."
    ),
    N_("Durations are in seconds. mailerd refuses unknown keys and names all of them at once."),
    N_("Every key is also a variable, MAILERD_<SECTION>__<KEY>: MAILERD_RUNNER__CONCURRENCY=50."),
    N_("The environment wins over .env in the working folder, and .env over this file."),
    N_("mailerd refuses a .env that belongs to another user or that others can write to."),
    N_(
        "--config or the variable MAILERD_CONFIG names the file. Without them mailerd takes the first of these:"
    ),
    N_(
        "./mailerd.toml, the sandbox running in this checkout, $XDG_CONFIG_HOME/mailerd/mailerd.toml,"
    ),
    N_("/etc/mailerd/mailerd.toml."),
)
_GROUPED_FROM: Final = 100_000
"""Numbers from here on are written with underscores, as TOML allows."""


def example() -> str:
    """The text of config.example.toml: made from the defaults and the descriptions, so that it
    cannot be behind.
    """
    parts = ["".join(f"# {say(verbatim(line))}\n" for line in _HEAD)]
    parts += [f"\n[{name}]\n" + "".join(_lines(section)) for name, section in Settings()]
    return "".join(parts)


def reference() -> str:
    """The page of the site that says the same, as Markdown."""
    parts = [f"# {say(t('Configuration'))}\n\n", *(f"{say(verbatim(line))}\n" for line in _HEAD)]
    heads = f"| {say(t('Key'))} | {say(t('Default'))} | {say(t('Meaning'))} |\n|---|---|---|\n"
    for name, section in Settings():
        parts.append(f"\n## {name}\n\n{heads}")
        for key, field in type(section).model_fields.items():
            said = f"{say(verbatim(field.description or ''))}{_choices(field.annotation)}"
            parts.append(
                f"| `{name}.{key}` | `{_toml(getattr(section, key))}` | {in_cell(said)} |\n"
            )
    return "".join(parts)


def in_cell(text: str) -> str:
    """A text as a cell of a table in Markdown."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "\\<")


def comments() -> Iterator[str]:
    """The templates of all that it says: what tools/messages.py puts into the catalogues."""
    yield from (verbatim(line).msgid for line in _HEAD)
    for _, section in Settings():
        for field in type(section).model_fields.values():
            yield verbatim(field.description or "").msgid


def _lines(section: BaseModel) -> list[str]:
    lines = []
    for key, field in type(section).model_fields.items():
        lines.append(f"# {say(verbatim(field.description or ''))}{_choices(field.annotation)}\n")
        lines.append(f"{key} = {_toml(getattr(section, key))}\n")
    return lines


def _choices(kind: object) -> str:
    """The words that a key takes, where it takes certain words only."""
    return f" ({', '.join(get_args(kind))})" if get_origin(kind) is Literal else ""


def _toml(value: object) -> str:
    match value:
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case bool():
            return "true" if value else "false"
        case int() if value >= _GROUPED_FROM:
            return f"{value:_}"
        case int() | float():
            return str(value)
        case {} if not value:
            return "{}"
        case str() | Path():
            return json.dumps(str(value), ensure_ascii=False)
        case _:
            raise TypeError(value)  # no setting was of this kind so far
