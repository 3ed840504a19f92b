"""What the doctor makes of facts: pure, so that every kind of trouble can be had without having it."""

import asyncio
import dataclasses
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailerd.cli.checks import CheckResult, Level, database, machine
from mailerd.cli.checks.clocks import Clocks
from mailerd.cli.checks.google import mode_of, refused
from mailerd.cli.checks.machine import SystemPaths
from mailerd.config import DatabaseSettings, IntakeSettings, LogSettings
from mailerd.core.i18n import joined
from mailerd.core.replies import (
    Call,
    MalformedResponse,
    NoCredentials,
    NoResponse,
    NotSent,
    Refused,
    Reply,
    TokenRefused,
)
from mailerd.core.stats import DaemonInfo, QueueStats
from mailerd.gmail import Mailbox
from mailerd.gmail.credentials import COMPOSE, METADATA, SEND
from mailerd.store.read.server_info import ServerInfo, _covers, _privileges

GOOD: Mapping[str, str] = {
    "version": "10.11.6-MariaDB",
    "innodb_lock_wait_timeout": "3",
    "max_statement_time": "24.000000",
    "transaction_isolation": "READ-COMMITTED",
    "max_allowed_packet": str(64 << 20),
    "read_only": "OFF",
    "innodb_flush_log_at_trx_commit": "1",
}
MYSQL = {"version": "8.0.36", "max_statement_time": None, "max_execution_time": "24000"}
ALL = frozenset({"ALL PRIVILEGES"})
DAILY = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})


def judged(
    changes: Mapping[str, str | None] | None = None,
    *,
    privileges: frozenset[str] = ALL,
    by_role: bool = False,
    ahead: float = 0.0,
) -> dict[str, CheckResult]:
    variables = {key: value for key, value in {**GOOD, **(changes or {})}.items() if value is not None}
    facts = ServerInfo(variables=variables, privileges=privileges, by_role=by_role, ahead=ahead, took=0.001)
    return {each.check.removeprefix("database: "): each for each in database.evaluate(facts, DatabaseSettings())}


@pytest.mark.parametrize("changes", [{}, MYSQL, {"version": "11.8.9-MariaDB"}, {"tx_isolation": "READ-COMMITTED"}])
def test_a_good_database_passes_throughout(changes: Mapping[str, str | None]) -> None:
    assert {each.level for each in judged(changes).values()} == {Level.PASS}


@pytest.mark.parametrize(
    "check, changes, level, word",
    [
        ("version", {"version": "10.5.22-MariaDB"}, Level.FAIL, "MariaDB 10.6"),
        ("version", MYSQL | {"version": "5.7.44"}, Level.FAIL, "MySQL 8.0"),
        ("version", MYSQL | {"version": "8.0.11-TiDB-v8.5.0"}, Level.FAIL, "TiDB"),
        ("version", MYSQL | {"version_comment": "OceanBase 4.2"}, Level.FAIL, "OceanBase"),
        ("limits", {"innodb_lock_wait_timeout": "50"}, Level.FAIL, "locks 50 s"),
        ("limits", {"max_statement_time": "0.000000"}, Level.FAIL, "statements 0 s"),
        ("limits", {"transaction_isolation": "REPEATABLE-READ"}, Level.FAIL, "REPEATABLE-READ"),
        ("packet", {"max_allowed_packet": str(4 << 20)}, Level.WARN, "4 MiB"),
        ("packet", {"max_allowed_packet": "1024"}, Level.FAIL, "ordinary jobs are rejected"),
        ("durability", {"read_only": "ON"}, Level.FAIL, "read-only (read_only)"),
        ("durability", {"read_only": "ON"}, Level.FAIL, "point database.url at the writer"),
        ("durability", {"tx_read_only": "ON"}, Level.FAIL, "read-only (tx_read_only)"),
        (
            "durability",
            {"tx_read_only": "ON", "transaction_read_only": "ON"},
            Level.FAIL,
            "read-only (transaction_read_only)",
        ),
        ("durability", MYSQL | {"super_read_only": "1"}, Level.FAIL, "super_read_only"),
        ("durability", {"innodb_flush_log_at_trx_commit": "2"}, Level.WARN, "power failure"),
    ],
)
def test_a_bad_database_is_told_with_its_remedy(
    check: str, changes: Mapping[str, str | None], level: Level, word: str
) -> None:
    found = judged(changes)[check]
    assert found.level is level
    assert word in f"{found.what} {found.remedy}"
    assert found.remedy


