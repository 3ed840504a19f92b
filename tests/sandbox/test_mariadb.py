"""The private database server: up quickly, private, durable where promised, and never left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pymysql
import pytest

from mailerd.sandbox import mariadb
from mailerd.sandbox.mariadb import Server, ServerError
from tests.support.heard import PATIENCE

CACHE = Path(__file__).parent.parent.parent / ".cache"


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of this test's own, to kill and freeze at will."""
    with Server(cache=CACHE) as server:
        yield server


def ask(url: str, *statements: str, read_timeout: float = PATIENCE) -> list[tuple[Any, ...]]:
    parts = urlsplit(url)
    connection = pymysql.connect(
        host=parts.hostname,
        port=parts.port or 0,
        user=parts.username,
        password=parts.password or "",
        database=parts.path.lstrip("/") or None,
        autocommit=True,
        connect_timeout=PATIENCE,
        read_timeout=read_timeout,
    )
    with connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


def eventually(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def alive(pid: int) -> bool:
    """A zombie counts as gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_the_address_reaches_an_empty_database_with_the_right_collation(server: Server) -> None:
    assert ask(server.url, "SELECT @@collation_database, @@time_zone") == [("utf8mb4_bin", "+00:00")]
    assert ask(server.url, "SHOW TABLES") == []


def test_it_listens_on_loopback_alone(server: Server) -> None:
    listening = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
    assert f"0100007F:{server.port:04X}" in listening
    assert f"00000000:{server.port:04X}" not in listening


@pytest.mark.parametrize("user", ["root", "mailerd", "admin", "nobody"])
def test_nobody_gets_in_without_the_password(server: Server, user: str) -> None:
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        ask(f"mysql://{user}@127.0.0.1:{server.port}/", "SELECT 1")


def test_the_daemons_user_may_not_touch_other_databases(server: Server) -> None:
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        ask(server.url, "CREATE DATABASE other")
    assert ask(server.url_of("", user="admin"), "CREATE DATABASE other", "SELECT 1") == [(1,)]


def test_what_was_committed_survives_kill_9_on_the_same_port(server: Server) -> None:
    port = server.port
    ask(server.url, "CREATE TABLE t (a INT PRIMARY KEY)", "INSERT INTO t VALUES (1), (2)")
    server.restart()
    assert server.port == port
    assert ask(server.url, "SELECT COUNT(*) FROM t") == [(2,)]


def test_a_frozen_server_accepts_and_never_greets(server: Server) -> None:
    server.freeze()
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        server.thaw()
        connection.settimeout(PATIENCE)
        assert connection.recv(64)[4] == 10


def test_no_thread_of_a_frozen_server_runs_any_more(server: Server) -> None:
    busy = 'SELECT BENCHMARK(2000000000, SHA2("x", 256))'  # MySQL 9 has no MD5 any more
    with ThreadPoolExecutor(8) as clients:
        questions = [clients.submit(ask, server.url, busy) for _ in range(8)]
        while (
            len(ask(server.url, "SELECT 1 FROM information_schema.processlist WHERE info LIKE 'SELECT BENCHMARK%'")) < 8
        ):
            pass
        for _ in range(20):
            server.freeze()
            stats = [path.read_text() for path in Path(f"/proc/{server.pid}/task").glob("*/stat")]
            server.thaw()
            assert {stat.rpartition(")")[2].split()[0] for stat in stats} == {"T"}
        server.kill()
        assert all(question.exception() for question in questions)


def test_a_frozen_server_can_be_killed_and_stopped(server: Server) -> None:
    server.freeze()
    pid = server.pid
    server.stop()
    assert not server.running
    assert not alive(pid)


def test_a_durable_server_flushes_each_commit_and_a_fast_one_does_not(server: Server) -> None:
    flushes = "SELECT @@innodb_flush_log_at_trx_commit, @@innodb_doublewrite"
    assert ask(server.url, flushes)[0][0] == 2
    with Server(cache=CACHE, durable=True) as durable:
        assert tuple(map(str, ask(durable.url, flushes)[0])) in {("1", "1"), ("1", "ON")}


def test_options_of_the_caller_win() -> None:
    with Server(cache=CACHE, max_connections=17, extra=["--max-allowed-packet=2M"]) as server:
        assert ask(server.url, "SELECT @@max_connections, @@max_allowed_packet") == [(17, 2 * 1024 * 1024)]


def test_two_servers_live_side_by_side_and_share_no_folder(server: Server) -> None:
    with Server(cache=CACHE) as other:
        folders = "SELECT @@datadir, @@tmpdir, @@socket, @@pid_file"
        assert not set(ask(server.url, folders)[0]) & set(ask(other.url, folders)[0])
        assert other.port != server.port
        ask(other.url, "CREATE TABLE only_here (a INT)")
        assert ask(server.url, "SHOW TABLES") == []


def test_a_kept_directory_is_found_again_after_a_stop_and_after_a_crash(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Server(data=data) as first:
        ask(first.url, "CREATE TABLE t (a INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    with Server(data=data) as second:
        ask(second.url, "INSERT INTO t VALUES (2)")
        second.kill()
    with Server(data=data) as third:
        assert ask(third.url, "SELECT COUNT(*) FROM t") == [(2,)]


def test_a_kept_directory_has_one_user_at_a_time(tmp_path: Path) -> None:
    with Server(data=tmp_path / "data"), pytest.raises(ServerError, match="another sandbox is using"):
        Server(data=tmp_path / "data").start()


def test_a_data_directory_that_was_left_half_made_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "data.new-1" / "mysql").mkdir(parents=True)
    with Server(data=tmp_path / "data") as server:
        assert ask(server.url, "SELECT 1") == [(1,)]
        assert not list(tmp_path.glob("data.new-*"))


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    broken = Server(data=tmp_path / "data", extra=["--no-such-option"])
    with pytest.raises(ServerError, match=r"(?s)stopped during its start:.*no-such-option"):
        broken.start()
    assert not broken.running
    assert broken._place is None
    with Server(data=tmp_path / "data") as server:
        assert ask(server.url, "SELECT 1") == [(1,)]


def test_a_port_that_is_taken_is_an_error_when_it_was_asked_for(server: Server) -> None:
    with pytest.raises(ServerError, match="in use"):
        Server(cache=CACHE, port=server.port).start()


def test_a_port_that_was_snatched_away_is_exchanged(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    offers = iter([server.port])
    real = Server.start.__globals__["_free_port"]
    monkeypatch.setitem(Server.start.__globals__, "_free_port", lambda: next(offers, None) or real())
    with Server(cache=CACHE) as other:
        assert ask(other.url, "SELECT 1") == [(1,)]
        assert other.port != server.port


def test_a_machine_without_a_server_is_told_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mariadb, "_PLACES", ())
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("MYSQLD", raising=False)
    with pytest.raises(ServerError, match="make setup"):
        Server(cache=CACHE).start()


def test_a_mysql_server_gets_no_option_that_only_mariadb_knows(tmp_path: Path) -> None:
    mysql = mariadb.Program(
        path="/usr/sbin/mysqld", version="/usr/sbin/mysqld  Ver 8.4.6 for Linux on x86_64 (MySQL Community Server)"
    )
    command = mysql.command(tmp_path, durable=True, max_connections=9)
    assert not {"--skip-ssl", "--innodb-undo-tablespaces=0"} & set(command)
    assert {"--mysqlx=OFF", "--innodb-flush-log-at-trx-commit=1", "--max-connections=9"} <= set(command)
    assert "--secure-file-priv=NULL" in command, "Debian's folder for it may not be there, or not be ours to enter"


def test_no_two_mysql_servers_have_the_same_name(tmp_path: Path) -> None:
    tool = tmp_path / "mysqld"
    tool.write_text(
        '#!/bin/sh\nfor it; do case $it in --datadir=*) touch "${it#*=}/auto.cnf" "${it#*=}/ibdata1";; esac; done\n'
    )
    tool.chmod(0o755)
    (tmp_path / "data").mkdir()
    mariadb.Program(path=str(tool), version="mysqld  Ver 9.7.4 for Linux on x86_64").initialise(tmp_path / "data")
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["ibdata1"]


def test_two_servers_are_told_apart_by_what_they_say_themselves(server: Server) -> None:
    mine = "@@server_uuid" if not mariadb.find().is_mariadb else "CONCAT(@@hostname, @@port)"
    with Server(cache=CACHE) as other:
        assert ask(server.url, f"SELECT {mine}") != ask(other.url, f"SELECT {mine}")


ORPHAN = """
import socket, sys, threading, time
from pathlib import Path
from mailerd.sandbox.mariadb import Server
server = Server(cache=Path(sys.argv[1]))
starter = threading.Thread(target=server.start)
starter.start()
starter.join()
while Path(f"/proc/self/task/{starter.native_id}").exists():
    pass
for _ in range(20):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        assert connection.recv(64), "the server died with the thread that started it"
print(server.pid, server._place, flush=True)
time.sleep(600)
"""


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[str]]:
    """Another process which has started a server from a thread that ended at once."""
    owner = subprocess.Popen([sys.executable, "-c", ORPHAN, str(CACHE)], stdout=subprocess.PIPE, text=True)
    yield owner
    owner.kill()
    owner.communicate()


def test_a_server_outlives_the_thread_but_not_the_process_that_started_it(owner: subprocess.Popen[str]) -> None:
    assert owner.stdout is not None
    pid, place = owner.stdout.readline().split()
    assert alive(int(pid))
    os.kill(owner.pid, signal.SIGKILL)
    assert eventually(lambda: not alive(int(pid)))
    assert Path(place).exists()
    with Server(cache=CACHE):
        assert not Path(place).exists(), "the next start sweeps up what was left"


@pytest.mark.parametrize("room, where", [(0, mariadb._MEMORY), (2**60, mariadb._DISK)])
def test_a_throw_away_server_lies_in_memory_where_that_has_room(
    monkeypatch: pytest.MonkeyPatch, room: int, where: Path
) -> None:
    monkeypatch.setattr(mariadb, "_ROOM", room)
    in_memory = mariadb.find().is_mariadb and mariadb._MEMORY.is_dir()
    with Server(cache=CACHE) as server:
        assert server._place is not None
        assert server._place.parent == (where if in_memory else mariadb._DISK)
    with Server(cache=CACHE, durable=True) as server:
        assert server._place is not None
        assert server._place.parent == mariadb._DISK, "what must be on the disk is not in memory"


def test_a_test_gets_an_empty_database_of_its_own(fresh_database_url: str, mariadb: Server) -> None:
    assert ask(fresh_database_url, "CREATE TABLE t (a INT)", "SHOW TABLES") == [("t",)]
    assert fresh_database_url != mariadb.url


def test_the_next_test_gets_another_one(fresh_database_url: str) -> None:
    assert ask(fresh_database_url, "SHOW TABLES") == []
