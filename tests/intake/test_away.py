"""Posting while the database freezes, dies or falls silent at COMMIT: an answer in time, and nothing half-stored."""

from collections.abc import Awaitable, Callable
from typing import Any

import aiomysql
import pytest
from pymysql.err import OperationalError

from mailerd.core.reading import RESTORE_TABLES
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.http.server import from_database_error
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.connection import Cursor
from mailerd.store.write.new_jobs import NewJob
from tests.intake.site import Build, Site, job
from tests.support.holding import holding
from tests.support.own_time import own_time

MANY = [{"email": f"r{n}@example.com", "name": "R"} for n in range(5000)]
PATIENCE = 1.0
SLACK = 1.0
"""Seconds that a busy machine may take beyond the promise."""


@pytest.fixture
async def site(build: Build) -> Site:
    """An intake that waits no longer for its database."""
    return await build(patience=PATIENCE)


async def timed(site: Site, *recipients: Any) -> tuple[int, Any, float]:
    started = own_time()
    async with site.client.post(f"{site.url}/api/jobs/send_template_emails", json=job(*recipients)) as response:
        answer = await response.json()
        seconds = own_time() - started
        assert response.status != 503 or int(response.headers["Retry-After"]) > 0
        return response.status, answer, seconds


async def back(site: Site) -> None:
    await site.rows("SELECT 1")
    assert not site.database.unavailable


async def test_a_frozen_database_is_a_503_in_time_and_nothing_is_stored(site: Site, mariadb: Server) -> None:
    await site.get("/api/jobs")  # the key is known: it is the storing that meets the frozen server
    mariadb.freeze()
    status, answer, seconds = await timed(site)

    assert (status, answer["error"]["code"]) == (503, "database_away")
    assert seconds < PATIENCE + 2 + SLACK
    status, _, seconds = await timed(site)
    assert status == 503
    assert seconds < SLACK  # at once, since it is known
    mariadb.thaw()
    await back(site)
    assert await site.stored() == (0, 0)
    assert (await site.post(job()))[0] == 200


def test_a_privilege_that_the_databases_user_lacks_is_named() -> None:
    """It is no busy server: trying again does not help before it is granted."""
    cause = OperationalError(1142, "INSERT command denied to user 'mailerd'@'127.0.0.1' for table `jobs`")
    error = DatabaseError("jobs.accept", phase="work", cause=cause, errno=1142, retry=True, in_doubt=False)
    answer = from_database_error(error)
    assert answer is not None
    assert "GRANT ALL PRIVILEGES" in str(answer)


async def test_a_database_that_freezes_before_the_key_is_looked_up_is_a_503_in_time(
    site: Site, mariadb: Server
) -> None:
    mariadb.freeze()
    status, _, seconds = await timed(site)

    assert status == 503
    assert seconds < PATIENCE + 2 + SLACK
    mariadb.thaw()


