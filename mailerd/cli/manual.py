"""The commands as the manual page and as a page of the site: both are made from the commands' own
help.

`python -m mailerd.cli.manual DIR` writes the manual pages below DIR, as man(1) looks for them: the
wheel gets them so.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer
from typer.main import get_command

import mailerd
from mailerd.cli import app
from mailerd.cli.lazy_group import COMMANDS, framed, load
from mailerd.config.example import in_cell
from mailerd.core.i18n import N_, Language, t
from mailerd.locale import language as language_now
from mailerd.locale import say, speak

MAN: Final[dict[str, Language]] = {"man1/mailerd.1": "en", "zh_CN/man1/mailerd.1": "zh"}
"""The manual pages, as they are placed below share/man."""
_WHAT: Final = N_(
    "mailerd accepts jobs (a template, a sender and many recipients) over HTTP or from a table. It stores them in "
    "MySQL or MariaDB and sends them through the Gmail API, within Google's limits."
)
_FILES: Final = (
    (
        "./mailerd.toml, ~/.config/mailerd/mailerd.toml, /etc/mailerd/mailerd.toml",
        N_("The first that exists is read."),
    ),
    (".env", N_("Variables, if only its user can write the file.")),
)
_CODES: Final = (
    ("0", N_("Success.")),
    ("1", N_("The command, a message or a check failed.")),
    ("2", N_("The command line or the configuration is not valid.")),
    ("3", N_("`mailerd audit` could not run, or could not report its result.")),
)


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


def options(command: Any) -> Iterator[tuple[str, str]]:
    """A command's arguments and options, each with its help."""
    context = typer.Context(command)
    for it in command.params:
        record = it.get_help_record(context)
        if record and it.name != "help":
            yield record[0], framed(record[1])


def markdown() -> str:
    """The page of the site, in the language of this context."""
    lines = [f"# {say(t('Commands'))}", "", say(t(_WHAT))]
    for words, each in commands():
        lines += ["", f"## mailerd {words}", "", in_cell(each.help or ""), ""]
        if rows := [f"| `{name}` | {in_cell(text)} |" for name, text in options(each)]:
            lines += [f"| {say(t('Option'))} | {say(t('Meaning'))} |", "|---|---|", *rows]
    for heading, pairs in ((t("Files"), _FILES), (t("Exit codes"), _CODES)):
        lines += [
            "",
            f"## {say(heading)}",
            "",
            *(f"* `{name}`: {say(t(text))}" for name, text in pairs),
        ]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Text of a line that roff takes literally (groff_man(7))."""
    plain = re.sub(r"\s+", " ", text.replace("\\", "\\e")).strip().replace("-", "\\-")
    if language_now() == "en":  # a page in Chinese is UTF-8, which man(1) says of its folder
        plain = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in plain)
    else:
        plain = re.sub(r"(?<=[，。；：]) ", "", plain)
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


def page(language: Language) -> str:
    """The manual page in a language."""
    was = language_now()
    speak(language)
    try:
        return "\n".join(line for line in _lines() if line) + "\n"
    finally:
        speak(was)


def _lines() -> Iterator[str]:
    main = get_command(app)
    zh = language_now() == "zh"
    yield f'.TH MAILERD 1 "" "mailerd {mailerd.__version__}" "{say(t("User Commands"))}"'
    yield ".ad l\n.nh" if zh else ""
    yield f".SH {say(t('NAME'))}"
    yield f"mailerd \\- {escaped((main.help or '').removeprefix('A ').rstrip('.。'))}"
    yield f".SH {say(t('SYNOPSIS'))}\n.B mailerd\n.I {say(t('COMMAND'))}\n[\\fI{say(t('OPTION'))}\\fR ...]"
    yield from (f".SH {say(t('DESCRIPTION'))}", escaped(say(t(_WHAT))), f".SH {say(t('COMMANDS'))}")
    for words, each in commands():
        yield from (f".SS mailerd {escaped(words)}", escaped(each.help or ""))
        yield from (f".TP\n.B {escaped(name)}\n{escaped(text)}" for name, text in options(each))
    for heading, pairs in ((t("FILES"), _FILES), (t("EXIT STATUS"), _CODES)):
        yield f".SH {say(heading)}"
        yield from (f".TP\n{escaped(name)}\n{escaped(say(t(text)))}" for name, text in pairs)


def write(folder: Path) -> list[Path]:
    """Write the manual pages below a folder."""
    made = []
    for name, language in MAN.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(language), "utf-8")
        made.append(path)
    return made


if __name__ == "__main__":
    write(Path(sys.argv[1]))
