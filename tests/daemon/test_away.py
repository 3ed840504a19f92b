"""The database or Google goes away in the middle: nothing is lost, nothing twice, and the log says it in few words."""

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import ClientSession

from mailerd.app import build
from mailerd.config import Settings
from mailerd.errors import ListenError
from mailerd.events.process import StoreEvents
from mailerd.sandbox.google import SEND, FakeGoogle, RunningServer, serve
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.database import Database
from mailerd.store.write.api_keys import ApiKeys
from mailerd.worker.runner import Runner
from tests.support.daemon import running, settings, sign_in
from tests.support.heard import Heard
from tests.support.own_time import own_time
from tests.support.ports import free_port
from tests.support.read_only import read_only
from tests.support.rows import post, query, states

MANY = 60
"""Messages that are not all sent before a slow machine has demoted its database."""


@pytest.fixture
def known(database_url: str, served: RunningServer, credentials: Path) -> Settings:
    return settings(
        database_url, served, credentials, runner={"lease": 20, "poll_interval": 0.1, "concurrency": 4},
        database={"url": database_url, "connect_timeout": 1, "statement_timeout": 2},
    )  # fmt: skip


@pytest.mark.parametrize("trouble", ["freeze", "kill"])
async def test_what_google_answered_meanwhile_is_recorded_when_the_database_is_back(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, mariadb: Server, trouble: str
) -> None:
    google.change_rules(latency_s=0.2)
    job = await post(database, recipients=12)
    async with running(known, heard):
        await heard.wait_for("message_sent", times=4)
        getattr(mariadb, trouble)()
        await heard.wait_for("database_unavailable")
        accepted = len(google.sent)
        if trouble == "freeze":
            mariadb.thaw()
        else:
            await asyncio.to_thread(mariadb.start)  # MySQL takes seconds, and Google answers from this loop
        await heard.wait_for("job_finished")
    assert accepted >= 4
    assert await states(database, job) == {"sent": 12}
    assert google.duplicates() == {}
    assert len(google.sent) == 12
    assert len(heard.of("database_back")) == len(heard.of("database_unavailable"))
    assert await query(database, "SELECT DISTINCT attempts FROM job_recipients") == [(1,)]


@pytest.mark.parametrize("mode", ["draft", "direct"])
async def test_messages_in_hand_while_the_database_takes_no_writes_are_sent_once(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, mariadb: Server, tmp_path: Path, mode: str
) -> None:
    if mode == "direct":
        sign_in(google, tmp_path / "credentials", scopes=(SEND,))
    google.change_rules(latency_s=0.2)
    job = await post(database, recipients=MANY)
    async with running(known, heard):
        await heard.wait_for("message_sent", times=4)
        async with read_only(mariadb):
            await heard.wait_for("database_unavailable")
            before, connections = len(google.sent), await _connections(database)
            with pytest.raises(AssertionError):  # none of those in hand can be recorded, and no other is handed over
                await heard.wait_for("database_back", within=2.0)
            assert len(google.sent) - before <= known.runner.concurrency
            assert await _connections(database) - connections < 60  # a refused try costs two: nobody tries in a hurry
            recorded = len(heard.of("message_sent"))
        await heard.wait_for("job_finished")
    assert recorded < MANY
    assert await states(database, job) == {"sent": MANY}
    assert google.duplicates() == {}
    assert len(google.sent) == MANY
    assert await query(database, "SELECT DISTINCT attempts FROM job_recipients") == [(1,)]
    assert len(heard.of("database_unavailable")) == len(heard.of("database_back")) == 1


async def _connections(database: Database) -> int:
    return int((await query(database, "SHOW GLOBAL STATUS LIKE 'Connections'"))[0][1])


async def test_a_daemon_that_starts_on_a_read_only_database_waits_until_it_takes_writes(
    known: Settings, database: Database, heard: Heard, mariadb: Server
) -> None:
    job = await post(database, recipients=2)
    async with read_only(mariadb):
        starting = asyncio.create_task(_run(known, heard))
        await heard.wait_for("database_unavailable")
        assert heard.of("runner_started") == []
    await starting
    assert await states(database, job) == {"sent": 2}
    assert heard.names().count("database_connected") == 1
    assert len(heard.of("database_unavailable")) == len(heard.of("database_back")) == 1


async def test_a_daemon_starts_without_its_database_and_goes_on_when_it_is_there(
    known: Settings, database: Database, heard: Heard, mariadb: Server
) -> None:
    job = await post(database, recipients=2)
    mariadb.kill()
    starting = asyncio.create_task(_run(known, heard))
    failed = await heard.wait_for("database_attempt_failed", times=2)
    assert (failed["attempt"], failed["attempts"], failed["again_in"]) == (2, 3, 2.0)
    await heard.wait_for("database_unreachable")
    await asyncio.to_thread(mariadb.start)
    await starting
    assert await states(database, job) == {"sent": 2}


