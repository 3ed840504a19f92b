"""The body of a new message is a draft that somebody wrote in Gmail: copied whole, bounded, and never changed there."""

import asyncio
import base64
import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import aiohttp
import pytest

from mailerd.app import Daemon
from mailerd.events.worker import RendererEvents
from mailerd.mail.copied_draft import CopiedDraft, DraftCopier, DraftNotCopiedError, DraftPicture
from mailerd.mail.copied_draft_child import copy_draft, whole_braces
from mailerd.sandbox.google import COMPOSE, METADATA, SEND, FakeGoogle, FakeLimits, Fault, serve
from mailerd.store.write.api_keys import ApiKeys, Permission
from tests.support.daemon import running, settings, sign_in
from tests.support.heard import Heard
from tests.support.rows import post, query
from tests.web.conftest import SAME
from tests.web.test_message_step import upload
from tests.web.test_new_message import ask, begun, seen

ME, DESK, NEWS = "me@example.com", "desk@example.com", "news@example.com"
TABLE = "email,first_name\nada@example.com,Ada\nlibai@example.org,李白\n"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
HTML = (
    '<div dir="ltr">Dear {{&nbsp;first_name|default(&quot;friend&quot;) }},<br>R&amp;D &quot;says&quot; hello'
    '<img src="cid:ii_m4x1" alt="chart.png" width="200"></div>'
)
OPEN = FakeLimits(units_per_minute=0, project_units_per_minute=0, per_day=0)


@dataclass
class Site:
    """A daemon that sends, its console, and Google."""

    url: str
    daemon: Daemon
    google: FakeGoogle
    at: str
    keys: ApiKeys
    heard: Heard
    sessions: list[aiohttp.ClientSession] = field(default_factory=list)

    def session(self, url: str, **headers: str) -> aiohttp.ClientSession:
        jar = aiohttp.CookieJar(unsafe=True)
        made = aiohttp.ClientSession(url, cookie_jar=jar, headers=headers, timeout=aiohttp.ClientTimeout(total=120))
        self.sessions.append(made)
        return made

    async def signed_in(self, name: str = "shop", **limits: Any) -> aiohttp.ClientSession:
        browser = self.session(self.url, **SAME)
        async with browser.post("/login", data={"key": await self.keys.create(name, **limits)}) as answer:
            assert answer.url.path == "/"
        return browser

    async def write(self, raw: bytes, *, mailbox: str = ME) -> str:
        """Put a draft into a mailbox as a mail program does; its id."""
        credential = self.google.accounts.of(mailbox)[0]
        token = self.google.accounts.grant(
            mailbox, credential=credential, scopes=frozenset({COMPOSE}), expires_at=self.google.now() + 3600
        )
        body = b'{"message": {"raw": "%b"}}' % base64.urlsafe_b64encode(raw)
        client = self.session(self.at, Authorization=f"Bearer {token}", **{"Content-Type": "application/json"})
        async with client.post("/gmail/v1/users/me/drafts", data=io.BytesIO(body)) as answer:
            assert answer.status == 200, await answer.text()
            return str((await answer.json())["id"])

    async def stored(self) -> int:
        """How many drafts of mailerd have a copy."""
        ((number,),) = await query(self.daemon.database, "SELECT COUNT(*) FROM job_drafts WHERE part = 3")
        return int(number)

    def units(self) -> int:
        """What Google has charged."""
        return sum(it.units for it in self.google.log)


@asynccontextmanager
async def site_of(database_url: str, tmp_path: Path, **sections: dict[str, Any]) -> AsyncIterator[Site]:
    google, heard = FakeGoogle(OPEN), Heard()
    async with serve(google) as served:
        for mailbox in (ME, DESK):
            sign_in(google, tmp_path / "credentials", mailbox)
        known = settings(
            database_url, served, tmp_path / "credentials", **{"gmail": {"aliases": {NEWS: DESK}}, **sections}
        )
        async with running(known, heard) as daemon:
            ((url),) = [it["where"] for it in heard.of("intake_listening")]
            site = Site(url, daemon, google, served.url, ApiKeys(daemon.database, timeout=5), heard)
            yield site
            for each in site.sessions:
                await each.close()


