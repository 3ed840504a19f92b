"""Examines the files that hold secrets: who else may read them, and who may put others in their place."""

import os
import stat
from pathlib import Path

from mailerd.cli.checks.result import CheckResult, fail, ok, warn
from mailerd.config import AlertSettings, dotenv_in_use
from mailerd.errors import ConfigurationError
from mailerd.ops.notify import build_notifiers


def configuration(path: Path | None, *, has_password: bool) -> CheckResult:
    """The configuration file, which has been read and found good; it may hold the database's password."""
    check = "configuration"
    if path is None:
        return ok(check, "no file was found; the environment alone: every key is known and within bounds")
    mode = stat.S_IMODE(path.stat().st_mode)
    if has_password and mode & 0o004:
        return warn(
            check,
            f"{path} is good, but everybody can read the database's password in it (mode {mode:04o})",
            remedy=f"chmod 640 {path}",
        )
    return ok(check, f"{path}: every key is known and within bounds")


def dotenv() -> list[CheckResult]:
    """The `.env` of the working folder, which has been read and found good, when it sets anything."""
    used = dotenv_in_use()
    return [] if used is None else [ok("the file .env", f"{used[0]} also sets {', '.join(used[1])}")]


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


def _owner(path: Path) -> str:
    try:
        return str(path.stat().st_uid)
    except OSError:
        return "root"
