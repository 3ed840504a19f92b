"""The sandbox's folder: what lies where in it, and the files that point a daemon at the sandbox.

All of it is for the owner's eyes only (0700, 0600): it holds the keys of the sandbox.
"""

import asyncio
import fcntl
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from mailerd.core.i18n import t

_PACKAGE: Final = Path(__file__).parents[1]
_EXAMPLES: Final = [
    root / "examples" / "templates" for root in (_PACKAGE / "share", _PACKAGE.parent)
]
"""Where the sample templates are: in an installed mailerd, and in a checkout."""
_LIMITS: Final = ("units_per_minute", "per_day", "consumer_per_day", "project_units_per_minute")
"""The keys of [pace] that limit unless they are 0."""
_LOOPBACK: Final = "127.0.0.0/8, ::1"
"""A receiver of webhooks that one tries stands on this machine, without TLS, at any port."""
_INBOX_INTERVAL_S = 2
"""Seconds between two reads of an inbox: so short that a person who waits sees what comes back."""


_LOCK_TRIES: Final = 20
_LOCK_AGAIN_S: Final = 0.05


class SandboxDir:
    """The folder `.sandbox`.

    Its paths are absolute, so that what is printed works from anywhere.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.configuration = self.folder / "mailerd.toml"
        self.credentials = self.folder / "credentials"
        self.database = self.folder / "mariadb"
        self.outbox = self.folder / "outbox"
        self.templates = self.folder / "templates"
        self.log = self.folder / "mailerd.log"

    def make(self) -> None:
        """Make the folder.

        The messages of an earlier run go, as they go from the stand-in's memory; its data stay.
        """
        for folder in (self.folder, self.credentials, self.outbox):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / ".gitignore").write_text("*\n", encoding="utf-8")
        self.configuration.unlink(missing_ok=True)  # it points at an earlier run
        for message in self.outbox.glob("*.eml"):
            message.unlink()
        for examples in filter(Path.is_dir, _EXAMPLES):
            if not self.templates.exists():  # what a person changed in them stays
                shutil.copytree(examples, self.templates)

    @asynccontextmanager
    async def claimed(self) -> AsyncIterator[None]:
        """Hold the lock by which commands see that a sandbox runs here
        (`mailerd/config/discovery.py`).

        Raises:
            BlockingIOError: another sandbox runs in this folder.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / "running").open("w", encoding="utf-8") as lock:
            for attempt in range(_LOCK_TRIES):  # a process that looks has the lock for a moment
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if attempt == _LOCK_TRIES - 1:
                        raise BlockingIOError(
                            t(
                                "another sandbox is using {folder}: stop it with Ctrl-C in its terminal, or start this "
                                "one in another folder",
                                folder=self.folder,
                            )
                        ) from None
                    await asyncio.sleep(_LOCK_AGAIN_S)
            yield

    def write_credential(self, email: str, credential: dict[str, Any]) -> None:
        """Write the key file of one mailbox."""
        _write(self.credentials / f"{email}.json", json.dumps(credential, indent=2) + "\n")

    def write_configuration(
        self,
        *,
        database: str,
        google: str,
        token_uri: str,
        auth_uri: str,
        intake_port: int,
        public_port: int,
        drain_s: int,
        limits: bool,
    ) -> None:
        """Write a daemon's configuration file; without `limits`, pace and quota are off."""
        sections: dict[str, dict[str, str | int | list[int]]] = {
            "database": {"url": database},
            "intake": {"host": "127.0.0.1", "port": intake_port},
            "public": {
                "host": "127.0.0.1",
                "port": public_port,
                "base_url": f"http://127.0.0.1:{public_port}",
            },
            "runner": {"drain_timeout": drain_s},
            "gmail": {
                "api_root": google,
                "token_uri": token_uri,
                "auth_uri": auth_uri,
                "credentials_dir": str(self.credentials),
            },
            "webhooks": {"allow_http": True, "ports": [], "allow_networks": _LOOPBACK},
            "inbox": {"interval": _INBOX_INTERVAL_S},
            "web": {"outbox": google},
            "templates": {"folder": str(self.templates)} if self.templates.is_dir() else {},
            "pace": {} if limits else dict.fromkeys(_LIMITS, 0),
            "log": {"format": "text"},
        }
        lines = [
            "# Written by `mailerd sandbox` at every start. It points to the sandbox: nothing leaves this machine."
        ]
        for section, values in sections.items():
            lines += ["", f"[{section}]"]
            # A JSON string is a TOML string too, as long as it is not escaped down to ASCII.
            lines += [
                f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()
            ]
        _write(self.configuration, "\n".join(lines) + "\n")


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first moment on."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