@pytest.fixture(autouse=True)
def _no_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads drafts, too, and would take a fault that is meant for the console."""
    monkeypatch.setattr("mailerd.worker.recovery._FIRST_SWEEP_AFTER", float("inf"))


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with site_of(database_url, tmp_path) as it:
        yield it


def mail(subject: str = "Hello {{ first_name }}", html: str = HTML, **headers: str) -> bytes:
    """What Gmail's editor makes: text and HTML, a picture within, and a file beside it."""
    made = EmailMessage()
    made["Subject"] = subject
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    made.set_content("as text")
    made.add_alternative(html, subtype="html")
    (*_, page) = made.iter_parts()
    assert isinstance(page, EmailMessage)
    page.add_related(PNG, "image", "png", cid="<ii_m4x1>", filename="chart.png")
    made.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="prices.pdf")
    return bytes(made)


async def on_message(browser: aiohttp.ClientSession, **message: str) -> str:
    """A new draft in step 2."""
    draft = await begun(browser, TABLE)
    await ask(browser, f"{draft}/message", action="save", kind="gmail", sender=ME, **message)
    return draft


async def test_a_draft_of_gmail_is_shown_copied_sent_to_each_with_its_picture_and_left_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailerd.web.send.send_review_page.UNDO", timedelta(0))
    own = await site.write(mail("Of a job", X_Mailerd_Key=f"{'0' * 26}-0"))
    written = await site.write(mail())
    before = site.google.drafts(ME)
    browser = await site.signed_in()
    draft = await on_message(browser)
    known, services = await site.write(mail("Known by its row")), site.daemon.console.services
    services.personal_drafts = replace(services.personal_drafts, own=AsyncMock(return_value={known}))
    _, text = await ask(browser, f"{draft}/message", action="drafts")
    site.google.mailbox(ME).delete_draft(known)
    assert known not in text
    assert ("Hello {{ first_name }}" in text, f'value="{written}"' in text) == (True, True)
    assert "Of a job" not in text
    assert own not in text
    assert {it.draft_id for it in site.google.log if it.method == "drafts.get"} == {written, own}
    path, text = await ask(browser, f"{draft}/message", copy=written)
    assert path == f"{draft}/message"
    assert "Left out: prices.pdf." in text
    assert "<strong>Hello Ada</strong>" in text
    async with browser.get(f"{draft}/html?person=2") as answer:
        frame = await answer.text()
    assert "Dear 李白" in frame
    assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}" in frame
    _, text = await ask(browser, f"{draft}/message", action="test", test_to=ME, shown="2")
    assert "Test message accepted" in text
    await upload(browser, draft, ("plan.txt", b"By bus"), kind="gmail", sender=ME)
    _, text = await ask(browser, f"{draft}/message", action="next")
    path, _ = await ask(browser, f"{draft}/review", action="send", seen=seen(text), when="now", zone="UTC", at="")
    assert path.startswith("/jobs/")
    await site.heard.wait_for("job_finished", times=2)
    sent = {it.to: message_from_bytes(it.raw, policy=default) for it in site.google.sent}
    assert {to: str(it["Subject"]) for to, it in sent.items()} == {
        ME: "[Test] Hello 李白", "ada@example.com": "Hello Ada", "libai@example.org": "Hello 李白",
    }  # fmt: skip
    (picture,) = [it for it in sent["ada@example.com"].walk() if it.get_content_maintype() == "image"]
    html = next(it for it in sent["ada@example.com"].walk() if it.get_content_subtype() == "html").get_content()
    assert picture.get_content() == PNG
    assert [it.get_content() for it in sent["ada@example.com"].walk() if it.get_filename() == "plan.txt"] == ["By bus"]
    assert f'src="cid:{str(picture["Content-ID"]).strip("<>")}"' in html
    assert "Dear Ada,<br>R&amp;D &quot;says&quot; hello" in html
    assert site.google.drafts(ME) == before


