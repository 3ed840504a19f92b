"""`/api/recipients/{id}`: the history of one message, and what a person confirms of it."""

from typing import Any

import pytest

from mailerd.store.db.database import Database
from mailerd.store.write.api_keys import Permission
from tests.intake.site import Site, job
from tests.intake.test_suppressions import suppress


async def one(site: Site, **fields: object) -> int:
    """The id of the only recipient of a new job."""
    job_id = await site.posted(**fields)
    ((id_,),) = await site.rows("SELECT id FROM job_recipients WHERE job_id = %s", job_id)
    return int(id_)


async def unsure(site: Site, *, attempts: int = 1, **fields: object) -> int:
    """A message of which only a person knows whether it was sent."""
    id_ = await one(site, **fields)
    await site.rows(
        "UPDATE job_recipients r JOIN jobs j ON j.id = r.job_id SET r.status = 'unsure', r.attempts = %s, "
        "r.unanswered = 1, j.status = 'sending', j.started_at = UTC_TIMESTAMP(6) WHERE r.id = %s", attempts, id_,
    )  # fmt: skip
    return id_


async def settled(site: Site, id_: int | str, body: dict[str, Any], **options: Any) -> tuple[int, Any]:
    async with site.client.post(f"{site.url}/api/recipients/{id_}/settle", json=body, **options) as response:
        return response.status, await response.json()


async def test_a_message_tells_its_state_its_history_and_why_it_waits(site: Site) -> None:
    id_ = await one(site)
    await site.rows(
        "INSERT INTO attempts (recipient_id, at, attempt, claim_token, event, daemon_id, error) "
        "VALUES (%s, UTC_TIMESTAMP(6), 1, 't1', 'deferred', 'd1', 'Google is busy')", id_,
    )  # fmt: skip
    status, told = await site.get(f"/api/recipients/{id_}")
    assert status == 200
    assert (told["id"], told["index"], told["email"], told["name"]) == (id_, 0, "ada@example.com", "Ada")
    assert told["sender_email"] == "me@example.com"
    assert [(it["event"], it["error"]) for it in told["log"]] == [("deferred", "Google is busy")]
    assert (told["log_left_out"], told["notices"], told["suppressed"]) == (0, [], None)
    assert any("Now: waiting" in line for line in told["story"])


