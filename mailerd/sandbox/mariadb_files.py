"""Where a private database server keeps its files: templates, kept directories, locks, and what killed owners left."""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

from mailerd.sandbox import mysqld
from mailerd.sandbox.mysqld import ServerError

_PREFIX = "mailerd-db-"
_DISK = Path("/tmp")  # noqa: S108 # a folder of our own is made in it
_MEMORY = Path("/dev/shm")  # noqa: S108 # Linux's; a container may have 64 MiB of it
_ROOM = 2 * 1024**3
"""Bytes that must be free in memory: a server takes 30 MiB at its start, and its tests some hundred at most."""


def user_cache() -> Path:
    """Where templates go when no other place is set; a user without a home has them in the working folder."""
    try:
        home = Path.home()
    except RuntimeError:
        home = Path.cwd()
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "mailerd"


def new_place(*, in_memory: bool) -> tuple[Path, IO[str]]:
    """A folder for one server's socket and throw-away files, and the lock that marks it as in use.

    `in_memory`: on a file system in memory where one has room, since a table is made there 20 times as fast.
    """
    _sweep()
    where = _MEMORY if in_memory and _has_room(_MEMORY) else _DISK
    place = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=where))  # mode 0700; TMPDIR may be too long
    return place, _mark(place)


def _has_room(folder: Path) -> bool:
    try:
        return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free >= _ROOM
    except OSError:  # no such folder
        return False


def template(program: mysqld.Program, cache: Path) -> Path:
    """The data directory to copy, made by the first process that comes; others wait for the lock."""
    cache.mkdir(parents=True, exist_ok=True)
    template = cache / f"mariadb-{mysqld.fingerprint(program)}"
    with (cache / "mariadb.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        once(program, template)
    return template


def once(program: mysqld.Program, directory: Path) -> None:
    """Make a data directory unless it is there; the caller holds a lock. It gets its name when it is whole.

    Each attempt has a folder of its own: what made the last one may still be at it for a moment after a kill -9.
    """
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        for half in directory.parent.glob(f"{directory.name}.new-*"):
            shutil.rmtree(half, ignore_errors=True)
        half = Path(tempfile.mkdtemp(prefix=f"{directory.name}.new-", dir=directory.parent))
        program.initialise(half.absolute())
        half.rename(directory)


def only_one(data: Path) -> IO[str]:
    """Hold the lock of a kept directory. Raises ServerError when another process has it."""
    data.parent.mkdir(parents=True, exist_ok=True)
    lock = data.with_name(data.name + ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ServerError(f"another sandbox is using {data}") from None
    return lock


def _mark(place: Path) -> IO[str]:
    """Mark a folder as in use by a lock that the kernel drops when we die. It gets its name when it is held."""
    lock = (place / "lock.new").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    (place / "lock.new").rename(place / "lock")
    return lock


def _sweep() -> None:
    """Remove the folders of throw-away servers whose process was killed before it could."""
    for place in (*_DISK.glob(f"{_PREFIX}*"), *_MEMORY.glob(f"{_PREFIX}*")):
        with suppress(FileNotFoundError):
            if place.stat().st_uid != os.geteuid():
                continue
            with (place / "lock").open("r+") as lock, suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place, ignore_errors=True)