async def test_a_draft_of_mailerds_own_is_not_copied_whoever_asks_for_its_id(site: Site) -> None:
    own = await site.write(mail(X_Mailerd_Key=f"{'0' * 26}-0"))
    browser = await site.signed_in()
    draft = await on_message(browser)
    _, text = await ask(browser, f"{draft}/message", 422, copy=own)
    assert "Nothing was copied: the draft no longer exists." in text
    await ask(browser, f"{draft}/message", 404, copy="../messages/x")
    assert await site.stored() == 0


async def test_only_who_may_send_from_the_mailbox_itself_sees_its_drafts(site: Site) -> None:
    written = await site.write(mail("Secret plan"), mailbox=DESK)
    boss = await site.signed_in("boss")
    draft = await on_message(boss)
    for sender, name in ((DESK, "desk"), (NEWS, "news")):  # one may send from another mailbox, one from its alias alone
        other = await site.signed_in(name, senders=[ME] if sender == DESK else [NEWS, ME])
        own = await on_message(other)
        for asked in ({"action": "drafts"}, {"copy": written}):
            _, text = await ask(other, f"{own}/message", 422, sender=sender, **asked)
            assert f"Key {name} may not read the drafts of {sender}." in text
            assert "Secret plan" not in text
        await ask(other, f"{draft}/message", 404, action="drafts")
    reader = await site.signed_in("reader", permissions=[Permission.READ])
    await ask(reader, f"{draft}/message", 403, action="drafts")
    assert not [it for it in site.google.log if it.method == "drafts.list"]
    _, text = await ask(boss, f"{draft}/message", action="drafts", sender=NEWS)
    assert "Secret plan" in text


@pytest.mark.parametrize(
    "fault, words",
    [
        (Fault(kind="status", method="drafts.get", status=401, count=9), "Google rejected a new access token"),
        (Fault(kind="status", method="drafts.get", status=403), "Google rejects this mailbox"),
        (Fault(kind="status", method="drafts.get", status=429), "throttled by Google"),
        (Fault(kind="status", method="drafts.get", status=503), "Google responded 503"),
        (Fault(kind="garbage", method="drafts.get"), "larger than 9 MB, or Google&#39;s response is incomplete"),
        (Fault(kind="hang_before", method="drafts.get"), "Google did not respond within 0.5 s."),
    ],
    ids=["401", "403", "429", "503", "garbage", "hangs"],
)
async def test_what_google_refuses_is_said_and_what_was_copied_before_stays(
    site: Site, monkeypatch: pytest.MonkeyPatch, fault: Fault, words: str
) -> None:
    written = await site.write(mail())
    browser = await site.signed_in()
    draft = await on_message(browser)
    await ask(browser, f"{draft}/message", copy=written)
    before = await query(site.daemon.database, "SELECT message, content FROM job_drafts ORDER BY part, seq")
    site.google.fault(fault)
    if fault.kind == "hang_before":
        monkeypatch.setattr("mailerd.web.send.gmail_draft.GOOGLE_TIMEOUT", 0.5)
    _, text = await ask(browser, f"{draft}/message", 422, copy=written)
    assert words in text
    assert "Nothing was copied" not in text, "what it says is a sentence of its own"
    assert not re.search(r"\w\.\.", text)
    assert await query(site.daemon.database, "SELECT message, content FROM job_drafts ORDER BY part, seq") == before


