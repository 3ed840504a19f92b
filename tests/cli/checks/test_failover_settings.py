"""`mailerd check` on real replicated servers: each setting under which a commit can be forgotten is named."""

from collections.abc import Iterator, Sequence

import pytest

from mailerd.cli.checks.clocks import Clocks
from mailerd.cli.checks.database import examine
from mailerd.cli.checks.result import CheckResult, Level
from mailerd.clock import Clock
from mailerd.config import DatabaseSettings
from mailerd.config.webhook_settings import WebhookSettings
from mailerd.core.rate_limit import SenderLimits
from mailerd.events.process import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.queue.rate_limits import DefaultLimits
from tests.conftest import CACHE
from tests.support.dialect import is_mariadb
from tests.support.eventually import eventually
from tests.support.group import Group, mysql_server
from tests.support.heard import Heard
from tests.support.replicated import Pair, as_admin, replicated

SOURCE = "rpl_semi_sync_master" if is_mariadb() else "rpl_semi_sync_source"
REPLICA = "rpl_semi_sync_slave" if is_mariadb() else "rpl_semi_sync_replica"
NO_REPLICA = f"{SOURCE}_wait_no_{'slave' if is_mariadb() else 'replica'}"
DURABLE = ("innodb_flush_log_at_trx_commit = 1", "sync_binlog = 1")


def set_global(server: Server, *settings: str) -> None:
    as_admin(server, *(f"SET GLOBAL {each}" for each in settings))


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A primary and its semi-synchronous replica, as docs/how-to/ha.md wants them."""
    with replicated(CACHE, semi_synchronous=True) as pair:
        set_global(pair.primary, *DURABLE, f"{SOURCE}_timeout = 4294967295")
        set_global(pair.replica, *DURABLE, "read_only = ON")
        yield pair


def urls(servers: Sequence[Server]) -> str:
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"mysql://mailerd:{servers[0].password}@{hosts}/mailerd"


async def found_at(url: str) -> list[CheckResult]:
    """What `check` says of servers and failover."""
    settings = DatabaseSettings(url=url, connect_timeout=2)
    results, *_ = await examine(
        settings,
        clock=Clock(),
        clocks=Clocks(),
        events=StoreEvents(Heard()),
        hooks=WebhookSettings.model_validate({}),
        limits=DefaultLimits(SenderLimits(0, 0, 0)),
    )
    return [each for each in results if each.check in {"database: durability", "database: failover"}]


async def test_what_the_guide_advises_passes(pair: Pair) -> None:
    for url in (urls([pair.primary, pair.replica]), urls([pair.primary])):
        found = await found_at(url)
        assert [each.level for each in found] == [Level.PASS, Level.PASS], [each.line() for each in found]


@pytest.mark.parametrize(
    "setting, good, said",
    [
        (
            "innodb_flush_log_at_trx_commit = 2",
            "innodb_flush_log_at_trx_commit = 1",
            "a power failure can lose accepted jobs",
        ),
        ("sync_binlog = 0", "sync_binlog = 1", "sync_binlog is 0"),
        (f"{SOURCE}_timeout = 10000", f"{SOURCE}_timeout = 4294967295", f"{SOURCE}_timeout is 10 s"),
        (f"{NO_REPLICA} = OFF", f"{NO_REPLICA} = ON", f"{NO_REPLICA} is OFF"),
        (f"{SOURCE}_wait_point = AFTER_COMMIT", f"{SOURCE}_wait_point = AFTER_SYNC", "AFTER_COMMIT"),
        (f"{SOURCE}_enabled = OFF", f"{SOURCE}_enabled = ON", "replication is asynchronous"),
    ],
)
async def test_a_setting_of_the_primary_that_may_forget_a_commit_is_a_warning(
    pair: Pair, setting: str, good: str, said: str
) -> None:
    set_global(pair.primary, setting)
    try:
        found = await found_at(urls([pair.primary, pair.replica]))
    finally:
        set_global(pair.primary, good)
    (warned,) = [each for each in found if each.level is not Level.PASS]
    assert warned.level is Level.WARN
    assert said in warned.what


@pytest.mark.parametrize("name, bad", [("innodb_flush_log_at_trx_commit", 2), ("sync_binlog", 0)])
async def test_so_is_one_of_a_replica_which_may_take_over(pair: Pair, name: str, bad: int) -> None:
    set_global(pair.replica, f"{name} = {bad}")
    try:
        found = await found_at(urls([pair.primary, pair.replica]))
    finally:
        set_global(pair.replica, f"{name} = 1")
    (warned,) = [each for each in found if each.level is not Level.PASS]
    assert f"127.0.0.1:{pair.replica.port} has {name} = {bad}" in warned.what


async def test_a_primary_whose_replica_is_not_semi_synchronous_is_a_warning() -> None:
    with replicated(CACHE, semi_synchronous=True) as pair:
        set_global(pair.primary, *DURABLE, f"{SOURCE}_timeout = 4294967295")
        set_global(pair.replica, "read_only = ON")
        set_global(pair.replica, f"{REPLICA}_enabled = OFF")
        pair.connect_again()

        async def is_noticed() -> bool:
            found = await found_at(urls([pair.primary, pair.replica]))
            return any("no semi-synchronous replica is connected" in each.what for each in found)

        await eventually(is_noticed)


@pytest.mark.slow
@pytest.mark.skipif(mysql_server() is None, reason="there is no MySQL server; tools/mysql-server unpacks one")
async def test_a_group_whose_new_primary_answers_too_early_is_a_warning() -> None:
    group = Group(CACHE)
    try:
        group.start()
        group.form({})
        for node in group.nodes:
            set_global(node, *DURABLE)
            set_global(node, "group_replication_consistency = 'BEFORE_ON_PRIMARY_FAILOVER'")  # not MySQL 8's default
        found = await found_at(group.url)
        assert [each.level for each in found] == [Level.PASS, Level.PASS], [each.line() for each in found]
        set_global(group.primary, "group_replication_consistency = 'EVENTUAL'")
        (warned,) = [each for each in await found_at(group.url) if each.level is not Level.PASS]
        assert "group_replication_consistency is EVENTUAL" in warned.what
    finally:
        group.stop()
