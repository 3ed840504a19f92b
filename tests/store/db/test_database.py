"""The way into the pool: absence is told once, what may be repeated is, nobody waits for a database that is away."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from yarl import URL

from mailerd.config import DatabaseSettings
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.base import registered_events
from mailerd.events.process import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.db import database as database_module
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from tests.support.beats import counting_beats
from tests.support.dialect import is_mariadb
from tests.support.heard import PATIENCE, Heard
from tests.support.own_time import own_time
from tests.support.proxy import Proxy
from tests.support.rows import query

DEADLOCK = "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'Deadlock found'"


def settings(port: int, **more: Any) -> DatabaseSettings:
    return DatabaseSettings(url=f"mysql://u:p@127.0.0.1:{port}/mailerd", **more)


def said(heard: Heard) -> list[str]:
    """Every event's words, as the journal writes them."""
    return [registered_events()[name].words(fields) for name, fields in heard.events]


def reading(statement: str = "SELECT 1") -> Callable[[Cursor], Awaitable[Any]]:
    async def work(cursor: Cursor) -> Any:
        await cursor.execute(statement)
        return (await cursor.fetchone())[0]

    return work


class Failing:
    """Work that fails so often with a real error packet, and then counts itself."""

    def __init__(self, times: int, *, statement: str = DEADLOCK) -> None:
        self.calls = 0
        self._times = times
        self._statement = statement

    async def __call__(self, cursor: Cursor) -> int:
        self.calls += 1
        if self.calls <= self._times:
            await cursor.execute(self._statement)
        await cursor.execute("SELECT 1")
        return self.calls


async def test_a_start_that_fails_again_and_again_is_told_at_length_once(
    proxy: Proxy, database_url: str, heard: Heard
) -> None:
    await proxy.refuse()
    url = str(URL(database_url).with_port(proxy.port))
    database = Database(DatabaseSettings(url=url, connect_attempts=1), events=StoreEvents(heard))
    for _ in range(3):
        with pytest.raises(DatabaseAwayError):
            await database.open()
    assert heard.names() == ["database_unreachable"]
    await proxy.heal()
    await database.open()
    assert heard.names()[1:] == ["database_back", "database_connected"]
    await database.close()


async def test_three_attempts_at_start_are_told_one_by_one_and_the_last_at_error(proxy: Proxy, heard: Heard) -> None:
    await proxy.refuse()
    database = Database(settings(proxy.port, connect_attempts=3), events=StoreEvents(heard))
    start, began = own_time(), time.monotonic()
    with pytest.raises(DatabaseAwayError):
        await database.open()
    assert time.monotonic() - began >= 3.0
    assert own_time() - start < 6.0  # another wait would be one of 4 s
    cause = "Can't connect to MySQL server on '127.0.0.1': Connection refused"
    where = f"database 127.0.0.1:{proxy.port}"
    first, second, last = said(heard)
    assert first == f"{where}: attempt 1/3 failed: {cause}; next in 1 s"
    assert second == f"{where}: attempt 2/3 failed: {cause}; next in 2 s"
    assert last.startswith(f"{where}: attempt 3/3 failed: {cause}; check that the server is running")
    assert [registered_events()[name].level for name in heard.names()] == ["warning", "warning", "error"]
    assert isinstance(heard.events[-1][1]["error"], DatabaseAwayError)
    assert database.unavailable
    await database.close()


async def test_a_port_that_never_greets_is_told_with_its_time_out(proxy: Proxy, heard: Heard) -> None:
    proxy.mute()
    database = Database(settings(proxy.port, connect_timeout=0.2, connect_attempts=1), events=StoreEvents(heard))
    with pytest.raises(DatabaseAwayError):
        await database.open()
    assert "attempt 1/1 failed: no response within 0.2 s; check" in said(heard)[0]


