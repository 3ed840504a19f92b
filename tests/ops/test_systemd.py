"""sd_notify, the watchdog and inherited sockets, against a socket like systemd's."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailerd.core.i18n import joined, t, tn
from mailerd.core.labels import coded
from mailerd.core.situation import Facts, situation
from mailerd.ops.watchdog import Systemd


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60)
        yield sock


def test_what_is_said_arrives(manager: socket.socket) -> None:
    it = Systemd({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "30000000"})
    assert it.watchdog == 30.0
    it.ready("running")
    assert manager.recv(1000) == b"READY=1\nSTATUS=running"
    it.notify_watchdog()
    assert manager.recv(1000) == b"WATCHDOG=1"
    it.reloading()
    assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    it.extend_timeout(1.5)
    assert manager.recv(1000) == b"EXTEND_TIMEOUT_USEC=1500000"


def test_a_status_is_said_once(manager: socket.socket) -> None:
    it = Systemd({"NOTIFY_SOCKET": manager.getsockname()})
    it.status("3 jobs")
    it.status("3 jobs")
    it.status("2 jobs")
    assert [manager.recv(1000), manager.recv(1000)] == [b"STATUS=3 jobs", b"STATUS=2 jobs"]


def test_a_status_is_in_the_language_of_the_log(manager: socket.socket) -> None:
    it = Systemd({"NOTIFY_SOCKET": manager.getsockname()}, language="zh")
    it.ready(joined([tn("{n} job", "{n} jobs", 2), t("{n:,} {what}", n=1204, what=coded("waiting"))], ", "))
    it.status(situation(Facts(None, outage="away"))[0].text)
    it.language = "en"  # a reload
    it.stopping("draining: 3 messages in flight")
    said = [manager.recv(1000).decode().rpartition("=")[2] for _ in range(3)]
    assert said == [
        "2 个任务，等待中 1,204",
        "数据库不可用：不接收，也不发送。",
        "draining: 3 messages in flight",
    ]


def test_without_a_manager_nothing_happens() -> None:
    it = Systemd({})
    it.ready("running")
    assert (it.enabled, it.watchdog, it.sockets()) == (False, 0.0, [])


def test_another_process_s_watchdog_and_sockets_are_not_ours() -> None:
    other = str(os.getpid() + 1)
    it = Systemd({"WATCHDOG_PID": other, "WATCHDOG_USEC": "1", "LISTEN_PID": other, "LISTEN_FDS": "1"})
    assert (it.watchdog, it.sockets()) == (0.0, [])