@pytest.mark.parametrize(
    "privileges, by_role, level",
    [
        (DAILY | {"CREATE", "ALTER"}, False, Level.PASS),
        (DAILY, False, Level.WARN),
        (DAILY - {"DELETE"}, False, Level.FAIL),
        (frozenset({"USAGE"}), True, Level.WARN),
    ],
)
def test_missing_privileges_are_named(privileges: frozenset[str], by_role: bool, level: Level) -> None:  # noqa: FBT001
    assert judged(privileges=privileges, by_role=by_role)["privileges"].level is level


@pytest.mark.parametrize(
    "ahead, google, level, said, remedy",
    [
        (0.4, -0.5, Level.PASS, "the database's clock agrees with this machine's and Google's", ""),
        (-3.0, 0.2, Level.WARN, "the database's clock is 3 s behind this machine's and Google's", "database's server"),
        (300.0, 0.2, Level.FAIL, "the database's clock is 5 min ahead of this machine's and Google's", "by NTP"),
        (-300.0, -301.0, Level.FAIL, "this machine's clock is 5 min ahead of the database's and", "timedatectl"),
        (0.1, 90.0, Level.FAIL, "the clock of this machine and of the database is 90 s behind Google's", "timedatectl"),
        (0.1, 9e8, Level.FAIL, "Google's clock is ", "gmail.api_root"),
        (3.0, None, Level.WARN, "the database's clock is 3 s ahead of this machine's", "which of the two"),
        (None, -3.0, Level.WARN, "Google's clock is 3 s behind this machine's", "which of the two"),
    ],
)  # fmt: skip
def test_of_three_clocks_the_one_that_is_wrong_is_named(
    ahead: float | None, google: float | None, level: Level, said: str, remedy: str
) -> None:
    (found,) = Clocks(ahead, google).results()
    assert found.level is level
    assert found.what.startswith(said)
    assert remedy in found.remedy


def test_three_clocks_that_all_differ_are_two_findings_by_googles() -> None:
    here, database = Clocks(100.0, 300.0).results()
    assert here.what == "this machine's clock is 5 min behind Google's"
    assert database.what.startswith("the database's clock is ")
    assert database.what.endswith(" behind Google's")
    assert Clocks().results() == []


@pytest.mark.parametrize(
    "where, name, covers",
    [
        ("*.*", "mailerd", True),
        ("`mailerd`.*", "mailerd", True),
        ("`mailerd`.*", "mailerd2", False),
        ("`mailerd\\_%`.*", "mailerd_a", True),
        ("`mailerd\\_%`.*", "mailerdxa", False),
        ("`mail_rd`.*", "mailerd", True),
        ("`a.c`.*", "abc", False),
    ],
)
def test_a_grant_covers_the_databases_that_its_pattern_names(where: str, name: str, covers: bool) -> None:  # noqa: FBT001
    assert _covers(where, name) is covers


def test_a_grant_on_columns_is_none_on_the_table() -> None:
    assert _privileges("SELECT (a, b), INSERT, ALL PRIVILEGES") == {"INSERT", "ALL PRIVILEGES"}


@pytest.mark.parametrize("applied, level", [(0, Level.FAIL), (2, Level.FAIL), (3, Level.PASS), (4, Level.FAIL)])
def test_the_schema_is_this_codes_or_not(applied: int, level: Level) -> None:
    assert database.schema(applied, 3).level is level


