"""Makes config.example.toml: `.venv/bin/python -m tests.house.example_config >config.example.toml`."""

import json
import sys
from pathlib import Path
from typing import Final, Literal, get_args, get_origin

from pydantic import BaseModel

from mailerd.config import Settings

_HEAD: Final = """\
# Every key of mailerd with its default: copy this file, keep what you change, drop the rest.
# Durations are seconds. Unknown keys are refused, all offending ones at once.
# Every key is also a variable, MAILERD_<SECTION>__<KEY> (MAILERD_RUNNER__CONCURRENCY=50), read from the environment
# and from .env in the working folder; the environment wins over .env, and .env over this file.
# A .env that belongs to another user, or that others can write to, is refused.
# The file is named by --config or by the variable MAILERD_CONFIG (from the environment or from .env), or found:
# ./mailerd.toml, the sandbox that runs in this checkout, $XDG_CONFIG_HOME/mailerd/mailerd.toml,
# /etc/mailerd/mailerd.toml.
"""
_GROUPED_FROM: Final = 100_000
"""Numbers from here on are written with underscores, as TOML allows."""


def example() -> str:
    """The text of config.example.toml: made from the defaults and the descriptions, so that it cannot be behind."""
    parts = [_HEAD]
    for name, field in Settings.model_fields.items():
        section = field.default
        if not isinstance(section, BaseModel):
            raise TypeError(f"{name} is not a section")
        parts.append(f"\n[{name}]\n" + "".join(_lines(section)))
    return "".join(parts)


def _lines(section: BaseModel) -> list[str]:
    return [
        f"# {field.description}{_choices(field.annotation)}\n{key} = {_toml(getattr(section, key))}\n"
        for key, field in type(section).model_fields.items()
    ]


def _choices(kind: object) -> str:
    """The words that a key takes, where it takes certain words only."""
    return f" ({', '.join(get_args(kind))})" if get_origin(kind) is Literal else ""


def _toml(value: object) -> str:
    """A default as TOML.

    Raises:
        TypeError: it is of a kind that no setting has had so far.
    """
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
            raise TypeError(f"{value!r}: no setting was of this kind so far; teach me to write it")


if __name__ == "__main__":
    sys.stdout.write(example())
