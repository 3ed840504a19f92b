"""Takes events and writes them for people, as JSON or to journald; only this module imports loguru.

Every line goes through loguru: it is whole, it is with the kernel when `write` returns, so that
kill -9 loses none, and its trouble stays its own.
"""

import array
import errno
import json
import os
import select
import socket
import struct
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from loguru import logger

from mailerd.config import LogSettings
from mailerd.core.i18n import t
from mailerd.errors import DatabaseError
from mailerd.events.base import Event, EventSink
from mailerd.events.process import ProcessEvents
from mailerd.locale import say

# Speaks journald's own protocol without ever waiting: what it does not take now is kept, and what
# is too much counted.
#
# The protocol is https://systemd.io/JOURNAL_NATIVE_PROTOCOL/. A library that blocks when journald
# stops would stop the sending of messages with it; this one cannot, since its socket does not block
# and its memory is bounded.

ADDRESS: Final = "/run/systemd/journal/socket"
MAX_BACKLOG_BYTES: Final = 8 * 1024 * 1024
"""What is kept while journald does not read: some 10,000 records."""
_NOT_NOW: Final = frozenset(
    {errno.EAGAIN, errno.ENOBUFS, errno.ECONNREFUSED, errno.ENOENT, errno.ENOTCONN}
)


def under_systemd(environment: Mapping[str, str]) -> bool:
    """Whether standard error goes to journald: JOURNAL_STREAM names its device and inode, see
    systemd.exec(5).
    """
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        it = os.fstat(2)
    except OSError:
        return False
    return (device, inode) == (str(it.st_dev), str(it.st_ino))


def encode(fields: Mapping[str, str]) -> bytes:
    """A record: NAME=value, or with a length where the value has line breaks."""
    parts = []
    for name, value in fields.items():
        data = value.encode("utf-8", "surrogateescape")
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)


class JournaldTransport:
    """The way to journald.

    `lost` makes the record that tells of so many lost ones; `told`: journald has taken it.
    """

    def __init__(
        self,
        *,
        lost: Callable[[int], Mapping[str, str]],
        told: Callable[[int], None],
        address: str = ADDRESS,
        max_backlog: int = MAX_BACKLOG_BYTES,
    ) -> None:
        self._address = address
        self._most = max_backlog
        self._say_lost = lost
        self._told = told
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._backlog: deque[tuple[int, int, Mapping[str, str]]] = deque()
        """Records, each with the nanosecond since 1970 at which it was to be written, and its
        size.
        """
        self._backlog_bytes = 0
        self._lost = 0
        # The guard of the event loop writes from a thread of its own; a destructor may do so in the
        # midst of a record.
        self._lock = threading.RLock()

    def write(self, fields: Mapping[str, str]) -> None:
        """Hand a record over, or keep it, or count it as lost; never wait."""
        with self._lock:
            record = encode(fields)
            waiting = self._backlog or self._lost
            if (waiting and not self._drain()) or not self._send(record):
                self._keep(fields, size=len(record))

    def flush(self) -> bool:
        """Try again what was kept; whether more is left.

        Called now and then, since nothing may be said for long.

        The kernel takes some hundred records at a time (net.core.wmem_default): what is left wants
        another call soon.
        """
        with self._lock:
            return bool(self._backlog or self._lost) and not self._drain()

    def _keep(self, fields: Mapping[str, str], *, size: int) -> None:
        if self._backlog_bytes + size > self._most:
            self._lost += 1
            return
        self._backlog.append((time.time_ns(), size, fields))
        self._backlog_bytes += size

    def _drain(self) -> bool:
        while self._backlog:
            _, size, fields = self._backlog[0]
            if not self._send(encode(fields)):
                return False
            self._backlog.popleft()
            self._backlog_bytes -= size
        if self._lost:
            number = self._lost
            if not self._send(encode(self._say_lost(number))):
                return False
            self._lost = 0
            self._told(number)
        return True

    def _send(self, record: bytes) -> bool:
        """Whether it need not be tried again."""
        try:
            self._socket.sendto(record, self._address)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return self._send_by_file(record)
            if error.errno in _NOT_NOW:
                return False
            self._lost += 1  # no other attempt can help this one
        return True

    def _send_by_file(self, record: bytes) -> bool:
        """Too large for a datagram: journald takes a sealed memory file instead."""
        import fcntl  # noqa: PLC0415 - only where journald is

        file = os.memfd_create("mailerd-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with os.fdopen(os.dup(file), "wb") as opened:
                opened.write(record)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
            rights = array.array("i", [file]).tobytes()
            self._socket.sendmsg(
                [], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], 0, self._address
            )
        except OSError as error:
            if error.errno in _NOT_NOW:
                return False
            self._lost += 1
        finally:
            os.close(file)
        return True

    def close(self) -> list[tuple[int, Mapping[str, str]]]:
        """A last try, and the end; what journald has still not taken, each with its nanosecond
        since 1970.
        """
        with self._lock:
            self.flush()
            self._socket.close()
            left = [(at, fields) for at, _, fields in self._backlog]
            if self._lost:
                left.append((time.time_ns(), self._say_lost(self._lost)))
            return left


