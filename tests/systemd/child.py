"""A child process of the daemon, under the daemon's own unit: it can bound itself, and its end is its own."""

import json
import re
from pathlib import Path
from typing import Any

from tests.systemd.machine import expect, journal, sh, show, step, until

_UNIT = Path("/run/systemd/system/mailerd-probe.service")
_PROBE = Path("/opt/mailerd/share/mailerd/probe.py")

PROBE = r'''
import json, subprocess, sys

BOUND = """
import ctypes, resource, sys
limits = {"AS": 400 << 20, "CPU": 2, "NOFILE": 16, "NPROC": 0, "CORE": 0, "FSIZE": 0}
for name, value in limits.items():
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), (value, value))
open("/proc/self/oom_score_adj", "w").write("1000")
assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
"""

def child(code):
    command = [sys.executable, "-I", "-c", BOUND + code]
    done = subprocess.run(command, capture_output=True, text=True, env={}, timeout=60)
    last = (done.stderr.strip().splitlines() or [""])[-1]
    return {"code": done.returncode, "said": done.stdout.strip(), "last": last}

print("PROBE " + json.dumps({
    "renders": child("""
import css_inline, jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
html = ImmutableSandboxedEnvironment().from_string("<style>p{color:red}</style><p>{{ a }}</p>").render(a="x" * 5)
print(css_inline.CSSInliner().inline(html).count("color"))
"""),
    "memory": child("x = 'a' * (1 << 30)"),
    "time": child("while True: pass"),
    "fork": child("import os; os.fork()"),
    "thread": child("import threading; threading.Thread(target=print).start()"),
    "raise": child("resource.setrlimit(resource.RLIMIT_AS, (-1, -1))"),
    "killed": child("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
}))
'''


def bounded_child() -> None:
    step("a child process under the daemon's unit bounds itself; its end is not the daemon's")
    names = "MemoryMax TasksMax LimitCORE OOMScoreAdjust OOMPolicy"
    settings = sh(f"systemctl show mailerd {' '.join(f'-p {name}' for name in names.split())}")
    show(settings)
    expect("LimitCORE=0" in settings and "OOMPolicy=continue" in settings, "no core dumps; the daemon outlives a child")
    expect(f"MemoryMax={2 << 30}" in settings and "TasksMax=256" in settings, "memory and processes are bounded")
    found = _under_the_unit()
    show(json.dumps(found, indent=1))
    expect(found["renders"]["code"] == 0 and found["renders"]["said"] == "1", "it renders with all limits lowered")
    expect(found["memory"]["last"].startswith("MemoryError"), "RLIMIT_AS ends what takes too much memory")
    expect(found["time"]["code"] in (-24, -9), "RLIMIT_CPU ends what takes too long")
    expect(found["fork"]["code"] == 1 and found["thread"]["code"] == 1, "RLIMIT_NPROC: no processes, no threads")
    expect("not allowed to raise" in found["raise"]["last"], "and what was lowered stays lowered")
    expect(found["killed"]["code"] == -9, "a child that was killed is one for its parent to see")


def _under_the_unit() -> dict[str, Any]:
    """What PROBE says when it runs in the place of the daemon: the same unit, another program."""
    _PROBE.write_text(PROBE)
    service = (
        Path("/etc/systemd/system/mailerd.service").read_text().partition("[Service]")[2].partition("[Install]")[0]
    )
    kept = [line for line in service.splitlines() if not re.match(r"Type=|WatchdogSec=|Exec\w+=|Restart", line)]
    lines = ["[Service]", "Type=oneshot", f"ExecStart=/opt/mailerd/bin/python {_PROBE}", *kept]
    _UNIT.write_text("\n".join(lines) + "\n")
    sh("systemctl daemon-reload; systemctl start mailerd-probe", check=False)
    until(lambda: "PROBE " in journal("-u mailerd-probe -o cat"))
    said = re.search(r"^PROBE (.*)$", journal("-u mailerd-probe -o cat"), re.MULTILINE)
    if said is None:
        raise SystemExit("the probe said nothing:\n" + journal("-u mailerd-probe -n 40"))
    sh(f"rm {_UNIT} {_PROBE}; systemctl daemon-reload")
    return dict(json.loads(said[1]))
