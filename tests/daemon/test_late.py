"""Requests that come late: what was given up is reset, so the network does not bring it after somebody has looked."""

from pathlib import Path

import pytest
from yarl import URL

from mailerd.config import Settings
from mailerd.sandbox.google import COMPOSE, METADATA, SEND, FakeGoogle, Fault, RunningServer
from mailerd.store.db.database import Database
from tests.support.daemon import running, settings, sign_in
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.proxy import Proxy
from tests.support.rows import post, query, states


@pytest.fixture
def known(database_url: str, served: RunningServer, credentials: Path) -> Settings:
    """A doubt is looked for after a second."""
    return settings(
        database_url, served, credentials, gmail={"request_timeout": 0.5},
        runner={"lease": 4, "poll_interval": 0.1, "sweep_interval": 60.0},
    )  # fmt: skip


@pytest.mark.parametrize("scopes", [(COMPOSE,), (SEND, METADATA)])
async def test_a_request_that_the_network_held_back_is_not_carried_out_after_the_look(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard, scopes: tuple[str, ...]
) -> None:
    sign_in(google, credentials, scopes=scopes)
    root = URL(str(known.gmail.api_root))
    async with Proxy(root.port or 0) as proxy:
        near = known.gmail.model_copy(update={"api_root": str(root.with_port(proxy.port))})
        job = await post(database, recipients=1)
        async with running(known.model_copy(update={"gmail": near}), heard):
            await heard.wait_for("message_started")
            before = proxy.accepted
            await proxy.black_hole("up")

            async def the_message_has_its_connection() -> bool:
                return proxy.accepted > before

            await eventually(the_message_has_its_connection)
            await proxy.forsake()
            await proxy.heal()
            await heard.wait_for("job_finished")
            await proxy.remember()

        async def everything_is_through() -> bool:
            return proxy.open == 0

        await eventually(everything_is_through)
    assert await states(database, job) == {"sent": 1}
    assert len(google.sent) == 1


async def test_the_draft_of_a_message_that_is_cancelled_is_deleted_at_once(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    """A request that Google carries out later still finds no draft."""
    google.fault(Fault(kind="late", method="drafts.send", seconds=8.0))
    job = await post(database, recipients=1)
    async with running(known, heard) as daemon:
        await heard.wait_for("message_unsure")
        await query(database, "UPDATE jobs SET status = 'cancelled' WHERE id = %s", job)
        await heard.wait_for("message_cancelled")

        async def the_late_one_has_come() -> bool:
            return any(entry.method == "drafts.send" for entry in google.log)

        await eventually(the_late_one_has_come)
        assert daemon is not None
    assert await states(database, job) == {"cancelled": 1}
    assert google.sent == []
    assert google.drafts() == []


async def test_a_message_that_comes_back_into_a_cancelled_job_leaves_no_draft(
    database_url: str, served: RunningServer, credentials: Path, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    known = settings(database_url, served, credentials)  # whose calls may last
    google.fault(Fault(kind="latency", method="drafts.create", seconds=1.5))
    google.fault(Fault(kind="status", status=409, body="{}", accepts=False, method="drafts.send"))
    job = await post(database, recipients=1)
    async with running(known, heard):
        await heard.wait_for("message_started")
        await query(database, "UPDATE jobs SET status = 'cancelled' WHERE id = %s", job)
        await heard.wait_for("message_cancelled")

        async def it_is_deleted() -> bool:
            return google.drafts() == []

        await eventually(it_is_deleted)
    assert await states(database, job) == {"cancelled": 1}
    assert google.sent == []
