"""Headers, metadata and tags of a post: checked with all else, stored once, and given back where that is promised."""

import csv
import io
import json
from typing import Any

import pytest

from tests.intake.site import Site, job
from tests.support.rows import query

ADA = {
    "email": "ada@example.com", "name": "Ada", "metadata": {"customer": "c_81", "plan": "größer"},
    "headers": {"X-Entity-Ref-ID": "order-1042"},
}  # fmt: skip
BOB = {"email": "bob@example.com", "name": "Bob"}
OF_JOB: dict[str, Any] = {
    "metadata": {"campaign": "autumn"}, "tags": ["welcome", "a-b_C"], "headers": {"Auto-Submitted": "auto-generated"},
}  # fmt: skip


async def test_a_job_and_its_recipients_come_back_with_what_they_were_posted_with(site: Site) -> None:
    job_id = await site.posted(ADA, BOB, **OF_JOB)
    _, shown = await site.get(f"/api/jobs/{job_id}")
    assert (shown["metadata"], shown["tags"]) == (OF_JOB["metadata"], ["a-b_C", "welcome"])
    _, page = await site.get(f"/api/jobs/{job_id}/recipients")
    assert [it["metadata"] for it in page["recipients"]] == [ADA["metadata"], {}]
    _, person = await site.get("/api/recipients?email=ada@example.com")
    assert person["recipients"][0]["metadata"] == ADA["metadata"]
    assert await site.rows("SELECT headers, metadata FROM job_recipients ORDER BY seq") == [
        ('{"X-Entity-Ref-ID":"order-1042"}', '{"customer":"c_81","plan":"größer"}'), (None, None),
    ]  # fmt: skip
    assert await site.rows("SELECT headers, metadata FROM jobs") == [
        ('{"Auto-Submitted":"auto-generated"}', '{"campaign":"autumn"}')
    ]


async def test_the_results_end_with_the_metadata(site: Site) -> None:
    job_id = await site.posted(ADA, BOB)
    async with site.client.get(f"{site.url}/api/jobs/{job_id}/results.csv") as response:
        head, first, second = csv.reader(io.StringIO(await response.text()))
    assert (head[-1], json.loads(first[-1]), second[-1]) == ("metadata", ADA["metadata"], "")


async def test_a_job_without_any_has_empty_ones(site: Site) -> None:
    job_id = await site.posted()
    _, shown = await site.get(f"/api/jobs/{job_id}")
    assert (shown["metadata"], shown["tags"]) == ({}, [])


async def test_who_gets_no_message_is_named_with_its_metadata(site: Site) -> None:
    suppressed = {"suppressions": [{"email": "out@example.com"}]}
    async with site.client.post(f"{site.url}/api/suppressions", json=suppressed) as response:
        assert response.status == 200
    bad = {"email": "nobody", "metadata": {"customer": "c_82"}}
    out = {"email": "out@example.com", "name": "Out", "metadata": {"customer": "c_83"}}
    body = job(ADA, bad, {"email": "nothing"}, out, on_invalid="skip")
    status, answer = await site.post(body)
    assert status == 200, answer
    assert [it.get("metadata") for it in answer["rejected"]] == [{"customer": "c_82"}, None]
    assert [it.get("metadata") for it in answer["suppressed"]] == [{"customer": "c_83"}]
    async with site.client.post(f"{site.url}/api/jobs/send_template_emails/dry_run", json=body) as response:
        found = await response.json()
    assert [it.get("metadata") for it in found["rejected"]] == [{"customer": "c_82"}, None]


async def test_everything_that_is_wrong_is_named_by_its_field_and_nothing_is_stored(site: Site) -> None:
    bad = {"metadata": {"customer": "x" * 501, "no key": "1", "n": 5}, "headers": {"Bcc": "eve@example.com"}}
    status, answer = await site.post(
        job(
            ADA, BOB, {"email": "carl@example.com", "name": "Carl", **bad},
            tags=["good", "not good"], headers={"X-Mailerd-Key": "1", "Subject": "x"}, metadata={"a": None},
        )
    )  # fmt: skip
    assert status == 422
    assert {it["field"]: it["message"] for it in answer["error"]["details"]} == {
        "tags[1]": "must have 1 to 50 of the characters A-Z, a-z, 0-9, _ and -",
        "headers.X-Mailerd-Key": "is set by mailerd",
        "headers.Subject": "is a field of its own: template",
        "metadata.a": "must be a string",
        "recipients[2].metadata.customer": "is longer than 500 characters",
        "recipients[2].metadata.no key":
            "is not a key: it must have 1 to 40 of the characters A-Z, a-z, 0-9, _, . and -",
        "recipients[2].metadata.n": "must be a string",
        "recipients[2].headers.Bcc": "is a field of its own: bcc",
    }  # fmt: skip
    assert await site.stored() == (0, 0)
    assert await site.rows("SELECT COUNT(*) FROM job_tags") == [(0,)]


