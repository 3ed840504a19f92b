"""Speaks journald's own protocol without ever waiting: what it does not take now is kept, and what is too much counted.

The protocol is https://systemd.io/JOURNAL_NATIVE_PROTOCOL/. A library that blocks when journald stops would stop the
sending of letters with it; this one cannot, since its socket does not block and its memory is bounded.
"""

import array
import errno
import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

ADDRESS: Final = "/run/systemd/journal/socket"
MAX_BACKLOG_BYTES: Final = 8 * 1024 * 1024
"""What is kept while journald does not read: some 10,000 records."""
_NOT_NOW: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ECONNREFUSED, errno.ENOENT, errno.ENOTCONN})


def under_systemd(environment: Mapping[str, str]) -> bool:
    """Whether standard error goes to journald: JOURNAL_STREAM names its device and inode, see systemd.exec(5)."""
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
    """The way to journald. `lost` makes the record that tells of so many lost ones; `told`: journald has taken it."""

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
        """Records, each with the nanosecond since 1970 at which it was to be written, and its size."""
        self._backlog_bytes = 0
        self._lost = 0
        # The guard of the event loop writes from a thread of its own; a destructor may do so in the midst of a record.
        self._lock = threading.RLock()

    def write(self, fields: Mapping[str, str]) -> None:
        """Hand a record over, or keep it, or count it as lost; never wait."""
        with self._lock:
            record = encode(fields)
            waiting = self._backlog or self._lost
            if (waiting and not self._drain()) or not self._send(record):
                self._keep(fields, size=len(record))

    def flush(self) -> bool:
        """Try again what was kept; whether more is left. Called now and then, since nothing may be said for long.

        The kernel takes some hundred records at a time (net.core.wmem_default): what is left wants another call soon.
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
            self._socket.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], 0, self._address)
        except OSError as error:
            if error.errno in _NOT_NOW:
                return False
            self._lost += 1
        finally:
            os.close(file)
        return True

    def close(self) -> list[tuple[int, Mapping[str, str]]]:
        """A last try, and the end; what journald has still not taken, each with its nanosecond since 1970."""
        with self._lock:
            self.flush()
            self._socket.close()
            left = [(at, fields) for at, _, fields in self._backlog]
            if self._lost:
                left.append((time.time_ns(), self._say_lost(self._lost)))
            return left
