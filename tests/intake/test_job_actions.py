"""Cancel, pause, resume, retry, priority: what they change, that they may be repeated, and that they are noted."""

from typing import Any, get_args

import pytest

from mailerd.core.states import JobChange, Transition
from mailerd.intake.response_models import ActionOut
from mailerd.store.queue.recovery import settle
from tests.intake.site import Site, job

MANY = [{"email": f"r{number}@example.com", "name": "R"} for number in range(6)]


async def ask(site: Site, job_id: str, change: str, body: Any = None, **options: Any) -> tuple[int, Any]:
    async with site.client.post(f"{site.url}/api/jobs/{job_id}/{change}", json=body, **options) as response:
        return response.status, await response.json()


@pytest.fixture
async def job_id(site: Site) -> str:
    """A job of six: one of each state, as far as a job that runs can have them."""
    _, answer = await site.post(job(*MANY))
    for seq, change in enumerate(
        [
            "status = 'waiting'",
            "status = 'sending', attempts = 1, claim_token = 't', lease_until = '2099-01-01'",
            "status = 'unsure', attempts = 1, mode = 'draft', draft_id = 'd', lease_until = '2099-01-01'",
            "status = 'sent', attempts = 1, sent_at = created_at, message_id = 'm'",
            "status = 'failed', attempts = 5, error = 'Google said no'",
            "status = 'failed', attempts = 0, error = 'refused at the post'",
        ]
    ):
        await site.rows(f"UPDATE job_recipients SET {change.replace('created_at', 'updated_at')} WHERE seq = %s", seq)
    await site.rows("UPDATE jobs SET status = 'sending', started_at = created_at")
    found: str = answer["job_id"]
    return found


async def states(site: Site) -> list[str]:
    return [row[0] for row in await site.rows("SELECT status FROM job_recipients ORDER BY seq")]


async def test_cancel_takes_what_waits_and_leaves_what_is_on_the_wire(site: Site, job_id: str) -> None:
    status, answer = await ask(site, job_id, "cancel")

    assert (status, answer["changed"], answer["recipients"]) == (200, True, 1)
    assert answer["job"]["status"] == "cancelled"
    assert answer["job"]["finished_at"] is None
    assert await states(site) == ["cancelled", "sending", "unsure", "sent", "failed", "failed"]
    assert await site.rows("SELECT next_claim_at FROM jobs") == [(None,)]
    _, page = await site.get(f"/api/jobs/{job_id}/recipients", params={"status": "cancelled"})
    assert [row["error"] for row in page["recipients"]] == ["the job was cancelled by key test"]


async def test_cancel_of_a_job_with_nothing_on_the_wire_is_its_end(site: Site) -> None:
    _, posted = await site.post(job(*MANY))
    _, answer = await ask(site, posted["job_id"], "cancel")

    assert answer["recipients"] == 6
    assert answer["job"]["finished_at"] is not None
    assert answer["job"]["progress"] == 1.0


async def test_pause_and_resume_take_the_turn_away_and_give_it_back(site: Site, job_id: str) -> None:
    [(turn,)] = await site.rows("SELECT next_claim_at FROM jobs")
    status, answer = await ask(site, job_id, "pause")
    assert (status, answer["job"]["status"], answer["job"]["cause_of_wait"]) == (
        200,
        "paused",
        "the job is paused; 1 message is unconfirmed",
    )
    assert await site.rows("SELECT next_claim_at FROM jobs") == [(None,)]
    await site.rows("UPDATE senders SET next_claim_at = NULL")
    status, answer = await ask(site, job_id, "resume", {})

    assert (status, answer["job"]["status"], answer["changed"]) == (200, "sending", True)
    assert await site.rows("SELECT next_claim_at FROM jobs") == [(turn,)]
    assert await site.rows("SELECT next_claim_at BETWEEN %s AND UTC_TIMESTAMP(6) FROM senders", turn) == [(1,)]
    assert await states(site) == ["waiting", "sending", "unsure", "sent", "failed", "failed"]


async def test_a_job_that_never_began_is_queued_again_when_it_is_resumed(site: Site) -> None:
    _, posted = await site.post(job())
    await ask(site, posted["job_id"], "pause")
    _, answer = await ask(site, posted["job_id"], "resume")

    assert answer["job"]["status"] == "queued"


