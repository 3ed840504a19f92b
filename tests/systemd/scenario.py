"""mailerd under a real systemd, step by step; the run ends where a promise is not kept.

Not collected by pytest: it needs root and a booted systemd of its own (see docs/systemd.md for how it is run).
"""

import asyncio
import json
import os
import re
import subprocess
import sys
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


def configure(server: Server, **log: str) -> None:
    lines = [
        "[database]", f'url = "{server.url}"', "connect_timeout = 2", "connect_attempts = 2",
        "[runner]", "poll_interval = 0.5", "lease = 30", "drain_timeout = 20",
        "[gmail]", f'api_root = "{GOOGLE}/"', f'token_uri = "{GOOGLE}/token"', "request_timeout = 5",
        'credentials_dir = "/etc/mailerd/credentials"',
        "[pace]", "units_per_minute = 0", "per_day = 0",
        "[log]", *(f'{key} = "{value}"' for key, value in log.items()),
    ]  # fmt: skip
    CONFIG.write_text("\n".join(lines) + "\n")
    sh("systemd-tmpfiles --create /usr/lib/tmpfiles.d/mailerd.conf")


def order(letters: int, *, text: str = "Dear {{ name }}") -> dict[str, Any]:
    return {
        "sender_email": "me@example.com",
        "template": {"subject": "Hello", "text": text},
        "recipients": [{"email": f"r{n}@example.org", "variables": {"name": f"N{n}"}} for n in range(letters)],
    }


