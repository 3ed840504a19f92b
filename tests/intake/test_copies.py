"""`cc` and `bcc` of a post: what is stored, what is refused, what is left out, and how it comes back."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailerd.core.copies import from_json
from tests.intake.site import Site
from tests.intake.site import job as good
from tests.intake.test_suppressions import suppress

ADA, BOB, DESK, AUDIT = "ada@example.com", "bob@example.com", "desk@example.net", "audit@example.net"
ROWS = "SELECT COALESCE(r.copy_list, j.copy_list), r.copies FROM job_recipients r JOIN jobs j ON j.id = r.job_id"


def ada(**more: Any) -> dict[str, Any]:
    return {"email": ADA, "name": "Ada", **more}


def to(*emails: str) -> list[dict[str, str]]:
    return [{"email": email} for email in emails]


async def stored(site: Site) -> list[tuple[list[str], int]]:
    """The copies of each recipient, and what they cost."""
    rows = await site.rows(f"{ROWS} ORDER BY r.id")
    return [([f"{it.header} {it.email}" for it in from_json(text)], copies) for text, copies in rows]


async def test_a_recipient_has_its_own_copies_or_those_of_the_job(site: Site) -> None:
    bob = {"email": BOB, "name": "Bob"}
    await site.posted(ada(), {**bob, "cc": to("x@example.com")}, {**bob, "email": "c@example.com", "cc": [], "bcc": []},
                      cc=to(DESK), bcc=to(AUDIT))  # fmt: skip
    assert await stored(site) == [
        ([f"cc {DESK}", f"bcc {AUDIT}"], 2), (["cc x@example.com", f"bcc {AUDIT}"], 1), ([], 0),
    ]  # fmt: skip
    assert await site.rows("SELECT copies FROM jobs") == [(3,)]


async def test_they_come_back_with_the_recipient(site: Site) -> None:
    id_ = await site.posted(ada(cc=[{"email": DESK, "name": "Desk, the"}]), bcc=to(AUDIT))
    for path in (f"/api/jobs/{id_}/recipients", f"/api/recipients?email={ADA}"):
        status, page = await site.get(path)
        assert status == 200
        assert page["recipients"][0]["cc"] == [{"email": DESK, "name": "Desk, the"}]
        assert page["recipients"][0]["bcc"] == [{"email": AUDIT, "name": None}]
    status, page = await site.get(f"/api/recipients?email={DESK}")
    assert page["recipients"] == [], "people are found by To alone"


async def test_an_address_that_is_named_twice_is_kept_once_and_warned_of(site: Site) -> None:
    status, answer = await site.post(
        good(ada(cc=to(DESK, "ADA@example.com"), bcc=to(AUDIT, DESK.upper())), ada(email=BOB))
    )
    assert status == 200
    assert await stored(site) == [([f"cc {DESK}", f"bcc {AUDIT}"], 2), ([], 0)]
    assert answer["warnings"] == ["1 message names an address more than once: it is kept once, To before Cc before Bcc"]


async def test_domains_of_any_script_are_compared_as_dns_has_them(site: Site) -> None:
    """The process that reads jobs can open no file: what Python loads late has to be there."""
    status, answer = await site.post(
        good(ada(email="x@bücher.example", cc=to("X@xn--bcher-kva.example", "y@例.example")))
    )
    assert (status, len(answer["warnings"])) == (200, 1)
    assert await stored(site) == [(["cc y@xn--fsq.example"], 1)]
    for hopeless in ("ä@ä", "\U0001f389@\u00b2.example", "a@" + "ä" * 70 + ".example"):
        assert (await site.post(good({"email": hopeless, "cc": to(hopeless)}, cc=to(hopeless))))[0] == 422


async def test_one_that_the_job_copies_gets_its_own_message_without_a_copy_for_itself(site: Site) -> None:
    await site.posted(ada(), ada(email=DESK), cc=to(DESK), bcc=to(AUDIT))
    assert await stored(site) == [([f"cc {DESK}", f"bcc {AUDIT}"], 2), ([f"bcc {AUDIT}"], 1)]


async def test_a_suppressed_copy_is_left_out_and_named_and_the_message_stays(site: Site) -> None:
    await suppress(site, DESK)
    status, answer = await site.post(good(ada(), ada(email=BOB, cc=to(DESK)), cc=to(DESK), bcc=to(AUDIT)))
    assert status == 200
    assert (answer["accepted"], answer["suppressed_total"]) == (2, 0)
    assert answer["suppressed_copies"] == [
        {"email": DESK, "reason": "the address is suppressed: manual", "messages": 2}
    ]
    assert answer["warnings"] == ["1 address is suppressed and gets no copy; see suppressed_copies"]
    assert await stored(site) == [([f"bcc {AUDIT}"], 1), ([f"bcc {AUDIT}"], 1)]


async def test_an_override_counts_for_copies_as_for_to(site: Site) -> None:
    await suppress(site, DESK)
    status, answer = await site.post(good(ada(cc=to(DESK)), override_suppression=True))
    assert (status, answer["suppressed_copies"]) == (200, [])
    assert await stored(site) == [([f"cc {DESK}"], 1)]


@pytest.mark.parametrize(
    "recipient,fields,field,message",
    [
        ({"cc": to("nobody")}, {}, "recipients[0].cc[0].email", "has no @"),
        ({}, {"bcc": to(DESK, "@x.example")}, "bcc[1].email", "has nothing before the @"),
        ({"cc": [DESK]}, {}, "recipients[0].cc[0]", "must be an object"),
        ({"cc": DESK}, {}, "recipients[0].cc", "must be a list"),
        ({"bcc": to(*(f"c{n}@example.com" for n in range(11)))}, {}, "recipients[0].bcc", "11 entries, above"),
        ({"cc": [{"email": DESK, "name": "a\nb"}]}, {}, "recipients[0].cc[0].name", "control character"),
        ({"cc": [{"email": DESK, "variables": {}}]}, {}, "recipients[0].cc[0].variables", "unknown field"),
        ({}, {"cc": to(DESK), "list": "news"}, "cc", "cannot be used with a list"),
        ({"bcc": to(DESK)}, {"list": "news"}, "recipients[0].bcc", "cannot be used with a list"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named_with_its_place_and_nothing_is_stored(
    site: Site, recipient: dict[str, Any], fields: dict[str, Any], field: str, message: str
) -> None:
    status, answer = await site.post(good(ada(**recipient), **fields))
    assert status == 422
    found = {each["field"]: each["message"] for each in answer["error"]["details"]}
    assert message in found[field]
    assert await site.stored() == (0, 0)


async def test_a_message_that_is_dearer_than_a_whole_day_is_refused(site: Site) -> None:
    await site.rows("INSERT INTO senders (email, per_day, created_at) VALUES ('me@example.com', 5, UTC_TIMESTAMP(6))")
    status, answer = await site.post(good(ada(), ada(email=BOB, cc=to(*(f"c{n}@example.net" for n in range(5))))))
    assert status == 422
    (error,) = answer["error"]["details"]
    assert error["field"] == "recipients[1].cc"
    assert (
        "counts as 6 because of its copies, above the 5 that the sender's limits or warm-up allow on that day"
        in error["message"]
    )
    assert await site.stored() == (0, 0)
    assert (await site.post(good(ada(cc=to(*(f"c{n}@example.net" for n in range(4)))))))[0] == 200


async def test_one_that_a_warm_up_does_not_allow_on_its_day_is_refused_and_later_it_is_not(site: Site) -> None:
    await site.rows(
        "INSERT INTO senders (email, per_day, warm_up, warm_up_growth, created_at) "
        "VALUES ('me@example.com', 2000, 5, 1, UTC_TIMESTAMP(6))"
    )
    recipient = ada(cc=to(*(f"c{n}@example.net" for n in range(6))))
    status, answer = await site.post(good(recipient))
    assert (status, answer["error"]["details"][0]["field"]) == (422, "recipients[0].cc")
    later = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    assert (await site.post(good(recipient, send_at=later)))[0] == 200


async def test_a_dry_run_says_the_same_and_stores_nothing(site: Site) -> None:
    await suppress(site, DESK)
    status, answer = await site.post(good(ada(cc=to(DESK, DESK)), dry_run=True))
    assert status == 200
    assert [it["email"] for it in answer["suppressed_copies"]] == [DESK]
    assert len(answer["warnings"]) == 2
    assert await site.stored() == (0, 0)
