"""The machine of the scenario: commands, the journal, the configuration, and a client of the API."""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from mailerd.sandbox.mariadb import Server

CONFIG = Path("/etc/mailerd/mailerd.toml")
URL = "http://127.0.0.1:5000"
GOOGLE = "http://127.0.0.1:9000"


def sh(command: str, *, check: bool = True, env: dict[str, str] | None = None) -> str:
    """Run, and return what it said."""
    done = subprocess.run(
        ["/bin/bash", "-c", command], capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}
    )
    if check and done.returncode:
        raise SystemExit(f"FAILED ({done.returncode}): {command}\n{done.stdout}\n{done.stderr}")
    return (done.stdout + done.stderr).strip()


def step(name: str) -> None:
    print(f"\n=== {name}", flush=True)


def show(*lines: object) -> None:
    print(*lines, sep="\n", flush=True)


def expect(found: bool, what: str) -> None:  # noqa: FBT001 - reads like assert
    print(("ok: " if found else "NOT OK: ") + what, flush=True)
    if not found:
        print(sh("journalctl -u mailerd -n 60 --no-pager; systemctl status mailerd --no-pager", check=False))
        raise SystemExit(1)


def until(true: Callable[[], bool], *, within: float = 30.0) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.2)
    return False


def status() -> str:
    return sh("systemctl show mailerd -p StatusText --value", check=False)


def active() -> str:
    return sh("systemctl is-active mailerd", check=False)


def journal(arguments: str) -> str:
    return sh(f"journalctl --no-pager -o short-precise {arguments}", check=False)


def pid() -> str:
    return sh("systemctl show mailerd -p MainPID --value")


def configure(
    server: Server,
    *,
    level: str = "info",
    url: str = "",
    per_minute: int = 0,
    statement_timeout: int = 30,
    file: Path = CONFIG,
    port: int = 5000,
) -> None:
    """Write a configuration; who may read it is put right as an administrator would."""
    lines = [
        "[database]", f'url = "{url or server.url}"', "connect_timeout = 2", "connect_attempts = 2",
        f"statement_timeout = {statement_timeout}",
        "[intake]", f"port = {port}",
        "[runner]", "poll_interval = 0.5", "lease = 30", "drain_timeout = 20",
        "[gmail]", f'api_root = "{GOOGLE}/"', f'token_uri = "{GOOGLE}/token"', "request_timeout = 5",
        'credentials_dir = "/etc/mailerd/credentials"',
        "[pace]", "units_per_minute = 0", f"per_minute = {per_minute}", "per_day = 0",
        "[log]", f'level = "{level}"',
    ]  # fmt: skip
    file.write_text("\n".join(lines) + "\n")
    sh("systemd-tmpfiles --create /usr/lib/tmpfiles.d/mailerd.conf")
    sh("chown -R mailerd: /etc/mailerd/credentials")


def drop_in(unit: str, text: str) -> None:
    """A drop-in until the next boot, taken up; `text` "" removes it."""
    folder = Path(f"/run/systemd/system/{unit}.d")
    if text:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scenario.conf").write_text(text)
    else:
        sh(f"rm -rf {folder}")
    sh("systemctl daemon-reload")


def order(messages: int, *, domain: str = "example.org") -> dict[str, Any]:
    return {
        "sender_email": "me@example.com",
        "template": {"subject": "Hello", "text": "Dear {{ name }}"},
        "recipients": [{"email": f"r{n}@{domain}", "variables": {"name": f"N{n}"}} for n in range(messages)],
    }


async def post(
    session: aiohttp.ClientSession, key: str, body: dict[str, Any], *, url: str = URL
) -> tuple[int, dict[str, Any]]:
    async with session.post(f"{url}/api/jobs/send_template_emails", json=body, headers={"X-API-Key": key}) as answer:
        return answer.status, await answer.json()


def send(key: str, messages: int, *, url: str = URL, socket: str = "", domain: str = "example.org") -> str:
    """Post a job; its id."""

    async def once() -> str:
        connector = aiohttp.UnixConnector(socket) if socket else None
        async with aiohttp.ClientSession(connector=connector) as session:
            code, body = await post(session, key, order(messages, domain=domain), url=url)
            if code != 200:
                raise SystemExit(f"POST: {code} {body}")
            return str(body["job_id"])

    return asyncio.run(once())


def job(key: str, id_: str, *, url: str = URL) -> dict[str, Any]:
    return json.loads(sh(f"curl -s -H 'X-API-Key: {key}' {url}/api/jobs/{id_}"))  # type: ignore[no-any-return]  # JSON


def finished(key: str, id_: str, *, url: str = URL) -> bool:
    return bool(job(key, id_, url=url)["status"] == "completed")
