"""Reads a file that mailerd finds by itself, when only its user or root can have written it.

A user who may write such a file decides where mailerd sends passwords and refresh tokens. The
working folder is often shared (/tmp, a checkout), so a file that another user could have put there
is refused, and not passed over: the user who wrote it in good faith would otherwise wonder why it
has no effect.
"""

import os
import stat
from pathlib import Path
from typing import Final

from mailerd.core.i18n import N_, t
from mailerd.errors import ConfigurationError

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_UNTRUSTED: Final = N_(
    "mailerd takes settings from a {name} file only if no other user can have written it"
)


def read(path: Path) -> str | None:
    """The file's text; None where there is none.

    Raises:
        ConfigurationError: others could have written it, or it cannot be read.
    """
    try:
        entry = path.lstat()
        if stat.S_ISDIR(entry.st_mode):
            return None  # a virtual environment is often called .env
    except OSError:
        return None  # there is none, or a folder that this user cannot look into
    try:
        _check_place(path, entry)
        # Not to wait for a writer of a named pipe.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            # of the file that is read, whatever was put in its place meanwhile
            _check_file(path, os.fstat(handle))
            content = file.read()
    except FileNotFoundError:
        return None  # a link to nothing
    except OSError as error:
        raise ConfigurationError(
            t(
                "cannot read {path}: {strerror}; let mailerd's user read the file, or remove it",
                path=path.absolute(),
                strerror=error.strerror,
            )
        ) from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            t(
                "{path} is not UTF-8 (line {line}); save it as UTF-8",
                path=path.absolute(),
                line=line,
            )
        ) from error


def _check_place(path: Path, entry: os.stat_result) -> None:
    """The entry itself (a link has an owner of its own) and its folder, whose owner could put
    another file there.
    """
    folder = path.absolute().parent
    status = folder.stat()
    if not _is_ours(status.st_uid):
        raise _refused(
            path,
            t("its folder belongs to the user {user}", user=status.st_uid),
            t("start mailerd in another folder, or remove {name}", name=path.name),
        )
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        raise _refused(
            path,
            t("everyone can put files into its folder"),
            t("run: chmod o-w {folder}", folder=folder),
        )
    if stat.S_ISLNK(entry.st_mode) and not _is_ours(entry.st_uid):
        raise _refused(
            path,
            t("it is a link of the user {user}", user=entry.st_uid),
            t("remove it, or make a link of your own"),
        )


def _check_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _refused(path, t("it is not a regular file"), t("remove it"))
    if not _is_ours(status.st_uid):
        raise _refused(
            path,
            t("it belongs to the user {user}", user=status.st_uid),
            t(
                "if you know what is in it, run: chown {user} {path}",
                user=os.geteuid(),
                path=path.absolute(),
            ),
        )
    if status.st_mode & _OTHERS_WRITE:
        mode = stat.S_IMODE(status.st_mode)
        raise _refused(
            path,
            t("others can write to it (mode {mode:04o})", mode=mode),
            t("run: chmod go-w {path}", path=path.absolute()),
        )


def _is_ours(user: int) -> bool:
    return user in (0, os.geteuid())


def _refused(path: Path, why: str, remedy: str) -> ConfigurationError:
    rule = t(_UNTRUSTED, name=path.name)
    return ConfigurationError(
        t(
            "{path} is not used: {why}. {rule}; {remedy}",
            path=path.absolute(),
            why=why,
            rule=rule,
            remedy=remedy,
        )
    )
