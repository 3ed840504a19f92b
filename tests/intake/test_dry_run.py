"""Filters, the CSV of results, and dry runs."""

import asyncio
import csv
import email
import io
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mailerd.errors import DatabaseAwayError
from mailerd.mail.mime import compose
from mailerd.store.write.api_keys import Permission
from tests.intake.site import Build, Site, job, with_aliases
from tests.support.own_time import at_this_speed, own_time


def _away() -> DatabaseAwayError:
    return DatabaseAwayError("recipients", phase="work", cause=OSError("gone"), errno=0, retry=True, in_doubt=False)


async def test_jobs_are_found_by_what_is_known_of_them(site: Site) -> None:
    async def ids(**query: str) -> list[str]:
        status, page = await site.get("/api/jobs", params=query)
        assert status == 200, page
        return [each["job_id"] for each in page["jobs"]]

    _, first = await site.post(job(reference="order 1"))
    _, second = await site.post(job(reference="order 2", sender_email="Other@Example.com"))
    await site.rows("UPDATE jobs SET status = 'paused', created_at = '2020-01-01' WHERE id = %s", first["job_id"])

    assert await ids(reference="order 2") == [second["job_id"]]
    assert await ids(sender_email="OTHER@example.com") == [second["job_id"]]
    assert await ids(status="paused") == [first["job_id"]]
    assert await ids(created_before="2021-01-01T00:00:00+01:00") == [first["job_id"]]
    assert await ids(created_from="2021-01-01T00:00:00Z") == [second["job_id"]]
    assert await ids(status="paused", reference="order 2") == []


@pytest.mark.parametrize(
    "name, value",
    [("status", "done"), ("sender_email", "nobody"), ("created_from", "yesterday"), ("created_before", "2021-01-01"),
     ("reference", "x" * 321), ("colour", "red"), ("created_from", "2021-13-01T00:00:00Z")],
)  # fmt: skip
async def test_a_bad_filter_is_a_422_that_names_it(site: Site, name: str, value: str) -> None:
    status, answer = await site.get("/api/jobs", params={name: value})

    assert (status, answer["error"]["details"][0]["field"]) == (422, name)


async def test_recipients_are_found_by_their_address(site: Site) -> None:
    status, posted = await site.post(job(*({"email": f"r{n}@example.com", "name": "R"} for n in range(5))))
    assert status == 200, (posted, site.heard.events[-5:])
    _, page = await site.get(f"/api/jobs/{posted['job_id']}/recipients", params={"email": "r3@EXAMPLE.com"})

    assert [each["email"] for each in page["recipients"]] == ["r3@example.com"]


async def test_results_come_as_csv_whole_and_harmless_for_a_spreadsheet(site: Site) -> None:
    people = [{"email": f"r{n}@example.com", "name": f'=cmd|"/c calc"!A{n}, é'} for n in range(2500)]
    _, posted = await site.post(job(*people))
    async with site.client.get(f"{site.url}/api/jobs/{posted['job_id']}/results.csv") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Request-Id"] == (await site.heard.wait_for("request_answered", times=2))["request"]
        assert f'{posted["job_id"]}.csv"' in response.headers["Content-Disposition"]
        rows = list(csv.DictReader(io.StringIO(await response.text())))

    assert [row["email"] for row in rows] == [person["email"] for person in people]
    assert rows[7]["name"] == '\'=cmd|"/c calc"!A7, é'
    assert rows[7]["status"] == "waiting"
    async with site.client.get(f"{site.url}/api/jobs/{posted['job_id']}/results.csv?status=sent") as response:
        assert len((await response.text()).splitlines()) == 1


