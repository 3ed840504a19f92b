"""`GET /api/stats`: how many messages came to what, by day, sender or template."""

from typing import Any

import pytest

from mailerd.store.read import reports
from tests.intake.site import Site


async def numbers(site: Site, **params: str) -> Any:
    headers = {"X-API-Key": params.pop("key")} if "key" in params else {}
    status, answer = await site.get("/api/stats", params=params, headers=headers)
    assert status == 200, answer
    return answer


async def tally(site: Site, hour: str, sender: str, *, sent: int, bounced: int = 0) -> None:
    await site.rows(
        "INSERT INTO tally_hours (hour, sender_email, sent, bounced) VALUES (%s, %s, %s, %s)",
        hour, sender, sent, bounced,
    )  # fmt: skip


MARCH = {"from": "2026-03-01", "to": "2026-03-31"}


async def test_days_are_the_days_of_the_zone(site: Site) -> None:
    await tally(site, "2026-03-01 22:00", "a@example.com", sent=3)
    await tally(site, "2026-03-01 23:00", "a@example.com", sent=5, bounced=1)
    await tally(site, "2026-03-02 00:00", "b@example.com", sent=7)
    utc = await numbers(site, **MARCH)
    assert [(it["day"], it["sent"]) for it in utc["rows"]] == [("2026-03-01", 8), ("2026-03-02", 7)]
    assert utc["rows"][0] == {
        "day": "2026-03-01", "sent": 8, "failed": 0, "put_off": 0, "unsure": 0, "bounced": 1, "replied": 0,
    }  # fmt: skip
    assert (utc["by"], utc["from"], utc["to"], utc["zone"]) == ("day", "2026-03-01", "2026-03-31", "UTC")
    for zone in ("Europe/Berlin", "+01:00"):  # one hour ahead in winter
        there = await numbers(site, **MARCH, zone=zone)
        assert [(it["day"], it["sent"]) for it in there["rows"]] == [("2026-03-01", 3), ("2026-03-02", 12)], zone


async def test_the_edges_of_the_period_are_those_of_its_days(site: Site) -> None:
    for hour in ("2026-02-28 23:00", "2026-03-01 00:00", "2026-03-31 23:00", "2026-04-01 00:00"):
        await tally(site, hour, "a@example.com", sent=1)
    found = await numbers(site, **MARCH, by="sender")
    assert found["rows"] == [
        {"sender_email": "a@example.com", "sent": 2, "failed": 0, "put_off": 0, "unsure": 0, "bounced": 0, "replied": 0}
    ]


async def test_the_minutes_of_today_count_too(site: Site) -> None:
    await site.rows(
        "INSERT INTO tallies (minute, sender_email, daemon, sent) VALUES "
        "(UTC_TIMESTAMP() - INTERVAL SECOND(UTC_TIMESTAMP()) SECOND, 'a@example.com', 'd', 2)"
    )
    found = await numbers(site, by="sender")
    assert [(it["sender_email"], it["sent"]) for it in found["rows"]] == [("a@example.com", 2)]


async def test_templates_are_counted_by_the_jobs_that_ended(site: Site) -> None:
    ended = (
        ("welcome", 3, "2026-03-02"), ("welcome", 4, "2026-03-31 23:59:59"), (None, 1, "2026-03-05"),
        ("welcome", 50, "2026-04-01"),
    )  # fmt: skip
    for template, sent, at in ended:
        id_ = await site.posted()
        await site.rows("UPDATE jobs SET template_name = %s, sent = %s, finished_at = %s WHERE id = %s",
                        template, sent, at, id_)  # fmt: skip
    found = await numbers(site, **MARCH, by="template")
    assert found["rows"] == [
        {"jobs": 1, "sent": 1, "failed": 0, "bounced": 0, "replied": 0},
        {"template_name": "welcome", "jobs": 2, "sent": 7, "failed": 0, "bounced": 0, "replied": 0},
    ]