@pytest.mark.parametrize("scopes", [(COMPOSE, METADATA), (SEND,), None], ids=["metadata", "send", "no credentials"])
async def test_a_mailbox_whose_drafts_cannot_be_read_says_so_in_one_line(
    site: Site, tmp_path: Path, scopes: tuple[str, ...] | None
) -> None:
    sender = "new@example.com"
    if scopes:
        sign_in(site.google, tmp_path / "credentials", sender, scopes)
    browser = await site.signed_in()
    draft = await on_message(browser)
    _, text = await ask(browser, f"{draft}/message", 422, action="drafts", sender=sender)
    assert f"Drafts of {sender} cannot be read: " in text
    assert ("its authorization does not allow it" if scopes else "no usable credentials") in text
    assert not [it for it in site.google.log if it.method == "drafts.list"]


@pytest.mark.parametrize("per_minute", [6_000, 60])
async def test_a_list_costs_205_units_of_the_sender_and_waits_for_none_that_are_used_up(
    database_url: str, tmp_path: Path, per_minute: int
) -> None:
    async with site_of(database_url, tmp_path, pace={"units_per_minute": per_minute, "per_day": 0}) as site:
        for number in range(12):
            await site.write(mail(f"Number {number}"))
        await post(site.daemon.database, recipients=1)  # of a mailbox that has never sent nothing is counted
        await site.heard.wait_for("job_finished")
        browser = await site.signed_in()
        draft = await on_message(browser)
        before, is_enough = site.units(), per_minute > 205
        _, text = await ask(browser, f"{draft}/message", 200 if is_enough else 422, action="drafts")
        shown = [f"Number {number}<" in text for number in range(12)]
        if is_enough:
            assert shown == [False] * 2 + [True] * 10
            assert site.units() - before in {205, 206}  # with the question whose mailbox it is
        else:
            assert "no quota units left" in text
            assert site.units() - before < 205


async def test_what_is_copied_again_after_the_review_is_not_sent_unseen(site: Site) -> None:
    written = await site.write(mail())
    browser = await site.signed_in()
    draft = await on_message(browser)
    await ask(browser, f"{draft}/message", copy=written)
    _, text = await ask(browser, f"{draft}/message", action="next")
    other = await site.write(mail(html="<p>Another text, {{ first_name }}</p>"))
    await ask(browser, f"{draft}/message", copy=other)  # in another tab
    _, text = await ask(browser, f"{draft}/review", 409, action="send", seen=seen(text), when="now", zone="UTC", at="")
    assert "This has changed since the page was loaded." in text
    assert await query(site.daemon.database, "SELECT id FROM jobs") == []


async def test_plain_text_stays_plain_text(site: Site) -> None:
    made = EmailMessage()
    made["Subject"] = "为 {{ first_name }}"
    made.set_content("Dear {{ first_name }},\nit is 1 < 2.\n")
    written = await site.write(bytes(made))
    browser = await site.signed_in()
    draft = await on_message(browser)
    _, text = await ask(browser, f"{draft}/message", copy=written)
    assert "<strong>为 Ada</strong>" in text
    async with browser.get(f"{draft}/html?person=1") as answer:
        assert "Dear Ada,\nit is 1 &lt; 2." in await answer.text()


def test_what_an_editor_puts_into_braces_is_text_again_and_formatting_in_them_is_named() -> None:
    source = "<p>R&amp;D {{ a|default(&quot;x&quot;)&nbsp;}} {% if a &lt; 2 %}&lt;b&gt;{% endif %} {{&nbsp;b }}</p>"
    assert whole_braces(source) == '<p>R&amp;D {{ a|default("x") }} {% if a < 2 %}&lt;b&gt;{% endif %} {{ b }}</p>'
    for broken in ("{{ first<b>_name</b> }}", "{<i>{ first_name }}</i>", "{{ first_name }<br>}", "{{<wbr>first_name}}"):
        with pytest.raises(DraftNotCopiedError, match=r"first_?name.* has formatting inside its braces"):
            whole_braces(f"<p>{broken} and {{{{ other }}}}</p>")
    assert whole_braces("{{ open <b>it</b>") == "{{ open <b>it</b>"


def _part(body: str, kind: str = "text/html", more: str = "") -> str:
    return f"Subject: s\r\nContent-Type: {kind}{more}\r\n\r\n{body}"