async def _run(known: Settings, heard: Heard) -> None:
    async with running(known, heard):
        await heard.wait_for("job_finished")


async def test_google_out_of_reach_costs_no_attempt_and_is_told_once(
    database_url: str, database: Database, google: FakeGoogle, tmp_path: Path, heard: Heard
) -> None:
    sign_in(google, tmp_path / "credentials")
    port = free_port()
    async with AsyncExitStack() as first:
        url = await first.enter_async_context(serve(google, port=port))
        known = settings(database_url, url, tmp_path / "credentials", runner={"poll_interval": 0.1})
        async with running(known, heard):
            await post(database, recipients=1)
            await heard.wait_for("job_finished")  # it has a token
            await first.aclose()
            job = await post(database, recipients=5)
            await heard.wait_for("google_unreachable")
            await heard.wait_for("message_released", times=6)  # tried again, one message at a time
            async with serve(google, port=port):
                await heard.wait_for("job_finished", times=2)
    assert await states(database, job) == {"sent": 5}
    assert await query(database, "SELECT DISTINCT attempts FROM job_recipients") == [(1,)]
    assert len(heard.of("google_unreachable")) == 1
    assert len(heard.of("google_back")) == 1


async def test_a_token_endpoint_out_of_reach_costs_no_attempt_and_is_told_once(
    database_url: str, database: Database, google: FakeGoogle, tmp_path: Path, heard: Heard
) -> None:
    sign_in(google, tmp_path / "credentials")
    port = free_port()
    async with serve(google, port=port) as first:
        known = settings(database_url, first, tmp_path / "credentials", runner={"poll_interval": 0.1})
    job = await post(database, recipients=5)
    async with running(known, heard):
        await heard.wait_for("sender_unreachable")
        await heard.wait_for("message_released", times=7)  # tried again, one message at a time
        async with serve(google, port=port):
            await heard.wait_for("job_finished")
    assert await states(database, job) == {"sent": 5}
    assert await query(database, "SELECT DISTINCT attempts FROM job_recipients") == [(1,)]
    assert len(heard.of("sender_unreachable")) == len(heard.of("sender_reachable")) == 1
    assert heard.of("google_unreachable") == []


async def test_two_daemons_share_a_job_without_a_double(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    """In one process the second runner would say that one runs already; that guard is lifted here."""
    google.change_rules(latency_s=0.02)
    other = Heard()
    async with running(known, heard):
        Runner._running = None  # not by monkeypatch, which would put the first one back at the end
        async with running(known, other):
            await post(database, recipients=120)
            finished = [asyncio.create_task(one.wait_for("job_finished")) for one in (heard, other)]
            await asyncio.wait(finished, return_when=asyncio.FIRST_COMPLETED)
            for waiting in finished:
                waiting.cancel()
    owners = dict(await query(database, "SELECT daemon_id, COUNT(*) FROM job_recipients GROUP BY daemon_id"))
    assert len(owners) == 2
    assert google.duplicates() == {}
    assert len(google.sent) == 120
    assert len(heard.of("job_finished")) + len(other.of("job_finished")) == 1


async def test_a_daemon_whose_port_is_taken_leaves_no_trace_in_the_database(
    known: Settings, fresh_database_url: str, heard: Heard
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        intake = known.intake.model_copy(update={"port": taken.getsockname()[1]})
        tables = known.database.model_copy(update={"url": fresh_database_url})
        with pytest.RaisesGroup(ListenError, flatten_subgroups=True):
            await build(known.model_copy(update={"intake": intake, "database": tables}), heard).run(asyncio.Event())
    empty = Database(tables, events=StoreEvents(heard))
    assert await query(empty, "SHOW TABLES") == []
    await empty.close()


async def test_a_question_to_a_frozen_database_is_answered_503_within_its_time(
    known: Settings, database: Database, heard: Heard, mariadb: Server
) -> None:
    await post(database, recipients=1)
    secret = await ApiKeys(database, timeout=5).create("shop")
    async with running(known, heard), ClientSession(headers={"X-API-Key": secret}) as client:
        where = f"{heard.of('intake_listening')[0]['where']}/api/jobs"
        async with client.get(where) as answer:
            assert answer.status == 200
        mariadb.freeze()
        try:
            began = own_time()
            async with client.get(where) as answer:
                assert answer.status == 503
            assert own_time() - began < known.database.connect_timeout + 2
        finally:
            mariadb.thaw()


async def test_a_daemon_whose_port_is_taken_claims_nothing(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.change_rules(latency_s=0.2)
    job = await post(database, recipients=8)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = known.model_copy(update={"intake": known.intake.model_copy(update={"port": port})})
        daemon = build(settings, heard)
        with pytest.RaisesGroup(ListenError, flatten_subgroups=True):
            await daemon.run(asyncio.Event())
    await daemon.database.close()
    assert await states(database, job) == {"waiting": 8}
    assert google.sent == []
    assert heard.of("runner_started") == []
