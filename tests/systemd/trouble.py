"""Trouble: journald gone, an event loop that is blocked, a loop that stalls, a daemon that is killed."""

import re
import time
from pathlib import Path

from mailerd.sandbox.mariadb import Server
from tests.systemd.machine import (
    URL,
    active,
    configure,
    drop_in,
    expect,
    finished,
    journal,
    pid,
    send,
    sh,
    show,
    step,
    until,
)  # fmt: skip

_JOURNALD = "systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket systemd-journald"


def stopped_journald(key: str) -> None:
    step("journald stopped for 20 s while 1,000 messages are sent")
    journald = sh("systemctl show systemd-journald -p MainPID --value")
    sh(f"kill -STOP {journald}")
    began = time.monotonic()
    id_ = send(key, 1000)
    done = until(lambda: finished(key, id_), within=60)
    took = time.monotonic() - began
    time.sleep(max(0.0, 20 - took))
    sh(f"kill -CONT {journald}")
    expect(done, f"1,000 messages sent in {took:.1f} s with journald standing still")
    sh("journalctl --sync")
    until(lambda: len(journal(f"MAILERD_EVENT=message_sent MAILERD_JOB={id_} -o cat").splitlines()) >= 1000)
    told = len(journal(f"MAILERD_EVENT=message_sent MAILERD_JOB={id_} -o cat").splitlines())
    lost = journal("MAILERD_EVENT=log_records_lost -n 1 -o cat")
    figures = sh(f"curl -s {URL}/metrics | grep log_records_lost_total")
    show(f"{told} of 1,000 message_sent records are in the journal; {figures}", lost)
    expect(told >= 1000 or "lost" in lost, "every record is there, or the losses are told")


def lost_log(key: str) -> None:
    step("journald stopped and started again while more is said than is kept: sending goes on, the losses are told")
    before = float(_lost())
    sh(f"systemctl stop {_JOURNALD}", check=False)
    began = time.monotonic()
    long = ".".join([label * 60 for label in "abc"] + ["example.org"])  # so that fewer messages make long records
    ids = [send(key, 1500, domain=long) for _ in range(4)]
    done = until(lambda: all(finished(key, id_) for id_ in ids), within=120)
    took = time.monotonic() - began
    sh("systemctl start systemd-journald.socket systemd-journald-dev-log.socket systemd-journald")
    expect(done, f"6,000 messages sent in {took:.1f} s without a journald")
    expect(until(lambda: "lost" in journal("MAILERD_EVENT=log_records_lost -o cat")), "the losses are told")
    told = re.findall(r"([\d,]+) records", journal("MAILERD_EVENT=log_records_lost -o cat"))
    counted = float(_lost()) - before
    show(journal("MAILERD_EVENT=log_records_lost -o cat"), f"by /metrics: {counted:.0f}")
    expect(
        counted > 0 and sum(int(number.replace(",", "")) for number in told) == counted,
        "the log and the metric count the same losses",
    )
    id_ = send(key, 2)
    expect(until(lambda: finished(key, id_)), "and it goes on")
    expect(until(lambda: id_ in journal(f"MAILERD_JOB={id_} -o cat")), "and is heard again")


def _lost() -> str:
    return sh(f"curl -s {URL}/metrics | sed -n 's/^mailerd_log_records_lost_total //p'")


def watchdog(key: str) -> None:
    step("a blocked loop: stack in the journal, watchdog, restart, OnFailure")
    _with_fault(BLOCKING)
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
    _without_fault()
    id_ = send(key, 2)
    expect(until(lambda: finished(key, id_)), "and it works again")


def stalled(server: Server, key: str) -> None:
    step("a loop that makes no progress: all stacks in the journal, the watchdog is triggered, restart")
    configure(server, statement_timeout=2)
    _with_fault(STALLING)
    expect(until(lambda: active() == "active"), "started with the fault")
    before = pid()
    expect(until(lambda: pid() not in (before, "0") and active() == "active", within=60), "it was restarted")
    told = journal("MAILERD_EVENT=loop_stalled -n 1 -o cat")
    show(told[:1500])
    expect("never_returns" in told and "task runner" in told, "where it stands is in the log, with all tasks")
    expect("loop heartbeat:" in told.splitlines()[0], "the loop has a name")
    configure(server)
    _without_fault()
    id_ = send(key, 2)
    expect(until(lambda: finished(key, id_)), "and it works again")


def _with_fault(code: str) -> None:
    """Restart mailerd with a bug in it and a short watchdog."""
    Path("/run/mailerd-fault").mkdir(exist_ok=True)
    Path("/run/mailerd-fault/sitecustomize.py").write_text(code)
    drop_in("mailerd.service", "[Service]\nWatchdogSec=6s\nEnvironment=PYTHONPATH=/run/mailerd-fault\n")
    sh("systemctl restart mailerd")


def _without_fault() -> None:
    sh("rm -r /run/mailerd-fault")
    drop_in("mailerd.service", "")
    sh("systemctl restart mailerd")


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

STALLING = """
import asyncio, os, sys
async def never_returns(self):
    if os.path.exists("/var/lib/mailerd/stalled-once"):
        return await heartbeat(self)
    if not os.path.exists("/var/lib/mailerd/beaten-once"):
        open("/var/lib/mailerd/beaten-once", "w").close()
        return await heartbeat(self)
    open("/var/lib/mailerd/stalled-once", "w").close()
    await asyncio.Event().wait()
if "run" in sys.orig_argv:
    import mailerd.app
    assert mailerd.app.STALL_TIMEOUT > 3.0
    mailerd.app.STALL_TIMEOUT = 3.0
    from mailerd.store.read.daemons import Daemons
    heartbeat = Daemons.heartbeat
    Daemons.heartbeat = never_returns
"""
