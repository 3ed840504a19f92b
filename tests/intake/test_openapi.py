"""/openapi.json as generators of clients and checkers read it; `make generators` runs three of them."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from pydantic import TypeAdapter

import mailerd.http
import mailerd.intake
from mailerd.core.webhooks import ONLY_IF_ASKED
from mailerd.http.responses import CODES, ErrorOut
from mailerd.intake import response_models
from mailerd.intake.openapi import document
from mailerd.intake.routes import OPERATIONS, Operation
from tests.intake.site import Site, job

METHODS = {"get", "post", "delete", "put", "patch"}


@cache
def known() -> dict[str, Any]:
    return document()


def operation(it: Operation) -> dict[str, Any]:
    found: dict[str, Any] = known()["paths"][it.path][it.method.lower()]
    return found


each = pytest.mark.parametrize("it", OPERATIONS, ids=[it.id for it in OPERATIONS])


def test_the_document_is_valid() -> None:
    schemathesis.openapi.from_dict(known()).validate()


def test_every_property_has_a_description_and_none_a_default() -> None:
    """Generators for TypeScript make a field with a default one that must be given."""
    schemas = known()["components"]["schemas"]
    fields = {
        f"{name}.{field}": it for name, model in schemas.items() for field, it in model.get("properties", {}).items()
    }
    assert len(fields) > 100
    assert [name for name, it in fields.items() if not it.get("description")] == [], "mailerd/intake/openapi.py"
    assert [name for name, it in fields.items() if "default" in it] == []


@each
def test_every_operation_has_a_verb_a_tag_and_examples(it: Operation) -> None:
    found = operation(it)
    assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", found["operationId"])
    assert found["tags"][0] in {tag["name"] for tag in known()["tags"]}
    assert found["summary"]
    assert "oneOf" not in str(found)
    bodies = [
        *found["responses"]["200"]["content"].values(),
        found.get("requestBody", {}).get("content", {}).get("application/json"),
    ]
    assert [body for body in bodies if body is not None and "example" not in body] == []


@each
def test_the_examples_fit_their_models(it: Operation) -> None:
    found = operation(it)
    if it.body:
        TypeAdapter(it.body).validate_python(found["requestBody"]["content"]["application/json"]["example"])
    if it.kind == "application/json":
        example = found["responses"]["200"]["content"]["application/json"]["example"]
        TypeAdapter(it.answers[0]).validate_python(example)


def test_a_webhook_that_names_no_types_is_said_to_receive_what_the_store_gives_it() -> None:
    schemas = known()["components"]["schemas"]
    said = {name: it["properties"]["types"]["description"] for name, it in schemas.items() if name.startswith("Webhook")
            and "types" in it["properties"]}  # fmt: skip
    assert set(said) == {"WebhookRequest", "WebhookChange", "Webhook"}
    assert {it.partition("null: ")[2] for it in said.values()} == {f"all but {', '.join(ONLY_IF_ASKED)}"}


def test_an_operation_id_stands_once() -> None:
    assert len({it.id for it in OPERATIONS}) == len(OPERATIONS)


def test_every_reference_leads_somewhere() -> None:
    parts = known()["components"]
    for kind, name in re.findall(r"#/components/(\w+)/([\w-]+)", str(known())):
        assert name in parts[kind]


@each
def test_what_may_be_tried_again_says_when(it: Operation) -> None:
    for status, answer in operation(it)["responses"].items():
        assert ("Retry-After" in answer.get("headers", {})) == (status in {"429", "503"})
        assert status == "204" or "X-Request-Id" in answer["headers"]


def test_every_code_that_an_answer_may_have_is_explained() -> None:
    rooms = (Path(mailerd.http.__file__).parent, Path(mailerd.intake.__file__).parent)
    sources = "".join(path.read_text("utf-8") for room in rooms for path in room.glob("*.py"))
    given = set(re.findall(r'\b(?:[45]\d\d|error\.status),\s*"([a-z_]+)"', sources)) | set(
        re.findall(r'code="([a-z_]+)"', sources)
    )
    assert given == set(CODES)
    assert all(
        f"`{code}`" in known()["components"]["schemas"]["FailureOut"]["properties"]["code"]["description"]
        for code in CODES
    )


def test_what_may_be_null_in_an_answer_says_what_null_means_and_nothing_else_has_a_null() -> None:
    """A null that never comes makes every client check for it: a field that may be absent has no null in its schema."""
    answers = {name: model for name, model in known()["components"]["schemas"].items() if not name.endswith("In")}
    nullable = {
        f"{name}.{field}": it["description"]
        for name, model in answers.items()
        for field, it in model.get("properties", {}).items()
        if {"type": "null"} in [it, *it.get("anyOf", ())] or it.get("type") == "null"
    }
    assert len(nullable) > 20
    assert [name for name, said in nullable.items() if "null" not in said] == []
    ready = answers["ReadyOut"]["properties"]
    assert ready["database_server"]["type"] == ready["database_moved_at"]["type"] == "string"
    assert {name for name in nullable if name.endswith(".job_id")} == {"FeedEventOut.job_id"}, (
        "of an event about no job"
    )


@each
def test_each_status_of_an_error_has_an_example_of_a_code_that_comes_with_it(it: Operation) -> None:
    come = codes_by_status()
    for status, answer in operation(it)["responses"].items():
        if status[0] == "4":
            example = answer["content"]["application/json"]["example"]
            ErrorOut.model_validate(example)
            assert example["error"]["code"] in come[status], (it.id, status)
            assert bool(example["error"]["details"]) == (status == "422")


@cache
def codes_by_status() -> dict[str, set[str]]:
    """The codes that stand beside each status in the source."""
    rooms = (Path(mailerd.http.__file__).parent, Path(mailerd.intake.__file__).parent)
    found: dict[str, set[str]] = {}
    for path in (path for room in rooms for path in room.glob("*.py")):
        for status, code in re.findall(r'\b(4\d\d),\s*"([a-z_]+)"', path.read_text("utf-8")):
            found.setdefault(status, set()).add(code)
    return found


def test_the_document_names_its_licence_its_guides_and_every_code() -> None:
    assert known()["info"]["license"] == {"name": "MIT", "identifier": "MIT"}
    assert known()["externalDocs"]["url"].endswith("/docs")
    assert known()["components"]["schemas"]["FailureOut"]["properties"]["code"]["x-codes"] == sorted(CODES)
    assert "text/event-stream" not in known()["paths"]["/api/events"]["get"]["responses"]["200"]["content"]


@pytest.mark.parametrize("path, model, data", [
    ("/api/events/stream", "FeedStreamOut", "FeedEventOut"), ("/api/jobs/{id}/events", "EventOut", "JobOut"),
])  # fmt: skip
def test_a_stream_is_described_by_one_of_its_events_whose_data_is_a_text_of_json(
    path: str, model: str, data: str
) -> None:
    content = known()["paths"][path]["get"]["responses"]["200"]["content"]["text/event-stream"]
    # The whole of it is a text: openapi-python-client would take that for an event that is no object.
    assert content["schema"] == {"anyOf": [{"$ref": f"#/components/schemas/{model}"}, {"type": "string"}]}
    described = known()["components"]["schemas"][model]["properties"]["data"]
    assert described["type"] == "string"
    assert described["contentMediaType"] == "application/json"
    assert described["contentSchema"] == {"$ref": f"#/components/schemas/{data}"}
    getattr(response_models, model).model_validate(content["example"])


async def test_the_forecast_is_typed_and_its_answer_is_as_before(site: Site) -> None:
    _, posted = await site.post(job())
    assert known()["components"]["schemas"]["AcceptedOut"]["properties"]["forecast"]["$ref"].endswith("/ForecastOut")
    _, shown = await site.get(f"/api/jobs/{posted['job_id']}")
    assert set(shown["forecast"]) == set(known()["components"]["schemas"]["ForecastOut"]["properties"])


async def test_results_have_the_ids_and_positions_of_the_recipients(site: Site) -> None:
    _, posted = await site.post(job(*({"email": f"r{n}@example.com", "name": "R"} for n in range(3))))
    _, page = await site.get(f"/api/jobs/{posted['job_id']}/recipients")
    async with site.client.get(f"{site.url}/api/jobs/{posted['job_id']}/results.csv") as answer:
        head, *rows = (await answer.text()).splitlines()
    found = [dict(zip(head.split(","), row.split(","), strict=True)) for row in rows]
    assert [(it["index"], it["id"]) for it in found] == [
        (str(index), str(page["recipients"][index]["id"])) for index in range(3)
    ]
    assert [it["index"] for it in page["recipients"]] == [0, 1, 2]