# What a line of the log looks like: for people, in JSON, and as journald's record; pure but for the
# time of day.

_PRIORITIES: Final = {"debug": 7, "info": 6, "success": 5, "warning": 4, "error": 3, "critical": 2}
"""syslog's, see syslog(3): a message sent is a notice; emerg (0) and alert (1) would shout on every
terminal.
"""
_LEVELS: Final = {str(number): level for level, number in _PRIORITIES.items()}


def text(event: Event, *, words: str, stack: str) -> str:
    """A line for people; the stack, if any, follows it."""
    return f"{_now(' ')} {event.level.upper():<8} {words}\n{stack}"


def of_record(journald_record: Mapping[str, str], *, at: int) -> str:
    """The line for people of a record that journald did not take; `at` is its nanosecond since
    1970.
    """
    level = _LEVELS[journald_record["PRIORITY"]]
    return f"{_moment(at, ' ')} {level.upper():<8} {journald_record['MESSAGE']}\n"


def in_json(event: Event, *, fields: Mapping[str, object], words: str, stack: str) -> str:
    """A line for machines, with every field by its own name and the stack inside."""
    line = {
        "at": _now("T"),
        "level": event.level,
        "event": event.name,
        "message": words,
        **{key: value for key, value in fields.items() if not isinstance(value, BaseException)},
    }
    if stack:
        line["error"] = str(fields.get("error", ""))
        line["stack"] = stack
    return _encode(line) + "\n"


def journald_record(
    event: Event, *, fields: Mapping[str, object], words: str, stack: str
) -> dict[str, str]:
    """A record of journald's: every field by its own name, in capitals and after MAILERD_."""
    own = {
        f"MAILERD_{name.upper()}": _plain(value)
        for name, value in fields.items()
        if not isinstance(value, BaseException)
    }
    error = fields.get("error")
    if isinstance(error, BaseException):
        own["MAILERD_ERROR"] = f"{type(error).__name__}: {error}"
    return {
        "MESSAGE": f"{words}\n{stack.rstrip()}" if stack else words,
        "PRIORITY": str(_PRIORITIES[event.level]),
        "SYSLOG_IDENTIFIER": "mailerd",
        "MESSAGE_ID": event.id_by(fields[event.by]) if event.by else event.message_id,
        "MAILERD_EVENT": event.name,
        **own,
    }


def _plain(value: object) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


_encode: Final = json.JSONEncoder(ensure_ascii=False, default=_plain).encode


def _now(between: str) -> str:
    return _moment(time.time_ns(), between)


def _moment(at: int, between: str) -> str:
    """A nanosecond since 1970 in UTC, to the millisecond; `between` stands between date and
    time.
    """
    second, rest = divmod(at, 1_000_000_000)
    return f"{datetime.fromtimestamp(second, UTC).replace(tzinfo=None).isoformat(between)}.{rest // 1_000_000:03d}Z"


if TYPE_CHECKING:
    from loguru import Message, Record

