"""The way to journald: never a wait, losses counted and told, what is large goes another way, nothing is mangled."""

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.config import LogSettings
from mailerd.events.worker import RunnerEvents
from mailerd.ops import log as native
from mailerd.ops.log import JournaldTransport, Log, encode, under_systemd


class Journald:
    """A socket like journald's, which is read when a test wants it to be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(60)

    def read(self) -> dict[str, str]:
        data, ancillary, _, _ = self.socket.recvmsg(1 << 20, 1024)
        if ancillary:
            (descriptor,) = struct.unpack("i", ancillary[0][2][:4])
            with os.fdopen(descriptor, "rb") as file:
                file.seek(0)
                data = file.read()
        return decode(data)

    def read_all(self) -> list[dict[str, str]]:
        self.socket.setblocking(False)
        found = []
        try:
            while True:
                found.append(self.read())
        except BlockingIOError:
            return found


def decode(data: bytes) -> dict[str, str]:
    """The inverse of `encode`, written from journald's description."""
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
            data = rest
        else:
            name, (size,) = line, struct.unpack("<Q", rest[:8])
            value, data = rest[8 : 8 + size], rest[9 + size :]
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    it = Journald(tmp_path / "socket")
    with it.socket:
        yield it


@pytest.fixture
def way(journald: Journald) -> Iterator[JournaldTransport]:
    it = JournaldTransport(lost=lost, told=lambda _: None, address=str(journald.path))
    yield it
    it.close()


@pytest.fixture
def events(journald: Journald, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunnerEvents]:
    monkeypatch.setattr(
        native.JournaldTransport.__init__, "__kwdefaults__", {"address": str(journald.path), "max_backlog": 1000}
    )
    journal = Log(LogSettings(format="journald"))
    yield RunnerEvents(journal.write)
    journal.close()


def lost(number: int) -> Mapping[str, str]:
    return {"MESSAGE": f"lost {number}"}


def test_a_record_survives_line_breaks_equal_signs_and_every_script() -> None:
    fields = {"MESSAGE": "a\nb=c\n", "X": "=", "Y": "数据库", "Z": ""}
    assert decode(encode(fields)) == fields


@given(st.dictionaries(st.from_regex(r"[A-Z]+", fullmatch=True), st.text() | st.sampled_from(["", "\n", "a=b"])))
def test_any_record_survives(fields: dict[str, str]) -> None:
    assert decode(encode(fields)) == fields


def test_what_journald_does_not_take_now_comes_later_and_in_order(journald: Journald, way: JournaldTransport) -> None:
    for number in range(2000):  # far more than the socket's queue holds; a sender that blocks would hang here
        way.write({"MESSAGE": str(number)})
    assert way.flush(), "more is left"
    heard = []
    while way.flush():
        heard += journald.read_all()
    heard += journald.read_all()
    assert [record["MESSAGE"] for record in heard] == [str(number) for number in range(2000)]


class Interrupted:
    """A socket in the midst of whose first sending somebody else tells."""

    def __init__(self, way: JournaldTransport) -> None:
        self._way, self._real, self._told = way, way._socket, False
        self.close = self._real.close

    def sendto(self, record: bytes, address: str) -> None:
        if not self._told:
            self._told = True
            self._way.write({"MESSAGE": "inner"})
        self._real.sendto(record, address)


def test_what_is_told_in_the_midst_of_a_record_does_not_wait_for_it(journald: Journald) -> None:
    way = JournaldTransport(lost=lost, told=lambda _: None, address=str(journald.path))
    way._socket = Interrupted(way)  # type: ignore[assignment]
    writing = threading.Thread(target=way.write, args=({"MESSAGE": "outer"},), daemon=True)
    writing.start()
    writing.join(timeout=60)
    assert not writing.is_alive()
    assert [record["MESSAGE"] for record in journald.read_all()] == ["inner", "outer"]
    way.close()


def test_what_is_too_much_is_counted_and_told(journald: Journald) -> None:
    way = JournaldTransport(lost=lost, told=lambda _: None, address=str(journald.path), max_backlog=1000)
    for number in range(3000):
        way.write({"MESSAGE": str(number)})
    heard = []
    while way.flush():
        heard += journald.read_all()
    heard += journald.read_all()
    told = [int(record["MESSAGE"].split()[1]) for record in heard if record["MESSAGE"].startswith("lost")]
    assert told
    assert sum(told) + len(heard) - len(told) == 3000
    way.close()


def test_a_record_that_is_too_large_for_a_datagram_arrives_whole(journald: Journald, way: JournaldTransport) -> None:
    way.write({"MESSAGE": "x" * 1_000_000})
    assert journald.read() == {"MESSAGE": "x" * 1_000_000}


def test_without_journald_nothing_is_raised(tmp_path: Path) -> None:
    way = JournaldTransport(lost=lost, told=lambda _: None, address=str(tmp_path / "nobody"))
    way.write({"MESSAGE": "x"})
    assert way.flush(), "it is kept"
    way.close()