async def post(session: aiohttp.ClientSession, key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    async with session.post(f"{URL}/api/jobs/send_template_emails", json=body, headers={"X-API-Key": key}) as answer:
        return answer.status, await answer.json()


def send(key: str, letters: int, **more: Any) -> str:
    async def once() -> str:
        async with aiohttp.ClientSession() as session:
            code, body = await post(session, key, order(letters, **more))
            if code != 200:
                raise SystemExit(f"POST: {code} {body}")
            return str(body["job_id"])

    return asyncio.run(once())


def job(key: str, id_: str) -> dict[str, Any]:
    return json.loads(sh(f"curl -s -H 'X-API-Key: {key}' {URL}/api/jobs/{id_}"))  # type: ignore[no-any-return]  # JSON


def finished(key: str, id_: str) -> bool:
    return bool(job(key, id_)["status"] == "completed")


async def restart_under_load(key: str, *, restarts: int, posters: int) -> tuple[list[int], list[str]]:
    """Statuses of POSTs while the service is restarted again and again, and what could not be posted at all."""
    codes: list[int] = []
    troubles: list[str] = []
    stop = asyncio.Event()

    async def poster() -> None:
        # A connection for each request: it is the new connections that a restart could refuse.
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            while not stop.is_set():
                try:
                    code, _ = await post(session, key, order(1))
                    codes.append(code)
                except (aiohttp.ClientError, OSError) as error:
                    troubles.append(repr(error))

    tasks = [asyncio.create_task(poster()) for _ in range(posters)]
    for _ in range(restarts):
        await asyncio.sleep(0.7)
        restart = await asyncio.create_subprocess_exec("systemctl", "restart", "mailerd")
        await restart.wait()
    await asyncio.sleep(0.7)
    stop.set()
    await asyncio.gather(*tasks)
    return codes, troubles


def first_start(server: Server) -> str:
    step("the second install leaves the configuration alone; migrate; keys; enable --now")
    configure(server, level="info")
    before = CONFIG.read_text()
    show(sh("cd /var/tmp/src && PIP_NO_INDEX=1 PIP_FIND_LINKS=/sdx/wheels make --no-print-directory install"))
    expect(CONFIG.read_text() == before, "the configuration is as it was")
    show(sh(f"runuser -u mailerd -- mailerd migrate --config {CONFIG} 2>/dev/null"))
    key = re.search(r"\S{30,}", sh(f"mailerd keys create test --config {CONFIG} 2>/dev/null"))
    assert key is not None
    show(sh("systemctl enable --now mailerd.socket mailerd 2>&1"))
    expect(active() == "active", "active once READY=1 was said")
    id_ = send(key[0], 5)
    expect(until(lambda: finished(key[0], id_)), "a job of 5 letters is completed")
    until(lambda: "waiting" in status(), within=15)
    show("STATUS:", status())
    show(sh("systemctl status mailerd --no-pager -n 5"))
    show("journalctl -u mailerd:", journal("-u mailerd -n 40 -o cat"))
    show(f"journalctl MAILERD_JOB={id_}:", journal(f"MAILERD_JOB={id_} -o cat"))
    record = journal("MAILERD_EVENT=letter_sent -n 1 -o verbose")
    show("fields:", record)
    for field in ("MESSAGE_ID=", "MAILERD_JOB=", "MAILERD_RECIPIENT=", "MAILERD_SENDER=me@example.com", "PRIORITY=5"):
        expect(field in record, f"the record has {field}")
    return key[0]


def security() -> None:
    step("systemd-analyze")
    said = sh("systemd-analyze security mailerd.service --no-pager | tail -1")
    show(said)
    score = re.search(r"(\d+\.\d)", said)
    expect(score is not None and float(score[1]) <= 1.2, "exposure at or below 1.2")
    show(
        "verify:",
        sh("systemd-analyze verify --man=no /etc/systemd/system/mailerd*.service /etc/systemd/system/mailerd.socket"),
    )


def reload(server: Server) -> None:
    step("reload: good and bad")
    before = pid()
    configure(server, level="debug")
    show(sh("systemctl reload mailerd && echo reloaded"))
    expect(
        until(lambda: "settings read again" in journal("MAILERD_EVENT=settings_reloaded")), "a good file is taken up"
    )
    CONFIG.write_text(CONFIG.read_text() + "\n[pace]\nper_day = 'many'\n")
    show("systemctl reload with a bad file:", sh("systemctl reload mailerd; echo rc=$?", check=False))
    expect(active() == "active" and pid() == before, "the daemon lives on, the same process")
    show(sh(f"kill -HUP {before}"))
    expect(
        until(lambda: "not read again" in journal("MAILERD_EVENT=settings_refused")), "a SIGHUP with a bad file is told"
    )
    expect(active() == "active" and pid() == before, "and the daemon lives on")
    show("STATUS:", status())
    configure(server, level="info")
    sh("systemctl reload mailerd")
    expect(until(lambda: "could not be read" not in status()), "a good file again, and the status is clean")


def catalogue(server: Server) -> None:
    step("the database away; journalctl -x in English and in Chinese; the daemon stays up")
    server.stop()
    sh("systemctl restart mailerd")
    expect(active() == "active", "it starts without a database")
    show("STATUS:", status())
    code = sh(f"curl -s -o /dev/null -w '%{{http_code}}' {URL}/health/live; curl -s {URL}/health/ready")
    show(code)
    expect(code.startswith("200") and "database" in code, "health answers, and ready says why not")
    answer = sh(f"curl -s -i -X POST -H 'X-API-Key: x' -d '{{}}' {URL}/api/jobs/send_template_emails")
    show(answer)
    expect(" 503 " in answer.splitlines()[0], "a POST is a 503")
    expect(until(lambda: "database" in journal("MAILERD_EVENT=database_unreachable")), "the log says so")
    english = journal("MAILERD_EVENT=database_unreachable -n 1 -x")
    chinese = sh(
        "journalctl --no-pager MAILERD_EVENT=database_unreachable -n 1 -x",
        env={"LC_ALL": "zh_CN.UTF-8", "LANG": "zh_CN.UTF-8"},
    )
    show(english, chinese)
    expect("Likely causes" in english and "systemctl status mariadb" in english, "-x in English")
    expect("可能的原因" in chinese, "-x in Chinese")
    server.start()
    expect(until(lambda: "away" not in status(), within=30), "it goes on by itself when the database is back")
    show("STATUS:", status())


def load(key: str) -> None:
    step("restarts under load: nothing is refused")
    codes, troubles = asyncio.run(restart_under_load(key, restarts=4, posters=6))
    show(f"{len(codes)} POSTs over 4 restarts: {sorted(set(codes))}, {len(troubles)} refused or reset", *troubles[:3])
    expect(not troubles and set(codes) == {200}, "0 refused POSTs")


def stopped_journald(key: str) -> None:
    step("journald stopped for 20 s while 1,000 letters are sent")
    journald = sh("systemctl show systemd-journald -p MainPID --value")
    sh(f"kill -STOP {journald}")
    began = time.monotonic()
    id_ = send(key, 1000)
    done = until(lambda: finished(key, id_), within=60)
    took = time.monotonic() - began
    time.sleep(max(0.0, 20 - took))
    sh(f"kill -CONT {journald}")
    expect(done, f"1,000 letters sent in {took:.1f} s with journald standing still")
    sh("journalctl --sync")
    until(lambda: len(journal(f"MAILERD_EVENT=letter_sent MAILERD_JOB={id_} -o cat").splitlines()) >= 1000)
    told = len(journal(f"MAILERD_EVENT=letter_sent MAILERD_JOB={id_} -o cat").splitlines())
    lost = journal("MAILERD_EVENT=log_records_lost -n 1 -o cat")
    figures = sh(f"curl -s {URL}/metrics | grep log_records_lost_total")
    show(f"{told} of 1,000 letter_sent records are in the journal; {figures}", lost)
    expect(told >= 1000 or "lost" in lost, "every record is there, or the losses are told")


def watchdog(key: str) -> None:
    step("a blocked loop: stack in the journal, watchdog, restart, OnFailure")
    before = pid()
    sh("mkdir -p /run/systemd/system/mailerd.service.d")
    Path("/run/systemd/system/mailerd.service.d/block.conf").write_text(
        "[Service]\nWatchdogSec=6s\nEnvironment=PYTHONPATH=/run/mailerd-block\n"
    )
    Path("/run/mailerd-block").mkdir(exist_ok=True)
    Path("/run/mailerd-block/sitecustomize.py").write_text(BLOCKING)
    sh("systemctl daemon-reload && systemctl restart mailerd")
    expect(until(lambda: active() == "active"), "started with the fault")
    before = pid()
    expect(until(lambda: pid() not in (before, "0") and active() == "active", within=60), "it was restarted")
    told = journal("MAILERD_EVENT=loop_blocked -n 1 -o cat")
    show(told[:3000])
    expect("somebody_blocks_the_loop" in told, "the blocking line stands in the log")
    log = journal("-u mailerd -n 400")
    show(*[line for line in log.splitlines() if re.search(r"[Ww]atchdog|abort|signal|Fatal|restart", line)][:12])
    expect("Watchdog timeout" in log, "it was the watchdog")
    alert = journal("-t mailerd-alert -n 5")
    show(alert)
    expect("mailerd.service has failed" in journal("-t mailerd-alert"), "OnFailure told of it")
    sh(
        "rm -r /run/systemd/system/mailerd.service.d /run/mailerd-block; systemctl daemon-reload"
        "; systemctl restart mailerd"
    )
    id_ = send(key, 2)
    expect(until(lambda: finished(key, id_)), "and it works again")


BLOCKING = """
import threading, time, os
def somebody_blocks_the_loop(*_):
    time.sleep(3600)
def later():
    time.sleep(4)
    import signal
    os.kill(os.getpid(), signal.SIGUSR1)
import sys
if "run" in sys.orig_argv:
    import signal
    if not os.path.exists("/var/lib/mailerd/blocked-once"):
        open("/var/lib/mailerd/blocked-once", "w").close()
        signal.signal(signal.SIGUSR1, somebody_blocks_the_loop)
        threading.Thread(target=later, daemon=True).start()
"""


def drain(key: str) -> None:
    step("SIGTERM drains")
    slow = json.dumps({"kind": "latency", "method": "drafts.send", "count": -1, "seconds": 2.0})
    sh(f"curl -sf -X POST {GOOGLE}/sandbox/faults -d '{slow}'")
    id_ = send(key, 40)
    until(lambda: job(key, id_)["counts"]["sending"] > 0)
    began = time.monotonic()
    sh("systemctl stop mailerd.socket mailerd")
    show(f"stopped after {time.monotonic() - began:.1f} s", journal("-u mailerd -n 8 -o cat"))
    log = journal("-u mailerd -n 400 -o cat")
    expect("draining: nothing more is claimed" in log and "cut off" not in log, "drained, nothing was cut off")
    expect("Deactivated successfully" in log, "and ended well")


def main() -> None:
    os.chdir("/tmp")
    google = subprocess.Popen(
        [sys.executable, "-m", "mailerd.sandbox.google", "--port", "9000", "--mailbox", "me@example.com",
         "--credentials-dir", "/etc/mailerd/credentials", "--latency", "0.02",
         "--units-per-minute", "1000000000", "--project-units-per-minute", "1000000000", "--per-day", "1000000",
         "--concurrent-per-user", "1000"],
    )  # fmt: skip
    with Server(data=Path("/var/tmp/database")) as server:
        try:
            key = first_start(server)
            security()
            load(key)
            reload(server)
            stopped_journald(key)
            catalogue(server)
            watchdog(key)
            drain(key)
        finally:
            google.terminate()
    step("uninstall")
    show(sh("cd /var/tmp/src && make --no-print-directory uninstall"))
    expect(CONFIG.exists() and not Path("/opt/mailerd").exists(), "the program is gone, the configuration is not")
    print("\nALL OK")


if __name__ == "__main__":
    main()
