"""A database that was demoted: it can be read and takes no writes, and everybody is told so, the log once."""

import pytest
from yarl import URL

from mailerd.config import DatabaseSettings
from mailerd.errors import DatabaseAwayError
from mailerd.events.process import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import check_writable
from tests.intake.site import Site, job
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.read_only import as_admin, read_only

SAID = (
    "the database accepts no writes: the server is read-only (read_only); "
    "point database.url at the writer, not a replica, or turn read_only off"
)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.intake.health.CACHE_SECONDS", 0.0)


async def test_a_job_is_refused_with_the_cause_and_what_can_be_read_is_answered(site: Site, mariadb: Server) -> None:
    status, stored = await site.post(job())
    assert status == 200
    site.heard.events.clear()
    async with read_only(mariadb):
        for _ in range(3):
            path = f"{site.url}/api/jobs/send_template_emails"
            async with site.client.post(path, json=job(), headers={"Idempotency-Key": "one"}) as response:
                answer = await response.json()
                assert response.status == 503
                assert int(response.headers["Retry-After"]) > 0
            assert answer["error"]["code"] == "database_away"
            assert answer["error"]["message"] == f"{SAID}; try again; nothing was stored"
            assert (await site.get(f"/api/jobs/{stored['job_id']}"))[0] == 200
            assert (await site.get("/api/jobs"))[0] == 200
        path = f"{site.url}/api/jobs/{stored['job_id']}/pause"
        async with site.client.post(path) as response:
            answer = await response.json()
        assert (response.status, answer["error"]["message"]) == (503, f"{SAID}; try again; nothing was changed")
        assert site.heard.of("database_back") == []
    assert (await site.post(job(), headers={"Idempotency-Key": "one"}))[0] == 200
    assert await site.stored() == (2, 2)
    assert [name for name in site.heard.names() if name.startswith("database")] == [
        "database_unavailable",
        "database_back",
    ]


async def test_it_is_not_ready_and_says_why_and_is_ready_when_writes_are_taken_again(
    site: Site, mariadb: Server
) -> None:
    site.heard.events.clear()
    async with read_only(mariadb):
        for _ in range(3):
            status, answer = await site.get("/health/ready")
            assert (status, answer["reason"]) == (503, SAID)
            assert answer["error"]["message"] == SAID
            assert (await site.get("/api/jobs"))[0] == 200
        assert site.database.outage == "read-only"
    assert await site.get("/health/ready") == (200, {"status": "ready"})
    assert not site.database.unavailable
    [away] = site.heard.of("database_unavailable")
    assert away["cause"].startswith(SAID.replace("the database", "it"))
    assert "1290" in away["cause"]
    assert len(site.heard.of("database_back")) == 1


async def test_a_database_whose_transactions_are_read_only_is_not_ready(site: Site, mariadb: Server) -> None:
    heard = Heard()
    url = str(URL(mariadb.url).with_path("/" + (await site.rows("SELECT DATABASE()"))[0][0]))
    database = Database(DatabaseSettings(url=url), events=StoreEvents(heard))
    as_admin(mariadb, "SET GLOBAL TRANSACTION READ ONLY")  # it binds the connections made from now on
    try:
        with pytest.raises(DatabaseAwayError) as caught:
            await check_writable(database)
        assert caught.value.errno == 1792
        assert database.outage == "read-only"
    finally:
        as_admin(mariadb, "SET GLOBAL TRANSACTION READ WRITE")
    await check_writable(database)
    assert heard.names() == ["database_unavailable", "database_back"]
    assert "or turn transaction_read_only off" in heard.of("database_unavailable")[0]["cause"]
    await database.close()


async def test_a_user_who_may_write_all_the_same_makes_it_ready(site: Site, mariadb: Server) -> None:
    name = (await site.rows("SELECT DATABASE()"))[0][0]
    database = Database(DatabaseSettings(url=mariadb.url_of(name, user="admin")), events=StoreEvents(Heard()))
    async with read_only(mariadb):
        await check_writable(database)
    await database.close()


async def test_a_database_that_dies_while_it_is_read_only_is_still_read_only_when_it_can_be_read(
    site: Site, mariadb: Server
) -> None:
    site.heard.events.clear()
    async with read_only(mariadb):
        assert (await site.post(job()))[0] == 503
        mariadb.kill()
        assert (await site.get("/health/ready"))[0] == 503
        assert site.database.outage == "away"
        assert (await site.get("/api/jobs"))[0] == 503
        mariadb.start()

        async def readable() -> bool:
            await site.rows("SELECT 1")
            return (await site.get("/api/jobs"))[0] == 200

        await eventually(readable)
        assert site.database.outage == "read-only"
    assert (await site.get("/health/ready"))[0] == 200
    assert site.heard.names().count("database_unavailable") == site.heard.names().count("database_back") == 1
