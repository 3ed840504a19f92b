"""Alive and ready are two things, and neither asks for a key."""

import sys

import pytest

from mailerd.errors import DatabaseAwayError, SchemaError
from mailerd.sandbox.mariadb import Server
from tests.intake.site import Site, job


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.intake.health.CACHE_SECONDS", 0.0)


async def test_a_good_daemon_is_alive_and_ready(site: Site) -> None:
    site.client.headers.pop("X-API-Key")

    assert await site.get("/health/live") == (200, {"status": "alive"})
    assert await site.get("/health/ready") == (200, {"status": "ready"})


async def test_without_a_database_it_is_alive_and_not_ready_and_says_why(site: Site, mariadb: Server) -> None:
    mariadb.kill()
    async with site.client.get(f"{site.url}/health/ready") as response:
        status, answer, request_id = response.status, await response.json(), response.headers["X-Request-Id"]
    assert status == 503
    assert "the database is unavailable" in answer["reason"]
    assert "mailerd@" not in answer["reason"]
    assert answer["reason"].endswith("; systemctl status mariadb mysql")
    assert answer["error"] == {
        "code": "not_ready", "message": answer["reason"], "details": [], "request_id": request_id,
    }  # fmt: skip
    assert (await site.get("/health/live"))[0] == 200
    mariadb.start()

    assert (await site.get("/health/ready"))[0] == 200


async def test_a_frozen_database_is_noticed_within_the_bound(site: Site, mariadb: Server) -> None:
    mariadb.freeze()
    status, answer = await site.get("/health/ready")

    assert status == 503
    assert "no response" in answer["reason"] or "unavailable" in answer["reason"]
    mariadb.thaw()
    assert (await site.get("/health/ready"))[0] == 200


async def test_while_a_commit_gets_no_answer_it_is_not_ready(site: Site) -> None:
    hung = DatabaseAwayError("jobs.accept", phase="commit", cause=TimeoutError(), errno=0, retry=False, in_doubt=True)
    hung.__cause__ = TimeoutError()
    site.database._mark_down(hung)  # tests/store/db/test_hung_commit.py has a server that does so
    status, answer = await site.get("/health/ready")

    assert status == 503
    assert answer["reason"].startswith("the database does not respond to COMMIT; see that the primary's replicas are ")
    await site.post(job())
    assert (await site.get("/health/ready"))[0] == 200


@pytest.mark.parametrize(
    "change, words",
    [
        ("DELETE FROM schema_version", "mailerd migrate"),
        ("INSERT INTO schema_version VALUES (9999, 'future', UTC_TIMESTAMP())", "newer"),
    ],
)
async def test_the_wrong_schema_is_not_ready_and_says_what_to_do(site: Site, change: str, words: str) -> None:
    await site.rows(change)
    status, answer = await site.get("/health/ready")

    assert status == 503
    assert words in answer["reason"]


async def test_asking_often_asks_the_database_once_a_second(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.intake.health.CACHE_SECONDS", 60.0)
    asked = 0

    async def check(_: object) -> None:
        nonlocal asked
        asked += 1
        raise SchemaError("old")

    monkeypatch.setattr("mailerd.intake.api.check_writable", check)
    for _ in range(3):
        assert (await site.get("/health/ready"))[1]["reason"] == "old"

    assert asked == 1


async def test_a_renderer_that_does_not_start_is_no_readiness_and_a_post_is_a_503(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/nowhere/python")
        status, answer = await site.post(job())
        assert (status, answer["error"]["code"]) == (503, "renderer_unavailable")
        assert "nothing was stored" in answer["error"]["message"]
        status, answer = await site.get("/health/ready")
        assert status == 503
        assert "templates cannot be rendered" in answer["reason"]
    status, answer = await site.post(job())
    assert status == 200, answer
    assert await site.stored() == (1, 1)
