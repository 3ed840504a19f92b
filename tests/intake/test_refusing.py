"""Requests that are refused: all that is wrong is named at once, and nothing is stored."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailerd.config import IntakeSettings
from tests.intake.site import Build, Site, job
from tests.support.heard import PATIENCE

LATER = (datetime.now(UTC) + timedelta(days=400)).strftime("%Y-%m-%dT%H:%M:%SZ")
DEEP: Any = "x"
for _ in range(40):
    DEEP = [DEEP]


def named(answer: dict[str, Any]) -> dict[str, str]:
    assert answer.keys() == {"error"}
    assert answer["error"].keys() == {"code", "message", "details"}
    return {each["field"]: each["message"] for each in answer["error"]["details"]}


@pytest.mark.parametrize(
    "change, field, words",
    [
        ({"sender_email": "nobody"}, "sender_email", "has no @"),
        ({"sender_email": None}, "sender_email", "string"),
        ({"sender_name": "Me\r\nBcc: x@example.com"}, "sender_name", "U+000D"),
        ({"sender_name": "Me\u2028"}, "sender_name", "U+2028"),
        ({"sender_name": "x" * 256}, "sender_name", "255"),
        ({"reply_to": "x@example.com\nBcc: y@example.com"}, "reply_to", "U+000A"),
        ({"reply_to": "x"}, "reply_to", "has no @"),
        ({"reference": "a\tb"}, "reference", "U+0009"),
        ({"reference": 5}, "reference", "string"),
        ({"template": None}, "template", "is required unless template_name is given"),
        ({"template": []}, "template", "object"),
        ({"template_name": "welcome"}, "template_name", "together"),
        (
            {"template": None, "template_name": "welcome"},
            "template_name",
            "template 'welcome' not found: none of this name is published, and templates.folder is not set",
        ),
        ({"template": None, "template_name": "../../etc"}, "template_name", "pattern"),
        ({"dry_run": "yes"}, "dry_run", "true or false"),
        ({"template": {"html": "x"}}, "template.subject", "is required"),
        ({"template": {"subject": "", "html": "x"}}, "template.subject", "must not be empty"),
        ({"template": {"subject": "x"}}, "template", "needs html or text"),
        ({"template": {"subject": "x", "html": "", "text": None}}, "template", "needs html or text"),
        ({"template": {"subject": "a\nb", "html": "x"}}, "template.subject", "U+000A"),
        ({"template": {"subject": "x", "html": "x", "css": "x"}}, "template.css", "unknown field"),
        (
            {"template": {"subject": 1, **{f"k{n}": 0 for n in range(200)}}},
            "template",
            "has 201 fields; known fields: subj",
        ),
        ({f"k{n}": 0 for n in range(200)}, "", "has 203 fields; known fields: sender_email, "),
        (
            {"attachments": [{f"k{n}": 0 for n in range(200)}]},
            "attachments[0]",
            "has 200 fields; known fields: filename",
        ),
        ({"template": {"subject": "x", "html": "{% for %}"}}, "template.html", "line 1"),
        ({"template": {"subject": "{{ x", "html": "x"}}, "template.subject", "subject"),
        ({"template": {"subject": "x", "html": "{{ name.__class__ }}"}}, "template.html", "line 1"),
        ({"variables": []}, "variables", "object"),
        ({"variables": {"x": DEEP}}, "variables", "nested"),
        ({"send_at": "2026-12-01T09:00:00"}, "send_at", "zone"),
        ({"send_at": "tomorrow"}, "send_at", "RFC 3339"),
        ({"send_at": 1700000000}, "send_at", "RFC 3339"),
        ({"send_at": "2026-13-01T09:00:00Z"}, "send_at", "not a time"),
        ({"send_at": "0001-01-01T00:00:00+23:00"}, "send_at", "not a time"),
        ({"send_at": LATER}, "send_at", "year"),
        ({"priority": 101}, "priority", "100"),
        ({"priority": "5"}, "priority", "whole number"),
        ({"priority": True}, "priority", "whole number"),
        ({"on_invalid": "ignore"}, "on_invalid", "'reject', 'skip'"),
        ({"recipients": []}, "recipients", "empty"),
        ({"recipients": None}, "recipients", "required"),
        ({"recipients": {"email": "x"}}, "recipients", "list"),
        ({"colour": "red"}, "colour", "unknown field"),
    ],
)
async def test_a_bad_field_is_a_422_that_names_it(site: Site, change: dict[str, Any], field: str, words: str) -> None:
    status, answer = await site.post(job(**change))

    assert status == 422
    assert words in named(answer)[field]
    assert len(named(answer)) == 1
    assert await site.stored() == (0, 0)


@pytest.mark.parametrize(
    "recipient, field, words",
    [
        ({"email": "ada"}, ".email", "has no @"),
        ({"email": ""}, ".email", "has no @"),
        ({"email": None}, ".email", "required"),
        ({"email": 5}, ".email", "string"),
        ({"email": "adä@example.com"}, ".email", "that are not ASCII"),
        ({"email": "a@example.com\r\nBcc: b@example.com"}, ".email", "invalid"),
        ({"name": "x"}, ".email", "required"),
        ({"email": "a@example.com", "name": "a\nb"}, ".name", "U+000A"),
        ({"email": "a@example.com", "name": "x" * 256}, ".name", "255"),
        ({"email": "a@example.com", "name": ["x"]}, ".name", "string"),
        ({"email": "a@example.com", "variables": [1]}, ".variables", "object"),
        ({"email": "a@example.com", "variables": {"x": DEEP}}, ".variables", "nested"),
        ({"email": "a@example.com", "tags": []}, ".tags", "unknown field"),
        ({"email": "a@example.com", "name": "A", "attachments": False}, ".attachments", "must be a list"),
        ({"email": "a@example.com", "name": "A", "attachments": 0}, ".attachments", "must be a list"),
        ({"email": "a@example.com", "name": "A", "attachments": ""}, ".attachments", "must be a list"),
        ({"email": "a@example.com", "name": "A", "attachments": {}}, ".attachments", "must be a list"),
        ({"email": "a@example.com"}, ".variables", "'name' is undefined"),
        ("a@example.com", "", "object"),
        (None, "", "object"),
    ],
)
async def test_a_bad_recipient_is_a_422_that_names_index_and_field(
    site: Site, recipient: Any, field: str, words: str
) -> None:
    status, answer = await site.post(job({"email": "good@example.com", "name": "Good"}, recipient))

    assert status == 422
    [(found, message)] = named(answer).items()
    assert found == f"recipients[1]{field}"
    assert words in message
    assert await site.stored() == (0, 0)
    assert site.wakeups.count == 0


async def test_everything_that_is_wrong_is_named_in_one_answer(site: Site) -> None:
    status, answer = await site.post(
        job(
            {"email": "x", "name": "a\nb"},
            {"email": "ada@example.com", "name": "Ada"},
            {"email": "ada@example.com", "name": "Ada"},
            priority=1000,
            colour="red",
            reference=7,
        )
    )

    assert status == 422
    assert list(named(answer)) == [
        "priority", "reference", "colour", "recipients[0].email", "recipients[0].name", "recipients[2].email",
    ]  # fmt: skip
    assert answer["error"]["message"].startswith("6 problems")


@pytest.mark.parametrize(
    "body, fields",
    [
        ({}, ["sender_email", "template", "recipients"]),
        (job(priority="1", template=None), ["priority", "template"]),
        (job(priority="1", template_name="welcome"), ["priority", "template_name"]),
        (job(priority="1", template={"subject": "s", "html": "{% for %}"}), ["priority", "template.html"]),
        (
            job(priority="1", template={"html": "{% for %}", "text": "{{ x", "css": ""}),
            ["priority", "template.subject", "template.css", "template.html", "template.text"],
        ),
        (job(priority="1", template=None, template_name="nowhere"), ["priority", "template_name"]),
        (job({"email": "a@example.com"}, priority="1"), ["priority", "recipients[0].variables"]),
        (job({"email": "a@example.com"}, template={"html": "{{ name }}"}),
         ["template.subject", "recipients[0].variables"]),
        (job({"email": "a@example.com"}, template={"subject": "{{ name }}", "text": ""}),
         ["template", "recipients[0].variables"]),
        (job(sender_email="nobody", reply_to="x", send_at="tomorrow", attachments=[{"filename": "a.pdf"}]),
         ["sender_email", "reply_to", "attachments[0].content", "send_at"]),
        (job(variables=[], priority="1"), ["variables", "priority"]),
    ],
)  # fmt: skip
async def test_one_bad_field_hides_no_other(site: Site, body: dict[str, Any], fields: list[str]) -> None:
    status, answer = await site.post(body)

    assert status == 422
    assert [each["field"] for each in answer["error"]["details"]] == fields


async def test_every_variable_that_a_recipient_lacks_is_named(site: Site) -> None:
    template = {"subject": "{{ a }}", "html": "{{ b }}{{ c }}{% if name %}{{ name }}{% endif %}"}
    status, answer = await site.post(job({"email": "ada@example.com", "name": "Ada"}, template=template))

    assert status == 422
    assert named(answer) == {
        "recipients[0].variables": "subject, line 1: 'a' is undefined; html, line 1: 'b' is undefined; "
        "html, line 1: 'c' is undefined"
    }


@pytest.mark.parametrize(
    "text",
    [
        r'{% if x.a is defined %}hi{% else %}{{ x["\ud800"] }}{% endif %}',
        r'{% if x.a is defined %}hi{% else %}{{ [{}] | join(",", attribute="\ud800") }}{% endif %}',
        r'{% if x.a is defined %}hi{% else %}{{ [1, 2] | sum(attribute="\ud800") }}{% endif %}',
    ],
)
async def test_half_a_character_that_a_template_spells_is_told_and_stored_as_an_escape(site: Site, text: str) -> None:
    good = {"email": "a@example.com", "name": "A", "variables": {"x": {"a": 1}}}
    bad = {"email": "b@example.com", "name": "B", "variables": {"x": {"b": 1}}}
    body = job(good, bad, template={"subject": "s", "text": text})

    status, answer = await site.post(body)
    assert status == 422
    assert r"\ud800" in named(answer)["recipients[1].variables"]
    status, answer = await site.post({**body, "on_invalid": "skip"})
    assert (status, answer["accepted"]) == (200, 1)
    [(error,)] = await site.rows("SELECT error FROM job_recipients WHERE status = 'failed'")
    assert r"\ud800" in error


async def test_a_recipient_that_lacks_very_much_is_told_ten_of_it(site: Site) -> None:
    html = "".join(f"{{{{ v{number} }}}}" for number in range(25))
    status, answer = await site.post(job(template={"subject": "s", "html": html}))

    assert status == 422
    [message] = named(answer).values()
    assert message.count("is undefined") >= 5
    assert len(message) <= 300
    assert message.endswith(f"; and {25 - message.count('is undefined')} more")


async def test_a_recipient_with_very_many_unknown_fields_is_told_ten_of_them(site: Site) -> None:
    status, answer = await site.post(job({"email": "a@example.com", "name": "A", **{f"k{n}": 0 for n in range(5000)}}))

    assert status == 422
    assert named(answer) == {
        **{f"recipients[0].k{n}": "unknown field" for n in range(10)},
        "recipients[0]": "has 4,990 more unknown fields",
    }


async def test_of_many_problems_a_hundred_are_listed_and_all_are_counted(site: Site) -> None:
    status, answer = await site.post(job(*({"email": f"x{n}"} for n in range(1234))))

    assert status == 422
    assert len(answer["error"]["details"]) == 100
    assert "1,234" in answer["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"sender_email": "a@example.com", "sender_email": "b@example.com"}',
        b'{"priority": NaN}',
        b'{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"sender_name": "\\ud800"}',
        b'{"sender_name": "\\u0000"}',
        b'{"sender_name": "\xff"}',
    ],
)
async def test_a_body_that_is_no_good_json_is_a_422(site: Site, body: bytes) -> None:
    status, answer = await site.post_bytes(body)

    assert status == 422
    assert answer["error"]["code"] in {"invalid_json", "invalid_request"}
    assert not site.heard.of("request_failed")


async def test_a_number_that_only_python_can_write_is_named(site: Site) -> None:
    good = json.dumps(job({"email": "a@example.com", "name": "A", "variables": {"x": 5}}))

    status, answer = await site.post_bytes(good.replace('"x": 5', '"x": 1e999').encode())
    assert (status, list(named(answer))) == (422, ["recipients[0].variables"])
    status, answer = await site.post_bytes(good.replace('"X"', "-1e999").encode())
    assert (status, list(named(answer))) == (422, ["variables"])


async def test_too_many_recipients_are_a_422_that_says_the_limit(build: Build) -> None:
    site = await build(settings=IntakeSettings(port=0, max_recipients=2))
    status, answer = await site.post(job(*({"email": f"x{n}@example.com", "name": "X"} for n in range(3))))

    assert (status, list(named(answer))) == (422, ["recipients"])
    assert "limit of 2" in named(answer)["recipients"]


async def test_an_idempotency_key_may_be_any_printable_ascii(site: Site) -> None:
    for _ in range(2):
        status, answer = await site.post(job(), headers={"Idempotency-Key": "order 17"})
        assert (status, await site.stored()) == (200, (1, 1)), answer


async def test_an_unknown_parameter_of_a_post_is_named_as_of_a_get(site: Site) -> None:
    status, answer = await site.post(job(), params={"dry_run": "1"})

    assert (status, named(answer)) == (422, {"dry_run": "unknown parameter"})
    assert answer["error"]["message"].endswith("; nothing was stored")


async def test_no_words_of_the_library_reach_people(site: Site) -> None:
    _, answer = await site.post(
        job(
            reference="x" * 300, template={"subject": "", "html": "x"}, priority=1000, on_invalid="x",
            attachments=[{}] * 51, template_name="../x",
        )
    )  # fmt: skip
    assert named(answer) == {
        "template.subject": "must not be empty",
        "template_name": "cannot be given together with template",
        "attachments": "has 51 entries, above the limit of 50",
        "priority": "must be at most 100",
        "reference": "exceeds 255 characters",
        "on_invalid": "must be one of 'reject', 'skip'",
    }


@pytest.mark.parametrize("key", ["", "é", "x" * 256])
async def test_an_idempotency_key_that_is_none_is_refused(site: Site, key: str) -> None:
    status, answer = await site.post(job(), headers={"Idempotency-Key": key})

    assert (status, list(named(answer))) == (422, ["Idempotency-Key"])
    assert await site.stored() == (0, 0)


@pytest.mark.parametrize(
    "octet, expected, said",
    [
        (b"\x80", 422, b"Idempotency-Key"),
        (b"\t", 422, b"Idempotency-Key"),
        (b"\x7f", 400, b"Invalid header value char"),  # no value of any header (RFC 9110, section 5.5)
        (b"\x1f", 400, b"Invalid header value char"),
    ],
)
async def test_an_idempotency_key_with_an_octet_that_is_not_printable_stores_nothing(
    site: Site, octet: bytes, expected: int, said: bytes
) -> None:
    host, _, port = site.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(job()).encode()
    writer.write(
        b"POST /api/jobs/send_template_emails HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"X-API-Key: %b\r\nIdempotency-Key: order%b17\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
        % (site.key.encode(), octet, len(body), body)
    )
    head, _, answer = (await asyncio.wait_for(reader.read(), PATIENCE)).partition(b"\r\n\r\n")
    writer.close()

    assert int(head.split()[1]) == expected
    assert said in answer
    assert await site.stored() == (0, 0)


async def test_a_job_that_no_packet_holds_is_a_413(site: Site) -> None:
    await site.rows("SELECT 1")
    for connection in site.database.pool._live:
        connection.packet = 100_000
    status, answer = await site.post(job({"email": "a@example.com", "name": "A"}, variables={"product": "x" * 200_000}))

    assert (status, answer["error"]["code"]) == (413, "too_large")
    assert await site.stored() == (0, 0)


async def test_a_bug_is_a_500_with_an_id_and_its_stack_stays_in_the_log(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("mailerd.intake.create_job.parse_job", broken)
    status, answer = await site.post(job())

    assert status == 500
    assert "secret" not in json.dumps(answer)
    [failed] = site.heard.of("request_failed")
    assert failed["request"] == answer["error"]["request_id"]
    assert isinstance(failed["error"], ZeroDivisionError)


async def test_paths_and_methods_that_are_not_there_are_answered_in_json(site: Site) -> None:
    status, answer = await site.get("/api/nothing")
    assert (status, answer["error"]["code"]) == (404, "not_found")
    async with site.client.get(f"{site.url}/api/jobs/send_template_emails") as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")
        assert (await response.json())["error"]["code"] == "method_not_allowed"
    async with site.client.delete(f"{site.url}/api/jobs") as response:
        assert response.status == 405
