"""`GET /openapi.json` and `/docs`: OpenAPI 3.1, made from the models of requests and answers."""

import asyncio
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from html import escape
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from mailerd import __version__
from mailerd.clock import ULID_PATTERN
from mailerd.core.i18n import N_, Language, Text, joined, t, verbatim
from mailerd.http.auth import HEADER
from mailerd.http.errors import ApiError, cut
from mailerd.http.responses import CODES, RETRY_AFTER, ErrorOut, json_response
from mailerd.intake.response_models import BrokenOut, NotReadyOut, TemplateOut, TemplatesOut
from mailerd.intake.routes import OPERATIONS, Operation
from mailerd.locale import language, say, speak
from mailerd.mail.renderer import Renderer
from mailerd.mail.template_library import TemplateLibrary, TemplateLibraryError, check
from mailerd.store.api_keys import ApiKey

# What the OpenAPI document says of fields that explain themselves nowhere else, and the examples of their values.

DESCRIPTIONS: Final[dict[str, str]] = {
    "accepted": "recipients that get a message",
    "action": "the requested change",
    "actions": "the requests, newest first",
    "actor": "who requested it: the name of a key or a person",
    "at": "when it was requested",
    "attachments": "the names of its files",
    "attempts": "the number of attempts",
    "average": "bytes of the average message",
    "broken": "unusable templates, each with its reason",
    "bytes": "bytes of the whole message, as sent to Google",
    "changed": "whether anything changed",
    "code": "the error for programs: one of the codes in `/docs`",
    "created_at": "when it was stored",
    "database_moved_at": "when another database server became writable; null: never",
    "database_server": "the writable database server, if there are several",
    "data": "the job as in `GET /api/jobs/{id}`, without its forecast",
    "description": "the template's own description",
    "detail": "a note",
    "dry_run": "always true",
    "due_at": "when the next attempt is due",
    "email": "the address as given; the domain of a valid one is in lower case and ASCII",
    "error": "why it is not sent (yet)",
    "events": "the events, oldest first",
    "finished_at": "when it finished; null: not finished",
    "forecast": "when its messages will be sent; empty: no forecast",
    "html": "the HTML",
    "id": "the ID for `mailerd explain` and `mailerd settle`",
    "index": "its position in the request, from 0",
    "job": "the job after the request",
    "job_id": "the job's ID",
    "jobs": "the jobs, newest first",
    "language": "its main language",
    "largest": "bytes of the largest message",
    "message_bytes": "the sizes of the messages",
    "list": "the mailing list",
    "lists": "the mailing lists, by name",
    "message": "the error for people: what, why and what to do",
    "message_id": "Google's ID of the message; null if not sent",
    "name": "the name",
    "next_cursor": "`cursor` of the next page; null: this is the last page",
    "pictures": "images in its HTML",
    "priority": "higher is sent first among the jobs of one sender",
    "reason": "the reason",
    "recipients": "one message to each, in the order of the request",
    "reference": "the client's own ID",
    "rejected": "invalid recipients, each with its reason",
    "rejected_total": "the number of invalid recipients",
    "removed": "it was removed",
    "samples": "the first three messages, as their recipients would read them",
    "send_at": "not sent before this time",
    "sender_email": "the sending mailbox or one of its aliases",
    "sent_at": "when Google accepted it",
    "smallest": "bytes of the smallest message",
    "source": "its source",
    "started_at": "when its first message was started",
    "status": "the status",
    "subject": "the subject",
    "suppressed": "suppressed recipients, each with its reason",
    "suppressed_total": "the number of suppressed recipients",
    "suppressions": "the suppressions",
    "template": "the named template",
    "templates": "usable templates",
    "text": "the plain text",
    "timestamp": "when it happened",
    "title": "the title that people read instead of the name",
    "total": "the total",
    "type": "its type",
    "updated_at": "when it last changed",
    "version": "a digest of the template's files",
    "warnings": "what is allowed but may be a mistake",
}
"""The description of a field, by its name: a name means one thing wherever it stands."""

