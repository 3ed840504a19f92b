"""What stands around every page: the navigation, the search, the pages of errors, the way back after a sign-in."""

import gzip
import re
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest

from mailerd.web.frame.guards import COOKIE
from mailerd.web.look import settings_page
from tests.support.rows import post, query
from tests.web.conftest import SAME, ConsoleSite

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
STATIC = Path(__file__).parents[2] / "mailerd" / "web" / "static"


async def text_of(browser: aiohttp.ClientSession, path: str, status: int = 200, accept: str = HTML["Accept"]) -> str:
    async with browser.get(path, headers={"Accept": accept}) as answer:
        assert (path, answer.status) == (path, status)
        return await answer.text()


def links(html: str) -> list[str]:
    """Of the navigation."""
    return re.findall(r'href="([^"]+)"', html.partition('<nav class="main"')[2].partition("</nav>")[0])


async def test_the_navigation_has_seven_items_and_one_button_and_none_leads_to_a_refusal(site: ConsoleSite) -> None:
    await post(site.database)
    for name, permissions, sends in (("all", None, True), ("reader", ["read"], False)):
        browser = await site.signed_in(name, permissions=permissions)
        page = await text_of(browser, "/")
        found = links(page)
        assert found == ["/", "/jobs", "/inbox", "/people", "/templates", "/senders", "/settings"]
        assert ('class="button primary new"' in page) is sends
        settings = await text_of(browser, "/settings")
        found += re.findall(r'<li><a href="([^"]+)"', settings)
        assert ("/webhooks" in found) is sends
        for path in found:
            await text_of(browser, path)


async def test_the_counters_say_what_is_in_progress_and_what_needs_a_person_of_this_key(site: ConsoleSite) -> None:
    await post(site.database, recipients=3)
    browser, other = await site.signed_in(), await site.signed_in("other", senders=["other@example.com"])
    counter = '<span class="count" title="In progress">1</span>'
    site.daemon.service.stats.take(await site.daemon.service.stats.read())
    page = await text_of(browser, "/settings")
    assert counter in page
    assert "count bad" not in page
    await query(site.database, "UPDATE job_recipients SET status = 'unsure' WHERE seq < 2")
    site.daemon.service.stats.take(await site.daemon.service.stats.read())
    assert '<span class="count bad" title="Needs attention">2</span>' in await text_of(browser, "/settings")
    assert 'class="count' not in await text_of(other, "/settings")


async def test_the_search_finds_jobs_and_people_of_the_key_on_one_page(site: ConsoleSite) -> None:
    job = await post(site.database, recipients=2)
    await query(site.database, "UPDATE job_recipients SET to_name = 'Ada Lovelace' WHERE seq = 0")
    browser, other = await site.signed_in(), await site.signed_in("other", senders=["other@example.com"])
    for wanted in ("r0@exa", "Lovelace", "lovel"):
        page = await text_of(browser, f"/search?q={wanted}")
        assert "/people?email=r0%40example.org" in page
        assert "/people?email=r0%40example.org" not in await text_of(other, f"/search?q={wanted}")
    assert f'href="/jobs/{job}"' in await text_of(browser, f"/search?q={job.lower()}")
    assert f'href="/jobs/{job}"' not in await text_of(other, f"/search?q={job}")
    assert "needs 3 characters" in await text_of(browser, "/search?q=xy", 422)
    assert "No jobs found" in await text_of(browser, f"/search?q={quote('%_|')}")


