"""The contract of POST /api/jobs/send_template_emails."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailerd.errors import DatabaseError
from tests.intake.site import Site, job


async def test_a_field_that_is_null_is_as_good_as_absent(site: Site) -> None:
    person = {"email": "a@example.com", "name": None, "variables": None, "language": None, "attachments": None}
    absent = dict.fromkeys(["sender_name", "reply_to", "template_name", "attachments", "send_at", "reference", "list"])
    status, answer = await site.post(job(person, template={"subject": "s", "text": "x", "html": None}, **absent))
    assert (status, answer.get("accepted")) == (200, 1), answer


async def test_a_job_is_stored_before_the_200_and_the_runner_is_woken(site: Site) -> None:
    status, answer = await site.post(job())

    assert status == 200
    assert answer == {
        "job_id": answer["job_id"],
        "status": "queued",
        "total": 1,
        "accepted": 1,
        "rejected": [],
        "rejected_total": 0,
        "suppressed": [],
        "suppressed_total": 0,
        "suppressed_copies": [],
        "warnings": [],
        "send_at": answer["send_at"],
        "forecast": answer["forecast"],
    }
    assert await site.rows("SELECT id, type, status, total FROM jobs") == [(answer["job_id"], "template", "queued", 1)]
    assert site.wakeups.count == 1
    [accepted] = site.heard.of("job_accepted")
    assert accepted["job"] == answer["job_id"]
    assert accepted["key"] == "test"


async def test_every_field_of_the_contract_is_stored(site: Site) -> None:
    when = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    status, answer = await site.post(
        job(
            {"email": " Ada@EXAMPLE.com ", "name": " Ada ", "variables": {"n": 1, "wish": "é中🎉"}},
            {"email": "bob@example.com", "name": "", "variables": {"name": "Bob"}},
            sender_email="Me@Example.com",
            sender_name="Me, Myself",
            reply_to="help@example.com",
            template={"subject": "Hello {{ name }} 🎉", "html": "<p>{{ name }}</p>", "text": "{{ name }}"},
            send_at=when.isoformat(),
            priority=-7,
            reference="order 中",
        )
    )

    assert status == 200
    assert answer["send_at"] == when.strftime("%Y-%m-%dT%H:%M:%SZ")
    naive = when.replace(tzinfo=None)
    assert await site.rows(
        "SELECT sender_email, sender_name, reply_to, subject, html, text, variables, reference, priority, "
        "next_claim_at, send_at, created_at < send_at, api_key_id FROM jobs"
    ) == [
        (
            "me@example.com", "Me, Myself", "help@example.com", "Hello {{ name }} 🎉", "<p>{{ name }}</p>",
            "{{ name }}", '{"product":"X"}', "order 中", -7, naive, naive, 1, 1,
        )
    ]  # fmt: skip
    assert await site.rows("SELECT seq, to_email, to_name, variables, status, due_at FROM job_recipients") == [
        (0, "Ada@example.com", "Ada", '{"n":1,"wish":"é中🎉"}', "waiting", naive),
        (1, "bob@example.com", None, '{"name":"Bob"}', "waiting", naive),
    ]
    assert await site.rows("SELECT email, next_claim_at FROM senders") == [("me@example.com", naive)]


async def test_a_time_that_is_past_means_now_by_the_databases_clock(site: Site) -> None:
    status, answer = await site.post(job(send_at="2001-01-01T00:00:00+05:30"))

    assert status == 200
    moment = datetime.fromisoformat(answer["send_at"])
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=1)
    assert await site.rows("SELECT send_at = created_at, next_claim_at = created_at FROM jobs") == [(1, 1)]


async def test_with_skip_the_bad_ones_are_kept_as_failed_with_their_reason(site: Site) -> None:
    status, answer = await site.post(
        job(
            {"email": "ada@example.com", "name": "Ada"},
            {"email": "nowhere", "name": "N"},
            {"email": "ada@example.com", "name": "Again"},
            {"email": "nameless@example.com"},
            {"nme": "x"},
            7,
            {"email": "bob@example.com", "name": "Bob"},
            on_invalid="skip",
        )
    )

    assert status == 200
    assert (answer["total"], answer["accepted"], answer["rejected_total"]) == (7, 2, 5)
    reasons = {each["index"]: each["reason"] for each in answer["rejected"]}
    assert list(reasons) == [1, 2, 3, 4, 5]
    assert reasons[1] == "has no @"
    assert reasons[2] == "duplicate of recipients[0]"
    assert "'name' is undefined" in reasons[3]
    assert "nme" in reasons[4]
    assert answer["rejected"][1]["email"] == "ada@example.com"
    rows = await site.rows("SELECT seq, status, attempts, error FROM job_recipients ORDER BY seq")
    assert rows == [
        (0, "waiting", 0, None),
        *((n, "failed", 0, f"not accepted: {reasons[n]}") for n in range(1, 6)),
        (6, "waiting", 0, None),
    ]
    _, shown = await site.get(f"/api/jobs/{answer['job_id']}")
    assert shown["counts"]["failed"] == 5
    assert shown["progress"] == pytest.approx(5 / 7)


async def test_a_rejected_address_may_come_again_in_a_good_row(site: Site) -> None:
    status, answer = await site.post(
        job({"email": "ada@example.com"}, {"email": "ada@example.com", "name": "Ada"}, on_invalid="skip")
    )

    assert status == 200
    assert [each["index"] for each in answer["rejected"]] == [0]


async def test_if_all_are_bad_skip_stores_nothing(site: Site) -> None:
    status, answer = await site.post(job({"email": "x"}, {"email": "y"}, on_invalid="skip"))

    assert status == 422
    assert len(answer["error"]["details"]) == 2
    assert await site.stored() == (0, 0)
    assert site.wakeups.count == 0


async def test_the_forecast_counts_what_waits_before(site: Site) -> None:
    two = ({"email": "a@example.com", "name": "A"}, {"email": "b@example.com", "name": "B"})
    await site.post(job(*two, priority=1))
    await site.post(job(*two))  # it takes turns with the next one of its priority
    await site.post(job(priority=-1))
    await site.post(job(sender_email="other@example.com"))
    _, answer = await site.post(job())

    assert answer["forecast"]["messages_ahead"] == 3


async def test_a_forecast_that_fails_leaves_the_200_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise DatabaseError("forecast", phase="work", cause=OSError("gone"), errno=0, retry=True, in_doubt=False)

    monkeypatch.setattr("mailerd.store.read.forecast_inputs.ForecastReader._ask", fail)
    status, answer = await site.post(job())

    assert (status, answer["forecast"]) == (200, {})
    assert site.heard.of("forecast_failed")[0]["job"] == answer["job_id"]
    status, shown = await site.get(f"/api/jobs/{answer['job_id']}")
    assert (status, shown["forecast"], shown["counts"]["waiting"]) == (200, {}, 1)
    status, page = await site.get("/api/jobs")
    assert (status, page["jobs"]) == (200, [shown | {"outcomes": {}}])  # a list counts none
    status, rehearsed = await site.post(job(dry_run=True))
    assert (status, rehearsed["forecast"]) == (200, {})
    assert len(site.heard.of("forecast_failed")) == 4


async def test_a_forecast_that_is_late_does_not_hold_up_the_200(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("mailerd.intake.create_job.FORECAST_TIMEOUT", 0.2)
    with monkeypatch.context() as frozen:
        frozen.setattr("mailerd.store.read.forecast_inputs.ForecastReader.read", never)
        async with asyncio.timeout(10):
            status, answer = await site.post(job(), headers={"Idempotency-Key": "late"})

    assert (status, answer["forecast"]) == (200, {})
    (late,) = site.heard.of("forecast_failed")
    assert (late["job"], late["cause"]) == (answer["job_id"], "no response from the database within 0.2 s")
    assert (await site.post(job(), headers={"Idempotency-Key": "late"})) == (200, answer), "as it is stored"
    assert (await site.get(f"/api/jobs/{answer['job_id']}"))[1]["forecast"]["done_at"]


@pytest.mark.parametrize(
    "template",
    [
        {"subject": "Hi", "html": "{% if vip is defined %}{{ vip }}{% endif %}"},
        {"subject": "Hi", "text": "{{ name | default('you') }}"},
        {"subject": "Hi", "text": "to {{ email }}"},
        {"subject": "Hi", "html": "<p>x</p>", "text": None},
    ],
)
async def test_what_a_template_can_do_without_is_not_asked_for(site: Site, template: dict[str, Any]) -> None:
    status, answer = await site.post(job({"email": "ada@example.com"}, template=template))

    assert status == 200, answer


async def test_the_content_type_is_not_asked_about(site: Site) -> None:
    status, _ = await site.post_bytes(json.dumps(job()).encode(), headers={"Content-Type": "text/plain"})

    assert status == 200