async def test_retry_starts_what_failed_anew_and_keeps_its_history(site: Site, job_id: str) -> None:
    await site.rows("UPDATE job_recipients SET draft_id = 'gone', mode = 'draft' WHERE seq = 4")
    status, answer = await ask(site, job_id, "retry")

    assert (status, answer["recipients"]) == (200, 1)
    assert await states(site) == ["waiting", "sending", "unsure", "sent", "waiting", "failed"]
    assert await site.rows("SELECT attempts, error, draft_id, mode FROM job_recipients WHERE seq = 4") == [
        (0, None, None, None)
    ]
    assert await site.rows("SELECT attempt, event, error FROM attempts") == [(5, "retried", "Google said no")]


async def test_what_google_has_after_all_is_not_tried_again(site: Site, job_id: str) -> None:
    await site.rows(
        "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, message_id, at) "
        "SELECT id, 5, 't', 'd', 'answered', 'm9', updated_at FROM job_recipients WHERE seq = 4"
    )
    _, answer = await ask(site, job_id, "retry")

    assert answer["recipients"] == 0
    assert (await states(site))[4] == "failed"


async def test_a_completed_job_runs_again_when_its_failures_are_retried(site: Site) -> None:
    _, posted = await site.post(job())
    await site.rows("UPDATE job_recipients SET status = 'failed', attempts = 5, error = 'x'")
    await site.rows("UPDATE jobs SET status = 'completed', finished_at = created_at, next_claim_at = NULL")
    await site.rows("UPDATE senders SET next_claim_at = NULL")
    _, answer = await ask(site, posted["job_id"], "retry", {"only": "failed"})

    assert (answer["job"]["status"], answer["job"]["finished_at"]) == ("sending", None)
    assert await site.rows("SELECT next_claim_at IS NULL FROM jobs") == [(0,)]
    assert await site.rows("SELECT next_claim_at IS NULL FROM senders") == [(0,)]


async def test_retry_of_the_unsure_brings_the_look_forward_but_not_into_the_flight(site: Site, job_id: str) -> None:
    status, answer = await ask(site, job_id, "retry", {"only": "unsure"})

    assert (status, answer["recipients"]) == (200, 1)
    assert (await states(site))[2] == "unsure"
    [(seconds,)] = await site.rows(
        "SELECT TIMESTAMPDIFF(MICROSECOND, updated_at, lease_until) / 1e6 FROM job_recipients WHERE seq = 2"
    )
    assert 59 < seconds < 61  # twice the time-out of a request, counted from when it became unsure
    await site.rows("UPDATE job_recipients SET updated_at = updated_at - INTERVAL 1 HOUR, lease_until = NULL")
    await ask(site, job_id, "retry", {"only": "unsure"})
    assert await site.rows("SELECT lease_until <= UTC_TIMESTAMP(6) FROM job_recipients WHERE seq = 2") == [(1,)]


async def test_who_is_just_being_looked_for_is_left_alone(site: Site, job_id: str) -> None:
    await site.rows("UPDATE job_recipients SET claim_token = 't' WHERE seq = 2")
    _, answer = await ask(site, job_id, "retry", {"only": "unsure"})

    assert (answer["changed"], answer["recipients"]) == (False, 0)


async def test_the_priority_can_be_changed(site: Site, job_id: str) -> None:
    status, answer = await ask(site, job_id, "priority", {"priority": 7})

    assert (status, answer["changed"], answer["job"]["priority"]) == (200, True, 7)
    assert await site.rows("SELECT precedence FROM jobs") == [(-7,)]
    assert (await ask(site, job_id, "priority", {"priority": 7}))[1]["changed"] is False


@pytest.mark.parametrize("change", [each for each in JobChange if each is not JobChange.PRIORITY])
async def test_asking_twice_changes_nothing_more(site: Site, job_id: str, change: JobChange) -> None:
    await ask(site, job_id, change)
    before = await site.rows("SELECT status, attempts, error, due_at FROM job_recipients ORDER BY seq")
    status, answer = await ask(site, job_id, change)

    assert (status, answer["changed"], answer["recipients"]) == (200, False, 0)
    assert await site.rows("SELECT status, attempts, error, due_at FROM job_recipients ORDER BY seq") == before


