"""Every page after a whole demonstration, and every link of it: none leads its reader to an error."""

import io
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import aiohttp
import pytest

from mailerd.sandbox.google import COMPOSE, READONLY, SEND, FakeGoogle, FakeLimits, Fault, serve
from mailerd.store.write.api_keys import ApiKeys
from mailerd.web.page_routes import PAGES
from tests.support.daemon import running, settings, sign_in
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.rows import query
from tests.web.conftest import EXAMPLES
from tests.web.test_gmail_draft_body import Site
from tests.web.test_new_message import TABLE, WRITTEN, ask, begun, reviewed
from tests.web.test_templates import sent

ME, YOU = "me@example.com", "you@example.com"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
LINKS = {"a": "href", "area": "href", "link": "href", "img": "src", "script": "src", "iframe": "src"}
LATER = f"{datetime.now(UTC) + timedelta(days=90):%Y-%m-%dT%H:%M:%SZ}"
SAME_EVERYWHERE = {"lang", "theme"}
"""What a link to the page itself in another language or colour has."""
VERSIONS = "SELECT version FROM template_versions WHERE name = 'order'"
MAX_COMBINED = 3
"""Of addresses that differ only in the values of several parameters, so many are followed."""


class Links(HTMLParser):
    """What a page leads to: its links, frames and pictures, and its forms of method GET with what they hold."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._form: str | None = None
        self._fields: list[tuple[str, str]] = []
        self._select = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if (to := given.get(LINKS.get(tag, ""))) is not None:
            self.found.append(to)
        if tag == "form" and given.get("method", "get") == "get":
            self._form, self._fields = given.get("action", ""), []
        if tag == "input" and (given.get("type") not in {"checkbox", "radio"} or "checked" in given):
            self._add(given.get("name"), given.get("value", ""))
        if tag == "select":
            self._select = given.get("name", "")
        if tag == "option" and self._select:
            self._choose(given.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""
        if tag == "form" and self._form is not None:
            self.found.append(f"{self._form}?{urlencode(self._fields)}")
            self._form = None

    def _add(self, name: str | None, value: str) -> None:
        if name and self._form is not None:
            self._fields.append((name, value))

    def _choose(self, value: str) -> None:
        """Each choice of a form is an address of its own."""
        if self._form is not None:
            self.found.append(f"{self._form}?{urlencode({self._select: value})}")


class Walk:
    """Somebody who opens every page and follows every link of it."""

    def __init__(self, browser: aiohttp.ClientSession, language: str) -> None:
        self._browser, self._language = browser, language
        self._seen = set[str]()
        self._combined = Counter[tuple[str, ...]]()
        self._open = list[tuple[str, str]]()
        self.broken = list[str]()

    @property
    def paths(self) -> set[str]:
        """Where it was."""
        return {each.partition("?")[0] for each in self._seen}

    @property
    def many(self) -> int:
        return len(self._seen)

    def add(self, to: str, on: str) -> None:
        """Have an address opened that the page `on` leads to, unless it was, or as many as are like it."""
        whole = urlsplit(urljoin(on, to))
        if whole.netloc or whole.scheme or to.startswith("data:"):
            return
        given = [pair for pair in parse_qsl(whole.query, keep_blank_values=True) if pair[0] not in SAME_EVERYWHERE]
        address = f"{whole.path}?{urlencode(given)}" if given else whole.path
        if address in self._seen:
            return
        names = tuple(name for name, _ in given)
        self._combined[whole.path, *names] += 1
        if len(names) > 1 and self._combined[whole.path, *names] > MAX_COMBINED:
            return
        self._seen.add(address)
        self._open.append((address, on))

    async def go(self) -> None:
        while self._open:
            address, on = self._open.pop()
            async with self._browser.get(
                address, headers=HTML | {"Accept-Language": self._language}, allow_redirects=False
            ) as answer:
                if answer.status >= 400 or answer.headers.get("Location", "").startswith("/login"):
                    self.broken.append(f"{answer.status} {address} on {on}")
                if "Location" in answer.headers:
                    self.add(answer.headers["Location"], address)
                is_page = answer.content_type == "text/html" and not address.startswith("/docs")
                for each in Links(await answer.text()).found if is_page and answer.status < 400 else ():
                    self.add(each, address)


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A daemon that sends and reads its mailboxes."""
    google, heard = FakeGoogle(FakeLimits(units_per_minute=0, project_units_per_minute=0, per_day=0)), Heard()
    async with serve(google) as served:
        sign_in(google, tmp_path / "credentials", ME, (COMPOSE, READONLY))
        sign_in(google, tmp_path / "credentials", YOU, (SEND,))
        known = settings(
            database_url, served, tmp_path / "credentials", inbox={"interval": 0.2, "limit_pause": 0.0},
            public={"base_url": "https://m.example.com"}, templates={"folder": str(EXAMPLES)},
        )  # fmt: skip
        async with running(known, heard) as daemon:
            ((url),) = [it["where"] for it in heard.of("intake_listening")]
            site = Site(url, daemon, google, served.url, ApiKeys(daemon.database, timeout=20), heard)
            yield site
            for each in site.sessions:
                await each.close()


