"""The OpenAPI document (3.1), made from the models of requests and answers."""

import json
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from mailerd import __version__
from mailerd.clock import ULID_PATTERN
from mailerd.core.i18n import Text, joined, t, verbatim
from mailerd.http.auth import BEARER, HEADER
from mailerd.http.responses import CODES, ErrorOut
from mailerd.intake.response_models import NotReadyOut
from mailerd.intake.routes import OPERATIONS, Operation

# What the OpenAPI document says of fields that explain themselves nowhere else, and the examples of
# their values.

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
    "database_moved_at": "when another database server became writable; absent: never",
    "database_server": "the writable database server; absent: there is only one",
    "data": "the job as in `GET /api/jobs/{id}`, without its forecast",
    "description": "the template's own description",
    "detail": "a note; null: none",
    "dry_run": "always true",
    "due_at": "when the next attempt is due",
    "email": "the address as given; the domain of a valid one is in lower case and ASCII",
    "error": "why it is not sent (yet); null: no error",
    "events": "the events, oldest first",
    "finished_at": "when it finished; null: not finished",
    "forecast": "when its messages will be sent; empty: no forecast",
    "html": "the HTML",
    "id": "the ID for `mailerd explain` and `mailerd settle`",
    "index": "its position in the request, from 0",
    "job": "the job after the request",
    "job_id": "the job's ID",
    "jobs": "the jobs, newest first",
    "language": "its main language; null: not set",
    "largest": "bytes of the largest message",
    "message_bytes": "the sizes of the messages",
    "list": "the mailing list",
    "lists": "the mailing lists, by name",
    "message": "the error for people: what, why and what to do",
    "metadata": "as posted; empty: none",
    "message_id": "Google's ID of the message; null if not sent",
    "name": "the name",
    "next_cursor": "`cursor` of the next page; null: this is the last page",
    "pictures": "images in its HTML",
    "priority": "higher is sent first among the jobs of one sender",
    "reason": "the reason",
    "recipients": "one message to each, in the order of the request",
    "reference": "the client's own ID; null: none",
    "rejected": "invalid recipients, each with its reason",
    "rejected_total": "the number of invalid recipients",
    "removed": "it was removed",
    "samples": "the first three messages, as their recipients would read them",
    "send_at": "not sent before this time",
    "sender_email": "the sending mailbox or one of its aliases",
    "sent_at": "when Google accepted it; null: not sent",
    "smallest": "bytes of the smallest message",
    "source": "its source",
    "started_at": "when its first message was started; null: not started",
    "status": "the status",
    "subject": "the subject",
    "suppressed": "suppressed recipients, each with its reason",
    "suppressed_copies": "the first 1,000 addresses that are left out of `cc` and `bcc`",
    "suppressed_total": "the number of suppressed recipients",
    "suppressions": "the suppressions",
    "tags": "as posted, in alphabetical order",
    "template": "the named template",
    "templates": "usable templates",
    "text": "the plain text",
    "timestamp": "when it happened",
    "title": "the title that people read; null: they read the name",
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
    "http": 200,
    "job_id": "01M87579BANMVD7VSZZ1762YXX",
    "language": "en",
    "languages": ["zh"],
    "list": "news",
    "message": "1 problem in the request; nothing was stored",
    "message_id": "1a20e539ce600004",
    "missing": [],
    "metadata": {"customer": "c_81"},
    "name": "welcome",
    "pause_cause": None,
    "next_cursor": None,
    "per_minute": 54.0,
    "pictures": ["logo.png"],
    "progress": 0.5,
    "proof": "answered",
    "reason": "manual",
    "reference": "order 17",
    "sender_email": "me@example.com",
    "subject": "Welcome, Ada",
    "suppressed": [],
    "suppressed_copies": [],
    "suppressed_total": 0,
    "tags": ["welcome"],
    "text": "Dear Ada",
    "title": "News of the shop",
    "total": 2,
    "type": "template",
    "uid": "evt_01M87579BANMVD7VSZZ1762YXX",
    "variables": {"product": "tea"},
    "version": "3f6c1b2a9d40e85c",
}
"""An example of the value of a field, by its name."""

DOCS: Final = "http://127.0.0.1:5000/docs"
"""The address of the guides, which must be a whole one: each answer says its own server's."""

