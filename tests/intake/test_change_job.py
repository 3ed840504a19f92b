"""`PATCH /api/jobs/{id}`: another time, reference or priority of a job."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailerd.store.write.api_keys import Permission
from tests.intake.site import Site

LATER = "2027-03-01T09:00:00Z"


async def change(site: Site, id_: str, fields: dict[str, Any], **options: Any) -> tuple[int, Any]:
    async with site.client.patch(f"{site.url}/api/jobs/{id_}", json=fields, **options) as response:
        return response.status, await response.json()


def person(name: str) -> dict[str, Any]:
    return {"email": f"{name}@example.com", "name": name}


async def times(site: Site, id_: str) -> list[str]:
    rows = await site.rows("SELECT due_at FROM job_recipients WHERE job_id = %s ORDER BY seq", id_)
    return [f"{at:%Y-%m-%d %H:%M}" for (at,) in rows]


async def test_a_job_that_waits_gets_another_time_and_so_do_its_messages(site: Site) -> None:
    id_ = await site.posted(person("a"), person("b"), person("c"), send_at=LATER)
    await site.rows(
        "UPDATE job_recipients SET due_at = '2027-05-05 05:05', send_at = due_at WHERE job_id = %s AND seq = 1", id_
    )
    status, answer = await change(site, id_, {"send_at": "2027-02-01T10:00:00+01:00"})
    assert (status, answer["changed"], answer["job"]["send_at"]) == (200, True, "2027-02-01T09:00:00Z")
    assert await times(site, id_) == ["2027-02-01 09:00", "2027-05-05 05:05", "2027-02-01 09:00"]
    ((turn, sender_turn),) = await site.rows(
        "SELECT j.next_claim_at, s.next_claim_at FROM jobs j JOIN senders s ON s.email = j.sender_email "
        "WHERE j.id = %s", id_,
    )  # fmt: skip
    assert f"{turn:%Y-%m-%d %H:%M}" == "2027-02-01 09:00"
    assert sender_turn <= turn
    _, actions = await site.get(f"/api/jobs/{id_}/actions")
    assert [(it["action"], it["detail"], it["changed"], it["recipients"]) for it in actions["actions"]] == [
        ("change", "send_at 2027-02-01T09:00:00Z", True, 2)
    ]
    assert site.wakeups.count >= 1


@pytest.mark.parametrize("when", [None, "2020-01-01T00:00:00Z"])
async def test_a_time_that_is_past_is_now(site: Site, when: str | None) -> None:
    id_ = await site.posted(send_at=LATER)
    status, answer = await change(site, id_, {"send_at": when})
    assert (status, answer["changed"]) == (200, True)
    assert [*map(str, answer["warnings"])] == (
        ["send_at 2020-01-01T00:00:00Z is in the past: the job is sent immediately"] if when else []
    )
    assert abs(datetime.fromisoformat(answer["job"]["send_at"]) - datetime.now(UTC)) < timedelta(minutes=2)
    assert await site.rows("SELECT 1 FROM jobs WHERE id = %s AND next_claim_at <= UTC_TIMESTAMP(6)", id_) == [(1,)]
    assert (await change(site, id_, {"send_at": when}))[1]["changed"] is False


async def test_a_paused_job_gets_its_time_and_stays_paused(site: Site) -> None:
    id_ = await site.posted(send_at=LATER)
    async with site.client.post(f"{site.url}/api/jobs/{id_}/pause") as response:
        assert response.status == 200
    status, answer = await change(site, id_, {"send_at": None})
    assert (status, answer["job"]["status"]) == (200, "paused")
    assert await site.rows("SELECT next_claim_at FROM jobs WHERE id = %s", id_) == [(None,)]
    async with site.client.post(f"{site.url}/api/jobs/{id_}/resume") as response:
        assert response.status == 200
    assert await site.rows("SELECT 1 FROM jobs WHERE id = %s AND next_claim_at <= UTC_TIMESTAMP(6)", id_) == [(1,)]


@pytest.mark.parametrize("state", ["sending", "unsure", "sent"])
async def test_a_job_that_has_begun_keeps_its_time(site: Site, state: str) -> None:
    id_ = await site.posted(person("a"), person("b"), send_at=LATER)
    await site.rows("UPDATE job_recipients SET status = %s WHERE job_id = %s AND seq = 0", state, id_)
    before = await times(site, id_)
    status, answer = await change(site, id_, {"send_at": None, "reference": "new"})
    assert (status, answer["error"]["code"]) == (409, "conflict")
    assert await times(site, id_) == before
    assert await site.rows("SELECT reference FROM jobs WHERE id = %s", id_) == [(None,)]
    assert (await site.get(f"/api/jobs/{id_}/actions"))[1]["actions"] == []


async def test_reference_and_priority_can_always_be_changed(site: Site) -> None:
    id_ = await site.posted(reference="old")
    await site.rows("UPDATE jobs SET status = 'completed', finished_at = UTC_TIMESTAMP(6) WHERE id = %s", id_)
    _, answer = await change(site, id_, {"reference": "new", "priority": 5})
    assert (answer["changed"], answer["job"]["reference"], answer["job"]["priority"]) == (True, "new", 5)
    _, answer = await change(site, id_, {"reference": "new", "priority": 5})
    assert answer["changed"] is False
    _, answer = await change(site, id_, {"reference": None})
    assert (answer["job"]["reference"], answer["job"]["priority"]) == (None, 5)


async def test_metadata_and_tags_are_replaced_whole(site: Site) -> None:
    id_ = await site.posted(metadata={"shop": "berlin", "till": "3"}, tags=["welcome", "de"])
    _, answer = await change(site, id_, {"metadata": {"shop": "køln"}, "tags": ["welcome", "at"]})
    assert (answer["changed"], answer["job"]["metadata"], answer["job"]["tags"]) == (
        True, {"shop": "køln"}, ["at", "welcome"]
    )  # fmt: skip
    assert (await change(site, id_, {"metadata": {"shop": "køln"}, "tags": ["at", "welcome"]}))[1]["changed"] is False
    found = {tag: (await site.get("/api/jobs", params={"tag": tag}))[1]["jobs"] for tag in ("at", "de")}
    assert [len(it) for it in found.values()] == [1, 0]
    _, answer = await change(site, id_, {"metadata": None, "tags": None})
    assert (answer["job"]["metadata"], answer["job"]["tags"]) == ({}, [])


@pytest.mark.parametrize(
    "fields, wrong",
    [
        ({"recipients": []}, "recipients"),
        ({"template": {}, "sender_email": "x@example.com"}, "sender_email"),
        ({"priority": None}, "priority"),
        ({"priority": 10**6, "reference": "x" * 256}, "priority"),
        ({"send_at": "tomorrow"}, "send_at"),
        ({"send_at": "2099-01-01T00:00:00Z"}, "send_at"),
        ({"colour": "red"}, "colour"),
        ({"tags": ["a b"], "metadata": {"k": 7}}, "metadata"),
    ],
)
async def test_what_cannot_be_changed_is_named_and_nothing_is(site: Site, fields: dict[str, Any], wrong: str) -> None:
    id_ = await site.posted(reference="old", send_at=LATER)
    status, answer = await change(site, id_, {"reference": "new", **fields})
    assert status == 422
    assert wrong in str(answer["error"]["details"])
    assert await site.rows("SELECT reference FROM jobs WHERE id = %s", id_) == [("old",)]


async def test_only_a_key_that_may_control_the_job_changes_it(site: Site) -> None:
    id_ = await site.posted(reference="old")
    other = await site.keys.create("other", senders=["you@example.com"])
    reader = await site.keys.create("reader", permissions=[Permission.READ])
    for key, code in ((other, 404), (reader, 403)):
        assert (await change(site, id_, {"reference": "new"}, headers={"X-API-Key": key}))[0] == code
    assert await site.rows("SELECT reference FROM jobs WHERE id = %s", id_) == [("old",)]


async def test_of_many_changes_at_once_each_is_whole(site: Site) -> None:
    id_ = await site.posted(*[person(f"p{n}") for n in range(50)], send_at=LATER)
    days = [f"2027-04-{day:02}T00:00:00Z" for day in range(1, 16)]
    answers = await asyncio.gather(*(change(site, id_, {"send_at": day, "reference": day}) for day in days))
    assert {status for status, _ in answers} == {200}
    _, job = await site.get(f"/api/jobs/{id_}")
    assert job["send_at"] == job["reference"]
    assert set(await times(site, id_)) == {f"{job['send_at'][:10]} 00:00"}
