"""Examines the database: reachable, its limits, its clock; replication, inboxes and webhooks as it
knows them.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from shlex import quote
from typing import Final

from mailerd.cli.checks import pace
from mailerd.cli.checks.clocks import Clocks
from mailerd.cli.checks.result import CheckResult, Level, fail, halves, ok, warn
from mailerd.cli.daemon import look
from mailerd.clock import Clock
from mailerd.config import DatabaseSettings, IntakeSettings, Live
from mailerd.config.webhook_settings import WebhookSettings
from mailerd.core.i18n import joined, t, tc, tn
from mailerd.core.quantities import in_words
from mailerd.core.reading import Condition, Severity
from mailerd.core.situation import Facts, shortened, situation
from mailerd.core.states import State
from mailerd.core.stats import QueueStats, as_counted
from mailerd.errors import ConfigurationError, DatabaseError, LostKeysError, SchemaError
from mailerd.events.process import StoreEvents
from mailerd.model.webhooks import Webhook
from mailerd.ops.outbound_http import OutboundHttp
from mailerd.store.db import error_codes
from mailerd.store.db.database import Database
from mailerd.store.db.writer import HOST_TIMEOUT
from mailerd.store.inbox.mailboxes import InboxState, NoticeReader
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.read import server_info
from mailerd.store.read.server_info import Host, ServerInfo
from mailerd.store.read.stats import StatsReader
from mailerd.store.write.secrets import Secrets
from mailerd.store.write.webhooks import Webhooks


@dataclass(frozen=True)
class Shown:
    """What the tables show, for the checks beside this one."""

    stats: QueueStats | None = None
    """None: they cannot be read."""
    found: Sequence[Condition] = ()
    waits: Mapping[str, bool] = field(default_factory=dict)
    """The senders that are known, and whether messages of theirs wait."""

    def of_mailbox(self, email: str) -> list[Condition]:
        """What is wrong with a sender or its inbox, other than by a person's decision, the worst
        first.
        """
        mine = f"sender {email}", f"inbox {email}"
        return [it for it in self.found if it.about in mine and it.severity is not Severity.BLUE]

    def tells(self, codes: Collection[str]) -> Condition | None:
        """The first finding of one of these causes."""
        return next((it for it in self.found if it.code in codes), None)


# Which inboxes are read, by which scope, and how far behind.


def read_states(known: Sequence[InboxState], shown: Shown) -> list[CheckResult]:
    """A line for each inbox of which `situation` says nothing itself."""
    found = []
    for it in known:
        name, login = (
            t("inbox of {name}", name=it.email),
            f"mailerd auth login --sender {quote(it.email)} --readonly",
        )
        behind = (it.now - it.read_at).total_seconds() if it.read_at else None
        read = (
            t("never read") if behind is None else t("read {behind} ago", behind=in_words(behind))
        )
        match it.state:
            case "no scope":
                what = t(
                    "not read: the authorization has neither gmail.readonly nor gmail.metadata; bounces stay unknown"
                )
                found.append(warn(name, what, remedy=t("optional: {login}", login=login)))
            case "refused" if wrong := shown.of_mailbox(it.email):
                found.append(
                    warn(
                        name,
                        t("{read}; see {line}", read=read, line=name_of(wrong[0].about)),
                        remedy=wrong[0].remedies[0],
                    )
                )
            case "refused":  # a finding of its own where it lasts
                found.append(
                    ok(
                        name,
                        t("{read}; the last attempt failed: {detail}", read=read, detail=it.detail),
                    )
                )
            case "behind":
                stuck = (
                    t(", stopped at notice {failing_id}", failing_id=it.failing_id)
                    if it.failing_id
                    else ""
                )
                what = t(
                    "catching up, by gmail.{scope} ({read}{stuck})",
                    read=read,
                    scope=it.scope,
                    stuck=stuck,
                )
                found.append(
                    warn(
                        name,
                        what,
                        remedy=t("no action needed; reading is slow while messages are waiting"),
                    )
                )
            case "read" if it.scope == "metadata":
                found.append(
                    ok(
                        name,
                        t(
                            "{read}, by gmail.metadata: replies are seen, bounces have no class",
                            read=read,
                        ),
                    )
                )
            case "read":
                found.append(ok(name, t("{read}, by gmail.{scope}", read=read, scope=it.scope)))
            case _:
                found.append(
                    warn(
                        name,
                        read,
                        remedy=t(
                            "a running daemon reads the inbox within a minute; to start one: systemctl start "
                            "mailerd, or mailerd run"
                        ),
                    )
                )
    return found


# Examines what a failover would cost: which servers there are, whether one can take over, and what
# it may not have.
#
# The settings are MySQL's and MariaDB's own (their manuals, "Replication and Binary Logging
# Options", "Semisynchronous Replication", "Group Replication System Variables"). A server without a
# replica needs none of them.

_SERVERS: Final = t("database: servers")
_FAILOVER: Final = t("database: failover")
PATIENCE: Final = 60_000
"""Milliseconds: a primary that waits less for its replicas goes on without them in an ordinary
hiccup.
"""


def servers(hosts: Sequence[Host]) -> Iterator[CheckResult]:
    """What the servers of database.url said, one line for all of them, and one for each that does
    not answer.
    """
    writers = [one for one in hosts if not one.trouble]
    said = joined(
        [
            t("{where}: {state}", where=one.where, state=one.trouble or t("writable"))
            for one in hosts
        ]
    )
    if len(writers) > 1:
        yield fail(
            _SERVERS,
            t("several servers are writable: {said}", said=said),
            remedy=t("run SET GLOBAL read_only = ON on all but the primary"),
        )
    elif not writers:
        yield fail(
            _SERVERS,
            t("no server is writable: {said}", said=said),
            remedy=t("promote one, or correct the hosts in database.url"),
        )
    else:
        yield ok(_SERVERS, said)
    for one in hosts:
        yield from _other(one) if one.trouble else _writer(one)


def _writer(it: Host) -> Iterator[CheckResult]:
    if it.replicas == 0:
        yield warn(
            _FAILOVER,
            t(
                "no semi-synchronous replica is connected to {where}: a COMMIT hangs, or no replica has it",
                where=it.where,
            ),
            remedy=t(
                "start the replicas, with rpl_semi_sync_replica_enabled = ON (MariaDB: rpl_semi_sync_slave_enabled)"
            ),
        )


def _other(it: Host) -> Iterator[CheckResult]:
    """What is wrong with a server that is not in use, and would be once it has taken over."""
    if not it.answered:
        yield warn(
            _SERVERS,
            t("{where}: {trouble}", where=it.where, trouble=it.trouble),
            remedy=t("start the server; while it is unavailable, it cannot take over"),
        )
    logs = _is_on(it.variables, "log_bin")
    for name in ("innodb_flush_log_at_trx_commit", *(["sync_binlog"] if logs else [])):
        if (value := it.variables.get(name, "1")) != "1":
            yield warn(
                _FAILOVER,
                t(
                    "{where} has {name} = {value}: after it takes over, a power failure loses commits",
                    where=it.where,
                    name=name,
                    value=value,
                ),
                remedy=t("set {name} = 1 on that server too", name=name),
            )


def failover(variables: Mapping[str, str], *, several: bool) -> Iterator[CheckResult]:
    """What a failover may forget. `several`: database.url names several hosts."""
    if _is_on(variables, "log_bin") and variables.get("sync_binlog", "1") != "1":
        yield warn(
            _FAILOVER,
            t(
                "sync_binlog is {value}: after a power failure, the primary and its replicas differ",
                value=variables["sync_binlog"],
            ),
            remedy=t("set sync_binlog = 1 in the server's configuration"),
        )
    # behind a router, say
    replicated = several or _is_on(variables, f"{_semi_sync(variables)}_enabled")
    if variables.get("group_replication_group_name"):
        yield from _in_group(variables)
    elif replicated and not variables.get("aurora_version"):
        yield from _semi_synchronous(variables)


def _in_group(variables: Mapping[str, str]) -> Iterator[CheckResult]:
    if not _is_on(variables, "group_replication_single_primary_mode"):
        yield warn(
            _FAILOVER,
            t("every member of the group is writable (multi-primary mode)"),
            remedy="SELECT group_replication_switch_to_single_primary_mode()",
        )
    if variables.get("group_replication_consistency", "").upper() == "EVENTUAL":
        yield warn(
            _FAILOVER,
            t(
                "group_replication_consistency is EVENTUAL: a new primary responds before it has applied everything"
            ),
            remedy=t(
                "run SET PERSIST group_replication_consistency = 'BEFORE_ON_PRIMARY_FAILOVER' on every member"
            ),
        )
    else:
        yield ok(
            _FAILOVER,
            t(
                "group consistency: {value}",
                value=variables.get("group_replication_consistency", "?"),
            ),
        )


def _semi_synchronous(variables: Mapping[str, str]) -> Iterator[CheckResult]:
    prefix = _semi_sync(variables)
    if not _is_on(variables, f"{prefix}_enabled"):
        yield warn(
            _FAILOVER,
            t(
                "replication is asynchronous: a failover loses the last commits, including accepted jobs"
            ),
            remedy=t(
                "set {prefix}_enabled = ON and {prefix}_timeout = 4294967295 on every server (docs/how-to/ha.md)",
                prefix=prefix,
            ),
        )
        return
    yield from list(_gives_up(variables, prefix)) or [
        ok(_FAILOVER, t("COMMIT waits for a replica"))
    ]


def _gives_up(variables: Mapping[str, str], prefix: str) -> Iterator[CheckResult]:
    """Under which settings a primary does not wait for its replicas."""
    timeout, point = (
        float(variables.get(f"{prefix}_timeout", "0")),
        variables.get(f"{prefix}_wait_point", ""),
    )
    if timeout < PATIENCE:
        yield warn(
            _FAILOVER,
            t(
                "{prefix}_timeout is {timeout:g} s: after that, the primary confirms COMMITs that no replica has",
                prefix=prefix,
                timeout=timeout / 1000,
            ),
            remedy=t(
                "set {prefix}_timeout = 4294967295: the primary then waits, and a failover loses nothing",
                prefix=prefix,
            ),
        )
    wait = f"{prefix}_wait_no_{'replica' if prefix.endswith('source') else 'slave'}"
    if not _is_on(variables, wait, default="ON"):
        yield warn(
            _FAILOVER,
            t(
                "{wait} is OFF: without a replica, the primary confirms COMMITs that no replica has",
                wait=wait,
            ),
            remedy=t(
                "set {wait} = ON: the primary then waits, and a failover loses nothing", wait=wait
            ),
        )
    if point.upper() == "AFTER_COMMIT":
        yield warn(
            _FAILOVER,
            t(
                "{prefix}_wait_point is AFTER_COMMIT: other sessions see a commit before any replica has it",
                prefix=prefix,
            ),
            remedy=f"{prefix}_wait_point = AFTER_SYNC",
        )


def _semi_sync(variables: Mapping[str, str]) -> str:
    return f"rpl_semi_sync_{'source' if 'rpl_semi_sync_source_enabled' in variables else 'master'}"


def _is_on(variables: Mapping[str, str], name: str, *, default: str = "OFF") -> bool:
    return variables.get(name, default).upper() not in {"OFF", "0", ""}


# Examines the endpoints of webhooks: whether they take events, and whether their addresses may be
# reached.

MAX_SHOWN: Final = 20
"""Endpoints with a finding of their own."""


async def examine_webhooks(
    database: Database, settings: WebhookSettings, failing: Collection[str], *, bound: float
) -> list[CheckResult]:
    """See `evaluate_webhooks`; nothing is posted."""
    known = await Webhooks(database, timeout=bound).all()
    return evaluate_webhooks(known, failing, OutboundHttp(settings.network_rules))


def evaluate_webhooks(
    known: Sequence[Webhook], failing: Collection[str], http: OutboundHttp
) -> list[CheckResult]:
    """A finding for each endpoint whose URL is refused or that a person has paused, and one for all
    the others.

    `failing`: the endpoints of which `situation` tells.
    """
    bad = [(it, refusal) for it in known if (refusal := http.refusal(it.url))]
    well = [it for it in known if it.name not in {*failing, *(one.name for one, _ in bad)}]
    found = [
        fail(
            t("webhook {name}", name=it.name),
            t("the URL may not be requested: {reason}", reason=refusal),
            remedy=t("change the URL, or `[webhooks]`"),
        )
        for it, refusal in bad[:MAX_SHOWN]
    ]
    paused = [it for it in well if it.standing == "paused_manually"]
    if number := len(well) - len(paused):
        text = tn(
            "{n} of {total} endpoints is on (not tested)",
            "{n} of {total} endpoints are on (not tested)",
            number,
            total=len(known),
        )
        found.append(ok(t("webhooks"), text))
    return [
        *found,
        *(
            ok(t("webhook {name}", name=it.name), t("paused manually; it receives no events"))
            for it in paused[:MAX_SHOWN]
        ),
    ]


CONNECT_TIMEOUT: Final = 4.0
"""Seconds for a connection, at most."""
ANSWER_TIMEOUT: Final = 3.0
"""Seconds for each further question."""
TRY_BOUND: Final = 0.5
"""Seconds after which the statement that tries the time-out is to be cut off."""
_TRY_SLACK: Final = 1.0
_MAX_SENDERS: Final = 200

PACKET_WARN: Final = 16 << 20
"""Bytes: MariaDB's default, and what the largest template that is accepted (4,000,000 characters)
may need.
"""
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
    clocks: Clocks,
    hooks: WebhookSettings,
    limits: DefaultLimits,
    intake: IntakeSettings | None = None,
) -> tuple[list[CheckResult], Shown]:
    """The findings, and what the tables show."""
    bounded = settings.model_copy(
        update={"connect_timeout": min(CONNECT_TIMEOUT, settings.connect_timeout), "pool_size": 3}
    )
    try:
        database = Database(bounded, events=events)
    except ConfigurationError as error:
        return [
            fail(t("database"), str(error), remedy=t("correct database.url, then check again"))
        ], Shown()
    found, shown = list[CheckResult](), Shown()
    try:
        known = await server_info.server_facts(
            database, clock=clock, bound=CONNECT_TIMEOUT + ANSWER_TIMEOUT
        )
        found += [
            ok(
                t("database"),
                t(
                    "{where} responds in {took:.1f} ms",
                    where=database.where,
                    took=known.took * 1000,
                ),
            ),
            *evaluate(known, settings),
        ]
        clocks.database = known.ahead
        several = not database.pool.writer.alone
        found += failover(known.variables, several=several)
        if several:
            found += servers(await server_info.ask_hosts(settings.url, bound=HOST_TIMEOUT))
        found += await _time_out(database)
        applied, needed = await server_info.schema(database, bound=ANSWER_TIMEOUT)
        found.append(schema(applied, needed))
        if applied == needed:
            found += await _lost_keys(database)
            stats = await StatsReader(database, Live(limits)).read(bound=ANSWER_TIMEOUT)
            seen = await look(database, intake, stats.daemons)
            its = situation(Facts(stats, seen.outage, just_back=seen.lives))
            # which says why, and what to do
            if not (seen.outage and any(it.level is Level.FAIL for it in found)):
                found += rows(stats, its)
            shown = Shown(stats, its)
            told = {it.subject for it in its if it.about.startswith("inbox ")}
            known_ = await NoticeReader(database, timeout=ANSWER_TIMEOUT).inboxes(
                limit=_MAX_SENDERS
            )
            found += read_states([it for it in known_ if it.email not in told], shown)
            failing = {it.subject for it in its if it.about.startswith("webhook ")}
            found += await examine_webhooks(database, hooks, failing, bound=ANSWER_TIMEOUT)
            found += await pace.of_senders(database, limits, bound=ANSWER_TIMEOUT)
        if applied:
            waits = await server_info.senders(database, bound=ANSWER_TIMEOUT, most=_MAX_SENDERS)
            shown = replace(shown, waits=waits)
    except DatabaseError as error:
        return [unreachable(error, where=database.where, within=bounded.connect_timeout)], Shown()
    except SchemaError as error:
        what, remedy = halves(str(error))
        return [*found, fail(t("database: schema"), what, remedy=remedy)], Shown()
    finally:
        await database.close()
    return found, shown


async def _lost_keys(database: Database) -> list[CheckResult]:
    try:
        await Secrets(database, timeout=ANSWER_TIMEOUT).examine()
    except LostKeysError:
        what = t("the keys of the suppressions are missing; no daemon starts without them")
        return [
            fail(
                t("database: secrets"),
                what,
                remedy=t("restore the table secrets (docs/how-to/backup.md)"),
            )
        ]
    return []


_MESSAGES: Final = tc("a check", "messages")
_NAMES: Final = {
    "claims": _MESSAGES,
    "unsure": _MESSAGES,
    "failures": _MESSAGES,
    "tables": t("database"),
    "database": t("database"),
    "daemons": t("daemons"),
    "inbox": t("inboxes"),
    "webhook": t("webhooks"),
    "job": t("jobs"),
    "sender": t("senders"),
    "daemon": t("daemons"),
}


def name_of(about: str) -> str:
    """What the check is called that shows a finding about this; which one it is, the finding
    says.
    """
    return _NAMES.get(about.partition(" ")[0]) or about


def rows(stats: QueueStats, found: Sequence[Condition]) -> list[CheckResult]:
    """What the tables show: `found` is all that is not as it should be."""
    results = list[CheckResult]()
    if not any(it.about == "daemons" for it in found):
        running = [it.silent for it in stats.daemons if it.runs]
        waiting = tn(
            "{n:,} message waiting",
            "{n:,} messages waiting",
            stats.recipients.get(State.WAITING, 0),
        )
        results.append(
            ok(
                t("daemons"),
                t(
                    "running (last seen {span} ago); {waiting}",
                    span=in_words(min(running, default=0)),
                    waiting=as_counted(waiting, stats),
                ),
            )
        )
    for it in shortened(found):
        say = fail if it.severity is Severity.RED else warn
        results.append(say(name_of(it.about), it.text, remedy=joined(it.remedies)))
    return results


def unreachable(error: DatabaseError, *, where: str, within: float) -> CheckResult:
    """Why the database cannot be asked, by the number that came with it."""
    cause = error.__cause__ or error
    said, number = error_codes.words(cause), f"{type(cause).__name__} {error.errno or ''}".rstrip()
    match error.errno:
        case _ if refused := error_codes.refused(error.errno, cause):
            remedy = refused
        case 1142 | 1143:
            remedy = error_codes.explained(error.errno)[1]
        case 2002 | 2003:
            remedy = error_codes.remedy(error.errno, cause, where)
        case 0 if isinstance(cause, TimeoutError):
            said = t("no response within {within:g} s ({phase})", within=within, phase=error.phase)
            remedy = t(
                "check whether the server is stopped, its disk is full or a firewall drops packets"
            )
        case _:
            remedy = t("check the server's error log")
    return fail(
        t("database"),
        t("{where}: {said} ({number})", where=where, said=said, number=number),
        remedy=remedy,
    )


def evaluate(known: ServerInfo, settings: DatabaseSettings) -> Iterator[CheckResult]:
    """What the facts mean."""
    yield _version(known.variables)
    yield from _limits(known.variables, settings)
    yield from _writes(known.variables)
    yield _privileges(known)


def _version(variables: Mapping[str, str]) -> CheckResult:
    said = variables.get("version", "?")
    maker = f"{said} {variables.get('version_comment', '')}".lower()
    kind = "MariaDB" if "mariadb" in maker else "MySQL"
    for other in _OTHERS:
        if other.lower() in maker:
            return fail(
                t("database: version"),
                t(
                    "{said}: {other} does not support the locks that claims need",
                    said=said,
                    other=other,
                ),
                remedy=t("use MySQL or MariaDB"),
            )
    found = re.search(r"(\d+)\.(\d+)", said)
    number = (int(found[1]), int(found[2])) if found else (0, 0)
    oldest = _OLDEST[kind]
    if number < oldest:
        least = ".".join(map(str, oldest))
        return fail(
            t("database: version"),
            t("{kind} {said} is too old: SKIP LOCKED is missing", kind=kind, said=said),
            remedy=t("use {kind} {least} or newer", kind=kind, least=least),
        )
    return ok(t("database: version"), f"{kind} {said}")


def _limits(variables: Mapping[str, str], settings: DatabaseSettings) -> Iterator[CheckResult]:
    lock = _number(variables, "innodb_lock_wait_timeout")
    statement = (
        _number(variables, "max_statement_time") or _number(variables, "max_execution_time") / 1000
    )
    isolation = variables.get("transaction_isolation") or variables.get("tx_isolation", "")
    said = t(
        "locks {lock:g} s, statements {statement:g} s, {isolation}",
        lock=lock,
        statement=statement,
        isolation=isolation,
    )
    check = t("database: limits")
    if (
        0 < lock <= settings.statement_timeout
        and 0 < statement <= settings.statement_timeout
        and isolation == "READ-COMMITTED"
    ):
        yield ok(check, said)
    else:
        yield fail(
            check,
            t("the session did not take mailerd's limits: {said}", said=said),
            remedy=t(
                "remove what resets them between this machine and the server (such as a proxy's multiplexing)"
            ),
        )
    packet = int(_number(variables, "max_allowed_packet"))
    words = t("max_allowed_packet is {packet:g} MiB", packet=packet / (1 << 20))
    remedy = t("set max_allowed_packet = 64M in the server's configuration and restart it")
    if packet < PACKET_FAIL:
        yield fail(
            t("database: packet"),
            t("{words}: ordinary jobs are rejected", words=words),
            remedy=remedy,
        )
    elif packet < PACKET_WARN:
        yield warn(
            t("database: packet"),
            t("{words}: large templates are rejected", words=words),
            remedy=remedy,
        )
    else:
        yield ok(t("database: packet"), words)


def _writes(variables: Mapping[str, str]) -> Iterator[CheckResult]:
    transactions = (
        "transaction_read_only" if "transaction_read_only" in variables else "tx_read_only"
    )
    closed = [
        name
        for name in ("read_only", "super_read_only", "innodb_read_only", transactions)
        if variables.get(name, "OFF").upper() not in {"OFF", "0", ""}
    ]
    check = t("database: durability")
    if closed:
        said, remedy = error_codes.read_only(", ".join(closed))
        yield fail(check, said, remedy=remedy)
    elif variables.get("innodb_flush_log_at_trx_commit", "1") != "1":
        yield warn(
            check,
            t(
                "innodb_flush_log_at_trx_commit is not 1: a power failure can lose accepted jobs and send messages "
                "twice"
            ),
            remedy=t("set innodb_flush_log_at_trx_commit = 1 in the server's configuration"),
        )
    else:
        yield ok(check, t("writable; commits are durable"))


def _privileges(known: ServerInfo) -> CheckResult:
    check, everything = t("database: privileges"), "ALL PRIVILEGES" in known.privileges
    missing = sorted((_DAILY | _MIGRATING) - known.privileges)
    remedy = t("run, as an administrator of the database: {statement}", statement=known.grant)
    if everything or not missing:
        return ok(check, t("all required privileges, including migrations"))
    words = ", ".join(missing)
    if known.by_role:
        return warn(
            check,
            t(
                "{words} cannot be verified: granted, if at all, by a role or on single tables",
                words=words,
            ),
            remedy=remedy,
        )
    if _DAILY & set(missing):
        return fail(check, t("{words} missing", words=words), remedy=remedy)
    return warn(
        check,
        t("{words} missing: a new version's migrations would fail", words=words),
        remedy=t("{remedy}, or migrate as another user", remedy=remedy),
    )


async def _time_out(database: Database) -> list[CheckResult]:
    took = await server_info.measure_timeout(database, bound=TRY_BOUND)
    words = t(
        "a 30 s statement with a limit of {bound:g} s was cancelled after {took:.2f} s",
        bound=TRY_BOUND,
        took=took,
    )
    if took <= TRY_BOUND + _TRY_SLACK:
        return [ok(t("database: time-outs"), words)]
    return [
        fail(
            t("database: time-outs"),
            words,
            remedy=t("check whether this machine is overloaded; if not, please report it"),
        )
    ]


def schema(applied: int, needed: int) -> CheckResult:
    """Whether the schema is this code's."""
    check = t("database: schema")
    if applied > needed:
        return fail(
            check,
            t(
                "at migration {applied}; this mailerd knows only {needed}",
                applied=applied,
                needed=needed,
            ),
            remedy=t("install the newer mailerd that migrated it"),
        )
    if applied < needed:
        at = t("at migration {applied}", applied=applied) if applied else t("no schema yet")
        return fail(
            check,
            t("{at}; this mailerd needs {needed}", at=at, needed=needed),
            remedy="mailerd migrate",
        )
    return ok(check, t("up to date (migration {applied})", applied=applied))


def _number(variables: Mapping[str, str], name: str) -> float:
    try:
        return float(variables.get(name, "0"))
    except ValueError:
        return 0.0
