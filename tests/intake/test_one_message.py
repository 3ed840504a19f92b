"""`POST /api/messages`: one message as a job of one recipient."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.intake.one_message import as_job, field_of, literal
from tests.intake.site import Site
from tests.intake.test_suppressions import suppress
from tests.mail.in_process import InProcess

ORDER = {
    "sender_email": "me@example.com", "to": {"email": "ada@example.com", "name": "Ada"},
    "subject": "Order {{ 17 }}", "text": "It is {% on %} its way. {",
}  # fmt: skip


async def send(site: Site, **fields: Any) -> tuple[int, Any]:
    headers = fields.pop("headers_of_request", {})
    body = {name: value for name, value in {**ORDER, **fields}.items() if value is not ...}
    async with site.client.post(f"{site.url}/api/messages", json=body, headers=headers) as response:
        return response.status, await response.json()


async def test_a_message_is_stored_as_a_job_of_one_recipient(site: Site) -> None:
    status, answer = await send(site, reference="order-17", metadata={"customer": "c1"}, priority=3)
    assert status == 200
    assert answer.keys() == {"job_id", "recipient_id", "status", "suppressed_copies", "send_at", "warnings", "forecast"}
    assert (answer["status"], answer["warnings"]) == ("queued", [])
    status, message = await site.get(f"/api/messages/{answer['job_id']}")
    assert (status, message["job"]["type"], message["job"]["reference"]) == (200, "message", "order-17")
    recipient = message["recipient"]
    assert (recipient["id"], recipient["email"], recipient["name"]) == (
        answer["recipient_id"],
        "ada@example.com",
        "Ada",
    )
    assert recipient["metadata"] == {"customer": "c1"}
    assert (message["job"]["priority"], message["job"]["total"]) == (3, 1)
    assert site.wakeups.count == 1


async def test_a_message_names_copies(site: Site) -> None:
    _, answer = await send(site, cc=[{"email": "desk@example.com"}], bcc=[{"email": "audit@example.org", "name": "A"}])
    _, message = await site.get(f"/api/messages/{answer['job_id']}")
    recipient = message["recipient"]
    assert [it["email"] for it in (*recipient["cc"], *recipient["bcc"])] == ["desk@example.com", "audit@example.org"]
    _, told = await site.get(f"/api/recipients/{answer['recipient_id']}")
    assert (told["cc"], told["bcc"]) == (recipient["cc"], recipient["bcc"])


async def test_a_job_of_many_is_no_message(site: Site) -> None:
    id_ = await site.posted()
    assert (await site.get(f"/api/messages/{id_}"))[0] == 404


text_of_a_template = st.text(st.sampled_from("{}%#' a\n\"\\-x&<"), min_size=1, max_size=40)


@given(subject=text_of_a_template, html=text_of_a_template, text=text_of_a_template)
def test_what_is_given_is_what_is_read(subject: str, html: str, text: str) -> None:
    made = InProcess(subject=literal(subject.replace("\n", " ")), html=literal(html), text=literal(text)).render({})
    assert (made.html, made.text) == (html, text)
    assert made.subject.split() == subject.split()


async def test_braces_without_end_cost_no_more_than_other_text(site: Site) -> None:
    for text in ("{" * 500_000, "{%" * 100 + "{#" * 100):
        status, answer = await send(site, text=text)
        assert status == 200, answer


async def test_the_same_key_is_one_message_and_one_answer(site: Site) -> None:
    key = {"Idempotency-Key": "order-17"}
    answers = await asyncio.gather(*(send(site, headers_of_request=key) for _ in range(8)))
    assert {status for status, _ in answers} == {200}
    assert len({(it["job_id"], it["recipient_id"]) for _, it in answers}) == 1
    assert answers[0][1]["recipient_id"] > 0
    assert await site.stored() == (1, 1)
    assert (await send(site, subject="other", headers_of_request=key))[0] == 409


async def test_an_answer_that_was_never_sent_is_repeated_with_the_id_of_the_message(site: Site) -> None:
    key = {"Idempotency-Key": "order-17"}
    _, first = await send(site, headers_of_request=key)
    # As it is where the daemon died behind the COMMIT.
    await site.rows(
        "UPDATE idempotency_responses SET final = 0, response = REPLACE(response, '\"forecast\":', '\"forecast\":')"
    )
    _, again = await send(site, headers_of_request=key)
    assert again["recipient_id"] == first["recipient_id"] > 0


async def test_a_key_of_a_job_is_none_of_a_message(site: Site) -> None:
    key = {"Idempotency-Key": "k"}
    body = {"sender_email": "me@example.com", "template_name": "x"}
    async with site.client.post(f"{site.url}/api/messages", json=ORDER, headers=key) as response:
        assert response.status == 200
    status, answer = await site.post(ORDER, headers=key)
    assert (status, answer["error"]["code"]) == (409, "idempotency_conflict"), body


async def test_a_null_is_no_part_of_its_own_beside_a_named_template(site: Site) -> None:
    body = {"sender_email": "me@example.com", "to": {"email": "ada@example.com"}, "template_name": "x"}
    parts = {"subject": None, "html": None, "text": None}
    async with site.client.post(f"{site.url}/api/messages", json=body | parts) as response:
        answer = await response.json()
    assert (response.status, [it["field"] for it in answer["error"]["details"]]) == (422, ["template_name"])


async def test_a_suppressed_recipient_is_said_and_nothing_is_sent(site: Site) -> None:
    await suppress(site, "ada@example.com")
    status, answer = await send(site)
    assert (status, answer["status"], len(answer["warnings"])) == (200, "suppressed", 1)
    _, message = await site.get(f"/api/messages/{answer['job_id']}")
    assert message["recipient"]["status"] == "cancelled"


@pytest.mark.parametrize(
    "fields, wrong",
    [
        ({"to": ...}, {"to.email"}),
        ({"to": "ada@example.com"}, {"to"}),
        ({"to": {"email": "ada@"}}, {"to.email"}),
        ({"to": {"email": "ada@example.com", "name": "A\nB"}}, {"to.name"}),
        ({"to": {"email": "ada@example.com", "variables": {}}}, {"to.variables"}),
        ({"subject": ...}, {"subject"}),
        ({"text": ...}, {"text"}),
        ({"subject": 7, "html": []}, {"subject", "html"}),
        ({"recipients": [], "template": {}, "allow_duplicates": True}, {"recipients", "template", "allow_duplicates"}),
        ({"template_name": "x"}, {"subject", "text", "template_name"}),
        ({"sender_email": ..., "colour": "red"}, {"sender_email", "colour"}),
        ({"metadata": {"k": "x" * 501}}, {"metadata.k"}),
        ({"subject": "a\nb"}, {"subject"}),
        ({"cc": [{"email": "x"}], "headers": {"Bcc": "a@example.com"}}, {"cc[0].email", "headers.Bcc"}),
    ],
)
async def test_what_is_wrong_is_named_as_in_the_message_and_nothing_is_stored(
    site: Site, fields: dict[str, Any], wrong: set[str]
) -> None:
    status, answer = await send(site, **fields)
    assert status == 422, answer
    assert {it["field"] for it in answer["error"]["details"]} == wrong, answer
    assert await site.stored() == (0, 0)


async def test_a_key_of_another_sender_posts_nothing(site: Site) -> None:
    other = await site.keys.create("other", senders=["you@example.com"])
    assert (await send(site, headers_of_request={"X-API-Key": other}))[0] == 403
    assert await site.stored() == (0, 0)


def test_every_name_of_a_job_has_one_in_the_message() -> None:
    assert [field_of(it) for it in ("recipients[0]", "recipients[0].email", "recipients[0].metadata.k", "template",
                                    "template.html", "variables.x")] == [
        "to", "to.email", "metadata.k", "text", "html", "variables.x",
    ]  # fmt: skip
    assert as_job({"to": None})[0]["recipients"] == [None]
