"""What a failover would cost, by the settings of the servers, and which of them takes the writes."""

from collections.abc import Mapping

import pytest

from mailerd.cli.checks.database import failover, servers
from mailerd.cli.checks.result import Level
from mailerd.store.read.server_info import Host

SEMI_SYNCHRONOUS = {
    "rpl_semi_sync_source_enabled": "ON",
    "rpl_semi_sync_source_timeout": "4294967295",
    "rpl_semi_sync_source_wait_point": "AFTER_SYNC",
}
GROUP = {
    "group_replication_group_name": "g",
    "group_replication_single_primary_mode": "ON",
    "group_replication_consistency": "BEFORE_ON_PRIMARY_FAILOVER",
}


@pytest.mark.parametrize("variables", [SEMI_SYNCHRONOUS, GROUP, {"log_bin": "ON", "sync_binlog": "1", **GROUP}])
def test_what_forgets_nothing_passes(variables: Mapping[str, str]) -> None:
    assert [each.level for each in failover(variables, several=True)] == [Level.PASS]


def test_a_server_without_replicas_needs_none_of_it() -> None:
    assert list(failover({"log_bin": "OFF", "sync_binlog": "0"}, several=False)) == []
    assert list(failover({"aurora_version": "3.04"}, several=True)) == []


@pytest.mark.parametrize(
    "variables, word",
    [
        ({}, "asynchronous"),
        ({"rpl_semi_sync_master_enabled": "OFF"}, "rpl_semi_sync_master_enabled = ON"),
        (SEMI_SYNCHRONOUS | {"rpl_semi_sync_source_timeout": "10000"}, "source_timeout is 10 s"),
        (SEMI_SYNCHRONOUS | {"rpl_semi_sync_source_wait_point": "AFTER_COMMIT"}, "AFTER_COMMIT"),
        (SEMI_SYNCHRONOUS | {"rpl_semi_sync_source_wait_no_replica": "OFF"}, "source_wait_no_replica is OFF"),
        (SEMI_SYNCHRONOUS | {"log_bin": "ON", "sync_binlog": "0"}, "sync_binlog is 0"),
        (GROUP | {"group_replication_consistency": "EVENTUAL"}, "EVENTUAL"),
        (GROUP | {"group_replication_single_primary_mode": "OFF"}, "multi-primary"),
    ],
)
def test_what_may_forget_a_commit_is_a_warning(variables: Mapping[str, str], word: str) -> None:
    (found,) = [each for each in failover(variables, several=True) if each.level is not Level.PASS]
    assert found.level is Level.WARN
    assert word in found.line()


def test_the_servers_are_told_with_their_roles() -> None:
    writer, replica = Host("db1:3306"), Host("db2:3306", trouble="read-only (read_only)")
    (found,) = servers([writer, replica])
    assert found.level is Level.PASS
    assert found.what == "db1:3306: writable; db2:3306: read-only (read_only)"
    assert [each.level for each in servers([replica])] == [Level.FAIL]
    assert [each.level for each in servers([writer, Host("db2:3306")])] == [Level.FAIL]


def test_a_server_that_is_away_is_a_warning() -> None:
    away = Host("db2:3306", trouble="no response within 2 s", answered=False)
    found = list(servers([Host("db1:3306"), away]))
    assert [each.level for each in found] == [Level.PASS, Level.WARN]
    assert "db2:3306" in found[1].what
