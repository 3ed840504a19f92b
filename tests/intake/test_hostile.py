"""What a stranger or a careless program may send: each attempt, and what it gets. Nothing is stored, nothing breaks."""

import asyncio
import json
from itertools import product
from typing import Any

import pytest
from aiohttp import ClientError, web
from yarl import URL

from tests.intake.site import Site, job
from tests.support.heard import PATIENCE
from tests.support.own_time import slowness

# Escapes from sandboxes of Jinja and its kin, as they are collected and passed on.
ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ [].__class__.__base__.__subclasses__()[104]('id', shell=True) }}",
    "{{ config }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ url_for.__globals__ }}",
    "{{ request.application.__globals__ }}",
    "{{ ''|attr('__class__') }}",
    "{{ ''|attr('\\x5f\\x5fclass\\x5f\\x5f') }}",
    "{{ ''['__class__'] }}",
    "{{ '%s'|format(self) }}{{ '{0.__class__}'.format(1) }}",
    "{{ '{0.__init__.__globals__}'.format(loop) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends '/etc/passwd' %}",
    "{{ env('DATABASE_URL') }}",
    "{{ env.DATABASE_URL }}",
    "{{ [name]|map(attribute='__class__')|list }}",
    "{{ [name]|map('attr', '__class__')|list }}",
    "{{ {}.__class__.fromkeys }}",
    "{% set x = name.__class__ %}{{ x }}",
    "{% for c in ().__class__.__base__.__subclasses__() %}{{ c }}{% endfor %}",
    "{{ caller.__globals__ }}{{ varargs }}",
    "{{ name.encode.__self__.__class__ }}",
    "{{ (1).__class__ }}{{ 1 .real.__class__ }}",
    "{{ dict(a=1).__class__ }}",
    "{{ range.__class__ }}",
    "{% macro x() %}{% endmacro %}{{ x.__globals__ }}",
]
BOMBS = [
    "{% for i in range(10**9) %}x{% endfor %}",
    "{{ 'x' * 10**10 }}",
    "{{ 9**(9**9) }}",
    "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}",
    "{{ '%999999999d'|format(1) }}",
    "{{ ('x' * 900000) * 900 }}",
]


@pytest.mark.parametrize("part", ["subject", "html", "text"])
async def test_no_template_gets_out_of_its_sandbox(site: Site, part: str) -> None:
    for source, dry in product(ESCAPES, (False, True)):
        template = {"subject": "x", "html": "x", part: source}
        status, answer = await site.post(job(template=template, dry_run=dry))
        assert status == 422 or (dry and answer["rejected_total"] == 1), (source, answer)
        told = json.dumps(answer)
        assert "root:" not in told
        assert "subprocess" not in told
        assert "<class" not in told
    assert await site.stored() == (0, 0)
    assert not site.heard.of("request_failed")


@pytest.mark.parametrize("source", BOMBS)
async def test_no_template_takes_all_time_or_memory(site: Site, source: str) -> None:
    async with asyncio.timeout(10 * slowness()):
        status, answer = await site.post(job(template={"subject": "x", "html": source}))

    assert status == 422, answer
    assert await site.stored() == (0, 0)


XSS = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)", "'-alert(1)-'", "&lt;"]


@pytest.mark.parametrize("value", XSS)
async def test_what_a_recipient_is_called_is_text_in_html(site: Site, value: str) -> None:
    body = job(
        {"email": "a@example.com", "name": value},
        template={"subject": "x", "html": '<p title="{{ name }}">{{ name }}</p>'},
    )
    _, answer = await site.post({**body, "dry_run": True})
    html = answer["samples"][0]["html"]

    assert html.count("<") == 2
    assert html.count('"') == 2
    assert "'" not in html


INJECTIONS = [
    "a\r\nBcc: x@evil.example",
    "a\nBcc: x@evil.example",
    "a\rX: y",
    "a\u2028Bcc: x",
    "a\x00b",
    "a\x0bb",
    "a\x85b",
]


@pytest.mark.parametrize("value", INJECTIONS)
async def test_no_header_can_be_smuggled_in(site: Site, value: str) -> None:
    good = {"email": "a@example.com", "name": "A"}
    attachment = {"filename": value, "content": "eA=="}
    bodies: list[dict[str, Any]] = [
        job(sender_name=value),
        job(sender_email=f"me@example.com{value}"),
        job(reply_to=f"me@example.com{value}"),
        job(reference=value),
        job({**good, "name": value}),
        job({**good, "email": f"a@example.com{value}"}),
        job({**good, "variables": {"product": value}}, template={"subject": "{{ product }}", "html": "x"}),
        job(template={"subject": value, "html": "x"}),
        job(attachments=[attachment]),
        job(attachments=[{**attachment, "filename": "a.pdf", "content_type": f"text/plain{value}"}]),
        job(attachments=[{**attachment, "filename": "a.pdf", "content_id": value}]),
    ]
    for body in bodies:
        status, answer = await site.post(body)
        assert status == 422, body
        assert answer["error"]["details"], body
    assert await site.stored() == (0, 0)


