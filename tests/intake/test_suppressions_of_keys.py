"""`/api/suppressions` and `/api/lists` for keys of some senders: another's is as good as none."""

from dataclasses import dataclass
from typing import Any

import pytest

from mailerd.core.suppression import EVERYTHING, Channel, Reason
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.suppressions import NewSuppression, Suppressions
from tests.intake.site import Site
from tests.intake.site import job as good
from tests.support.rows import query

ADA, BOB = "ada@example.com", "bob@example.com"
ALICE, BORIS = "alice@shop.example", "boris@shop.example"
ALLOWED = (Permission.SEND, Permission.READ, Permission.SUPPRESS)


@dataclass
class Caller:
    """Somebody with a key."""

    site: Site
    secret: str
    sender: str

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"X-API-Key": self.secret}
        async with self.site.client.request(method, f"{self.site.url}{path}", json=body, headers=headers) as response:
            is_json = response.content_type == "application/json"
            return response.status, await (response.json() if is_json else response.text())

    async def suppress(self, email: str, **more: Any) -> tuple[int, Any]:
        return await self.ask("POST", "/api/suppressions", {"suppressions": [{"email": email, **more}]})

    async def post(self, *emails: str, **more: Any) -> tuple[int, Any]:
        recipients = [{"email": it, "name": "X"} for it in emails]
        body = good(*recipients, sender_email=self.sender, **more)
        return await self.ask("POST", "/api/jobs/send_template_emails", body)

    async def seen(self) -> set[tuple[str, str | None, str]]:
        """What the list, the person's page and the download show, which is one."""
        _, page = await self.ask("GET", "/api/suppressions?limit=1000")
        found = {(it["email"], it["list"], it["origin"]) for it in page["suppressions"]}
        by_person = set()
        for email in (ADA, BOB):
            _, of_person = await self.ask("GET", f"/api/recipients?email={email}")
            _, asked = await self.ask("GET", f"/api/suppressions?email={email}")
            assert of_person["suppressions"] == asked["suppressions"]
            by_person |= {(it["email"], it["list"], it["origin"]) for it in asked["suppressions"]}
        _, csv = await self.ask("GET", "/api/suppressions.csv")
        rows = [line.split(",") for line in csv.splitlines()[1:]]
        assert {(row[0], row[1] or None, row[-1]) for row in rows} == found == by_person
        return found

    async def lists(self) -> list[str]:
        return [it["name"] for it in (await self.ask("GET", "/api/lists"))[1]["lists"]]


@pytest.fixture
async def callers(site: Site) -> tuple[Caller, Caller, Caller]:
    """Alice and Boris, each with a key for one sender, and somebody with one without limits."""
    alice, boris = [
        Caller(site, await site.keys.create(it, senders=[it], permissions=ALLOWED), it) for it in (ALICE, BORIS)
    ]
    return alice, boris, Caller(site, site.key, ALICE)


async def daemon(site: Site, email: str, origin: str, *, list_id: int = EVERYTHING, reason: Reason) -> None:
    """What the daemon notes of a message of this sender."""
    store = await Suppressions.open(site.database, timeout=20)
    source = Channel.ONE_CLICK if reason is Reason.UNSUBSCRIBED else Channel.NOTICE
    await store.add([NewSuppression(store.digest(email), list_id, reason, source, email, origin=origin)])


async def test_a_key_sees_and_ends_what_is_its_own(site: Site, callers: tuple[Caller, Caller, Caller]) -> None:
    alice, boris, all_ = callers
    await all_.suppress(ADA, list="news")
    await boris.suppress(ADA, list="news")
    assert await alice.suppress(ADA, list="news") == (200, {"total": 1, "added": 1})
    assert await alice.suppress(ADA, list="news") == (200, {"total": 1, "added": 0})
    for origin in (ALICE, BORIS):
        await daemon(site, BOB, origin, reason=Reason.HARD_BOUNCE)
    (one,) = await query(site.database, "SELECT id FROM api_keys WHERE name = %s", ALICE)
    (other,) = await query(site.database, "SELECT id FROM api_keys WHERE name = %s", BORIS)
    own, others = {(ADA, "news", f"key:{one[0]}")}, {(ADA, "news", f"key:{other[0]}")}
    assert await alice.seen() == own | {(BOB, None, ALICE)}
    assert await boris.seen() == others | {(BOB, None, BORIS)}
    assert len(await all_.seen()) == 5
    left = {"removed": True, "still_suppressed": True}
    assert await alice.ask("DELETE", f"/api/suppressions/{ADA}?list=news") == (200, left)
    assert (await alice.ask("DELETE", f"/api/suppressions/{ADA}?list=news"))[0] == 404
    assert await alice.ask("DELETE", f"/api/suppressions/{BOB}") == (200, left)
    assert (await alice.ask("DELETE", f"/api/suppressions/{BOB}"))[0] == 404
    assert await alice.seen() == set()
    assert await boris.seen() == others | {(BOB, None, BORIS)}
    for email, path in ((BOB, ""), (ADA, "?list=news")):
        ended = {"removed": True, "still_suppressed": False}
        assert await all_.ask("DELETE", f"/api/suppressions/{email}{path}") == (200, ended), "all of them at once"
    assert await boris.seen() == set()


