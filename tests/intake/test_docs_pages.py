"""/openapi.json and the reference of the API below /docs: made of the models, served from here alone."""

import asyncio
import os
import re
import shutil
import sys
from html import unescape
from typing import Any

import pytest

from mailerd.intake.docs import api_pages, library
from mailerd.intake.docs import site as docs_site
from mailerd.intake.docs.api_pages import GROUPS, curl, javascript, python
from mailerd.intake.openapi import document
from mailerd.intake.request_models import JobIn, RecipientIn
from mailerd.intake.routes import OPERATIONS
from tests.house.sentences import english_left, is_chinese
from tests.intake.site import Site
from tests.support.heard import PATIENCE


async def test_the_document_is_served_to_everybody_and_names_every_path(site: Site) -> None:
    status, served = await site.get("/openapi.json", headers={"X-API-Key": ""})

    assert status == 200
    assert served["openapi"] == "3.1.0"
    assert {(method.upper(), path) for path, it in served["paths"].items() for method in it} == {
        (it.method, it.path) for it in OPERATIONS
    }


def test_the_description_of_a_recipient_has_the_fields_that_are_read() -> None:
    schemas = document()["components"]["schemas"]

    assert set(schemas["RecipientIn"]["properties"]) == set(RecipientIn.model_fields)
    assert set(schemas["JobIn"]["properties"]) == set(JobIn.model_fields) - {"dry_run"}
    assert schemas["JobIn"]["additionalProperties"] is False


REFERENCE = ["/docs/api", *(f"/docs/api/{name}" for name in GROUPS)]
OWN = {"/docs/style.css", "/docs/script.js", "/docs/icon.svg"}


async def text_of(site: Site, path: str, language: str = "en") -> str:
    async with site.client.get(f"{site.url}{path}", headers={"Accept-Language": language}) as response:
        assert response.status == 200, path
        return await response.text()


async def reference(site: Site, language: str = "en") -> str:
    """The pages of the reference, one behind the other, without what is around each."""
    pages = [await text_of(site, path, language) for path in REFERENCE]
    return "".join(re.findall(r"<main.*?</main>", page, re.DOTALL)[0] for page in pages)


@pytest.mark.parametrize("path", REFERENCE)
async def test_a_page_of_the_reference_loads_nothing_from_anywhere_else(site: Site, path: str) -> None:
    async with site.client.get(site.url + path) as response:
        page, policy = await response.text(), response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; base-uri 'none'")
    assert "unsafe" not in policy
    assert {it for it in re.findall(r'src="([^"]+)"|<link[^>]* href="([^"]+)"', page) for it in it if it} == OWN
    assert "<script>" not in page
    assert "style=" not in page
    anchors = re.findall(r'id="([^"]+)"', page)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(anchors)


