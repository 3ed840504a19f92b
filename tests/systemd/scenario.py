"""mailerd under a real systemd, step by step; the run ends where a promise is not kept.

`python -m tests.systemd.scenario` as root, in a booted systemd of its own, after `make install` (inside.sh does both).
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import aiohttp

from mailerd.sandbox.mariadb import Server
from tests.systemd import child, templates, trouble, ways
from tests.systemd.machine import (
    CONFIG,
    GOOGLE,
    URL,
    active,
    configure,
    expect,
    finished,
    job,
    journal,
    order,
    pid,
    post,
    send,
    sh,
    show,
    status,
    step,
    until,
)  # fmt: skip


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
    installed = sh("/opt/mailerd/bin/python -m pip list --format=freeze; du -sm /opt/mailerd")
    show(f"{len(installed.splitlines()) - 1} packages, {installed.split()[-2]} MB")
    expect("loguru==" in installed and "pytest==" not in installed, "what runs mailerd is installed, and no more")
    show(sh(f"runuser -u mailerd -- mailerd migrate --config {CONFIG} 2>/dev/null"))
    key = re.search(r"\S{30,}", sh(f"mailerd keys create test --config {CONFIG} 2>/dev/null"))
    assert key is not None
    show(sh("systemctl enable --now mailerd.socket mailerd 2>&1"))
    expect(active() == "active", "active once READY=1 was said")
    id_ = send(key[0], 5)
    expect(until(lambda: finished(key[0], id_)), "a job of 5 messages is completed")
    until(lambda: "waiting" in status(), within=15)
    show("STATUS:", status())
    show(sh("systemctl status mailerd --no-pager -n 5"))
    show("journalctl -u mailerd:", journal("-u mailerd -n 40 -o cat"))
    show(f"journalctl MAILERD_JOB={id_}:", journal(f"MAILERD_JOB={id_} -o cat"))
    record = journal("MAILERD_EVENT=message_sent -n 1 -o verbose")
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
        until(lambda: "settings reloaded from " in journal("MAILERD_EVENT=settings_reloaded")),
        "a good file is taken up",
    )
    CONFIG.write_text(CONFIG.read_text() + "\n[pace]\nper_day = 'many'\n")
    show("systemctl reload with a bad file:", sh("systemctl reload mailerd; echo rc=$?", check=False))
    expect(active() == "active" and pid() == before, "the daemon lives on, the same process")
    show(sh(f"kill -HUP {before}"))
    expect(
        until(lambda: "reload failed" in journal("MAILERD_EVENT=settings_refused")), "a SIGHUP with a bad file is told"
    )
    expect(active() == "active" and pid() == before, "and the daemon lives on")
    show("STATUS:", status())
    expect(until(lambda: "could not be reloaded" in status()), "and its status says so")
    configure(server, level="info")
    sh("systemctl reload mailerd")
    expect(until(lambda: "could not be reloaded" not in status()), "a good file again, and the status is clean")


def dotenv(server: Server) -> None:
    step(".env is read in the unit's working folder")
    settings = Path("/var/lib/mailerd/.env")
    settings.write_text(f"DATABASE_URL={server.url}\n")
    sh(f"chown mailerd: {settings}; chmod 600 {settings}; systemctl restart mailerd")
    expect(until(lambda: str(settings) in journal("MAILERD_EVENT=dotenv_used")), "the log names the file")
    settings.unlink()
    sh("systemctl restart mailerd")


def catalogue(server: Server) -> None:
    step("the database away; journalctl -x in English and in Chinese; the daemon stays up")
    server.stop()
    sh("systemctl restart mailerd")
    expect(active() == "active", "it starts without a database")
    expect(until(lambda: "database" in status().lower(), within=30), "its status says what it lacks")
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
    expect("Likely causes" in english and "systemctl start mariadb" in english, "-x in English")
    expect("可能的原因" in chinese, "-x in Chinese")
    server.start()
    expect(
        until(lambda: "database" not in status().lower(), within=30), "it goes on by itself when the database is back"
    )
    show("STATUS:", status())


def load(key: str) -> None:
    step("restarts under load: nothing is refused")
    codes, troubles = asyncio.run(restart_under_load(key, restarts=4, posters=6))
    show(f"{len(codes)} POSTs over 4 restarts: {sorted(set(codes))}, {len(troubles)} refused or reset", *troubles[:3])
    expect(not troubles and set(codes) == {200}, "0 refused POSTs")


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
    expect("draining: no new claims" in log and "cut off" not in log, "drained, nothing was cut off")
    expect("Deactivated successfully" in log, "and ended well")


def _known() -> str:
    """The links that enable a unit of ours."""
    return sh("find /etc/systemd/system -name 'mailerd*' -path '*.wants/*' -printf '%f '")


def main() -> None:
    os.chdir("/tmp")
    google = subprocess.Popen(
        [sys.executable, "-m", "mailerd.sandbox.google", "--port", "9000", "--mailbox", "me@example.com",
         "--credentials-dir", "/etc/mailerd/credentials", "--latency", "0.02",
         "--units-per-minute", "1000000000", "--project-units-per-minute", "1000000000", "--per-day", "1000000",
         "--concurrent-per-user", "1000"],
    )  # fmt: skip
    with Server(data=Path("/var/tmp/database"), extra=ways.tls_options()) as server:
        try:
            key = first_start(server)
            security()
            child.bounded_child()
            templates.templates(key)
            load(key)
            reload(server)
            dotenv(server)
            ways.pace_by_reload(server, key)
            ways.instances(server, key)
            ways.intake_on_a_socket_file(key)
            ways.database_by_socket_and_tls(server, key)
            trouble.stopped_journald(key)
            trouble.lost_log(key)
            catalogue(server)
            trouble.watchdog(key)
            trouble.stalled(server, key)
            drain(key)
        finally:
            google.terminate()
    step("uninstall, with an instance that runs")
    sh("systemctl enable --now mailerd@one 2>&1")
    expect("mailerd@one" in _known(), "an instance is enabled")
    show(sh("cd /var/tmp/src && make --no-print-directory uninstall"))
    expect(sh("systemctl is-active mailerd@one", check=False) != "active", "the instance is stopped")
    expect(_known() == "", "and nothing of mailerd is enabled any more")
    expect(CONFIG.exists() and not Path("/opt/mailerd").exists(), "the program is gone, the configuration is not")
    print("\nALL OK")


if __name__ == "__main__":
    main()
