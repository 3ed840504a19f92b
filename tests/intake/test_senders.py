"""`/api/senders` and `/api/key`: what a mailbox does and may send; a key sees and changes what it covers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailerd.config import GmailSettings
from mailerd.core.rate_limit import SenderLimits
from mailerd.events.worker import GmailEvents
from mailerd.gmail import Gmail
from mailerd.intake import senders as models
from mailerd.intake.sender_resolver import SenderResolver
from mailerd.sandbox.google import COMPOSE, READONLY, FakeGoogle, FakeLimits, serve
from mailerd.sandbox.mariadb import Server
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.write.api_keys import Permission
from tests.intake.site import Build, Site
from tests.support.daemon import sign_in
from tests.support.heard import Heard
from tests.support.holding import holding
from tests.support.own_time import own_time
from tests.support.rows import post

ME, SALES, OTHER = "me@example.com", "sales@example.com", "other@example.com"
LIMITS = {"units_per_minute", "per_minute", "per_day", "reserve", "min_gap", "warm_up", "warm_up_growth"}


@pytest.fixture
async def gmail(tmp_path: Path) -> AsyncIterator[Gmail]:
    """Google as a stand-in; one mailbox is authorized."""
    google = FakeGoogle(FakeLimits(units_per_minute=0, per_day=0))
    sign_in(google, tmp_path / "credentials", ME, scopes=(COMPOSE, READONLY))
    async with serve(google) as served:
        known = GmailSettings(
            api_root=served.url, token_uri=served.token_uri, credentials_dir=tmp_path / "credentials",
            aliases={SALES: ME},
        )  # fmt: skip
        async with Gmail(known, events=GmailEvents(Heard()), concurrency=1) as it:
            yield it


@pytest.fixture
async def site(build: Build, gmail: Gmail) -> Site:
    """An intake that knows which mailboxes are authorized."""
    site = await build(senders=SenderResolver(gmail, {SALES: ME}))
    site.intake._forecasts.defaults.now = DefaultLimits(SenderLimits(6000, 0, 2000))
    return site


async def key_of(site: Site, name: str, *senders: str, may: list[Permission] | None = None) -> dict[str, str]:
    return {"X-API-Key": await site.keys.create(name, senders=senders or None, permissions=may or None)}


async def ask(
    site: Site, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    given: Any = {} if body is None else {"json": body}
    async with site.client.request(method, f"{site.url}/api/senders{path}", headers=headers, **given) as response:
        return response.status, await response.json()


def fields(answer: Any) -> list[str]:
    return [it["field"] for it in answer["error"]["details"]]


async def test_a_sender_shows_its_authorization_limits_and_what_waits(site: Site, gmail: Gmail) -> None:
    await post(site.database, recipients=3)
    status, shown = await ask(site, "GET", f"/{ME}")
    assert status == 200
    models.SenderOut.model_validate(shown, strict=False)
    assert (shown["email"], shown["aliases"], shown["mode"]) == (ME, [SALES], None)
    assert shown["signed_in"] == {"state": "unknown", "scopes": [], "checked_at": None}
    await gmail.authenticate(ME)
    _, shown = await ask(site, "GET", "/Me@Example.com")
    assert (shown["signed_in"]["state"], sorted(shown["signed_in"]["scopes"])) == (
        "ok", ["gmail.compose", "gmail.readonly"],
    )  # fmt: skip
    assert shown["signed_in"]["checked_at"]
    assert (shown["state"], shown["pause"], shown["finding"]) == ("sending", None, None)
    assert shown["limits"].keys() == LIMITS | {"own"}
    assert (shown["limits"]["per_day"], shown["limits"]["own"]) == (2000, [])
    assert shown["day"] == {"limit": 2000, "used": 0, "elsewhere": 0, "left": 2000, "next_free_at": None}
    assert shown["minute"] == {"limit": 54, "left": 54}
    assert (shown["waiting"], shown["waiting_counted_to"]) == (3, 10_000)
    assert shown["next_message_at"] <= shown["done_at"]
    assert shown["inbox"] == {"read_at": None, "behind_s": None}


async def test_a_sender_without_a_credential_is_never_sending(site: Site, tmp_path: Path) -> None:
    await post(site.database, sender=OTHER, recipients=3)
    _, shown = await ask(site, "GET", f"/{OTHER}")
    assert (shown["signed_in"]["state"], shown["state"]) == ("missing", "paused")
    assert (shown["pause"]["cause"], shown["pause"]["until"]) == ("no_credentials", None)
    assert shown["pause"]["remedy"] == f"mailerd auth login --sender {OTHER}"
    assert "no credential file for other@example.com" in shown["pause"]["reason"]
    assert (shown["next_message_at"], shown["done_at"]) == (None, None)
    file = tmp_path / "credentials" / f"{OTHER}.json"
    file.write_text("{}")
    assert (await ask(site, "GET", f"/{OTHER}"))[1]["signed_in"]["state"] == "unknown", "nobody has read it yet"
    await site.rows(
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 50 SECOND, pause_cause = 'no_credentials', "
        "pause_reason = 'not JSON' WHERE email = %s",
        OTHER,
    )
    _, shown = await ask(site, "GET", f"/{OTHER}")
    assert (shown["signed_in"]["state"], shown["state"], shown["pause"]["reason"]) == ("unusable", "paused", "not JSON")


async def test_senders_come_page_by_page_by_address(site: Site) -> None:
    for number in range(5):
        await post(site.database, sender=f"s{number}@example.com", recipients=1)
    found, path = list[str](), "?limit=2"
    while path:
        status, page = await ask(site, "GET", path)
        assert status == 200
        models.SendersOut.model_validate(page, strict=False)
        found += [it["email"] for it in page["senders"]]
        path = page["next_cursor"] and f"?limit=2&cursor={page['next_cursor']}"
    assert found == [ME, *(f"s{number}@example.com" for number in range(5))], "one that was never used among them"
    assert {it["waiting_counted_to"] for it in (await ask(site, "GET", ""))[1]["senders"]} == {1666}
    for query in ("limit=101", "limit=0", "cursor=%20", "before=x", "limit=1&limit=2"):
        assert (await ask(site, "GET", f"?{query}"))[0] == 422, query


async def test_a_limited_key_sees_its_own_senders_and_no_trace_of_others(site: Site) -> None:
    for sender in (ME, OTHER):
        await post(site.database, sender=sender, recipients=1)
    mine = await key_of(site, "mine", ME, may=[Permission.READ, Permission.CONTROL, Permission.SENDERS])
    _, page = await ask(site, "GET", "", headers=mine)
    assert ([it["email"] for it in page["senders"]], page["senders"][0]["aliases"]) == ([ME], [])
    ways: list[tuple[str, str, Any]] = [
        ("GET", "", None), ("POST", "/pause", {"reason": "x"}), ("POST", "/resume", {}), ("PATCH", "", {"per_day": 1}),
    ]  # fmt: skip
    for method, way, body in ways:
        theirs = await ask(site, method, f"/{OTHER}{way}", body, mine)
        nobody = await ask(site, method, f"/nobody@example.com{way}", body, mine)
        assert theirs == nobody
        assert (theirs[0], theirs[1]["error"]["code"]) == (404, "not_found")
        assert (await ask(site, method, f"/nobody@example.com{way}", body))[0] == 404
    assert await site.rows("SELECT email, per_day, paused_until FROM senders ORDER BY email") == [
        (ME, None, None), (OTHER, None, None),
    ]  # fmt: skip


async def test_the_key_of_an_alias_sees_the_mailbox_behind_it_and_cannot_change_it(site: Site) -> None:
    await post(site.database, sender=ME, recipients=1)
    await site.rows("UPDATE senders SET per_day = 0")
    mine = await key_of(site, "mine", SALES, may=[Permission.READ, Permission.CONTROL, Permission.SENDERS])
    _, page = await ask(site, "GET", "", headers=mine)
    assert [(it["email"], it["aliases"]) for it in page["senders"]] == [(ME, [SALES])]
    for name in (ME, SALES):
        assert (await ask(site, "GET", f"/{name}", headers=mine))[1]["email"] == ME
        for method, way, body in (("POST", "/pause", {"reason": "x"}), ("PATCH", "", {"per_day": 1})):
            status, answer = await ask(site, method, f"/{name}{way}", body, mine)
            assert (status, answer["error"]["code"]) == (403, "sender_not_allowed")
            assert answer["error"]["message"].endswith("nothing was changed")
    assert await site.rows("SELECT per_day, paused_until FROM senders") == [(0, None)]
    status, answer = await ask(site, "POST", f"/{SALES}/pause", {"reason": "moving house"})
    assert (status, answer["changed"], answer["sender"]["email"]) == (200, True, ME)
    _, shown = await ask(site, "GET", f"/{SALES}", headers=mine)
    assert shown["finding"]["text"] == f"{SALES} is paused manually until it is resumed: moving house"


async def test_the_key_of_an_alias_that_was_moved_sees_the_mailbox_of_its_jobs(site: Site) -> None:
    job = await post(site.database, sender=OTHER, recipients=1)
    await site.rows("UPDATE jobs SET from_email = 'desk@example.com' WHERE id = %s", job)
    mine = await key_of(site, "mine", "desk@example.com")
    assert [it["email"] for it in (await ask(site, "GET", "", headers=mine))[1]["senders"]] == [OTHER]
    assert (await ask(site, "GET", f"/{OTHER}", headers=mine))[0] == 200


async def test_a_mailbox_that_is_authorized_and_was_never_used_can_be_seen_and_changed(site: Site) -> None:
    status, shown = await ask(site, "GET", f"/{ME}")
    assert (status, shown["state"], shown["waiting"]) == (200, "idle", 0)
    assert await ask(site, "POST", f"/{ME}/resume") == (200, {"changed": False, "sender": shown})
    assert (await ask(site, "GET", ""))[1]["senders"] == [shown]
    assert (await ask(site, "GET", "", headers=await key_of(site, "other", OTHER)))[1]["senders"] == []
    assert (await ask(site, "PATCH", f"/{ME}", {"per_day": 50}))[1]["sender"]["day"]["left"] == 50
    assert len((await ask(site, "GET", ""))[1]["senders"]) == 1


async def test_a_pause_and_its_end_are_idempotent_recorded_and_in_the_feed(site: Site) -> None:
    await post(site.database, recipients=1)
    woken = site.wakeups.count
    for changed in (True, False):
        status, answer = await ask(site, "POST", f"/{ME}/pause", {"reason": "moving house"})
        assert (status, answer["changed"], answer["sender"]["state"]) == (200, changed, "paused")
        assert answer["sender"]["pause"] == {
            "cause": "manual", "reason": "moving house", "until": None, "remedy": f"mailerd senders resume {ME}",
        }  # fmt: skip
    _, answer = await ask(site, "POST", f"/{ME}/pause", {"for": 3600, "reason": "moving house"})
    assert (answer["changed"], answer["sender"]["pause"]["until"] is not None) == (True, True)
    for changed in (True, False):
        status, answer = await ask(site, "POST", f"/{ME}/resume")
        assert (status, answer["changed"], answer["sender"]["pause"]) == (200, changed, None)
    assert site.wakeups.count > woken
    _, feed = await site.get("/api/events?types=sender.paused,sender.resumed")
    assert [it["type"] for it in feed["events"]] == ["sender.paused", "sender.paused", "sender.resumed"]
    assert [(it["action"], it["actor"]) for it in site.heard.of("sender_action")] == [
        (action, "key:test") for action in ("pause", "pause", "resume")
    ]
    rows = await site.rows("SELECT sender, action, actor, changed FROM job_actions ORDER BY id")
    assert rows == [
        (ME, action, "key:test", changed)
        for action, changed in (("pause", 1), ("pause", 0), ("pause", 1), ("resume", 1), ("resume", 0))
    ]


async def test_a_longer_pause_of_google_is_not_cut_short(site: Site) -> None:
    await post(site.database, recipients=1)
    await site.rows(
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 9 HOUR, pause_cause = 'daily_limit', "
        "pause_reason = 'the day is full'"
    )
    _, answer = await ask(site, "POST", f"/{ME}/pause", {"for": 60, "reason": "lunch"})
    assert (answer["changed"], answer["sender"]["pause"]["cause"]) == (False, "daily_limit")


@pytest.mark.parametrize(
    "body, wrong",
    [
        ({}, "reason"), ({"reason": ""}, "reason"), ({"reason": "x" * 201}, "reason"), ({"reason": None}, "reason"),
        ({"reason": "a\nb"}, "reason"), ({"for": 0, "reason": "x"}, "for"), ({"for": -1, "reason": "x"}, "for"),
        ({"for": "1h"}, "for reason"), ({"for": 1.5, "reason": "x"}, "for"), ({"for": True, "reason": "x"}, "for"),
        ({"for": 10**30, "reason": "x"}, "for"), ({"lasts": 60, "reason": "x"}, "lasts"),
    ],
)  # fmt: skip
async def test_a_pause_that_cannot_be_names_each_field_and_changes_nothing(site: Site, body: Any, wrong: str) -> None:
    await post(site.database, recipients=1)
    status, answer = await ask(site, "POST", f"/{ME}/pause", body)
    assert (status, " ".join(sorted(fields(answer)))) == (422, wrong)
    assert await site.rows("SELECT paused_until FROM senders") == [(None,)]


async def test_limits_are_changed_one_by_one_and_null_is_the_default_again(site: Site) -> None:
    await post(site.database, recipients=1)
    given = {"per_day": 1500, "reserve": 100, "min_gap": 2, "warm_up": 50, "warm_up_growth": 25, "per_minute": 30,
             "units_per_minute": 5000}  # fmt: skip
    status, answer = await ask(site, "PATCH", f"/{ME}", given)
    assert (status, answer["changed"]) == (200, True)
    assert answer["sender"]["limits"] == {**given, "own": sorted(given)}
    assert (answer["sender"]["day"]["limit"], answer["sender"]["minute"]["limit"]) == (50, 24)
    for changed in (True, False):
        _, answer = await ask(site, "PATCH", f"/{ME}", {"warm_up": None, "min_gap": None})
        assert (answer["changed"], answer["sender"]["limits"]["warm_up"]) == (changed, 0)
        assert answer["sender"]["day"]["limit"] == 1400
    assert (await ask(site, "PATCH", f"/{ME}", {}))[1]["changed"] is False
    _, answer = await ask(site, "PATCH", f"/{ME}", dict.fromkeys(given))
    assert (answer["sender"]["limits"]["own"], answer["sender"]["limits"]["per_day"]) == ([], 2000)
    _, answer = await ask(site, "PATCH", f"/{ME}", {"per_day": 0, "units_per_minute": 0})
    assert (answer["sender"]["day"]["limit"], answer["sender"]["day"]["left"]) == (None, None)
    assert answer["sender"]["minute"] == {"limit": None, "left": None}


async def test_a_reload_of_the_configured_limits_is_seen_and_keeps_those_of_its_own(site: Site) -> None:
    await ask(site, "PATCH", f"/{ME}", {"per_day": 1500})
    cell = site.intake._forecasts.defaults
    cell.now = replace(cell.now, default=SenderLimits(5500, 20, 900))
    _, shown = await ask(site, "GET", f"/{ME}")
    assert (shown["limits"]["per_day"], shown["limits"]["per_minute"], shown["minute"]["limit"]) == (1500, 20, 20)
    _, answer = await ask(site, "PATCH", f"/{ME}", {"per_day": None})
    assert answer["sender"]["day"]["limit"] == 900


@pytest.mark.parametrize(
    "body, wrong",
    [
        ({"per_day": -1, "reserve": 10**9, "per_minute": "many", "min_gap": 86_401, "warm_up": 1.5, "colour": 1,
          "units_per_minute": True, "warm_up_growth": [1]}, "colour " + " ".join(sorted(LIMITS))),
        ({"per_day": 10**400}, "per_day"), ({"min_gap": -0.1}, "min_gap"), ({"min_gap": "1"}, "min_gap"),
        ({"min_gap": True}, "min_gap"), ({"per_day": {}}, "per_day"), ({"reserve": 2000}, "reserve"),
        ({"reserve": 90, "per_day": 90}, "per_day reserve"), ({"email": "you@example.com"}, "email"),
    ],
)  # fmt: skip
async def test_limits_that_cannot_be_name_each_field_and_change_nothing(site: Site, body: Any, wrong: str) -> None:
    await post(site.database, recipients=1)
    status, answer = await ask(site, "PATCH", f"/{ME}", body)
    assert (status, " ".join(sorted(fields(answer)))) == (422, wrong)
    assert answer["error"]["message"].endswith("nothing was changed")
    assert set(await site.rows(f"SELECT {', '.join(sorted(LIMITS))} FROM senders")) == {(None,) * 7}
    assert await site.rows("SELECT COUNT(*) FROM job_actions") == [(0,)]


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"{", b'{"min_gap": NaN}', b'{"min_gap": 1e999}', b"\xff"])
async def test_a_body_that_holds_no_limits_is_refused(site: Site, raw: bytes) -> None:
    await post(site.database, recipients=1)
    async with site.client.patch(f"{site.url}/api/senders/{ME}", data=raw) as response:
        assert response.status == 422, await response.text()
    assert await site.rows("SELECT min_gap FROM senders") == [(None,)]


async def test_two_changes_at_once_are_both_kept_and_both_logged(site: Site) -> None:
    await post(site.database, recipients=1)
    answers = await asyncio.gather(
        *(ask(site, "PATCH", f"/{ME}", {"per_day": 100 + number}) for number in range(4)),
        *(ask(site, "PATCH", f"/{ME}", {"per_minute": 10 + number}) for number in range(4)),
    )
    assert {status for status, _ in answers} == {200}
    ((per_day, per_minute),) = await site.rows("SELECT per_day, per_minute FROM senders")
    assert (100 <= per_day < 104, 10 <= per_minute < 14) == (True, True)
    assert len(site.heard.of("sender_action")) == 8
    assert await site.rows("SELECT COUNT(*) FROM job_actions WHERE action = 'limits'") == [(8,)]


async def test_limits_need_a_permission_that_a_limited_key_has_only_by_name(site: Site) -> None:
    await post(site.database, recipients=1)
    rights = [
        ((), None, 200), ((), [Permission.CONTROL], 403), ((ME,), None, 403), ((ME,), [Permission.SENDERS], 200),
        ((), [Permission.SENDERS], 200),
    ]  # fmt: skip
    for number, (names, may, expected) in enumerate(rights):
        headers = await key_of(site, f"key {number}", *names, may=may)
        assert (await ask(site, "PATCH", f"/{ME}", {"per_day": 7}, headers))[0] == expected, (names, may)
    for may, expected in (([Permission.READ], 403), ([Permission.SENDERS], 403), ([Permission.CONTROL], 200)):
        headers = await key_of(site, f"of {may}", may=may)
        assert (await ask(site, "POST", f"/{ME}/pause", {"reason": "x"}, headers))[0] == expected
        assert (await ask(site, "POST", f"/{ME}/resume", {}, headers))[0] == expected


async def test_a_revoked_key_sees_and_changes_nothing(site: Site) -> None:
    await post(site.database, recipients=1)
    headers = await key_of(site, "gone")
    await site.keys.revoke("gone")
    for method, path, body in (
        ("GET", "", None), ("GET", f"/{ME}", None), ("PATCH", f"/{ME}", {"per_day": 1}),
        ("POST", f"/{ME}/pause", {"reason": "x"}), ("POST", f"/{ME}/resume", None),
    ):  # fmt: skip
        assert (await ask(site, method, path, body, headers))[0] == 401
    assert (await site.get("/api/key", headers=headers))[0] == 401
    assert await site.rows("SELECT per_day, paused_until FROM senders") == [(None, None)]


@pytest.mark.parametrize(
    "email", ["me", "me@", "@example.com", "me%40", "a%20b@example.com", "x" * 330 + "@example.com"]
)
async def test_what_is_no_address_is_named(site: Site, email: str) -> None:
    status, answer = await ask(site, "GET", f"/{email}")
    assert (status, fields(answer)) == (422, ["email"])


async def test_a_frozen_database_is_a_503_and_nothing_is_changed(build: Build, gmail: Gmail, mariadb: Server) -> None:
    site = await build(patience=1.0, senders=SenderResolver(gmail, {}))
    await post(site.database, recipients=1)
    assert (await ask(site, "GET", f"/{ME}"))[0] == 200
    mariadb.freeze()
    try:
        for method, path, body in (
            ("PATCH", f"/{ME}", {"per_day": 1}), ("POST", f"/{ME}/pause", {"reason": "x"}), ("GET", f"/{ME}", None),
            ("GET", "", None),
        ):  # fmt: skip
            status, answer = await ask(site, method, path, body)
            assert (status, answer["error"]["code"]) == (503, "database_away")
    finally:
        mariadb.thaw()
    assert await site.rows("SELECT per_day, paused_until FROM senders") == [(None, None)]


async def test_a_row_that_another_transaction_holds_is_a_503_in_time(
    build: Build, gmail: Gmail, database_url: str
) -> None:
    site = await build(patience=1.0, senders=SenderResolver(gmail, {}))
    await post(site.database, recipients=1)
    async with holding(database_url, "SELECT email FROM senders FOR UPDATE"):
        for method, way, body in (("PATCH", "", {"per_day": 1}), ("POST", "/pause", {"reason": "x"})):
            started = own_time()
            status, _ = await ask(site, method, f"/{ME}{way}", body)
            assert status == 503
            assert own_time() - started < 10, "another statement may take 20 s"
        assert (await ask(site, "GET", f"/{ME}"))[0] == 200, "who only looks does not wait"
    assert await site.rows("SELECT per_day, paused_until FROM senders") == [(None, None)]


async def test_a_key_is_told_what_it_may_do_without_any_right(site: Site) -> None:
    status, shown = await site.get("/api/key")
    everything = sorted(Permission)
    assert (status, shown) == (
        200, {"name": "test", "senders": None, "permissions": everything, "per_minute": None},
    )  # fmt: skip
    for may, has in (([Permission.SEND], ["send"]), (None, ["control", "read", "send"])):
        headers = {
            "X-API-Key": await site.keys.create(f"of {may}", senders=[ME, OTHER], permissions=may or None, per_minute=9)
        }
        _, shown = await site.get("/api/key", headers=headers)
        models.KeyOut.model_validate(shown, strict=False)
        assert (shown["senders"], shown["permissions"], shown["per_minute"]) == ([ME, OTHER], has, 9)
    assert (await site.get("/api/key?x=1"))[0] == 422
    assert (await site.get("/api/key", headers={"X-API-Key": "x"}))[0] == 401