@pytest.mark.parametrize(
    "error, told", [(_away(), "request_unserved"), (ZeroDivisionError(), "request_failed")], ids=["away", "bug"]
)
async def test_results_that_break_half_way_are_a_broken_transfer_and_hold_no_second_answer(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    _, posted = await site.post(job(*({"email": f"r{n}@example.com", "name": "R"} for n in range(1500))))
    read = site.intake.jobs.recipients

    async def recipients(*args: Any, after: int, **options: Any) -> Any:
        if after >= 0:
            raise error
        return await read(*args, after=after, **options)

    monkeypatch.setattr(site.intake.jobs, "recipients", recipients)
    async with site.client.get(f"{site.url}/api/jobs/{posted['job_id']}/results.csv") as response:
        with pytest.raises(aiohttp.ClientPayloadError):  # another head in the body would be a ClientResponseError
            await response.read()
    assert len(site.heard.of(told)) == 1
    status, _ = await site.get(f"/api/jobs/{posted['job_id']}")
    assert status == 200, "the next request has a connection of its own"


async def test_results_that_nobody_reads_are_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    _, posted = await site.post(job())

    async def hang(*_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr("mailerd.http.responses.WRITE_TIMEOUT", 0.05)
    monkeypatch.setattr(web.StreamResponse, "write", hang)
    with pytest.raises(aiohttp.ClientError):
        async with site.client.get(f"{site.url}/api/jobs/{posted['job_id']}/results.csv") as response:
            await response.read()
    assert (await site.heard.wait_for("connection_too_slow"))["reason"] == "the response was not read within 0.05 s"
    assert site.heard.of("request_failed") == []


async def test_a_dry_run_renders_everything_and_stores_nothing(site: Site) -> None:
    status, answer = await site.post(
        job(
            {"email": "ada@example.com", "name": "Ada"},
            {"email": "nobody"},
            {"email": "bob@example.com", "name": "Bob", "variables": {"n": "x"}},
            {"email": "eve@example.com", "name": "Eve", "variables": {"n": 3}},
            template={"subject": "Hi {{ name }}", "html": "<p>{{ 6 // (n | default(2) | int) }}</p>"},
            dry_run=True,
        )
    )

    assert status == 200
    assert (answer["dry_run"], answer["total"], answer["accepted"]) == (True, 4, 2)
    assert {each["index"]: each["email"] for each in answer["rejected"]} == {1: "nobody", 2: "bob@example.com"}
    assert ("job_id" in answer, answer["template"], answer["status"]) == (False, None, "dry_run")
    assert answer["forecast"]["messages_ahead"] == 0
    assert answer["forecast"]["done_at"]
    assert answer["forecast"]["text"]
    assert [(each["subject"], each["html"], each["text"]) for each in answer["samples"]] == [
        ("Hi Ada", "<p>3</p>", "3"), ("Hi Eve", "<p>2</p>", "2"),
    ]  # fmt: skip
    sizes = answer["message_bytes"]
    assert 300 < sizes["smallest"] <= sizes["average"] <= sizes["largest"] < 2000
    assert await site.stored() == (0, 0)
    assert site.wakeups.count == 0


@pytest.mark.parametrize(
    "emails, on_invalid, refused",
    [
        (["ada@example.com", "bob@example.com"], "reject", ""),
        (["ada@example.com", "nobody"], "reject", "1 of its 2 recipients is invalid"),
        (["ada@example.com", "bob@example.com", "ada@example.com"], "reject", "1 of its 3 recipients is invalid"),
        (["ada@example.com", "nobody"], "skip", ""),
        (["nobody", "neither"], "skip", "none of its recipients is valid"),
    ],
)
async def test_a_dry_run_says_what_the_post_of_its_body_is_answered(
    site: Site, emails: list[str], on_invalid: str, refused: str
) -> None:
    body = job(*({"email": each, "name": "N"} for each in emails), on_invalid=on_invalid)
    async with site.client.post(f"{site.url}/api/jobs/send_template_emails/dry_run", json=body) as response:
        status, answer = response.status, await response.json()
    assert status == 200, answer
    assert answer["post_refused"] is bool(refused)
    assert refused in "".join(answer["warnings"])
    _, by_field = await site.post({**body, "dry_run": True})
    assert {**by_field, "forecast": {}} == {**answer, "forecast": {}}, "but for the moment of the forecast"
    status, posted = await site.post(body)
    assert status == (422 if refused else 200), posted


async def test_a_dry_run_refuses_a_list_that_its_key_may_not_make(site: Site) -> None:
    headers = {"X-API-Key": await site.keys.create("poster", permissions=[Permission.SEND])}
    for body in (job(list="news"), job(list="news", dry_run=True)):
        status, answer = await site.post(body, headers=headers)
        assert (status, answer["error"]["details"][0]["field"]) == (422, "list")


async def test_a_dry_run_of_ten_thousand_takes_seconds_and_the_loop_stays_awake(site: Site) -> None:
    people = [{"email": f"r{n}@example.com", "name": f"R {n}", "variables": {"n": n}} for n in range(10_000)]
    started = own_time()
    status, answer = await site.post(job(*people, dry_run=True))

    assert (status, answer["accepted"]) == (200, 10_000)
    assert len(answer["samples"]) == 3
    assert own_time() - started < at_this_speed(20)


async def test_duplicates_are_sent_once_unless_they_are_allowed(site: Site) -> None:
    twice = [{"email": "ada@example.com", "name": "Ada"}, {"email": "ada@EXAMPLE.com", "name": "Ada"}]
    status, answer = await site.post(job(*twice))
    assert (status, answer["error"]["details"][0]["message"]) == (422, "duplicate of recipients[0]")
    status, answer = await site.post(job(*twice, allow_duplicates=True))
    assert (status, answer["accepted"]) == (200, 2)


@pytest.mark.parametrize(
    "first, second, is_one",
    [
        ("ada@example.com", "Ada@example.com", True),
        ("a.da@gmail.com", "ada@googlemail.com", True),
        ("a.da@example.com", "ada@example.com", False),
        ("ada@gmail.com", "ada+news@gmail.com", False),
    ],
)
async def test_two_spellings_of_one_mailbox_are_duplicates(site: Site, first: str, second: str, is_one: bool) -> None:  # noqa: FBT001
    status, answer = await site.post(job({"email": first, "name": "A"}, {"email": second, "name": "A"}))
    if is_one:
        told = answer["error"]["details"][0]["message"]
        assert (status, told) == (422, f"duplicate of recipients[0], written {first}")
    else:
        assert (status, answer["accepted"]) == (200, 2)


async def test_a_dry_run_makes_the_message_that_would_be_sent_with_the_alias_in_from(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list[bytes]()

    def kept(*args: Any, **options: Any) -> bytes:
        made.append(compose(*args, **options))
        return made[-1]

    monkeypatch.setattr("mailerd.intake.message_size.compose", kept)
    site = await build(senders=with_aliases(tmp_path, {"sales@shop.example": "me@example.com"}))
    status, _ = await site.post(job(sender_email="sales@shop.example", dry_run=True))
    message = email.message_from_bytes(made[0])
    assert status == 200
    assert message["From"] == "sales@shop.example"
    assert message["Message-ID"].endswith("@shop.example>")
