"""/docs: the documents as a site: every page, its links, its language, its search, and what it refuses."""

import gzip
import re
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from markdown_it import MarkdownIt

from mailerd.cli.manual import markdown
from mailerd.core.i18n import Language
from mailerd.intake.docs import api_pages, library
from mailerd.intake.docs.library import Library
from mailerd.intake.docs.markdown import rendered
from mailerd.intake.docs.site import _frame, _results
from mailerd.intake.openapi import document
from mailerd.locale import speak
from tests.house.source import ROOT
from tests.intake.site import Build, Site

ENGLISH = {"Accept-Language": "en"}
CHINESE = {"Accept-Language": "zh"}


@pytest.fixture
async def site(build: Build) -> Site:
    return await build(commands=markdown)


async def got(site: Site, path: str, **headers: str) -> tuple[int, str]:
    async with site.client.get(site.url + path, headers=ENGLISH | {"X-API-Key": ""} | headers) as response:
        return response.status, await response.text()


async def test_every_page_opens_without_a_key_and_every_link_of_the_site_leads_somewhere(site: Site) -> None:
    for language in ("en", "zh"):
        wanted, pages = ["/docs"], dict[str, str]()
        links = set[tuple[str, str]]()
        while wanted:
            path = wanted.pop()
            async with site.client.get(site.url + path, headers={"Accept-Language": language}) as response:
                assert response.status == 200, path
                pages[path] = await response.text() if response.content_type == "text/html" else ""
            for target in re.findall(r'(?:href|src)="(/docs[^"]*|#[^"]*)"', pages[path]):
                whole, anchor = urldefrag(target)
                page = urlsplit(whole).path or path
                links.add((page, unquote(anchor) if "lang=" not in target else ""))
                if page not in pages and page not in wanted and page != "/docs/search":
                    wanted.append(page)
        wrong = [link for link in links if link[1] and f'id="{link[1]}"' not in pages[link[0]]]
        assert wrong == []
        written = {f"/docs/{p.relative_to(ROOT / 'docs').with_suffix('')}" for p in (ROOT / "docs").rglob("*.md")}
        assert {each for each in written if ".zh-CN" not in each} - {"/docs/index"} <= pages.keys()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_page_weighs_at_most_20_kb(language: Language) -> None:
    speak(language)
    try:
        made = Library(language, markdown, api_pages.pages(document()))
        weights = {name: len(gzip.compress(_frame(made, it.page, it).encode())) for name, it in made.entries.items()}
    finally:
        speak("en")
    assert {name: it for name, it in weights.items() if it > 20_000} == {}


async def test_pages_that_are_made_of_the_code_are_there(site: Site) -> None:
    for path, holds in {
        "/docs/reference/events": "sender_paused",
        "/docs/reference/configuration": "runner.concurrency",
        "/docs/reference/commands": "mailerd keys create",
    }.items():
        status, page = await got(site, path)
        assert (status, holds in page) == (200, True), path


async def test_a_reader_gets_the_page_in_his_language_and_in_english_where_there_is_no_other(site: Site) -> None:
    _, chinese = await got(site, "/docs/how-to/backup", **CHINESE)
    assert "<h1" in chinese
    assert "备份" in chinese
    assert 'class="note"' not in chinese
    async with site.client.get(site.url + "/docs/internals/release", headers=CHINESE) as response:
        page = await response.text()
        assert response.headers["Content-Language"] == "en"
    assert "此页只有英文版" in page
    assert '<main id="content" lang="en">' in page
    assert '<html lang="zh-CN">' in page


async def test_the_choice_of_a_language_holds_for_the_next_page(site: Site) -> None:
    _, page = await got(site, "/docs/how-to/backup?lang=zh")
    assert '<html lang="zh-CN">' in page
    _, page = await got(site, "/docs/how-to/backup", Cookie="mailerd-lang=zh")
    assert '<html lang="zh-CN">' in page


async def test_a_page_is_asked_for_anew_each_time_since_it_may_be_in_another_language_now(site: Site) -> None:
    for path, kept in (("/docs/how-to/backup", "no-cache"), ("/docs/how-to/backup?lang=zh", "no-store")):
        async with site.client.get(site.url + path, headers=ENGLISH) as response:
            assert response.headers["Cache-Control"] == kept
            assert response.headers["Vary"] == "Accept-Language, Cookie"
            assert ("mailerd-lang" in response.cookies) == ("lang" in path)