class Demonstration:
    """What a user of some weeks has: a little of everything."""

    def __init__(self, site: Site) -> None:
        self.site = site

    async def make(self) -> None:
        key = await self.site.keys.create("program")
        async with self.site.session(self.site.url, **{"X-API-Key": key}) as api:
            self._api = api
            await self._templates()
            await self._jobs()
            await self._change()
        await self._results()

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = io.BytesIO(json.dumps(body).encode())  # a loop that holds it has no time for what is larger
        async with self._api.request(method, path, data=data, headers={"Content-Type": "application/json"}) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def _post(self, sender: str, people: str, **more: Any) -> str:
        recipients = [{"email": f"{name}@example.org", "name": name.title()} for name in people.split()]
        body = {"sender_email": sender, "recipients": recipients, **more}
        if "template_name" not in more:
            body["template"] = {"subject": "Hello {{ name }}", "html": "<p>Dear {{ name }}</p>"}
        return str((await self._ask("POST", "/api/jobs/send_template_emails", body))["job_id"])

    async def _templates(self) -> None:
        """One with a layout and a language, one with two versions, of which the newer is not published; and a draft."""
        await self._put("frame", is_layout=True, html="<div>{{ content }}</div>")
        await self._put(
            "letter", subject="For {{ name }}", html="<p>Dear {{ name }}</p>", layout="frame",
            languages={"zh": {"subject": "致 {{ name }}", "html": "<p>{{ name }}</p>"}},
        )  # fmt: skip
        browser = await self.site.signed_in("author")
        status, page, _ = await sent(browser)
        assert status == 200, page
        ((version,),) = await query(
            self.site.daemon.database, "SELECT version FROM template_versions WHERE name = 'order'"
        )
        await ask(browser, "/templates/order", action="publish", version=version, expect="")
        changed = {"comment": "second", "body": "# Again\n\n{{ order }}", "expect": version}
        status, page, _ = await sent(browser, "/templates/order/edit", **changed)
        assert status == 200, page
        status, page, _ = await sent(browser, name="unready")
        assert status == 200, page

    async def _put(self, name: str, **template: Any) -> None:
        """Store a template, and publish it."""
        version = (await self._ask("PUT", f"/api/templates/{name}", template))["version"]
        await self._ask("POST", f"/api/templates/{name}/publish", {"version": version, "expect": None})

    async def _jobs(self) -> None:
        """Sent, answered, bounced, failed, unconfirmed, cancelled, paused and scheduled."""
        await self._ask("POST", "/api/lists", {"name": "news"})
        self.site.google.fault(Fault(kind="status", method="drafts.create", status=400))
        await self._post(ME, "fay")
        await self.site.heard.wait_for("job_finished")
        self.site.google.fault(Fault(kind="reset_after", method="messages.send"))
        await self._post(ME, "ada bob cy dan eve", list="news", tags=["spring"], reference="order 17")
        await self._post(ME, "ada bob", template_name="welcome", variables={"product": "Tea", "name": "You"})
        await self._post(ME, "ada", template_name="order", variables={"order": 17})
        await self._post(ME, "ada", template_name="letter")
        await self._post(YOU, "ada zoe", template_name="welcome", variables={"product": "Tea"})
        later = await self._post(YOU, "ada yan", send_at=LATER)
        await self._post(ME, "xi", send_at=LATER, priority=3)
        await self._ask("POST", f"/api/jobs/{later}/pause", {})
        gone = await self._post(ME, "will", send_at=LATER)
        await self._ask("POST", f"/api/jobs/{gone}/cancel", {})
        await self._post(YOU, "ada vic", tags=["spring"])
        await eventually(self._is_done)

    async def _is_done(self) -> bool:
        """Whether nothing is on its way; what cannot be confirmed stays so."""
        rows = "SELECT DISTINCT status FROM job_recipients WHERE due_at < UTC_TIMESTAMP(6) + INTERVAL 1 DAY"
        return {"waiting", "sending"}.isdisjoint(it for (it,) in await query(self.site.daemon.database, rows))

    async def _change(self) -> None:
        """A sender that is paused, limits, suppressions by hand, an endpoint, and what others did."""
        await self._ask("PATCH", f"/api/senders/{ME}", {"per_day": 90})
        await self._ask("POST", f"/api/senders/{YOU}/pause", {"reason": "moving house"})
        hand = [{"email": "gone@example.org", "list": "news"}, {"email": "bob@example.org"}]
        await self._ask("POST", "/api/suppressions", {"suppressions": hand})
        hook = {"name": "till", "url": "https://till.example/hook", "senders": [ME]}
        await self._ask("POST", "/api/webhooks", hook)

    async def _results(self) -> None:
        """What comes back, and a message that nobody can confirm."""
        google, database = self.site.google, self.site.daemon.database
        for person, shape in (("ada", "reply"), ("bob", "hard"), ("cy", "soft"), ("dan", "auto_reply")):
            message = next(it for it in google.sent if it.to == f"{person}@example.org" and it.sender == ME)
            google.arrivals.add(message, shape, due=google.now())

        async def are_read() -> bool:
            google.arrivals.deliver(google.mailbox(ME), now=google.now())
            rows = await query(database, "SELECT COUNT(*) FROM job_recipients WHERE result IS NOT NULL")
            return rows == [(4,)]

        await eventually(are_read)
        stats = self.site.daemon.service.stats
        stats.take(await stats.read())


