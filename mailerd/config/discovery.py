"""Finds the configuration file: the one that was named, or the first of the usual places that has
one; reads `.env`.

The order: `--config`, `MAILERD_CONFIG` (from the environment or `.env`), `./mailerd.toml`, the
sandbox that runs in this checkout, `$XDG_CONFIG_HOME/mailerd/mailerd.toml`,
`/etc/mailerd/mailerd.toml`. Only the first one is read.
"""

import fcntl
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from mailerd.config import file_owner
from mailerd.core.i18n import t
from mailerd.errors import ConfigurationError
from mailerd.locale import say

NAME: Final = "mailerd.toml"
SANDBOX: Final = Path(".sandbox")
LOCK: Final = "running"
"""The file in the sandbox's folder on which a sandbox holds a lock for as long as it runs."""
SYSTEM: Final = Path("/etc/mailerd") / NAME
DOTENV: Final = Path(".env")
"""The file `.env` of the working folder."""

# A sandbox is taken whole or not at all: with its Google and the database of the environment,
# messages that wait in a production database would be handed to the stand-in, and be recorded as
# sent.
_NOT_BESIDE_A_SANDBOX: Final = ("DATABASE_URL", "MAILERD_DATABASE__", "MAILERD_GMAIL__")


@dataclass(frozen=True)
class Found:
    """The configuration file that is used; `path` None: there is none, the environment and the
    defaults hold.
    """

    path: Path | None
    named: bool = False
    """Whether it was named.

    One that was found is read only if no other user can have written it.
    """
    sandbox: bool = False
    """Whether it is the file of the sandbox that runs in this checkout."""
    beside_sandbox: bool = False
    """Whether it is used though a sandbox runs in this checkout."""
    instead: str = ""
    """The variable that is set and keeps the sandbox that runs in this checkout from being used."""

    def __str__(self) -> str:
        """As an error mentions it."""
        if self.path is None and self.instead:
            return t(
                "no configuration file found; the sandbox that is running here is not used because {instead} is set: "
                "unset it, or name a file with --config",
                instead=self.instead,
            )
        if self.path is None and (SANDBOX / NAME).exists():
            return t(
                "no configuration file found; the sandbox of this folder is not running (to start it: `mailerd "
                "sandbox --demo`); using the environment and defaults"
            )
        if self.path is None:
            return t(
                "no configuration file found; using the environment and defaults. To name a file: --config"
            )
        if self.sandbox:
            return t("using the sandbox's configuration, {path}", path=self.path.absolute())
        return t("using {path}", path=self.path.absolute())


def find(named: Path | None, *, settings: Mapping[str, str], system: Path = SYSTEM) -> Found:
    """The file to use. `settings`: the variables of the environment and of `.env`.

    Raises:
        ConfigurationError: the first file that is there could have been written by others, or
        cannot be read.
    """
    if named is not None:
        return Found(named, named=True)
    if file_owner.read(here := Path(NAME)) is not None:
        return Found(here, beside_sandbox=_sandbox() is not None)
    instead = ""
    if sandbox := _sandbox():
        instead = next(
            (name for name in settings if name.upper().startswith(_NOT_BESIDE_A_SANDBOX)), ""
        )
        if not instead:
            return Found(sandbox, sandbox=True)
    home = settings.get("XDG_CONFIG_HOME") or (
        f"{settings['HOME']}/.config" if settings.get("HOME") else ""
    )
    for path in (*([Path(home) / "mailerd" / NAME] if home else []), system):
        if file_owner.read(path) is not None:
            return Found(path)
    return Found(None, instead=instead)


def _sandbox() -> Path | None:
    """The configuration of the sandbox that runs in the working folder or in one above it."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was deleted
        return None
    for folder in (here, *here.parents):
        path = folder / SANDBOX / NAME
        try:
            if runs(folder / SANDBOX) and file_owner.read(path) is not None:
                return path
        except ConfigurationError:
            return None  # another user's sandbox
    return None


def runs(folder: Path) -> bool:
    """Whether a sandbox runs in the folder. Its lock goes with its process, however that ends."""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    else:
        return False
    finally:
        os.close(handle)


def read_dotenv() -> dict[str, str]:
    """What `.env` sets, where only its user or root can have written it (`file_owner.read`); else
    nothing.

    Raises:
        ConfigurationError: others could have written it, or it cannot be read.
    """
    text = file_owner.read(DOTENV) or ""
    log = logging.getLogger("dotenv.main")
    log.addFilter(_name_dotenv)
    try:
        return {
            key: value
            for key, value in dotenv_values(stream=StringIO(text)).items()
            if value is not None
        }
    finally:
        log.removeFilter(_name_dotenv)


def _name_dotenv(record: logging.LogRecord) -> bool:
    """Say which file has a line that cannot be read; dotenv itself names the line alone."""
    if number := re.search(r"line (\d+)", record.getMessage()):
        record.msg = say(
            t(
                "{path}: line {number} is not valid and was skipped; write NAME=value",
                path=DOTENV.absolute(),
                number=number[1],
            )
        )
        record.args = ()
    return True