def _nested(depth: int) -> str:
    return "Subject: s\r\n" + "".join(
        f'Content-Type: multipart/mixed; boundary="b{n}"\r\n\r\n--b{n}\r\n' for n in range(depth)
    )


@pytest.mark.parametrize(
    "raw, words",
    [
        (_part("--b\r\n\r\nx\r\n" * 10_000, "multipart/mixed", "; boundary=b"), "more than 500 parts"),
        (_nested(5_000), ""),
        (_part("x" * 5_000_000), "more than 1,000,000 characters"),
        (_part("<p>Hi</p><SCRIPT src=x></script>"), "has a script"),
        (_part("{{" * 400_000 + "<"), ""),
        (_part("{<b>" * 200_000), "formatting inside its braces"),
        (_part("<img src='cid:" * 60_000), ""),
        (_part("Hi", "text/plain", "; charset=punycode"), ""),
        (_part("Hi", "text/html", "\r\nContent-Transfer-Encoding: base64"), "is empty"),
        ("Content-Type: text/plain\r\n\r\nHi", "has no subject"),
        (f"Subject: {'=?utf-8?q?a?=' * 100_000}\r\n\r\nHi", ""),
        ("", "has no subject"),
    ],
    ids=[
        "parts", "nesting", "html", "script", "braces", "cut braces", "cids", "charset", "base64", "subject",
        "long subject", "nothing",
    ],
)  # fmt: skip
async def test_hostile_drafts_end_in_words_or_within_the_bounds(raw: str, words: str) -> None:
    heard = Heard()
    copying = DraftCopier(RendererEvents(heard)).copy(raw.encode(), origin="key shop")
    if not words:
        assert len((await copying).subject) <= 2_000
        return
    with pytest.raises(DraftNotCopiedError, match=words):
        await copying
    assert "renderer_ended" not in heard.names()


async def test_a_draft_of_30_mb_is_refused_before_it_is_parsed_and_others_are_copied_meanwhile(site: Site) -> None:
    large = await site.write(mail(html="<p>" + "x" * 22_000_000))
    small = await site.write(mail())
    first, second = await site.signed_in("first"), await site.signed_in("second")
    ones = [await on_message(each) for each in (first, second)]
    (_, refused), (_, copied) = await asyncio.gather(
        ask(first, f"{ones[0]}/message", 422, copy=large), ask(second, f"{ones[1]}/message", copy=small)
    )
    assert "larger than 9 MB" in refused
    assert "Hello Ada" in copied
    assert await site.stored() == 1


def test_a_picture_is_shown_for_its_own_name_alone() -> None:
    copied = copy_draft(mail(html='<img src="cid:picture-1.png"><img src="cid:ii_m4x1">'))
    (name,) = (each.filename for each in copied.pictures)
    assert name not in {"picture-1.png", "ii_m4x1"}
    assert (copied.html or "").strip() == f'<img src="cid:picture-1.png"><img src="cid:{name}">'


def test_a_copy_is_what_its_row_says() -> None:
    pictures = (DraftPicture("a", "image/png", b"\n\0"), DraftPicture("b", "image/gif", b""))
    for html, text in (("<p>\n\u674e", None), (None, "a\nb"), ("", "\ud800")):
        made = CopiedDraft("s", html, text, pictures, ("b",))
        assert CopiedDraft.unpack(made.pack()) == made


async def test_a_copy_that_an_earlier_version_has_stored_is_to_be_made_again(site: Site) -> None:
    browser = await site.signed_in()
    draft = await on_message(browser)
    await ask(browser, f"{draft}/message", action="save", copy=await site.write(mail()))
    await query(site.daemon.database, "UPDATE job_drafts SET content = %s WHERE part = 3", b'{"subject": "s"}')
    for step in ("message", "review"):
        async with browser.get(f"{draft}/{step}") as answer:
            assert "Copy the draft again." in await answer.text()
            assert answer.status == 200