EXAMPLES: Final[dict[str, Any]] = {
    "actor": "key shop",
    "bytes": 812,
    "cause_of_wait": None,
    "code": "invalid_request",
    "data": {"status": "completed", "total": 2, "sent": 2, "failed": 0, "cancelled": 0},
    "description": "A welcome with a picture",
    "detail": None,
    "details": [{"field": "recipients[3].email", "message": "is required"}],
    "email": "ada@example.com",
    "error": None,
    "field": "recipients[3].email",
    "filename": "invoice.pdf",
    "forecast": {"messages_ahead": 0, "text": "the messages are sent immediately"},
    "from": "2026-12-01T09:00:00Z",
    "html": "<p>Dear Ada</p>",
    "job_id": "01M87579BANMVD7VSZZ1762YXX",
    "language": "en",
    "languages": ["zh"],
    "list": "news",
    "message": "1 problem in the request; nothing was stored",
    "message_id": "1a20e539ce600004",
    "name": "welcome",
    "pause_cause": None,
    "next_cursor": None,
    "pictures": ["logo.png"],
    "progress": 0.5,
    "proof": "answered",
    "rate": 54.0,
    "reason": "manual",
    "reference": "order 17",
    "sender_email": "me@example.com",
    "subject": "Welcome, Ada",
    "text": "Dear Ada",
    "title": "News of the shop",
    "total": 2,
    "type": "template",
    "uid": "evt_01M87579BANMVD7VSZZ1762YXX",
    "variables": {"product": "tea"},
    "version": "3f6c1b2a9d40",
}
"""An example of the value of a field, by its name."""

TAGS: Final = {
    "jobs": "Post jobs, control them and read their results.",
    "recipients": "One person's messages in all jobs.",
    "events": "What happened, in order and without gaps.",
    "templates": "The named templates.",
    "suppressions": "Addresses that get no messages.",
    "lists": "A mailing list.",
    "webhooks": "Endpoints that events are posted to.",
    "health": "For monitoring; no key is needed.",
}
"""The groups of operations, by the first word of their paths behind `/api`."""


# Schemas as generators of clients take them, and examples made of them.

PREFIX: Final = "#/components/schemas/"
_BY_TYPE: Final[dict[str, Any]] = {"integer": 1, "number": 1.0, "boolean": True, "string": "text", "null": None}
_BY_FORMAT: Final = {"date-time": "2026-12-01T09:00:00Z", "byte": "JVBERi0xLjcK"}


def for_generators(schemas: Mapping[str, Any]) -> dict[str, Any]:
    """The schemas, with a description for each property and no defaults.

    A generator for TypeScript makes a field with a default one that must be given, so the default is said in words.
    """
    made = {}
    for name, schema in schemas.items():
        properties = {field: _property(field, each) for field, each in schema.get("properties", {}).items()}
        made[name] = {**schema, "properties": properties} if properties else schema
    code = made["FailureOut"]["properties"]["code"]
    known = ", ".join(f"`{code}`" for code in sorted(CODES))
    code["description"] = t("{what}: {codes}", what=verbatim(code["description"]), codes=known)
    return made


def _property(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in schema.items() if key not in {"default", "title"}}
    said = made.get("description") or DESCRIPTIONS.get(name, "")
    if schema.get("default"):  # what is absent, empty or false needs no word
        default = t("default: {value}", value=schema["default"])
        said = joined([verbatim(said), default]) if said else default
    return {**made, "description": said} if said else made


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any], *, name: str = "") -> Any:
    """A value that fits a schema: the one that it gives itself, else one by its name, else one by its type."""
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if "$ref" in schema:
        model = schema["$ref"].removeprefix(PREFIX)
        return EXAMPLES[name] if name in _WHOLE else example_of(schemas[model], schemas)
    if "enum" in schema:
        return schema["enum"][0]
    if "properties" in schema:
        return {field: example_of(each, schemas, name=field) for field, each in schema["properties"].items()}
    return _plain(schema, schemas, name)


_WHOLE: Final = frozenset({"forecast"})
"""Fields whose example is given whole."""


def _plain(schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str) -> Any:
    either = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    kind = schema.get("type")
    if name in EXAMPLES and _fits(EXAMPLES[name], schema):
        return EXAMPLES[name]
    if either:
        return example_of(either[0], schemas, name=name)
    if "contentSchema" in schema:
        return json.dumps(example_of(schema["contentSchema"], schemas))
    if kind == "array":
        return [example_of(schema.get("items", {}), schemas)]
    if kind == "object":
        return dict.fromkeys(_keys(schema, schemas), 1)
    return _BY_FORMAT.get(schema.get("format", "")) or _BY_TYPE.get(str(kind))


