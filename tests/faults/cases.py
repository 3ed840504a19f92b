"""The faults: how each is made, what a surface must say to have named it, and what must be advised."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import pymysql

from tests.chaos.place import SENDER
from tests.faults.scene import Scene, command

Surface = str
SURFACES: Final = ("log", "ready", "console", "check", "top", "alert")
"""`top` is `mailerd top --once` and `mailerd explain` of a job together."""
_NO_READY: Final = ("log", "console", "check", "top", "alert")
"""A job can be stored all the same."""
_QUIET: Final = ("log", "console", "check", "top")
"""It passes by itself: an alert is sent only after five minutes."""


@dataclass(frozen=True)
class Case:
    """One fault."""

    name: str
    cause: str
    """What names it, in any case; a regular expression."""
    remedy: str
    strike: Callable[[Scene], Awaitable[object]]
    where: tuple[Surface, ...] = _NO_READY
    """The surfaces that have to name it."""
    daemons: int = 1
    shift: float = 0.0
    small: bool = False
    window: float = 0.0
    """Seconds for which it is looked at, where it takes longer than others to be a fault."""


def _google(*, method: str = "", kind: str, **more: object) -> Callable[[Scene], Awaitable[object]]:
    async def strike(it: Scene) -> None:
        await it.here.google.fault(kind=kind, method=method, count=-1, **more)

    return strike


def _sql(*statements: str, cut: bool = False) -> Callable[[Scene], Awaitable[object]]:
    async def strike(it: Scene) -> None:
        await it.admin(*statements)
        if cut:
            await it.cut()

    return strike


async def _stop_database(it: Scene) -> None:
    it.here.server.kill()


async def _freeze_database(it: Scene) -> None:
    it.here.server.freeze()


async def _fill(it: Scene) -> None:
    await it.admin("CREATE TABLE ballast (id INT AUTO_INCREMENT PRIMARY KEY, t LONGTEXT)")
    for size in (400_000, 40_000, 4_000, 400, 40):
        try:
            while True:
                await it.admin(f"INSERT INTO ballast (t) VALUES (REPEAT('x', {size}))")
        except pymysql.err.MySQLError:
            continue
    it.messages = 400  # so that jobs need new pages at once


async def _take_all_connections(it: Scene) -> None:
    """Until the daemons have none, however quick they are."""
    await it.admin("SET GLOBAL max_connections = 10")
    mine = set[int]()
    while True:
        try:
            while True:
                it.connections.append(it.connect("mailerd"))
                mine.add(it.connections[-1].thread_id())
        except pymysql.err.MySQLError:
            pass
        rows = await it.admin("SELECT id FROM information_schema.processlist WHERE user = 'mailerd'")
        theirs = [thread for (thread,) in rows if thread not in mine]
        if not theirs and len(mine) >= 10:
            return
        for thread in theirs:
            with suppress(pymysql.err.MySQLError):
                await it.admin(f"KILL {thread}")


async def _leave_one_connection(it: Scene) -> None:
    """Or a few: each loses what it holds, and gets what is left."""
    await it.admin("SET GLOBAL max_connections = 10")
    await it.cut()
    it.messages = 40  # which want more than one
    with suppress(pymysql.err.MySQLError):
        while True:
            it.connections.append(it.connect("mailerd"))


async def _refuse_google(it: Scene) -> None:
    await it.google_way.refuse()
    await it.google_way.reset_all()


async def _revoke(it: Scene) -> None:
    await it.here.google.fault(kind="invalid_grant", method="token", count=-1)
    await it.here.google.fault(kind="auth_error", method="", count=-1)


async def _refuse_policy(it: Scene) -> None:
    await it.here.google.fault(kind="admin_policy", method="token", count=-1)
    await it.here.google.fault(kind="auth_error", method="", count=-1)


async def _spoil_credentials(it: Scene) -> None:
    (it.here.folder / "credentials" / f"{SENDER}.json").write_text("this is no JSON")


async def _open_credentials(it: Scene) -> None:
    (it.here.folder / "credentials" / f"{SENDER}.json").chmod(0o666)


async def _kill_last(it: Scene) -> None:
    it.here.daemons[-1].kill()


async def _break_templates(it: Scene) -> None:
    """Every template of a job that is stored is spoilt, as by a writer with a bug."""
    await it.admin("CREATE TRIGGER spoil BEFORE INSERT ON jobs FOR EACH ROW SET NEW.subject = 'Dear {{ nobody.x.y }}'")


async def _break_hook(it: Scene) -> None:
    it.hook_status = 500
    await command(it, "webhooks", "add", "crm", f"{it.base}/hook")


CASES: Final = (
    Case("database stopped", r"cannot be reached|can't connect|is away|unavailable|unreachable|no answer",
         r"server (runs|is running)|start|systemctl", _stop_database, SURFACES),
    Case("database frozen", r"no answer|not answer|timed? ?-?out|unavailable|is away",
         r"server (runs|is running)|systemctl|processlist", _freeze_database, SURFACES),
    Case("database disk full", r"\bfull\b|1114|no space", r"free (some |disk )?space|\bdf\b|room|make space", _fill,
         SURFACES, small=True),
    Case("INSERT denied", r"command denied|1142|privilege|may not (insert|write)", r"\bgrant\b",
         _sql("REVOKE INSERT ON mailerd.* FROM 'mailerd'@'127.0.0.1'", cut=True), SURFACES),
    Case("database read-only", r"read.only", r"writer|switch|read_only", _sql("SET GLOBAL read_only = ON"), SURFACES),
    Case("database password", r"access denied|1045", r"password in database\.url|database\.url|alter user",
         _sql("ALTER USER 'mailerd'@'127.0.0.1' IDENTIFIED BY 'another'", cut=True), SURFACES),
    Case("connections used up", r"too many connections|1040", r"max_connections|pool_size", _take_all_connections,
         SURFACES),
    Case("connections scarce", r"too many connections|1040", r"max_connections|pool_size", _leave_one_connection),
    Case("table missing", r"lacks a table|tables? (is|are) missing|1146", r"restore|backup",
         _sql("SET foreign_key_checks = 0", "RENAME TABLE attempts TO attempts_gone"), SURFACES),
    Case("Google unreachable", r"google (cannot be reached|is out of reach|unreachable)|cannot be reached",
         r"dns|firewall|network|way out|internet", _refuse_google),
    Case("Google hangs", r"no answer|no response|hang|timed? ?out|not answer",
         r"status|firewall|way out|proxy|dashboard", _google(kind="hang_before", seconds=600)),
    Case("Google answers 5xx", r"backend ?error|\b500\b|\b5xx\b", r"status|dashboard|automatically|by itself|nothing",
         _google(kind="backend_error"), _QUIET),
    Case("mailbox throttled", r"throttl|rate.?limit",
         r"per_minute|units_per_minute|nothing|automatically|by itself|wait", _google(kind="user_rate_limit"), _QUIET),
    Case("project quota", r"project.{0,40}(quota|limit)|daily ?limit ?exceeded", r"cloud console|quotas",
         _google(kind="daily_limit")),
    Case("mailbox day full", r"mail sending|daily.limit", r"per_day|reserve|until|wait|resume",
         _google(kind="mail_sending_retry_after")),
    Case("sign-in revoked", r"invalid_grant|revoked|no longer honours", rf"auth login --sender {SENDER}", _revoke),
    Case("credentials spoilt", r"not a json|cannot be used", rf"auth login --sender {SENDER}|create the file again",
         _spoil_credentials),
    Case("credentials open", r"by others|0666", r"chmod 600", _open_credentials),
    Case("scope missing", r"scope", rf"auth login --sender {SENDER}|delegat",
         _google(kind="scope_insufficient", method="drafts.create")),
    Case("domain policy", r"domainpolicy|policy", r"administrator allow|admin\.google\.com/ac/owl|allow this app",
         _google(kind="domain_policy")),
    Case("app blocked by policy", r"admin_policy_enforced|policy",
         r"administrator allow|admin\.google\.com/ac/owl|allow this app", _refuse_policy),
    Case("Gmail switched off", r"mail service not enabled|gmail is (off|switched off|not enabled)",
         r"(switch|turn).{0,20}on|enable", _google(kind="mail_service_not_enabled")),
    Case("Gmail API disabled", r"accessnotconfigured|service_disabled|api is (not enabled|disabled)|api disabled",
         r"enable the gmail api|gmail\.googleapis\.com|library",
         _google(kind="api_disabled")),
    Case("second daemon gone", r"not respond(ed|ing)",
         r"systemctl|start|lease|journal",
         _kill_last, _NO_READY, daemons=2),
    Case("only daemon killed", r"no daemon|not listening|nothing listens|not responding|silent",
         r"systemctl|start|mailerd run",
         _kill_last, ("check", "top")),
    Case("clock wrong", r"clock", r"ntp|timedatectl|chrony|set it|synchron", _sql("SELECT 1"), _QUIET, shift=400.0),
    Case("all renders fail", r"template|render|undefined", r"template|jobs retry|mailerd explain", _break_templates),
    Case("webhook fails", r"webhook.{0,60}(fail|500)|crm.{0,60}(fail|500)", r"webhooks test|endpoint", _break_hook,
         _QUIET, window=100.0),
    Case("inbox unreadable", r"inbox|bounces.{0,40}not", r"auth login|scope|inbox",
         _google(kind="scope_insufficient", method="history.list"), _QUIET),
)  # fmt: skip
