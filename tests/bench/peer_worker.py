"""saq's two sides for `tests.bench.peer`, run by a Python of its own: `enqueue` the messages, or `work` them off."""

import asyncio
import base64
import json
import sys
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiohttp
import aiomysql
import uvloop
from jinja2.sandbox import SandboxedEnvironment
from redis.asyncio import Redis  # type: ignore[import-not-found]  # as below
from saq import Worker  # type: ignore[import-not-found]  # it has an environment of its own
from saq.queue.redis import RedisQueue  # type: ignore[import-not-found]

ABOUT = json.loads(sys.argv[1])
SUBJECT, HTML, TEXT = (SandboxedEnvironment(autoescape=True).from_string(each) for each in ABOUT["template"])


async def send(context: dict[str, Any], *, number: int) -> None:
    """Render, make a draft, send it, and write the row."""
    values = {"name": f"Reader {number}", "order": number, "product": "a good book"}
    message = EmailMessage()
    message["Subject"], message["To"] = SUBJECT.render(values), f"reader{number}@example.org"
    message["From"] = context["senders"][number % len(context["senders"])]
    message.set_content(TEXT.render(values))
    message.add_alternative(HTML.render(values), subtype="html")
    raw = base64.urlsafe_b64encode(message.as_bytes()).decode()
    head = {"Authorization": f"Bearer {context['tokens'][message['From']]}"}
    root = ABOUT["google"] + "gmail/v1/users/me/drafts"
    async with context["http"].post(root, json={"message": {"raw": raw}}, headers=head) as answer:
        draft = await answer.json()
    async with context["http"].post(root + "/send", json={"id": draft["id"]}, headers=head) as answer:
        sent = await answer.json()
    async with context["pool"].acquire() as connection, connection.cursor() as cursor:
        await cursor.execute("UPDATE peer SET status = 'sent', message_id = %s WHERE id = %s", (sent["id"], number))


async def startup(context: dict[str, Any]) -> None:
    """Open what the jobs share."""
    context["http"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=105))
    context["pool"] = await aiomysql.create_pool(autocommit=True, minsize=1, maxsize=20, **ABOUT["database"])
    context["tokens"] = {}
    for sender, known in _credentials().items():
        form = {"grant_type": "refresh_token"} | {k: known[k] for k in ("client_id", "client_secret", "refresh_token")}
        async with context["http"].post(ABOUT["google"] + "token", data=form) as answer:
            context["tokens"][sender] = (await answer.json())["access_token"]
    context["senders"] = list(context["tokens"])
    _ready()


def _credentials() -> dict[str, dict[str, str]]:
    return {file.stem: json.loads(file.read_text()) for file in sorted(Path(ABOUT["credentials"]).glob("*.json"))}


def _ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


async def main() -> None:
    """Be one of the two; the one that enqueues begins when a line comes."""
    queue = RedisQueue(Redis.from_url(ABOUT["redis"], max_connections=1000))
    await queue.connect()
    if sys.argv[2] == "work":
        await Worker(queue, functions=[send], startup=startup, concurrency=100).start()
        return
    _ready()
    await asyncio.to_thread(sys.stdin.readline)
    for number in range(ABOUT["messages"]):
        await queue.enqueue("send", number=number)


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(main())
