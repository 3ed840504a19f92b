"""`mailerd check`: everything that could be wrong, a line each."""

import os
import re
import sys
import textwrap
import time
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.cells import cell_len
from rich.text import Text

from mailerd.cli.checks import CheckResult, CheckRunner, Level, fail
from mailerd.cli.common import ConfigOption, configured
from mailerd.cli.output import JsonOption, as_text, echo
from mailerd.cli.tables import console
from mailerd.core.i18n import t
from mailerd.errors import ConfigurationError
from mailerd.locale import language


def check(
    *,
    as_json: JsonOption = False,
    sender: Annotated[
        str,
        typer.Option(
            help="A mailbox to try a domain's service account with, or to be looked at in any case."
        ),
    ] = "",
    strict: Annotated[
        bool, typer.Option("--strict", help="A WARN makes the exit code 1 as well.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Examine configuration, database, daemons, mailboxes, port, disk, systemd; exit code 1 when something FAILs.

    It changes nothing, sends nothing, and ends within 20 seconds whatever is broken.
    """
    started = time.monotonic()
    found, ended = _examine(config, sender.strip().lower())
    bad = {Level.FAIL, Level.WARN} if strict else {Level.FAIL}
    failed = any(each.level in bad for each in found)
    if as_json:
        print(_as_json(found, time.monotonic() - started, ok=not failed), flush=True)
    else:
        _show(found)
        sys.stdout.flush()
    if not ended:
        # A thread of ours hangs in a call of the system's, and Python would wait for it.
        sys.stderr.flush()
        os._exit(int(failed))
    raise typer.Exit(int(failed))


def _examine(config: Path | None, sender: str) -> tuple[list[CheckResult], bool]:
    try:
        known, file = configured(config)
    except ConfigurationError as error:
        remedy = t(
            "correct the values above; config.example.toml lists every key. Nothing else was checked"
        )
        return [fail(t("configuration"), str(error), remedy=remedy)], True
    return CheckRunner(known, file.path, sender=sender).examine()


_STYLES: Final = {Level.PASS: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}
_INDENT: Final = " " * 6
_PIECE: Final = re.compile(r"(?:[\x21-\u2e7f]+|.)[，。；：、）？！”]*\s*")
"""A word, or one Chinese character, with the marks behind it, which begin no line."""


def _show(found: list[CheckResult]) -> None:
    """A finding a line; on a terminal with colours, and what is too long goes on below itself."""
    counts = ", ".join(
        f"{n} {level}" for level in Level if (n := sum(each.level is level for each in found))
    )
    if not sys.stdout.isatty():
        echo("\n".join([*(each.line() for each in found), counts]))
        return
    window = console()
    for each in found:
        text = Text("\n".join(_broken(each.line(), window.width)), no_wrap=True, overflow="ignore")
        text.stylize(_STYLES[each.level], 0, len(each.level))
        window.print(text, soft_wrap=True)
    window.print(counts)


def _broken(line: str, width: int) -> list[str]:
    """A line in lines of that many columns, indented from the second on; words and commands stay
    whole.
    """
    if language() == "en":
        return textwrap.wrap(
            line, width, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False
        )
    lines = [""]
    for piece in _PIECE.findall(line):  # Chinese has no spaces: it is broken behind any character
        if lines[-1].strip() and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append(_INDENT)
        lines[-1] += piece if lines[-1].strip() else piece.lstrip()
    return [each.rstrip() for each in lines]


def _as_json(found: list[CheckResult], seconds: float, *, ok: bool) -> str:
    lines = [
        {
            "level": each.level.value,
            "check": each.check,
            "what": each.what,
            "remedy": each.remedy or None,
        }
        for each in found
    ]
    return as_text({"ok": ok, "seconds": round(seconds, 2), "findings": lines})
