"""`/api/suppressions`, `/api/lists`, and what a post says of recipients that have opted out."""

import asyncio
import io
import json
import resource
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from pydantic import ValidationError

from mailerd.config import PublicSettings
from mailerd.core.suppression import DEAD_TOKEN, read_token
from mailerd.intake.suppressions import MAX_BODY
from mailerd.operations.suppressions import SuppressionsRequest
from mailerd.store.write import suppressions
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.secrets import Secrets
from mailerd.store.write.suppressions import Suppressions
from tests.intake.site import Build, Site
from tests.intake.site import job as good
from tests.support.own_time import at_this_speed, longest_stall
from tests.support.rows import query

ADA, BOB = "ada@example.com", "bob@example.com"


async def ask(site: Site, method: str, path: str, **options: Any) -> tuple[int, Any]:
    async with site.client.request(method, f"{site.url}{path}", **options) as response:
        return response.status, await response.json()


async def suppress(site: Site, *emails: str, **more: Any) -> tuple[int, Any]:
    body = {"suppressions": [{"email": email, **more} for email in emails]}
    return await ask(site, "POST", "/api/suppressions", json=body)


def job(*emails: str, **more: Any) -> dict[str, Any]:
    return good(*({"email": email, "variables": {"name": "X"}} for email in emails), **more)


async def test_they_are_made_shown_and_ended(site: Site) -> None:
    assert await suppress(site, "A.da@gmail.com", BOB, list="news", detail="ticket 7") == (
        200,
        {"total": 2, "added": 2},
    )
    assert await suppress(site, "ada@gmail.com", list="news") == (200, {"total": 1, "added": 0})
    status, found = await ask(site, "GET", "/api/suppressions", params={"email": "ada@googlemail.com"})
    assert status == 200
    (one,) = found["suppressions"]
    assert (one["email"], one["list"], one["reason"], one["source"], one["detail"], one["actor"]) == (
        "ada@gmail.com", "news", "manual", "api", "ticket 7", "key test",
    )  # fmt: skip
    ended = {"removed": True, "still_suppressed": False}
    assert await ask(site, "DELETE", "/api/suppressions/ada@gmail.com?list=news") == (200, ended)
    assert (await ask(site, "DELETE", "/api/suppressions/ada@gmail.com?list=news"))[0] == 404
    status, page = await ask(site, "GET", "/api/suppressions", params={"list": "news"})
    assert [it["email"] for it in page["suppressions"]] == [BOB]


async def test_the_number_of_bad_addresses_is_that_of_all(site: Site) -> None:
    status, answer = await suppress(site, *["no address"] * 150)
    assert (status, len(answer["error"]["details"])) == (422, 100)
    assert answer["error"]["message"].startswith("150 problems in the request; the first 100 are listed")