async def test_the_site_has_its_own_style_and_script(site: Site) -> None:
    for path, kind in (("style.css", "text/css"), ("script.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        async with site.client.get(f"{site.url}/docs/{path}") as response:
            assert (response.status, response.content_type) == (200, kind)


async def test_each_operation_has_its_place_by_its_id_on_one_page_of_the_reference(site: Site) -> None:
    whole = await reference(site)
    assert {tag for _, tags in GROUPS.values() for tag in tags} == {it["name"] for it in document()["tags"]}
    assert {it.id: whole.count(f'id="{it.id}"') for it in OPERATIONS} == {it.id: 1 for it in OPERATIONS}


async def test_each_call_has_its_examples_and_no_backtick_is_left(site: Site) -> None:
    whole = await reference(site)
    assert whole.count("<pre><code>curl ") == len(OPERATIONS)
    assert whole.count("const response = await fetch(") == len(OPERATIONS)
    assert whole.count("<summary>Python</summary>") == len(OPERATIONS)
    assert "`" not in re.sub(r"<pre>.*?</pre>", "", whole, flags=re.DOTALL)
    assert whole.count("<tr><td><code>share_used_up</code></td>") == 1


@pytest.mark.parametrize("tool", ["curl", "requests", "node"])
async def test_the_example_of_a_stream_reads_it_as_it_stands(
    site: Site, tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailerd.intake.events_endpoint.MAX_STREAM_SECONDS", 0.0)  # it ends once it has said all
    job_id = await site.posted({"email": "ada@example.com", "name": "Ada"})
    async with site.client.post(f"{site.url}/api/jobs/{job_id}/cancel") as response:
        assert response.status == 200
    for path, said in (("/api/events/stream", "event: job.cancelled"), ("/api/jobs/{id}/events", "event: finished")):
        words = {
            "curl": ["sh", "-c", curl("GET", path, None, server=site.url).replace("curl", "curl -sS")],
            "requests": [sys.executable, "-c", python("", "GET", path, None, server=site.url)],
            "node": ["node", "--input-type=module", "-e", javascript("GET", path, None, server=site.url)],
        }[tool]
        assert said in await shown_by(words, site, JOB=job_id)


def posted(tool: str, site: Site) -> list[str]:
    """The words of a process that makes the example of a post."""
    body = document()["paths"]["/api/jobs/send_template_emails"]["post"]["requestBody"]["content"]["application/json"]
    call, example = ("POST", "/api/jobs/send_template_emails"), body["example"]
    if tool == "python":
        return [sys.executable, "-c", python("createJob", *call, example, server=site.url)]
    if tool == "requests":
        return [sys.executable, "-c", python("", *call, example, server=site.url)]
    if tool == "node":
        return ["node", "--input-type=module", "-e", javascript(*call, example, server=site.url)]
    return ["sh", "-c", curl(*call, example, server=site.url).replace("curl", "curl -sS")]


@pytest.mark.parametrize("tool", ["curl", "python", "requests", "node"])
async def test_the_example_of_a_post_works_as_it_stands(site: Site, tool: str) -> None:
    out = await shown_by(posted(tool, site), site)
    assert re.search(r"""accepted['"]?: 2""", out.replace('":2', '": 2'))


async def shown_by(words: list[str], site: Site, **environment: str) -> str:
    """What an example prints, which is run as it stands."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    process = await asyncio.create_subprocess_exec(
        *words, env={**os.environ, "KEY": site.key, **environment}, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    return out.decode()


@pytest.mark.parametrize(
    "host, shown",
    [
        ("127.0.0.1:8025", "http://127.0.0.1:8025"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("localhost", "http://localhost"),
        ("127.0.0.1:1</code>", "http://127.0.0.1:5000"),
    ],
)
async def test_the_examples_have_the_address_by_which_the_reader_came(site: Site, host: str, shown: str) -> None:
    async with site.client.get(f"{site.url}/docs/api/templates", headers={"Host": host}) as response:
        page = await response.text()
    if response.status == 200:
        assert f'"{shown}/api/templates"' in page
    assert "@SERVER@" not in page
    assert "</code>/api" not in page


async def test_behind_a_proxy_with_tls_the_examples_say_so(site: Site) -> None:
    headers = {"X-Forwarded-Proto": "https", "Host": "localhost"}
    async with site.client.get(f"{site.url}/docs/api/templates", headers=headers) as response:
        assert '"https://localhost/api/templates"' in await response.text()
    async with site.client.get(f"{site.url}/openapi.json", headers=headers) as response:
        assert (await response.json())["externalDocs"]["url"] == "https://localhost/docs"


async def test_the_bare_address_leads_to_the_site(site: Site) -> None:
    async with site.client.get(site.url + "/") as response:
        assert (response.status, response.url.path) == (200, "/docs")


async def test_the_frame_of_the_page_is_in_the_language_that_the_browser_asks_for(site: Site) -> None:
    pages = {}
    for wish in ("zh-CN,zh;q=0.9", "en"):
        async with site.client.get(f"{site.url}/docs/api/jobs", headers={"Accept-Language": wish}) as response:
            pages[wish[:2]] = await response.text()
            assert response.headers["Vary"] == "Accept-Language, Cookie", "a cache keeps both"
            assert response.headers["Content-Language"] == wish[:2]
    frame = ("操作指南", "对象", "参数", "请求体", "响应示例", "必填", "权限", "本页内容")
    assert [word for word in frame if word not in pages["zh"] or word in pages["en"]] == []
    assert ('lang="zh-CN"' in pages["zh"], '<html lang="en"' in pages["en"]) == (True, True)
    assert '<h2 id="errors">Error codes</h2>' in await text_of(site, "/docs/api")
    assert "错误代码" in await text_of(site, "/docs/api", "zh")


async def test_the_reference_in_chinese_has_no_english_sentence(site: Site) -> None:
    page = re.sub(r"<pre>.*?</pre>|<code>.*?</code>", "`·`", await reference(site, "zh"), flags=re.DOTALL)
    lines = unescape(re.sub(r"<[^>]+>", "\n", page)).splitlines()
    assert [found for line in lines for found in english_left(line)] == []
    codes = re.compile(r"[\w .]+ \| [\w| .]+|not ready")
    said = [line for line in lines if re.search(r"[A-Za-z]{2,} [a-z]{2,}", line) and not codes.fullmatch(line)]
    assert [line for line in said if not is_chinese(line)] == []
    assert len([line for line in lines if is_chinese(line)]) > 400


async def test_the_pages_are_made_once_for_all_who_ask(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    make, frame = library.Library, docs_site._frame

    class Noted(make):  # type: ignore[misc, valid-type]
        def __init__(self, language: str, *rest: Any) -> None:
            made.append(f"library {language}")
            super().__init__(language, *rest)

    def framed(it: library.Library, *rest: Any, **options: Any) -> str:
        made.append(f"page {it.language}")
        return frame(it, *rest, **options)

    def described() -> dict[str, Any]:
        made.append("document")
        return document()

    monkeypatch.setattr(docs_site, "Library", Noted)
    monkeypatch.setattr(docs_site, "_frame", framed)
    monkeypatch.setattr(docs_site, "document", described)
    for wanted, named in (("en", "en"), ("zh", "zh-CN")) * 3:
        pages = await asyncio.gather(*(text_of(site, "/docs/api/jobs", wanted) for _ in range(3)))
        assert f'<html lang="{named}">' in pages[0]
        status, served = await site.get("/openapi.json")
        assert (status, served["openapi"]) == (200, "3.1.0")
    assert sorted(made) == ["document", "library en", "library zh", "page en", "page zh"]


def test_the_old_page_has_one_place_for_the_error_codes() -> None:
    pages = api_pages.pages(document())
    assert [name for name, page in pages.items() if 'id="errors"' in page.html] == ["api"]