@pytest.mark.parametrize(
    "reply, kind, level, words",
    [
        (
            NoCredentials(joined(["f is not used", "chmod 600 f"])),
            "authorized_user",
            Level.FAIL,
            "f is not used -> chmod 600 f",
        ),
        (
            TokenRefused(400, "invalid_grant", "revoked"),
            "authorized_user",
            Level.FAIL,
            "-> mailerd auth login --sender",
        ),
        (TokenRefused(401, "invalid_client"), "authorized_user", Level.FAIL, "--client FILE"),
        (TokenRefused(401, "unauthorized_client"), "service_account", Level.FAIL, "delegate gmail.compose"),
        (TokenRefused(503), "authorized_user", Level.WARN, "no action needed"),
        (Refused(429, "rateLimitExceeded"), "authorized_user", Level.WARN, "no action needed"),
        (Refused(403, "accessNotConfigured", "disabled"), "authorized_user", Level.FAIL, "enable the Gmail API"),
        (Refused(403, "insufficientPermissions"), "authorized_user", Level.FAIL, "mailerd auth login"),
        (Refused(400, "failedPrecondition"), "authorized_user", Level.FAIL, "Gmail is enabled for me"),
        (NotSent("no route"), "authorized_user", Level.FAIL, "DNS, firewall"),
        (NoResponse("cut off"), "authorized_user", Level.FAIL, "DNS, firewall"),
        (MalformedResponse(200, "<html>"), "authorized_user", Level.FAIL, "getProfile"),
    ],
)
def test_a_mailbox_that_is_refused_is_told_why_and_what_to_do(
    reply: Reply, kind: str, level: Level, words: str
) -> None:
    found = refused("me@example.com", Call.GET_PROFILE, reply, kind=kind)
    assert found.level is level
    assert words in found.line()


@pytest.mark.parametrize(
    "scopes, level, words",
    [
        (
            (COMPOSE, METADATA),
            Level.PASS,
            "draft mode (scopes: gmail.compose, gmail.metadata): unconfirmed messages are resolved automatically",
        ),
        ((COMPOSE,), Level.PASS, "has no Message-ID"),
        ((SEND, METADATA), Level.PASS, "direct mode"),
        ((SEND,), Level.WARN, "must be confirmed manually"),
    ],
)
def test_the_mode_is_told_with_its_reason(scopes: tuple[str, ...], level: Level, words: str) -> None:
    mode = "draft" if COMPOSE in scopes else "direct"
    box = Mailbox(sender="me@example.com", mode=mode, can_read_metadata=METADATA in scopes, scopes=scopes)  # type: ignore[arg-type]  # one of two words
    found = mode_of(box)
    assert found.level is level
    assert words in found.what


@pytest.mark.parametrize(
    "free, inodes, level",
    [
        (5 << 30, None, Level.PASS),
        (500 << 20, 9_999, Level.WARN),
        (50 << 20, 9_999, Level.FAIL),
        (5 << 30, 9, Level.FAIL),
    ],
)
def test_a_full_disk_is_told(free: int, inodes: int | None, level: Level) -> None:
    assert machine.room(Path("/x"), free=free, total=10 << 30, inodes=inodes).level is level


