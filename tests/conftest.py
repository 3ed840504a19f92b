"""Fixtures for every test: a private database server, and a database on it that is migrated and empty."""

import gc
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path

import pymysql
import pytest
from hypothesis import settings

from mailerd.config import DatabaseSettings
from mailerd.events.process import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.database import Database
from tests.support.heard import Heard
from tests.support.ports import free_port
from tests.support.prepared import PreparedProcess, forked_children, prepared_for_children
from tests.support.recycled import RecycledDatabase

# A run that decides about a change must not differ from the one before it by chance, and none fails because the machine
# was busy during one of a test's examples.
settings.register_profile("mailerd", derandomize=bool(os.environ.get("CI")), deadline=None)
settings.load_profile("mailerd")

# A container may ask Python to keep nothing that it compiles. Then each process of a run would compile all tests, and
# each daemon and command that a test starts all of mailerd.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".cache"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Make the catalogue of texts of its source, which may be newer; once, before the run starts its processes."""
    if hasattr(session.config, "workerinput"):
        return
    subprocess.run([sys.executable, ROOT / "tools" / "messages.py"], check=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each process of a run begin with its part of the slow tests: at the end all others would wait for one.

    `--dist worksteal` gives the first process the first tests, the second one the next, and so on.
    """
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    slow = [it for it in items if it.get_closest_marker("slow")]
    others = iter([it for it in items if not it.get_closest_marker("slow")])
    total = len(items)
    if processes > 1:
        items.clear()
        for number in range(processes):
            own = slow[number::processes]
            part = (total - len(items)) // (processes - number)
            items += [*own, *islice(others, max(0, part - len(own)))]
        items += others


# Nothing of what is imported and collected is garbage, and looking for some took a fifth of the time.
gc.disable()


def pytest_collection_finish() -> None:
    """Keep the suite itself, 700,000 objects, out of each full garbage collection: one held up a test's loop for 0.7 s.

    The daemon does the same with what it has loaded, so a test sees the stalls that a daemon has.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """One server for each process of the run, of which `make test` starts several.

    A test that kills it need not clean up: the next database starts it again.
    """
    with Server(cache=CACHE, port=free_port()) as server:
        yield server


@pytest.fixture(scope="session")
def recycled(mariadb: Server) -> RecycledDatabase:
    return RecycledDatabase(mariadb)


@pytest.fixture
def database_url(mariadb: Server, recycled: RecycledDatabase) -> Iterator[str]:
    """The address of a database that is migrated and empty, for the user that a daemon would be.

    It serves one test after the other. One that a test has altered, or whose server it has killed, serves no other.
    """
    if not mariadb.running:
        mariadb.start()
    yield recycled.take()
    recycled.give_back()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A test's own way into that database."""
    settings = DatabaseSettings(url=database_url, connect_timeout=20, statement_timeout=20)
    database = Database(settings, events=StoreEvents(Heard()))
    yield database
    await database.close()


@pytest.fixture(scope="session")
def for_children() -> Iterator[PreparedProcess]:
    with prepared_for_children() as process:
        yield process


@pytest.fixture
def forked(for_children: PreparedProcess) -> Iterator[None]:
    """What renders and what reads jobs is a process as ever, but one that has imported what it needs."""
    with forked_children(for_children):
        yield


@pytest.fixture
def fresh_database_url(mariadb: Server) -> Iterator[str]:
    """The address of a database without any table, of this test's own."""
    if not mariadb.running:
        mariadb.start()
    name = f"mailerd_{secrets.token_hex(6)}"
    _as_admin(mariadb, f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    yield mariadb.url_of(name)
    # Where the server was killed its locks are gone too; the database itself goes with the server.
    if mariadb.running:
        mariadb.thaw()
        _drop(mariadb, name)


def _drop(server: Server, name: str) -> None:
    """Drop a database whatever still holds locks in it."""
    for (connection,) in _as_admin(server, f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"):
        try:
            _as_admin(server, f"KILL {connection}")
        except pymysql.err.OperationalError as error:
            if error.args[0] != 1094:  # "unknown thread id": it went by itself in between
                raise
    _as_admin(server, f"DROP DATABASE {name}")


def _as_admin(server: Server, statement: str) -> list[tuple[int]]:
    connection = pymysql.connect(
        host="127.0.0.1",
        port=server.port,
        user="admin",
        password=server.password,
        autocommit=True,
        connect_timeout=10,
        read_timeout=30,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SET lock_wait_timeout = 10")
        cursor.execute(statement)
        return list(cursor.fetchall())