def _keys(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    names = schema.get("propertyNames", {})
    yield from schemas[names["$ref"].removeprefix(PREFIX)].get("enum", ()) if "$ref" in names else ()


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    kinds = {schema.get("type"), *(each.get("type") for each in schema.get("anyOf", ()))}
    match value:
        case None:
            return "null" in kinds
        case str():
            return "string" in kinds and "format" not in schema
        case int() | float():
            return bool({"integer", "number"} & kinds)
        case list():
            return "array" in kinds
        case _:
            return "object" in kinds


_REF: Final = PREFIX + "{model}"
_ERROR_EXAMPLES: Final = {
    400: "cut_off", 401: "unauthorized", 403: "call_not_allowed", 404: "not_found", 408: "timeout", 409: "conflict",
    413: "too_large", 415: "unsupported_encoding", 429: "too_fast", 503: "database_away",
}  # fmt: skip
"""The code that an example of each status has; else it is `invalid_request`."""
_CSV: Final = {"schema": {"type": "string"}, "example": "index,id,email,status\r\n0,17,ada@example.com,sent\r\n"}
_WITH_KEY: Final = (401, 403, 429, 503)
_MEANINGS: Final = {
    400: "the body was incomplete",
    401: "no key, or an unknown or revoked one",
    403: "the key does not allow this, or not for this sender",
    404: "not found",
    408: "the body did not arrive in time",
    409: "the request conflicts with the current state",
    410: "the requested events were deleted because of their age; the error says where to continue",
    413: "too large",
    415: "the body is compressed",
    422: "the request has errors; the response names all of them",
    429: "too fast; retry after `Retry-After` seconds",
    503: "the database is unavailable or mailerd is busy; nothing was changed; retry after `Retry-After` seconds",
}


_LATER: Final = (429, 503)
"""The statuses of answers with Retry-After."""
_HEADERS: Final = {
    name: {"description": description, "schema": schema}
    for name, description, schema in (
        ("X-Request-Id", "the request's ID in the log", {"type": "string"}),
        ("Retry-After", "seconds to wait before a retry", {"type": "integer", "minimum": 1}),
        (
            "Idempotency-Replayed",
            "`true`: the response to an earlier post with the same `Idempotency-Key`",
            {"type": "string", "enum": ["true"]},
        ),
        ("Content-Disposition", "the file name", {"type": "string"}),
    )
}


def document() -> dict[str, Any]:
    """The whole document."""
    models = sorted(set(_models()), key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    known = for_generators(schemas["$defs"])
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, known)
    tags = list(dict.fromkeys(_tag(operation) for operation in OPERATIONS))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mailerd",
            "version": __version__,
            "description": "Accepts jobs of messages, sends them and reports the result of every message.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": TAGS.get(tag, tag)} for tag in tags],
        "paths": paths,
        "components": {
            "schemas": known,
            "headers": _HEADERS,
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": HEADER}},
        },
    }


def _models() -> Iterable[type[BaseModel]]:
    yield from (ErrorOut, NotReadyOut)
    for operation in OPERATIONS:
        yield from operation.answers
        if operation.stream:
            yield operation.stream
        if operation.body:
            yield operation.body


def _tag(it: Operation) -> str:
    """The group of an operation: the first word of its path behind /api."""
    return it.path.removeprefix("/api").split("/")[1].partition(".")[0]


def _operation(it: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {
            "name": each.name,
            "in": each.where,
            **({"required": True} if each.required or each.where == "path" else {}),
            "schema": each.schema,
            "description": each.description,
            # An empty one is as good as absent.
            **({"allowEmptyValue": True} if each.where == "query" and not each.required else {}),
        }
        for each in it.params
    ]
    if "{id}" in it.path:
        schema = {"type": "string", "pattern": ULID_PATTERN}
        parameters.insert(0, {"name": "id", "in": "path", "required": True, "schema": schema})
    made: dict[str, Any] = {
        "operationId": it.id,
        "tags": [_tag(it)],
        "summary": it.summary,
        "description": it.description,
        "parameters": parameters,
        "responses": _responses(it, schemas),
        "security": [{"key": []}] if it.call else [],
    }
    if it.call:
        made["x-call"] = it.call.value
    if it.body:
        content = {"application/json": _content(it.body, schemas)}
        made["requestBody"] = {"required": it.body_required, "content": content}
    return made