TAGS: Final = {
    "jobs": "Post jobs, control them and read their results.",
    "messages": "One message.",
    "search": "Jobs and people.",
    "stats": "Numbers of a period.",
    "recipients": "One person's messages in all jobs.",
    "events": "What happened, in order and without gaps.",
    "templates": "The named templates.",
    "senders": "Mailboxes: their state, pauses and limits.",
    "key": "The API key of the request.",
    "suppressions": "Addresses that get no messages.",
    "lists": "A mailing list.",
    "webhooks": "Endpoints that events are posted to.",
    "health": "For monitoring; no key is needed.",
}
"""The groups of operations, by the first word of their paths behind `/api`."""


# Schemas as generators of clients take them, and examples made of them.

PREFIX: Final = "#/components/schemas/"
_BY_TYPE: Final[dict[str, Any]] = {
    "integer": 1,
    "number": 1.0,
    "boolean": True,
    "string": "text",
    "null": None,
}
_BY_FORMAT: Final = {
    "date-time": "2026-12-01T09:00:00Z",
    "byte": "JVBERi0xLjcK",
    "idn-email": "ada@example.com",
}


def for_generators(schemas: Mapping[str, Any]) -> dict[str, Any]:
    """The schemas, with a description for each property and no defaults.

    A generator for TypeScript makes a field with a default one that must be given, so the default
    is said in words.
    """
    made = {}
    for name, schema in schemas.items():
        properties = {
            field: _property(field, each) for field, each in schema.get("properties", {}).items()
        }
        made[name] = {**schema, "properties": properties} if properties else schema
    code = made["FailureOut"]["properties"]["code"]
    code["x-codes"] = sorted(CODES)  # no enum: a client must not break at a code that is new
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
    """A value that fits a schema: the one that it gives itself, else one by its name, else one by
    its type.
    """
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
        return {
            field: example_of(each, schemas, name=field)
            for field, each in schema["properties"].items()
        }
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
    yield from (
        schemas[names["$ref"].removeprefix(PREFIX)].get("enum", ()) if "$ref" in names else ()
    )


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
    400: "cut_off",
    401: "unauthorized",
    403: "call_not_allowed",
    404: "not_found",
    408: "timeout",
    409: "conflict",
    410: "events_deleted",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    429: "too_fast",
    503: "database_away",
}
"""The code that an example of each status has."""
_OWN_EXAMPLES: Final = {
    ("createJob", 409): "idempotency_conflict",
    ("saveTemplate", 409): "in_folder",
    ("deleteTemplate", 409): "in_folder",
    ("publishTemplate", 409): "version_moved",
    ("listEvents", 409): "unknown_position",
    ("streamEvents", 409): "unknown_position",
}
"""The code where an operation has another one of that status."""
_CSV: Final = {
    "schema": {"type": "string"},
    "example": "index,id,email,status\r\n0,17,ada@example.com,sent\r\n",
}
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
    415: "the body is compressed, or its `Content-Type` is not JSON",
    422: "the request has errors; the response names all of them",
    429: "too fast; retry after `Retry-After` seconds",
    503: "the database is unavailable or mailerd is busy; nothing was changed; retry after `Retry-After` seconds",
}


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
        ("WWW-Authenticate", "how to show a key (RFC 6750)", {"type": "string"}),
        (
            "RateLimit-Policy",
            'the requests per minute of a key that has a limit, as `"default";q=600;w=60` '
            "(draft-ietf-httpapi-ratelimit-headers-10)",
            {"type": "string"},
        ),
        (
            "RateLimit",
            'what is left of them, as `"default";r=599;t=1`: `r` requests now, and all again after `t` seconds; with '
            "`r=0` the next one after `t` seconds",
            {"type": "string"},
        ),
    )
}


def document() -> dict[str, Any]:
    """The whole document."""
    models = sorted(set(_models()), key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    known = for_generators(schemas["$defs"])
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, known
        )
    tags = list(dict.fromkeys(_tag(operation) for operation in OPERATIONS))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mailerd",
            "version": __version__,
            "description": "Accepts jobs of messages, sends them and reports the result of every message.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "externalDocs": {
            "url": DOCS,
            "description": "The guides and the reference of this version.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": TAGS.get(tag, tag)} for tag in tags],
        "paths": paths,
        "components": {
            "schemas": known,
            "headers": _HEADERS,
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": HEADER},
                "bearer": {"type": "http", "scheme": BEARER},
            },
        },
    }