@pytest.mark.skipif(not is_mariadb(), reason="MySQL asks for the plain password, see test_rogue_server.py")
async def test_a_wrong_password_is_not_tried_again(mariadb: Server, database_url: str, heard: Heard) -> None:
    url = str(URL(database_url).with_password("wrong"))
    database = Database(DatabaseSettings(url=url), events=StoreEvents(heard))
    with pytest.raises(DatabaseAwayError):
        await database.open()
    (words,) = said(heard)
    assert "attempt 1/1 failed: Access denied for user 'mailerd'@'127.0.0.1' (using password: YES)" in words
    assert "wrong" not in words.replace("using password", "")
    assert mariadb.password not in words


async def test_a_database_that_comes_late_is_waited_for(proxy: Proxy, database_url: str, heard: Heard) -> None:
    await proxy.refuse()
    url = str(URL(database_url).with_port(proxy.port))
    database = Database(DatabaseSettings(url=url), events=StoreEvents(heard))
    opening = asyncio.create_task(database.open())
    await heard.wait_for("database_attempt_failed")
    await proxy.heal()
    await opening
    assert heard.names() == ["database_attempt_failed", "database_connected"]
    assert ("MariaDB" in heard.of("database_connected")[0]["version"]) == is_mariadb()
    assert not database.unavailable
    await database.close()


async def test_absence_and_return_are_told_once_each_and_reminded_of_now_and_then(
    proxy: Proxy, far: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "REMIND_INTERVAL", 0.2)
    await proxy.refuse()
    await proxy.reset_all()
    patient = [asyncio.create_task(far.retry_until_committed(Failing(0), what="record")) for _ in range(3)]
    start = time.monotonic()
    await heard.wait_for("database_still_unavailable", times=2)
    assert time.monotonic() - start >= 0.4
    assert far.unavailable
    await proxy.heal()
    await asyncio.gather(*patient)
    names = heard.names()
    assert names[0] == "database_unavailable"
    assert names[-1] == "database_back"
    assert set(names[1:-1]) == {"database_still_unavailable"}
    assert not far.unavailable
    back = heard.of("database_back")[0]
    assert 0.4 < back["seconds"] < 10
    assert len(heard.of("database_still_unavailable")) <= back["seconds"] / 0.2


async def test_reminders_do_not_come_more_often_than_every_half_minute(
    proxy: Proxy, far: Database, heard: Heard
) -> None:
    await proxy.refuse()
    await proxy.reset_all()
    for _ in range(5):
        with pytest.raises(DatabaseAwayError):
            await far.transaction(reading(), what="look")
    assert heard.names() == ["database_unavailable"]


async def test_ask_refuses_at_once_while_the_database_is_away(proxy: Proxy, far: Database, heard: Heard) -> None:
    await proxy.black_hole()
    with pytest.raises(DatabaseAwayError):
        await far.request(reading(), what="jobs.accept", bound=0.3)
    accepted, start = proxy.accepted, own_time()
    with pytest.raises(DatabaseAwayError, match=r"jobs.accept: queue: .* is unavailable") as caught:
        await far.request(reading(), what="jobs.accept")
    assert own_time() - start < 0.5  # a connection would be waited for 1.5 s
    assert (caught.value.retry, caught.value.in_doubt) == (True, False)
    assert proxy.accepted - accepted <= 1  # nobody tried, but for the KILL of what was cut off before
    await proxy.heal()
    assert await far.transaction(reading(), what="look") == 1
    assert await far.request(reading(), what="jobs.accept") == 1
    assert [name for name in heard.names() if name != "kill_failed"] == ["database_unavailable", "database_back"]


async def test_ask_tries_a_deadlock_again_and_says_so(database: Database, heard: Heard) -> None:
    heard.events.clear()
    assert await database.request(Failing(2), what="jobs.accept") == 3
    assert heard.names() == ["transaction_repeated"] * 2
    assert "transaction jobs.accept repeated in 0." in said(heard)[0]
    assert "1213" in said(heard)[0]


async def test_ask_gives_up_after_four_tries(database: Database) -> None:
    failing = Failing(99)
    with pytest.raises(DatabaseError) as caught:
        await database.request(failing, what="jobs.accept")
    assert caught.value.errno == 1213
    assert failing.calls == 4


