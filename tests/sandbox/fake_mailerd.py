"""A daemon in a hundred lines, true to the contract and to nothing else: for tests of the demonstration alone.

A file `trouble` beside the sandbox's folder says what goes wrong: migrate, deaf, start, half-way, opted-out, earlier.
"""

import asyncio
import base64
import json
import os
import signal
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

KEY = "sk_live_0123456789abcdef"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Daemon:
    def __init__(self, config: dict[str, Any], trouble: str) -> None:
        self.config = config
        self.trouble = trouble
        self.total = 0
        self.counts: Counter[str] = Counter()
        self.work: set[asyncio.Task[None]] = set()

    async def templates(self, _: web.Request) -> web.Response:
        return web.json_response({"templates": [], "broken": []})

    async def accept(self, request: web.Request) -> web.Response:
        if request.headers.get("X-API-Key") != KEY:
            return web.json_response({"error": {"code": "unauthorized", "message": "no"}}, status=401)
        job = await request.json()
        self.total = len(job["recipients"])
        out = 5 if self.trouble == "opted-out" else 0
        job["recipients"] = job["recipients"][out:]
        self.counts = Counter(waiting=self.total - out, cancelled=out)
        self.work.add(asyncio.create_task(self.send(job)))
        return web.json_response(
            {
                "job_id": "job_1",
                "status": "queued",
                "total": self.total,
                "accepted": self.total,
                "suppressed_total": out,
            }
        )

    async def state(self, _: web.Request) -> web.Response:
        status = "sending" if self.counts["waiting"] else "completed"
        known = {"status": status, "total": self.total, "counts": dict(self.counts), "cause_of_wait": None}
        return web.json_response(known)

    async def send(self, job: dict[str, Any]) -> None:
        gmail = self.config["gmail"]
        credential = json.loads((Path(gmail["credentials_dir"]) / f"{job['sender_email']}.json").read_text())
        form = {"grant_type": "refresh_token"} | {k: v for k, v in credential.items() if k != "type"}
        async with aiohttp.ClientSession() as session:
            async with session.post(gmail["token_uri"], data=form) as answer:
                token = (await answer.json())["access_token"]
            for number, recipient in enumerate(job["recipients"]):
                if self.trouble == "half-way" and number == self.total // 2:
                    say("the dog ate it")
                    os._exit(3)
                message = f"From: {job['sender_email']}\r\nTo: {recipient['email']}\r\nSubject: x\r\n"
                message += f"X-Mailerd-Key: {number}\r\n\r\nx\r\n"
                async with session.post(
                    f"{gmail['api_root']}gmail/v1/users/me/messages/send",
                    json={"raw": base64.urlsafe_b64encode(message.encode()).decode()},
                    headers={"Authorization": f"Bearer {token}"},
                ) as answer:
                    self.counts["sent" if answer.status == 200 else "failed"] += 1
                    self.counts["waiting"] -= 1

    async def run(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.get("/api/templates", self.templates),
                web.post("/api/jobs/send_template_emails", self.accept),
                web.get("/api/jobs/{id}", self.state),
            ]
        )
        runner = web.AppRunner(app)
        await runner.setup()
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await web.TCPSite(runner, "127.0.0.1", self.config["intake"]["port"]).start()
        await stop.wait()
        say("drained")
        await runner.cleanup()


def main() -> None:
    *words, _, path = sys.argv[1:]
    config = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    note = Path(path).parent.parent / "trouble"
    trouble = note.read_text() if note.exists() else ""
    if words[0] == trouble == "migrate" or (words[0] == "run" and trouble == "start"):
        sys.exit("the dog ate it")
    if words[0] == "migrate" and trouble == "deaf":
        signal.pause()
    if words[:2] == ["console", "login"]:
        say(f"http://127.0.0.1:{config['intake']['port']}/login/once")
        return
    if words[:2] == ["keys", "create"]:
        name = Path(path).parent / f"key-{words[2]}"
        name.touch(exist_ok=False)  # a name can be given once
        say(f"the key, shown once:\n{KEY}")
    if words[:2] == ["jobs", "list"]:
        left = [{"status": "sending", "counts": {"sent": 7, "waiting": 2, "unsure": 1}}]
        say(json.dumps({"jobs": left if trouble == "earlier" else [], "next_cursor": None}))
    if words == ["run"]:
        say(f"DATABASE_URL {os.environ.get('DATABASE_URL')}")
        for variable, value in os.environ.items():
            if variable.startswith("MAILERD_"):
                say(f"{variable} {value}")
        asyncio.run(Daemon(config, trouble).run())


main()
