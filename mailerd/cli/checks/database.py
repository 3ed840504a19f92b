"""Examines the database: reachable, of a kind and an age that works, its limits in force, its clock right."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from mailerd.cli.checks import inboxes, pace, replication, webhooks
from mailerd.cli.checks.result import CheckResult, Level, fail, ok, warn
from mailerd.clock import Clock
from mailerd.config import DatabaseSettings
from mailerd.config.webhook_settings import WebhookSettings
from mailerd.core.quantities import counted
from mailerd.errors import ConfigurationError, DatabaseError, LostKeysError, SchemaError
from mailerd.events.store import StoreEvents
from mailerd.store import server_info
from mailerd.store.db import error_codes
from mailerd.store.db.database import Database
from mailerd.store.db.writer import NoWriterError
from mailerd.store.describe import SILENT
from mailerd.store.inbox.read_notices import NoticeReader
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.secrets import Secrets
from mailerd.store.server_info import ServerInfo

CONNECT_TIMEOUT: Final = 4.0
"""Seconds for a connection, at most."""
ANSWER_TIMEOUT: Final = 3.0
"""Seconds for each further question."""
TRY_BOUND: Final = 0.5
"""Seconds after which the statement that tries the time-out is to be cut off."""
_TRY_SLACK: Final = 1.0
_MAX_SENDERS: Final = 200
_DAEMONS: Final = "daemons"

CLOCK_WARN: Final = 2.0
"""Seconds that two clocks may differ without a WARN; NTP keeps a clock within some milliseconds."""
CLOCK_FAIL: Final = 60.0
"""Seconds that two clocks may differ without a FAIL. At five minutes Google refuses a service account's signature, and
log and rows no longer fit together."""

PACKET_WARN: Final = 16 << 20
"""Bytes: MariaDB's default, and what the largest template that is accepted (4,000,000 characters) may need."""
PACKET_FAIL: Final = 1 << 20
"""Bytes: MySQL's default of old, which a few hundred recipients with their variables go over."""

_DAILY: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})
_MIGRATING: Final = frozenset({"CREATE", "ALTER"})
_OLDEST: Final = {"MariaDB": (10, 6), "MySQL": (8, 0)}
_OTHERS: Final = ("TiDB", "Vitess", "OceanBase")


async def examine(
    settings: DatabaseSettings,
    *,
    clock: Clock,
    events: StoreEvents,
    hooks: WebhookSettings,
    limits: DefaultLimits,
) -> tuple[list[CheckResult], list[str]]:
    """The findings, and the senders that the database knows."""
    bounded = settings.model_copy(
        update={"connect_timeout": min(CONNECT_TIMEOUT, settings.connect_timeout), "pool_size": 3}
    )
    try:
        database = Database(bounded, events=events)
    except ConfigurationError as error:
        what, _, remedy = str(error).partition("; ")
        return [fail("database", what, remedy=remedy)], []
    found: list[CheckResult] = []
    try:
        known = await server_info.server_facts(database, clock=clock, bound=CONNECT_TIMEOUT + ANSWER_TIMEOUT)
        found += [ok("database", f"{database.where} answers in {known.took * 1000:.1f} ms"), *evaluate(known, settings)]
        writer = database.pool.writer
        found += replication.failover(known.variables, several=not writer.alone)
        if not writer.alone:
            await writer.watch()
            found += replication.servers(list(writer.roles.values()))
        found += await _time_out(database)
        applied, needed = await server_info.schema(database, bound=ANSWER_TIMEOUT)
        found += [schema(applied, needed), await _skip_locked(database, applied)]
        if applied == needed:
            found += await _lost_keys(database)
            found.append(running(*await server_info.daemons(database, bound=ANSWER_TIMEOUT)))
            found += inboxes.read_states(
                await NoticeReader(database, timeout=ANSWER_TIMEOUT).inboxes(limit=_MAX_SENDERS)
            )
            found += await webhooks.examine(database, hooks, bound=ANSWER_TIMEOUT)
            found += await pace.of_senders(database, limits, bound=ANSWER_TIMEOUT)
        senders = await server_info.senders(database, bound=ANSWER_TIMEOUT, most=_MAX_SENDERS) if applied else []
    except DatabaseError as error:
        return [unreachable(error, where=database.where, within=bounded.connect_timeout)], []
    except SchemaError as error:
        what, _, remedy = str(error).partition("; ")
        return [*found, fail("database: schema", what, remedy=remedy)], []
    finally:
        await database.close()
    return found, senders


async def _lost_keys(database: Database) -> list[CheckResult]:
    try:
        await Secrets(database, timeout=ANSWER_TIMEOUT).examine()
    except LostKeysError:
        what = "the keys of the suppressions are gone, and no daemon starts without them"
        return [fail("database: secrets", what, remedy="restore the table secrets, as docs/backup.md says")]
    return []


