"""`GET /api/recipients?email=`: one person's messages over all jobs that the key may see."""

import pytest

from mailerd.store.write.api_keys import Permission
from tests.intake.site import Site, job
from tests.intake.test_suppressions import suppress

ADA = {"email": "A.da@Gmail.com", "variables": {"name": "Ada"}}


async def posted(site: Site, **fields: object) -> str:
    return await site.posted(ADA, **fields)


async def test_a_persons_messages_are_shown_the_newest_first(site: Site) -> None:
    jobs = [await posted(site), await posted(site, sender_email="you@example.com")]
    await site.rows(
        "UPDATE job_recipients SET status = 'sent', attempts = 1, message_id = 'm1', proof = 'answered', "
        "sent_at = UTC_TIMESTAMP(6) WHERE job_id = %s", jobs[0],
    )  # fmt: skip
    status, shown = await site.get("/api/recipients", params={"email": " ADA@googlemail.COM "})
    assert status == 200
    assert shown["email"] == "ADA@googlemail.com"
    assert shown["suppressions"] == []
    assert shown["next_cursor"] is None
    newer, older = shown["recipients"]
    assert (newer["job_id"], newer["sender_email"], newer["status"]) == (jobs[1], "you@example.com", "waiting")
    assert older == {
        "id": older["id"],
        "index": 0,
        "job_id": jobs[0],
        "job_type": "template",
        "sender_email": "me@example.com",
        "email": "A.da@gmail.com",
        "name": None,
        "status": "sent",
        "attempts": 1,
        "error": None,
        "message_id": "m1",
        "proof": "answered",
        "due_at": older["due_at"],
        "sent_at": older["sent_at"],
        "updated_at": older["updated_at"],
        "result": None,
        "metadata": {},
        "cc": [],
        "bcc": [],
    }
    assert older["sent_at"].endswith("Z")


async def test_the_recipients_of_a_job_are_found_by_any_spelling(site: Site) -> None:
    _, answer = await site.post(
        job(
            *(
                {"email": it, "variables": {"name": "A"}}
                for it in ("Ada@Example.ORG", "a.da@gmail.com", "x@example.org")
            )
        )
    )
    for spelling, stored in (
        ("Ada@example.org", "Ada@example.org"),
        ("ada@EXAMPLE.org", "Ada@example.org"),
        ("ADA@googlemail.com", "a.da@gmail.com"),
    ):
        status, page = await site.get(f"/api/jobs/{answer['job_id']}/recipients", params={"email": spelling})
        assert (status, [it["email"] for it in page["recipients"]]) == (200, [stored])


async def test_pages_go_through_all_of_them(site: Site) -> None:
    jobs = [await posted(site) for _ in range(5)]
    params, seen = {"email": "ada@gmail.com", "limit": "2"}, list[str]()
    while True:
        status, page = await site.get("/api/recipients", params=params)
        assert status == 200
        seen += [it["job_id"] for it in page["recipients"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == jobs[::-1]


async def test_a_key_for_certain_senders_sees_their_messages_only_and_no_suppressions(site: Site) -> None:
    await posted(site)
    yours = await posted(site, sender_email="you@example.com")
    await suppress(site, "ada@gmail.com", detail="ticket 7")
    narrow = await site.keys.create("narrow", senders=["you@example.com"])
    status, shown = await site.get("/api/recipients", params={"email": "ada@gmail.com"}, headers={"X-API-Key": narrow})
    assert status == 200
    assert [it["job_id"] for it in shown["recipients"]] == [yours]
    assert shown["suppressions"] is None


async def test_it_says_what_keeps_messages_from_the_person(site: Site) -> None:
    await suppress(site, "ada@gmail.com", list="news", detail="ticket 7")
    _, shown = await site.get("/api/recipients", params={"email": "a.d.a@gmail.com"})
    assert shown["recipients"] == []
    (one,) = shown["suppressions"]
    assert (one["list"], one["reason"], one["detail"]) == ("news", "manual", "ticket 7")
    reader = await site.keys.create("reader", permissions=[Permission.READ])
    _, shown = await site.get("/api/recipients", params={"email": "ada@gmail.com"}, headers={"X-API-Key": reader})
    assert shown["suppressions"] is None


@pytest.mark.parametrize(
    "asked, field",
    [
        ("", "email"),
        ("email=", "email"),
        ("email=ada", "email"),
        ("email=a@example.com&cursor=x", "cursor"),
        ("email=a@example.com&limit=1001", "limit"),
        ("email=a@example.com&status=sent", "status"),
        (f"email={'a' * 320}@example.com", "email"),
    ],
)
async def test_what_cannot_be_asked_is_named(site: Site, asked: str, field: str) -> None:
    status, answer = await site.get(f"/api/recipients?{asked}")
    assert status == 422
    assert [it["field"] for it in answer["error"]["details"]] == [field]


async def test_a_key_that_may_not_read_gets_403(site: Site) -> None:
    key = await site.keys.create("poster", permissions=[Permission.SEND])
    status, _ = await site.get("/api/recipients?email=a@example.com", headers={"X-API-Key": key})
    assert status == 403