async def test_a_message_that_waits_for_the_database_says_so_and_never_that_no_daemon_runs(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = await one(site)
    _, told = await site.get(f"/api/recipients/{id_}")
    assert "No daemon" not in " ".join(told["story"]), "the one that answers runs"
    monkeypatch.setattr(Database, "outage", "read-only")
    _, told = await site.get(f"/api/recipients/{id_}")
    assert "written to again" in " ".join(told["story"])


async def test_a_message_tells_its_bounce_and_that_its_address_is_suppressed(site: Site) -> None:
    id_ = await one(site)
    await site.rows(
        "INSERT INTO notices (mailbox, gmail_id, thread_id, recipient_id, job_id, email, kind, code, detail, "
        "believed, at) SELECT 'me@example.com', 'g1', 't1', id, job_id, to_email, 'hard', '5.1.1', 'no such user', 1, "
        "UTC_TIMESTAMP(6) FROM job_recipients WHERE id = %s", id_,
    )  # fmt: skip
    await suppress(site, "ada@example.com")
    _, told = await site.get(f"/api/recipients/{id_}")
    assert [(it["kind"], it["code"], it["detail"]) for it in told["notices"]] == [("hard", "5.1.1", "no such user")]
    assert told["suppressed"]
    assert any(told["suppressed"] in line for line in told["story"])


@pytest.mark.parametrize("id_", ["0", "999999", "abc", "-1", "9" * 30])
async def test_of_what_is_no_message_of_ours_nothing_is_told(site: Site, id_: str) -> None:
    for status, answer in (
        await site.get(f"/api/recipients/{id_}"), await settled(site, id_, {"sent": True, "attempt": 1})
    ):  # fmt: skip
        assert (status, answer["error"]["code"]) == (404, "not_found")


async def test_a_key_for_another_sender_neither_sees_nor_settles_it(site: Site) -> None:
    id_ = await unsure(site)
    other = await site.keys.create("other", senders=["you@example.com"])
    as_other = {"headers": {"X-API-Key": other}}
    assert (await site.get(f"/api/recipients/{id_}", **as_other))[0] == 404
    assert (await settled(site, id_, {"sent": True, "attempt": 1}, **as_other))[0] == 404
    assert await site.rows("SELECT status FROM job_recipients WHERE id = %s", id_) == [("unsure",)]


async def test_a_key_for_an_alias_sees_what_was_posted_with_it_and_nothing_of_the_mailbox(site: Site) -> None:
    mine, theirs = await one(site), await one(site)
    await site.rows("UPDATE jobs j JOIN job_recipients r ON r.job_id = j.id SET j.from_email = 'desk@example.com' "
                    "WHERE r.id = %s", mine)  # fmt: skip
    key = await site.keys.create("desk", senders=["desk@example.com"])
    seen = [(await site.get(f"/api/recipients/{it}", headers={"X-API-Key": key}))[0] for it in (mine, theirs)]
    assert seen == [200, 404]


async def test_a_message_that_is_in_sent_is_settled_and_its_job_is_finished(site: Site) -> None:
    id_ = await unsure(site)
    status, answer = await settled(site, id_, {"sent": True, "attempt": 1, "message_id": "m17"})
    assert (status, answer["status"], answer["recipient_id"]) == (200, "sent", id_)
    _, told = await site.get(f"/api/recipients/{id_}")
    assert (told["status"], told["proof"], told["message_id"]) == ("sent", "person", "m17")
    _, of_job = await site.get(f"/api/jobs/{answer['job_id']}")
    assert (of_job["status"], of_job["counts"]["sent"]) == ("completed", 1)
    _, actions = await site.get(f"/api/jobs/{answer['job_id']}/actions")
    assert [it["action"] for it in actions["actions"]] == ["settle"]
    assert site.wakeups.count >= 1
    assert [it["job"] for it in site.heard.of("job_finished")] == [answer["job_id"]]


async def test_a_message_that_is_not_in_sent_is_sent_again(site: Site) -> None:
    id_ = await unsure(site)
    status, answer = await settled(site, id_, {"sent": False, "attempt": 1})
    assert (status, answer["status"]) == (200, "waiting")
    assert site.heard.of("job_finished") == []


async def test_what_a_person_saw_of_an_earlier_attempt_settles_nothing(site: Site) -> None:
    id_ = await unsure(site, attempts=2)
    status, answer = await settled(site, id_, {"sent": False, "attempt": 1})
    assert (status, answer["error"]["code"]) == (409, "conflict")
    assert await site.rows("SELECT status, attempts FROM job_recipients WHERE id = %s", id_) == [("unsure", 2)]


async def test_what_is_certain_is_not_settled(site: Site) -> None:
    id_ = await unsure(site)
    first, second = [await settled(site, id_, {"sent": True, "attempt": 1}) for _ in range(2)]
    assert (first[0], second[0]) == (200, 409)
    assert "sent" in second[1]["error"]["message"]


@pytest.mark.parametrize(
    "body, fields",
    [
        ({}, {"sent", "attempt"}),
        ({"sent": True}, {"attempt"}),
        ({"sent": "yes", "attempt": 0}, {"sent", "attempt"}),
        ({"sent": True, "attempt": 1, "message_id": "a b"}, {"message_id"}),
        ({"sent": False, "attempt": 1, "message_id": "m1"}, {""}),
        ({"sent": True, "attempt": 1, "by": "me"}, {"by"}),
    ],
)
async def test_a_bad_confirmation_names_every_field_and_changes_nothing(
    site: Site, body: dict[str, Any], fields: set[str]
) -> None:
    id_ = await unsure(site)
    status, answer = await settled(site, id_, body)
    assert status == 422
    assert {it["field"] for it in answer["error"]["details"]} == fields
    assert await site.rows("SELECT status FROM job_recipients WHERE id = %s", id_) == [("unsure",)]


async def test_a_key_that_may_only_read_settles_nothing(site: Site) -> None:
    id_ = await unsure(site)
    reader = await site.keys.create("reader", permissions=[Permission.READ])
    status, _ = await settled(site, id_, {"sent": True, "attempt": 1}, headers={"X-API-Key": reader})
    assert status == 403


async def test_a_long_log_is_told_by_its_ends(site: Site) -> None:
    id_ = await one(site, **{k: v for k, v in job().items() if k != "recipients"})
    for number in range(60):
        await site.rows(
            "INSERT INTO attempts (recipient_id, at, attempt, claim_token, event, daemon_id) "
            "VALUES (%s, UTC_TIMESTAMP(6), %s, %s, 'deferred', 'd1')", id_, number + 1, f"t{number}",
        )  # fmt: skip
    _, told = await site.get(f"/api/recipients/{id_}")
    assert len(told["log"]) + told["log_left_out"] == 60
    assert [it["attempt"] for it in told["log"]][:2] == [1, 2]
    assert told["log"][-1]["attempt"] == 60


async def cancelled(site: Site, id_: int, **options: Any) -> tuple[int, Any]:
    async with site.client.post(f"{site.url}/api/recipients/{id_}/cancel", **options) as response:
        return response.status, await response.json()


async def test_one_message_is_cancelled_and_the_others_of_its_job_wait_on(site: Site) -> None:
    job_id = await site.posted({"email": "ada@example.com", "name": "A"}, {"email": "bob@example.com", "name": "B"})
    ((first,), (second,)) = await site.rows("SELECT id FROM job_recipients WHERE job_id = %s ORDER BY seq", job_id)
    status, answer = await cancelled(site, first)
    assert (status, answer) == (200, {"recipient_id": first, "job_id": job_id, "changed": True})
    _, of_job = await site.get(f"/api/jobs/{job_id}")
    assert (of_job["status"], of_job["counts"]["cancelled"], of_job["counts"]["waiting"]) == ("queued", 1, 1)
    _, told = await site.get(f"/api/recipients/{first}")
    assert (told["status"], told["error"]) == ("cancelled", "cancelled by key test, only for this recipient")
    assert (await cancelled(site, first))[1]["changed"] is False
    _, actions = await site.get(f"/api/jobs/{job_id}/actions")
    assert [(it["action"], it["recipients"]) for it in actions["actions"]] == [("cancel", 1)]
    await cancelled(site, second)
    _, of_job = await site.get(f"/api/jobs/{job_id}")
    assert of_job["status"] == "completed"
    assert [it["job"] for it in site.heard.of("job_finished")] == [job_id]


@pytest.mark.parametrize("state", ["sending", "unsure", "sent", "failed"])
async def test_a_message_that_does_not_wait_is_not_cancelled(site: Site, state: str) -> None:
    id_ = await one(site)
    await site.rows("UPDATE job_recipients SET status = %s WHERE id = %s", state, id_)
    status, answer = await cancelled(site, id_)
    assert (status, answer["error"]["code"]) == (409, "conflict")
    assert state in answer["error"]["message"]
    assert await site.rows("SELECT status FROM job_recipients WHERE id = %s", id_) == [(state,)]


async def test_another_tenants_message_is_not_cancelled(site: Site) -> None:
    id_ = await one(site)
    other = await site.keys.create("other", senders=["you@example.com"])
    assert (await cancelled(site, id_, headers={"X-API-Key": other}))[0] == 404
    assert await site.rows("SELECT status FROM job_recipients WHERE id = %s", id_) == [("waiting",)]
