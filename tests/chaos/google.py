"""The stand-in for Google as a process of its own, and the control calls that the suite needs of it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from mailerd.sandbox.mariadb import child_process
from tests.chaos.child import PYTHON

_PAGE = 1000


class Google:
    """What the suite asks of the stand-in; it is also the witness of what was accepted."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self._http = http

    async def sign_in(self, sender: str, credentials: Path, *, scopes: Sequence[str]) -> None:
        """Open a mailbox and write its credential file."""
        blob = await self._ask("POST", "mailboxes", {"email": sender, "scopes": list(scopes)})
        descriptor = os.open(credentials / f"{sender}.json", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(blob, file)

    async def fault(self, **fault: object) -> None:
        """Arm a fault; the words are those of mailerd.sandbox.google.Fault."""
        await self._ask("POST", "faults", fault)

    async def struck(self) -> dict[tuple[str, str], int]:
        """How often which kind of fault has struck which method."""
        found: dict[tuple[str, str], int] = {}
        told = await self._ask("GET", "faults")
        for one in (*told["faults"], *told["spent"]):
            found[one["kind"], one["method"]] = found.get((one["kind"], one["method"]), 0) + one["struck"]
        return found

    async def clear_faults(self) -> None:
        """Lift all faults and forget them."""
        await self._ask("DELETE", "faults")

    async def accepted(self) -> list[dict[str, Any]]:
        """Every message that was accepted, oldest first."""
        return await self._all("outbox", "messages")

    async def drafts(self) -> list[dict[str, Any]]:
        """Every draft that lies in a mailbox now."""
        found: list[dict[str, Any]] = (await self._ask("GET", "drafts"))["drafts"]
        return found

    async def delete_drafts(self) -> int:
        """Delete every draft, as the owner of a mailbox would; how many there were."""
        return int((await self._ask("DELETE", "drafts"))["deleted"])

    async def notify(self, key: str, shape: str) -> None:
        """Let mail of some shape about a sent message come now."""
        await self._ask("POST", "notices", {"key": key, "shape": shape})

    async def forget_history(self) -> None:
        """Forget what came to every mailbox."""
        await self._ask("POST", "history/forget", {})

    async def change_rules(self, **rules: object) -> None:
        """Change rules; the words are those of mailerd.sandbox.google.FakeLimits."""
        await self._ask("PATCH", "rules", rules)

    async def send_manually(self, email: str, **more: str) -> bool:
        """Send a message as the person does in Gmail; whether Google took it.

        `key`: in the conversation of the message with that key. `shape`: what Google writes about it.
        """
        return bool((await self._ask("POST", "manual-send", {"email": email, **more}))["sent"])

    async def usage(self) -> dict[str, Any]:
        """What was used of the allowances."""
        return await self._ask("GET", "usage")

    async def undelivered(self) -> list[dict[str, Any]]:
        """Messages that were taken with a 200 and that nobody got, oldest first."""
        found: list[dict[str, Any]] = (await self._ask("GET", "undelivered"))["messages"]
        return found

    async def log(self) -> list[dict[str, Any]]:
        """Every request that the stand-in remembers, for the evidence."""
        return await self._all("log", "log")

    async def _all(self, what: str, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor: str | None = "0"
        while cursor is not None:
            page = await self._ask("GET", f"{what}?cursor={cursor}&limit={_PAGE}")
            found += page[name]
            cursor = page["next_cursor"]
        return found

    async def _ask(self, verb: str, path: str, body: object = None) -> dict[str, Any]:
        async with self._http.request(verb, f"{self.url}sandbox/{path}", json=body) as answer:
            answer.raise_for_status()
            found: dict[str, Any] = json.loads(await answer.read())
            return found


@asynccontextmanager
async def stand_in(folder: Path, *, latency: float, seed: int) -> AsyncIterator[Google]:
    """Start it; without quotas, since the subject here is faults."""
    command = [
        *(PYTHON, "-m", "mailerd.sandbox.google", "--port", "0"),
        *("--units-per-minute", "0", "--project-units-per-minute", "0", "--per-day", "0"),
        *("--latency", str(latency), "--seed", str(seed), "--log-size", "200000", "--keep-raw", "1"),
    ]
    with (folder / "google.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - in the main thread, to which it is tied; it takes a moment
            child_process(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    try:
        assert process.stdout is not None
        url = (await asyncio.to_thread(process.stdout.readline)).decode().strip()
        if not url:
            raise RuntimeError((folder / "google.log").read_text())
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
            yield Google(url, http)
    finally:
        process.kill()
        process.communicate()
