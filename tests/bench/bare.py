"""The bare client that the daemon is measured against: aiohttp on uvloop with prepared bytes, and nothing else.

Run as a process of its own: python -m tests.bench.bare URL MODE NUMBER CONCURRENCY CREDENTIALS_DIR
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import aiohttp
import uvloop

from mailerd.gmail.client import draft_json, message_json
from tests.bench.message import raw


async def _token(session: aiohttp.ClientSession, url: str, known: dict[str, str]) -> str:
    form = {"grant_type": "refresh_token"} | {k: known[k] for k in ("client_id", "client_secret", "refresh_token")}
    async with session.post(url + "token", data=form) as answer:
        return str((await answer.json())["access_token"])


async def _main(url: str, mode: str, number: int, concurrency: int, known: dict[str, dict[str, str]]) -> None:
    connector = aiohttp.TCPConnector(limit=concurrency + 5)
    async with aiohttp.ClientSession(connector=connector) as session:
        heads = [
            {"Authorization": f"Bearer {await _token(session, url, each)}", "Content-Type": "application/json"}
            for each in known.values()
        ]
        messages = [raw(sender) for sender in known]
        drafts, sends = (
            [draft_json(one) for one in messages],
            [message_json(one) for one in messages],
        )
        numbers = iter(range(number))

        async def call(path: str, body: bytes, head: dict[str, str]) -> dict[str, str]:
            async with session.post(f"{url}gmail/v1/users/me/{path}", data=body, headers=head) as answer:
                said: dict[str, str] = json.loads(await answer.read())
                if answer.status != 200:
                    raise RuntimeError(said)
                return said

        async def worker() -> None:
            for at in numbers:
                one = at % len(known)
                if mode == "direct":
                    await call("messages/send", sends[one], heads[one])
                else:
                    draft = await call("drafts", drafts[one], heads[one])
                    await call("drafts/send", json.dumps({"id": draft["id"]}).encode(), heads[one])

        started = time.monotonic()
        await asyncio.gather(*(worker() for _ in range(concurrency)))
        sys.stdout.write(f"{number / (time.monotonic() - started)}\n")


def _credentials(folder: Path) -> dict[str, dict[str, str]]:
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), _credentials(Path(sys.argv[5]))))