async def test_a_page_that_does_not_exist_searches_the_id_for_people_and_is_json_for_programs(
    site: ConsoleSite,
) -> None:
    job, browser = await post(site.database), await site.signed_in()
    for path in (f"/nowhere/{job}", f"/messages/{job}"):
        page = await text_of(browser, path, 404)
        assert "Page not found" in page
        assert f'href="/jobs/{job}"' in page
        assert len(links(page)) == 7
    assert "Page not found" in await text_of(browser, "/senders/nobody@example.com", 404)
    key = {"X-API-Key": await site.keys.create("program")}
    for path, accept in (("/nowhere", "*/*"), ("/api/nowhere", HTML["Accept"]), ("/api/jobs/nowhere", HTML["Accept"])):
        async with site.visitor().get(path, headers=key | {"Accept": accept}) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (404, "not_found")
    async with site.visitor().get("/nowhere/1", headers=HTML, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/login?next=%2Fnowhere%2F1")


async def test_every_refusal_of_a_page_is_a_page_in_the_layout(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await site.signed_in(permissions=["read"])
    page = await text_of(browser, "/logout", 405)
    assert "Not possible here" in page
    assert "Not allowed" in await text_of(browser, "/send", 403)
    monkeypatch.setattr(settings_page, "platform", None)  # its page breaks
    page = await text_of(browser, "/settings", 500)
    request = site.heard.of("request_failed")[-1]["request"]
    assert "Internal error" in page
    assert f"Request ID: {request}" in page
    assert len(links(page)) == 7
    assert "NoneType" not in page
    assert page.count("<h1>") == 1
    monkeypatch.setattr("mailerd.web.frame.forms.MAX_FORM", 100)
    async with (await site.signed_in("whole")).post("/jobs", data={"x": "y" * 1000}, headers=HTML) as answer:
        text = await answer.text()
        assert (answer.status, answer.content_type, len(links(text))) == (413, "text/html", 7)
        assert "Too large" in text
    async with browser.get("/", headers=HTML | {"Host": "evil.example"}) as answer:
        assert (answer.status, answer.content_type) == (421, "text/html")
        assert "web.hosts" in await answer.text()
        assert "Content-Security-Policy" in answer.headers
    async with browser.post("/keys", data={}, headers=HTML | {"Sec-Fetch-Site": "cross-site"}) as answer:
        assert (answer.status, answer.content_type) == (403, "text/html")
        assert "Nothing was changed" in await answer.text()
    hasty = await site.signed_in("hasty", per_minute=6)
    seen = 0
    while seen != 429:
        async with hasty.get("/settings", headers=HTML) as answer:
            seen, text = answer.status, await answer.text()
    assert "Too many requests" in text
    assert "Retry-After" in answer.headers
    site.lose_database()
    page = await text_of(browser, "/jobs", 503)
    assert "Request ID: " in page
    site.find_database()


async def test_who_is_led_to_the_sign_in_comes_back_to_the_same_page_and_to_no_other_host(site: ConsoleSite) -> None:
    secret, browser = await site.keys.create("shop"), await site.signed_in("first")
    await query(site.database, "DELETE FROM sessions")
    browser.cookie_jar.clear()
    wanted = "/jobs?status=sending&sender=a%40b.example"
    async with browser.get(wanted) as answer:
        assert answer.url.path == "/login"
        assert "Your session has ended" in await answer.text()
        there = answer.url
    async with browser.post(there, data={"key": secret}) as answer:
        assert (answer.url.path, answer.url.query_string) == ("/jobs", "status=sending&sender=a@b.example")
    for evil in ("//evil.example", "/\\evil.example", "https://evil.example/", "/a\r\nX: y", "jobs", "/" + "a" * 2000):
        login = f"/login?next={quote(evil, safe='')}"
        async with site.visitor().post(login, data={"key": secret}, allow_redirects=False) as answer:
            assert (evil, answer.status, answer.headers["Location"]) == (evil, 303, "/")
    stranger = {COOKIE: "x" * 43}
    async with site.visitor().get("/jobs", cookies=stranger, headers={"HX-Request": "true"} | SAME) as answer:
        assert (answer.status, answer.headers["HX-Redirect"]) == (401, "/login?next=%2Fjobs")


async def test_the_theme_is_kept_and_the_language_leaves_the_page_as_it_is(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    assert "data-theme" not in await text_of(browser, "/jobs")
    page = await text_of(browser, "/jobs?status=queued&theme=dark")
    assert 'data-theme="dark"' in page
    assert 'href="/jobs?status=queued&amp;theme=dark&amp;lang=zh"' in page
    assert 'data-theme="dark"' in await text_of(browser, "/settings")
    await text_of(browser, "/settings?theme=auto")
    assert "data-theme" not in await text_of(browser, "/settings?theme=%22evil")


async def test_details_have_a_way_back_and_the_sandbox_says_that_it_is_one(site: ConsoleSite) -> None:
    job, browser = await post(site.database), await site.signed_in()
    for path, crumb in ((f"/jobs/{job}", "/jobs"), ("/keys", "/settings"), ("/senders/me@example.com", "/senders")):
        page = await text_of(browser, path)
        assert f'<nav class="crumbs" aria-label="Breadcrumb"><a href="{crumb}">' in page
    page = await text_of(browser, "/jobs")
    assert 'class="crumbs"' not in page
    assert 'class="sandbox"' not in page
    services, web = site.daemon.console.services, site.daemon.settings.web
    sandbox = web.model_copy(update={"outbox": "http://127.0.0.1:1/outbox"})
    services.settings = services.settings.model_copy(update={"web": sandbox})
    assert '<aside class="sandbox">Sandbox: no message leaves this machine.' in await text_of(browser, "/jobs")


async def test_the_first_load_is_light(site: ConsoleSite) -> None:
    await post(site.database, recipients=5)
    browser = await site.signed_in()
    page = len(gzip.compress((await text_of(browser, "/")).encode()))
    names = ("console.css", "console.js", "icon.svg", "vendor/htmx.min.js", "vendor/idiomorph-ext.min.js")
    assert page <= 14_000
    assert page + sum(len(gzip.compress((STATIC / name).read_bytes())) for name in names) <= 45_000