@pytest.mark.parametrize("answer", ["lost", "interrupted"])
async def test_ask_never_repeats_what_is_in_doubt(proxy: Proxy, far: Database, answer: str) -> None:
    calls = 0

    async def work(cursor: Cursor) -> None:
        async def interrupted() -> None:
            await cursor.execute("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1317, MESSAGE_TEXT = 'interrupted'")

        nonlocal calls
        calls += 1
        await cursor.execute("INSERT INTO t VALUES (1)")
        if answer == "lost":
            proxy.cut_after(0)
        else:
            cursor.connection.driver.commit = interrupted

    with pytest.raises(DatabaseError) as caught:
        await far.request(work, what="jobs.accept")
    assert caught.value.in_doubt
    assert calls == 1


async def test_insist_asks_whether_a_try_in_doubt_was_committed_and_the_work_is_done_once(
    proxy: Proxy, far: Database
) -> None:
    tries = list[str]()

    async def work(cursor: Cursor) -> str:
        tries.append("work")
        await cursor.execute("INSERT INTO t VALUES (1)")
        proxy.cut_after(0)
        return "done"

    async def proof(cursor: Cursor, result: str) -> bool:
        tries.append(f"was it {result}?")
        await cursor.execute("SELECT COUNT(*) FROM t WHERE id = 1")
        return bool((await cursor.fetchone())[0])

    assert await far.retry_until_committed(work, what="record", proof=proof) == "done"
    assert tries == ["work", "was it done?"]
    assert await query(far, "SELECT id FROM t") == [(1,)]


class Tries:
    """Work of several tries: what each of them meets, and what is asked before it of the one that was in doubt."""

    def __init__(self, proxy: Proxy, *meets: str) -> None:
        self._proxy, self._meets = proxy, [*meets]
        self.log = list[str]()

    async def __call__(self, cursor: Cursor) -> str:
        meets = self._meets.pop(0) if self._meets else "nothing"
        self.log.append(meets)
        if meets == "deadlock":
            await cursor.execute(DEADLOCK)
        elif meets == "doubt":
            self._proxy.cut_after(0)
        return meets

    async def was_committed(self, _: Cursor, result: str) -> bool:
        self.log.append(f"{result}?")
        return False


async def test_insist_remembers_a_doubt_over_later_failures_that_are_none(proxy: Proxy, far: Database) -> None:
    tries = Tries(proxy, "doubt", "deadlock")
    assert await far.retry_until_committed(tries, what="record", proof=tries.was_committed) == "nothing"
    assert tries.log == ["doubt", "doubt?", "deadlock", "doubt?", "nothing"]


async def test_ascertain_leaves_what_has_surely_failed_to_its_caller(database: Database) -> None:
    failing = Failing(99)
    with pytest.raises(DatabaseError) as caught:
        await database.retry_until_committed(failing, what="unconfirmed.settle", only_in_doubt=True)
    assert caught.value.errno == 1213
    assert failing.calls == 1


async def test_ascertain_repeats_what_is_in_doubt_over_later_failures_that_are_none(
    proxy: Proxy, far: Database
) -> None:
    tries, heartbeat = Tries(proxy, "doubt", "deadlock"), counting_beats()
    assert await far.retry_until_committed(tries, what="unconfirmed.settle", only_in_doubt=True) == "nothing"
    assert (tries.log, heartbeat.since) == (["doubt", "deadlock", "nothing"], 2)


async def test_insist_repeats_what_a_rollback_has_undone(database: Database) -> None:
    failing = Failing(3)
    assert await database.retry_until_committed(failing, what="record") == 4
    assert failing.calls == 4


async def test_insist_outlasts_a_server_that_refuses_the_log_in(database: Database, heard: Heard) -> None:
    """As one does whose password is being changed: what waits to be recorded must not be dropped."""
    denied = "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1045, MESSAGE_TEXT = 'Access denied'"
    heard.events.clear()
    assert await database.retry_until_committed(Failing(2, statement=denied), what="record") == 3
    assert heard.names() == ["database_unavailable", "database_back"]