PATHS = [
    "/etc/passwd",
    "/docs/../../etc/passwd",
    "/docs/%2e%2e/%2e%2e/etc/passwd",
    "/docs/style.css/../x",
    "//etc/passwd",
    "/api/jobs/..%2f..%2fetc%2fpasswd",
    "/api/jobs/%00",
    "/api/jobs/' OR 1=1 --",
    "/api/jobs/%ff",
    "/api/templates/../x",
]


@pytest.mark.parametrize("path", PATHS)
async def test_no_path_leads_to_a_file(site: Site, path: str) -> None:
    host, _, port = site.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"GET {path.replace(' ', '%20')} HTTP/1.1\r\nHost: {host}:{port}\r\n".encode()
        + f"X-API-Key: {site.key}\r\nConnection: close\r\n\r\n".encode()
    )
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()

    assert answer.split()[1] in {b"400", b"404"}
    assert b"root:" not in answer
    assert not site.heard.of("request_failed")


POST = b"POST /api/jobs/send_template_emails HTTP/1.1\r\nHost: x\r\n"
MALFORMED = [
    b"GARBAGE\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /api/jobs HTTP/1.1\r\nHost: x\r\nX-API-Key: \x00\r\n\r\n",
    POST + b"Content-Length: -1\r\n\r\n",
    POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxxx",
    POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
]


@pytest.mark.parametrize("sent", MALFORMED)
async def test_what_is_no_http_gets_400_and_its_connection_ends(site: Site, sent: bytes) -> None:
    host, _, port = site.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()

    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert b"Traceback" not in answer
    assert (await site.get("/health/live"))[0] == 200
    assert len(answer) < 1000
    (told,) = site.heard.of("request_malformed")
    assert not site.heard.of("connection_failed")
    assert told["address"] == "127.0.0.1"
    assert 0 < len(told["reason"]) <= 200
    assert "\n" not in told["reason"]
    assert "aaa" not in told["reason"], "what was sent may be a key"


@pytest.mark.parametrize("path", ["/nowhere", "/health/live", "/docs"])
async def test_an_expectation_that_nobody_knows_is_refused_in_our_shape_and_is_no_bug(site: Site, path: str) -> None:
    host, _, port = site.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nExpect: a miracle\r\nConnection: close\r\n\r\n".encode())
    headers, _, body = (await asyncio.wait_for(reader.read(), PATIENCE)).partition(b"\r\n\r\n")
    writer.close()

    assert headers.startswith(b"HTTP/1.1 417")
    assert json.loads(body)["error"]["code"] == "expectation_failed"
    [told] = site.heard.of("request_refused")
    assert f"X-Request-Id: {told['request']}".encode() in headers
    assert not site.heard.of("connection_failed")


async def test_a_path_is_told_as_it_came_and_not_as_what_a_terminal_obeys(site: Site) -> None:
    async with site.client.get(URL(f"{site.url}/x%1b[31m%00%0d", encoded=True)) as answer:
        assert answer.status == 404

    assert (await site.heard.wait_for("request_answered"))["path"] == "/x%1b[31m%00%0d"


async def test_what_was_sent_is_not_told_since_it_may_be_a_key(site: Site) -> None:
    host, _, port = site.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /api/jobs HTTP/1.1\r\nHost: x\r\nX-API-Key: sk_live_secret\x00\r\n\r\n")
    await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()

    assert site.heard.of("request_malformed") == [{"address": "127.0.0.1", "reason": "Invalid header value char"}]
    assert "sk_live" not in repr(site.heard.events)


async def test_a_bug_below_the_handlers_is_told_with_its_stack(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def break_down(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(web.Response, "write_eof", break_down)
    with pytest.raises(ClientError):
        await site.get("/health/live")
    assert isinstance((await site.heard.wait_for("connection_failed"))["error"], ZeroDivisionError)


@pytest.mark.parametrize(
    "name", ["sender_email", "template", "recipients", "variables", "attachments", "send_at", "priority", "dry_run"]
)
async def test_any_field_may_be_anything_and_no_bug_is_met(site: Site, name: str) -> None:
    for value in [[], {}, "", 0, -1, 1e308, True, None, [[[]]], {"$ne": 1}, "' OR '1'='1", "\u202e"]:
        status, _ = await site.post(job(**{name: value}))
        assert status in {200, 422}, value
    assert not site.heard.of("request_failed")
