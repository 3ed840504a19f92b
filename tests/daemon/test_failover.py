"""A failover to a replica that was behind: what the daemon knows goes out once, whatever the database has forgotten."""

import asyncio
from pathlib import Path

import pytest
from yarl import URL

from mailerd.app import Daemon, build
from mailerd.config import Settings
from mailerd.sandbox.google import COMPOSE, METADATA, SEND, FakeGoogle, Fault, RunningServer
from mailerd.store.db.database import Database
from tests.conftest import CACHE
from tests.support.daemon import running, settings, sign_in
from tests.support.heard import Heard
from tests.support.proxy import Proxy
from tests.support.replicated import replicated
from tests.support.rows import post, states

MESSAGES = 60
DOUBTS = 6


def through(known: Settings, url: str, port: int) -> Settings:
    near = known.database.model_copy(update={"url": str(URL(url).with_port(port))})
    return known.model_copy(update={"database": near})


@pytest.mark.parametrize("scopes", [(COMPOSE,), (SEND, METADATA)])
async def test_messages_that_a_failover_has_forgotten_are_sent_once(
    database_url: str,
    served: RunningServer,
    google: FakeGoogle,
    credentials: Path,
    heard: Heard,
    scopes: tuple[str, ...],
) -> None:
    sign_in(google, credentials, scopes=scopes)
    google.change_rules(latency_s=0.1)
    # Some are in Google's hands while the database goes.
    google.fault(
        Fault(
            kind="latency", method="messages.send" if SEND in scopes else "drafts.send", seconds=2.0, skip=12, count=3
        )
    )
    known = settings(
        database_url, served, credentials, runner={"lease": 20, "poll_interval": 0.1, "concurrency": 4},
        gmail={"request_timeout": 4.0}, database={"url": database_url, "connect_timeout": 1, "statement_timeout": 4},
    )  # fmt: skip
    with replicated(CACHE) as pair:
        async with Proxy(pair.primary.port) as proxy:
            near = through(known, pair.primary.url, proxy.port)
            async with running(near, heard) as daemon:
                job = await post(daemon.database, recipients=MESSAGES)
                daemon.runner.wake()
                await heard.wait_for("message_sent", times=5)
                await asyncio.to_thread(pair.lag)
                await heard.wait_for("message_sent", times=len(heard.of("message_sent")) + 5)
                pair.primary.kill()
                await asyncio.to_thread(pair.fail_over)
                proxy.lead_to(pair.replica.port)
                await proxy.reset_all()
                told = await heard.wait_for("outcomes_rewritten")
                assert told["lost"] > 0
                await heard.wait_for("job_finished")
            database = Database(known.database.model_copy(update={"url": pair.replica.url}), events=daemon.store_events)
            assert await states(database, job) == {"sent": MESSAGES}
            await database.close()
    assert google.duplicates() == {}
    assert len({message.key for message in google.sent}) == MESSAGES


@pytest.mark.parametrize("scopes", [(COMPOSE,), (COMPOSE, METADATA), (SEND, METADATA)])
async def test_doubts_that_a_failover_has_forgotten_are_looked_for_and_not_sent_again(
    database_url: str,
    served: RunningServer,
    google: FakeGoogle,
    credentials: Path,
    heard: Heard,
    scopes: tuple[str, ...],
) -> None:
    sign_in(google, credentials, scopes=scopes)
    google.fault(Fault(kind="reset_after", method="messages.send" if SEND in scopes else "drafts.send", count=DOUBTS))
    known = settings(
        # It claims when the test wakes it, and not before the replica lags: what was replicated is not forgotten.
        database_url, served, credentials, runner={"lease": 20, "poll_interval": 60.0, "concurrency": DOUBTS},
        gmail={"request_timeout": 2.0}, database={"url": database_url, "connect_timeout": 1, "statement_timeout": 4},
    )  # fmt: skip
    with replicated(CACHE) as pair:
        async with Proxy(pair.primary.port) as proxy:
            near = through(known, pair.primary.url, proxy.port)
            async with running(near, heard) as daemon:
                job = await post(daemon.database, recipients=DOUBTS)
                await asyncio.to_thread(pair.until_followed)
                await asyncio.to_thread(pair.lag)
                waking = asyncio.create_task(_keep_awake(daemon))
                await heard.wait_for("message_unsure", times=DOUBTS)
                await asyncio.to_thread(pair.fail_over)
                proxy.lead_to(pair.replica.port)
                await proxy.reset_all()
                told = await heard.wait_for("outcomes_rewritten")
                assert told["lost"] == DOUBTS
                await heard.wait_for("job_finished")
                waking.cancel()
                database = daemon.database
                assert await states(database, job) == {"sent": DOUBTS}
    assert google.duplicates() == {}
    assert len({message.key for message in google.sent}) == DOUBTS


async def _keep_awake(daemon: Daemon) -> None:
    while True:
        daemon.runner.wake()
        await asyncio.sleep(0.1)


def test_a_daemons_heartbeat_tells_a_new_server_what_it_has_sent(
    database_url: str, served: RunningServer, credentials: Path, heard: Heard
) -> None:
    daemon = build(settings(database_url, served, credentials), heard)
    assert daemon.daemons.replay_log is daemon.claims.replay_log
