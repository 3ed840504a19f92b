"""What an operator types; each command whose name takes `--json` is asked for both."""

from typing import Final

from tests.golden.scene import HELD, ME, UNKNOWN

MODULES: Final = tuple(
    f"mailerd.cli.{it}"
    for it in ("bounces", "jobs", "keys", "maintenance", "senders", "suppress", "templates", "webhooks")
)
"""They are imported once, since these commands are many."""
_JOB: Final = "{mine %s}"
SHOWN: Final = (
    "jobs list",
    *(f"jobs show {_JOB % it}" for it in ("ended", "waiting", "scheduled", "paused", "cancelled", "held")),
    f"jobs show {UNKNOWN}",
    "senders list",
    "suppress list",
    "suppress lists",
    "suppress why kim.mine@example.org",
    "suppress why nobody@example.net",
    "webhooks list",
    "webhooks show shop",
    "webhooks show none",
    "keys list",
    "templates list",
    f"explain {_JOB % 'ended'}",
    "explain {eve.mine}",
    "explain {fay.mine}",
    "explain {leo.mine}",
    f"explain {_JOB % 'held'}",
    f"explain {_JOB % 'scheduled'}",
    "explain 999999",
    "recipients bob.mine@example.org",
    "bounces",
    "bounces --domains",
    "audit",
    "suppress export",
    "templates check",
    "templates preview welcome",
    "templates preview none",
    "jobs list --status paused",
    f"jobs watch {_JOB % 'cancelled'}",
    "auth list",
    "version",
)
"""Those that change nothing."""
DONE: Final = (
    *(f"jobs {it} {_JOB % 'waiting'}" for it in ("pause", "resume", "cancel", "priority")),
    f"jobs resume {_JOB % 'paused'}",
    f"jobs pause {_JOB % 'cancelled'}",
    f"jobs priority {_JOB % 'waiting'} 7",
    f"jobs retry {_JOB % 'ended'}",
    f"jobs pause {UNKNOWN}",
    f"senders pause {ME} --reason moving",
    f"senders resume {ME}",
    f"senders resume {HELD}",
    f"senders set {ME} --per-day 90",
    f"senders set {ME} --per-day -1",
    f"senders pause {ME} --for 2h",
    "senders set none@example.com --per-day 90",
    "senders pause none@example.com --reason moving",
    "settle {eve.mine} --sent",
    "settle {ada.mine} --sent",
    "settle 999999 --sent",
    "suppress add new@example.org",
    "suppress add nobody",
    "suppress remove kim.mine@example.org --list news",
    "suppress remove nobody@example.net",
    "webhooks add till https://127.0.0.1.example/till",
    "webhooks add till ftp://x",
    "webhooks add shop https://127.0.0.1.example/till",
    *(f"webhooks {it} shop" for it in ("pause", "resume", "rotate", "remove", "test", "replay --since 2026-01-01")),
    *(f"webhooks {it} none" for it in ("pause", "resume", "rotate", "remove", "test", "replay --since 2026-01-01")),
    "suppress rotate-key",
    "suppress import none.csv",
    "after-restore",
    "after-restore --yes",
    "migrate",
    "console login",
    "keys create second --sender all --call all",
    f"keys create second --sender {ME} --call read",
    "keys create second",
    "keys create admin",
    "keys rotate mine",
    "keys revoke mine",
    "keys revoke none",
)
"""Those that change something, or refuse to."""
ELSEWHERE: Final = {"run", "config", "check", "send", "top", "install-files", "sandbox", "auth"}
"""Those that answer about a machine, or a whole daemon; tests/cli has them."""
