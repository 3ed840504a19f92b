"""`/openapi.json`, `/docs` and `/api/templates`; the pages load nothing from other hosts."""

import asyncio
import json
import re
from concurrent.futures import Executor
from functools import cached_property
from html import escape
from importlib.resources import files
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

from mailerd.core.texts import Language
from mailerd.intake.errors import CODES, RETRY_AFTER, ApiError, cut
from mailerd.intake.http_responses import json_response
from mailerd.intake.openapi import document
from mailerd.intake.response_models import BrokenOut, TemplateOut, TemplatesOut
from mailerd.mail.renderer import Renderer
from mailerd.mail.template_library import TemplateLibrary, TemplateLibraryError, check
from mailerd.store.api_keys import ApiKey
from mailerd.texts import heading, language, tr

_POLICY: Final = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_SAFE: Final = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "max-age=300"}


class DocsEndpoints:
    """The endpoints."""

    def __init__(self, *, library: TemplateLibrary, renderer: Renderer, executor: Executor) -> None:
        self._library = library
        self._renderer = renderer
        self._executor = executor
        self._pages: dict[Language, str] = {}
        """By the language: they need no key, so each is made once."""

    @cached_property
    def _document(self) -> dict[str, Any]:
        return document()

    @cached_property
    def _json(self) -> str:
        return json.dumps(self._document)

    def pages(self) -> dict[str, Handler]:
        """The pages by their paths."""
        return {"/openapi.json": self.openapi, "/docs": self.docs, "/docs/style.css": self.style, "/": self.root}

    async def root(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """The way to the page, for who opens the bare address."""
        return web.Response(status=302, headers={"Location": "/docs"})

    async def openapi(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's signature
        """The document."""
        return web.Response(text=self._json, content_type="application/json", headers=_SAFE)

    async def docs(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """The document as a page."""
        if (html := self._pages.get(language())) is None:
            html = self._pages[language()] = page(self._document)
        headers = {**_SAFE, "Vary": "Accept-Language"}
        return web.Response(text=html, content_type="text/html", headers=headers)

    async def style(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """The style sheet of the page."""
        text = files("mailerd.intake").joinpath("docs.css").read_text("utf-8")
        return web.Response(text=text, content_type="text/css", headers=_SAFE)

    async def templates(self, request: web.Request, key: ApiKey) -> web.Response:  # noqa: ARG002 - as every endpoint
        """The named templates."""
        loop = asyncio.get_running_loop()
        found = TemplatesOut(templates=[], broken=[])
        try:
            names = await loop.run_in_executor(self._executor, self._library.names)
        except TemplateLibraryError as error:
            raise ApiError(503, "renderer_unavailable", str(error), retry_after=RETRY_AFTER) from None
        for name in names:
            try:
                if (named := await loop.run_in_executor(self._executor, self._library.find, name)) is not None:
                    await check(named, self._renderer, origin="the library")
                    found.templates.append(TemplateOut.of(named))
            except TemplateLibraryError as error:
                found.broken.append(BrokenOut(name=name, error=cut(str(error))))
        return json_response(found)


def words(text: str) -> str:
    """A text as HTML; what stands between backticks is code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def curl(method: str, path: str, body: object) -> str:
    """A call as it is made at a terminal; `body` None: it has none."""
    url = "http://127.0.0.1:5000" + path.replace("{id}", "$JOB").replace("{email}", "ada@example.com")
    verb = "" if method == ("GET" if body is None else "POST") else f"-X {method} "
    key = "" if path.startswith("/health") else '-H "X-API-Key: $KEY" '
    if body is None:
        return f'curl {verb}{key}"{url}"'
    text = json.dumps(body, ensure_ascii=False, indent=2)
    return f'curl {verb}{key}-H "Content-Type: application/json" --data-binary @- "{url}" <<\'JSON\'\n{text}\nJSON'


def page(document: dict[str, Any]) -> str:
    """The document for people: plain HTML without scripts."""
    schemas = document["components"]["schemas"]
    operations = [
        (method.upper(), path, it) for path, methods in document["paths"].items() for method, it in methods.items()
    ]
    contents = "".join(
        f'<li><a href="#{it["operationId"]}"><b>{method}</b> {escape(path)}</a></li>' for method, path, it in operations
    )
    sections = "".join(_section(method, path, it, schemas) for method, path, it in operations)
    codes = "".join(
        f"<tr><td><code>{code}</code></td><td>{words(meaning)}</td></tr>" for code, meaning in sorted(CODES.items())
    )
    models = "".join(
        f'<section id="{escape(name)}"><h3>{escape(name)}</h3>{_model(schema)}</section>'
        for name, schema in schemas.items()
    )
    said = "zh-CN" if language() == "zh" else "en"
    return (
        f'<!doctype html><html lang="{said}"><head><meta charset="utf-8">'
        f"<title>{tr('mailerd: the API')}</title>"
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/docs/style.css"></head><body>'
        f"<header><h1>mailerd {escape(document['info']['version'])}</h1><p>{escape(document['info']['description'])} "
        f"{words(tr('Every call but `/health` takes a key in `X-API-Key`. The same in a form for programs:'))} "
        '<a href="/openapi.json">openapi.json</a></p></header>'
        f"<nav><ul>{contents}</ul></nav><main>{sections}"
        f"<h2>{tr('Codes of errors')}</h2><table>{codes}</table>"
        f"<h2>{heading('Shapes')}</h2>{models}</main></body></html>"
    )


def _section(method: str, path: str, it: dict[str, Any], schemas: dict[str, Any]) -> str:
    need = f'<p class="key">{tr("needs a key that may")} <code>{it["x-call"]}</code></p>' if "x-call" in it else ""
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{each['in']}</td><td>{_type(each['schema'])}</td>"
        f"<td>{words(each.get('description', ''))}</td></tr>"
        for each in it["parameters"]
    )
    table = f"<h4>{heading('Parameters')}</h4><table>{rows}</table>" if rows else ""
    body, sent = "", None
    if "requestBody" in it:
        content = it["requestBody"]["content"]["application/json"]
        schema, sent = content["schema"], content["example"]
        name = schema["$ref"].rpartition("/")[2]
        body = f"<h4>{heading('Body')}: {_type(schema)}</h4>{_model(schemas[name])}"
    answers = "".join(
        f"<tr><td><b>{status}</b></td><td>{words(each['description'])}</td><td>{_content(each)}</td></tr>"
        for status, each in it["responses"].items()
    )
    return (
        f'<section id="{it["operationId"]}">'
        f'<h2><b class="{method.lower()}">{method}</b> <code>{escape(path)}</code></h2>'
        f"<p><b>{words(it['summary'])}.</b> {words(it['description'])}</p>{need}"
        f"<pre>{escape(curl(method, path, sent))}</pre>{table}{body}"
        f"<h4>{heading('Answers')}</h4><table>{answers}</table>{_answer(it['responses']['200'])}</section>"
    )


def _answer(response: dict[str, Any]) -> str:
    """An example of the answer, as a client gets it."""
    example = next(iter(response["content"].values()))["example"]
    text = example if isinstance(example, str) else json.dumps(example, ensure_ascii=False, indent=2)
    return f"<details><summary>{tr('an answer')}</summary><pre>{escape(text)}</pre></details>"


def _content(response: dict[str, Any]) -> str:
    return "".join(f"{escape(kind)}: {_type(it['schema'])}" for kind, it in response.get("content", {}).items())


def _model(schema: dict[str, Any]) -> str:
    said = f"<p>{words(schema['description'])}</p>" if "description" in schema else ""
    if "enum" in schema:
        return said + f"<p>{_type(schema)}</p>"
    needed, must = set(schema.get("required", ())), f" <i>{heading('required')}</i>"
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>{must if name in needed else ''}</td><td>{_type(it)}</td>"
        f"<td>{words(it.get('description', ''))}</td></tr>"
        for name, it in schema.get("properties", {}).items()
    )
    return said + (f"<table>{rows}</table>" if rows else "")


def _type(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for either in ("anyOf", "oneOf"):
        if either in schema:
            return " or ".join(_type(each) for each in schema[either])
    if "enum" in schema or "const" in schema:
        return " | ".join(escape(str(each)) for each in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    bounds = [f"{word} {schema[key]}" for key, word in _BOUNDS.items() if key in schema]
    return escape(" ".join([str(schema.get("format") or schema.get("type", "anything")), *bounds]))


_BOUNDS: Final = {
    "minimum": "from", "maximum": "to", "minLength": "at least", "maxLength": "at most", "pattern": "like",
    "maxItems": "at most", "minItems": "at least", "default": "by default",
}  # fmt: skip
