"""Runs mailerd as it would be if some messages crashed a library: `-m tests.chaos.crashing run …`.

A message whose recipient begins with `crash` ends the process on the spot, when it is made and before Google has it.
"""

import importlib
import os
import signal
from typing import Any

from mailerd.gmail import Gmail


def crash() -> None:
    """Make such messages do so."""
    create, send = Gmail.create_draft, Gmail.send_message

    async def create_draft(self: Gmail, sender: str, *, raw: bytes) -> Any:
        _look_at(raw)
        return await create(self, sender, raw=raw)

    async def send_message(self: Gmail, sender: str, *, raw: bytes) -> Any:
        _look_at(raw)
        return await send(self, sender, raw=raw)

    vars(importlib.import_module("mailerd.gmail.client"))["Gmail"].create_draft = create_draft
    vars(importlib.import_module("mailerd.gmail.client"))["Gmail"].send_message = send_message


def _look_at(raw: bytes) -> None:
    if b"crash" in raw.partition(b"\r\n\r\n")[0]:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    crash()
    importlib.import_module("mailerd.cli").main()
