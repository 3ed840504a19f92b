"""The faults: how each is made, what a surface must say to have named it, what is advised, and how that ends it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import pymysql

from mailerd.sandbox.google import COMPOSE, READONLY, SEND
from tests.chaos.place import SENDER
from tests.daemon.test_restored import dump, load
from tests.faults.scene import Scene, command, run

Surface = str
SURFACES: Final = ("log", "post", "ready", "console", "check", "top", "senders", "alert")
"""`post` is the answer to a new job, `senders` the API's. `top` is `mailerd top --once` and `mailerd explain` of a job
together."""
_DATABASE: Final = ("log", "post", "ready", "console", "check", "top", "alert")
_SENDER: Final = ("log", "console", "check", "top", "senders", "alert")
"""A job can be stored all the same."""
_QUIET: Final = ("log", "console", "check", "top", "senders")
"""It passes by itself: an alert is sent only after five minutes."""
_VIEW: Final = ("console", "check", "top")
_CROWDED: Final = r"too many connections|1040|no free connection"
_NO_STRANGER: Final = r"without a verified"
"""While the database is away, a good key is no stranger's."""
Act = Callable[[Scene], Awaitable[object]]


@dataclass(frozen=True)
class Mend:
    """How a fault is ended, as is advised."""

    told: str = ""
    """What is advised and is no command that can be run here, or what is done before the command."""
    act: Act | None = None
    """That is done."""
    command: str = ""
    """The command that is advised: where it is in what surfaces show. It is run as it stands."""
    after: Act | None = None
    """What must hold then; an AssertionError says that it does not."""
    is_run: bool = True
    """False: it cannot be carried out here, not even by others."""
    stays: float = 0.0
    """Seconds for which it must stay well, where that is longer than for others."""


def at_google(what: str, act: Act | None = None) -> Mend:
    """Only Google, or its administrator, can end it: the stand-in does."""
    return Mend(f"(cannot be run here: {what})", act or _clear)


@dataclass(frozen=True)
class Case:
    """One fault."""

    name: str
    cause: str
    """What names it, in any case; a regular expression. Empty: nothing is wrong, and nothing may be said to be."""
    remedy: str
    strike: Act
    where: tuple[Surface, ...] = _SENDER
    """The surfaces that have to name it."""
    mend: Mend | None = None
    never: str = ""
    """What no surface may say, in any case: a remedy that does not help, somebody else's cause."""
    most: str = ""
    """The worst colour in which a surface may show it."""
    leaves: str = ""
    """What surfaces rightly go on showing after its end."""
    daemons: int = 1
    shift: float = 0.0
    small: bool = False
    scopes: tuple[str, ...] = (COMPOSE, READONLY)
    patience: float = 0.0
    """gmail.request_timeout, where it is not the suite's."""
    window: float = 0.0
    """Seconds for which it is looked at, where it takes longer than others to be a fault."""
    within: float = 0.0
    """Seconds after which no surface may be calm, where that is not as for others."""
    lasts: float = 0.0
    """Seconds for which it lasts at least."""


async def _clear(it: Scene) -> None:
    await it.here.google.clear_faults()


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


async def _start_database(it: Scene) -> None:
    await asyncio.to_thread(it.here.server.start)


async def _freeze_database(it: Scene) -> None:
    it.here.server.freeze()


async def _thaw_database(it: Scene) -> None:
    it.here.server.thaw()


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


async def _allow_connections(it: Scene) -> None:
    for _ in range(2):  # an administrator, too, gets in when there is a place
        it.connections.pop().close()
    await it.admin("SET GLOBAL max_connections = 150")


async def _refuse_google(it: Scene) -> None:
    await it.google_way.refuse()
    await it.google_way.reset_all()


async def _right_password(it: Scene) -> None:
    await it.admin(f"ALTER USER 'mailerd'@'127.0.0.1' IDENTIFIED BY '{it.here.server.password}'")


async def _reach_google(it: Scene) -> None:
    await it.google_way.heal()


async def _change_mailbox(it: Scene, **change: object) -> None:
    path = f"{it.here.google.url}sandbox/mailboxes/{SENDER}"
    async with it.here.http.patch(path, json=change) as answer:
        answer.raise_for_status()


async def _revoke(it: Scene) -> None:
    await _change_mailbox(it, revoked=True)