def _sent(number: int) -> dict[str, Any]:
    return {
        "job": "J", "recipient": number, "to": "a@x", "sender": "me@x", "done": 1, "total": 9, "message_id": "m"
    }  # fmt: skip


def test_what_was_kept_to_the_end_is_said_on_standard_error_with_its_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        native.JournaldTransport.__init__, "__kwdefaults__", {"address": str(tmp_path / "none"), "max_backlog": 700}
    )
    moments = iter(range(1_790_000_000_000_000_000, 1_790_000_100_000_000_000, 1_000_000_000))
    monkeypatch.setattr(time, "time_ns", lambda: next(moments))
    journal = Log(LogSettings(format="journald"))
    for number in range(4):
        RunnerEvents(journal.write).message_sent(**_sent(number))
    assert capfd.readouterr().err == "", "while it lives, it waits for journald"
    journal.close()
    heading, *lines = capfd.readouterr().err.splitlines()
    assert 'log.format = "auto"' in heading
    assert [line[:42] for line in lines[:2]] == [
        f"2026-09-21 14:13:{second:02d}.000Z SUCCESS  job J [1/9]:"[:42] for second in (20, 21)
    ]
    assert "ERROR    2 records of this log lost" in lines[2]


def test_the_end_does_not_wait_for_a_reader_of_standard_error_that_stands_still(tmp_path: Path) -> None:
    program = f"""
from mailerd.config import LogSettings
from mailerd.events.process import StoreEvents
from mailerd.ops import log as native
from mailerd.ops.log import Log
native.JournaldTransport.__init__.__kwdefaults__["address"] = {str(tmp_path / "none")!r}
journal = Log(LogSettings(format="journald"))
for number in range(20_000):
    StoreEvents(journal.write).database_back(where=f"h:{{number}}", seconds=2)
journal.close()
"""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as said:
        done = subprocess.run([sys.executable, "-c", program], stderr=writing, timeout=120, check=False)
        os.close(writing)
        lines = said.read().splitlines()
    assert done.returncode == 0
    assert b"database h:0 back" in lines[1]


def test_a_daemon_without_a_journald_says_why_it_ends(tmp_path: Path) -> None:
    program = f"""
import sys
from mailerd.cli import main
from mailerd.ops import log as native
native.JournaldTransport.__init__.__kwdefaults__["address"] = {str(tmp_path / "none")!r}
sys.argv = ["mailerd", "run"]
main()
"""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
            env=os.environ | {
                "DATABASE_URL": "mysql://u@127.0.0.1:9/mailerd", "MAILERD_LOG__FORMAT": "journald",
                "MAILERD_INTAKE__PORT": str(port),
            },
        )  # fmt: skip
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "CRITICAL" in done.stderr or "ERROR" in done.stderr


def test_standard_error_that_is_no_journal_is_seen() -> None:
    it = os.fstat(2)
    assert under_systemd({"JOURNAL_STREAM": f"{it.st_dev}:{it.st_ino}"})
    assert not under_systemd({"JOURNAL_STREAM": f"{it.st_dev}:{it.st_ino + 1}"})
    assert not under_systemd({})


def test_an_event_becomes_a_record_with_its_fields(journald: Journald, events: RunnerEvents) -> None:
    events.message_sent(
        job="J1", recipient=7, to="a@example.org", sender="me@example.com", done=1, total=2, message_id="m"
    )
    record = journald.read()
    assert record["MESSAGE"] == "job J1 [1/2]: a@example.org (recipient 7) sent, message_id m"
    assert record["PRIORITY"] == "5"
    assert record["MAILERD_EVENT"] == "message_sent"
    assert (record["MAILERD_JOB"], record["MAILERD_RECIPIENT"]) == ("J1", "7")
    assert record["MAILERD_SENDER"] == "me@example.com"
    assert len(record["MESSAGE_ID"]) == 32


def fail() -> None:
    raise ValueError("boom")


def test_a_stack_stays_in_one_record(journald: Journald, events: RunnerEvents) -> None:
    with pytest.raises(ValueError, match="boom") as caught:
        fail()
    events.step_failed(what="claims.take", again_in=1.0, error=caught.value)
    record = journald.read()
    assert "Traceback (most recent call last)" in record["MESSAGE"]
    assert record["MAILERD_ERROR"] == "ValueError: boom"
    assert record["PRIORITY"] == "4"


def test_lost_records_are_counted_once_however_often_that_must_be_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = tmp_path / "later"
    monkeypatch.setattr(
        native.JournaldTransport.__init__, "__kwdefaults__", {"address": str(address), "max_backlog": 0}
    )
    journal, counted = Log(LogSettings(format="journald")), list[object]()
    journal.on_lost = lambda _, fields: counted.append(fields["lost"])
    for number in range(7):
        RunnerEvents(journal.write).message_sent(**_sent(number))
    for _ in range(3):
        assert journal.flush(), "nobody listens yet"
    assert counted == []
    journald = Journald(address)
    with journald.socket:
        assert not journal.flush()
        assert journald.read()["MAILERD_LOST"] == "7"
    assert counted == [7]
    journal.close()