async def test_a_job_counts_for_each_of_its_tags(site: Site) -> None:
    for tags, sent in ((["welcome", "de"], 3), (["welcome"], 4), ([], 50)):
        id_ = await site.posted(tags=tags)
        await site.rows("UPDATE jobs SET sent = %s, finished_at = '2026-03-02' WHERE id = %s", sent, id_)
    found = await numbers(site, **MARCH, by="tag")
    assert [(it["tag"], it["jobs"], it["sent"]) for it in found["rows"]] == [("de", 1, 3), ("welcome", 2, 7)]


async def test_a_key_for_certain_senders_gets_only_theirs(site: Site) -> None:
    for sender in ("me@example.com", "you@example.com"):
        await tally(site, "2026-03-02 00:00", sender, sent=1)
        id_ = await site.posted(sender_email=sender)
        await site.rows("UPDATE jobs SET sent = 1, finished_at = '2026-03-02' WHERE id = %s", id_)
        await site.rows("INSERT INTO job_tags (tag, job_id) VALUES ('t', %s)", id_)
    key = await site.keys.create("mine", senders=["me@example.com"])
    assert [it["sender_email"] for it in (await numbers(site, **MARCH, by="sender", key=key))["rows"]] == [
        "me@example.com"
    ]
    for by in ("day", "template", "tag"):
        assert [it["sent"] for it in (await numbers(site, **MARCH, by=by, key=key))["rows"]] == [1], by


async def test_numbers_of_a_mailbox_are_not_those_of_its_alias(site: Site) -> None:
    id_ = await site.posted()
    await site.rows(
        "UPDATE jobs SET from_email = 'desk@example.com', sent = 1, finished_at = '2026-03-02' WHERE id = %s", id_
    )
    await tally(site, "2026-03-02 00:00", "me@example.com", sent=1)
    key = await site.keys.create("desk", senders=["desk@example.com"])
    for by in ("day", "sender"):
        status, answer = await site.get("/api/stats", params={**MARCH, "by": by}, headers={"X-API-Key": key})
        assert (status, answer["error"]["code"]) == (403, "sender_not_allowed")
        assert "me@example.com; use by=template" in answer["error"]["message"]
    assert [it["sent"] for it in (await numbers(site, **MARCH, by="template", key=key))["rows"]] == [1]
    whole = await site.keys.create("box", senders=["me@example.com", "desk@example.com"])
    assert [it["sent"] for it in (await numbers(site, **MARCH, by="sender", key=whole))["rows"]] == [1]


async def test_too_many_jobs_are_refused_with_the_remedy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_JOBS", 0)
    id_ = await site.posted()
    await site.rows("UPDATE jobs SET sent = 1, finished_at = '2026-03-02' WHERE id = %s", id_)
    status, answer = await site.get("/api/stats", params={**MARCH, "by": "template"})
    assert (status, answer["error"]["details"][0]["field"]) == (422, "from")
    assert "shorter period" in answer["error"]["details"][0]["message"]


@pytest.mark.parametrize(
    "params, field",
    [
        ({"by": "week"}, "by"),
        ({"to": "9999-12-31"}, "to"),
        ({"to": "0001-01-02", "zone": "+14:00"}, "to"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-03-02", "to": "2026-03-01"}, "from"),
        ({"from": "2024-01-01", "to": "2026-03-01"}, "from"),
        ({"zone": "Mars/Olympus"}, "zone"),
        ({"zone": "../../etc/passwd"}, "zone"),
        ({"zone": "Asia/Kolkata"}, "zone"),
        ({"zone": "+05:30"}, "zone"),
        ({"zone": ""} | {"colour": "red"}, "colour"),
    ],
)
async def test_a_bad_parameter_is_named(site: Site, params: dict[str, str], field: str) -> None:
    status, answer = await site.get("/api/stats", params=params)
    assert (status, [it["field"] for it in answer["error"]["details"]]) == (422, [field])