async def test_a_killed_database_is_a_503_and_nothing_is_stored(site: Site, mariadb: Server) -> None:
    await site.get("/api/jobs")
    mariadb.kill()
    status, _, seconds = await timed(site)

    assert status == 503
    assert seconds < PATIENCE + 2 + SLACK
    mariadb.start()
    await back(site)
    assert await site.stored() == (0, 0)
    assert site.wakeups.count == 0


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_a_database_that_goes_in_the_middle_of_a_big_job_leaves_nothing_of_it(
    build: Build, mariadb: Server, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    site = await build(patience=4.0)
    send, batches = Cursor.send, 0
    status, _, usual = await timed(site, *MANY)
    assert status == 200

    async def go_at_the_third(cursor: Any, statement: str, sent: bytes) -> Any:
        nonlocal batches
        if statement.startswith("INSERT INTO job_recipients"):
            batches += 1
            if batches == 3:
                getattr(mariadb, how)()
        return await send(cursor, statement, sent)

    monkeypatch.setattr(Cursor, "send", go_at_the_third)
    status, _, seconds = await timed(site, *MANY)

    assert status == 503
    assert seconds < 4.0 + 2 + SLACK + usual
    mariadb.thaw() if how == "freeze" else mariadb.start()
    await back(site)
    assert await site.stored() == (1, len(MANY))
    assert site.wakeups.count == 1


def _at_the_jobs_commit(site: Site, monkeypatch: pytest.MonkeyPatch, trap: Callable[[Any], Awaitable[None]]) -> None:
    """Put `trap` in the place of the COMMIT of the transaction that stores a job, and of no other."""
    store = site.intake.new_jobs._store

    async def set_trap(cursor: Any, new: NewJob) -> Any:
        stored = await store(cursor, new)
        monkeypatch.setattr(aiomysql.Connection, "commit", trap)
        return stored

    monkeypatch.setattr(site.intake.new_jobs, "_store", set_trap)


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_commit_whose_answer_is_lost_becomes_a_certain_answer(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, arrived: bool
) -> None:
    commit: Any = aiomysql.Connection.commit
    await site.get("/api/jobs")

    async def lose(connection: Any) -> None:
        monkeypatch.setattr(aiomysql.Connection, "commit", commit)
        if arrived:
            await commit(connection)
        connection._writer.transport.abort()
        raise OperationalError(2013, "Lost connection to MySQL server during query")

    _at_the_jobs_commit(site, monkeypatch, lose)
    status, answer, _ = await timed(site)

    if arrived:
        assert status == 200
        assert await site.rows("SELECT id FROM jobs") == [(answer["job_id"],)]
    else:
        assert (status, answer["error"]["code"]) == (503, "database_away")
        assert "nothing was stored" in answer["error"]["message"]
        assert await site.stored() == (0, 0)
    assert site.wakeups.count == int(arrived)


async def test_a_commit_that_nobody_can_ask_about_is_a_503_that_names_the_job(
    site: Site, mariadb: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit: Any = aiomysql.Connection.commit
    await site.get("/api/jobs")

    async def die(connection: Any) -> None:
        monkeypatch.setattr(aiomysql.Connection, "commit", commit)
        await commit(connection)
        mariadb.kill()
        raise OperationalError(2013, "Lost connection to MySQL server during query")

    _at_the_jobs_commit(site, monkeypatch, die)
    status, answer, seconds = await timed(site)
    mariadb.start()
    await back(site)

    assert status == 503
    assert seconds < PATIENCE + 2 + SLACK
    [(job_id,)] = await site.rows("SELECT id FROM jobs")
    assert f"may have been stored as {job_id}" in answer["error"]["message"]
    assert site.heard.of("job_in_doubt")[0]["job"] == job_id
    assert (await site.get(f"/api/jobs/{job_id}"))[0] == 200


@pytest.mark.parametrize("locks", ["SELECT * FROM senders FOR UPDATE", "LOCK TABLES senders WRITE"])
async def test_a_lock_that_somebody_holds_for_long_is_a_503_in_time_and_nothing_is_stored(
    build: Build, database_url: str, locks: str
) -> None:
    site = await build(patience=5.5)
    assert (await site.post(job()))[0] == 200
    async with holding(database_url, locks):
        status, _, seconds = await timed(site)
    assert status == 503
    assert seconds < 5.5 + 2 + SLACK
    assert len(await site.rows("SELECT id FROM jobs")) == 1


async def test_a_missing_schema_is_a_503_that_says_what_to_do(site: Site) -> None:
    await site.get("/api/jobs")
    await site.rows("DROP TABLE job_recipients")
    status, answer, _ = await timed(site)

    assert status == 503
    message = answer["error"]["message"]
    assert ("migrate" in message, str(RESTORE_TABLES) in message) == (False, True)


def test_a_column_that_is_missing_is_a_503_that_names_the_command_that_says_why() -> None:
    cause = OperationalError(1054, "Unknown column 'x'")
    error = DatabaseError("jobs.read", phase="work", cause=cause, errno=1054, retry=False, in_doubt=False)
    answer = from_database_error(error)
    assert answer is not None
    assert (answer.status, "run `mailerd check`" in str(answer)) == (503, True)


def test_a_full_disk_is_called_so_and_not_a_busy_database() -> None:
    for errno, words in ((1114, "its disk or a table is full (1114); free disk space"), (1205, "is busy")):
        cause = OperationalError(errno, "…")
        error = DatabaseError("jobs.accept", phase="work", cause=cause, errno=errno, retry=True, in_doubt=False)
        answer = from_database_error(error)
        assert answer is not None
        assert (answer.status, answer.code) == (503, "database_away")
        assert answer.retry_after
        assert words in str(answer)


@pytest.mark.parametrize(
    "errno, said", [(1045, "rejects the login"), (1040, "has no free connection"), (2003, "is unavailable")]
)
def test_a_database_that_lets_nobody_in_is_called_so_as_on_every_surface(errno: int, said: str) -> None:
    error = DatabaseAwayError(
        "jobs.accept", phase="connect", cause=OperationalError(errno, ""), errno=errno, retry=True, in_doubt=False
    )
    answer = from_database_error(error)
    assert answer is not None
    assert str(answer) == f"the database {said}; try again; nothing was stored"