def test_a_folder_that_this_user_may_not_look_into_is_no_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, stat = tmp_path / "closed" / "credentials", Path.stat

    def refused(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if self == closed:
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", refused)  # root, who runs tests too, may look everywhere
    (found,) = machine.disks([closed])
    assert found.what.startswith(f"{tmp_path}: ")


ACTIVE = {"LoadState": "loaded", "ActiveState": "active", "WatchdogUSec": "30s", "NRestarts": "0"}


@pytest.mark.parametrize(
    "shown, level, words",
    [
        (ACTIVE, Level.PASS, "watchdog 30s"),
        ({"LoadState": "not-found"}, Level.WARN, "make install"),
        ({"LoadState": "masked"}, Level.FAIL, "masked"),
        ({}, Level.FAIL, "unknown"),
        (ACTIVE | {"ActiveState": "failed"}, Level.FAIL, "has failed"),
        (ACTIVE | {"ActiveState": "inactive"}, Level.WARN, "enable --now"),
        (ACTIVE | {"WatchdogUSec": "0"}, Level.WARN, "without a watchdog"),
    ],
)
def test_the_unit_is_judged_by_what_systemd_shows(shown: dict[str, str], level: Level, words: str) -> None:
    found = machine.unit(shown)
    assert found.level is level
    assert words in found.line()


KEPT = "Listen=127.0.0.1:5000 (Stream)\nListen=/run/mailerd.sock (Stream)\nSubState=listening\n"


@pytest.mark.parametrize(
    "shown, where, is_kept",
    [
        (KEPT, "127.0.0.1:5000", True),
        (KEPT, "0.0.0.0:5000", True),
        (KEPT, "/run/mailerd.sock", True),
        (KEPT, "127.0.0.1:5001", False),
        (KEPT, "/run/other.sock", False),
        (KEPT.replace("listening", "running"), "127.0.0.1:5000", False),
        ("SubState=dead\n", "127.0.0.1:5000", False),
        ("", "127.0.0.1:5000", False),
    ],
)
def test_what_systemd_listens_on_for_a_daemon_that_does_not_run_is_known(shown: str, where: str, is_kept: bool) -> None:  # noqa: FBT001 - a row of the table
    assert machine.kept(shown, where) is is_kept


async def test_a_port_that_systemd_keeps_is_not_asked_for_since_that_would_start_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours: asyncio.Future[QueueStats | None] = asyncio.get_running_loop().create_future()
    ours.set_result(None)
    with socket.create_server(("127.0.0.1", 0)) as kept:
        number = kept.getsockname()[1]
        systemctl = tmp_path / "systemctl"
        systemctl.write_text(f"#!/bin/sh\necho 'Listen=127.0.0.1:{number} (Stream)'\necho SubState=listening\n")
        systemctl.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        found = await machine.port(IntakeSettings(port=number), ours, SystemPaths(booted=tmp_path))
        kept.setblocking(False)
        with pytest.raises(BlockingIOError):
            kept.accept()
    assert found.level is Level.PASS
    assert "starts mailerd at the first request" in found.what


@pytest.mark.parametrize(
    "host, pid_runs, level", [("", True, Level.PASS), ("elsewhere", True, Level.FAIL), ("", False, Level.FAIL)]
)
async def test_a_port_is_held_by_this_installation_only_if_a_daemon_of_its_database_runs_here(
    tmp_path: Path,
    host: str,
    *,
    pid_runs: bool,
    level: Level,
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nServer: mailerd\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    known: asyncio.Future[QueueStats | None] = asyncio.get_running_loop().create_future()
    daemon = DaemonInfo("d", host or socket.gethostname(), 1, "0", silent=1, is_gone=not pid_runs)
    known.set_result(QueueStats(at=datetime.now(UTC), daemons=(daemon,)))
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        number = server.sockets[0].getsockname()[1]
        found = await machine.port(IntakeSettings(port=number), known, SystemPaths(booted=tmp_path / "none"))
    assert found.level is level
    assert level is Level.PASS or "the mailerd of another database" in found.what


async def test_without_systemd_nothing_is_held_against_the_machine(tmp_path: Path) -> None:
    (found,) = await machine.systemd(SystemPaths(booted=tmp_path / "none"), LogSettings())
    assert found.level is Level.PASS


async def test_a_log_that_goes_to_a_journal_which_is_not_there_is_a_fail(tmp_path: Path) -> None:
    paths, log = SystemPaths(booted=tmp_path / "none", journal=tmp_path / "socket"), LogSettings(format="journald")
    (_, found) = await machine.systemd(paths, log)
    assert found.level is Level.FAIL
    assert f"{paths.journal}: No such file or directory" in found.what
    assert 'set log.format = "auto"' in found.remedy
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(paths.journal))
        assert len(await machine.systemd(paths, log)) == 1


def test_a_journal_that_takes_nothing_is_told(tmp_path: Path) -> None:
    found = machine.journald(SystemPaths(journal=tmp_path / "none", kept=tmp_path))
    assert found.level is Level.WARN
    assert "systemctl restart systemd-journald" in found.remedy


def test_bad_news_without_a_remedy_cannot_be_told() -> None:
    with pytest.raises(ValueError, match="a remedy is missing"):
        dataclasses.replace(database.schema(3, 3), level=Level.FAIL)


def test_a_finding_is_one_line() -> None:
    assert CheckResult(Level.WARN, "x", "a\nb", "c\n d").line() == "WARN  x                     a; b -> c; d"
