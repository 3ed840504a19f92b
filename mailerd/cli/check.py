"""`mailerd check`: everything that could be wrong, a line each."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from mailerd.cli.common import ConfigOption, configured
from mailerd.doctor import Bench, Finding, Level, fail
from mailerd.errors import ConfigurationError


def check(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object, for programs.")] = False,
    sender: Annotated[
        str, typer.Option(help="A mailbox to try a domain's service account with, or to be looked at in any case.")
    ] = "",
    config: ConfigOption = None,
) -> None:
    """Examine configuration, database, mailboxes, port, disk and systemd; exit code 1 when something FAILs.

    It changes nothing, sends nothing, and ends within 20 seconds whatever is broken.
    """
    started = time.monotonic()
    found, ended = _examine(config, sender.strip().lower())
    failed = any(each.level is Level.FAIL for each in found)
    print(_as_json(found, time.monotonic() - started) if as_json else _as_text(found), flush=True)
    if not ended:
        # A thread of ours hangs in a call of the system's, and Python would wait for it.
        sys.stderr.flush()
        os._exit(int(failed))
    raise typer.Exit(int(failed))


def _examine(config: Path | None, sender: str) -> tuple[list[Finding], bool]:
    try:
        known, file = configured(config)
    except ConfigurationError as error:
        remedy = "correct it as said; config.example.toml lists every key. Nothing else was examined"
        return [fail("configuration", str(error), remedy=remedy)], True
    return Bench(known, file.path, sender=sender).examine()


def _as_text(found: list[Finding]) -> str:
    failed, flawed = (sum(each.level is level for each in found) for level in (Level.FAIL, Level.WARN))
    ending = [f"{len(found) - failed} PASS" + (f" ({flawed} with something to look at)" if flawed else "")]
    ending += [f"{failed} FAIL"] if failed else []
    return "\n".join([*(each.line() for each in found), ", ".join(ending)])


def _as_json(found: list[Finding], seconds: float) -> str:
    lines = [
        {"level": each.level.value, "check": each.check, "what": each.what, "remedy": each.remedy or None}
        for each in found
    ]
    ok = not any(each.level is Level.FAIL for each in found)
    return json.dumps({"ok": ok, "seconds": round(seconds, 2), "findings": lines}, ensure_ascii=False, indent=2)