def _models() -> Iterable[type[BaseModel]]:
    yield from (ErrorOut, NotReadyOut)
    for operation in OPERATIONS:
        yield from operation.answers
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
            **({"style": "form", "explode": False} if each.schema["type"] == "array" else {}),
            # An empty one is as good as absent.
            **({"allowEmptyValue": True} if each.where == "query" and not each.required else {}),
        }
        for each in it.params
    ]
    if "{id}" in it.path:
        schema: dict[str, Any] = {"type": "string", "pattern": ULID_PATTERN}
        if _tag(it) == "recipients":
            schema = {"type": "integer", "format": "int64", "minimum": 1}
        parameters.insert(0, {"name": "id", "in": "path", "required": True, "schema": schema})
    made: dict[str, Any] = {
        "operationId": it.id,
        "tags": [_tag(it)],
        "summary": it.summary,
        "description": it.description,
        "parameters": parameters,
        "responses": _responses(it, schemas),
        "security": [{"key": []}, {"bearer": []}] if it.needs_key else [],
    }
    if it.call:
        made["x-call"] = it.call.value
    if it.body:
        content = {"application/json": _content(it.body, schemas)}
        made["requestBody"] = {"required": it.body_required, "content": content}
    return made


def _responses(it: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    headers = {"X-Request-Id": _header("X-Request-Id")}
    if it.needs_key:
        headers |= {name: _header(name) for name in ("RateLimit-Policy", "RateLimit")}
    content = {it.kind: _CSV if it.kind == "text/csv" else _content(it.answers[0], schemas)}
    # one event, or what a client has that reads the stream to its end
    if it.kind == "text/event-stream":
        content[it.kind]["schema"] = {"anyOf": [content[it.kind]["schema"], {"type": "string"}]}
    found: dict[str, Any] = {
        "200": {"description": it.summary, "headers": {**headers}, "content": content}
    }
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
    for status in sorted(
        {*it.errors, *(_WITH_KEY if it.needs_key else ())} - ({403} if it.any_key else set())
    ):
        of_answer = (
            headers
            if status != HTTPStatus.UNAUTHORIZED
            else {"X-Request-Id": headers["X-Request-Id"]}
        )
        more = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}.get(status)
        found[str(status)] = {
            "description": _MEANINGS.get(status, HTTPStatus(status).phrase),
            "headers": of_answer | ({more: _header(more)} if more else {}),
            "content": {
                "application/json": {"schema": _ref(ErrorOut), "example": _error(it, status)}
            },
        }
    return found


def _error(it: Operation, status: int) -> dict[str, Any]:
    code = _OWN_EXAMPLES.get((it.id, status), _ERROR_EXAMPLES[status])
    details = [_wrong_field(it)] if code == "invalid_request" else []
    return {"error": {"code": code, "message": CODES[code], "details": details}}


def _wrong_field(it: Operation) -> dict[str, str]:
    """What a 422 of an operation may name."""
    fields = it.body.model_fields if it.body else {}
    if "recipients" in fields:
        return {"field": "recipients[3].email", "message": "is required"}
    for name, field in fields.items():
        if field.is_required():
            return {"field": name, "message": "is required"}
    for each in it.params:
        if each.where == "query":
            return {"field": each.name, "message": "is given twice"}
    return {"field": "verbose", "message": "unknown parameter"}


def _content(model: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    return {"schema": _ref(model), "example": example_of(schemas[model.__name__], schemas)}


def _header(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def templates() -> Iterator[str]:
    """The templates of all that the document and the codes say: what tools/messages.py puts into
    the catalogues.
    """
    yield from (verbatim(each).msgid for each in CODES.values())
    yield from _templates(document())


def _templates(node: Any) -> Iterator[str]:
    match node:
        case dict():
            for key, value in node.items():
                is_said = (
                    key in {"summary", "description"}
                    if isinstance(value, str)
                    else key not in {"example", "examples"}
                )
                if is_said:
                    yield from _templates(value)
        case list():
            for each in node:
                if not isinstance(each, str):
                    yield from _templates(each)
        case Text():
            yield from (
                each.msgid
                for each in (*node.parts, *node.fields.values())
                if getattr(each, "msgid", "")
            )
        case str():
            yield from filter(None, [verbatim(node).msgid])
        case _:
            pass