@pytest.mark.parametrize("first", ["wish", "bounce"])
async def test_a_job_skips_whom_its_person_left_though_another_ended_a_bounce(
    site: Site, callers: tuple[Caller, Caller, Caller], first: str
) -> None:
    alice, boris, all_ = callers
    await all_.ask("POST", "/api/lists", {"name": "news"})
    steps = {
        "wish": daemon(site, ADA, BORIS, list_id=1, reason=Reason.UNSUBSCRIBED),
        "bounce": daemon(site, ADA, ALICE, list_id=1, reason=Reason.HARD_BOUNCE),
    }
    await steps.pop(first)
    for step in steps.values():
        await step
    assert (await alice.ask("DELETE", f"/api/suppressions/{ADA}?list=news"))[0] == 200
    status, answer = await boris.post(ADA, list="news")
    assert (status, answer["suppressed_total"]) == (200, 1)


async def test_a_key_for_some_senders_suppresses_for_a_list_only(
    site: Site, callers: tuple[Caller, Caller, Caller]
) -> None:
    alice, _, all_ = callers
    both = {"suppressions": [{"email": ADA, "list": "new"}, {"email": ADA}]}
    status, answer = await alice.ask("POST", "/api/suppressions", both)
    assert (status, answer["error"]["code"]) == (403, "sender_not_allowed")
    assert "name the list" in answer["error"]["message"]
    assert await query(site.database, "SELECT (SELECT COUNT(*) FROM suppressions) + COUNT(*) FROM lists") == [(0,)]
    await daemon(site, ADA, ALICE, reason=Reason.UNSUBSCRIBED)
    status, answer = await alice.ask("DELETE", f"/api/suppressions/{ADA}")
    assert (status, answer["error"]["code"]) == (403, "sender_not_allowed")
    assert "only a key for all senders" in answer["error"]["message"]
    assert await alice.seen() == {(ADA, None, ALICE)}
    assert (await all_.ask("DELETE", f"/api/suppressions/{ADA}"))[0] == 200


async def test_another_ones_list_is_as_good_as_none(site: Site, callers: tuple[Caller, Caller, Caller]) -> None:
    alice, boris, all_ = callers
    plain = Caller(site, await site.keys.create("plain", senders=[BORIS]), BORIS)
    assert (await alice.ask("POST", "/api/lists", {"name": "a", "title": "Of Alice"}))[0] == 200
    assert (await all_.ask("POST", "/api/lists", {"name": "all"}))[0] == 200
    assert (await alice.lists(), await boris.lists(), await all_.lists()) == (["a", "all"], ["all"], ["a", "all"])
    for path in ("/api/suppressions?list=a", "/api/suppressions.csv?list=a", "/api/suppressions?list=none"):
        status, answer = await boris.ask("GET", path)
        assert (status, answer["error"]["details"][0]["message"]) == (422, "no list has this name; see GET /api/lists")
    assert (await boris.ask("DELETE", f"/api/suppressions/{ADA}?list=a"))[0] == 422
    taken = "the name 'a' is taken; choose another. Nothing was stored"
    for given in (
        await boris.ask("POST", "/api/lists", {"name": "a"}), await boris.suppress(ADA, list="a"),
        await boris.post(ADA, list="a"), await boris.post(ADA, list="a", dry_run=True),
    ):  # fmt: skip
        assert (given[0], given[1]["error"]["details"][0]["message"]) == (422, taken)
    unknown = await plain.post(ADA, list="none")
    assert unknown[0] == 422
    assert (await plain.post(ADA, list="a"))[1]["error"]["details"] == unknown[1]["error"]["details"]
    status, answer = await boris.ask("POST", "/api/lists", {"name": "all", "title": "Of Boris"})
    assert (status, answer["error"]["code"]) == (403, "sender_not_allowed")
    assert "belongs to other senders, too" in answer["error"]["message"]
    for who, name in ((alice, "a"), (alice, "all"), (boris, "all"), (plain, "all"), (boris, "b")):
        assert (await who.post(ADA, list=name))[0] == 200
    assert await query(site.database, "SELECT name, title, senders FROM lists ORDER BY name") == [
        ("a", "Of Alice", f'["{ALICE}"]'), ("all", None, None), ("b", None, f'["{BORIS}"]'),
    ]  # fmt: skip
