"""A recipient's own `send_at`: its row, the job's time, its limits, and what is said of the next moment."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.intake.site import Site, job
from tests.intake.test_change_job import change, person, times

FIRST, LATER, LAST = "2027-02-01T09:00:00Z", "2027-03-01T10:00:00+01:00", "2027-03-08T09:00:00Z"


async def test_it_is_when_its_row_is_due_and_the_job_has_the_first_of_them(site: Site) -> None:
    id_ = await site.posted(person("a") | {"send_at": LAST}, person("b") | {"send_at": LATER})
    assert await times(site, id_) == ["2027-03-08 09:00", "2027-03-01 09:00"]
    _, answer = await site.get(f"/api/jobs/{id_}")
    assert answer["send_at"] == "2027-03-01T09:00:00Z"
    assert await site.rows("SELECT next_claim_at = send_at FROM jobs WHERE id = %s", id_) == [(1,)]
    assert await site.rows("SELECT 1 FROM senders WHERE next_claim_at = '2027-03-01 09:00'") == [(1,)]


async def test_one_without_it_and_one_whose_time_is_past_have_the_jobs_time(site: Site) -> None:
    id_ = await site.posted(person("a"), person("b") | {"send_at": LATER, "headers": {"X-A": "1"}}, send_at=FIRST)
    assert await times(site, id_) == ["2027-02-01 09:00", "2027-03-01 09:00"]
    id_ = await site.posted(person("a") | {"send_at": "2020-01-01T00:00:00Z"}, person("b"))
    assert await site.rows("SELECT COUNT(DISTINCT due_at), MAX(due_at) <= UTC_TIMESTAMP(6) FROM job_recipients "
                           "WHERE job_id = %s", id_) == [(1, 1)]  # fmt: skip


async def test_a_time_that_is_past_is_warned_of(site: Site) -> None:
    past = "2020-01-01T00:00:00+01:00"
    _, answer = await site.post(job(person("a"), person("b"), send_at=past))
    assert answer["warnings"] == ["send_at 2019-12-31T23:00:00Z is in the past: the job is sent immediately"]
    _, answer = await site.post(job(person("a") | {"send_at": past}, person("b")))
    assert answer["warnings"] == ["1 recipient has a send_at in the past: its message is sent immediately"]
    moments_ago = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    _, answer = await site.post(job(person("a") | {"send_at": moments_ago}, person("b"), send_at=moments_ago))
    assert answer["warnings"] == []


async def test_the_time_of_one_that_is_not_sent_is_not_the_jobs(site: Site) -> None:
    bad = {"email": "no address", "send_at": FIRST}
    id_ = await site.posted(bad, person("b") | {"send_at": LATER}, on_invalid="skip")
    assert (await site.get(f"/api/jobs/{id_}"))[1]["send_at"] == "2027-03-01T09:00:00Z"


@pytest.mark.parametrize(
    "send_at, why",
    [
        ("2027-01-31T23:59:59Z", "is before the job's send_at"),
        ("2027-02-01T10:00:00", "must say its zone"),
        ("2099-01-01T00:00:00Z", "is more than a year ahead"),
        (1800000000, "must be"),
    ],
)
async def test_what_it_cannot_be_is_said_with_the_recipients_index(site: Site, send_at: object, why: str) -> None:
    status, answer = await site.post(job(person("a"), person("b") | {"send_at": send_at}, send_at=FIRST))
    assert (status, [it["field"] for it in answer["error"]["details"]]) == (422, ["recipients[1].send_at"])
    assert why in answer["error"]["details"][0]["message"]
    assert await site.stored() == (0, 0)


async def test_more_than_a_thousand_moments_are_warned_of(site: Site) -> None:
    start = datetime(2027, 2, 1, tzinfo=UTC)
    many = [person(f"r{n}") | {"send_at": (start + timedelta(seconds=n)).isoformat()} for n in range(1001)]
    _, answer = await site.post(job(*many))
    assert answer["warnings"][1:] == [
        "the recipients of this job have 1,001 different send_at; with few of them a job is easier to follow and to "
        "change"
    ]
    assert (await site.post(job(*many[1:])))[1]["warnings"][1:] == []


async def test_another_time_of_the_job_moves_only_those_that_have_the_jobs(site: Site) -> None:
    id_ = await site.posted(person("a"), person("b") | {"send_at": LATER}, send_at=FIRST)
    status, answer = await change(site, id_, {"send_at": "2027-02-20T08:00:00Z"})
    assert (status, answer["job"]["send_at"]) == (200, "2027-02-20T08:00:00Z")
    assert await times(site, id_) == ["2027-02-20 08:00", "2027-03-01 09:00"]
    status, answer = await change(site, id_, {"send_at": LAST})
    assert (status, answer["error"]["message"]) == (409, "1 message has a send_at of its own before this time")
    assert await times(site, id_) == ["2027-02-20 08:00", "2027-03-01 09:00"]


async def test_its_own_time_is_kept_where_the_jobs_was_the_same_for_a_while(site: Site) -> None:
    id_ = await site.posted(person("a") | {"send_at": LATER}, person("b"), send_at=FIRST)
    for at, said, due in (
        (LATER, "2027-03-01T09:00:00Z", "2027-03-01 09:00"), (FIRST, FIRST, "2027-02-01 09:00"),
        (LATER, "2027-03-01T09:00:00Z", "2027-03-01 09:00"),
    ):  # fmt: skip
        status, answer = await change(site, id_, {"send_at": at})
        assert (status, answer["changed"], answer["job"]["send_at"]) == (200, True, said)
        assert await times(site, id_) == ["2027-03-01 09:00", due]
    for step in ("pause", "resume"):
        async with site.client.post(f"{site.url}/api/jobs/{id_}/{step}") as response:
            assert response.status == 200
    status, answer = await change(site, id_, {"send_at": None})
    assert (status, answer["changed"]) == (200, True)
    assert await site.rows("SELECT due_at <= UTC_TIMESTAMP(6) FROM job_recipients WHERE job_id = %s ORDER BY seq",
                           id_) == [(0,), (1,)]  # fmt: skip
    assert (await times(site, id_))[0] == "2027-03-01 09:00"
    assert answer["job"]["forecast"]["done_at"] == "2027-03-01T09:00:00Z"
    assert await site.rows("SELECT next_claim_at <= UTC_TIMESTAMP(6) FROM jobs WHERE id = %s", id_) == [(1,)]


@pytest.mark.parametrize("first", [None, FIRST, LATER])
async def test_a_job_of_own_times_alone_keeps_them_and_says_so(site: Site, first: str | None) -> None:
    id_ = await site.posted(person("a") | {"send_at": LATER}, person("b") | {"send_at": LAST}, send_at=first)
    before = await site.rows("SELECT send_at, next_claim_at FROM jobs WHERE id = %s", id_)
    for at, why in (
        (None, "every message of this job has a send_at of its own and keeps it"),
        ("2027-02-15T09:00:00Z", "every message of this job has a send_at of its own and keeps it"),
        (LAST, "1 message has a send_at of its own before this time"),
        ("2027-04-01T09:00:00Z", "2 messages have a send_at of their own before this time"),
    ):
        status, answer = await change(site, id_, {"send_at": at, "reference": "new"})
        assert (status, answer["error"]["code"], answer["error"]["message"]) == (409, "conflict", why)
    assert (await change(site, id_, {"send_at": LATER, "reference": "new"}))[1]["changed"] is True, "it has that time"
    assert await times(site, id_) == ["2027-03-01 09:00", "2027-03-08 09:00"]
    assert await site.rows("SELECT send_at, next_claim_at FROM jobs WHERE id = %s", id_) == before


async def test_one_whose_own_time_was_past_is_not_put_off(site: Site) -> None:
    id_ = await site.posted(person("a") | {"send_at": "0001-01-01T00:00:00Z"}, person("b"))
    status, answer = await change(site, id_, {"send_at": LATER})
    assert (status, answer["error"]["message"]) == (409, "1 message has a send_at of its own before this time")


async def test_once_the_first_is_sent_the_next_moment_is_the_cause_of_the_wait(site: Site) -> None:
    id_ = await site.posted(person("a"), person("b") | {"send_at": LATER}, person("c") | {"send_at": LAST})
    _, answer = await site.get(f"/api/jobs/{id_}")
    assert answer["cause_of_wait"] is None
    assert answer["forecast"]["done_at"] == "2027-03-08T09:00:00Z"
    assert "1 today, the rest from " in answer["forecast"]["text"]
    await site.rows("UPDATE job_recipients SET status = 'sent' WHERE job_id = %s AND seq = 0", id_)
    await site.rows(
        "UPDATE jobs SET status = 'sending', started_at = UTC_TIMESTAMP(6), next_claim_at = '2027-03-01 09:00' "
        "WHERE id = %s", id_,
    )  # fmt: skip
    for path in (f"/api/jobs/{id_}", "/api/jobs"):
        _, answer = await site.get(path)
        assert str((answer.get("jobs") or [answer])[0]["cause_of_wait"]).startswith("not due before "), path
    rows = await site.rows("SELECT id FROM job_recipients WHERE job_id = %s ORDER BY seq", id_)
    said = [" ".join((await site.get(f"/api/recipients/{row[0]}"))[1]["story"]) for row in rows[1:]]
    assert "not due before 2027-03-01 09:00:00 UTC" in said[0]
    assert "not due before 2027-03-08 09:00:00 UTC" in said[1]
