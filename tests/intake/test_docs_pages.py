"""/openapi.json and /docs: made of the models, served from here alone."""

import asyncio
import json
import os
import re
from collections.abc import Callable
from html import unescape
from types import SimpleNamespace
from typing import Any

import pytest

from mailerd.intake import openapi
from mailerd.intake.openapi import curl, document
from mailerd.intake.request_models import JobIn, RecipientIn
from mailerd.intake.routes import OPERATIONS
from mailerd.locale import language
from tests.house.sentences import english_left, is_chinese
from tests.intake.site import Site


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


async def test_the_page_loads_nothing_from_anywhere_else(site: Site) -> None:
    async with site.client.get(f"{site.url}/docs") as response:
        page, policy = await response.text(), response.headers["Content-Security-Policy"]
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', page)

    assert set(loaded) == {"/docs/style.css", "/openapi.json"}
    assert "<script" not in page
    assert policy.startswith("default-src 'none'; style-src 'self'")
    async with site.client.get(f"{site.url}/docs/style.css") as response:
        assert response.content_type == "text/css"
    for it in OPERATIONS:
        assert f'id="{it.id}"' in page
    anchors = set(re.findall(r'href="#([^"]+)"', page))
    assert anchors <= set(re.findall(r'id="([^"]+)"', page))


async def test_each_call_has_its_curl_and_no_backtick_is_left(site: Site) -> None:
    async with site.client.get(f"{site.url}/docs") as response:
        page = await response.text()
    assert page.count("<pre>curl ") == len(OPERATIONS)
    assert "`" not in page
    assert "<code>share_used_up</code>" in page


async def test_the_curl_of_a_post_works_as_it_stands(site: Site) -> None:
    body = document()["paths"]["/api/jobs/send_template_emails"]["post"]["requestBody"]["content"]["application/json"]
    line = curl("POST", "/api/jobs/send_template_emails", body["example"])
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", line.replace("http://127.0.0.1:5000", site.url).replace("curl", "curl -sS"),
        env={**os.environ, "KEY": site.key}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert json.loads(out)["accepted"] == 2


async def test_the_bare_address_leads_to_the_page(site: Site) -> None:
    async with site.client.get(site.url + "/") as response:
        assert (response.status, response.url.path) == (200, "/docs")


async def test_the_frame_of_the_page_is_in_the_language_that_the_browser_asks_for(site: Site) -> None:
    pages = {}
    for wish in ("zh-CN,zh;q=0.9", "en"):
        async with site.client.get(f"{site.url}/docs", headers={"Accept-Language": wish}) as response:
            pages[wish[:2]] = await response.text()
            assert response.headers["Vary"] == "Accept-Language", "a cache keeps both"
    frame = ("错误代码", "模式", "参数", "请求体", "响应示例", "必填", "权限", "密钥。供程序")
    assert [word for word in frame if word not in pages["zh"] or word in pages["en"]] == []
    assert ('lang="zh-CN"' in pages["zh"], 'lang="en"' in pages["en"]) == (True, True)
    assert "<h2>Error codes</h2>" in pages["en"]


async def test_the_page_in_chinese_has_no_english_sentence(site: Site) -> None:
    async with site.client.get(f"{site.url}/docs", headers={"Accept-Language": "zh"}) as response:
        page = re.sub(r"<pre>.*?</pre>|<code>.*?</code>", "`·`", await response.text(), flags=re.DOTALL)
    lines = unescape(re.sub(r"<[^>]+>", "\n", page)).splitlines()
    assert [found for line in lines for found in english_left(line)] == []
    codes = re.compile(r"[\w .]+ \| [\w| .]+|not ready")
    said = [line for line in lines if re.search(r"[A-Za-z]{2,} [a-z]{2,}", line) and not codes.fullmatch(line)]
    assert [line for line in said if not is_chinese(line)] == []
    assert len([line for line in lines if is_chinese(line)]) > 400


async def test_the_pages_are_made_once_for_all_who_ask(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def noted(work: Callable[..., str], what: str) -> Callable[..., str]:
        def run(given: Any, **options: Any) -> str:
            if "paths" in given:  # the whole document
                made.append(f"{what} {language()}")
            return work(given, **options)

        return run

    monkeypatch.setattr(openapi, "page", noted(openapi.page, "page"))
    monkeypatch.setattr(openapi, "json", SimpleNamespace(dumps=noted(json.dumps, "json")))
    for wanted, named in (("en", "en"), ("zh", "zh-CN")) * 3:
        async with site.client.get(f"{site.url}/docs", headers={"Accept-Language": wanted}) as response:
            assert f'<html lang="{named}">' in await response.text()
        status, served = await site.get("/openapi.json")
        assert (status, served["openapi"]) == (200, "3.1.0")
    assert sorted(made) == ["json en", "page en", "page zh"]
