"""Examines the files that hold secrets: who else may read them, and who may put others in their place."""

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Final

from mailerd.cli.checks.result import CheckResult, fail, ok, warn
from mailerd.config import AlertSettings, discovery, dotenv_in_use
from mailerd.errors import ConfigurationError
from mailerd.ops.notify import build_notifiers

_PASSWORD: Final = re.compile("//[^@]*:[^@]+@")
"""A user with a password, in a URL."""
_URLS: Final = frozenset({"database.url", "gmail.proxy"})
_ALL_SECRET: Final = frozenset({"alerts.urls", "alerts.webhook", "api_key"})
"""Settings that are a secret whatever is in them, but nothing."""


def configuration(path: Path | None) -> CheckResult:
    """The configuration file, which has been read and found good; it may hold passwords."""
    check = "configuration"
    if path is None:
        return ok(check, "no file was found; the environment alone: every key is known and within bounds")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o004 and (secrets := _secrets(path)):
        return warn(
            check,
            f"{path} is good, but everybody can read what is secret in it: {', '.join(secrets)} (mode {mode:04o})",
            remedy=f"chmod 640 {path}",
        )
    return ok(check, f"{path}: every key is known and within bounds")


def _secrets(path: Path) -> list[str]:
    """The keys of a file that hold secrets; what the environment has in their place is none of it."""
    given = {
        f"{section}.{key}": value
        for section, keys in tomllib.loads(path.read_text("utf-8")).items()
        for key, value in keys.items()
    }
    return sorted(key for key, value in given.items() if _is_secret(key, value))


def _is_secret(key: str, value: object) -> bool:
    return bool(value) and (key in _ALL_SECRET or (key in _URLS and bool(_PASSWORD.search(str(value)))))


def dotenv() -> list[CheckResult]:
    """The `.env` of the working folder, which has been read and found good, when it sets anything."""
    used = dotenv_in_use()
    if used is None:
        return []
    (path, names), check, values = used, "the file .env", discovery.read_dotenv()
    mode, sets = stat.S_IMODE(path.stat().st_mode), ", ".join(names)
    if mode & 0o004 and (secrets := ", ".join(name for name in names if _is_secret(_key(name), values[name]))):
        return [
            warn(
                check,
                f"{path} also sets {sets}; everybody can read what is secret in it: {secrets} (mode {mode:04o})",
                remedy=f"chmod 640 {path}",
            )
        ]
    return [ok(check, f"{path} also sets {sets}")]


def _key(variable: str) -> str:
    """The setting that a variable names."""
    known = variable.upper().removeprefix("MAILERD_")
    return "database.url" if known == "DATABASE_URL" else known.replace("__", ".").lower()


def alerts(settings: AlertSettings) -> list[CheckResult]:
    """The ways of alerts, which a daemon that starts must be able to use; none of them is tried."""
    try:
        ways = len(build_notifiers(webhook=settings.webhook, urls=settings.urls))
    except ConfigurationError as error:
        return [fail("alerts", str(error), remedy="correct [alerts]: a daemon does not start with it")]
    return [ok("alerts", f"{ways} can be used; whether they take an alert was not tried")] if ways else []


def folder(path: Path) -> CheckResult:
    """The folder of credential files."""
    check = "credentials folder"
    try:
        status = path.stat()
        if not path.is_dir():
            return fail(check, f"{path} is not a folder", remedy="correct gmail.credentials_dir")
        list(path.iterdir())
    except FileNotFoundError:
        return warn(check, f"{path} does not exist", remedy=f"mkdir -m 700 {path}, or correct gmail.credentials_dir")
    except OSError as error:
        return fail(
            check,
            f"{path}: {error.strerror} (as user {os.geteuid()})",
            remedy=f"chown the folder to mailerd's user, or run this as user {_owner(path)}",
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o022:
        return warn(check, f"others can put files into {path} (mode {mode:04o})", remedy=f"chmod 700 {path}")
    return ok(check, f"{path} (mode {mode:04o})")


def templates(named: str) -> list[CheckResult]:
    """The folder of the named templates, where one is set; a daemon without it knows none, and refuses their jobs."""
    if not named:
        return []
    try:
        os.listdir(named)  # noqa: PTH208 - its error, and not what it lists, is asked for
    except FileNotFoundError:
        return [warn("templates", f"{named} does not exist", remedy="make it, or correct templates.folder")]
    except OSError as error:
        remedy = "correct templates.folder, or let mailerd's user read it"
        return [fail("templates", f"{named} cannot be read: {error.strerror} (as user {os.geteuid()})", remedy=remedy)]
    return [ok("templates", f"{named} can be read")]


def _owner(path: Path) -> str:
    try:
        return str(path.stat().st_uid)
    except OSError:
        return "root"
