"""Sent messages as files: nothing is lost at the end, and a failure is not kept quiet."""

import threading
from pathlib import Path

import pytest

from mailerd.sandbox.google import FakeGoogle, serve
from mailerd.sandbox.google.outbox import OutboxFolder


def _send(google: FakeGoogle) -> str:
    google.add_mailbox("me@example.com")
    message = google.mailbox("me@example.com").send(
        b"To: ada@example.org\r\n\r\nhello", thread_id="", now=0.0, permit=lambda _: None
    )
    google.record_sent(message)
    return message.id


def test_closing_waits_until_every_message_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk_is_slow, write = threading.Event(), Path.write_bytes

    def write_slowly(path: Path, data: bytes) -> int:
        disk_is_slow.wait(5)
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_slowly)
    google = FakeGoogle(outbox_dir=tmp_path)
    ids = [_send(google) for _ in range(3)]
    threading.Timer(0.05, disk_is_slow.set).start()
    google.close()
    assert sorted(path.stem for path in tmp_path.iterdir()) == ids


async def test_a_message_that_cannot_be_written_fails_the_end(tmp_path: Path) -> None:
    async def lose_the_folder() -> None:
        google = FakeGoogle(outbox_dir=tmp_path / "outbox")
        async with serve(google):
            (tmp_path / "outbox").rmdir()
            _send(google)

    with pytest.raises(FileNotFoundError):
        await lose_the_folder()


def test_a_folder_without_messages_needs_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    folder = OutboxFolder(tmp_path)
    assert threading.active_count() == before
    folder.close()
