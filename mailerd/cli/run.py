"""`mailerd run`: the daemon."""

import asyncio
import ctypes
import faulthandler
import gc
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import typer

from mailerd.app import build
from mailerd.cli.checks import RepeatedChecks
from mailerd.cli.common import ConfigOption, configured, run_async
from mailerd.config import Settings, dotenv_in_use, load
from mailerd.config.discovery import Found
from mailerd.core.i18n import joined, t
from mailerd.errors import ConfigurationError, ListenError, MailerdError
from mailerd.events.process import ProcessEvents
from mailerd.ops.log import Log

_THREADS_TAKE_TURNS_AFTER: Final = 0.001
"""Seconds that a thread which reads a large request may keep the interpreter while the event loop
wants it: the loop of a sending daemon waits for that several times a message. Python's own are
0.005; much less slows the reading.
"""

_OPEN_FILES: Final = 16_384
"""Files and connections that the daemon may have at once, where the system lets it: most begin with
1,024.
"""

_OWN_PAGES_FROM: Final = 1024 * 1024
"""Bytes of a block from which on the C library gives its memory back to the system once it is
free.
"""
_M_MMAP_THRESHOLD: Final = -3
"""glibc's malloc.h."""


def run(config: ConfigOption = None) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    faulthandler.enable()  # the watchdog's SIGABRT then leaves every thread's stack as well
    (known, file), dotenv = configured(config), dotenv_in_use()
    journal = Log(known.log)
    if dotenv is not None:
        ProcessEvents(journal.write).dotenv_used(file=str(dotenv[0]), names=", ".join(dotenv[1]))
    # what is loaded by now stays; to look through it for cycles holds the loop for 70 ms
    gc.freeze()
    sys.setswitchinterval(_THREADS_TAKE_TURNS_AFTER)
    _allow_open_files()
    give_large_blocks_back()
    try:
        read_again = partial(load, file.path, named=file.named)
        run_async(
            run_until_signalled(known, journal, read_again=read_again, file=str(file.path or ""))
        )
    except Exception as error:
        _say_why(error, ProcessEvents(journal.write), file)
        raise typer.Exit(2 if isinstance(error, ConfigurationError) else 1) from error
    finally:
        journal.close()


def give_large_blocks_back() -> None:
    """Let freed large blocks leave the process: one body of 63 MB left 100 MB with the daemon for
    good.

    By itself glibc takes blocks of up to 32 MB from its heaps as soon as one of that size was freed
    (mallopt(3)), and a heap keeps what is below its newest block. Other C libraries have no
    mallopt.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _OWN_PAGES_FROM)


def _allow_open_files() -> None:
    """Raise the soft limit of open files, which the connections of strangers could use up, towards
    the hard one.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def run_until_signalled(
    settings: Settings, log: Log, *, read_again: Callable[[], Settings], file: str = ""
) -> None:
    """The daemon as a process: SIGTERM or SIGINT drains it, SIGHUP makes it read its settings
    again.

    A daemon that runs in a terminal is drained by SIGHUP: the terminal has gone, and its output
    would be lost.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    daemon = build(settings, log.write, flush=log.flush)
    daemon.intake.commands = _commands
    daemon.console.services.checks.examine = RepeatedChecks(settings, Path(file) if file else None)
    log.on_lost = daemon.service.metrics.on_event
    hang_up = (
        stop.set
        if sys.stderr.isatty()
        else lambda: daemon.reload(read_again, log.configure, file=file)
    )
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    await daemon.run(stop)


def _commands() -> str:
    from mailerd.cli.manual import markdown  # noqa: PLC0415 - it imports every command, for who reads that page

    return markdown()


def _say_why(error: Exception, events: ProcessEvents, file: Found) -> None:
    """Log why it ends: an error with a name in its own words, any other, which is a bug, with its
    stack.
    """
    group = error if isinstance(error, ExceptionGroup) else ExceptionGroup("", [error])
    named, unforeseen = group.split(MailerdError)
    for one in _leaves(named):
        cause = str(one)
        if file.sandbox and isinstance(one, ListenError):
            ours = t(
                "`mailerd sandbox --demo` runs a daemon of its own, which Ctrl-C in its terminal stops too"
            )
            cause = joined([cause, ours])
        events.process_refused(cause=cause, file=str(file))
    if unforeseen is not None:
        events.process_died(error=unforeseen)


def _leaves(group: BaseExceptionGroup[Exception] | None) -> list[BaseException]:
    if group is None:
        return []
    return [
        leaf
        for one in group.exceptions
        for leaf in (_leaves(one) if isinstance(one, ExceptionGroup) else [one])
    ]