async def _keep_readonly(it: Scene) -> None:
    has = json.loads((it.here.folder / "credentials" / f"{SENDER}.json").read_text())["scopes"]
    assert {COMPOSE, READONLY} <= set(has), f"the new authorization has {has}"


def _scopes(*left: str) -> Act:
    async def strike(it: Scene) -> None:
        await _change_mailbox(it, scopes=list(left))

    return strike


async def _refuse_policy(it: Scene) -> None:
    await it.here.google.fault(kind="admin_policy", method="token", count=-1)
    await it.here.google.fault(kind="auth_error", method="", count=-1)


async def _spoil_credentials(it: Scene) -> None:
    (it.here.folder / "credentials" / f"{SENDER}.json").write_text("this is no JSON")


async def _open_credentials(it: Scene) -> None:
    (it.here.folder / "credentials" / f"{SENDER}.json").chmod(0o644)


async def _kill_last(it: Scene) -> None:
    it.here.daemons[-1].kill()
    it.remembered["killed"] = it.here.daemons[-1].pid


async def _stop_only(it: Scene) -> None:
    it.here.daemons[0].stop()


async def _killed_stays_away(it: Scene) -> None:
    """When the successor is stopped in order, the one that was killed before is no finding."""
    child = it.here.daemons[-1]
    await child.terminate()
    for arguments in (("top", "--json"), ("check", "--json")):
        _, said = await command(it, *arguments)
        assert f"daemon {it.remembered['killed']}" not in said, f"{arguments[0]} tells of the one that was replaced"
    child.start()
    await it.send("again")


async def _restore_over_stopped(it: Scene) -> None:
    """A backup of a running daemon is restored after it was stopped: its row says that it runs."""
    backup = await asyncio.to_thread(dump, it.here.server.url)
    it.is_posting = False
    await it.here.daemons[0].terminate()
    await asyncio.to_thread(load, it.here.server.url, backup)


async def _after_restore(it: Scene) -> None:
    code, said = await command(it, "after-restore", "--yes")
    assert code == 0, f"after-restore: {said}"
    it.is_posting = True


async def _alter(it: Scene) -> None:
    """The database is as another version of mailerd makes it, and the daemon starts."""
    child = it.here.daemons[0]
    await child.terminate()
    await it.admin("ALTER TABLE jobs CHANGE COLUMN reference other VARCHAR(255)")
    child.start()
    with suppress(RuntimeError):  # it ends
        await child.until(lambda log: "runner_started" in log, within=30.0)


async def _alter_back(it: Scene) -> None:
    await it.admin("ALTER TABLE jobs CHANGE COLUMN other reference VARCHAR(255)")
    child = it.here.daemons[0]
    if not child.running:
        child.start()
    await child.until(lambda log: "runner_started" in log, within=60.0)


async def _shift_back(it: Scene) -> None:
    """The clock is the process's own here, so that it begins anew."""
    child, it.shift = it.here.daemons[0], 0.0
    child.set_clock(0.0)
    await child.terminate()
    child.start()
    await child.until(lambda log: "runner_started" in log, within=60.0)


async def _break_templates(it: Scene) -> None:
    """Every template of a job that is stored is spoilt, as by a writer with a bug."""
    await it.admin("CREATE TRIGGER spoil BEFORE INSERT ON jobs FOR EACH ROW SET NEW.subject = 'Dear {{ nobody.x.y }}'")


async def _mend_templates(it: Scene) -> None:
    """And one of the jobs that failed is retried, as is advised; the others go on being told of."""
    await it.admin("DROP TRIGGER spoil", "UPDATE jobs SET subject = 'Hello'")
    child = it.here.daemons[0]  # a stored job never changes, so that a daemon that has read it keeps what it read
    await child.terminate()
    child.start()
    await child.until(lambda log: "runner_started" in log, within=60.0)
    _, said = await command(it, "check", "--json")
    advised = re.search(r"mailerd jobs retry (\w+)", said)
    assert advised, "no job is to be retried"
    code, said = await run(it, advised[0])
    assert code == 0, f"`{advised[0]}` ends with {code}: {said}"
    await it.until_sent(advised[1])


async def _break_hook(it: Scene) -> None:
    it.hook_status = 500
    await command(it, "webhooks", "add", "crm", f"{it.base}/hook")


async def _mend_hook(it: Scene) -> None:
    it.hook_status = 200


OTHERS: Final = ("other@example.com", "new@example.com")