async def test_pages_and_csv_go_through_all_of_them(site: Site) -> None:
    emails = [f"p{number}@example.com" for number in range(25)]
    await suppress(site, *emails)
    seen, params = list[str](), {"limit": "10"}
    while True:
        _, page = await ask(site, "GET", "/api/suppressions", params=params)
        seen += [it["email"] for it in page["suppressions"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert sorted(seen) == sorted(emails)
    _, page = await ask(site, "GET", "/api/suppressions", params={"limit": "25"})
    assert (len(page["suppressions"]), page["next_cursor"]) == (25, None), "the last page is full"
    async with site.client.get(f"{site.url}/api/suppressions.csv") as response:
        rows = (await response.text()).splitlines()
    assert rows[0] == "email,list,reason,source,detail,created_at,origin"
    assert sorted(row.partition(",")[0] for row in rows[1:]) == sorted(emails)


async def test_every_fault_of_a_request_is_named_and_nothing_is_stored(site: Site) -> None:
    body = {"suppressions": [{"email": ADA}, {"email": "nobody"}, {"email": "x@", "list": "a b"}]}
    status, found = await ask(site, "POST", "/api/suppressions", json=body)
    assert status == 422
    assert [it["field"] for it in found["error"]["details"]] == [
        "suppressions[1].email", "suppressions[2].email", "suppressions[2].list"
    ]  # fmt: skip
    assert (await suppress(site, ADA, list="a b"))[0] == 422
    assert (await suppress(site, ADA, reason="because"))[0] == 422
    status, found = await suppress(site, ADA, detail="x" * 256)
    assert status == 422
    assert found["error"]["details"] == [{"field": "suppressions[0].detail", "message": "exceeds 255 characters"}]
    status, found = await ask(site, "POST", "/api/lists", json={"name": "a\r\nb", "title": "c\r\nd"})
    assert status == 422
    assert [it["field"] for it in found["error"]["details"]] == ["name", "title"]
    assert (await ask(site, "GET", "/api/suppressions?list=none"))[0] == 422
    assert (await ask(site, "GET", "/api/suppressions?cursor=x"))[0] == 422
    assert await query(site.database, "SELECT COUNT(*) FROM suppressions") == [(0,)]


async def test_each_request_is_an_event_with_its_number_and_what_was_there_is_none(site: Site) -> None:
    await suppress(site, ADA, list="news")
    await suppress(site, ADA, BOB, "eve@example.com", list="news")
    await suppress(site, ADA, BOB, list="news")
    body = [{"email": ADA}, {"email": ADA, "list": "other"}, {"email": BOB, "reason": "complained"}]
    await ask(site, "POST", "/api/suppressions", json={"suppressions": body})
    await ask(site, "DELETE", f"/api/suppressions/{ADA}?list=news")
    by = {"actor": "key:test", "via": "api", "source": "api"}
    assert [fields for name, fields in site.heard.events if name.startswith("suppression")] == [
        {**by, "action": action, "mailing_list": name, "changed": changed, "reason": reason}
        for action, name, changed, reason in (
            ("suppress", "news", 1, "manual"),
            ("suppress", "news", 2, "manual"),
            ("suppress", "everything", 1, "complained"),
            ("suppress", "2 lists", 2, "manual"),
            ("unsuppress", "news", 1, ""),
        )
    ]
    noted = await query(site.database, "SELECT action, actor, detail, changed, messages FROM job_actions ORDER BY id")
    assert sorted(noted[2:4]) == [
        ("suppress", "key:test", "everything", 1, 2),
        ("suppress", "key:test", "other", 1, 1),
    ], "one row for each list"
    assert noted[:2] + noted[4:] == [
        ("suppress", "key:test", "news", 1, 1),
        ("suppress", "key:test", "news", 1, 2),
        ("unsuppress", "key:test", "news", 1, 1),
    ]


async def test_a_stronger_reason_is_told_and_counts_as_none_that_was_added(site: Site) -> None:
    await suppress(site, ADA)
    assert await suppress(site, ADA, reason="hard_bounce") == (200, {"total": 1, "added": 0})
    assert [it["reason"] for it in site.heard.of("suppression_action")] == ["manual", "hard_bounce"]


async def test_no_address_stands_in_the_line_of_a_request(site: Site) -> None:
    await suppress(site, ADA)
    assert (await ask(site, "DELETE", f"/api/suppressions/{ADA}"))[0] == 200
    assert (await ask(site, "DELETE", "/api/suppressions/%0a%0alog@example.com"))[0] == 404
    await site.heard.wait_for("request_answered", times=3)
    assert [it["path"] for it in site.heard.of("request_answered")][-2:] == ["/api/suppressions/{email}"] * 2
    said = [value for it in site.heard.of("suppression_action") for value in it.values()]
    assert [value for value in said if "\n" in str(value)] == []


async def test_a_request_that_is_refused_makes_no_list_and_a_job_names_the_limit(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suppressions, "MAX_LISTS", 3)
    body = {"suppressions": [{"email": ADA, "list": f"list-{number}"} for number in range(4)]}
    assert (await ask(site, "POST", "/api/suppressions", json=body))[0] == 422
    assert (await ask(site, "GET", "/api/lists"))[1]["lists"] == []
    body["suppressions"].pop()
    assert (await ask(site, "POST", "/api/suppressions", json=body))[0] == 200
    status, found = await site.post(job(BOB, list="another"))
    assert (status, found["error"]["details"][0]["field"]) == (422, "list")
    assert "the limit of 3 lists is reached" in found["error"]["details"][0]["message"]


async def test_a_key_has_few_large_requests_under_way_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    most = under_way = 0
    add = Suppressions.add

    async def slowly(*args: Any, **more: Any) -> Any:
        nonlocal most, under_way
        under_way += 1
        most = max(most, under_way)
        try:
            await asyncio.sleep(0.05)
            return await add(*args, **more)
        finally:
            under_way -= 1

    monkeypatch.setattr(Suppressions, "add", slowly)
    answers = await asyncio.gather(*(suppress(site, f"r{number}@example.com") for number in range(20)))
    assert [status for status, _ in answers] == [200] * 20
    assert most == 2, "intake.checks_per_key"


async def test_lists_have_titles(site: Site) -> None:
    status, made = await ask(site, "POST", "/api/lists", json={"name": "news", "title": "Autumn news"})
    assert (status, made["title"]) == (200, "Autumn news")
    status, found = await ask(site, "GET", "/api/lists")
    assert [it["name"] for it in found["lists"]] == ["news"]


async def test_a_list_that_is_made_or_renamed_is_noted_and_told_and_one_that_stays_is_not(site: Site) -> None:
    for title in (None, "News", "News"):
        await ask(site, "POST", "/api/lists", json={"name": "news", "title": title})
    said = {"mailing_list": "news", "action": "save_list", "actor": "key:test", "via": "api"}
    assert site.heard.of("list_action") == [said] * 2
    assert (
        await query(site.database, "SELECT action, actor, detail, changed FROM job_actions")
        == [("save_list", "key:test", "news", 1)] * 2
    )


@pytest.mark.parametrize(
    "key",
    [{"permissions": (Permission.SEND, Permission.READ)}, {"senders": ("me@example.com",)}],
    ids=["for other calls", "for some senders"],
)
async def test_a_key_that_may_not_is_refused(site: Site, key: dict[str, Any]) -> None:
    secret = await site.keys.create("other", **key)
    async with aiohttp.ClientSession(headers={"X-API-Key": secret}) as client:
        for method, path in (("GET", "/api/suppressions"), ("POST", "/api/lists"), ("GET", "/api/suppressions.csv")):
            async with client.request(method, site.url + path, json={} if method == "POST" else None) as response:
                assert response.status == 403
        async with client.post(f"{site.url}/api/jobs/send_template_emails", json=job(ADA, list="unknown")) as response:
            assert response.status == 422
            assert "this key may not create one" in (await response.json())["error"]["details"][0]["message"]


async def test_a_post_keeps_whom_it_may_not_write_to_as_cancelled(site: Site) -> None:
    await suppress(site, ADA)
    status, answer = await site.post(job(ADA, BOB, "eve@example.com"))
    assert status == 200
    assert (answer["total"], answer["accepted"], answer["rejected_total"]) == (3, 2, 0)
    assert answer["suppressed_total"] == 1
    assert answer["suppressed"] == [{"index": 0, "email": ADA, "reason": "the address is suppressed: manual"}]
    _, shown = await ask(site, "GET", f"/api/jobs/{answer['job_id']}/recipients?status=cancelled")
    assert [(it["email"], it["error"]) for it in shown["recipients"]] == [(ADA, "the address is suppressed: manual")]
    _, shown = await ask(site, "GET", f"/api/jobs/{answer['job_id']}")
    assert (shown["counts"]["cancelled"], shown["counts"]["waiting"]) == (1, 2)


async def test_a_list_is_made_by_its_first_job_and_binds_it_alone(site: Site) -> None:
    assert (await site.post(job(ADA, list="news")))[0] == 200
    await suppress(site, ADA, list="news")
    assert (await site.post(job(ADA, list="news")))[1]["suppressed_total"] == 1
    assert (await site.post(job(ADA, list="other")))[1]["suppressed_total"] == 0
    assert (await site.post(job(ADA)))[1]["suppressed_total"] == 0
    assert [it["name"] for it in (await ask(site, "GET", "/api/lists"))[1]["lists"]] == ["news", "other"]
    status, refused = await site.post(job(ADA, list="no list"))
    assert (status, refused["error"]["details"][0]["field"]) == (422, "list")


async def test_a_dry_run_says_the_same_and_makes_nothing(site: Site) -> None:
    await suppress(site, ADA)
    status, found = await site.post(job(ADA, BOB, list="news", dry_run=True))
    assert (status, found["accepted"], found["suppressed_total"]) == (200, 1, 1)
    assert (await ask(site, "GET", "/api/lists"))[1]["lists"] == []
    assert {sample["email"] for sample in found["samples"]} == {BOB}


async def test_an_override_needs_its_permission_and_lifts_no_bounce(site: Site) -> None:
    await suppress(site, ADA)
    await suppress(site, BOB, reason="hard_bounce")
    status, answer = await site.post(job(ADA, BOB, override_suppression=True))
    assert (status, [it["email"] for it in answer["suppressed"]]) == (200, [BOB])
    (told,) = site.heard.of("suppressions_overridden")
    assert (told["job"], told["overridden"], told["key"]) == (answer["job_id"], 1, "test")
    secret = await site.keys.create("sender", permissions=(Permission.SEND,))
    async with (
        aiohttp.ClientSession(headers={"X-API-Key": secret}) as client,
        client.post(f"{site.url}/api/jobs/send_template_emails", json=job(ADA, override_suppression=True)) as response,
    ):
        assert response.status == 403


async def test_a_key_for_some_senders_may_not_override_unless_it_was_given_that(site: Site) -> None:
    for given, status in ((None, 403), ((Permission.SEND, Permission.OVERRIDE), 200)):
        secret = await site.keys.create(f"key {status}", senders=("me@example.com",), permissions=given or None)
        async with (
            aiohttp.ClientSession(headers={"X-API-Key": secret}) as client,
            client.post(
                f"{site.url}/api/jobs/send_template_emails", json=job(ADA, override_suppression=True)
            ) as response,
        ):
            assert response.status == status


async def test_a_note_cannot_speak_to_a_terminal(site: Site) -> None:
    status, answer = await suppress(site, ADA, detail="fine\x1b[31m")
    assert status == 422
    assert "control character" in answer["error"]["details"][0]["message"]


async def test_thousands_of_addresses_that_are_slow_to_check_hold_up_nobody(site: Site) -> None:
    emails = [f"x@{'é' * 30}{n}.{'ü' * 40}.example.com" for n in range(2_000)]
    posting = asyncio.create_task(suppress(site, *emails))
    stall = 0.0
    while not posting.done():
        stall = max(stall, await longest_stall(0.1))
    assert (await posting)[1] == {"total": 2_000, "added": 2_000}
    assert stall < at_this_speed(0.3), "all in the event loop they would hold it for five seconds"


@pytest.mark.parametrize("path, body", [
    ("suppressions", lambda: {"suppressions": [dict.fromkeys(map(str, range(290_000)), 0)]}),
    ("suppressions", lambda: {"suppressions": [dict.fromkeys(map(str, range(60)), 0)] * 7_000}),
    ("lists", lambda: dict.fromkeys(map(str, range(290_000)), 0)),
])  # fmt: skip
async def test_a_body_of_many_unknown_fields_is_refused_before_each_is_looked_at(
    site: Site, path: str, body: Callable[[], Any]
) -> None:
    raw = json.dumps(body()).encode()
    assert len(raw) < MAX_BODY
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, answer = await ask(site, "POST", f"/api/{path}", data=io.BytesIO(raw))
    assert status == 422
    assert ["; known fields: " in it["message"] for it in answer["error"]["details"]] == [True]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000, "an error of each takes a kilobyte"


async def test_a_large_job_without_a_list_is_accepted_with_a_warning(site: Site) -> None:
    many = [f"p{number}@example.com" for number in range(101)]
    (warning,) = (await site.post(job(*many)))[1]["warnings"]
    assert "no recipient can unsubscribe" in warning
    assert (await site.post(job(*many, list="news")))[1]["warnings"] == []
    assert (await site.post(job(*many[:100])))[1]["warnings"] == []


async def test_a_template_may_use_the_link_and_a_dry_run_shows_one_that_does_nothing(build: Build) -> None:
    public = PublicSettings(base_url="https://mail.example.com")
    site = await build(public=public)
    template = {"subject": "x", "text": "{{ unsubscribe_url }}"}
    _, found = await site.post(job(ADA, template=template, list="news", dry_run=True))
    base, _, token = found["samples"][0]["text"].rpartition("/")
    assert base == "https://mail.example.com/u"
    assert len(token) == len(DEAD_TOKEN)
    keys = await Secrets(site.database, timeout=60).keys()
    assert read_token(token, keys.tokens) is None
    _, found = await site.post(job(ADA, template=template, dry_run=True))
    assert found["samples"][0]["text"] == ""


BOMB = "{% set t = (1, 1) %}" + "{% set t = (t, t) %}" * 40 + "{{ {}[t] is defined }}"


async def test_a_template_cannot_tell_the_link_of_the_check_from_one_that_is_sent(build: Build) -> None:
    """It rendered "A" 62 times: a template was harmless then, and a bomb when it was sent."""
    site = await build(public=PublicSettings(base_url="https://mail.example.com"))
    text = "{% if 'AAAA' in unsubscribe_url %}harmless{% else %}" + BOMB + "{% endif %}"
    status, answer = await site.post(job(ADA, template={"subject": "x", "text": text}, list="news"))
    assert status == 422
    assert "the template takes too long" in answer["error"]["details"][0]["message"]


async def test_each_message_of_a_check_has_a_link_of_its_own(build: Build) -> None:
    site = await build(public=PublicSettings(base_url="https://mail.example.com"))
    template = {"subject": "x", "text": "{{ unsubscribe_url }}"}
    _, found = await site.post(job(ADA, BOB, template=template, list="news", dry_run=True))
    assert len({each["text"] for each in found["samples"]}) == 2


async def test_without_the_keys_of_the_suppressions_no_job_is_taken(site: Site) -> None:
    await suppress(site, ADA)
    await query(site.database, "DELETE FROM secrets")
    status, answer = await site.post(job(ADA))
    assert (status, answer["error"]["code"]) == (503, "database_away")
    assert "Restore that table" in answer["error"]["message"]
    assert await query(site.database, "SELECT COUNT(*) FROM secrets") == [(0,)]


@pytest.mark.parametrize("value", [1, {}, []])
def test_more_values_than_a_request_may_have_are_one_fault_and_none_is_looked_at(value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        SuppressionsRequest.model_validate({"suppressions": [value] * 40_000})
    assert caught.value.error_count() == 1
