"""`GET /openapi.json`: OpenAPI 3.1, made from the models of requests and answers and from the list of operations."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from mailerd import __version__
from mailerd.clock import ULID_PATTERN
from mailerd.intake.auth import HEADER
from mailerd.intake.errors import CODES
from mailerd.intake.openapi_schemas import PREFIX, example_of, for_generators
from mailerd.intake.openapi_words import TAGS
from mailerd.intake.response_models import ErrorOut, NotReadyOut
from mailerd.intake.routes import OPERATIONS, Operation

_REF: Final = PREFIX + "{model}"
_ERROR_EXAMPLES: Final = {
    400: "cut_off", 401: "unauthorized", 403: "call_not_allowed", 404: "not_found", 408: "timeout", 409: "conflict",
    413: "too_large", 415: "unsupported_encoding", 429: "too_fast", 503: "database_away",
}  # fmt: skip
"""The code that an example of each status has; else it is `invalid_request`."""
_CSV: Final = {"schema": {"type": "string"}, "example": "index,id,email,status\r\n0,17,ada@example.com,sent\r\n"}
_WITH_KEY: Final = (401, 403, 429, 503)
_MEANINGS: Final = {
    400: "the body was cut off",
    401: "no key, or one that is unknown or revoked",
    403: "the key may not do this, or not for this sender",
    404: "there is no such thing",
    408: "the body did not come in time",
    409: "it conflicts with what is there",
    410: "what is asked for was deleted by age; the message says where to go on",
    413: "too large",
    415: "the body is compressed",
    422: "something in the request is wrong; everything is named",
    429: "too fast; Retry-After says when to come again",
    503: "the database is away or mailerd is busy; nothing was changed, Retry-After says when to try again",
}


_LATER: Final = (429, 503)
"""The statuses of answers with Retry-After."""
_HEADERS: Final = {
    name: {"description": description, "schema": schema}
    for name, description, schema in (
        ("X-Request-Id", "what the log calls this request", {"type": "string"}),
        ("Retry-After", "seconds until the call may be made again", {"type": "integer", "minimum": 1}),
        (
            "Idempotency-Replayed",
            "`true`: this is the answer to an earlier post with the same `Idempotency-Key`",
            {"type": "string", "enum": ["true"]},
        ),
        ("Content-Disposition", "the name of the file", {"type": "string"}),
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
            "description": "Posts jobs of letters, and says at any moment what became of every single one.",
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
        found["204"] = {"description": "the job is finished, and the client has seen its last event"}
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
