"""Takes events and writes them for people, as JSON or to journald; only this module imports loguru.

Every line goes through loguru: it is whole, it is with the kernel when `write` returns, so that kill -9 loses none, and
its trouble stays its own.
"""

import os
import select
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal

from loguru import logger

from mailerd.config import LogSettings
from mailerd.errors import DatabaseError
from mailerd.events.base import Event, EventSink
from mailerd.events.process import ProcessEvents
from mailerd.ops import log_formats
from mailerd.ops.journald import ADDRESS, JournaldTransport, under_systemd
from mailerd.texts import in_chinese

if TYPE_CHECKING:
    from loguru import Message, Record

_NUMBERS: Final = {"debug": 10, "info": 20, "success": 25, "warning": 30, "error": 40, "critical": 50}
"""loguru's own severities: https://loguru.readthedocs.io/en/stable/api/logger.html"""
_ESCAPED: Final = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}
"""What a terminal may obey, and what makes journalctl show no text but a number of bytes; tab and line feed stay."""
_FLUSH_TIMEOUT: Final = 2.0
"""Seconds that the end waits for the reader of standard error: under systemd that is journald, which may be stopped."""
_AT_ONCE: Final = 4096
"""Bytes that a pipe or a socket which can be written to takes without a wait: PIPE_BUF of pipe(7)."""


class Log:
    """Where a process's events go; `write` is what every class of events is given."""

    def __init__(self, settings: LogSettings, *, all_stacks: bool = False) -> None:
        self._all_stacks = all_stacks
        self._journald: JournaldTransport | None = None
        self.configure(settings)

    def configure(self, settings: LogSettings) -> None:
        """Take other settings, from the next event on."""
        self._least = _NUMBERS[settings.level]
        self._chinese = settings.language == "zh"
        self._kind = _kind(settings)
        if self._kind == "journald" and self._journald is None:
            self._journald = JournaldTransport(lost=self._lost, told=self._lost_told)
        logger.remove()
        logger.add(
            self._take, level=settings.level.upper(), format="{message}", backtrace=True, diagnose=False, catch=True
        )

    def write(self, event: Event, fields: Mapping[str, object], /) -> None:
        """Write one event; what is below the level costs next to nothing."""
        if _NUMBERS[event.level] < self._least:
            return
        words, error = self._words(event, fields).replace("\n", "\n    "), fields.get("error")
        explained = isinstance(error, DatabaseError) and error.explained
        if explained and not self._all_stacks and self._least > _NUMBERS["debug"]:
            error = None  # its cause and its remedy are in the log
        stack = error if isinstance(error, BaseException) else None
        logger.opt(exception=stack).bind(event=event, fields=fields).log(event.level.upper(), words)

    def flush(self) -> bool:
        """Try again what journald did not take; whether more is left. Where the log goes elsewhere, nothing is."""
        return self._journald is not None and self._journald.flush()

    def close(self) -> None:
        """The end: what journald does not take now goes to standard error, the reason for the end included."""
        left = self._journald.close() if self._journald is not None else []
        if left:
            heading = f'{ADDRESS} has not taken what follows; log.format = "auto" is for where there is no journald\n'
            _out_at_most(heading + "".join(log_formats.of_record(record, at=at) for at, record in left))

    def _words(self, event: Event, fields: Mapping[str, object]) -> str:
        if self._chinese:
            fields = {name: _in_chinese(value) for name, value in fields.items()}
        words = event.words(fields, chinese=self._chinese)
        return words if words.isprintable() else words.translate(_ESCAPED)

    def _take(self, message: "Message") -> None:
        """What loguru hands back, with the stack that it has found."""
        record = message.record
        event, fields = record["extra"]["event"], record["extra"]["fields"]
        words, stack = record["message"], _stack(record)
        if self._kind == "text":
            _out(log_formats.text(event, words=words, stack=stack))
        elif self._kind == "json":
            _out(log_formats.in_json(event, fields=fields, words=words, stack=stack))
        elif self._journald is not None:
            self._journald.write(log_formats.record(event, fields=fields, words=words, stack=stack))

    def _lost(self, number: int) -> Mapping[str, str]:
        """The record that tells of lost ones."""
        made: list[Mapping[str, str]] = []
        ProcessEvents(
            lambda event, fields: made.append(
                log_formats.record(event, fields=fields, words=self._words(event, fields), stack="")
            )
        ).log_records_lost(lost=number)
        return made[0]

    def _lost_told(self, number: int) -> None:
        if self.on_lost is not None:
            ProcessEvents(self.on_lost).log_records_lost(lost=number)

    on_lost: EventSink | None = None
    """Who else shall hear of lost records, once the log has told of them: the metrics."""


def _in_chinese(value: object) -> object:
    """A field as a Chinese line shows it: causes are sentences of their own."""
    if not isinstance(value, str | Exception):
        return value
    said = in_chinese(str(value))
    return value if said == str(value) else said


def _kind(settings: LogSettings) -> Literal["journald", "text", "json"]:
    if settings.format == "auto":
        return "journald" if under_systemd(os.environ) else "text"
    return settings.format


def _stack(record: "Record") -> str:
    """The stack with its causes; values of variables are left out, they may be secrets."""
    if record["exception"] is None:
        return ""
    return "".join(traceback.format_exception(*record["exception"]))


def _out(text: str) -> None:
    sys.stderr.write(text)  # loguru holds its lock meanwhile: threads tell too, and each line is whole
    sys.stderr.flush()


def _out_at_most(text: str) -> None:
    """Write to standard error what its reader takes within a bound."""
    data, end = memoryview(text.encode("utf-8", "backslashreplace")), time.monotonic() + _FLUSH_TIMEOUT
    ready = select.poll()
    ready.register(2, select.POLLOUT)
    with suppress(OSError):
        while data and (left := end - time.monotonic()) > 0 and ready.poll(left * 1000):
            data = data[os.write(2, data[:_AT_ONCE]) :]
