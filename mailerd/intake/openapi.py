"""`GET /openapi.json`: OpenAPI 3.1, made from the models of requests and answers and from the list of operations."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from mailerd import __version__
from mailerd.clock import ULID_PATTERN
from mailerd.intake.auth import HEADER
from mailerd.intake.response_models import ErrorOut, NotReadyOut
from mailerd.intake.routes import OPERATIONS, Operation

_REF: Final = "#/components/schemas/{model}"
_WITH_KEY: Final = (401, 403, 429, 503)
_MEANINGS: Final = {
    400: "the body was cut off",
    401: "no key, or one that is unknown or revoked",
    403: "the key may not do this, or not for this sender",
    404: "there is no such job",
    408: "the body did not come in time",
    409: "it conflicts with what is there",
    413: "too large",
    415: "the body is compressed",
    422: "something in the request is wrong; everything is named",
    429: "too fast; Retry-After says when to come again",
    503: "the database is away or mailerd is busy; nothing was changed, Retry-After says when to try again",
}


def document() -> dict[str, Any]:
    """The whole document."""
    models = sorted(set(_models()), key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mailerd",
            "version": __version__,
            "description": "Posts jobs of letters, and says at any moment what became of every single one.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
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


def _operation(it: Operation) -> dict[str, Any]:
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
        "summary": it.summary,
        "description": it.description,
        "parameters": parameters,
        "responses": _responses(it),
        "security": [{"key": []}] if it.call else [],
    }
    if it.call:
        made["x-call"] = it.call.value
    if it.body:
        content = {"application/json": {"schema": _ref(it.body)}}
        made["requestBody"] = {"required": it.body_required, "content": content}
    return made


def _responses(it: Operation) -> dict[str, Any]:
    schemas = [_ref(each) for each in it.answers]
    schema = schemas[0] if len(schemas) == 1 else {"oneOf": schemas} if schemas else {"type": "string"}
    found: dict[str, Any] = {"200": {"description": it.summary, "content": {it.kind: {"schema": schema}}}}
    if it.stream:
        found["200"]["content"]["text/event-stream"] = {"schema": _ref(it.stream)}
    if it.id == "streamJobEvents":
        found["204"] = {"description": "the job is finished, and the client has seen its last event"}
    if it.id == "getReadiness":
        found["503"] = {"description": "not ready", "content": {it.kind: {"schema": _ref(NotReadyOut)}}}
    for status in sorted({*it.errors, *(_WITH_KEY if it.call else ())}):
        found[str(status)] = {
            "description": _MEANINGS.get(status, HTTPStatus(status).phrase),
            "content": {"application/json": {"schema": _ref(ErrorOut)}},
        }
    return found


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