def running(silent: float | None, waiting: int) -> CheckResult:
    """Whether a daemon sends; `silent`: seconds since one was heard of, None where there is none."""
    check, remedy = _DAEMONS, "start one: systemctl start mailerd, or mailerd run"
    if silent is not None and silent <= SILENT:
        return ok(check, f"one was heard of {silent:.0f} s ago; {_wait(waiting)}")
    since = "no daemon runs" if silent is None else f"no daemon has been heard of for {silent:.0f} s"
    if waiting:
        return fail(check, f"{since}, {_wait(waiting)}", remedy=remedy)
    return warn(check, f"{since}; nothing waits", remedy=remedy)


def _wait(letters: int) -> str:
    return f"{counted(letters, 'letter')} {'waits' if letters == 1 else 'wait'}"


def sends(found: Iterable[CheckResult]) -> bool | None:
    """Whether a daemon of this database was heard of, by the findings; None: it is not known."""
    return next((each.level is Level.PASS for each in found if each.check == _DAEMONS), None)


def unreachable(error: DatabaseError, *, where: str, within: float) -> CheckResult:
    """Why the database cannot be asked, by the number that came with it."""
    cause = error.__cause__ or error
    said = str(cause.args[1]) if error.errno and len(cause.args) > 1 else str(cause)
    match error.errno:
        case number if refused := error_codes.refused(number):
            remedy = refused
        case 1142 | 1143:
            remedy = "GRANT ALL PRIVILEGES ON the database.* TO the user of database.url"
        case 2002 | 2003:
            below = cause.__cause__
            said = f"{said}: {below.strerror}" if isinstance(below, OSError) and below.strerror else said
            remedy = _refused_remedy(where, cause)
        case 0 if isinstance(cause, TimeoutError):
            said = f"no answer within {within:g} s at {error.phase}"
            remedy = (
                "the server or the way to it is stuck: is it stopped, is its disk full, does a firewall drop packets?"
            )
        case _:
            remedy = "look into the server's error log"
    return fail(
        "database", f"{where}: {said} ({type(cause).__name__} {error.errno or ''})".replace(" )", ")"), remedy=remedy
    )


def _refused_remedy(where: str, cause: BaseException) -> str:
    if isinstance(cause, NoWriterError):
        return cause.remedy
    if "/" in where:
        return f"start the server; see that its socket is {where}, or correct unix_socket in database.url"
    return "start the server; check host and port in database.url, and the firewall"


def evaluate(known: ServerInfo, settings: DatabaseSettings) -> Iterator[CheckResult]:
    """What the facts mean."""
    yield _version(known.variables)
    yield from _limits(known.variables, settings)
    yield from _writes(known.variables)
    yield _privileges(known)
    yield clock_difference("database: clock", known.ahead, whose="the database's")


def _version(variables: Mapping[str, str]) -> CheckResult:
    said = variables.get("version", "?")
    maker = f"{said} {variables.get('version_comment', '')}".lower()
    kind = "MariaDB" if "mariadb" in maker else "MySQL"
    for other in _OTHERS:
        if other.lower() in maker:
            return fail(
                "database: version",
                f"{said}: {other} does not keep the locks of a claim",
                remedy="use MySQL or MariaDB",
            )
    found = re.search(r"(\d+)\.(\d+)", said)
    number = (int(found[1]), int(found[2])) if found else (0, 0)
    oldest = _OLDEST[kind]
    if number < oldest:
        least = ".".join(map(str, oldest))
        return fail(
            "database: version",
            f"{kind} {said} is too old: SKIP LOCKED is missing",
            remedy=f"use {kind} {least} or newer",
        )
    return ok("database: version", f"{kind} {said}")


def _limits(variables: Mapping[str, str], settings: DatabaseSettings) -> Iterator[CheckResult]:
    lock = _number(variables, "innodb_lock_wait_timeout")
    statement = _number(variables, "max_statement_time") or _number(variables, "max_execution_time") / 1000
    isolation = variables.get("transaction_isolation") or variables.get("tx_isolation", "")
    said = f"locks {lock:g} s, statements {statement:g} s, {isolation}"
    check = "database: limits"
    if (
        0 < lock <= settings.statement_timeout
        and 0 < statement <= settings.statement_timeout
        and isolation == "READ-COMMITTED"
    ):
        yield ok(check, said)
    else:
        yield fail(
            check,
            f"the session did not take mailerd's limits: {said}",
            remedy="take away whatever resets them between here and the server (a proxy's multiplexing)",
        )
    packet = int(_number(variables, "max_allowed_packet"))
    words = f"max_allowed_packet is {packet / (1 << 20):g} MiB"
    remedy = "set max_allowed_packet = 64M in the server's configuration and restart it"
    if packet < PACKET_FAIL:
        yield fail("database: packet", f"{words}: ordinary jobs are refused", remedy=remedy)
    elif packet < PACKET_WARN:
        yield warn("database: packet", f"{words}: large templates are refused", remedy=remedy)
    else:
        yield ok("database: packet", words)