async def test_insist_does_not_repeat_what_no_repetition_can_cure(database: Database) -> None:
    failing = Failing(99, statement="SELECT nothing")
    with pytest.raises(DatabaseError) as caught:
        await database.retry_until_committed(failing, what="record")
    assert caught.value.errno == 1054
    assert failing.calls == 1


async def test_insist_leaves_what_it_is_told_to_leave_also_where_an_earlier_try_is_in_doubt(
    proxy: Proxy, far: Database
) -> None:
    tries = Tries(proxy, "deadlock", "doubt", "deadlock")
    with pytest.raises(DatabaseError):
        await far.retry_until_committed(tries, what="record", raise_on=frozenset({1213}))
    with pytest.raises(DatabaseError):
        await far.retry_until_committed(tries, what="record", raise_on=frozenset({1213}))
    assert tries.log == ["deadlock", "doubt", "deadlock"]


async def test_insist_outlasts_a_server_that_is_killed(mariadb: Server, database: Database, heard: Heard) -> None:
    await asyncio.to_thread(mariadb.kill)
    insisting = asyncio.create_task(database.retry_until_committed(Failing(0), what="record"))
    await heard.wait_for("database_unavailable")
    await asyncio.to_thread(mariadb.start)
    assert await insisting == 1
    assert heard.names()[-1] == "database_back"


async def test_insist_can_be_cancelled_while_it_waits(proxy: Proxy, far: Database, heard: Heard) -> None:
    await proxy.refuse()
    await proxy.reset_all()
    insisting = asyncio.create_task(far.retry_until_committed(Failing(0), what="record"))
    await heard.wait_for("database_unavailable")
    insisting.cancel()
    await asyncio.wait([insisting], timeout=PATIENCE)
    assert insisting.cancelled()


async def test_a_look_asks_outside_any_transaction_and_leaves_none(database_url: str, heard: Heard) -> None:
    database = Database(DatabaseSettings(url=database_url), events=StoreEvents(heard))

    async def inside(cursor: Cursor) -> bool:
        await cursor.execute("SELECT 1")
        return bool(cursor.connection.driver.get_transaction_status())  # as the server said with its answer

    assert not await database.read(inside, what="look")
    assert await database.transaction(inside, what="work")
    assert not await database.read(inside, what="look")
    await database.close()


class Counting:
    """Where transactions are counted."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def database_call(self, *, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.outcomes.append(outcome)


@pytest.fixture
async def counted(database_url: str, heard: Heard) -> AsyncIterator[tuple[Database, Counting]]:
    counting = Counting()
    it = Database(DatabaseSettings(url=database_url), events=StoreEvents(heard), meter=counting)
    yield it, counting
    await it.close()


@pytest.mark.parametrize("way", ["transaction", "read"])
async def test_what_the_work_itself_raises_is_no_failure_of_the_database(
    counted: tuple[Database, Counting], way: str
) -> None:
    database, counting = counted

    async def work(cursor: Cursor) -> None:
        await cursor.execute("SELECT 1")
        raise LookupError("there is no such job")

    with pytest.raises(LookupError):
        await getattr(database, way)(work, what="pause a job")
    assert counting.outcomes == ["ok"]


async def test_a_call_that_its_caller_gives_up_is_cut_off_and_not_in_doubt(
    counted: tuple[Database, Counting],
) -> None:
    database, counting = counted
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await database.read(reading("SELECT SLEEP(5)"), what="look")
    assert counting.outcomes == ["cut_off"]
    with pytest.raises(DatabaseAwayError):
        await database.read(reading("SELECT SLEEP(5)"), what="look", bound=1.0)
    assert counting.outcomes == ["cut_off", "unavailable"]
    with pytest.raises(DatabaseError):
        await database.read(reading("SELECT nothing"), what="look")
    assert counting.outcomes[2:] == ["refused"]
