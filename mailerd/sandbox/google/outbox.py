"""Sent messages as .eml files in a folder, written by a thread of their own so that sending never
waits for a disk.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mailerd.sandbox.google.mailbox import Message


class OutboxFolder:
    """Writes every message that is put in, and has written all of them when `close` returns."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outbox")
        self._failure: OSError | None = None

    def put(self, message: Message) -> None:
        """Have a message written soon."""
        self._writer.submit(self._write, message)

    def close(self) -> None:
        """Wait until everything is on disk. Raises OSError when something could not be written."""
        self._writer.submit(lambda: None).result()  # its one thread takes what came before first
        if self._failure is not None:
            raise self._failure

    def _write(self, message: Message) -> None:
        try:
            # The name is Google's id and nothing of the message's, so that no message chooses where
            # it is written.
            (self._folder / f"{message.id}.eml").write_bytes(message.raw)
        except OSError as failure:
            # Kept for close(), which the server always calls: a full disk must not go unnoticed.
            self._failure = failure
