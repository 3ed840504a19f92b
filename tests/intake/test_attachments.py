"""Attachments in a job: stored once, checked with the message, refused where they could do harm."""

import io
import json
from base64 import b64encode
from typing import Any

import pytest

from mailerd.config import IntakeSettings
from mailerd.store.queue.job_content import attachments
from mailerd.store.write.new_jobs import PIECE
from tests.intake.site import Build, Site, job


def a_file(content: bytes = b"hello", /, **fields: Any) -> dict[str, Any]:
    made = {"filename": "a.pdf", "content_type": "application/pdf", "content": b64encode(content).decode()}
    return {**made, **fields}


async def post_large(site: Site, body: dict[str, Any]) -> tuple[int, Any]:
    return await site.post_bytes(io.BytesIO(json.dumps(body).encode()))


async def test_a_content_is_stored_once_whoever_gets_it(site: Site) -> None:
    status, answer = await site.post(
        job(
            {"email": "a@example.com", "name": "A", "attachments": [a_file(filename="own.pdf")]},
            {"email": "b@example.com", "name": "B", "attachments": [a_file(b"other")]},
            attachments=[a_file(), a_file(filename="logo.png", content_type=None, content_id="logo")],
        )
    )

    assert status == 200, (answer, site.heard.events[-3:])
    assert await site.rows("SELECT content FROM attachment_chunks ORDER BY content") == [(b"hello",), (b"other",)]
    assert await site.rows(
        "SELECT recipient_seq, filename, content_type, content_id, size FROM job_attachments ORDER BY id"
    ) == [
        (None, "a.pdf", "application/pdf", None, 5),
        (None, "logo.png", "image/png", "logo", 5),
        (0, "own.pdf", "application/pdf", None, 5),
        (1, "a.pdf", "application/pdf", None, 5),
    ]
    [mine] = await attachments(site.database, answer["job_id"], recipient=1)
    assert (mine.filename, mine.content) == ("a.pdf", b"other")


@pytest.mark.parametrize(
    "name, kind",
    [
        ("old.eml", "application/octet-stream"),  # message/rfc822 in base64 is no MIME: readers lose what is in it
        ("page.mht", "application/octet-stream"),
        ("people.csv.gz", "application/gzip"),
        ("all.tar.gz", "application/gzip"),
        ("people.csv.bz2", "application/octet-stream"),
        ("people.csv", "text/csv"),
        ("no_ending", "application/octet-stream"),
    ],
)
async def test_a_name_tells_a_type_that_readers_can_open(site: Site, name: str, kind: str) -> None:
    status, answer = await site.post(job(attachments=[a_file(filename=name, content_type=None)]))
    assert status == 200, (answer, site.heard.events[-3:])

    assert await site.rows("SELECT content_type FROM job_attachments") == [(kind,)]