async def _project_full(it: Scene) -> None:
    """The quota of a project with two mailboxes; both have sent before."""
    await it.here.google.sign_in(OTHERS[0], it.here.folder / "credentials", scopes=(COMPOSE, READONLY))
    await it.send("before", sender=OTHERS[0])
    await it.here.google.fault(kind="daily_limit", method="", count=-1)


async def _new_mailbox_joins(it: Scene) -> None:
    """The first message of a new mailbox of the project goes out, and pauses nobody."""
    await it.here.google.sign_in(OTHERS[1], it.here.folder / "credentials", scopes=(COMPOSE, READONLY))
    for sender in (OTHERS[1], OTHERS[0], SENDER):
        await it.send("joined", sender=sender)


async def _a_quarter_passes(it: Scene) -> None:
    """The quarter of an hour of the pause, and then Google takes messages."""
    await _clear(it)
    await it.admin(
        "UPDATE jobs SET next_claim_at = UTC_TIMESTAMP(6) WHERE status IN ('queued', 'sending')",
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6), next_claim_at = UTC_TIMESTAMP(6) "
        "WHERE paused_until IS NOT NULL",
    )


async def _warm_up(it: Scene) -> None:
    """Three messages are sent of the three that the first day allows."""
    code, said = await command(it, "senders", "set", SENDER, "--warm-up", "3+1")
    assert code == 0, said


async def _little_left(it: Scene) -> None:
    """One message is left of the day, and the next one counts as three."""
    it.is_posting = False
    await asyncio.sleep(3.0)  # what was posted is sent
    _, said = await it.ask(f"/api/senders/{SENDER}")
    used = json.loads(said)["day"]["used"]
    code, said = await command(it, "senders", "set", SENDER, "--per-day", str(used + 1))
    assert code == 0, said
    it.messages, it.copies, it.is_posting = 1, ["one@example.org", "two@example.org"], True


async def _lose_one(it: Scene) -> None:
    await it.here.google.fault(kind="reset_after", method="messages.send", count=1)


_ADMIN: Final = "an administrator of the domain"

