"""Writes docs/man/mailerd.1 from the commands' own help; `make man` calls it, and a test holds that it is current."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

import mailerd
from mailerd.cli import app
from mailerd.cli.lazy_group import COMMANDS, load

PAGE = Path(__file__).resolve().parent.parent / "docs" / "man" / "mailerd.1"
_FILES = (
    ("./mailerd.toml, ~/.config/mailerd/mailerd.toml, /etc/mailerd/mailerd.toml", "The first of these is read."),
    (".env", "Variables, where only its user can have written it."),
)
_CODES = (
    ("0", "What was asked for is done."),
    ("1", "It is not done, or a letter failed, or a check did."),
    ("2", "The command line or the configuration cannot be used."),
    ("3", "`mailerd audit` could not look, or not say what it found."),
)


def escaped(text: str) -> str:
    """Text of a line that roff takes literally (groff_man(7))."""
    plain = re.sub(r"\s+", " ", text.replace("\\", "\\e")).strip().replace("-", "\\-")
    plain = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in plain)
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its words."""
    for name in COMMANDS:
        yield from _below(name, load(name))


def _below(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    if not children or command.invoke_without_command:
        yield words, command
    for name, child in children.items():
        yield from _below(f"{words} {name}", child)


def options(command: Any) -> Iterator[str]:
    """The lines of a command's arguments and options."""
    context = typer.Context(command)
    for it in command.params:
        record = it.get_help_record(context)
        if record and it.name != "help":
            yield f".TP\n.B {escaped(record[0])}\n{escaped(record[1])}"


def page() -> str:
    """The manual page."""
    main = get_command(app)
    lines = [
        ".\\\" Written by tools/manpage.py (make man); change the commands' help instead.",
        f'.TH MAILERD 1 "" "mailerd {mailerd.__version__}" "User Commands"',
        ".SH NAME",
        f"mailerd \\- {escaped((main.help or '').removeprefix('A ').rstrip('.'))}",
        ".SH SYNOPSIS\n.B mailerd\n.I COMMAND\n[\\fIOPTION\\fR ...]",
        ".SH DESCRIPTION",
        "mailerd takes jobs (a template, a sender, many recipients) over HTTP or from a table, keeps them in MySQL or",
        "MariaDB, and sends them through the Gmail API at the pace that Google allows.",
        ".SH COMMANDS",
    ]
    for words, command in commands():
        lines += [f".SS mailerd {escaped(words)}", escaped(command.help or ""), *options(command)]
    for title, pairs in (("FILES", _FILES), ("EXIT STATUS", _CODES)):
        lines += [f".SH {title}", *(f".TP\n{escaped(name)}\n{escaped(said)}" for name, said in pairs)]
    return "\n".join(line for line in lines if line) + "\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
