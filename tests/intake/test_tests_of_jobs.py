"""`POST /api/jobs/send_template_emails/test`: a job as some of its recipients would get it, to somebody else."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mailerd.config import GmailSettings
from mailerd.events.worker import GmailEvents
from mailerd.gmail import Gmail
from mailerd.intake.sender_resolver import SenderResolver
from mailerd.store.write.api_keys import Permission
from tests.intake.site import Build, Site, job
from tests.intake.test_suppressions import suppress
from tests.support.heard import Heard

ADA = {"email": "ada@example.org", "name": "Ada", "variables": {"n": 1}, "cc": [{"email": "desk@example.org"}],
       "metadata": {"customer": "c1"}, "send_at": "2099-01-01T00:00:00Z"}  # fmt: skip
BOB = {"email": "bob@example.org", "name": "Bob", "variables": {"n": 2, "email": "his own"}}
TEMPLATE = {"subject": "Hello {{ name }}", "text": "{{ product }} {{ n }} for {{ email }}"}


async def send(site: Site, *, to: Any = ("me@example.com",), indexes: Any = None, **fields: Any) -> tuple[int, Any]:
    headers = fields.pop("headers_of_request", {})
    given = job(ADA, BOB, **{"template": TEMPLATE, **fields})
    body = {"job": given, "to": to} | ({} if indexes is None else {"indexes": indexes})
    async with site.client.post(
        f"{site.url}/api/jobs/send_template_emails/test", json=body, headers=headers
    ) as response:
        return response.status, await response.json()


async def test_somebody_else_gets_what_the_recipients_would(site: Site) -> None:
    status, answer = await send(
        site, to=["me@example.com", "you@example.com"], indexes=[1, 0], reference="r", tags=["t"],
        metadata={"order": "17"}, bcc=[{"email": "audit@example.org"}], send_at="2099-01-01T00:00:00Z",
    )  # fmt: skip
    assert (status, answer["status"], answer["total"], answer["accepted"]) == (200, "queued", 4, 4), answer
    _, told = await site.get(f"/api/jobs/{answer['job_id']}")
    assert (told["type"], told["reference"], told["tags"], told["metadata"]) == ("test", "r", [], {})
    rows = await site.rows("SELECT to_email, to_name, variables, copy_list, metadata, due_at < UTC_TIMESTAMP() + "
                           "INTERVAL 1 MINUTE FROM job_recipients ORDER BY seq")  # fmt: skip
    assert [(to, name, json.loads(variables)) for to, name, variables, *_ in rows] == [
        ("me@example.com", "Bob", {"n": 2, "email": "his own", "test-of": "bob@example.org"}),
        ("you@example.com", "Bob", {"n": 2, "email": "his own", "test-of": "bob@example.org"}),
        ("me@example.com", "Ada", {"n": 1, "email": "ada@example.org", "test-of": "ada@example.org"}),
        ("you@example.com", "Ada", {"n": 1, "email": "ada@example.org", "test-of": "ada@example.org"}),
    ]
    assert {tuple(rest) for _, _, _, *rest in rows} == {(None, None, 1)}, "no copies, nothing of the real ones, now"
    assert await site.rows("SELECT copy_list, on_bounces FROM jobs") == [(None, "go_on")]
    assert site.wakeups.count == 1


async def test_the_first_recipient_is_shown_where_none_is_named(site: Site) -> None:
    await send(site)
    assert await site.rows("SELECT to_email, to_name FROM job_recipients") == [("me@example.com", "Ada")]


async def test_a_variable_of_the_job_is_not_hidden_by_the_address(site: Site) -> None:
    await send(site, variables={"product": "X", "email": "of the job"})
    ((variables,),) = await site.rows("SELECT variables FROM job_recipients")
    assert json.loads(variables) == {"n": 1, "test-of": "ada@example.org"}


async def test_the_same_key_is_one_test_and_none_of_a_job(site: Site) -> None:
    key = {"Idempotency-Key": "k"}
    answers = await asyncio.gather(*(send(site, headers_of_request=key) for _ in range(5)))
    assert {status for status, _ in answers} == {200}
    assert len({it["job_id"] for _, it in answers}) == 1
    assert await site.stored() == (1, 1)
    status, answer = await site.post({"job": job(ADA, BOB, template=TEMPLATE), "to": ["me@example.com"]}, headers=key)
    assert (status, answer["error"]["code"]) == (409, "idempotency_conflict")


async def test_a_suppressed_address_gets_no_test_either(site: Site) -> None:
    await suppress(site, "me@example.com")
    status, answer = await send(site)
    assert (status, answer["accepted"], answer["suppressed_total"]) == (200, 0, 1)


@pytest.mark.parametrize(
    "given, wrong",
    [
        ({"to": ()}, {"to"}),
        ({"to": "me@example.com"}, {"to"}),
        ({"to": ["me@example.com", "x"]}, {"to[1]"}),
        ({"to": [f"m{n}@example.com" for n in range(6)]}, {"to"}),
        ({"indexes": []}, {"indexes"}),
        ({"indexes": [0, 2, -1]}, {"indexes[2]"}),
        ({"indexes": [0, 2]}, {"indexes[1]"}),
        ({"indexes": [0, 1, 2, 3]}, {"indexes"}),
        ({"indexes": ["0"]}, {"indexes[0]"}),
        ({"to": ["me@example.com", "you@example.com", "Me@example.com"], "indexes": [1, 1, 1]},
         {"to[2]", "indexes[1]", "indexes[2]"}),
        ({"to": ["me@example.com", "me@example.org"]}, {"to[1]"}),
        ({"recipients": []}, {"job.recipients"}),
        ({"recipients": ["x", {"email": "b@example.org", "name": "A\nB"}], "indexes": [1, 0],
          "to": ["me@example.com", "you@example.com"]},
         {"job.recipients[0]", "job.recipients[1].name"}),
        ({"recipients": [{"email": "b@example.org"}], "template": {"subject": "{{ x", "text": "y"}},
         {"job.template.subject"}),
        ({"recipients": [{"email": "b@example.org", "name": "B"}]}, {"job.recipients[0].variables"}),
        ({"to": ["me@example.com"], "colour": "red", "tо": 1}, {"job.colour", "job.tо"}),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named_as_in_the_test_and_nothing_is_stored(
    site: Site, given: dict[str, Any], wrong: set[str]
) -> None:
    status, answer = await send(site, **given)
    assert status == 422, answer
    assert {it["field"] for it in answer["error"]["details"]} == wrong, answer
    assert len(answer["error"]["details"]) == len(wrong), "what is wrong with a recipient is said once"
    assert await site.stored() == (0, 0)


async def test_what_is_no_test_is_named(site: Site) -> None:
    for body, wrong in ({}, {"job", "to"}), ({"job": [], "to": ["me@example.com"], "x": 1}, {"job", "x"}):
        async with site.client.post(f"{site.url}/api/jobs/send_template_emails/test", json=body) as response:
            assert {it["field"] for it in (await response.json())["error"]["details"]} == wrong


async def test_a_name_that_is_given_twice_has_its_place_in_the_test(site: Site) -> None:
    body = json.dumps({"job": job(ADA), "to": ["me@example.com"]}).replace('"name": "Ada"', '"name": "A", "name": "B"')
    async with site.client.post(f"{site.url}/api/jobs/send_template_emails/test", data=body) as response:
        assert response.status == 422
        assert [it["field"] for it in (await response.json())["error"]["details"]] == ["job.recipients[0].name"]


async def test_a_consumer_mailbox_tests_to_itself_alone_and_to_what_this_server_sends_from(
    build: Build, tmp_path: Path
) -> None:
    for name in ("me@gmail.com", "me@example.com"):
        (tmp_path / f"{name}.json").write_text("{}")
        (tmp_path / f"{name}.json").chmod(0o600)
    gmail = Gmail(GmailSettings(credentials_dir=tmp_path), events=GmailEvents(Heard()), concurrency=1)
    site = await build(senders=SenderResolver(gmail, {"desk@example.net": "me@example.com"}))
    for to, expected in (
        ("Me@googlemail.com", 200), ("other@gmail.com", 422), ("me@example.com", 200), ("desk@example.net", 200),
        ("you@example.com", 422),
    ):  # fmt: skip
        status, answer = await send(site, sender_email="me@gmail.com", to=[to])
        assert status == expected, (to, answer)
    assert (await send(site, sender_email="me@example.com", to=["you@example.com"]))[0] == 200, "its own domain"
    limited = {"X-API-Key": await site.keys.create("limited", senders=["me@gmail.com", "desk@example.net"])}
    answers = [
        await send(site, sender_email="me@gmail.com", to=[to], headers_of_request=limited)
        for to in ("me@example.com", "nobody@example.com", "desk@example.net")
    ]
    assert [status for status, _ in answers] == [422, 422, 200]
    known, unknown = (answer["error"] for _, answer in answers[:2])
    assert known == unknown, "it does not learn which mailboxes this server has"


async def test_a_key_sends_tests_of_its_own_senders_if_it_may_send(site: Site) -> None:
    for secret in (
        await site.keys.create("other", senders=["you@example.com"]),
        await site.keys.create("reader", permissions=[Permission.READ]),
    ):
        assert (await send(site, headers_of_request={"X-API-Key": secret}))[0] == 403
    assert await site.stored() == (0, 0)


async def test_a_test_is_in_no_numbers_of_templates_and_tags(site: Site) -> None:
    _, answer = await send(site)
    real = await site.posted()
    await site.rows("UPDATE jobs SET finished_at = UTC_TIMESTAMP(6), status = 'completed', sent = 1")
    await site.rows("INSERT INTO job_tags (tag, job_id) VALUES ('t', %s), ('t', %s)", answer["job_id"], real)
    for by in ("template", "tag"):
        _, found = await site.get("/api/stats", params={"by": by})
        assert [(it["jobs"], it["sent"]) for it in found["rows"]] == [(1, 1)], by