async def test_each_page_leads_to_itself_in_the_other_language(site: Site) -> None:
    names = [p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.zh-CN.md")]
    for path in (f"/docs/{name.removesuffix('.zh-CN.md')}" for name in names if not name.startswith("index")):
        for language, other in (("en", "zh"), ("zh", "en")):
            _, page = await got(site, path, Cookie=f"mailerd-lang={language}")
            (switch,) = re.findall(rf'href="(\?lang={other})"', page)
            async with site.client.get(site.url + path + switch, headers=ENGLISH) as response:
                assert (response.status, response.headers["Content-Language"]) == (200, other), path


@pytest.mark.parametrize(
    "query, page",
    [
        ("how to back up", "/docs/how-to/backup#back-up"),
        ("backup", "/docs/how-to/backup#back-up"),
        ("back up", "/docs/how-to/backup#back-up"),
        ("如何备份", "/docs/how-to/backup#%E5%A4%87%E4%BB%BD"),
        ("port already in use", "/docs/how-to/troubleshooting#the-port-is-taken"),
        ("new api key", "/docs/reference/commands#mailerd-keys-create"),
        ("token expired", "/docs/how-to/troubleshooting#an-authorization-was-revoked"),
        ("why is my job waiting", "/docs/how-to/faq#why-is-my-job-waiting"),
    ],
)
async def test_the_section_whose_heading_says_it_comes_first(site: Site, query: str, page: str) -> None:
    assert (await hits_of(site, query))[0].startswith(page)


def test_words_without_a_meaning_of_their_own_count_only_alone() -> None:
    known = Library("en", None, {})
    assert {term for hit in known.search("how to back up in a hurry") for term in hit.terms} == {"back", "up"}
    assert {hit.terms for hit in known.search("how")} == {("how",)}


async def test_whole_words_are_marked_and_no_stop_words(site: Site) -> None:
    for query, marked in (("a webhook", {"webhook", "webhooks"}), ("x key", {"x", "key", "keys"})):
        async with site.client.get(site.url + "/docs/search", params={"q": query}, headers=ENGLISH) as response:
            page = await response.text()
        assert {each.lower() for each in re.findall("<mark>([^<]*)</mark>", page)} <= marked
        assert re.findall(r"[a-z]<mark>\w+|<mark>\w+</mark>[a-z]\w*", page) == []


async def test_what_is_made_of_the_code_comes_after_the_guides(site: Site) -> None:
    hits = await hits_of(site, "token revoked")
    guides = [place for place, hit in enumerate(hits) if "/how-to/" in hit]
    tables = [place for place, hit in enumerate(hits) if "all-events" in hit]
    assert guides[0] < tables[0]


async def hits_of(site: Site, query: str) -> list[str]:
    headers = {"Accept-Language": "en" if query.isascii() else "zh"}
    async with site.client.get(site.url + "/docs/search", params={"q": query}, headers=headers) as response:
        return re.findall(r'<li><a href="([^"]+)">[^<]*</a><p>', await response.text())


@pytest.mark.parametrize(
    "query, page",
    [
        ("restore a backup", "/docs/how-to/backup"),
        ("退信", "/docs/how-to/bounces"),
        ("runner.concurrency", "/docs/reference/configuration"),
        ("createJob", "/docs/api/jobs#createJob"),
        ("share_used_up", "/docs/api#errors"),
        ("mailerd keys create", "/docs/reference/commands#mailerd-keys-create"),
    ],
)
async def test_the_search_finds_titles_headings_text_and_what_is_made_of_the_code(
    site: Site, query: str, page: str
) -> None:
    hits = await hits_of(site, query)
    assert any(hit.startswith(page) for hit in hits[:5]), hits


async def test_a_search_for_anything_is_bounded_and_repeats_nothing_as_html(site: Site) -> None:
    for query in ("", "<script>alert(1)</script>", "x" * 5_000, "a b " * 500, "的" * 300, "()[]*\\", "%00\ud7ff"):
        async with site.client.get(site.url + "/docs/search", params={"q": query}, headers=ENGLISH) as response:
            page = await response.text()
            assert response.status == 200
        assert "<script>alert" not in page
        assert page.count("<li><a href=") < 100
        assert "x" * 101 not in page


@pytest.mark.parametrize("query", [
    "mail send messag its that one from this sender jobs error", "e a i o n t r s l d c u", "test_ test_a mail maile",
    "的 件 邮 发 一 中的 是", "重复发送" * 25,
])  # fmt: skip
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_search_for_whatever_stands_in_most_sections_is_little_work(language: Language, query: str) -> None:
    known = Library(language, markdown, api_pages.pages(document()))
    assert steps_of(lambda: _results(known.search(query))) < 13_000


def steps_of(work: Callable[[], object]) -> int:
    """The lines of Python that this runs, each turn of a loop for itself."""
    steps, monitor = 0, sys.monitoring

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    tool = next(number for number in range(6) if monitor.get_tool(number) is None)
    monitor.use_tool_id(tool, "steps")
    try:
        monitor.register_callback(tool, monitor.events.LINE, count)
        monitor.register_callback(tool, monitor.events.JUMP, count)
        monitor.set_events(tool, monitor.events.LINE | monitor.events.JUMP)
        work()
    finally:
        monitor.set_events(tool, 0)
        monitor.free_tool_id(tool)
    return steps


@pytest.mark.parametrize("path", ["/docs/", "/docs/how-to/send/"])
async def test_a_slash_at_the_end_of_an_address_leads_to_the_page(site: Site, path: str) -> None:
    assert await got(site, path) == await got(site, path.rstrip("/"))


@pytest.mark.parametrize(
    "path", ["/docs/none", "/docs/../pyproject.toml", "/docs/%2e%2e/README.md", "/docs/how-to/x.md"]
)
async def test_a_page_that_does_not_exist_is_a_404_that_looks_like_the_others(site: Site, path: str) -> None:
    async with site.client.get(f"{site.url}{path}", headers=ENGLISH) as response:
        page = await response.text()
        assert response.status == 404
        if response.url.path.startswith("/docs/"):
            assert "Page not found" in page
            assert "script-src 'self'" in response.headers["Content-Security-Policy"]


async def test_pictures_and_examples_are_served_and_nothing_is_served_as_html(site: Site) -> None:
    for address in library.files():
        async with site.client.get(site.url + address) as response:
            assert response.status == 200
            assert response.content_type in {"text/plain", "image/png", "image/svg+xml"}
            assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_html_in_a_page_is_text_and_a_comment_is_nothing() -> None:
    page = rendered("# A\n\n<!-- en 3f9a2c -->\n<b>x</b> <img src=x onerror=y>\n\n[j](javascript:x)\n", lambda it: it)
    assert "<b>" not in page.html
    assert "<img" not in page.html
    assert "3f9a2c" not in page.html
    assert 'href="javascript' not in page.html


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_no_page_has_html_which_would_be_shown_as_text(page: Path) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))
    found = [each for token in tokens for each in (token, *(token.children or ())) if each.type.startswith("html_")]
    assert [each.content for each in found if not each.content.lstrip().startswith("<!--")] == []


def test_a_link_that_leads_out_of_the_documents_is_text() -> None:
    assert rendered("[a](../x.md) [b](#c)", lambda it: it if it[0] == "#" else None).html == (
        '<p><span>a</span> <a href="#c">b</a></p>\n'
    )


def test_the_colours_are_the_consoles() -> None:
    def colours(path: str) -> list[tuple[str, str]]:
        text = (ROOT / "mailerd" / path).read_text("utf-8")
        values = re.findall(r"(--[\w-]+): ([^;]+)", text)  # light-dark() has two
        return [(name, colour) for name, value in values for colour in re.findall(r"#\w+", value)]

    assert set(colours("intake/docs/site.css")) <= set(colours("web/static/console.css"))


def test_the_left_column_has_the_order_of_the_index() -> None:
    known = [name for name in Library("en", None, {}).entries if name.startswith("how-to/")]
    index = re.findall(r"\]\((how-to/[\w-]+)\.md\)", (ROOT / "docs/index.md").read_text("utf-8"))
    assert known == list(dict.fromkeys(index))