def _responses(it: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    headers = {"X-Request-Id": _header("X-Request-Id")}
    content = {it.kind: _CSV if it.kind == "text/csv" else _content(it.answers[0], schemas)}
    if it.stream:
        content["text/event-stream"] = _content(it.stream, schemas)
    found: dict[str, Any] = {"200": {"description": it.summary, "headers": {**headers}, "content": content}}
    if it.id == "createJob":
        found["200"]["headers"]["Idempotency-Replayed"] = _header("Idempotency-Replayed")
    if it.kind == "text/csv":
        found["200"]["headers"]["Content-Disposition"] = _header("Content-Disposition")
    if it.id == "streamJobEvents":
        found["204"] = {"description": "the job is finished, and the client has its last event"}
    if it.id == "getReadiness":
        found["503"] = {
            "description": "not ready",
            "headers": headers | {"Retry-After": _header("Retry-After")},
            "content": {it.kind: _content(NotReadyOut, schemas)},
        }
    for status in sorted({*it.errors, *(_WITH_KEY if it.call else ())}):
        found[str(status)] = {
            "description": _MEANINGS.get(status, HTTPStatus(status).phrase),
            "headers": headers | ({"Retry-After": _header("Retry-After")} if status in _LATER else {}),
            "content": {"application/json": {"schema": _ref(ErrorOut), "example": _error(status)}},
        }
    return found


def _error(status: int) -> dict[str, Any]:
    code = _ERROR_EXAMPLES.get(status, "invalid_request")
    details = [{"field": "recipients[3].email", "message": "is required"}] if code == "invalid_request" else []
    return {"error": {"code": code, "message": CODES[code], "details": details}}


def _content(model: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    return {"schema": _ref(model), "example": example_of(schemas[model.__name__], schemas)}


def _header(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


# `/openapi.json`, `/docs` and `/api/templates`; the pages load nothing from other hosts.

_POLICY: Final = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_SAFE: Final = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "max-age=300"}


class DocsEndpoints:
    """The endpoints."""

    def __init__(self, *, library: TemplateLibrary, renderer: Renderer) -> None:
        self._library = library
        self._renderer = renderer
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
        """The document, which is English for every reader."""
        speak("en")
        return web.Response(text=self._json, content_type="application/json", headers=_SAFE)

    async def docs(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """The document as a page."""
        if (html := self._pages.get(language())) is None:
            html = self._pages[language()] = page(self._document)
        headers = {**_SAFE, "Vary": "Accept-Language"}
        return web.Response(text=html, content_type="text/html", headers=headers)

    async def style(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """The style sheet of the page."""
        speak("en")
        text = files("mailerd.intake").joinpath("docs.css").read_text("utf-8")
        return web.Response(text=text, content_type="text/css", headers=_SAFE)

    async def templates(self, request: web.Request, key: ApiKey) -> web.Response:  # noqa: ARG002 - as every endpoint
        """The named templates."""
        found = TemplatesOut(templates=[], broken=[])
        try:
            names = await asyncio.to_thread(self._library.names)
        except TemplateLibraryError as error:
            raise ApiError(503, "renderer_unavailable", str(error), retry_after=RETRY_AFTER) from None
        for name in names:
            try:
                if (named := await asyncio.to_thread(self._library.find, name)) is not None:
                    await check(named, self._renderer, origin="the library")
                    found.templates.append(TemplateOut.of(named))
            except TemplateLibraryError as error:
                found.broken.append(BrokenOut(name=name, error=cut(str(error))))
        return json_response(found)


def words(text: str) -> str:
    """A text of the document as HTML, in the language of its reader; what is between backticks is code."""
    said = say(text if isinstance(text, Text) else verbatim(text))
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(said))


def templates() -> Iterator[str]:
    """The templates of all that the document and the codes say: what tools/messages.py puts into the catalogues."""
    yield from (verbatim(each).msgid for each in CODES.values())
    yield from _templates(document())


def _templates(node: Any) -> Iterator[str]:
    match node:
        case dict():
            for key, value in node.items():
                is_said = (
                    key in {"summary", "description"} if isinstance(value, str) else key not in {"example", "examples"}
                )
                if is_said:
                    yield from _templates(value)
        case list():
            for each in node:
                if not isinstance(each, str):
                    yield from _templates(each)
        case Text():
            yield from (each.msgid for each in (*node.parts, *node.fields.values()) if getattr(each, "msgid", ""))
        case str():
            yield from filter(None, [verbatim(node).msgid])
        case _:
            pass


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
        f"<title>{say(t('mailerd: the API'))}</title>"
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/docs/style.css"></head><body>'
        f"<header><h1>mailerd {escape(document['info']['version'])}</h1><p>{words(document['info']['description'])} "
        f"{words(t('All calls except `/health` need a key in `X-API-Key`. For programs:'))} "
        '<a href="/openapi.json">openapi.json</a></p></header>'
        f"<nav><ul>{contents}</ul></nav><main>{sections}"
        f"<h2>{say(t('Error codes'))}</h2><table>{codes}</table>"
        f"<h2>{say(t('Schemas'))}</h2>{models}</main></body></html>"
    )


def _section(method: str, path: str, it: dict[str, Any], schemas: dict[str, Any]) -> str:
    need = f'<p class="key">{say(t("permission"))} <code>{it["x-call"]}</code></p>' if "x-call" in it else ""
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{each['in']}</td><td>{_type(each['schema'])}</td>"
        f"<td>{words(each.get('description', ''))}</td></tr>"
        for each in it["parameters"]
    )
    table = f"<h4>{say(t('Parameters'))}</h4><table>{rows}</table>" if rows else ""
    body, sent = "", None
    if "requestBody" in it:
        content = it["requestBody"]["content"]["application/json"]
        schema, sent = content["schema"], content["example"]
        name = schema["$ref"].rpartition("/")[2]
        body = f"<h4>{say(t('Request body'))}: {_type(schema)}</h4>{_model(schemas[name])}"
    answers = "".join(
        f"<tr><td><b>{status}</b></td><td>{words(each['description'])}</td><td>{_response_type(each)}</td></tr>"
        for status, each in it["responses"].items()
    )
    return (
        f'<section id="{it["operationId"]}">'
        f'<h2><b class="{method.lower()}">{method}</b> <code>{escape(path)}</code></h2>'
        f"<p><b>{words(it['summary'])}.</b> {words(it['description'])}</p>{need}"
        f"<pre>{escape(curl(method, path, sent))}</pre>{table}{body}"
        f"<h4>{say(t('Responses'))}</h4><table>{answers}</table>{_answer(it['responses']['200'])}</section>"
    )


def _answer(response: dict[str, Any]) -> str:
    """An example of the answer, as a client gets it."""
    example = next(iter(response["content"].values()))["example"]
    text = example if isinstance(example, str) else json.dumps(example, ensure_ascii=False, indent=2)
    return f"<details><summary>{say(t('Example response'))}</summary><pre>{escape(text)}</pre></details>"


def _response_type(response: dict[str, Any]) -> str:
    return "".join(f"{escape(kind)}: {_type(it['schema'])}" for kind, it in response.get("content", {}).items())


def _model(schema: dict[str, Any]) -> str:
    said = f"<p>{words(schema['description'])}</p>" if "description" in schema else ""
    if "enum" in schema:
        return said + f"<p>{_type(schema)}</p>"
    needed, must = set(schema.get("required", ())), f" <i>{say(t('required'))}</i>"
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
            return say(t(" or ")).join(_type(each) for each in schema[either])
    if "enum" in schema or "const" in schema:
        return " | ".join(escape(str(each)) for each in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return say(t("list of {kind}", kind=_type(schema.get("items", {}))))
    bounds = [say(t(bound, n=schema[key])) for key, bound in _BOUNDS.items() if key in schema]
    return escape(" ".join([str(schema.get("format") or schema.get("type", "anything")), *bounds]))


_BOUNDS: Final = {
    "minimum": N_("from {n}"), "maximum": N_("to {n}"), "minLength": N_("at least {n}"), "maxLength": N_("at most {n}"),
    "pattern": N_("like {n}"),
    "maxItems": N_("at most {n}"), "minItems": N_("at least {n}"), "default": N_("default {n}"),
}  # fmt: skip