def _writes(variables: Mapping[str, str]) -> Iterator[CheckResult]:
    transactions = "transaction_read_only" if "transaction_read_only" in variables else "tx_read_only"
    closed = [
        name
        for name in ("read_only", "super_read_only", "innodb_read_only", transactions)
        if variables.get(name, "OFF").upper() not in {"OFF", "0", ""}
    ]
    check = "database: durability"
    if closed:
        said, remedy = error_codes.read_only(", ".join(closed))
        yield fail(check, said, remedy=remedy)
    elif variables.get("innodb_flush_log_at_trx_commit", "1") != "1":
        yield warn(
            check,
            "innodb_flush_log_at_trx_commit is not 1: a power cut can take accepted jobs, and have letters sent twice",
            remedy="set innodb_flush_log_at_trx_commit = 1 in the server's configuration",
        )
    else:
        yield ok(check, "the server takes writes, and a commit is on its disk")


def _privileges(known: ServerInfo) -> CheckResult:
    check, everything = "database: privileges", "ALL PRIVILEGES" in known.privileges
    missing = sorted((_DAILY | _MIGRATING) - known.privileges)
    remedy = "GRANT ALL PRIVILEGES ON the database.* TO the user of database.url"
    if everything or not missing:
        return ok(check, "all that is needed, migrations included")
    words = ", ".join(missing)
    if known.by_role:
        return warn(
            check,
            f"{words} come by a role or by single tables, if at all, which cannot be seen from here",
            remedy=remedy,
        )
    if _DAILY & set(missing):
        return fail(check, f"{words} missing", remedy=remedy)
    return warn(
        check, f"{words} missing: a new version's migrations would fail", remedy=f"{remedy}, or migrate as another user"
    )


def clock_difference(check: str, ahead: float, *, whose: str) -> CheckResult:
    """What it means that a clock differs from this machine's by so many seconds."""
    words = f"{whose} clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    remedy = "see which of the two is wrong (`timedatectl`), and set both by NTP"
    if abs(ahead) >= CLOCK_FAIL:
        return fail(check, words, remedy=remedy)
    if abs(ahead) >= CLOCK_WARN:
        return warn(check, words, remedy=remedy)
    return ok(check, f"{whose} clock and this machine's differ by {abs(ahead):.2f} s")


async def _time_out(database: Database) -> list[CheckResult]:
    took = await server_info.measure_timeout(database, bound=TRY_BOUND)
    words = f"a statement of 30 s, given {TRY_BOUND:g} s, was cut off after {took:.2f} s"
    if took <= TRY_BOUND + _TRY_SLACK:
        return [ok("database: time-outs", words)]
    return [fail("database: time-outs", words, remedy="this machine is too busy, or has a bug: please report it")]


def schema(applied: int, needed: int) -> CheckResult:
    """Whether the schema is this code's."""
    check = "database: schema"
    if applied > needed:
        return fail(
            check,
            f"it is at migration {applied}, this mailerd knows only {needed}",
            remedy="install the newer mailerd that migrated it",
        )
    if applied < needed:
        at = f"it is at migration {applied}" if applied else "there is none yet"
        return fail(check, f"{at}, this mailerd needs {needed}", remedy="mailerd migrate")
    return ok(check, f"it is at migration {applied}, as this mailerd needs")


async def _skip_locked(database: Database, applied: int) -> CheckResult:
    check = "database: SKIP LOCKED"
    try:
        works = await server_info.supports_skip_locked(database, bound=ANSWER_TIMEOUT) if applied else None
    except DatabaseError as error:
        if error.errno in {0, *range(2000, 3000)}:
            raise
        if error.errno in error_codes.READ_ONLY:  # it is said above, and a server that can be written to is tried
            return warn(check, "not tried: the server is read-only", remedy="see the finding of its durability")
        return fail(
            check,
            f"it does not work here: {error}",
            remedy="use MySQL 8.0 or MariaDB 10.6, or newer, without a proxy that rewrites SQL",
        )
    if works is None:
        return warn(check, "not tried: there is no table yet", remedy="mailerd migrate, then check again")
    if not works:
        return fail(
            check,
            "a second connection got a row that the first had locked: two daemons would claim the same letters",
            remedy="use MySQL or MariaDB (TiDB, for one, drops FOR UPDATE in silence)",
        )
    return ok(check, "a second connection passed over a row that the first had locked")


def _number(variables: Mapping[str, str], name: str) -> float:
    try:
        return float(variables.get(name, "0"))
    except ValueError:
        return 0.0
