"""Idempotency-Key: one job and one answer, whoever asks, however often, whatever dies in between."""

import asyncio
import json
import sys
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from mailerd.config import IntakeSettings
from mailerd.errors import DatabaseError
from mailerd.events.process import StoreEvents
from mailerd.store.db.database import Database
from tests.intake.site import Build, Site, Wakeups, job, new_intake
from tests.support.heard import PATIENCE

PATH = "/api/jobs/send_template_emails"
ONCE = {"Idempotency-Key": "order-17"}


async def test_the_same_key_and_body_get_the_same_answer_and_one_job(site: Site) -> None:
    await site.post(job())  # so that a forecast made anew would be another one
    first = await site.post(job(reference="x"), headers=ONCE)
    await site.post(job())
    again = await site.post(job(reference="x"), headers=ONCE)

    assert first[0] == 200
    assert again == first
    assert first[1]["forecast"]["messages_ahead"] == 1
    assert await site.stored() == (3, 3)
    assert site.heard.of("job_repeated")[0]["job"] == first[1]["job_id"]


async def test_an_answer_that_is_given_again_says_so(site: Site) -> None:
    said = []
    for _ in range(2):
        async with site.client.post(f"{site.url}{PATH}", json=job(), headers=ONCE) as response:
            said.append(response.headers.get("Idempotency-Replayed"))

    assert said == [None, "true"]


async def test_the_same_key_with_another_body_is_a_409_that_names_the_job(site: Site) -> None:
    _, first = await site.post(job(), headers=ONCE)
    status, answer = await site.post(job(reference="another"), headers=ONCE)

    assert (status, answer["error"]["code"]) == (409, "idempotency_conflict")
    assert first["job_id"] in answer["error"]["message"]
    assert await site.stored() == (1, 1)


async def test_a_key_belongs_to_an_api_key_and_survives_its_rotation(site: Site) -> None:
    other = {"X-API-Key": await site.keys.create("other"), **ONCE}
    _, first = await site.post(job(), headers=ONCE)
    _, theirs = await site.post(job(), headers=other)
    rotated = {"X-API-Key": await site.keys.rotate("test", overlap=timedelta(0)), **ONCE}
    _, again = await site.post(job(), headers=rotated)

    assert theirs["job_id"] != first["job_id"]
    assert again == first


async def test_what_was_refused_leaves_the_key_free(site: Site) -> None:
    assert (await site.post(job(priority=1000), headers=ONCE))[0] == 422
    assert (await site.post(job(dry_run=True), headers=ONCE))[0] == 200
    status, answer = await site.post(job(), headers=ONCE)

    assert (status, answer["status"]) == (200, "queued")


async def test_a_key_is_free_again_when_its_answer_is_kept_no_longer(build: Build) -> None:
    site = await build(settings=IntakeSettings(port=0, idempotency_keep=60))
    _, first = await site.post(job(), headers=ONCE)
    await site.rows("UPDATE idempotency_responses SET created_at = created_at - INTERVAL 61 SECOND")
    _, second = await site.post(job(reference="another"), headers=ONCE)

    assert second["job_id"] != first["job_id"]


async def test_forty_posts_that_race_over_two_daemons_are_one_job(site: Site) -> None:
    body, other = (
        json.dumps(job(*_many(300))).encode(),
        new_intake(site.database, site.heard, Wakeups(), patience=10),
    )
    second = Database(site.database._settings, events=StoreEvents(site.heard))
    other.jobs.database = other._answers._database = second
    async with other.serve() as [(host, port)]:
        urls = [site.url, f"http://{host}:{port}"]

        async def post(number: int) -> tuple[int, dict[str, Any]]:
            async with site.client.post(f"{urls[number % 2]}{PATH}", data=body, headers=ONCE) as response:
                return response.status, await response.json()

        answers = await asyncio.gather(*(post(number) for number in range(40)))
    await second.close()

    assert {status for status, _ in answers} == {200}
    assert len({json.dumps(answer, sort_keys=True) for _, answer in answers}) == 1
    assert await site.stored() == (1, 300)


async def test_a_daemon_killed_between_commit_and_answer_is_answered_for_by_another(site: Site) -> None:
    url = site.database._settings.url
    dying = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.intake.dying", url, stdout=asyncio.subprocess.PIPE
    )
    assert dying.stdout is not None
    port = int(await asyncio.wait_for(dying.stdout.readline(), PATIENCE))
    with pytest.raises(aiohttp.ClientError):
        await site.client.post(f"http://127.0.0.1:{port}{PATH}", json=job(), headers=ONCE)
    assert await asyncio.wait_for(dying.wait(), PATIENCE) == -9

    assert await site.stored() == (1, 1)
    status, answer = await site.post(job(), headers=ONCE)
    assert status == 200
    assert await site.rows("SELECT id FROM jobs") == [(answer["job_id"],)]
    assert (await site.post(job(), headers=ONCE))[1] == answer


async def test_a_post_that_fails_after_the_key_was_used_up_leaves_it_free(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(
            "mailerd.store.write.sender_changes._SCHEDULE", "INSERT INTO nowhere VALUES (%s, %s, %s, %s, %s)"
        )
        assert (await site.post(job(), headers=ONCE))[0] == 503
    status, answer = await site.post(job(), headers=ONCE)

    assert status == 200
    assert await site.rows("SELECT job_id FROM idempotency_responses") == [(answer["job_id"],)]


async def test_an_answer_that_cannot_be_kept_whole_is_given_as_it_is_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise DatabaseError("x", phase="work", cause=OSError("gone"), errno=0, retry=True, in_doubt=False)

    monkeypatch.setattr(site.intake._answers, "complete", fail)
    first = await site.post(job(), headers=ONCE)

    assert (first[0], first[1]["forecast"]) == (200, {})
    assert await site.post(job(), headers=ONCE) == first


def _many(count: int) -> list[dict[str, str]]:
    return [{"email": f"r{number}@example.com", "name": "R"} for number in range(count)]
