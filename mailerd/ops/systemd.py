"""Talks to systemd: readiness, status, the watchdog and inherited sockets; without systemd every call does nothing.

The protocols are sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3).
"""

import os
import socket
import time
from collections.abc import Mapping
from typing import Final

from mailerd.core.texts import Language
from mailerd.texts import in_chinese

_FIRST: Final = 3
"""The first inherited descriptor: SD_LISTEN_FDS_START of sd_listen_fds(3)."""


class Systemd:
    """What this process says to its service manager, and what it got from it."""

    def __init__(self, environment: Mapping[str, str] | None = None, *, language: Language = "en") -> None:
        self.language = language
        given = os.environ if environment is None else environment
        address = given.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""
        ours = given.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        micros = given.get("WATCHDOG_USEC", "") if ours else ""
        self.watchdog: Final = int(micros) / 1e6 if micros.isdecimal() else 0.0
        """Seconds within which the watchdog must be fed; 0: there is none."""
        fds = given.get("LISTEN_FDS", "") if given.get("LISTEN_PID") == str(os.getpid()) else ""
        self._listening = int(fds) if fds.isdecimal() else 0

    @property
    def enabled(self) -> bool:
        """Whether systemd listens."""
        return bool(self._address)

    def sockets(self) -> list[socket.socket]:
        """The listening sockets that systemd keeps; they outlive this process, so that no client is refused."""
        found = []
        for number in range(_FIRST, _FIRST + self._listening):
            os.set_inheritable(number, False)
            sock = socket.socket(fileno=number)
            sock.setblocking(False)
            found.append(sock)
        self._listening = 0
        return found

    def ready(self, status: str) -> None:
        """The service is up, or has finished reloading."""
        self._status = status
        self._say(f"READY=1\nSTATUS={self._localized(status)}")

    def reloading(self) -> None:
        """A reload begins; `ready` must follow."""
        micros = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say(f"RELOADING=1\nMONOTONIC_USEC={micros}")

    def stopping(self, status: str) -> None:
        """The end has begun."""
        self._say(f"STOPPING=1\nSTATUS={self._localized(status)}")

    def extend_timeout(self, seconds: float) -> None:
        """The start or the stop gets so many more seconds from now."""
        self._say(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def notify_watchdog(self) -> None:
        """All loops make progress."""
        self._say("WATCHDOG=1")

    def trigger_watchdog(self) -> None:
        """A loop has stalled for good: end and restart this process now."""
        self._say("WATCHDOG=trigger")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; said only when it has changed."""
        if text != self._status:
            self._status = text
            self._say(f"STATUS={self._localized(text)}")

    def _localized(self, status: str) -> str:
        return in_chinese(status) if self.language == "zh" else status

    def _say(self, text: str) -> None:
        if not self._address:
            return
        # Never in the way: a manager that does not read loses a status line, and a watchdog that is not fed is its own
        # remedy.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            try:
                sock.sendto(text.encode(), self._address)
            except OSError:
                return