CASES: Final = (
    Case("database stopped for 75 s", r"cannot be reached|can't connect|is away|unavailable|unreachable|no answer",
         r"server (runs|is running)|start|systemctl", _stop_database, _DATABASE, never=_NO_STRANGER, lasts=75.0,
         mend=Mend("the server is started", _start_database, stays=25.0)),
    Case("database frozen", r"no answer|not answer|timed? ?-?out|unavailable|is away",
         r"server (runs|is running)|systemctl|processlist", _freeze_database, _DATABASE, never=_NO_STRANGER,
         mend=Mend("the server runs on", _thaw_database, stays=15.0)),
    Case("database disk full", r"\bfull\b|1114|no space", r"free (some |disk )?space|\bdf\b|room|make space", _fill,
         _DATABASE, small=True, never=_NO_STRANGER,
         mend=Mend("(not run: a server of one file gives no room back)", is_run=False)),
    Case("INSERT denied", r"command denied|1142|privilege|may not (insert|write)", r"\bgrant\b",
         _sql("REVOKE INSERT ON mailerd.* FROM 'mailerd'@'127.0.0.1'", cut=True), _DATABASE, never=_NO_STRANGER,
         mend=Mend("GRANT ALL PRIVILEGES, as an administrator",
                   _sql("GRANT ALL PRIVILEGES ON mailerd.* TO 'mailerd'@'127.0.0.1'"))),
    Case("INSERT denied, not yet in force", "", "", _sql("REVOKE INSERT ON mailerd.* FROM 'mailerd'@'127.0.0.1'"),
         ("top",), window=20.0, most="green"),
    Case("database read-only", r"read.only", r"writer|switch|read_only", _sql("SET GLOBAL read_only = ON"), _DATABASE,
         never=_NO_STRANGER, mend=Mend("read_only is set OFF", _sql("SET GLOBAL read_only = OFF"))),
    Case("database password", r"access denied|1045|rejects the login",
         r"password in database\.url|database\.url|alter user",
         _sql("ALTER USER 'mailerd'@'127.0.0.1' IDENTIFIED BY 'another'", cut=True), _DATABASE, never=_NO_STRANGER,
         mend=Mend("ALTER USER ... IDENTIFIED BY the password in database.url", _right_password)),
    Case("connections used up", _CROWDED, r"max_connections|pool_size", _take_all_connections, _DATABASE,
         never=_NO_STRANGER, mend=Mend("max_connections is raised", _allow_connections)),
    Case("connections scarce", _CROWDED, r"max_connections|pool_size", _leave_one_connection,
         ("log", "console", "check", "top", "alert"), mend=Mend("max_connections is raised", _allow_connections)),
    Case("table missing", r"lacks a table|tables? (is|are) missing|1146", r"restore the missing tables from a backup",
         _sql("SET foreign_key_checks = 0", "RENAME TABLE attempts TO attempts_gone"),
         ("log", "ready", "console", "check", "top", "alert"), never=rf"mailerd migrate|{_NO_STRANGER}",
         mend=Mend("the table is restored",
                   _sql("SET foreign_key_checks = 0", "RENAME TABLE attempts_gone TO attempts"))),
    Case("schema of a newer version", r"newer mailerd migrated it|is at migration 9", r"install that version|restore",
         _sql("INSERT INTO schema_version (number, name, applied_at) VALUES (9, 'later', UTC_TIMESTAMP(6))"),
         ("check", "top"), never=r"tables of another program|a database of its own",
         mend=Mend("the backup is restored", _sql("DELETE FROM schema_version WHERE number = 9"))),
    Case("database of another version", r"another version of mailerd", r"start the version that made it|restore",
         _alter, ("log", "check", "top"), never=r"tables of another program|a database of its own",
         mend=Mend("the backup is restored, and the daemon started", _alter_back)),
    Case("Google unreachable", r"google (cannot be reached|is out of reach|unreachable)|cannot be reached",
         r"dns|firewall|network|way out|internet", _refuse_google,
         mend=at_google("the way to Google is open again", _reach_google)),
    Case("Google silent", r"no answer|no response|hang|timed? ?out|not answer",
         r"status|firewall|way out|proxy|dashboard", _google(kind="hang_before", seconds=600),
         mend=at_google("Google answers again")),
    Case("Google hangs, nothing is refused", r"waiting for google for", r"firewall|proxy",
         _google(kind="hang_before", seconds=45), _VIEW, patience=60.0, within=20.0,
         mend=at_google("Google answers again")),
    Case("one answer lost of many", r"unconfirmed", r"mailerd (explain \d+|settle \d+)", _lose_one, _VIEW, most="blue",
         never=r"dns|firewall", scopes=(SEND,), leaves=r"neither gmail\.readonly nor gmail\.metadata",
         mend=Mend("a look into the mailbox", command=r"`?(mailerd settle \d+ --sent)")),
    Case("Google answers 5xx", r"backend ?error|\b500\b|\b5xx\b", r"status|dashboard|automatically|by itself|nothing",
         _google(kind="backend_error"), _QUIET, mend=at_google("Google answers again")),
    Case("a proxy's page of HTML", r"\b502\b", r"status|dashboard|automatically|by itself|nothing",
         _google(kind="html_502"), _QUIET, never=r"<html|<!doctype|<title|<p>|That.s all we know",
         mend=at_google("the proxy lets pass again")),
    Case("mailbox throttled", r"throttl|rate.?limit",
         r"per_minute|units_per_minute|nothing|automatically|by itself|wait", _google(kind="user_rate_limit"), _QUIET,
         mend=Mend("wait", _clear), never=r"senders resume"),
    Case("project quota", r"project.{0,40}(quota|limit)|daily ?limit ?exceeded", r"cloud console|quotas",
         _project_full, mend=Mend("(the quota: at Google)", _clear, rf"(mailerd senders resume {SENDER})",
                                  after=_new_mailbox_joins, stays=20.0)),
    Case("mailbox day full at Google", r"mail sending|daily.limit", r"automatically|per_day|--per-day|reserve|wait",
         _google(kind="mail_sending_retry_after"), never=r"senders resume",
         mend=Mend("wait (its 15 min pass)", _a_quarter_passes)),
    Case("warm-up reached", r"warm-up allows", rf"senders set {SENDER} --warm-up off", _warm_up,
         ("console", "check", "top", "senders"), never=r"limit of 24 hours|--per-day", most="blue",
         mend=Mend(command=rf"(mailerd senders set {SENDER} --warm-up off)")),
    Case("day has no room for copies", r"counts as 3", rf"senders set {SENDER} --per-day", _little_left,
         ("console", "check", "top", "senders"), most="blue",
         mend=Mend(command=rf"(mailerd senders set {SENDER} --per-day \d+)")),
    Case("sign-in revoked", r"invalid_grant|revoked|no longer honours", rf"auth login --sender {SENDER}", _revoke,
         mend=Mend(command=rf"(mailerd auth login --sender {SENDER})", after=_keep_readonly)),
    Case("credentials spoilt", r"not a json|cannot be used", rf"auth login --sender {SENDER}|create the file again",
         _spoil_credentials, mend=Mend(command=rf"(mailerd auth login --sender {SENDER})", after=_keep_readonly)),
    Case("credentials open", r"by others|0644", r"chmod 600", _open_credentials,
         ("console", "check", "top", "senders", "log", "alert"),
         mend=Mend(command=r"(chmod 600 [\w/@.-]+\.json)")),
    Case("scope missing", r"scope", rf"auth login --sender {SENDER}|delegat", _scopes(READONLY),
         mend=Mend(command=rf"(mailerd auth login --sender {SENDER})", after=_keep_readonly)),
    Case("domain policy", r"domainpolicy|policy", r"administrator allow|admin\.google\.com/ac/owl|allow this app",
         _google(kind="domain_policy"), mend=at_google(_ADMIN)),
    Case("app blocked by policy", r"admin_policy_enforced|policy",
         r"administrator allow|admin\.google\.com/ac/owl|allow this app", _refuse_policy, mend=at_google(_ADMIN)),
    Case("Gmail switched off", r"mail service not enabled|gmail is (off|switched off|not enabled)",
         r"(switch|turn).{0,20}on|enable", _google(kind="mail_service_not_enabled"), mend=at_google(_ADMIN)),
    Case("Gmail API disabled", r"accessnotconfigured|service_disabled|api is (not enabled|disabled)|api disabled",
         r"enable the gmail api|gmail\.googleapis\.com|library",
         _google(kind="api_disabled"), mend=at_google("the Cloud console")),
    Case("second daemon gone", r"not respond(ed|ing)", r"systemctl|start|lease|journal",
         _kill_last, ("log", "console", "check", "top", "alert"), daemons=2,
         mend=Mend(command=r"systemctl start mailerd, or (mailerd run)")),
    Case("only daemon killed", r"no daemon|not listening|nothing listens|not responding|silent",
         r"systemctl|start|mailerd run", _kill_last, ("check", "top"), within=15.0,
         mend=Mend(command=r"systemctl (?:re)?start mailerd, or (mailerd run)", after=_killed_stays_away)),
    Case("only daemon frozen", r"not responded for|no daemon|not responding", r"systemctl restart mailerd",
         _stop_only, ("check", "top"), within=15.0, lasts=40.0,
         mend=Mend(command=r"without systemd: (`kill -9 \d+` on \S+, then `mailerd run`)")),
    Case("stopped, and a backup restored", r"no daemon", r"mailerd run", _restore_over_stopped, ("check", "top"),
         mend=Mend("`mailerd after-restore --yes`", _after_restore,
                   r"systemctl (?:re)?start mailerd, or (mailerd run)")),
    Case("clock wrong", r"clock", r"ntp|timedatectl|chrony|set it|synchron", _sql("SELECT 1"),
         ("log", "console", "check", "top"), shift=400.0, mend=Mend("the clock is set", _shift_back)),
    Case("all renders fail", r"template|render|undefined", r"template|jobs retry|mailerd explain", _break_templates,
         ("log", "console", "check", "top", "alert"),
         mend=Mend("the template is corrected; `mailerd jobs retry` of a job that failed", _mend_templates),
         leaves=r"of the last \d+ messages failed|messages failed:|the same holds for"),
    Case("webhook fails", r"webhook.{0,60}(fail|500)|crm.{0,60}(fail|500)", r"webhooks test|endpoint", _break_hook,
         ("log", "console", "check", "top"), window=100.0,
         mend=Mend("the endpoint answers", _mend_hook, r"(mailerd webhooks test crm)")),
    Case("inbox unreadable", r"inbox.{0,80}(cannot|not) be read|bounces.{0,40}not", r"auth login", _scopes(COMPOSE),
         ("log", "console", "check", "top"), window=170.0, within=150.0,
         mend=Mend(command=rf"(mailerd auth login --sender {SENDER} --readonly)", after=_keep_readonly)),
)  # fmt: skip