async def test_a_large_file_is_stored_in_pieces_and_read_back_whole(site: Site) -> None:
    content = bytes(range(256)) * 12_000
    status, answer = await post_large(site, job(attachments=[a_file(content)]))
    assert status == 200, (answer, site.heard.events[-3:])

    assert await site.rows("SELECT COUNT(*) FROM attachment_chunks") == [(-(-len(content) // PIECE),)]
    [found] = await attachments(site.database, answer["job_id"], recipient=None)
    assert found.content == content


@pytest.mark.parametrize(
    "change, field, words",
    [
        ({"filename": "../../etc/passwd"}, "filename", "path"),
        ({"filename": "x.exe"}, "filename", "Gmail rejects"),
        ({"filename": "a\r\nBcc: x@example.com.pdf"}, "filename", "U+000D"),
        ({"content_type": "text/html\r\nX: y"}, "content_type", "type such as"),
        ({"content_type": "multipart/mixed"}, "content_type", "single file"),
        ({"content": "%%%"}, "content", "base64"),
        ({"content": "é"}, "content", "base64"),
        ({"content": ""}, "content", "empty"),
        ({"content_id": "<logo>"}, "content_id", "digits"),
        ({"url": "file:///etc/passwd"}, "url", "unknown field"),
    ],
)
async def test_a_bad_attachment_is_named_wherever_it_stands(
    site: Site, change: dict[str, Any], field: str, words: str
) -> None:
    bad = a_file(**change)
    for body, path in (
        (job(attachments=[bad]), f"attachments[0].{field}"),
        (job({"email": "a@example.com", "name": "A", "attachments": [bad]}), f"recipients[0].attachments[0].{field}"),
    ):
        status, answer = await site.post(body)
        [fault] = answer["error"]["details"]
        assert (status, fault["field"]) == (422, path)
        assert words in fault["message"]
    assert await site.stored() == (0, 0)


async def test_a_bad_attachment_hides_no_other(site: Site) -> None:
    wrong = [a_file(filename="NUL"), a_file(content="!!"), a_file()]
    status, answer = await site.post(
        job({"email": "a@example.com", "name": "A", "attachments": wrong}, attachments=wrong)
    )
    assert status == 422
    assert [fault["field"] for fault in answer["error"]["details"]] == [
        "attachments[0].filename",
        "attachments[1].content",
        "recipients[0].attachments[0].filename",
        "recipients[0].attachments[1].content",
    ]
    assert await site.stored() == (0, 0)


async def test_a_message_above_googles_limit_is_refused_before_it_is_stored(build: Build) -> None:
    site = await build(patience=10)
    half = a_file(b"x" * 14_000_000)
    status, answer = await post_large(site, job(attachments=[half]))
    assert status == 200, answer
    status, answer = await post_large(
        site, job({"email": "a@example.com", "name": "A", "attachments": [half]}, attachments=[half])
    )
    [fault] = answer["error"]["details"]
    assert (status, fault["field"]) == (422, "recipients[0].attachments")
    assert "35 MiB" in fault["message"]


async def test_a_message_is_weighed_as_it_is_rendered_where_its_attachments_leave_little_room(build: Build) -> None:
    site = await build(patience=10)
    large = [a_file(b"x" * 13_300_000), a_file(b"y" * 13_300_000)]  # some 35 MB in base64
    people = [
        {"email": f"{name}@example.com", "name": name, "variables": {"words": words * 1_000}}
        for name, words in (("short", "x"), ("long", "x" * 990))
    ]
    template = {"subject": "Hello", "html": "<p>{{ words }}</p>", "text": "{{ words }}"}
    body = job(*people, template=template, attachments=large)
    status, answer = await post_large(site, body)
    [fault] = answer["error"]["details"]
    assert (status, fault["field"]) == (422, "recipients[1]")
    assert "35 MiB" in fault["message"]
    status, answer = await post_large(site, {**body, "on_invalid": "skip"})
    assert (status, answer["accepted"], [each["email"] for each in answer["rejected"]]) == (
        200,
        1,
        ["long@example.com"],
    )
    status, answer = await post_large(site, {**body, "dry_run": True})
    assert (status, answer["accepted"], [each["email"] for each in answer["rejected"]]) == (
        200,
        1,
        ["long@example.com"],
    )


async def test_a_long_template_of_short_messages_leaves_room_for_attachments(build: Build) -> None:
    site = await build(patience=10)
    template = {"subject": "Hello", "html": "<p>Hi</p>" + "{% if false %}" + "never " * 160_000 + "{% endif %}"}
    large = [a_file(b"x" * 13_300_000), a_file(b"y" * 13_300_000)]
    status, answer = await post_large(site, job(template=template, attachments=large))
    assert status == 200, answer


async def test_a_content_id_is_given_once_to_a_message(site: Site) -> None:
    status, answer = await site.post(
        job(
            {"email": "a@example.com", "name": "A", "attachments": [a_file(content_id="x")]},
            attachments=[a_file(content_id="x")],
        )
    )
    assert (status, answer["error"]["details"][0]["message"]) == (422, "content_id 'x' is given twice")


async def test_too_many_files_are_refused(site: Site) -> None:
    status, answer = await site.post(job(attachments=[a_file()] * 51))
    assert (status, answer["error"]["details"][0]["field"]) == (422, "attachments")


async def test_a_dry_run_weighs_attachments_and_stores_none(build: Build) -> None:
    site = await build(settings=IntakeSettings(port=0))
    _, answer = await site.post(job(attachments=[a_file(b"x" * 57_000)], dry_run=True))

    assert 78_000 < answer["message_bytes"]["largest"] < 82_000
    assert answer["samples"][0]["attachments"] == ["a.pdf"]
    assert await site.rows("SELECT * FROM attachment_chunks") == []