_NUMBERS: Final = {
    "debug": 10,
    "info": 20,
    "success": 25,
    "warning": 30,
    "error": 40,
    "critical": 50,
}
"""loguru's own severities: https://loguru.readthedocs.io/en/stable/api/logger.html"""
_ESCAPED: Final = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}
"""What a terminal may obey, and what makes journalctl show no text but a number of bytes; tab and
line feed stay.
"""
_FLUSH_TIMEOUT: Final = 2.0
"""Seconds that the end waits for the reader of standard error: under systemd that is journald,
which may be stopped.
"""
_AT_ONCE: Final = 4096
"""Bytes that a pipe or a socket which can be written to takes without a wait: PIPE_BUF of
pipe(7).
"""


class Log:
    """Where a process's events go; `write` is what every class of events is given."""

    def __init__(self, settings: LogSettings, *, all_stacks: bool = False) -> None:
        self._all_stacks = all_stacks
        self._journald: JournaldTransport | None = None
        self.configure(settings)

    def configure(self, settings: LogSettings) -> None:
        """Take other settings, from the next event on."""
        self._least = _NUMBERS[settings.level]
        self._language = settings.language
        self._kind = _kind(settings)
        if self._kind == "journald" and self._journald is None:
            self._journald = JournaldTransport(lost=self._lost, told=self._lost_told)
        logger.remove()
        logger.add(
            self._take,
            level=settings.level.upper(),
            format="{message}",
            backtrace=True,
            diagnose=False,
            catch=True,
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
        """Try again what journald did not take; whether more is left.

        Where the log goes elsewhere, nothing is.
        """
        return self._journald is not None and self._journald.flush()

    def close(self) -> None:
        """The end: what journald does not take now goes to standard error, the reason for the end
        included.
        """
        left = self._journald.close() if self._journald is not None else []
        if left:
            heading = say(
                t(
                    '{address} did not accept these lines; without journald, set log.format = "auto"',
                    address=ADDRESS,
                )
            )
            _out_at_most(f"{heading}\n" + "".join(of_record(record, at=at) for at, record in left))

    def _words(self, event: Event, fields: Mapping[str, object]) -> str:
        if self._language == "zh":  # an error is said by its text, where it was raised with one
            fields = {
                name: str(value) if isinstance(value, Exception) else value
                for name, value in fields.items()
            }
        words = say(event.words(fields), self._language)
        return words if words.isprintable() else words.translate(_ESCAPED)

    def _take(self, message: "Message") -> None:
        """What loguru hands back, with the stack that it has found."""
        record = message.record
        event, fields = record["extra"]["event"], record["extra"]["fields"]
        words, stack = record["message"], _stack(record)
        if self._kind == "text":
            _out(text(event, words=words, stack=stack))
        elif self._kind == "json":
            _out(in_json(event, fields=fields, words=words, stack=stack))
        elif self._journald is not None:
            self._journald.write(journald_record(event, fields=fields, words=words, stack=stack))

    def _lost(self, number: int) -> Mapping[str, str]:
        """The record that tells of lost ones."""
        made: list[Mapping[str, str]] = []
        ProcessEvents(
            lambda event, fields: made.append(
                journald_record(event, fields=fields, words=self._words(event, fields), stack="")
            )
        ).log_records_lost(lost=number)
        return made[0]

    def _lost_told(self, number: int) -> None:
        if self.on_lost is not None:
            ProcessEvents(self.on_lost).log_records_lost(lost=number)

    on_lost: EventSink | None = None
    """Who else shall hear of lost records, once the log has told of them: the metrics."""


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
    # loguru holds its lock meanwhile: threads tell too, and each line is whole
    sys.stderr.write(text)
    sys.stderr.flush()


def _out_at_most(text: str) -> None:
    """Write to standard error what its reader takes within a bound."""
    data, end = (
        memoryview(text.encode("utf-8", "backslashreplace")),
        time.monotonic() + _FLUSH_TIMEOUT,
    )
    ready = select.poll()
    ready.register(2, select.POLLOUT)
    with suppress(OSError):
        while data and (left := end - time.monotonic()) > 0 and ready.poll(left * 1000):
            data = data[os.write(2, data[:_AT_ONCE]) :]
