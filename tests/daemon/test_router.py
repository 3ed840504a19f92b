"""One address before a replicated database, as a router or a virtual address is: daemons go where it leads."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from yarl import URL

from mailerd.sandbox.google import FakeGoogle, RunningServer
from tests.conftest import CACHE
from tests.support.cluster import SemiSynchronous, needs_mariadb, semi_synchronous
from tests.support.daemon import running, settings, sign_in
from tests.support.heard import Heard
from tests.support.proxy import Proxy
from tests.support.replicated import as_admin
from tests.support.rows import post

pytestmark = needs_mariadb

MESSAGES = 20


@pytest.fixture
def cluster() -> Iterator[SemiSynchronous]:
    with semi_synchronous(CACHE) as cluster:
        yield cluster


@pytest.mark.parametrize("end", ["switched in good order", "frozen", "killed"])
async def test_messages_go_on_where_the_router_leads_after_the_primary_is(
    cluster: SemiSynchronous,
    served: RunningServer,
    google: FakeGoogle,
    credentials: Path,
    heard: Heard,
    end: str,
) -> None:
    sign_in(google, credentials)
    google.change_rules(latency_s=0.1)
    old = cluster.primary
    async with Proxy(old.port) as router:
        url = str(URL(f"mysql://mailerd:{old.password}@127.0.0.1/mailerd").with_port(router.port))
        known = settings(
            url, served, credentials, runner={"lease": 20, "poll_interval": 0.1, "concurrency": 4},
            database={"url": url, "connect_timeout": 1, "statement_timeout": 4},
        )  # fmt: skip
        async with running(known, heard) as daemon:
            await post(daemon.database, recipients=MESSAGES)
            daemon.runner.wake()
            await heard.wait_for("message_sent", times=5)
            match end:
                case "switched in good order":  # the connections that are open still lead to what is a replica now
                    await asyncio.to_thread(cluster.switch_over)
                case "frozen":
                    old.freeze()
                    await asyncio.to_thread(cluster.fail_over)
                case _:
                    old.kill()
                    await asyncio.to_thread(cluster.fail_over)
            router.lead_to(cluster.primary.port)
            await heard.wait_for("job_finished")
        assert heard.of("writer_changed") == []  # the router has moved, the address has not
        assert heard.of("outcomes_rewritten") != []
    rows = as_admin(cluster.primary, "SELECT status, COUNT(*) FROM mailerd.job_recipients GROUP BY status")
    assert rows == [("sent", MESSAGES)]
    assert google.duplicates() == {}
    assert len({message.key for message in google.sent}) == MESSAGES