@pytest.mark.parametrize(
    "fields, field, why",
    [
        ({"metadata": {f"k{n}": "v" for n in range(21)}}, "metadata", "has 21 entries, above the limit of 20"),
        ({"metadata": {f"k{n}": "v" for n in range(50_000)}}, "metadata", "has 50000 entries"),
        ({"headers": {f"X-{n}": "v" for n in range(50_000)}}, "headers", "has 50000 entries"),
        ({"metadata": {f"k{n}": "é" * 240 for n in range(20)}}, "metadata", "above the limit of 8,000"),
        ({"metadata": ["a"]}, "metadata", "must be an object"),
        ({"headers": {f"X-{n}": "v" for n in range(21)}}, "headers", "has 21 entries, above the limit of 20"),
        ({"headers": {f"X-{n}": "v" * 800 for n in range(20)}}, "headers", "above the limit of 8,000"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "headers", "has a name twice"),
        ({"headers": "X-A: 1"}, "headers", "must be an object"),
        ({"tags": ["t"] * 11}, "tags", "has 11 entries, above the limit of 10"),
        ({"tags": "welcome"}, "tags", "must be a list"),
        ({"recipients": [{**ADA, "metadata": {f"k{n}": "v" * 400 for n in range(5)}}]}, "recipients[0].metadata",
         "above the limit of 2,000"),
        ({"recipients": [{**ADA, "tags": ["a"]}]}, "recipients[0].tags", "unknown field"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value,
)  # fmt: skip
async def test_too_much_is_refused_before_it_costs_anything(
    site: Site, fields: dict[str, Any], field: str, why: str
) -> None:
    status, answer = await site.post(job(**fields))
    assert status == 422
    ((named, said),) = [(it["field"], it["message"]) for it in answer["error"]["details"]]
    assert (named, why in said) == (field, True), said
    assert await site.stored() == (0, 0)


async def test_a_bad_header_fails_its_own_recipient_alone_where_bad_ones_are_skipped(site: Site) -> None:
    bad = {**BOB, "headers": {"List-Id": "<a@b>"}, "metadata": {"customer": "c_9"}}
    status, answer = await site.post(job(ADA, bad, on_invalid="skip"))
    assert (status, answer["accepted"]) == (200, 1)
    assert answer["rejected"] == [
        {"index": 1, "email": "bob@example.com", "metadata": {"customer": "c_9"},
         "reason": "headers.List-Id: is for mailing lists: use the field list"}
    ]  # fmt: skip


async def test_metadata_is_no_variable(site: Site) -> None:
    template = {"subject": "s", "text": "{{ customer }} {{ metadata }}"}
    status, answer = await site.post(job(ADA, template=template, metadata={"customer": "c_1"}))
    assert status == 422
    assert "customer" in answer["error"]["details"][0]["message"]


async def test_headers_count_for_the_size_of_a_message(site: Site) -> None:
    same = {"email": "ada@example.com", "name": "Ada"}
    body = job(same, {**same, "headers": {"X-Order": "17"}}, headers={"Importance": "low"}, allow_duplicates=True)
    async with site.client.post(f"{site.url}/api/jobs/send_template_emails/dry_run", json=body) as response:
        sizes = (await response.json())["message_bytes"]
    assert sizes["largest"] - sizes["smallest"] == len("X-Order: 17\r\n")
    async with site.client.post(
        f"{site.url}/api/jobs/send_template_emails/dry_run", json={**body, "headers": {}}
    ) as response:
        without = (await response.json())["message_bytes"]
    assert sizes["smallest"] - without["smallest"] == len("Importance: low\r\n")


async def test_jobs_are_found_by_a_tag_page_by_page_and_by_no_other_key(site: Site) -> None:
    mine = [await site.posted(tags=["welcome", str(n % 2)]) for n in range(5)]
    await site.posted(tags=["other"])
    other = await site.posted(tags=["welcome"], sender_email="you@example.com")
    _, page = await site.get("/api/jobs?tag=welcome&limit=3")
    assert [it["job_id"] for it in page["jobs"]] == [other, *reversed(mine[3:])]
    _, page = await site.get(f"/api/jobs?tag=welcome&limit=3&cursor={page['next_cursor']}")
    assert ([it["job_id"] for it in page["jobs"]], page["next_cursor"]) == ([*reversed(mine[:3])], None)
    _, page = await site.get("/api/jobs?tag=welcome&sender_email=you@example.com&status=queued")
    assert [it["job_id"] for it in page["jobs"]] == [other]
    _, page = await site.get("/api/jobs?tag=unheard-of")
    assert page["jobs"] == []
    status, answer = await site.get("/api/jobs?tag=a+b")
    assert (status, answer["error"]["details"][0]["field"]) == (422, "tag")
    key = await site.keys.create("theirs", senders=["you@example.com"])
    _, page = await site.get("/api/jobs?tag=welcome", headers={"X-API-Key": key})
    assert [it["job_id"] for it in page["jobs"]] == [other]


async def test_a_tag_that_is_given_twice_is_stored_once(site: Site) -> None:
    job_id = await site.posted(tags=["b", "a", "b"])
    assert await query(site.database, "SELECT tag FROM job_tags WHERE job_id = %s ORDER BY tag", job_id) == [
        ("a",), ("b",),
    ]  # fmt: skip