async def drafts_of(browser: aiohttp.ClientSession, sender: str) -> list[str]:
    """New messages of a key at each step, one of a table with a wrong row, and a form that its session outlived."""
    wrong = await begun(browser, f"{TABLE}nobody,No,Tea\n")
    ready = await begun(browser)
    await reviewed(browser, ready, **{**WRITTEN, "sender": sender})
    return [f"{wrong}/people", f"{ready}/message", f"{ready}/review", f"{ready}/review?lang=en"]


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_no_page_and_no_link_of_it_leads_its_reader_to_an_error(site: Site, language: str) -> None:
    await Demonstration(site).make()
    broken, followed, unseen = list[str](), set[str](), {path for path, show, _ in PAGES if show}
    for name, senders in (("all", ()), ("me", (ME,)), ("you", (YOU,))):
        browser = await site.signed_in(name, senders=senders or None)
        walk = Walk(browser, language)
        rows = await query(site.daemon.database, VERSIONS)
        diff = "/templates/order/diff?" + urlencode(dict(zip(("from", "to"), (it for (it,) in rows), strict=True)))
        for path in ("/", "/doubts", diff, *await drafts_of(browser, next(iter(senders), ME))):
            walk.add(path, "/")
        await walk.go()
        followed |= walk.paths
        broken += [f"{name}: {each}" for each in walk.broken]
        unseen = {path for path in unseen if not any(re.fullmatch(_pattern(path), each) for each in walk.paths)}
    assert broken == []
    assert followed >= {"/templates/frame", "/templates/letter", "/templates/order"}
    assert unseen == set()


def _pattern(path: str) -> str:
    """What the addresses of a page match."""
    return re.sub("{.+?}", "[^/]+", path)
