"""What an operator types; each command whose name takes `--json` is asked for both."""

from typing import Final

from tests.golden.scene import ME, UNKNOWN

_JOB: Final = "{mine %s}"
SHOWN: Final = (
    "jobs list",
    *(f"jobs show {_JOB % it}" for it in ("ended", "waiting", "scheduled", "paused", "cancelled")),
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
    "explain 999999",
    "recipients bob.mine@example.org",
    "bounces",
    "audit",
)
"""Those that change nothing."""
DONE: Final = (
    *(f"jobs {it} {_JOB % 'waiting'}" for it in ("pause", "resume", "cancel", "priority")),
    f"jobs priority {_JOB % 'waiting'} 7",
    f"jobs retry {_JOB % 'ended'}",
    f"jobs pause {UNKNOWN}",
    f"senders pause {ME} --reason moving",
    f"senders resume {ME}",
    f"senders set {ME} --per-day 90",
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
    *(f"webhooks {it} shop" for it in ("pause", "resume", "rotate", "remove")),
    "webhooks pause none",
    "keys create second",
    "keys create admin",
    "keys rotate mine",
    "keys revoke mine",
    "keys revoke none",
)
"""Those that change something, or refuse to."""