async def test_the_unsure_messages_of_a_cancelled_job_are_never_told_to_be_posted_anew(site: Site, job_id: str) -> None:
    await ask(site, job_id, "cancel")
    code, answer = await ask(site, job_id, "retry", {"only": "unsure"})

    assert (code, answer["error"]["code"]) == (409, "conflict")
    assert "are checked automatically; use `mailerd settle`" in answer["error"]["message"]
    assert "as a new job" not in answer["error"]["message"]


@pytest.mark.parametrize(
    "status, change",
    [("completed", "cancel"), ("completed", "pause"), ("completed", "resume"), ("cancelled", "resume"),
     ("cancelled", "pause"), ("cancelled", "retry")],
)  # fmt: skip
async def test_what_a_job_cannot_do_any_more_is_a_409(site: Site, job_id: str, status: str, change: str) -> None:
    await site.rows("UPDATE jobs SET status = %s", status)
    code, answer = await ask(site, job_id, change)

    assert (code, answer["error"]["code"]) == (409, "conflict")
    assert status in answer["error"]["message"]
    assert answer["error"]["message"].endswith("; nothing was changed")
    assert await site.rows("SELECT COUNT(*) FROM job_actions") == [(0,)]


async def test_who_asked_for_what_is_noted_and_shown_the_newest_first(site: Site, job_id: str) -> None:
    for change, body in (("pause", None), ("pause", {}), ("resume", None), ("priority", {"priority": -3})):
        await ask(site, job_id, change, body)
    status, answer = await site.get(f"/api/jobs/{job_id}/actions")

    assert status == 200
    told = [(it["action"], it["actor"], it["detail"], it["changed"]) for it in answer["actions"]]
    assert told == [
        ("priority", "key test", "-3", True), ("resume", "key test", None, True), ("pause", "key test", None, False),
        ("pause", "key test", None, True),
    ]  # fmt: skip
    assert answer["actions"][0]["at"].endswith("Z")
    assert [it["action"] for it in site.heard.of("job_action")] == ["pause", "resume", "priority"]


async def test_a_doubt_that_a_person_settled_is_among_what_was_asked_of_its_job(site: Site, job_id: str) -> None:
    [(unsure,)] = await site.rows("SELECT id FROM job_recipients WHERE status = 'unsure'")
    await settle(site.database, unsure, change=Transition.FOUND, actor="command, ada")

    status, answer = await site.get(f"/api/jobs/{job_id}/actions")

    assert status == 200, answer
    assert [(it["action"], it["actor"], it["recipients"]) for it in answer["actions"]] == [
        ("settle", "ada on the command line", 1)
    ]
    assert set(get_args(ActionOut.model_fields["action"].annotation)) == {*JobChange, "change", "settle"}


@pytest.mark.parametrize(
    "change, body, field",
    [("cancel", {"x": 1}, "x"), ("retry", {"only": "sent"}, "only"), ("priority", {}, "priority"),
     ("priority", {"priority": 101}, "priority"), ("priority", {"priority": True}, "priority")],
)  # fmt: skip
async def test_a_bad_body_is_a_422_that_names_it(site: Site, job_id: str, change: str, body: Any, field: str) -> None:
    status, answer = await ask(site, job_id, change, body)

    assert (status, answer["error"]["details"][0]["field"]) == (422, field)


async def test_another_senders_job_cannot_be_touched(site: Site, job_id: str) -> None:
    theirs = {"X-API-Key": await site.keys.create("theirs", senders=["other@example.com"])}

    assert (await ask(site, job_id, "cancel", headers=theirs))[0] == 404
    assert (await ask(site, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "cancel"))[0] == 404
    assert (await site.rows("SELECT status FROM jobs")) == [("sending",)]


async def test_a_change_that_matters_wakes_the_runner(site: Site, job_id: str) -> None:
    before = site.wakeups.count
    await ask(site, job_id, "pause")
    await ask(site, job_id, "resume")
    await ask(site, job_id, "resume")

    assert site.wakeups.count == before + 2


@pytest.mark.parametrize("sent", [b"\t", b" ", b"null", b"[]", b"{"])
async def test_a_body_that_is_no_object_is_refused_and_nothing_is_done(site: Site, sent: bytes) -> None:
    _, posted = await site.post(job())
    url = f"{site.url}/api/jobs/{posted['job_id']}/cancel"
    async with site.client.post(url, data=sent, headers={"Content-Type": "application/json"}) as answer:
        assert answer.status == 422
    assert (await site.get(f"/api/jobs/{posted['job_id']}"))[1]["status"] == "queued"
